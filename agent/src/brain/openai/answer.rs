//! One streamed answer, put together from its pieces.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde_json::Value;

use super::transfers::{TransferTarget, meant};
use super::{MAX_REASON, OpenAiBrainConfig, name};
use crate::brain::{BrainError, BrainOutput, Listen};
use crate::tool::{AskedBy, HANG_UP, TOOLS_LIMIT, TRANSFER, ToolAsk, ToolOutcome};
use crate::usage::Tokens;
use crate::voice::sentences::Splitter;

/// So many characters of a model's summary are read out to the person.
const MAX_SUMMARY: usize = 600;
/// No more than this is said in one answer.
const MAX_TEXT_BYTES: usize = 4_000;
/// So many bytes of a tool's arguments are read.
const MAX_ARGUMENTS: usize = 2_000;
/// What reasoning models put around their thoughts.
const THOUGHT: (&str, &str) = ("<think>", "</think>");

#[derive(Deserialize)]
struct Chunk {
    #[serde(default)]
    choices: Vec<Choice>,
    error: Option<Value>,
    usage: Option<TokenCount>,
}

/// What an answer took. Servers differ in what they leave out.
#[derive(Deserialize)]
struct TokenCount {
    prompt_tokens: Option<u64>,
    completion_tokens: Option<u64>,
    prompt_tokens_details: Option<PromptTokens>,
}

#[derive(Deserialize)]
struct PromptTokens {
    cached_tokens: Option<u64>,
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
    targets: Vec<TransferTarget>,
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
    tokens: Option<Tokens>,
}

