//! Composing what goes out, straight into bytes.
//!
//! Received text is copied as it came (the parser has unfolded it); text from the user is cleared of line breaks first,
//! so that no header can be smuggled in.

use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;

use super::event::{Destination, Source, Target, Transport};
use crate::build::reason_phrase;
use crate::headers::params::quoted_len;
use crate::headers::{Name, Params, Rport, Via};
use crate::message::Message;

/// What every response to a request repeats of it (RFC 3261 section 8.2.6.2), composed once.
#[derive(Debug, Clone)]
pub(crate) struct Echo {
    /// Via lines, From, Call-ID, CSeq; then the To line without its end, for a tag to be added.
    head: Vec<u8>,
    to_has_tag: bool,
    /// Record-Route lines, for what establishes a dialog (section 12.1.1).
    routes: Vec<u8>,
}

impl Echo {
    /// Takes from a request what its responses repeat. `received` and `rport` are filled in (sections 18.2.1, RFC 3581).
    pub(crate) fn new(request: &Message, via: Option<&Via<'_>>, source: &Source) -> Self {
        let mut head = Vec::with_capacity(448);
        let mut to: &[u8] = &[];
        let mut routes = Vec::new();
        let mut to_has_tag = false;
        let mut top = true;
        for entry in &request.index {
            match entry.name {
                Name::Via if top => {
                    top = false;
                    top_via_line(&mut head, request.value(entry), via, source);
                }
                Name::Via | Name::From | Name::CallId | Name::CSeq | Name::Timestamp => {
                    raw_line(&mut head, entry.name.as_str(), request.value_bytes(entry));
                }
                Name::To => {
                    to = request.value_bytes(entry);
                    to_has_tag = tag_of(request.value(entry)).is_some();
                }
                Name::RecordRoute => raw_line(&mut routes, "Record-Route", request.value_bytes(entry)),
                _ => {}
            }
        }
        head.extend_from_slice(b"To: ");
        head.extend_from_slice(to);
        Self { head, to_has_tag, routes }
    }

    /// Whether the request had a To tag, so that the response needs none of ours.
    pub(crate) fn has_tag(&self) -> bool {
        self.to_has_tag
    }
}

/// The tag in the From or To of a message that has been checked, without taking the whole value apart.
pub(crate) fn tag_of(value: &str) -> Option<&str> {
    Params::new(behind_uri(value)).get("tag").filter(|tag| !tag.is_empty())
}

/// The URI in the From or To of a message that has been checked.
pub(crate) fn uri_of(value: &str) -> &str {
    let behind = behind_uri(value);
    let uri = value.get(..value.len() - behind.len()).unwrap_or(value).trim_end_matches([' ', '\t', '>']);
    match uri.rfind('<') {
        Some(open) => uri.get(open + 1..).unwrap_or(uri),
        None => uri,
    }
}

/// What follows the URI of an address value: its parameters.
fn behind_uri(value: &str) -> &str {
    let display = if value.starts_with('"') { quoted_len(value).unwrap_or(0) } else { 0 };
    let rest = value.get(display..).unwrap_or("");
    match memchr::memchr(b'<', rest.as_bytes()) {
        Some(open) => {
            let close = memchr::memchr(b'>', rest.as_bytes().get(open..).unwrap_or_default()).map(|at| open + at + 1);
            close.and_then(|close| rest.get(close..)).unwrap_or("")
        }
        None => memchr::memchr(b';', rest.as_bytes()).and_then(|at| rest.get(at..)).unwrap_or(""),
    }
}

/// A response being composed.
pub(crate) struct Response<'a> {
    pub(crate) code: u16,
    /// The reason phrase; empty takes the usual one.
    pub(crate) reason: &'a str,
    /// Our tag, put into To where the request had none.
    pub(crate) tag: Option<&'a str>,
    /// Whether Record-Route is repeated.
    pub(crate) routes: bool,
    /// Further headers; names and values must be free of line breaks or come through [`clean`].
    pub(crate) headers: &'a [(&'a str, &'a str)],
    pub(crate) body: Option<(&'a str, &'a [u8])>,
}

impl<'a> Response<'a> {
    pub(crate) fn new(code: u16) -> Self {
        Self { code, reason: "", tag: None, routes: false, headers: &[], body: None }
    }

    /// The whole response.
    pub(crate) fn to_bytes(&self, echo: &Echo) -> Bytes {
        let body_bytes = self.body.map_or(0, |(_, body)| body.len());
        let of_headers: usize = self.headers.iter().map(|(name, value)| name.len() + value.len() + 4).sum();
        let routes_bytes = if self.routes { echo.routes.len() } else { 0 };
        let mut out = Vec::with_capacity(echo.head.len() + routes_bytes + of_headers + body_bytes + 160);
        out.extend_from_slice(b"SIP/2.0 ");
        number(&mut out, usize::from(self.code));
        out.push(b' ');
        let reason = if self.reason.is_empty() { reason_phrase(self.code).into() } else { clean(self.reason) };
        out.extend_from_slice(reason.as_bytes());
        out.extend_from_slice(b"\r\n");
        out.extend_from_slice(&echo.head);
        if let Some(tag) = self.tag.filter(|_| !echo.to_has_tag) {
            out.extend_from_slice(b";tag=");
            out.extend_from_slice(tag.as_bytes());
        }
        out.extend_from_slice(b"\r\n");
        if self.routes {
            out.extend_from_slice(&echo.routes);
        }
        for (name, value) in self.headers {
            line(&mut out, name, value);
        }
        content(&mut out, self.body);
        Bytes::from(out)
    }
}

