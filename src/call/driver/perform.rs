//! What reducers want done, done.

use std::sync::Arc;
use std::time::SystemTime;

use agent::briefing::Briefing;
use tokio::time::Instant;

use super::Driver;
use crate::call::app;
use crate::call::held_line::{Occupation, nobody_to_return_to};
use crate::call::line::{DIGIT_MS, LineOrder};
use crate::call::place::Place;
use crate::call::progress_tone::ProgressTone;
use crate::call::record::ConversationOutcome;
use crate::call::route::Target;
use crate::call::sound::{self, Sound};
use crate::call::{Action, Handover, Input, LegInput, LegNo, Phase, Role, Stage, Timer, note_refused};
use crate::call::{announce, keys, notice};

impl Driver {
    pub(super) fn perform(&mut self, action: Action) {
        match action {
            Action::Ring(no, code) => self.ring(no, code),
            Action::Answer(no) => self.answer_leg(no),
            Action::AnswerEarly(no) => self.answer_early(no),
            Action::Reject(no, code) => self.refuse(no, code),
            Action::Dial { leg, plan, group, branch } => self.dial(leg, plan, group, branch),
            Action::Report(no, result) => {
                self.log.came_to(no, result);
                if let Some(leg) = self.leg(no) {
                    leg.report(result);
                }
            }
            Action::StartConversation(no) => self.start_conversation(no),
            Action::Arm(timer, after) => {
                self.disarm(timer);
                self.timers.push((Instant::now() + after, timer));
            }
            Action::Disarm(timer) => self.disarm(timer),
            Action::DeliverDigit(no, digit) => {
                self.order(no, LineOrder::Digit(digit));
            }
            Action::Converse(no, target, handover) => self.converse(no, target, &handover),
            Action::Find(uri, device) => self.find(&uri, device),
            Action::FindOrPassBack(uri) => self.find_or_pass_back(&uri),
            Action::FindFor(no, uri, replaces) => self.find_for(no, &uri, replaces),
            Action::CallBack(no) => self.call_back(no),
            Action::Line(what) => self.line(what),
            Action::Enter(no, place) => self.enter(no, place, None),
            Action::Exchange(no, with, referrer) => self.enter(no, Place::Replace(with), Some(referrer)),
            Action::OpenRoom(places) => self.open_room(places),
            Action::Admit(no) => {
                self.focus(no);
                self.admit(no);
            }
            Action::Watch(no, how) => self.watch(no, how),
            Action::Release(no) => {
                if let Some(leg) = self.leg(no) {
                    leg.line.occupy(Box::new(app::idle));
                }
            }
            Action::Refer(no, to) => {
                let by = format!("<{}>", self.log.to());
                if let Some(sip) = self.leg(no).and_then(|leg| leg.sip) {
                    note_refused(self.hub.sip.refer(sip, &to, Some(&by)));
                }
            }
            Action::AcceptRefer(no) => {
                if let Some(leg) = self.leg(no) {
                    leg.referred = leg.sip;
                }
                self.on_refer(no, |sip, call| sip.accept_refer(call));
            }
            Action::RejectRefer(no, code) => {
                if let Some(leg) = self.leg(no) {
                    leg.referred = leg.sip;
                }
                self.on_refer(no, move |sip, call| sip.reject_refer(call, code));
            }
            Action::NotifyRefer(no, code) => self.on_refer(no, move |sip, call| sip.notify_refer(call, code, "")),
            Action::Part(no) => {
                self.mix.part(no);
                self.order(no, LineOrder::Leave);
                self.settle_tape(no);
            }
            Action::Music(no, on) => self.music(no, on),
            Action::Signal(no, tone) => self.signal(no, tone),
            Action::CallsFrom(no, others) => self.calls_from(no, others),
            Action::ReturnToAgent(no, why) => self.return_to_agent(no, why),
            Action::Announce { leg, summary, must_accept } => self.announce(leg, summary, must_accept),
            Action::Connect(a, b) => self.connect(a, b),
            Action::Press(no, digit) => self.press(no, digit),
            Action::Write(no, kind, text) => {
                if let Some(sip) = self.leg(no).and_then(|leg| leg.sip) {
                    note_refused(self.hub.signal().send_message(sip, &kind, text));
                }
            }
            Action::HangUp(no, reason) => self.hang_up(no, reason),
            Action::CloseMedia(no) => {
                if let Some(leg) = self.leg(no) {
                    leg.line.close();
                }
            }
        }
    }

