//! The trace of a call: its bounds, its ladder, its capture file and its HEP3 packets.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::net::SocketAddr;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use sip::Transport;
use sip::trace::{Direction, Trace, TraceLimits, Traced, call_id, hep, ladder, pcap};

const CALLER: &str = "192.0.2.7:5062";
const CALLEE: &str = "192.0.2.9:5070";
const HERE: &str = "198.51.100.1:5060";

fn message(first: &str, call_id: &str, body: &str) -> Bytes {
    Bytes::from(format!(
        "{first}\r\nVia: SIP/2.0/UDP h\r\ni: {call_id}\r\nCSeq: 1 INVITE\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    ))
}

fn traced(at_ms: u64, direction: Direction, remote: &str, bytes: Bytes) -> Traced {
    Traced {
        at: SystemTime::UNIX_EPOCH + Duration::from_secs(1_700_000_000) + Duration::from_millis(at_ms),
        direction,
        transport: Transport::Udp,
        local: HERE.parse().unwrap(),
        remote: remote.parse().unwrap(),
        bytes,
    }
}

fn two_legs() -> Trace {
    let mut trace = Trace::new(TraceLimits::default());
    let sdp = "v=0\r\n";
    for (at_ms, direction, remote, first, call, body) in [
        (0, Direction::In, CALLER, "INVITE sip:bob@h SIP/2.0", "leg-a", sdp),
        (1, Direction::Out, CALLER, "SIP/2.0 100 Trying", "leg-a", ""),
        (2, Direction::Out, CALLEE, "INVITE sip:bob@d SIP/2.0", "leg-b", sdp),
        (40, Direction::In, CALLEE, "SIP/2.0 200 OK", "leg-b", sdp),
        (41, Direction::Out, CALLER, "SIP/2.0 200 OK", "leg-a", sdp),
    ] {
        trace.record(&traced(at_ms, direction, remote, message(first, call, body)));
    }
    trace
}

#[test]
fn the_call_id_is_found_in_long_and_short_form_and_only_in_the_head() {
    assert_eq!(call_id(b"OPTIONS sip:a SIP/2.0\r\nCall-ID: x@y\r\n\r\n"), Some("x@y"));
    assert_eq!(call_id(b"OPTIONS sip:a SIP/2.0\r\nI :  z \r\n\r\n"), Some("z"));
    assert_eq!(call_id(b"OPTIONS sip:a SIP/2.0\r\nVia: v\r\n\r\nCall-ID: body\r\n"), None);
    assert_eq!(call_id(b"OPTIONS sip:a SIP/2.0\r\nCall-ID: \xff\r\n\r\n"), None);
    assert_eq!(call_id(b""), None);
}

#[test]
fn both_legs_stand_in_one_ladder_with_us_between_them() {
    let text = ladder::draw(&two_legs().legs(["leg-a", "leg-b"]));
    let lines: Vec<&str> = text.lines().collect();
    assert!(lines[0].contains(CALLER) && lines[0].contains("here") && lines[0].contains(CALLEE), "{text}");
    let (caller, here) = (lines[0].find(CALLER).unwrap(), lines[0].find("here").unwrap());
    assert!(caller < here && here < lines[0].find(CALLEE).unwrap(), "{text}");
    assert!(lines[2].contains("INVITE (SDP)") && lines[2].trim_end().contains("►│"), "{text}");
    assert!(lines[3].contains("◄") && lines[3].contains("100 Trying"), "{text}");
    assert!(lines[5].contains("0.040") && lines[5].contains("200 OK (SDP)"), "{text}");
    let widths: Vec<usize> = lines[2..].iter().map(|line| line.chars().count()).collect();
    assert!(widths.windows(2).all(|pair| pair[0] == pair[1]), "ragged columns {widths:?}\n{text}");
}

#[test]
fn a_message_cannot_draw_on_the_readers_terminal() {
    let mut trace = Trace::new(TraceLimits::default());
    trace.record(&traced(0, Direction::In, CALLER, message("SIP/2.0 200 \x1b[2JOK", "c", "")));
    assert!(!ladder::draw(&trace.call("c").unwrap()).contains('\x1b'));
}

#[test]
fn the_call_traced_first_goes_when_there_is_one_too_many() {
    let mut trace = Trace::new(TraceLimits { calls: 3, ..TraceLimits::default() });
    for number in 0..4 {
        trace.record(&traced(number, Direction::In, CALLER, message("BYE sip:a SIP/2.0", &format!("c{number}"), "")));
    }
    assert_eq!(trace.call("c0"), None);
    assert!((1..4).all(|number| trace.call(&format!("c{number}")).is_some()));
    assert_eq!(trace.held().0, 3);
}

#[test]
fn the_bytes_of_all_calls_are_bounded() {
    let one = message("BYE sip:a SIP/2.0", "c0", "").len();
    let mut trace = Trace::new(TraceLimits { bytes: one * 10, ..TraceLimits::default() });
    for number in 0..10 {
        trace.record(&traced(0, Direction::In, CALLER, message("BYE sip:a SIP/2.0", &format!("c{number}"), "")));
    }
    assert_eq!(trace.held(), (10, one * 10));
    trace.record(&traced(0, Direction::In, CALLER, message("BYE sip:a SIP/2.0", "ca", "")));
    assert_eq!(trace.held(), (10, one * 10));
    assert_eq!(trace.call("c0"), None);
    trace.record(&traced(0, Direction::In, CALLER, message("BYE sip:a SIP/2.0", "huge", &"x".repeat(one * 10))));
    assert_eq!(trace.call("huge"), None, "a message larger than everything is not kept");
    for number in 1..10 {
        trace.forget(&format!("c{number}"));
    }
    trace.forget("ca");
    assert_eq!(trace.held(), (0, 0));
}

#[test]
fn a_long_call_keeps_its_begin_and_its_end() {
    let mut trace = Trace::new(TraceLimits { messages_per_call: 4, ..TraceLimits::default() });
    for number in 0..7 {
        let first = format!("INFO sip:{number} SIP/2.0");
        trace.record(&traced(number, Direction::In, CALLER, message(&first, "c", "")));
    }
    let call = trace.call("c").unwrap();
    let kept: Vec<char> = call.messages.iter().map(|traced| char::from(traced.bytes[9])).collect();
    assert_eq!((kept, call.left_out), (vec!['0', '1', '5', '6'], 3));
    assert!(ladder::draw(&call).contains("3 messages in the middle were not kept"));
    assert_eq!(trace.held().1, call.messages.iter().map(|traced| traced.bytes.len()).sum::<usize>());
}

/// One's complement sum of 16-bit words; a packet whose checksum is right sums to all ones (RFC 1071).
fn sum(parts: &[&[u8]]) -> u16 {
    let mut sum: u64 = 0;
    for part in parts {
        for pair in part.chunks(2) {
            sum += u64::from(u16::from_be_bytes([pair[0], *pair.get(1).unwrap_or(&0)]));
        }
    }
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum as u16
}

/// The packets of a capture file, with their times in nanoseconds.
fn packets(file: &[u8]) -> Vec<(u64, Vec<u8>)> {
    let word = |at: usize| u32::from_le_bytes(file[at..at + 4].try_into().unwrap());
    assert_eq!((word(0), word(20)), (0xa1b2_3c4d, 101));
    let (mut at, mut found) = (24, Vec::new());
    while at < file.len() {
        let (time, size) = (u64::from(word(at)) * 1_000_000_000 + u64::from(word(at + 4)), word(at + 8) as usize);
        assert_eq!(word(at + 8), word(at + 12));
        found.push((time, file[at + 16..at + 16 + size].to_vec()));
        at += 16 + size;
    }
    found
}

#[test]
fn a_capture_has_every_message_in_a_packet_with_right_checksums() {
    let call = two_legs().legs(["leg-a", "leg-b"]);
    let packets = packets(&pcap::file(&call));
    assert_eq!(packets.len(), 5);
    for ((time, packet), traced) in packets.iter().zip(&call.messages) {
        assert_eq!(u128::from(*time), traced.at.duration_since(SystemTime::UNIX_EPOCH).unwrap().as_nanos());
        assert_eq!(sum(&[&packet[..20]]), 0xffff);
        let length = (packet.len() - 20) as u16;
        assert_eq!(sum(&[&packet[12..20], &[0, 17], &length.to_be_bytes(), &packet[20..]]), 0xffff);
        let SocketAddr::V4(from) = traced.from() else { panic!() };
        assert_eq!(packet[12..16], from.ip().octets());
        assert_eq!(packet[20..22], from.port().to_be_bytes());
        assert_eq!(&packet[28..], &traced.bytes[..]);
    }
}

#[test]
fn messages_over_tcp_stand_in_one_stream_each_way() {
    let mut trace = Trace::new(TraceLimits::default());
    for (at_ms, direction) in [(0, Direction::In), (1, Direction::Out), (2, Direction::In)] {
        let one = traced(at_ms, direction, "[2001:db8::7]:5062", message("BYE sip:a SIP/2.0", "c", ""));
        trace.record(&Traced { transport: Transport::Tcp, local: "[2001:db8::1]:5060".parse().unwrap(), ..one });
    }
    let packets = packets(&pcap::file(&trace.call("c").unwrap()));
    let size = message("BYE sip:a SIP/2.0", "c", "").len() as u32;
    let numbers: Vec<(u32, u32)> = packets
        .iter()
        .map(|(_, packet)| {
            let word = |at: usize| u32::from_be_bytes(packet[at..at + 4].try_into().unwrap());
            let length = (packet.len() - 40) as u16;
            assert_eq!(sum(&[&packet[8..40], &[0, 6], &length.to_be_bytes(), &packet[40..]]), 0xffff);
            (word(44), word(48))
        })
        .collect();
    assert_eq!(numbers, [(1, 1), (1, 1 + size), (1 + size, 1 + size)]);
}

#[test]
fn a_hep3_packet_says_who_whom_when_what_and_of_which_call() {
    let one = traced(5, Direction::In, CALLER, message("BYE sip:a SIP/2.0", "leg-a", ""));
    let packet = hep::packet(&one, &hep::Agent { id: 2_001, key: String::from("secret") }).unwrap();
    assert_eq!(&packet[..4], b"HEP3");
    assert_eq!(u16::from_be_bytes([packet[4], packet[5]]) as usize, packet.len());
    let (mut at, mut chunks) = (6, std::collections::BTreeMap::new());
    while at < packet.len() {
        assert_eq!(packet[at..at + 2], [0, 0]);
        let kind = u16::from_be_bytes([packet[at + 2], packet[at + 3]]);
        let size = u16::from_be_bytes([packet[at + 4], packet[at + 5]]) as usize;
        chunks.insert(kind, packet[at + 6..at + size].to_vec());
        at += size;
    }
    assert_eq!((&chunks[&1][..], &chunks[&2][..], &chunks[&11][..]), (&[2][..], &[17][..], &[1][..]));
    assert_eq!((&chunks[&3][..], &chunks[&4][..]), (&[192, 0, 2, 7][..], &[198, 51, 100, 1][..]));
    assert_eq!((&chunks[&7][..], &chunks[&8][..]), (&5_062_u16.to_be_bytes()[..], &5_060_u16.to_be_bytes()[..]));
    assert_eq!(chunks[&9], 1_700_000_000_u32.to_be_bytes());
    assert_eq!(chunks[&10], 5_000_u32.to_be_bytes());
    assert_eq!((&chunks[&12][..], &chunks[&14][..]), (&2_001_u32.to_be_bytes()[..], &b"secret"[..]));
    assert_eq!((&chunks[&17][..], &chunks[&15][..]), (&b"leg-a"[..], &one.bytes[..]));
}

#[test]
fn a_message_too_long_for_hep3_is_left_out() {
    let long = message("MESSAGE sip:a SIP/2.0", "c", &"x".repeat(65_500));
    assert_eq!(hep::packet(&traced(0, Direction::In, CALLER, long), &hep::Agent { id: 1, key: String::new() }), None);
}
