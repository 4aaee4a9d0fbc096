//! Subscriptions in both roles, in virtual time: between two endpoints, and with peers whose messages are written by hand.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "support/pair.rs"]
mod pair;

use std::time::Duration;

use bytes::Bytes;
use pair::{Pair, Raw, Request, Who, drop_first, response};
use sip::auth::Credentials;
use sip::endpoint::{CommandError, Destination, OutgoingSubscription, SubscriptionEnd, SubscriptionId, Target};
use sip::headers::{SubscriptionPhase, TerminatedReason};
use sip::{EndpointConfig, EndpointLimits, Event, Message, Name, Transport};

const SUMMARY: &str = "application/simple-message-summary";

fn serving() -> EndpointConfig {
    EndpointConfig { event_packages: vec!["message-summary".into(), "dialog".into()], ..EndpointConfig::default() }
}

fn outgoing(to: std::net::SocketAddr, local: std::net::SocketAddr, expires_s: u64) -> OutgoingSubscription {
    OutgoingSubscription {
        uri: format!("sip:box@{}", to.ip()),
        from: "<sip:me@example.com>".into(),
        to: None,
        destination: Destination { transport: Transport::Udp, flow: None, target: Target::Address(to) },
        local,
        package: "message-summary".into(),
        expires: Duration::from_secs(expires_s),
        accept: vec![SUMMARY.into()],
        headers: vec![("X-Trace".into(), "7".into()), ("Event".into(), "evil".into())],
        credentials: None,
    }
}

/// The caller subscribes, the callee accepts for up to `granted_s`: both sides' ids.
fn subscribed(pair: &mut Pair, wanted_s: u64, granted_s: u64) -> (SubscriptionId, SubscriptionId) {
    let request = outgoing(pair.callee.address, pair.caller.address, wanted_s);
    let ours = pair.caller.endpoint.subscribe(pair.now, request).unwrap();
    pair.pump();
    pair.run_ms(20);
    let theirs = asked(pair);
    let document = Some((SUMMARY, Bytes::from_static(b"Messages-Waiting: no\r\n")));
    pair.callee.endpoint.accept_subscription(pair.now, theirs, Duration::from_secs(granted_s), document).unwrap();
    pair.pump();
    pair.run_ms(50);
    (ours, theirs)
}

fn asked(pair: &Pair) -> SubscriptionId {
    let asked = pair.callee.events.iter().rev().find_map(|(_, event)| match event {
        Event::Subscribed { subscription, .. } => Some(*subscription),
        _ => None,
    });
    asked.expect("a subscription is told")
}

fn bodies(pair: &Pair) -> Vec<String> {
    let told = pair.caller.events.iter().filter_map(|(_, event)| match event {
        Event::Notified { body, .. } => Some(String::from_utf8_lossy(body).trim().to_owned()),
        _ => None,
    });
    told.collect()
}

fn ends(events: &[(Duration, Event)]) -> Vec<(u64, SubscriptionEnd)> {
    let ends = events.iter().filter_map(|(at, event)| match event {
        Event::SubscriptionEnded { end, .. } => Some((at.as_secs(), end.clone())),
        _ => None,
    });
    ends.collect()
}

/// Conforms: RFC 6665 §4.1.2, §4.2.1, §4.2.2 — SUBSCRIBE is accepted with Expires, NOTIFY follows at once and with each change
#[test]
fn a_subscription_is_accepted_and_told_of_changes() {
    let mut pair = Pair::with(1, EndpointConfig::default(), serving());
    let (ours, theirs) = subscribed(&mut pair, 3_600, 600);
    let subscribe = message(&pair, Who::Caller, "SUBSCRIBE", 0);
    assert_eq!(subscribe.header(Name::Event), Some("message-summary"));
    assert_eq!((subscribe.header(Name::Expires), subscribe.header(Name::Accept)), (Some("3600"), Some(SUMMARY)));
    assert_eq!(subscribe.header_named("X-Trace"), Some("7"));
    let accepted = message(&pair, Who::Callee, "200", 0);
    assert_eq!(accepted.header(Name::Expires), Some("600"), "never more than granted");
    assert!(accepted.contact().is_ok());
    let notify = message(&pair, Who::Callee, "NOTIFY", 0);
    assert!(notify.header(Name::SubscriptionState).unwrap().starts_with("active;expires="));
    assert!(notify.contact().is_ok() && notify.has_content_type(SUMMARY));
    pair.callee.endpoint.notify(pair.now, theirs, SUMMARY, Bytes::from_static(b"Messages-Waiting: yes\r\n")).unwrap();
    pair.pump();
    pair.run_ms(50);
    assert_eq!(bodies(&pair), ["Messages-Waiting: no", "Messages-Waiting: yes"]);
    pair.caller.endpoint.unsubscribe(pair.now, ours).unwrap();
    pair.run_out();
    assert_eq!(ends(&pair.caller.events)[0].1, SubscriptionEnd::Unsubscribed);
    assert_eq!(ends(&pair.callee.events)[0].1, SubscriptionEnd::Unsubscribed);
    let last = pair.caller.events.iter().rev().find_map(|(_, event)| match event {
        Event::Notified { state, .. } => Some(state.phase.clone()),
        _ => None,
    });
    assert_eq!(last, Some(SubscriptionPhase::Terminated(TerminatedReason::Timeout)));
    pair.assert_empty();
}

