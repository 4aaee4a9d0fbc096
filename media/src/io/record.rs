//! The thread that writes recordings: one for all of them.
//!
//! A worker puts blocks into a bounded ring ([`RecordSink::push`]) and never waits: what does not fit is dropped and
//! counted. The thread looks at all rings twenty times a second, aligns what came, appends it to the files and brings their
//! headers up to date five times a second, so that after a kill a file is whole up to its last second. A
//! file that cannot be written ends its recording with an event; the call and the other recordings go on.

use std::fs::File;
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, RecvTimeoutError, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use ringbuf::traits::{Consumer, Observer, Producer, Split};
use ringbuf::{HeapCons, HeapProd, HeapRb};
use thiserror::Error;

use crate::recorder::{
    Aligner, BLOCK_SAMPLES, Channel, FRAME_BYTES, MAX_WAV_SAMPLES, RecordBlock, StereoSample, WAV_HEADER_BYTES,
    wav_header,
};
use crate::sealed::{SealError, SealKey, Sealer};

/// Blocks between a worker and the thread: 1.28 s of both sides in blocks of 20 ms.
const RING_BLOCKS: usize = 128;
/// New recordings that wait for the thread.
const MAX_WAITING: usize = 1_024;
/// How often the thread looks at the rings.
const ROUND: Duration = Duration::from_millis(50);
/// How often a header is brought up to date.
const HEADER_EVERY: Duration = Duration::from_millis(200);
/// The later side has this long to come: what the network may become slower by, all at once.
const HOLD: Duration = Duration::from_millis(400);
/// How far both sides may lie apart.
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
    /// The thread has ended, or a thousand recordings wait for it.
    #[error("recording {}: the recorder takes no more: {why}", path.display())]
    Busy {
        /// The file.
        path: PathBuf,
        /// Which of both.
        why: &'static str,
    },
}

/// The thread's owner. When it is dropped, all recordings are completed and the thread ends.
#[derive(Debug)]
pub struct Recorder {
    commands: Option<SyncSender<Box<Recording>>>,
    thread: Option<JoinHandle<()>>,
}

impl Recorder {
    /// Starts the thread.
    pub fn start() -> io::Result<Recorder> {
        let (commands, waiting) = sync_channel(MAX_WAITING);
        let thread = std::thread::Builder::new().name(String::from("recorder")).spawn(move || run(&waiting))?;
        Ok(Recorder { commands: Some(commands), thread: Some(thread) })
    }

    /// Makes the file and begins a recording whose timeline starts at sample 0. Both sides have to come at `rate_hz`. `on_event`
    /// is called once, on the recorder's thread, when the recording is complete or has failed.
    pub fn open(
        &self,
        path: &Path,
        rate_hz: u32,
        on_event: impl FnOnce(RecordEvent) + Send + 'static,
    ) -> Result<RecordSink, RecordError> {
        self.open_sealed(path, rate_hz, None, on_event)
    }

    /// The same, sealed with a key where there is one (see [`sealed`](crate::sealed)).
    pub fn open_sealed(
        &self,
        path: &Path,
        rate_hz: u32,
        key: Option<&SealKey>,
        on_event: impl FnOnce(RecordEvent) + Send + 'static,
    ) -> Result<RecordSink, RecordError> {
        let sealer = key.map(|key| Sealer::new(key, rate_hz)).transpose();
        let sealer = sealer.map_err(|source| RecordError::Seal { path: path.to_owned(), source })?;
        let file = create(path, rate_hz, sealer.as_ref())?;
        let (blocks, taken) = HeapRb::new(RING_BLOCKS).split();
        let recording = Box::new(Recording::new(path, rate_hz, (file, sealer), taken, Box::new(on_event)));
        let busy = |why| RecordError::Busy { path: path.to_owned(), why };
        let commands = self.commands.as_ref().ok_or(busy("it has been shut down"))?;
        match commands.try_send(recording) {
            Ok(()) => Ok(RecordSink { blocks, dropped_blocks: 0 }),
            Err(TrySendError::Full(_)) => Err(busy("too many recordings begin at once")),
            Err(TrySendError::Disconnected(_)) => Err(busy("it has been shut down")),
        }
    }
}

impl Drop for Recorder {
    fn drop(&mut self) {
        self.commands = None;
        if let Some(thread) = self.thread.take() {
            // a panic there has been reported on stderr; there is nothing to add while dropping
            let _ = thread.join();
        }
    }
}

