//! Session timers (RFC 4028), both roles, in virtual time.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "support/pair.rs"]
mod pair;

use std::time::Duration;

use Who::{Callee, Caller};
use bytes::Bytes;
use pair::{ANSWER, Pair, Raw, Request, Who, response};
use sip::{EndCause, EndpointConfig, Event, Message, Method, Name};

fn every(seconds: u64) -> EndpointConfig {
    EndpointConfig { session_interval: Duration::from_secs(seconds), ..EndpointConfig::default() }
}

/// Conforms: RFC 4028 §7.2 — the caller refreshes by UPDATE at half the interval, as often as it passes.
#[test]
fn a_call_is_refreshed_for_as_long_as_it_stands() {
    let mut pair = Pair::with(1, every(600), every(600));
    let (caller, _) = pair.established();
    pair.run_for(Duration::from_secs(1_000));
    let at: Vec<u64> = pair.sent_ms(Caller, "UPDATE", "UPDATE").iter().map(|ms| ms / 1_000).collect();
    assert_eq!(at, [300, 600, 900]);
    assert_eq!(pair.sent_ms(Callee, "200", "UPDATE").len(), 3);
    pair.bye(Caller, caller);
    pair.run_out();
    assert_eq!(pair.cause(Caller, caller), Some(EndCause::LocalBye));
    pair.assert_empty();
}

/// Conforms: RFC 4028 §10 — a call that is not refreshed is hung up, on both sides, before its interval is over.
#[test]
fn a_call_whose_peer_is_gone_ends() {
    let mut pair = Pair::with(2, every(600), every(600));
    let (caller, callee) = pair.established();
    pair.hook = Some(Box::new(|_| true));
    pair.run_out();
    let (at, cause) = pair.ended(Callee, callee).unwrap();
    assert_eq!(cause, EndCause::Expired);
    assert_eq!(pair.sent_ms(Callee, "BYE", "BYE")[0] / 1_000, 600 - 32, "a while before the end");
    assert!(at < Duration::from_secs(601), "{at:?}");
    assert_eq!(pair.cause(Caller, caller), Some(EndCause::Gone), "its UPDATE had no answer");
    pair.assert_empty();
}

/// A call that the peer placed and acknowledged: our 2xx, and our tag.
fn answered(raw: &mut Raw, invite: &Request) -> (Message, String) {
    raw.receive(&invite.text());
    let call = raw.call();
    raw.endpoint.answer(raw.now, call, Bytes::from_static(ANSWER)).unwrap();
    raw.poll();
    let ok = raw.last();
    let tag = ok.to().unwrap().tag().unwrap().to_owned();
    raw.receive(&Request::new("ACK", "ack").tagged(&tag).text());
    (ok, tag)
}

/// Conforms: RFC 4028 §9 — who refreshes is settled by what the caller asks for and knows.
#[test]
fn the_answer_says_who_refreshes() {
    for (headers, expires, require) in [
        ("Supported: timer\r\nSession-Expires: 300;refresher=uas", Some("300;refresher=uas"), None),
        ("Supported: timer\r\nSession-Expires: 300;refresher=uac", Some("300;refresher=uac"), Some("timer")),
        ("Supported: timer\r\nSession-Expires: 300", Some("300;refresher=uac"), Some("timer")),
        ("Supported: timer\r\nMin-SE: 2000", Some("2000;refresher=uac"), Some("timer")),
        ("Supported: timer", Some("1800;refresher=uac"), Some("timer")),
        // A proxy put it there: the caller knows nothing of it.
        ("Session-Expires: 60", Some("90;refresher=uas"), None),
        ("X-Nothing: 1", None, None),
    ] {
        let mut raw = Raw::new(EndpointConfig::default());
        let (ok, _) = answered(&mut raw, &Request::invite("1").header(headers));
        assert_eq!((ok.header(Name::SessionExpires), ok.header(Name::Require)), (expires, require), "{headers}");
    }
}

