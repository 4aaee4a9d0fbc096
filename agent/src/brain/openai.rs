//! A language model behind any server with OpenAI's chat completions, streamed.
//!
//! The answer is handed on clause by clause while it is still being written. What the model may do besides talking is
//! settled by the configuration: without a transfer target there is no tool to transfer with, and a call of a tool that
//! was not offered does nothing.
//!
//! Every step has a time limit, and whatever was whole when an answer broke off is still said.

mod answer;
mod transfers;

use std::sync::Arc;
use std::time::Duration;

use eventsource_stream::Eventsource;
use futures::StreamExt;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::sync::mpsc;
use tokio::time::Instant;

use super::{Brain, BrainError, BrainFactory, BrainInput, BrainOutput, BrainStream, Listen, TransferKind};
use crate::briefing::Briefing;
use crate::grammar::Grammar;
use crate::history::{History, Speaker};
use crate::tool::{AskedBy, HANG_UP, TRANSFER, ToolAsk};
use crate::traced;
use crate::usage::{Meter, Tokens};
use answer::Answer;
pub use transfers::TransferTarget;

/// At most so many outputs wait to be taken.
const QUEUE: usize = 32;
/// So much of a refusal's body is kept.
const MAX_REASON: usize = 300;
/// What a model is told beside its own prompt.
const HOUSE_RULES: &str = "You are speaking on the telephone. Answer in one to three short sentences of plain spoken \
language: no lists, no markup, no emoji. Where one of your earlier messages ends in \"...\", the caller cut you off there and \
heard no more of it.";

/// The `[brain]` table's part for this provider.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct OpenAiBrainConfig {
    /// The server, up to and with `/v1`.
    pub base_url: String,
    /// The environment variable that holds the key. An unset one means that no key is sent.
    pub api_key_env: String,
    /// The model.
    pub model: String,
    /// Who the model is and what it is to do.
    pub system_prompt: String,
    /// Said at the beginning; empty: the model greets.
    pub greeting: String,
    /// 0 to 2.
    pub temperature: Option<f32>,
    /// Ask for what each answer took (`stream_options.include_usage`), for its cost; servers that refuse that want this off.
    pub report_usage: bool,
    /// The longest answer, in tokens.
    pub max_tokens: u32,
    /// How many entries of the history the model is shown.
    pub history_entries: usize,
    /// Time limit for the connection.
    pub connect_timeout_ms: u64,
    /// Time limit from the request to the first words.
    pub first_token_timeout_ms: u64,
    /// Time limit from one piece of the answer to the next.
    pub next_token_timeout_ms: u64,
    /// Said when the answer fails.
    pub fallback: String,
    /// Whether the model may hang up.
    pub may_hang_up: bool,
    /// Said when the model hangs up without a word.
    pub goodbye: String,
    /// How: `blind`, `attended` or `warm`. Before a warm one the person hears a summary that the model writes.
    pub transfer_kind: TransferKind,
    /// The person has to press 1 to take the call.
    pub transfer_accept: bool,
    /// Where the model may transfer the caller to; empty: nowhere.
    pub transfer_to: String,
    /// When the model should do so.
    pub transfer_when: String,
    /// An agent that the caller is handed over to is not told what was said before.
    pub transfer_afresh: bool,
    /// Where else: whom the model may choose from, instead of `transfer_to`.
    pub transfers: Vec<TransferTarget>,
    /// Said after silence, one after the other; then the call ends.
    pub no_input: Vec<String>,
    /// Said after something that was not understood.
    pub no_match: Vec<String>,
}

impl Default for OpenAiBrainConfig {
    fn default() -> Self {
        Self {
            base_url: "https://api.openai.com/v1".into(),
            api_key_env: "OPENAI_API_KEY".into(),
            model: "gpt-4o-mini".into(),
            system_prompt: "You are a friendly, efficient assistant who answers the phone.".into(),
            greeting: "Hello, how can I help you?".into(),
            temperature: None,
            report_usage: true,
            max_tokens: 220,
            history_entries: 40,
            connect_timeout_ms: 2_000,
            first_token_timeout_ms: 6_000,
            next_token_timeout_ms: 4_000,
            fallback: "I am sorry, I lost my train of thought. Could you say that again?".into(),
            may_hang_up: true,
            goodbye: "Goodbye.".into(),
            transfer_to: String::new(),
            transfer_kind: TransferKind::Blind,
            transfer_accept: false,
            transfer_when: "the caller asks for a person".into(),
            transfer_afresh: false,
            transfers: Vec::new(),
            no_input: vec!["Are you still there?".into(), "I cannot hear you. Please say something.".into()],
            no_match: vec!["Sorry, could you say that again?".into()],
        }
    }
}

