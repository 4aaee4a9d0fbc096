//! What signalling brings, as inputs.

use std::net::IpAddr;
use std::sync::Arc;

use bytes::Bytes;
use sip::endpoint::{CallId, EndCause, Event};

use super::Driver;
use crate::call::dial::{DialPlan, Elsewhere, Party};
use crate::call::inbound::Refusal;
use crate::call::keys;
use crate::call::line::LineOrder;
use crate::call::sound::{Accepted, Sound};
use crate::call::switchboard::Mail;
use crate::call::{Input, LegInput, LegNo, Phase, Referred, SignallingEnd, Stage, note_refused};
use crate::web::{WebLegs, whip};

/// Events kept for legs that are about to come.
const STRAYS_LIMIT: usize = 64;

impl Driver {
    pub(super) fn mail(&mut self, mail: Mail) {
        match mail {
            Mail::Event(event) => self.event_of(event),
            Mail::Adopt(arrival) => self.adopt_leg(*arrival),
            Mail::Routed(no, routes) => self.routed(no, routes),
            Mail::Prepared(no, routes, port) => self.set_off(no, Ok(routes), port),
            Mail::Placed(no, placed) => self.placed(no, placed),
            Mail::Queue(news) => self.queue_news(news),
        }
    }

    /// Something happened to one of the legs, or to one that is not here.
    pub(super) fn event_of(&mut self, event: Event) {
        let Some(call) = event.call() else { return };
        match self.legs.iter().find(|leg| leg.sip == Some(call)).map(|leg| leg.no) {
            Some(no) => self.event(no, call, event),
            // Of a leg that was let go, or of one that is about to come from another call.
            None if self.strays.len() < STRAYS_LIMIT => self.strays.push(event),
            None => {}
        }
    }

    fn event(&mut self, no: LegNo, call: CallId, event: Event) {
        let input = match event {
            Event::Acked { answer, .. } => self.acked(no, answer),
            Event::ReferResult { code, .. } => Some(LegInput::Passed(code, code >= 300)),
            Event::ReferProgress { code, is_final, .. } => Some(LegInput::Passed(code, is_final)),
            Event::Message { content_type, body, .. } => Some(LegInput::Wrote(content_type, body)),
            Event::Identified { message, .. } => {
                self.identified(no, &message);
                None
            }
            Event::Info { content_type, body, .. } if content_type == whip::TRICKLE => {
                self.trickled(no, &body);
                None
            }
            Event::Info { content_type, body, .. } => keys::info_digit(&content_type, &body).map(LegInput::Digit),
            Event::Reoffer { offer, .. } => {
                self.reoffered(no, call, offer);
                None
            }
            Event::ReofferResult { code: 200..300, answer: Some(answer), .. } => {
                self.refreshed(no, answer);
                None
            }
            Event::Refer { refer_to, replaces, target, .. } => {
                let to = match (target, replaces) {
                    (Some(target), _) => Referred::Replace(target),
                    (None, replaces) => {
                        Referred::To { uri: refer_to, replaces: replaces.map(|replaces| replaces.to_string()) }
                    }
                };
                self.referred(no, call, to)
            }
            Event::Progress { code, answer, .. } => {
                if let Some(leg) = self.leg(no) {
                    leg.has_rung = true;
                }
                // Sound before the answer; one that cannot be used is no reason to end anything.
                let early_media = answer.is_some() && self.accept(no, answer).is_ok();
                Some(LegInput::Progress { code, early_media })
            }
            Event::Answered { answer, .. } => Some(self.answered(no, answer)),
            Event::Rejected { code, reason, response, .. } => {
                let elsewhere = self.redirected(no, code, &response);
                if let Some(leg) = self.leg(no) {
                    leg.refusal = Some(elsewhere.unwrap_or(SignallingEnd::Rejected { code, reason }));
                }
                None
            }
            Event::Ended { cause, reason_header, .. } => {
                if let Some(reasons) = reason_header {
                    self.log.gave_reasons(no, &reasons);
                    self.reasons = Some(reasons).filter(|_| self.leg(no).is_some_and(|leg| !leg.supervises()));
                }
                let refusal = self.leg(no).and_then(|leg| leg.refusal.take());
                self.ended(no, refusal.unwrap_or_else(|| signalling_end(cause)));
                None
            }
            // `Ended` follows and says all of it.
            _ => None,
        };
        if let Some(input) = input.filter(|_| self.is_here(no)) {
            self.queue.push(Input::Leg(no, input));
        }
        if !self.early.is_empty() && !self.is_being_answered() {
            self.queue.extend(self.early.drain(..).map(Input::Commanded));
        }
    }

