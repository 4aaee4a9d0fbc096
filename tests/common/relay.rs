//! A bad network: a UDP relay between a softphone and a server, for SIP and for the RTP and RTCP it announces.
//!
//! One relay serves one call. It loses, delays and reorders by a seed, each way on its own. Either end sees only the relay: addresses in SIP heads and ports in
//! session descriptions are rewritten.
#![allow(unreachable_pub)] // shared by tests and an example

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::{Ipv4Addr, SocketAddr, UdpSocket};
use std::sync::atomic::{AtomicBool, AtomicU16, AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// The largest datagram.
const DATAGRAM_BYTES: usize = 65_536;
/// How often a thread looks whether it is to end.
const STOP_CHECK: Duration = Duration::from_millis(50);
/// So many packets overtake one that is held back.
const OVERTAKEN_BY: u8 = 2;

/// What the network does.
#[derive(Debug, Clone, Copy, Default)]
pub struct Weather {
    /// Media packets lost, in percent.
    pub loss_percent: u64,
    /// Media packets that arrive after the two that follow them, in percent.
    pub reorder_percent: u64,
    /// Packets that a loss takes in a row, on average (Gilbert's model); 0 or 1 where losses are independent.
    pub burst: u64,
    /// Media and SIP datagrams are delayed by up to so much, each by another time, so that they overtake one another.
    pub jitter_ms: u64,
    /// Media is harmed on its way to the server only.
    pub one_way: bool,
    /// SIP datagrams lost, in percent.
    pub sip_loss_percent: u64,
    /// Loses the first copy of each kind of SIP message, each way.
    pub loses_first_copies: bool,
    /// Decides what is lost.
    pub seed: u64,
}

/// What happened, both ways together.
#[derive(Debug, Default)]
pub struct Counts {
    pub relayed: AtomicU64,
    pub lost: AtomicU64,
    pub reordered: AtomicU64,
    pub sip_lost: AtomicU64,
}

/// A relay; ends with the test.
pub struct Relay {
    /// Where the softphone calls.
    pub address: SocketAddr,
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<()>>,
}

impl Relay {
    /// A relay before the server at `server`, for one call.
    pub fn start(server: SocketAddr, weather: Weather) -> Self {
        let shared = Arc::new(Shared {
            weather,
            server,
            client: Mutex::new(None),
            sip: [bind(0), bind(0)],
            media: [Pair::open(), Pair::open()],
            counts: Counts::default(),
            stop: AtomicBool::new(false),
        });
        let mut threads = Vec::new();
        for side in [CLIENT, SERVER] {
            let sip = Arc::clone(&shared);
            threads.push(std::thread::spawn(move || sip.relay_sip(side)));
            for is_rtcp in [false, true] {
                let media = Arc::clone(&shared);
                threads.push(std::thread::spawn(move || media.relay_media(side, is_rtcp)));
            }
        }
        Self { address: shared.sip[CLIENT].local_addr().unwrap(), shared, threads }
    }

    /// What happened so far.
    pub fn counts(&self) -> &Counts {
        &self.shared.counts
    }
}

impl Drop for Relay {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        for thread in self.threads.drain(..) {
            let _ = thread.join();
        }
    }
}

/// The side a socket faces; what faces one side stands for the other.
const CLIENT: usize = 0;
const SERVER: usize = 1;

struct Shared {
    weather: Weather,
    server: SocketAddr,
    client: Mutex<Option<SocketAddr>>,
    sip: [UdpSocket; 2],
    media: [Pair; 2],
    counts: Counts,
    stop: AtomicBool,
}

/// Sockets for RTP and RTCP that face one side, and the RTP port that side has announced (0: not yet).
struct Pair {
    rtp: UdpSocket,
    rtcp: UdpSocket,
    announced: AtomicU16,
}

impl Pair {
    fn open() -> Self {
        loop {
            let rtp = bind(0);
            let port = rtp.local_addr().unwrap().port();
            let Some(Ok(rtcp)) = port.is_multiple_of(2).then(|| UdpSocket::bind((Ipv4Addr::LOCALHOST, port + 1)))
            else {
                continue;
            };
            rtcp.set_read_timeout(Some(STOP_CHECK)).unwrap();
            return Self { rtp, rtcp, announced: AtomicU16::new(0) };
        }
    }

    fn port(&self) -> u16 {
        self.rtp.local_addr().unwrap().port()
    }
}

