//! The jitter buffer's playout: steady sound behind a delay that follows the network.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::time::{Duration, Instant};

use common::{Netem, Path, Talker, ms, number, seeds};
use media::jitter::{Heard, JitterBuffer, JitterConfig, Played};
use media::rtp::RtpPacket;

fn playout_config() -> JitterConfig {
    JitterConfig { ear: false, ..JitterConfig::new(8_000, 20, 160) }
}

#[derive(Debug, Clone, Copy, PartialEq)]
enum Out {
    Packet(u32),
    Lost,
    Hold,
    Silence,
}

/// A listener that asks every 20 ms, and a talker whose clock may run fast or slow.
struct Call {
    start: Instant,
    buffer: JitterBuffer,
    net: Netem,
    talker: Talker,
    spacing: Duration,
    quiet: bool,
    sent: u32,
    out: Vec<(Instant, Out)>,
    /// Of each packet played: from sending to playing.
    delays_ms: Vec<f64>,
    sent_at: Vec<Instant>,
}

impl Call {
    fn new(seed: u64, path: Path) -> Call {
        let start = Instant::now();
        Call {
            start,
            buffer: JitterBuffer::new(start, &playout_config()),
            net: Netem::new(seed, path),
            talker: Talker::new(7, 65_000, u32::MAX - 50_000),
            spacing: ms(20),
            quiet: false,
            sent: 0,
            out: Vec::new(),
            delays_ms: Vec::new(),
            sent_at: Vec::new(),
        }
    }

    fn send(&mut self, now: Instant) {
        self.net.send(now, &self.talker.packet());
        self.sent_at.push(now);
        self.sent += 1;
    }

    /// Listens at the n-th 20 ms; what arrives in between is pushed when it does.
    fn listen(&mut self, n: u32) {
        let now = self.start + ms(20) * n + ms(7);
        while let Some((at, bytes)) = self.net.receive(now) {
            self.buffer.push(at, &RtpPacket::parse(&bytes).unwrap(), 160);
        }
        let out = match self.buffer.playout(now, self.quiet) {
            Played::Packet(frame) => {
                let number = number(frame.payload);
                let delay = now - self.sent_at[number as usize];
                self.delays_ms.push(delay.as_secs_f64() * 1_000.0);
                Out::Packet(number)
            }
            Played::Lost(loss) => {
                assert_eq!(loss.ticks, 160);
                Out::Lost
            }
            Played::Hold { ticks } => {
                assert_eq!(ticks, 160);
                Out::Hold
            }
            Played::Silence { .. } => Out::Silence,
        };
        self.out.push((now, out));
    }

    /// Talks and listens for `count` frames.
    fn run(&mut self, count: u32) {
        let first = self.out.len() as u32;
        for n in first..first + count {
            let now = self.start + ms(20) * n + ms(7);
            let mut due = self.start + self.spacing * self.sent;
            while due <= now {
                self.send(due);
                due = self.start + self.spacing * self.sent;
            }
            self.listen(n);
        }
    }

    fn count(&self, wanted: Out) -> usize {
        self.out.iter().filter(|(_, out)| *out == wanted).count()
    }

    fn packets(&self) -> Vec<u32> {
        self.out.iter().filter_map(|(_, out)| if let Out::Packet(n) = out { Some(*n) } else { None }).collect()
    }

    fn mean_delay_ms(&self, last: usize) -> f64 {
        let delays = &self.delays_ms[self.delays_ms.len().saturating_sub(last)..];
        delays.iter().sum::<f64>() / delays.len() as f64
    }
}

#[test]
fn plays_every_packet_of_a_clean_network_in_turn_with_little_delay() {
    let mut call = Call::new(1, Path::clean());
    call.run(1_000);
    let packets = call.packets();
    assert!(packets.is_sorted_by(|a, b| a + 1 == *b), "a packet was left out");
    assert!(packets.len() > 990);
    assert_eq!(call.count(Out::Lost) + call.count(Out::Hold), 0);
    // 20 ms of the network, and no more than the least delay and one frame here
    assert!(call.mean_delay_ms(500) <= 20.0 + 30.0, "{} ms", call.mean_delay_ms(500));
}

