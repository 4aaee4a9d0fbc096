//! Which address a leg believes: a peer behind a NAT is found, an off-path sender is not.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use common::{Netem, Path, Random, Talker, ms, seeds};
use media::latch::{Latch, LatchConfig, LatchPolicy, LatchVerdict, PayloadTypes, Refusal};
use media::rtp::RtpPacket;

const TYPES: PayloadTypes = PayloadTypes::new().with(0).with(101);

fn addr(text: &str) -> SocketAddr {
    text.parse().unwrap()
}

fn latch(remote: &str, signalling: &str, start: Instant) -> Latch {
    let signalling = Some(signalling.parse().unwrap());
    Latch::new(start, LatchConfig { signalling, ..LatchConfig::new(Some(addr(remote)), TYPES, 8_000, 42) })
}

fn receive(latch: &mut Latch, now: Instant, from: SocketAddr, bytes: &[u8]) -> LatchVerdict {
    latch.receive(now, from, &RtpPacket::parse(bytes).unwrap())
}

fn taken(verdict: LatchVerdict) -> bool {
    !matches!(verdict, LatchVerdict::Refuse(_))
}

/// Sends `count` packets at 20 ms from `from`; returns how many were taken.
fn talk(latch: &mut Latch, from: SocketAddr, talker: &mut Talker, start: Instant, count: u32) -> u32 {
    (0..count).map(|n| u32::from(taken(receive(latch, start + ms(20) * n, from, &talker.packet())))).sum()
}

#[test]
fn takes_the_address_that_sdp_gives_from_its_first_packet() {
    let now = Instant::now();
    for policy in [LatchPolicy::Strict, LatchPolicy::Nat] {
        let config = LatchConfig { policy, ..LatchConfig::new(Some(addr("203.0.113.5:4000")), TYPES, 8_000, 1) };
        let mut latch = Latch::new(now, config);
        assert_eq!(latch.send_to(), Some(addr("203.0.113.5:4000")));
        let mut talker = Talker::new(7, 1, 1);
        assert_eq!(talk(&mut latch, addr("203.0.113.5:4000"), &mut talker, now, 10), 10);
        assert_eq!(latch.ssrc(), Some(7));
    }
}

#[test]
fn strict_takes_no_other_address_however_long_it_sends() {
    let now = Instant::now();
    let config = LatchConfig {
        policy: LatchPolicy::Strict,
        signalling: Some("203.0.113.5".parse().unwrap()),
        ..LatchConfig::new(Some(addr("203.0.113.5:4000")), TYPES, 8_000, 1)
    };
    let mut latch = Latch::new(now, config);
    let mut talker = Talker::new(7, 1, 1);
    assert_eq!(talk(&mut latch, addr("203.0.113.5:4001"), &mut talker, now, 1_000), 0);
    assert_eq!(latch.send_to(), Some(addr("203.0.113.5:4000")));
}

#[test]
fn finds_a_peer_behind_a_nat_at_the_address_of_its_signalling() {
    let now = Instant::now();
    let mut latch = latch("192.168.1.20:4000", "198.51.100.7", now);
    let mut talker = Talker::new(7, 1, 1);
    let nat = addr("198.51.100.7:61234");
    assert_eq!(receive(&mut latch, now, nat, &talker.packet()), LatchVerdict::Refuse(Refusal::Watched));
    assert_eq!(receive(&mut latch, now + ms(20), nat, &talker.packet()), LatchVerdict::Refuse(Refusal::Watched));
    assert_eq!(receive(&mut latch, now + ms(40), nat, &talker.packet()), LatchVerdict::Latched(nat));
    assert_eq!(receive(&mut latch, now + ms(60), nat, &talker.packet()), LatchVerdict::Accept);
    assert_eq!(latch.send_to(), Some(nat));
}

#[test]
fn finds_a_peer_whose_media_comes_from_elsewhere_only_where_sdp_could_not_have_worked() {
    let start = Instant::now();
    let media = addr("198.51.100.99:5000");
    let mut behind_nat = latch("10.0.0.4:4000", "198.51.100.7", start);
    let mut talker = Talker::new(7, 1, 1);
    assert!(talk(&mut behind_nat, media, &mut talker, start, 100) > 50);
    assert_eq!(behind_nat.send_to(), Some(media));

    let mut public = latch("203.0.113.5:4000", "198.51.100.7", start);
    assert_eq!(talk(&mut public, media, &mut Talker::new(7, 1, 1), start, 1_000), 0);
    assert_eq!(public.send_to(), Some(addr("203.0.113.5:4000")));
}

