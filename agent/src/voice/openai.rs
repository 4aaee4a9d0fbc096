//! Any server with OpenAI's `POST /v1/audio/speech`, its audio taken as it streams in.
//!
//! Asked for: raw 16-bit PCM at 24 kHz, or WAV. A server that answers with a WAV file where PCM was asked for is
//! understood. Each step has a time limit: connecting, the first audio, the next audio.

use std::collections::HashMap;
use std::pin::Pin;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use codecs::pcm::SampleRate;
use futures::{Stream, StreamExt, stream};
use reqwest::{Client, Response, StatusCode, header};
use serde_json::json;
use tokio::time::{Instant, timeout_at};

use super::condition::{Conditioner, Level, TAIL};
use super::wav::PcmReader;
use super::{SpeechStream, Timeouts, Voice, VoiceConfig, VoiceError, check_text};
use crate::traced;

/// The rate of OpenAI's `pcm` format.
const PCM_RATE: SampleRate = SampleRate::HZ_24000;

/// More than this is no answer to a text: 10 minutes at 24 kHz.
const MAX_AUDIO_BYTES: usize = 10 * 60 * 48_000;

/// How much of a server's words goes into an error.
const MAX_WORDS_BYTES: usize = 300;

/// How many servers' voices a process remembers the level of.
const MAX_LEVELS: usize = 64;

/// What the voices of one process share: HTTP clients, so that calls share connections, one for each time limit of a
/// connection; and how loud each voice is.
#[derive(Clone, Debug, Default)]
pub struct Clients(Arc<Mutex<Shared>>);

#[derive(Debug, Default)]
struct Shared {
    clients: HashMap<Duration, Client>,
    levels: HashMap<String, Level>,
}

impl Clients {
    fn with_connect_timeout(&self, limit: Duration) -> Result<Client, VoiceError> {
        let mut shared = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(client) = shared.clients.get(&limit) {
            return Ok(client.clone());
        }
        let client = Client::builder()
            .connect_timeout(limit)
            .redirect(reqwest::redirect::Policy::none())
            .build()
            .map_err(|error| VoiceError::Engine { engine: "openai", what: chain(&error) })?;
        shared.clients.insert(limit, client.clone());
        Ok(client)
    }

    /// The level of the voice that is known by `voice`.
    fn level(&self, voice: String) -> Level {
        let mut shared = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        if shared.levels.len() >= MAX_LEVELS && !shared.levels.contains_key(&voice) {
            return Level::learnt();
        }
        shared.levels.entry(voice).or_insert_with(Level::learnt).clone()
    }
}

/// A voice of such a server.
#[derive(Clone, Debug)]
pub struct OpenAiVoice {
    name: String,
    client: Client,
    url: String,
    key: Key,
    model: String,
    voice: String,
    format: Format,
    speed: f32,
    rate: SampleRate,
    level: Level,
    timeouts: Timeouts,
}

/// The server's key; never printed.
#[derive(Clone)]
struct Key(Option<String>);

impl std::fmt::Debug for Key {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(if self.0.is_some() { "(a key)" } else { "(no key)" })
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    Pcm,
    Wav,
}

impl OpenAiVoice {
    /// From the settings of `config`; the key is read from the environment now.
    ///
    /// # Errors
    /// [`VoiceError::Config`] for a URL or format that makes no sense.
    pub fn new(config: &VoiceConfig, rate: SampleRate, clients: &Clients) -> Result<Self, VoiceError> {
        let format = match config.format.as_str() {
            "pcm" => Format::Pcm,
            "wav" => Format::Wav,
            other => {
                return Err(VoiceError::Config {
                    what: format!("format = {other:?} is not known; there are pcm and wav"),
                });
            }
        };
        let base = config.base_url.trim_end_matches('/');
        match reqwest::Url::parse(base) {
            Ok(url) if matches!(url.scheme(), "http" | "https") && url.has_host() => {}
            _ => {
                let what = format!("base_url = {base:?} is no HTTP address such as http://127.0.0.1:8000/v1");
                return Err(VoiceError::Config { what });
            }
        }
        let timeouts = config.timeouts();
        let voice = config.voice.clone().unwrap_or_else(|| "alloy".into());
        let key = std::env::var(&config.api_key_env).ok().filter(|key| !key.is_empty());
        Ok(Self {
            name: format!("openai:{voice}"),
            client: clients.with_connect_timeout(timeouts.connect)?,
            url: format!("{base}/audio/speech"),
            key: Key(key),
            model: config.model.clone(),
            level: clients.level(format!("{base} {} {voice}", config.model)),
            voice,
            format,
            speed: config.speed,
            rate,
            timeouts,
        })
    }

