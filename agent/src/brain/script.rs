//! The scripted brain: a dialogue of states, written in TOML, which needs no network and never invents anything.
//!
//! What is wrong with a dialogue is found when it is compiled ([`Script::new`]), not in a call.

pub mod definition;
mod privacy;
mod template;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

pub use definition::{Answer, Branch, Digits, Entry, Fault, ScriptDefinition, State, Texts};

use super::{Brain, BrainFactory, BrainInput, BrainOutput, BrainStream, Handover, KeyAnswer, Listen};
use crate::briefing::{self, Briefing};
use crate::grammar::{Grammar, GrammarError};
use crate::history::History;
use crate::tool::{AskedBy, HANG_UP, TRANSFER, ToolAsk};

/// A dialogue cannot be held as it is written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{}", list(faults))]
pub struct ScriptError {
    /// What is wrong, at least one.
    pub faults: Vec<Fault>,
}

/// A compiled dialogue. Opens a brain for each conversation.
#[derive(Debug)]
pub struct Script {
    definition: ScriptDefinition,
    grammars: BTreeMap<String, Arc<Grammar>>,
}

impl Script {
    /// Checks and compiles a dialogue.
    ///
    /// # Errors
    /// All its faults, each with its place and how to mend it.
    pub fn new(definition: ScriptDefinition) -> Result<Self, ScriptError> {
        let faults = definition.faults();
        if !faults.is_empty() {
            return Err(ScriptError { faults });
        }
        let lists = definition.grammar_lists();
        let mut grammars = BTreeMap::new();
        for (name, state) in definition.states.iter().filter(|(_, state)| state.listens()) {
            let rules = definition.rules(name, state);
            if rules.is_empty() {
                continue;
            }
            let grammar = Grammar::new(rules, lists.clone()).map_err(|error| grammar_fault(name, &error))?;
            grammars.insert(name.clone(), Arc::new(grammar));
        }
        Ok(Self { definition, grammars })
    }

    /// The dialogue as it was written.
    #[must_use]
    pub fn definition(&self) -> &ScriptDefinition {
        &self.definition
    }

    /// What may be said, state by state.
    pub fn grammars(&self) -> impl Iterator<Item = &Arc<Grammar>> {
        self.grammars.values()
    }

    /// What may be said in a state.
    #[must_use]
    pub fn grammar(&self, state: &str) -> Option<&Arc<Grammar>> {
        self.grammars.get(state)
    }
}

/// Opens [`ScriptBrain`]s on one compiled dialogue.
#[derive(Debug, Clone)]
pub struct ScriptFactory {
    script: Arc<Script>,
}

impl ScriptFactory {
    /// For this dialogue.
    #[must_use]
    pub fn new(script: Script) -> Self {
        Self { script: Arc::new(script) }
    }

    /// The dialogue.
    #[must_use]
    pub fn script(&self) -> &Arc<Script> {
        &self.script
    }
}

impl BrainFactory for ScriptFactory {
    fn name(&self) -> &str {
        "script"
    }

    fn open(&self) -> Box<dyn Brain> {
        Box::new(ScriptBrain::new(Arc::clone(&self.script)))
    }

    fn phrases(&self) -> Vec<String> {
        let script = &self.script.definition;
        let answers = script.everywhere.iter().chain(script.states.values().flat_map(|state| state.on.iter()));
        let states = script.states.values().flat_map(|state| [&state.say, &state.no_input, &state.no_match]);
        let texts = states.chain(answers.map(|answer| &answer.say)).chain([&script.no_input, &script.no_match]);
        let fixed = texts.flat_map(|texts| texts.iter()).filter(|text| !text.contains('{'));
        let filled = fixed.map(str::to_owned).chain(
            // What the variables make of a text at the start is likely to be said too.
            script
                .states
                .get(&script.start)
                .into_iter()
                .flat_map(|state| state.say.iter())
                .map(|t| template::fill(t, &script.variables)),
        );
        let mut phrases: Vec<String> = filled.collect();
        phrases.sort_unstable();
        phrases.dedup();
        phrases
    }
}

/// Where a conversation stands.
#[derive(Debug, Clone)]
struct Situation {
    state: String,
    variables: BTreeMap<String, String>,
    last_said: Vec<String>,
}

