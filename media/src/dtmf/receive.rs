//! Event packets in, digits out (RFC 4733 sections 2.5.1 and 2.5.2).

use std::time::{Duration, Instant};

use super::{EventPayload, digit_of};
use crate::rtp::RtpTime;

/// An event of which nothing came for this long has ended: its end packets are lost.
const SILENCE: Duration = Duration::from_millis(250);
/// Sound this far behind an event's last known end says that it is over. Some peers send sound along with events.
const OVERLAP: Duration = Duration::from_millis(60);
/// A segment of a long event is this long (section 2.5.1.3).
const SEGMENT_TICKS: u32 = 0xffff;
/// Ended events that are remembered, so that late copies of their packets are known.
const REMEMBERED: usize = 4;

/// A key, as the peer pressed it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum DtmfEvent {
    /// The key went down.
    Pressed {
        /// Which.
        digit: char,
        /// When, on the stream's clock.
        timestamp: RtpTime,
    },
    /// The key went up, or nothing more is heard of it. Each `Pressed` is followed by one of these.
    Released {
        /// Which.
        digit: char,
        /// When it had gone down, on the stream's clock.
        timestamp: RtpTime,
        /// How long it was down, as far as is known.
        duration: Duration,
    },
}

/// What one packet tells: up to three events, in order.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct DtmfEvents {
    events: [Option<DtmfEvent>; 3],
}

impl DtmfEvents {
    fn push(&mut self, event: Option<DtmfEvent>) {
        if let Some(place) = self.events.iter_mut().find(|place| place.is_none()) {
            *place = event;
        }
    }
}

impl IntoIterator for DtmfEvents {
    type Item = DtmfEvent;
    type IntoIter = std::iter::Flatten<std::array::IntoIter<Option<DtmfEvent>, 3>>;

    fn into_iter(self) -> Self::IntoIter {
        self.events.into_iter().flatten()
    }
}

/// One stream's events. Packets may come lost, late and repeated.
#[derive(Debug, Clone)]
pub struct DtmfReceiver {
    clock_hz: u32,
    current: Option<Current>,
    ended: [Option<(RtpTime, u8)>; REMEMBERED],
    ended_next: usize,
}

#[derive(Debug, Clone, Copy)]
struct Current {
    code: u8,
    digit: char,
    /// Of the event, and of its present segment.
    began: RtpTime,
    segment: RtpTime,
    /// Of the segments before, and of the present one.
    before_ticks: u32,
    segment_ticks: u32,
    heard: Instant,
}

impl Current {
    fn end(&self) -> RtpTime {
        self.segment.plus(self.segment_ticks)
    }
}

impl DtmfReceiver {
    /// For events whose timestamps and durations count on this clock.
    pub fn new(clock_hz: u32) -> DtmfReceiver {
        DtmfReceiver { clock_hz: clock_hz.max(1), current: None, ended: [None; REMEMBERED], ended_next: 0 }
    }

    /// Takes the payload of an event packet, in whatever order they come. What is no key is passed over.
    pub fn receive(&mut self, now: Instant, timestamp: RtpTime, marker: bool, payload: &[u8]) -> DtmfEvents {
        let mut events = DtmfEvents::default();
        let Some(event) = EventPayload::parse(payload) else { return events };
        let Some(digit) = digit_of(event.code) else { return events };
        if self.ended.contains(&Some((timestamp, event.code))) {
            return events;
        }
        match &mut self.current {
            Some(current) if current.code == event.code && timestamp == current.segment => {
                current.segment_ticks = current.segment_ticks.max(u32::from(event.duration_ticks));
                current.heard = now;
            }
            Some(current) if current.code == event.code && !marker && continues(current, timestamp) => {
                current.before_ticks = current.before_ticks.saturating_add(SEGMENT_TICKS);
                current.segment = timestamp;
                current.segment_ticks = u32::from(event.duration_ticks);
                current.heard = now;
            }
            // a copy of a former segment or event, overtaken
            Some(current) if timestamp.since(current.segment) <= 0 => return events,
            _ => {
                events.push(self.end_current());
                self.current = Some(Current {
                    code: event.code,
                    digit,
                    began: timestamp,
                    segment: timestamp,
                    before_ticks: 0,
                    segment_ticks: u32::from(event.duration_ticks),
                    heard: now,
                });
                events.push(Some(DtmfEvent::Pressed { digit, timestamp }));
            }
        }
        if event.end {
            events.push(self.end_current());
        }
        events
    }

    /// A packet of sound came: an event that it lies behind is over.
    pub fn sound(&mut self, timestamp: RtpTime) -> Option<DtmfEvent> {
        let current = self.current?;
        let behind = timestamp.since(current.end());
        let overlap_ticks = OVERLAP.as_millis() as i64 * i64::from(self.clock_hz) / 1_000;
        if i64::from(behind) >= overlap_ticks { self.end_current() } else { None }
    }

    /// Ends an event of which nothing is heard any more.
    pub fn tick(&mut self, now: Instant) -> Option<DtmfEvent> {
        if now >= self.next_wake()? { self.end_current() } else { None }
    }

    /// When `tick` has something to do.
    pub fn next_wake(&self) -> Option<Instant> {
        self.current.map(|current| current.heard + SILENCE)
    }

    /// Whether a key is down.
    pub fn is_pressed(&self) -> bool {
        self.current.is_some()
    }

    fn end_current(&mut self) -> Option<DtmfEvent> {
        let current = self.current.take()?;
        if let Some(place) = self.ended.get_mut(self.ended_next) {
            *place = Some((current.segment, current.code));
        }
        self.ended_next = (self.ended_next + 1) % REMEMBERED;
        let ticks = u64::from(current.before_ticks) + u64::from(current.segment_ticks);
        let duration = Duration::from_micros(ticks * 1_000_000 / u64::from(self.clock_hz));
        Some(DtmfEvent::Released { digit: current.digit, timestamp: current.began, duration })
    }
}

/// Whether `timestamp` begins the next segment of a long event (section 2.5.1.3): exactly one full segment later.
fn continues(current: &Current, timestamp: RtpTime) -> bool {
    timestamp == current.segment.plus(SEGMENT_TICKS)
}