#[test]
fn a_sender_from_elsewhere_that_was_first_gives_way_to_the_peer() {
    let start = Instant::now();
    for late_ms in [100, 1_000, 4_000, 9_000] {
        let mut latch = latch("10.0.0.4:4000", "198.51.100.7", start);
        let thief = addr("192.0.2.66:5000");
        let mut stolen = Talker::new(666, 1, 1);
        for n in 0..u32::try_from(late_ms / 20).unwrap() {
            receive(&mut latch, start + ms(20) * n, thief, &stolen.packet());
        }
        let peer = addr("198.51.100.7:61234");
        let mut talker = Talker::new(7, 1, 1);
        let mut taken_at = None;
        for n in 0..20u64 {
            let now = start + ms(late_ms + 20 * n);
            receive(&mut latch, now, thief, &stolen.packet());
            if taken(receive(&mut latch, now + ms(1), peer, &talker.packet())) && taken_at.is_none() {
                taken_at = Some(n);
            }
        }
        assert_eq!(latch.send_to(), Some(peer), "the peer came after {late_ms} ms");
        assert!(taken_at.unwrap() <= 3);
        assert!(!taken(receive(&mut latch, start + ms(late_ms + 400), thief, &stolen.packet())));
    }
}

/// What a thief can do: everything but know the SSRC, and the sequence.
#[derive(Debug, Clone, Copy)]
enum Attack {
    RandomPorts,
    RandomPortsSameIp,
    OnePort,
    OnePortInSequence,
    SpoofedPeer,
    SpoofedPeerInSequence,
}

impl Attack {
    const ALL: [Attack; 6] = [
        Attack::RandomPorts,
        Attack::RandomPortsSameIp,
        Attack::OnePort,
        Attack::OnePortInSequence,
        Attack::SpoofedPeer,
        Attack::SpoofedPeerInSequence,
    ];

    fn packet(self, random: &mut Random, talker: &mut Talker, peer: SocketAddr) -> (SocketAddr, Vec<u8>) {
        let port = 1_024 + random.below(60_000) as u16;
        let port = if port == peer.port() { port + 1 } else { port };
        let from = match self {
            Attack::RandomPorts => SocketAddr::new([192, 0, 2, 66].into(), port),
            Attack::RandomPortsSameIp => SocketAddr::new(peer.ip(), port),
            Attack::OnePort | Attack::OnePortInSequence => addr("192.0.2.66:5000"),
            Attack::SpoofedPeer | Attack::SpoofedPeerInSequence => peer,
        };
        let in_sequence = matches!(self, Attack::OnePortInSequence | Attack::SpoofedPeerInSequence);
        if !in_sequence {
            talker.header.ssrc = random.next() as u32;
            talker.header.seq.0 = random.next() as u16;
            talker.header.timestamp.0 = random.next() as u32;
        }
        (from, talker.packet())
    }
}

#[test]
fn a_call_is_not_taken_over_nor_spoken_into_at_fifty_times_its_rate() {
    for seed in seeds(20) {
        for attack in Attack::ALL {
            let start = Instant::now();
            let peer = addr("198.51.100.7:61234");
            let mut latch = latch("192.168.1.20:4000", "198.51.100.7", start);
            let mut random = Random(seed);
            let mut peer_talker = Talker::new(random.next() as u32, random.next() as u16, random.next() as u32);
            let mut thief = Talker::new(random.next() as u32, 9, 9);
            // the call is up before the attack begins
            assert!(talk(&mut latch, peer, &mut peer_talker, start, 50) >= 45);
            let (mut heard, mut injected) = (0, 0);
            for n in 50..550u32 {
                let now = start + ms(20) * n;
                heard += u32::from(taken(receive(&mut latch, now, peer, &peer_talker.packet())));
                for k in 1..50u32 {
                    let (from, bytes) = attack.packet(&mut random, &mut thief, peer);
                    let at = now + Duration::from_micros(400) * k;
                    injected += u32::from(taken(receive(&mut latch, at, from, &bytes)));
                }
            }
            assert_eq!(injected, 0, "seed {seed}: {attack:?} got packets in");
            assert_eq!(heard, 500, "seed {seed}: {attack:?} silenced the peer");
            assert_eq!(latch.send_to(), Some(peer));
        }
    }
}

