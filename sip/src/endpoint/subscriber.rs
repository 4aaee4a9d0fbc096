//! The subscriber's side of a subscription (RFC 6665 section 4.1): SUBSCRIBE sent, repeated before it runs out, ended; NOTIFY
//! taken in.
//!
//! The table is a pure function of where a subscription stands and what happens; the endpoint runs its actions. The dialog
//! is the first NOTIFY's (section 4.4.1): it may come before the answer to SUBSCRIBE, and what other forks send later is
//! answered 481.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use super::arena::Key;
use super::challenge::{Challenge, Sent};
use super::commands::CommandError;
use super::event::{Destination, Event, SubscriptionEnd, SubscriptionId};
use super::inbound::Arrival;
use super::subscription::{Role, Subscription, SubscriptionTimer, Usage, id};
use super::transactions::Purpose;
use super::{Endpoint, own};
use crate::auth::Credentials;
use crate::build::Builder;
use crate::dialog::Dialog;
use crate::headers::{EventType, Name, NameAddr, SubscriptionPhase, SubscriptionState};
use crate::message::Message;
use crate::method::Method;
use crate::uri::{Uri, decimal};

/// A subscription to be asked for.
#[derive(Debug, Clone)]
pub struct OutgoingSubscription {
    /// Whose events: the Request-URI.
    pub uri: String,
    /// Who subscribes: a From value without tag.
    pub from: String,
    /// The To value, where it is not the Request-URI.
    pub to: Option<String>,
    /// Where to send it.
    pub destination: Destination,
    /// Our address as that peer can reach it.
    pub local: SocketAddr,
    /// The event package: `dialog`, `message-summary`, `reg`.
    pub package: String,
    /// For how long; it is refreshed before that is over, until [`Endpoint::unsubscribe`]. Zero asks for the present state.
    pub expires: Duration,
    /// The Content-Types that can be read; empty leaves the Accept header out.
    pub accept: Vec<String>,
    /// Further headers of every SUBSCRIBE.
    pub headers: Vec<(String, String)>,
    /// For 401 and 407.
    pub credentials: Option<Credentials>,
}

/// Where a subscription of ours stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Standing {
    /// SUBSCRIBE sent, no NOTIFY yet.
    Asking,
    /// NOTIFY came: it stands.
    Active,
    /// Given up before the first NOTIFY: there is no dialog yet to end it in.
    LeavingEarly,
    /// Given up; the last NOTIFY is awaited.
    Leaving,
    /// Over.
    Ended,
}

/// What happens to it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Input {
    /// 2xx to SUBSCRIBE.
    Success,
    /// A failure that ends a subscription.
    Refused,
    /// A failure that may be gone the next time (no answer, 5xx).
    Failed,
    /// NOTIFY that says it goes on.
    Notified,
    /// NOTIFY that says it is over.
    Terminated,
    /// Time to refresh.
    RefreshDue,
    /// No NOTIFY in time (timer N, section 4.1.2.4), or not refreshed.
    LimitDue,
    /// The user gives it up.
    Leave,
}

/// What to do about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Action {
    /// Send SUBSCRIBE for the whole span.
    SendRefresh,
    /// Send SUBSCRIBE with Expires: 0.
    SendLeave,
    /// Set the timers by what the answer grants.
    Granted,
    /// Set the timers by what the NOTIFY says.
    Renewed,
    /// Try again while the granted span lasts.
    TryLater,
    /// Tell the user of the NOTIFY.
    TellNotified,
    /// Forget it and tell the user why.
    TellEnded,
}

/// The table: the next standing and what to do, in order; `None` where the input changes nothing.
pub(super) fn table(standing: Standing, input: Input) -> Option<(Standing, &'static [Action])> {
    use Action::{Granted, Renewed, SendLeave, SendRefresh, TellEnded, TellNotified, TryLater};
    use Standing::{Active, Asking, Ended, Leaving, LeavingEarly};
    match (standing, input) {
        (Asking | Active, Input::Success) => Some((standing, &[Granted])),
        (Asking | LeavingEarly, Input::Refused | Input::Failed) => Some((Ended, &[TellEnded])),
        (Active, Input::Refused) => Some((Ended, &[TellEnded])),
        // 4.1.2.3: a refresh that fails for now leaves the subscription as it was.
        (Active, Input::Failed) => Some((Active, &[TryLater])),
        (Leaving, Input::Refused | Input::Failed) => Some((Ended, &[TellEnded])),

        (Asking | Active, Input::Notified) => Some((Active, &[Renewed, TellNotified])),
        (Leaving, Input::Notified) => Some((Leaving, &[TellNotified])),
        (LeavingEarly, Input::Notified) => Some((Leaving, &[SendLeave])),
        (Asking | Active | LeavingEarly | Leaving, Input::Terminated) => Some((Ended, &[TellNotified, TellEnded])),

        (Active, Input::RefreshDue) => Some((Active, &[SendRefresh])),
        (Asking | Active | LeavingEarly | Leaving, Input::LimitDue) => Some((Ended, &[TellEnded])),
        (Asking, Input::Leave) => Some((LeavingEarly, &[])),
        (Active, Input::Leave) => Some((Leaving, &[SendLeave])),
        _ => None,
    }
}

