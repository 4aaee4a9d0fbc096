//! Referrals and replaced calls between two endpoints: REFER with its reports, Replaces, MESSAGE in calls.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "support/pair.rs"]
mod pair;

use std::time::Duration;

use Who::{Callee, Caller};
use bytes::Bytes;
use pair::{ANSWER, Pair, Raw, Request, Who, drop_first};
use sip::endpoint::{CommandError, ReplacesTarget};
use sip::headers::{ReferTo, Replaces};
use sip::{CallId, EndCause, EndpointConfig, Event, Message, Method, Name};

fn referring() -> EndpointConfig {
    EndpointConfig { referrals: true, ..EndpointConfig::default() }
}

/// Two that take referrals, in a call that stands.
fn standing(seed: u64) -> (Pair, CallId, CallId) {
    let mut pair = Pair::with(seed, referring(), referring());
    let (caller, callee) = pair.established();
    (pair, caller, callee)
}

fn refer(pair: &mut Pair, call: CallId, refer_to: &str, referred_by: Option<&str>) {
    pair.caller.endpoint.refer(pair.now, call, refer_to, referred_by).unwrap();
    pair.pump();
    pair.run_ms(50);
}

struct Told {
    refer_to: String,
    replaces: Option<Replaces>,
    referred_by: Option<String>,
}

fn told(pair: &Pair) -> Vec<Told> {
    let told = pair.callee.events.iter().filter_map(|(_, event)| match event {
        Event::Refer { refer_to, replaces, referred_by, .. } => {
            Some(Told { refer_to: refer_to.clone(), replaces: replaces.clone(), referred_by: referred_by.clone() })
        }
        _ => None,
    });
    told.collect()
}

/// What the caller was told: the result as (code, None), reports as (code, final).
fn progress(pair: &Pair) -> Vec<(u16, Option<bool>)> {
    let told = pair.caller.events.iter().filter_map(|(_, event)| match event {
        Event::ReferResult { code, .. } => Some((*code, None)),
        Event::ReferProgress { code, is_final, .. } => Some((*code, Some(*is_final))),
        _ => None,
    });
    told.collect()
}

fn accept(pair: &mut Pair, call: CallId) {
    pair.callee.endpoint.accept_refer(pair.now, call).unwrap();
    pair.pump();
    pair.run_ms(50);
}

fn notify(pair: &mut Pair, call: CallId, code: u16) {
    pair.callee.endpoint.notify_refer(pair.now, call, code, "").unwrap();
    pair.pump();
    pair.run_ms(50);
}

fn sent(pair: &Pair, from: Who, what: &str, of: &str) -> Vec<Message> {
    let sent = pair.log.iter().filter(|sent| sent.from == from && sent.what == what && sent.of == of);
    sent.map(|sent| Message::parse_datagram(sent.bytes.clone(), &sip::Limits::default()).unwrap()).collect()
}

/// Conforms: RFC 3515 §2.4.2, §2.4.4, §2.4.5 — REFER is accepted with 202, reported by NOTIFY with sipfrag, ended by the final one
/// Conforms: RFC 3892 §2.1 — Referred-By reaches the one that is referred
#[test]
fn a_referral_is_told_accepted_and_reported_to_its_end() {
    let (mut pair, caller, callee) = standing(1);
    refer(&mut pair, caller, "sip:carol@example.com", Some("<sip:caller@10.0.0.1>"));
    let asked = told(&pair);
    assert_eq!((asked.len(), asked[0].refer_to.as_str()), (1, "sip:carol@example.com"));
    assert_eq!((asked[0].referred_by.as_deref(), &asked[0].replaces), (Some("<sip:caller@10.0.0.1>"), &None));
    accept(&mut pair, callee);
    notify(&mut pair, callee, 180);
    notify(&mut pair, callee, 200);
    let expected = [(202, None), (100, Some(false)), (180, Some(false)), (200, Some(true))];
    assert_eq!(progress(&pair), expected);
    let reports = sent(&pair, Callee, "NOTIFY", "NOTIFY");
    let states: Vec<_> = reports.iter().map(|report| report.header(Name::SubscriptionState).unwrap()).collect();
    assert!(states[0].starts_with("active;expires=") && states[2] == "terminated;reason=noresource", "{states:?}");
    assert!(reports.iter().all(|report| report.has_content_type("message/sipfrag")));
    assert!(reports.iter().all(|report| report.header(Name::Event) == Some("refer")));
    assert_eq!(reports[2].body(), b"SIP/2.0 200 OK\r\n");
    let accepted = sent(&pair, Callee, "202", "REFER");
    assert!(accepted[0].contact().is_ok());
    // Over: no more reports, and the call goes on.
    let more = pair.callee.endpoint.notify_refer(pair.now, callee, 200, "");
    assert_eq!(more, Err(CommandError::WrongState(callee)));
    assert_eq!((pair.cause(Caller, caller), pair.cause(Callee, callee)), (None, None));
    pair.bye(Caller, caller);
    pair.run_out();
    pair.assert_empty();
}