    /// Whoever was to take a leg's place, and was not taken in, is none of this call's: whoever wanted that is told so.
    pub(super) fn refused_exchange(&mut self, leg: LegNo, replaced: LegNo) {
        if !self.is_here(leg) {
            self.perform(Action::NotifyRefer(replaced, 480));
        }
    }

    pub(super) fn order(&mut self, no: LegNo, order: LineOrder) -> bool {
        self.leg(no).is_some_and(|leg| leg.line.order(order))
    }

    fn disarm(&mut self, timer: Timer) {
        self.timers.retain(|(_, armed)| *armed != timer);
    }

    fn ring(&mut self, no: LegNo, code: u16) {
        if let Some(sip) = self.leg(no).and_then(|leg| leg.sip) {
            note_refused(self.hub.signal().ring(sip, code, None));
        }
    }

    /// Reserves a port, settles the sound, opens the leg and answers.
    fn answer_leg(&mut self, no: LegNo) {
        let mode = sound::mode_of(&self.target);
        let recorded = if no == LegNo::FIRST { self.tape_from_start(no) } else { None };
        let media = self.hub.media.clone();
        let near = self.worker();
        self.focus(no);
        let Some((sip, sound)) = self.leg(no).and_then(|leg| Some((leg.sip?, leg.sound.as_mut()?))) else { return };
        if let Some(sdp) = sound.answered_early() {
            self.log.answered(no, SystemTime::now());
            note_refused(self.hub.signal().answer(sip, sdp));
            return;
        }
        sound.open_near(near);
        match sound.answer(&media, mode, recorded.clone()) {
            Ok((sdp, port)) => {
                let (codec, protection) = (sound.codec_name().to_owned(), sound.protection_name());
                self.log.answered(no, SystemTime::now());
                self.log.set_sound(no, &codec, protection);
                self.taped_from_start(no, recorded.as_ref());
                if let Some(port) = port {
                    self.adopt(no, port);
                }
                note_refused(self.hub.signal().answer(sip, sdp));
            }
            Err(refusal) => {
                self.refuse(no, refusal.code);
                let is_guest = self.leg(no).is_some_and(|leg| leg.errand.is_some());
                if is_guest || matches!(self.phase, Phase::Bridged(_)) {
                    // Whoever answered is to be told.
                    self.queue.push(Input::Leg(no, LegInput::MediaFailed(refusal.end.detail)));
                } else {
                    self.phase = Phase::Over(refusal.answered());
                }
            }
        }
    }

    /// Opens the leg and says so by 183; where that cannot be, the caller hears ringing.
    fn answer_early(&mut self, no: LegNo) {
        let mode = sound::mode_of(&self.target);
        let media = self.hub.media.clone();
        let near = self.worker();
        let Some((sip, sound)) = self.leg(no).and_then(|leg| Some((leg.sip?, leg.sound.as_mut()?))) else { return };
        sound.open_near(near);
        match sound.answer_early(&media, mode) {
            Ok((sdp, port)) => {
                let (codec, protection) = (sound.codec_name().to_owned(), sound.protection_name());
                self.log.set_sound(no, &codec, protection);
                self.adopt(no, port);
                note_refused(self.hub.signal().ring(sip, 183, Some(sdp)));
            }
            Err(why) => {
                tracing::debug!(call = %self.log.id(), "call {}: no early media: {why}", self.log.id());
                self.ring(no, 180);
            }
        }
    }

    pub(super) fn adopt(&mut self, no: LegNo, port: media::LegPort) {
        let is_held_by_nobody = !self.target.converses();
        let Some(leg) = self.leg(no) else { return };
        leg.adopt(port);
        if leg.holds || leg.sound.as_ref().is_some_and(Sound::is_absent) {
            leg.line.order(LineOrder::Hold(true));
        }
        if is_held_by_nobody {
            leg.line.occupy(Box::new(app::idle));
        }
    }

    /// The worker that has the call's legs, once one is open: a room's members are all on one.
    pub(super) fn worker(&self) -> Option<media::WorkerId> {
        self.legs.iter().find_map(|leg| leg.place).map(|(worker, _)| worker)
    }

    /// Whatever is to be said on a REFER: it may outlive its leg.
    fn on_refer(
        &mut self,
        no: LegNo,
        say: impl FnOnce(&sip::io::SipHandle, sip::endpoint::CallId) -> Result<(), sip::io::HandleError>,
    ) {
        if let Some(call) = self.leg(no).and_then(|leg| leg.referred) {
            note_refused(say(&self.hub.sip, call));
        }
    }

    fn music(&mut self, no: LegNo, on: bool) {
        let hub = Arc::clone(&self.hub);
        let Some(leg) = self.leg(no) else { return };
        let music = leg.place.filter(|_| on).map(|(_, rate)| hub.music.at(rate));
        leg.line.order(LineOrder::Music(music));
    }

