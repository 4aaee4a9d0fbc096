//! The agent's voice: text in, PCM out as it is made.
//!
//! A [`Voice`] speaks one text at a time into a [`SpeechStream`]; the engines stand in the submodules, and [`Voices`]
//! makes one from its configuration, conditioned alike for all of them:
//!
//! - at the rate that was asked for, whatever the engine's own;
//! - at a speech level of about -20 dBFS with peaks under -3 dBFS;
//! - without the engine's leading silence (Flite leads with 120 to 290 ms of it, all of which would be response
//!   latency): at most 10 ms are left, and 20 ms of that at the end;
//! - phrases said often come out of a cache that all calls share.
//!
//! Invariants: dropping a stream cancels its synthesis; a stream that failed once yields nothing more; a text is
//! limited to [`MAX_TEXT_BYTES`].

use std::fmt;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use codecs::pcm::SampleRate;
use futures::stream::BoxStream;
use futures::{Stream, StreamExt};
use serde::{Deserialize, Serialize};

pub mod cache;
pub mod condition;
pub mod espeak;
pub mod fallback;
pub mod flite;
pub mod normalise;
pub mod openai;
pub mod sentences;
mod wav;

/// The longest text one [`Voice::speak`] takes, in bytes: about four minutes of speech.
pub const MAX_TEXT_BYTES: usize = 4096;

/// A synthesiser: text in, mono 16-bit PCM out.
pub trait Voice: Send + Sync {
    /// What the voice is called in records and logs, such as `flite:rms`.
    fn name(&self) -> &str;

    /// The rate of the PCM that [`speak`](Voice::speak) yields.
    fn rate(&self) -> SampleRate;

    /// Starts to speak `text`. Returns at once; the work is done while the stream is polled or on another thread.
    ///
    /// # Errors
    /// [`VoiceError::Empty`], [`VoiceError::TooLong`], or whatever can be known before the first sample.
    fn speak(&self, text: &str) -> Result<SpeechStream, VoiceError>;

    /// What tells this voice's sound from any other's: the cache keeps phrases under it. Anything that alters the
    /// sound (speed, rate, model) belongs in it.
    fn identity(&self) -> String {
        format!("{}@{}", self.name(), self.rate().hz())
    }
}

/// Speech as it is made: chunks of mono PCM at the voice's rate, of any length but zero. Dropped, it is cancelled.
pub struct SpeechStream {
    /// `None` when it is over.
    inner: Option<BoxStream<'static, Result<Vec<i16>, VoiceError>>>,
    /// It was made before, for somebody else: no voice has to be asked for it.
    is_kept: bool,
    /// Who makes it, where that is not the voice that was asked.
    by: Option<String>,
}

impl SpeechStream {
    /// Wraps an engine's own stream. Empty chunks are left out, and nothing follows an error.
    pub fn new(stream: impl Stream<Item = Result<Vec<i16>, VoiceError>> + Send + 'static) -> Self {
        Self { inner: Some(Box::pin(stream)), is_kept: false, by: None }
    }

    /// The same, made before.
    #[must_use]
    pub fn kept(self) -> Self {
        Self { is_kept: true, ..self }
    }

    /// The same, made by another voice than the one that was asked.
    #[must_use]
    pub fn by(self, voice: &str) -> Self {
        Self { by: Some(voice.to_owned()), ..self }
    }

    /// Whose work it is, where somebody has to work for it: of the voice that was asked, or another.
    #[must_use]
    pub fn worker<'a>(&'a self, asked: &'a str) -> Option<&'a str> {
        (!self.is_kept).then(|| self.by.as_deref().unwrap_or(asked))
    }

    /// Speech that is there already.
    #[must_use]
    pub fn ready(pcm: Vec<i16>) -> Self {
        Self::new(futures::stream::iter([Ok(pcm)]))
    }

