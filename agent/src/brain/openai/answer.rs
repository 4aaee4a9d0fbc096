//! One streamed answer, put together from its pieces.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::{MAX_REASON, OpenAiBrainConfig, name};
use crate::brain::{BrainError, BrainOutput, Handover, Listen};
use crate::voice::sentences::Splitter;

/// The tool that hangs up.
pub(super) const HANG_UP: &str = "hang_up";
/// So many characters of a model's summary are read out to the person.
const MAX_SUMMARY: usize = 600;
/// The tool that transfers.
pub(super) const TRANSFER: &str = "transfer_call";
/// No more than this is said in one answer.
const MAX_TEXT_BYTES: usize = 4_000;
/// No more tool calls than this are looked at.
const MAX_TOOLS: usize = 8;
/// What reasoning models put around their thoughts.
const THOUGHT: (&str, &str) = ("<think>", "</think>");

#[derive(Deserialize)]
struct Chunk {
    #[serde(default)]
    choices: Vec<Choice>,
    error: Option<Value>,
}

#[derive(Deserialize)]
struct Choice {
    #[serde(default)]
    delta: Delta,
    finish_reason: Option<String>,
}

#[derive(Default, Deserialize)]
struct Delta {
    content: Option<String>,
    tool_calls: Option<Vec<ToolCall>>,
}

#[derive(Deserialize)]
struct ToolCall {
    #[serde(default)]
    index: usize,
    function: Option<Function>,
}

#[derive(Deserialize)]
struct Function {
    name: Option<String>,
    arguments: Option<String>,
}

/// An answer being received.
pub(super) struct Answer {
    may_hang_up: bool,
    handover: Handover,
    goodbye: String,
    splitter: Splitter,
    text_bytes: usize,
    said: bool,
    begun: bool,
    finished: bool,
    /// Inside of a thought, or what may become the mark of one.
    thinking: bool,
    mark: String,
    tools: BTreeMap<usize, (String, String)>,
}

impl Answer {
    pub(super) fn new(config: &OpenAiBrainConfig) -> Self {
        Self {
            may_hang_up: config.may_hang_up,
            handover: Handover {
                uri: config.transfer_to.clone(),
                kind: config.transfer_kind,
                must_accept: config.transfer_accept,
                summary: String::new(),
            },
            goodbye: config.goodbye.clone(),
            splitter: Splitter::new(),
            text_bytes: 0,
            said: false,
            begun: false,
            finished: false,
            thinking: false,
            mark: String::new(),
            tools: BTreeMap::new(),
        }
    }

    /// Something of it has come.
    pub(super) fn begun(&self) -> bool {
        self.begun
    }

    /// The server said that it is at its end.
    pub(super) fn finished(&self) -> bool {
        self.finished
    }

    /// Takes one event's data; returns what can be said now.
    pub(super) fn receive(&mut self, data: &str) -> Result<Vec<BrainOutput>, BrainError> {
        if data.trim().is_empty() {
            return Ok(Vec::new());
        }
        let malformed = |reason: String| BrainError::Malformed {
            provider: name(),
            reason: reason.chars().take(MAX_REASON).collect(),
        };
        let chunk: Chunk = serde_json::from_str(data).map_err(|error| malformed(format!("{error} in {data:?}")))?;
        if let Some(error) = chunk.error {
            let reason = error.get("message").and_then(Value::as_str).map_or_else(|| error.to_string(), str::to_owned);
            return Err(super::cut_short(&reason));
        }
        // Servers also send chunks without choices (usage, for one).
        let Some(choice) = chunk.choices.into_iter().next() else { return Ok(Vec::new()) };
        self.finished |= choice.finish_reason.is_some();
        for call in choice.delta.tool_calls.into_iter().flatten() {
            self.tool(call);
        }
        let Some(content) = choice.delta.content.filter(|content| !content.is_empty()) else { return Ok(Vec::new()) };
        self.begun = true;
        let text = self.without_thoughts(&content);
        let room = MAX_TEXT_BYTES.saturating_sub(self.text_bytes);
        let text = text.get(..text.floor_char_boundary(room)).unwrap_or_default();
        self.text_bytes += text.len();
        let pieces = self.splitter.push(text);
        Ok(self.say(pieces))
    }

    /// It broke off: what was written so far, as far as it is worth saying.
    pub(super) fn broken(&mut self) -> Vec<BrainOutput> {
        let pieces = self.splitter.finish();
        self.say(pieces)
    }

    /// It is at its end: the rest of it, and what is to be done.
    pub(super) fn whole(&mut self) -> Result<Vec<BrainOutput>, BrainError> {
        if !self.thinking && !self.mark.is_empty() {
            let rest = std::mem::take(&mut self.mark);
            let pieces = self.splitter.push(&rest);
            self.say(pieces);
        }
        let pieces = self.splitter.finish();
        let mut outputs = self.say(pieces);
        match self.action() {
            Some(action) => {
                if !self.said && matches!(action, BrainOutput::HangUp { .. }) {
                    outputs.push(BrainOutput::Say(self.goodbye.clone()));
                }
                outputs.push(action);
            }
            None if !self.said => return Err(BrainError::Empty { provider: name() }),
            None => outputs.push(BrainOutput::Listen(Listen::default())),
        }
        Ok(outputs)
    }

    fn say(&mut self, pieces: Vec<String>) -> Vec<BrainOutput> {
        let spoken = pieces.iter().map(|piece| plain(piece)).filter(|piece| piece.chars().any(char::is_alphanumeric));
        let outputs: Vec<BrainOutput> = spoken.map(BrainOutput::Say).collect();
        self.said |= !outputs.is_empty();
        outputs
    }

