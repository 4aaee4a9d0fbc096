//! The jitter buffer: one bounded store of a stream's packets, and two readers on it.
//!
//! *Ear* ([`JitterBuffer::ear`]) is for the machine: it hands over each packet the moment it is next in order. Where
//! one is missing it waits for as long as the measured jitter says is worth it, at least `ear_wait_min` and at most
//! `ear_wait_max`, then declares it lost and goes on. It has no playout delay.
//!
//! *Playout* ([`JitterBuffer::playout`]) is for people: asked for sound at a steady pace, it holds packets back by an
//! adaptive delay, the 97th percentile of what the network has shown lately, and grows or shrinks by whole frames,
//! in quiet where it can.
//!
//! Both see one timeline ([`Frame::position`], in ticks since the first packet). It goes forward with the packets;
//! the ear's makes a step of 20 ms, in either direction, when the clocks of both sides have drifted apart by so much. A timestamp
//! that jumps where the sequence does not is silence (DTX), not loss. Another SSRC, a sequence that leaps or a
//! timestamp that contradicts the clock begin anew at once: the new packets are put behind the old ones by time of
//! arrival, so that what is in the buffer is still heard. Drift between the two clocks moves the delay until a frame is dropped
//! or put in.
//!
//! Invariants: nothing is allocated after construction; the store holds at most [`MAX_SLOTS`] packets, and its bytes
//! are what `JitterConfig` says. When it is full, the oldest goes and is counted. No input panics.
//! For G.711 at 20 ms with both readers the whole takes about 5 KiB: 32 slots of 20 bytes, 4 kB of payload.

mod delay;
mod ear;
mod playout;
mod store;

use std::time::{Duration, Instant};

use crate::rtp::{RtpPacket, RtpTime, Seq};
use delay::DelayEstimate;
use ear::Ear;
use playout::Playout;
use store::{EAR, PLAYOUT, Slot, Store};

/// Packets that the store holds at most, whatever the configuration.
pub const MAX_SLOTS: usize = 64;
/// A packet of more bytes is not taken: no datagram of ours is larger.
pub const MAX_PAYLOAD_BYTES: usize = 1_500;
/// A packet that lies this far behind the newest is no late one but a new sequence (RFC 3550 appendix A.1).
const MAX_MISORDER: i16 = 100;
/// A timestamp that differs by more from what the clock says begins a new timeline.
const MAX_CLOCK_ERROR: Duration = Duration::from_secs(2);
/// For this long after a new source began, packets of the one before are late ones and no change back.
const FORMER_SOURCE_LINGERS: Duration = Duration::from_millis(500);

/// How a buffer is laid out and bounded.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct JitterConfig {
    /// The format's RTP clock.
    pub clock_hz: u32,
    /// Sound in one packet, as agreed. The peer may send other sizes.
    pub ptime_ms: u8,
    /// Payload of one such packet: the store's memory is sized from it.
    pub payload_bytes: usize,
    /// Whether there is an ear.
    pub ear: bool,
    /// Whether there is playout.
    pub playout: bool,
    /// Playout holds back at least this.
    pub playout_min: Duration,
    /// And at most this.
    pub playout_max: Duration,
    /// The ear waits for a missing packet at least this, counted from the arrival of the one behind it.
    pub ear_wait_min: Duration,
    /// And at most this.
    pub ear_wait_max: Duration,
}

impl JitterConfig {
    /// Both readers, playout between 10 and 200 ms, the ear's patience between 10 and 60 ms.
    pub fn new(clock_hz: u32, ptime_ms: u8, payload_bytes: usize) -> JitterConfig {
        JitterConfig {
            clock_hz,
            ptime_ms,
            payload_bytes,
            ear: true,
            playout: true,
            playout_min: Duration::from_millis(10),
            playout_max: Duration::from_millis(200),
            ear_wait_min: Duration::from_millis(10),
            ear_wait_max: Duration::from_millis(60),
        }
    }

    /// Packets that are to fit: twice the longest delay of its readers and 100 ms.
    fn packets(&self) -> usize {
        let longest = if self.playout { self.playout_max } else { self.ear_wait_max };
        let span_ms = longest.as_millis() as usize * 2 + 100;
        span_ms.div_ceil(usize::from(self.ptime_ms.max(1)))
    }

    fn slots(&self) -> usize {
        self.packets().next_power_of_two().clamp(8, MAX_SLOTS)
    }

