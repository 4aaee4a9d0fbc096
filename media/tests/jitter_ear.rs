//! The jitter buffer's ear: each packet at once, in order, and a bounded wait for what is missing.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::time::{Duration, Instant};

use common::{Netem, Path, Talker, ms, number, seeds};
use media::jitter::{Heard, JitterBuffer, JitterConfig, Pushed};
use media::rtp::RtpPacket;

/// What an ear has handed over: the time, and the packet's number or `None` for a loss.
type Log = Vec<(Instant, Option<u32>, u64)>;

fn ear_config() -> JitterConfig {
    JitterConfig { playout: false, ..JitterConfig::new(8_000, 20, 160) }
}

fn push(buffer: &mut JitterBuffer, now: Instant, bytes: &[u8], ticks: u32) -> Pushed {
    buffer.push(now, &RtpPacket::parse(bytes).unwrap(), ticks)
}

fn drain(buffer: &mut JitterBuffer, now: Instant, log: &mut Log) {
    while let Some(heard) = buffer.ear(now) {
        log.push(match heard {
            Heard::Packet(frame) => (now, Some(number(frame.payload)), frame.position),
            Heard::Lost(loss) => (now, None, loss.position),
        });
    }
}

/// Sends `count` packets over `path`, and listens as a worker would.
fn listen(seed: u64, path: Path, count: u32) -> (Log, JitterBuffer, Netem) {
    let start = Instant::now();
    let mut buffer = JitterBuffer::new(start, &ear_config());
    let mut net = Netem::new(seed, path);
    let mut talker = Talker::new(7, 65_500, u32::MAX - 800);
    let mut log = Log::new();
    let mut now = start;
    let end = start + ms(20) * count + ms(500);
    let mut sent = 0;
    while now < end {
        let send_at = start + ms(20) * sent;
        let next = [Some(send_at).filter(|_| sent < count), net.next_arrival(), buffer.ear_wake(now)];
        let Some(next) = next.into_iter().flatten().min() else { break };
        now = next.max(now);
        if sent < count && send_at <= now {
            net.send(now, &talker.packet());
            sent += 1;
        }
        while let Some((_, bytes)) = net.receive(now) {
            push(&mut buffer, now, &bytes, 160);
        }
        drain(&mut buffer, now, &mut log);
    }
    (log, buffer, net)
}

#[test]
fn hands_over_each_packet_the_moment_it_arrives() {
    let (log, buffer, _) = listen(1, Path::clean(), 200);
    assert_eq!(log.len(), 200);
    let first = log[0].0;
    for (n, (at, heard, position)) in (0u32..).zip(&log) {
        assert_eq!(*heard, Some(n));
        assert_eq!(*at - first, ms(20) * n, "packet {n} waited");
        assert_eq!(*position, u64::from(n) * 160);
    }
    assert_eq!(buffer.stats().ear_lost, 0);
    assert_eq!(buffer.stats().resyncs, 0, "wrapping sequence and timestamp are no new beginning");
}

#[test]
fn hands_over_everything_once_and_in_order_on_any_network() {
    for seed in seeds(40) {
        let path = Path {
            jitter: ms(seed % 30),
            loss: (seed % 4) as f64 * 0.05,
            burst: 1.0 + (seed % 3) as f64,
            duplicate: 0.05,
            reorder: 0.05,
            ..Path::clean()
        };
        let (log, buffer, net) = listen(seed, path, 1_000);
        let heard: Vec<u32> = log.iter().filter_map(|(_, heard, _)| *heard).collect();
        assert!(heard.is_sorted_by(|a, b| a < b), "seed {seed}: out of order or twice");
        let lost = log.iter().filter(|(_, heard, _)| heard.is_none()).count() as u64;
        let stats = buffer.stats();
        assert_eq!(lost, stats.ear_lost, "seed {seed}");
        // each packet between the first and the last is heard or lost
        let span = u64::from(heard.last().unwrap() - heard[0] + 1);
        assert_eq!(heard.len() as u64 + lost, span, "seed {seed}: {stats:?}");
        assert_eq!(1_000, heard.len() as u64 + net.lost + stats.late, "seed {seed}: {stats:?}");
        assert_eq!(stats.overflowed, 0, "seed {seed}: {stats:?}");
        let positions: Vec<u64> = log.iter().map(|(_, _, position)| *position).collect();
        assert!(positions.is_sorted(), "seed {seed}: the timeline went back");
    }
}

