//! Playout: sound at a steady pace, behind an adaptive delay.
//!
//! How far playout lies behind the fastest packet that could be, as it asks, is its *lag*; the *target* is what the lag should be for 97
//! of 100 packets to be there in time. Sound begins when the lag reaches the target. In the middle of it sound is made longer
//! where the lag is below the target, and shorter where it is above, by as much as a pitch period at once: in quiet, where
//! that comes within three seconds or it is not urgent. Where nothing is
//! there to play, a frame is concealed and the lag grows by it: if the packet turns out lost and not late, it is taken as
//! the one concealed. Where packets are lost that the one behind them recovers (Opus), the target is a packet more.
//!
//! Whoever asks does so at a steady pace for frames of its own length, and keeps what packets are longer: *ahead*. With
//! packets of P and frames of F, ahead goes round in steps of g, their greatest common divisor, and so does the lag; what
//! counts is the least lag of a round. A stretch moves ahead, and the least lag only in steps of g, when ahead has
//! gone once round. So there is an *overhang*, ahead modulo g, which is delay that helps nobody: it is taken out where it can be.

use std::time::Instant;

use super::store::{PLAYOUT, Slot};
use super::timeline::Core;
use super::{Asked, Haste, JitterConfig, Pace, Played};
use crate::rtp::{RtpTime, Seq};

