//! Requests outside of calls: what the user is told and answers, what it sends, and what happens when nobody answers.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "support/pair.rs"]
mod pair;

use std::time::Duration;

use bytes::Bytes;
use pair::{Pair, Raw, Request, Who, response};
use sip::auth::Credentials;
use sip::endpoint::{CommandError, Destination, RequestId, Target};
use sip::{EndpointConfig, EndpointLimits, Event, Message, Method, Name, OutgoingRequest, Transport};

fn taking(methods: &[Method]) -> EndpointConfig {
    EndpointConfig { user_methods: methods.to_vec(), ..EndpointConfig::default() }
}

fn asked(events: &[Event]) -> Vec<RequestId> {
    let asked = events.iter().filter_map(|event| match event {
        Event::Request { request, .. } => Some(*request),
        _ => None,
    });
    asked.collect()
}

/// Code, and the response's reason phrase, of each final answer.
fn answered(events: &[(Duration, Event)]) -> Vec<(u64, u16, bool)> {
    let answered = events.iter().filter_map(|(at, event)| match event {
        Event::Response { code, response, .. } => Some((at.as_millis() as u64, *code, response.is_some())),
        _ => None,
    });
    answered.collect()
}

fn message(pair: &Pair) -> OutgoingRequest {
    let destination =
        Destination { transport: pair.transport, flow: None, target: Target::Address(pair.callee.address) };
    OutgoingRequest {
        body: Some(("text/plain".into(), Bytes::from_static(b"Watson, come here."))),
        ..OutgoingRequest::new(
            Method::Message,
            "sip:watson@10.0.0.2",
            "\"Bell\" <sip:bell@10.0.0.1>",
            destination,
            pair.caller.address,
        )
    }
}

fn outgoing(method: Method) -> OutgoingRequest {
    let destination = Destination {
        transport: Transport::Udp,
        flow: None,
        target: Target::Address("192.0.2.1:5062".parse().unwrap()),
    };
    OutgoingRequest::new(
        method,
        "sip:192.0.2.1:5062",
        "<sip:me@192.0.2.2>",
        destination,
        "192.0.2.2:5060".parse().unwrap(),
    )
}

fn send(raw: &mut Raw, request: OutgoingRequest) -> (RequestId, Message) {
    let id = raw.endpoint.request(raw.now, request).unwrap();
    raw.poll();
    (id, raw.only())
}

/// Conforms: RFC 3428 §4, §7 — a MESSAGE outside of a dialog reaches the user and gets its answer, without a Contact
#[test]
fn a_message_crosses_and_is_answered() {
    let mut pair = Pair::with(1, EndpointConfig::default(), taking(&[Method::Message]));
    let request = message(&pair);
    let sent = pair.caller.endpoint.request(pair.now, request).unwrap();
    pair.pump();
    pair.run_ms(50);
    let (id, got) = pair
        .callee
        .events
        .iter()
        .find_map(|(_, event)| match event {
            Event::Request { request, message, .. } => Some((*request, message.clone())),
            _ => None,
        })
        .expect("the request is told");
    assert_eq!((got.method(), got.body()), (Some(&Method::Message), &b"Watson, come here."[..]));
    assert_eq!(got.from_().unwrap().display_name(), "Bell");
    assert!(got.header(Name::Contact).is_none(), "RFC 3428 section 4: no Contact");
    let headers = [("X-Seen".to_owned(), "yes\r\nEvil: 1".to_owned()), ("Via".to_owned(), "SIP/2.0/UDP x".to_owned())];
    pair.callee.endpoint.respond_request(pair.now, id, 200, "", &headers, None).unwrap();
    pair.pump();
    pair.run_ms(50);
    let told = pair.caller.events.iter().find_map(|(_, event)| match event {
        Event::Response { request, code, response } if *request == sent => Some((*code, response.clone().unwrap())),
        _ => None,
    });
    let (code, response) = told.expect("the answer is told");
    assert_eq!((code, response.header_named("X-Seen")), (200, Some("yes  Evil: 1")));
    assert_eq!((response.via_count(), response.header_named("Evil")), (1, None));
    assert!(response.to().unwrap().tag().is_some());
    let again = pair.callee.endpoint.respond_request(pair.now, id, 200, "", &[], None);
    assert_eq!(again, Err(CommandError::NoSuchRequest(id)));
    pair.run_out();
    pair.assert_empty();
}

