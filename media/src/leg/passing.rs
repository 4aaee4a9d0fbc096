//! Packets passed on: of two legs that are alone in a room and speak the same codec, each sends what comes from the other's peer as it
//! came, under numbers of its own stream. Nothing is decoded, and nothing waits in a playout buffer.
//!
//! Each direction is settled apart, at the room's frames: [`settle`] begins to pass on between two packets, where what was mixed
//! so far ends, and ends it where something else is to be heard. Sequence and timestamps go on over both seams, so that no sound is lost or
//! heard twice. Losses and reordering are carried over as they came: the receiver conceals. What came twice is sent once, for SRTP
//! may protect no number twice. Of header extensions the level alone goes with it, under the other leg's id.
//!
//! Meanwhile the jitter buffer keeps the latest [`KEPT`] packets, unplayed. Where passing on ends, the decoder here and the encoder there
//! are run over them, so that the first mixed frame goes on from the last packet; and nothing is sent until that frame is there to play.

use std::time::{Duration, Instant};

use codecs::registry::{CodecId, CodecParams};

use super::inbound::Kind;
use super::joined::{FRAME, SENDS_AFTER};
use super::sending::SILENT_FRAMES_BEFORE_NOISE;
use super::{Leg, Outbox, Scratch};
use crate::config::LegMode;
use crate::room::Members;
use crate::rtp::levels::Levels;
use crate::rtp::{HEADER_BYTES, RtpHeader, RtpPacket, RtpTime, Seq};

/// A peer of which nothing has come for this long is silent: its other side gets silence, or comfort noise, of ours.
const SILENT_AFTER: Duration = Duration::from_millis(200);
/// Where something else was to be heard, packets are passed on again no sooner than this.
const RETURNS_AFTER: Duration = Duration::from_millis(500);
/// Where it was passed on, sound that comes no more is waited for this long.
const WAITS_AT_MOST: Duration = Duration::from_millis(120);
/// Packets kept for whoever has to decode and encode what follows.
const KEPT: u32 = 4;
/// A sequence that leaps further begins anew (RFC 3550 appendix A.1: MAX_DROPOUT, MAX_MISORDER).
const LEAP_AHEAD: i16 = 3_000;
const LEAP_BACK: i16 = -100;
/// Numbers behind the newest of which it is known whether they were sent.
const SEEN: u16 = 64;

/// A packet to be passed on. Its payload lies in [`Scratch`].
#[derive(Debug, Clone, Copy)]
pub(crate) struct Passing {
    /// The leg that sends it.
    pub(crate) to: u32,
    kind: Kind,
    marker: bool,
    ssrc: u32,
    seq: Seq,
    timestamp: RtpTime,
    payload_bytes: usize,
    ticks: u32,
    /// The level that the peer says it has.
    level: Option<u8>,
}

/// What a leg passes on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Gives {
    /// The leg that sends it.
    to: u32,
    /// Keys too: the other peer takes them as this one sends them.
    events: bool,
}

/// How one peer's numbers become those of another leg's stream.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Way {
    base: Option<Base>,
}

#[derive(Debug, Clone, Copy)]
struct Base {
    /// The source, once a packet of it has come.
    ssrc: Option<u32>,
    /// The first that has `offset`, and what those before it have.
    since: Seq,
    offset: u16,
    former: Option<u16>,
    timestamp_offset: u32,
    /// The newest number on our side, and bit n: n before it was sent.
    newest: Seq,
    seen: u64,
}

/// Sound that follows on what was passed on.
#[derive(Debug, Clone, Copy)]
pub(super) struct Waits {
    /// Whose sound it is.
    member: u8,
    until: Instant,
}

impl Way {
    /// A way on which `next`, the peer's numbers, become `reached`, ours.
    fn from(next: Option<(Seq, RtpTime)>, reached: (Seq, RtpTime)) -> Way {
        Way { base: next.map(|next| Base::new(None, next, reached)) }
    }

