//! Legs that reach one another through a TURN server: coturn, for real.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "common/ports.rs"]
mod ports;
#[path = "common/turn_server.rs"]
mod turn_server;

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

use codecs::registry::{self, CodecId};
use media::connect::{ConnectConfig, IceConfig, IceCredentials, TurnLogin, ice};
use media::io::{IceServer, TurnOver};
use media::{LegConfig, LegEvent, LegMode, LegPort, Media, MediaConfig, ReservedPort, Security};
use turn_server::{PASSWORD, TurnServer, USER};

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const S: Duration = Duration::from_secs(1);
const PATIENCE: Duration = Duration::from_secs(20);

fn engine(servers: Vec<IceServer>) -> Media {
    let media = Media::start(MediaConfig { bind: LOOPBACK, ports: ports::ports(4), ..MediaConfig::default() }).unwrap();
    media.set_ice_servers(servers);
    media
}

fn turn(addr: SocketAddr, password: &str, over: TurnOver) -> IceServer {
    let login = TurnLogin { username: USER.to_owned(), credential: password.to_owned() };
    IceServer { name: format!("turn:{addr}"), addr, turn: Some((login, over)) }
}

/// One end: with `is_hidden`, nothing but the TURN server's address is of use.
fn described(name: &str, port: &ReservedPort, is_hidden: bool) -> IceConfig {
    let credentials =
        |name: &str| IceCredentials { ufrag: format!("{name}-name"), pwd: format!("{name}-password-of-some-length") };
    let other = if name == "a" { "b" } else { "a" };
    IceConfig {
        local: credentials(name),
        remote: credentials(other),
        hosts: if is_hidden { vec![] } else { vec![port.rtp_addr()] },
        reflexive: port.reflexive().to_vec(),
        relayed: port.relayed().collect(),
        candidates: vec![],
        is_controlling: name == "a",
        is_lite: false,
    }
}

fn leg(ours: &Media, theirs: &Media, ice: IceConfig) -> LegConfig {
    let fingerprint = theirs.identity().unwrap().fingerprint().clone();
    let identity = ours.identity().unwrap();
    let is_client = ice.is_controlling;
    let security = Security::Dtls(Arc::new(ConnectConfig { identity, is_client, fingerprint, ice: Some(ice) }));
    let codec = registry::spec(CodecId::Pcmu).unwrap().params();
    LegConfig { rtcp_mux: true, security, ..LegConfig::new(codec, 0, LegMode::Talk) }
}

/// Two legs whose sound can go through TURN servers alone, where they are hidden.
async fn pair(a: &Media, b: &Media, hidden: [bool; 2]) -> [LegPort; 2] {
    let (mut a_port, mut b_port) = (a.reserve().unwrap(), b.reserve().unwrap());
    assert_eq!(a.gather(&mut a_port, PATIENCE).await, []);
    assert_eq!(b.gather(&mut b_port, PATIENCE).await, []);
    let (mut a_ice, mut b_ice) = (described("a", &a_port, hidden[0]), described("b", &b_port, hidden[1]));
    (a_ice.candidates, b_ice.candidates) = (ice::describe(&b_ice), ice::describe(&a_ice));
    let a_leg = a.open(a_port, leg(a, b, a_ice)).unwrap();
    [a_leg, b.open(b_port, leg(b, a, b_ice)).unwrap()]
}

/// Says something until the other end has heard it.
async fn hears(from: &mut LegPort, to: &mut LegPort) {
    let start = Instant::now();
    let mut heard = 0;
    while heard < 20 {
        assert!(start.elapsed() < PATIENCE, "{:?}\n{:?}", from.stats(), to.stats());
        from.say(&[8_000; 160]);
        tokio::time::sleep(Duration::from_millis(10)).await;
        while let Some(event) = to.try_next() {
            match event {
                LegEvent::Ear(frame) if frame.samples().iter().any(|s| *s > 5_000) => heard += 1,
                LegEvent::ConnectFailed { reason } => panic!("{reason}"),
                _ => {}
            }
        }
        while from.try_next().is_some() {}
    }
}

/// Conforms: RFC 8656 §7 — an allocation of coturn's carries a call whose one end is to be reached by nothing else, and is given back at its end.
#[tokio::test(flavor = "multi_thread")]
async fn a_leg_that_is_reached_through_its_turn_server_alone_talks_and_gives_the_address_back() {
    let folder = tempfile::tempdir().unwrap();
    let server = TurnServer::start(folder.path(), None, &[]);
    let hidden = engine(vec![turn(server.addr, PASSWORD, TurnOver::Udp)]);
    let plain = engine(vec![]);
    let [mut a, mut b] = pair(&hidden, &plain, [true, false]).await;
    hears(&mut a, &mut b).await;
    hears(&mut b, &mut a).await;
    assert_eq!((a.stats().bad_tags, a.stats().malformed, a.stats().handshake_drops), (0, 0, 0), "{:?}", a.stats());
    drop((a, b));
    server.wait_for("lifetime=0", 1);
    server.wait_for("closed", 1);
}

