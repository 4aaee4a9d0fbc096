//! What a brain asks for besides talking: which tool, with what, and what came of it.

use serde::{Deserialize, Serialize};

/// The tool that ends the call.
pub const HANG_UP: &str = "hang_up";
/// The tool that connects the caller with somebody.
pub const TRANSFER: &str = "transfer_call";
/// Tools kept of one answer; more are not looked at.
pub const TOOLS_LIMIT: usize = 8;
/// Characters kept of a tool's name.
pub const NAME_LIMIT: usize = 64;
/// Characters kept of a tool's arguments.
pub const ARGUMENTS_LIMIT: usize = 1_000;

/// A tool that a brain asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ToolAsk {
    /// Its name, as the brain wrote it.
    pub name: String,
    /// What it is to be done with: JSON, as the brain wrote it.
    pub arguments: String,
    /// Whose wish it is.
    pub by: AskedBy,
    /// [`ToolOutcome::Open`] where the output that follows carries it out.
    pub outcome: ToolOutcome,
    /// Why it is not carried out.
    pub why: Option<String>,
}

/// Whose wish a tool is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AskedBy {
    /// A language model's.
    Model,
    /// A script's, or the configuration's.
    Script,
}

/// What came of a tool.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ToolOutcome {
    /// Nothing yet.
    Open,
    /// It was done.
    Done,
    /// It was not offered, and nothing was done.
    Refused,
    /// It was not done, or came to nothing.
    Failed,
}

impl ToolOutcome {
    /// The outcome as it stands in records.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Open => "open",
            Self::Done => "done",
            Self::Refused => "refused",
            Self::Failed => "failed",
        }
    }
}

impl ToolAsk {
    /// A tool that is carried out by the output that follows.
    #[must_use]
    pub fn new(name: &str, arguments: &str, by: AskedBy) -> Self {
        Self { name: name.to_owned(), arguments: arguments.to_owned(), by, outcome: ToolOutcome::Open, why: None }
    }

    /// The same, which is not carried out.
    #[must_use]
    pub fn not_done(self, outcome: ToolOutcome, why: &str) -> Self {
        Self { outcome, why: Some(why.to_owned()), ..self }
    }
}

/// A tool within a turn of the agent's, for the record. Times are on the line's clock, in ms.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ToolRecord {
    /// Its name: `hang_up`, `transfer_call`, or whatever the model made up.
    pub name: String,
    /// Whose wish it was.
    pub by: AskedBy,
    /// What it was to be done with: JSON as the brain wrote it, cut at [`ARGUMENTS_LIMIT`]; private like the turn.
    pub arguments: String,
    /// When it was asked for.
    pub asked_ms: f64,
    /// When it was begun: what was to be said before it had been said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_ms: Option<f64>,
    /// From then until it was known what came of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub took_ms: Option<f64>,
    /// What came of it.
    pub outcome: ToolOutcome,
    /// Why it was refused or failed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
}

impl ToolRecord {
    /// A tool that is asked for now.
    #[must_use]
    pub fn new(ask: ToolAsk, asked_ms: f64) -> Self {
        let ToolAsk { name, arguments, by, outcome, why } = ask;
        let cut = |text: String, limit: usize| match text.char_indices().nth(limit) {
            Some((end, _)) => text.get(..end).unwrap_or_default().to_owned(),
            None => text,
        };
        Self {
            name: cut(name, NAME_LIMIT),
            by,
            arguments: cut(arguments, ARGUMENTS_LIMIT),
            asked_ms,
            started_ms: None,
            took_ms: None,
            outcome,
            why,
        }
    }

    /// Nothing has come of it yet.
    #[must_use]
    pub fn is_open(&self) -> bool {
        self.outcome == ToolOutcome::Open
    }

    /// What came of it: done, or why not.
    pub fn settle(&mut self, failed: Option<&str>) {
        self.outcome = if failed.is_some() { ToolOutcome::Failed } else { ToolOutcome::Done };
        self.why = failed.map(str::to_owned);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_model_writes_is_cut_between_characters() {
        let long = "é".repeat(ARGUMENTS_LIMIT + 1);
        let tool = ToolRecord::new(ToolAsk::new(&long, &long, AskedBy::Model), 1.0);
        assert_eq!((tool.name.chars().count(), tool.arguments.chars().count()), (NAME_LIMIT, ARGUMENTS_LIMIT));
        let whole = "é".repeat(ARGUMENTS_LIMIT);
        assert_eq!(ToolRecord::new(ToolAsk::new("t", &whole, AskedBy::Model), 1.0).arguments, whole);
    }
}
