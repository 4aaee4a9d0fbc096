//! Who calls, proven by signature (STIR/SHAKEN: RFC 8224, 8225, 8588): calls that come are verified against authorities that we
//! believe, and calls that go out for numbers of ours are signed.
//!
//! | module | does |
//! | --- | --- |
//! | [`passport`] | the token: read, checked, made; pure |
//! | [`chain`] | certificates and their authorities |
//! | [`fetch`] | certificates fetched, and kept; never from inside addresses |

pub mod chain;
pub mod fetch;
pub mod passport;

use std::sync::Arc;
use std::time::SystemTime;

use serde::{Deserialize, Serialize};
use sip::Message;
use sip::headers::Name;

use self::chain::Authorities;
use self::fetch::Fetcher;
use self::passport::{Claims, Fault, Passport, Signer};
use crate::config::{Config, StirPolicy};

/// What is known of who calls, by signature.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// How it went.
    pub verdict: Standing,
    /// How much the signing carrier knows of the caller: `A`, `B` or `C`.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub attestation: String,
    /// The carrier's mark for where the call entered its network.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub origin_id: String,
    /// What was wrong.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
}

/// How a verification went.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Standing {
    /// The number is the caller's, as far as the attestation goes.
    Passed,
    /// A signature is there and does not hold.
    Failed,
    /// Nobody has signed.
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
            false => Some(Arc::new(Signer::load(&stir.key_file, &stir.certificate_url, &stir.origin_id)?)),
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
            Ok(claims) => (
                Verdict {
                    verdict: Standing::Passed,
                    attestation: claims.attest,
                    origin_id: claims.origid,
                    reason: String::new(),
                },
                None,
            ),
            Err(fault) => {
                let verdict = if fault == Fault::Missing { Standing::Unsigned } else { Standing::Failed };
                let reason = if fault == Fault::Missing { String::new() } else { fault.to_string() };
                (Verdict { verdict, attestation: String::new(), origin_id: String::new(), reason }, Some(fault))
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

    async fn judge(&self, invite: &Message, caller: &str, called: &str) -> Result<Claims, Fault> {
        let mut fault = Fault::Missing;
        // One of another kind may stand beside it (RFC 8224 section 4.1).
        for value in invite.headers(Name::Identity) {
            match self.judge_one(value, caller, called).await {
                Ok(claims) => return Ok(claims),
                Err(why) => fault = why,
            }
        }
        Err(fault)
    }

    async fn judge_one(&self, value: &str, caller: &str, called: &str) -> Result<Claims, Fault> {
        let now = SystemTime::now();
        let passport = Passport::parse(value)?;
        // What can be told without a fetch comes first: nobody has us fetch for a call that is refused anyhow.
        let claims = passport.check(now, self.max_age_s, caller, called)?;
        let chain = self.fetcher.chain(&passport.certificate_url).await?;
        let key = self.authorities.key_of(&chain, now)?;
        passport.verify(&key)?;
        Ok(claims)
    }
}
