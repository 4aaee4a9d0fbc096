//! Two endpoints and the network between them, in virtual time: latency, loss and duplication by a seed, and a hook that
//! may drop single messages.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::time::{Duration, Instant};

use bytes::Bytes;
use sip::endpoint::{Destination, FlowId, Output, SendId, Target};
use sip::{CallId, EndCause, Endpoint, EndpointConfig, Event, Limits, Message, OutgoingCall, Source, Transport};

pub const OFFER: &[u8] =
    b"v=0\r\no=- 1 1 IN IP4 10.0.0.1\r\ns=-\r\nc=IN IP4 10.0.0.1\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n";
pub const ANSWER: &[u8] =
    b"v=0\r\no=- 2 2 IN IP4 10.0.0.2\r\ns=-\r\nc=IN IP4 10.0.0.2\r\nt=0 0\r\nm=audio 5000 RTP/AVP 0\r\n";

/// Which of the two: the one that calls, and the one that is called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Who {
    Caller,
    Callee,
}

/// A message that somebody sent.
#[derive(Debug, Clone)]
pub struct Sent {
    pub at: Duration,
    pub from: Who,
    /// Method, or status code.
    pub what: String,
    /// The CSeq method.
    pub of: String,
    pub bytes: Bytes,
    pub lost: bool,
}

pub struct Side {
    pub endpoint: Endpoint,
    pub address: std::net::SocketAddr,
    pub events: Vec<(Duration, Event)>,
}

type Hook = Box<dyn FnMut(&Sent) -> bool>;

pub struct Pair {
    pub start: Instant,
    pub now: Instant,
    pub latency: Duration,
    pub loss_percent: u64,
    pub transport: Transport,
    pub caller: Side,
    pub callee: Side,
    pub log: Vec<Sent>,
    /// Answers whether the message is to be dropped.
    pub hook: Option<Hook>,
    in_flight: Vec<(Instant, u64, Who, Bytes)>,
    count: u64,
    random: u64,
}

impl Pair {
    pub fn new(seed: u64) -> Self {
        Self::with(seed, EndpointConfig::default(), EndpointConfig::default())
    }

    pub fn with(seed: u64, caller: EndpointConfig, callee: EndpointConfig) -> Self {
        println!("seed {seed}");
        let start = Instant::now();
        let side = |config, seed, address: &str| Side {
            endpoint: Endpoint::new(config, seed),
            address: address.parse().unwrap(),
            events: Vec::new(),
        };
        Self {
            start,
            now: start,
            latency: Duration::from_millis(10),
            loss_percent: 0,
            transport: Transport::Udp,
            caller: side(caller, seed, "10.0.0.1:5060"),
            callee: side(callee, seed ^ 0xffff, "10.0.0.2:5060"),
            log: Vec::new(),
            hook: None,
            in_flight: Vec::new(),
            count: 0,
            random: seed.wrapping_mul(0x9e37_79b9_7f4a_7c15) | 1,
        }
    }

    pub fn side(&mut self, who: Who) -> &mut Side {
        match who {
            Who::Caller => &mut self.caller,
            Who::Callee => &mut self.callee,
        }
    }

