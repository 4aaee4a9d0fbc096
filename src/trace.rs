//! The signalling of the latest calls, kept for people to look at, and sent to a capture server where one is configured.
//!
//! Signalling shows each message ([`Tap`]) on its own thread; a copy is kept by SIP Call-ID within bounds
//! ([`sip::trace`]). Calls say which SIP Call-IDs are theirs, so that a call is found by our own id with all of its legs.

pub mod show;

use std::collections::{HashMap, VecDeque};
use std::net::UdpSocket;
use std::sync::{Mutex, MutexGuard, PoisonError};

use sip::io::Tap;
use sip::trace::hep::{self, Agent};
use sip::trace::{CallMessages, Trace, TraceLimits, Traced};

use crate::config::TraceConfig;

/// Keeps messages, and which call each belongs to.
#[derive(Debug, Default)]
pub struct Tracer {
    kept: Option<Mutex<Kept>>,
    capture: Option<Capture>,
}

#[derive(Debug)]
struct Kept {
    trace: Trace,
    /// By our own ids: the SIP Call-IDs of its legs.
    calls: HashMap<String, Vec<String>>,
    /// Our own ids, oldest first.
    order: VecDeque<String>,
    limit: usize,
}

/// A capture server.
#[derive(Debug)]
struct Capture {
    socket: UdpSocket,
    agent: Agent,
}

impl Tracer {
    /// A tracer as configured.
    ///
    /// # Errors
    /// The socket to the capture server cannot be had.
    pub fn start(config: &TraceConfig) -> anyhow::Result<Self> {
        let limits = TraceLimits { calls: config.calls, bytes: config.mb << 20, ..TraceLimits::default() };
        let kept = (config.calls > 0).then(|| {
            let trace = Trace::new(limits);
            Mutex::new(Kept { trace, calls: HashMap::new(), order: VecDeque::new(), limit: config.calls })
        });
        let capture = config.hep_address().map(|server| {
            let any = if server.is_ipv4() { "0.0.0.0:0" } else { "[::]:0" };
            let socket = UdpSocket::bind(any).and_then(|socket| {
                socket.connect(server)?;
                socket.set_nonblocking(true)?;
                Ok(socket)
            });
            let agent = Agent { id: config.hep_id, key: config.hep_key.reveal().to_owned() };
            socket.map(|socket| Capture { socket, agent }).map_err(|fault| {
                anyhow::anyhow!(
                    "no way to the capture server {server}: {fault}. Set trace.hep to one that can be reached"
                )
            })
        });
        Ok(Self { kept, capture: capture.transpose()? })
    }

    /// Whether it wants to see messages at all.
    #[must_use]
    pub fn is_on(&self) -> bool {
        self.kept.is_some() || self.capture.is_some()
    }

    /// The dialog of this SIP Call-ID is a leg of the call.
    pub fn link(&self, call: &str, sip_call_id: &str) {
        let Some(mut kept) = self.kept() else { return };
        match kept.calls.get_mut(call) {
            Some(ids) if ids.iter().any(|id| id == sip_call_id) => {}
            Some(ids) => ids.push(sip_call_id.to_owned()),
            None => {
                kept.calls.insert(call.to_owned(), vec![sip_call_id.to_owned()]);
                kept.order.push_back(call.to_owned());
                if kept.order.len() > kept.limit
                    && let Some(oldest) = kept.order.pop_front()
                {
                    kept.calls.remove(&oldest);
                }
            }
        }
    }

    /// The messages of a call, by our own id or by a SIP Call-ID; `None` where nothing is kept of it.
    #[must_use]
    pub fn messages(&self, id: &str) -> Option<CallMessages> {
        let kept = self.kept()?;
        let messages = match kept.calls.get(id) {
            Some(ids) => kept.trace.legs(ids.iter().map(String::as_str)),
            None => kept.trace.call(id)?,
        };
        (!messages.messages.is_empty()).then_some(messages)
    }

    /// Our own id of the call that began last.
    #[must_use]
    pub fn latest(&self) -> Option<String> {
        self.kept()?.order.back().cloned()
    }

    fn kept(&self) -> Option<MutexGuard<'_, Kept>> {
        Some(self.kept.as_ref()?.lock().unwrap_or_else(PoisonError::into_inner))
    }
}

impl Tap for Tracer {
    fn message(&self, mut message: Traced) {
        if let Some(bytes) = without_keys(&message.bytes) {
            message.bytes = bytes.into();
        }
        if let Some(capture) = &self.capture
            && let Some(packet) = hep::packet(&message, &capture.agent)
        {
            // A capture server that is away, or slow, must not hold signalling up.
            let _ = capture.socket.send(&packet);
        }
        if let Some(mut kept) = self.kept() {
            kept.trace.record(&message);
        }
    }
}

