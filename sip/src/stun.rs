//! STUN (RFC 8489) as far as signalling needs it: binding requests by which a peer keeps its NAT's binding alive on the SIP port (RFC
//! 5626 section 4.4.2), answered without state; and the same asked of a server, to learn our own public address.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

const COOKIE: u32 = 0x2112_a442;
const BINDING_REQUEST: u16 = 0x0001;
const BINDING_SUCCESS: u16 = 0x0101;
const MAPPED_ADDRESS: u16 = 0x0001;
const XOR_MAPPED_ADDRESS: u16 = 0x0020;
const HEADER_BYTES: usize = 20;
const IPV4: u8 = 1;
const IPV6: u8 = 2;

/// What names a request and its answer.
pub type TransactionId = [u8; 12];

/// Whether a datagram is STUN: no SIP message begins so (RFC 5626 section 4.4.2 leaves the first two bits for that).
#[must_use]
pub fn is_stun(datagram: &[u8]) -> bool {
    datagram.len() >= HEADER_BYTES
        && datagram.first().is_some_and(|first| first & 0xc0 == 0)
        && word(datagram, 4) == Some(COOKIE)
}

/// A binding request.
#[must_use]
pub fn binding_request(id: TransactionId) -> Vec<u8> {
    header(BINDING_REQUEST, 0, id)
}

/// The answer to a binding request; `None` for anything else, which is not answered.
#[must_use]
pub fn answer(datagram: &[u8], from: SocketAddr) -> Option<Vec<u8>> {
    if !is_stun(datagram) || half(datagram, 0)? != BINDING_REQUEST {
        return None;
    }
    if usize::from(half(datagram, 2)?) + HEADER_BYTES != datagram.len() {
        return None;
    }
    let id = id_of(datagram)?;
    let (family, address): (u8, Vec<u8>) = match from.ip().to_canonical() {
        IpAddr::V4(ip) => (IPV4, ip.octets().to_vec()),
        IpAddr::V6(ip) => (IPV6, ip.octets().to_vec()),
    };
    let length = 4 + address.len();
    let mut out = header(BINDING_SUCCESS, u16::try_from(length + 4).ok()?, id);
    out.extend_from_slice(&XOR_MAPPED_ADDRESS.to_be_bytes());
    out.extend_from_slice(&u16::try_from(length).ok()?.to_be_bytes());
    out.extend_from_slice(&[0, family]);
    out.extend_from_slice(&(from.port() ^ (COOKIE >> 16) as u16).to_be_bytes());
    out.extend(address.iter().zip(mask(id)).map(|(byte, mask)| byte ^ mask));
    Some(out)
}

/// Our address as the server saw it, from its answer to the request of that id.
#[must_use]
pub fn mapped_address(datagram: &[u8], id: TransactionId) -> Option<SocketAddr> {
    if !is_stun(datagram) || half(datagram, 0)? != BINDING_SUCCESS || id_of(datagram)? != id {
        return None;
    }
    let mut rest = datagram.get(HEADER_BYTES..)?;
    let mut plain = None;
    while rest.len() >= 4 {
        let (kind, length) = (half(rest, 0)?, usize::from(half(rest, 2)?));
        let value = rest.get(4..4 + length)?;
        match kind {
            XOR_MAPPED_ADDRESS => return address(value, id, true),
            // Servers of RFC 3489 know no other.
            MAPPED_ADDRESS => plain = address(value, id, false),
            _ => {}
        }
        rest = rest.get(4 + length.next_multiple_of(4)..).unwrap_or_default();
    }
    plain
}

