//! What a dialogue hears in private: the states that say so, the variables that are filled there, and where these may be used.
//!
//! What the caller says or presses in a private state, a card number for instance, is in no recording, transcript or log. It stays so only
//! where the dialogue does not say it elsewhere, so a text outside of private states may not use a private variable.

use std::collections::BTreeSet;

use super::definition::{Fault, ScriptDefinition, State, Texts};
use super::template;

/// The variables that private states fill.
pub(super) fn variables(script: &ScriptDefinition) -> BTreeSet<String> {
    let mut private = BTreeSet::new();
    for state in script.states.values().filter(|state| state.private) {
        private.extend(state.digits.iter().map(|digits| digits.to.clone()));
        for answer in &state.on {
            private.extend(answer.set.keys().cloned());
            private.extend(answer.phrases.iter().flat_map(|phrase| template::slot_names(phrase)));
        }
    }
    private
}

/// Where private variables would be said or kept outside of private states.
pub(super) fn faults(script: &ScriptDefinition) -> Vec<Fault> {
    let private = variables(script);
    let mut faults = Vec::new();
    if private.is_empty() {
        return faults;
    }
    let mut check = |place: String, text: &str| {
        for name in template::names(text).unwrap_or_default().into_iter().filter(|name| private.contains(name)) {
            let what = format!(
                "{{{name}}} is filled in a private state and would be told here: use it in private states alone"
            );
            faults.push(Fault { place: place.clone(), what });
        }
    };
    let texts = |check: &mut dyn FnMut(String, &str), place: &str, texts: &Texts| {
        texts.iter().for_each(|text| check(place.to_owned(), text));
    };
    texts(&mut check, "script.no_input", &script.no_input);
    texts(&mut check, "script.no_match", &script.no_match);
    for (n, answer) in script.everywhere.iter().enumerate() {
        texts(&mut check, &format!("script.everywhere[{n}].say"), &answer.say);
        answer.set.iter().for_each(|(name, value)| check(format!("script.everywhere[{n}].set.{name}"), value));
    }
    for (name, state) in &script.states {
        of_state(&format!("script.states.{name}"), state, &mut check);
    }
    faults
}

fn of_state(place: &str, state: &State, check: &mut dyn FnMut(String, &str)) {
    // These are told to others, wherever they stand.
    check(format!("{place}.transfer"), state.transfer.as_deref().unwrap_or_default());
    check(format!("{place}.transfer_summary"), &state.transfer_summary);
    for name in &state.transfer_variables {
        check(format!("{place}.transfer_variables"), &format!("{{{name}}}"));
    }
    for (n, answer) in state.on.iter().enumerate() {
        // Said on the way out of the state.
        answer.say.iter().for_each(|text| check(format!("{place}.on[{n}].say"), text));
        if !state.private {
            answer.set.iter().for_each(|(name, value)| check(format!("{place}.on[{n}].set.{name}"), value));
        }
    }
    if !state.private {
        for (key, texts) in [("say", &state.say), ("no_input", &state.no_input), ("no_match", &state.no_match)] {
            texts.iter().for_each(|text| check(format!("{place}.{key}"), text));
        }
    }
}