    fn arena_bytes(&self) -> usize {
        (self.packets().min(MAX_SLOTS) * self.payload_bytes).clamp(MAX_PAYLOAD_BYTES * 3 / 2, usize::from(u16::MAX))
    }
}

/// A packet as a reader hands it over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Frame<'a> {
    /// The packet's own sequence number.
    pub seq: Seq,
    /// The packet's own timestamp.
    pub timestamp: RtpTime,
    /// The packet's own payload type.
    pub payload_type: u8,
    /// The packet's marker bit.
    pub marker: bool,
    /// Sound in it, in ticks, as it was pushed; 0 for what carries none (events, comfort noise).
    pub ticks: u32,
    /// Where it lies on the timeline, in ticks since the first packet of all. Where it lies behind the end of the
    /// frame before, there is silence between them.
    pub position: u64,
    /// When it came.
    pub arrived: Instant,
    /// Its payload.
    pub payload: &'a [u8],
}

/// A packet that did not come in time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Loss<'a> {
    /// Its sequence number.
    pub seq: Seq,
    /// Sound missing with it, in ticks: what the neighbours leave room for, 0 where that is nothing.
    pub ticks: u32,
    /// Where it would lie on the timeline.
    pub position: u64,
    /// The packet right behind it, where that has come: some codecs (Opus) recover the lost one from it.
    pub next: Option<Frame<'a>>,
}

/// What the ear hands over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Heard<'a> {
    /// The next packet.
    Packet(Frame<'a>),
    /// The next packet is given up.
    Lost(Loss<'a>),
}

/// What is to be played next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Played<'a> {
    /// A packet; where its `ticks` are 0, ask again.
    Packet(Frame<'a>),
    /// A packet that did not come: conceal `ticks`; where they are 0, ask again.
    Lost(Loss<'a>),
    /// Nothing is there yet, though sound was: conceal this many ticks.
    Hold {
        /// Ticks of one frame.
        ticks: u32,
    },
    /// Nothing is to be heard for this many ticks: silence, or comfort noise where the last packet was that.
    Silence {
        /// Ticks of one frame.
        ticks: u32,
    },
}

/// What became of a packet that was pushed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pushed {
    /// At least one reader will get it.
    Stored,
    /// It has come before.
    Duplicate,
    /// All readers have gone on without it.
    Late,
    /// It is larger than the buffer takes.
    TooLarge,
}

/// What has happened in a buffer. Counters never go down.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct JitterStats {
    /// Packets that at least one reader got or will get.
    pub stored: u64,
    /// Came twice.
    pub duplicates: u64,
    /// Came behind a later one.
    pub reordered: u64,
    /// Came when a reader had gone on without it.
    pub late: u64,
    /// The oldest, dropped to make room, or too large.
    pub overflowed: u64,
    /// New beginnings: SSRC, leap of the sequence or of the timestamp.
    pub resyncs: u64,
    /// Given up by the ear.
    pub ear_lost: u64,
    /// Given up by playout.
    pub playout_lost: u64,
    /// Times that playout had nothing to play in the middle of sound.
    pub underruns: u64,
    /// Frames put in to grow the delay, in quiet.
    pub grown: u64,
    /// Frames dropped to shrink it.
    pub shrunk: u64,
}

/// One stream's packets, put in order for two readers.
#[derive(Debug)]
pub struct JitterBuffer {
    core: Core,
    ear: Ear,
    playout: Playout,
}

impl JitterBuffer {
    /// An empty buffer. `now` is the origin of its arithmetic on time: no later call may be earlier.
    pub fn new(now: Instant, config: &JitterConfig) -> JitterBuffer {
        let clock_hz = config.clock_hz.max(1);
        let frame_ticks = (clock_hz / 1_000).max(1) * u32::from(config.ptime_ms.max(1));
        JitterBuffer {
            core: Core {
                store: Store::new(config.slots(), config.arena_bytes()),
                stream: None,
                delay: DelayEstimate::new(),
                stats: JitterStats::default(),
                clock: Clock { epoch: now, hz: clock_hz },
                frame_ticks,
                history: 0,
            },
            ear: Ear::new(config),
            playout: Playout::new(config, frame_ticks),
        }
    }

