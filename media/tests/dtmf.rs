//! Digits by RFC 4733: each told once whatever the network does to its packets, and sent as others expect them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::time::{Duration, Instant};

use common::{Netem, Path, Random, ms, seeds};
use media::dtmf::{DtmfError, DtmfEvent, DtmfPacket, DtmfReceiver, DtmfSender, EventPayload, code_of, digit_of};
use media::rtp::{RtpHeader, RtpPacket, RtpTime, Seq};

const KEYS: &str = "0123456789*#ABCD!";

/// Sends `digits` as a leg would, a packet each 20 ms at 8 kHz; sound goes where no event does (`None`).
fn schedule(digits: &str, duration: Duration, frames: u32) -> Vec<(u32, Option<DtmfPacket>)> {
    let mut sender = DtmfSender::new(8_000, 160);
    for digit in digits.chars() {
        sender.queue(digit, duration).unwrap();
    }
    (0..frames).map(|n| (n, sender.next(RtpTime(1_000 + n * 160)))).collect()
}

fn payload(packet: &DtmfPacket) -> EventPayload {
    EventPayload::parse(&packet.payload).unwrap()
}

#[test]
fn every_key_has_its_code() {
    for (code, digit) in (0..).zip(KEYS.chars()) {
        assert_eq!(digit_of(code), Some(digit));
        assert_eq!(code_of(digit), Some(code));
    }
    assert_eq!(code_of('d'), Some(15));
    assert_eq!(code_of('x'), None);
    assert!((17..=255).all(|code| digit_of(code).is_none()));
}

#[test]
fn a_digit_is_sent_with_growing_duration_one_marker_and_three_ends() {
    let packets: Vec<_> = schedule("5", ms(100), 20).into_iter().filter_map(|(_, packet)| packet).collect();
    let durations: Vec<_> = packets.iter().map(|packet| payload(packet).duration_ticks).collect();
    assert_eq!(durations, [160, 320, 480, 640, 800, 800, 800]);
    let ends: Vec<_> = packets.iter().map(|packet| payload(packet).end).collect();
    assert_eq!(ends, [false, false, false, false, true, true, true]);
    let markers: Vec<_> = packets.iter().map(|packet| packet.marker).collect();
    assert_eq!(markers, [true, false, false, false, false, false, false]);
    assert!(packets.iter().all(|packet| packet.timestamp == RtpTime(1_000)), "all have the event's beginning");
    assert!(packets.iter().all(|packet| payload(packet).code == 5));
}

#[test]
fn digits_are_at_least_forty_milliseconds_long_and_sixty_apart() {
    let packets = schedule("12", Duration::ZERO, 40);
    let first_of = |code: u8| packets.iter().find(|(_, p)| p.is_some_and(|p| payload(&p).code == code)).unwrap();
    let (began, first) = first_of(1);
    assert_eq!(payload(&packets[*began as usize + 1].1.unwrap()).duration_ticks, 320, "40 ms");
    let (next, second) = first_of(2);
    let gap_ticks = (next - began) * 160 - 320;
    assert!((480..=640).contains(&gap_ticks), "{gap_ticks} ticks between them");
    assert!(second.unwrap().marker && first.unwrap().marker);
    assert_eq!(second.unwrap().timestamp, RtpTime(1_000 + next * 160));
}

#[test]
fn a_duration_between_two_packets_is_kept_to_the_tick() {
    let packets: Vec<_> = schedule("9", ms(50), 20).into_iter().filter_map(|(_, packet)| packet).collect();
    assert_eq!(payload(packets.last().unwrap()).duration_ticks, 400);
}

#[test]
fn the_queue_takes_thirty_two_digits_and_no_more() {
    let mut sender = DtmfSender::new(8_000, 160);
    for _ in 0..32 {
        sender.queue('1', ms(100)).unwrap();
    }
    assert_eq!(sender.queue('1', ms(100)), Err(DtmfError::Full { limit: 32 }));
    assert_eq!(sender.queue('x', ms(100)), Err(DtmfError::NoKey('x')));
    assert_eq!(sender.pending(), 32);
}

