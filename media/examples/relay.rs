//! Sends streams of G.711 through a relay, both ways of each call, and reads its CPU clock: what `scripts/measure relay` drives.
//!
//! usage: relay CALLS SECONDS PID. It prints the ports of its sockets, two for each call, and reads from its standard input the addresses
//! that they are to send to. What the first of two sends has to come to the second, and the other way round, whole and once. With a
//! PID of 0 it is its own relay: a loop over two sockets a call that looks once a millisecond and into no packet.
//!
//! usage: relay serve. It reads lines of such ports, opens a leg to each, two by two in a room on one worker, and prints where they are to send
//! to; an empty line closes them.
#![allow(unsafe_code, clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]

#[path = "floor/load.rs"]
mod load;
#[path = "floor/tones.rs"]
mod tones;

use std::net::{IpAddr, Ipv4Addr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::time::{Duration, Instant};

use codecs::registry;
use load::{Clock, Route};
use media::{LegConfig, LegMode, LegPort, Media, MediaConfig, Room};

const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

fn main() {
    if std::env::args().nth(1).as_deref() == Some("serve") {
        return serve();
    }
    let mut words = std::env::args().skip(1).map(|word| word.parse::<i32>().expect("a number"));
    let mut next = || words.next().expect("usage: relay CALLS SECONDS PID");
    let (calls, seconds, pid) = (next() as usize, next() as u64, next());
    let sockets = load::sockets(calls * 2);
    let ports: Vec<String> = sockets.iter().map(|socket| socket.local_addr().unwrap().port().to_string()).collect();
    println!("{}", ports.join(" "));
    let mut line = String::new();
    std::io::stdin().read_line(&mut line).expect("addresses");
    let mut addrs: Vec<SocketAddr> = line.split_whitespace().map(|addr| addr.parse().expect("an address")).collect();
    let mut clock = Clock::Process(pid);
    if pid == 0 {
        let peers = sockets.iter().map(|socket| socket.local_addr().unwrap()).collect();
        let (thread_id, own) = bare(peers);
        (clock, addrs) = (Clock::Thread(thread_id), own);
    }
    let sound = load::Sound { content: load::Content::Patterns, suite: None };
    let report = load::run(sockets, &addrs, (clock, Route::Crossed), Duration::from_secs(seconds), sound);
    println!(
        "cpu_us={:.3} sent={} missing={} damaged={} p50_us={} p99_us={}",
        report.cpu_us_per_packet, report.sent, report.missing, report.damaged, report.rtt_p50_us, report.rtt_p99_us
    );
}

/// This package's worker alone, in a process of its own.
fn serve() {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let _inside = runtime.enter();
    let config = MediaConfig { bind: LOOPBACK, ports: 20_000..=29_999, ..MediaConfig::default() };
    let media = Media::start(config).expect("media starts");
    let mut calls: Vec<Call> = Vec::new();
    for line in std::io::stdin().lines() {
        calls.clear();
        let line = line.expect("text");
        let ports: Vec<u16> = line.split_whitespace().map(|port| port.parse().expect("a port")).collect();
        calls.extend(ports.as_chunks::<2>().0.iter().map(|ports| Call::open(&media, *ports)));
        let addrs: Vec<String> = calls.iter().flat_map(|call| call.addrs).map(|addr| addr.to_string()).collect();
        println!("{}", addrs.join(" "));
        eprintln!("passed on so far: {}", media.stats().relayed);
    }
}

/// Two legs in a room.
struct Call {
    addrs: [SocketAddr; 2],
    _legs: [LegPort; 2],
    _room: Room,
}

impl Call {
    fn open(media: &Media, ports: [u16; 2]) -> Call {
        let codec = registry::by_static_payload_type(0).expect("PCMU").params();
        let rate = codec.audio_rate;
        let legs = ports.map(|port| {
            let reserved = media.reserve().expect("a port");
            let addr = reserved.rtp_addr();
            let config = LegConfig {
                remote: Some(SocketAddr::new(LOOPBACK, port)),
                seed: u64::from(port),
                ..LegConfig::new(codec.clone(), 0, LegMode::Talk)
            };
            let mut leg = media.open(reserved, config).expect("a leg");
            leg.set_tapped(false);
            (addr, leg)
        });
        let addrs = [legs[0].0, legs[1].0];
        let mut legs = legs.map(|(_, leg)| leg);
        let room = media.room(legs[0].worker(), rate, 2).expect("a room");
        legs.iter_mut().for_each(|leg| assert!(room.join(leg, false).is_ok()));
        Call { addrs, _legs: legs, _room: room }
    }
}

/// The bare relay: its thread, and the addresses of its sockets.
fn bare(peers: Vec<SocketAddr>) -> (i32, Vec<SocketAddr>) {
    let sockets: Vec<UdpSocket> = peers.iter().map(|_| UdpSocket::bind("127.0.0.1:0").expect("a socket")).collect();
    let addrs = sockets.iter().map(|socket| socket.local_addr().unwrap()).collect();
    let (tell, told) = std::sync::mpsc::channel();
    std::thread::spawn(move || {
        // SAFETY: takes no pointer and cannot fail.
        let _ = tell.send(unsafe { libc::gettid() });
        // SAFETY: plain calls on a descriptor made here; `event` lives through each.
        let epoll = unsafe { libc::epoll_create1(0) };
        for (index, socket) in sockets.iter().enumerate() {
            socket.set_nonblocking(true).expect("non-blocking");
            let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: index as u64 };
            // SAFETY: as above.
            unsafe { libc::epoll_ctl(epoll, libc::EPOLL_CTL_ADD, socket.as_raw_fd(), &mut event) };
        }
        let mut events = vec![libc::epoll_event { events: 0, u64: 0 }; 512];
        let mut packet = [0_u8; 2_048];
        loop {
            let started = Instant::now();
            // SAFETY: the kernel writes at most as many events as the buffer has room for.
            let n = unsafe { libc::epoll_wait(epoll, events.as_mut_ptr(), events.len() as i32, 20) };
            for event in events.iter().take(n.max(0) as usize) {
                let index = event.u64 as usize;
                if let Ok((size, _)) = sockets[index].recv_from(&mut packet) {
                    let _ = sockets[index ^ 1].send_to(&packet[..size], peers[index ^ 1]);
                }
            }
            std::thread::sleep(Duration::from_millis(1).saturating_sub(started.elapsed()));
        }
    });
    (told.recv().expect("the thread tells its id"), addrs)
}