    /// Takes a packet of the stream, of whatever payload type: the sequence counts all. `ticks` is the sound in it, on
    /// the RTP clock; 0 for events and comfort noise.
    pub fn push(&mut self, now: Instant, packet: &RtpPacket<'_>, ticks: u32) -> Pushed {
        if packet.payload.len() > MAX_PAYLOAD_BYTES {
            self.core.stats.overflowed += 1;
            return Pushed::TooLarge;
        }
        let now_us = self.core.clock.us(now);
        let Some(place) = self.core.place(now_us, packet, ticks) else {
            return self.count_late();
        };
        if place.first {
            self.ear.begin(place.index);
            self.playout.begin(place.index);
        }
        self.ear.catch_up(&mut self.core);
        self.playout.catch_up(&mut self.core);
        if place.duplicate {
            self.core.stats.duplicates += 1;
            return Pushed::Duplicate;
        }
        if ticks > 0 {
            let transit_us = now_us as i64 - self.core.clock.ticks_to_us(place.position);
            self.core.delay.update(now_us, transit_us);
        }
        let for_ear = self.ear.wants(place.index);
        let for_playout = self.playout.wants(place.index);
        if place.reordered {
            self.core.stats.reordered += 1;
            let lateness_us = self.core.lateness_us(now_us, place.index);
            self.core.delay.note_reordering(lateness_us);
        }
        if self.ear.missed(place.index) || self.playout.missed(place.index) {
            self.core.stats.late += 1;
        }
        let wanted = (if for_ear { EAR } else { 0 }) | (if for_playout { PLAYOUT } else { 0 });
        if wanted == 0 {
            return Pushed::Late;
        }
        let slot = Slot {
            index: place.index,
            position: place.position,
            timestamp: packet.timestamp.0,
            arrival_us: now_us as u32,
            ticks: ticks.min(u32::from(u16::MAX)) as u16,
            seq: packet.seq.0,
            payload_type: packet.payload_type,
            marker: packet.marker,
            wanted,
            ..Slot::default()
        };
        self.core.stats.overflowed += u64::from(self.core.store.insert(slot, packet.payload));
        self.core.stats.stored += 1;
        Pushed::Stored
    }

    /// The next packet in order, or the news that it is given up; `None` when there is nothing to hand over yet. To be
    /// called until `None` after each push, and at [`JitterBuffer::ear_wake`].
    pub fn ear(&mut self, now: Instant) -> Option<Heard<'_>> {
        self.ear.next(&mut self.core, now)
    }

    /// When the ear gives up the packet that it waits for; `None` where it waits for none.
    pub fn ear_wake(&self, now: Instant) -> Option<Instant> {
        self.ear.wake(&self.core, now)
    }

    /// What to play next. To be called whenever the frame that is being put together lacks sound; each answer says how many
    /// ticks it is good for. `quiet` tells that what was played last was quiet, so that nobody hears a frame
    /// dropped or put in here.
    pub fn playout(&mut self, now: Instant, quiet: bool) -> Played<'_> {
        self.playout.next(&mut self.core, now, quiet)
    }

    /// The delay that playout aims at now.
    pub fn playout_target(&self) -> Duration {
        Duration::from_micros(self.playout.target_us(&self.core).max(0) as u64)
    }

    /// Mean deviation of the packets' spacing, as RFC 3550 appendix A.8 smooths it.
    pub fn jitter(&self) -> Duration {
        Duration::from_micros(u64::from(self.core.delay.jitter_us()))
    }

    /// What has happened so far.
    pub fn stats(&self) -> JitterStats {
        self.core.stats
    }

    /// Memory that the buffer holds beside itself, in bytes.
    pub fn heap_bytes(&self) -> usize {
        self.core.store.heap_bytes()
    }

    fn count_late(&mut self) -> Pushed {
        self.core.stats.late += 1;
        Pushed::Late
    }
}

/// What both readers stand on.
#[derive(Debug)]
struct Core {
    store: Store,
    stream: Option<Stream>,
    delay: DelayEstimate,
    stats: JitterStats,
    clock: Clock,
    /// Ticks of one frame: as agreed, then as last seen.
    frame_ticks: u32,
    /// Bit n: the packet n before the newest has come.
    history: u64,
}

/// The newest packet of the stream, and how its numbers map to ours.
#[derive(Debug, Clone, Copy)]
struct Stream {
    ssrc: u32,
    former_ssrc: u32,
    began_us: u64,
    seq: Seq,
    index: u32,
    /// The newest packet with sound: timestamp, position, end, arrival.
    timestamp: RtpTime,
    position: u64,
    end: u64,
    arrival_us: u64,
}

/// Where a packet belongs.
struct Place {
    /// The sequence number, unwrapped and continued over new beginnings.
    index: u32,
    position: u64,
    first: bool,
    duplicate: bool,
    reordered: bool,
}

