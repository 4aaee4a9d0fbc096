//! The jitter buffer with both readers, a packet of 20 ms in and out a step, in virtual time.
#![allow(clippy::unwrap_used)]

use std::hint::black_box;
use std::time::{Duration, Instant};

use media::jitter::{Asked, JitterBuffer, JitterConfig, Played};
use media::rtp::RtpPacket;

use crate::case::{Case, Step, Work};
use crate::rtp;

pub(crate) fn cases() -> Vec<Case> {
    vec![
        Case::new("jitter/push_pop/in_order", Work::Items(1), || run(|n| Some((n, 0)))),
        Case::new("jitter/push_pop/reordered", Work::Items(1), || run(|n| Some((n ^ 1, 0)))),
        Case::new("jitter/push_pop/lost_20_percent", Work::Items(1), || run(|n| (n % 5 != 3).then_some((n, 0)))),
        Case::new("jitter/push_pop/jittered_30ms", Work::Items(1), || run(|n| Some((n, u64::from(n * 7 % 31))))),
    ]
}

/// `arrival` says which packet comes in the n-th 20 ms, and how many milliseconds late in it.
fn run(arrival: impl Fn(u32) -> Option<(u32, u64)> + 'static) -> Step {
    let start = Instant::now();
    let mut buffer = JitterBuffer::new(start, &JitterConfig::new(8_000, 20, 160));
    let mut n = 0_u32;
    Box::new(move || {
        let round = start + Duration::from_millis(20) * n;
        let mut now = round;
        if let Some((seq, late_ms)) = arrival(n) {
            now += Duration::from_millis(late_ms.min(19));
            let bytes = rtp::packet(seq);
            buffer.push(now, &RtpPacket::parse(&bytes).unwrap(), 160);
        }
        while let Some(heard) = buffer.ear(now) {
            black_box(heard);
        }
        let mut ticks = 0;
        while ticks < 160 {
            ticks += match black_box(buffer.playout(now, Asked { frame_ticks: 160, ahead_ticks: ticks })) {
                Played::Packet(frame, _) => frame.ticks,
                Played::Lost(loss) => loss.ticks,
                Played::Hold { ticks } | Played::Silence { ticks } => ticks,
            };
        }
        n += 1;
    })
}
