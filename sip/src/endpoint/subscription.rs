//! Subscriptions (RFC 6665): dialogs of their own, made by SUBSCRIBE, in which NOTIFY tells of events. What is the same for
//! both sides stands here; [`notifier`](super::notifier) and [`subscriber`](super::subscriber) hold the two roles.

use std::net::SocketAddr;
use std::time::Instant;

use bytes::Bytes;

use super::arena::Key;
use super::challenge::Sent;
use super::commands::CommandError;
use super::event::{Destination, Event, SubscriptionEnd, SubscriptionId, Target};
use super::inbound::Arrival;
use super::notifier::Notifier;
use super::outbound::next_hop;
use super::refer::{Outlived, Report};
use super::secret::Fingerprint;
use super::subscriber::Subscriber;
use super::transactions::{Failure, Purpose};
use super::validate::Refusal;
use super::write::reply_destination;
use super::{Endpoint, SUBSCRIPTION_MARK};
use crate::dialog::Dialog;
use crate::event::sipfrag;
use crate::headers::{EventType, Name, SubscriptionState};
use crate::message::Message;
use crate::method::Method;
use crate::timer::TimerTable;
use crate::transaction::Kind;

/// A subscription's own timers, beside those of its transactions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum SubscriptionTimer {
    /// It is over unless something happens: not answered, not refreshed, no NOTIFY.
    Limit,
    /// SUBSCRIBE is due again.
    Refresh,
}

impl SubscriptionTimer {
    const ALL: [SubscriptionTimer; 2] = [SubscriptionTimer::Limit, SubscriptionTimer::Refresh];
}

/// What we are in a subscription.
#[derive(Debug)]
pub(super) enum Role {
    Notifier(Box<Notifier>),
    Subscriber(Box<Subscriber>),
    /// The reports of referrals whose call is over.
    Referral(Box<Outlived>),
}

/// A subscription: its dialog, and what we are in it.
#[derive(Debug)]
pub(super) struct Subscription {
    pub(super) usage: Usage,
    pub(super) role: Role,
}

/// What every subscription has.
#[derive(Debug)]
pub(super) struct Usage {
    pub(super) dialog: Dialog,
    /// Where the peer's messages come from.
    pub(super) way: Destination,
    pub(super) local: SocketAddr,
    pub(super) contact: String,
    /// Under which its requests are found.
    pub(super) print: Option<Fingerprint>,
    timers: TimerTable<2>,
}

impl Subscription {
    pub(super) fn new(dialog: Dialog, (way, local): (Destination, SocketAddr), contact: String, role: Role) -> Self {
        Self { usage: Usage { dialog, way, local, contact, print: None, timers: TimerTable::default() }, role }
    }
}

impl Usage {
    pub(super) fn arm(&mut self, timer: SubscriptionTimer, at: Instant) {
        self.timers.set(timer as usize, at);
    }

    pub(super) fn disarm(&mut self, timer: SubscriptionTimer) {
        self.timers.clear(timer as usize);
    }

    pub(super) fn deadline(&self, timer: SubscriptionTimer) -> Option<Instant> {
        self.timers.deadline(timer as usize)
    }

    /// Where our next request goes: until the peer's dialog is known, where the first was sent.
    pub(super) fn next_hop(&self) -> Destination {
        if self.dialog.remote_tag.is_empty() {
            return self.way.clone();
        }
        next_hop(&self.dialog, &self.way)
    }

    /// The peer is where its last request came from.
    pub(super) fn follow(&mut self, arrival: Arrival<'_>) {
        self.dialog.refresh_target(arrival.request);
        self.way.flow = Some(arrival.source.flow);
        self.way.transport = arrival.source.transport;
        self.way.target = Target::Address(arrival.source.remote);
    }
}

/// The id that the user knows a subscription by.
pub(super) fn id(key: Key) -> SubscriptionId {
    SubscriptionId(key.to_u64())
}

impl Endpoint {
    pub(super) fn add_subscription(
        &mut self,
        now: Instant,
        mut subscription: Subscription,
        print: Option<Fingerprint>,
        until: Option<Instant>,
    ) -> Key {
        subscription.usage.print = print;
        if let Some(until) = until {
            subscription.usage.arm(SubscriptionTimer::Limit, until);
        }
        let key = self.subscriptions.insert(subscription);
        if let Some(print) = print {
            self.usages.insert(print, key);
        }
        self.arm_subscription(now, key);
        key
    }

