//! Two that are alone in a room and speak the same codec: their packets are passed on as they came. In virtual time, on sockets of the
//! loopback, which deliver at once.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

mod common;
#[path = "common/ports.rs"]
mod ports;

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

use codecs::registry::{self, CodecId};
use codecs::{Encoder, SampleRate};
use common::Random;
use media::dtmf::EventPayload;
use media::io::worker::Worker;
use media::rtcp::{Compound, Packet};
use media::rtp::{RtpHeader, RtpPacket, RtpTime, Seq};
use media::srtp::{KeyPair, MasterKey, Receiver, Sender, Suite};
use media::{
    DtmfFormat, LegConfig, LegEvent, LegMode, LegPort, LevelFormat, Media, MediaConfig, Members, Room, Security,
};

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const EVENTS: [u8; 2] = [101, 96];
/// The ids under which levels are agreed on.
const LEVELS: [u8; 2] = [1, 4];

/// What came to a phone.
#[derive(Debug, Clone, PartialEq)]
struct Came {
    at_ms: u64,
    ssrc: u32,
    marker: bool,
    payload_type: u8,
    seq: u16,
    timestamp: u32,
    /// What it says of the sound's level, and how many bytes of extensions there are.
    level: Option<u8>,
    extension: usize,
    payload: Vec<u8>,
}

/// A phone with the server's leg to it.
struct Phone {
    rtp: UdpSocket,
    rtcp: UdpSocket,
    to: SocketAddr,
    port: LegPort,
    payload_type: u8,
    event_type: u8,
    level_id: u8,
    ticks: u32,
    ssrc: u32,
    seq: u16,
    timestamp: u32,
    seals: Option<(Sender, Receiver)>,
    came: Vec<Came>,
    reports: Vec<Vec<u8>>,
}

impl Phone {
    /// Makes a packet; it takes its number whether it is sent or not.
    fn packet(&mut self, marker: bool, payload: &[u8]) -> Vec<u8> {
        let (payload_type, timestamp) = (self.payload_type, self.timestamp);
        self.timestamp = self.timestamp.wrapping_add(self.ticks);
        self.packet_of(payload_type, marker, timestamp, payload)
    }

    fn packet_of(&mut self, payload_type: u8, marker: bool, timestamp: u32, payload: &[u8]) -> Vec<u8> {
        self.extended(&[], payload_type, marker, timestamp, payload)
    }

    /// With a header extension, printed already.
    fn extended(
        &mut self,
        extension: &[u8],
        payload_type: u8,
        marker: bool,
        timestamp: u32,
        payload: &[u8],
    ) -> Vec<u8> {
        let (seq, timestamp) = (Seq(self.seq), RtpTime(timestamp));
        self.seq = self.seq.wrapping_add(1);
        let header = RtpHeader { marker, payload_type, seq, timestamp, ssrc: self.ssrc };
        let mut packet = [&header.to_bytes()[..], extension, payload].concat();
        packet[0] |= if extension.is_empty() { 0 } else { 0x10 };
        if let Some((sender, _)) = &mut self.seals {
            let len = packet.len();
            packet.resize(len + 32, 0);
            let sealed = sender.protect(&mut packet, len).unwrap();
            packet.truncate(sealed);
        }
        packet
    }

    fn send(&self, packet: &[u8]) {
        self.rtp.send_to(packet, self.to).unwrap();
    }

    fn speak(&mut self, payload: &[u8]) {
        let packet = self.packet(false, payload);
        self.send(&packet);
    }

    fn listen(&mut self, at_ms: u64) {
        let mut datagram = [0; 2_048];
        while let Ok(size) = self.rtp.recv(&mut datagram) {
            let mut clear = [0; 2_048];
            let bytes = match &mut self.seals {
                Some((_, receiver)) => {
                    let size = receiver.unprotect(&datagram[..size], &mut clear).expect("under our keys, and once");
                    &clear[..size]
                }
                None => &datagram[..size],
            };
            let packet = RtpPacket::parse(bytes).unwrap();
            self.came.push(Came {
                at_ms,
                ssrc: packet.ssrc,
                marker: packet.marker,
                payload_type: packet.payload_type,
                seq: packet.seq.0,
                timestamp: packet.timestamp.0,
                level: packet.extension.and_then(|extension| extension.level(self.level_id)),
                extension: packet.extension.map_or(0, |extension| extension.data.len()),
                payload: packet.payload.to_vec(),
            });
        }
        while let Ok(size) = self.rtcp.recv(&mut datagram) {
            self.reports.push(datagram[..size].to_vec());
        }
    }

