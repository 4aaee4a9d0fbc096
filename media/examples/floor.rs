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
//! | `mmsg` | one socket for all calls, recvmmsg and sendmmsg |
//! | `uring` | a socket per call, io_uring: multishot receive into provided buffers, sends submitted together |
//! | `uring-1ms` | the same, looking once a millisecond |
//! | `worker` | this package: echo legs through latch, jitter buffer, both readers, decoder and encoder |
#![allow(unsafe_code, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "floor/load.rs"]
mod load;
#[path = "floor/loops.rs"]
mod loops;

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::Duration;

use codecs::registry;
use media::{LegConfig, LegMode, LegPort, Media, MediaConfig};

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const NAMES: [&str; 6] = ["epoll", "epoll-1ms", "mmsg", "uring", "uring-1ms", "worker"];

/// A running echo server: where to send, which thread does the work, and how to end it.
struct Server {
    addrs: Vec<SocketAddr>,
    thread_id: i32,
    stop: Box<dyn FnOnce() -> String>,
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
    raise_file_limit();
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
                "mmsg" => loops::mmsg(calls),
                "uring" => loops::uring(calls, None),
                "uring-1ms" => loops::uring(calls, Some(Duration::from_millis(1))),
                "worker" => worker(&peers),
                other => panic!("no loop named {other}: {NAMES:?}"),
            };
            let report = load::run(sockets, &server.addrs, server.thread_id, Duration::from_secs(seconds));
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

/// Echo legs on one worker of this package.
fn worker(peers: &[SocketAddr]) -> Server {
    let before = thread_ids();
    let rss_before = rss_bytes();
    let config = MediaConfig { bind: LOOPBACK, ports: 20_000..=29_999, ..MediaConfig::default() };
    let media = Media::start(config).expect("media starts");
    let codec = registry::by_static_payload_type(0).expect("PCMU").params();
    let mut addrs = Vec::new();
    let legs: Vec<LegPort> = peers
        .iter()
        .enumerate()
        .map(|(call, peer)| {
            let port = media.reserve().expect("a port");
            addrs.push(port.rtp_addr());
            let config = LegConfig { remote: Some(*peer), seed: call as u64, ..LegConfig::new(codec.clone(), 0, LegMode::Echo) };
            media.open(port, config).expect("a leg")
        })
        .collect();
    let thread_id = loop {
        let found = thread_ids().into_iter().find(|(id, name)| name.starts_with("media-") && !before.contains_key(id));
        if let Some((id, _)) = found {
            break id;
        }
        std::thread::yield_now();
    };
    let stop = Box::new(move || {
        let stats = media.stats();
        let grown = rss_bytes().saturating_sub(rss_before) / legs.len().max(1);
        let (lost, late): (u64, u64) =
            legs.iter().map(LegPort::stats).fold((0, 0), |sum, leg| (sum.0 + leg.lost, sum.1 + leg.late));
        media.shutdown();
        drop(legs);
        format!(
            "rounds {}, overruns {}, longest {} us, lost {lost}, late {late}, rss a leg {grown} B",
            stats.rounds, stats.overruns, stats.longest_round_us
        )
    });
    Server { addrs, thread_id, stop }
}

/// Threads of this process: id and name.
fn thread_ids() -> HashMap<i32, String> {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap().flatten();
    tasks
        .filter_map(|task| {
            let id = task.file_name().to_str()?.parse().ok()?;
            Some((id, std::fs::read_to_string(task.path().join("comm")).ok()?.trim().to_owned()))
        })
        .collect()
}

fn rss_bytes() -> usize {
    let statm = std::fs::read_to_string("/proc/self/statm").unwrap();
    statm.split(' ').nth(1).and_then(|pages| pages.parse::<usize>().ok()).unwrap_or(0) * 4_096
}

fn raise_file_limit() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: both calls take a pointer to a struct that lives through them.
    unsafe {
        libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit);
        limit.rlim_cur = limit.rlim_max;
        libc::setrlimit(libc::RLIMIT_NOFILE, &limit);
    }
}
