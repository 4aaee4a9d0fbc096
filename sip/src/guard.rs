//! Who is listened to on the open network: bounds on what one source, and all together, may ask, and silence for those
//! who only look for numbers and passwords.
//!
//! A [`Guard`] is asked before a request reaches the endpoint. Requests inside calls and responses are always taken, so that
//! calls in progress go on whatever knocks at the door; trusted networks (trunks, as a rule) are never held back. A source that
//! fails too often, by wrong passwords or by numbers that do not exist, or that names itself as a known scanner, is not answered
//! for some time: an answer, even a refusal, would tell it that somebody is there.
//!
//! Nothing here reads a clock or a socket. The table of sources is bounded ([`GuardLimits::sources`]); an IPv6 source is its
//! /64, since whoever has one address there has them all.

mod bucket;

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, Ipv6Addr};
use std::time::{Duration, Instant};

use self::bucket::Bucket;
use crate::headers::Name;
use crate::message::Message;
use crate::method::Method;

/// What User-Agent headers of scanners begin with or contain, in lower case.
const SCANNERS: [&str; 12] = [
    "friendly-scanner",
    "friendly-request",
    "sipvicious",
    "sipcli",
    "sip-scan",
    "sipsak",
    "sundayddr",
    "iwar",
    "vaxsipuseragent",
    "pplsip",
    "smap",
    "siparmyknife",
];

/// So many allowances, refilled at a steady rate.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Rate {
    /// Allowances a second.
    pub per_second: f32,
    /// How many may be used at once after a pause.
    pub burst: f32,
}

impl Rate {
    /// A rate that nothing reaches.
    pub const UNLIMITED: Rate = Rate { per_second: f32::INFINITY, burst: f32::INFINITY };
}

/// Bounds; what happens at each stands beside it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct GuardLimits {
    /// Requests outside of calls from one source. Beyond: not answered.
    pub requests: Rate,
    /// INVITEs outside of calls from one source. Beyond: 503 with Retry-After.
    pub invites: Rate,
    /// Requests outside of calls from all untrusted sources. Beyond: not answered.
    pub all_requests: Rate,
    /// INVITEs outside of calls from all untrusted sources. Beyond: 503 with Retry-After.
    pub all_invites: Rate,
    /// Failures (wrong passwords, unknown numbers) of one source within [`failure_window`](Self::failure_window). Beyond: the
    /// source is not answered for [`silence`](Self::silence).
    pub failures: u32,
    /// How long a failure counts.
    pub failure_window: Duration,
    /// How long a source is not answered.
    pub silence: Duration,
    /// Sources remembered. Beyond: the one that came first is forgotten; a silenced one only after all others.
    pub sources: usize,
    /// Whether requests of known scanners are dropped.
    pub drop_scanners: bool,
}

impl Default for GuardLimits {
    fn default() -> Self {
        Self {
            requests: Rate { per_second: 100.0, burst: 400.0 },
            invites: Rate { per_second: 50.0, burst: 200.0 },
            all_requests: Rate { per_second: 5_000.0, burst: 10_000.0 },
            all_invites: Rate { per_second: 2_000.0, burst: 4_000.0 },
            failures: 20,
            failure_window: Duration::from_secs(60),
            silence: Duration::from_secs(300),
            sources: 65_536,
            drop_scanners: true,
        }
    }
}

/// What becomes of a message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Admit {
    /// It goes on to the endpoint.
    Take,
    /// It is dropped without an answer.
    Drop(Why),
    /// It is refused with 503 and this Retry-After, in seconds.
    Busy {
        /// Seconds after which another try makes sense.
        retry_after_s: u32,
    },
}

/// Why a message is dropped.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Why {
    /// The source failed too often.
    Silenced,
    /// It says itself that it is a scanner.
    Scanner,
    /// More requests than one source may send.
    SourceRate,
    /// More requests than all sources may send.
    TotalRate,
}

/// How a source failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Failure {
    /// Credentials that were wrong; a first request without any is none.
    Credentials,
    /// A number or user that does not exist here, or one that may not be called from there.
    Number,
}

/// Counters since the start, and what is held now.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct GuardStats {
    /// Sources remembered now.
    pub sources: usize,
    /// Sources silenced now or not yet found to be free again.
    pub silenced: usize,
    /// Messages dropped because their source was silenced.
    pub dropped_silenced: u64,
    /// Messages of scanners dropped.
    pub dropped_scanners: u64,
    /// Messages dropped for a rate.
    pub dropped_rate: u64,
    /// INVITEs refused with 503.
    pub refused_busy: u64,
}

#[derive(Debug)]
struct SourceState {
    requests: Bucket,
    invites: Bucket,
    failures: Bucket,
    silent_until: Option<Instant>,
}

/// Decides what is listened to.
#[derive(Debug)]
pub struct Guard {
    limits: GuardLimits,
    sources: HashMap<IpAddr, SourceState>,
    order: VecDeque<IpAddr>,
    all_requests: Bucket,
    all_invites: Bucket,
    stats: GuardStats,
}

impl Guard {
    /// A guard that has seen nobody yet.
    #[must_use]
    pub fn new(limits: GuardLimits, now: Instant) -> Self {
        Self {
            limits,
            sources: HashMap::new(),
            order: VecDeque::new(),
            all_requests: Bucket::full(limits.all_requests, now),
            all_invites: Bucket::full(limits.all_invites, now),
            stats: GuardStats::default(),
        }
    }

