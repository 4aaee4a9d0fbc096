//! What happens, as it does: the latest events are kept, whoever reads goes on where they are, and nobody who reads slowly holds
//! anybody up. What is sent of an event is made once, however many read it.

use std::collections::VecDeque;
use std::ops::Deref;
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use axum::extract::ws::Utf8Bytes;
use serde::Serialize;
use tokio::sync::watch;

use crate::ports::{Data, Event, LiveCall, Person};
use crate::store::outbox::Told;
use crate::time::Moment;
use crate::webhooks;

/// Events kept for those who read: whoever is further behind misses the oldest, and is told so.
pub const KEPT: usize = 8_192;
/// Events that may wait for the outbox while the database does not answer; beyond it the oldest are lost to webhooks, and counted.
pub const TOLD_LIMIT: usize = 10_000;

/// Tells everybody.
#[derive(Debug, Clone)]
pub struct Live {
    inner: Arc<Mutex<Inner>>,
    /// The id of the latest event: those who have nothing to read wait for another.
    latest: watch::Sender<u64>,
}

#[derive(Debug)]
struct Inner {
    /// The id before the first event of this life.
    begun: u64,
    last: u64,
    /// The last event that is kept no more.
    gone: u64,
    kept: VecDeque<Arc<Entry>>,
    /// What the outbox has not taken yet.
    told: VecDeque<Arc<Entry>>,
    is_over: bool,
}

/// An event, and its text.
#[derive(Debug)]
pub struct Entry {
    event: Event,
    text: OnceLock<Utf8Bytes>,
}

impl Entry {
    /// The event as JSON: written when it is first asked for.
    #[must_use]
    pub fn text(&self) -> Utf8Bytes {
        self.text.get_or_init(|| serde_json::to_string(&self.event).unwrap_or_default().into()).clone()
    }
}

impl From<Event> for Entry {
    fn from(event: Event) -> Self {
        Self { event, text: OnceLock::new() }
    }
}

impl Deref for Entry {
    type Target = Event;

    fn deref(&self) -> &Event {
        &self.event
    }
}

/// Reads events one after another, each once.
#[derive(Debug)]
pub struct Reader {
    live: Live,
    latest: watch::Receiver<u64>,
    /// The event that was read last.
    last: u64,
    /// What it had last was not of this life of the server.
    is_stranger: bool,
}

/// What somebody reads at once.
#[derive(Debug, Default)]
pub struct Batch {
    /// Events were lost before these: how many, where that is known, else 0.
    pub lost: Option<u64>,
    /// Oldest first.
    pub events: Vec<Arc<Entry>>,
}

impl Reader {
    /// What there is to read, at most `limit` events.
    #[must_use]
    pub fn take(&mut self, limit: usize) -> Batch {
        let inner = self.live.lock();
        let lost = if std::mem::take(&mut self.is_stranger) {
            // Neither what it had nor how much lies between is known here.
            self.last = inner.gone;
            Some(0)
        } else if self.last < inner.gone {
            let lost = inner.gone - self.last;
            self.last = inner.gone;
            Some(lost)
        } else {
            None
        };
        let start = inner.kept.partition_point(|event| event.id <= self.last);
        let events: Vec<_> = inner.kept.range(start..).take(limit).cloned().collect();
        self.last = events.last().map_or(self.last, |event| event.id);
        Batch { lost, events }
    }

    /// Waits until there is something to read, and reads it; `None` where nothing more comes. Nothing is lost where this is given up.
    pub async fn next(&mut self, limit: usize) -> Option<Batch> {
        loop {
            self.latest.mark_unchanged();
            let batch = self.take(limit);
            if batch.lost.is_some() || !batch.events.is_empty() {
                return Some(batch);
            }
            if self.live.lock().is_over {
                return None;
            }
            // Whoever reads keeps what tells, so that it does not end.
            let _ = self.latest.changed().await;
        }
    }
}

