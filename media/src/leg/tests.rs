//! A leg in virtual time: packets in by hand, packets out into a list.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use codecs::g711::Law;
use codecs::registry::{self, CodecId};
use ringbuf::traits::{Consumer, Observer, Producer};

use super::{Channel, Leg, Outbox, Retune, Scratch};
use crate::config::{Direction, DtmfFormat, LegConfig, LegMode, LevelFormat, Security};
use crate::port::{EAR_RING_FRAMES, EarFrame, Notice, PortEnds};
use crate::rtcp::{Compound, NtpTime, Packet, RtcpConfig, RtcpSession, SenderCounts, VoipMetrics, XR};
use crate::rtp::{RtpHeader, RtpPacket, RtpTime, Seq};
use crate::srtp::{KeyPair, MasterKey, Receiver, Sender, Suite};

const MS: Duration = Duration::from_millis(1);
const PEER: &str = "192.0.2.7:4000";

/// What a leg sent: when, where from, and the bytes.
#[derive(Default)]
struct Sent {
    now: Option<Instant>,
    packets: Vec<(Instant, Channel, SocketAddr, Vec<u8>)>,
}

impl Outbox for Sent {
    fn send(&mut self, channel: Channel, to: SocketAddr, packet: &[u8]) -> bool {
        self.packets.push((self.now.unwrap(), channel, to, packet.to_vec()));
        true
    }
}

/// One packet of RTP as the peer sees it.
#[derive(Debug, Clone, PartialEq)]
struct Seen {
    at: Instant,
    marker: bool,
    payload_type: u8,
    seq: Seq,
    timestamp: RtpTime,
    ssrc: u32,
    payload: Vec<u8>,
}

struct Bench {
    leg: Leg,
    ends: PortEnds,
    scratch: Box<Scratch>,
    sent: Sent,
    start: Instant,
    now: Instant,
    config: LegConfig,
}

impl Bench {
    fn new(config: LegConfig) -> Self {
        let start = Instant::now();
        let (leg, ends, _) = Leg::new(&config, start, SystemTime::now(), None).unwrap();
        Bench { leg, ends, scratch: Box::default(), sent: Sent::default(), start, now: start, config }
    }

    /// Lets time pass in steps of a millisecond, ticking whenever the leg asks for it.
    fn pass(&mut self, duration: Duration) {
        let end = self.now + duration;
        while self.now < end {
            self.now += MS;
            if self.leg.next_wake(self.now) <= self.now {
                self.sent.now = Some(self.now);
                self.leg.tick(self.now, &mut self.scratch, &mut self.sent);
            }
        }
    }

    fn hear(&mut self, datagram: &[u8]) {
        self.leg.receive(self.now, datagram, PEER.parse().unwrap(), &mut self.scratch);
    }

    /// The peer's n-th packet: 20 ms of one µ-law value, by a steady clock.
    fn hear_sound(&mut self, n: u32, value: u8) {
        self.hear(&sound(n, 0, &[value; 160]));
    }

    fn retune(&mut self, config: LegConfig) {
        let seam = self.config.codec.audio_rate;
        let mut retune = Retune::new(self.now, &self.config, &config, seam, false).unwrap();
        self.leg.retune(self.now, &mut retune);
        self.config = config;
    }

    fn rtp(&self) -> Vec<Seen> {
        let rtp = self.sent.packets.iter().filter(|(_, channel, ..)| *channel == Channel::Rtp);
        rtp.map(|(at, _, _, bytes)| {
            let packet = RtpPacket::parse(bytes).unwrap();
            Seen {
                at: *at,
                marker: packet.marker,
                payload_type: packet.payload_type,
                seq: packet.seq,
                timestamp: packet.timestamp,
                ssrc: packet.ssrc,
                payload: packet.payload.to_vec(),
            }
        })
        .collect()
    }

    fn rtcp(&self) -> Vec<(Instant, Vec<u8>)> {
        let rtcp = self.sent.packets.iter().filter(|(_, channel, ..)| *channel == Channel::Rtcp);
        rtcp.map(|(at, _, _, bytes)| (*at, bytes.clone())).collect()
    }

    fn ear(&mut self) -> Vec<EarFrame> {
        let ear = self.ends.ear.as_mut().unwrap();
        std::iter::from_fn(|| ear.try_pop()).collect()
    }

    fn notices(&mut self) -> Vec<Notice> {
        std::iter::from_fn(|| self.ends.notices.try_pop()).collect()
    }

    fn say(&mut self, pcm: &[i16]) {
        assert_eq!(self.ends.voice.as_mut().unwrap().push_slice(pcm), pcm.len());
    }

    fn played(&self) -> u64 {
        self.ends.shared.position.load(std::sync::atomic::Ordering::Acquire)
    }

    fn interrupt(&self, written: u64) {
        self.ends.shared.discard_before.store(written, std::sync::atomic::Ordering::Release);
    }
}

