//! A call, and the running of its session table.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::arena::Key;
use super::challenge::Challenge;
use super::early::Early;
use super::event::{CallId, Destination, EndCause, Event, SendId};
use super::refer::Referrals;
use super::refresh::{Session, Settled, Wish};
use super::reliable::Reliable;
use super::secret::Fingerprint;
use super::transactions::{Failure, Purpose};
use super::update::Offered;
use super::write::{Echo, Response};
use super::{CALL_MARK, Endpoint};
use crate::dialog::session::{Action, Input, Phase, Why, table};
use crate::dialog::{Dialog, reoffer};
use crate::message::Message;
use crate::timer::TimerTable;

/// A call's own timers, beside those of its transactions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum CallTimer {
    /// The 2xx is due again (section 13.3.1.4).
    Repeat,
    /// No ACK for 64 T1.
    AckLimit,
    /// Rings for too long.
    Ring,
    /// The reliable provisional response is due again.
    Reliable,
    /// It was not acknowledged for 64 T1.
    ReliableLimit,
    /// The session is to be refreshed, or is over.
    Session,
    /// The user's time to answer an UPDATE is up.
    Offer,
    /// 100 is due.
    Trying,
    /// The provisional response is due again: proxies forget an INVITE after three minutes (section 13.3.1.1).
    Refresh,
    /// No final response for 64 T1 after CANCEL.
    CancelLimit,
    /// Our re-INVITE is due again after glare.
    Retry,
    /// The user's time to answer REFER is up.
    Refer,
    /// The report on a referral has taken too long.
    Report,
    /// The peer's report on ours has.
    Asking,
    /// The peer is to be told that a conference is here, or who is.
    Focus,
}

impl CallTimer {
    const ALL: [CallTimer; 15] = [
        CallTimer::Repeat,
        CallTimer::AckLimit,
        CallTimer::Ring,
        CallTimer::Reliable,
        CallTimer::ReliableLimit,
        CallTimer::Session,
        CallTimer::Offer,
        CallTimer::Trying,
        CallTimer::Refresh,
        CallTimer::CancelLimit,
        CallTimer::Retry,
        CallTimer::Refer,
        CallTimer::Report,
        CallTimer::Asking,
        CallTimer::Focus,
    ];
}

/// How often a provisional response is repeated.
pub(super) const REFRESH: Duration = Duration::from_secs(60);

/// An INVITE of the peer that has no final response yet.
#[derive(Debug)]
pub(super) struct Asked {
    pub(super) txn: Key,
    pub(super) echo: Echo,
    pub(super) sequence: u32,
    /// The last provisional response but 100, to be repeated.
    pub(super) provisional: Option<(u16, Bytes)>,
    /// 100, where that is not sent yet.
    pub(super) trying: Option<Bytes>,
    /// What it says of the session's length.
    pub(super) wish: Wish,
}

/// A 2xx of ours that waits for its ACK.
#[derive(Debug)]
pub(super) struct Unacknowledged {
    pub(super) bytes: Bytes,
    pub(super) to: Destination,
    pub(super) txn: Key,
    pub(super) sequence: u32,
    pub(super) interval: Duration,
}

/// Our ACK to a 2xx, for when that comes again.
#[derive(Debug)]
pub(super) struct Acknowledgement {
    pub(super) sequence: u32,
    pub(super) bytes: Bytes,
    pub(super) to: Destination,
}

/// A re-INVITE of ours that met glare and is to be tried again.
#[derive(Debug)]
pub(super) struct Retry {
    /// What of ours was described last when it went out.
    pub(super) upon: Option<Bytes>,
}

