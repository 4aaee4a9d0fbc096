//! What one synchronisation source has sent: sequence validation (RFC 3550 appendix A.1), loss (A.3) and
//! interarrival jitter (A.8). It is what receiver reports are made from.

use std::time::Instant;

use super::{RtpPacket, Seq};
use crate::rtcp::ReportBlock;

/// Packets in sequence before a source counts as valid (RFC 3550 appendix A.1).
const MIN_SEQUENTIAL: u8 = 2;
/// A jump forward of this many or more is no loss but a restart (appendix A.1).
const MAX_DROPOUT: u16 = 3000;
/// A jump backward of this many or more is no reordering but a restart (appendix A.1).
const MAX_MISORDER: u16 = 100;

/// One source's reception state.
#[derive(Debug, Clone)]
pub struct Source {
    ssrc: u32,
    clock_hz: u32,
    max_seq: Seq,
    /// Wraps of the sequence number so far, as the upper half of the extended number.
    cycles: u32,
    base_ext: u32,
    bad_seq: Option<Seq>,
    probation: u8,
    received: u64,
    bytes: u64,
    duplicates_or_late: u64,
    /// Of intervals before a restart, so that totals over a call stay.
    expected_before_restart: u64,
    received_before_restart: u64,
    expected_prior: u64,
    received_prior: u64,
    /// RFC 3550 A.8: sixteenths of a tick.
    jitter_q4: u32,
    transit: Option<u32>,
    epoch: Instant,
    last_arrival: Instant,
}

/// What to do with a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// In sequence, or a small gap: use it.
    Valid,
    /// The source is too new to be sure of: use it where the address is trusted.
    Probation,
    /// An older packet than the newest, by less than 100: reordered or a duplicate; use it if it still helps.
    Misordered,
    /// A leap in the sequence, seen for the first time: drop it; should the next follow it, that is a [`Verdict::Restarted`].
    Leap,
    /// The source began a new sequence: resynchronise, and use it.
    Restarted,
}

/// A source's figures over its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ReceptionReport {
    /// Packets that came, duplicates too.
    pub packets: u64,
    /// Their payload, in bytes.
    pub bytes: u64,
    /// Expected less received; never below zero here.
    pub lost: u64,
    /// Packets that came behind a later one, or twice.
    pub misordered: u64,
    /// Interarrival jitter in microseconds.
    pub jitter_us: u32,
}

impl Source {
    /// A source met at `now` by its first packet.
    pub fn new(now: Instant, clock_hz: u32, first: &RtpPacket<'_>) -> Source {
        let mut source = Source {
            ssrc: first.ssrc,
            clock_hz: clock_hz.max(1),
            max_seq: first.seq,
            cycles: 0,
            base_ext: 0,
            bad_seq: None,
            probation: MIN_SEQUENTIAL,
            received: 0,
            bytes: 0,
            duplicates_or_late: 0,
            expected_before_restart: 0,
            received_before_restart: 0,
            expected_prior: 0,
            received_prior: 0,
            jitter_q4: 0,
            transit: None,
            epoch: now,
            last_arrival: now,
        };
        source.start_sequence(first.seq);
        // so that the first packet is "in sequence" when it is handed to receive()
        source.max_seq = Seq(first.seq.0.wrapping_sub(1));
        source
    }

    /// Takes account of a packet of this source (the caller checks the SSRC).
    pub fn receive(&mut self, now: Instant, packet: &RtpPacket<'_>) -> Verdict {
        let verdict = self.update_seq(packet.seq);
        if verdict == Verdict::Leap {
            return verdict;
        }
        self.received += 1;
        self.bytes += packet.payload.len() as u64;
        self.duplicates_or_late += u64::from(verdict == Verdict::Misordered);
        if verdict == Verdict::Restarted {
            self.transit = None;
        }
        self.last_arrival = now;
        self.update_jitter(now, packet.timestamp.0);
        verdict
    }

    /// Who it is.
    pub fn ssrc(&self) -> u32 {
        self.ssrc
    }

    /// When its last packet came.
    pub fn last_arrival(&self) -> Instant {
        self.last_arrival
    }

    /// Whether it has sent enough in sequence to be believed.
    pub fn is_valid(&self) -> bool {
        self.probation == 0
    }

    /// The highest sequence number so far, with the count of its wraps above it.
    pub fn extended_max(&self) -> u32 {
        self.cycles.wrapping_add(u32::from(self.max_seq.0))
    }

    /// Interarrival jitter in ticks (RFC 3550 section 6.4.1).
    pub fn jitter_ticks(&self) -> u32 {
        self.jitter_q4 >> 4
    }

    /// Forgets the timing of the last packet: a change of payload type or clock is no jitter.
    pub fn skip_jitter(&mut self) {
        self.transit = None;
    }

