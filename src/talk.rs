//! `omnivox talk`: an agent on this machine's microphone and loudspeaker, with no telephony in between.

use std::collections::HashMap;
use std::process::ExitCode;

use agent::registry::Registry;
use agent::session::{OBSERVER_CAPACITY, Session, SessionEnd};
use clap::Args;
use tokio::sync::mpsc;

use crate::agents::Agents;
use crate::config::Config;
use crate::output::{self, print_line};
use crate::serve::event_line;

mod devices;
mod microphone;
mod playback;

pub use devices::{Chosen, Devices};
pub use microphone::Microphone;

/// Arguments of `omnivox talk`.
#[derive(Debug, Clone, Args)]
pub struct TalkArgs {
    /// The agent; without it the configured default.
    #[arg(long, value_name = "NAME")]
    pub agent: Option<String>,
    /// Lists this machine's sound devices.
    #[arg(long)]
    pub list_devices: bool,
    /// The microphone: a part of a name in the list.
    #[arg(long, value_name = "NAME")]
    pub input: Option<String>,
    /// The loudspeaker: a part of a name in the list.
    #[arg(long, value_name = "NAME")]
    pub output: Option<String>,
    /// Without headphones: the microphone is deaf while the agent speaks, so that it doesn't hear itself. It can't be interrupted then.
    #[arg(long)]
    pub loudspeaker: bool,
}

/// Talks until the agent hangs up, or until ctrl-C.
///
/// # Errors
/// No sound device (with what to do), no such agent, or an agent that fails.
pub async fn run(args: TalkArgs, config: Config) -> anyhow::Result<ExitCode> {
    let devices = Devices::of_this_machine();
    if args.list_devices {
        print_line!("{devices}")?;
        return Ok(ExitCode::SUCCESS);
    }
    let chosen = devices.choose(args.input.as_deref(), args.output.as_deref())?;
    let name = args.agent.unwrap_or_else(|| config.agents.default.clone());
    let agents = Agents::load(&config, Registry::default(), HashMap::new())?;
    let agent = tokio::task::spawn_blocking(move || agents.build(&name)).await??;
    for note in &agent.notes {
        output::tell(format_args!("{note}"));
    }
    let mut line = Microphone::open(chosen, args.loudspeaker)?;
    output::tell(format_args!("{}; ctrl-C ends", line.describe()));
    if !args.loudspeaker {
        output::tell(format_args!("use headphones, or the agent hears itself; without any: --loudspeaker"));
    }
    let (observer, mut events) = mpsc::channel(OBSERVER_CAPACITY);
    let print = tokio::spawn(async move {
        while let Some(event) = events.recv().await {
            if let Some(line) = event_line(&event) {
                print_line!("{line}")?;
            }
        }
        std::io::Result::Ok(())
    });
    let end = tokio::select! {
        end = Session::new(agent, observer).run(&mut line) => Some(end),
        _ = tokio::signal::ctrl_c() => None,
    };
    print.await??;
    match end {
        Some(SessionEnd::Failed { what, .. }) => anyhow::bail!("the conversation ended: {what}"),
        Some(SessionEnd::LineClosed) => anyhow::bail!("the sound device is gone"),
        Some(SessionEnd::Transfer(handover)) => {
            output::tell(format_args!("here the call would go on to {}", handover.uri))
        }
        _ => {}
    }
    Ok(ExitCode::SUCCESS)
}
