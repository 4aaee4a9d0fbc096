//! Five hundred echo calls at once, G.711 at 20 ms: nothing that was sent to us is lost on our side, and each call's
//! echo is one stream without a gap. What it costs is measured by `examples/floor.rs`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use codecs::registry;
use media::rtp::{self, RtpHeader, RtpPacket, RtpTime, Seq};
use media::{LegConfig, LegMode, LegPort, Media, MediaConfig};

const CALLS: usize = 500;
const PACKETS: u16 = 100;
const PATIENCE: Duration = Duration::from_secs(30);

struct Call {
    peer: UdpSocket,
    to: SocketAddr,
    leg: LegPort,
    last_seq: Option<Seq>,
    echoed: u64,
}

impl Call {
    /// Takes what has come back; each packet is the next one of its stream.
    fn read(&mut self) {
        let mut bytes = [0; 2_048];
        while let Ok(size) = self.peer.recv(&mut bytes) {
            // The port above another call's: its reports come here.
            if rtp::is_rtcp(&bytes[..size]) {
                continue;
            }
            let packet = RtpPacket::parse(&bytes[..size]).unwrap();
            let gapless = self.last_seq.replace(packet.seq).is_none_or(|last| packet.seq == last.next());
            assert!(gapless, "a gap in what was sent back");
            self.echoed += u64::from(packet.payload.contains(&0x91));
        }
    }
}

#[tokio::test]
async fn five_hundred_echo_calls_lose_nothing_on_our_side() {
    let loopback = IpAddr::V4(Ipv4Addr::LOCALHOST);
    let probe = UdpSocket::bind((loopback, 0)).unwrap();
    // What is taken of this range by others is passed over.
    let first = probe.local_addr().unwrap().port().min(60_000);
    let config = MediaConfig { bind: loopback, ports: first..=first + 5_000, ..MediaConfig::default() };
    let media = Media::start(config).unwrap();
    let codec = registry::by_static_payload_type(0).unwrap().params();
    let mut calls: Vec<Call> = (0..CALLS)
        .map(|seed| {
            let peer = UdpSocket::bind((loopback, 0)).unwrap();
            peer.set_nonblocking(true).unwrap();
            let port = media.reserve().unwrap();
            let to = port.rtp_addr();
            let remote = Some(peer.local_addr().unwrap());
            let config = LegConfig { remote, seed: seed as u64, ..LegConfig::new(codec.clone(), 0, LegMode::Echo) };
            Call { peer, to, leg: media.open(port, config).unwrap(), last_seq: None, echoed: 0 }
        })
        .collect();
    let start = Instant::now();
    for n in 0..PACKETS {
        let timestamp = RtpTime(u32::from(n) * 160);
        let header = RtpHeader { marker: n == 0, payload_type: 0, seq: Seq(n), timestamp, ssrc: 5 };
        let packet = [&header.to_bytes()[..], &[0x91; 160]].concat();
        let due = start + Duration::from_millis(20) * u32::from(n);
        for call in &mut calls {
            call.peer.send_to(&packet, call.to).unwrap();
            call.read();
        }
        tokio::time::sleep(due.saturating_duration_since(Instant::now())).await;
    }
    let begun = Instant::now();
    while calls.iter().any(|call| call.leg.stats().packets_in < u64::from(PACKETS)) {
        assert!(begun.elapsed() < PATIENCE, "all that was sent is taken");
        tokio::task::yield_now().await;
    }
    calls.iter_mut().for_each(Call::read);
    for call in &calls {
        let stats = call.leg.stats();
        let ours = (stats.lost, stats.overflowed, stats.send_errors);
        assert_eq!(ours, (0, 0, 0), "{stats:?}");
        assert!(call.echoed * 10 >= u64::from(PACKETS) * 8, "{} of {PACKETS} came back", call.echoed);
    }
    assert_eq!(media.stats().events_dropped, 0);
}
