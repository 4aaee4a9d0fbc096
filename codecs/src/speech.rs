//! The fast opinion on whether somebody speaks: earshot, for ducking and barge-in.
//!
//! earshot takes 16 kHz audio in frames of 16 ms. It misfires where the band of 4 to 8 kHz is empty,
//! so narrowband audio is brought to 16 kHz by linear interpolation, whose images fill that band.
//! Wideband audio is first averaged down to about 8 kHz: a narrowband call that comes over a
//! wideband codec is as empty up there, and speech is found as well without its upper half.

use crate::SampleRate;
use earshot::Detector;

/// Samples in one of earshot's frames (16 ms at 16 kHz).
const FRAME_SAMPLES: usize = 256;
const DETECTOR_HZ: u64 = 16_000;
const NARROW_HZ: u64 = 8_000;
/// One step of the interpolation's position.
const ONE: u64 = 1 << 16;

/// Listens to one stream. About 9 KiB, most of it earshot's, on the heap. No allocation after
/// [`SpeechGate::new`].
pub struct SpeechGate {
    detector: Box<Detector>,
    frame: [i16; FRAME_SAMPLES],
    filled: usize,
    /// Input samples averaged into one before the interpolation: more than 1 from 16 kHz on.
    average: u32,
    sum: i32,
    summed: u32,
    /// Position of the next output between `last` (0) and the newest input (`ONE`), and its step.
    position: u64,
    step: u64,
    last: i32,
    probability: f32,
}

impl SpeechGate {
    /// A gate for audio at `rate`.
    #[must_use]
    pub fn new(rate: SampleRate) -> Self {
        let hz = u64::from(rate.hz().clamp(1_000, 384_000));
        let average = (hz / NARROW_HZ).max(1);
        let step = hz * ONE / (average * DETECTOR_HZ);
        Self {
            detector: Detector::default_boxed(),
            frame: [0; FRAME_SAMPLES],
            filled: 0,
            average: average as u32,
            sum: 0,
            summed: 0,
            position: step,
            step,
            last: 0,
            probability: 0.0,
        }
    }

    /// Listens to `pcm` (any length) and returns the probability of speech, 0 to 1, at its end, if
    /// at least one more frame of 16 ms is complete.
    pub fn push(&mut self, pcm: &[i16]) -> Option<f32> {
        let mut judged = false;
        for &sample in pcm {
            self.sum += i32::from(sample);
            self.summed += 1;
            if self.summed == self.average {
                let sample = self.sum / self.average as i32;
                self.sum = 0;
                self.summed = 0;
                judged |= self.interpolate(sample);
            }
        }
        judged.then_some(self.probability)
    }

    /// The newest probability of speech, 0 to 1; 0 before the first frame.
    #[must_use]
    pub const fn probability(&self) -> f32 {
        self.probability
    }

    /// Forgets what it heard.
    pub fn reset(&mut self) {
        self.detector.reset();
        self.filled = 0;
        self.sum = 0;
        self.summed = 0;
        self.position = self.step;
        self.last = 0;
        self.probability = 0.0;
    }

    /// Puts out what lies between the last sample and this one. True if a frame was judged.
    fn interpolate(&mut self, sample: i32) -> bool {
        let mut judged = false;
        while self.position <= ONE {
            let part = (i64::from(sample - self.last) * self.position as i64) >> 16;
            let value = i64::from(self.last) + part;
            judged |= self.put(value as i16);
            self.position += self.step;
        }
        self.position -= ONE;
        self.last = sample;
        judged
    }

    fn put(&mut self, sample: i16) -> bool {
        if let Some(slot) = self.frame.get_mut(self.filled) {
            *slot = sample;
        }
        self.filled += 1;
        if self.filled < FRAME_SAMPLES {
            return false;
        }
        self.filled = 0;
        self.probability = self.detector.predict_i16(&self.frame).clamp(0.0, 1.0);
        true
    }
}
