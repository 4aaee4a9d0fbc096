//! What an agent knows of a caller who has been handed over to it in mid-call, by another agent or by a person.

use std::collections::BTreeMap;

use crate::brain::Handover;
use crate::history::{Entry, MAX_ENTRIES};

/// Values by name that are handed over at most; of more the first, by their names.
pub const VARIABLES_LIMIT: usize = 64;
/// Characters of a summary, and of a value, that are handed over.
pub const TEXT_LIMIT: usize = 2_000;
/// The variable of a script that the summary goes into.
pub const SUMMARY: &str = "handover_summary";
/// The variable of a script that the former agent's name goes into.
pub const FROM: &str = "handover_from";

/// What is known of a caller.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Briefing {
    /// The agent that had the caller before; empty where none had.
    pub from: String,
    /// What whoever handed the caller over says of them; may be empty.
    pub summary: String,
    /// What is known by name.
    pub variables: BTreeMap<String, String>,
    /// What was said in the call so far, oldest first.
    pub said: Vec<Entry>,
}

impl Briefing {
    /// What a handover says, by this agent, in a call in which this was said; within the limits.
    #[must_use]
    pub fn of(handover: &Handover, from: &str, said: Vec<Entry>) -> Self {
        let cut = |text: &str| text.chars().take(TEXT_LIMIT).collect::<String>();
        let variables = handover.variables.iter().take(VARIABLES_LIMIT);
        let mut said = if handover.afresh { Vec::new() } else { said };
        said.drain(..said.len().saturating_sub(MAX_ENTRIES));
        Self {
            from: from.to_owned(),
            summary: cut(handover.summary.trim()),
            variables: variables.map(|(name, value)| (name.clone(), cut(value))).collect(),
            said,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_handed_over_has_limits_and_an_agent_that_begins_afresh_knows_nothing_of_what_was_said() {
        let variables = (0..=VARIABLES_LIMIT).map(|n| (format!("v{n:03}"), "x".repeat(TEXT_LIMIT + 1))).collect();
        let handover = Handover { variables, summary: "y".repeat(TEXT_LIMIT + 1), ..Handover::blind("sales") };
        let entry = |n: usize| Entry { who: crate::history::Speaker::Caller, text: n.to_string(), interrupted: false };
        let said: Vec<Entry> = (0..MAX_ENTRIES + 2).map(entry).collect();
        let briefing = Briefing::of(&handover, "desk", said.clone());
        assert_eq!((briefing.from.as_str(), briefing.summary.len()), ("desk", TEXT_LIMIT));
        assert_eq!((briefing.variables.len(), briefing.variables["v000"].len()), (VARIABLES_LIMIT, TEXT_LIMIT));
        assert_eq!((briefing.said.len(), briefing.said[0].text.as_str()), (MAX_ENTRIES, "2"));
        let afresh = Briefing::of(&Handover { afresh: true, ..handover }, "desk", said);
        assert!(afresh.said.is_empty() && !afresh.summary.is_empty());
    }
}