/// The nth message of a kind that somebody sent.
fn message(pair: &Pair, from: Who, what: &str, index: usize) -> Message {
    let sent = pair.log.iter().filter(|sent| sent.from == from && sent.what == what).nth(index).expect(what);
    Message::parse_datagram(sent.bytes.clone(), &sip::Limits::default()).unwrap()
}

/// Conforms: RFC 6665 §4.1.2.2 — a subscription is refreshed before it runs out, in its dialog, and the state told again
#[test]
fn a_subscription_is_refreshed_before_it_runs_out() {
    let mut pair = Pair::with(2, EndpointConfig::default(), serving());
    let (_, theirs) = subscribed(&mut pair, 3_600, 600);
    pair.run_ms(1_700_000);
    let times: Vec<u64> = pair.sent_ms(Who::Caller, "SUBSCRIBE", "SUBSCRIBE").iter().map(|ms| ms / 1_000).collect();
    assert_eq!(times, [0, 540, 1_080, 1_620]);
    let (first, refresh) = (message(&pair, Who::Caller, "SUBSCRIBE", 0), message(&pair, Who::Caller, "SUBSCRIBE", 1));
    assert_eq!(first.call_id(), refresh.call_id());
    assert!(refresh.to().unwrap().tag().is_some());
    assert_eq!(bodies(&pair).len(), 4, "each refresh is answered by the state");
    assert!(ends(&pair.caller.events).is_empty() && ends(&pair.callee.events).is_empty());
    let reason = TerminatedReason::NoResource;
    pair.callee.endpoint.end_subscription(pair.now, theirs, reason.clone(), None).unwrap();
    pair.pump();
    pair.run_ms(50);
    let end = SubscriptionEnd::Terminated { reason, retry_after: None };
    assert_eq!(ends(&pair.caller.events)[0].1, end);
    pair.run_out();
    pair.assert_empty();
}

/// Conforms: RFC 4575 §4.6 — a subscriber is told what changes, and all where it was not told of a change in time or asks anew
#[test]
fn a_change_is_told_by_itself_where_the_state_before_it_is_known() {
    let mut pair = Pair::with(12, EndpointConfig::default(), serving());
    let (ours, theirs) = subscribed(&mut pair, 3_600, 600);
    let change = |pair: &mut Pair, of: &'static [u8], whole: &'static [u8]| {
        let documents = (Bytes::from_static(of), Bytes::from_static(whole));
        pair.callee.endpoint.notify_change(pair.now, theirs, SUMMARY, documents).unwrap();
        pair.pump();
    };
    change(&mut pair, b"+1", b"1");
    pair.run_ms(50);
    // Two more at once: the first is on its way when the second comes.
    change(&mut pair, b"+2", b"12");
    change(&mut pair, b"+3", b"123");
    change(&mut pair, b"+4", b"1234");
    pair.run_ms(200);
    assert_eq!(bodies(&pair), ["Messages-Waiting: no", "+1", "+2", "1234"]);
    pair.run_ms(541_000);
    assert_eq!(bodies(&pair).last().unwrap(), "1234", "a refresh is answered by the whole");
    pair.caller.endpoint.unsubscribe(pair.now, ours).unwrap();
    pair.run_out();
    pair.assert_empty();
}

