//! How numbers are kept: E.164 with `+`. Numbering plans come from the library.

use phonenumber::{Mode, country::Id};

use crate::address::user_part;

/// Digits of an international number, without `+`: E.164 section 6.2.1 has at most 15.
const E164_DIGITS: std::ops::RangeInclusive<usize> = 4..=15;
/// A longer text is no number and is not looked at.
const TEXT_LIMIT: usize = 64;
/// Fewer digits are an extension or a short code, not a number of a public network that lacks its country.
const LEAST_DIGITS: usize = 8;

/// A country by its two letters.
#[must_use]
pub fn country(letters: &str) -> Option<Id> {
    letters.parse().ok()
}

/// The number in E.164 (`+4930123456`), as somebody in `country` writes it; `None` for what is no number of a public network.
#[must_use]
pub fn e164(text: &str, country: Option<Id>) -> Option<String> {
    let plain = plain(text)?;
    if let Some(digits) = plain.strip_prefix('+') {
        // Whoever writes + means it: plans change faster than libraries, so that unknown ranges pass.
        let is_number = E164_DIGITS.contains(&digits.len()) && digits.bytes().all(|b| b.is_ascii_digit());
        return is_number.then_some(plain);
    }
    if plain.is_empty() || !plain.bytes().all(|b| b.is_ascii_digit()) {
        return None;
    }
    let number = phonenumber::parse(Some(country?), &plain).ok()?;
    phonenumber::is_valid(&number).then(|| number.format().mode(Mode::E164).to_string())
}

/// Every number in E.164 that this may mean: an address (`sip:+49…@host`, `tel:+49…`), digits as a country writes them, or as trunks write
/// them without `+` or with `00`. Empty for names and extensions.
#[must_use]
pub fn meant(text: &str, country: Option<Id>) -> Vec<String> {
    let Some(plain) = plain(&user_part(text)) else { return Vec::new() };
    let mut numbers: Vec<String> = e164(&plain, country).into_iter().collect();
    if plain.len() >= LEAST_DIGITS && plain.bytes().all(|b| b.is_ascii_digit()) {
        let digits = plain.strip_prefix("00").unwrap_or(&plain);
        numbers.extend(e164(&format!("+{digits}"), None));
    }
    numbers.dedup();
    numbers
}

/// Somebody, by every way that a record may name them.
#[derive(Debug, Clone)]
pub struct Person {
    /// Their number in E.164, where that is what they are known by.
    pub number: Option<String>,
    /// What stands of them in records, whole.
    pub names: Vec<String>,
    /// What to look for in texts; where it is found, [`Person::is_in`] tells whether it is they.
    pub texts: Vec<String>,
}

impl Person {
    /// By a number or an address.
    #[must_use]
    pub fn new(id: &str, country: Option<Id>) -> Self {
        let user = user_part(id);
        let Some(number) = meant(id, country).into_iter().next() else {
            let names = if user == id { vec![id.to_owned()] } else { vec![user.into_owned(), id.to_owned()] };
            return Self { number: None, names, texts: vec![id.to_owned()] };
        };
        let digits = number.trim_start_matches('+').to_owned();
        let mut names = vec![number.clone(), digits.clone(), format!("00{digits}"), format!("011{digits}")];
        let mut texts = vec![digits];
        // As it is dialled at home.
        if let Some(parsed) = phonenumber::parse(None, &number).ok().filter(|parsed| parsed.country().id() == country) {
            let national: String =
                parsed.format().mode(Mode::National).to_string().chars().filter(char::is_ascii_digit).collect();
            if national.len() >= LEAST_DIGITS - 1 {
                names.push(national.clone());
                texts.push(national);
            }
        }
        Self { number: Some(number), names, texts }
    }

    /// Whether a text has them: their number and not a longer one, their address and not another that ends or begins like it.
    #[must_use]
    pub fn is_in(&self, text: &str) -> bool {
        self.texts.iter().any(|wanted| {
            text.match_indices(wanted.as_str()).any(|(at, found)| {
                let (before, after) = (&text[..at], &text[at + found.len()..]);
                if self.number.is_none() {
                    let goes_on = |c: char| c.is_alphanumeric() || "._-".contains(c);
                    return !before.ends_with(goes_on) && !after.starts_with(goes_on);
                }
                let lead = before.len() - before.trim_end_matches(|c: char| c.is_ascii_digit()).len();
                let lead = &before[before.len() - lead..];
                matches!(lead, "" | "00" | "011") && !after.starts_with(|c: char| c.is_ascii_digit())
            })
        })
    }
}

/// Without what people write between digits.
fn plain(text: &str) -> Option<String> {
    let is_between = |c: char| matches!(c, ' ' | '-' | '.' | '(' | ')' | '/');
    (text.len() <= TEXT_LIMIT).then(|| text.chars().filter(|c| !is_between(*c)).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_brought_into_e164_as_their_country_writes_them() {
        for (text, letters, expected) in [
            ("030 123456", "DE", Some("+4930123456")),
            ("+49 (30) 123-456", "", Some("+4930123456")),
            ("2125550123", "US", Some("+12125550123")),
            ("030123456", "", None),
            ("101", "DE", None),
            ("alice", "DE", None),
            ("+123", "", None),
            ("+1234567890123456", "", None),
        ] {
            assert_eq!(e164(text, country(letters)).as_deref(), expected, "{text} in {letters}");
        }
    }

    #[test]
    fn a_number_is_seen_in_whatever_way_it_is_dialled() {
        let german = country("DE");
        for text in [
            "sip:+4930123456@carrier.example;user=phone",
            "sip:%2B4930123456@carrier.example",
            "tel:+49-30-123456",
            "004930123456",
            "4930123456",
            "030/123456",
        ] {
            assert!(meant(text, german).contains(&"+4930123456".to_owned()), "{text}: {:?}", meant(text, german));
        }
        assert_eq!(meant("sip:4930123456@host", None), ["+4930123456"]);
        for name in ["alice", "101", "112", "sip:desk@host", ""] {
            assert_eq!(meant(name, german), [""; 0], "{name}");
        }
    }

    #[test]
    fn somebody_is_told_from_those_whose_number_is_longer() {
        let grace = Person::new("030 123456", country("DE"));
        assert_eq!(grace.number.as_deref(), Some("+4930123456"));
        for text in ["sip:+4930123456@host", "\"4930123456\"", "tel:004930123456", "0114930123456", "030123456;x"] {
            assert!(grace.is_in(text), "{text}");
        }
        for text in ["+49301234567", "+14930123456", "0301234567", "1030123456", "+4930654321", ""] {
            assert!(!grace.is_in(text), "{text}");
        }
        let bob = Person::new("sip:bob@host.example", None);
        assert!(bob.is_in("<sip:bob@host.example>;tag=1") && !bob.is_in("sip:bob@host.example.org"));
    }
}
