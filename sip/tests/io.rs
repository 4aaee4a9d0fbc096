//! The stack on real sockets, over loopback: calls by UDP and TCP, framing, keep-alives, limits, and errors of binding.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "support/stack.rs"]
mod stack;

use std::net::{SocketAddr, UdpSocket};
use std::time::Duration;

use bytes::Bytes;
use sip::io::{IoLimits, Listen};
use sip::{BindError, CallId, EndCause, Event, EventReceiver, SipHandle, SipStack, StackConfig, Transport};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use stack::{PATIENCE, SDP, address, both, call_to, config, ended, find, next, options, settled};

async fn whole_call(uri_of: impl Fn(&SipHandle) -> String) {
    let (callee, mut callee_events) = SipStack::bind(both()).unwrap();
    let (caller, mut caller_events) = SipStack::bind(both()).unwrap();
    let outgoing = call_to(&caller, &uri_of(&callee)).await;
    let incoming = find(&mut callee_events, |event| match event {
        Event::Incoming { call, offer, source, .. } => {
            assert_eq!(offer.as_deref(), Some(SDP));
            assert!(!source.local.ip().is_unspecified() && source.local.port() != 0);
            Some(*call)
        }
        _ => None,
    })
    .await;
    callee.ring(incoming, 180, None).unwrap();
    find(&mut caller_events, |event| matches!(event, Event::Progress { code: 180, .. }).then_some(())).await;
    callee.answer(incoming, Bytes::from_static(SDP)).unwrap();
    find(&mut caller_events, |event| matches!(event, Event::Answered { code: 200, .. }).then_some(())).await;
    find(&mut callee_events, |event| matches!(event, Event::Acked { .. }).then_some(())).await;
    callee.send_info(incoming, "application/dtmf", Bytes::from_static(b"5")).unwrap();
    find(&mut caller_events, |event| matches!(event, Event::Info { .. }).then_some(())).await;
    callee.bye(incoming, None).unwrap();
    assert_eq!(ended(&mut caller_events, outgoing).await, EndCause::RemoteBye);
    assert_eq!(ended(&mut callee_events, incoming).await, EndCause::LocalBye);
    callee.shutdown().await;
    caller.shutdown().await;
    assert!(callee_events.recv().await.is_none());
}

#[tokio::test]
async fn a_whole_call_over_udp() {
    whole_call(|callee| format!("sip:agent@{}", address(callee, Transport::Udp))).await;
}

#[tokio::test]
async fn a_whole_call_over_tcp() {
    whole_call(|callee| format!("sip:agent@{};transport=tcp", address(callee, Transport::Tcp))).await;
}

#[tokio::test]
async fn a_whole_call_to_a_host_name() {
    whole_call(|callee| format!("sip:agent@localhost:{}", address(callee, Transport::Udp).port())).await;
}

#[tokio::test]
async fn a_wildcard_listener_knows_the_address_that_was_called() {
    let (callee, mut events) = SipStack::bind(config(&["udp:0.0.0.0:0"])).unwrap();
    let (caller, _caller_events) = SipStack::bind(config(&["udp:0.0.0.0:0"])).unwrap();
    call_to(&caller, &format!("sip:agent@127.0.0.1:{}", address(&callee, Transport::Udp).port())).await;
    let source = find(&mut events, |event| match event {
        Event::Incoming { source, .. } => Some(*source),
        _ => None,
    })
    .await;
    assert_eq!(source.local, SocketAddr::new([127, 0, 0, 1].into(), address(&callee, Transport::Udp).port()));
    assert_eq!(source.remote.ip(), source.local.ip());
}

#[tokio::test]
async fn events_can_be_handled_on_the_sip_thread() {
    let (ends_in, mut ends) = tokio::sync::mpsc::unbounded_channel();
    let callee = SipStack::bind_with(both(), move |endpoint, now, event| match event {
        Event::Incoming { call, .. } => endpoint.answer(now, call, Bytes::from_static(SDP)).unwrap(),
        Event::Ended { cause, .. } => ends_in.send(cause).unwrap(),
        _ => {}
    })
    .unwrap();
    let (caller, mut events) = SipStack::bind(both()).unwrap();
    let call = call_to(&caller, &format!("sip:agent@{}", address(&callee, Transport::Udp))).await;
    find(&mut events, |event| matches!(event, Event::Answered { .. }).then_some(())).await;
    assert!(!caller.stats().await.unwrap().endpoint.calls.eq(&0));
    caller.bye(call, None).unwrap();
    assert_eq!(ended(&mut events, call).await, EndCause::LocalBye);
    let cause = tokio::time::timeout(PATIENCE, ends.recv()).await.unwrap();
    assert_eq!(cause, Some(EndCause::RemoteBye));
    settled(&callee, 0).await;
}

