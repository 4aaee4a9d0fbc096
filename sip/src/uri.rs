//! URIs: `sip:` and `sips:` taken apart (RFC 3261 section 19.1), `tel:` (RFC 3966) and every other scheme kept as text.

mod scan;

use std::fmt;
use std::net::IpAddr;
use std::str::FromStr;

use thiserror::Error;

use crate::headers::Params;
pub(crate) use scan::{Parts, decimal, scan, scan_hostport};

/// What kind of URI it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Scheme {
    /// `sip:`.
    Sip,
    /// `sips:`.
    Sips,
    /// `tel:`.
    Tel,
    /// Any other; what follows is opaque.
    Other,
}

/// Why text is no URI.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum UriError {
    /// No `scheme:` in front.
    #[error("no scheme")]
    NoScheme,
    /// A space, control character, quote or angle bracket inside.
    #[error("character that no URI may hold")]
    BadCharacter,
    /// `sip:` without a host.
    #[error("no host")]
    NoHost,
    /// A host that is neither name nor address.
    #[error("bad host")]
    BadHost,
    /// A port that is no number up to 65535.
    #[error("bad port")]
    BadPort,
    /// Longer than 65,535 bytes.
    #[error("too long")]
    TooLong,
}

/// A URI that owns its text. It prints exactly as it was read.
#[derive(Debug, Clone)]
pub struct Uri {
    text: Box<str>,
    parts: Parts,
}

impl Uri {
    /// Reads a URI.
    ///
    /// # Errors
    /// [`UriError`] says what is wrong with it.
    pub fn parse(text: &str) -> Result<Uri, UriError> {
        let parts = scan(text)?;
        Ok(Uri { text: text.into(), parts })
    }

    /// Makes `sip:user@host:port`. The user part is escaped as it needs; a bare IPv6 address gets its brackets.
    ///
    /// # Errors
    /// [`UriError`] where `host` is no host.
    pub fn sip(user: Option<&str>, host: &str, port: Option<u16>) -> Result<Uri, UriError> {
        let mut text = String::with_capacity(16 + host.len());
        text.push_str("sip:");
        if let Some(user) = user {
            escape_into(&mut text, user, |b| b.is_ascii_alphanumeric() || b"-_.!~*'()&=+$,;?/".contains(&b));
            text.push('@');
        }
        push_host(&mut text, host);
        if let Some(port) = port {
            text.push(':');
            text.push_str(&port.to_string());
        }
        Uri::parse(&text)
    }

    /// The same URI with `;name=value` (or `;name`) added behind its parameters.
    #[must_use]
    pub fn with_param(&self, name: &str, value: Option<&str>) -> Uri {
        let at = usize::from(self.parts.params.1).min(self.text.len());
        let (head, tail) = self.text.split_at_checked(at).unwrap_or((&self.text, ""));
        let mut text = String::with_capacity(self.text.len() + name.len() + 16);
        text.push_str(head);
        text.push(';');
        escape_into(&mut text, name, is_param_unreserved);
        if let Some(value) = value {
            text.push('=');
            escape_into(&mut text, value, is_param_unreserved);
        }
        text.push_str(tail);
        Uri::parse(&text).unwrap_or_else(|_| self.clone())
    }

    /// The text as it was read.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }

    /// What kind of URI it is.
    #[must_use]
    pub fn scheme(&self) -> Scheme {
        self.parts.scheme
    }

    /// The scheme as it was written, without the colon.
    #[must_use]
    pub fn scheme_str(&self) -> &str {
        self.text.get(..usize::from(self.parts.scheme_end)).unwrap_or("")
    }

    /// Whether it is `sip:` or `sips:`.
    #[must_use]
    pub fn is_sip(&self) -> bool {
        matches!(self.parts.scheme, Scheme::Sip | Scheme::Sips)
    }

    /// Whether it is `sips:`.
    #[must_use]
    pub fn is_sips(&self) -> bool {
        self.parts.scheme == Scheme::Sips
    }

