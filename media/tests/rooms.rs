//! Rooms on real sockets: phones that hear one another through the worker, told apart by their tones.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

use codecs::SampleRate;
use codecs::registry::{self, CodecId};
use codecs::{Decoder, Encoder};
use media::rtp::{RtpHeader, RtpPacket, RtpTime, Seq};
use media::{Direction, LegConfig, LegEvent, LegMode, LegPort, LevelFormat, Media, MediaConfig, MediaError, Members};

/// The ids under which levels are agreed on.
const OWN_ID: u8 = 2;
const MIXED_ID: u8 = 14;
const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

/// A phone that hums one tone and keeps what it hears.
struct Phone {
    socket: UdpSocket,
    to: SocketAddr,
    port: LegPort,
    encoder: Box<dyn Encoder>,
    decoder: Box<dyn Decoder>,
    payload_type: u8,
    clock_hz: u32,
    tone_hz: f64,
    phase: f64,
    n: u16,
    heard: Vec<i16>,
    /// Whose sound the latest packet says it has.
    sources: Vec<u32>,
    /// How loud each of them is, and how loud all is, as each packet says.
    levels: Vec<(Vec<u8>, Option<u8>)>,
    loudness: f64,
}

impl Phone {
    fn open(media: &Media, near: Option<media::WorkerId>, codec: CodecId, tone_hz: f64) -> Phone {
        let socket = UdpSocket::bind((LOOPBACK, 0)).unwrap();
        socket.set_nonblocking(true).unwrap();
        let spec = registry::spec(codec).unwrap();
        let payload_type = spec.static_payload_type.unwrap_or(96);
        let config = LegConfig {
            remote: Some(socket.local_addr().unwrap()),
            seed: tone_hz as u64,
            levels: LevelFormat { send: Some(OWN_ID), receive: None, send_mixed: Some(MIXED_ID) },
            ..LegConfig::new(spec.params(), payload_type, LegMode::Talk)
        };
        let reserved = media.reserve().unwrap();
        let to = reserved.rtp_addr();
        let port = match near {
            Some(near) => media.open_near(near, reserved, config).unwrap(),
            None => media.open(reserved, config).unwrap(),
        };
        Phone {
            socket,
            to,
            port,
            encoder: registry::encoder(&spec.params()).unwrap(),
            decoder: registry::decoder(&spec.params()).unwrap(),
            payload_type,
            clock_hz: spec.clock_hz,
            tone_hz,
            phase: 0.0,
            n: 0,
            heard: Vec::new(),
            sources: Vec::new(),
            levels: Vec::new(),
            loudness: 8_000.0,
        }
    }

    fn hum(&mut self) {
        let rate = self.encoder.audio_rate();
        let step = self.tone_hz * std::f64::consts::TAU / f64::from(rate.hz());
        let sound: Vec<i16> = (0..rate.samples_in_ms(20))
            .map(|_| {
                self.phase += step;
                (self.phase.sin() * self.loudness) as i16
            })
            .collect();
        let mut payload = [0; 1_500];
        let bytes = self.encoder.encode(&sound, &mut payload).unwrap();
        self.n += 1;
        let timestamp = RtpTime(u32::from(self.n) * self.clock_hz / 50);
        let header = RtpHeader {
            marker: false,
            payload_type: self.payload_type,
            seq: Seq(self.n),
            timestamp,
            ssrc: self.tone_hz as u32,
        };
        let packet = [&header.to_bytes()[..], &payload[..bytes]].concat();
        self.socket.send_to(&packet, self.to).unwrap();
    }

    fn listen(&mut self) {
        let mut datagram = [0; 2_048];
        while let Ok(size) = self.socket.recv(&mut datagram) {
            let packet = RtpPacket::parse(&datagram[..size]).unwrap();
            self.sources = packet.csrc.iter().collect();
            let levels = packet.extension.and_then(|extension| extension.element(MIXED_ID));
            let own = packet.extension.and_then(|extension| extension.level(OWN_ID));
            self.levels.push((levels.unwrap_or_default().to_vec(), own));
            let mut pcm = [0; 5_760];
            let made = self.decoder.decode(packet.payload, &mut pcm).unwrap();
            self.heard.extend_from_slice(&pcm[..made]);
        }
    }

    /// How loud a tone is in the last `ms` of what was heard, against the tone that a phone hums.
    fn hears(&self, tone_hz: f64, ms: u32) -> f64 {
        let rate = self.decoder.audio_rate();
        let from = self.heard.len().saturating_sub(rate.samples_in_ms(ms));
        tone(&self.heard[from..], tone_hz, rate) / 8_000.0
    }
}

