//! A timer wheel for legs: one millisecond a slot, intrusive lists, no allocation after it is made.
//!
//! Each id has at most one timer. A time beyond the wheel's horizon fires at the horizon: legs are asked when they
//! next have something to do, and being asked early costs them a look at the time.

use std::time::{Duration, Instant};

/// Slots, and so the horizon in milliseconds.
const SLOTS: usize = 128;
const NONE: u32 = u32::MAX;

pub(crate) struct Wheel {
    start: Instant,
    heads: [u32; SLOTS],
    links: Box<[Link]>,
    /// Milliseconds since `start` up to which all slots were emptied.
    done_ms: u64,
    /// The latest time that was asked for. What is scheduled lies behind it, so that taking what is due always ends.
    now_ms: u64,
    armed: usize,
}

#[derive(Clone, Copy)]
struct Link {
    previous: u32,
    next: u32,
    /// The slot that this id is in, or `NONE`.
    slot: u32,
}

impl Wheel {
    /// A wheel for ids below `capacity`.
    pub(crate) fn new(now: Instant, capacity: usize) -> Self {
        let idle = Link { previous: NONE, next: NONE, slot: NONE };
        Wheel {
            start: now,
            heads: [NONE; SLOTS],
            links: vec![idle; capacity].into_boxed_slice(),
            done_ms: 0,
            now_ms: 0,
            armed: 0,
        }
    }

    /// Sets the timer of `id`, in place of one it has. An id beyond the capacity is ignored.
    pub(crate) fn schedule(&mut self, id: u32, at: Instant) {
        self.cancel(id);
        let micros = at.saturating_duration_since(self.start).as_micros();
        let due_ms = u64::try_from(micros.div_ceil(1_000)).unwrap_or(u64::MAX);
        let due_ms = due_ms.max(self.done_ms.max(self.now_ms) + 1).min(self.done_ms + SLOTS as u64 - 1);
        let slot = due_ms as usize % SLOTS;
        let Some(head) = self.heads.get_mut(slot) else { return };
        let Some(link) = self.links.get_mut(id as usize) else { return };
        let next = std::mem::replace(head, id);
        *link = Link { previous: NONE, next, slot: slot as u32 };
        if let Some(after) = self.links.get_mut(next as usize) {
            after.previous = id;
        }
        self.armed += 1;
    }

    /// Takes away the timer of `id`, if it has one.
    pub(crate) fn cancel(&mut self, id: u32) {
        let Some(link) = self.links.get_mut(id as usize) else { return };
        if link.slot == NONE {
            return;
        }
        let Link { previous, next, slot } = std::mem::replace(link, Link { previous: NONE, next: NONE, slot: NONE });
        match self.links.get_mut(previous as usize) {
            Some(before) => before.next = next,
            None => {
                if let Some(head) = self.heads.get_mut(slot as usize) {
                    *head = next;
                }
            }
        }
        if let Some(after) = self.links.get_mut(next as usize) {
            after.previous = previous;
        }
        self.armed -= 1;
    }

    /// Takes one id whose time has come at `now`; its timer is gone then.
    pub(crate) fn pop(&mut self, now: Instant) -> Option<u32> {
        let now_ms = self.ms(now);
        self.now_ms = now_ms;
        // After a long stall one lap empties everything.
        self.done_ms = self.done_ms.max(now_ms.saturating_sub(SLOTS as u64));
        while self.done_ms < now_ms {
            let head = self.heads.get((self.done_ms + 1) as usize % SLOTS).copied().unwrap_or(NONE);
            if head != NONE {
                self.cancel(head);
                return Some(head);
            }
            self.done_ms += 1;
        }
        None
    }

    /// Milliseconds, rounded up, until the first timer; `None` when there is none.
    pub(crate) fn wait_ms(&self, now: Instant) -> Option<u32> {
        if self.armed == 0 {
            return None;
        }
        let due_ms = (1..SLOTS as u64)
            .map(|ahead| self.done_ms + ahead)
            .find(|ms| self.heads.get(*ms as usize % SLOTS).is_some_and(|head| *head != NONE))?;
        let due = self.start + Duration::from_millis(due_ms);
        let micros = due.saturating_duration_since(now).as_micros();
        u32::try_from(micros.div_ceil(1_000)).ok()
    }

    fn ms(&self, now: Instant) -> u64 {
        u64::try_from(now.saturating_duration_since(self.start).as_millis()).unwrap_or(u64::MAX)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn due(wheel: &mut Wheel, now: Instant) -> Vec<u32> {
        let mut ids: Vec<u32> = std::iter::from_fn(|| wheel.pop(now)).collect();
        ids.sort_unstable();
        ids
    }

    #[test]
    fn fires_each_id_at_its_time_and_never_early() {
        let t = Instant::now();
        let mut wheel = Wheel::new(t, 8);
        wheel.schedule(1, t + 5 * MS);
        wheel.schedule(2, t + 5 * MS);
        wheel.schedule(3, t + 6 * MS + MS / 2);
        assert_eq!(wheel.wait_ms(t), Some(5));
        assert!(due(&mut wheel, t + 4 * MS).is_empty());
        assert_eq!(due(&mut wheel, t + 5 * MS), [1, 2]);
        assert!(due(&mut wheel, t + 6 * MS).is_empty());
        assert_eq!(due(&mut wheel, t + 7 * MS), [3]);
        assert_eq!(wheel.wait_ms(t), None);
    }

    #[test]
    fn a_cancelled_or_moved_timer_does_not_fire() {
        let t = Instant::now();
        let mut wheel = Wheel::new(t, 8);
        for id in 0..4 {
            wheel.schedule(id, t + 3 * MS);
        }
        wheel.cancel(1);
        wheel.cancel(1);
        wheel.schedule(2, t + 9 * MS);
        wheel.schedule(99, t + 3 * MS);
        assert_eq!(due(&mut wheel, t + 3 * MS), [0, 3]);
        assert_eq!(due(&mut wheel, t + 9 * MS), [2]);
    }

    #[test]
    fn times_past_and_beyond_the_horizon_fire_within_it() {
        let t = Instant::now();
        let mut wheel = Wheel::new(t, 8);
        wheel.schedule(0, t + 1_000 * MS);
        wheel.schedule(1, t);
        assert_eq!(due(&mut wheel, t + MS), [1]);
        assert_eq!(due(&mut wheel, t + 127 * MS), [0]);
    }

    #[test]
    fn one_that_is_always_due_fires_once_a_millisecond() {
        let t = Instant::now();
        let mut wheel = Wheel::new(t, 8);
        wheel.schedule(3, t);
        for ms in [1, 2, 7, 500] {
            let now = t + ms * MS;
            let mut fired = 0;
            while let Some(id) = wheel.pop(now) {
                wheel.schedule(id, t);
                fired += 1;
            }
            assert!((1..=2).contains(&fired), "{fired} times at {ms} ms");
        }
    }

    #[test]
    fn a_stall_of_several_laps_loses_nobody() {
        let t = Instant::now();
        let mut wheel = Wheel::new(t, 128);
        for id in 0..127 {
            wheel.schedule(id, t + (id + 1) * MS);
        }
        assert_eq!(due(&mut wheel, t + 100_000 * MS).len(), 127);
        wheel.schedule(5, t + 100_003 * MS);
        assert!(due(&mut wheel, t + 100_002 * MS).is_empty());
        assert_eq!(due(&mut wheel, t + 100_003 * MS), [5]);
    }
}