    /// Our numbers for a packet, where it is to be sent; `reached` are those of a stream that begins anew.
    fn map(&mut self, passing: &Passing, reached: (Seq, RtpTime)) -> Option<(Seq, RtpTime)> {
        let base = match &mut self.base {
            Some(base) if base.continues(passing) => base,
            base => base.insert(Base::new(Some(passing.ssrc), (passing.seq, passing.timestamp), reached)),
        };
        base.ssrc = Some(passing.ssrc);
        let seq = base.seq(passing.seq)?;
        base.note(seq).then(|| (seq, passing.timestamp.plus(base.timestamp_offset)))
    }

    /// A packet is not sent: those behind it close up, for it is not lost.
    fn skip(&mut self, passing: &Passing) {
        let Some(base) = self.base.as_mut().filter(|base| base.continues(passing)) else { return };
        if passing.seq.since(base.since) >= 0 && passing.seq.plus(base.offset).since(base.newest) > 0 {
            (base.since, base.former) = (passing.seq.next(), Some(base.offset));
            base.offset = base.offset.wrapping_sub(1);
        }
    }
}

impl Base {
    fn new(ssrc: Option<u32>, next: (Seq, RtpTime), reached: (Seq, RtpTime)) -> Base {
        Base {
            ssrc,
            since: next.0,
            offset: reached.0.0.wrapping_sub(next.0.0),
            former: None,
            timestamp_offset: reached.1.0.wrapping_sub(next.1.0),
            newest: Seq(reached.0.0.wrapping_sub(1)),
            seen: u64::MAX,
        }
    }

    /// Whether a packet is of the same source and near enough.
    fn continues(&self, passing: &Passing) -> bool {
        let ahead = Seq(passing.seq.0.wrapping_add(self.offset)).since(self.newest);
        self.ssrc.is_none_or(|ssrc| ssrc == passing.ssrc) && (LEAP_BACK..=LEAP_AHEAD).contains(&ahead)
    }

    fn seq(&self, seq: Seq) -> Option<Seq> {
        let offset = if seq.since(self.since) >= 0 { Some(self.offset) } else { self.former };
        offset.map(|offset| seq.plus(offset))
    }

    /// Notes that a number is sent; false where it was, or may have been.
    fn note(&mut self, seq: Seq) -> bool {
        let ahead = seq.since(self.newest);
        if ahead > 0 {
            self.seen = self.seen.checked_shl(ahead.unsigned_abs().into()).unwrap_or(0) | 1;
            self.newest = seq;
            return true;
        }
        let behind = ahead.unsigned_abs();
        let bit = if behind < SEEN { 1 << behind } else { 0 };
        let is_new = bit != 0 && self.seen & bit == 0;
        self.seen |= bit;
        is_new
    }
}

/// Lets `from`'s packets be sent by `to` as they come, or ends that, as is right now: at the beginning of a frame of the room of
/// both that is due at `frame_at`. `wanted` says that `to` hears `from` and nobody else does. Returns how many packets were passed on.
pub(crate) fn settle(
    now: Instant,
    (frame_at, wanted): (Instant, bool),
    from: &mut Leg,
    (to_slot, to): (u32, &mut Leg),
    scratch: &mut Scratch,
    out: &mut impl Outbox,
) -> u64 {
    let is_lively = from.is_lively(now);
    let possible = wanted && is_lively && from.can_be_passed_to(to);
    if from.gives().is_some() {
        // A key that is passed on is passed on to its end.
        let key_is_down = wanted && from.key_passes && from.dtmf_in.is_pressed();
        if !possible && !key_is_down {
            end(now, frame_at, from, to, scratch);
            if is_lively {
                from.note_mixed(now);
            }
        }
        return 0;
    }
    if possible && from.may_begin(now, to) { begin(now, from, (to_slot, to), scratch, out) } else { 0 }
}

/// Ends it, whatever is wanted. The room has a frame at `frame_at`.
pub(crate) fn end(now: Instant, frame_at: Instant, from: &mut Leg, to: &mut Leg, scratch: &mut Scratch) {
    let Some(joined) = from.joined.as_mut().filter(|joined| joined.gives.is_some()) else { return };
    joined.gives = None;
    let member = joined.member;
    let is_lively = from.is_lively(now);
    for number in from.inbound.jitter().unplayed() {
        let made = from.inbound.follow(now, number, &mut scratch.work);
        to.run_encoder_over(made, scratch);
    }
    from.inbound.jitter_mut().pass_over(0);
    let Some(joined) = to.joined.as_mut() else { return };
    joined.way = None;
    joined.forget();
    if is_lively {
        joined.waits = Some(Waits { member, until: now + WAITS_AT_MOST });
    } else {
        to.silent_frames = SILENT_FRAMES_BEFORE_NOISE - 1;
        to.outbound.resume(now, frame_at + SENDS_AFTER, FRAME, true);
    }
}

