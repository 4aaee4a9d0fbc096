//! One endpoint and a peer whose messages are written by hand: what is matched, what is refused and with which code, and
//! what goes where.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "support/pair.rs"]
mod pair;

use std::time::Duration;

use bytes::Bytes;
use pair::{ANSWER, Raw, Request, invite, outgoing, response};
use sip::endpoint::Target;
use sip::{CallId, EndCause, EndpointConfig, EndpointLimits, Event, Message, Name, OutgoingCall};

fn raw() -> Raw {
    Raw::new(EndpointConfig::default())
}

/// Sends a request and answers the one response.
fn refused(request: &Request) -> Message {
    let mut raw = raw();
    raw.receive(&request.text());
    assert!(raw.events.is_empty(), "{:?}", raw.events);
    assert_eq!(raw.endpoint.stats().transactions, 0, "a refusal by rule is stateless");
    raw.only()
}

/// A call from the peer that stands: its id and our tag.
fn standing(raw: &mut Raw) -> (CallId, String) {
    raw.receive(&Request::invite("1").text());
    let call = raw.call();
    raw.endpoint.answer(raw.now, call, Bytes::from_static(b"v=0\r\n")).unwrap();
    raw.poll();
    let answer = raw.last();
    let tag = answer.to().unwrap().tag().unwrap().to_owned();
    raw.receive(&Request::new("ACK", "ack1").tagged(&tag).text());
    assert!(matches!(raw.events.last(), Some(Event::Acked { .. })));
    raw.out.clear();
    (call, tag)
}

const CONTACT: &str = "Contact: <sip:peer@192.0.2.1:5062>\r\n";

// Refusals by rule.

/// Conforms: RFC 3261 §8.2.1 — an unknown method gets 501, one that is not allowed 405, both with Allow.
#[test]
fn unknown_methods_get_501_and_known_ones_405_both_with_allow() {
    for (method, code) in [("FROBNICATE", 501), ("REGISTER", 405), ("SUBSCRIBE", 405), ("PUBLISH", 405)] {
        let refusal = refused(&Request::new(method, "m"));
        assert_eq!(refusal.code(), Some(code), "{method}");
        assert_eq!(refusal.header(Name::Allow), Some(sip::endpoint::ALLOW));
    }
}

/// Conforms: RFC 3261 §8.2.2.1 — a Request-URI of an unknown scheme gets 416.
#[test]
fn a_scheme_that_cannot_be_routed_gets_416() {
    for uri in ["nobodyknows:them", "http://example.com", "mailto:a@b"] {
        let mut request = Request::invite("s");
        request.uri = uri;
        assert_eq!(refused(&request).code(), Some(416), "{uri}");
    }
    let mut raw = raw();
    let mut request = Request::invite("tel");
    request.uri = "tel:+4930123456";
    raw.receive(&request.text());
    assert_eq!(raw.events.len(), 1, "tel: is for the user to route");
}

/// Conforms: RFC 3261 §8.2.2.3 — a required extension that is not there gets 420 with Unsupported.
#[test]
fn a_required_extension_gets_420_that_names_it() {
    let refusal = refused(&Request::invite("r").header("Require: outbound, nothing.sp").header("Require: x"));
    assert_eq!(refusal.code(), Some(420));
    assert_eq!(refusal.header(Name::Unsupported), Some("outbound, nothing.sp, x"));
}

/// Conforms: RFC 3261 §21.4.16 — an extension that we require gets 421 with Require.
#[test]
fn an_extension_that_we_require_gets_421_that_names_it() {
    let config = EndpointConfig { required_extensions: vec!["timer".into()], ..EndpointConfig::default() };
    let mut raw = Raw::new(config);
    raw.receive(&Request::invite("1").text());
    let refusal = raw.only();
    assert_eq!((refusal.code(), refusal.header(Name::Require)), (Some(421), Some("timer")));
    raw.receive(&Request::invite("2").header("Supported: 100rel, timer").text());
    assert_eq!(raw.events.len(), 1);
}

/// Conforms: RFC 3261 §8.2.3 — a body that cannot be read gets 415 with Accept.
#[test]
fn a_body_that_cannot_be_read_gets_415_that_says_what_can() {
    let mut request = Request::invite("b");
    request.body_type = "application/isup";
    let refusal = refused(&request);
    assert_eq!((refusal.code(), refusal.header(Name::Accept)), (Some(415), Some("application/sdp")));
    let refusal = refused(&Request::invite("e").header("Content-Encoding: gzip"));
    assert_eq!((refusal.code(), refusal.header(Name::AcceptEncoding)), (Some(415), Some("identity")));
}

