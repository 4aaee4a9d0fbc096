//! What every engine's output goes through: level, silence before and after, rate.
//!
//! A stage without I/O: samples in, samples out, and a `finish`. Leading silence is cut because it is response
//! latency; the silence after a text is made the same for all engines, so that sentences spoken one by one stand in
//! an even rhythm.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use codecs::pcm::SampleRate;
use codecs::resample::Resampler;

use super::VoiceError;

/// The level that speech is brought to: its RMS over the 10 ms blocks that hold speech.
pub const TARGET_RMS_DBFS: f32 = -20.0;

/// No sample goes over this.
pub const PEAK_CEILING_DBFS: f32 = -3.0;

/// How much of the silence before the first sound is left, so that its onset is whole.
pub const LEAD: Duration = Duration::from_millis(8);

/// The silence at the end of a text: whoever speaks one text after another knows best how long to pause between them
/// (see [`super::sentences::pause_after`]).
pub const TAIL: Duration = Duration::from_millis(20);

/// Zeros that bring the last samples out of the resampler.
const FLUSH: Duration = Duration::from_millis(5);

/// Samples at and over this magnitude, about -47 dBFS, are sound; tuned on Flite's softest onsets ("h", "th").
const SOUND: i16 = 150;

/// What a first sound is judged by.
const ONSET: Duration = Duration::from_millis(4);

/// Blocks in which the level is measured.
const BLOCK: Duration = Duration::from_millis(10);

/// Where the level's knee begins; from there to the ceiling peaks are rounded.
const KNEE: f32 = 0.447;
const CEILING: f32 = 0.708;

/// How an engine's level is brought to [`TARGET_RMS_DBFS`].
#[derive(Clone, Debug)]
pub enum Level {
    /// By a known gain: the engine's level is known.
    Fixed {
        /// The gain in decibels.
        gain_db: f32,
    },
    /// By what was heard of it so far. Clones share what they learnt.
    Learnt(Arc<Mutex<Loudness>>),
}

impl Level {
    /// For an engine whose level is not known.
    #[must_use]
    pub fn learnt() -> Self {
        Self::Learnt(Arc::default())
    }
}

/// What is known of an engine's own level.
#[derive(Clone, Copy, Debug, Default)]
pub struct Loudness {
    /// Mean square of the samples (full scale 1.0) over the blocks that hold speech.
    mean_square: f32,
    /// How much speech that is from, in blocks.
    blocks: u32,
}

impl Loudness {
    /// After this many blocks (2 s) older ones fade.
    const MEMORY_BLOCKS: u32 = 200;
    /// Blocks under this mean square (-45 dBFS) are pauses.
    const SPEECH: f32 = 3.2e-5;
    const MAX_GAIN: f32 = 8.0;
    const MIN_GAIN: f32 = 0.1;

    fn learn(&mut self, mean_square: f32) {
        if mean_square < Self::SPEECH {
            return;
        }
        self.blocks = (self.blocks + 1).min(Self::MEMORY_BLOCKS);
        self.mean_square += (mean_square - self.mean_square) / self.blocks as f32;
    }

    fn gain(&self) -> f32 {
        if self.blocks == 0 {
            return 1.0;
        }
        (amplitude(TARGET_RMS_DBFS) / self.mean_square.sqrt()).clamp(Self::MIN_GAIN, Self::MAX_GAIN)
    }
}

/// Brings one text's audio to shape.
pub struct Conditioner {
    level: Level,
    gain: f32,
    /// Samples not yet passed on: what may be the onset while `leading`, else silence that may be the last.
    held: Vec<i16>,
    leading: bool,
    lead_samples: usize,
    onset_samples: usize,
    tail_samples: usize,
    block_samples: usize,
    flush_samples: usize,
    resampler: Option<Resampler>,
}

impl Conditioner {
    /// From an engine at `from` to `to`; `pause_after` is the silence that follows the last sound.
    ///
    /// # Errors
    /// [`VoiceError::Engine`] for a pair of rates that cannot be converted.
    pub fn new(from: SampleRate, to: SampleRate, level: Level, pause_after: Duration) -> Result<Self, VoiceError> {
        let resampler = if from == to { None } else { Some(resampler(from, to)?) };
        let gain = match &level {
            Level::Fixed { gain_db } => amplitude(*gain_db),
            Level::Learnt(loudness) => loudness.lock().unwrap_or_else(PoisonError::into_inner).gain(),
        };
        Ok(Self {
            level,
            gain,
            held: Vec::new(),
            leading: true,
            lead_samples: to.samples_in(LEAD),
            onset_samples: to.samples_in(ONSET).max(1),
            tail_samples: to.samples_in(pause_after),
            block_samples: from.samples_in(BLOCK).max(1),
            flush_samples: if resampler.is_some() { from.samples_in(FLUSH) } else { 0 },
            resampler,
        })
    }