/// Conforms: RFC 4028 §9 — too short an interval gets 422 with Min-SE from whoever could take a longer one.
#[test]
fn too_short_an_interval_is_refused() {
    for method in ["INVITE", "UPDATE"] {
        let mut raw = Raw::new(EndpointConfig::default());
        let (_, tag) = answered(&mut raw, &Request::invite("1"));
        let mut request = if method == "INVITE" { Request::invite("2") } else { Request::new("UPDATE", "2") };
        request = request.tagged(&tag).cseq(2).header("Supported: timer").header("Session-Expires: 89");
        raw.receive(&request.text());
        let refusal = raw.last();
        assert_eq!((refusal.code(), refusal.header(Name::MinSe)), (Some(422), Some("90")), "{method}");
    }
}

/// Conforms: RFC 4028 §7.4 — where the peer does not take UPDATE, the refresh is a re-INVITE with the session as it stands.
#[test]
fn without_update_the_refresh_is_a_reinvite() {
    let mut raw = Raw::new(EndpointConfig::default());
    let (_, _) = answered(
        &mut raw,
        &Request::invite("1").header("Supported: timer").header("Session-Expires: 200;refresher=uas"),
    );
    raw.out.clear();
    raw.wait(Duration::from_secs(101));
    let refresh = raw.last();
    assert_eq!((refresh.method(), refresh.body()), (Some(&Method::Invite), ANSWER));
    assert_eq!(refresh.header(Name::SessionExpires), Some("200;refresher=uac"));
    raw.receive(&response(
        &refresh,
        200,
        "",
        "Contact: <sip:peer@192.0.2.1:5062>\r\nSession-Expires: 200;refresher=uac\r\n",
        "v=0\r\n",
    ));
    assert_eq!(raw.last().method(), Some(&Method::Ack));
    assert!(!raw.events.iter().any(|event| matches!(event, Event::ReofferResult { .. })), "nobody asked for it");
    raw.wait(Duration::from_secs(101));
    assert_eq!(raw.last().method(), Some(&Method::Invite), "and so on");
    raw.wait(Duration::from_secs(200));
    assert_eq!(raw.causes(), [EndCause::Gone]);
}

/// A call of a peer without UPDATE, whose session lasts 200 s and is ours to refresh: our tag.
fn refreshed_by_reinvite(raw: &mut Raw) -> String {
    let mut invite = Request::invite("1").header("Supported: timer").header("Session-Expires: 200;refresher=uas");
    invite.body = "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\nc=IN IP4 192.0.2.1\r\n";
    let (_, tag) = answered(raw, &invite);
    raw.out.clear();
    tag
}

fn results(raw: &Raw) -> Vec<(u16, Option<Bytes>)> {
    let results = raw.events.iter().filter_map(|event| match event {
        Event::ReofferResult { code, answer, .. } => Some((*code, answer.clone())),
        _ => None,
    });
    results.collect()
}

const REFRESHED: &str = "Contact: <sip:peer@192.0.2.1:5062>\r\nSession-Expires: 200;refresher=uac\r\n";

/// Conforms: RFC 3264 §8 — after glare a refresh describes the session as it stands by then.
#[test]
fn after_glare_a_refresh_holds_what_was_agreed_on_meanwhile() {
    let mut raw = Raw::new(EndpointConfig::default());
    let tag = refreshed_by_reinvite(&mut raw);
    raw.wait(Duration::from_secs(101));
    let refresh = raw.last();
    assert_eq!(refresh.body(), ANSWER);
    raw.receive(&response(&refresh, 491, "", "", ""));
    assert_eq!(raw.last().method(), Some(&Method::Ack));
    raw.receive(&Request::invite("hold").tagged(&tag).cseq(2).text());
    let held = Bytes::from_static(b"v=0\r\no=- 2 3 IN IP4 10.0.0.2\r\na=recvonly\r\n");
    raw.endpoint.answer_reoffer(raw.now, raw.call(), held.clone()).unwrap();
    raw.receive(&Request::new("ACK", "held").tagged(&tag).cseq(2).text());
    raw.out.clear();
    raw.wait(Duration::from_secs(5));
    let again = raw.last();
    assert_eq!((again.method(), again.body()), (Some(&Method::Invite), &held[..]));
}

const HOLD: &[u8] = b"v=0\r\no=- 2 3 IN IP4 10.0.0.2\r\na=sendonly\r\n";

