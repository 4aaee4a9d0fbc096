//! The brain: what to say next.
//!
//! A brain is asked with a [`BrainInput`] and answers with a stream of [`BrainOutput`]s, so that the first sentence can
//! be spoken while the second is still thought of. It may be asked *ahead of time*, on a guess of what the caller is
//! saying: an answer changes the brain's state only when the session calls [`Brain::commit`], and is forgotten by
//! [`Brain::discard`] or by the next [`Brain::respond`].
//!
//! What a brain may do (transfer, hang up) is settled by its configuration, never by what a model or a caller says.

pub mod openai;
pub mod script;

use std::collections::BTreeMap;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::Stream;
use serde::{Deserialize, Serialize};

use crate::briefing::Briefing;
use crate::grammar::Grammar;
use crate::history::History;
use crate::tool::ToolAsk;
use crate::usage::Meter;

/// The answer of a brain, output by output. Dropped, it is cancelled.
pub type BrainStream = Pin<Box<dyn Stream<Item = Result<BrainOutput, BrainError>> + Send>>;

/// What a brain is told.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum BrainInput {
    /// The conversation begins: the agent speaks first.
    Start,
    /// The caller said something.
    Heard {
        /// What was understood.
        text: String,
        /// 0 to 1, as the recogniser says.
        confidence: f32,
    },
    /// The caller pressed keys.
    Digits(String),
    /// The caller has been silent for the n-th time in a row (from 1).
    NoInput(u32),
    /// The caller was heard but not understood for the n-th time in a row (from 1).
    NoMatch(u32),
    /// The person whom the caller was to be connected with is not to be had: why, as a clause ("the person is busy"). The
    /// caller heard music meanwhile and is back.
    TransferFailed(String),
    /// Somebody else wanted the caller connected with somebody, and that came to nothing: why, as a clause. The caller heard music
    /// meanwhile and is back.
    Returned(String),
}

/// Whom the caller is to be connected with, and how.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Handover {
    /// A SIP or tel URI, or a number. Whether it may be called is settled by the server's configuration.
    pub uri: String,
    /// How.
    pub kind: TransferKind,
    /// What the person hears first, of a warm transfer. An agent that is to have the caller knows it.
    pub summary: String,
    /// Whether the person has to press 1 to take the call. An agent takes every call.
    pub must_accept: bool,
    /// What an agent is to know by name, at most [`VARIABLES_LIMIT`](crate::briefing::VARIABLES_LIMIT).
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub variables: BTreeMap<String, String>,
    /// An agent is not told what was said in the call before.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub afresh: bool,
}

/// How a call is passed on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum TransferKind {
    /// At once, whatever becomes of it.
    #[default]
    Blind,
    /// The caller hears music until the person has answered.
    Attended,
    /// The person hears a summary first, and may have to accept; the caller hears music meanwhile, and is heard by nobody.
    Warm,
}

impl Handover {
    /// A blind transfer to this address.
    #[must_use]
    pub fn blind(uri: impl Into<String>) -> Self {
        Self { uri: uri.into(), ..Self::default() }
    }
}

/// What a brain wants done, in order.
#[derive(Debug, Clone, PartialEq)]
#[non_exhaustive]
pub enum BrainOutput {
    /// Say this: a sentence or a clause.
    Say(String),
    /// A tool was asked for: it is noted. What carries it out follows, where it is.
    Tool(ToolAsk),
    /// Then listen, in this way. An answer that ends without it listens with [`Listen::default`].
    Listen(Listen),
    /// Say what came before, then connect the caller with somebody. Where that fails, [`BrainInput::TransferFailed`] follows.
    Transfer(Handover),
    /// Say what came before, then hang up.
    HangUp {
        /// Why, for the record.
        reason: String,
    },
}

