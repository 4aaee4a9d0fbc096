//! A SIP message: its bytes, an index of its headers, and typed access that reads only what is asked for.

use std::fmt;
use std::net::SocketAddr;

use bytes::Bytes;

use crate::headers::params::{trim, trim_start};
use crate::headers::{CSeq, HeaderError, Name, NameAddr, Rport, Via, split_values};
use crate::method::Method;
use crate::uri::{Uri, UriError, decimal};

/// Of a message's Reason values those are told that fit into so many bytes together.
pub const REASONS_LIMIT: usize = 1_024;

/// A request or a response. What [`Message::parse_datagram`] or the stream framer answers has its `Via`, `From`, `To`,
/// `Call-ID`, `CSeq` and `Contact` checked; what stands in a [`crate::ParseError`] may lack any of them.
#[derive(Clone)]
pub struct Message {
    /// The whole message; folds are spaces.
    pub(crate) wire: Bytes,
    /// The head with `_` for bytes outside UTF-8, at the same offsets, where there are such.
    pub(crate) text: Option<Bytes>,
    pub(crate) start: Start,
    pub(crate) index: Vec<Entry>,
    pub(crate) body: (usize, usize),
    /// Where it came from, for the answer's top `Via`.
    pub(crate) source: Option<SocketAddr>,
}

/// Shows what kind of message it is, and nothing of who calls whom.
impl fmt::Debug for Message {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.start {
            Start::Request { method, .. } => write!(f, "Message({method}")?,
            Start::Response { code, .. } => write!(f, "Message({code}")?,
        }
        write!(f, ", {} headers, body of {} bytes)", self.index.len(), self.body().len())
    }
}

/// The first line.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum StartLine<'a> {
    /// `METHOD uri SIP/2.0`.
    Request {
        /// The method.
        method: &'a Method,
        /// The Request-URI as it was sent.
        uri: &'a str,
    },
    /// `SIP/2.0 code reason`.
    Response {
        /// 100 to 699.
        code: u16,
        /// May be empty.
        reason: &'a str,
    },
}

/// The first line by offsets.
#[derive(Debug, Clone)]
pub(crate) enum Start {
    Request { method: Method, uri: (usize, usize) },
    Response { code: u16, reason: (usize, usize) },
}

/// Where one header stands.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Entry {
    pub(crate) name: Name,
    pub(crate) name_len: u16,
    pub(crate) at: u32,
    pub(crate) value_from: u32,
    pub(crate) value_to: u32,
}

impl Entry {
    /// Takes white space off both ends of the value.
    pub(crate) fn trim(&mut self, data: &[u8]) {
        let blank = |at: u32| matches!(data.get(at as usize), Some(b' ' | b'\t'));
        while self.value_from < self.value_to && blank(self.value_from) {
            self.value_from += 1;
        }
        while self.value_from < self.value_to && blank(self.value_to - 1) {
            self.value_to -= 1;
        }
    }
}

