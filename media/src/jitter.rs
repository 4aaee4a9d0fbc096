//! The jitter buffer: one bounded store of a stream's packets, and two readers on it.
//!
//! *Ear* ([`JitterBuffer::ear`]) is for the machine: it hands over each packet the moment it is next in order. Where
//! one is missing it waits for as long as the measured jitter says is worth it, at least `ear_wait_min` and at most
//! `ear_wait_max`, then declares it lost and goes on. It has no playout delay.
//!
//! *Playout* ([`JitterBuffer::playout`]) is for people: asked for sound at a steady pace, it holds packets back by an
//! adaptive delay, the 97th percentile of what the network has shown in ten seconds, or the 94th of what it has in
//! one. Where the delay is to change it says so with the packet ([`Pace`]): whoever plays makes the sound a little
//! longer or shorter ([`codecs::stretch`]).
//!
//! Both see one timeline ([`Frame::position`], in ticks since the first packet). It goes forward with the packets;
//! the ear's makes a step of 20 ms, in either direction, when the clocks of both sides have drifted apart by so much. A timestamp
//! that jumps where the sequence does not is silence (DTX), not loss. Another SSRC, a sequence that leaps or a
//! timestamp that contradicts the clock begin anew at once: the new packets are put behind the old ones by time of
//! arrival, so that what is in the buffer is still heard. Drift between the two clocks moves the delay until sound is stretched.
//!
//! Invariants: nothing is allocated after construction; the store holds at most [`MAX_SLOTS`] packets, and its bytes
//! are what `JitterConfig` says. When it is full, the oldest goes and is counted. No input panics.
//! For G.711 at 20 ms with both readers the whole takes about 5 KiB: 32 slots of 20 bytes, 4 kB of payload.

mod delay;
mod ear;
mod playout;
mod store;
mod timeline;

use std::time::{Duration, Instant};

use codecs::stretch::Haste;

use crate::rtp::{RtpPacket, RtpTime, Seq};
use ear::Ear;
use playout::Playout;
use store::{EAR, PLAYOUT, Slot, Store};
use timeline::Core;

/// Packets that the store holds at most, whatever the configuration.
pub const MAX_SLOTS: usize = 64;
/// A packet of more bytes is not taken: no datagram of ours is larger.
pub const MAX_PAYLOAD_BYTES: usize = 1_500;

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
    /// A lost packet can be recovered from the one behind it (Opus): where packets are lost, playout holds back by one more.
    pub recovers: bool,
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
            recovers: false,
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
    /// A packet, and how fast to play it; where its `ticks` are 0, ask again.
    Packet(Frame<'a>, Pace),
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

/// How fast to play what waits.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Pace {
    /// As it is.
    Even,
    /// Shorter, by at most so many ticks: there is more delay than needed.
    Shorter {
        /// Ticks at most.
        most_ticks: u32,
        /// How much of a hurry there is.
        haste: Haste,
    },
    /// Longer: there is less delay than needed.
    Longer {
        /// How much of a hurry there is.
        haste: Haste,
    },
}

/// What whoever plays has in hand as it asks.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Asked {
    /// Ticks of what it puts together at a time.
    pub frame_ticks: u32,
    /// Ticks that it has for the present one already.
    pub ahead_ticks: u32,
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
    /// Packets dropped because they lay further behind than the longest delay.
    pub skipped: u64,
    /// Ticks by which sound was made longer, to grow the delay.
    pub longer_ticks: u64,
    /// And shorter, to shrink it.
    pub shorter_ticks: u64,
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
            core: Core::new(now, clock_hz, frame_ticks, Store::new(config.slots(), config.arena_bytes())),
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
    /// ticks it is good for.
    pub fn playout(&mut self, now: Instant, asked: Asked) -> Played<'_> {
        self.playout.next(&mut self.core, now, asked)
    }

    /// Sound was made so many ticks longer, or shorter, as was asked with a packet.
    pub fn stretched(&mut self, now: Instant, by_ticks: i32) {
        self.playout.stretched(&mut self.core, now, by_ticks);
    }

    /// Lets playout begin where the ear is now: for a buffer made with room for both readers.
    pub fn start_playout(&mut self) {
        self.playout.start(self.ear.at());
    }

    /// Ends playout: packets are kept for the ear alone.
    pub fn stop_playout(&mut self) {
        self.playout.stop(&mut self.core);
    }

    /// What playout would take next, as the peer counts it; `None` where nothing is being played, or more was concealed than was lost.
    pub(crate) fn due(&self) -> Option<(Seq, RtpTime)> {
        self.playout.due(&self.core)
    }

    /// Whether playout is in the middle of sound.
    pub(crate) fn is_playing(&self) -> bool {
        self.playout.is_playing()
    }

    /// The numbers of the packets from playout's next to the newest, for [`JitterBuffer::kept`].
    pub(crate) fn unplayed(&self) -> impl Iterator<Item = u32> + use<> {
        let (next, newest) = (self.playout.at(), self.core.newest());
        let span = (newest.wrapping_sub(next) as i32 + 1).clamp(0, MAX_SLOTS as i32) as u32;
        (0..span).map(move |n| next.wrapping_add(n))
    }

    /// The packet of that number, where it has come and playout has not had it.
    pub(crate) fn kept(&self, now: Instant, number: u32) -> Option<Frame<'_>> {
        let slot = self.core.store.peek(number, PLAYOUT)?;
        Some(self.core.frame(slot, self.core.clock.us(now)))
    }

    /// Playout goes on behind all but the latest `keep` packets: the others were played elsewhere.
    pub(crate) fn pass_over(&mut self, keep: u32) {
        self.playout.pass_over(&mut self.core, keep);
    }

    /// The delay that playout aims at now.
    pub fn playout_target(&self) -> Duration {
        Duration::from_micros(self.playout.target_us(&self.core).max(0) as u64)
    }

    /// The longest delay of playout, in ms.
    pub fn playout_max_ms(&self) -> u16 {
        u16::try_from(self.playout.max_us() / 1_000).unwrap_or(u16::MAX)
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
