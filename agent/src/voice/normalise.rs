//! From written to spoken: what small engines read wrongly is written out before they see it.
//!
//! Flite and espeak-ng read plain numbers, prices and dates well. They don't know a phone number without dashes
//! (`5550123` becomes millions), pause after the stops of `a.m.`, spell `e.g.` and read a model's markdown aloud. All
//! of this is for English.

/// The text as a small engine should get it: one line, without markup, with times, phone numbers and abbreviations
/// written out.
#[must_use]
pub fn for_engine(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 16);
    for line in text.lines() {
        let line = without_bullet(line.trim());
        if line.is_empty() {
            continue;
        }
        if !out.is_empty() {
            // A line's end is a stop, as in a list.
            out.push_str(if out.ends_with(['.', '!', '?', ',', ';', ':']) { " " } else { ". " });
        }
        let tokens: Vec<String> = plain_marks(line).split_whitespace().map(str::to_owned).collect();
        out.push_str(&spoken_tokens(&tokens).join(" "));
    }
    out
}

/// The text in ASCII: accents dropped, what has no likeness left out. Flite reads bytes.
#[must_use]
pub fn ascii(text: &str) -> String {
    text.chars().fold(String::with_capacity(text.len()), |mut out, c| {
        match c {
            '!'..='~' => out.push(c),
            'à'..='å' | 'ā' | 'ą' => out.push('a'),
            'À'..='Å' => out.push('A'),
            'è'..='ë' | 'ē' | 'ę' | 'ě' => out.push('e'),
            'È'..='Ë' => out.push('E'),
            'ì'..='ï' | 'ī' => out.push('i'),
            'Ì'..='Ï' => out.push('I'),
            'ò'..='ö' | 'ø' | 'ō' => out.push('o'),
            'Ò'..='Ö' | 'Ø' => out.push('O'),
            'ù'..='ü' | 'ū' | 'ů' => out.push('u'),
            'Ù'..='Ü' => out.push('U'),
            'ç' | 'ć' | 'č' => out.push('c'),
            'Ç' | 'Č' => out.push('C'),
            'ñ' | 'ń' => out.push('n'),
            'Ñ' => out.push('N'),
            'š' | 'ś' => out.push('s'),
            'Š' => out.push('S'),
            'ž' | 'ź' | 'ż' => out.push('z'),
            'ý' | 'ÿ' => out.push('y'),
            'ł' => out.push('l'),
            'ß' => out.push_str("ss"),
            'æ' => out.push_str("ae"),
            'œ' => out.push_str("oe"),
            _ if !out.ends_with(' ') => out.push(' '),
            _ => {}
        }
        out
    })
}

fn without_bullet(line: &str) -> &str {
    let line = line.trim_start_matches('#').trim_start();
    ["- ", "* ", "• ", "> "].iter().find_map(|bullet| line.strip_prefix(bullet)).unwrap_or(line)
}

/// Typographic marks as plain ones, markup left out.
fn plain_marks(line: &str) -> String {
    let mut out = String::with_capacity(line.len());
    for c in line.chars() {
        match c {
            '*' | '`' | '_' | '~' | '#' => {}
            '‘' | '’' | 'ʼ' => out.push('\''),
            '“' | '”' | '«' | '»' | '"' => {}
            '–' | '—' => out.push_str(", "),
            '…' => out.push_str("..."),
            '&' => out.push_str(" and "),
            '\u{a0}' | '\u{202f}' => out.push(' '),
            _ => out.push(c),
        }
    }
    out.replace(" , ", ", ").replace(" ,", ",")
}

fn spoken_tokens(tokens: &[String]) -> Vec<String> {
    let mut out: Vec<String> = Vec::with_capacity(tokens.len());
    let mut at = 0;
    while let Some(token) = tokens.get(at) {
        if let Some((spoken, used)) = phone_number(tokens.get(at..).unwrap_or_default()) {
            out.push(spoken);
            at += used;
            continue;
        }
        let next = tokens.get(at + 1).map(String::as_str);
        let (core, tail) = split_tail(token);
        out.push(match spoken_word(core, tail, next) {
            Some(spoken) => spoken,
            None => token.clone(),
        });
        at += 1;
    }
    out
}