#[tokio::test]
async fn a_handler_that_panics_costs_the_call_and_signalling_goes_on() {
    let callee = SipStack::bind_with(both(), move |endpoint, now, event| match event {
        Event::Incoming { request_uri, .. } if request_uri.contains("early") => panic!("on purpose"),
        Event::Incoming { call, .. } => endpoint.answer(now, call, Bytes::from_static(SDP)).unwrap(),
        Event::Acked { .. } => panic!("on purpose"),
        _ => {}
    })
    .unwrap();
    let (caller, mut events) = SipStack::bind(both()).unwrap();
    for transport in [Transport::Udp, Transport::Tcp] {
        let at = format!("{};transport={}", address(&callee, transport), transport.to_string().to_lowercase());
        let early = call_to(&caller, &format!("sip:early@{at}")).await;
        assert_eq!(ended(&mut events, early).await, EndCause::Rejected(500));
        let late = call_to(&caller, &format!("sip:late@{at}")).await;
        assert_eq!(ended(&mut events, late).await, EndCause::RemoteBye);
        settled(&callee, usize::from(transport == Transport::Tcp)).await;
    }
    caller.on_thread(|_, _| panic!("on purpose")).unwrap();
    assert_eq!(caller.stats().await.unwrap().faults, 1, "it goes on");
    assert_eq!(callee.stats().await.unwrap().faults, 4);
}

#[tokio::test]
async fn a_call_to_a_closed_tcp_port_fails_at_once() {
    let (caller, mut events) = SipStack::bind(both()).unwrap();
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let call = call_to(&caller, &format!("sip:nobody@127.0.0.1:{port};transport=tcp")).await;
    assert_eq!(ended(&mut events, call).await, EndCause::TransportError);
    settled(&caller, 0).await;
}

#[tokio::test]
async fn an_address_that_leads_nowhere_is_named_in_the_error() {
    let (caller, _events) = SipStack::bind(both()).unwrap();
    for (uri, part) in [
        ("mailto:a@b", "sip:user@host"),
        ("sips:a@127.0.0.1;transport=udp", "udp"),
        ("sip:a@127.0.0.1;transport=wss", "wss"),
        ("sip:a@127.0.0.1;transport=sctp", "sctp"),
        ("sip:a@no-such-host.invalid", "no-such-host.invalid"),
    ] {
        let error = caller.resolve(uri).await.unwrap_err().to_string();
        assert!(error.contains(part), "{error}");
    }
}

#[test]
fn a_port_in_use_is_named_with_its_holder_and_what_to_do() {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    let taken = socket.local_addr().unwrap();
    let error = SipStack::bind(config(&[&format!("udp:{taken}")])).unwrap_err();
    assert!(matches!(error, BindError::InUse { .. }));
    let text = error.to_string();
    let us = format!("(process {})", std::process::id());
    for part in [&format!("port {}", taken.port()), &us, "sip.listen", &taken.to_string()] {
        assert!(text.contains(part), "{part} in {text}");
    }
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let error = SipStack::bind(config(&[&format!("tcp:{}", listener.local_addr().unwrap())])).unwrap_err();
    assert!(error.to_string().contains(&us), "{error}");
}

#[test]
fn an_address_of_another_machine_and_tls_without_a_certificate_are_explained() {
    let error = SipStack::bind(config(&["udp:192.0.2.1:0"])).unwrap_err().to_string();
    assert!(error.contains("192.0.2.1") && error.contains("0.0.0.0"), "{error}");
    let error = SipStack::bind(config(&["tls:127.0.0.1:0"])).unwrap_err().to_string();
    assert!(error.contains("tls.certificates"), "{error}");
}

#[tokio::test]
async fn the_stack_stops_when_every_handle_is_gone() {
    let (handle, mut events) = SipStack::bind(both()).unwrap();
    let listen: Vec<Listen> = handle.listening().to_vec();
    drop(handle);
    assert!(tokio::time::timeout(PATIENCE, events.recv()).await.unwrap().is_none());
    // Its sockets are free again, once the thread is through.
    let again = || SipStack::bind(StackConfig { listen: listen.clone(), ..StackConfig::default() });
    let bound = tokio::time::timeout(PATIENCE, async {
        loop {
            match again() {
                Ok(bound) => return bound,
                Err(_) => tokio::task::yield_now().await,
            }
        }
    });
    bound.await.unwrap();
}

#[tokio::test]
async fn a_command_to_a_stopped_stack_says_so() {
    let (handle, _events) = SipStack::bind(both()).unwrap();
    handle.shutdown().await;
    assert_eq!(handle.bye(CallId(1), None).unwrap_err().to_string(), "the SIP stack has stopped");
}

// TCP, by hand.

