//! The load generator: paces the streams, checks what comes back, and reads the CPU clock of the server's thread or process.

use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicBool, AtomicU32, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use media::Security;
use media::srtp::{KeyPair, MasterKey, Receiver, Sender, Suite};

use crate::tones::{Kept, Tones};

const PACKET_BYTES: usize = 172;
/// Streams run this long before CPU is read, and again after.
const EDGE: Duration = Duration::from_millis(500);
/// Patterns that tell a stream's packets apart; they come round again after this many.
const PATTERNS: u32 = 64;

/// What a run gave.
#[allow(dead_code)] // each example shows its own
pub(crate) struct Report {
    /// Packets sent to the server.
    pub(crate) sent: u64,
    /// Packets that came back.
    pub(crate) echoed: u64,
    /// Patterns that never came back, among those sent before the last second.
    pub(crate) missing: u64,
    /// Packets that came back with another content than one of those sent, or out of sequence.
    pub(crate) damaged: u64,
    /// CPU of the echoing thread per packet echoed.
    pub(crate) cpu_us_per_packet: f64,
    /// The same as a share of a core.
    pub(crate) core_percent: f64,
    /// From sending a packet to having its sound back.
    pub(crate) rtt_p50_us: u64,
    /// Its 99th percentile.
    pub(crate) rtt_p99_us: u64,
    /// Streams to which at the end something else came than what should, of those that send tones.
    pub(crate) wrong: u64,
}

/// What the streams send.
#[allow(dead_code)] // each example has its own
pub(crate) enum Content {
    /// G.711 whose packets can be told apart, each of which has to come back as it is.
    Patterns,
    /// Tones that can be told apart, which have to be there in what comes back.
    Tones(Tones),
}

/// What the streams send, and how it is protected.
pub(crate) struct Sound {
    pub(crate) content: Content,
    pub(crate) suite: Option<Suite>,
}

/// Whose CPU is read.
#[derive(Clone, Copy)]
#[allow(dead_code)] // each example has its own
pub(crate) enum Clock {
    /// That of a thread of this process.
    Thread(i32),
    /// That of all threads of a process.
    Process(i32),
}

/// Where what a stream sends comes to.
#[derive(Clone, Copy, PartialEq)]
#[allow(dead_code)] // each example has its own
pub(crate) enum Route {
    /// Back to it.
    Echo,
    /// To the other of two.
    Crossed,
}

struct Stream {
    socket: UdpSocket,
    /// When the packet with each pattern was last sent, in microseconds of the run; taken by its echo.
    sent_us: Vec<AtomicU64>,
    sent: AtomicU32,
    /// Protects what is sent, and opens what comes back; each used by one thread.
    keys: Option<(Mutex<Sender>, Mutex<Receiver>)>,
}

/// The streams' key (2), or the server's (1).
pub(crate) fn master(suite: Suite, whose: u8) -> MasterKey {
    MasterKey::new(suite, &vec![whose; suite.master_bytes()]).expect("a key of the right length")
}

/// The sockets that the streams are to come from.
pub(crate) fn sockets(calls: usize) -> Vec<UdpSocket> {
    (0..calls).map(|_| UdpSocket::bind("127.0.0.1:0").expect("a socket")).collect()
}

