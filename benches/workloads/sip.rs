//! SIP and SDP: parsed, printed and negotiated; a transaction's step; a whole call through the endpoint.
#![allow(clippy::unwrap_used)]

use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use bytes::Bytes;
use sip::endpoint::{Endpoint, EndpointConfig, Event, FlowId, Output, Source, Transport};
use sip::negotiate::{self, Capability, CodecOffer, LocalMedia, Preference};
use sip::sdp::{Direction, Session};
use sip::stream::StreamFramer;
use sip::timer::Timings;
use sip::transaction::{Input, Kind, Transaction};
use sip::{Limits, Message, Name};

use crate::case::{Case, Step, Work};

const SDP: &str = "v=0\r\no=- 20518 0 IN IP4 203.0.113.1\r\ns=call\r\nc=IN IP4 203.0.113.1\r\nt=0 0\r\n\
    m=audio 54400 RTP/AVP 96 9 0 8 101 13\r\na=rtpmap:96 opus/48000/2\r\n\
    a=fmtp:96 useinbandfec=1;maxplaybackrate=16000\r\na=rtpmap:9 G722/8000\r\na=rtpmap:0 PCMU/8000\r\n\
    a=rtpmap:8 PCMA/8000\r\na=rtpmap:101 telephone-event/8000\r\na=fmtp:101 0-16\r\na=rtpmap:13 CN/8000\r\n\
    a=ptime:20\r\na=rtcp-mux\r\na=sendrecv\r\n";

const PEER: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(203, 0, 113, 1)), 5060);
const OURS: SocketAddr = SocketAddr::new(IpAddr::V4(Ipv4Addr::new(192, 0, 2, 10)), 5060);

pub(crate) fn cases() -> Vec<Case> {
    let invite = Bytes::from(request("INVITE", 1, 1, "", SDP));
    let ok = answer_to(&invite);
    let bytes = |message: &Bytes| Work::Bytes(message.len() as u64);
    let (work_invite, work_ok) = (bytes(&invite), bytes(&ok));
    let invite_again = invite.clone();
    vec![
        Case::new("sip/parse/invite", work_invite, move || parse(invite.clone())),
        Case::new("sip/parse/ok", work_ok, move || parse(ok.clone())),
        Case::new("sip/frame/invite_tcp", work_invite, frame),
        Case::new("sip/print/ok", work_ok, move || print(&invite_again)),
        Case::new("sdp/parse/offer", Work::Bytes(SDP.len() as u64), parse_sdp),
        Case::new("sdp/print/offer", Work::Bytes(SDP.len() as u64), print_sdp),
        Case::new("sdp/negotiate/offer", Work::Items(1), negotiate_offer),
        Case::new("sip/transaction_step/invite_server", Work::Items(4), transaction),
        Case::new("sip/call/inbound_udp", Work::Items(1), call),
    ]
}

/// A request of call `n`, as a softphone writes it.
fn request(method: &str, n: u64, cseq: u32, to_tag: &str, body: &str) -> String {
    let content = if body.is_empty() { "" } else { "Content-Type: application/sdp\r\n" };
    let cseq_method = if method == "ACK" { "ACK" } else { method };
    format!(
        "{method} sip:agent@192.0.2.10:5060 SIP/2.0\r\n\
         Via: SIP/2.0/UDP 203.0.113.1:5060;rport;branch=z9hG4bK{method}{n:x}\r\n\
         Max-Forwards: 70\r\nFrom: \"Alice\" <sip:alice@203.0.113.1>;tag=a{n:x}\r\n\
         To: <sip:agent@192.0.2.10>{to_tag}\r\nCall-ID: {n:016x}@203.0.113.1\r\nCSeq: {cseq} {cseq_method}\r\n\
         Contact: <sip:alice@203.0.113.1:5060>\r\nUser-Agent: softphone 1.0\r\n\
         Allow: INVITE, ACK, BYE, CANCEL, OPTIONS, INFO, UPDATE, REFER, NOTIFY\r\n\
         Supported: replaces, outbound, 100rel\r\n{content}Content-Length: {}\r\n\r\n{body}",
        body.len()
    )
}

fn read(bytes: Bytes) -> Message {
    Message::parse_datagram(bytes, &Limits::default()).unwrap()
}

fn answer_to(invite: &Bytes) -> Bytes {
    build_ok(&read(invite.clone()))
}

fn build_ok(invite: &Message) -> Bytes {
    invite
        .response(200, "OK", Some("5f3a"))
        .header(Name::Contact, "<sip:agent@192.0.2.10:5060>")
        .body("application/sdp", Bytes::from_static(SDP.as_bytes()))
        .finish()
        .bytes()
}

