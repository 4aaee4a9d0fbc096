//! Whether sound is protected, and how: `rtp.srtp`, and for one listener, device or trunk.

use std::fmt;
use std::net::SocketAddr;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use sip::endpoint::Transport;

use super::Config;

/// Whether sound is protected (SRTP).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "lowercase")]
pub enum SrtpPolicy {
    /// As it is one level up: `rtp.srtp`, or the listener's.
    #[default]
    Default,
    /// It is not.
    Off,
    /// Where the peer can.
    Preferred,
    /// Or there is no call. We offer keys in the description over TLS, and a handshake (DTLS) over others.
    Required,
    /// The same, and we offer keys in the description (SDES).
    Sdes,
    /// The same, and we offer a handshake (DTLS).
    Dtls,
}

impl SrtpPolicy {
    fn or(self, other: SrtpPolicy) -> SrtpPolicy {
        if self == SrtpPolicy::Default { other } else { self }
    }
}

impl fmt::Display for SrtpPolicy {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Default => "default",
            Self::Off => "off",
            Self::Preferred => "preferred",
            Self::Required => "required",
            Self::Sdes => "sdes",
            Self::Dtls => "dtls",
        })
    }
}

impl FromStr for SrtpPolicy {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let all = [Self::Default, Self::Off, Self::Preferred, Self::Required, Self::Sdes, Self::Dtls];
        let found = all.into_iter().find(|policy| policy.to_string() == text);
        found.ok_or_else(|| format!("`{text}` is no policy for SRTP: write off, preferred, required, sdes or dtls"))
    }
}

/// How ICE takes part in calls of browsers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum IceMode {
    /// It looks for a path of its own: behind NAT, and for peers behind NAT.
    #[default]
    Full,
    /// It answers: for a server with a public address (RFC 8445 section 2.5).
    Lite,
    /// The same as full, by TURN servers alone.
    Relay,
}

impl Config {
    /// What holds for a call that came by this trunk, from this device, or else at this listener.
    #[must_use]
    pub fn srtp_in(&self, trunk: Option<&str>, device: Option<&str>, at: (Transport, SocketAddr)) -> SrtpPolicy {
        let (transport, local) = at;
        let listener = self.sip.listen.iter().find(|listen| {
            let is_there = listen.addr.ip().is_unspecified() || listen.addr.ip() == local.ip();
            listen.transport == transport && listen.addr.port() == local.port() && is_there
        });
        let here = listener.map_or(SrtpPolicy::Default, |listen| listen.srtp).or(self.rtp.srtp);
        let of_trunk =
            trunk.and_then(|name| self.trunks.iter().find(|trunk| trunk.name == name)).map(|trunk| trunk.srtp);
        let of_device =
            device.and_then(|user| self.devices.iter().find(|device| device.user == user)).map(|device| device.srtp);
        of_trunk.or(of_device).unwrap_or_default().or(here)
    }

    /// What holds for a call that we place, where its branch says this.
    #[must_use]
    pub fn srtp_out(&self, of_branch: SrtpPolicy) -> SrtpPolicy {
        of_branch.or(self.rtp.srtp)
    }
}
