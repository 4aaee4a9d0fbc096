//! Calls between two endpoints over a simulated network, in virtual time: set-up and end, lost messages, races, glare.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "support/pair.rs"]
mod pair;

use std::collections::HashMap;
use std::time::Duration;

use Who::{Callee, Caller};
use bytes::Bytes;
use pair::{ANSWER, OFFER, Pair, Who, drop_first};
use sip::{EndCause, EndpointConfig, EndpointLimits, Event, Name, Transport};

#[test]
fn a_call_is_answered_and_hung_up_by_the_caller() {
    let mut pair = Pair::new(1);
    let (caller, callee) = pair.established();
    let offer = pair.callee.events.iter().find_map(|(_, event)| match event {
        Event::Incoming { offer, from_uri, to_uri, .. } => Some((offer.clone(), from_uri.clone(), to_uri.clone())),
        _ => None,
    });
    let (offer, from, to) = offer.unwrap();
    assert_eq!(offer.as_deref(), Some(OFFER));
    assert_eq!((from.as_str(), to.as_str()), ("sip:caller@10.0.0.1", "sip:agent@10.0.0.2"));
    let answered = pair.caller.events.iter().find_map(|(_, event)| match event {
        Event::Answered { code, answer, .. } => Some((*code, answer.clone())),
        _ => None,
    });
    assert_eq!(answered, Some((200, Some(Bytes::from_static(ANSWER)))));
    pair.bye(Caller, caller);
    pair.run_ms(100);
    assert_eq!(pair.cause(Caller, caller), Some(EndCause::LocalBye));
    assert_eq!(pair.cause(Callee, callee), Some(EndCause::RemoteBye));
    pair.run_out();
    pair.assert_empty();
}

#[test]
fn a_call_is_hung_up_by_the_callee() {
    let mut pair = Pair::new(2);
    let (caller, callee) = pair.established();
    pair.bye(Callee, callee);
    pair.run_ms(100);
    assert_eq!(pair.cause(Caller, caller), Some(EndCause::RemoteBye));
    assert_eq!(pair.cause(Callee, callee), Some(EndCause::LocalBye));
}

#[test]
fn the_call_works_over_a_reliable_transport_and_leaves_nothing_behind() {
    let mut pair = Pair::new(3);
    pair.transport = Transport::Tcp;
    let (caller, callee) = pair.established();
    pair.bye(Caller, caller);
    pair.run_ms(100);
    assert_eq!(pair.cause(Callee, callee), Some(EndCause::RemoteBye));
    pair.run_out();
    pair.assert_empty();
}

/// Conforms: RFC 3261 §17.2.1 — an INVITE that takes time is answered 100 at once.
#[test]
fn trying_is_sent_at_once_and_ringing_when_asked() {
    let mut pair = Pair::new(4);
    let caller = pair.call();
    pair.run_ms(30);
    assert_eq!(pair.sent_ms(Callee, "100", "INVITE"), [10]);
    let (call, now) = (pair.incoming(), pair.now);
    pair.callee.endpoint.ring(now, call, 183, Some(Bytes::from_static(ANSWER))).unwrap();
    pair.pump();
    pair.run_ms(30);
    assert!(pair.caller.events.iter().any(|(_, event)| matches!(
        event,
        Event::Progress { call, code: 183, answer: Some(sdp) } if *call == caller && sdp == ANSWER
    )));
}

/// Conforms: RFC 3261 §13.3.1.1 — a provisional response is repeated each minute.
#[test]
fn ringing_is_repeated_each_minute_and_ends_at_the_ring_limit() {
    let mut pair = Pair::new(5);
    let caller = pair.call();
    pair.run_ms(20);
    let (callee, now) = (pair.incoming(), pair.now);
    pair.callee.endpoint.ring(now, callee, 180, None).unwrap();
    pair.pump();
    pair.run_for(Duration::from_secs(200));
    assert_eq!(pair.sent_ms(Callee, "180", "INVITE"), [20, 60_020, 120_020]);
    assert_eq!(pair.cause(Caller, caller), Some(EndCause::Timeout));
    assert!(pair.ended(Callee, callee).is_some());
    pair.run_out();
    pair.assert_empty();
}

