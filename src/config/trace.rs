//! `[trace]`: the signalling of the latest calls, kept to be looked at.

use std::net::SocketAddr;

use serde::{Deserialize, Serialize};

use super::{ConfigError, Secret};

/// `[trace]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TraceConfig {
    /// Calls (SIP Call-IDs) whose messages are kept, the latest ones; 0 keeps none.
    pub calls: usize,
    /// All of it takes no more memory than this, in MiB.
    pub mb: usize,
    /// A capture server that is sent every message as it goes (HEP3 over UDP), `ADDRESS:PORT`; empty: none.
    pub hep: String,
    /// Our number there.
    pub hep_id: u32,
    /// The password there.
    pub hep_key: Secret,
}

impl Default for TraceConfig {
    fn default() -> Self {
        Self { calls: 1_000, mb: 16, hep: String::new(), hep_id: 2_001, hep_key: Secret::default() }
    }
}

impl TraceConfig {
    /// The capture server.
    #[must_use]
    pub fn hep_address(&self) -> Option<SocketAddr> {
        self.hep.parse().ok()
    }

    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        let bad = |key: &'static str, value: String, fix: &'static str| Err(ConfigError::Value { key, value, fix });
        if self.calls > 100_000 {
            return bad("trace.calls", self.calls.to_string(), "write a number from 0 to 100000");
        }
        if self.mb == 0 || self.mb > 4_096 {
            return bad("trace.mb", self.mb.to_string(), "write a number from 1 to 4096");
        }
        if !self.hep.is_empty() && self.hep_address().is_none() {
            return bad("trace.hep", self.hep.clone(), "write ADDRESS:PORT, such as 192.0.2.9:9060, or leave it empty");
        }
        Ok(())
    }
}