fn sound(n: u32, payload_type: u8, payload: &[u8]) -> Vec<u8> {
    packet(n, payload_type, n * 160, false, payload)
}

fn packet(n: u32, payload_type: u8, timestamp: u32, marker: bool, payload: &[u8]) -> Vec<u8> {
    let seq = Seq((n as u16).wrapping_add(60_000));
    let header = RtpHeader { marker, payload_type, seq, timestamp: RtpTime(timestamp.wrapping_add(5)), ssrc: 77 };
    [&header.to_bytes()[..], payload].concat()
}

fn config(mode: LegMode) -> LegConfig {
    let codec = registry::spec(CodecId::Pcmu).unwrap().params();
    LegConfig { remote: Some(PEER.parse().unwrap()), seed: 9, ..LegConfig::new(codec, 0, mode) }
}

fn with_dtmf(mode: LegMode) -> LegConfig {
    let dtmf = DtmfFormat { payload_type_send: 101, payload_type_recv: 101, clock_hz: 8_000 };
    LegConfig { dtmf: Some(dtmf), ..config(mode) }
}

/// Sequence numbers without gap; the timestamps of sound go with the time.
fn assert_one_stream(packets: &[Seen]) {
    for pair in packets.windows(2) {
        assert_eq!(pair[1].seq, pair[0].seq.next());
        assert_eq!(pair[1].ssrc, pair[0].ssrc);
    }
}

#[test]
fn echo_returns_each_packet_once_in_order_and_soon() {
    let mut bench = Bench::new(config(LegMode::Echo));
    bench.pass(7 * MS);
    for n in 0..200 {
        bench.hear_sound(n, 0x80 + (n % 100) as u8);
        bench.pass(20 * MS);
    }
    let out = bench.rtp();
    assert_one_stream(&out);
    let echoed: Vec<u8> = out.iter().map(|seen| seen.payload[0]).filter(|value| *value != 0xff).collect();
    let expected: Vec<u8> = (0..200).map(|n| 0x80 + (n % 100) as u8).take(echoed.len()).collect();
    assert_eq!(echoed, expected);
    assert!(echoed.len() >= 197, "{} echoed of 200", echoed.len());
    assert!(out.windows(2).all(|pair| pair[1].timestamp == pair[0].timestamp.plus(160)));
    assert!(out[0].marker && out[1..].iter().all(|seen| !seen.marker));
    assert_eq!(bench.leg.stats().packets_in, 200);
    assert_eq!(bench.leg.stats().packets_out as usize, out.len());
}

#[test]
fn echo_survives_loss_and_reordering_without_a_gap_in_what_it_sends() {
    let mut bench = Bench::new(config(LegMode::Echo));
    for n in 0..200_u32 {
        match n % 10 {
            3 => {}
            6 => bench.hear_sound(n + 1, 0x90),
            7 => bench.hear_sound(n - 1, 0x90),
            _ => bench.hear_sound(n, 0x90),
        }
        bench.pass(20 * MS);
    }
    let out = bench.rtp();
    assert_one_stream(&out);
    assert!((200..=201).contains(&out.len()));
    bench.pass(200 * MS);
    assert_eq!(bench.leg.stats().lost, 20);
    assert_eq!(bench.leg.stats().reordered, 20);
}

#[test]
fn the_ear_gets_each_packet_the_moment_it_comes() {
    let mut bench = Bench::new(config(LegMode::Talk));
    bench.pass(33 * MS);
    for n in 0..10 {
        bench.hear_sound(n, 0x90);
        let frames = bench.ear();
        assert_eq!(frames.len(), 1);
        assert_eq!(frames[0].arrived, bench.now);
        assert_eq!(frames[0].at_samples, 33 * 8 + u64::from(n) * 160);
        assert_eq!(frames[0].samples(), [Law::Mu.expand(0x90); 160]);
        assert!(!frames[0].concealed && (0.0..=1.0).contains(&frames[0].speech));
        bench.pass(20 * MS);
    }
    assert!(bench.leg.take_ready());
    assert!(!bench.leg.take_ready());
}

#[test]
fn the_ear_goes_on_without_a_packet_that_does_not_come() {
    let mut bench = Bench::new(config(LegMode::Talk));
    for n in (0..50).filter(|n| *n != 30) {
        if n == 31 {
            bench.pass(20 * MS);
        }
        bench.hear_sound(n, 0x90);
        bench.pass(20 * MS);
    }
    let frames = bench.ear();
    assert_eq!(frames.len(), 50);
    let concealed: Vec<usize> = (0..50).filter(|n| frames[*n].concealed).collect();
    assert_eq!(concealed, [30]);
    assert!(frames.windows(2).all(|pair| pair[1].at_samples == pair[0].at_samples + 160));
    bench.pass(100 * MS);
    assert_eq!((bench.leg.stats().lost, bench.leg.stats().concealed_ms), (1, 20));
}

