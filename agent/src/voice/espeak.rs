//! espeak-ng as a subprocess: one process a text, killed when its stream is dropped.
//!
//! It is run, not linked, since its licence (GPL-3) would become ours; and since it holds global state. The text goes
//! in by standard input, so that none of it can be taken for an option.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Stdio;
use std::sync::LazyLock;

use codecs::pcm::SampleRate;
use futures::stream;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::process::{Child, ChildStdout, Command};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, timeout_at};

use super::condition::{Conditioner, Level, TAIL};
use super::wav::PcmReader;
use super::{SpeechStream, Timeouts, Voice, VoiceError, check_text, normalise};

const PROGRAM: &str = "espeak-ng";

/// How many processes run at once, over all calls; more wait for their turn.
const MAX_PROCESSES: usize = 8;

/// Words a minute at speed 1.0.
const WORDS_PER_MINUTE: f32 = 170.0;

/// Brings espeak-ng's level to -20 dBFS, as measured on `en-us`.
const GAIN_DB: f32 = 0.4;

/// How much of a complaint is kept.
const MAX_STDERR_BYTES: u64 = 512;

static PROCESSES: LazyLock<Semaphore> = LazyLock::new(|| Semaphore::new(MAX_PROCESSES));

/// espeak-ng with one of its voices.
#[derive(Clone, Debug)]
pub struct EspeakVoice {
    name: String,
    program: PathBuf,
    voice: String,
    words_per_minute: u32,
    rate: SampleRate,
    timeouts: Timeouts,
}

impl EspeakVoice {
    /// `voice` as `espeak-ng --voices` names it (`None`: `en-us`), `speed` 1.0 its usual pace.
    ///
    /// # Errors
    /// [`VoiceError::NotInstalled`], [`VoiceError::Config`] for a voice that cannot be one.
    pub fn new(voice: Option<&str>, speed: f32, rate: SampleRate, timeouts: Timeouts) -> Result<Self, VoiceError> {
        let path = std::env::var_os("PATH").unwrap_or_default();
        let program = find_program(&path)
            .ok_or_else(|| VoiceError::NotInstalled { program: PROGRAM.into(), package: PROGRAM.into() })?;
        Self::with_program(program, voice, speed, rate, timeouts)
    }

    /// As [`EspeakVoice::new`], with the program at a place of one's own.
    ///
    /// # Errors
    /// [`VoiceError::Config`] for a voice that cannot be one.
    pub fn with_program(
        program: PathBuf,
        voice: Option<&str>,
        speed: f32,
        rate: SampleRate,
        timeouts: Timeouts,
    ) -> Result<Self, VoiceError> {
        let voice = voice.unwrap_or("en-us");
        let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '+' | '/');
        if voice.is_empty() || voice.starts_with('-') || !voice.chars().all(plain) {
            return Err(VoiceError::Config {
                what: format!("{voice:?} is no name of an espeak-ng voice; `espeak-ng --voices` lists them"),
            });
        }
        Ok(Self {
            name: format!("espeak:{voice}"),
            program,
            voice: voice.to_owned(),
            words_per_minute: (WORDS_PER_MINUTE * speed).round() as u32,
            rate,
            timeouts,
        })
    }
}

impl Voice for EspeakVoice {
    fn name(&self) -> &str {
        &self.name
    }

    fn rate(&self) -> SampleRate {
        self.rate
    }

    fn speak(&self, text: &str) -> Result<SpeechStream, VoiceError> {
        check_text(text)?;
        let start = Step::Start { voice: self.clone(), text: normalise::for_engine(text) };
        Ok(SpeechStream::new(stream::unfold(start, |step| async {
            match step.next().await {
                Ok(Some((pcm, next))) => Some((Ok(pcm), next)),
                Ok(None) => None,
                Err(error) => Some((Err(error), Step::Over)),
            }
        })))
    }

    fn identity(&self) -> String {
        format!("{}@{}x{}", self.name, self.rate.hz(), self.words_per_minute)
    }
}

/// Where a text is on its way.
enum Step {
    Start { voice: EspeakVoice, text: String },
    Running(Box<Running>),
    Over,
}