/// A subscription of ours.
#[derive(Debug)]
pub(super) struct Subscriber {
    standing: Standing,
    event: EventType,
    /// What the next SUBSCRIBE asks for.
    wanted_s: u32,
    accept: String,
    headers: Vec<(String, String)>,
    challenge: Option<Box<Challenge>>,
    /// 423 was heeded once.
    has_lengthened: bool,
}

impl Subscriber {
    /// Credentials for the next SUBSCRIBE.
    pub(super) fn credentials_ahead(&mut self, dialog: &Dialog) -> Vec<(Name, String)> {
        let challenge = self.challenge.as_mut();
        challenge.map(|challenge| challenge.ahead(dialog, &Method::Subscribe, b"")).unwrap_or_default()
    }

    /// What every SUBSCRIBE of it says, besides its dialog.
    pub(super) fn write(&self, mut builder: Builder) -> Builder {
        let expires = if self.standing == Standing::Leaving { 0 } else { self.wanted_s };
        builder = builder.header(Name::Event, &self.event).header(Name::Expires, expires);
        if !self.accept.is_empty() {
            builder = builder.header(Name::Accept, &self.accept);
        }
        for (name, value) in &self.headers {
            builder = builder.header_named(name, value);
        }
        builder
    }
}

/// What an action may need of the input that led to it.
#[derive(Default)]
struct Context<'a> {
    response: Option<&'a Message>,
    notify: Option<(&'a Message, &'a SubscriptionState)>,
    end: Option<SubscriptionEnd>,
}

impl Endpoint {
    /// Asks for a peer's events. [`Event::Notified`] tells them, [`Event::SubscriptionEnded`] that there are no more.
    ///
    /// # Errors
    /// Where an address cannot be read, or a limit is reached.
    pub fn subscribe(&mut self, now: Instant, outgoing: OutgoingSubscription) -> Result<SubscriptionId, CommandError> {
        let limit = self.config.limits.subscriptions;
        if self.subscriptions.len() >= limit {
            return Err(CommandError::Limit { what: "subscriptions", limit });
        }
        if !self.has_room(false) {
            let limit = self.config.limits.transactions;
            return Err(CommandError::Limit { what: "transactions", limit });
        }
        let bad = |what, value: &str| CommandError::BadArgument { what, value: value.to_owned() };
        let uri = Uri::parse(&outgoing.uri).map_err(|_| bad("address", &outgoing.uri))?.for_request_uri();
        let from = NameAddr::parse(&outgoing.from).map_err(|_| bad("From", &outgoing.from))?;
        let to = outgoing.to.clone().unwrap_or_else(|| format!("<{}>", uri.as_str()));
        NameAddr::parse(&to).map_err(|_| bad("To", &to))?;
        let event = EventType::parse(&outgoing.package).map_err(|_| bad("event package", &outgoing.package))?;
        let tag = self.secret.name();
        let display = if from.display.is_empty() { String::new() } else { format!("{} ", from.display) };
        let user = from.uri().ok().and_then(|uri| uri.user().map(str::to_owned));
        let contact = self.contact(outgoing.destination.transport, outgoing.local, user.as_deref());
        let dialog = Dialog {
            call_id: self.secret.long_name(),
            local: format!("{display}<{}>;tag={}", from.uri_text, tag.as_str()),
            local_tag: tag.as_str().to_owned(),
            remote: to,
            remote_tag: String::new(),
            local_seq: 0,
            remote_seq: None,
            route_set: Vec::new(),
            remote_target: uri,
        };
        let half = self.half_fingerprint(&dialog.call_id, &dialog.local_tag);
        let subscriber = Subscriber {
            standing: Standing::Asking,
            event,
            wanted_s: u32::try_from(outgoing.expires.as_secs()).unwrap_or(u32::MAX),
            accept: outgoing.accept.join(", "),
            headers: outgoing.headers.into_iter().filter(|(name, _)| !is_ours(name)).collect(),
            challenge: outgoing.credentials.map(|credentials| Box::new(Challenge::new(credentials))),
            has_lengthened: false,
        };
        let role = Role::Subscriber(Box::new(subscriber));
        let subscription = Subscription::new(dialog, (outgoing.destination, outgoing.local), contact, role);
        let limit = now + self.config.timings.t1_times_64();
        let key = self.add_subscription(now, subscription, Some(half), Some(limit));
        self.send_subscribe(now, key);
        Ok(id(key))
    }

