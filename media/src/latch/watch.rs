//! Addresses that may become the peer's: a filter for those seen once, and a few that go on.

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use crate::rtp::{RtpPacket, RtpTime, Seq};

/// Candidates at a time.
const CANDIDATES: usize = 4;
/// Marks of addresses at a known IP, and of others: apart, so that a flood from elsewhere touches no good one.
const KNOWN_MARKS: usize = 64;
const OTHER_MARKS: usize = 16;
/// A candidate that was silent for so long gives its place to another.
const STALE: Duration = Duration::from_millis(200);
/// A packet may be so far behind the last one and still go on: the network may lose and reorder. Who sends a stream of their own could as well
/// send it whole.
const GAP: u16 = 8;
/// No telephone sends packets closer together than this, on average: 5 ms is a quarter of the usual.
const FASTEST: Duration = Duration::from_millis(4);
/// Packets that may come at once all the same.
const BURST: u32 = 3;
/// Timestamps may differ from the clock by this much.
const CLOCK_ERROR: Duration = Duration::from_millis(150);

/// Whether a candidate has sent enough.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Proof {
    Given,
    Missing,
}

#[derive(Debug, Clone, Copy)]
struct Candidate {
    addr: SocketAddr,
    ssrc: u32,
    known_ip: bool,
    seq: Seq,
    first_timestamp: RtpTime,
    count: u16,
    first: Instant,
    last: Instant,
}

#[derive(Debug, Clone)]
pub(super) struct Watch {
    seed: u64,
    clock_hz: u32,
    /// Upper half: a tag of address and SSRC; lower half: the sequence number.
    marks: [u32; KNOWN_MARKS + OTHER_MARKS],
    candidates: [Option<Candidate>; CANDIDATES],
}

impl Watch {
    pub(super) fn new(seed: u64, clock_hz: u32) -> Watch {
        Watch { seed, clock_hz: clock_hz.max(1), marks: [0; KNOWN_MARKS + OTHER_MARKS], candidates: [None; CANDIDATES] }
    }

    pub(super) fn clear(&mut self) {
        self.marks = [0; KNOWN_MARKS + OTHER_MARKS];
        self.candidates = [None; CANDIDATES];
    }

    /// Takes note of a packet; tells whether it is the `needed`-th in a row of its address and source.
    pub(super) fn see(
        &mut self,
        now: Instant,
        from: SocketAddr,
        packet: &RtpPacket<'_>,
        known_ip: bool,
        needed: u16,
    ) -> Proof {
        let clock_hz = self.clock_hz;
        let known = self
            .candidates
            .iter_mut()
            .find(|place| place.is_some_and(|candidate| candidate.addr == from && candidate.ssrc == packet.ssrc));
        if let Some(place) = known {
            let Some(candidate) = place else { return Proof::Missing };
            if !candidate.goes_on(now, packet, clock_hz) {
                *place = None;
                return Proof::Missing;
            }
            return if candidate.count >= needed { Proof::Given } else { Proof::Missing };
        }
        if self.mark(from, packet, known_ip) {
            self.admit(Candidate {
                addr: from,
                ssrc: packet.ssrc,
                known_ip,
                seq: packet.seq,
                first_timestamp: packet.timestamp,
                count: 2,
                first: now,
                last: now,
            });
            if needed <= 2 {
                return Proof::Given;
            }
        }
        Proof::Missing
    }

    /// Leaves a mark of the packet; whether one shortly before it had left its own.
    fn mark(&mut self, from: SocketAddr, packet: &RtpPacket<'_>, known_ip: bool) -> bool {
        let hash = self.hash(from, packet.ssrc);
        let marks = if known_ip { self.marks.get_mut(..KNOWN_MARKS) } else { self.marks.get_mut(KNOWN_MARKS..) };
        let Some(marks) = marks else { return false };
        let at = (hash >> 32) as usize % marks.len().max(1);
        let Some(mark) = marks.get_mut(at) else { return false };
        // the tag is never 0, so an empty mark matches nothing
        let tag = (hash as u32 | 1) << 16;
        let gap = packet.seq.0.wrapping_sub(*mark as u16);
        let is_same = *mark & 0xffff_0000 == tag;
        *mark = tag | u32::from(packet.seq.0);
        is_same && (1..=GAP).contains(&gap)
    }

    fn admit(&mut self, candidate: Candidate) {
        let now = candidate.last;
        let replaceable = |place: &Option<Candidate>| match place {
            None => true,
            Some(other) => {
                now.saturating_duration_since(other.last) >= STALE || (candidate.known_ip && !other.known_ip)
            }
        };
        if let Some(place) = self.candidates.iter_mut().find(|place| replaceable(place)) {
            *place = Some(candidate);
        }
    }

    fn hash(&self, addr: SocketAddr, ssrc: u32) -> u64 {
        let ip = match addr.ip() {
            IpAddr::V4(ip) => u128::from(u32::from(ip)),
            IpAddr::V6(ip) => u128::from(ip),
        };
        let mut z = self.seed ^ u64::from(ssrc) << 16 ^ u64::from(addr.port());
        for word in [ip as u64, (ip >> 64) as u64] {
            z = (z ^ word).wrapping_add(0x9e37_79b9_7f4a_7c15);
            z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            z ^= z >> 31;
        }
        z
    }
}

impl Candidate {
    /// Whether the packet goes on with its stream, in the pace of a telephone. A copy or a late one counts for nothing
    /// but does no harm; a leap ends the candidacy.
    fn goes_on(&mut self, now: Instant, packet: &RtpPacket<'_>, clock_hz: u32) -> bool {
        let ahead = packet.seq.since(self.seq);
        if (-16..=0).contains(&ahead) {
            return true;
        }
        if ahead > GAP as i16 {
            return false;
        }
        let elapsed = now.saturating_duration_since(self.first);
        let fastest = elapsed.as_micros() / FASTEST.as_micros() + u128::from(BURST);
        let moved_us = i64::from(packet.timestamp.since(self.first_timestamp)) * 1_000_000 / i64::from(clock_hz);
        let error_us = moved_us.abs_diff(elapsed.as_micros() as i64);
        self.seq = packet.seq;
        self.last = now;
        self.count = self.count.saturating_add(1);
        u128::from(self.count) <= fastest && u128::from(error_us) <= CLOCK_ERROR.as_micros()
    }
}
