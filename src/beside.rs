//! Threads for whatever goes on beside the calls: HTTP, the control plane, traces. However much is asked there, whoever speaks on the
//! phone has other threads, and where the processors are short those of calls go first.

use std::future::Future;
use std::thread::available_parallelism;

use tokio::runtime::{Builder, Runtime};
use tokio::task::JoinHandle;

/// At most so many threads.
const MAX_THREADS: usize = 8;
/// Their niceness, as in nice(1): a third of the processor's time that a thread of calls gets beside them.
const NICENESS: i32 = 5;

/// The threads; they end when this is dropped.
#[derive(Debug)]
pub(crate) struct Beside {
    /// Taken out when it is dropped.
    runtime: Option<Runtime>,
}

impl Beside {
    /// Starts them: one for two processors.
    ///
    /// # Errors
    /// No more threads are to be had.
    pub(crate) fn start() -> std::io::Result<Self> {
        let processors = available_parallelism().map_or(1, usize::from);
        let runtime = Builder::new_multi_thread()
            .worker_threads((processors / 2).clamp(1, MAX_THREADS))
            .thread_name("beside")
            .on_thread_start(|| {
                // Linux has it for each thread. Without it they take turns with the others as equals.
                if let Err(fault) = rustix::process::setpriority_process(None, NICENESS) {
                    tracing::debug!("what goes on beside calls has their priority: {fault}");
                }
            })
            .enable_all()
            .build()?;
        Ok(Self { runtime: Some(runtime) })
    }

    /// Runs something there.
    pub(crate) fn spawn<F>(&self, future: F) -> JoinHandle<F::Output>
    where
        F: Future<Output: Send> + Send + 'static,
    {
        match &self.runtime {
            Some(runtime) => runtime.spawn(future),
            None => tokio::spawn(future),
        }
    }
}

impl Drop for Beside {
    fn drop(&mut self) {
        // Whoever drops it may be asynchronous themselves, and may not wait.
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_runs_beside_calls_yields_to_them_and_what_it_starts_does_too() {
        let niceness = || rustix::process::getpriority_process(None).unwrap();
        let own = niceness();
        let beside = Beside::start().unwrap();
        let there = beside.spawn(async move {
            let blocking = tokio::task::spawn_blocking(niceness).await.unwrap();
            (niceness(), blocking)
        });
        assert_eq!(there.await.unwrap(), (NICENESS, NICENESS));
        assert_eq!(niceness(), own);
    }
}