#[test]
fn a_port_that_does_not_listen_costs_frames_and_nothing_else() {
    let mut bench = Bench::new(config(LegMode::Talk));
    let count = EAR_RING_FRAMES as u32 + 10;
    for n in 0..count {
        bench.hear_sound(n, 0x90);
        bench.pass(20 * MS);
    }
    assert_eq!(bench.ear().len(), EAR_RING_FRAMES);
    assert_eq!(bench.leg.stats().ear_ring_drops, 10);
    assert_eq!(bench.leg.stats().packets_in, u64::from(count));
}

#[test]
fn what_is_said_is_sent_in_order_and_counted_when_it_is() {
    let mut bench = Bench::new(config(LegMode::Talk));
    let speech: Vec<i16> = (0..400).map(|n| (n % 97) * 300 - 14_000).collect();
    bench.pass(30 * MS);
    bench.say(&speech);
    assert_eq!(bench.played(), 0);
    bench.pass(20 * MS);
    assert_eq!(bench.played(), 160);
    bench.pass(100 * MS);
    assert_eq!(bench.played(), 400);
    let sent: Vec<u8> = bench.rtp().iter().flat_map(|seen| seen.payload.clone()).collect();
    let expected: Vec<u8> = speech.iter().map(|sample| Law::Mu.compress(*sample)).collect();
    let begin =
        sent.windows(expected.len()).position(|window| window == expected).expect("the speech is in the stream");
    assert!(sent[..begin].iter().chain(&sent[begin + expected.len()..]).all(|byte| *byte == 0xff));
}

#[test]
fn an_interruption_takes_effect_at_the_next_frame_and_the_stream_goes_on() {
    let mut bench = Bench::new(config(LegMode::Talk));
    bench.say(&[8_000; 4_000]);
    bench.pass(100 * MS);
    let played = bench.played();
    assert!((640..=960).contains(&played), "{played}");
    bench.interrupt(4_000);
    bench.say(&[-8_000; 320]);
    bench.pass(100 * MS);
    let out = bench.rtp();
    assert_one_stream(&out);
    let (old, new) = (Law::Mu.compress(8_000), Law::Mu.compress(-8_000));
    let heard: Vec<u8> = out.iter().map(|seen| seen.payload[0]).collect();
    assert_eq!(heard.iter().filter(|byte| **byte == old).count() as u64, played / 160);
    assert_eq!(heard.iter().filter(|byte| **byte == new).count(), 2);
    assert!(out.windows(2).all(|pair| pair[1].timestamp == pair[0].timestamp.plus(160)));
    assert_eq!(bench.played(), 4_320);
}

#[test]
fn speech_that_runs_out_and_goes_on_is_counted_and_a_pause_between_sentences_is_not() {
    let mut bench = Bench::new(config(LegMode::Talk));
    bench.pass(100 * MS);
    bench.say(&[5_000; 320]);
    bench.pass(80 * MS);
    bench.say(&[5_000; 320]);
    bench.pass(500 * MS);
    bench.say(&[5_000; 320]);
    bench.pass(100 * MS);
    assert_eq!(bench.leg.stats().voice_ring_underruns, 1);
}

#[test]
fn silence_is_sent_all_the_time_so_that_the_path_stays_open() {
    let mut bench = Bench::new(config(LegMode::Talk));
    bench.pass(1_000 * MS);
    let out = bench.rtp();
    assert!((49..=51).contains(&out.len()), "{}", out.len());
    assert!(out.iter().all(|seen| seen.payload == [0xff; 160]));
}

#[test]
fn comfort_noise_takes_the_place_of_silence_where_agreed() {
    let mut bench = Bench::new(LegConfig { comfort_noise_payload_type: Some(13), ..config(LegMode::Talk) });
    bench.pass(1_000 * MS);
    let quiet = bench.rtp();
    assert_one_stream(&quiet);
    let noise = quiet.iter().filter(|seen| seen.payload_type == 13).count();
    assert!((4..=5).contains(&noise) && quiet.len() < 20, "{noise} of {}", quiet.len());
    bench.say(&[5_000; 320]);
    bench.pass(40 * MS);
    let first = bench.rtp().into_iter().skip(quiet.len()).find(|seen| seen.payload_type == 0).unwrap();
    assert!(first.marker);
    let elapsed_ticks = (first.at - bench.start).as_millis() as i32 * 8;
    let ticks = first.timestamp.since(quiet[0].timestamp);
    assert!((ticks - elapsed_ticks).abs() <= 160, "{ticks} ticks in {elapsed_ticks}");
}

