//! How loud the caller is: the acoustic model expects one loudness, telephones come with many.
//!
//! Frames are held back until enough of them are speech; then the loudness of that speech sets one offset for the whole
//! utterance. An offset that moved with time would look like a sound of its own.

use super::band::HEARD;
use super::features::Mels;

/// Frames (10 ms) of speech that settle the matter.
const ENOUGH: usize = 25;
/// Log energy over the quietest frames from which a frame counts as speech.
const OVER_FLOOR: f32 = 3.0;
/// Log mel energy, averaged over filters, of the loud half of speech at which recognition was best.
const MODEL: f32 = 13.0;
/// The most that an offset may raise the level by: 40 dB as natural logarithm of energy.
const MOST: f32 = 9.2;
/// Frames that may wait: what comes after is let through as it is.
const MOST_HELD: usize = 1_500;

/// The frames held back, and what is known of their level. What comes out does not depend on how the audio was cut: the
/// level is settled by the same frame, whatever came with it.
#[derive(Default)]
pub(super) struct Level {
    held: Vec<Mels>,
    /// The loudness of each frame held, in order of loudness.
    sorted: Vec<f32>,
    settled: Option<Settled>,
}

/// What was found out from the first of the speech.
struct Settled {
    offset: f32,
    speech: Vec<Mels>,
}

impl Level {
    /// Takes frames; with enough speech among them, the level is settled.
    pub(super) fn push(&mut self, frames: &mut Vec<Mels>) {
        for frame in frames.drain(..) {
            self.held.push(frame);
            if self.settled.is_some() {
                continue;
            }
            let level = mean(&frame);
            let place = self.sorted.partition_point(|&other| other < level);
            self.sorted.insert(place, level);
            let speech = self.sorted.len() - self.sorted.partition_point(|&level| level <= self.least());
            if speech >= ENOUGH || self.held.len() > MOST_HELD {
                self.settled = Some(self.judge());
            }
        }
    }

    /// Whether the level is known.
    pub(super) fn is_settled(&self) -> bool {
        self.settled.is_some()
    }

    /// Settles the level with what is there; false where nothing of it is speech.
    pub(super) fn settle(&mut self) -> bool {
        if self.settled.is_none() {
            let found = self.judge();
            if found.speech.is_empty() {
                return false;
            }
            self.settled = Some(found);
        }
        true
    }

    /// The speech that settled the level; none before it is settled.
    pub(super) fn speech(&self) -> &[Mels] {
        self.settled.as_ref().map_or(&[], |settled| &settled.speech)
    }

    /// What a frame must be louder than to count as speech.
    fn least(&self) -> f32 {
        self.sorted.get(self.sorted.len() / 10).map_or(f32::MAX, |floor| floor + OVER_FLOOR)
    }

    fn judge(&self) -> Settled {
        let least = self.least();
        let speech: Vec<Mels> = self.held.iter().filter(|frame| mean(frame) > least).copied().collect();
        Settled { offset: offset_of(&speech), speech }
    }

    /// The frames that may go on, at the model's level; none before it is settled.
    pub(super) fn take(&mut self) -> Vec<Mels> {
        let Some(offset) = self.settled.as_ref().map(|settled| settled.offset) else { return Vec::new() };
        let mut frames = std::mem::take(&mut self.held);
        frames.iter_mut().flatten().for_each(|energy| *energy += offset);
        frames
    }
}

/// Over the filters that every line fills.
fn mean(frame: &Mels) -> f32 {
    frame.iter().take(HEARD).sum::<f32>() / HEARD as f32
}

fn offset_of(speech: &[Mels]) -> f32 {
    let mut levels: Vec<f32> = speech.iter().map(mean).collect();
    levels.sort_by(f32::total_cmp);
    let loud = levels.get(levels.len() / 2..).unwrap_or_default();
    if loud.is_empty() {
        return 0.0;
    }
    let level = loud.iter().sum::<f32>() / loud.len() as f32;
    (MODEL - level).clamp(-MOST, MOST)
}

#[cfg(test)]
#[allow(clippy::indexing_slicing)]
mod tests {
    use super::*;

    fn frames(level: f32, count: usize) -> Vec<Mels> {
        vec![[level; super::super::features::FILTERS]; count]
    }

    #[test]
    fn waits_for_enough_speech_and_brings_it_to_the_models_level() {
        let mut level = Level::default();
        level.push(&mut frames(2.0, 40));
        level.push(&mut frames(8.0, ENOUGH - 1));
        assert!(!level.is_settled());
        assert!(level.take().is_empty());
        level.push(&mut frames(8.0, 1));
        assert!(level.is_settled());
        let out = level.take();
        assert_eq!(out.len(), 40 + ENOUGH);
        assert!((out[40][0] - MODEL).abs() < 1e-3);
        assert!((out[0][0] - (MODEL - 6.0)).abs() < 1e-3);
    }

    #[test]
    fn the_level_stays_what_it_was_settled_to() {
        let mut level = Level::default();
        level.push(&mut [frames(2.0, 40), frames(8.0, ENOUGH)].concat());
        level.take();
        level.push(&mut frames(9.0, 10));
        assert!((level.take()[0][0] - (MODEL + 1.0)).abs() < 1e-3);
    }

    #[test]
    fn how_the_audio_was_cut_does_not_matter() {
        let all: Vec<Mels> = (0..300).flat_map(|n| frames(2.0 + (n * 37 % 101) as f32 / 10.0, 1)).collect();
        let mut at_once = Level::default();
        at_once.push(&mut all.clone());
        let expected = at_once.take();
        for size in [1, 2, 7, 64] {
            let mut level = Level::default();
            all.chunks(size).for_each(|chunk| level.push(&mut chunk.to_vec()));
            assert_eq!(level.take(), expected, "in pieces of {size}");
            assert_eq!(level.speech(), at_once.speech(), "in pieces of {size}");
        }
    }

    #[test]
    fn silence_is_never_settled_and_is_not_held_for_ever() {
        let mut level = Level::default();
        level.push(&mut frames(2.0, 100));
        assert!(!level.settle());
        level.push(&mut frames(2.0, MOST_HELD));
        assert!(level.is_settled());
    }
}
