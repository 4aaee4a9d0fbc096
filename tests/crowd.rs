//! Many calls at once, and many who watch: each call is recorded, and everybody is told everything, in order.
#![allow(unreachable_pub, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;
#[path = "common/person.rs"]
mod person;

use std::collections::HashMap;
use std::process::Command;

use common::{PATIENCE, Running, Server};
use futures::StreamExt;
use person::{Person, add_user};
use serde::Deserialize;
use serde_json::Value;
use tokio::task::JoinSet;
use tokio_tungstenite::tungstenite::Message;
use tokio_tungstenite::tungstenite::client::IntoClientRequest;

/// An agent that is answered by keys.
const KEYPAD: &str = "[agent]\nname = \"keypad\"\n[ear]\nrecognizer = \"none\"\n[script]\nstart = \"menu\"\n[script.states.menu]\n\
    say = \"Press one for our opening hours.\"\non = [{ keys = [\"1\"], say = \"We are here from nine to five.\", next = \"menu\" }]\n";

/// How many calls at once, how many who watch: `OMNIVOX_CROWD=CALLSxWATCHERS`.
fn size() -> (usize, usize) {
    let text = std::env::var("OMNIVOX_CROWD").unwrap_or_else(|_| "24x12".to_owned());
    let (calls, watchers) = text.split_once('x').expect("CALLSxWATCHERS");
    (calls.parse().unwrap(), watchers.parse().unwrap())
}

/// What somebody who watches was told: the kinds of each call's events, in order.
type Told = HashMap<String, Vec<String>>;

type Socket = tokio_tungstenite::WebSocketStream<tokio_tungstenite::MaybeTlsStream<tokio::net::TcpStream>>;

async fn open(url: &str, cookie: &str) -> Socket {
    let mut request = url.into_client_request().unwrap();
    request.headers_mut().insert("cookie", cookie.parse().unwrap());
    tokio_tungstenite::connect_async(request).await.unwrap().0
}

/// What a watcher reads of an event.
#[derive(Deserialize)]
struct Event<'a> {
    id: u64,
    #[serde(rename = "type")]
    kind: &'a str,
    call: &'a str,
}

/// Watches until `calls` calls have ended.
async fn watch(mut socket: Socket, calls: usize) -> Told {
    let (mut told, mut ended, mut last) = (Told::new(), 0, 0);
    while ended < calls {
        let Some(Ok(message)) = socket.next().await else { panic!("the server closed after {ended} calls") };
        let Message::Text(text) = message else { continue };
        let event: Event<'_> = serde_json::from_str(&text).unwrap();
        assert!(event.id > last && event.kind != "gap", "after {last}: {text}");
        last = event.id;
        if !event.call.is_empty() {
            ended += usize::from(event.kind == "call.ended");
            told.entry(event.call.to_owned()).or_default().push(event.kind.to_owned());
        }
    }
    told
}

/// Seconds of processor time that threads of a name took, of a process.
fn cpu_s(process: u32, name: &str) -> f64 {
    let tasks = std::fs::read_dir(format!("/proc/{process}/task")).unwrap();
    let ticks = tasks.flatten().filter_map(|task| {
        let text = std::fs::read_to_string(task.path().join("stat")).ok()?;
        let (head, rest) = text.rsplit_once(')')?;
        let fields: Vec<_> = rest.split_whitespace().collect();
        let ticks = fields.get(11)?.parse::<u32>().ok()? + fields.get(12)?.parse::<u32>().ok()?;
        head.split_once('(')?.1.starts_with(name).then_some(f64::from(ticks))
    });
    ticks.sum::<f64>() / 100.0
}

/// Whether all calls are in the database.
fn journal_is_read(server: &Server, calls: usize) -> bool {
    server.get("/metrics").1.lines().any(|line| line == format!("omnivox_control_records_total {calls}"))
}

#[tokio::test(flavor = "multi_thread")]
async fn each_of_many_calls_is_recorded_and_told_to_everybody_who_watches() {
    let (calls, watchers) = size();
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("agents")).unwrap();
    std::fs::write(folder.path().join("agents/keypad.toml"), KEYPAD).unwrap();
    let settings = ["agents.dir=agents", "log.level=warn", "calls.max=1000"];
    let server = Server::start_in(folder, &settings);
    server.wait_until_ready();
    let (done, says) = add_user(&server, &settings, &["add", "ada"]);
    assert!(done, "{says}");
    let ada = Person::log_in(&server, "ada").await;
    let url = format!("{}/events", ada.base.replace("http:", "ws:"));
    let mut watching = JoinSet::new();
    for _ in 0..watchers {
        // Whoever comes after a call has begun is not told of that.
        let socket = open(&url, &ada.cookie).await;
        watching.spawn(watch(socket, calls));
    }
    let mut load = Command::new(common::program());
    let (calls_text, rate) = (calls.to_string(), (calls / 8).max(4).to_string());
    load.args(["load", &server.uri("keypad"), "--calls", &calls_text, "--rate", &rate, "--hold", "10", "--press", "1"]);
    load.args(["--codec", "PCMU", "--expect", "sound", "--json", "--watch", &server.process.id().to_string()]);
    let mut load = Running::start(&mut load);
    let status = load.wait(PATIENCE * 2);
    let figures: Value = serde_json::from_str(&load.stdout()).unwrap();
    let short =
        ["setup_ms", "round_trip_ms", "mos_lowest", "packets_lost", "watched"].map(|name| (name, &figures[name]));
    let threads = ["media", "tokio-rt", "beside"].map(|name| (name, cpu_s(server.process.id(), name)));
    println!("{calls} calls, {watchers} watchers: {short:?}, processor seconds by threads: {threads:?}");
    assert!(status.success(), "{figures:#}\n{}", load.stderr());

    let records = server.wait_for_records(calls);
    assert_eq!(records.len(), calls);
    for record in &records {
        assert_eq!(record["end"]["class"], "ok", "{record}");
        let turns = record["agent"]["turns"].as_array().unwrap();
        assert!(turns.iter().any(|turn| turn["by"] == "keys" && turn["who"] == "caller"), "{record}");
    }
    common::wait_for("the journal to be read", PATIENCE, || journal_is_read(&server, calls).then_some(()), String::new);
    assert_eq!(ada.records().await.len(), calls);
    for record in &records {
        let call = record["call"].as_str().unwrap();
        let transcript = ada.read(&format!("/call-records/{call}/transcript")).await;
        assert_eq!(transcript["turns"].as_array().unwrap().len(), record["agent"]["turns"].as_array().unwrap().len());
    }
    let mut seen = 0;
    while let Some(told) = tokio::time::timeout(PATIENCE, watching.join_next()).await.expect("all are told") {
        let told = told.unwrap();
        assert_eq!(told.len(), calls);
        for record in &records {
            let kinds = &told[record["call"].as_str().unwrap()];
            let place = |wanted: &str| kinds.iter().position(|kind| kind == wanted);
            let count = |wanted: &str| kinds.iter().filter(|kind| *kind == wanted).count();
            assert_eq!((place("call.started"), count("call.started")), (Some(0), 1), "{kinds:?}");
            assert_eq!((place("call.ended"), count("call.ended")), (Some(kinds.len() - 1), 1), "{kinds:?}");
            assert_eq!(count("turn"), record["agent"]["turns"].as_array().unwrap().len(), "{kinds:?}");
        }
        seen += 1;
    }
    assert_eq!(seen, watchers);
    server.stop();
}