#[test]
fn the_caller_gives_up_when_nobody_is_there() {
    let mut pair = Pair::new(6);
    pair.loss_percent = 100;
    let caller = pair.call();
    pair.run_out();
    assert_eq!(pair.sent_ms(Caller, "INVITE", "INVITE"), [0, 500, 1_500, 3_500, 7_500, 15_500, 31_500]);
    assert_eq!(pair.ended(Caller, caller), Some((Duration::from_secs(32), EndCause::Timeout)));
    pair.assert_empty();
}

/// Conforms: RFC 3261 §17.1.1.2 — a lost INVITE is repeated.
#[test]
fn a_lost_invite_is_repeated() {
    let mut pair = Pair::new(7);
    pair.hook = drop_first(1, Caller, "INVITE", "INVITE");
    let (caller, _) = {
        let caller = pair.call();
        pair.run_ms(600);
        (caller, pair.answer())
    };
    pair.run_ms(100);
    assert!(pair.caller.events.iter().any(|(_, e)| matches!(e, Event::Answered { call, .. } if *call == caller)));
}

/// Conforms: RFC 3261 §13.3.1.4 — the 2xx is repeated until its ACK.
#[test]
fn the_2xx_is_repeated_from_t1_to_t2_until_ack() {
    let mut pair = Pair::new(8);
    pair.call();
    pair.run_ms(20);
    pair.hook = drop_first(5, Caller, "ACK", "ACK");
    let callee = pair.answer();
    pair.run_for(Duration::from_secs(60));
    // Answered at 20 ms; T1 doubles to T2; the sixth ACK gets through.
    assert_eq!(pair.sent_ms(Callee, "200", "INVITE"), [20, 520, 1_520, 3_520, 7_520, 11_520]);
    assert!(pair.acked(callee));
    assert!(pair.ended(Callee, callee).is_none());
}

#[test]
fn the_2xx_is_repeated_over_reliable_transports_too() {
    let mut pair = Pair::new(9);
    pair.transport = Transport::Tcp;
    pair.call();
    pair.run_ms(20);
    pair.hook = drop_first(2, Caller, "ACK", "ACK");
    let callee = pair.answer();
    pair.run_for(Duration::from_secs(10));
    assert_eq!(pair.sent_ms(Callee, "200", "INVITE"), [20, 520, 1_520]);
    assert!(pair.acked(callee));
}

/// Conforms: RFC 3261 §13.3.1.4 — a 2xx without an ACK is ended by BYE after 64 T1.
#[test]
fn an_answer_that_is_never_acknowledged_is_hung_up_after_64_t1() {
    let mut pair = Pair::new(10);
    let caller = pair.call();
    pair.run_ms(20);
    pair.hook = drop_first(usize::MAX, Caller, "ACK", "ACK");
    let callee = pair.answer();
    pair.run_for(Duration::from_secs(40));
    assert_eq!(pair.sent_ms(Callee, "BYE", "BYE"), [32_020]);
    assert_eq!(pair.cause(Callee, callee), Some(EndCause::NoAck));
    assert_eq!(pair.cause(Caller, caller), Some(EndCause::RemoteBye));
    pair.run_out();
    pair.assert_empty();
}

/// Conforms: RFC 3261 §13.2.2.4 — each 2xx is acknowledged.
#[test]
fn a_lost_2xx_is_repeated_and_acknowledged() {
    let mut pair = Pair::new(11);
    let caller = pair.call();
    pair.run_ms(20);
    pair.hook = drop_first(2, Callee, "200", "INVITE");
    let callee = pair.answer();
    pair.run_ms(3_000);
    assert!(pair.acked(callee));
    assert_eq!(pair.sent_ms(Caller, "ACK", "ACK"), [1_530]);
    assert!(pair.ended(Caller, caller).is_none());
}

#[test]
fn each_repeat_of_the_2xx_gets_the_same_ack() {
    let mut pair = Pair::new(12);
    pair.call();
    pair.run_ms(20);
    pair.hook = drop_first(2, Caller, "ACK", "ACK");
    pair.answer();
    pair.run_ms(5_000);
    let acks: Vec<_> = pair.log.iter().filter(|sent| sent.what == "ACK").map(|sent| sent.bytes.clone()).collect();
    assert_eq!(acks.len(), 3);
    assert!(acks.iter().all(|ack| *ack == acks[0]));
}

