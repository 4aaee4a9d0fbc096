//! The PASSporT (RFC 8225) with the `shaken` extension (RFC 8588), and `div` (RFC 8946) of whoever sent the call on: read, checked, made. Pure.

use std::path::Path;
use std::time::{Duration, SystemTime};

use anyhow::Context;
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair, UnparsedPublicKey,
};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject;
use serde::{Deserialize, Serialize};
use sip::Params;
use thiserror::Error;

use super::chain::{self, Vouched};

/// A longer Identity value is not looked at.
const VALUE_LIMIT: usize = 8_192;
/// Identity headers of one call that are looked at.
pub const PASSPORTS_LIMIT: usize = 8;
/// A call may ring so long with somebody who does not answer before it is sent on.
const RINGS_FOR_S: u64 = 180;
/// What most believe a signature for (RFC 8224 section 6.2, step 4).
const USUAL_AGE_S: u64 = 60;
/// The kind of token by which a caller's carrier speaks for the caller.
const SHAKEN: &str = "shaken";
/// The kind by which whoever sends a call on does so.
const DIV: &str = "div";

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
    /// The certificate is for other numbers.
    #[error("the certificate is not for the number {0}")]
    Authority(String),
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
            Self::Certificate(_) | Self::Authority(_) => (437, "Unsupported Credential"),
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
    /// How much the signer knows of the caller: `A`, `B` or `C`; empty in a diversion.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub attest: String,
    /// Who is called.
    pub dest: Destinations,
    /// Who was called before, and sent the call on; in a diversion alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub div: Option<Number>,
    /// When it was made, in seconds since 1970.
    pub iat: u64,
    /// Who calls.
    pub orig: Number,
    /// The signer's mark for where the call entered its network; empty in a diversion.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub origid: String,
}

/// Who is called: telephone numbers.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Destinations {
    /// Digits, without `+`.
    #[serde(default)]
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
        if known.typ != "passport" || known.alg != "ES256" || ![SHAKEN, DIV].contains(&known.ppt.as_str()) {
            return Err(Fault::Unsupported("its header says so"));
        }
        if named("ppt").is_some_and(|kind| kind != known.ppt) {
            return Err(Fault::Malformed("ppt is another than the token's"));
        }
        if known.x5u != info {
            return Err(Fault::Malformed("info and x5u differ"));
        }
        let read: Claims =
            serde_json::from_slice(&decode(claims)?).map_err(|_| Fault::Malformed("its claims cannot be read"))?;
        if (known.ppt == DIV) != read.div.is_some() {
            return Err(Fault::Malformed("div stands in diversions, and only there"));
        }
        if known.ppt == SHAKEN && !["A", "B", "C"].contains(&read.attest.as_str()) {
            return Err(Fault::Malformed("attest is none of A, B and C"));
        }
        let signed = format!("{head}.{claims}");
        Ok(Self { signed, signature: decode(signature)?, claims: read, certificate_url: known.x5u })
    }

    /// What it says.
    #[must_use]
    pub fn claims(&self) -> &Claims {
        &self.claims
    }

    /// The number that its signer has to have authority over, in digits: the caller's, or whose call is sent on (RFC 8946 section 5).
    #[must_use]
    pub fn spoken_for(&self) -> String {
        digits(&self.claims.div.as_ref().unwrap_or(&self.claims.orig).tn)
    }

    fn is_for(&self, number: &str) -> bool {
        self.claims.dest.tn.iter().any(|own| digits(own) == digits(number))
    }

    fn is_from(&self, caller: &str) -> bool {
        digits(&self.claims.orig.tn) == digits(caller) && !digits(caller).is_empty()
    }

    /// Whether it was made within these seconds before or after `at_s`.
    fn is_of(&self, at_s: u64, before_s: u64, after_s: u64) -> Result<(), Fault> {
        let age =
            i64::try_from(at_s).unwrap_or(i64::MAX).saturating_sub(i64::try_from(self.claims.iat).unwrap_or(i64::MAX));
        let limit_s = if age < 0 { after_s } else { before_s };
        if age.unsigned_abs() > limit_s { Err(Fault::Stale(age)) } else { Ok(()) }
    }

    /// Whether the signature is of this key: an uncompressed point of P-256.
    ///
    /// # Errors
    /// [`Fault::Signature`].
    pub fn verify(&self, key: &[u8]) -> Result<(), Fault> {
        is_signed_by(key, &self.signed, &self.signature).then_some(()).ok_or(Fault::Signature)
    }
}

