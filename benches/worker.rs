//! A media worker's round with 1, 100 and 1,000 echo legs: `cargo bench --bench worker`.
//!
//! Each leg gets a G.711 packet and sends one every 20 ms, over real sockets on the loopback interface, through jitter
//! buffer, decoder and encoder. An iteration is one such 20 ms in real time; what is reported is the processor time that
//! the worker's rounds took in it (by the kernel's books, system calls with it), without the sender's. 1,000 legs want
//! `ulimit -n 4096`.
#![allow(clippy::unwrap_used, clippy::expect_used)]

#[path = "workloads/case.rs"]
mod case;
#[allow(dead_code)] // its packets are used
#[path = "workloads/rtp.rs"]
mod rtp;

use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use codecs::registry::{self, CodecId};
use criterion::{BenchmarkId, Criterion, Throughput};
use media::config::{LegConfig, LegMode, MediaConfig};
use media::io::Media;
use media::port::LegPort;

const FRAME: Duration = Duration::from_millis(20);
/// Packets of a leg before the measurement begins: by then each leg has latched and plays.
const WARM_UP_FRAMES: u32 = 25;

/// One worker, run by hand, and a peer that calls all of its legs.
struct Bed {
    /// One round of the worker, which waits no longer than told.
    round: Box<dyn FnMut(Duration)>,
    peer: UdpSocket,
    legs: Vec<SocketAddr>,
    ports: Vec<LegPort>,
    sent: u32,
    due: Instant,
    _media: Media,
    _runtime: tokio::runtime::Runtime,
}

impl Bed {
    fn new(legs: usize) -> Bed {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let guard = runtime.enter();
        let config = MediaConfig {
            workers: 1,
            bind: Ipv4Addr::LOCALHOST.into(),
            ports: 20_000..=29_999,
            ..MediaConfig::default()
        };
        let (media, mut workers) = Media::by_hand(config).expect("a worker");
        let mut worker = workers.pop().expect("one worker");
        drop(guard);
        let peer = UdpSocket::bind((Ipv4Addr::LOCALHOST, 0)).expect("a socket");
        let mut bed = Bed {
            round: Box::new(move |wait| {
                worker.round(Some(wait));
            }),
            peer,
            legs: Vec::new(),
            ports: Vec::new(),
            sent: 0,
            due: Instant::now(),
            _media: media.clone(),
            _runtime: runtime,
        };
        for seed in 0..legs {
            let port = media.reserve().expect("a port: for 1,000 legs, ulimit -n 4096");
            let codec = registry::spec(CodecId::Pcmu).expect("PCMU").params();
            let mut leg = LegConfig::new(codec, 0, LegMode::Echo);
            leg.remote = bed.peer.local_addr().ok();
            leg.seed = seed as u64;
            bed.legs.push(port.rtp_addr());
            bed.ports.push(media.open(port, leg).expect("a leg"));
            (bed.round)(Duration::ZERO);
        }
        bed.due = Instant::now();
        for _ in 0..WARM_UP_FRAMES {
            bed.frame();
        }
        bed
    }

    /// 20 ms of all calls; the processor time that the worker took.
    fn frame(&mut self) -> Duration {
        let packet = rtp::packet(self.sent);
        self.sent += 1;
        self.due += FRAME;
        for leg in &self.legs {
            self.peer.send_to(&packet, leg).expect("room in the loopback's queues");
        }
        let before = processor_time();
        while let Some(rest) = self.due.checked_duration_since(Instant::now()) {
            // the worker counts in whole milliseconds: rounded up, or it would spin through the last one
            (self.round)((rest + Duration::from_millis(1)).min(Duration::from_millis(5)));
        }
        let took = processor_time().saturating_sub(before);
        self.peer.set_nonblocking(true).expect("a socket's flag");
        let mut echo = [0; 1500];
        while self.peer.recv(&mut echo).is_ok() {}
        // behind its time (a busy machine): what is missed is not made up for
        self.due = self.due.max(Instant::now());
        took
    }
}

/// What this thread has had of a processor so far: the first number of its schedstat, in nanoseconds.
fn processor_time() -> Duration {
    let text = std::fs::read_to_string("/proc/thread-self/schedstat").expect("Linux with schedstat");
    let nanoseconds = text.split_whitespace().next().and_then(|word| word.parse().ok());
    Duration::from_nanos(nanoseconds.expect("a number"))
}

fn main() {
    let mut criterion = Criterion::default()
        .sample_size(10)
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(5))
        .configure_from_args();
    let mut group = criterion.benchmark_group("worker");
    for legs in [1, 100, 1_000] {
        group.throughput(Throughput::Elements(legs));
        let mut bed = None;
        group.bench_function(BenchmarkId::new("round_20ms", legs), |bencher| {
            let bed = bed.get_or_insert_with(|| Bed::new(legs as usize));
            bed.due = Instant::now();
            bencher.iter_custom(|frames| (0..frames).map(|_| bed.frame()).sum());
        });
        let lost: u64 = bed.map_or(0, |bed| bed.ports.into_iter().map(|port| port.close().lost).sum());
        if lost > 0 {
            eprintln!("{lost} packets were lost on the way to {legs} legs");
        }
    }
    group.finish();
    criterion.final_summary();
}
