//! Answers every call with the SDP of a fixed address, and hangs up when the caller does: a peer for load generators.
//!
//! `answer udp:127.0.0.1:5070 tcp:127.0.0.1:5070` answers on the SIP thread itself; with `--channel` first, from another
//! thread. At its end (SIGTERM or SIGINT) it prints what it did.

use std::collections::HashMap;
use std::sync::mpsc;
use std::time::Instant;

use anyhow::Context as _;
use sip::io::{Listen, SipStack, StackConfig};
use sip::{EndCause, Endpoint, Event};

fn main() -> anyhow::Result<()> {
    let (options, listen): (Vec<_>, Vec<_>) = std::env::args().skip(1).partition(|text| text.starts_with("--"));
    let listen = listen.iter().map(|text| text.parse()).collect::<Result<Vec<Listen>, _>>()?;
    anyhow::ensure!(!listen.is_empty(), "say where to listen: udp:127.0.0.1:5070");
    let by_channel = options.iter().any(|option| option == "--channel");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(serve(StackConfig { listen, ..StackConfig::default() }, by_channel))
}

async fn serve(config: StackConfig, by_channel: bool) -> anyhow::Result<()> {
    let (ends_in, ends) = mpsc::channel();
    let handle = if by_channel {
        let (handle, mut events) = SipStack::bind(config)?;
        let commands = handle.clone();
        tokio::spawn(async move {
            while let Some(event) = events.recv().await {
                match event {
                    Event::Incoming { call, source, .. } => _ = commands.answer(call, sdp(source.local.ip()).into()),
                    Event::Reoffer { call, .. } => _ = commands.reject_reoffer(call, 488),
                    Event::Ended { cause, .. } => _ = ends_in.send(cause),
                    _ => {}
                }
            }
        });
        handle
    } else {
        let on_event = move |endpoint: &mut Endpoint, now: Instant, event: Event| match event {
            Event::Incoming { call, source, .. } => _ = endpoint.answer(now, call, sdp(source.local.ip()).into()),
            Event::Reoffer { call, .. } => _ = endpoint.reject_reoffer(now, call, 488),
            Event::Ended { cause, .. } => _ = ends_in.send(cause),
            _ => {}
        };
        SipStack::bind_with(config, on_event)?
    };
    for listen in handle.listening() {
        eprintln!("listening on {listen}");
    }
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    tokio::select! {
        _ = terminate.recv() => {}
        _ = tokio::signal::ctrl_c() => {}
    }
    let stats = handle.stats().await.context("the stack has stopped")?;
    handle.shutdown().await;
    let mut causes: HashMap<String, u64> = HashMap::new();
    ends.try_iter().for_each(|cause: EndCause| *causes.entry(cause.to_string()).or_default() += 1);
    println!("calls ended: {causes:?}");
    println!("{stats:#?}");
    Ok(())
}

fn sdp(ip: std::net::IpAddr) -> String {
    format!("v=0\r\no=- 1 1 IN IP4 {ip}\r\ns=-\r\nc=IN IP4 {ip}\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n")
}
