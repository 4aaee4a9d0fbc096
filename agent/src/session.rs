//! One conversation on one line.
//!
//! The session joins the turn machine, the ear, the brain and the voice, and runs them ahead of time: recognition
//! streams while the caller speaks; at the first likely pause the brain starts on the best hypothesis and the voice on
//! its first sentence; the audio is held until the turn is decided, and thrown away if the caller goes on.
//!
//! # Invariants
//! - It never panics and never waits for a provider without a limit in its [`SessionConfig`] or [`TurnConfig`].
//! - A brain's answer takes effect (its state, its transfer, its hanging up) only when its first audio is released.
//! - The history holds what was played, not what was made.
//! - [`Session::run`] returns only when what was to be said has been played, the line has closed, or nothing can be
//!   said any more.

mod clock;
mod event;
mod hearing;
mod opinion;
mod reply;
mod run;
mod speaking;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use codecs::pcm::SampleRate;
use serde::{Deserialize, Serialize};
use tokio::sync::mpsc;

pub use event::{Began, Fault, Means, PRIVATE, Part, Remedy, SessionEnd, SessionEvent, Stages, TurnRecord, Waits};

use crate::brain::{BrainFactory, BrainInput};
use crate::briefing::Briefing;
use crate::ear::Recognizer;
use crate::ear::silero::SileroModel;
use crate::line::Line;
use crate::turn::TurnConfig;
use crate::voice::{Voice, VoiceError};

/// How many events an observer's channel should hold: a turn makes about twenty.
pub const OBSERVER_CAPACITY: usize = 256;

/// Time limits and stand-in texts: the `[session]` table of an agent's definition.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct SessionConfig {
    /// Prepare answers ahead of time, at likely pauses. Costs a request for each with a paid brain.
    pub ahead: bool,
    /// Say `filler` when the brain has nothing to say after so long.
    pub filler_after_ms: u32,
    /// What is said while the brain thinks; empty for nothing.
    pub filler: String,
    /// The brain has failed when it has nothing to say after so long.
    pub brain_first_ms: u32,
    /// The brain has failed when it goes silent in mid-answer for so long.
    pub brain_next_ms: u32,
    /// So many failures of the brain in a row end the conversation.
    pub brain_failures: u32,
    /// The recogniser has failed when its last word does not come within so long.
    pub recognizer_final_ms: u32,
    /// So many utterances in a row that no recogniser could take end the conversation.
    pub recognizer_failures: u32,
    /// The voice has failed when no audio comes for so long.
    pub voice_first_ms: u32,
    /// Said when the recogniser fails; the brain's way of asking again follows.
    pub trouble_text: String,
    /// Said before the conversation ends because a provider is gone.
    pub failure_text: String,
    /// Said when the conversation has lasted too long.
    pub time_limit_text: String,
}

impl Default for SessionConfig {
    fn default() -> Self {
        Self {
            ahead: true,
            filler_after_ms: 1_500,
            filler: "One moment, please.".into(),
            brain_first_ms: 10_000,
            brain_next_ms: 6_000,
            brain_failures: 2,
            recognizer_final_ms: 4_000,
            recognizer_failures: 3,
            voice_first_ms: 5_000,
            trouble_text: "I have trouble hearing you.".into(),
            failure_text: "I am sorry, I cannot help you right now. Please call again later. Goodbye.".into(),
            time_limit_text: "I am sorry, we have to end this call now. Goodbye.".into(),
        }
    }
}

/// Opens a voice at the rate of a line.
pub type VoiceSource = Arc<dyn Fn(SampleRate) -> Result<Arc<dyn Voice>, VoiceError> + Send + Sync>;

