//! Composing what goes out, straight into bytes.
//!
//! Received text is copied as it came (the parser has unfolded it); text from the user is cleared of line breaks first,
//! so that no header can be smuggled in.

use std::io::Write as _;
use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;

use super::event::{Destination, Source, Target, Transport};
use crate::build::reason_phrase;
use crate::headers::{Name, Rport, Via};
use crate::message::Message;

/// What every response to a request repeats of it (RFC 3261 section 8.2.6.2), composed once.
#[derive(Debug, Clone)]
pub(crate) struct Echo {
    /// Via lines, From, Call-ID and CSeq.
    head: Box<[u8]>,
    /// The To line without its end, for a tag to be added.
    to: Box<[u8]>,
    to_has_tag: bool,
    /// Record-Route lines, for what establishes a dialog (section 12.1.1).
    routes: Box<[u8]>,
}

impl Echo {
    /// Takes from a request what its responses repeat. `received` and `rport` are filled in (sections 18.2.1, RFC 3581).
    pub(crate) fn new(request: &Message, source: &Source) -> Self {
        let mut head = Vec::with_capacity(512);
        let mut to = Vec::with_capacity(96);
        let mut routes = Vec::new();
        let mut to_has_tag = false;
        let mut top = true;
        for entry in &request.index {
            match entry.name {
                Name::Via if top => {
                    top = false;
                    top_via_line(&mut head, request.value(entry), source);
                }
                Name::Via | Name::From | Name::CallId | Name::CSeq | Name::Timestamp => {
                    raw_line(&mut head, entry.name.as_str(), request.value_bytes(entry));
                }
                Name::To => {
                    to.extend_from_slice(b"To: ");
                    to.extend_from_slice(request.value_bytes(entry));
                    to_has_tag = request.to().is_ok_and(|to| to.tag().is_some());
                }
                Name::RecordRoute => raw_line(&mut routes, "Record-Route", request.value_bytes(entry)),
                _ => {}
            }
        }
        Self { head: head.into(), to: to.into(), to_has_tag, routes: routes.into() }
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
        let mut out = Vec::with_capacity(echo.head.len() + echo.to.len() + echo.routes.len() + body_bytes + 384);
        let reason = if self.reason.is_empty() { reason_phrase(self.code) } else { self.reason };
        let _ = write!(out, "SIP/2.0 {} {}\r\n", self.code, clean(reason));
        out.extend_from_slice(&echo.head);
        out.extend_from_slice(&echo.to);
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
    let _ = write!(out, "Content-Length: {}\r\n\r\n", body.len());
    out.extend_from_slice(body);
}

/// Text from the user made safe for a header: no line breaks, no other control characters.
pub(crate) fn clean(text: &str) -> std::borrow::Cow<'_, str> {
    if text.bytes().any(|byte| byte < 0x20 || byte == 0x7f) {
        text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect::<String>().into()
    } else {
        text.into()
    }
}

fn top_via_line(out: &mut Vec<u8>, value: &str, source: &Source) {
    let (first, rest) = match crate::headers::split_values(value).next() {
        Some(first) => {
            let end = (first.as_ptr() as usize + first.len()).saturating_sub(value.as_ptr() as usize);
            (first, value.get(end..).unwrap_or(""))
        }
        None => (value, ""),
    };
    out.extend_from_slice(b"Via: ");
    match Via::parse(first) {
        Ok(via) => {
            let asked = via.rport() != Rport::Absent;
            let params = via.params.as_str();
            let until = first.len().saturating_sub(params.len());
            out.extend_from_slice(first.get(..until).unwrap_or(first).trim_end_matches([' ', ';']).as_bytes());
            for (name, value) in via.params.iter() {
                if name.eq_ignore_ascii_case("rport") || name.eq_ignore_ascii_case("received") {
                    continue;
                }
                let _ = write!(out, ";{name}");
                if let Some(value) = value {
                    let _ = write!(out, "={value}");
                }
            }
            // RFC 3581 section 4: with rport asked for, received is added even where it equals sent-by.
            if asked || via.host_ip() != Some(source.remote.ip()) {
                let _ = write!(out, ";received={}", source.remote.ip());
            }
            if asked {
                let _ = write!(out, ";rport={}", source.remote.port());
            }
        }
        Err(_) => out.extend_from_slice(first.as_bytes()),
    }
    out.extend_from_slice(rest.as_bytes());
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