/// An INFO that carries a key (`application/dtmf-relay`, `application/dtmf`), with an X in the key's place: which it was is nothing to
/// look for in signalling, and it may be one of a card's number. `None` where the message is none such.
fn without_keys(bytes: &[u8]) -> Option<Vec<u8>> {
    if !bytes.starts_with(b"INFO ") {
        return None;
    }
    let head_ends = bytes.windows(4).position(|end| end == b"\r\n\r\n")? + 4;
    let (head, body) = bytes.split_at_checked(head_ends)?;
    let head_text = String::from_utf8_lossy(head).to_lowercase();
    if !head_text.contains("application/dtmf") {
        return None;
    }
    let mut masked = head.to_vec();
    for line in body.split_inclusive(|byte| *byte == b'\n') {
        let value_at = line.iter().position(|byte| *byte == b'=').map_or(0, |at| at + 1);
        let is_key = value_at == 0 || line.get(..6).is_some_and(|name| name.eq_ignore_ascii_case(b"signal"));
        masked.extend(line.iter().enumerate().map(|(at, byte)| match byte {
            byte if is_key && at >= value_at && !byte.is_ascii_whitespace() => b'X',
            byte => *byte,
        }));
    }
    Some(masked)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::time::{Duration, SystemTime};

    use sip::endpoint::Transport;
    use sip::trace::Direction;

    use super::*;

    fn message(call_id: &str) -> Traced {
        Traced {
            at: SystemTime::now(),
            direction: Direction::In,
            transport: Transport::Udp,
            local: "192.0.2.1:5060".parse().unwrap(),
            remote: "192.0.2.2:5060".parse().unwrap(),
            bytes: format!("OPTIONS sip:a@b SIP/2.0\r\nCall-ID: {call_id}\r\n\r\n").into(),
        }
    }

    #[test]
    fn a_call_is_found_by_its_own_id_with_all_legs_and_by_a_sip_call_id() {
        let tracer = Tracer::start(&TraceConfig { calls: 2, ..TraceConfig::default() }).unwrap();
        tracer.message(message("one"));
        tracer.message(message("two"));
        tracer.link("call", "one");
        tracer.link("call", "two");
        tracer.link("call", "two");
        assert_eq!(tracer.messages("call").unwrap().messages.len(), 2);
        assert_eq!(tracer.messages("one").unwrap().messages.len(), 1);
        assert!(tracer.messages("three").is_none());
    }

    #[test]
    fn the_oldest_call_is_forgotten_first() {
        let tracer = Tracer::start(&TraceConfig { calls: 2, ..TraceConfig::default() }).unwrap();
        for call in ["a", "b", "c"] {
            tracer.message(message(call));
            tracer.link(call, call);
        }
        assert_eq!(tracer.latest().as_deref(), Some("c"));
        assert!(tracer.messages("a").is_none());
    }

    #[test]
    fn which_key_was_pressed_is_kept_nowhere() {
        let tracer = Tracer::start(&TraceConfig { calls: 2, ..TraceConfig::default() }).unwrap();
        let head = "INFO sip:a@b SIP/2.0\r\nCall-ID: one\r\nContent-Type: ";
        for (text, kept) in [
            ("Application/DTMF-Relay\r\n\r\nSignal=7\r\nDuration=160\r\n", Some("Signal=X\r\nDuration=160\r\n")),
            ("application/dtmf-relay\r\n\r\nDuration=160\r\nsignal= 11", Some("Duration=160\r\nsignal= XX")),
            ("application/dtmf\r\n\r\n7\r\n", Some("\r\n\r\nX\r\n")),
            ("application/json\r\n\r\n{7}", None),
        ] {
            let bytes = format!("{head}{text}");
            let shown = without_keys(bytes.as_bytes()).map(|bytes| String::from_utf8(bytes).unwrap());
            assert_eq!(shown.is_some(), kept.is_some(), "{text}");
            assert!(shown.is_none_or(|shown| shown.ends_with(kept.unwrap()) && shown.len() == bytes.len()), "{text}");
        }
        tracer.message(Traced { bytes: format!("{head}application/dtmf\r\n\r\n7").into(), ..message("one") });
        assert!(!String::from_utf8_lossy(&tracer.messages("one").unwrap().messages[0].bytes).ends_with('7'));
    }

    #[test]
    fn nothing_is_kept_where_nothing_is_to_be() {
        let tracer = Tracer::start(&TraceConfig { calls: 0, ..TraceConfig::default() }).unwrap();
        assert!(!tracer.is_on());
        tracer.message(message("one"));
        tracer.link("call", "one");
        assert!(tracer.messages("call").is_none());
    }

    #[test]
    fn a_capture_server_gets_each_message() {
        let server = UdpSocket::bind("127.0.0.1:0").unwrap();
        server.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
        let hep = server.local_addr().unwrap().to_string();
        let config =
            TraceConfig { calls: 0, hep, hep_key: crate::config::Secret::new("k3y"), ..TraceConfig::default() };
        let tracer = Tracer::start(&config).unwrap();
        assert!(tracer.is_on());
        tracer.message(message("one"));
        let mut packet = [0; 1_500];
        let size = server.recv(&mut packet).unwrap();
        assert!(packet.starts_with(b"HEP3"));
        let text = String::from_utf8_lossy(&packet[..size]);
        assert!(text.contains("Call-ID: one") && text.contains("k3y"));
    }
}
