//! Text to spoken words: lower case, no punctuation, numerals as they are said.

use super::MAX_WORDS;

/// Sounds that mean nothing, wherever they stand.
const HESITATIONS: [&str; 8] = ["um", "uh", "er", "erm", "uhm", "hm", "hmm", "mm"];

/// Words that may stand before or after what is meant.
const COURTESIES: [&str; 12] =
    ["please", "thanks", "thank", "you", "hello", "hi", "hey", "well", "so", "okay", "ok", "alright"];

const ONES: [&str; 20] = [
    "zero",
    "one",
    "two",
    "three",
    "four",
    "five",
    "six",
    "seven",
    "eight",
    "nine",
    "ten",
    "eleven",
    "twelve",
    "thirteen",
    "fourteen",
    "fifteen",
    "sixteen",
    "seventeen",
    "eighteen",
    "nineteen",
];

const TENS: [&str; 10] = ["", "", "twenty", "thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"];

/// Whether a character may stand in a phrase's words.
pub(super) fn is_known(c: char) -> bool {
    c.is_ascii_alphanumeric() || c.is_ascii_whitespace() || "'’.,;:!?-–—&%\"“”/…$£€@#+_".contains(c)
}

/// The words of a text, each numeral read as a number.
pub(super) fn words(text: &str) -> Vec<String> {
    read(text, Numerals::AsNumbers)
}

/// The word sequences a text may stand for, the likeliest first; each at most [`MAX_WORDS`] long.
pub(super) fn readings(text: &str) -> Vec<Vec<String>> {
    let mut readings = vec![read(text, Numerals::AsNumbers)];
    if text.bytes().any(|b| b.is_ascii_digit()) {
        readings.push(read(text, Numerals::AsDigits));
    }
    for index in 0..readings.len() {
        let bare = without_courtesies(&readings[index]);
        if bare.len() != readings[index].len() && !bare.is_empty() {
            readings.push(bare);
        }
    }
    readings
}

/// A number from 0 to 9999 in words, without `and`.
pub(super) fn number_words(number: u32) -> Vec<&'static str> {
    let mut said = Vec::new();
    let one = |n: u32| ONES.get(n as usize).copied().unwrap_or("");
    let mut rest = number;
    if rest >= 1000 {
        said.push(one(rest / 1000));
        said.push("thousand");
        rest %= 1000;
    }
    if rest >= 100 {
        said.push(one(rest / 100));
        said.push("hundred");
        rest %= 100;
    }
    if rest >= 20 {
        said.push(TENS.get((rest / 10) as usize).copied().unwrap_or(""));
        rest %= 10;
        if rest > 0 {
            said.push(one(rest));
        }
    } else if rest > 0 || number == 0 {
        said.push(one(rest));
    }
    said
}

/// The value of a single number word (`seven`, `forty`), where it is one.
pub(super) fn number_of_word(word: &str) -> Option<u32> {
    let ones = ONES.iter().position(|one| *one == word).map(|n| n as u32);
    ones.or_else(|| TENS.iter().position(|ten| !ten.is_empty() && *ten == word).map(|n| n as u32 * 10))
}

#[derive(Clone, Copy, PartialEq)]
enum Numerals {
    AsNumbers,
    AsDigits,
}

fn read(text: &str, numerals: Numerals) -> Vec<String> {
    let text = text.to_lowercase().replace(['’', '‘'], "'").replace("a.m", "am").replace("p.m", "pm");
    let mut said: Vec<String> = Vec::new();
    for raw in text.split(|c: char| c.is_whitespace() || "-–—/_".contains(c)) {
        if said.len() >= MAX_WORDS {
            break;
        }
        let token = raw.trim_matches(|c: char| !c.is_alphanumeric());
        if token.is_empty() {
            if raw.contains('&') {
                said.push("and".into());
            }
            continue;
        }
        if token.starts_with(|c: char| c.is_ascii_digit()) {
            read_numeral(token, numerals, &mut said);
        } else {
            read_word(token, &mut said);
        }
        if raw.ends_with('%') {
            said.push("percent".into());
        }
    }
    said.retain(|word| !HESITATIONS.contains(&word.as_str()));
    said.truncate(MAX_WORDS);
    said
}

fn read_word(token: &str, said: &mut Vec<String>) {
    match token {
        "pm" => said.extend(["p".into(), "m".into()]),
        "am" if said.last().is_some_and(|last| number_of_word(last).is_some() || last == "o'clock") => {
            said.extend(["a".into(), "m".into()]);
        }
        "ok" => said.push("okay".into()),
        "mr" => said.push("mister".into()),
        "dr" => said.push("doctor".into()),
        _ => {
            // Inner punctuation parts words ("yes,please"); an apostrophe does not.
            for part in token.split(|c: char| !c.is_alphanumeric() && c != '\'') {
                if !part.is_empty() {
                    said.push(part.to_owned());
                }
            }
        }
    }
}

fn read_numeral(token: &str, numerals: Numerals, said: &mut Vec<String>) {
    let end = token.find(|c: char| !(c.is_ascii_digit() || ":.,".contains(c))).unwrap_or(token.len());
    let (figure, suffix) = token.split_at(end);
    let figure = figure.trim_end_matches([':', '.', ',']);
    let clock = figure.split_once([':', '.']).filter(|(hour, minute)| minute.len() == 2 && hour.len() <= 2);
    if let Some((hour, minute)) = clock {
        push_number(hour, said);
        match minute {
            "00" => said.push("o'clock".into()),
            _ => {
                if minute.starts_with('0') {
                    said.push("oh".into());
                }
                push_number(minute, said);
            }
        }
    } else {
        let plain: String = figure.chars().filter(char::is_ascii_digit).collect();
        if numerals == Numerals::AsDigits || plain.len() > 4 || (plain.len() > 1 && plain.starts_with('0')) {
            plain.chars().for_each(|digit| push_number(&digit.to_string(), said));
        } else {
            push_number(&plain, said);
        }
    }
    match suffix {
        "" | "st" | "nd" | "rd" | "th" => {}
        "am" => said.extend(["a".into(), "m".into()]),
        "pm" => said.extend(["p".into(), "m".into()]),
        _ => read_word(suffix.trim_matches(|c: char| !c.is_alphanumeric()), said),
    }
}

fn push_number(figure: &str, said: &mut Vec<String>) {
    if let Ok(number) = figure.parse::<u32>()
        && number <= 9999
    {
        said.extend(number_words(number).into_iter().map(str::to_owned));
    }
}

fn without_courtesies(words: &[String]) -> Vec<String> {
    let is_courtesy = |word: &String| COURTESIES.contains(&word.as_str());
    let start = words.iter().position(|word| !is_courtesy(word)).unwrap_or(words.len());
    let end = words.iter().rposition(|word| !is_courtesy(word)).map_or(start, |last| last + 1);
    words.get(start..end).unwrap_or_default().to_vec()
}
