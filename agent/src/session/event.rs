//! What a session reports: events while it runs, and how it ended.

use serde::{Deserialize, Serialize};

use crate::brain::Handover;
use crate::history::Speaker;
use crate::tool::ToolRecord;
use crate::usage::Usage;

/// Stands where what was said is nobody else's.
pub const PRIVATE: &str = "(private)";

/// How a conversation ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "end")]
#[non_exhaustive]
pub enum SessionEnd {
    /// The agent is done and the line is to be hung up; everything said has been played.
    HangUp {
        /// Why: `goodbye`, `no input`, `no match`, `time limit`, or what the brain gave.
        reason: String,
    },
    /// The caller is to be connected with this address; everything said has been played.
    Transfer(Handover),
    /// The line went away.
    LineClosed,
    /// A provider failed and nothing could stand in for it. The caller was told so where a voice was left.
    Failed {
        /// What failed, for the record.
        what: String,
        /// Whose fault it is.
        fault: Fault,
    },
}

/// Whose fault a failure is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Fault {
    /// A server that we ask.
    Upstream,
    /// This program, its configuration or its machine.
    Ours,
}

/// A part of the agent that a provider fills.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Part {
    /// The recogniser.
    Recognizer,
    /// The brain.
    Brain,
    /// The voice.
    Voice,
}

/// What was done about a provider's failure.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Remedy {
    /// Asked again.
    Retried,
    /// Another provider took over.
    OtherProvider,
    /// The caller was asked to use the keypad.
    Keypad,
    /// A spoken fallback took the place of the answer.
    SpokenFallback,
    /// Nothing was left: the conversation ends.
    GaveUp,
}

/// What happens in a conversation. Times are on the line's clock, in milliseconds since it opened.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", tag = "event")]
#[non_exhaustive]
pub enum SessionEvent {
    /// An agent has a call's caller from here on.
    Began(Began),
    /// The caller began to speak (confirmed where the agent was speaking, likely where not).
    SpeechStarted {
        /// When.
        at_ms: f64,
    },
    /// What the recogniser makes of it so far.
    Partial {
        /// The words so far.
        text: String,
    },
    /// What the recogniser made of it.
    Final {
        /// The words.
        text: String,
        /// The words again, one by one.
        words: Vec<String>,
        /// 0 to 1.
        confidence: f32,
        /// False where it is not surely one of the expected phrases.
        accepted: bool,
    },
    /// The caller answered by keys.
    Keys {
        /// The keys.
        digits: String,
        /// When the last came.
        at_ms: f64,
    },
    /// The agent begins to say this sentence.
    AgentSays {
        /// The sentence.
        text: String,
        /// When its first sample left.
        at_ms: f64,
    },
    /// This much of the agent's present turn has been played.
    AgentHeard {
        /// The text played so far.
        text: String,
    },
    /// The agent's voice was lowered, because the caller seems to speak.
    Ducked {
        /// The caller's onset.
        onset_ms: f64,
        /// When the voice was lowered.
        at_ms: f64,
    },
    /// The caller put the call on hold, or is here again: the agent waits meanwhile, and says the sentence in which it was cut anew.
    Held {
        /// Whether it is on hold from here on.
        on: bool,
        /// When.
        at_ms: f64,
    },
    /// It was nothing (a cough, a "yes" in passing, our own echo): the agent went on where it had stopped.
    Resumed {
        /// When.
        at_ms: f64,
    },
    /// The caller cut the agent off.
    Interrupted {
        /// When the cut was decided.
        at_ms: f64,
        /// The caller's onset.
        onset_ms: f64,
        /// What of the agent's turn had been heard.
        heard: String,
        /// True where a key did it.
        by_key: bool,
    },
    /// What is said from here on is nobody else's, or no longer: meanwhile there are no partial texts, and [`PRIVATE`] stands for what
    /// was said or pressed.
    Private {
        /// From here on it is.
        on: bool,
    },
    /// A turn is over.
    Turn(TurnRecord),
    /// What the conversation has used so far of those who are paid by use.
    Used(Usage),
    /// What came of a tool is known after its turn was told.
    Tool {
        /// The turn's index.
        turn: u32,
        /// Its place among the turn's tools.
        place: usize,
        /// The tool, as it stands now.
        tool: ToolRecord,
    },
    /// A provider failed.
    ProviderFailed {
        /// Which part.
        part: Part,
        /// The provider's name.
        provider: String,
        /// What went wrong.
        reason: String,
        /// Whose fault.
        fault: Fault,
        /// What was done.
        remedy: Remedy,
    },
}

