//! A fault of this program (a panic) while a worker works for a leg or a room costs that leg, or those in the room; the worker's others go on.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::Instant;

use super::rooms::FIRST_ID;
use super::{Event, Outcome, Worker};
use crate::room::MAX_MEMBERS;

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
        // Those that came behind the command at which it failed.
        self.commands_left = true;
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
        // Whoever gets this place next is in no room that the leg was about to enter.
        for room in self.rooms.iter_mut().flatten() {
            for member in 0..MAX_MEMBERS as u8 {
                if room.slot_of(member) == Some(slot) {
                    room.leave(member);
                }
            }
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::panic)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};
    use std::time::Duration;

    use codecs::pcm::SampleRate;
    use codecs::registry;

    use super::*;
    use crate::config::{DtmfFormat, LegConfig, LegMode, MediaConfig};
    use crate::io::Media;
    use crate::port::{LegEvent, LegPort};

    fn open(media: &Media) -> LegPort {
        let params = registry::find("PCMU", 8_000, 1).unwrap().params();
        let reserved = media.reserve().unwrap();
        let keys = DtmfFormat { payload_type_send: 101, payload_type_recv: 101, clock_hz: 8_000 };
        media.open(reserved, LegConfig { dtmf: Some(keys), ..LegConfig::new(params, 0, LegMode::Talk) }).unwrap()
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

    #[tokio::test]
    async fn a_leg_that_fails_at_what_it_is_told_is_told_of_it_and_what_came_behind_is_done() {
        let bind = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let (media, mut workers) = Media::by_hand(MediaConfig { bind, ..MediaConfig::default() }).unwrap();
        let mut worker = workers.pop().unwrap();
        let (mut fails, mut stays) = (open(&media), open(&media));
        worker.round(Some(Duration::ZERO));
        worker.seat(0).unwrap().leg.fails_told = true;
        fails.send_digit('1', 100).unwrap();
        let behind = open(&media);
        assert_eq!(worker.round_or_fault(), Outcome::GoOn);
        assert_eq!((worker.legs, worker.faults), (1, 1));
        assert!(matches!(fails.next().await, LegEvent::Closed));
        // It does not wait for another command.
        assert_eq!(worker.round_or_fault(), Outcome::GoOn);
        assert_eq!((worker.legs, worker.faults), (2, 0));
        assert!(stays.try_next().is_none());
        assert_eq!(media.stats().legs, 2, "and its place is free");
        // One that fails at its end gives its place up too.
        worker.seat(2).unwrap().leg.fails_told = true;
        drop(behind);
        assert_eq!(worker.round_or_fault(), Outcome::GoOn);
        tokio::time::sleep(Duration::from_millis(300)).await;
        assert_eq!((worker.legs, media.stats().legs, media.stats().faults), (1, 1, 2));
    }

    #[tokio::test]
    async fn a_leg_that_fails_as_it_enters_a_room_leaves_its_place_there_to_nobody() {
        let bind = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let (media, mut workers) = Media::by_hand(MediaConfig { bind, ..MediaConfig::default() }).unwrap();
        let mut worker = workers.pop().unwrap();
        let (mut fails, mut stays) = (open(&media), open(&media));
        let room = media.room(fails.worker(), SampleRate::HZ_8000, 2).unwrap();
        room.join(&mut stays, false).unwrap();
        worker.round(Some(Duration::ZERO));
        worker.seat(0).unwrap().leg.fails_told = true;
        room.join(&mut fails, false).unwrap();
        assert_eq!(worker.round_or_fault(), Outcome::GoOn);
        assert!(matches!(fails.next().await, LegEvent::Closed));
        let places = |worker: &Worker| {
            let room = worker.rooms[0].as_deref().unwrap();
            (0..MAX_MEMBERS as u8).filter_map(|member| room.slot_of(member)).collect::<Vec<_>>()
        };
        assert_eq!((places(&worker), worker.legs, worker.faults), (vec![1], 1, 1));
        // Whoever comes in its place is in no room.
        let next = open(&media);
        worker.round_or_fault();
        assert!(worker.seat(0).is_some_and(|seat| seat.leg.room().is_none()));
        assert_eq!(places(&worker), [1]);
        drop(next);
    }

    #[tokio::test]
    async fn a_worker_stops_although_a_leg_fails_at_its_end() {
        let bind = IpAddr::V4(Ipv4Addr::LOCALHOST);
        let (media, mut workers) = Media::by_hand(MediaConfig { bind, ..MediaConfig::default() }).unwrap();
        let mut worker = workers.pop().unwrap();
        let (mut fails, mut other) = (open(&media), open(&media));
        worker.round(Some(Duration::ZERO));
        worker.seat(0).unwrap().leg.fails_told = true;
        media.shutdown();
        assert_eq!(worker.round_or_fault(), Outcome::GoOn);
        assert_eq!(worker.round_or_fault(), Outcome::Stopped);
        assert_eq!((worker.legs, worker.link.counters.faults.load()), (0, 1));
        drop(worker);
        assert!(matches!(fails.next().await, LegEvent::Closed));
        assert!(matches!(other.next().await, LegEvent::Closed));
    }
}
