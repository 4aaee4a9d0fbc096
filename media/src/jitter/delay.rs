//! What the network's delay does: its floor, its spread above the floor, its jitter, and how far it reorders.
//!
//! A packet's transit is its time of arrival less its position on the timeline; only differences mean anything. The
//! floor is the smallest transit of the last 5 to 10 s, so that it follows clock drift and a change of route. The
//! spread is what 97 of 100 packets of the last 5 to 10 s keep to, or 94 of 100 of the last second where that is more:
//! a network that gets worse is noticed soon, and chance moves neither far. A delay that follows every chance is
//! sound that is stretched while somebody speaks.

mod histogram;

use self::histogram::Histogram;

const HALF_WINDOW_US: u64 = 5_000_000;
/// Packets that the spread is counted over, and those of late.
const PACKETS: u32 = 512;
const PACKETS_OF_LATE: u32 = 64;
/// Of 100, that may be late by either.
const LATE_PERCENT: u32 = 3;
const LATE_OF_LATE_PERCENT: u32 = 6;

#[derive(Debug)]
pub(super) struct DelayEstimate {
    /// Smallest transit of this half window and of the one before.
    floor_us: Option<[i64; 2]>,
    half_began_us: u64,
    /// The floor when the first half window had passed.
    first_floor_us: Option<i64>,
    spread: Histogram<PACKETS>,
    spread_of_late: Histogram<PACKETS_OF_LATE>,
    last_transit_us: i64,
    /// Sixteenths of a microsecond.
    jitter_q4: u32,
    reordering_us: u32,
}

impl DelayEstimate {
    pub(super) fn new() -> DelayEstimate {
        DelayEstimate {
            floor_us: None,
            half_began_us: 0,
            first_floor_us: None,
            spread: Histogram::new(),
            spread_of_late: Histogram::new(),
            last_transit_us: 0,
            jitter_q4: 0,
            reordering_us: 0,
        }
    }

    pub(super) fn update(&mut self, now_us: u64, transit_us: i64) {
        let Some([current, _]) = &mut self.floor_us else {
            self.floor_us = Some([transit_us; 2]);
            self.half_began_us = now_us;
            self.last_transit_us = transit_us;
            self.count(0);
            return;
        };
        *current = (*current).min(transit_us);
        if now_us.saturating_sub(self.half_began_us) >= HALF_WINDOW_US {
            self.turn_window(now_us, transit_us);
        }
        let distance = (transit_us - self.last_transit_us).unsigned_abs().min(1_000_000) as u32;
        self.last_transit_us = transit_us;
        self.jitter_q4 = self.jitter_q4 + distance - ((self.jitter_q4 + 8) >> 4);
        // ten seconds' memory at 50 packets a second
        self.reordering_us -= self.reordering_us / 512;
        self.count(transit_us - self.floor_us());
    }

    /// A packet came `lateness_us` after one behind it.
    pub(super) fn note_reordering(&mut self, lateness_us: u32) {
        self.reordering_us = self.reordering_us.max(lateness_us.saturating_add(lateness_us / 4));
    }

    /// The smallest transit of late.
    pub(super) fn floor_us(&self) -> i64 {
        self.floor_us.map_or(0, |[current, before]| current.min(before))
    }

    /// How far the floor has moved since the stream's first seconds: the drift of the two clocks, and what the path has
    /// become longer by.
    pub(super) fn drift_us(&self) -> i64 {
        self.first_floor_us.map_or(0, |first| self.floor_us() - first)
    }

    /// Mean deviation of the packets' spacing.
    pub(super) fn jitter_us(&self) -> u32 {
        self.jitter_q4 >> 4
    }

    /// How long a reordered packet has made one wait of late, and a quarter more.
    pub(super) fn reordering_us(&self) -> u32 {
        self.reordering_us
    }

    /// The delay above the floor that nearly all packets keep to.
    pub(super) fn spread_us(&self) -> i64 {
        self.spread.covers_us(LATE_PERCENT).max(self.spread_of_late.covers_us(LATE_OF_LATE_PERCENT))
    }

    fn turn_window(&mut self, now_us: u64, transit_us: i64) {
        let Some([current, before]) = self.floor_us else { return };
        let floor = current.min(before);
        self.first_floor_us.get_or_insert(floor);
        self.floor_us = Some([transit_us, current]);
        self.half_began_us = now_us;
        // where the floor rises, what was counted lies that much nearer to it
        let rise_us = self.floor_us() - floor;
        self.spread.draw_nearer(rise_us);
        self.spread_of_late.draw_nearer(rise_us);
    }

    fn count(&mut self, above_floor_us: i64) {
        self.spread.count(above_floor_us);
        self.spread_of_late.count(above_floor_us);
    }
}
