//! Who waits for whom: the callers of all queues in the order in which they get somebody, and what is known of those who take them. Pure.
//!
//! Callers come by their queue's priority, then by how long they have waited. Each gets those of their queue who are free and whom nobody
//! before them got: one, or all where a queue calls all at once. Whoever did not take a call is not called again for a moment, and after a
//! call of a queue's for as long as the queue says.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use tokio::time::Instant;

use crate::call::queue::{News, Queue};
use crate::config::QueueOrder;

/// Whoever did not take a call that was offered is not called by a queue again for this long.
pub(super) const CALLED_AGAIN_AFTER: Duration = Duration::from_secs(10);
/// Where none of a queue's users is there for this long its callers wait no more, if they have somewhere to go.
pub(super) const DESERTED_AFTER: Duration = Duration::from_secs(10);

/// Whether somebody can be called.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Member {
    /// They have no phone that is registered, or say that they take no calls.
    Absent,
    /// They are in a call.
    Busy,
    /// They are neither.
    Free,
}

/// Everybody who waits.
#[derive(Debug, Default)]
pub(super) struct Lines {
    /// In the order in which they get somebody.
    waiting: Vec<Waiting>,
    members: HashMap<String, Known>,
}

#[derive(Debug)]
struct Waiting {
    call: Arc<str>,
    queue: Arc<Queue>,
    since: Instant,
    /// Those who are called for them.
    offered: Vec<String>,
    /// It was not looked for anybody yet.
    is_new: bool,
    /// Since when none of the queue's users is there.
    deserted_since: Option<Instant>,
}

/// What is known of a device.
#[derive(Debug, Default)]
struct Known {
    /// Somebody's call is offered to it.
    is_offered: bool,
    /// It is left alone until then.
    rests_until: Option<Instant>,
    /// Its last call was over then.
    idle_since: Option<Instant>,
    /// After the call that it has it is left alone for so long.
    wrap_up: Option<Duration>,
}

