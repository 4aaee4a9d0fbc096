//! TLS and WebSocket on real sockets, over loopback.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "support/certificates.rs"]
mod certificates;
#[path = "support/stack.rs"]
mod stack;

use std::net::TcpStream;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use sip::io::{IoLimits, TlsConfig};
use sip::{BindError, EndCause, Event, SipHandle, SipStack, StackConfig, Transport};
use tungstenite::client::IntoClientRequest;
use tungstenite::http::HeaderValue;
use tungstenite::{Message, WebSocket};

use certificates::Authority;
use stack::{PATIENCE, SDP, address, call_to, config, ended, find, options, settled};

fn server(authority: &Authority, names: &[&str]) -> StackConfig {
    let tls = TlsConfig { identities: vec![authority.identity("server.pem", names)], ..TlsConfig::default() };
    StackConfig { tls, ..config(&["tls:127.0.0.1:0"]) }
}

fn client(authority: &Authority) -> StackConfig {
    let tls = TlsConfig { ca: Some(authority.ca()), ..TlsConfig::default() };
    StackConfig { tls, ..config(&["udp:127.0.0.1:0"]) }
}

fn tls_uri(callee: &SipHandle, host: &str) -> String {
    format!("sips:agent@{host}:{}", address(callee, Transport::Tls).port())
}

/// Conforms: RFC 5923 §4 — calls over TLS, and connections that are reused.
#[tokio::test]
async fn a_whole_call_over_tls() {
    let authority = Authority::new();
    let (callee, mut callee_events) = SipStack::bind(server(&authority, &["127.0.0.1"])).unwrap();
    let (caller, mut caller_events) = SipStack::bind(client(&authority)).unwrap();
    let outgoing = call_to(&caller, &tls_uri(&callee, "127.0.0.1")).await;
    let incoming = find(&mut callee_events, |event| match event {
        Event::Incoming { call, source, request, .. } => {
            assert_eq!(source.transport, Transport::Tls);
            assert!(request.top_via().unwrap().transport.eq_ignore_ascii_case("TLS"));
            Some(*call)
        }
        _ => None,
    })
    .await;
    callee.answer(incoming, Bytes::from_static(SDP)).unwrap();
    find(&mut caller_events, |event| matches!(event, Event::Answered { .. }).then_some(())).await;
    find(&mut callee_events, |event| matches!(event, Event::Acked { .. }).then_some(())).await;
    // Both directions by the connection that stands.
    callee.bye(incoming, None).unwrap();
    assert_eq!(ended(&mut caller_events, outgoing).await, EndCause::RemoteBye);
    assert_eq!(ended(&mut callee_events, incoming).await, EndCause::LocalBye);
    assert_eq!(caller.stats().await.unwrap().connections, 1);
    // The second call takes the same connection (RFC 5923).
    call_to(&caller, &tls_uri(&callee, "127.0.0.1")).await;
    find(&mut callee_events, |event| matches!(event, Event::Incoming { .. }).then_some(())).await;
    assert_eq!(caller.stats().await.unwrap().connections, 1);
}

/// Conforms: RFC 5922 §7.2 — a server's certificate has to prove the name that was called.
#[tokio::test]
async fn a_server_that_is_not_who_it_should_be_is_not_talked_to() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let expired = TlsConfig {
        identities: vec![authority.identity_until("old.pem", &["127.0.0.1"], (2021, 1, 1))],
        ..TlsConfig::default()
    };
    for (what, server) in [
        ("an unknown authority", server(&stranger, &["127.0.0.1"])),
        ("another name", server(&authority, &["example.net"])),
        ("an expired certificate", StackConfig { tls: expired, ..config(&["tls:127.0.0.1:0"]) }),
    ] {
        let (callee, _callee_events) = SipStack::bind(server).unwrap();
        let (caller, mut events) = SipStack::bind(client(&authority)).unwrap();
        let call = call_to(&caller, &tls_uri(&callee, "127.0.0.1")).await;
        assert_eq!(ended(&mut events, call).await, EndCause::TransportError, "{what}");
        settled(&caller, 0).await;
        settled(&callee, 0).await;
    }
}