#[test]
fn an_optional_body_that_cannot_be_read_is_ignored() {
    let mut raw = raw();
    let mut request = Request::invite("o").header("Content-Disposition: render; handling = optional");
    request.body_type = "application/isup";
    raw.receive(&request.text());
    assert!(matches!(raw.events.as_slice(), [Event::Incoming { offer: None, .. }]));
}

/// Conforms: RFC 3261 §13.3.1.3 — a caller who takes no session description gets 406.
#[test]
fn a_caller_who_cannot_read_sdp_gets_406() {
    assert_eq!(refused(&Request::invite("a").header("Accept: text/plain")).code(), Some(406));
    for accept in ["application/sdp;level=1, text/plain", "application/*", "*/*;q=0.1"] {
        let mut raw = raw();
        raw.receive(&Request::invite("a").header(&format!("Accept: {accept}")).text());
        assert_eq!(raw.events.len(), 1, "{accept}");
    }
}

/// Conforms: RFC 3261 §16.3 — Max-Forwards: 0 gets 483, and OPTIONS is answered (§11).
#[test]
fn an_invite_that_may_go_no_further_gets_483_but_options_is_answered() {
    let mut request = Request::invite("h");
    request.extra = request.extra.replace("Max-Forwards: 70", "Max-Forwards: 0");
    assert_eq!(refused(&request).code(), Some(483));
    let mut options = Request::new("OPTIONS", "h");
    options.extra = "Max-Forwards: 0\r\n".into();
    assert_eq!(refused(&options).code(), Some(200));
}

/// Conforms: RFC 3261 §8.2.2.2 — a merged request gets 482.
#[test]
fn the_same_invite_by_another_way_gets_482() {
    let mut raw = raw();
    raw.receive(&Request::invite("one").text());
    assert_eq!(raw.codes(), [100]);
    raw.receive(&Request::invite("two").text());
    assert_eq!(raw.codes(), [482]);
    assert_eq!(raw.events.len(), 1);
}

#[test]
fn an_invite_without_contact_gets_400() {
    let mut request = Request::invite("c");
    request.extra = "Max-Forwards: 70\r\n".into();
    assert_eq!(refused(&request).code(), Some(400));
}

/// Conforms: RFC 3261 §12.2.2 — a request of an unknown dialog gets 481.
#[test]
fn requests_that_belong_to_no_dialog_get_481() {
    for method in ["BYE", "INFO", "INVITE", "OPTIONS"] {
        assert_eq!(refused(&Request::new(method, "x").tagged("nobody")).code(), Some(481), "{method}");
    }
    for method in ["BYE", "INFO", "CANCEL"] {
        assert_eq!(refused(&Request::new(method, "x")).code(), Some(481), "{method}");
    }
}

#[test]
fn a_stray_ack_and_a_stray_response_are_dropped_without_a_word() {
    let mut raw = raw();
    raw.receive(&Request::new("ACK", "x").tagged("nobody").text());
    let ok = Request::invite("y").text().replacen("INVITE sip:agent@192.0.2.2 SIP/2.0", "SIP/2.0 200 OK", 1);
    raw.receive(&ok);
    assert!(raw.out.is_empty() && raw.events.is_empty());
    assert_eq!(raw.endpoint.stats().strays, 2);
}

#[test]
fn what_cannot_be_read_is_refused_with_the_parsers_code() {
    let mut raw = raw();
    raw.receive(&Request::invite("v").text().replacen("SIP/2.0\r\n", "SIP/7.0\r\n", 1));
    raw.receive(&Request::invite("q").text().replacen("CSeq: 1 INVITE", "CSeq: 1 BYE", 1));
    assert_eq!(raw.codes(), [505, 400]);
    raw.receive("complete nonsense");
    assert!(raw.out.is_empty());
    assert_eq!(raw.endpoint.stats().unreadable, 3);
}

/// Conforms: RFC 3261 §8.2.7 — stateless refusals repeat themselves, with the same tag.
#[test]
fn a_repeated_request_gets_the_same_refusal_with_the_same_tag() {
    let mut raw = raw();
    let request = Request::new("REGISTER", "same").text();
    raw.receive(&request);
    let first = raw.only();
    raw.receive(&request);
    assert_eq!(raw.only().bytes(), first.bytes());
    assert!(first.to().unwrap().tag().is_some());
}

/// Conforms: RFC 3261 §11.2 — OPTIONS is answered with Allow, Accept and Supported.
#[test]
fn options_says_what_we_can_do() {
    let answer = refused(&Request::new("OPTIONS", "o"));
    assert_eq!(answer.code(), Some(200));
    assert_eq!(answer.header(Name::Allow), Some(sip::endpoint::ALLOW));
    assert!(answer.header(Name::Accept).unwrap().contains("application/sdp"));
    assert!(answer.header(Name::Supported).is_some());
    let mut raw = raw();
    let (_, tag) = standing(&mut raw);
    raw.receive(&Request::new("OPTIONS", "in").tagged(&tag).cseq(2).text());
    let answer = raw.only();
    assert_eq!(answer.code(), Some(200));
    assert!(answer.header(Name::Allow).is_some() && answer.header(Name::Supported).is_some());
}

