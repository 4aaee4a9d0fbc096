//! Names by RFC 3263, against dnsmasq with zones of our own.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::net::{SocketAddr, TcpListener, UdpSocket};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use sip::Transport;
use sip::io::{DnsConfig, Resolver};

/// A name server that ends with the test.
struct Zone {
    server: Child,
    resolver: Resolver,
}

impl Drop for Zone {
    fn drop(&mut self) {
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

fn zone(records: &[&str]) -> Zone {
    let port = loop {
        let udp = UdpSocket::bind("127.0.0.1:0").unwrap();
        let port = udp.local_addr().unwrap().port();
        if TcpListener::bind(("127.0.0.1", port)).is_ok() {
            break port;
        }
    };
    let server = Command::new("dnsmasq")
        .args(["--keep-in-foreground", "--conf-file=/dev/null", "--pid-file=", "--no-resolv", "--no-hosts"])
        .args(["--listen-address=127.0.0.1", "--bind-interfaces", "--local=/test/", "--user=root"])
        .arg(format!("--port={port}"))
        .args(records)
        .stdin(Stdio::null())
        .spawn()
        .expect("dnsmasq is missing: scripts/test installs it");
    let address = SocketAddr::from(([127, 0, 0, 1], port));
    let deadline = Instant::now() + Duration::from_secs(20);
    while std::net::TcpStream::connect(address).is_err() {
        assert!(Instant::now() < deadline, "dnsmasq does not listen");
        std::thread::park_timeout(Duration::from_millis(10));
    }
    Zone { server, resolver: Resolver::new(&DnsConfig { servers: vec![address] }).unwrap() }
}

impl Zone {
    /// `udp 127.0.0.2:5060 example.test` for each way to the URI.
    async fn ways(&self, uri: &str) -> Vec<String> {
        let ways = self.resolver.resolve(uri).await.unwrap();
        ways.iter()
            .map(|way| format!("{} {} {}", way.transport, way.address, way.name.as_deref().unwrap_or("-")))
            .collect()
    }
}

const HOSTS: [&str; 3] = [
    "--host-record=a.example.test,127.0.0.2",
    "--host-record=b.example.test,127.0.0.3",
    "--host-record=example.test,127.0.0.9",
];

/// Conforms: RFC 3263 §4.2 — without a port, SRV records lead to hosts and ports, by priority.
#[tokio::test]
async fn srv_records_are_followed_in_the_order_of_their_priorities() {
    let srv = [
        "--srv-host=_sip._udp.example.test,a.example.test,5070,2",
        "--srv-host=_sip._udp.example.test,b.example.test,5080,1",
    ];
    let zone = zone(&[&HOSTS[..], &srv[..]].concat());
    let both = ["udp 127.0.0.3:5080 example.test", "udp 127.0.0.2:5070 example.test"];
    assert_eq!(zone.ways("sip:a@example.test").await, both);
    assert_eq!(zone.ways("sip:a@example.test;transport=udp").await, both);
    // A port in the URI leaves no question; nor does a transport without records of its own.
    assert_eq!(zone.ways("sip:a@example.test:5090").await, ["udp 127.0.0.9:5090 example.test"]);
    assert_eq!(zone.ways("sip:a@example.test;transport=tcp").await, ["tcp 127.0.0.9:5060 example.test"]);
    assert_eq!(zone.ways("sips:a@example.test").await, ["tls 127.0.0.9:5061 example.test"]);
    assert_eq!(zone.ways("sip:a@127.0.0.7").await, ["udp 127.0.0.7:5060 -"]);
}

/// Conforms: RFC 3263 §4.1 — NAPTR records choose the transport.
#[tokio::test]
async fn naptr_records_choose_the_transport() {
    let records = [
        "--naptr-record=example.test,20,10,S,SIP+D2U,,_sip._udp.example.test",
        "--naptr-record=example.test,10,10,S,SIP+D2T,,_sip._tcp.example.test",
        "--naptr-record=example.test,30,10,S,SIPS+D2T,,_sips._tcp.example.test",
        "--srv-host=_sip._udp.example.test,a.example.test,5070,1",
        "--srv-host=_sip._tcp.example.test,b.example.test,5080,1",
        "--srv-host=_sips._tcp.example.test,b.example.test,5081,1",
    ];
    let zone = zone(&[&HOSTS[..], &records[..]].concat());
    assert_eq!(
        zone.ways("sip:a@example.test").await,
        ["tcp 127.0.0.3:5080 example.test", "udp 127.0.0.2:5070 example.test", "tls 127.0.0.3:5081 example.test"]
    );
    assert_eq!(zone.ways("sips:a@example.test").await, ["tls 127.0.0.3:5081 example.test"]);
    assert_eq!(zone.ways("sip:a@example.test;transport=udp").await, ["udp 127.0.0.2:5070 example.test"]);
}

/// Conforms: RFC 2782 — within one priority chance decides by weight.
#[tokio::test]
async fn weights_share_the_load() {
    let srv = [
        "--srv-host=_sip._udp.example.test,a.example.test,5070,1,90",
        "--srv-host=_sip._udp.example.test,b.example.test,5080,1,10",
    ];
    let zone = zone(&[&HOSTS[..], &srv[..]].concat());
    let mut first = 0;
    for _ in 0..300 {
        first += usize::from(zone.ways("sip:a@example.test").await.first().unwrap().contains("5070"));
    }
    assert!((230..300).contains(&first), "{first} of 300 took the one with 90 %");
}

/// Conforms: RFC 3263 §4.3 — what failed is passed over while there is another way.
#[tokio::test]
async fn what_failed_of_late_comes_last() {
    let srv = [
        "--srv-host=_sip._udp.example.test,a.example.test,5070,1",
        "--srv-host=_sip._udp.example.test,b.example.test,5080,2",
    ];
    let zone = zone(&[&HOSTS[..], &srv[..]].concat());
    zone.resolver.note_dead(Transport::Udp, "127.0.0.2:5070".parse().unwrap());
    let ways = zone.ways("sip:a@example.test").await;
    assert_eq!(ways, ["udp 127.0.0.3:5080 example.test", "udp 127.0.0.2:5070 example.test"]);
}

#[tokio::test]
async fn both_families_are_found() {
    let zone = zone(&["--host-record=dual.test,127.0.0.4,::1"]);
    let mut ways = zone.ways("sip:a@dual.test").await;
    ways.sort();
    assert_eq!(ways, ["udp 127.0.0.4:5060 dual.test", "udp [::1]:5060 dual.test"]);
}

#[tokio::test]
async fn a_name_that_does_not_exist_and_a_dead_name_server_are_told_apart() {
    let zone = zone(&HOSTS);
    let error = zone.resolver.resolve("sip:a@nobody.test").await.unwrap_err().to_string();
    assert!(error.contains("nobody.test") && error.contains("no such host"), "{error}");
    let unused = UdpSocket::bind("127.0.0.1:0").unwrap();
    let dead = Resolver::new(&DnsConfig { servers: vec![unused.local_addr().unwrap()] }).unwrap();
    let error = dead.resolve("sip:a@example.test").await.unwrap_err().to_string();
    assert!(error.contains("cannot find the host example.test"), "{error}");
    assert!(!error.contains("no such host"), "{error}");
}

#[tokio::test]
async fn literal_addresses_ask_nobody() {
    let unused = UdpSocket::bind("127.0.0.1:0").unwrap();
    let resolver = Resolver::new(&DnsConfig { servers: vec![unused.local_addr().unwrap()] }).unwrap();
    for (uri, expected) in [
        ("sip:echo@127.0.0.1:5070", "udp 127.0.0.1:5070"),
        ("sip:127.0.0.1;transport=tcp", "tcp 127.0.0.1:5060"),
        ("sip:a@[::1]:5062", "udp [::1]:5062"),
        ("sip:a@[::1];transport=TLS", "tls [::1]:5061"),
        ("sips:a@127.0.0.1", "tls 127.0.0.1:5061"),
    ] {
        let ways = resolver.resolve(uri).await.unwrap();
        let way = ways.first().unwrap();
        assert_eq!(format!("{} {}", way.transport, way.address), expected, "{uri}");
        assert!(way.name.is_none());
    }
}