    /// The sound that came since, in the order of its numbers; panics where numbers or timestamps are not whole.
    fn sound_since(&self, first: usize) -> Vec<u8> {
        let mut sound: Vec<&Came> =
            self.came[first..].iter().filter(|came| came.payload_type == self.payload_type).collect();
        sound.sort_by_key(|came| came.seq.wrapping_sub(self.came[first].seq));
        for pair in sound.windows(2) {
            let step = pair[1].timestamp.wrapping_sub(pair[0].timestamp);
            assert_eq!((pair[1].seq.wrapping_sub(pair[0].seq), step), (1, self.ticks), "{pair:?}");
        }
        sound.iter().flat_map(|came| came.payload.iter().copied()).collect()
    }
}

/// A worker that is run by hand, and phones on it.
struct Bench {
    media: Media,
    worker: Worker,
    start: Instant,
    now_ms: u64,
    phones: Vec<Phone>,
}

impl Bench {
    fn new() -> Bench {
        let config = MediaConfig { bind: LOOPBACK, ports: ports::ports(4), ..MediaConfig::default() };
        let (media, mut workers) = Media::by_hand(config).unwrap();
        let worker = workers.pop().unwrap();
        // Ahead of the clock, which legs and rooms are made by.
        Bench { media, worker, start: Instant::now() + Duration::from_secs(600), now_ms: 0, phones: Vec::new() }
    }

    fn two(codec: CodecId) -> (Bench, Room) {
        let mut bench = Bench::new();
        bench.phone(codec, 20, true, false);
        bench.phone(codec, 20, true, false);
        let room = bench.room();
        (bench, room)
    }

    fn phone(&mut self, codec: CodecId, ptime_ms: u8, events: bool, sealed: bool) {
        let n = self.phones.len();
        let bind = || {
            let socket = UdpSocket::bind((LOOPBACK, 0)).unwrap();
            socket.set_nonblocking(true).unwrap();
            socket
        };
        let (rtp, rtcp) = (bind(), bind());
        let spec = registry::spec(codec).unwrap();
        let payload_type = spec.static_payload_type.unwrap_or(110 + n as u8);
        let mut codec = spec.params();
        codec.ptime_ms = ptime_ms;
        let clock_hz = spec.clock_hz;
        let (event_type, level_id) = (EVENTS[n % 2], LEVELS[n % 2]);
        let dtmf = DtmfFormat { payload_type_send: event_type, payload_type_recv: event_type, clock_hz };
        let master = |from: u8| MasterKey::new(Suite::AesCm128HmacSha1_80, &[from + n as u8; 30]).unwrap();
        let (ours, theirs) = (master(1), master(100));
        let seals = sealed.then(|| (Sender::new(&theirs), Receiver::new(&ours)));
        let security =
            if sealed { Security::Sdes(Arc::new(KeyPair { send: ours, receive: theirs })) } else { Security::Plain };
        let config = LegConfig {
            remote: Some(rtp.local_addr().unwrap()),
            remote_rtcp: Some(rtcp.local_addr().unwrap()),
            dtmf: events.then_some(dtmf),
            levels: LevelFormat { send: Some(level_id), receive: Some(level_id), send_mixed: None },
            security,
            seed: 77 + n as u64,
            ..LegConfig::new(codec, payload_type, LegMode::Talk)
        };
        let reserved = self.media.reserve().unwrap();
        let to = reserved.rtp_addr();
        let mut port = self.media.open(reserved, config).unwrap();
        port.set_tapped(false);
        let ticks = clock_hz / 1_000 * u32::from(ptime_ms);
        let (seq, timestamp) = (65_500 + n as u16, u32::MAX - 9_000);
        let (came, reports) = (Vec::new(), Vec::new());
        let ssrc = 0x1000 + n as u32;
        self.phones.push(Phone {
            rtp,
            rtcp,
            to,
            port,
            payload_type,
            event_type,
            level_id,
            ticks,
            ssrc,
            seq,
            timestamp,
            seals,
            came,
            reports,
        });
    }