/// Amplitude of a tone in a piece of sound.
fn tone(sound: &[i16], hz: f64, rate: SampleRate) -> f64 {
    let step = hz * std::f64::consts::TAU / f64::from(rate.hz());
    let (mut re, mut im) = (0.0, 0.0);
    for (n, sample) in sound.iter().enumerate() {
        let angle = step * n as f64;
        re += f64::from(*sample) * angle.cos();
        im += f64::from(*sample) * angle.sin();
    }
    (re * re + im * im).sqrt() * 2.0 / sound.len().max(1) as f64
}

/// All hum for so long, at the pace of phones.
async fn hum(phones: &mut [Phone], frames: u32) {
    let start = Instant::now();
    for frame in 0..frames {
        tokio::time::sleep_until((start + Duration::from_millis(20) * frame).into()).await;
        for phone in phones.iter_mut() {
            phone.hum();
            phone.listen();
        }
    }
    tokio::time::sleep(Duration::from_millis(60)).await;
    phones.iter_mut().for_each(Phone::listen);
}

fn media() -> Media {
    let start = 21_000 + (std::process::id() % 500) as u16 * 40;
    Media::start(MediaConfig { bind: LOOPBACK, ports: start..=start + 399, ..MediaConfig::default() }).unwrap()
}

const LOUD: f64 = 0.8;
const SILENT: f64 = 0.03;

#[tokio::test]
async fn two_phones_of_different_codecs_hear_each_other_and_not_themselves() {
    let media = media();
    let mut phones = vec![Phone::open(&media, None, CodecId::Pcmu, 440.0)];
    phones.push(Phone::open(&media, Some(phones[0].port.worker()), CodecId::G722, 1_000.0));
    let room = media.room(phones[0].port.worker(), SampleRate::HZ_16000, 2).unwrap();
    for phone in &mut phones {
        room.join(&mut phone.port, false).unwrap();
    }
    hum(&mut phones, 60).await;
    for (phone, other, own) in [(&phones[0], 1_000.0, 440.0), (&phones[1], 440.0, 1_000.0)] {
        assert!(phone.hears(other, 400) > LOUD, "{} hears {}", own, phone.hears(other, 400));
        assert!(phone.hears(own, 400) < SILENT, "{} hears itself: {}", own, phone.hears(own, 400));
    }
    let mut third = Phone::open(&media, Some(phones[0].port.worker()), CodecId::Pcma, 700.0);
    assert!(matches!(room.join(&mut third.port, false), Err(MediaError::Room(_))), "the room has two places");
    phones[1].port.leave();
    assert_eq!((room.members(), phones[1].port.member()), (1, None));
    room.join(&mut third.port, false).unwrap();
    phones.push(third);
    hum(&mut phones, 60).await;
    assert!(phones[0].hears(700.0, 400) > LOUD && phones[0].hears(1_000.0, 400) < SILENT);
    assert!(phones[1].hears(440.0, 400) < SILENT, "who left hears nobody");
}

#[tokio::test]
async fn a_supervisor_listens_whispers_and_the_caller_waits_with_music() {
    let media = media();
    let mut phones = vec![Phone::open(&media, None, CodecId::Pcmu, 440.0)];
    for tone_hz in [1_000.0, 1_500.0] {
        phones.push(Phone::open(&media, Some(phones[0].port.worker()), CodecId::Pcmu, tone_hz));
    }
    let room = media.room(phones[0].port.worker(), SampleRate::HZ_8000, 3).unwrap();
    let members: Vec<u8> = phones.iter_mut().map(|phone| room.join(&mut phone.port, false).unwrap()).collect();
    // The supervisor hears both and is heard by the second alone.
    room.set_hears(members[0], Members::ALL.without(members[2]));
    hum(&mut phones, 60).await;
    assert!(phones[0].hears(1_000.0, 400) > LOUD && phones[0].hears(1_500.0, 400) < SILENT);
    assert!(phones[1].hears(440.0, 400) > LOUD && phones[1].hears(1_500.0, 400) > LOUD);
    assert!(phones[2].hears(440.0, 400) > LOUD && phones[2].hears(1_000.0, 400) > LOUD);
    // The caller is put on hold with music: it hears that alone, and nobody hears it.
    let music: Vec<i16> =
        (0..8_000).map(|n| ((f64::from(n) * 300.0 / 8_000.0 * std::f64::consts::TAU).sin() * 8_000.0) as i16).collect();
    phones[0].port.play_music(Arc::from(music));
    room.set_hears(members[1], Members::NONE.with(members[2]));
    room.set_hears(members[2], Members::NONE.with(members[1]));
    hum(&mut phones, 60).await;
    assert!(phones[0].hears(300.0, 400) > LOUD && phones[0].hears(1_000.0, 400) < SILENT);
    assert!(phones[1].hears(440.0, 400) < SILENT && phones[2].hears(440.0, 400) < SILENT);
    phones[0].port.stop_music();
    room.set_hears(members[1], Members::ALL);
    hum(&mut phones, 60).await;
    assert!(phones[0].hears(1_000.0, 400) > LOUD && phones[0].hears(300.0, 400) < SILENT);
    assert!(phones[1].hears(440.0, 400) > LOUD);
}