    /// The user part as it was sent, escapes in it. For `tel:` the number. `None` where there is none.
    #[must_use]
    pub fn user(&self) -> Option<&str> {
        self.parts.user.map(|range| self.slice(range))
    }

    /// The user part with its `%HH` escapes resolved.
    #[must_use]
    pub fn user_decoded(&self) -> Option<String> {
        self.user().map(unescape)
    }

    /// The password of `user:password@host`.
    #[must_use]
    pub fn password(&self) -> Option<&str> {
        self.parts.password.map(|range| self.slice(range))
    }

    /// The host as it was sent, an IPv6 address in its brackets; for schemes other than `sip:` and `sips:` empty.
    #[must_use]
    pub fn host(&self) -> &str {
        self.slice(self.parts.host)
    }

    /// The host, with the port where one is named.
    #[must_use]
    pub fn authority(&self) -> String {
        self.port().map_or_else(|| self.host().to_owned(), |port| format!("{}:{port}", self.host()))
    }

    /// The host as an address, where it is one.
    #[must_use]
    pub fn host_ip(&self) -> Option<IpAddr> {
        parse_ip(self.host())
    }

    /// The port, where one is named.
    #[must_use]
    pub fn port(&self) -> Option<u16> {
        self.parts.port
    }

    /// The URI's own parameters.
    #[must_use]
    pub fn params(&self) -> Params<'_> {
        Params::new(self.slice(self.parts.params))
    }

    /// The `transport` parameter.
    #[must_use]
    pub fn transport(&self) -> Option<&str> {
        self.params().get("transport")
    }

    /// Whether the `lr` parameter is there: a loose router (RFC 3261 section 19.1.1).
    #[must_use]
    pub fn is_loose_router(&self) -> bool {
        self.params().has("lr")
    }

    /// What follows `?`.
    #[must_use]
    pub fn headers(&self) -> Option<&str> {
        self.parts.headers.map(|range| self.slice(range))
    }

    /// The URI without its headers and without the parameters that no Request-URI may hold (`method`; RFC 3261
    /// section 19.1.1), fit for a start line.
    #[must_use]
    pub fn for_request_uri(&self) -> Uri {
        let drop_headers = self.parts.headers.is_some();
        if !self.is_sip() || (!drop_headers && !self.params().has("method")) {
            return self.clone();
        }
        let head = self.text.get(..usize::from(self.parts.params.0)).unwrap_or(&self.text);
        let mut text = head.to_owned();
        for (name, value) in self.params().iter().filter(|(name, _)| !name.eq_ignore_ascii_case("method")) {
            text.push(';');
            text.push_str(name);
            if let Some(value) = value {
                text.push('=');
                text.push_str(value);
            }
        }
        Uri::parse(&text).unwrap_or_else(|_| self.clone())
    }

    /// Whether both name the same resource by RFC 3261 section 19.1.4.
    #[must_use]
    pub fn is_equivalent(&self, other: &Uri) -> bool {
        if !self.is_sip() || !other.is_sip() {
            return self.scheme_str().eq_ignore_ascii_case(other.scheme_str())
                && self.text.get(usize::from(self.parts.scheme_end)..)
                    == other.text.get(usize::from(other.parts.scheme_end)..);
        }
        self.scheme() == other.scheme()
            && self.user_decoded() == other.user_decoded()
            && self.password().map(unescape) == other.password().map(unescape)
            && self.host().eq_ignore_ascii_case(other.host())
            && self.port() == other.port()
            && params_agree(self.params(), other.params())
            && params_agree(other.params(), self.params())
            && headers_agree(self.headers(), other.headers())
    }

    fn slice(&self, (start, end): (u16, u16)) -> &str {
        self.text.get(usize::from(start)..usize::from(end)).unwrap_or("")
    }
}

impl fmt::Display for Uri {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for Uri {
    type Err = UriError;

    fn from_str(text: &str) -> Result<Uri, UriError> {
        Uri::parse(text)
    }
}

/// The same text.
impl PartialEq for Uri {
    fn eq(&self, other: &Uri) -> bool {
        self.text == other.text
    }
}

impl Eq for Uri {}

/// For code that speaks rsip's types. Fails on what rsip does not know (`tel:`, odd schemes, IPv6 in `sips:`).
impl TryFrom<&Uri> for rsip::Uri {
    type Error = rsip::Error;