    fn room(&mut self) -> Room {
        let rate = self.phones.iter().map(|phone| phone.port.audio_rate()).max_by_key(|rate| rate.hz()).unwrap();
        let room = self.media.room(self.phones[0].port.worker(), rate, 4).unwrap();
        for phone in &mut self.phones {
            room.join(&mut phone.port, false).unwrap();
        }
        room
    }

    /// So many milliseconds, one by one.
    fn run(&mut self, ms: u64) {
        for _ in 0..ms {
            self.now_ms += 1;
            self.worker.round_at(self.start + Duration::from_millis(self.now_ms));
            for phone in &mut self.phones {
                phone.listen(self.now_ms);
            }
        }
    }

    /// Both speak random sound for so many packets; what each said.
    fn talk(&mut self, random: &mut Random, packets: usize) -> [Vec<u8>; 2] {
        let mut said = [vec![], vec![]];
        for _ in 0..packets {
            for (phone, said) in self.phones.iter_mut().zip(&mut said) {
                let payload = sound(random, 160);
                phone.speak(&payload);
                said.extend(payload);
            }
            self.run(20);
        }
        said
    }

    fn relayed(&self) -> u64 {
        self.media.stats().relayed
    }

    /// Lets what is passed on be passed on.
    fn settle(&mut self, random: &mut Random) {
        self.talk(random, 10);
        let before = self.relayed();
        self.talk(random, 5);
        assert_eq!(self.relayed() - before, 10, "both ways");
    }
}

/// Random bytes of G.711 that are neither zero twice over nor as loud as a mixer turns down.
fn sound(random: &mut Random, bytes: usize) -> Vec<u8> {
    let loudness = |byte: u8| (byte & 0x80) | 0x10 | (byte & 0x3f).min(0x3e);
    random.bytes(bytes).into_iter().map(loudness).collect()
}

fn seeded(seed: u64) -> Random {
    println!("seed {seed}");
    Random(seed)
}

/// Where one piece of sound lies in another, whole and nowhere else.
fn place_of(piece: &[u8], whole: &[u8]) -> Option<usize> {
    let mut places = whole.windows(piece.len()).enumerate().filter(|(_, window)| *window == piece);
    let found = places.next().map(|(at, _)| at);
    assert!(places.next().is_none());
    found
}

#[tokio::test]
async fn payloads_of_equal_codecs_are_passed_on_bit_by_bit_under_numbers_of_ours() {
    let mut random = seeded(1);
    for codec in [CodecId::Pcmu, CodecId::Pcma, CodecId::G722, CodecId::Opus] {
        let (mut bench, _room) = Bench::two(codec);
        let mut encoder = registry::encoder(&bench.phones[0].port.config().codec).unwrap();
        let payload = |random: &mut Random, encoder: &mut Box<dyn Encoder>| {
            let noise: Vec<i16> =
                random.bytes(encoder.audio_rate().samples_in_ms(20)).iter().map(|b| i16::from(*b) * 60).collect();
            let mut bytes = [0; 1_500];
            let size = encoder.encode(&noise, &mut bytes).unwrap();
            bytes[..size].to_vec()
        };
        for _ in 0..10 {
            for n in 0..2 {
                let bytes = payload(&mut random, &mut encoder);
                bench.phones[n].speak(&bytes);
            }
            bench.run(20);
        }
        let (before, first) = (bench.relayed(), bench.phones[1].came.len());
        let ours = bench.phones[1].came[0].ssrc;
        let mut said = vec![];
        for n in 0..40 {
            let bytes = payload(&mut random, &mut encoder);
            let packet = bench.phones[0].packet(n == 7, &bytes);
            bench.phones[0].send(&packet);
            said.push(bytes);
            bench.run(1);
            assert_eq!(bench.phones[1].came.len(), first + n + 1, "{codec:?}: at once");
            bench.run(19);
        }
        let came = &bench.phones[1].came[first..];
        assert_eq!(came.iter().map(|came| came.payload.clone()).collect::<Vec<_>>(), said, "{codec:?}");
        let whole = bench.phones[1].sound_since(first - 5);
        assert!(whole.len() > said.concat().len(), "numbers and timestamps are whole over the beginning");
        for (n, came) in came.iter().enumerate() {
            assert_eq!((came.ssrc, came.payload_type), (ours, bench.phones[1].payload_type));
            assert_eq!(came.marker, n == 7);
        }
        assert_eq!(bench.relayed() - before, 40);
        assert!(bench.phones[1].port.stats().relayed >= 40);
    }
}