#[test]
fn on_hold_nothing_is_sent_and_speech_waits() {
    let mut bench = Bench::new(config(LegMode::Talk));
    bench.pass(100 * MS);
    let before = bench.rtp().len();
    bench.retune(LegConfig { direction: Direction::RecvOnly, ..config(LegMode::Talk) });
    bench.say(&[5_000; 160]);
    bench.pass(400 * MS);
    assert_eq!((bench.rtp().len(), bench.played()), (before, 0));
    bench.retune(config(LegMode::Talk));
    bench.pass(100 * MS);
    let out = bench.rtp();
    assert_one_stream(&out);
    assert_eq!(bench.played(), 160);
    let (last, first) = (&out[before - 1], &out[before]);
    assert!(first.marker);
    let ticks = first.timestamp.since(last.timestamp);
    let elapsed_ticks = (first.at - last.at).as_millis() as i32 * 8;
    assert!((ticks - elapsed_ticks).abs() <= 160, "{ticks} ticks in {elapsed_ticks}");
}

#[test]
fn who_is_held_by_us_is_not_heard_and_does_not_time_out() {
    let timeout = Some(Duration::from_secs(2));
    let mut bench = Bench::new(LegConfig { media_timeout: timeout, ..config(LegMode::Talk) });
    bench.retune(LegConfig { media_timeout: timeout, direction: Direction::SendOnly, ..config(LegMode::Talk) });
    for n in 0..10 {
        bench.hear_sound(n, 0x90);
        bench.pass(20 * MS);
    }
    bench.pass(3_000 * MS);
    assert!(bench.ear().is_empty() && bench.notices().is_empty());
    // Taken back, the ear begins with what comes then, at its place in time.
    bench.retune(LegConfig { media_timeout: timeout, ..config(LegMode::Talk) });
    bench.hear_sound(160, 0x90);
    let frames = bench.ear();
    assert_eq!(frames.len(), 1);
    assert_eq!(frames[0].at_samples, 3_200 * 8);
}

#[test]
fn a_silent_peer_is_told_of_once_until_it_is_heard_again() {
    let mut bench = Bench::new(LegConfig { media_timeout: Some(Duration::from_secs(2)), ..config(LegMode::Talk) });
    bench.hear_sound(0, 0x90);
    bench.pass(1_900 * MS);
    assert!(bench.notices().is_empty());
    bench.pass(3_000 * MS);
    assert_eq!(bench.notices(), [Notice::TimedOut]);
    bench.hear_sound(240, 0x90);
    bench.pass(3_000 * MS);
    assert_eq!(bench.notices(), [Notice::TimedOut]);
}

#[test]
fn another_codec_keeps_the_stream_and_the_ports_rate() {
    let mut bench = Bench::new(config(LegMode::Talk));
    bench.hear_sound(0, 0x90);
    bench.pass(100 * MS);
    let g722 = registry::spec(CodecId::G722).unwrap().params();
    bench.retune(LegConfig { codec: g722, payload_type_send: 9, payload_type_recv: 9, ..config(LegMode::Talk) });
    bench.say(&[3_000; 800]);
    for n in 5..15 {
        bench.hear(&sound(n, 9, &[0x55; 160]));
        bench.pass(20 * MS);
    }
    let out = bench.rtp();
    assert_one_stream(&out);
    let first = out.iter().position(|seen| seen.payload_type == 9).unwrap();
    assert!(out[first].marker);
    assert_eq!(out[first].timestamp, out[first - 1].timestamp.plus(160));
    assert!(out[first..].iter().all(|seen| seen.payload_type == 9 && seen.payload.len() == 160));
    assert_eq!(bench.played(), 800);
    let frames = bench.ear();
    assert!(frames.iter().all(|frame| frame.rate.hz() == 8_000));
    let heard: usize = frames.iter().map(|frame| frame.len).sum();
    assert!((160 * 10..=160 * 11).contains(&heard), "{heard} samples of 11 packets");
    // The old payload type is no longer agreed.
    bench.hear_sound(20, 0x90);
    assert_eq!(bench.leg.stats().malformed, 1);
}

#[test]
fn a_key_of_the_peer_is_told_once() {
    let mut bench = Bench::new(with_dtmf(LegMode::Talk));
    for n in 0..5 {
        bench.hear_sound(n, 0x90);
        bench.pass(20 * MS);
    }
    for (n, ticks, end) in [(5, 160_u16, 0), (6, 320, 0), (7, 480, 0x80), (8, 480, 0x80), (9, 480, 0x80)] {
        let [d0, d1] = ticks.to_be_bytes();
        bench.hear(&packet(n, 101, 800, n == 5, &[5, end | 10, d0, d1]));
        bench.pass(20 * MS);
    }
    assert_eq!(bench.notices(), [Notice::Digit { digit: '5', duration_ms: 60, at_samples: 800, passed_on: false }]);
    // The events are no sound and no loss.
    bench.hear_sound(10, 0x90);
    bench.pass(100 * MS);
    let frames = bench.ear();
    assert_eq!(frames.len(), 6);
    assert!(frames.iter().all(|frame| !frame.concealed));
    assert_eq!(frames[5].at_samples, 1_600);
    assert_eq!(bench.leg.stats().lost, 0);
}