    fn try_from(uri: &Uri) -> Result<rsip::Uri, rsip::Error> {
        rsip::Uri::try_from(uri.as_str())
    }
}

/// From rsip's type, by its text.
impl TryFrom<&rsip::Uri> for Uri {
    type Error = UriError;

    fn try_from(uri: &rsip::Uri) -> Result<Uri, UriError> {
        Uri::parse(&uri.to_string())
    }
}

/// Reads an address, with or without brackets around IPv6.
#[must_use]
pub fn parse_ip(host: &str) -> Option<IpAddr> {
    host.strip_prefix('[').and_then(|h| h.strip_suffix(']')).unwrap_or(host).parse().ok()
}

/// Writes a host: a bare IPv6 address gets brackets.
pub(crate) fn push_host(out: &mut String, host: &str) {
    if host.contains(':') && !host.starts_with('[') {
        out.push('[');
        out.push_str(host);
        out.push(']');
    } else {
        out.push_str(host);
    }
}

/// The user part of a URI as its text has it, unescaped, in lower case; of `tel:` the number without what people write between digits (RFC 3966
/// section 5.1.1). Nothing else of it has to be right: it is empty where there is none.
#[must_use]
pub fn user_of(uri: &str) -> String {
    let Some((user, is_tel)) = user_text(uri) else { return String::new() };
    let user = unescape(user.split([':', ';']).next().unwrap_or_default()).to_lowercase();
    if is_tel { user.replace(|c| "-.() ".contains(c), "") } else { user }
}

/// Where a local number is one (RFC 3966 section 5.1.5): `+49`, or a domain. Of `tel:`, and of the user part of a SIP URI that was made of it
/// (RFC 3261 section 19.1.6).
#[must_use]
pub fn phone_context(uri: &str) -> Option<String> {
    let (user, _) = user_text(uri)?;
    let params = user.split(';').skip(1).filter_map(|param| param.split_once('='));
    let mut contexts = params.filter(|(name, _)| name.eq_ignore_ascii_case("phone-context"));
    contexts.next().map(|(_, context)| unescape(context))
}

/// What stands before the host, or of `tel:` all; and whether it is that.
fn user_text(uri: &str) -> Option<(&str, bool)> {
    let (scheme, rest) = uri.split_once(':')?;
    let is_tel = scheme.eq_ignore_ascii_case("tel");
    match rest.split_once('@') {
        Some((user, _)) => Some((user, is_tel)),
        None => is_tel.then_some((rest, true)),
    }
}

/// Resolves `%HH` escapes; what they make that is not UTF-8 is shown as U+FFFD.
#[must_use]
pub fn unescape(text: &str) -> String {
    if !text.contains('%') {
        return text.to_owned();
    }
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let escaped = match (first, tail) {
            (b'%', [a, b, ..]) => hex(*a).zip(hex(*b)).map(|(a, b)| a << 4 | b),
            _ => None,
        };
        out.push(escaped.unwrap_or(first));
        rest = if escaped.is_some() { tail.get(2..).unwrap_or_default() } else { tail };
    }
    String::from_utf8_lossy(&out).into_owned()
}

/// Escapes text for a URI's header part (`hnv-unreserved` stays; RFC 3261 section 25.1).
pub(crate) fn escape_header(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 16);
    escape_into(&mut out, text, |b| b.is_ascii_alphanumeric() || b"-_.!~*'()[]/?:+$".contains(&b));
    out
}

fn escape_into(out: &mut String, text: &str, is_plain: impl Fn(u8) -> bool) {
    for &b in text.as_bytes() {
        if is_plain(b) {
            out.push(char::from(b));
        } else {
            out.push('%');
            for nibble in [b >> 4, b & 15] {
                out.push(char::from_digit(u32::from(nibble), 16).unwrap_or('0').to_ascii_uppercase());
            }
        }
    }
}