#[tokio::test]
async fn reports_are_our_own_and_tell_of_the_stream_that_is_sent() {
    let mut random = seeded(2);
    let (mut bench, _room) = Bench::two(CodecId::Pcmu);
    bench.talk(&mut random, 600);
    let phone = &bench.phones[1];
    let last = phone.came.last().unwrap();
    let (mut senders, mut blocks) = (0, 0);
    for datagram in &phone.reports {
        for packet in Compound::parse(datagram).unwrap().packets() {
            if let Packet::SenderReport { ssrc, info, reports } = packet {
                senders += 1;
                assert_eq!(ssrc, last.ssrc);
                assert!(info.packets <= phone.came.len() as u32);
                let ahead = info.timestamp.0.wrapping_sub(phone.came[info.packets as usize - 1].timestamp);
                assert!((0..=320).contains(&ahead), "{ahead} ticks from what was sent last to the report");
                if let Some(block) = reports.iter().next() {
                    blocks += 1;
                    assert_eq!((block.ssrc, block.cumulative_lost), (phone.ssrc, 0));
                }
            }
        }
    }
    assert!(senders >= 2 && blocks >= 1, "{senders} {blocks}");
}

#[tokio::test]
async fn losses_and_reordering_are_carried_over_and_copies_are_not() {
    let mut random = seeded(3);
    let (mut bench, _room) = Bench::two(CodecId::Pcmu);
    bench.settle(&mut random);
    let first = bench.phones[1].came.len();
    let packets: Vec<Vec<u8>> = (0..30).map(|n| bench.phones[0].packet(false, &[n; 160])).collect();
    // The fourth and fifth are lost, the tenth and eleventh change places, the fifteenth comes three times, the twentieth four late.
    let order = [0, 1, 2, 5, 6, 7, 8, 10, 9, 11, 12, 13, 14, 14, 14, 15, 16, 17, 18, 20, 21, 22, 23, 19, 24, 25, 26];
    for n in order {
        bench.phones[0].send(&packets[n]);
        bench.run(20);
    }
    let came = &bench.phones[1].came[first..];
    let mut expected = order.to_vec();
    expected.dedup();
    assert_eq!(came.iter().map(|came| usize::from(came.payload[0])).collect::<Vec<_>>(), expected);
    for came in came {
        let n = u16::from(came.payload[0]);
        assert_eq!(came.seq, bench.phones[1].came[first].seq.wrapping_add(n));
        assert_eq!(came.timestamp, bench.phones[1].came[first].timestamp.wrapping_add(u32::from(n) * 160));
    }
    let stats = bench.phones[0].port.stats();
    assert_eq!((stats.duplicates, stats.reordered), (2, 2), "{stats:?}");
}

/// Conforms: RFC 3711 §3.3.1 — packets passed on under SRTP are sealed by their own numbers, also over the wrap and out of order
#[tokio::test]
async fn either_side_may_be_protected() {
    let mut random = seeded(4);
    for sealed in [[true, false], [false, true], [true, true]] {
        let mut bench = Bench::new();
        for sealed in sealed {
            bench.phone(CodecId::Pcmu, 20, true, sealed);
        }
        let _room = bench.room();
        bench.settle(&mut random);
        let first = bench.phones[1].came.len();
        let packets: Vec<Vec<u8>> = (0..6).map(|n| bench.phones[0].packet(false, &[n; 160])).collect();
        for n in [0, 2, 1, 3, 3, 5, 4] {
            bench.phones[0].send(&packets[n]);
            bench.run(20);
        }
        let came: Vec<u8> = bench.phones[1].came[first..].iter().map(|came| came.payload[0]).collect();
        assert_eq!(came, [0, 2, 1, 3, 5, 4], "{sealed:?}");
    }
}

