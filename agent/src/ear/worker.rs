//! Engines on a few threads: what embedded recognisers share.
//!
//! Each open stream has an inbox (audio, bounded) and an outbox (the newest partial and the one final hypothesis, so
//! bounded by nature). A stream with something in its inbox stands in the pool's queue once; a thread takes it, feeds its
//! engine at most [`SLICE`] of audio, and queues it again behind the others if more is left.

use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll, Waker};
use std::thread;
use std::time::Duration;

use codecs::pcm::SampleRate;
use codecs::resample::Resampler;

use super::{EarError, Hypothesis, MAX_UTTERANCE, RecognizerStream};

/// The rate that engines hear.
pub(super) const ENGINE_RATE: SampleRate = SampleRate::HZ_16000;

/// The most audio an engine is fed before another stream has its turn.
const SLICE: Duration = Duration::from_millis(1_000);

/// An engine hearing one utterance. Its methods run on a pool's thread and may take their time.
pub(super) trait Engine: Send {
    /// Takes audio at [`ENGINE_RATE`]; gives a partial hypothesis where there is a new one.
    fn hear(&mut self, pcm: &[i16]) -> Result<Option<Hypothesis>, EarError>;

    /// Ends the utterance with its final hypothesis.
    fn conclude(&mut self) -> Result<Hypothesis, EarError>;
}

/// Builds an engine on a pool's thread, for loading a model takes long; the flag is set when the stream is cancelled.
pub(super) type MakeEngine = Box<dyn FnOnce(Arc<AtomicBool>) -> Result<Box<dyn Engine>, EarError> + Send>;

/// A pool of threads for one provider.
pub(super) struct Workers {
    pool: Arc<Pool>,
    limits: Limits,
}

/// What a pool allows.
#[derive(Clone, Copy, Debug)]
pub(super) struct Limits {
    /// The provider, for errors.
    pub(super) provider: &'static str,
    /// Streams open at once.
    pub(super) streams: usize,
    /// Audio waiting for the engine.
    pub(super) backlog: Duration,
}

struct Pool {
    queue: Mutex<Queue>,
    work: Condvar,
    open: AtomicUsize,
}

#[derive(Default)]
struct Queue {
    cells: VecDeque<Arc<Cell>>,
    jobs: VecDeque<Box<dyn FnOnce() + Send>>,
    closed: bool,
}

/// One stream, shared by its owner and the pool.
struct Cell {
    pool: Arc<Pool>,
    inbox: Mutex<Inbox>,
    outbox: Mutex<Outbox>,
    engine: Mutex<EngineSlot>,
    cancelled: Arc<AtomicBool>,
}

#[derive(Default)]
struct Inbox {
    audio: VecDeque<i16>,
    finished: bool,
    failed: Option<EarError>,
    queued: bool,
}

#[derive(Default)]
struct Outbox {
    partial: Option<Hypothesis>,
    last: Option<Hypothesis>,
    ended: bool,
    waker: Option<Waker>,
}

enum EngineSlot {
    Unmade(MakeEngine, Resampler),
    Made(Box<dyn Engine>, Resampler),
    Gone,
}

impl Workers {
    /// Starts `threads` threads.
    pub(super) fn start(limits: Limits, threads: usize) -> Result<Self, EarError> {
        let pool = Arc::new(Pool { queue: Mutex::default(), work: Condvar::new(), open: AtomicUsize::new(0) });
        for number in 0..threads.max(1) {
            let pool = Arc::clone(&pool);
            let name = format!("ear-{}-{number}", limits.provider);
            let spawned = thread::Builder::new().name(name).spawn(move || pool.run());
            spawned.map_err(|error| EarError::Engine {
                provider: limits.provider,
                reason: format!("its thread could not be started: {error}"),
            })?;
        }
        Ok(Self { pool, limits })
    }

