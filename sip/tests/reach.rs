//! What it takes to be reached: STUN on the SIP port, a public address, long requests by TCP, keep-alives, a gate.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "support/stack.rs"]
mod stack;

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

use sip::guard::{Admit, Why};
use sip::io::{Gate, IoLimits, public_ip};
use sip::{Event, Message, OutgoingCall, SipStack, Source, StackConfig, Transport, stun};
use tokio::io::{AsyncReadExt, AsyncWriteExt};

use stack::{PATIENCE, SDP, address, both, call_to, config, find, options, settled};

fn udp() -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

/// A request whose answer goes to where it comes from.
fn by_udp(branch: &str) -> String {
    options(branch).replace("SIP/2.0/TCP 127.0.0.1:9", "SIP/2.0/UDP 127.0.0.1:9;rport")
}

fn receive(socket: &UdpSocket) -> String {
    let mut bytes = [0; 65_535];
    let size = socket.recv(&mut bytes).unwrap();
    String::from_utf8_lossy(&bytes[..size]).into_owned()
}

/// Conforms: RFC 5626 §4.4.2 — a STUN binding request on the SIP port is answered with the address it came from.
#[tokio::test]
async fn stun_on_the_sip_port_is_answered() {
    let (stack, _events) = SipStack::bind(both()).unwrap();
    let peer = udp();
    peer.send_to(&stun::binding_request([7; 12]), address(&stack, Transport::Udp)).unwrap();
    let mut answer = [0; 200];
    let size = peer.recv(&mut answer).unwrap();
    assert_eq!(stun::mapped_address(&answer[..size], [7; 12]), Some(peer.local_addr().unwrap()));
    assert_eq!(public_ip(address(&stack, Transport::Udp)).await.unwrap(), IpAddr::from([127, 0, 0, 1]));
    // Signalling goes on beside it.
    peer.send_to(by_udp("z9hG4bK1").as_bytes(), address(&stack, Transport::Udp)).unwrap();
    assert!(receive(&peer).starts_with("SIP/2.0 200 "));
}

/// Conforms: RFC 3581 §4 — what goes to a peer leaves by the address of ours that it asked, of either family, from a socket that has all of them.
#[tokio::test]
async fn a_peer_is_answered_from_the_address_that_it_asked() {
    for (listen, here, asked) in [
        ("udp:0.0.0.0:0", "127.0.0.1:0", "127.0.0.2"),
        ("udp:[::]:0", "127.0.0.1:0", "127.0.0.2"),
        ("udp:[::]:0", "[::1]:0", "::1"),
    ] {
        let (stack, _events) = SipStack::bind(config(&[listen])).unwrap();
        let peer = UdpSocket::bind(here).unwrap();
        peer.set_read_timeout(Some(PATIENCE)).unwrap();
        let to = SocketAddr::new(asked.parse().unwrap(), address(&stack, Transport::Udp).port());
        let own = peer.local_addr().unwrap();
        // One message, then several at once; and what is no SIP.
        for count in [1, 4] {
            for n in 0..count {
                peer.send_to(by_udp(&format!("z9hG4bK{count}{n}")).as_bytes(), to).unwrap();
            }
            for _ in 0..count {
                let (_, from) = peer.recv_from(&mut [0; 2_000]).unwrap();
                assert_eq!(from, to, "{listen}, to {own}");
            }
        }
        peer.send_to(&stun::binding_request([7; 12]), to).unwrap();
        assert_eq!(peer.recv_from(&mut [0; 200]).unwrap().1, to, "{listen}");
    }
}

#[tokio::test]
async fn a_stun_server_that_is_silent_is_given_up() {
    assert!(public_ip(udp().local_addr().unwrap()).await.is_err());
}

/// Conforms: RFC 3261 §18.1.1 — a request over 1,300 bytes goes by TCP, and by UDP where nobody takes it by TCP.
#[tokio::test]
async fn a_long_request_goes_by_tcp_where_that_is_to_be_had() {
    let long = |uri: String, local| OutgoingCall {
        headers: vec![("X-Long".into(), "x".repeat(1_500))],
        destination: sip::endpoint::Destination {
            transport: Transport::Udp,
            flow: None,
            target: sip::endpoint::Target::Address(local),
        },
        uri,
        from: "<sip:caller@127.0.0.1>".into(),
        to: None,
        local: "127.0.0.1:5060".parse().unwrap(),
        credentials: None,
        offer: SDP.into(),
        patience: None,
    };
    let (caller, _caller_events) = SipStack::bind(both()).unwrap();
    // Both at one port.
    let (callee, mut events, at) = loop {
        let at = udp().local_addr().unwrap();
        if let Ok((callee, events)) = SipStack::bind(config(&[&format!("udp:{at}"), &format!("tcp:{at}")])) {
            break (callee, events, at);
        }
    };
    caller.invite(long(format!("sip:a@{at}"), at)).await.unwrap();
    let transport = |event: &Event| match event {
        Event::Incoming { source, request, .. } => {
            assert_eq!(request.top_via().unwrap().transport, source.transport.via_name());
            Some(source.transport)
        }
        _ => None,
    };
    assert_eq!(find(&mut events, transport).await, Transport::Tcp);
    drop(callee);

    let (_callee, mut events) = SipStack::bind(config(&["udp:127.0.0.1:0"])).unwrap();
    let at = address(&_callee, Transport::Udp);
    caller.invite(long(format!("sip:a@{at}"), at)).await.unwrap();
    assert_eq!(find(&mut events, transport).await, Transport::Udp);
}

