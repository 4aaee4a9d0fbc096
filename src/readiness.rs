//! What a server still waits for before it is fully ready, and what fails while it runs.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Mutex, PoisonError};

/// The things not ready yet; empty when all is.
#[derive(Debug, Default)]
pub struct Readiness {
    waiting_for: Mutex<BTreeSet<String>>,
    faults: Mutex<BTreeMap<String, String>>,
}

impl Readiness {
    /// Nothing to wait for.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// One more thing to wait for.
    pub fn add(&self, what: impl Into<String>) {
        self.waiting_for.lock().unwrap_or_else(PoisonError::into_inner).insert(what.into());
    }

    /// This is ready now.
    pub fn remove(&self, what: &str) {
        self.waiting_for.lock().unwrap_or_else(PoisonError::into_inner).remove(what);
    }

    /// A part fails, and why; or, by `None`, does what it is for again. Calls go on.
    pub fn note_fault(&self, part: &str, fault: Option<&str>) {
        metrics::gauge!("omnivox_faults", "part" => part.to_owned()).set(if fault.is_some() { 1.0 } else { 0.0 });
        let mut faults = self.faults.lock().unwrap_or_else(PoisonError::into_inner);
        match fault {
            Some(fault) => drop(faults.insert(part.to_owned(), fault.to_owned())),
            None => drop(faults.remove(part)),
        }
    }

    /// What fails: `PART: WHY`.
    #[must_use]
    pub fn faults(&self) -> Vec<String> {
        let faults = self.faults.lock().unwrap_or_else(PoisonError::into_inner);
        faults.iter().map(|(part, why)| format!("{part}: {why}")).collect()
    }

    /// What is waited for.
    #[must_use]
    pub fn waiting_for(&self) -> Vec<String> {
        self.waiting_for.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }
}
