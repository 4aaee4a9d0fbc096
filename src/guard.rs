//! Who is listened to: the guard of signalling with the networks that it does not hold back, and its figures.

use std::net::IpAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock};
use std::time::Instant;

use sip::Message;
use sip::endpoint::Source;
use sip::guard::{Admit, Failure, Guard};
use sip::io::Gate;

use crate::config::{Config, Network};
use crate::trunks::Trunks;

/// The door to signalling. Shared between it and whoever finds out that somebody failed.
#[derive(Debug)]
pub(crate) struct Door {
    guard: Mutex<Guard>,
    trusted: RwLock<Vec<Network>>,
    trunks: RwLock<Arc<Trunks>>,
}

impl Door {
    /// A door as configured: trunks' networks are trusted too.
    #[must_use]
    pub(crate) fn new(config: &Config, now: Instant) -> Self {
        let trusted = RwLock::new(trusted(config));
        Self { guard: Mutex::new(Guard::new(config.guard.limits(), now)), trusted, trunks: RwLock::default() }
    }

    /// Trunks have changed.
    pub(crate) fn trust(&self, config: &Config, trunks: &Arc<Trunks>) {
        *self.trunks.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(trunks);
        *self.trusted.write().unwrap_or_else(PoisonError::into_inner) = trusted(config);
    }

    /// A source gave a wrong password, or asked for a number that does not exist.
    pub(crate) fn failed(&self, source: IpAddr, failure: Failure) {
        if !self.trusts(source) && self.guard().failed(Instant::now(), source, failure) {
            tracing::warn!("a source failed too often and is not answered for a while");
        }
    }

    /// A source proved who it is.
    pub(crate) fn succeeded(&self, source: IpAddr) {
        self.guard().succeeded(Instant::now(), source);
    }

    /// Refreshes the figures.
    pub(crate) fn measure(&self) {
        let stats = self.guard().stats();
        metrics::gauge!("omnivox_guard_sources").set(stats.sources as f64);
        metrics::gauge!("omnivox_guard_silenced").set(stats.silenced as f64);
        for (why, count) in [
            ("silenced", stats.dropped_silenced),
            ("scanner", stats.dropped_scanners),
            ("rate", stats.dropped_rate),
            ("busy", stats.refused_busy),
        ] {
            metrics::counter!("omnivox_guard_refused_total", "why" => why).absolute(count);
        }
    }

    fn trusts(&self, source: IpAddr) -> bool {
        let trusted = self.trusted.read().unwrap_or_else(PoisonError::into_inner);
        let registers = || self.trunks.read().unwrap_or_else(PoisonError::into_inner).any_registers_at(source);
        trusted.iter().any(|network| network.contains(source)) || registers()
    }

    fn guard(&self) -> MutexGuard<'_, Guard> {
        self.guard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The networks that are not held back.
fn trusted(config: &Config) -> Vec<Network> {
    let trunks = config.trunks.iter().flat_map(|trunk| &trunk.addresses);
    config.guard.trusted.iter().chain(trunks).copied().collect()
}

impl Gate for Door {
    fn listens_to(&self, now: Instant, source: IpAddr, has_calls: bool) -> bool {
        self.trusts(source) || self.guard().listens_to(now, source, has_calls)
    }

    fn admit(&self, now: Instant, source: &Source, request: &Message) -> Admit {
        let remote = source.remote.ip();
        if self.trusts(remote) {
            return Admit::Take;
        }
        self.guard().admit(now, remote, false, request)
    }
}
