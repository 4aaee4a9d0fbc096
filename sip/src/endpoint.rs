//! The endpoint: messages in, calls out, without I/O. Transactions, dialogs and the rules of a user agent (RFC 3261
//! sections 8 to 15) behind one facade.
//!
//! Whoever owns an [`Endpoint`] feeds it with [`receive`](Endpoint::receive), wakes it with [`tick`](Endpoint::tick) when
//! [`next_wake`](Endpoint::next_wake) says so, gives it commands, and after each of these takes everything that
//! [`poll`](Endpoint::poll) has: messages to send and events for the user.
//!
//! Invariants:
//! - It reads no clock, no socket and no entropy: `now` and the seed are arguments. The same inputs give the same outputs.
//! - What peers can make grow is bounded by [`EndpointLimits`].
//! - What can be refused without remembering anything is refused statelessly (section 8.2.7), with a tag that is a hash of
//!   the request, so that a flood of nonsense costs no memory.
//! - Every call ends with exactly one [`Event::Ended`].

mod arena;
mod call;
mod challenge;
mod commands;
mod config;
mod connected;
mod early;
mod event;
mod focus;
mod inbound;
mod notifier;
mod outbound;
mod own;
mod refer;
mod refresh;
mod reliable;
mod reoffer;
mod replaces;
mod request;
mod responses;
mod secret;
mod subscriber;
mod subscription;
mod transactions;
mod update;
mod validate;
mod write;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use bytes::Bytes;

use crate::message::Message;
use crate::method::Method;
use crate::parse::ParseError;
use crate::timer::TimerWheel;

pub use self::commands::{CommandError, OutgoingCall};
pub use self::config::{EndpointConfig, EndpointLimits};
pub use self::event::{
    CallId, Destination, EndCause, Event, FlowId, Output, ReplacesTarget, RequestId, SendId, Source, SubscriptionEnd,
    SubscriptionId, Target, Transport,
};
pub use self::replaces::DialogIdentity;
pub use self::request::OutgoingRequest;
pub use self::subscriber::OutgoingSubscription;

use self::arena::{Arena, Key};
use self::call::{Call, CallTimer};
use self::request::Pending;
use self::secret::{FingerprintMap, Secret};
use self::subscription::Subscription;
use self::transactions::Txn;
pub(crate) use self::write::tag_of;

/// The methods that every endpoint understands, as its Allow header says; those that its user takes stand behind them
/// (see [`Endpoint::allow`]).
pub const ALLOW: &str = "INVITE, ACK, BYE, CANCEL, OPTIONS, INFO, NOTIFY, PRACK, UPDATE";

/// The extensions that it understands, as its Supported header says.
pub const SUPPORTED: &str = "100rel, replaces, norefersub, timer, from-change";

/// The two bits above a key say whose timer it is on the wheel: a transaction's without, a call's with this.
const CALL_MARK: u64 = 1 << 62;
/// A timer of a request outside of calls.
const REQUEST_MARK: u64 = 2 << 62;
/// A subscription's timer.
const SUBSCRIPTION_MARK: u64 = 3 << 62;
/// Both bits.
const MARKS: u64 = 3 << 62;

/// Counters since the start, and what is held now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct EndpointStats {
    /// Calls held now.
    pub calls: usize,
    /// Transactions held now.
    pub transactions: usize,
    /// Requests outside of calls that wait for an answer now, ours or the peer's.
    pub requests: usize,
    /// Subscriptions held now, with referrals that outlived their calls.
    pub subscriptions: usize,
    /// Timer entries held now.
    pub timers: usize,
    /// Requests received, repeats included.
    pub requests_received: u64,
    /// Responses received.
    pub responses_received: u64,
    /// Requests that were repeats.
    pub repeats_received: u64,
    /// Messages that could not be read.
    pub unreadable: u64,
    /// Responses and requests that belonged to nothing.
    pub strays: u64,
    /// Messages that we sent again.
    pub repeats_sent: u64,
    /// Requests refused for a limit, or while draining (503).
    pub refused_busy: u64,
    /// Requests refused for what is in them (4xx, 5xx), by rule rather than by the user.
    pub refused_invalid: u64,
}

/// One SIP user agent, server and client.
#[derive(Debug)]
pub struct Endpoint {
    config: EndpointConfig,
    allow: Arc<str>,
    secret: Secret,
    transactions: Arena<Txn>,
    servers: FingerprintMap<Key>,
    clients: FingerprintMap<Key>,
    merges: FingerprintMap<Key>,
    calls: Arena<Call>,
    requests: Arena<Pending>,
    /// Those of `requests` that a peer sent.
    requests_asked: usize,
    subscriptions: Arena<Subscription>,
    /// Subscriptions by their dialogs.
    usages: FingerprintMap<Key>,
    dialogs: FingerprintMap<Key>,
    wheel: TimerWheel,
    due: Vec<u64>,
    outputs: VecDeque<Output>,
    /// Outputs polled since the start.
    polled: u64,
    /// 100 responses still in `outputs`: by transaction, the number of the output.
    tryings: Vec<(Key, u64)>,
    refusing: bool,
    stats: EndpointStats,
}

impl Endpoint {
    /// An endpoint with nothing in it. Peers must not be able to guess the seed: tags, branches and Call-IDs are made from
    /// it.
    pub fn new(config: EndpointConfig, seed: u64) -> Self {
        Self::with_secret(config, Secret::new(seed))
    }

    /// Like [`new`](Self::new), with 128 bits of seed.
    pub fn with_key(config: EndpointConfig, key: [u64; 2]) -> Self {
        Self::with_secret(config, Secret::from_key(key))
    }

