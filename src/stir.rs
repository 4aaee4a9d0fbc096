//! Who calls, proven by signature (STIR/SHAKEN: RFC 8224, 8225, 8588): calls that come are verified against authorities that we
//! believe, and calls that go out for numbers of ours are signed.
//!
//! | module | does |
//! | --- | --- |
//! | [`passport`] | the token: read, checked, made; pure |
//! | [`chain`] | certificates and their authorities |
//! | [`authority`] | the numbers that they are for |
//! | [`fetch`] | certificates fetched, and kept; never from inside addresses |

pub mod authority;
pub mod chain;
pub mod fetch;
pub mod passport;

use std::sync::Arc;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use sip::Message;
use sip::headers::Name;

use self::authority::Authority;
use self::chain::Authorities;
use self::fetch::Fetcher;
use self::passport::{Chain, Fault, PASSPORTS_LIMIT, Passport, Signer};
use crate::config::{Config, StirConfig, StirPolicy};

/// What is known of who calls, by signature.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Verdict {
    /// How it went.
    pub verdict: Standing,
    /// How much the signing carrier knows of the caller: `A`, `B` or `C`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub attestation: String,
    /// The carrier's mark for where the call entered its network.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub origin_id: String,
    /// By what the signer's certificate may speak for the caller's number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub authority: Option<Authority>,
    /// The numbers that are proven to have sent the call on, the first of them first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub diverted: Vec<String>,
    /// What was wrong.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

/// How a verification went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// The number is the caller's, as far as the attestation goes.
    Passed,
    /// A signature is there and does not hold.
    Failed,
    /// Nobody has signed.
    #[default]
    Unsigned,
}

impl Standing {
    /// As it stands beside a number (3GPP TS 24.229 section 7.2A.20).
    #[must_use]
    pub fn verstat(self) -> &'static str {
        match self {
            Self::Passed => "TN-Validation-Passed",
            Self::Failed => "TN-Validation-Failed",
            Self::Unsigned => "No-TN-Validation",
        }
    }
}

/// A verdict, and the refusal that RFC 8224 section 6.2.2 has for it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// The verdict.
    pub verdict: Verdict,
    /// Status and phrase.
    pub refusal: Option<(u16, &'static str)>,
}

/// Verifies and signs.
#[derive(Debug)]
pub struct Stir {
    policy: StirPolicy,
    max_age_s: u64,
    authorities: Authorities,
    fetcher: Fetcher,
    signer: Option<Arc<Signer>>,
}

impl Stir {
    /// As the configuration says; `None` where it says nothing.
    ///
    /// # Errors
    /// A file that cannot be read, or does not hold what it should: which key names it, and what is wrong.
    pub fn open(config: &Config) -> anyhow::Result<Option<Self>> {
        let stir = &config.stir;
        if stir.verify == StirPolicy::Off && stir.key_file.as_os_str().is_empty() {
            return Ok(None);
        }
        let authorities = Authorities::load(&stir.authorities)?;
        let signer = match stir.key_file.as_os_str().is_empty() {
            true => None,
            false => Some(Arc::new(signer_of(stir)?)),
        };
        let fetcher = Fetcher::new(&stir.fetch_from)?;
        Ok(Some(Self { policy: stir.verify, max_age_s: stir.max_age_s, authorities, fetcher, signer }))
    }

    /// What calls of ours are signed with.
    #[must_use]
    pub fn signer(&self) -> Option<Arc<Signer>> {
        self.signer.clone()
    }

    /// Whether calls that come are verified.
    #[must_use]
    pub fn verifies(&self) -> bool {
        self.policy != StirPolicy::Off
    }

    /// Verifies an INVITE of this caller for this number, both in E.164.
    pub async fn verify(&self, invite: &Message, caller: &str, called: &str) -> Verified {
        let verdict = self.judge(invite, caller, called).await;
        let (verdict, fault) = match verdict {
            Ok(verdict) => (verdict, None),
            Err(Fault::Missing) => (Verdict::default(), Some(Fault::Missing)),
            Err(fault) => {
                let verdict = Verdict { verdict: Standing::Failed, reason: fault.to_string(), ..Verdict::default() };
                (verdict, Some(fault))
            }
        };
        metrics::counter!("omnivox_stir_verdicts_total", "verdict" => verdict.verdict.verstat()).increment(1);
        let is_refused = match self.policy {
            StirPolicy::Off | StirPolicy::Note => false,
            StirPolicy::Refuse => verdict.verdict == Standing::Failed,
            StirPolicy::Require => verdict.verdict != Standing::Passed,
        };
        let refusal = fault.filter(|_| is_refused).map(|fault| fault.refusal());
        Verified { verdict, refusal }
    }