/// Puts packets into a receiver in the given order; returns what it tells.
fn hear(packets: &[(Instant, RtpTime, bool, [u8; 4])]) -> Vec<DtmfEvent> {
    let mut receiver = DtmfReceiver::new(8_000);
    let mut events = Vec::new();
    let mut last = None;
    for (now, timestamp, marker, payload) in packets {
        events.extend(receiver.tick(*now));
        events.extend(receiver.receive(*now, *timestamp, *marker, payload));
        last = Some(*now);
    }
    if let Some(last) = last {
        events.extend(receiver.tick(last + ms(1_000)));
    }
    assert!(!receiver.is_pressed());
    events
}

fn pressed(events: &[DtmfEvent]) -> String {
    events
        .iter()
        .filter_map(|event| if let DtmfEvent::Pressed { digit, .. } = event { Some(*digit) } else { None })
        .collect()
}

fn released(events: &[DtmfEvent]) -> Vec<(char, u64)> {
    let release = |event: &DtmfEvent| match event {
        DtmfEvent::Released { digit, duration, .. } => Some((*digit, duration.as_millis() as u64)),
        DtmfEvent::Pressed { .. } => None,
    };
    events.iter().filter_map(release).collect()
}

#[test]
fn what_is_sent_is_what_is_heard() {
    for duration in [40, 100, 250, 1_000, 8_180, 8_200, 20_000] {
        let start = Instant::now();
        let frames = schedule(KEYS, ms(duration), (duration as u32 / 20 + 10) * 17);
        let packets: Vec<_> = frames
            .iter()
            .filter_map(|(n, packet)| packet.map(|p| (start + ms(20) * *n, p.timestamp, p.marker, p.payload)))
            .collect();
        let events = hear(&packets);
        assert_eq!(pressed(&events), KEYS, "{duration} ms");
        let expected: Vec<_> = KEYS.chars().map(|digit| (digit, duration)).collect();
        assert_eq!(released(&events), expected);
    }
}

#[test]
fn each_digit_is_told_once_as_long_as_one_of_its_packets_arrives() {
    for seed in seeds(300) {
        let mut random = Random(seed);
        let start = Instant::now();
        let digits: String = (0..10).map(|_| KEYS.as_bytes()[random.below(17) as usize] as char).collect();
        let path = Path { loss: 0.4, burst: 2.0, duplicate: 0.2, jitter: ms(15), ..Path::clean() };
        let mut net = Netem::new(seed, path);
        let mut receiver = DtmfReceiver::new(8_000);
        let mut events = Vec::new();
        let mut arrived = [false; 10];
        let mut header = RtpHeader { marker: false, payload_type: 101, seq: Seq(0), timestamp: RtpTime(0), ssrc: 1 };
        let (mut index, mut last_timestamp) = (0usize, None);
        let mut numbers = std::collections::HashMap::new();
        for (n, packet) in schedule(&digits, ms(160), 250) {
            let now = start + ms(20) * n;
            header.seq = header.seq.next();
            if let Some(packet) = packet {
                if last_timestamp.replace(packet.timestamp).is_some_and(|last| last != packet.timestamp) {
                    index += 1;
                }
                numbers.insert(packet.timestamp, index);
                header.timestamp = packet.timestamp;
                header.marker = packet.marker;
                let mut bytes = [0; 16];
                header.write(&packet.payload, &mut bytes).unwrap();
                net.send(now, &bytes);
            }
            while let Some((at, bytes)) = net.receive(now) {
                let packet = RtpPacket::parse(&bytes).unwrap();
                events.extend(receiver.tick(at));
                let told: Vec<_> =
                    receiver.receive(at, packet.timestamp, packet.marker, packet.payload).into_iter().collect();
                for event in &told {
                    if let DtmfEvent::Pressed { timestamp, .. } = event {
                        arrived[numbers[timestamp]] = true;
                    }
                }
                events.extend(told);
            }
        }
        events.extend(receiver.tick(start + ms(60_000)));
        let expected: String =
            digits.chars().zip(arrived).filter(|(_, arrived)| *arrived).map(|(digit, _)| digit).collect();
        assert_eq!(pressed(&events), expected, "seed {seed}");
        assert!(arrived.iter().filter(|arrived| **arrived).count() >= 9, "seed {seed}: the network lost too much");
        assert_eq!(released(&events).iter().map(|(digit, _)| *digit).collect::<String>(), expected, "seed {seed}");
    }
}