    pub(super) fn arm_subscription(&mut self, now: Instant, key: Key) {
        if let Some(subscription) = self.subscriptions.get_mut(key) {
            subscription.usage.timers.enqueue(&mut self.wheel, now, key.to_u64() | SUBSCRIPTION_MARK);
        }
    }

    pub(super) fn drop_subscription(&mut self, key: Key) {
        let Some(subscription) = self.subscriptions.remove(key) else { return };
        if let Some(print) = subscription.usage.print.filter(|print| self.usages.get(print) == Some(&key)) {
            self.usages.remove(&print);
        }
    }

    /// Forgets a subscription and tells the user.
    pub(super) fn subscription_over(&mut self, key: Key, end: SubscriptionEnd) {
        if self.subscriptions.get(key).is_some() {
            self.drop_subscription(key);
            self.tell(Event::SubscriptionEnded { subscription: id(key), end });
        }
    }

    pub(super) fn known_subscription(&self, subscription: SubscriptionId) -> Result<Key, CommandError> {
        let key = Key::from_u64(subscription.0);
        match self.subscriptions.get(key).map(|it| &it.role) {
            Some(Role::Notifier(_) | Role::Subscriber(_)) => Ok(key),
            _ => Err(CommandError::NoSuchSubscription(subscription)),
        }
    }

    /// The subscription whose dialog a request names, or whose first NOTIFY it is.
    pub(super) fn find_usage(&self, request: &Message) -> Option<Key> {
        let local_tag = request.header(Name::To).and_then(super::tag_of).unwrap_or("");
        let remote_tag = request.header(Name::From).and_then(super::tag_of).unwrap_or("");
        let print = self.dialog_fingerprint(request.call_id(), local_tag, remote_tag);
        let first = || {
            let half = self.half_fingerprint(request.call_id(), local_tag);
            self.usages.get(&half).filter(|_| request.method() == Some(&Method::Notify))
        };
        self.usages.get(&print).or_else(first).copied()
    }

    /// What identifies a subscription of ours before its first NOTIFY (section 4.4.1).
    pub(super) fn half_fingerprint(&self, call_id: &str, local_tag: &str) -> Fingerprint {
        self.secret.fingerprint(&[b"half", call_id.as_bytes(), local_tag.as_bytes()])
    }

    /// A request in a subscription's dialog.
    pub(super) fn receive_in_subscription(
        &mut self,
        now: Instant,
        key: Key,
        arrival: Arrival<'_>,
        fingerprint: Fingerprint,
    ) {
        let Arrival { source, request, via } = arrival;
        let (Some(method), Ok(cseq)) = (request.method(), request.cseq()) else { return };
        if !self.has_room(true) {
            return self.refuse_busy(arrival);
        }
        if !matches!(method, Method::Notify | Method::Subscribe) {
            return self.refuse(arrival, &Refusal::new(481));
        }
        let to = reply_destination(via, source);
        let txn = self.add_server(Kind::Server, fingerprint, None, to, source.local);
        let Some(subscription) = self.subscriptions.get_mut(key) else { return };
        if !subscription.usage.dialog.accept_sequence(cseq.number) {
            return self.reply(now, txn, arrival, 500, &[]);
        }
        match (method, &subscription.role) {
            (Method::Subscribe, Role::Notifier(_)) => self.receive_refresh(now, key, txn, arrival),
            (Method::Notify, Role::Subscriber(_)) => self.receive_notify(now, key, txn, arrival),
            (Method::Notify, Role::Referral(_)) => self.receive_late_report(now, key, txn, arrival),
            _ => self.reply(now, txn, arrival, 481, &[]),
        }
    }

    /// A report on a referral of ours whose call is over: nobody waits for it, but the peer wants it taken.
    fn receive_late_report(&mut self, now: Instant, key: Key, txn: Key, arrival: Arrival<'_>) {
        let event = arrival.request.header(Name::Event).and_then(|value| EventType::parse(value).ok());
        let Some(Subscription { role: Role::Referral(referral), .. }) = self.subscriptions.get_mut(key) else { return };
        if !event.is_some_and(|event| referral.expects(&event)) {
            return self.reply(now, txn, arrival, 481, &[]);
        }
        let state = arrival.request.header(Name::SubscriptionState).map(SubscriptionState::parse);
        if matches!(state, Some(Ok(state)) if state.is_terminated()) {
            referral.asking = None;
        }
        let is_over = referral.reporting.is_none() && referral.asking.is_none();
        self.reply(now, txn, arrival, 200, &[]);
        if is_over {
            self.drop_subscription(key);
        }
    }