impl Message {
    /// The first line.
    #[must_use]
    pub fn start_line(&self) -> StartLine<'_> {
        match &self.start {
            Start::Request { method, uri } => StartLine::Request { method, uri: self.slice(uri.0, uri.1) },
            Start::Response { code, reason } => {
                StartLine::Response { code: *code, reason: self.slice(reason.0, reason.1) }
            }
        }
    }

    /// Whether it is a request.
    #[must_use]
    pub fn is_request(&self) -> bool {
        matches!(self.start, Start::Request { .. })
    }

    /// The request's method; `None` for a response (see [`Message::cseq`]).
    #[must_use]
    pub fn method(&self) -> Option<&Method> {
        match &self.start {
            Start::Request { method, .. } => Some(method),
            Start::Response { .. } => None,
        }
    }

    /// The response's status code; `None` for a request.
    #[must_use]
    pub fn code(&self) -> Option<u16> {
        match self.start {
            Start::Request { .. } => None,
            Start::Response { code, .. } => Some(code),
        }
    }

    /// The response's reason phrase; empty for a request.
    #[must_use]
    pub fn reason(&self) -> &str {
        match self.start_line() {
            StartLine::Request { .. } => "",
            StartLine::Response { reason, .. } => reason,
        }
    }

    /// The Request-URI as it was sent; empty for a response.
    #[must_use]
    pub fn request_uri(&self) -> &str {
        match self.start_line() {
            StartLine::Request { uri, .. } => uri,
            StartLine::Response { .. } => "",
        }
    }

    /// The Request-URI taken apart.
    ///
    /// # Errors
    /// [`UriError`] for a response, or for a partial message whose URI is none.
    pub fn uri(&self) -> Result<Uri, UriError> {
        Uri::parse(self.request_uri())
    }

    /// The first line of this header, its value trimmed and unfolded.
    #[must_use]
    pub fn header(&self, name: Name) -> Option<&str> {
        self.index.iter().find(|e| e.name == name).map(|e| self.value(e))
    }

    /// Every line of this header, top down.
    pub fn headers(&self, name: Name) -> impl Iterator<Item = &str> {
        self.index.iter().filter(move |e| e.name == name).map(|e| self.value(e))
    }

    /// Every value of this header, top down, lines split at their commas. Not for headers whose values hold commas of
    /// their own (`WWW-Authenticate`, `Authorization`, `Date`).
    pub fn header_values(&self, name: Name) -> impl Iterator<Item = &str> {
        self.headers(name).flat_map(split_values)
    }

    /// The first line of a header by its text, in any case; finds known names by their full form too.
    #[must_use]
    pub fn header_named(&self, name: &str) -> Option<&str> {
        match Name::parse(name.as_bytes()) {
            Name::Other => self
                .index
                .iter()
                .filter(|e| e.name == Name::Other)
                .find(|e| self.name_of(e).eq_ignore_ascii_case(name))
                .map(|e| self.value(e)),
            known => self.header(known),
        }
    }

    /// Every header line in order: its name as it was sent and its value.
    pub fn all_headers(&self) -> impl Iterator<Item = (&str, &str)> {
        self.index.iter().map(|e| (self.name_of(e), self.value(e)))
    }

    /// The topmost `Via` value.
    ///
    /// # Errors
    /// In partial messages only.
    pub fn top_via(&self) -> Result<Via<'_>, HeaderError> {
        Via::parse(self.header_values(Name::Via).next().ok_or(HeaderError::Missing)?)
    }

    /// How many `Via` values there are.
    #[must_use]
    pub fn via_count(&self) -> usize {
        self.header_values(Name::Via).count()
    }

    /// `From`.
    ///
    /// # Errors
    /// In partial messages only.
    pub fn from_(&self) -> Result<NameAddr<'_>, HeaderError> {
        NameAddr::parse(self.header(Name::From).ok_or(HeaderError::Missing)?)
    }

    /// `To`.
    ///
    /// # Errors
    /// In partial messages only.
    pub fn to(&self) -> Result<NameAddr<'_>, HeaderError> {
        NameAddr::parse(self.header(Name::To).ok_or(HeaderError::Missing)?)
    }

    /// `CSeq`.
    ///
    /// # Errors
    /// In partial messages only.
    pub fn cseq(&self) -> Result<CSeq, HeaderError> {
        CSeq::parse(self.header(Name::CSeq).ok_or(HeaderError::Missing)?)
    }

    /// `Call-ID`; empty in partial messages that lack it.
    #[must_use]
    pub fn call_id(&self) -> &str {
        self.header(Name::CallId).unwrap_or("")
    }

    /// The one `Contact`.
    ///
    /// # Errors
    /// [`HeaderError::Missing`] where there is none, [`HeaderError::SeveralValues`] for several, [`HeaderError::BadUri`]
    /// for `*`.
    pub fn contact(&self) -> Result<NameAddr<'_>, HeaderError> {
        let mut values = self.header_values(Name::Contact);
        let first = values.next().ok_or(HeaderError::Missing)?;
        if values.next().is_some() {
            return Err(HeaderError::SeveralValues);
        }
        NameAddr::parse(first)
    }

    /// The values of `Route` or `Record-Route` in order.
    ///
    /// # Errors
    /// [`HeaderError`] at the first that is no address.
    pub fn routes(&self, name: Name) -> Result<Vec<NameAddr<'_>>, HeaderError> {
        self.header_values(name).map(NameAddr::parse).collect()
    }

    /// `Max-Forwards`, where there is one.
    #[must_use]
    pub fn max_forwards(&self) -> Option<u32> {
        decimal(self.header(Name::MaxForwards)?.as_bytes())
    }

    /// `Expires` in seconds, where there is one that is a number.
    #[must_use]
    pub fn expires_seconds(&self) -> Option<u32> {
        decimal(self.header(Name::Expires)?.as_bytes())
    }

    /// `Content-Type` without its parameters, as it was sent.
    #[must_use]
    pub fn content_type(&self) -> Option<&str> {
        self.header(Name::ContentType).map(|v| trim(v.split(';').next().unwrap_or(v)))
    }

    /// The values of every `Reason` (RFC 3326) with commas between them, as far as they stay within [`REASONS_LIMIT`]: for
    /// [`Reason::all`](crate::headers::Reason::all). `None` where there are none.
    #[must_use]
    pub fn reasons(&self) -> Option<String> {
        let mut reasons = String::new();
        for value in self.header_values(Name::Reason) {
            if reasons.len() + value.len() + 2 > REASONS_LIMIT {
                break;
            }
            reasons.push_str(if reasons.is_empty() { "" } else { ", " });
            reasons.push_str(value);
        }
        (!reasons.is_empty()).then_some(reasons)
    }

    /// Whether `Content-Type` is this one (`"application/sdp"`), in any case.
    #[must_use]
    pub fn has_content_type(&self, wanted: &str) -> bool {
        self.content_type().is_some_and(|t| t.eq_ignore_ascii_case(wanted))
    }

    /// The body.
    #[must_use]
    pub fn body(&self) -> &[u8] {
        self.wire.get(self.body.0..self.body.1).unwrap_or_default()
    }

    /// The body, sharing the message's memory.
    #[must_use]
    pub fn body_bytes(&self) -> Bytes {
        if self.body.0 >= self.body.1 || self.body.1 > self.wire.len() {
            return Bytes::new();
        }
        self.wire.slice(self.body.0..self.body.1)
    }

    /// The whole message as it goes, or came, over the wire (folded lines unfolded). What [`Message::set_source`] noted is
    /// not in it.
    #[must_use]
    pub fn bytes(&self) -> Bytes {
        self.wire.clone()
    }

    /// Notes where a request came from. Every answer made from it carries `received` and `rport` in its top `Via` as RFC
    /// 3261 section 18.2.1 and RFC 3581 section 4 say.
    pub fn set_source(&mut self, source: SocketAddr) {
        self.source = Some(source);
    }

    /// What [`Message::set_source`] noted.
    #[must_use]
    pub fn source(&self) -> Option<SocketAddr> {
        self.source
    }

    /// The `received` and `rport` values that the top `Via` of an answer must carry.
    #[must_use]
    pub(crate) fn via_additions(&self, via: &Via<'_>) -> (Option<std::net::IpAddr>, Option<u16>) {
        let Some(source) = self.source else {
            return (None, None);
        };
        let asked = via.rport() != Rport::Absent;
        let received = (asked || via.host_ip() != Some(source.ip())).then(|| source.ip());
        (received, asked.then(|| source.port()))
    }

    /// The same message in rsip's types, by way of its bytes; `None` where rsip cannot read it (compact and folded headers,
    /// unknown methods, `tel:`).
    #[must_use]
    pub fn to_rsip(&self) -> Option<rsip::SipMessage> {
        rsip::SipMessage::try_from(self.wire.get(..self.body.1)?).ok()
    }

    pub(crate) fn value(&self, entry: &Entry) -> &str {
        self.slice(entry.value_from as usize, entry.value_to as usize)
    }

    /// The value's bytes as they came, UTF-8 or not.
    pub(crate) fn value_bytes(&self, entry: &Entry) -> &[u8] {
        self.wire.get(entry.value_from as usize..entry.value_to as usize).unwrap_or_default()
    }

    pub(crate) fn name_of(&self, entry: &Entry) -> &str {
        let at = entry.at as usize;
        trim_start(self.slice(at, at + usize::from(entry.name_len)))
    }

    /// Text of the head. It is UTF-8 by construction and offsets stand at ASCII characters.
    fn slice(&self, from: usize, to: usize) -> &str {
        let head = self.text.as_ref().unwrap_or(&self.wire);
        head.get(from..to).and_then(|bytes| std::str::from_utf8(bytes).ok()).unwrap_or("")
    }
}
