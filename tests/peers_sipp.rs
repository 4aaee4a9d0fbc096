//! sipp's own client against `serve`: every call answered, acknowledged and hung up, none failed.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::process::{Command, Stdio};

use common::{Server, free_port};

const CALLS_PER_SECOND: u32 = 200;
const SECONDS: u32 = 30;

/// Runs sipp's built-in UAC scenario over one socket; `transport` is sipp's: `u1`, `t1`.
fn run_uac(server: &Server, transport: &str) {
    let calls = CALLS_PER_SECOND * SECONDS;
    let output = Command::new("sipp")
        .args(["-sn", "uac", "-s", "echo", "-nostdin", "-t", transport, "-i", "127.0.0.1"])
        .args(["-p", &free_port().to_string(), "-mp", &free_port().to_string()])
        .args(["-r", &CALLS_PER_SECOND.to_string(), "-m", &calls.to_string(), "-timeout", "120s", "-d", "50"])
        .arg(server.sip.to_string())
        .current_dir(server.folder.path())
        .stdin(Stdio::null())
        .output()
        .expect("sipp is missing: scripts/test installs it");
    let screen = String::from_utf8_lossy(&output.stdout);
    assert!(
        output.status.success(),
        "sipp over {transport} ended with {}\n{screen}\n{}\nserver:\n{}",
        output.status,
        String::from_utf8_lossy(&output.stderr),
        server.process.stderr()
    );
    let records = server.wait_for_records(calls as usize);
    assert_eq!(records.len(), calls as usize, "one record a call");
    for record in &records {
        assert_eq!(record["end"]["reason"], "caller_hung_up", "{record}");
        assert_eq!(record["end"]["class"], "ok", "{record}");
    }
}

#[test]
fn two_hundred_calls_a_second_for_thirty_seconds_over_udp_all_succeed() {
    let server = Server::start(&["log.level=warn"]);
    run_uac(&server, "u1");
    let (code, metrics) = server.get("/metrics");
    assert_eq!(code, 200);
    assert!(metrics.contains("omnivox_calls 0"), "no call is left over:\n{metrics}");
    server.stop();
}

#[test]
fn two_hundred_calls_a_second_for_thirty_seconds_over_tcp_all_succeed() {
    let server = Server::start(&["log.level=warn"]);
    run_uac(&server, "t1");
    server.stop();
}