/// One conversation by a script.
#[derive(Debug)]
pub struct ScriptBrain {
    script: Arc<Script>,
    situation: Situation,
    pending: Option<Situation>,
}

impl ScriptBrain {
    /// At the start of the dialogue.
    #[must_use]
    pub fn new(script: Arc<Script>) -> Self {
        let situation = Situation {
            state: script.definition.start.clone(),
            variables: script.definition.variables.clone(),
            last_said: Vec::new(),
        };
        Self { script, situation, pending: None }
    }

    /// The present state's name.
    #[must_use]
    pub fn state(&self) -> &str {
        &self.situation.state
    }

    /// A variable's present value.
    #[must_use]
    pub fn variable(&self, name: &str) -> Option<&str> {
        self.situation.variables.get(name).map(String::as_str)
    }

    fn definition(&self) -> &ScriptDefinition {
        &self.script.definition
    }

    fn here(&self) -> Option<&State> {
        self.definition().states.get(&self.situation.state)
    }

    /// Where the answer leads, and what is said on the way.
    fn follow(&self, input: &BrainInput) -> (Situation, Vec<BrainOutput>) {
        let mut step = Step { script: &self.script.definition, situation: self.situation.clone(), texts: Vec::new() };
        let outputs = match input {
            BrainInput::Start => step.enter(&self.situation.state),
            BrainInput::Heard { text, .. } => {
                let matched =
                    self.script.grammars.get(&self.situation.state).and_then(|grammar| grammar.match_text(text));
                let answer = matched.as_ref().and_then(|matched| self.answer(&matched.rule));
                match (matched, answer) {
                    (Some(matched), Some(answer)) => step.answered(answer, matched.slots),
                    _ => step.not_understood(1),
                }
            }
            BrainInput::Digits(keys) => self.keyed(&mut step, keys),
            BrainInput::NoInput(n) => step.silence(*n),
            BrainInput::NoMatch(n) => step.not_understood(*n),
            BrainInput::TransferFailed(why) => step.transfer_failed(why),
            // The dialogue had nothing to do with it: it goes on where it was.
            BrainInput::Returned(_) => step.repeat(),
        };
        (step.situation, outputs)
    }

    fn keyed<'a>(&'a self, step: &mut Step<'a>, keys: &str) -> Vec<BrainOutput> {
        if let Some(digits) = self.here().and_then(|state| state.digits.as_ref())
            && (digits.min..=digits.max).contains(&keys.len())
            && keys.chars().all(|key| key.is_ascii_digit())
        {
            step.situation.variables.insert(digits.to.clone(), keys.to_owned());
            return step.enter(&digits.next);
        }
        let own = self.here().into_iter().flat_map(|state| state.on.iter());
        let alone = self.here().is_some_and(|state| state.alone);
        let everywhere = self.definition().everywhere.iter().filter(|_| !alone);
        match own.chain(everywhere).find(|answer| answer.keys.iter().any(|key| key == keys)) {
            Some(answer) => step.answered(answer, BTreeMap::new()),
            None => step.not_understood(1),
        }
    }

    /// The answer behind a rule's name.
    fn answer(&self, rule: &str) -> Option<&Answer> {
        let (place, n) = rule.rsplit_once('/')?;
        let n: usize = n.parse().ok()?;
        match place {
            "everywhere" if !self.definition().states.contains_key("everywhere") => self.definition().everywhere.get(n),
            state => self.definition().states.get(state)?.on.get(n),
        }
    }
}

impl Brain for ScriptBrain {
    fn name(&self) -> &str {
        "script"
    }

    fn expects(&self) -> Option<Arc<Grammar>> {
        self.script.grammars.get(&self.situation.state).cloned()
    }

    fn respond(&mut self, input: BrainInput, _history: &History) -> BrainStream {
        let (situation, outputs) = self.follow(&input);
        self.pending = Some(situation);
        Box::pin(futures::stream::iter(outputs.into_iter().map(Ok)))
    }

    /// The variables that the dialogue itself has take what is known by their names; nothing else is taken.
    fn brief(&mut self, briefing: &Briefing) {
        let own = [(briefing::FROM, &briefing.from), (briefing::SUMMARY, &briefing.summary)];
        let known = briefing.variables.iter().map(|(name, value)| (name.as_str(), value)).chain(own);
        for (name, value) in known.filter(|(_, value)| !value.is_empty()) {
            if let Some(variable) = self.situation.variables.get_mut(name) {
                variable.clone_from(value);
            }
        }
    }