#[test]
fn a_digit_whose_end_is_lost_ends_by_silence_by_sound_or_by_the_next() {
    let start = Instant::now();
    let update = |code, duration_ticks| EventPayload { code, end: false, volume: 10, duration_ticks }.to_bytes();
    // silence
    let mut receiver = DtmfReceiver::new(8_000);
    assert_eq!(receiver.receive(start, RtpTime(0), true, &update(1, 160)).into_iter().count(), 1);
    assert_eq!(receiver.tick(start + ms(249)), None);
    assert_eq!(receiver.next_wake(), Some(start + ms(250)));
    let end = receiver.tick(start + ms(250)).unwrap();
    assert_eq!(released(&[end]), [('1', 20)]);
    // sound that lies behind it
    let mut receiver = DtmfReceiver::new(8_000);
    receiver.receive(start, RtpTime(0), true, &update(1, 800));
    assert_eq!(receiver.sound(RtpTime(800)), None, "sound that goes along with an event does not end it");
    assert_eq!(released(&[receiver.sound(RtpTime(800 + 480)).unwrap()]), [('1', 100)]);
    // the next
    let mut receiver = DtmfReceiver::new(8_000);
    receiver.receive(start, RtpTime(0), true, &update(1, 160));
    let events: Vec<_> = receiver.receive(start + ms(100), RtpTime(800), true, &update(2, 160)).into_iter().collect();
    assert_eq!((released(&events), pressed(&events)), (vec![('1', 20)], String::from("2")));
    // the same key again, its first packets lost: another timestamp tells them apart
    let events: Vec<_> =
        receiver.receive(start + ms(200), RtpTime(1_600), false, &update(2, 320)).into_iter().collect();
    assert_eq!((released(&events), pressed(&events)), (vec![('2', 20)], String::from("2")));
}

#[test]
fn late_copies_of_an_event_that_is_over_tell_nothing() {
    let start = Instant::now();
    let mut receiver = DtmfReceiver::new(8_000);
    let end = EventPayload { code: 7, end: true, volume: 10, duration_ticks: 800 }.to_bytes();
    let update = EventPayload { code: 7, end: false, volume: 10, duration_ticks: 160 }.to_bytes();
    assert_eq!(receiver.receive(start, RtpTime(0), false, &end).into_iter().count(), 2, "one packet is enough");
    for payload in [end, end, update] {
        assert_eq!(receiver.receive(start + ms(40), RtpTime(0), false, &payload).into_iter().count(), 0);
    }
}

#[test]
fn nothing_that_a_peer_sends_panics_or_leaves_a_key_down() {
    for seed in seeds(200) {
        let mut random = Random(seed);
        let mut receiver = DtmfReceiver::new(random.below(3) as u32 * 8_000);
        let start = Instant::now();
        let (mut down, mut now) = (0i32, start);
        for _ in 0..500 {
            now += ms(random.below(60));
            let mut told = Vec::new();
            let size = random.below(7) as usize;
            let mut payload = random.bytes(size);
            if let Some(code) = payload.first_mut() {
                *code %= 20;
            }
            told.extend(receiver.receive(now, RtpTime(random.next() as u32 & 0x3ff), random.chance(0.5), &payload));
            told.extend(receiver.sound(RtpTime(random.next() as u32)));
            told.extend(receiver.tick(now));
            for event in told {
                down += if matches!(event, DtmfEvent::Pressed { .. }) { 1 } else { -1 };
                assert!((0..=1).contains(&down), "seed {seed}: pressed and released do not alternate");
            }
        }
        assert_eq!(down == 1, receiver.is_pressed(), "seed {seed}");
    }
}
