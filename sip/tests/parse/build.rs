use sip::{Builder, Limits, Message, Method, Name};

use crate::{read, request_with};

fn again(message: &Message) -> Message {
    Message::parse_datagram(message.bytes(), &Limits::default()).unwrap()
}

fn invite() -> Message {
    Builder::request(&Method::Invite, "sip:bob@192.0.2.4")
        .header(Name::Via, "SIP/2.0/UDP 192.0.2.1:5060;rport;branch=z9hG4bKq")
        .header(Name::MaxForwards, 70)
        .header(Name::From, format_args!("<sip:{}@192.0.2.1>;tag=f", "alice"))
        .header(Name::To, "<sip:bob@192.0.2.4>")
        .header(Name::CallId, "id1")
        .header(Name::CSeq, "1 INVITE")
        .header(Name::Contact, "<sip:alice@192.0.2.1>")
        .header_named("X-Tenant", "blue")
        .body("application/sdp", "v=0\r\n")
        .finish()
}

#[test]
fn a_built_request_reads_back_as_it_was_built() {
    let (built, read) = (invite(), again(&invite()));
    for message in [&built, &read] {
        assert_eq!(message.method(), Some(&Method::Invite));
        assert_eq!(message.uri().unwrap().host(), "192.0.2.4");
        assert_eq!(message.header(Name::ContentLength), Some("5"));
        assert_eq!(message.header_named("x-tenant"), Some("blue"));
        assert_eq!((message.body(), message.has_content_type("Application/SDP")), (&b"v=0\r\n"[..], true));
    }
    assert!(
        built.bytes().starts_with(b"INVITE sip:bob@192.0.2.4 SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1:5060;rport;branch=")
    );
}

#[test]
fn nothing_that_is_put_into_a_header_starts_another() {
    let message = Builder::request(&Method::Options, "sip:a b\r\nX-Evil: 1")
        .header(Name::Via, "SIP/2.0/UDP h;branch=z9hG4bKq")
        .header(Name::From, "<sip:a>;tag=1")
        .header(Name::To, "<sip:b>\r\nX-Evil: 2")
        .header(Name::CallId, "x\n")
        .header(Name::CSeq, "1 OPTIONS")
        .header_named("X-Evil: 3\r\nY", "z")
        .header_named("Content-Length", "99")
        .header(Name::ContentLength, "98")
        .finish();
    let text = String::from_utf8(message.bytes().to_vec()).unwrap();
    assert!(!text.contains("\r\nX-Evil") && text.contains("Content-Length: 0\r\n"));
    assert_eq!(text.matches("Content-Length").count(), 1);
}

#[test]
fn an_answer_carries_what_8_2_6_says_and_one_tag() {
    let request =
        read(&request_with(&["Via: SIP/2.0/UDP a;branch=z9hG4bK1\nVia: SIP/2.0/UDP b;branch=z9hG4bK2"])).unwrap();
    let answer = again(&request.response(486, "", Some("mine")).finish());
    assert_eq!((answer.code(), answer.reason()), (Some(486), "Busy Here"));
    assert_eq!(
        answer.header_values(Name::Via).collect::<Vec<_>>(),
        ["SIP/2.0/UDP a;branch=z9hG4bK1", "SIP/2.0/UDP b;branch=z9hG4bK2"]
    );
    assert_eq!(answer.to().unwrap().tag(), Some("mine"));
    assert_eq!((answer.call_id(), answer.cseq().unwrap().number), ("c1", 1));
    let tagged = read(&request_with(&["To: <sip:b@example.com>;tag=theirs"])).unwrap();
    assert_eq!(again(&tagged.response(200, "Fine", Some("mine")).finish()).to().unwrap().tag(), Some("theirs"));
}

#[test]
fn received_and_rport_go_into_the_answers_top_via_only_where_they_must() {
    let answered = |via: &str, source: &str| {
        let mut request = read(&request_with(&[&format!("Via: {via}")])).unwrap();
        request.set_source(source.parse().unwrap());
        again(&request.response(200, "", None).finish()).header(Name::Via).unwrap().to_owned()
    };
    for (via, source, expected) in [
        ("SIP/2.0/UDP 192.0.2.1;branch=z", "192.0.2.1:7", "SIP/2.0/UDP 192.0.2.1;branch=z"),
        ("SIP/2.0/UDP 192.0.2.1;branch=z", "192.0.2.9:7", "SIP/2.0/UDP 192.0.2.1;branch=z;received=192.0.2.9"),
        (
            "SIP/2.0/UDP pc.example.com;branch=z",
            "192.0.2.9:7",
            "SIP/2.0/UDP pc.example.com;branch=z;received=192.0.2.9",
        ),
        ("SIP/2.0/UDP h:9;rport;branch=z", "192.0.2.9:7", "SIP/2.0/UDP h:9;branch=z;received=192.0.2.9;rport=7"),
        (
            "SIP/2.0/UDP 192.0.2.9;branch=z;rport",
            "192.0.2.9:7",
            "SIP/2.0/UDP 192.0.2.9;branch=z;received=192.0.2.9;rport=7",
        ),
        (
            "SIP/2.0/UDP h;rport=1;received=10.0.0.1;branch=z , SIP/2.0/TCP p;branch=y",
            "[2001:db8::5]:7",
            "SIP/2.0/UDP h;branch=z;received=2001:db8::5;rport=7, SIP/2.0/TCP p;branch=y",
        ),
        ("SIP/2.0/UDP [2001:db8::5];branch=z", "[2001:db8::5]:7", "SIP/2.0/UDP [2001:db8::5];branch=z"),
    ] {
        assert_eq!(answered(via, source), expected);
    }
}

#[test]
fn an_altered_copy_keeps_what_was_not_altered() {
    let copy = invite()
        .edit()
        .request_uri("sip:carol@192.0.2.5")
        .set(Name::CSeq, "2 INVITE")
        .set_top(Name::Via, "SIP/2.0/UDP 192.0.2.1:5060;branch=z9hG4bKr")
        .unwrap()
        .push(Name::Authorization, "Digest x")
        .push_front(Name::Route, "<sip:p;lr>")
        .remove(Name::Contact)
        .finish();
    let copy = again(&copy);
    assert_eq!((copy.request_uri(), copy.cseq().unwrap().number), ("sip:carol@192.0.2.5", 2));
    assert_eq!(copy.top_via().unwrap().branch(), Some("z9hG4bKr"));
    assert_eq!(copy.header(Name::Authorization), Some("Digest x"));
    assert_eq!(copy.all_headers().next(), Some(("Route", "<sip:p;lr>")));
    assert_eq!((copy.header(Name::Contact), copy.header_named("X-Tenant")), (None, Some("blue")));
    assert_eq!(copy.body(), b"v=0\r\n");
}

#[test]
fn a_message_goes_to_rsips_types() {
    let theirs = invite().to_rsip().unwrap();
    assert!(matches!(theirs, rsip::SipMessage::Request(r) if r.method == rsip::Method::Invite));
}
