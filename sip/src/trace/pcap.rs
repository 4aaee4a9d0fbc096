//! A call's messages as a capture file (libpcap's format, nanoseconds, raw IP) that Wireshark, tshark and sngrep open.
//!
//! The packets' IP and transport headers are made here: the operating system did not show us the real ones. Messages over
//! TCP stand in TCP segments with running sequence numbers; those over TLS and WebSocket, whose real packets nobody could
//! read, stand in UDP datagrams.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::time::SystemTime;

use super::hep::{as_v6, both_v4};
use super::{CallMessages, Traced};
use crate::endpoint::Transport;

/// Magic of a capture with nanoseconds, in the writer's byte order.
const MAGIC: u32 = 0xa1b2_3c4d;
/// LINKTYPE_RAW: each packet begins with its IP header.
const RAW_IP: u32 = 101;
/// The most that an IPv4 packet can hold beside its headers; a longer message is cut.
const MAX_PAYLOAD: usize = 65_535 - 20 - 20;

/// The capture file.
#[must_use]
pub fn file(call: &CallMessages) -> Vec<u8> {
    let size: usize = call.messages.iter().map(|traced| traced.bytes.len() + 80).sum();
    let mut out = Vec::with_capacity(24 + size);
    out.extend_from_slice(&MAGIC.to_le_bytes());
    out.extend_from_slice(&2_u16.to_le_bytes());
    out.extend_from_slice(&4_u16.to_le_bytes());
    out.extend_from_slice(&[0; 8]);
    out.extend_from_slice(&262_144_u32.to_le_bytes());
    out.extend_from_slice(&RAW_IP.to_le_bytes());
    // Bytes sent so far, by who sends to whom: TCP's sequence numbers.
    let mut sent: HashMap<(SocketAddr, SocketAddr), u32> = HashMap::new();
    for traced in &call.messages {
        let packet = ip_packet(traced, &mut sent);
        let since = traced.at.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
        out.extend_from_slice(&(since.as_secs() as u32).to_le_bytes());
        out.extend_from_slice(&since.subsec_nanos().to_le_bytes());
        let length = (packet.len() as u32).to_le_bytes();
        out.extend_from_slice(&length);
        out.extend_from_slice(&length);
        out.extend_from_slice(&packet);
    }
    out
}

fn ip_packet(traced: &Traced, sent: &mut HashMap<(SocketAddr, SocketAddr), u32>) -> Vec<u8> {
    let (from, to) = (traced.from(), traced.to());
    let payload = traced.bytes.get(..traced.bytes.len().min(MAX_PAYLOAD)).unwrap_or_default();
    let (protocol, segment) = if traced.transport == Transport::Tcp {
        let received = sent.get(&(to, from)).copied().unwrap_or(1);
        let sequence = sent.entry((from, to)).or_insert(1);
        let segment = tcp(from.port(), to.port(), *sequence, received, payload);
        *sequence = sequence.wrapping_add(payload.len() as u32);
        (6, segment)
    } else {
        (17, udp(from.port(), to.port(), payload))
    };
    let mut packet = if both_v4(from, to) {
        ipv4(from.ip(), to.ip(), protocol, segment.len())
    } else {
        ipv6(from.ip(), to.ip(), protocol, segment.len())
    };
    let header = packet.len();
    packet.extend_from_slice(&segment);
    let sum = transport_checksum(from.ip(), to.ip(), protocol, packet.get(header..).unwrap_or_default());
    let place = header + if protocol == 6 { 16 } else { 6 };
    if let Some(field) = packet.get_mut(place..place + 2) {
        field.copy_from_slice(&sum.to_be_bytes());
    }
    packet
}

fn udp(from: u16, to: u16, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(8 + payload.len());
    out.extend_from_slice(&from.to_be_bytes());
    out.extend_from_slice(&to.to_be_bytes());
    out.extend_from_slice(&((8 + payload.len()) as u16).to_be_bytes());
    out.extend_from_slice(&[0, 0]);
    out.extend_from_slice(payload);
    out
}

fn tcp(from: u16, to: u16, sequence: u32, acknowledged: u32, payload: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(20 + payload.len());
    out.extend_from_slice(&from.to_be_bytes());
    out.extend_from_slice(&to.to_be_bytes());
    out.extend_from_slice(&sequence.to_be_bytes());
    out.extend_from_slice(&acknowledged.to_be_bytes());
    // Five words of header; PSH and ACK; a window; checksum and urgent pointer.
    out.extend_from_slice(&[0x50, 0x18, 0xff, 0xff, 0, 0, 0, 0]);
    out.extend_from_slice(payload);
    out
}

fn ipv4(from: IpAddr, to: IpAddr, protocol: u8, length: usize) -> Vec<u8> {
    let mut out = vec![0x45, 0];
    out.extend_from_slice(&((20 + length) as u16).to_be_bytes());
    out.extend_from_slice(&[0, 0, 0x40, 0, 64, protocol, 0, 0]);
    for ip in [from, to] {
        if let IpAddr::V4(ip) = ip {
            out.extend_from_slice(&ip.octets());
        }
    }
    let sum = fold(add(0, &out));
    if let Some(field) = out.get_mut(10..12) {
        field.copy_from_slice(&sum.to_be_bytes());
    }
    out
}

fn ipv6(from: IpAddr, to: IpAddr, protocol: u8, length: usize) -> Vec<u8> {
    let mut out = vec![0x60, 0, 0, 0];
    out.extend_from_slice(&(length as u16).to_be_bytes());
    out.extend_from_slice(&[protocol, 64]);
    out.extend_from_slice(&as_v6(from));
    out.extend_from_slice(&as_v6(to));
    out
}

/// RFC 768, RFC 9293 section 3.1, RFC 8200 section 8.1: over a pseudo header and the segment.
fn transport_checksum(from: IpAddr, to: IpAddr, protocol: u8, segment: &[u8]) -> u16 {
    let mut sum = u32::from(protocol) + segment.len() as u32;
    for ip in [from, to] {
        sum = match ip {
            IpAddr::V4(ip) if from.is_ipv4() && to.is_ipv4() => add(sum, &ip.octets()),
            ip => add(sum, &as_v6(ip)),
        };
    }
    match fold(add(sum, segment)) {
        // Zero would say that there is none.
        0 => 0xffff,
        sum => sum,
    }
}

fn add(sum: u32, bytes: &[u8]) -> u32 {
    bytes.chunks(2).fold(sum, |sum, pair| {
        let (high, low) = (pair.first().copied().unwrap_or(0), pair.get(1).copied().unwrap_or(0));
        let sum = sum + u32::from(u16::from_be_bytes([high, low]));
        (sum & 0xffff) + (sum >> 16)
    })
}

fn fold(sum: u32) -> u16 {
    let sum = (sum & 0xffff) + (sum >> 16);
    !(((sum & 0xffff) + (sum >> 16)) as u16)
}
