//! The jitter buffer's playout: steady sound behind a delay that follows the network.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::time::{Duration, Instant};

use codecs::stretch::Haste;
use common::{Netem, Path, Talker, ms, number, seeds};
use media::jitter::{Asked, Heard, JitterBuffer, JitterConfig, JitterStats, Pace, Played};
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

/// A pitch period of the talker's: what is played is made longer or shorter by as much.
const PERIOD_TICKS: i64 = 64;
/// A frame, in ticks.
const FRAME: i64 = 160;

/// Asks for a frame with nothing in hand.
const WHOLE: Asked = Asked { frame_ticks: FRAME as u32, ahead_ticks: 0 };

/// A listener that plays 20 ms at a time, and a talker whose clock may run fast or slow.
struct Call {
    start: Instant,
    buffer: JitterBuffer,
    net: Netem,
    talker: Talker,
    spacing: Duration,
    /// Packets that carry 20 ms unless told otherwise.
    packet_ticks: i64,
    sent: u32,
    /// Frames played.
    frames: u32,
    /// Ticks that wait to be played.
    waits: i64,
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
            packet_ticks: FRAME,
            sent: 0,
            frames: 0,
            waits: 0,
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

    /// Plays the next 20 ms; what arrived in between is pushed when it did.
    fn listen(&mut self) {
        let now = self.start + ms(20) * self.frames + ms(7);
        while let Some((at, bytes)) = self.net.receive(now) {
            self.buffer.push(at, &RtpPacket::parse(&bytes).unwrap(), self.packet_ticks as u32);
        }
        while self.waits < FRAME {
            self.ask(now);
        }
        self.waits -= FRAME;
        self.frames += 1;
    }

    /// Takes one answer.
    fn ask(&mut self, now: Instant) {
        let asked = Asked { frame_ticks: FRAME as u32, ahead_ticks: self.waits as u32 };
        let (out, ticks) = match self.buffer.playout(now, asked) {
            Played::Packet(frame, pace) => {
                let number = number(frame.payload);
                let played_at = now + Duration::from_micros(self.waits as u64 * 125);
                let delay = played_at.saturating_duration_since(self.sent_at[number as usize]);
                self.delays_ms.push(delay.as_secs_f64() * 1_000.0);
                // nobody is ever quiet here
                let by = match pace {
                    Pace::Even
                    | Pace::Longer { haste: Haste::OnlyInQuiet }
                    | Pace::Shorter { haste: Haste::OnlyInQuiet, .. } => 0,
                    Pace::Longer { .. } => PERIOD_TICKS,
                    Pace::Shorter { most_ticks, .. } => -PERIOD_TICKS.min(i64::from(most_ticks)),
                };
                if by != 0 {
                    self.buffer.stretched(now, by as i32);
                }
                (Out::Packet(number), self.packet_ticks + by)
            }
            Played::Lost(loss) => (Out::Lost, i64::from(loss.ticks)),
            Played::Hold { ticks } => (Out::Hold, i64::from(ticks)),
            Played::Silence { ticks } => (Out::Silence, i64::from(ticks)),
        };
        self.waits += ticks;
        self.out.push((now, out));
    }

    /// Talks and listens for `count` frames.
    fn run(&mut self, count: u32) {
        for _ in 0..count {
            let now = self.start + ms(20) * self.frames + ms(7);
            let mut due = self.start + self.spacing * self.sent;
            while due <= now {
                self.send(due);
                due = self.start + self.spacing * self.sent;
            }
            self.listen();
        }
    }