/// Appends `Name: value`.
pub(crate) fn line(out: &mut Vec<u8>, name: &str, value: &str) {
    raw_line(out, name, value.as_bytes());
}

fn raw_line(out: &mut Vec<u8>, name: &str, value: &[u8]) {
    out.extend_from_slice(name.as_bytes());
    out.extend_from_slice(b": ");
    out.extend_from_slice(value);
    out.extend_from_slice(b"\r\n");
}

/// Appends Content-Type, Content-Length, the empty line and the body.
pub(crate) fn content(out: &mut Vec<u8>, body: Option<(&str, &[u8])>) {
    let (kind, body) = body.unwrap_or_default();
    if !kind.is_empty() {
        line(out, "Content-Type", kind);
    }
    out.extend_from_slice(b"Content-Length: ");
    number(out, body.len());
    out.extend_from_slice(b"\r\n\r\n");
    out.extend_from_slice(body);
}

fn number(out: &mut Vec<u8>, number: usize) {
    let mut digits = [0; 20];
    let (mut at, mut rest) = (digits.len(), number);
    loop {
        at -= 1;
        if let Some(digit) = digits.get_mut(at) {
            *digit = b'0' + (rest % 10) as u8;
        }
        rest /= 10;
        if rest == 0 || at == 0 {
            break;
        }
    }
    out.extend_from_slice(digits.get(at..).unwrap_or_default());
}

/// Text from the user made safe for a header: no line breaks, no other control characters.
pub(crate) fn clean(text: &str) -> std::borrow::Cow<'_, str> {
    if text.bytes().any(|byte| byte < 0x20 || byte == 0x7f) {
        text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect::<String>().into()
    } else {
        text.into()
    }
}

/// The line of the top Via: `via` is its first value, taken apart.
fn top_via_line(out: &mut Vec<u8>, value: &str, via: Option<&Via<'_>>, source: &Source) {
    let Some(via) = via else { return raw_line(out, "Via", value.as_bytes()) };
    let params = via.params.as_str();
    let at = |address: usize| address.saturating_sub(value.as_ptr() as usize);
    let (from, until) = (at(params.as_ptr() as usize), at(params.as_ptr() as usize + params.len()));
    if from == 0 || until > value.len() {
        // Not of this value.
        return raw_line(out, "Via", value.as_bytes());
    }
    let asked = via.rport() != Rport::Absent;
    out.extend_from_slice(b"Via: ");
    let head = value.get(..from).unwrap_or(value);
    out.extend_from_slice(head.trim_end_matches([' ', ';']).as_bytes());
    for (name, value) in via.params.iter() {
        if name.eq_ignore_ascii_case("rport") || name.eq_ignore_ascii_case("received") {
            continue;
        }
        out.push(b';');
        out.extend_from_slice(name.as_bytes());
        if let Some(value) = value {
            out.push(b'=');
            out.extend_from_slice(value.as_bytes());
        }
    }
    // RFC 3581 section 4: with rport asked for, received is added even where it equals sent-by.
    if asked || via.host_ip() != Some(source.remote.ip()) {
        let _ = write!(out, ";received={}", source.remote.ip());
    }
    if asked {
        out.extend_from_slice(b";rport=");
        number(out, usize::from(source.remote.port()));
    }
    out.extend_from_slice(value.get(until..).unwrap_or("").as_bytes());
    out.extend_from_slice(b"\r\n");
}

/// Where the responses to a request go: RFC 3261 section 18.2.2 and RFC 3581. `maddr` is not honoured: it would let
/// anybody aim our answers at anybody.
pub(crate) fn reply_destination(via: &Via<'_>, source: &Source) -> Destination {
    let port = match via.rport() {
        Rport::Absent => via.port_or_default(),
        _ if source.transport == Transport::Udp => source.remote.port(),
        _ => via.port_or_default(),
    };
    Destination {
        transport: source.transport,
        flow: Some(source.flow),
        target: Target::Address(SocketAddr::new(source.remote.ip(), port)),
    }
}

/// An address as a host: IPv6 in brackets.
pub(crate) struct Host(pub(crate) IpAddr);

impl std::fmt::Display for Host {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self.0 {
            IpAddr::V4(ip) => ip.fmt(f),
            IpAddr::V6(ip) => write!(f, "[{ip}]"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tags_and_uris_are_found_as_the_full_parser_finds_them() {
        for value in [
            "<sip:a@b>;tag=1",
            "\"A <;tag=no> \\\" B\" <sip:a@b;x=y;tag=no>;p=\"q\";tag=2",
            "Anna Q <sips:a@[::1]:5>;tag=3",
            "sip:a@b;tag=4",
            "sip:a@b",
            "<sip:a@b;tag=no>",
            "\"\"<sip:a@b> ; tag = 5",
        ] {
            let full = crate::headers::NameAddr::parse(value);
            assert!(full.is_ok(), "{value}");
            let Ok(full) = full else { continue };
            assert_eq!(tag_of(value), full.tag(), "{value}");
            assert_eq!(uri_of(value), full.uri_text, "{value}");
        }
    }

    #[test]
    fn numbers_are_written_in_decimal() {
        for value in [0, 7, 10, 65_535, usize::MAX] {
            let mut out = Vec::new();
            number(&mut out, value);
            assert_eq!(out, value.to_string().into_bytes());
        }
    }
}
