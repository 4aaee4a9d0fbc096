//! What was sent to the peer lately, to be laid beside what is heard: the ear's echo control takes it as its reference.
//!
//! Both sides stand on the leg's timeline. What is heard is asked for the moment it arrives, when what is being sent at
//! that time is not complete yet: the reference lies [`STEP_MS`] behind it from the start, and a step more whenever the
//! peer's timeline turns out to be ahead of ours by that much (its first packet was late, or its clock is fast). To
//! echo control that is an echo that comes sooner, once.

use codecs::pcm::SampleRate;

/// How far back it remembers: what arrives later than that after its time has no reference.
const KEPT_MS: u32 = 400;
/// The reference falls behind by so much at a time.
const STEP_MS: u32 = 20;
/// And by so much at most.
const BEHIND_MAX_MS: u32 = 300;

/// The last of what was sent. No allocation after it was made; about 6 KiB at 8 kHz.
pub(super) struct Sent {
    /// The sample of position p lies at p modulo the length.
    ring: Box<[i16]>,
    /// Position behind the last sample.
    end: u64,
    behind: u64,
    step: u64,
    behind_max: u64,
}

impl Sent {
    pub(super) fn new(rate: SampleRate) -> Self {
        let step = rate.samples_in_ms(STEP_MS) as u64;
        Sent {
            ring: vec![0; rate.samples_in_ms(KEPT_MS).max(1)].into_boxed_slice(),
            end: 0,
            behind: step,
            step: step.max(1),
            behind_max: rate.samples_in_ms(BEHIND_MAX_MS) as u64,
        }
    }

    /// Takes a frame that is sent at `at_samples` of the timeline. What was left out before it was silence.
    pub(super) fn push(&mut self, at_samples: u64, frame: &[i16]) {
        // Frames follow one another; rounding must not tear them apart, nor lay one over the other.
        let gap = at_samples.saturating_sub(self.end);
        let gap = if gap < self.step { 0 } else { gap.min(self.ring.len() as u64) };
        if gap > 0 {
            self.end = at_samples - gap;
            for _ in 0..gap {
                self.put(0);
            }
        }
        for sample in frame {
            self.put(*sample);
        }
    }

    /// Fills `out` with what was sent when what is heard at `at_samples` arrives; silence where that is not known.
    pub(super) fn beside(&mut self, at_samples: u64, out: &mut [i16]) {
        let heard_end = at_samples + out.len() as u64;
        while heard_end.saturating_sub(self.behind) > self.end && self.behind < self.behind_max {
            self.behind += self.step;
        }
        let oldest = self.end.saturating_sub(self.ring.len() as u64);
        for (heard, place) in (at_samples..=u64::MAX).zip(out) {
            let position = heard.checked_sub(self.behind).filter(|position| (oldest..self.end).contains(position));
            let index = position.map(|position| (position % self.ring.len() as u64) as usize);
            *place = index.and_then(|index| self.ring.get(index).copied()).unwrap_or(0);
        }
    }

    fn put(&mut self, sample: i16) {
        let index = (self.end % self.ring.len() as u64) as usize;
        if let Some(place) = self.ring.get_mut(index) {
            *place = sample;
        }
        self.end += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(value: i16) -> [i16; 160] {
        [value; 160]
    }

    #[test]
    fn what_was_sent_a_frame_before_lies_beside_what_is_heard() {
        let mut sent = Sent::new(SampleRate::HZ_8000);
        let mut out = [9; 160];
        // Sent at 1,000, 1,160 and so on (a sample off by rounding), heard in step with it.
        sent.push(1_000, &frame(1));
        sent.push(1_161, &frame(2));
        sent.push(1_320, &frame(3));
        sent.beside(1_320, &mut out);
        assert_eq!(out, frame(2));
        sent.beside(900, &mut out);
        assert_eq!(out, frame(0), "nothing was sent then");
    }

    #[test]
    fn a_pause_in_sending_is_silence_of_its_length() {
        let mut sent = Sent::new(SampleRate::HZ_8000);
        let mut out = [9; 160];
        sent.push(0, &frame(1));
        sent.push(800, &frame(2));
        sent.beside(480, &mut out);
        assert_eq!(out, frame(0));
        sent.beside(160, &mut out);
        assert_eq!(out, frame(1));
    }

    #[test]
    fn a_peer_ahead_of_us_moves_the_reference_back_once_and_for_all() {
        let mut sent = Sent::new(SampleRate::HZ_8000);
        let mut out = [9; 160];
        for n in 0..20 {
            sent.push(n * 160, &frame(n as i16));
        }
        // Heard 50 ms before its time: 20 ms behind are not enough, 80 are.
        sent.beside(20 * 160 + 400, &mut out);
        assert_eq!((out[0], sent.behind), (18, 640));
        sent.beside(19 * 160, &mut out);
        assert_eq!((out[0], sent.behind), (15, 640));
        // However far ahead: there is an end to it.
        sent.beside(1_000_000, &mut out);
        assert_eq!((out, sent.behind), (frame(0), 2_400));
    }
}