    pub fn random(&mut self) -> u64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        self.random.wrapping_mul(0x2545_f491_4f6c_dd1d) >> 33
    }

    pub fn elapsed(&self) -> Duration {
        self.now - self.start
    }

    /// Places a call from the caller to the callee.
    pub fn call(&mut self) -> CallId {
        let (transport, target, local, now) = (self.transport, self.callee.address, self.caller.address, self.now);
        let call = OutgoingCall {
            uri: "sip:agent@10.0.0.2".into(),
            from: "\"A Caller\" <sip:caller@10.0.0.1>".into(),
            to: None,
            destination: Destination { transport, flow: None, target: Target::Address(target) },
            local,
            headers: Vec::new(),
            credentials: None,
            offer: Bytes::from_static(OFFER),
            patience: None,
        };
        let id = self.caller.endpoint.invite(now, call).unwrap();
        self.pump();
        id
    }

    /// Takes everything that both endpoints want done.
    pub fn pump(&mut self) {
        for who in [Who::Caller, Who::Callee] {
            while let Some(output) = self.side(who).endpoint.poll() {
                match output {
                    Output::Send { bytes, .. } => self.send(who, bytes),
                    Output::Event(event) => {
                        let at = self.elapsed();
                        self.side(who).events.push((at, event));
                    }
                }
            }
        }
    }

    fn send(&mut self, from: Who, bytes: Bytes) {
        let message = Message::parse_datagram(bytes.clone(), &Limits::default()).expect("we send what can be read");
        let what = match message.code() {
            Some(code) => code.to_string(),
            None => message.method().unwrap().to_string(),
        };
        let of = message.cseq().unwrap().method.to_string();
        let mut sent = Sent { at: self.elapsed(), from, what, of, bytes: bytes.clone(), lost: false };
        let by_hook = self.hook.as_mut().is_some_and(|hook| hook(&sent));
        sent.lost = by_hook || self.random() % 100 < self.loss_percent;
        if !sent.lost {
            self.count += 1;
            self.in_flight.push((self.now + self.latency, self.count, from, bytes));
        }
        self.log.push(sent);
    }

    /// Goes on to the next thing that happens, if that is before `until`.
    pub fn step(&mut self, until: Instant) -> bool {
        let delivery = self.in_flight.iter().map(|(at, ..)| *at).min();
        let wakes = [self.caller.endpoint.next_wake(), self.callee.endpoint.next_wake()];
        let Some(next) = delivery.into_iter().chain(wakes.into_iter().flatten()).min() else { return false };
        if next > until {
            return false;
        }
        self.now = self.now.max(next);
        let now = self.now;
        let mut due: Vec<_> = Vec::new();
        self.in_flight.retain(|item| {
            let is_due = item.0 <= now;
            if is_due {
                due.push(item.clone());
            }
            !is_due
        });
        due.sort_by_key(|item| (item.0, item.1));
        for (_, _, from, bytes) in due {
            self.deliver(from, bytes);
            self.pump();
        }
        for who in [Who::Caller, Who::Callee] {
            self.side(who).endpoint.tick(now);
        }
        self.pump();
        true
    }

    /// Hands a message over at once.
    pub fn deliver(&mut self, from: Who, bytes: Bytes) {
        let (to, remote) = match from {
            Who::Caller => (Who::Callee, self.caller.address),
            Who::Callee => (Who::Caller, self.callee.address),
        };
        let (transport, now) = (self.transport, self.now);
        let side = self.side(to);
        let source = Source { transport, remote, local: side.address, flow: FlowId(1) };
        side.endpoint.receive(now, source, Message::parse_datagram(bytes, &Limits::default()));
    }

    /// Goes on for a while.
    pub fn run_for(&mut self, span: Duration) {
        let until = self.now + span;
        while self.step(until) {}
        self.now = until;
    }

    pub fn run_ms(&mut self, ms: u64) {
        self.run_for(Duration::from_millis(ms));
    }

    /// Goes on until nothing is left to happen: every call over, every timer out.
    pub fn run_out(&mut self) {
        let until = self.now + Duration::from_secs(3600);
        while self.step(until) {}
    }

    /// The callee's newest call.
    pub fn incoming(&self) -> CallId {
        let incoming = self.callee.events.iter().rev().find(|(_, event)| matches!(event, Event::Incoming { .. }));
        incoming.and_then(|(_, event)| event.call()).expect("an incoming call")
    }

    /// The callee answers its newest call.
    pub fn answer(&mut self) -> CallId {
        let (call, now) = (self.incoming(), self.now);
        self.callee.endpoint.answer(now, call, Bytes::from_static(ANSWER)).unwrap();
        self.pump();
        call
    }

    /// A call that stands: the caller's and the callee's ids.
    pub fn established(&mut self) -> (CallId, CallId) {
        let caller = self.call();
        self.run_ms(50);
        let callee = self.answer();
        self.run_ms(50);
        assert!(self.acked(callee), "the call stands");
        (caller, callee)
    }

    pub fn acked(&self, call: CallId) -> bool {
        self.callee.events.iter().any(|(_, event)| matches!(event, Event::Acked { call: c, .. } if *c == call))
    }

    pub fn bye(&mut self, who: Who, call: CallId) {
        let now = self.now;
        self.side(who).endpoint.bye(now, call, None).unwrap();
        self.pump();
    }

    /// When and why a call ended.
    pub fn ended(&self, who: Who, call: CallId) -> Option<(Duration, EndCause)> {
        let events = match who {
            Who::Caller => &self.caller.events,
            Who::Callee => &self.callee.events,
        };
        let mut ends = events.iter().filter_map(|(at, event)| match event {
            Event::Ended { call: c, cause, .. } if *c == call => Some((*at, *cause)),
            _ => None,
        });
        let end = ends.next();
        assert!(ends.next().is_none(), "a call ends once");
        end
    }

    pub fn cause(&self, who: Who, call: CallId) -> Option<EndCause> {
        self.ended(who, call).map(|(_, cause)| cause)
    }

    /// When messages of this kind were sent, in milliseconds since the start.
    pub fn sent_ms(&self, from: Who, what: &str, of: &str) -> Vec<u64> {
        let wanted = self.log.iter().filter(|sent| sent.from == from && sent.what == what && sent.of == of);
        wanted.map(|sent| sent.at.as_millis() as u64).collect()
    }

    /// Nothing is left over on either side.
    pub fn assert_empty(&self) {
        for endpoint in [&self.caller.endpoint, &self.callee.endpoint] {
            let stats = endpoint.stats();
            let held = [stats.calls, stats.transactions, stats.requests, stats.subscriptions];
            assert_eq!(held, [0; 4], "{stats:?}");
        }
    }
}

