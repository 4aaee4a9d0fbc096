//! The messages of RFC 4475, each against its line in `torture/manifest.toml`, from a datagram and from a stream cut in every
//! way; and against rsip wherever both accept.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "torture/cases.rs"]
mod cases;
#[path = "torture/second_opinion.rs"]
mod second_opinion;

use std::collections::BTreeSet;

use std::path::PathBuf;

use bytes::Bytes;
use cases::{Verdict, answered, case, folder, manifest};
use second_opinion::Opinion;
use sip::stream::StreamFramer;
use sip::{Limits, Message, Method, ParseError};

/// Every message that the stream yields, fed in pieces of `step` bytes; the framer too.
fn frame(data: &[u8], step: usize) -> (Vec<Result<Message, ParseError>>, StreamFramer) {
    let mut framer = StreamFramer::new(Limits::default());
    let mut out = Vec::new();
    for piece in data.chunks(step) {
        framer.push(piece);
        while let Some(result) = framer.next() {
            out.push(result);
        }
    }
    (out, framer)
}

#[test]
fn the_manifest_names_each_of_the_49_messages_once() {
    let lines = manifest();
    let names: BTreeSet<_> = lines.iter().map(|l| l.name.clone()).collect();
    let files: BTreeSet<_> = std::fs::read_dir(folder().join("cases"))
        .unwrap()
        .map(|f| f.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
        .collect();
    assert_eq!((lines.len(), names.len()), (49, 49));
    assert_eq!(names, files);
    let sections: BTreeSet<_> = lines.iter().map(|l| l.section.clone()).collect();
    assert_eq!(sections.len(), 49);
    assert!(lines.iter().all(|l| !l.reason.is_empty()));
    assert!(lines.iter().all(|l| l.server.is_none() || l.expect == Verdict::Word("accept".into())));
}

/// Conforms: RFC 4475 §3 — the 49 messages in datagrams.
#[test]
fn every_message_meets_its_verdict_as_a_datagram() {
    for line in manifest() {
        let result = Message::parse_datagram(case(&line.name), &Limits::default());
        assert_eq!(Verdict::of(&result), line.expect, "{}: {:?}", line.name, result.err());
    }
}

/// Conforms: RFC 4475 §3 — the 49 messages on a stream, however it is cut.
#[test]
fn every_message_meets_its_verdict_on_a_stream_however_it_is_cut() {
    for line in manifest() {
        let data = case(&line.name);
        for step in [1, 2, 3, 7, 64, data.len()] {
            let (results, framer) = frame(&data, step);
            let expected = line.stream.clone().unwrap_or(line.expect.clone());
            let context = format!("{} by {step}: {:?}", line.name, results.first());
            if expected == Verdict::Word("wait".into()) {
                assert!(results.is_empty() && !framer.is_broken() && framer.pending_bytes() > 0, "{context}");
                continue;
            }
            let wanted = line.messages.unwrap_or(1);
            assert!(results.len() >= wanted && results.iter().skip(wanted).all(Result::is_err), "{context}");
            assert_eq!(Verdict::of(&results[0]), expected, "{context}");
            assert_eq!(framer.is_broken(), line.closes, "{context}");
        }
    }
}

/// What the endpoint makes of each: the codes that it sends, and whether it rings.
/// Conforms: RFC 4475 §3 — each message is answered with its code.
#[test]
fn the_endpoint_answers_each_message_with_its_code() {
    for line in manifest() {
        let data = case(&line.name);
        let message = Message::parse_datagram(data, &Limits::default());
        let is_invite = message.as_ref().is_ok_and(|m| m.method() == Some(&Method::Invite));
        let (codes, rings) = answered(message);
        let expected = line.codes(is_invite);
        let codes: Vec<u16> = codes.into_iter().filter(|c| *c > 100 || expected == [100]).collect();
        assert_eq!(codes, expected, "{}", line.name);
        assert_eq!(rings, expected == [100], "{}", line.name);
    }
}

#[test]
fn what_is_accepted_is_read_right() {
    let read = |name: &str| Message::parse_datagram(case(name), &Limits::default()).unwrap();
    let m = read("wsinv");
    assert_eq!(m.to().unwrap().tag(), Some("1918181833n"));
    assert_eq!(m.from_().unwrap().display_name(), r#"J Rosenberg \""#);
    assert_eq!(m.max_forwards(), Some(68));
    assert_eq!(m.cseq().unwrap().number, 9);
    let vias: Vec<_> = m.header_values(sip::Name::Via).map(|v| sip::Via::parse(v).unwrap()).collect();
    assert_eq!(
        vias.iter().map(|v| v.branch().unwrap()).collect::<Vec<_>>(),
        ["390skdjuw", "z9hG4bK9ikj8", "z9hG4bK30239"]
    );
    assert_eq!(m.header(sip::Name::Subject), Some(""));
    assert_eq!(m.header_named("newfangledheader"), Some("newfangled value   continued newfangled value"));
    assert_eq!(m.contact().unwrap().params.get("q"), Some("0.33"));
    assert_eq!(m.body().len(), 150);

    let m = read("intmeth");
    assert_eq!(m.uri().unwrap().host(), "example.com");
    assert_eq!(m.to().unwrap().display_name(), "BEL:\u{7} NUL:\0 DEL:\u{7f}");
    assert_eq!(m.call_id(), r#"intmeth.word%ZK-!.*_+'@word`~)(><:\/"][?}{"#);

    assert_eq!(read("esc01").uri().unwrap().user_decoded().unwrap(), "sips:user@example.com");
    assert_eq!(read("escnull").to().unwrap().uri().unwrap().user_decoded().unwrap(), "null-\0-null");
    let m = read("esc02");
    assert_eq!(m.method().unwrap().as_str(), "RE%47IST%45R");
    assert_eq!(m.headers(sip::Name::Contact).count(), 2);
    assert_eq!(read("longreq").via_count(), 34);
    assert_eq!(read("semiuri").uri().unwrap().user(), Some("user;par=u%40example.net"));
    assert_eq!(read("semiuri").header_values(sip::Name::Accept).count(), 6);
    assert_eq!(read("noreason").reason(), "");
    assert_eq!(read("mpart01").body().len(), 345);
    assert_eq!(read("badbranch").top_via().unwrap().rfc3261_branch(), None);
    assert_eq!(read("inv2543").from_().unwrap().tag(), None);
    assert_eq!(read("bcast").via_count(), 2);
}

#[test]
fn rsip_agrees_wherever_both_accept() {
    let mut both = 0;
    for line in manifest() {
        match second_opinion::compare(&case(&line.name)) {
            Opinion::NotBoth => {}
            Opinion::Agreed => both += 1,
            Opinion::Otherwise(how) => panic!("{}: {how}", line.name),
        }
    }
    assert!(both >= 15, "rsip has an opinion on {both} only");
}

#[test]
fn every_cut_and_every_flipped_byte_is_survived() {
    for line in manifest() {
        let data = case(&line.name);
        for end in (0..data.len()).step_by(3) {
            let _ = Message::parse_datagram(data.slice(..end), &Limits::default());
        }
        for at in (0..data.len()).step_by(7) {
            for to in [0u8, b'\r', b'\n', b' ', b'"', b'<', b',', b';', b':', 0xff] {
                let _ = frame(&flipped(&data, at, to), 100);
            }
        }
    }
}

/// Left out is what rsip is known to read wrongly: line ends of LF alone, white space around `=`, colons in parameters.
#[test]
fn rsip_agrees_on_flipped_bytes_too() {
    let mut agreed = 0;
    for line in manifest() {
        let data = case(&line.name);
        for at in (0..data.len()).step_by(5).filter(|at| !matches!(data[*at], b'\r' | b'\n')) {
            for to in [0u8, b'"', b'<', b',', b';', b'a', b'7'] {
                match second_opinion::compare(&Bytes::from(flipped(&data, at, to))) {
                    Opinion::NotBoth => {}
                    Opinion::Agreed => agreed += 1,
                    Opinion::Otherwise(how) => panic!("{} with {to} at {at}: {how}", line.name),
                }
            }
        }
    }
    assert!(agreed > 1000, "{agreed}");
}

fn flipped(data: &[u8], at: usize, to: u8) -> Vec<u8> {
    let mut out = data.to_vec();
    out[at] = to;
    out
}

/// Somebody else's rendering of the same messages, where `OMNIVOX_TORTURE_DIR` names a folder of files: the verdicts must hold
/// for it too, and a file without a line in the manifest must at least be survived.
#[test]
fn another_rendering_of_the_messages_meets_the_same_verdicts() {
    let Some(dir) = std::env::var_os("OMNIVOX_TORTURE_DIR") else {
        return;
    };
    let lines = manifest();
    let mut folders = vec![PathBuf::from(dir)];
    let mut met = 0;
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
                continue;
            }
            let data = Bytes::from(std::fs::read(&path).unwrap());
            let result = Message::parse_datagram(data.clone(), &Limits::default());
            assert!(!matches!(second_opinion::compare(&data), Opinion::Otherwise(_)), "{}", path.display());
            let stem = path.file_stem().unwrap().to_str().unwrap();
            if let Some(line) = lines.iter().find(|l| l.name == stem) {
                met += 1;
                assert_eq!(Verdict::of(&result), line.expect, "{stem}: {:?}", result.err());
            }
        }
    }
    assert_eq!(met, 49);
}
