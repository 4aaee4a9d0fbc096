//! A conference's end of a call (RFC 4579): what its peer is told, and when.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "support/pair.rs"]
mod pair;

use std::time::Duration;

use bytes::Bytes;
use pair::{Raw, Request, response};
use sip::{CallId, EndpointConfig, Event, Message, Method, Name};

const CONTACT: &str = "Contact: <sip:peer@192.0.2.1:5062>\r\n";

fn raw() -> Raw {
    Raw::new(EndpointConfig::default())
}

/// Conforms: RFC 4579 §4.2 — the Contact of a conference says that it is one
#[test]
fn the_contact_of_a_conference_says_so() {
    let mut raw = raw();
    raw.receive(&Request::invite("1").text());
    let call = raw.call();
    for _ in 0..2 {
        raw.endpoint.set_focus(raw.now, call).unwrap();
    }
    raw.endpoint.answer(raw.now, call, Bytes::from_static(b"v=0\r\n")).unwrap();
    raw.poll();
    let answer = raw.last();
    let contact = answer.header(Name::Contact).unwrap().to_owned();
    assert!(contact.ends_with(">;isfocus") && contact.matches("isfocus").count() == 1, "{contact}");
    assert!(raw.endpoint.set_focus(raw.now, CallId(99)).is_err());
    // Whoever hears it with the answer is not told once more.
    raw.receive(&Request::new("ACK", "ack").tagged(answer.to().unwrap().tag().unwrap()).text());
    raw.out.clear();
    raw.wait(Duration::from_secs(60));
    assert!(raw.out.is_empty());
}

/// Conforms: RFC 4579 §4.2 — whoever was answered before their call became a conference is told by a target refresh: UPDATE, or re-INVITE
/// where that is not taken, once the call stands and no offer is under way.
#[test]
fn a_call_that_becomes_a_conference_is_refreshed() {
    let is_focus =
        |message: &Message| message.header(Name::Contact).is_some_and(|contact| contact.ends_with(">;isfocus"));
    for takes_update in [true, false] {
        let mut raw = raw();
        let allow = if takes_update { "Allow: INVITE, ACK, BYE, UPDATE" } else { "Allow: INVITE, ACK, BYE" };
        raw.receive(&Request::invite("1").header(allow).text());
        let call = raw.call();
        raw.endpoint.answer(raw.now, call, Bytes::from_static(b"v=0\r\n")).unwrap();
        raw.poll();
        let answer = raw.last();
        assert!(!is_focus(&answer));
        raw.out.clear();
        raw.endpoint.set_focus(raw.now, call).unwrap();
        raw.wait(Duration::from_millis(100));
        assert!(raw.out.is_empty(), "not before the ACK");
        raw.receive(&Request::new("ACK", "ack1").tagged(answer.to().unwrap().tag().unwrap()).text());
        raw.out.clear();
        raw.wait(Duration::from_secs(1));
        let refresh = raw.last();
        let method = if takes_update { Method::Update } else { Method::Invite };
        assert_eq!(refresh.method(), Some(&method));
        assert!(is_focus(&refresh));
        // Refused for the moment, it is tried again; taken, it is not.
        raw.receive(&response(&refresh, 500, "", CONTACT, ""));
        raw.out.clear();
        raw.wait(Duration::from_secs(10));
        let again = raw.last();
        assert!(again.method() == Some(&method) && is_focus(&again));
        let body = if takes_update { "" } else { "v=0\r\n" };
        raw.receive(&response(&again, 200, "", CONTACT, body));
        raw.out.clear();
        raw.wait(Duration::from_secs(60));
        assert!(raw.out.is_empty(), "it was told");
        assert!(!raw.events.iter().any(|event| matches!(event, Event::ReofferResult { .. })), "nobody asked for it");
    }
}