    /// Gives a subscription of ours up. [`Event::SubscriptionEnded`] follows, after a last [`Event::Notified`] as a rule.
    ///
    /// # Errors
    /// Where it is over, or is none of ours.
    pub fn unsubscribe(&mut self, now: Instant, subscription: SubscriptionId) -> Result<(), CommandError> {
        let key = self.known_subscription(subscription)?;
        if self.drive_subscriber(now, key, Input::Leave, &Context::default()) {
            return Ok(());
        }
        Err(CommandError::SubscriptionState(subscription))
    }

    /// Runs one step of the table; `false` where the input does not fit.
    fn drive_subscriber(&mut self, now: Instant, key: Key, input: Input, context: &Context<'_>) -> bool {
        let Some((_, subscriber)) = self.subscriber(key) else { return false };
        let Some((next, actions)) = table(subscriber.standing, input) else { return false };
        subscriber.standing = next;
        for action in actions {
            self.perform_subscriber(now, key, *action, context);
        }
        self.arm_subscription(now, key);
        true
    }

    fn perform_subscriber(&mut self, now: Instant, key: Key, action: Action, context: &Context<'_>) {
        let linger = now + self.config.timings.t1_times_64();
        let Some((usage, subscriber)) = self.subscriber(key) else { return };
        match action {
            Action::SendRefresh => self.send_subscribe(now, key),
            Action::SendLeave => {
                usage.disarm(SubscriptionTimer::Refresh);
                usage.arm(SubscriptionTimer::Limit, linger);
                self.send_subscribe(now, key);
            }
            Action::Granted => {
                let granted = context.response.and_then(Message::expires_seconds);
                let granted_s = granted.unwrap_or(subscriber.wanted_s).min(subscriber.wanted_s);
                // Before the first NOTIFY timer N runs; a fetch (Expires: 0) has nothing to refresh.
                if subscriber.standing == Standing::Active {
                    renew(usage, now, granted_s);
                }
            }
            Action::Renewed => {
                let said = context.notify.and_then(|(_, state)| state.expires_s);
                renew(usage, now, said.unwrap_or(subscriber.wanted_s));
            }
            Action::TryLater => {
                let left = usage.deadline(SubscriptionTimer::Limit).map(|at| at.saturating_duration_since(now));
                if let Some(left) = left.filter(|left| *left > SHORTEST_RETRY) {
                    usage.arm(SubscriptionTimer::Refresh, now + left / 2);
                }
            }
            Action::TellNotified => {
                let Some((notify, state)) = context.notify else { return };
                self.tell(Event::Notified {
                    subscription: id(key),
                    state: state.clone(),
                    content_type: notify.content_type().unwrap_or("").to_ascii_lowercase(),
                    body: notify.body_bytes(),
                });
            }
            Action::TellEnded => {
                let end = context.end.clone().unwrap_or(SubscriptionEnd::Gone);
                self.subscription_over(key, end);
            }
        }
    }

    fn send_subscribe(&mut self, now: Instant, key: Key) {
        self.send_in_subscription(now, key, (&Method::Subscribe, Purpose::Subscribe), &[], None);
    }

