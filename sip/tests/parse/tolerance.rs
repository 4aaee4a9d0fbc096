use bytes::Bytes;
use sip::{Limits, Message, Method, Name, Scheme};

use crate::{read, request_with};

#[test]
fn leading_line_ends_are_skipped_in_front_of_a_datagram() {
    let message = read(&format!("\n\n{}", request_with(&[]))).unwrap();
    assert_eq!(message.method(), Some(&Method::Options));
}

#[test]
fn lines_may_end_with_a_bare_line_feed() {
    let text = request_with(&["Content-Length: 2"]) + "ab";
    let message = Message::parse_datagram(Bytes::from(text), &Limits::default()).unwrap();
    assert_eq!((message.call_id(), message.body()), ("c1", &b"ab"[..]));
}

#[test]
fn bytes_outside_utf_8_are_shown_as_underscores_and_answered_as_they_came() {
    let mut data = crate::wire(&request_with(&["From: M~ller <sip:a@example.com>;tag=1", "Subject: ~"])).to_vec();
    for b in data.iter_mut().filter(|b| **b == b'~') {
        *b = 0xfc;
    }
    let message = Message::parse_datagram(Bytes::from(data), &Limits::default()).unwrap();
    assert_eq!(message.from_().unwrap().display_name(), "M_ller");
    assert_eq!(message.header(Name::Subject), Some("_"));
    let answer = message.response(200, "", None).finish().bytes();
    assert!(answer.windows(8).any(|w| w == b"M\xfcller <"));
}

#[test]
fn folded_lines_read_as_one_and_are_answered_without_folds() {
    let message = read(&request_with(&["Via: SIP/2.0/UDP\n 192.0.2.1:5062\n ;branch=z9hG4bKa1"])).unwrap();
    assert_eq!(message.top_via().unwrap().port, Some(5062));
    let answer = message.response(200, "", None).finish().bytes();
    assert!(!answer.windows(3).any(|w| w == b"\r\n "));
}

#[test]
fn any_method_and_any_uri_scheme_is_taken() {
    let text = request_with(&["CSeq: 1 FROBNICATE"])
        .replace("OPTIONS sip:b@example.com", "FROBNICATE tel:+1-201-555-0123;x=y");
    let message = read(&text).unwrap();
    assert_eq!(message.method(), Some(&Method::Other("FROBNICATE".into())));
    let uri = message.uri().unwrap();
    assert_eq!((uri.scheme(), uri.user()), (Scheme::Tel, Some("+1-201-555-0123")));
    let text = request_with(&["CSeq: 1 invite"]).replace("OPTIONS", "invite");
    assert_eq!(read(&text).unwrap().method(), Some(&Method::Other("invite".into())), "methods have case");
}

#[test]
fn contacts_of_real_phones_are_read() {
    let contact = concat!(
        r#"Contact: "Smith, John; <x>" <sip:js@[2001:db8::7]:5061;transport=tls;ob>;+sip.instance="<urn:uuid:0c67446e-f1a1-11d9-94d3-"#,
        r#"000a95a0e128>";reg-id=1;+sip.ice;expires=300"#
    );
    let message = read(&request_with(&[contact])).unwrap();
    let contact = message.contact().unwrap();
    assert_eq!(contact.display_name(), "Smith, John; <x>");
    assert_eq!(contact.params.get("+sip.instance"), Some("<urn:uuid:0c67446e-f1a1-11d9-94d3-000a95a0e128>"));
    assert!(contact.params.has("+SIP.ICE") && contact.uri().unwrap().params().has("ob"));
    assert_eq!(contact.uri().unwrap().host_ip(), "2001:db8::7".parse().ok());
}

#[test]
fn a_star_is_a_contact_of_register() {
    assert!(read(&request_with(&["Contact: *", "Expires: 0"])).is_ok());
}

#[test]
fn values_on_one_line_and_on_several_are_one_list() {
    let message = read(&request_with(&["Route: <sip:a;lr>, <sip:b;lr>\nRoute: <sip:c;lr>"])).unwrap();
    let routes: Vec<_> = message.routes(Name::Route).unwrap().iter().map(|r| r.uri_text.to_owned()).collect();
    assert_eq!(routes, ["sip:a;lr", "sip:b;lr", "sip:c;lr"]);
    assert_eq!(message.headers(Name::Route).count(), 2);
}

#[test]
fn unknown_headers_are_found_by_their_text_in_any_case() {
    let message = read(&request_with(&["X-Customer-Id: 7"])).unwrap();
    assert_eq!(message.header_named("x-customer-ID"), Some("7"));
    assert_eq!(message.header_named("call-id"), Some("c1"));
    assert_eq!(message.header_named("X-Customer"), None);
}

#[test]
fn bytes_behind_content_length_are_no_part_of_a_datagrams_body() {
    let message = read(&(request_with(&["Content-Length: 3"]) + "abcdef")).unwrap();
    assert_eq!((message.body(), &message.body_bytes()[..]), (&b"abc"[..], &b"abc"[..]));
    let message = read(&(request_with(&[]) + "abcdef")).unwrap();
    assert_eq!(message.body(), b"abcdef", "without Content-Length all of it is");
}

#[test]
fn a_messages_debug_form_names_nobody() {
    let message = read(&request_with(&["Subject: secret"])).unwrap();
    assert_eq!(format!("{message:?}"), "Message(OPTIONS, 7 headers, body of 0 bytes)");
}
