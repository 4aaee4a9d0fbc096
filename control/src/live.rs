//! What happens, as it does: the latest events are kept, whoever reads may go on where they stopped, and nobody who reads slowly holds
//! anybody up.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use tokio::sync::broadcast;

use crate::ports::{Event, Person};
use crate::store::outbox::Told;
use crate::time::Moment;
use crate::webhooks;

/// Events kept for those who come back.
pub const KEPT: usize = 4_096;
/// Events that may wait for one reader; beyond it, it misses the oldest and is told so.
pub const WAITING: usize = 1_024;
/// Events that may wait for the outbox while the database does not answer; beyond it the oldest are lost to webhooks, and counted.
pub const TOLD_LIMIT: usize = 10_000;

/// Tells everybody.
#[derive(Debug, Clone)]
pub struct Live {
    inner: Arc<Mutex<Inner>>,
}

#[derive(Debug)]
struct Inner {
    last: u64,
    kept: VecDeque<Arc<Event>>,
    /// What the outbox has not taken yet.
    told: VecDeque<Arc<Event>>,
    sender: broadcast::Sender<Arc<Event>>,
}

/// What somebody missed, and what follows.
#[derive(Debug)]
pub struct Reader {
    /// Since the event they had last; empty where they had none.
    pub past: Vec<Arc<Event>>,
    /// They had one that is too old: what lies between is lost to them.
    pub has_gap: bool,
    /// What follows.
    pub next: broadcast::Receiver<Arc<Event>>,
}

impl Live {
    /// Begins to count at this moment, so that ids go on over a restart: more than a thousand events in each millisecond of a
    /// server's life would be needed for two to be the same.
    #[must_use]
    pub fn new(now: Moment) -> Self {
        let last = u64::try_from(now.0).unwrap_or_default().saturating_mul(1_000);
        let inner = Inner {
            last,
            kept: VecDeque::with_capacity(KEPT),
            told: VecDeque::new(),
            sender: broadcast::channel(WAITING).0,
        };
        Self { inner: Arc::new(Mutex::new(inner)) }
    }

    /// Tells of something.
    pub fn tell(&self, at: Moment, kind: &'static str, call: &str, devices: &[String], data: serde_json::Value) {
        let (call, devices) = (call.to_owned(), devices.to_vec());
        self.tell_event(Event { id: 0, at, kind, call, data, devices, person: None });
    }

    /// Tells of somebody.
    pub fn tell_of(&self, at: Moment, kind: &'static str, person: Person, data: serde_json::Value) {
        let (call, devices) = (String::new(), Vec::new());
        self.tell_event(Event { id: 0, at, kind, call, data, devices, person: Some(person) });
    }

    fn tell_event(&self, event: Event) {
        let mut inner = self.lock();
        inner.last += 1;
        let event = Arc::new(Event { id: inner.last, ..event });
        if inner.kept.len() == KEPT {
            inner.kept.pop_front();
        }
        inner.kept.push_back(Arc::clone(&event));
        if webhooks::is_told(event.kind) {
            inner.keep_told(Arc::clone(&event));
        }
        // Nobody reads at present.
        let _ = inner.sender.send(event);
    }

    /// Reads on after an event; from now on where none is named.
    #[must_use]
    pub fn read(&self, after: Option<u64>) -> Reader {
        let inner = self.lock();
        let next = inner.sender.subscribe();
        let Some(after) = after else { return Reader { past: Vec::new(), has_gap: false, next } };
        let past = inner.kept.iter().filter(|event| event.id > after).cloned().collect();
        // Events of one life follow one another: what was had last is kept, is the one before those that are, or is the latest.
        let has_gap = match inner.kept.front() {
            Some(first) => after + 1 < first.id,
            None => after != inner.last,
        };
        Reader { past, has_gap, next }
    }

    /// What is to be written to the outbox, oldest first, at most so much: whoever takes it writes it, or gives it back.
    #[must_use]
    pub fn take_told(&self, limit: usize) -> Vec<Arc<Event>> {
        let mut inner = self.lock();
        let count = inner.told.len().min(limit);
        inner.told.drain(..count).collect()
    }

