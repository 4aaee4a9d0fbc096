//! Requests of ours that are challenged (RFC 3261 section 22): credentials, and how often they are tried.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "support/pair.rs"]
mod pair;

use bytes::Bytes;
use pair::{Raw, invite, outgoing, response};
use sip::auth::Credentials;
use sip::{CallId, EndCause, EndpointConfig, Event, Message, Name, OutgoingCall};

fn raw() -> Raw {
    Raw::new(EndpointConfig::default())
}

const CONTACT: &str = "Contact: <sip:peer@192.0.2.1:5062>\r\n";

fn with_credentials() -> OutgoingCall {
    let credentials = Credentials { username: "agent".into(), password: "secret".into() };
    OutgoingCall { credentials: Some(credentials), ..outgoing() }
}

fn challenge(realm: &str, nonce: &str, stale: bool) -> String {
    let stale = if stale { ", stale=true" } else { "" };
    format!("WWW-Authenticate: Digest realm=\"{realm}\", nonce=\"{nonce}\", algorithm=MD5, qop=\"auth\"{stale}\r\n")
}

/// Conforms: RFC 3261 §22.2 — 401 and 407 are answered, once for each realm.
#[test]
fn a_challenge_is_answered_once_for_each_realm() {
    let mut raw = raw();
    let (_, first) = invite(&mut raw, with_credentials());
    raw.receive(&response(&first, 401, "t1", &challenge("here", "n1", false), ""));
    let kinds: Vec<_> = raw.out.iter().map(|(.., m)| m.method().unwrap().to_string()).collect();
    assert_eq!(kinds, ["ACK", "INVITE"]);
    let second = raw.last();
    let authorization = sip::auth::Authorization::parse(second.header(Name::Authorization).unwrap()).unwrap();
    assert!(authorization.is_signed_with("secret", "INVITE", b""));
    assert_eq!(second.cseq().unwrap().number, 2);
    assert_eq!((second.call_id(), second.from_().unwrap().tag()), (first.call_id(), first.from_().unwrap().tag()));
    assert_ne!(second.top_via().unwrap().branch(), first.top_via().unwrap().branch());
    assert_eq!(second.body(), first.body());
    raw.receive(&response(&second, 401, "t2", &challenge("here", "n2", false), ""));
    assert_eq!(raw.causes(), [EndCause::Rejected(401)]);
}

#[test]
fn a_stale_nonce_is_worth_another_try_and_a_proxys_realm_its_own() {
    let mut raw = raw();
    let (_, first) = invite(&mut raw, with_credentials());
    raw.receive(&response(&first, 401, "t1", &challenge("here", "n1", false), ""));
    let second = raw.last();
    raw.receive(&response(&second, 401, "t2", &challenge("here", "n2", true), ""));
    let third = raw.last();
    assert!(third.header(Name::Authorization).unwrap().contains("n2"));
    let proxy = challenge("proxy", "p1", false).replace("WWW-Authenticate", "Proxy-Authenticate");
    raw.receive(&response(&third, 407, "t3", &proxy, ""));
    let fourth = raw.last();
    assert!(fourth.header(Name::Authorization).is_some() && fourth.header(Name::ProxyAuthorization).is_some());
    raw.receive(&response(&fourth, 200, "t4", CONTACT, "v=0\r\n"));
    let ack = raw.last();
    assert_eq!(ack.method().unwrap().to_string(), "ACK");
    assert_eq!(ack.cseq().unwrap().number, 4);
    // 13.2.2.4: the ACK has the credentials of its INVITE.
    for name in [Name::Authorization, Name::ProxyAuthorization] {
        assert_eq!(ack.header(name), fourth.header(name));
    }
}

#[test]
fn a_challenge_without_credentials_rejects_the_call() {
    let mut raw = raw();
    let (_, first) = invite(&mut raw, outgoing());
    raw.receive(&response(&first, 401, "t1", &challenge("here", "n1", false), ""));
    assert_eq!(raw.causes(), [EndCause::Rejected(401)]);
}

#[test]
fn an_endless_challenger_is_given_up() {
    let mut raw = raw();
    let (_, mut request) = invite(&mut raw, with_credentials());
    for n in 0..20 {
        raw.receive(&response(&request, 401, "t", &challenge("here", &format!("n{n}"), true), ""));
        if !raw.causes().is_empty() {
            assert!((1..=6).contains(&n), "{n} tries");
            return;
        }
        request = raw.last();
    }
    panic!("it never gives up");
}

#[test]
fn bye_is_repeated_with_credentials_too() {
    let mut raw = raw();
    let (call, first) = invite(&mut raw, with_credentials());
    raw.receive(&response(&first, 200, "t", CONTACT, "v=0\r\n"));
    raw.endpoint.bye(raw.now, call, None).unwrap();
    raw.poll();
    let bye = raw.last();
    raw.receive(&response(&bye, 401, "", &challenge("here", "n1", false), ""));
    let again = raw.last();
    assert_eq!(again.method().unwrap().to_string(), "BYE");
    assert!(again.header(Name::Authorization).is_some());
    raw.receive(&response(&again, 200, "", "", ""));
    assert_eq!(raw.causes(), [EndCause::LocalBye]);
}