/// How to listen for the caller's answer. `None` leaves the agent's own setting.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Listen {
    /// Keys: how many make one answer.
    pub keys: KeyAnswer,
    /// How long to wait for the caller to begin.
    pub no_input_after: Option<Duration>,
    /// The answer asked for is a number, a date or the like, which people speak in pieces: wait longer in pauses.
    pub dictated: bool,
    /// Speech does not cut this prompt short (keys do).
    pub uninterruptible: bool,
}

/// What counts as an answer given by keys.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum KeyAnswer {
    /// Each key is an answer.
    #[default]
    Single,
    /// Keys are collected until `#`, until `max` keys, or until the caller pauses.
    Collect {
        /// At most so many keys.
        max: usize,
    },
}

/// Why a brain has no (further) answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum BrainError {
    /// The provider could not be reached.
    #[error("{provider} cannot be reached: {reason}")]
    Unreachable {
        /// Which provider.
        provider: String,
        /// What went wrong.
        reason: String,
    },
    /// The provider refused.
    #[error("{provider} answered {status}: {reason}")]
    Refused {
        /// Which provider.
        provider: String,
        /// HTTP status.
        status: u16,
        /// What it said, cut short.
        reason: String,
    },
    /// The provider took too long.
    #[error("{provider} sent nothing for {waited_ms} ms while {stage}")]
    TooSlow {
        /// Which provider.
        provider: String,
        /// What was waited for.
        stage: &'static str,
        /// How long.
        waited_ms: u64,
    },
    /// The answer broke off.
    #[error("{provider} broke off in mid-answer: {reason}")]
    CutShort {
        /// Which provider.
        provider: String,
        /// What went wrong.
        reason: String,
    },
    /// The answer is not what the protocol says.
    #[error("{provider} sent what cannot be understood: {reason}")]
    Malformed {
        /// Which provider.
        provider: String,
        /// What was wrong.
        reason: String,
    },
    /// The answer held nothing to say or do.
    #[error("{provider} answered with nothing")]
    Empty {
        /// Which provider.
        provider: String,
    },
}

/// Decides what to say.
pub trait Brain: Send {
    /// The provider's name, as in the configuration.
    fn name(&self) -> &str;

    /// What the caller is expected to say in the present state; `None` where anything may be said.
    fn expects(&self) -> Option<Arc<Grammar>>;

    /// Begins an answer. It takes effect only with [`Brain::commit`]; a second call forgets the first answer.
    fn respond(&mut self, input: BrainInput, history: &History) -> BrainStream;

    /// The last answer is being given: its effects on the brain's state hold from here on.
    fn commit(&mut self);

    /// The last answer is not given: the caller went on.
    fn discard(&mut self);

    /// What is said in the present state, by either side, is nobody else's: it is to be in no recording, transcript or log.
    fn is_private(&self) -> bool {
        false
    }

    /// Somebody of the house tells the agent something that the caller does not hear. False where this brain can make nothing of it.
    fn note(&mut self, text: &str) -> bool {
        let _ = text;
        false
    }

    /// Before the first answer: the caller has been handed over in mid-call, and this is known of them. What was said before stands in the
    /// history as well.
    fn brief(&mut self, briefing: &Briefing) {
        let _ = briefing;
    }

    /// What is used of those who are paid by use is to be counted here.
    fn count_on(&mut self, meter: Meter) {
        let _ = meter;
    }

    /// What to say when the answer fails or does not come.
    fn fallback(&self) -> &str {
        "I am sorry, something went wrong at our end."
    }
}

/// Makes a brain for each conversation.
pub trait BrainFactory: Send + Sync {
    /// The provider's name, as in the configuration.
    fn name(&self) -> &str;

    /// The language model that is asked, where one is.
    fn model(&self) -> Option<&str> {
        None
    }

    /// A brain for a new conversation.
    fn open(&self) -> Box<dyn Brain>;

    /// What it says often, word for word: worth keeping in the voice's cache.
    fn phrases(&self) -> Vec<String> {
        Vec::new()
    }
}
