//! What a server still waits for before it is fully ready.

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

/// The things not ready yet; empty when all is.
#[derive(Debug, Default)]
pub struct Readiness {
    waiting_for: Mutex<BTreeSet<String>>,
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

    /// What is waited for.
    #[must_use]
    pub fn waiting_for(&self) -> Vec<String> {
        self.waiting_for.lock().unwrap_or_else(PoisonError::into_inner).iter().cloned().collect()
    }
}