fn address(value: &[u8], id: TransactionId, is_masked: bool) -> Option<SocketAddr> {
    let port = half(value, 2)? ^ if is_masked { (COOKIE >> 16) as u16 } else { 0 };
    let unmasked: Vec<u8> =
        value.get(4..)?.iter().zip(mask(id)).map(|(byte, mask)| if is_masked { byte ^ mask } else { *byte }).collect();
    let ip: IpAddr = match *value.get(1)? {
        IPV4 => Ipv4Addr::from(<[u8; 4]>::try_from(unmasked.as_slice()).ok()?).into(),
        IPV6 => Ipv6Addr::from(<[u8; 16]>::try_from(unmasked.as_slice()).ok()?).into(),
        _ => return None,
    };
    Some(SocketAddr::new(ip, port))
}

/// What addresses are masked with (section 14.2): the cookie, then the id.
fn mask(id: TransactionId) -> impl Iterator<Item = u8> {
    COOKIE.to_be_bytes().into_iter().chain(id)
}

fn header(kind: u16, length: u16, id: TransactionId) -> Vec<u8> {
    let mut out = Vec::with_capacity(HEADER_BYTES + 24);
    out.extend_from_slice(&kind.to_be_bytes());
    out.extend_from_slice(&length.to_be_bytes());
    out.extend_from_slice(&COOKIE.to_be_bytes());
    out.extend_from_slice(&id);
    out
}

fn id_of(datagram: &[u8]) -> Option<TransactionId> {
    datagram.get(8..HEADER_BYTES)?.try_into().ok()
}

fn half(bytes: &[u8], at: usize) -> Option<u16> {
    Some(u16::from_be_bytes(bytes.get(at..at + 2)?.try_into().ok()?))
}

fn word(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_be_bytes(bytes.get(at..at + 4)?.try_into().ok()?))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    const ID: TransactionId = [0xb7, 0xe7, 0xa7, 0x01, 0xbc, 0x34, 0xd6, 0x86, 0xfa, 0x87, 0xdf, 0xae];

    /// Conforms: RFC 8489 §14.2 — the address in the answer is masked; RFC 5769 sections 2.2 and 2.3 have these values.
    #[test]
    fn the_test_vectors_of_rfc_5769() {
        let answer = |attribute: &[u8]| {
            let mut packet = header(BINDING_SUCCESS, attribute.len() as u16, ID);
            packet.extend_from_slice(attribute);
            mapped_address(&packet, ID).unwrap().to_string()
        };
        let v4 = [0x00, 0x20, 0x00, 0x08, 0x00, 0x01, 0xa1, 0x47, 0xe1, 0x12, 0xa6, 0x43];
        assert_eq!(answer(&v4), "192.0.2.1:32853");
        let v6 = [
            0x00, 0x20, 0x00, 0x14, 0x00, 0x02, 0xa1, 0x47, 0x01, 0x13, 0xa9, 0xfa, 0xa5, 0xd3, 0xf1, 0x79, 0xbc, 0x25,
            0xf4, 0xb5, 0xbe, 0xd2, 0xb9, 0xd9,
        ];
        assert_eq!(answer(&v6), "[2001:db8:1234:5678:11:2233:4455:6677]:32853");
    }

    #[test]
    fn what_is_answered_is_understood() {
        for from in ["198.51.100.7:4711", "[2001:db8::7]:4711"] {
            let from: SocketAddr = from.parse().unwrap();
            let answer = answer(&binding_request(ID), from).unwrap();
            assert_eq!(mapped_address(&answer, ID), Some(from));
            assert_eq!(mapped_address(&answer, [0; 12]), None);
        }
    }

    #[test]
    fn what_is_no_binding_request_is_not_answered() {
        let from: SocketAddr = "198.51.100.7:4711".parse().unwrap();
        let request = binding_request(ID);
        assert!(!is_stun(b"OPTIONS sip:a@b SIP/2.0\r\n\r\n"));
        for cut in 0..request.len() {
            assert!(answer(&request[..cut], from).is_none());
        }
        let success = answer(&request, from).unwrap();
        assert!(answer(&success, from).is_none());
        for cut in 0..success.len() {
            assert!(mapped_address(&success[..cut], ID).is_none());
        }
        let mut longer = request;
        longer.push(0);
        assert!(answer(&longer, from).is_none());
    }
}
