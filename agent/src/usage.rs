//! What a conversation uses of those who are paid by use: sound recognised, characters spoken, tokens read and written.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Providers of each kind that are told apart in one conversation; what others use is added to the last.
const PROVIDERS_LIMIT: usize = 16;

/// What was used so far.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Usage {
    /// Of recognisers.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub recognizers: Vec<HeardUsage>,
    /// Of voices.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub voices: Vec<SpokenUsage>,
    /// Of language models.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub models: Vec<ModelUsage>,
}

/// What a recogniser was given.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct HeardUsage {
    /// The recogniser.
    pub provider: String,
    /// Sound that it was given, in ms; the same sound again where it was tried again.
    pub audio_ms: u64,
}

/// What a voice was given.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct SpokenUsage {
    /// The voice.
    pub provider: String,
    /// Characters that it was given. Phrases that the cache had are not among them.
    pub characters: u64,
}

/// What a language model was asked.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
pub struct ModelUsage {
    /// The provider.
    pub provider: String,
    /// The model.
    pub model: String,
    /// Answers that it was asked for, also those made ready on a guess and thrown away.
    pub answers: u64,
    /// Of them those of which the provider did not say what they took.
    pub answers_unknown: u64,
    /// Tokens read.
    pub tokens_in: u64,
    /// Of them those that the provider had at hand from before.
    pub tokens_cached: u64,
    /// Tokens written.
    pub tokens_out: u64,
}

/// What one answer took, as the provider says.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tokens {
    /// Read.
    pub read: u64,
    /// Of them at hand from before.
    pub cached: u64,
    /// Written.
    pub written: u64,
}

impl Usage {
    /// What others used is added.
    pub fn add(&mut self, other: &Self) {
        for used in &other.recognizers {
            let new = || HeardUsage { provider: used.provider.clone(), audio_ms: 0 };
            if let Some(sum) = of(&mut self.recognizers, |sum| sum.provider == used.provider, new) {
                sum.audio_ms = sum.audio_ms.saturating_add(used.audio_ms);
            }
        }
        for used in &other.voices {
            let new = || SpokenUsage { provider: used.provider.clone(), characters: 0 };
            if let Some(sum) = of(&mut self.voices, |sum| sum.provider == used.provider, new) {
                sum.characters = sum.characters.saturating_add(used.characters);
            }
        }
        for used in &other.models {
            let ModelUsage { provider, model, .. } = used;
            let new = || ModelUsage { provider: provider.clone(), model: model.clone(), ..ModelUsage::default() };
            let is_it = |sum: &ModelUsage| sum.provider == *provider && sum.model == *model;
            if let Some(sum) = of(&mut self.models, is_it, new) {
                sum.answers = sum.answers.saturating_add(used.answers);
                sum.answers_unknown = sum.answers_unknown.saturating_add(used.answers_unknown);
                sum.tokens_in = sum.tokens_in.saturating_add(used.tokens_in);
                sum.tokens_cached = sum.tokens_cached.saturating_add(used.tokens_cached);
                sum.tokens_out = sum.tokens_out.saturating_add(used.tokens_out);
            }
        }
    }

    /// Nothing was used.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.recognizers.is_empty() && self.voices.is_empty() && self.models.is_empty()
    }
}

/// Counts what is used; its copies count together.
#[derive(Debug, Clone, Default)]
pub struct Meter {
    /// Exact sums; sound by its length, so that short pieces are not rounded one by one.
    sums: Arc<Mutex<Sums>>,
}

#[derive(Debug, Default)]
struct Sums {
    heard: Vec<(String, Duration)>,
    spoken: Vec<(String, u64)>,
    asked: Vec<ModelUsage>,
}

impl Meter {
    /// A recogniser was given so much sound.
    pub fn heard(&self, recognizer: &str, sound: Duration) {
        let mut sums = self.lock();
        let sum = of(&mut sums.heard, |(known, _)| known == recognizer, || (recognizer.to_owned(), Duration::ZERO));
        if let Some((_, sum)) = sum {
            *sum = sum.saturating_add(sound);
        }
    }

    /// A voice was given this text.
    pub fn spoke(&self, voice: &str, text: &str) {
        let mut sums = self.lock();
        if let Some((_, sum)) = of(&mut sums.spoken, |(known, _)| known == voice, || (voice.to_owned(), 0)) {
            *sum = sum.saturating_add(text.chars().count() as u64);
        }
    }

