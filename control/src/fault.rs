//! A fault of this program (a panic) in one of the things that run beside the calls ends neither it for good nor the others.

use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::time::Duration;

use futures::FutureExt as _;
use tokio_util::sync::CancellationToken;

/// What failed begins again after so long.
const AGAIN_AFTER: Duration = Duration::from_secs(1);

/// Runs something until `stop`, from the beginning again where it panics before.
pub async fn kept_running<T: Future<Output = ()>>(
    what: &str,
    stop: &CancellationToken,
    begin: impl Fn(CancellationToken) -> T,
) {
    // What it holds is in the database and on the disk; what it had in memory is gone with it.
    while AssertUnwindSafe(begin(stop.clone())).catch_unwind().await.is_err() {
        metrics::counter!("omnivox_panics_total", "part" => "control").increment(1);
        tracing::error!("a fault of this program ended {what}: it begins again");
        if stop.is_cancelled() {
            return;
        }
        tokio::time::sleep(AGAIN_AFTER).await;
    }
}

#[cfg(test)]
#[allow(clippy::panic)]
mod tests {
    use std::cell::Cell;

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn what_panics_begins_again_until_it_ends() {
        let (begun, stop) = (Cell::new(0), CancellationToken::new());
        let fails = || async { panic!("on purpose") };
        kept_running("a test", &stop, |_| async {
            begun.set(begun.get() + 1);
            tokio::task::yield_now().await;
            assert!(begun.get() >= 3, "on purpose");
        })
        .await;
        assert_eq!(begun.get(), 3);
        stop.cancel();
        kept_running("what fails to the end", &stop, |_| fails()).await;
    }
}
