//! What can go wrong when the engine is started or a leg is set up.

use std::io;
use std::net::IpAddr;

/// Why the engine could not do what it was asked.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MediaError {
    /// The configured range holds no even port with the odd one above it.
    #[error("rtp.ports {first}-{last} holds no pair of an even port and the odd one above it: widen the range")]
    NoPairInRange {
        /// First port of the range.
        first: u16,
        /// Last port of the range.
        last: u16,
    },
    /// Every pair of the range is in use, resting, or taken by another program.
    #[error(
        "no free RTP port pair in {first}-{last} on {bind}: {in_use} in use by calls, {resting} resting after a call, \
         {refused} taken by other programs; widen rtp.ports or take fewer calls"
    )]
    PortsExhausted {
        /// First port of the range.
        first: u16,
        /// Last port of the range.
        last: u16,
        /// The address that was bound.
        bind: IpAddr,
        /// Pairs held by calls.
        in_use: usize,
        /// Pairs that rest after a call.
        resting: usize,
        /// Pairs that the system refused in this attempt.
        refused: usize,
    },
    /// A worker is to stay on a processor that it may not use.
    #[error(
        "processor {cpu} is none that this program may use: leave it out of rtp.worker_cpus (`nproc` and `taskset -p PID` tell)"
    )]
    Cpu {
        /// Its number.
        cpu: usize,
    },
    /// The address is not one of this machine.
    #[error("cannot bind RTP sockets on {bind}: {source}; set rtp.bind to an address of this machine")]
    Bind {
        /// The address that was tried.
        bind: IpAddr,
        /// What the system said.
        source: io::Error,
    },
    /// A system call of the set-up failed.
    #[error("{what}: {source}")]
    System {
        /// What was being done.
        what: &'static str,
        /// What the system said.
        source: io::Error,
    },
    /// [`Media::start`](crate::io::Media::start) was called outside a tokio runtime.
    #[error("the media engine must be started inside a tokio runtime: its wake-ups run there")]
    NoRuntime,
    /// All workers hold as many legs as they may.
    #[error("all media workers are full ({legs} legs)")]
    Full {
        /// Legs in all workers together.
        legs: usize,
    },
    /// The engine is shut down.
    #[error("the media engine is shut down")]
    Closed,
    /// The codec could not be set up.
    #[error("codec: {0}")]
    Codec(#[from] codecs::CodecError),
    /// The leg's configuration contradicts itself.
    #[error("leg: {0}")]
    Config(&'static str),
    /// The peer did not agree to telephone-event, or too many digits wait.
    #[error("digit {digit:?} cannot be sent: {why}")]
    Digit {
        /// What was to be sent.
        digit: char,
        /// Why not.
        why: &'static str,
    },
    /// The way to the peer cannot be set up.
    #[error(transparent)]
    Connect(#[from] crate::connect::ConnectError),
    /// A room cannot be had, or cannot be joined.
    #[error("room: {0}")]
    Room(&'static str),
    /// The recording could not begin.
    #[error(transparent)]
    Record(#[from] crate::io::record::RecordError),
}
