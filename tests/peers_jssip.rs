//! A phone in a browser: JsSIP in headless Chromium registers over secure WebSocket, calls the agent and is called.
#![allow(unreachable_pub, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "common/caller.rs"]
mod caller;
mod common;

use std::path::Path;
use std::process::Command;

use common::{PATIENCE, Running, Server, free_port, omnivox, told, wait_for};

const DEVICES: &str =
    "[[devices]]\nuser = \"alice\"\npassword = \"a-secret\"\n[[devices]]\nuser = \"bob\"\npassword = \"b-secret\"\n";

/// A server that browsers reach at this port, with a certificate of its own making.
fn server() -> (Server, u16) {
    let folder = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    let pem = folder.path().join("server.pem");
    std::fs::write(&pem, format!("{}{}", made.cert.pem(), made.signing_key.serialize_pem())).unwrap();
    let (udp, wss) = (free_port(), free_port());
    let listen = format!("sip.listen=[\"udp:127.0.0.1:{udp}\",\"wss:127.0.0.1:{wss}\"]");
    let certificates = format!("tls.certificates=[\"{}\"]", pem.display());
    (Server::start_with(DEVICES, folder, &[&listen, &certificates]), wss)
}

/// Chromium with the phone's page.
fn browser(server: &Server, port: u16, password: &str) -> Running {
    browser_that(server, &format!("#127.0.0.1:{port}|alice|{password}"), None)
}

/// The same at this part of the page's address, with `wav` for a microphone.
fn browser_that(server: &Server, does: &str, wav: Option<&Path>) -> Running {
    let bundle = std::env::var("OMNIVOX_TEST_BROWSER").expect("scripts/test says where JsSIP is") + "/phone.bundle.js";
    let script = std::fs::read_to_string(&bundle).unwrap_or_else(|fault| panic!("{bundle}: {fault}"));
    let page = server.folder.path().join("phone.html");
    std::fs::write(&page, format!("<!doctype html><title>phone</title><script>{script}</script>")).unwrap();
    let at = format!("file://{}{does}", page.display());
    let profile = format!("--user-data-dir={}", server.folder.path().join("profile").display());
    let flags = ["--headless=new", "--no-sandbox", "--disable-gpu", "--ignore-certificate-errors"];
    let logs = ["--enable-logging=stderr", "--no-first-run", "--disable-background-networking"];
    let sound = ["--use-fake-ui-for-media-stream", "--use-fake-device-for-media-stream"];
    let free = ["--autoplay-policy=no-user-gesture-required"];
    let microphone = wav.map(|wav| format!("--use-file-for-fake-audio-capture={}%noloop", wav.display()));
    let arguments = flags.iter().chain(&logs).chain(&sound).chain(&free);
    Running::start(Command::new("chromium").args(arguments).args(microphone).args([&profile, &at]))
}

fn registrations(server: &Server) -> Vec<serde_json::Value> {
    let text = std::fs::read_to_string(server.folder.path().join("data/registrations.json")).unwrap_or_default();
    serde_json::from_str(&text).unwrap_or_default()
}

fn said(browser: &Running) -> String {
    browser.stderr().lines().filter(|line| line.contains("CONSOLE")).map(|line| format!("{line}\n")).collect()
}

/// Conforms: RFC 7118 §5 — a browser (Chromium with JsSIP) registers over secure WebSocket, with outbound and digest.
#[test]
fn a_browser_registers_over_secure_web_socket_and_is_forgotten_when_it_is_closed() {
    let (server, port) = server();
    let chromium = browser(&server, port, "a-secret");
    let found = wait_for(
        "the browser's registration",
        PATIENCE,
        || registrations(&server).into_iter().next(),
        || said(&chromium) + &server.process.stderr(),
    );
    assert_eq!(found["user"], "alice", "{found}");
    assert_eq!(found["source"][0], "wss", "{found}");
    assert!(found["agent"].as_str().unwrap().contains("JsSIP"), "{found}");
    wait_for(
        "the page to know",
        PATIENCE,
        || said(&chromium).contains("registered").then_some(()),
        || chromium.stderr(),
    );
    drop(chromium);
    wait_for(
        "the registration to go with its connection",
        PATIENCE,
        || registrations(&server).is_empty().then_some(()),
        || server.process.stderr(),
    );
    server.stop();
}

#[test]
fn a_browser_with_a_wrong_password_is_told_so() {
    let (server, port) = server();
    let chromium = browser(&server, port, "guess");
    wait_for(
        "the page to be refused",
        PATIENCE,
        || said(&chromium).contains("registrationFailed").then_some(()),
        || chromium.stderr() + &server.process.stderr(),
    );
    assert!(registrations(&server).is_empty());
    server.stop();
}

/// How loud the page hears the other side, over time.
fn loudness(browser: &Running) -> Vec<f64> {
    let told = said(browser);
    let figure = |line: &str| line.split("loudness ").nth(1)?.split('"').next()?.parse().ok();
    told.lines().filter_map(figure).collect()
}

