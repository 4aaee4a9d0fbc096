//! Texts with `{name}` for a variable.

use std::collections::BTreeMap;

/// The longest value that is put into a text, in letters.
const MAX_VALUE: usize = 200;

/// The variables a text uses.
pub(super) fn names(text: &str) -> Result<Vec<String>, String> {
    let mut names = Vec::new();
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once('{') {
        if before.contains('}') {
            return Err(format!("has a }} without a {{ in {text:?}"));
        }
        let Some((name, after)) = behind.split_once('}') else {
            return Err(format!("has a {{ without a }} in {text:?}"));
        };
        if name.is_empty() || !name.chars().all(|c| c.is_ascii_alphanumeric() || c == '_') {
            return Err(format!("{{{name}}} is no name of a variable: use letters, digits and _"));
        }
        names.push(name.to_owned());
        rest = after;
    }
    if rest.contains('}') {
        return Err(format!("has a }} without a {{ in {text:?}"));
    }
    Ok(names)
}

/// The text with its variables' values; an unknown one is left out.
pub(super) fn fill(text: &str, variables: &BTreeMap<String, String>) -> String {
    let mut filled = String::with_capacity(text.len());
    let mut rest = text;
    while let Some((before, behind)) = rest.split_once('{') {
        filled.push_str(before);
        let Some((name, after)) = behind.split_once('}') else {
            rest = behind;
            continue;
        };
        if let Some(value) = variables.get(name) {
            filled.extend(value.chars().take(MAX_VALUE));
        }
        rest = after;
    }
    filled.push_str(rest);
    filled
}

/// The slots that a phrase of the grammar fills: `{day}`, `{start:time}`, `{people:number 1-12}`.
pub(super) fn slot_names(phrase: &str) -> Vec<String> {
    let mut names = Vec::new();
    let mut rest = phrase;
    while let Some((_, behind)) = rest.split_once('{') {
        let Some((slot, after)) = behind.split_once('}') else { break };
        let name = slot.split(':').next().unwrap_or(slot);
        let name = name.split_whitespace().next().unwrap_or(name);
        names.push(name.to_owned());
        rest = after;
    }
    names
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fills_in_what_is_known_and_leaves_out_what_is_not() {
        let variables = BTreeMap::from([("day".to_owned(), "Monday".to_owned())]);
        assert_eq!(fill("On {day} at {time}, {day}.", &variables), "On Monday at , Monday.");
        assert_eq!(fill("odd { brace", &variables), "odd  brace");
    }

    #[test]
    fn finds_names_in_templates_and_slots_in_phrases() {
        assert_eq!(names("On {day} at {time}"), Ok(vec!["day".to_owned(), "time".to_owned()]));
        assert!(names("On {day").is_err());
        assert!(names("On day}").is_err());
        assert!(names("On {a day}").is_err());
        assert_eq!(slot_names("for {people:number 1-12} on {day} pin {digits 4}"), ["people", "day", "digits"]);
    }
}