/// Begins with what has come and was not played.
fn begin(
    now: Instant,
    from: &mut Leg,
    (to_slot, to): (u32, &mut Leg),
    scratch: &mut Scratch,
    out: &mut impl Outbox,
) -> u64 {
    let events =
        matches!((from.inbound.dtmf(), &to.dtmf_out), (Some(theirs), Some(ours)) if theirs.clock_hz == ours.clock_hz);
    let next = from.inbound.jitter().due();
    let Some(joined) = from.joined.as_mut() else { return 0 };
    joined.gives = Some(Gives { to: to_slot, events });
    if let Some(joined) = to.joined.as_mut() {
        joined.way = Some(Way::from(next, to.outbound.at()));
        joined.forget();
    }
    let (ssrc, mut passed) = (from.peer_ssrc(), 0);
    for number in from.inbound.jitter().unplayed() {
        let Some(frame) = from.inbound.jitter().kept(now, number) else { continue };
        let payload_bytes = scratch.lay(frame.payload);
        // Keys that have come so far were told, and are sent otherwise.
        let kind = match from.inbound.kind(frame.payload_type) {
            Kind::Event => Kind::Unknown,
            kind => kind,
        };
        let (marker, seq, timestamp, ticks) = (frame.marker, frame.seq, frame.timestamp, frame.ticks);
        // What it said of their levels is not kept.
        let level = None;
        let passing = Passing { to: to_slot, kind, marker, ssrc, seq, timestamp, payload_bytes, ticks, level };
        passed += u64::from(to.pass(now, &passing, scratch, out));
    }
    from.inbound.jitter_mut().pass_over(KEPT);
    passed
}

impl Leg {
    /// Sends a packet of another leg's peer as it came; whether it was sent.
    pub(crate) fn pass(
        &mut self,
        now: Instant,
        passing: &Passing,
        scratch: &mut Scratch,
        out: &mut impl Outbox,
    ) -> bool {
        let to = self.latch.send_to().filter(|_| self.guard.is_open());
        let reached = self.outbound.reached(now);
        let Some(way) = self.joined.as_mut().and_then(|joined| joined.way.as_mut()) else { return false };
        let format = &self.outbound.format;
        let payload_type = match passing.kind {
            Kind::Sound => Some(format.payload_type()),
            Kind::ComfortNoise => format.comfort_noise(),
            Kind::Event => self.dtmf_out.as_ref().map(|dtmf| dtmf.payload_type),
            Kind::Unknown => None,
        };
        let (Some(to), Some(payload_type)) = (to, payload_type) else {
            way.skip(passing);
            return false;
        };
        let Some((seq, timestamp)) = way.map(passing, reached) else { return false };
        let header = RtpHeader { marker: passing.marker, payload_type, seq, timestamp, ssrc: self.outbound.ssrc() };
        let bytes = passing.payload_bytes;
        // The ids of extensions are each leg's own.
        let own = self.levels.send.zip(passing.level.filter(|_| passing.kind == Kind::Sound));
        let levels = Levels::new(own, None);
        let size = self.outbound.passed(now, &mut scratch.packet, &header, &levels, bytes, passing.ticks);
        self.silent_frames = 0;
        self.stats.relayed += 1;
        self.stats.digits_out += u64::from(passing.kind == Kind::Event && passing.marker);
        self.send_rtp(size, to, scratch, out);
        true
    }

