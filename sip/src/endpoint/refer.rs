//! REFER inside calls (RFC 3515), both ways: a peer that wants us to call somebody, and us wanting that of a peer. Whoever is
//! asked reports by NOTIFY how the new call goes.
//!
//! Invariants: at most one referral is under way in each direction of a call; a report that is not finished when its call
//! ends goes on in a subscription of its own (RFC 5057: the dialog lives as long as a usage of it), up to
//! [`REPORT_SPAN`].

use std::time::{Duration, Instant};

use bytes::Bytes;

use super::Endpoint;
use super::arena::Key;
use super::call::{Call, CallTimer, Context, id};
use super::commands::{CommandError, checked_code};
use super::event::{CallId, Event};
use super::inbound::Arrival;
use super::request::ANSWER_WITHIN_T1;
use super::subscription::{Role, Subscription};
use super::transactions::Purpose;
use super::write::{Echo, Response};
use crate::dialog::session::{Input, Phase};
use crate::event::sipfrag;
use crate::headers::refer_to::is_usable;
use crate::headers::{EventType, Name, NameAddr, ReferTo, Replaces, SubscriptionState, TerminatedReason};
use crate::message::Message;
use crate::method::Method;

/// How long a report may take: longer than a call may ring.
pub(super) const REPORT_SPAN: Duration = Duration::from_secs(300);

/// What referrals a call has under way.
#[derive(Debug, Default)]
pub(super) struct Referrals {
    /// The peer's REFER, which waits for our user.
    asked: Option<Asked>,
    /// What we report to the peer.
    reporting: Option<Reporting>,
    /// What the peer reports to us.
    asking: Option<Asking>,
    /// An earlier REFER was accepted here: later reports must name theirs (section 2.4.6).
    is_later: bool,
}

#[derive(Debug)]
struct Asked {
    txn: Key,
    echo: Box<Echo>,
    sequence: u32,
    /// The peer wants no reports (RFC 4488).
    is_silent: bool,
}

/// A referral that we report on.
#[derive(Debug)]
pub(super) struct Reporting {
    event: EventType,
    last: (u16, String),
    until: Instant,
    /// The peer wants no reports.
    is_silent: bool,
}

/// A referral of ours.
#[derive(Debug)]
pub(super) struct Asking {
    /// The REFER's CSeq numbers: the first, and the last after challenges.
    sequences: (u32, u32),
    is_accepted: bool,
    until: Instant,
}

/// The referrals that outlived their call.
#[derive(Debug)]
pub(super) struct Outlived {
    /// The call that was.
    pub(super) call: CallId,
    pub(super) reporting: Option<Reporting>,
    pub(super) asking: Option<Asking>,
}

/// A NOTIFY about a referral.
pub(super) struct Report {
    pub(super) event: String,
    pub(super) state: String,
    pub(super) body: Bytes,
}

impl Reporting {
    /// The report to send now; what is final is the last.
    fn report(&self, now: Instant, end: Option<TerminatedReason>) -> Report {
        let left = self.until.saturating_duration_since(now).as_secs().max(1);
        let state = match end {
            Some(reason) => SubscriptionState::terminated(reason),
            None => SubscriptionState::active(u32::try_from(left).unwrap_or(u32::MAX)),
        };
        Report {
            event: self.event.to_string(),
            state: state.to_string(),
            body: sipfrag::build(self.last.0, &self.last.1).into(),
        }
    }
}

impl Outlived {
    /// Whether a NOTIFY belongs to our referral.
    pub(super) fn expects(&self, event: &EventType) -> bool {
        self.asking.as_ref().is_some_and(|asking| asking.is_named_by(event))
    }
}

impl Asking {
    fn is_named_by(&self, event: &EventType) -> bool {
        let (first, last) = self.sequences;
        event.package == "refer"
            && event.id.as_ref().is_none_or(|id| id.parse().is_ok_and(|id: u32| (first..=last).contains(&id)))
    }
}

impl Endpoint {
    /// Takes up a peer's REFER: 202, and a report that says 100. More follow by [`notify_refer`](Self::notify_refer).
    ///
    /// # Errors
    /// Where none waits.
    pub fn accept_refer(&mut self, now: Instant, call: CallId) -> Result<(), CommandError> {
        let key = self.known(call)?;
        let Some(state) = self.calls.get_mut(key) else { return Err(CommandError::NoSuchCall(call)) };
        let Some(asked) = state.referrals.asked.take() else { return Err(CommandError::WrongState(call)) };
        state.disarm(CallTimer::Refer);
        let contact = state.contact.clone();
        let is_later = std::mem::replace(&mut state.referrals.is_later, true);
        let until = now + REPORT_SPAN;
        let event = EventType { package: "refer".into(), id: is_later.then(|| asked.sequence.to_string()) };
        let is_silent = asked.is_silent;
        state.referrals.reporting = Some(Reporting { event, last: (100, String::new()), until, is_silent });
        state.arm(CallTimer::Report, until);
        let mut headers = vec![("Contact", contact.as_str())];
        if is_silent {
            headers.push(("Refer-Sub", "false"));
        }
        let bytes = Response { headers: &headers, ..Response::new(202) }.to_bytes(&asked.echo);
        self.respond(now, asked.txn, 202, bytes);
        self.report(now, key, None);
        self.arm_call(now, key);
        Ok(())
    }

