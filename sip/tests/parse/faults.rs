use sip::{HeaderError, Name, ParseErrorKind, UriError};

use crate::{read, request_with};

fn fault(text: &str) -> (ParseErrorKind, Option<u16>) {
    let error = read(text).unwrap_err();
    let code = error.answer().map(|(_, code)| code);
    (error.kind, code)
}

fn bad(name: Name, error: HeaderError) -> ParseErrorKind {
    ParseErrorKind::BadHeader { name, error }
}

#[test]
fn each_missing_header_is_named_and_answered_where_there_is_a_via() {
    for name in [Name::From, Name::To, Name::CallId, Name::CSeq] {
        let (kind, code) = fault(&request_with(&[&format!("{name}: -")]));
        assert_eq!((kind, code), (ParseErrorKind::MissingHeader(name), Some(400)));
    }
    let (kind, code) = fault(&request_with(&["Via: -"]));
    assert_eq!((kind, code), (ParseErrorKind::MissingHeader(Name::Via), None), "nobody knows where to answer");
}

#[test]
fn each_single_header_standing_twice_is_refused() {
    for line in ["From: <sip:x>;tag=2", "t: <sip:x>", "i: x", "CSeq: 2 OPTIONS", "Max-Forwards: 1", "c: a/b", "l: 0"] {
        let twice = format!("{line}\nX-Last: 1");
        let text = request_with(&["Content-Type: a/b", "Content-Length: 0", &twice.replace("From", "f")]);
        let (kind, code) = fault(
            &text
                .replace("CSeq: 2 OPTIONS", "CSeq: 1 OPTIONS\nCSeq: 2 OPTIONS")
                .replace("Max-Forwards: 1\n", "Max-Forwards: 70\nMax-Forwards: 1\n"),
        );
        assert!(matches!(kind, ParseErrorKind::DuplicateHeader(_)), "{line}: {kind:?}");
        assert_eq!(code, Some(400));
    }
}

#[test]
fn bad_values_are_named_with_their_header() {
    for (line, kind) in [
        ("CSeq: 1 INVITE", ParseErrorKind::MethodMismatch),
        ("CSeq: x OPTIONS", bad(Name::CSeq, HeaderError::BadNumber)),
        ("CSeq: 1", bad(Name::CSeq, HeaderError::BadMethod)),
        ("Max-Forwards: x", bad(Name::MaxForwards, HeaderError::BadNumber)),
        ("Call-ID: a b", bad(Name::CallId, HeaderError::Empty)),
        ("Call-ID:", bad(Name::CallId, HeaderError::Empty)),
        ("From: a@b", bad(Name::From, HeaderError::BadUri(UriError::NoScheme))),
        ("To: <sip:>", bad(Name::To, HeaderError::BadUri(UriError::NoHost))),
        ("To: \"x <sip:a@b>", bad(Name::To, HeaderError::Unbalanced)),
        ("Contact: <sip:a@b>, sip:a@b?x=y", bad(Name::Contact, HeaderError::BadUri(UriError::BadCharacter))),
        ("Via: SIP/2.0/UDP", bad(Name::Via, HeaderError::BadVia)),
        ("Via: SIP/2.0/UDP h;branch=z9hG4bKa1, nonsense", bad(Name::Via, HeaderError::BadVia)),
        ("Content-Length: -1", ParseErrorKind::BadContentLength),
        ("Content-Length: 99999999999", ParseErrorKind::BadContentLength),
        ("Content-Length: 1", ParseErrorKind::BodyTooShort { declared: 1, bytes: 0 }),
        ("no colon here", ParseErrorKind::BadHeaderLine),
        ("b@d: x", ParseErrorKind::BadHeaderLine),
        (": x", ParseErrorKind::BadHeaderLine),
        ("X: a\rb", ParseErrorKind::BadHeaderLine),
    ] {
        assert_eq!(fault(&request_with(&[line])), (kind, Some(400)), "{line}");
    }
}

#[test]
fn bad_start_lines_are_refused() {
    let with = |start: &str| request_with(&[]).replace("OPTIONS sip:b@example.com SIP/2.0", start);
    for (start, kind, code) in [
        ("OPTIONS sip:b@example.com SIP/3.0", ParseErrorKind::UnsupportedVersion, Some(505)),
        ("OPTIONS sip:b@example.com HTTP/1.1", ParseErrorKind::BadStartLine, Some(400)),
        ("OPTIONS sip:b@example.com", ParseErrorKind::BadStartLine, Some(400)),
        ("OPTIONS", ParseErrorKind::BadStartLine, None),
        ("OPT@ONS sip:b SIP/2.0", ParseErrorKind::BadStartLine, None),
        ("OPTIONS  SIP/2.0", ParseErrorKind::BadUri(UriError::NoScheme), Some(400)),
        ("OPTIONS b@example.com SIP/2.0", ParseErrorKind::BadUri(UriError::NoScheme), Some(400)),
        ("OPTIONS sip:b?x=y SIP/2.0", ParseErrorKind::BadUri(UriError::BadCharacter), Some(400)),
        ("SIP/2.0 99 x", ParseErrorKind::BadStatusCode, None),
        ("SIP/2.0 700 x", ParseErrorKind::BadStatusCode, None),
        ("SIP/2.0 2000 x", ParseErrorKind::BadStatusCode, None),
        ("SIP/3.0 200 x", ParseErrorKind::UnsupportedVersion, None),
        ("SIP/2.0 200x", ParseErrorKind::BadStartLine, None),
    ] {
        assert_eq!(fault(&with(start)), (kind, code), "{start}");
    }
}

#[test]
fn what_is_no_message_at_all_is_dropped() {
    for text in ["", "\n", "\n\n\n"] {
        assert_eq!(fault(text), (ParseErrorKind::Empty, None));
    }
    for text in ["x", "\0\x01\0\0\n", "GET / HTTP/1.1\nHost: x\n\n"] {
        assert_eq!(read(text).unwrap_err().answer().map(|a| a.1), None, "{text:?}");
    }
    assert_eq!(fault(request_with(&[]).trim_end()), (ParseErrorKind::UnterminatedHead, Some(400)));
}

#[test]
fn faults_in_ack_are_never_answered() {
    let text = request_with(&["CSeq: 1 INVITE"]).replace("OPTIONS", "ACK");
    assert_eq!(fault(&text), (ParseErrorKind::MethodMismatch, None));
}

#[test]
fn the_partial_message_answers_with_what_it_has() {
    let error = read(&request_with(&["CSeq: 7 INVITE", "To: <sip:b@example.com>"])).unwrap_err();
    let (partial, code) = error.answer().unwrap();
    let answer = partial.response(code, "method and CSeq differ", Some("t9")).finish();
    assert_eq!((answer.code(), answer.call_id()), (Some(400), "c1"));
    assert_eq!(answer.to().unwrap().tag(), Some("t9"));
    assert_eq!(answer.header(Name::CSeq), Some("7 INVITE"));
    assert_eq!(error.to_string().split(" (at").next(), Some("method and CSeq differ"));
}
