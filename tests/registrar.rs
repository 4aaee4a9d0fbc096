//! Phones that register: baresip, by UDP and TCP, calling each other through the server; and those who may not.
#![allow(unreachable_pub, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "common/caller.rs"]
mod caller;
mod common;

use std::net::SocketAddr;
use std::process::Command;
use std::time::{Duration, Instant};

use common::{OMNIVOX, PATIENCE, Running, Server, free_port, omnivox, told, wait_for};

const DEVICES: &str = r#"
[[devices]]
user = "alice"
password = "a-secret"
display_name = "Alice"
numbers = ["101"]

[[devices]]
user = "bob"
password = "b-secret"
display_name = "Bob"
numbers = ["102"]
"#;

/// baresip, registered as `user` over `transport`, that answers by itself.
struct Phone {
    baresip: Running,
    _folder: tempfile::TempDir,
}

impl Phone {
    fn register(server: &Server, user: &str, password: &str, transport: &str) -> Self {
        Self::register_at(server.sip, user, password, transport)
    }

    fn register_at(at: SocketAddr, user: &str, password: &str, transport: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let wav = caller::wav(folder.path(), "said", 8_000, &[(0.5, "Hello, this is a phone.")], 30.0);
        let config = format!(
            "poll_method epoll\nsip_listen 127.0.0.1:{sip}\nsip_trans_def udp\n\
             audio_player aufile,{sound}/heard.wav\naudio_source aufile,{wav}\naudio_alert aufile,{sound}/alert.wav\n\
             audio_level no\nausrc_srate 8000\nauplay_srate 8000\nausrc_channels 1\nauplay_channels 1\n\
             rtp_ports 16000-17999\nnet_interface 127.0.0.1\nmodule_path /usr/lib/baresip/modules\nmodule stdio.so\n\
             module g711.so\nmodule aufile.so\nmodule_tmp account.so\nmodule_app menu.so\n",
            sip = free_port(),
            sound = folder.path().display(),
            wav = wav.display(),
        );
        std::fs::write(folder.path().join("config"), config).unwrap();
        let account = format!(
            "<sip:{user}@{at};transport={transport}>;auth_pass={password};regint=60;answermode=auto;audio_codecs=PCMU/8000/1\n"
        );
        std::fs::write(folder.path().join("accounts"), account).unwrap();
        let baresip = Running::start(Command::new("baresip").arg("-4").arg("-f").arg(folder.path()));
        Self { baresip, _folder: folder }
    }

    fn printed(&self) -> String {
        let text = self.baresip.stdout() + &self.baresip.stderr();
        text.split('\r').filter(|piece| !piece.contains("(bit/s)")).collect()
    }

    fn wait_for(&self, text: &str) {
        wait_for(text, PATIENCE, || self.printed().contains(text).then_some(()), || self.printed());
    }

    fn quit(mut self) {
        self.baresip.type_line("/quit");
        self.baresip.wait(PATIENCE);
    }
}

fn registrations(server: &Server) -> usize {
    let text = std::fs::read_to_string(server.folder.path().join("data/registrations.json")).unwrap_or_default();
    serde_json::from_str::<Vec<serde_json::Value>>(&text).unwrap_or_default().len()
}

fn wait_for_registrations(server: &Server, count: usize) {
    wait_for(
        &format!("{count} registrations"),
        PATIENCE,
        || (registrations(server) == count).then_some(()),
        || server.process.stderr(),
    );
}