impl OpenAiBrainConfig {
    /// Says which setting makes no sense, and what would.
    ///
    /// # Errors
    /// A sentence that begins with the setting's name.
    pub fn check(&self) -> Result<(), String> {
        if !(self.base_url.starts_with("http://") || self.base_url.starts_with("https://")) {
            return Err(format!(
                "base_url = {:?} is no address: write it with http:// or https://, up to and with /v1",
                self.base_url
            ));
        }
        if self.model.trim().is_empty() {
            return Err("model is empty: name one that the server has (see its /v1/models)".into());
        }
        if self.temperature.is_some_and(|t| !(0.0..=2.0).contains(&t)) {
            return Err("temperature is not between 0 and 2".into());
        }
        if self.max_tokens == 0 {
            return Err("max_tokens = 0 leaves no room for an answer".into());
        }
        self.check_transfers()
    }
}

/// Opens [`OpenAiBrain`]s that share one pool of connections.
#[derive(Debug, Clone)]
pub struct OpenAiFactory {
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    config: OpenAiBrainConfig,
    client: reqwest::Client,
    key: Option<String>,
}

impl OpenAiFactory {
    /// With the key itself, which the caller has read from where the configuration says.
    ///
    /// # Errors
    /// A sentence on the setting at fault.
    pub fn new(config: OpenAiBrainConfig, key: Option<String>) -> Result<Self, String> {
        config.check()?;
        let client = reqwest::Client::builder()
            .connect_timeout(Duration::from_millis(config.connect_timeout_ms))
            .build()
            .map_err(|error| format!("the HTTP client can't be set up: {error}"))?;
        Ok(Self { shared: Arc::new(Shared { config, client, key }) })
    }
}

impl BrainFactory for OpenAiFactory {
    fn name(&self) -> &str {
        "openai"
    }

    fn model(&self) -> Option<&str> {
        Some(&self.shared.config.model)
    }

    fn open(&self) -> Box<dyn Brain> {
        let shared = Arc::clone(&self.shared);
        Box::new(OpenAiBrain { shared, briefing: None, notes: Vec::new(), meter: Meter::default() })
    }

    fn phrases(&self) -> Vec<String> {
        let config = &self.shared.config;
        let texts =
            config.no_input.iter().chain(&config.no_match).chain([&config.greeting, &config.fallback, &config.goodbye]);
        texts.filter(|text| !text.is_empty()).cloned().collect()
    }
}

/// So many notes of the house are kept in mind; the oldest goes first.
const MAX_NOTES: usize = 20;
/// What they are to the model.
const NOTES_ARE: &str = "Notes from a colleague, for you alone. Act on them, and do not read them out:";

/// One conversation with a language model.
#[derive(Debug)]
pub struct OpenAiBrain {
    shared: Arc<Shared>,
    /// What it was told of a caller who was handed over to it.
    briefing: Option<String>,
    /// What it was told by somebody of the house, oldest first.
    notes: Vec<String>,
    meter: Meter,
}

impl Brain for OpenAiBrain {
    fn name(&self) -> &str {
        "openai"
    }

    fn expects(&self) -> Option<Arc<Grammar>> {
        None
    }

    fn respond(&mut self, input: BrainInput, history: &History) -> BrainStream {
        let config = &self.shared.config;
        let canned = match &input {
            BrainInput::Start if !config.greeting.is_empty() => Some(vec![BrainOutput::Say(config.greeting.clone())]),
            BrainInput::NoInput(n) => Some(ask_again(&config.no_input, *n, &config.goodbye, "no input")),
            BrainInput::NoMatch(n) => {
                // Asking again and again is better than hanging up on somebody who speaks.
                let n = (*n).min(u32::try_from(config.no_match.len()).unwrap_or(u32::MAX));
                Some(ask_again(&config.no_match, n, &config.goodbye, "no match"))
            }
            _ => None,
        };
        match canned {
            Some(outputs) => Box::pin(futures::stream::iter(outputs.into_iter().map(Ok))),
            None => {
                let asked = messages(config, &input, history, self.briefing.as_deref(), &self.notes);
                ask(Arc::clone(&self.shared), asked, self.meter.clone())
            }
        }
    }

