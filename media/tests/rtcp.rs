//! RTCP: packets both ways, and when they are sent.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::time::{Duration, Instant};

use common::{Random, Talker, ms, seeds};
use media::rtcp::{
    Compound, NtpTime, Packet, ReportBlock, RtcpConfig, RtcpError, RtcpSession, SenderCounts, SenderInfo, Writer,
};
use media::rtp::{RtpPacket, RtpTime, Source};

fn block(random: &mut Random) -> ReportBlock {
    ReportBlock {
        ssrc: random.next() as u32,
        fraction_lost: random.next() as u8,
        cumulative_lost: random.below(1 << 24) as i32 - (1 << 23),
        highest_seq: random.next() as u32,
        jitter_ticks: random.next() as u32,
        last_sr: random.next() as u32,
        delay_since_last_sr: random.next() as u32,
    }
}

#[test]
fn what_is_printed_is_read_back() {
    for seed in seeds(300) {
        let mut random = Random(seed);
        let info = SenderInfo {
            ntp: NtpTime(random.next()),
            timestamp: RtpTime(random.next() as u32),
            packets: random.next() as u32,
            bytes: random.next() as u32,
        };
        let blocks: Vec<_> = (0..random.below(32)).map(|_| block(&mut random)).collect();
        let cname: String = (0..random.below(256)).map(|_| char::from(b'a' + random.below(26) as u8)).collect();
        let reason: String = (0..random.below(256)).map(|_| char::from(b'a' + random.below(26) as u8)).collect();
        let mut out = [0; 2_048];
        let mut writer = Writer::new(&mut out);
        writer.sender_report(1, &info, &blocks).unwrap();
        writer.receiver_report(2, &blocks).unwrap();
        writer.cname(3, &cname).unwrap();
        writer.goodbye(4, &reason).unwrap();
        let size = writer.size_bytes();
        assert_eq!(size % 4, 0);
        let compound = Compound::parse(&out[..size]).unwrap();
        let packets: Vec<_> = compound.packets().collect();
        let [
            Packet::SenderReport { ssrc: 1, info: read_info, reports },
            Packet::ReceiverReport { ssrc: 2, reports: more },
            Packet::SourceDescription(chunks),
            Packet::Goodbye { sources, reason: read_reason },
        ] = packets[..]
        else {
            panic!("seed {seed}: {packets:?}")
        };
        assert_eq!(read_info, info);
        assert_eq!(reports.iter().collect::<Vec<_>>(), blocks);
        assert_eq!(more, reports);
        let chunk = chunks.iter().next().unwrap();
        assert_eq!((chunk.ssrc, chunk.cname()), (3, Some(cname.as_str())));
        assert_eq!(sources.iter().collect::<Vec<_>>(), [4]);
        assert_eq!(read_reason, reason.as_bytes());
    }
}

#[test]
fn what_does_not_fit_is_not_begun() {
    let mut out = [0; 40];
    let mut writer = Writer::new(&mut out);
    writer.receiver_report(1, &[ReportBlock::default()]).unwrap();
    assert_eq!(writer.cname(1, "someone"), Err(RtcpError::NoRoom { needed: 20, size_bytes: 8 }));
    assert_eq!(writer.size_bytes(), 32);
    writer.goodbye(1, "").unwrap();
    assert!(Compound::parse(&out).is_ok());
    let mut large = [0; 2_048];
    let mut writer = Writer::new(&mut large);
    let too_many = [ReportBlock::default(); 32];
    assert_eq!(
        writer.receiver_report(1, &too_many),
        Err(RtcpError::TooLong { what: "report blocks", size: 32, limit: 31 })
    );
    assert!(matches!(writer.cname(1, &"x".repeat(256)), Err(RtcpError::TooLong { size: 256, .. })));
}