#[test]
fn a_key_whose_end_is_lost_is_told_nevertheless() {
    let mut bench = Bench::new(with_dtmf(LegMode::Talk));
    bench.hear_sound(0, 0x90);
    bench.pass(20 * MS);
    bench.hear(&packet(1, 101, 160, true, &[11, 10, 0, 160]));
    bench.pass(1_000 * MS);
    assert_eq!(bench.notices(), [Notice::Digit { digit: '#', duration_ms: 20, at_samples: 160, passed_on: false }]);
}

#[test]
fn keys_are_sent_as_events_within_the_stream() {
    let mut bench = Bench::new(with_dtmf(LegMode::Talk));
    bench.pass(40 * MS);
    bench.leg.send_digit('7', 100);
    bench.leg.send_digit('#', 100);
    bench.say(&[4_000; 800]);
    bench.pass(1_000 * MS);
    let out = bench.rtp();
    assert_one_stream(&out);
    let events: Vec<&Seen> = out.iter().filter(|seen| seen.payload_type == 101).collect();
    let markers: Vec<u8> = events.iter().filter(|seen| seen.marker).map(|seen| seen.payload[0]).collect();
    assert_eq!(markers, [7, 11]);
    assert_eq!(events.iter().filter(|seen| seen.payload[1] & 0x80 != 0).count(), 6);
    assert!(events.iter().filter(|seen| seen.payload[0] == 7).all(|seen| seen.timestamp == events[0].timestamp));
    assert_eq!(bench.played(), 800);
    // Another leg understands them.
    let mut peer = Bench::new(with_dtmf(LegMode::Talk));
    for (at, _, _, bytes) in &bench.sent.packets {
        let wait = (*at - bench.start).saturating_sub(peer.now - peer.start);
        peer.pass(wait);
        peer.hear(bytes);
    }
    let digits: Vec<char> = peer
        .notices()
        .iter()
        .filter_map(|notice| if let Notice::Digit { digit, .. } = notice { Some(*digit) } else { None })
        .collect();
    assert_eq!(digits, ['7', '#']);
}

#[test]
fn reports_are_sent_every_five_seconds_or_so_and_a_goodbye_at_the_end() {
    let mut bench = Bench::new(config(LegMode::Talk));
    for n in 0..3_000 {
        bench.hear_sound(n, 0x90);
        bench.pass(20 * MS);
        bench.ear();
    }
    let reports = bench.rtcp();
    assert!((7..=25).contains(&reports.len()), "{} reports in 60 s", reports.len());
    for (_, report) in &reports {
        let compound = Compound::parse(report).unwrap();
        let kinds: Vec<Packet<'_>> = compound.packets().collect();
        let Packet::SenderReport { info, reports, .. } = &kinds[0] else { panic!("{kinds:?}") };
        assert!(info.packets > 0 && reports.iter().next().unwrap().ssrc == 77);
        let Packet::SourceDescription(chunks) = &kinds[1] else { panic!("{kinds:?}") };
        assert_eq!(chunks.iter().next().unwrap().cname(), Some("omnivox"));
    }
    bench.sent.now = Some(bench.now);
    bench.leg.close(bench.now, &mut bench.scratch, &mut bench.sent);
    let (_, last) = bench.rtcp().pop().unwrap();
    let said_bye = Compound::parse(&last).unwrap().packets().any(|packet| matches!(packet, Packet::Goodbye { .. }));
    assert!(said_bye);
    let to: SocketAddr = "192.0.2.7:4001".parse().unwrap();
    let rtcp_to: Vec<_> = bench.sent.packets.iter().filter(|(_, channel, ..)| *channel == Channel::Rtcp).collect();
    assert!(rtcp_to.iter().all(|(_, _, addr, _)| *addr == to));
}

#[test]
fn a_goodbye_of_the_peer_is_told() {
    let mut bench = Bench::new(config(LegMode::Talk));
    bench.hear_sound(0, 0x90);
    let rtcp = RtcpConfig {
        ssrc: 77,
        cname: "peer".into(),
        seed: 1,
        bandwidth_bps: 64_000,
        minimum_interval: Duration::from_secs(5),
        ntp_at_start: crate::rtcp::NtpTime::default(),
    };
    let mut peer = RtcpSession::new(bench.now, rtcp);
    let mut bytes = [0; 256];
    let size = peer.goodbye(bench.now, &SenderCounts::default(), None, "", &mut bytes).unwrap();
    let elsewhere: SocketAddr = "198.51.100.1:4001".parse().unwrap();
    bench.leg.receive_rtcp(bench.now, &bytes[..size], elsewhere, &mut bench.scratch);
    assert!(bench.notices().is_empty());
    bench.leg.receive_rtcp(bench.now, &bytes[..size], "192.0.2.7:4001".parse().unwrap(), &mut bench.scratch);
    assert_eq!(bench.notices(), [Notice::RtcpBye]);
}