    /// SUBSCRIBE has its answer.
    pub(super) fn subscribe_answered(
        &mut self,
        now: Instant,
        key: Key,
        code: u16,
        answer: Option<(&Message, Option<&Sent>)>,
    ) {
        let response = answer.map(|(response, _)| response);
        if let (401 | 407, Some((response, Some(request)))) = (code, answer)
            && self.subscribe_again(now, key, response, request)
        {
            return;
        }
        if let (423, Some(response)) = (code, response)
            && self.subscribe_for_longer(now, key, response)
        {
            return;
        }
        let is_leaving = self
            .subscriber(key)
            .is_some_and(|(_, it)| matches!(it.standing, Standing::Leaving | Standing::LeavingEarly));
        let (input, end) = match code {
            200..=299 => (Input::Success, None),
            _ if is_leaving => (Input::Refused, Some(SubscriptionEnd::Unsubscribed)),
            481 => (Input::Refused, Some(SubscriptionEnd::Gone)),
            // 4.1.2.3 and RFC 5057 section 5.1: what may pass, and what ends it.
            408 | 500 | 503 | 504 => (Input::Failed, Some(SubscriptionEnd::Refused(code))),
            _ => (Input::Refused, Some(SubscriptionEnd::Refused(code))),
        };
        self.drive_subscriber(now, key, input, &Context { response, end, ..Context::default() });
    }

    /// Section 22.2 of RFC 3261.
    fn subscribe_again(&mut self, now: Instant, key: Key, response: &Message, request: &Sent) -> bool {
        let (branch, cnonce) = (self.branch(), self.secret.name());
        let Some((usage, subscriber)) = self.subscriber(key) else { return false };
        let Some(challenge) = subscriber.challenge.as_mut() else { return false };
        let Some((headers, tried)) = challenge.answers(response, (&Method::Subscribe, request), cnonce.as_str()) else {
            return false;
        };
        usage.dialog.local_seq += 1;
        let (sequence, to, local) = (usage.dialog.local_seq, usage.next_hop(), usage.local);
        let via = self.via(to.transport, local, &branch);
        let Some(bytes) = own::again(&request.bytes, "SUBSCRIBE", &via, sequence, &headers) else {
            return false;
        };
        let purpose = Some((key, Purpose::Subscribe));
        let txn = self.add_client(now, purpose, (&branch, "SUBSCRIBE"), (to, local), bytes.into());
        self.note_tried(txn, tried);
        true
    }

    /// 423: asks for what the notifier wants at least, once.
    fn subscribe_for_longer(&mut self, now: Instant, key: Key, response: &Message) -> bool {
        let least = response.header(Name::MinExpires).and_then(|value| decimal(value.as_bytes()));
        let Some((_, subscriber)) = self.subscriber(key) else { return false };
        let Some(least) = least.filter(|least| !subscriber.has_lengthened && *least > subscriber.wanted_s) else {
            return false;
        };
        subscriber.has_lengthened = true;
        subscriber.wanted_s = least;
        self.send_subscribe(now, key);
        true
    }

    /// NOTIFY: section 4.1.3.
    pub(super) fn receive_notify(&mut self, now: Instant, key: Key, txn: Key, arrival: Arrival<'_>) {
        let request = arrival.request;
        let event = request.header(Name::Event).and_then(|value| EventType::parse(value).ok());
        let Some((_, subscriber)) = self.subscriber(key) else { return };
        if event.as_ref() != Some(&subscriber.event) {
            return self.reply(now, txn, arrival, 489, &[]);
        }
        let state = request.header(Name::SubscriptionState).map(SubscriptionState::parse);
        let Some(Ok(state)) = state else { return self.reply(now, txn, arrival, 400, &[]) };
        if !self.enter_dialog(key, arrival) {
            return self.reply(now, txn, arrival, 400, &[]);
        }
        self.reply(now, txn, arrival, 200, &[]);
        let Some((_, subscriber)) = self.subscriber(key) else { return };
        let is_leaving = matches!(subscriber.standing, Standing::Leaving | Standing::LeavingEarly);
        let (input, end) = match &state.phase {
            SubscriptionPhase::Terminated(_) if is_leaving => (Input::Terminated, SubscriptionEnd::Unsubscribed),
            SubscriptionPhase::Terminated(reason) => {
                let retry_after = state.retry_after_s.map(|seconds| Duration::from_secs(u64::from(seconds)));
                (Input::Terminated, SubscriptionEnd::Terminated { reason: reason.clone(), retry_after })
            }
            _ => (Input::Notified, SubscriptionEnd::Gone),
        };
        let context = Context { notify: Some((request, &state)), end: Some(end), ..Context::default() };
        self.drive_subscriber(now, key, input, &context);
    }