    /// What is to be done with a packet that was taken, where its like is passed on. `key` says that it belongs to a key that is.
    pub(super) fn passing(
        &mut self,
        packet: &RtpPacket<'_>,
        kind: Kind,
        key: bool,
        ticks: u32,
        place: &mut [u8],
    ) -> Option<Passing> {
        let gives = self.gives()?;
        self.inbound.jitter_mut().pass_over(KEPT);
        // What is not passed on is skipped by whoever sends, so that nothing seems lost.
        let kind = if kind == Kind::Event && !key { Kind::Unknown } else { kind };
        place.get_mut(..packet.payload.len())?.copy_from_slice(packet.payload);
        Some(Passing {
            to: gives.to,
            kind,
            marker: packet.marker,
            ssrc: packet.ssrc,
            seq: packet.seq,
            timestamp: packet.timestamp,
            payload_bytes: packet.payload.len(),
            ticks,
            level: self.told_level(packet),
        })
    }

    /// What comes is passed on.
    pub(super) fn gives(&self) -> Option<Gives> {
        self.joined.as_ref()?.gives
    }

    /// Whether keys are passed on.
    pub(super) fn gives_keys(&self) -> bool {
        self.gives().is_some_and(|gives| gives.events)
    }

    /// Whether it sends what comes to another leg.
    pub(crate) fn is_passed_to(&self) -> bool {
        self.joined.as_ref().is_some_and(|joined| joined.way.is_some())
    }

    /// Whether frames are neither made nor sent: packets are passed on, or what follows on them is not there yet.
    pub(super) fn rests(&self) -> bool {
        self.joined.as_ref().is_some_and(|joined| joined.way.is_some() || joined.waits.is_some())
    }

    /// A frame of the room, due at `frame_at`, is there for it, in which these are heard: whether it takes it, and sends from here on.
    pub(crate) fn takes_frame(&mut self, frame_at: Instant, heard: Members) -> bool {
        let Some(joined) = &mut self.joined else { return false };
        if joined.way.is_some() {
            return false;
        }
        let Some(waits) = joined.waits else { return true };
        let (is_there, is_late) = (heard.has(waits.member), frame_at >= waits.until);
        if is_there || is_late {
            joined.waits = None;
            self.outbound.resume(frame_at, frame_at + SENDS_AFTER, FRAME, !is_there);
        }
        is_there || is_late
    }

    /// Whether a frame of the peer's sound was played just now, and more is to come.
    pub(crate) fn is_playing(&self) -> bool {
        self.inbound.jitter().is_playing()
    }

    /// Whether frames of ours are sent at other times than `next_wake` said last.
    pub(crate) fn changed_pace(&self) -> bool {
        self.sends_frames() && self.outbound.next_send() < self.wake
    }

    fn is_lively(&self, now: Instant) -> bool {
        self.sounded.is_some_and(|at| now.saturating_duration_since(at) < SILENT_AFTER)
    }

    fn note_mixed(&mut self, now: Instant) {
        if let Some(joined) = &mut self.joined {
            joined.passes_from = now + RETURNS_AFTER;
        }
    }

    /// Whether nothing but this leg's packets is to be sent by `to`, and it can send them as they are.
    fn can_be_passed_to(&self, to: &Leg) -> bool {
        let wants_to_say = |leg: &Leg| leg.voice.as_ref().is_some_and(|voice| voice.has_speech(&leg.shared));
        let is_shared = self.joined.as_ref().is_some_and(|joined| joined.shares_voice);
        let has_own = to.music.is_some() || wants_to_say(to) || (is_shared && wants_to_say(self));
        let is_told = to.record.as_ref().is_some_and(|record| record.has_tone());
        let is_pressed = to.dtmf_out.as_ref().is_some_and(|dtmf| dtmf.sender.pending() > 0);
        let can_send = to.direction.sends() && to.guard.is_open() && to.latch.send_to().is_some();
        let talk = self.mode == LegMode::Talk && to.mode == LegMode::Talk;
        // An ear compares what it hears with what was sent, which would have to be decoded.
        let is_heard_here = self.tapped || to.tapped;
        talk && self.direction.receives()
            && can_send
            && !has_own
            && !is_told
            && !is_pressed
            && !is_heard_here
            && is_alike(self.inbound.codec(), to.outbound.format.codec())
    }