impl Answer {
    pub(super) fn new(config: &OpenAiBrainConfig) -> Self {
        Self {
            may_hang_up: config.may_hang_up,
            targets: config.targets(),
            goodbye: config.goodbye.clone(),
            splitter: Splitter::new(),
            text_bytes: 0,
            said: false,
            begun: false,
            finished: false,
            thinking: false,
            mark: String::new(),
            tools: BTreeMap::new(),
            tokens: None,
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

    /// What it took, where the server has said so.
    pub(super) fn tokens(&self) -> Option<Tokens> {
        self.tokens
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
        // The last count is the whole one; a server that says one of the two leaves the other unknown, and so all.
        if let Some(TokenCount { prompt_tokens: Some(read), completion_tokens: Some(written), prompt_tokens_details }) =
            chunk.usage
        {
            let cached = prompt_tokens_details.and_then(|details| details.cached_tokens).unwrap_or(0);
            self.tokens = Some(Tokens { read, cached, written });
        }
        // Servers also send chunks without choices, the one with the count for one.
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
        let mut outputs = self.say(pieces);
        let tools = std::mem::take(&mut self.tools);
        outputs.extend(tools.into_values().map(|(name, arguments)| {
            let ask = ToolAsk::new(&name, &arguments, AskedBy::Model);
            BrainOutput::Tool(ask.not_done(ToolOutcome::Failed, "the answer broke off"))
        }));
        outputs
    }

    /// It is at its end: the rest of it, and what is to be done; a fault where there is neither.
    pub(super) fn whole(&mut self) -> (Vec<BrainOutput>, Result<(), BrainError>) {
        if !self.thinking && !self.mark.is_empty() {
            let rest = std::mem::take(&mut self.mark);
            let pieces = self.splitter.push(&rest);
            self.say(pieces);
        }
        let pieces = self.splitter.finish();
        let mut outputs = self.say(pieces);
        let chosen = self.chosen();
        if !self.said && chosen.is_some_and(|chosen| self.is_called(chosen, HANG_UP)) {
            outputs.push(BrainOutput::Say(self.goodbye.clone()));
        }
        outputs.extend(self.tools.keys().map(|index| BrainOutput::Tool(self.asked(*index, chosen))));
        match chosen.and_then(|chosen| self.action(chosen)) {
            Some(action) => outputs.push(action),
            None if !self.said => return (outputs, Err(BrainError::Empty { provider: name() })),
            None => outputs.push(BrainOutput::Listen(Listen::default())),
        }
        (outputs, Ok(()))
    }

    fn say(&mut self, pieces: Vec<String>) -> Vec<BrainOutput> {
        let spoken = pieces.iter().map(|piece| plain(piece)).filter(|piece| piece.chars().any(char::is_alphanumeric));
        let outputs: Vec<BrainOutput> = spoken.map(BrainOutput::Say).collect();
        self.said |= !outputs.is_empty();
        outputs
    }

    fn tool(&mut self, call: ToolCall) {
        let Some(function) = call.function else { return };
        if self.tools.len() >= TOOLS_LIMIT && !self.tools.contains_key(&call.index) {
            return;
        }
        self.begun = true;
        let (name, arguments) = self.tools.entry(call.index).or_default();
        if let Some(part) = function.name.filter(|part| name.len() + part.len() <= 64) {
            name.push_str(&part);
        }
        if let Some(part) = function.arguments.filter(|part| arguments.len() + part.len() <= MAX_ARGUMENTS) {
            arguments.push_str(&part);
        }
    }

    /// The tool that is carried out. The caller's wish to speak to a person goes before hanging up.
    fn chosen(&self) -> Option<usize> {
        let first =
            |tool: &str| self.tools.keys().copied().find(|index| self.is_called(*index, tool) && self.offers(*index));
        first(TRANSFER).or_else(|| first(HANG_UP))
    }

    fn is_called(&self, index: usize, tool: &str) -> bool {
        self.tools.get(&index).is_some_and(|(name, _)| name == tool)
    }

    /// Whether what was called may be done: it was offered, and names somebody whom the model may choose.
    fn offers(&self, index: usize) -> bool {
        let Some((tool, arguments)) = self.tools.get(&index) else { return false };
        match tool.as_str() {
            TRANSFER => meant(&self.targets, arguments).is_some(),
            HANG_UP => self.may_hang_up,
            _ => false,
        }
    }

    /// A tool that was called, for the record.
    fn asked(&self, index: usize, chosen: Option<usize>) -> ToolAsk {
        let (name, arguments) = self.tools.get(&index).cloned().unwrap_or_default();
        let ask = ToolAsk::new(&name, &arguments, AskedBy::Model);
        match chosen {
            Some(chosen) if chosen == index => ask,
            _ if !self.offers(index) && name == TRANSFER && !self.targets.is_empty() => {
                ask.not_done(ToolOutcome::Refused, "it names nobody whom the model may choose")
            }
            _ if !self.offers(index) => ask.not_done(ToolOutcome::Refused, "it was not offered"),
            _ => ask.not_done(ToolOutcome::Failed, "one tool is done in an answer, and another was chosen"),
        }
    }

    fn action(&self, chosen: usize) -> Option<BrainOutput> {
        let (name, arguments) = self.tools.get(&chosen)?;
        let said = serde_json::from_str::<Value>(arguments).ok();
        let text = |key: &str, limit: usize| -> String {
            let text = said.as_ref().and_then(|value| value.get(key)).and_then(Value::as_str).unwrap_or("");
            text.chars().take(limit).collect()
        };
        if name == TRANSFER {
            // Where to and how is settled by the configuration; the model chooses among those, and has its say in the summary.
            let target = meant(&self.targets, arguments)?;
            return Some(BrainOutput::Transfer(target.handover(text("summary", MAX_SUMMARY))));
        }
        // Broken arguments are no reason to stay on the line.
        let reason = Some(text("reason", 100)).filter(|reason| !reason.trim().is_empty());
        Some(BrainOutput::HangUp { reason: reason.unwrap_or_else(|| "goodbye".to_owned()) })
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
#[allow(clippy::unwrap_used, clippy::panic)]
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
        outputs.extend(answer.whole().0);
        let says: Vec<String> = outputs
            .into_iter()
            .filter_map(|output| match output {
                BrainOutput::Say(text) => Some(text),
                _ => None,
            })
            .collect();
        assert_eq!(says.join(" "), "Hello. 1 < 2 is true.");
    }

    fn called(tools: &[(&str, &str)]) -> String {
        let call = |(index, (name, arguments)): (usize, &(&str, &str))| serde_json::json!({ "index": index, "function": { "name": name, "arguments": arguments } });
        let calls: Vec<Value> = tools.iter().enumerate().map(call).collect();
        serde_json::json!({ "choices": [{ "delta": { "tool_calls": calls } }] }).to_string()
    }

    fn tools(outputs: &[BrainOutput]) -> Vec<(&str, ToolOutcome)> {
        let told = outputs.iter().filter_map(|output| match output {
            BrainOutput::Tool(tool) => Some((tool.name.as_str(), tool.outcome)),
            _ => None,
        });
        told.collect()
    }

    #[test]
    fn a_tool_that_was_not_offered_does_nothing_and_is_told_of() {
        let mut answer = answer();
        let arguments = "{\"uri\":\"sip:attacker@example.org\"}";
        answer.receive(&called(&[(TRANSFER, arguments), ("open_door", "{}")])).unwrap();
        let (outputs, end) = answer.whole();
        assert_eq!(end, Err(BrainError::Empty { provider: name() }));
        assert_eq!(tools(&outputs), [(TRANSFER, ToolOutcome::Refused), ("open_door", ToolOutcome::Refused)]);
        let Some(BrainOutput::Tool(ToolAsk { arguments: told, by, why, .. })) = outputs.first() else { panic!() };
        assert_eq!((told.as_str(), *by, why.as_deref()), (arguments, AskedBy::Model, Some("it was not offered")));
        assert_eq!(outputs.len(), 2, "nothing is done: {outputs:?}");
    }

    #[test]
    fn of_two_tools_one_is_done_and_of_a_broken_answer_none() {
        let config = OpenAiBrainConfig { transfer_to: "sip:desk@example.com".into(), ..OpenAiBrainConfig::default() };
        let both = called(&[(HANG_UP, "{}"), (TRANSFER, "{}")]);
        let mut answer = Answer::new(&config);
        answer.receive(&both).unwrap();
        let (outputs, end) = answer.whole();
        assert_eq!(tools(&outputs), [(HANG_UP, ToolOutcome::Failed), (TRANSFER, ToolOutcome::Open)]);
        assert!(end.is_ok() && matches!(outputs.last(), Some(BrainOutput::Transfer(_))), "{outputs:?}");
        let mut answer = Answer::new(&config);
        answer.receive(&both).unwrap();
        let outputs = answer.broken();
        assert_eq!(tools(&outputs), [(HANG_UP, ToolOutcome::Failed), (TRANSFER, ToolOutcome::Failed)]);
        assert_eq!(outputs.len(), 2);
    }

    #[test]
    fn a_model_passes_its_caller_on_to_whomever_it_chooses_of_those_who_are_listed() {
        let target = |name: &str| TransferTarget {
            name: name.into(),
            to: format!("agent-{name}"),
            when: "asked for".into(),
            afresh: name == "sales",
            ..TransferTarget::default()
        };
        let transfers = vec![target("support"), target("sales")];
        let config = OpenAiBrainConfig { transfers, ..OpenAiBrainConfig::default() };
        let ended = |arguments: &str| {
            let mut answer = Answer::new(&config);
            answer.receive(&called(&[(TRANSFER, arguments)])).unwrap();
            answer.whole().0
        };
        let outputs = ended("{\"to\": \"Sales\", \"summary\": \"A lamp.\"}");
        let Some(BrainOutput::Transfer(handover)) = outputs.last() else { panic!("{outputs:?}") };
        assert_eq!(
            (handover.uri.as_str(), handover.summary.as_str(), handover.afresh),
            ("agent-sales", "A lamp.", true)
        );
        for nobody in ["{\"to\": \"sip:attacker@example.org\"}", "{}", "{\"to\": 7}", "no JSON"] {
            assert_eq!(tools(&ended(nobody)), [(TRANSFER, ToolOutcome::Refused)], "{nobody}");
        }
    }

    #[test]
    fn hanging_up_with_broken_arguments_still_hangs_up() {
        let mut answer = answer();
        answer.receive(&called(&[(HANG_UP, "{\"reason\": \"the")])).unwrap();
        let (outputs, end) = answer.whole();
        assert_eq!(end, Ok(()));
        assert_eq!(outputs.last(), Some(&BrainOutput::HangUp { reason: "goodbye".into() }));
        assert!(matches!(outputs.first(), Some(BrainOutput::Say(_))), "not without a word");
        assert_eq!(tools(&outputs), [(HANG_UP, ToolOutcome::Open)]);
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