    /// Where a leg's peer sends its callers on (3xx, RFC 3261 section 8.1.3.4), if it may: a phone of ours to whom its account may call,
    /// a carrier where its trunk says so. Others may not have us call whom they like.
    fn redirected(&mut self, no: LegNo, code: u16, response: &sip::Message) -> Option<SignallingEnd> {
        if code / 100 != 3 {
            return None;
        }
        let leg = self.leg(no)?;
        let (device, local, sent_on) = (leg.device.clone(), leg.local, leg.branch().and_then(|b| b.sent_on.clone()));
        let planned = match (sent_on, device) {
            (Some(sent_on), _) => sent_on(&Elsewhere::of(response, local)),
            (None, Some(device)) => self.sent_on_by(device, local, response)?,
            (None, None) => return None,
        };
        match planned {
            Ok(plan) => Some(SignallingEnd::Redirected(Arc::new(plan))),
            Err(refusal) => {
                let why = refusal.answered().detail;
                tracing::info!(call = %self.log.id(), "call {}: it is not sent on: {why}", self.log.id());
                None
            }
        }
    }

    fn sent_on_by(
        &self,
        device: String,
        local: Option<IpAddr>,
        response: &sip::Message,
    ) -> Option<Result<DialPlan, Refusal>> {
        let contact = response.contact().ok()?.uri_text.to_owned();
        let uri = self.log.from().to_owned();
        let diverted = self.history.sent_on(Some(&device), Elsewhere::of(response, local).reason);
        let signed = self.history.signed.clone();
        let party = Party { uri, device: Some(device), local, diverted, signed, ..Party::default() };
        Some(self.hub.dialer().plan(&contact, &party))
    }

    /// Devices may pass their calls on; others, carriers above all, may not have us call whom they like.
    fn referred(&mut self, no: LegNo, call: CallId, to: Referred) -> Option<LegInput> {
        let is_device = self.leg(no).is_some_and(|leg| leg.device.is_some());
        // Otherwise the call is about to become something else: later there is somebody to pass on, or it is said that there is not.
        let is_settled = matches!(
            self.phase,
            Phase::Bridged(_) | Phase::Talking | Phase::Conference | Phase::Parked(_) | Phase::Queued(_)
        );
        let code = match (is_device, is_settled) {
            (false, _) => 403,
            (_, false) => 491,
            _ => return Some(LegInput::Referred(to)),
        };
        note_refused(self.hub.sip.reject_refer(call, code));
        None
    }

    pub(super) fn is_here(&mut self, no: LegNo) -> bool {
        self.leg(no).is_some_and(|leg| leg.stage == Stage::Here)
    }

    pub(super) fn ended(&mut self, no: LegNo, end: SignallingEnd) {
        if self.goes_another_way(no, &end) {
            return;
        }
        if let Some(leg) = self.leg(no) {
            leg.stage = Stage::Over;
            leg.sip = None;
            self.queue.push(Input::Leg(no, LegInput::Ended(end)));
        }
    }

    /// The ACK; with a late offer it carries the peer's answer, and only now can the leg be opened or changed. That of a change within the
    /// call tells nothing else.
    fn acked(&mut self, no: LegNo, answer: Option<Bytes>) -> Option<LegInput> {
        let sound = self.leg(no)?.sound.as_ref()?;
        let (waits, was_held) = (sound.is_waiting_for_answer(), sound.is_on_hold());
        if waits && let Err(why) = self.accept(no, answer) {
            return Some(LegInput::MediaFailed(why));
        }
        let was_up = self.leg(no).is_some_and(|leg| std::mem::replace(&mut leg.is_up, true));
        // Within the call, the answer to a late offer may hold, or take that back.
        if was_up {
            self.note_hold(no, was_held);
        }
        (!was_up).then_some(LegInput::Acked)
    }

