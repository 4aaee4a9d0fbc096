//! From audio to the acoustic model's features: mel cepstra, 100 a second, as PocketSphinx' own front end makes them.
//!
//! They are made here and not there for three reasons: two searches share them, each utterance starts from the same
//! state whoever spoke before on the same decoder, and a telephone's missing upper band can be made up for.

use std::f32::consts::PI;

/// The rate of the audio, Hz.
pub(super) const RATE_HZ: usize = 16_000;
/// Samples from one frame to the next: 10 ms.
pub(super) const SHIFT: usize = 160;
/// Coefficients per frame.
pub(super) const CEPSTRA: usize = 13;

const WINDOW: usize = 410;
const FFT: usize = 512;
const BINS: usize = FFT / 2 + 1;
const PRE_EMPHASIS: f32 = 0.97;
const LOG_FLOOR: f32 = 1e-4;

/// Mel filters, as the model's `feat.params` says.
pub(super) const FILTERS: usize = 25;
const LOWER_HZ: f32 = 130.0;
const UPPER_HZ: f32 = 6_800.0;
const LIFTER: f32 = 22.0;

/// One frame of cepstra.
pub(super) type Frame = [f32; CEPSTRA];

/// One frame of log mel energies.
pub(super) type Mels = [f32; FILTERS];

/// The tables and the samples not yet used up.
pub(super) struct Features {
    window: Vec<f32>,
    twiddles: Vec<(f32, f32)>,
    filters: Vec<Filter>,
    pending: Vec<f32>,
    last: f32,
}

struct Filter {
    first_bin: usize,
    weights: Vec<f32>,
}

impl Features {
    pub(super) fn new() -> Self {
        let window = (0..WINDOW).map(|n| 0.54 - 0.46 * (2.0 * PI * n as f32 / (WINDOW - 1) as f32).cos()).collect();
        let twiddles = (0..FFT / 2)
            .map(|k| {
                let angle = -2.0 * PI * k as f32 / FFT as f32;
                (angle.cos(), angle.sin())
            })
            .collect();
        Self { window, twiddles, filters: filters(), pending: Vec::with_capacity(2 * WINDOW), last: 0.0 }
    }

    /// Adds audio at 16 kHz and appends the frames of log mel energies that it completes.
    pub(super) fn push(&mut self, pcm: &[i16], frames: &mut Vec<Mels>) {
        for &sample in pcm {
            let sample = f32::from(sample);
            self.pending.push(sample - PRE_EMPHASIS * self.last);
            self.last = sample;
        }
        let mut used = 0;
        while let Some(window) = self.pending.get(used..used + WINDOW) {
            frames.push(self.mels(window));
            used += SHIFT;
        }
        self.pending.drain(..used);
    }

    fn mels(&self, samples: &[f32]) -> Mels {
        let mut spectrum = [(0.0f32, 0.0f32); FFT];
        for ((slot, sample), weight) in spectrum.iter_mut().zip(samples).zip(&self.window) {
            slot.0 = sample * weight;
        }
        fft(&mut spectrum, &self.twiddles);
        let mut power = [0.0f32; BINS];
        for (power, (re, im)) in power.iter_mut().zip(&spectrum) {
            *power = re * re + im * im;
        }
        let mut mels = [0.0; FILTERS];
        for (mel, filter) in mels.iter_mut().zip(&self.filters) {
            let bins = power.iter().skip(filter.first_bin);
            let energy: f32 = bins.zip(&filter.weights).map(|(power, weight)| power * weight).sum();
            *mel = (energy + LOG_FLOOR).ln();
        }
        mels
    }
}

/// The cepstrum of one frame of log mel energies.
pub(super) fn cepstrum(mels: &Mels) -> Frame {
    let count = FILTERS as f32;
    let mut frame = [0.0; CEPSTRA];
    for (i, out) in frame.iter_mut().enumerate() {
        let step = PI * i as f32 / count;
        let sum: f32 = mels.iter().zip(0..).map(|(mel, j)| mel * (step * (j as f32 + 0.5)).cos()).sum();
        let scale = if i == 0 { (1.0 / count).sqrt() } else { (2.0 / count).sqrt() };
        let lift = 1.0 + LIFTER / 2.0 * (i as f32 * PI / LIFTER).sin();
        *out = sum * scale * lift;
    }
    frame
}

fn mel_of(hz: f32) -> f32 {
    2595.0 * (1.0 + hz / 700.0).log10()
}

fn hz_of(mel: f32) -> f32 {
    700.0 * (10f32.powf(mel / 2595.0) - 1.0)
}

