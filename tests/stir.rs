//! Who calls, proven by signature: calls by a trunk are verified against an authority of the test's own, and calls to it are signed.
#![allow(unreachable_pub, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;
#[path = "common/phone.rs"]
mod phone;

use std::io::{Read, Write};
use std::net::TcpListener;
use std::path::Path;
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, SystemTime};

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use common::Server;
use omnivox::stir::passport::Signer;
use phone::Phone;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use sip::headers::Name;

const CALLER: &str = "+12155551212";
const CALLED: &str = "+12155551213";
const TONE: f64 = 1_000.0;

/// An authority, and a signer that it vouches for, published on a web server of the test's.
struct Published {
    folder: tempfile::TempDir,
    port: u16,
    fetched: Arc<AtomicUsize>,
}

impl Published {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let mut params = CertificateParams::new(vec!["authority".to_owned()]).unwrap();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().unwrap();
        std::fs::write(folder.path().join("authority.pem"), params.self_signed(&key).unwrap().pem()).unwrap();
        let issuer = Issuer::new(params, key);
        let own = KeyPair::generate().unwrap();
        let certificate = CertificateParams::new(vec!["carrier".to_owned()]).unwrap().signed_by(&own, &issuer).unwrap();
        std::fs::write(folder.path().join("signer.key"), own.serialize_pem()).unwrap();
        std::fs::write(folder.path().join("signer.pub"), own.public_key_pem()).unwrap();
        let stranger = KeyPair::generate().unwrap();
        let unknown = CertificateParams::new(vec!["x".to_owned()]).unwrap().self_signed(&stranger).unwrap().pem();
        std::fs::write(folder.path().join("stranger.key"), stranger.serialize_pem()).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let fetched = Arc::new(AtomicUsize::new(0));
        let count = Arc::clone(&fetched);
        let pem = certificate.pem();
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut request = [0; 2_048];
                let size = stream.read(&mut request).unwrap();
                let path = String::from_utf8_lossy(&request[..size]).split(' ').nth(1).unwrap().to_owned();
                count.fetch_add(1, Ordering::SeqCst);
                let (status, body) = match path.as_str() {
                    "/signer.pem" => ("200 OK", pem.clone()),
                    "/stranger.pem" => ("200 OK", unknown.clone()),
                    "/large.pem" => ("200 OK", "x".repeat(100_000)),
                    _ => ("404 Not Found", String::new()),
                };
                let _ = write!(
                    stream,
                    "HTTP/1.1 {status}\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}",
                    body.len()
                );
            }
        });
        Self { folder, port, fetched }
    }

    fn url(&self, name: &str) -> String {
        format!("http://127.0.0.1:{}/{name}", self.port)
    }

    fn path(&self, name: &str) -> String {
        self.folder.path().join(name).display().to_string()
    }

    /// The Identity header of a call that `key` signs, with its certificate at `url`.
    fn identity(&self, key: &str, url: &str, age_s: u64, called: &str) -> (&'static str, String) {
        let signer = Signer::load(Path::new(&self.path(key)), url, "3f1c").unwrap();
        let at = SystemTime::now() - Duration::from_secs(age_s);
        ("Identity", signer.identity(at, 'A', CALLER, called).unwrap())
    }

    fn server(&self, carrier: &Phone, policy: &str, addresses: &str) -> Server {
        let config = format!(
            r#"
            [stir]
            verify = "{policy}"
            authorities = ["{authority}"]
            fetch_from = ["127.0.0.1"]
            key_file = "{key}"
            certificate_url = "{url}"
            origin_id = "7b0a"
            own_numbers = ["+1215555*"]

            [[devices]]
            user = "alice"
            password = "a"
            numbers = ["+12155551300"]

            [[trunks]]
            name = "carrier"
            hosts = ["{hosts}"]
            addresses = ["{addresses}"]
            country = "US"

            [[routes]]
            from = ["trunk carrier"]
            called = "+12155551213"
            to = "echo"

            [[routes]]
            from = ["trunk carrier"]
            to = "user alice"

            [[routes]]
            from = ["devices"]
            called = "+*"
            to = "trunk carrier"
            "#,
            authority = self.path("authority.pem"),
            key = self.path("signer.key"),
            url = self.url("signer.pem"),
            hosts = carrier.address(),
        );
        Server::start_with(&config, tempfile::tempdir().unwrap(), &["rtp.codecs=[\"PCMU\"]"])
    }
}

