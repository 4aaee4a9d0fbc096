//! The call's recording, and who of its legs is in it.
//!
//! A leg is recorded by what its peer says, and by what the server plays to the peer. So the recording does not depend on rooms, workers
//! or who has left: it is whole as long as each leg that can be heard is in it.
//!
//! | call | in the recording |
//! | --- | --- |
//! | with an agent (`calls.record`) | the caller, from the first packet, or from where somebody passed them to the agent, to the last; whom the agent passes the call on to, once they are connected |
//! | bridged (`calls.record_bridged`) | both, and who takes their place, while they are connected: whoever is on hold speaks to nobody |
//! | a conference (`calls.record_conferences`) | everybody in it |
//!
//! Whoever called is on the left, whoever was called on the right. In a conference they take sides in turn, so that two who follow
//! one another can be told apart; one mixed file and no track for each member, since every player plays it and nobody has to put it
//! together before they hear anything. A supervisor is in it as far as everybody hears them.

use std::path::PathBuf;
use std::sync::Arc;

use codecs::pcm::SampleRate;
use media::{Recorded, RecorderConfig, Recording, Side};

use super::Driver;
use crate::call::line::LineOrder;
use crate::call::notice;
use crate::call::place::{Errand, Watching};
use crate::call::{LegNo, Phase, Role};

/// What calls of several legs are recorded at, whatever their codecs.
const RATE: SampleRate = SampleRate::HZ_16000;

/// The call's recording.
#[derive(Debug, Default)]
pub(super) struct Tape {
    /// To be made with the first leg, whoever else comes.
    wanted: Option<RecorderConfig>,
    /// Who came to an agent later.
    conversing: Option<LegNo>,
    recording: Option<Recording>,
    is_paused: bool,
    legs: Vec<(LegNo, Side)>,
    /// On which side whoever was in it was: who takes somebody's place takes their side too.
    sides: Vec<(LegNo, Side)>,
    /// Who has heard that they are recorded.
    told: Vec<LegNo>,
}

impl Tape {
    /// Of a call whose first leg is recorded, where there is one.
    pub(super) fn new(wanted: Option<RecorderConfig>) -> Self {
        Self { wanted, ..Self::default() }
    }

    /// The leg is over.
    pub(super) fn forget(&mut self, no: LegNo) {
        self.legs.retain(|(leg, _)| *leg != no);
    }

    /// Whether the first leg is recorded from its first packet on.
    fn is_of_first(&self) -> bool {
        self.wanted.is_some()
    }
}

impl Driver {
    /// How the call's first leg is recorded, from its first packet on.
    pub(super) fn tape_from_start(&mut self, no: LegNo) -> Option<Recorded> {
        let config = self.tape.wanted.clone()?;
        let recording = self.tape.recording.get_or_insert_with(|| self.hub.media.recording(config)).clone();
        let side = self.tape_side(no);
        self.tape.legs.push((no, side));
        self.tape.sides.push((no, side));
        Some(Recorded { recording, peer: side })
    }

    /// The first leg is open, or its offer is out: the record tells.
    pub(super) fn taped_from_start(&mut self, no: LegNo, recorded: Option<&Recorded>) {
        if let Some(recorded) = recorded {
            self.log.set_recording(recorded.recording.path().to_owned());
            self.log.set_side(no, recorded.peer);
        }
    }

    /// Sees to it that a leg is in the recording, or is not, as it should be now.
    pub(super) fn settle_tape(&mut self, no: LegNo) {
        let is_in = self.tape.legs.iter().any(|(leg, _)| *leg == no);
        match (is_in, self.is_to_be_taped(no)) {
            (false, true) => self.tape_leg(no),
            (true, false) => self.untape_leg(no),
            _ => {}
        }
    }

    /// The leg leaves the call.
    pub(super) fn untape_leg(&mut self, no: LegNo) {
        let before = self.tape.legs.len();
        self.tape.legs.retain(|(leg, _)| *leg != no);
        if self.tape.legs.len() != before {
            self.order(no, LineOrder::Record(None));
        }
    }

