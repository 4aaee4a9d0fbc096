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
        self.oidc.validate(&self.url)
    }
}