/// Conforms: RFC 6464 §3 — the level of a packet that is passed on goes with it, under the id that was agreed on there; other extensions do not
#[tokio::test]
async fn a_packets_level_goes_with_it_under_the_other_legs_id() {
    let mut random = seeded(6);
    for sealed in [[false, false], [false, true], [true, true]] {
        let mut bench = Bench::new();
        for sealed in sealed {
            bench.phone(CodecId::Pcmu, 20, true, sealed);
        }
        let _room = bench.room();
        bench.settle(&mut random);
        let first = bench.phones[1].came.len();
        // Under id 4 the first phone says something else: 4 is the level with the other alone.
        let extension = [0xbe, 0xde, 0, 2, 0x41, 0x55, 0x55, 0x10, 0x80 | 37, 0, 0, 0];
        let payload = sound(&mut random, 160);
        for extension in [&extension[..], &[], &[0xbe, 0xde, 0, 1, 0x40, 9, 0, 0], &[0x10, 0, 0, 1, 0x10, 37, 0, 0]] {
            let phone = &mut bench.phones[0];
            let (payload_type, timestamp) = (phone.payload_type, phone.timestamp);
            phone.timestamp = timestamp.wrapping_add(phone.ticks);
            let packet = phone.extended(extension, payload_type, false, timestamp, &payload);
            phone.send(&packet);
            bench.run(20);
        }
        let came = &bench.phones[1].came[first..];
        let told: Vec<_> = came.iter().map(|came| (came.level, came.extension)).collect();
        assert_eq!(told, [(Some(37), 4), (None, 0), (None, 0), (None, 0)], "{sealed:?}");
        assert!(came.iter().all(|came| came.payload == payload), "{sealed:?}");
        bench.run(200);
        let stats = bench.phones[0].port.stats();
        assert_eq!((stats.levels_in, stats.level_in), (1, 37), "{sealed:?}");
        assert_eq!(bench.phones[1].port.stats().levels_in, 0);
    }
}

/// Sends a key of `ms`, an event packet each 20 ms and its end three times; the numbers it took.
fn press(bench: &mut Bench, code: u8, ms: u32) {
    let (start, event_type) = (bench.phones[0].timestamp, bench.phones[0].event_type);
    for n in 1..=ms / 20 {
        let end = n == ms / 20;
        let payload = EventPayload { code, end, volume: 9, duration_ticks: (n * 160) as u16 }.to_bytes();
        for _ in 0..if end { 3 } else { 1 } {
            let packet = bench.phones[0].packet_of(event_type, n == 1, start, &payload);
            bench.phones[0].send(&packet);
            bench.phones[0].timestamp = start + n * 160;
            bench.run(20);
        }
    }
}

fn digits(port: &mut LegPort) -> Vec<(char, bool)> {
    let events = std::iter::from_fn(|| port.try_next());
    let digit =
        |event| if let LegEvent::Digit { digit, passed_on, .. } = event { Some((digit, passed_on)) } else { None };
    events.filter_map(digit).collect()
}

/// Conforms: RFC 4733 §2.5.1 — a key's packets are passed on as they come, with the other side's payload type
#[tokio::test]
async fn keys_pass_as_events_where_both_have_them_and_are_told_alone_where_not() {
    let mut random = seeded(5);
    let (mut bench, _room) = Bench::two(CodecId::Pcmu);
    bench.settle(&mut random);
    bench.phones.iter_mut().for_each(|phone| drop(digits(&mut phone.port)));
    let first = bench.phones[1].came.len();
    press(&mut bench, 5, 100);
    bench.talk(&mut random, 5);
    assert_eq!(digits(&mut bench.phones[0].port), [('5', true)]);
    let came = &bench.phones[1].came[first..];
    let keys: Vec<_> = came.iter().filter(|came| came.payload_type == EVENTS[1]).collect();
    assert_eq!(keys.len(), 7);
    for (n, key) in keys.iter().enumerate() {
        let event = EventPayload::parse(&key.payload).unwrap();
        assert_eq!((event.code, event.end, key.marker), (5, n >= 4, n == 0));
        assert_eq!(key.timestamp, keys[0].timestamp, "that of its start");
        assert_eq!(event.duration_ticks, (n.min(4) + 1) as u16 * 160);
    }
    for (pair, n) in came.windows(2).zip(0..) {
        assert_eq!(pair[1].seq, pair[0].seq.wrapping_add(1), "{n}");
    }
    assert_eq!(came.last().unwrap().payload_type, 0, "sound follows");
    // Whoever has no events is sent none, and misses no packet by it.
    let mut bench = Bench::new();
    bench.phone(CodecId::Pcmu, 20, true, false);
    bench.phone(CodecId::Pcmu, 20, false, false);
    let _room = bench.room();
    bench.settle(&mut random);
    let first = bench.phones[1].came.len();
    press(&mut bench, 7, 100);
    bench.talk(&mut random, 5);
    assert_eq!(digits(&mut bench.phones[0].port), [('7', false)]);
    let came = &bench.phones[1].came[first..];
    assert!(came.len() >= 5 && came.iter().all(|came| came.payload_type == 0));
    assert!(came.windows(2).all(|pair| pair[1].seq == pair[0].seq.wrapping_add(1)));
}

