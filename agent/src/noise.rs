//! Noise control: what recognisers get, without the noise of the caller's line and surroundings.
//!
//! RNNoise (the crate `nnnoiseless`) holds down, band by band, what is no speech; it was trained on speech at 48 kHz, so that a line's sound is
//! brought up to that and back. What comes out is some 25 ms behind. It takes something of the speech too: on a quiet line recognition is worse with it. So it works
//! only while the line is noisy, by the quietest of the latest frames, or the caller so quiet that their speech lies near to what noise there is;
//! `docs/adr/0004-noise-control.md` has what was measured.

use std::borrow::Cow;

use codecs::pcm::{SampleRate, from_f32, level_dbov};
use codecs::resample::Resampler;
use nnnoiseless::DenoiseState;

/// A line whose quietest frame of late is louder is noisy, and stays so until that is quieter than the second, in dB to full scale.
const NOISY_DB: f32 = -56.0;
const QUIET_DB: f32 = -60.0;
/// Whoever speaks no louder than this over the line's noise is quiet, and stays so until they are louder than the second, in dB.
const NEAR_DB: f32 = 38.0;
const FAR_DB: f32 = 42.0;
/// What is quieter is no noise that could be heard: the silence that lines are filled with, in dB to full scale.
const SILENT_DB: f32 = -78.0;
/// Frames that are so much louder than the noise are speech, for as long as nothing better is known, in dB.
const OVER_NOISE_DB: f32 = 12.0;
/// So many frames of speech say how loud somebody speaks: a syllable. It is forgotten at the pace that follows, in dB a frame of speech.
const SYLLABLE: u32 = 8;
const FORGOTTEN_DB: f32 = 0.02;
/// The frames that are looked at: two seconds of 20 ms, in which nobody speaks without a pause.
const LATEST: usize = 100;
/// What the network works at.
const RATE: SampleRate = SampleRate::HZ_48000;
const FRAME: usize = DenoiseState::FRAME_SIZE;

/// Listens to one line of one rate.
pub struct NoiseControl {
    rate: SampleRate,
    /// How loud the latest frames were; the one at `next` is the oldest.
    levels_db: [f32; LATEST],
    next: usize,
    is_noisy: bool,
    /// The loudest that was said, and how many frames of speech there were.
    speech_db: f32,
    spoken: u32,
    is_quiet_caller: bool,
    network: Box<DenoiseState<'static>>,
    up: Resampler,
    down: Resampler,
    /// At the network's rate: what fills no frame yet.
    waiting: Vec<f32>,
    /// At the line's rate: what was not taken yet.
    out: Vec<i16>,
}

impl std::fmt::Debug for NoiseControl {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("NoiseControl").field("rate", &self.rate).finish_non_exhaustive()
    }
}

impl NoiseControl {
    /// For a line of this rate; `None` where its sound cannot be brought to the network's.
    #[must_use]
    pub fn new(rate: SampleRate) -> Option<Self> {
        let (up, down) = (Resampler::new(rate, RATE).ok()?, Resampler::new(RATE, rate).ok()?);
        let (levels_db, network) = ([f32::MIN; LATEST], DenoiseState::new());
        Some(Self {
            rate,
            levels_db,
            next: 0,
            is_noisy: false,
            speech_db: f32::MIN,
            spoken: 0,
            is_quiet_caller: false,
            network,
            up,
            down,
            waiting: Vec::new(),
            out: Vec::new(),
        })
    }

    /// The rate it is for.
    #[must_use]
    pub fn rate(&self) -> SampleRate {
        self.rate
    }

    /// Whether it works: the line is noisy, or the caller quiet.
    #[must_use]
    pub fn works(&self) -> bool {
        self.is_noisy || self.is_quiet_caller
    }