#[test]
fn a_request_is_told_once_however_often_it_is_repeated_on_a_bad_network() {
    for seed in 0..20 {
        let mut pair = Pair::with(seed, EndpointConfig::default(), taking(&[Method::Message]));
        pair.loss_percent = 30;
        let request = message(&pair);
        pair.caller.endpoint.request(pair.now, request).unwrap();
        pair.pump();
        let until = pair.now + Duration::from_secs(60);
        while pair.step(until) {
            let waiting: Vec<_> = pair.callee.events.drain(..).map(|(_, event)| event).collect();
            for id in asked(&waiting) {
                pair.callee.endpoint.respond_request(pair.now, id, 202, "", &[], None).unwrap();
                pair.pump();
            }
        }
        let answers = answered(&pair.caller.events);
        assert!(matches!(answers[..], [(_, 202, true) | (_, 408, false)]), "{answers:?}");
        pair.run_out();
        pair.assert_empty();
    }
}

/// Conforms: RFC 3261 §8.1.3.1 — no answer is a 408, what cannot be sent is a 503
#[test]
fn a_request_that_nobody_answers_is_told_as_408_and_one_that_cannot_be_sent_as_503() {
    let mut pair = Pair::new(3);
    pair.hook = Some(Box::new(|sent| sent.from == Who::Caller));
    let request = message(&pair);
    pair.caller.endpoint.request(pair.now, request).unwrap();
    pair.pump();
    pair.run_out();
    assert_eq!(answered(&pair.caller.events), [(32_000, 408, false)]);
    pair.assert_empty();

    let mut raw = Raw::new(EndpointConfig::default());
    raw.endpoint.request(raw.now, outgoing(Method::Options)).unwrap();
    raw.poll();
    let id = raw.out[0].0;
    raw.endpoint.send_failed(raw.now, id);
    raw.poll();
    assert!(matches!(raw.events[..], [Event::Response { code: 503, response: None, .. }]));
}

/// Conforms: RFC 3261 §18.1.1 — a long request that cannot go by TCP goes by UDP, with the same time for an answer.
#[test]
fn a_long_request_that_falls_back_to_udp_fails_as_soon() {
    let mut raw = Raw::new(EndpointConfig::default());
    let body = Bytes::from(vec![b'x'; 1_400]);
    let request = OutgoingRequest {
        body: Some(("text/plain".into(), body)),
        patience: Some(Duration::from_secs(4)),
        ..outgoing(Method::Message)
    };
    raw.endpoint.request(raw.now, request).unwrap();
    raw.poll();
    let (id, to, _) = raw.out.remove(0);
    assert_eq!(to.transport, Transport::Tcp);
    raw.endpoint.send_failed(raw.now, id);
    raw.poll();
    assert_eq!(raw.out.remove(0).1.transport, Transport::Udp);
    raw.wait(Duration::from_millis(3_999));
    assert!(raw.events.is_empty());
    raw.wait(Duration::from_millis(2));
    assert!(matches!(raw.events[..], [Event::Response { code: 408, response: None, .. }]));
}

#[test]
fn a_request_that_the_user_forgets_gets_500_while_the_peer_still_waits() {
    let mut pair = Pair::with(4, EndpointConfig::default(), taking(&[Method::Message]));
    let request = message(&pair);
    pair.caller.endpoint.request(pair.now, request).unwrap();
    pair.pump();
    pair.run_out();
    assert_eq!(answered(&pair.caller.events), [(30_020, 500, true)]);
    pair.assert_empty();
}

