//! Signals to test with, and what is measured on them.
#![allow(dead_code)] // each test uses its own part

use std::f64::consts::TAU;

/// A sine of `amplitude`, beginning at phase 0.
pub(crate) fn sine(hz: f64, rate_hz: u32, amplitude: f64, samples: usize) -> Vec<i16> {
    (0..samples).map(|n| (amplitude * (TAU * hz * n as f64 / f64::from(rate_hz)).sin()).round() as i16).collect()
}

/// Something like a voice: 120 Hz and its harmonics under a slow swell, with some noise. Seeded.
pub(crate) fn voice(rate_hz: u32, samples: usize) -> Vec<i16> {
    let mut random = 0x2545_f491_u32;
    (0..samples)
        .map(|n| {
            let t = n as f64 / f64::from(rate_hz);
            let mut sum = 0.0;
            for harmonic in 1..=24 {
                let hz = 120.0 * f64::from(harmonic);
                let formant = 1.0 / (1.0 + ((hz - 600.0) / 500.0).powi(2)) + 0.02;
                sum += formant * (TAU * hz * t + f64::from(harmonic * harmonic)).sin();
            }
            random ^= random << 13;
            random ^= random >> 17;
            random ^= random << 5;
            let noise = f64::from(random >> 8) / f64::from(1 << 24) - 0.5;
            let swell = 0.6 + 0.4 * (TAU * 3.0 * t).sin();
            (3000.0 * swell * sum + 60.0 * noise).round() as i16
        })
        .collect()
}

/// Signal to noise of `found` against `wanted`, in decibels, with `found` trailing by `delay`.
pub(crate) fn snr_db(wanted: &[i16], found: &[i16], delay: usize) -> f64 {
    let (mut signal, mut noise) = (0.0, 0.0);
    for (a, b) in wanted.iter().zip(&found[delay..]) {
        let (a, b) = (f64::from(*a), f64::from(*b));
        signal += a * a;
        noise += (a - b) * (a - b);
    }
    10.0 * (signal / noise.max(1e-9)).log10()
}

/// The best [`snr_db`] over delays up to `most`, and that delay.
pub(crate) fn best_snr_db(wanted: &[i16], found: &[i16], most: usize) -> (f64, usize) {
    let wanted = &wanted[..wanted.len() - most];
    (0..=most)
        .map(|delay| (snr_db(wanted, found, delay), delay))
        .fold((f64::MIN, 0), |best, this| if this.0 > best.0 { this } else { best })
}

/// Root mean square.
pub(crate) fn rms(pcm: &[i16]) -> f64 {
    codecs::pcm::mean_square(pcm).sqrt()
}

/// Amplitude of the part of `pcm` at `hz`, by correlation with a sine and a cosine under a Hann
/// window.
pub(crate) fn amplitude_at(pcm: &[i16], hz: f64, rate_hz: u32) -> f64 {
    let (mut re, mut im, mut weight) = (0.0, 0.0, 0.0);
    for (n, &sample) in pcm.iter().enumerate() {
        let window = 0.5 - 0.5 * (TAU * n as f64 / pcm.len() as f64).cos();
        let angle = TAU * hz * n as f64 / f64::from(rate_hz);
        re += window * f64::from(sample) * angle.cos();
        im += window * f64::from(sample) * angle.sin();
        weight += window;
    }
    2.0 * (re * re + im * im).sqrt() / weight
}

/// The largest step between neighbouring samples.
pub(crate) fn largest_step(pcm: &[i16]) -> i32 {
    pcm.windows(2).map(|pair| (i32::from(pair[1]) - i32::from(pair[0])).abs()).max().unwrap_or(0)
}
