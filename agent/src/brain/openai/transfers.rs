//! Where a language model may pass its caller on to: to somebody, or to another agent. All but the choice among them is the configuration's.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::OpenAiBrainConfig;
use crate::brain::{Handover, TransferKind};

/// So many `[[brain.openai.transfers]]`.
const TARGETS_LIMIT: usize = 32;

/// Whom the model may choose: an entry of `[[brain.openai.transfers]]`.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TransferTarget {
    /// What the model calls them.
    pub name: String,
    /// Who it is: an agent, a device, a number or an address.
    pub to: String,
    /// When the model should choose them, as in "the caller wants to buy something".
    pub when: String,
    /// How: `blind`, `attended` or `warm`. Before a warm one the person hears, and an agent knows, a summary that the model writes.
    pub kind: TransferKind,
    /// The person has to press 1 to take the call.
    pub accept: bool,
    /// An agent is not told what was said before.
    pub afresh: bool,
}

impl TransferTarget {
    /// The handover to them, with what the model has to say of the caller.
    pub(super) fn handover(&self, summary: String) -> Handover {
        let Self { to, kind, accept, afresh, .. } = self;
        Handover { uri: to.clone(), kind: *kind, must_accept: *accept, afresh: *afresh, summary, ..Handover::default() }
    }
}

impl OpenAiBrainConfig {
    /// All whom the model may choose: the one of `transfer_to`, who has no name, or those that are listed.
    pub(super) fn targets(&self) -> Vec<TransferTarget> {
        if self.transfer_to.is_empty() {
            return self.transfers.clone();
        }
        vec![TransferTarget {
            name: String::new(),
            to: self.transfer_to.clone(),
            when: self.transfer_when.clone(),
            kind: self.transfer_kind,
            accept: self.transfer_accept,
            afresh: self.transfer_afresh,
        }]
    }

    pub(super) fn check_transfers(&self) -> Result<(), String> {
        if !self.transfer_to.is_empty() && !self.transfers.is_empty() {
            return Err(
                "transfer_to and transfers are both there: list whomever transfer_to names among transfers".into()
            );
        }
        if self.transfers.len() > TARGETS_LIMIT {
            return Err(format!(
                "transfers has {} entries: at most {TARGETS_LIMIT} can be told apart",
                self.transfers.len()
            ));
        }
        let mut names = BTreeSet::new();
        for (n, target) in self.transfers.iter().enumerate() {
            let field = |name: &str| format!("transfers[{n}].{name}");
            for (name, value) in [("name", &target.name), ("to", &target.to), ("when", &target.when)] {
                if value.trim().is_empty() {
                    return Err(format!("{} is empty: each needs `name`, `to` and `when`", field(name)));
                }
            }
            if !names.insert(&target.name) {
                return Err(format!(
                    "{} = {:?} stands there twice: the model could not tell them apart",
                    field("name"),
                    target.name
                ));
            }
        }
        Ok(())
    }
}

/// Whom a model means by these arguments; the only one there is, where they name nobody.
pub(super) fn meant<'a>(targets: &'a [TransferTarget], arguments: &str) -> Option<&'a TransferTarget> {
    let said = serde_json::from_str::<Value>(arguments).ok();
    let named = said.as_ref().and_then(|value| value.get("to")).and_then(Value::as_str).map(str::trim);
    match (targets, named) {
        // Who alone may be chosen has perhaps no name.
        ([only], named) if only.name.is_empty() || named.is_none() => Some(only),
        (_, Some(named)) => targets.iter().find(|target| target.name.eq_ignore_ascii_case(named)),
        (_, None) => None,
    }
}

/// The tool by which a model chooses, where there is somebody to choose: what it does, and what else it takes.
pub(super) fn tool(targets: &[TransferTarget]) -> Option<(String, Vec<(&'static str, Value)>)> {
    let (description, mut takes) = match targets {
        [] => return None,
        [only] if only.name.is_empty() => {
            let when = &only.when;
            (format!("Connects the caller with a person. Announce it in the same message. Use it when {when}."), vec![])
        }
        several => {
            let each = several.iter().map(|target| format!("{:?} when {}", target.name, target.when));
            let description = format!(
                "Connects the caller with somebody else. Announce it in the same message. Use it with to = {}.",
                each.collect::<Vec<_>>().join("; ")
            );
            let names: Vec<&str> = several.iter().map(|target| target.name.as_str()).collect();
            (description, vec![("to", json!({ "type": "string", "enum": names, "description": "whom" }))])
        }
    };
    if targets.iter().any(|target| target.kind == TransferKind::Warm) {
        let what = "what they are to know before they take the call, in one or two spoken sentences";
        takes.push(("summary", json!({ "type": "string", "description": what })));
    }
    Some((description, takes))
}