#[test]
fn a_stranger_is_not_heard() {
    let mut bench = Bench::new(config(LegMode::Talk));
    for n in 0..50 {
        bench.hear_sound(n, 0x90);
        let stranger: SocketAddr = "198.51.100.1:4000".parse().unwrap();
        let now = bench.now;
        bench.leg.receive(now, &sound(n, 0, &[0x11; 160]), stranger, &mut bench.scratch);
        bench.pass(20 * MS);
    }
    let frames = bench.ear();
    assert_eq!(frames.len(), 50);
    assert!(frames.iter().all(|frame| frame.samples()[0] == Law::Mu.expand(0x90)));
    assert_eq!((bench.leg.stats().packets_in, bench.leg.stats().not_the_peer), (50, 50));
    assert!(bench.sent.packets.iter().all(|(_, _, to, _)| to.ip().to_string() == "192.0.2.7"));
}

#[test]
fn a_peer_behind_nat_is_found_and_told_of() {
    let mut bench = Bench::new(LegConfig {
        remote: Some("10.0.0.5:4000".parse().unwrap()),
        signalling: Some("192.0.2.7".parse().unwrap()),
        ..config(LegMode::Talk)
    });
    for n in 0..10 {
        bench.hear_sound(n, 0x90);
        bench.pass(20 * MS);
    }
    assert_eq!(bench.notices(), [Notice::Latched { addr: PEER.parse().unwrap() }]);
    let (_, _, to, _) = bench.sent.packets.last().unwrap();
    assert_eq!(*to, PEER.parse::<SocketAddr>().unwrap());
}

#[test]
fn a_worker_that_comes_late_makes_up_for_a_little_and_leaves_out_the_rest() {
    let mut bench = Bench::new(config(LegMode::Talk));
    bench.pass(100 * MS);
    let before = bench.rtp().len();
    bench.now += 45 * MS;
    bench.pass(MS);
    let after = bench.rtp();
    assert!((2..=3).contains(&(after.len() - before)), "{}", after.len() - before);
    assert!(after.windows(2).all(|pair| pair[1].timestamp == pair[0].timestamp.plus(160)));
    bench.now += 500 * MS;
    bench.pass(MS);
    let late = bench.rtp();
    assert_eq!(late.len() - after.len(), 1);
    let first = &late[after.len()];
    assert!(first.marker);
    let ticks = first.timestamp.since(after[after.len() - 1].timestamp);
    assert!((3_840..=4_320).contains(&ticks), "{ticks}");
    assert_one_stream(&late);
}

#[test]
fn a_sink_takes_and_counts_and_sends_no_sound() {
    let mut bench = Bench::new(with_dtmf(LegMode::Sink));
    for n in 0..100 {
        bench.hear_sound(n, 0x90);
        bench.pass(20 * MS);
    }
    assert!(bench.rtp().is_empty());
    assert_eq!(bench.leg.stats().packets_in, 100);
    assert!(bench.ends.ear.is_none() && bench.ends.voice.is_none());
}

#[test]
fn no_datagram_makes_a_leg_panic() {
    for mode in [LegMode::Echo, LegMode::Talk, LegMode::Sink] {
        for codec in [CodecId::Pcmu, CodecId::G722, CodecId::Opus, CodecId::L16] {
            let spec = registry::spec(codec).unwrap();
            let config = LegConfig {
                codec: spec.params(),
                comfort_noise_payload_type: Some(13),
                rtcp_mux: true,
                ..with_dtmf(mode)
            };
            let mut bench = Bench::new(config);
            let mut random = 0x5eed_u64;
            let mut draw = || super::outbound::splitmix(&mut random);
            for n in 0..2_000 {
                let mut datagram = sound(n, [0, 13, 101, 72][draw() as usize % 4], &[0; 200]);
                for _ in 0..draw() % 8 {
                    let at = draw() as usize % datagram.len();
                    datagram[at] = draw() as u8;
                }
                datagram.truncate(draw() as usize % 213);
                bench.hear(&datagram);
                let now = bench.now;
                bench.leg.receive_rtcp(now, &datagram, PEER.parse().unwrap(), &mut bench.scratch);
                bench.pass(Duration::from_millis(draw() % 25));
            }
        }
    }
}

#[test]
fn an_echo_leg_takes_less_than_sixteen_kibibytes() {
    let bench = Bench::new(config(LegMode::Echo));
    assert!(bench.ends.notices.capacity().get() <= 16);
    let sizes = [
        ("leg", size_of::<Leg>()),
        ("inbound", size_of::<super::inbound::Inbound>()),
        ("jitter buffer", bench.leg.inbound.jitter().heap_bytes()),
        ("shared", size_of::<crate::port::Shared>()),
        ("notices", size_of::<Notice>() * crate::port::NOTICE_RING + 256),
        ("what waits to be played", 8 * (20 + 20 + 120 + 15) * 2),
        ("decoder", size_of::<codecs::g711::G711Decoder>()),
        ("port", size_of::<crate::port::LegPort>()),
    ];
    let sum: usize = sizes.iter().map(|(_, size)| size).sum();
    assert!(sum <= 14 * 1_024, "{sum}: {sizes:?}");
}

