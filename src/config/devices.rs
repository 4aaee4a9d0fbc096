//! `[registrar]` and `[[devices]]`: phones that register here, and who they are.

use std::path::PathBuf;
use std::time::Duration;

use serde::{Deserialize, Serialize};
use sip::auth::Algorithm;
use utoipa::ToSchema;

use super::secret::{SecretSource, resolve};
use super::{Checks, ConfigError, Ha1, Network, Secret, SrtpPolicy};

/// `[registrar]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RegistrarConfig {
    /// The realm of challenges: part of every ha1.
    pub realm: String,
    /// What passwords are asked for with, best first: MD5, SHA-256, SHA-512-256 (RFC 8760). Phones of before 2020 may fail where they
    /// are offered any but MD5.
    pub algorithms: Vec<String>,
    /// Registrations for less get 423, in seconds.
    pub min_expires_s: u32,
    /// Registrations for more are shortened to this, in seconds.
    pub max_expires_s: u32,
    /// A device that names no time is registered for this long, in seconds.
    pub default_expires_s: u32,
    /// Bindings of all devices together; beyond it new ones get 503.
    pub max_bindings: usize,
    /// Phones behind NAT that register over UDP are asked by OPTIONS so often whether they are there, in seconds, which keeps the way to them
    /// open; 0: never.
    pub ping_s: u64,
    /// How long a device rings before its caller is told that nobody answers, in seconds.
    pub ring_s: u64,
}

/// One of `[[devices]]`: an account for phones.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DeviceConfig {
    /// Its name: the user part it registers and is called as, and the name it authenticates with.
    #[schema(example = "alice")]
    pub user: String,
    /// Its password. Better: `password_file` or `password_env`.
    #[schema(value_type = String, example = "walrus-pedal-quarry")]
    pub password: Secret,
    /// A file that holds the password alone.
    #[schema(value_type = String)]
    pub password_file: PathBuf,
    /// An environment variable that holds the password.
    pub password_env: String,
    /// Hashes instead of a password, `ALGORITHM:HEX` of `user:realm:password`; a device may use only the algorithms given here.
    #[schema(value_type = Vec<String>)]
    pub ha1: Vec<Ha1>,
    /// The name shown to those it calls.
    #[schema(example = "Alice Liddell")]
    pub display_name: String,
    /// Numbers it is called by besides its name: extensions as they are dialled, or in E.164.
    #[schema(example = json!(["12", "+4930123412"]))]
    pub numbers: Vec<String>,
    /// The number shown where it calls by a trunk. Empty: the first of `numbers` in E.164, else the trunk's own.
    #[schema(example = "+4930123412")]
    pub caller: String,
    /// The country whose dialling habits it has, such as DE: numbers it dials are understood so. Empty: as dialled.
    #[schema(example = "DE")]
    pub country: String,
    /// It may listen to calls of others, whisper to them and join them (`sip:listen-DEVICE@`).
    pub supervises: bool,
    /// Registered contacts at once; one more takes the place of the one refreshed longest ago.
    pub max_contacts: usize,
    /// Networks it may register and call from.
    #[schema(value_type = Vec<String>)]
    pub networks: Vec<Network>,
    /// Codecs offered to it, best first. Empty: `rtp.codecs`.
    pub codecs: Vec<String>,
    /// Whether the sound of its calls is protected (SRTP), as with `rtp.srtp`; `default`: as that says, or the listener.
    #[schema(inline)]
    pub srtp: SrtpPolicy,
}

impl Default for RegistrarConfig {
    fn default() -> Self {
        Self {
            realm: "omnivox".to_owned(),
            algorithms: vec!["MD5".to_owned()],
            min_expires_s: 60,
            max_expires_s: 3_600,
            default_expires_s: 600,
            max_bindings: 10_000,
            ping_s: 30,
            ring_s: 30,
        }
    }
}

impl Default for DeviceConfig {
    fn default() -> Self {
        Self {
            user: String::new(),
            password: Secret::default(),
            password_file: PathBuf::new(),
            password_env: String::new(),
            ha1: Vec::new(),
            display_name: String::new(),
            numbers: Vec::new(),
            caller: String::new(),
            country: String::new(),
            supervises: false,
            max_contacts: 5,
            networks: vec![Network::Any],
            codecs: Vec::new(),
            srtp: SrtpPolicy::Default,
        }
    }
}

impl RegistrarConfig {
    /// The algorithms, best first.
    #[must_use]
    pub fn digests(&self) -> Vec<Algorithm> {
        self.algorithms.iter().filter_map(|name| algorithm(name)).collect()
    }

