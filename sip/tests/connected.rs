//! Who is at the ends of a call that stands (RFC 4916).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "support/pair.rs"]
mod pair;

use std::time::Duration;

use bytes::Bytes;
use pair::{Raw, Request, response};
use sip::{CallId, EndpointConfig, Event, Method, Name};

const CONTACT: &str = "Contact: <sip:peer@192.0.2.1:5062>\r\n";
const BOB: &str = "\"Bob\" <sip:bob@pbx.test>";

/// A call that stands with a peer that says this of itself; our tag.
fn standing(headers: &[&str]) -> (Raw, CallId, String) {
    let mut raw = Raw::new(EndpointConfig::default());
    let invite = headers.iter().fold(Request::invite("1"), |invite, header| invite.header(header));
    raw.receive(&invite.text());
    let call = raw.call();
    raw.endpoint.answer(raw.now, call, Bytes::from_static(b"v=0\r\n")).unwrap();
    raw.poll();
    let tag = raw.last().to().unwrap().tag().unwrap().to_owned();
    raw.receive(&Request::new("ACK", "ack1").tagged(&tag).text());
    raw.out.clear();
    (raw, call, tag)
}

fn asserted() -> Vec<(String, String)> {
    vec![("P-Asserted-Identity".into(), BOB.into()), ("Route".into(), "<sip:evil.test>".into())]
}

/// Conforms: RFC 4916 §4.4 — a peer that takes another From (`from-change`) is told by UPDATE, or re-INVITE where it takes none, in the same
/// dialog; of another its From stays, and it is told by P-Asserted-Identity (RFC 3325) or not at all.
#[test]
fn who_is_here_now_is_told_as_the_peer_takes_it() {
    let update = "Allow: INVITE, ACK, BYE, UPDATE";
    let from_change = "Supported: timer, From-Change";
    for (headers, method, has_from) in [
        (&[update, from_change][..], Some(Method::Update), true),
        (&["Allow: INVITE", from_change], Some(Method::Invite), true),
        (&[update], Some(Method::Update), false),
        (&["Allow: INVITE, ACK, BYE"], None, false),
    ] {
        let (mut raw, call, tag) = standing(headers);
        raw.endpoint.identify(raw.now, call, BOB, &asserted()).unwrap();
        raw.wait(Duration::from_secs(1));
        let Some(method) = method else {
            assert!(raw.out.is_empty());
            continue;
        };
        let told = raw.last();
        assert_eq!(told.method(), Some(&method), "{headers:?}");
        let from = told.from_().unwrap();
        assert_eq!(from.tag(), Some(tag.as_str()), "the dialog is the same");
        assert_eq!(from.uri_text == "sip:bob@pbx.test", has_from, "{headers:?}");
        assert_eq!(told.header(Name::PAssertedIdentity), Some(BOB));
        assert!(told.header_named("Route").is_none());
        raw.receive(&response(&told, 200, "", CONTACT, if method == Method::Invite { "v=0\r\n" } else { "" }));
        raw.out.clear();
        raw.wait(Duration::from_secs(60));
        assert!(raw.out.is_empty(), "it was told");
    }
}

#[test]
fn a_peer_that_refuses_is_asked_a_few_times_and_the_call_stands() {
    for code in [405, 488, 500] {
        let (mut raw, call, _) = standing(&["Allow: INVITE, UPDATE", "Supported: from-change"]);
        raw.endpoint.identify(raw.now, call, BOB, &asserted()).unwrap();
        let mut asked = 0;
        for _ in 0..60 {
            raw.wait(Duration::from_secs(1));
            for (.., request) in std::mem::take(&mut raw.out) {
                if request.method() != Some(&Method::Ack) {
                    asked += 1;
                    raw.receive(&response(&request, code, "", CONTACT, ""));
                }
            }
        }
        assert!((1..=8).contains(&asked), "{code}: {asked} times");
        assert!(!raw.events.iter().any(|event| matches!(event, Event::Ended { .. })), "{code}");
        assert!(raw.endpoint.dialog_identity(call).is_some());
    }
}

#[test]
fn what_cannot_be_a_from_is_told_to_nobody() {
    let (mut raw, call, _) = standing(&["Allow: UPDATE", "Supported: from-change"]);
    for from in
        ["", "bob", "<sip:bob@pbx.test>;tag=2", "<sip:bob@pbx.test", "sip:bob@pbx.test", "<sip:a>\r\nRoute: <sip:b>"]
    {
        assert!(raw.endpoint.identify(raw.now, call, from, &[]).is_err(), "{from}");
    }
    assert!(raw.endpoint.identify(raw.now, CallId(99), BOB, &[]).is_err());
    raw.wait(Duration::from_secs(1));
    assert!(raw.out.is_empty());
}

/// Conforms: RFC 4916 §4.5 — a peer's UPDATE with another From in the same dialog is taken, told, and what we send after that goes to it.
#[test]
fn a_peer_says_that_somebody_else_is_there() {
    let (mut raw, call, tag) = standing(&["Allow: UPDATE", "Supported: from-change"]);
    let update =
        |branch: &str, sequence| Request::new("UPDATE", branch).tagged(&tag).cseq(sequence).header(CONTACT.trim());
    raw.receive(&update("u1", 2).text());
    assert_eq!(raw.last().code(), Some(200));
    let identified = |raw: &Raw| raw.events.iter().filter(|event| matches!(event, Event::Identified { .. })).count();
    assert_eq!(identified(&raw), 0, "nothing has changed");
    let another = Request { from: "\"Dora\" <sip:dora@peer.test>;tag=p1".into(), ..update("u2", 3) };
    raw.receive(&another.text());
    assert_eq!(raw.last().code(), Some(200));
    assert_eq!(identified(&raw), 1);
    raw.out.clear();
    raw.endpoint.bye(raw.now, call, None).unwrap();
    raw.poll();
    let bye = raw.last();
    let to = bye.to().unwrap();
    assert_eq!((to.uri_text, to.tag()), ("sip:dora@peer.test", Some("p1")));
}
