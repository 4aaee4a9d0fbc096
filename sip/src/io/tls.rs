//! TLS (RFC 3261 section 26.2.1, RFC 5922): our certificates, chosen by the name that the client asks for and loaded anew when
//! their files change, and whom we believe.

use std::fmt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use rustls::client::ResolvesClientCert;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls::server::{ClientHello, ResolvesServerCert, WebPkiClientVerifier};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, RootCertStore, ServerConfig, SignatureScheme};
use thiserror::Error;

/// How often files are looked at for a change.
pub const RELOAD_EVERY: Duration = Duration::from_secs(5);

/// A certificate of ours.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    /// PEM: the certificate, and those between it and its authority's.
    pub chain: PathBuf,
    /// PEM: its key; may be the same file.
    pub key: PathBuf,
}

/// What TLS is told.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TlsConfig {
    /// Our certificates. A client that names a server gets the one for that name; others get the first. As a client we show
    /// the first to servers that ask.
    pub identities: Vec<Identity>,
    /// PEM: the authorities whose clients are believed. None: clients are not asked for a certificate.
    pub client_ca: Option<PathBuf>,
    /// Clients without a certificate are refused.
    pub require_client: bool,
    /// PEM: authorities to believe besides the operating system's, of servers that we connect to.
    pub ca: Option<PathBuf>,
}

impl TlsConfig {
    /// Reads every file that it names.
    ///
    /// # Errors
    /// The first that cannot be used, and why.
    pub fn check(&self) -> Result<(), TlsError> {
        Tls::load(self, !self.identities.is_empty()).map(drop)
    }

    /// What we are as a client of TLS: for connections that are not of SIP.
    ///
    /// # Errors
    /// As with [`check`](Self::check).
    pub fn client(&self) -> Result<Arc<ClientConfig>, TlsError> {
        Tls::load(self, false).map(|tls| tls.client)
    }

    /// What we are as a server of another protocol than SIP, with these certificates: `protocols` are what it is called in ALPN (RFC 7301).
    ///
    /// # Errors
    /// As with [`check`](Self::check); there is no certificate.
    pub fn server(&self, protocols: &[&str]) -> Result<ServerTls, TlsError> {
        let tls = Tls::load(self, true)?;
        let mut config = tls.server.as_deref().ok_or(TlsError::NoCertificate)?.clone();
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        Ok(ServerTls { config: Arc::new(config), certificates: tls.certificates })
    }
}

/// TLS for a server that is not of SIP.
#[derive(Debug, Clone)]
pub struct ServerTls {
    /// For each new connection.
    pub config: Arc<ServerConfig>,
    certificates: Arc<Certificates>,
}

impl ServerTls {
    /// Reads the certificates that changed; to be called every [`RELOAD_EVERY`]. Where one cannot be read, the old one stays in use.
    pub fn reload(&self) {
        self.certificates.reload();
    }
}

/// Why TLS cannot be had.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum TlsError {
    /// A file cannot be read, or is not what it should be.
    #[error("{}: {reason}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// What is wrong.
        reason: String,
    },
    /// There is no certificate.
    #[error("there is no certificate: set tls.certificates to a PEM file with a certificate and its key")]
    NoCertificate,
    /// The settings do not go together.
    #[error("{0}")]
    Settings(String),
}

/// TLS, ready for connections.
#[derive(Debug, Clone)]
pub(super) struct Tls {
    pub(super) server: Option<Arc<ServerConfig>>,
    pub(super) client: Arc<ClientConfig>,
    pub(super) certificates: Arc<Certificates>,
}

impl Tls {
    /// Reads everything. `listens`: a listener needs a certificate.
    pub(super) fn load(config: &TlsConfig, listens: bool) -> Result<Self, TlsError> {
        if listens && config.identities.is_empty() {
            return Err(TlsError::NoCertificate);
        }
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let certificates = Arc::new(Certificates::load(&config.identities, Arc::clone(&provider))?);
        let settings = |fault: rustls::Error| TlsError::Settings(fault.to_string());
        let server = match listens {
            true => {
                let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
                    .with_safe_default_protocol_versions()
                    .map_err(settings)?;
                let builder = match &config.client_ca {
                    None => builder.with_no_client_auth(),
                    Some(path) => {
                        let roots = Arc::new(authorities(path)?);
                        let verifier = WebPkiClientVerifier::builder_with_provider(roots, Arc::clone(&provider));
                        let verifier = match config.require_client {
                            true => verifier,
                            false => verifier.allow_unauthenticated(),
                        };
                        let verifier = verifier.build().map_err(|fault| TlsError::Settings(fault.to_string()))?;
                        builder.with_client_cert_verifier(verifier)
                    }
                };
                Some(Arc::new(builder.with_cert_resolver(Arc::clone(&certificates) as _)))
            }
            false => None,
        };
        let mut roots = match &config.ca {
            Some(path) => authorities(path)?,
            None => RootCertStore::empty(),
        };
        roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
        let client = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .map_err(settings)?
            .with_root_certificates(roots)
            .with_client_cert_resolver(Arc::clone(&certificates) as _);
        Ok(Self { server, client: Arc::new(client), certificates })
    }
}