#[test]
fn the_callee_refuses_and_the_caller_acknowledges() {
    let mut pair = Pair::new(13);
    let caller = pair.call();
    pair.run_ms(20);
    let (callee, now) = (pair.incoming(), pair.now);
    pair.callee.endpoint.reject(now, callee, 486, "", &[]).unwrap();
    pair.pump();
    pair.run_ms(100);
    assert_eq!(pair.cause(Callee, callee), Some(EndCause::Refused(486)));
    assert_eq!(pair.cause(Caller, caller), Some(EndCause::Rejected(486)));
    assert!(pair.caller.events.iter().any(|(_, event)| matches!(
        event,
        Event::Rejected { code: 486, reason, .. } if reason == "Busy Here"
    )));
    pair.run_out();
    assert_eq!(pair.sent_ms(Callee, "486", "INVITE"), [20]);
    assert_eq!(pair.sent_ms(Caller, "ACK", "ACK"), [30]);
    pair.assert_empty();
}

/// Conforms: RFC 3261 §8.1.3.4 — a redirection is told with its contacts.
#[test]
fn a_redirection_comes_with_its_contacts() {
    let mut pair = Pair::new(14);
    pair.call();
    pair.run_ms(20);
    let (callee, now) = (pair.incoming(), pair.now);
    let contact = vec![("Contact".to_owned(), "<sip:other@10.0.0.3>".to_owned())];
    pair.callee.endpoint.reject(now, callee, 302, "", &contact).unwrap();
    pair.pump();
    pair.run_ms(100);
    let contact = pair.caller.events.iter().find_map(|(_, event)| match event {
        Event::Rejected { code: 302, response, .. } => response.header(Name::Contact).map(str::to_owned),
        _ => None,
    });
    assert_eq!(contact.as_deref(), Some("<sip:other@10.0.0.3>"));
}

#[test]
fn a_header_of_the_user_cannot_smuggle_in_another() {
    let mut pair = Pair::new(15);
    pair.call();
    pair.run_ms(20);
    let (callee, now) = (pair.incoming(), pair.now);
    let headers =
        vec![("Warning".to_owned(), "399 x \"a\"\r\nEvil: yes".to_owned()), ("Bad Name".to_owned(), "x".to_owned())];
    pair.callee.endpoint.reject(now, callee, 488, "No\r\nEvil: yes", &headers).unwrap();
    pair.pump();
    let refusal = pair.log.iter().find(|sent| sent.what == "488").unwrap();
    let text = String::from_utf8_lossy(&refusal.bytes);
    assert!(!text.contains("\r\nEvil") && !text.contains("Bad Name"), "{text}");
}

#[test]
fn the_caller_cancels_while_it_rings() {
    let mut pair = Pair::new(16);
    let caller = pair.call();
    pair.run_ms(50);
    let callee = pair.incoming();
    pair.bye(Caller, caller);
    pair.run_ms(100);
    assert_eq!(pair.sent_ms(Callee, "200", "CANCEL").len(), 1);
    assert_eq!(pair.sent_ms(Callee, "487", "INVITE").len(), 1);
    assert_eq!(pair.cause(Caller, caller), Some(EndCause::Cancelled));
    assert_eq!(pair.cause(Callee, callee), Some(EndCause::Cancelled));
    assert!(pair.callee.events.iter().any(|(_, event)| matches!(event, Event::Cancelled { .. })));
    pair.run_out();
    pair.assert_empty();
}

/// Conforms: RFC 3261 §9.1 — CANCEL waits for a provisional response.
#[test]
fn cancel_waits_for_a_provisional_response() {
    let mut pair = Pair::new(17);
    pair.hook = drop_first(1, Callee, "100", "INVITE");
    let caller = pair.call();
    pair.run_ms(5);
    pair.bye(Caller, caller);
    pair.run_ms(400);
    assert!(pair.sent_ms(Caller, "CANCEL", "CANCEL").is_empty());
    // The INVITE's repeat brings the 100 again.
    pair.run_ms(400);
    assert_eq!(pair.sent_ms(Caller, "CANCEL", "CANCEL"), [520]);
    assert_eq!(pair.cause(Caller, caller), Some(EndCause::Cancelled));
}

