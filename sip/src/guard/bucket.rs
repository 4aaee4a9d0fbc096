//! A token bucket without a timer: it is filled when it is asked.

use std::time::Instant;

use super::Rate;

/// Allowances that are left, and when they were counted.
#[derive(Debug, Clone, Copy)]
pub(super) struct Bucket {
    left: f32,
    counted: Instant,
}

impl Bucket {
    /// With all that its rate allows at once.
    pub(super) fn full(rate: Rate, now: Instant) -> Self {
        Self { left: rate.burst, counted: now }
    }

    /// Takes one allowance, where there is one.
    pub(super) fn take(&mut self, rate: Rate, now: Instant) -> bool {
        if rate.per_second.is_infinite() {
            return true;
        }
        let passed = now.saturating_duration_since(self.counted).as_secs_f32();
        self.left = (self.left + passed * rate.per_second).min(rate.burst);
        self.counted = self.counted.max(now);
        if self.left < 1.0 {
            return false;
        }
        self.left -= 1.0;
        true
    }
}
