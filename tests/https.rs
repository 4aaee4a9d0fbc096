//! HTTP by TLS: certificates, what browsers are told, what is served without, and proxies before us.
#![allow(unreachable_pub, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../sip/tests/support/certificates.rs"]
mod certificates;
mod common;

use std::io::Write;
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use certificates::Authority;
use common::{OMNIVOX, PATIENCE, Server, omnivox, told};
use futures::StreamExt;
use reqwest::{Client, StatusCode};
use serde_json::{Value, json};
use tokio_rustls::TlsConnector;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName, pem::PemObject};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

const PASSWORD: &str = "walrus pedal quarry";
const OFFER: &str = "v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\n\
    c=IN IP4 0.0.0.0\r\na=rtpmap:111 opus/48000/2\r\na=ice-ufrag:Q7yF\r\na=ice-pwd:a-password-of-enough-letters\r\n\
    a=fingerprint:sha-256 AB:AB:AB:AB:AB:AB:AB:AB:AB:AB:AB:AB:AB:AB:AB:AB:AB:AB:AB:AB:AB:AB:AB:AB:AB:AB:AB:AB:AB:AB:AB:AB\r\n\
    a=setup:actpass\r\na=mid:0\r\na=rtcp-mux\r\na=sendrecv\r\n";

/// A server with a certificate for `localhost`, by TLS and without.
struct Secure {
    server: Server,
    authority: Authority,
    tls: SocketAddr,
}

impl Secure {
    fn start(settings: &[&str]) -> Self {
        let authority = Authority::new();
        let own = authority.identity("own.pem", &["localhost"]).chain;
        let certificate = format!("http.certificate={}", own.display());
        let settings = [&["http.tls_listen=127.0.0.1:0", certificate.as_str()], settings].concat();
        let server = Server::start(&settings);
        let said = server.process.stderr();
        let tls = said.split_whitespace().find_map(|word| word.strip_prefix("https:")).unwrap().parse().unwrap();
        Self { server, authority, tls }
    }

    /// Somebody who believes this authority alone.
    fn client(&self, authority: &Authority) -> Client {
        let ca = reqwest::Certificate::from_pem(&std::fs::read(authority.ca()).unwrap()).unwrap();
        let client = Client::builder().tls_certs_only([ca]).redirect(reqwest::redirect::Policy::none()).no_proxy();
        client.resolve("localhost", self.tls).build().unwrap()
    }

    fn https(&self, path: &str) -> String {
        format!("https://localhost:{}{path}", self.tls.port())
    }

    fn http(&self, path: &str) -> String {
        format!("http://{}{path}", self.server.http)
    }

    fn add_user(&self) {
        let data = format!("data.dir={}", self.server.folder.path().join("data").display());
        let mut command = Command::new(OMNIVOX);
        command.current_dir(self.server.folder.path()).args(["user", "add", "Ada", "--set", &data]);
        let mut adding = command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
        writeln!(adding.stdin.take().unwrap(), "{PASSWORD}").unwrap();
        let output = adding.wait_with_output().unwrap();
        assert!(output.status.success(), "{}", told(&output));
    }

    /// The subject of the certificate that is shown now.
    async fn serial(&self) -> Vec<u8> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_file(self.authority.ca()).unwrap()).unwrap();
        let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        let stream = tokio::net::TcpStream::connect(self.tls).await.unwrap();
        let name = ServerName::try_from("localhost").unwrap();
        let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await.unwrap();
        stream.get_ref().1.peer_certificates().unwrap()[0].to_vec()
    }
}

fn log_in() -> Value {
    json!({ "name": "ada", "password": PASSWORD })
}

