//! The ear: each packet the moment it is next in order, and a bounded wait for one that is missing.
//!
//! Its positions follow our clock, not the peer's: where the two have drifted apart by 20 ms, or the path has become so
//! much longer or shorter for good, the timeline makes a step. A recording would otherwise come out of step with
//! our own side, by a third of a second in an hour.

use std::time::{Duration, Instant};

use super::store::{EAR, Slot};
use super::timeline::Core;
use super::{Heard, JitterConfig};

/// The wait in multiples of the mean deviation: reordering beyond it is rare, and the wait is speech unheard.
const JITTER_FACTOR: u32 = 4;

/// How far the peer's timeline may be off ours before it is put right.
const MAX_DRIFT: Duration = Duration::from_millis(20);

#[derive(Debug)]
pub(super) struct Ear {
    enabled: bool,
    next: u32,
    /// Where the last frame ended on the timeline.
    end: u64,
    /// Ticks that our timeline is ahead of the peer's.
    drift: i64,
    wait_min_us: u32,
    wait_max_us: u32,
}

impl Ear {
    pub(super) fn new(config: &JitterConfig) -> Ear {
        let us = |duration: Duration| u32::try_from(duration.as_micros()).unwrap_or(u32::MAX);
        let wait_min_us = us(config.ear_wait_min);
        let wait_max_us = us(config.ear_wait_max).max(wait_min_us);
        Ear { enabled: config.ear, next: 0, end: 0, drift: 0, wait_min_us, wait_max_us }
    }

    pub(super) fn begin(&mut self, index: u32) {
        self.next = index;
    }

    pub(super) fn wants(&self, index: u32) -> bool {
        self.enabled && index.wrapping_sub(self.next) as i32 >= 0
    }

    pub(super) fn missed(&self, index: u32) -> bool {
        self.enabled && !self.wants(index)
    }

    /// Where nobody listened for long, what the store has dropped is behind us.
    pub(super) fn catch_up(&mut self, core: &mut Core) {
        let missed = core.oldest().wrapping_sub(self.next) as i32;
        if self.enabled && missed > 0 {
            core.stats.ear_lost += u64::from(missed.unsigned_abs());
            self.next = core.oldest();
        }
    }

    pub(super) fn next<'a>(&mut self, core: &'a mut Core, now: Instant) -> Option<Heard<'a>> {
        let now_us = core.clock.us(now);
        if let Some(slot) = core.store.take(self.next, EAR) {
            self.next = self.next.wrapping_add(1);
            if slot.ticks > 0 {
                self.follow_drift(core);
            }
            let slot = self.on_our_timeline(slot);
            self.end = slot.position + u64::from(slot.ticks);
            return Some(Heard::Packet(core.frame(&slot, now_us)));
        }
        if self.due_us(core, now_us)? > now_us as i64 {
            return None;
        }
        let beyond = self.on_our_timeline(*core.beyond(self.next, EAR)?);
        let index = self.next;
        let end = self.end;
        self.next = index.wrapping_add(1);
        core.stats.ear_lost += 1;
        let loss = core.loss(index, end, beyond, now_us);
        self.end += u64::from(loss.ticks);
        Some(Heard::Lost(loss))
    }

    fn follow_drift(&mut self, core: &Core) {
        let drift = core.clock.signed_ticks(core.delay.drift_us());
        if drift.abs_diff(self.drift) >= core.clock.ticks(MAX_DRIFT) {
            self.drift = drift;
        }
    }

    fn on_our_timeline(&self, slot: Slot) -> Slot {
        Slot { position: slot.position.saturating_add_signed(self.drift), ..slot }
    }

    pub(super) fn wake(&self, core: &Core, now: Instant) -> Option<Instant> {
        let due_us = self.due_us(core, core.clock.us(now))?;
        Some(core.clock.epoch + Duration::from_micros(due_us.max(0) as u64))
    }

    /// The packet that it is at.
    pub(super) fn at(&self) -> u32 {
        self.next
    }

    /// When the packet that is next, and missing, is given up. Of several missing in a row the earlier ones are given
    /// up earlier, by the time that lies between them.
    fn due_us(&self, core: &Core, now_us: u64) -> Option<i64> {
        if !self.enabled || core.stream.is_none() || core.newest().wrapping_sub(self.next) as i32 <= 0 {
            return None;
        }
        let beyond = core.beyond(self.next, EAR)?;
        let age_us = (now_us as u32).wrapping_sub(beyond.arrival_us);
        let between = beyond.index.wrapping_sub(self.next).saturating_sub(1);
        let head_start_us = core.clock.ticks_to_us(u64::from(between) * u64::from(core.frame_ticks));
        let wait_us = self.wait_us(core);
        Some(now_us as i64 - i64::from(age_us) + i64::from(wait_us) - head_start_us)
    }

    fn wait_us(&self, core: &Core) -> u32 {
        let by_jitter = core.delay.jitter_us().saturating_mul(JITTER_FACTOR);
        by_jitter.max(core.delay.reordering_us()).clamp(self.wait_min_us, self.wait_max_us)
    }
}
