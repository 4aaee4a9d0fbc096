//! Talks with the built-in front desk over this machine's microphone and loudspeaker: `cargo run --example microphone`

use agent::definition::AgentDefinition;
use agent::registry::{Environment, Registry};
use agent::session::Session;
use omnivox::talk::{Devices, Microphone};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let mut line = Microphone::open(Devices::of_this_machine().choose(None, None)?, false)?;
    let agent = Registry::default().build(&AgentDefinition::front_desk()?, &Environment::of_process("data/models"))?;
    let (observer, mut events) = tokio::sync::mpsc::channel(256);
    tokio::spawn(async move {
        while let Some(event) = events.recv().await {
            println!("{event:?}");
        }
    });
    println!("{}", line.describe());
    println!("{:?}", Session::new(agent, observer).run(&mut line).await);
    Ok(())
}
