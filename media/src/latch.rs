//! Which address to believe: symmetric RTP that an off-path sender cannot win.
//!
//! SDP says where the peer's media comes from; a peer behind a NAT is wrong about it. So the address is learnt from what
//! arrives, and whoever sends first could take the call over, hear it and speak in it (the class of fault of
//! CVE-2025-53399). What is believed here, under [`LatchPolicy::Nat`]:
//!
//! - Addresses have ranks: the SDP's own; another port of the SDP's or the signalling's IP; any other. A packet from the
//!   SDP's own address is taken at once. Any other address has to send packets in a row, of one source, in the pace
//!   of a telephone, and more of them the lower it ranks.
//! - An address of neither IP is believed only while the learning window is open, only where the SDP's address could not
//!   have worked from here anyway (private, or none), after a delay in which a better one may show up.
//! - An address that is alive is never given up, but for one of higher rank: any time where it has the lowest
//!   rank, in the window otherwise.
//! - Where it has gone silent, another takes its place that continues the same source and sequence, which
//!   someone off the path does not know (NAT rebinding). A new offer or answer opens the window anew.
//! - From the believed address, another SSRC is taken once the one before is silent, and given up again
//!   if that one turns out to be alive.
//!
//! What is being watched is bounded: a filter of 80 words in which addresses seen once leave a mark, and
//! four candidates. A flood from random ports fills neither for long. No allocation, no clock, no panic.

mod watch;

use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use crate::rtp::{RtpPacket, RtpTime, Seq};
use watch::{Proof, Watch};

/// Packets in a row that make an address believed, by its rank.
const NEEDED_SDP: u16 = 2;
const NEEDED_SAME_IP: u16 = 3;
const NEEDED_OTHER: u16 = 10;
/// And for one that continues a stream that has gone silent.
const NEEDED_REBIND: u16 = 5;
/// An address of neither IP waits this long for a better one.
const OTHER_WAITS: Duration = Duration::from_millis(500);
/// A sequence may have moved on so far while the address changed (RFC 3550 appendix A.1: MAX_DROPOUT).
const MAX_DROPOUT: i16 = 3_000;
/// Another SSRC from the believed address: packets in a row, and silence of the one before.
const NEEDED_SSRC: u16 = 3;
const SSRC_SILENCE: Duration = Duration::from_millis(50);
/// After such a long silence, one packet is enough.
const SSRC_OVER: Duration = Duration::from_millis(200);
/// A source that was given up is taken back within this time.
const SSRC_RETURNS: Duration = Duration::from_secs(2);

/// How the peer's address is found.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum LatchPolicy {
    /// Only the address that SDP gives, to the port.
    Strict,
    /// Learnt from what arrives, as the module says.
    #[default]
    Nat,
    /// Found otherwise (ICE, or a handshake): packets are authenticated, and taken from wherever they come; ours go where
    /// [`Latch::aim`] says.
    Aimed,
}

/// The payload types that were agreed: what else comes is nobody we know.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct PayloadTypes {
    bits: [u64; 2],
}

impl PayloadTypes {
    /// None yet.
    pub const fn new() -> PayloadTypes {
        PayloadTypes { bits: [0; 2] }
    }

    /// These and `payload_type`, of which the lower seven bits count.
    #[must_use]
    pub const fn with(mut self, payload_type: u8) -> PayloadTypes {
        self.bits[(payload_type as usize >> 6) & 1] |= 1 << (payload_type & 63);
        self
    }

    /// Whether `payload_type` is among them.
    pub const fn contains(&self, payload_type: u8) -> bool {
        payload_type < 128 && self.bits[(payload_type as usize >> 6) & 1] & (1 << (payload_type & 63)) != 0
    }
}

/// What was negotiated, and how long to learn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct LatchConfig {
    /// The RTP address that the peer's SDP gives.
    pub remote: Option<SocketAddr>,
    /// The RTCP address that it gives, where it does.
    pub remote_rtcp: Option<SocketAddr>,
    /// Where the peer's signalling came from.
    pub signalling: Option<IpAddr>,
    /// How to find the address.
    pub policy: LatchPolicy,
    /// What was agreed to be sent.
    pub payload_types: PayloadTypes,
    /// The format's RTP clock: timestamps have to move with the time.
    pub clock_hz: u32,
    /// How long after (re)negotiation addresses are learnt.
    pub learn_for: Duration,
    /// How long the believed address has to be silent before another may continue its stream.
    pub rebind_after: Duration,
    /// Seed of the filter's hash, so that nobody can aim at it.
    pub seed: u64,
}

