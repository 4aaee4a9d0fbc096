//! `[web]`: calls of web pages without SIP (WHIP), and the page at `/call`.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::secret::{SecretSource, resolve};
use super::{ConfigError, Secret};

/// `[web]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct WebConfig {
    /// Take calls by WHIP (`POST /api/v1/whip`), and serve the page at `/call`.
    pub calls: bool,
    /// Whom pages may call; the first is called where a page does not say. `*`: whomever those may call that nobody knows.
    pub numbers: Vec<String>,
    /// What a page has to send (`Authorization: Bearer`). Empty: nothing.
    pub token: Secret,
    /// A file that holds it alone.
    pub token_file: PathBuf,
    /// An environment variable that holds it.
    pub token_env: String,
}

impl Default for WebConfig {
    fn default() -> Self {
        Self {
            calls: true,
            numbers: vec!["agent".to_owned()],
            token: Secret::default(),
            token_file: PathBuf::new(),
            token_env: String::new(),
        }
    }
}

impl WebConfig {
    pub(super) fn resolve_secrets(&mut self, env: &[(String, String)]) -> Result<(), ConfigError> {
        let source = SecretSource { at: "web", key: "token", file: &self.token_file, env: &self.token_env };
        resolve(&mut self.token, &source, env)
    }

    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        if self.calls && self.numbers.is_empty() {
            let fix = "name whom pages may call, such as [\"agent\"], or set web.calls=false";
            return Err(ConfigError::Value { key: "web.numbers", value: "[]".into(), fix });
        }
        Ok(())
    }
}