    /// What is left of a frame of 20 ms without its noise: as many samples, those of a moment before; the frame itself where it does not work.
    pub fn take_out<'a>(&mut self, pcm: &'a [i16]) -> Cow<'a, [i16]> {
        let level_db = level_dbov(pcm) as f32;
        if let Some(place) = self.levels_db.get_mut(self.next) {
            *place = level_db;
        }
        self.next = (self.next + 1) % LATEST;
        let quietest_db = self.levels_db.iter().copied().fold(f32::MAX, f32::min);
        self.is_noisy = quietest_db > if self.is_noisy { QUIET_DB } else { NOISY_DB };
        self.listen(level_db, quietest_db);
        if self.works() {
            return Cow::Owned(self.clean(pcm));
        }
        self.waiting.clear();
        self.out.clear();
        Cow::Borrowed(pcm)
    }

    /// How far somebody's speech lies over the noise, by the loudest of what they said.
    fn listen(&mut self, level_db: f32, quietest_db: f32) {
        // A line without any noise, or of which too little is known yet, has nothing to take out.
        if quietest_db < SILENT_DB || level_db < quietest_db + OVER_NOISE_DB {
            return;
        }
        self.speech_db = level_db.max(self.speech_db - FORGOTTEN_DB);
        self.spoken = self.spoken.saturating_add(1);
        if self.spoken >= SYLLABLE {
            let near_db = if self.is_quiet_caller { FAR_DB } else { NEAR_DB };
            self.is_quiet_caller = self.speech_db - quietest_db < near_db;
        }
    }

    fn clean(&mut self, pcm: &[i16]) -> Vec<i16> {
        let mut wide = vec![0; self.up.max_output(pcm.len())];
        let made = self.up.process(pcm, &mut wide);
        self.waiting.extend(wide.iter().take(made).map(|sample| f32::from(*sample)));
        let mut clean = [0.0; FRAME];
        while self.waiting.len() >= FRAME {
            let frame: Vec<f32> = self.waiting.drain(..FRAME).collect();
            self.network.process_frame(&mut clean, &frame);
            let clean = clean.map(from_f32);
            let mut narrow = vec![0; self.down.max_output(FRAME)];
            let made = self.down.process(&clean, &mut narrow);
            self.out.extend(narrow.iter().take(made));
        }
        let missing = pcm.len().saturating_sub(self.out.len());
        let mut left = vec![0; missing];
        left.extend(self.out.drain(..pcm.len() - missing));
        left
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// Of so many dB to full scale.
    fn noise(seed: &mut u32, samples: usize, loud: i16) -> Vec<i16> {
        let mut next = || {
            *seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (*seed >> 16) as i16
        };
        (0..samples).map(|_| (i32::from(next()) * i32::from(loud) / 32_768) as i16).collect()
    }

    #[test]
    fn a_quiet_line_is_left_as_it_is_and_a_noisy_one_is_noticed_and_left_again() {
        let rate = SampleRate::HZ_8000;
        let (mut control, mut seed) = (NoiseControl::new(rate).unwrap(), 7);
        // Steps of 20 ms: a line's own noise, speech over it with pauses, noise, and quiet again.
        for n in 0..300 {
            let frame = noise(&mut seed, 160, if n % 20 < 15 { 9_000 } else { 40 });
            assert_eq!(control.take_out(&frame), frame, "{n}");
        }
        let mut noisy_after = None;
        for n in 0..200 {
            control.take_out(&noise(&mut seed, 160, 600));
            if control.works() {
                noisy_after.get_or_insert(n);
            }
        }
        assert!(noisy_after.is_some_and(|frames| (80..=100).contains(&frames)), "{noisy_after:?}");
        let frame = noise(&mut seed, 160, 20);
        assert_eq!(control.take_out(&frame), frame);
    }

    #[test]
    fn whoever_speaks_quietly_is_noticed_once_they_have_said_a_syllable_and_stays_so_in_pauses() {
        let mut seed = 3;
        // Speech of so much over a line's own noise, in words of 0.4 s.
        let works_after = |control: &mut NoiseControl, seed: &mut u32, loud: i16| {
            (0..400).find(|n| {
                control.take_out(&noise(seed, 160, if n % 40 < 20 && *n >= 100 { loud } else { 30 }));
                control.works()
            })
        };
        let mut control = NoiseControl::new(SampleRate::HZ_8000).unwrap();
        // 50 dB over it is nobody quiet, 34 dB is.
        assert_eq!(works_after(&mut control, &mut seed, 9_500), None);
        let mut control = NoiseControl::new(SampleRate::HZ_8000).unwrap();
        let after = works_after(&mut control, &mut seed, 1_500);
        assert!(after.is_some_and(|frames| (100..140).contains(&frames)), "{after:?}");
        for _ in 0..500 {
            control.take_out(&noise(&mut seed, 160, 30));
        }
        assert!(control.works(), "nobody said anything else since");
        // They come nearer.
        for _ in 0..20 {
            control.take_out(&noise(&mut seed, 160, 9_500));
        }
        assert!(!control.works());
        // Without any noise there is nothing to take out.
        let mut control = NoiseControl::new(SampleRate::HZ_8000).unwrap();
        for n in 0..200 {
            control.take_out(&noise(&mut seed, 160, if n % 40 < 20 { 100 } else { 0 }));
        }
        assert!(!control.works());
    }

    #[test]
    fn steady_noise_is_held_down_and_every_frame_stays_as_long_as_it_was() {
        for rate in [SampleRate::HZ_8000, SampleRate::HZ_16000] {
            let (mut control, mut seed) = (NoiseControl::new(rate).unwrap(), 1);
            let mut left_db = 0.0;
            for _ in 0..250 {
                let frame = noise(&mut seed, rate.samples_in_ms(20), 1_000);
                let left = control.take_out(&frame);
                assert_eq!(left.len(), frame.len());
                left_db = level_dbov(&left) - level_dbov(&frame);
            }
            assert!(control.works());
            assert!(left_db < -10.0, "{left_db} dB at {} Hz", rate.hz());
        }
    }
}
