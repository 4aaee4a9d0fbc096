//! Which addresses may be asked over HTTP where somebody else says where: public ones, and networks that the configuration names. Names
//! are resolved here, and the connection goes to the very address that was looked at: a name that answers otherwise the second
//! time (DNS rebinding) leads nowhere.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

pub use ipnet::IpNet;
use ipnet::{Ipv4Net, Ipv6Net};
use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};

/// Looks at addresses; cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Outside {
    also: Arc<[IpNet]>,
    only: bool,
}

/// Why somewhere is not asked.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refused {
    /// Neither of the two.
    #[error("it is neither https: nor http:")]
    Scheme,
    /// In the clear, and not to one of the networks named.
    #[error("it is not HTTPS")]
    Clear,
    /// An address that nobody outside of a network reaches.
    #[error("it is no public address")]
    Inside,
}

impl Outside {
    /// Public addresses, and these networks too.
    #[must_use]
    pub fn and(also: &[IpNet]) -> Self {
        Self { also: also.into(), only: false }
    }

    /// These networks alone: for what is sent in the clear.
    #[must_use]
    pub fn only(&self) -> Self {
        Self { also: Arc::clone(&self.also), only: true }
    }

    /// Whether an address may be asked.
    #[must_use]
    pub fn allows(&self, ip: IpAddr) -> bool {
        let ip = ip.to_canonical();
        self.is_named(ip) || (!self.only && is_public(ip))
    }

    /// Looks at a URL: HTTPS, or HTTP to the networks named; an address that it holds is looked at here, since nobody resolves it. What
    /// a name leads to is looked at when it is resolved.
    ///
    /// # Errors
    /// Why it is not asked.
    pub fn check(&self, url: &Url) -> Result<(), Refused> {
        let literal = url.host_str().and_then(|host| host.trim_matches(['[', ']']).parse::<IpAddr>().ok());
        match (url.scheme(), literal) {
            ("https", Some(ip)) if !self.allows(ip) => Err(Refused::Inside),
            ("https", _) => Ok(()),
            ("http", Some(ip)) if !self.is_named(ip.to_canonical()) => Err(Refused::Clear),
            ("http", None) if self.also.is_empty() => Err(Refused::Clear),
            ("http", _) => Ok(()),
            _ => Err(Refused::Scheme),
        }
    }

    fn is_named(&self, ip: IpAddr) -> bool {
        self.also.iter().any(|network| network.contains(&ip))
    }
}

/// An HTTP client that asks what is outside: without following redirects, which might lead elsewhere, and without proxies, which
/// would resolve names themselves. Cheap to clone.
#[derive(Debug, Clone)]
pub struct Asking {
    outside: Outside,
    secure: reqwest::Client,
    clear: reqwest::Client,
}

impl Asking {
    /// A client; whatever does not answer within `within` is not waited for.
    ///
    /// # Errors
    /// TLS cannot be set up.
    pub fn new(outside: Outside, within: Duration) -> Result<Self, reqwest::Error> {
        let client = |outside: Outside| {
            reqwest::Client::builder()
                .redirect(reqwest::redirect::Policy::none())
                .no_proxy()
                .timeout(within)
                .dns_resolver(Arc::new(outside))
                .build()
        };
        Ok(Self { secure: client(outside.clone())?, clear: client(outside.only())?, outside })
    }

    /// The client for a URL.
    ///
    /// # Errors
    /// Why it is not asked.
    pub fn of(&self, url: &Url) -> Result<&reqwest::Client, Refused> {
        self.outside.check(url)?;
        Ok(if url.scheme() == "https" { &self.secure } else { &self.clear })
    }
}

/// What lies at the bottom of an error of a client's.
#[must_use]
pub fn cause(fault: &reqwest::Error) -> String {
    let mut deepest: &dyn std::error::Error = fault;
    while let Some(source) = deepest.source() {
        deepest = source;
    }
    deepest.to_string()
}

impl Resolve for Outside {
    fn resolve(&self, name: Name) -> Resolving {
        let outside = self.clone();
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let allowed: Vec<SocketAddr> = found.filter(|address| outside.allows(address.ip())).collect();
            if allowed.is_empty() {
                let why = if outside.only { "no network that may be told in the clear" } else { "no public address" };
                return Err(format!("the name leads to {why}").into());
            }
            Ok(Box::new(allowed.into_iter()) as Addrs)
        })
    }
}

const fn v4(a: u8, b: u8, c: u8, bits: u8) -> Ipv4Net {
    Ipv4Net::new_assert(Ipv4Addr::new(a, b, c, 0), bits)
}

/// What IANA's registry of special-purpose addresses (RFC 6890) has as not globally reachable, and multicast.
const SPECIAL_V4: [Ipv4Net; 14] = [
    v4(0, 0, 0, 8),
    v4(10, 0, 0, 8),
    v4(100, 64, 0, 10),
    v4(127, 0, 0, 8),
    v4(169, 254, 0, 16),
    v4(172, 16, 0, 12),
    v4(192, 0, 0, 24),
    v4(192, 0, 2, 24),
    v4(192, 88, 99, 24),
    v4(192, 168, 0, 16),
    v4(198, 18, 0, 15),
    v4(198, 51, 100, 24),
    v4(203, 0, 113, 24),
    // Multicast and what lies above it.
    v4(224, 0, 0, 3),
];