    /// Listens for `count` frames while nobody talks.
    fn wait(&mut self, count: u32) {
        for _ in 0..count {
            self.listen();
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
    call.run(1_500);
    let calm_again = call.mean_delay_ms(200);
    println!("calm {calm:.1} ms, rough {rough:.1} ms with {late} late of 2,000, calm again {calm_again:.1} ms");
    assert!(rough > calm + 30.0);
    assert!(late < 100, "{late} of 2,000 came too late");
    assert!(calm_again < calm + 25.0);
}

#[test]
fn a_network_that_stays_as_it_is_moves_the_delay_little_and_one_that_gets_worse_soon() {
    let (mut stretched_ms, mut late, mut late_at_first) = (0, 0, 0);
    for seed in seeds(10) {
        let mut call = Call::new(seed, Path { jitter: ms(20), ..Path::clean() });
        call.run(500);
        let before = call.buffer.stats();
        call.run(2_000);
        let stats = call.buffer.stats();
        let stretched = |stats: &JitterStats| (stats.longer_ticks + stats.shorter_ticks) / 8;
        stretched_ms += stretched(&stats) - stretched(&before);
        late += stats.late - before.late;
        call.net.path(Path { jitter: ms(60), ..Path::clean() });
        call.run(250);
        late_at_first += call.buffer.stats().late - stats.late;
    }
    println!(
        "{stretched_ms} ms of 400,000 stretched, {late} of 20,000 late; {late_at_first} of 2,500 as it gets worse"
    );
    assert!(stretched_ms <= 300 && late <= 300 && late_at_first <= 220);
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
    call.wait(20);
    call.run(300);
    let after = call.mean_delay_ms(50);
    println!("{before:.1} ms before, {after:.1} ms after, {:?}", call.buffer.stats());
    assert!(after < before + 45.0, "{before} ms before the stall, {after} ms after");
}

/// An hour of somebody who speaks without a pause by a clock that is fast by so many parts in a million; the longest mean delay of any ten seconds.
fn an_hour(ppm: i32, jitter_ms: u64) -> (Call, f64) {
    let mut call = Call::new(9, Path { jitter: ms(jitter_ms), ..Path::clean() });
    call.spacing = Duration::from_nanos((20_000_000 - 20 * ppm) as u64);
    let mut longest_ms = 0.0_f64;
    for _ in 0..360 {
        call.run(500);
        longest_ms = longest_ms.max(call.mean_delay_ms(500));
    }
    (call, longest_ms)
}

#[test]
fn an_hour_of_clocks_that_differ_is_absorbed_while_somebody_speaks_without_a_pause() {
    // how many in 10,000 the jitter alone makes come too late, at the least delay that playout aims at
    for (jitter_ms, late) in [(0, 0), (2, 1), (12, 400)] {
        let (_, even_ms) = an_hour(0, jitter_ms);
        for ppm in [200, -200, 50, -50] {
            let (call, longest_ms) = an_hour(ppm, jitter_ms);
            let stats = call.buffer.stats();
            let packets = call.packets();
            let found = call.count(Out::Hold) + call.count(Out::Lost);
            println!("{ppm} ppm, {jitter_ms} ms: {longest_ms:.0} ms ({even_ms:.0}), {found} concealed, {stats:?}");
            assert!(packets.is_sorted_by(|a, b| a < b));
            assert_eq!((stats.skipped, stats.overflowed, stats.resyncs), (0, 0, 0), "{ppm} ppm: {stats:?}");
            assert!(longest_ms < even_ms + 25.0, "{ppm} ppm: {longest_ms:.1} ms, {even_ms:.1} ms where clocks agree");
            assert!(found <= packets.len() * late / 10_000, "{ppm} ppm, {jitter_ms} ms: {found} concealed");
            let missing = *packets.last().unwrap() as usize + 1 - packets.len();
            assert!(missing <= found, "{ppm} ppm: {missing} packets of {} not played", call.sent);
            if jitter_ms == 0 {
                assert_eq!((found, missing), (0, 0), "{ppm} ppm: {stats:?}");
                let moved_ms = (stats.longer_ticks as f64 - stats.shorter_ticks as f64) / 8.0;
                let drifted_ms = -f64::from(ppm) * 3.6;
                assert!(
                    (moved_ms - drifted_ms).abs() <= 40.0,
                    "{ppm} ppm: stretched by {moved_ms:.0} ms of {drifted_ms:.0}"
                );
            }
        }
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
        call.wait(silent);
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
    call.wait(100);
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
fn a_leap_of_sequence_or_timestamp_is_played_behind_what_was_there() {
    for (seq_leap, timestamp_leap) in [(20_000, 0), (60_000, 0), (0, 3_000_000_000), (20_000, 3_000_000_000)] {
        let mut call = Call::new(1, Path { jitter: ms(3), ..Path::clean() });
        call.run(100);
        call.talker.header.seq = call.talker.header.seq.plus(seq_leap);
        call.talker.header.timestamp = call.talker.header.timestamp.plus(timestamp_leap);
        call.run(100);
        let packets = call.packets();
        assert!(packets.is_sorted_by(|a, b| a < b), "{seq_leap}, {timestamp_leap}");
        let missing = *packets.last().unwrap() as usize + 1 - packets.len();
        assert!(missing <= 3, "{seq_leap}, {timestamp_leap}: {missing} packets were dropped at the leap");
        assert_eq!(call.buffer.stats().resyncs, 1, "{seq_leap}, {timestamp_leap}");
        let unheard = call.count(Out::Hold) + call.count(Out::Lost) + call.count(Out::Silence);
        assert!(unheard <= 8, "{seq_leap}, {timestamp_leap}: {unheard} frames of nothing, {:?}", call.buffer.stats());
    }
}

#[test]
fn copies_and_packets_out_of_order_are_played_once_and_in_order() {
    for seed in seeds(10) {
        let path = Path { duplicate: 0.2, reorder: 0.1, jitter: ms(2), ..Path::clean() };
        let mut call = Call::new(seed, path);
        call.run(1_000);
        let before = call.count(Out::Lost) + call.count(Out::Hold);
        call.run(2_000);
        let packets = call.packets();
        let stats = call.buffer.stats();
        assert!(packets.is_sorted_by(|a, b| a < b), "seed {seed}");
        // those on their way have not come yet
        let copies = call.net.duplicated - stats.duplicates;
        assert!(copies <= 4 && stats.reordered > 100, "seed {seed}: {stats:?}");
        // once the delay has grown by the detour, nothing is late
        let concealed = call.count(Out::Lost) + call.count(Out::Hold) - before;
        assert!(concealed <= 20, "seed {seed}: {concealed} of 2,000 concealed, {stats:?}");
    }
}

#[test]
fn packets_of_another_size_than_agreed_are_played_without_haste_or_delay() {
    for packet_ms in [10, 30, 40, 60] {
        let mut call = Call::new(1, Path { jitter: ms(1), ..Path::clean() });
        call.spacing = ms(packet_ms);
        call.packet_ticks = packet_ms as i64 * 8;
        call.talker.ticks = packet_ms as u32 * 8;
        call.talker.payload_bytes = packet_ms as usize * 8;
        call.run(2_000);
        let packets = call.packets();
        assert!(packets.len() as u32 >= call.sent - 20, "{packet_ms} ms: {} of {}", packets.len(), call.sent);
        let concealed = call.count(Out::Hold) + call.count(Out::Lost);
        let stats = call.buffer.stats();
        assert!(concealed <= 20, "{packet_ms} ms: {concealed} concealed, {stats:?}");
        let stretched_ms = (stats.longer_ticks + stats.shorter_ticks) / 8;
        assert!(stretched_ms <= 120, "{packet_ms} ms: {stretched_ms} ms of 40,000 stretched");
        let delay_ms = call.mean_delay_ms(200);
        assert!(delay_ms <= 20.0 + 20.0 + 20.0 + 10.0, "{packet_ms} ms: {delay_ms:.1} ms");
    }
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
            if let Played::Packet(frame, _) = buffer.playout(now, WHOLE) {
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
    let Played::Packet(frame, _) = buffer.playout(now, WHOLE) else { panic!("nothing played") };
    assert!(number(frame.payload) > 4_980, "{} of 5,000", number(frame.payload));
}