/// Sends a stream to each of `addrs` for `length`, and reads the server's CPU clock meanwhile.
pub(crate) fn run(
    sockets: Vec<UdpSocket>,
    addrs: &[SocketAddr],
    (clock, route): (Clock, Route),
    length: Duration,
    sound: Sound,
) -> Report {
    let Sound { content, suite } = sound;
    let content = Arc::new(content);
    let streams = sockets.into_iter().zip(addrs).map(|(socket, addr)| {
        socket.connect(addr).expect("connects");
        socket.set_nonblocking(true).expect("non-blocking");
        let sent_us = (0..PATTERNS).map(|_| AtomicU64::new(0)).collect();
        let keys = suite
            .map(|suite| (Mutex::new(Sender::new(&master(suite, 2))), Mutex::new(Receiver::new(&master(suite, 1)))));
        Stream { socket, sent_us, sent: AtomicU32::new(0), keys }
    });
    let streams: Arc<Vec<Stream>> = Arc::new(streams.collect());
    clock.real_time(8);
    let start = Instant::now() + Duration::from_millis(20);
    let done = Arc::new(AtomicBool::new(false));
    let receiver = {
        let (streams, done, content) = (Arc::clone(&streams), Arc::clone(&done), Arc::clone(&content));
        std::thread::Builder::new()
            .name("load-in".into())
            .spawn(move || receive(&streams, (route, &content), (start, length + 2 * EDGE), &done))
            .expect("a thread")
    };
    let sender = {
        let (streams, content) = (Arc::clone(&streams), Arc::clone(&content));
        let length = length + 2 * EDGE;
        std::thread::Builder::new()
            .name("load-out".into())
            .spawn(move || send(&streams, &content, start, length))
            .expect("a thread")
    };
    std::thread::sleep(EDGE);
    let (cpu_before, time_before) = (clock.read(), Instant::now());
    std::thread::sleep(length);
    let (cpu, time) = (clock.read() - cpu_before, time_before.elapsed());
    sender.join().expect("sends");
    // The last packets are under way still, in a playout buffer perhaps.
    std::thread::sleep(EDGE);
    done.store(true, Ordering::Relaxed);
    let mut heard = receiver.join().expect("receives");
    let sent: u64 = streams.iter().map(|stream| u64::from(stream.sent.load(Ordering::Relaxed))).sum();
    // A pattern that was sent and not taken by an echo is still marked, unless it was sent over and counted then.
    let left: u64 =
        streams.iter().flat_map(|stream| &stream.sent_us).filter(|at| at.load(Ordering::Relaxed) != 0).count() as u64;
    let wrong = match &*content {
        Content::Patterns => 0,
        Content::Tones(tones) => {
            heard.kept.iter().enumerate().filter(|(index, kept)| !tones.is_right(*index, kept)).count() as u64
        }
    };
    let rate = addrs.len() as f64 * 50.0 * time.as_secs_f64();
    heard.rtts_us.sort_unstable();
    let quantile = |q: f64| heard.rtts_us.get((heard.rtts_us.len() as f64 * q) as usize).copied().unwrap_or(0);
    Report {
        sent,
        echoed: heard.echoed,
        missing: left + OVERWRITTEN.swap(0, Ordering::Relaxed),
        damaged: heard.damaged,
        cpu_us_per_packet: cpu.as_secs_f64() * 1e6 / rate,
        core_percent: cpu.as_secs_f64() / time.as_secs_f64() * 100.0,
        rtt_p50_us: quantile(0.5),
        rtt_p99_us: quantile(0.99),
        wrong,
    }
}

/// Patterns whose echo had not come when they were sent again.
static OVERWRITTEN: AtomicU64 = AtomicU64::new(0);

fn send(streams: &[Stream], content: &Content, start: Instant, length: Duration) {
    real_time(0, 10);
    // SAFETY: takes no pointer.
    unsafe { libc::prctl(libc::PR_SET_TIMERSLACK, 1_000_u64) };
    let gap = Duration::from_millis(20) / streams.len() as u32;
    let mut packet = [0_u8; PACKET_BYTES];
    let total = (length.as_millis() as u64 / 20) * streams.len() as u64;
    for n in 0..total {
        let due = start + gap * n as u32;
        loop {
            let now = Instant::now();
            if now >= due {
                break;
            }
            std::thread::sleep(due - now);
        }
        let index = n as usize % streams.len();
        let stream = &streams[index];
        let k = stream.sent.load(Ordering::Relaxed);
        let size = match content {
            Content::Patterns => {
                packet[..12].copy_from_slice(&header(k, index as u32, (0, 160)));
                packet[12..].fill(pattern(k));
                let at = start.elapsed().as_micros() as u64 + 1;
                if stream.sent_us[(k % PATTERNS) as usize].swap(at, Ordering::Relaxed) != 0 {
                    OVERWRITTEN.fetch_add(1, Ordering::Relaxed);
                }
                PACKET_BYTES
            }
            Content::Tones(tones) => {
                let (format, payload) = tones.payload(index, k);
                packet[..12].copy_from_slice(&header(k, index as u32, format));
                packet[12..12 + payload.len()].copy_from_slice(payload);
                12 + payload.len()
            }
        };
        let packet = &packet[..size];
        match &stream.keys {
            Some((sender, _)) => {
                let mut sealed = [0_u8; PACKET_BYTES + 20];
                sealed[..size].copy_from_slice(packet);
                let size = sender.lock().expect("whole").protect(&mut sealed, size).expect("protects");
                stream.socket.send(&sealed[..size]).expect("sends");
            }
            None => drop(stream.socket.send(packet).expect("sends")),
        }
        stream.sent.store(k + 1, Ordering::Relaxed);
    }
}

