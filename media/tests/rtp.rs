//! RTP packets and sources, by the letter of RFC 3550.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::time::{Duration, Instant};

use common::{Netem, Path, Random, Talker, ms, seeds};
use media::rtp::{HEADER_BYTES, RtpError, RtpHeader, RtpPacket, RtpTime, Seq, Source, Verdict, is_rtcp};

const PLAIN: [u8; 16] = [0x80, 0x80, 0x12, 0x34, 0, 0, 0, 160, 0xde, 0xad, 0xbe, 0xef, 1, 2, 3, 4];

#[test]
fn a_plain_packet_is_read() {
    let packet = RtpPacket::parse(&PLAIN).unwrap();
    assert!(packet.marker);
    assert_eq!(packet.payload_type, 0);
    assert_eq!((packet.seq, packet.timestamp, packet.ssrc), (Seq(0x1234), RtpTime(160), 0xdead_beef));
    assert_eq!(packet.payload, [1, 2, 3, 4]);
    assert!(packet.csrc.is_empty() && packet.extension.is_none() && packet.padding_bytes == 0);
}

#[test]
fn sources_extension_and_padding_are_taken_off_the_payload() {
    let mut bytes = vec![0xb2, 0x08, 0, 1, 0, 0, 0, 2, 0, 0, 0, 3];
    bytes.extend([0, 0, 0, 9, 0, 0, 0, 10]);
    bytes.extend([0xbe, 0xde, 0, 1, 0x10, 0xff, 0, 0]);
    bytes.extend([7, 7, 7, 0, 0, 3]);
    let packet = RtpPacket::parse(&bytes).unwrap();
    assert_eq!(packet.csrc.iter().collect::<Vec<_>>(), [9, 10]);
    assert_eq!(packet.csrc.len(), 2);
    let extension = packet.extension.unwrap();
    assert_eq!((extension.profile, extension.data), (0xbede, &[0x10, 0xff, 0, 0][..]));
    assert_eq!((packet.payload, packet.padding_bytes), (&[7, 7, 7][..], 3));
}

#[test]
fn a_counted_part_beyond_the_datagram_is_refused() {
    let refused = |change: &dyn Fn(&mut Vec<u8>)| {
        let mut bytes = PLAIN.to_vec();
        change(&mut bytes);
        RtpPacket::parse(&bytes).unwrap_err()
    };
    assert!(matches!(refused(&|b| b.truncate(11)), RtpError::Truncated { what: "header", .. }));
    assert_eq!(refused(&|b| b[0] = 0x40), RtpError::Version(1));
    assert!(matches!(refused(&|b| b[0] |= 2), RtpError::Truncated { what: "CSRC list", .. }));
    assert!(matches!(refused(&|b| b[0] |= 0x10), RtpError::Truncated { what: "header extension", .. }));
    assert_eq!(
        refused(&|b| {
            b[0] |= 0x20;
            b[15] = 0
        }),
        RtpError::Padding { padding_bytes: 0, size_bytes: 4 }
    );
    assert_eq!(
        refused(&|b| {
            b[0] |= 0x20;
            b[15] = 5
        }),
        RtpError::Padding { padding_bytes: 5, size_bytes: 4 }
    );
    assert_eq!(
        refused(&|b| {
            b[0] |= 0x20;
            b.truncate(12)
        }),
        RtpError::Padding { padding_bytes: 0, size_bytes: 0 }
    );
}

#[test]
fn a_payload_of_padding_alone_is_empty() {
    let mut bytes = PLAIN;
    bytes[0] |= 0x20;
    bytes[15] = 4;
    assert_eq!(RtpPacket::parse(&bytes).unwrap().payload, []);
}