// Where responses go.

/// Conforms: RFC 3581 §4 — rport and received are filled in, and answers go there.
#[test]
fn responses_go_to_the_source_port_where_rport_asks_for_it() {
    let mut raw = raw();
    raw.source.remote = "198.51.100.9:40000".parse().unwrap();
    raw.receive(&Request::invite("n").text());
    let (_, to, trying) = raw.out.remove(0);
    assert_eq!(to.target, Target::Address("198.51.100.9:40000".parse().unwrap()));
    assert_eq!(to.flow, Some(raw.source.flow));
    let via = trying.top_via().unwrap();
    assert_eq!(via.params.get("received"), Some("198.51.100.9"));
    assert_eq!(via.params.get("rport"), Some("40000"));
    assert_eq!(via.branch(), Some("z9hG4bKn"));
}

/// Conforms: RFC 3261 §18.2.2 — without rport, answers go to the sent-by port.
#[test]
fn responses_go_to_the_sent_by_port_without_rport() {
    let mut raw = raw();
    raw.source.remote = "198.51.100.9:40000".parse().unwrap();
    let mut request = Request::invite("n");
    request.via = "SIP/2.0/UDP phone.example:5099;branch=z9hG4bKn".into();
    raw.receive(&request.text());
    let (_, to, trying) = raw.out.remove(0);
    assert_eq!(to.target, Target::Address("198.51.100.9:5099".parse().unwrap()));
    assert_eq!(trying.top_via().unwrap().params.get("received"), Some("198.51.100.9"));
    assert_eq!(trying.top_via().unwrap().params.get("rport"), None);
}

#[test]
fn maddr_does_not_aim_our_answers_elsewhere() {
    let mut raw = raw();
    let mut request = Request::new("OPTIONS", "n");
    request.via = "SIP/2.0/UDP 192.0.2.1:5062;maddr=203.0.113.1;branch=z9hG4bKn".into();
    raw.receive(&request.text());
    assert_eq!(raw.out[0].1.target, Target::Address("192.0.2.1:5062".parse().unwrap()));
}

#[test]
fn every_via_is_repeated_and_only_the_top_one_is_filled_in() {
    let mut raw = raw();
    let mut request = Request::new("OPTIONS", "n");
    request.via = "SIP/2.0/UDP p1.example;branch=z9hG4bK1;rport, SIP/2.0/TCP p2.example;branch=z9hG4bK2;rport".into();
    raw.receive(&request.header("Via: SIP/2.0/UDP p3.example;branch=z9hG4bK3").text());
    let answer = raw.only();
    let vias: Vec<_> = answer.header_values(Name::Via).collect();
    assert_eq!(vias.len(), 3);
    assert!(vias[0].contains("received=192.0.2.1") && vias[0].contains("rport=5062"));
    assert_eq!(vias[1], "SIP/2.0/TCP p2.example;branch=z9hG4bK2;rport");
}

// Matching.

/// Conforms: RFC 3261 §17.2.1 — a repeated INVITE gets the last response again.
#[test]
fn a_repeated_invite_gets_the_last_response_again_and_no_second_call() {
    let mut raw = raw();
    let invite = Request::invite("1").text();
    raw.receive(&invite);
    raw.receive(&invite);
    assert_eq!(raw.codes(), [100, 100]);
    let call = raw.call();
    raw.endpoint.ring(raw.now, call, 180, None).unwrap();
    raw.poll();
    raw.receive(&invite);
    assert_eq!(raw.codes(), [180, 180]);
    assert_eq!(raw.events.len(), 1);
}

#[test]
fn the_same_branch_from_another_sent_by_is_another_transaction() {
    let mut raw = raw();
    raw.receive(&Request::invite("1").text());
    let mut other = Request::invite("1");
    other.via = other.via.replace("192.0.2.1:5062", "192.0.2.77:5062");
    other.call_id = "call-2".into();
    raw.receive(&other.text());
    assert_eq!(raw.events.len(), 2);
}

/// Conforms: RFC 3261 §17.2.3 — requests without the magic branch are matched as RFC 2543 has it.
#[test]
fn requests_of_rfc_2543_are_matched_by_what_they_are_made_of() {
    let mut raw = raw();
    let mut invite = Request::invite("x");
    invite.via = "SIP/2.0/UDP 192.0.2.1:5062".into();
    invite.from = "<sip:peer@192.0.2.1>".into();
    raw.receive(&invite.text());
    raw.receive(&invite.text());
    assert_eq!(raw.codes(), [100, 100]);
    assert_eq!(raw.events.len(), 1);
    let call = raw.call();
    raw.endpoint.reject(raw.now, call, 486, "", &[]).unwrap();
    raw.poll();
    let tag = raw.last().to().unwrap().tag().unwrap().to_owned();
    let mut ack = Request::new("ACK", "x").tagged(&tag);
    ack.via = invite.via.clone();
    ack.from = invite.from.clone();
    raw.receive(&ack.text());
    raw.wait(Duration::from_secs(3));
    assert!(raw.out.is_empty(), "the ACK stops timer G");
}

