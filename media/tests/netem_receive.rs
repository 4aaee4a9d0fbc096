//! The receiving cores together, as a leg chains them: latch, source, jitter buffer, digits, on a bad network and with
//! somebody else sending too.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod common;

use std::net::SocketAddr;
use std::time::Instant;

use common::{Netem, Path, Random, Talker, ms, number, seeds};
use media::dtmf::{DtmfEvent, DtmfReceiver, DtmfSender};
use media::jitter::{Heard, JitterBuffer, JitterConfig};
use media::latch::{Latch, LatchConfig, LatchVerdict, PayloadTypes};
use media::rtp::{RtpHeader, RtpPacket, Source};

const EVENT: u8 = 101;

struct Receiver {
    latch: Latch,
    source: Option<Source>,
    jitter: JitterBuffer,
    dtmf: DtmfReceiver,
    digits: String,
    heard: Vec<u32>,
    lost: u32,
    refused: u32,
}

impl Receiver {
    fn new(now: Instant, peer: SocketAddr) -> Receiver {
        let types = PayloadTypes::new().with(0).with(EVENT);
        Receiver {
            latch: Latch::new(now, LatchConfig::new(Some(peer), types, 8_000, 5)),
            source: None,
            jitter: JitterBuffer::new(now, &JitterConfig { playout: false, ..JitterConfig::new(8_000, 20, 160) }),
            dtmf: DtmfReceiver::new(8_000),
            digits: String::new(),
            heard: Vec::new(),
            lost: 0,
            refused: 0,
        }
    }

    fn receive(&mut self, now: Instant, from: SocketAddr, bytes: &[u8]) {
        let packet = RtpPacket::parse(bytes).unwrap();
        if matches!(self.latch.receive(now, from, &packet), LatchVerdict::Refuse(_)) {
            self.refused += 1;
            return;
        }
        self.source.get_or_insert_with(|| Source::new(now, 8_000, &packet)).receive(now, &packet);
        let event = packet.payload_type == EVENT;
        self.jitter.push(now, &packet, if event { 0 } else { packet.payload.len() as u32 });
        if event {
            for event in self.dtmf.receive(now, packet.timestamp, packet.marker, packet.payload) {
                self.take_key(event);
            }
        } else if let Some(event) = self.dtmf.sound(packet.timestamp) {
            self.take_key(event);
        }
    }

    fn tick(&mut self, now: Instant) {
        if let Some(event) = self.dtmf.tick(now) {
            self.take_key(event);
        }
        while let Some(heard) = self.jitter.ear(now) {
            match heard {
                Heard::Packet(frame) if frame.payload_type == EVENT => {}
                Heard::Packet(frame) => self.heard.push(number(frame.payload)),
                Heard::Lost(_) => self.lost += 1,
            }
        }
    }

    fn take_key(&mut self, event: DtmfEvent) {
        if let DtmfEvent::Released { digit, .. } = event {
            self.digits.push(digit);
        }
    }
}

#[test]
fn speech_and_digits_come_through_loss_reordering_and_a_stranger() {
    for seed in seeds(20) {
        let mut random = Random(seed);
        let loss = [0.0, 0.01, 0.05, 0.2][random.below(4) as usize];
        let path =
            Path { loss, burst: 1.5, jitter: ms(random.below(15)), duplicate: 0.02, reorder: 0.02, ..Path::clean() };
        let start = Instant::now();
        let peer: SocketAddr = "203.0.113.5:4000".parse().unwrap();
        let stranger: SocketAddr = "192.0.2.66:4000".parse().unwrap();
        let mut receiver = Receiver::new(start, peer);
        let mut net = Netem::new(seed, path);
        let mut talker = Talker::new(random.next() as u32, random.next() as u16, random.next() as u32);
        let mut other = Talker::new(random.next() as u32, random.next() as u16, random.next() as u32);
        let mut keys = DtmfSender::new(8_000, 160);
        let (mut sent, mut sounds) = (0u64, 0u32);
        for n in 0..3_000u32 {
            let now = start + ms(20) * n;
            if n % 500 == 100 {
                for digit in "12#".chars() {
                    keys.queue(digit, ms(120)).unwrap();
                }
            }
            if n < 2_900 {
                sent += 1;
                match keys.next(talker.header.timestamp) {
                    None => {
                        sounds += 1;
                        net.send(now, &talker.packet());
                    }
                    Some(packet) => {
                        let header = RtpHeader {
                            marker: packet.marker,
                            payload_type: EVENT,
                            timestamp: packet.timestamp,
                            ..talker.header
                        };
                        let mut bytes = [0; 16];
                        header.write(&packet.payload, &mut bytes).unwrap();
                        net.send(now, &bytes);
                        talker.header.seq = talker.header.seq.next();
                        talker.header.timestamp = talker.header.timestamp.plus(160);
                    }
                }
            }
            receiver.receive(now, stranger, &other.packet());
            while let Some(at) = net.next_arrival().filter(|at| *at < now + ms(20)) {
                while let Some(wake) = receiver.jitter.ear_wake(at).filter(|wake| *wake < at) {
                    receiver.tick(wake);
                }
                let (_, bytes) = net.receive(at).unwrap();
                receiver.receive(at, peer, &bytes);
                receiver.tick(at);
            }
        }
        receiver.tick(start + ms(70_000));
        assert_eq!(receiver.refused, 3_000, "seed {seed}: the stranger was taken");
        assert_eq!(receiver.digits, "12#".repeat(6), "seed {seed} at {loss}");
        assert!(receiver.heard.is_sorted_by(|a, b| a < b), "seed {seed}");
        let stats = receiver.jitter.stats();
        let source = receiver.source.unwrap().report();
        // copies make up for losses (RFC 3550 appendix A.3), and what is lost at the very end nobody knows
        assert!(source.lost <= net.lost, "seed {seed}: {source:?}");
        assert!(
            source.lost + net.duplicated + 12 >= net.lost,
            "seed {seed}: {} lost by the network, {source:?}",
            net.lost
        );
        assert_eq!(stats.duplicates, net.duplicated, "seed {seed}: {stats:?}");
        // whatever was sent is heard, given up, or an event
        let events = sent - u64::from(sounds);
        let accounted = receiver.heard.len() as u64 + u64::from(receiver.lost) + events;
        assert!(accounted.abs_diff(sent) <= u64::from(receiver.lost) + 3, "seed {seed}: {accounted} of {sent}");
        assert!(u64::from(receiver.lost) <= net.lost + stats.late, "seed {seed}: {stats:?}");
        assert!(stats.resyncs == 0 && stats.overflowed == 0, "seed {seed}: {stats:?}");
    }
}
