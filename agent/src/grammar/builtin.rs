//! The built-in slots: what may be said, and what it is worth.

use super::phrase::{self, Lists, Node, Value};
use super::spoken::{number_of_word, number_words};

/// The built-in slots' names.
pub(super) const NAMES: [&str; 6] = ["day", "number", "digit", "digits", "time", "yesno"];

/// The widest range that is spelled out number by number; wider ones use the general form.
const MAX_SPELLED_OUT: u32 = 300;

/// The most digits a slot may take.
const MAX_DIGITS: usize = 20;

const DAYS: [&str; 7] = ["Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"];

const YES: &str = "(yes|yeah|yep|yup|sure|correct|right|okay|absolutely|definitely|exactly|certainly|of course\
    |(yes|yeah) please|(yes|yeah) (that's|that is) (right|correct|fine|it)|(that's|that is) (right|correct|fine|it)\
    |yes (it is|i do|i would|i am|do|correct|right|of course)|sounds good|that works|please do|i do)";

const NO: &str = "(no|nope|nah|no thanks|no thank you|not really|wrong|incorrect|negative|(that's|that is) (wrong|not right)\
    |no (that's|that is) (wrong|not right)|no (it is not|it isn't|i don't|i do not)|i don't|not at all|no not really)";

const HOUR: &str = "(one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve)";
const UNIT: &str = "(one|two|three|four|five|six|seven|eight|nine)";
const HALF_OF_DAY: &str = "[(a m|p m|in the (morning|afternoon|evening)|at night)]";

/// How the words of a slot become its value.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reading {
    Number,
    Digits,
    Time,
}

impl Reading {
    /// The value of the words that were said in the slot.
    pub(super) fn value(self, words: &[&str]) -> String {
        match self {
            Reading::Number => read_number(words).to_string(),
            Reading::Digits => read_digits(words),
            Reading::Time => read_time(words),
        }
    }
}

/// What may stand in a built-in slot; `None` where there is none of that name.
pub(super) fn slot(kind: &str, range: &str) -> Option<Result<Node, String>> {
    let takes_range = matches!(kind, "number" | "digits");
    if NAMES.contains(&kind) && !takes_range && !range.is_empty() {
        return Some(Err(format!("slot `{kind}` takes no range")));
    }
    match kind {
        "day" => Some(Ok(days())),
        "number" => Some(number(range)),
        "digit" => Some(Ok(digits(1, 1))),
        "digits" => Some(digits_in(range)),
        "time" => Some(Ok(time())),
        "yesno" => Some(Ok(Node::Either(vec![literal(YES, "yes"), literal(NO, "no")]))),
        _ => None,
    }
}

fn written(text: &str) -> Node {
    // The texts are this file's own constants; the tests parse each of them.
    phrase::parse(text, &Lists::new()).unwrap_or(Node::Sequence(Vec::new()))
}

fn literal(text: &str, value: &str) -> Node {
    Node::Value(Box::new(written(text)), Value::Literal(value.to_owned()))
}

fn days() -> Node {
    Node::Either(DAYS.iter().map(|day| literal(day, day)).collect())
}

fn bounds(range: &str, least: u32, most: u32) -> Result<(u32, u32), String> {
    let wrong = || format!("range `{range}` is not like {least}-{most}");
    let (low, high) = range.split_once('-').unwrap_or((range, range));
    let low = low.trim().parse::<u32>().map_err(|_| wrong())?;
    let high = high.trim().parse::<u32>().map_err(|_| wrong())?;
    if low > high || low < least || high > most { Err(wrong()) } else { Ok((low, high)) }
}

fn number(range: &str) -> Result<Node, String> {
    let body = if range.is_empty() {
        general_number()
    } else {
        let (low, high) = bounds(range, 0, 9999)?;
        if high - low > MAX_SPELLED_OUT {
            general_number()
        } else {
            Node::Either((low..=high).map(one_number).collect())
        }
    };
    Ok(Node::Value(Box::new(body), Value::Read(Reading::Number)))
}

fn one_number(number: u32) -> Node {
    let said = number_words(number);
    let last = said.len().saturating_sub(1);
    let mut parts = Vec::new();
    for (index, word) in said.iter().enumerate() {
        let one_of = index == 0 && *word == "one" && said.len() > 1;
        parts.push(if one_of { written("(a|one)") } else { Node::Word((*word).to_owned()) });
        if *word == "hundred" && index < last {
            parts.push(written("[and]"));
        }
    }
    if number == 0 {
        return written("(zero|none)");
    }
    Node::Sequence(parts)
}

