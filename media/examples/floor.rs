//! Bare echo loops beside this package's worker, under one load in one run: what the machine itself takes, and what we add.
//!
//! ```sh
//! cargo run --release -p media --example floor -- [--calls 500] [--seconds 10] [--only NAME[,NAME]] [--rounds 1]
//! ```
//!
//! The load: `calls` streams of G.711, a packet each 20 ms, spread evenly over those 20 ms, from one socket per stream. Each
//! echo is checked: its sequence numbers are without gap, and each packet's sound (a pattern that tells packets apart) came
//! back once and whole. CPU is that of the echoing thread alone, by its own CPU clock, over the middle of the run.
//!
//! | name | what it is |
//! | --- | --- |
//! | `epoll` | a socket per call; wait, then one receive and one send for each that is ready |
//! | `epoll-1ms` | the same, looking once a millisecond |
//! | `tokio` | a socket and a task per call, one thread |
//! | `mmsg` | one socket for all calls, recvmmsg and sendmmsg |
//! | `uring` | a socket per call, io_uring: multishot receive into provided buffers, sends submitted together |
//! | `uring-1ms` | the same, looking once a millisecond |
//! | `worker` | this package: echo legs through latch, jitter buffer, both readers, decoder and encoder |
//! | `worker-cm`, `worker-gcm` | the same under SRTP, AES_CM_128_HMAC_SHA1_80 and AEAD_AES_128_GCM; behind it, what the library's bare calls for the same packets take |
//! | `talk` | this package: talking legs, each with a task that hears (with the speech gate) and says what it heard |
#![allow(unsafe_code, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "floor/load.rs"]
mod load;
#[path = "floor/loops.rs"]
mod loops;
#[path = "floor/tones.rs"]
mod tones;

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use aws_lc_rs::{aead, cipher, hmac, iv};
use codecs::registry;
use media::srtp::Suite;
use media::{LegConfig, LegEvent, LegMode, LegPort, Media, MediaConfig};

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const NAMES: [&str; 10] =
    ["epoll", "epoll-1ms", "tokio", "mmsg", "uring", "uring-1ms", "worker", "worker-cm", "worker-gcm", "talk"];

/// A running echo server: where to send, which thread does the work, and how to end it.
struct Server {
    addrs: Vec<SocketAddr>,
    thread_id: i32,
    stop: Box<dyn FnOnce() -> String>,
    /// What the streams are protected with.
    suite: Option<Suite>,
}

fn main() {
    let args: HashMap<String, String> = {
        let words: Vec<String> = std::env::args().skip(1).collect();
        words.chunks(2).map(|pair| (pair[0].clone(), pair.get(1).cloned().unwrap_or_default())).collect()
    };
    let number = |name: &str, or: u64| args.get(name).map_or(or, |value| value.parse().expect("a number"));
    let (calls, seconds, rounds) = (number("--calls", 500) as usize, number("--seconds", 10), number("--rounds", 1));
    let only: Vec<&str> = args.get("--only").map_or(NAMES.to_vec(), |names| names.split(',').collect());
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let _inside = runtime.enter();
    load::raise_file_limit();
    println!("{calls} calls, G.711 20 ms, {seconds} s each");
    println!(
        "{:<10} {:>10} {:>10} {:>9} {:>8} {:>9} {:>9} {:>12} {:>12}",
        "loop", "sent", "echoed", "missing", "damaged", "cpu us/p", "% a core", "rtt p50 us", "rtt p99 us"
    );
    for _ in 0..rounds {
        for name in &only {
            let sockets = load::sockets(calls);
            let peers: Vec<SocketAddr> = sockets.iter().map(|socket| socket.local_addr().unwrap()).collect();
            let server = match *name {
                "epoll" => loops::epoll(calls, None),
                "epoll-1ms" => loops::epoll(calls, Some(Duration::from_millis(1))),
                "tokio" => loops::tokio(calls),
                "mmsg" => loops::mmsg(calls),
                "uring" => loops::uring(calls, None),
                "uring-1ms" => loops::uring(calls, Some(Duration::from_millis(1))),
                "worker" => worker(&peers, None),
                "worker-cm" => worker(&peers, Some(Suite::AesCm128HmacSha1_80)),
                "worker-gcm" => worker(&peers, Some(Suite::AeadAes128Gcm)),
                "talk" => talk(&peers),
                other => panic!("no loop named {other}: {NAMES:?}"),
            };
            let by = (load::Clock::Thread(server.thread_id), load::Route::Echo);
            let sound = load::Sound { content: load::Content::Patterns, suite: server.suite };
            let report = load::run(sockets, &server.addrs, by, Duration::from_secs(seconds), sound);
            let note = (server.stop)();
            println!(
                "{:<10} {:>10} {:>10} {:>9} {:>8} {:>9.2} {:>9.1} {:>12} {:>12}  {note}",
                name,
                report.sent,
                report.echoed,
                report.missing,
                report.damaged,
                report.cpu_us_per_packet,
                report.core_percent,
                report.rtt_p50_us,
                report.rtt_p99_us
            );
        }
    }
}

