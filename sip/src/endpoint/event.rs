//! What goes into an endpoint and what comes out: sources, outputs, events.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;

use crate::headers::{Replaces, SubscriptionState, TerminatedReason};
use crate::message::Message;

/// How a message travels.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Transport {
    /// RFC 3261 section 18, unreliable.
    Udp,
    /// RFC 3261 section 18.
    Tcp,
    /// RFC 3261 section 26.2.
    Tls,
    /// RFC 7118 without TLS.
    Ws,
    /// RFC 7118 over TLS.
    Wss,
}

impl Transport {
    /// Whether the transport repeats what is lost, so that transactions need not.
    pub fn is_reliable(self) -> bool {
        self != Transport::Udp
    }

    /// The name in a Via header.
    pub fn via_name(self) -> &'static str {
        match self {
            Transport::Udp => "UDP",
            Transport::Tcp => "TCP",
            Transport::Tls => "TLS",
            Transport::Ws => "WS",
            Transport::Wss => "WSS",
        }
    }

    /// The name in a URI's `transport` parameter and in configuration.
    pub fn uri_name(self) -> &'static str {
        match self {
            Transport::Udp => "udp",
            Transport::Tcp => "tcp",
            Transport::Tls => "tls",
            Transport::Ws => "ws",
            Transport::Wss => "wss",
        }
    }

    /// The transport of that name, in any case.
    pub fn parse(name: &str) -> Option<Self> {
        [Transport::Udp, Transport::Tcp, Transport::Tls, Transport::Ws, Transport::Wss]
            .into_iter()
            .find(|transport| name.eq_ignore_ascii_case(transport.uri_name()))
    }

    /// The port where none is given (RFC 3261 section 19.1.2, RFC 7118 section 5.2).
    pub fn default_port(self) -> u16 {
        match self {
            Transport::Udp | Transport::Tcp => 5060,
            Transport::Tls => 5061,
            Transport::Ws => 80,
            Transport::Wss => 443,
        }
    }
}

impl fmt::Display for Transport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.uri_name())
    }
}

/// A socket or connection of the transport layer: whoever carries messages numbers them, and never twice the same.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct FlowId(pub u64);

/// Where a message came from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Source {
    /// How it came.
    pub transport: Transport,
    /// The sender's address, as the socket saw it.
    pub remote: SocketAddr,
    /// Our address, as the sender would have to write it; not a wildcard if that can be helped.
    pub local: SocketAddr,
    /// The socket or connection it came by.
    pub flow: FlowId,
}

/// Where to send a message.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// This address.
    Address(SocketAddr),
    /// This host, to be looked up first.
    Host {
        /// Its name.
        name: Arc<str>,
        /// The port; without one the domain's records say which.
        port: Option<u16>,
    },
    /// This address, found by that name: certificates are checked against the name.
    Named {
        /// The host name.
        name: Arc<str>,
        /// Its address.
        address: SocketAddr,
    },
}

impl Target {
    /// The address, where it is known.
    pub fn address(&self) -> Option<SocketAddr> {
        match self {
            Target::Address(address) | Target::Named { address, .. } => Some(*address),
            Target::Host { .. } => None,
        }
    }
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Target::Address(address) => address.fmt(f),
            Target::Host { name, port: Some(port) } => write!(f, "{name}:{port}"),
            Target::Host { name, port: None } => f.write_str(name),
            Target::Named { name, address } => write!(f, "{name} ({address})"),
        }
    }
}

/// A way to a peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Destination {
    /// How.
    pub transport: Transport,
    /// By this socket or connection, while it lives.
    pub flow: Option<FlowId>,
    /// To this peer; over a reliable transport used when there is no flow, or no longer.
    pub target: Target,
}

/// What to report with, should sending fail.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct SendId(pub(crate) u64);

impl SendId {
    /// A message whose failure nobody needs to hear of.
    pub(crate) const NONE: SendId = SendId(0);
}