    /// Gives back what could not be written.
    pub fn give_back(&self, told: Vec<Arc<Event>>) {
        let mut inner = self.lock();
        let newer = std::mem::replace(&mut inner.told, told.into());
        newer.into_iter().for_each(|event| inner.keep_told(event));
    }

    /// Forgets events that were kept for those who come back; returns how many.
    pub fn forget(&self, is_to_go: impl Fn(&Event) -> bool) -> u64 {
        let mut inner = self.lock();
        let before = inner.kept.len();
        inner.kept.retain(|event| !is_to_go(event));
        (before - inner.kept.len()) as u64
    }

    /// The id of the latest event.
    #[must_use]
    pub fn latest(&self) -> u64 {
        self.lock().last
    }

    /// Those who read at present.
    #[must_use]
    pub fn readers(&self) -> usize {
        self.lock().sender.receiver_count()
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn keep_told(&mut self, event: Arc<Event>) {
        if self.told.len() >= TOLD_LIMIT {
            self.told.pop_front();
            metrics::counter!("omnivox_control_outbox_lost_total").increment(1);
        }
        self.told.push_back(event);
    }
}

impl From<&Event> for Told {
    fn from(event: &Event) -> Self {
        let data = match &event.data {
            serde_json::Value::Object(data) if !event.call.is_empty() && !data.contains_key("call") => {
                let mut data = data.clone();
                data.insert("call".to_owned(), event.call.clone().into());
                serde_json::Value::Object(data)
            }
            data => data.clone(),
        };
        Self { kind: event.kind.to_owned(), call: event.call.clone(), at: event.at, data }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tell(live: &Live, n: usize) {
        (0..n).for_each(|_| live.tell(Moment(0), "turn", "c", &[], serde_json::Value::Null));
    }

    #[test]
    fn whoever_comes_back_reads_on_where_they_stopped() {
        let live = Live::new(Moment(1));
        tell(&live, 3);
        let all = live.read(Some(1_000));
        assert_eq!(all.past.iter().map(|event| event.id).collect::<Vec<_>>(), [1_001, 1_002, 1_003]);
        assert!(!all.has_gap);
        assert_eq!(live.read(Some(1_002)).past.len(), 1);
        assert!(live.read(None).past.is_empty());
    }

    #[test]
    fn whoever_was_away_for_too_long_or_before_a_restart_is_told_so() {
        let live = Live::new(Moment(1));
        tell(&live, KEPT + 10);
        assert!(live.read(Some(1_005)).has_gap);
        assert!(!live.read(Some(1_010)).has_gap);
        let restarted = Live::new(Moment(2_000));
        assert!(restarted.read(Some(1_010)).has_gap);
        tell(&restarted, 1);
        assert!(restarted.read(Some(1_010)).has_gap);
    }

    #[test]
    fn what_waits_for_the_outbox_is_bounded_and_comes_in_order_also_when_it_was_given_back() {
        let live = Live::new(Moment(0));
        tell(&live, TOLD_LIMIT + 1);
        live.tell(Moment(0), "transcript.partial", "c", &[], serde_json::Value::Null);
        let first = live.take_told(2);
        assert_eq!(first.iter().map(|event| event.id).collect::<Vec<_>>(), [2, 3], "the oldest is lost");
        tell(&live, 2);
        live.give_back(first);
        let all = live.take_told(usize::MAX);
        assert_eq!(all.len(), TOLD_LIMIT);
        assert!(all.is_sorted_by_key(|event| event.id) && live.take_told(1).is_empty());
    }

    #[tokio::test]
    async fn whoever_reads_slowly_misses_the_oldest_and_holds_nobody_up() {
        let live = Live::new(Moment(0));
        let mut slow = live.read(None).next;
        tell(&live, WAITING + 5);
        assert!(matches!(slow.recv().await, Err(broadcast::error::RecvError::Lagged(5))));
        assert_eq!(slow.recv().await.unwrap().id, 6);
    }
}
