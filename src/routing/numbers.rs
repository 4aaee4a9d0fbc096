//! How numbers are written: E.164 with `+` inside, the trunk's own habit outside. Numbering plans come from the library.

use phonenumber::{Mode, country::Id};

pub use control::numbers::{country, e164};

use crate::config::NumberForm;

/// The number in E.164 (`+4930123456`), as somebody in `country` means it. Extensions, names, emergency numbers and whatever
/// else is no number of a public network stay as they are.
#[must_use]
pub fn to_e164(text: &str, country: Option<Id>) -> String {
    e164(text, country).unwrap_or_else(|| text.to_owned())
}

/// Digits of a global context and of the local number behind it; more are no number.
const CONTEXT_DIGITS: usize = 20;

/// The number or name in a URI, as [`sip::uri::user_of`]. A local number that says in which global context it is one (RFC 3966 section
/// 5.1.5: `tel:030-1777;phone-context=+49`) is brought into E.164, where the two make a number; `110` in `+49` makes none.
#[must_use]
pub fn user_of(uri: &str) -> String {
    let user = sip::uri::user_of(uri);
    let context = sip::uri::phone_context(uri).filter(|context| context.starts_with('+') && !user.starts_with('+'));
    context.and_then(|context| in_context(&user, &context)).unwrap_or(user)
}

fn in_context(local: &str, context: &str) -> Option<String> {
    let context = context.replace(['-', '.', '(', ')'], "");
    let digits = [context.strip_prefix('+')?, local];
    let are_digits = digits.iter().all(|part| !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()));
    if !are_digits || context.len() + local.len() > CONTEXT_DIGITS + 1 {
        return None;
    }
    let number = phonenumber::parse(None, format!("{context}{local}")).ok()?;
    phonenumber::is_valid(&number).then(|| number.format().mode(Mode::E164).to_string())
}

/// Writes an E.164 number in this form; what is no E.164 number stays as it is.
#[must_use]
pub fn write(number: &str, form: NumberForm, country: Option<Id>) -> String {
    let Some(digits) = number.strip_prefix('+').filter(|_| e164(number, None).is_some()) else {
        return number.to_owned();
    };
    match form {
        NumberForm::Keep | NumberForm::E164 => number.to_owned(),
        NumberForm::Digits => digits.to_owned(),
        NumberForm::DoubleZero => format!("00{digits}"),
        NumberForm::National => national(number, country).unwrap_or_else(|| format!("00{digits}")),
    }
}

/// The number as it is dialled within its country; `None` for numbers of other countries.
fn national(number: &str, country: Option<Id>) -> Option<String> {
    let country = country?;
    let parsed = phonenumber::parse(None, number).ok()?;
    if parsed.country().id() != Some(country) {
        return None;
    }
    let written = parsed.format().mode(Mode::National).to_string();
    Some(written.chars().filter(char::is_ascii_digit).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_brought_into_e164_as_their_country_dials() {
        for (text, letters, expected) in [
            ("030 123456", "DE", "+4930123456"),
            ("0049 30 123456", "DE", "+4930123456"),
            ("+49 (30) 123-456", "", "+4930123456"),
            ("2125550123", "US", "+12125550123"),
            ("12125550123", "US", "+12125550123"),
            ("011442079460000", "US", "+442079460000"),
            ("020 7946 0000", "GB", "+442079460000"),
            ("0612345678", "FR", "+33612345678"),
            ("06 1234 5678", "IT", "+390612345678"),
            // No numbers of a public network, or no country to read them by.
            ("030123456", "", "030123456"),
            ("101", "DE", "101"),
            ("112", "DE", "112"),
            ("911", "US", "911"),
            ("alice", "DE", "alice"),
            ("anonymous", "US", "anonymous"),
            ("", "DE", ""),
            ("+", "", "+"),
            ("+123", "", "+123"),
            ("+1234567890123456", "", "+1234567890123456"),
        ] {
            assert_eq!(to_e164(text, country(letters)), expected, "{text} in {letters}");
        }
        let long = "1".repeat(65);
        assert_eq!(to_e164(&long, country("US")), long);
    }

    /// Conforms: RFC 3966 §5.1.5 — a local number is one in its context.
    #[test]
    fn a_local_number_is_brought_into_e164_by_its_context() {
        for (uri, number) in [
            ("tel:030-1777;phone-context=+49", "+49301777"),
            ("tel:301777;phone-context=+49", "+49301777"),
            ("tel:1777;phone-context=+49-30", "+49301777"),
            ("tel:06-1234-5678;phone-context=+39", "+390612345678"),
            ("tel:555.0123;phone-context=+1-212", "+12125550123"),
            ("sip:0301777;phone-context=+49@host;user=phone", "+49301777"),
            ("tel:+44-20-7946-0000;phone-context=+49", "+442079460000"),
            // No number of a public network there.
            ("tel:110;phone-context=+49", "110"),
            ("tel:863-1234;phone-context=+1-914-555", "8631234"),
            ("tel:*21;phone-context=+49", "*21"),
            ("tel:70-42;phone-context=example.com", "7042"),
            ("tel:7042;phone-context=+", "7042"),
            ("sip:alice@host", "alice"),
        ] {
            assert_eq!(user_of(uri), number, "{uri}");
        }
        let long = "1".repeat(80);
        assert_eq!(user_of(&format!("tel:{long};phone-context=+49")), long);
    }

    #[test]
    fn numbers_are_written_as_the_trunk_wants_them() {
        let german = country("DE");
        for (number, form, expected) in [
            ("+4930123456", NumberForm::E164, "+4930123456"),
            ("+4930123456", NumberForm::Digits, "4930123456"),
            ("+4930123456", NumberForm::DoubleZero, "004930123456"),
            ("+4930123456", NumberForm::National, "030123456"),
            ("+12125550123", NumberForm::National, "0012125550123"),
            ("112", NumberForm::DoubleZero, "112"),
            ("alice", NumberForm::Digits, "alice"),
            ("+x", NumberForm::Digits, "+x"),
        ] {
            assert_eq!(write(number, form, german), expected, "{number} {form:?}");
        }
    }

    #[test]
    fn a_country_is_known_by_two_letters() {
        assert!(country("DE").is_some() && country("US").is_some());
        assert!(country("Germany").is_none() && country("").is_none());
    }
}
