//! What happens in one web call, for whoever holds its resource: what was before and what follows, each once.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::broadcast;

/// Events kept for a page that comes late; older ones are dropped.
pub const PAST: usize = 256;
/// Events that may wait for a page that reads slowly; beyond it, it misses the oldest.
pub const WAITING: usize = 256;

/// One call's events, as JSON.
#[derive(Debug, Clone)]
pub struct Feed {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug)]
struct Inner {
    past: VecDeque<Arc<str>>,
    /// Gone when the call is over.
    sender: Option<broadcast::Sender<Arc<str>>>,
}

impl Default for Feed {
    fn default() -> Self {
        let inner = Inner { past: VecDeque::new(), sender: Some(broadcast::channel(WAITING).0) };
        Self { inner: Arc::new(Mutex::new(inner)) }
    }
}

impl Feed {
    /// Adds an event.
    pub fn tell(&self, event: &impl serde::Serialize) {
        let Ok(text) = serde_json::to_string(event) else { return };
        let text: Arc<str> = text.into();
        let mut inner = self.lock();
        if inner.past.len() == PAST {
            inner.past.pop_front();
        }
        inner.past.push_back(Arc::clone(&text));
        if let Some(sender) = &inner.sender {
            // Nobody reads at present.
            let _ = sender.send(text);
        }
    }

    /// No event follows.
    pub fn end(&self) {
        self.lock().sender = None;
    }

    /// What was, and what follows.
    #[must_use]
    pub fn read(&self) -> (Vec<Arc<str>>, Option<broadcast::Receiver<Arc<str>>>) {
        let inner = self.lock();
        (inner.past.iter().cloned().collect(), inner.sender.as_ref().map(broadcast::Sender::subscribe))
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn whoever_comes_late_reads_what_was_and_nothing_twice() {
        let feed = Feed::default();
        (0..PAST + 10).for_each(|n| feed.tell(&n));
        let (past, follows) = feed.read();
        assert_eq!((past.len(), &*past[0]), (PAST, "10"));
        feed.tell(&"more");
        feed.end();
        let mut follows = follows.unwrap();
        assert_eq!(&*follows.try_recv().unwrap(), "\"more\"");
        assert!(matches!(follows.try_recv(), Err(broadcast::error::TryRecvError::Closed)));
        assert!(feed.read().1.is_none());
    }
}
