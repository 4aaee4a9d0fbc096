//! Certificates: whether an authority that we believe vouches for one, and what its key is.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::Context;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, TrustAnchor, UnixTime};
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::authority::{self, Authority, TnAuthList};
use super::passport::Fault;

/// Certificates in one file at most: the signer's, and those between it and its authority.
const CHAIN_LIMIT: usize = 8;
/// An uncompressed point of P-256.
const POINT_BYTES: usize = 65;

/// Whom we believe.
#[derive(Debug, Default)]
pub struct Authorities {
    anchors: Vec<TrustAnchor<'static>>,
}

/// A signer that an authority of ours vouches for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Vouched {
    /// The signer's key: an uncompressed point of P-256.
    pub key: Vec<u8>,
    /// What the certificates are for, the signer's first; those of authorities are not asked.
    lists: Vec<Option<TnAuthList>>,
}

impl Vouched {
    /// By what the signer may speak for a number, in digits without `+`.
    ///
    /// # Errors
    /// [`Fault::Authority`]: it may not.
    pub fn authority_over(&self, digits: &str) -> Result<Authority, Fault> {
        authority::over(&self.lists, digits)
    }

    /// Whether the signer may speak for any number that begins with these digits.
    #[must_use]
    pub fn covers_some(&self, prefix: &str) -> bool {
        self.lists.first().and_then(Option::as_ref).is_none_or(|list| list.covers_some(prefix))
    }
}

impl Authorities {
    /// Reads the authorities out of PEM files.
    ///
    /// # Errors
    /// A file that cannot be read, or holds no certificate.
    pub fn load(files: &[PathBuf]) -> anyhow::Result<Self> {
        let mut anchors = Vec::new();
        for path in files {
            anchors.extend(anchors_of(path).with_context(|| format!("stir.authorities {}", path.display()))?);
        }
        Ok(Self { anchors })
    }

    /// Whose key a chain's first certificate has, where an authority of ours vouches for it.
    ///
    /// # Errors
    /// [`Fault::Certificate`].
    pub fn vouch(&self, chain: &[CertificateDer<'static>], now: SystemTime) -> Result<Vouched, Fault> {
        let bad = |why: &dyn std::fmt::Display| Fault::Certificate(why.to_string());
        let (first, between) = chain.split_first().ok_or_else(|| bad(&"there is none"))?;
        let own = EndEntityCert::try_from(first).map_err(|fault| bad(&fault))?;
        let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
        let algorithms = rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms.all;
        let usage = KeyUsage::client_auth();
        let time = UnixTime::since_unix_epoch(since);
        let path = own
            .verify_for_usage(algorithms, &self.anchors, between, time, usage, None, None)
            .map_err(|fault| bad(&fault))?;
        let point = point_of(&own).ok_or_else(|| bad(&"its key is not on P-256"))?;
        let mut lists = vec![TnAuthList::of(first)?];
        for certificate in path.intermediate_certificates() {
            lists.push(TnAuthList::of(&certificate.der())?);
        }
        Ok(Vouched { key: point, lists })
    }
}

fn point_of(certificate: &EndEntityCert<'_>) -> Option<Vec<u8>> {
    let info = certificate.subject_public_key_info();
    let point = info.len().checked_sub(POINT_BYTES).and_then(|from| info.get(from..))?;
    (point.first() == Some(&4)).then(|| point.to_vec())
}

/// What a certificate of our own is for, where its key is `key`.
///
/// # Errors
/// A file that cannot be read or holds no certificate, one with another key, or one that has expired.
pub fn own(path: &Path, key: &[u8]) -> anyhow::Result<Vouched> {
    let chain = read(&std::fs::read(path)?);
    let first = chain.first().context("it holds no certificate in PEM or DER")?;
    let point = point_of(&EndEntityCert::try_from(first)?).context("its key is not on P-256")?;
    anyhow::ensure!(point == key, "it belongs to another key than stir.key_file");
    let (_, parsed) = X509Certificate::from_der(first)?;
    let until = parsed.validity().not_after;
    anyhow::ensure!(parsed.validity().is_valid(), "it is not valid now, but until {until}");
    let lists = chain.iter().map(TnAuthList::of).collect::<Result<_, _>>()?;
    Ok(Vouched { key: point, lists })
}

fn anchors_of(path: &Path) -> anyhow::Result<Vec<TrustAnchor<'static>>> {
    let mut anchors = Vec::new();
    for certificate in CertificateDer::pem_file_iter(path)? {
        anchors.push(anchor_from_trusted_cert(&certificate?)?.to_owned());
    }
    anyhow::ensure!(!anchors.is_empty(), "it holds no certificate in PEM");
    Ok(anchors)
}

/// Reads a chain as it is published: PEM, the signer's certificate first, or one certificate in DER.
#[must_use]
pub fn read(published: &[u8]) -> Vec<CertificateDer<'static>> {
    let pem: Vec<_> = CertificateDer::pem_slice_iter(published).take(CHAIN_LIMIT).filter_map(Result::ok).collect();
    let is_der = published.first() == Some(&0x30);
    if pem.is_empty() && is_der { vec![CertificateDer::from(published.to_vec())] } else { pem }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};

    use super::*;

    #[test]
    fn a_certificate_is_believed_while_it_is_valid_and_of_an_authority_of_ours() {
        let folder = tempfile::tempdir().unwrap();
        let authority = |name: &str| {
            let mut params = CertificateParams::new(vec![name.to_owned()]).unwrap();
            params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
            let key = KeyPair::generate().unwrap();
            let own = params.self_signed(&key).unwrap();
            (own.pem(), Issuer::new(params, key))
        };
        let (pem, issuer) = authority("ours");
        let (_, other) = authority("other");
        let path = folder.path().join("authorities.pem");
        std::fs::write(&path, pem).unwrap();
        let authorities = Authorities::load(std::slice::from_ref(&path)).unwrap();
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["carrier".to_owned()]).unwrap();
        params.not_after = rcgen::date_time_ymd(2060, 1, 1);
        let signed = |issuer| read(params.signed_by(&key, issuer).unwrap().pem().as_bytes());
        let now = SystemTime::now();
        let point = authorities.vouch(&signed(&issuer), now).unwrap().key;
        assert_eq!(key.public_key_raw(), point);
        let der = params.signed_by(&key, &issuer).unwrap().der().to_vec();
        assert!(authorities.vouch(&read(&der), now).is_ok(), "one in DER is read as well");
        assert!(authorities.vouch(&signed(&other), now).is_err());
        let late = SystemTime::UNIX_EPOCH + Duration::from_secs(4_000_000_000);
        assert!(authorities.vouch(&signed(&issuer), late).is_err(), "it has expired then");
        assert!(authorities.vouch(&[], now).is_err() && authorities.vouch(&read(b"nonsense"), now).is_err());
        std::fs::write(&path, "nothing").unwrap();
        assert!(Authorities::load(&[path]).unwrap_err().to_string().contains("stir.authorities"));
    }
}
