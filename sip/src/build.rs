//! Building messages: straight into the bytes that go out, with the index made on the way.
//!
//! Values are written as they are given, but a line end inside one becomes a space, so that nothing taken from a peer or a
//! configuration can start a header of its own. `Content-Length` is written last, always.

use std::fmt::{self, Display, Write as _};

use bytes::Bytes;

use crate::headers::params::trim;
use crate::headers::{HeaderError, Name, Via, split_first};
use crate::message::{Entry, Message, Start};
use crate::method::Method;

/// Writes one message, top down: start line, headers in the order of the calls, body.
#[derive(Debug, Clone)]
pub struct Builder {
    out: Vec<u8>,
    start: Start,
    index: Vec<Entry>,
    body: Bytes,
}

impl Builder {
    /// Starts a request.
    #[must_use]
    pub fn request(method: &Method, uri: &str) -> Builder {
        let mut out = Vec::with_capacity(1024);
        out.extend_from_slice(method.as_str().as_bytes());
        out.push(b' ');
        let from = out.len();
        for b in uri.bytes() {
            if b <= b' ' { out.extend_from_slice(b"%20") } else { out.push(b) }
        }
        let to = out.len();
        out.extend_from_slice(b" SIP/2.0\r\n");
        let start = Start::Request { method: method.clone(), uri: (from, to) };
        Builder { out, start, index: Vec::with_capacity(20), body: Bytes::new() }
    }

    /// Starts a response with nothing in it; [`Message::response`] starts one that answers a request. An empty `reason`
    /// becomes the code's usual one.
    #[must_use]
    pub fn response(code: u16, reason: &str) -> Builder {
        let mut out = Vec::with_capacity(768);
        let code = code.clamp(100, 699);
        let reason = if reason.is_empty() { reason_phrase(code) } else { reason };
        let mut text = OneLine(&mut out);
        let _ = write!(text, "SIP/2.0 {code} ");
        let from = text.0.len();
        let _ = text.write_str(reason);
        let to = out.len();
        out.extend_from_slice(b"\r\n");
        let start = Start::Response { code, reason: (from, to) };
        Builder { out, start, index: Vec::with_capacity(20), body: Bytes::new() }
    }

    /// Adds a header line. `value` may be text or `format_args!(…)`. `Content-Length` is not taken: it is computed.
    #[must_use]
    pub fn header(mut self, name: Name, value: impl Display) -> Builder {
        if !matches!(name, Name::ContentLength | Name::Other) {
            self.put(name, name.as_str(), |out| {
                let _ = write!(OneLine(out), "{value}");
            });
        }
        self
    }

    /// Adds a header line by its text. A name that is no token, and `Content-Length`, are left out.
    #[must_use]
    pub fn header_named(mut self, name: &str, value: impl Display) -> Builder {
        let known = Name::parse(name.as_bytes());
        if crate::headers::params::is_token(name) && known != Name::ContentLength {
            self.put(known, name, |out| {
                let _ = write!(OneLine(out), "{value}");
            });
        }
        self
    }

    /// Copies every line of a header from another message, byte for byte.
    #[must_use]
    pub fn copy(mut self, from: &Message, name: Name) -> Builder {
        for entry in from.index.iter().filter(|e| e.name == name && name != Name::ContentLength) {
            self.copy_entry(from, entry);
        }
        self
    }

    /// Sets the body and its `Content-Type`.
    #[must_use]
    pub fn body(self, content_type: &str, body: impl Into<Bytes>) -> Builder {
        let mut with_type = self.header(Name::ContentType, content_type);
        with_type.body = body.into();
        with_type
    }

    /// The finished message; [`Message::bytes`] is what goes out.
    #[must_use]
    pub fn finish(mut self) -> Message {
        let length = self.body.len();
        self.put(Name::ContentLength, Name::ContentLength.as_str(), |out| {
            let _ = write!(OneLine(out), "{length}");
        });
        self.out.extend_from_slice(b"\r\n");
        let head_end = self.out.len();
        self.out.extend_from_slice(&self.body);
        let text = std::str::from_utf8(self.out.get(..head_end).unwrap_or_default()).is_err().then(|| {
            let head = self.out.get(..head_end).unwrap_or_default();
            crate::parse::readable(head)
        });
        Message {
            body: (head_end, self.out.len()),
            wire: Bytes::from(self.out),
            text,
            start: self.start,
            index: self.index,
            source: None,
        }
    }

    fn put(&mut self, name: Name, text: &str, value: impl FnOnce(&mut Vec<u8>)) {
        let at = self.out.len();
        self.out.extend_from_slice(text.as_bytes());
        self.out.extend_from_slice(b": ");
        let from = self.out.len();
        value(&mut self.out);
        let to = self.out.len();
        self.out.extend_from_slice(b"\r\n");
        let offset = |at: usize| u32::try_from(at).unwrap_or(u32::MAX);
        self.index.push(Entry {
            name,
            name_len: u16::try_from(text.len()).unwrap_or(u16::MAX),
            at: offset(at),
            value_from: offset(from),
            value_to: offset(to),
        });
    }