/// Conforms: RFC 6665 §4.2.1.4, §4.2.2 — a subscription that is not refreshed ends with a NOTIFY that says timeout
#[test]
fn a_subscription_that_is_not_refreshed_ends() {
    let mut pair = Pair::with(3, EndpointConfig::default(), serving());
    subscribed(&mut pair, 120, 120);
    pair.hook = Some(Box::new(|sent| sent.from == Who::Caller && sent.what == "SUBSCRIBE"));
    pair.run_out();
    assert_eq!(ends(&pair.callee.events), [(120, SubscriptionEnd::Expired)]);
    assert!(matches!(ends(&pair.caller.events)[0], (120, _)), "{:?}", ends(&pair.caller.events));
    pair.assert_empty();
}

/// Conforms: RFC 6665 §4.2.2 — a subscriber that is gone is forgotten
#[test]
fn a_subscriber_that_does_not_answer_is_forgotten() {
    let mut pair = Pair::with(4, EndpointConfig::default(), serving());
    let (_, theirs) = subscribed(&mut pair, 3_600, 3_600);
    pair.hook = Some(Box::new(|sent| sent.from == Who::Callee && sent.what == "NOTIFY"));
    pair.callee.endpoint.notify(pair.now, theirs, SUMMARY, Bytes::from_static(b"x")).unwrap();
    pair.pump();
    pair.run_ms(33_000);
    assert_eq!(ends(&pair.callee.events)[0].1, SubscriptionEnd::Gone);
    assert_eq!(pair.callee.endpoint.stats().subscriptions, 0);
    let late = pair.callee.endpoint.notify(pair.now, theirs, SUMMARY, Bytes::new());
    assert_eq!(late, Err(CommandError::NoSuchSubscription(theirs)));
}

#[test]
fn of_many_changes_while_a_notify_is_under_way_only_the_last_is_sent() {
    let mut pair = Pair::with(5, EndpointConfig::default(), serving());
    let (_, theirs) = subscribed(&mut pair, 3_600, 3_600);
    for number in 0..100 {
        pair.callee.endpoint.notify(pair.now, theirs, SUMMARY, Bytes::from(format!("{number}"))).unwrap();
    }
    pair.pump();
    pair.run_ms(100);
    assert_eq!(bodies(&pair)[1..], ["0", "99"]);
}

/// Conforms: RFC 6665 §4.4.1 — the dialog is the NOTIFY's, which may come before the answer to SUBSCRIBE
#[test]
fn a_notify_that_overtakes_the_answer_makes_the_subscription() {
    let mut pair = Pair::with(6, EndpointConfig::default(), serving());
    pair.hook = drop_first(1, Who::Callee, "200", "SUBSCRIBE");
    let (ours, _) = subscribed(&mut pair, 3_600, 3_600);
    assert_eq!(bodies(&pair), ["Messages-Waiting: no"]);
    pair.run_ms(2_000);
    pair.caller.endpoint.unsubscribe(pair.now, ours).unwrap();
    pair.run_out();
    assert_eq!(ends(&pair.caller.events).len(), 1);
    pair.assert_empty();
}

#[test]
fn a_bad_network_leaves_no_subscription_behind() {
    for seed in 0..30 {
        let mut pair = Pair::with(seed, EndpointConfig::default(), serving());
        pair.loss_percent = 40;
        let request = outgoing(pair.callee.address, pair.caller.address, 300);
        let ours = pair.caller.endpoint.subscribe(pair.now, request).unwrap();
        pair.pump();
        let until = pair.now + Duration::from_secs(900);
        let mut done = 0;
        while pair.step(until) {
            let new: Vec<_> = pair.callee.events.drain(..).collect();
            for (_, event) in new {
                if let Event::Subscribed { subscription, .. } = event {
                    done += 1;
                    let expires = Duration::from_secs(200);
                    pair.callee.endpoint.accept_subscription(pair.now, subscription, expires, None).unwrap();
                    pair.pump();
                }
            }
        }
        assert!(done <= 1, "a repeat is no new subscription");
        let _ = pair.caller.endpoint.unsubscribe(pair.now, ours);
        pair.run_out();
        assert_eq!(ends(&pair.caller.events).len(), 1, "seed {seed}");
        pair.assert_empty();
    }
}

// The notifier, with a subscriber written by hand.

