//! A leg's place in a room: what it gives to the others and what it gets from them, at the room's pace.
//!
//! The room asks for 20 ms of the peer's sound through the playout reader and for 20 ms of what the port says, and
//! hands over 20 ms of what the others say. The leg sends that at its own packets' pace out of a bounded queue.

use std::time::{Duration, Instant};

use codecs::pcm::SampleRate;
use codecs::resample::Resampler;

use super::passing::{Gives, Waits, Way};
use super::playing::Playing;
use super::{Leg, Scratch};
use crate::config::LegConfig;
use crate::error::MediaError;
use crate::port::Notice;
use crate::room::FRAME_MS;
use crate::rtp::MAX_CSRC;
use crate::rtp::Source;

/// Sound on its way from the room to the leg's next packet: a packet of 60 ms and two frames of the room.
const QUEUE_MS: u32 = 100;
/// One frame of a room.
pub(super) const FRAME: Duration = Duration::from_millis(FRAME_MS as u64);
/// A leg sends this long after the room's frame is mixed.
pub(super) const SENDS_AFTER: Duration = Duration::from_millis(2);

/// What it takes to be in a room. Made on the async side, and dropped there.
pub(crate) struct Joined {
    /// The room's place on the worker.
    pub(crate) room: u32,
    /// The member's number in it.
    pub(crate) member: u8,
    /// The others hear what the port says.
    pub(super) shares_voice: bool,
    /// What comes is passed on, as this says.
    pub(super) gives: Option<Gives>,
    /// What comes to another leg is passed on to this one's peer.
    pub(super) way: Option<Way>,
    /// What follows on what was passed on is not there yet.
    pub(super) waits: Option<Waits>,
    /// What comes is not passed on before this.
    pub(super) passes_from: Instant,
    /// The playout reader's side, while the leg is not in the room.
    playing: Option<Playing>,
    heard_to_room: Option<Resampler>,
    said_to_room: Option<Resampler>,
    from_room: Option<Resampler>,
    /// What the port said in this frame.
    own: Box<[i16]>,
    own_speaks: bool,
    /// Whose sound the next packet has in it.
    pub(super) sources: Named,
    queue: Queue,
}

/// The sources that a packet names (RFC 3550 section 7.1), and the level of each.
#[derive(Clone, Copy, Default)]
pub(super) struct Named {
    sources: [u32; MAX_CSRC],
    levels: [u8; MAX_CSRC],
    count: usize,
}

impl Named {
    fn add(&mut self, ssrc: u32, level: u8) {
        if let (Some(source), Some(place)) = (self.sources.get_mut(self.count), self.levels.get_mut(self.count)) {
            (*source, *place) = (ssrc, level);
            self.count += 1;
        }
    }

    pub(super) fn sources(&self) -> &[u32] {
        self.sources.get(..self.count).unwrap_or_default()
    }

    pub(super) fn levels(&self) -> &[u8] {
        self.levels.get(..self.count).unwrap_or_default()
    }
}

impl Joined {
    /// The place of a leg that takes it at `now` or later.
    pub(crate) fn new(
        now: Instant,
        (room, member): (u32, u8),
        shares_voice: bool,
        config: &LegConfig,
        seam: SampleRate,
        rate: SampleRate,
    ) -> Result<Self, MediaError> {
        let convert = |from, to| if from == to { Ok(None) } else { Resampler::new(from, to).map(Some) };
        Ok(Joined {
            room,
            member,
            shares_voice,
            gives: None,
            way: None,
            waits: None,
            passes_from: now,
            playing: Some(Playing::of(config, seam)?),
            heard_to_room: convert(seam, rate)?,
            said_to_room: convert(seam, rate)?,
            from_room: convert(rate, seam)?,
            own: vec![0; seam.samples_in_ms(FRAME_MS)].into_boxed_slice(),
            own_speaks: false,
            sources: Named::default(),
            queue: Queue::new(seam.samples_in_ms(QUEUE_MS)),
        })
    }

    /// Whether nothing waits to be sent.
    pub(super) fn is_empty(&self) -> bool {
        self.queue.len == 0
    }