impl Live {
    /// Begins to count at this moment, so that ids go on over a restart: more than a thousand events in each millisecond of a
    /// server's life would be needed for two to be the same.
    #[must_use]
    pub fn new(now: Moment) -> Self {
        let begun = u64::try_from(now.0).unwrap_or_default().saturating_mul(1_000);
        let kept = VecDeque::with_capacity(KEPT);
        let inner = Inner { begun, last: begun, gone: begun, kept, told: VecDeque::new(), is_over: false };
        Self { inner: Arc::new(Mutex::new(inner)), latest: watch::Sender::new(begun) }
    }

    /// Tells of something.
    pub fn tell(&self, at: Moment, kind: &'static str, call: &str, devices: &[String], data: impl Serialize) {
        let (call, devices) = (call.to_owned(), devices.to_vec());
        self.tell_event(Event { id: 0, at, kind, call, data: Data::written(&data), devices, person: None });
    }

    /// Tells how a call is now.
    pub fn tell_of_call(&self, at: Moment, kind: &'static str, call: &Arc<LiveCall>) {
        let (id, devices) = (call.call.clone(), call.devices.clone());
        let data = Data::Call(Arc::clone(call), OnceLock::new());
        self.tell_event(Event { id: 0, at, kind, call: id, data, devices, person: None });
    }

    /// Tells of somebody.
    pub fn tell_of(&self, at: Moment, kind: &'static str, person: Person, data: impl Serialize) {
        let (call, devices) = (String::new(), Vec::new());
        self.tell_event(Event { id: 0, at, kind, call, data: Data::written(&data), devices, person: Some(person) });
    }

    fn tell_event(&self, event: Event) {
        let mut inner = self.lock();
        inner.last += 1;
        let event = Arc::new(Entry::from(Event { id: inner.last, ..event }));
        if inner.kept.len() == KEPT {
            inner.gone = inner.kept.pop_front().map_or(inner.gone, |oldest| oldest.id);
        }
        inner.kept.push_back(Arc::clone(&event));
        if webhooks::is_told(event.kind) {
            inner.keep_told(event);
        }
        let last = inner.last;
        drop(inner);
        // Two who tell at once may come here in either order.
        self.latest.send_if_modified(|latest| std::mem::replace(latest, last.max(*latest)) < last);
    }

    /// Reads on after an event; from now on where none is named.
    #[must_use]
    pub fn read(&self, after: Option<u64>) -> Reader {
        let latest = self.latest.subscribe();
        let inner = self.lock();
        let last = after.unwrap_or(inner.last);
        let is_stranger = !(inner.begun..=inner.last).contains(&last);
        drop(inner);
        Reader { live: self.clone(), latest, last, is_stranger }
    }

    /// What is to be written to the outbox, oldest first, at most so much: whoever takes it writes it, or gives it back.
    #[must_use]
    pub fn take_told(&self, limit: usize) -> Vec<Arc<Entry>> {
        let mut inner = self.lock();
        let count = inner.told.len().min(limit);
        inner.told.drain(..count).collect()
    }

    /// Gives back what could not be written.
    pub fn give_back(&self, told: Vec<Arc<Entry>>) {
        let mut inner = self.lock();
        let newer = std::mem::replace(&mut inner.told, told.into());
        newer.into_iter().for_each(|event| inner.keep_told(event));
    }

    /// Forgets events that were kept for those who read; returns how many.
    pub fn forget(&self, is_to_go: impl Fn(&Event) -> bool) -> u64 {
        let mut inner = self.lock();
        let before = inner.kept.len();
        inner.kept.retain(|event| !is_to_go(event));
        (before - inner.kept.len()) as u64
    }

    /// Nothing more is told: those who read come to an end.
    pub fn end(&self) {
        self.lock().is_over = true;
        self.latest.send_modify(|_| {});
    }

