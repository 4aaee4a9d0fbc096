//! How often somebody may ask: by address before it is known who they are, by user or key afterwards. Each tier counts for itself.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::time::Duration;

use governor::clock::{Clock, DefaultClock};
use governor::state::keyed::DashMapStateStore;
use governor::{Quota, RateLimiter};

/// Keys remembered of each tier; beyond it those are forgotten first that may ask again anyway, then whoever is new is refused.
pub const KEYS_LIMIT: usize = 50_000;

/// How costly a request is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Tier {
    /// Anything.
    General,
    /// Passwords, links and codes.
    Login,
    /// What makes something, or acts on calls.
    Creation,
    /// What goes through many records.
    Report,
}

/// Requests in a minute of each tier, and by each address of all.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Rates {
    /// Of one user.
    pub general: u32,
    /// Of one address, and for one name.
    pub login: u32,
    /// Of one user.
    pub creation: u32,
    /// Of one user.
    pub report: u32,
    /// Of one address, whoever it is.
    pub address: u32,
}

impl Default for Rates {
    fn default() -> Self {
        Self { general: 600, login: 20, creation: 120, report: 60, address: 3_000 }
    }
}

type Limiter = RateLimiter<String, DashMapStateStore<String>, DefaultClock>;

/// Counts.
#[derive(Debug)]
pub struct Limits {
    general: Limiter,
    login: Limiter,
    creation: Limiter,
    report: Limiter,
    address: Limiter,
    clock: DefaultClock,
}

impl Limits {
    /// With these rates; one of 0 is taken as 1.
    #[must_use]
    pub fn new(rates: Rates) -> Self {
        let clock = DefaultClock::default();
        let limiter = |rate: u32| {
            let rate = NonZeroU32::new(rate).unwrap_or(NonZeroU32::MIN);
            RateLimiter::new(Quota::per_minute(rate), DashMapStateStore::default(), clock.clone())
        };
        Self {
            general: limiter(rates.general),
            login: limiter(rates.login),
            creation: limiter(rates.creation),
            report: limiter(rates.report),
            address: limiter(rates.address),
            clock: clock.clone(),
        }
    }

    /// Counts a request; who may not has to wait this long.
    ///
    /// # Errors
    /// How long.
    pub fn take(&self, tier: Tier, who: &str) -> Result<(), Duration> {
        let limiter = match tier {
            Tier::General => &self.general,
            Tier::Login => &self.login,
            Tier::Creation => &self.creation,
            Tier::Report => &self.report,
        };
        self.count(limiter, who)
    }

    /// Counts a request of an address.
    ///
    /// # Errors
    /// How long it has to wait.
    pub fn take_address(&self, address: IpAddr) -> Result<(), Duration> {
        self.count(&self.address, &network(address))
    }

    fn count(&self, limiter: &Limiter, who: &str) -> Result<(), Duration> {
        if limiter.len() >= KEYS_LIMIT {
            limiter.retain_recent();
            if limiter.len() >= KEYS_LIMIT {
                return Err(Duration::from_secs(60));
            }
        }
        limiter.check_key(&who.to_owned()).map_err(|not_until| not_until.wait_time_from(self.clock.now()))
    }
}

/// An address as it is counted: of IPv6 whoever has one address has its /64.
#[must_use]
pub fn network(address: IpAddr) -> String {
    match address.to_canonical() {
        IpAddr::V4(address) => address.to_string(),
        IpAddr::V6(address) => {
            let [a, b, c, d, ..] = address.segments();
            format!("{a:x}:{b:x}:{c:x}:{d:x}::/64")
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn each_tier_and_each_user_is_counted_alone() {
        let limits = Limits::new(Rates { login: 2, ..Rates::default() });
        assert!(limits.take(Tier::Login, "ada").is_ok());
        assert!(limits.take(Tier::Login, "ada").is_ok());
        let wait = limits.take(Tier::Login, "ada").unwrap_err();
        assert!(wait > Duration::ZERO && wait <= Duration::from_secs(30), "{wait:?}");
        assert!(limits.take(Tier::Login, "bob").is_ok());
        assert!(limits.take(Tier::General, "ada").is_ok());
    }

    #[test]
    fn whoever_changes_addresses_within_a_network_is_one() {
        assert_eq!(network("2001:db8::1".parse().unwrap()), network("2001:db8::2:3".parse().unwrap()));
        assert_ne!(network("2001:db8::1".parse().unwrap()), network("2001:db8:0:1::1".parse().unwrap()));
        assert_eq!(network("::ffff:192.0.2.1".parse().unwrap()), "192.0.2.1");
    }

    #[test]
    fn more_keys_than_are_remembered_are_refused() {
        let limits = Limits::new(Rates { report: 1, ..Rates::default() });
        (0..KEYS_LIMIT).for_each(|n| limits.take(Tier::Report, &n.to_string()).unwrap());
        assert!(limits.take(Tier::Report, "one more").is_err());
    }
}