fn subscribe(cseq: u32, tag: Option<&str>, lines: &str) -> String {
    let mut request = Request::new("SUBSCRIBE", &format!("s{cseq}")).cseq(cseq);
    request.extra.push_str("Contact: <sip:peer@192.0.2.1:5062>\r\n");
    if let Some(tag) = tag {
        request = request.tagged(tag);
    }
    request.header(lines).text()
}

/// Conforms: RFC 6665 §4.2.1.1 — an unknown package gets 489 with Allow-Events, a span that is too short 423 with Min-Expires
#[test]
fn subscriptions_that_cannot_be_had_get_their_codes() {
    let cases = [
        ("Event: presence", 489, Some((Name::AllowEvents, "message-summary, dialog"))),
        ("X: y", 489, Some((Name::AllowEvents, "message-summary, dialog"))),
        ("Event: dialog\r\nExpires: 5", 423, Some((Name::MinExpires, "60"))),
        ("Event: dialog\r\nExpires: soon", 400, None),
        ("Event: dialog\r\nRequire: eventlist", 420, Some((Name::Unsupported, "eventlist"))),
    ];
    for (lines, code, header) in cases {
        let mut raw = Raw::new(serving());
        raw.receive(&subscribe(1, None, lines));
        let refusal = raw.only();
        assert_eq!(refusal.code(), Some(code), "{lines}");
        if let Some((name, value)) = header {
            assert_eq!(refusal.header(name), Some(value), "{lines}");
        }
        assert!(raw.events.is_empty() && raw.endpoint.stats().subscriptions == 0);
    }
    // Without a Contact there is nobody to notify.
    let mut raw = Raw::new(serving());
    raw.receive(&Request::new("SUBSCRIBE", "c").header("Event: dialog").text());
    assert_eq!(raw.codes(), [400]);
    // Without packages SUBSCRIBE is not taken.
    let mut raw = Raw::new(EndpointConfig::default());
    raw.receive(&subscribe(1, None, "Event: dialog"));
    assert_eq!(raw.codes(), [405]);
}

fn told(raw: &Raw) -> SubscriptionId {
    let told = raw.events.iter().rev().find_map(|event| match event {
        Event::Subscribed { subscription, .. } => Some(*subscription),
        _ => None,
    });
    told.expect("a subscription")
}

/// Conforms: RFC 6665 §4.4.3 — Expires: 0 is a fetch: accepted, answered by one NOTIFY that ends it
#[test]
fn a_fetch_gets_the_state_once() {
    let mut raw = Raw::new(serving());
    raw.receive(&subscribe(1, None, "Event: dialog\r\nExpires: 0"));
    let id = told(&raw);
    raw.endpoint
        .accept_subscription(raw.now, id, Duration::from_secs(60), Some(("text/x", Bytes::from_static(b"state"))))
        .unwrap();
    raw.poll();
    let (answer, notify) = (raw.out[0].2.clone(), raw.out[1].2.clone());
    assert_eq!((answer.code(), answer.header(Name::Expires)), (Some(200), Some("0")));
    assert_eq!(notify.header(Name::SubscriptionState), Some("terminated;reason=timeout"));
    assert_eq!(notify.body(), b"state");
    assert_eq!(raw.endpoint.stats().subscriptions, 0);
}