    /// Sends a report on a referral whose call is over.
    pub(super) fn send_report(&mut self, now: Instant, key: Key, report: &Report) {
        let extra = [(Name::Event, report.event.as_str()), (Name::SubscriptionState, report.state.as_str())];
        self.send_in_subscription(
            now,
            key,
            (&Method::Notify, Purpose::Notify),
            &extra,
            Some((sipfrag::CONTENT_TYPE, &report.body)),
        );
    }

    /// Sends a request in a subscription's dialog, with our Contact.
    pub(super) fn send_in_subscription(
        &mut self,
        now: Instant,
        key: Key,
        (method, purpose): (&Method, Purpose),
        extra: &[(Name, &str)],
        body: Option<(&str, &Bytes)>,
    ) {
        let branch = self.branch();
        let Some(subscription) = self.subscriptions.get_mut(key) else { return };
        subscription.usage.dialog.local_seq += 1;
        let credentials = match &mut subscription.role {
            Role::Subscriber(subscriber) => subscriber.credentials_ahead(&subscription.usage.dialog),
            _ => Vec::new(),
        };
        let Some(subscription) = self.subscriptions.get(key) else { return };
        let to = subscription.usage.next_hop();
        let local = subscription.usage.local;
        let sequence = subscription.usage.dialog.local_seq;
        let mut builder = self
            .request_in(&subscription.usage.dialog, (to.transport, local), (method, sequence), &branch)
            .header(Name::Contact, &subscription.usage.contact);
        for (name, value) in extra {
            builder = builder.header(*name, value);
        }
        if let Role::Subscriber(subscriber) = &subscription.role {
            builder = subscriber.write(builder);
        }
        for (name, value) in credentials {
            builder = builder.header(name, value);
        }
        if let Some((kind, body)) = body {
            builder = builder.body(kind, body.clone());
        }
        let bytes = builder.finish().bytes();
        self.add_client(now, Some((key, purpose)), (&branch, method.as_str()), (to, local), bytes);
    }

    /// A response to a request in a subscription; `response` is `None` where nobody gave one.
    pub(super) fn subscription_answered(
        &mut self,
        now: Instant,
        key: Key,
        purpose: Purpose,
        code: u16,
        answer: Option<(&Message, Option<&Sent>)>,
    ) {
        match (purpose, self.subscriptions.get(key).map(|it| &it.role)) {
            (Purpose::Subscribe, Some(Role::Subscriber(_))) => self.subscribe_answered(now, key, code, answer),
            (Purpose::Notify, Some(Role::Notifier(_))) => self.notify_answered(now, key, code),
            (Purpose::Notify, Some(Role::Referral(_))) if super::notifier::ends_subscription(code) => {
                self.drop_subscription(key);
            }
            _ => {}
        }
    }

    /// A request in a subscription had no response.
    pub(super) fn subscription_failed(&mut self, now: Instant, key: Key, purpose: Purpose, failure: Failure) {
        let code = match failure {
            Failure::TimedOut => 408,
            Failure::Unreachable => 503,
        };
        self.subscription_answered(now, key, purpose, code, None);
    }

    pub(super) fn subscription_due(&mut self, now: Instant, key: Key) {
        let Some(subscription) = self.subscriptions.get_mut(key) else { return };
        if !subscription.usage.timers.dequeue(now) {
            return;
        }
        while let Some(index) = self.subscriptions.get_mut(key).and_then(|it| it.usage.timers.take_due(now)) {
            let Some(timer) = SubscriptionTimer::ALL.get(index).copied() else { continue };
            match self.subscriptions.get(key).map(|it| &it.role) {
                Some(Role::Notifier(_)) => self.notifier_due(now, key),
                Some(Role::Subscriber(_)) => self.subscriber_due(now, key, timer),
                Some(Role::Referral(_)) => self.drop_subscription(key),
                None => {}
            }
        }
        self.arm_subscription(now, key);
    }
}
