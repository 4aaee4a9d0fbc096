//! The caller's waits in queues.

use std::time::SystemTime;

use super::CallLog;
use crate::call::LegNo;
use crate::call::record::{QueueOutcome, QueueRecord, timestamp};

/// A caller waits in so many queues at most; whoever sends them to one more finds it full.
const QUEUES_LIMIT: usize = 8;

impl CallLog {
    /// Whether the caller may wait in one more queue.
    #[must_use]
    pub fn has_room_for_queue(&self) -> bool {
        self.record.queues.len() < QUEUES_LIMIT
    }

    /// The caller waits from here on, or waits on where somebody else wanted them meanwhile; since when.
    pub fn waits(&mut self, queue: &str, now: SystemTime) -> SystemTime {
        if let (Some(last), Some(since)) = (self.record.queues.last_mut(), self.waits_since)
            && last.outcome == QueueOutcome::PassedOn
            && last.queue == queue
        {
            last.outcome = QueueOutcome::Waiting;
            return since;
        }
        self.record.queues.push(QueueRecord {
            queue: queue.to_owned(),
            joined_at: timestamp(now),
            waited_ms: 0,
            outcome: QueueOutcome::Waiting,
            answered_by: String::new(),
        });
        self.waits_since = Some(now);
        now
    }

    /// The last wait, where somebody fetched the caller from it.
    #[must_use]
    pub fn fetched(&self) -> Option<&QueueRecord> {
        self.record.queues.last().filter(|last| last.outcome == QueueOutcome::PassedOn)
    }

    /// The wait has ended so, where there was one; the record of it.
    pub fn waited(&mut self, outcome: QueueOutcome, by: Option<LegNo>, now: SystemTime) -> Option<&QueueRecord> {
        let legs = &self.record.legs;
        let label = by.and_then(|by| legs.iter().find(|leg| leg.leg == by.0)).map(|leg| leg.label.clone());
        let since = self.waits_since?;
        let last = self.record.queues.last_mut()?;
        if !matches!(last.outcome, QueueOutcome::Waiting | QueueOutcome::PassedOn) {
            return None;
        }
        if last.outcome == QueueOutcome::Waiting {
            let waited = now.duration_since(since).unwrap_or_default().as_millis();
            last.waited_ms = u64::try_from(waited).unwrap_or(u64::MAX);
        }
        last.outcome = outcome;
        last.answered_by = label.unwrap_or_default();
        Some(last)
    }
}