/// Conforms: RFC 3515 §2.4.6 — the reports of a second REFER in a dialog name it by its CSeq
#[test]
fn a_second_referral_is_told_apart_from_the_first() {
    let (mut pair, caller, callee) = standing(2);
    refer(&mut pair, caller, "sip:carol@example.com", None);
    accept(&mut pair, callee);
    // One at a time.
    assert_eq!(
        pair.caller.endpoint.refer(pair.now, caller, "sip:dave@example.com", None),
        Err(CommandError::WrongState(caller))
    );
    notify(&mut pair, callee, 486);
    refer(&mut pair, caller, "sip:dave@example.com", None);
    accept(&mut pair, callee);
    notify(&mut pair, callee, 200);
    let number = sent(&pair, Caller, "REFER", "REFER")[1].cseq().unwrap().number;
    let last = sent(&pair, Callee, "NOTIFY", "NOTIFY").pop().unwrap();
    assert_eq!(last.header(Name::Event), Some(format!("refer;id={number}").as_str()));
    assert_eq!(progress(&pair)[2..], [(486, Some(true)), (202, None), (100, Some(false)), (200, Some(true))]);
}

#[test]
fn a_referral_that_is_refused_is_told_and_another_may_follow() {
    let (mut pair, caller, callee) = standing(3);
    refer(&mut pair, caller, "sip:carol@example.com", None);
    pair.callee.endpoint.reject_refer(pair.now, callee, 603).unwrap();
    pair.pump();
    pair.run_ms(50);
    assert_eq!(progress(&pair), [(603, None)]);
    assert!(sent(&pair, Callee, "NOTIFY", "NOTIFY").is_empty());
    refer(&mut pair, caller, "sip:dave@example.com", None);
    assert_eq!(told(&pair).len(), 2);
}

#[test]
fn a_referral_that_the_user_forgets_gets_500() {
    let (mut pair, caller, callee) = standing(4);
    refer(&mut pair, caller, "sip:carol@example.com", None);
    pair.run_ms(31_000);
    assert_eq!(progress(&pair), [(500, None)]);
    assert_eq!(pair.callee.endpoint.accept_refer(pair.now, callee), Err(CommandError::WrongState(callee)));
    assert_eq!(pair.cause(Caller, caller), None, "the call goes on");
}

/// Conforms: RFC 3966 §3, RFC 3515 §2.1 — a number to be called is told as it came
#[test]
fn a_number_to_be_called_is_told_as_it_came() {
    let (mut pair, caller, _) = standing(5);
    refer(&mut pair, caller, "tel:+4930123456;ext=7", None);
    assert_eq!(told(&pair)[0].refer_to, "tel:+4930123456;ext=7");
}

/// Conforms: RFC 3891 §3, RFC 5589 §7.3 — an attended transfer carries the dialog to be replaced in Refer-To
#[test]
fn an_attended_transfer_carries_the_dialog_to_be_replaced() {
    let (mut pair, caller, _) = standing(6);
    let identity = pair.caller.endpoint.dialog_identity(caller).unwrap();
    let refer_to = ReferTo::value("sip:carol@example.com;transport=tcp", Some(&identity.replaces()));
    refer(&mut pair, caller, &refer_to, None);
    let asked = told(&pair);
    assert_eq!(asked[0].refer_to, "sip:carol@example.com;transport=tcp");
    let replaces = asked[0].replaces.as_ref().unwrap();
    assert_eq!(replaces, &identity.replaces());
    // The peer of that call finds it by what the header says.
    let found = pair.callee.endpoint.find_call(&replaces.call_id, &replaces.to_tag, &replaces.from_tag);
    assert_eq!(found, Some(pair.incoming()));
}