impl Core {
    /// Finds a packet's place, and makes it the newest where it is. `None` for one of a source that is over.
    fn place(&mut self, now_us: u64, packet: &RtpPacket<'_>, ticks: u32) -> Option<Place> {
        let Some(stream) = self.stream else {
            self.stream = Some(Stream {
                ssrc: packet.ssrc,
                former_ssrc: packet.ssrc,
                began_us: now_us,
                seq: packet.seq,
                index: 0,
                timestamp: packet.timestamp,
                position: 0,
                end: u64::from(ticks),
                arrival_us: now_us,
            });
            self.history = 1;
            self.learn_frame(ticks);
            return Some(Place { index: 0, position: 0, first: true, duplicate: false, reordered: false });
        };
        if packet.ssrc != stream.ssrc {
            let lingers_us = FORMER_SOURCE_LINGERS.as_micros() as u64;
            if packet.ssrc == stream.former_ssrc && now_us.saturating_sub(stream.began_us) < lingers_us {
                return None;
            }
            return Some(self.resync(now_us, packet, ticks, stream));
        }
        match packet.seq.since(stream.seq) {
            0 => Some(Place {
                index: stream.index,
                position: stream.position,
                first: false,
                duplicate: true,
                reordered: false,
            }),
            ahead if ahead > 0 => Some(self.place_ahead(now_us, packet, ticks, stream, ahead.unsigned_abs())),
            behind if behind > -MAX_MISORDER => Some(self.place_behind(packet, stream, behind.unsigned_abs())),
            _ => Some(self.resync(now_us, packet, ticks, stream)),
        }
    }

    fn place_ahead(&mut self, now_us: u64, packet: &RtpPacket<'_>, ticks: u32, stream: Stream, ahead: u16) -> Place {
        if usize::from(ahead) > self.store.slots() {
            return self.resync(now_us, packet, ticks, stream);
        }
        let step = packet.timestamp.since(stream.timestamp);
        if ticks == 0 {
            // events repeat an older timestamp, so they move neither the timeline nor its anchor
            let position = offset(stream.position, step).max(stream.end);
            let position = if self.plausible(now_us, step, stream) { position } else { stream.end };
            return self.advance(
                Stream { seq: packet.seq, index: stream.index.wrapping_add(u32::from(ahead)), ..stream },
                ahead,
                position,
            );
        }
        if step < 0 || !self.plausible(now_us, step, stream) {
            return self.resync(now_us, packet, ticks, stream);
        }
        let position = offset(stream.position, step);
        self.learn_frame(ticks);
        let index = stream.index.wrapping_add(u32::from(ahead));
        self.advance(
            Stream {
                seq: packet.seq,
                index,
                timestamp: packet.timestamp,
                position,
                end: position + u64::from(ticks),
                arrival_us: now_us,
                ..stream
            },
            ahead,
            position,
        )
    }

    fn advance(&mut self, stream: Stream, ahead: u16, position: u64) -> Place {
        self.history = self.history.checked_shl(u32::from(ahead)).unwrap_or(0) | 1;
        self.stream = Some(stream);
        Place { index: stream.index, position, first: false, duplicate: false, reordered: false }
    }

    fn place_behind(&mut self, packet: &RtpPacket<'_>, stream: Stream, behind: u16) -> Place {
        let bit = 1u64.checked_shl(u32::from(behind)).unwrap_or(0);
        let duplicate = self.history & bit != 0;
        self.history |= bit;
        let step = packet.timestamp.since(stream.timestamp);
        let most = self.clock.ticks(MAX_CLOCK_ERROR) as i64;
        let position = if step <= 0 && -i64::from(step) <= most {
            offset(stream.position, step)
        } else {
            stream.position.saturating_sub(u64::from(behind) * u64::from(self.frame_ticks))
        };
        let index = stream.index.wrapping_sub(u32::from(behind));
        Place { index, position, first: false, duplicate, reordered: !duplicate }
    }

    /// Begins anew with this packet: the next index, and a position by the time of its arrival.
    fn resync(&mut self, now_us: u64, packet: &RtpPacket<'_>, ticks: u32, stream: Stream) -> Place {
        self.stats.resyncs += 1;
        let elapsed = self.clock.us_to_ticks(now_us.saturating_sub(stream.arrival_us));
        let position = (stream.position + elapsed).max(stream.end);
        let index = stream.index.wrapping_add(1);
        let changed = packet.ssrc != stream.ssrc;
        self.history = 1;
        self.learn_frame(ticks);
        self.stream = Some(Stream {
            ssrc: packet.ssrc,
            former_ssrc: if changed { stream.ssrc } else { packet.ssrc },
            began_us: now_us,
            seq: packet.seq,
            index,
            timestamp: packet.timestamp,
            position,
            end: position + u64::from(ticks),
            arrival_us: now_us,
        });
        Place { index, position, first: false, duplicate: false, reordered: false }
    }

