//! `[control]`: users, records in a database, the HTTP interface to all of it.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::oidc::OidcConfig;
use super::secret::{SecretSource, resolve};
use super::{ConfigError, Network, Secret};

/// `[control]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ControlConfig {
    /// Serve `/api/v1` and keep users and records in a database.
    pub on: bool,
    /// The database: `sqlite:FILE` or `postgres://USER:PASSWORD@HOST/NAME`. Empty: SQLite in `data.dir`.
    pub database: Secret,
    /// A file that holds it alone.
    pub database_file: PathBuf,
    /// An environment variable that holds it.
    pub database_env: String,
    /// This server's name, where several share a database.
    pub node: String,
    /// Where browsers find us, `https://omnivox.example.net`. With `https:` cookies travel by TLS alone.
    pub url: String,
    /// A login that is not used for so many seconds is over.
    pub session_idle_s: i64,
    /// A login lasts so many seconds at most.
    pub session_s: i64,
    /// Networks that webhooks may go to, and without TLS, besides public addresses.
    pub webhooks_allow: Vec<Network>,
    /// Logging in by a provider.
    pub oidc: OidcConfig,
    /// The country whose numbers are written without a country code in contacts and on the do-not-call list, such as DE.
    pub country: String,
    /// How long things are kept.
    pub retention: RetentionConfig,
    /// How often somebody may ask.
    pub rates: RatesConfig,
}

/// `[control.rates]`: requests in a minute.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RatesConfig {
    /// Of one user, of what is not named below.
    pub general: u32,
    /// Logins from one address, and for one name.
    pub login: u32,
    /// What makes something, of one user.
    pub creation: u32,
    /// Lists of records, figures and reports, of one user.
    pub report: u32,
    /// All requests from one address.
    pub address: u32,
}

impl Default for RatesConfig {
    fn default() -> Self {
        let control::identity::limit::Rates { general, login, creation, report, address } = Default::default();
        Self { general, login, creation, report, address }
    }
}

impl RatesConfig {
    pub(crate) fn limits(self) -> control::identity::limit::Rates {
        let Self { general, login, creation, report, address } = self;
        control::identity::limit::Rates { general, login, creation, report, address }
    }
}

/// `[control.retention]`: days, 0 for ever.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RetentionConfig {
    /// Records of calls, with everything that belongs to them, in the database and the journal.
    pub records_days: i64,
    /// What was said in calls.
    pub transcripts_days: i64,
    /// Recordings.
    pub recordings_days: i64,
    /// What came of calls with people.
    pub interactions_days: i64,
}

impl RetentionConfig {
    pub(crate) fn kept(self) -> control::retention::Retention {
        let Self { records_days, transcripts_days, recordings_days, interactions_days } = self;
        control::retention::Retention { records_days, transcripts_days, recordings_days, interactions_days }
    }
}

impl Default for ControlConfig {
    fn default() -> Self {
        Self {
            on: true,
            database: Secret::default(),
            database_file: PathBuf::new(),
            database_env: String::new(),
            node: "omnivox".to_owned(),
            url: String::new(),
            session_idle_s: 3_600,
            session_s: 43_200,
            webhooks_allow: Vec::new(),
            oidc: OidcConfig::default(),
            country: String::new(),
            retention: RetentionConfig::default(),
            rates: RatesConfig::default(),
        }
    }
}

impl ControlConfig {
    pub(super) fn resolve_secrets(&mut self, env: &[(String, String)]) -> Result<(), ConfigError> {
        let source =
            SecretSource { at: "control", key: "database", file: &self.database_file, env: &self.database_env };
        resolve(&mut self.database, &source, env)?;
        self.oidc.resolve_secrets(env)
    }

    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        let bad = |key: &'static str, value: String, fix: &'static str| Err(ConfigError::Value { key, value, fix });
        let database = self.database.reveal();
        let kinds = ["sqlite:", "postgres://", "postgresql://"];
        if !database.is_empty() && !kinds.iter().any(|kind| database.starts_with(kind)) {
            // It may hold a password: only its kind is shown.
            let kind = database.split(':').next().unwrap_or_default().chars().take(20).collect();
            let fix = "write sqlite:FILE or postgres://USER:PASSWORD@HOST/NAME, or leave it empty";
            return bad("control.database", kind, fix);
        }
        if self.node.is_empty() || self.node.len() > 64 || self.node.chars().any(char::is_control) {
            return bad("control.node", self.node.clone(), "write a name of 1 to 64 bytes");
        }
        let is_web = |url: &str| url.starts_with("https://") || url.starts_with("http://");
        if !self.url.is_empty() && !is_web(&self.url) {
            return bad("control.url", self.url.clone(), "write https://HOST, or leave it empty");
        }
        if !(60..=2_592_000).contains(&self.session_idle_s) {
            return bad("control.session_idle_s", self.session_idle_s.to_string(), "write a number from 60 to 2592000");
        }
        if !(60..=2_592_000).contains(&self.session_s) {
            return bad("control.session_s", self.session_s.to_string(), "write a number from 60 to 2592000");
        }
        for (key, days) in [
            ("control.retention.records_days", self.retention.records_days),
            ("control.retention.transcripts_days", self.retention.transcripts_days),
            ("control.retention.recordings_days", self.retention.recordings_days),
            ("control.retention.interactions_days", self.retention.interactions_days),
        ] {
            if !(0..=36_500).contains(&days) {
                return bad(key, days.to_string(), "write a number of days from 1 to 36500, or 0 for ever");
            }
        }
        for (key, rate) in [
            ("control.rates.general", self.rates.general),
            ("control.rates.login", self.rates.login),
            ("control.rates.creation", self.rates.creation),
            ("control.rates.report", self.rates.report),
            ("control.rates.address", self.rates.address),
        ] {
            if !(1..=1_000_000).contains(&rate) {
                return bad(key, rate.to_string(), "write a number of requests in a minute from 1 to 1000000");
            }
        }
        if !self.country.is_empty() && crate::routing::numbers::country(&self.country).is_none() {
            return bad("control.country", self.country.clone(), "write a country's two letters, such as DE or US");
        }
        self.oidc.validate(&self.url)
    }
}