/// Conforms: RFC 6665 §4.2.1.2 — a refresh in the dialog is answered and the state told again; another event there is refused
#[test]
fn a_refresh_is_answered_in_the_dialog() {
    let mut raw = Raw::new(serving());
    raw.receive(&subscribe(1, None, "Event: dialog;id=7\r\nExpires: 600"));
    let id = told(&raw);
    raw.receive(&subscribe(1, None, "Event: dialog;id=7\r\nExpires: 600"));
    assert!(raw.out.is_empty(), "a repeat while the user thinks");
    raw.endpoint
        .accept_subscription(raw.now, id, Duration::from_secs(300), Some(("text/x", Bytes::from_static(b"one"))))
        .unwrap();
    raw.poll();
    let tag = raw.out[0].2.to().unwrap().tag().unwrap().to_owned();
    let notify = raw.out[1].2.clone();
    assert_eq!(notify.header(Name::Event), Some("dialog;id=7"), "the id is the subscriber's");
    raw.out.clear();
    raw.receive(&response(&notify, 200, "", "", ""));
    let mut codes = |cseq, lines: &str| {
        raw.receive(&subscribe(cseq, Some(&tag), lines));
        let all: Vec<_> = raw.out.drain(..).map(|(_, _, message)| message).collect();
        let first = all[0].code().unwrap();
        (first, all.get(1).cloned())
    };
    assert_eq!(codes(2, "Event: message-summary\r\nExpires: 600").0, 489);
    assert_eq!(codes(3, "Event: dialog\r\nExpires: 600").0, 489);
    assert_eq!(codes(4, "Event: dialog;id=7\r\nExpires: 1").0, 423);
    let (code, notify) = codes(5, "Event: dialog;id=7\r\nExpires: 100");
    assert_eq!((code, notify.unwrap().body()), (200, &b"one"[..]));
    assert_eq!(codes(4, "Event: dialog;id=7\r\nExpires: 100").0, 423, "a repeat gets the same again");
    raw.wait(Duration::from_secs(101));
    assert!(matches!(
        raw.events.last(),
        Some(Event::SubscriptionEnded { end: SubscriptionEnd::Gone | SubscriptionEnd::Expired, .. })
    ));
    raw.out.clear();
    raw.receive(&subscribe(6, Some(&tag), "Event: dialog;id=7\r\nExpires: 100"));
    assert_eq!(raw.codes(), [481], "it is over");
}

#[test]
fn a_subscription_that_the_user_forgets_or_refuses_leaves_nothing() {
    let mut raw = Raw::new(serving());
    raw.receive(&subscribe(1, None, "Event: dialog"));
    raw.wait(Duration::from_secs(31));
    assert_eq!(raw.codes(), [500]);
    raw.receive(&subscribe(2, None, "Event: dialog"));
    let id = told(&raw);
    let headers = [("Warning".to_owned(), "399 x \"y\"".to_owned())];
    raw.endpoint.reject_subscription(raw.now, id, 403, &headers).unwrap();
    raw.poll();
    let refusal = raw.only();
    assert_eq!((refusal.code(), refusal.header(Name::Warning)), (Some(403), Some("399 x \"y\"")));
    assert_eq!(
        raw.endpoint.accept_subscription(raw.now, id, Duration::ZERO, None),
        Err(CommandError::NoSuchSubscription(id))
    );
    assert_eq!(raw.endpoint.stats().subscriptions, 0);
}

#[test]
fn subscriptions_beyond_the_limit_get_503() {
    let limits = EndpointLimits { subscriptions: 2, ..EndpointLimits::default() };
    let mut raw = Raw::new(EndpointConfig { limits, ..serving() });
    for number in 1..=3 {
        raw.receive(&subscribe(number, None, "Event: dialog"));
    }
    assert_eq!(raw.codes(), [503]);
    let ours = raw.endpoint.subscribe(raw.now, outgoing(raw.source.remote, raw.source.local, 60));
    assert!(matches!(ours, Err(CommandError::Limit { limit: 2, .. })), "{ours:?}");
}

// The subscriber, with a notifier written by hand.

fn for_600_s() -> OutgoingSubscription {
    outgoing("192.0.2.1:5062".parse().unwrap(), "192.0.2.2:5060".parse().unwrap(), 600)
}

fn subscribe_to(raw: &mut Raw, request: OutgoingSubscription) -> (SubscriptionId, Message) {
    let id = raw.endpoint.subscribe(raw.now, request).unwrap();
    raw.poll();
    (id, raw.only())
}

fn notify_of(subscribe: &Message, tag: &str, cseq: u32, lines: &str) -> String {
    let mut request = Request::new("NOTIFY", &format!("n{tag}{cseq}"));
    request.from = format!("<sip:box@192.0.2.1>;tag={tag}");
    request.to = subscribe.header(Name::From).unwrap().to_owned();
    request.call_id = subscribe.call_id().to_owned();
    request.cseq = cseq;
    request.extra.push_str("Contact: <sip:box@192.0.2.1:5099>\r\n");
    request.header(lines).text()
}

const ACTIVE: &str = "Event: message-summary\r\nSubscription-State: active;expires=600";