#[test]
fn an_ack_to_a_refusal_stops_its_repeats() {
    let mut raw = raw();
    raw.receive(&Request::invite("1").text());
    let call = raw.call();
    raw.endpoint.reject(raw.now, call, 404, "", &[]).unwrap();
    raw.poll();
    raw.wait(Duration::from_millis(1_600));
    assert_eq!(raw.codes(), [100, 404, 404, 404]);
    raw.receive(&Request::new("ACK", "1").tagged("any").text());
    raw.wait(Duration::from_secs(60));
    assert!(raw.out.is_empty());
    assert_eq!(raw.endpoint.stats().transactions, 0);
}

/// Conforms: RFC 3261 §9.2 — a CANCEL that matches nothing gets 481; one after the final answer has no effect.
#[test]
fn a_cancel_for_an_unknown_branch_gets_481_and_one_after_the_answer_has_no_effect() {
    let mut raw = raw();
    raw.receive(&Request::invite("1").text());
    raw.receive(&Request::new("CANCEL", "other").text());
    assert_eq!(raw.codes(), [100, 481]);
    let call = raw.call();
    raw.endpoint.answer(raw.now, call, Bytes::from_static(b"v=0\r\n")).unwrap();
    raw.poll();
    raw.receive(&Request::new("CANCEL", "1").text());
    assert_eq!(raw.codes(), [200, 200]);
    assert!(raw.causes().is_empty());
}

/// Conforms: RFC 3261 §9.2 — CANCEL is answered 200 and ends the INVITE with 487.
#[test]
fn a_cancel_ends_the_invite_with_487_and_its_own_200_has_the_same_tag() {
    let mut raw = raw();
    raw.receive(&Request::invite("1").text());
    raw.out.clear();
    raw.receive(&Request::new("CANCEL", "1").header("Reason: SIP;cause=200;text=\"elsewhere\"").text());
    let tags: Vec<_> = raw.out.iter().map(|(.., m)| (m.code(), m.to().unwrap().tag().map(str::to_owned))).collect();
    assert_eq!((tags[0].0, tags[1].0), (Some(200), Some(487)));
    assert_eq!(tags[0].1, tags[1].1);
    assert!(matches!(
        raw.events.last(),
        Some(Event::Ended { cause: EndCause::Cancelled, reason_header: Some(reason), .. }) if reason.contains("elsewhere")
    ));
}

#[test]
fn tags_cannot_be_guessed_from_one_another() {
    let mut raw = raw();
    let mut tags = Vec::new();
    for n in 0..20 {
        let mut invite = Request::invite(&n.to_string());
        invite.call_id = format!("c{n}");
        raw.receive(&invite.text());
        let call = raw.call();
        raw.endpoint.ring(raw.now, call, 180, None).unwrap();
        raw.poll();
        tags.push(u64::from_str_radix(raw.last().to().unwrap().tag().unwrap(), 16).unwrap());
    }
    // Neighbours differ in about half of their bits.
    let flips: u32 = tags.windows(2).map(|pair| (pair[0] ^ pair[1]).count_ones()).sum();
    assert!((19 * 20..19 * 44).contains(&flips), "{flips} of {}", 19 * 64);
}

// Inside a dialog.

/// Conforms: RFC 3261 §12.1.1 — Record-Route is repeated in the 2xx, and the route set followed.
#[test]
fn the_2xx_repeats_record_route_and_bye_follows_it() {
    let mut raw = raw();
    let routes = "Record-Route: <sip:p2.example;lr>, <sip:192.0.2.50:5070;lr>";
    raw.receive(&Request::invite("1").header(routes).text());
    let call = raw.call();
    raw.endpoint.answer(raw.now, call, Bytes::from_static(b"v=0\r\n")).unwrap();
    raw.poll();
    let answer = raw.last();
    assert_eq!(answer.header_values(Name::RecordRoute).count(), 2);
    let tag = answer.to().unwrap().tag().unwrap().to_owned();
    raw.receive(&Request::new("ACK", "a").tagged(&tag).text());
    raw.endpoint.bye(raw.now, call, None).unwrap();
    raw.poll();
    let (_, to, bye) = raw.out.remove(0);
    assert_eq!(bye.request_uri(), "sip:peer@192.0.2.1:5062");
    let routes: Vec<_> = bye.header_values(Name::Route).collect();
    assert_eq!(routes, ["<sip:p2.example;lr>", "<sip:192.0.2.50:5070;lr>"]);
    assert_eq!(to.target, Target::Host { name: "p2.example".into(), port: None });
    assert_eq!(bye.to().unwrap().tag(), Some("p1"));
    assert_eq!(bye.from_().unwrap().tag(), Some(tag.as_str()));
}