/// Passed on, mixed for a while, and passed on again: whatever the phase between the packets and the room's frames.
#[tokio::test]
async fn sound_is_whole_into_mixing_and_out_of_it() {
    let mut random = seeded(6);
    for phase_ms in [1, 3, 8, 13, 19] {
        let (mut bench, room) = Bench::two(CodecId::Pcmu);
        bench.phone(CodecId::Pcma, 20, true, false);
        bench.run(phase_ms);
        let mut said = [vec![], vec![]];
        let mut more = |bench: &mut Bench, packets| {
            for (all, more) in said.iter_mut().zip(bench.talk(&mut random, packets)) {
                all.extend(more);
            }
        };
        more(&mut bench, 10);
        let first = [0, 1].map(|n: usize| bench.phones[n].came.len());
        for round in 0..3 {
            more(&mut bench, 10);
            let before = bench.relayed();
            more(&mut bench, 5);
            assert_eq!(bench.relayed() - before, 10, "passed on, phase {phase_ms}");
            // A third comes, who says nothing.
            room.join(&mut bench.phones[2].port, false).unwrap();
            bench.run(round);
            more(&mut bench, 2);
            let before = bench.relayed();
            more(&mut bench, 30);
            assert_eq!(bench.relayed(), before, "mixed, phase {phase_ms}");
            assert!(bench.phones[2].came.len() > 25, "the third hears");
            bench.phones[2].port.leave();
            more(&mut bench, 30);
        }
        for (n, first) in first.into_iter().enumerate() {
            let heard = bench.phones[n].sound_since(first);
            assert!(heard.len() > 160 * 190, "{}", heard.len());
            let at = place_of(&heard[..1_600], &said[1 - n]).expect("what was passed on");
            let differs = heard.iter().zip(&said[1 - n][at..]).position(|(heard, said)| heard != said);
            assert_eq!(differs, None, "phase {phase_ms}: a gap or a double after so many samples");
        }
    }
}

#[tokio::test]
async fn what_else_is_to_be_heard_is_heard_and_passing_on_returns() {
    let mut random = seeded(7);
    let (mut bench, room) = Bench::two(CodecId::Pcmu);
    bench.settle(&mut random);
    let stops = |bench: &mut Bench, random: &mut Random, of_both: u64, why: &str| {
        bench.talk(random, 3);
        let before = bench.relayed();
        bench.talk(random, 10);
        assert_eq!(bench.relayed() - before, of_both, "{why}");
    };
    let returns = |bench: &mut Bench, random: &mut Random, why: &str| {
        bench.talk(random, 40);
        let before = bench.relayed();
        bench.talk(random, 10);
        assert_eq!(bench.relayed() - before, 20, "back after {why}");
    };
    // Muted: the other hears silence, and is heard.
    let member = bench.phones[1].port.member().unwrap();
    room.set_hears(member, Members::NONE);
    stops(&mut bench, &mut random, 10, "muted");
    assert!(bench.phones[1].came.last().unwrap().payload.iter().all(|byte| *byte == 0xff));
    room.set_hears(member, Members::ALL);
    returns(&mut bench, &mut random, "mute");
    bench.phones[0].port.play_music(Arc::from(vec![1_000; 800]));
    stops(&mut bench, &mut random, 10, "music");
    bench.phones[0].port.stop_music();
    returns(&mut bench, &mut random, "music");
    bench.phones[0].port.set_tapped(true);
    stops(&mut bench, &mut random, 0, "somebody listens");
    bench.phones[0].port.set_tapped(false);
    returns(&mut bench, &mut random, "listening");
    bench.phones[1].port.say(&[3_000; 4_000]);
    stops(&mut bench, &mut random, 10, "the port speaks");
    returns(&mut bench, &mut random, "speech");
    let config = bench.phones[0].port.config().clone();
    let other = registry::spec(CodecId::Pcma).unwrap().params();
    bench.phones[0]
        .port
        .update(LegConfig { codec: other, payload_type_send: 8, payload_type_recv: 8, ..config.clone() })
        .unwrap();
    bench.phones[0].payload_type = 8;
    stops(&mut bench, &mut random, 0, "another codec");
    bench.phones[0].port.update(config).unwrap();
    bench.phones[0].payload_type = 0;
    returns(&mut bench, &mut random, "another codec");
    bench.phones[0].port.leave();
    stops(&mut bench, &mut random, 0, "alone");
    assert!(bench.phones[1].came.last().unwrap().payload.iter().all(|byte| *byte == 0xff), "silence goes on");
}

