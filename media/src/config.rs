//! What the media engine and each leg are told: plain data, validated when it is used.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::ops::RangeInclusive;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use codecs::pcm::SampleRate;
use codecs::registry::CodecParams;

use crate::connect::ConnectConfig;
use crate::io::record::Recording;
use crate::latch::LatchPolicy;
use crate::recorder::{RecordFormat, Side};
use crate::sealed::SealKey;
use crate::srtp::KeyPair;

/// Legs that one worker takes at most; also the bound of every ring between a worker and the async side.
pub const MAX_LEGS_PER_WORKER: usize = 8_192;

/// Rooms on one worker at most: all its legs in pairs.
pub const MAX_ROOMS_PER_WORKER: usize = MAX_LEGS_PER_WORKER / 2;

/// How the engine is set up: how many threads, which address and ports.
#[derive(Debug, Clone)]
pub struct MediaConfig {
    /// Worker threads; each owns its share of the legs. At least one is started.
    pub workers: usize,
    /// The address that the legs' sockets are bound to.
    pub bind: IpAddr,
    /// Ports to take RTP and RTCP pairs from: RTP even, RTCP the odd one above it (RFC 3550 section 11).
    pub ports: RangeInclusive<u16>,
    /// A released port is not given out again before this time has passed, so that a late
    /// packet of the former call does not reach the next one.
    pub port_rest: Duration,
    /// A worker starts its rounds no closer together than this while it is busy, so that the
    /// packets of many legs are taken in one go. It is the most that a round adds to a packet's delay.
    pub round_spacing: Duration,
    /// Asks the system to run workers before ordinary threads (SCHED_FIFO, lowest priority), so that a busy machine does
    /// not delay sound. Where it does not allow that, they run as ordinary ones: see
    /// [`WorkerStats::real_time`](crate::io::WorkerStats::real_time).
    pub real_time: bool,
    /// Processors that workers stay on, each on one, taken in turn; empty leaves it to the system.
    pub cpus: Vec<usize>,
}

impl Default for MediaConfig {
    fn default() -> Self {
        MediaConfig {
            workers: 1,
            bind: IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            ports: 10_000..=19_999,
            port_rest: Duration::from_secs(1),
            round_spacing: Duration::from_millis(1),
            real_time: true,
            cpus: Vec::new(),
        }
    }
}

/// What one leg sends and takes, as offer and answer settled it (RFC 3264).
#[derive(Debug, Clone)]
pub struct LegConfig {
    /// The codec, both ways.
    pub codec: CodecParams,
    /// The payload type we put on packets: the peer's number for the codec.
    pub payload_type_send: u8,
    /// The payload type that the peer puts on packets: our number for the codec.
    pub payload_type_recv: u8,
    /// telephone-event (RFC 4733), where it was agreed.
    pub dtmf: Option<DtmfFormat>,
    /// Comfort noise (RFC 3389), where it was agreed; static type 13 at 8 kHz.
    pub comfort_noise_payload_type: Option<u8>,
    /// Where the peer's SDP says to send; `None` waits for the first packet (symmetric RTP).
    pub remote: Option<SocketAddr>,
    /// Our address that signalling told the peer: where the sockets are bound to all, packets leave by it. One that is none of this machine's is
    /// passed over.
    pub local: Option<IpAddr>,
    /// Where to send RTCP; `None` is the RTP port plus one.
    pub remote_rtcp: Option<SocketAddr>,
    /// Where the peer's signalling comes from: sound from there is believed sooner than from elsewhere.
    pub signalling: Option<IpAddr>,
    /// Whether the peer's address is learnt from its packets, or taken from its SDP alone.
    pub latch: LatchPolicy,
    /// RTCP shares the RTP socket (RFC 5761).
    pub rtcp_mux: bool,
    /// Reports tell the peer how it sounds (VoIP metrics, RFC 3611).
    pub rtcp_xr: bool,
    /// What packets tell of the sound's level, both ways.
    pub levels: LevelFormat,
    /// How packets are protected.
    pub security: Security,
    /// Which way sound flows, from our side.
    pub direction: Direction,
    /// What the leg does with the sound.
    pub mode: LegMode,
    /// Nothing from the peer for this long makes a [`LegEvent::TimedOut`](crate::port::LegEvent::TimedOut).
    /// Not counted while the peer need not send (`SendOnly`, `Inactive`).
    pub media_timeout: Option<Duration>,
    /// Canonical name in RTCP SDES (RFC 3550 section 6.5.1); it should say nothing of the host.
    pub cname: String,
    /// Seed of SSRC, first sequence number, first timestamp and RTCP spacing. Take it from the system's entropy.
    pub seed: u64,
    /// The playout buffer holds back no more than this, in milliseconds.
    pub max_playout_delay_ms: u16,
    /// The leg is recorded from its first packet on.
    pub record: Option<Recorded>,
}

