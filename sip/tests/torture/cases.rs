//! The messages of RFC 4475 and the manifest that says what becomes of each.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

#[path = "notation.rs"]
mod notation;

use std::path::{Path, PathBuf};
use std::time::Instant;

use bytes::Bytes;
use serde::Deserialize;
use sip::endpoint::{FlowId, Output};
use sip::{Endpoint, EndpointConfig, Event, Message, ParseError, Source, Transport};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    pub message: Vec<Line>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Line {
    pub name: String,
    pub section: String,
    pub expect: Verdict,
    pub stream: Option<Verdict>,
    #[serde(default)]
    pub closes: bool,
    pub messages: Option<usize>,
    pub server: Option<u16>,
    pub reason: String,
}

#[derive(Deserialize, PartialEq, Debug, Clone)]
#[serde(untagged)]
pub enum Verdict {
    Code(u16),
    Word(String),
}

impl Verdict {
    pub fn of(result: &Result<Message, ParseError>) -> Verdict {
        match result {
            Ok(_) => Verdict::Word("accept".into()),
            Err(error) => match error.answer() {
                Some((_, code)) => Verdict::Code(code),
                None => Verdict::Word("drop".into()),
            },
        }
    }
}

pub fn folder() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/torture")
}

pub fn manifest() -> Vec<Line> {
    let text = std::fs::read_to_string(folder().join("manifest.toml")).unwrap();
    toml::from_str::<Manifest>(&text).unwrap().message
}

pub fn case(name: &str) -> Bytes {
    let text = std::fs::read_to_string(folder().join(format!("cases/{name}.txt"))).unwrap();
    Bytes::from(notation::decode(&text))
}

impl Line {
    /// The codes that an endpoint answers the message with.
    pub fn codes(&self, is_invite: bool) -> Vec<u16> {
        match (&self.expect, &self.server) {
            (Verdict::Code(code), _) | (_, Some(code)) => vec![*code],
            (Verdict::Word(word), None) if word == "accept" && is_invite => vec![100],
            _ => vec![],
        }
    }
}

/// The status codes that a fresh endpoint answers with, and whether it tells of a call.
pub fn answered(message: Result<Message, ParseError>) -> (Vec<u16>, bool) {
    let mut endpoint = Endpoint::new(EndpointConfig::default(), 4475);
    let source = Source {
        transport: Transport::Udp,
        remote: "192.0.2.99:5060".parse().unwrap(),
        local: "192.0.2.1:5060".parse().unwrap(),
        flow: FlowId(1),
    };
    endpoint.receive(Instant::now(), source, message);
    let (mut codes, mut rings) = (Vec::new(), false);
    while let Some(output) = endpoint.poll() {
        match output {
            Output::Send { bytes, .. } => {
                // By its text: the answer to a malformed request repeats what is malformed in it.
                let line = std::str::from_utf8(&bytes[..12]).unwrap();
                codes.push(line.strip_prefix("SIP/2.0 ").unwrap()[..3].parse().unwrap());
            }
            Output::Event(event) => rings |= matches!(event, Event::Incoming { .. }),
        }
    }
    (codes, rings)
}