/// A hook that drops the first `count` messages of a kind.
pub fn drop_first(count: usize, from: Who, what: &'static str, of: &'static str) -> Option<Hook> {
    let mut left = count;
    Some(Box::new(move |sent| {
        let hit = left > 0 && sent.from == from && sent.what == what && sent.of == of;
        left -= usize::from(hit);
        hit
    }))
}

/// One endpoint, and a peer whose messages the test writes by hand.
pub struct Raw {
    pub now: Instant,
    pub endpoint: Endpoint,
    pub source: Source,
    pub events: Vec<Event>,
    /// What it sent since the last look.
    pub out: Vec<(SendId, Destination, Message)>,
}

impl Raw {
    pub fn new(config: EndpointConfig) -> Self {
        Self {
            now: Instant::now(),
            endpoint: Endpoint::new(config, 1),
            source: Source {
                transport: Transport::Udp,
                remote: "192.0.2.1:5062".parse().unwrap(),
                local: "192.0.2.2:5060".parse().unwrap(),
                flow: FlowId(7),
            },
            events: Vec::new(),
            out: Vec::new(),
        }
    }

    pub fn receive(&mut self, text: &str) {
        let message = Message::parse_datagram(Bytes::copy_from_slice(text.as_bytes()), &Limits::default());
        self.endpoint.receive(self.now, self.source, message);
        self.poll();
    }

    pub fn poll(&mut self) {
        while let Some(output) = self.endpoint.poll() {
            match output {
                Output::Send { id, to, bytes } => {
                    self.out.push((id, to, Message::parse_datagram(bytes, &Limits::default()).unwrap()));
                }
                Output::Event(event) => self.events.push(event),
            }
        }
    }

    /// Lets time pass.
    pub fn wait(&mut self, span: Duration) {
        let until = self.now + span;
        while let Some(wake) = self.endpoint.next_wake().filter(|wake| *wake <= until) {
            self.now = wake;
            self.endpoint.tick(wake);
            self.poll();
        }
        self.now = until;
    }

    /// The codes of the responses sent since the last look.
    pub fn codes(&mut self) -> Vec<u16> {
        self.out.drain(..).filter_map(|(_, _, message)| message.code()).collect()
    }

    /// The one message sent since the last look.
    pub fn only(&mut self) -> Message {
        assert_eq!(self.out.len(), 1, "{:?}", self.out.iter().map(|(_, _, m)| m.start_line()).collect::<Vec<_>>());
        self.out.remove(0).2
    }

    pub fn last(&mut self) -> Message {
        let last = self.out.pop().expect("something was sent").2;
        self.out.clear();
        last
    }

    pub fn call(&self) -> CallId {
        self.events
            .iter()
            .rev()
            .find(|event| matches!(event, Event::Incoming { .. }))
            .and_then(Event::call)
            .expect("a call")
    }

    pub fn causes(&self) -> Vec<EndCause> {
        let causes = self.events.iter().filter_map(|event| match event {
            Event::Ended { cause, .. } => Some(*cause),
            _ => None,
        });
        causes.collect()
    }
}

