//! A stereo recording as frames of level and extent: small enough for calls of hours.

use std::path::Path;

use codecs::pcm::SampleRate;

use crate::recording::Recorded;

/// The length of a frame.
pub const FRAME_MS: f64 = 5.0;

/// One side's sound in one frame.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Frame {
    /// Mean square of the samples, full scale 1.0.
    pub mean_square: f32,
    /// The lowest sample.
    pub low: i16,
    /// The highest sample.
    pub high: i16,
}

/// Both sides of a call.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Sound {
    /// Left: the caller.
    pub caller: Vec<Frame>,
    /// Right: the agent.
    pub agent: Vec<Frame>,
}

impl Sound {
    /// From pairs of samples, caller first. A last frame that isn't whole is left out.
    pub fn of(rate: SampleRate, pairs: impl IntoIterator<Item = (i16, i16)>) -> Self {
        let mut sound = Self::default();
        let mut builder = Builder::new(rate);
        for (caller, agent) in pairs {
            builder.push(caller, agent, &mut sound);
        }
        sound
    }

    /// Reads a recording, WAV or Ogg Opus.
    ///
    /// # Errors
    /// The file cannot be read, is sealed or of another kind. What is there of a file that breaks off is taken.
    pub fn read(path: &Path) -> anyhow::Result<Self> {
        let recorded = Recorded::open(path)?;
        Ok(Self::of(recorded.rate(), recorded.map(|[caller, agent]| (caller, agent))))
    }

    /// How long it is, in whole frames.
    #[must_use]
    pub fn duration_ms(&self) -> f64 {
        self.caller.len() as f64 * FRAME_MS
    }
}

/// Samples to frames. Frames of a rate that 5 ms do not divide differ by a sample.
struct Builder {
    per_frame: f64,
    due: f64,
    samples: u64,
    in_frame: usize,
    sums: [f64; 2],
    extents: [(i16, i16); 2],
}

impl Builder {
    fn new(rate: SampleRate) -> Self {
        let per_frame = f64::from(rate.hz()) * FRAME_MS / 1_000.0;
        Self { per_frame, due: per_frame, samples: 0, in_frame: 0, sums: [0.0; 2], extents: [(0, 0); 2] }
    }

    fn push(&mut self, caller: i16, agent: i16, sound: &mut Sound) {
        for ((sum, extent), sample) in self.sums.iter_mut().zip(&mut self.extents).zip([caller, agent]) {
            *sum += (f64::from(sample) / 32_768.0).powi(2);
            *extent = (extent.0.min(sample), extent.1.max(sample));
        }
        self.samples += 1;
        self.in_frame += 1;
        if (self.samples as f64) < self.due {
            return;
        }
        self.due += self.per_frame;
        let count = self.in_frame as f64;
        let frame = |sum: f64, (low, high)| Frame { mean_square: (sum / count) as f32, low, high };
        sound.caller.push(frame(self.sums[0], self.extents[0]));
        sound.agent.push(frame(self.sums[1], self.extents[1]));
        self.in_frame = 0;
        self.sums = [0.0; 2];
        self.extents = [(0, 0); 2];
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn frames_keep_time_at_rates_that_five_ms_do_not_divide() {
        for rate in [SampleRate::HZ_8000, SampleRate::HZ_22050, SampleRate::HZ_44100] {
            let sound = Sound::of(rate, std::iter::repeat_n((100, -100), rate.hz() as usize * 10));
            assert_eq!(sound.duration_ms(), 10_000.0, "{rate}");
            assert_eq!((sound.caller[7].high, sound.caller[7].low), (100, 0));
            assert_eq!((sound.agent[7].high, sound.agent[7].low), (0, -100));
        }
    }

    #[test]
    fn a_file_of_another_kind_is_refused_with_what_it_is() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("mono.wav");
        let spec = hound::WavSpec {
            channels: 1,
            sample_rate: 8_000,
            bits_per_sample: 16,
            sample_format: hound::SampleFormat::Int,
        };
        hound::WavWriter::create(&path, spec).unwrap().finalize().unwrap();
        assert!(Sound::read(&path).unwrap_err().to_string().contains("1 channels"));
        std::fs::write(&path, b"no sound").unwrap();
        assert!(Sound::read(&path).is_err());
        std::fs::write(&path, b"OVREC\x02\r\n").unwrap();
        assert!(Sound::read(&path).unwrap_err().to_string().contains("recording open"));
    }
}