impl LatchConfig {
    /// NAT policy, 5 s of learning, rebinding after 1 s.
    pub fn new(remote: Option<SocketAddr>, payload_types: PayloadTypes, clock_hz: u32, seed: u64) -> LatchConfig {
        LatchConfig {
            remote,
            remote_rtcp: None,
            signalling: None,
            policy: LatchPolicy::Nat,
            payload_types,
            clock_hz,
            learn_for: Duration::from_secs(5),
            rebind_after: Duration::from_secs(1),
            seed,
        }
    }
}

/// What to do with a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LatchVerdict {
    /// From the peer: take it.
    Accept,
    /// From the peer, whose address is now this one: take it, and send there.
    Latched(SocketAddr),
    /// Not (yet) known to be from the peer: drop it.
    Refuse(Refusal),
}

/// Why a packet is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refusal {
    /// Of a payload type that was not agreed.
    PayloadType,
    /// From another address than the peer's.
    Address,
    /// From an address that may become the peer's if it goes on.
    Watched,
    /// From the peer's address, but of another source while the peer's is alive.
    Source,
}

/// How much an address is worth.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Rank {
    Former,
    Other,
    SameIp,
    Sdp,
}

/// The believed address and the stream that comes from it.
#[derive(Debug, Clone, Copy)]
struct Peer {
    addr: SocketAddr,
    rank: Rank,
    source: Stream,
    /// A source that was given up for `source`, and may come back.
    former: Option<Stream>,
    /// Another source that shows up at the same address.
    rival: Option<(Stream, u16)>,
    /// One that took the stream over while the real one was alive.
    banned: Option<u32>,
}

#[derive(Debug, Clone, Copy)]
struct Stream {
    ssrc: u32,
    seq: Seq,
    timestamp: RtpTime,
    heard: Instant,
}

impl Stream {
    fn of(now: Instant, packet: &RtpPacket<'_>) -> Stream {
        Stream { ssrc: packet.ssrc, seq: packet.seq, timestamp: packet.timestamp, heard: now }
    }

    /// Whether the packet goes on where this stream was, somewhat later.
    fn is_continued_by(&self, packet: &RtpPacket<'_>) -> bool {
        let ahead = packet.seq.since(self.seq);
        packet.ssrc == self.ssrc && ahead > 0 && ahead < MAX_DROPOUT && packet.timestamp.since(self.timestamp) >= 0
    }

    fn is_silent(&self, now: Instant, least: Duration) -> bool {
        now.saturating_duration_since(self.heard) >= least
    }
}

/// One leg's idea of where its peer is.
#[derive(Debug, Clone)]
pub struct Latch {
    config: LatchConfig,
    opened: Instant,
    peer: Option<Peer>,
    watch: Watch,
    rtcp: Option<SocketAddr>,
    /// When an address of one of the known IPs last sent.
    known_ip_heard: Option<Instant>,
}

impl Latch {
    /// A latch whose learning window opens now.
    pub fn new(now: Instant, config: LatchConfig) -> Latch {
        let watch = Watch::new(config.seed, config.clock_hz);
        Latch { config, opened: now, peer: None, watch, rtcp: None, known_ip_heard: None }
    }

    /// A new offer or answer: the window opens anew. What is believed stays so where SDP names the same address as
    /// before, and is good until the new one shows up where it names another.
    pub fn renegotiate(&mut self, now: Instant, mut config: LatchConfig) {
        if (self.config.policy, config.policy) == (LatchPolicy::Aimed, LatchPolicy::Aimed) {
            (config.remote, config.remote_rtcp) = (self.config.remote, self.config.remote_rtcp);
        }
        let moved = config.remote != self.config.remote;
        self.watch = Watch::new(config.seed, config.clock_hz);
        self.config = config;
        self.opened = now;
        self.known_ip_heard = None;
        if moved {
            self.rtcp = None;
            let rank = self.peer.map(|peer| if config.remote == Some(peer.addr) { Rank::Sdp } else { Rank::Former });
            if let (Some(peer), Some(rank)) = (&mut self.peer, rank) {
                peer.rank = rank;
            }
        }
    }