/// Conforms: RFC 8656 §12 — both ends behind TURN servers, with nonces that go stale at once.
#[tokio::test(flavor = "multi_thread")]
async fn two_legs_that_are_both_hidden_talk_from_server_to_server() {
    let folder = tempfile::tempdir().unwrap();
    let servers = [(); 2].map(|()| TurnServer::start(folder.path(), None, &["--stale-nonce=1"]));
    let [a, b] = servers.each_ref().map(|server| engine(vec![turn(server.addr, PASSWORD, TurnOver::Udp)]));
    for _ in 0..2 {
        let [mut a, mut b] = pair(&a, &b, [true, true]).await;
        hears(&mut a, &mut b).await;
        hears(&mut b, &mut a).await;
    }
    servers.iter().for_each(|server| server.wait_for("lifetime=0", 2));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_turn_server_is_reached_by_tcp_and_by_tls() {
    let folder = tempfile::tempdir().unwrap();
    let made = rcgen::generate_simple_self_signed(vec!["127.0.0.1".to_owned()]).unwrap();
    let pem = folder.path().join("turn.pem");
    std::fs::write(&pem, format!("{}{}", made.cert.pem(), made.signing_key.serialize_pem())).unwrap();
    let server = TurnServer::start(folder.path(), Some(&pem), &[]);
    let mut roots = rustls::RootCertStore::empty();
    roots.add(made.cert.der().clone()).unwrap();
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let tls = |roots| {
        let config = rustls::ClientConfig::builder_with_provider(Arc::clone(&provider));
        let config = config.with_safe_default_protocol_versions().unwrap().with_root_certificates(roots);
        TurnOver::Tls(Arc::new(config.with_no_client_auth()), "127.0.0.1".try_into().unwrap())
    };
    let plain = engine(vec![]);
    for (addr, over) in [(server.addr, TurnOver::Tcp), (server.tls, tls(roots))] {
        let hidden = engine(vec![turn(addr, PASSWORD, over)]);
        let [mut a, mut b] = pair(&hidden, &plain, [true, false]).await;
        hears(&mut a, &mut b).await;
        hears(&mut b, &mut a).await;
    }
    // Somebody else's certificate is not believed.
    let stranger = engine(vec![turn(server.tls, PASSWORD, tls(rustls::RootCertStore::empty()))]);
    let faults = stranger.gather(&mut stranger.reserve().unwrap(), PATIENCE).await;
    assert!(faults.len() == 1 && faults[0].why.contains("certificate"), "{faults:?}");
}

/// Conforms: RFC 8656 §7.2 — an allocation that is there already is no fault of the server's: other ports have theirs.
#[tokio::test(flavor = "multi_thread")]
async fn an_allocation_that_its_ports_last_user_left_keeps_the_server_from_nobody_else() {
    let folder = tempfile::tempdir().unwrap();
    let server = TurnServer::start(folder.path(), None, &[]);
    let media = engine(vec![turn(server.addr, PASSWORD, TurnOver::Udp)]);
    let mut port = media.reserve().unwrap();
    assert_eq!(media.gather(&mut port, PATIENCE).await, []);
    let faults = media.gather(&mut port, PATIENCE).await;
    assert!(faults.len() == 1 && faults[0].why.starts_with("it answers 437"), "{faults:?}");
    let mut other = media.reserve().unwrap();
    assert_eq!(media.gather(&mut other, PATIENCE).await, []);
    assert_eq!(other.relayed().count(), 1);
}

/// Conforms: RFC 8489 §6.3 — a STUN server tells how a leg's socket is seen.
#[tokio::test(flavor = "multi_thread")]
async fn servers_that_refuse_or_are_silent_are_named_and_left_alone_for_a_while() {
    let folder = tempfile::tempdir().unwrap();
    let server = TurnServer::start(folder.path(), None, &[]);
    let silent = UdpSocket::bind((LOOPBACK, 0)).unwrap();
    let stun = |addr: SocketAddr| IceServer { name: format!("stun:{addr}"), addr, turn: None };
    let silent_at = silent.local_addr().unwrap();
    let media = engine(vec![stun(server.addr), turn(server.addr, "wrong", TurnOver::Udp), stun(silent_at)]);
    let mut port = media.reserve().unwrap();
    let mut faults = media.gather(&mut port, 2 * S).await;
    faults.sort_by(|a, b| a.server.cmp(&b.server));
    let told: Vec<String> = faults.iter().map(ToString::to_string).collect();
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told[0] == format!("stun:{silent_at}: no answer within 2000 ms"), "{told:?}");
    assert!(told[1].starts_with(&format!("turn:{}: it answers 401", server.addr)), "{told:?}");
    assert_eq!(port.reflexive(), [port.rtp_addr()]);
    assert_eq!(port.relayed().count(), 0);
    // They are not asked again at once, by this call's successor.
    let mut next = media.reserve().unwrap();
    assert_eq!(media.gather(&mut next, PATIENCE).await, []);
    assert_eq!(next.reflexive(), [next.rtp_addr()]);
}
