//! What commands other than `serve` say where something is not as it should be, and what `serve` does where it is told twice.
#![allow(unreachable_pub, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use common::{OMNIVOX, PATIENCE, Running, Server, omnivox, told, wait_for};

/// Has to fail, and say this.
fn refused(folder: &Path, arguments: &[&str], says: &str) {
    let output = omnivox(folder, arguments);
    assert!(!output.status.success(), "{arguments:?}: {}", told(&output));
    let text = told(&output);
    assert!(text.contains(says) && !text.contains("panicked"), "{arguments:?}: {text}");
}

#[test]
fn a_call_that_nobody_answers_ends_when_it_was_said_to() {
    let folder = tempfile::tempdir().unwrap();
    // Bound and silent, as a machine is that has hung.
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let uri = format!("sip:x@{}", silent.local_addr().unwrap());
    let begun = Instant::now();
    let call = omnivox(folder.path(), &["call", &uri, "--answer-within", "2", "--json"]);
    let took = begun.elapsed();
    assert!(took > Duration::from_secs(2) && took < Duration::from_secs(12), "{took:?}");
    assert!(!call.status.success(), "{}", told(&call));
    let record: serde_json::Value = serde_json::from_slice(&call.stdout).unwrap();
    assert_eq!(record["end"]["reason"], "no_answer", "{record}");
    assert_eq!(record["end"]["detail"], "nobody answered within 2 s");
}

#[test]
fn a_file_that_cannot_be_made_is_told_before_anybody_is_called() {
    let folder = tempfile::tempdir().unwrap();
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let uri = format!("sip:x@{}", silent.local_addr().unwrap());
    let call = omnivox(folder.path(), &["call", &uri, "--record", "nodir/x.wav"]);
    let text = told(&call);
    assert!(!call.status.success() && text.contains("--record nodir/x.wav"), "{text}");
    assert!(!text.contains("recorded to") && !text.contains("caller_fault"), "{text}");
    silent.set_nonblocking(true).unwrap();
    assert!(silent.recv(&mut [0; 1_500]).is_err(), "nobody was called");
    // Where nobody answered nothing is recorded, and no empty file stays.
    let call = omnivox(folder.path(), &["call", &uri, "--record", "x.wav", "--answer-within", "1"]);
    assert!(!told(&call).contains("recorded to"), "{}", told(&call));
}

#[test]
fn a_process_that_is_not_there_is_not_watched() {
    let folder = tempfile::tempdir().unwrap();
    refused(folder.path(), &["load", "sip:echo@127.0.0.1:9", "--watch", "4294967295"], "there is no such process");
}

#[test]
fn nothing_panics_where_nobody_reads_what_is_printed() {
    let folder = tempfile::tempdir().unwrap();
    for arguments in
        [&["check"][..], &["check", "--json"], &["models", "list"], &["migrate", "status"], &["recording", "key"]]
    {
        let (reader, writer) = std::io::pipe().unwrap();
        drop(reader);
        let mut command = Command::new(OMNIVOX);
        command.current_dir(folder.path()).args(arguments).stdin(Stdio::null()).stdout(writer).stderr(Stdio::piped());
        let output = command.output().unwrap();
        let text = told(&output);
        assert!(output.status.code().is_some_and(|code| code < 2), "{arguments:?}: {text}");
        assert!(!text.contains("panicked") && !text.contains("Broken pipe"), "{arguments:?}: {text}");
    }
    // Nor where nobody reads what goes wrong.
    let (reader, writer) = std::io::pipe().unwrap();
    drop(reader);
    let mut command = Command::new(OMNIVOX);
    command.current_dir(folder.path()).args(["call", "nobody"]).stdin(Stdio::null()).stderr(writer);
    assert_eq!(command.output().unwrap().status.code(), Some(1));
}

#[test]
fn the_schema_is_looked_at_without_making_it_and_goes_down_to_what_there_was() {
    let folder = tempfile::tempdir().unwrap();
    let status = omnivox(folder.path(), &["migrate", "status"]);
    assert!(status.status.success() && told(&status).contains("not applied"), "{}", told(&status));
    assert!(!folder.path().join("data").exists(), "it was only looked at");
    assert!(omnivox(folder.path(), &["migrate", "up"]).status.success());
    let status = omnivox(folder.path(), &["migrate", "status", "--json"]);
    assert!(!told(&status).contains("\"applied\":false"), "{}", told(&status));
    refused(folder.path(), &["migrate", "down", "999"], "there is no version 999");
    assert!(omnivox(folder.path(), &["migrate", "down", "5"]).status.success());
    refused(folder.path(), &["migrate", "down", "10"], "`omnivox migrate up`");
}

#[test]
fn a_backup_goes_into_a_file_of_its_own() {
    let folder = tempfile::tempdir().unwrap();
    assert!(omnivox(folder.path(), &["migrate", "up"]).status.success());
    assert!(omnivox(folder.path(), &["backup", "one.tar"]).status.success());
    let again = omnivox(folder.path(), &["backup", "one.tar"]);
    let text = told(&again);
    assert!(!again.status.success() && text.contains("name a file that is not"), "{text}");
    assert!(!text.contains("--force"), "{text}");
}