    /// What can be passed on after these samples of the engine.
    #[must_use]
    pub fn push(&mut self, pcm: &[i16]) -> Vec<i16> {
        let amplified = self.amplify(pcm);
        // Silence is judged at the line's rate: what lies over its band would be silence there.
        let mut shaped = self.convert(amplified);
        self.held.append(&mut shaped);
        if self.leading {
            let Some(onset) = self.onset() else {
                let keep = self.lead_samples + self.onset_samples;
                self.held.drain(..self.held.len().saturating_sub(keep));
                return Vec::new();
            };
            self.begin_at(onset);
        }
        let sounding = self.held.iter().rposition(|sample| is_sound(*sample)).map_or(0, |last| last + 1);
        self.held.drain(..sounding).collect()
    }

    /// What is left at the end: the silence after the text. Nothing where there was no sound at all.
    #[must_use]
    pub fn finish(&mut self) -> Vec<i16> {
        let mut rest = self.convert(vec![0; self.flush_samples]);
        self.held.append(&mut rest);
        if self.leading {
            // A sound too short to be told from a crackle before.
            let Some(onset) = self.held.iter().position(|sample| is_sound(*sample)) else { return Vec::new() };
            self.begin_at(onset);
        }
        let sounding = self.held.iter().rposition(|sample| is_sound(*sample)).map_or(0, |last| last + 1);
        let mut tail = std::mem::take(&mut self.held);
        tail.resize(sounding + self.tail_samples, 0);
        tail
    }

    /// Where sound begins, once it can be told: where an eighth of the next [`ONSET`] is sound. Engines crackle.
    fn onset(&self) -> Option<usize> {
        let is_onset = |window: &[i16]| {
            window.first().is_some_and(|first| is_sound(*first))
                && window.iter().filter(|sample| is_sound(**sample)).count() * 8 >= window.len()
        };
        self.held.windows(self.onset_samples).position(is_onset)
    }

    /// Drops what is held before a short lead to this sample.
    fn begin_at(&mut self, onset: usize) {
        let skip = onset.saturating_sub(self.lead_samples);
        self.held.drain(..skip);
        fade_in(self.held.get_mut(..onset - skip).unwrap_or_default());
        self.leading = false;
    }

    /// The level set, and what is under it learnt.
    fn amplify(&mut self, pcm: &[i16]) -> Vec<i16> {
        let Level::Learnt(loudness) = &self.level else {
            return pcm.iter().map(|sample| limited(*sample, self.gain)).collect();
        };
        let mut loudness = loudness.lock().unwrap_or_else(PoisonError::into_inner);
        let mut out = Vec::with_capacity(pcm.len());
        for block in pcm.chunks(self.block_samples) {
            let sum: f32 = block.iter().map(|sample| (f32::from(*sample) / 32768.0).powi(2)).sum();
            loudness.learn(sum / block.len() as f32);
            // Towards the new gain over the block, so that it makes no step.
            let (from, to) = (self.gain, loudness.gain());
            for (index, sample) in block.iter().enumerate() {
                out.push(limited(*sample, from + (to - from) * index as f32 / block.len() as f32));
            }
            self.gain = to;
        }
        out
    }

    fn convert(&mut self, pcm: Vec<i16>) -> Vec<i16> {
        let Some(resampler) = self.resampler.as_mut() else { return pcm };
        let mut out = vec![0; resampler.max_output(pcm.len())];
        let written = resampler.process(&pcm, &mut out);
        out.truncate(written);
        out
    }
}

fn resampler(from: SampleRate, to: SampleRate) -> Result<Resampler, VoiceError> {
    Resampler::new(from, to).map_err(|error| VoiceError::Engine { engine: "resampler", what: error.to_string() })
}

fn amplitude(decibels: f32) -> f32 {
    10f32.powf(decibels / 20.0)
}

fn is_sound(sample: i16) -> bool {
    sample.unsigned_abs() >= SOUND.unsigned_abs()
}

/// The sample times `gain`, rounded off over the knee so that it stays under the ceiling.
fn limited(sample: i16, gain: f32) -> i16 {
    let value = f32::from(sample) / 32768.0 * gain;
    let size = value.abs();
    let size = if size <= KNEE { size } else { KNEE + (CEILING - KNEE) * ((size - KNEE) / (CEILING - KNEE)).tanh() };
    (size.copysign(value) * 32768.0) as i16
}