    /// Whether anything at all from this address is to be read. Cheap: for use before a datagram is parsed.
    ///
    /// A silenced source may be in a call: what comes from it is read as long as `has_calls` says that there are any.
    pub fn listens_to(&mut self, now: Instant, source: IpAddr, has_calls: bool) -> bool {
        has_calls || !self.is_silenced(now, key(source))
    }

    /// Decides about one message. `is_trusted`: from a network that is exempt.
    pub fn admit(&mut self, now: Instant, source: IpAddr, is_trusted: bool, message: &Message) -> Admit {
        let Some(method) = message.method() else { return Admit::Take };
        // ACK and CANCEL belong to an INVITE that was taken, and cost no state where they do not.
        let inside = matches!(method, Method::Ack | Method::Cancel) || has_to_tag(message);
        if is_trusted || inside {
            return Admit::Take;
        }
        let source = key(source);
        if self.is_silenced(now, source) {
            self.stats.dropped_silenced += 1;
            return Admit::Drop(Why::Silenced);
        }
        if self.limits.drop_scanners && is_scanner(message) {
            self.stats.dropped_scanners += 1;
            return Admit::Drop(Why::Scanner);
        }
        self.admit_by_rate(now, source, *method == Method::Invite)
    }

    fn admit_by_rate(&mut self, now: Instant, source: IpAddr, is_invite: bool) -> Admit {
        let limits = self.limits;
        let state = self.state(now, source);
        if !state.requests.take(limits.requests, now) {
            self.stats.dropped_rate += 1;
            return Admit::Drop(Why::SourceRate);
        }
        let of_source = !is_invite || state.invites.take(limits.invites, now);
        if !self.all_requests.take(limits.all_requests, now) {
            self.stats.dropped_rate += 1;
            return Admit::Drop(Why::TotalRate);
        }
        if of_source && (!is_invite || self.all_invites.take(limits.all_invites, now)) {
            return Admit::Take;
        }
        self.stats.refused_busy += 1;
        Admit::Busy { retry_after_s: 5 }
    }

    /// A source failed. Answers whether it is silenced from now on.
    pub fn failed(&mut self, now: Instant, source: IpAddr, failure: Failure) -> bool {
        let limits = self.limits;
        // Kinds are counted together: a scan for numbers and one for passwords follow each other.
        let _ = failure;
        let rate = failures(&limits);
        let state = self.state(now, key(source));
        if state.failures.take(rate, now) {
            return false;
        }
        state.silent_until = Some(now + limits.silence);
        true
    }

    /// A source proved who it is: its failures are forgotten.
    pub fn succeeded(&mut self, now: Instant, source: IpAddr) {
        let rate = failures(&self.limits);
        if let Some(state) = self.sources.get_mut(&key(source)) {
            state.failures = Bucket::full(rate, now);
            state.silent_until = None;
        }
    }

    /// What it holds and has done.
    #[must_use]
    pub fn stats(&self) -> GuardStats {
        let silenced = self.sources.values().filter(|state| state.silent_until.is_some()).count();
        GuardStats { sources: self.sources.len(), silenced, ..self.stats }
    }

    fn is_silenced(&mut self, now: Instant, source: IpAddr) -> bool {
        let rate = failures(&self.limits);
        let Some(state) = self.sources.get_mut(&source) else { return false };
        match state.silent_until {
            None => false,
            Some(until) if now < until => true,
            Some(_) => {
                state.silent_until = None;
                state.failures = Bucket::full(rate, now);
                false
            }
        }
    }

    fn state(&mut self, now: Instant, source: IpAddr) -> &mut SourceState {
        if !self.sources.contains_key(&source) {
            while self.sources.len() >= self.limits.sources.max(1) {
                self.forget_one(now);
            }
            self.order.push_back(source);
        }
        let limits = &self.limits;
        self.sources.entry(source).or_insert_with(|| SourceState {
            requests: Bucket::full(limits.requests, now),
            invites: Bucket::full(limits.invites, now),
            failures: Bucket::full(failures(limits), now),
            silent_until: None,
        })
    }

    /// Forgets the source that came first; a silenced one gets another round, as long as others are there.
    fn forget_one(&mut self, now: Instant) {
        for _ in 0..8 {
            let Some(oldest) = self.order.pop_front() else { return };
            let silenced =
                self.sources.get(&oldest).and_then(|state| state.silent_until).is_some_and(|until| now < until);
            if !silenced {
                self.sources.remove(&oldest);
                return;
            }
            self.order.push_back(oldest);
        }
        if let Some(oldest) = self.order.pop_front() {
            self.sources.remove(&oldest);
        }
    }
}

/// The failures allowed, as a bucket that fills again over the window.
fn failures(limits: &GuardLimits) -> Rate {
    let burst = limits.failures as f32;
    Rate { per_second: burst / limits.failure_window.as_secs_f32().max(0.001), burst }
}

/// What a source is known by.
fn key(source: IpAddr) -> IpAddr {
    match source.to_canonical() {
        IpAddr::V6(ip) => {
            let [a, b, c, d, ..] = ip.segments();
            IpAddr::V6(Ipv6Addr::new(a, b, c, d, 0, 0, 0, 0))
        }
        ip => ip,
    }
}

fn has_to_tag(message: &Message) -> bool {
    message.header(Name::To).and_then(crate::endpoint::tag_of).is_some()
}

fn is_scanner(message: &Message) -> bool {
    let Some(agent) = message.header(Name::UserAgent) else { return false };
    let agent = agent.to_ascii_lowercase();
    SCANNERS.iter().any(|scanner| agent.contains(scanner))
}