/// Conforms: RFC 3261 §26.3.2.1 — mutual TLS.
#[tokio::test]
async fn a_client_is_known_by_its_certificate_and_refused_without_one() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let mut serving = server(&authority, &["127.0.0.1"]);
    serving.tls.client_ca = Some(authority.ca());
    serving.tls.require_client = true;
    let (callee, mut callee_events) = SipStack::bind(serving).unwrap();

    let mut known = client(&authority);
    known.tls.identities = vec![authority.identity("carrier.pem", &["carrier.example"])];
    let (caller, _events) = SipStack::bind(known).unwrap();
    call_to(&caller, &tls_uri(&callee, "127.0.0.1")).await;
    let flow = find(&mut callee_events, |event| match event {
        Event::Incoming { source, .. } => Some(source.flow),
        _ => None,
    })
    .await;
    assert_eq!(callee.certified_names(flow).as_deref(), Some(&["carrier.example".to_owned()][..]));

    let mut foreign = client(&authority);
    foreign.tls.identities = vec![stranger.identity("thief.pem", &["carrier.example"])];
    for (what, config) in [("no certificate", client(&authority)), ("a stranger's", foreign)] {
        let (caller, mut events) = SipStack::bind(config).unwrap();
        let call = call_to(&caller, &tls_uri(&callee, "127.0.0.1")).await;
        assert_eq!(ended(&mut events, call).await, EndCause::TransportError, "{what}");
    }
}

/// The certificate that a server shows to whoever asks for this name.
fn shown(callee: &SipHandle, authority: &Authority, name: &str) -> Vec<u8> {
    let mut connection =
        rustls::ClientConnection::new(believing(authority), name.to_owned().try_into().unwrap()).unwrap();
    let mut socket = TcpStream::connect(address(callee, Transport::Tls)).unwrap();
    connection.complete_io(&mut socket).unwrap();
    connection.peer_certificates().unwrap()[0].to_vec()
}

