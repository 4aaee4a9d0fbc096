//! Ports that were free a moment ago.

use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::ops::RangeInclusive;

/// So many pairs, one behind the other.
pub(crate) fn ports(pairs: u16) -> RangeInclusive<u16> {
    let here = IpAddr::V4(Ipv4Addr::LOCALHOST);
    loop {
        let probe = UdpSocket::bind((here, 0)).unwrap().local_addr().unwrap().port() & !1;
        let Some(last) = probe.checked_add(pairs * 2 - 1) else { continue };
        if (probe..=last).all(|port| UdpSocket::bind((here, port)).is_ok()) {
            return probe..=last;
        }
    }
}
