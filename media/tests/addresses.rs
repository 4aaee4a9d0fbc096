//! A machine with several addresses: sound leaves by the one that the peer knows, and ICE uses each of them, of both families.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "common/ports.rs"]
mod ports;

use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

use codecs::registry::{self, CodecId};
use media::connect::{ConnectConfig, Connection, IceConfig, IceCredentials, Identity, Step, ice};
use media::leg::Channel;
use media::{LegConfig, LegMode, Media, MediaConfig, Security};

const PATIENCE: Duration = Duration::from_secs(20);

fn ip(text: &str) -> IpAddr {
    text.parse().unwrap()
}

fn engine(bind: &str) -> Media {
    Media::start(MediaConfig { bind: ip(bind), ports: ports::ports(4), ..MediaConfig::default() }).unwrap()
}

fn config() -> LegConfig {
    LegConfig::new(registry::spec(CodecId::Pcmu).unwrap().params(), 0, LegMode::Talk)
}

#[tokio::test(flavor = "multi_thread")]
async fn sound_leaves_by_the_address_that_signalling_told() {
    // 192.0.2.1 is none of ours: the system's choice stands in for it.
    for (bind, at, told, seen) in [
        ("0.0.0.0", "127.0.0.1:0", "127.0.0.2", "127.0.0.2"),
        ("0.0.0.0", "127.0.0.1:0", "192.0.2.1", "127.0.0.1"),
        ("::", "127.0.0.1:0", "127.0.0.2", "127.0.0.2"),
        ("::", "[::1]:0", "::1", "::1"),
    ] {
        let media = engine(bind);
        let peer = UdpSocket::bind(at).unwrap();
        peer.set_read_timeout(Some(PATIENCE)).unwrap();
        let remote = Some(peer.local_addr().unwrap());
        let port = media.reserve().unwrap();
        let rtp_port = port.rtp_port();
        let mut leg = media.open(port, LegConfig { remote, local: Some(ip(told)), ..config() }).unwrap();
        for _ in 0..3 {
            leg.say(&[1_000; 160]);
            let (_, from) = peer.recv_from(&mut [0; 500]).unwrap();
            assert_eq!(from, SocketAddr::new(ip(seen), rtp_port), "{bind} {told}");
        }
    }
}

fn described(name: &str, hosts: Vec<SocketAddr>) -> IceConfig {
    let credentials =
        |name: &str| IceCredentials { ufrag: format!("{name}-name"), pwd: format!("{name}-password-of-some-length") };
    IceConfig {
        local: credentials(name),
        remote: credentials(if name == "a" { "b" } else { "a" }),
        hosts,
        reflexive: vec![],
        relayed: vec![],
        candidates: vec![],
        is_controlling: name == "a",
        is_lite: false,
    }
}

/// A peer by hand whose socket takes nothing but what comes from `known`; until it has keys and packets.
fn meet(config: &ConnectConfig, socket: &UdpSocket, known: SocketAddr) {
    socket.connect(known).unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(5))).unwrap();
    let here = socket.local_addr().unwrap().ip();
    let start = Instant::now();
    let mut connection = Connection::new(start, config, None, None).unwrap();
    let (mut has_keys, mut packets) = (false, 0);
    while !has_keys || packets < 5 {
        let now = Instant::now();
        assert!(now < start + PATIENCE, "{known}: keys {has_keys}, {packets} packets");
        if connection.next_wake() <= now {
            connection.handle_timeout(now);
        }
        while let Some(step) = connection.poll() {
            match step {
                Step::Send { to, datagram, .. } if to == known => drop(socket.send(&datagram)),
                Step::Keys { .. } => has_keys = true,
                Step::Failed(why) => panic!("{known}: {why}"),
                _ => {}
            }
        }
        let mut datagram = [0; 1_500];
        match socket.recv(&mut datagram) {
            Ok(_) if datagram[0] >= 128 => packets += 1,
            Ok(len) => connection.receive(Instant::now(), Channel::Rtp, known, here, &datagram[..len]),
            Err(_) => {}
        }
    }
}

/// Conforms: RFC 8421 §3 — one session has candidates of both families: peers of either reach it, and checks, handshake and sound leave by the address that was asked.
#[tokio::test(flavor = "multi_thread")]
async fn a_peer_of_either_family_is_answered_from_the_address_that_it_asked() {
    for (here, asked, is_lite) in [
        ("127.0.0.1", "127.0.0.2", false),
        ("127.0.0.1", "127.0.0.1", false),
        ("::1", "::1", false),
        ("127.0.0.1", "127.0.0.2", true),
    ] {
        let server = engine("::");
        let peer = Arc::new(Identity::generate().unwrap());
        let socket = UdpSocket::bind((ip(here), 0)).unwrap();
        let port = server.reserve().unwrap();
        let known = SocketAddr::new(ip(asked), port.rtp_port());
        let hosts = ["127.0.0.1", "127.0.0.2", "::1"].map(|host| SocketAddr::new(ip(host), port.rtp_port()));
        let mut ours = IceConfig { is_lite, ..described("b", hosts.to_vec()) };
        assert_eq!(ice::describe(&ours).len(), 3);
        let mut theirs = described("a", vec![socket.local_addr().unwrap()]);
        theirs.candidates = ice::describe(&described("b", vec![known]));
        ours.candidates = ice::describe(&theirs);
        let certificate = server.identity().unwrap();
        let config = ConnectConfig {
            identity: Arc::clone(&peer),
            is_client: true,
            fingerprint: certificate.fingerprint().clone(),
            ice: Some(theirs),
        };
        let of_leg = ConnectConfig {
            identity: certificate,
            is_client: false,
            fingerprint: peer.fingerprint().clone(),
            ice: Some(ours),
        };
        let security = Security::Dtls(Arc::new(of_leg));
        let leg = LegConfig { rtcp_mux: true, security, ..self::config() };
        let _leg = server.open(port, leg).unwrap();
        tokio::task::spawn_blocking(move || meet(&config, &socket, known)).await.unwrap();
    }
}
