//! The line's clock, read between frames too, and never backwards.

use std::time::Duration;

use tokio::time::Instant;

/// A frame further ahead of the clock than this, or behind it, is a break in the line's numbering and not in time.
const BREAK: Duration = Duration::from_secs(5);

/// Follows the positions of frames.
#[derive(Debug)]
pub(super) struct LineClock {
    /// What to add to a frame's own position, after breaks.
    offset_ms: f64,
    /// The first frame stands where the clock is, whatever its own position says.
    follows: bool,
    /// The end of the last frame.
    at: Duration,
    /// When that was set.
    set: Instant,
    read: Duration,
}

impl LineClock {
    /// A clock that shows this now.
    pub(super) fn at(now: Duration) -> Self {
        Self { offset_ms: 0.0, follows: now.is_zero(), at: now, set: Instant::now(), read: now }
    }

    /// A frame ended at `end_ms` of the line; returns where that is on this clock.
    pub(super) fn frame(&mut self, end_ms: f64) -> Duration {
        let end_ms = if end_ms.is_finite() { end_ms } else { 0.0 };
        let mut end = position(end_ms + self.offset_ms);
        let expected = self.now();
        if end.abs_diff(expected) > BREAK || !self.follows {
            self.follows = true;
            self.offset_ms = millis(expected) - end_ms;
            end = expected;
        }
        self.at = end.max(self.at);
        self.set = Instant::now();
        self.read = self.read.max(self.at);
        end
    }

    /// Now.
    pub(super) fn now(&mut self) -> Duration {
        self.read = self.read.max(self.at + self.set.elapsed());
        self.read
    }
}

/// As milliseconds.
pub(super) fn millis(at: Duration) -> f64 {
    at.as_secs_f64() * 1000.0
}

fn position(ms: f64) -> Duration {
    Duration::try_from_secs_f64(ms.max(0.0) / 1000.0).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_break_in_numbering_is_no_jump_in_time() {
        let mut clock = LineClock::at(Duration::ZERO);
        for n in 1..=50 {
            clock.frame(f64::from(n) * 20.0);
        }
        let before = clock.now();
        assert!(before >= Duration::from_secs(1));
        let end = clock.frame(9_000_000.0);
        assert!(end.abs_diff(before) < Duration::from_secs(1), "{end:?} after {before:?}");
        let next = clock.frame(9_000_020.0);
        assert!(next.saturating_sub(end) <= Duration::from_millis(21));
        assert!(clock.now() >= next);
    }

    #[test]
    fn a_clock_that_begins_later_goes_on_from_there_wherever_the_line_counts_from() {
        let began = Duration::from_secs(40);
        let mut clock = LineClock::at(began);
        let end = clock.frame(38_500.0);
        assert!(end >= began && end.abs_diff(began) < Duration::from_secs(1), "{end:?}");
        assert!(clock.frame(38_520.0).saturating_sub(end) <= Duration::from_millis(21));
    }

    #[test]
    fn nonsense_positions_do_no_harm() {
        let mut clock = LineClock::at(Duration::ZERO);
        for nonsense in [f64::NAN, f64::INFINITY, -1e300, 1e300] {
            clock.frame(nonsense);
        }
        assert!(clock.now() < Duration::from_secs(5));
    }
}