/// Conforms: RFC 8445 — a browser (Chromium with JsSIP) is understood by the agent and hears it, over ICE and DTLS-SRTP with Opus.
#[test]
fn a_browser_calls_the_agent_is_understood_and_hears_the_answer() {
    let (server, port) = server();
    server.wait_until_ready();
    let says = [(7.0, "What are your opening hours?")];
    let wav = caller::wav(server.folder.path(), "question", 16_000, &says, 60.0);
    // It hangs up when the agent has answered.
    let chromium = browser_that(&server, &format!("?22000=hangUp#127.0.0.1:{port}|alice|a-secret|agent"), Some(&wav));
    let record = wait_for(
        "the call's record",
        PATIENCE,
        || server.records().into_iter().next(),
        || chromium.stderr() + &server.process.stderr(),
    );
    let told = || format!("{record}\n{}", said(&chromium));
    assert_eq!((&record["srtp"], &record["codec"]), (&"dtls".into(), &"opus".into()), "{}", told());
    assert_eq!(record["end"]["reason"], "caller_hung_up", "{}", told());
    assert_eq!(record["agent"]["turns"][1]["text"], "what are your opening hours", "{}", told());
    assert_eq!(record["agent"]["turns"][2]["who"], "agent", "{}", told());
    let heard = loudness(&chromium).into_iter().filter(|rms| *rms > 0.01).count();
    assert!(heard >= 8, "two seconds of speech are heard: {}", told());
    assert!(said(&chromium).contains("connection connected"), "{}", told());
    server.stop();
}

/// A phone of the house calls one in a browser: our offer is one that browsers take, and both hear each other.
#[test]
fn a_browser_is_called_by_a_phone_and_both_hear_each_other() {
    let (server, port) = server();
    let wav = caller::wav(server.folder.path(), "said", 16_000, &[(1.0, "Hello, this is a page."); 1], 60.0);
    let chromium = browser_that(&server, &format!("#127.0.0.1:{port}|alice|a-secret"), Some(&wav));
    wait_for(
        "the browser's registration",
        PATIENCE,
        || registrations(&server).into_iter().next(),
        || said(&chromium) + &server.process.stderr(),
    );
    let (uri, heard) = (server.uri("alice"), server.folder.path().join("heard.wav"));
    let who = [
        "call",
        &uri,
        "--from",
        "bob",
        "--password",
        "b-secret",
        "--listen",
        "127.0.0.1:0",
        "--json",
        "--duration",
        "7",
    ];
    let does = [
        "--say",
        "Hello page, this is a telephone that speaks to you for a while.",
        "--record",
        heard.to_str().unwrap(),
    ];
    let call = omnivox(server.folder.path(), &[&who[..], &does].concat());
    assert!(call.status.success(), "{}\n{}\n{}", told(&call), said(&chromium), server.process.stderr());
    let record = server.wait_for_records(1).remove(0);
    let leg = &record["legs"][0];
    assert_eq!(
        (&leg["label"], &leg["srtp"], &leg["codec"]),
        (&"device alice/1".into(), &"dtls".into(), &"opus".into()),
        "{record}"
    );
    let page_heard = loudness(&chromium).into_iter().filter(|rms| *rms > 0.01).count();
    assert!(page_heard >= 4, "the page hears the telephone: {record}\n{}", said(&chromium));
    let mut wav = hound::WavReader::open(&heard).unwrap();
    let loud = wav.samples::<i16>().step_by(2).filter(|sample| sample.as_ref().unwrap().unsigned_abs() > 1_000).count();
    assert!(loud > 1_000, "the telephone hears the page: {loud}");
    server.stop();
}

/// Conforms: RFC 8842 §5.1 — a hold and its end (re-INVITEs with ICE and a fingerprint) keep path and keys.
#[test]
fn a_browser_holds_its_call_and_takes_it_back() {
    let (server, port) = server();
    let says: Vec<(f64, &str)> = (0..12).map(|n| (f64::from(n) * 2.0, "One two three four.")).collect();
    let wav = caller::wav(server.folder.path(), "counting", 16_000, &says, 60.0);
    let does = format!("?6000=hold&10000=unhold&15000=hangUp#127.0.0.1:{port}|alice|a-secret|echo");
    let chromium = browser_that(&server, &does, Some(&wav));
    let record = wait_for(
        "the call's record",
        PATIENCE,
        || server.records().into_iter().next(),
        || chromium.stderr() + &server.process.stderr(),
    );
    let told = || format!("{record}\n{}", said(&chromium));
    assert_eq!((&record["end"]["reason"], &record["srtp"]), (&"caller_hung_up".into(), &"dtls".into()), "{}", told());
    assert!(record["media"]["bad_tags"].as_u64().unwrap() == 0, "{}", told());
    let heard = loudness(&chromium);
    let is_loud = |part: &[f64]| part.iter().filter(|rms| **rms > 0.01).count() >= 3;
    // Four figures a second, from the answer on: before the hold, within it, and at the end.
    let (first, last) = (&heard[..heard.len() / 3], &heard[heard.len() * 3 / 4..]);
    assert!(is_loud(first) && is_loud(last), "its own sound comes back before and after: {heard:?}\n{}", told());
    server.stop();
}