    fn signal(&mut self, no: LegNo, tone: Option<ProgressTone>) {
        let Some(leg) = self.leg(no) else { return };
        let tone = tone.and_then(|tone| leg.place.map(|(_, rate)| tone.at(rate)));
        leg.line.order(LineOrder::Music(tone));
    }

    fn calls_from(&mut self, no: LegNo, others: LegNo) {
        self.log.calls_from(no, others);
        if let Some(leg) = self.leg(no) {
            leg.role = Role::Caller;
        }
    }

    fn announce(&mut self, no: LegNo, summary: String, must_accept: bool) {
        let agent = if let Target::Agent(name) = &self.target { Some(name.clone()) } else { None };
        let voices = announce::Voices {
            agent: agent.map(|name| (self.hub.agents.clone(), name)),
            server: self.hub.config.calls.record_announcement_voice.clone(),
        };
        if let Some(leg) = self.leg(no) {
            leg.line.occupy(announce::occupation(voices, summary, must_accept));
        }
    }

    fn return_to_agent(&mut self, no: LegNo, why: String) {
        self.mix.part(no);
        let Some(leg) = self.leg(no) else { return };
        leg.line.order(LineOrder::Leave);
        let end = nobody_to_return_to(&why);
        if !leg.line.return_to_conversation(why) {
            self.queue.push(Input::Leg(no, LegInput::Conversed(end)));
        }
    }

    /// A key press to the peer: as an event of RTP (RFC 4733) where that was agreed, by INFO otherwise.
    fn press(&mut self, no: LegNo, digit: char) {
        let Some(leg) = self.leg(no) else { return };
        if leg.sound.as_ref().is_some_and(Sound::has_telephone_event) {
            leg.line.order(LineOrder::SendDigit(digit));
        } else if let Some(sip) = leg.sip {
            let body = keys::relayed(digit, DIGIT_MS);
            note_refused(self.hub.signal().send_info(sip, keys::DTMF_RELAY, body.into()));
        }
    }

    fn start_conversation(&mut self, no: LegNo) {
        let occupation = self.occupation(no);
        if let Some(leg) = self.leg(no) {
            leg.line.occupy(occupation);
        }
    }

    /// Whoever is to have the leg's line, after what its peer is still to hear of a recording.
    fn occupation(&mut self, no: LegNo) -> Occupation {
        let (occupation, observations) = self.hub.converse(&self.target);
        self.observations.extend(observations);
        match self.notice_for(no) {
            Some(pcm) => notice::before(pcm, occupation),
            None => occupation,
        }
    }

    /// Whoever is on the leg talks with an agent or a program from here on, and with nobody else's.
    fn converse(&mut self, no: LegNo, target: Target, handover: &Handover) {
        let (id, now) = (self.log.id().to_owned(), SystemTime::now());
        self.catch_up();
        // Who begins anew with somebody else was told of them by a person.
        let from = self.log.agent().filter(|agent| *agent != target.name()).unwrap_or_default().to_owned();
        tracing::info!(call = %id, "call {id}: leg {no} is handed over to {}", target.name());
        metrics::counter!("omnivox_handovers_total").increment(1);
        self.settle_tool(None);
        self.log.conversation_over(ConversationOutcome::Transferred, now);
        let (briefing, since) = (Briefing::of(handover, &from, self.log.said()), self.log.up_for(now));
        if !self.target.converses() {
            self.log.goes_to(&target);
        }
        self.target = target;
        self.handovers += 1;
        if self.hub.config.calls.record {
            self.tape_conversation(no);
        }
        let occupation = self.occupation(no);
        if let Some(leg) = self.leg(no) {
            leg.line.hand_over(Box::new(move |mut line| {
                line.brief(briefing, since);
                occupation(line)
            }));
        }
    }

    fn hang_up(&mut self, no: LegNo, reason: Option<&'static str>) {
        let reasons = reason.map(str::to_owned).or_else(|| self.reasons());
        let Some(leg) = self.leg(no) else { return };
        if leg.stage != Stage::Here {
            return;
        }
        leg.line.close();
        leg.reason = reason;
        leg.stage = match (leg.sip, leg.is_placing) {
            (None, false) => Stage::Over,
            _ => Stage::Going,
        };
        // It is charged for, and has its place within a trunk's limits, up to here, however long the peer takes to confirm it.
        leg.lease = None;
        if let Some(sip) = leg.sip {
            note_refused(self.hub.signal().bye(sip, reasons));
        }
        self.log.left(no, SystemTime::now());
    }
}
