//! Trunks, with Kamailio for a carrier: registered with, called from, called by, passed over when it is dead.
#![allow(clippy::unwrap_used)]

#[path = "common/carrier.rs"]
mod carrier;
mod common;

use std::process::Command;

use carrier::carrier;
use common::{OMNIVOX, PATIENCE, Running, Server, omnivox, told, wait_for};

/// Our server between a phone and these hosts of a carrier.
fn between(folder: tempfile::TempDir, hosts: &str, more: &str) -> Server {
    let config = format!(
        r#"
[[devices]]
user = "bob"
password = "b-secret"
country = "DE"
numbers = ["+4930123102"]

[[trunks]]
name = "carrier"
kind = "register"
hosts = [{hosts}]
username = "customer-7"
password = "secret"
domain = "carrier"
country = "DE"
ping_s = 5
{more}

[[routes]]
from = ["trunk carrier"]
called = "+4930123*"
to = "echo"

[[routes]]
from = ["devices"]
called = "+*"
to = "trunk carrier"
"#
    );
    Server::start_with(&config, folder, &["rtp.workers=1"])
}

fn wait_for_metric(server: &Server, line: &str) {
    wait_for(
        line,
        PATIENCE,
        || server.get("/metrics").1.contains(line).then_some(()),
        || server.get("/metrics").1 + &server.process.stderr(),
    );
}

/// Conforms: RFC 3261 §10.2 — we register with a carrier (Kamailio), are called by it and call out.
#[test]
fn a_registered_trunk_is_called_by_and_calls_out() {
    let far = Server::start(&["rtp.workers=1"]);
    let folder = tempfile::tempdir().unwrap();
    let (_kamailio, port) = carrier(folder.path(), &far);
    // The first host is dead: registration and calls go by the second. A port that is merely free may be somebody's by the time of the call.
    let dead = "127.0.0.9:9";
    let hosts = format!("\"{dead} priority=1\", \"127.0.0.1:{port} priority=2\"");
    let server = between(folder, &hosts, "");
    wait_for_metric(&server, "omnivox_trunk_registered{trunk=\"carrier\"} 1");
    wait_for_metric(&server, &format!("omnivox_trunk_host_up{{trunk=\"carrier\",host=\"sip:{dead}\"}} 0"));

    // In: somebody calls our number at the carrier.
    let uri = format!("sip:+4930123456@127.0.0.1:{port}");
    let call = omnivox(server.folder.path(), &["call", &uri, "--duration", "1", "--json"]);
    assert!(call.status.success(), "{}\n{}", told(&call), server.process.stderr());
    let record = server.wait_for_records(1).remove(0);
    assert_eq!(record["target"], "echo", "{record}");
    assert_eq!(record["end"]["class"], "ok", "{record}");

    // Out: a phone, at another address than the carrier, dials as people in its country do; the carrier wants to know who calls.
    let uri = server.uri("030999888");
    let call = ["call", &uri, "--from", "bob", "--password", "b-secret", "--listen", "127.0.0.2:0", "--json"];
    let call = omnivox(server.folder.path(), &call);
    assert!(call.status.success(), "{}\n{}", told(&call), server.process.stderr());
    let record = server.wait_for_records(2).remove(1);
    assert_eq!(record["legs"].as_array().unwrap().last().unwrap()["label"], "trunk carrier", "{record}");
    let there = far.wait_for_records(1).remove(0);
    assert!(there["from"].as_str().unwrap().contains("+4930123102@carrier"), "{there}");
    wait_for_metric(&server, "omnivox_trunk_calls{trunk=\"carrier\"} 0");

    // A server that stops takes its registration back.
    server.stop();
    let folder = tempfile::tempdir().unwrap();
    let call = omnivox(folder.path(), &["call", &format!("sip:+4930123456@127.0.0.1:{port}"), "--json"]);
    assert!(told(&call).contains("480"), "{}", told(&call));
    far.stop();
}

#[test]
fn a_trunk_takes_no_more_calls_than_its_limit() {
    let far = Server::start(&["rtp.workers=1"]);
    let folder = tempfile::tempdir().unwrap();
    let (_kamailio, port) = carrier(folder.path(), &far);
    let server = between(folder, &format!("\"127.0.0.1:{port}\""), "max_calls = 1\nover_limit = 486");
    wait_for_metric(&server, "omnivox_trunk_registered{trunk=\"carrier\"} 1");
    let uri = format!("sip:+4930123456@127.0.0.1:{port}");
    let mut first = Running::start(Command::new(OMNIVOX).current_dir(server.folder.path()).args([
        "call",
        &uri,
        "--duration",
        "20",
        "--json",
    ]));
    wait_for_metric(&server, "omnivox_trunk_calls{trunk=\"carrier\"} 1");
    let second = omnivox(server.folder.path(), &["call", &uri, "--duration", "1", "--json"]);
    assert!(!second.status.success());
    assert!(told(&second).contains("486"), "{}", told(&second));
    assert!(first.is_running());
    drop(first);
    server.stop();
    far.stop();
}