/// A call whose caller signed it, and everybody who sent it on since: each link of the chain calls whom the one behind it speaks for
/// (RFC 8946 section 5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Chain<'a> {
    /// The caller's own token first, the latest diversion last.
    pub links: Vec<&'a Passport>,
}

impl<'a> Chain<'a> {
    /// The chain from `caller` to `called` that begins with this token, the latest of it made just now.
    ///
    /// # Errors
    /// [`Fault::Stale`], [`Fault::Caller`], [`Fault::Called`].
    pub fn from(
        first: &'a Passport,
        others: &'a [Passport],
        now: SystemTime,
        max_age_s: u64,
        (caller, called): (&str, &str),
    ) -> Result<Self, Fault> {
        if !first.is_from(caller) {
            return Err(Fault::Caller(first.claims.orig.tn.clone()));
        }
        let mut links = vec![first];
        while let Some(last) = links.last().filter(|last| !last.is_for(called)) {
            let follows = |next: &&Passport| {
                let div = next.claims.div.as_ref().is_some_and(|div| last.is_for(&div.tn));
                div && next.is_from(caller) && !links.iter().any(|link| std::ptr::eq(*link, *next))
            };
            let direct = others.iter().find(|next| follows(next) && next.is_for(called));
            links.push(direct.or_else(|| others.iter().find(follows)).ok_or(Fault::Called)?);
        }
        let mut at_s = seconds(now);
        // Whoever is sent on has rung somewhere before.
        let mut before_s = max_age_s;
        for link in links.iter().rev() {
            link.is_of(at_s, before_s, max_age_s)?;
            (at_s, before_s) = (link.claims.iat, max_age_s.saturating_add(RINGS_FOR_S));
        }
        Ok(Self { links })
    }

    /// The numbers that sent the call on, the first of them first.
    pub fn diverted(&self) -> impl Iterator<Item = String> + '_ {
        self.links.iter().filter_map(|link| link.claims.div.as_ref()).map(|div| digits(&div.tn))
    }
}

fn seconds(at: SystemTime) -> u64 {
    at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs()
}

fn is_signed_by(key: &[u8], signed: &str, signature: &[u8]) -> bool {
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, key).verify(signed.as_bytes(), signature).is_ok()
}

/// The value of a parameter behind `info=<…>`.
fn after<'a>(value: &'a str, name: &str) -> Option<&'a str> {
    let (_, rest) = value.split_once('>')?;
    rest.split(';').find_map(|param| param.trim().split_once('=').filter(|(found, _)| *found == name)).map(|(_, v)| v)
}

/// A number's digits.
#[must_use]
pub fn digits(number: &str) -> String {
    number.chars().filter(char::is_ascii_digit).collect()
}