/// An agent, ready to hold any number of conversations. Cheap to clone.
#[derive(Clone)]
#[non_exhaustive]
pub struct Agent {
    /// Its name.
    pub name: String,
    /// The language it speaks, as a BCP 47 tag.
    pub language: String,
    /// Recognisers in the order of preference; the later ones step in for the earlier. None: keys only.
    pub recognizers: Vec<Arc<dyn Recognizer>>,
    /// The agent's own voice that comes back from the caller is taken out of what is heard.
    pub echo_control: bool,
    /// Noise is taken out of what recognisers get, while the line is noisy.
    pub noise_control: bool,
    /// Decides how long speech lasts, where it is there; the fast gate decides alone where not.
    pub detector: Option<Arc<SileroModel>>,
    /// Makes a brain for each conversation.
    pub brain: Arc<dyn BrainFactory>,
    /// Voices in the order of preference; the later ones step in for the earlier.
    pub voices: Vec<VoiceSource>,
    /// Timings of turns.
    pub turn: TurnConfig,
    /// Time limits and stand-in texts.
    pub session: SessionConfig,
    /// What was chosen when it was built, and why, one sentence each.
    pub notes: Vec<String>,
}

impl Agent {
    /// An agent of these parts, with default timings.
    #[must_use]
    pub fn new(name: impl Into<String>, brain: Arc<dyn BrainFactory>) -> Self {
        Self {
            name: name.into(),
            language: "en-US".into(),
            recognizers: Vec::new(),
            echo_control: true,
            noise_control: true,
            detector: None,
            brain,
            voices: Vec::new(),
            turn: TurnConfig::default(),
            session: SessionConfig::default(),
            notes: Vec::new(),
        }
    }

    /// Adds a recogniser; the first is preferred.
    #[must_use]
    pub fn with_recognizer(mut self, recognizer: Arc<dyn Recognizer>) -> Self {
        self.recognizers.push(recognizer);
        self
    }

    /// Adds a voice; the first is preferred.
    #[must_use]
    pub fn with_voice(mut self, voice: VoiceSource) -> Self {
        self.voices.push(voice);
        self
    }
}

impl fmt::Debug for Agent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let recognizers: Vec<&str> = self.recognizers.iter().map(|recognizer| recognizer.name()).collect();
        f.debug_struct("Agent")
            .field("name", &self.name)
            .field("recognizers", &recognizers)
            .field("brain", &self.brain.name())
            .field("voices", &self.voices.len())
            .finish_non_exhaustive()
    }
}

/// One conversation.
pub struct Session {
    agent: Agent,
    observer: mpsc::Sender<SessionEvent>,
    /// What is known of a caller who was handed over, and how long they have been there.
    briefing: Option<(Briefing, Duration)>,
    run: Option<Box<run::Run>>,
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session")
            .field("agent", &self.agent)
            .field("begun", &self.run.is_some())
            .finish_non_exhaustive()
    }
}

impl Session {
    /// A conversation with this agent. Events that the observer has no room for are lost to it; see
    /// [`OBSERVER_CAPACITY`].
    #[must_use]
    pub fn new(agent: Agent, observer: mpsc::Sender<SessionEvent>) -> Self {
        Self { agent, observer, briefing: None, run: None }
    }

    /// The same with a caller who was handed over in mid-call: the brain knows this of them, and times go on from here.
    #[must_use]
    pub fn briefed(mut self, briefing: Briefing, since: Duration) -> Self {
        self.briefing = Some((briefing, since));
        self
    }

    /// Holds the conversation until it ends. The line is left open, with everything said played out.
    pub async fn run<L: Line>(mut self, line: &mut L) -> SessionEnd {
        self.hold(BrainInput::Start, line).await
    }

    /// Like [`run`](Self::run), and can go on after it: the brain is told `input` ([`BrainInput::Start`] the first time;
    /// [`BrainInput::TransferFailed`] where nobody could be connected, [`BrainInput::Returned`] where its line was taken from it) and
    /// remembers what was said before.
    pub async fn hold<L: Line>(&mut self, input: BrainInput, line: &mut L) -> SessionEnd {
        let run = match self.run.take() {
            Some(run) => run,
            None => match run::Run::new(self.agent.clone(), self.observer.clone(), line.rate(), self.briefing.take()) {
                Ok(run) => Box::new(run),
                Err(what) => return SessionEnd::Failed { what, fault: Fault::Ours },
            },
        };
        self.run.insert(run).until_the_end(input, line).await
    }
}