    /// Waits for all of it.
    ///
    /// # Errors
    /// What the engine failed with; the samples made before it are lost.
    pub async fn collect_pcm(mut self) -> Result<Vec<i16>, VoiceError> {
        let mut pcm = Vec::new();
        while let Some(chunk) = self.next().await {
            pcm.extend_from_slice(&chunk?);
        }
        Ok(pcm)
    }
}

impl Stream for SpeechStream {
    type Item = Result<Vec<i16>, VoiceError>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        loop {
            let Some(inner) = self.inner.as_mut() else { return Poll::Ready(None) };
            match inner.as_mut().poll_next(cx) {
                Poll::Pending => return Poll::Pending,
                Poll::Ready(Some(Ok(chunk))) if chunk.is_empty() => {}
                Poll::Ready(Some(Ok(chunk))) => return Poll::Ready(Some(Ok(chunk))),
                Poll::Ready(Some(Err(error))) => {
                    self.inner = None;
                    return Poll::Ready(Some(Err(error)));
                }
                Poll::Ready(None) => {
                    self.inner = None;
                    return Poll::Ready(None);
                }
            }
        }
    }
}

impl fmt::Debug for SpeechStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SpeechStream").field("ended", &self.inner.is_none()).finish()
    }
}

/// Why a text was not spoken, or not to its end.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum VoiceError {
    /// Nothing in the text can be spoken.
    #[error("nothing to say in {text:?}")]
    Empty {
        /// The text.
        text: String,
    },
    /// The text is longer than [`MAX_TEXT_BYTES`].
    #[error("a text of {size_bytes} bytes is longer than the {limit_bytes} that a voice speaks at once")]
    TooLong {
        /// Its size.
        size_bytes: usize,
        /// The limit.
        limit_bytes: usize,
    },
    /// A setting makes no sense.
    #[error("voice: {what}")]
    Config {
        /// Which, and what would be right.
        what: String,
    },
    /// A program that the voice runs is not on this machine.
    #[error(
        "the program {program} is not installed: install the Debian package {package} (apt-get install {package}), or choose another voice"
    )]
    NotInstalled {
        /// The program.
        program: String,
        /// The Debian package that has it.
        package: String,
    },
    /// Too much is waiting to be spoken.
    #[error("{waiting} texts are waiting for the {engine} engine, and more are not taken")]
    Busy {
        /// The engine.
        engine: &'static str,
        /// How many wait.
        waiting: usize,
    },
    /// The engine on this machine failed.
    #[error("{engine} failed: {what}")]
    Engine {
        /// The engine.
        engine: &'static str,
        /// What it said.
        what: String,
    },
    /// A step took longer than its time limit.
    #[error("{engine}: no {step} within {limit_ms} ms")]
    Timeout {
        /// The engine.
        engine: &'static str,
        /// What was waited for: `connection`, `first audio` or `next audio`.
        step: &'static str,
        /// The limit.
        limit_ms: u64,
    },
    /// The server could not be reached.
    #[error("the voice server {url} cannot be reached: {what}")]
    Unreachable {
        /// Where.
        url: String,
        /// Why.
        what: String,
    },
    /// The server refused: no key, a wrong one, or a wrong request.
    #[error("the voice server refused with {status}: {what}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// What it said, shortened.
        what: String,
    },
    /// The server failed, or has too much to do.
    #[error("the voice server failed with {status}: {what}")]
    Upstream {
        /// The HTTP status.
        status: u16,
        /// What it said, shortened.
        what: String,
    },
    /// The answer is not audio.
    #[error("the voice server's answer is not the audio asked for: {what}")]
    NotAudio {
        /// What it is.
        what: String,
    },
    /// The audio stopped before its end.
    #[error("the audio was cut off after {received_bytes} bytes: {what}")]
    Cut {
        /// How much came.
        received_bytes: usize,
        /// Why.
        what: String,
    },
}