#[test]
fn waits_for_a_late_packet_no_longer_than_sixty_milliseconds_and_ten_where_the_network_is_calm() {
    let start = Instant::now();
    let mut buffer = JitterBuffer::new(start, &ear_config());
    let mut talker = Talker::new(7, 100, 0);
    let mut log = Log::new();
    for n in 0..50 {
        let bytes = talker.packet();
        let now = start + ms(20) * n;
        if n == 40 {
            continue;
        }
        push(&mut buffer, now, &bytes, 160);
        drain(&mut buffer, now, &mut log);
        if n == 41 {
            assert_eq!(log.len(), 40, "41 is not handed over before 40 is given up");
            assert_eq!(buffer.ear_wake(now), Some(now + ms(10)));
            drain(&mut buffer, now + Duration::from_micros(9_999), &mut log);
            assert_eq!(log.len(), 40);
            drain(&mut buffer, now + ms(10), &mut log);
            assert_eq!(log[40].1, None);
            assert_eq!(log[41].1, Some(41));
        }
    }
    for seed in seeds(10) {
        let path = Path { jitter: ms(80), loss: 0.05, ..Path::clean() };
        let mut buffer = JitterBuffer::new(start, &ear_config());
        let mut net = Netem::new(seed, path);
        let mut talker = Talker::new(7, 100, 0);
        for n in 0..500 {
            net.send(start + ms(20) * n, &talker.packet());
        }
        let mut log = Log::new();
        while let Some(now) = net.next_arrival() {
            let (_, bytes) = net.receive(now).unwrap();
            push(&mut buffer, now, &bytes, 160);
            drain(&mut buffer, now, &mut log);
            if let Some(wake) = buffer.ear_wake(now) {
                assert!(wake <= now + ms(60), "seed {seed}");
            }
        }
    }
}

#[test]
fn learns_to_wait_for_a_network_that_reorders() {
    // every tenth packet comes 45 ms late: behind the second after it, too late for a patience of 10 ms
    let path = Path { reorder: 0.1, reorder_by: ms(45), ..Path::clean() };
    let (log, buffer, _) = listen(3, path, 2_000);
    let lost_early = log.iter().take(200).filter(|(_, heard, _)| heard.is_none()).count();
    let lost_later = log.iter().skip(200).filter(|(_, heard, _)| heard.is_none()).count();
    assert!(
        lost_later <= 2,
        "{lost_early} lost in the first 200, {lost_later} in the 1,800 after: {:?}",
        buffer.stats()
    );
}

#[test]
fn gives_up_at_once_what_is_long_overdue_after_an_outage() {
    let start = Instant::now();
    let mut buffer = JitterBuffer::new(start, &ear_config());
    let mut talker = Talker::new(7, 100, 0);
    let mut log = Log::new();
    for n in 0..20 {
        let bytes = talker.packet();
        if (10..15).contains(&n) {
            continue;
        }
        let now = start + ms(20) * n;
        push(&mut buffer, now, &bytes, 160);
        drain(&mut buffer, now, &mut log);
        if n == 15 {
            // four of the five were due 20 to 80 ms ago
            assert_eq!(log.len(), 14);
        }
    }
    assert_eq!(log.iter().filter(|(_, heard, _)| heard.is_none()).count(), 5);
}

#[test]
fn tells_silence_from_loss() {
    let start = Instant::now();
    let mut buffer = JitterBuffer::new(start, &ear_config());
    let mut talker = Talker::new(7, 100, 0);
    let mut log = Log::new();
    push(&mut buffer, start, &talker.packet(), 160);
    talker.pause(8_000);
    let now = start + ms(1_020);
    push(&mut buffer, now, &talker.packet(), 160);
    drain(&mut buffer, now, &mut log);
    assert_eq!(log.iter().map(|(_, heard, at)| (*heard, *at)).collect::<Vec<_>>(), [(Some(0), 0), (Some(1), 8_160)]);
    assert_eq!(buffer.stats().resyncs, 0);
}

#[test]
fn events_neither_move_the_timeline_nor_are_taken_for_loss() {
    let start = Instant::now();
    let mut buffer = JitterBuffer::new(start, &ear_config());
    let mut talker = Talker::new(7, 100, 0);
    let mut log = Log::new();
    push(&mut buffer, start, &talker.packet(), 160);
    // five event packets, all with the timestamp of the event's beginning, one of them lost
    let event_time = talker.header.timestamp;
    for n in 0u64..5 {
        talker.header.timestamp = event_time;
        let bytes = talker.packet();
        if n != 2 {
            push(&mut buffer, start + ms(20 + 20 * n), &bytes, 0);
        }
    }
    talker.header.timestamp = event_time.plus(800);
    push(&mut buffer, start + ms(120), &talker.packet(), 160);
    drain(&mut buffer, start + ms(300), &mut log);
    assert_eq!(log.len(), 7);
    assert_eq!(log[3].1, None);
    assert_eq!(log[6], (start + ms(300), Some(6), 960), "sound goes on where its timestamp says");
    let lost_ticks = log[4].2 - log[3].2;
    assert_eq!(lost_ticks, 0, "a lost event packet is no lost sound");
}

