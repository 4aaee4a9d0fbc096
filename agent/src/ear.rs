//! The ear: speech in, words out, behind one streaming trait.
//!
//! A [`Recognizer`] is a provider (an engine with its model, or a server). [`Recognizer::open`] gives a
//! [`RecognizerStream`] for *one utterance*: audio goes in with [`RecognizerStream::push`], partial hypotheses
//! come out while the caller still speaks, and after [`RecognizerStream::finish`] exactly one
//! [`Hypothesis::Final`] or [`Hypothesis::Failed`] follows, then the stream is at its end.
//!
//! Invariants, held by `tests/ear_contract.rs` for every provider:
//! - `push`, `finish` and `cancel` never block: work happens on the provider's threads or tasks.
//! - Nothing follows a `Final` or a `Failed`; nothing follows `cancel`.
//! - A stream may be dropped at any time; its work stops soon after.
//! - What is not surely understood is said to be so: `accepted` is false, and the caller is asked again.
//!
//! Recognition wants [`LEAD_IN`] of real line audio before the first sound and [`LEAD_OUT`] after the last one.

mod energy;
pub mod openai;
pub mod silero;
pub mod sphinx;
pub mod whisper;
mod worker;

use std::future::poll_fn;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use codecs::pcm::SampleRate;

use crate::grammar::Grammar;

/// Line audio that a stream should be given before the first sound of an utterance.
pub const LEAD_IN: Duration = Duration::from_millis(400);

/// Line audio that a stream should be given after the last sound of an utterance.
pub const LEAD_OUT: Duration = Duration::from_millis(300);

/// The most audio one utterance may hold; what is pushed beyond it fails with [`EarError::TooLong`].
pub const MAX_UTTERANCE: Duration = Duration::from_secs(60);

/// A provider of speech recognition: cheap to share, opens any number of streams at once within its named limit.
pub trait Recognizer: Send + Sync {
    /// The provider's name, as the agent's definition writes it.
    fn name(&self) -> &str;

    /// Whether a server elsewhere does the work: when it is silent, that is its fault and not this program's.
    fn is_remote(&self) -> bool {
        false
    }

    /// Begins one utterance.
    ///
    /// # Errors
    /// [`EarError::WrongRate`] for a rate the provider does not take, [`EarError::Busy`] at its limit of streams,
    /// [`EarError::Grammar`] where a grammar is needed or can't be used.
    fn open(&self, config: StreamConfig) -> Result<Box<dyn RecognizerStream>, EarError>;
}

/// One utterance being recognised.
pub trait RecognizerStream: Send {
    /// Adds mono audio at the rate the stream was opened with; never blocks.
    ///
    /// # Errors
    /// [`EarError::TooLong`] past [`MAX_UTTERANCE`], [`EarError::Overloaded`] where the engine can't keep up,
    /// [`EarError::Closed`] after `finish` or `cancel`. The stream then ends with `Failed` of the same reason,
    /// except after `Closed`.
    fn push(&mut self, pcm: &[i16]) -> Result<(), EarError>;

    /// Ends the utterance: one `Final` or `Failed` follows. A second call does nothing.
    fn finish(&mut self);

    /// Gives the utterance up: the stream is at its end.
    fn cancel(&mut self);