#[test]
fn a_leg_judges_what_it_hears_and_tells_its_peer() {
    let mut bench = Bench::new(LegConfig { rtcp_xr: true, ..config(LegMode::Talk) });
    for n in 0..600_u32 {
        if n % 20 != 3 {
            bench.hear_sound(n, 0x10);
        }
        bench.pass(20 * MS);
    }
    let stats = bench.leg.stats();
    assert!((250..430).contains(&stats.mos_in), "5 % lost: {stats:?}");
    let reports = bench.sent.packets.iter().filter(|(_, channel, ..)| *channel == Channel::Rtcp);
    let metrics: Vec<VoipMetrics> = reports
        .flat_map(|(.., bytes)| Compound::parse(bytes).unwrap().packets().collect::<Vec<_>>())
        .filter_map(|packet| match packet {
            Packet::Other { kind: XR, body, .. } => VoipMetrics::find(body),
            _ => None,
        })
        .collect();
    let last = metrics.last().unwrap();
    assert!((10..=15).contains(&last.loss_rate) && last.mos_cq.is_some() && last.gap_density > 0, "{last:?}");
    // And the peer tells what it hears of us.
    let told = VoipMetrics { ssrc: bench.leg.outbound.ssrc(), mos_cq: Some(37), ..VoipMetrics::default() };
    let peer = RtcpConfig {
        ssrc: 5,
        cname: "peer".into(),
        seed: 1,
        bandwidth_bps: 64_000,
        minimum_interval: MS,
        ntp_at_start: NtpTime::from_unix(Duration::from_secs(1)),
    };
    let mut peer = RtcpSession::new(bench.now, peer);
    let mut bytes = [0; 500];
    let size = peer.goodbye(bench.now, &SenderCounts::default(), None, "", &mut bytes).unwrap();
    let size = peer.extend(&told, size, &mut bytes);
    bench.leg.receive_rtcp(bench.now, &bytes[..size], "192.0.2.7:4001".parse().unwrap(), &mut bench.scratch);
    bench.pass(200 * MS);
    assert_eq!(bench.leg.stats().mos_out, 370);
}

/// A million packets that nobody with the keys made, from the peer's own address and others, between those of the peer: none is
/// taken, none of the peer's is lost.
#[test]
fn a_flood_of_packets_under_other_keys_changes_nothing() {
    let master = |from: u8| MasterKey::new(Suite::AeadAes128Gcm, &[from; 28]).unwrap();
    let pair = KeyPair { send: master(1), receive: master(2) };
    let mut bench = Bench::new(LegConfig { security: Security::Sdes(Arc::new(pair)), ..with_dtmf(LegMode::Talk) });
    let (mut peer, mut forger) = (Sender::new(&master(2)), Sender::new(&master(3)));
    let seal = |sender: &mut Sender, plain: &[u8]| {
        let mut buffer = plain.to_vec();
        buffer.resize(plain.len() + 16, 0);
        let len = sender.protect(&mut buffer, plain.len()).unwrap();
        buffer.truncate(len);
        buffer
    };
    const ROUNDS: u32 = 1_000;
    for n in 0..ROUNDS {
        let genuine = seal(&mut peer, &sound(n, 0, &[0x10; 160]));
        for k in 0..1_000_u32 {
            let from: SocketAddr =
                if k % 2 == 0 { PEER.parse().unwrap() } else { "198.51.100.9:4000".parse().unwrap() };
            let mut forged = match k % 4 {
                0 => seal(&mut forger, &sound(n + k, 0, &[0x80; 40])),
                1 => seal(&mut forger, &packet(n + k, 101, 0, true, &[5, 0x8a, 1, 0x40])),
                2 => genuine.clone(),
                _ => sound(n + k, 0, &[0x80; 40]),
            };
            let at = forged.len() - 1 - (k % 16) as usize;
            forged[at] ^= 0x55;
            bench.leg.receive(bench.now, &forged, from, &mut bench.scratch);
        }
        bench.hear(&genuine);
        bench.pass(20 * MS);
        while bench.ends.ear.as_mut().unwrap().try_pop().is_some() {}
    }
    let stats = bench.leg.stats();
    assert_eq!((stats.packets_in, stats.bad_tags), (u64::from(ROUNDS), u64::from(ROUNDS) * 1_000), "{stats:?}");
    assert_eq!((stats.lost, stats.digits_in, stats.not_the_peer), (0, 0, 0), "{stats:?}");
}