#[test]
fn a_lost_packet_tells_the_one_behind_it_for_forward_error_correction() {
    let start = Instant::now();
    let mut buffer = JitterBuffer::new(start, &ear_config());
    let mut talker = Talker::new(7, 100, 0);
    push(&mut buffer, start, &talker.packet(), 160);
    talker.packet();
    push(&mut buffer, start + ms(40), &talker.packet(), 160);
    let now = start + ms(80);
    assert!(matches!(buffer.ear(now), Some(Heard::Packet(_))));
    let Some(Heard::Lost(loss)) = buffer.ear(now) else { panic!("no loss") };
    assert_eq!((loss.seq.0, loss.ticks, loss.position), (101, 160, 160));
    assert_eq!(number(loss.next.unwrap().payload), 2);
    let Some(Heard::Packet(frame)) = buffer.ear(now) else { panic!("no packet") };
    assert_eq!((number(frame.payload), frame.arrived), (2, start + ms(40)));
}

#[test]
fn a_new_source_is_heard_at_once_and_the_former_no_more() {
    let start = Instant::now();
    let mut buffer = JitterBuffer::new(start, &ear_config());
    let mut log = Log::new();
    let mut first = Talker::new(7, 100, 5_000);
    for n in 0..10 {
        push(&mut buffer, start + ms(20 * n), &first.packet(), 160);
    }
    let straggler = first.packet();
    let mut second = Talker::new(8, 40_000, 99);
    second.number = 1_000;
    drain(&mut buffer, start + ms(180), &mut log);
    let now = start + ms(200);
    assert_eq!(push(&mut buffer, now, &second.packet(), 160), Pushed::Stored);
    drain(&mut buffer, now, &mut log);
    assert_eq!(log.last().unwrap(), &(now, Some(1_000), 1_600));
    assert_eq!(push(&mut buffer, now + ms(5), &straggler, 160), Pushed::Late, "the former source's last packet");
    push(&mut buffer, now + ms(20), &second.packet(), 160);
    drain(&mut buffer, now + ms(20), &mut log);
    assert_eq!(log.last().unwrap(), &(now + ms(20), Some(1_001), 1_760));
    assert_eq!(buffer.stats().resyncs, 1);
    assert_eq!(buffer.stats().ear_lost, 0);
}

#[test]
fn a_leap_of_sequence_or_timestamp_is_heard_at_once() {
    for (seq, timestamp) in [(20_000, 1_600), (50, 1_600), (60_000, 3_000_000_000), (110, 3_000_000_000)] {
        let start = Instant::now();
        let mut buffer = JitterBuffer::new(start, &ear_config());
        let mut log = Log::new();
        let mut talker = Talker::new(7, 1_000, 0);
        for n in 0..10 {
            push(&mut buffer, start + ms(20 * n), &talker.packet(), 160);
        }
        talker.header.seq.0 = if seq == 110 { 1_010 } else { seq };
        talker.header.timestamp.0 = timestamp;
        for n in 10..20 {
            let now = start + ms(20 * n);
            push(&mut buffer, now, &talker.packet(), 160);
            drain(&mut buffer, now, &mut log);
            let (at, heard, position) = *log.last().unwrap();
            assert_eq!((at, heard, position), (now, Some(n as u32), n * 160), "from {seq}, {timestamp}");
        }
        assert_eq!(buffer.stats().resyncs, 1);
    }
}

#[test]
fn a_burst_beyond_the_store_drops_the_oldest_and_counts_them() {
    // nobody reads: one packet more than fits
    let config = ear_config();
    let start = Instant::now();
    let mut buffer = JitterBuffer::new(start, &config);
    let mut talker = Talker::new(7, 100, 0);
    let mut count = 0;
    while buffer.stats().overflowed == 0 {
        assert!(count < 100, "the store has no bound");
        push(&mut buffer, start + ms(count), &talker.packet(), 160);
        count += 1;
    }
    let mut log = Log::new();
    drain(&mut buffer, start + ms(count + 100), &mut log);
    assert_eq!(log[0].1, None, "the oldest is gone");
    assert_eq!(log[1].1, Some(1));
    assert_eq!(log.last().unwrap().1, Some(count as u32 - 1), "the newest is there");
}