/// Conforms: RFC 3261 §9.1 — where CANCEL and 2xx cross, the call is ended by BYE.
#[test]
fn cancel_and_answer_cross_and_the_call_is_hung_up() {
    let mut pair = Pair::new(18);
    let caller = pair.call();
    pair.run_ms(50);
    // Both within the latency: neither has heard of the other.
    pair.bye(Caller, caller);
    let callee = pair.answer();
    pair.run_ms(200);
    assert_eq!(pair.sent_ms(Caller, "ACK", "ACK").len(), 1);
    assert_eq!(pair.sent_ms(Caller, "BYE", "BYE").len(), 1);
    assert_eq!(pair.cause(Caller, caller), Some(EndCause::Cancelled));
    assert_eq!(pair.cause(Callee, callee), Some(EndCause::RemoteBye));
    pair.run_out();
    pair.assert_empty();
}

#[test]
fn an_invite_whose_cancel_is_never_answered_is_dropped_after_64_t1() {
    let mut pair = Pair::new(19);
    let caller = pair.call();
    pair.run_ms(50);
    pair.loss_percent = 100;
    pair.bye(Caller, caller);
    pair.run_for(Duration::from_secs(33));
    let (at, cause) = pair.ended(Caller, caller).unwrap();
    assert_eq!((at.as_millis(), cause), (32_050, EndCause::Cancelled));
}

/// Conforms: RFC 3261 §15 — a callee sends BYE only after the ACK or its time-out.
#[test]
fn the_callee_hangs_up_only_after_the_ack() {
    let mut pair = Pair::new(20);
    pair.call();
    pair.run_ms(50);
    pair.hook = drop_first(1, Caller, "ACK", "ACK");
    let callee = pair.answer();
    pair.bye(Callee, callee);
    pair.run_ms(400);
    assert!(pair.sent_ms(Callee, "BYE", "BYE").is_empty());
    pair.run_ms(400);
    assert_eq!(pair.sent_ms(Callee, "BYE", "BYE"), [570]);
    assert_eq!(pair.cause(Callee, callee), Some(EndCause::LocalBye));
}

#[test]
fn a_bye_that_overtakes_the_ack_ends_the_call() {
    let mut pair = Pair::new(21);
    let caller = pair.call();
    pair.run_ms(50);
    pair.hook = drop_first(usize::MAX, Caller, "ACK", "ACK");
    let callee = pair.answer();
    pair.run_ms(15);
    pair.bye(Caller, caller);
    pair.run_ms(100);
    assert_eq!(pair.cause(Callee, callee), Some(EndCause::RemoteBye));
    assert_eq!(pair.cause(Caller, caller), Some(EndCause::LocalBye));
    pair.run_for(Duration::from_secs(5));
    assert_eq!(pair.sent_ms(Callee, "200", "INVITE").len(), 1, "the 2xx is not repeated any more");
}

/// Conforms: RFC 3261 §15.1 — BYE requests that cross are both answered.
#[test]
fn both_sides_hang_up_at_once() {
    let mut pair = Pair::new(22);
    let (caller, callee) = pair.established();
    pair.bye(Caller, caller);
    pair.bye(Callee, callee);
    pair.run_ms(100);
    assert_eq!(pair.cause(Caller, caller), Some(EndCause::LocalBye));
    assert_eq!(pair.cause(Callee, callee), Some(EndCause::LocalBye));
    assert_eq!(pair.log.iter().filter(|sent| sent.what == "200" && sent.of == "BYE").count(), 2);
    pair.run_out();
    pair.assert_empty();
}

#[test]
fn a_bye_that_nobody_answers_ends_the_call_by_timer_f() {
    let mut pair = Pair::new(23);
    let (caller, _) = pair.established();
    pair.loss_percent = 100;
    let at = pair.elapsed();
    pair.bye(Caller, caller);
    pair.run_for(Duration::from_secs(40));
    let (ended, cause) = pair.ended(Caller, caller).unwrap();
    assert_eq!((ended - at, cause), (Duration::from_secs(32), EndCause::LocalBye));
}