struct Heard {
    /// The streams end then; what comes later may be concealment of what was never sent.
    until_us: u64,
    echoed: u64,
    damaged: u64,
    rtts_us: Vec<u64>,
    /// What came last to each stream, where they send tones.
    kept: Vec<Kept>,
}

fn receive(
    streams: &[Stream],
    (route, content): (Route, &Content),
    (start, length): (Instant, Duration),
    done: &AtomicBool,
) -> Heard {
    real_time(0, 6);
    // SAFETY: plain calls on a descriptor made here; `event` lives through each.
    let epoll = unsafe { libc::epoll_create1(0) };
    for (index, stream) in streams.iter().enumerate() {
        let mut event = libc::epoll_event { events: libc::EPOLLIN as u32, u64: index as u64 };
        // SAFETY: as above.
        unsafe { libc::epoll_ctl(epoll, libc::EPOLL_CTL_ADD, stream.socket.as_raw_fd(), &mut event) };
    }
    let mut events = vec![libc::epoll_event { events: 0, u64: 0 }; 1024];
    let until_us = length.as_micros() as u64;
    let kept = match content {
        Content::Patterns => Vec::new(),
        Content::Tones(_) => streams.iter().map(|_| Kept::default()).collect(),
    };
    let mut heard = Heard { until_us, echoed: 0, damaged: 0, rtts_us: Vec::with_capacity(1 << 20), kept };
    let mut last_seq: Vec<Option<u16>> = vec![None; streams.len()];
    let mut bytes = [0_u8; 2_048];
    while !done.load(Ordering::Relaxed) {
        // SAFETY: the kernel writes at most as many events as the buffer has room for.
        let n = unsafe { libc::epoll_wait(epoll, events.as_mut_ptr(), events.len() as i32, 20) };
        let at_us = start.elapsed().as_micros() as u64 + 1;
        for event in events.iter().take(n.max(0) as usize) {
            let index = event.u64 as usize;
            while let Ok(size) = streams[index].socket.recv(&mut bytes) {
                let mut clear = [0_u8; 2_048];
                let packet = match &streams[index].keys {
                    Some((_, receiver)) if !(192..224).contains(&bytes[1]) => {
                        match receiver.lock().expect("whole").unprotect(&bytes[..size], &mut clear) {
                            Ok(size) => &clear[..size],
                            Err(_) => {
                                heard.damaged += 1;
                                continue;
                            }
                        }
                    }
                    _ => &bytes[..size],
                };
                let sender = if route == Route::Crossed { index ^ 1 } else { index };
                let Some(sound) = heard.in_sequence(&mut last_seq[index], packet) else { continue };
                match heard.kept.get_mut(index) {
                    Some(kept) if at_us < until_us => kept.add(sound),
                    Some(_) => {}
                    None => heard.take(&streams[sender], packet, at_us),
                }
            }
        }
        // Taking echoes in batches leaves the cores to the sender and the server.
        std::thread::sleep(Duration::from_micros(500));
    }
    // SAFETY: `epoll` is ours, and used no more.
    unsafe { libc::close(epoll) };
    heard
}

impl Heard {
    /// Counts a packet, and whether it comes after the one before; its sound.
    fn in_sequence<'a>(&mut self, last_seq: &mut Option<u16>, packet: &'a [u8]) -> Option<&'a [u8]> {
        // Shorter than RTP, or RTCP of the call whose port is the one below.
        if packet.len() < 12 || (192..224).contains(&packet[1]) {
            return None;
        }
        self.echoed += 1;
        let seq = u16::from_be_bytes([packet[2], packet[3]]);
        if last_seq.replace(seq).is_some_and(|last| seq != last.wrapping_add(1)) {
            self.damaged += 1;
        }
        // A conference names who speaks (CSRC).
        packet.get(12 + 4 * usize::from(packet[0] & 0x0f)..)
    }

    fn take(&mut self, stream: &Stream, packet: &[u8], at_us: u64) {
        let sound = &packet[12..];
        let whole = sound.iter().all(|byte| *byte == sound[0]);
        // Silence before and after the stream is no echo.
        let silence = sound.iter().all(|byte| *byte == 0xff);
        if packet.len() != PACKET_BYTES || (!whole && at_us < self.until_us) {
            self.damaged += 1;
        }
        if silence || !whole {
            return;
        }
        let Some(k) = (sound[0] & 0x7f).checked_sub(0x10) else { return };
        let sent_us = stream.sent_us[k as usize % PATTERNS as usize].swap(0, Ordering::Relaxed);
        if sent_us == 0 {
            self.damaged += 1;
        } else {
            self.rtts_us.push(at_us.saturating_sub(sent_us));
        }
    }
}

