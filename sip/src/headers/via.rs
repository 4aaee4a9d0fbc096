//! The `Via` header (RFC 3261 section 20.42, RFC 3581).

use std::net::IpAddr;

use super::params::{is_token_byte, trim_start};
use super::{HeaderError, Params};
use crate::uri::{parse_ip, scan_hostport};

/// What the `rport` parameter of a `Via` says (RFC 3581).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Rport {
    /// Not there: answers go to the sent-by port.
    Absent,
    /// There without a value: the sender asks for answers to its source port.
    Asked,
    /// Filled in by whoever received the request.
    Port(u16),
}

/// One `Via` value.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Via<'a> {
    /// `UDP`, `TCP`, `TLS`, `WS`, `WSS` or anything else, as it was sent.
    pub transport: &'a str,
    /// The sent-by host, an IPv6 address in its brackets.
    pub host: &'a str,
    /// The sent-by port, where one is named.
    pub port: Option<u16>,
    /// What follows.
    pub params: Params<'a>,
}

impl<'a> Via<'a> {
    /// Every branch made by RFC 3261's rules starts with this.
    pub const MAGIC_COOKIE: &'static str = "z9hG4bK";

    /// Reads one value (not a comma-separated list: see [`super::split_values`]).
    ///
    /// # Errors
    /// [`HeaderError`] says what breaks the grammar.
    pub fn parse(value: &'a str) -> Result<Via<'a>, HeaderError> {
        let rest = word(value, "SIP")?;
        let rest = word(slash(rest)?, "2.0")?;
        let rest = slash(rest)?;
        let len = rest.bytes().take_while(|&b| is_token_byte(b)).count();
        let (transport, rest) = rest.split_at_checked(len).ok_or(HeaderError::BadVia)?;
        let sent_by = trim_start(rest);
        if transport.is_empty() || sent_by.len() == rest.len() {
            return Err(HeaderError::BadVia);
        }
        let (host, port, rest) = sent_by_parts(sent_by)?;
        Ok(Via { transport, host, port, params: Params::checked(rest)? })
    }

    /// The branch parameter.
    #[must_use]
    pub fn branch(&self) -> Option<&'a str> {
        self.params.get("branch")
    }

    /// The branch, where it is one by RFC 3261's rules: the magic cookie with something behind it. Only such a branch
    /// names a transaction by itself (section 17.2.3).
    #[must_use]
    pub fn rfc3261_branch(&self) -> Option<&'a str> {
        self.branch().filter(|b| {
            b.len() > Self::MAGIC_COOKIE.len()
                && b.get(..Self::MAGIC_COOKIE.len()).is_some_and(|c| c.eq_ignore_ascii_case(Self::MAGIC_COOKIE))
        })
    }

    /// The address in `received`, where there is one.
    #[must_use]
    pub fn received(&self) -> Option<IpAddr> {
        self.params.get("received").and_then(parse_ip)
    }

    /// The `rport` parameter.
    #[must_use]
    pub fn rport(&self) -> Rport {
        match self.params.get("rport") {
            None => Rport::Absent,
            Some(text) => text.parse().map_or(Rport::Asked, Rport::Port),
        }
    }

    /// The host as an address, where it is one.
    #[must_use]
    pub fn host_ip(&self) -> Option<IpAddr> {
        parse_ip(self.host)
    }

    /// The sent-by port, or the default of its transport: 5061 for TLS, 443 for WSS, 80 for WS, otherwise 5060.
    #[must_use]
    pub fn port_or_default(&self) -> u16 {
        self.port.unwrap_or_else(|| {
            let is = |name: &str| self.transport.eq_ignore_ascii_case(name);
            if is("TLS") {
                5061
            } else if is("WSS") {
                443
            } else if is("WS") {
                80
            } else {
                5060
            }
        })
    }
}

/// Takes `expected` (any case) from the start, white space around it too.
fn word<'a>(text: &'a str, expected: &str) -> Result<&'a str, HeaderError> {
    let text = trim_start(text);
    match text.split_at_checked(expected.len()) {
        Some((head, rest)) if head.eq_ignore_ascii_case(expected) => Ok(trim_start(rest)),
        _ => Err(HeaderError::BadVia),
    }
}

