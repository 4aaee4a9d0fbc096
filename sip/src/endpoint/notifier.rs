//! The notifier's side of a subscription (RFC 6665 section 4.2): a peer's SUBSCRIBE that the user accepts or refuses, and the
//! NOTIFY requests that follow.
//!
//! Invariants: one NOTIFY is under way at a time, and of several states given meanwhile only the newest is sent after it, so
//! that a slow subscriber costs one document. The last document is kept: a refresh sends it again (section 4.2.1.2). Where a document says what has
//! changed and no more, the whole is kept beside it, for the refresh and for whoever was told too late to know the state before.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::Endpoint;
use super::arena::Key;
use super::commands::{CommandError, checked_code};
use super::event::{Event, SubscriptionEnd, SubscriptionId, Target};
use super::inbound::Arrival;
use super::request::ANSWER_WITHIN_T1;
use super::secret::Fingerprint;
use super::subscription::{Role, Subscription, SubscriptionTimer, Usage, id};
use super::transactions::Purpose;
use super::validate::{self, Refusal};
use super::write::{Echo, Response, clean, reply_destination};
use crate::dialog::Dialog;
use crate::headers::params::is_token;
use crate::headers::{EventType, Name, SubscriptionState, TerminatedReason};
use crate::method::Method;
use crate::transaction::Kind;

/// For how long a subscription lasts where the peer does not say.
const DEFAULT_EXPIRES_S: u32 = 3_600;

/// A peer's subscription.
#[derive(Debug)]
pub(super) struct Notifier {
    event: EventType,
    /// The SUBSCRIBE, until it is accepted.
    asked: Option<(Key, Box<Echo>)>,
    /// What the peer asked for last.
    wanted_s: u32,
    /// The longest that the user grants.
    longest_s: u32,
    document: Option<(String, Bytes)>,
    /// What the next NOTIFY says instead of all of it, if it is sent at once.
    change: Option<Bytes>,
    /// A NOTIFY waits for its answer.
    is_under_way: bool,
    /// The document changed since.
    is_behind: bool,
}

/// Whether a response to NOTIFY says that nobody wants more of them (RFC 6665 section 4.2.2, with RFC 5057 section 5.1).
pub(super) fn ends_subscription(code: u16) -> bool {
    matches!(code, 404 | 405 | 408 | 410 | 416 | 480..=485 | 489 | 501 | 503 | 604)
}

impl Endpoint {
    /// Accepts a subscription for at most `expires` (the peer may have asked for less) with 200, and sends its first
    /// NOTIFY with this document: a Content-Type and a body. More follow by [`notify`](Self::notify). Where the peer only
    /// wanted the present state (Expires: 0), the subscription ends with that.
    ///
    /// # Errors
    /// Where it does not wait for an answer.
    pub fn accept_subscription(
        &mut self,
        now: Instant,
        subscription: SubscriptionId,
        expires: Duration,
        document: Option<(&str, Bytes)>,
    ) -> Result<(), CommandError> {
        let key = self.known_subscription(subscription)?;
        let Some((usage, notifier)) = self.notifier(key) else {
            return Err(CommandError::NoSuchSubscription(subscription));
        };
        let Some((txn, echo)) = notifier.asked.take() else {
            return Err(CommandError::SubscriptionState(subscription));
        };
        notifier.longest_s = u32::try_from(expires.as_secs()).unwrap_or(u32::MAX).max(1);
        notifier.document = document.map(|(kind, body)| (kind.to_owned(), body));
        let granted_s = notifier.wanted_s.min(notifier.longest_s);
        let (contact, tag) = (usage.contact.clone(), usage.dialog.local_tag.clone());
        let expires = granted_s.to_string();
        let headers = [("Contact", contact.as_str()), ("Expires", expires.as_str())];
        let bytes = Response { tag: Some(&tag), routes: true, headers: &headers, ..Response::new(200) }.to_bytes(&echo);
        self.respond(now, txn, 200, bytes);
        self.granted(now, key, granted_s);
        Ok(())
    }