#[test]
fn takes_no_payload_beyond_its_limit() {
    let start = Instant::now();
    let mut buffer = JitterBuffer::new(start, &ear_config());
    let mut talker = Talker::new(7, 100, 0);
    talker.payload_bytes = media::jitter::MAX_PAYLOAD_BYTES + 1;
    assert_eq!(push(&mut buffer, start, &talker.packet(), 160), Pushed::TooLarge);
    talker.payload_bytes = media::jitter::MAX_PAYLOAD_BYTES;
    assert_eq!(push(&mut buffer, start, &talker.packet(), 160), Pushed::Stored);
    let Some(Heard::Packet(frame)) = buffer.ear(start) else { panic!("nothing heard") };
    assert_eq!(frame.payload.len(), media::jitter::MAX_PAYLOAD_BYTES);
}

#[test]
fn stays_within_the_memory_that_a_call_may_take() {
    let both = JitterBuffer::new(Instant::now(), &JitterConfig::new(8_000, 20, 160));
    let ear = JitterBuffer::new(Instant::now(), &ear_config());
    let own = size_of::<JitterBuffer>();
    println!("struct {own}, both readers {}, ear alone {}", both.heap_bytes(), ear.heap_bytes());
    assert!(own + both.heap_bytes() <= 6 * 1_024);
    assert!(own + ear.heap_bytes() <= 4 * 1_024);
}

#[test]
fn an_ear_that_was_away_goes_on_with_what_the_store_still_holds() {
    let start = Instant::now();
    let mut buffer = JitterBuffer::new(start, &ear_config());
    let mut talker = Talker::new(7, 100, 0);
    // gaps of seven while nobody listens: far more is missing than the store has slots
    for n in 0..100 {
        push(&mut buffer, start + ms(160) * n, &talker.packet(), 160);
        (0..7).for_each(|_| drop(talker.packet()));
    }
    let mut log = Log::new();
    drain(&mut buffer, start + ms(160) * 100, &mut log);
    assert!(log.len() <= 32, "{} answers in a row", log.len());
    assert_eq!(log.last().unwrap().1, Some(99 * 8), "the newest is heard");
    let stats = buffer.stats();
    let heard = log.iter().filter(|(_, heard, _)| heard.is_some()).count() as u64;
    assert_eq!(stats.ear_lost + heard, 99 * 8 + 1, "what was passed over is counted: {stats:?}");
}

#[test]
fn the_ears_timeline_follows_our_clock_and_not_the_peers() {
    // 200 parts in a million for an hour: 720 ms
    for spacing_us in [19_996u64, 20_004] {
        let start = Instant::now();
        let mut buffer = JitterBuffer::new(start, &ear_config());
        let mut net = Netem::new(9, Path { jitter: ms(3), ..Path::clean() });
        let mut talker = Talker::new(7, 1, 1);
        let mut steps = 0;
        let mut end = 0;
        for n in 0..180_000u64 {
            let sent_at = start + Duration::from_micros(spacing_us) * n as u32;
            net.send(sent_at, &talker.packet());
            while let Some((at, bytes)) = net.receive(sent_at) {
                push(&mut buffer, at, &bytes, 160);
                while let Some(Heard::Packet(frame)) = buffer.ear(at) {
                    let sent_us = u64::from(number(frame.payload)) * spacing_us;
                    let error_us = (frame.position * 125).abs_diff(sent_us);
                    assert!(error_us < 45_000, "{error_us} us off after {n} packets");
                    steps += u32::from(frame.position != end);
                    end = frame.position + 160;
                }
            }
        }
        assert!((25..=45).contains(&steps), "{steps} steps");
    }
}

#[test]
fn a_path_that_becomes_slower_moves_the_timeline_once() {
    let start = Instant::now();
    let mut buffer = JitterBuffer::new(start, &ear_config());
    let mut talker = Talker::new(7, 1, 1);
    let mut steps = Vec::new();
    let mut end = 0;
    for n in 0..3_000u32 {
        let slower = if n < 1_000 { ms(0) } else { ms(300) };
        let now = start + ms(20) * n + slower;
        push(&mut buffer, now, &talker.packet(), 160);
        while let Some(Heard::Packet(frame)) = buffer.ear(now) {
            if frame.position != end {
                steps.push(frame.position as i64 - end as i64);
            }
            end = frame.position + 160;
        }
    }
    assert_eq!(steps, [2_400], "300 ms");
}
