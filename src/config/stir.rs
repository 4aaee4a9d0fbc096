//! `[stir]`: who calls, proven by signature.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::{ConfigError, Network, Pattern};

/// `[stir]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct StirConfig {
    /// What becomes of calls by trunks whose signature does not hold: `off` looks at none, `note` takes all and tells records and phones
    /// the verdict, `refuse` refuses those whose signature is wrong, `require` also those without one.
    pub verify: StirPolicy,
    /// PEM files of the authorities that are believed.
    pub authorities: Vec<PathBuf>,
    /// A signature is believed for so long, in seconds.
    pub max_age_s: u64,
    /// Networks besides the public ones that certificates may be fetched from, there without TLS too. For tests and closed networks.
    pub fetch_from: Vec<Network>,
    /// The key that calls by trunks are signed with: PKCS #8 in PEM, on P-256. Empty signs none.
    pub key_file: PathBuf,
    /// The same certificate here, in PEM, with those between it and its authority: at the start it is made sure of that it belongs to the key and
    /// is for `own_numbers` (TNAuthList, RFC 8226), and for other numbers nothing is signed. Empty: nobody looks.
    pub certificate_file: PathBuf,
    /// Where the certificate to that key is published, with those between it and its authority.
    pub certificate_url: String,
    /// Our mark for where calls enter the network, a UUID.
    pub origin_id: String,
    /// Numbers that are ours to attest in full (`A`): `+4930123*`. Calls of our devices for other numbers are attested as `B`, calls that
    /// come from elsewhere as `C`.
    pub own_numbers: Vec<Pattern>,
}

/// What becomes of calls whose signature does not hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StirPolicy {
    /// Nobody looks.
    Off,
    /// All are taken; the verdict is told.
    Note,
    /// Those whose signature is wrong are refused.
    Refuse,
    /// Those without one too.
    Require,
}

impl Default for StirConfig {
    fn default() -> Self {
        Self {
            verify: StirPolicy::Off,
            authorities: Vec::new(),
            max_age_s: 60,
            fetch_from: Vec::new(),
            key_file: PathBuf::new(),
            certificate_file: PathBuf::new(),
            certificate_url: String::new(),
            origin_id: String::new(),
            own_numbers: Vec::new(),
        }
    }
}

impl StirConfig {
    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        let bad = |key: &'static str, value: &str, fix: &'static str| {
            Err(ConfigError::Value { key, value: value.to_owned(), fix })
        };
        if self.verify != StirPolicy::Off && self.authorities.is_empty() {
            return bad(
                "stir.authorities",
                "[]",
                "name PEM files of authorities to believe, or set stir.verify to off",
            );
        }
        if self.key_file.as_os_str().is_empty() {
            return Ok(());
        }
        if !self.certificate_url.starts_with("https://") && !self.certificate_url.starts_with("http://") {
            return bad(
                "stir.certificate_url",
                &self.certificate_url,
                "write the URL that the certificate is published at",
            );
        }
        if self.origin_id.is_empty() {
            return bad("stir.origin_id", "", "write a UUID of your own: uuidgen makes one");
        }
        Ok(())
    }
}