fn general_number() -> Node {
    let teens = (10..20).map(|n| number_words(n).join(" ")).collect::<Vec<_>>().join("|");
    let tens = (2..10).map(|n| number_words(n * 10).join(" ")).collect::<Vec<_>>().join("|");
    let below_100 = format!("({UNIT}|{teens}|({tens}) [{UNIT}])");
    let hundreds = format!("(a|{UNIT}) hundred [[and] {below_100}]");
    let thousands = format!("(a|{UNIT}) thousand [([and] {below_100}|{hundreds})]");
    Node::Either(vec![written("zero"), written(&below_100), written(&hundreds), written(&thousands)])
}

fn digits(min: usize, max: usize) -> Node {
    Node::Value(Box::new(Node::Digits { min, max }), Value::Read(Reading::Digits))
}

fn digits_in(range: &str) -> Result<Node, String> {
    if range.is_empty() {
        return Ok(digits(1, 12));
    }
    let (min, max) = bounds(range, 1, MAX_DIGITS as u32)?;
    Ok(digits(min as usize, max as usize))
}

fn time() -> Node {
    let teens = (10..20).map(|n| number_words(n).join(" ")).collect::<Vec<_>>().join("|");
    let minute = format!("(oh {UNIT}|{teens}|(twenty|thirty|forty|fifty) [{UNIT}])");
    let apart = "(five|ten|[a] quarter|twenty|twenty five)";
    let forms = [
        format!("{HOUR} [o'clock] {HALF_OF_DAY}"),
        format!("{HOUR} {minute} {HALF_OF_DAY}"),
        format!("({apart}|half) [minutes] past {HOUR} {HALF_OF_DAY}"),
        format!("{apart} [minutes] to {HOUR} {HALF_OF_DAY}"),
        "(noon|midday|midnight)".to_owned(),
    ];
    let body = Node::Either(forms.iter().map(|form| written(form)).collect());
    Node::Value(Box::new(body), Value::Read(Reading::Time))
}

fn read_number(words: &[&str]) -> u32 {
    let (mut total, mut group) = (0, 0);
    for word in words {
        match *word {
            "a" => group = 1,
            "and" => {}
            "hundred" => group = group.max(1) * 100,
            "thousand" => {
                total += group.max(1) * 1000;
                group = 0;
            }
            word => group += number_of_word(word).unwrap_or(0),
        }
    }
    total + group
}

fn read_digits(words: &[&str]) -> String {
    let mut digits = String::new();
    let mut times = 1;
    for word in words {
        match *word {
            "double" => times = 2,
            "triple" => times = 3,
            word => {
                let digit = if word == "oh" { 0 } else { number_of_word(word).unwrap_or(0) };
                digits.extend(std::iter::repeat_n(digit.to_string(), times));
                times = 1;
            }
        }
    }
    digits
}

fn read_time(words: &[&str]) -> String {
    match words {
        ["noon" | "midday"] => return "12:00 pm".to_owned(),
        ["midnight"] => return "12:00 am".to_owned(),
        _ => {}
    }
    let half = if words.ends_with(&["a", "m"]) || words.ends_with(&["morning"]) {
        " am"
    } else if words.ends_with(&["p", "m"]) || matches!(words.last(), Some(&("afternoon" | "evening" | "night"))) {
        " pm"
    } else {
        ""
    };
    let number = |words: &[&str]| words.iter().map(|word| number_of_word(word).unwrap_or(0)).sum::<u32>();
    let apart = |words: &[&str]| match words {
        [.., "half"] | ["half", ..] => 30,
        words if words.contains(&"quarter") => 15,
        words => number(words),
    };
    let split = words.iter().position(|word| matches!(*word, "past" | "to"));
    let (hour, minute) = match split {
        Some(at) => {
            let (before, after) = words.split_at(at);
            let hour = after.get(1).map_or(0, |word| number(&[word]));
            if after.first() == Some(&"past") {
                (hour, apart(before))
            } else {
                (if hour == 1 { 12 } else { hour.saturating_sub(1) }, 60 - apart(before))
            }
        }
        None => {
            let (first, rest) = words.split_first().map_or((0, &[][..]), |(first, rest)| (number(&[first]), rest));
            let minutes = rest.iter().take_while(|word| **word == "oh" || number_of_word(word).is_some());
            (first, minutes.map(|word| number_of_word(word).unwrap_or(0)).sum())
        }
    };
    format!("{hour}:{minute:02}{half}")
}