    /// A model was asked for an answer; what it took is unknown until the provider says it.
    pub fn asked(&self, provider: &str, model: &str) {
        self.model(provider, model, |sum| {
            sum.answers += 1;
            sum.answers_unknown += 1;
        });
    }

    /// What an answer took that was asked for before.
    pub fn answered(&self, provider: &str, model: &str, tokens: Tokens) {
        self.model(provider, model, |sum| {
            sum.answers_unknown = sum.answers_unknown.saturating_sub(1);
            sum.tokens_in = sum.tokens_in.saturating_add(tokens.read);
            sum.tokens_cached = sum.tokens_cached.saturating_add(tokens.cached);
            sum.tokens_out = sum.tokens_out.saturating_add(tokens.written);
        });
    }

    /// What was used so far.
    #[must_use]
    pub fn usage(&self) -> Usage {
        let sums = self.lock();
        let ms = |sound: Duration| u64::try_from(sound.as_millis()).unwrap_or(u64::MAX);
        let heard =
            sums.heard.iter().map(|(provider, sound)| HeardUsage { provider: provider.clone(), audio_ms: ms(*sound) });
        let spoken = sums.spoken.iter();
        let spoken =
            spoken.map(|(provider, characters)| SpokenUsage { provider: provider.clone(), characters: *characters });
        Usage { recognizers: heard.collect(), voices: spoken.collect(), models: sums.asked.clone() }
    }

    fn model(&self, provider: &str, model: &str, count: impl FnOnce(&mut ModelUsage)) {
        let mut sums = self.lock();
        let new = || ModelUsage { provider: provider.to_owned(), model: model.to_owned(), ..ModelUsage::default() };
        if let Some(sum) = of(&mut sums.asked, |known| known.provider == provider && known.model == model, new) {
            count(sum);
        }
    }

    fn lock(&self) -> MutexGuard<'_, Sums> {
        self.sums.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// The entry that this is about, made where there is none yet.
fn of<T>(all: &mut Vec<T>, is_it: impl Fn(&T) -> bool, new: impl FnOnce() -> T) -> Option<&mut T> {
    match all.iter().position(is_it) {
        Some(at) => all.get_mut(at),
        None => {
            if all.len() < PROVIDERS_LIMIT {
                all.push(new());
            }
            all.last_mut()
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn copies_count_together_and_short_sounds_are_not_rounded_away() {
        let meter = Meter::default();
        let other = meter.clone();
        for _ in 0..3_000 {
            other.heard("ear", Duration::from_micros(500));
        }
        meter.spoke("voice", "Grüße");
        other.spoke("voice", "!");
        meter.asked("p", "m");
        other.asked("p", "m");
        other.answered("p", "m", Tokens { read: 10, cached: 4, written: 3 });
        let usage = meter.usage();
        assert_eq!(usage.recognizers, [HeardUsage { provider: "ear".into(), audio_ms: 1_500 }]);
        assert_eq!(usage.voices, [SpokenUsage { provider: "voice".into(), characters: 6 }]);
        let wanted = ModelUsage {
            provider: "p".into(),
            model: "m".into(),
            answers: 2,
            answers_unknown: 1,
            tokens_in: 10,
            tokens_cached: 4,
            tokens_out: 3,
        };
        assert_eq!(usage.models, [wanted]);
    }

    #[test]
    fn what_several_conversations_used_is_summed_by_provider() {
        let spoke = |characters| SpokenUsage { provider: "voice".into(), characters };
        let model = |model: &str, answers| ModelUsage { model: model.into(), answers, ..ModelUsage::default() };
        let mut all = Usage { voices: vec![spoke(3)], models: vec![model("a", 1)], ..Usage::default() };
        all.add(&Usage { voices: vec![spoke(4)], models: vec![model("b", 2), model("a", 5)], ..Usage::default() });
        assert_eq!(all.voices, [spoke(7)]);
        assert_eq!(all.models, [model("a", 6), model("b", 2)]);
    }

    #[test]
    fn providers_without_end_are_counted_with_the_last() {
        let meter = Meter::default();
        for n in 0..=PROVIDERS_LIMIT {
            meter.spoke(&n.to_string(), "x");
        }
        let voices = meter.usage().voices;
        assert_eq!((voices.len(), voices.last().map(|voice| voice.characters)), (PROVIDERS_LIMIT, Some(2)));
    }
}