    /// What waits to be sent is not.
    pub(super) fn forget(&mut self) {
        self.queue.len = 0;
    }
}

impl Leg {
    /// Takes its place in a room whose next frame is mixed at `room_at`; gives back what it was in before.
    pub(crate) fn join(&mut self, mut joined: Box<Joined>, room_at: Instant) {
        #[cfg(test)]
        assert!(!self.fails_told, "on purpose");
        if let Some(playing) = joined.playing.take() {
            self.inbound.start_playing(playing);
        }
        self.outbound.align(room_at + SENDS_AFTER, FRAME);
        self.joined = Some(joined);
    }

    /// The room that it is in.
    pub(crate) fn room(&self) -> Option<u32> {
        self.joined.as_ref().map(|joined| joined.room)
    }

    /// Gives up its place.
    pub(crate) fn part(&mut self) -> Option<Box<Joined>> {
        let mut joined = self.joined.take()?;
        joined.playing = self.inbound.stop_playing();
        Some(joined)
    }

    /// Fills `heard` with the peer's sound and `said` with what the port says to the room, both at the room's rate.
    pub(crate) fn read_for_room(&mut self, now: Instant, heard: &mut [i16], said: &mut [i16], scratch: &mut Scratch) {
        let Some(joined) = &mut self.joined else {
            heard.fill(0);
            said.fill(0);
            return;
        };
        let Some(frame) = scratch.frame.get_mut(..joined.own.len()) else { return };
        if joined.gives.is_some() {
            heard.fill(0);
        } else {
            self.inbound.play(now, frame, &mut scratch.work);
            convert(&mut joined.heard_to_room, frame, heard);
        }
        joined.own_speaks = false;
        let sends = self.direction.sends() && joined.way.is_none() && joined.waits.is_none();
        if let Some(voice) = self.voice.as_mut().filter(|_| sends) {
            joined.own_speaks = voice.take(&self.shared, &mut joined.own) > 0;
            voice.publish(&self.shared);
        }
        if joined.own_speaks && joined.shares_voice {
            convert(&mut joined.said_to_room, &joined.own, said);
        } else {
            said.fill(0);
        }
    }

    /// Takes what the others say, at the room's rate, to be sent with what the port says.
    pub(crate) fn send_from_room(&mut self, mixed: &[i16], scratch: &mut Scratch) {
        let Some(joined) = &mut self.joined else { return };
        let Some(frame) = scratch.frame.get_mut(..joined.own.len()) else { return };
        convert(&mut joined.from_room, mixed, frame);
        if !joined.own_speaks {
            joined.own.fill(0);
        }
        if let Some(music) = &mut self.music {
            frame.fill(0);
            music.add(&mut joined.own);
        }
        let keep = self.outbound.format.seam_samples() + joined.own.len();
        let ahead = joined.queue.room_for(joined.own.len(), keep);
        let at_samples = self.samples_at(self.outbound.next_send()) + ahead as u64;
        // What the members say is recorded where they say it; what the leg plays itself, here: at the place where it will be sent.
        let mut record = self.record.as_mut().filter(|_| !self.recording_paused);
        let Some(joined) = &mut self.joined else { return };
        let has_tone = record.as_mut().is_some_and(|record| record.add_tone(at_samples, &mut joined.own));
        if joined.own_speaks || self.music.is_some() || has_tone {
            for (place, own) in frame.iter_mut().zip(&joined.own) {
                *place = place.saturating_add(*own);
            }
            if let Some(record) = record {
                self.stats.record_ring_drops += record.push_played(at_samples, &joined.own);
            }
        }
        joined.queue.push(frame, keep);
    }

    /// The peer's source; 0 where nothing has come of it.
    pub(crate) fn peer_ssrc(&self) -> u32 {
        self.source.as_ref().map_or(0, Source::ssrc)
    }

    /// The peer speaks from here on, or does not.
    pub(crate) fn note_speaking(&mut self, speaks: bool) {
        self.tell(Notice::Speaks(speaks));
    }