#[test]
fn a_peer_behind_a_nat_is_found_in_the_middle_of_a_flood() {
    let mut slowest = 0;
    for seed in seeds(50) {
        for attack in [Attack::RandomPorts, Attack::RandomPortsSameIp, Attack::OnePort, Attack::OnePortInSequence] {
            let start = Instant::now();
            let peer = addr("198.51.100.7:61234");
            let mut latch = latch("192.168.1.20:4000", "198.51.100.7", start);
            let mut random = Random(seed);
            let mut talker = Talker::new(random.next() as u32, random.next() as u16, random.next() as u32);
            let mut thief = Talker::new(random.next() as u32, 9, 9);
            let mut found = None;
            for n in 0..250u32 {
                let now = start + ms(20) * n;
                for k in 0..50u32 {
                    let (from, bytes) = attack.packet(&mut random, &mut thief, peer);
                    let verdict = receive(&mut latch, now + Duration::from_micros(380) * k, from, &bytes);
                    assert!(!taken(verdict), "seed {seed}: {attack:?} won after {n} frames");
                }
                if taken(receive(&mut latch, now + Duration::from_micros(19_500), peer, &talker.packet())) {
                    found.get_or_insert(n);
                }
            }
            let found = found.unwrap_or_else(|| panic!("seed {seed}: {attack:?} kept the peer out"));
            slowest = slowest.max(found);
            assert_eq!(latch.send_to(), Some(peer));
        }
    }
    println!("found after {slowest} packets at the latest");
    assert!(slowest < 60);
}

#[test]
fn follows_a_peer_whose_nat_gives_it_another_port() {
    let start = Instant::now();
    let mut latch = latch("192.168.1.20:4000", "198.51.100.7", start);
    let mut talker = Talker::new(7, 65_500, 1);
    let old = addr("198.51.100.7:61234");
    talk(&mut latch, old, &mut talker, start, 500);
    // new mappings in the middle of the stream, out of the learning window
    for (at, moved) in [(10_000, addr("198.51.100.7:61999")), (12_000, addr("203.0.113.200:1000"))] {
        let taken = talk(&mut latch, moved, &mut talker, start + ms(at), 100);
        assert!((40..=50).contains(&taken), "{taken} of 100 were taken: a second of silence first");
        assert_eq!(latch.send_to(), Some(moved));
    }
}

#[test]
fn a_stream_that_is_not_the_peers_does_not_follow_it_into_silence() {
    for seed in seeds(20) {
        let start = Instant::now();
        let mut latch = latch("192.168.1.20:4000", "198.51.100.7", start);
        let mut talker = Talker::new(7, 100, 1);
        let peer = addr("198.51.100.7:61234");
        talk(&mut latch, peer, &mut talker, start, 300);
        let mut random = Random(seed);
        for n in 0..500u32 {
            let mut guess = Talker::new(random.next() as u32, random.next() as u16, random.next() as u32);
            let now = start + ms(7_000) + ms(20) * n;
            for _ in 0..20 {
                assert!(!taken(receive(&mut latch, now, addr("198.51.100.7:7777"), &guess.packet())), "seed {seed}");
            }
        }
        // and the peer is still taken when it speaks again
        assert_eq!(talk(&mut latch, peer, &mut talker, start + ms(20_000), 10), 10);
    }
}

#[test]
fn another_source_from_the_peers_address_is_taken_when_the_former_is_silent() {
    let start = Instant::now();
    let mut latch = latch("203.0.113.5:4000", "203.0.113.5", start);
    let peer = addr("203.0.113.5:4000");
    talk(&mut latch, peer, &mut Talker::new(7, 100, 1), start, 100);
    // without a pause: two or three packets go by
    let mut second = Talker::new(8, 9_000, 5);
    let taken_of_second = talk(&mut latch, peer, &mut second, start + ms(2_000), 50);
    assert!(taken_of_second >= 47, "{taken_of_second}");
    assert_eq!(latch.ssrc(), Some(8));
    // after a pause: at once
    assert_eq!(talk(&mut latch, peer, &mut Talker::new(9, 77, 5), start + ms(4_000), 50), 50);
}

#[test]
fn a_source_that_took_over_while_the_peer_was_merely_late_is_thrown_out_again() {
    let start = Instant::now();
    let mut latch = latch("203.0.113.5:4000", "203.0.113.5", start);
    let peer = addr("203.0.113.5:4000");
    let mut talker = Talker::new(7, 100, 1);
    talk(&mut latch, peer, &mut talker, start, 100);
    let mut thief = Talker::new(666, 1, 1);
    let stall = start + ms(2_000);
    for n in 0..20u32 {
        receive(&mut latch, stall + ms(10) * n, peer, &thief.packet());
    }
    assert_eq!(latch.ssrc(), Some(666), "silent for 200 ms: for all one knows it has changed");
    for n in 0..100u32 {
        let now = stall + ms(200) + ms(20) * n;
        assert_eq!(receive(&mut latch, now, peer, &talker.packet()), LatchVerdict::Accept);
        assert_eq!(receive(&mut latch, now + ms(5), peer, &thief.packet()), LatchVerdict::Refuse(Refusal::Source));
    }
}