/// Conforms: RFC 3261 §14 — a session is changed by re-INVITE.
#[test]
fn a_reoffer_is_answered_and_acknowledged() {
    let mut pair = Pair::new(24);
    let (caller, callee) = pair.established();
    let now = pair.now;
    pair.caller.endpoint.reoffer(now, caller, Bytes::from_static(b"v=0 hold")).unwrap();
    pair.pump();
    pair.run_ms(50);
    let offered = pair.callee.events.iter().any(
        |(_, event)| matches!(event, Event::Reoffer { call, offer: Some(sdp) } if *call == callee && sdp == "v=0 hold"),
    );
    assert!(offered);
    let now = pair.now;
    pair.callee.endpoint.answer_reoffer(now, callee, Bytes::from_static(b"v=0 held")).unwrap();
    pair.pump();
    pair.run_ms(50);
    assert!(pair.caller.events.iter().any(
        |(_, event)| matches!(event, Event::ReofferResult { code: 200, answer: Some(sdp), .. } if sdp == "v=0 held")
    ));
    let acks = pair.callee.events.iter().filter(|(_, event)| matches!(event, Event::Acked { .. })).count();
    assert_eq!(acks, 2);
    pair.run_for(Duration::from_secs(60));
    assert!(pair.ended(Caller, caller).is_none() && pair.ended(Callee, callee).is_none());
}

#[test]
fn a_lost_ack_to_a_reoffers_answer_is_made_good() {
    let mut pair = Pair::new(25);
    let (caller, callee) = pair.established();
    let now = pair.now;
    pair.callee.endpoint.reoffer(now, callee, Bytes::from_static(b"v=0")).unwrap();
    pair.pump();
    pair.run_ms(50);
    pair.hook = drop_first(2, Callee, "ACK", "ACK");
    let now = pair.now;
    pair.caller.endpoint.answer_reoffer(now, caller, Bytes::from_static(b"v=0")).unwrap();
    pair.pump();
    pair.run_ms(5_000);
    assert_eq!(pair.sent_ms(Caller, "200", "INVITE").len(), 3);
    let acked = pair.caller.events.iter().filter(|(_, event)| matches!(event, Event::Acked { .. })).count();
    assert_eq!(acked, 1);
    pair.run_for(Duration::from_secs(60));
    assert!(pair.ended(Caller, caller).is_none());
}

#[test]
fn a_refused_reoffer_leaves_the_call_as_it_was() {
    let mut pair = Pair::new(26);
    let (caller, callee) = pair.established();
    let now = pair.now;
    pair.caller.endpoint.reoffer(now, caller, Bytes::from_static(b"v=0")).unwrap();
    pair.pump();
    pair.run_ms(50);
    let now = pair.now;
    pair.callee.endpoint.reject_reoffer(now, callee, 488).unwrap();
    pair.pump();
    pair.run_for(Duration::from_secs(60));
    assert!(pair.caller.events.iter().any(|(_, event)| matches!(event, Event::ReofferResult { code: 488, .. })));
    assert!(pair.ended(Caller, caller).is_none() && pair.ended(Callee, callee).is_none());
}

/// Conforms: RFC 3261 §14.1 — after 491 each side waits a time of its own.
#[test]
fn glare_is_resolved_by_waiting_different_times() {
    let mut pair = Pair::new(27);
    let (caller, callee) = pair.established();
    let now = pair.now;
    pair.caller.endpoint.reoffer(now, caller, Bytes::from_static(b"v=0 a")).unwrap();
    pair.callee.endpoint.reoffer(now, callee, Bytes::from_static(b"v=0 b")).unwrap();
    pair.pump();
    let mut answered = HashMap::new();
    for _ in 0..600 {
        pair.run_ms(10);
        for (who, call) in [(Caller, caller), (Callee, callee)] {
            let seen = pair.side(who).events.iter().filter(|(_, e)| matches!(e, Event::Reoffer { .. })).count();
            if answered.insert(who as u8, seen).unwrap_or(0) < seen {
                let now = pair.now;
                pair.side(who).endpoint.answer_reoffer(now, call, Bytes::from_static(b"v=0 ok")).unwrap();
                pair.pump();
            }
        }
    }
    assert_eq!(pair.sent_ms(Callee, "491", "INVITE").len(), 1);
    assert_eq!(pair.sent_ms(Caller, "491", "INVITE").len(), 1);
    // The callee's came through. What the caller wanted is outdated by its answer to that.
    for (who, result) in [(Callee, 200), (Caller, 491)] {
        let results = pair.side(who).events.iter().filter_map(|(_, event)| match event {
            Event::ReofferResult { code, .. } => Some(*code),
            _ => None,
        });
        assert_eq!(results.collect::<Vec<_>>(), [result], "{who:?}");
    }
    let at = |who| pair.sent_ms(who, "INVITE", "INVITE").last().copied().unwrap();
    assert!(at(Callee) <= 150 + 2_000 && at(Caller) == 100, "{} {}", at(Caller), at(Callee));
}