    fn answered(&mut self, no: LegNo, answer: Option<Bytes>) -> LegInput {
        match self.accept(no, answer) {
            Ok(()) => {
                self.note_up(no);
                LegInput::Answered
            }
            Err(why) => LegInput::MediaFailed(why),
        }
    }

    /// Takes the peer's answer to an offer of ours: the leg is opened, or changed where it is open.
    fn accept(&mut self, no: LegNo, answer: Option<Bytes>) -> Result<(), String> {
        let media = self.hub.media.clone();
        let Some(sound) = self.leg(no).and_then(|leg| leg.sound.as_mut()) else { return Ok(()) };
        let accepted = sound.accept(&media, answer)?;
        let (codec, protection) = (sound.codec_name().to_owned(), sound.protection_name());
        self.log.set_sound(no, &codec, protection);
        match accepted {
            Accepted::Opened(port) => self.adopt(no, port),
            Accepted::Changed(config) => {
                self.order(no, LineOrder::Update(Box::new(config)));
            }
        }
        Ok(())
    }

    /// The answer to a refresh of ours (RFC 4028 section 7.4) says something new: another address, or that the peer holds.
    fn refreshed(&mut self, no: LegNo, answer: Bytes) {
        let was_held = self.leg(no).and_then(|leg| leg.sound.as_ref()).is_some_and(Sound::is_on_hold);
        match self.accept(no, Some(answer)) {
            Ok(()) => self.note_hold(no, was_held),
            Err(why) => {
                tracing::info!(call = %self.log.id(), "call {}: an answer to a refresh cannot be used: {why}", self.log.id());
            }
        }
    }

    /// The session was settled anew: the leg's peer may hold from here on, or not any more.
    fn note_hold(&mut self, no: LegNo, was_held: bool) {
        let Some(leg) = self.leg(no) else { return };
        let is_held = leg.sound.as_ref().is_some_and(Sound::is_on_hold);
        if is_held != was_held {
            leg.holds = is_held;
            leg.line.order(LineOrder::Hold(is_held));
            self.queue.push(Input::Leg(no, LegInput::Held(is_held)));
        }
    }

    /// Further candidates of the peer's (RFC 8838).
    fn trickled(&mut self, no: LegNo, body: &[u8]) {
        let Some(sound) = self.leg(no).and_then(|leg| leg.sound.as_mut()) else { return };
        if let Some(config) = sound.trickle(body) {
            self.order(no, LineOrder::Update(Box::new(config)));
        }
    }

    fn reoffered(&mut self, no: LegNo, call: CallId, offer: Option<Bytes>) {
        let media = self.hub.media.clone();
        let Some(sound) = self.leg(no).and_then(|leg| leg.sound.as_mut()) else { return };
        let was_held = sound.is_on_hold();
        let settled = match offer {
            // A page may change its path, and nothing else (RFC 9725 section 4.3.3).
            Some(fragment) if WebLegs::is_web(call) => sound.restart(&fragment),
            offer => sound.reoffer(&media, offer),
        };
        match settled {
            Ok((sdp, change)) => {
                let (codec, protection) = (sound.codec_name().to_owned(), sound.protection_name());
                if let Some(config) = change {
                    self.order(no, LineOrder::Update(Box::new(config)));
                    self.log.set_sound(no, &codec, protection);
                }
                note_refused(self.hub.signal().answer_reoffer(call, sdp));
                self.note_hold(no, was_held);
            }
            Err(why) => {
                tracing::info!(call = %self.log.id(), "call {}: a change of the session was refused: {why}", self.log.id());
                note_refused(self.hub.signal().reject_reoffer(call, 488));
            }
        }
    }
}

/// What an end of signalling means for a leg.
#[must_use]
pub fn signalling_end(cause: EndCause) -> SignallingEnd {
    match cause {
        EndCause::LocalBye | EndCause::Refused(_) => SignallingEnd::Local,
        EndCause::RemoteBye => SignallingEnd::Remote,
        EndCause::Cancelled => SignallingEnd::Cancelled,
        EndCause::Rejected(code) => SignallingEnd::Rejected { code, reason: String::new() },
        EndCause::Timeout | EndCause::Gone => SignallingEnd::TimedOut,
        EndCause::NoAck => SignallingEnd::NoAck,
        other => SignallingEnd::TransportFailed(other.to_string()),
    }
}