impl VoiceError {
    /// Whether the fault lies with a server or its network, rather than with this program, its settings or machine.
    #[must_use]
    pub fn is_upstream(&self) -> bool {
        matches!(
            self,
            Self::Timeout { engine: "openai", .. }
                | Self::Unreachable { .. }
                | Self::Refused { .. }
                | Self::Upstream { .. }
                | Self::NotAudio { .. }
                | Self::Cut { .. }
        )
    }
}

/// Which voice, and how it speaks: the `[voice]` table of an agent's definition.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct VoiceConfig {
    /// `auto` (Flite, which is always there), `flite`, `espeak` or `openai`.
    pub kind: String,
    /// The engine's own name of a voice: `rms`, `slt`, `awb`, `kal16` for Flite, such as `en-gb` for espeak-ng, such
    /// as `alloy` for a server. Without it, the engine's default.
    pub voice: Option<String>,
    /// How fast: 1.0 is the voice's own pace, 1.2 a fifth faster. From 0.5 to 2.0.
    pub speed: f32,
    /// `openai`: the server, up to and with `/v1`.
    pub base_url: String,
    /// `openai`: the environment variable that holds the key. An unset one means that no key is sent.
    pub api_key_env: String,
    /// `openai`: the model.
    pub model: String,
    /// `openai`: `pcm` (24 kHz, 16 bits) or `wav`, asked for as such.
    pub format: String,
    /// `openai`: time limit for the connection.
    pub connect_timeout_ms: u64,
    /// `openai`: time limit from the request to the first audio. espeak-ng: to its first output.
    pub first_audio_timeout_ms: u64,
    /// `openai`, espeak-ng: time limit from one piece of audio to the next.
    pub next_audio_timeout_ms: u64,
    /// Who speaks instead where `openai` or espeak-ng fails before its first sound: a short name such as `flite:slt`;
    /// empty for nobody.
    pub fallback: String,
}

impl Default for VoiceConfig {
    fn default() -> Self {
        Self {
            kind: "auto".into(),
            voice: None,
            speed: 1.0,
            base_url: "https://api.openai.com/v1".into(),
            api_key_env: "OPENAI_API_KEY".into(),
            model: "gpt-4o-mini-tts".into(),
            format: "pcm".into(),
            connect_timeout_ms: 2_000,
            first_audio_timeout_ms: 2_500,
            next_audio_timeout_ms: 2_000,
            fallback: "flite".into(),
        }
    }
}

impl VoiceConfig {
    /// From a short name: `auto`, `flite`, `flite:slt`, `espeak:en-gb`, `openai:alloy`.
    #[must_use]
    pub fn named(name: &str) -> Self {
        let (kind, voice) = match name.split_once(':') {
            Some((kind, voice)) => (kind, Some(voice.to_owned())),
            None => (name, None),
        };
        Self { kind: kind.to_owned(), voice, ..Self::default() }
    }

    /// Says what is wrong, without starting anything: for `omnivox check` and for reading a definition.
    ///
    /// # Errors
    /// [`VoiceError::Config`] with the setting and what would be right, [`VoiceError::NotInstalled`].
    pub fn check(&self) -> Result<(), VoiceError> {
        Voices::new(0).open(self, SampleRate::HZ_16000).map(drop)
    }

    fn timeouts(&self) -> Timeouts {
        Timeouts {
            connect: Duration::from_millis(self.connect_timeout_ms),
            first: Duration::from_millis(self.first_audio_timeout_ms),
            next: Duration::from_millis(self.next_audio_timeout_ms),
        }
    }
}

/// How long each step of a synthesis may take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timeouts {
    /// To connect to a server.
    pub connect: Duration,
    /// From the request to the first audio.
    pub first: Duration,
    /// From one piece of audio to the next.
    pub next: Duration,
}

/// Makes voices that share one cache of phrases. One per process; cheap to clone.
#[derive(Clone, Debug)]
pub struct Voices {
    cache: Arc<cache::PhraseCache>,
    clients: openai::Clients,
}

impl Voices {
    /// The cache's size unless told otherwise: about 8 minutes of speech at 16 kHz.
    pub const DEFAULT_CACHE_BYTES: usize = 16 << 20;

