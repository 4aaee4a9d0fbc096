//! Responses that come in: matched to their transactions, and what they mean for calls (RFC 3261 sections 13.2.2, 14.1,
//! 15.1.1 and 22).

use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use super::Endpoint;
use super::arena::Key;
use super::call::{CallTimer, Context, id};
use super::challenge::{Sent, Tried};
use super::connected::takes_from_change;
use super::event::{Destination, EndCause, Event, Source, Target};
use super::inbound::takes_update;
use super::transactions::Purpose;
use super::validate;
use crate::dialog::reoffer;
use crate::dialog::session::{Input, Phase};
use crate::message::Message;
use crate::transaction::{self, State};

/// A response and the request that it answers.
struct Answered {
    response: Arc<Message>,
    code: u16,
    /// Our request, where it is kept.
    request: Option<Sent>,
    sdp: Option<Bytes>,
    /// Where our request went.
    to: Destination,
}

impl Answered {
    fn context(&self) -> Context<'_> {
        let request = self.request.as_ref().map(|sent| &sent.bytes);
        Context { response: Some(&self.response), request, sdp: self.sdp.as_ref(), reply: None }
    }
}

impl Endpoint {
    pub(super) fn receive_response(&mut self, now: Instant, source: &Source, response: Message) {
        let (Ok(via), Ok(cseq), Some(code)) = (response.top_via(), response.cseq(), response.code()) else { return };
        // 18.1.2 has sent-by checked; the branch that nobody can guess does that here. 8.1.3.3: one Via, ours.
        let fingerprint = self.client_fingerprint(via.branch().unwrap_or(""), cseq.method.as_str());
        let Some(key) = self.clients.get(&fingerprint).copied() else {
            self.stats.strays += 1;
            return;
        };
        let before = self.state(key);
        let Some(txn) = self.transactions.get_mut(key) else { return };
        let tried = if code < 200 { Tried::default() } else { std::mem::take(&mut txn.tried) };
        let request = txn.machine.kept.clone().map(|bytes| Sent { bytes, tried });
        let owner = txn.owner;
        let way = (txn.to.clone(), txn.local);
        let effects = self.step(now, key, transaction::Input::response(code), None);
        if effects.ack {
            self.acknowledge_failure(key, before != Some(State::Completed), &response);
        }
        self.settle(now, key, effects);
        let (true, Some((call, purpose))) = (effects.pass_up, owner) else { return };
        let sdp = validate::description(&response);
        let answered = Answered { sdp, response: Arc::new(response), code, request, to: way.0.clone() };
        match (purpose, self.calls.get(call).is_some()) {
            (Purpose::Request, _) => {
                self.outgoing_answered(now, call, way, &answered.response, answered.request.as_ref());
            }
            (Purpose::Invite, true) => self.invite_answered(now, call, source, &answered),
            // The call is over, and yet somebody picked up.
            (Purpose::Invite, false) if (200..300).contains(&code) => {
                self.hang_up_fork(now, &answered.response, way);
            }
            (Purpose::Reinvite, true) => self.reinvite_answered(now, call, &answered),
            (Purpose::Subscribe | Purpose::Notify, _) if code >= 200 => {
                let answer = Some((&*answered.response, answered.request.as_ref()));
                self.subscription_answered(now, call, purpose, code, answer);
            }
            (purpose, true) if code >= 200 && purpose.method().is_some() => {
                if self.retry_with_credentials(now, call, purpose, &answered) {
                    return;
                }
                match purpose {
                    Purpose::Bye => _ = self.drive(now, call, Input::ByeDone, Context::default()),
                    Purpose::Refer => self.refer_answered(now, call, code, Some(&answered.response)),
                    Purpose::Report => self.report_answered(call, code),
                    Purpose::Update => self.update_answered(now, call, code, Some(&answered.response)),
                    Purpose::Prack => {}
                    purpose => self.info_done(now, call, purpose, code),
                }
            }
            _ => {}
        }
    }

    fn invite_answered(&mut self, now: Instant, key: Key, source: &Source, answered: &Answered) {
        let context = answered.context();
        let Some(call) = self.calls.get_mut(key) else { return };
        if call.way.transport == source.transport {
            call.way.flow = Some(source.flow);
        }
        let phase = call.phase;
        match answered.code {
            0..=199 => {
                if self.early_progress(now, key, &answered.response, answered.sdp.as_ref()) {
                    self.drive(now, key, Input::Provisional, context);
                }
            }
            200..=299 => self.invite_succeeded(now, key, source, context),
            422 if self.retry_with_longer_session(now, key, answered) => {}
            401 | 407 if matches!(phase, Phase::Calling | Phase::Ringing) => {
                if !self.retry_with_credentials(now, key, Purpose::Invite, answered) {
                    self.invite_failed(now, key, context);
                }
            }
            _ => self.invite_failed(now, key, context),
        }
    }

    fn invite_failed(&mut self, now: Instant, key: Key, context: Context<'_>) {
        if let Some(call) = self.calls.get_mut(key) {
            call.asking = None;
        }
        self.drive(now, key, Input::Failure, context);
    }