fn hex(b: u8) -> Option<u8> {
    char::from(b).to_digit(16).and_then(|d| u8::try_from(d).ok())
}

fn is_param_unreserved(b: u8) -> bool {
    b.is_ascii_alphanumeric() || b"-_.!~*'()[]/:&+$".contains(&b)
}

/// Each parameter of `a` that must match is in `b` with the same value (RFC 3261 section 19.1.4).
fn params_agree(a: Params<'_>, b: Params<'_>) -> bool {
    let same =
        |a: Option<&str>, b: Option<&str>| unescape(a.unwrap_or("")).eq_ignore_ascii_case(&unescape(b.unwrap_or("")));
    a.iter().all(|(name, value)| {
        let mut others = b.iter().filter(|(other, _)| other.eq_ignore_ascii_case(name)).peekable();
        if others.peek().is_none() {
            let must = ["user", "ttl", "method", "maddr", "transport"];
            return !must.iter().any(|m| name.eq_ignore_ascii_case(m));
        }
        others.any(|(_, other)| same(value, other))
    })
}

fn headers_agree(a: Option<&str>, b: Option<&str>) -> bool {
    let sorted = |text: Option<&str>| {
        let mut fields: Vec<String> =
            text.into_iter().flat_map(|t| t.split('&')).filter(|f| !f.is_empty()).map(unescape).collect();
        fields.sort();
        fields
    };
    sorted(a) == sorted(b)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn takes_a_full_sip_uri_apart() {
        let uri = Uri::parse("SIP:al%69ce:pw@[2001:db8::1]:5070;transport=tcp;lr?Subject=a&x=y").unwrap();
        assert_eq!(uri.scheme(), Scheme::Sip);
        assert_eq!(uri.user(), Some("al%69ce"));
        assert_eq!(uri.user_decoded().unwrap(), "alice");
        assert_eq!(uri.password(), Some("pw"));
        assert_eq!(uri.host(), "[2001:db8::1]");
        assert_eq!(uri.host_ip(), "2001:db8::1".parse().ok());
        assert_eq!(uri.port(), Some(5070));
        assert_eq!(uri.transport(), Some("tcp"));
        assert!(uri.is_loose_router());
        assert_eq!(uri.headers(), Some("Subject=a&x=y"));
        assert_eq!(uri.for_request_uri().as_str(), "SIP:al%69ce:pw@[2001:db8::1]:5070;transport=tcp;lr");
    }

    #[test]
    fn keeps_tel_and_unknown_schemes_as_text() {
        let tel = Uri::parse("tel:+1-201-555-0123;phone-context=example.com").unwrap();
        assert_eq!((tel.scheme(), tel.user(), tel.host()), (Scheme::Tel, Some("+1-201-555-0123"), ""));
        assert_eq!(tel.params().get("phone-context"), Some("example.com"));
        let other = Uri::parse("soap.beep://192.0.2.103:3002").unwrap();
        assert_eq!((other.scheme(), other.scheme_str()), (Scheme::Other, "soap.beep"));
        assert_eq!(other.as_str(), "soap.beep://192.0.2.103:3002");
    }

    #[test]
    fn refuses_what_is_no_uri() {
        for (text, error) in [
            ("", UriError::NoScheme),
            ("alan@jasomi.com", UriError::NoScheme),
            ("<sip:a@b>", UriError::BadCharacter),
            ("sip:a@b; lr", UriError::BadCharacter),
            ("sip:", UriError::NoHost),
            ("sip:a@", UriError::NoHost),
            ("sip:@b", UriError::NoHost),
            ("sip:a@[::1", UriError::BadHost),
            ("sip:a@[zz]", UriError::BadHost),
            ("sip:a@b:65536", UriError::BadPort),
            ("sip:a@b:", UriError::BadPort),
            ("sip:a@b,c", UriError::BadHost),
            ("tel:", UriError::NoHost),
            ("x:", UriError::NoHost),
        ] {
            assert_eq!(Uri::parse(text).unwrap_err(), error, "{text}");
        }
        assert_eq!(Uri::parse(&format!("sip:{}", "a".repeat(70_000))).unwrap_err(), UriError::TooLong);
    }

    #[test]
    fn compares_as_rfc_3261_19_1_4_lists() {
        let same = |a: &str, b: &str| Uri::parse(a).unwrap().is_equivalent(&Uri::parse(b).unwrap());
        assert!(same("sip:%61lice@atlanta.com;transport=TCP", "sip:alice@AtLanTa.CoM;Transport=tcp"));
        assert!(same("sip:carol@chicago.com", "sip:carol@chicago.com;newparam=5"));
        assert!(same("sip:carol@chicago.com;newparam=5", "sip:carol@chicago.com;security=on"));
        assert!(same("sip:a@b?x=1&y=2", "sip:a@b?y=2&x=1"));
        assert!(!same("sip:ALICE@atlanta.com", "sip:alice@atlanta.com"));
        assert!(!same("sip:bob@biloxi.com", "sip:bob@biloxi.com:5060"));
        assert!(!same("sip:bob@biloxi.com", "sip:bob@biloxi.com;transport=udp"));
        assert!(!same("sip:carol@chicago.com;security=off", "sip:carol@chicago.com;security=on"));
        assert!(!same("sip:a@b", "sips:a@b"));
    }

    /// Found by fuzzing.
    #[test]
    fn a_uri_with_a_parameter_twice_is_equivalent_to_itself() {
        let uri = Uri::parse("sip:user;par=u%40h.;e;par=u%20h.;z").unwrap();
        assert!(uri.is_equivalent(&uri));
    }

    #[test]
    fn makes_uris_with_what_must_be_escaped() {
        let uri = Uri::sip(Some("a b@c"), "::1", Some(5060)).unwrap();
        assert_eq!(uri.as_str(), "sip:a%20b%40c@[::1]:5060");
        assert_eq!(uri.user_decoded().unwrap(), "a b@c");
        assert_eq!(
            uri.with_param("lr", None).with_param("x", Some("1;2")).as_str(),
            "sip:a%20b%40c@[::1]:5060;lr;x=1%3B2"
        );
        assert!(Uri::sip(None, "a b", None).is_err());
    }

    #[test]
    fn goes_to_rsip_and_back_where_rsip_knows_the_scheme() {
        let uri = Uri::parse("sip:alice@example.com:5070;transport=tcp").unwrap();
        let theirs = rsip::Uri::try_from(&uri).unwrap();
        assert!(Uri::try_from(&theirs).unwrap().is_equivalent(&uri));
    }

    #[test]
    fn the_number_called_is_read_out_of_any_uri() {
        for (uri, user) in [
            ("sip:Agent@host", "agent"),
            ("sip:echo:secret@host;transport=tcp", "echo"),
            ("sips:%65cho@[::1]:5061", "echo"),
            ("sip:desk;isub=1@host", "desk"),
            ("tel:+1555;phone-context=x", "+1555"),
            ("TEL:030%2D(17).7-7;phone-context=+49", "0301777"),
            ("sip:a-b.c@host", "a-b.c"),
            ("sip:host", ""),
            ("nonsense", ""),
            ("sip:%zz@host", "%zz"),
            ("sip:%4@host", "%4"),
        ] {
            assert_eq!(user_of(uri), user, "{uri}");
        }
    }
    /// Conforms: RFC 3966 §5.1.5 — a local number says where it is one.
    #[test]
    fn the_context_of_a_local_number_is_read_out_of_any_uri() {
        for (uri, context) in [
            ("tel:030-1777;phone-context=+49", Some("+49")),
            ("tel:7042;isub=1;Phone-Context=example.com", Some("example.com")),
            ("sip:7042;phone-context=%2B49@host;user=phone", Some("+49")),
            ("tel:+4930", None),
            ("sip:7042@host;phone-context=+49", None),
            ("sip:host;phone-context=+49", None),
            ("7042", None),
        ] {
            assert_eq!(phone_context(uri).as_deref(), context, "{uri}");
        }
    }
}