    /// Refuses a subscription with 300 to 699.
    ///
    /// # Errors
    /// Where it does not wait for an answer.
    pub fn reject_subscription(
        &mut self,
        now: Instant,
        subscription: SubscriptionId,
        code: u16,
        headers: &[(String, String)],
    ) -> Result<(), CommandError> {
        let code = checked_code(code, 300, 699)?;
        let key = self.known_subscription(subscription)?;
        if self.refuse_subscription(now, key, code, headers) {
            return Ok(());
        }
        Err(CommandError::SubscriptionState(subscription))
    }

    /// Tells a subscriber of a new state. While an earlier NOTIFY waits for its answer, the newest state follows it.
    ///
    /// # Errors
    /// Where it is not accepted, or is over.
    pub fn notify(
        &mut self,
        now: Instant,
        subscription: SubscriptionId,
        content_type: &str,
        body: Bytes,
    ) -> Result<(), CommandError> {
        let key = self.known_subscription(subscription)?;
        match self.notifier(key) {
            Some((_, notifier)) if notifier.asked.is_none() => {
                notifier.document = Some((content_type.to_owned(), body));
                notifier.change = None;
                self.send_notify(now, key, None);
                Ok(())
            }
            _ => Err(CommandError::SubscriptionState(subscription)),
        }
    }

    /// Tells a subscriber what has changed (`change`) of a state (`whole`) that it was told before. Where an earlier NOTIFY waits for its
    /// answer, the whole follows it.
    ///
    /// # Errors
    /// Where it is not accepted, or is over.
    pub fn notify_change(
        &mut self,
        now: Instant,
        subscription: SubscriptionId,
        content_type: &str,
        (change, whole): (Bytes, Bytes),
    ) -> Result<(), CommandError> {
        let key = self.known_subscription(subscription)?;
        match self.notifier(key) {
            Some((_, notifier)) if notifier.asked.is_none() => {
                notifier.document = Some((content_type.to_owned(), whole));
                notifier.change = Some(change).filter(|_| !notifier.is_under_way);
                self.send_notify(now, key, None);
                Ok(())
            }
            _ => Err(CommandError::SubscriptionState(subscription)),
        }
    }

    /// Ends a subscription with a last NOTIFY that says why. [`Event::SubscriptionEnded`] is not told.
    ///
    /// # Errors
    /// Where it is not accepted, or is over.
    pub fn end_subscription(
        &mut self,
        now: Instant,
        subscription: SubscriptionId,
        reason: TerminatedReason,
        retry_after: Option<Duration>,
    ) -> Result<(), CommandError> {
        let key = self.known_subscription(subscription)?;
        if !matches!(self.notifier(key), Some((_, notifier)) if notifier.asked.is_none()) {
            return Err(CommandError::SubscriptionState(subscription));
        }
        let mut state = SubscriptionState::terminated(reason);
        state.retry_after_s = retry_after.map(|span| u32::try_from(span.as_secs()).unwrap_or(u32::MAX));
        self.send_notify(now, key, Some(&state));
        self.drop_subscription(key);
        Ok(())
    }

    /// Whether SUBSCRIBE is taken at all.
    pub(super) fn takes_subscriptions(&self) -> bool {
        !self.config.event_packages.is_empty()
    }

