//! Where a packet belongs: its sequence number and timestamp unwrapped, and continued over new beginnings.

use std::time::{Duration, Instant};

use super::delay::DelayEstimate;
use super::store::{Slot, Store};
use super::{Frame, JitterStats, Loss};
use crate::rtp::{RtpPacket, RtpTime, Seq};

/// A packet that lies this far behind the newest is no late one but a new sequence (RFC 3550 appendix A.1).
const MAX_MISORDER: i16 = 100;
/// A timestamp that differs by more from what the clock says begins a new timeline.
const MAX_CLOCK_ERROR: Duration = Duration::from_secs(2);
/// For this long after a new source began, packets of the one before are late ones and no change back.
const FORMER_SOURCE_LINGERS: Duration = Duration::from_millis(500);

/// What both readers stand on.
#[derive(Debug)]
pub(super) struct Core {
    pub(super) store: Store,
    pub(super) stream: Option<Stream>,
    pub(super) delay: DelayEstimate,
    pub(super) stats: JitterStats,
    pub(super) clock: Clock,
    /// Ticks of one frame: as agreed, then as last seen.
    pub(super) frame_ticks: u32,
    /// Bit n: the packet n before the newest has come.
    pub(super) history: u64,
}

/// The newest packet of the stream, and how its numbers map to ours.
#[derive(Debug, Clone, Copy)]
pub(super) struct Stream {
    pub(super) ssrc: u32,
    pub(super) former_ssrc: u32,
    pub(super) began_us: u64,
    pub(super) seq: Seq,
    pub(super) index: u32,
    /// The newest packet with sound: timestamp, position, end, arrival.
    pub(super) timestamp: RtpTime,
    pub(super) position: u64,
    pub(super) end: u64,
    pub(super) arrival_us: u64,
}

/// Where a packet belongs.
pub(super) struct Place {
    /// The sequence number, unwrapped and continued over new beginnings.
    pub(super) index: u32,
    pub(super) position: u64,
    pub(super) first: bool,
    pub(super) duplicate: bool,
    pub(super) reordered: bool,
}

impl Core {
    /// With nothing in it yet.
    pub(super) fn new(now: Instant, clock_hz: u32, frame_ticks: u32, store: Store) -> Core {
        Core {
            store,
            stream: None,
            delay: DelayEstimate::new(),
            stats: JitterStats::default(),
            clock: Clock { epoch: now, hz: clock_hz },
            frame_ticks,
            history: 0,
        }
    }

    /// Finds a packet's place, and makes it the newest where it is. `None` for one of a source that is over.
    pub(super) fn place(&mut self, now_us: u64, packet: &RtpPacket<'_>, ticks: u32) -> Option<Place> {
        let Some(stream) = self.stream else {
            self.stream = Some(Stream {
                ssrc: packet.ssrc,
                former_ssrc: packet.ssrc,
                began_us: now_us,
                seq: packet.seq,
                index: 0,
                timestamp: packet.timestamp,
                position: 0,
                end: u64::from(ticks),
                arrival_us: now_us,
            });
            self.history = 1;
            self.learn_frame(ticks);
            return Some(Place { index: 0, position: 0, first: true, duplicate: false, reordered: false });
        };
        if packet.ssrc != stream.ssrc {
            let lingers_us = FORMER_SOURCE_LINGERS.as_micros() as u64;
            if packet.ssrc == stream.former_ssrc && now_us.saturating_sub(stream.began_us) < lingers_us {
                return None;
            }
            return Some(self.resync(now_us, packet, ticks, stream));
        }
        match packet.seq.since(stream.seq) {
            0 => Some(Place {
                index: stream.index,
                position: stream.position,
                first: false,
                duplicate: true,
                reordered: false,
            }),
            ahead if ahead > 0 => Some(self.place_ahead(now_us, packet, ticks, stream, ahead.unsigned_abs())),
            behind if behind > -MAX_MISORDER => Some(self.place_behind(packet, stream, behind.unsigned_abs())),
            _ => Some(self.resync(now_us, packet, ticks, stream)),
        }
    }

