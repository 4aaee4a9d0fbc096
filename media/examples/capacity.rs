//! How many calls one media worker carries, of each kind: on a worker of its own in this process, with tones that have to come to whom they
//! should and to nobody else. What `scripts/measure capacity` drives.
//!
//! ```sh
//! cargo run --release -p media --example capacity -- KIND [--seconds 6] [--calls N]
//! ```
//!
//! | kind | what it is |
//! | --- | --- |
//! | `echo` | G.711 echoed: latch, jitter buffer, both readers, decoder, encoder |
//! | `echo-cm`, `echo-gcm` | the same under SRTP, AES_CM_128_HMAC_SHA1_80 and AEAD_AES_128_GCM |
//! | `echo-opus` | Opus echoed, decoded and encoded anew |
//! | `echo-opus-gcm` | the same under SRTP, as a browser's call is once it is connected |
//! | `passed` | two legs of G.711 in a room, whose packets are passed on |
//! | `mixed` | two legs, one of G.711 and one of Opus |
//! | `conference` | rooms of eight legs of G.711, each hearing the seven others |
//!
//! A call is a leg here. Without `--calls` their number grows until something is lost, late or wrong, or the worker's core is full; the line
//! with `most` says how many it was before that, and `--packets N` has so many packets sent with 70 % of a core after it. The last line of
//! each run is JSON.
#![allow(unsafe_code, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "floor/load.rs"]
mod load;
#[path = "floor/tones.rs"]
mod tones;

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use codecs::registry::{self, CodecSpec};
use load::{Clock, Content, Report, Route, Sound};
use media::srtp::Suite;
use media::{LegConfig, LegMode, LegPort, Media, MediaConfig, Room};
use tones::Tones;

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
/// Above this share of a core the next packet waits for the last.
const FULL_PERCENT: f64 = 97.0;
/// The numbers of calls that are tried grow by this.
const STEP: f64 = 1.25;
/// Packets that may be under way when a run ends, of each call.
const UNDER_WAY: u64 = 25;

/// A kind of calls.
struct Kind {
    name: &'static str,
    codecs: &'static [&'static str],
    suite: Option<Suite>,
    /// Legs in a room; 1 is echoed.
    group: usize,
    /// Tried first.
    first: usize,
}

const KINDS: [Kind; 8] = [
    Kind { name: "echo", codecs: &["PCMU"], suite: None, group: 1, first: 500 },
    Kind { name: "echo-cm", codecs: &["PCMU"], suite: Some(Suite::AesCm128HmacSha1_80), group: 1, first: 400 },
    Kind { name: "echo-gcm", codecs: &["PCMU"], suite: Some(Suite::AeadAes128Gcm), group: 1, first: 400 },
    Kind { name: "echo-opus", codecs: &["opus"], suite: None, group: 1, first: 40 },
    Kind { name: "echo-opus-gcm", codecs: &["opus"], suite: Some(Suite::AeadAes128Gcm), group: 1, first: 40 },
    Kind { name: "passed", codecs: &["PCMU"], suite: None, group: 2, first: 500 },
    Kind { name: "mixed", codecs: &["PCMU", "opus"], suite: None, group: 2, first: 40 },
    Kind { name: "conference", codecs: &["PCMU"], suite: None, group: 8, first: 400 },
];

fn main() {
    let words: Vec<String> = std::env::args().skip(1).collect();
    let usage = || -> ! {
        let names: Vec<&str> = KINDS.iter().map(|kind| kind.name).collect();
        eprintln!("usage: capacity {} [--seconds N] [--calls N] [--packets N]", names.join("|"));
        std::process::exit(2)
    };
    let Some(kind) = words.first().and_then(|name| KINDS.iter().find(|kind| kind.name == *name)) else { usage() };
    let number = |name: &str| {
        let at = words.iter().position(|word| word == name)?;
        Some(words.get(at + 1)?.parse::<usize>().unwrap_or_else(|_| usage()))
    };
    let seconds = number("--seconds").unwrap_or(6) as u64;
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let _inside = runtime.enter();
    load::raise_file_limit();
    let bare_us = bare_us(kind);
    println!(
        "{:<14} {:>6} {:>9} {:>6} {:>6} {:>8} {:>6} {:>11} {:>8} {:>10}",
        "kind", "calls", "packets", "lost", "late", "damaged", "wrong", "us/call-s", "% a core", "longest ms"
    );
    if let Some(calls) = number("--calls") {
        let run = run(kind, calls, seconds);
        println!("{}", run.json(kind, bare_us));
        std::process::exit(i32::from(!run.is_clean()));
    }
    let most = search(kind, seconds);
    println!("most {} {}", kind.name, most.calls);
    println!("{}", most.json(kind, bare_us));
    if let Some(packets) = number("--packets") {
        // No more than went well, where that is less of a core.
        let calls = rounded((most.calls as f64 * (70.0 / most.report.core_percent).min(1.0)) as usize, kind);
        let run = run(kind, calls, packets.div_ceil(calls * 50) as u64);
        println!("{}", run.json(kind, bare_us));
        std::process::exit(i32::from(!run.is_clean()));
    }
}

/// Whole rooms.
fn rounded(calls: usize, kind: &Kind) -> usize {
    (calls / kind.group).max(1) * kind.group
}

