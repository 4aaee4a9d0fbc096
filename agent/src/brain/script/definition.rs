//! A dialogue as TOML: the `[script]` table of an agent's definition, and what is wrong with it.
//!
//! ```toml
//! [script]
//! start = "menu"
//!
//! [script.states.menu]
//! say = "Welcome. How can I help?"
//! no_input = ["Are you still there?"]
//! no_match = ["Sorry, what was that?", "Please press 1 for our hours."]
//!
//! [[script.states.menu.on]]
//! phrases = ["[what are] your [opening] hours"]
//! keys = ["1"]
//! next = "hours"
//!
//! [script.states.hours]
//! say = "We are open from nine to five. Goodbye."
//! hang_up = "goodbye"
//! ```

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{privacy, template};
use crate::brain::TransferKind;
use crate::grammar::{Grammar, ListItem, Rule};

/// At most so many states.
pub const MAX_STATES: usize = 1_000;

/// A dialogue.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct ScriptDefinition {
    /// The state in which the conversation begins.
    pub start: String,
    /// Variables and their values at the beginning. Slots become variables too.
    pub variables: BTreeMap<String, String>,
    /// Lists that slots may name: what each entry is called in variables, and how it is said.
    pub lists: BTreeMap<String, Vec<Entry>>,
    /// Answers that are understood in every state that listens.
    pub everywhere: Vec<Answer>,
    /// What is said after silence where a state does not tell, one after the other.
    pub no_input: Texts,
    /// What is said after something that was not understood where a state does not tell, one after the other.
    pub no_match: Texts,
    /// Where to go when the caller was silent more often than there are `no_input` texts. Without it: hang up.
    pub after_no_input: Option<String>,
    /// Where to go when nothing was understood more often than there are `no_match` texts. Without it: hang up.
    pub after_no_match: Option<String>,
    /// The states by name.
    pub states: BTreeMap<String, State>,
}

/// One entry of a list.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Entry {
    /// The slot's value.
    pub value: String,
    /// How it is said; none: as the value is written.
    #[serde(default)]
    pub says: Vec<String>,
}

/// One text, or several.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Texts {
    /// One.
    One(String),
    /// Several.
    Many(Vec<String>),
}

impl Default for Texts {
    fn default() -> Self {
        Self::Many(Vec::new())
    }
}

impl Texts {
    /// The texts in their order.
    pub fn iter(&self) -> impl Iterator<Item = &str> {
        let slice = match self {
            Self::One(text) => std::slice::from_ref(text),
            Self::Many(texts) => texts.as_slice(),
        };
        slice.iter().map(String::as_str)
    }

    /// How many there are.
    #[must_use]
    pub fn len(&self) -> usize {
        self.iter().count()
    }

    /// True where there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// One state: something is said, then an answer is awaited, or the conversation goes on or ends.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct State {
    /// What is said on entering; `{name}` stands for a variable.
    pub say: Texts,
    /// Where to go at once, if its conditions hold; the first that fits.
    pub branch: Vec<Branch>,
    /// The answers that are understood.
    pub on: Vec<Answer>,
    /// Keys collected as one answer.
    pub digits: Option<Digits>,
    /// Where to go without waiting for an answer.
    pub next: Option<String>,
    /// The caller is connected with this address (a template) after `say`.
    pub transfer: Option<String>,
    /// How: `blind`, `attended` or `warm`.
    pub transfer_kind: TransferKind,
    /// What the person hears first (a template), of a warm transfer.
    pub transfer_summary: String,
    /// The person has to press 1 to take the call.
    pub transfer_accept: bool,
    /// The variables whose values an agent that the caller goes to knows.
    pub transfer_variables: Vec<String>,
    /// Such an agent is not told what was said before.
    pub transfer_afresh: bool,
    /// Where to go when the person is not to be had. Without it the caller hears so, and is hung up.
    pub transfer_failed: Option<String>,
    /// The call is hung up after `say`, for this reason.
    pub hang_up: Option<String>,
    /// Said after silence, one after the other.
    pub no_input: Texts,
    /// Said after something that was not understood, one after the other.
    pub no_match: Texts,
    /// Where to go when the `no_input` texts are used up.
    pub after_no_input: Option<String>,
    /// Where to go when the `no_match` texts are used up.
    pub after_no_match: Option<String>,
    /// How long to wait for the caller to begin, in milliseconds.
    pub no_input_ms: Option<u32>,
    /// Numbers and the like are asked for, which people speak with pauses.
    pub dictated: bool,
    /// Speech does not cut `say` short.
    pub uninterruptible: bool,
    /// The answers of `everywhere` are not understood here.
    pub alone: bool,
    /// What is said or pressed here is in no recording, transcript or log.
    pub private: bool,
}

