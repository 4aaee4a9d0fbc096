//! The grammar as a network of words: deterministic, minimal, without loops. This is what a recogniser searches.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fmt::Write as _;

use super::automaton::{Automaton, Label, State};
use super::{GrammarError, MAX_STATES};

/// One step of a [`Network`]: a word leads from a state to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Transition {
    /// State before the word.
    pub from: u32,
    /// Index of the word, see [`Network::word`].
    pub word: u32,
    /// State after the word.
    pub to: u32,
}

/// A network of words. State 0 is the start; a sentence may end in any state for which [`Network::is_final`] holds.
#[derive(Clone, Debug, Default)]
pub struct Network {
    words: Vec<String>,
    /// Outgoing steps per state, sorted by word.
    steps: Vec<Vec<(u32, u32)>>,
    finals: Vec<bool>,
}

impl Network {
    pub(super) fn of(automaton: &Automaton) -> Result<Self, GrammarError> {
        let big = determinise(automaton)?;
        Ok(minimise(&big))
    }

    /// How many states there are.
    pub fn states(&self) -> u32 {
        self.steps.len() as u32
    }

    /// Whether a sentence may end here.
    pub fn is_final(&self, state: u32) -> bool {
        self.finals.get(state as usize).copied().unwrap_or(false)
    }

    /// A word by its index.
    pub fn word(&self, index: u32) -> &str {
        self.words.get(index as usize).map_or("", String::as_str)
    }

    /// All words, in the order of their indices.
    pub fn words(&self) -> impl Iterator<Item = &str> {
        self.words.iter().map(String::as_str)
    }

    /// All steps.
    pub fn transitions(&self) -> impl Iterator<Item = Transition> {
        self.steps
            .iter()
            .zip(0..)
            .flat_map(|(steps, from)| steps.iter().map(move |&(word, to)| Transition { from, word, to }))
    }

    /// Whether these words lead to a state from which at least one more word may follow.
    pub(super) fn continues_after(&self, words: &[String]) -> bool {
        let mut state = 0u32;
        for word in words {
            let step = self.steps_of(state).iter().find(|(id, _)| self.word(*id) == word);
            match step {
                Some(&(_, to)) => state = to,
                None => return false,
            }
        }
        !self.steps_of(state).is_empty()
    }

    /// A sentence of the grammar, another for another `seed`; for tests and measurements.
    pub fn sentence(&self, seed: u64) -> String {
        let mut random = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1;
        let mut next = move |below: usize| {
            random ^= random << 13;
            random ^= random >> 7;
            random ^= random << 17;
            ((random >> 33) as usize) % below.max(1)
        };
        let (mut state, mut said) = (0, Vec::new());
        loop {
            let steps = self.steps_of(state);
            let stop = self.is_final(state) && (steps.is_empty() || next(3) == 0);
            let Some(&(word, to)) = steps.get(next(steps.len())).filter(|_| !stop) else { break };
            said.push(self.word(word));
            state = to;
        }
        said.join(" ")
    }

    pub(super) fn to_jsgf(&self) -> String {
        let mut text = String::from("#JSGF V1.0;\ngrammar omnivox;\npublic <said> = <s0>;\n");
        for (state, steps) in self.steps.iter().enumerate() {
            if steps.is_empty() {
                continue;
            }
            let mut by_target: BTreeMap<u32, Vec<&str>> = BTreeMap::new();
            for &(word, to) in steps {
                by_target.entry(to).or_default().push(self.word(word));
            }
            let ways = by_target.iter().map(|(&to, words)| {
                let words = words.join(" | ");
                match (self.steps_of(to).is_empty(), self.is_final(to)) {
                    (true, _) => format!("({words})"),
                    (false, true) => format!("({words}) [<s{to}>]"),
                    (false, false) => format!("({words}) <s{to}>"),
                }
            });
            let ways = ways.collect::<Vec<_>>().join("\n  | ");
            // Writing to a String can't fail.
            let _ = writeln!(text, "<s{state}> = {ways};");
        }
        text
    }

