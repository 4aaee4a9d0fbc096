//! What RFC 5118 has on IPv6 in SIP, section by section, with messages of our own making.
#![allow(clippy::unwrap_used)]

use sip::parse::Limits;
use sip::sdp::Session;
use sip::{Message, ParseError};

fn request(uri: &str, via: &str, more: &str, body: &str) -> Result<Message, Box<ParseError>> {
    let text = format!(
        "OPTIONS {uri} SIP/2.0\r\nVia: {via};branch=z9hG4bKas3-111\r\nMax-Forwards: 70\r\nFrom: <sip:user@example.com>;tag=81x2\r\n\
         To: <sip:user@example.com>\r\nCall-ID: SSG9559905523997077@hlau_4100\r\nCSeq: 98176 OPTIONS\r\n{more}Content-Length: {}\r\n\r\n{body}",
        body.len()
    );
    Message::parse_datagram(text.into(), &Limits::default()).map_err(Box::new)
}

const VIA: &str = "SIP/2.0/UDP [2001:db8::9:1]";

/// Conforms: RFC 5118 §4.1 — IPv6 references in the Request-URI and in Contact.
#[test]
fn references_in_brackets_are_read() {
    let message = request("sip:[2001:db8::10]", VIA, "Contact: <sip:caller@[2001:db8::1]>\r\n", "").unwrap();
    assert_eq!(message.uri().unwrap().host_ip(), Some("2001:db8::10".parse().unwrap()));
    let contact = message.contact().unwrap().uri().unwrap();
    assert_eq!(contact.host_ip(), Some("2001:db8::1".parse().unwrap()));
}

/// Conforms: RFC 5118 §4.2 — an IPv6 address without brackets in a URI is malformed: 400.
#[test]
fn an_address_without_brackets_is_refused_with_400() {
    let error = request("sip:2001:db8::10", VIA, "", "").unwrap_err();
    assert_eq!(error.answer().map(|(_, code)| code), Some(400), "{error}");
}

/// Conforms: RFC 5118 §4.3 — what looks like a port within the brackets is part of the address.
#[test]
fn a_port_within_the_brackets_is_none() {
    let uri = request("sip:[2001:db8::10:5070]", VIA, "", "").unwrap().uri().unwrap();
    assert_eq!((uri.host_ip(), uri.port()), (Some("2001:db8::10:5070".parse().unwrap()), None));
}

/// Conforms: RFC 5118 §4.4 — a port behind the brackets is one.
#[test]
fn a_port_behind_the_brackets_is_one() {
    let uri = request("sip:[2001:db8::10]:5070", VIA, "", "").unwrap().uri().unwrap();
    assert_eq!((uri.host_ip(), uri.port()), (Some("2001:db8::10".parse().unwrap()), Some(5070)));
}

/// Conforms: RFC 5118 §4.5 — the received parameter of a Via with and without brackets.
#[test]
fn received_is_taken_with_and_without_brackets() {
    for received in ["[2001:db8::9:255]", "2001:db8::9:255"] {
        let via = format!("{VIA};received={received}");
        let message = request("sip:[2001:db8::10]", &via, "", "").unwrap();
        assert_eq!(message.top_via().unwrap().host, "[2001:db8::9:1]", "{received}");
    }
}

/// Conforms: RFC 5118 §4.6 — IPv6 addresses in the session description, without brackets.
#[test]
fn addresses_in_the_session_description_are_read() {
    let body = "v=0\r\no=assistant 971731711378798081 0 IN IP6 2001:db8::20\r\ns=Live video feed\r\nc=IN IP6 2001:db8::20\r\n\
                t=3338481189 3370017201\r\nm=audio 6000 RTP/AVP 2\r\na=rtpmap:2 G726-32/8000\r\n";
    let message = request("sip:user@[2001:db8::10]", VIA, "Content-Type: application/sdp\r\n", body).unwrap();
    let session = Session::parse(message.body()).unwrap();
    assert!(format!("{session:?}").contains("2001:db8::20"));
}

/// Conforms: RFC 5118 §4.7 — IPv4 and IPv6 side by side in Via and Contact.
#[test]
fn both_families_stand_side_by_side_in_headers() {
    let more = "Via: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bKkdjuw\r\nContact: <sip:user@192.0.2.1>\r\n";
    let message = request("sip:user@host.example.net", "SIP/2.0/UDP [2001:db8:bad:0::10]:5070", more, "").unwrap();
    assert_eq!((message.top_via().unwrap().port, message.via_count()), (Some(5070), 2));
}

/// Conforms: RFC 5118 §4.8 — IPv4 and IPv6 side by side in the session description.
#[test]
fn both_families_stand_side_by_side_in_the_session_description() {
    let body = "v=0\r\no=bob 280744730 28977631 IN IP4 host.example.com\r\ns=\r\nt=0 0\r\nm=audio 22334 RTP/AVP 0\r\nc=IN IP4 192.0.2.1\r\n\
                m=video 6024 RTP/AVP 107\r\nc=IN IP6 2001:db8::1\r\na=rtpmap:107 H263-1998/90000\r\n";
    let message = request("sip:user@[2001:db8::10]", VIA, "Content-Type: application/sdp\r\n", body).unwrap();
    assert!(Session::parse(message.body()).is_ok());
}

/// Conforms: RFC 5118 §4.9 — IPv4 addresses mapped into IPv6.
#[test]
fn mapped_addresses_are_read() {
    let body = "v=0\r\no=bob 280744730 28977631 IN IP6 ::ffff:192.0.2.2\r\ns=\r\nc=IN IP6 ::ffff:192.0.2.2\r\nt=0 0\r\n\
                m=audio 22334 RTP/AVP 0\r\n";
    let message = request(
        "sip:user@host.example.net",
        "SIP/2.0/UDP [::ffff:192.0.2.2]:5060",
        "Contact: \"T. desk phone\" <sip:ted@[::ffff:192.0.2.2]>\r\nContent-Type: application/sdp\r\n",
        body,
    )
    .unwrap();
    assert_eq!(message.contact().unwrap().uri().unwrap().host_ip(), Some("::ffff:192.0.2.2".parse().unwrap()));
    assert!(Session::parse(message.body()).is_ok());
}
