//! Digits in, event packets out (RFC 4733 section 2.5.1): an update with each packet interval, the last three times.

use std::time::Duration;

use super::{DtmfError, EventPayload, PAYLOAD_BYTES, code_of};
use crate::rtp::RtpTime;

/// Digits that wait at most.
const MAX_WAITING: usize = 32;
/// Shorter ones are not recognised by everyone (ITU-T Q.24: 40 ms).
const MIN_DURATION: Duration = Duration::from_millis(40);
/// Between the end of a digit and the next (ITU-T Q.24: 40 ms).
const GAP: Duration = Duration::from_millis(60);
/// The last packet is sent so often (section 2.5.1.4).
const END_COPIES: u8 = 3;
const SEGMENT_TICKS: u32 = 0xffff;
/// -10 dBm0: what telephones send.
const VOLUME: u8 = 10;

/// An event packet to send now, instead of sound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DtmfPacket {
    /// The RTP timestamp: the event's beginning, not the present.
    pub timestamp: RtpTime,
    /// The marker bit: on an event's first packet.
    pub marker: bool,
    /// The payload.
    pub payload: [u8; PAYLOAD_BYTES],
    /// The last packet of a digit, its copies included.
    pub last: bool,
}

/// A queue of digits, sent one after the other.
#[derive(Debug, Clone)]
pub struct DtmfSender {
    clock_hz: u32,
    packet_ticks: u32,
    waiting: [Waiting; MAX_WAITING],
    waiting_first: usize,
    waiting_len: usize,
    state: State,
}

#[derive(Debug, Clone, Copy, Default)]
struct Waiting {
    code: u8,
    duration_ticks: u32,
}

#[derive(Debug, Clone, Copy)]
enum State {
    Idle,
    Sending { code: u8, segment: RtpTime, segment_ticks: u32, left_ticks: u32, first: bool },
    Ending { code: u8, segment: RtpTime, segment_ticks: u16, copies: u8, ended: RtpTime },
    Gap { ended: RtpTime },
}

impl DtmfSender {
    /// `packet_ticks` is the time from one packet to the next, on the same clock.
    pub fn new(clock_hz: u32, packet_ticks: u32) -> DtmfSender {
        DtmfSender {
            clock_hz: clock_hz.max(1),
            packet_ticks: packet_ticks.clamp(1, SEGMENT_TICKS),
            waiting: [Waiting::default(); MAX_WAITING],
            waiting_first: 0,
            waiting_len: 0,
            state: State::Idle,
        }
    }

    /// Puts a digit behind those that wait. A duration below 40 ms is made 40 ms.
    pub fn queue(&mut self, digit: char, duration: Duration) -> Result<(), DtmfError> {
        let code = code_of(digit).ok_or(DtmfError::NoKey(digit))?;
        if self.waiting_len == MAX_WAITING {
            return Err(DtmfError::Full { limit: MAX_WAITING });
        }
        let duration_ticks = self.ticks(duration.max(MIN_DURATION)).max(1);
        let at = (self.waiting_first + self.waiting_len) % MAX_WAITING;
        if let Some(place) = self.waiting.get_mut(at) {
            *place = Waiting { code, duration_ticks };
            self.waiting_len += 1;
        }
        Ok(())
    }

    /// Digits that are being sent or wait.
    pub fn pending(&self) -> usize {
        let sending = matches!(self.state, State::Sending { .. } | State::Ending { .. });
        self.waiting_len + usize::from(sending)
    }

    /// The packet to send in this packet interval, instead of sound, where there is one. To be called once for each
    /// interval; `timestamp` is the one that sound would have now.
    pub fn next(&mut self, timestamp: RtpTime) -> Option<DtmfPacket> {
        if let State::Gap { ended } = self.state
            && i64::from(timestamp.since(ended)) >= i64::from(self.ticks(GAP))
        {
            self.state = State::Idle;
        }
        match self.state {
            State::Gap { .. } => None,
            State::Idle => {
                let Waiting { code, duration_ticks } = self.pop()?;
                let left_ticks = duration_ticks;
                Some(self.send(code, timestamp, 0, left_ticks, true))
            }
            State::Sending { code, segment, segment_ticks, left_ticks, first } => {
                Some(self.send(code, segment, segment_ticks, left_ticks, first))
            }
            State::Ending { code, segment, segment_ticks, copies, ended } => {
                self.state = match copies {
                    2.. => State::Ending { code, segment, segment_ticks, copies: copies - 1, ended },
                    _ => State::Gap { ended },
                };
                Some(packet(code, segment, segment_ticks, true, false))
            }
        }
    }

    /// One interval of an event. A segment of 65,535 ticks is full; the event goes on in another, which begins where it ended
    /// (section 2.5.1.3).
    fn send(&mut self, code: u8, segment: RtpTime, segment_ticks: u32, left_ticks: u32, first: bool) -> DtmfPacket {
        let step = self.packet_ticks.min(left_ticks);
        let left_ticks = left_ticks - step;
        let sum = segment_ticks + step;
        if left_ticks == 0 && sum <= SEGMENT_TICKS {
            let ended = segment.plus(sum);
            self.state = State::Ending { code, segment, segment_ticks: sum as u16, copies: END_COPIES - 1, ended };
            return packet(code, segment, sum as u16, true, first);
        }
        if sum < SEGMENT_TICKS {
            self.state = State::Sending { code, segment, segment_ticks: sum, left_ticks, first: false };
            return packet(code, segment, sum as u16, false, first);
        }
        // what this interval has beyond the full segment is in the next one
        let over = sum - SEGMENT_TICKS;
        let next = segment.plus(SEGMENT_TICKS);
        self.state =
            State::Sending { code, segment: next, segment_ticks: 0, left_ticks: left_ticks + over, first: false };
        packet(code, segment, SEGMENT_TICKS as u16, false, first)
    }

    fn pop(&mut self) -> Option<Waiting> {
        if self.waiting_len == 0 {
            return None;
        }
        let waiting = self.waiting.get(self.waiting_first).copied();
        self.waiting_first = (self.waiting_first + 1) % MAX_WAITING;
        self.waiting_len -= 1;
        waiting
    }

    fn ticks(&self, duration: Duration) -> u32 {
        let ticks = duration.as_micros() * u128::from(self.clock_hz) / 1_000_000;
        u32::try_from(ticks).unwrap_or(u32::MAX)
    }
}

fn packet(code: u8, timestamp: RtpTime, duration_ticks: u16, end: bool, marker: bool) -> DtmfPacket {
    let payload = EventPayload { code, end, volume: VOLUME, duration_ticks }.to_bytes();
    DtmfPacket { timestamp, marker, payload, last: end }
}