impl LegConfig {
    /// A leg that sends and receives `codec` under one payload type, with nothing else agreed.
    #[must_use]
    pub fn new(codec: CodecParams, payload_type: u8, mode: LegMode) -> Self {
        LegConfig {
            codec,
            payload_type_send: payload_type,
            payload_type_recv: payload_type,
            dtmf: None,
            comfort_noise_payload_type: None,
            remote: None,
            local: None,
            remote_rtcp: None,
            signalling: None,
            latch: LatchPolicy::Nat,
            rtcp_mux: false,
            rtcp_xr: false,
            levels: LevelFormat::default(),
            security: Security::Plain,
            direction: Direction::SendRecv,
            mode,
            media_timeout: None,
            cname: String::from("omnivox"),
            seed: 0,
            max_playout_delay_ms: 200,
            record: None,
        }
    }
}

/// How a leg's packets are protected.
#[derive(Debug, Clone, Default)]
pub enum Security {
    /// They are not.
    #[default]
    Plain,
    /// By keys that signalling carried (SDES, RFC 4568).
    Sdes(Arc<KeyPair>),
    /// By keys that are agreed on in the media path (DTLS-SRTP, RFC 5763), at an address that may be found there too (ICE).
    Dtls(Arc<ConnectConfig>),
}

/// telephone-event as agreed (RFC 4733 section 2.4): one number each way, and its clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DtmfFormat {
    /// The payload type we put on events.
    pub payload_type_send: u8,
    /// The payload type of the peer's events.
    pub payload_type_recv: u8,
    /// The RTP clock that the durations of events count in, normally the codec's.
    pub clock_hz: u32,
}

/// Audio levels as agreed: the ids of header extensions (RFC 8285), 1 to 14.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct LevelFormat {
    /// Our packets tell the level of their sound (RFC 6464).
    pub send: Option<u8>,
    /// The peer's packets may tell it.
    pub receive: Option<u8>,
    /// Our packets tell the levels of the sources mixed in them (RFC 6465).
    pub send_mixed: Option<u8>,
}

/// Which way sound flows, seen from our side (RFC 3264 section 5.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Direction {
    /// Both ways.
    #[default]
    SendRecv,
    /// We send and ignore what comes: we put the peer on hold.
    SendOnly,
    /// We listen and send nothing: the peer put us on hold.
    RecvOnly,
    /// Neither way; RTCP goes on.
    Inactive,
}

impl Direction {
    /// Whether we may send sound.
    #[must_use]
    pub fn sends(self) -> bool {
        matches!(self, Direction::SendRecv | Direction::SendOnly)
    }

    /// Whether we listen to the peer's sound.
    #[must_use]
    pub fn receives(self) -> bool {
        matches!(self, Direction::SendRecv | Direction::RecvOnly)
    }
}

/// What a leg does with the sound it takes, and where it has what it sends from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum LegMode {
    /// Sends the caller's own sound back, through the jitter buffer and the playout reader.
    Echo,
    /// Hands the caller's sound to the [`LegPort`](crate::port::LegPort) and sends what is said there.
    Talk,
    /// Takes and counts what comes, and records it if asked; sends RTCP only.
    Sink,
}

/// Where a recording goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RecorderConfig {
    /// The file, made anew; its folder must be there.
    pub path: PathBuf,
    /// What it is written as.
    pub format: RecordFormat,
    /// Sealed with this key; open where there is none.
    pub seal: Option<SealKey>,
    /// Both sides hear a beep so often ([`recorder::tone`](crate::recorder::tone)), which is in the recording.
    pub tone_every: Option<Duration>,
    /// Samples a second; that of the first leg recorded where there is none. Opus takes the nearest rate above that it has.
    pub rate: Option<SampleRate>,
}

/// A leg's part in a recording.
#[derive(Debug, Clone)]
pub struct Recorded {
    /// The recording; the first leg in it begins it.
    pub recording: Recording,
    /// The peer's channel; what is played to the peer is on the other.
    pub peer: Side,
}