    /// Judges a packet by where it comes from, what it is and what came before.
    pub fn receive(&mut self, now: Instant, from: SocketAddr, packet: &RtpPacket<'_>) -> LatchVerdict {
        if !self.config.payload_types.contains(packet.payload_type) {
            return LatchVerdict::Refuse(Refusal::PayloadType);
        }
        if let Some(peer) = &mut self.peer
            && (peer.addr == from || self.config.policy == LatchPolicy::Aimed)
        {
            return peer.receive(now, packet);
        }
        if self.config.policy == LatchPolicy::Aimed {
            let addr = self.config.remote.unwrap_or(from);
            let source = Stream::of(now, packet);
            self.peer = Some(Peer { addr, rank: Rank::Sdp, source, former: None, rival: None, banned: None });
            return LatchVerdict::Accept;
        }
        let rank = self.rank(from);
        if self.config.policy == LatchPolicy::Strict && rank != Rank::Sdp {
            return LatchVerdict::Refuse(Refusal::Address);
        }
        if rank >= Rank::SameIp {
            self.known_ip_heard = Some(now);
        }
        let Some(needed) = self.needed(now, rank, packet) else {
            return LatchVerdict::Refuse(Refusal::Address);
        };
        let proof =
            if needed == 0 { Proof::Given } else { self.watch.see(now, from, packet, rank >= Rank::SameIp, needed) };
        match proof {
            Proof::Given => self.latch(now, from, rank, packet),
            Proof::Missing => LatchVerdict::Refuse(Refusal::Watched),
        }
    }

    /// The peer's address was found out, and proven.
    pub fn aim(&mut self, rtcp: bool, to: SocketAddr) {
        if rtcp {
            self.config.remote_rtcp = Some(to);
            self.rtcp = Some(to);
            return;
        }
        self.config.remote = Some(to);
        if let Some(peer) = &mut self.peer {
            peer.addr = to;
            peer.rank = Rank::Sdp;
        }
    }

    /// Where to send RTP: to the believed address, or where SDP says until there is one.
    pub fn send_to(&self) -> Option<SocketAddr> {
        match &self.peer {
            Some(peer) if peer.rank > Rank::Former => Some(peer.addr),
            _ => self.config.remote.filter(|addr| !addr.ip().is_unspecified() && addr.port() != 0),
        }
    }

    /// Where to send RTCP, where it has a port of its own: where it last came from, where SDP says, or the port above RTP's.
    pub fn send_rtcp_to(&self) -> Option<SocketAddr> {
        let rtp = self.send_to()?;
        if let Some(addr) = self.rtcp.filter(|addr| addr.ip() == rtp.ip()) {
            return Some(addr);
        }
        match self.config.remote_rtcp {
            Some(addr) if Some(rtp) == self.config.remote => Some(addr),
            _ => Some(SocketAddr::new(rtp.ip(), rtp.port().checked_add(1)?)),
        }
    }

    /// Whether RTCP that shares the RTP port is believed from there.
    pub fn believes(&self, from: SocketAddr) -> bool {
        self.config.policy == LatchPolicy::Aimed || self.send_to() == Some(from)
    }

    /// Whether a datagram on the RTCP port is from the peer: from the IP that is believed for RTP, or the
    /// address that SDP gives.
    pub fn receive_rtcp(&mut self, from: SocketAddr) -> bool {
        if self.config.policy == LatchPolicy::Aimed {
            return true;
        }
        let stated = self.config.remote_rtcp == Some(from);
        let same_ip = self.send_to().is_some_and(|rtp| rtp.ip() == from.ip());
        let strict = self.config.policy == LatchPolicy::Strict;
        let believed = stated || (same_ip && (!strict || self.send_rtcp_to() == Some(from)));
        if believed {
            self.rtcp = Some(from);
        }
        believed
    }

    /// The believed address; `None` before the first believed packet.
    pub fn peer(&self) -> Option<SocketAddr> {
        self.peer.map(|peer| peer.addr)
    }

    /// The source that is being received.
    pub fn ssrc(&self) -> Option<u32> {
        self.peer.map(|peer| peer.source.ssrc)
    }

    fn rank(&self, from: SocketAddr) -> Rank {
        let sdp_ip = self.config.remote.map(|remote| remote.ip());
        if self.config.remote == Some(from) {
            Rank::Sdp
        } else if sdp_ip == Some(from.ip()) || self.config.signalling == Some(from.ip()) {
            Rank::SameIp
        } else {
            Rank::Other
        }
    }