/// A call.
#[derive(Debug)]
pub(super) struct Call {
    pub(super) phase: Phase,
    pub(super) dialog: Dialog,
    /// Under which the endpoint finds this call's requests.
    pub(super) fingerprint: Option<Fingerprint>,
    /// Our Contact.
    pub(super) contact: String,
    /// Our address.
    pub(super) local: SocketAddr,
    /// Where the peer's messages come from.
    pub(super) way: Destination,
    /// The peer's INVITE, while it has no final response.
    pub(super) asked: Option<Asked>,
    /// Our INVITE's transaction.
    pub(super) asking: Option<Key>,
    pub(super) unacknowledged: Option<Unacknowledged>,
    pub(super) acknowledgement: Option<Acknowledgement>,
    pub(super) reoffer: reoffer::State,
    /// What we offer, or offered, by re-INVITE: for another try after glare.
    pub(super) our_offer: Option<Bytes>,
    /// What of ours was described last, for a refresh.
    pub(super) our_description: Option<Bytes>,
    /// What of the peer's was described last; `None` where that is not known.
    pub(super) their_description: Option<Fingerprint>,
    /// Our re-INVITE, under way or to be tried again, is a refresh, which the user did not ask for.
    pub(super) is_refresh: bool,
    pub(super) retry: Option<Retry>,
    /// The peer's Allow names UPDATE.
    pub(super) takes_update: bool,
    /// The peer's Supported says that our From may change (RFC 4916).
    pub(super) takes_from_change: bool,
    /// Who we say that our side is, in each INVITE and UPDATE in the call.
    pub(super) identity: Vec<(crate::headers::Name, String)>,
    pub(super) session: Option<Session>,
    /// The peer is still to be told what has changed on our side, a conference or who is there, at most so often.
    pub(super) focus_times: u8,
    /// Our INVITE was repeated with a longer session interval.
    pub(super) has_grown: bool,
    pub(super) reliable: Reliable,
    pub(super) early: Vec<Early>,
    pub(super) offered: Option<Box<Offered>>,
    /// Tags of forks that were hung up.
    pub(super) forks: Vec<String>,
    pub(super) challenge: Option<Box<Challenge>>,
    /// INFO and MESSAGE requests of ours that wait for their answers.
    pub(super) infos: usize,
    pub(super) referrals: Referrals,
    /// We placed the call, so the Call-ID is ours.
    pub(super) placed_here: bool,
    pub(super) cause: Option<EndCause>,
    /// The peer's Reason.
    pub(super) reason: Option<String>,
    /// Our Reason, for BYE, CANCEL and 480.
    pub(super) our_reason: Option<String>,
    pub(super) timers: TimerTable<15>,
}

impl Call {
    pub(super) fn new(phase: Phase, dialog: Dialog, way: Destination, local: SocketAddr, contact: String) -> Self {
        Self {
            phase,
            dialog,
            fingerprint: None,
            contact,
            local,
            way,
            asked: None,
            asking: None,
            unacknowledged: None,
            acknowledgement: None,
            reoffer: reoffer::State::Quiet,
            our_offer: None,
            our_description: None,
            their_description: None,
            is_refresh: false,
            retry: None,
            takes_update: false,
            takes_from_change: false,
            identity: Vec::new(),
            session: None,
            focus_times: 0,
            has_grown: false,
            reliable: Reliable::default(),
            early: Vec::new(),
            offered: None,
            forks: Vec::new(),
            challenge: None,
            infos: 0,
            referrals: Referrals::default(),
            placed_here: false,
            cause: None,
            reason: None,
            our_reason: None,
            timers: TimerTable::default(),
        }
    }

    pub(super) fn arm(&mut self, timer: CallTimer, at: Instant) {
        self.timers.set(timer as usize, at);
    }

    pub(super) fn disarm(&mut self, timer: CallTimer) {
        self.timers.clear(timer as usize);
    }
}

/// What an action may need of the input that led to it.
#[derive(Debug, Default, Clone, Copy)]
pub(super) struct Context<'a> {
    /// The response that came.
    pub(super) response: Option<&'a Arc<Message>>,
    /// The request that it answers, where that is kept.
    pub(super) request: Option<&'a Bytes>,
    /// The SDP in what came.
    pub(super) sdp: Option<&'a Bytes>,
    /// What the user wants sent.
    pub(super) reply: Option<&'a Reply<'a>>,
}

/// A response as the user wants it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Reply<'a> {
    pub(super) code: u16,
    pub(super) reason: &'a str,
    pub(super) headers: &'a [(String, String)],
    pub(super) sdp: Option<&'a Bytes>,
}