    fn place_ahead(&mut self, now_us: u64, packet: &RtpPacket<'_>, ticks: u32, stream: Stream, ahead: u16) -> Place {
        if usize::from(ahead) > self.store.slots() {
            return self.resync(now_us, packet, ticks, stream);
        }
        let step = packet.timestamp.since(stream.timestamp);
        if ticks == 0 {
            // events repeat an older timestamp, so they move neither the timeline nor its anchor
            let position = offset(stream.position, step).max(stream.end);
            let position = if self.plausible(now_us, step, stream) { position } else { stream.end };
            return self.advance(
                Stream { seq: packet.seq, index: stream.index.wrapping_add(u32::from(ahead)), ..stream },
                ahead,
                position,
            );
        }
        if step < 0 || !self.plausible(now_us, step, stream) {
            return self.resync(now_us, packet, ticks, stream);
        }
        let position = offset(stream.position, step);
        self.learn_frame(ticks);
        let index = stream.index.wrapping_add(u32::from(ahead));
        self.advance(
            Stream {
                seq: packet.seq,
                index,
                timestamp: packet.timestamp,
                position,
                end: position + u64::from(ticks),
                arrival_us: now_us,
                ..stream
            },
            ahead,
            position,
        )
    }

    fn advance(&mut self, stream: Stream, ahead: u16, position: u64) -> Place {
        self.history = self.history.checked_shl(u32::from(ahead)).unwrap_or(0) | 1;
        self.stream = Some(stream);
        Place { index: stream.index, position, first: false, duplicate: false, reordered: false }
    }

    fn place_behind(&mut self, packet: &RtpPacket<'_>, stream: Stream, behind: u16) -> Place {
        let bit = 1u64.checked_shl(u32::from(behind)).unwrap_or(0);
        let duplicate = self.history & bit != 0;
        self.history |= bit;
        let step = packet.timestamp.since(stream.timestamp);
        let most = self.clock.ticks(MAX_CLOCK_ERROR) as i64;
        let position = if step <= 0 && -i64::from(step) <= most {
            offset(stream.position, step)
        } else {
            stream.position.saturating_sub(u64::from(behind) * u64::from(self.frame_ticks))
        };
        let index = stream.index.wrapping_sub(u32::from(behind));
        Place { index, position, first: false, duplicate, reordered: !duplicate }
    }

    /// Begins anew with this packet: the next index, and a position by the time of its arrival.
    fn resync(&mut self, now_us: u64, packet: &RtpPacket<'_>, ticks: u32, stream: Stream) -> Place {
        self.stats.resyncs += 1;
        let elapsed = self.clock.us_to_ticks(now_us.saturating_sub(stream.arrival_us));
        let position = (stream.position + elapsed).max(stream.end);
        let index = stream.index.wrapping_add(1);
        let changed = packet.ssrc != stream.ssrc;
        self.history = 1;
        self.learn_frame(ticks);
        self.stream = Some(Stream {
            ssrc: packet.ssrc,
            former_ssrc: if changed { stream.ssrc } else { packet.ssrc },
            began_us: now_us,
            seq: packet.seq,
            index,
            timestamp: packet.timestamp,
            position,
            end: position + u64::from(ticks),
            arrival_us: now_us,
        });
        Place { index, position, first: false, duplicate: false, reordered: false }
    }

    /// Whether a step of the timestamp agrees with the time that has passed.
    fn plausible(&self, now_us: u64, step: i32, stream: Stream) -> bool {
        let elapsed_us = now_us.saturating_sub(stream.arrival_us) as i64;
        let step_us = i64::from(step) * 1_000_000 / i64::from(self.clock.hz);
        (step_us - elapsed_us).unsigned_abs() <= MAX_CLOCK_ERROR.as_micros() as u64
    }

    fn learn_frame(&mut self, ticks: u32) {
        if ticks > 0 {
            self.frame_ticks = ticks.min(u32::from(u16::MAX));
        }
    }

