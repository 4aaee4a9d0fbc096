//! `[rtp]`: sound, its ports and worker threads.

use std::net::IpAddr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{ConfigError, IceMode, PortRange, SrtpPolicy};

/// Processors have numbers below this.
const CPUS_LIMIT: usize = 1_024;

/// `[rtp]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct RtpConfig {
    /// UDP ports for RTP (even) and RTCP (odd), `FIRST-LAST`.
    pub ports: PortRange,
    /// The address media sockets are bound to. `0.0.0.0`: any of IPv4; `::`: any, of IPv6 and IPv4.
    pub bind: IpAddr,
    /// Media worker threads; 0 takes one per two processors.
    pub workers: usize,
    /// Processors that media workers stay on, one each, taken in turn: `[2, 3]`; empty leaves it to the system.
    pub worker_cpus: Vec<usize>,
    /// Codecs offered and taken, best first.
    pub codecs: Vec<String>,
    /// Packet time asked for, in ms: 10, 20, 30, 40 or 60.
    pub ptime_ms: u8,
    /// A call whose media stops for this long is ended, in seconds.
    pub timeout_s: u64,
    /// The same for a call that the peer has put on hold, in seconds: many phones send nothing then.
    pub hold_timeout_s: u64,
    /// Whether sound is protected (SRTP): `off`, `preferred`, `required`, or, required with our offers in one form, `sdes` or `dtls`.
    pub srtp: SrtpPolicy,
    /// How ICE takes part in calls of browsers: `full`, `lite` on a public address, or `relay`, by TURN servers alone.
    pub ice: IceMode,
}

impl Default for RtpConfig {
    fn default() -> Self {
        Self {
            ports: PortRange { first: 10_000, last: 19_999 },
            bind: IpAddr::from([0, 0, 0, 0]),
            workers: 0,
            worker_cpus: Vec::new(),
            codecs: ["opus", "G722", "PCMU", "PCMA", "L16"].map(String::from).to_vec(),
            ptime_ms: 20,
            timeout_s: 30,
            hold_timeout_s: 1_800,
            srtp: SrtpPolicy::Preferred,
            ice: IceMode::Full,
        }
    }
}

impl RtpConfig {
    /// Media worker threads to start.
    #[must_use]
    pub fn worker_count(&self) -> usize {
        match self.workers {
            0 => std::thread::available_parallelism().map_or(1, |n| (n.get() / 2).max(1)),
            n => n,
        }
    }

    /// After this long without a packet from the peer its call is ended.
    #[must_use]
    pub fn media_timeout(&self) -> Duration {
        Duration::from_secs(self.timeout_s)
    }

    /// The same for one that the peer has put on hold.
    #[must_use]
    pub fn hold_timeout(&self) -> Duration {
        Duration::from_secs(self.hold_timeout_s)
    }

    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        let bad = |key: &'static str, value: String, fix: &'static str| Err(ConfigError::Value { key, value, fix });
        if self.ports.first < 1_024 || self.ports.last <= self.ports.first {
            return bad(
                "rtp.ports",
                self.ports.to_string(),
                "write FIRST-LAST with 1024 <= FIRST < LAST, such as 10000-19999",
            );
        }
        if ![10, 20, 30, 40, 60].contains(&self.ptime_ms) {
            return bad("rtp.ptime_ms", self.ptime_ms.to_string(), "write 10, 20, 30, 40 or 60");
        }
        if self.workers > 64 {
            return bad("rtp.workers", self.workers.to_string(), "write a number from 0 to 64");
        }
        if let Some(cpu) = self.worker_cpus.iter().find(|cpu| **cpu >= CPUS_LIMIT) {
            return bad(
                "rtp.worker_cpus",
                cpu.to_string(),
                "write numbers of processors, from 0 to 1023, as in [2, 3]",
            );
        }
        for (key, seconds) in [("rtp.timeout_s", self.timeout_s), ("rtp.hold_timeout_s", self.hold_timeout_s)] {
            if seconds == 0 {
                return bad(key, "0".into(), "write a number of seconds from 1");
            }
        }
        if self.srtp == SrtpPolicy::Default {
            return bad("rtp.srtp", "default".into(), "write off, preferred, required, sdes or dtls");
        }
        if self.codecs.is_empty() {
            return bad("rtp.codecs", "[]".into(), "name at least one codec, such as [\"PCMU\"]");
        }
        for name in &self.codecs {
            if !codecs::registry::SPECS.iter().any(|spec| spec.name.eq_ignore_ascii_case(name)) {
                return bad("rtp.codecs", name.clone(), "known codecs are opus, G722, PCMU, PCMA and L16");
            }
        }
        Ok(())
    }
}
