//! A fault of this program (a panic) while a worker works for a leg or a room costs that leg, or those in the room; the worker's others go on.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use super::rooms::FIRST_ID;
use super::{Event, Outcome, Worker};

/// A worker that does nothing but fail ends: its legs are told.
const FAULTS_LIMIT: u32 = 8;

impl Worker {
    /// One round, also where it fails.
    pub(super) fn round_or_fault(&mut self) -> Outcome {
        // What is in pieces is taken out.
        if let Ok(outcome) = catch_unwind(AssertUnwindSafe(|| self.round(None))) {
            self.faults = 0;
            return outcome;
        }
        self.faults += 1;
        self.link.counters.faults.add(1);
        match self.faults < FAULTS_LIMIT {
            true => self.take_out(Instant::now()),
            false => return Outcome::Stopped,
        }
        Outcome::GoOn
    }

    /// Takes out whom it was at work for. They are told as if the whole worker had ended.
    fn take_out(&mut self, now: Instant) {
        let at_work = self.at_work.take();
        let Some(room) = at_work.and_then(|id| id.checked_sub(FIRST_ID)) else {
            return at_work.into_iter().for_each(|slot| self.give_up(now, slot));
        };
        for slot in 0..self.seats.len() as u32 {
            if self.seat(slot).is_some_and(|seat| seat.leg.room() == Some(room)) {
                self.give_up(now, slot);
            }
        }
    }

    /// Hands a leg back, without a goodbye to its peer.
    fn give_up(&mut self, now: Instant, slot: u32) {
        if let Some(seat) = self.take_seat(now, slot) {
            self.hand_back(Event::Removed { slot, seat });
            self.wake_async = true;
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};
    use std::time::Duration;

    use codecs::registry;

    use super::*;
    use crate::config::{LegConfig, LegMode, MediaConfig};
    use crate::io::Media;
    use crate::port::{LegEvent, LegPort};

    fn open(media: &Media) -> LegPort {
        let params = registry::find("PCMU", 8_000, 1).unwrap().params();
        let reserved = media.reserve().unwrap();
        media.open(reserved, LegConfig::new(params, 0, LegMode::Talk)).unwrap()
    }

    #[tokio::test]
    async fn a_leg_that_fails_is_taken_out_and_the_others_go_on() {
        let bind = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let (media, mut workers) = Media::by_hand(MediaConfig { bind, ..MediaConfig::default() }).unwrap();
        let mut worker = workers.pop().unwrap();
        let (mut fails, mut stays) = (open(&media), open(&media));
        worker.round(Some(Duration::ZERO));
        worker.seat(0).unwrap().leg.fails = true;
        while worker.seat(0).is_some() {
            assert_eq!(worker.round_or_fault(), Outcome::GoOn);
        }
        assert!(matches!(fails.next().await, LegEvent::Closed));
        assert_eq!((worker.legs, worker.faults), (1, 1));
        worker.round_or_fault();
        assert_eq!(worker.faults, 0);
        assert!(stays.try_next().is_none());
        let stats = media.stats();
        assert_eq!((stats.legs, stats.faults), (1, 1), "and its place is free");
    }
}