/// The word and the marks behind it.
fn split_tail(token: &str) -> (&str, &str) {
    let end = token.trim_end_matches(['.', ',', ';', ':', '!', '?', ')']).len();
    token.split_at(end)
}

/// What is said for one word; `None`: it stands as it is. `next` is the word after it.
fn spoken_word(core: &str, tail: &str, next: Option<&str>) -> Option<String> {
    let stop = tail.starts_with('.');
    let ends = next.is_none_or(|next| next.starts_with(char::is_uppercase));
    let tail_of_abbreviation = || if stop && !ends { &tail[1.min(tail.len())..] } else { tail };
    match core.to_lowercase().as_str() {
        "a.m" | "am" if core != "am" => return Some(format!("A M{}", tail_of_abbreviation())),
        "p.m" | "pm" => return Some(format!("P M{}", tail_of_abbreviation())),
        "e.g" => return Some("for example,".into()),
        "i.e" => return Some("that is,".into()),
        "etc" if stop => return Some(format!("et cetera{}", tail_of_abbreviation())),
        "approx" if stop => return Some("about".into()),
        "vs" => return Some("versus".into()),
        "no" if stop && next.is_some_and(|next| next.starts_with(|c: char| c.is_ascii_digit())) => {
            return Some("number".into());
        }
        _ => {}
    }
    if let Some(time) = clock_time(core) {
        // "9:05 a.m." needs no stop after the stop of its own.
        return Some(format!("{time}{tail}"));
    }
    if let Some(rest) = core.strip_prefix('€') {
        return Some(format!("{rest} euros{tail}"));
    }
    if let Some(rest) = core.strip_prefix('£') {
        return Some(format!("{rest} pounds{tail}"));
    }
    let code = core.len() > 1 && core.starts_with('0') && core.bytes().all(|byte| byte.is_ascii_digit());
    code.then(|| format!("{}{tail}", digits_spoken(core)))
}

/// `9:05` as "nine oh five", `14:30` as it is, `9am` as "9 A M".
fn clock_time(core: &str) -> Option<String> {
    let lower = core.to_lowercase();
    let half = [("a.m", "A M"), ("p.m", "P M"), ("am", "A M"), ("pm", "P M")]
        .into_iter()
        .find_map(|(written, spoken)| Some((lower.strip_suffix(written)?, spoken)));
    let (clock, half) = half.map_or((lower.as_str(), None), |(clock, half)| (clock, Some(half)));
    let (hour, minute) = clock.split_once(':').map_or((clock, None), |(hour, minute)| (hour, Some(minute)));
    let hour: u8 = hour.parse().ok().filter(|hour| *hour < 24)?;
    if half.is_none() && minute.is_none() {
        return None;
    }
    let minute = match minute {
        None => None,
        Some(minute) if minute.len() == 2 => Some(minute.parse::<u8>().ok().filter(|minute| *minute < 60)?),
        Some(_) => return None,
    };
    let mut spoken = hour.to_string();
    match minute {
        None => {}
        Some(0) if half.is_some() => {}
        Some(0) if (1..=12).contains(&hour) => spoken.push_str(" o'clock"),
        Some(0) => spoken.push_str(" hundred"),
        Some(minute @ 1..10) => spoken.push_str(&format!(" oh {minute}")),
        Some(minute) => spoken.push_str(&format!(" {minute}")),
    }
    if let Some(half) = half {
        spoken.push(' ');
        spoken.push_str(half);
    }
    Some(spoken)
}

