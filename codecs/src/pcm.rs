//! Sample rates, and the few things done to plain PCM everywhere.

use std::fmt;
use std::time::Duration;

/// Samples per second of one channel, in hertz.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SampleRate(pub u32);

impl SampleRate {
    /// Narrowband telephone audio: G.711.
    pub const HZ_8000: Self = Self(8_000);
    /// Wideband audio: G.722, speech recognisers.
    pub const HZ_16000: Self = Self(16_000);
    /// Half the rate of a compact disc: some synthesisers.
    pub const HZ_22050: Self = Self(22_050);
    /// Synthesisers behind HTTP interfaces.
    pub const HZ_24000: Self = Self(24_000);
    /// Compact disc, and L16 by static payload type.
    pub const HZ_44100: Self = Self(44_100);
    /// Fullband: Opus, sound cards.
    pub const HZ_48000: Self = Self(48_000);

    /// The rate in hertz.
    #[must_use]
    pub const fn hz(self) -> u32 {
        self.0
    }

    /// Whole samples in `duration`, rounded down.
    #[must_use]
    pub fn samples_in(self, duration: Duration) -> usize {
        let samples = duration.as_nanos().saturating_mul(u128::from(self.0)) / 1_000_000_000;
        usize::try_from(samples).unwrap_or(usize::MAX)
    }

    /// Whole samples in `ms` milliseconds, rounded down.
    #[must_use]
    pub const fn samples_in_ms(self, ms: u32) -> usize {
        (self.0 as u64 * ms as u64 / 1000) as usize
    }

    /// Whole samples in one millisecond, rounded down (22 at 22.05 kHz).
    #[must_use]
    pub const fn samples_per_ms(self) -> usize {
        (self.0 / 1000) as usize
    }

    /// How long `samples` samples last; zero at a rate of zero.
    #[must_use]
    pub fn duration_of(self, samples: usize) -> Duration {
        let nanos = (samples as u128 * 1_000_000_000).checked_div(u128::from(self.0)).unwrap_or(0);
        Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
    }
}

impl fmt::Display for SampleRate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} Hz", self.0)
    }
}

/// Rounds to the nearest 16-bit sample, and clips what does not fit. Not-a-number is silence.
#[must_use]
pub fn from_f32(sample: f32) -> i16 {
    // `as` saturates, and turns NaN into 0.
    sample.round() as i16
}

/// Clips to 16 bits.
#[must_use]
pub const fn saturate(sample: i32) -> i16 {
    if sample > i16::MAX as i32 {
        i16::MAX
    } else if sample < i16::MIN as i32 {
        i16::MIN
    } else {
        sample as i16
    }
}

/// Mean square of the samples (full scale: 32768 squared); 0 of nothing.
#[must_use]
pub fn mean_square(pcm: &[i16]) -> f64 {
    if pcm.is_empty() {
        return 0.0;
    }
    let sum: u64 = pcm.iter().map(|&s| u64::from(i32::from(s).unsigned_abs().pow(2))).sum();
    sum as f64 / pcm.len() as f64
}

/// Level in decibels relative to overload (0 dBov: the RMS of a full-scale square wave), never
/// under -127, which also stands for digital silence.
#[must_use]
pub fn level_dbov(pcm: &[i16]) -> f64 {
    let mean = mean_square(pcm) / (32768.0 * 32768.0);
    if mean > 0.0 { (10.0 * mean.log10()).max(-127.0) } else { -127.0 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_and_durations_agree() {
        assert_eq!(SampleRate::HZ_8000.samples_in(Duration::from_millis(20)), 160);
        assert_eq!(SampleRate::HZ_22050.samples_in(Duration::from_millis(20)), 441);
        assert_eq!(SampleRate::HZ_48000.samples_in_ms(60), 2880);
        assert_eq!(SampleRate::HZ_16000.duration_of(320), Duration::from_millis(20));
        assert_eq!(SampleRate(0).duration_of(320), Duration::ZERO);
        assert_eq!(SampleRate::HZ_48000.samples_in(Duration::MAX), usize::MAX);
    }

    #[test]
    fn levels_are_relative_to_overload() {
        assert_eq!(level_dbov(&[]), -127.0);
        assert_eq!(level_dbov(&[0; 160]), -127.0);
        assert!(level_dbov(&[i16::MIN; 160]).abs() < 1e-9);
        assert!((level_dbov(&[3277; 160]) + 20.0).abs() < 0.01);
    }

    #[test]
    fn conversions_clip() {
        assert_eq!(from_f32(f32::NAN), 0);
        assert_eq!(from_f32(1e9), i16::MAX);
        assert_eq!(saturate(-40_000), i16::MIN);
        assert_eq!(saturate(123), 123);
    }
}