#[tokio::test]
async fn the_public_address_is_told_to_those_outside_alone() {
    let public: IpAddr = "203.0.113.9".parse().unwrap();
    let (stack, mut events) = SipStack::bind(StackConfig { public: Some(public), ..both() }).unwrap();
    let (caller, _caller_events) = SipStack::bind(both()).unwrap();
    call_to(&caller, &format!("sip:a@{}", address(&stack, Transport::Udp))).await;
    let local = find(&mut events, |event| match event {
        Event::Incoming { source, .. } => Some(source.local.ip()),
        _ => None,
    })
    .await;
    assert!(local.is_loopback());
    assert_eq!(stack.public(), Some(public));
    let port = address(&stack, Transport::Udp).port();
    let seen = sip::address::as_seen(stack.public(), SocketAddr::new([10, 0, 0, 1].into(), port), [8, 8, 8, 8].into());
    assert_eq!(seen, SocketAddr::new(public, port));
}

/// Conforms: RFC 5626 §4.4.1 — a connection of ours is kept alive by CRLF CRLF.
#[tokio::test]
async fn a_connection_of_ours_is_kept_alive() {
    let limits = IoLimits { keep_alive: Duration::from_millis(50), ..IoLimits::default() };
    let (caller, _events) = SipStack::bind(StackConfig { limits, ..both() }).unwrap();
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    call_to(&caller, &format!("sip:a@{};transport=tcp", listener.local_addr().unwrap())).await;
    let (mut stream, _) = listener.accept().await.unwrap();
    let mut text = String::new();
    let pinged = async {
        while !text.ends_with("\r\n\r\n\r\n\r\n") {
            let mut bytes = [0; 2_000];
            let size = stream.read(&mut bytes).await.unwrap();
            text.push_str(&String::from_utf8_lossy(&bytes[..size]).replace(std::str::from_utf8(SDP).unwrap(), ""));
            stream.write_all(b"\r\n").await.unwrap();
        }
    };
    tokio::time::timeout(PATIENCE, pinged).await.expect("pings in time");
    assert!(text.starts_with("INVITE "));
}

/// Lets nobody in who calls themselves a scanner, and is busy for the rest.
struct Door;

impl Gate for Door {
    fn listens_to(&self, _: Instant, source: IpAddr, _: bool) -> bool {
        source != IpAddr::from([127, 0, 0, 2])
    }

    fn admit(&self, _: Instant, _: &Source, request: &Message) -> Admit {
        match request.header(sip::Name::UserAgent) {
            Some("scanner") => Admit::Drop(Why::Scanner),
            Some("busy") => Admit::Busy { retry_after_s: 5 },
            _ => Admit::Take,
        }
    }
}

#[tokio::test]
async fn the_gate_decides_who_is_answered() {
    let gate: Arc<dyn Gate> = Arc::new(Door);
    let (stack, _events) = SipStack::bind(StackConfig { gate: Some(gate), ..both() }).unwrap();
    let at = address(&stack, Transport::Udp);
    let from = |agent: &str, branch: &str| {
        by_udp(branch).replacen("Max-Forwards", &format!("User-Agent: {agent}\r\nMax-Forwards"), 1)
    };
    let shut_out = UdpSocket::bind("127.0.0.2:0").unwrap();
    shut_out.send_to(by_udp("z9hG4bK0").as_bytes(), at).unwrap();
    let peer = udp();
    peer.send_to(from("scanner", "z9hG4bK1").as_bytes(), at).unwrap();
    peer.send_to(from("busy", "z9hG4bK2").as_bytes(), at).unwrap();
    let busy = receive(&peer);
    assert!(busy.starts_with("SIP/2.0 503 ") && busy.contains("z9hG4bK2") && busy.contains("Retry-After: "), "{busy}");
    peer.send_to(from("phone", "z9hG4bK3").as_bytes(), at).unwrap();
    let taken = receive(&peer);
    assert!(taken.starts_with("SIP/2.0 200 ") && taken.contains("z9hG4bK3"), "{taken}");
    shut_out.set_nonblocking(true).unwrap();
    assert!(shut_out.recv(&mut [0; 100]).is_err());
    settled(&stack, 0).await;
}