    fn is_private(&self) -> bool {
        self.here().is_some_and(|state| state.private)
    }

    fn commit(&mut self) {
        if let Some(situation) = self.pending.take() {
            self.situation = situation;
        }
    }

    fn discard(&mut self) {
        self.pending = None;
    }
}

/// One step from state to state.
struct Step<'a> {
    script: &'a ScriptDefinition,
    situation: Situation,
    texts: Vec<String>,
}

impl<'a> Step<'a> {
    fn answered(&mut self, answer: &'a Answer, slots: BTreeMap<String, String>) -> Vec<BrainOutput> {
        // A slot that was not spoken this time is empty, whatever it was before.
        for name in answer.phrases.iter().flat_map(|phrase| template::slot_names(phrase)) {
            self.situation.variables.insert(name, String::new());
        }
        self.situation.variables.extend(slots);
        for (name, value) in &answer.set {
            let value = template::fill(value, &self.situation.variables);
            self.situation.variables.insert(name.clone(), value);
        }
        self.say(&answer.say);
        if answer.repeat {
            return self.repeat();
        }
        let next = answer.next.clone().unwrap_or_else(|| self.situation.state.clone());
        self.enter(&next)
    }

    /// What was said last, once more, where the dialogue stands.
    fn repeat(&mut self) -> Vec<BrainOutput> {
        let again = self.situation.last_said.clone();
        self.texts.extend(again.iter().cloned());
        let mut outputs = self.here();
        self.situation.last_said = again;
        let is_transfer = |output: &BrainOutput| match output {
            BrainOutput::Transfer(_) => true,
            BrainOutput::Tool(tool) => tool.name == TRANSFER,
            _ => false,
        };
        outputs.retain(|output| !is_transfer(output));
        outputs
    }

    /// Goes into a state, and on from there as far as no answer is awaited.
    fn enter(&mut self, name: &str) -> Vec<BrainOutput> {
        let mut name = name.to_owned();
        // Each state at most once: a circle of branches ends in the state where it closes.
        for _ in 0..=self.script.states.len() {
            let Some(state) = self.script.states.get(&name) else { break };
            self.situation.state.clone_from(&name);
            if let Some(branch) = state.branch.iter().find(|branch| self.fits(branch)) {
                name.clone_from(&branch.next);
                continue;
            }
            self.say(&state.say);
            match &state.next {
                Some(next) => name.clone_from(next),
                None => break,
            }
        }
        self.here()
    }

    fn fits(&self, branch: &Branch) -> bool {
        let value = |name: &String| self.situation.variables.get(name).map_or("", String::as_str);
        branch.when.iter().all(|(name, wanted)| value(name) == wanted)
            && branch.unless.iter().all(|(name, unwanted)| value(name) != unwanted)
    }

    fn say(&mut self, texts: &Texts) {
        for text in texts.iter() {
            self.texts.push(template::fill(text, &self.situation.variables));
        }
    }

    /// The texts collected, and what follows in the state reached.
    fn here(&mut self) -> Vec<BrainOutput> {
        let mut outputs = self.said();
        let Some(state) = self.script.states.get(&self.situation.state) else { return outputs };
        if let Some(reason) = &state.hang_up {
            outputs.extend(hang_up(reason));
        } else if let Some(target) = &state.transfer {
            let uri = template::fill(target, &self.situation.variables);
            outputs.extend(match uri.trim() {
                "" => hang_up("no transfer target"),
                uri => transfer(Handover {
                    uri: uri.to_owned(),
                    kind: state.transfer_kind,
                    summary: template::fill(&state.transfer_summary, &self.situation.variables),
                    must_accept: state.transfer_accept,
                    variables: self.told(state),
                    afresh: state.transfer_afresh,
                }),
            });
        } else {
            outputs.push(BrainOutput::Listen(listen(state)));
        }
        outputs
    }

    /// What an agent that the caller goes to is told by name.
    fn told(&self, state: &State) -> BTreeMap<String, String> {
        let value = |name: &String| self.situation.variables.get(name).filter(|value| !value.is_empty());
        state.transfer_variables.iter().filter_map(|name| Some((name.clone(), value(name)?.clone()))).collect()
    }

