//! A room as the async side holds it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Instant;

use codecs::pcm::SampleRate;

use super::link::WorkerLink;
use super::worker::RoomCommand;
use crate::error::MediaError;
use crate::leg::Joined;
use crate::port::LegPort;
use crate::room::{self, MAX_MEMBERS, Members};

/// Legs that hear one another. Clones share it; it is closed when the last clone is gone and all legs have left.
#[derive(Clone)]
pub struct Room {
    seat: Arc<RoomSeat>,
}

/// Held by the room's owner and by each member.
pub(crate) struct RoomSeat {
    link: Arc<WorkerLink>,
    slot: u32,
    rate: SampleRate,
    places: u8,
    taken: AtomicU32,
}

/// A leg's membership: its place is free again when this is dropped.
pub(crate) struct Membership {
    seat: Arc<RoomSeat>,
    pub(crate) member: u8,
}

impl Room {
    pub(super) fn open(link: &Arc<WorkerLink>, rate: SampleRate, places: usize) -> Result<Self, MediaError> {
        if !(2..=MAX_MEMBERS).contains(&places) {
            return Err(MediaError::Room("a room has 2 to 32 places"));
        }
        let slot = link.take_room()?;
        let mixer = Box::new(room::Room::new(Instant::now(), rate, places));
        link.send_room(RoomCommand::Open { room: slot, mixer });
        let seat = RoomSeat { link: Arc::clone(link), slot, rate, places: places as u8, taken: AtomicU32::new(0) };
        Ok(Room { seat: Arc::new(seat) })
    }

    /// Puts a leg into the room: its peer hears all others, and they hear its peer; with `shares_voice` also what the
    /// port says. Returns its number. A leg that is in another room leaves that first; one that is on another worker moves to the
    /// room's, which costs it a few milliseconds of sound.
    ///
    /// # Errors
    /// [`MediaError::Room`] where the room is full, or the leg is none that talks; [`MediaError::Full`] where the room's worker is.
    pub fn join(&self, port: &mut LegPort, shares_voice: bool) -> Result<u8, MediaError> {
        self.enter(port, None, shares_voice)
    }

    /// The same, with a number of one's own choice: whom that number hears can be settled before.
    ///
    /// # Errors
    /// As [`Room::join`], and where somebody has that number.
    pub fn join_as(&self, port: &mut LegPort, member: u8, shares_voice: bool) -> Result<(), MediaError> {
        self.enter(port, Some(member), shares_voice).map(drop)
    }

    fn enter(&self, port: &mut LegPort, member: Option<u8>, shares_voice: bool) -> Result<u8, MediaError> {
        if port.config().mode != crate::config::LegMode::Talk {
            return Err(MediaError::Room("only legs that talk can be in a room"));
        }
        port.leave();
        let membership = match member {
            Some(member) => self.take_this_place(member)?,
            None => self.take_place()?,
        };
        port.handle().move_to(&self.seat.link)?;
        let (room, member) = (self.seat.slot, membership.member);
        let joined = Joined::new(
            Instant::now(),
            (room, member),
            shares_voice,
            port.config(),
            port.audio_rate(),
            self.seat.rate,
        )?;
        port.enter(Box::new(joined), membership);
        Ok(member)
    }

    /// Settles whom the leg hears that has this number or gets it. In the beginning, and again when it has left: all others.
    pub fn set_hears(&self, member: u8, whom: Members) {
        self.seat.link.send_room(RoomCommand::Hears { room: self.seat.slot, member, whom });
    }

    /// From here on each member's port is told whether its peer speaks ([`LegEvent::Speaks`](crate::LegEvent::Speaks)), and what a member is sent names the
    /// sources of those who speak in it, where there are more than two (RFC 3550 section 7.1).
    pub fn tell_speakers(&self) {
        self.seat.link.send_room(RoomCommand::TellSpeakers { room: self.seat.slot });
    }

    /// How many legs are in it.
    #[must_use]
    pub fn members(&self) -> usize {
        self.seat.taken.load(Ordering::Acquire).count_ones() as usize
    }

    /// Sample rate of its mixer.
    #[must_use]
    pub fn rate(&self) -> SampleRate {
        self.seat.rate
    }

    fn take_this_place(&self, member: u8) -> Result<Membership, MediaError> {
        let bit = 1_u32.checked_shl(member.into()).filter(|_| member < self.seat.places);
        let bit = bit.ok_or(MediaError::Room("the room has no such place"))?;
        if self.seat.taken.fetch_or(bit, Ordering::AcqRel) & bit != 0 {
            return Err(MediaError::Room("somebody has that place of the room"));
        }
        Ok(Membership { seat: Arc::clone(&self.seat), member })
    }

    fn take_place(&self) -> Result<Membership, MediaError> {
        let mut member = 0;
        let places = self.seat.places;
        self.seat
            .taken
            .fetch_update(Ordering::AcqRel, Ordering::Acquire, |taken| {
                member = taken.trailing_ones();
                (member < u32::from(places)).then(|| taken | 1 << member)
            })
            .map_err(|_| MediaError::Room("all places of the room are taken"))?;
        Ok(Membership { seat: Arc::clone(&self.seat), member: member as u8 })
    }
}

impl std::fmt::Debug for Room {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (slot, rate) = (self.seat.slot, self.seat.rate);
        f.debug_struct("Room").field("slot", &slot).field("rate", &rate).field("members", &self.members()).finish()
    }
}

impl Drop for Membership {
    fn drop(&mut self) {
        self.seat.taken.fetch_and(!(1 << self.member), Ordering::AcqRel);
    }
}

impl Drop for RoomSeat {
    fn drop(&mut self) {
        self.link.send_room(RoomCommand::Close { room: self.slot });
    }
}