/// Conforms: RFC 8224 §6.2 — signatures of callers are verified; each fault gets its status, and the verdict stands in the record.
#[test]
fn calls_by_a_trunk_are_verified() {
    let published = Published::new();
    let mut carrier = Phone::start(CALLER, "", TONE);
    let server = published.server(&carrier, "refuse", "127.0.0.1");
    carrier.server = server.sip;
    let signed = |key: &str, at: &str, age_s, called: &str| published.identity(key, &published.url(at), age_s, called);
    for _ in 0..2 {
        let call = carrier.dial(CALLED, &[signed("signer.key", "signer.pem", 0, CALLED)]);
        carrier.wait_answered(call);
        carrier.hang_up(call);
    }
    assert_eq!(published.fetched.load(Ordering::SeqCst), 1, "a certificate is kept");
    let unsigned = carrier.call(CALLED);
    carrier.hang_up(unsigned);
    let inside = published.identity("signer.key", "https://10.0.0.1/signer.pem", 0, CALLED);
    for (header, code) in [
        (signed("stranger.key", "signer.pem", 0, CALLED), 438),
        (signed("signer.key", "signer.pem", 0, "+12155551214"), 438),
        (("Identity", "nonsense".to_owned()), 438),
        (signed("signer.key", "signer.pem", 61, CALLED), 403),
        (signed("stranger.key", "stranger.pem", 0, CALLED), 437),
        (signed("signer.key", "nothing.pem", 0, CALLED), 436),
        (signed("signer.key", "large.pem", 0, CALLED), 436),
        (inside, 436),
    ] {
        let call = carrier.dial(CALLED, &[header]);
        assert_eq!(carrier.refused(call), code);
    }
    let records = server.wait_for_records(11);
    let first = &records[0]["identity"];
    assert_eq!(
        (&first["verdict"], &first["attestation"], &first["origin_id"]),
        (&"passed".into(), &"A".into(), &"3f1c".into())
    );
    assert_eq!(records[2]["identity"]["verdict"], "unsigned");
    assert_eq!(records[3]["identity"]["verdict"], "failed");
    assert!(records[3]["end"]["detail"].as_str().unwrap().contains("the signature is wrong"), "{}", records[3]);
    server.stop();
}

/// Conforms: RFC 8224 §6.2.2 — 428 where a signature is required, and the verdict is told to phones of ours beside the number.
#[test]
fn a_signature_may_be_required_and_phones_are_told_the_verdict() {
    let published = Published::new();
    let mut carrier = Phone::start(CALLER, "", TONE);
    let server = published.server(&carrier, "require", "127.0.0.1");
    carrier.server = server.sip;
    let call = carrier.dial(CALLED, &[]);
    assert_eq!(carrier.refused(call), 428);
    let mut alice = Phone::register(server.sip, "alice", "a", TONE);
    let identity = published.identity("signer.key", &published.url("signer.pem"), 0, "+12155551300");
    let call = carrier.dial("+12155551300", &[identity]);
    let (at_alice, invite) = alice.rings_with();
    let from = invite.header(Name::From).unwrap();
    assert!(from.contains("sip:+12155551212;verstat=TN-Validation-Passed@"), "{from}");
    alice.answer(at_alice);
    carrier.wait_answered(call);
    carrier.hang_up(call);
    alice.ended(at_alice);
    server.stop();
}

/// Conforms: RFC 8224 §6.1 — calls for numbers of ours are signed; OpenSSL agrees.
#[test]
fn calls_to_a_trunk_are_signed() {
    let published = Published::new();
    let mut carrier = Phone::start("carrier", "", TONE);
    let server = published.server(&carrier, "off", "127.0.0.1");
    let mut alice = Phone::register(server.sip, "alice", "a", TONE);
    let call = alice.dial("+442079460000", &[]);
    let (at_carrier, invite) = carrier.rings_with();
    let value = invite.header(Name::Identity).expect("an Identity header").to_owned();
    assert!(value.ends_with(&format!(";info=<{}>;alg=ES256;ppt=shaken", published.url("signer.pem"))), "{value}");
    let token = value.split(';').next().unwrap();
    let (signed, signature) = token.rsplit_once('.').unwrap();
    let claims: serde_json::Value =
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(signed.split('.').nth(1).unwrap()).unwrap()).unwrap();
    assert_eq!(claims["orig"]["tn"], "12155551300");
    assert_eq!(claims["dest"]["tn"][0], "442079460000");
    assert_eq!((&claims["attest"], &claims["origid"]), (&"A".into(), &"7b0a".into()));
    assert!(openssl_agrees(&published, signed, &URL_SAFE_NO_PAD.decode(signature).unwrap()));
    carrier.answer(at_carrier);
    alice.wait_answered(call);
    alice.hang_up(call);
    server.stop();
}

/// Whether OpenSSL takes the signature for the signer's.
fn openssl_agrees(published: &Published, signed: &str, signature: &[u8]) -> bool {
    let integer = |bytes: &[u8]| {
        let stripped: Vec<u8> = bytes.iter().copied().skip_while(|byte| *byte == 0).collect();
        let sign = if stripped.first().is_some_and(|byte| *byte >= 0x80) { &[0][..] } else { &[] };
        let value = [sign, &stripped].concat();
        [&[2, value.len() as u8][..], &value].concat()
    };
    let (r, s) = signature.split_at(32);
    let both = [integer(r), integer(s)].concat();
    let der = [&[0x30, both.len() as u8][..], &both].concat();
    std::fs::write(published.path("signature"), der).unwrap();
    std::fs::write(published.path("signed"), signed).unwrap();
    let status = Command::new("openssl")
        .args(["dgst", "-sha256", "-verify", &published.path("signer.pub"), "-signature", &published.path("signature")])
        .arg(published.path("signed"))
        .status();
    status.expect("openssl is missing: scripts/test installs it").success()
}
