//! What lists filter by, as words beside those that were said: the index of words then finds "table" among the calls of one team that
//! failed without reading all that have the word. Migrations 0030 and 0038 write the same.

use std::fmt::Write;

use super::{CallRecord, RecordFilter};

/// Characters of a value that count; the rest is compared where the call is.
const VALUE_LIMIT: usize = 64;
/// Spans of time that have words: of so many bits of milliseconds (70 minutes, 19 hours, 12 days, 199 days).
const SPANS: [(char, u32); 4] = [('a', 22), ('b', 26), ('c', 30), ('d', 34)];

/// Words of spans in one search, where the longest spans do not make more of them.
const SPANS_LIMIT: i64 = 16;

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

/// A call's kind ([`super::list`]), and its kind together with each of those whose call it is: what is frequent each for itself and seldom
/// together is found by them.
pub(super) fn kinds_of_call(kind: i64, owners: &[String]) -> String {
    let mut words = vec![of_kind(kind, None)];
    words.extend(owners.iter().map(|owner| of_kind(kind, Some(owner))));
    words.join(" ")
}

/// The word of a kind, or of somebody's calls of it.
pub(super) fn of_kind(kind: i64, owner: Option<&str>) -> String {
    match owner {
        Some(owner) => format!("k{kind}o{}", hex(owner)),
        None => format!("k{kind}"),
    }
}

/// The words that calls of a filter have, all of them; those that few calls have stand first.
pub(super) fn of_filter(filter: &RecordFilter, owner: Option<&str>) -> Vec<String> {
    let wanted = [
        ('f', filter.caller.as_deref()),
        ('e', filter.callee.as_deref()),
        ('o', owner),
        ('r', filter.reason.as_deref()),
        ('c', filter.class.as_deref()),
        ('t', filter.target.as_deref()),
        ('d', filter.direction.as_deref()),
    ];
    wanted.iter().filter_map(|(what, value)| value.map(|value| word(*what, value))).collect()
}

/// The words of which a call has one that began between these times, and some that others have too: few, so that they are long where the
/// time is.
pub(super) fn spans(first_ms: i64, last_ms: i64) -> String {
    let numbers = |bits: u32| first_ms >> bits..=last_ms >> bits;
    let is_few = |bits: u32| (last_ms >> bits) - (first_ms >> bits) < SPANS_LIMIT;
    let (name, bits) = SPANS.into_iter().find(|(_, bits)| is_few(*bits)).unwrap_or(SPANS[SPANS.len() - 1]);
    let words: Vec<String> = numbers(bits).map(|number| format!("'{}'", within(name, number))).collect();
    format!("({})", words.join(" | "))
}

/// The word of a span of time, by its number.
fn within(span: char, number: i64) -> String {
    format!("@w{span}{number}")
}

/// Whether a word is that of a direction.
pub(super) fn is_direction(word: &str) -> bool {
    word.starts_with("@d")
}

/// Whether a word is that of a number that called or was called.
pub(super) fn is_number(word: &str) -> bool {
    word.starts_with("@f") || word.starts_with("@e")
}

fn word(what: char, value: &str) -> String {
    format!("@{what}{}", hex(value))
}

fn hex(value: &str) -> String {
    let end = value.char_indices().nth(VALUE_LIMIT).map_or(value.len(), |(at, _)| at);
    let mut text = String::with_capacity(2 * end);
    value.as_bytes()[..end].iter().for_each(|byte| {
        let _ = write!(text, "{byte:02x}");
    });
    text
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
        assert_eq!(kinds_of_call(17, &["é".to_owned(), "b".to_owned()]), "k17 k17oc3a9 k17o62");
    }

    #[test]
    fn a_time_is_covered_by_few_spans() {
        let hour = 3_600_000;
        let begin = 1_790_000_000_000;
        assert_eq!(spans(begin, begin), format!("('@wa{}')", begin >> 22));
        assert_eq!(spans(begin, begin + hour).matches('@').count(), 2);
        for hours in [1, 17, 18, 24, 300, 301, 5_000, 50_000] {
            let (text, last) = (spans(begin, begin + hours * hour), begin + hours * hour);
            assert!(text.matches('@').count() <= 16, "{text}");
            let named =
                |at: i64| SPANS.iter().any(|(name, bits)| text.contains(&format!("'{}'", within(*name, at >> bits))));
            assert!((begin..=last).step_by(600_000).chain([last]).all(named), "{hours}: {text}");
        }
    }
}
