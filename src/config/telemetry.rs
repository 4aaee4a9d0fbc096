//! `[telemetry]`: what is told to other systems of how calls go.

use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use super::secret::{SecretSource, resolve};
use super::{ConfigError, Secret};

/// `[telemetry]`
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TelemetryConfig {
    /// An error tracker that speaks Sentry's protocol: its DSN, `https://KEY@HOST/PROJECT`. Empty: none.
    pub sentry_dsn: Secret,
    /// A file that holds it alone.
    pub sentry_dsn_file: PathBuf,
    /// An environment variable that holds it.
    pub sentry_dsn_env: String,
    /// Traces.
    pub otlp: OtlpConfig,
}

/// `[telemetry.otlp]`: traces of calls (OpenTelemetry).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct OtlpConfig {
    /// The collector, by OTLP over HTTP: `http://127.0.0.1:4318`; `/v1/traces` is added. Empty: no traces.
    pub endpoint: String,
    /// What it wants to be sent along: `NAME=VALUE`, several with commas between.
    pub headers: Secret,
    /// A file that holds it alone.
    pub headers_file: PathBuf,
    /// An environment variable that holds it.
    pub headers_env: String,
    /// The part of the calls that is traced, 0 to 1. A call that goes on with somebody else's trace is where that is.
    pub sample: f64,
    /// What this server is called there.
    pub service: String,
}

impl Default for OtlpConfig {
    fn default() -> Self {
        Self {
            endpoint: String::new(),
            headers: Secret::default(),
            headers_file: PathBuf::new(),
            headers_env: String::new(),
            sample: 1.0,
            service: "omnivox".to_owned(),
        }
    }
}

impl TelemetryConfig {
    pub(super) fn resolve_secrets(&mut self, env: &[(String, String)]) -> Result<(), ConfigError> {
        let source =
            SecretSource { at: "telemetry", key: "sentry_dsn", file: &self.sentry_dsn_file, env: &self.sentry_dsn_env };
        resolve(&mut self.sentry_dsn, &source, env)?;
        let OtlpConfig { headers, headers_file: file, headers_env, .. } = &mut self.otlp;
        let source = SecretSource { at: "telemetry.otlp", key: "headers", file, env: headers_env };
        resolve(headers, &source, env)
    }

    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        let bad = |key: &'static str, value: String, fix: &'static str| Err(ConfigError::Value { key, value, fix });
        if !self.sentry_dsn.is_empty() && self.sentry_dsn.reveal().parse::<sentry_types::Dsn>().is_err() {
            return bad(
                "telemetry.sentry_dsn",
                "(hidden)".into(),
                "write https://KEY@HOST/PROJECT, as the tracker shows it",
            );
        }
        let otlp = &self.otlp;
        if !otlp.endpoint.is_empty() && otlp.traces_url().is_none() {
            return bad("telemetry.otlp.endpoint", otlp.endpoint.clone(), "write http://HOST:4318 or https://HOST");
        }
        if otlp.headers().is_none() {
            return bad("telemetry.otlp.headers", "(hidden)".into(), "write NAME=VALUE, several with commas between");
        }
        if !(0.0..=1.0).contains(&otlp.sample) {
            return bad("telemetry.otlp.sample", otlp.sample.to_string(), "write a number from 0 to 1");
        }
        if otlp.service.is_empty() || otlp.service.len() > 255 {
            return bad("telemetry.otlp.service", otlp.service.clone(), "write a name of 1 to 255 bytes");
        }
        Ok(())
    }
}

impl OtlpConfig {
    /// Where traces are posted.
    #[must_use]
    pub fn traces_url(&self) -> Option<reqwest::Url> {
        let url = reqwest::Url::parse(&self.endpoint).ok()?;
        if !["http", "https"].contains(&url.scheme()) || !url.has_host() {
            return None;
        }
        let base = self.endpoint.trim_end_matches('/');
        let whole = if base.ends_with("/v1/traces") { base.to_owned() } else { format!("{base}/v1/traces") };
        whole.parse().ok()
    }

    /// What is sent along; `None` where it cannot be read.
    #[must_use]
    pub fn headers(&self) -> Option<reqwest::header::HeaderMap> {
        let each = self.headers.reveal().split(',').map(str::trim).filter(|header| !header.is_empty());
        let read = |header: &str| {
            let (name, value) = header.split_once('=')?;
            let mut value = reqwest::header::HeaderValue::from_str(value.trim()).ok()?;
            value.set_sensitive(true);
            Some((reqwest::header::HeaderName::try_from(name.trim()).ok()?, value))
        };
        each.map(read).collect()
    }
}