#[test]
fn nothing_is_restored_under_a_server_that_runs() {
    let server = Server::start(&[]);
    server.wait_until_ready();
    let folder = server.folder.path();
    let backup = omnivox(folder, &["backup", "one.tar"]);
    assert!(backup.status.success(), "{}", told(&backup));
    let before = std::fs::read(folder.join("data/control.key")).unwrap();
    refused(folder, &["restore", "one.tar", "--force"], "stop it first");
    refused(folder, &["restore", "one.tar"], "stop it first");
    assert_eq!(std::fs::read(folder.join("data/control.key")).unwrap(), before);
    let data = server.folder.path().to_path_buf();
    let Server { mut process, folder, .. } = server;
    process.signal("TERM");
    assert!(process.wait(PATIENCE).success(), "{}", process.stderr());
    let restored = omnivox(&data, &["restore", "one.tar", "--force"]);
    assert!(restored.status.success(), "{}", told(&restored));
    drop(folder);
}

#[test]
fn a_call_that_ends_after_the_duration_asked_for_says_so_and_blames_nobody() {
    let server = Server::start(&[]);
    server.wait_until_ready();
    let call = omnivox(server.folder.path(), &["call", &server.uri("echo"), "--duration", "1"]);
    let text = told(&call);
    assert!(call.status.success(), "{text}");
    assert!(text.contains("the duration asked for is over") && text.contains("ended: commanded (ok)"), "{text}");
    assert!(!text.contains("max_duration") && !text.contains("our_fault"), "{text}");
    server.stop();
}

#[test]
fn a_database_that_does_not_open_is_told_and_the_rest_is_checked() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("data")).unwrap();
    std::fs::write(folder.path().join("data/omnivox.db"), "this is no database, and long enough to be seen as none")
        .unwrap();
    let text = told(&omnivox(folder.path(), &["check"]));
    let line = text.lines().find(|line| line.starts_with("FAULT  control.database")).unwrap_or_default();
    assert!(line.contains("devices, trunks, routes and numbers that stand in it are not checked"), "{text}");
    assert!(text.contains("agent desk"), "the rest is checked: {text}");
}

#[test]
fn the_configuration_of_the_folder_is_read_and_told() {
    let folder = tempfile::tempdir().unwrap();
    let check = omnivox(folder.path(), &["check"]);
    assert!(told(&check).contains("no file, defaults"), "{}", told(&check));
    let here = folder.path().join("omnivox.toml");
    std::fs::write(&here, "[data]\ndir = \"elsewhere\"\n").unwrap();
    let up = omnivox(folder.path(), &["migrate", "up"]);
    assert!(up.status.success() && told(&up).contains("configuration: omnivox.toml"), "{}", told(&up));
    assert!(folder.path().join("elsewhere/omnivox.db").exists());
    std::fs::write(folder.path().join("other.toml"), "[data]\ndir = \"third\"\n").unwrap();
    assert!(omnivox(folder.path(), &["--config", "other.toml", "migrate", "up"]).status.success());
    assert!(folder.path().join("third/omnivox.db").exists());
    std::fs::write(&here, "[sip]\nlissten = []\n").unwrap();
    refused(folder.path(), &["serve"], "did you mean `sip.listen`");
    // A phone is no server's.
    refused(folder.path(), &["call", "nobody"], "write sip:user@host");
    let server = Server::start(&[]);
    assert!(server.stop().contains("no configuration file: defaults"));
}

#[test]
fn a_second_signal_ends_the_calls_that_go_on() {
    let server = Server::start(&["calls.drain_s=600"]);
    server.wait_until_ready();
    let mut phone =
        Running::start(Command::new(OMNIVOX).args(["call", &server.uri("echo"), "--duration", "500", "--json"]));
    wait_for(
        "the call to be up",
        PATIENCE,
        || server.get("/metrics").1.contains("omnivox_calls 1").then_some(()),
        || phone.stderr(),
    );
    server.process.signal("TERM");
    let stopping = || server.process.stderr().contains("a second SIGTERM or ctrl-C").then_some(());
    wait_for("the stop", PATIENCE, stopping, || server.process.stderr());
    assert_eq!(server.records().len(), 0, "the call goes on");
    let begun = Instant::now();
    server.process.signal("INT");
    phone.wait(PATIENCE);
    let said = || serde_json::from_str::<serde_json::Value>(phone.stdout().trim()).ok();
    let said = wait_for("what the phone says", PATIENCE, said, || phone.stderr());
    assert_eq!(said["end"]["reason"], "far_side_hung_up", "it was told BYE: {said}");
    let path = server.folder.path().join("data/calls.jsonl");
    let record = || std::fs::read_to_string(&path).ok().filter(|text| text.contains("\"shutting_down\""));
    wait_for("the record", PATIENCE, record, || server.process.stderr());
    server.stop_signalled();
    assert!(begun.elapsed() < PATIENCE, "{:?}", begun.elapsed());
}