    fn said(&mut self) -> Vec<BrainOutput> {
        let texts = std::mem::take(&mut self.texts);
        self.situation.last_said.clone_from(&texts);
        texts.into_iter().map(BrainOutput::Say).collect()
    }

    fn transfer_failed(&mut self, why: &str) -> Vec<BrainOutput> {
        let state = self.script.states.get(&self.situation.state);
        if let Some(next) = state.and_then(|state| state.transfer_failed.clone()) {
            return self.enter(&next);
        }
        self.texts.push(format!("I am sorry, {why}. Please call again later. Goodbye."));
        let mut outputs = self.said();
        outputs.extend(hang_up("transfer failed"));
        outputs
    }

    fn silence(&mut self, n: u32) -> Vec<BrainOutput> {
        let state = self.script.states.get(&self.situation.state);
        let texts =
            state.map(|state| &state.no_input).filter(|texts| !texts.is_empty()).unwrap_or(&self.script.no_input);
        let after = state.and_then(|state| state.after_no_input.as_ref()).or(self.script.after_no_input.as_ref());
        self.ask_again(n, texts, after, "Are you still there?", "no input")
    }

    fn not_understood(&mut self, n: u32) -> Vec<BrainOutput> {
        let state = self.script.states.get(&self.situation.state);
        let texts =
            state.map(|state| &state.no_match).filter(|texts| !texts.is_empty()).unwrap_or(&self.script.no_match);
        let after = state.and_then(|state| state.after_no_match.as_ref()).or(self.script.after_no_match.as_ref());
        self.ask_again(n, texts, after, "Sorry, I did not understand that.", "no match")
    }

    fn ask_again(
        &mut self,
        n: u32,
        texts: &'a Texts,
        after: Option<&'a String>,
        default: &str,
        reason: &str,
    ) -> Vec<BrainOutput> {
        let again = self.situation.last_said.clone();
        let count = u32::try_from(texts.len().max(2)).unwrap_or(u32::MAX);
        let text = match texts.len() {
            0 if n <= count => {
                // Nothing is written: a plain question, and what was asked for before.
                self.texts.push(default.to_owned());
                self.texts.extend(again.iter().cloned());
                None
            }
            _ => texts.iter().nth(n.saturating_sub(1) as usize),
        };
        if let Some(text) = text {
            let text = template::fill(text, &self.situation.variables);
            self.texts.push(text);
        }
        if !self.texts.is_empty() {
            let outputs = self.here();
            // What is repeated on request is the question, not this.
            self.situation.last_said = again;
            return outputs;
        }
        match after {
            Some(next) => self.enter(next),
            None => {
                let mut outputs = vec![BrainOutput::Say("Goodbye.".into())];
                outputs.extend(hang_up(reason));
                outputs
            }
        }
    }
}

/// Hanging up, with what asks for it.
fn hang_up(reason: &str) -> [BrainOutput; 2] {
    let arguments = serde_json::json!({ "reason": reason }).to_string();
    let tool = ToolAsk::new(HANG_UP, &arguments, AskedBy::Script);
    [BrainOutput::Tool(tool), BrainOutput::HangUp { reason: reason.to_owned() }]
}

/// A transfer, with what asks for it.
fn transfer(handover: Handover) -> [BrainOutput; 2] {
    let arguments = serde_json::to_string(&handover).unwrap_or_default();
    let tool = ToolAsk::new(TRANSFER, &arguments, AskedBy::Script);
    [BrainOutput::Tool(tool), BrainOutput::Transfer(handover)]
}

fn listen(state: &State) -> Listen {
    Listen {
        keys: state.digits.as_ref().map_or(KeyAnswer::Single, |digits| KeyAnswer::Collect { max: digits.max }),
        no_input_after: state.no_input_ms.map(|ms| Duration::from_millis(u64::from(ms))),
        dictated: state.dictated,
        uninterruptible: state.uninterruptible,
    }
}

fn list(faults: &[Fault]) -> String {
    let lines: Vec<String> = faults.iter().map(ToString::to_string).collect();
    lines.join("\n")
}

fn grammar_fault(state: &str, error: &GrammarError) -> ScriptError {
    ScriptError { faults: vec![Fault { place: format!("script.states.{state}.on"), what: error.to_string() }] }
}
