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
use omnivox::stir::passport::{Chain, Passport, Signer};
use phone::Phone;
use rcgen::{BasicConstraints, CertificateParams, CustomExtension, IsCa, Issuer, KeyPair};
use sip::headers::Name;

const CALLER: &str = "+12155551212";
const CALLED: &str = "+12155551213";
/// Alice's number, and whom she passes calls on to.
const NUMBER: &str = "+12155551300";
const GOES_TO: &str = "+442079460002";
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
        let for_number = |digits: &str| {
            let mut params = CertificateParams::new(vec!["carrier".to_owned()]).unwrap();
            let string = [&[0x16, digits.len() as u8], digits.as_bytes()].concat();
            let entry = [&[0xa2, string.len() as u8][..], &string].concat();
            let list = [&[0x30, entry.len() as u8][..], &entry].concat();
            params.custom_extensions = vec![CustomExtension::from_oid_content(&[1, 3, 6, 1, 5, 5, 7, 1, 26], list)];
            params.signed_by(&own, &issuer).unwrap().pem()
        };
        let (numbers, elsewhere) = (for_number(&CALLER[1..]), for_number("4930123"));
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let mut request = [0; 2_048];
                let size = stream.read(&mut request).unwrap();
                let path = String::from_utf8_lossy(&request[..size]).split(' ').nth(1).unwrap().to_owned();
                count.fetch_add(1, Ordering::SeqCst);
                let (status, body) = match path.as_str() {
                    "/signer.pem" => ("200 OK", pem.clone()),
                    "/numbers.pem" => ("200 OK", numbers.clone()),
                    "/elsewhere.pem" => ("200 OK", elsewhere.clone()),
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
            own_numbers = ["+12155551213", "+1215555124*", "+12155551300"]

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
            called = "+12155551240"
            rewrite = "+442079460001"
            to = "trunk carrier"

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

/// Conforms: RFC 8226 §9 — a certificate that is for other numbers speaks for nobody, and the verdict says by what one may speak
#[test]
fn a_signer_may_speak_for_the_numbers_of_its_certificate_alone() {
    let published = Published::new();
    let mut carrier = Phone::start(CALLER, "", TONE);
    let server = published.server(&carrier, "refuse", "127.0.0.1");
    carrier.server = server.sip;
    let signed = |at: &str| published.identity("signer.key", &published.url(at), 0, CALLED);
    for at in ["numbers.pem", "signer.pem"] {
        let call = carrier.dial(CALLED, &[signed(at)]);
        carrier.wait_answered(call);
        carrier.hang_up(call);
    }
    let call = carrier.dial(CALLED, &[signed("elsewhere.pem")]);
    assert_eq!(carrier.refused(call), 437);
    let records = server.wait_for_records(3);
    let authorities: Vec<_> = records.iter().map(|record| record["identity"]["authority"].clone()).collect();
    assert_eq!(authorities, ["number".into(), "unstated".into(), serde_json::Value::Null]);
    let why = records[2]["identity"]["reason"].as_str().unwrap();
    assert!(why.contains("the certificate is not for the number 12155551212"), "{why}");
    server.stop();
}

/// Conforms: RFC 8946 §5 — a call that was sent on is believed where signatures lead from its caller to whom it is for now
#[test]
fn a_call_that_was_sent_on_is_verified_back_to_its_caller() {
    let published = Published::new();
    let mut carrier = Phone::start(CALLER, "", TONE);
    let server = published.server(&carrier, "refuse", "127.0.0.1");
    carrier.server = server.sip;
    let first = "+12155551299";
    let url = published.url("signer.pem");
    let own = published.identity("signer.key", &url, 0, first);
    let signer = |key: &str, url: &str| Signer::load(Path::new(&published.path(key)), url, "x").unwrap();
    let by = |key: &str, url: &str| {
        let value = signer(key, url).diversion(SystemTime::now(), std::slice::from_ref(&own.1), CALLER, first, CALLED);
        ("Identity", value.unwrap())
    };
    let diversion = ("Diversion", format!("<sip:{first}@carrier.test>;reason=no-answer"));
    let call = carrier.dial(CALLED, &[by("signer.key", &url), own.clone(), diversion]);
    carrier.wait_answered(call);
    carrier.hang_up(call);
    for headers in [vec![own.clone()], vec![by("signer.key", &url)], vec![own.clone(), by("stranger.key", &url)]] {
        let call = carrier.dial(CALLED, &headers);
        assert_eq!(carrier.refused(call), 438);
    }
    // Whoever sends a call on has to have authority over the number that it was for.
    let call = carrier.dial(CALLED, &[own.clone(), by("signer.key", &published.url("numbers.pem"))]);
    assert_eq!(carrier.refused(call), 437);
    let record = server.wait_for_records(5).remove(0);
    assert_eq!(
        (&record["identity"]["verdict"], &record["identity"]["diverted"][0]),
        (&"passed".into(), &"12155551299".into())
    );
    assert_eq!(record["diverted"], serde_json::json!([{ "number": first, "reason": "no-answer" }]));
    server.stop();
}

/// Conforms: RFC 8946 §4 — a call that is sent on goes with the signatures it came with, and ours for the number that it was for
#[test]
fn a_call_that_we_send_on_is_signed_for_the_number_that_was_called() {
    let published = Published::new();
    let mut carrier = Phone::start(CALLER, "", TONE);
    let server = published.server(&carrier, "note", "127.0.0.1");
    carrier.server = server.sip;
    let (sends_on, goes_to) = ("+12155551240", "+442079460001");
    let own = published.identity("signer.key", &published.url("signer.pem"), 0, sends_on);
    let before = ("Diversion", "<sip:+12155551299@carrier.test>;reason=user-busy".to_owned());
    let call = carrier.dial(sends_on, &[own.clone(), before.clone()]);
    let (at_carrier, invite) = carrier.rings_with();
    let identities: Vec<&str> = invite.headers(Name::Identity).collect();
    assert_eq!(identities.first(), Some(&own.1.as_str()));
    let passports: Vec<Passport> = identities.iter().map(|value| Passport::parse(value).unwrap()).collect();
    let chain = Chain::from(&passports[0], &passports, SystemTime::now(), 60, (CALLER, goes_to)).unwrap();
    assert_eq!(chain.diverted().collect::<Vec<_>>(), ["12155551240"]);
    let at = carrier.address();
    let history = invite.header(Name::HistoryInfo).unwrap();
    assert_eq!(
        history,
        format!(
            "<sip:+12155551299@127.0.0.1>;index=1, <sip:{sends_on}@127.0.0.1;cause=486>;index=1.1;mp=1, \
             <sip:{goes_to}@{at};cause=302>;index=1.1.1;mp=1.1"
        )
    );
    let diversions: Vec<&str> = invite.headers(Name::Diversion).collect();
    assert!(diversions[0].starts_with(&format!("<sip:{sends_on}@127.0.0.1>;reason=unconditional;")), "{diversions:?}");
    assert_eq!(diversions.len(), 2);
    carrier.answer(at_carrier);
    carrier.wait_answered(call);
    carrier.hang_up(call);
    carrier.ended(at_carrier);
    // Without a signature to go on, and where one is wrong, it is an ordinary call: signed as one that comes from elsewhere.
    for headers in [vec![], vec![published.identity("stranger.key", &published.url("signer.pem"), 0, sends_on)]] {
        let call = carrier.dial(sends_on, &headers);
        let (at_carrier, invite) = carrier.rings_with();
        let identities: Vec<&str> = invite.headers(Name::Identity).collect();
        let passport = Passport::parse(identities[0]).unwrap();
        assert_eq!((identities.len(), passport.claims().attest.as_str()), (1, "C"));
        assert_eq!(passport.claims().div, None);
        carrier.hang_up(call);
        carrier.ended(at_carrier);
    }
    server.stop();
}

/// Conforms: RFC 8946 §4 — a call that a phone of ours passes on (REFER) goes with the signatures it came with, and ours for the phone's number
#[test]
fn a_call_that_is_transferred_is_signed_for_the_number_that_was_called() {
    let published = Published::new();
    let mut carrier = Phone::start(CALLER, "", TONE);
    let server = published.server(&carrier, "note", "127.0.0.1");
    carrier.server = server.sip;
    let mut alice = Phone::register(server.sip, "alice", "a", 437.5);
    let own = published.identity("signer.key", &published.url("signer.pem"), 0, NUMBER);
    let call = carrier.dial(NUMBER, std::slice::from_ref(&own));
    let invite = passed_on(&mut carrier, &mut alice, &server, call);
    assert!(invite.header(Name::From).unwrap().contains("12155551212"), "the caller is shown");
    let identities: Vec<&str> = invite.headers(Name::Identity).collect();
    assert_eq!(identities.first(), Some(&own.1.as_str()));
    let passports: Vec<Passport> = identities.iter().map(|value| Passport::parse(value).unwrap()).collect();
    let chain = Chain::from(&passports[0], &passports, SystemTime::now(), 60, (CALLER, GOES_TO)).unwrap();
    assert_eq!(chain.diverted().collect::<Vec<_>>(), [&NUMBER[1..]]);
    // Nobody speaks for a caller whose own carrier did not.
    let call = carrier.dial(NUMBER, &[]);
    let invite = passed_on(&mut carrier, &mut alice, &server, call);
    assert_eq!(only_ours(&invite), "B");
    server.stop();
}

/// A caller's signature that was good when the call came proves nothing minutes later, when the call is passed on: it would have the call
/// refused as stale. The call goes as one of ours for somebody else's number.
#[test]
fn a_call_that_is_transferred_late_does_not_take_an_old_signature_along() {
    let published = Published::new();
    let mut carrier = Phone::start(CALLER, "", TONE);
    // Nobody looks when it comes: as if it had been looked at ten minutes ago.
    let server = published.server(&carrier, "off", "127.0.0.1");
    carrier.server = server.sip;
    let mut alice = Phone::register(server.sip, "alice", "a", 437.5);
    for (age_s, signatures) in [(0, 2), (600, 1)] {
        let call =
            carrier.dial(NUMBER, &[published.identity("signer.key", &published.url("signer.pem"), age_s, NUMBER)]);
        let invite = passed_on(&mut carrier, &mut alice, &server, call);
        assert_eq!(invite.headers(Name::Identity).count(), signatures, "made {age_s} s ago");
        if signatures == 1 {
            assert_eq!(only_ours(&invite), "B");
        }
        assert!(invite.header(Name::HistoryInfo).unwrap().contains(NUMBER));
    }
    server.stop();
}

/// Alice, who is called, passes the call on to a number by the trunk; the INVITE that comes back there.
fn passed_on(carrier: &mut Phone, alice: &mut Phone, server: &Server, call: sip::CallId) -> Arc<sip::Message> {
    let at_alice = alice.pick_up();
    carrier.wait_answered(call);
    alice.ask_refer(at_alice, &server.uri(GOES_TO));
    let (at_carrier, invite) = carrier.rings_with();
    carrier.answer(at_carrier);
    alice.ended(at_alice);
    carrier.hang_up(call);
    carrier.ended(at_carrier);
    invite
}

/// What a call is attested as that has a signature of ours and no other.
fn only_ours(invite: &sip::Message) -> String {
    let identities: Vec<&str> = invite.headers(Name::Identity).collect();
    let passport = Passport::parse(identities[0]).unwrap();
    assert_eq!((identities.len(), &passport.claims().div), (1, &None));
    passport.claims().attest.clone()
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
