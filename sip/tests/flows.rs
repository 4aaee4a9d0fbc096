//! What is told of flows: that they are closed; and every message to whoever taps them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "support/stack.rs"]
mod stack;

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use sip::io::Tap;
use sip::trace::{Direction, Traced};
use sip::{EndCause, Event, SipStack, StackConfig, Transport};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use stack::{PATIENCE, SDP, address, both, call_to, ended, find, options};

/// Keeps what it is shown.
#[derive(Default)]
struct Record(Mutex<Vec<Traced>>);

impl Tap for Record {
    fn message(&self, message: Traced) {
        self.0.lock().unwrap().push(message);
    }
}

impl Record {
    /// First lines with their direction.
    fn lines(&self) -> Vec<String> {
        let line = |traced: &Traced| {
            let text = String::from_utf8(traced.bytes.to_vec()).unwrap();
            let first = text.lines().next().unwrap();
            let first = first.strip_prefix("SIP/2.0 ").unwrap_or_else(|| first.split(' ').next().unwrap());
            let mark = if traced.direction == Direction::In { '<' } else { '>' };
            format!("{mark} {first}")
        };
        self.0.lock().unwrap().iter().map(line).collect()
    }
}

#[tokio::test]
async fn a_tap_is_shown_every_message_of_a_call_with_its_addresses() {
    for transport in [Transport::Udp, Transport::Tcp] {
        let tap = Arc::new(Record::default());
        let (callee, mut callee_events) = SipStack::bind(both()).unwrap();
        let (caller, mut caller_events) =
            SipStack::bind(StackConfig { tap: Some(Arc::clone(&tap) as Arc<dyn Tap>), ..both() }).unwrap();
        let to = address(&callee, transport);
        let outgoing = call_to(&caller, &format!("sip:a@{to};transport={transport}")).await;
        let call = find(&mut callee_events, |event| match event {
            Event::Incoming { call, .. } => Some(*call),
            _ => None,
        })
        .await;
        callee.answer(call, Bytes::from_static(SDP)).unwrap();
        find(&mut callee_events, |event| matches!(event, Event::Acked { .. }).then_some(())).await;
        callee.bye(call, None).unwrap();
        assert_eq!(ended(&mut caller_events, outgoing).await, EndCause::RemoteBye);
        // The answer to BYE goes out after its event.
        caller.shutdown().await;
        let mut lines = tap.lines();
        lines.retain(|line| line != "< 100 Trying");
        assert_eq!(lines, ["> INVITE", "< 200 OK", "> ACK", "< BYE", "> 200 OK"], "{transport}");
        for traced in tap.0.lock().unwrap().iter() {
            assert_eq!((traced.transport, traced.remote.ip()), (transport, to.ip()));
            assert!(!traced.local.ip().is_unspecified() && traced.local.port() != 0);
        }
    }
}

#[tokio::test]
async fn the_end_of_a_connection_is_told_if_it_ever_carried_a_message() {
    let (stack, mut events) = SipStack::bind(both()).unwrap();
    let to = address(&stack, Transport::Tcp);
    // One that says nothing comes and goes untold.
    drop(TcpStream::connect(to).await.unwrap());
    let mut stream = TcpStream::connect(to).await.unwrap();
    let invite = options("flow")
        .replace("OPTIONS", "INVITE")
        .replace("Content-Length", "Contact: <sip:t@127.0.0.1:9;transport=tcp>\r\nContent-Length");
    stream.write_all(invite.as_bytes()).await.unwrap();
    let mut buffer = [0; 16];
    tokio::time::timeout(PATIENCE, stream.read_exact(&mut buffer)).await.unwrap().unwrap();
    drop(stream);
    let came_by = find(&mut events, |event| match event {
        Event::Incoming { source, .. } => Some(source.flow),
        _ => None,
    })
    .await;
    let closed = find(&mut events, |event| match event {
        Event::FlowClosed { flow } => Some(*flow),
        _ => None,
    })
    .await;
    assert_eq!(closed, came_by);
}
