//! Messages out of a byte stream (TCP, TLS): several in a segment, one in many (RFC 3261 section 18.3).
//!
//! Where a message ends is known from `Content-Length` alone, so a fault in it breaks the stream: the framer answers that
//! one error and then nothing more, and the connection is to be closed. Faults inside a message whose end is known leave
//! the stream in step.

use bytes::{Buf, BytesMut};

use crate::headers::Name;
use crate::headers::params::is_token_byte;
use crate::message::Message;
use crate::parse::{Framing, Limits, ParseError, ParseErrorKind, line_end, parse};
use crate::uri::decimal;

/// Cuts a stream into messages. Holds at most one message of [`Limits::max_message_bytes`] and what was read with it, as
/// long as [`StreamFramer::next`] is called until it answers `None` after each read.
#[derive(Debug)]
pub struct StreamFramer {
    buffer: BytesMut,
    limits: Limits,
    /// No head's end before this offset.
    scanned: usize,
    /// The whole length of the message at the front, once its head is there.
    total: Option<usize>,
    line_ends: u32,
    pings: u32,
    broken: bool,
}

impl StreamFramer {
    /// A framer for a fresh connection.
    #[must_use]
    pub fn new(limits: Limits) -> StreamFramer {
        StreamFramer { buffer: BytesMut::new(), limits, scanned: 0, total: None, line_ends: 0, pings: 0, broken: false }
    }

    /// Takes what was read. After a break it is thrown away.
    pub fn push(&mut self, bytes: &[u8]) {
        if !self.broken {
            self.buffer.extend_from_slice(bytes);
        }
    }

    /// The buffer to read into directly, instead of [`StreamFramer::push`]: append only.
    pub fn read_buffer(&mut self) -> &mut BytesMut {
        if self.broken {
            self.buffer.clear();
        }
        &mut self.buffer
    }

    /// The next whole message, or the fault in it. `None` when more must be read, and for ever after a break.
    #[allow(clippy::should_implement_trait)] // It answers again after `None`, which an iterator would not.
    pub fn next(&mut self) -> Option<Result<Message, ParseError>> {
        if self.broken {
            return None;
        }
        let total = match self.total {
            Some(total) => total,
            None => match self.measure()? {
                Ok(total) => total,
                Err((kind, known)) => return Some(Err(self.give_up(kind, known))),
            },
        };
        self.total = Some(total);
        if self.buffer.len() < total {
            return None;
        }
        self.total = None;
        self.scanned = 0;
        let data = self.buffer.split_to(total).freeze();
        let result = parse(data, &self.limits, Framing::Stream);
        self.broken = result.as_ref().is_err_and(breaks);
        Some(result)
    }

    /// Whether the stream lost its step. The connection is to be closed.
    #[must_use]
    pub fn is_broken(&self) -> bool {
        self.broken
    }

    /// How many bytes wait for the rest of their message.
    #[must_use]
    pub fn pending_bytes(&self) -> usize {
        self.buffer.len()
    }

    /// How many keep-alive pings (CRLF CRLF between messages) came since the last call; each is answered with CRLF (RFC
    /// 5626 section 4.4.1).
    pub fn take_pings(&mut self) -> u32 {
        std::mem::take(&mut self.pings)
    }

    /// Finds the length of the message at the front: `None` while its head is not whole. A fault comes with the number of
    /// bytes that belong to its message for sure.
    fn measure(&mut self) -> Option<Result<usize, (ParseErrorKind, usize)>> {
        self.skip_line_ends();
        if self.buffer.is_empty() {
            return None;
        }
        let limit = self.limits.max_message_bytes;
        let Some(head_end) = self.find_head_end() else {
            let bytes = self.buffer.len();
            return (bytes > limit).then_some(Err((ParseErrorKind::MessageTooLarge { bytes, limit }, bytes)));
        };
        if head_end > limit {
            return Some(Err((ParseErrorKind::MessageTooLarge { bytes: head_end, limit }, head_end)));
        }
        let body = match content_length(self.buffer.get(..head_end).unwrap_or_default()) {
            Ok(body) => body,
            Err(kind) => return Some(Err((kind, head_end))),
        };
        let bytes = head_end.saturating_add(body);
        if bytes > limit {
            return Some(Err((ParseErrorKind::MessageTooLarge { bytes, limit }, head_end)));
        }
        self.line_ends = 0;
        Some(Ok(bytes))
    }

