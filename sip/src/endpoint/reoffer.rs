//! The running of the re-INVITE table (RFC 3261 section 14).

use std::time::{Duration, Instant};

use super::Endpoint;
use super::arena::Key;
use super::call::{CallTimer, Context, Retry, id, plain};
use super::event::{EndCause, Event};
use super::secret::Fingerprint;
use super::transactions::Purpose;
use crate::dialog::reoffer::{Action, Input, State, table};
use crate::dialog::session;
use crate::dialog::session::Phase;
use crate::method::Method;

impl Endpoint {
    /// Runs one step of a call's re-INVITE table; `false` where the input does not fit.
    pub(super) fn drive_reoffer(&mut self, now: Instant, key: Key, input: Input, context: Context<'_>) -> bool {
        let Some(call) = self.calls.get_mut(key) else { return false };
        let Some(step) = table(call.reoffer, input) else { return false };
        call.reoffer = step.next;
        for action in step.actions {
            self.perform_reoffer(now, key, *action, context);
        }
        if step.next == State::Quiet {
            self.drop_outdated(key);
        }
        self.arm_call(now, key);
        true
    }

    fn perform_reoffer(&mut self, now: Instant, key: Key, action: Action, context: Context<'_>) {
        match action {
            Action::TellReoffer => self.tell(Event::Reoffer { call: id(key), offer: context.sdp.cloned() }),
            // The refusal of a second re-INVITE is the receiving side's to send: it has the request.
            Action::Refuse500 | Action::Refuse491 => {}
            Action::SendAnswer => self.send_answer(now, key, context.reply),
            Action::SendPlainAnswer => self.answer_offered(now, key, context.reply),
            Action::SendPlainRefusal => {
                self.forget_description(key);
                self.answer_offered(now, key, context.reply);
            }
            Action::RepeatAnswer => self.repeat_answer(now, key),
            Action::StopRepeating => self.stop_repeating(key),
            Action::SendRefusal => {
                self.forget_description(key);
                self.refuse_asked(now, key, context.reply);
            }
            Action::SendTerminated => {
                self.forget_description(key);
                self.refuse_asked(now, key, Some(&plain(487)));
            }
            Action::SendInvite => {
                let offer = self.calls.get(key).and_then(|call| call.our_offer.clone());
                let body = offer.as_ref().map(|offer| ("application/sdp", offer));
                let txn = self.send_inside(now, key, (&Method::Invite, Purpose::Reinvite), &[], body);
                if let Some(call) = self.calls.get_mut(key) {
                    call.asking = txn;
                }
            }
            Action::SendAck => self.acknowledge(key, context),
            Action::TellAcked => self.tell(Event::Acked { call: id(key), answer: context.sdp.cloned() }),
            Action::TellResult => self.tell_result(key, context),
            Action::ScheduleRetry => {
                if let Some(call) = self.calls.get_mut(key) {
                    call.retry = Some(Retry { upon: call.our_description.clone() });
                }
                self.schedule_retry(now, key);
            }
            Action::EndGone => _ = self.drive(now, key, session::Input::Gone, Context::default()),
            Action::EndNoAck => {
                if let Some(call) = self.calls.get_mut(key) {
                    call.cause.get_or_insert(EndCause::NoAck);
                }
                self.drive(now, key, session::Input::HangUp, Context::default());
            }
        }
    }

    /// Tells what became of our re-INVITE: of a refresh only an answer that says something else than before.
    fn tell_result(&mut self, key: Key, context: Context<'_>) {
        let described = context.sdp.map(|sdp| self.description_fingerprint(sdp));
        let code = context.response.and_then(|response| response.code()).unwrap_or(408);
        let Some(call) = self.calls.get_mut(key) else { return };
        let is_new = code < 300 && described.is_some() && described != call.their_description;
        if !std::mem::take(&mut call.is_refresh) || is_new {
            self.tell(Event::ReofferResult { call: id(key), code, answer: context.sdp.cloned() });
        }
    }

    /// Notes what the peer describes, as the user is told of it.
    pub(super) fn note_description(&mut self, event: &Event) {
        let (Event::Incoming { call, offer: Some(sdp), .. }
        | Event::Acked { call, answer: Some(sdp) }
        | Event::Answered { call, answer: Some(sdp), .. }
        | Event::Reoffer { call, offer: Some(sdp) }
        | Event::ReofferResult { call, code: 200..=299, answer: Some(sdp) }) = event
        else {
            return;
        };
        let described = self.description_fingerprint(sdp);
        if let Some(call) = self.calls.get_mut(Key::from_u64(call.0)) {
            call.their_description = Some(described);
        }
    }

    /// An offer of the peer's came to nothing: what stands is what it described before.
    fn forget_description(&mut self, key: Key) {
        if let Some(call) = self.calls.get_mut(key) {
            call.their_description = None;
        }
    }

    /// What a description says besides its `o=` line.
    fn description_fingerprint(&self, sdp: &[u8]) -> Fingerprint {
        let lines: Vec<&[u8]> = sdp.split(|byte| *byte == b'\n').filter(|line| !line.starts_with(b"o=")).collect();
        self.secret.fingerprint(&lines)
    }

    /// 14.1: who made the Call-ID waits 2.1 to 4 s, the other 0 to 2 s, in steps of 10 ms.
    fn schedule_retry(&mut self, now: Instant, key: Key) {
        let random = self.secret.below(200);
        let Some(call) = self.calls.get_mut(key) else { return };
        let steps = if call.placed_here { 210 + random.min(190) } else { random };
        call.arm(CallTimer::Retry, now + Duration::from_millis(steps * 10));
    }

    /// We have described something else while the user's offer waits for another try: what it would be now, the user alone knows.
    fn drop_outdated(&mut self, key: Key) {
        let Some(call) = self.calls.get_mut(key).filter(|call| !call.is_refresh) else { return };
        if call.retry.take_if(|retry| retry.upon != call.our_description).is_some() {
            call.disarm(CallTimer::Retry);
            self.tell(Event::ReofferResult { call: id(key), code: 491, answer: None });
        }
    }

    pub(super) fn retry_reoffer(&mut self, now: Instant, key: Key) {
        let Some(call) = self.calls.get_mut(key) else { return };
        if call.phase != Phase::Established {
            return;
        }
        if call.reoffer == State::Quiet {
            call.retry = None;
            if call.is_refresh {
                // The peer's may have changed it.
                call.our_offer.clone_from(&call.our_description);
            }
            self.drive_reoffer(now, key, Input::Offer, Context::default());
        } else {
            // The peer's came first.
            self.schedule_retry(now, key);
        }
    }
}