fn filters() -> Vec<Filter> {
    let bin_hz = RATE_HZ as f32 / FFT as f32;
    let (low, high) = (mel_of(LOWER_HZ), mel_of(UPPER_HZ));
    let width = (high - low) / (FILTERS + 1) as f32;
    let edge = |n: usize| (hz_of(low + n as f32 * width) / bin_hz + 0.5).floor() * bin_hz;
    let filter = |n: usize| {
        let (left, middle, right) = (edge(n), edge(n + 1), edge(n + 2));
        let first_bin = (left / bin_hz) as usize;
        let last_bin = ((right / bin_hz) as usize).min(BINS - 1);
        let weights = (first_bin..=last_bin).map(|bin| {
            let hz = bin as f32 * bin_hz;
            let (rise, fall) = ((hz - left) / (middle - left), (right - hz) / (right - middle));
            rise.min(fall).max(0.0) * 2.0 / (right - left)
        });
        Filter { first_bin, weights: weights.collect() }
    };
    (0..FILTERS).map(filter).collect()
}

/// In-place radix-2 transform of 512 points.
fn fft(data: &mut [(f32, f32); FFT], twiddles: &[(f32, f32)]) {
    let bits = FFT.trailing_zeros();
    for i in 0..FFT {
        let j = i.reverse_bits() >> (usize::BITS - bits);
        if i < j {
            data.swap(i, j);
        }
    }
    let mut size = 2;
    while size <= FFT {
        let stride = FFT / size;
        for block in data.chunks_exact_mut(size) {
            let (low, high) = block.split_at_mut(size / 2);
            for ((a, b), &(c, s)) in low.iter_mut().zip(high).zip(twiddles.iter().step_by(stride)) {
                let turned = (b.0 * c - b.1 * s, b.0 * s + b.1 * c);
                *b = (a.0 - turned.0, a.1 - turned.1);
                *a = (a.0 + turned.0, a.1 + turned.1);
            }
        }
        size *= 2;
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use super::*;

    #[test]
    fn the_fast_transform_is_the_slow_one() {
        let features = Features::new();
        let signal: Vec<f32> = (0..FFT).map(|n| (n as f32 * 0.37).sin() + (n % 5) as f32 * 0.1).collect();
        let mut data = [(0.0, 0.0); FFT];
        data.iter_mut().zip(&signal).for_each(|(slot, sample)| slot.0 = *sample);
        fft(&mut data, &features.twiddles);
        for bin in [0, 1, 30, 255, 256] {
            let turn = |n: usize| -2.0 * std::f64::consts::PI * (bin * n % FFT) as f64 / FFT as f64;
            let sum = |part: fn(f64) -> f64| (0..FFT).map(|n| f64::from(signal[n]) * part(turn(n))).sum::<f64>();
            let (re, im) = (sum(f64::cos), sum(f64::sin));
            assert!((f64::from(data[bin].0) - re).abs() < 1e-2 && (f64::from(data[bin].1) - im).abs() < 1e-2, "{bin}");
        }
    }

    #[test]
    fn a_tone_is_loudest_in_its_own_filter() {
        let mut last = 0;
        for hz in [300.0f32, 1_000.0, 3_000.0, 6_000.0] {
            let step = 2.0 * PI * hz / RATE_HZ as f32;
            let pcm: Vec<i16> = (0..1_600).map(|n| ((n as f32 * step).sin() * 8_000.0) as i16).collect();
            let mut frames = Vec::new();
            Features::new().push(&pcm, &mut frames);
            let loudest = frames[3].iter().zip(0..).max_by(|one, other| one.0.total_cmp(other.0)).unwrap().1;
            assert!(loudest > last, "{hz} Hz in filter {loudest}");
            last = loudest;
        }
    }

    #[test]
    fn frames_do_not_depend_on_how_audio_is_cut() {
        let pcm: Vec<i16> = (0..5_000).map(|n| ((n * n) % 3_001) as i16).collect();
        let cut = |size: usize| {
            let (mut features, mut frames) = (Features::new(), Vec::new());
            pcm.chunks(size).for_each(|piece| features.push(piece, &mut frames));
            frames
        };
        assert_eq!(cut(5_000).len(), (5_000 - WINDOW) / SHIFT + 1);
        assert_eq!(cut(5_000), cut(37));
    }

    #[test]
    fn a_flat_spectrum_has_its_level_in_the_first_coefficient_only() {
        let frame = cepstrum(&[3.0; FILTERS]);
        assert!((frame[0] - 15.0).abs() < 1e-3);
        assert!(frame[1..].iter().all(|value| value.abs() < 1e-3));
    }
}
