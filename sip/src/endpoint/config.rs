//! What an endpoint is told at its start.

use std::time::Duration;

use crate::method::Method;
use crate::timer::Timings;

/// How an endpoint behaves. The default suits a server on the open network.
#[derive(Debug, Clone)]
pub struct EndpointConfig {
    /// For the Server and User-Agent headers; empty leaves them out.
    pub user_agent: String,
    /// A request of ours that would be longer goes by TCP instead of UDP, and by UDP all the same where there is no TCP (RFC 3261
    /// section 18.1.1). Peers that are called by the socket that they registered from always get UDP.
    pub largest_datagram: usize,
    /// The timers' base spans.
    pub timings: Timings,
    /// The bounds on everything that peers can make grow.
    pub limits: EndpointLimits,
    /// An INVITE that nothing was answered to after this long gets 100: RFC 3261 section 17.2.1 has 200 ms at most, before which a caller
    /// repeats nothing. Zero answers at once.
    pub trying_after: Duration,
    /// How long a call may ring, in either direction, before it ends by itself.
    pub ring_limit: Duration,
    /// A call that neither side refreshes for this long is over (RFC 4028); zero asks for no such thing, though a peer's wish is honoured.
    pub session_interval: Duration,
    /// A peer that wants a shorter interval gets 422; at least 90 s (RFC 4028 section 4).
    pub shortest_session: Duration,
    /// Extensions that a caller must support (option tags), else it gets 421. Empty as a rule (RFC 3261 section 8.2.4
    /// advises against).
    pub required_extensions: Vec<String>,
    /// Body types that INFO requests may carry, besides none.
    pub info_types: Vec<String>,
    /// Methods of requests outside of calls that the user answers ([`Event::Request`](super::Event::Request)): REGISTER,
    /// MESSAGE, OPTIONS. Others are answered by the endpoint itself: OPTIONS with 200, the rest with 405 or 501. What
    /// belongs to calls (INVITE, ACK, BYE, CANCEL) is none of them.
    pub user_methods: Vec<Method>,
    /// Whether REFER inside calls is told to the user ([`Event::Refer`](super::Event::Refer)). Otherwise it gets 405.
    pub referrals: bool,
    /// Event packages that peers may subscribe to, in lower case ([`Event::Subscribed`](super::Event::Subscribed)). With
    /// none, SUBSCRIBE gets 405.
    pub event_packages: Vec<String>,
    /// A subscription of a peer for less than this, other than zero, gets 423. At most an hour (RFC 6665 section 4.2.1.1).
    pub shortest_subscription: Duration,
}

impl Default for EndpointConfig {
    fn default() -> Self {
        Self {
            user_agent: format!("Omnivox/{}", env!("CARGO_PKG_VERSION")),
            largest_datagram: 1_300,
            timings: Timings::default(),
            limits: EndpointLimits::default(),
            trying_after: Duration::ZERO,
            ring_limit: Duration::from_secs(180),
            session_interval: Duration::from_secs(1_800),
            shortest_session: Duration::from_secs(90),
            required_extensions: Vec::new(),
            info_types: vec!["application/dtmf-relay".into(), "application/dtmf".into()],
            user_methods: Vec::new(),
            referrals: false,
            event_packages: Vec::new(),
            shortest_subscription: Duration::from_secs(60),
        }
    }
}

/// Named bounds; what happens at each stands beside it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EndpointLimits {
    /// Calls at once, both directions. Beyond: an INVITE gets 503 with Retry-After; `invite` fails.
    pub calls: usize,
    /// Transactions at once. Beyond: a request outside of a call gets 503 with Retry-After, without a transaction.
    pub transactions: usize,
    /// Transactions above `transactions` that are kept free for requests inside calls (BYE, above all). Beyond these too:
    /// 503 without a transaction.
    pub transactions_reserved: usize,
    /// Route and Record-Route entries kept for a dialog. Beyond: 400 (a request) or the call ends (a response).
    pub routes: usize,
    /// Forks of an INVITE of ours that are told apart. Beyond: provisional responses are ignored, a 2xx is acknowledged
    /// and hung up.
    pub forks: usize,
    /// INFO and MESSAGE requests of ours in a call that wait for their answers. Beyond: the command fails.
    pub infos_per_call: usize,
    /// Requests outside of calls that wait for their answer, in each direction. Beyond: a peer's gets 503 with Retry-After,
    /// without a transaction; `request` fails.
    pub requests: usize,
    /// Subscriptions at once, the peers' and ours together, with the referrals that outlive their calls. Beyond: SUBSCRIBE
    /// gets 503 with Retry-After, `subscribe` fails, and a referral ends with its call.
    pub subscriptions: usize,
    /// The `Retry-After` beside 503, in seconds.
    pub retry_after_s: u32,
}

impl Default for EndpointLimits {
    fn default() -> Self {
        Self {
            calls: 20_000,
            transactions: 200_000,
            transactions_reserved: 50_000,
            routes: 32,
            forks: 16,
            infos_per_call: 16,
            requests: 20_000,
            subscriptions: 20_000,
            retry_after_s: 5,
        }
    }
}