/// Conforms: RFC 3261 §10 — phones register (baresip), over UDP and TCP, and are called.
#[test]
fn two_phones_call_each_other_over_udp_and_tcp() {
    let server = Server::start_with(DEVICES, tempfile::tempdir().unwrap(), &["rtp.codecs=[\"PCMU\"]"]);
    let alice = Phone::register(&server, "alice", "a-secret", "udp");
    let mut bob = Phone::register(&server, "bob", "b-secret", "tcp");
    wait_for_registrations(&server, 2);
    // By number; the name that is shown is the caller's own account's.
    bob.baresip.type_line(&format!("/dial sip:101@{};transport=tcp", server.sip));
    alice.wait_for("Call established");
    bob.wait_for("Call established");
    assert!(alice.printed().contains("sip:bob@"), "{}", alice.printed());
    bob.baresip.type_line("/hangup");
    let record = server.wait_for_records(1).remove(0);
    assert_eq!(record["end"]["class"], "ok", "{record}");
    assert_eq!(record["legs"][0]["label"], "device alice/1", "{record}");
    assert_eq!(record["legs"][0]["transport"], "udp", "{record}");
    assert_eq!(record["transport"], "tcp", "{record}");
    alice.wait_for("session closed");
    // A phone that leaves takes its registration back.
    alice.quit();
    wait_for_registrations(&server, 1);
    bob.quit();
    wait_for_registrations(&server, 0);
    server.stop();
}

/// Conforms: RFC 5589 §6 — blind transfer by a phone (baresip).
#[test]
fn a_phone_over_tls_is_called_by_one_over_udp() {
    let folder = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    let pem = folder.path().join("server.pem");
    std::fs::write(&pem, format!("{}{}", made.cert.pem(), made.signing_key.serialize_pem())).unwrap();
    let (udp, tls) = (free_port(), free_port());
    let listen = format!("sip.listen=[\"udp:127.0.0.1:{udp}\",\"tls:127.0.0.1:{tls}\"]");
    let certificates = format!("tls.certificates=[\"{}\"]", pem.display());
    let server = Server::start_with(DEVICES, folder, &[&listen, &certificates, "rtp.codecs=[\"PCMU\"]"]);
    let alice = Phone::register_at(SocketAddr::from(([127, 0, 0, 1], tls)), "alice", "a-secret", "tls");
    wait_for_registrations(&server, 1);
    let uri = server.uri("alice");
    let call = [
        "call",
        &uri,
        "--from",
        "bob",
        "--password",
        "b-secret",
        "--listen",
        "127.0.0.1:0",
        "--duration",
        "1",
        "--json",
    ];
    let call = omnivox(server.folder.path(), &call);
    assert!(call.status.success(), "{}\n{}", told(&call), alice.printed());
    let record = server.wait_for_records(1).remove(0);
    assert_eq!(record["legs"][0]["transport"], "tls", "{record}");
    assert_eq!(record["end"]["class"], "ok", "{record}");
    server.stop();
}

#[test]
fn a_phone_passes_its_call_on() {
    let devices = format!("{DEVICES}\n[[devices]]\nuser = \"carol\"\npassword = \"c-secret\"\nnumbers = [\"103\"]\n");
    let server = Server::start_with(&devices, tempfile::tempdir().unwrap(), &["rtp.codecs=[\"PCMU\"]"]);
    let alice = Phone::register(&server, "alice", "a-secret", "udp");
    let mut bob = Phone::register(&server, "bob", "b-secret", "udp");
    let carol = Phone::register(&server, "carol", "c-secret", "tcp");
    wait_for_registrations(&server, 3);
    bob.baresip.type_line(&format!("/dial sip:101@{}", server.sip));
    bob.wait_for("Call established");
    alice.wait_for("incoming rtp");
    bob.baresip.type_line(&format!("/transfer sip:103@{}", server.sip));
    carol.wait_for("Call established");
    carol.wait_for("incoming rtp");
    assert!(!alice.printed().contains("session closed"), "{}", alice.printed());
    // Carol sees Alice, whom she speaks with.
    assert!(carol.printed().contains("alice") || carol.printed().contains("101"), "{}", carol.printed());
    alice.quit();
    carol.wait_for("session closed");
    let record = server.wait_for_records(1).remove(0);
    let labels: Vec<&str> =
        record["legs"].as_array().unwrap().iter().map(|leg| leg["label"].as_str().unwrap()).collect();
    assert_eq!(labels, ["device alice/1", "device carol/1"], "{record}");
    server.stop();
}

