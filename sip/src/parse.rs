//! From bytes to an indexed [`Message`]: one pass over the head, one allocation for the index.
//!
//! RFC 3261 section 7 with the tolerance that section 7.5 and the torture tests (RFC 4475) ask for: leading CRLFs, folded
//! lines, compact names, bare LF as a line's end, bytes that are not UTF-8. Offsets into the message are kept, so nothing
//! is copied; only a message with folds or with bytes outside UTF-8 is copied once, byte for byte at the same offsets.
//!
//! A fault never hides the rest: the head is read as far as it goes, so that the caller can answer
//! ([`ParseError::answer`]).

mod check;

use bytes::{Bytes, BytesMut};
use thiserror::Error;

use crate::headers::params::is_token_byte;
use crate::headers::{HeaderError, Name};
use crate::message::{Entry, Message, Start};
use crate::method::Method;
use crate::uri::{UriError, decimal};

/// What a message may cost. Each limit has a test at limit + 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Head and body together; beyond it 513.
    pub max_message_bytes: usize,
    /// The Request-URI; beyond it 414.
    pub max_uri_bytes: usize,
    /// One header line, unfolded, name and all; beyond it 400.
    pub max_header_bytes: usize,
    /// Header lines; beyond it 400.
    pub max_headers: usize,
    /// `Via` values; beyond it 400.
    pub max_vias: usize,
    /// Values of `Contact`, `Route` and `Record-Route`, each; beyond it 400.
    pub max_values: usize,
}

impl Default for Limits {
    fn default() -> Limits {
        Limits {
            max_message_bytes: 65_535,
            max_uri_bytes: 2_048,
            max_header_bytes: 16_384,
            max_headers: 128,
            max_vias: 70,
            max_values: 32,
        }
    }
}

/// Where a message ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Framing {
    /// With the datagram, or earlier where `Content-Length` says so (RFC 3261 section 18.3).
    Datagram,
    /// Exactly where `Content-Length` says.
    Stream,
}

/// What is wrong with a message.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ParseErrorKind {
    /// Nothing but line ends: a keep-alive, not a message (RFC 5626 section 3.5.1).
    #[error("empty")]
    Empty,
    /// No empty line ends the head.
    #[error("head does not end")]
    UnterminatedHead,
    /// The first line is neither request nor status line.
    #[error("bad start line")]
    BadStartLine,
    /// Another version than SIP/2.0.
    #[error("SIP version not supported")]
    UnsupportedVersion,
    /// The Request-URI cannot be read, or holds headers.
    #[error("bad Request-URI: {0}")]
    BadUri(UriError),
    /// The Request-URI is longer than allowed.
    #[error("Request-URI of {bytes} bytes, at most {limit}")]
    UriTooLong {
        /// Its length.
        bytes: usize,
        /// [`Limits::max_uri_bytes`].
        limit: usize,
    },
    /// The status code is outside 100 to 699.
    #[error("bad status code")]
    BadStatusCode,
    /// The message is larger than allowed.
    #[error("message of {bytes} bytes, at most {limit}")]
    MessageTooLarge {
        /// Its length, as far as it is known.
        bytes: usize,
        /// [`Limits::max_message_bytes`].
        limit: usize,
    },
    /// More header lines than allowed.
    #[error("more than {limit} header lines")]
    TooManyHeaders {
        /// [`Limits::max_headers`].
        limit: usize,
    },
    /// A header line longer than allowed.
    #[error("header line of {bytes} bytes, at most {limit}")]
    HeaderTooLong {
        /// Its length.
        bytes: usize,
        /// [`Limits::max_header_bytes`].
        limit: usize,
    },
    /// A line without colon, with a name that is no token, or with a stray carriage return.
    #[error("bad header line")]
    BadHeaderLine,
    /// A header that every message has is not there.
    #[error("no {0}")]
    MissingHeader(Name),
    /// A header that may stand once stands twice.
    #[error("more than one {0}")]
    DuplicateHeader(Name),
    /// A header whose value breaks its grammar.
    #[error("bad {name}: {error}")]
    BadHeader {
        /// Which.
        name: Name,
        /// What is wrong with it.
        error: HeaderError,
    },
    /// More values in a header than allowed.
    #[error("more than {limit} values in {name}")]
    TooManyValues {
        /// Which.
        name: Name,
        /// [`Limits::max_vias`] or [`Limits::max_values`].
        limit: usize,
    },
    /// `Content-Length` is no number, is negative or too large.
    #[error("bad Content-Length")]
    BadContentLength,
    /// A stream's message without `Content-Length`: nobody knows where it ends.
    #[error("no Content-Length on a stream")]
    NoContentLength,
    /// Fewer bytes than `Content-Length` says.
    #[error("body of {bytes} bytes, Content-Length {declared}")]
    BodyTooShort {
        /// What `Content-Length` says.
        declared: usize,
        /// What is there.
        bytes: usize,
    },
    /// The request's method and the one in `CSeq` differ.
    #[error("method and CSeq differ")]
    MethodMismatch,
}

