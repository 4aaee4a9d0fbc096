//! A grammar's network in the text form that PocketSphinx reads.

use std::fmt::Write as _;

use crate::grammar::Network;

/// The grammar as `FSG_BEGIN` ... `FSG_END`. Every step has the same probability: which phrase is likelier is not
/// known, and a longer one must not be the less likely for having more steps.
pub(super) fn fsg(name: &str, network: &Network) -> String {
    let end = network.states();
    let mut text = format!("FSG_BEGIN {name}\nNUM_STATES {}\nSTART_STATE 0\nFINAL_STATE {end}\n", end + 1);
    let mut goes_on = vec![false; end as usize];
    for step in network.transitions() {
        if let Some(goes_on) = goes_on.get_mut(step.from as usize) {
            *goes_on = true;
        }
    }
    for step in network.transitions() {
        let word = network.word(step.word);
        // Writing to a String can't fail.
        if goes_on.get(step.to as usize).copied().unwrap_or(false) {
            let _ = writeln!(text, "TRANSITION {} {} 1.0 {word}", step.from, step.to);
        }
        if network.is_final(step.to) {
            let _ = writeln!(text, "TRANSITION {} {end} 1.0 {word}", step.from);
        }
    }
    text.push_str("FSG_END\n");
    text
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::grammar::{Grammar, Rule};

    #[test]
    fn a_word_that_may_be_the_last_leads_to_the_one_final_state() {
        let grammar = Grammar::new(vec![Rule::new("r", ["yes [please]"])], BTreeMap::new()).unwrap();
        let text = fsg("g", grammar.network());
        assert_eq!(text.matches("TRANSITION").count(), 3);
        assert_eq!(text.matches(" yes\n").count(), 2);
        assert_eq!(text.matches(" 3 1.0 ").count(), 2);
        assert!(text.starts_with("FSG_BEGIN g\nNUM_STATES 4\nSTART_STATE 0\nFINAL_STATE 3\n"));
    }
}
