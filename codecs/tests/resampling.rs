//! The resampler in figures: ripple, images and aliases, delay, and that it streams.
#![allow(clippy::unwrap_used)]

#[path = "support/signal.rs"]
mod signal;

use codecs::resample::{LinearUpsampler, Resampler};
use codecs::{CodecError, SampleRate};

const RATES: [u32; 6] = [8_000, 16_000, 22_050, 24_000, 44_100, 48_000];
const AMPLITUDE: f64 = 20_000.0;

fn convert(from: u32, to: u32, pcm: &[i16]) -> Vec<i16> {
    let mut resampler = Resampler::new(SampleRate(from), SampleRate(to)).unwrap();
    let mut out = vec![0; resampler.max_output(pcm.len())];
    let written = resampler.process(pcm, &mut out);
    out.truncate(written);
    out
}

/// What a sine of `hz` becomes: without the beginning, where the filter fills.
fn response(from: u32, to: u32, hz: f64) -> Vec<i16> {
    let out = convert(from, to, &signal::sine(hz, from, AMPLITUDE, from as usize / 4));
    out[to as usize / 50..].to_vec()
}

fn db(ratio: f64) -> f64 {
    20.0 * ratio.max(1e-9).log10()
}

#[test]
fn the_passband_is_flat_to_42_percent_of_the_lower_rate() {
    for from in RATES {
        for to in RATES.into_iter().filter(|&to| to != from) {
            let lower = f64::from(from.min(to));
            let mut worst = 0.0_f64;
            for step in 1..=14 {
                let hz = (0.03 * lower * f64::from(step)).round();
                let out = response(from, to, hz);
                let gain = db(signal::amplitude_at(&out, hz, to) / AMPLITUDE);
                worst = worst.max(gain.abs());
            }
            eprintln!("{from} to {to}: ripple {worst:.3} dB up to {:.0} Hz", lower * 0.42);
            assert!(worst < 0.1, "{from} to {to}: {worst:.3} dB");
        }
    }
}

#[test]
fn images_and_aliases_are_65_db_down() {
    for from in RATES {
        for to in RATES.into_iter().filter(|&to| to != from) {
            let worst = if from > to { worst_alias(from, to) } else { worst_image(from, to) };
            eprintln!("{from} to {to}: rejection {:.1} dB", -worst);
            assert!(worst < -65.0, "{from} to {to}: {worst:.1} dB");
        }
    }
}

/// Going down: tones above the new band must vanish.
fn worst_alias(from: u32, to: u32) -> f64 {
    let (low, high) = (0.515 * f64::from(to), 0.49 * f64::from(from));
    (0..=12)
        .map(|step| {
            let hz = low + (high - low) * f64::from(step) / 12.0;
            db(signal::rms(&response(from, to, hz)) * std::f64::consts::SQRT_2 / AMPLITUDE)
        })
        .fold(f64::MIN, f64::max)
}

/// Going up: a tone must not leave its mirror image behind.
fn worst_image(from: u32, to: u32) -> f64 {
    let (rate, top) = (f64::from(from), f64::from(to) / 2.0);
    (1..=12)
        .map(|step| {
            let hz = (0.485 * rate * f64::from(step) / 12.0).round();
            let out = response(from, to, hz);
            [rate - hz, rate + hz, 2.0 * rate - hz]
                .into_iter()
                .filter(|&image| image < top - 200.0)
                .map(|image| db(signal::amplitude_at(&out, image, to) / AMPLITUDE))
                .fold(f64::MIN, f64::max)
        })
        .fold(f64::MIN, f64::max)
}