/// µ-law values that differ from packet to packet, none of them silence.
fn pattern(k: u32) -> u8 {
    0x80 | (0x10 + (k % PATTERNS) as u8)
}

/// An RTP header of a payload type whose packets are so many ticks long.
fn header(k: u32, stream: u32, (payload_type, ticks): (u8, u32)) -> [u8; 12] {
    let mut header = [0; 12];
    header[0] = 0x80;
    header[1] = payload_type | if k == 0 { 0x80 } else { 0 };
    header[2..4].copy_from_slice(&(k as u16).to_be_bytes());
    header[4..8].copy_from_slice(&k.wrapping_mul(ticks).to_be_bytes());
    header[8..12].copy_from_slice(&(stream + 1).to_be_bytes());
    header
}

impl Clock {
    /// CPU time, to the nanosecond. Thread 0 is the one that asks.
    pub(crate) fn read(self) -> Duration {
        // The clocks that pthread_getcpuclockid() and clock_getcpuclockid() name: CPUCLOCK_SCHED of a thread, or of a process.
        let clock = match self {
            Clock::Thread(id) => (!id << 3) | 6,
            Clock::Process(id) => (!id << 3) | 2,
        };
        let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: `time` lives through the call.
        let result = unsafe { libc::clock_gettime(clock, &mut time) };
        assert_eq!(result, 0, "the server runs");
        Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
    }

    fn real_time(self, priority: i32) {
        match self {
            Clock::Thread(id) => real_time(id, priority),
            Clock::Process(id) => {
                let tasks = std::fs::read_dir(format!("/proc/{id}/task")).expect("the server runs").flatten();
                let ids = tasks.filter_map(|task| task.file_name().to_str()?.parse().ok());
                ids.for_each(|id| real_time(id, priority));
            }
        }
    }
}

/// The media workers among this process's threads.
#[allow(dead_code)] // the relay asks another process
pub(crate) fn workers() -> Vec<i32> {
    let tasks = std::fs::read_dir("/proc/self/task").expect("this process").flatten();
    tasks
        .filter(|task| std::fs::read_to_string(task.path().join("comm")).is_ok_and(|name| name.starts_with("media-")))
        .filter_map(|task| task.file_name().to_str()?.parse().ok())
        .collect()
}

/// The worker that was not there before.
#[allow(dead_code)] // the relay asks another process
pub(crate) fn worker_since(before: &[i32]) -> i32 {
    loop {
        if let Some(id) = workers().into_iter().find(|id| !before.contains(id)) {
            break id;
        }
        std::thread::yield_now();
    }
}

/// What legs of the server are protected with.
#[allow(dead_code)] // the relay has plain ones
pub(crate) fn security(suite: Option<Suite>) -> Security {
    suite.map_or(Security::Plain, |suite| {
        Security::Sdes(Arc::new(KeyPair { send: master(suite, 1), receive: master(suite, 2) }))
    })
}

/// Lets this process have as many sockets as the system does at all.
#[allow(dead_code)] // the relay's are few
pub(crate) fn raise_file_limit() {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: both calls take a pointer to a struct that lives through them.
    unsafe {
        libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit);
        limit.rlim_cur = limit.rlim_max;
        libc::setrlimit(libc::RLIMIT_NOFILE, &limit);
    }
}

/// Has a thread (0: this one) run before ordinary ones where the system lets us: what else this machine does would be in
/// the figures otherwise.
fn real_time(thread_id: i32, priority: i32) {
    let param = libc::sched_param { sched_priority: priority };
    // SAFETY: `param` lives through the call.
    unsafe { libc::sched_setscheduler(thread_id, libc::SCHED_FIFO, &param) };
}
