use bytes::Bytes;
use sip::{Limits, Message, Name, ParseErrorKind};

use crate::{request_with, wire};

fn verdict(text: &str, limits: &Limits) -> Result<Message, (ParseErrorKind, Option<u16>)> {
    Message::parse_datagram(wire(text), limits).map_err(|e| {
        let code = e.answer().map(|(_, code)| code);
        (e.kind, code)
    })
}

#[test]
fn a_message_one_byte_too_large_is_answered_with_513() {
    let text = request_with(&["X-Pad: abc"]);
    let bytes = wire(&text).len();
    assert!(verdict(&text, &Limits { max_message_bytes: bytes, ..Limits::default() }).is_ok());
    let (kind, code) = verdict(&text, &Limits { max_message_bytes: bytes - 1, ..Limits::default() }).unwrap_err();
    assert_eq!((kind, code), (ParseErrorKind::MessageTooLarge { bytes, limit: bytes - 1 }, Some(513)));
}

#[test]
fn a_request_uri_one_byte_too_long_is_answered_with_414() {
    let text = request_with(&[]);
    let bytes = "sip:b@example.com".len();
    assert!(verdict(&text, &Limits { max_uri_bytes: bytes, ..Limits::default() }).is_ok());
    let (kind, code) = verdict(&text, &Limits { max_uri_bytes: bytes - 1, ..Limits::default() }).unwrap_err();
    assert_eq!((kind, code), (ParseErrorKind::UriTooLong { bytes, limit: bytes - 1 }, Some(414)));
}

#[test]
fn one_header_line_too_many_is_refused() {
    let text = request_with(&["X-A: 1", "X-B: 2"]);
    assert!(verdict(&text, &Limits { max_headers: 8, ..Limits::default() }).is_ok());
    let (kind, code) = verdict(&text, &Limits { max_headers: 7, ..Limits::default() }).unwrap_err();
    assert_eq!((kind, code), (ParseErrorKind::TooManyHeaders { limit: 7 }, Some(400)));
}

#[test]
fn a_header_line_one_byte_too_long_is_refused_folded_or_not() {
    for text in [
        request_with(&["X-A: 345678901234567890123456789012345678901234567890123456789012"]),
        request_with(&["X-A: 3456789012345678901234567890\n 234567890123456789012345678901"]),
    ] {
        let at = |max_header_bytes| verdict(&text, &Limits { max_header_bytes, ..Limits::default() });
        let lines = text.replace('\n', "\r\n");
        let bytes = lines.split("X-A").nth(1).unwrap().trim_end().len() + 3;
        assert!(at(bytes).is_ok(), "{bytes}");
        let (kind, code) = at(bytes - 1).unwrap_err();
        assert_eq!((kind, code), (ParseErrorKind::HeaderTooLong { bytes, limit: bytes - 1 }, Some(400)));
    }
}

#[test]
fn one_via_too_many_is_refused_on_one_line_or_several() {
    let via = "SIP/2.0/UDP h;branch=z9hG4bKx";
    let limits = Limits { max_vias: 3, ..Limits::default() };
    for (three, four) in [
        (format!("Via: {via}, {via}, {via}"), format!("Via: {via}, {via}, {via}, {via}")),
        (format!("Via: {via}\nv: {via}, {via}"), format!("Via: {via}\nVia: {via}\nVia: {via}\nv: {via}")),
    ] {
        assert_eq!(verdict(&request_with(&[&three]), &limits).unwrap().via_count(), 3);
        let (kind, code) = verdict(&request_with(&[&four]), &limits).unwrap_err();
        assert_eq!((kind, code), (ParseErrorKind::TooManyValues { name: Name::Via, limit: 3 }, Some(400)));
    }
}

#[test]
fn one_value_too_many_is_refused_in_contact_route_and_record_route() {
    let limits = Limits { max_values: 2, ..Limits::default() };
    for name in [Name::Contact, Name::Route, Name::RecordRoute] {
        assert!(verdict(&request_with(&[&format!("{name}: <sip:x>, <sip:y>")]), &limits).is_ok());
        let (kind, _) =
            verdict(&request_with(&[&format!("{name}: <sip:x>, <sip:y>\n{name}: <sip:z>")]), &limits).unwrap_err();
        assert_eq!(kind, ParseErrorKind::TooManyValues { name, limit: 2 });
    }
}

#[test]
fn a_datagram_of_many_short_lines_costs_no_more_than_the_limit() {
    let mut text = String::from("OPTIONS sip:b SIP/2.0\r\n");
    text.push_str(&"a:\r\n".repeat(15_000));
    let error = Message::parse_datagram(Bytes::from(text), &Limits::default()).unwrap_err();
    assert_eq!(error.kind, ParseErrorKind::TooManyHeaders { limit: 128 });
}
