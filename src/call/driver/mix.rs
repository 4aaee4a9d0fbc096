//! Who is in the call's room, and who hears whom.

use codecs::pcm::SampleRate;
use media::{Members, Room};

use super::Driver;
use crate::call::leg::Leg;
use crate::call::line::LineOrder;
use crate::call::place::{Errand, Watching};
use crate::call::{Input, LegInput, LegNo, Phase, Role, Stage};

/// Places of a room of two: some are for supervisors.
const PLACES_OF_TWO: u8 = 6;
/// What a conference is mixed at.
const CONFERENCE_RATE: SampleRate = SampleRate::HZ_16000;

/// The call's room.
#[derive(Debug, Default)]
pub(super) struct Mix {
    room: Option<Room>,
    /// How many places the next room gets, and at which rate it is mixed; `None`: that of the first leg.
    plan: Option<(u8, SampleRate)>,
    seats: Vec<(LegNo, u8)>,
    next: u8,
}

impl Mix {
    /// A number that nobody has, and that nobody has had for as long as can be.
    fn number(&mut self, places: u8) -> Option<u8> {
        let free = (0..places)
            .map(|step| (self.next + step) % places)
            .find(|number| self.seats.iter().all(|(_, taken)| taken != number))?;
        self.next = (free + 1) % places;
        Some(free)
    }

    /// Whether the leg is in the room.
    pub(super) fn has(&self, no: LegNo) -> bool {
        self.seats.iter().any(|(leg, _)| *leg == no)
    }

    /// The leg is in the room no more.
    pub(super) fn part(&mut self, no: LegNo) {
        self.seats.retain(|(leg, _)| *leg != no);
    }

    /// Forgets the room; it is closed once all have left.
    fn renew(&mut self, plan: Option<(u8, SampleRate)>) {
        *self = Self { plan, ..Self::default() };
    }
}

impl Driver {
    pub(super) fn open_room(&mut self, places: u8) {
        self.mix.renew(Some((places, CONFERENCE_RATE)));
    }

    /// Connects two with one another, mixed at the higher of their rates; supervisors go with them.
    pub(super) fn connect(&mut self, a: LegNo, b: LegNo) {
        if [a, b].iter().all(|no| self.mix.has(*no)) {
            return;
        }
        let places = [a, b].map(|no| self.leg(no).and_then(|leg| leg.place));
        let [Some((_, one)), Some((_, other))] = places else {
            // Before the answer there may be none: whoever calls offered nothing.
            if matches!(self.phase, Phase::Dialing(_)) {
                return;
            }
            self.queue.push(Input::Leg(a, LegInput::MediaFailed("a leg has no sound".to_owned())));
            return;
        };
        let rate = if one.hz() >= other.hz() { one } else { other };
        self.mix.renew(Some((PLACES_OF_TWO, rate)));
        self.admit(a);
        self.admit(b);
        let watches = |leg: &&Leg| leg.is_up && !leg.holds && leg.stage == Stage::Here && leg.supervises();
        for no in self.legs.iter().filter(watches).map(|leg| leg.no).collect::<Vec<_>>() {
            self.admit(no);
        }
    }

    /// Puts a leg into the room, which is opened where there is none.
    pub(super) fn admit(&mut self, no: LegNo) {
        if self.mix.has(no) {
            return;
        }
        if let Err(why) = self.seat(no) {
            self.queue.push(Input::Leg(no, LegInput::MediaFailed(why)));
        }
        self.settle_hearing();
        self.settle_tape(no);
    }

    fn seat(&mut self, no: LegNo) -> Result<(), String> {
        let is_conversing = matches!(self.phase, Phase::Talking) && self.target.converses();
        let (worker, rate) = self.leg(no).and_then(|leg| leg.place).ok_or("the leg has no sound")?;
        let (places, rate) = *self.mix.plan.get_or_insert((PLACES_OF_TWO, rate));
        let room = match &self.mix.room {
            Some(room) => room.clone(),
            None => {
                let opened = self.hub.media.room(worker, rate, places.into()).map_err(|fault| fault.to_string())?;
                if matches!(self.phase, Phase::Conference) {
                    opened.tell_speakers();
                }
                self.mix.room.insert(opened).clone()
            }
        };
        let member = self.mix.number(places).ok_or("the room is full")?;
        let Some(leg) = self.leg(no) else { return Ok(()) };
        // An agent keeps its line, and what it says is heard by all.
        let is_agents = is_conversing && !leg.supervises();
        if !is_agents {
            leg.line.attend();
        }
        leg.line.order(LineOrder::Join { room, member, shares_voice: is_agents, tapped: is_agents });
        self.mix.seats.push((no, member));
        Ok(())
    }

    /// A supervisor takes part in another way.
    pub(super) fn watch(&mut self, no: LegNo, how: Watching) {
        if let Some(leg) = self.leg(no) {
            leg.errand = Some(Errand::Watch(how));
        }
        self.settle_hearing();
        self.settle_tape(no);
    }

    /// What a leg's peer says is heard by nobody, or is again.
    pub(super) fn mute(&mut self, no: LegNo, muted: bool) {
        let id = self.log.id().to_owned();
        let Some(leg) = self.leg(no) else {
            tracing::warn!(call = %id, "call {id}: there is no leg {no} to be muted");
            return;
        };
        leg.is_muted = muted;
        leg.line.order(LineOrder::Mute(muted));
        self.settle_hearing();
    }

    /// Tells the room who hears whom.
    fn settle_hearing(&self) {
        let Some(room) = &self.mix.room else { return };
        for (hearer, place) in &self.mix.seats {
            let unheard = self.mix.seats.iter().filter(|(speaker, _)| !self.is_heard(*speaker, *hearer));
            room.set_hears(*place, unheard.fold(Members::ALL, |heard, (_, seat)| heard.without(*seat)));
        }
    }

    /// Whether a leg is what a supervisor of the whole call means by our side: a device or a page of ours; of two of them, whoever was called.
    /// Where there is none, it is whoever the one that the call began with was connected with.
    fn is_our_side(&self, leg: &Leg) -> bool {
        let is_ours = |leg: &&Leg| leg.device.is_some() || leg.person.is_some();
        if leg.supervises() {
            return false;
        }
        match self.parties().filter(is_ours).count() {
            0 => leg.no != LegNo::FIRST,
            ours if ours == self.parties().count() => leg.role == Role::Callee,
            _ => is_ours(&leg),
        }
    }

    /// Whether one leg hears another: supervisors are heard as they want to be.
    fn is_heard(&self, speaker: LegNo, hearer: LegNo) -> bool {
        let find = |no| self.legs.iter().find(|leg| leg.no == no);
        let (Some(speaker), Some(hearer)) = (find(speaker), find(hearer)) else { return true };
        match speaker.errand {
            _ if speaker.is_muted => false,
            Some(Errand::Watch(Watching::Listen)) => false,
            Some(Errand::Watch(Watching::Whisper)) => match &speaker.watches {
                Some(device) if self.legs.iter().any(|leg| leg.is_device(device)) => hearer.is_device(device),
                // Nobody of that name is in the call: it was named by its id.
                _ => self.is_our_side(hearer),
            },
            _ => true,
        }
    }
}
