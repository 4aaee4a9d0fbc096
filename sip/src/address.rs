//! Addresses that mean something in one network alone.

use std::net::{IpAddr, SocketAddr};

/// Whether nobody outside of a network can reach the address: RFC 1918, 6598 (carriers' NAT), 4193, link-local, loopback.
#[must_use]
pub fn is_inside(ip: IpAddr) -> bool {
    match ip.to_canonical() {
        IpAddr::V4(ip) => {
            let [a, b, ..] = ip.octets();
            ip.is_private()
                || ip.is_loopback()
                || ip.is_link_local()
                || ip.is_unspecified()
                || (a == 100 && (64..128).contains(&b))
        }
        IpAddr::V6(ip) => {
            let first = ip.segments()[0];
            ip.is_loopback() || ip.is_unspecified() || (first & 0xfe00) == 0xfc00 || (first & 0xffc0) == 0xfe80
        }
    }
}

/// Our address as a peer has to write it: the public one for those who are outside, where there is one. A public address that is
/// itself inside a network (a host's, seen from a container) is for everybody but this machine.
#[must_use]
pub fn as_seen(public: Option<IpAddr>, local: SocketAddr, remote: IpAddr) -> SocketAddr {
    let fits = |public: &IpAddr| {
        let is_outside = if is_inside(*public) { !remote.to_canonical().is_loopback() } else { !is_inside(remote) };
        is_outside && public.is_ipv4() == local.ip().to_canonical().is_ipv4()
    };
    public.filter(fits).map_or(local, |public| SocketAddr::new(public, local.port()))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn the_public_address_is_for_those_outside() {
        let seen = |public: &str, local: &str, remote: &str| {
            as_seen(Some(public.parse().unwrap()), local.parse().unwrap(), remote.parse().unwrap()).to_string()
        };
        assert_eq!(seen("203.0.113.1", "10.0.0.5:5060", "198.51.100.7"), "203.0.113.1:5060");
        assert_eq!(seen("203.0.113.1", "10.0.0.5:5060", "10.0.0.9"), "10.0.0.5:5060");
        assert_eq!(seen("203.0.113.1", "10.0.0.5:5060", "::ffff:10.0.0.9"), "10.0.0.5:5060");
        assert_eq!(seen("203.0.113.1", "[2001:db8::1]:5060", "2001:db8::7"), "[2001:db8::1]:5060");
        assert_eq!(seen("192.168.1.2", "172.17.0.2:5060", "192.168.1.9"), "192.168.1.2:5060");
        assert_eq!(seen("192.168.1.2", "127.0.0.1:5060", "127.0.0.1"), "127.0.0.1:5060");
    }
}