    /// The id of the latest event.
    #[must_use]
    pub fn latest(&self) -> u64 {
        self.lock().last
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    fn keep_told(&mut self, event: Arc<Entry>) {
        if self.told.len() >= TOLD_LIMIT {
            self.told.pop_front();
            metrics::counter!("omnivox_control_outbox_lost_total").increment(1);
        }
        self.told.push_back(event);
    }
}

impl From<&Event> for Told {
    fn from(event: &Event) -> Self {
        let mut data = serde_json::from_str(event.data.get()).unwrap_or_default();
        if let serde_json::Value::Object(data) = &mut data
            && !event.call.is_empty()
        {
            data.entry("call").or_insert_with(|| event.call.clone().into());
        }
        Self { kind: event.kind.to_owned(), call: event.call.clone(), at: event.at, data }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn ids(batch: &Batch) -> (Option<u64>, Vec<u64>) {
        (batch.lost, batch.events.iter().map(|event| event.id).collect())
    }

    fn tell(live: &Live, n: usize) {
        (0..n).for_each(|_| live.tell(Moment(0), "turn", "c", &[], serde_json::Value::Null));
    }

    #[test]
    fn whoever_comes_back_reads_on_where_they_stopped() {
        let live = Live::new(Moment(1));
        tell(&live, 3);
        let mut reader = live.read(Some(1_000));
        assert_eq!(ids(&reader.take(2)), (None, vec![1_001, 1_002]));
        assert_eq!(ids(&reader.take(2)), (None, vec![1_003]));
        assert_eq!(ids(&live.read(Some(1_002)).take(9)), (None, vec![1_003]));
        assert_eq!(ids(&live.read(None).take(9)), (None, vec![]));
    }

    #[test]
    fn whoever_was_away_for_too_long_or_before_a_restart_is_told_so() {
        let live = Live::new(Moment(1));
        tell(&live, KEPT + 10);
        assert_eq!(ids(&live.read(Some(1_005)).take(1)), (Some(5), vec![1_011]));
        assert_eq!(ids(&live.read(Some(1_010)).take(1)), (None, vec![1_011]));
        let restarted = Live::new(Moment(2_000));
        assert_eq!(ids(&restarted.read(Some(1_010)).take(1)), (Some(0), vec![]));
        tell(&restarted, 1);
        assert_eq!(ids(&restarted.read(Some(1_010)).take(1)), (Some(0), vec![2_000_001]));
        assert_eq!(ids(&restarted.read(Some(u64::MAX)).take(1)), (Some(0), vec![2_000_001]), "of another server");
    }

    #[test]
    fn what_was_erased_is_no_gap() {
        let live = Live::new(Moment(1));
        tell(&live, 5);
        let mut reader = live.read(Some(1_001));
        assert_eq!(live.forget(|event| event.id < 1_004), 3);
        assert_eq!(ids(&reader.take(9)), (None, vec![1_004, 1_005]));
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
        let mut slow = live.read(None);
        tell(&live, KEPT + 5);
        assert_eq!(ids(&slow.next(2).await.unwrap()), (Some(5), vec![6, 7]));
        assert_eq!(ids(&slow.next(1).await.unwrap()), (None, vec![8]));
    }

    #[tokio::test]
    async fn whoever_waits_is_told_once_there_is_something_and_reads_the_same_text_as_everybody() {
        let live = Live::new(Moment(0));
        let (mut one, mut other) = (live.read(None), live.read(None));
        let telling = async {
            tokio::task::yield_now().await;
            tell(&live, 1);
        };
        let (a, b, ()) = tokio::join!(one.next(9), other.next(9), telling);
        let (a, b) = (a.unwrap(), b.unwrap());
        assert_eq!((ids(&a), ids(&b)), ((None, vec![1]), (None, vec![1])));
        assert_eq!(a.events[0].text().as_ptr(), b.events[0].text().as_ptr());
        let read: serde_json::Value = serde_json::from_str(&a.events[0].text()).unwrap();
        assert_eq!((read["id"].as_u64(), read["type"].as_str()), (Some(1), Some("turn")));
        tell(&live, 1);
        live.end();
        assert_eq!(ids(&one.next(9).await.unwrap()), (None, vec![2]));
        assert!(one.next(9).await.is_none());
    }
}
