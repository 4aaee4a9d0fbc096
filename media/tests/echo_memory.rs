//! What an echo call takes of memory, measured: the growth of this process over a thousand legs in use.
//!
//! Counted is all that the process holds, both of its sides of the leg and its share of the worker. The kernel's side of
//! the two sockets is not the process's memory and is not in it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::time::{Duration, Instant};

use codecs::registry;
use media::rtp::{RtpHeader, RtpTime, Seq};
use media::{LegConfig, LegMode, Media, MediaConfig};

const LEGS: usize = 1_000;
const LIMIT_BYTES: usize = 16 * 1_024;

fn resident_bytes() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).unwrap().parse::<usize>().unwrap() * 4_096
}

#[tokio::test]
async fn an_echo_call_takes_no_more_than_sixteen_kibibytes() {
    let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let peer = UdpSocket::bind((loopback, 0)).unwrap();
    // What is taken of this range by others is passed over.
    let first = peer.local_addr().unwrap().port().min(60_000);
    let config = MediaConfig { bind: loopback, ports: first..=first + 5_000, ..MediaConfig::default() };
    let media = Media::start(config).unwrap();
    let codec = registry::by_static_payload_type(0).unwrap().params();
    let mut legs = Vec::with_capacity(LEGS);
    let open = |seed: usize| {
        let port = media.reserve().unwrap();
        let to = port.rtp_addr();
        let remote = Some(peer.local_addr().unwrap());
        let config = LegConfig { remote, seed: seed as u64, ..LegConfig::new(codec.clone(), 0, LegMode::Echo) };
        (to, media.open(port, config).unwrap())
    };
    // The first ones pay for what is shared.
    legs.extend((0..10).map(open));
    let before = resident_bytes();
    legs.extend((10..LEGS + 10).map(open));
    for n in 0..10_u16 {
        let header =
            RtpHeader { marker: false, payload_type: 0, seq: Seq(n), timestamp: RtpTime(u32::from(n) * 160), ssrc: 5 };
        let packet = [&header.to_bytes()[..], &[0x91; 160]].concat();
        for (to, _) in &legs {
            peer.send_to(&packet, to).unwrap();
        }
        let start = Instant::now();
        while legs.iter().any(|(_, leg)| leg.stats().packets_in <= u64::from(n)) {
            assert!(start.elapsed() < Duration::from_secs(30), "packets arrive");
            std::thread::yield_now();
        }
    }
    let each = (resident_bytes() - before) / LEGS;
    println!("{each} bytes an echo leg");
    assert!(each <= LIMIT_BYTES, "{each} bytes a leg");
}