/// What an endpoint wants done.
#[derive(Debug)]
pub enum Output {
    /// Send this message. Where that fails, say so by [`Endpoint::send_failed`](super::Endpoint::send_failed).
    Send {
        /// Names the message.
        id: SendId,
        /// Where to.
        to: Destination,
        /// One whole message.
        bytes: Bytes,
    },
    /// Tell the user.
    Event(Event),
}

/// A call as this endpoint's user knows it: from the INVITE, in either direction, to its `Ended`. Never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct CallId(pub u64);

impl fmt::Display for CallId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}", self.0)
    }
}

/// A request outside of calls as this endpoint's user knows it, received or sent, until it is answered. Never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct RequestId(pub u64);

impl fmt::Display for RequestId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}", self.0)
    }
}

/// A subscription as this endpoint's user knows it, a peer's or ours, until it is over. Never reused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SubscriptionId(pub u64);

impl fmt::Display for SubscriptionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:x}", self.0)
    }
}

/// Why a subscription is over.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum SubscriptionEnd {
    /// The subscriber gave it up.
    Unsubscribed,
    /// It was not refreshed in time.
    Expired,
    /// The notifier refused our SUBSCRIBE with this code; 408 where nobody answered, 503 where it could not be sent.
    Refused(u16),
    /// The notifier ended ours.
    Terminated {
        /// Why, and whether to come back.
        reason: TerminatedReason,
        /// Not before this.
        retry_after: Option<Duration>,
    },
    /// The peer does not know it any more, or cannot be reached.
    Gone,
    /// The notifier said yes, and nothing after that.
    NoNotify,
}

/// The call that a new one is to take the place of (RFC 3891).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ReplacesTarget {
    /// That call: to be hung up once the new one is answered.
    pub call: CallId,
    /// Only a call that was not answered yet might be replaced. The endpoint has seen to it.
    pub early_only: bool,
}

