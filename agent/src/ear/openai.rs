//! `openai`: any server with `POST /v1/audio/transcriptions`.
//!
//! The audio is gathered while the caller speaks and sent as a WAV file, built in memory, at its end; there are no
//! partial hypotheses, and nothing is tried twice: the caller waits. An utterance without sound is not sent.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, Waker};
use std::time::Duration;

use codecs::SampleRate;
use reqwest::multipart::{Form, Part};
use reqwest::{Client, StatusCode, Url};
use serde::Deserialize;
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use super::energy::has_sound;
use super::{EarError, Hypothesis, MAX_UTTERANCE, Recognizer, RecognizerStream, StreamConfig, Word};
use crate::grammar::Grammar;
use crate::traced;

const PROVIDER: &str = "openai";
/// The longest answer that is read.
const MAX_ANSWER_BYTES: usize = 1024 * 1024;
/// How much of an error's body is repeated.
const MAX_QUOTE_CHARS: usize = 200;

/// Where and how to ask.
#[derive(Clone)]
pub struct OpenAiEarConfig {
    /// The server, up to and with `/v1`.
    pub base_url: String,
    /// The key, where the server wants one.
    pub api_key: Option<String>,
    /// The model's name there.
    pub model: String,
    /// Ask for word times (`verbose_json`); models that know no such format want this off.
    pub word_times: bool,
    /// From sending to the whole answer.
    pub timeout: Duration,
    /// Utterances at once.
    pub max_streams: usize,
}

impl Default for OpenAiEarConfig {
    fn default() -> Self {
        Self {
            base_url: "https://api.openai.com/v1".into(),
            api_key: None,
            model: "whisper-1".into(),
            word_times: true,
            timeout: Duration::from_secs(10),
            max_streams: 256,
        }
    }
}

impl std::fmt::Debug for OpenAiEarConfig {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let key = if self.api_key.is_some() { "(a key)" } else { "(no key)" };
        let Self { base_url, model, word_times, timeout, max_streams, .. } = self;
        write!(f, "OpenAiEarConfig {{ {base_url}, {key}, {model}, {word_times}, {timeout:?}, {max_streams} }}")
    }
}

/// The recogniser.
#[derive(Clone, Debug)]
pub struct OpenAiEar {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    config: OpenAiEarConfig,
    url: Url,
    client: Client,
    open: tokio::sync::Semaphore,
}

impl OpenAiEar {
    /// Checks the address; asks nothing yet.
    ///
    /// # Errors
    /// [`EarError::Engine`] for an address that is none.
    pub fn new(config: OpenAiEarConfig) -> Result<Self, EarError> {
        let fault = |reason: String| EarError::Engine { provider: PROVIDER, reason };
        let address = format!("{}/audio/transcriptions", config.base_url.trim_end_matches('/'));
        let url = Url::parse(&address).map_err(|error| fault(format!("base URL {}: {error}", config.base_url)))?;
        if !matches!(url.scheme(), "http" | "https") {
            return Err(fault(format!("base URL {}: only http and https are spoken", config.base_url)));
        }
        let client = Client::builder().timeout(config.timeout).redirect(reqwest::redirect::Policy::none()).build();
        let client = client.map_err(|error| fault(error.to_string()))?;
        let open = tokio::sync::Semaphore::new(config.max_streams.max(1));
        Ok(Self { shared: Arc::new(Shared { config, url, client, open }) })
    }
}

impl Recognizer for OpenAiEar {
    fn name(&self) -> &str {
        PROVIDER
    }

    fn is_remote(&self) -> bool {
        true
    }

    fn open(&self, config: StreamConfig) -> Result<Box<dyn RecognizerStream>, EarError> {
        let hz = config.rate.hz();
        if !(8_000..=48_000).contains(&hz) {
            return Err(EarError::WrongRate { provider: PROVIDER, wanted: "8000 to 48000", got_hz: hz });
        }
        let runtime = Handle::try_current().map_err(|_| EarError::Engine {
            provider: PROVIDER,
            reason: "a stream must be opened inside a tokio runtime".into(),
        })?;
        // The permit is given back when the stream goes, in `Drop`.
        match self.shared.open.try_acquire() {
            Ok(permit) => permit.forget(),
            Err(_) => return Err(EarError::Busy { provider: PROVIDER, limit: self.shared.config.max_streams }),
        }
        Ok(Box::new(Stream {
            shared: Arc::clone(&self.shared),
            runtime,
            config,
            pcm: Vec::new(),
            state: State::Open,
            waker: None,
        }))
    }
}

struct Stream {
    shared: Arc<Shared>,
    runtime: Handle,
    config: StreamConfig,
    pcm: Vec<i16>,
    state: State,
    waker: Option<Waker>,
}

