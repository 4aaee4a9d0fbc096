//! Patterns over numbers and names, and what is made of what they match: `+4930*`, `/^0([1-9]\d+)$/`, `+49* => 0$1`.

use std::fmt;
use std::str::FromStr;

use regex::{Regex, RegexBuilder};

/// Bytes that one compiled expression may take; a larger one is refused at the start.
const COMPILED_LIMIT: usize = 1 << 20;
/// A rewritten number is cut here: no network has longer ones (RFC 3966 names none; user parts stay below).
pub(super) const NUMBER_LIMIT: usize = 256;

/// Which numbers or names are meant. Upper and lower case are alike.
#[derive(Debug, Clone)]
pub struct Pattern {
    text: String,
    kind: Kind,
}

#[derive(Debug, Clone)]
enum Kind {
    Any,
    Exact,
    /// The length of the prefix.
    Prefix(usize),
    Regex(Regex),
}

/// Makes one number of another: the pattern, and what to write for what it matches.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rewrite {
    pattern: Pattern,
    template: String,
}

impl Pattern {
    /// Matches everything.
    #[must_use]
    pub fn any() -> Self {
        Self { text: String::new(), kind: Kind::Any }
    }

    /// Whether it matches everything.
    #[must_use]
    pub fn is_any(&self) -> bool {
        matches!(self.kind, Kind::Any)
    }

    /// Whether it matches `text`.
    #[must_use]
    pub fn matches(&self, text: &str) -> bool {
        match &self.kind {
            Kind::Any => true,
            Kind::Exact => self.text.eq_ignore_ascii_case(text),
            Kind::Prefix(length) => match (self.text.get(..*length), text.get(..*length)) {
                (Some(prefix), Some(start)) => prefix.eq_ignore_ascii_case(start),
                _ => false,
            },
            Kind::Regex(regex) => regex.is_match(text),
        }
    }

    /// What `template` makes of `text`, where the pattern matches: `$0` is all of it, `$1` and on what the groups of a regular
    /// expression matched; for a prefix, `$1` is the rest.
    #[must_use]
    pub fn rewrite(&self, text: &str, template: &str) -> Option<String> {
        if !self.matches(text) {
            return None;
        }
        let mut made = String::new();
        match &self.kind {
            Kind::Regex(regex) => regex.captures(text)?.expand(&braced(template), &mut made),
            Kind::Prefix(length) => expand(template, text, text.get(*length..).unwrap_or(""), &mut made),
            Kind::Any | Kind::Exact => expand(template, text, "", &mut made),
        }
        made.truncate(made.floor_char_boundary(NUMBER_LIMIT));
        Some(made)
    }

    /// The number that it matches (true), or the beginning of those (false); `None` for an expression.
    #[must_use]
    pub fn beginning(&self) -> Option<(&str, bool)> {
        match &self.kind {
            Kind::Any => Some(("", false)),
            Kind::Exact => Some((&self.text, true)),
            Kind::Prefix(length) => Some((self.text.get(..*length).unwrap_or_default(), false)),
            Kind::Regex(_) => None,
        }
    }

    /// The text it was read from.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.text
    }
}

impl Default for Pattern {
    fn default() -> Self {
        Self::any()
    }
}

impl PartialEq for Pattern {
    fn eq(&self, other: &Self) -> bool {
        self.text == other.text
    }
}

impl Eq for Pattern {}

impl Rewrite {
    /// What becomes of `number`, where the pattern matches.
    #[must_use]
    pub fn apply(&self, number: &str) -> Option<String> {
        self.pattern.rewrite(number, &self.template)
    }

    /// What the first rule that matches makes of `number`; itself where none does.
    #[must_use]
    pub fn first(rules: &[Rewrite], number: &str) -> String {
        rules.iter().find_map(|rule| rule.apply(number)).unwrap_or_else(|| number.to_owned())
    }
}

/// `$1` stands for the group 1 even where a letter follows: `$1x` is `${1}x`.
fn braced(template: &str) -> String {
    let mut made = String::with_capacity(template.len() + 8);
    let mut rest = template.chars().peekable();
    while let Some(c) = rest.next() {
        made.push(c);
        if c != '$' {
            continue;
        }
        let mut digits = String::new();
        while let Some(digit) = rest.next_if(char::is_ascii_digit) {
            digits.push(digit);
        }
        if !digits.is_empty() {
            made.push('{');
            made.push_str(&digits);
            made.push('}');
        }
    }
    made
}

fn expand(template: &str, whole: &str, rest: &str, into: &mut String) {
    let mut parts = template.split('$');
    into.push_str(parts.next().unwrap_or(""));
    for part in parts {
        match part.as_bytes().first() {
            Some(b'0') => into.push_str(whole),
            Some(b'1') => into.push_str(rest),
            _ => {
                into.push('$');
                into.push_str(part);
                continue;
            }
        }
        into.push_str(part.get(1..).unwrap_or(""));
    }
}