/// Conforms: RFC 4488 §4 — Refer-Sub: false is granted, and no NOTIFY follows
#[test]
fn a_referral_without_reports_has_none() {
    let (mut raw, call, tag) = raw_call(referring());
    raw.receive(&refer_request(2, &tag, "Refer-To: <sip:c@d>\r\nRequire: norefersub\r\nRefer-Sub: false"));
    raw.endpoint.accept_refer(raw.now, call).unwrap();
    raw.poll();
    let accepted = raw.only();
    assert_eq!((accepted.code(), accepted.header_named("Refer-Sub")), (Some(202), Some("false")));
    raw.endpoint.notify_refer(raw.now, call, 180, "").unwrap();
    raw.endpoint.notify_refer(raw.now, call, 200, "").unwrap();
    raw.poll();
    assert!(raw.out.is_empty());
    // Done: the next one is welcome.
    raw.receive(&refer_request(3, &tag, "Refer-To: <sip:e@f>"));
    assert!(matches!(raw.events.last(), Some(Event::Refer { .. })));
}

/// A call of a peer written by hand that stands: its id and our tag.
fn raw_call(config: EndpointConfig) -> (Raw, CallId, String) {
    let mut raw = Raw::new(config);
    raw.receive(&Request::invite("1").text());
    let call = raw.call();
    raw.endpoint.answer(raw.now, call, Bytes::from_static(b"v=0\r\n")).unwrap();
    raw.poll();
    let tag = raw.last().to().unwrap().tag().unwrap().to_owned();
    raw.receive(&Request::new("ACK", "ack1").tagged(&tag).text());
    raw.out.clear();
    (raw, call, tag)
}

fn refer_request(cseq: u32, tag: &str, lines: &str) -> String {
    let request = Request::new("REFER", &format!("refer{cseq}")).tagged(tag).cseq(cseq);
    request.header("Contact: <sip:peer@192.0.2.1:5062>").header(lines).text()
}

/// Conforms: RFC 3515 §2.4.2 — exactly one Refer-To that can be read, else 400
#[test]
fn a_referral_that_cannot_be_read_gets_its_code() {
    let (mut raw, _, tag) = raw_call(referring());
    let cases = [
        ("X: y", 400),
        ("Refer-To: <sip:a@b>\r\nRefer-To: <sip:c@d>", 400),
        ("Refer-To: carol", 400),
        ("Refer-To: <sip:a@b?Replaces=nothing>", 400),
        ("Refer-To: <sip:a@b;method=BYE>", 501),
        ("Refer-To: <sip:a@b>\r\nRequire: tdialog", 420),
    ];
    for (number, (lines, code)) in cases.into_iter().enumerate() {
        raw.receive(&refer_request(number as u32 + 2, &tag, lines));
        assert_eq!(raw.codes(), [code], "{lines}");
    }
    assert!(!raw.events.iter().any(|event| matches!(event, Event::Refer { .. })));
    // The compact form is as good.
    raw.receive(&refer_request(20, &tag, "r: <sip:a@b>\r\nb: <sip:c@d>"));
    let Some(Event::Refer { referred_by, .. }) = raw.events.last() else { panic!("{:?}", raw.events) };
    assert_eq!(referred_by.as_deref(), Some("<sip:c@d>"));
    // A second one while the first waits.
    raw.receive(&refer_request(21, &tag, "Refer-To: <sip:e@f>"));
    assert_eq!(raw.codes(), [491]);
}

#[test]
fn without_a_user_for_it_a_referral_gets_405() {
    let (mut raw, _, tag) = raw_call(EndpointConfig::default());
    raw.receive(&refer_request(2, &tag, "Refer-To: <sip:a@b>"));
    let refusal = raw.only();
    assert_eq!(refusal.code(), Some(405));
    assert!(!refusal.header(Name::Allow).unwrap().contains("REFER"));
}

/// Conforms: RFC 3515 §2.4.1 — REFER outside of a dialog is a request like others, for a user that takes it
#[test]
fn a_referral_outside_of_calls_is_a_request_for_the_user() {
    let request =
        Request::new("REFER", "r").header("Refer-To: <sip:a@b>").header("Contact: <sip:peer@192.0.2.1>").text();
    let mut raw = Raw::new(EndpointConfig { user_methods: vec![Method::Refer], ..referring() });
    raw.receive(&request);
    assert!(matches!(raw.events[..], [Event::Request { .. }]));
    let mut raw = Raw::new(referring());
    raw.receive(&request);
    assert_eq!((raw.events.len(), raw.codes()), (0, vec![405]));
}

