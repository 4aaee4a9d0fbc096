//! Reliable provisional responses, UPDATE and early dialogs, both ways, in virtual time.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "support/pair.rs"]
mod pair;

use std::time::Duration;

use Who::{Callee, Caller};
use bytes::Bytes;
use pair::{ANSWER, OFFER, Pair, Raw, Request, Who, drop_first, invite, outgoing, response};
use sip::headers::RAck;
use sip::{CallId, EndCause, EndpointConfig, Event, Message, Method, Name};

fn early_media(pair: &mut Pair) -> CallId {
    let (call, now) = (pair.incoming(), pair.now);
    pair.callee.endpoint.ring(now, call, 183, Some(Bytes::from_static(ANSWER))).unwrap();
    pair.pump();
    call
}

fn progress(pair: &Pair) -> Vec<(u16, bool)> {
    let told = pair.caller.events.iter().filter_map(|(_, event)| match event {
        Event::Progress { code, answer, .. } => Some((*code, answer.is_some())),
        _ => None,
    });
    told.collect()
}

/// Conforms: RFC 3262 §3 — a provisional response with a session description is sent reliably to a caller that knows how, and the 2xx
/// after its PRACK repeats no description.
#[test]
fn early_media_is_reliable_and_the_answer_says_it_once() {
    let mut pair = Pair::new(1);
    let caller = pair.call();
    pair.run_ms(50);
    let callee = early_media(&mut pair);
    pair.run_ms(50);
    assert_eq!(progress(&pair), [(183, true)]);
    assert_eq!(pair.sent_ms(Caller, "PRACK", "PRACK").len(), 1);
    assert_eq!(pair.sent_ms(Callee, "200", "PRACK").len(), 1);
    pair.answer();
    pair.run_ms(50);
    assert!(pair.acked(callee));
    let ok = pair.log.iter().find(|sent| sent.what == "200" && sent.of == "INVITE").unwrap();
    assert!(Message::parse_datagram(ok.bytes.clone(), &sip::Limits::default()).unwrap().body().is_empty());
    let answered = pair.caller.events.iter().find_map(|(_, event)| match event {
        Event::Answered { answer, .. } => answer.clone(),
        _ => None,
    });
    assert_eq!(answered.as_deref(), Some(ANSWER), "the user is told the answer all the same");
    pair.bye(Caller, caller);
    pair.run_out();
    pair.assert_empty();
}

/// Conforms: RFC 3262 §3 — a reliable response is repeated, each time after twice as long, until its PRACK; the 2xx waits for that.
#[test]
fn a_lost_reliable_response_is_repeated_and_the_answer_waits_for_its_prack() {
    let mut pair = Pair::new(2);
    pair.hook = drop_first(3, Callee, "183", "INVITE");
    let caller = pair.call();
    pair.run_ms(50);
    early_media(&mut pair);
    pair.answer();
    pair.run_ms(3_000);
    assert_eq!(pair.sent_ms(Callee, "200", "INVITE"), Vec::<u64>::new());
    pair.run_ms(2_000);
    assert_eq!(pair.sent_ms(Callee, "183", "INVITE"), [50, 550, 1_550, 3_550]);
    assert_eq!(pair.sent_ms(Callee, "200", "INVITE"), [3_570]);
    assert_eq!(progress(&pair), [(183, true)], "repeats are told once");
    pair.bye(Caller, caller);
    pair.run_out();
    pair.assert_empty();
}