impl Shared {
    /// Passes on what comes from one side.
    fn relay_sip(&self, from: usize) {
        let mut path = Path::new(self.weather.sip(), from as u64);
        let mut seen = Vec::new();
        let mut buffer = vec![0; DATAGRAM_BYTES];
        while !self.stop.load(Ordering::Relaxed) {
            let received = path.wait_for(&self.sip[from], &mut buffer);
            if let Some((size, source)) = received {
                if from == CLIENT {
                    *self.client.lock().unwrap() = Some(source);
                }
                let message = String::from_utf8_lossy(&buffer[..size]).into_owned();
                let kind = kind(&message);
                let is_first = !seen.contains(&kind);
                seen.push(kind);
                if (self.weather.loses_first_copies && is_first) || !path.send(message.into_bytes()) {
                    self.counts.sip_lost.fetch_add(1, Ordering::Relaxed);
                }
            }
            let Some(client) = *self.client.lock().unwrap() else { continue };
            let to = if from == CLIENT { self.server } else { client };
            while let Some(message) = path.next_due() {
                let message = self.rewrite(&String::from_utf8_lossy(&message), from, client);
                let _ = self.sip[1 - from].send_to(message.as_bytes(), to);
            }
        }
    }

    /// The message as the other side is to see it.
    fn rewrite(&self, message: &str, from: usize, client: SocketAddr) -> String {
        let (head, body) = message.split_once("\r\n\r\n").unwrap_or((message, ""));
        let body = self.rewrite_body(body, from);
        let real = [client, self.server];
        // The sender's own address becomes the socket that stands for it; the socket that stood for the receiver, the receiver.
        let stands_for_sender = self.sip[1 - from].local_addr().unwrap();
        let stands_for_receiver = self.sip[from].local_addr().unwrap();
        let lines: Vec<String> = head
            .split("\r\n")
            .map(|line| match line.split_once(':') {
                Some((name, _)) if name.eq_ignore_ascii_case("content-length") => format!("{name}: {}", body.len()),
                _ => {
                    let line = replace_address(line, real[from], stands_for_sender);
                    replace_address(&line, stands_for_receiver, real[1 - from])
                }
            })
            .collect();
        format!("{}\r\n\r\n{body}", lines.join("\r\n"))
    }

    /// The session description with the ports of the sockets that stand for its sender.
    fn rewrite_body(&self, body: &str, from: usize) -> String {
        let own = self.media[1 - from].port();
        let mut out = String::new();
        for line in body.split_inclusive("\r\n") {
            if let Some((announced, rest)) = line.strip_prefix("m=audio ").and_then(|rest| rest.split_once(' ')) {
                self.media[from].announced.store(announced.parse().unwrap(), Ordering::Relaxed);
                out += &format!("m=audio {own} {rest}");
            } else if line.starts_with("a=rtcp:") {
                out += &format!("a=rtcp:{}\r\n", own + 1);
            } else {
                out += line;
            }
        }
        out
    }

    /// Passes media on, but not all of it and not in order.
    fn relay_media(&self, from: usize, is_rtcp: bool) {
        let socket = |side: usize| if is_rtcp { &self.media[side].rtcp } else { &self.media[side].rtp };
        let harmed = from == CLIENT || !self.weather.one_way;
        let weather = if harmed { self.weather } else { Weather { seed: self.weather.seed, ..Weather::default() } };
        let mut path = Path::new(weather, 2 + 2 * from as u64 + u64::from(is_rtcp));
        let mut buffer = vec![0; DATAGRAM_BYTES];
        while !self.stop.load(Ordering::Relaxed) {
            let received = path.wait_for(socket(from), &mut buffer);
            let port = self.media[1 - from].announced.load(Ordering::Relaxed);
            if port == 0 {
                continue;
            }
            let reordered = path.reordered;
            if let Some((size, _)) = received {
                let count = if path.send(buffer[..size].to_vec()) { &self.counts.relayed } else { &self.counts.lost };
                count.fetch_add(1, Ordering::Relaxed);
            }
            self.counts.reordered.fetch_add(path.reordered - reordered, Ordering::Relaxed);
            let to = SocketAddr::from((Ipv4Addr::LOCALHOST, port + u16::from(is_rtcp)));
            while let Some(packet) = path.next_due() {
                let _ = socket(1 - from).send_to(&packet, to);
            }
        }
    }
}

impl Weather {
    /// What it does to SIP, whose messages are too far apart for a burst to take two.
    fn sip(self) -> Self {
        Self { loss_percent: self.sip_loss_percent, burst: 1, reorder_percent: 0, ..self }
    }
}

/// One way of one channel.
struct Path {
    weather: Weather,
    dice: Dice,
    is_losing: bool,
    /// Held back for those that are to overtake it, so many more.
    held: Option<(u8, Vec<u8>)>,
    /// On their way: when they arrive, the how manieth each is.
    flying: BinaryHeap<Reverse<(Instant, u64, Vec<u8>)>>,
    sent: u64,
    reordered: u64,
}