/// Conforms: RFC 3261 §8.2.1 — only methods that the user takes are told; Allow names them all
#[test]
fn only_the_users_methods_are_told_and_allow_names_them() {
    let mut raw = Raw::new(taking(&[Method::Register, Method::Message, Method::Options]));
    for (index, method) in ["REGISTER", "MESSAGE", "OPTIONS"].into_iter().enumerate() {
        raw.receive(&Request::new(method, method).cseq(index as u32 + 1).text());
    }
    assert_eq!((asked(&raw.events).len(), raw.out.len()), (3, 0));
    raw.receive(&Request::new("PUBLISH", "p").text());
    let refusal = raw.only();
    assert_eq!(refusal.code(), Some(405));
    let allow = refusal.header(Name::Allow).unwrap();
    assert!(allow.starts_with("INVITE, ACK") && allow.ends_with(", REGISTER, MESSAGE"), "{allow}");
    // The user's own 405 names them as well.
    let id = asked(&raw.events)[1];
    raw.endpoint.respond_request(raw.now, id, 405, "", &[], None).unwrap();
    raw.poll();
    assert_eq!(raw.only().header(Name::Allow), Some(raw.endpoint.allow()));
    // Without the user, OPTIONS is answered by the endpoint.
    let mut raw = Raw::new(EndpointConfig::default());
    raw.receive(&Request::new("OPTIONS", "o").text());
    assert_eq!((raw.events.len(), raw.only().code()), (0, Some(200)));
}

#[test]
fn a_request_of_the_users_methods_that_names_a_dialog_of_no_call_gets_481() {
    let mut raw = Raw::new(taking(&[Method::Message]));
    raw.receive(&Request::new("MESSAGE", "1").tagged("nobody").text());
    assert_eq!((raw.events.len(), raw.only().code()), (0, Some(481)));
}

/// Conforms: RFC 3261 §8.2.2.2 — the same request by two ways is told once, the other gets 482
#[test]
fn a_request_that_comes_by_two_ways_is_told_once() {
    let mut raw = Raw::new(taking(&[Method::Register]));
    raw.receive(&Request::new("REGISTER", "one").text());
    raw.receive(&Request::new("REGISTER", "two").text());
    assert_eq!((asked(&raw.events).len(), raw.codes()), (1, vec![482]));
}

/// Conforms: RFC 3261 §8.2.2.3 — an extension that is required and not known gets 420
#[test]
fn a_required_extension_gets_420_outside_of_calls_too() {
    let mut raw = Raw::new(taking(&[Method::Register]));
    raw.receive(&Request::new("REGISTER", "r").header("Require: path-finding").text());
    let refusal = raw.only();
    assert_eq!((refusal.code(), refusal.header(Name::Unsupported)), (Some(420), Some("path-finding")));
}

#[test]
fn requests_beyond_the_limit_get_503_and_leave_nothing_behind() {
    let limits = EndpointLimits { requests: 3, ..EndpointLimits::default() };
    let mut raw = Raw::new(EndpointConfig { limits, ..taking(&[Method::Message]) });
    for n in 0..4 {
        raw.receive(&Request::new("MESSAGE", &format!("m{n}")).cseq(n + 1).text());
    }
    assert_eq!(asked(&raw.events).len(), 3);
    let refusal = raw.only();
    assert_eq!((refusal.code(), refusal.header(Name::RetryAfter)), (Some(503), Some("5")));
    assert_eq!((raw.endpoint.stats().requests, raw.endpoint.stats().transactions), (3, 3));
    // One is answered: there is room for one more.
    raw.endpoint.respond_request(raw.now, asked(&raw.events)[0], 200, "", &[], None).unwrap();
    raw.poll();
    assert_eq!(raw.codes(), [200]);
    raw.receive(&Request::new("MESSAGE", "m9").cseq(9).text());
    assert_eq!(asked(&raw.events).len(), 4);
    // Ours have their own room, as large.
    for _ in 0..3 {
        raw.endpoint.request(raw.now, outgoing(Method::Options)).unwrap();
    }
    let beyond = raw.endpoint.request(raw.now, outgoing(Method::Options));
    assert!(matches!(beyond, Err(CommandError::Limit { limit: 3, .. })), "{beyond:?}");
    raw.wait(Duration::from_secs(120));
    assert_eq!((raw.endpoint.stats().requests, raw.endpoint.stats().transactions), (0, 0));
}