/// Conforms: RFC 3262 §3 — without PRACK for 64 T1 the INVITE is refused with 5xx.
#[test]
fn a_reliable_response_that_nobody_acknowledges_ends_the_call() {
    let mut raw = Raw::new(EndpointConfig::default());
    raw.receive(&Request::invite("1").header("Supported: 100rel").text());
    let call = raw.call();
    raw.out.clear();
    raw.endpoint.ring(raw.now, call, 183, Some(Bytes::from_static(ANSWER))).unwrap();
    raw.poll();
    raw.wait(Duration::from_secs(33));
    let codes = raw.codes();
    assert_eq!(codes[..7], [183; 7], "at 0, 0.5, 1.5, 3.5, 7.5, 15.5 and 31.5 s: {codes:?}");
    assert!(codes.contains(&504), "{codes:?}");
    assert_eq!(raw.causes(), [EndCause::NoAck]);
}

/// Conforms: RFC 3262 §3 — a caller that requires 100rel gets every provisional response reliably, one after another.
#[test]
fn one_reliable_response_is_under_way_at_a_time() {
    let mut raw = Raw::new(EndpointConfig::default());
    raw.receive(&Request::invite("1").header("Require: 100rel").text());
    let call = raw.call();
    raw.out.clear();
    for code in [180, 181, 182] {
        raw.endpoint.ring(raw.now, call, code, None).unwrap();
    }
    raw.poll();
    let ringing = raw.only();
    assert_eq!((ringing.code(), ringing.header(Name::Require)), (Some(180), Some("100rel")));
    let number: u32 = ringing.header(Name::RSeq).unwrap().parse().unwrap();
    let tag = ringing.to().unwrap().tag().unwrap().to_owned();
    let prack = |branch: &str, cseq: u32, rack: &str| {
        Request::new("PRACK", branch).tagged(&tag).cseq(cseq).header(&format!("RAck: {rack}")).text()
    };
    for (branch, cseq, rack, code) in [
        ("2", 2, format!("{} 1 INVITE", number + 1), 481),
        ("3", 3, format!("{number} 2 INVITE"), 481),
        ("4", 4, format!("{number} 1 UPDATE"), 481),
        ("5", 5, "nonsense".to_owned(), 400),
    ] {
        raw.receive(&prack(branch, cseq, &rack));
        assert_eq!(raw.codes(), [code], "{rack}");
    }
    raw.receive(&prack("6", 6, &format!("{number} 1 INVITE")));
    let next = raw.last();
    assert_eq!((next.code(), next.header(Name::RSeq)), (Some(182), Some(&*(number + 1).to_string())));
    // The 2xx need not wait for one without a description, and a late PRACK harms nothing.
    raw.endpoint.answer(raw.now, call, Bytes::from_static(ANSWER)).unwrap();
    raw.poll();
    assert_eq!(raw.codes(), [200]);
    raw.receive(&prack("7", 7, &format!("{} 1 INVITE", number + 1)));
    assert_eq!(raw.codes(), [200]);
}

/// Conforms: RFC 3262 §5 — a caller without an offer that requires 100rel would have to be sent ours; it waits for the 2xx instead.
#[test]
fn a_late_offer_is_made_by_the_2xx() {
    let mut raw = Raw::new(EndpointConfig::default());
    let mut invite = Request::invite("1").header("Require: 100rel");
    invite.body = "";
    raw.receive(&invite.text());
    let call = raw.call();
    raw.out.clear();
    raw.endpoint.ring(raw.now, call, 180, None).unwrap();
    raw.poll();
    assert_eq!(raw.codes(), Vec::<u16>::new());
    raw.endpoint.answer(raw.now, call, Bytes::from_static(OFFER)).unwrap();
    raw.poll();
    assert_eq!(raw.last().body(), OFFER);
}

fn reliable(number: u32) -> String {
    format!("Contact: <sip:phone@192.0.2.1:5070>\r\nRequire: 100rel\r\nRSeq: {number}\r\n")
}

