//! `[tls]`: certificates of ours, and whose we believe.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};
use sip::endpoint::Transport;
use sip::io::{Identity, TlsError};

use super::{ConfigError, SipListen};

/// `[tls]`
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TlsConfig {
    /// PEM files, each a certificate with those between it and its authority's. A client that names a server gets the
    /// certificate for that name, others the first. Files that change are read again.
    pub certificates: Vec<PathBuf>,
    /// PEM files of their keys, one for each certificate in the same order. Empty: each key is in its certificate's file.
    pub keys: Vec<PathBuf>,
    /// A PEM file of authorities whose clients are believed (mutual TLS). Empty: clients are asked for no certificate.
    pub client_ca: PathBuf,
    /// Refuse clients without such a certificate.
    pub require_client: bool,
    /// A PEM file of authorities to believe besides the operating system's, of servers that we call.
    pub ca: PathBuf,
}

impl TlsConfig {
    /// What signalling is told.
    #[must_use]
    pub fn for_sip(&self) -> sip::io::TlsConfig {
        let key = |at: usize, chain: &PathBuf| self.keys.get(at).unwrap_or(chain).clone();
        let set = |path: &PathBuf| Some(path.clone()).filter(|path| !path.as_os_str().is_empty());
        sip::io::TlsConfig {
            identities: self
                .certificates
                .iter()
                .enumerate()
                .map(|(at, chain)| Identity { chain: chain.clone(), key: key(at, chain) })
                .collect(),
            client_ca: set(&self.client_ca),
            require_client: self.require_client,
            ca: set(&self.ca),
        }
    }

    /// The key that named the file of a fault.
    #[must_use]
    pub fn key_of(&self, fault: &TlsError) -> &'static str {
        match fault {
            TlsError::File { path, .. } if self.certificates.contains(path) => "tls.certificates",
            TlsError::File { path, .. } if self.keys.contains(path) => "tls.keys",
            TlsError::File { path, .. } if *path == self.client_ca => "tls.client_ca",
            TlsError::File { path, .. } if *path == self.ca => "tls.ca",
            _ => "tls.certificates, tls.keys, tls.client_ca or tls.ca",
        }
    }

    pub(super) fn validate(&self, listen: &[SipListen]) -> Result<(), ConfigError> {
        let bad = |key: &'static str, value: String, fix: &'static str| Err(ConfigError::Value { key, value, fix });
        if !self.keys.is_empty() && self.keys.len() != self.certificates.len() {
            let value = format!("{} files", self.keys.len());
            return bad(
                "tls.keys",
                value,
                "name one for each of tls.certificates, or none where the keys are in the same files",
            );
        }
        if self.require_client && self.client_ca.as_os_str().is_empty() {
            return bad(
                "tls.require_client",
                "true".into(),
                "set tls.client_ca to the authorities whose clients are believed",
            );
        }
        let needs = listen.iter().find(|listen| matches!(listen.transport, Transport::Tls | Transport::Wss));
        if let Some(listen) = needs.filter(|_| self.certificates.is_empty()) {
            let fix = "set tls.certificates to a PEM file with a certificate and its key, or listen by tcp or ws";
            return bad("sip.listen", listen.to_string(), fix);
        }
        Ok(())
    }
}