    /// With a cache of at most `cache_bytes` bytes of PCM.
    #[must_use]
    pub fn new(cache_bytes: usize) -> Self {
        Self { cache: Arc::new(cache::PhraseCache::new(cache_bytes)), clients: openai::Clients::default() }
    }

    /// The voice that `config` asks for, at `rate`, through the cache.
    ///
    /// # Errors
    /// [`VoiceError::Config`] for a setting that makes no sense, [`VoiceError::NotInstalled`].
    pub fn open(&self, config: &VoiceConfig, rate: SampleRate) -> Result<Arc<dyn Voice>, VoiceError> {
        let voice = self.cached(config, rate)?;
        if config.fallback.is_empty() || matches!(config.kind.as_str(), "auto" | "flite") {
            return Ok(voice);
        }
        let instead = VoiceConfig { speed: config.speed, ..VoiceConfig::named(&config.fallback) };
        Ok(Arc::new(fallback::FallbackVoice::new(voice, self.cached(&instead, rate)?)))
    }

    /// The voice with a short name (see [`VoiceConfig::named`]) at its own pace.
    ///
    /// # Errors
    /// As [`Voices::open`].
    pub fn from_name(&self, name: &str, rate: SampleRate) -> Result<Arc<dyn Voice>, VoiceError> {
        self.open(&VoiceConfig::named(name), rate)
    }

    fn cached(&self, config: &VoiceConfig, rate: SampleRate) -> Result<Arc<dyn Voice>, VoiceError> {
        let voice = engine(config, rate, &self.clients)?;
        Ok(Arc::new(cache::CachedVoice::new(voice, Arc::clone(&self.cache))))
    }

    /// The shared cache, for its figures.
    #[must_use]
    pub fn cache(&self) -> &cache::PhraseCache {
        &self.cache
    }
}

impl Default for Voices {
    fn default() -> Self {
        Self::new(Self::DEFAULT_CACHE_BYTES)
    }
}

/// Speaks each phrase once into the cache behind `voice`, so that its first use costs nothing. Returns how many could
/// be spoken.
pub async fn prewarm<S: AsRef<str>>(voice: &dyn Voice, phrases: impl IntoIterator<Item = S>) -> usize {
    let mut spoken = 0;
    for phrase in phrases {
        let Ok(stream) = voice.speak(phrase.as_ref()) else { continue };
        spoken += usize::from(stream.collect_pcm().await.is_ok());
    }
    spoken
}

/// The engine of `config`, conditioned to `rate`, without a cache.
fn engine(config: &VoiceConfig, rate: SampleRate, clients: &openai::Clients) -> Result<Arc<dyn Voice>, VoiceError> {
    if !(0.5..=2.0).contains(&config.speed) {
        return Err(VoiceError::Config { what: format!("speed = {} is not between 0.5 and 2.0", config.speed) });
    }
    let voice = config.voice.as_deref();
    match config.kind.as_str() {
        "auto" | "flite" => Ok(Arc::new(flite::FliteVoice::new(voice, config.speed, rate)?)),
        "espeak" => Ok(Arc::new(espeak::EspeakVoice::new(voice, config.speed, rate, config.timeouts())?)),
        "openai" => Ok(Arc::new(openai::OpenAiVoice::new(config, rate, clients)?)),
        other => Err(VoiceError::Config {
            what: format!("kind = {other:?} is not known; there are auto, flite, espeak and openai"),
        }),
    }
}

/// Refuses what no voice takes.
fn check_text(text: &str) -> Result<(), VoiceError> {
    if text.len() > MAX_TEXT_BYTES {
        return Err(VoiceError::TooLong { size_bytes: text.len(), limit_bytes: MAX_TEXT_BYTES });
    }
    if !text.chars().any(char::is_alphanumeric) {
        return Err(VoiceError::Empty { text: text.chars().take(40).collect() });
    }
    Ok(())
}
