//! When a delivery is tried again, and when an endpoint is left alone. Nothing here reads a clock or rolls dice: `now` and `roll` (0 to 1)
//! are arguments.

use super::client::Answer;
use crate::time::Moment;

/// After each failed attempt the next comes so many seconds later (Standard Webhooks' own schedule); the one after the last is none.
pub const RETRIES_S: [i64; 9] = [5, 300, 1_800, 2 * 3_600, 5 * 3_600, 10 * 3_600, 14 * 3_600, 20 * 3_600, 24 * 3_600];
/// A wait is up to this much longer or shorter than it says, so that those who failed together do not come back together.
const JITTER: f64 = 0.2;
/// What `Retry-After` asks for at most, in seconds.
pub const RETRY_AFTER_LIMIT_S: i64 = 86_400;
/// After so many failures without a success between them an endpoint is asked by one delivery at a time.
pub const TRIPS_AFTER: i64 = 5;
/// The first such probe comes after so many seconds, each later one after twice as long, up to [`PROBED_S`].
const FIRST_PROBE_S: i64 = 10;
/// A failing endpoint is probed at least this often, where something is due; in seconds.
pub const PROBED_S: i64 = 300;
/// An endpoint that has failed for so long is switched off, in seconds.
pub const DISABLED_AFTER_S: i64 = 5 * 86_400;

/// How an endpoint fares.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Health {
    /// Failures since the last success.
    pub failures: i64,
    /// Since when it fails.
    pub failing_since: Option<Moment>,
    /// Nothing is sent before this moment.
    pub not_before: Moment,
}

/// What an attempt leads to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Next {
    /// It arrived.
    Delivered,
    /// It is tried again at this moment.
    Again(Moment),
    /// It is not tried again.
    Dead,
}

/// Why an endpoint is switched off.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Off {
    /// It says that it is gone (410).
    Gone,
    /// It failed for days.
    Failing,
}

impl Off {
    /// In words.
    #[must_use]
    pub fn why(self) -> &'static str {
        match self {
            Self::Gone => "the endpoint says that it is gone (410)",
            Self::Failing => "every delivery failed for five days",
        }
    }
}

impl Health {
    /// Whether one delivery at a time is sent.
    #[must_use]
    pub fn is_probed(&self) -> bool {
        self.failures >= TRIPS_AFTER
    }

    /// How it fares after these attempts, which were made side by side; and whether it is switched off.
    #[must_use]
    pub fn after(self, answers: &[Answer], now: Moment, roll: f64) -> (Self, Option<Off>) {
        if answers.contains(&Answer::Gone) {
            return (self, Some(Off::Gone));
        }
        if answers.is_empty() {
            return (self, None);
        }
        let waits = answers.iter().filter_map(Answer::retry_after_s).max();
        let asked = waits.map_or(Moment(0), |wait| now.after_s(wait.clamp(0, RETRY_AFTER_LIMIT_S)));
        if answers.iter().any(Answer::is_delivered) {
            return (Self { not_before: asked, ..Self::default() }, None);
        }
        let failures = self.failures.saturating_add(i64::try_from(answers.len()).unwrap_or(i64::MAX));
        let since = self.failing_since.unwrap_or(now);
        let probe = match failures - TRIPS_AFTER {
            over @ 0.. => later(now, FIRST_PROBE_S.saturating_mul(1 << over.min(20)).min(PROBED_S), roll),
            _ => Moment(0),
        };
        let off = (now.0 - since.0 >= DISABLED_AFTER_S * 1_000).then_some(Off::Failing);
        (Self { failures, failing_since: Some(since), not_before: asked.max(probe) }, off)
    }
}

/// What becomes of a delivery after its attempt of this number, from 1.
#[must_use]
pub fn next(attempt: i64, answer: &Answer, now: Moment, roll: f64) -> Next {
    if answer.is_delivered() {
        return Next::Delivered;
    }
    let wait = usize::try_from(attempt).ok().and_then(|attempt| RETRIES_S.get(attempt.checked_sub(1)?));
    let Some(wait) = wait else { return Next::Dead };
    let asked = answer.retry_after_s().map_or(now, |wait| now.after_s(wait.clamp(0, RETRY_AFTER_LIMIT_S)));
    Next::Again(later(now, *wait, roll).max(asked))
}

