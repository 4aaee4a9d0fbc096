//! Whether somebody in a room speaks: by their level over what their line sounds like when they do not.

/// The mean square of a full-scale square wave of 16-bit samples: 0 dBov.
const FULL: f32 = 32_768.0 * 32_768.0;
/// The quietest that a line is taken to be: -65 dBov.
const FLOOR_LEAST: f32 = FULL / 3_162_278.0;
/// The loudest: -35 dBov. What is much louder than this is sound, however long it lasts.
const FLOOR_MOST: f32 = FULL / 3_162.278;
/// The floor follows upwards by so much a frame, 1 dB a second: a sentence does not lift it by much, and each pause in it lets it down.
const FLOOR_RISE: f32 = 1.004_6;
/// Speech begins so much above the floor (12 dB), and at -50 dBov at least.
const BEGINS_ABOVE: f32 = 15.8;
const BEGINS_AT: f32 = FULL / 100_000.0;
/// It goes on while it is so much above the floor (6 dB).
const GOES_ON_ABOVE: f32 = 4.0;
/// How much of a frame's level the floor sees at once: it goes by some 60 ms, and is not let down by one frame.
const SMOOTHING: f32 = 0.4;
/// So many frames above make speech, 60 ms: a click is none.
const FRAMES_TO_BEGIN: u8 = 3;
/// So many below end it, half a second: people pause between words.
const FRAMES_TO_END: u8 = 25;

/// One member's.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Activity {
    level: f32,
    floor: f32,
    /// Frames in a row that speak against the present state.
    against: u8,
    speaks: bool,
}

impl Default for Activity {
    fn default() -> Self {
        Self { level: 0.0, floor: FLOOR_LEAST, against: 0, speaks: false }
    }
}

impl Activity {
    /// Whether somebody speaks.
    pub(crate) fn speaks(&self) -> bool {
        self.speaks
    }

    /// Takes a frame of 20 ms; whether somebody speaks from here on, where that has changed.
    pub(crate) fn push(&mut self, frame: &[i16]) -> Option<bool> {
        let sum: f32 = frame.iter().map(|sample| f32::from(*sample) * f32::from(*sample)).sum();
        let now = sum / frame.len().max(1) as f32;
        self.level += (now - self.level) * SMOOTHING;
        self.floor = (self.floor * FLOOR_RISE).min(self.level).clamp(FLOOR_LEAST, FLOOR_MOST);
        let is_loud = match self.speaks {
            false => now > BEGINS_AT && now > self.floor * BEGINS_ABOVE,
            true => now > self.floor * GOES_ON_ABOVE,
        };
        if is_loud == self.speaks {
            self.against = 0;
            return None;
        }
        self.against += 1;
        let needed = if self.speaks { FRAMES_TO_END } else { FRAMES_TO_BEGIN };
        if self.against < needed {
            return None;
        }
        (self.against, self.speaks) = (0, is_loud);
        Some(is_loud)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Noise of this level in dBov, out of a seed that is printed where a test fails.
    fn noise(seed: &mut u32, dbov: f32) -> [i16; 320] {
        let amplitude = 32_768.0 * 10_f32.powf(dbov / 20.0) * 3_f32.sqrt();
        std::array::from_fn(|_| {
            *seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            ((*seed >> 8) as f32 / 8_388_608.0 - 1.0).mul_add(amplitude, 0.0) as i16
        })
    }

    /// The frames at which it changes, over spans of (frames, dBov).
    fn changes(spans: &[(usize, f32)]) -> Vec<(usize, bool)> {
        let (mut activity, mut seed, mut at, mut found) = (Activity::default(), 7, 0, Vec::new());
        for (frames, dbov) in spans {
            for _ in 0..*frames {
                found.extend(activity.push(&noise(&mut seed, *dbov)).map(|speaks| (at, speaks)));
                at += 1;
            }
        }
        found
    }

    #[test]
    fn speech_begins_within_a_tenth_of_a_second_and_outlasts_pauses() {
        // A sentence with pauses of 300 ms between its words, on a quiet line.
        let words = [(50, -60.0), (20, -25.0), (15, -60.0), (20, -25.0), (15, -60.0), (20, -25.0), (60, -60.0)];
        let found = changes(&words);
        assert_eq!(found.len(), 2, "{found:?}");
        assert!((52..=54).contains(&found[0].0) && found[0].1, "{found:?}");
        assert!((164..=172).contains(&found[1].0) && !found[1].1, "{found:?}");
    }

    #[test]
    fn a_click_and_steady_noise_are_no_speech() {
        assert_eq!(changes(&[(50, -60.0), (1, -30.0), (50, -60.0)]), []);
        assert_eq!(changes(&[(300, -52.0)]), [], "a noisy line");
        // Somebody whose line gets loud is taken for speaking until the floor has followed.
        let found = changes(&[(50, -60.0), (1_500, -40.0)]);
        assert_eq!(found.iter().map(|(_, speaks)| *speaks).collect::<Vec<_>>(), [true, false], "{found:?}");
        // And speech is told from that noise then.
        let found = changes(&[(50, -60.0), (1_500, -40.0), (50, -20.0)]);
        assert_eq!(found.last().map(|(at, speaks)| (at / 10, *speaks)), Some((155, true)), "{found:?}");
    }
}