/// Conforms: RFC 3261 §14.1 — what the user offers is tried again after glare, whatever is to be refreshed meanwhile.
#[test]
fn an_offer_of_the_users_that_waits_after_glare_is_not_overwritten_by_a_refresh() {
    let mut raw = Raw::new(EndpointConfig::default());
    refreshed_by_reinvite(&mut raw);
    let call = raw.call();
    raw.endpoint.reoffer(raw.now, call, Bytes::from_static(HOLD)).unwrap();
    raw.poll();
    let offer = raw.last();
    raw.receive(&response(&offer, 491, "", "", ""));
    raw.out.clear();
    // A refresh, for the peer to have our new Contact.
    raw.endpoint.set_focus(raw.now, call).unwrap();
    raw.wait(Duration::from_secs(3));
    let again = raw.last();
    assert_eq!((again.method(), again.body()), (Some(&Method::Invite), HOLD));
    assert!(again.header(Name::Contact).unwrap().ends_with(";isfocus"));
    raw.receive(&response(&again, 200, "", REFRESHED, "v=0\r\n"));
    assert_eq!(results(&raw), [(200, Some(Bytes::from_static(b"v=0\r\n")))]);
    // It counts as a refresh too.
    raw.out.clear();
    raw.wait(Duration::from_secs(99));
    assert!(raw.out.is_empty());
    raw.wait(Duration::from_secs(2));
    let refresh = raw.last();
    assert_eq!((refresh.method(), refresh.body()), (Some(&Method::Invite), HOLD));
}

#[test]
fn an_update_that_the_peer_does_not_know_makes_no_refresh_of_an_offer_that_is_under_way() {
    let mut raw = Raw::new(EndpointConfig::default());
    let mut invite = Request::invite("1").header("Supported: timer").header("Session-Expires: 200;refresher=uas");
    invite = invite.header("Allow: INVITE, ACK, BYE, UPDATE");
    invite.body = "v=0\r\no=- 1 1 IN IP4 192.0.2.1\r\nc=IN IP4 192.0.2.1\r\n";
    answered(&mut raw, &invite);
    raw.out.clear();
    raw.wait(Duration::from_secs(101));
    let update = raw.last();
    assert_eq!(update.method(), Some(&Method::Update));
    raw.endpoint.reoffer(raw.now, raw.call(), Bytes::from_static(HOLD)).unwrap();
    raw.poll();
    let offer = raw.last();
    raw.receive(&response(&update, 405, "", "", ""));
    raw.out.clear();
    raw.receive(&response(&offer, 200, "", REFRESHED, "v=0\r\no=- 1 2 IN IP4 192.0.2.1\r\nc=IN IP4 192.0.2.1\r\n"));
    assert_eq!(results(&raw).len(), 1, "the user asked for it");
    raw.wait(Duration::from_secs(101));
    let refresh = raw.last();
    assert_eq!((refresh.method(), refresh.body()), (Some(&Method::Invite), HOLD));
}

/// Conforms: RFC 4028 §7.4 — a session is refreshed in time, though a refresh gave way to an offer that was refused.
#[test]
fn a_refresh_that_gave_way_to_an_offer_of_the_users_is_made_up_for() {
    let mut raw = Raw::new(EndpointConfig::default());
    refreshed_by_reinvite(&mut raw);
    raw.wait(Duration::from_secs(101));
    let refresh = raw.last();
    raw.receive(&response(&refresh, 491, "", "", ""));
    raw.endpoint.reoffer(raw.now, raw.call(), Bytes::from_static(HOLD)).unwrap();
    raw.poll();
    let offer = raw.last();
    assert_eq!(offer.body(), HOLD);
    raw.receive(&response(&offer, 488, "", "", ""));
    assert_eq!(results(&raw), [(488, None)]);
    raw.out.clear();
    raw.wait(Duration::from_secs(11));
    let refresh = raw.last();
    assert_eq!((refresh.method(), refresh.body()), (Some(&Method::Invite), ANSWER));
}

