//! HEP3, the encapsulation that Homer and other capture servers take (hep3_rev12, "The Extensible Encapsulation
//! Protocol"): one packet a message.

use std::net::{IpAddr, SocketAddr};
use std::time::SystemTime;

use super::Traced;
use crate::endpoint::Transport;

/// Bytes that a packet may have; what would be longer is left out, since a chunk's length is 16 bits.
pub const MAX_PACKET: usize = 65_507;

const IPV4: u8 = 2;
const IPV6: u8 = 10;
const SIP: u8 = 1;

/// Who sends the packets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Agent {
    /// The capture agent's number, as the capture server knows it.
    pub id: u32,
    /// The capture server's password; empty sends none.
    pub key: String,
}

/// The packet of one message; `None` where it would not fit.
#[must_use]
pub fn packet(traced: &Traced, agent: &Agent) -> Option<Vec<u8>> {
    let mut out = Vec::with_capacity(traced.bytes.len() + 160);
    out.extend_from_slice(b"HEP3\0\0");
    let (from, to) = (traced.from(), traced.to());
    chunk(&mut out, 1, &[if both_v4(from, to) { IPV4 } else { IPV6 }]);
    chunk(&mut out, 2, &[if traced.transport == Transport::Udp { 17 } else { 6 }]);
    match (from.ip(), to.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => {
            chunk(&mut out, 3, &from.octets());
            chunk(&mut out, 4, &to.octets());
        }
        (from, to) => {
            chunk(&mut out, 5, &as_v6(from));
            chunk(&mut out, 6, &as_v6(to));
        }
    }
    chunk(&mut out, 7, &from.port().to_be_bytes());
    chunk(&mut out, 8, &to.port().to_be_bytes());
    let since = traced.at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    chunk(&mut out, 9, &(since.as_secs() as u32).to_be_bytes());
    chunk(&mut out, 10, &since.subsec_micros().to_be_bytes());
    chunk(&mut out, 11, &[SIP]);
    chunk(&mut out, 12, &agent.id.to_be_bytes());
    if !agent.key.is_empty() {
        chunk(&mut out, 14, agent.key.as_bytes());
    }
    if let Some(call_id) = super::call_id(&traced.bytes) {
        chunk(&mut out, 17, call_id.as_bytes());
    }
    if out.len() + 6 + traced.bytes.len() > MAX_PACKET {
        return None;
    }
    chunk(&mut out, 15, &traced.bytes);
    let length = u16::try_from(out.len()).ok()?.to_be_bytes();
    out.get_mut(4..6)?.copy_from_slice(&length);
    Some(out)
}

/// Vendor 0 (generic), type, length with these six bytes, value.
fn chunk(out: &mut Vec<u8>, kind: u16, value: &[u8]) {
    out.extend_from_slice(&[0, 0]);
    out.extend_from_slice(&kind.to_be_bytes());
    out.extend_from_slice(&u16::try_from(value.len() + 6).unwrap_or(u16::MAX).to_be_bytes());
    out.extend_from_slice(value);
}

pub(super) fn both_v4(from: SocketAddr, to: SocketAddr) -> bool {
    from.is_ipv4() && to.is_ipv4()
}

pub(super) fn as_v6(ip: IpAddr) -> [u8; 16] {
    match ip {
        IpAddr::V4(ip) => ip.to_ipv6_mapped().octets(),
        IpAddr::V6(ip) => ip.octets(),
    }
}