    /// The next hypothesis; `None` when the stream is at its end.
    fn poll_hypothesis(&mut self, cx: &mut Context<'_>) -> Poll<Option<Hypothesis>>;
}

/// Waits for the next hypothesis; `None` when the stream is at its end. Cancel-safe.
pub async fn next_hypothesis(stream: &mut dyn RecognizerStream) -> Option<Hypothesis> {
    poll_fn(|cx| stream.poll_hypothesis(cx)).await
}

/// What a stream is to recognise.
#[derive(Clone, Debug)]
pub struct StreamConfig {
    /// Rate of the audio that will be pushed.
    pub rate: SampleRate,
    /// What the caller may say now. Providers of open vocabulary use it as a hint and to judge what they heard;
    /// `sphinx` can't do without.
    pub grammar: Option<Arc<Grammar>>,
    /// BCP 47 tag, such as `en` or `en-US`.
    pub language: String,
}

/// What was understood, so far or at last.
#[derive(Clone, Debug, PartialEq)]
pub enum Hypothesis {
    /// The best guess while the caller still speaks; replaced by the next one.
    Partial {
        /// The words so far, lower case.
        text: String,
        /// Their times, where the provider has them.
        words: Vec<Word>,
    },
    /// The utterance's words.
    Final {
        /// The words; empty where nothing was said.
        text: String,
        /// Their times, where the provider has them.
        words: Vec<Word>,
        /// 0 to 1: how sure the provider is.
        confidence: f32,
        /// Whether this is to be believed. False: something was said, but it is not (surely) what was heard; ask again.
        accepted: bool,
    },
    /// The utterance was lost.
    Failed(EarError),
}

/// One word and its place on the stream's time line (0 = first sample pushed).
#[derive(Clone, Debug, PartialEq)]
pub struct Word {
    /// The word as spoken, lower case.
    pub text: String,
    /// Start, milliseconds.
    pub start_ms: u32,
    /// End, milliseconds.
    pub end_ms: u32,
    /// 0 to 1.
    pub confidence: f32,
}

/// Why an utterance can't be recognised.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EarError {
    /// The provider does not take this rate.
    #[error("{provider} takes audio at {wanted} Hz, not at {got_hz} Hz")]
    WrongRate {
        /// The provider.
        provider: &'static str,
        /// The rates it takes, for people.
        wanted: &'static str,
        /// The rate asked for, Hz.
        got_hz: u32,
    },
    /// The provider has no means to recognise this language.
    #[error("{provider} has no model for language `{language}`")]
    Language {
        /// The provider.
        provider: &'static str,
        /// The tag asked for.
        language: String,
    },
    /// A file the provider needs is missing; `mend` says how to get it.
    #[error("{what} is missing ({path}): {mend}")]
    ModelMissing {
        /// What is missing.
        what: String,
        /// Where it was looked for.
        path: String,
        /// How to get it.
        mend: String,
    },
    /// A file the provider needs can't be used.
    #[error("{path} can't be used: {reason}")]
    ModelBad {
        /// The file.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// The grammar is missing or can't be used by this provider.
    #[error("grammar: {0}")]
    Grammar(String),
    /// All of the provider's streams are in use.
    #[error("{provider} already recognises {limit} utterances at once, its limit")]
    Busy {
        /// The provider.
        provider: &'static str,
        /// The limit.
        limit: usize,
    },
    /// Audio came faster than the engine could take it.
    #[error("the recogniser fell {backlog_ms} ms behind and gave this utterance up")]
    Overloaded {
        /// Audio waiting when it gave up, milliseconds.
        backlog_ms: u32,
    },
    /// The utterance is longer than [`MAX_UTTERANCE`].
    #[error("the utterance is longer than {limit_ms} ms")]
    TooLong {
        /// The limit, milliseconds.
        limit_ms: u32,
    },
    /// The stream was finished or cancelled before.
    #[error("the stream is closed")]
    Closed,
    /// The engine failed.
    #[error("{provider}: {reason}")]
    Engine {
        /// The provider.
        provider: &'static str,
        /// What it said.
        reason: String,
    },
    /// The server refused the key.
    #[error("{url} refused the API key (HTTP {status}): set the key that the configuration names")]
    Unauthorised {
        /// The address asked.
        url: String,
        /// 401 or 403.
        status: u16,
    },
    /// The server did not answer in time.
    #[error("{url} did not answer within {limit_ms} ms")]
    TimedOut {
        /// The address asked.
        url: String,
        /// The limit, milliseconds.
        limit_ms: u64,
    },
    /// The server could not be reached, or cut the answer short.
    #[error("{url} can't be reached: {reason}")]
    Unreachable {
        /// The address asked.
        url: String,
        /// What the connection said.
        reason: String,
    },
    /// The server answered with an error.
    #[error("{url} answered HTTP {status}: {body}")]
    Status {
        /// The address asked.
        url: String,
        /// The HTTP status.
        status: u16,
        /// The start of the body.
        body: String,
    },
    /// The server's answer is not what was agreed.
    #[error("{url} answered something that is no transcription: {reason}")]
    BadAnswer {
        /// The address asked.
        url: String,
        /// What is wrong with it.
        reason: String,
    },
}
