//! The threads that write recordings, and how sound gets to them.
//!
//! A worker puts blocks into a bounded ring ([`RecordSink::push`]) and never waits: what does not fit is dropped and
//! counted. A recording may have several such rings over its life, one for each leg that is in it ([`Recording::sink`]). Its thread looks at
//! all rings twenty times a second, aligns what came, encodes it, appends it to the files and brings them up to date five times a second,
//! so that after a kill a file is whole up to its last second. A file that cannot be written ends its recording with an
//! event; the call and the other recordings go on.

mod file;

use std::io;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use codecs::pcm::SampleRate;
use ringbuf::traits::{Consumer, Observer, Producer, Split};
use ringbuf::{HeapCons, HeapProd, HeapRb};
use thiserror::Error;

use self::file::RecordFile;
use super::link::LegCell;
use crate::config::RecorderConfig;
use crate::recorder::opus::nearest_rate;
use crate::recorder::tone::RecordTone;
use crate::recorder::{Aligner, BLOCK_SAMPLES, RecordBlock, RecordFormat, Side, Track};
use crate::sealed::SealError;

/// Blocks between a worker and the thread: 1.28 s of both sides in blocks of 20 ms.
const RING_BLOCKS: usize = 128;
/// New recordings, and new sources of recordings, that wait for a thread.
const MAX_WAITING: usize = 1_024;
/// How often the thread looks at the rings.
const ROUND: Duration = Duration::from_millis(50);
/// How often a file is brought up to date.
const WRITE_EVERY: Duration = Duration::from_millis(200);
/// The later side has this long to come: what the network may become slower by, all at once.
const HOLD: Duration = Duration::from_millis(400);
/// How far sources may lie apart.
const WINDOW: Duration = Duration::from_secs(1);
/// A leap of the timeline beyond this is a fault, no silence.
const MAX_GAP: Duration = Duration::from_secs(3_600);

/// What happened to a recording.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RecordEvent {
    /// The file is complete.
    Finished {
        /// The file.
        path: PathBuf,
        /// Its length.
        samples: u64,
        /// Samples of one side that came too late to be written.
        late_samples: u64,
    },
    /// The file could not be written further; it holds what came before.
    Failed {
        /// The file.
        path: PathBuf,
        /// What the system said.
        reason: String,
    },
}

/// Why a recording could not begin.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum RecordError {
    /// The file could not be made.
    #[error("recording {}: {source}: {mend}", path.display())]
    Create {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
        /// What to do about it.
        mend: String,
    },
    /// It could not be sealed.
    #[error("recording {}: {source}", path.display())]
    Seal {
        /// The file.
        path: PathBuf,
        /// What failed.
        source: SealError,
    },
    /// The sound cannot be encoded or converted.
    #[error("recording {}: {source}", path.display())]
    Codec {
        /// The file.
        path: PathBuf,
        /// What failed.
        source: codecs::CodecError,
    },
    /// The thread has ended or cannot be started, or a thousand recordings wait for it.
    #[error("recording {}: the recorder takes no more: {why}", path.display())]
    Busy {
        /// The file.
        path: PathBuf,
        /// Which of these.
        why: &'static str,
    },
}

/// The threads' owner: they are started as recordings need them. When it is dropped, all recordings are completed and the threads end.
#[derive(Debug)]
pub struct Recorder {
    threads: Vec<Mutex<Option<Writer>>>,
    next: AtomicUsize,
}

/// One thread.
#[derive(Debug)]
struct Writer {
    commands: SyncSender<Command>,
    thread: JoinHandle<()>,
}

/// What a thread is told.
enum Command {
    Begin(Box<Written>),
    /// A source of a recording.
    Source(u64, Box<Source>),
    Stop,
}

impl Recorder {
    /// A recorder of so many threads at most, one at least.
    #[must_use]
    pub fn new(threads: usize) -> Arc<Recorder> {
        let threads = (0..threads.max(1)).map(|_| Mutex::new(None)).collect();
        Arc::new(Recorder { threads, next: AtomicUsize::new(0) })
    }

    /// A recording that is about to be made: its file is made, and its timeline begins, with its first source. `on_event` is called once,
    /// on the recorder's thread, when the recording is complete or has failed.
    #[must_use]
    pub fn open(
        self: &Arc<Self>,
        config: RecorderConfig,
        on_event: impl FnOnce(RecordEvent) + Send + 'static,
    ) -> Recording {
        let state = Mutex::new(State::Planned(Box::new(on_event)));
        let (recorder, fate) = (Arc::downgrade(self), Arc::default());
        Recording { shared: Arc::new(Shared { config, recorder, fate, state }) }
    }