    /// Opens a stream at `rate`; the engine is made when the first audio comes.
    pub(super) fn open(&self, rate: SampleRate, make: MakeEngine) -> Result<Box<dyn RecognizerStream>, EarError> {
        let Limits { provider, streams, .. } = self.limits;
        let resampler = Resampler::new(rate, ENGINE_RATE).map_err(|_| EarError::WrongRate {
            provider,
            wanted: "8000 to 48000",
            got_hz: rate.hz(),
        })?;
        if self.pool.open.fetch_add(1, Ordering::AcqRel) >= streams {
            self.pool.open.fetch_sub(1, Ordering::AcqRel);
            return Err(EarError::Busy { provider, limit: streams });
        }
        let cell = Arc::new(Cell {
            pool: Arc::clone(&self.pool),
            inbox: Mutex::default(),
            outbox: Mutex::default(),
            engine: Mutex::new(EngineSlot::Unmade(make, resampler)),
            cancelled: Arc::default(),
        });
        Ok(Box::new(PooledStream { cell, limits: self.limits, rate, pushed: 0 }))
    }

    /// Runs a job on one of the threads, when no stream waits.
    pub(super) fn run_when_idle(&self, job: Box<dyn FnOnce() + Send>) {
        lock(&self.pool.queue).jobs.push_back(job);
        self.pool.work.notify_one();
    }
}

impl Drop for Workers {
    fn drop(&mut self) {
        // Streams still open are served to their end; then the threads leave.
        lock(&self.pool.queue).closed = true;
        self.pool.work.notify_all();
    }
}

impl Pool {
    fn run(&self) {
        loop {
            let mut queue = lock(&self.queue);
            let cell = loop {
                if let Some(cell) = queue.cells.pop_front() {
                    break cell;
                }
                if let Some(job) = queue.jobs.pop_front() {
                    drop(queue);
                    // A job that panics takes nothing with it but itself.
                    let _ = catch_unwind(AssertUnwindSafe(job));
                    queue = lock(&self.queue);
                    continue;
                }
                if queue.closed && self.open.load(Ordering::Acquire) == 0 {
                    return;
                }
                queue = self.work.wait(queue).unwrap_or_else(PoisonError::into_inner);
            };
            drop(queue);
            cell.work();
        }
    }

    fn enqueue(&self, cell: Arc<Cell>) {
        lock(&self.queue).cells.push_back(cell);
        self.work.notify_one();
    }
}

/// What a thread found in an inbox.
enum Task {
    Hear(Vec<i16>),
    Conclude,
    Fail(EarError),
    Nothing,
}

impl Cell {
    fn work(self: Arc<Self>) {
        if self.cancelled.load(Ordering::Acquire) {
            *lock(&self.engine) = EngineSlot::Gone;
            return;
        }
        let outcome = match self.take_task() {
            Task::Nothing => return,
            Task::Fail(error) => Err(error),
            task => {
                let mut slot = lock(&self.engine);
                catch_unwind(AssertUnwindSafe(|| slot.perform(task, &self.cancelled)))
                    .unwrap_or_else(|_| Err(EarError::Engine { provider: "ear", reason: "the engine panicked".into() }))
            }
        };
        let ended = self.report(outcome);
        if ended {
            *lock(&self.engine) = EngineSlot::Gone;
            return;
        }
        let mut inbox = lock(&self.inbox);
        let idle = inbox.audio.is_empty() && !inbox.finished && inbox.failed.is_none();
        if idle && !self.cancelled.load(Ordering::Acquire) {
            inbox.queued = false;
        } else {
            drop(inbox);
            let pool = Arc::clone(&self.pool);
            pool.enqueue(self);
        }
    }

    fn take_task(&self) -> Task {
        let mut inbox = lock(&self.inbox);
        if let Some(error) = inbox.failed.take() {
            return Task::Fail(error);
        }
        // In samples at the stream's own rate, of which there are at least 8 a millisecond.
        let most = inbox.audio.len().min(8 * SLICE.as_millis() as usize);
        if most > 0 {
            return Task::Hear(inbox.audio.drain(..most).collect());
        }
        if inbox.finished {
            return Task::Conclude;
        }
        inbox.queued = false;
        Task::Nothing
    }

    /// Puts the outcome where the owner finds it; tells whether the stream is at its end.
    fn report(&self, outcome: Result<Option<Hypothesis>, EarError>) -> bool {
        let mut outbox = lock(&self.outbox);
        if outbox.ended {
            return true;
        }
        match outcome {
            Ok(None) => return false,
            Ok(Some(partial @ Hypothesis::Partial { .. })) => outbox.partial = Some(partial),
            Ok(Some(last)) => (outbox.last, outbox.ended) = (Some(last), true),
            Err(error) => (outbox.last, outbox.ended) = (Some(Hypothesis::Failed(error)), true),
        }
        let ended = outbox.ended;
        let waker = outbox.waker.take();
        drop(outbox);
        if let Some(waker) = waker {
            waker.wake();
        }
        ended
    }

