//! Calls to names: SRV records of a zone of our own, served by dnsmasq.
#![allow(clippy::unwrap_used)]

#[path = "common/carrier.rs"]
mod carrier;
mod common;

use std::process::Command;

use common::{PATIENCE, Running, Server, free_port, omnivox, told, wait_for};

/// A name server with these records, and its port.
fn name_server(records: &[String]) -> (Running, u16) {
    let port = free_port();
    let mut command = Command::new("dnsmasq");
    command
        .args(["--keep-in-foreground", "--conf-file=/dev/null", "--pid-file=", "--no-resolv", "--no-hosts"])
        .args(["--listen-address=127.0.0.1", "--bind-interfaces", "--local=/test/", "--user=root"])
        .arg(format!("--port={port}"))
        .args(records);
    let server = Running::start(&mut command);
    wait_for(
        "the name server",
        PATIENCE,
        || std::net::TcpStream::connect(("127.0.0.1", port)).ok(),
        || server.stderr(),
    );
    (server, port)
}

/// Conforms: RFC 3263 §4.3 — where nobody answers by the best way, the call goes by the next.
#[test]
fn a_call_goes_another_way_where_nobody_answers_by_the_first() {
    let server = Server::start(&["rtp.workers=1"]);
    // Bound and silent, as a machine is that has hung.
    let silent = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let (dead, live) = (silent.local_addr().unwrap().port(), server.sip.port());
    let (_names, port) = name_server(&[
        "--host-record=host.example.test,127.0.0.1".to_owned(),
        format!("--srv-host=_sip._udp.example.test,host.example.test,{dead},1"),
        format!("--srv-host=_sip._udp.example.test,host.example.test,{live},2"),
    ]);
    let dns = format!("sip.dns=[\"127.0.0.1:{port}\"]");
    let call = omnivox(server.folder.path(), &["call", "sip:bye@example.test", "--json", "--set", &dns]);
    assert!(call.status.success(), "{}", told(&call));
    let mut first = [0; 1_500];
    let size = silent.recv(&mut first).unwrap();
    assert!(first[..size].starts_with(b"INVITE sip:bye@example.test"));
    server.wait_for_records(1);
    server.stop();
}

#[test]
fn a_name_that_does_not_exist_is_told() {
    let (_names, port) = name_server(&[]);
    let folder = tempfile::tempdir().unwrap();
    let dns = format!("sip.dns=[\"127.0.0.1:{port}\"]");
    let call = omnivox(folder.path(), &["call", "sip:bye@nowhere.test", "--json", "--set", &dns]);
    assert!(!call.status.success());
    assert!(told(&call).contains("cannot find the host nowhere.test"), "{}", told(&call));
}

/// Conforms: RFC 3263 §4.3 — a carrier of two machines (Kamailio), named by SRV: when the first dies, calls go by the second.
#[test]
fn calls_by_a_trunk_go_on_when_one_of_the_carriers_machines_dies() {
    let far = Server::start(&["rtp.workers=1"]);
    let folder = tempfile::tempdir().unwrap();
    let (mut first, first_port) = carrier::carrier(folder.path(), &far);
    let (_second, second_port) = carrier::carrier(folder.path(), &far);
    let (_names, port) = name_server(&[
        "--host-record=host.carrier.test,127.0.0.1".to_owned(),
        format!("--srv-host=_sip._udp.carrier.test,host.carrier.test,{first_port},1"),
        format!("--srv-host=_sip._udp.carrier.test,host.carrier.test,{second_port},2"),
    ]);
    let config = r#"
[[devices]]
user = "bob"
password = "b-secret"
country = "DE"

[[trunks]]
name = "carrier"
hosts = ["carrier.test"]
username = "customer-7"
password = "secret"
domain = "carrier"
addresses = ["192.0.2.1"]
ping_s = 0

[[routes]]
from = ["devices"]
called = "+*"
to = "trunk carrier"
"#;
    let dns = format!("sip.dns=[\"127.0.0.1:{port}\"]");
    let server = Server::start_with(config, folder, &["rtp.workers=1", &dns]);
    let uri = server.uri("+4930999888");
    let dial = || {
        let call = omnivox(server.folder.path(), &["call", &uri, "--from", "bob", "--password", "b-secret", "--json"]);
        assert!(call.status.success(), "{}\n{}", told(&call), server.process.stderr());
    };
    let peer = |record: &serde_json::Value| record["legs"][0]["peer"].as_str().unwrap().to_owned();
    dial();
    assert_eq!(peer(&server.wait_for_records(1)[0]), format!("127.0.0.1:{first_port}"));
    first.signal("TERM");
    first.wait(PATIENCE);
    dial();
    dial();
    for record in server.wait_for_records(3).iter().skip(1) {
        assert_eq!(peer(record), format!("127.0.0.1:{second_port}"), "{record}");
    }
    server.stop();
    far.stop();
}
