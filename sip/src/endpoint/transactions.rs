//! The endpoint's transactions: storage, matching and timers.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use bytes::Bytes;

use super::arena::Key;
use super::challenge::Tried;
use super::event::{Destination, SendId, Transport};
use super::secret::Fingerprint;
use super::write::tag_of;
use super::{Endpoint, own};
use crate::headers::{Name, Via};
use crate::message::Message;
use crate::method::Method;
use crate::transaction::{Effects, Input, Kind, State, Transaction};

/// A table that holds less than one in so many of what it could gives memory back.
const SHRINK_BELOW: usize = 8;
/// One of this size may stay.
const SMALL_MAP: usize = 4_096;

/// What a transaction is for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Purpose {
    /// The INVITE that makes a call.
    Invite,
    /// An INVITE inside a call.
    Reinvite,
    /// BYE.
    Bye,
    /// CANCEL.
    Cancel,
    /// PRACK.
    Prack,
    /// UPDATE that refreshes the session.
    Update,
    /// INFO.
    Info,
    /// MESSAGE in a call.
    Message,
    /// REFER.
    Refer,
    /// NOTIFY in a call, on a referral.
    Report,
    /// A request outside of calls.
    Request,
    /// SUBSCRIBE.
    Subscribe,
    /// NOTIFY in a subscription.
    Notify,
}

impl Purpose {
    /// The method of such a request, where it is one of a call that may be repeated.
    pub(super) fn method(self) -> Option<Method> {
        match self {
            Purpose::Invite | Purpose::Reinvite => Some(Method::Invite),
            Purpose::Bye => Some(Method::Bye),
            Purpose::Prack => Some(Method::Prack),
            Purpose::Update => Some(Method::Update),
            Purpose::Info => Some(Method::Info),
            Purpose::Message => Some(Method::Message),
            Purpose::Refer => Some(Method::Refer),
            Purpose::Report => Some(Method::Notify),
            Purpose::Cancel | Purpose::Request | Purpose::Subscribe | Purpose::Notify => None,
        }
    }
}

/// A transaction and whom it belongs to: by its purpose a call, a request outside of calls, or a
/// subscription.
#[derive(Debug)]
pub(super) struct Txn {
    pub(super) machine: Transaction<Bytes>,
    pub(super) to: Destination,
    /// Our address, for what is derived from the request.
    pub(super) local: SocketAddr,
    pub(super) owner: Option<(Key, Purpose)>,
    fingerprint: Fingerprint,
    merge: Option<Fingerprint>,
    /// The request as it would have gone by UDP, had it not been too long.
    by_udp: Option<Bytes>,
    /// Where credentials were tried for the request.
    pub(super) tried: Tried,
    /// Without any response for so long it fails; `None`: 64 times T1.
    patience: Option<Duration>,
}

/// How a transaction failed without a response.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Failure {
    TimedOut,
    Unreachable,
}

impl Endpoint {
    /// What identifies a server transaction (RFC 3261 section 17.2.3). ACK matches as INVITE does; `method` is then
    /// `INVITE`.
    pub(super) fn server_fingerprint(&self, request: &Message, via: &Via<'_>, method: &str) -> Fingerprint {
        let port = via.port.unwrap_or(0).to_be_bytes();
        if let Some(branch) = via.rfc3261_branch() {
            return self.secret.fingerprint(&[branch.as_bytes(), via.host.as_bytes(), &port, method.as_bytes()]);
        }
        // RFC 2543: by what makes up the request. The To tag is left out, for the ACK to a failure carries ours.
        let from_tag = request.header(Name::From).and_then(tag_of).unwrap_or("");
        let number = request.cseq().map_or(0, |cseq| cseq.number).to_be_bytes();
        let top = request.header_values(Name::Via).next().unwrap_or("");
        self.secret.fingerprint(&[
            b"2543",
            request.request_uri().as_bytes(),
            from_tag.as_bytes(),
            request.call_id().as_bytes(),
            &number,
            top.as_bytes(),
            method.as_bytes(),
        ])
    }

    /// What identifies a request that came by another way already (section 8.2.2.2).
    pub(super) fn merge_fingerprint(&self, request: &Message) -> Fingerprint {
        let from_tag = request.header(Name::From).and_then(tag_of).unwrap_or("");
        let cseq = request.header(Name::CSeq).unwrap_or("");
        self.secret.fingerprint(&[b"merge", request.call_id().as_bytes(), from_tag.as_bytes(), cseq.as_bytes()])
    }