fn header<'a>(answer: &'a reqwest::Response, name: &str) -> &'a str {
    answer.headers().get(name).map_or("", |value| value.to_str().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_login_by_tls_has_a_secure_cookie_and_what_happens_comes_by_it_too() {
    let secure = Secure::start(&["web.numbers=[\"echo\"]"]);
    secure.server.wait_until_ready();
    secure.add_user();
    let client = secure.client(&secure.authority);

    let plain = client.post(secure.http("/api/v1/session")).json(&log_in()).send().await.unwrap();
    assert_eq!(plain.status(), StatusCode::CREATED);
    assert!(!header(&plain, "set-cookie").contains("Secure"), "{}", header(&plain, "set-cookie"));
    assert_eq!(header(&plain, "strict-transport-security"), "");

    let by_tls = client.post(secure.https("/api/v1/session")).json(&log_in()).send().await.unwrap();
    assert_eq!(by_tls.status(), StatusCode::CREATED);
    assert!(header(&by_tls, "set-cookie").ends_with("; Secure"), "{}", header(&by_tls, "set-cookie"));
    assert_eq!(header(&by_tls, "strict-transport-security"), "max-age=31536000");
    let cookie = header(&by_tls, "set-cookie").split(';').next().unwrap().to_owned();
    let page = client.get(secure.https("/")).send().await.unwrap();
    assert_eq!(header(&page, "strict-transport-security"), "max-age=31536000");
    assert!(header(&page, "content-security-policy").contains("script-src 'self'"));

    // Events by a WebSocket within TLS, from a page of the same server.
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(secure.authority.ca()).unwrap()).unwrap();
    let mut config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    let stream = tokio::net::TcpStream::connect(secure.tls).await.unwrap();
    let connecting = TlsConnector::from(Arc::new(config));
    let stream = connecting.connect(ServerName::try_from("localhost").unwrap(), stream).await.unwrap();
    assert_eq!(stream.get_ref().1.alpn_protocol(), Some(&b"http/1.1"[..]));
    let mut request = format!("wss://localhost:{}/api/v1/events", secure.tls.port()).into_client_request().unwrap();
    request.headers_mut().insert("cookie", cookie.parse().unwrap());
    request.headers_mut().insert("origin", secure.https("").parse().unwrap());
    let (mut events, _) = tokio_tungstenite::client_async(request, stream).await.unwrap();

    let offer = client.post(secure.https("/api/v1/whip?to=echo")).header("content-type", "application/sdp").body(OFFER);
    let answer = offer.send().await.unwrap();
    assert_eq!(answer.status(), StatusCode::CREATED);
    let resource = header(&answer, "location").to_owned();
    let told = tokio::time::timeout(PATIENCE, events.next()).await.unwrap().unwrap().unwrap().into_text().unwrap();
    assert!(told.contains("call.started"), "{told}");
    let ended = client.delete(secure.https(&resource)).send().await.unwrap();
    assert_eq!(ended.status(), StatusCode::OK);
    secure.server.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn who_does_not_believe_our_authority_gets_nothing() {
    let secure = Secure::start(&[]);
    let other = Authority::new();
    let fault = secure.client(&other).get(secure.https("/healthz")).send().await.unwrap_err();
    assert!(format!("{fault:?}").contains("InvalidCertificate("), "{fault:?}");
    let answer = secure.client(&secure.authority).get(secure.https("/healthz")).send().await.unwrap();
    assert_eq!(answer.text().await.unwrap(), "ok\n");
    secure.server.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_certificate_is_shown_without_a_restart_and_a_broken_one_is_not() {
    let secure = Secure::start(&[]);
    let said = |what: &str| secure.server.process.stderr().contains(what);
    let first = secure.serial().await;
    let path = secure.authority.folder().join("own.pem");
    std::fs::write(&path, "nothing").unwrap();
    common::wait_for("the broken one to be told of", PATIENCE, || said("the old one stays").then_some(()), String::new);
    assert_eq!(secure.serial().await, first);
    secure.authority.identity("own.pem", &["localhost", "new.example"]);
    common::wait_for("the new one", PATIENCE, || said("new connections get it").then_some(()), String::new);
    assert_ne!(secure.serial().await, first);
    secure.server.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn pages_are_sent_to_https_the_interface_refuses_and_health_is_served_where_plain_says_so() {
    let secure = Secure::start(&["http.plain=redirect"]);
    secure.server.wait_until_ready();
    let client = secure.client(&secure.authority);
    for (path, to) in [
        ("/", "/"),
        ("/records?from=+4930", "/records?from=+4930"),
        ("/call", "/call"),
        ("/api/v1/docs", "/api/v1/docs"),
    ] {
        let answer = client.get(secure.http(path)).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::PERMANENT_REDIRECT, "{path}");
        assert_eq!(header(&answer, "location"), format!("https://127.0.0.1:{}{to}", secure.tls.port()));
    }
    for path in ["/api/v1/session", "/api/v1/whip", "/api/v1/health"] {
        let answer = client.post(secure.http(path)).json(&log_in()).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::FORBIDDEN, "{path}");
        assert!(answer.text().await.unwrap().contains("https"));
    }
    for (path, status) in [("/healthz", 200), ("/metrics", 200), ("/calls/latest/trace", 404)] {
        assert_eq!(client.get(secure.http(path)).send().await.unwrap().status(), status, "{path}");
    }
    assert_eq!(client.get(secure.https("/")).send().await.unwrap().status(), StatusCode::OK);
    secure.server.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_believed_proxy_says_who_asks_and_how_and_others_say_nothing() {
    for (settings, is_believed) in [(&["http.trusted_proxies=[\"loopback\"]"][..], true), (&[][..], false)] {
        let secure = Secure::start(&[settings, &["web.numbers=[\"echo\"]"]].concat());
        secure.server.wait_until_ready();
        secure.add_user();
        let client = secure.client(&secure.authority);
        let proxied = |request: reqwest::RequestBuilder| {
            request.header("x-forwarded-for", "127.0.0.1, 198.51.100.7").header("x-forwarded-proto", "https")
        };
        let answer = proxied(client.post(secure.http("/api/v1/session")).json(&log_in())).send().await.unwrap();
        assert_eq!(header(&answer, "set-cookie").contains("; Secure"), is_believed);
        assert_eq!(!header(&answer, "strict-transport-security").is_empty(), is_believed);
        let cookie = header(&answer, "set-cookie").split(';').next().unwrap().to_owned();
        let log = client.get(secure.http("/api/v1/audit")).header("cookie", cookie).send().await.unwrap();
        let log = log.text().await.unwrap();
        assert_eq!(log.contains("198.51.100.7"), is_believed, "{log}");
        // Calls are taken from loopback and private addresses, traces are for whoever sits at the server.
        let offer = client.post(secure.http("/api/v1/whip")).header("content-type", "application/sdp").body(OFFER);
        let whip = proxied(offer).send().await.unwrap().status();
        assert_eq!(whip, if is_believed { StatusCode::FORBIDDEN } else { StatusCode::CREATED });
        let trace = proxied(client.get(secure.http("/calls/latest/trace"))).send().await.unwrap();
        assert_eq!(trace.status(), StatusCode::FORBIDDEN);
        secure.server.stop();
    }
}

fn check(folder: &Path, sets: &[String]) -> (bool, String) {
    let data = format!("data.dir={}", folder.join("data").display());
    let mut arguments = vec!["check", "--set", &data];
    sets.iter().for_each(|set| arguments.extend(["--set", set]));
    let output = omnivox(folder, &arguments);
    (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned())
}

#[test]
fn check_and_serve_name_the_key_of_a_file_that_cannot_be_used() {
    let authority = Authority::new();
    let own = authority.identity("own.pem", &["localhost"]).chain;
    let folder = tempfile::tempdir().unwrap();
    let listen = "http.tls_listen=127.0.0.1:0".to_owned();
    let set = |key: &str, path: &Path| format!("{key}={}", path.display());
    let absent = folder.path().join("absent.pem");
    for (sets, key) in [
        (vec![listen.clone(), set("http.certificate", &absent)], "http.certificate"),
        (vec![listen.clone(), set("http.certificate", &own), set("http.key", &absent)], "http.key"),
        (vec![listen.clone(), format!("tls.certificates=[\"{}\"]", absent.display())], "tls.certificates"),
    ] {
        let (fits, says) = check(folder.path(), &sets);
        assert!(!fits && says.lines().any(|line| line.starts_with(&format!("FAULT  {key}: "))), "{key}: {says}");
        let own = ["sip.listen=udp:127.0.0.1:0".to_owned(), "http.listen=127.0.0.1:0".to_owned()];
        let mut arguments = vec!["serve"];
        own.iter().chain(&sets).for_each(|set| arguments.extend(["--set", set]));
        let says = told(&omnivox(folder.path(), &arguments));
        assert!(says.contains(&format!("Mend {key}")), "{key}: {says}");
    }
    let (_, says) = check(folder.path(), &[listen, set("http.certificate", &own)]);
    assert!(says.contains("ok     http.tls_listen: https://127.0.0.1:0"), "{says}");
}
