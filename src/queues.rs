//! The line of those who wait in queues, for all calls: whoever waits is told by mail whom to call. While somebody waits, one task looks who
//! has become free: at once where a call tells so, and every second for what tells nobody (a phone that registers, a time that is over).

mod line;

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::Notify;
use tokio::time::Instant;

use self::line::{Lines, Member};
use crate::call::queue::Queue;
use crate::call::switchboard::Mail;
use crate::hub::Hub;

/// What tells nobody is looked at this often.
const LOOKED_EVERY: Duration = Duration::from_secs(1);

/// All queues of a server.
#[derive(Debug, Default)]
pub(crate) struct Queues {
    inner: Mutex<Inner>,
    changed: Notify,
}

#[derive(Debug, Default)]
struct Inner {
    lines: Lines,
    /// Devices whose users say that they take no calls, in lower case.
    away: HashSet<String>,
    /// Somebody looks who is free.
    is_looked_at: bool,
    /// Queues that it is known of how many wait.
    counted: HashSet<Arc<str>>,
}

impl Queues {
    /// Whether no more may wait in this queue.
    pub(crate) fn is_full(&self, queue: &Queue) -> bool {
        self.lock().lines.is_full(queue)
    }

    /// A call waits, as one that has since then.
    pub(crate) fn join(&self, hub: &Arc<Hub>, call: Arc<str>, queue: Arc<Queue>, since: Instant) {
        let mut inner = self.lock();
        inner.lines.join(call, queue, since);
        let begins = !std::mem::replace(&mut inner.is_looked_at, true);
        drop(inner);
        if begins {
            hub.spawn(look(Arc::clone(hub)));
        }
        self.changed.notify_one();
    }

    /// The place of a call among those of its queue, from 1.
    pub(crate) fn place(&self, call: &str) -> Option<usize> {
        self.lock().lines.place(call)
    }

    /// Whether these devices are kept for a call.
    pub(crate) fn is_offered(&self, call: &str, devices: &[String]) -> bool {
        self.lock().lines.is_offered(call, devices)
    }

    /// A call waits no more; where a device has taken it, which.
    pub(crate) fn leave(&self, call: &str, taken_by: Option<&str>) {
        match taken_by {
            Some(device) => self.lock().lines.taken(call, device),
            None => self.lock().lines.leave(call),
        }
        self.changed.notify_one();
    }

    /// Nobody of those who were called for a call has taken it.
    pub(crate) fn declined(&self, call: &str) {
        self.lock().lines.declined(call, Instant::now());
        self.changed.notify_one();
    }

    /// A device has spoken in a call, and does not any more.
    pub(crate) fn spoke(&self, device: &str) {
        self.lock().lines.spoke(device, Instant::now());
        self.changed.notify_one();
    }

    /// These devices' users say that they take no calls now, and no others.
    pub(crate) fn set_away(&self, devices: impl Iterator<Item = String>) {
        self.lock().away = devices.map(|device| device.to_lowercase()).collect();
        self.changed.notify_one();
    }

    /// Gives those who are free to those who wait, and tells these.
    fn settle(&self, hub: &Hub) {
        let busy = hub.switchboard.devices();
        let mut inner = self.lock();
        let Inner { lines, away, .. } = &mut *inner;
        let member = |name: &str| {
            let key = name.to_lowercase();
            let is_there = || hub.accounts.as_ref().is_some_and(|accounts| !accounts.bindings(name).is_empty());
            match (busy.contains(&key), away.contains(&key) || !is_there()) {
                (true, _) => Member::Busy,
                (false, true) => Member::Absent,
                (false, false) => Member::Free,
            }
        };
        // One that ended by a panic has not left.
        lines.keep(|call| hub.switchboard.address(call).is_some());
        for (call, news) in lines.settle(Instant::now(), member) {
            let address = hub.switchboard.address(&call);
            if address.is_none_or(|address| address.mail.try_send(Mail::Queue(news)).is_err()) {
                // It ends just now, or cannot keep up with its own signalling, and is ended for that.
                lines.leave(&call);
            }
        }
    }

    /// Whether nobody waits, so that nobody needs to look.
    fn is_over(&self) -> bool {
        let mut inner = self.lock();
        inner.count();
        inner.is_looked_at = !inner.lines.is_empty();
        !inner.is_looked_at
    }

    fn lock(&self) -> MutexGuard<'_, Inner> {
        self.inner.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Inner {
    /// Says how many wait.
    fn count(&mut self) {
        let counts = self.lines.counts();
        self.counted.extend(counts.keys().cloned());
        let waiting = |name: &Arc<str>| counts.get(name).copied().unwrap_or(0);
        self.counted.retain(|name| {
            metrics::gauge!("omnivox_queue_waiting", "queue" => name.to_string()).set(waiting(name) as f64);
            waiting(name) > 0
        });
    }
}

/// Looks who is free, for as long as somebody waits.
async fn look(hub: Arc<Hub>) {
    while !hub.queues.is_over() {
        hub.queues.settle(&hub);
        tokio::select! {
            () = hub.queues.changed.notified() => {}
            () = tokio::time::sleep(LOOKED_EVERY) => {}
        }
    }
}