/// Conforms: RFC 3261 §14.1 — who made the Call-ID waits 2.1 to 4 s, the other at most 2 s; RFC 3264 §4 — what was offered is as if it had
/// not been, so that the same is offered again.
#[test]
fn after_glare_the_same_is_offered_again_where_nothing_changed_meanwhile() {
    for (who, waits_ms) in [(Caller, 2_100..=4_000), (Callee, 0..=2_000)] {
        let mut pair = Pair::new(43);
        let (caller, callee) = pair.established();
        let (call, of_peer) = if who == Caller { (caller, callee) } else { (callee, caller) };
        let peer = if who == Caller { Callee } else { Caller };
        let now = pair.now;
        pair.side(who).endpoint.reoffer(now, call, Bytes::from_static(b"v=0 hold")).unwrap();
        pair.pump();
        pair.run_ms(20);
        let now = pair.now;
        pair.side(peer).endpoint.reject_reoffer(now, of_peer, 491).unwrap();
        pair.pump();
        pair.run_ms(4_100);
        let now = pair.now;
        pair.side(peer).endpoint.answer_reoffer(now, of_peer, Bytes::from_static(b"v=0 held")).unwrap();
        pair.pump();
        pair.run_ms(100);
        let offers = pair
            .log
            .iter()
            .filter(|sent| sent.from == who && sent.what == "INVITE" && sent.bytes.ends_with(b"v=0 hold"));
        let at: Vec<u64> = offers.map(|sent| sent.at.as_millis() as u64).collect();
        let [first, again] = at[..] else { panic!("{at:?}") };
        assert!(waits_ms.contains(&(again - first - 30)), "{at:?}");
        let events = &pair.side(who).events;
        assert!(events.iter().any(|(_, e)| matches!(e, Event::ReofferResult { code: 200, .. })));
    }
}

/// Conforms: RFC 6086 §4 — INFO within a dialog.
#[test]
fn info_goes_through_both_ways() {
    let mut pair = Pair::new(28);
    let (caller, callee) = pair.established();
    let now = pair.now;
    let body = Bytes::from_static(b"Signal=5\r\nDuration=160\r\n");
    pair.caller.endpoint.send_info(now, caller, "application/dtmf-relay", body.clone()).unwrap();
    pair.callee.endpoint.send_info(now, callee, "text/plain", body.clone()).unwrap();
    pair.pump();
    pair.run_ms(100);
    assert!(pair.callee.events.iter().any(|(_, event)| matches!(
        event,
        Event::Info { content_type, body: b, .. } if content_type == "application/dtmf-relay" && *b == body
    )));
    assert!(pair.caller.events.iter().any(|(_, event)| matches!(event, Event::InfoResult { code: 200, .. })));
    assert!(pair.callee.events.iter().any(|(_, event)| matches!(event, Event::InfoResult { code: 415, .. })));
}

#[test]
fn an_info_too_many_is_refused_here() {
    let limits = EndpointLimits { infos_per_call: 2, ..EndpointLimits::default() };
    let config = EndpointConfig { limits, ..EndpointConfig::default() };
    let mut pair = Pair::with(29, config, EndpointConfig::default());
    let (caller, _) = pair.established();
    let now = pair.now;
    for wanted in [true, true, false] {
        let sent = pair.caller.endpoint.send_info(now, caller, "application/dtmf", Bytes::from_static(b"1"));
        assert_eq!(sent.is_ok(), wanted);
    }
    pair.pump();
    pair.run_ms(100);
    let now = pair.now;
    assert!(pair.caller.endpoint.send_info(now, caller, "application/dtmf", Bytes::from_static(b"1")).is_ok());
}

/// Conforms: RFC 3261 §12.2.1.2 — 481 or 408 to a request inside a dialog ends it.
#[test]
fn a_call_that_the_peer_forgot_ends_as_gone() {
    let mut pair = Pair::new(30);
    let (caller, _) = pair.established();
    // The callee restarts: another endpoint that knows nothing.
    pair.callee.endpoint = sip::Endpoint::new(EndpointConfig::default(), 99);
    let now = pair.now;
    pair.caller.endpoint.send_info(now, caller, "application/dtmf", Bytes::from_static(b"1")).unwrap();
    pair.pump();
    pair.run_ms(200);
    assert_eq!(pair.cause(Caller, caller), Some(EndCause::Gone));
}