    /// What identifies a client transaction (section 17.1.3).
    pub(super) fn client_fingerprint(&self, branch: &str, method: &str) -> Fingerprint {
        self.secret.fingerprint(&[b"client", branch.as_bytes(), method.as_bytes()])
    }

    /// Whether there is room for one more transaction.
    pub(super) fn has_room(&self, inside_call: bool) -> bool {
        let limits = &self.config.limits;
        let reserved = if inside_call { limits.transactions_reserved } else { 0 };
        self.transactions.len() < limits.transactions + reserved
    }

    /// Begins a server transaction.
    pub(super) fn add_server(
        &mut self,
        kind: Kind,
        fingerprint: Fingerprint,
        merge: Option<Fingerprint>,
        to: Destination,
        local: SocketAddr,
    ) -> Key {
        let txn = Txn {
            machine: Transaction::new(kind, to.transport.is_reliable()),
            to,
            local,
            owner: None,
            fingerprint,
            merge,
            by_udp: None,
            tried: Tried::default(),
            patience: None,
        };
        let key = self.transactions.insert(txn);
        self.servers.insert(fingerprint, key);
        if let Some(merge) = merge {
            self.merges.insert(merge, key);
        }
        key
    }

    /// Begins a client transaction and sends its request.
    pub(super) fn add_client(
        &mut self,
        now: Instant,
        purpose: Option<(Key, Purpose)>,
        (branch, method): (&str, &str),
        (mut to, local): (Destination, SocketAddr),
        mut bytes: Bytes,
    ) -> Key {
        let mut by_udp = None;
        if to.transport == Transport::Udp && to.flow.is_none() && bytes.len() > self.config.largest_datagram {
            let by_tcp = over_tcp(&bytes);
            by_udp = Some(std::mem::replace(&mut bytes, by_tcp));
            to.transport = Transport::Tcp;
        }
        let kind = if method == "INVITE" { Kind::ClientInvite } else { Kind::Client };
        let fingerprint = self.client_fingerprint(branch, method);
        let txn = Txn {
            machine: Transaction::new(kind, to.transport.is_reliable()),
            to,
            local,
            owner: purpose,
            fingerprint,
            merge: None,
            by_udp,
            tried: Tried::default(),
            patience: None,
        };
        let key = self.transactions.insert(txn);
        self.clients.insert(fingerprint, key);
        let effects = self.step(now, key, Input::Start, Some(bytes));
        self.settle(now, key, effects);
        key
    }

    /// Where credentials were tried by the time of this repeat.
    pub(super) fn note_tried(&mut self, key: Key, tried: Tried) {
        if let Some(txn) = self.transactions.get_mut(key) {
            txn.tried = tried;
        }
    }

    /// Ends a client transaction that has had no response within this long.
    pub(super) fn limit(&mut self, now: Instant, key: Key, patience: Option<Duration>) {
        let Some(within) = patience else { return };
        if let Some(txn) = self.transactions.get_mut(key) {
            txn.patience = patience;
            txn.machine.limit(now, within);
        }
        self.settle(now, key, Effects::default());
    }

    /// Walks one step of a transaction and sends what it says. [`settle`](Self::settle) is to follow, once the effects
    /// are dealt with.
    pub(super) fn step(&mut self, now: Instant, key: Key, input: Input, bytes: Option<Bytes>) -> Effects {
        let Some(txn) = self.transactions.get_mut(key) else {
            return Effects::default();
        };
        let effects = txn.machine.step(now, &self.config.timings, input, bytes.clone());
        let sent = if effects.send {
            bytes
        } else if effects.resend {
            self.stats.repeats_sent += 1;
            txn.machine.kept.clone()
        } else {
            None
        };
        if let Some(bytes) = sent {
            let to = txn.to.clone();
            self.send(SendId(key.to_u64()), to, bytes);
        }
        effects
    }

    /// Puts a transaction's timers on the wheel, or drops it if it is over.
    pub(super) fn settle(&mut self, now: Instant, key: Key, effects: Effects) {
        if effects.terminated {
            self.drop_transaction(key);
        } else if let Some(txn) = self.transactions.get_mut(key) {
            txn.machine.timers.enqueue(&mut self.wheel, now, key.to_u64());
        }
    }

    /// Gives a server transaction its user's response.
    pub(super) fn respond(&mut self, now: Instant, key: Key, code: u16, bytes: Bytes) {
        let effects = self.step(now, key, Input::response(code), Some(bytes));
        self.settle(now, key, effects);
    }