    /// The packets to come have the sound of these sources in them, each this loud; those beyond what a packet can name are left out.
    pub(crate) fn name_sources(&mut self, speakers: impl Iterator<Item = (u32, u8)>) {
        let Some(joined) = &mut self.joined else { return };
        joined.sources.count = 0;
        for (ssrc, level) in speakers.filter(|(ssrc, _)| *ssrc != 0) {
            joined.sources.add(ssrc, level);
        }
    }

    /// Fills `frame` with what the room said; whether there was any sound.
    pub(super) fn take_from_room(joined: &mut Joined, frame: &mut [i16]) -> bool {
        joined.queue.pop(frame) && frame.iter().any(|sample| *sample != 0)
    }
}

/// Changes the rate where there is a resampler; a sample short or over is made up for.
fn convert(resampler: &mut Option<Resampler>, from: &[i16], to: &mut [i16]) {
    let made = match resampler {
        None => {
            let common = from.len().min(to.len());
            if let (Some(place), Some(sound)) = (to.get_mut(..common), from.get(..common)) {
                place.copy_from_slice(sound);
            }
            common
        }
        Some(resampler) if resampler.max_output(from.len()) <= to.len() => resampler.process(from, to),
        Some(resampler) => {
            let mut wide = [0; super::MAX_FRAME_SAMPLES / 4];
            let made = resampler.process(from, &mut wide).min(to.len());
            if let (Some(place), Some(sound)) = (to.get_mut(..made), wide.get(..made)) {
                place.copy_from_slice(sound);
            }
            made
        }
    };
    let last = made.checked_sub(1).and_then(|at| to.get(at)).copied().unwrap_or(0);
    if let Some(rest) = to.get_mut(made..) {
        rest.fill(last);
    }
}

/// A bounded queue of samples. What is too much leaves at the front.
struct Queue {
    samples: Box<[i16]>,
    first: usize,
    len: usize,
}

impl Queue {
    fn new(capacity: usize) -> Self {
        Queue { samples: vec![0; capacity.max(1)].into_boxed_slice(), first: 0, len: 0 }
    }

    /// How many samples will be before so many more, where no more than `keep` stay.
    fn room_for(&self, more: usize, keep: usize) -> usize {
        self.len.min(keep.min(self.samples.len()).saturating_sub(more))
    }

    /// Puts `sound` behind what is there; no more than `keep` samples stay.
    fn push(&mut self, sound: &[i16], keep: usize) {
        let capacity = self.samples.len();
        let keep = keep.min(capacity);
        let over = (self.len + sound.len()).saturating_sub(keep).min(self.len);
        self.first = (self.first + over) % capacity;
        self.len -= over;
        for sample in sound.iter().take(capacity - self.len) {
            let at = (self.first + self.len) % capacity;
            if let Some(place) = self.samples.get_mut(at) {
                *place = *sample;
            }
            self.len += 1;
        }
    }

    /// Fills `frame` where there is enough for the whole of it, and with silence where there is not.
    fn pop(&mut self, frame: &mut [i16]) -> bool {
        if self.len < frame.len() {
            frame.fill(0);
            return false;
        }
        let capacity = self.samples.len();
        for place in frame.iter_mut() {
            *place = self.samples.get(self.first).copied().unwrap_or(0);
            self.first = (self.first + 1) % capacity;
        }
        self.len -= frame.len();
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_queue_keeps_the_newest_and_gives_whole_frames_only() {
        let mut queue = Queue::new(8);
        let mut frame = [9; 4];
        assert!(!queue.pop(&mut frame));
        assert_eq!(frame, [0; 4]);
        queue.push(&[1, 2, 3], 8);
        assert!(!queue.pop(&mut frame), "three of four");
        queue.push(&[4, 5, 6], 8);
        assert!(queue.pop(&mut frame));
        assert_eq!(frame, [1, 2, 3, 4]);
        queue.push(&[7, 8, 9], 4);
        assert!(queue.pop(&mut frame));
        assert_eq!(frame, [6, 7, 8, 9], "the oldest left");
    }
}