/// What happens to calls, and outside of them.
///
/// Each call's events begin with `Incoming` (or with the command that placed the call), and end with exactly one
/// `Ended`, after which the call's id means nothing.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub enum Event {
    /// Somebody calls. 100 is sent already; ring, answer or reject.
    Incoming {
        /// The new call.
        call: CallId,
        /// The INVITE.
        request: Arc<Message>,
        /// The From header's URI.
        from_uri: String,
        /// The To header's URI.
        to_uri: String,
        /// The Request-URI: who is called.
        request_uri: String,
        /// Where it came from.
        source: Source,
        /// The caller's SDP; `None` wants ours in the answer (a late offer).
        offer: Option<Bytes>,
        /// The call that this one is to replace. Whether the caller may do so is the user's to decide.
        replaces: Option<ReplacesTarget>,
    },
    /// The caller gave up before an answer. `Ended` follows.
    Cancelled {
        /// The call.
        call: CallId,
    },
    /// A 2xx of ours (to the first INVITE or to a later one) was acknowledged: the call stands.
    Acked {
        /// The call.
        call: CallId,
        /// SDP in the ACK, where our 2xx held the offer.
        answer: Option<Bytes>,
    },
    /// A provisional response other than 100 to our INVITE.
    Progress {
        /// The call.
        call: CallId,
        /// 101 to 199.
        code: u16,
        /// SDP, for early media.
        answer: Option<Bytes>,
    },
    /// Our INVITE was answered; ACK is sent already.
    Answered {
        /// The call.
        call: CallId,
        /// 200 to 299.
        code: u16,
        /// The answer to our offer.
        answer: Option<Bytes>,
        /// The response.
        response: Arc<Message>,
    },
    /// Our INVITE was refused or redirected. `Ended` follows.
    Rejected {
        /// The call.
        call: CallId,
        /// 300 to 699.
        code: u16,
        /// The reason phrase.
        reason: String,
        /// The response; after 3xx its Contact headers say where else to try.
        response: Arc<Message>,
    },
    /// The peer wants to change the session: reply by `answer_reoffer` or `reject_reoffer`.
    Reoffer {
        /// The call.
        call: CallId,
        /// The peer's SDP; `None` wants ours.
        offer: Option<Bytes>,
    },
    /// What became of our `reoffer`; or, unasked, the answer to a refresh (RFC 4028) that says something else than what the peer
    /// described last.
    ReofferResult {
        /// The call.
        call: CallId,
        /// 200 to 699; 408 where nobody answered; 491 where the session changed while ours waited for another try after glare.
        code: u16,
        /// The answer, with 2xx.
        answer: Option<Bytes>,
    },
    /// An INFO in the call, answered 200 already (RFC 6086): DTMF, for one.
    Info {
        /// The call.
        call: CallId,
        /// The Content-Type, in lower case, without parameters; empty where there was none.
        content_type: String,
        /// The body.
        body: Bytes,
    },
    /// What became of our `send_info`.
    InfoResult {
        /// The call.
        call: CallId,
        /// 200 to 699; 408 where nobody answered.
        code: u16,
    },
    /// A MESSAGE in the call (RFC 3428), answered 200 already. Only where MESSAGE is one of
    /// [`EndpointConfig::user_methods`](super::EndpointConfig::user_methods).
    Message {
        /// The call.
        call: CallId,
        /// The Content-Type, in lower case, without parameters; empty where there was none.
        content_type: String,
        /// The body.
        body: Bytes,
    },
    /// The peer says in an UPDATE or re-INVITE who is there now (RFC 4916): its From is another, or it asserts somebody (RFC 3325). Whether it
    /// is to be believed is the user's to know.
    Identified {
        /// The call.
        call: CallId,
        /// The request.
        message: Arc<Message>,
    },
    /// What became of our `send_message`.
    MessageResult {
        /// The call.
        call: CallId,
        /// 200 to 699; 408 where nobody answered.
        code: u16,
    },
    /// The peer wants us to call somebody (REFER, RFC 3515): reply by `accept_refer` or `reject_refer`; 500 goes out where
    /// that does not come in time.
    Refer {
        /// The call.
        call: CallId,
        /// Whom to call: the Refer-To URI without its header part; `tel:` and other schemes as they came.
        refer_to: String,
        /// The header part, unescaped, without Replaces: what the peer wants the new request to carry.
        headers: Vec<(String, String)>,
        /// The dialog that the new call is to replace: an attended transfer.
        replaces: Option<Replaces>,
        /// The call of ours that this names, where it is one.
        target: Option<CallId>,
        /// The Referred-By value (RFC 3892), for the new request to carry on.
        referred_by: Option<String>,
        /// The REFER.
        message: Arc<Message>,
    },
    /// The peer's answer to our `refer`.
    ReferResult {
        /// The call.
        call: CallId,
        /// 200 to 699; 408 where nobody answered.
        code: u16,
    },
    /// The peer reports how the call that we asked for goes.
    ReferProgress {
        /// The call on which we asked.
        call: CallId,
        /// That call's status: 100 to 699; 408 where the reports broke off.
        code: u16,
        /// Nothing follows.
        is_final: bool,
    },
    /// The call is over.
    Ended {
        /// The call.
        call: CallId,
        /// Why.
        cause: EndCause,
        /// Why, as the peer says with its BYE, CANCEL or refusal: the values of its Reason headers (RFC 3326, RFC 6432) with
        /// commas between them, for [`Reason::all`](crate::headers::Reason::all).
        reason_header: Option<String>,
    },
    /// A request outside of calls, of one of the methods that the user takes
    /// ([`EndpointConfig::user_methods`](super::EndpointConfig::user_methods)): reply by `respond`. Where that does not
    /// come in time, the endpoint answers 500 by itself.
    Request {
        /// The request.
        request: RequestId,
        /// Itself.
        message: Arc<Message>,
        /// Where it came from.
        source: Source,
    },
    /// The final answer to a request of ours outside of calls.
    Response {
        /// The request.
        request: RequestId,
        /// 200 to 699; 408 where nobody answered, 503 where it could not be sent.
        code: u16,
        /// The response, where there was one.
        response: Option<Arc<Message>>,
    },
    /// A peer wants to be told of events: reply by `accept_subscription` or `reject_subscription`; 500 goes out where that
    /// does not come in time.
    Subscribed {
        /// The subscription.
        subscription: SubscriptionId,
        /// The event package, in lower case.
        package: String,
        /// For how long; zero wants the present state only.
        expires: Duration,
        /// The SUBSCRIBE: its Request-URI says whose events.
        request: Arc<Message>,
        /// Where it came from.
        source: Source,
    },
    /// An event that we subscribed to, answered 200 already.
    Notified {
        /// The subscription.
        subscription: SubscriptionId,
        /// Where the subscription stands.
        state: SubscriptionState,
        /// The Content-Type, in lower case, without parameters; empty where there was none.
        content_type: String,
        /// The body.
        body: Bytes,
    },
    /// A subscription, a peer's or ours, is over.
    SubscriptionEnded {
        /// The subscription.
        subscription: SubscriptionId,
        /// Why.
        end: SubscriptionEnd,
    },
    /// A connection is closed: what is reached by its flow alone (a registration behind a NAT, RFC 5626) is not reached
    /// any more. Told for connections of ours, and for those of peers that sent at least one message.
    FlowClosed {
        /// Its number, as in [`Source::flow`].
        flow: FlowId,
    },
}

