//! Places calls at a rate and hangs each up once it is answered: a load generator for transports that others do not speak.
//!
//! `call URI RATE COUNT [CA.pem]`, such as `call 'sips:echo@localhost:5061' 200 2000 ca.pem`. At its end it prints how calls ended, and
//! fails where one did not end well.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::Context as _;
use sip::endpoint::OutgoingCall;
use sip::io::{SipStack, StackConfig};
use sip::{EndCause, Event};

const SDP: &[u8] = b"v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 9 RTP/AVP 0\r\n";

#[tokio::main(flavor = "current_thread")]
async fn main() -> anyhow::Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [uri, rate, count, rest @ ..] = arguments.as_slice() else {
        anyhow::bail!("usage: call URI RATE COUNT [CA.pem]");
    };
    let (rate, count): (u32, usize) = (rate.parse().context("RATE")?, count.parse().context("COUNT")?);
    let mut config = StackConfig { listen: vec!["udp:127.0.0.1:0".parse()?], ..StackConfig::default() };
    config.tls.ca = rest.first().map(Into::into);
    let (handle, mut events) = SipStack::bind(config)?;
    let route = handle.resolve(uri).await?;
    let commands = handle.clone();
    let ended = tokio::spawn(async move {
        let mut causes: HashMap<EndCause, usize> = HashMap::new();
        while causes.values().sum::<usize>() < count {
            match events.recv().await {
                Some(Event::Answered { call, .. }) => _ = commands.bye(call, None),
                Some(Event::Ended { cause, .. }) => *causes.entry(cause).or_default() += 1,
                Some(_) => {}
                None => break,
            }
        }
        causes
    });
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / rate.max(1));
    for _ in 0..count {
        ticks.tick().await;
        let call = OutgoingCall {
            uri: uri.clone(),
            from: "<sip:load@127.0.0.1>".into(),
            to: None,
            destination: route.destination.clone(),
            local: route.local,
            headers: Vec::new(),
            credentials: None,
            offer: SDP.into(),
            patience: None,
        };
        handle.place(call, |_| ())?;
    }
    let causes = tokio::time::timeout(Duration::from_secs(40), ended).await.context("calls did not end")??;
    handle.shutdown().await;
    for (cause, calls) in &causes {
        println!("{calls} {cause}");
    }
    let well = causes.get(&EndCause::LocalBye).copied().unwrap_or(0);
    anyhow::ensure!(well == count, "{} of {count} calls failed", count - well);
    Ok(())
}
