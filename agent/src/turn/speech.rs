//! Is somebody speaking, since when, and until when?
//!
//! The fast gate's probability decides together with the level: a frame counts as speech when the gate says so *and* it
//! stands out of the line's own noise, whose floor is followed. In a noisy line the gate is believed less readily,
//! because it misfires there. Where a slower, surer opinion is given (Silero), that one decides how long speech lasts,
//! and the gate only when it begins.

use std::collections::VecDeque;
use std::time::Duration;

/// The lowest and highest noise floor that is believed, in dB relative to full scale.
const FLOOR_RANGE_DB: (f32, f32) = (-75.0, -30.0);
/// The floor before anything was heard.
const FLOOR_AT_FIRST_DB: f32 = -60.0;
/// The floor rises by so much per second where it is quieter than the signal, and falls quickly.
const FLOOR_RISE_DB_PER_S: f32 = 3.0;
/// What stays within [`STEADY_DB`] for so many frames is no speech, whatever the gate says: noise, hum, a tone.
const STEADY_FRAMES: usize = 80;
/// See [`STEADY_FRAMES`].
const STEADY_DB: f32 = 9.0;
/// The floor rises by so much per second to what is steady.
const FLOOR_RISE_TO_STEADY_DB_PER_S: f32 = 12.0;
/// Speech begins only so far above the floor.
const ABOVE_FLOOR_TO_BEGIN_DB: f32 = 7.0;
/// Speech goes on while so far above the floor.
const ABOVE_FLOOR_TO_GO_ON_DB: f32 = 4.0;
/// Speech goes on while no more than so far under its own peak: what is fainter is its echo in the gate.
const UNDER_PEAK_DB: f32 = 34.0;
/// Below this probability, speech that began does not go on.
const GO_ON_THRESHOLD: f32 = 0.35;

/// One frame as the detector sees it.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct FrameView {
    /// When it ends on the line's clock.
    pub end: Duration,
    /// How long it is.
    pub length: Duration,
    /// The fast gate's probability of speech, 0 to 1.
    pub speech: f32,
    /// Its level in dB relative to full scale.
    pub level_db: f32,
    /// The surer opinion, where there is one.
    pub deciding: Option<f32>,
}

/// A stretch of speech that is going on, or has just paused.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Stretch {
    /// Where its first frame began.
    pub onset: Duration,
    /// Where its last frame of speech ended.
    pub last_sound: Duration,
    /// How much of it was speech.
    pub voiced: Duration,
    /// Its loudest frame, in dB.
    pub peak_db: f32,
}

/// Follows one line.
#[derive(Debug, Clone)]
pub struct SpeechDetector {
    threshold: f32,
    likely: Duration,
    floor_db: f32,
    /// The last frames' levels.
    levels: VecDeque<f32>,
    /// Speech-like frames in a row, not yet enough to be likely.
    candidate: Option<Stretch>,
    stretch: Option<Stretch>,
    active: bool,
}

impl SpeechDetector {
    /// A detector: `threshold` is the gate's probability from which a frame is speech in a quiet line, and so much
    /// speech in a row is *likely* speech.
    #[must_use]
    pub fn new(threshold: f32, likely: Duration) -> Self {
        Self {
            threshold,
            likely,
            floor_db: FLOOR_AT_FIRST_DB,
            levels: VecDeque::with_capacity(STEADY_FRAMES),
            candidate: None,
            stretch: None,
            active: false,
        }
    }

    /// Takes the next frame. Only frames of at least `least_db` count as the beginning of speech. Returns true if the
    /// frame is speech.
    pub fn receive(&mut self, frame: FrameView, least_db: f32) -> bool {
        let speech = match self.stretch {
            Some(stretch) => self.goes_on(&frame, stretch.peak_db),
            None => frame.level_db >= least_db && self.begins(&frame),
        };
        self.follow_floor(&frame, speech);
        self.active = speech;
        if !speech {
            self.candidate = None;
            return false;
        }
        match self.stretch.as_mut() {
            Some(stretch) => extend(stretch, &frame),
            None => self.add_candidate(&frame),
        }
        true
    }

    /// The present stretch of speech, or the last one until [`SpeechDetector::forget`].
    #[must_use]
    pub fn stretch(&self) -> Option<Stretch> {
        self.stretch
    }

    /// True while the last frame was speech.
    #[must_use]
    pub fn active(&self) -> bool {
        self.active && self.stretch.is_some()
    }

    /// How much silence there was since the last sound.
    #[must_use]
    pub fn silence(&self, now: Duration) -> Duration {
        self.stretch.map_or(Duration::ZERO, |stretch| now.saturating_sub(stretch.last_sound))
    }

    /// The stretch is over and dealt with.
    pub fn forget(&mut self) {
        self.stretch = None;
        self.candidate = None;
        self.active = false;
    }

    /// The line's noise floor, in dB relative to full scale.
    #[must_use]
    pub fn floor_db(&self) -> f32 {
        self.floor_db
    }

    fn begins(&self, frame: &FrameView) -> bool {
        // In a quiet line the threshold is as configured; from -50 dB of noise on it rises, to 0.2 more at -35 dB.
        let noisy = ((self.floor_db + 50.0) / 15.0).clamp(0.0, 1.0);
        frame.speech >= (self.threshold + 0.2 * noisy).min(0.9)
            && frame.level_db >= self.floor_db + ABOVE_FLOOR_TO_BEGIN_DB
    }