    /// The thread whose turn it is, and a number for a recording on it.
    fn writer(&self) -> Result<(SyncSender<Command>, u64), &'static str> {
        let number = self.next.fetch_add(1, Ordering::Relaxed);
        let place = self.threads.get(number % self.threads.len().max(1)).ok_or("it has no thread")?;
        let mut place = lock(place);
        let writer = match &mut *place {
            Some(writer) => writer,
            none => none.insert(Writer::start().map_err(|_| "its thread cannot be started")?),
        };
        Ok((writer.commands.clone(), number as u64))
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        let writers: Vec<Writer> = self.threads.iter_mut().filter_map(|place| lock(place).take()).collect();
        for writer in &writers {
            // It takes what waits; it cannot have gone otherwise than by a panic.
            let _ = writer.commands.send(Command::Stop);
        }
        for writer in writers {
            // a panic there has been reported on stderr; there is nothing to add while dropping
            let _ = writer.thread.join();
        }
    }
}

impl Writer {
    fn start() -> io::Result<Writer> {
        let (commands, waiting) = sync_channel(MAX_WAITING);
        let thread = std::thread::Builder::new().name(String::from("recorder")).spawn(move || run(&waiting))?;
        Ok(Writer { commands, thread })
    }
}

/// A recording, as whoever wants it made holds it; clones share it. It is complete once the last clone and all its sinks are gone.
#[derive(Clone)]
pub struct Recording {
    shared: Arc<Shared>,
}

struct Shared {
    config: RecorderConfig,
    recorder: Weak<Recorder>,
    fate: Arc<Fate>,
    state: Mutex<State>,
}

enum State {
    Planned(OnEvent),
    Running {
        number: u64,
        commands: SyncSender<Command>,
        rate: SampleRate,
        start: Instant,
        _held: Arc<()>,
    },
    /// It could not begin.
    Refused,
}

impl Recording {
    /// The file.
    #[must_use]
    pub fn path(&self) -> &std::path::Path {
        &self.shared.config.path
    }

    pub(super) fn fate(&self) -> &Arc<Fate> {
        &self.shared.fate
    }

    /// A way for a source to be recorded: its samples are of `rate`, its timeline began at `began`, its peer is on the side `peer`, and what
    /// is played to its peer on the other. The first source begins the recording: at its rate, unless the configuration says another.
    ///
    /// # Errors
    /// The file cannot be made, or the recorder takes no more.
    pub fn sink(&self, rate: SampleRate, began: Instant, peer: Side) -> Result<RecordSink, RecordError> {
        let config = &self.shared.config;
        let busy = |why| RecordError::Busy { path: config.path.clone(), why };
        let mut state = lock(&self.shared.state);
        let (number, commands, to, start) = match &*state {
            State::Running { number, commands, rate, start, .. } => (*number, commands.clone(), *rate, *start),
            State::Refused => return Err(busy("it could not begin")),
            State::Planned(_) => {
                let State::Planned(on_event) = std::mem::replace(&mut *state, State::Refused) else {
                    return Err(busy("it could not begin"));
                };
                let recorder = self.shared.recorder.upgrade().ok_or(busy("it has been shut down"))?;
                let wanted = config.rate.unwrap_or(rate);
                let to = if config.format == RecordFormat::Opus { nearest_rate(wanted) } else { wanted };
                let file = RecordFile::create(config, to)?;
                let (commands, number) = recorder.writer().map_err(busy)?;
                let held = Arc::new(());
                let ends =
                    Ends { held: Arc::downgrade(&held), fate: Arc::clone(&self.shared.fate), on_event: Some(on_event) };
                let written = Written::new(number, config.path.clone(), to, file, ends);
                send(&commands, Command::Begin(Box::new(written))).map_err(busy)?;
                *state = State::Running { number, commands: commands.clone(), rate: to, start: began, _held: held };
                (number, commands, to, began)
            }
        };
        let track = Track::new(rate, to, start, began);
        let track = track.map_err(|source| RecordError::Codec { path: config.path.clone(), source })?;
        let (blocks, taken) = HeapRb::new(RING_BLOCKS).split();
        send(&commands, Command::Source(number, Box::new(Source { blocks: taken, track }))).map_err(busy)?;
        let tone = config.tone_every.map(|every| RecordTone::new(rate, every));
        Ok(RecordSink { blocks, peer, tone, dropped_blocks: 0 })
    }
}

