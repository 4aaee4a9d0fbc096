//! SIPVicious looks for users and passwords, and finds none; a call that is going on meanwhile loses nothing.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::path::PathBuf;
use std::process::{Command, Output, Stdio};

use common::{OMNIVOX, PATIENCE, Running, Server, told, wait_for};

const DEVICES: &str =
    "[[devices]]\nuser = \"101\"\npassword = \"101\"\n[[devices]]\nuser = \"105\"\npassword = \"Xk3!\"\n";

/// Runs one of its tools against the server.
fn tool(name: &str, server: &Server, arguments: &[&str]) -> Output {
    let python = std::env::var_os("OMNIVOX_TEST_PYTHON").expect("scripts/test says where SIPVicious is");
    let path = PathBuf::from(python).with_file_name(format!("sipvicious_{name}"));
    let port = server.sip.port().to_string();
    Command::new(&path)
        .current_dir(server.folder.path())
        .env("HOME", server.folder.path())
        .args(["-p", &port])
        .args(arguments)
        .arg("127.0.0.1")
        .stdin(Stdio::null())
        .output()
        .unwrap_or_else(|fault| panic!("{} cannot be started ({fault}): scripts/test installs it", path.display()))
}

fn server(devices: &str, settings: &[&str]) -> Server {
    Server::start_with(devices, tempfile::tempdir().unwrap(), settings)
}

fn finds_nobody(server: &Server) {
    for method in ["INVITE", "REGISTER", "OPTIONS"] {
        let found = tool("svwar", server, &["-e", "100-110", "-m", method, "--force"]);
        for user in ["101", "105"] {
            let line = told(&found);
            assert!(!line.contains(&format!("| {user} ")), "{method}: {line}");
        }
    }
    let cracked = tool("svcrack", server, &["-u", "101", "-r", "100-102"]);
    assert!(!told(&cracked).contains("| 101"), "{}", told(&cracked));
}

#[test]
fn nothing_is_found_where_nothing_is_configured_and_a_call_goes_on() {
    let server = server("", &["rtp.workers=1"]);
    let uri = server.uri("echo");
    let mut call = Running::start(Command::new(OMNIVOX).current_dir(server.folder.path()).args([
        "call",
        &uri,
        "--duration",
        "20",
        "--json",
    ]));
    finds_nobody(&server);
    assert!(call.is_running(), "the call is to last longer than the scan");
    assert!(call.wait(PATIENCE).success(), "{}", call.stderr());
    // The scanner's calls are refused, and recorded too.
    let records = wait_for(
        "the call's record",
        PATIENCE,
        || server.records().into_iter().find(|record| record["target"] == "echo"),
        || server.process.stderr(),
    );
    assert_eq!(records["end"]["reason"], "caller_hung_up", "{records}");
    assert_eq!(records["media"]["lost"], 0, "{records}");
    assert!(records["media"]["packets_in"].as_u64().unwrap() > 900, "{records}");
    server.stop();
}

#[test]
fn no_user_and_no_password_is_found_by_a_stranger() {
    // Not trusted: whoever names themselves as a scanner is not answered at all.
    let server = server(DEVICES, &["guard.trusted=[]"]);
    let map = tool("svmap", &server, &[]);
    assert!(!told(&map).contains("Omnivox"), "{}", told(&map));
    finds_nobody(&server);
    server.stop();
}

#[test]
fn no_user_is_found_even_by_one_who_is_listened_to() {
    let server = server(DEVICES, &["guard.drop_scanners=false", "guard.failures=1000000"]);
    for method in ["INVITE", "REGISTER"] {
        let found = tool("svwar", &server, &["-e", "100-110", "-m", method, "--force"]);
        let lines: Vec<String> =
            told(&found).lines().filter(|line| line.starts_with("| 1")).map(str::to_owned).collect();
        // All alike, or none.
        let verdicts: std::collections::BTreeSet<&str> =
            lines.iter().filter_map(|line| line.split('|').nth(2)).map(str::trim).collect();
        assert!(verdicts.len() <= 1 && (lines.is_empty() || lines.len() == 11), "{method}: {}", told(&found));
    }
    server.stop();
}