#[test]
fn what_is_printed_is_read_back() {
    for seed in seeds(500) {
        let mut random = Random(seed);
        let header = RtpHeader {
            marker: random.chance(0.5),
            payload_type: random.below(128) as u8,
            seq: Seq(random.next() as u16),
            timestamp: RtpTime(random.next() as u32),
            ssrc: random.next() as u32,
        };
        let size = random.below(200) as usize;
        let payload = random.bytes(size);
        let mut out = [0; 300];
        let size = header.write(&payload, &mut out).unwrap();
        assert_eq!(size, HEADER_BYTES + payload.len());
        let packet = RtpPacket::parse(&out[..size]).unwrap();
        assert_eq!(packet.payload, payload);
        let back = RtpHeader {
            marker: packet.marker,
            payload_type: packet.payload_type,
            seq: packet.seq,
            timestamp: packet.timestamp,
            ssrc: packet.ssrc,
        };
        assert_eq!(back, header, "seed {seed}");
        let error = header.write(&payload, &mut out[..size - 1]).unwrap_err();
        assert_eq!(error, RtpError::NoRoom { needed: size, size_bytes: size - 1 });
    }
}

#[test]
fn no_bytes_make_the_parser_panic_and_what_it_reads_lies_in_them() {
    for seed in seeds(20_000) {
        let mut random = Random(seed);
        let size = random.below(64) as usize;
        let mut bytes = random.bytes(size);
        if let Some(first) = bytes.first_mut().filter(|_| random.chance(0.9)) {
            *first = 0x80 | (*first & 0x3f);
        }
        if let Ok(packet) = RtpPacket::parse(&bytes) {
            let extension = packet.extension.map_or(0, |extension| extension.data.len() + 4);
            let sum = HEADER_BYTES + packet.csrc.len() * 4 + extension + packet.payload.len();
            assert_eq!(sum + usize::from(packet.padding_bytes), bytes.len(), "seed {seed}");
        }
    }
}

#[test]
fn rtcp_on_the_same_port_is_told_apart() {
    assert!(!is_rtcp(&PLAIN));
    assert!(is_rtcp(&[0x80, 200, 0, 0]) && is_rtcp(&[0x81, 207, 0, 0]));
    assert!(!is_rtcp(&[0x80, 191]) && !is_rtcp(&[0x80, 224]) && !is_rtcp(&[0x00, 200]) && !is_rtcp(&[]));
}

#[test]
fn sequence_and_time_wrap() {
    assert_eq!(Seq(65_535).next(), Seq(0));
    assert_eq!(Seq(2).since(Seq(65_534)), 4);
    assert_eq!(Seq(65_534).since(Seq(2)), -4);
    assert_eq!(RtpTime(10).since(RtpTime(u32::MAX - 9)), 20);
    assert_eq!(RtpTime(u32::MAX).plus(1), RtpTime(0));
}

/// A source fed with these sequence numbers, 20 ms apart.
fn source(start: Instant, seqs: impl IntoIterator<Item = u16>) -> (Source, Vec<Verdict>) {
    let mut source = None;
    let mut verdicts = Vec::new();
    for (n, seq) in (0..).zip(seqs) {
        let mut talker = Talker::new(7, seq, n * 160);
        let bytes = talker.packet();
        let packet = RtpPacket::parse(&bytes).unwrap();
        let now = start + ms(20) * n;
        let source = source.get_or_insert_with(|| Source::new(now, 8_000, &packet));
        verdicts.push(source.receive(now, &packet));
    }
    (source.unwrap(), verdicts)
}

#[test]
fn a_source_is_valid_after_two_packets_in_a_row() {
    use Verdict::{Probation, Valid};
    let start = Instant::now();
    let (two, verdicts) = source(start, [65_535, 0]);
    assert_eq!(verdicts, [Probation, Valid]);
    assert!(two.is_valid());
    assert_eq!((two.report().packets, two.report().lost), (2, 0));
    assert_eq!(two.extended_max(), 65_536);
    let (never, verdicts) = source(start, [10, 20, 30, 40]);
    assert_eq!(verdicts, [Probation; 4]);
    assert!(!never.is_valid());
}