impl State {
    /// Whether the caller's answer is awaited here.
    #[must_use]
    pub fn listens(&self) -> bool {
        self.next.is_none() && self.transfer.is_none() && self.hang_up.is_none()
    }
}

/// A condition and where it leads.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Branch {
    /// Variables that have these values (`""`: not set).
    #[serde(default)]
    pub when: BTreeMap<String, String>,
    /// Variables that do not have these values.
    #[serde(default)]
    pub unless: BTreeMap<String, String>,
    /// Where to go.
    pub next: String,
}

/// An answer that is understood, and what follows it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Answer {
    /// How it is said; see the grammar's phrases.
    pub phrases: Vec<String>,
    /// The keys that mean it.
    pub keys: Vec<String>,
    /// Variables to set; values are templates over the variables and the answer's slots.
    pub set: BTreeMap<String, String>,
    /// Said in answer, before the next state's `say`.
    pub say: Texts,
    /// Where to go; without it, the state is entered again.
    pub next: Option<String>,
    /// Says the last thing again and stays.
    pub repeat: bool,
}

/// Keys collected as one answer.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Digits {
    /// The variable that takes them.
    pub to: String,
    /// At least so many.
    #[serde(default = "one")]
    pub min: usize,
    /// At most so many.
    pub max: usize,
    /// Where to go.
    pub next: String,
}

fn one() -> usize {
    1
}

/// A fault in a dialogue.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fault {
    /// Where it stands, such as `script.states.menu.on[0].next`.
    pub place: String,
    /// What is wrong, and how to mend it.
    pub what: String,
}

impl std::fmt::Display for Fault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.place, self.what)
    }
}

impl ScriptDefinition {
    /// All faults; none means that the dialogue can be held.
    #[must_use]
    pub fn faults(&self) -> Vec<Fault> {
        let mut check = Check { script: self, faults: Vec::new() };
        check.all();
        check.faults
    }

    /// The rules of a state: its own answers first, then those understood everywhere. The rule of the n-th answer of
    /// the state is called `state/n`, of the n-th one everywhere `everywhere/n`.
    #[must_use]
    pub fn rules(&self, name: &str, state: &State) -> Vec<Rule> {
        let rules = |prefix: &str, answers: &[Answer]| -> Vec<Rule> {
            answers
                .iter()
                .enumerate()
                .filter(|(_, answer)| !answer.phrases.is_empty())
                .map(|(n, answer)| Rule::new(format!("{prefix}/{n}"), answer.phrases.iter().cloned()))
                .collect()
        };
        let mut all = rules(name, &state.on);
        // Where nothing of its own is understood, a state waits for keys or for any of the answers understood everywhere.
        if !state.alone {
            all.extend(rules("everywhere", &self.everywhere));
        }
        all
    }

    /// The lists for [`Grammar::new`].
    #[must_use]
    pub fn grammar_lists(&self) -> BTreeMap<String, Vec<ListItem>> {
        let items = |entries: &Vec<Entry>| {
            entries.iter().map(|entry| ListItem { value: entry.value.clone(), says: entry.says.clone() }).collect()
        };
        self.lists.iter().map(|(name, entries)| (name.clone(), items(entries))).collect()
    }
}

