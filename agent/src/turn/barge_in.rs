//! The caller speaks while the agent does: what to make of it.
//!
//! Reaction first, judgement after. The moment speech is *likely* the agent's voice is ducked. Then one of three:
//!
//! * it goes on, or words come: *confirmed*, the agent is cut off;
//! * it stops soon: the recogniser is asked for its last word on it, and a whole expected phrase ("yes") cuts the agent
//!   off after all;
//! * otherwise it was nothing (a cough, a "mm-hm", the agent's own echo): the agent goes on where it was ducked.
//!
//! What turned out to be nothing raises, for some seconds, the level from which speech counts while the agent speaks:
//! an echo that ducked the agent once does not make it stutter.

use std::time::Duration;

use super::TurnConfig;
use super::speech::Stretch;

/// Above the level of what was nothing by so much, it may be something.
const OVER_FALSE_ALARM_DB: f32 = 3.0;
/// The raised level sinks by so much per second.
const SINKS_DB_PER_S: f32 = 1.0;
/// No level is asked for.
const NO_LEAST_DB: f32 = -120.0;

/// How a ducked agent's case stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Judgement {
    /// Not known yet.
    Open,
    /// It is an interruption.
    Confirmed,
    /// It stopped: ask the recogniser.
    Stopped,
}

/// Judges one duck after another.
#[derive(Debug, Clone, Default)]
pub struct BargeIn {
    false_alarm: Option<(Duration, f32)>,
}

impl BargeIn {
    /// What is known of the speech over the agent. `words` is how many words the recogniser hears that are not merely
    /// a sign of listening.
    #[must_use]
    pub fn judge(config: &TurnConfig, stretch: &Stretch, silence: Duration, words: usize) -> Judgement {
        let ms = |ms: u32| Duration::from_millis(u64::from(ms));
        let with_words = words >= config.confirm_words.max(1) as usize && stretch.voiced >= ms(config.confirm_words_ms);
        if stretch.voiced >= ms(config.confirm_ms) || with_words {
            Judgement::Confirmed
        } else if silence >= ms(config.stopped_ms) {
            Judgement::Stopped
        } else {
            Judgement::Open
        }
    }

    /// It was nothing, `peak_db` loud.
    pub fn was_nothing(&mut self, now: Duration, peak_db: f32) {
        let least = (peak_db + OVER_FALSE_ALARM_DB).max(self.least_db(now)).min(-6.0);
        self.false_alarm = Some((now, least));
    }

    /// The level from which speech over the agent counts.
    #[must_use]
    pub fn least_db(&self, now: Duration) -> f32 {
        self.false_alarm.map_or(NO_LEAST_DB, |(at, level_db)| {
            let sunk = level_db - now.saturating_sub(at).as_secs_f32() * SINKS_DB_PER_S;
            if sunk < level_db - 12.0 { NO_LEAST_DB } else { sunk }
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stretch(voiced_ms: u64) -> Stretch {
        let voiced = Duration::from_millis(voiced_ms);
        Stretch { onset: Duration::ZERO, last_sound: voiced, voiced, peak_db: -20.0 }
    }

    fn judge(voiced_ms: u64, silence_ms: u64, words: usize) -> Judgement {
        BargeIn::judge(&TurnConfig::default(), &stretch(voiced_ms), Duration::from_millis(silence_ms), words)
    }

    #[test]
    fn long_speech_is_confirmed_without_words_and_shorter_speech_with_them() {
        assert_eq!(judge(100, 0, 0), Judgement::Open);
        assert_eq!(judge(600, 0, 0), Judgement::Confirmed);
        assert_eq!(judge(360, 0, 0), Judgement::Open);
        assert_eq!(judge(360, 0, 2), Judgement::Confirmed);
    }

    #[test]
    fn a_short_sound_that_stops_is_put_to_the_recogniser() {
        assert_eq!(judge(160, 260, 0), Judgement::Stopped);
    }

    #[test]
    fn an_echo_that_ducked_once_must_come_louder_for_some_seconds() {
        let mut barge_in = BargeIn::default();
        assert!(barge_in.least_db(Duration::ZERO) < -100.0);
        barge_in.was_nothing(Duration::from_secs(1), -30.0);
        assert!(barge_in.least_db(Duration::from_secs(1)) > -28.0);
        assert!(barge_in.least_db(Duration::from_secs(5)) < barge_in.least_db(Duration::from_secs(2)));
        assert!(barge_in.least_db(Duration::from_secs(60)) < -100.0);
    }
}
