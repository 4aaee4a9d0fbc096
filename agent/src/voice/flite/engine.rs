//! The one thread that owns Flite, and the bounded queue before it.
//!
//! Flite's voices hold state and its reference counts are not atomic, so nothing of it runs in parallel. One thread is
//! enough: it makes about 100 seconds of speech a second, sentence by sentence in the order of asking, so that a long
//! text of one call delays another's by one sentence at most. A sentence whose reader is gone is stopped or skipped.

use std::ffi::CString;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread;

use tokio::sync::mpsc;

use super::sys::{Flite, Next, Speaker};
use crate::voice::VoiceError;

/// How many sentences may wait for the thread.
pub(super) const MAX_WAITING: usize = 256;

/// How many pieces of one sentence (20 ms each) may wait for their reader: more than the longest sentence has.
const MAX_PIECES: usize = 8192;

/// A part of the answer to [`speak`].
pub(super) enum Piece {
    /// Samples at a rate.
    Pcm(Vec<i16>, u32),
    /// That was all. A channel closed without it means that the engine failed.
    Done,
}

struct Job {
    speaker: Speaker,
    text: CString,
    stretch: f32,
    reply: mpsc::Sender<Piece>,
}

struct Engine {
    jobs: SyncSender<Job>,
    waiting: &'static AtomicUsize,
}

static WAITING: AtomicUsize = AtomicUsize::new(0);

/// Queues one sentence; `stretch` is its length over the voice's own. Dropping the receiver cancels it.
pub(super) fn speak(speaker: Speaker, text: &str, stretch: f32) -> Result<mpsc::Receiver<Piece>, VoiceError> {
    let engine = engine()?;
    let text = CString::new(text).map_err(|_| failed("the text holds a zero byte"))?;
    let (reply, pieces) = mpsc::channel(MAX_PIECES);
    engine.waiting.fetch_add(1, Ordering::Relaxed);
    engine.jobs.try_send(Job { speaker, text, stretch, reply }).map_err(|error| {
        let waiting = engine.waiting.fetch_sub(1, Ordering::Relaxed);
        match error {
            TrySendError::Full(_) => VoiceError::Busy { engine: "flite", waiting },
            TrySendError::Disconnected(_) => failed("its thread has ended"),
        }
    })?;
    Ok(pieces)
}

/// The error for a fault inside.
pub(super) fn failed(what: &str) -> VoiceError {
    VoiceError::Engine { engine: "flite", what: what.to_owned() }
}

fn engine() -> Result<&'static Engine, VoiceError> {
    static ENGINE: OnceLock<Result<Engine, VoiceError>> = OnceLock::new();
    ENGINE
        .get_or_init(|| {
            let (jobs, queue) = sync_channel(MAX_WAITING);
            thread::Builder::new()
                .name("flite".into())
                .spawn(move || work(&queue))
                .map_err(|error| failed(&format!("its thread does not start: {error}")))?;
            Ok(Engine { jobs, waiting: &WAITING })
        })
        .as_ref()
        .map_err(Clone::clone)
}

#[allow(unsafe_code)]
fn work(queue: &Receiver<Job>) {
    // SAFETY: `engine` starts this thread once per process, and the value never leaves it.
    let mut flite = unsafe { Flite::new() };
    while let Ok(job) = queue.recv() {
        WAITING.fetch_sub(1, Ordering::Relaxed);
        if job.reply.is_closed() {
            continue;
        }
        let spoken = flite.speak(job.speaker, &job.text, job.stretch, &mut |pcm, rate_hz| match job
            .reply
            .try_send(Piece::Pcm(pcm.to_vec(), rate_hz))
        {
            Ok(()) => Next::Continue,
            Err(_) => Next::Stop,
        });
        if spoken {
            // A reader that is gone needs no end.
            let _ = job.reply.try_send(Piece::Done);
        }
    }
}