/// The most calls with which nothing was lost, late or wrong; a number that fails is tried once more, since the machine may have been at
/// something else.
fn search(kind: &Kind, seconds: u64) -> Run {
    let attempt = |calls| {
        let first = run(kind, calls, seconds);
        if first.is_clean() || first.report.core_percent > FULL_PERCENT { first } else { run(kind, calls, seconds) }
    };
    let mut most = attempt(rounded(kind.first, kind));
    assert!(most.is_clean(), "not even the first few calls went well");
    let mut step = STEP;
    while step > 1.04 {
        let calls = rounded((most.calls as f64 * step) as usize, kind);
        if calls == most.calls {
            break;
        }
        let next = attempt(calls);
        if next.is_clean() {
            most = next;
        } else {
            step = step.sqrt();
        }
    }
    most
}

fn codecs(kind: &Kind) -> Vec<(CodecSpec, u8)> {
    let spec = |name: &&str| match *name {
        "PCMU" => (*registry::by_static_payload_type(0).expect("PCMU"), 0),
        _ => (*registry::find("opus", 48_000, 2).expect("Opus"), 111),
    };
    kind.codecs.iter().map(spec).collect()
}

/// What the codec's library takes for a packet, decoded and encoded.
fn bare_us(kind: &Kind) -> f64 {
    Tones::new(&codecs(kind), kind.group).expect("tones").bare_us()
}

/// One run.
struct Run {
    calls: usize,
    report: Report,
    lost: u64,
    late: u64,
    longest_us: u64,
}

impl Run {
    fn is_clean(&self) -> bool {
        let Run { calls, report, .. } = self;
        self.lost + self.late + report.damaged + report.wrong == 0
            && report.echoed + UNDER_WAY * *calls as u64 >= report.sent
            && report.core_percent <= FULL_PERCENT
    }

    fn json(&self, kind: &Kind, bare_us: f64) -> String {
        format!(
            "{{\"kind\":\"{}\",\"calls\":{},\"is_clean\":{},\"packets\":{},\"lost\":{},\"late\":{},\"damaged\":{},\"wrong\":{},\"us_per_call_second\":{:.1},\
             \"us_per_packet\":{:.3},\"bare_codec_us_per_packet\":{bare_us:.3},\"core_percent\":{:.1},\"longest_round_us\":{}}}",
            kind.name,
            self.calls,
            self.is_clean(),
            self.report.sent,
            self.lost,
            self.late,
            self.report.damaged,
            self.report.wrong,
            self.report.cpu_us_per_packet * 50.0,
            self.report.cpu_us_per_packet,
            self.report.core_percent,
            self.longest_us,
        )
    }
}

fn run(kind: &Kind, calls: usize, seconds: u64) -> Run {
    let tones = Tones::new(&codecs(kind), kind.group).expect("tones");
    let sockets = load::sockets(calls);
    let peers: Vec<SocketAddr> = sockets.iter().map(|socket| socket.local_addr().unwrap()).collect();
    let before = load::workers();
    let config = MediaConfig { bind: LOOPBACK, ports: 20_000..=52_767, workers: 1, ..MediaConfig::default() };
    let media = Media::start(config).expect("media starts");
    let mut addrs = Vec::new();
    let mut legs: Vec<LegPort> = Vec::new();
    for (index, peer) in peers.iter().enumerate() {
        let reserved = media.reserve().expect("a port");
        addrs.push(reserved.rtp_addr());
        let (codec, payload_type) = tones.codec(index);
        let mode = if kind.group == 1 { LegMode::Echo } else { LegMode::Talk };
        let security = load::security(kind.suite);
        let config = LegConfig {
            remote: Some(*peer),
            seed: index as u64,
            security,
            ..LegConfig::new(codec, payload_type, mode)
        };
        let mut leg = media.open(reserved, config).expect("a leg");
        if kind.group > 1 {
            leg.set_tapped(false);
        }
        legs.push(leg);
    }
    let rooms = if kind.group > 1 { rooms(&media, &tones, &mut legs, kind.group) } else { Vec::new() };
    let worker = load::worker_since(&before);
    let sound = Sound { content: Content::Tones(tones), suite: kind.suite };
    let by = (Clock::Thread(worker), Route::Echo);
    let report = load::run(sockets, &addrs, by, Duration::from_secs(seconds), sound);
    let stats = legs.iter().map(LegPort::stats).fold((0, 0), |sum, leg| (sum.0 + leg.lost, sum.1 + leg.late));
    let run = Run { calls, lost: stats.0, late: stats.1, longest_us: media.stats().longest_round_us, report };
    drop(rooms);
    media.shutdown();
    println!(
        "{:<14} {:>6} {:>9} {:>6} {:>6} {:>8} {:>6} {:>11.1} {:>8.1} {:>10.1}",
        kind.name,
        calls,
        run.report.sent,
        run.lost,
        run.late,
        run.report.damaged,
        run.report.wrong,
        run.report.cpu_us_per_packet * 50.0,
        run.report.core_percent,
        run.longest_us as f64 / 1_000.0
    );
    run
}

/// Rooms of so many legs.
fn rooms(media: &Media, tones: &Tones, legs: &mut [LegPort], members: usize) -> Vec<Room> {
    let room = |(at, members_of): (usize, &mut [LegPort])| {
        let rate = (0..members).map(|index| tones.codec(at * members + index).0.audio_rate).max().expect("members");
        let room = media.room(members_of[0].worker(), rate, members).expect("a room");
        members_of.iter_mut().for_each(|leg| assert!(room.join(leg, false).is_ok()));
        room
    };
    legs.chunks_mut(members).enumerate().map(room).collect()
}