impl Lines {
    /// Whether nobody waits.
    #[must_use]
    pub(super) fn is_empty(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Whether no more may wait in this queue.
    #[must_use]
    pub(super) fn is_full(&self, queue: &Queue) -> bool {
        self.waiting_in(&queue.name) >= queue.limit
    }

    /// Callers who wait in the queue of this name.
    #[must_use]
    pub(super) fn waiting_in(&self, name: &str) -> usize {
        self.waiting.iter().filter(|waiting| *waiting.queue.name == *name).count()
    }

    /// How many wait in which queue.
    #[must_use]
    pub(super) fn counts(&self) -> HashMap<Arc<str>, usize> {
        let mut counts = HashMap::new();
        for waiting in &self.waiting {
            *counts.entry(Arc::clone(&waiting.queue.name)).or_insert(0) += 1;
        }
        counts
    }

    /// A call waits, as one that has since then.
    pub(super) fn join(&mut self, call: Arc<str>, queue: Arc<Queue>, since: Instant) {
        self.leave(&call);
        let rank = |waiting: &Waiting| (-i64::from(waiting.queue.priority), waiting.since);
        let one = Waiting { call, queue, since, offered: Vec::new(), is_new: true, deserted_since: None };
        let at = self.waiting.partition_point(|other| rank(other) <= rank(&one));
        self.waiting.insert(at, one);
    }

    /// Calls that are there no more do not wait.
    pub(super) fn keep(&mut self, is_there: impl Fn(&str) -> bool) {
        let gone: Vec<Arc<str>> =
            self.waiting.iter().map(|waiting| Arc::clone(&waiting.call)).filter(|call| !is_there(call)).collect();
        gone.iter().for_each(|call| self.leave(call));
    }

    /// The place of a call among those of its queue, from 1.
    #[must_use]
    pub(super) fn place(&self, call: &str) -> Option<usize> {
        let at = self.waiting.iter().position(|waiting| *waiting.call == *call)?;
        let queue = &self.waiting.get(at)?.queue.name;
        Some(self.waiting.iter().take(at + 1).filter(|waiting| waiting.queue.name == *queue).count())
    }

    /// Whether these devices are kept for a call.
    #[must_use]
    pub(super) fn is_offered(&self, call: &str, devices: &[String]) -> bool {
        self.waiting.iter().any(|waiting| *waiting.call == *call && waiting.offered == devices)
    }

    /// A call waits no more.
    pub(super) fn leave(&mut self, call: &str) {
        if let Some(at) = self.waiting.iter().position(|waiting| *waiting.call == *call) {
            let left = self.waiting.remove(at);
            self.free(&left.offered);
        }
    }

    /// The same, since this device has taken it.
    pub(super) fn taken(&mut self, call: &str, device: &str) {
        let queue =
            self.waiting.iter().find(|waiting| *waiting.call == *call).map(|waiting| Arc::clone(&waiting.queue));
        self.leave(call);
        if let Some(queue) = queue {
            self.known(device).wrap_up = Some(queue.wrap_up);
        }
    }

    /// Nobody of those who were called for a call has taken it: it waits on.
    pub(super) fn declined(&mut self, call: &str, now: Instant) {
        let Some(waiting) = self.waiting.iter_mut().find(|waiting| *waiting.call == *call) else { return };
        let offered = std::mem::take(&mut waiting.offered);
        self.free(&offered);
        for device in offered {
            self.known(&device).rests_until = Some(now + CALLED_AGAIN_AFTER);
        }
    }

    /// A device has spoken, and does not any more.
    pub(super) fn spoke(&mut self, device: &str, now: Instant) {
        let known = self.known(device);
        known.idle_since = Some(now);
        if let Some(wrap_up) = known.wrap_up.take() {
            known.rests_until = Some(now + wrap_up);
        }
    }

    /// Gives those who are free to those who wait; who learns what.
    pub(super) fn settle(&mut self, now: Instant, member: impl Fn(&str) -> Member) -> Vec<(Arc<str>, News)> {
        let mut news = Vec::new();
        let mut given: HashSet<String> = HashSet::new();
        for waiting in &mut self.waiting {
            if !waiting.offered.is_empty() {
                continue;
            }
            let is_new = std::mem::replace(&mut waiting.is_new, false);
            let there = || waiting.queue.members.iter().map(|name| (name, member(name)));
            if there().all(|(_, state)| state == Member::Absent) {
                let since = *waiting.deserted_since.get_or_insert(now);
                // Who has only just come finds nobody; a phone of those who wait may only be registering anew.
                if is_new || now.duration_since(since) >= DESERTED_AFTER {
                    waiting.deserted_since = None;
                    news.push((Arc::clone(&waiting.call), News::Deserted));
                }
                continue;
            }
            waiting.deserted_since = None;
            let is_free = |name: &str| {
                let rests = |known: &Known| known.is_offered || known.rests_until.is_some_and(|until| now < until);
                !given.contains(name) && !self.members.get(name).is_some_and(rests)
            };
            let mut free: Vec<String> = there()
                .filter(|(name, state)| *state == Member::Free && is_free(name))
                .map(|(name, _)| name.clone())
                .collect();
            match waiting.queue.order {
                QueueOrder::AtOnce => {}
                QueueOrder::InTurn => free.truncate(1),
                QueueOrder::LongestIdle => {
                    // Stable: of those who have spoken with nobody yet the first.
                    free.sort_by_key(|name| self.members.get(name).and_then(|known| known.idle_since));
                    free.truncate(1);
                }
            }
            if !free.is_empty() {
                given.extend(free.iter().cloned());
                waiting.offered.clone_from(&free);
                news.push((Arc::clone(&waiting.call), News::Free(free)));
            }
        }
        for name in given {
            self.known(&name).is_offered = true;
        }
        news
    }

    fn free(&mut self, devices: &[String]) {
        for device in devices {
            self.known(device).is_offered = false;
        }
    }

    fn known(&mut self, device: &str) -> &mut Known {
        self.members.entry(device.to_owned()).or_default()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn join(lines: &mut Lines, call: &str, queue: &Queue, since: Instant) {
        lines.join(call.into(), Arc::new(queue.clone()), since);
    }

    fn all_free(_: &str) -> Member {
        Member::Free
    }

    fn free(call: &str, devices: &[&str]) -> (Arc<str>, News) {
        (call.into(), News::Free(devices.iter().map(|device| (*device).to_owned()).collect()))
    }

    fn seconds(count: u64) -> Duration {
        Duration::from_secs(count)
    }

    #[test]
    fn who_has_waited_longest_gets_the_first_who_is_free_and_nobody_gets_the_same() {
        let (mut lines, now) = (Lines::default(), Instant::now());
        let queue = Queue::example("sales", &["alice", "bob"]);
        join(&mut lines, "second", &queue, now + seconds(1));
        join(&mut lines, "third", &queue, now + seconds(2));
        join(&mut lines, "first", &queue, now);
        let places = ["first", "second", "third", "nobody"].map(|call| lines.place(call));
        assert_eq!(places, [Some(1), Some(2), Some(3), None]);
        assert_eq!(lines.settle(now, all_free), vec![free("first", &["alice"]), free("second", &["bob"])]);
        assert_eq!(lines.settle(now, all_free), vec![], "both ring");
        let bob = ["bob".to_owned()];
        assert!(lines.is_offered("second", &bob) && !lines.is_offered("first", &bob));
        lines.taken("first", "alice");
        let busy = |name: &str| if name == "alice" { Member::Busy } else { Member::Free };
        assert_eq!(lines.settle(now, busy), vec![]);
        lines.leave("second");
        assert_eq!(lines.settle(now, busy), vec![free("third", &["bob"])], "whoever hung up rings no more");
    }

    #[test]
    fn callers_of_the_higher_priority_come_first_in_every_queue_of_the_same_people() {
        let (mut lines, now) = (Lines::default(), Instant::now());
        let many = Queue::example("many", &["alice"]);
        let few = Queue { priority: 5, ..Queue::example("few", &["alice"]) };
        join(&mut lines, "early", &many, now);
        join(&mut lines, "late", &few, now + seconds(60));
        assert_eq!((lines.place("late"), lines.place("early")), (Some(1), Some(1)), "each has a line of its own");
        assert_eq!(lines.settle(now, all_free), vec![free("late", &["alice"])]);
    }

    #[test]
    fn who_did_not_take_a_call_is_left_alone_for_a_moment_and_others_are_called_meanwhile() {
        let (mut lines, now) = (Lines::default(), Instant::now());
        join(&mut lines, "call", &Queue::example("q", &["alice", "bob"]), now);
        assert_eq!(lines.settle(now, all_free), vec![free("call", &["alice"])]);
        lines.declined("call", now);
        assert_eq!(lines.settle(now, all_free), vec![free("call", &["bob"])]);
        lines.declined("call", now);
        assert_eq!(lines.settle(now + seconds(9), all_free), vec![]);
        assert_eq!(lines.settle(now + CALLED_AGAIN_AFTER, all_free), vec![free("call", &["alice"])]);
    }

    #[test]
    fn after_a_call_of_the_queues_its_user_has_time_to_wrap_up_and_after_others_none() {
        let (mut lines, now) = (Lines::default(), Instant::now());
        let queue = Queue { wrap_up: seconds(30), ..Queue::example("q", &["alice"]) };
        join(&mut lines, "one", &queue, now);
        join(&mut lines, "two", &queue, now);
        assert_eq!(lines.settle(now, all_free), vec![free("one", &["alice"])]);
        lines.taken("one", "alice");
        lines.spoke("alice", now + seconds(60));
        assert_eq!(lines.settle(now + seconds(89), all_free), vec![]);
        assert_eq!(lines.settle(now + seconds(90), all_free), vec![free("two", &["alice"])]);
        lines.leave("two");
        lines.spoke("alice", now + seconds(100));
        join(&mut lines, "three", &queue, now);
        assert_eq!(lines.settle(now + seconds(100), all_free), vec![free("three", &["alice"])]);
    }

    #[test]
    fn whoever_is_idle_for_longest_is_called_or_all_who_are_free() {
        let (mut lines, now) = (Lines::default(), Instant::now());
        let idle = Queue { order: QueueOrder::LongestIdle, ..Queue::example("idle", &["alice", "bob", "carol"]) };
        lines.spoke("alice", now);
        lines.spoke("carol", now + seconds(5));
        join(&mut lines, "one", &idle, now);
        join(&mut lines, "two", &idle, now);
        assert_eq!(lines.settle(now, all_free), vec![free("one", &["bob"]), free("two", &["alice"])]);
        let all = Queue { order: QueueOrder::AtOnce, ..Queue::example("all", &["alice", "carol", "dave"]) };
        join(&mut lines, "three", &all, now);
        assert_eq!(lines.settle(now, all_free), vec![free("three", &["carol", "dave"])], "alice rings for another");
    }

    #[test]
    fn where_nobody_is_there_it_is_said_at_once_to_who_comes_and_after_a_while_to_who_waits() {
        let (mut lines, now) = (Lines::default(), Instant::now());
        let absent = |_: &str| Member::Absent;
        let queue = Queue::example("q", &["alice"]);
        join(&mut lines, "comes", &queue, now);
        assert_eq!(lines.settle(now, absent), vec![("comes".into(), News::Deserted)]);
        lines.leave("comes");
        join(&mut lines, "waits", &queue, now);
        assert_eq!(lines.settle(now + seconds(1), |_| Member::Busy), vec![]);
        assert_eq!(lines.settle(now + seconds(2), absent), vec![]);
        assert_eq!(lines.settle(now + seconds(11), absent), vec![]);
        assert_eq!(lines.settle(now + seconds(12), absent), vec![("waits".into(), News::Deserted)]);
        assert_eq!(lines.settle(now + seconds(13), absent), vec![], "once is enough for a while");
    }

    #[test]
    fn a_line_is_full_where_as_many_wait_as_may() {
        let (mut lines, now) = (Lines::default(), Instant::now());
        let queue = Queue { limit: 1, ..Queue::example("q", &["alice"]) };
        assert!(!lines.is_full(&queue));
        join(&mut lines, "one", &queue, now);
        join(&mut lines, "one", &queue, now);
        assert!(lines.is_full(&queue) && lines.waiting_in("q") == 1, "nobody stands in line twice");
        assert!(!lines.is_full(&Queue::example("other", &["alice"])));
        lines.keep(|call| call == "one");
        assert!(!lines.is_empty());
        lines.keep(|_| false);
        assert!(lines.is_empty());
    }
}
