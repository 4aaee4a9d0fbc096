//! Playout: sound at a steady pace, behind an adaptive delay.
//!
//! How far playout lies behind the fastest packet that could be is its *lag*; the *target* is what the lag should be for 97 of 100 packets to be
//! there in time. Sound begins when the lag reaches the target. In the middle of it, a lag that is more than a frame above
//! the target loses a frame, one more than a frame below gains one, in quiet; a lag of three frames too many loses one in speech too.
//! Where nothing is there to play, a frame is concealed and the lag grows by it: if the packet turns out lost
//! and not late, it is taken as the one concealed.

use std::time::Instant;

use super::store::{PLAYOUT, Slot};
use super::timeline::Core;
use super::{JitterConfig, Played};

/// Concealed at most, with nothing coming, before silence: people hear more than this as a fault.
const MAX_HOLD_US: i64 = 100_000;
/// Room for the caller's own unsteadiness.
const MARGIN_US: i64 = 5_000;
/// Least time between two frames dropped or put in, in quiet and in speech.
const ADAPT_QUIET_US: u64 = 60_000;
const ADAPT_SPEECH_US: u64 = 200_000;

#[derive(Debug)]
pub(super) struct Playout {
    enabled: bool,
    playing: bool,
    next: u32,
    /// Where the next sound belongs on the timeline.
    position: u64,
    /// What one unasked frame is good for.
    frame_ticks: u32,
    /// Concealed for packets that had not come, and may yet.
    held_ticks: u64,
    /// The last packet carried no sound: comfort noise, or an event.
    silent: bool,
    adapted_us: u64,
    min_us: i64,
    max_us: i64,
}

impl Playout {
    pub(super) fn new(config: &JitterConfig, frame_ticks: u32) -> Playout {
        let min_us = config.playout_min.as_micros() as i64;
        Playout {
            enabled: config.playout,
            playing: false,
            next: 0,
            position: 0,
            frame_ticks,
            held_ticks: 0,
            silent: false,
            adapted_us: 0,
            min_us,
            max_us: (config.playout_max.as_micros() as i64).max(min_us),
        }
    }

    /// Begins to read, from the packet of that index on.
    pub(super) fn start(&mut self, index: u32) {
        self.enabled = true;
        self.playing = false;
        self.held_ticks = 0;
        self.next = index;
    }

