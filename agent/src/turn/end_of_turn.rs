//! Is the caller done?
//!
//! Silence alone is a poor witness: people pause in mid-sentence, and waiting long for certainty makes an agent slow.
//! So the silence that is asked for depends on what was understood so far: little after a whole phrase that can only
//! end here, more after one that may go on, most in the middle of one or while digits are dictated.

use std::collections::BTreeMap;
use std::time::Duration;

use super::TurnConfig;
use crate::grammar::{Grammar, Match};

/// So many ways to go on are looked at; with more, a phrase counts as open.
const MAX_ENDINGS: usize = 64;

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
    /// An expected phrase which may go on, but whatever follows does not change its meaning: "yes", "please".
    Settled,
    /// An expected phrase that can only end here.
    Complete,
}

impl Progress {
    /// How far `text` has come in what `grammar` expects.
    #[must_use]
    pub fn of(grammar: &Grammar, text: &str) -> Self {
        if text.trim().is_empty() {
            return Self::Nothing;
        }
        match (grammar.match_text(text), grammar.may_continue(text)) {
            (Some(_), false) => Self::Complete,
            (Some(meaning), true) => Self::of_whole(grammar, text, &meaning),
            (None, true) => Self::Partial,
            (None, false) => Self::Unknown,
        }
    }

    /// What may follow a phrase that means something already.
    fn of_whole(grammar: &Grammar, text: &str, meaning: &Match) -> Self {
        let network = grammar.network();
        let mut steps: BTreeMap<u32, Vec<(u32, u32)>> = BTreeMap::new();
        for transition in network.transitions() {
            steps.entry(transition.from).or_default().push((transition.word, transition.to));
        }
        let mut state = 0;
        for word in text.split_whitespace() {
            let word = word.to_lowercase();
            let next = steps.get(&state).and_then(|steps| steps.iter().find(|(id, _)| network.word(*id) == word));
            match next {
                Some(&(_, to)) => state = to,
                None => return Self::Open,
            }
        }
        if !steps.contains_key(&state) {
            return Self::Complete;
        }
        let mut open = vec![(state, text.to_owned())];
        let mut looked_at = 0;
        while let Some((state, said)) = open.pop() {
            looked_at += 1;
            let differs = network.is_final(state) && grammar.match_text(&said).as_ref() != Some(meaning);
            if differs || looked_at > MAX_ENDINGS {
                return Self::Open;
            }
            for &(word, to) in steps.get(&state).into_iter().flatten() {
                open.push((to, format!("{said} {}", network.word(word))));
            }
        }
        Self::Settled
    }
}

/// How much silence after the last sound ends the caller's turn.
#[must_use]
pub fn silence_needed(config: &TurnConfig, progress: Progress, dictated: bool) -> Duration {
    let ms = match progress {
        Progress::Complete => config.end_complete_ms,
        Progress::Settled => config.end_settled_ms,
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
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::grammar::Rule;

    #[test]
    fn the_less_is_sure_the_longer_the_wait() {
        let config = TurnConfig::default();
        let needed = |progress| silence_needed(&config, progress, false);
        assert!(needed(Progress::Complete) < needed(Progress::Settled));
        assert!(needed(Progress::Settled) < needed(Progress::Open));
        assert!(needed(Progress::Open) < needed(Progress::Unknown));
        assert!(needed(Progress::Unknown) < needed(Progress::Partial));
    }

    #[test]
    fn only_a_whole_phrase_ends_a_turn_before_400_ms() {
        let config = TurnConfig::default();
        for progress in [Progress::Nothing, Progress::Unknown, Progress::Partial, Progress::Open, Progress::Settled] {
            for dictated in [false, true] {
                assert!(silence_needed(&config, progress, dictated) >= Duration::from_millis(400), "{progress:?}");
            }
        }
    }

    #[test]
    fn what_may_follow_decides_how_sure_a_phrase_is() {
        let rule = |id, phrases: &[&str]| Rule::new(id, phrases.iter().copied());
        let rules = vec![
            rule("book", &["book an appointment [for {day} [please]]"]),
            rule("yes", &["yes [please|that's right]"]),
            rule("no", &["no"]),
        ];
        let grammar = Grammar::new(rules, BTreeMap::new()).unwrap();
        let of = |text| Progress::of(&grammar, text);
        assert_eq!(of(""), Progress::Nothing);
        assert_eq!(of("book an"), Progress::Partial);
        assert_eq!(of("book an appointment"), Progress::Open);
        assert_eq!(of("book an appointment for monday"), Progress::Settled);
        assert_eq!(of("book an appointment for monday please"), Progress::Complete);
        assert_eq!(of("yes"), Progress::Settled);
        assert_eq!(of("no"), Progress::Complete);
        assert_eq!(of("zebra"), Progress::Unknown);
    }

    #[test]
    fn dictation_waits_over_a_second() {
        let config = TurnConfig::default();
        assert!(silence_needed(&config, Progress::Open, true) >= Duration::from_secs(1));
        assert!(silence_needed(&config, Progress::Complete, true) < Duration::from_millis(400));
    }
}