    async fn judge(&self, invite: &Message, caller: &str, called: &str) -> Result<Verdict, Fault> {
        let mut fault = Fault::Missing;
        let mut passports = Vec::new();
        // One of another kind may stand beside it (RFC 8224 section 4.1), and those of everybody who sent the call on.
        for value in invite.headers(Name::Identity).take(PASSPORTS_LIMIT) {
            match Passport::parse(value) {
                Ok(passport) => passports.push(passport),
                Err(why) => fault = why,
            }
        }
        if !passports.is_empty() {
            fault = Fault::Unsupported("the caller's own signature is missing");
        }
        let now = SystemTime::now();
        for first in passports.iter().filter(|passport| passport.claims().div.is_none()) {
            // What can be told without a fetch comes first: nobody has us fetch for a call that is refused anyhow.
            let chain = Chain::from(first, &passports, now, self.max_age_s, (caller, called));
            let judged = match chain {
                Ok(chain) => self.believe(&chain, now).await,
                Err(why) => Err(why),
            };
            match judged {
                Ok(verdict) => return Ok(verdict),
                Err(why) => fault = why,
            }
        }
        Err(fault)
    }

    /// Whether each link of a chain was signed by somebody who may speak for the number.
    async fn believe(&self, chain: &Chain<'_>, now: SystemTime) -> Result<Verdict, Fault> {
        let mut verdict = Verdict { verdict: Standing::Passed, ..Verdict::default() };
        for link in &chain.links {
            let published = self.fetcher.chain(&link.certificate_url).await?;
            let signer = self.authorities.vouch(&published, now)?;
            link.verify(&signer.key)?;
            let authority = signer.authority_over(&link.spoken_for())?;
            let claims = link.claims();
            if claims.div.is_none() {
                (verdict.attestation, verdict.origin_id) = (claims.attest.clone(), claims.origid.clone());
                verdict.authority = Some(authority);
            }
        }
        verdict.diverted = chain.diverted().collect();
        Ok(verdict)
    }
}

/// What calls are signed with: the certificate, where it is named, has to be for the numbers that are said to be ours.
fn signer_of(stir: &StirConfig) -> anyhow::Result<Signer> {
    let signer = Signer::load(&stir.key_file, &stir.certificate_url, &stir.origin_id)?;
    if stir.certificate_file.as_os_str().is_empty() {
        return Ok(signer);
    }
    let signer = signer.with_certificate(&stir.certificate_file)?;
    for own in &stir.own_numbers {
        let is_for = match own.beginning() {
            Some((number, true)) => signer.may_sign_for(number),
            Some((prefix, false)) => signer.may_sign_for_some(prefix),
            None => true,
        };
        anyhow::ensure!(
            is_for,
            "stir.own_numbers names {own}, which the certificate in stir.certificate_file is not for. Take it out, or have a certificate for it"
        );
    }
    Ok(signer)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use rcgen::{CertificateParams, CustomExtension, KeyPair};

    use super::*;

    /// Conforms: RFC 9060 §5 — what we sign with has to be for the numbers that we sign for
    #[test]
    fn a_certificate_of_ours_has_to_fit_the_key_and_the_numbers_that_are_ours() {
        let folder = tempfile::tempdir().unwrap();
        let path = |name: &str| folder.path().join(name);
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(vec!["us".to_owned()]).unwrap();
        // One range: +12155551200 and the 100 from there on.
        let start = [&[0x16, 11][..], b"12155551200"].concat();
        let range = [&[0xa1, 18, 0x30, 16][..], &start, &[2, 1, 100]].concat();
        let list = [&[0x30, range.len() as u8][..], &range].concat();
        params.custom_extensions = vec![CustomExtension::from_oid_content(&[1, 3, 6, 1, 5, 5, 7, 1, 26], list)];
        std::fs::write(path("key.pem"), key.serialize_pem()).unwrap();
        std::fs::write(path("own.pem"), params.self_signed(&key).unwrap().pem()).unwrap();
        std::fs::write(path("other.pem"), params.self_signed(&KeyPair::generate().unwrap()).unwrap().pem()).unwrap();
        params.not_after = rcgen::date_time_ymd(2020, 1, 1);
        params.not_before = rcgen::date_time_ymd(2019, 1, 1);
        std::fs::write(path("old.pem"), params.self_signed(&key).unwrap().pem()).unwrap();
        let opened = |certificate: &str, own_numbers: &[&str]| {
            let stir = StirConfig {
                key_file: path("key.pem"),
                certificate_file: path(certificate),
                certificate_url: "https://cert.example.org/own.pem".into(),
                origin_id: "x".into(),
                own_numbers: own_numbers.iter().map(|text| text.parse().unwrap()).collect(),
                ..StirConfig::default()
            };
            let config = Config { stir, ..Config::default() };
            Stir::open(&config).map(|stir| stir.unwrap().signer().unwrap()).map_err(|fault| format!("{fault:#}"))
        };
        let signer = opened("own.pem", &["+12155551299", "+121555512*", "+1215*", "/.*/"]).unwrap();
        let now = SystemTime::now();
        assert!(signer.identity(now, 'A', "+12155551299", "+4930123").is_some());
        assert!(signer.identity(now, 'B', "+12155551300", "+4930123").is_none(), "nobody would believe it");
        for own in ["+12155551300", "+121555513*", "+4930*"] {
            assert!(opened("own.pem", &[own]).unwrap_err().contains(&format!("own_numbers names {own}")));
        }
        assert!(opened("other.pem", &[]).unwrap_err().contains("another key"));
        assert!(opened("old.pem", &[]).unwrap_err().contains("not valid now"));
        assert!(opened("none.pem", &[]).unwrap_err().contains("stir.certificate_file"));
    }
}
