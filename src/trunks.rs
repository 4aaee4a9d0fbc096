//! Carriers' trunks while the server runs: which calls are theirs, how many there are, which of their hosts answer, and whether we are
//! registered with them.

pub(crate) mod ask;
mod health;
mod register;

use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, OnceLock, PoisonError, RwLock};
use std::time::{Duration, Instant};

use control::fault::kept_running;
use sip::Message;
use sip::uri::user_of;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use self::ask::Asker;
use crate::call::dial::{BranchResult, Lease};
use crate::config::{Config, TrunkConfig, TrunkKind};

/// A host that did not answer is passed over for so long, where nobody asks it meanwhile whether it is back.
const DOWN_FOR: Duration = Duration::from_secs(30);

/// An address at which a host was not found for so long is not the carrier's any more: longer than from one registration to the next.
const FOUND_FOR: Duration = Duration::from_secs(86_400);
/// Addresses remembered of one trunk's hosts; beyond it those that were found longest ago are forgotten.
const FOUND_LIMIT: usize = 64;

/// All trunks.
#[derive(Debug, Default)]
pub(crate) struct Trunks {
    trunks: Vec<Arc<Trunk>>,
}

/// One of them.
#[derive(Debug)]
pub(crate) struct Trunk {
    pub(crate) config: TrunkConfig,
    /// Those of the trunk as it was before a change count too.
    calls: Arc<AtomicUsize>,
    rate: Mutex<Allowance>,
    hosts: Vec<Host>,
    /// Where its hosts were found lately, the latest last. Those that we register with call us from there.
    found: RwLock<Vec<(IpAddr, Instant)>>,
    epoch: Instant,
    /// What keeps it registered and its hosts asked after, once that runs.
    tasks: OnceLock<CancellationToken>,
}

/// One of a trunk's hosts.
#[derive(Debug)]
struct Host {
    /// Milliseconds since the epoch until which it is passed over; `u64::MAX` until it answers again.
    down_until_ms: AtomicU64,
}

/// New calls that may begin now.
#[derive(Debug)]
struct Allowance {
    left: f64,
    at: Instant,
}

/// A call's place within a trunk's limits, given back when it is dropped.
#[derive(Debug)]
struct Place(Arc<Trunk>);

impl Drop for Place {
    fn drop(&mut self) {
        self.0.show_calls(self.0.calls.fetch_sub(1, Ordering::Relaxed) - 1);
    }
}

impl Trunks {
    /// The trunks of the configuration, with no calls yet.
    pub(crate) fn new(config: &Config, now: Instant) -> Self {
        let trunk = |config| Arc::new(Trunk::new(config, now, Arc::default()));
        Self { trunks: config.trunks.iter().map(trunk).collect() }
    }

    /// The trunks of another configuration: those that are as they were stay, with what is known of them.
    pub(crate) fn renewed(&self, config: &Config, now: Instant) -> Self {
        let trunk = |config: &TrunkConfig| match self.named(&config.name) {
            Some(same) if same.config == *config => same,
            Some(other) => Arc::new(Trunk::new(config, now, Arc::clone(&other.calls))),
            None => Arc::new(Trunk::new(config, now, Arc::default())),
        };
        Self { trunks: config.trunks.iter().map(trunk).collect() }
    }

    /// Those that are not among these are registered with no more.
    pub(crate) fn stop_those_not_in(&self, others: &Self) {
        for trunk in self.trunks.iter().filter(|trunk| !others.trunks.iter().any(|other| Arc::ptr_eq(other, trunk))) {
            if let Some(tasks) = trunk.tasks.get() {
                tasks.cancel();
            }
        }
    }

    /// The trunk of that name.
    pub(crate) fn named(&self, name: &str) -> Option<Arc<Trunk>> {
        self.trunks.iter().find(|trunk| trunk.config.name == name).cloned()
    }

