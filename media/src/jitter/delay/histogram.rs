//! How far packets come behind the fastest, counted in steps of 5 ms; forgets by halves.

const BUCKET_US: i64 = 5_000;
const BUCKETS: usize = 64;

/// Of the last `PACKETS` packets, or half as many.
#[derive(Debug)]
pub(super) struct Histogram<const PACKETS: u32> {
    buckets: [u16; BUCKETS],
    total: u32,
}

impl<const PACKETS: u32> Histogram<PACKETS> {
    /// Of one packet: so much that it lasts for as many halvings as matter.
    const WEIGHT: u16 = 64;

    pub(super) fn new() -> Self {
        Self { buckets: [0; BUCKETS], total: 0 }
    }

    pub(super) fn count(&mut self, above_floor_us: i64) {
        let bucket = (above_floor_us.max(0) / BUCKET_US).min(BUCKETS as i64 - 1) as usize;
        if let Some(count) = self.buckets.get_mut(bucket) {
            *count = count.saturating_add(Self::WEIGHT);
        }
        self.total += u32::from(Self::WEIGHT);
        if self.total >= u32::from(Self::WEIGHT) * PACKETS {
            self.buckets.iter_mut().for_each(|count| *count /= 2);
            self.sum_up();
        }
    }

    /// The delay that all but so many of 100 packets keep to.
    pub(super) fn covers_us(&self, late_percent: u32) -> i64 {
        let enough = self.total - self.total * late_percent / 100;
        let mut sum = 0;
        for (bucket, count) in (1..).zip(self.buckets) {
            sum += u32::from(count);
            if sum >= enough {
                return bucket * BUCKET_US;
            }
        }
        BUCKETS as i64 * BUCKET_US
    }

    /// What delay is counted from has moved up by so much.
    pub(super) fn draw_nearer(&mut self, by_us: i64) {
        let steps = (by_us.max(0) / BUCKET_US).min(BUCKETS as i64) as usize;
        if steps == 0 {
            return;
        }
        let below: u16 = self.buckets.iter().take(steps + 1).fold(0, |sum, count| sum.saturating_add(*count));
        self.buckets.rotate_left(steps % BUCKETS);
        self.buckets.iter_mut().rev().take(steps).for_each(|count| *count = 0);
        if let Some(first) = self.buckets.first_mut() {
            *first = below;
        }
        self.sum_up();
    }

    fn sum_up(&mut self) {
        self.total = self.buckets.iter().map(|count| u32::from(*count)).sum();
    }
}
