//! The wire parser beyond RFC 4475: limits at one more, what peers really send, framing, and what is built.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "parse/build.rs"]
mod build;
#[path = "parse/faults.rs"]
mod faults;
#[path = "parse/fuzzed.rs"]
mod fuzzed;
#[path = "parse/limits.rs"]
mod limits;
#[path = "parse/stream.rs"]
mod stream;
#[path = "parse/tolerance.rs"]
mod tolerance;

use bytes::Bytes;
use sip::{Limits, Message, ParseError};

/// Reads text whose lines end with LF as a datagram with CRLF.
fn read(text: &str) -> Result<Message, ParseError> {
    Message::parse_datagram(wire(text), &Limits::default())
}

fn wire(text: &str) -> Bytes {
    Bytes::from(text.replace('\n', "\r\n"))
}

/// A request with these lines in place of the defaults of the same name, and added where there is none.
fn request_with(lines: &[&str]) -> String {
    let defaults = [
        "Via: SIP/2.0/UDP 192.0.2.1:5062;branch=z9hG4bKa1",
        "Max-Forwards: 70",
        "From: <sip:a@example.com>;tag=1",
        "To: <sip:b@example.com>",
        "Call-ID: c1",
        "CSeq: 1 OPTIONS",
    ];
    let name = |line: &str| line.split(':').next().unwrap().to_owned();
    let kept = defaults.iter().filter(|d| !lines.iter().any(|l| name(l) == name(d)));
    let all: Vec<&str> = kept.chain(lines).copied().filter(|l| !l.ends_with('-')).collect();
    format!("OPTIONS sip:b@example.com SIP/2.0\n{}\n\n", all.join("\n"))
}
