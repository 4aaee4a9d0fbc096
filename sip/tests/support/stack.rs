//! Stacks on loopback, and what tests of them have in common.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, dead_code, unreachable_pub)]

use std::net::SocketAddr;
use std::time::Duration;

use bytes::Bytes;
use sip::endpoint::OutgoingCall;
use sip::{CallId, EndCause, Event, EventReceiver, SipHandle, StackConfig, Transport};

/// Longer than anything here takes; reached only by a failing test.
pub const PATIENCE: Duration = Duration::from_secs(20);
pub const SDP: &[u8] =
    b"v=0\r\no=- 1 1 IN IP4 127.0.0.1\r\ns=-\r\nc=IN IP4 127.0.0.1\r\nt=0 0\r\nm=audio 4000 RTP/AVP 0\r\n";

pub fn config(listen: &[&str]) -> StackConfig {
    StackConfig { listen: listen.iter().map(|text| text.parse().unwrap()).collect(), ..StackConfig::default() }
}

pub fn both() -> StackConfig {
    config(&["udp:127.0.0.1:0", "tcp:127.0.0.1:0"])
}

pub fn address(handle: &SipHandle, transport: Transport) -> SocketAddr {
    handle.listening().iter().find(|listen| listen.transport == transport).unwrap().address
}

pub async fn next(events: &mut EventReceiver) -> Event {
    tokio::time::timeout(PATIENCE, events.recv()).await.expect("an event in time").expect("a running stack")
}

/// Waits for the event that `pick` takes.
pub async fn find<T>(events: &mut EventReceiver, pick: impl Fn(&Event) -> Option<T>) -> T {
    loop {
        let event = next(events).await;
        if let Some(found) = pick(&event) {
            return found;
        }
    }
}

pub async fn ended(events: &mut EventReceiver, call: CallId) -> EndCause {
    find(events, |event| match event {
        Event::Ended { call: ended, cause, .. } if *ended == call => Some(*cause),
        _ => None,
    })
    .await
}

pub async fn call_to(handle: &SipHandle, uri: &str) -> CallId {
    let route = handle.resolve(uri).await.unwrap();
    let call = OutgoingCall {
        uri: uri.into(),
        from: "<sip:caller@127.0.0.1>".into(),
        to: None,
        destination: route.destination,
        local: route.local,
        headers: Vec::new(),
        credentials: None,
        offer: Bytes::from_static(SDP),
        patience: None,
    };
    handle.invite(call).await.unwrap()
}

/// Waits until the stack holds nothing: no calls, no connections but `connections`.
pub async fn settled(handle: &SipHandle, connections: usize) {
    let wait = async {
        loop {
            let stats = handle.stats().await.unwrap();
            if stats.endpoint.calls == 0 && stats.connections == connections {
                return;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(PATIENCE, wait).await.expect("settled in time");
}

pub fn options(branch: &str) -> String {
    format!(
        "OPTIONS sip:a@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/TCP 127.0.0.1:9;branch=z9hG4bK{branch}\r\nMax-Forwards: 70\r\n\
         From: <sip:t@127.0.0.1>;tag=1\r\nTo: <sip:a@127.0.0.1>\r\nCall-ID: {branch}\r\nCSeq: 1 OPTIONS\r\n\
         Content-Length: 0\r\n\r\n"
    )
}