    /// The trunk that a request to this URI from there comes by: one whose network or certificate it has, else one that we register with there
    /// and that says nothing of who calls. Of several it is the one whose Contact is called (RFC 3261 section 10.3), else the one whose name
    /// is, as it stands in our Contact; else the first.
    pub(crate) fn of_source(&self, ip: IpAddr, certified: Option<&[String]>, called: &str) -> Option<Arc<Trunk>> {
        let is_named = |trunk: &TrunkConfig| {
            let names = certified.unwrap_or_default();
            trunk.tls_names.iter().any(|name| names.iter().any(|shown| shown.eq_ignore_ascii_case(name)))
        };
        let is_known = |trunk: &&Arc<Trunk>| {
            trunk.config.addresses.iter().any(|network| network.contains(ip)) || is_named(&trunk.config)
        };
        let (known, there): (Vec<_>, Vec<_>) =
            self.trunks.iter().filter(|trunk| is_known(trunk) || trunk.registers_at(ip)).partition(is_known);
        if known.len() + there.len() > 1 {
            let line = line_of(called);
            let is_its_line = |trunk: &&&Arc<Trunk>| line.as_deref().is_some_and(|line| trunk.has_line(line));
            if let Some(trunk) = known.iter().chain(&there).find(is_its_line) {
                return Some(Arc::clone(trunk));
            }
        }
        let candidates = if known.is_empty() { there } else { known };
        let user = user_of(called);
        let is_its_name = |trunk: &&&Arc<Trunk>| !user.is_empty() && trunk.config.username.eq_ignore_ascii_case(&user);
        candidates.iter().find(is_its_name).or(candidates.first()).map(|trunk| Arc::clone(trunk))
    }

    /// A trunk whose calls go there, though none comes from there: it says nothing of who calls.
    pub(crate) fn only_calls(&self, ip: IpAddr) -> Option<&str> {
        let only_calls = |trunk: &&Arc<Trunk>| trunk.is_found_at(ip) && !trunk.config.says_who_calls();
        self.trunks.iter().find(only_calls).map(|trunk| trunk.config.name.as_str())
    }

    /// Whether one of them registers with somebody there.
    pub(crate) fn any_registers_at(&self, ip: IpAddr) -> bool {
        self.trunks.iter().any(|trunk| trunk.registers_at(ip))
    }

    /// The trunk whose calls authenticate with this name.
    pub(crate) fn of_user(&self, user: &str) -> Option<Arc<Trunk>> {
        let is_its = |trunk: &&Arc<Trunk>| {
            !trunk.config.incoming_username.is_empty() && trunk.config.incoming_username.eq_ignore_ascii_case(user)
        };
        self.trunks.iter().find(is_its).cloned()
    }

    /// Registers with those that want it, and asks hosts whether they are there, until the server stops; nothing for those of which that
    /// runs already. What is to be waited for then: registrations are taken back.
    pub(crate) fn run(&self, asker: &Arc<Asker>, stop: &CancellationToken) -> Vec<JoinHandle<()>> {
        let mut farewells = Vec::new();
        for trunk in &self.trunks {
            let stop = stop.child_token();
            if trunk.tasks.set(stop.clone()).is_err() {
                continue;
            }
            if trunk.config.kind == TrunkKind::Register {
                let (trunk, asker, stop) = (Arc::clone(trunk), Arc::clone(asker), stop.clone());
                farewells.push(tokio::spawn(async move {
                    let keep = |stop| register::keep(Arc::clone(&trunk), Arc::clone(&asker), stop);
                    kept_running("a trunk's registration", &stop, keep).await;
                }));
            }
            if trunk.config.ping_s > 0 {
                for host in 0..trunk.hosts.len() {
                    let (trunk, asker, stop) = (Arc::clone(trunk), Arc::clone(asker), stop.clone());
                    tokio::spawn(async move {
                        let watch = |stop| health::watch(Arc::clone(&trunk), host, Arc::clone(&asker), stop);
                        kept_running("the pings of a trunk's host", &stop, watch).await;
                    });
                }
            }
        }
        farewells
    }
}

impl Trunk {
    fn new(config: &TrunkConfig, now: Instant, calls: Arc<AtomicUsize>) -> Self {
        Self {
            calls,
            rate: Mutex::new(Allowance { left: f64::from(config.max_calls_per_second), at: now }),
            hosts: config.hosts.iter().map(|_| Host { down_until_ms: AtomicU64::new(0) }).collect(),
            found: RwLock::default(),
            epoch: now,
            tasks: OnceLock::new(),
            config: config.clone(),
        }
    }