#[test]
fn malformed_compounds_are_refused() {
    let rr = [0x80, 201, 0, 1, 0, 0, 0, 1];
    let bye = [0x81, 203, 0, 1, 0, 0, 0, 1];
    assert!(Compound::parse(&rr).is_ok());
    assert!(matches!(Compound::parse(&[]), Err(RtcpError::Truncated { .. })));
    assert!(matches!(Compound::parse(&bye), Err(RtcpError::First(203))));
    assert!(matches!(Compound::parse(&rr[..6]), Err(RtcpError::Truncated { .. })));
    assert!(matches!(Compound::parse(&[0x40, 201, 0, 1, 0, 0, 0, 1]), Err(RtcpError::Version(1))));
    assert!(matches!(
        Compound::parse(&[0x81, 201, 0, 1, 0, 0, 0, 1]),
        Err(RtcpError::Truncated { what: "report blocks", .. })
    ));
    let with = |packet: &[u8]| [&rr[..], packet].concat();
    assert!(Compound::parse(&with(&bye)).is_ok());
    assert!(matches!(
        Compound::parse(&with(&[0x82, 203, 0, 1, 0, 0, 0, 1])),
        Err(RtcpError::Truncated { what: "BYE sources", .. })
    ));
    assert!(matches!(
        Compound::parse(&with(&[0x81, 203, 0, 2, 0, 0, 0, 1, 9, b'x', 0, 0])),
        Err(RtcpError::Truncated { .. })
    ));
    // an SDES chunk without its final zero
    assert!(Compound::parse(&with(&[0x81, 202, 0, 2, 0, 0, 0, 1, 1, 2, b'a', b'b'])).is_err());
    // padding: only in the last, and a multiple of four
    let padded = [0xa1, 203, 0, 2, 0, 0, 0, 1, 0, 0, 0, 4];
    assert!(Compound::parse(&with(&padded)).is_ok());
    assert!(matches!(Compound::parse(&[&with(&padded)[..], &bye].concat()), Err(RtcpError::Padding)));
    assert!(Compound::parse(&with(&[0xa1, 203, 0, 2, 0, 0, 0, 1, 0, 0, 0, 3])).is_err());
    assert!(Compound::parse(&with(&[0xa1, 203, 0, 2, 0, 0, 0, 1, 0, 0, 0, 16])).is_err());
    // what is not known is passed over, not refused
    assert!(Compound::parse(&with(&[0x80, 207, 0, 1, 0, 0, 0, 1])).is_ok());
}

#[test]
fn no_bytes_make_the_parser_panic() {
    for seed in seeds(20_000) {
        let mut random = Random(seed);
        let size = random.below(25) as usize * 4;
        let mut bytes = random.bytes(size);
        let mut at = 0;
        while at + 4 <= bytes.len() {
            bytes[at] = 0x80 | (bytes[at] & 0x23);
            bytes[at + 1] = 200 + (bytes[at + 1] & 7);
            bytes[at + 2] = 0;
            bytes[at + 3] &= 7;
            at += 4 + usize::from(bytes[at + 3]) * 4;
        }
        if let Ok(compound) = Compound::parse(&bytes) {
            // iterates all that can be iterated
            let entries = |packet| match packet {
                Packet::SenderReport { reports, .. } | Packet::ReceiverReport { reports, .. } => reports.iter().count(),
                Packet::SourceDescription(chunks) => {
                    chunks.iter().map(|chunk| chunk.items().count() + usize::from(chunk.cname().is_some())).sum()
                }
                Packet::Goodbye { sources, .. } => sources.iter().count(),
                _ => 0,
            };
            let sum: usize = compound.packets().map(entries).sum();
            assert!(sum <= bytes.len(), "seed {seed}");
        }
    }
}

fn session(now: Instant, ssrc: u32, seed: u64) -> RtcpSession {
    let config = RtcpConfig {
        ssrc,
        cname: String::from("call"),
        seed,
        bandwidth_bps: 64_000,
        minimum_interval: Duration::from_secs(5),
        ntp_at_start: NtpTime::from_unix(Duration::from_secs(1_700_000_000)),
    };
    RtcpSession::new(now, config)
}

