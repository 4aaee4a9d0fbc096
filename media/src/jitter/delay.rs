//! What the network's delay does: its floor, its spread above the floor, its jitter, and how far it reorders.
//!
//! A packet's transit is its time of arrival less its position on the timeline; only differences mean anything. The
//! floor is the smallest transit of the last 5 to 10 s, so that it follows clock drift and a change of route. The
//! spread is a histogram in steps of 5 ms that forgets by halves.

const HALF_WINDOW_US: u64 = 5_000_000;
const BUCKET_US: i64 = 5_000;
const BUCKETS: usize = 64;
/// Weight of one packet; the counts are halved when their sum reaches `FULL`: after 128 packets.
const WEIGHT: u16 = 64;
const FULL: u32 = WEIGHT as u32 * 128;

#[derive(Debug)]
pub(super) struct DelayEstimate {
    /// Smallest transit of this half window and of the one before.
    floor_us: Option<[i64; 2]>,
    half_began_us: u64,
    /// The floor when the first half window had passed.
    first_floor_us: Option<i64>,
    buckets: [u16; BUCKETS],
    total: u32,
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
            buckets: [0; BUCKETS],
            total: 0,
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

    /// The delay above the floor that 97 of 100 packets keep to.
    pub(super) fn spread_us(&self) -> i64 {
        let enough = self.total - self.total * 3 / 100;
        let mut sum = 0;
        for (bucket, count) in (1..).zip(self.buckets) {
            sum += u32::from(count);
            if sum >= enough {
                return bucket * BUCKET_US;
            }
        }
        BUCKETS as i64 * BUCKET_US
    }

    fn turn_window(&mut self, now_us: u64, transit_us: i64) {
        let Some([current, before]) = self.floor_us else { return };
        let floor = current.min(before);
        self.first_floor_us.get_or_insert(floor);
        self.floor_us = Some([transit_us, current]);
        self.half_began_us = now_us;
        // where the floor rises, what was counted lies that much nearer to it
        let rise = ((self.floor_us() - floor).max(0) / BUCKET_US).min(BUCKETS as i64) as usize;
        if rise > 0 {
            let below: u16 = self.buckets.iter().take(rise + 1).fold(0, |sum, count| sum.saturating_add(*count));
            self.buckets.rotate_left(rise % BUCKETS);
            self.buckets.iter_mut().rev().take(rise).for_each(|count| *count = 0);
            if let Some(first) = self.buckets.first_mut() {
                *first = below;
            }
            self.total = self.buckets.iter().map(|count| u32::from(*count)).sum();
        }
    }

    fn count(&mut self, above_floor_us: i64) {
        let bucket = (above_floor_us.max(0) / BUCKET_US).min(BUCKETS as i64 - 1) as usize;
        if let Some(count) = self.buckets.get_mut(bucket) {
            *count = count.saturating_add(WEIGHT);
        }
        self.total += u32::from(WEIGHT);
        if self.total >= FULL {
            self.buckets.iter_mut().for_each(|count| *count /= 2);
            self.total = self.buckets.iter().map(|count| u32::from(*count)).sum();
        }
    }
}