struct Check<'a> {
    script: &'a ScriptDefinition,
    faults: Vec<Fault>,
}

impl Check<'_> {
    fn fault(&mut self, place: impl Into<String>, what: impl Into<String>) {
        self.faults.push(Fault { place: place.into(), what: what.into() });
    }

    fn all(&mut self) {
        let script = self.script;
        if script.states.is_empty() {
            return self.fault("script.states", "there is no state: write at least [script.states.NAME] with `say`");
        }
        if script.states.len() > MAX_STATES {
            return self.fault("script.states", format!("{} states are more than {MAX_STATES}", script.states.len()));
        }
        self.target("script.start", Some(&script.start));
        self.target("script.after_no_input", script.after_no_input.as_ref());
        self.target("script.after_no_match", script.after_no_match.as_ref());
        let known = self.variables();
        for (n, answer) in script.everywhere.iter().enumerate() {
            self.answer(&format!("script.everywhere[{n}]"), answer, &known);
        }
        self.texts("script.no_input", &script.no_input, &known);
        self.texts("script.no_match", &script.no_match, &known);
        for (name, state) in &script.states {
            self.state(name, state, &known);
        }
        self.unreachable();
        self.endless();
        self.faults.extend(privacy::faults(script));
    }

    /// Every name that a template may use: variables, `set`s, collected digits, and slots of any answer.
    fn variables(&self) -> BTreeSet<String> {
        let script = self.script;
        let mut known: BTreeSet<String> = script.variables.keys().cloned().collect();
        let answers = script.everywhere.iter().chain(script.states.values().flat_map(|state| state.on.iter()));
        for answer in answers {
            known.extend(answer.set.keys().cloned());
            known.extend(answer.phrases.iter().flat_map(|phrase| template::slot_names(phrase)));
        }
        known.extend(script.states.values().filter_map(|state| state.digits.as_ref()).map(|digits| digits.to.clone()));
        known
    }

    fn state(&mut self, name: &str, state: &State, known: &BTreeSet<String>) {
        let place = format!("script.states.{name}");
        let ends = [
            ("next", state.next.is_some()),
            ("transfer", state.transfer.is_some()),
            ("hang_up", state.hang_up.is_some()),
        ];
        let said: Vec<&str> = ends.iter().filter(|(_, there)| *there).map(|(name, _)| *name).collect();
        if said.len() > 1 {
            self.fault(&place, format!("has {}, of which only one can be done: leave one", said.join(" and ")));
        }
        if state.listens()
            && state.on.is_empty()
            && state.digits.is_none()
            && (state.alone || self.script.everywhere.is_empty())
        {
            self.fault(
                &place,
                "waits for an answer but understands none: give it `on`, `digits`, `next`, `transfer` or `hang_up`",
            );
        }
        if !(state.listens() || state.on.is_empty() && state.digits.is_none()) {
            self.fault(
                &place,
                format!("understands answers but does not wait for one: remove `{}` or `on`", said.join("`, `")),
            );
        }
        self.texts(&format!("{place}.say"), &state.say, known);
        if state.say.is_empty() && state.listens() && self.entered_silently(name) {
            self.fault(format!("{place}.say"), "is empty: the caller would hear nothing and not know what is awaited");
        }
        self.texts(&format!("{place}.no_input"), &state.no_input, known);
        self.texts(&format!("{place}.no_match"), &state.no_match, known);
        for (field, target) in [
            ("next", &state.next),
            ("after_no_input", &state.after_no_input),
            ("after_no_match", &state.after_no_match),
            ("transfer_failed", &state.transfer_failed),
        ] {
            self.target(&format!("{place}.{field}"), target.as_ref());
        }
        if let Some(transfer) = state.transfer.as_ref() {
            self.template(&format!("{place}.transfer"), transfer, known);
        }
        self.template(&format!("{place}.transfer_summary"), &state.transfer_summary, known);
        if state.transfer_kind == TransferKind::Warm && state.transfer_summary.trim().is_empty() {
            self.fault(format!("{place}.transfer_summary"), "is empty: say what the person is to hear first");
        }
        for name in &state.transfer_variables {
            self.variable(&format!("{place}.transfer_variables"), name, known);
        }
        for (n, branch) in state.branch.iter().enumerate() {
            self.target(&format!("{place}.branch[{n}].next"), Some(&branch.next));
            for variable in branch.when.keys().chain(branch.unless.keys()) {
                self.variable(&format!("{place}.branch[{n}]"), variable, known);
            }
        }
        for (n, answer) in state.on.iter().enumerate() {
            self.answer(&format!("{place}.on[{n}]"), answer, known);
        }
        if let Some(digits) = state.digits.as_ref() {
            self.digits(&format!("{place}.digits"), digits);
        }
        self.keys_once(&place, state);
        self.grammar(&place, name, state);
    }

    /// Whether a state can be entered other than by the `next` of a state that says something.
    fn entered_silently(&self, name: &str) -> bool {
        let script = self.script;
        let is = |target: &Option<String>| target.as_deref() == Some(name);
        let by_answer = |answer: &Answer| is(&answer.next) && answer.say.is_empty();
        script.start == name
            || script.everywhere.iter().any(by_answer)
            || is(&script.after_no_input)
            || is(&script.after_no_match)
            || script.states.values().any(|state| {
                state.on.iter().any(by_answer)
                    || state.branch.iter().any(|branch| branch.next == name)
                    || state.digits.as_ref().is_some_and(|digits| digits.next == name)
                    || is(&state.after_no_input)
                    || is(&state.after_no_match)
                    || is(&state.transfer_failed)
                    || (is(&state.next) && state.say.is_empty())
            })
    }

    fn digits(&mut self, place: &str, digits: &Digits) {
        self.target(&format!("{place}.next"), Some(&digits.next));
        if digits.min == 0 || digits.min > digits.max || digits.max > crate::turn::MAX_KEYS {
            let limit = crate::turn::MAX_KEYS;
            self.fault(
                place,
                format!(
                    "min = {}, max = {}: at least 1 and at most {limit} keys, min no more than max",
                    digits.min, digits.max
                ),
            );
        }
    }

    fn answer(&mut self, place: &str, answer: &Answer, known: &BTreeSet<String>) {
        if answer.phrases.is_empty() && answer.keys.is_empty() {
            self.fault(place, "has neither `phrases` nor `keys`: it could never be given");
        }
        for key in &answer.keys {
            let good = key.chars().count() == 1
                && key.chars().all(|key| key.is_ascii_digit() || matches!(key, '*' | '#' | 'A'..='D'));
            if !good {
                self.fault(
                    format!("{place}.keys"),
                    format!("{key:?} is no key: a key is one of 0 to 9, * and #, such as keys = [\"1\"]"),
                );
            }
        }
        if answer.repeat && answer.next.is_some() {
            self.fault(place, "has both `repeat` and `next`: leave one");
        }
        self.target(&format!("{place}.next"), answer.next.as_ref());
        self.texts(&format!("{place}.say"), &answer.say, known);
        for (variable, value) in &answer.set {
            self.template(&format!("{place}.set.{variable}"), value, known);
        }
    }

    fn keys_once(&mut self, place: &str, state: &State) {
        let mut seen = BTreeSet::new();
        for key in state.on.iter().flat_map(|answer| answer.keys.iter()) {
            if !seen.insert(key) {
                self.fault(format!("{place}.on"), format!("key {key:?} means two answers: leave it in one of them"));
            }
        }
    }

    fn grammar(&mut self, place: &str, name: &str, state: &State) {
        let rules = self.script.rules(name, state);
        if rules.is_empty() || !state.listens() {
            return;
        }
        if let Err(error) = Grammar::new(rules, self.script.grammar_lists()) {
            self.fault(format!("{place}.on"), error.to_string());
        }
    }

    fn texts(&mut self, place: &str, texts: &Texts, known: &BTreeSet<String>) {
        for text in texts.iter() {
            if text.trim().is_empty() {
                self.fault(place, "holds an empty text: write what is to be said, or leave it out");
            }
            self.template(place, text, known);
        }
    }

    fn template(&mut self, place: &str, text: &str, known: &BTreeSet<String>) {
        match template::names(text) {
            Ok(names) => names.iter().for_each(|name| self.variable(place, name, known)),
            Err(what) => self.fault(place, what),
        }
    }

    fn variable(&mut self, place: &str, name: &str, known: &BTreeSet<String>) {
        if !known.contains(name) {
            let mend = suggestion(name, known.iter()).unwrap_or_else(|| {
                "it is no slot of any phrase and stands in no `set` and not in script.variables".into()
            });
            self.fault(place, format!("{{{name}}} is not known: {mend}"));
        }
    }

    fn target(&mut self, place: &str, target: Option<&String>) {
        let Some(target) = target else { return };
        if self.script.states.contains_key(target) {
            return;
        }
        let mend = suggestion(target, self.script.states.keys()).unwrap_or_else(|| {
            let names: Vec<&str> = self.script.states.keys().take(12).map(String::as_str).collect();
            format!("the states are {}", names.join(", "))
        });
        self.fault(place, format!("there is no state {target:?}: {mend}"));
    }

    fn leads_to<'b>(&'b self, state: &'b State) -> impl Iterator<Item = &'b String> {
        let answers = state.on.iter().filter_map(|answer| answer.next.as_ref());
        let ends = [&state.next, &state.after_no_input, &state.after_no_match, &state.transfer_failed];
        answers
            .chain(state.branch.iter().map(|branch| &branch.next))
            .chain(state.digits.iter().map(|digits| &digits.next))
            .chain(ends.into_iter().flatten())
    }

    fn unreachable(&mut self) {
        let script = self.script;
        let mut reached = BTreeSet::new();
        let mut open: Vec<&String> = vec![&script.start];
        open.extend(script.everywhere.iter().filter_map(|answer| answer.next.as_ref()));
        open.extend([&script.after_no_input, &script.after_no_match].into_iter().flatten());
        while let Some(name) = open.pop() {
            if let (true, Some(state)) = (reached.insert(name.clone()), script.states.get(name)) {
                open.extend(self.leads_to(state));
            }
        }
        for name in script.states.keys().filter(|name| !reached.contains(*name)) {
            let place = format!("script.states.{name}");
            self.fault(place, "can't be reached: no `next` leads here from the start; lead there or remove it");
        }
    }

    /// States that go on without an answer must not go round in a circle.
    fn endless(&mut self) {
        for name in self.script.states.keys() {
            let mut at = name;
            let mut steps = 0;
            while let Some(next) = self.script.states.get(at).and_then(|state| state.next.as_ref()) {
                at = next;
                steps += 1;
                if at == name || steps > self.script.states.len() {
                    self.fault(
                        format!("script.states.{name}.next"),
                        "leads in a circle of states that wait for no answer: break it",
                    );
                    break;
                }
            }
        }
    }
}

/// `did you mean ...`, where something like `name` is known.
fn suggestion<'a>(name: &str, known: impl Iterator<Item = &'a String>) -> Option<String> {
    closest(name, known.map(String::as_str)).map(|known| format!("did you mean {known:?}?"))
}

/// The known name that was probably meant.
pub(crate) fn closest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    let near = |known: &&str| {
        let slips = strsim::damerau_levenshtein(name, known);
        strsim::jaro_winkler(name, known) > 0.8 || (slips <= 2 && slips < name.chars().count())
    };
    known.filter(near).min_by_key(|known| strsim::damerau_levenshtein(name, known))
}