#[test]
fn conceals_each_lost_packet_once_and_keeps_the_pace() {
    for seed in seeds(20) {
        let mut call = Call::new(seed, Path { loss: 0.05, jitter: ms(2), ..Path::clean() });
        call.run(2_000);
        let packets = call.packets();
        assert!(packets.is_sorted_by(|a, b| a < b), "seed {seed}");
        let stats = call.buffer.stats();
        let concealed = call.count(Out::Lost) + call.count(Out::Hold);
        let missing = call.net.lost as usize;
        // the delay may have grown or shrunk by a few frames, no more
        let tolerance = 6;
        assert!(concealed.abs_diff(missing) <= tolerance, "seed {seed}: {concealed} for {missing} lost, {stats:?}");
        assert!(packets.len() + missing + tolerance >= 1_990, "seed {seed}: {} played, {stats:?}", packets.len());
    }
}

#[test]
fn delay_follows_the_jitter_up_and_down() {
    let mut call = Call::new(5, Path { jitter: ms(1), ..Path::clean() });
    call.run(500);
    let calm = call.mean_delay_ms(200);
    call.net.path(Path { jitter: ms(25), ..Path::clean() });
    call.run(1_500);
    let rough = call.mean_delay_ms(500);
    let lost_before = call.buffer.stats().late;
    call.run(2_000);
    let late = call.buffer.stats().late - lost_before;
    call.net.path(Path { jitter: ms(1), ..Path::clean() });
    call.quiet = true;
    call.run(1_500);
    let calm_again = call.mean_delay_ms(200);
    println!("calm {calm:.1} ms, rough {rough:.1} ms with {late} late of 2,000, calm again {calm_again:.1} ms");
    assert!(rough > calm + 30.0);
    assert!(late < 100, "{late} of 2,000 came too late");
    assert!(calm_again < calm + 25.0);
}

#[test]
fn never_holds_back_longer_than_its_bound() {
    for seed in seeds(10) {
        let path = Path { jitter: ms(300), ..Path::clean() };
        let mut call = Call::new(seed, path);
        call.run(1_000);
        assert!(call.buffer.playout_target() <= ms(200));
    }
}

#[test]
fn a_network_that_stalls_and_bursts_is_caught_up_with() {
    let mut call = Call::new(5, Path::clean());
    call.run(200);
    let before = call.mean_delay_ms(50);
    // everything sent within 400 ms arrives at once
    let resume = call.out.len() as u32 + 20;
    for n in call.out.len() as u32..resume {
        call.listen(n);
    }
    call.quiet = true;
    call.run(300);
    let after = call.mean_delay_ms(50);
    println!("{before:.1} ms before, {after:.1} ms after, {:?}", call.buffer.stats());
    assert!(after < before + 45.0, "{before} ms before the stall, {after} ms after");
}

#[test]
fn absorbs_clocks_that_differ_by_two_hundred_parts_in_a_million() {
    for spacing_ns in [19_996_000, 20_004_000] {
        let mut call = Call::new(9, Path { jitter: ms(2), ..Path::clean() });
        call.spacing = Duration::from_nanos(spacing_ns);
        // half an hour: 18 frames too many or too few
        for n in 0..90_000u32 {
            call.quiet = n % 100 < 30;
            call.run(1);
        }
        let stats = call.buffer.stats();
        let delay_ms = call.mean_delay_ms(1_000);
        println!("{spacing_ns} ns: {delay_ms:.1} ms, {stats:?}");
        assert!(delay_ms < 80.0, "the delay ran away: {delay_ms} ms");
        assert!(call.count(Out::Silence) < 60 && call.count(Out::Hold) < 60, "{stats:?}");
        assert_eq!(stats.overflowed, 0);
        assert_eq!(stats.resyncs, 0);
    }
}

#[test]
fn silence_without_packets_is_played_as_silence_and_sound_resumes_on_time() {
    let mut call = Call::new(1, Path::clean());
    call.run(100);
    let delay = call.mean_delay_ms(50);
    for pause in 1..20u32 {
        // the talker is silent for a while: its clock runs on
        let silent = 10 + pause * 3;
        call.talker.pause(160 * silent);
        let first = call.out.len() as u32;
        for n in first..first + silent {
            call.listen(n);
        }
        call.sent += silent;
        call.sent_at.extend((0..silent).map(|_| call.start));
        call.talker.number += silent;
        call.run(50);
        let late = call.mean_delay_ms(20);
        assert!((late - delay).abs() <= 21.0, "{delay} ms at first, {late} ms after {pause} pauses");
    }
    assert_eq!(call.count(Out::Lost), 0);
    assert_eq!(call.buffer.stats().playout_lost, 0);
}