fn believing(authority: &Authority) -> Arc<rustls::ClientConfig> {
    use rustls::pki_types::pem::PemObject;
    let mut roots = rustls::RootCertStore::empty();
    roots.add(rustls::pki_types::CertificateDer::from_pem_file(authority.ca()).unwrap()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = rustls::ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().unwrap();
    Arc::new(builder.with_root_certificates(roots).with_no_client_auth())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_certificate_is_chosen_by_the_name_asked_for_and_loaded_anew_when_it_changes() {
    let authority = Authority::new();
    let mut serving = server(&authority, &["a.example"]);
    serving.tls.identities.push(authority.identity("b.pem", &["b.example"]));
    let (callee, _events) = SipStack::bind(serving).unwrap();
    let first = shown(&callee, &authority, "a.example");
    assert_ne!(first, shown(&callee, &authority, "b.example"));

    authority.identity("server.pem", &["a.example"]);
    let changed = async {
        while shown(&callee, &authority, "a.example") == first {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(PATIENCE, changed).await.expect("the new certificate in time");
}

#[test]
fn a_certificate_that_cannot_be_used_is_named() {
    let authority = Authority::new();
    let identity = authority.identity("server.pem", &["127.0.0.1"]);
    let other = authority.identity("other.pem", &["127.0.0.1"]);
    let empty = authority.folder().join("empty.pem");
    std::fs::write(&empty, "").unwrap();
    let with = |chain: &std::path::Path, key: &std::path::Path| TlsConfig {
        identities: vec![sip::io::Identity { chain: chain.to_owned(), key: key.to_owned() }],
        ..TlsConfig::default()
    };
    for (tls, part) in [
        (TlsConfig::default(), "tls.certificates"),
        (with(&empty, &identity.key), "empty.pem: it holds no certificate"),
        (with(&identity.chain, &empty), "empty.pem: it holds no private key"),
        (with(&identity.chain, &other.key), "do not fit"),
        (with(&authority.folder().join("none.pem"), &identity.key), "none.pem"),
    ] {
        let error = SipStack::bind(StackConfig { tls, ..config(&["tls:127.0.0.1:0"]) }).unwrap_err();
        assert!(matches!(error, BindError::Tls(_)));
        assert!(error.to_string().contains(part), "{error}");
    }
}

fn browser(
    callee: &SipHandle,
    origin: Option<&str>,
    protocol: Option<&str>,
) -> tungstenite::Result<WebSocket<TcpStream>> {
    let at = address(callee, Transport::Ws);
    let mut request = format!("ws://{at}/").into_client_request().unwrap();
    if let Some(protocol) = protocol {
        request.headers_mut().insert("Sec-WebSocket-Protocol", HeaderValue::from_str(protocol).unwrap());
    }
    if let Some(origin) = origin {
        request.headers_mut().insert("Origin", HeaderValue::from_str(origin).unwrap());
    }
    let socket = TcpStream::connect(at).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    let (socket, response) = tungstenite::client(request, socket).map_err(|error| match error {
        tungstenite::HandshakeError::Failure(error) => error,
        tungstenite::HandshakeError::Interrupted(_) => panic!("a socket that waits was interrupted"),
    })?;
    assert_eq!(response.headers()["Sec-WebSocket-Protocol"], "sip");
    Ok(socket)
}

fn over_ws(branch: &str) -> String {
    options(branch).replace("SIP/2.0/TCP", "SIP/2.0/WS").replace("SIP/2.0/UDP", "SIP/2.0/WS")
}

/// Conforms: RFC 7118 §5 — SIP over WebSocket.
#[tokio::test(flavor = "multi_thread")]
async fn requests_by_web_socket_are_answered_and_keep_alives_too() {
    let (callee, _events) = SipStack::bind(config(&["ws:127.0.0.1:0"])).unwrap();
    let mut socket = browser(&callee, None, Some("chat, sip")).unwrap();
    for branch in ["z9hG4bK1", "z9hG4bK2"] {
        socket.send(Message::text(over_ws(branch))).unwrap();
        let answer = socket.read().unwrap().into_text().unwrap();
        assert!(answer.starts_with("SIP/2.0 200 ") && answer.contains(branch), "{answer}");
    }
    socket.send(Message::binary(over_ws("z9hG4bK3").into_bytes())).unwrap();
    assert!(socket.read().unwrap().to_text().unwrap().contains("z9hG4bK3"));
    socket.send(Message::text("\r\n\r\n")).unwrap();
    assert_eq!(socket.read().unwrap().to_text().unwrap(), "\r\n");
    socket.send(Message::Ping(Bytes::from_static(b"there?"))).unwrap();
    assert_eq!(socket.read().unwrap(), Message::Pong(Bytes::from_static(b"there?")));
    socket.close(None).unwrap();
    while socket.read().is_ok() {}
    settled(&callee, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn many_messages_at_once_by_web_socket_are_each_answered() {
    let (callee, _events) = SipStack::bind(config(&["ws:127.0.0.1:0"])).unwrap();
    let mut socket = browser(&callee, None, Some("sip")).unwrap();
    for n in 0..50 {
        socket.write(Message::text(over_ws(&format!("z9hG4bK-{n}-")))).unwrap();
    }
    socket.flush().unwrap();
    for n in 0..50 {
        let answer = socket.read().unwrap().into_text().unwrap();
        assert!(answer.contains(&format!("z9hG4bK-{n}-")), "{answer}");
    }
}

/// Conforms: RFC 7118 §4.1 — the subprotocol sip is asked for.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_no_sip_client_or_no_page_of_ours_is_refused() {
    let pages = vec!["https://phone.example".to_owned()];
    let (callee, _events) = SipStack::bind(StackConfig { origins: pages, ..config(&["ws:127.0.0.1:0"]) }).unwrap();
    assert!(browser(&callee, Some("https://phone.example"), Some("sip")).is_ok());
    for (origin, protocol) in [
        (Some("https://phone.example"), None),
        (Some("https://phone.example"), Some("chat")),
        (Some("https://evil.example"), Some("sip")),
        (None, Some("sip")),
    ] {
        let error = browser(&callee, origin, protocol).unwrap_err();
        assert!(matches!(&error, tungstenite::Error::Http(response) if response.status().is_client_error()), "{error}");
    }
    settled(&callee, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_web_socket_whose_upgrade_does_not_come_is_closed_in_time() {
    let limits = IoLimits { message_time: Duration::from_millis(200), ..IoLimits::default() };
    let (callee, _events) = SipStack::bind(StackConfig { limits, ..config(&["ws:127.0.0.1:0"]) }).unwrap();
    let mut socket = TcpStream::connect(address(&callee, Transport::Ws)).unwrap();
    std::io::Write::write_all(&mut socket, b"GET / HTTP/1.1\r\nHost: x\r\n").unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    assert_eq!(std::io::Read::read(&mut socket, &mut [0; 100]).unwrap(), 0);
    settled(&callee, 0).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_too_large_for_web_socket_costs_the_connection() {
    let (callee, _events) = SipStack::bind(config(&["ws:127.0.0.1:0"])).unwrap();
    let mut socket = browser(&callee, None, Some("sip")).unwrap();
    let _ = socket.send(Message::text("x".repeat(10 << 20)));
    while socket.read().is_ok() {}
    settled(&callee, 0).await;
}