impl std::fmt::Debug for Recording {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Recording").field("path", &self.shared.config.path).finish_non_exhaustive()
    }
}

fn send(commands: &SyncSender<Command>, command: Command) -> Result<(), &'static str> {
    commands.try_send(command).map_err(|refused| match refused {
        TrySendError::Full(_) => "too many recordings begin at once",
        TrySendError::Disconnected(_) => "it has been shut down",
    })
}

/// A worker's end of a recording.
pub struct RecordSink {
    blocks: HeapProd<RecordBlock>,
    peer: Side,
    tone: Option<RecordTone>,
    dropped_blocks: u64,
}

impl std::fmt::Debug for RecordSink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RecordSink").field("dropped_blocks", &self.dropped_blocks).finish_non_exhaustive()
    }
}

impl RecordSink {
    /// Whether the peer is told of the recording by a tone.
    pub fn has_tone(&self) -> bool {
        self.tone.is_some()
    }

    /// Adds the tone that tells the peer of the recording to what is played at `at_samples`; whether there was any.
    pub fn add_tone(&mut self, at_samples: u64, frame: &mut [i16]) -> bool {
        self.tone.as_mut().is_some_and(|tone| tone.add(at_samples, frame))
    }

    /// Hands over what the peer said, as [`push`](Self::push) does.
    pub fn push_peer(&mut self, at_samples: u64, pcm: &[i16]) -> u64 {
        self.push(self.peer, at_samples, pcm)
    }

    /// Hands over what was played to the peer, as [`push`](Self::push) does.
    pub fn push_played(&mut self, at_samples: u64, pcm: &[i16]) -> u64 {
        self.push(self.peer.other(), at_samples, pcm)
    }

    /// Hands over sound of one side that begins at `at_samples` of the source's timeline. Takes no lock, allocates nothing and
    /// never waits; returns how many blocks had to be dropped.
    pub fn push(&mut self, side: Side, at_samples: u64, pcm: &[i16]) -> u64 {
        let mut dropped = 0;
        let starts = (at_samples..).step_by(BLOCK_SAMPLES);
        for (at, piece) in starts.zip(pcm.chunks(BLOCK_SAMPLES)) {
            dropped += u64::from(self.blocks.try_push(RecordBlock::new(side, at, piece)).is_err());
        }
        self.dropped_blocks += dropped;
        dropped
    }

    /// Blocks dropped so far because the ring was full.
    pub fn dropped_blocks(&self) -> u64 {
        self.dropped_blocks
    }

    /// Whether the recording has ended by a fault: what is pushed goes nowhere.
    pub fn is_closed(&self) -> bool {
        !self.blocks.read_is_held()
    }
}

type OnEvent = Box<dyn FnOnce(RecordEvent) + Send>;

/// What a thread tells the legs in a recording: how it broke off.
#[derive(Default)]
pub(super) struct Fate {
    has_failed: AtomicBool,
    reason: Mutex<Option<String>>,
    legs: Mutex<Vec<Weak<LegCell>>>,
}

impl Fate {
    /// A leg is to be woken.
    pub(super) fn concerns(&self, leg: &Arc<LegCell>) {
        let mut legs = lock(&self.legs);
        legs.retain(|leg| leg.strong_count() > 0);
        legs.push(Arc::downgrade(leg));
    }

    /// Why it broke off, once.
    pub(super) fn take(&self) -> Option<String> {
        if self.has_failed.load(Ordering::Acquire) { lock(&self.reason).take() } else { None }
    }

    fn fail(&self, reason: String) {
        *lock(&self.reason) = Some(reason);
        self.has_failed.store(true, Ordering::Release);
        for leg in lock(&self.legs).drain(..).filter_map(|leg| leg.upgrade()) {
            leg.wake();
        }
    }
}

/// Who holds a recording, and who is told of its end.
struct Ends {
    /// Whoever holds the recording: more sources may come.
    held: Weak<()>,
    fate: Arc<Fate>,
    on_event: Option<OnEvent>,
}

/// Where one leg's sound comes from.
struct Source {
    blocks: HeapCons<RecordBlock>,
    track: Track,
}

/// One recording that is being written.
struct Written {
    number: u64,
    path: PathBuf,
    rate: SampleRate,
    file: RecordFile,
    aligner: Aligner,
    sources: Vec<Source>,
    ends: Ends,
    is_open: bool,
    written: Instant,
}