fn parse(bytes: Bytes) -> Step {
    let limits = Limits::default();
    Box::new(move || {
        black_box(Message::parse_datagram(black_box(bytes.clone()), &limits).unwrap());
    })
}

fn frame() -> Step {
    let invite = request("INVITE", 1, 1, "", SDP);
    let mut framer = StreamFramer::new(Limits::default());
    Box::new(move || {
        let (head, tail) = invite.as_bytes().split_at(300);
        framer.push(black_box(head));
        assert!(framer.next().is_none());
        framer.push(black_box(tail));
        black_box(framer.next().unwrap().unwrap());
    })
}

fn print(invite: &Bytes) -> Step {
    let invite = read(invite.clone());
    Box::new(move || {
        black_box(build_ok(black_box(&invite)));
    })
}

fn parse_sdp() -> Step {
    Box::new(|| {
        black_box(Session::parse(black_box(SDP.as_bytes())).unwrap());
    })
}

fn print_sdp() -> Step {
    let session = Session::parse(SDP.as_bytes()).unwrap();
    Box::new(move || {
        black_box(black_box(&session).to_bytes());
    })
}

fn negotiate_offer() -> Step {
    let codec = |name: &str, clock_hz, channels, static_payload_type| CodecOffer {
        name: name.into(),
        clock_hz,
        channels,
        static_payload_type,
        fmtp: None,
    };
    let caps = Capability {
        codecs: vec![
            codec("opus", 48_000, 2, None),
            codec("G722", 8_000, 1, Some(9)),
            codec("PCMU", 8_000, 1, Some(0)),
            codec("PCMA", 8_000, 1, Some(8)),
        ],
        telephone_event: true,
        comfort_noise: true,
        ptime_ms: 20,
        rtcp_mux: true,
        audio_levels: true,
        preference: Preference::Ours,
    };
    let local = LocalMedia {
        addr: OURS.ip(),
        port: 10_000,
        session_id: 1,
        version: 1,
        direction: Direction::SendRecv,
        protection: Default::default(),
    };
    let offer = Session::parse(SDP.as_bytes()).unwrap();
    Box::new(move || {
        black_box(negotiate::answer(&local, &caps, black_box(&offer)).unwrap());
    })
}

/// The life of an INVITE server transaction: 180, a repeated INVITE, 486, ACK.
fn transaction() -> Step {
    let now = Instant::now();
    let timings = Timings::default();
    Box::new(move || {
        let mut machine: Transaction<u32> = Transaction::new(Kind::ServerInvite, false);
        black_box(machine.step(now, &timings, Input::Provisional, Some(180)));
        black_box(machine.step(now, &timings, Input::Repeat, None));
        black_box(machine.step(now, &timings, Input::Failure, Some(486)));
        black_box(machine.step(now, &timings, Input::Ack, None));
    })
}

/// A call that comes in, is answered, acknowledged and hung up: from bytes to bytes, in virtual time.
fn call() -> Step {
    let mut endpoint = Endpoint::new(EndpointConfig::default(), 7);
    let source = Source { transport: Transport::Udp, remote: PEER, local: OURS, flow: FlowId(1) };
    let mut now = Instant::now();
    let mut n = 0_u64;
    Box::new(move || {
        n += 1;
        // a call each 20 ms: the transactions' timers run and expire as on a busy server
        now += Duration::from_millis(20);
        endpoint.tick(now);
        while endpoint.poll().is_some() {}
        let receive = |endpoint: &mut Endpoint, text: String| {
            let message = Message::parse_datagram(Bytes::from(text), &Limits::default());
            endpoint.receive(now, source, message);
        };
        receive(&mut endpoint, request("INVITE", n, 1, "", SDP));
        let mut to_tag = String::new();
        let mut ended = false;
        while let Some(output) = endpoint.poll() {
            match output {
                Output::Event(Event::Incoming { call, .. }) => {
                    endpoint.answer(now, call, Bytes::from_static(SDP.as_bytes())).unwrap();
                }
                Output::Event(Event::Acked { .. }) => receive(&mut endpoint, request("BYE", n, 2, &to_tag, "")),
                Output::Event(Event::Ended { .. }) => ended = true,
                Output::Send { bytes, .. } => {
                    let response = read(bytes);
                    if response.code() == Some(200) && to_tag.is_empty() {
                        let tag = response.to().unwrap().tag().unwrap();
                        to_tag = format!(";tag={tag}");
                        receive(&mut endpoint, request("ACK", n, 1, &to_tag, ""));
                    }
                }
                Output::Event(_) => {}
            }
        }
        assert!(ended, "call {n} did not end");
    })
}
