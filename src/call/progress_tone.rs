//! The tones that tell a user how a call goes that we place for them while their phone is up already (ITU-T E.180 section 5 and 7): 425 Hz, as
//! most of Europe has it.

use std::sync::Arc;

use codecs::pcm::SampleRate;

/// One frequency, quiet enough for a headset: a peak of about -18 dBov.
const HZ: f64 = 425.0;
const PEAK: f64 = 4_000.0;

/// What a tone tells.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProgressTone {
    /// It rings there: one second in five.
    Ringing,
    /// Nobody is to be had: 480 ms of 960.
    Busy,
}

impl ProgressTone {
    /// How long it sounds and is silent, in milliseconds: whole periods of the frequency, so that it begins and ends at zero.
    fn cadence(self) -> (usize, usize) {
        match self {
            Self::Ringing => (1_000, 4_000),
            Self::Busy => (480, 480),
        }
    }

    /// It, once, at this rate: to be played over and over.
    #[must_use]
    pub fn at(self, rate: SampleRate) -> Arc<[i16]> {
        let hz = rate.hz() as usize;
        let (on_ms, off_ms) = self.cadence();
        let sample = |n: usize| ((std::f64::consts::TAU * HZ * n as f64 / hz as f64).sin() * PEAK) as i16;
        let silence = std::iter::repeat_n(0, hz * off_ms / 1_000);
        (0..hz * on_ms / 1_000).map(sample).chain(silence).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tone_sounds_and_is_silent_for_as_long_as_it_says_without_a_click() {
        let ringing = ProgressTone::Ringing.at(SampleRate::HZ_8000);
        assert_eq!(ringing.len(), 40_000);
        assert!(ringing.iter().take(8_000).any(|sample| *sample > 3_900));
        assert!(ringing.iter().skip(8_000).all(|sample| *sample == 0));
        assert!(ringing.get(7_999).is_some_and(|last| last.abs() < 1_400), "{:?}", ringing.get(7_999));
        assert_eq!(ProgressTone::Busy.at(SampleRate::HZ_48000).len(), 46_080);
    }
}