    async fn request(&self, text: &str) -> Result<Response, VoiceError> {
        let body = json!({
            "model": self.model,
            "input": text,
            "voice": self.voice,
            "response_format": match self.format { Format::Pcm => "pcm", Format::Wav => "wav" },
            "speed": self.speed,
        });
        let mut request = traced::telling(self.client.post(&self.url).json(&body));
        if let Some(key) = &self.key.0 {
            request = request.bearer_auth(key);
        }
        let response = request.send().await.map_err(|error| self.unreachable(&error))?;
        let status = response.status();
        if status.is_success() {
            return Ok(response);
        }
        let what = words(response).await;
        let status_code = status.as_u16();
        // Too many requests: the server's trouble, not the request's.
        if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
            return Err(VoiceError::Upstream { status: status_code, what });
        }
        Err(VoiceError::Refused { status: status_code, what })
    }

    fn unreachable(&self, error: &reqwest::Error) -> VoiceError {
        if error.is_timeout() {
            return timed_out("connection", self.timeouts.connect);
        }
        VoiceError::Unreachable { url: self.url.clone(), what: chain(error) }
    }
}

impl Voice for OpenAiVoice {
    fn name(&self) -> &str {
        &self.name
    }

    fn rate(&self) -> SampleRate {
        self.rate
    }

    fn speak(&self, text: &str) -> Result<SpeechStream, VoiceError> {
        check_text(text)?;
        let start = Step::Start { voice: Box::new(self.clone()), text: text.to_owned() };
        Ok(SpeechStream::new(stream::unfold(start, |step| async {
            match step.next().await {
                Ok(Some((pcm, next))) => Some((Ok(pcm), next)),
                Ok(None) => None,
                Err(error) => Some((Err(error), Step::Over)),
            }
        })))
    }

    fn identity(&self) -> String {
        format!("{}@{}x{} {} {}", self.name, self.rate.hz(), self.speed, self.model, self.url)
    }
}

/// Where a text is on its way.
enum Step {
    Start { voice: Box<OpenAiVoice>, text: String },
    Running(Box<Running>),
    Over,
}

struct Running {
    voice: Box<OpenAiVoice>,
    body: Pin<Box<dyn Stream<Item = reqwest::Result<Bytes>> + Send>>,
    /// What the answer's head says it is.
    content: Content,
    /// Known from the first bytes on.
    reader: Option<PcmReader>,
    head: Vec<u8>,
    conditioner: Option<Conditioner>,
    received_bytes: usize,
    deadline: Instant,
    limit: (&'static str, Duration),
}

/// What a server says it sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Content {
    wav: bool,
    rate: SampleRate,
}

impl Step {
    async fn next(self) -> Result<Option<(Vec<i16>, Self)>, VoiceError> {
        match self {
            Self::Start { voice, text } => {
                let deadline = Instant::now() + voice.timeouts.first;
                let limit = ("first audio", voice.timeouts.first);
                let answer = timeout_at(deadline, voice.request(&text)).await;
                let response = answer.map_err(|_| timed_out(limit.0, limit.1))??;
                let content = match content_of(&response, voice.format) {
                    Ok(content) => content,
                    Err(kind) => {
                        let what = format!("{kind}: {}", words(response).await);
                        return Err(VoiceError::NotAudio { what });
                    }
                };
                let running = Running {
                    voice,
                    body: response.bytes_stream().boxed(),
                    content,
                    reader: None,
                    head: Vec::new(),
                    conditioner: None,
                    received_bytes: 0,
                    deadline,
                    limit,
                };
                Box::new(running).next().await
            }
            Self::Running(running) => running.next().await,
            Self::Over => Ok(None),
        }
    }
}

impl Running {
    async fn next(mut self: Box<Self>) -> Result<Option<(Vec<i16>, Step)>, VoiceError> {
        loop {
            let (step, limit) = self.limit;
            let piece = timeout_at(self.deadline, self.body.next()).await.map_err(|_| timed_out(step, limit))?;
            let Some(piece) = piece else { return self.end() };
            let piece = piece.map_err(|error| self.cut(&chain(&error)))?;
            self.received_bytes += piece.len();
            if self.received_bytes > MAX_AUDIO_BYTES {
                return Err(VoiceError::NotAudio { what: format!("more than {MAX_AUDIO_BYTES} bytes for one text") });
            }
            let chunk = self.push(&piece)?;
            self.limit = ("next audio", self.voice.timeouts.next);
            self.deadline = Instant::now() + self.voice.timeouts.next;
            if !chunk.is_empty() {
                return Ok(Some((chunk, Step::Running(self))));
            }
        }
    }

