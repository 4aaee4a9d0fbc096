//! A room: up to 32 legs that hear one another. The mixer, without I/O.
//!
//! Every 20 ms each member gives what its peer said ([`Place::heard`]) and what its port says to the room
//! ([`Place::said`]), and gets the sum of those that it hears: all others, unless told otherwise. Nobody hears their own
//! sound. A sum that is too loud is turned down, not clipped.

mod activity;

use std::time::{Duration, Instant};

use codecs::pcm::{SampleRate, saturate};

use self::activity::Activity;

/// Sound in one frame of a room.
pub const FRAME_MS: u32 = 20;
/// Members of a room at most.
pub const MAX_MEMBERS: usize = 32;
/// The sum is turned down so that it stays below this.
const CEILING: i32 = 32_000;
/// After it was turned down, a member's sum comes back by so much a frame: to full in half a second.
const RELEASE: f32 = 0.04;
/// Frames that a late worker makes up for; those before are left out.
const CATCH_UP_FRAMES: u32 = 3;
/// Samples of a frame at most: 20 ms at 48 kHz.
pub(crate) const MAX_FRAME: usize = 960;

/// Members as a set, by their numbers.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash)]
pub struct Members(pub u32);

impl Members {
    /// Everybody.
    pub const ALL: Self = Self(u32::MAX);
    /// Nobody.
    pub const NONE: Self = Self(0);

    /// These and that one.
    #[must_use]
    pub fn with(self, member: u8) -> Self {
        Self(self.0 | 1_u32.checked_shl(member.into()).unwrap_or(0))
    }

    /// These without that one.
    #[must_use]
    pub fn without(self, member: u8) -> Self {
        Self(self.0 & !Self::NONE.with(member).0)
    }

    /// Whether that one is among them.
    #[must_use]
    pub fn has(self, member: u8) -> bool {
        self.0 & Self::NONE.with(member).0 != 0
    }
}

/// One member's place.
pub(crate) struct Place {
    /// The leg's slot, while somebody has the place.
    pub(crate) slot: Option<u32>,
    hears: Members,
    pub(crate) heard: Box<[i16]>,
    pub(crate) said: Box<[i16]>,
    gain: f32,
    pub(crate) activity: Activity,
}

/// The members' sound and who hears whom.
pub(crate) struct Room {
    places: Box<[Place]>,
    sum: Box<[i32]>,
    next: Instant,
    /// Members are told whether they speak.
    tells_speakers: bool,
}

impl Room {
    /// A room with as many places, whose first frame is mixed at `now`.
    pub(crate) fn new(now: Instant, rate: SampleRate, places: usize) -> Self {
        let samples = rate.samples_in_ms(FRAME_MS).min(MAX_FRAME);
        let place = || Place {
            slot: None,
            hears: Members::ALL,
            heard: vec![0; samples].into_boxed_slice(),
            said: vec![0; samples].into_boxed_slice(),
            gain: 1.0,
            activity: Activity::default(),
        };
        Room {
            places: (0..places.min(MAX_MEMBERS)).map(|_| place()).collect(),
            sum: vec![0; samples].into_boxed_slice(),
            next: now,
            tells_speakers: false,
        }
    }

    /// When the next frame is to be mixed.
    pub(crate) fn next(&self) -> Instant {
        self.next
    }

    /// Whether a frame is due; those for which it is too late are left out.
    pub(crate) fn is_due(&mut self, now: Instant) -> bool {
        let frame = Duration::from_millis(u64::from(FRAME_MS));
        let late = now.saturating_duration_since(self.next);
        if late >= frame * CATCH_UP_FRAMES {
            self.next += frame * (late.as_millis() / frame.as_millis()) as u32;
        }
        now >= self.next
    }

    /// The frame that was due is mixed.
    pub(crate) fn advance(&mut self) {
        self.next += Duration::from_millis(u64::from(FRAME_MS));
    }