/// Conforms: RFC 3261 §12.2.1.1 — a strict router takes the Request-URI, the target stands last in Route.
#[test]
fn a_strict_router_stands_in_the_request_uri_and_the_target_last_in_the_route() {
    let mut raw = raw();
    raw.receive(&Request::invite("1").header("Record-Route: <sip:192.0.2.50:5070>, <sip:p2.example;lr>").text());
    let call = raw.call();
    raw.endpoint.answer(raw.now, call, Bytes::from_static(b"v=0\r\n")).unwrap();
    raw.poll();
    let tag = raw.last().to().unwrap().tag().unwrap().to_owned();
    raw.receive(&Request::new("ACK", "a").tagged(&tag).text());
    raw.endpoint.bye(raw.now, call, None).unwrap();
    raw.poll();
    let (_, to, bye) = raw.out.remove(0);
    assert_eq!(bye.request_uri(), "sip:192.0.2.50:5070");
    let routes: Vec<_> = bye.header_values(Name::Route).collect();
    assert_eq!(routes, ["<sip:p2.example;lr>", "<sip:peer@192.0.2.1:5062>"]);
    assert_eq!(to.target, Target::Address("192.0.2.50:5070".parse().unwrap()));
}

#[test]
fn a_private_contact_behind_a_nat_is_reached_where_it_speaks_from() {
    let mut raw = raw();
    raw.source.remote = "198.51.100.9:40000".parse().unwrap();
    let mut invite = Request::invite("1");
    invite.extra = "Max-Forwards: 70\r\nContact: <sip:peer@192.168.1.5:5060>\r\n".into();
    raw.receive(&invite.text());
    let call = raw.call();
    raw.endpoint.answer(raw.now, call, Bytes::from_static(b"v=0\r\n")).unwrap();
    raw.poll();
    let tag = raw.last().to().unwrap().tag().unwrap().to_owned();
    raw.receive(&Request::new("ACK", "a").tagged(&tag).text());
    raw.endpoint.bye(raw.now, call, None).unwrap();
    raw.poll();
    let (_, to, bye) = raw.out.remove(0);
    assert_eq!(bye.request_uri(), "sip:peer@192.168.1.5:5060");
    assert_eq!(to.target, Target::Address("198.51.100.9:40000".parse().unwrap()));
}

/// Conforms: RFC 3261 §12.2.2 — a request with a lower CSeq gets 500.
#[test]
fn a_request_out_of_order_gets_500() {
    let mut raw = raw();
    let (_, tag) = standing(&mut raw);
    raw.receive(&Request::new("INFO", "i5").tagged(&tag).cseq(5).text());
    raw.receive(&Request::new("INFO", "i4").tagged(&tag).cseq(4).text());
    raw.receive(&Request::new("INFO", "i5b").tagged(&tag).cseq(5).text());
    raw.receive(&Request::new("INFO", "i9").tagged(&tag).cseq(9).text());
    assert_eq!(raw.codes(), [200, 500, 500, 200]);
}

#[test]
fn a_method_that_is_not_for_dialogs_gets_405_inside_one() {
    let mut raw = raw();
    let (_, tag) = standing(&mut raw);
    raw.receive(&Request::new("PUBLISH", "u").tagged(&tag).cseq(2).text());
    raw.receive(&Request::new("BYE", "b").tagged(&tag).cseq(3).header("Require: strange").text());
    assert_eq!(raw.codes(), [405, 420]);
    assert!(raw.causes().is_empty());
}

#[test]
fn a_repeated_bye_gets_its_200_again_and_a_new_one_481() {
    let mut raw = raw();
    let (_, tag) = standing(&mut raw);
    let bye = Request::new("BYE", "b").tagged(&tag).cseq(2).header("Reason: Q.850;cause=16");
    raw.receive(&bye.text());
    raw.receive(&bye.text());
    raw.receive(&Request::new("BYE", "c").tagged(&tag).cseq(3).text());
    assert_eq!(raw.codes(), [200, 200, 481]);
    assert!(matches!(
        raw.events.last(),
        Some(Event::Ended { cause: EndCause::RemoteBye, reason_header: Some(reason), .. }) if reason == "Q.850;cause=16"
    ));
    raw.wait(Duration::from_secs(60));
    assert_eq!(raw.endpoint.stats().transactions, 0);
}