/// Conforms: RFC 3264 §8 — after glare nothing is offered that the session has gone past.
#[test]
fn an_offer_of_the_users_that_a_change_has_outdated_is_told_as_glare() {
    let mut raw = Raw::new(EndpointConfig::default());
    let tag = refreshed_by_reinvite(&mut raw);
    raw.endpoint.reoffer(raw.now, raw.call(), Bytes::from_static(HOLD)).unwrap();
    raw.poll();
    let offer = raw.last();
    raw.receive(&response(&offer, 491, "", "", ""));
    raw.receive(&Request::invite("change").tagged(&tag).cseq(2).text());
    raw.endpoint.answer_reoffer(raw.now, raw.call(), Bytes::from_static(b"v=0\r\no=- 2 4\r\n")).unwrap();
    raw.poll();
    assert!(results(&raw).is_empty());
    raw.receive(&Request::new("ACK", "changed").tagged(&tag).cseq(2).text());
    assert_eq!(results(&raw), [(491, None)]);
    raw.out.clear();
    raw.wait(Duration::from_secs(5));
    assert!(raw.out.is_empty(), "it is not tried again");
    assert!(raw.endpoint.reoffer(raw.now, raw.call(), Bytes::from_static(HOLD)).is_ok());
}

/// Conforms: RFC 4028 §7.4 — the answer to a refresh counts as that to any re-INVITE.
#[test]
fn an_answer_to_a_refresh_is_told_where_it_says_something_else_than_before() {
    let mut raw = Raw::new(EndpointConfig::default());
    let tag = refreshed_by_reinvite(&mut raw);
    let refreshed = |raw: &mut Raw, answer: &str| {
        raw.wait(Duration::from_secs(101));
        let refresh = raw.last();
        assert_eq!(refresh.method(), Some(&Method::Invite));
        raw.receive(&response(&refresh, 200, "", REFRESHED, answer));
        raw.out.clear();
        results(raw).len()
    };
    let same = "v=0\r\no=- 1 2 IN IP4 192.0.2.1\r\nc=IN IP4 192.0.2.1\r\n";
    let moved = "v=0\r\no=- 1 3 IN IP4 192.0.2.1\r\nc=IN IP4 192.0.2.9\r\n";
    assert_eq!(refreshed(&mut raw, same), 0, "only its version differs");
    assert_eq!(refreshed(&mut raw, moved), 1);
    assert_eq!(results(&raw), [(200, Some(Bytes::from_static(moved.as_bytes())))]);
    assert_eq!(refreshed(&mut raw, moved), 1, "that is known");
    // What a change would have been that we refused does not count.
    let mut change = Request::invite("change").tagged(&tag).cseq(2);
    change.body = "v=0\r\no=- 1 4 IN IP4 192.0.2.1\r\nc=IN IP4 192.0.2.10\r\n";
    raw.receive(&change.text());
    raw.endpoint.reject_reoffer(raw.now, raw.call(), 488).unwrap();
    assert_eq!(refreshed(&mut raw, change.body), 2);
}

/// Conforms: RFC 4028 §7.3 — an INVITE refused with 422 is sent again with the interval that its peer can bear.
#[test]
fn the_interval_grows_to_what_the_peer_can_bear() {
    let callee = EndpointConfig { shortest_session: Duration::from_secs(900), ..EndpointConfig::default() };
    let mut pair = Pair::with(3, every(600), callee);
    let (caller, _) = pair.established();
    assert_eq!(pair.sent_ms(Callee, "422", "INVITE").len(), 1);
    pair.run_for(Duration::from_secs(460));
    assert_eq!(pair.sent_ms(Caller, "UPDATE", "UPDATE").len(), 1, "at half of 900 s");
    pair.bye(Caller, caller);
    pair.run_out();
    pair.assert_empty();
}

/// A refresh that is refused for the moment is tried again; the call ends only when there is no time left.
#[test]
fn a_refresh_that_fails_is_tried_again() {
    let mut raw = Raw::new(EndpointConfig::default());
    let invite = Request::invite("1")
        .header("Supported: timer")
        .header("Session-Expires: 200;refresher=uas")
        .header("Allow: INVITE, ACK, BYE, UPDATE");
    answered(&mut raw, &invite);
    raw.out.clear();
    raw.wait(Duration::from_secs(101));
    let update = raw.last();
    assert_eq!(update.method(), Some(&Method::Update));
    raw.receive(&response(&update, 500, "", "", ""));
    raw.wait(Duration::from_secs(11));
    let again = raw.last();
    assert_eq!(again.method(), Some(&Method::Update));
    // This one does not know UPDATE after all.
    raw.receive(&response(&again, 501, "", "", ""));
    assert_eq!(raw.last().method(), Some(&Method::Invite));
    raw.wait(Duration::from_secs(80));
    assert!(!raw.causes().is_empty(), "the session is over");
}