    fn steps_of(&self, state: u32) -> &[(u32, u32)] {
        self.steps.get(state as usize).map_or(&[], Vec::as_slice)
    }
}

/// Subset construction; slot marks are silent here.
fn determinise(automaton: &Automaton) -> Result<Network, GrammarError> {
    let mut network = Network { words: automaton.words.clone(), ..Network::default() };
    let mut ids: HashMap<Vec<State>, u32> = HashMap::new();
    let mut todo: Vec<Vec<State>> = Vec::new();
    let mut enter = |set: BTreeSet<State>, todo: &mut Vec<Vec<State>>, network: &mut Network| {
        let set: Vec<State> = closure(automaton, set).into_iter().collect();
        let id = *ids.entry(set.clone()).or_insert_with(|| {
            network.steps.push(Vec::new());
            network.finals.push(set.iter().any(|state| automaton.is_final(*state)));
            todo.push(set);
            network.steps.len() as u32 - 1
        });
        if network.steps.len() > MAX_STATES { Err(GrammarError::TooLarge { limit: MAX_STATES }) } else { Ok(id) }
    };
    enter(BTreeSet::from([0]), &mut todo, &mut network)?;
    let mut done = 0;
    while let Some(set) = todo.get(done).cloned() {
        let mut by_word: BTreeMap<u32, BTreeSet<State>> = BTreeMap::new();
        for (label, to) in set.iter().flat_map(|state| automaton.arcs_of(*state)) {
            if let Label::Word(word) = label {
                by_word.entry(*word).or_default().insert(*to);
            }
        }
        for (word, targets) in by_word {
            let to = enter(targets, &mut todo, &mut network)?;
            if let Some(steps) = network.steps.get_mut(done) {
                steps.push((word, to));
            }
        }
        done += 1;
    }
    Ok(network)
}

fn closure(automaton: &Automaton, mut set: BTreeSet<State>) -> BTreeSet<State> {
    let mut todo: Vec<State> = set.iter().copied().collect();
    while let Some(state) = todo.pop() {
        for &(label, to) in automaton.arcs_of(state) {
            if !matches!(label, Label::Word(_)) && set.insert(to) {
                todo.push(to);
            }
        }
    }
    set
}

/// Merges states with the same future. There are no loops, so one pass from the ends suffices: states are visited
/// after all they lead to.
fn minimise(network: &Network) -> Network {
    let mut order = Vec::with_capacity(network.steps.len());
    let mut seen = vec![false; network.steps.len()];
    let mut stack: Vec<(u32, usize)> = vec![(0, 0)];
    while let Some((state, next)) = stack.pop() {
        if let Some(&(_, to)) = network.steps_of(state).get(next) {
            stack.push((state, next + 1));
            if let Some(seen) = seen.get_mut(to as usize)
                && !std::mem::replace(seen, true)
            {
                stack.push((to, 0));
            }
        } else {
            order.push(state);
        }
    }
    let mut class_of: HashMap<u32, u32> = HashMap::new();
    let mut classes: HashMap<(bool, Vec<(u32, u32)>), u32> = HashMap::new();
    let mut merged: Vec<(bool, Vec<(u32, u32)>)> = Vec::new();
    for state in order {
        let steps: Vec<(u32, u32)> = network
            .steps_of(state)
            .iter()
            .filter_map(|(word, to)| class_of.get(to).map(|class| (*word, *class)))
            .collect();
        let key = (network.is_final(state), steps);
        let class = *classes.entry(key.clone()).or_insert_with(|| {
            merged.push(key);
            merged.len() as u32 - 1
        });
        class_of.insert(state, class);
    }
    // The start came last: count from the other end, so that it is state 0.
    let last = merged.len().saturating_sub(1) as u32;
    let mut small = Network { words: network.words.clone(), ..Network::default() };
    for (is_final, steps) in merged.into_iter().rev() {
        small.finals.push(is_final);
        small.steps.push(steps.into_iter().map(|(word, to)| (word, last - to)).collect());
    }
    small
}