    /// Refuses a peer's REFER with 300 to 699 (603, as a rule).
    ///
    /// # Errors
    /// Where none waits.
    pub fn reject_refer(&mut self, now: Instant, call: CallId, code: u16) -> Result<(), CommandError> {
        let code = checked_code(code, 300, 699)?;
        let key = self.known(call)?;
        if self.refuse_refer(now, key, code) { Ok(()) } else { Err(CommandError::WrongState(call)) }
    }

    /// Reports how the call that a peer's REFER asked for goes: 101 to 699. With a final code the report is over. It may
    /// be given even after the call has ended, for the peer may hang up once it knows that the transfer goes its way.
    ///
    /// # Errors
    /// Where no report is under way.
    pub fn notify_refer(&mut self, now: Instant, call: CallId, code: u16, reason: &str) -> Result<(), CommandError> {
        let code = checked_code(code, 100, 699)?;
        let end = (code >= 200).then_some(TerminatedReason::NoResource);
        let key = Key::from_u64(call.0);
        let Some(state) = self.calls.get_mut(key) else { return self.notify_outlived(now, call, (code, reason), end) };
        let Some(reporting) = state.referrals.reporting.as_mut() else { return Err(CommandError::WrongState(call)) };
        reporting.last = (code, reason.to_owned());
        self.report(now, key, end);
        Ok(())
    }

    fn notify_outlived(
        &mut self,
        now: Instant,
        call: CallId,
        (code, reason): (u16, &str),
        end: Option<TerminatedReason>,
    ) -> Result<(), CommandError> {
        // Few outlive their calls, and none for long: they are searched for.
        let found = self.subscriptions.keys().find(|key| {
            matches!(self.subscriptions.get(*key), Some(Subscription { role: Role::Referral(referral), .. }) if referral.call == call)
        });
        let Some(key) = found else { return Err(CommandError::NoSuchCall(call)) };
        let Some(Subscription { role: Role::Referral(referral), .. }) = self.subscriptions.get_mut(key) else {
            return Err(CommandError::NoSuchCall(call));
        };
        let Some(reporting) = referral.reporting.as_mut() else { return Err(CommandError::WrongState(call)) };
        reporting.last = (code, reason.to_owned());
        let report = reporting.report(now, end.clone());
        if end.is_some() {
            referral.reporting = None;
        }
        let is_over = referral.reporting.is_none() && referral.asking.is_none();
        self.send_report(now, key, &report);
        if is_over {
            self.drop_subscription(key);
        }
        Ok(())
    }

    /// Asks the peer to call `refer_to`: a URI (`tel:` as well), or a whole Refer-To value, such as
    /// [`ReferTo::value`] makes for an attended transfer. `referred_by` is a Referred-By value (RFC 3892).
    /// [`Event::ReferResult`] and [`Event::ReferProgress`] follow.
    ///
    /// # Errors
    /// Where the call does not stand, an address cannot be read, or another referral of ours is under way.
    pub fn refer(
        &mut self,
        now: Instant,
        call: CallId,
        refer_to: &str,
        referred_by: Option<&str>,
    ) -> Result<(), CommandError> {
        let bad = |what, value: &str| CommandError::BadArgument { what, value: value.to_owned() };
        let refer_to = match refer_to.contains('<') {
            true if ReferTo::parse(refer_to).is_ok() => refer_to.to_owned(),
            false if is_usable(refer_to) => format!("<{refer_to}>"),
            _ => return Err(bad("Refer-To", refer_to)),
        };
        if let Some(value) = referred_by.filter(|value| NameAddr::parse(value).is_err()) {
            return Err(bad("Referred-By", value));
        }
        let key = self.known(call)?;
        let Some(state) = self.calls.get_mut(key) else { return Err(CommandError::NoSuchCall(call)) };
        if state.phase != Phase::Established || state.referrals.asking.is_some() {
            return Err(CommandError::WrongState(call));
        }
        let contact = state.contact.clone();
        let until = now + REPORT_SPAN;
        let sequence = state.dialog.local_seq + 1;
        state.referrals.asking = Some(Asking { sequences: (sequence, sequence), is_accepted: false, until });
        let mut extra = vec![(Name::Contact, contact.as_str()), (Name::ReferTo, refer_to.as_str())];
        extra.extend(referred_by.map(|value| (Name::ReferredBy, value)));
        extra.push((Name::Supported, super::SUPPORTED));
        self.send_inside(now, key, (&Method::Refer, Purpose::Refer), &extra, None);
        Ok(())
    }