    /// Whether a step of the timestamp agrees with the time that has passed.
    fn plausible(&self, now_us: u64, step: i32, stream: Stream) -> bool {
        let elapsed_us = now_us.saturating_sub(stream.arrival_us) as i64;
        let step_us = i64::from(step) * 1_000_000 / i64::from(self.clock.hz);
        (step_us - elapsed_us).unsigned_abs() <= MAX_CLOCK_ERROR.as_micros() as u64
    }

    fn learn_frame(&mut self, ticks: u32) {
        if ticks > 0 {
            self.frame_ticks = ticks.min(u32::from(u16::MAX));
        }
    }

    /// How long after the first packet behind it this one came.
    fn lateness_us(&self, now_us: u64, index: u32) -> u32 {
        let newest = self.newest();
        let behind = newest.wrapping_sub(index).min(self.store.slots() as u32);
        let next = (1..=behind).find_map(|n| self.store.any(index.wrapping_add(n)));
        next.map_or(0, |slot| (now_us as u32).wrapping_sub(slot.arrival_us))
    }

    /// The newest index; 0 before the first packet.
    fn newest(&self) -> u32 {
        self.stream.map_or(0, |stream| stream.index)
    }

    /// The oldest index that the store can hold beside the newest: no reader is behind it.
    fn oldest(&self) -> u32 {
        self.newest().wrapping_sub(self.store.slots() as u32 - 1)
    }

    /// The nearest packet behind a missing one that is here for `reader`.
    fn beyond(&self, index: u32, reader: u8) -> Option<&Slot> {
        let span = self.newest().wrapping_sub(index);
        (1..=span.min(self.store.slots() as u32)).find_map(|n| self.store.peek(index.wrapping_add(n), reader))
    }

    fn frame(&self, slot: &Slot, now_us: u64) -> Frame<'_> {
        let age_us = (now_us as u32).wrapping_sub(slot.arrival_us);
        Frame {
            seq: Seq(slot.seq),
            timestamp: RtpTime(slot.timestamp),
            payload_type: slot.payload_type,
            marker: slot.marker,
            ticks: u32::from(slot.ticks),
            position: slot.position,
            arrived: self.clock.epoch + Duration::from_micros(now_us.saturating_sub(u64::from(age_us))),
            payload: self.store.payload(slot),
        }
    }

    /// The loss of the packet `index`, which lies behind `end` on the timeline, where `beyond` is the next that came.
    fn loss(&self, index: u32, end: u64, beyond: Slot, now_us: u64) -> Loss<'_> {
        let missing = beyond.index.wrapping_sub(index).max(1);
        let room = beyond.position.saturating_sub(end) / u64::from(missing);
        let next = (missing == 1).then(|| self.frame(&beyond, now_us));
        Loss {
            seq: Seq(beyond.seq.wrapping_sub(missing as u16)),
            ticks: room.min(u64::from(self.frame_ticks)) as u32,
            position: end,
            next,
        }
    }
}

/// The buffer's own time: microseconds since it was made.
#[derive(Debug, Clone, Copy)]
struct Clock {
    epoch: Instant,
    hz: u32,
}

impl Clock {
    fn us(&self, now: Instant) -> u64 {
        micros(now.saturating_duration_since(self.epoch))
    }

    fn ticks_to_us(&self, ticks: u64) -> i64 {
        (ticks.saturating_mul(1_000_000) / u64::from(self.hz)) as i64
    }

    fn us_to_ticks(&self, us: u64) -> u64 {
        us.saturating_mul(u64::from(self.hz)) / 1_000_000
    }

    fn signed_ticks(&self, us: i64) -> i64 {
        us.saturating_mul(i64::from(self.hz)) / 1_000_000
    }

    fn ticks(&self, duration: Duration) -> u64 {
        self.us_to_ticks(micros(duration))
    }
}

/// In 64 bits, which a call does not fill: `Duration::as_micros` counts in 128, whose division costs.
fn micros(duration: Duration) -> u64 {
    duration.as_secs().saturating_mul(1_000_000).saturating_add(u64::from(duration.subsec_micros()))
}

fn offset(position: u64, step: i32) -> u64 {
    position.saturating_add_signed(i64::from(step))
}
