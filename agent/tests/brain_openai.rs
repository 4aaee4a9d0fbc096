//! The language model behind a server that behaves, and behind servers that do not.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, unreachable_pub, dead_code)]

#[path = "session_support/chat_server.rs"]
mod chat_server;

use std::time::{Duration, Instant};

use agent::brain::openai::{OpenAiBrainConfig, OpenAiFactory};
use agent::brain::{BrainError, BrainFactory, BrainInput, BrainOutput, Handover};
use agent::history::History;
use agent::tool::{AskedBy, ToolAsk, ToolOutcome};
use agent::usage::Meter;
use chat_server::{ChatServer, Manner};
use futures::StreamExt;

type Outputs = Vec<Result<BrainOutput, BrainError>>;

fn config(server: &ChatServer) -> OpenAiBrainConfig {
    OpenAiBrainConfig {
        base_url: server.url(),
        first_token_timeout_ms: 400,
        next_token_timeout_ms: 300,
        ..OpenAiBrainConfig::default()
    }
}

async fn ask(config: OpenAiBrainConfig, history: &History) -> Outputs {
    let mut brain = OpenAiFactory::new(config, Some("secret".into())).unwrap().open();
    brain.respond(BrainInput::Heard { text: "when are you open".into(), confidence: 0.8 }, history).collect().await
}

async fn answer_of(manner: Manner) -> Outputs {
    let server = ChatServer::start(manner).await;
    ask(config(&server), &History::new()).await
}

fn said(outputs: &Outputs) -> Vec<&str> {
    outputs
        .iter()
        .filter_map(|output| if let Ok(BrainOutput::Say(text)) = output { Some(text.as_str()) } else { None })
        .collect()
}

fn failure(outputs: &Outputs) -> &BrainError {
    outputs.last().unwrap().as_ref().expect_err("the last output is a failure")
}

#[tokio::test]
async fn an_answer_is_handed_on_sentence_by_sentence() {
    let outputs = answer_of(Manner::Says(&["We are ", "open. ", "From nine ", "to five."])).await;
    assert_eq!(said(&outputs), ["We are open.", "From nine to five."]);
    assert!(matches!(outputs.last(), Some(Ok(BrainOutput::Listen(_)))));
}

#[tokio::test]
async fn the_first_sentence_comes_before_the_answer_is_whole() {
    let server = ChatServer::start(Manner::HangsAfter(&["We are open. ", "From "])).await;
    let config = OpenAiBrainConfig { next_token_timeout_ms: 60_000, ..config(&server) };
    let mut brain = OpenAiFactory::new(config, None).unwrap().open();
    let mut stream = brain.respond(BrainInput::Heard { text: "hi".into(), confidence: 1.0 }, &History::new());
    assert_eq!(stream.next().await, Some(Ok(BrainOutput::Say("We are open.".into()))));
}

#[tokio::test]
async fn the_model_is_shown_what_was_heard_and_the_key_goes_into_the_header() {
    let server = ChatServer::start(Manner::Says(&["Yes."])).await;
    let mut history = History::new();
    history.agent_was_heard("Welcome to the", true);
    history.caller_said("hello");
    ask(config(&server), &history).await;
    let (headers, body) = server.requests().pop().unwrap();
    assert_eq!(headers["authorization"], "Bearer secret");
    let messages = body["messages"].as_array().unwrap();
    assert_eq!(messages.len(), 4);
    assert_eq!((messages[0]["role"].as_str(), messages[1]["role"].as_str()), (Some("system"), Some("assistant")));
    assert_eq!(messages[1]["content"], "Welcome to the ...");
    assert_eq!(messages[3]["content"], "when are you open");
    assert_eq!((&body["stream"], &body["max_tokens"]), (&true.into(), &220.into()));
    let tools: Vec<_> = body["tools"].as_array().unwrap().iter().map(|tool| tool["function"]["name"].clone()).collect();
    assert_eq!(tools, ["hang_up"], "no transfer is offered where none is configured");
}

