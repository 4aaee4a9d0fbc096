//! The PASSporT (RFC 8225) with the `shaken` extension (RFC 8588): read, checked, made. Pure.

use std::path::Path;
use std::time::{Duration, SystemTime};

use anyhow::Context;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, UnparsedPublicKey};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject;
use serde::{Deserialize, Serialize};
use sip::Params;
use thiserror::Error;

/// A longer Identity value is not looked at.
const VALUE_LIMIT: usize = 8_192;

/// Why a call's signature does not hold.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum Fault {
    /// Nobody has signed.
    #[error("the call is not signed")]
    Missing,
    /// The header or its token cannot be read.
    #[error("the Identity header cannot be read: {0}")]
    Malformed(&'static str),
    /// The token is of another kind.
    #[error("the Identity header is of a kind that is not supported: {0}")]
    Unsupported(&'static str),
    /// The token was made too long ago, or is from the future.
    #[error("the signature was made {0} s ago")]
    Stale(i64),
    /// It is another caller's.
    #[error("the signature is for a call from {0}")]
    Caller(String),
    /// It is a call to somebody else.
    #[error("the signature is for a call to somebody else")]
    Called,
    /// The certificate could not be had.
    #[error("the certificate at {url} could not be fetched: {why}")]
    Fetch {
        /// Where it should be.
        url: String,
        /// Why.
        why: String,
    },
    /// Nobody whom we believe vouches for the certificate.
    #[error("the certificate is not to be believed: {0}")]
    Certificate(String),
    /// The signature is wrong.
    #[error("the signature is wrong")]
    Signature,
}

impl Fault {
    /// The refusal for it (RFC 8224 section 6.2.2).
    #[must_use]
    pub fn refusal(&self) -> (u16, &'static str) {
        match self {
            Self::Missing => (428, "Use Identity Header"),
            Self::Stale(_) => (403, "Stale Date"),
            Self::Fetch { .. } => (436, "Bad Identity Info"),
            Self::Certificate(_) => (437, "Unsupported Credential"),
            _ => (438, "Invalid Identity Header"),
        }
    }
}

#[derive(Serialize, Deserialize)]
struct Head {
    alg: String,
    ppt: String,
    typ: String,
    x5u: String,
}

/// What a token says.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Claims {
    /// How much the signer knows of the caller: `A`, `B` or `C`.
    pub attest: String,
    /// Who is called.
    pub dest: Destinations,
    /// When it was made, in seconds since 1970.
    pub iat: u64,
    /// Who calls.
    pub orig: Number,
    /// The signer's mark for where the call entered its network.
    pub origid: String,
}

/// Who is called: telephone numbers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Destinations {
    /// Digits, without `+`.
    pub tn: Vec<String>,
}

/// A telephone number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Number {
    /// Digits, without `+`.
    pub tn: String,
}

/// A token that was read and not believed yet.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Passport {
    signed: String,
    signature: Vec<u8>,
    claims: Claims,
    /// Where the signer's certificate is.
    pub certificate_url: String,
}

impl Passport {
    /// Reads an Identity header's value.
    ///
    /// # Errors
    /// [`Fault::Malformed`] and [`Fault::Unsupported`].
    pub fn parse(value: &str) -> Result<Self, Fault> {
        if value.len() > VALUE_LIMIT {
            return Err(Fault::Malformed("it is too long"));
        }
        let end = value.find(';').ok_or(Fault::Malformed("it has no parameters"))?;
        let (token, params) = value.split_at(end);
        let params = Params::new(params);
        // A URI in angle brackets is no parameter value by the grammar of others: `info` is looked for by itself.
        let info = value.split_once("info=<").and_then(|(_, rest)| rest.split_once('>')).map(|(url, _)| url);
        let info = info.ok_or(Fault::Malformed("info is missing"))?;
        let named = |name: &str| after(value, name).or_else(|| params.get(name)).map(|text| text.trim_matches('"'));
        if named("ppt").is_some_and(|kind| kind != "shaken") {
            return Err(Fault::Unsupported("ppt is not shaken"));
        }
        if named("alg").is_some_and(|alg| alg != "ES256") {
            return Err(Fault::Unsupported("alg is not ES256"));
        }
        let mut parts = token.trim().split('.');
        let (Some(head), Some(claims), Some(signature), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(Fault::Malformed("it is no full token"));
        };
        let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| Fault::Malformed("it is not base64url"));
        let known: Head =
            serde_json::from_slice(&decode(head)?).map_err(|_| Fault::Malformed("its header cannot be read"))?;
        if known.typ != "passport" || known.alg != "ES256" || known.ppt != "shaken" {
            return Err(Fault::Unsupported("its header says so"));
        }
        if known.x5u != info {
            return Err(Fault::Malformed("info and x5u differ"));
        }
        let read: Claims =
            serde_json::from_slice(&decode(claims)?).map_err(|_| Fault::Malformed("its claims cannot be read"))?;
        if !["A", "B", "C"].contains(&read.attest.as_str()) {
            return Err(Fault::Malformed("attest is none of A, B and C"));
        }
        let signed = format!("{head}.{claims}");
        Ok(Self { signed, signature: decode(signature)?, claims: read, certificate_url: known.x5u })
    }

    /// Whether the token is for this call, made just now; what it says.
    ///
    /// # Errors
    /// [`Fault::Stale`], [`Fault::Caller`], [`Fault::Called`].
    pub fn check(&self, now: SystemTime, max_age_s: u64, caller: &str, called: &str) -> Result<Claims, Fault> {
        let age = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs() as i64
            - i64::try_from(self.claims.iat).unwrap_or(i64::MAX);
        if age.unsigned_abs() > max_age_s {
            return Err(Fault::Stale(age));
        }
        if digits(&self.claims.orig.tn) != digits(caller) || digits(caller).is_empty() {
            return Err(Fault::Caller(self.claims.orig.tn.clone()));
        }
        if !self.claims.dest.tn.iter().any(|number| digits(number) == digits(called)) {
            return Err(Fault::Called);
        }
        Ok(self.claims.clone())
    }

    /// Whether the signature is of this key: an uncompressed point of P-256.
    ///
    /// # Errors
    /// [`Fault::Signature`].
    pub fn verify(&self, key: &[u8]) -> Result<(), Fault> {
        is_signed_by(key, &self.signed, &self.signature).then_some(()).ok_or(Fault::Signature)
    }
}

