//! Small values of the configuration with a text form: listeners, networks, port ranges.

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;

use control::outside::IpNet;
use sip::endpoint::Transport;

use super::SrtpPolicy;

/// One SIP listener: `udp:0.0.0.0:5060`, `tls:0.0.0.0:5061;srtp=required`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SipListen {
    /// The transport.
    pub transport: Transport,
    /// The address bound.
    pub addr: SocketAddr,
    /// Whether the sound of calls that come here is protected.
    pub srtp: SrtpPolicy,
}

impl SipListen {
    /// A listener on `addr`.
    #[must_use]
    pub fn new(transport: Transport, addr: SocketAddr) -> Self {
        Self { transport, addr, srtp: SrtpPolicy::Default }
    }
}

impl fmt::Display for SipListen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let transport = self.transport;
        write!(f, "{transport}:{}", self.addr)?;
        match self.srtp {
            SrtpPolicy::Default => Ok(()),
            srtp => write!(f, ";srtp={srtp}"),
        }
    }
}

impl FromStr for SipListen {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let expected = "write TRANSPORT:ADDRESS:PORT, such as udp:0.0.0.0:5060";
        let (text, srtp) = match text.split_once(';') {
            Some((text, parameter)) => {
                let wrong = || format!("`{parameter}` is no parameter of a listener: write ;srtp=POLICY, or nothing");
                (text, parameter.strip_prefix("srtp=").ok_or_else(wrong)?.parse()?)
            }
            None => (text, SrtpPolicy::Default),
        };
        let (transport, addr) = text.split_once(':').ok_or_else(|| format!("`{text}` is no listener: {expected}"))?;
        let transport = Transport::parse(transport)
            .ok_or_else(|| format!("`{transport}` is no transport: write udp, tcp, tls, ws or wss"))?;
        let addr = addr.parse().map_err(|_| format!("`{addr}` is no ADDRESS:PORT: {expected}"))?;
        Ok(Self { transport, addr, srtp })
    }
}

/// A set of addresses calls are taken from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Network {
    /// 127.0.0.0/8 and ::1.
    Loopback,
    /// RFC 1918, link-local, RFC 4193 and RFC 6598.
    Private,
    /// Everyone.
    Any,
    /// One network.
    Block {
        /// The network's address.
        addr: IpAddr,
        /// Leading bits that must be equal.
        bits: u8,
    },
}

impl Network {
    /// The network as blocks of addresses.
    #[must_use]
    pub fn blocks(&self) -> Vec<IpNet> {
        let named: &[&str] = match self {
            Self::Loopback => &["127.0.0.0/8", "::1/128"],
            Self::Private => &[
                "10.0.0.0/8",
                "172.16.0.0/12",
                "192.168.0.0/16",
                "169.254.0.0/16",
                "100.64.0.0/10",
                "fc00::/7",
                "fe80::/10",
            ],
            Self::Any => &["0.0.0.0/0", "::/0"],
            Self::Block { addr, bits } => return IpNet::new(*addr, *bits).into_iter().collect(),
        };
        named.iter().filter_map(|block| block.parse().ok()).collect()
    }

    /// Whether `addr` lies in this network. An IPv4 address mapped into IPv6 counts as IPv4.
    #[must_use]
    pub fn contains(&self, addr: IpAddr) -> bool {
        let addr = addr.to_canonical();
        match self {
            Self::Any => true,
            Self::Loopback => addr.is_loopback(),
            Self::Private => match addr {
                IpAddr::V4(v4) => {
                    v4.is_private() || v4.is_link_local() || (v4.octets()[0] == 100 && v4.octets()[1] & 0xc0 == 64)
                }
                IpAddr::V6(v6) => v6.segments()[0] & 0xfe00 == 0xfc00 || v6.segments()[0] & 0xffc0 == 0xfe80,
            },
            Self::Block { addr: network, bits } => match (network, addr) {
                (IpAddr::V4(a), IpAddr::V4(b)) => {
                    same_prefix(u128::from(a.to_bits()) << 96, u128::from(b.to_bits()) << 96, *bits)
                }
                (IpAddr::V6(a), IpAddr::V6(b)) => same_prefix(a.to_bits(), b.to_bits(), *bits),
                _ => false,
            },
        }
    }
}

fn same_prefix(a: u128, b: u128, bits: u8) -> bool {
    bits == 0 || (a ^ b) >> (128 - u32::from(bits.min(128))) == 0
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Loopback => f.write_str("loopback"),
            Self::Private => f.write_str("private"),
            Self::Any => f.write_str("any"),
            Self::Block { addr, bits } => write!(f, "{addr}/{bits}"),
        }
    }
}

