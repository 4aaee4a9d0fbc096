//! An agent as TOML: who it is, how it hears, thinks and speaks.
//!
//! ```toml
//! [agent]
//! name = "desk"
//!
//! [ear]
//! recognizer = "auto"
//!
//! [voice]
//! kind = "flite"
//! voice = "rms"
//!
//! [brain]
//! kind = "script"
//!
//! [script]
//! start = "menu"
//! # ...
//! ```
//!
//! An unknown key is an error, with what was probably meant.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::brain::openai::OpenAiBrainConfig;
use crate::brain::script::definition::closest;
use crate::brain::script::{Fault, ScriptDefinition};
use crate::session::SessionConfig;
use crate::turn::TurnConfig;
use crate::voice::VoiceConfig;

/// The built-in front desk, as it stands in `agents/desk.toml`.
pub const FRONT_DESK: &str = include_str!("../agents/desk.toml");

/// A definition larger than this is not read.
pub const MAX_SIZE_BYTES: u64 = 4 << 20;

/// One agent's definition.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AgentDefinition {
    /// Who it is.
    pub agent: AgentTable,
    /// How it hears.
    pub ear: EarTable,
    /// How it speaks.
    pub voice: VoiceConfig,
    /// How it thinks.
    pub brain: BrainTable,
    /// The timings of turns.
    pub turn: TurnConfig,
    /// Time limits and stand-in texts.
    pub session: SessionConfig,
    /// The dialogue, for `brain.kind = "script"`.
    pub script: Option<ScriptDefinition>,
}

/// The `[agent]` table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct AgentTable {
    /// Its name, by which it is called: `sip:NAME@`.
    pub name: String,
    /// The language it speaks, as a BCP 47 tag.
    pub language: String,
}

impl Default for AgentTable {
    fn default() -> Self {
        Self { name: "agent".into(), language: "en-US".into() }
    }
}

/// The `[ear]` table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct EarTable {
    /// `auto`, `sphinx`, `whisper`, `openai`, `none` (keys only), or the name of a provider of one's own.
    pub recognizer: String,
    /// Who steps in when that one fails, in this order.
    pub fallback: Vec<String>,
    /// Takes the agent's own voice, where the caller's phone or room sends it back, out of what is heard.
    pub echo_control: bool,
    /// Takes noise out of what recognisers get, while the caller's line is noisy (`docs/adr/0004-noise-control.md`).
    pub noise_control: bool,
    /// `whisper`: the model's name in the catalogue, or the path of a ggml file.
    pub model: Option<String>,
    /// `openai`: the server, up to and with `/v1`.
    pub base_url: String,
    /// `openai`: the environment variable that holds the key.
    pub api_key_env: String,
    /// `openai`: the model's name there.
    pub remote_model: String,
}

impl Default for EarTable {
    fn default() -> Self {
        Self {
            recognizer: "auto".into(),
            fallback: Vec::new(),
            echo_control: true,
            noise_control: true,
            model: None,
            base_url: "https://api.openai.com/v1".into(),
            api_key_env: "OPENAI_API_KEY".into(),
            remote_model: "whisper-1".into(),
        }
    }
}

/// The `[brain]` table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct BrainTable {
    /// `script`, `openai`, or the name of a provider of one's own.
    pub kind: String,
    /// The settings of `openai`.
    pub openai: OpenAiBrainConfig,
}

impl Default for BrainTable {
    fn default() -> Self {
        Self { kind: "script".into(), openai: OpenAiBrainConfig::default() }
    }
}

impl AgentDefinition {
    /// The built-in front desk.
    ///
    /// # Errors
    /// None with the built-in text, which a test reads.
    pub fn front_desk() -> Result<Self, DefinitionError> {
        Self::parse(FRONT_DESK, Path::new("desk.toml (built in)"))
    }

    /// Reads a file.
    ///
    /// # Errors
    /// [`DefinitionError`] with the file, the key and how to mend it.
    pub fn read(path: &Path) -> Result<Self, DefinitionError> {
        let unreadable = |reason: String| DefinitionError::Unreadable { file: path.to_owned(), reason };
        let size = std::fs::metadata(path).map_err(|error| unreadable(error.to_string()))?.len();
        if size > MAX_SIZE_BYTES {
            return Err(unreadable(format!("{size} bytes are more than {MAX_SIZE_BYTES}")));
        }
        let text = std::fs::read_to_string(path).map_err(|error| unreadable(error.to_string()))?;
        Self::parse(&text, path)
    }

    /// Reads a text; `file` is for the messages.
    ///
    /// # Errors
    /// [`DefinitionError`] with the file, the key and how to mend it.
    pub fn parse(text: &str, file: &Path) -> Result<Self, DefinitionError> {
        let definition: Self = toml::from_str(text).map_err(|error| {
            let message = error.to_string();
            let hint = suggestion(error.message()).map_or_else(String::new, |hint| format!("\n{hint}"));
            DefinitionError::Toml { file: file.to_owned(), message: format!("{}{hint}", message.trim_end()) }
        })?;
        definition.check(file)?;
        Ok(definition)
    }

    /// Everything that can be known to be wrong without starting anything.
    ///
    /// # Errors
    /// [`DefinitionError::Faults`] with all that is wrong.
    pub fn check(&self, file: &Path) -> Result<(), DefinitionError> {
        let mut faults = Vec::new();
        let mut fault = |place: &str, what: String| faults.push(Fault { place: place.to_owned(), what });
        if self.agent.name.is_empty()
            || !self.agent.name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.'))
        {
            fault("agent.name", format!("{:?} can't be dialled: use letters, digits, -, _ and .", self.agent.name));
        }
        if let Err(what) = self.turn.check() {
            fault("turn", what);
        }
        match (self.brain.kind.as_str(), &self.script) {
            ("script", None) => {
                fault("script", "is missing: brain.kind = \"script\" needs a [script] with states".into())
            }
            ("openai", _) => {
                if let Err(what) = self.brain.openai.check() {
                    fault("brain.openai", what);
                }
            }
            _ => {}
        }
        if let Some(script) = &self.script {
            faults.extend(script.faults());
        }
        if faults.is_empty() { Ok(()) } else { Err(DefinitionError::Faults { file: file.to_owned(), faults }) }
    }
}

/// Why a definition can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DefinitionError {
    /// The file can't be read.
    #[error("{}: {reason}", file.display())]
    Unreadable {
        /// The file.
        file: PathBuf,
        /// Why.
        reason: String,
    },
    /// It is no TOML, or has a key or a value that it can't have.
    #[error("{}: {message}", file.display())]
    Toml {
        /// The file.
        file: PathBuf,
        /// Where and what.
        message: String,
    },
    /// It makes no sense.
    #[error("{}", list(file, faults))]
    Faults {
        /// The file.
        file: PathBuf,
        /// What is wrong, at least one.
        faults: Vec<Fault>,
    },
}

fn list(file: &Path, faults: &[Fault]) -> String {
    let lines: Vec<String> = faults.iter().map(|fault| format!("{}: {fault}", file.display())).collect();
    lines.join("\n")
}

/// Reads the known keys out of serde's message about an unknown one.
fn suggestion(message: &str) -> Option<String> {
    let (unknown, expected) = message.split_once("expected")?;
    let unknown = unknown.split('`').nth(1)?;
    let known = expected.split('`').skip(1).step_by(2);
    closest(unknown, known).map(|known| format!("did you mean `{known}`?"))
}