    /// How long after the first packet behind it this one came.
    pub(super) fn lateness_us(&self, now_us: u64, index: u32) -> u32 {
        let newest = self.newest();
        let behind = newest.wrapping_sub(index).min(self.store.slots() as u32);
        let next = (1..=behind).find_map(|n| self.store.any(index.wrapping_add(n)));
        next.map_or(0, |slot| (now_us as u32).wrapping_sub(slot.arrival_us))
    }

    /// The newest index; 0 before the first packet.
    pub(super) fn newest(&self) -> u32 {
        self.stream.map_or(0, |stream| stream.index)
    }

    /// The oldest index that the store can hold beside the newest: no reader is behind it.
    pub(super) fn oldest(&self) -> u32 {
        self.newest().wrapping_sub(self.store.slots() as u32 - 1)
    }

    /// The nearest packet behind a missing one that is here for `reader`.
    pub(super) fn beyond(&self, index: u32, reader: u8) -> Option<&Slot> {
        let span = self.newest().wrapping_sub(index);
        (1..=span.min(self.store.slots() as u32)).find_map(|n| self.store.peek(index.wrapping_add(n), reader))
    }

    pub(super) fn frame(&self, slot: &Slot, now_us: u64) -> Frame<'_> {
        let age_us = (now_us as u32).wrapping_sub(slot.arrival_us);
        Frame {
            seq: Seq(slot.seq),
            timestamp: RtpTime(slot.timestamp),
            payload_type: slot.payload_type,
            marker: slot.marker,
            ticks: u32::from(slot.ticks),
            position: slot.position,
            arrived: self.clock.epoch + Duration::from_micros(now_us.saturating_sub(u64::from(age_us))),
            payload: self.store.payload(slot),
        }
    }

    /// The loss of the packet `index`, which lies behind `end` on the timeline, where `beyond` is the next that came.
    pub(super) fn loss(&self, index: u32, end: u64, beyond: Slot, now_us: u64) -> Loss<'_> {
        let missing = beyond.index.wrapping_sub(index).max(1);
        let room = beyond.position.saturating_sub(end) / u64::from(missing);
        let next = (missing == 1).then(|| self.frame(&beyond, now_us));
        Loss {
            seq: Seq(beyond.seq.wrapping_sub(missing as u16)),
            ticks: room.min(u64::from(self.frame_ticks)) as u32,
            position: end,
            next,
        }
    }
}

/// The buffer's own time: microseconds since it was made.
#[derive(Debug, Clone, Copy)]
pub(super) struct Clock {
    pub(super) epoch: Instant,
    pub(super) hz: u32,
}

impl Clock {
    pub(super) fn us(&self, now: Instant) -> u64 {
        micros(now.saturating_duration_since(self.epoch))
    }

    pub(super) fn ticks_to_us(&self, ticks: u64) -> i64 {
        (ticks.saturating_mul(1_000_000) / u64::from(self.hz)) as i64
    }

    fn us_to_ticks(&self, us: u64) -> u64 {
        us.saturating_mul(u64::from(self.hz)) / 1_000_000
    }

    pub(super) fn signed_us(&self, ticks: i64) -> i64 {
        ticks.saturating_mul(1_000_000) / i64::from(self.hz)
    }

    pub(super) fn signed_ticks(&self, us: i64) -> i64 {
        us.saturating_mul(i64::from(self.hz)) / 1_000_000
    }

    pub(super) fn ticks(&self, duration: Duration) -> u64 {
        self.us_to_ticks(micros(duration))
    }
}

/// In 64 bits, which a call does not fill: `Duration::as_micros` counts in 128, whose division costs.
fn micros(duration: Duration) -> u64 {
    duration.as_secs().saturating_mul(1_000_000).saturating_add(u64::from(duration.subsec_micros()))
}

fn offset(position: u64, step: i32) -> u64 {
    position.saturating_add_signed(i64::from(step))
}