    /// Goes on with the recording, or pauses it.
    pub(super) fn pause_tape(&mut self, paused: bool) {
        let id = self.log.id();
        tracing::info!(call = %id, "call {id}: the recording {}", if paused { "pauses" } else { "goes on" });
        self.tape.is_paused = paused;
        for leg in &self.legs {
            leg.line.order(LineOrder::PauseRecording(paused));
        }
    }

    fn is_to_be_taped(&self, no: LegNo) -> bool {
        let Some(leg) = self.legs.iter().find(|leg| leg.no == no) else { return false };
        if (no == LegNo::FIRST && self.tape.is_of_first()) || self.tape.conversing == Some(no) {
            return true;
        }
        let is_heard = !matches!(leg.errand, Some(Errand::Watch(Watching::Listen | Watching::Whisper)));
        let calls = &self.hub.config.calls;
        let is_wanted = self.tape.recording.is_some()
            || match self.phase {
                Phase::Conference => calls.record_conferences,
                _ => calls.record_bridged && !self.target.converses(),
            };
        is_wanted && is_heard && self.mix.has(no)
    }

    /// Somebody talks with an agent from here on who did not before: the agent's beginning says that they are recorded.
    pub(super) fn tape_conversation(&mut self, no: LegNo) {
        self.tape.conversing = Some(no);
        if self.tape.legs.iter().all(|(leg, _)| *leg != no) {
            self.put_on_tape(no);
        }
    }

    fn tape_leg(&mut self, no: LegNo) {
        if self.put_on_tape(no)
            && let (Some(pcm), Some(leg)) = (self.notice_for(no), self.leg(no))
        {
            leg.line.occupy(notice::and_idle(pcm));
        }
    }

    /// Whether it is in the recording from here on.
    fn put_on_tape(&mut self, no: LegNo) -> bool {
        let config = self
            .tape
            .wanted
            .clone()
            .unwrap_or_else(|| RecorderConfig { rate: Some(RATE), ..self.hub.config.recorder_config(self.log.id()) });
        let recording = self.tape.recording.get_or_insert_with(|| self.hub.media.recording(config)).clone();
        let peer = self.tape_side(no);
        let path: PathBuf = recording.path().to_owned();
        if let Some(leg) = self.leg(no) {
            leg.line.attend();
        }
        self.order(no, LineOrder::PauseRecording(self.tape.is_paused));
        if self.order(no, LineOrder::Record(Some(Recorded { recording, peer }))) {
            self.tape.legs.push((no, peer));
            if !self.tape.sides.contains(&(no, peer)) {
                self.tape.sides.push((no, peer));
            }
            self.log.set_recording(path);
            self.log.set_side(no, peer);
            true
        } else {
            self.log.failure(format!("recording: leg {} could not be put into it", no.0));
            false
        }
    }

    /// What a leg that is recorded is still to hear of that, at its rate.
    pub(super) fn notice_for(&mut self, no: LegNo) -> Option<Arc<[i16]>> {
        let is_news = self.tape.legs.iter().any(|(leg, _)| *leg == no) && !self.tape.told.contains(&no);
        let (_, rate) = self.leg(no).filter(|_| is_news)?.place?;
        let pcm = self.hub.notice.at(rate)?;
        self.tape.told.push(no);
        Some(pcm)
    }

    fn tape_side(&self, no: LegNo) -> Side {
        let find = |no| self.legs.iter().find(|leg| leg.no == no);
        let before = match find(no).and_then(|leg| leg.errand) {
            Some(Errand::Replace(replaced)) => replaced,
            _ => no,
        };
        if let Some((_, side)) = self.tape.sides.iter().find(|(leg, _)| *leg == before) {
            return *side;
        }
        if matches!(self.phase, Phase::Conference) {
            let left = self.tape.legs.iter().filter(|(_, side)| *side == Side::Left).count();
            return if left * 2 <= self.tape.legs.len() { Side::Left } else { Side::Right };
        }
        let is_caller =
            find(no).is_some_and(|leg| leg.role == Role::Caller && !matches!(leg.errand, Some(Errand::Watch(_))));
        // A call that we place for somebody of our own: whom we called is the other side of it, and comes in.
        if is_caller || (no == LegNo::FIRST && self.tape.is_of_first()) { Side::Left } else { Side::Right }
    }
}