    /// A place for one more call, in either direction.
    ///
    /// # Errors
    /// The status that a call beyond a limit gets.
    pub(crate) fn admit(self: &Arc<Self>) -> Result<Lease, u16> {
        let config = &self.config;
        if !self.take_place() {
            metrics::counter!("omnivox_trunk_refused_total", "trunk" => config.name.clone(), "limit" => "calls")
                .increment(1);
            return Err(config.over_limit);
        }
        let place = Place(Arc::clone(self));
        if config.max_calls_per_second > 0 && !self.takes_one(Instant::now()) {
            metrics::counter!("omnivox_trunk_refused_total", "trunk" => config.name.clone(), "limit" => "rate")
                .increment(1);
            return Err(config.over_limit);
        }
        Ok(Arc::new(place))
    }

    /// The number that a request of its calls, as it says it: a carrier that we are registered with calls our account, and whom it is for, the
    /// To says.
    pub(crate) fn called(&self, request: &Message) -> String {
        let user = user_of(request.request_uri());
        if self.config.username.eq_ignore_ascii_case(&user) {
            return request.to().map(|to| user_of(to.uri_text)).unwrap_or(user);
        }
        user
    }

    /// Whether a host is thought to answer.
    pub(crate) fn is_up(&self, host: usize) -> bool {
        self.hosts.get(host).is_none_or(|host| host.down_until_ms.load(Ordering::Relaxed) <= self.now_ms())
    }

    /// A host was found there.
    fn found_at(&self, ip: IpAddr) {
        let (ip, now) = (ip.to_canonical(), Instant::now());
        let mut found = self.found.write().unwrap_or_else(PoisonError::into_inner);
        found.retain(|(other, at)| *other != ip && now.saturating_duration_since(*at) < FOUND_FOR);
        if found.len() >= FOUND_LIMIT {
            found.remove(0);
        }
        found.push((ip, now));
    }

    fn is_found_at(&self, ip: IpAddr) -> bool {
        let found = self.found.read().unwrap_or_else(PoisonError::into_inner);
        found.iter().any(|(other, at)| *other == ip && at.elapsed() < FOUND_FOR)
    }

    /// Whether this is what stands for it in our Contact.
    fn has_line(&self, line: &str) -> bool {
        self.config.kind == TrunkKind::Register && self.config.name.eq_ignore_ascii_case(line)
    }

    /// Whether we register with a host that is there, and its calls are known by nothing else.
    fn registers_at(&self, ip: IpAddr) -> bool {
        self.config.kind == TrunkKind::Register && !self.config.says_who_calls() && self.is_found_at(ip)
    }

    /// What became of a call by a host.
    pub(crate) fn note(&self, host: usize, result: BranchResult) {
        match result {
            BranchResult::Unreachable | BranchResult::Refused(503) => self.set_up(host, false),
            BranchResult::Answered | BranchResult::Refused(_) => self.set_up(host, true),
            BranchResult::NoAnswer | BranchResult::Cancelled => {}
        }
    }

    fn set_up(&self, at: usize, is_up: bool) {
        let Some(host) = self.hosts.get(at) else { return };
        let until = match (is_up, self.config.ping_s > 0) {
            (true, _) => 0,
            // Whoever asks says when it is back.
            (false, true) => u64::MAX,
            (false, false) => self.now_ms() + u64::try_from(DOWN_FOR.as_millis()).unwrap_or(u64::MAX),
        };
        let was_up = host.down_until_ms.swap(until, Ordering::Relaxed) <= self.now_ms();
        if was_up != is_up {
            let (name, uri) = (&self.config.name, self.config.hosts.get(at).map_or("", |host| &host.uri));
            if is_up {
                tracing::info!("trunk {name}: {uri} answers again");
            } else {
                tracing::warn!("trunk {name}: {uri} does not answer and is passed over");
            }
        }
        let label = self.config.hosts.get(at).map(|host| host.uri.clone()).unwrap_or_default();
        metrics::gauge!("omnivox_trunk_host_up", "trunk" => self.config.name.clone(), "host" => label)
            .set(f64::from(u8::from(is_up)));
    }