#[test]
fn a_message_that_cannot_be_sent_fails_the_call_at_once() {
    let mut pair = Pair::new(31);
    let (now, transport, target, local) = (pair.now, pair.transport, pair.callee.address, pair.caller.address);
    let call = sip::OutgoingCall {
        uri: "sip:agent@10.0.0.2".into(),
        from: "sip:caller@10.0.0.1".into(),
        to: None,
        destination: sip::endpoint::Destination {
            transport,
            flow: None,
            target: sip::endpoint::Target::Address(target),
        },
        local,
        headers: Vec::new(),
        credentials: None,
        offer: Bytes::from_static(OFFER),
        patience: None,
    };
    let call = pair.caller.endpoint.invite(now, call).unwrap();
    let Some(sip::endpoint::Output::Send { id, .. }) = pair.caller.endpoint.poll() else { panic!("an INVITE") };
    pair.caller.endpoint.send_failed(now, id);
    pair.pump();
    assert_eq!(pair.cause(Caller, call), Some(EndCause::TransportError));
    pair.assert_empty();
}

/// Conforms: RFC 3261 §21.5.4 — overload gets 503 with Retry-After.
#[test]
fn more_calls_than_the_limit_are_refused_with_503_and_taken_again_later() {
    let limits = EndpointLimits { calls: 3, ..EndpointLimits::default() };
    let mut pair = Pair::with(32, EndpointConfig::default(), EndpointConfig { limits, ..EndpointConfig::default() });
    let calls: Vec<_> = (0..4).map(|_| pair.call()).collect();
    pair.run_ms(100);
    let causes: Vec<_> = calls.iter().map(|call| pair.cause(Caller, *call)).collect();
    assert_eq!(causes, [None, None, None, Some(EndCause::Rejected(503))]);
    let refusal = pair.log.iter().find(|sent| sent.what == "503").unwrap();
    assert!(String::from_utf8_lossy(&refusal.bytes).contains("\r\nRetry-After: 5\r\n"));
    assert_eq!(pair.callee.endpoint.stats().refused_busy, 1);
    pair.bye(Caller, calls[0]);
    pair.run_ms(100);
    let again = pair.call();
    pair.run_ms(100);
    assert_eq!(pair.cause(Caller, again), None);
}

#[test]
fn calls_of_our_own_stop_at_the_limit() {
    let limits = EndpointLimits { calls: 1, ..EndpointLimits::default() };
    let mut pair = Pair::with(33, EndpointConfig { limits, ..EndpointConfig::default() }, EndpointConfig::default());
    pair.established();
    let now = pair.now;
    let call = sip::OutgoingCall {
        uri: "sip:agent@10.0.0.2".into(),
        from: "sip:caller@10.0.0.1".into(),
        to: None,
        destination: sip::endpoint::Destination {
            transport: Transport::Udp,
            flow: None,
            target: sip::endpoint::Target::Address(pair.callee.address),
        },
        local: pair.caller.address,
        headers: Vec::new(),
        credentials: None,
        offer: Bytes::from_static(OFFER),
        patience: None,
    };
    let error = pair.caller.endpoint.invite(now, call).unwrap_err();
    assert_eq!(error.to_string(), "the limit of 1 calls is reached");
}

#[test]
fn more_transactions_than_the_limit_are_refused_while_calls_in_progress_go_on() {
    let limits = EndpointLimits { transactions: 2, transactions_reserved: 2, ..EndpointLimits::default() };
    let mut pair = Pair::with(34, EndpointConfig::default(), EndpointConfig { limits, ..EndpointConfig::default() });
    let (first, callee) = pair.established();
    pair.established();
    let third = pair.call();
    pair.run_ms(100);
    assert_eq!(pair.cause(Caller, third), Some(EndCause::Rejected(503)));
    pair.bye(Caller, first);
    pair.run_ms(100);
    assert_eq!(pair.cause(Callee, callee), Some(EndCause::RemoteBye), "the reserve is for BYE");
    // Two INVITEs and two in the reserve are the limit.
    let second = pair.caller.endpoint.calls().next().unwrap();
    for wanted in [200, 503] {
        let now = pair.now;
        pair.caller.endpoint.send_info(now, second, "application/dtmf", Bytes::from_static(b"1")).unwrap();
        pair.pump();
        pair.run_ms(100);
        let result = pair.caller.events.iter().rev().find_map(|(_, event)| match event {
            Event::InfoResult { code, .. } => Some(*code),
            _ => None,
        });
        assert_eq!(result, Some(wanted));
    }
}