    fn with_secret(config: EndpointConfig, secret: Secret) -> Self {
        Self {
            allow: allowed(&config),
            config,
            secret,
            transactions: Arena::default(),
            servers: FingerprintMap::default(),
            clients: FingerprintMap::default(),
            merges: FingerprintMap::default(),
            calls: Arena::default(),
            requests: Arena::default(),
            requests_asked: 0,
            subscriptions: Arena::default(),
            usages: FingerprintMap::default(),
            dialogs: FingerprintMap::default(),
            wheel: TimerWheel::default(),
            due: Vec::new(),
            outputs: VecDeque::new(),
            polled: 0,
            tryings: Vec::new(),
            refusing: false,
            stats: EndpointStats::default(),
        }
    }

    /// Takes in a message, or what was wrong with one.
    pub fn receive(&mut self, now: Instant, source: Source, message: Result<Message, ParseError>) {
        match message {
            Ok(message) if message.is_request() => {
                self.stats.requests_received += 1;
                self.receive_request(now, &source, message);
            }
            Ok(message) => {
                self.stats.responses_received += 1;
                self.receive_response(now, &source, message);
            }
            Err(error) => {
                self.stats.unreadable += 1;
                if let Some((partial, code)) = error.answer() {
                    self.refuse_unreadable(&source, partial, code, &error);
                }
            }
        }
    }

    /// Runs the timers that are due.
    pub fn tick(&mut self, now: Instant) {
        let mut due = std::mem::take(&mut self.due);
        self.wheel.expire(now, &mut due);
        for number in due.drain(..) {
            let key = Key::from_u64(number & !MARKS);
            match number & MARKS {
                0 => self.transaction_due(now, key),
                CALL_MARK => self.call_due(now, key),
                REQUEST_MARK => self.request_due(now, key),
                _ => self.subscription_due(now, key),
            }
        }
        self.due = due;
    }

    /// When [`tick`](Self::tick) is to be called, should nothing else happen before.
    pub fn next_wake(&self) -> Option<Instant> {
        self.wheel.next_wake()
    }

    /// The next thing to do. To be asked until `None` after every call of another method.
    pub fn poll(&mut self) -> Option<Output> {
        let output = self.outputs.pop_front();
        match output {
            Some(_) => self.polled += 1,
            None => self.tryings.clear(),
        }
        output
    }

    /// A message could not be sent: its transaction fails now instead of by its timer (section 8.1.3.1).
    pub fn send_failed(&mut self, now: Instant, id: SendId) {
        self.transaction_unreachable(now, Key::from_u64(id.0));
    }

    /// While set, new calls and requests outside of calls are refused with 503 and Retry-After: overload, or the server is
    /// about to stop. What goes on inside calls is not touched.
    pub fn refuse_new_calls(&mut self, refuse: bool) {
        self.refusing = refuse;
    }

    /// What it holds and has done.
    pub fn stats(&self) -> EndpointStats {
        EndpointStats {
            calls: self.calls.len(),
            transactions: self.transactions.len(),
            requests: self.requests.len(),
            subscriptions: self.subscriptions.len(),
            timers: self.wheel.len(),
            ..self.stats
        }
    }

    /// The methods that it takes, as its Allow header says.
    pub fn allow(&self) -> &str {
        &self.allow
    }

    /// The calls that it holds.
    pub fn calls(&self) -> impl Iterator<Item = CallId> + '_ {
        self.calls.keys().map(|key| CallId(key.to_u64()))
    }

    fn tell(&mut self, event: Event) {
        self.note_description(&event);
        self.outputs.push_back(Output::Event(event));
    }

    /// Sends 100, now or after a while, unless another response to the same INVITE is given before: that one takes its place then
    /// (section 17.2.1 has 100 sent only where the user does not answer at once).
    fn send_trying(&mut self, now: Instant, call: Key, txn: Key, bytes: Bytes) {
        let after = self.config.trying_after;
        if let Some(call) = self.calls.get_mut(call).filter(|_| !after.is_zero())
            && let Some(asked) = call.asked.as_mut()
        {
            asked.trying = Some(bytes);
            call.arm(CallTimer::Trying, now + after);
            return;
        }
        let number = self.polled + self.outputs.len() as u64;
        self.respond(now, txn, 100, bytes);
        self.tryings.push((txn, number));
    }

    /// Puts a response in the place of its transaction's 100, if that waits still.
    fn replace_trying(&mut self, id: SendId, bytes: &Bytes) -> bool {
        let Some(found) = self.tryings.iter().position(|(key, _)| key.to_u64() == id.0) else { return false };
        let (_, number) = self.tryings.swap_remove(found);
        let place = number.checked_sub(self.polled).and_then(|place| usize::try_from(place).ok());
        match place.and_then(|place| self.outputs.get_mut(place)) {
            Some(Output::Send { id: waiting, bytes: trying, .. }) if *waiting == id => {
                *trying = bytes.clone();
                true
            }
            _ => false,
        }
    }

    fn send(&mut self, id: SendId, to: Destination, bytes: Bytes) {
        if !self.tryings.is_empty() && self.replace_trying(id, &bytes) {
            return;
        }
        self.outputs.push_back(Output::Send { id, to, bytes });
    }
}

/// What the Allow header says.
fn allowed(config: &EndpointConfig) -> Arc<str> {
    let mut allow = String::from(ALLOW);
    let known = |allow: &str, method: &str| allow.split(", ").any(|one| one == method);
    let own = [(config.referrals, Method::Refer), (!config.event_packages.is_empty(), Method::Subscribe)];
    let own = own.iter().filter(|(taken, _)| *taken).map(|(_, method)| method);
    for method in own.chain(&config.user_methods) {
        if !known(&allow, method.as_str()) {
            allow.push_str(", ");
            allow.push_str(method.as_str());
        }
    }
    allow.into()
}