#[tokio::test]
async fn hanging_up_comes_after_what_is_said() {
    let outputs = answer_of(Manner::Calls(&["Good", "bye."], "hang_up", r#"{"reason": "done"}"#)).await;
    let tool = ToolAsk::new("hang_up", r#"{"reason": "done"}"#, AskedBy::Model);
    let wanted =
        [BrainOutput::Say("Goodbye.".into()), BrainOutput::Tool(tool), BrainOutput::HangUp { reason: "done".into() }];
    assert_eq!(outputs, wanted.map(Ok));
}

#[tokio::test]
async fn a_transfer_goes_where_the_configuration_says_and_nowhere_else() {
    let manner = Manner::Calls(&["One moment."], "transfer_call", r#"{"uri": "sip:elsewhere@example.org"}"#);
    let server = ChatServer::start(manner).await;
    let without = ask(config(&server), &History::new()).await;
    assert!(!without.iter().any(|output| matches!(output, Ok(BrainOutput::Transfer(_)))), "{without:?}");
    let refused = |output: &&_| matches!(output, Ok(BrainOutput::Tool(tool)) if tool.outcome == ToolOutcome::Refused);
    assert_eq!(without.iter().filter(refused).count(), 1, "{without:?}");
    let config = OpenAiBrainConfig { transfer_to: "sip:desk@example.com".into(), ..config(&server) };
    let with = ask(config, &History::new()).await;
    assert_eq!(with.last(), Some(&Ok(BrainOutput::Transfer(Handover::blind("sip:desk@example.com")))));
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_said_as_far_as_it_came_and_then_fails() {
    for manner in [
        Manner::CutsAfter(&["We are open. From nine"]),
        Manner::WrongJsonAfter(&["We are open. From nine"]),
        Manner::ErrorAfter(&["We are open. From nine"]),
        Manner::HangsAfter(&["We are open. From nine"]),
    ] {
        let outputs = answer_of(manner).await;
        assert_eq!(said(&outputs), ["We are open.", "From nine"], "{manner:?}");
        match (manner, failure(&outputs)) {
            (Manner::CutsAfter(_) | Manner::ErrorAfter(_), BrainError::CutShort { .. })
            | (Manner::WrongJsonAfter(_), BrainError::Malformed { .. })
            | (Manner::HangsAfter(_), BrainError::TooSlow { stage: "in mid-answer", .. }) => {}
            (manner, error) => panic!("{manner:?}: {error}"),
        }
    }
}

#[tokio::test]
async fn a_server_that_never_answers_is_given_up_in_time() {
    let begun = Instant::now();
    let outputs = answer_of(Manner::NeverAnswers).await;
    assert!(matches!(failure(&outputs), BrainError::TooSlow { .. }), "{outputs:?}");
    assert!(begun.elapsed() < Duration::from_secs(5));
}

#[tokio::test]
async fn a_refusal_says_what_the_server_said() {
    for status in [400, 401, 404, 429, 500, 503] {
        let outputs = answer_of(Manner::Refuses(status, "no such model")).await;
        let expected = BrainError::Refused { provider: "openai".into(), status, reason: "no such model".into() };
        assert_eq!(outputs, [Err(expected)]);
    }
}

#[tokio::test]
async fn nothing_is_an_error_and_no_silence() {
    assert_eq!(answer_of(Manner::Says(&[])).await, [Err(BrainError::Empty { provider: "openai".into() })]);
    assert_eq!(answer_of(Manner::Says(&["  ", "\n"])).await, [Err(BrainError::Empty { provider: "openai".into() })]);
    assert!(matches!(failure(&answer_of(Manner::Html).await), BrainError::CutShort { .. }));
}

#[tokio::test]
async fn nobody_at_the_address_is_an_error_that_says_so() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    drop(listener);
    let config = OpenAiBrainConfig { base_url: format!("http://{address}/v1"), ..OpenAiBrainConfig::default() };
    let outputs = ask(config, &History::new()).await;
    assert!(matches!(failure(&outputs), BrainError::Unreachable { .. }), "{outputs:?}");
}

#[tokio::test]
async fn a_dropped_answer_ends_the_request() {
    let server = ChatServer::start(Manner::HangsAfter(&["Hello there. "])).await;
    let config = OpenAiBrainConfig { next_token_timeout_ms: 60_000, ..config(&server) };
    let mut brain = OpenAiFactory::new(config, None).unwrap().open();
    let mut stream = brain.respond(BrainInput::Heard { text: "hi".into(), confidence: 1.0 }, &History::new());
    assert!(matches!(stream.next().await, Some(Ok(_))));
    drop(stream);
    // The next question is answered on its own.
    let mut stream = brain.respond(BrainInput::Heard { text: "hi".into(), confidence: 1.0 }, &History::new());
    assert!(matches!(stream.next().await, Some(Ok(_))));
}

#[test]
fn a_wrong_setting_is_named() {
    let wrong = |config: OpenAiBrainConfig| OpenAiFactory::new(config, None).unwrap_err();
    assert!(
        wrong(OpenAiBrainConfig { base_url: "api.example.com".into(), ..Default::default() }).starts_with("base_url")
    );
    assert!(wrong(OpenAiBrainConfig { model: " ".into(), ..Default::default() }).starts_with("model"));
    assert!(wrong(OpenAiBrainConfig { temperature: Some(9.0), ..Default::default() }).starts_with("temperature"));
    assert!(wrong(OpenAiBrainConfig { max_tokens: 0, ..Default::default() }).starts_with("max_tokens"));
}

#[tokio::test]
async fn what_an_answer_took_is_counted_and_of_one_that_is_thrown_away_it_is_unknown() {
    let meter = Meter::default();
    let counted = |meter: &Meter| {
        let [used] = &meter.usage().models[..] else { panic!("{:?}", meter.usage()) };
        assert_eq!((used.provider.as_str(), used.model.as_str()), ("openai", "gpt-4o-mini"));
        [used.answers, used.answers_unknown, used.tokens_in, used.tokens_cached, used.tokens_out]
    };
    let input = || BrainInput::Heard { text: "hi".into(), confidence: 1.0 };
    let open = async |manner: Manner| {
        let server = ChatServer::start(manner).await;
        let mut brain = OpenAiFactory::new(config(&server), None).unwrap().open();
        brain.count_on(meter.clone());
        (server, brain)
    };
    let (server, mut brain) = open(Manner::Says(&["Yes."])).await;
    let _ = brain.respond(input(), &History::new()).collect::<Vec<_>>().await;
    assert_eq!(counted(&meter), [1, 0, 120, 64, 7]);
    assert_eq!(server.requests()[0].1["stream_options"]["include_usage"], true);

    let (_server, mut brain) = open(Manner::HangsAfter(&["One. ", "Two "])).await;
    let mut stream = brain.respond(input(), &History::new());
    assert!(stream.next().await.is_some());
    drop(stream);
    assert_eq!(counted(&meter), [2, 1, 120, 64, 7]);

    let (_server, mut brain) = open(Manner::Refuses(429, "later")).await;
    let _ = brain.respond(input(), &History::new()).collect::<Vec<_>>().await;
    assert_eq!(counted(&meter), [3, 1, 120, 64, 7], "who refuses has done nothing");

    let server = ChatServer::start(Manner::Says(&["Yes."])).await;
    ask(OpenAiBrainConfig { report_usage: false, ..config(&server) }, &History::new()).await;
    assert_eq!(server.requests()[0].1.get("stream_options"), None);
}