/// Conforms: RFC 6464 §3 — the level is told from when it is agreed on, in a header extension that SRTP leaves in the clear
#[test]
fn a_packets_level_is_told_as_agreed() {
    let master = |from: u8| MasterKey::new(Suite::AeadAes128Gcm, &[from; 28]).unwrap();
    let security = Security::Sdes(Arc::new(KeyPair { send: master(1), receive: master(2) }));
    let plain = LegConfig { security, ..config(LegMode::Talk) };
    let mut bench = Bench::new(plain.clone());
    // The first frame is due at once.
    bench.say(&[1_036; 4 * 160]);
    bench.pass(60 * MS);
    bench.retune(LegConfig { levels: LevelFormat { send: Some(3), ..LevelFormat::default() }, ..plain });
    bench.say(&[1_036; 3 * 160]);
    bench.pass(60 * MS);
    let mut receiver = Receiver::new(&master(1));
    let sent: Vec<_> = bench.sent.packets.iter().filter(|(_, channel, ..)| *channel == Channel::Rtp).collect();
    assert_eq!(sent.len(), 7);
    for (n, (.., bytes)) in sent.into_iter().enumerate() {
        let sealed = RtpPacket::parse(bytes).unwrap();
        assert_eq!(sealed.extension.and_then(|extension| extension.level(3)), (n > 3).then_some(30), "packet {n}");
        let mut clear = [0; 500];
        let size = receiver.unprotect(bytes, &mut clear).unwrap();
        let opened = RtpPacket::parse(&clear[..size]).unwrap();
        assert_eq!((opened.extension, opened.payload), (sealed.extension, &[Law::Mu.compress(1_036); 160][..]));
    }
    assert_eq!(bench.leg.stats().bytes_out, 7 * 160, "of payload");
}

/// A peer that did not agree to events presses keys as tones; one that did is not listened to for them, or each would be told twice.
#[test]
fn keys_that_are_tones_are_told_where_there_are_no_events() {
    for (config, expected) in [(config(LegMode::Talk), "7#"), (with_dtmf(LegMode::Talk), "")] {
        let mut bench = Bench::new(config);
        let wave = |n: usize, hz: f64| (5_000.0 * (std::f64::consts::TAU * hz * n as f64 / 8_000.0).sin()) as i16;
        let (mut digits, mut began) = (String::new(), Vec::new());
        for n in 0..40_u32 {
            let tones = match n {
                5..=9 => Some((852.0, 1_209.0)),
                20..=24 => Some((941.0, 1_477.0)),
                _ => None,
            };
            let at = n as usize * 160;
            let payload: Vec<u8> = (at..at + 160)
                .map(|n| Law::Mu.compress(tones.map_or(0, |(low, high)| wave(n, low) + wave(n, high))))
                .collect();
            bench.hear(&sound(n, 0, &payload));
            bench.pass(20 * MS);
            while let Some(notice) = bench.ends.notices.try_pop() {
                if let Notice::Digit { digit, at_samples, .. } = notice {
                    digits.push(digit);
                    began.push(at_samples);
                }
            }
        }
        assert_eq!(digits, expected);
        for (at, packet) in began.into_iter().zip([5_u64, 20]) {
            assert!(at.abs_diff(packet * 160) < 330, "{at} for packet {packet}");
        }
    }
}

/// The peer sends back what it gets, 100 ms later; some of its packets come late, two at once.
#[test]
fn what_was_sent_lies_beside_its_echo_at_one_distance() {
    let mut bench = Bench::new(config(LegMode::Talk));
    let (mut heard, mut beside) = (Vec::new(), Vec::new());
    let mut random = 5_u32;
    for n in 0..150_u32 {
        let said: Vec<i16> = (0..160)
            .map(|_| {
                random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                (random >> 18) as i16 - 8_000
            })
            .collect();
        bench.say(&said);
        bench.pass(20 * MS);
        let echo = |bench: &Bench, n: u32| n.checked_sub(5).and_then(|n| bench.rtp().get(n as usize).cloned());
        let due = if n > 20 && n % 10 == 3 {
            n..n
        } else if n > 20 && n % 10 == 4 {
            n - 1..n + 1
        } else {
            n..n + 1
        };
        for n in due {
            let payload = echo(&bench, n).map_or(vec![0xff; 160], |seen| seen.payload);
            bench.hear(&sound(n, 0, &payload));
        }
        for frame in bench.ear() {
            heard.extend_from_slice(frame.samples());
            beside.extend_from_slice(frame.sent());
        }
    }
    let coded: Vec<i16> = beside.iter().map(|sample| Law::Mu.expand(Law::Mu.compress(*sample))).collect();
    let from = 40 * 160;
    let distance = (0..2_000).find(|lag| heard[from..from + 800] == coded[from - lag..from + 800 - lag]);
    let distance = distance.expect("the echo is what was sent before");
    assert_eq!(heard[from..], coded[from - distance..coded.len() - distance], "{distance} samples");
    assert!((400..=960).contains(&distance), "{distance} samples");
}