    // What a model said is in the session's history, as far as it was heard: there is no other state.
    fn commit(&mut self) {}

    fn discard(&mut self) {}

    fn note(&mut self, text: &str) -> bool {
        if self.notes.len() >= MAX_NOTES {
            self.notes.remove(0);
        }
        self.notes.push(text.to_owned());
        true
    }

    fn brief(&mut self, briefing: &Briefing) {
        self.briefing = Some(told(briefing));
    }

    fn count_on(&mut self, meter: Meter) {
        self.meter = meter;
    }

    fn fallback(&self) -> &str {
        &self.shared.config.fallback
    }
}

fn ask_again(texts: &[String], n: u32, goodbye: &str, reason: &str) -> Vec<BrainOutput> {
    match texts.get(n.saturating_sub(1) as usize) {
        Some(text) => vec![BrainOutput::Say(text.clone()), BrainOutput::Listen(Listen::default())],
        None => {
            // It is the configuration that asks for this.
            let tool = ToolAsk::new(HANG_UP, &json!({ "reason": reason }).to_string(), AskedBy::Script);
            let hang_up = BrainOutput::HangUp { reason: reason.to_owned() };
            vec![BrainOutput::Say(goodbye.to_owned()), BrainOutput::Tool(tool), hang_up]
        }
    }
}

/// What the model is told of a caller who has been handed over to it.
fn told(briefing: &Briefing) -> String {
    let Briefing { from, summary, variables, said } = briefing;
    let by = if from.is_empty() { "a colleague".to_owned() } else { format!("another agent, {from:?}") };
    let mut told = format!("The caller has been handed over to you in mid-call by {by}. Go on from there.");
    if !said.is_empty() {
        told.push_str(
            " What was said before is the beginning of the conversation: do not ask again for what is known.",
        );
    }
    if !summary.is_empty() {
        told.push_str(&format!("\nWhat they say of the caller: {summary}"));
    }
    for (name, value) in variables {
        told.push_str(&format!("\n{name}: {value}"));
    }
    told
}

/// The conversation as the protocol has it, with what was really heard.
fn messages(
    config: &OpenAiBrainConfig,
    input: &BrainInput,
    history: &History,
    briefing: Option<&str>,
    notes: &[String],
) -> Vec<Value> {
    let mut messages =
        vec![json!({ "role": "system", "content": format!("{}\n\n{HOUSE_RULES}", config.system_prompt) })];
    messages.extend(briefing.map(|told| json!({ "role": "system", "content": told })));
    let skip = history.len().saturating_sub(config.history_entries);
    for entry in history.entries().skip(skip) {
        let (role, content) = match entry.who {
            Speaker::Caller => ("user", entry.text.clone()),
            Speaker::Agent if entry.interrupted => ("assistant", format!("{} ...", entry.text)),
            Speaker::Agent => ("assistant", entry.text.clone()),
        };
        messages.push(json!({ "role": role, "content": content }));
    }
    let last = match input {
        BrainInput::Heard { text, .. } => text.clone(),
        BrainInput::Digits(keys) => format!("(the caller pressed {keys} on the keypad)"),
        BrainInput::TransferFailed(why) => {
            format!("(the caller is back, since {why}: say so and ask what else you can do)")
        }
        BrainInput::Returned(why) => format!(
            "(a colleague wanted the caller connected with somebody, in vain, since {why}; the caller heard music and is back: say so and go on)"
        ),
        _ if briefing.is_some() => {
            "(the caller has just been handed over to you: say who you are and go on)".to_owned()
        }
        _ => "(the caller has just been connected: greet them)".to_owned(),
    };
    if !notes.is_empty() {
        let content = format!("{NOTES_ARE}\n- {}", notes.join("\n- "));
        messages.push(json!({ "role": "system", "content": content }));
    }
    messages.push(json!({ "role": "user", "content": last }));
    messages
}