impl Endpoint {
    /// Runs one step of a call's session table; `false` where the input does not fit.
    pub(super) fn drive(&mut self, now: Instant, key: Key, input: Input, context: Context<'_>) -> bool {
        let Some(call) = self.calls.get_mut(key) else { return false };
        let Some(step) = table(call.phase, input) else { return false };
        call.phase = step.next;
        for action in step.actions {
            self.perform(now, key, *action, context);
        }
        if step.next == Phase::Ended {
            self.finish(now, key);
        } else {
            self.arm_call(now, key);
        }
        true
    }

    /// Puts a call's timers on the wheel.
    pub(super) fn arm_call(&mut self, now: Instant, key: Key) {
        if let Some(call) = self.calls.get_mut(key) {
            call.timers.enqueue(&mut self.wheel, now, key.to_u64() | CALL_MARK);
        }
    }

    fn perform(&mut self, now: Instant, key: Key, action: Action, context: Context<'_>) {
        match action {
            Action::SendAnswer => self.send_answer(now, key, context.reply),
            Action::RepeatAnswer => self.repeat_answer(now, key),
            Action::StopRepeating => self.stop_repeating(key),
            Action::SendRefusal => self.refuse_asked(now, key, context.reply),
            Action::SendUnavailable => self.refuse_asked(now, key, Some(&plain(480))),
            Action::SendServerTimeout => self.refuse_asked(now, key, Some(&plain(504))),
            Action::SendTerminated => self.refuse_asked(now, key, Some(&plain(487))),
            Action::SendAck => self.acknowledge(key, context),
            Action::SendCancel => self.send_cancel(now, key),
            Action::SendBye => self.send_bye(now, key),
            Action::DropInvite => {
                if let Some(txn) = self.calls.get_mut(key).and_then(|call| call.asking.take()) {
                    self.drop_transaction(txn);
                }
            }
            Action::Note(why) => self.note(key, why, context),
            Action::TellCancelled => self.tell(Event::Cancelled { call: id(key) }),
            Action::TellAcked => self.tell(Event::Acked { call: id(key), answer: context.sdp.cloned() }),
            Action::TellProgress | Action::TellAnswered | Action::TellRejected => {
                self.tell_response(key, action, context);
            }
        }
    }

    fn tell_response(&mut self, key: Key, action: Action, context: Context<'_>) {
        let Some(response) = context.response else { return };
        let (call, code, answer) = (id(key), response.code().unwrap_or(0), context.sdp.cloned());
        match action {
            Action::TellProgress if code == 100 => {}
            Action::TellProgress => self.tell(Event::Progress { call, code, answer }),
            Action::TellAnswered => self.tell(Event::Answered { call, code, answer, response: Arc::clone(response) }),
            _ => self.tell(Event::Rejected {
                call,
                code,
                reason: response.reason().to_owned(),
                response: Arc::clone(response),
            }),
        }
    }

    fn note(&mut self, key: Key, why: Why, context: Context<'_>) {
        let Some(call) = self.calls.get_mut(key) else { return };
        let code = context.response.and_then(|response| response.code()).unwrap_or(0);
        if let Some(reasons) = context.response.and_then(|response| response.reasons()) {
            call.reason.get_or_insert(reasons);
        }
        call.cause.get_or_insert(match why {
            Why::LocalBye => EndCause::LocalBye,
            Why::RemoteBye => EndCause::RemoteBye,
            Why::Cancelled => EndCause::Cancelled,
            Why::Refused => EndCause::Refused(context.reply.map_or(0, |reply| reply.code)),
            Why::Rejected => EndCause::Rejected(code),
            Why::Timeout => EndCause::Timeout,
            Why::NoAck => EndCause::NoAck,
            Why::Gone => EndCause::Gone,
            Why::Unreachable => EndCause::TransportError,
        });
    }

    /// Forgets a call and tells the user.
    fn finish(&mut self, now: Instant, key: Key) {
        self.drive_reoffer(now, key, reoffer::Input::CallEnds, Context::default());
        self.refuse_refer(now, key, 481);
        self.settle_early(key, None);
        let Some(call) = self.calls.remove(key) else { return };
        if let Some(fingerprint) = call.fingerprint {
            self.dialogs.remove(&fingerprint);
        }
        let cause = call.cause.unwrap_or(EndCause::ProtocolError);
        self.tell(Event::Ended { call: id(key), cause, reason_header: call.reason.clone() });
        if matches!(cause, EndCause::LocalBye | EndCause::RemoteBye) {
            self.outlive(now, key, call);
        }
    }

