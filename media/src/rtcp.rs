//! RTCP: compound packets parsed in place and printed into the caller's buffer (RFC 3550 section 6), and the
//! session that decides when to send one and what the peer's say ([`RtcpSession`]).
//!
//! Invariants: nothing here reads a clock or panics, whatever the bytes, and nothing allocates once a session is
//! made. A [`Compound`] that parses is whole: each packet's counted parts lie inside it, so iterating cannot fail.

mod session;
mod writer;
mod xr;

pub use session::{Received, RtcpConfig, RtcpSession, SenderCounts};
pub use writer::Writer;
pub use xr::{VoipMetrics, XR};

use std::time::Duration;

use thiserror::Error;

use crate::rtp::{RtpTime, VERSION};

/// Sender report.
pub const SR: u8 = 200;
/// Receiver report.
pub const RR: u8 = 201;
/// Source description.
pub const SDES: u8 = 202;
/// Goodbye.
pub const BYE: u8 = 203;
/// The SDES item that each compound packet carries (RFC 3550 section 6.5.1).
pub const CNAME: u8 = 1;

const HEADER_BYTES: usize = 4;
const REPORT_BLOCK_BYTES: usize = 24;
const SENDER_INFO_BYTES: usize = 20;

/// A datagram of one or more RTCP packets, checked as RFC 3550 appendix A.2 says: the first one is a report,
/// all have version 2, only the last is padded, and their lengths add up to the datagram's.
#[derive(Debug, Clone, Copy)]
pub struct Compound<'a> {
    bytes: &'a [u8],
}

impl<'a> Compound<'a> {
    /// Checks the whole datagram.
    pub fn parse(datagram: &'a [u8]) -> Result<Compound<'a>, RtcpError> {
        let mut rest = datagram;
        let mut first = true;
        while !rest.is_empty() || first {
            let (frame, behind) = Frame::split(rest)?;
            if first && (!matches!(frame.kind, SR | RR) || frame.padded) {
                return Err(RtcpError::First(frame.kind));
            }
            if frame.padded && !behind.is_empty() {
                return Err(RtcpError::Padding);
            }
            frame.packet()?;
            rest = behind;
            first = false;
        }
        Ok(Compound { bytes: datagram })
    }

    /// The packets, in order.
    pub fn packets(&self) -> impl Iterator<Item = Packet<'a>> + use<'a> {
        let mut rest = self.bytes;
        std::iter::from_fn(move || {
            let (frame, behind) = Frame::split(rest).ok()?;
            rest = behind;
            frame.packet().ok()
        })
    }

    /// Its size, in bytes.
    pub fn size_bytes(&self) -> usize {
        self.bytes.len()
    }
}

/// One RTCP packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Packet<'a> {
    /// A sender report (RFC 3550 section 6.4.1).
    SenderReport {
        /// Who sends.
        ssrc: u32,
        /// What it sent.
        info: SenderInfo,
        /// What it received.
        reports: ReportBlocks<'a>,
    },
    /// A receiver report (section 6.4.2).
    ReceiverReport {
        /// Who sends.
        ssrc: u32,
        /// What it received.
        reports: ReportBlocks<'a>,
    },
    /// A source description (section 6.5).
    SourceDescription(Chunks<'a>),
    /// A goodbye (section 6.6).
    Goodbye {
        /// Who leaves.
        sources: Sources<'a>,
        /// Why, where said: bytes meant to be UTF-8.
        reason: &'a [u8],
    },
    /// Another type: APP, feedback (RFC 4585), XR (RFC 3611).
    Other {
        /// Its packet type.
        kind: u8,
        /// The five bits that are a count in the types above.
        count: u8,
        /// What follows its header, padding removed.
        body: &'a [u8],
    },
}

/// The sender's part of a sender report.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct SenderInfo {
    /// The sender's wall clock when it sent this.
    pub ntp: NtpTime,
    /// The same instant on the stream's clock.
    pub timestamp: RtpTime,
    /// Packets sent since the stream began.
    pub packets: u32,
    /// Their payload, in bytes.
    pub bytes: u32,
}