fn is_signed_by(key: &[u8], signed: &str, signature: &[u8]) -> bool {
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, key).verify(signed.as_bytes(), signature).is_ok()
}

/// The value of a parameter behind `info=<…>`.
fn after<'a>(value: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = value.split_once('>')?;
    rest.split(';').find_map(|param| param.trim().split_once('=').filter(|(found, _)| *found == name)).map(|(_, v)| v)
}

fn digits(number: &str) -> String {
    number.chars().filter(char::is_ascii_digit).collect()
}

/// Signs calls.
pub struct Signer {
    key: EcdsaKeyPair,
    certificate_url: String,
    origin_id: String,
    random: SystemRandom,
}

impl std::fmt::Debug for Signer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Signer").field("certificate_url", &self.certificate_url).finish_non_exhaustive()
    }
}

impl Signer {
    /// Reads the key: PKCS #8 in PEM, on P-256.
    ///
    /// # Errors
    /// The file cannot be read, or holds no such key.
    pub fn load(path: &Path, certificate_url: &str, origin_id: &str) -> anyhow::Result<Self> {
        let what = || format!("stir.key_file {}", path.display());
        let key = PrivatePkcs8KeyDer::from_pem_file(path)
            .map_err(|fault| anyhow::anyhow!("it holds no PKCS #8 private key in PEM: {fault}"))
            .with_context(what)?;
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, key.secret_pkcs8_der())
            .map_err(|fault| anyhow::anyhow!("it is no PKCS #8 key on P-256: {fault}"))
            .with_context(what)?;
        let (certificate_url, origin_id) = (certificate_url.to_owned(), origin_id.to_owned());
        Ok(Self { key, certificate_url, origin_id, random: SystemRandom::new() })
    }

    /// The Identity value for a call between these numbers; `None` where one of them is none.
    #[must_use]
    pub fn identity(&self, now: SystemTime, attest: char, caller: &str, called: &str) -> Option<String> {
        let iat = now.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs();
        let (orig, dest) = (digits(caller), digits(called));
        if orig.is_empty() || dest.is_empty() {
            return None;
        }
        let head = Head {
            alg: "ES256".to_owned(),
            ppt: "shaken".to_owned(),
            typ: "passport".to_owned(),
            x5u: self.certificate_url.clone(),
        };
        // Members stand in the order of their names, without white space (RFC 8225 section 9).
        let claims = Claims {
            attest: attest.to_string(),
            dest: Destinations { tn: vec![dest] },
            iat,
            orig: Number { tn: orig },
            origid: self.origin_id.clone(),
        };
        let encode = |json: Result<Vec<u8>, _>| json.ok().map(|json: Vec<u8>| URL_SAFE_NO_PAD.encode(json));
        let signed = format!("{}.{}", encode(serde_json::to_vec(&head))?, encode(serde_json::to_vec(&claims))?);
        let signature = self.key.sign(&self.random, signed.as_bytes()).ok()?;
        let signature = URL_SAFE_NO_PAD.encode(signature.as_ref());
        Some(format!("{signed}.{signature};info=<{}>;alg=ES256;ppt=shaken", self.certificate_url))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use aws_lc_rs::signature::KeyPair;

    use super::*;

    fn signer() -> Signer {
        let random = SystemRandom::new();
        let key = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, key.as_ref()).unwrap();
        Signer { key, certificate_url: "https://cert.example.org/p.pem".into(), origin_id: "here".into(), random }
    }

    /// Conforms: RFC 8225 §A.2 — a signature that others made with the RFC's example key (draft-ietf-stir-passport) holds, and for no
    /// changed token.
    #[test]
    fn a_signature_by_the_rfcs_example_key_holds() {
        let info = "MFkwEwYHKoZIzj0CAQYIKoZIzj0DAQcDQgAE8HNbQd/TmvCKwPKHkMF9fScavGeH\
            78YTU8qLS8I5HLHSSmlATLcslQMhNC/OhlWBYC626nIlo7XeebYS7Sb37g==";
        let info = base64::engine::general_purpose::STANDARD.decode(info).unwrap();
        let key = info.get(info.len() - 65..).unwrap();
        let signed = "eyJhbGciOiJFUzI1NiIsInR5cCI6InBhc3Nwb3J0IiwieDV1IjoiaHR0cHM6Ly9jZXJ0LmV4YW1wbGUub3JnL3Bhc3Nwb3J0LmNlciJ9.\
            eyJkZXN0Ijp7InVyaSI6WyJzaXA6YWxpY2VAZXhhbXBsZS5jb20iXX0sImlhdCI6IjE0NDMyMDgzNDUiLCJvcmlnIjp7InRuIjoiMTIxNTU1NTEyMTIifX0";
        let signature = URL_SAFE_NO_PAD
            .decode("rq3pjT1hoRwakEGjHCnWSwUnshd0-zJ6F1VOgFWSjHBr8Qjpjlk-cpFYpFYsojNCpTzO3QfPOlckGaS6hEck7w")
            .unwrap();
        assert!(is_signed_by(key, signed, &signature));
        assert!(!is_signed_by(key, &signed.replace("MDgz", "MDg0"), &signature));
    }

    /// Conforms: RFC 8588 §4 — a token of ours has alg, ppt, typ and x5u, attest, dest, iat, orig and origid, in that order.
    #[test]
    fn what_is_signed_here_is_believed_for_that_call_alone() {
        let (signer, now) = (signer(), SystemTime::now());
        let value = signer.identity(now, 'A', "+4930123", "+1 215 555 1212").unwrap();
        let head = URL_SAFE_NO_PAD.decode(value.split('.').next().unwrap()).unwrap();
        assert_eq!(
            String::from_utf8(head).unwrap(),
            "{\"alg\":\"ES256\",\"ppt\":\"shaken\",\"typ\":\"passport\",\"x5u\":\"https://cert.example.org/p.pem\"}"
        );
        let passport = Passport::parse(&value).unwrap();
        let claims = passport.check(now, 60, "+4930123", "+12155551212").unwrap();
        assert_eq!((claims.attest.as_str(), claims.origid.as_str()), ("A", "here"));
        let key = signer.key.public_key().as_ref();
        assert_eq!(passport.verify(key), Ok(()));
        assert_eq!(passport.verify(&[4; 65]), Err(Fault::Signature));
        assert!(matches!(passport.check(now, 60, "+4930124", "+12155551212"), Err(Fault::Caller(_))));
        assert_eq!(passport.check(now, 60, "+4930123", "+12155551213"), Err(Fault::Called));
        for skew in [-61_i64, 61] {
            let at = if skew < 0 { now - Duration::from_secs(61) } else { now + Duration::from_secs(61) };
            assert_eq!(passport.check(at, 60, "+4930123", "+12155551212"), Err(Fault::Stale(skew)));
        }
        assert!(signer.identity(now, 'A', "alice", "+12155551212").is_none(), "there is no number to sign for");
    }

    /// Conforms: RFC 8224 §6.2.2 — each fault has its refusal.
    #[test]
    fn what_cannot_be_read_is_refused_with_what_is_wrong() {
        let value = signer().identity(SystemTime::now(), 'B', "+4930123", "+12155551212").unwrap();
        for (from, to) in [
            (";info=<https", ";info=<http"),
            (";info=<https://cert.example.org/p.pem>", ""),
            ("ppt=shaken", "ppt=div"),
            ("alg=ES256", "alg=RS256"),
            (".", ""),
            ("eyJ", "???"),
        ] {
            let fault = Passport::parse(&value.replacen(from, to, 1)).unwrap_err();
            assert_eq!(fault.refusal().0, 438, "{fault}");
        }
        assert!(Passport::parse(&"x".repeat(9_000)).is_err());
        assert_eq!(Fault::Missing.refusal().0, 428);
        assert_eq!(Fault::Stale(99).refusal().0, 403);
        assert_eq!(Fault::Certificate(String::new()).refusal().0, 437);
        assert_eq!(Fault::Fetch { url: String::new(), why: String::new() }.refusal().0, 436);
    }
}