    pub(super) fn drop_transaction(&mut self, key: Key) {
        let Some(txn) = self.transactions.remove(key) else { return };
        let is_server = matches!(txn.machine.kind(), Kind::Server | Kind::ServerInvite);
        let map = if is_server { &mut self.servers } else { &mut self.clients };
        if map.get(&txn.fingerprint) == Some(&key) {
            map.remove(&txn.fingerprint);
        }
        if let Some(merge) = txn.merge.filter(|merge| self.merges.get(merge) == Some(&key)) {
            self.merges.remove(&merge);
        }
        for map in [&mut self.servers, &mut self.clients, &mut self.merges] {
            let wide = map.len() * SHRINK_BELOW;
            if map.capacity() > SMALL_MAP && wide < map.capacity() {
                map.shrink_to(wide / 2);
            }
        }
    }

    pub(super) fn transaction_due(&mut self, now: Instant, key: Key) {
        let Some(txn) = self.transactions.get_mut(key) else { return };
        if !txn.machine.timers.dequeue(now) {
            return;
        }
        while let Some(timer) = self.transactions.get_mut(key).and_then(|txn| txn.machine.take_due(now)) {
            self.transaction_event(now, key, Input::Fired(timer));
        }
        if let Some(txn) = self.transactions.get_mut(key) {
            txn.machine.timers.enqueue(&mut self.wheel, now, key.to_u64());
        }
    }

    pub(super) fn transaction_unreachable(&mut self, now: Instant, key: Key) {
        if self.falls_back(now, key) {
            return;
        }
        self.transaction_event(now, key, Input::Unreachable);
    }

    /// Sends by UDP what went by TCP only because it is long (section 18.1.1); whether it did.
    fn falls_back(&mut self, now: Instant, key: Key) -> bool {
        let Some(txn) = self.transactions.get_mut(key) else { return false };
        if !matches!(txn.machine.state(), State::Calling | State::Trying) {
            return false;
        }
        let Some(bytes) = txn.by_udp.take() else { return false };
        txn.to.transport = Transport::Udp;
        txn.machine = Transaction::new(txn.machine.kind(), false);
        let patience = txn.patience;
        let effects = self.step(now, key, Input::Start, Some(bytes));
        self.settle(now, key, effects);
        self.limit(now, key, patience);
        true
    }

    fn transaction_event(&mut self, now: Instant, key: Key, input: Input) {
        let effects = self.step(now, key, input, None);
        let failure = match effects {
            Effects { timed_out: true, .. } => Some(Failure::TimedOut),
            Effects { unreachable: true, .. } => Some(Failure::Unreachable),
            _ => None,
        };
        let owner = self.transactions.get(key).and_then(|txn| txn.owner);
        let is_client = self
            .transactions
            .get(key)
            .is_some_and(|txn| matches!(txn.machine.kind(), Kind::Client | Kind::ClientInvite));
        self.settle(now, key, effects);
        if let (Some(failure), Some((call, purpose)), true) = (failure, owner, is_client) {
            match purpose {
                Purpose::Request => self.outgoing_failed(call, failure),
                Purpose::Subscribe | Purpose::Notify => self.subscription_failed(now, call, purpose, failure),
                _ => self.request_failed(now, call, purpose, failure),
            }
        }
    }

    /// Sends the ACK to a failure, or sends it again (section 17.1.1.3). From now on it is what the transaction keeps.
    pub(super) fn acknowledge_failure(&mut self, key: Key, first: bool, response: &Message) {
        let Some(txn) = self.transactions.get_mut(key) else { return };
        if first {
            let to = response.header(Name::To).unwrap_or("");
            let ack = txn.machine.kept.as_deref().and_then(|invite| own::ack(invite, to));
            txn.machine.kept = ack.map(Bytes::from);
        } else {
            self.stats.repeats_sent += 1;
        }
        let Some(ack) = txn.machine.kept.clone() else { return };
        let to = txn.to.clone();
        self.send(SendId(key.to_u64()), to, ack);
    }

    /// The state of a transaction.
    pub(super) fn state(&self, key: Key) -> Option<State> {
        self.transactions.get(key).map(|txn| txn.machine.state())
    }
}

/// The same request with TCP in its first Via, which is the first header of all that we write.
fn over_tcp(bytes: &[u8]) -> Bytes {
    const UDP: &[u8] = b"SIP/2.0/UDP";
    let mut out = bytes.to_vec();
    let at = bytes.windows(UDP.len()).position(|window| window == UDP);
    if let Some(place) = at.and_then(|at| out.get_mut(at..at + UDP.len())) {
        place.copy_from_slice(b"SIP/2.0/TCP");
    }
    out.into()
}