/// Concealed at most, with nothing coming, before silence: people hear more than this as a fault.
const MAX_HOLD_US: i64 = 100_000;
/// Room for the caller's own unsteadiness.
const MARGIN_US: i64 = 5_000;
/// Beyond this a lack of lag is urgent, and beyond a step more.
const URGENT_LACK_US: i64 = 5_000;
/// An overhang of less is left.
const OVERHANG_US: i64 = 5_000;
/// Packets over which losses are averaged: ten seconds of them.
const LOSS_MEMORY: u32 = 512;
/// From this share of losses on the packet behind a lost one is waited for, and below that no more, in 65,536ths: 1.5 and 0.5 %.
const LOSSY: u32 = 983;
const LOSSLESS: u32 = 328;
/// A stretch that is not urgent waits so long for quiet, in which nobody hears it.
const PATIENCE_US: u64 = 3_000_000;
/// Least time between two stretches, where there is no haste, and where there is some.
const REST_US: u64 = 100_000;
const SHORT_REST_US: u64 = 40_000;

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
    stretched_us: u64,
    /// Since when stretches are wanted.
    wanted_us: u64,
    /// Share of the packets of late that did not come, in 65,536ths, and whether it is high enough to wait for the packet behind.
    lost_share: u32,
    lossy: bool,
    recovers: bool,
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
            stretched_us: 0,
            wanted_us: 0,
            lost_share: 0,
            lossy: false,
            recovers: config.recovers,
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

    /// The packet that it is at.
    pub(super) fn at(&self) -> u32 {
        self.next
    }

    pub(super) fn is_playing(&self) -> bool {
        self.playing
    }

    /// The packet that it is at, as the peer counts.
    pub(super) fn due(&self, core: &Core) -> Option<(Seq, RtpTime)> {
        let stream = core.stream.filter(|_| self.enabled && self.playing && self.held_ticks == 0)?;
        let behind = stream.index.wrapping_sub(self.next) as u16;
        let ticks = stream.position.wrapping_sub(self.position) as u32;
        Some((Seq(stream.seq.0.wrapping_sub(behind)), RtpTime(stream.timestamp.0.wrapping_sub(ticks))))
    }

    /// Takes all but the latest `keep` packets for played.
    pub(super) fn pass_over(&mut self, core: &mut Core, keep: u32) {
        let first_kept = core.newest().wrapping_add(1).wrapping_sub(keep);
        for _ in 0..core.store.slots() {
            if (first_kept.wrapping_sub(self.next) as i32) <= 0 {
                break;
            }
            core.store.take(self.next, PLAYOUT);
            self.next = self.next.wrapping_add(1);
        }
        self.playing = false;
        self.silent = false;
        self.held_ticks = 0;
        self.position = core.stream.map_or(self.position, |stream| stream.end);
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
        let spread_us = core.delay.spread_us();
        // so that the packet behind a lost one is there as it is needed
        let for_next_us = if self.recovers && self.lossy { spread_us + self.frame_us(core) } else { 0 };
        (spread_us + MARGIN_US).max(for_next_us).clamp(self.min_us, self.max_us)
    }

    pub(super) fn next<'a>(&mut self, core: &'a mut Core, now: Instant, asked: Asked) -> Played<'a> {
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
            let pace = if paused || head.ticks == 0 {
                Pace::Even
            } else {
                self.pace(core, now_us, lag_us - target_us, target_us, asked)
            };
            return self.deliver(core, head, now_us, pace);
        }
        silence
    }

    fn deliver<'a>(&mut self, core: &'a mut Core, head: Slot, now_us: u64, pace: Pace) -> Played<'a> {
        core.store.take(self.next, PLAYOUT);
        self.next = self.next.wrapping_add(1);
        self.count(false);
        self.playing = true;
        self.silent = head.ticks == 0;
        self.held_ticks = 0;
        if head.ticks > 0 {
            self.position = head.position + u64::from(head.ticks);
        }
        Played::Packet(core.frame(&head, now_us), pace)
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
        self.count(true);
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
        self.count(true);
        let loss = core.loss(index, self.position, beyond, now_us);
        self.position += u64::from(loss.ticks);
        Played::Lost(loss)
    }

    /// Takes account of a packet that came or did not.
    fn count(&mut self, lost: bool) {
        self.lost_share -= self.lost_share / LOSS_MEMORY;
        self.lost_share += if lost { 65_536 / LOSS_MEMORY } else { 0 };
        let least = if self.lossy { LOSSLESS } else { LOSSY };
        self.lossy = self.lost_share >= least;
    }

    /// How fast to play a packet that is asked for with `excess_us` more lag than the target.
    fn pace(&mut self, core: &Core, now_us: u64, excess_us: i64, target_us: i64, asked: Asked) -> Pace {
        let step = gcd(core.frame_ticks, asked.frame_ticks).max(1);
        let overhang = asked.ahead_ticks % step;
        let us = |ticks: u32| core.clock.ticks_to_us(u64::from(ticks));
        let later_asks = i64::from(asked.ahead_ticks) - i64::from(asked.frame_ticks.saturating_sub(step) + overhang);
        let least_us = excess_us + core.clock.signed_us(later_asks);
        let step_us = us(step);
        let too_much_us = least_us - step_us - MARGIN_US.max(target_us / 8);
        let pace = if least_us < 0 {
            let haste = match -least_us {
                lack_us if lack_us > URGENT_LACK_US + step_us => Haste::Great,
                lack_us if lack_us > URGENT_LACK_US => Haste::Some,
                _ => Haste::None,
            };
            Pace::Longer { haste }
        } else if too_much_us >= 0 {
            let haste = match too_much_us / step_us.max(1) {
                0 | 1 => Haste::None,
                2 | 3 => Haste::Some,
                _ => Haste::Great,
            };
            Pace::Shorter { most_ticks: u32::MAX, haste }
        } else if least_us >= 0 && us(overhang) >= OVERHANG_US {
            Pace::Shorter { most_ticks: overhang, haste: Haste::None }
        } else {
            Pace::Even
        };
        self.patient(now_us, pace)
    }

    /// The pace that is wanted, or an even one where it is too early for another stretch. What is not urgent waits for quiet first.
    fn patient(&mut self, now_us: u64, mut wanted: Pace) -> Pace {
        let (Pace::Shorter { haste, .. } | Pace::Longer { haste }) = &mut wanted else {
            self.wanted_us = now_us;
            return Pace::Even;
        };
        let rest_us = match haste {
            Haste::OnlyInQuiet | Haste::None => REST_US,
            Haste::Some => SHORT_REST_US,
            Haste::Great => 0,
        };
        if *haste == Haste::None && now_us.saturating_sub(self.wanted_us) < PATIENCE_US {
            *haste = Haste::OnlyInQuiet;
        }
        if now_us.saturating_sub(self.stretched_us) >= rest_us { wanted } else { Pace::Even }
    }

    /// Sound was stretched.
    pub(super) fn stretched(&mut self, core: &mut Core, now: Instant, by_ticks: i32) {
        self.stretched_us = core.clock.us(now);
        let ticks = u64::from(by_ticks.unsigned_abs());
        *(if by_ticks > 0 { &mut core.stats.longer_ticks } else { &mut core.stats.shorter_ticks }) += ticks;
    }

    fn skip(&mut self, core: &mut Core, head: Slot) {
        core.store.take(self.next, PLAYOUT);
        core.stats.skipped += u64::from(head.ticks > 0);
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

    fn lag_us(&self, core: &Core, now_us: u64, position: u64) -> i64 {
        now_us as i64 - core.clock.ticks_to_us(position) - core.delay.floor_us()
    }

    fn frame_us(&self, core: &Core) -> i64 {
        core.clock.ticks_to_us(u64::from(core.frame_ticks))
    }
}

fn gcd(a: u32, b: u32) -> u32 {
    let (mut a, mut b) = (a, b);
    while b > 0 {
        (a, b) = (b, a % b);
    }
    a
}
