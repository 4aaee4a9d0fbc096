//! Voice agents: what runs, and what is asked of whoever runs them.

use std::future::Future;
use std::pin::Pin;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Whoever runs voice agents. Only [`Agents::converse`] waits.
pub trait Agents: Send + Sync {
    /// The agents that take calls, by name.
    fn list(&self) -> Vec<AgentState>;

    /// The definition (TOML) of one that came with the server: built in, or a file. None of others.
    fn definition(&self, name: &str) -> Option<String>;

    /// What is wrong with a definition; nothing where it can be used.
    fn check(&self, definition: &str) -> Vec<AgentFault>;

    /// An agent of that name takes calls from here on, as this version of its definition says; conversations that run go on as they began. Until it is
    /// loaded, and where it cannot be, the agent takes calls as it did before.
    ///
    /// # Errors
    /// What is wrong with it. The agent is as it was.
    fn publish(&self, name: &str, version: i64, definition: &str) -> Result<(), Vec<AgentFault>>;

    /// An agent that was published takes no more calls.
    fn withdraw(&self, name: &str);

    /// Holds a conversation in writing with an agent of this definition: what the caller says, one after another; keys where it is nothing
    /// but keys.
    fn converse(&self, definition: &str, said: Vec<String>) -> Conversing;
}

/// A conversation that is being held.
pub type Conversing = Pin<Box<dyn Future<Output = Result<Conversation, Vec<AgentFault>>> + Send>>;

/// Where an agent comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum AgentSource {
    /// Every server has it.
    BuiltIn,
    /// A file in `agents.dir`.
    File,
    /// The database.
    Stored,
    /// The program that the server is part of.
    Program,
}

/// Whether an agent can take calls.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum AgentReadiness {
    /// It can.
    Ready,
    /// Its models and voices are being loaded.
    Loading,
    /// It cannot: `fault` says why.
    Failed,
}

/// An agent that takes calls.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AgentState {
    /// Its name, by which it is called.
    pub name: String,
    /// Where it comes from.
    pub source: AgentSource,
    /// Whether it can.
    pub state: AgentReadiness,
    /// Why not.
    pub fault: Option<String>,
}

/// What is wrong with a definition.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AgentFault {
    /// Where: `script.states.menu`, `voice.kind`; empty where it is no TOML.
    #[schema(example = "script.states.menu.on[0].goto")]
    pub field: String,
    /// What, and how to mend it.
    pub detail: String,
    /// The line it stands in, from 1, where that is known.
    pub line: Option<u32>,
}

/// A conversation in writing.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize, ToSchema)]
pub struct Conversation {
    /// What was said, in order.
    pub turns: Vec<WrittenTurn>,
    /// What it came to, where it did not just stop: `hung up: goodbye`, `transfer to sip:...`.
    pub ended: Option<String>,
}

/// What one side said.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct WrittenTurn {
    /// `agent` or `caller`.
    pub speaker: String,
    /// What.
    pub text: String,
}
