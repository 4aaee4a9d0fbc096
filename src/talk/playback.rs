//! What waits to be heard on the loudspeaker: a bounded queue with epochs and a volume, without I/O.

use std::collections::VecDeque;

/// How much may wait, in samples: 1 s at the line's 16 kHz.
pub(super) const MAX_QUEUED_SAMPLES: usize = 16_000;

/// The volume goes from 0 to 1 within this many samples: 10 ms.
const RAMP_SAMPLES: f32 = 160.0;

/// The queue between the conversation and the device.
#[derive(Debug)]
pub(super) struct Playback {
    queue: VecDeque<i16>,
    played: u64,
    gain: f32,
    target_gain: f32,
}

impl Default for Playback {
    fn default() -> Self {
        Self { queue: VecDeque::with_capacity(MAX_QUEUED_SAMPLES), played: 0, gain: 1.0, target_gain: 1.0 }
    }
}

impl Playback {
    /// Takes what there is room for, and says how much that was.
    pub(super) fn say(&mut self, pcm: &[i16]) -> usize {
        let room = MAX_QUEUED_SAMPLES - self.queue.len();
        let taken = pcm.len().min(room);
        self.queue.extend(pcm.iter().take(taken));
        taken
    }

    pub(super) fn queued(&self) -> usize {
        self.queue.len()
    }

    /// Of this epoch.
    pub(super) fn played(&self) -> u64 {
        self.played
    }

    /// Begins a new epoch: what waits is dropped.
    pub(super) fn interrupt(&mut self) {
        self.queue.clear();
        self.played = 0;
        self.target_gain = 1.0;
    }

    pub(super) fn duck(&mut self, gain: f32) {
        self.target_gain = gain.clamp(0.0, 1.0);
    }

    /// Fills `out` for the device; silence where nothing waits. Does not allocate. Whether anything was played.
    pub(super) fn fill(&mut self, out: &mut [i16]) -> bool {
        let mut sounded = false;
        for sample in out {
            let step = (self.target_gain - self.gain).clamp(-1.0 / RAMP_SAMPLES, 1.0 / RAMP_SAMPLES);
            self.gain += step;
            *sample = match self.queue.pop_front() {
                Some(queued) => {
                    self.played += 1;
                    sounded = true;
                    (f32::from(queued) * self.gain) as i16
                }
                None => 0,
            };
        }
        sounded
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn takes_no_more_than_its_limit() {
        let mut playback = Playback::default();
        assert_eq!(playback.say(&[1; MAX_QUEUED_SAMPLES - 1]), MAX_QUEUED_SAMPLES - 1);
        assert_eq!(playback.say(&[1; 5]), 1);
        assert_eq!(playback.say(&[1; 5]), 0);
        assert_eq!(playback.queued(), MAX_QUEUED_SAMPLES);
    }

    #[test]
    fn plays_in_order_and_counts_what_was_really_played() {
        let mut playback = Playback::default();
        playback.say(&[1, 2, 3]);
        let mut out = [9; 5];
        assert!(playback.fill(&mut out));
        assert_eq!((out, playback.played(), playback.queued()), ([1, 2, 3, 0, 0], 3, 0));
        assert!(!playback.fill(&mut out));
    }

    #[test]
    fn an_interruption_drops_what_waits_and_counts_anew() {
        let mut playback = Playback::default();
        playback.say(&[1; 100]);
        playback.fill(&mut [0; 10]);
        playback.duck(0.1);
        playback.interrupt();
        assert_eq!((playback.played(), playback.queued()), (0, 0));
    }

    #[test]
    fn the_volume_changes_without_a_step() {
        let mut playback = Playback::default();
        playback.say(&[10_000; 1_000]);
        playback.duck(0.2);
        let mut out = [0; 1_000];
        playback.fill(&mut out);
        assert_eq!(out.last(), Some(&2_000));
        assert!(out.windows(2).all(|pair| pair[0].abs_diff(pair[1]) <= 63));
    }
}