/// Conforms: RFC 6665 §4.1.3 — what names no subscription gets 481, another event 489, no state 400, an old number 500
#[test]
fn notifies_are_taken_only_where_they_belong() {
    let mut raw = Raw::new(EndpointConfig::default());
    let (_, subscribe) = subscribe_to(&mut raw, for_600_s());
    let mut code = |text: String| {
        raw.receive(&text);
        raw.codes()
    };
    assert_eq!(code(notify_of(&subscribe, "b1", 1, "Event: dialog\r\nSubscription-State: active")), [489]);
    assert_eq!(code(notify_of(&subscribe, "b1", 2, "Event: message-summary")), [400]);
    assert_eq!(code(notify_of(&subscribe, "b1", 3, ACTIVE)), [200]);
    assert_eq!(
        code(notify_of(&subscribe, "b1", 4, "Event: message-summary\r\nSubscription-State: active;expires=x")),
        [400]
    );
    // 4.4.1: another fork's.
    assert_eq!(code(notify_of(&subscribe, "b2", 1, ACTIVE)), [481]);
    assert_eq!(code(notify_of(&subscribe, "b1", 2, ACTIVE).replace("nb12", "nb12x")), [500]);
    let elsewhere = notify_of(&subscribe, "b1", 9, ACTIVE).replace(subscribe.call_id(), "elsewhere");
    assert_eq!(code(elsewhere), [481]);
    let told = raw.events.iter().filter(|event| matches!(event, Event::Notified { .. })).count();
    assert_eq!(told, 1);
}

/// Conforms: RFC 6665 §4.1.2.4 — without a NOTIFY within 64 T1 the subscription has failed
#[test]
fn a_notifier_that_says_yes_and_no_more_has_failed() {
    let mut raw = Raw::new(EndpointConfig::default());
    let (_, subscribe) = subscribe_to(&mut raw, for_600_s());
    raw.receive(&response(&subscribe, 200, "b1", "Expires: 600\r\nContact: <sip:b@192.0.2.1>\r\n", ""));
    raw.wait(Duration::from_secs(33));
    assert!(
        matches!(raw.events[..], [Event::SubscriptionEnded { end: SubscriptionEnd::NoNotify, .. }]),
        "{:?}",
        raw.events
    );
    assert_eq!(raw.endpoint.stats().subscriptions, 0);
}

/// Conforms: RFC 6665 §4.1.2.1 — 423 is heeded once; a challenge is answered; a refusal is told
#[test]
fn the_notifiers_conditions_are_met_once() {
    let mut raw = Raw::new(EndpointConfig::default());
    let mut request = outgoing(raw.source.remote, raw.source.local, 60);
    request.credentials = Some(Credentials { username: "me".into(), password: "secret".into() });
    let (_, first) = subscribe_to(&mut raw, request);
    raw.receive(&response(&first, 423, "b1", "Min-Expires: 1800\r\n", ""));
    let second = raw.only();
    assert_eq!((second.header(Name::Expires), second.header(Name::CSeq)), (Some("1800"), Some("2 SUBSCRIBE")));
    let challenge = "WWW-Authenticate: Digest realm=\"here\", nonce=\"n1\", algorithm=MD5, qop=\"auth\"\r\n";
    raw.receive(&response(&second, 401, "b1", challenge, ""));
    let third = raw.only();
    assert!(third.header(Name::Authorization).is_some());
    assert_eq!((third.header(Name::CSeq), third.call_id()), (Some("3 SUBSCRIBE"), first.call_id()));
    raw.receive(&response(&third, 423, "b1", "Min-Expires: 3600\r\n", ""));
    assert!(raw.out.is_empty());
    assert!(matches!(raw.events[..], [Event::SubscriptionEnded { end: SubscriptionEnd::Refused(423), .. }]));
}

/// Conforms: RFC 3261 §22.2 — a refresh is answered for as the first SUBSCRIBE was, and carries credentials before it is asked for them.
#[test]
fn a_refresh_that_is_challenged_again_is_repeated() {
    let mut raw = Raw::new(EndpointConfig::default());
    let credentials = Some(Credentials { username: "me".into(), password: "secret".into() });
    let (_, first) = subscribe_to(&mut raw, OutgoingSubscription { credentials, ..for_600_s() });
    let challenge =
        |nonce| format!("WWW-Authenticate: Digest realm=\"here\", nonce=\"{nonce}\", algorithm=MD5, qop=\"auth\"\r\n");
    raw.receive(&response(&first, 401, "b1", &challenge("n1"), ""));
    let second = raw.only();
    raw.receive(&response(&second, 200, "b1", "Expires: 600\r\n", ""));
    raw.receive(&notify_of(&first, "b1", 1, ACTIVE));
    raw.out.clear();
    raw.wait(Duration::from_secs(541));
    let refresh = raw.last();
    assert!(refresh.header(Name::Authorization).unwrap().contains("nonce=\"n1\""));
    assert!(refresh.header(Name::Authorization).unwrap().contains("nc=00000002"));
    raw.receive(&response(&refresh, 401, "", &challenge("n2"), ""));
    let again = raw.only();
    assert!(again.header(Name::Authorization).unwrap().contains("nonce=\"n2\""));
    raw.receive(&response(&again, 401, "", &challenge("n3"), ""));
    assert!(raw.out.is_empty());
    assert!(matches!(raw.events.last(), Some(Event::SubscriptionEnded { end: SubscriptionEnd::Refused(401), .. })));
}