    fn goes_on(&self, frame: &FrameView, peak_db: f32) -> bool {
        let loud = frame.level_db >= (self.floor_db + ABOVE_FLOOR_TO_GO_ON_DB).max(peak_db - UNDER_PEAK_DB);
        loud && frame.deciding.unwrap_or(frame.speech) >= GO_ON_THRESHOLD
    }

    fn add_candidate(&mut self, frame: &FrameView) {
        let candidate = self.candidate.get_or_insert(Stretch {
            onset: frame.end.saturating_sub(frame.length),
            last_sound: frame.end,
            voiced: Duration::ZERO,
            peak_db: frame.level_db,
        });
        extend(candidate, frame);
        if candidate.voiced >= self.likely {
            self.stretch = self.candidate.take();
        }
    }

    fn follow_floor(&mut self, frame: &FrameView, speech: bool) {
        let level = frame.level_db.clamp(FLOOR_RANGE_DB.0, FLOOR_RANGE_DB.1);
        if self.levels.len() >= STEADY_FRAMES {
            self.levels.pop_front();
        }
        self.levels.push_back(frame.level_db);
        if let Some(steady_db) = self.steady_db().filter(|steady_db| *steady_db > self.floor_db) {
            let rise = FLOOR_RISE_TO_STEADY_DB_PER_S * frame.length.as_secs_f32();
            self.floor_db = (self.floor_db + rise).min(steady_db).min(FLOOR_RANGE_DB.1);
        } else if level < self.floor_db {
            // Quickly down, yet not to a single quiet frame.
            self.floor_db += (level - self.floor_db) * 0.3;
        } else {
            // Slowly up; slower still during speech, which would otherwise raise it.
            let rise = FLOOR_RISE_DB_PER_S * frame.length.as_secs_f32() * if speech { 0.2 } else { 2.0 };
            self.floor_db = (self.floor_db + rise).min(level);
        }
    }
}

impl SpeechDetector {
    /// The level of what has been steady for a while.
    fn steady_db(&self) -> Option<f32> {
        let lowest = self.levels.iter().copied().fold(f32::INFINITY, f32::min);
        let highest = self.levels.iter().copied().fold(f32::NEG_INFINITY, f32::max);
        (self.levels.len() >= STEADY_FRAMES && highest - lowest <= STEADY_DB).then_some(lowest)
    }
}

fn extend(stretch: &mut Stretch, frame: &FrameView) {
    stretch.last_sound = frame.end;
    stretch.voiced += frame.length;
    stretch.peak_db = stretch.peak_db.max(frame.level_db);
}

#[cfg(test)]
mod tests {
    use super::*;

    const FRAME: Duration = Duration::from_millis(20);

    fn detector() -> SpeechDetector {
        SpeechDetector::new(0.5, Duration::from_millis(40))
    }

    fn feed(detector: &mut SpeechDetector, from: u32, frames: u32, speech: f32, level_db: f32) {
        for n in 1..=frames {
            let end = FRAME * (from + n);
            detector.receive(FrameView { end, length: FRAME, speech, level_db, deciding: None }, -100.0);
        }
    }

    #[test]
    fn speech_is_likely_after_two_frames_and_its_onset_is_the_first() {
        let mut detector = detector();
        feed(&mut detector, 0, 50, 0.02, -65.0);
        feed(&mut detector, 50, 1, 0.9, -20.0);
        assert_eq!(detector.stretch(), None);
        feed(&mut detector, 51, 1, 0.9, -20.0);
        assert_eq!(detector.stretch().map(|s| s.onset), Some(Duration::from_millis(1000)));
    }

    #[test]
    fn a_single_loud_frame_is_no_speech() {
        let mut detector = detector();
        feed(&mut detector, 0, 50, 0.02, -65.0);
        feed(&mut detector, 50, 1, 0.99, -10.0);
        feed(&mut detector, 51, 5, 0.1, -60.0);
        assert_eq!(detector.stretch(), None);
    }

    #[test]
    fn steady_noise_that_the_gate_takes_for_speech_stops_to_count() {
        let mut detector = detector();
        feed(&mut detector, 0, 400, 0.6, -40.0);
        detector.forget();
        feed(&mut detector, 400, 50, 0.6, -40.0);
        assert_eq!(detector.stretch(), None, "floor {}", detector.floor_db());
    }

    #[test]
    fn the_gates_lag_after_loud_speech_does_not_count_as_sound() {
        let mut detector = detector();
        feed(&mut detector, 0, 50, 0.02, -65.0);
        feed(&mut detector, 50, 20, 0.95, -18.0);
        feed(&mut detector, 70, 7, 0.8, -63.0);
        assert_eq!(detector.stretch().map(|s| s.last_sound), Some(Duration::from_millis(1400)));
        assert_eq!(detector.silence(Duration::from_millis(1540)), Duration::from_millis(140));
    }

    #[test]
    fn the_surer_opinion_ends_speech_that_the_gate_would_go_on_with() {
        let mut detector = detector();
        feed(&mut detector, 0, 50, 0.02, -65.0);
        feed(&mut detector, 50, 10, 0.95, -18.0);
        let view = FrameView { end: FRAME * 61, length: FRAME, speech: 0.9, level_db: -30.0, deciding: Some(0.1) };
        assert!(!detector.receive(view, -100.0));
    }
}