    /// Reads no more.
    pub(super) fn stop(&mut self, core: &mut Core) {
        self.enabled = false;
        core.store.release(PLAYOUT);
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

    pub(super) fn max_us(&self) -> i64 {
        self.max_us
    }

    pub(super) fn target_us(&self, core: &Core) -> i64 {
        (core.delay.spread_us() + MARGIN_US).clamp(self.min_us, self.max_us)
    }

    pub(super) fn next<'a>(&mut self, core: &'a mut Core, now: Instant, quiet: bool) -> Played<'a> {
        let now_us = core.clock.us(now);
        let silence = Played::Silence { ticks: self.frame_ticks };
        if !self.enabled || core.stream.is_none() {
            return silence;
        }
        // each round moves to the next packet, and the store bounds how many there are
        for _ in 0..=core.store.slots() * 2 {
            let Some(head) = core.store.peek(self.next, PLAYOUT).copied() else {
                let Some(beyond) = core.beyond(self.next, PLAYOUT).copied() else {
                    return self.run_dry(core);
                };
                if !self.playing {
                    core.stats.playout_lost += 1;
                    self.next = self.next.wrapping_add(1);
                    continue;
                }
                if self.absorb(core, beyond, now_us) {
                    continue;
                }
                return self.give_up(core, beyond, now_us);
            };
            let lag_us = self.lag_us(core, now_us, head.position);
            let target_us = self.target_us(core);
            if lag_us > self.max_us + self.frame_us(core) && self.has_next(core) {
                self.skip(core, head);
                continue;
            }
            let gap = head.position.saturating_sub(self.position);
            let paused = !self.playing || (head.ticks > 0 && gap >= u64::from(self.frame_ticks / 2).max(1));
            if paused && lag_us < target_us {
                self.held_ticks = 0;
                return silence;
            }
            if self.playing && !paused && head.ticks > 0 {
                let excess_us = lag_us - target_us;
                if self.shrinks(core, now_us, excess_us, quiet) {
                    self.adapted_us = now_us;
                    self.skip(core, head);
                    continue;
                }
                if quiet && excess_us < -self.frame_us(core) && self.rested(now_us, ADAPT_QUIET_US) {
                    self.adapted_us = now_us;
                    core.stats.grown += 1;
                    return silence;
                }
            }
            return self.deliver(core, head, now_us);
        }
        silence
    }

    fn deliver<'a>(&mut self, core: &'a mut Core, head: Slot, now_us: u64) -> Played<'a> {
        core.store.take(self.next, PLAYOUT);
        self.next = self.next.wrapping_add(1);
        self.playing = true;
        self.silent = head.ticks == 0;
        self.held_ticks = 0;
        if head.ticks > 0 {
            self.position = head.position + u64::from(head.ticks);
        }
        Played::Packet(core.frame(&head, now_us))
    }

    /// Nothing is here, and nothing behind it.
    fn run_dry<'a>(&mut self, core: &mut Core) -> Played<'a> {
        let ticks = self.frame_ticks;
        let held_us = core.clock.ticks_to_us(self.held_ticks);
        if !self.playing || self.silent || held_us >= MAX_HOLD_US {
            self.playing = false;
            self.held_ticks = 0;
            return Played::Silence { ticks };
        }
        core.stats.underruns += u64::from(self.held_ticks == 0);
        self.held_ticks += u64::from(ticks);
        Played::Hold { ticks }
    }

    /// A missing packet was concealed before it was known to be missing.
    fn absorb(&mut self, core: &mut Core, beyond: Slot, now_us: u64) -> bool {
        let ticks = u64::from(core.loss(self.next, self.position, beyond, now_us).ticks);
        if ticks > 0 && self.held_ticks < ticks {
            return false;
        }
        core.stats.playout_lost += 1;
        self.held_ticks -= ticks;
        self.position += ticks;
        self.next = self.next.wrapping_add(1);
        true
    }

    fn give_up<'a>(&mut self, core: &'a mut Core, beyond: Slot, now_us: u64) -> Played<'a> {
        let index = self.next;
        self.next = index.wrapping_add(1);
        self.held_ticks = 0;
        core.stats.playout_lost += 1;
        let loss = core.loss(index, self.position, beyond, now_us);
        self.position += u64::from(loss.ticks);
        Played::Lost(loss)
    }

    fn shrinks(&self, core: &Core, now_us: u64, excess_us: i64, quiet: bool) -> bool {
        let frame_us = self.frame_us(core);
        let much = excess_us >= 3 * frame_us + MARGIN_US && self.rested(now_us, ADAPT_SPEECH_US);
        let some = quiet && excess_us >= frame_us + MARGIN_US && self.rested(now_us, ADAPT_QUIET_US);
        (much || some) && self.has_next(core)
    }

    fn skip(&mut self, core: &mut Core, head: Slot) {
        core.store.take(self.next, PLAYOUT);
        core.stats.shrunk += u64::from(head.ticks > 0);
        self.next = self.next.wrapping_add(1);
        self.position = self.position.max(head.position + u64::from(head.ticks));
    }

    /// Where nobody asked for long, what the store has dropped is behind us.
    pub(super) fn catch_up(&mut self, core: &mut Core) {
        let missed = core.oldest().wrapping_sub(self.next) as i32;
        if self.enabled && missed > 0 {
            core.stats.playout_lost += u64::from(missed.unsigned_abs());
            self.next = core.oldest();
        }
    }

    fn has_next(&self, core: &Core) -> bool {
        core.store.peek(self.next.wrapping_add(1), PLAYOUT).is_some()
    }

    fn rested(&self, now_us: u64, least_us: u64) -> bool {
        now_us.saturating_sub(self.adapted_us) >= least_us
    }

    fn lag_us(&self, core: &Core, now_us: u64, position: u64) -> i64 {
        now_us as i64 - core.clock.ticks_to_us(position) - core.delay.floor_us()
    }

    fn frame_us(&self, core: &Core) -> i64 {
        core.clock.ticks_to_us(u64::from(core.frame_ticks))
    }
}