/// Conforms: RFC 3262 §4 — each reliable response gets one PRACK, in order; repeats and those out of order are passed over.
/// Conforms: RFC 3261 §12.1.2 — the forks of an INVITE are early dialogs of their own.
#[test]
fn each_fork_is_acknowledged_by_itself() {
    let mut raw = Raw::new(EndpointConfig::default());
    let (_, invite) = invite(&mut raw, outgoing());
    assert!(invite.header_values(Name::Supported).any(|tag| tag == "100rel"));
    for (tag, number, is_new) in
        [("a", 7, true), ("a", 7, false), ("a", 9, false), ("b", 100, true), ("a", 8, true), ("b", 100, false)]
    {
        raw.receive(&response(&invite, 180, tag, &reliable(number), ""));
        assert_eq!(!raw.out.is_empty(), is_new, "{tag} {number}");
        if is_new {
            let prack = raw.only();
            assert_eq!((prack.method(), prack.request_uri()), (Some(&Method::Prack), "sip:phone@192.0.2.1:5070"));
            let rack = RAck { response: number, sequence: 1, method: Method::Invite };
            assert_eq!(prack.header(Name::RAck).map(RAck::parse), Some(Ok(rack)));
            assert_eq!(prack.to().unwrap().tag(), Some(tag));
            raw.receive(&response(&prack, 200, "", "", ""));
        }
    }
    let told = raw.events.iter().filter(|event| matches!(event, Event::Progress { .. })).count();
    assert_eq!(told, 3);
    // One of them answers without a description: what it said before counts.
    raw.receive(&response(&invite, 183, "c", &reliable(1), std::str::from_utf8(ANSWER).unwrap()));
    raw.out.clear();
    raw.receive(&response(&invite, 200, "c", "Contact: <sip:phone@192.0.2.1:5070>\r\n", ""));
    assert_eq!(raw.only().method(), Some(&Method::Ack));
    let Some(Event::Answered { answer, .. }) = raw.events.last() else { panic!("{:?}", raw.events.last()) };
    assert_eq!(answer.as_deref(), Some(ANSWER));
    // The others are no dialogs any more.
    let mut stray = Request::new("UPDATE", "u").cseq(9);
    stray.call_id = invite.call_id().to_owned();
    stray.from = format!("{};tag=a", invite.header(Name::To).unwrap());
    stray.to = invite.header(Name::From).unwrap().to_owned();
    raw.receive(&stray.text());
    assert_eq!(raw.codes(), [481]);
}

/// Conforms: RFC 3311 §5.2 — UPDATE in an early dialog is answered; an offer in it that nothing here can take yet is refused.
#[test]
fn a_phone_that_rings_may_update() {
    let mut raw = Raw::new(EndpointConfig::default());
    let (_, invite) = invite(&mut raw, outgoing());
    raw.receive(&response(&invite, 180, "a", "Contact: <sip:phone@192.0.2.1:5070>\r\n", ""));
    for (cseq, body, code) in [(5, "", 200), (6, "v=0\r\n", 488), (6, "", 500)] {
        let mut update = Request::new("UPDATE", &format!("u{cseq}{}", body.len())).cseq(cseq);
        update.call_id = invite.call_id().to_owned();
        update.from = format!("{};tag=a", invite.header(Name::To).unwrap());
        update.to = invite.header(Name::From).unwrap().to_owned();
        update.body = body;
        raw.receive(&update.text());
        assert_eq!(raw.codes(), [code], "{cseq}");
    }
}

