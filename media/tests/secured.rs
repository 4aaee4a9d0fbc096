//! Legs of two engines that talk with each other under SRTP: by keys from signalling, by DTLS, and by ICE with DTLS.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "common/ports.rs"]
mod ports;

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

use codecs::registry::{self, CodecId};
use media::connect::{ConnectConfig, IceConfig, IceCredentials};
use media::srtp::{KeyPair, MasterKey, Suite};
use media::{LegConfig, LegEvent, LegMode, LegPort, Media, MediaConfig, Security};

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const PATIENCE: Duration = Duration::from_secs(20);

fn engine() -> Media {
    Media::start(MediaConfig { bind: LOOPBACK, ports: ports::ports(4), ..MediaConfig::default() }).unwrap()
}

fn config(remote: SocketAddr, mux: bool, security: Security) -> LegConfig {
    let codec = registry::spec(CodecId::Pcmu).unwrap().params();
    LegConfig {
        remote: Some(remote),
        remote_rtcp: Some(SocketAddr::new(remote.ip(), remote.port() + u16::from(!mux))),
        rtcp_mux: mux,
        security,
        ..LegConfig::new(codec, 0, LegMode::Talk)
    }
}

fn master(from: u8) -> MasterKey {
    MasterKey::new(Suite::AesCm128HmacSha1_80, &(from..from + 30).collect::<Vec<_>>()).unwrap()
}

fn sdes(send: u8, receive: u8) -> Security {
    Security::Sdes(Arc::new(KeyPair { send: master(send), receive: master(receive) }))
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

/// Two legs, one on each engine, protected as `security` says for the (first, second).
async fn talk(security: impl Fn(&Media, &Media, [SocketAddr; 2]) -> [Security; 2], mux: bool) -> [LegPort; 2] {
    let (one, two) = (engine(), engine());
    let (a, b) = (one.reserve().unwrap(), two.reserve().unwrap());
    let addrs = [a.rtp_addr(), b.rtp_addr()];
    let [for_a, for_b] = security(&one, &two, addrs);
    let mut a = one.open(a, config(addrs[1], mux, for_a)).unwrap();
    let mut b = two.open(b, config(addrs[0], mux, for_b)).unwrap();
    hears(&mut a, &mut b).await;
    hears(&mut b, &mut a).await;
    std::mem::forget((one, two));
    [a, b]
}

fn dtls(ours: &Media, theirs: &Media, is_client: bool, ice: Option<IceConfig>) -> Security {
    let fingerprint = theirs.identity().unwrap().fingerprint().clone();
    Security::Dtls(Arc::new(ConnectConfig { identity: ours.identity().unwrap(), is_client, fingerprint, ice }))
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_from_signalling_protect_both_ways_and_can_be_exchanged() {
    let [mut a, mut b] = talk(|_, _, _| [sdes(1, 2), sdes(2, 1)], false).await;
    // In the clear, and under other keys, nothing is heard.
    let stranger = UdpSocket::bind((LOOPBACK, 0)).unwrap();
    let b_at = a.config().remote.unwrap();
    for n in 0..50_u8 {
        stranger
            .send_to(&[0x80, 0, 0, n, 0, 0, 0, 0, 0, 0, 0, 9, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12], b_at)
            .unwrap();
    }
    let start = Instant::now();
    while b.stats().bad_tags < 50 {
        assert!(start.elapsed() < PATIENCE, "{:?}", b.stats());
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let lost = b.stats().lost;
    b.update(LegConfig { security: sdes(4, 3), ..b.config().clone() }).unwrap();
    a.update(LegConfig { security: sdes(3, 4), ..a.config().clone() }).unwrap();
    hears(&mut a, &mut b).await;
    hears(&mut b, &mut a).await;
    assert!(b.stats().lost <= lost + 2, "{:?}", b.stats());
    // Back to none, where both agree to it.
    b.update(LegConfig { security: Security::Plain, ..b.config().clone() }).unwrap();
    a.update(LegConfig { security: Security::Plain, ..a.config().clone() }).unwrap();
    hears(&mut a, &mut b).await;
    hears(&mut b, &mut a).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_handshake_in_the_media_path_protects_with_and_without_a_socket_for_rtcp() {
    for mux in [true, false] {
        let secured =
            |one: &Media, two: &Media, _: [SocketAddr; 2]| [dtls(one, two, true, None), dtls(two, one, false, None)];
        let [a, b] = talk(secured, mux).await;
        assert_eq!((a.stats().bad_tags, a.stats().malformed), (0, 0));
        drop((a, b));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ice_finds_the_peer_and_the_leg_follows() {
    let credentials =
        |name: &str| IceCredentials { ufrag: format!("{name}-name"), pwd: format!("{name}-password-of-some-length") };
    let secured = |one: &Media, two: &Media, [a, b]: [SocketAddr; 2]| {
        let ice = |here: SocketAddr, ours: &str, theirs: &str, there: Option<SocketAddr>, is_controlling| IceConfig {
            local: credentials(ours),
            remote: credentials(theirs),
            hosts: vec![here],
            reflexive: vec![],
            relayed: vec![],
            candidates: there
                .map(|at| format!("1 1 udp 2130706431 {} {} typ host", at.ip(), at.port()))
                .into_iter()
                .collect(),
            is_controlling,
            is_lite: false,
        };
        [
            dtls(one, two, true, Some(ice(a, "a", "b", Some(b), true))),
            dtls(two, one, false, Some(ice(b, "b", "a", None, false))),
        ]
    };
    let [mut a, mut b] = talk(secured, true).await;
    // A hold and its end change nothing of it.
    let held = LegConfig { direction: media::Direction::SendOnly, ..b.config().clone() };
    b.update(held).unwrap();
    b.update(LegConfig { direction: media::Direction::SendRecv, ..b.config().clone() }).unwrap();
    hears(&mut a, &mut b).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leg_whose_peer_shows_another_certificate_says_so() {
    let (one, two, other) = (engine(), engine(), engine());
    let (a, b) = (one.reserve().unwrap(), two.reserve().unwrap());
    let (a_at, b_at) = (a.rtp_addr(), b.rtp_addr());
    let mut a = one.open(a, config(b_at, true, dtls(&one, &other, true, None))).unwrap();
    let b = two.open(b, config(a_at, true, dtls(&two, &one, false, None))).unwrap();
    let told = tokio::time::timeout(Duration::from_secs(40), async {
        loop {
            if let LegEvent::ConnectFailed { reason } = a.next().await {
                return reason;
            }
        }
    })
    .await
    .unwrap();
    assert!(told.contains("certificate"), "{told}");
    assert_eq!((a.stats().packets_out, b.stats().packets_out), (0, 0));
}