/// An engine with one worker, a leg to each of `peers`, and the worker's thread.
fn legs(peers: &[SocketAddr], mode: LegMode, suite: Option<Suite>) -> (Media, Vec<SocketAddr>, Vec<LegPort>, i32) {
    let before = load::workers();
    let config = MediaConfig { bind: LOOPBACK, ports: 20_000..=29_999, ..MediaConfig::default() };
    let media = Media::start(config).expect("media starts");
    let codec = registry::by_static_payload_type(0).expect("PCMU").params();
    let mut addrs = Vec::new();
    let legs = peers.iter().enumerate().map(|(call, peer)| {
        let port = media.reserve().expect("a port");
        addrs.push(port.rtp_addr());
        let security = load::security(suite);
        let config =
            LegConfig { remote: Some(*peer), seed: call as u64, security, ..LegConfig::new(codec.clone(), 0, mode) };
        media.open(port, config).expect("a leg")
    });
    let legs = legs.collect();
    let thread_id = load::worker_since(&before);
    (media, addrs, legs, thread_id)
}

/// Echo legs on one worker of this package.
fn worker(peers: &[SocketAddr], suite: Option<Suite>) -> Server {
    let (media, addrs, legs, thread_id) = legs(peers, LegMode::Echo, suite);
    let bare = suite.map(|suite| format!(", bare library calls {:.3} us/p", bare_us(suite))).unwrap_or_default();
    let stop = Box::new(move || {
        let stats = media.stats();
        let (lost, late) =
            legs.iter().map(LegPort::stats).fold((0, 0), |sum, leg| (sum.0 + leg.lost, sum.1 + leg.late));
        media.shutdown();
        drop(legs);
        format!(
            "rounds {}, overruns {}, longest {} us, lost {lost}, late {late}{bare}",
            stats.rounds, stats.overruns, stats.longest_round_us
        )
    });
    Server { addrs, thread_id, stop, suite }
}

/// What the library's own calls take to open one packet and to seal one, with nothing around them.
fn bare_us(suite: Suite) -> f64 {
    const ROUNDS: u32 = 200_000;
    let mut packet = [7_u8; 172];
    let started = std::time::Instant::now();
    match suite {
        Suite::AeadAes128Gcm | Suite::AeadAes256Gcm => {
            let key = aead::LessSafeKey::new(aead::UnboundKey::new(&aead::AES_128_GCM, &[1; 16]).expect("a key"));
            let mut out = [0_u8; 160];
            for n in 0..ROUNDS {
                let mut nonce = [0; 12];
                nonce[..4].copy_from_slice(&n.to_le_bytes());
                let (header, payload) = packet.split_at_mut(12);
                let of = || aead::Nonce::assume_unique_for_key(nonce);
                let tag = key.seal_in_place_separate_tag(of(), aead::Aad::from(&*header), payload).expect("seals");
                key.open_separate_gather(of(), aead::Aad::from(&*header), payload, tag.as_ref(), &mut out)
                    .expect("opens");
            }
        }
        _ => {
            let unbound = cipher::UnboundCipherKey::new(&cipher::AES_128, &[1; 16]).expect("a key");
            let key = cipher::EncryptingKey::ctr(unbound).expect("a key");
            let auth = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &[2; 20]);
            for n in 0..2 * ROUNDS {
                let mut iv = [0; 16];
                iv[..4].copy_from_slice(&n.to_le_bytes());
                let context = cipher::EncryptionContext::Iv128(iv::FixedLength::from(iv));
                key.less_safe_encrypt(&mut packet[12..], context).expect("encrypts");
                packet[0] ^= hmac::sign(&auth, &packet).as_ref()[0] & 1;
            }
        }
    }
    std::hint::black_box(packet);
    started.elapsed().as_secs_f64() * 1e6 / f64::from(ROUNDS)
}

/// Talking legs on one worker, each with a task that says what it hears.
fn talk(peers: &[SocketAddr]) -> Server {
    let (media, addrs, legs, thread_id) = legs(peers, LegMode::Talk, None);
    let tasks: Vec<_> = legs
        .into_iter()
        .map(|mut leg| {
            tokio::spawn(async move {
                let mut waits_us = Vec::new();
                loop {
                    match leg.next().await {
                        LegEvent::Ear(frame) => {
                            waits_us.push(frame.arrived.elapsed().as_micros() as u64);
                            leg.say(frame.samples());
                        }
                        LegEvent::Closed => break (waits_us, leg.stats()),
                        _ => {}
                    }
                }
            })
        })
        .collect();
    let stop = Box::new(move || {
        let rounds = media.stats();
        media.shutdown();
        let (mut waits_us, mut dropped) = (Vec::new(), 0);
        for task in tasks {
            let (waits, stats) = tokio::runtime::Handle::current().block_on(task).expect("a task ends");
            waits_us.extend(waits);
            dropped += stats.ear_ring_drops;
        }
        waits_us.sort_unstable();
        let quantile = |q: f64| waits_us.get((waits_us.len() as f64 * q) as usize).copied().unwrap_or(0);
        format!(
            "worker to task p50 {} us, p99 {} us, frames dropped {dropped}, overruns {}, longest {} us",
            quantile(0.5),
            quantile(0.99),
            rounds.overruns,
            rounds.longest_round_us
        )
    });
    Server { addrs, thread_id, stop, suite: None }
}