/// Conforms: RFC 3311 §5.2 — an offer in UPDATE is told to the user and answered by the 2xx, without ACK; glare gets 491, overlap 500.
#[test]
fn an_update_changes_the_session() {
    let mut raw = Raw::new(EndpointConfig::default());
    raw.receive(&Request::invite("1").text());
    let call = raw.call();
    raw.endpoint.answer(raw.now, call, Bytes::from_static(ANSWER)).unwrap();
    raw.poll();
    let tag = raw.last().to().unwrap().tag().unwrap().to_owned();
    raw.receive(&Request::new("ACK", "2").tagged(&tag).text());
    let update = |branch: &str, cseq: u32| {
        let mut update =
            Request::new("UPDATE", branch).tagged(&tag).cseq(cseq).header("Contact: <sip:peer@192.0.2.9:5090>");
        update.body = "v=0\r\n";
        update.text()
    };
    raw.receive(&update("3", 2));
    assert!(matches!(raw.events.last(), Some(Event::Reoffer { offer: Some(_), .. })));
    raw.receive(&update("4", 3));
    assert_eq!(raw.codes(), [500], "the first is not answered yet");
    raw.endpoint.answer_reoffer(raw.now, call, Bytes::from_static(ANSWER)).unwrap();
    raw.poll();
    let ok = raw.only();
    assert_eq!((ok.code(), ok.body()), (Some(200), ANSWER));
    assert!(ok.header(Name::Contact).is_some());
    // Refused, and left alone.
    raw.receive(&update("5", 4));
    raw.endpoint.reject_reoffer(raw.now, call, 488).unwrap();
    raw.poll();
    assert_eq!(raw.codes(), [488]);
    raw.receive(&update("6", 5));
    raw.wait(Duration::from_secs(31));
    assert_eq!(raw.codes(), [500]);
    // Ours is under way.
    raw.endpoint.reoffer(raw.now, call, Bytes::from_static(OFFER)).unwrap();
    raw.poll();
    let reinvite = raw.only();
    assert_eq!(reinvite.request_uri(), "sip:peer@192.0.2.9:5090", "UPDATE is a target refresh");
    raw.receive(&update("7", 6));
    assert_eq!(raw.codes(), [491]);
}

/// Conforms: RFC 3262 §5 — an offer in PRACK is answered by its 2xx.
#[test]
fn an_offer_in_prack_is_answered() {
    let mut raw = Raw::new(EndpointConfig::default());
    raw.receive(&Request::invite("1").header("Supported: 100rel").text());
    let call = raw.call();
    raw.out.clear();
    raw.endpoint.ring(raw.now, call, 183, Some(Bytes::from_static(ANSWER))).unwrap();
    raw.poll();
    let early = raw.only();
    let tag = early.to().unwrap().tag().unwrap().to_owned();
    let number = early.header(Name::RSeq).unwrap();
    let mut prack = Request::new("PRACK", "2").tagged(&tag).cseq(2).header(&format!("RAck: {number} 1 INVITE"));
    prack.body = "v=0\r\n";
    raw.receive(&prack.text());
    assert!(matches!(raw.events.last(), Some(Event::Reoffer { .. })));
    raw.endpoint.answer_reoffer(raw.now, call, Bytes::from_static(ANSWER)).unwrap();
    raw.poll();
    let ok = raw.only();
    assert_eq!((ok.code(), ok.cseq().unwrap().method, ok.body()), (Some(200), Method::Prack, ANSWER));
}

/// Conforms: RFC 5621 §3.1 — a session description is found among other parts of an INVITE's body.
#[test]
fn a_body_of_several_parts_holds_the_offer() {
    let mut raw = Raw::new(EndpointConfig::default());
    let mut invite = Request::invite("1");
    invite.body_type = "multipart/mixed;boundary=x";
    invite.body = "--x\r\nContent-Type: application/isup\r\n\r\n\x01\r\n--x\r\nContent-Type: application/sdp\r\n\r\nv=0\r\n\r\n--x--\r\n";
    raw.receive(&invite.text());
    let Some(Event::Incoming { offer, .. }) = raw.events.last() else { panic!("{:?}", raw.codes()) };
    assert_eq!(offer.as_deref(), Some(&b"v=0\r\n"[..]));
    let mut other = Request::invite("2");
    other.call_id = "call-2".into();
    other.body_type = "multipart/mixed;boundary=x";
    other.body = "--x\r\nContent-Type: application/isup\r\n\r\n\x01\r\n--x--\r\n";
    raw.out.clear();
    raw.receive(&other.text());
    assert_eq!(raw.codes(), [415]);
}
