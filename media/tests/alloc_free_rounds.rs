//! A worker's rounds allocate nothing and free nothing: an allocator of this test's own counts what the worker's thread
//! asks of it while legs of every mode come, talk, change and go.
#![allow(unsafe_code, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "common/ports.rs"]
mod ports;

use std::alloc::{GlobalAlloc, Layout, System};
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use codecs::registry::{self, CodecId};
use media::connect::{Tunnel, TunnelChannel};
use media::rtp::{RtpHeader, RtpTime, Seq};
use media::srtp::{KeyPair, MasterKey, Sender, Suite};
use media::{
    DtmfFormat, LegConfig, LegMode, LegPort, Media, MediaConfig, RecordFormat, Recorded, RecorderConfig, Side,
};

/// The thread that must not allocate; 0 while there is none.
static WATCHED: AtomicI32 = AtomicI32::new(0);
static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);
static FREES: AtomicU64 = AtomicU64::new(0);

struct Watching;

impl Watching {
    fn count(counter: &AtomicU64) {
        let watched = WATCHED.load(Ordering::Relaxed);
        // SAFETY: takes no pointer and cannot fail.
        if watched != 0 && unsafe { libc::gettid() } == watched {
            counter.fetch_add(1, Ordering::Relaxed);
        }
    }
}