    /// Gives a leg a place; false where there is none of that number, or somebody has it.
    pub(crate) fn enter(&mut self, member: u8, slot: u32) -> bool {
        let Some(place) = self.places.get_mut(usize::from(member)).filter(|place| place.slot.is_none()) else {
            return false;
        };
        place.slot = Some(slot);
        place.gain = 1.0;
        place.activity = Activity::default();
        true
    }

    /// Frees a place.
    pub(crate) fn leave(&mut self, member: u8) {
        if let Some(place) = self.places.get_mut(usize::from(member)) {
            place.slot = None;
            place.hears = Members::ALL;
            place.heard.fill(0);
            place.said.fill(0);
            place.activity = Activity::default();
        }
    }

    /// Settles whom a member hears.
    pub(crate) fn set_hears(&mut self, member: u8, whom: Members) {
        if let Some(place) = self.places.get_mut(usize::from(member)) {
            place.hears = whom;
        }
    }

    /// From here on members are told whether they speak.
    pub(crate) fn tell_speakers(&mut self) {
        self.tells_speakers = true;
    }

    /// Whether they are.
    pub(crate) fn tells_speakers(&self) -> bool {
        self.tells_speakers
    }

    /// Who speaks of those that a member hears, where more than one other is there.
    pub(crate) fn speakers_for(&self, member: u8) -> Members {
        let there = self.places.iter().filter(|place| place.slot.is_some()).count();
        let hears = self.places.get(usize::from(member)).map_or(Members::NONE, |place| place.hears.without(member));
        let speaks =
            self.places.iter().zip(0_u8..).filter(|(place, _)| place.slot.is_some() && place.activity.speaks());
        let heard = speaks.filter(|(_, other)| there > 2 && hears.has(*other));
        heard.fold(Members::NONE, |found, (_, other)| found.with(other))
    }

    /// Who is not there.
    pub(crate) fn absent(&self) -> Members {
        let absent = (0..).zip(&self.places).filter(|(_, place)| place.slot.is_none());
        absent.fold(Members::NONE, |found, (member, _)| found.with(member))
    }

    pub(crate) fn places_mut(&mut self) -> impl Iterator<Item = &mut Place> {
        self.places.iter_mut()
    }

    /// The leg that has this place.
    pub(crate) fn slot_of(&self, member: u8) -> Option<u32> {
        self.places.get(usize::from(member))?.slot
    }

    /// The two that are alone in it: each with its number and its leg's slot.
    pub(crate) fn only_two(&self) -> Option<[(u8, u32); 2]> {
        let mut members = (0..).zip(&self.places).filter_map(|(member, place)| Some((member, place.slot?)));
        let two = [members.next()?, members.next()?];
        members.next().is_none().then_some(two)
    }

    /// Whether one of two has to hear the other, and nothing is to be known of what they say.
    pub(crate) fn is_plain(&self, speaker: u8, hearer: u8) -> bool {
        !self.tells_speakers && self.places.get(usize::from(hearer)).is_some_and(|place| place.hears.has(speaker))
    }