impl Written {
    fn new(number: u64, path: PathBuf, rate: SampleRate, file: RecordFile, ends: Ends) -> Written {
        let aligner = Aligner::new(rate.samples_in(WINDOW), rate.samples_in(MAX_GAP) as u64);
        let (sources, written) = (Vec::new(), Instant::now());
        Written { number, path, rate, file, aligner, sources, ends, is_open: true, written }
    }

    /// Takes what came and writes it. Returns whether there is more to come.
    fn round(&mut self) -> bool {
        let (mut came, mut any_open) = (false, false);
        let mut result = Ok(());
        let (file, aligner) = (&mut self.file, &mut self.aligner);
        self.sources.retain_mut(|source| {
            // asked first: what is pushed before the sink is dropped is then in the ring
            let open = source.blocks.write_is_held();
            match source.take(file, aligner) {
                Ok(some) => came |= some,
                Err(fault) => result = Err(fault),
            }
            any_open |= open;
            open
        });
        let open = self.is_open || any_open;
        match result.and_then(|()| self.write(open, came)) {
            Ok(()) if open => {}
            Ok(()) => self.tell_finished(),
            Err(fault) => {
                self.fail(&fault);
                return false;
            }
        }
        open
    }

    /// Takes what is ready out of the window. It is written, and the file brought up to date behind it, only so often, as each is a system call.
    fn write(&mut self, open: bool, came: bool) -> io::Result<()> {
        let is_time = self.written.elapsed() >= WRITE_EVERY;
        let file = &mut self.file;
        if came && open {
            self.aligner.take_older(self.rate.samples_in(HOLD) as u64, |sound| file.take(sound));
        } else if !open || is_time {
            self.aligner.take_all(|sound| file.take(sound));
        }
        if !open {
            return self.file.finish();
        }
        if is_time {
            self.written = Instant::now();
            self.file.write()?;
        }
        Ok(())
    }

    /// Completes the file, whoever still has a sink.
    fn complete(&mut self) {
        self.is_open = false;
        let mut sources = std::mem::take(&mut self.sources);
        let taken = sources.iter_mut().try_for_each(|source| source.take(&mut self.file, &mut self.aligner).map(drop));
        match taken.and_then(|()| self.write(false, true)) {
            Ok(()) => self.tell_finished(),
            Err(fault) => self.fail(&fault),
        }
    }

    fn tell_finished(&mut self) {
        let (samples, late_samples) = (self.file.samples(), self.aligner.late_samples());
        self.tell(RecordEvent::Finished { path: self.path.clone(), samples, late_samples });
    }

    fn fail(&mut self, error: &io::Error) {
        self.file.leave();
        self.ends.fate.fail(format!("{}: {error}", self.path.display()));
        self.tell(RecordEvent::Failed { path: self.path.clone(), reason: error.to_string() });
    }

    fn tell(&mut self, event: RecordEvent) {
        if let Some(on_event) = self.ends.on_event.take() {
            on_event(event);
        }
    }
}

impl Source {
    /// Takes what came; whether there was any.
    fn take(&mut self, file: &mut RecordFile, aligner: &mut Aligner) -> io::Result<bool> {
        let mut came = false;
        // a ring's worth at most, so that no recording holds up the others
        for _ in 0..RING_BLOCKS {
            let Some(block) = self.blocks.try_pop() else { break };
            came = true;
            self.track.push(&block, aligner, |sound| file.take(sound));
            file.relieve()?;
        }
        Ok(came)
    }
}

/// A thread: takes new recordings, and gives each a round.
fn run(waiting: &Receiver<Command>) {
    let mut recordings: Vec<Box<Written>> = Vec::new();
    let mut is_open = true;
    while is_open {
        // Asked before the commands are taken: what was sent before the last holder went is then among them.
        for recording in &mut recordings {
            recording.is_open = recording.ends.held.strong_count() > 0;
        }
        let first = if recordings.is_empty() {
            waiting.recv().map_err(|_| RecvTimeoutError::Disconnected)
        } else {
            waiting.recv_timeout(ROUND)
        };
        is_open = !matches!(first, Err(RecvTimeoutError::Disconnected));
        for command in first.into_iter().chain(waiting.try_iter()) {
            match command {
                Command::Begin(recording) => recordings.push(recording),
                Command::Source(number, source) => {
                    if let Some(recording) = recordings.iter_mut().find(|recording| recording.number == number) {
                        recording.sources.push(*source);
                    }
                }
                Command::Stop => is_open = false,
            }
        }
        recordings.retain_mut(|recording| recording.round());
    }
    // shut down: complete what is still open
    recordings.iter_mut().for_each(|recording| recording.complete());
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