/// Signs calls.
pub struct Signer {
    key: EcdsaKeyPair,
    certificate_url: String,
    origin_id: String,
    random: SystemRandom,
    certificate: Option<Vouched>,
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
        Ok(Self { key, certificate_url, origin_id, random: SystemRandom::new(), certificate: None })
    }

    /// Keeps to the numbers that this certificate of the key is for: PEM, those between it and its authority behind it.
    ///
    /// # Errors
    /// [`chain::own`].
    pub fn with_certificate(mut self, path: &Path) -> anyhow::Result<Self> {
        let what = || format!("stir.certificate_file {}", path.display());
        self.certificate = Some(chain::own(path, self.key.public_key().as_ref()).with_context(what)?);
        Ok(self)
    }

    /// Whether the certificate is for a number, as far as that is known.
    #[must_use]
    pub fn may_sign_for(&self, number: &str) -> bool {
        self.certificate.as_ref().is_none_or(|own| own.authority_over(&digits(number)).is_ok())
    }

    /// Whether the certificate is for any number that begins so, as far as that is known.
    #[must_use]
    pub fn may_sign_for_some(&self, prefix: &str) -> bool {
        self.certificate.as_ref().is_none_or(|own| own.covers_some(&digits(prefix)))
    }

    /// The Identity value for a call between these numbers; `None` where one of them is none.
    #[must_use]
    pub fn identity(&self, now: SystemTime, attest: char, caller: &str, called: &str) -> Option<String> {
        let (orig, dest) = (digits(caller), digits(called));
        if orig.is_empty() || dest.is_empty() || !self.may_sign_for(caller) {
            return None;
        }
        self.sign(
            SHAKEN,
            &Claims {
                attest: attest.to_string(),
                dest: Destinations { tn: vec![dest] },
                div: None,
                iat: seconds(now),
                orig: Number { tn: orig },
                origid: self.origin_id.clone(),
            },
        )
    }

    /// The Identity value of a call that `by` sends on to `called`: it goes beside those that the call came with (RFC 8946 section 4).
    /// `None` where these do not lead from `caller` to `by`, or were made too long ago to be believed by anybody.
    ///
    /// That the caller's own token was fresh when the call came in does not help one that is passed on minutes later. `div` speaks for a step
    /// of the way and not for the caller, who is proven by the first token alone; whoever verifies looks at the age of that too (RFC 8224
    /// section 6.2, step 4: a minute, against replays), cannot know when we saw it, and is to refuse a stale one with 403 (section 6.2.2): the old
    /// token would make a good call fail. Nor may it be made anew: with our key it would say of somebody else's number what only their carrier
    /// knows. Such a call is signed as any that we place for a number that is not ours ([`Signer::identity`]: `B`, `C`), with the diversion in
    /// History-Info and Diversion.
    #[must_use]
    pub fn diversion(
        &self,
        now: SystemTime,
        came_with: &[String],
        caller: &str,
        by: &str,
        called: &str,
    ) -> Option<String> {
        let known: Vec<Passport> =
            came_with.iter().take(PASSPORTS_LIMIT).filter_map(|value| Passport::parse(value).ok()).collect();
        let mut firsts = known.iter().filter(|passport| passport.claims.div.is_none());
        let within_s = USUAL_AGE_S + RINGS_FOR_S;
        let leads = |first| Chain::from(first, &known, now, within_s, (caller, by)).is_ok();
        if !firsts.any(leads) || digits(called).is_empty() || !self.may_sign_for(by) {
            return None;
        }
        self.sign(
            DIV,
            &Claims {
                attest: String::new(),
                dest: Destinations { tn: vec![digits(called)] },
                div: Some(Number { tn: digits(by) }),
                iat: seconds(now),
                orig: Number { tn: digits(caller) },
                origid: String::new(),
            },
        )
    }

    fn sign(&self, kind: &str, claims: &Claims) -> Option<String> {
        let head = Head {
            alg: "ES256".to_owned(),
            ppt: kind.to_owned(),
            typ: "passport".to_owned(),
            x5u: self.certificate_url.clone(),
        };
        // Members stand in the order of their names, without white space (RFC 8225 section 9).
        let encode = |json: Result<Vec<u8>, _>| json.ok().map(|json: Vec<u8>| URL_SAFE_NO_PAD.encode(json));
        let signed = format!("{}.{}", encode(serde_json::to_vec(&head))?, encode(serde_json::to_vec(claims))?);
        let signature = self.key.sign(&self.random, signed.as_bytes()).ok()?;
        let signature = URL_SAFE_NO_PAD.encode(signature.as_ref());
        Some(format!("{signed}.{signature};info=<{}>;alg=ES256;ppt={kind}", self.certificate_url))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn signer() -> Signer {
        let random = SystemRandom::new();
        let key = EcdsaKeyPair::generate_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, &random).unwrap();
        let key = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, key.as_ref()).unwrap();
        Signer {
            key,
            certificate_url: "https://cert.example.org/p.pem".into(),
            origin_id: "here".into(),
            random,
            certificate: None,
        }
    }

    fn check(passport: &Passport, now: SystemTime, caller: &str, called: &str) -> Result<Claims, Fault> {
        Chain::from(passport, &[], now, 60, (caller, called)).map(|chain| chain.links[0].claims.clone())
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
        let claims = check(&passport, now, "+4930123", "+12155551212").unwrap();
        assert_eq!((claims.attest.as_str(), claims.origid.as_str()), ("A", "here"));
        let key = signer.key.public_key().as_ref();
        assert_eq!(passport.verify(key), Ok(()));
        assert_eq!(passport.verify(&[4; 65]), Err(Fault::Signature));
        assert!(matches!(check(&passport, now, "+4930124", "+12155551212"), Err(Fault::Caller(_))));
        assert_eq!(check(&passport, now, "+4930123", "+12155551213"), Err(Fault::Called));
        for skew in [-61_i64, 61] {
            let at = if skew < 0 { now - Duration::from_secs(61) } else { now + Duration::from_secs(61) };
            assert_eq!(check(&passport, at, "+4930123", "+12155551212"), Err(Fault::Stale(skew)));
        }
        assert!(signer.identity(now, 'A', "alice", "+12155551212").is_none(), "there is no number to sign for");
    }

    /// Conforms: RFC 8946 §4 — whoever sends a call on signs that beside what it came with; the claims are dest, div, iat and orig
    #[test]
    fn a_call_that_was_sent_on_is_believed_by_a_chain_back_to_its_caller() {
        let (signer, now) = (signer(), SystemTime::now());
        let own = signer.identity(now - Duration::from_secs(100), 'A', "+4930123", "+12155551212").unwrap();
        let came = [own.clone()];
        let first =
            signer.diversion(now - Duration::from_secs(50), &came, "+4930123", "+12155551212", "+12155551213").unwrap();
        let came = [own, first];
        let second = signer.diversion(now, &came, "+4930123", "+12155551213", "+12155551214").unwrap();
        let claims = URL_SAFE_NO_PAD.decode(second.split('.').nth(1).unwrap()).unwrap();
        let iat = seconds(now);
        let expected = format!(
            "{{\"dest\":{{\"tn\":[\"12155551214\"]}},\"div\":{{\"tn\":\"12155551213\"}},\"iat\":{iat},\"orig\":{{\"tn\":\"4930123\"}}}}"
        );
        assert_eq!(String::from_utf8(claims).unwrap(), expected);
        // In whatever order they come.
        let all: Vec<Passport> =
            [&second, &came[0], &came[1]].iter().map(|value| Passport::parse(value).unwrap()).collect();
        let chain = |links: &[usize], caller, called, at| {
            let others: Vec<Passport> = links.iter().map(|at| all[*at].clone()).collect();
            Chain::from(&all[1], &others, at, 60, (caller, called)).map(|chain| chain.diverted().collect::<Vec<_>>())
        };
        let whole = chain(&[0, 2], "+4930123", "+12155551214", now).unwrap();
        assert_eq!(whole, ["12155551212", "12155551213"]);
        assert_eq!(chain(&[0, 2], "+4930123", "+12155551213", now), Ok(vec!["12155551212".to_owned()]));
        assert_eq!(chain(&[0], "+4930123", "+12155551214", now), Err(Fault::Called), "a link is missing");
        assert_eq!(chain(&[0, 2], "+4930123", "+12155551215", now), Err(Fault::Called));
        assert!(matches!(chain(&[0, 2], "+4930124", "+12155551214", now), Err(Fault::Caller(_))));
        let late = now + Duration::from_secs(61);
        assert_eq!(chain(&[0, 2], "+4930123", "+12155551214", late), Err(Fault::Stale(61)));
        assert_eq!(all[0].spoken_for(), "12155551213");
        assert_eq!(all[1].spoken_for(), "4930123");
        // Nothing is signed where what came does not lead here, or is too old.
        let sent_on = |at, came: &[String], caller, by| signer.diversion(at, came, caller, by, "+12155551214");
        assert!(sent_on(now, &came, "+4930123", "+12155551299").is_none());
        assert!(sent_on(now, &came, "+4930124", "+12155551213").is_none());
        assert!(sent_on(now, &[], "+4930123", "+12155551213").is_none());
        assert!(sent_on(now + Duration::from_secs(241), &came, "+4930123", "+12155551213").is_none());
    }

    /// Conforms: RFC 8224 §6.2.2 — each fault has its refusal.
    #[test]
    fn what_cannot_be_read_is_refused_with_what_is_wrong() {
        let value = signer().identity(SystemTime::now(), 'B', "+4930123", "+12155551212").unwrap();
        for (from, to) in [
            (";info=<https", ";info=<http"),
            (";info=<https://cert.example.org/p.pem>", ""),
            ("ppt=shaken", "ppt=div"),
            ("ppt=shaken", "ppt=rph"),
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
        assert_eq!(Fault::Authority(String::new()).refusal().0, 437);
        assert_eq!(Fault::Fetch { url: String::new(), why: String::new() }.refusal().0, 436);
    }
}