    fn add(self: &Arc<Self>, change: impl FnOnce(&mut Inbox)) {
        let mut inbox = lock(&self.inbox);
        change(&mut inbox);
        if !std::mem::replace(&mut inbox.queued, true) {
            drop(inbox);
            self.pool.enqueue(Arc::clone(self));
        }
    }
}

impl EngineSlot {
    fn perform(&mut self, task: Task, cancelled: &Arc<AtomicBool>) -> Result<Option<Hypothesis>, EarError> {
        if let EngineSlot::Unmade(..) = self
            && let EngineSlot::Unmade(make, resampler) = std::mem::replace(self, EngineSlot::Gone)
        {
            *self = EngineSlot::Made(make(Arc::clone(cancelled))?, resampler);
        }
        let EngineSlot::Made(engine, resampler) = self else { return Ok(None) };
        match task {
            Task::Hear(audio) => {
                let mut pcm = vec![0; resampler.max_output(audio.len())];
                let len = resampler.process(&audio, &mut pcm);
                engine.hear(pcm.get(..len).unwrap_or_default())
            }
            Task::Conclude => engine.conclude().map(Some),
            Task::Fail(error) => Err(error),
            Task::Nothing => Ok(None),
        }
    }
}

/// The owner's end.
struct PooledStream {
    cell: Arc<Cell>,
    limits: Limits,
    rate: SampleRate,
    pushed: usize,
}

impl RecognizerStream for PooledStream {
    fn push(&mut self, pcm: &[i16]) -> Result<(), EarError> {
        let mut refused = None;
        self.pushed += pcm.len();
        let (too_long, rate) = (self.pushed > self.rate.samples_in(MAX_UTTERANCE), self.rate);
        let backlog = rate.samples_in(self.limits.backlog);
        {
            let inbox = lock(&self.cell.inbox);
            if inbox.finished || inbox.failed.is_some() || self.cell.cancelled.load(Ordering::Acquire) {
                return Err(EarError::Closed);
            }
            if too_long {
                refused = Some(EarError::TooLong { limit_ms: MAX_UTTERANCE.as_millis() as u32 });
            } else if inbox.audio.len() + pcm.len() > backlog {
                let backlog_ms = (inbox.audio.len() as u64 * 1_000 / u64::from(rate.hz().max(1))) as u32;
                refused = Some(EarError::Overloaded { backlog_ms });
            }
        }
        match refused {
            None => {
                self.cell.add(|inbox| inbox.audio.extend(pcm));
                Ok(())
            }
            Some(error) => {
                self.cell.add(|inbox| {
                    inbox.audio.clear();
                    inbox.failed = Some(error.clone());
                    inbox.finished = true;
                });
                Err(error)
            }
        }
    }

    fn finish(&mut self) {
        if !self.cell.cancelled.load(Ordering::Acquire) {
            self.cell.add(|inbox| inbox.finished = true);
        }
    }

    fn cancel(&mut self) {
        self.cell.cancelled.store(true, Ordering::Release);
        let mut outbox = lock(&self.cell.outbox);
        *outbox = Outbox { ended: true, waker: outbox.waker.take(), ..Outbox::default() };
        let waker = outbox.waker.take();
        drop(outbox);
        // A thread meets the flag and lets the engine go.
        self.cell.add(|inbox| inbox.audio.clear());
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    fn poll_hypothesis(&mut self, cx: &mut Context<'_>) -> Poll<Option<Hypothesis>> {
        let mut outbox = lock(&self.cell.outbox);
        if let Some(partial) = outbox.partial.take()
            && outbox.last.is_none()
        {
            return Poll::Ready(Some(partial));
        }
        if let Some(last) = outbox.last.take() {
            return Poll::Ready(Some(last));
        }
        if outbox.ended {
            return Poll::Ready(None);
        }
        outbox.waker = Some(cx.waker().clone());
        Poll::Pending
    }
}

impl Drop for PooledStream {
    fn drop(&mut self) {
        self.cancel();
        self.cell.pool.open.fetch_sub(1, Ordering::AcqRel);
        self.cell.pool.work.notify_all();
    }
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