#[test]
fn a_sweep_comes_through_with_the_stated_delay() {
    for from in RATES {
        for to in RATES.into_iter().filter(|&to| to != from) {
            let sweep = |rate: u32| -> Vec<i16> {
                (0..rate / 2)
                    .map(|n| {
                        let t = f64::from(n) / f64::from(rate);
                        let phase = std::f64::consts::TAU * (100.0 * t + 3000.0 * t * t);
                        (10_000.0 * phase.sin()) as i16
                    })
                    .collect()
            };
            let out = convert(from, to, &sweep(from));
            let wanted = sweep(to);
            let resampler = Resampler::new(SampleRate(from), SampleRate(to)).unwrap();
            let (_, delay) = signal::best_snr_db(&wanted[..out.len()], &out, 400);
            assert!(delay.abs_diff(resampler.delay_samples()) <= 1, "{from} to {to}: {delay}");
            let delay_ms = 1000.0 * delay as f64 / f64::from(to);
            assert!(delay_ms < 3.3, "{from} to {to}: {delay_ms:.2} ms");
        }
    }
}

#[test]
fn it_does_not_matter_how_the_stream_is_cut() {
    for from in RATES {
        for to in RATES {
            let pcm = signal::voice(from, 5000);
            let whole = convert(from, to, &pcm);
            let mut resampler = Resampler::new(SampleRate(from), SampleRate(to)).unwrap();
            let mut pieces = Vec::new();
            let mut rest = pcm.as_slice();
            for size in [1, 0, 2, 159, 160, 161, 7, 320, 1000].into_iter().cycle() {
                if rest.is_empty() {
                    break;
                }
                let (piece, after) = rest.split_at(size.min(rest.len()));
                let mut out = vec![0; resampler.max_output(piece.len())];
                let written = resampler.process(piece, &mut out);
                pieces.extend_from_slice(&out[..written]);
                rest = after;
            }
            assert_eq!(pieces, whole, "{from} to {to}");
            let expected = 5000.0 * f64::from(to) / f64::from(from);
            assert!((whole.len() as f64 - expected).abs() <= 1.0);
        }
    }
}

#[test]
fn no_sample_is_lost_over_ten_minutes() {
    let mut resampler = Resampler::new(SampleRate(22_050), SampleRate(8_000)).unwrap();
    let (pcm, mut out) = ([0; 441], [0; 200]);
    let total: usize = (0..30_000).map(|_| resampler.process(&pcm, &mut out)).sum();
    assert_eq!(total, 30_000 * 160);
}

#[test]
fn full_scale_noise_does_not_overflow() {
    for to in RATES {
        let mut random = 1_u32;
        let pcm: Vec<i16> = (0..8000)
            .map(|_| {
                random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                if random >> 31 == 0 { i16::MIN } else { i16::MAX }
            })
            .collect();
        assert!(signal::rms(&convert(16_000, to, &pcm)) > 10_000.0);
    }
}

#[test]
fn too_small_an_output_drops_samples_but_keeps_the_stream_right() {
    let mut resampler = Resampler::new(SampleRate(8_000), SampleRate(16_000)).unwrap();
    let pcm = signal::voice(8_000, 320);
    assert_eq!(resampler.process(&pcm[..160], &mut [0; 10]), 10);
    let mut out = [0; 320];
    assert_eq!(resampler.process(&pcm[160..], &mut out), 320);
    assert_eq!(out, convert(8_000, 16_000, &pcm)[320..]);
}

#[test]
fn odd_ratios_are_refused() {
    for (from, to) in [(0, 8_000), (8_000, 0), (7_999, 8_000), (8_000, 44_101), (1, u32::MAX)] {
        let result = Resampler::new(SampleRate(from), SampleRate(to));
        assert!(matches!(result, Err(CodecError::UnsupportedRatio { .. })), "{from} to {to}");
    }
    for hz in [11_025, 12_000, 32_000] {
        assert!(Resampler::new(SampleRate(hz), SampleRate(8_000)).is_ok(), "{hz}");
    }
}

#[test]
fn the_linear_upsampler_puts_a_sample_in_each_middle() {
    let mut upsampler = LinearUpsampler::new();
    let mut out = [0; 7];
    assert_eq!(upsampler.process(&[100, 200, -200], &mut out), 6);
    assert_eq!(out[..6], [50, 100, 150, 200, 0, -200]);
    assert_eq!(upsampler.process(&[i16::MIN; 2], &mut out[..3]), 2);
    assert_eq!(out[..2], [-16484, i16::MIN]);
}