/// A message that cannot be taken: what is wrong, where, and what was readable of it.
#[derive(Debug, Clone, Error)]
#[error("{kind} (at byte {at})")]
pub struct ParseError {
    /// The first fault met.
    pub kind: ParseErrorKind,
    /// Offset of the fault in the bytes received, or of the head's end where something is missing.
    pub at: usize,
    /// What could be read, where there was a start line.
    pub partial: Option<Box<Message>>,
}

impl ParseError {
    /// The status code a request with this fault is answered with.
    #[must_use]
    pub fn code(&self) -> u16 {
        match self.kind {
            ParseErrorKind::UnsupportedVersion => 505,
            ParseErrorKind::UriTooLong { .. } => 414,
            ParseErrorKind::MessageTooLarge { .. } => 513,
            _ => 400,
        }
    }

    /// The request and the code to answer it with. `None` for what must be dropped without a word: responses, ACK, and
    /// requests without `Via`. Where there is a `Via` that cannot be read, the answer goes to where the request came from.
    #[must_use]
    pub fn answer(&self) -> Option<(&Message, u16)> {
        let partial = self.partial.as_deref()?;
        let answerable = partial.method().is_some_and(|m| *m != Method::Ack) && partial.header(Name::Via).is_some();
        answerable.then(|| (partial, self.code()))
    }
}

impl Message {
    /// Reads one message from one datagram. Bytes behind the end that `Content-Length` names are ignored.
    ///
    /// # Errors
    /// [`ParseError`], with what could be read of the message so that it can be answered.
    pub fn parse_datagram(data: Bytes, limits: &Limits) -> Result<Message, ParseError> {
        parse(data, limits, Framing::Datagram)
    }
}

/// Reads one message.
pub(crate) fn parse(data: Bytes, limits: &Limits, framing: Framing) -> Result<Message, ParseError> {
    let begin = data.iter().take_while(|b| matches!(b, b'\r' | b'\n')).count();
    if begin == data.len() {
        return Err(ParseError { kind: ParseErrorKind::Empty, at: begin, partial: None });
    }
    let mut faults = Faults { first: None };
    if data.len() - begin > limits.max_message_bytes {
        let kind = ParseErrorKind::MessageTooLarge { bytes: data.len() - begin, limit: limits.max_message_bytes };
        faults.note(kind, begin);
    }
    let Some((start, after_start)) = start_line(&data, begin, limits, &mut faults) else {
        let (kind, at) = faults.first.unwrap_or((ParseErrorKind::BadStartLine, begin));
        return Err(ParseError { kind, at, partial: None });
    };
    let mut head = Head { index: Vec::with_capacity(32), end: data.len(), folded: false };
    head.read(&data, after_start, limits, &mut faults);
    let (wire, text) = settle(data, &mut head);
    let body_end = body_end(&wire, &head, limits, framing, &mut faults);
    let body = (head.end.min(body_end), body_end);
    let message = Message { wire, text, start, index: head.index, body, source: None };
    if faults.first.is_none()
        && let Err((kind, at)) = check::check(&message, limits)
    {
        faults.note(kind, at);
    }
    match faults.first {
        None => Ok(message),
        Some((kind, at)) => Err(ParseError { kind, at, partial: Some(Box::new(message)) }),
    }
}

/// The first fault and its place; later ones are mostly its consequences.
struct Faults {
    first: Option<(ParseErrorKind, usize)>,
}

impl Faults {
    fn note(&mut self, kind: ParseErrorKind, at: usize) {
        if self.first.is_none() {
            self.first = Some((kind, at));
        }
    }
}

/// Finds the end of the line that starts at `from`: where its text ends and where the next line starts. A carriage
/// return that no line feed follows is a fault (`Err` with its place).
pub(crate) fn line_end(data: &[u8], from: usize) -> Result<Option<(usize, usize)>, usize> {
    let rest = data.get(from..).unwrap_or_default();
    match memchr::memchr2(b'\r', b'\n', rest) {
        None => Ok(None),
        Some(at) if rest.get(at) == Some(&b'\n') => Ok(Some((from + at, from + at + 1))),
        Some(at) if rest.get(at + 1) == Some(&b'\n') => Ok(Some((from + at, from + at + 2))),
        Some(at) => Err(from + at),
    }
}