    fn copy_entry(&mut self, from: &Message, entry: &Entry) {
        let name = if entry.name == Name::Other { from.name_of(entry) } else { entry.name.as_str() };
        self.put(entry.name, name, |out| out.extend_from_slice(from.value_bytes(entry)));
    }
}

impl Message {
    /// Starts the answer to this request by RFC 3261 section 8.2.6: `Via`, `From`, `To`, `Call-ID` and `CSeq` are copied, the
    /// top `Via` gets what [`Message::set_source`] asks for, and `To` gets `to_tag` where it has no tag yet. For partial
    /// messages copies what is there. An empty `reason` becomes the code's usual one.
    #[must_use]
    pub fn response(&self, code: u16, reason: &str, to_tag: Option<&str>) -> Builder {
        let mut builder = Builder::response(code, reason);
        let mut is_top = true;
        for entry in self.index.iter().filter(|e| e.name == Name::Via) {
            if !(std::mem::take(&mut is_top) && self.put_top_via(&mut builder, entry)) {
                builder.copy_entry(self, entry);
            }
        }
        for name in [Name::From, Name::To, Name::CallId, Name::CSeq] {
            let Some(entry) = self.index.iter().find(|e| e.name == name) else {
                continue;
            };
            let tag = to_tag.filter(|_| name == Name::To && self.to().is_ok_and(|to| to.tag().is_none()));
            match tag {
                None => builder.copy_entry(self, entry),
                Some(tag) => builder.put(name, name.as_str(), |out| {
                    out.extend_from_slice(self.value_bytes(entry));
                    let _ = write!(OneLine(out), ";tag={tag}");
                }),
            }
        }
        builder
    }

    /// Writes the first `Via` line with `received` and `rport` filled in; `false` where it can be copied as it is.
    fn put_top_via(&self, builder: &mut Builder, entry: &Entry) -> bool {
        let (top, others) = split_first(self.value(entry));
        let Ok(via) = Via::parse(trim(top)) else {
            return false;
        };
        let (received, rport) = self.via_additions(&via);
        if received.is_none() && rport.is_none() {
            return false;
        }
        builder.put(Name::Via, Name::Via.as_str(), |out| {
            let mut line = OneLine(out);
            let _ = write!(line, "SIP/2.0/{} {}", via.transport, via.host);
            if let Some(port) = via.port {
                let _ = write!(line, ":{port}");
            }
            for (name, value) in via.params.iter() {
                let replaced = name.eq_ignore_ascii_case("received") || name.eq_ignore_ascii_case("rport");
                match value {
                    _ if replaced => {}
                    Some(value) => drop(write!(line, ";{name}={value}")),
                    None => drop(write!(line, ";{name}")),
                }
            }
            if let Some(ip) = received {
                let _ = write!(line, ";received={ip}");
            }
            if let Some(port) = rport {
                let _ = write!(line, ";rport={port}");
            }
            if !trim(others).is_empty() {
                let _ = write!(line, ", {}", trim(others));
            }
        });
        true
    }

    /// Starts an altered copy of this message.
    #[must_use]
    pub fn edit(&self) -> Editor {
        let headers = self
            .index
            .iter()
            .filter(|e| e.name != Name::ContentLength)
            .map(|e| Header { name: e.name, text: self.name_of(e).to_owned(), value: self.value_bytes(e).to_vec() })
            .collect();
        Editor { message: self.clone(), uri: None, headers, body: self.body_bytes() }
    }
}

/// An altered copy of a message in the making. For the rare paths (a request sent again with credentials): it copies every
/// header.
#[derive(Debug, Clone)]
pub struct Editor {
    message: Message,
    uri: Option<String>,
    headers: Vec<Header>,
    body: Bytes,
}

#[derive(Debug, Clone)]
struct Header {
    name: Name,
    text: String,
    value: Vec<u8>,
}

impl Editor {
    /// Replaces the Request-URI.
    #[must_use]
    pub fn request_uri(mut self, uri: &str) -> Editor {
        self.uri = Some(uri.to_owned());
        self
    }

    /// Replaces every line of a header by one with this value, where the first stood, or at the end.
    #[must_use]
    pub fn set(mut self, name: Name, value: impl Display) -> Editor {
        let place = self.headers.iter().position(|h| h.name == name).unwrap_or(self.headers.len());
        self.headers.retain(|h| h.name != name);
        self.insert(place, name, value)
    }

    /// Replaces the topmost value of a header (the first of its first line), keeping the others.
    ///
    /// # Errors
    /// [`HeaderError::Missing`] where there is no such header.
    pub fn set_top(mut self, name: Name, value: impl Display) -> Result<Editor, HeaderError> {
        let header = self.headers.iter_mut().find(|h| h.name == name).ok_or(HeaderError::Missing)?;
        let line = String::from_utf8_lossy(&header.value).into_owned();
        let (_, others) = split_first(&line);
        header.value.clear();
        let _ = write!(OneLine(&mut header.value), "{value}");
        if !trim(others).is_empty() {
            let _ = write!(OneLine(&mut header.value), ", {}", trim(others));
        }
        Ok(self)
    }