/// Conforms: RFC 3261 §15.1.2 — BYE ends a pending INVITE with 487.
#[test]
fn a_bye_before_the_answer_ends_the_invite_with_487() {
    let mut raw = raw();
    raw.receive(&Request::invite("1").text());
    let call = raw.call();
    raw.endpoint.ring(raw.now, call, 180, None).unwrap();
    raw.poll();
    let tag = raw.last().to().unwrap().tag().unwrap().to_owned();
    raw.receive(&Request::new("BYE", "b").tagged(&tag).cseq(2).text());
    assert_eq!(raw.codes(), [200, 487]);
    assert_eq!(raw.causes(), [EndCause::RemoteBye]);
}

/// Conforms: RFC 3261 §14.2 — a second INVITE before the first is answered gets 500 with Retry-After.
#[test]
fn a_second_reinvite_before_the_first_is_answered_gets_500_with_retry_after() {
    let mut raw = raw();
    let (_, tag) = standing(&mut raw);
    raw.receive(&Request::invite("r1").tagged(&tag).cseq(2).text());
    raw.out.clear();
    raw.receive(&Request::invite("r2").tagged(&tag).cseq(3).text());
    let refusal = raw.only();
    assert_eq!(refusal.code(), Some(500));
    assert!(refusal.header(Name::RetryAfter).unwrap().parse::<u32>().unwrap() <= 10);
}

#[test]
fn a_reinvite_before_the_first_answer_gets_500_and_before_its_ack_491() {
    let mut raw = raw();
    raw.receive(&Request::invite("1").text());
    let call = raw.call();
    raw.endpoint.ring(raw.now, call, 180, None).unwrap();
    raw.poll();
    let tag = raw.last().to().unwrap().tag().unwrap().to_owned();
    raw.receive(&Request::invite("2").tagged(&tag).cseq(2).text());
    assert_eq!(raw.codes(), [500]);
    raw.endpoint.answer(raw.now, call, Bytes::from_static(b"v=0\r\n")).unwrap();
    raw.poll();
    raw.out.clear();
    raw.receive(&Request::invite("3").tagged(&tag).cseq(3).text());
    assert_eq!(raw.codes(), [491]);
}

/// Conforms: RFC 3261 §14.2 — an INVITE while ours is pending gets 491.
#[test]
fn a_reinvite_while_ours_is_under_way_gets_491() {
    let mut raw = raw();
    let (call, tag) = standing(&mut raw);
    raw.endpoint.reoffer(raw.now, call, Bytes::from_static(b"v=0\r\n")).unwrap();
    raw.poll();
    raw.out.clear();
    raw.receive(&Request::invite("r").tagged(&tag).cseq(2).text());
    assert_eq!(raw.codes(), [491]);
}

#[test]
fn a_cancelled_reinvite_gets_487_and_the_call_stands() {
    let mut raw = raw();
    let (call, tag) = standing(&mut raw);
    raw.receive(&Request::invite("r").tagged(&tag).cseq(2).text());
    raw.receive(&Request::new("CANCEL", "r").tagged(&tag).cseq(2).text());
    assert_eq!(raw.codes(), [100, 200, 487]);
    assert!(raw.causes().is_empty());
    assert!(raw.endpoint.answer_reoffer(raw.now, call, Bytes::new()).is_err());
}

/// Conforms: RFC 3261 §13.2.1 — an INVITE without an offer gets one in the 2xx, answered in the ACK.
#[test]
fn an_offer_may_come_in_the_200_with_its_answer_in_the_ack() {
    let mut raw = raw();
    let mut invite = Request::invite("1");
    invite.body = "";
    raw.receive(&invite.text());
    assert!(matches!(raw.events.as_slice(), [Event::Incoming { offer: None, .. }]));
    let call = raw.call();
    raw.endpoint.answer(raw.now, call, Bytes::from_static(b"v=0 ours\r\n")).unwrap();
    raw.poll();
    let answer = raw.last();
    assert_eq!(answer.body(), b"v=0 ours\r\n");
    let tag = answer.to().unwrap().tag().unwrap().to_owned();
    let mut ack = Request::new("ACK", "a").tagged(&tag);
    ack.body = "v=0 theirs\r\n";
    raw.receive(&ack.text());
    assert!(matches!(raw.events.last(), Some(Event::Acked { answer: Some(sdp), .. }) if sdp == "v=0 theirs\r\n"));
}

#[test]
fn an_ack_with_another_number_does_not_count() {
    let mut raw = raw();
    raw.receive(&Request::invite("1").text());
    let call = raw.call();
    raw.endpoint.answer(raw.now, call, Bytes::from_static(b"v=0\r\n")).unwrap();
    raw.poll();
    let tag = raw.last().to().unwrap().tag().unwrap().to_owned();
    raw.receive(&Request::new("ACK", "a").tagged(&tag).cseq(9).text());
    assert_eq!(raw.events.len(), 1);
    raw.receive(&Request::new("ACK", "a").tagged(&tag).text());
    raw.receive(&Request::new("ACK", "a2").tagged(&tag).text());
    assert_eq!(raw.events.len(), 2);
}

