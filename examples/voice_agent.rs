//! An agent that thinks with a language model behind an OpenAI-compatible server:
//!
//! ```sh
//! OPENAI_BASE_URL=http://127.0.0.1:8000/v1 MODEL=my-model cargo run --example voice_agent
//! ```
//!
//! then call sip:helper@127.0.0.1. It recognises speech with Whisper where `omnivox models pull whisper-base.en-q5_1` has
//! fetched a model, otherwise at the same server's `/v1/audio/transcriptions`; keys work in any case. It speaks with Flite.

use agent::definition::AgentDefinition;
use agent::history::Speaker;
use agent::registry::{Environment, Registry};
use agent::session::SessionEvent;
use omnivox::config::Sources;
use omnivox::{Config, Server};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let config = Config::load(&Sources::from_environment())?;
    let variable = |name: &str, usual: &str| std::env::var(name).unwrap_or_else(|_| usual.to_owned());

    let mut definition = AgentDefinition::default();
    definition.agent.name = "helper".to_owned();
    definition.ear.base_url = variable("OPENAI_BASE_URL", "http://127.0.0.1:8000/v1");
    definition.brain.kind = "openai".to_owned();
    definition.brain.openai.base_url = definition.ear.base_url.clone();
    definition.brain.openai.model = variable("MODEL", "default");
    definition.brain.openai.greeting = "Hello, I am your helper. What can I do for you?".to_owned();
    definition.brain.openai.system_prompt =
        "You answer the telephone. What you write is spoken: answer in one or two short sentences, without lists or symbols.".to_owned();

    let agent = Registry::built_in().build(&definition, &Environment::of_process(config.models_dir()))?;
    for note in &agent.notes {
        println!("{note}");
    }
    let server = Server::builder(config)
        .agent(agent)
        .observer(|_, event| match event {
            SessionEvent::Turn(turn) if turn.who == Speaker::Caller => println!("caller: {}", turn.text),
            SessionEvent::Turn(turn) => {
                println!("agent:  {} (after {:.0} ms)", turn.text, turn.gap_ms.unwrap_or_default())
            }
            SessionEvent::ProviderFailed { provider, reason, .. } => println!("{provider} failed: {reason}"),
            _ => {}
        })
        .start()
        .await?;
    println!("call sip:helper@{}", server.sip_addrs()[0].1);
    server.run_until_interrupted().await
}
