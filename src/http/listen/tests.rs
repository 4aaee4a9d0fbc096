//! Connections that cost nobody else anything, on real sockets.
#![allow(clippy::unwrap_used)]

use axum::routing::get;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::ServerName;
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

use super::*;

/// Times that a test can wait for.
const SHORT: Times = Times { handshake: Duration::from_millis(50), headers: Duration::from_millis(50) };
/// Nothing takes longer unless something is broken.
const PATIENCE: Duration = Duration::from_secs(60);

/// What listens, by TLS and without.
struct Running {
    plain: SocketAddr,
    tls: SocketAddr,
    connector: TlsConnector,
    _folder: tempfile::TempDir,
}

impl Running {
    async fn start(max_connections: usize) -> Self {
        Self::start_with(max_connections, Times::default()).await
    }

    async fn start_with(max_connections: usize, times: Times) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
        let certificate = folder.path().join("own.pem");
        std::fs::write(&certificate, format!("{}{}", made.cert.pem(), made.signing_key.serialize_pem())).unwrap();
        let config = HttpConfig {
            listen: SocketAddr::from(([127, 0, 0, 1], 0)),
            tls_listen: "127.0.0.1:0".to_owned(),
            certificate,
            max_connections,
            ..HttpConfig::default()
        };
        let listeners = Listeners { times, ..Listeners::bind(&config, &TlsConfig::default()).await.unwrap() };
        let (plain, tls) = (listeners.plain_addr().unwrap(), listeners.tls_addr().unwrap());
        let router = Router::new().route("/", get(|| async { "here" }));
        tokio::spawn(listeners.serve(router, CancellationToken::new()));
        let mut roots = RootCertStore::empty();
        roots.add(made.cert.der().clone()).unwrap();
        let client = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        Self { plain, tls, connector: TlsConnector::from(Arc::new(client)), _folder: folder }
    }

    async fn asks_by_tls(&self) -> String {
        let stream = TcpStream::connect(self.tls).await.unwrap();
        let name = ServerName::try_from("127.0.0.1").unwrap();
        ask(self.connector.connect(name, stream).await.unwrap()).await
    }
}

async fn ask(mut stream: impl AsyncRead + AsyncWrite + Unpin) -> String {
    stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n").await.unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await.unwrap();
    answer
}

/// Whether the other side closes the connection; it has said nothing before.
async fn is_closed(stream: &mut TcpStream) -> bool {
    let read = tokio::time::timeout(PATIENCE, stream.read(&mut [0; 64])).await;
    matches!(read.unwrap(), Ok(0) | Err(_))
}

#[tokio::test]
async fn handshakes_that_never_end_keep_nobody_out_and_the_oldest_give_way() {
    let running = Running::start(4 * HANDSHAKES_LIMIT).await;
    let mut silent = Vec::new();
    for _ in 0..HANDSHAKES_LIMIT + 2 {
        silent.push(TcpStream::connect(running.tls).await.unwrap());
    }
    assert!(running.asks_by_tls().await.ends_with("here"));
    for oldest in &mut silent[..2] {
        assert!(is_closed(oldest).await);
    }
    assert!(silent.last_mut().unwrap().try_read(&mut [0; 1]).is_err(), "the latest has its time");
}

#[tokio::test]
async fn a_handshake_that_does_not_come_is_given_up() {
    let running = Running::start_with(10, SHORT).await;
    let mut silent = TcpStream::connect(running.tls).await.unwrap();
    assert!(is_closed(&mut silent).await);
}

#[tokio::test]
async fn a_request_whose_headers_do_not_end_is_given_up() {
    let running = Running::start_with(10, SHORT).await;
    let mut slow = TcpStream::connect(running.plain).await.unwrap();
    slow.write_all(b"GET / HTTP/1.1\r\nHost: x\r\nX-").await.unwrap();
    let mut rest = String::new();
    let _ = tokio::time::timeout(PATIENCE, slow.read_to_string(&mut rest)).await.unwrap();
    assert!(!rest.contains("here"), "{rest}");
}

#[tokio::test]
async fn one_connection_beyond_the_limit_is_closed_and_taken_again_once_another_has_gone() {
    let running = Running::start(3).await;
    let mut held = Vec::new();
    for _ in 0..3 {
        let mut stream = TcpStream::connect(running.plain).await.unwrap();
        stream.write_all(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n").await.unwrap();
        // Its answer says that it has its place.
        assert!(stream.read(&mut [0; 512]).await.unwrap() > 0);
        held.push(stream);
    }
    for address in [running.plain, running.tls] {
        assert!(is_closed(&mut TcpStream::connect(address).await.unwrap()).await, "both share the limit");
    }
    let last = held.pop().unwrap();
    assert!(ask(last).await.ends_with("here"));
    assert!(running.asks_by_tls().await.ends_with("here"));
}

#[test]
fn one_address_has_half_of_the_places_and_proxies_have_all() {
    let places = Arc::new(Places::new(8, vec!["10.0.0.1".parse().unwrap()]));
    let take = |ip: &str| Places::take(&places, SocketAddr::new(ip.parse().unwrap(), 1));
    let four: Vec<_> = (0..4).map(|_| take("192.0.2.1").unwrap()).collect();
    assert!(take("192.0.2.1").is_none());
    drop(four);
    assert!(take("192.0.2.1").is_some(), "what has gone is counted no more");
    let all: Vec<_> = (0..8).map(|_| take("10.0.0.1").unwrap()).collect();
    assert!(take("192.0.2.2").is_none(), "there are no more than all");
    drop(all);
    assert!(places.taken.lock().unwrap().1.is_empty());
}