    /// Takes the dialog from the first NOTIFY, the target from every one (section 4.4.1).
    fn enter_dialog(&mut self, key: Key, arrival: Arrival<'_>) -> bool {
        let max_routes = self.config.limits.routes;
        let Some((usage, _)) = self.subscriber(key) else { return false };
        if !usage.dialog.remote_tag.is_empty() {
            usage.follow(arrival);
            return true;
        }
        let Ok(theirs) = Dialog::from_request(arrival.request, &usage.dialog.local_tag, max_routes) else {
            return false;
        };
        usage.dialog.remote = theirs.remote;
        usage.dialog.remote_tag = theirs.remote_tag;
        usage.dialog.remote_target = theirs.remote_target;
        usage.dialog.route_set = theirs.route_set;
        usage.follow(arrival);
        let (call_id, local_tag) = (usage.dialog.call_id.clone(), usage.dialog.local_tag.clone());
        let remote_tag = usage.dialog.remote_tag.clone();
        let half = usage.print.take();
        let print = self.dialog_fingerprint(&call_id, &local_tag, &remote_tag);
        if let Some(half) = half {
            self.usages.remove(&half);
        }
        self.usages.insert(print, key);
        if let Some((usage, _)) = self.subscriber(key) {
            usage.print = Some(print);
        }
        true
    }

    pub(super) fn subscriber_due(&mut self, now: Instant, key: Key, timer: SubscriptionTimer) {
        let Some((_, subscriber)) = self.subscriber(key) else { return };
        let end = match subscriber.standing {
            Standing::Asking => SubscriptionEnd::NoNotify,
            Standing::Leaving | Standing::LeavingEarly => SubscriptionEnd::Unsubscribed,
            _ => SubscriptionEnd::Expired,
        };
        let input = match timer {
            SubscriptionTimer::Limit => Input::LimitDue,
            SubscriptionTimer::Refresh => Input::RefreshDue,
        };
        self.drive_subscriber(now, key, input, &Context { end: Some(end), ..Context::default() });
    }

    /// A subscription of ours, in two parts.
    fn subscriber(&mut self, key: Key) -> Option<(&mut Usage, &mut Subscriber)> {
        match self.subscriptions.get_mut(key)? {
            Subscription { usage, role: Role::Subscriber(subscriber) } => Some((usage, subscriber)),
            _ => None,
        }
    }
}

/// The shortest span in which a refresh is tried again.
const SHORTEST_RETRY: Duration = Duration::from_secs(4);

/// A subscription is refreshed so long before it runs out, or after half its span where that is shorter: a refresh may take
/// 64 T1.
const REFRESH_AHEAD: Duration = Duration::from_secs(60);

/// Sets the timers of a subscription that lasts so many seconds more.
fn renew(usage: &mut Usage, now: Instant, expires_s: u32) {
    let span = Duration::from_secs(u64::from(expires_s));
    usage.arm(SubscriptionTimer::Limit, now + span);
    usage.arm(SubscriptionTimer::Refresh, now + span.saturating_sub(REFRESH_AHEAD).max(span / 2));
}

/// Headers that the endpoint writes itself.
fn is_ours(name: &str) -> bool {
    matches!(
        Name::parse(name.as_bytes()),
        Name::Via
            | Name::From
            | Name::To
            | Name::CallId
            | Name::CSeq
            | Name::Contact
            | Name::MaxForwards
            | Name::UserAgent
            | Name::Event
            | Name::Expires
            | Name::Accept
            | Name::ContentType
            | Name::ContentLength
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    const STANDINGS: [Standing; 5] =
        [Standing::Asking, Standing::Active, Standing::LeavingEarly, Standing::Leaving, Standing::Ended];
    const INPUTS: [Input; 8] = [
        Input::Success,
        Input::Refused,
        Input::Failed,
        Input::Notified,
        Input::Terminated,
        Input::RefreshDue,
        Input::LimitDue,
        Input::Leave,
    ];

    #[test]
    fn the_end_is_told_once_and_nothing_leads_away_from_it() {
        for standing in STANDINGS {
            for input in INPUTS {
                let Some((next, actions)) = table(standing, input) else { continue };
                assert_ne!(standing, Standing::Ended);
                let told = actions.iter().filter(|action| **action == Action::TellEnded).count();
                assert_eq!(told, usize::from(next == Standing::Ended), "{standing:?} {input:?}");
            }
        }
    }

    #[test]
    fn every_standing_ends_by_its_limit() {
        for standing in STANDINGS.into_iter().filter(|standing| *standing != Standing::Ended) {
            assert_eq!(table(standing, Input::LimitDue).map(|(next, _)| next), Some(Standing::Ended));
        }
    }
}