impl Path {
    fn new(weather: Weather, stream: u64) -> Self {
        let dice = Dice::new(weather.seed, stream);
        Self { weather, dice, is_losing: false, held: None, flying: BinaryHeap::new(), sent: 0, reordered: 0 }
    }

    /// The next datagram; `None` when one that is on its way arrives before, or it is time to look whether all is over.
    fn wait_for(&self, socket: &UdpSocket, buffer: &mut [u8]) -> Option<(usize, SocketAddr)> {
        let due = self.flying.peek().map(|Reverse((at, ..))| at.saturating_duration_since(Instant::now()));
        let wait = due.unwrap_or(STOP_CHECK).clamp(Duration::from_micros(1), STOP_CHECK);
        socket.set_read_timeout(Some(wait)).unwrap();
        socket.recv_from(buffer).ok()
    }

    /// Sends a datagram on its way; false where it is lost.
    fn send(&mut self, datagram: Vec<u8>) -> bool {
        let (loss, reorder) = (self.dice.percent(), self.dice.percent());
        if self.loses(loss) {
            return false;
        }
        if self.held.is_none() && reorder < self.weather.reorder_percent {
            self.reordered += 1;
            self.held = Some((OVERTAKEN_BY, datagram));
            return true;
        }
        self.put(datagram);
        match self.held.take() {
            Some((0 | 1, held)) => self.put(held),
            Some((left, held)) => self.held = Some((left - 1, held)),
            None => {}
        }
        true
    }

    /// Whether a datagram is lost that draws this percentage.
    fn loses(&mut self, drawn: u64) -> bool {
        let share = self.weather.loss_percent;
        if self.weather.burst <= 1 {
            return drawn < share;
        }
        // a burst ends after each packet with one chance in `burst`; it begins so often that the share comes out right
        let drawn = self.dice.unit();
        let ends = 1.0 / self.weather.burst as f64;
        let begins = ends * share as f64 / (100 - share.min(99)) as f64;
        self.is_losing = if self.is_losing { drawn >= ends } else { drawn < begins };
        self.is_losing
    }

    fn put(&mut self, datagram: Vec<u8>) {
        let mut delay = Duration::ZERO;
        if self.weather.jitter_ms > 0 {
            delay = Duration::from_secs_f64(self.dice.unit() * self.weather.jitter_ms as f64 / 1_000.0);
        }
        self.sent += 1;
        self.flying.push(Reverse((Instant::now() + delay, self.sent, datagram)));
    }

    /// The next datagram that has arrived.
    fn next_due(&mut self) -> Option<Vec<u8>> {
        let Reverse((at, ..)) = self.flying.peek()?;
        if *at > Instant::now() {
            return None;
        }
        self.flying.pop().map(|Reverse((.., datagram))| datagram)
    }
}

fn bind(port: u16) -> UdpSocket {
    let socket = UdpSocket::bind((Ipv4Addr::LOCALHOST, port)).unwrap();
    socket.set_read_timeout(Some(STOP_CHECK)).unwrap();
    socket
}

/// What a SIP message is, such that a retransmission is the same: its first line's kind and its CSeq.
fn kind(message: &str) -> String {
    let first: String = message.split(' ').take(2).filter(|word| !word.starts_with("sip:")).collect();
    let cseq = message.lines().find(|line| line.to_ascii_lowercase().starts_with("cseq:")).unwrap_or_default();
    format!("{first} {cseq}")
}

/// Replaces an address and port in a line; not where another digit follows.
fn replace_address(line: &str, from: SocketAddr, to: SocketAddr) -> String {
    let (from, to) = (from.to_string(), to.to_string());
    let mut out = String::new();
    let mut rest = line;
    while let Some(at) = rest.find(&from) {
        let end = at + from.len();
        let is_whole = !rest[end..].starts_with(|next: char| next.is_ascii_digit());
        out += &rest[..at];
        out += if is_whole { &to } else { &from };
        rest = &rest[end..];
    }
    out + rest
}

/// A seeded sequence: splitmix64.
struct Dice(u64);

impl Dice {
    fn new(seed: u64, stream: u64) -> Self {
        Self(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) ^ stream.wrapping_mul(0xD1B5_4A32_D192_ED03))
    }

    /// 0 to 99.
    fn percent(&mut self) -> u64 {
        self.next() % 100
    }

    /// 0 to below 1.
    fn unit(&mut self) -> f64 {
        (self.next() >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
        mixed ^ (mixed >> 31)
    }
}
