//! `[guard]`: what strangers may ask of us, and for how long they are not answered who ask for too much.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use sip::guard::{GuardLimits, Rate};

use super::{ConfigError, Network};

/// `[guard]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct GuardConfig {
    /// Networks that none of this holds back, besides those of `[[trunks]]`.
    pub trusted: Vec<Network>,
    /// Requests outside of calls a second from one source; more are not answered.
    pub requests_per_second: u32,
    /// New calls a second from one source; more get 503 with Retry-After.
    pub calls_per_second: u32,
    /// New calls a second from all sources; more get 503 with Retry-After.
    pub all_calls_per_second: u32,
    /// Wrong passwords and unknown numbers within a minute from one source; with one more it is not answered any more.
    pub failures: u32,
    /// How long, in seconds.
    pub silence_s: u64,
    /// Do not answer those who name themselves as known scanners.
    pub drop_scanners: bool,
}

impl Default for GuardConfig {
    fn default() -> Self {
        Self {
            trusted: vec![Network::Loopback],
            requests_per_second: 100,
            calls_per_second: 50,
            all_calls_per_second: 2_000,
            failures: 20,
            silence_s: 300,
            drop_scanners: true,
        }
    }
}

impl GuardConfig {
    /// The limits as signalling knows them. After a pause four times as many are let in at once.
    #[must_use]
    pub fn limits(&self) -> GuardLimits {
        let rate = |per_second: u32| Rate { per_second: per_second as f32, burst: per_second as f32 * 4.0 };
        GuardLimits {
            requests: rate(self.requests_per_second),
            invites: rate(self.calls_per_second),
            all_invites: rate(self.all_calls_per_second),
            failures: self.failures,
            silence: Duration::from_secs(self.silence_s),
            drop_scanners: self.drop_scanners,
            ..GuardLimits::default()
        }
    }

    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        let numbers = [
            ("guard.requests_per_second", self.requests_per_second),
            ("guard.calls_per_second", self.calls_per_second),
            ("guard.all_calls_per_second", self.all_calls_per_second),
            ("guard.failures", self.failures),
        ];
        match numbers.into_iter().find(|(_, number)| *number == 0) {
            Some((key, _)) => Err(ConfigError::Value { key, value: "0".into(), fix: "write a number from 1" }),
            None => Ok(()),
        }
    }
}
