//! RTP packets: parsing in place and printing into the caller's buffer (RFC 3550 section 5), and what one
//! source has sent so far ([`Source`], appendix A).
//!
//! Invariants: nothing here allocates, reads a clock or panics, whatever the bytes. A packet that parses has
//! version 2 and all of its counted parts (CSRC list, header extension, padding) inside the datagram.
//! Sequence numbers and timestamps wrap: they are newtypes whose arithmetic wraps with them.

pub mod levels;
mod source;

pub use source::{ReceptionReport, Source, Verdict};

use thiserror::Error;

/// The fixed part of an RTP header, in bytes (RFC 3550 section 5.1).
pub const HEADER_BYTES: usize = 12;

/// Contributing sources that a packet can name (RFC 3550 section 5.1).
pub const MAX_CSRC: usize = 15;

/// The version that every RTP and RTCP packet carries.
pub const VERSION: u8 = 2;

/// One RTP packet, borrowed from the datagram that it came in.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RtpPacket<'a> {
    /// The marker bit: for audio, the first packet after silence (RFC 3551 section 4.1).
    pub marker: bool,
    /// 0 to 127.
    pub payload_type: u8,
    /// Counts packets, from a random start.
    pub seq: Seq,
    /// The sampling instant of the payload's first sample, in ticks of the format's clock.
    pub timestamp: RtpTime,
    /// Who sends: random, the same for a whole stream.
    pub ssrc: u32,
    /// Contributing sources (of a mixer).
    pub csrc: Csrc<'a>,
    /// The header extension, where there is one.
    pub extension: Option<Extension<'a>>,
    /// The payload, padding removed; it may be empty.
    pub payload: &'a [u8],
    /// Padding bytes at the end, with the count byte itself; 0 without padding.
    pub padding_bytes: u8,
}

impl<'a> RtpPacket<'a> {
    /// Parses a datagram (RFC 3550 section 5.1). CSRC list, extension and padding are checked against its length.
    pub fn parse(datagram: &'a [u8]) -> Result<RtpPacket<'a>, RtpError> {
        let Some((fixed, rest)) = datagram.split_first_chunk::<HEADER_BYTES>() else {
            return Err(RtpError::Truncated { what: "header", needed: HEADER_BYTES, size_bytes: datagram.len() });
        };
        let [flags, kind, s0, s1, t0, t1, t2, t3, i0, i1, i2, i3] = *fixed;
        if flags >> 6 != VERSION {
            return Err(RtpError::Version(flags >> 6));
        }
        let csrc_bytes = usize::from(flags & 0x0f) * 4;
        let Some((csrc, rest)) = rest.split_at_checked(csrc_bytes) else {
            return Err(RtpError::Truncated { what: "CSRC list", needed: csrc_bytes, size_bytes: rest.len() });
        };
        let (extension, rest) = if flags & 0x10 != 0 { Extension::split(rest)? } else { (None, rest) };
        let (payload, padding_bytes) = if flags & 0x20 != 0 { split_padding(rest)? } else { (rest, 0) };
        Ok(RtpPacket {
            marker: kind & 0x80 != 0,
            payload_type: kind & 0x7f,
            seq: Seq(u16::from_be_bytes([s0, s1])),
            timestamp: RtpTime(u32::from_be_bytes([t0, t1, t2, t3])),
            ssrc: u32::from_be_bytes([i0, i1, i2, i3]),
            csrc: Csrc { bytes: csrc },
            extension,
            payload,
            padding_bytes,
        })
    }
}

/// The header of a packet to send: no CSRC, extension or padding.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct RtpHeader {
    /// See [`RtpPacket::marker`].
    pub marker: bool,
    /// 0 to 127; the eighth bit is not sent.
    pub payload_type: u8,
    /// See [`RtpPacket::seq`].
    pub seq: Seq,
    /// See [`RtpPacket::timestamp`].
    pub timestamp: RtpTime,
    /// See [`RtpPacket::ssrc`].
    pub ssrc: u32,
}

impl RtpHeader {
    /// The header's twelve bytes: for a caller that encodes the payload in place behind them.
    pub fn to_bytes(&self) -> [u8; HEADER_BYTES] {
        let [s0, s1] = self.seq.0.to_be_bytes();
        let [t0, t1, t2, t3] = self.timestamp.0.to_be_bytes();
        let [i0, i1, i2, i3] = self.ssrc.to_be_bytes();
        let kind = (u8::from(self.marker) << 7) | (self.payload_type & 0x7f);
        [VERSION << 6, kind, s0, s1, t0, t1, t2, t3, i0, i1, i2, i3]
    }

