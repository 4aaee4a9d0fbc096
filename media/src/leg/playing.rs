//! What is played of a stream: sound put together in frames, out of what the playout reader hands over.
//!
//! Sound that was decoded waits behind what was played last. Where the reader asks for it, what waits is made longer or shorter
//! by up to a pitch period, and the reader is told by how much.

use std::time::Instant;

use codecs::comfort_noise::ComfortNoise;
use codecs::pcm::SampleRate;
use codecs::stretch;

use super::inbound::Decoding;
use super::{Work, outbound};
use crate::config::LegConfig;
use crate::error::MediaError;
use crate::jitter::{Asked, JitterBuffer, Pace, Played};
use crate::room::FRAME_MS;

/// The longest packet of a peer.
const LONGEST_PACKET_MS: u32 = 120;
/// The most that a stretch adds.
const LONGEST_STRETCH_MS: u32 = 15;
/// Answers of the playout reader in one frame at most.
const ANSWERS_PER_FRAME: usize = 16;

/// The playout reader's side.
pub(super) struct Playing {
    decoding: Decoding,
    noise: ComfortNoise,
    /// The last packet was comfort noise.
    noisy: bool,
    seam: SampleRate,
    clock_hz: u32,
    /// What was played last, [`stretch::PAST_MS`] of it, and what waits, up to `end`.
    sound: Box<[i16]>,
    past: usize,
    end: usize,
}

impl Playing {
    /// For a leg that begins to play.
    pub(super) fn of(config: &LegConfig, seam: SampleRate) -> Result<Self, MediaError> {
        let clock_hz = outbound::clock_hz(config);
        let frame_ms = FRAME_MS.max(u32::from(config.codec.ptime_ms));
        let past = seam.samples_in_ms(stretch::PAST_MS);
        let waits = seam.samples_in_ms(frame_ms + LONGEST_PACKET_MS + LONGEST_STRETCH_MS);
        Ok(Playing {
            decoding: Decoding::new(config, clock_hz, seam)?,
            noise: ComfortNoise::new(config.seed as u32),
            noisy: false,
            seam,
            clock_hz,
            sound: vec![0; past + waits].into_boxed_slice(),
            past,
            end: past,
        })
    }

    pub(super) fn decoding(&self) -> &Decoding {
        &self.decoding
    }

    /// Whether nothing of what was decoded waits.
    pub(super) fn is_even(&self) -> bool {
        self.end == self.past
    }

    /// Decodes a packet that was played elsewhere, so that what follows goes on from it; returns the samples, in `work.pcm`.
    pub(super) fn follow(&mut self, payload: &[u8], work: &mut Work) -> usize {
        let made = self.decoding.decode(payload, work);
        let samples = work.pcm.get(..made).unwrap_or_default();
        self.append(samples);
        let over = self.end - self.past;
        self.sound.copy_within(over..self.end, 0);
        self.end = self.past;
        self.noisy = false;
        made
    }

    /// Fills `frame` with what is to be played next. `comfort_noise` is its payload type, where agreed.
    pub(super) fn play(
        &mut self,
        now: Instant,
        jitter: &mut JitterBuffer,
        comfort_noise: Option<u8>,
        frame: &mut [i16],
        work: &mut Work,
    ) {
        let frame_ticks = self.ticks(frame.len());
        for _ in 0..ANSWERS_PER_FRAME {
            let ahead = self.end - self.past;
            if ahead >= frame.len() {
                break;
            }
            let mut pace = Pace::Even;
            let made = match jitter.playout(now, Asked { frame_ticks, ahead_ticks: self.ticks(ahead) }) {
                Played::Packet(packet, _) if packet.ticks == 0 => {
                    if comfort_noise == Some(packet.payload_type) {
                        self.noisy = self.noise.update(packet.payload).is_ok();
                    }
                    continue;
                }
                Played::Packet(packet, asked) => {
                    pace = asked;
                    self.noisy = false;
                    self.decoding.decode(packet.payload, work)
                }
                Played::Lost(loss) => self.decoding.make_up(&loss, work),
                Played::Hold { ticks } => self.decoding.conceal(ticks, work),
                Played::Silence { ticks } => self.silence(ticks, work),
            };
            self.append(work.pcm.get(..made).unwrap_or_default());
            let by_ticks = self.stretch(pace);
            if by_ticks != 0 {
                jitter.stretched(now, by_ticks);
            }
        }
        self.take(frame);
    }

    /// Puts sound behind what waits; what does not fit is left out.
    fn append(&mut self, samples: &[i16]) {
        let room = self.sound.get_mut(self.end..).unwrap_or_default();
        let taken = samples.len().min(room.len());
        if let (Some(place), Some(samples)) = (room.get_mut(..taken), samples.get(..taken)) {
            place.copy_from_slice(samples);
        }
        self.end += taken;
    }

    /// Makes what waits longer or shorter; returns by how much.
    fn stretch(&mut self, pace: Pace) -> i32 {
        match pace {
            Pace::Even => 0,
            Pace::Shorter { most_ticks, haste } => {
                let most = u64::from(most_ticks) * u64::from(self.seam.hz()) / u64::from(self.clock_hz.max(1));
                let most = usize::try_from(most).unwrap_or(usize::MAX);
                let waiting = self.sound.get_mut(..self.end).unwrap_or_default();
                let less = stretch::shorten(self.seam, waiting, self.past, most, haste);
                self.end -= less;
                -(self.ticks(less) as i32)
            }
            Pace::Longer { haste } => {
                let more = stretch::lengthen(self.seam, &mut self.sound, self.past, self.end, haste);
                self.end += more;
                self.ticks(more) as i32
            }
        }
    }

    /// Fills `frame` with what waits, and with silence where that is too little.
    fn take(&mut self, frame: &mut [i16]) {
        let waiting = self.sound.get(self.past..self.end).unwrap_or_default();
        let taken = waiting.len().min(frame.len());
        let (sound, rest) = frame.split_at_mut(taken);
        if let Some(waiting) = waiting.get(..taken) {
            sound.copy_from_slice(waiting);
        }
        rest.fill(0);
        self.sound.copy_within(taken..self.end, 0);
        self.end -= taken;
    }

    fn silence(&mut self, ticks: u32, work: &mut Work) -> usize {
        let samples = self.decoding.seam_samples(ticks);
        let Some(pcm) = work.pcm.get_mut(..samples) else { return 0 };
        if self.noisy {
            self.noise.generate(pcm);
        } else {
            pcm.fill(0);
        }
        samples
    }

    fn ticks(&self, samples: usize) -> u32 {
        (samples as u64 * u64::from(self.clock_hz) / u64::from(self.seam.hz().max(1))) as u32
    }
}