    fn tool(&mut self, call: ToolCall) {
        let Some(function) = call.function else { return };
        if self.tools.len() >= MAX_TOOLS && !self.tools.contains_key(&call.index) {
            return;
        }
        self.begun = true;
        let (name, arguments) = self.tools.entry(call.index).or_default();
        if let Some(part) = function.name.filter(|part| name.len() + part.len() <= 64) {
            name.push_str(&part);
        }
        if let Some(part) = function.arguments.filter(|part| arguments.len() + part.len() <= 2_000) {
            arguments.push_str(&part);
        }
    }

    /// The first tool called that was offered. The caller's wish to speak to a person goes before hanging up.
    fn action(&self) -> Option<BrainOutput> {
        let called = |tool: &str| self.tools.values().find(|(name, _)| name == tool);
        if let Some((_, arguments)) = called(TRANSFER).filter(|_| !self.handover.uri.is_empty()) {
            // Where to and how is settled by the configuration; the model has its say in the summary alone.
            let said = serde_json::from_str::<Value>(arguments).ok();
            let summary = said.as_ref().and_then(|value| value.get("summary")).and_then(Value::as_str).unwrap_or("");
            let summary = summary.chars().take(MAX_SUMMARY).collect();
            return Some(BrainOutput::Transfer(Handover { summary, ..self.handover.clone() }));
        }
        let (_, arguments) = called(HANG_UP).filter(|_| self.may_hang_up)?;
        // Broken arguments are no reason to stay on the line.
        let reason = serde_json::from_str::<Value>(arguments)
            .ok()
            .and_then(|value| {
                value.get("reason").and_then(Value::as_str).map(|reason| reason.chars().take(100).collect::<String>())
            })
            .filter(|reason| !reason.trim().is_empty())
            .unwrap_or_else(|| "goodbye".to_owned());
        Some(BrainOutput::HangUp { reason })
    }

    /// Leaves out what stands between `<think>` and `</think>`, wherever the pieces are cut.
    fn without_thoughts(&mut self, content: &str) -> String {
        let mut text = std::mem::take(&mut self.mark) + content;
        let mut kept = String::new();
        loop {
            let mark = if self.thinking { THOUGHT.1 } else { THOUGHT.0 };
            if let Some((before, behind)) = text.split_once(mark) {
                if !self.thinking {
                    kept.push_str(before);
                }
                self.thinking = !self.thinking;
                text = behind.to_owned();
                continue;
            }
            // The end may be the beginning of a mark.
            let begins = (1..mark.len()).rev().find(|&n| text.ends_with(mark.get(..n).unwrap_or(mark)));
            let cut = text.len() - begins.unwrap_or(0);
            self.mark = text.get(cut..).unwrap_or_default().to_owned();
            if !self.thinking {
                kept.push_str(text.get(..cut).unwrap_or_default());
            }
            return kept;
        }
    }
}

/// Without the marks that models write and nobody can speak.
fn plain(text: &str) -> String {
    let text: String = text.chars().filter(|c| !matches!(c, '*' | '`' | '#' | '_' | '~' | '|')).collect();
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn answer() -> Answer {
        Answer::new(&OpenAiBrainConfig::default())
    }

    fn content(text: &str) -> String {
        serde_json::json!({ "choices": [{ "delta": { "content": text } }] }).to_string()
    }

    #[test]
    fn thoughts_are_left_out_wherever_the_pieces_are_cut() {
        let mut answer = answer();
        let mut outputs = Vec::new();
        for piece in ["<th", "ink>what to say", " now</thi", "nk>Hello. 1 <", " 2 is true."] {
            outputs.extend(answer.receive(&content(piece)).unwrap());
        }
        outputs.extend(answer.whole().unwrap());
        let says: Vec<String> = outputs
            .into_iter()
            .filter_map(|output| match output {
                BrainOutput::Say(text) => Some(text),
                _ => None,
            })
            .collect();
        assert_eq!(says.join(" "), "Hello. 1 < 2 is true.");
    }

    #[test]
    fn a_tool_that_was_not_offered_does_nothing() {
        let mut answer = answer();
        let call = serde_json::json!({ "choices": [{ "delta": { "tool_calls": [
            { "index": 0, "function": { "name": TRANSFER, "arguments": "{\"uri\":\"sip:attacker@example.org\"}" } },
        ] } }] });
        answer.receive(&call.to_string()).unwrap();
        assert_eq!(answer.whole(), Err(BrainError::Empty { provider: name() }));
    }

    #[test]
    fn hanging_up_with_broken_arguments_still_hangs_up() {
        let mut answer = answer();
        let call = serde_json::json!({ "choices": [{ "delta": { "tool_calls": [
            { "index": 0, "function": { "name": HANG_UP, "arguments": "{\"reason\": \"the" } },
        ] } }] });
        answer.receive(&call.to_string()).unwrap();
        let outputs = answer.whole().unwrap();
        assert_eq!(outputs.last(), Some(&BrainOutput::HangUp { reason: "goodbye".into() }));
        assert!(matches!(outputs.first(), Some(BrainOutput::Say(_))), "not without a word");
    }

    #[test]
    fn markup_is_not_spoken() {
        assert_eq!(plain("**Bold** and `code`\n# Title"), "Bold and code Title");
    }

    #[test]
    fn an_endless_answer_is_cut() {
        let mut answer = answer();
        let mut bytes = 0;
        for _ in 0..1_000 {
            for output in answer.receive(&content("One more sentence without any end to it. ")).unwrap() {
                if let BrainOutput::Say(text) = output {
                    bytes += text.len();
                }
            }
        }
        assert!(bytes <= MAX_TEXT_BYTES, "{bytes}");
    }
}