/// Runs a session alone until `end`; returns when it sent, and its first packet.
fn reports(session: &mut RtcpSession, start: Instant, end: Duration, sends: bool) -> Vec<(Instant, Vec<u8>)> {
    let mut out = [0; 512];
    let mut sent = Vec::new();
    while session.next_wake() < start + end {
        let now = session.next_wake();
        let packets = if sends { ((now - start).as_millis() / 20) as u32 + 1 } else { 0 };
        let counts =
            SenderCounts { packets, bytes: packets.wrapping_mul(160), timestamp: RtpTime(packets.wrapping_mul(160)) };
        if let Some(size) = session.tick(now, &counts, None, &mut out) {
            sent.push((now, out[..size].to_vec()));
        }
        assert!(session.next_wake() > now, "the session stands still");
    }
    sent
}

#[test]
fn reports_come_five_seconds_apart_on_average_and_never_in_step() {
    for seed in seeds(20) {
        let start = Instant::now();
        let sent = reports(&mut session(start, 1, seed), start, Duration::from_secs(3_600), true);
        let first = sent[0].0 - start;
        assert!((1_000..=3_100).contains(&first.as_millis()), "seed {seed}: the first after {first:?}");
        let gaps: Vec<f64> = sent.windows(2).map(|pair| (pair[1].0 - pair[0].0).as_secs_f64()).collect();
        // 5 s * (0.5 .. 1.5) / 1.21828, of which reconsideration prefers the longer
        assert!(gaps.iter().all(|gap| (2.0..=6.2).contains(gap)), "seed {seed}: {gaps:?}");
        let mean = gaps.iter().sum::<f64>() / gaps.len() as f64;
        assert!((4.4..=5.4).contains(&mean), "seed {seed}: {mean} s on average");
        assert!(gaps.windows(2).any(|pair| (pair[0] - pair[1]).abs() > 0.5));
    }
}

#[test]
fn the_same_seed_sends_at_the_same_times() {
    let start = Instant::now();
    let times = |seed| reports(&mut session(start, 1, seed), start, Duration::from_secs(600), true);
    assert_eq!(times(5), times(5));
    assert_ne!(times(5), times(6));
}

#[test]
fn whoever_sends_reports_as_sender_and_whoever_listens_as_receiver() {
    let start = Instant::now();
    for (sends, kind) in [(true, 200), (false, 201)] {
        for (_, bytes) in reports(&mut session(start, 1, 3), start, Duration::from_secs(60), sends) {
            assert_eq!(bytes[1], kind);
            let packets: Vec<_> = Compound::parse(&bytes).unwrap().packets().collect();
            let Packet::SourceDescription(chunks) = packets[1] else { panic!("no name: {packets:?}") };
            assert_eq!(chunks.iter().next().unwrap().cname(), Some("call"));
        }
    }
}

#[test]
fn two_ends_learn_the_round_trip_from_each_other() {
    for seed in seeds(10) {
        let start = Instant::now();
        let (mut left, mut right) = (session(start, 1, seed), session(start + ms(3), 2, seed + 1));
        let one_way = ms(10 + seed % 90);
        let mut talker = Talker::new(2, 1, 1);
        let bytes = talker.packet();
        let packet = RtpPacket::parse(&bytes).unwrap();
        let mut of_right = Source::new(start, 8_000, &packet);
        of_right.receive(start, &packet);
        let bytes = Talker::new(1, 1, 1).packet();
        let packet = RtpPacket::parse(&bytes).unwrap();
        let mut of_left = Source::new(start, 8_000, &packet);
        of_left.receive(start, &packet);
        let mut out = [0; 512];
        let mut flying: Vec<(Instant, bool, Vec<u8>)> = Vec::new();
        let mut now = start;
        let mut count = 0;
        while now < start + Duration::from_secs(60) {
            count += 1;
            let counts = SenderCounts { packets: count, bytes: count, timestamp: RtpTime(count) };
            if let Some(size) = left.tick(now, &counts, Some(&mut of_right), &mut out) {
                flying.push((now + one_way, true, out[..size].to_vec()));
            }
            if let Some(size) = right.tick(now, &counts, Some(&mut of_left), &mut out) {
                flying.push((now + one_way, false, out[..size].to_vec()));
            }
            flying.sort_by_key(|(at, ..)| *at);
            let arrived = flying.iter().filter(|(at, ..)| *at <= now).count();
            for (at, to_right, bytes) in flying.drain(..arrived) {
                let end = if to_right { &mut right } else { &mut left };
                let received = end.receive(at, &bytes, None).unwrap();
                assert!(!received.bye);
            }
            let next = flying.iter().map(|(at, ..)| *at).chain([left.next_wake(), right.next_wake()]).min().unwrap();
            now = next.max(now + Duration::from_micros(1));
        }
        for end in [&left, &right] {
            let error = end.round_trip().unwrap().abs_diff(one_way * 2);
            assert!(error < ms(1), "seed {seed}: {:?} for {:?}", end.round_trip(), one_way * 2);
            assert_eq!(end.members(), 1);
        }
    }
}

