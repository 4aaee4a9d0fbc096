//! The speech gate on audio with a known truth.
#![allow(clippy::unwrap_used)]

#[path = "support/signal.rs"]
mod signal;

use codecs::SampleRate;
use codecs::comfort_noise::ComfortNoise;
use codecs::speech::SpeechGate;

const RATES: [u32; 6] = [8_000, 16_000, 22_050, 24_000, 44_100, 48_000];

#[test]
fn a_judgement_comes_for_every_16_ms_at_any_rate_and_frame_length() {
    for hz in RATES {
        for frame_ms in [1, 10, 16, 20, 60] {
            let rate = SampleRate(hz);
            let mut gate = SpeechGate::new(rate);
            let frame = vec![0; rate.samples_in_ms(frame_ms)];
            let pushes = 960 / frame_ms;
            let judged = (0..pushes).filter(|_| gate.push(&frame).is_some()).count();
            let expected = (960 / 16).min(pushes as usize);
            assert!(judged.abs_diff(expected) <= 2, "{hz} Hz, {frame_ms} ms: {judged}");
            assert_eq!(gate.push(&[]), None);
        }
    }
}

#[test]
fn silence_and_noise_are_not_speech() {
    for hz in RATES {
        let mut gate = SpeechGate::new(SampleRate(hz));
        let mut noise = ComfortNoise::new(5);
        noise.set_level_dbov(-50.0);
        let mut pcm = vec![0; hz as usize / 50];
        let mut loud = 0;
        for _ in 0..100 {
            noise.generate(&mut pcm);
            loud += usize::from(gate.push(&pcm).unwrap_or(0.0) > 0.7);
        }
        assert!(loud <= 2, "{loud} of 100 frames of noise at {hz} Hz");
    }
}