    fn skip_line_ends(&mut self) {
        if self.scanned > 0 {
            return;
        }
        let blank = self.buffer.iter().take_while(|b| matches!(b, b'\r' | b'\n')).count();
        for &b in self.buffer.get(..blank).unwrap_or_default() {
            if b == b'\n' {
                self.line_ends += 1;
                if self.line_ends == 2 {
                    self.line_ends = 0;
                    self.pings = self.pings.saturating_add(1);
                }
            }
        }
        self.buffer.advance(blank);
    }

    /// The offset behind the empty line that ends the head.
    fn find_head_end(&mut self) -> Option<usize> {
        let data = &self.buffer[..];
        let mut at = self.scanned;
        while let Some(found) = memchr::memchr(b'\n', data.get(at..).unwrap_or_default()) {
            let next = at + found + 1;
            match (data.get(next), data.get(next + 1)) {
                (Some(b'\n'), _) => return Some(next + 1),
                (Some(b'\r'), Some(b'\n')) => return Some(next + 2),
                (Some(b'\r') | None, None) => {
                    self.scanned = at + found;
                    return None;
                }
                _ => at = next,
            }
        }
        self.scanned = data.len();
        None
    }

    /// Makes the error for a message whose end is unknown, and breaks the stream.
    fn give_up(&mut self, kind: ParseErrorKind, known: usize) -> ParseError {
        self.broken = true;
        let data = self.buffer.split_to(known.min(self.buffer.len())).freeze();
        self.buffer.clear();
        let error = match parse(data, &self.limits, Framing::Stream) {
            Ok(message) => ParseError { kind: kind.clone(), at: known, partial: Some(Box::new(message)) },
            Err(error) => error,
        };
        ParseError { kind, ..error }
    }
}

/// Whether the stream cannot be read on after this fault.
fn breaks(error: &ParseError) -> bool {
    error.partial.is_none()
        || matches!(
            error.kind,
            ParseErrorKind::UnterminatedHead
                | ParseErrorKind::BadContentLength
                | ParseErrorKind::NoContentLength
                | ParseErrorKind::BodyTooShort { .. }
                | ParseErrorKind::MessageTooLarge { .. }
                | ParseErrorKind::DuplicateHeader(Name::ContentLength)
        )
}

/// Reads `Content-Length` out of a head, by the same rules as the parser: one only, folds allowed, digits only.
fn content_length(head: &[u8]) -> Result<usize, ParseErrorKind> {
    let mut found = None;
    let mut at = 0;
    while let Ok(Some((end, next))) = line_end(head, at) {
        let line = head.get(at..end).unwrap_or_default();
        at = next;
        if !matches!(line.first(), Some(b'C' | b'c' | b'L' | b'l')) {
            continue;
        }
        let name_len = line.iter().take_while(|&&b| is_token_byte(b)).count();
        let (name, rest) = line.split_at_checked(name_len).unwrap_or((line, &[]));
        if Name::parse(name) != Name::ContentLength {
            continue;
        }
        let Some(value) = trim(rest).strip_prefix(b":") else {
            continue;
        };
        let mut value = trim(value).to_vec();
        while let Some(b' ' | b'\t') = head.get(at) {
            let Ok(Some((end, next))) = line_end(head, at) else {
                break;
            };
            // A fold is white space: digits on both sides of it are two words, which no number has.
            let folded = trim(head.get(at..end).unwrap_or_default());
            if !value.is_empty() && !folded.is_empty() {
                value.push(b' ');
            }
            value.extend_from_slice(folded);
            at = next;
        }
        if found.is_some() {
            return Err(ParseErrorKind::DuplicateHeader(Name::ContentLength));
        }
        found = Some(decimal(&value).ok_or(ParseErrorKind::BadContentLength)? as usize);
    }
    found.ok_or(ParseErrorKind::NoContentLength)
}

fn trim(mut bytes: &[u8]) -> &[u8] {
    while let [b' ' | b'\t', rest @ ..] | [rest @ .., b' ' | b'\t'] = bytes {
        bytes = rest;
    }
    bytes
}