/// Reads the start line. `None` where it is so broken that there is nothing to answer.
fn start_line(data: &[u8], begin: usize, limits: &Limits, faults: &mut Faults) -> Option<(Start, usize)> {
    let (end, next) = match line_end(data, begin) {
        Ok(Some(found)) => found,
        Ok(None) => {
            faults.note(ParseErrorKind::UnterminatedHead, begin);
            return None;
        }
        Err(at) => {
            faults.note(ParseErrorKind::BadStartLine, at);
            return None;
        }
    };
    let line = data.get(begin..end).unwrap_or_default();
    if line.get(..4).is_some_and(|s| s.eq_ignore_ascii_case(b"SIP/")) {
        return status_line(line, begin, faults).map(|start| (start, next));
    }
    let method_len = line.iter().take_while(|&&b| is_token_byte(b)).count();
    let method = line.get(..method_len).and_then(|m| std::str::from_utf8(m).ok()).and_then(Method::parse);
    let (Some(method), Some(b' ')) = (method, line.get(method_len)) else {
        faults.note(ParseErrorKind::BadStartLine, begin);
        return None;
    };
    let uri_from = method_len + 1;
    let version_from = memchr::memrchr(b' ', line).map_or(line.len(), |at| at + 1).max(uri_from);
    let uri_to = version_from.saturating_sub(1).max(uri_from);
    let uri = (begin + uri_from, begin + uri_to);
    let uri_bytes = uri_to - uri_from;
    match line.get(version_from..).unwrap_or_default() {
        v if v.eq_ignore_ascii_case(b"SIP/2.0") => {}
        v if is_other_version(v) => faults.note(ParseErrorKind::UnsupportedVersion, begin + version_from),
        _ => faults.note(ParseErrorKind::BadStartLine, begin + version_from),
    }
    if uri_bytes > limits.max_uri_bytes {
        faults.note(ParseErrorKind::UriTooLong { bytes: uri_bytes, limit: limits.max_uri_bytes }, uri.0);
    }
    Some((Start::Request { method, uri }, next))
}

/// `SIP/` with another number behind it.
fn is_other_version(version: &[u8]) -> bool {
    let Some(number) = version.strip_prefix(b"SIP/") else {
        return false;
    };
    let mut parts = number.split(|&b| b == b'.');
    let mut digits = || parts.next().is_some_and(|p| !p.is_empty() && p.iter().all(u8::is_ascii_digit));
    digits() && digits()
}

fn status_line(line: &[u8], begin: usize, faults: &mut Faults) -> Option<Start> {
    if !line.get(..8).is_some_and(|v| v.eq_ignore_ascii_case(b"SIP/2.0 ")) {
        faults.note(ParseErrorKind::UnsupportedVersion, begin);
        return None;
    }
    let digits = line.iter().skip(8).take_while(|b| b.is_ascii_digit()).count();
    let code = line.get(8..8 + digits).and_then(decimal).and_then(|c| u16::try_from(c).ok());
    let Some(code) = code.filter(|c| digits == 3 && (100..700).contains(c)) else {
        faults.note(ParseErrorKind::BadStatusCode, begin + 8);
        return None;
    };
    match line.get(11) {
        None | Some(b' ') => {
            let from = (begin + 12).min(begin + line.len());
            Some(Start::Response { code, reason: (from, begin + line.len()) })
        }
        Some(_) => {
            faults.note(ParseErrorKind::BadStartLine, begin + 11);
            None
        }
    }
}

/// The index of a head while it is made.
struct Head {
    index: Vec<Entry>,
    /// Where the body starts.
    end: usize,
    folded: bool,
}

impl Head {
    /// Walks the header lines from `at` on. Stops at the empty line, or at a fault behind which nothing can be trusted.
    fn read(&mut self, data: &[u8], mut at: usize, limits: &Limits, faults: &mut Faults) {
        loop {
            let (line_to, next) = match line_end(data, at) {
                Ok(Some(found)) => found,
                Ok(None) => return faults.note(ParseErrorKind::UnterminatedHead, data.len()),
                Err(stray) => return faults.note(ParseErrorKind::BadHeaderLine, stray),
            };
            if line_to == at {
                self.end = next;
                return;
            }
            if matches!(data.get(at), Some(b' ' | b'\t')) {
                self.fold(at, line_to, limits, faults);
            } else {
                if self.index.len() == limits.max_headers {
                    return faults.note(ParseErrorKind::TooManyHeaders { limit: limits.max_headers }, at);
                }
                self.line(data, at, line_to, limits, faults);
            }
            at = next;
        }
    }