impl FromStr for Network {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "loopback" => return Ok(Self::Loopback),
            "private" => return Ok(Self::Private),
            "any" => return Ok(Self::Any),
            _ => {}
        }
        let fault = || format!("`{text}` is no network: write loopback, private, any, an address, or ADDRESS/BITS");
        let (addr, bits) = text.split_once('/').map_or((text, None), |(addr, bits)| (addr, Some(bits)));
        let addr: IpAddr = addr.parse().map_err(|_| fault())?;
        let most = if addr.is_ipv4() { 32 } else { 128 };
        let bits = bits.map_or(Ok(most), |bits| bits.parse::<u8>().map_err(|_| fault()))?;
        if bits > most {
            return Err(fault());
        }
        Ok(Self::Block { addr, bits })
    }
}

/// Ports from `first` to `last`, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PortRange {
    /// The lowest port.
    pub first: u16,
    /// The highest port.
    pub last: u16,
}

impl fmt::Display for PortRange {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}-{}", self.first, self.last)
    }
}

impl FromStr for PortRange {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let fault = || format!("`{text}` is no port range: write FIRST-LAST, such as 10000-19999");
        let (first, last) = text.split_once('-').ok_or_else(fault)?;
        let port = |text: &str| text.trim().parse().map_err(|_| fault());
        Ok(Self { first: port(first)?, last: port(last)? })
    }
}

/// Values that stand in the configuration as text: read by `FromStr`, written by `Display`.
macro_rules! serde_as_text {
    ($($type:ty),*) => {$(
        impl serde::Serialize for $type {
            fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                serializer.collect_str(self)
            }
        }
        impl<'de> serde::Deserialize<'de> for $type {
            fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                <String as serde::Deserialize>::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
            }
        }
    )*};
}
serde_as_text!(SipListen, Network, PortRange);

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn networks_contain_what_their_names_say() {
        let contains = |network: &str, addr: &str| network.parse::<Network>().unwrap().contains(addr.parse().unwrap());
        assert!(contains("loopback", "127.9.9.9"));
        assert!(contains("loopback", "::1"));
        assert!(contains("loopback", "::ffff:127.0.0.1"));
        assert!(!contains("loopback", "10.0.0.1"));
        assert!(contains("private", "10.0.0.1"));
        assert!(contains("private", "100.64.0.1"));
        assert!(contains("private", "fd00::1"));
        assert!(!contains("private", "8.8.8.8"));
        assert!(contains("192.0.2.0/24", "192.0.2.77"));
        assert!(!contains("192.0.2.0/24", "192.0.3.1"));
        assert!(contains("192.0.2.1", "192.0.2.1"));
        assert!(!contains("192.0.2.1", "192.0.2.2"));
        assert!(contains("0.0.0.0/0", "8.8.8.8"));
        assert!(contains("2001:db8::/32", "2001:db8:1::1"));
        assert!(contains("any", "8.8.8.8"));
    }

    #[test]
    fn a_network_contains_what_its_blocks_do() {
        for network in ["loopback", "private", "any", "192.0.2.0/24", "192.0.2.7", "2001:db8::/32"] {
            let network: Network = network.parse().unwrap();
            let blocks = network.blocks();
            for addr in [
                "127.0.0.1",
                "127.255.255.255",
                "128.0.0.0",
                "10.9.9.9",
                "172.15.0.1",
                "172.16.0.1",
                "172.32.0.0",
                "100.64.0.1",
                "100.128.0.0",
                "169.254.1.1",
                "192.168.9.9",
                "192.0.2.7",
                "192.0.2.8",
                "8.8.8.8",
                "::1",
                "::2",
                "fc00::1",
                "fdff::1",
                "fe80::1",
                "febf::1",
                "fec0::1",
                "2001:db8:ffff::1",
                "2001:db9::1",
            ] {
                let addr: IpAddr = addr.parse().unwrap();
                assert_eq!(
                    blocks.iter().any(|block| block.contains(&addr)),
                    network.contains(addr),
                    "{network} {addr}"
                );
            }
        }
    }

    #[test]
    fn what_is_no_listener_is_refused_with_the_form_expected() {
        for text in [
            "5060",
            "udp",
            "udp:localhost:5060",
            "sctp:0.0.0.0:5060",
            "udp:0.0.0.0",
            "udp:0.0.0.0:5060;srtp=never",
            "udp:0.0.0.0:5060;x",
        ] {
            let message = text.parse::<SipListen>().unwrap_err();
            assert!(message.contains("write"), "{text}: {message}");
        }
        assert!("192.0.2.0/33".parse::<Network>().is_err());
        assert!("10-".parse::<PortRange>().is_err());
    }
}