/// A request written by hand; every part can be replaced.
#[derive(Clone)]
pub struct Request {
    pub method: &'static str,
    pub uri: &'static str,
    pub via: String,
    pub from: String,
    pub to: String,
    pub call_id: String,
    pub cseq: u32,
    pub cseq_method: Option<&'static str>,
    pub extra: String,
    pub body: &'static str,
    pub body_type: &'static str,
}

impl Request {
    pub fn new(method: &'static str, branch: &str) -> Self {
        Self {
            method,
            uri: "sip:agent@192.0.2.2",
            via: format!("SIP/2.0/UDP 192.0.2.1:5062;rport;branch=z9hG4bK{branch}"),
            from: "<sip:peer@192.0.2.1>;tag=p1".into(),
            to: "<sip:agent@192.0.2.2>".into(),
            call_id: "call-1".into(),
            cseq: 1,
            cseq_method: None,
            extra: "Max-Forwards: 70\r\n".into(),
            body: "",
            body_type: "application/sdp",
        }
    }

    pub fn invite(branch: &str) -> Self {
        let mut invite = Self::new("INVITE", branch);
        invite.extra.push_str("Contact: <sip:peer@192.0.2.1:5062>\r\n");
        invite.body = "v=0\r\n";
        invite
    }

    pub fn tagged(mut self, tag: &str) -> Self {
        self.to = format!("<sip:agent@192.0.2.2>;tag={tag}");
        self
    }

    pub fn cseq(mut self, number: u32) -> Self {
        self.cseq = number;
        self
    }

    pub fn header(mut self, line: &str) -> Self {
        self.extra.push_str(line);
        self.extra.push_str("\r\n");
        self
    }

    pub fn text(&self) -> String {
        let content =
            if self.body.is_empty() { String::new() } else { format!("Content-Type: {}\r\n", self.body_type) };
        format!(
            "{} {} SIP/2.0\r\nVia: {}\r\nFrom: {}\r\nTo: {}\r\nCall-ID: {}\r\nCSeq: {} {}\r\n{}{}Content-Length: {}\r\n\r\n{}",
            self.method,
            self.uri,
            self.via,
            self.from,
            self.to,
            self.call_id,
            self.cseq,
            self.cseq_method.unwrap_or(self.method),
            self.extra,
            content,
            self.body.len(),
            self.body
        )
    }
}

/// A response to one of our requests, written by hand.
pub fn response(request: &Message, code: u16, to_tag: &str, extra: &str, body: &str) -> String {
    use sip::Name;
    let mut text = format!("SIP/2.0 {code} Test\r\n");
    for via in request.headers(Name::Via) {
        text.push_str(&format!("Via: {via}\r\n"));
    }
    let to = request.header(Name::To).unwrap();
    let tag = if to.contains(";tag=") || to_tag.is_empty() { String::new() } else { format!(";tag={to_tag}") };
    text.push_str(&format!("From: {}\r\nTo: {to}{tag}\r\n", request.header(Name::From).unwrap()));
    text.push_str(&format!("Call-ID: {}\r\nCSeq: {}\r\n", request.call_id(), request.header(Name::CSeq).unwrap()));
    text.push_str(extra);
    if !body.is_empty() {
        text.push_str("Content-Type: application/sdp\r\n");
    }
    text.push_str(&format!("Content-Length: {}\r\n\r\n{body}", body.len()));
    text
}

/// A call to the peer of a [`Raw`].
pub fn outgoing() -> OutgoingCall {
    OutgoingCall {
        uri: "sip:peer@192.0.2.1:5062".into(),
        from: "<sip:agent@192.0.2.2>".into(),
        to: None,
        destination: Destination {
            transport: Transport::Udp,
            flow: None,
            target: Target::Address("192.0.2.1:5062".parse().unwrap()),
        },
        local: "192.0.2.2:5060".parse().unwrap(),
        headers: Vec::new(),
        credentials: None,
        offer: Bytes::from_static(b"v=0\r\n"),
        patience: None,
    }
}

/// Places a call: its id, and its INVITE.
pub fn invite(raw: &mut Raw, call: OutgoingCall) -> (CallId, Message) {
    let id = raw.endpoint.invite(raw.now, call).unwrap();
    raw.poll();
    (id, raw.only())
}