    /// A new subscription: checked, given a transaction and a dialog, told to the user.
    pub(super) fn receive_subscribe(&mut self, now: Instant, arrival: Arrival<'_>, fingerprint: Fingerprint) {
        let Arrival { source, request, via } = arrival;
        let merge = self.merge_fingerprint(request);
        if self.merges.contains_key(&merge) {
            return self.refuse(arrival, &Refusal::new(482));
        }
        let event = request.header(Name::Event).and_then(|value| EventType::parse(value).ok());
        let known = event.filter(|event| self.config.event_packages.contains(&event.package));
        let checked = validate::required(request).and_then(|()| self.interval(arrival));
        let (event, wanted_s) = match (known, checked) {
            (_, Err(refusal)) => return self.refuse(arrival, &refusal),
            // 4.2.1.1, and 8.2.2 for Allow-Events.
            (None, _) => {
                let packages = self.config.event_packages.join(", ");
                return self.refuse(arrival, &Refusal { code: 489, header: Some(("Allow-Events", packages)) });
            }
            (Some(event), Ok(wanted_s)) => (event, wanted_s),
        };
        let is_full = self.subscriptions.len() >= self.config.limits.subscriptions;
        if self.refusing || is_full || !self.has_room(false) {
            return self.refuse_busy(arrival);
        }
        let tag = self.secret.name();
        let dialog = match Dialog::from_request(request, tag.as_str(), self.config.limits.routes) {
            Ok(dialog) => dialog,
            Err(_) => return self.refuse(arrival, &Refusal::new(400)),
        };
        let mut way = reply_destination(via, source);
        let txn = self.add_server(Kind::Server, fingerprint, Some(merge), way.clone(), source.local);
        way.target = Target::Address(source.remote);
        let user = request.uri().ok().and_then(|uri| uri.user().map(str::to_owned));
        let contact = self.contact(source.transport, source.local, user.as_deref());
        let print = self.dialog_fingerprint(&dialog.call_id, &dialog.local_tag, &dialog.remote_tag);
        let notifier = Notifier {
            event: event.clone(),
            asked: Some((txn, Box::new(arrival.echo()))),
            wanted_s,
            longest_s: wanted_s,
            document: None,
            change: None,
            is_under_way: false,
            is_behind: false,
        };
        let role = Role::Notifier(Box::new(notifier));
        let subscription = Subscription::new(dialog, (way, source.local), contact, role);
        let limit = now + self.config.timings.t1 * ANSWER_WITHIN_T1;
        let key = self.add_subscription(now, subscription, Some(print), Some(limit));
        self.tell(Event::Subscribed {
            subscription: id(key),
            package: event.package,
            expires: Duration::from_secs(u64::from(wanted_s)),
            request: Arc::clone(request),
            source: *source,
        });
    }

    /// The span that a SUBSCRIBE asks for, in seconds; 423 where it is too short to be worth it (4.2.1.1).
    fn interval(&self, arrival: Arrival<'_>) -> Result<u32, Refusal> {
        let wanted_s = match arrival.request.header(Name::Expires) {
            None => DEFAULT_EXPIRES_S,
            Some(_) => arrival.request.expires_seconds().ok_or(Refusal::new(400))?,
        };
        let shortest_s = u32::try_from(self.config.shortest_subscription.as_secs()).unwrap_or(u32::MAX).min(3_600);
        if wanted_s != 0 && wanted_s < shortest_s {
            return Err(Refusal { code: 423, header: Some(("Min-Expires", shortest_s.to_string())) });
        }
        Ok(wanted_s)
    }

    /// SUBSCRIBE in the dialog: prolonged, or ended by Expires: 0 (4.2.1.2, 4.2.1.4).
    pub(super) fn receive_refresh(&mut self, now: Instant, key: Key, txn: Key, arrival: Arrival<'_>) {
        let event = arrival.request.header(Name::Event).and_then(|value| EventType::parse(value).ok());
        let interval = self.interval(arrival);
        let Some((usage, notifier)) = self.notifier(key) else { return };
        if event.as_ref() != Some(&notifier.event) {
            return self.reply(now, txn, arrival, 489, &[]);
        }
        if notifier.asked.is_some() {
            return self.reply(now, txn, arrival, 491, &[]);
        }
        let wanted_s = match interval {
            Ok(wanted_s) => wanted_s,
            Err(Refusal { code, header }) => {
                let header = header.as_ref().map(|(name, value)| (*name, value.as_str()));
                return self.reply(now, txn, arrival, code, header.as_slice());
            }
        };
        notifier.wanted_s = wanted_s;
        let granted_s = wanted_s.min(notifier.longest_s);
        usage.follow(arrival);
        let (contact, expires) = (usage.contact.clone(), granted_s.to_string());
        self.reply(now, txn, arrival, 200, &[("Contact", &contact), ("Expires", &expires)]);
        self.granted(now, key, granted_s);
    }