impl FromStr for Pattern {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let kind = if text.is_empty() || text == "*" {
            Kind::Any
        } else if let Some(expression) = text.strip_prefix('/').and_then(|rest| rest.strip_suffix('/')) {
            let built = RegexBuilder::new(&format!("^(?:{expression})$"))
                .case_insensitive(true)
                .size_limit(COMPILED_LIMIT)
                .build();
            Kind::Regex(built.map_err(|fault| format!("`{text}` is no regular expression: {}", first_line(&fault)))?)
        } else if let Some(prefix) = text.strip_suffix('*') {
            Kind::Prefix(prefix.len())
        } else {
            Kind::Exact
        };
        if !matches!(kind, Kind::Regex(_)) && text.trim_end_matches('*').contains('*') {
            return Err(format!("`{text}` is no pattern: write a number, a beginning such as +4930*, or /expression/"));
        }
        Ok(Self { text: text.to_owned(), kind })
    }
}

fn first_line(fault: &regex::Error) -> String {
    fault.to_string().lines().last().unwrap_or_default().trim().to_owned()
}

impl fmt::Display for Pattern {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

impl FromStr for Rewrite {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (pattern, template) = text
            .rsplit_once("=>")
            .ok_or_else(|| format!("`{text}` rewrites nothing: write PATTERN => NUMBER, such as `+49* => 0$1`"))?;
        let pattern: Pattern = pattern.trim().parse()?;
        let template = template.trim().to_owned();
        if template.bytes().any(|b| b <= b' ' || b == 0x7f || b"<>\"@;,".contains(&b)) {
            return Err(format!("`{template}` cannot stand in a number: write digits, letters, + and $1"));
        }
        Ok(Self { pattern, template })
    }
}

impl fmt::Display for Rewrite {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} => {}", self.pattern, self.template)
    }
}

serde_as_text!(Pattern, Rewrite);

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn patterns_match_what_they_say() {
        let matches = |pattern: &str, text: &str| pattern.parse::<Pattern>().unwrap().matches(text);
        for (pattern, text, expected) in [
            ("", "anything", true),
            ("*", "", true),
            ("100", "100", true),
            ("100", "1000", false),
            ("Alice", "alice", true),
            ("+4930*", "+49301234", true),
            ("+4930*", "+4930", true),
            ("+4930*", "+4940", false),
            ("+4930*", "+4", false),
            ("/1[0-9]{2}/", "155", true),
            ("/1[0-9]{2}/", "1555", false),
            ("/sales|support/", "Support", true),
            ("é*", "e", false),
            ("aé*", "aß", false),
        ] {
            assert_eq!(matches(pattern, text), expected, "{pattern} {text}");
        }
    }

    #[test]
    fn rewrites_take_what_was_matched() {
        let apply = |rule: &str, number: &str| rule.parse::<Rewrite>().unwrap().apply(number);
        assert_eq!(apply("+49* => 0$1", "+4930123").as_deref(), Some("030123"));
        assert_eq!(apply("+49* => 0$1", "+1212555").as_deref(), None);
        assert_eq!(apply("/0([1-9]\\d*)/ => +49$1", "030123").as_deref(), Some("+4930123"));
        assert_eq!(apply("/(\\d)(\\d)/ => $2x$1y", "12").as_deref(), Some("2x1y"));
        assert_eq!(apply("112 => +49112", "112").as_deref(), Some("+49112"));
        assert_eq!(apply("* => 99$0", "112").as_deref(), Some("99112"));
        let rules = ["1* => a$1".parse().unwrap(), "12* => b$1".parse().unwrap()];
        assert_eq!(Rewrite::first(&rules, "123"), "a23", "the first that matches");
        assert_eq!(Rewrite::first(&rules, "9"), "9");
    }

    #[test]
    fn a_rewritten_number_has_a_greatest_length() {
        let rule: Rewrite = "/(.*)/ => $1$1".parse().unwrap();
        assert_eq!(rule.apply(&"1".repeat(NUMBER_LIMIT / 2)).unwrap().len(), NUMBER_LIMIT);
        assert_eq!(rule.apply(&"1".repeat(NUMBER_LIMIT / 2 + 1)).unwrap().len(), NUMBER_LIMIT);
        assert!(rule.apply(&"é".repeat(NUMBER_LIMIT)).unwrap().len() <= NUMBER_LIMIT);
    }

    #[test]
    fn what_is_no_pattern_is_refused_with_the_form_expected() {
        for text in ["1*2", "/[/", "/(a{1000}){1000}/"] {
            assert!(text.parse::<Pattern>().is_err(), "{text}");
        }
        assert!("no arrow".parse::<Rewrite>().unwrap_err().contains("=>"));
        assert!("1 => <2>".parse::<Rewrite>().is_err());
    }
}
