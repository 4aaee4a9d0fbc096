//! `omnivox serve`: the server as a process.

use std::io::Write;
use std::process::ExitCode;

use agent::session::SessionEvent;
use clap::Args;
use tokio::signal::unix::{SignalKind, signal};

use crate::config::Config;
use crate::server::Server;
use crate::{output, private, telemetry};

/// Arguments of `omnivox serve`.
#[derive(Debug, Args)]
pub struct ServeArgs {
    /// Prints conversations on stdout as they happen: each turn's words and times. They are personal; nothing else prints them.
    #[arg(long)]
    pub print_conversations: bool,
}

/// Serves until SIGTERM or SIGINT, then drains.
///
/// # Errors
/// What keeps it from starting, and how to mend it.
pub async fn run(args: ServeArgs, config: Config) -> anyhow::Result<ExitCode> {
    // A file that meets the process's size limit is a fault of that file, told by its write, not the end of the process.
    let _size_limit = signal(SignalKind::from_raw(libc::SIGXFSZ))?;
    private::tighten(&config);
    let metrics = telemetry::init_metrics()?;
    let mut builder = Server::builder(config).http(Some(metrics));
    if args.print_conversations {
        builder = builder.observer(print_event);
    }
    let server = builder.start().await?;
    output::tell(format_args!("{}", ready_line(&server)));
    server.run_until_interrupted().await?;
    Ok(ExitCode::SUCCESS)
}

fn ready_line(server: &Server) -> String {
    let mut line = "ready:".to_owned();
    for (transport, addr) in server.sip_addrs() {
        line.push_str(&format!(" {}:{addr}", transport.uri_name()));
    }
    if let Some(addr) = server.http_addr() {
        line.push_str(&format!(" http:{addr}"));
    }
    if let Some(addr) = server.https_addr() {
        line.push_str(&format!(" https:{addr}"));
    }
    line
}

/// Prints what people want to see of a conversation, one line an event.
fn print_event(call: &str, event: &SessionEvent) {
    let Some(line) = event_line(event) else { return };
    let mut out = std::io::stdout().lock();
    // A reader that has gone is no reason to end calls.
    let _ = writeln!(out, "{call} {line}");
    let _ = out.flush();
}

pub(crate) fn event_line(event: &SessionEvent) -> Option<String> {
    let seconds = |ms: f64| format!("{:7.2} s", ms / 1_000.0);
    match event {
        SessionEvent::AgentSays { text, at_ms } => Some(format!("{}  agent   {text}", seconds(*at_ms))),
        SessionEvent::Interrupted { at_ms, onset_ms, by_key, .. } => {
            let how = if *by_key { "by a key" } else { "by voice" };
            Some(format!("{}  ------  interrupted {how}, {:.0} ms after its onset", seconds(*at_ms), at_ms - onset_ms))
        }
        SessionEvent::Turn(turn) if turn.who == agent::history::Speaker::Caller => {
            let confidence =
                turn.confidence.map(|confidence| format!(" ({:.0} % sure)", confidence * 100.0)).unwrap_or_default();
            Some(format!("{}  caller  {}{confidence}", seconds(turn.started_ms), turn.text))
        }
        SessionEvent::Turn(turn) => {
            let gap = turn.gap_ms?;
            let waits = turn.stages.waits_ms();
            Some(format!(
                "           ------  that answer came {gap:.0} ms after the caller's last sound (certainty {:.0}, recogniser {:.0}, brain {:.0}, voice {:.0}, line {:.0})",
                waits.certainty, waits.recogniser, waits.brain, waits.voice, waits.line
            ))
        }
        SessionEvent::Tool { tool, .. } => {
            let why = tool.why.as_ref().map(|why| format!(": {why}")).unwrap_or_default();
            Some(format!("           ------  {} {}{why}", tool.name, tool.outcome.as_str()))
        }
        SessionEvent::ProviderFailed { provider, reason, .. } => {
            Some(format!("           ------  {provider} failed: {reason}"))
        }
        _ => None,
    }
}