    /// How long a device rings.
    #[must_use]
    pub fn ring_for(&self) -> Duration {
        Duration::from_secs(self.ring_s)
    }

    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        let bad = |key: &str, value: u64, fix: &str| Err(ConfigError::entry(format!("registrar.{key}"), value, fix));
        if self.realm.is_empty() || self.realm.chars().any(|c| c.is_control() || c == '"' || c == '\\') {
            return Err(ConfigError::entry(
                "registrar.realm",
                &self.realm,
                "write a name such as your domain, without quotes",
            ));
        }
        let address = format!("sip:user@{}", self.realm);
        if !sip::Uri::parse(&address).is_ok_and(|uri| uri.host() == self.realm || uri.host_ip().is_some()) {
            return Err(ConfigError::entry(
                "registrar.realm",
                &self.realm,
                "write a host name such as your domain: it stands in our phones' addresses too",
            ));
        }
        let unknown = |name: &&String| algorithm(name).is_none();
        if self.algorithms.is_empty() || self.algorithms.iter().any(|name| unknown(&name)) {
            let value = self.algorithms.iter().find(unknown).map_or("[]", String::as_str);
            return Err(ConfigError::entry(
                "registrar.algorithms",
                value,
                "write MD5, SHA-256 or SHA-512-256, at least one",
            ));
        }
        if self.min_expires_s == 0 || self.min_expires_s > self.max_expires_s {
            return bad("min_expires_s", self.min_expires_s.into(), "write seconds from 1 to registrar.max_expires_s");
        }
        if self.ping_s > u64::from(self.max_expires_s) {
            return bad("ping_s", self.ping_s, "write seconds up to registrar.max_expires_s, 20 to 60 as a rule, or 0");
        }
        if self.default_expires_s < self.min_expires_s || self.default_expires_s > self.max_expires_s {
            return bad(
                "default_expires_s",
                self.default_expires_s.into(),
                "write seconds between min_expires_s and max_expires_s",
            );
        }
        if self.max_bindings == 0 {
            return bad("max_bindings", 0, "write a number from 1");
        }
        if self.ring_s == 0 || self.ring_s > 600 {
            return bad("ring_s", self.ring_s, "write seconds from 1 to 600");
        }
        Ok(())
    }
}

impl DeviceConfig {
    /// The number shown where it calls by a trunk that has none of its own.
    #[must_use]
    pub fn shown_number(&self) -> Option<&str> {
        let e164 = || self.numbers.iter().map(String::as_str).find(|number| number.starts_with('+'));
        Some(self.caller.as_str()).filter(|caller| !caller.is_empty()).or_else(e164)
    }

    pub(super) fn resolve_secrets(&mut self, env: &[(String, String)]) -> Result<(), ConfigError> {
        let at = format!("devices.{}", self.user);
        let source = SecretSource { at: &at, key: "password", file: &self.password_file, env: &self.password_env };
        resolve(&mut self.password, &source, env)
    }

    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        let at = format!("devices.{}", self.user);
        let checks = Checks { at: &at };
        if !is_user(&self.user) {
            return Err(ConfigError::entry(
                "devices.user",
                &self.user,
                "write the device's name: letters, digits and -_.+ only, at most 64",
            ));
        }
        if self.password.is_empty() && self.ha1.is_empty() {
            return Err(ConfigError::entry(
                format!("{at}.password"),
                "(none)",
                "give it a password, or password_file, password_env or ha1",
            ));
        }
        if !self.password.is_empty() && !self.ha1.is_empty() {
            return Err(ConfigError::entry(format!("{at}.ha1"), "(hidden)", "give either a password or ha1"));
        }
        checks.display_name("display_name", &self.display_name)?;
        for number in &self.numbers {
            checks.number("numbers", number)?;
        }
        if !self.caller.is_empty() {
            checks.number("caller", &self.caller)?;
        }
        checks.country("country", &self.country)?;
        checks.codecs("codecs", &self.codecs)?;
        if self.max_contacts == 0 || self.max_contacts > 100 {
            return Err(ConfigError::entry(
                format!("{at}.max_contacts"),
                self.max_contacts,
                "write a number from 1 to 100",
            ));
        }
        if self.networks.is_empty() {
            return Err(ConfigError::entry(format!("{at}.networks"), "[]", "name at least one, or [\"any\"]"));
        }
        Ok(())
    }
}

fn algorithm(name: &str) -> Option<Algorithm> {
    Algorithm::parse(Some(name)).filter(|algorithm| !algorithm.is_session())
}

/// Whether it can be the name of a device or trunk.
pub(super) fn is_user(name: &str) -> bool {
    !name.is_empty() && name.len() <= 64 && name.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_.+".contains(&b))
}