/// Conforms: RFC 3261 §13.3.1 — an INVITE whose Expires runs out is ended with 487.
#[test]
fn an_expired_invite_is_ended() {
    let mut raw = raw();
    raw.receive(&Request::invite("1").header("Expires: 10").text());
    raw.wait(Duration::from_secs(11));
    assert_eq!(raw.causes(), [EndCause::Timeout]);
    assert_eq!(raw.codes()[..2], [100, 480]);
}

#[test]
fn more_routes_than_the_limit_are_refused() {
    let limits = EndpointLimits { routes: 2, ..EndpointLimits::default() };
    let config = EndpointConfig { limits, ..EndpointConfig::default() };
    for (count, code) in [(2, 100), (3, 400)] {
        let mut raw = Raw::new(config.clone());
        let mut invite = Request::invite("1");
        for n in 0..count {
            invite = invite.header(&format!("Record-Route: <sip:p{n}.example;lr>"));
        }
        raw.receive(&invite.text());
        assert_eq!(raw.codes(), [code], "{count} routes");
    }
}

// As a client.

/// Conforms: RFC 3261 §8.1.1 — a request has To, From, CSeq, Call-ID, Max-Forwards, Via and Contact.
#[test]
fn an_invite_of_ours_has_what_it_must_have() {
    let mut raw = raw();
    let mut call = outgoing();
    call.headers = vec![("X-Trace".into(), "7\r\nEvil: 1".into()), ("Via".into(), "SIP/2.0/UDP evil".into())];
    let (_, invite) = invite(&mut raw, call);
    assert_eq!(invite.request_uri(), "sip:peer@192.0.2.1:5062");
    assert_eq!(invite.via_count(), 1);
    assert!(invite.top_via().unwrap().rfc3261_branch().is_some());
    assert_eq!(invite.max_forwards(), Some(70));
    assert!(invite.from_().unwrap().tag().is_some() && invite.to().unwrap().tag().is_none());
    assert_eq!(invite.contact().unwrap().uri_text, "sip:agent@192.0.2.2:5060");
    assert!(invite.header(Name::Allow).is_some());
    assert_eq!(invite.header_named("X-Trace"), Some("7  Evil: 1"));
    assert_eq!(invite.header_named("Evil"), None);
}

#[test]
fn addresses_that_cannot_be_read_are_named_in_the_error() {
    let mut raw = raw();
    for (uri, from) in [("not an address", "sip:a@b"), ("sip:a@b", "<broken")] {
        let call = OutgoingCall { uri: uri.into(), from: from.into(), ..outgoing() };
        let error = raw.endpoint.invite(raw.now, call).unwrap_err().to_string();
        assert!(error.contains(uri) || error.contains(from), "{error}");
    }
}

/// Conforms: RFC 3261 §13.2.2.4 — a further 2xx from another fork is acknowledged and ended by BYE.
#[test]
fn another_forks_answer_is_acknowledged_and_hung_up_once() {
    let mut raw = raw();
    let (call, invite) = invite(&mut raw, outgoing());
    raw.receive(&response(&invite, 180, "fork-a", CONTACT, ""));
    raw.receive(&response(&invite, 180, "fork-b", CONTACT, ""));
    raw.receive(&response(&invite, 200, "fork-a", CONTACT, "v=0\r\n"));
    assert!(matches!(raw.events.last(), Some(Event::Answered { .. })));
    raw.out.clear();
    let other = response(&invite, 200, "fork-b", "Contact: <sip:other@192.0.2.3>\r\n", "v=0\r\n");
    raw.receive(&other);
    let kinds: Vec<_> =
        raw.out.iter().map(|(.., m)| (m.method().unwrap().to_string(), m.request_uri().to_owned())).collect();
    let target = "sip:other@192.0.2.3".to_owned();
    assert_eq!(kinds, [("ACK".to_owned(), target.clone()), ("BYE".to_owned(), target)]);
    assert!(raw.out.iter().all(|(.., m)| m.to().unwrap().tag() == Some("fork-b")));
    raw.out.clear();
    raw.receive(&other);
    assert_eq!(raw.only().method().unwrap().to_string(), "ACK");
    assert!(raw.causes().is_empty());
    raw.endpoint.bye(raw.now, call, None).unwrap();
    raw.poll();
    assert_eq!(raw.last().to().unwrap().tag(), Some("fork-a"));
}