    /// Packets in a row that would make an address of this rank believed now; `None` where nothing would.
    fn needed(&self, now: Instant, rank: Rank, packet: &RtpPacket<'_>) -> Option<u16> {
        let window = now.saturating_duration_since(self.opened) < self.config.learn_for;
        let by_rank = match rank {
            Rank::Sdp => NEEDED_SDP,
            Rank::SameIp => NEEDED_SAME_IP,
            Rank::Other | Rank::Former => NEEDED_OTHER,
        };
        let Some(peer) = &self.peer else {
            return match rank {
                Rank::Sdp => Some(0),
                Rank::SameIp => Some(by_rank),
                Rank::Other | Rank::Former => self.may_be_elsewhere(now, window).then_some(by_rank),
            };
        };
        if peer.source.is_silent(now, self.config.rebind_after) {
            if peer.source.is_continued_by(packet) {
                return Some(NEEDED_REBIND);
            }
            if rank == Rank::Sdp || (rank == Rank::SameIp && peer.rank <= Rank::Other) {
                return Some(NEEDED_SAME_IP);
            }
            let moved_away = peer.rank == Rank::Former && self.may_be_elsewhere(now, window);
            return moved_away.then_some(by_rank);
        }
        let outranks = rank > peer.rank && rank >= Rank::SameIp;
        let replaceable = window || peer.rank <= Rank::Other;
        (outranks && replaceable).then_some(by_rank)
    }

    /// Whether the peer may be at an address that nothing in the signalling names.
    fn may_be_elsewhere(&self, now: Instant, window: bool) -> bool {
        let waited = now.saturating_duration_since(self.opened) >= OTHER_WAITS;
        let quiet = self.known_ip_heard.is_none_or(|heard| now.saturating_duration_since(heard) >= OTHER_WAITS);
        let sdp_ip = self.config.remote.map(|remote| remote.ip());
        let unreachable = sdp_ip.is_none_or(is_private) && self.config.signalling.is_none_or(|ip| Some(ip) != sdp_ip);
        window && waited && quiet && unreachable
    }

    fn latch(&mut self, now: Instant, from: SocketAddr, rank: Rank, packet: &RtpPacket<'_>) -> LatchVerdict {
        let sent_to = self.send_to();
        let source = Stream::of(now, packet);
        self.peer = Some(Peer { addr: from, rank, source, former: None, rival: None, banned: None });
        self.watch.clear();
        if sent_to == Some(from) { LatchVerdict::Accept } else { LatchVerdict::Latched(from) }
    }
}

impl Peer {
    /// A packet from the believed address.
    fn receive(&mut self, now: Instant, packet: &RtpPacket<'_>) -> LatchVerdict {
        if packet.ssrc == self.source.ssrc {
            if packet.seq.since(self.source.seq) > 0 || self.source.is_silent(now, SSRC_OVER) {
                self.source.seq = packet.seq;
                self.source.timestamp = packet.timestamp;
            }
            self.source.heard = now;
            self.rival = None;
            return LatchVerdict::Accept;
        }
        if let Some(former) = self.former
            && !former.is_silent(now, SSRC_RETURNS)
            && former.is_continued_by(packet)
        {
            self.banned = Some(self.source.ssrc);
            self.former = None;
            self.rival = None;
            self.source = Stream::of(now, packet);
            return LatchVerdict::Accept;
        }
        if self.banned == Some(packet.ssrc) && !self.source.is_silent(now, SSRC_RETURNS) {
            return LatchVerdict::Refuse(Refusal::Source);
        }
        let count = match self.rival {
            Some((rival, count)) if rival.ssrc == packet.ssrc && packet.seq == rival.seq.next() => {
                count.saturating_add(1)
            }
            _ => 1,
        };
        let over = self.source.is_silent(now, SSRC_OVER);
        let replaced = count >= NEEDED_SSRC && self.source.is_silent(now, SSRC_SILENCE);
        if over || replaced {
            self.former = Some(self.source);
            self.rival = None;
            self.source = Stream::of(now, packet);
            return LatchVerdict::Accept;
        }
        self.rival = Some((Stream::of(now, packet), count));
        LatchVerdict::Refuse(Refusal::Source)
    }
}

/// Whether an address has a meaning only behind a NAT, so that one on this side of it will see another.
fn is_private(ip: IpAddr) -> bool {
    match ip {
        IpAddr::V4(ip) => {
            let [a, b, ..] = ip.octets();
            ip.is_private() || ip.is_link_local() || ip.is_unspecified() || (a == 100 && (64..128).contains(&b))
        }
        IpAddr::V6(ip) => ip.is_unique_local() || ip.is_unicast_link_local() || ip.is_unspecified(),
    }
}
