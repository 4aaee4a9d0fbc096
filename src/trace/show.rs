//! `omnivox trace`: asks a running server for the signalling of a call.

use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

use crate::config::{Config, PlainHttp};
use crate::output;

/// Arguments of `omnivox trace`.
#[derive(Debug, Args)]
pub struct TraceArgs {
    /// The call, by its id in records and logs or by its SIP Call-ID; the latest one unless given.
    #[arg(value_name = "CALL", default_value = "latest")]
    pub call: String,
    /// Writes a capture for Wireshark instead of a ladder of text.
    #[arg(long, value_name = "FILE")]
    pub pcap: Option<PathBuf>,
    /// The server to ask; by default the one at `http.listen` on this machine.
    #[arg(long, value_name = "URL")]
    pub url: Option<reqwest::Url>,
}

/// Fetches the trace and prints it, or writes the capture.
///
/// # Errors
/// No server answers, it knows no such call, or the file cannot be written.
pub async fn run(args: TraceArgs, config: Config) -> anyhow::Result<ExitCode> {
    let mut url = match args.url {
        Some(url) => url,
        None if config.http.plain == PlainHttp::Off => {
            anyhow::bail!(
                "http.plain is off: say where the server answers, and by a name that its certificate has, with --url https://HOST:PORT"
            )
        }
        None => format!("http://{}", reachable(config.http.listen)).parse()?,
    };
    let what = if args.pcap.is_some() { "trace.pcap" } else { "trace" };
    url.path_segments_mut()
        .map_err(|()| anyhow::anyhow!("--url is no HTTP address: write http://HOST:PORT"))?
        .pop_if_empty()
        .extend(["calls", args.call.as_str(), what]);
    let client = reqwest::Client::builder().no_proxy().build()?;
    let answer = client.get(url.clone()).send().await.map_err(|fault| {
        anyhow::anyhow!(
            "no server answers at {url}: {fault}. Is `omnivox serve` running? Say where with --url or http.listen"
        )
    })?;
    let status = answer.status();
    let body = answer.bytes().await?;
    if !status.is_success() {
        anyhow::bail!("{}", String::from_utf8_lossy(&body).trim_end());
    }
    match args.pcap {
        Some(path) => {
            std::fs::write(&path, &body)
                .map_err(|fault| anyhow::anyhow!("cannot write {}: {fault}", path.display()))?;
            output::tell(format_args!("wrote {}: open it in Wireshark", path.display()));
        }
        None => output::bytes(&body)?,
    }
    Ok(ExitCode::SUCCESS)
}

/// An address to ask at for what listens on all of them.
fn reachable(mut listen: std::net::SocketAddr) -> std::net::SocketAddr {
    if listen.ip().is_unspecified() {
        let localhost: std::net::IpAddr =
            if listen.is_ipv4() { std::net::Ipv4Addr::LOCALHOST.into() } else { std::net::Ipv6Addr::LOCALHOST.into() };
        listen.set_ip(localhost);
    }
    listen
}