/// Conforms: RFC 6665 §4.1.2.3 — a refresh that fails for now is tried again, 481 ends the subscription
#[test]
fn a_refresh_that_fails_for_now_is_tried_again() {
    let mut raw = Raw::new(EndpointConfig::default());
    let (_, first) = subscribe_to(&mut raw, for_600_s());
    raw.receive(&response(&first, 200, "b1", "Expires: 600\r\n", ""));
    raw.receive(&notify_of(&first, "b1", 1, ACTIVE));
    raw.out.clear();
    raw.wait(Duration::from_secs(541));
    let refresh = raw.last();
    assert_eq!((refresh.request_uri(), refresh.to().unwrap().tag()), ("sip:box@192.0.2.1:5099", Some("b1")));
    raw.receive(&response(&refresh, 503, "", "", ""));
    assert_eq!(raw.events.len(), 1, "it stands still");
    raw.wait(Duration::from_secs(40));
    let again = raw.last();
    assert_eq!(again.cseq().unwrap().number, refresh.cseq().unwrap().number + 1);
    raw.receive(&response(&again, 481, "", "", ""));
    assert!(matches!(raw.events.last(), Some(Event::SubscriptionEnded { end: SubscriptionEnd::Gone, .. })));
}

/// Conforms: RFC 6665 §4.1.3 — what the notifier says on ending is told: why, and when to come back
#[test]
fn the_end_says_why_and_when_to_come_back() {
    let mut raw = Raw::new(EndpointConfig::default());
    let (_, first) = subscribe_to(&mut raw, for_600_s());
    raw.receive(&notify_of(
        &first,
        "b1",
        1,
        "Event: message-summary\r\nSubscription-State: terminated;reason=probation;retry-after=30",
    ));
    let Some(Event::SubscriptionEnded { end, .. }) = raw.events.last() else { panic!("{:?}", raw.events) };
    let retry_after = Some(Duration::from_secs(30));
    assert_eq!(*end, SubscriptionEnd::Terminated { reason: TerminatedReason::Probation, retry_after });
    assert_eq!(raw.endpoint.stats().subscriptions, 0);
}

#[test]
fn a_subscription_given_up_before_its_first_notify_is_ended_once_there_is_a_dialog() {
    let mut raw = Raw::new(EndpointConfig::default());
    let (id, first) = subscribe_to(&mut raw, for_600_s());
    raw.endpoint.unsubscribe(raw.now, id).unwrap();
    raw.poll();
    assert!(raw.out.is_empty());
    raw.receive(&notify_of(&first, "b1", 1, ACTIVE));
    let leave = raw.last();
    assert_eq!((leave.header(Name::Expires), leave.to().unwrap().tag()), (Some("0"), Some("b1")));
    raw.receive(&response(&leave, 200, "", "Expires: 0\r\n", ""));
    raw.receive(&notify_of(&first, "b1", 2, "Event: message-summary\r\nSubscription-State: terminated;reason=timeout"));
    assert!(matches!(raw.events.last(), Some(Event::SubscriptionEnded { end: SubscriptionEnd::Unsubscribed, .. })));
}

/// Conforms: RFC 3903 §6 — PUBLISH is not taken: 405 with Allow
#[test]
fn publish_is_not_taken() {
    let mut raw = Raw::new(serving());
    raw.receive(&Request::new("PUBLISH", "p").header("Event: presence").text());
    let refusal = raw.only();
    assert_eq!(refusal.code(), Some(405));
    assert_eq!(refusal.header(Name::Allow), Some(raw.endpoint.allow()));
}