/// Conforms: RFC 3550 §7.1 — a mixer names the sources that are in what it sends
/// Conforms: RFC 6465 §3 — a mixer says how loud each source is that it names, in their order
/// Conforms: RFC 6464 §3 — and how loud the packet is as a whole
#[tokio::test]
async fn those_who_speak_are_told_and_named_in_what_the_others_are_sent() {
    let media = media();
    let mut phones = vec![Phone::open(&media, None, CodecId::Pcmu, 440.0)];
    for tone_hz in [1_000.0, 1_500.0] {
        phones.push(Phone::open(&media, Some(phones[0].port.worker()), CodecId::Pcmu, tone_hz));
    }
    let room = media.room(phones[0].port.worker(), SampleRate::HZ_8000, 3).unwrap();
    room.tell_speakers();
    for phone in &mut phones {
        room.join(&mut phone.port, false).unwrap();
    }
    // A sine of 8,000 has -15 dBov, half of it -21.
    phones[1].loudness = 4_000.0;
    hum(&mut phones[..2], 60).await;
    phones[2].listen();
    let near = |level: u8, dbov: u8| level.abs_diff(dbov) <= 1;
    // While both still hummed.
    let told = |phone: &Phone| phone.levels[phone.levels.len() - 10].clone();
    let levels: Vec<_> = phones.iter().map(told).map(|(levels, own)| (levels, own.unwrap())).collect();
    let [(to_first, first), (to_second, second), (to_third, third)] = &levels[..] else { unreachable!() };
    assert!(to_first.len() == 1 && near(to_first[0], 21) && near(*first, 21), "{levels:?}");
    assert!(to_second.len() == 1 && near(to_second[0], 15) && near(*second, 15), "{levels:?}");
    assert!(to_third.len() == 2 && near(to_third[0], 15) && near(to_third[1], 21) && near(*third, 14), "{levels:?}");
    assert_eq!(
        (&phones[0].sources[..], &phones[1].sources[..]),
        (&[1_000][..], &[440][..]),
        "nobody is named to themselves"
    );
    assert_eq!(phones[2].sources, [440, 1_000]);
    assert!(phones[2].hears(440.0, 300) > LOUD && phones[2].hears(1_000.0, 300) > LOUD / 2.0);
    let told = |phones: &mut [Phone]| {
        let one = |phone: &mut Phone| {
            let events = std::iter::from_fn(|| phone.port.try_next());
            events.filter_map(|event| if let LegEvent::Speaks(speaks) = event { Some(speaks) } else { None }).collect()
        };
        phones.iter_mut().map(one).collect::<Vec<Vec<bool>>>()
    };
    assert_eq!(told(&mut phones), [vec![true], vec![true], vec![]]);
    // The second falls silent.
    hum(&mut phones[..1], 60).await;
    phones[1].listen();
    phones[2].listen();
    assert_eq!(told(&mut phones), [vec![], vec![false], vec![]]);
    assert_eq!((&phones[1].sources[..], &phones[2].sources[..]), (&[440][..], &[440][..]));
    // Of two, each knows whom they hear.
    phones[2].port.leave();
    hum(&mut phones[..2], 20).await;
    assert!(phones[0].sources.is_empty() && phones[1].sources.is_empty());
    let (levels, own) = phones[0].levels[phones[0].levels.len() - 10].clone();
    assert!(levels.is_empty() && own.is_some_and(|level| near(level, 21)), "{own:?}");
}

#[tokio::test]
async fn what_the_port_says_is_heard_by_its_peer_and_by_the_room_where_it_is_shared() {
    let media = media();
    let mut phones = vec![Phone::open(&media, None, CodecId::Pcmu, 440.0)];
    phones.push(Phone::open(&media, Some(phones[0].port.worker()), CodecId::Pcmu, 1_000.0));
    let room = media.room(phones[0].port.worker(), SampleRate::HZ_8000, 2).unwrap();
    room.join(&mut phones[0].port, true).unwrap();
    room.join(&mut phones[1].port, false).unwrap();
    let speech: Vec<i16> = (0..8_000)
        .map(|n| ((f64::from(n) * 2_000.0 / 8_000.0 * std::f64::consts::TAU).sin() * 8_000.0) as i16)
        .collect();
    phones[0].port.say(&speech);
    hum(&mut phones, 45).await;
    assert!(phones[0].hears(2_000.0, 300) > LOUD && phones[0].hears(1_000.0, 300) > LOUD);
    assert!(phones[1].hears(2_000.0, 300) > LOUD && phones[1].hears(440.0, 300) > LOUD);
    hum(&mut phones, 45).await;
    assert_eq!(phones[0].port.played_samples(), 8_000);
    // The ear goes on in a room, until it is not tapped.
    let mut frames = 0;
    while let Some(event) = phones[0].port.try_next() {
        frames += u32::from(matches!(event, LegEvent::Ear(_)));
    }
    assert!(frames > 30, "{frames}");
    phones[0].port.set_tapped(false);
    hum(&mut phones, 5).await;
    while phones[0].port.try_next().is_some() {}
    hum(&mut phones, 10).await;
    assert!(phones[0].port.try_next().is_none());
}