async fn read_until(stream: &mut TcpStream, done: impl Fn(&str) -> bool) -> String {
    let mut text = String::new();
    let mut buffer = [0; 4096];
    while !done(&text) {
        let read = tokio::time::timeout(PATIENCE, stream.read(&mut buffer)).await.expect("data in time").unwrap();
        assert!(read > 0, "the connection ended after {text:?}");
        text.push_str(std::str::from_utf8(&buffer[..read]).unwrap());
    }
    text
}

/// Reads until the other side closes.
async fn read_to_end(stream: &mut TcpStream) -> String {
    let mut bytes = Vec::new();
    // A reset is an end as well.
    let _ = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut bytes)).await.expect("closed in time");
    String::from_utf8(bytes).unwrap()
}

async fn tcp_stack(limits: IoLimits) -> (SipHandle, EventReceiver, SocketAddr) {
    let (handle, events) = SipStack::bind(StackConfig { limits, ..both() }).unwrap();
    let address = address(&handle, Transport::Tcp);
    (handle, events, address)
}

fn answers(text: &str) -> usize {
    text.matches("SIP/2.0 200 OK").count()
}

/// Conforms: RFC 3261 §18.3 — several messages in one segment.
#[tokio::test]
async fn several_messages_in_a_segment_are_each_answered_in_order() {
    let (_handle, _events, address) = tcp_stack(IoLimits::default()).await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    let text: String = (0..50).map(|n| options(&format!("n{n}"))).collect();
    stream.write_all(text.as_bytes()).await.unwrap();
    let text = read_until(&mut stream, |text| answers(text) == 50 && text.ends_with("\r\n\r\n")).await;
    let order: Vec<_> = text.match_indices("Call-ID: n").map(|(at, _)| at).collect();
    assert_eq!(order.len(), 50);
    let mut last = 0;
    for n in 0..50 {
        let at = text.find(&format!("Call-ID: n{n}\r\n")).unwrap();
        assert!(at >= last);
        last = at;
    }
}

/// Conforms: RFC 3261 §18.3 — one message in many segments.
#[tokio::test]
async fn a_message_in_many_segments_is_put_together() {
    let (_handle, _events, address) = tcp_stack(IoLimits::default()).await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.set_nodelay(true).unwrap();
    for byte in options("slow").bytes() {
        stream.write_all(&[byte]).await.unwrap();
        tokio::task::yield_now().await;
    }
    read_until(&mut stream, |text| answers(text) == 1).await;
}

/// Conforms: RFC 5626 §4.4.1 — CRLF CRLF is answered with CRLF.
#[tokio::test]
async fn a_keep_alive_is_answered_with_a_line_end() {
    let (_handle, _events, address) = tcp_stack(IoLimits::default()).await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"\r\n\r\n").await.unwrap();
    assert_eq!(read_until(&mut stream, |text| text.len() >= 2).await, "\r\n");
}

#[tokio::test]
async fn a_stream_out_of_step_is_answered_and_closed() {
    let (handle, _events, address) = tcp_stack(IoLimits::default()).await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    let broken = options("broken").replace("Content-Length: 0", "Content-Length: what");
    stream.write_all(broken.as_bytes()).await.unwrap();
    let text = read_to_end(&mut stream).await;
    assert!(text.starts_with("SIP/2.0 400"), "{text}");
    settled(&handle, 0).await;
}

#[tokio::test]
async fn a_message_that_does_not_become_whole_in_time_costs_the_connection() {
    let limits = IoLimits { message_time: Duration::from_millis(100), ..IoLimits::default() };
    let (handle, _events, address) = tcp_stack(limits).await;
    let mut silent = TcpStream::connect(address).await.unwrap();
    let mut half = TcpStream::connect(address).await.unwrap();
    half.write_all(options("whole").as_bytes()).await.unwrap();
    half.write_all(&options("half").as_bytes()[..40]).await.unwrap();
    assert_eq!(answers(&read_to_end(&mut half).await), 1);
    assert!(read_to_end(&mut silent).await.is_empty());
    settled(&handle, 0).await;
    assert_eq!(handle.stats().await.unwrap().connections_refused, 2);
}

#[tokio::test]
async fn an_idle_connection_is_closed() {
    let limits = IoLimits { idle: Duration::from_millis(100), ..IoLimits::default() };
    let (handle, _events, address) = tcp_stack(limits).await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(options("once").as_bytes()).await.unwrap();
    assert_eq!(answers(&read_to_end(&mut stream).await), 1);
    settled(&handle, 0).await;
}