    /// Our REFER has its answer; `response` is `None` where nobody gave one.
    pub(super) fn refer_answered(&mut self, now: Instant, key: Key, code: u16, response: Option<&Message>) {
        let Some(call) = self.calls.get_mut(key) else { return };
        let Some(asking) = call.referrals.asking.as_mut() else { return };
        let was_silent = response
            .and_then(|response| response.header_named("Refer-Sub"))
            .is_some_and(|value| value.trim().eq_ignore_ascii_case("false"));
        if (200..300).contains(&code) && !was_silent {
            let last = response.and_then(|response| response.cseq().ok()).map(|cseq| cseq.number);
            asking.sequences.1 = last.unwrap_or(asking.sequences.1);
            asking.is_accepted = true;
            let until = asking.until;
            call.arm(CallTimer::Asking, until);
            self.arm_call(now, key);
        } else {
            call.referrals.asking = None;
        }
        self.tell(Event::ReferResult { call: id(key), code });
        if code == 481 {
            self.drive(now, key, Input::Gone, Context::default());
        }
    }

    /// Section 2.4.2.
    pub(super) fn receive_refer(&mut self, now: Instant, key: Key, txn: Key, arrival: Arrival<'_>) {
        let request = arrival.request;
        let mut values = request.headers(Name::ReferTo);
        let (Some(value), None) = (values.next(), values.next()) else {
            return self.reply(now, txn, arrival, 400, &[]);
        };
        let Ok(refer_to) = ReferTo::parse(value) else { return self.reply(now, txn, arrival, 400, &[]) };
        if refer_to.method != Method::Invite {
            return self.reply(now, txn, arrival, 501, &[]);
        }
        let limit = now + self.config.timings.t1 * ANSWER_WITHIN_T1;
        let Some(call) = self.calls.get_mut(key) else { return };
        let is_busy = call.referrals.asked.is_some() || call.referrals.reporting.is_some();
        if is_busy || call.phase != Phase::Established {
            return self.reply(now, txn, arrival, 491, &[]);
        }
        let is_silent = request
            .header_named("Refer-Sub")
            .is_some_and(|value| value.split(';').next().unwrap_or("").trim().eq_ignore_ascii_case("false"));
        let sequence = call.dialog.remote_seq.unwrap_or(0);
        call.referrals.asked = Some(Asked { txn, echo: Box::new(arrival.echo()), sequence, is_silent });
        call.arm(CallTimer::Refer, limit);
        self.arm_call(now, key);
        let named = |replaces: &Replaces| self.find_call(&replaces.call_id, &replaces.to_tag, &replaces.from_tag);
        let target = refer_to.replaces.as_ref().and_then(named);
        self.tell(Event::Refer {
            call: id(key),
            refer_to: refer_to.uri,
            headers: refer_to.headers,
            replaces: refer_to.replaces,
            target,
            referred_by: request.header(Name::ReferredBy).map(str::to_owned),
            message: std::sync::Arc::clone(request),
        });
    }

    /// Refuses a REFER that waits; `false` where none does.
    pub(super) fn refuse_refer(&mut self, now: Instant, key: Key, code: u16) -> bool {
        let Some(call) = self.calls.get_mut(key) else { return false };
        let Some(asked) = call.referrals.asked.take() else { return false };
        call.disarm(CallTimer::Refer);
        let bytes = Response::new(code).to_bytes(&asked.echo);
        self.respond(now, asked.txn, code, bytes);
        true
    }

    /// Sends a report in its call; with `end` it is the last.
    fn report(&mut self, now: Instant, key: Key, end: Option<TerminatedReason>) {
        let Some(call) = self.calls.get_mut(key) else { return };
        let Some(reporting) = call.referrals.reporting.as_ref() else { return };
        let report = reporting.report(now, end.clone());
        let is_silent = reporting.is_silent;
        if end.is_some() {
            call.referrals.reporting = None;
            call.disarm(CallTimer::Report);
        }
        if is_silent {
            return;
        }
        let contact = call.contact.clone();
        let extra = [
            (Name::Contact, contact.as_str()),
            (Name::Event, report.event.as_str()),
            (Name::SubscriptionState, report.state.as_str()),
        ];
        let body = Some((sipfrag::CONTENT_TYPE, &report.body));
        self.send_inside(now, key, (&Method::Notify, Purpose::Report), &extra, body);
    }

