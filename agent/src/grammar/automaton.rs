//! The automaton that reads meaning out of words: word arcs, silent arcs, and marks where slots open and close.

use std::collections::{BTreeMap, HashMap, HashSet};

use super::phrase::{Node, Value};
use super::{GrammarError, MAX_STATES, Match};

pub(super) type State = u32;

#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Label {
    Word(u32),
    Silent,
    Open(u32),
    /// Ends the innermost open slot with a value.
    Close(u32),
}

/// A nondeterministic automaton without loops. State 0 is the start.
#[derive(Debug, Default)]
pub(super) struct Automaton {
    pub(super) arcs: Vec<Vec<(Label, State)>>,
    pub(super) words: Vec<String>,
    word_ids: HashMap<String, u32>,
    slots: Vec<String>,
    values: Vec<Value>,
    /// Accepting states and the rule each stands for.
    rules: BTreeMap<State, String>,
}

impl Automaton {
    pub(super) fn is_final(&self, state: State) -> bool {
        self.rules.contains_key(&state)
    }

    pub(super) fn arcs_of(&self, state: State) -> &[(Label, State)] {
        self.arcs.get(state as usize).map_or(&[], Vec::as_slice)
    }

    /// The first way, in the order of writing, in which these words are a phrase.
    pub(super) fn accept(&self, words: &[String]) -> Option<Match> {
        let ids: Option<Vec<u32>> = words.iter().map(|word| self.word_ids.get(word).copied()).collect();
        let mut search = Search { automaton: self, ids: ids?, dead: HashSet::new(), path: Vec::new() };
        let rule = search.from(0, 0)?;
        let slots = search.slots(words);
        Some(Match { rule, slots })
    }
}

struct Search<'a> {
    automaton: &'a Automaton,
    ids: Vec<u32>,
    /// Where the search has been in vain; keeps it linear in states times words.
    dead: HashSet<(State, usize)>,
    path: Vec<(Label, usize)>,
}

impl Search<'_> {
    fn from(&mut self, state: State, at: usize) -> Option<String> {
        if at == self.ids.len()
            && let Some(rule) = self.automaton.rules.get(&state)
        {
            return Some(rule.clone());
        }
        if self.dead.contains(&(state, at)) {
            return None;
        }
        let automaton = self.automaton;
        for &(label, to) in automaton.arcs_of(state) {
            let next = match label {
                Label::Word(word) if self.ids.get(at) == Some(&word) => at + 1,
                Label::Word(_) => continue,
                Label::Silent | Label::Open(_) | Label::Close(_) => at,
            };
            self.path.push((label, at));
            if let Some(rule) = self.from(to, next) {
                return Some(rule);
            }
            self.path.pop();
        }
        self.dead.insert((state, at));
        None
    }

    fn slots(&self, words: &[String]) -> BTreeMap<String, String> {
        let mut slots = BTreeMap::new();
        let mut open: Vec<(u32, usize)> = Vec::new();
        for &(label, at) in &self.path {
            match label {
                Label::Open(slot) => open.push((slot, at)),
                Label::Close(value) => {
                    let Some((slot, start)) = open.pop() else { continue };
                    let said: Vec<&str> = words.get(start..at).unwrap_or_default().iter().map(String::as_str).collect();
                    let value = match self.automaton.values.get(value as usize) {
                        Some(Value::Literal(value)) => value.clone(),
                        Some(Value::Read(reading)) => reading.value(&said),
                        None => said.join(" "),
                    };
                    if let Some(name) = self.automaton.slots.get(slot as usize) {
                        slots.insert(name.clone(), value);
                    }
                }
                Label::Word(_) | Label::Silent => {}
            }
        }
        slots
    }
}

/// Adds phrases one by one.
#[derive(Default)]
pub(super) struct Builder {
    automaton: Automaton,
}

impl Builder {
    pub(super) fn add(&mut self, rule: &str, node: &Node) -> Result<(), GrammarError> {
        if self.automaton.arcs.is_empty() {
            self.state()?;
        }
        let start = self.state()?;
        self.arc(0, Label::Silent, start);
        let end = self.node(start, node)?;
        self.automaton.rules.insert(end, rule.to_owned());
        Ok(())
    }

    pub(super) fn build(self) -> Automaton {
        self.automaton
    }

    fn state(&mut self) -> Result<State, GrammarError> {
        if self.automaton.arcs.len() >= MAX_STATES {
            return Err(GrammarError::TooLarge { limit: MAX_STATES });
        }
        self.automaton.arcs.push(Vec::new());
        Ok(self.automaton.arcs.len() as State - 1)
    }

    fn arc(&mut self, from: State, label: Label, to: State) {
        if let Some(arcs) = self.automaton.arcs.get_mut(from as usize) {
            arcs.push((label, to));
        }
    }

    fn step(&mut self, from: State, label: Label) -> Result<State, GrammarError> {
        let to = self.state()?;
        self.arc(from, label, to);
        Ok(to)
    }

    fn word(&mut self, word: &str) -> Label {
        let next = self.automaton.words.len() as u32;
        let id = *self.automaton.word_ids.entry(word.to_owned()).or_insert(next);
        if id == next {
            self.automaton.words.push(word.to_owned());
        }
        Label::Word(id)
    }

    fn node(&mut self, from: State, node: &Node) -> Result<State, GrammarError> {
        match node {
            Node::Word(word) => {
                let label = self.word(word);
                self.step(from, label)
            }
            Node::Sequence(parts) => parts.iter().try_fold(from, |state, part| self.node(state, part)),
            Node::Either(parts) => {
                let end = self.state()?;
                for part in parts {
                    let branch = self.step(from, Label::Silent)?;
                    let done = self.node(branch, part)?;
                    self.arc(done, Label::Silent, end);
                }
                Ok(end)
            }
            Node::Optional(part) => {
                let branch = self.step(from, Label::Silent)?;
                let done = self.node(branch, part)?;
                self.arc(from, Label::Silent, done);
                Ok(done)
            }
            Node::Slot { name, body } => {
                self.automaton.slots.push(name.clone());
                let open = self.step(from, Label::Open(self.automaton.slots.len() as u32 - 1))?;
                self.node(open, body)
            }
            Node::Value(body, value) => {
                let done = self.node(from, body)?;
                self.automaton.values.push(value.clone());
                self.step(done, Label::Close(self.automaton.values.len() as u32 - 1))
            }
            Node::Digits { min, max } => self.digits(from, *min, *max),
        }
    }

    /// One state for each count of digits; `double` and `triple` jump ahead.
    fn digits(&mut self, from: State, min: usize, max: usize) -> Result<State, GrammarError> {
        const DIGITS: [&str; 11] =
            ["zero", "oh", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"];
        let mut counts = vec![from];
        for _ in 0..max {
            counts.push(self.state()?);
        }
        for (count, &state) in counts.iter().enumerate() {
            for (jump, before) in [(1, ""), (2, "double"), (3, "triple")] {
                let Some(&to) = counts.get(count + jump) else { continue };
                let start = if before.is_empty() {
                    state
                } else {
                    let label = self.word(before);
                    self.step(state, label)?
                };
                for digit in DIGITS {
                    let label = self.word(digit);
                    self.arc(start, label, to);
                }
            }
        }
        let end = self.state()?;
        for &state in counts.get(min..).unwrap_or_default() {
            self.arc(state, Label::Silent, end);
        }
        Ok(end)
    }
}