    /// The figures so far.
    pub fn report(&self) -> ReceptionReport {
        ReceptionReport {
            packets: self.received_total(),
            bytes: self.bytes,
            lost: self.expected_total().saturating_sub(self.received_total()),
            misordered: self.duplicates_or_late,
            jitter_us: (u64::from(self.jitter_q4) * 62_500 / u64::from(self.clock_hz)).min(u64::from(u32::MAX)) as u32,
        }
    }

    /// A report block over the time since the last one (RFC 3550 appendix A.3). `last_sr` and `delay_since_last_sr`
    /// are the RTCP session's to fill in.
    pub fn report_block(&mut self) -> ReportBlock {
        let expected = self.expected_total();
        let received = self.received_total();
        let expected_interval = expected.saturating_sub(self.expected_prior);
        let lost_interval = expected_interval.saturating_sub(received.saturating_sub(self.received_prior));
        self.expected_prior = expected;
        self.received_prior = received;
        let fraction_lost = (lost_interval * 256).checked_div(expected_interval).unwrap_or(0).min(255) as u8;
        // cumulative loss is signed 24 bit and clamps (section 6.4.1): duplicates make it negative
        let lost =
            i64::try_from(expected).unwrap_or(i64::MAX).saturating_sub(i64::try_from(received).unwrap_or(i64::MAX));
        ReportBlock {
            ssrc: self.ssrc,
            fraction_lost,
            cumulative_lost: lost.clamp(-0x80_0000, 0x7f_ffff) as i32,
            highest_seq: self.extended_max(),
            jitter_ticks: self.jitter_ticks(),
            last_sr: 0,
            delay_since_last_sr: 0,
        }
    }

    fn expected_total(&self) -> u64 {
        self.expected_before_restart + u64::from(self.extended_max().wrapping_sub(self.base_ext).wrapping_add(1))
    }

    fn received_total(&self) -> u64 {
        self.received_before_restart + self.received
    }

    /// RFC 3550 A.1's `init_seq`.
    fn start_sequence(&mut self, seq: Seq) {
        self.base_ext = u32::from(seq.0);
        self.max_seq = seq;
        self.cycles = 0;
        self.bad_seq = None;
        self.received = 0;
    }

    /// RFC 3550 A.1's `update_seq`.
    fn update_seq(&mut self, seq: Seq) -> Verdict {
        if self.probation > 0 {
            return self.probe(seq);
        }
        let delta = seq.0.wrapping_sub(self.max_seq.0);
        if delta == 0 || delta > 0u16.wrapping_sub(MAX_MISORDER) {
            return Verdict::Misordered;
        }
        if delta < MAX_DROPOUT {
            self.advance_to(seq);
            return Verdict::Valid;
        }
        if self.bad_seq != Some(seq) {
            self.bad_seq = Some(seq.next());
            return Verdict::Leap;
        }
        self.expected_before_restart = self.expected_total();
        self.received_before_restart = self.received_total();
        self.start_sequence(seq);
        Verdict::Restarted
    }

    fn probe(&mut self, seq: Seq) -> Verdict {
        if seq != self.max_seq.next() {
            self.probation = MIN_SEQUENTIAL - 1;
            self.start_sequence(seq);
            return Verdict::Probation;
        }
        // the first two of a stream count from the first of them, so that no loss is made up
        self.advance_to(seq);
        if self.received == 0 {
            self.base_ext = u32::from(seq.0);
            self.cycles = 0;
        }
        self.probation -= 1;
        if self.probation == 0 { Verdict::Valid } else { Verdict::Probation }
    }

    fn advance_to(&mut self, seq: Seq) {
        if seq.0 < self.max_seq.0 {
            self.cycles = self.cycles.wrapping_add(1 << 16);
        }
        self.max_seq = seq;
        self.bad_seq = None;
    }

    /// RFC 3550 A.8, in sixteenths.
    fn update_jitter(&mut self, now: Instant, timestamp: u32) {
        // whole seconds and the rest apart, so that 64 bits do
        let elapsed = now.saturating_duration_since(self.epoch);
        let rest_ticks = u64::from(elapsed.subsec_micros()) * u64::from(self.clock_hz) / 1_000_000;
        let arrival_ticks = elapsed.as_secs().wrapping_mul(u64::from(self.clock_hz)).wrapping_add(rest_ticks) as u32;
        let transit = arrival_ticks.wrapping_sub(timestamp);
        if let Some(before) = self.transit.replace(transit) {
            let distance = (transit.wrapping_sub(before) as i32).unsigned_abs();
            let step = distance.min(1 << 26);
            self.jitter_q4 = self.jitter_q4.wrapping_add(step).wrapping_sub((self.jitter_q4.wrapping_add(8)) >> 4);
        }
    }
}