#[test]
fn a_hundred_milliseconds_are_concealed_when_the_peer_vanishes_and_then_there_is_silence() {
    let mut call = Call::new(1, Path::clean());
    call.run(100);
    let first = call.out.len() as u32;
    for n in first..first + 100 {
        call.listen(n);
    }
    let holds = call.count(Out::Hold);
    assert_eq!(holds, 5);
    assert!(call.out[call.out.len() - 80..].iter().all(|(_, out)| *out == Out::Silence));
}

#[test]
fn a_new_source_is_played_behind_what_the_former_left() {
    let mut call = Call::new(1, Path { jitter: ms(10), ..Path::clean() });
    call.run(100);
    let left = call.talker.number;
    call.talker = Talker { number: left, ..Talker::new(99, 3, 17) };
    call.run(100);
    let packets = call.packets();
    assert!(packets.is_sorted_by(|a, b| a < b));
    let missing = *packets.last().unwrap() as usize + 1 - packets.len();
    assert!(missing <= 3, "{missing} packets were dropped at the change");
    assert_eq!(call.buffer.stats().resyncs, 1);
}

#[test]
fn packets_of_another_size_than_agreed_are_played() {
    let start = Instant::now();
    let mut buffer = JitterBuffer::new(start, &playout_config());
    // 30 ms packets, asked for in 20 ms frames by what is left to play
    let mut talker = Talker { ticks: 240, payload_bytes: 240, ..Talker::new(7, 1, 1) };
    let (mut left, mut played, mut concealed) = (0i64, 0, 0);
    let mut sent = 0;
    for n in 0..500u32 {
        let now = start + ms(20) * n;
        while start + ms(30) * sent <= now {
            buffer.push(start + ms(30) * sent, &RtpPacket::parse(&talker.packet()).unwrap(), 240);
            sent += 1;
        }
        while left < 160 {
            left += match buffer.playout(now, false) {
                Played::Packet(frame) => {
                    played += 1;
                    i64::from(frame.ticks)
                }
                Played::Lost(loss) => i64::from(loss.ticks),
                Played::Hold { ticks } => {
                    concealed += 1;
                    i64::from(ticks)
                }
                Played::Silence { ticks } => i64::from(ticks),
            };
        }
        left -= 160;
    }
    assert!(played >= sent - 3, "{played} of {sent}");
    assert!(concealed <= 2, "{concealed}");
}

#[test]
fn both_readers_get_every_packet_of_one_store() {
    for seed in seeds(10) {
        let start = Instant::now();
        let mut buffer = JitterBuffer::new(start, &JitterConfig::new(8_000, 20, 160));
        let mut net = Netem::new(seed, Path { jitter: ms(5), duplicate: 0.1, ..Path::clean() });
        let mut talker = Talker::new(7, 1, 1);
        let (mut heard, mut played) = (Vec::new(), Vec::new());
        for n in 0..600u32 {
            let now = start + ms(20) * n;
            if n < 500 {
                net.send(now, &talker.packet());
            }
            while let Some((at, bytes)) = net.receive(now) {
                buffer.push(at, &RtpPacket::parse(&bytes).unwrap(), 160);
                while let Some(Heard::Packet(frame)) = buffer.ear(at) {
                    heard.push(number(frame.payload));
                }
            }
            if let Played::Packet(frame) = buffer.playout(now, false) {
                played.push(number(frame.payload));
            }
        }
        assert_eq!(heard, (0..500).collect::<Vec<_>>(), "seed {seed}");
        assert!(played.len() >= 490, "seed {seed}: {} played, {:?}", played.len(), buffer.stats());
        assert!(played.is_sorted_by(|a, b| a < b), "seed {seed}");
    }
}

#[test]
fn a_listener_that_was_away_goes_on_with_the_newest() {
    let start = Instant::now();
    let mut buffer = JitterBuffer::new(start, &playout_config());
    let mut talker = Talker::new(7, 1, 1);
    for n in 0..5_000u32 {
        buffer.push(start + ms(20) * n, &RtpPacket::parse(&talker.packet()).unwrap(), 160);
    }
    let now = start + ms(20) * 5_000;
    let Played::Packet(frame) = buffer.playout(now, false) else { panic!("nothing played") };
    assert!(number(frame.payload) > 4_980, "{} of 5,000", number(frame.payload));
}
