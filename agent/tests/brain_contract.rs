//! What every brain keeps to, whatever it thinks with.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing, unreachable_pub, dead_code)]

#[path = "session_support/chat_server.rs"]
mod chat_server;

use std::path::Path;
use std::sync::Arc;

use agent::brain::openai::{OpenAiBrainConfig, OpenAiFactory};
use agent::brain::script::{Script, ScriptFactory};
use agent::brain::{Brain, BrainError, BrainFactory, BrainInput, BrainOutput};
use agent::definition::AgentDefinition;
use agent::history::History;
use chat_server::{ChatServer, Manner};
use futures::StreamExt;

const TOY: &str = r#"
[script]
start = "ask"
[script.states.ask]
say = ["Hello.", "Shall we?"]
[[script.states.ask.on]]
phrases = ["yes"]
keys = ["1"]
next = "bye"
[script.states.bye]
say = "Goodbye."
hang_up = "done"
"#;

async fn every_brain() -> Vec<(Arc<dyn BrainFactory>, Option<ChatServer>)> {
    let definition = AgentDefinition::parse(TOY, Path::new("toy.toml")).unwrap();
    let script = ScriptFactory::new(Script::new(definition.script.unwrap()).unwrap());
    let server = ChatServer::start(Manner::Says(&["Hello there. ", "What can I ", "do for you?"])).await;
    let config = OpenAiBrainConfig { base_url: server.url(), greeting: String::new(), ..OpenAiBrainConfig::default() };
    let openai = OpenAiFactory::new(config, None).unwrap();
    vec![(Arc::new(script), None), (Arc::new(openai), Some(server))]
}

async fn all(brain: &mut dyn Brain, input: BrainInput, history: &History) -> Vec<Result<BrainOutput, BrainError>> {
    brain.respond(input, history).collect().await
}

fn heard(text: &str) -> BrainInput {
    BrainInput::Heard { text: text.into(), confidence: 0.9 }
}

#[tokio::test]
async fn every_brain_greets_and_then_listens() {
    for (factory, _server) in every_brain().await {
        let mut brain = factory.open();
        assert_eq!(brain.name(), factory.name());
        let outputs = all(brain.as_mut(), BrainInput::Start, &History::new()).await;
        assert!(outputs.iter().all(Result::is_ok), "{outputs:?}");
        assert!(
            matches!(outputs.first(), Some(Ok(BrainOutput::Say(text))) if text.starts_with("Hello")),
            "{outputs:?}"
        );
        assert!(matches!(outputs.last(), Some(Ok(BrainOutput::Listen(_)))), "{outputs:?}");
    }
}

#[tokio::test]
async fn what_is_discarded_leaves_no_trace() {
    for (factory, _server) in every_brain().await {
        let (mut guessed, mut plain) = (factory.open(), factory.open());
        let history = History::new();
        for brain in [&mut guessed, &mut plain] {
            all(brain.as_mut(), BrainInput::Start, &history).await;
            brain.commit();
        }
        all(guessed.as_mut(), heard("yes"), &history).await;
        guessed.discard();
        // A stream dropped before its end is as good as discarded.
        drop(guessed.respond(heard("yes"), &history));
        guessed.discard();
        let answers =
            [all(guessed.as_mut(), heard("yes"), &history).await, all(plain.as_mut(), heard("yes"), &history).await];
        assert_eq!(answers[0], answers[1], "{}", factory.name());
        assert_eq!(guessed.expects().is_some(), plain.expects().is_some());
    }
}

#[tokio::test]
async fn a_later_answer_takes_the_place_of_an_earlier_one() {
    for (factory, _server) in every_brain().await {
        let mut brain = factory.open();
        let history = History::new();
        all(brain.as_mut(), BrainInput::Start, &history).await;
        brain.commit();
        let first = brain.respond(heard("yes"), &history);
        let again = all(brain.as_mut(), BrainInput::NoMatch(1), &history).await;
        drop(first);
        brain.commit();
        assert!(matches!(again.first(), Some(Ok(BrainOutput::Say(_)))), "{again:?}");
        // Still in the state where "yes" is an answer.
        let yes = all(brain.as_mut(), heard("yes"), &history).await;
        assert!(yes.iter().all(Result::is_ok), "{yes:?}");
    }
}

#[tokio::test]
async fn silence_is_answered_and_ends_some_time() {
    for (factory, _server) in every_brain().await {
        let mut brain = factory.open();
        let history = History::new();
        all(brain.as_mut(), BrainInput::Start, &history).await;
        brain.commit();
        let mut ended = false;
        for n in 1..=10 {
            let outputs = all(brain.as_mut(), BrainInput::NoInput(n), &history).await;
            brain.commit();
            assert!(matches!(outputs.first(), Some(Ok(BrainOutput::Say(_)))), "{outputs:?}");
            if outputs.iter().any(|output| matches!(output, Ok(BrainOutput::HangUp { .. }))) {
                ended = true;
                break;
            }
        }
        assert!(ended, "{}", factory.name());
    }
}

#[tokio::test]
async fn there_is_always_something_to_say_when_an_answer_fails() {
    for (factory, _server) in every_brain().await {
        assert!(factory.open().fallback().chars().any(char::is_alphabetic));
    }
}