#[test]
fn a_new_offer_moves_the_peer_and_the_old_address_is_heard_until_it_has() {
    let start = Instant::now();
    let mut latch = latch("203.0.113.5:4000", "203.0.113.5", start);
    let old = addr("203.0.113.5:4000");
    let mut talker = Talker::new(7, 100, 1);
    talk(&mut latch, old, &mut talker, start, 500);
    let new = addr("203.0.113.80:6000");
    let config = LatchConfig {
        signalling: Some("203.0.113.5".parse().unwrap()),
        ..LatchConfig::new(Some(new), TYPES, 8_000, 42)
    };
    let now = start + ms(10_000);
    latch.renegotiate(now, config);
    assert_eq!(latch.send_to(), Some(new), "we send to where it will be at once");
    assert_eq!(talk(&mut latch, old, &mut talker, now, 5), 5);
    let mut moved = Talker::new(8, 1, 1);
    assert!(talk(&mut latch, new, &mut moved, now + ms(100), 20) >= 19);
    assert_eq!(latch.peer(), Some(new));
    assert_eq!(talk(&mut latch, old, &mut talker, now + ms(500), 20), 0, "the old address is the peer's no more");
}

#[test]
fn the_same_address_offered_again_keeps_what_was_learnt() {
    let start = Instant::now();
    let config = LatchConfig {
        signalling: Some("198.51.100.7".parse().unwrap()),
        ..LatchConfig::new(Some(addr("192.168.1.20:4000")), TYPES, 8_000, 42)
    };
    let mut latch = Latch::new(start, config);
    let nat = addr("198.51.100.7:61234");
    let mut talker = Talker::new(7, 1, 1);
    talk(&mut latch, nat, &mut talker, start, 100);
    latch.renegotiate(start + ms(2_000), config);
    assert_eq!(latch.send_to(), Some(nat));
    assert_eq!(talk(&mut latch, nat, &mut talker, start + ms(2_000), 100), 100);
}

#[test]
fn other_payload_types_are_nobody_we_know() {
    let start = Instant::now();
    let mut latch = latch("203.0.113.5:4000", "203.0.113.5", start);
    let mut talker = Talker::new(7, 1, 1);
    for payload_type in 0..128 {
        talker.header.payload_type = payload_type;
        let verdict = receive(&mut latch, start, addr("203.0.113.5:4000"), &talker.packet());
        assert_eq!(taken(verdict), payload_type == 0 || payload_type == 101, "{payload_type}: {verdict:?}");
    }
}

#[test]
fn rtcp_is_believed_from_the_peers_ip_and_answered_where_it_came_from() {
    let start = Instant::now();
    let mut latch = latch("192.168.1.20:4000", "198.51.100.7", start);
    assert_eq!(latch.send_rtcp_to(), Some(addr("192.168.1.20:4001")));
    assert!(!latch.receive_rtcp(addr("198.51.100.7:61235")), "not before its RTP is believed");
    talk(&mut latch, addr("198.51.100.7:61234"), &mut Talker::new(7, 1, 1), start, 10);
    assert_eq!(latch.send_rtcp_to(), Some(addr("198.51.100.7:61235")));
    assert!(latch.receive_rtcp(addr("198.51.100.7:50000")));
    assert_eq!(latch.send_rtcp_to(), Some(addr("198.51.100.7:50000")));
    assert!(!latch.receive_rtcp(addr("192.0.2.66:50000")));
}

#[test]
fn takes_little_memory() {
    println!("{} bytes", size_of::<Latch>());
    assert!(size_of::<Latch>() <= 1_024);
}

#[test]
fn a_peer_behind_a_nat_is_found_again_on_a_network_that_loses_and_reorders() {
    for seed in seeds(20) {
        let start = Instant::now();
        // at the signalling's IP, and at another where the SDP's address could not have worked
        for from in ["198.51.100.7:61234", "203.0.113.200:1000"] {
            let mut latch = latch("192.168.1.20:4000", "198.51.100.7", start);
            let mut net = Netem::new(seed, Path { loss: 0.2, jitter: ms(40), ..Path::clean() });
            let mut talker = Talker::new(7, 65_500, 1);
            let (mut found, mut moved) = (None, None);
            for n in 0..750u32 {
                let now = start + ms(20) * n;
                net.send(now, &talker.packet());
                // after ten seconds its NAT gives it another port
                let from = addr(from);
                let from = if n < 500 { from } else { SocketAddr::new(from.ip(), from.port() + 1) };
                while let Some((at, bytes)) = net.receive(now) {
                    if taken(receive(&mut latch, at, from, &bytes)) {
                        let first = if n < 500 { &mut found } else { &mut moved };
                        first.get_or_insert(n);
                    }
                }
            }
            let (found, moved) = (found.unwrap_or(9_999) * 20, moved.unwrap_or(9_999) * 20);
            assert!(found < 3_000, "seed {seed}: {from} was found after {found} ms");
            assert!(moved < 10_000 + 3_000, "seed {seed}: {from} moved and was found after {} ms", moved - 10_000);
        }
    }
}