fn request(config: &OpenAiBrainConfig, messages: Vec<Value>) -> Value {
    let mut body = json!({
        "model": config.model,
        "messages": messages,
        "stream": true,
        "max_tokens": config.max_tokens,
    });
    if config.report_usage {
        body["stream_options"] = json!({ "include_usage": true });
    }
    if let Some(temperature) = config.temperature {
        body["temperature"] = json!(temperature);
    }
    let tool = |name: &str, description: &str, takes: Vec<(&str, Value)>| {
        let reason = json!({ "type": "string", "description": "why, in a few words" });
        let mut parameters = json!({ "type": "object", "properties": { "reason": reason } });
        for (name, what) in takes {
            parameters["properties"][name] = what;
            if name == "to" {
                parameters["required"] = json!([name]);
            }
        }
        json!({ "type": "function", "function": { "name": name, "description": description, "parameters": parameters } })
    };
    let mut tools = Vec::new();
    if config.may_hang_up {
        tools.push(tool(
            HANG_UP,
            "Ends the call. Say goodbye in the same message. Only when the caller is done.",
            vec![],
        ));
    }
    if let Some((description, takes)) = transfers::tool(&config.targets()) {
        tools.push(tool(TRANSFER, &description, takes));
    }
    if !tools.is_empty() {
        body["tools"] = Value::Array(tools);
    }
    body
}

/// Asks the server in a task of its own, which ends when the answer is dropped.
fn ask(shared: Arc<Shared>, messages: Vec<Value>, meter: Meter) -> BrainStream {
    let (outputs, taken) = mpsc::channel(QUEUE);
    let asking = async move {
        if let Err(error) = exchange(&shared, messages, &outputs, &meter).await {
            // Nobody listens any more where this fails.
            let _ = outputs.send(Err(error)).await;
        }
    };
    let task = AbortOnDrop(tokio::spawn(traced::within(traced::current(), asking)));
    Box::pin(futures::stream::unfold((taken, task), |(mut taken, task)| async move {
        taken.recv().await.map(|output| (output, (taken, task)))
    }))
}

