//! Why a call ended, told to the peer and by it (Reason, RFC 3326).
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "support/pair.rs"]
mod pair;

use Who::{Callee, Caller};
use bytes::Bytes;
use pair::{ANSWER, Pair, Raw, Request, Who};
use sip::{CallId, EndCause, EndpointConfig, Event};

/// The Reason that a call's end was told with.
fn reason_of(pair: &Pair, who: Who, call: CallId) -> Option<String> {
    let events = if who == Caller { &pair.caller.events } else { &pair.callee.events };
    events.iter().find_map(|(_, event)| match event {
        Event::Ended { call: c, reason_header, .. } if *c == call => reason_header.clone(),
        _ => None,
    })
}

#[test]
fn a_reason_given_with_bye_reaches_the_peer() {
    let mut pair = Pair::new(37);
    let (caller, callee) = pair.established();
    let now = pair.now;
    pair.caller.endpoint.bye(now, caller, Some("Q.850;cause=16;text=\"over\"")).unwrap();
    pair.pump();
    pair.run_ms(100);
    let reason = reason_of(&pair, Callee, callee);
    assert_eq!(reason.as_deref(), Some("Q.850;cause=16;text=\"over\""));
}

/// Conforms: RFC 3326 §2 — all reasons of a refusal are told, as far as there is room for them.
#[test]
fn a_refusal_is_told_with_all_its_reasons() {
    let long = format!("X;text=\"{}\"", "a".repeat(1_000));
    for (reasons, told) in [
        (vec!["Q.850;cause=1;text=\"Unallocated, unassigned\"", "SIP;cause=404"], 2),
        (vec!["Q.850;cause=17", &long], 1),
        (vec![], 0),
    ] {
        let mut pair = Pair::new(41);
        let caller = pair.call();
        pair.run_ms(20);
        let (callee, now) = (pair.incoming(), pair.now);
        let headers: Vec<_> = reasons.iter().map(|reason| ("Reason".to_owned(), (*reason).to_owned())).collect();
        pair.callee.endpoint.reject(now, callee, 404, "", &headers).unwrap();
        pair.pump();
        pair.run_ms(100);
        let expected = (told > 0).then(|| reasons[..told].join(", "));
        assert_eq!(reason_of(&pair, Caller, caller), expected);
    }
}

/// Conforms: RFC 3326 §2 — a reason goes with whatever ends the call.
#[test]
fn a_reason_goes_with_480_and_with_a_bye_after_a_cancel_that_came_too_late() {
    let why = "SIP;cause=200;text=\"elsewhere\"";
    let mut pair = Pair::new(42);
    let caller = pair.call();
    pair.run_ms(20);
    let (callee, now) = (pair.incoming(), pair.now);
    pair.callee.endpoint.bye(now, callee, Some(why)).unwrap();
    pair.pump();
    pair.run_ms(100);
    assert_eq!(pair.cause(Caller, caller), Some(EndCause::Rejected(480)));
    assert_eq!(reason_of(&pair, Caller, caller).as_deref(), Some(why));

    let caller = pair.call();
    pair.run_ms(50);
    let callee = pair.answer();
    let now = pair.now;
    pair.caller.endpoint.bye(now, caller, Some(why)).unwrap();
    pair.caller.endpoint.bye(now, caller, None).unwrap();
    pair.pump();
    pair.run_ms(100);
    assert_eq!(pair.cause(Callee, callee), Some(EndCause::RemoteBye));
    assert_eq!(reason_of(&pair, Callee, callee).as_deref(), Some(why));
}

#[test]
fn the_reason_of_a_cancelled_reinvite_is_not_the_calls() {
    let mut raw = Raw::new(EndpointConfig::default());
    raw.receive(&Request::invite("1").text());
    let call = raw.call();
    raw.endpoint.answer(raw.now, call, Bytes::from_static(ANSWER)).unwrap();
    raw.poll();
    let tag = raw.last().to().unwrap().tag().unwrap().to_owned();
    raw.receive(&Request::new("ACK", "a").tagged(&tag).text());
    raw.receive(&Request::invite("re").tagged(&tag).cseq(2).text());
    let cancel = Request::new("CANCEL", "re").tagged(&tag).cseq(2).header("Reason: SIP;cause=408");
    raw.receive(&cancel.text());
    raw.endpoint.bye(raw.now, call, None).unwrap();
    raw.receive(&Request::new("BYE", "b").tagged(&tag).cseq(3).text());
    assert!(matches!(raw.events.last(), Some(Event::Ended { reason_header: None, .. })), "{:?}", raw.events.last());
}
