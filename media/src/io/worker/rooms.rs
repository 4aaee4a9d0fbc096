//! Rooms on a worker: who is in which, and their frames.

use std::time::Instant;

use super::Seat;
use super::{Event, Worker};
use crate::config::MAX_LEGS_PER_WORKER;
use crate::io::record::RecordSink;
use crate::leg::{Joined, Music, passing};
use crate::room::{MAX_FRAME, MAX_MEMBERS, Members, Room};
use crate::rtp::levels::{SILENCE, level_of};

/// A room's id in the timer wheel is its slot and this.
pub(super) const FIRST_ID: u32 = MAX_LEGS_PER_WORKER as u32;

/// Commands about rooms, and about what a leg gives to and takes from its port.
pub(crate) enum RoomCommand {
    /// Take this room.
    Open { room: u32, mixer: Box<Room> },
    /// Hand it back. Nobody is in it any more.
    Close { room: u32 },
    /// Put a leg into a room.
    Join { slot: u32, joined: Box<Joined> },
    /// Take it out.
    Leave { slot: u32 },
    /// Tell its members whether they speak, and name to each whom it hears.
    TellSpeakers { room: u32 },
    /// Settle whom a member hears.
    Hears { room: u32, member: u8, whom: Members },
    /// Play this where nothing is said, or nothing any more.
    Music { slot: u32, music: Option<Box<Music>> },
    /// Whether what the peer says goes to the port.
    Tap { slot: u32, tapped: bool },
    /// Record the leg by this, or no more.
    Record { slot: u32, sink: Option<Box<RecordSink>> },
    /// While it pauses, there is silence in the recording.
    PauseRecording { slot: u32, paused: bool },
}

impl RoomCommand {
    /// The leg or the room that it is for, by its id in the wheel.
    pub(super) fn concerns(&self) -> u32 {
        match self {
            Self::Open { room, .. } | Self::Close { room } | Self::TellSpeakers { room } | Self::Hears { room, .. } => {
                FIRST_ID + room
            }
            Self::Join { slot, .. }
            | Self::Leave { slot }
            | Self::Music { slot, .. }
            | Self::Tap { slot, .. }
            | Self::Record { slot, .. }
            | Self::PauseRecording { slot, .. } => *slot,
        }
    }
}

/// What a room's command leaves over, to be dropped.
pub(crate) enum Spent {
    /// A place that was given up, or not got.
    Joined(Box<Joined>),
    /// A room that is closed.
    Room(u32, Box<Room>),
    /// Music that ended.
    Music(Box<Music>),
    /// The way to a recording that the leg is in no more.
    Sink(Box<RecordSink>),
}

impl Worker {
    pub(super) fn take_room_command(&mut self, now: Instant, command: RoomCommand) {
        let spent = match command {
            RoomCommand::Open { room, mixer } => self.open_room(room, mixer),
            RoomCommand::Close { room } => {
                self.wheel.cancel(FIRST_ID + room);
                let mixer = self.rooms.get_mut(room as usize).and_then(Option::take);
                mixer.map(|mixer| Spent::Room(room, mixer))
            }
            RoomCommand::Join { slot, joined } => self.join(now, slot, joined),
            RoomCommand::Leave { slot } => self.part(now, slot).map(Spent::Joined),
            RoomCommand::Hears { room, member, whom } => {
                if let Some(room) = self.room(room) {
                    room.set_hears(member, whom);
                }
                None
            }
            RoomCommand::TellSpeakers { room } => {
                if let Some(room) = self.room(room) {
                    room.tell_speakers();
                }
                None
            }
            RoomCommand::Music { slot, music } => match self.seat(slot) {
                Some(seat) => seat.leg.exchange_music(music).map(Spent::Music),
                None => music.map(Spent::Music),
            },
            RoomCommand::Record { slot, sink } => match self.seat(slot) {
                Some(seat) => seat.leg.exchange_record(sink).map(Spent::Sink),
                None => sink.map(Spent::Sink),
            },
            RoomCommand::PauseRecording { slot, paused } => {
                if let Some(seat) = self.seat(slot) {
                    seat.leg.pause_recording(paused);
                }
                None
            }
            RoomCommand::Tap { slot, tapped } => {
                if let Some(seat) = self.seat(slot) {
                    seat.leg.set_tapped(tapped);
                }
                None
            }
        };
        if let Some(spent) = spent {
            // A recording is complete once all its legs have gone.
            self.wake_async |= matches!(spent, Spent::Sink(_));
            self.hand_back(Event::Spent(spent));
        }
    }

    fn open_room(&mut self, room: u32, mixer: Box<Room>) -> Option<Spent> {
        let at = mixer.next();
        match self.rooms.get_mut(room as usize) {
            Some(place @ None) => {
                *place = Some(mixer);
                self.wheel.schedule(FIRST_ID + room, at);
                None
            }
            _ => Some(Spent::Room(room, mixer)),
        }
    }

    fn join(&mut self, now: Instant, slot: u32, joined: Box<Joined>) -> Option<Spent> {
        let former = self.part(now, slot).map(Spent::Joined);
        let (room, member) = (joined.room, joined.member);
        self.end_passing(now, room);
        let Some(seat) = self.seats.get_mut(slot as usize).and_then(Option::as_deref_mut) else {
            return Some(Spent::Joined(joined));
        };
        let mixer = self.rooms.get_mut(room as usize).and_then(Option::as_deref_mut);
        let Some(mixer) = mixer.filter(|_| former.is_none()) else { return Some(Spent::Joined(joined)) };
        if !mixer.enter(member, slot) {
            return Some(Spent::Joined(joined));
        }
        seat.leg.join(joined, mixer.next());
        self.wheel.schedule(slot, seat.leg.next_wake(now));
        former
    }