struct AbortOnDrop(tokio::task::JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

type Outputs = mpsc::Sender<Result<BrainOutput, BrainError>>;

async fn exchange(shared: &Shared, messages: Vec<Value>, outputs: &Outputs, meter: &Meter) -> Result<(), BrainError> {
    let config = &shared.config;
    let asked = Instant::now();
    let first_limit = Duration::from_millis(config.first_token_timeout_ms);
    // An answer that is thrown away in between has been asked for all the same.
    meter.asked(&name(), &config.model);
    let response = tokio::time::timeout_at(asked + first_limit, send(shared, messages))
        .await
        .map_err(|_| too_slow("accepting the question", first_limit))?;
    let took = |tokens| meter.answered(&name(), &config.model, tokens);
    let response = response.inspect_err(|_| took(Tokens::default()))?;
    let mut answer = Answer::new(config);
    let end = listen(config, response, asked, &mut answer, outputs).await;
    if let Some(tokens) = answer.tokens() {
        took(tokens);
    }
    end
}

/// Hands an answer on as it comes.
async fn listen(
    config: &OpenAiBrainConfig,
    response: reqwest::Response,
    asked: Instant,
    answer: &mut Answer,
    outputs: &Outputs,
) -> Result<(), BrainError> {
    let first_limit = Duration::from_millis(config.first_token_timeout_ms);
    let next_limit = Duration::from_millis(config.next_token_timeout_ms);
    let mut events = response.bytes_stream().eventsource();
    let mut deadline = asked + first_limit;
    loop {
        let stage = if answer.begun() { "in mid-answer" } else { "beginning its answer" };
        let limit = if answer.begun() { next_limit } else { first_limit };
        let event = match tokio::time::timeout_at(deadline, events.next()).await {
            Err(_) => {
                tell(outputs, answer.broken()).await;
                return Err(too_slow(stage, limit));
            }
            Ok(event) => event,
        };
        let taken = match event {
            Some(Ok(event)) if event.data.trim() == "[DONE]" => break,
            Some(Ok(event)) => answer.receive(&event.data),
            Some(Err(error)) => Err(cut_short(&error.to_string())),
            // Some servers end without [DONE]; one that gave no reason for finishing broke off.
            None if answer.finished() => break,
            None => Err(cut_short("the connection was closed before the end of the answer")),
        };
        match taken {
            Ok(said) => tell(outputs, said).await,
            Err(error) => {
                tell(outputs, answer.broken()).await;
                return Err(error);
            }
        }
        if answer.begun() {
            deadline = Instant::now() + next_limit;
        }
    }
    let (said, end) = answer.whole();
    tell(outputs, said).await;
    end
}

async fn tell(outputs: &Outputs, said: Vec<BrainOutput>) {
    for output in said {
        // Nobody listens any more where this fails; the task is aborted then.
        let _ = outputs.send(Ok(output)).await;
    }
}

async fn send(shared: &Shared, messages: Vec<Value>) -> Result<reqwest::Response, BrainError> {
    let config = &shared.config;
    let url = format!("{}/chat/completions", config.base_url.trim_end_matches('/'));
    let mut request = traced::telling(shared.client.post(&url).json(&request(config, messages)));
    if let Some(key) = &shared.key {
        request = request.bearer_auth(key);
    }
    let response =
        request.send().await.map_err(|error| BrainError::Unreachable { provider: name(), reason: causes(&error) })?;
    let status = response.status();
    if status.is_success() {
        return Ok(response);
    }
    let body = response.text().await.unwrap_or_default();
    let reason = serde_json::from_str::<Value>(&body)
        .ok()
        .and_then(|value| value.pointer("/error/message").and_then(Value::as_str).map(str::to_owned))
        .unwrap_or(body);
    Err(BrainError::Refused {
        provider: name(),
        status: status.as_u16(),
        reason: reason.chars().take(MAX_REASON).collect(),
    })
}

fn name() -> String {
    "openai".to_owned()
}

fn too_slow(stage: &'static str, limit: Duration) -> BrainError {
    let waited_ms = u64::try_from(limit.as_millis()).unwrap_or(u64::MAX);
    BrainError::TooSlow { provider: name(), stage, waited_ms }
}

fn cut_short(reason: &str) -> BrainError {
    BrainError::CutShort { provider: name(), reason: reason.chars().take(MAX_REASON).collect() }
}

/// The error with what caused it: reqwest's own text says little.
fn causes(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut source = std::error::Error::source(error);
    while let Some(cause) = source {
        text = format!("{text}: {cause}");
        source = cause.source();
    }
    text.chars().take(MAX_REASON).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::history::Entry;

    #[test]
    fn notes_stand_before_what_the_caller_says_and_the_oldest_goes_first() {
        let factory = OpenAiFactory::new(OpenAiBrainConfig { model: "m".into(), ..OpenAiBrainConfig::default() }, None);
        let shared = factory.unwrap().shared;
        let mut brain = OpenAiBrain { shared, briefing: None, notes: Vec::new(), meter: Meter::default() };
        for n in 0..=MAX_NOTES {
            assert!(brain.note(&format!("note {n};")));
        }
        let heard = BrainInput::Heard { text: "hello".into(), confidence: 1.0 };
        let sent = messages(&brain.shared.config, &heard, &History::new(), None, &brain.notes);
        let roles: Vec<&str> = sent.iter().map(|message| message["role"].as_str().unwrap()).collect();
        assert_eq!(roles, ["system", "system", "user"]);
        let notes = sent[1]["content"].as_str().unwrap();
        assert!(notes.contains("note 20;") && notes.contains("note 1;") && !notes.contains("note 0;"), "{notes}");
        assert_eq!(messages(&brain.shared.config, &heard, &History::new(), None, &[]).len(), 2);
    }

    #[test]
    fn what_is_known_of_a_caller_who_was_handed_over_stands_before_what_was_said() {
        let factory = OpenAiFactory::new(OpenAiBrainConfig { model: "m".into(), ..OpenAiBrainConfig::default() }, None);
        let mut brain = factory.unwrap().open();
        let entry = Entry { who: Speaker::Caller, text: "I want to buy a lamp".into(), interrupted: false };
        let variables = [("name".to_owned(), "Smith".to_owned())].into();
        let briefing = Briefing { from: "desk".into(), summary: "A lamp.".into(), variables, said: vec![entry] };
        brain.brief(&briefing);
        let told = told(&briefing);
        assert!(told.contains("\"desk\"") && told.contains("A lamp.") && told.contains("name: Smith"), "{told}");
        let config = OpenAiBrainConfig::default();
        let history = History::of(briefing.said);
        let sent = messages(&config, &BrainInput::Start, &history, Some(&told), &[]);
        let said: Vec<_> = sent.iter().map(|message| message["content"].as_str().unwrap()).collect();
        assert_eq!((said[1], said[2]), (told.as_str(), "I want to buy a lamp"));
        assert!(said[3].contains("handed over"), "{said:?}");
    }
}