#[tokio::test]
async fn a_connection_beyond_the_limit_is_closed_at_once() {
    for limits in [
        IoLimits { connections: 2, ..IoLimits::default() },
        IoLimits { connections_per_peer: 2, ..IoLimits::default() },
    ] {
        let (handle, _events, address) = tcp_stack(limits).await;
        let mut streams = Vec::new();
        for n in 0..2 {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(options(&n.to_string()).as_bytes()).await.unwrap();
            read_until(&mut stream, |text| answers(text) == 1).await;
            streams.push(stream);
        }
        let mut third = TcpStream::connect(address).await.unwrap();
        assert!(read_to_end(&mut third).await.is_empty());
        assert_eq!(handle.stats().await.unwrap().connections_refused, 1);
        drop(streams);
        settled(&handle, 0).await;
        let mut fourth = TcpStream::connect(address).await.unwrap();
        fourth.write_all(options("again").as_bytes()).await.unwrap();
        read_until(&mut fourth, |text| answers(text) == 1).await;
    }
}

#[tokio::test]
async fn a_peer_that_reads_too_slowly_loses_its_connection() {
    let limits = IoLimits { write_queue_bytes: 64 * 1024, ..IoLimits::default() };
    let (handle, _events, address) = tcp_stack(limits).await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    let request: String = (0..200).map(|n| options(&format!("flood{n}"))).collect();
    // Requests without end, and not one answer read.
    let flood = async { while stream.write_all(request.as_bytes()).await.is_ok() {} };
    tokio::time::timeout(PATIENCE, flood).await.expect("cut off in time");
    settled(&handle, 0).await;
}

/// Conforms: RFC 3261 §18.2.2 — answers go by the connection of their request.
#[tokio::test]
async fn an_answer_comes_by_the_connection_of_its_request() {
    let (handle, mut events, address) = tcp_stack(IoLimits::default()).await;
    let mut stream = TcpStream::connect(address).await.unwrap();
    // Sent-by and Contact name ports where nobody listens: the flow is what counts.
    let invite = options("flow")
        .replace("OPTIONS", "INVITE")
        .replace("Content-Length", "Contact: <sip:t@127.0.0.1:9;transport=tcp>\r\nContent-Length");
    stream.write_all(invite.as_bytes()).await.unwrap();
    let call = find(&mut events, |event| match event {
        Event::Incoming { call, .. } => Some(*call),
        _ => None,
    })
    .await;
    handle.answer(call, Bytes::from_static(SDP)).unwrap();
    let text = read_until(&mut stream, |text| text.contains("SIP/2.0 200") && text.ends_with("RTP/AVP 0\r\n")).await;
    let tag = text.rsplit_once("To: <sip:a@127.0.0.1>;tag=").unwrap().1.split("\r\n").next().unwrap();
    let ack = options("ack")
        .replace("OPTIONS", "ACK")
        .replace("Call-ID: ack", "Call-ID: flow")
        .replace("To: <sip:a@127.0.0.1>", &format!("To: <sip:a@127.0.0.1>;tag={tag}"));
    stream.write_all(ack.as_bytes()).await.unwrap();
    find(&mut events, |event| matches!(event, Event::Acked { .. }).then_some(())).await;
    handle.bye(call, None).unwrap();
    read_until(&mut stream, |text| text.contains("BYE sip:t@127.0.0.1:9;transport=tcp SIP/2.0")).await;
}

// Backlog.

#[tokio::test]
async fn a_user_who_is_behind_gets_every_event_and_new_calls_are_refused_meanwhile() {
    let limits = IoLimits { events: 1, backlog: 4, ..IoLimits::default() };
    let (callee, mut callee_events) = SipStack::bind(StackConfig { limits, ..both() }).unwrap();
    let (caller, mut caller_events) = SipStack::bind(both()).unwrap();
    let uri = format!("sip:agent@{}", address(&callee, Transport::Udp));
    let mut refused = 0;
    let mut calls = Vec::new();
    // One event in the channel, one more than four behind it: the next is refused.
    while refused == 0 {
        assert!(calls.len() < 20, "never refused");
        let call = call_to(&caller, &uri).await;
        calls.push(call);
        let reached = async {
            loop {
                let stats = callee.stats().await.unwrap();
                if stats.endpoint.calls as u64 + stats.endpoint.refused_busy >= calls.len() as u64 {
                    return stats.endpoint.refused_busy;
                }
                tokio::task::yield_now().await;
            }
        };
        refused = tokio::time::timeout(PATIENCE, reached).await.unwrap();
    }
    assert_eq!(ended(&mut caller_events, *calls.last().unwrap()).await, EndCause::Rejected(503));
    for _ in 0..calls.len() - 1 {
        assert!(matches!(next(&mut callee_events).await, Event::Incoming { .. }));
    }
    while callee.stats().await.unwrap().backlog > 0 {
        tokio::task::yield_now().await;
    }
    call_to(&caller, &uri).await;
    assert!(matches!(next(&mut callee_events).await, Event::Incoming { .. }), "taken again");
}