#[test]
fn an_answer_after_the_calls_end_is_acknowledged_and_hung_up() {
    let mut raw = raw();
    let (call, invite) = invite(&mut raw, outgoing());
    raw.receive(&response(&invite, 200, "fork-a", CONTACT, "v=0\r\n"));
    raw.endpoint.bye(raw.now, call, None).unwrap();
    raw.poll();
    let bye = raw.last();
    raw.receive(&response(&bye, 200, "", "", ""));
    assert_eq!(raw.causes(), [EndCause::LocalBye]);
    raw.receive(&response(&invite, 200, "fork-b", "Contact: <sip:late@192.0.2.3>\r\n", "v=0\r\n"));
    let kinds: Vec<_> = raw.out.iter().map(|(.., m)| m.method().unwrap().to_string()).collect();
    assert_eq!(kinds, ["ACK", "BYE"]);
}

/// Conforms: RFC 3261 §12.1.2 — the route set of a client is Record-Route in reverse.
#[test]
fn the_route_set_of_a_call_of_ours_is_the_record_route_reversed() {
    let mut raw = raw();
    let (call, invite) = invite(&mut raw, outgoing());
    let extra = format!("{CONTACT}Record-Route: <sip:near.example;lr>\r\nRecord-Route: <sip:192.0.2.60;lr>\r\n");
    raw.receive(&response(&invite, 200, "t", &extra, "v=0\r\n"));
    let (_, to, ack) = raw.out.remove(0);
    let routes: Vec<_> = ack.header_values(Name::Route).collect();
    assert_eq!(routes, ["<sip:192.0.2.60;lr>", "<sip:near.example;lr>"]);
    assert_eq!(to.target, Target::Address("192.0.2.60:5060".parse().unwrap()));
    raw.endpoint.bye(raw.now, call, None).unwrap();
    raw.poll();
    assert_eq!(raw.last().header_values(Name::Route).count(), 2);
}

#[test]
fn a_2xx_with_broken_routes_ends_the_call_as_a_protocol_error() {
    let mut raw = raw();
    let (_, first) = invite(&mut raw, outgoing());
    let many: String = (0..40).map(|n| format!("Record-Route: <sip:p{n}.example;lr>\r\n")).collect();
    let text = response(&first, 200, "t", &format!("{CONTACT}{many}"), "");
    let limits = sip::Limits { max_values: 100, ..sip::Limits::default() };
    let message = Message::parse_datagram(Bytes::from(text), &limits);
    raw.endpoint.receive(raw.now, raw.source, message);
    raw.poll();
    assert_eq!(raw.causes(), [EndCause::ProtocolError]);
}

// Cost.

#[test]
fn a_hundred_thousand_transactions_leave_nothing_behind() {
    let limits = EndpointLimits { calls: 200_000, transactions: 200_000, ..EndpointLimits::default() };
    let mut raw = Raw::new(EndpointConfig { limits, ..EndpointConfig::default() });
    let mut invite = Request::invite("x");
    for n in 0..100_000 {
        invite.via = format!("SIP/2.0/UDP 192.0.2.1:5062;branch=z9hG4bK{n}");
        invite.call_id = format!("c{n}");
        raw.receive(&invite.text());
        let call = raw.call();
        raw.endpoint.reject(raw.now, call, 486, "", &[]).unwrap();
        raw.poll();
        raw.out.clear();
        raw.events.clear();
    }
    assert_eq!(raw.endpoint.stats().transactions, 100_000);
    for _ in 0..40 {
        raw.wait(Duration::from_secs(1));
        raw.out.clear();
    }
    let stats = raw.endpoint.stats();
    assert_eq!((stats.calls, stats.transactions), (0, 0));
}

/// Conforms: RFC 3261 §17.2.1 — 100 is sent where the user has not answered within a while, and only then.
#[test]
fn trying_is_said_after_a_while_where_nothing_else_is() {
    let config = EndpointConfig { trying_after: Duration::from_millis(100), ..EndpointConfig::default() };
    let mut raw = Raw::new(config.clone());
    raw.receive(&Request::invite("1").text());
    raw.wait(Duration::from_millis(99));
    assert_eq!(raw.codes(), Vec::<u16>::new());
    raw.wait(Duration::from_millis(10));
    assert_eq!(raw.codes(), [100]);
    raw.receive(&Request::invite("1").text());
    assert_eq!(raw.codes(), [100], "it is repeated as any other");
    for (code, sdp) in [(180, None), (200, Some(ANSWER))] {
        let mut raw = Raw::new(config.clone());
        raw.receive(&Request::invite("1").text());
        let call = raw.call();
        match sdp {
            Some(sdp) => raw.endpoint.answer(raw.now, call, Bytes::from_static(sdp)).unwrap(),
            None => raw.endpoint.ring(raw.now, call, code, None).unwrap(),
        }
        raw.poll();
        raw.wait(Duration::from_millis(400));
        assert_eq!(raw.codes(), [code]);
    }
}