    fn push(&mut self, piece: &[u8]) -> Result<Vec<i16>, VoiceError> {
        let pcm = match &mut self.reader {
            Some(reader) => reader.push(piece),
            None => {
                self.head.extend_from_slice(piece);
                if self.head.len() < 4 {
                    return Ok(Vec::new());
                }
                let mut reader = reader_for(&self.head, self.content)?;
                let pcm = reader.push(&std::mem::take(&mut self.head));
                self.reader = Some(reader);
                pcm
            }
        };
        let pcm = pcm.map_err(|what| VoiceError::NotAudio { what })?;
        let Some(rate) = self.reader.as_ref().and_then(PcmReader::rate) else { return Ok(Vec::new()) };
        if self.conditioner.is_none() {
            let level = self.voice.level.clone();
            self.conditioner = Some(Conditioner::new(rate, self.voice.rate, level, TAIL)?);
        }
        Ok(self.conditioner.as_mut().map(|conditioner| conditioner.push(&pcm)).unwrap_or_default())
    }

    fn end(mut self: Box<Self>) -> Result<Option<(Vec<i16>, Step)>, VoiceError> {
        let missing = self.reader.as_ref().map_or(0, PcmReader::missing_bytes);
        if missing > 0 {
            return Err(self.cut(&format!("{missing} more were promised")));
        }
        let Some(conditioner) = self.conditioner.as_mut() else {
            return Err(VoiceError::NotAudio { what: format!("only {} bytes", self.received_bytes) });
        };
        let tail = conditioner.finish();
        Ok(Some((tail, Step::Over)))
    }

    fn cut(&self, what: &str) -> VoiceError {
        VoiceError::Cut { received_bytes: self.received_bytes, what: what.to_owned() }
    }
}

/// What the answer's head promises; `Err` is its type, where that is no audio we read.
fn content_of(response: &Response, format: Format) -> Result<Content, String> {
    let kind = response.headers().get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    let kind = kind.to_ascii_lowercase();
    let mime = kind.split(';').next().unwrap_or_default().trim();
    let rate = kind
        .split(';')
        .find_map(|part| part.trim().strip_prefix("rate=")?.parse().ok())
        .filter(|rate| (4_000..=192_000).contains(rate))
        .map_or(PCM_RATE, SampleRate);
    match mime {
        "audio/wav" | "audio/x-wav" | "audio/wave" | "audio/vnd.wave" => Ok(Content { wav: true, rate }),
        "audio/pcm" | "audio/x-pcm" | "audio/l16" | "" => Ok(Content { wav: false, rate }),
        "application/octet-stream" | "binary/octet-stream" => Ok(Content { wav: format == Format::Wav, rate }),
        other => Err(other.to_owned()),
    }
}

/// Reads what the first bytes are, whatever the head said.
fn reader_for(head: &[u8], content: Content) -> Result<PcmReader, VoiceError> {
    if head.starts_with(b"RIFF") {
        return Ok(PcmReader::wav());
    }
    for (start, what) in
        [(&b"ID3"[..], "MP3"), (b"\xff\xfb", "MP3"), (b"\xff\xf3", "MP3"), (b"OggS", "Ogg"), (b"fLaC", "FLAC")]
    {
        // A raw sample may by chance look like MP3's two bytes.
        if head.starts_with(start) && (content.wav || start.len() > 2) {
            return Err(VoiceError::NotAudio { what: format!("{what}; PCM or WAV is read") });
        }
    }
    Ok(if content.wav { PcmReader::wav() } else { PcmReader::raw(content.rate) })
}

/// The beginning of what a server says in words.
async fn words(response: Response) -> String {
    let mut body = response.bytes_stream();
    let mut said = Vec::new();
    let deadline = Instant::now() + Duration::from_millis(500);
    while said.len() < MAX_WORDS_BYTES {
        match timeout_at(deadline, body.next()).await {
            Ok(Some(Ok(piece))) => said.extend_from_slice(&piece),
            _ => break,
        }
    }
    said.truncate(MAX_WORDS_BYTES);
    String::from_utf8_lossy(&said).split_whitespace().collect::<Vec<_>>().join(" ")
}

fn timed_out(step: &'static str, limit: Duration) -> VoiceError {
    VoiceError::Timeout { engine: "openai", step, limit_ms: u64::try_from(limit.as_millis()).unwrap_or(u64::MAX) }
}

/// An error with its causes.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
