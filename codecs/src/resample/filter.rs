//! The filter of one ratio: its design and its use.

use std::f64::consts::PI;

use crate::SampleRate;
use crate::pcm::saturate;

/// Length of the filter in periods of the lower rate.
const LENGTH: usize = 48;
/// Shape of the Kaiser window: about 70 dB of rejection.
const BETA: f64 = 6.8;
/// Middle of the transition, in parts of half the lower rate.
const CUTOFF: f64 = 0.94;
/// Most phases: 1280 for 11.025 to 32 kHz; 441 for 8 to 44.1 kHz.
const MAX_PHASES: u32 = 1280;
/// Coefficients have so many bits after the point. The magnitudes of half a phase sum up to less
/// than 2, so that full-scale audio cannot overflow the 32 bits it is summed in.
const COEFFICIENT_BITS: u32 = 15;

/// Coefficients by phase, and how to step through them.
#[derive(Debug)]
pub(super) struct Filter {
    up: usize,
    down: usize,
    taps: usize,
    /// Input samples from one output to the next: whole ones, and the rest in phases.
    step: (usize, usize),
    /// `taps` for each of `up` phases; within a phase in the order of the window, oldest first.
    coefficients: Box<[i16]>,
}

impl Filter {
    /// Computes the filter, or `None` where the ratio has too many phases or a rate is out of
    /// range.
    pub(super) fn design(from: SampleRate, to: SampleRate) -> Option<Self> {
        let range = 8_000..=48_000;
        if !range.contains(&from.hz()) || !range.contains(&to.hz()) {
            return None;
        }
        let divisor = gcd(from.hz(), to.hz());
        let (up, down) = (to.hz() / divisor, from.hz() / divisor);
        if up > MAX_PHASES || down > MAX_PHASES {
            return None;
        }
        let (up, down) = (up as usize, down as usize);
        // in input samples; each half a multiple of 8 for the sake of vector instructions
        let taps = (LENGTH * down.max(up) / up).next_multiple_of(16);
        let coefficients = (0..up).flat_map(|phase| phase_of(phase, up, down, taps)).collect();
        Some(Self { up, down, taps, step: (down / up, down % up), coefficients })
    }

    pub(super) const fn up(&self) -> usize {
        self.up
    }

    pub(super) const fn down(&self) -> usize {
        self.down
    }

    /// Samples in a window.
    pub(super) const fn taps(&self) -> usize {
        self.taps
    }

    /// One output sample from the window of newest input samples.
    #[inline]
    pub(super) fn apply(&self, phase: usize, window: &[i16]) -> i16 {
        let start = phase * self.taps;
        let coefficients = &self.coefficients[start..start + self.taps];
        let half = self.taps / 2;
        let older = dot(&window[..half], &coefficients[..half]);
        let newer = dot(&window[half..], &coefficients[half..]);
        let rounding = 1 << (COEFFICIENT_BITS - 1);
        let sum = (i64::from(older) + i64::from(newer) + rounding) >> COEFFICIENT_BITS;
        saturate(sum as i32)
    }

    /// Input samples from this output to the next, and the next one's phase.
    #[inline]
    pub(super) const fn advance(&self, phase: usize) -> (usize, usize) {
        let next = phase + self.step.1;
        if next >= self.up { (self.step.0 + 1, next - self.up) } else { (self.step.0, next) }
    }
}

/// Of slices of one length, a multiple of 8. Eight products at a time are what compilers turn into the vectors' own
/// multiply-and-add of 16 bits (rustc 1.95: a plain loop takes 1.4 times the instructions, four sums in parallel twice).
#[inline]
fn dot(window: &[i16], coefficients: &[i16]) -> i32 {
    let (window, _) = window.as_chunks::<8>();
    let (coefficients, _) = coefficients.as_chunks::<8>();
    let mut sum = 0_i32;
    for (a, b) in window.iter().zip(coefficients) {
        let products = a.iter().zip(b).map(|(&a, &b)| i32::from(a) * i32::from(b));
        sum = sum.wrapping_add(products.fold(0, i32::wrapping_add));
    }
    sum
}

/// Coefficients of one phase, normalised to a gain of exactly one at 0 Hz.
fn phase_of(phase: usize, up: usize, down: usize, taps: usize) -> Vec<i16> {
    let lower = up.min(down) as f64 / down as f64; // lower rate over input rate
    let half = taps as f64 / 2.0;
    let exact: Vec<f64> = (0..taps)
        .map(|tap| {
            // distance from the output's instant, in input samples
            let age = (taps - 1 - tap) as f64 + phase as f64 / up as f64;
            let t = age - half;
            sinc(t * lower * CUTOFF) * kaiser(t / half)
        })
        .collect();
    let gain: f64 = exact.iter().sum();
    let one = f64::from(1_u32 << COEFFICIENT_BITS);
    let mut rounded: Vec<i16> = exact.iter().map(|c| (c / gain * one).round() as i16).collect();
    // what rounding took from the sum goes to the largest coefficient
    let missing = (1_i32 << COEFFICIENT_BITS) - rounded.iter().map(|&c| i32::from(c)).sum::<i32>();
    if let Some(largest) = rounded.iter_mut().max_by_key(|c| c.unsigned_abs()) {
        *largest = saturate(i32::from(*largest) + missing);
    }
    rounded
}

fn sinc(x: f64) -> f64 {
    if x.abs() < 1e-9 { 1.0 } else { (PI * x).sin() / (PI * x) }
}

/// The window at `x` from -1 to 1; 0 outside.
fn kaiser(x: f64) -> f64 {
    let inside = 1.0 - x * x;
    if inside < 0.0 {
        return 0.0;
    }
    bessel_i0(BETA * inside.sqrt()) / bessel_i0(BETA)
}

/// Modified Bessel function of the first kind, order 0, by its power series.
fn bessel_i0(x: f64) -> f64 {
    let quarter = x * x / 4.0;
    let mut term = 1.0;
    let mut sum = 1.0;
    for n in 1..40 {
        term *= quarter / f64::from(n * n);
        sum += term;
    }
    sum
}

const fn gcd(a: u32, b: u32) -> u32 {
    let (mut a, mut b) = (a, b);
    while b != 0 {
        (a, b) = (b, a % b);
    }
    a
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn full_scale_audio_fits_the_sums() {
        let rates = [8_000, 11_025, 12_000, 16_000, 22_050, 24_000, 32_000, 44_100, 48_000];
        for from in rates.map(SampleRate) {
            for to in rates.map(SampleRate) {
                let filter = Filter::design(from, to).unwrap();
                for half in filter.coefficients.chunks(filter.taps / 2) {
                    let sum: i64 = half.iter().map(|&c| i64::from(c).abs()).sum();
                    assert!(sum * 32_768 < 1 << 31, "{from} to {to}: {sum}");
                }
                for phase in filter.coefficients.chunks(filter.taps) {
                    let sum: i64 = phase.iter().map(|&c| i64::from(c)).sum();
                    assert_eq!(sum, 1 << COEFFICIENT_BITS, "{from} to {to}");
                }
            }
        }
    }
}