impl Stream {
    /// Changes the state and wakes whoever waits for it.
    fn enter(&mut self, state: State) {
        self.state = state;
        if let Some(waker) = self.waker.take() {
            waker.wake();
        }
    }
}

enum State {
    Open,
    Asking(JoinHandle<Hypothesis>),
    Failed(EarError),
    Ended,
}

impl RecognizerStream for Stream {
    fn push(&mut self, pcm: &[i16]) -> Result<(), EarError> {
        if !matches!(self.state, State::Open) {
            return Err(EarError::Closed);
        }
        if self.pcm.len() + pcm.len() > self.config.rate.samples_in(MAX_UTTERANCE) {
            let error = EarError::TooLong { limit_ms: MAX_UTTERANCE.as_millis() as u32 };
            self.enter(State::Failed(error.clone()));
            return Err(error);
        }
        self.pcm.extend_from_slice(pcm);
        Ok(())
    }

    fn finish(&mut self) {
        if !matches!(self.state, State::Open) {
            return;
        }
        let (shared, pcm) = (Arc::clone(&self.shared), std::mem::take(&mut self.pcm));
        let config = self.config.clone();
        let asking = async move { shared.transcribe(&config, &pcm).await.unwrap_or_else(Hypothesis::Failed) };
        let task = self.runtime.spawn(traced::within(traced::current(), asking));
        self.enter(State::Asking(task));
    }

    fn cancel(&mut self) {
        if let State::Asking(task) = std::mem::replace(&mut self.state, State::Ended) {
            task.abort();
        }
        self.enter(State::Ended);
        self.pcm = Vec::new();
    }

    fn poll_hypothesis(&mut self, cx: &mut Context<'_>) -> Poll<Option<Hypothesis>> {
        match &mut self.state {
            State::Open => {
                self.waker = Some(cx.waker().clone());
                Poll::Pending
            }
            State::Ended => Poll::Ready(None),
            State::Failed(error) => {
                let failed = Hypothesis::Failed(error.clone());
                self.state = State::Ended;
                Poll::Ready(Some(failed))
            }
            State::Asking(task) => match Pin::new(task).poll(cx) {
                Poll::Pending => Poll::Pending,
                Poll::Ready(result) => {
                    self.state = State::Ended;
                    Poll::Ready(Some(result.unwrap_or_else(|error| {
                        let reason = error.to_string();
                        Hypothesis::Failed(EarError::Engine { provider: PROVIDER, reason })
                    })))
                }
            },
        }
    }
}

impl Drop for Stream {
    fn drop(&mut self) {
        self.cancel();
        self.shared.open.add_permits(1);
    }
}

/// The parts that are used of `json` and `verbose_json`.
#[derive(Debug, Deserialize)]
struct Answer {
    text: String,
    #[serde(default)]
    words: Vec<AnswerWord>,
    #[serde(default)]
    segments: Vec<Segment>,
}

#[derive(Debug, Deserialize)]
struct AnswerWord {
    word: String,
    start: f64,
    end: f64,
}

#[derive(Debug, Deserialize)]
struct Segment {
    #[serde(default)]
    avg_logprob: Option<f64>,
    #[serde(default)]
    no_speech_prob: Option<f64>,
}

impl Shared {
    async fn transcribe(&self, config: &StreamConfig, pcm: &[i16]) -> Result<Hypothesis, EarError> {
        if !has_sound(pcm, config.rate) {
            return Ok(final_of(String::new(), Vec::new(), 0.0, config.grammar.as_deref()));
        }
        let url = || self.url.to_string();
        let wav = Part::bytes(wav(pcm, config.rate)).file_name("speech.wav").mime_str("audio/wav");
        let wav = wav.map_err(|error| EarError::Engine { provider: PROVIDER, reason: error.to_string() })?;
        let mut form = Form::new().part("file", wav).text("model", self.config.model.clone());
        let language = config.language.split(['-', '_']).next().unwrap_or("").to_lowercase();
        if !language.is_empty() {
            form = form.text("language", language);
        }
        if self.config.word_times {
            form = form.text("response_format", "verbose_json").text("timestamp_granularities[]", "word");
        } else {
            form = form.text("response_format", "json");
        }
        let mut request = traced::telling(self.client.post(self.url.clone()).multipart(form));
        if let Some(key) = &self.config.api_key {
            request = request.bearer_auth(key);
        }
        let response = request.send().await.map_err(|error| self.connection_error(&error))?;
        let status = response.status();
        let body = self.read(response).await?;
        if matches!(status, StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN) {
            return Err(EarError::Unauthorised { url: url(), status: status.as_u16() });
        }
        if !status.is_success() {
            let body = String::from_utf8_lossy(&body).chars().take(MAX_QUOTE_CHARS).collect();
            return Err(EarError::Status { url: url(), status: status.as_u16(), body });
        }
        let answer: Answer = serde_json::from_slice(&body)
            .map_err(|error| EarError::BadAnswer { url: url(), reason: error.to_string() })?;
        let confidence = confidence(&answer);
        let words = answer.words.iter().map(|word| Word {
            text: plain(&word.word),
            start_ms: milliseconds(word.start),
            end_ms: milliseconds(word.end),
            confidence,
        });
        Ok(final_of(plain(&answer.text), words.collect(), confidence, config.grammar.as_deref()))
    }

