//! Certificates: whether an authority that we believe vouches for one, and what its key is.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use anyhow::Context;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, TrustAnchor, UnixTime};
use webpki::{EndEntityCert, KeyUsage, anchor_from_trusted_cert};

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

    /// The key of a chain's first certificate, where an authority of ours vouches for it: an uncompressed point of P-256.
    ///
    /// # Errors
    /// [`Fault::Certificate`].
    pub fn key_of(&self, chain: &[CertificateDer<'static>], now: SystemTime) -> Result<Vec<u8>, Fault> {
        let bad = |why: &dyn std::fmt::Display| Fault::Certificate(why.to_string());
        let (own, between) = chain.split_first().ok_or_else(|| bad(&"there is none"))?;
        let own = EndEntityCert::try_from(own).map_err(|fault| bad(&fault))?;
        let since = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO);
        let algorithms = rustls::crypto::aws_lc_rs::default_provider().signature_verification_algorithms.all;
        let usage = KeyUsage::client_auth();
        let time = UnixTime::since_unix_epoch(since);
        own.verify_for_usage(algorithms, &self.anchors, between, time, usage, None, None)
            .map_err(|fault| bad(&fault))?;
        let info = own.subject_public_key_info();
        let point = info.len().checked_sub(POINT_BYTES).and_then(|from| info.get(from..));
        let point = point.filter(|point| point.first() == Some(&4)).ok_or_else(|| bad(&"its key is not on P-256"))?;
        Ok(point.to_vec())
    }
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
        let point = authorities.key_of(&signed(&issuer), now).unwrap();
        assert_eq!(key.public_key_raw(), point);
        let der = params.signed_by(&key, &issuer).unwrap().der().to_vec();
        assert!(authorities.key_of(&read(&der), now).is_ok(), "one in DER is read as well");
        assert!(authorities.key_of(&signed(&other), now).is_err());
        let late = SystemTime::UNIX_EPOCH + Duration::from_secs(4_000_000_000);
        assert!(authorities.key_of(&signed(&issuer), late).is_err(), "it has expired then");
        assert!(authorities.key_of(&[], now).is_err() && authorities.key_of(&read(b"nonsense"), now).is_err());
        std::fs::write(&path, "nothing").unwrap();
        assert!(Authorities::load(&[path]).unwrap_err().to_string().contains("stir.authorities"));
    }
}
