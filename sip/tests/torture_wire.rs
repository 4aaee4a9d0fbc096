//! The messages of RFC 4475 over real sockets, UDP and TCP: each gets the answer that the manifest says, and the stack goes on.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "torture/cases.rs"]
mod cases;
#[path = "support/stack.rs"]
mod stack;

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream, UdpSocket};
use std::time::Duration;

use cases::{Verdict, case, manifest};
use sip::{Limits, Message, Method, SipStack, Transport};

/// Peers answer the address in a Via; one of our own on loopback has the port that it names.
const PEER: &str = "127.0.0.77";
/// What comes after the answer to a question asked later does not come any more.
const PATIENCE: Duration = Duration::from_secs(10);

fn options(from: SocketAddr, transport: &str, branch: &str) -> String {
    format!(
        "OPTIONS sip:here@127.0.0.1 SIP/2.0\r\nVia: SIP/2.0/{transport} {from};branch=z9hG4bK{branch}\r\nMax-Forwards: 70\r\n\
         From: <sip:test@{from}>;tag=t\r\nTo: <sip:here@127.0.0.1>\r\nCall-ID: {branch}\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n"
    )
}

/// The status codes in what was received before the answer to our own question.
fn codes(received: &str, branch: &str) -> Vec<u16> {
    let mut codes = Vec::new();
    for piece in received.split("SIP/2.0 ").skip(1) {
        let Some(code) = piece.get(..3).and_then(|code| code.parse().ok()) else { continue };
        if piece.contains(branch) {
            break;
        }
        codes.push(code);
    }
    codes
}

/// Conforms: RFC 4475 §3 — the 49 messages over UDP, by real sockets.
#[tokio::test(flavor = "multi_thread")]
async fn every_message_is_answered_over_udp() {
    let (handle, _events) = SipStack::bind(stack::both()).unwrap();
    let to = stack::address(&handle, Transport::Udp);
    for line in manifest() {
        let data = case(&line.name);
        let message = Message::parse_datagram(data.clone(), &Limits::default());
        let is_invite = message.as_ref().is_ok_and(|message| message.method() == Some(&Method::Invite));
        let partial = message.as_ref().ok().or_else(|| message.as_ref().err()?.answer().map(|(partial, _)| partial));
        let via = partial.and_then(|partial| partial.top_via().ok().map(|via| via.port_or_default()));
        let socket = UdpSocket::bind((PEER, via.unwrap_or(5_060))).unwrap();
        socket.set_read_timeout(Some(PATIENCE)).unwrap();
        socket.send_to(&data, to).unwrap();
        let branch = format!("after{}", line.name);
        socket.send_to(options(socket.local_addr().unwrap(), "UDP", &branch).as_bytes(), to).unwrap();
        let mut received = String::new();
        while !received.contains(&branch) {
            let mut bytes = [0; 65_536];
            let size = socket.recv(&mut bytes).unwrap_or_else(|_| panic!("{}: the stack answers no more", line.name));
            received.push_str(&String::from_utf8_lossy(&bytes[..size]));
        }
        let expected = line.codes(is_invite);
        let told = codes(&received, &branch);
        let told: Vec<u16> = told.into_iter().filter(|code| *code > 100 || expected == [100]).collect();
        assert_eq!(told, expected, "{}: {received}", line.name);
    }
    handle.shutdown().await;
}

/// Conforms: RFC 4475 §3 — the 49 messages over TCP, by real sockets.
#[tokio::test(flavor = "multi_thread")]
async fn every_message_is_answered_over_tcp() {
    let (handle, _events) = SipStack::bind(stack::both()).unwrap();
    let to = stack::address(&handle, Transport::Tcp);
    for line in manifest() {
        let data = case(&line.name);
        let message = Message::parse_datagram(data.clone(), &Limits::default());
        let is_invite = message.as_ref().is_ok_and(|message| message.method() == Some(&Method::Invite));
        let mut stream = TcpStream::connect(to).unwrap();
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        let waits = line.stream == Some(Verdict::Word("wait".into()));
        stream.write_all(&data).unwrap();
        if waits || line.closes {
            // Cut short, or beyond repair: others are served meanwhile.
            let mut other = TcpStream::connect(to).unwrap();
            other.set_read_timeout(Some(PATIENCE)).unwrap();
            let own = other.local_addr().unwrap();
            other.write_all(options(own, "TCP", &format!("beside{}", line.name)).as_bytes()).unwrap();
            let mut bytes = [0; 4_096];
            let size = other.read(&mut bytes).unwrap();
            assert!(bytes[..size].starts_with(b"SIP/2.0 200"), "{}", line.name);
            if line.closes {
                let mut rest = Vec::new();
                // The connection is closed, after the answer where there is one.
                let closed = stream.read_to_end(&mut rest);
                assert!(closed.is_ok() || rest.is_empty(), "{}: {closed:?}", line.name);
            }
            continue;
        }
        let branch = format!("after{}", line.name);
        let own = stream.local_addr().unwrap();
        // What a message says more than its length belongs to the next, and may spoil it: the question goes by a connection of its own then.
        let mut asked =
            if line.messages.is_some() { TcpStream::connect(to).unwrap() } else { stream.try_clone().unwrap() };
        asked.set_read_timeout(Some(PATIENCE)).unwrap();
        asked.write_all(options(own, "TCP", &branch).as_bytes()).unwrap();
        let mut received = String::new();
        while !received.contains(&branch) {
            let mut bytes = [0; 65_536];
            match asked.read(&mut bytes) {
                Ok(0) | Err(_) => break,
                Ok(size) => received.push_str(&String::from_utf8_lossy(&bytes[..size])),
            }
        }
        if line.messages.is_some() {
            assert!(received.contains(&branch), "{}: the stack answers no more", line.name);
            continue;
        }
        let expected = match &line.stream {
            Some(Verdict::Code(code)) => vec![*code],
            Some(Verdict::Word(_)) => vec![],
            None => line.codes(is_invite),
        };
        let told: Vec<u16> =
            codes(&received, &branch).into_iter().filter(|code| *code > 100 || expected == [100]).collect();
        assert_eq!(told, expected, "{}: {received}", line.name);
    }
    handle.shutdown().await;
}