/// Conforms: RFC 5057 §4, RFC 5589 §6.1 — reports go on in the dialog after the referrer's BYE
#[test]
fn reports_go_on_after_the_referrer_has_hung_up() {
    let (mut pair, caller, callee) = standing(7);
    refer(&mut pair, caller, "sip:carol@example.com", None);
    accept(&mut pair, callee);
    pair.bye(Caller, caller);
    pair.run_ms(100);
    assert_eq!(pair.cause(Callee, callee), Some(EndCause::RemoteBye));
    notify(&mut pair, callee, 180);
    notify(&mut pair, callee, 200);
    let reports = sent(&pair, Callee, "NOTIFY", "NOTIFY");
    let numbers: Vec<_> = reports.iter().map(|report| report.cseq().unwrap().number).collect();
    assert_eq!((reports.len(), numbers.windows(2).all(|two| two[0] < two[1])), (3, true), "{numbers:?}");
    assert_eq!(sent(&pair, Caller, "200", "NOTIFY").len(), 3, "each is taken");
    assert_eq!(pair.callee.endpoint.notify_refer(pair.now, callee, 200, ""), Err(CommandError::NoSuchCall(callee)));
    assert_eq!(progress(&pair), [(202, None), (100, Some(false))], "nothing is told of a call that is over");
    pair.run_out();
    pair.assert_empty();
}

#[test]
fn a_report_that_never_comes_is_told_as_408_and_one_never_given_ends_by_itself() {
    let (mut pair, caller, callee) = standing(8);
    refer(&mut pair, caller, "sip:carol@example.com", None);
    accept(&mut pair, callee);
    pair.run_ms(299_000);
    assert_eq!(progress(&pair), [(202, None), (100, Some(false))]);
    pair.run_ms(2_000);
    // The notifier's end comes first: the last thing it knew.
    assert!(matches!(progress(&pair)[2], (100 | 408, Some(true))), "{:?}", progress(&pair));
    assert_eq!((pair.cause(Caller, caller), pair.cause(Callee, callee)), (None, None));

    let (mut pair, caller, callee) = standing(9);
    pair.hook = drop_first(1_000, Callee, "NOTIFY", "NOTIFY");
    refer(&mut pair, caller, "sip:carol@example.com", None);
    accept(&mut pair, callee);
    pair.run_ms(301_000);
    assert_eq!(progress(&pair), [(202, None), (408, Some(true))]);
    assert_eq!(pair.cause(Callee, callee), None, "RFC 5057: reports that are not wanted do not end the call");
}

/// Conforms: RFC 6665 §4.4.1 — NOTIFY may come before the answer to REFER
#[test]
fn a_report_that_overtakes_the_answer_is_told() {
    let (mut pair, caller, callee) = standing(10);
    pair.hook = drop_first(1, Callee, "202", "REFER");
    refer(&mut pair, caller, "sip:carol@example.com", None);
    accept(&mut pair, callee);
    assert_eq!(progress(&pair), [(100, Some(false))]);
    pair.run_ms(1_000);
    assert_eq!(progress(&pair), [(100, Some(false)), (202, None)]);
}

/// Conforms: RFC 3515 §2.4.4 — the referrer ends the reports by SUBSCRIBE with Expires: 0
#[test]
fn the_referrer_may_end_the_reports() {
    let (mut raw, call, tag) = raw_call(referring());
    raw.receive(&refer_request(2, &tag, "Refer-To: <sip:c@d>"));
    raw.endpoint.accept_refer(raw.now, call).unwrap();
    raw.poll();
    raw.out.clear();
    let subscribe = |cseq: u32, event: &str, expires: u32| {
        let request = Request::new("SUBSCRIBE", &format!("s{cseq}")).tagged(&tag).cseq(cseq);
        request.header(&format!("Event: {event}")).header(&format!("Expires: {expires}")).text()
    };
    raw.receive(&subscribe(3, "dialog", 60));
    assert_eq!(raw.codes(), [489]);
    raw.receive(&subscribe(4, "refer", 60));
    assert_eq!(raw.codes(), [200], "and a NOTIFY");
    raw.receive(&subscribe(5, "refer;id=2", 0));
    assert_eq!(raw.codes(), [489], "the first referral has no id");
    raw.receive(&subscribe(6, "refer", 0));
    let last = raw.last();
    assert_eq!(last.header(Name::SubscriptionState), Some("terminated;reason=timeout"));
    assert_eq!(raw.endpoint.notify_refer(raw.now, call, 200, ""), Err(CommandError::WrongState(call)));
}

