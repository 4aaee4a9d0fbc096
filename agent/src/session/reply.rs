//! One answer of the agent on its way: from the brain's first text to the last sample heard.

use std::future::pending;
use std::time::Duration;

use futures::StreamExt;

use super::event::{Fault, Means, Stages};
use super::speaking::{Speaking, Spoken};
use crate::brain::{BrainError, BrainInput, BrainOutput, BrainStream, Handover, Listen};
use crate::tool::ToolRecord;

/// At most so many outputs of a brain make one answer; more are not taken.
pub(super) const MAX_OUTPUTS: usize = 400;

/// What follows the answer.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum After {
    Listen(Listen),
    HangUp { reason: String },
    Transfer(Handover),
    Fail { what: String, fault: Fault },
}

/// What comes of an answer next.
#[derive(Debug)]
pub(super) enum Made {
    Thought(Option<Result<BrainOutput, BrainError>>),
    Spoken(Spoken),
}

pub(super) struct Reply {
    /// What it answers; `None` where the session itself speaks.
    pub input: Option<BrainInput>,
    pub by: Means,
    pub speaking: Speaking,
    pub stream: Option<BrainStream>,
    pub after: After,
    pub stages: Stages,
    /// What the brain asked for besides talking.
    pub tools: Vec<ToolRecord>,
    /// It was begun before the caller's turn was decided.
    pub ahead: bool,
    /// The brain was told that it holds.
    pub committed: bool,
    /// Its audio goes to the line.
    pub released: bool,
    /// Since when the brain's next output is awaited.
    pub waiting_since: Duration,
    pub texts: usize,
    pub outputs: usize,
    pub filler_said: bool,
    pub failed: bool,
    /// Cut off by the caller; it may yet go on.
    pub cut: bool,
    /// It is said in private.
    pub private: bool,
    /// How many of the agent's samples were heard, and since when no more were: a line that stands still.
    pub progress: (u64, Duration),
}

impl Reply {
    pub(super) fn new(
        input: Option<BrainInput>,
        by: Means,
        speaking: Speaking,
        stream: Option<BrainStream>,
        now: Duration,
    ) -> Self {
        Self {
            input,
            by,
            speaking,
            stream,
            after: After::Listen(Listen::default()),
            stages: Stages::default(),
            tools: Vec::new(),
            ahead: false,
            committed: false,
            released: false,
            waiting_since: now,
            texts: 0,
            outputs: 0,
            filler_said: false,
            failed: false,
            cut: false,
            private: false,
            progress: (0, now),
        }
    }

    /// Whether speech may cut it short.
    pub(super) fn interruptible(&self) -> bool {
        match &self.after {
            After::Listen(listen) => !listen.uninterruptible,
            _ => false,
        }
    }

    /// What comes next. Cancel-safe.
    pub(super) async fn next(&mut self, now: Duration) -> Made {
        let Self { stream, speaking, .. } = self;
        let thought = async {
            match stream.as_mut() {
                Some(stream) => stream.next().await,
                None => pending().await,
            }
        };
        tokio::select! {
            biased;
            thought = thought => Made::Thought(thought),
            spoken = speaking.next(now) => Made::Spoken(spoken),
        }
    }
}