/// Who has the caller from here on. Told by whoever gives an agent its line.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct Began {
    /// Which of the call's conversations with agents this is, from 0.
    pub conversation: u32,
    /// The agent's name.
    pub agent: String,
    /// The version of it that was published, of one that is kept in a database.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub version: Option<i64>,
    /// The recogniser.
    pub recognizer: String,
    /// The brain.
    pub brain: String,
    /// The voice.
    pub voice: String,
}

/// One side's utterance, for the record.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TurnRecord {
    /// From 0, over both sides, and in a call over all of its conversations.
    pub index: u32,
    /// Which of the call's conversations with agents it belongs to, from 0; whoever has several says so.
    #[serde(default, skip_serializing_if = "is_first")]
    pub conversation: u32,
    /// Whose turn.
    pub who: Speaker,
    /// Caller: what was understood, or the keys. Agent: what was heard of it.
    pub text: String,
    /// When it began on the line's clock, in ms.
    pub started_ms: f64,
    /// When it ended on the line's clock, in ms.
    pub ended_ms: f64,
    /// Agent's turns that answer a caller's: from the caller's last sound (or key) to the agent's first, in ms.
    pub gap_ms: Option<f64>,
    /// When each stage was done. On agent turns that answer a caller.
    pub stages: Stages,
    /// Agent: cut off by the caller.
    pub interrupted: bool,
    /// Caller: the rule of the grammar that matched, if any.
    pub matched: Option<String>,
    /// Caller: the recogniser's confidence, 0 to 1.
    pub confidence: Option<f32>,
    /// How the caller answered.
    pub by: Means,
    /// Agent: the brain's answer had been made ready ahead of time, on a guess that held.
    pub ahead: bool,
    /// Agent: what the brain asked for besides talking.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tools: Vec<ToolRecord>,
}

fn is_first(conversation: &u32) -> bool {
    *conversation == 0
}

/// How a turn was made.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Means {
    /// By speech.
    Speech,
    /// By keys.
    Keys,
    /// The agent spoke up by itself: greeting, or after silence.
    Unprompted,
}

/// When each stage of an answer was done, on the line's clock in ms. What ran ahead of time may stand before
/// `endpoint_ms`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Stages {
    /// The caller's last sound.
    pub speech_end_ms: Option<f64>,
    /// The caller's turn was taken as over.
    pub endpoint_ms: Option<f64>,
    /// The recogniser's last word on it.
    pub recogniser_ms: Option<f64>,
    /// The brain's first text.
    pub brain_ms: Option<f64>,
    /// The voice's first audio.
    pub voice_ms: Option<f64>,
    /// The first audio was sent.
    pub sent_ms: Option<f64>,
}

impl Stages {
    /// What the answer waited for, in ms: certainty that the turn was over, then the recogniser, the brain and the
    /// voice as far as they were late, and the line.
    #[must_use]
    pub fn waits_ms(&self) -> Waits {
        let mut at = self.speech_end_ms;
        let mut until = |stage: Option<f64>| match (at, stage) {
            (Some(before), Some(now)) => {
                at = Some(before.max(now));
                (now - before).max(0.0)
            }
            _ => 0.0,
        };
        Waits {
            certainty: until(self.endpoint_ms),
            recogniser: until(self.recogniser_ms),
            brain: until(self.brain_ms),
            voice: until(self.voice_ms),
            line: until(self.sent_ms),
        }
    }
}

/// Parts of a gap, in ms; their sum is the gap.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Waits {
    /// For certainty that the caller was done.
    pub certainty: f64,
    /// For the recogniser's last word.
    pub recogniser: f64,
    /// For the brain's first text.
    pub brain: f64,
    /// For the voice's first audio.
    pub voice: f64,
    /// For the line to send it.
    pub line: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_waits_add_up_to_the_gap_when_the_brain_ran_ahead() {
        let stages = Stages {
            speech_end_ms: Some(1000.0),
            endpoint_ms: Some(1300.0),
            recogniser_ms: Some(1320.0),
            brain_ms: Some(1160.0),
            voice_ms: Some(1170.0),
            sent_ms: Some(1360.0),
        };
        let waits = stages.waits_ms();
        assert_eq!(waits, Waits { certainty: 300.0, recogniser: 20.0, brain: 0.0, voice: 0.0, line: 40.0 });
    }
}