#[test]
fn new_calls_are_refused_while_draining_and_running_ones_go_on() {
    let mut pair = Pair::new(35);
    let (caller, callee) = pair.established();
    pair.callee.endpoint.refuse_new_calls(true);
    let refused = pair.call();
    pair.run_ms(100);
    assert_eq!(pair.cause(Caller, refused), Some(EndCause::Rejected(503)));
    pair.bye(Caller, caller);
    pair.run_ms(100);
    assert_eq!(pair.cause(Callee, callee), Some(EndCause::RemoteBye));
}

#[test]
fn commands_for_a_call_in_another_state_fail() {
    let mut pair = Pair::new(36);
    let (caller, callee) = pair.established();
    let now = pair.now;
    assert!(pair.callee.endpoint.answer(now, callee, Bytes::new()).is_err());
    assert!(pair.callee.endpoint.ring(now, callee, 180, None).is_err());
    assert!(pair.callee.endpoint.reject(now, callee, 486, "", &[]).is_err());
    assert!(pair.callee.endpoint.answer_reoffer(now, callee, Bytes::new()).is_err());
    assert!(pair.caller.endpoint.answer(now, caller, Bytes::new()).is_err());
    pair.bye(Caller, caller);
    pair.run_ms(100);
    let now = pair.now;
    assert!(pair.caller.endpoint.bye(now, caller, None).is_err());
    assert!(pair.callee.endpoint.ring(now, callee, 180, None).is_err());
}

/// Conforms: RFC 3326 §2 — Reason in BYE and CANCEL.
#[test]
fn the_same_seed_gives_the_same_run() {
    let run = || {
        let mut pair = Pair::new(38);
        pair.loss_percent = 20;
        let caller = pair.call();
        pair.run_ms(5_000);
        let _ = pair.caller.endpoint.bye(pair.now, caller, None);
        pair.pump();
        pair.run_out();
        pair.log.iter().map(|sent| (sent.at, sent.bytes.clone())).collect::<Vec<_>>()
    };
    assert_eq!(run(), run());
}

/// Places calls over a network that loses messages; the callee answers, the caller hangs up. Every call ends well on both
/// sides, and nothing is left over.
fn calls_over_loss(seed: u64, loss_percent: u64, count: usize) -> usize {
    let mut pair = Pair::new(seed);
    pair.loss_percent = loss_percent;
    let calls: Vec<_> = (0..count)
        .map(|_| {
            pair.run_ms(20);
            pair.call()
        })
        .collect();
    let mut seen = (0, 0);
    let until = pair.now + Duration::from_secs(300);
    while pair.step(until) {
        let now = pair.now;
        while let Some((_, event)) = pair.callee.events.get(seen.0) {
            if let Event::Incoming { call, .. } = event {
                pair.callee.endpoint.answer(now, *call, Bytes::from_static(ANSWER)).unwrap();
            }
            seen.0 += 1;
        }
        while let Some((_, event)) = pair.caller.events.get(seen.1) {
            if let Event::Answered { call, .. } = event {
                let _ = pair.caller.endpoint.bye(now, *call, None);
            }
            seen.1 += 1;
        }
        pair.pump();
    }
    pair.run_out();
    pair.assert_empty();
    let completed = calls.iter().filter(|call| pair.cause(Caller, **call) == Some(EndCause::LocalBye)).count();
    let lost = pair.log.iter().filter(|sent| sent.lost).count();
    println!("{completed} of {count} calls completed, {lost} of {} messages lost", pair.log.len());
    completed
}

#[test]
fn calls_complete_at_5_percent_loss() {
    assert_eq!(calls_over_loss(41, 5, 200), 200);
}

/// Conforms: RFC 3261 §17 — calls complete on a network that loses 20 % of all messages.
#[test]
fn calls_complete_at_20_percent_loss() {
    assert_eq!(calls_over_loss(42, 20, 200), 200);
}

#[test]
fn at_50_percent_loss_nearly_all_calls_complete_and_nothing_is_left_behind() {
    assert!(calls_over_loss(43, 50, 200) >= 170);
}
