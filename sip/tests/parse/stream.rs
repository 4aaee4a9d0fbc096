use sip::stream::StreamFramer;
use sip::{Limits, ParseErrorKind};

use crate::{request_with, wire};

fn framer() -> StreamFramer {
    StreamFramer::new(Limits::default())
}

#[test]
fn several_messages_in_a_segment_and_one_in_many_come_out_the_same() {
    let one = wire(&(request_with(&["Content-Length: 4"]) + "a\n\nb")).slice(..);
    let text = request_with(&["Content-Length: 4"]);
    let message = [&wire(&text)[..], b"a\r\nb"].concat();
    assert!(!one.is_empty());
    let three = message.repeat(3);
    for step in [1, 5, message.len(), three.len()] {
        let mut framer = framer();
        let mut bodies = Vec::new();
        for piece in three.chunks(step) {
            framer.push(piece);
            while let Some(result) = framer.next() {
                bodies.push(result.unwrap().body_bytes());
            }
        }
        assert_eq!(bodies, vec![&b"a\r\nb"[..]; 3], "by {step}");
        assert_eq!(framer.pending_bytes(), 0);
    }
}

#[test]
fn pings_between_messages_are_counted_and_pongs_are_not() {
    let mut framer = framer();
    framer.push(b"\r\n\r\n");
    assert!(framer.next().is_none());
    assert_eq!((framer.take_pings(), framer.take_pings()), (1, 0));
    framer.push(b"\r\n");
    assert!(framer.next().is_none());
    assert_eq!(framer.take_pings(), 0);
    framer.push(&wire(&request_with(&["Content-Length: 0"])));
    assert!(framer.next().unwrap().is_ok());
    framer.push(b"\r\n");
    assert!(framer.next().is_none());
    framer.push(b"\r\n");
    assert!(framer.next().is_none());
    assert_eq!(framer.take_pings(), 1);
}

#[test]
fn a_fault_inside_a_message_leaves_the_stream_in_step() {
    let mut framer = framer();
    framer.push(&wire(&request_with(&["CSeq: 1 INVITE", "Content-Length: 0"])));
    framer.push(&wire(&request_with(&["Content-Length: 0"])));
    assert_eq!(framer.next().unwrap().unwrap_err().kind, ParseErrorKind::MethodMismatch);
    assert!(!framer.is_broken());
    assert!(framer.next().unwrap().is_ok());
}

#[test]
fn a_fault_in_the_length_is_told_once_with_its_request_and_breaks_the_stream() {
    for (line, kind, code) in [
        ("X: 1", ParseErrorKind::NoContentLength, 400),
        ("Content-Length: -5", ParseErrorKind::BadContentLength, 400),
        ("Content-Length: 1 2", ParseErrorKind::BadContentLength, 400),
        ("Content-Length: 5\n 5", ParseErrorKind::BadContentLength, 400),
        ("Content-Length: 5\nl: 5", ParseErrorKind::DuplicateHeader(sip::Name::ContentLength), 400),
        ("Content-Length: 70000", ParseErrorKind::MessageTooLarge { bytes: 0, limit: 65_535 }, 513),
    ] {
        let mut framer = framer();
        let head = wire(&request_with(&[line]));
        framer.push(&head);
        framer.push(b"garbage");
        let error = framer.next().unwrap().unwrap_err();
        assert_eq!(error.answer().map(|(request, code)| (request.call_id(), code)), Some(("c1", code)), "{line}");
        let found = match error.kind {
            ParseErrorKind::MessageTooLarge { limit, .. } => ParseErrorKind::MessageTooLarge { bytes: 0, limit },
            kind => kind,
        };
        assert_eq!(found, kind, "{line}");
        framer.push(&wire(&request_with(&["Content-Length: 0"])));
        assert!(framer.is_broken() && framer.next().is_none() && framer.pending_bytes() == 0);
    }
}

#[test]
fn a_message_at_the_limit_passes_and_one_byte_more_does_not() {
    let text = request_with(&["Content-Length: 3"]) + "abc";
    let data = wire(&text);
    for (limit, passes) in [(data.len(), true), (data.len() - 1, false)] {
        let mut framer = StreamFramer::new(Limits { max_message_bytes: limit, ..Limits::default() });
        framer.push(&data);
        assert_eq!(framer.next().unwrap().is_ok(), passes);
    }
}

#[test]
fn a_head_without_end_is_cut_off_at_the_limit() {
    let mut framer = StreamFramer::new(Limits { max_message_bytes: 1_000, ..Limits::default() });
    for n in 0..100 {
        framer.push(b"x: 0123456789\r\n");
        if let Some(result) = framer.next() {
            assert!(matches!(result.unwrap_err().kind, ParseErrorKind::MessageTooLarge { .. }));
            assert!(framer.is_broken() && n < 70);
            return;
        }
    }
    unreachable!("it takes anything");
}

#[test]
fn something_else_than_sip_breaks_the_stream_without_an_answer() {
    let mut framer = framer();
    framer.push(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    assert!(framer.next().unwrap().unwrap_err().answer().is_none());
    assert!(framer.is_broken());
}