/// The names that a peer's certificate proves: DNS names, and the hosts of SIP URIs (RFC 5922 section 7.1).
pub(super) fn names(certificate: &CertificateDer<'_>) -> Vec<String> {
    let Ok(certificate) = webpki::EndEntityCert::try_from(certificate) else { return Vec::new() };
    let hosts = certificate.valid_uri_names().filter_map(|uri| uri.strip_prefix("sip:"));
    certificate.valid_dns_names().chain(hosts).map(str::to_ascii_lowercase).collect()
}

/// The name to check a server's certificate against.
#[must_use]
pub fn server_name(name: &str) -> Option<ServerName<'static>> {
    ServerName::try_from(name.trim_start_matches('[').trim_end_matches(']').to_owned()).ok()
}

/// Our certificates as they are now.
pub(super) struct Certificates {
    provider: Arc<CryptoProvider>,
    loaded: Mutex<Vec<Loaded>>,
}

struct Loaded {
    identity: Identity,
    changed: Option<Stamp>,
    key: Arc<CertifiedKey>,
}

/// When both files were written.
type Stamp = (SystemTime, SystemTime);

impl Certificates {
    fn load(identities: &[Identity], provider: Arc<CryptoProvider>) -> Result<Self, TlsError> {
        let load = |identity: &Identity| {
            let changed = stamp(identity);
            Ok(Loaded { identity: identity.clone(), changed, key: certified(identity, &provider)? })
        };
        let loaded = identities.iter().map(load).collect::<Result<_, TlsError>>()?;
        Ok(Self { provider, loaded: Mutex::new(loaded) })
    }

    /// Reads the files that changed. What cannot be read leaves the old certificate in use.
    pub(super) fn reload(&self) {
        let mut loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        for one in loaded.iter_mut() {
            let changed = stamp(&one.identity);
            if changed == one.changed {
                continue;
            }
            one.changed = changed;
            let path = one.identity.chain.display();
            match certified(&one.identity, &self.provider) {
                Ok(key) => {
                    one.key = key;
                    tracing::info!("the certificate in {path} has changed: new connections get it");
                }
                Err(fault) => tracing::error!("the certificate in {path} has changed and the old one stays: {fault}"),
            }
        }
    }

    fn first(&self) -> Option<Arc<CertifiedKey>> {
        let loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        loaded.first().map(|one| Arc::clone(&one.key))
    }

    fn named(&self, name: &str) -> Option<Arc<CertifiedKey>> {
        let name = server_name(name)?;
        let loaded = self.loaded.lock().unwrap_or_else(PoisonError::into_inner);
        let is_for = |key: &CertifiedKey| {
            let own = key.cert.first().and_then(|own| webpki::EndEntityCert::try_from(own).ok());
            own.is_some_and(|own| own.verify_is_valid_for_subject_name(&name).is_ok())
        };
        loaded.iter().find(|one| is_for(&one.key)).map(|one| Arc::clone(&one.key))
    }
}

impl fmt::Debug for Certificates {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Certificates")
    }
}

impl ResolvesServerCert for Certificates {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        hello.server_name().and_then(|name| self.named(name)).or_else(|| self.first())
    }
}

impl ResolvesClientCert for Certificates {
    fn resolve(&self, _hints: &[&[u8]], schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        self.first().filter(|key| key.key.choose_scheme(schemes).is_some())
    }

    fn has_certs(&self) -> bool {
        self.first().is_some()
    }
}

fn stamp(identity: &Identity) -> Option<Stamp> {
    let written = |path: &Path| std::fs::metadata(path).and_then(|file| file.modified()).ok();
    Some((written(&identity.chain)?, written(&identity.key)?))
}

fn certified(identity: &Identity, provider: &CryptoProvider) -> Result<Arc<CertifiedKey>, TlsError> {
    let fault = |path: &Path, reason: String| TlsError::File { path: path.to_owned(), reason };
    let chain = chain(&identity.chain)?;
    let key = PrivateKeyDer::from_pem_file(&identity.key)
        .map_err(|error| fault(&identity.key, format!("it holds no private key in PEM ({error})")))?;
    let key = CertifiedKey::from_der(chain, key, provider)
        .map_err(|error| fault(&identity.chain, format!("the certificate and the key do not fit ({error})")))?;
    Ok(Arc::new(key))
}

fn chain(path: &Path) -> Result<Vec<CertificateDer<'static>>, TlsError> {
    let fault = |reason: String| TlsError::File { path: path.to_owned(), reason };
    let read = CertificateDer::pem_file_iter(path).and_then(Iterator::collect::<Result<Vec<_>, _>>);
    let chain = read.map_err(|error| fault(format!("it holds no certificate in PEM ({error})")))?;
    if chain.is_empty() {
        return Err(fault("it holds no certificate in PEM".into()));
    }
    Ok(chain)
}

fn authorities(path: &Path) -> Result<RootCertStore, TlsError> {
    let mut roots = RootCertStore::empty();
    for certificate in chain(path)? {
        roots
            .add(certificate)
            .map_err(|error| TlsError::File { path: path.to_owned(), reason: format!("no authority: {error}") })?;
    }
    Ok(roots)
}