#[tokio::test]
async fn a_silent_peer_leaves_the_other_with_silence_of_ours_and_is_passed_on_when_it_speaks_again() {
    let mut random = seeded(8);
    let (mut bench, _room) = Bench::two(CodecId::Pcmu);
    bench.settle(&mut random);
    let ours = bench.phones[1].came.len();
    bench.run(1_000);
    let came = &bench.phones[1].came[ours..];
    assert!((36..=41).contains(&came.len()), "{}: from 200 ms on", came.len());
    assert!(came[0].marker && came.iter().all(|came| came.payload.iter().all(|byte| *byte == 0xff)));
    let silence = bench.phones[1].came.last().unwrap().clone();
    bench.phones.iter_mut().for_each(|phone| phone.timestamp = phone.timestamp.wrapping_add(8_000));
    let before = bench.relayed();
    let said = bench.talk(&mut random, 10);
    assert!(bench.relayed() - before >= 18);
    let spoken: Vec<&Came> = bench.phones[1].came.iter().filter(|came| said[0].starts_with(&came.payload)).collect();
    let [spoken] = &spoken[..] else { panic!("{spoken:?}") };
    assert!(spoken.marker || spoken.seq != silence.seq, "a talkspurt begins");
    let (ticks, ms) = (spoken.timestamp.wrapping_sub(silence.timestamp), spoken.at_ms - silence.at_ms);
    assert!(ticks.abs_diff(ms as u32 * 8) <= 320, "timestamps go with the time: {ticks} in {ms} ms");
}

/// What is no tone in a tone's decoded sound: the most of it in one sample, where packets are passed on, and about where mixing begins.
fn odd_samples(codec: CodecId) -> [f64; 2] {
    let (mut bench, room) = Bench::two(codec);
    bench.phone(CodecId::Pcma, 20, true, false);
    let params = bench.phones[0].port.config().codec.clone();
    let mut encoder = registry::encoder(&params).unwrap();
    let step = 440.0 * std::f64::consts::TAU / f64::from(encoder.audio_rate().hz());
    let (mut angle, mut joined) = (0.0_f64, 0);
    for n in 0..150 {
        let tone = |_| {
            angle += step;
            (angle.sin() * 9_000.0) as i16
        };
        let pcm: Vec<i16> = (0..encoder.audio_rate().samples_in_ms(20)).map(tone).collect();
        let mut bytes = [0; 1_500];
        let size = encoder.encode(&pcm, &mut bytes).unwrap();
        bench.phones[0].speak(&bytes[..size]);
        bench.run(20);
        if n == 80 {
            joined = bench.phones[1].came.len();
            room.join(&mut bench.phones[2].port, false).unwrap();
        }
    }
    let mut decoder = registry::decoder(&params).unwrap();
    let rate: SampleRate = decoder.audio_rate();
    let mut heard = vec![];
    for came in &bench.phones[1].came[joined - 50..joined + 30] {
        let mut pcm = [0; 5_760];
        let made = decoder.decode(&came.payload, &mut pcm).unwrap();
        heard.extend_from_slice(&pcm[..made]);
    }
    // Each sample of a tone against what the two before it say.
    let turn = 2.0 * (440.0 * std::f64::consts::TAU / f64::from(rate.hz())).cos();
    let odd = |w: &[i16]| (f64::from(w[2]) - turn * f64::from(w[1]) + f64::from(w[0])).abs();
    let packet = rate.samples_in_ms(20);
    [20..45, 45..75]
        .map(|packets| heard[packet * packets.start..packet * packets.end].windows(3).map(odd).fold(0.0, f64::max))
}

#[tokio::test]
async fn codecs_with_a_memory_go_over_into_mixing_without_a_click() {
    for codec in [CodecId::Pcmu, CodecId::G722, CodecId::Opus] {
        let [steady, seam] = odd_samples(codec);
        println!("{codec:?}: {steady:.0} before, {seam:.0} about the seam");
        assert!(seam < steady * 1.5 + 500.0, "{codec:?}: {seam:.0} where there was {steady:.0}");
    }
}