/// What a receiver tells of one source (RFC 3550 section 6.4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ReportBlock {
    /// The source.
    pub ssrc: u32,
    /// Lost since the last report, in 256ths of what was expected.
    pub fraction_lost: u8,
    /// Lost since the beginning; 24 bits, negative where duplicates outnumber losses.
    pub cumulative_lost: i32,
    /// Highest sequence number received, its wraps in the upper half.
    pub highest_seq: u32,
    /// Interarrival jitter in ticks.
    pub jitter_ticks: u32,
    /// The middle of the last sender report's NTP time; 0 where none came.
    pub last_sr: u32,
    /// Time since that report came, in 65,536ths of a second.
    pub delay_since_last_sr: u32,
}

impl ReportBlock {
    fn parse(bytes: &[u8; REPORT_BLOCK_BYTES]) -> ReportBlock {
        let word = |at: usize| be32(bytes, at);
        let lost = word(4);
        ReportBlock {
            ssrc: word(0),
            fraction_lost: (lost >> 24) as u8,
            // sign extension of 24 bits
            cumulative_lost: ((lost << 8) as i32) >> 8,
            highest_seq: word(8),
            jitter_ticks: word(12),
            last_sr: word(16),
            delay_since_last_sr: word(20),
        }
    }

    fn to_bytes(self) -> [u8; REPORT_BLOCK_BYTES] {
        let lost = self.cumulative_lost.clamp(-0x80_0000, 0x7f_ffff) as u32 & 0x00ff_ffff;
        let words = [
            self.ssrc,
            u32::from(self.fraction_lost) << 24 | lost,
            self.highest_seq,
            self.jitter_ticks,
            self.last_sr,
            self.delay_since_last_sr,
        ];
        let mut bytes = [0; REPORT_BLOCK_BYTES];
        for (place, word) in bytes.as_chunks_mut::<4>().0.iter_mut().zip(words) {
            *place = word.to_be_bytes();
        }
        bytes
    }
}

/// The report blocks of a packet: 0 to 31.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct ReportBlocks<'a> {
    bytes: &'a [u8],
}

impl<'a> ReportBlocks<'a> {
    /// The blocks, in order.
    pub fn iter(&self) -> impl Iterator<Item = ReportBlock> + use<'a> {
        self.bytes.as_chunks::<REPORT_BLOCK_BYTES>().0.iter().map(ReportBlock::parse)
    }
}

/// The chunks of a source description.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chunks<'a> {
    count: u8,
    bytes: &'a [u8],
}

impl<'a> Chunks<'a> {
    /// The chunks, in order.
    pub fn iter(&self) -> impl Iterator<Item = Chunk<'a>> + use<'a> {
        let mut rest = self.bytes;
        (0..self.count).map_while(move |_| {
            let (chunk, behind) = Chunk::split(rest).ok()?;
            rest = behind;
            Some(chunk)
        })
    }
}

/// What a source description says of one source.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Chunk<'a> {
    /// The source.
    pub ssrc: u32,
    items: &'a [u8],
}

impl<'a> Chunk<'a> {
    /// Type and text of each item, in order; text is meant to be UTF-8.
    pub fn items(&self) -> impl Iterator<Item = (u8, &'a [u8])> + use<'a> {
        let mut rest = self.items;
        std::iter::from_fn(move || {
            let (&[kind, size_bytes], behind) = rest.split_first_chunk::<2>()?;
            let (text, behind) = behind.split_at_checked(usize::from(size_bytes))?;
            rest = behind;
            (kind != 0).then_some((kind, text))
        })
    }

    /// The canonical name, where it is told and is UTF-8.
    pub fn cname(&self) -> Option<&'a str> {
        let (_, text) = self.items().find(|(kind, _)| *kind == CNAME)?;
        std::str::from_utf8(text).ok()
    }