    /// Whether now is between two packets on both sides.
    fn may_begin(&self, now: Instant, to: &Leg) -> bool {
        let (Some(mine), Some(theirs)) = (&self.joined, &to.joined) else { return false };
        let is_rested = now >= mine.passes_from && theirs.waits.is_none();
        let is_even = self.inbound.is_even() && (theirs.is_empty() || !self.inbound.jitter().is_playing());
        is_rested && is_even && !self.dtmf_in.is_pressed()
    }

    /// Lets the encoder take the samples in `work.pcm` as if they had been sent.
    fn run_encoder_over(&mut self, samples: usize, scratch: &mut Scratch) {
        let Scratch { work, packet, .. } = scratch;
        let (pcm, convert) = (&work.pcm, &mut work.convert);
        let sound = pcm.get(..samples).unwrap_or_default();
        for frame in sound.chunks_exact(self.outbound.format.seam_samples().max(1)) {
            self.outbound.format.encode(frame, convert, packet);
        }
    }
}

impl Scratch {
    /// Puts a payload where packets are made; how many bytes of it.
    fn lay(&mut self, payload: &[u8]) -> usize {
        match self.packet.get_mut(HEADER_BYTES..HEADER_BYTES + payload.len()) {
            Some(place) => {
                place.copy_from_slice(payload);
                payload.len()
            }
            None => 0,
        }
    }
}

/// Whether packets of one peer's codec can be sent to another peer as they are. How Opus is to be encoded is a wish of whoever decodes,
/// but for a limit of the bit rate, or a constant one.
fn is_alike(from: &CodecParams, to: &CodecParams) -> bool {
    let is_free = to.id != CodecId::Opus || (to.fmtp.max_bitrate_bps.is_none() && !to.fmtp.cbr);
    let is_same_rate = to.id == CodecId::Opus || from.audio_rate == to.audio_rate;
    from.id == to.id && is_same_rate && from.ptime_ms == to.ptime_ms && is_free
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn passing(seq: u16) -> Passing {
        let timestamp = RtpTime(u32::from(seq) * 160);
        Passing {
            to: 0,
            kind: Kind::Sound,
            marker: false,
            ssrc: 9,
            seq: Seq(seq),
            timestamp,
            payload_bytes: 0,
            ticks: 160,
            level: None,
        }
    }

    #[test]
    fn numbers_go_on_from_ours_and_gaps_order_and_wraps_are_kept() {
        let mut way = Way::from(Some((Seq(65_533), RtpTime(1_000))), (Seq(100), RtpTime(50_000)));
        let mut map = |seq: u16| way.map(&passing(seq), (Seq(0), RtpTime(0))).map(|(seq, _)| seq.0);
        assert_eq!(map(65_533), Some(100));
        assert_eq!(map(65_532), None, "what lies before was played");
        assert_eq!(map(65_535), Some(102));
        assert_eq!((map(0), map(65_534), map(65_534), map(0)), (Some(103), Some(101), None, None), "nothing twice");
        assert_eq!(map(40), Some(143));
        assert_eq!((map(39), map(39)), (Some(142), None));
    }

    #[test]
    fn what_is_skipped_leaves_no_gap_and_what_leaps_begins_anew() {
        let mut way = Way::from(Some((Seq(10), RtpTime(1_600))), (Seq(500), RtpTime(0)));
        let none = (Seq(0), RtpTime(0));
        assert_eq!(way.map(&passing(10), none).unwrap(), (Seq(500), RtpTime(0)));
        way.skip(&passing(12));
        assert_eq!(way.map(&passing(13), none).unwrap(), (Seq(502), RtpTime(480)));
        assert_eq!(way.map(&passing(11), none).unwrap().0, Seq(501), "from before what was skipped");
        assert_eq!(way.map(&passing(12), none), None);
        let other = Passing { ssrc: 8, ..passing(13) };
        assert_eq!(way.map(&other, (Seq(503), RtpTime(9_000))).unwrap(), (Seq(503), RtpTime(9_000)));
        assert_eq!(way.map(&Passing { ssrc: 8, ..passing(14) }, none).unwrap(), (Seq(504), RtpTime(9_160)));
        let leap = Passing { ssrc: 8, ..passing(9_000) };
        assert_eq!(way.map(&leap, (Seq(505), RtpTime(9_500))).unwrap(), (Seq(505), RtpTime(9_500)));
    }
}