/// Conforms: RFC 3264 §8.4 — a call on hold: whoever waits hears music, and is heard again afterwards (baresip).
#[test]
fn a_phone_on_hold_hears_music() {
    let server = Server::start_with(DEVICES, tempfile::tempdir().unwrap(), &["rtp.codecs=[\"PCMU\"]"]);
    let mut bob = Phone::register(&server, "bob", "b-secret", "udp");
    wait_for_registrations(&server, 1);
    let uri = server.uri("102");
    let arguments = ["call", &uri, "--from", "alice", "--password", "a-secret", "--listen", "127.0.0.1:0"];
    let mut alice = Running::start(Command::new(OMNIVOX).current_dir(server.folder.path()).args(arguments).args([
        "--record",
        "alice.wav",
        "--duration",
        "14",
        "--json",
    ]));
    bob.wait_for("incoming rtp");
    let heard = server.folder.path().join("alice.wav");
    // Music is to be heard for a while, and speech after it.
    let pass = |seconds: u64| {
        let until = Instant::now() + Duration::from_secs(seconds);
        wait_for("time to pass", PATIENCE, || (Instant::now() >= until).then_some(()), String::new);
    };
    pass(3);
    bob.baresip.type_line("/hold");
    pass(4);
    bob.baresip.type_line("/resume");
    assert!(alice.wait(PATIENCE).success(), "{}", alice.stderr());
    let ladder = server.get("/calls/latest/trace").1;
    assert_eq!(
        ladder.matches("INVITE (SDP)").count(),
        5,
        "one refused, one taken, one sent on, hold, resume:\n{ladder}"
    );
    let reader = hound::WavReader::open(&heard).unwrap();
    let samples: Vec<f64> = reader.into_samples::<i16>().map(|sample| f64::from(sample.unwrap())).collect();
    let far_side: Vec<f64> = samples.chunks(2).map(|pair| pair[0]).collect();
    let loudness: Vec<f64> = far_side
        .chunks(8_000)
        .map(|second| (second.iter().map(|x| x * x).sum::<f64>() / second.len() as f64).sqrt())
        .collect();
    // What Bob's microphone gives after his first sentence is noise of a few steps; music is far louder.
    assert!(loudness.iter().skip(3).any(|loudness| *loudness > 50.0), "no music: {loudness:?}");
    assert!(loudness.last().is_some_and(|loudness| *loudness < 50.0), "music to the end: {loudness:?}");
    server.stop();
}

/// Conforms: RFC 3261 §8.1.3.4 — a phone's redirection is followed, to whom its account may call.
#[tokio::test]
async fn a_phone_sends_its_callers_on() {
    use sip::endpoint::OutgoingRequest;
    use sip::{Event, Method, SipStack, StackConfig};
    let server = Server::start_with(DEVICES, tempfile::tempdir().unwrap(), &["rtp.codecs=[\"PCMU\"]"]);
    let bob = Phone::register(&server, "bob", "b-secret", "udp");
    let listen = vec!["udp:127.0.0.1:0".parse().unwrap()];
    let (alice, mut events) = SipStack::bind(StackConfig { listen, ..StackConfig::default() }).unwrap();
    let route = alice.resolve(&server.uri("alice")).await.unwrap();
    let own = route.local;
    let address = format!("<sip:alice@{}>", server.sip);
    let uri = format!("sip:{}", server.sip);
    let mut register = OutgoingRequest::new(Method::Register, &uri, &address, route.destination, own);
    register.to = Some(address.clone());
    register.contact = Some(format!("<sip:alice@{own}>"));
    register.credentials = Some(sip::auth::Credentials { username: "alice".into(), password: "a-secret".into() });
    alice.request(register).await.unwrap();
    wait_for_registrations(&server, 2);
    let elsewhere = format!("<sip:102@{}>", server.sip);
    let away = tokio::spawn(async move {
        while let Some(event) = events.recv().await {
            if let Event::Incoming { call, .. } = event {
                alice.reject(call, 302, "Moved Temporarily", vec![("Contact".into(), elsewhere.clone())]).unwrap();
            }
        }
    });
    let folder = server.folder.path().to_owned();
    let (uri, listen) = (server.uri("alice"), "127.0.0.1:0");
    let call = tokio::task::spawn_blocking(move || {
        let call =
            ["call", &uri, "--from", "bob", "--password", "b-secret", "--listen", listen, "--duration", "1", "--json"];
        omnivox(&folder, &call)
    });
    let call = call.await.unwrap();
    assert!(call.status.success(), "{}\n{}", told(&call), server.get("/calls/latest/trace").1);
    bob.wait_for("Call established");
    away.abort();
    let record = server.wait_for_records(1).remove(0);
    let labels: Vec<&str> =
        record["legs"].as_array().unwrap().iter().map(|leg| leg["label"].as_str().unwrap()).collect();
    assert_eq!(labels, ["device alice/1", "device bob/1"], "{record}");
    server.stop();
}

