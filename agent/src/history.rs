//! What was said, as it was heard.
//!
//! The agent's side holds the words that were played out, not the words that were generated: where the caller cut in,
//! the entry ends with the last word that left the line and is marked as interrupted.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

/// How many entries are kept; the oldest go first.
pub const MAX_ENTRIES: usize = 400;

/// Who spoke.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Speaker {
    /// The human at the other end.
    Caller,
    /// The voice agent.
    Agent,
}

/// One side's contribution.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Who spoke.
    pub who: Speaker,
    /// What the other side heard (agent) or what was understood (caller).
    pub text: String,
    /// True where the agent was cut off after `text`.
    pub interrupted: bool,
}

/// The conversation so far, oldest first.
#[derive(Debug, Clone, Default)]
pub struct History {
    entries: VecDeque<Entry>,
}

impl History {
    /// An empty history.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// What was said before; of more than [`MAX_ENTRIES`] the latest.
    #[must_use]
    pub fn of(mut entries: Vec<Entry>) -> Self {
        entries.drain(..entries.len().saturating_sub(MAX_ENTRIES));
        Self { entries: entries.into() }
    }

    /// The entries, oldest first.
    pub fn entries(&self) -> impl DoubleEndedIterator<Item = &Entry> + ExactSizeIterator {
        self.entries.iter()
    }

    /// How many entries there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// True before anybody has spoken.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Adds what the caller said (or keyed).
    pub fn caller_said(&mut self, text: impl Into<String>) {
        self.push(Entry { who: Speaker::Caller, text: text.into(), interrupted: false });
    }

    /// Adds what the caller heard of the agent. An empty text is not kept.
    pub fn agent_was_heard(&mut self, text: impl Into<String>, interrupted: bool) {
        let text = text.into();
        if !text.trim().is_empty() {
            self.push(Entry { who: Speaker::Agent, text, interrupted });
        }
    }

    fn push(&mut self, entry: Entry) {
        if self.entries.len() >= MAX_ENTRIES {
            self.entries.pop_front();
        }
        self.entries.push_back(entry);
    }
}

/// The words of `text` that were heard when `played` of `total` samples of it left the line: whole words only, in
/// proportion to their length in letters.
#[must_use]
pub fn words_heard(text: &str, played: u64, total: u64) -> String {
    if total == 0 || played == 0 {
        return String::new();
    }
    if played >= total {
        return text.trim().to_owned();
    }
    let words: Vec<&str> = text.split_whitespace().collect();
    let weight = |word: &str| word.chars().count() as u64 + 1;
    let all: u64 = words.iter().map(|word| weight(word)).sum();
    let mut until = 0;
    let mut heard = Vec::new();
    for word in words {
        until += weight(word);
        // The word's end, as a share of the whole, has been reached.
        if u128::from(until) * u128::from(total) > u128::from(played) * u128::from(all) {
            break;
        }
        heard.push(word);
    }
    heard.join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keeps_no_more_than_the_limit_and_drops_the_oldest() {
        let mut history = History::new();
        for n in 0..=MAX_ENTRIES {
            history.caller_said(n.to_string());
        }
        assert_eq!(history.len(), MAX_ENTRIES);
        assert_eq!(history.entries().next().map(|e| e.text.as_str()), Some("1"));
    }

    #[test]
    fn an_interrupted_text_ends_with_the_last_whole_word_played() {
        let text = "We are open on weekdays from nine to five";
        assert_eq!(words_heard(text, 0, 1000), "");
        assert_eq!(words_heard(text, 500, 1000), "We are open on");
        assert_eq!(words_heard(text, 999, 1000), "We are open on weekdays from nine to");
        assert_eq!(words_heard(text, 1000, 1000), text);
        assert_eq!(words_heard(text, 5, 0), "");
    }

    #[test]
    fn nothing_heard_is_no_entry() {
        let mut history = History::new();
        history.agent_was_heard("  ", true);
        assert!(history.is_empty());
    }
}