/// A call of ours that was challenged and answered.
fn challenged(raw: &mut Raw, challenge: &str) -> CallId {
    let (call, first) = invite(raw, with_credentials());
    raw.receive(&response(&first, 401, "t1", challenge, ""));
    let second = raw.last();
    raw.receive(&response(&second, 200, "t", CONTACT, "v=0\r\n"));
    raw.out.clear();
    call
}

fn authorization(request: &Message) -> sip::auth::Authorization {
    sip::auth::Authorization::parse(request.header(Name::Authorization).unwrap()).unwrap()
}

/// Conforms: RFC 3261 §22.2 — each request of a call is answered for, whatever was asked of those before it.
#[test]
fn every_request_of_a_call_that_is_challenged_is_repeated() {
    let mut raw = raw();
    let call = challenged(&mut raw, &challenge("here", "n1", false));
    for (n, digit) in ["1", "2"].into_iter().enumerate() {
        raw.endpoint.send_info(raw.now, call, "application/dtmf", Bytes::from(digit)).unwrap();
        raw.poll();
        assert_eq!(raw.out.len(), n + 1);
    }
    // Both are under way at once.
    let waiting: Vec<Message> = raw.out.drain(..).map(|(.., message)| message).collect();
    for (n, info) in waiting.iter().enumerate() {
        raw.receive(&response(info, 401, "", &challenge("here", &format!("i{n}"), false), ""));
        let again = raw.only();
        assert_eq!((again.body(), authorization(&again).nonce), (info.body(), format!("i{n}")));
        raw.receive(&response(&again, 200, "", "", ""));
    }
    raw.endpoint.bye(raw.now, call, None).unwrap();
    raw.poll();
    let bye = raw.only();
    raw.receive(&response(&bye, 401, "", &challenge("here", "n2", false), ""));
    let again = raw.only();
    assert_eq!(again.method().unwrap().to_string(), "BYE");
    assert!(authorization(&again).is_signed_with("secret", "BYE", b""));
    assert!(raw.causes().is_empty(), "it is not over before that is answered");
    raw.receive(&response(&again, 200, "", "", ""));
    assert_eq!(raw.causes(), [EndCause::LocalBye]);
}

#[test]
fn credentials_that_a_later_request_is_refused_with_are_tried_once() {
    let mut raw = raw();
    let call = challenged(&mut raw, &challenge("here", "n1", false));
    raw.endpoint.send_info(raw.now, call, "application/dtmf", Bytes::from_static(b"1")).unwrap();
    raw.poll();
    let info = raw.only();
    raw.receive(&response(&info, 401, "", &challenge("here", "n2", false), ""));
    let again = raw.only();
    raw.receive(&response(&again, 401, "", &challenge("here", "n3", false), ""));
    assert!(raw.out.is_empty());
    assert!(matches!(raw.events.last(), Some(Event::InfoResult { code: 401, .. })));
    // A nonce that was too old is another matter, and no endless one.
    raw.endpoint.send_info(raw.now, call, "application/dtmf", Bytes::from_static(b"2")).unwrap();
    raw.poll();
    let mut tries = 0;
    while let Some((.., info)) = raw.out.pop() {
        tries += 1;
        assert!(tries <= 7, "it never gives up");
        raw.receive(&response(&info, 401, "", &challenge("here", &format!("s{tries}"), true), ""));
    }
    assert_eq!(tries, 7);
}

/// Conforms: RFC 3261 §22.3 — the credentials for a realm go with all later requests of the call; RFC 7616 §3.4 — their nonce is counted.
#[test]
fn credentials_go_ahead_in_later_requests_of_a_call() {
    let mut raw = raw();
    let call = challenged(&mut raw, &challenge("here", "n1", false));
    for (body, count) in [("1", 2), ("2", 3)] {
        raw.endpoint.send_info(raw.now, call, "application/dtmf", Bytes::from(body)).unwrap();
        raw.poll();
        let info = raw.only();
        let sent = authorization(&info);
        assert_eq!(
            (sent.nonce.as_str(), sent.nonce_count(), sent.uri.as_str()),
            ("n1", Some(count), info.request_uri())
        );
        assert!(sent.is_signed_with("secret", "INFO", body.as_bytes()));
        raw.receive(&response(&info, 200, "", "", ""));
    }
    // The same nonce is asked for once more: its count goes on.
    raw.endpoint.reoffer(raw.now, call, Bytes::from_static(b"v=0\r\n")).unwrap();
    raw.poll();
    let reinvite = raw.only();
    raw.receive(&response(&reinvite, 401, "", &challenge("here", "n1", false), ""));
    let again = raw.last();
    assert_eq!(authorization(&again).nonce_count(), Some(5));
    raw.receive(&response(&again, 200, "", CONTACT, "v=0\r\n"));
    assert_eq!(raw.only().header(Name::Authorization), again.header(Name::Authorization));
}

#[test]
fn what_answers_a_challenge_without_qop_is_used_once() {
    let mut raw = raw();
    let call = challenged(&mut raw, &challenge("here", "n1", false).replace(", qop=\"auth\"", ""));
    raw.endpoint.bye(raw.now, call, None).unwrap();
    raw.poll();
    assert_eq!(raw.only().header(Name::Authorization), None);
}
