//! Digits as RFC 4733 events, in ([`DtmfReceiver`]) and out ([`DtmfSender`]), and as tones in the sound ([`InbandReceiver`]).
//!
//! Invariants: each digit is told once, whatever is lost or repeated of its packets, as long as one arrives; nothing
//! here allocates, reads a clock or panics.

mod inband;
mod receive;
mod send;

pub use inband::{InbandKey, InbandReceiver};
pub use receive::{DtmfEvent, DtmfEvents, DtmfReceiver};
pub use send::{DtmfPacket, DtmfSender};

use thiserror::Error;

/// The payload of one event, in bytes (RFC 4733 section 2.3).
pub const PAYLOAD_BYTES: usize = 4;
/// What stands for a hook flash, event 16, among the digits.
pub const FLASH: char = '!';

/// One packet's account of an event (RFC 4733 section 2.3).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EventPayload {
    /// The event's code: 0 to 9, 10 `*`, 11 `#`, 12 to 15 A to D, 16 flash.
    pub code: u8,
    /// The event has ended: `duration_ticks` is its whole length.
    pub end: bool,
    /// Loudness in -dBm0, 0 to 63.
    pub volume: u8,
    /// How long the event, or this segment of it, has lasted.
    pub duration_ticks: u16,
}

impl EventPayload {
    /// Reads the first event of a payload; `None` where there are fewer than four bytes.
    pub fn parse(payload: &[u8]) -> Option<EventPayload> {
        let [code, flags, d0, d1] = *payload.first_chunk::<PAYLOAD_BYTES>()?;
        let duration_ticks = u16::from_be_bytes([d0, d1]);
        Some(EventPayload { code, end: flags & 0x80 != 0, volume: flags & 0x3f, duration_ticks })
    }

    /// The payload's bytes.
    pub fn to_bytes(self) -> [u8; PAYLOAD_BYTES] {
        let [d0, d1] = self.duration_ticks.to_be_bytes();
        [self.code, u8::from(self.end) << 7 | (self.volume & 0x3f), d0, d1]
    }
}

/// The digit of an event's code; `None` for what is no key (tones, signals).
pub fn digit_of(code: u8) -> Option<char> {
    match code {
        0..=9 => Some(char::from(b'0' + code)),
        10 => Some('*'),
        11 => Some('#'),
        12..=15 => Some(char::from(b'A' + code - 12)),
        16 => Some(FLASH),
        _ => None,
    }
}

/// The event's code for a digit: `0` to `9`, `*`, `#`, `A` to `D` in either case, [`FLASH`].
pub fn code_of(digit: char) -> Option<u8> {
    match digit {
        '0'..='9' => Some(digit as u8 - b'0'),
        '*' => Some(10),
        '#' => Some(11),
        'A'..='D' => Some(digit as u8 - b'A' + 12),
        'a'..='d' => Some(digit as u8 - b'a' + 12),
        FLASH => Some(16),
        _ => None,
    }
}

/// Why a digit cannot be sent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum DtmfError {
    /// Not `0-9`, `*`, `#`, `A-D` or `!`.
    #[error("{0:?} is no key: 0-9, *, #, A-D and ! (flash) are")]
    NoKey(char),
    /// As many digits wait as may.
    #[error("{limit} digits are waiting to be sent already")]
    Full {
        /// The limit.
        limit: usize,
    },
}