/// A phone number at the start of `tokens`, digit by digit with its groups, and how many tokens it took.
///
/// One is: seven digits and more in one word, or in several of which the first starts with `+`, `(` or `0`, or which
/// are joined by dashes. Groups are told apart by a pause.
fn phone_number(tokens: &[String]) -> Option<(String, usize)> {
    let first = tokens.first()?;
    let spans = first.starts_with(['+', '(', '0']);
    let mut groups: Vec<String> = Vec::new();
    let mut used = 0;
    let mut tail = "";
    for token in tokens {
        let (core, after) = split_phone_tail(token);
        let shape = core.bytes().all(|byte| byte.is_ascii_digit() || matches!(byte, b'+' | b'(' | b')' | b'-'));
        if core.is_empty() || !shape || !core.bytes().any(|byte| byte.is_ascii_digit()) {
            break;
        }
        let parts = core.split(|c: char| !c.is_ascii_digit()).filter(|part| !part.is_empty());
        groups.extend(parts.map(str::to_owned));
        used += 1;
        tail = after;
        if !after.is_empty() || !spans {
            break;
        }
    }
    let digits: usize = groups.iter().map(String::len).sum();
    let date = groups.len() == 3 && groups.first().is_some_and(|year| year.len() == 4) && digits == 8;
    if !(7..=15).contains(&digits) || date {
        return None;
    }
    let plus = if first.starts_with('+') { "plus " } else { "" };
    let spoken: Vec<String> =
        groups.iter().flat_map(|group| in_threes(group)).map(|part| digits_spoken(&part)).collect();
    Some((format!("{plus}{}{tail}", spoken.join(", ")), used))
}

/// Like [`split_tail`], but a closing bracket belongs to the number.
fn split_phone_tail(token: &str) -> (&str, &str) {
    let end = token.trim_end_matches(['.', ',', ';', ':', '!', '?']).len();
    token.split_at(end)
}

/// Groups of three, the last of up to four: as people say long numbers.
fn in_threes(digits: &str) -> Vec<String> {
    let mut rest = digits;
    let mut groups = Vec::new();
    while rest.len() > 4 {
        let (group, after) = rest.split_at(3);
        groups.push(group.to_owned());
        rest = after;
    }
    groups.push(rest.to_owned());
    groups
}

fn digits_spoken(digits: &str) -> String {
    const NAMES: [&str; 10] = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"];
    let names = digits.chars().filter_map(|c| NAMES.get(usize::try_from(c.to_digit(10)?).ok()?).copied());
    names.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn writes_out_what_small_engines_read_wrongly() {
        let cases = [
            ("We open at 9 a.m. and close at 5 p.m.", "We open at 9 A M and close at 5 P M."),
            ("Come at 9:05 or 10:30pm.", "Come at 9 oh 5 or 10 30 P M."),
            ("At 9:00, or at 9:00 a.m., or at 14:00?", "At 9 o'clock, or at 9 o'clock A M, or at 14 hundred?"),
            ("I am here at 9am", "I am here at 9 A M"),
            ("Call 5550123.", "Call five five five, zero one two three."),
            ("Call 555-0123!", "Call five five five, zero one two three!"),
            ("Call +1 (202) 555-0123 now", "Call plus one, two zero two, five five five, zero one two three now"),
            ("Room 101, 15 people, 12,500 in 2024", "Room 101, 15 people, 12,500 in 2024"),
            ("Pin 0042.", "Pin zero zero four two."),
            ("On 2024-05-06.", "On 2024-05-06."),
            ("Fruit, e.g. pears, etc. No. 5", "Fruit, for example, pears, et cetera. number 5"),
            ("**Bold** and `code` & \u{201c}quotes\u{201d}", "Bold and code and quotes"),
            ("It\u{2019}s here \u{2014} now", "It's here, now"),
            ("# Head\n- one\n- two", "Head. one. two"),
            ("\u{20ac}5 or \u{a3}7.", "5 euros or 7 pounds."),
        ];
        for (written, spoken) in cases {
            assert_eq!(for_engine(written), spoken, "{written}");
        }
    }

    #[test]
    fn text_for_flite_is_ascii() {
        assert_eq!(ascii("Café Müller, naïve — 日本 ß"), "Cafe Muller, naive ss");
        assert!(ascii("\u{0}\u{1}\u{7f}tab\t").bytes().all(|byte| (b' '..=b'~').contains(&byte)));
    }

    #[test]
    fn odd_input_passes_through_without_harm() {
        for text in ["", "...", "+", "()", "- ", "12:", ":30", "99:99", "9:5", "€", "+()-", "0", "."] {
            let _ = for_engine(text);
        }
        let digits = "1".repeat(40);
        assert_eq!(for_engine(&digits), digits);
    }
}
