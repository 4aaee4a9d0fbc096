//! The tone that tells both sides of a call that it is recorded: a short quiet beep, again and again.
//!
//! It is the one of the United States' rules on recording devices (47 CFR 64.501, with the tone's figures from the carriers' tariffs behind it):
//! 1,400 Hz for 200 ms, usually every 15 s.

use std::time::Duration;

use codecs::pcm::SampleRate;

/// The tone's frequency, in hertz.
pub const TONE_HZ: f64 = 1_400.0;
/// How long a beep is.
pub const TONE_MS: u32 = 200;
/// Its peak: -30 dB below full scale, well below speech.
const PEAK: f64 = 1_036.0;
/// It comes and goes within this, so that it does not click.
const RAMP_MS: u32 = 10;

/// A beep on the timeline of what is played to one peer.
pub struct RecordTone {
    pcm: Box<[i16]>,
    every_samples: u64,
    from: Option<u64>,
}

impl RecordTone {
    /// A beep at `rate` so often; the first where the first frame is.
    #[must_use]
    pub fn new(rate: SampleRate, every: Duration) -> Self {
        let (samples, ramp) = (rate.samples_in_ms(TONE_MS), rate.samples_in_ms(RAMP_MS).max(1));
        let pcm = (0..samples)
            .map(|n| {
                let swell = (n.min(samples - n) as f64 / ramp as f64).min(1.0);
                (PEAK * swell * (n as f64 * TONE_HZ * std::f64::consts::TAU / f64::from(rate.hz().max(1))).sin()) as i16
            })
            .collect();
        let every_samples = (rate.samples_in(every) as u64).max(samples as u64);
        Self { pcm, every_samples, from: None }
    }

    /// Adds what belongs into a frame that begins at `at_samples`; whether there was anything.
    pub fn add(&mut self, at_samples: u64, frame: &mut [i16]) -> bool {
        let from = *self.from.get_or_insert(at_samples);
        let mut at = at_samples.saturating_sub(from) % self.every_samples.max(1);
        let mut is_heard = false;
        for place in frame {
            if let Some(sample) = self.pcm.get(at as usize) {
                *place = place.saturating_add(*sample);
                is_heard = true;
            }
            at = if at + 1 >= self.every_samples { 0 } else { at + 1 };
        }
        is_heard
    }
}

#[cfg(test)]
mod tests {
    use codecs::speech::SpeechGate;

    use super::*;

    #[test]
    fn it_comes_at_its_interval_whatever_the_frames_and_is_left_out_where_nothing_is_played() {
        let mut tone = RecordTone::new(SampleRate::HZ_8000, Duration::from_secs(1));
        let mut pcm = vec![0; 24_160];
        for (n, frame) in pcm.chunks_mut(160).enumerate() {
            let at = 5_000 + n as u64 * 160;
            let heard = tone.add(at, frame);
            assert_eq!(heard, n % 50 < 10, "frame {n}");
        }
        assert_eq!(pcm[..1_600], pcm[8_000..9_600]);
        assert!(pcm[1_600..8_000].iter().all(|sample| *sample == 0));
        // While the recording paused for 0.9 s nothing was asked for: the beep is where it would have been.
        let mut frame = [0; 160];
        assert!(tone.add(5_000 + 32_000, &mut frame) && frame[..] == pcm[..160]);
    }

    #[test]
    fn it_is_quiet_and_not_taken_for_speech_for_longer_than_a_frame_even_where_all_of_it_comes_back() {
        for rate in [SampleRate::HZ_8000, SampleRate::HZ_16000, SampleRate::HZ_48000] {
            let mut tone = RecordTone::new(rate, Duration::from_secs(2));
            let mut gate = SpeechGate::new(rate);
            // An agent takes for speech what is likelier than one half for longer than `turn.likely_ms`, and interrupts itself only for
            // much more. The beep comes close to one half, so that is what is held here, and no more.
            let (mut likeliest, mut in_a_row, mut longest) = (0.0_f32, 0, 0);
            for n in 0..300 {
                let mut frame = vec![0; rate.samples_in_ms(20)];
                tone.add(n * frame.len() as u64, &mut frame);
                assert!(frame.iter().all(|sample| sample.unsigned_abs() <= 1_036));
                let speech = gate.push(&frame).unwrap_or(0.0);
                likeliest = likeliest.max(speech);
                in_a_row = if speech >= 0.5 { in_a_row + 1 } else { 0 };
                longest = longest.max(in_a_row);
            }
            assert!(longest <= 1, "{rate}: {longest} frames of 20 ms in a row, {likeliest} at most");
        }
    }
}