    /// Takes the first chunk off: SSRC, items, at least one zero byte up to the next 32-bit boundary.
    fn split(bytes: &'a [u8]) -> Result<(Chunk<'a>, &'a [u8]), RtcpError> {
        let short = RtcpError::Truncated { what: "SDES chunk", size_bytes: bytes.len() };
        let (ssrc, mut rest) = bytes.split_first_chunk::<4>().ok_or(short)?;
        let items = rest;
        let mut size_bytes = 0;
        while let Some((&kind, behind)) = rest.split_first() {
            if kind == 0 {
                let end = (size_bytes / 4 + 1) * 4;
                let behind = items.get(end..).ok_or(short)?;
                let items = items.get(..size_bytes).ok_or(short)?;
                return Ok((Chunk { ssrc: u32::from_be_bytes(*ssrc), items }, behind));
            }
            let (&text_bytes, behind) = behind.split_first().ok_or(short)?;
            rest = behind.get(usize::from(text_bytes)..).ok_or(short)?;
            size_bytes += 2 + usize::from(text_bytes);
        }
        Err(short)
    }
}

/// The sources that a goodbye names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sources<'a> {
    bytes: &'a [u8],
}

impl<'a> Sources<'a> {
    /// The identifiers, in order.
    pub fn iter(&self) -> impl Iterator<Item = u32> + use<'a> {
        self.bytes.as_chunks::<4>().0.iter().map(|id| u32::from_be_bytes(*id))
    }
}

/// A wall-clock time as NTP counts it: seconds since 1900 in the upper half, fractions in the lower.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default)]
pub struct NtpTime(pub u64);

impl NtpTime {
    /// From the time since 1970.
    pub fn from_unix(since_epoch: Duration) -> NtpTime {
        const SECONDS_1900_TO_1970: u64 = 2_208_988_800;
        NtpTime((since_epoch.as_secs().wrapping_add(SECONDS_1900_TO_1970) << 32).wrapping_add(fraction(since_epoch)))
    }

    /// `duration` later.
    pub fn plus(self, duration: Duration) -> NtpTime {
        NtpTime(self.0.wrapping_add(duration.as_secs() << 32).wrapping_add(fraction(duration)))
    }

    /// The middle 32 bits, as sender reports are referred to: 65,536ths of a second.
    pub fn middle(self) -> u32 {
        (self.0 >> 16) as u32
    }
}

/// Why a datagram is no RTCP that we believe, or a packet could not be printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum RtcpError {
    /// A counted part reaches beyond its packet, or a packet beyond the datagram.
    #[error("RTCP {what} does not fit in the {size_bytes} bytes that are there")]
    Truncated {
        /// Which part.
        what: &'static str,
        /// What is there.
        size_bytes: usize,
    },
    /// Not version 2.
    #[error("RTCP version {0} where 2 is the only one")]
    Version(u8),
    /// A compound packet begins with a report, unpadded (RFC 3550 section 6.1).
    #[error("RTCP that begins with packet type {0} and not with an unpadded report")]
    First(u8),
    /// Padding before the last packet, or a count that is no multiple of four within the packet.
    #[error("RTCP padding that is not at the end or has a wrong count")]
    Padding,
    /// The buffer to print into is too small.
    #[error("RTCP packet of {needed} bytes does not fit in the {size_bytes} left")]
    NoRoom {
        /// The packet's size.
        needed: usize,
        /// What is left.
        size_bytes: usize,
    },
    /// An SDES text or BYE reason of more than 255 bytes, or more than 31 entries.
    #[error("RTCP {what} of {size} where {limit} is the most")]
    TooLong {
        /// Which part.
        what: &'static str,
        /// Its size.
        size: usize,
        /// The limit.
        limit: usize,
    },
}

/// One packet's header and body.
struct Frame<'a> {
    padded: bool,
    count: u8,
    kind: u8,
    body: &'a [u8],
}