#[test]
fn small_gaps_are_loss_and_leaps_are_a_restart_when_a_second_packet_confirms_them() {
    use Verdict::{Leap, Misordered, Probation, Restarted, Valid};
    let start = Instant::now();
    let (gap, verdicts) = source(start, [1, 2, 5, 4, 4, 2_999 + 5]);
    assert_eq!(verdicts, [Probation, Valid, Valid, Misordered, Misordered, Valid]);
    assert_eq!(gap.report().misordered, 2);
    let (leap, verdicts) = source(start, [1, 2, 3_002, 3, 4]);
    assert_eq!(verdicts, [Probation, Valid, Leap, Valid, Valid], "one stray packet changes nothing");
    assert_eq!(leap.report().lost, 0);
    let (restart, verdicts) = source(start, [1, 2, 3, 30_000, 30_001, 30_002]);
    assert_eq!(verdicts, [Probation, Valid, Valid, Leap, Restarted, Valid]);
    assert_eq!((restart.report().packets, restart.report().lost), (5, 0), "totals go on over a restart");
    let (back, verdicts) = source(start, [500, 501, 400, 401]);
    assert_eq!(verdicts, [Probation, Valid, Leap, Restarted]);
    assert!(back.is_valid());
}

#[test]
fn report_blocks_count_loss_as_appendix_a_says() {
    let start = Instant::now();
    // 100 sent from 65,500 over the wrap, every fourth lost
    let seqs = (0u16..100).map(|n| 65_500u16.wrapping_add(n)).enumerate().filter(|(n, _)| n % 4 != 3 || *n < 4);
    let seqs: Vec<u16> = seqs.map(|(_, seq)| seq).collect();
    let (mut source, _) = source(start, seqs);
    let block = source.report_block();
    // the very last was lost, which nobody can know
    assert_eq!(block.cumulative_lost, 23);
    assert_eq!(block.fraction_lost, (23 * 256 / 99) as u8);
    assert_eq!(block.highest_seq, 65_536 + 62);
    let again = source.report_block();
    assert_eq!(
        (again.fraction_lost, again.cumulative_lost),
        (0, 23),
        "the fraction is of the time since the last report"
    );
}

#[test]
fn duplicates_make_the_loss_negative() {
    let (mut source, _) = source(Instant::now(), [1, 2, 3, 3, 3, 3]);
    let block = source.report_block();
    assert_eq!((block.cumulative_lost, block.fraction_lost), (-3, 0));
    assert_eq!(source.report().lost, 0);
}

#[test]
fn jitter_settles_at_the_mean_deviation_of_the_spacing() {
    let start = Instant::now();
    let mut talker = Talker::new(7, 1, 1);
    let mut source = None;
    for n in 0..400u32 {
        let bytes = talker.packet();
        let packet = RtpPacket::parse(&bytes).unwrap();
        // every other packet comes 5 ms late: the spacing deviates by 5 ms each time
        let now = start + ms(20) * n + ms(5) * (n % 2);
        source.get_or_insert_with(|| Source::new(now, 8_000, &packet)).receive(now, &packet);
    }
    let jitter_us = source.as_ref().unwrap().report().jitter_us;
    assert!((4_900..=5_100).contains(&jitter_us), "{jitter_us} us");
    // 40, less what the integer filter of the appendix rounds off
    assert_eq!(source.unwrap().jitter_ticks(), 39);
}

#[test]
fn loss_over_a_network_is_what_the_network_lost() {
    for seed in seeds(20) {
        let path = Path { loss: 0.1, burst: 3.0, jitter: ms(15), ..Path::clean() };
        let start = Instant::now();
        let mut net = Netem::new(seed, path);
        let mut talker = Talker::new(7, 60_000, 1);
        for n in 0..10_000u32 {
            net.send(start + ms(20) * n, &talker.packet());
        }
        let mut source = None;
        while let Some((at, bytes)) = net.receive(start + Duration::from_secs(1_000)) {
            let packet = RtpPacket::parse(&bytes).unwrap();
            source.get_or_insert_with(|| Source::new(at, 8_000, &packet)).receive(at, &packet);
        }
        let report = source.unwrap().report();
        let lost = report.lost;
        assert!(lost.abs_diff(net.lost) <= 20, "seed {seed}: {lost} found, {} lost", net.lost);
        assert!(report.packets.abs_diff(10_000 - net.lost) <= 5, "seed {seed}");
    }
}