struct Running {
    child: Child,
    output: ChildStdout,
    reader: PcmReader,
    conditioner: Option<Conditioner>,
    voice: EspeakVoice,
    deadline: Instant,
    limit: (&'static str, std::time::Duration),
    _turn: SemaphorePermit<'static>,
}

impl Step {
    async fn next(self) -> Result<Option<(Vec<i16>, Self)>, VoiceError> {
        match self {
            Self::Start { voice, text } => Box::new(start(voice, &text).await?).next().await,
            Self::Running(running) => running.next().await,
            Self::Over => Ok(None),
        }
    }
}

async fn start(voice: EspeakVoice, text: &str) -> Result<Running, VoiceError> {
    let limit = ("first audio", voice.timeouts.first);
    let deadline = Instant::now() + voice.timeouts.first;
    let turn = timeout_at(deadline, PROCESSES.acquire())
        .await
        .map_err(|_| VoiceError::Busy { engine: "espeak", waiting: MAX_PROCESSES })?
        .map_err(|error| failed(&error.to_string()))?;
    let mut child = Command::new(&voice.program)
        .args(["--stdin", "--stdout", "-b", "1", "-v", &voice.voice, "-s", &voice.words_per_minute.to_string()])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => {
                VoiceError::NotInstalled { program: voice.program.display().to_string(), package: PROGRAM.into() }
            }
            _ => failed(&format!("{}: {error}", voice.program.display())),
        })?;
    let (Some(mut input), Some(output)) = (child.stdin.take(), child.stdout.take()) else {
        return Err(failed("it has no standard streams"));
    };
    // A text is shorter than a pipe, so this doesn't wait; one that ended early shows in its exit status.
    let _ = timeout_at(deadline, input.write_all(text.as_bytes())).await;
    drop(input);
    let reader = PcmReader::wav();
    Ok(Running { child, output, reader, conditioner: None, voice, deadline, limit, _turn: turn })
}

impl Running {
    async fn next(mut self: Box<Self>) -> Result<Option<(Vec<i16>, Step)>, VoiceError> {
        let mut bytes = vec![0; 8192];
        loop {
            let count = self.within(|running| running.output.read(&mut bytes)).await?;
            if count == 0 {
                return self.end().await;
            }
            let pcm = self.reader.push(bytes.get(..count).unwrap_or_default()).map_err(|what| failed(&what))?;
            let Some(rate) = self.reader.rate() else { continue };
            if self.conditioner.is_none() {
                let level = Level::Fixed { gain_db: GAIN_DB };
                self.conditioner = Some(Conditioner::new(rate, self.voice.rate, level, TAIL)?);
            }
            let chunk = self.conditioner.as_mut().map(|conditioner| conditioner.push(&pcm)).unwrap_or_default();
            if !chunk.is_empty() {
                self.limit = ("next audio", self.voice.timeouts.next);
                self.deadline = Instant::now() + self.voice.timeouts.next;
                return Ok(Some((chunk, Step::Running(self))));
            }
        }
    }

    async fn end(mut self: Box<Self>) -> Result<Option<(Vec<i16>, Step)>, VoiceError> {
        let mut complaint = Vec::new();
        if let Some(stderr) = self.child.stderr.take() {
            let _ = timeout_at(self.deadline, stderr.take(MAX_STDERR_BYTES).read_to_end(&mut complaint)).await;
        }
        let status = self.within(|running| running.child.wait()).await?;
        if !status.success() {
            return Err(failed(&format!("{status}: {}", String::from_utf8_lossy(&complaint).trim())));
        }
        let tail = self.conditioner.as_mut().map(Conditioner::finish).unwrap_or_default();
        Ok(Some((tail, Step::Over)))
    }

    /// What `step` answers, unless the deadline comes first.
    async fn within<'a, T, F: Future<Output = std::io::Result<T>> + 'a>(
        &'a mut self,
        step: impl FnOnce(&'a mut Self) -> F,
    ) -> Result<T, VoiceError> {
        let (what, limit) = self.limit;
        let limit_ms = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
        match timeout_at(self.deadline, step(self)).await {
            Ok(result) => result.map_err(|error| failed(&error.to_string())),
            Err(_) => Err(VoiceError::Timeout { engine: "espeak", step: what, limit_ms }),
        }
    }
}

fn failed(what: &str) -> VoiceError {
    VoiceError::Engine { engine: "espeak", what: what.to_owned() }
}

/// The program in one of the folders of `path`.
fn find_program(path: &OsStr) -> Option<PathBuf> {
    std::env::split_paths(path).map(|folder| folder.join(PROGRAM)).find(|file| Path::is_file(file))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn a_machine_without_it_is_told_apart() {
        assert_eq!(find_program(OsStr::new("/nowhere:/proc")), None);
    }

    #[test]
    fn a_voice_that_reads_as_an_option_is_refused() {
        let timeouts = Timeouts {
            connect: std::time::Duration::ZERO,
            first: std::time::Duration::ZERO,
            next: std::time::Duration::ZERO,
        };
        for voice in ["", "-w/tmp/x", "en us", "en;ls", "../../etc/passwd"] {
            let made = EspeakVoice::with_program("/bin/true".into(), Some(voice), 1.0, SampleRate::HZ_8000, timeouts);
            assert!(matches!(made, Err(VoiceError::Config { .. })), "{voice}");
        }
    }
}
