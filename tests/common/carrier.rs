//! Kamailio as a carrier.
#![allow(dead_code, unreachable_pub, clippy::unwrap_used)]

use std::process::Command;

use super::common::{PATIENCE, Running, Server, free_port, wait_for};

/// Kamailio as a carrier whose far side is this server, and its port.
pub fn carrier(folder: &std::path::Path, far: &Server) -> (Running, u16) {
    let port = free_port();
    let config = include_str!("carrier.cfg")
        .replace("@LISTEN@", &format!("127.0.0.1:{port}"))
        .replace("@FAR@", &far.sip.to_string());
    let path = folder.join(format!("carrier-{port}.cfg"));
    std::fs::write(&path, config).unwrap();
    let kamailio = Running::start(Command::new("kamailio").args(["-DD", "-E", "-m", "32", "-f"]).arg(&path));
    let probe = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    probe.set_read_timeout(Some(std::time::Duration::from_millis(100))).unwrap();
    let own = probe.local_addr().unwrap();
    let options = format!(
        "OPTIONS sip:127.0.0.1:{port} SIP/2.0\r\nVia: SIP/2.0/UDP {own};branch=z9hG4bKx\r\nMax-Forwards: 70\r\n\
         From: <sip:t@{own}>;tag=1\r\nTo: <sip:127.0.0.1:{port}>\r\nCall-ID: x\r\nCSeq: 1 OPTIONS\r\nContent-Length: 0\r\n\r\n"
    );
    wait_for(
        "Kamailio",
        PATIENCE,
        || {
            probe.send_to(options.as_bytes(), ("127.0.0.1", port)).unwrap();
            probe.recv(&mut [0; 1_500]).ok()
        },
        || kamailio.stderr(),
    );
    (kamailio, port)
}