    fn invite_succeeded(&mut self, now: Instant, key: Key, source: &Source, context: Context<'_>) {
        let Some(response) = context.response else { return };
        let tag = response.to().ok().and_then(|to| to.tag()).unwrap_or("").to_owned();
        let Some(call) = self.calls.get_mut(key) else { return };
        if call.fingerprint.is_some() {
            if call.dialog.remote_tag != tag {
                // 13.2.2.4: another fork answered as well.
                return self.hang_up_other_fork(now, key, &tag, response);
            }
            self.drive(now, key, Input::Success, context);
            return;
        }
        call.disarm(CallTimer::Ring);
        call.disarm(CallTimer::CancelLimit);
        if call.dialog.complete(response, self.config.limits.routes).is_err() {
            call.cause = Some(EndCause::ProtocolError);
            self.drive(now, key, Input::Unreachable, Context::default());
            return;
        }
        call.way.target = Target::Address(source.remote);
        call.takes_update = takes_update(response);
        call.takes_from_change = takes_from_change(response);
        let inherited = self.settle_early(key, Some(&tag));
        self.session_answered(now, key, response);
        let Some(call) = self.calls.get_mut(key) else { return };
        call.dialog.remote_seq = inherited.remote_seq;
        let call_id = call.dialog.call_id.clone();
        let local_tag = call.dialog.local_tag.clone();
        let fingerprint = self.dialog_fingerprint(&call_id, &local_tag, &tag);
        if let Some(call) = self.calls.get_mut(key) {
            call.fingerprint = Some(fingerprint);
        }
        self.dialogs.insert(fingerprint, key);
        // The answer may have come with a provisional response alone (RFC 3261 section 13.2.1).
        let sdp = context.sdp.or(inherited.answer.as_ref());
        self.drive(now, key, Input::Success, Context { sdp, ..context });
    }

    fn hang_up_other_fork(&mut self, now: Instant, key: Key, tag: &str, response: &Arc<Message>) {
        let Some(call) = self.calls.get_mut(key) else { return };
        let known = call.forks.iter().any(|fork| fork == tag);
        if !known && call.forks.len() < self.config.limits.forks {
            call.forks.push(tag.to_owned());
        }
        let way = (call.way.clone(), call.local);
        if known {
            self.acknowledge_fork(response, way);
        } else {
            self.hang_up_fork(now, response, way);
        }
    }

    fn reinvite_answered(&mut self, now: Instant, key: Key, answered: &Answered) {
        let context = answered.context();
        let input = match answered.code {
            0..=199 => return,
            200..=299 => {
                if let Some(call) = self.calls.get_mut(key) {
                    call.dialog.refresh_target(&answered.response);
                    call.contact_told();
                    call.our_description = call.our_offer.clone().or_else(|| call.our_description.take());
                }
                self.session_answered(now, key, &answered.response);
                reoffer::Input::Success
            }
            401 | 407 => {
                if self.retry_with_credentials(now, key, Purpose::Reinvite, answered) {
                    return;
                }
                reoffer::Input::Failure
            }
            491 => reoffer::Input::Glare,
            408 | 481 => reoffer::Input::Gone,
            _ => reoffer::Input::Failure,
        };
        let Some(call) = self.calls.get_mut(key) else { return };
        call.asking = None;
        if call.is_refresh && input == reoffer::Input::Failure {
            self.refresh_failed(now, key);
        }
        self.drive_reoffer(now, key, input, context);
    }

    /// An INFO or MESSAGE of ours has its answer.
    pub(super) fn info_done(&mut self, now: Instant, key: Key, purpose: Purpose, code: u16) {
        let Some(call) = self.calls.get_mut(key) else { return };
        call.infos = call.infos.saturating_sub(1);
        self.tell(match purpose {
            Purpose::Message => Event::MessageResult { call: id(key), code },
            _ => Event::InfoResult { call: id(key), code },
        });
        if matches!(code, 408 | 481) {
            self.drive(now, key, Input::Gone, Context::default());
        }
    }

    /// Repeats a request with credentials, where the response asks for them and we have some to try: once for each realm,
    /// and again where it says that only the nonce was too old (section 22.2).
    fn retry_with_credentials(&mut self, now: Instant, key: Key, purpose: Purpose, answered: &Answered) -> bool {
        let (401 | 407, Some(request)) = (answered.code, &answered.request) else { return false };
        self.repeat_with_credentials(now, (key, purpose), &answered.response, (request, answered.to.clone()))
    }

    /// Repeats our INVITE with the session interval that its peer can bear (RFC 4028 section 7.3).
    fn retry_with_longer_session(&mut self, now: Instant, key: Key, answered: &Answered) -> bool {
        let is_calling = self.calls.get(key).is_some_and(|call| matches!(call.phase, Phase::Calling | Phase::Ringing));
        let Some(request) = answered.request.as_ref().filter(|_| is_calling) else { return false };
        let Some(headers) = self.longer_session(key, &answered.response) else { return false };
        self.repeat(now, (key, Purpose::Invite), (&request.bytes, answered.to.clone()), &headers).is_some()
    }
}