    /// Sends the 2xx that the user wants, and repeats it until ACK.
    pub(super) fn send_answer(&mut self, now: Instant, key: Key, reply: Option<&Reply<'_>>) {
        let t1 = self.config.timings.t1;
        let limit = self.config.timings.t1_times_64();
        let Some(call) = self.calls.get_mut(key) else { return };
        let (Some(asked), Some(reply)) = (call.asked.take(), reply) else { return };
        call.our_description = reply.sdp.cloned().or_else(|| call.our_description.take());
        let session = self.settle_session(now, key, asked.wish);
        let Some(call) = self.calls.get_mut(key) else { return };
        let server = self.config.user_agent.as_str();
        let mut headers = vec![("Contact", call.contact.as_str()), ("Allow", &*self.allow)];
        if !server.is_empty() {
            headers.push(("Server", server));
        }
        headers.push(("Supported", super::SUPPORTED));
        headers.extend(session.iter().flat_map(Settled::headers));
        // A reliable response held it already (RFC 6337 section 2.2).
        let sdp = reply.sdp.filter(|_| !std::mem::take(&mut call.reliable.is_answered));
        let bytes = Response {
            tag: Some(&call.dialog.local_tag),
            reason: reply.reason,
            routes: true,
            headers: &headers,
            body: sdp.map(|sdp| ("application/sdp", sdp.as_ref())),
            ..Response::new(reply.code)
        }
        .to_bytes(&asked.echo);
        call.disarm(CallTimer::Reliable);
        call.disarm(CallTimer::ReliableLimit);
        call.disarm(CallTimer::Ring);
        call.disarm(CallTimer::Refresh);
        call.arm(CallTimer::Repeat, now + t1);
        call.arm(CallTimer::AckLimit, now + limit);
        let to = self.transactions.get(asked.txn).map_or_else(|| call.way.clone(), |txn| txn.to.clone());
        call.unacknowledged =
            Some(Unacknowledged { bytes: bytes.clone(), to, txn: asked.txn, sequence: asked.sequence, interval: t1 });
        self.respond(now, asked.txn, reply.code, bytes);
    }

    /// Sends the 2xx again (section 13.3.1.4: T1 doubling to T2, over every transport).
    pub(super) fn repeat_answer(&mut self, now: Instant, key: Key) {
        let t2 = self.config.timings.t2;
        let Some(call) = self.calls.get_mut(key) else { return };
        let Some(answer) = call.unacknowledged.as_mut() else { return };
        answer.interval = (answer.interval * 2).min(t2);
        let (interval, to, bytes) = (answer.interval, answer.to.clone(), answer.bytes.clone());
        let txn = answer.txn;
        call.arm(CallTimer::Repeat, now + interval);
        self.stats.repeats_sent += 1;
        self.send(SendId(txn.to_u64()), to, bytes);
    }

    pub(super) fn stop_repeating(&mut self, key: Key) {
        if let Some(call) = self.calls.get_mut(key) {
            call.unacknowledged = None;
            call.disarm(CallTimer::Repeat);
            call.disarm(CallTimer::AckLimit);
        }
    }

