//! A panic, of ours or of the handler of events, costs the message, the timers' turn, the command or the connection at which it happens. All
//! signalling runs on this thread: it goes on.

use std::cell::Cell;
use std::future::{Future, poll_fn};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::pin::pin;
use std::task::Poll;

thread_local! {
    /// Faults on this thread so far.
    static FAULTS: Cell<u64> = const { Cell::new(0) };
}

/// How many there were on this thread.
pub(super) fn count() -> u64 {
    FAULTS.get()
}

/// Takes a step; `None` where it panicked.
pub(super) fn guarded<T>(what: &str, step: impl FnOnce() -> T) -> Option<T> {
    // A step leaves the endpoint between two of its changes at worst: what it holds is bounded and ends by timers.
    catch_unwind(AssertUnwindSafe(step)).inspect_err(|_| log(what)).ok()
}

/// The same for what takes its time.
pub(super) async fn guarded_task<T>(what: &str, task: impl Future<Output = T>) -> Option<T> {
    let mut task = pin!(task);
    poll_fn(|cx| match catch_unwind(AssertUnwindSafe(|| task.as_mut().poll(cx))) {
        Ok(poll) => poll.map(Some),
        Err(_) => {
            log(what);
            Poll::Ready(None)
        }
    })
    .await
}

fn log(what: &str) {
    FAULTS.set(FAULTS.get() + 1);
    tracing::error!("a fault of this program in {what}: signalling goes on");
}
