//! The agent's voice on its way out: what is queued in the ring, cut at the epoch, with the gain on its way to where
//! the agent wants it.

use std::sync::atomic::Ordering;

use ringbuf::HeapCons;
use ringbuf::traits::{Consumer, Observer};

use crate::port::Shared;

/// A gain this near to its target is at it.
const GAIN_STEP_LEAST: f32 = 1e-4;

/// The worker's end of the voice ring.
pub(super) struct Voice {
    ring: HeapCons<i16>,
    /// Samples taken off the ring so far: the position in the voice stream.
    position: u64,
    gain: f32,
}

impl Voice {
    pub(super) fn new(ring: HeapCons<i16>) -> Self {
        Voice { ring, position: 0, gain: 1.0 }
    }

    /// Fills `out` with the next samples of the present epoch, and with silence behind them; returns how many samples
    /// at the front are speech.
    pub(super) fn take(&mut self, shared: &Shared, out: &mut [i16]) -> usize {
        self.drop_old(shared);
        let speech_samples = self.ring.pop_slice(out);
        self.position += speech_samples as u64;
        let (speech, silence) = out.split_at_mut(speech_samples);
        self.ramp(f32::from_bits(shared.gain_bits.load(Ordering::Relaxed)), speech);
        silence.fill(0);
        speech_samples
    }

    /// Whether something of the present epoch is to be said.
    pub(super) fn has_speech(&self, shared: &Shared) -> bool {
        let queued = self.ring.occupied_len() as u64;
        queued > 0 && self.position + queued > shared.discard_before.load(Ordering::Acquire)
    }

    /// Tells the port how far the frame that was just sent reaches.
    pub(super) fn publish(&self, shared: &Shared) {
        shared.position.store(self.position, Ordering::Release);
    }

    /// Skips what the agent no longer wants to say.
    pub(super) fn drop_old(&mut self, shared: &Shared) {
        let cut = shared.discard_before.load(Ordering::Acquire);
        let Some(old) = cut.checked_sub(self.position).filter(|old| *old > 0) else { return };
        let old = usize::try_from(old).unwrap_or(usize::MAX).min(self.ring.occupied_len());
        self.position += self.ring.skip(old) as u64;
        self.publish(shared);
    }

    /// Moves the gain to `target` in a straight line over the samples.
    fn ramp(&mut self, target: f32, samples: &mut [i16]) {
        if samples.is_empty() {
            // Nobody hears the way there.
            self.gain = target;
            return;
        }
        let step = (target - self.gain) / samples.len() as f32;
        if step.abs() < GAIN_STEP_LEAST / samples.len() as f32 {
            self.gain = target;
            if target == 1.0 {
                return;
            }
        }
        let mut gain = self.gain;
        for sample in samples {
            gain += step;
            *sample = (f32::from(*sample) * gain) as i16;
        }
        self.gain = target;
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use crate::config::LegMode;
    use crate::port::{LegEnds, ends};
    use codecs::SampleRate;
    use ringbuf::HeapProd;
    use ringbuf::traits::{Producer, Split};

    fn voice() -> (HeapProd<i16>, Voice, LegEnds) {
        let (producer, consumer) = ringbuf::HeapRb::new(1_000).split();
        (producer, Voice::new(consumer), ends(LegMode::Sink, SampleRate::HZ_8000).1)
    }

    #[test]
    fn what_lies_before_the_epoch_is_skipped_and_never_heard() {
        let (mut ring, mut voice, ends) = voice();
        let mut out = [7; 160];
        ring.push_slice(&[1000; 300]);
        assert_eq!(voice.take(&ends.shared, &mut out), 160);
        ends.shared.discard_before.store(300, Ordering::Release);
        ring.push_slice(&[-2000; 40]);
        assert_eq!(voice.take(&ends.shared, &mut out), 40);
        assert!(out[..40].iter().all(|s| *s == -2000) && out[40..].iter().all(|s| *s == 0));
        voice.publish(&ends.shared);
        assert_eq!(ends.shared.position.load(Ordering::Acquire), 340);
    }

    #[test]
    fn gain_goes_in_a_line_over_one_frame_and_stays() {
        let (mut ring, mut voice, ends) = voice();
        ring.push_slice(&[10_000; 320]);
        ends.shared.gain_bits.store(0.5_f32.to_bits(), Ordering::Relaxed);
        let mut out = [0; 160];
        voice.take(&ends.shared, &mut out);
        assert!(out.windows(2).all(|pair| pair[1] <= pair[0] && pair[0] - pair[1] <= 33), "{out:?}");
        assert!((out[159] - 5_000).abs() <= 1);
        voice.take(&ends.shared, &mut out);
        assert!(out.iter().all(|s| (*s - 5_000).abs() <= 1), "{out:?}");
    }

    #[test]
    fn full_gain_leaves_samples_as_they_are() {
        let (mut ring, mut voice, ends) = voice();
        let sound: Vec<i16> = (0..160).map(|n| n * 200 - 16_000).collect();
        ring.push_slice(&sound);
        let mut out = [0; 160];
        voice.take(&ends.shared, &mut out);
        assert_eq!(out.as_slice(), sound);
    }
}
