//! Is the caller done?
//!
//! Silence alone is a poor witness: people pause in mid-sentence, and waiting long for certainty makes an agent slow.
//! So the silence that is asked for depends on what was understood so far: little after a whole phrase that can only
//! end here, more after one that may go on, most in the middle of one or while digits are dictated.

use std::time::Duration;

use super::TurnConfig;

/// How far the hypothesis has come, seen from what is expected.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Progress {
    /// No words yet.
    #[default]
    Nothing,
    /// Words, but nothing is known of how they go on (no grammar, or words outside it).
    Unknown,
    /// The beginning of an expected phrase.
    Partial,
    /// An expected phrase which may go on to mean something else.
    Open,
    /// An expected phrase, and whatever may follow does not change its meaning.
    Complete,
}

/// How much silence after the last sound ends the caller's turn.
#[must_use]
pub fn silence_needed(config: &TurnConfig, progress: Progress, dictated: bool) -> Duration {
    let ms = match progress {
        Progress::Complete => config.end_complete_ms,
        // More digits may always follow.
        Progress::Open if dictated => config.end_dictated_ms,
        Progress::Open => config.end_open_ms,
        Progress::Partial | Progress::Unknown if dictated => config.end_dictated_ms,
        Progress::Partial => config.end_partial_ms,
        Progress::Nothing | Progress::Unknown => config.end_unknown_ms,
    };
    Duration::from_millis(u64::from(ms))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_less_is_sure_the_longer_the_wait() {
        let config = TurnConfig::default();
        let needed = |progress| silence_needed(&config, progress, false);
        assert!(needed(Progress::Complete) < needed(Progress::Open));
        assert!(needed(Progress::Open) < needed(Progress::Unknown));
        assert!(needed(Progress::Unknown) < needed(Progress::Partial));
    }

    #[test]
    fn only_a_whole_phrase_ends_a_turn_before_400_ms() {
        let config = TurnConfig::default();
        for progress in [Progress::Nothing, Progress::Unknown, Progress::Partial, Progress::Open] {
            for dictated in [false, true] {
                assert!(silence_needed(&config, progress, dictated) >= Duration::from_millis(400), "{progress:?}");
            }
        }
    }

    #[test]
    fn dictation_waits_over_a_second() {
        let config = TurnConfig::default();
        assert!(silence_needed(&config, Progress::Open, true) >= Duration::from_secs(1));
        assert!(silence_needed(&config, Progress::Complete, true) < Duration::from_millis(400));
    }
}