const fn v6(first: u16, second: u16, bits: u8) -> Ipv6Net {
    Ipv6Net::new_assert(Ipv6Addr::new(first, second, 0, 0, 0, 0, 0, 0), bits)
}

/// The part of IPv6 that is given out.
const UNICAST_V6: Ipv6Net = v6(0x2000, 0, 3);
/// What of it is not globally reachable, or holds an IPv4 address (Teredo, 6to4).
const SPECIAL_V6: [Ipv6Net; 4] = [v6(0x2001, 0, 23), v6(0x2001, 0xdb8, 32), v6(0x2002, 0, 16), v6(0x3fff, 0, 20)];
/// IPv4 as networks of IPv6 alone have it (RFC 6052): looked at as what it holds.
const NAT64: Ipv6Net = v6(0x64, 0xff9b, 96);

fn is_public(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => !SPECIAL_V4.iter().any(|network| network.contains(&ip)),
        IpAddr::V6(ip) if NAT64.contains(&ip) => {
            let [.., a, b, c, d] = ip.octets();
            is_public(IpAddr::V4(Ipv4Addr::new(a, b, c, d)))
        }
        IpAddr::V6(ip) => UNICAST_V6.contains(&ip) && !SPECIAL_V6.iter().any(|network| network.contains(&ip)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_that_mean_something_in_one_network_alone_are_not_asked() {
        let outside = Outside::default();
        for inside in [
            "0.0.0.0",
            "10.1.2.3",
            "100.64.0.1",
            "127.0.0.1",
            "127.255.255.254",
            "169.254.169.254",
            "172.16.0.1",
            "172.31.255.255",
            "192.0.0.8",
            "192.168.1.1",
            "198.18.0.1",
            "203.0.113.9",
            "224.0.0.1",
            "239.1.1.1",
            "240.0.0.1",
            "255.255.255.255",
            "::",
            "::1",
            "::ffff:127.0.0.1",
            "::ffff:10.0.0.1",
            "::127.0.0.1",
            "64:ff9b::a00:1",
            "64:ff9b::a9fe:a9fe",
            "64:ff9b:1::1",
            "fe80::1",
            "fc00::1",
            "fd00:ec2::254",
            "fec0::1",
            "ff02::1",
            "2001:db8::1",
            "2001::1",
            "2002:7f00:1::",
            "2002:a00:1::",
            "100::1",
        ] {
            assert!(!outside.allows(inside.parse().unwrap()), "{inside}");
        }
        for public in [
            "8.8.8.8",
            "100.128.0.1",
            "172.32.0.1",
            "1.1.1.1",
            "2606:4700::1111",
            "2a00:1450::1",
            "64:ff9b::808:808",
            "::ffff:8.8.8.8",
        ] {
            assert!(outside.allows(public.parse().unwrap()), "{public}");
        }
        let ours = Outside::and(&["10.0.0.0/8".parse().unwrap()]);
        assert!(ours.allows("10.1.2.3".parse().unwrap()) && ours.allows("::ffff:10.1.2.3".parse().unwrap()));
        assert!(!ours.allows("192.168.1.1".parse().unwrap()));
        assert!(ours.only().allows("10.1.2.3".parse().unwrap()) && !ours.only().allows("8.8.8.8".parse().unwrap()));
    }

    #[test]
    fn an_address_in_a_url_is_seen_however_it_is_written() {
        let check = |outside: &Outside, url: &str| outside.check(&Url::parse(url).unwrap());
        let none = Outside::default();
        for url in [
            "https://127.0.0.1/",
            "https://2130706433/",
            "https://0x7f.1/",
            "https://0177.0.0.1/",
            "https://127.1/",
            "https://[::1]/",
            "https://[::ffff:127.0.0.1]/",
            "https://[::ffff:7f00:1]/",
            "https://169.254.169.254/latest/",
            "https://１２７.0.0.1/",
        ] {
            assert_eq!(check(&none, url), Err(Refused::Inside), "{url}");
        }
        assert_eq!(check(&none, "http://8.8.8.8/"), Err(Refused::Clear));
        assert_eq!(check(&none, "http://example.com/"), Err(Refused::Clear));
        assert_eq!(check(&none, "ftp://example.com/"), Err(Refused::Scheme));
        assert_eq!(check(&none, "https://example.com/"), Ok(()));
        let loopback = Outside::and(&["127.0.0.0/8".parse().unwrap()]);
        assert_eq!(check(&loopback, "http://127.0.0.1:8080/"), Ok(()));
        assert_eq!(check(&loopback, "http://8.8.8.8/"), Err(Refused::Clear));
    }

    #[tokio::test]
    async fn a_name_that_leads_inside_leads_nowhere() {
        let resolve =
            |outside: Outside| async move { outside.resolve("localhost".parse().unwrap()).await.map(Iterator::count) };
        assert!(resolve(Outside::default()).await.unwrap_err().to_string().contains("no public address"));
        let loopback = Outside::and(&["127.0.0.0/8".parse().unwrap(), "::1/128".parse().unwrap()]);
        assert!(resolve(loopback.only()).await.unwrap() > 0);
        let another = Outside::and(&["10.0.0.0/8".parse().unwrap()]);
        assert!(resolve(another).await.is_err());
    }
}
