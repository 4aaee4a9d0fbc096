//! What lines and conversations tell: into inputs, into the log, and to those who watch.

use std::time::SystemTime;

use agent::session::{SessionEvent, TurnRecord};
use media::tones::HeardTone;

use super::Driver;
use crate::call::app::Outcome;
use crate::call::end::EndReason;
use crate::call::held_line::Happening;
use crate::call::line::LineNote;
use crate::call::record::ConversationOutcome;
use crate::call::{ConversationEnd, Input, LegInput, LegNo, Phase, Stage};

impl Driver {
    pub(super) fn happened(&mut self, no: LegNo, happening: Happening) {
        match happening {
            Happening::Note(note) => self.noted(no, note),
            Happening::Conversed(outcome) => {
                let end = self.conversed(no, *outcome);
                self.queue.push(Input::Leg(no, LegInput::Conversed(end)));
            }
            Happening::LetGo(providers) => {
                self.catch_up();
                self.log.set_providers(providers);
                self.forget_left();
            }
        }
    }

    /// Where nobody goes back to a conversation that was left, what it holds is free, and a program learns that its caller is somebody else's.
    fn forget_left(&mut self) {
        if !matches!(self.phase, Phase::Transferring(_) | Phase::Talking) {
            self.legs.iter_mut().for_each(|leg| leg.line.forget_left());
        }
    }

    fn noted(&mut self, no: LegNo, note: LineNote) {
        let id = self.log.id();
        let input = match note {
            LineNote::TimedOut => LegInput::MediaTimedOut,
            LineNote::EngineGone => LegInput::MediaGone,
            LineNote::Digit(digit) => LegInput::Digit(digit),
            LineNote::Tone(heard) => {
                self.heard_tone(no, heard);
                return;
            }
            LineNote::Speaks(speaks) => return self.speaks(no, speaks),
            LineNote::RecordingFailed(why) => {
                tracing::error!(call = %id, "call {id}: the recording broke off: {why}");
                self.log.failure(format!("recording: {why}"));
                return;
            }
            LineNote::JoinFailed(why) | LineNote::ConnectFailed(why) => LegInput::MediaFailed(why),
            LineNote::UpdateFailed(why) => {
                tracing::warn!(call = %id, "call {id}: a change of the session could not be set up: {why}");
                return;
            }
        };
        self.queue.push(Input::Leg(no, input));
    }

    /// Something happened in a conversation, which counts its turns from 0.
    pub(super) fn observed(&mut self, mut event: SessionEvent) {
        self.log.number(&mut event);
        self.told(event);
    }

    /// Something happened in a conversation of this call.
    pub(super) fn told(&mut self, event: SessionEvent) {
        self.hub.observe(self.log.id(), &event);
        let index = match &event {
            SessionEvent::Turn(TurnRecord { index, .. }) => Some(*index),
            SessionEvent::Tool { turn, .. } => Some(*turn),
            _ => None,
        };
        if let (SessionEvent::Used(usage), Some(conversation)) = (&event, self.log.conversation()) {
            self.hub.records.used(self.log.id(), conversation, usage);
        }
        let has_begun = matches!(event, SessionEvent::Began(_));
        self.log.session_event(event, SystemTime::now());
        if let Some(turn) = index.and_then(|index| self.log.turn(index)) {
            self.hub.records.turn(self.log.id(), turn);
        }
        if has_begun {
            self.show();
            self.keep();
        }
    }

    /// How the legs sounded since the last look.
    pub(super) fn measure(&mut self) {
        let now = SystemTime::now();
        for leg in self.legs.iter().filter(|leg| leg.is_up && leg.stage == Stage::Here) {
            if let Some(gauge) = &leg.gauge {
                self.log.measure(leg.no, &gauge.stats(), now);
            }
        }
    }

    /// The line said something by a tone: it is noted, and told to those who watch.
    fn heard_tone(&mut self, no: LegNo, heard: HeardTone) {
        let (id, name) = (self.log.id(), heard.tone.name());
        tracing::info!(call = %id, "call {id}: leg {} sends a tone: {name}", no.0);
        metrics::counter!("omnivox_tones_total", "tone" => name).increment(1);
        if let Some(live) = &self.hub.live {
            live.tone(id, no.0, heard);
        }
        self.log.tone(no, heard, SystemTime::now());
    }

    /// What the conversation has told so far.
    pub(super) fn catch_up(&mut self) {
        while let Some(event) = self.observations.iter_mut().find_map(|conversation| conversation.try_recv().ok()) {
            self.observed(event);
        }
    }

    /// The agent's call was passed on, or that came to nothing; where the agent has it back, the agent tells.
    pub(super) fn passed_on(&mut self) {
        let failed = match &self.phase {
            Phase::Transferring(_) | Phase::Talking => return,
            Phase::Ending(end) | Phase::Over(end) if end.reason != EndReason::Transferred => {
                Some(format!("the call ended: {}", end.reason.as_str()))
            }
            _ => None,
        };
        self.forget_left();
        if failed.is_none() {
            self.log.conversation_over(ConversationOutcome::Transferred, SystemTime::now());
        }
        self.settle_tool(failed.as_deref());
    }

    /// What the agent wanted done is done, or failed.
    pub(super) fn settle_tool(&mut self, failed: Option<&str>) {
        if let Some(event) = self.log.settle_tool(failed, SystemTime::now()) {
            self.told(event);
        }
    }

    pub(super) fn conversed(&mut self, no: LegNo, outcome: Outcome) -> ConversationEnd {
        self.catch_up();
        self.log.set_providers(outcome.providers);
        match outcome.end {
            ConversationEnd::Done(_) => self.log.conversation_over(ConversationOutcome::HungUp, SystemTime::now()),
            ConversationEnd::Failed { .. } => {
                self.log.conversation_over(ConversationOutcome::Failed, SystemTime::now())
            }
            _ => {}
        }
        if let Some(leg) = self.leg(no) {
            leg.line.take_back(outcome.line, outcome.resume);
            if let ConversationEnd::Transfer(_) = outcome.end {
                leg.line.attend();
            }
        }
        outcome.end
    }
}