    /// Takes a leg out of the room it is in.
    pub(super) fn part(&mut self, now: Instant, slot: u32) -> Option<Box<Joined>> {
        self.end_passing_of(now, slot);
        let seat = self.seats.get_mut(slot as usize)?.as_deref_mut()?;
        let joined = seat.leg.part()?;
        if let Some(room) = self.rooms.get_mut(joined.room as usize).and_then(Option::as_deref_mut) {
            room.leave(joined.member);
        }
        Some(joined)
    }

    /// Lets those who are two in a room pass their packets on to one another, where that is all that they hear.
    /// Whether both do.
    fn settle_passing(&mut self, now: Instant, room: u32) -> bool {
        let Some(mixer) = self.rooms.get(room as usize).and_then(Option::as_deref) else { return false };
        let Some([one, other]) = mixer.only_two() else { return false };
        let mut pass = 0;
        for ((speaker, from), (hearer, to)) in [(one, other), (other, one)] {
            let wanted = (mixer.next(), mixer.is_plain(speaker, hearer));
            let Some([from, to_seat]) = two(&mut self.seats, from, to) else { continue };
            let (to_leg, out) = (&mut to_seat.leg, &mut to_seat.sockets);
            let passed = passing::settle(now, wanted, &mut from.leg, (to, to_leg), &mut self.scratch, out);
            self.link.counters.relayed.add(passed);
            pass += u32::from(to_seat.leg.is_passed_to());
            if to_seat.leg.changed_pace() {
                self.wheel.schedule(to, to_seat.leg.next_wake(now));
            }
        }
        pass == 2
    }

    /// Ends it for the two in a room.
    fn end_passing(&mut self, now: Instant, room: u32) {
        let Some(mixer) = self.rooms.get(room as usize).and_then(Option::as_deref) else { return };
        let Some([(_, one), (_, other)]) = mixer.only_two() else { return };
        for (from, to) in [(one, other), (other, one)] {
            let Some([from, to_seat]) = two(&mut self.seats, from, to) else { continue };
            passing::end(now, mixer.next(), &mut from.leg, &mut to_seat.leg, &mut self.scratch);
            self.wheel.schedule(to, to_seat.leg.next_wake(now));
        }
    }

    /// The same for the room that a leg is in, where it is in one.
    pub(super) fn end_passing_of(&mut self, now: Instant, slot: u32) {
        let seat = self.seats.get(slot as usize).and_then(Option::as_deref);
        if let Some(room) = seat.and_then(|seat| seat.leg.room()) {
            self.end_passing(now, room);
        }
    }

    /// Mixes the frames of a room that are due.
    pub(super) fn run_room(&mut self, now: Instant, room: u32) {
        let pass = self.settle_passing(now, room);
        let Some(mixer) = self.rooms.get_mut(room as usize).and_then(Option::as_deref_mut) else { return };
        let mut mixed = [0; MAX_FRAME];
        let mut sources = [(0, SILENCE); MAX_MEMBERS];
        let tells_speakers = mixer.tells_speakers();
        while mixer.is_due(now) {
            if pass {
                mixer.advance();
                continue;
            }
            let mut heard = mixer.absent();
            for ((place, source), member) in mixer.places_mut().zip(&mut sources).zip(0..) {
                let Some(slot) = place.slot else { continue };
                let Some(seat) = self.seats.get_mut(slot as usize).and_then(Option::as_deref_mut) else { continue };
                seat.leg.read_for_room(now, &mut place.heard, &mut place.said, &mut self.scratch);
                heard = if seat.leg.is_playing() { heard.with(member) } else { heard };
                if tells_speakers {
                    *source = (seat.leg.peer_ssrc(), level_of(&place.heard));
                    if let Some(speaks) = place.activity.push(&place.heard) {
                        seat.leg.note_speaking(speaks);
                    }
                }
            }
            for member in 0..MAX_MEMBERS as u8 {
                let Some(slot) = mixer.slot_of(member) else { continue };
                let Some(seat) = self.seats.get_mut(slot as usize).and_then(Option::as_deref_mut) else { continue };
                if !seat.leg.takes_frame(mixer.next(), heard) {
                    continue;
                }
                if seat.leg.changed_pace() {
                    self.wheel.schedule(slot, seat.leg.next_wake(now));
                }
                if tells_speakers {
                    let speaking = mixer.speakers_for(member);
                    let speakers = (0_u8..).zip(&sources).filter(|(other, _)| speaking.has(*other));
                    seat.leg.name_sources(speakers.map(|(_, source)| *source));
                }
                seat.leg.send_from_room(mixer.mix(member, &mut mixed), &mut self.scratch);
            }
            mixer.advance();
        }
        self.wheel.schedule(FIRST_ID + room, mixer.next());
    }

    fn room(&mut self, room: u32) -> Option<&mut Room> {
        self.rooms.get_mut(room as usize)?.as_deref_mut()
    }
}

/// Two legs' seats at once.
fn two(seats: &mut [Option<Box<Seat>>], one: u32, other: u32) -> Option<[&mut Seat; 2]> {
    let [one, other] = seats.get_disjoint_mut([one as usize, other as usize]).ok()?;
    Some([one.as_deref_mut()?, other.as_deref_mut()?])
}
