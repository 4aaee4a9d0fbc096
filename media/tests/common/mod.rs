//! A network in virtual time: delay, jitter, loss in bursts, reordering, copies, all from one seed.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

use media::rtp::{RtpHeader, RtpTime, Seq};

/// splitmix64: the same numbers for the same seed, everywhere.
#[derive(Debug, Clone)]
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    /// Uniform in 0..n.
    pub fn below(&mut self, n: u64) -> u64 {
        self.next() % n.max(1)
    }

    pub fn chance(&mut self, probability: f64) -> bool {
        self.unit() < probability
    }

    pub fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1u64 << 53) as f64
    }

    /// Exponential with this mean.
    pub fn exponential(&mut self, mean: f64) -> f64 {
        -mean * (1.0 - self.unit()).ln()
    }

    pub fn bytes(&mut self, count: usize) -> Vec<u8> {
        (0..count).map(|_| self.next() as u8).collect()
    }
}

/// What a path does to packets.
#[derive(Debug, Clone, Copy)]
pub struct Path {
    pub delay: Duration,
    /// Mean of an exponential delay on top; packets overtake one another where it exceeds their spacing.
    pub jitter: Duration,
    pub loss: f64,
    /// Mean packets in a row that a loss takes (Gilbert's model).
    pub burst: f64,
    pub duplicate: f64,
    /// This share of packets is held back by `reorder_by`.
    pub reorder: f64,
    pub reorder_by: Duration,
}

impl Path {
    pub fn clean() -> Path {
        Path {
            delay: Duration::from_millis(20),
            jitter: Duration::ZERO,
            loss: 0.0,
            burst: 1.0,
            duplicate: 0.0,
            reorder: 0.0,
            reorder_by: Duration::from_millis(30),
        }
    }
}

/// Packets on their way.
pub struct Netem {
    path: Path,
    random: Random,
    losing: bool,
    flying: BinaryHeap<Reverse<(Instant, u64, Vec<u8>)>>,
    sent: u64,
    pub lost: u64,
    pub duplicated: u64,
}

impl Netem {
    pub fn new(seed: u64, path: Path) -> Netem {
        Netem { path, random: Random(seed), losing: false, flying: BinaryHeap::new(), sent: 0, lost: 0, duplicated: 0 }
    }

    pub fn path(&mut self, path: Path) {
        self.path = path;
    }

    pub fn send(&mut self, now: Instant, bytes: &[u8]) {
        // mean burst length b: leave the losing state with 1/b; enter it so that the share of losses comes out right
        let leave = 1.0 / self.path.burst.max(1.0);
        let enter = if self.path.loss < 1.0 { leave * self.path.loss / (1.0 - self.path.loss) } else { 1.0 };
        self.losing = if self.losing { !self.random.chance(leave) } else { self.random.chance(enter) };
        if self.losing {
            self.lost += 1;
            return;
        }
        self.put(now, bytes);
        if self.random.chance(self.path.duplicate) {
            self.duplicated += 1;
            self.put(now, bytes);
        }
    }

    fn put(&mut self, now: Instant, bytes: &[u8]) {
        let mut delay = self.path.delay;
        if !self.path.jitter.is_zero() {
            delay += Duration::from_secs_f64(self.random.exponential(self.path.jitter.as_secs_f64()));
        }
        if self.random.chance(self.path.reorder) {
            delay += self.path.reorder_by;
        }
        self.sent += 1;
        self.flying.push(Reverse((now + delay, self.sent, bytes.to_vec())));
    }

    /// When the next packet arrives.
    pub fn next_arrival(&self) -> Option<Instant> {
        self.flying.peek().map(|Reverse((at, ..))| *at)
    }

    /// The next packet that has arrived by `now`.
    pub fn receive(&mut self, now: Instant) -> Option<(Instant, Vec<u8>)> {
        if self.next_arrival()? > now {
            return None;
        }
        self.flying.pop().map(|Reverse((at, _, bytes))| (at, bytes))
    }
}

/// A sender of G.711 at 20 ms whose payload tells its number.
pub struct Talker {
    pub header: RtpHeader,
    pub ticks: u32,
    pub payload_bytes: usize,
    pub number: u32,
}

impl Talker {
    pub fn new(ssrc: u32, seq: u16, timestamp: u32) -> Talker {
        let header = RtpHeader { marker: false, payload_type: 0, seq: Seq(seq), timestamp: RtpTime(timestamp), ssrc };
        Talker { header, ticks: 160, payload_bytes: 160, number: 0 }
    }

    /// The next packet.
    pub fn packet(&mut self) -> Vec<u8> {
        let mut payload = vec![0x55; self.payload_bytes];
        payload[..4].copy_from_slice(&self.number.to_be_bytes());
        let mut bytes = vec![0; 12 + payload.len()];
        self.header.write(&payload, &mut bytes).unwrap();
        self.header.seq = self.header.seq.next();
        self.header.timestamp = self.header.timestamp.plus(self.ticks);
        self.number += 1;
        bytes
    }

    /// Silence without packets.
    pub fn pause(&mut self, ticks: u32) {
        self.header.timestamp = self.header.timestamp.plus(ticks);
    }
}

/// The number that a talker put in a payload.
pub fn number(payload: &[u8]) -> u32 {
    u32::from_be_bytes(*payload.first_chunk().unwrap())
}

/// Seeds for loops over many networks.
pub fn seeds(count: u64) -> impl Iterator<Item = u64> {
    (1..=count).map(|n| n.wrapping_mul(0x2545_f491_4f6c_dd1d))
}

pub fn ms(ms: u64) -> Duration {
    Duration::from_millis(ms)
}