fn fade_in(pcm: &mut [i16]) {
    let length = pcm.len() as f32;
    for (index, sample) in pcm.iter_mut().enumerate() {
        *sample = (f32::from(*sample) * index as f32 / length) as i16;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    const RATE: SampleRate = SampleRate::HZ_8000;
    const PAUSE: Duration = Duration::from_millis(100);

    fn conditioner(level: Level) -> Conditioner {
        Conditioner::new(RATE, RATE, level, PAUSE).unwrap()
    }

    fn tone(ms: usize, size: f32) -> Vec<i16> {
        (0..ms * 8).map(|n| ((n as f32 * 0.5 + 1.0).sin() * size) as i16).collect()
    }

    fn run(conditioner: &mut Conditioner, pcm: &[i16], piece: usize) -> Vec<i16> {
        let mut out: Vec<i16> = pcm.chunks(piece).flat_map(|piece| conditioner.push(piece)).collect();
        out.extend(conditioner.finish());
        out
    }

    #[test]
    fn silence_first_is_cut_and_silence_last_is_made_the_same_whatever_the_pieces() {
        for (lead_ms, tail_ms) in [(0, 0), (3, 40), (290, 400)] {
            for piece in [1, 7, 160, 4_000] {
                let pcm =
                    [vec![10; lead_ms * 8], tone(50, 8_000.0), vec![0; 80], tone(50, 8_000.0), vec![9; tail_ms * 8]];
                let out = run(&mut conditioner(Level::Fixed { gain_db: 0.0 }), &pcm.concat(), piece);
                let expected_ms = lead_ms.min(8) + 50 + 10 + 50 + 100;
                // The tone's own last samples may be near zero.
                assert!(out.len().abs_diff(expected_ms * 8) <= 1, "{} of {}", out.len(), expected_ms * 8);
            }
        }
    }

    #[test]
    fn a_crackle_before_the_first_sound_is_silence() {
        let mut crackle = vec![20; 1_600];
        crackle[300] = 170;
        crackle[301] = -160;
        let pcm = [crackle, tone(50, 8_000.0)].concat();
        for piece in [1, 160, 2_000] {
            let out = run(&mut conditioner(Level::Fixed { gain_db: 0.0 }), &pcm, piece);
            assert!(out.len().abs_diff((8 + 50 + 100) * 8) <= 1, "{}", out.len());
        }
    }

    #[test]
    fn a_text_of_one_short_click_is_still_heard() {
        let out = run(&mut conditioner(Level::Fixed { gain_db: 0.0 }), &[0, 0, 9_000], 1);
        assert_eq!(out.len(), 3 + 800);
    }

    #[test]
    fn a_pause_inside_is_held_back_and_then_passed_on_whole() {
        let mut conditioner = conditioner(Level::Fixed { gain_db: 0.0 });
        let before = conditioner.push(&tone(50, 8_000.0)).len();
        assert!(conditioner.push(&[0; 8_000]).is_empty());
        let after = conditioner.push(&tone(50, 8_000.0)).len();
        assert!((before + after).abs_diff(400 + 8_000 + 400) <= 1, "{before} {after}");
    }

    #[test]
    fn nothing_but_silence_becomes_nothing() {
        assert!(run(&mut conditioner(Level::learnt()), &[40; 16_000], 320).is_empty());
    }

    #[test]
    fn peaks_stay_under_the_ceiling_and_signs_are_kept() {
        for sample in [i16::MIN, -30_000, -5, 0, 5, 30_000, i16::MAX] {
            for gain in [0.1, 1.0, 8.0] {
                let out = limited(sample, gain);
                assert!(out.unsigned_abs() <= 23_200, "{sample} * {gain} = {out}");
                assert!(i32::from(out) * i32::from(sample) >= 0);
            }
        }
    }

    #[test]
    fn a_level_that_is_not_known_is_learnt_across_texts() {
        let level = Level::learnt();
        for size in [2_000.0, 30_000.0, 1_500.0] {
            for _ in 0..5 {
                run(&mut conditioner(level.clone()), &tone(3_000, size), 480);
            }
            let out = run(&mut conditioner(level.clone()), &tone(1_000, size), 480);
            let sum: f32 = out[..8_000].iter().map(|sample| f32::from(*sample).powi(2)).sum();
            let dbfs = 10.0 * (sum / 8_000.0 / 32_768_f32.powi(2)).log10();
            assert!((dbfs - TARGET_RMS_DBFS).abs() < 2.0, "{size}: {dbfs}");
        }
    }
}