#[tokio::test]
async fn a_room_survives_holds_new_codecs_and_members_that_vanish() {
    let media = media();
    let mut phones = vec![Phone::open(&media, None, CodecId::Pcmu, 440.0)];
    phones.push(Phone::open(&media, Some(phones[0].port.worker()), CodecId::Pcmu, 1_000.0));
    let room = media.room(phones[0].port.worker(), SampleRate::HZ_8000, 2).unwrap();
    for phone in &mut phones {
        room.join(&mut phone.port, false).unwrap();
    }
    // Another codec, in the room.
    let mut config = phones[1].port.config().clone();
    config.codec = registry::spec(CodecId::Pcma).unwrap().params();
    (config.payload_type_send, config.payload_type_recv) = (8, 8);
    phones[1].port.update(config.clone()).unwrap();
    phones[1].encoder = registry::encoder(&config.codec).unwrap();
    phones[1].decoder = registry::decoder(&config.codec).unwrap();
    phones[1].payload_type = 8;
    tokio::time::sleep(Duration::from_millis(60)).await;
    phones[1].socket.recv(&mut [0; 2_048]).unwrap();
    hum(&mut phones, 60).await;
    assert!(phones[0].hears(1_000.0, 400) > LOUD && phones[1].hears(440.0, 400) > LOUD);
    // On hold, it is sent nothing.
    config.direction = Direction::RecvOnly;
    phones[1].port.update(config).unwrap();
    hum(&mut phones, 10).await;
    let before = phones[1].heard.len();
    hum(&mut phones, 20).await;
    assert_eq!(phones[1].heard.len(), before);
    drop(phones.remove(1));
    hum(&mut phones, 40).await;
    assert!(phones[0].hears(1_000.0, 300) < SILENT);
    assert_eq!(room.members(), 1);
    drop(room);
    drop(phones);
    let start = Instant::now();
    while media.stats().rooms + media.stats().legs > 0 {
        assert!(start.elapsed() < Duration::from_secs(20), "{:?}", media.stats());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}

#[tokio::test]
async fn a_leg_of_another_worker_moves_to_the_room_and_keeps_its_port_and_its_figures() {
    let start = 21_000 + (std::process::id() % 500) as u16 * 40;
    let config = MediaConfig { bind: LOOPBACK, ports: start..=start + 399, workers: 2, ..MediaConfig::default() };
    let media = Media::start(config).unwrap();
    // The workers take turns: the two are apart.
    let mut phones = vec![
        Phone::open(&media, None, CodecId::Pcmu, 440.0),
        Phone::open(&media, None, CodecId::G722, 1_000.0),
        Phone::open(&media, None, CodecId::Pcma, 1_500.0),
    ];
    let workers: Vec<_> = phones.iter().map(|phone| phone.port.worker()).collect();
    assert_ne!(workers[0], workers[1]);
    hum(&mut phones, 20).await;
    let room = media.room(workers[0], SampleRate::HZ_16000, 3).unwrap();
    room.set_hears(0, Members::ALL.without(2));
    for (member, phone) in phones.iter_mut().enumerate() {
        room.join_as(&mut phone.port, member as u8, false).unwrap();
        assert_eq!(phone.port.worker(), workers[0]);
    }
    assert!(room.join_as(&mut phones[1].port, 0, false).is_err(), "somebody has that place");
    room.join_as(&mut phones[1].port, 1, false).unwrap();
    hum(&mut phones, 60).await;
    assert!(phones[0].hears(1_000.0, 400) > LOUD && phones[1].hears(440.0, 400) > LOUD);
    assert!(phones[0].hears(1_500.0, 400) < SILENT, "as was settled before it came");
    assert!(phones[2].hears(440.0, 400) > LOUD && phones[2].hears(1_000.0, 400) > LOUD);
    for phone in &phones {
        let stats = phone.port.stats();
        assert!(stats.packets_in >= 75 && stats.lost == 0, "{stats:?}");
    }
    assert_eq!(media.stats().legs, 3);
    drop(room);
    drop(phones);
    let start = Instant::now();
    while media.stats().rooms + media.stats().legs > 0 {
        assert!(start.elapsed() < Duration::from_secs(20), "{:?}", media.stats());
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
}
