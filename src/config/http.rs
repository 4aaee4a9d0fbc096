//! `[http]`: where and how the HTTP interface is reached.

use std::net::SocketAddr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use sip::io::{Identity, TlsError};

use super::{ConfigError, Network, TlsConfig};

/// More connections than this are no sensible limit.
const CONNECTIONS_LIMIT: usize = 100_000;
/// Two years, which browsers take as the most that is sensible.
const HSTS_S_LIMIT: u64 = 63_072_000;

/// `[http]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct HttpConfig {
    /// Where HTTP is served without TLS.
    pub listen: SocketAddr,
    /// What is served there.
    pub plain: PlainHttp,
    /// Where HTTP is served by TLS: `ADDRESS:PORT`. Empty: nowhere.
    pub tls_listen: String,
    /// A PEM file of the certificate that is shown there, with those between it and its authority's. Empty: those of `[tls]`.
    pub certificate: PathBuf,
    /// A PEM file of its key. Empty: it is in the same file.
    pub key: PathBuf,
    /// Browsers that came by TLS come by nothing else for so long, in seconds (RFC 6797); 0: they are not told so.
    pub hsts_s: u64,
    /// Connections held at once, those of both listeners together. One address may have half of them.
    pub max_connections: usize,
    /// Proxies before us, whose word on where a request comes from is believed (`X-Forwarded-For`, `X-Forwarded-Proto`).
    pub trusted_proxies: Vec<Network>,
}

/// What is served without TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum PlainHttp {
    /// Everything.
    Serve,
    /// Health, readiness, metrics, and traces to this machine; who asks for a page is sent to `https:`, the interface refuses.
    Redirect,
    /// Nothing: nobody listens there.
    Off,
}

impl Default for HttpConfig {
    fn default() -> Self {
        Self {
            listen: SocketAddr::from(([127, 0, 0, 1], 8080)),
            plain: PlainHttp::Serve,
            tls_listen: String::new(),
            certificate: PathBuf::new(),
            key: PathBuf::new(),
            hsts_s: 31_536_000,
            max_connections: 2_000,
            trusted_proxies: Vec::new(),
        }
    }
}

impl HttpConfig {
    /// Where HTTP is served by TLS.
    #[must_use]
    pub fn tls_addr(&self) -> Option<SocketAddr> {
        self.tls_listen.parse().ok()
    }

    /// What TLS is told there: browsers are asked for no certificate of theirs.
    #[must_use]
    pub fn for_tls(&self, tls: &TlsConfig) -> sip::io::TlsConfig {
        let identities = if self.certificate.as_os_str().is_empty() {
            tls.for_sip().identities
        } else {
            let key = if self.key.as_os_str().is_empty() { &self.certificate } else { &self.key };
            vec![Identity { chain: self.certificate.clone(), key: key.clone() }]
        };
        sip::io::TlsConfig { identities, ..sip::io::TlsConfig::default() }
    }

    /// The key that named the file of a fault of these certificates.
    #[must_use]
    pub fn key_of(&self, tls: &TlsConfig, fault: &TlsError) -> &'static str {
        match fault {
            TlsError::File { path, .. } if *path == self.certificate => "http.certificate",
            TlsError::File { path, .. } if *path == self.key => "http.key",
            fault => tls.key_of(fault),
        }
    }

    /// Whether requests of this kind may come by a proxy or a listener that has TLS.
    fn has_tls(&self, url: &str) -> bool {
        self.tls_addr().is_some() || (!self.trusted_proxies.is_empty() && url.starts_with("https:"))
    }

    pub(super) fn validate(&self, tls: &TlsConfig, url: &str) -> Result<(), ConfigError> {
        let bad = |key: &'static str, value: String, fix: &'static str| Err(ConfigError::Value { key, value, fix });
        let none = |path: &PathBuf| path.as_os_str().is_empty();
        if !self.tls_listen.is_empty() && self.tls_addr().is_none() {
            return bad("http.tls_listen", self.tls_listen.clone(), "write ADDRESS:PORT, such as 0.0.0.0:8443");
        }
        if self.tls_addr().is_some() && none(&self.certificate) && tls.certificates.is_empty() {
            let fix = "set http.certificate, or tls.certificates, to a PEM file with a certificate and its key";
            return bad("http.tls_listen", self.tls_listen.clone(), fix);
        }
        if none(&self.certificate) && !none(&self.key) {
            let fix = "set http.certificate to the certificate of that key";
            return bad("http.key", self.key.display().to_string(), fix);
        }
        match self.plain {
            PlainHttp::Redirect if !self.has_tls(url) => {
                let fix = "set http.tls_listen, or http.trusted_proxies and control.url where a proxy has TLS";
                return bad("http.plain", "redirect".into(), fix);
            }
            PlainHttp::Off if self.tls_addr().is_none() => {
                return bad("http.plain", "off".into(), "set http.tls_listen, or nothing is served");
            }
            _ => {}
        }
        if self.hsts_s > HSTS_S_LIMIT {
            return bad("http.hsts_s", self.hsts_s.to_string(), "write a number of seconds up to 63072000 (two years)");
        }
        if !(2..=CONNECTIONS_LIMIT).contains(&self.max_connections) {
            let fix = "write a number from 2 to 100000";
            return bad("http.max_connections", self.max_connections.to_string(), fix);
        }
        if self.trusted_proxies.contains(&Network::Any) {
            let fix = "name the proxies' addresses: whoever is believed may say that they are anybody";
            return bad("http.trusted_proxies", "any".into(), fix);
        }
        Ok(())
    }
}