#[test]
fn an_absurd_report_gives_no_round_trip() {
    let start = Instant::now();
    let mut session = session(start, 1, 1);
    let mut out = [0; 128];
    for (last_sr, delay) in [(0, 5), (1, 0), (u32::MAX, u32::MAX), (0x8000_0000, 0x7000_0000)] {
        let mut writer = Writer::new(&mut out);
        let block = ReportBlock { ssrc: 1, last_sr, delay_since_last_sr: delay, ..ReportBlock::default() };
        writer.receiver_report(2, &[block]).unwrap();
        let size = writer.size_bytes();
        let received = session.receive(start + ms(100), &out[..size], None).unwrap();
        assert_eq!(received.report, Some(block));
        assert!(received.round_trip.is_none_or(|trip| trip <= Duration::from_secs(60)));
    }
}

#[test]
fn only_the_peers_own_goodbye_counts() {
    let start = Instant::now();
    let mut session = session(start, 1, 1);
    let mut out = [0; 128];
    let mut writer = Writer::new(&mut out);
    writer.receiver_report(9, &[]).unwrap();
    writer.goodbye(9, "bye").unwrap();
    let size = writer.size_bytes();
    assert!(!session.receive(start, &out[..size], Some(7)).unwrap().bye);
    assert!(session.receive(start, &out[..size], Some(9)).unwrap().bye);
    assert!(session.receive(start, &out[..size], None).unwrap().bye);
}

#[test]
fn a_goodbye_is_sent_behind_a_last_report() {
    let start = Instant::now();
    let mut session = session(start, 1, 1);
    let mut out = [0; 256];
    let counts = SenderCounts { packets: 5, bytes: 800, timestamp: RtpTime(800) };
    let size = session.goodbye(start + ms(50), &counts, None, "done", &mut out).unwrap();
    let packets: Vec<_> = Compound::parse(&out[..size]).unwrap().packets().collect();
    assert!(matches!(packets[0], Packet::SenderReport { ssrc: 1, .. }));
    assert!(matches!(packets[2], Packet::Goodbye { reason: b"done", .. }));
    assert!(session.goodbye(start, &counts, None, "done", &mut out[..20]).is_err());
}

#[test]
fn a_flood_of_invented_members_is_bounded_and_forgotten() {
    let start = Instant::now();
    let mut session = session(start, 1, 1);
    let mut out = [0; 64];
    for ssrc in 100..10_000 {
        let mut writer = Writer::new(&mut out);
        writer.receiver_report(ssrc, &[]).unwrap();
        let size = writer.size_bytes();
        session.receive(start, &out[..size], Some(7)).unwrap();
    }
    assert_eq!(session.members(), 8);
    let sent = reports(&mut session, start, Duration::from_secs(120), true);
    assert!(sent.len() > 15, "{} reports in two minutes", sent.len());
    assert_eq!(session.members(), 0);
}

#[test]
fn wall_clock_time_is_counted_from_1900() {
    // RFC 5905 figure 4: 1 January 1970 is 2,208,988,800 s
    assert_eq!(NtpTime::from_unix(Duration::ZERO).0, 2_208_988_800 << 32);
    let half = NtpTime::from_unix(Duration::from_millis(500));
    assert_eq!(half.0 as u32, 1 << 31);
    assert_eq!(half.plus(Duration::from_millis(500)), NtpTime::from_unix(Duration::from_secs(1)));
    assert_eq!(NtpTime(0x1234_5678_9abc_def0).middle(), 0x5678_9abc);
}