#[allow(clippy::cast_possible_truncation, clippy::cast_precision_loss)]
fn later(now: Moment, seconds: i64, roll: f64) -> Moment {
    let factor = 1.0 + JITTER * (2.0 * roll.clamp(0.0, 1.0) - 1.0);
    Moment(now.0.saturating_add((seconds as f64 * 1_000.0 * factor) as i64))
}

#[cfg(test)]
mod tests {
    use super::*;

    const REFUSED: Answer = Answer::Refused { status: 500, retry_after_s: None };
    const DONE: Answer = Answer::Delivered { status: 204 };

    #[test]
    fn a_delivery_is_tried_ten_times_over_three_days_and_is_dead_then() {
        let (mut now, mut waits) = (Moment(0), Vec::new());
        let mut attempt = 1;
        loop {
            match next(attempt, &REFUSED, now, 0.5) {
                Next::Again(at) => waits.push((at.0 - now.0) / 1_000),
                Next::Dead => break,
                Next::Delivered => unreachable!(),
            }
            now = now.after_s(*waits.last().unwrap());
            attempt += 1;
        }
        assert_eq!(attempt, 10);
        assert_eq!(waits, RETRIES_S);
        assert_eq!(next(3, &DONE, now, 0.5), Next::Delivered);
        for (roll, wait_ms) in [(0.0, 4_000), (0.5, 5_000), (1.0, 6_000)] {
            assert_eq!(next(1, &REFUSED, Moment(0), roll), Next::Again(Moment(wait_ms)));
        }
    }

    #[test]
    fn what_the_endpoint_asks_for_is_waited_for_up_to_a_day() {
        let asked = |wait| Answer::Refused { status: 429, retry_after_s: Some(wait) };
        assert_eq!(next(1, &asked(60), Moment(0), 0.5), Next::Again(Moment(60_000)));
        assert_eq!(
            next(2, &asked(60), Moment(0), 0.5),
            Next::Again(Moment(300_000)),
            "it is not tried sooner for that"
        );
        assert_eq!(next(1, &asked(i64::MAX), Moment(0), 0.5), Next::Again(Moment(86_400_000)));
        assert_eq!(Health::default().after(&[asked(60)], Moment(0), 0.5).0.not_before, Moment(60_000));
    }

    #[test]
    fn an_endpoint_that_fails_is_probed_and_healthy_again_at_the_first_success() {
        let mut health = Health::default();
        let mut waits = Vec::new();
        for _ in 0..12 {
            health = health.after(&[REFUSED], Moment(0), 0.5).0;
            waits.push(health.not_before.0 / 1_000);
        }
        assert_eq!(waits, [0, 0, 0, 0, 10, 20, 40, 80, 160, 300, 300, 300]);
        assert!(health.is_probed());
        assert_eq!(health.after(&[REFUSED, DONE], Moment(9), 0.5), (Health::default(), None));
        assert_eq!(health.after(&[], Moment(9), 0.5), (health, None));
    }

    #[test]
    fn an_endpoint_that_is_gone_or_fails_for_days_is_switched_off() {
        assert_eq!(Health::default().after(&[DONE, Answer::Gone], Moment(0), 0.5).1, Some(Off::Gone));
        let failing = Health::default().after(&[REFUSED], Moment(0), 0.5).0;
        let almost = Moment(DISABLED_AFTER_S * 1_000 - 1);
        assert_eq!(failing.after(&[REFUSED], almost, 0.5).1, None);
        assert_eq!(failing.after(&[REFUSED], almost.after_s(1), 0.5).1, Some(Off::Failing));
        assert_eq!(failing.after(&[DONE], almost.after_s(1), 0.5).1, None);
    }
}