impl<'a> Frame<'a> {
    fn split(bytes: &'a [u8]) -> Result<(Frame<'a>, &'a [u8]), RtcpError> {
        let size_bytes = bytes.len();
        let Some((&[flags, kind, l0, l1], rest)) = bytes.split_first_chunk::<HEADER_BYTES>() else {
            return Err(RtcpError::Truncated { what: "header", size_bytes });
        };
        if flags >> 6 != VERSION {
            return Err(RtcpError::Version(flags >> 6));
        }
        let body_bytes = usize::from(u16::from_be_bytes([l0, l1])) * 4;
        let Some((mut body, behind)) = rest.split_at_checked(body_bytes) else {
            return Err(RtcpError::Truncated { what: "packet", size_bytes });
        };
        let padded = flags & 0x20 != 0;
        if padded {
            let padding_bytes = usize::from(body.last().copied().unwrap_or(0));
            if padding_bytes == 0 || padding_bytes % 4 != 0 {
                return Err(RtcpError::Padding);
            }
            body = body.len().checked_sub(padding_bytes).and_then(|end| body.get(..end)).ok_or(RtcpError::Padding)?;
        }
        Ok((Frame { padded, count: flags & 0x1f, kind, body }, behind))
    }

    fn packet(&self) -> Result<Packet<'a>, RtcpError> {
        let truncated = |what| RtcpError::Truncated { what, size_bytes: self.body.len() };
        let count = usize::from(self.count);
        let ssrc_and_rest = || {
            let (ssrc, rest) = self.body.split_first_chunk::<4>().ok_or(truncated("report"))?;
            Ok((u32::from_be_bytes(*ssrc), rest))
        };
        let reports = |bytes: &'a [u8]| match bytes.get(..count * REPORT_BLOCK_BYTES) {
            Some(bytes) => Ok(ReportBlocks { bytes }),
            None => Err(truncated("report blocks")),
        };
        match self.kind {
            SR => {
                let (ssrc, rest) = ssrc_and_rest()?;
                let (info, rest) = rest.split_first_chunk::<SENDER_INFO_BYTES>().ok_or(truncated("sender info"))?;
                let info = SenderInfo {
                    ntp: NtpTime(u64::from(be32(info, 0)) << 32 | u64::from(be32(info, 4))),
                    timestamp: RtpTime(be32(info, 8)),
                    packets: be32(info, 12),
                    bytes: be32(info, 16),
                };
                Ok(Packet::SenderReport { ssrc, info, reports: reports(rest)? })
            }
            RR => {
                let (ssrc, rest) = ssrc_and_rest()?;
                Ok(Packet::ReceiverReport { ssrc, reports: reports(rest)? })
            }
            SDES => {
                let mut rest = self.body;
                for _ in 0..self.count {
                    rest = Chunk::split(rest)?.1;
                }
                Ok(Packet::SourceDescription(Chunks { count: self.count, bytes: self.body }))
            }
            BYE => {
                let (sources, rest) = self.body.split_at_checked(count * 4).ok_or(truncated("BYE sources"))?;
                let reason = match rest.split_first() {
                    Some((&size, rest)) => rest.get(..usize::from(size)).ok_or(truncated("BYE reason"))?,
                    None => &[],
                };
                Ok(Packet::Goodbye { sources: Sources { bytes: sources }, reason })
            }
            kind => Ok(Packet::Other { kind, count: self.count, body: self.body }),
        }
    }
}

/// The big-endian word at `at`; 0 beyond the end, which no caller asks for.
fn be32(bytes: &[u8], at: usize) -> u32 {
    bytes.get(at..).and_then(|rest| rest.first_chunk::<4>()).map_or(0, |word| u32::from_be_bytes(*word))
}

fn fraction(duration: Duration) -> u64 {
    (u64::from(duration.subsec_nanos()) << 32) / 1_000_000_000
}