    fn takes_one(&self, now: Instant) -> bool {
        let most = f64::from(self.config.max_calls_per_second);
        let mut allowance = self.rate.lock().unwrap_or_else(PoisonError::into_inner);
        let since = now.saturating_duration_since(allowance.at).as_secs_f64();
        allowance.left = (allowance.left + since * most).min(most);
        allowance.at = now;
        if allowance.left < 1.0 {
            return false;
        }
        allowance.left -= 1.0;
        true
    }

    /// Takes one of the places, however many ask at once; false where there is none.
    fn take_place(&self) -> bool {
        let limit = if self.config.max_calls == 0 { usize::MAX } else { self.config.max_calls };
        let one_more = |calls: usize| (calls < limit).then(|| calls + 1);
        let taken = self.calls.fetch_update(Ordering::Relaxed, Ordering::Relaxed, one_more);
        taken.map(|before| self.show_calls(before + 1)).is_ok()
    }

    fn show_calls(&self, calls: usize) {
        metrics::gauge!("omnivox_trunk_calls", "trunk" => self.config.name.clone()).set(calls as f64);
    }

    fn now_ms(&self) -> u64 {
        u64::try_from(self.epoch.elapsed().as_millis()).unwrap_or(u64::MAX)
    }
}

/// Names a trunk in the Contact that we register: carriers call it as it stands (RFC 3261 section 10.3), with whatever number in To.
const LINE: &str = "line";