// SAFETY: every call is handed to the system's allocator as it is.
unsafe impl GlobalAlloc for Watching {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        Self::count(&ALLOCATIONS);
        // SAFETY: the caller keeps the contract of `alloc`.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, place: *mut u8, layout: Layout) {
        Self::count(&FREES);
        // SAFETY: the caller keeps the contract of `dealloc`, and `place` came from `System`.
        unsafe { System.dealloc(place, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Watching = Watching;

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const PATIENCE: Duration = Duration::from_secs(30);

fn worker_thread() -> i32 {
    let start = Instant::now();
    while start.elapsed() < PATIENCE {
        for task in std::fs::read_dir("/proc/self/task").unwrap().flatten() {
            let name = std::fs::read_to_string(task.path().join("comm")).unwrap_or_default();
            if name.starts_with("media-") {
                return task.file_name().to_str().unwrap().parse().unwrap();
            }
        }
        std::thread::yield_now();
    }
    panic!("no media thread");
}

/// What a peer protects with, and a leg.
fn keys() -> media::Security {
    let master = MasterKey::new(Suite::AesCm128HmacSha1_80, &[7; 30]).unwrap();
    media::Security::Sdes(std::sync::Arc::new(KeyPair { send: master.clone(), receive: master }))
}

/// The channel that relayed calls go by.
const CHANNEL: u16 = 0x4001;

struct Call {
    /// Its peer is behind a TURN server: its packets come in frames.
    is_framed: bool,
    /// Where the leg is protected.
    sender: Option<Sender>,
    peer: UdpSocket,
    to: std::net::SocketAddr,
    port: LegPort,
    payload_type: u8,
    payload_bytes: usize,
    ticks: u32,
    n: u16,
    frames: usize,
}

impl Call {
    fn protected(media: &Media, codec: CodecId, mode: LegMode) -> Call {
        let mut call = Call::open(media, codec, mode, None);
        call.port.update(LegConfig { security: keys(), ..call.port.config().clone() }).unwrap();
        if let media::Security::Sdes(keys) = &call.port.config().security {
            call.sender = Some(Sender::new(&keys.receive));
        }
        call
    }

    /// One whose peer is a TURN server, to the leg.
    fn relayed(media: &Media) -> Call {
        let mut call = Call::open(media, CodecId::Pcmu, LegMode::Echo, None);
        let server = call.peer.local_addr().unwrap();
        let channel = Some(TunnelChannel { peer: server, server, number: CHANNEL });
        call.port.tunnel(Tunnel { servers: [Some(server), None], channel, local: None });
        call.is_framed = true;
        call
    }

    fn open(media: &Media, codec: CodecId, mode: LegMode, record: Option<Recorded>) -> Call {
        let peer = UdpSocket::bind((LOOPBACK, 0)).unwrap();
        peer.set_nonblocking(true).unwrap();
        let spec = registry::spec(codec).unwrap();
        let payload_type = spec.static_payload_type.unwrap_or(96);
        let dtmf = DtmfFormat { payload_type_send: 101, payload_type_recv: 101, clock_hz: spec.clock_hz };
        let config = LegConfig {
            remote: Some(peer.local_addr().unwrap()),
            dtmf: Some(dtmf),
            comfort_noise_payload_type: Some(13),
            levels: media::LevelFormat { send: Some(1), receive: Some(1), send_mixed: Some(2) },
            media_timeout: Some(Duration::from_millis(400)),
            record,
            ..LegConfig::new(spec.params(), payload_type, mode)
        };
        let port = media.reserve().unwrap();
        let to = port.rtp_addr();
        let port = media.open(port, config).unwrap();
        let payload_bytes = if codec == CodecId::L16 { 640 } else { 160 };
        Call {
            is_framed: false,
            sender: None,
            peer,
            to,
            port,
            payload_type,
            payload_bytes,
            ticks: spec.clock_hz / 50,
            n: 0,
            frames: 0,
        }
    }

    /// One packet; now and then one is left out, comes twice, or is a key, comfort noise or nonsense.
    fn send(&mut self) {
        self.n += 1;
        let n = self.n;
        let (payload_type, payload) = match n % 16 {
            3 => return,
            5 => (101, vec![5, 0x8a, 1, 0x40]),
            6 => (13, vec![70]),
            7 => (77, vec![1; 20]),
            _ => (self.payload_type, vec![n as u8; self.payload_bytes]),
        };
        let timestamp = RtpTime(u32::from(n) * self.ticks);
        let header = RtpHeader { marker: false, payload_type, seq: Seq(n), timestamp, ssrc: 5 };
        let mut packet = [&header.to_bytes()[..], &payload].concat();
        if let Some(sender) = self.sender.as_mut().filter(|_| n % 16 != 8) {
            let len = packet.len();
            packet.resize(len + 16, 0);
            let len = sender.protect(&mut packet, len).unwrap();
            packet.truncate(len);
        }
        if self.is_framed {
            let header = [CHANNEL.to_be_bytes(), (packet.len() as u16).to_be_bytes()].concat();
            packet.splice(..0, header);
            // What the leg sent comes framed too.
            let mut frame = [0; 500];
            while self.peer.recv(&mut frame).is_ok() {
                assert_eq!(frame[..2], CHANNEL.to_be_bytes());
                self.frames += 1;
            }
        }
        for _ in 0..1 + n % 2 {
            self.peer.send_to(&packet, self.to).unwrap();
        }
        if n % 16 == 9 {
            self.peer.send_to(&packet[..10], self.to).unwrap();
            let rtcp = std::net::SocketAddr::new(self.to.ip(), self.to.port() + 1);
            self.peer.send_to(&[0x80, 201, 0, 1, 0, 0, 0, 5], rtcp).unwrap();
        }
    }
}

#[tokio::test]
async fn rounds_allocate_and_free_nothing_whatever_legs_do() {
    // The counting counts: an allocation of this thread's own shows.
    // SAFETY: takes no pointer and cannot fail.
    WATCHED.store(unsafe { libc::gettid() }, Ordering::Relaxed);
    drop(std::hint::black_box(Box::new(1)));
    WATCHED.store(0, Ordering::Relaxed);
    assert!(ALLOCATIONS.swap(0, Ordering::Relaxed) >= 1 && FREES.swap(0, Ordering::Relaxed) >= 1);
    let config = MediaConfig { bind: LOOPBACK, ports: ports::ports(60), ..MediaConfig::default() };
    let media = Media::start(config).unwrap();
    let folder = tempfile::tempdir().unwrap();
    let worker = worker_thread();
    // The thread's own start-up is over once it has run a round.
    let rounds = |more: u64| {
        let (from, start) = (media.stats().rounds, Instant::now());
        while media.stats().rounds < from + more {
            assert!(start.elapsed() < PATIENCE, "the worker stands still");
            std::thread::yield_now();
        }
    };
    let first = Call::open(&media, CodecId::Pcmu, LegMode::Echo, None);
    rounds(2);
    WATCHED.store(worker, Ordering::Relaxed);
    let mut calls = vec![first];
    for codec in [CodecId::Pcmu, CodecId::Pcma, CodecId::G722, CodecId::Opus, CodecId::L16] {
        for mode in [LegMode::Echo, LegMode::Talk, LegMode::Sink] {
            let path = folder.path().join(format!("{codec:?}-{mode:?}.wav"));
            calls.push(Call::open(&media, codec, mode, None));
            let config = RecorderConfig { path, format: RecordFormat::Wav, seal: None, tone_every: None, rate: None };
            let recorded = Recorded { recording: media.recording(config), peer: Side::Left };
            calls.push(Call::open(&media, codec, mode, Some(recorded)));
        }
    }
    for mode in [LegMode::Echo, LegMode::Talk] {
        calls.push(Call::protected(&media, CodecId::Pcmu, mode));
    }
    calls.push(Call::relayed(&media));
    // Two that pass their packets on to one another, one of them under SRTP.
    let mut pair =
        [Call::open(&media, CodecId::Pcmu, LegMode::Talk, None), Call::protected(&media, CodecId::Pcmu, LegMode::Talk)];
    let alone = media.room(pair[0].port.worker(), codecs::SampleRate::HZ_8000, 3).unwrap();
    for call in &mut pair {
        call.port.set_tapped(false);
        alone.join(&mut call.port, false).unwrap();
    }
    let mut third = Call::open(&media, CodecId::Pcmu, LegMode::Talk, None);
    let music: std::sync::Arc<[i16]> = (0..4_000).collect();
    for turn in 0..60_u32 {
        if turn % 20 == 2 {
            // A conference of all that talk, whatever their rates.
            let room = media.room(calls[0].port.worker(), codecs::SampleRate::HZ_16000, 12).unwrap();
            room.tell_speakers();
            for call in calls.iter_mut().filter(|call| call.port.config().mode == LegMode::Talk) {
                room.join(&mut call.port, turn % 40 == 2).unwrap();
            }
            room.set_hears(1, media::Members::NONE.with(2));
        }
        for (index, call) in calls.iter_mut().enumerate() {
            call.send();
            call.port.say(&[turn as i16 * 100; 320]);
            call.port.duck(if turn % 8 < 4 { 0.3 } else { 1.0 });
            match (turn as usize + index) % 20 {
                4 => call.port.interrupt(),
                6 => call.port.play_music(music.clone()),
                8 => call.port.set_tapped(turn % 2 == 0),
                11 => call.port.leave(),
                12 => call.port.stop_music(),
                9 => call.port.send_digit('5', 60).unwrap(),
                14 => {
                    let held = LegConfig { direction: media::Direction::RecvOnly, ..call.port.config().clone() };
                    call.port.update(held).unwrap();
                }
                17 => {
                    let codec = registry::spec(CodecId::Pcma).unwrap().params();
                    let config = LegConfig {
                        codec,
                        payload_type_send: 8,
                        payload_type_recv: 8,
                        direction: media::Direction::SendRecv,
                        ..call.port.config().clone()
                    };
                    call.port.update(config).unwrap();
                    (call.payload_type, call.payload_bytes, call.ticks) = (8, 160, 160);
                }
                _ => {}
            }
            while call.port.try_next().is_some() {}
        }
        pair.iter_mut().chain([&mut third]).for_each(Call::send);
        match turn % 20 {
            10 => drop(alone.join(&mut third.port, false).unwrap()),
            12 => third.port.leave(),
            15 => pair[0].port.play_music(music.clone()),
            16 => pair[0].port.stop_music(),
            18 => pair[1].port.update(pair[1].port.config().clone()).unwrap(),
            _ => {}
        }
        tokio::task::yield_now().await;
        rounds(4);
    }
    // How long the turns took is the machine's affair: until enough has gone by each way.
    let framed = calls.iter_mut().find(|call| call.is_framed).unwrap();
    let start = Instant::now();
    while media.stats().relayed <= 20 || framed.frames <= 20 || framed.port.stats().packets_in <= 20 {
        assert!(start.elapsed() < PATIENCE, "{:?} {:?} {}", media.stats(), framed.port.stats(), framed.frames);
        pair.iter_mut().for_each(Call::send);
        framed.send();
        framed.port.say(&[3_000; 320]);
        rounds(4);
    }
    drop((pair, third, alone));
    // Some go, others come, and the last ones fall silent.
    calls.truncate(10);
    for _ in 0..5 {
        calls.push(Call::open(&media, CodecId::G722, LegMode::Talk, None));
    }
    let start = Instant::now();
    while media.stats().legs != 15 {
        assert!(start.elapsed() < PATIENCE, "legs are handed back");
        tokio::task::yield_now().await;
    }
    let start = Instant::now();
    while !calls.iter_mut().any(|call| matches!(call.port.try_next(), Some(media::LegEvent::TimedOut))) {
        assert!(start.elapsed() < PATIENCE, "a silent peer is noticed");
        std::thread::yield_now();
    }
    WATCHED.store(0, Ordering::Relaxed);
    let counted = (ALLOCATIONS.load(Ordering::Relaxed), FREES.load(Ordering::Relaxed));
    assert_eq!(counted, (0, 0), "allocations and frees on the worker's thread");
    assert!(media.stats().datagrams > 1_000, "{:?}", media.stats());
    assert_eq!(media.stats().events_dropped, 0);
}