/// Conforms: RFC 6665 §4.1.3, RFC 5057 §5.1 — a NOTIFY nobody asked for is refused, and the call goes on
#[test]
fn a_notify_in_a_call_that_nobody_asked_for_is_refused_and_the_call_goes_on() {
    let (mut raw, call, tag) = raw_call(EndpointConfig::default());
    let notify = |cseq: u32, lines: &str| {
        Request::new("NOTIFY", &format!("n{cseq}")).tagged(&tag).cseq(cseq).header(lines).text()
    };
    raw.receive(&notify(2, "Event: talk\r\nSubscription-State: active"));
    raw.receive(&notify(3, "Event: refer\r\nSubscription-State: active"));
    raw.receive(&notify(4, "X: y"));
    assert_eq!(raw.codes(), [489, 481, 489]);
    raw.receive(&notify(3, "Event: talk\r\nSubscription-State: active").replace("bKn3", "bKn3again"));
    assert_eq!(raw.codes(), [500], "out of order");
    assert!(raw.causes().is_empty());
    raw.endpoint.bye(raw.now, call, None).unwrap();
}

/// Conforms: RFC 3891 §3 — no match 481, early-only on a call that stands 486, one that ends 603, two headers 400
#[test]
fn a_call_that_replaces_another_is_told_or_refused() {
    let (mut raw, call, tag) = raw_call(EndpointConfig::default());
    let replacing = |number: u32, value: &str| {
        let mut invite = Request::invite(&format!("replacing{number}")).header(&format!("Replaces: {value}"));
        invite.call_id = format!("other-{number}");
        invite.header("Require: replaces").text()
    };
    let ours = format!("call-1;to-tag={tag};from-tag=p1");
    for (number, value, code) in [
        (1, format!("call-1;to-tag={tag};from-tag=other"), 481),
        (2, "nowhere;to-tag=1;from-tag=2".to_owned(), 481),
        (3, "call-1;to-tag=p1;from-tag=p1".to_owned(), 481),
        (4, format!("{ours};early-only"), 486),
        (5, "call-1;to-tag=1".to_owned(), 400),
        (6, format!("{ours}\r\nReplaces: {ours}"), 400),
        (7, format!("{ours}\r\nJoin: {ours}"), 400),
    ] {
        raw.receive(&replacing(number, &value));
        assert_eq!(raw.codes(), [code], "{value}");
    }
    // As the phone at the other end of the dialog tells it (RFC 4235): for us, in between, the tags are the other way round.
    raw.receive(&replacing(30, &format!("call-1;to-tag=p1;from-tag={tag}")));
    let found = |event: Option<&Event>| match event {
        Some(Event::Incoming { replaces, .. }) => *replaces,
        other => panic!("{other:?}"),
    };
    assert_eq!(found(raw.events.last()), Some(ReplacesTarget { call, early_only: false }));
    raw.receive(&replacing(8, &ours));
    let Some(Event::Incoming { call: new, replaces, .. }) = raw.events.last() else { panic!("{:?}", raw.events) };
    assert_eq!(*replaces, Some(ReplacesTarget { call, early_only: false }));
    // The user answers the new one and hangs up the old.
    let new = *new;
    raw.endpoint.answer(raw.now, new, Bytes::from_static(ANSWER)).unwrap();
    raw.endpoint.bye(raw.now, call, None).unwrap();
    raw.poll();
    raw.out.clear();
    raw.receive(&replacing(9, &ours));
    assert_eq!(raw.codes(), [603], "its BYE is under way");
}

/// Conforms: RFC 3891 §3 — an early dialog of the caller's making is not replaced by others: 481
#[test]
fn a_call_that_rings_here_is_not_replaced() {
    let mut raw = Raw::new(EndpointConfig::default());
    raw.receive(&Request::invite("1").text());
    raw.endpoint.ring(raw.now, raw.call(), 180, None).unwrap();
    raw.poll();
    let tag = raw.last().to().unwrap().tag().unwrap().to_owned();
    let mut invite = Request::invite("2").header(&format!("Replaces: call-1;to-tag={tag};from-tag=p1"));
    invite.call_id = "other".into();
    raw.receive(&invite.text());
    assert_eq!(raw.codes(), [481]);
}