impl Event {
    /// The call that the event is about, where it is about one.
    pub fn call(&self) -> Option<CallId> {
        match self {
            Event::Incoming { call, .. }
            | Event::Cancelled { call }
            | Event::Acked { call, .. }
            | Event::Progress { call, .. }
            | Event::Answered { call, .. }
            | Event::Rejected { call, .. }
            | Event::Reoffer { call, .. }
            | Event::ReofferResult { call, .. }
            | Event::Info { call, .. }
            | Event::InfoResult { call, .. }
            | Event::Message { call, .. }
            | Event::MessageResult { call, .. }
            | Event::Identified { call, .. }
            | Event::Refer { call, .. }
            | Event::ReferResult { call, .. }
            | Event::ReferProgress { call, .. }
            | Event::Ended { call, .. } => Some(*call),
            Event::Request { .. }
            | Event::Response { .. }
            | Event::Subscribed { .. }
            | Event::Notified { .. }
            | Event::SubscriptionEnded { .. }
            | Event::FlowClosed { .. } => None,
        }
    }
}

/// Why a call is over.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum EndCause {
    /// We hung up.
    LocalBye,
    /// The peer hung up.
    RemoteBye,
    /// Whoever placed the call gave it up before an answer.
    Cancelled,
    /// We refused the call with this code.
    Refused(u16),
    /// The peer refused our call with this code.
    Rejected(u16),
    /// Nobody answered: no response to our request, or the call rang for longer than is allowed.
    Timeout,
    /// Our answer was never acknowledged.
    NoAck,
    /// Nobody refreshed the session in time (RFC 4028).
    Expired,
    /// The peer says that the call does not exist any more (481 or 408 to a request inside it).
    Gone,
    /// A message could not be sent.
    TransportError,
    /// The peer's messages made no sense (a 2xx without a tag or Contact).
    ProtocolError,
}

impl fmt::Display for EndCause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            EndCause::LocalBye => f.write_str("hung up here"),
            EndCause::RemoteBye => f.write_str("hung up by the peer"),
            EndCause::Cancelled => f.write_str("given up before an answer"),
            EndCause::Refused(code) => write!(f, "refused with {code}"),
            EndCause::Rejected(code) => write!(f, "rejected by the peer with {code}"),
            EndCause::Timeout => f.write_str("no answer in time"),
            EndCause::NoAck => f.write_str("the answer was never acknowledged"),
            EndCause::Expired => f.write_str("the session was not refreshed in time"),
            EndCause::Gone => f.write_str("the peer does not know the call any more"),
            EndCause::TransportError => f.write_str("a message could not be sent"),
            EndCause::ProtocolError => f.write_str("the peer's answer made no sense"),
        }
    }
}