    /// A report of ours has its answer: a peer that does not want it gets no more (RFC 6665 section 4.2.2). Its call goes on
    /// (RFC 5057 section 5.1).
    pub(super) fn report_answered(&mut self, key: Key, code: u16) {
        if !super::notifier::ends_subscription(code) {
            return;
        }
        if let Some(call) = self.calls.get_mut(key)
            && let Some(reporting) = call.referrals.reporting.as_mut()
        {
            reporting.is_silent = true;
        }
    }

    /// The report, or the wait for one, has taken too long.
    pub(super) fn referral_due(&mut self, now: Instant, key: Key, timer: CallTimer) {
        match timer {
            CallTimer::Refer => _ = self.refuse_refer(now, key, 500),
            CallTimer::Report => self.report(now, key, Some(TerminatedReason::Timeout)),
            _ => {
                let asking = self.calls.get_mut(key).and_then(|call| call.referrals.asking.take());
                if asking.is_some() {
                    self.tell(Event::ReferProgress { call: id(key), code: 408, is_final: true });
                }
            }
        }
    }

    /// SUBSCRIBE in a call: the peer prolongs or ends the reports of its REFER (section 2.4.4).
    pub(super) fn receive_subscribe_in_call(&mut self, now: Instant, key: Key, txn: Key, arrival: Arrival<'_>) {
        let event = arrival.request.header(Name::Event).and_then(|value| EventType::parse(value).ok());
        let Some(call) = self.calls.get_mut(key) else { return };
        let contact = call.contact.clone();
        let is_known = call.referrals.reporting.as_ref().is_some_and(|reporting| {
            event
                .as_ref()
                .is_some_and(|event| event.package == "refer" && (event.id.is_none() || *event == reporting.event))
        });
        if !is_known {
            let packages = self.config.event_packages.join(", ");
            return self.reply(now, txn, arrival, 489, &[("Allow-Events", &packages)]);
        }
        let Some(reporting) = self.calls.get_mut(key).and_then(|call| call.referrals.reporting.as_mut()) else {
            return;
        };
        let is_end = arrival.request.expires_seconds() == Some(0);
        let left = reporting.until.saturating_duration_since(now).as_secs();
        let expires = if is_end { 0 } else { left }.to_string();
        self.reply(now, txn, arrival, 200, &[("Contact", &contact), ("Expires", &expires)]);
        self.report(now, key, is_end.then_some(TerminatedReason::Timeout));
    }

    /// NOTIFY in a call: how our referral goes (section 2.4.5), or something that nobody here asked for.
    pub(super) fn receive_notify_in_call(&mut self, now: Instant, key: Key, txn: Key, arrival: Arrival<'_>) {
        let Some(event) = arrival.request.header(Name::Event).and_then(|value| EventType::parse(value).ok()) else {
            return self.reply(now, txn, arrival, 489, &[]);
        };
        let Some(call) = self.calls.get_mut(key) else { return };
        let is_ours = call.referrals.asking.as_ref().is_some_and(|asking| asking.is_named_by(&event));
        if !is_ours {
            // RFC 6665 section 4.1.3 has 481 here. In a call that may end the call (RFC 5057), so it is kept for reports
            // that come too late; packages that we never asked for are bad events.
            let code = if event.package == "refer" { 481 } else { 489 };
            return self.reply(now, txn, arrival, code, &[]);
        }
        let state = arrival.request.header(Name::SubscriptionState).map(SubscriptionState::parse);
        let Some(Ok(state)) = state else { return self.reply(now, txn, arrival, 400, &[]) };
        let status = sipfrag::status(arrival.request.body()).map(|(code, _)| code);
        if state.is_terminated() {
            call.referrals.asking = None;
            call.disarm(CallTimer::Asking);
        }
        self.reply(now, txn, arrival, 200, &[]);
        // A peer that ends its report without a word has failed as far as anybody knows.
        let code = status.or(state.is_terminated().then_some(408));
        if let Some(code) = code {
            self.tell(Event::ReferProgress { call: id(key), code, is_final: state.is_terminated() });
        }
    }

    /// Keeps what a call that ended leaves of referrals: reports that are not finished.
    pub(super) fn outlive(&mut self, now: Instant, key: Key, call: Call) {
        let Call { dialog, way, local, contact, referrals, fingerprint: Some(print), .. } = call else { return };
        let reporting = referrals.reporting.filter(|reporting| !reporting.is_silent);
        let asking = referrals.asking;
        let until = reporting.as_ref().map(|it| it.until).max(asking.as_ref().map(|it| it.until));
        let Some(until) = until.filter(|_| self.subscriptions.len() < self.config.limits.subscriptions) else { return };
        let role = Role::Referral(Box::new(Outlived { call: id(key), reporting, asking }));
        self.add_subscription(now, Subscription::new(dialog, (way, local), contact, role), Some(print), Some(until));
    }
}
