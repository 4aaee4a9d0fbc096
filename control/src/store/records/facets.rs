//! What lists filter by, as words beside those that were said: the index of words then finds "table" among the calls of one team that
//! failed without reading all that have the word. Migration 0030 writes the same.

use std::fmt::Write;

use super::{CallRecord, RecordFilter};

/// Characters of a value that count; the rest is compared where the call is.
const VALUE_LIMIT: usize = 64;
/// Spans of time that have words: of so many bits of milliseconds (70 minutes, 19 hours, 12 days, 199 days).
pub(super) const SPANS: [(char, u32); 4] = [('a', 22), ('b', 26), ('c', 30), ('d', 34)];

/// Every word of a call.
pub(super) fn of_call(call: &CallRecord, owners: &[String]) -> String {
    let mut words = vec![
        word('d', &call.direction),
        word('t', &call.target),
        word('c', &call.class),
        word('r', &call.reason),
        word('f', &call.caller),
        word('e', &call.callee),
    ];
    words.extend(SPANS.map(|(name, bits)| within(name, call.started_at.0 >> bits)));
    words.extend(owners.iter().map(|owner| word('o', owner)));
    words.join(" ")
}

/// The words that calls of a filter have, all of them.
pub(super) fn of_filter(filter: &RecordFilter, owner: Option<&str>) -> Vec<String> {
    let wanted = [
        ('d', filter.direction.as_deref()),
        ('t', filter.target.as_deref()),
        ('c', filter.class.as_deref()),
        ('r', filter.reason.as_deref()),
        ('f', filter.caller.as_deref()),
        ('e', filter.callee.as_deref()),
        ('o', owner),
    ];
    wanted.iter().filter_map(|(what, value)| value.map(|value| word(*what, value))).collect()
}

/// The word of a span of time, by its number.
pub(super) fn within(span: char, number: i64) -> String {
    format!("@w{span}{number}")
}

fn word(what: char, value: &str) -> String {
    let mut word = format!("@{what}");
    let end = value.char_indices().nth(VALUE_LIMIT).map_or(value.len(), |(at, _)| at);
    value.as_bytes()[..end].iter().for_each(|byte| {
        let _ = write!(word, "{byte:02x}");
    });
    word
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_its_first_characters_in_hexadecimal() {
        assert_eq!(word('f', "+49"), "@f2b3439");
        assert_eq!(word('e', "é"), "@ec3a9");
        assert_eq!(word('e', &"é".repeat(100)), format!("@e{}", "c3a9".repeat(64)));
        assert_eq!(within('a', 5), "@wa5");
    }
}
