//! The control plane beside real calls: whoever is logged in sees them, acts on them, and finds what they left behind; on SQLite and on
//! PostgreSQL.
#![allow(unreachable_pub, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;
#[path = "common/person.rs"]
mod person;

use std::io::Write;
use std::process::{Command, Stdio};

use common::{OMNIVOX, PATIENCE, Server, omnivox, told};
use futures::StreamExt;
use person::{PASSWORD, Person, add_user, call, only, postgres};
use reqwest::{Method, StatusCode};
use serde_json::{Value, json};

async fn a_call_is_seen_acted_on_and_kept(settings: &[&str]) {
    let server = Server::start(settings);
    server.wait_until_ready();
    assert!(server.process.stderr().contains("nobody administers this server yet"));
    let (done, says) = add_user(&server, settings, &["add", "Ada"]);
    assert!(done, "{says}");
    let ada = Person::log_in(&server, "ada").await;
    let (sender, mut events) = tokio::sync::mpsc::unbounded_channel();
    let mut stream = ada.request(Method::GET, "/events").send().await.unwrap().bytes_stream();
    tokio::spawn(async move {
        while let Some(Ok(bytes)) = stream.next().await {
            let _ = sender.send(String::from_utf8_lossy(&bytes).into_owned());
        }
    });

    let mut phone = call(&server, "echo");
    let live = ada.wait("/calls", |calls| only(calls).filter(|call| call["state"] == "up")).await;
    assert_eq!((&live["target"], &live["direction"]), (&json!("echo"), &json!("inbound")));
    let id = live["call"].as_str().unwrap().to_owned();
    let (status, _) = ada.ask(Method::PUT, &format!("/calls/{id}/hold"), json!({ "on": true })).await;
    assert_eq!(status, StatusCode::CONFLICT, "nobody is held who speaks with an echo");
    let (status, _) = ada.ask(Method::POST, &format!("/calls/{id}/transfer"), json!({ "to": "park-7" })).await;
    assert_eq!(status, StatusCode::CONFLICT, "nor passed on");
    let (status, _) = ada.ask(Method::DELETE, &format!("/calls/{id}"), json!({})).await;
    assert_eq!(status, StatusCode::ACCEPTED);
    phone.wait(PATIENCE);
    let record = ada.wait("/call-records", only).await;
    assert_eq!((&record["call"], &record["target"]), (&json!(id), &json!("echo")));
    assert_eq!(record["reason"], server.wait_for_records(1)[0]["end"]["reason"]);
    assert!(ada.read("/calls").await["items"].as_array().unwrap().is_empty());
    let mut told = String::new();
    while !told.contains("call.ended") {
        told.push_str(&events.recv().await.unwrap());
    }
    let place = |kind: &str| told.find(&format!("event: {kind}")).unwrap_or_else(|| panic!("no {kind}: {told}"));
    assert!(place("call.started") < place("call.changed") && place("call.changed") < place("call.ended"));

    // A call that the server begins, with an agent once somebody answers.
    let (status, problem) =
        ada.ask(Method::POST, "/calls", json!({ "to": "no-such-device", "connect_with": "agent" })).await;
    assert_eq!((status, &problem["errors"][0]["field"]), (StatusCode::UNPROCESSABLE_ENTITY, &json!("to")));
    let (status, problem) =
        ada.ask(Method::POST, "/calls", json!({ "to": "x", "connect_with": "no such agent" })).await;
    assert_eq!((status, &problem["errors"][0]["field"]), (StatusCode::UNPROCESSABLE_ENTITY, &json!("connect_with")));
    // Whom one may supervise is asked where one says whom.
    let (status, problem) =
        ada.ask(Method::POST, "/calls", json!({ "to": "x", "connect_with": "listen-somebody" })).await;
    assert_eq!((status, &problem["errors"][0]["field"]), (StatusCode::UNPROCESSABLE_ENTITY, &json!("connect_with")));
    server.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_is_seen_acted_on_and_kept_with_nothing_set_up() {
    a_call_is_seen_acted_on_and_kept(&[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_call_is_seen_acted_on_and_kept_in_postgresql() {
    a_call_is_seen_acted_on_and_kept(&[&postgres()]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conversation_is_read_and_heard_afterwards_also_where_it_was_sealed() {
    let folder = tempfile::tempdir().unwrap();
    let key = omnivox(folder.path(), &["recording", "key"]);
    std::fs::write(folder.path().join("key"), &key.stdout).unwrap();
    let sealed = format!("calls.record_key_file={}", folder.path().join("key").display());
    for settings in [vec![], vec![sealed.as_str()]] {
        let server = Server::start(&settings);
        server.wait_until_ready();
        let (done, says) = add_user(&server, &settings, &["add", "ada"]);
        assert!(done, "{says}");
        let ada = Person::log_in(&server, "ada").await;
        let ports = format!("rtp.ports={}", common::rtp_ports());
        let said = omnivox(server.folder.path(), &["call", &server.uri("agent"), "--duration", "4", "--set", &ports]);
        assert!(said.status.success(), "{}", told(&said));
        let record = ada.wait("/call-records", only).await;
        assert_eq!(record["recorded"], true);
        let path = format!("/call-records/{}", record["call"].as_str().unwrap());
        let turns = ada.read(&format!("{path}/transcript")).await["turns"].as_array().unwrap().clone();
        assert_eq!(turns[0]["speaker"], "agent");
        let word = turns[0]["text"].as_str().unwrap().split_whitespace().next().unwrap().to_owned();
        assert!(
            only(
                &ada.read(&format!("/call-records?words={}", word.trim_matches(|c: char| !c.is_alphanumeric()))).await
            )
            .is_some()
        );
        let sound = ada.request(Method::GET, &format!("{path}/recording")).send().await.unwrap();
        assert_eq!(sound.headers()["content-type"], "audio/wav");
        let file = server.folder.path().join("heard.wav");
        std::fs::write(&file, sound.bytes().await.unwrap()).unwrap();
        let wav = hound::WavReader::open(&file).unwrap();
        assert_eq!(wav.spec().channels, 2);
        let loud = wav.into_samples::<i16>().map(Result::unwrap).skip(1).step_by(2).any(|sample| sample.abs() > 1_000);
        assert!(loud, "the agent is on the right");
        server.stop();
    }
}

#[test]
fn users_are_added_by_the_command_line_with_passwords_that_hold() {
    let folder = tempfile::tempdir().unwrap();
    let run = |arguments: &[&str], line: &str| {
        let mut command = Command::new(OMNIVOX);
        command
            .current_dir(folder.path())
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped());
        let mut running = command.spawn().unwrap();
        writeln!(running.stdin.take().unwrap(), "{line}").unwrap();
        let output = running.wait_with_output().unwrap();
        (output.status.success(), told(&output))
    };
    let (done, says) = run(&["user", "add", "ada"], "short");
    assert!(!done && says.contains("at least 12 characters"), "{says}");
    let add = ["user", "add", "ada", "--role", "operator", "--device", "phone1"];
    let (done, says) = run(&add, PASSWORD);
    assert!(!done && says.contains("no device is called phone1: there is none yet. Add it first"), "{says}");
    let devices =
        |names: [&str; 2]| names.map(|name| format!("[[devices]]\nuser = \"{name}\"\npassword = \"x\"\n")).concat();
    std::fs::write(folder.path().join("omnivox.toml"), devices(["alice", "phone2"])).unwrap();
    let (done, says) = run(&add, PASSWORD);
    assert!(!done && says.contains("there are alice, phone2. Add it first"), "{says}");
    std::fs::write(folder.path().join("omnivox.toml"), devices(["alice", "phone1"])).unwrap();
    assert!(run(&add, PASSWORD).0);
    let (done, says) = run(&["user", "add", "Ada"], PASSWORD);
    assert!(!done && says.contains("name ada is taken"), "{says}");
    let (done, says) = run(&["user", "passwd", "bob"], PASSWORD);
    assert!(!done && says.contains("no user is called bob"), "{says}");
    assert!(run(&["user", "passwd", "ada"], "gravel sonnet orbit").0);
    let (_, says) = run(&["user", "list", "--json"], "");
    assert!(says.contains("\"name\":\"ada\"") && says.contains("phone1") && !says.contains("argon2"), "{says}");
    let (_, says) = run(&["migrate", "status"], "");
    assert!(says.contains("people") && !says.contains("not applied"), "{says}");
    assert!(run(&["migrate", "down", "1"], "").0);
    assert!(run(&["migrate", "status"], "").1.contains("not applied"));
    assert!(run(&["migrate", "up"], "").0);
}

/// An agent that says one sentence and listens.
fn greeter(sentence: &str) -> String {
    format!(
        "[agent]\nname = \"greeter\"\n[ear]\nrecognizer = \"none\"\n[script]\nstart = \"hello\"\n[script.states.hello]\nsay = \"{sentence}\"\n\
         on = [{{ keys = [\"1\"], next = \"hello\" }}]\n"
    )
}

#[tokio::test(flavor = "multi_thread")]
async fn what_people_have_set_up_is_checked_with_the_configuration() {
    let folder = tempfile::tempdir().unwrap();
    let phone = |name: &str| format!("[[devices]]\nuser = \"{name}\"\npassword = \"x\"\n");
    let server = Server::start_with(&phone("bob"), folder, &[]);
    server.wait_until_ready();
    assert!(add_user(&server, &[], &["add", "ada"]).0);
    let ada = Person::log_in(&server, "ada").await;
    let add = async |kind: &str, value: Value| {
        let (status, says) = ada.ask(Method::POST, &format!("/{kind}"), value).await;
        assert_eq!(status, StatusCode::CREATED, "{says}");
    };
    add("devices", json!({ "user": "alice", "password": "walrus-pedal" })).await;
    add("numbers", json!({ "number": "+4930123", "to": "user bob" })).await;
    add("routes", json!({ "name": "office", "called": "+4930124*", "to": "queue alice bob" })).await;
    // Names of the database are known to the command line too.
    let (done, says) = add_user(&server, &[], &["add", "bea", "--device", "alice"]);
    assert!(done, "{says}");
    let check = || {
        let output = common::omnivox(server.folder.path(), &["check", "--json"]);
        let found: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
        let of_database = |one: &&Value| one["what"].as_str().unwrap().contains("(database)");
        found.iter().filter(of_database).cloned().collect::<Vec<Value>>()
    };
    let found = check();
    assert_eq!((found.len(), &found[0]["verdict"]), (1, &json!("ok")), "{found:?}");
    // The file changes, and what leans on it does not fit any more.
    std::fs::write(server.folder.path().join("omnivox.toml"), phone("carol")).unwrap();
    let found = check();
    let named: Vec<&str> = found.iter().map(|one| one["what"].as_str().unwrap()).collect();
    assert_eq!(named, ["numbers.+4930123 (database)", "routes.office (database)"], "{found:?}");
    let says = found[0]["says"].as_str().unwrap();
    assert!(found[0]["verdict"] == "fault" && says.contains("no device is called so"), "{says}");
    assert!(says.contains("PUT or DELETE /api/v1/numbers/NAME"), "{says}");
    server.stop();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_people_set_up_while_it_runs_takes_the_next_call() {
    let server = Server::start(&[]);
    server.wait_until_ready();
    let (done, says) = add_user(&server, &[], &["add", "ada"]);
    assert!(done, "{says}");
    let ada = Person::log_in(&server, "ada").await;
    let definition = greeter("Welcome to the night shift.");
    let (status, agent) = ada.ask(Method::POST, "/agents", json!({ "name": "night", "definition": definition })).await;
    assert_eq!(status, StatusCode::CREATED, "{agent}");
    let route = json!({ "name": "hotline", "from": ["anyone"], "called": "hotline", "to": "agent night" });
    let (status, problem) = ada.ask(Method::POST, "/routes", route.clone()).await;
    assert_eq!((status, &problem["errors"][0]["field"]), (StatusCode::UNPROCESSABLE_ENTITY, &json!("to")), "not yet");
    let (status, device) =
        ada.ask(Method::POST, "/devices", json!({ "user": "alice", "password": "walrus-pedal" })).await;
    assert_eq!((status, &device["max_contacts"], &device["password"]), (StatusCode::CREATED, &json!(5), &json!(null)));
    let (status, problem) = ada.ask(Method::POST, "/trunks", json!({ "name": "carrier" })).await;
    assert_eq!((status, &problem["errors"][0]["field"]), (StatusCode::UNPROCESSABLE_ENTITY, &json!("hosts")));
    let (status, published) = ada.ask(Method::PUT, "/agents/night/published", json!({ "version": 1 })).await;
    assert_eq!((status, &published["published"]), (StatusCode::OK, &json!(1)));
    let (status, problem) = ada.ask(Method::POST, "/routes", route.clone()).await;
    assert_eq!(status, StatusCode::CREATED, "{problem}");

    let (sender, mut events) = tokio::sync::mpsc::unbounded_channel();
    let mut stream = ada.request(Method::GET, "/events").send().await.unwrap().bytes_stream();
    tokio::spawn(async move {
        while let Some(Ok(bytes)) = stream.next().await {
            let _ = sender.send(String::from_utf8_lossy(&bytes).into_owned());
        }
    });
    let mut seen = String::new();
    let mut phone = call(&server, "hotline");
    let live = ada.wait("/calls", |calls| only(calls).filter(|call| call["state"] == "up")).await;
    let id = live["call"].as_str().unwrap().to_owned();
    assert_eq!(live["target"], "night");
    let (status, _) =
        ada.ask(Method::POST, &format!("/calls/{id}/say"), json!({ "text": "A colleague is on the way." })).await;
    assert_eq!(status, StatusCode::ACCEPTED);
    let ladder = ada.request(Method::GET, &format!("/calls/{id}/trace")).send().await.unwrap().text().await.unwrap();
    assert!(ladder.contains("INVITE"), "{ladder}");
    let capture = ada.request(Method::GET, &format!("/calls/{id}/trace.pcap")).send().await.unwrap();
    assert_eq!(capture.bytes().await.unwrap()[..4], 0xa1b2_3c4d_u32.to_le_bytes());
    // The turn is told of once it was heard.
    while !seen.contains("A colleague is on the way") {
        seen.push_str(&events.recv().await.unwrap());
    }
    let (status, _) = ada.ask(Method::DELETE, &format!("/calls/{id}"), json!({})).await;
    assert_eq!(status, StatusCode::ACCEPTED);
    phone.wait(PATIENCE);
    server.wait_for_records(1);

    // What is taken away is gone with the next call: whoever calls is asked who they are, since there is a device now.
    let (status, _) = ada.ask(Method::DELETE, "/routes/hotline", Value::Null).await;
    assert_eq!(status, StatusCode::NO_CONTENT);
    let ports = format!("rtp.ports={}", common::rtp_ports());
    let refused = omnivox(server.folder.path(), &["call", &server.uri("hotline"), "--duration", "5", "--set", &ports]);
    assert!(!refused.status.success() && told(&refused).contains("407"), "{}", told(&refused));
    server.stop();
}