    /// A subscription stands for so many seconds more; the peer is told the state, as it must be.
    fn granted(&mut self, now: Instant, key: Key, granted_s: u32) {
        if granted_s == 0 {
            self.send_notify(now, key, Some(&SubscriptionState::terminated(TerminatedReason::Timeout)));
            return self.subscription_over(key, SubscriptionEnd::Unsubscribed);
        }
        if let Some(subscription) = self.subscriptions.get_mut(key) {
            subscription.usage.arm(SubscriptionTimer::Limit, now + Duration::from_secs(u64::from(granted_s)));
        }
        self.send_notify(now, key, None);
        self.arm_subscription(now, key);
    }

    /// Sends the document, now or after the NOTIFY that is under way. A last one goes out at once.
    fn send_notify(&mut self, now: Instant, key: Key, last: Option<&SubscriptionState>) {
        let Some((usage, notifier)) = self.notifier(key) else { return };
        if last.is_none() && notifier.is_under_way {
            notifier.is_behind = true;
            return;
        }
        notifier.is_under_way = true;
        notifier.is_behind = false;
        let event = notifier.event.to_string();
        let mut document = notifier.document.clone();
        if let (Some(change), Some((_, body))) = (notifier.change.take().filter(|_| last.is_none()), &mut document) {
            *body = change;
        }
        let left = usage.deadline(SubscriptionTimer::Limit).map_or(0, |at| at.saturating_duration_since(now).as_secs());
        let active = SubscriptionState::active(u32::try_from(left).unwrap_or(u32::MAX));
        let value = last.unwrap_or(&active).to_string();
        let extra = [(Name::Event, event.as_str()), (Name::SubscriptionState, value.as_str())];
        let body = document.as_ref().map(|(kind, body)| (kind.as_str(), body));
        self.send_in_subscription(now, key, (&Method::Notify, Purpose::Notify), &extra, body);
    }

    /// A NOTIFY has its answer.
    pub(super) fn notify_answered(&mut self, now: Instant, key: Key, code: u16) {
        if ends_subscription(code) {
            return self.subscription_over(key, SubscriptionEnd::Gone);
        }
        let Some((_, notifier)) = self.notifier(key) else { return };
        notifier.is_under_way = false;
        if notifier.is_behind {
            self.send_notify(now, key, None);
        }
    }

    /// The user has not answered, or the peer has not refreshed.
    pub(super) fn notifier_due(&mut self, now: Instant, key: Key) {
        if self.refuse_subscription(now, key, 500, &[]) {
            return;
        }
        self.send_notify(now, key, Some(&SubscriptionState::terminated(TerminatedReason::Timeout)));
        self.subscription_over(key, SubscriptionEnd::Expired);
    }

    fn refuse_subscription(&mut self, now: Instant, key: Key, code: u16, headers: &[(String, String)]) -> bool {
        let Some((usage, notifier)) = self.notifier(key) else { return false };
        let Some((txn, echo)) = notifier.asked.take() else { return false };
        let tag = usage.dialog.local_tag.clone();
        let headers: Vec<(&str, std::borrow::Cow<'_, str>)> = headers
            .iter()
            .filter(|(name, _)| is_token(name))
            .map(|(name, value)| (name.as_str(), clean(value)))
            .collect();
        let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (*name, value.as_ref())).collect();
        let bytes = Response { tag: Some(&tag), headers: &headers, ..Response::new(code) }.to_bytes(&echo);
        self.respond(now, txn, code, bytes);
        self.drop_subscription(key);
        true
    }

    /// A subscription in which we notify, in two parts.
    fn notifier(&mut self, key: Key) -> Option<(&mut Usage, &mut Notifier)> {
        match self.subscriptions.get_mut(key)? {
            Subscription { usage, role: Role::Notifier(notifier) } => Some((usage, notifier)),
            _ => None,
        }
    }
}