    async fn read(&self, mut response: reqwest::Response) -> Result<Vec<u8>, EarError> {
        let mut body = Vec::new();
        while let Some(piece) = response.chunk().await.map_err(|error| self.connection_error(&error))? {
            if body.len() + piece.len() > MAX_ANSWER_BYTES {
                let reason = format!("it is longer than {MAX_ANSWER_BYTES} bytes");
                return Err(EarError::BadAnswer { url: self.url.to_string(), reason });
            }
            body.extend_from_slice(&piece);
        }
        Ok(body)
    }

    fn connection_error(&self, error: &reqwest::Error) -> EarError {
        let url = self.url.to_string();
        if error.is_timeout() {
            return EarError::TimedOut { url, limit_ms: self.config.timeout.as_millis() as u64 };
        }
        let mut reason = error.to_string();
        let mut cause = std::error::Error::source(error);
        while let Some(inner) = cause {
            reason = inner.to_string();
            cause = inner.source();
        }
        EarError::Unreachable { url, reason }
    }
}

/// A final hypothesis of open vocabulary: believed where the grammar, if there is one, knows it.
pub(super) fn final_of(text: String, words: Vec<Word>, confidence: f32, grammar: Option<&Grammar>) -> Hypothesis {
    let accepted = !text.is_empty() && grammar.is_none_or(|grammar| grammar.match_text(&text).is_some());
    Hypothesis::Final { text, words, confidence, accepted }
}

/// Text without notes such as `[BLANK_AUDIO]` or `(music)`, in lower case.
pub(super) fn plain(text: &str) -> String {
    let mut depth = 0u32;
    let kept = text.chars().filter(|c| match c {
        '[' | '(' => {
            depth += 1;
            false
        }
        ']' | ')' => {
            depth = depth.saturating_sub(1);
            false
        }
        _ => depth == 0,
    });
    let kept: String = kept.collect();
    kept.split_whitespace().collect::<Vec<_>>().join(" ").to_lowercase()
}

/// The segments' mean probability, less what the server takes for silence; 1 where it does not say.
fn confidence(answer: &Answer) -> f32 {
    let known = answer.segments.iter().filter_map(|segment| {
        let spoken = 1.0 - segment.no_speech_prob.unwrap_or(0.0).clamp(0.0, 1.0);
        Some(segment.avg_logprob?.min(0.0).exp() * spoken)
    });
    let (sum, count) = known.fold((0.0, 0), |(sum, count), value| (sum + value, count + 1));
    if count == 0 { 1.0 } else { (sum / f64::from(count)) as f32 }
}

fn milliseconds(seconds: f64) -> u32 {
    (seconds.max(0.0) * 1_000.0).round().min(f64::from(u32::MAX)) as u32
}

/// A mono 16-bit WAV file.
fn wav(pcm: &[i16], rate: SampleRate) -> Vec<u8> {
    let data_bytes = (pcm.len() * 2) as u32;
    let mut file = Vec::with_capacity(44 + pcm.len() * 2);
    file.extend_from_slice(b"RIFF");
    file.extend_from_slice(&(36 + data_bytes).to_le_bytes());
    file.extend_from_slice(b"WAVEfmt ");
    file.extend_from_slice(&16u32.to_le_bytes());
    file.extend_from_slice(&1u16.to_le_bytes());
    file.extend_from_slice(&1u16.to_le_bytes());
    file.extend_from_slice(&rate.hz().to_le_bytes());
    file.extend_from_slice(&(rate.hz() * 2).to_le_bytes());
    file.extend_from_slice(&2u16.to_le_bytes());
    file.extend_from_slice(&16u16.to_le_bytes());
    file.extend_from_slice(b"data");
    file.extend_from_slice(&data_bytes.to_le_bytes());
    pcm.iter().for_each(|sample| file.extend_from_slice(&sample.to_le_bytes()));
    file
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_in_brackets_are_no_words() {
        assert_eq!(plain(" [BLANK_AUDIO] (soft music) Hello  there. "), "hello there.");
        assert_eq!(plain("(never closed"), "");
        assert_eq!(plain("a) b"), "a b");
    }
}