    /// Adds a line above all others of its name (on top of the message where there is none).
    #[must_use]
    pub fn push_front(self, name: Name, value: impl Display) -> Editor {
        let place = self.headers.iter().position(|h| h.name == name).unwrap_or(0);
        self.insert(place, name, value)
    }

    /// Adds a line at the end.
    #[must_use]
    pub fn push(self, name: Name, value: impl Display) -> Editor {
        let place = self.headers.len();
        self.insert(place, name, value)
    }

    /// Takes out every line of a header.
    #[must_use]
    pub fn remove(mut self, name: Name) -> Editor {
        self.headers.retain(|h| h.name != name);
        self
    }

    /// Replaces the body and its `Content-Type`.
    #[must_use]
    pub fn body(mut self, content_type: &str, body: impl Into<Bytes>) -> Editor {
        self.body = body.into();
        self.set(Name::ContentType, content_type)
    }

    /// The altered message.
    #[must_use]
    pub fn finish(self) -> Message {
        let mut builder = match &self.message.start {
            Start::Request { method, .. } => {
                Builder::request(method, self.uri.as_deref().unwrap_or(self.message.request_uri()))
            }
            Start::Response { code, .. } => Builder::response(*code, self.message.reason()),
        };
        for header in &self.headers {
            builder.put(header.name, &header.text, |out| out.extend_from_slice(&header.value));
        }
        builder.body = self.body;
        let mut message = builder.finish();
        message.source = self.message.source;
        message
    }

    fn insert(mut self, place: usize, name: Name, value: impl Display) -> Editor {
        if matches!(name, Name::Other | Name::ContentLength) {
            return self;
        }
        let mut bytes = Vec::new();
        let _ = write!(OneLine(&mut bytes), "{value}");
        let header = Header { name, text: name.as_str().to_owned(), value: bytes };
        self.headers.insert(place.min(self.headers.len()), header);
        self
    }
}

/// Writes text, line ends and NUL as spaces.
struct OneLine<'a>(&'a mut Vec<u8>);

impl fmt::Write for OneLine<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        if memchr::memchr3(b'\r', b'\n', 0, text.as_bytes()).is_none() {
            self.0.extend_from_slice(text.as_bytes());
        } else {
            self.0.extend(text.bytes().map(|b| if matches!(b, b'\r' | b'\n' | 0) { b' ' } else { b }));
        }
        Ok(())
    }
}

/// The usual reason phrase of a status code (RFC 3261 section 21 and IANA's registry).
#[must_use]
pub fn reason_phrase(code: u16) -> &'static str {
    match code {
        100 => "Trying",
        180 => "Ringing",
        181 => "Call Is Being Forwarded",
        182 => "Queued",
        183 => "Session Progress",
        199 => "Early Dialog Terminated",
        200 => "OK",
        202 => "Accepted",
        204 => "No Notification",
        300 => "Multiple Choices",
        301 => "Moved Permanently",
        302 => "Moved Temporarily",
        305 => "Use Proxy",
        380 => "Alternative Service",
        400 => "Bad Request",
        401 => "Unauthorized",
        402 => "Payment Required",
        403 => "Forbidden",
        404 => "Not Found",
        405 => "Method Not Allowed",
        406 => "Not Acceptable",
        407 => "Proxy Authentication Required",
        408 => "Request Timeout",
        410 => "Gone",
        412 => "Conditional Request Failed",
        413 => "Request Entity Too Large",
        414 => "Request-URI Too Long",
        415 => "Unsupported Media Type",
        416 => "Unsupported URI Scheme",
        420 => "Bad Extension",
        421 => "Extension Required",
        422 => "Session Interval Too Small",
        423 => "Interval Too Brief",
        424 => "Bad Location Information",
        428 => "Use Identity Header",
        429 => "Provide Referrer Identity",
        433 => "Anonymity Disallowed",
        436 => "Bad Identity Info",
        437 => "Unsupported Credential",
        438 => "Invalid Identity Header",
        439 => "First Hop Lacks Outbound Support",
        469 => "Bad Info Package",
        480 => "Temporarily Unavailable",
        481 => "Call/Transaction Does Not Exist",
        482 => "Loop Detected",
        483 => "Too Many Hops",
        484 => "Address Incomplete",
        485 => "Ambiguous",
        486 => "Busy Here",
        487 => "Request Terminated",
        488 => "Not Acceptable Here",
        489 => "Bad Event",
        491 => "Request Pending",
        493 => "Undecipherable",
        494 => "Security Agreement Required",
        500 => "Server Internal Error",
        501 => "Not Implemented",
        502 => "Bad Gateway",
        503 => "Service Unavailable",
        504 => "Server Time-out",
        505 => "Version Not Supported",
        513 => "Message Too Large",
        580 => "Precondition Failure",
        600 => "Busy Everywhere",
        603 => "Decline",
        604 => "Does Not Exist Anywhere",
        606 => "Not Acceptable",
        607 => "Unwanted",
        608 => "Rejected",
        _ => match code / 100 {
            1 => "Progress",
            2 => "OK",
            3 => "Redirection",
            4 => "Request Failure",
            5 => "Server Failure",
            _ => "Global Failure",
        },
    }
}