#[test]
fn a_registration_outlives_a_restart() {
    let port = free_port();
    let listen = format!("sip.listen=[\"udp:127.0.0.1:{port}\",\"tcp:127.0.0.1:{port}\"]");
    let first = Server::start_with(DEVICES, tempfile::tempdir().unwrap(), &[&listen]);
    let alice = Phone::register(&first, "alice", "a-secret", "udp");
    wait_for_registrations(&first, 1);
    let Server { process, folder, .. } = first;
    process.signal("TERM");
    drop(process);
    let second = Server::start_with(DEVICES, folder, &[&listen]);
    let uri = format!("sip:alice@{}", second.sip);
    let call = ["call", &uri, "--from", "bob", "--password", "b-secret", "--duration", "1", "--json"];
    let call = omnivox(second.folder.path(), &call);
    assert!(call.status.success(), "{}\n{}", told(&call), second.process.stderr());
    let record: serde_json::Value = serde_json::from_slice(&call.stdout).unwrap();
    assert!(record["answered_at"].is_string(), "{record}");
    alice.wait_for("Call established");
    second.stop();
}

#[test]
fn who_cannot_prove_to_be_a_device_calls_nobody_and_learns_nothing() {
    let server = Server::start_with(DEVICES, tempfile::tempdir().unwrap(), &["guard.trusted=[]", "guard.failures=3"]);
    let folder = server.folder.path().to_owned();
    let call = |user: &str, more: &[&str]| {
        let uri = server.uri(user);
        let output = omnivox(&folder, &[&["call", uri.as_str(), "--json", "--answer-within", "3"], more].concat());
        let record: serde_json::Value =
            serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", told(&output)));
        record["end"]["detail"].as_str().unwrap_or_default().to_owned()
    };
    // Somebody who exists and somebody who does not are told of alike.
    assert_eq!(call("alice", &[]), call("nobody", &[]));
    assert!(call("alice", &[]).contains("407"));
    // The built-in numbers are for all.
    let echo = omnivox(&folder, &["call", &server.uri("bye"), "--json"]);
    assert!(echo.status.success(), "{}", told(&echo));
    // Who is right is told that the phone is not there.
    assert!(call("alice", &["--from", "bob", "--password", "b-secret"]).contains("480"));
    // Who guesses is not listened to for long.
    for _ in 0..4 {
        call("alice", &["--from", "bob", "--password", "guess"]);
    }
    let silent = call("alice", &["--from", "bob", "--password", "b-secret"]);
    assert!(!silent.contains("480"), "{silent}");
    let refused = server.get("/metrics").1;
    assert!(!refused.is_empty());
    server.stop();
}

#[test]
fn a_wrong_password_registers_nobody() {
    let server = Server::start_with(DEVICES, tempfile::tempdir().unwrap(), &[]);
    let thief = Phone::register(&server, "alice", "guess", "udp");
    thief.wait_for("401");
    assert_eq!(registrations(&server), 0);
    server.stop();
}