fn slash(text: &str) -> Result<&str, HeaderError> {
    text.strip_prefix('/').map(trim_start).ok_or(HeaderError::BadVia)
}

/// `host [: port]` with white space around the colon, as section 25.1's COLON allows.
fn sent_by_parts(text: &str) -> Result<(&str, Option<u16>, &str), HeaderError> {
    let bad = |_| HeaderError::BadVia;
    let (host_end, port, after) = scan_hostport(text.as_bytes(), 0)
        .or_else(|error| {
            // `host: 5060`: the colon is there, the digits come after white space.
            let colon = text.rfind(':').filter(|_| error == crate::uri::UriError::BadPort).ok_or(error)?;
            scan_hostport(text.get(..colon).unwrap_or("").as_bytes(), 0)
        })
        .map_err(bad)?;
    let host = text.get(..host_end).ok_or(HeaderError::BadVia)?;
    let rest = trim_start(text.get(after..).unwrap_or(""));
    match rest.strip_prefix(':') {
        Some(spaced) if port.is_none() => {
            let spaced = trim_start(spaced);
            let len = spaced.bytes().take_while(u8::is_ascii_digit).count();
            let port = spaced.get(..len).and_then(|p| p.parse().ok()).ok_or(HeaderError::BadVia)?;
            Ok((host, Some(port), trim_start(spaced.get(len..).unwrap_or(""))))
        }
        _ => Ok((host, port, rest)),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn reads_transport_host_port_and_parameters() {
        let via = Via::parse("SIP/2.0/UDP 192.0.2.1:5062;rport;branch=z9hG4bKabc;received=198.51.100.7").unwrap();
        assert_eq!((via.transport, via.host, via.port), ("UDP", "192.0.2.1", Some(5062)));
        assert_eq!(via.rfc3261_branch(), Some("z9hG4bKabc"));
        assert_eq!(via.rport(), Rport::Asked);
        assert_eq!(via.received(), "198.51.100.7".parse().ok());
    }

    #[test]
    fn reads_ipv6_and_white_space_where_the_grammar_allows_it() {
        let via = Via::parse("SIP  /  2.0 / TCP   [2001:db8::9]:5060 ; branch =  z9hG4bK30239;rport=7").unwrap();
        assert_eq!((via.transport, via.host, via.port), ("TCP", "[2001:db8::9]", Some(5060)));
        assert_eq!((via.branch(), via.rport()), (Some("z9hG4bK30239"), Rport::Port(7)));
        let via = Via::parse("SIP/2.0/UDP h : 5070 ;branch=x").unwrap();
        assert_eq!((via.host, via.port, via.branch()), ("h", Some(5070), Some("x")));
        let via = Via::parse("SIP/2.0/UDP h: 5070;branch=x").unwrap();
        assert_eq!((via.host, via.port), ("h", Some(5070)));
    }

    #[test]
    fn a_bare_magic_cookie_is_no_branch_of_rfc_3261() {
        let via = Via::parse("SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK").unwrap();
        assert_eq!((via.branch(), via.rfc3261_branch()), (Some("z9hG4bK"), None));
    }

    #[test]
    fn refuses_what_breaks_the_grammar() {
        for bad in [
            "",
            "SIP/2.0/UDP",
            "SIP/2.0/UDP ",
            "SIP/2.0 h",
            "HTTP/2.0/UDP h",
            "SIP/2.0/UDP h;;",
            "SIP/2.0/UDP h;a b",
            "SIP/2.0/UDP h:99999",
            "SIP/2.0/UDP h:",
            "SIP/2.0/UDP [::1",
            "SIP/2.0/UDP h x",
            "SIP/2.0/UDP h;=x",
            "SIP/2.0/UDP h : x",
        ] {
            assert!(Via::parse(bad).is_err(), "{bad}");
        }
    }
}