    /// Takes `name : value` between `at` and `to`. A bad line is noted and skipped.
    fn line(&mut self, data: &[u8], at: usize, to: usize, limits: &Limits, faults: &mut Faults) {
        let line = data.get(at..to).unwrap_or_default();
        if line.len() > limits.max_header_bytes {
            let kind = ParseErrorKind::HeaderTooLong { bytes: line.len(), limit: limits.max_header_bytes };
            return faults.note(kind, at);
        }
        let name_len = line.iter().take_while(|&&b| is_token_byte(b)).count();
        let mut colon = name_len;
        while matches!(line.get(colon), Some(b' ' | b'\t')) {
            colon += 1;
        }
        if name_len == 0 || line.get(colon) != Some(&b':') {
            return faults.note(ParseErrorKind::BadHeaderLine, at);
        }
        let name = Name::parse(line.get(..name_len).unwrap_or_default());
        if name.is_single() && self.index.iter().any(|e| e.name == name) {
            faults.note(ParseErrorKind::DuplicateHeader(name), at);
        }
        let mut entry = Entry {
            name,
            name_len: u16::try_from(name_len).unwrap_or(u16::MAX),
            at: offset(at),
            value_from: offset(at + colon + 1),
            value_to: offset(to),
        };
        entry.trim(data);
        self.index.push(entry);
    }

    /// Lengthens the last header by a folded line (section 7.3.1).
    fn fold(&mut self, at: usize, to: usize, limits: &Limits, faults: &mut Faults) {
        let Some(last) = self.index.last_mut() else {
            return faults.note(ParseErrorKind::BadHeaderLine, at);
        };
        last.value_to = offset(to);
        self.folded = true;
        let bytes = to.saturating_sub(last.at as usize);
        if bytes > limits.max_header_bytes {
            faults.note(ParseErrorKind::HeaderTooLong { bytes, limit: limits.max_header_bytes }, at);
        }
    }
}

/// Makes the head readable as text: folds become spaces, and where bytes are not UTF-8 a second copy of the head has `_`
/// in their place. All at the same offsets.
fn settle(data: Bytes, head: &mut Head) -> (Bytes, Option<Bytes>) {
    let mut wire = data;
    if head.folded {
        let mut copy = BytesMut::from(&wire[..]);
        for entry in &mut head.index {
            let range = entry.value_from as usize..entry.value_to as usize;
            for b in copy.get_mut(range).unwrap_or_default() {
                if matches!(b, b'\r' | b'\n') {
                    *b = b' ';
                }
            }
            entry.trim(&copy);
        }
        wire = copy.freeze();
    }
    let bytes = wire.get(..head.end).unwrap_or(&wire);
    if bytes.is_ascii() || std::str::from_utf8(bytes).is_ok() {
        return (wire, None);
    }
    let text = readable(bytes);
    (wire, Some(text))
}

/// A copy with `_` for each byte that is no UTF-8.
pub(crate) fn readable(bytes: &[u8]) -> Bytes {
    let mut text = Vec::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        text.extend_from_slice(chunk.valid().as_bytes());
        text.extend(chunk.invalid().iter().map(|_| b'_'));
    }
    Bytes::from(text)
}

/// Where the body ends by `Content-Length` and framing.
fn body_end(wire: &[u8], head: &Head, limits: &Limits, framing: Framing, faults: &mut Faults) -> usize {
    let there = wire.len().saturating_sub(head.end);
    let Some(entry) = head.index.iter().find(|e| e.name == Name::ContentLength) else {
        if framing == Framing::Stream {
            faults.note(ParseErrorKind::NoContentLength, head.end);
        }
        return wire.len();
    };
    let at = entry.value_from as usize;
    let value = wire.get(at..entry.value_to as usize).unwrap_or_default();
    let Some(declared) = decimal(value).map(|n| n as usize) else {
        faults.note(ParseErrorKind::BadContentLength, at);
        return wire.len();
    };
    if declared > limits.max_message_bytes && framing == Framing::Stream {
        faults.note(ParseErrorKind::MessageTooLarge { bytes: declared, limit: limits.max_message_bytes }, at);
    }
    if declared > there {
        faults.note(ParseErrorKind::BodyTooShort { declared, bytes: there }, at);
        return wire.len();
    }
    head.end + declared
}

/// Messages are far below 4 GiB: the transports read at most [`Limits::max_message_bytes`].
fn offset(at: usize) -> u32 {
    u32::try_from(at).unwrap_or(u32::MAX)
}