    /// Fills `out` with what `member` hears of this frame, and returns it.
    pub(crate) fn mix<'a>(&mut self, member: u8, out: &'a mut [i16; MAX_FRAME]) -> &'a [i16] {
        let samples = self.sum.len();
        let Some(out) = out.get_mut(..samples) else { return &[] };
        let hears = self.places.get(usize::from(member)).map_or(Members::NONE, |place| place.hears.without(member));
        self.sum.fill(0);
        for (other, _) in self.places.iter().zip(0_u8..).filter(|(_, n)| hears.has(*n)) {
            if other.slot.is_none() {
                continue;
            }
            for ((sum, heard), said) in self.sum.iter_mut().zip(&other.heard).zip(&other.said) {
                *sum += i32::from(*heard) + i32::from(*said);
            }
        }
        let Some(place) = self.places.get_mut(usize::from(member)) else { return &[] };
        let peak = self.sum.iter().map(|sample| sample.abs()).max().unwrap_or(0);
        let fits = if peak > CEILING { CEILING as f32 / peak as f32 } else { 1.0 };
        let target = fits.min(place.gain + RELEASE);
        if place.gain == 1.0 && target == 1.0 {
            for (out, sum) in out.iter_mut().zip(&self.sum) {
                *out = saturate(*sum);
            }
            return out;
        }
        // Turned down at once, and back in a line.
        let from = place.gain.min(target);
        let step = (target - from) / samples.max(1) as f32;
        for ((out, sum), n) in out.iter_mut().zip(&self.sum).zip(0_u16..) {
            *out = saturate((*sum as f32 * (from + step * f32::from(n))) as i32);
        }
        place.gain = target;
        out
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing)]
    use super::*;

    fn room(levels: &[i16]) -> Room {
        let mut room = Room::new(Instant::now(), SampleRate::HZ_8000, levels.len());
        for (n, level) in levels.iter().enumerate() {
            assert!(room.enter(n as u8, n as u32));
            room.places[n].heard.fill(*level);
        }
        room
    }

    #[test]
    fn each_hears_all_others_and_not_themselves() {
        let mut room = room(&[1, 10, 100]);
        let mut out = [0; MAX_FRAME];
        assert!(room.mix(0, &mut out).iter().all(|s| *s == 110));
        assert!(room.mix(1, &mut out).iter().all(|s| *s == 101));
        let third = room.mix(2, &mut out);
        assert!(third.len() == 160 && third.iter().all(|s| *s == 11));
    }

    #[test]
    fn who_hears_whom_can_be_settled_for_each_member() {
        // A supervisor (2) listens to both and whispers to the agent (1) alone.
        let mut room = room(&[1, 10, 100]);
        room.set_hears(0, Members::ALL.without(2));
        let mut out = [0; MAX_FRAME];
        assert!(room.mix(0, &mut out).iter().all(|s| *s == 10));
        assert!(room.mix(1, &mut out).iter().all(|s| *s == 101));
        assert!(room.mix(2, &mut out).iter().all(|s| *s == 11));
    }

    #[test]
    fn what_is_too_loud_together_is_turned_down_and_comes_back() {
        let mut room = room(&[0, 30_000, 30_000]);
        let mut out = [0; MAX_FRAME];
        assert!(room.mix(0, &mut out).iter().all(|s| (31_900..=32_000).contains(s)));
        room.places[2].heard.fill(0);
        let first = room.mix(0, &mut out).to_vec();
        assert!(first.windows(2).all(|pair| pair[0] <= pair[1]) && first[0] < 17_000, "no jump");
        for _ in 0..20 {
            room.mix(0, &mut out);
        }
        assert!(room.mix(0, &mut out).iter().all(|s| *s == 30_000));
    }

    #[test]
    fn a_place_has_one_member_and_who_left_is_not_heard() {
        let mut room = room(&[5, 7]);
        assert!(!room.enter(1, 9) && !room.enter(2, 9));
        room.leave(1);
        let mut out = [1; MAX_FRAME];
        assert!(room.mix(0, &mut out).iter().all(|s| *s == 0));
        assert!(room.enter(1, 9));
        assert_eq!((room.slot_of(0), room.slot_of(1), room.slot_of(2)), (Some(0), Some(9), None));
    }

    #[test]
    fn a_room_that_comes_late_makes_up_for_a_little_and_leaves_out_the_rest() {
        let now = Instant::now();
        let mut room = Room::new(now, SampleRate::HZ_8000, 2);
        let mut frames = 0;
        while room.is_due(now + Duration::from_millis(45)) {
            room.advance();
            frames += 1;
        }
        assert_eq!(frames, 3);
        frames = 0;
        while room.is_due(now + Duration::from_secs(5)) {
            room.advance();
            frames += 1;
        }
        assert_eq!(frames, 1);
    }
}
