//! How often the thread looks for messages: at once while little is signalled, in rounds while much is.
//!
//! A message that is taken alone costs a wake-up of its own, of this thread and of whomever it has to tell something. Where messages come close
//! upon each other, they wait for each other, and the costs are shared. Taking a message four milliseconds later changes nothing for a caller: SIP's
//! shortest timer has 500 ms (RFC 3261 section 17.1.1.1).

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Rounds begin at least this far apart while it is busy.
const ROUND: Duration = Duration::from_millis(4);
/// Messages are counted over so long.
const WINDOW: Duration = Duration::from_millis(100);
/// So many of them in a window are much: one for each round.
const BUSY: u32 = 50;

/// Counts messages, and says when to look for more.
#[derive(Debug)]
pub(super) struct Pace(Mutex<State>);

#[derive(Debug)]
struct State {
    /// When the present window began.
    window: Instant,
    messages: u32,
    is_busy: bool,
    /// When a message was taken last.
    last: Instant,
}

impl Pace {
    pub(super) fn new(now: Instant) -> Self {
        Self(Mutex::new(State { window: now, messages: 0, is_busy: false, last: now }))
    }

    /// A message was taken.
    pub(super) fn note(&self, now: Instant) {
        let mut state = self.lock();
        if now.saturating_duration_since(state.window) >= WINDOW {
            // A window without enough ends it, and so does a pause.
            let is_next = now.saturating_duration_since(state.window) < 2 * WINDOW;
            *state = State { window: now, messages: 0, is_busy: is_next && state.messages >= BUSY, last: now };
        }
        state.messages += 1;
        state.is_busy |= state.messages >= BUSY;
        state.last = now;
    }

    /// How long to leave whatever comes now: to be asked when there is nothing else to do.
    pub(super) fn rest(&self, now: impl FnOnce() -> Instant) -> Option<Duration> {
        let state = self.lock();
        if !state.is_busy {
            return None;
        }
        let rest = ROUND.saturating_sub(now().saturating_duration_since(state.last));
        (!rest.is_zero()).then_some(rest)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// Notes a message every so many milliseconds; whether anything is left to wait after each.
    fn rests(pace: &Pace, from: Instant, every: Duration, messages: u32) -> Vec<Option<Duration>> {
        let at = |n| from + every * n;
        (0..messages)
            .map(|n| {
                pace.note(at(n));
                pace.rest(|| at(n))
            })
            .collect()
    }

    #[test]
    fn few_messages_are_taken_at_once_and_many_in_rounds() {
        let begun = Instant::now();
        let few = Pace::new(begun);
        assert!(rests(&few, begun, Duration::from_millis(3), 1_000).iter().all(Option::is_none));

        let many = Pace::new(begun);
        let all = rests(&many, begun, Duration::from_millis(1), 1_000);
        assert!(all[..BUSY as usize - 1].iter().all(Option::is_none), "it is not known yet");
        assert!(all[BUSY as usize..].iter().all(|rest| *rest == Some(ROUND)));
        let last = begun + Duration::from_millis(999);
        assert_eq!(many.rest(|| last + ROUND / 2), Some(ROUND / 2), "the rest of a round");
        assert_eq!(many.rest(|| last + ROUND), None);
    }

    #[test]
    fn whoever_comes_after_the_rush_is_taken_at_once() {
        let begun = Instant::now();
        let pace = Pace::new(begun);
        rests(&pace, begun, Duration::from_millis(1), 1_000);
        let later = begun + Duration::from_secs(5);
        pace.note(later);
        assert_eq!(pace.rest(|| later), None);

        rests(&pace, later, Duration::from_millis(1), 1_000);
        let slower = later + Duration::from_secs(1);
        let all = rests(&pace, slower, Duration::from_millis(10), 30);
        assert!(all[20..].iter().all(Option::is_none), "also where it comes to an end slowly: {all:?}");
    }
}
