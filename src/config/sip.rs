//! `[sip]`: listeners, and who may call.

use std::net::{IpAddr, SocketAddr};

use serde::{Deserialize, Serialize};
use sip::endpoint::Transport;

use super::{ConfigError, Network, SipListen};

/// `[sip]`
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SipConfig {
    /// Listeners, `TRANSPORT:ADDRESS:PORT`, with udp, tcp, tls, ws (WebSocket) and wss (WebSocket over TLS).
    pub listen: Vec<SipListen>,
    /// Our address as those see it who are outside of our network: an IP address, or `stun:HOST[:PORT]`, a server that tells us.
    /// Empty: the address the caller reached us at.
    pub advertise: String,
    /// Networks calls are taken from: `loopback`, `private`, `any`, an address or `ADDRESS/BITS`.
    pub allow: Vec<Network>,
    /// Transactions held at once; beyond it a new call gets 503 with Retry-After.
    pub max_transactions: usize,
    /// A call that neither side refreshes for so many seconds is over (session timers, RFC 4028); 0: not asked for.
    pub session_timer_s: u32,
    /// Connections held at once: TCP, TLS and WebSocket.
    pub max_connections: usize,
    /// Name servers, `ADDRESS:PORT`. Empty: those of the operating system.
    pub dns: Vec<SocketAddr>,
    /// Web pages that may connect by WebSocket, as browsers name them: `https://phone.example.net`. Empty lets all.
    pub origins: Vec<String>,
}

impl Default for SipConfig {
    fn default() -> Self {
        Self {
            listen: vec![
                SipListen::new(Transport::Udp, SocketAddr::from(([0, 0, 0, 0], 5060))),
                SipListen::new(Transport::Tcp, SocketAddr::from(([0, 0, 0, 0], 5060))),
            ],
            advertise: String::new(),
            allow: vec![Network::Loopback, Network::Private],
            max_transactions: 100_000,
            session_timer_s: 1_800,
            max_connections: 2_000,
            dns: Vec::new(),
            origins: Vec::new(),
        }
    }
}

impl SipConfig {
    /// The STUN server that tells us our public address, `HOST:PORT`.
    #[must_use]
    pub fn stun_server(&self) -> Option<String> {
        let server = self.advertise.strip_prefix("stun:").filter(|server| !server.is_empty())?;
        let has_port = server.rsplit_once(':').is_some_and(|(_, port)| port.parse::<u16>().is_ok());
        Some(if has_port { server.to_owned() } else { format!("{server}:3478") })
    }

    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        let bad = |key: &'static str, value: String, fix: &'static str| Err(ConfigError::Value { key, value, fix });
        if self.listen.is_empty() {
            return bad("sip.listen", "[]".into(), "name at least one listener, such as [\"udp:0.0.0.0:5060\"]");
        }
        if !self.advertise.is_empty() && self.advertise.parse::<IpAddr>().is_err() && self.stun_server().is_none() {
            let fix = "write an IP address or stun:HOST[:PORT], or leave it empty";
            return bad("sip.advertise", self.advertise.clone(), fix);
        }
        if self.max_transactions == 0 {
            return bad("sip.max_transactions", "0".into(), "write a number from 1");
        }
        if (1..90).contains(&self.session_timer_s) {
            let fix = "write 0 or a number from 90 (RFC 4028 allows no less)";
            return bad("sip.session_timer_s", self.session_timer_s.to_string(), fix);
        }
        Ok(())
    }
}
