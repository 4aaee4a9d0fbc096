//! Answers every call with the SDP of a fixed address, and hangs up when the caller does: a peer for load generators.
//!
//! `answer udp:127.0.0.1:5070 tcp:127.0.0.1:5070`; at its end (SIGTERM or SIGINT) it prints what it did and the CPU it
//! took.

use std::collections::HashMap;

use anyhow::Context as _;
use sip::io::{Listen, SipStack, StackConfig};
use sip::{EndCause, Event};

fn main() -> anyhow::Result<()> {
    let listen = std::env::args().skip(1).map(|text| text.parse()).collect::<Result<Vec<Listen>, _>>()?;
    anyhow::ensure!(!listen.is_empty(), "say where to listen: udp:127.0.0.1:5070");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(serve(listen))
}

async fn serve(listen: Vec<Listen>) -> anyhow::Result<()> {
    let config = StackConfig { listen, ..StackConfig::default() };
    let (handle, mut events) = SipStack::bind(config)?;
    for listen in handle.listening() {
        eprintln!("listening on {listen}");
    }
    let mut terminate = tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())?;
    let (mut calls, mut ends) = (0u64, HashMap::new());
    let mut batch = Vec::with_capacity(64);
    loop {
        tokio::select! {
            count = events.recv_many(&mut batch, 64) => anyhow::ensure!(count > 0, "the stack has stopped"),
            _ = terminate.recv() => break,
            _ = tokio::signal::ctrl_c() => break,
        }
        for event in batch.drain(..) {
            match event {
                Event::Incoming { call, source, .. } => {
                    calls += 1;
                    let ip = source.local.ip();
                    let sdp = format!(
                        "v=0\r\no=- 1 1 IN IP4 {ip}\r\ns=-\r\nc=IN IP4 {ip}\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n"
                    );
                    handle.answer(call, sdp.into())?;
                }
                Event::Reoffer { call, .. } => handle.reject_reoffer(call, 488)?,
                Event::Ended { cause, .. } => *ends.entry(name(cause)).or_insert(0u64) += 1,
                _ => {}
            }
        }
    }
    let stats = handle.stats().await.context("the stack has stopped")?;
    handle.shutdown().await;
    println!("{calls} calls, ended: {ends:?}");
    println!("{stats:#?}");
    Ok(())
}

fn name(cause: EndCause) -> String {
    cause.to_string()
}