/// The worker's end of a recording. Dropped, it completes the file.
pub struct RecordSink {
    blocks: HeapProd<RecordBlock>,
    dropped_blocks: u64,
}

impl std::fmt::Debug for RecordSink {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("RecordSink").field("dropped_blocks", &self.dropped_blocks).finish_non_exhaustive()
    }
}

impl RecordSink {
    /// Hands over sound of one side that begins at `at_samples` of the leg's timeline. Takes no lock, allocates nothing and
    /// never waits; returns how many blocks had to be dropped.
    pub fn push(&mut self, channel: Channel, at_samples: u64, pcm: &[i16]) -> u64 {
        let mut dropped = 0;
        let starts = (at_samples..).step_by(BLOCK_SAMPLES);
        for (at, piece) in starts.zip(pcm.chunks(BLOCK_SAMPLES)) {
            dropped += u64::from(self.blocks.try_push(RecordBlock::new(channel, at, piece)).is_err());
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

/// One file that is being written.
struct Recording {
    path: PathBuf,
    rate_hz: u32,
    file: File,
    sealer: Option<Sealer>,
    blocks: HeapCons<RecordBlock>,
    aligner: Aligner,
    /// Bytes to append in this round.
    bytes: Vec<u8>,
    samples: u64,
    samples_in_header: u64,
    header_written: Instant,
    on_event: Option<OnEvent>,
}

impl Recording {
    fn new(
        path: &Path,
        rate_hz: u32,
        (file, sealer): (File, Option<Sealer>),
        blocks: HeapCons<RecordBlock>,
        on_event: OnEvent,
    ) -> Recording {
        Recording {
            path: path.to_owned(),
            rate_hz,
            file,
            sealer,
            blocks,
            aligner: Aligner::new(0, samples_in(WINDOW, rate_hz) as usize, samples_in(MAX_GAP, rate_hz)),
            bytes: Vec::with_capacity(samples_in(WINDOW, rate_hz) as usize * FRAME_BYTES),
            samples: 0,
            samples_in_header: 0,
            header_written: Instant::now(),
            on_event: Some(on_event),
        }
    }

    /// Takes what came and writes it. Returns whether there is more to come.
    fn round(&mut self) -> bool {
        // asked first: what is pushed before the sink is dropped is then in the ring
        let open = self.blocks.write_is_held();
        let result = self.take(open).and_then(|()| self.write(open));
        if let Err(error) = result {
            self.fail(&error);
            return false;
        }
        if !open {
            self.tell(RecordEvent::Finished {
                path: self.path.clone(),
                samples: self.samples,
                late_samples: self.aligner.late_samples(),
            });
        }
        open
    }

    fn take(&mut self, open: bool) -> io::Result<()> {
        let mut came = false;
        // a ring's worth at most, so that no recording holds up the others
        for _ in 0..RING_BLOCKS {
            let Some(block) = self.blocks.try_pop() else { break };
            came = true;
            let bytes = &mut self.bytes;
            self.aligner.push(&block, |samples| put(bytes, samples));
            // a long silence is written in pieces
            if bytes.len() > samples_in(WINDOW, self.rate_hz) as usize * FRAME_BYTES {
                self.append()?;
            }
        }
        let bytes = &mut self.bytes;
        if came && open {
            self.aligner.take_older(samples_in(HOLD, self.rate_hz), |samples| put(bytes, samples));
        } else if !open || self.header_written.elapsed() >= HEADER_EVERY {
            self.aligner.take_all(|samples| put(bytes, samples));
        }
        Ok(())
    }

    /// Appends what has come out, and brings the header up to date behind it: both only so often, as each is a system call.
    fn write(&mut self, open: bool) -> io::Result<()> {
        if open && self.header_written.elapsed() < HEADER_EVERY {
            return Ok(());
        }
        self.append()?;
        self.header_written = Instant::now();
        if self.sealer.is_some() {
            return if open { Ok(()) } else { self.end_seal() };
        }
        if self.samples_in_header != self.samples {
            self.file.write_all_at(&wav_header(self.rate_hz, self.samples), 0)?;
            self.samples_in_header = self.samples;
        }
        Ok(())
    }

    fn append(&mut self) -> io::Result<()> {
        if self.bytes.is_empty() {
            return Ok(());
        }
        let samples = (self.bytes.len() / FRAME_BYTES) as u64;
        if self.samples + samples > MAX_WAV_SAMPLES {
            return Err(io::Error::new(io::ErrorKind::FileTooLarge, "a WAV file holds no more than 4 GiB"));
        }
        match &mut self.sealer {
            Some(sealer) => {
                let mut sealed = Vec::with_capacity(self.bytes.len() + 64);
                sealer.seal(&self.bytes, &mut sealed).map_err(io::Error::other)?;
                self.file.write_all(&sealed)?;
            }
            None => self.file.write_all(&self.bytes)?,
        }
        self.samples += samples;
        self.bytes.clear();
        Ok(())
    }

    /// Puts the piece behind a sealed recording that says that it is whole.
    fn end_seal(&mut self) -> io::Result<()> {
        let Some(mut sealer) = self.sealer.take() else { return Ok(()) };
        let mut sealed = Vec::new();
        sealer.seal(&[], &mut sealed).map_err(io::Error::other)?;
        self.file.write_all(&sealed)
    }

    /// Leaves the file readable as far as it was written.
    fn fail(&mut self, error: &io::Error) {
        // the header lies in space that the file has; should even this fail, the one before stands
        if self.sealer.is_none() {
            let _ = self.file.write_all_at(&wav_header(self.rate_hz, self.samples), 0);
        }
        self.tell(RecordEvent::Failed { path: self.path.clone(), reason: error.to_string() });
    }

    fn tell(&mut self, event: RecordEvent) {
        if let Some(on_event) = self.on_event.take() {
            on_event(event);
        }
    }
}

/// The thread: takes new recordings, and gives each a round.
fn run(waiting: &Receiver<Box<Recording>>) {
    let mut recordings: Vec<Box<Recording>> = Vec::new();
    let mut open = true;
    while open || !recordings.is_empty() {
        let next = match (open, recordings.is_empty()) {
            (true, true) => waiting.recv().map_err(|_| RecvTimeoutError::Disconnected),
            (true, false) => waiting.recv_timeout(ROUND),
            (false, _) => break,
        };
        match next {
            Ok(recording) => {
                recordings.push(recording);
                recordings.extend(waiting.try_iter());
            }
            Err(RecvTimeoutError::Timeout) => {}
            Err(RecvTimeoutError::Disconnected) => open = false,
        }
        recordings.retain_mut(|recording| recording.round());
    }
    // shut down: complete what is still open
    for mut recording in recordings {
        let result = recording.take(false).and_then(|()| recording.write(false));
        let path = recording.path.clone();
        match result {
            Ok(()) => {
                let (samples, late_samples) = (recording.samples, recording.aligner.late_samples());
                recording.tell(RecordEvent::Finished { path, samples, late_samples });
            }
            Err(error) => recording.fail(&error),
        }
    }
}

fn create(path: &Path, rate_hz: u32, sealer: Option<&Sealer>) -> Result<File, RecordError> {
    let fault = |source: io::Error| {
        let mend = mend(path, &source);
        RecordError::Create { path: path.to_owned(), source, mend }
    };
    let mut file = File::create(path).map_err(fault)?;
    match sealer {
        Some(sealer) => file.write_all(sealer.head()).map_err(fault)?,
        None => file.write_all(&wav_header(rate_hz, 0)).map_err(fault)?,
    }
    debug_assert_eq!(wav_header(rate_hz, 0).len(), WAV_HEADER_BYTES);
    Ok(file)
}

fn mend(path: &Path, error: &io::Error) -> String {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let folder = folder.display();
    match error.kind() {
        io::ErrorKind::NotFound => format!("make the folder (mkdir -p {folder}) or name another"),
        io::ErrorKind::PermissionDenied => format!("let this user write in {folder} or name another folder"),
        io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded => format!("make room on the disk of {folder}"),
        io::ErrorKind::IsADirectory => String::from("this is a folder: name a file in it"),
        io::ErrorKind::NotADirectory => format!("{folder} is a file: name a folder"),
        io::ErrorKind::ReadOnlyFilesystem => format!("{folder} cannot be written to: name another folder"),
        _ => format!("see that a file can be made in {folder}"),
    }
}

fn put(bytes: &mut Vec<u8>, samples: &[StereoSample]) {
    bytes.extend(samples.iter().flatten().flat_map(|sample| sample.to_le_bytes()));
}

fn samples_in(duration: Duration, rate_hz: u32) -> u64 {
    (duration.as_micros() * u128::from(rate_hz.max(1)) / 1_000_000) as u64
}
