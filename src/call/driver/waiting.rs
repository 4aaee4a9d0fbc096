//! A caller's wait in a queue: their place in the line of all who wait, and the phones that are called for them.

use std::sync::Arc;
use std::time::SystemTime;

use tokio::time::Instant;

use super::Driver;
use crate::call::dial::{DialGroup, DialPlan, Party};
use crate::call::place::Entry;
use crate::call::queue::{News, Queue};
use crate::call::record::{QueueOutcome, QueueRecord};
use crate::call::{Action, InLine, Input, LegNo, Phase};
use crate::config::QueueOrder;

impl Driver {
    /// Whether there is room for this call in a queue.
    pub(super) fn queue_entry(&self, queue: &Queue) -> Entry {
        match (self.log.has_room_for_queue(), self.hub.queues.is_full(queue)) {
            (true, false) => Entry::Opened,
            (true, true) if !queue.then.is_empty() => Entry::Full,
            _ => Entry::Nothing(486),
        }
    }

    pub(super) fn line(&mut self, what: InLine) {
        let (hub, call) = (Arc::clone(&self.hub), Arc::clone(&self.inbox.address.call));
        let now = SystemTime::now();
        match what {
            InLine::Join(queue) => {
                let since = self.log.waits(&queue.name, now);
                let waited = now.duration_since(since).unwrap_or_default();
                let since = Instant::now().checked_sub(waited).unwrap_or_else(Instant::now);
                tracing::info!(call = %call, "call {call}: it waits in the queue {}", queue.name);
                hub.queues.join(&hub, call, queue, since);
            }
            InLine::Declined => hub.queues.declined(&call),
            InLine::Taken(by) => {
                let device = self.leg(by).and_then(|leg| leg.device.clone());
                hub.queues.leave(&call, device.as_deref());
                self.note_waited(QueueOutcome::Answered, Some(by), now);
            }
            InLine::Leave(queue, outcome) => {
                hub.queues.leave(&call, None);
                if outcome == QueueOutcome::Full {
                    self.log.waits(&queue.name, now);
                }
                self.note_waited(outcome, None, now);
            }
            InLine::TellPlace(no) => {
                let place = hub.queues.place(&call);
                if let Phase::Queued(queueing) = &self.phase
                    && let Some(summary) = place.and_then(|place| queueing.queue().told_at(place))
                {
                    self.perform(Action::Announce { leg: no, summary, must_accept: false });
                }
            }
        }
    }

    fn note_waited(&mut self, outcome: QueueOutcome, by: Option<LegNo>, now: SystemTime) {
        let Some(record) = self.log.waited(outcome, by, now) else { return };
        // They may come back: it counts once the call is over.
        if outcome != QueueOutcome::PassedOn {
            count(record);
        }
    }

    /// The call is over: a caller who was fetched from a queue has not come back.
    pub(super) fn note_fetched(&self) {
        if let Some(fetched) = self.log.fetched() {
            count(fetched);
        }
    }

    /// Those who are free are to be called, or none of the queue's people is there.
    pub(super) fn queue_news(&mut self, news: News) {
        let Phase::Queued(queueing) = &self.phase else { return };
        let queue = Arc::clone(queueing.queue());
        let devices = match news {
            News::Deserted => return self.queue.push(Input::Deserted),
            News::Free(devices) if self.hub.queues.is_offered(&self.inbox.address.call, &devices) => devices,
            // The caller has left the line meanwhile, and may have come back.
            News::Free(_) => return,
        };
        match self.phones_of(&queue, &devices) {
            Some(plan) => self.queue.push(Input::Offered(Arc::new(plan))),
            // Their phones are gone meanwhile.
            None => self.hub.queues.declined(&self.inbox.address.call),
        }
    }

    /// How these devices are called for the caller.
    fn phones_of(&self, queue: &Queue, devices: &[String]) -> Option<DialPlan> {
        let dialer = self.hub.dialer();
        let party = Party { diverted: self.history.diverted.clone(), ..self.server() };
        let plans = devices.iter().filter_map(|device| dialer.phones(device, &party));
        let mut branches: Vec<_> =
            plans.flat_map(|plan| plan.groups).flat_map(|group: DialGroup| group.branches).collect();
        branches.iter_mut().for_each(|branch| branch.headers.extend(queue.headers.iter().cloned()));
        if branches.is_empty() {
            return None;
        }
        let groups = vec![DialGroup { branches, ring_for: queue.ring_for }];
        // Where several people are called one who declines speaks for nobody else.
        let also_after = if queue.order == QueueOrder::AtOnce { vec![600, 603] } else { Vec::new() };
        Some(DialPlan { groups, also_after, queue: Some(Arc::clone(&queue.name)) })
    }
}

/// Counts a wait that is over.
fn count(wait: &QueueRecord) {
    let (queue, outcome) = (wait.queue.clone(), wait.outcome.as_str());
    metrics::counter!("omnivox_queue_left_total", "queue" => queue.clone(), "outcome" => outcome).increment(1);
    metrics::histogram!("omnivox_queue_wait_seconds", "queue" => queue).record(wait.waited_ms as f64 / 1_000.0);
}