    /// Prints header and payload to the front of `out`; returns the packet's size in bytes.
    pub fn write(&self, payload: &[u8], out: &mut [u8]) -> Result<usize, RtpError> {
        let needed = HEADER_BYTES + payload.len();
        let size_bytes = out.len();
        let Some((header, rest)) = out.split_first_chunk_mut::<HEADER_BYTES>() else {
            return Err(RtpError::NoRoom { needed, size_bytes });
        };
        let Some(body) = rest.get_mut(..payload.len()) else {
            return Err(RtpError::NoRoom { needed, size_bytes });
        };
        *header = self.to_bytes();
        body.copy_from_slice(payload);
        Ok(needed)
    }
}

/// A sequence number: arithmetic wraps at 2^16.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct Seq(pub u16);

impl Seq {
    /// The one after this.
    pub fn next(self) -> Seq {
        self.plus(1)
    }

    /// `n` later.
    pub fn plus(self, n: u16) -> Seq {
        Seq(self.0.wrapping_add(n))
    }

    /// How many packets this one lies behind `earlier`; negative where it lies before it (the shorter way round).
    pub fn since(self, earlier: Seq) -> i16 {
        self.0.wrapping_sub(earlier.0) as i16
    }
}

/// A media timestamp in ticks of the format's clock: arithmetic wraps at 2^32.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub struct RtpTime(pub u32);

impl RtpTime {
    /// `ticks` later.
    pub fn plus(self, ticks: u32) -> RtpTime {
        RtpTime(self.0.wrapping_add(ticks))
    }

    /// Ticks from `earlier` to this; negative where this lies before it (the shorter way round).
    pub fn since(self, earlier: RtpTime) -> i32 {
        self.0.wrapping_sub(earlier.0) as i32
    }
}

/// The list of contributing sources of a packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Csrc<'a> {
    bytes: &'a [u8],
}

impl Csrc<'_> {
    /// How many: 0 to 15.
    pub fn len(&self) -> usize {
        self.bytes.len() / 4
    }

    /// Whether there is none: so it is in nearly all packets.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// The identifiers, in order.
    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        self.bytes.as_chunks::<4>().0.iter().map(|id| u32::from_be_bytes(*id))
    }
}

/// A header extension (RFC 3550 section 5.3.1): skipped by us, kept for those that look.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Extension<'a> {
    /// The "defined by profile" field: 0xBEDE for RFC 8285's one-byte headers.
    pub profile: u16,
    /// A whole number of 32-bit words.
    pub data: &'a [u8],
}

impl<'a> Extension<'a> {
    fn split(rest: &'a [u8]) -> Result<(Option<Extension<'a>>, &'a [u8]), RtpError> {
        let Some((&[p0, p1, l0, l1], rest)) = rest.split_first_chunk::<4>() else {
            return Err(RtpError::Truncated { what: "header extension", needed: 4, size_bytes: rest.len() });
        };
        let needed = usize::from(u16::from_be_bytes([l0, l1])) * 4;
        let Some((data, rest)) = rest.split_at_checked(needed) else {
            return Err(RtpError::Truncated { what: "header extension", needed, size_bytes: rest.len() });
        };
        Ok((Some(Extension { profile: u16::from_be_bytes([p0, p1]), data }), rest))
    }
}

/// Whether a datagram on a port shared by both is RTCP rather than RTP (RFC 5761 section 4: the second byte is 192 to 223).
pub fn is_rtcp(datagram: &[u8]) -> bool {
    matches!(datagram, [flags, 192..=223, ..] if flags >> 6 == VERSION)
}

/// Why a datagram is no RTP packet, or a packet could not be printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum RtpError {
    /// A counted part reaches beyond the datagram.
    #[error("RTP {what} takes {needed} bytes and {size_bytes} are there")]
    Truncated {
        /// Which part.
        what: &'static str,
        /// What it takes.
        needed: usize,
        /// What is there.
        size_bytes: usize,
    },
    /// Not version 2: STUN, DTLS or noise.
    #[error("RTP version {0} where 2 is the only one")]
    Version(u8),
    /// The padding count is 0 or larger than what is left.
    #[error("RTP padding of {padding_bytes} bytes in a payload of {size_bytes}")]
    Padding {
        /// The count byte.
        padding_bytes: u8,
        /// Payload and padding together.
        size_bytes: usize,
    },
    /// The buffer to print into is too small.
    #[error("RTP packet of {needed} bytes does not fit in {size_bytes}")]
    NoRoom {
        /// The packet's size.
        needed: usize,
        /// The buffer's size.
        size_bytes: usize,
    },
}

fn split_padding(rest: &[u8]) -> Result<(&[u8], u8), RtpError> {
    let padding_bytes = rest.last().copied().unwrap_or(0);
    let payload = rest.len().checked_sub(usize::from(padding_bytes)).and_then(|end| rest.get(..end));
    match payload {
        Some(payload) if padding_bytes > 0 => Ok((payload, padding_bytes)),
        _ => Err(RtpError::Padding { padding_bytes, size_bytes: rest.len() }),
    }
}