    /// Refuses the peer's pending INVITE.
    pub(super) fn refuse_asked(&mut self, now: Instant, key: Key, reply: Option<&Reply<'_>>) {
        let Some(call) = self.calls.get_mut(key) else { return };
        let (Some(asked), Some(reply)) = (call.asked.take(), reply) else { return };
        call.disarm(CallTimer::Ring);
        call.disarm(CallTimer::Refresh);
        let mut headers: Vec<(&str, std::borrow::Cow<'_, str>)> = Vec::new();
        let is_token = |name: &str| crate::headers::params::is_token(name);
        for (name, value) in reply.headers.iter().filter(|(name, _)| is_token(name)) {
            headers.push((name, super::write::clean(value)));
        }
        let reason = call.our_reason.take();
        headers.extend(reason.as_deref().map(|reason| ("Reason", super::write::clean(reason))));
        if !self.config.user_agent.is_empty() {
            headers.push(("Server", self.config.user_agent.as_str().into()));
        }
        let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_ref())).collect();
        let bytes = Response {
            tag: Some(&call.dialog.local_tag),
            reason: reply.reason,
            headers: &headers,
            ..Response::new(reply.code)
        }
        .to_bytes(&asked.echo);
        self.respond(now, asked.txn, reply.code, bytes);
    }

    /// A request of ours had no response.
    pub(super) fn request_failed(&mut self, now: Instant, key: Key, purpose: Purpose, failure: Failure) {
        match purpose {
            Purpose::Invite => {
                if let Some(call) = self.calls.get_mut(key) {
                    call.asking = None;
                }
                let input = match failure {
                    Failure::TimedOut => Input::Timeout,
                    Failure::Unreachable => Input::Unreachable,
                };
                self.drive(now, key, input, Context::default());
            }
            Purpose::Reinvite => {
                if let Some(call) = self.calls.get_mut(key) {
                    call.asking = None;
                }
                self.drive_reoffer(now, key, reoffer::Input::Gone, Context::default());
            }
            Purpose::Bye => {
                self.drive(now, key, Input::ByeDone, Context::default());
            }
            Purpose::Update => self.update_answered(now, key, 408, None),
            Purpose::Info | Purpose::Message => self.info_done(now, key, purpose, 408),
            Purpose::Refer => self.refer_answered(now, key, 408, None),
            Purpose::Report => self.report_answered(key, 408),
            Purpose::Cancel | Purpose::Prack | Purpose::Request | Purpose::Subscribe | Purpose::Notify => {}
        }
    }

    pub(super) fn call_due(&mut self, now: Instant, key: Key) {
        let Some(call) = self.calls.get_mut(key) else { return };
        if !call.timers.dequeue(now) {
            return;
        }
        while let Some(index) = self.calls.get_mut(key).and_then(|call| call.timers.take_due(now)) {
            let Some(timer) = CallTimer::ALL.get(index).copied() else { continue };
            self.call_timer(now, key, timer);
        }
        self.arm_call(now, key);
    }

    fn call_timer(&mut self, now: Instant, key: Key, timer: CallTimer) {
        let quiet = self.calls.get(key).is_none_or(|call| call.reoffer == reoffer::State::Quiet);
        let context = Context::default();
        match timer {
            CallTimer::Repeat if quiet => _ = self.drive(now, key, Input::RepeatDue, context),
            CallTimer::Repeat => _ = self.drive_reoffer(now, key, reoffer::Input::RepeatDue, context),
            CallTimer::AckLimit if quiet => _ = self.drive(now, key, Input::AckLimit, context),
            CallTimer::AckLimit => _ = self.drive_reoffer(now, key, reoffer::Input::AckLimit, context),
            CallTimer::Ring => _ = self.drive(now, key, Input::RingLimit, context),
            CallTimer::CancelLimit => _ = self.drive(now, key, Input::CancelLimit, context),
            CallTimer::Retry => self.retry_reoffer(now, key),
            CallTimer::Refer | CallTimer::Report | CallTimer::Asking => self.referral_due(now, key, timer),
            CallTimer::Trying => {
                let asked = self.calls.get_mut(key).and_then(|call| call.asked.as_mut());
                let due = asked.and_then(|asked| Some((asked.txn, asked.trying.take()?)));
                if let Some((txn, bytes)) = due {
                    self.respond(now, txn, 100, bytes);
                }
            }
            CallTimer::Session => self.session_due(now, key),
            CallTimer::Focus => self.focus_due(now, key),
            CallTimer::Offer => _ = self.drive_reoffer(now, key, reoffer::Input::Overdue, context),
            CallTimer::Refresh | CallTimer::Reliable | CallTimer::ReliableLimit => {
                self.provisional_due(now, key, timer);
            }
        }
    }
}

/// The id that the user knows a call by.
pub(super) fn id(key: Key) -> CallId {
    CallId(key.to_u64())
}

/// A response with nothing to it.
pub(super) fn plain(code: u16) -> Reply<'static> {
    Reply { code, reason: "", headers: &[], sdp: None }
}
