//! What a caller may say: phrases with slots, as a finite automaton.
//!
//! The same [`Grammar`] tells PocketSphinx what to listen for ([`Grammar::network`]), and reads the meaning out of any
//! recogniser's words ([`Grammar::match_text`]): which rule was spoken, and with which slots.
//!
//! # Phrases
//!
//! | write | means |
//! | --- | --- |
//! | `what are your hours` | these words; case and punctuation do not matter, numerals are spoken (`24` is `twenty four`) |
//! | `[please] help [me]` | optional parts |
//! | `(book|make) an appointment` | one of several |
//! | `on {day}` | a slot: a built-in, or a list of the grammar's own |
//! | `from {start:time} to {end:time}` | the same under other names |
//! | `for {people:number 1-12}`, `{pin:digits 4}` | a built-in with a range |
//!
//! Built-in slots and their values: `day` (`Monday` to `Sunday`), `number` (`25`; range 0-9999 unless told),
//! `digit` (`7`), `digits` (`0557`; one to twelve unless told; "oh" and "double five" are understood), `time`
//! (`3:30`, or `3:30 pm` where the caller said so) and `yesno` (`yes`, `no`).
//!
//! # Invariants
//! - The automaton has no loops and at most [`MAX_STATES`] states; building and matching end in bounded time.
//! - Where several rules fit, the first in the order of writing wins.

use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hash, Hasher};

mod automaton;
mod builtin;
mod network;
mod phrase;
mod spoken;

pub use network::{Network, Transition};

use automaton::Automaton;

/// The most states a grammar's automaton may have.
pub const MAX_STATES: usize = 20_000;

/// The most bytes one phrase may have.
pub const MAX_PHRASE_BYTES: usize = 1_000;

/// The most words of a text that are looked at when matching.
pub const MAX_WORDS: usize = 80;

/// Several ways to say one thing.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Rule {
    /// Its name, given back by a match.
    pub id: String,
    /// How it may be said.
    pub phrases: Vec<String>,
}

impl Rule {
    /// A rule from its name and phrases.
    pub fn new<P: Into<String>>(id: impl Into<String>, phrases: impl IntoIterator<Item = P>) -> Self {
        Self { id: id.into(), phrases: phrases.into_iter().map(Into::into).collect() }
    }
}

/// One entry of a list that a slot chooses from.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct ListItem {
    /// The slot's value when this was said.
    pub value: String,
    /// How it may be said (phrases without slots); none: as the value is written.
    pub says: Vec<String>,
}

/// What was meant.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Match {
    /// The rule that was spoken.
    pub rule: String,
    /// The slots it filled.
    pub slots: BTreeMap<String, String>,
}

/// What a caller may say at some point of a conversation.
#[derive(Debug)]
pub struct Grammar {
    automaton: Automaton,
    network: Network,
    hash: u64,
}

impl Grammar {
    /// Compiles rules; `lists` are what slots may name beside the built-ins.
    ///
    /// # Errors
    /// [`GrammarError`] with the rule and the phrase at fault.
    pub fn new(rules: Vec<Rule>, lists: BTreeMap<String, Vec<ListItem>>) -> Result<Self, GrammarError> {
        let mut hasher = DefaultHasher::new();
        rules.hash(&mut hasher);
        lists.hash(&mut hasher);
        let lists = phrase::parse_lists(&lists)?;
        let mut builder = automaton::Builder::default();
        for rule in &rules {
            if rule.phrases.is_empty() {
                return Err(GrammarError::NoPhrases { rule: rule.id.clone() });
            }
            for text in &rule.phrases {
                let node = phrase::parse(text, &lists).map_err(|fault| fault.in_rule(&rule.id, text))?;
                if node.may_be_empty() {
                    return Err(GrammarError::SaysNothing { rule: rule.id.clone(), phrase: text.clone() });
                }
                builder.add(&rule.id, &node)?;
            }
        }
        let automaton = builder.build();
        let network = Network::of(&automaton)?;
        Ok(Self { automaton, network, hash: hasher.finish() })
    }

    /// Reads the meaning of `text`; `None` where it is no phrase of this grammar.
    ///
    /// Hesitations (`um`, `er`) are passed over, and so are courtesies (`please`, `hello`) at either end.
    pub fn match_text(&self, text: &str) -> Option<Match> {
        spoken::readings(text).iter().find_map(|words| self.automaton.accept(words))
    }

    /// Whether `text` can be the beginning of a phrase that goes on.
    pub fn may_continue(&self, text: &str) -> bool {
        spoken::readings(text).iter().any(|words| self.network.continues_after(words))
    }

    /// The words and states for a recogniser that follows a network.
    pub fn network(&self) -> &Network {
        &self.network
    }

    /// All words, lower case, each once, sorted.
    pub fn vocabulary(&self) -> BTreeSet<&str> {
        self.network.words().collect()
    }

    /// Identifies the grammar's contents: equal grammars have equal hashes within one build of the program.
    pub fn hash(&self) -> u64 {
        self.hash
    }

    /// The grammar as JSGF 1.0, for other recognisers and for reading.
    pub fn to_jsgf(&self) -> String {
        self.network.to_jsgf()
    }
}

/// Why a grammar can't be compiled.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum GrammarError {
    /// A phrase is not written as it should be.
    #[error("rule `{rule}`, phrase `{phrase}`, at byte {at}: {what}")]
    Syntax {
        /// The rule.
        rule: String,
        /// The phrase.
        phrase: String,
        /// Where in the phrase.
        at: usize,
        /// What is wrong.
        what: String,
    },
    /// A slot names neither a built-in nor a list.
    #[error("rule `{rule}`, phrase `{phrase}`: there is no slot or list `{slot}` (there are {known})")]
    UnknownSlot {
        /// The rule.
        rule: String,
        /// The phrase.
        phrase: String,
        /// The slot's kind as written.
        slot: String,
        /// The names that exist.
        known: String,
    },
    /// A list has no entries, or an entry that says nothing.
    #[error("list `{list}` has no entry that can be spoken")]
    EmptyList {
        /// The list.
        list: String,
    },
    /// A rule without phrases.
    #[error("rule `{rule}` has no phrases")]
    NoPhrases {
        /// The rule.
        rule: String,
    },
    /// A phrase whose every part is optional would match silence.
    #[error("rule `{rule}`, phrase `{phrase}`: every part is optional, so silence would match")]
    SaysNothing {
        /// The rule.
        rule: String,
        /// The phrase.
        phrase: String,
    },
    /// The automaton grew past [`MAX_STATES`].
    #[error("the grammar needs more than {limit} states: use fewer optional parts, or a narrower range")]
    TooLarge {
        /// The limit.
        limit: usize,
    },
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]
mod tests;