#[test]
fn while_new_calls_are_refused_requests_outside_of_calls_are_as_well() {
    let mut raw = Raw::new(taking(&[Method::Message]));
    raw.endpoint.refuse_new_calls(true);
    raw.receive(&Request::new("MESSAGE", "m").text());
    assert_eq!((raw.events.len(), raw.codes()), (0, vec![503]));
}

fn challenge(realm: &str, nonce: &str) -> String {
    format!("WWW-Authenticate: Digest realm=\"{realm}\", nonce=\"{nonce}\", algorithm=MD5, qop=\"auth\"\r\n")
}

/// Conforms: RFC 3261 §22.2 — a challenged request is sent once more, with the next CSeq and the same Call-ID
#[test]
fn a_challenge_is_answered_once_with_the_next_number() {
    let mut raw = Raw::new(EndpointConfig::default());
    let request = OutgoingRequest {
        call_id: Some("reg-1".into()),
        sequence: Some(7),
        contact: Some("<sip:me@192.0.2.2>;expires=60".into()),
        headers: vec![("Expires".into(), "60".into()), ("Supported".into(), "path, outbound".into())],
        credentials: Some(Credentials { username: "me".into(), password: "secret".into() }),
        ..outgoing(Method::Register)
    };
    let (id, first) = send(&mut raw, request);
    assert_eq!((first.call_id(), first.header(Name::CSeq)), ("reg-1", Some("7 REGISTER")));
    assert_eq!(first.header(Name::Supported), Some("path, outbound"));
    assert_eq!(first.contact().unwrap().params.get("expires"), Some("60"));
    raw.receive(&response(&first, 401, "t", &challenge("here", "n1"), ""));
    let second = raw.only();
    assert_eq!((second.call_id(), second.header(Name::CSeq)), ("reg-1", Some("8 REGISTER")));
    assert!(second.header(Name::Authorization).unwrap().contains("nonce=\"n1\""));
    assert_ne!(first.top_via().unwrap().branch(), second.top_via().unwrap().branch());
    assert_eq!(first.from_().unwrap().tag(), second.from_().unwrap().tag());
    // The same realm refuses these credentials: that is the answer.
    raw.receive(&response(&second, 401, "t", &challenge("here", "n2"), ""));
    assert!(raw.out.is_empty());
    assert!(matches!(&raw.events[..], [Event::Response { request, code: 401, response: Some(_) }] if *request == id));
}

#[test]
fn provisional_answers_are_not_told() {
    let mut raw = Raw::new(EndpointConfig::default());
    let (_, request) = send(&mut raw, outgoing(Method::Options));
    raw.receive(&response(&request, 100, "", "", ""));
    assert!(raw.events.is_empty());
    raw.receive(&response(&request, 200, "t", "", ""));
    assert!(matches!(raw.events[..], [Event::Response { code: 200, .. }]));
}

#[test]
fn what_cannot_be_sent_is_named_in_the_error() {
    let mut raw = Raw::new(EndpointConfig::default());
    let refused = |raw: &mut Raw, request| match raw.endpoint.request(raw.now, request) {
        Err(CommandError::BadArgument { what, .. }) => what,
        other => panic!("{other:?}"),
    };
    assert_eq!(refused(&mut raw, outgoing(Method::Invite)), "method");
    assert_eq!(refused(&mut raw, OutgoingRequest { uri: "nowhere".into(), ..outgoing(Method::Options) }), "address");
    assert_eq!(refused(&mut raw, OutgoingRequest { from: "<broken".into(), ..outgoing(Method::Options) }), "From");
    assert_eq!(refused(&mut raw, OutgoingRequest { to: Some("<x".into()), ..outgoing(Method::Options) }), "To");
    for sequence in [0, 1 << 31] {
        let request = OutgoingRequest { sequence: Some(sequence), ..outgoing(Method::Options) };
        assert_eq!(refused(&mut raw, request), "CSeq number");
    }
    for call_id in ["", "a b", "a\r\nEvil: 1"] {
        let request = OutgoingRequest { call_id: Some(call_id.into()), ..outgoing(Method::Options) };
        assert_eq!(refused(&mut raw, request), "Call-ID");
    }
    assert_eq!(raw.endpoint.stats().requests, 0);
}