fn line_of(uri: &str) -> Option<String> {
    let uri = sip::Uri::parse(uri).ok()?;
    uri.params().get(LINE).map(sip::uri::unescape)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn trunk(max_calls: usize, rate: u32) -> Arc<Trunk> {
        let trunk = TrunkConfig {
            name: "carrier".into(),
            hosts: vec!["a.test".parse().unwrap(), "b.test".parse().unwrap()],
            max_calls,
            max_calls_per_second: rate,
            over_limit: 486,
            ping_s: 0,
            addresses: vec!["192.0.2.0/24".parse().unwrap()],
            tls_names: vec!["sip.carrier.test".into()],
            ..TrunkConfig::default()
        };
        let config = Config { trunks: vec![trunk], ..Config::default() };
        let trunks = Trunks::new(&config, Instant::now());
        assert!(trunks.of_source("192.0.2.9".parse().unwrap(), None, "").is_some());
        assert!(trunks.of_source("192.0.3.9".parse().unwrap(), None, "").is_none());
        let shown = ["SIP.carrier.test".to_owned()];
        assert!(trunks.of_source("192.0.3.9".parse().unwrap(), Some(&shown), "").is_some());
        trunks.named("carrier").unwrap()
    }

    #[test]
    fn however_many_ask_at_once_no_more_are_admitted_than_may_be() {
        for _ in 0..50 {
            let trunk = trunk(1, 0);
            let admitted: Vec<_> = std::thread::scope(|scope| {
                let asking: Vec<_> = (0..4).map(|_| scope.spawn(|| trunk.admit())).collect();
                asking.into_iter().filter_map(|asked| asked.join().unwrap().ok()).collect()
            });
            assert_eq!(admitted.len(), 1);
        }
    }

    #[test]
    fn a_call_that_comes_too_soon_keeps_no_place() {
        let trunk = trunk(2, 1);
        let one = trunk.admit().unwrap();
        assert!(trunk.admit().is_err(), "one a second");
        drop(one);
        assert_eq!(trunk.calls.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn calls_beyond_a_limit_are_refused_until_others_end() {
        let trunk = trunk(2, 0);
        let (one, two) = (trunk.admit().unwrap(), trunk.admit().unwrap());
        assert_eq!(trunk.admit().unwrap_err(), 486);
        drop(one);
        let three = trunk.admit().unwrap();
        drop((two, three));
        assert_eq!(trunk.calls.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn calls_from_where_we_register_come_by_the_trunk_whose_name_is_called() {
        let registers = |name: &str| TrunkConfig {
            name: name.into(),
            kind: TrunkKind::Register,
            username: format!("customer-{name}"),
            ..TrunkConfig::default()
        };
        let fixed = TrunkConfig { name: "fixed".into(), ..TrunkConfig::default() };
        let asks = TrunkConfig { incoming_username: "carrier".into(), ..registers("asks") };
        let config = Config { trunks: vec![fixed, asks, registers("a"), registers("b")], ..Config::default() };
        let trunks = Trunks::new(&config, Instant::now());
        let there: IpAddr = "192.0.2.9".parse().unwrap();
        let of = |called: &str| {
            let called = format!("sip:{called}@192.0.2.1:5060");
            trunks.of_source(there, None, &called).map(|trunk| trunk.config.name.clone())
        };
        assert_eq!(of("customer-b"), None, "it was not found yet");
        trunks.trunks.iter().for_each(|trunk| trunk.found_at("::ffff:192.0.2.9".parse().unwrap()));
        assert_eq!(of("customer-b").as_deref(), Some("b"));
        assert_eq!(of("+4930123456").as_deref(), Some("a"), "a number says nothing: the first");
        for (called, name) in [("customer-a;line=b", "a"), ("+49%3Bline=b", "a")] {
            assert_eq!(of(called).as_deref(), Some(name), "{called} is of no URI parameter");
        }
        let by_line = |line: &str| {
            let called = format!("sip:+4930123456@192.0.2.1:5060;ob;line={line}");
            trunks.of_source(there, None, &called).map(|trunk| trunk.config.name.clone())
        };
        assert_eq!(by_line("b").as_deref(), Some("b"), "the Contact that is called says it");
        assert_eq!(by_line("fixed").as_deref(), Some("a"), "one that registers nowhere has none");
        assert_eq!(by_line("").as_deref(), Some("a"));
        assert_eq!(of("customer-asks").as_deref(), Some("a"), "whoever asks for a name goes on asking");
        assert!(trunks.any_registers_at(there) && !trunks.any_registers_at("192.0.2.8".parse().unwrap()));
        assert_eq!(trunks.only_calls(there), Some("fixed"), "which is told to whoever wonders why calls are refused");
        for n in 0..=FOUND_LIMIT {
            trunks.trunks.iter().for_each(|trunk| trunk.found_at(IpAddr::from([198, 51, 100, n as u8])));
        }
        assert_eq!(of("customer-b"), None, "others were found since");
    }

    #[test]
    fn a_trunk_that_stays_as_it_was_is_the_same_and_one_that_changed_still_counts_its_calls() {
        let config = |max_calls| Config {
            trunks: vec![TrunkConfig { name: "carrier".into(), max_calls, over_limit: 486, ..TrunkConfig::default() }],
            ..Config::default()
        };
        let now = Instant::now();
        let before = Trunks::new(&config(2), now);
        let lease = before.named("carrier").unwrap().admit().unwrap();
        assert!(Arc::ptr_eq(
            &before.renewed(&config(2), now).named("carrier").unwrap(),
            &before.named("carrier").unwrap()
        ));
        let after = before.renewed(&config(1), now).named("carrier").unwrap();
        assert_eq!(after.admit().unwrap_err(), 486, "the call of before takes its only place");
        drop(lease);
        assert!(after.admit().is_ok());
    }

    #[test]
    fn calls_beyond_a_rate_are_refused_until_time_has_passed() {
        let trunk = trunk(0, 2);
        let now = Instant::now();
        assert!(trunk.takes_one(now) && trunk.takes_one(now) && !trunk.takes_one(now));
        assert!(trunk.takes_one(now + Duration::from_millis(500)));
        assert!(!trunk.takes_one(now + Duration::from_millis(600)));
    }

    #[test]
    fn a_host_that_does_not_answer_is_passed_over_until_it_does() {
        let trunk = trunk(0, 0);
        assert!(trunk.is_up(0) && trunk.is_up(1));
        trunk.note(0, BranchResult::Unreachable);
        assert!(!trunk.is_up(0) && trunk.is_up(1));
        trunk.note(0, BranchResult::Refused(486));
        assert!(trunk.is_up(0));
    }
}
