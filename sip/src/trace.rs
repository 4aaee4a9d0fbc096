//! A bounded record of the messages of each call, to be read as a ladder of text ([`ladder`]), opened in Wireshark
//! ([`pcap`]) or sent on as it grows ([`hep`], HEP3).
//!
//! Messages are kept by Call-ID until one of [`TraceLimits`] is reached: then the call that was traced first goes.
//! Nothing here reads a clock or a socket: each [`Traced`] says when it was.

pub mod hep;
pub mod ladder;
pub mod pcap;

use std::collections::{HashMap, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;

use bytes::Bytes;

use crate::endpoint::Transport;

/// A call's text grows by so many bytes, or by what a message takes.
const TEXT_STEP: usize = 512;

/// Which way a message went, seen from here.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// It came.
    In,
    /// It was sent.
    Out,
}

/// One message as it went over the wire.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Traced {
    /// When.
    pub at: SystemTime,
    /// Which way.
    pub direction: Direction,
    /// How.
    pub transport: Transport,
    /// Our address.
    pub local: SocketAddr,
    /// The peer's.
    pub remote: SocketAddr,
    /// The whole message.
    pub bytes: Bytes,
}

impl Traced {
    /// Who sent it.
    #[must_use]
    pub fn from(&self) -> SocketAddr {
        if self.direction == Direction::In { self.remote } else { self.local }
    }

    /// Whom it was sent to.
    #[must_use]
    pub fn to(&self) -> SocketAddr {
        if self.direction == Direction::In { self.local } else { self.remote }
    }
}

/// Bounds on what is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TraceLimits {
    /// Calls at once. Beyond: the call that was traced first is forgotten.
    pub calls: usize,
    /// Messages of one call. Beyond: the first half stays, of the rest the last ones.
    pub messages_per_call: usize,
    /// Bytes of all messages. Beyond: the call that was traced first is forgotten.
    pub bytes: usize,
}

impl Default for TraceLimits {
    fn default() -> Self {
        Self { calls: 4_096, messages_per_call: 128, bytes: 32 << 20 }
    }
}

/// What is kept of one call. Its messages stand one behind the other in memory of its own: kept as they came, they would hold on to memory
/// that is otherwise of what lives for seconds, a piece here and a piece there.
#[derive(Debug, Default)]
struct CallTrace {
    messages: VecDeque<Kept>,
    text: Vec<u8>,
    left_out: usize,
}

/// A message of a call.
#[derive(Debug)]
struct Kept {
    at: SystemTime,
    direction: Direction,
    transport: Transport,
    local: SocketAddr,
    remote: SocketAddr,
    /// Its bytes in the call's text.
    length: usize,
}

impl CallTrace {
    /// Takes a message; how many bytes had to go for it.
    fn add(&mut self, traced: &Traced, messages_at_most: usize) -> usize {
        let length = traced.bytes.len();
        if self.text.capacity() - self.text.len() < length {
            self.text.reserve_exact(length.next_multiple_of(TEXT_STEP));
        }
        self.text.extend_from_slice(&traced.bytes);
        let Traced { at, direction, transport, local, remote, .. } = *traced;
        self.messages.push_back(Kept { at, direction, transport, local, remote, length });
        if self.messages.len() <= messages_at_most.max(1) {
            return 0;
        }
        let middle = messages_at_most / 2;
        let from: usize = self.messages.iter().take(middle).map(|kept| kept.length).sum();
        let dropped = self.messages.remove(middle).map_or(0, |dropped| dropped.length);
        self.text.drain(from..from + dropped);
        self.left_out += 1;
        dropped
    }

    fn messages(&self) -> CallMessages {
        let mut from = 0;
        let read = |kept: &Kept| {
            let bytes = self.text.get(from..from + kept.length).unwrap_or_default();
            from += kept.length;
            let Kept { at, direction, transport, local, remote, .. } = *kept;
            Traced { at, direction, transport, local, remote, bytes: Bytes::copy_from_slice(bytes) }
        };
        CallMessages { messages: self.messages.iter().map(read).collect(), left_out: self.left_out }
    }
}

/// What a call's trace holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct CallMessages {
    /// In the order in which they went.
    pub messages: Vec<Traced>,
    /// Messages that are missing, from the middle.
    pub left_out: usize,
}

/// The traces of the latest calls.
#[derive(Debug, Default)]
pub struct Trace {
    limits: TraceLimits,
    calls: HashMap<Arc<str>, CallTrace>,
    order: VecDeque<Arc<str>>,
    bytes: usize,
}

impl Trace {
    /// An empty trace.
    #[must_use]
    pub fn new(limits: TraceLimits) -> Self {
        Self { limits, ..Self::default() }
    }

    /// Keeps a message, where it has a Call-ID.
    pub fn record(&mut self, traced: &Traced) {
        let Some(call_id) = call_id(&traced.bytes) else { return };
        let size = traced.bytes.len();
        if size > self.limits.bytes || self.limits.calls == 0 {
            return;
        }
        self.bytes += size;
        match self.calls.get_mut(call_id) {
            Some(call) => self.bytes -= call.add(traced, self.limits.messages_per_call),
            None => {
                let key: Arc<str> = Arc::from(call_id);
                self.order.push_back(Arc::clone(&key));
                let mut call = CallTrace::default();
                self.bytes -= call.add(traced, self.limits.messages_per_call);
                self.calls.insert(key, call);
            }
        }
        while self.calls.len() > self.limits.calls || self.bytes > self.limits.bytes {
            let Some(oldest) = self.order.pop_front() else { return };
            self.drop_call(&oldest);
        }
    }

    /// What is kept of a call.
    #[must_use]
    pub fn call(&self, call_id: &str) -> Option<CallMessages> {
        self.calls.get(call_id).map(CallTrace::messages)
    }

    /// What is kept of several dialogs, the legs of one call, in the order in which it went.
    #[must_use]
    pub fn legs<'a>(&self, call_ids: impl IntoIterator<Item = &'a str>) -> CallMessages {
        let mut all = CallMessages::default();
        for call in call_ids.into_iter().filter_map(|call_id| self.call(call_id)) {
            all.messages.extend(call.messages);
            all.left_out += call.left_out;
        }
        all.messages.sort_by_key(|traced| traced.at);
        all
    }

    /// Forgets a call.
    pub fn forget(&mut self, call_id: &str) {
        if self.drop_call(call_id) {
            self.order.retain(|known| &**known != call_id);
        }
    }

    /// Calls and bytes held now.
    #[must_use]
    pub fn held(&self) -> (usize, usize) {
        (self.calls.len(), self.bytes)
    }

    fn drop_call(&mut self, call_id: &str) -> bool {
        let Some(call) = self.calls.remove(call_id) else { return false };
        self.bytes -= call.text.len();
        true
    }
}

/// The Call-ID of a message, without reading the rest of it.
#[must_use]
pub fn call_id(message: &[u8]) -> Option<&str> {
    let mut rest = message;
    while let Some(end) = memchr::memchr(b'\n', rest) {
        rest = rest.get(end + 1..)?;
        let line = rest.get(..memchr::memchr(b'\n', rest)?)?;
        if line.is_empty() || line == b"\r" {
            return None;
        }
        let Some(colon) = memchr::memchr(b':', line) else { continue };
        let name = line.get(..colon)?.trim_ascii();
        if name.eq_ignore_ascii_case(b"Call-ID") || name.eq_ignore_ascii_case(b"i") {
            return std::str::from_utf8(line.get(colon + 1..)?.trim_ascii()).ok().filter(|value| !value.is_empty());
        }
    }
    None
}