/// Conforms: RFC 3891 §6.1 — a tag of 0 stands for a peer without one
#[test]
fn a_peer_without_a_tag_is_found_by_tag_0() {
    let mut raw = Raw::new(EndpointConfig::default());
    let mut invite = Request::invite("1");
    invite.from = "<sip:old@192.0.2.1>".into();
    raw.receive(&invite.text());
    let call = raw.call();
    raw.endpoint.answer(raw.now, call, Bytes::from_static(ANSWER)).unwrap();
    raw.poll();
    let tag = raw.last().to().unwrap().tag().unwrap().to_owned();
    assert_eq!(raw.endpoint.find_call("call-1", &tag, "0"), Some(call));
    assert_eq!(raw.endpoint.find_call("call-1", &tag, "1"), None);
    assert_eq!(raw.endpoint.dialog_identity(call).unwrap().replaces().to_tag, "0");
}

/// Conforms: RFC 3428 §4 — MESSAGE inside a call's dialog reaches the user, both ways
#[test]
fn messages_cross_in_a_call() {
    let takes = || EndpointConfig { user_methods: vec![Method::Message], ..EndpointConfig::default() };
    let mut pair = Pair::with(11, takes(), takes());
    let (caller, callee) = pair.established();
    pair.caller.endpoint.send_message(pair.now, caller, "text/plain", Bytes::from_static(b"one moment")).unwrap();
    pair.pump();
    pair.run_ms(100);
    let got = pair.callee.events.iter().find_map(|(_, event)| match event {
        Event::Message { call, content_type, body } => Some((*call, content_type.clone(), body.clone())),
        _ => None,
    });
    assert_eq!(got, Some((callee, "text/plain".into(), Bytes::from_static(b"one moment"))));
    assert!(pair.caller.events.iter().any(|(_, event)| matches!(event, Event::MessageResult { code: 200, .. })));
    // One that does not take them says so, and the call goes on.
    let mut pair = Pair::new(12);
    let (caller, _) = pair.established();
    pair.caller.endpoint.send_message(pair.now, caller, "text/plain", Bytes::from_static(b"?")).unwrap();
    pair.pump();
    pair.run_ms(100);
    assert!(pair.caller.events.iter().any(|(_, event)| matches!(event, Event::MessageResult { code: 405, .. })));
    assert_eq!(pair.cause(Caller, caller), None);
}

#[test]
fn what_cannot_be_asked_for_is_named_in_the_error() {
    let (mut pair, caller, _) = standing(13);
    for (to, by, what) in [
        ("carol", None, "Refer-To"),
        ("<sip:a@b", None, "Refer-To"),
        ("sip:a@b\r\nEvil: 1", None, "Refer-To"),
        ("sip:a@b", Some("<x"), "Referred-By"),
    ] {
        match pair.caller.endpoint.refer(pair.now, caller, to, by) {
            Err(CommandError::BadArgument { what: named, .. }) => assert_eq!(named, what),
            other => panic!("{to}: {other:?}"),
        }
    }
}

#[test]
fn referrals_and_hang_ups_on_a_bad_network_leave_nothing_behind() {
    for seed in 0..30 {
        let (mut pair, caller, callee) = standing(seed);
        pair.loss_percent = 40;
        pair.caller.endpoint.refer(pair.now, caller, "sip:carol@example.com", None).unwrap();
        pair.pump();
        let until = pair.now + Duration::from_secs(30);
        let mut accepted = false;
        while pair.step(until) {
            if !accepted && !told(&pair).is_empty() {
                accepted = true;
                pair.callee.endpoint.accept_refer(pair.now, callee).unwrap();
                pair.callee.endpoint.notify_refer(pair.now, callee, 180, "").unwrap();
                pair.pump();
            }
        }
        let who = if seed % 2 == 0 { Caller } else { Callee };
        let call = if seed % 2 == 0 { caller } else { callee };
        if pair.cause(who, call).is_none() {
            pair.bye(who, call);
        }
        pair.run_ms(2_000);
        let _ = pair.callee.endpoint.notify_refer(pair.now, callee, 200, "");
        pair.pump();
        pair.run_out();
        pair.assert_empty();
    }
}
