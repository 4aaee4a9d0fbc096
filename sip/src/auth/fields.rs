//! The `name=value, …` lists of challenges and credentials (RFC 7235 section 2.1).

use super::AuthError;
use crate::headers::params::{is_token_byte, quoted_len, trim, trim_start, unescape, unquote};

/// At most so many fields in one challenge.
const MAX_FIELDS: usize = 32;

/// The fields of one challenge or answer.
#[derive(Debug)]
pub(super) struct Fields<'a> {
    pairs: Vec<(&'a str, &'a str)>,
}

impl<'a> Fields<'a> {
    pub(super) fn parse(scheme: &str, text: &'a str) -> Result<Fields<'a>, AuthError> {
        if !scheme.eq_ignore_ascii_case("Digest") {
            return Err(AuthError::NotDigest);
        }
        let mut pairs = Vec::with_capacity(10);
        let mut rest = text;
        loop {
            rest = rest.trim_start_matches([' ', '\t', ',']);
            if rest.is_empty() {
                return Ok(Fields { pairs });
            }
            let (name, value, after) = pair(rest).ok_or(AuthError::Malformed)?;
            if pairs.len() == MAX_FIELDS {
                return Err(AuthError::Malformed);
            }
            pairs.push((name, value));
            rest = trim_start(after);
            if !rest.is_empty() && !rest.starts_with(',') {
                return Err(AuthError::Malformed);
            }
        }
    }

    /// A field's value, without quotes and escapes.
    pub(super) fn value(&self, name: &str) -> Option<String> {
        let (_, value) = self.pairs.iter().find(|(n, _)| n.eq_ignore_ascii_case(name))?;
        Some(if value.starts_with('"') { unescape(unquote(value)).into_owned() } else { (*value).to_owned() })
    }

    pub(super) fn required(&self, name: &'static str) -> Result<String, AuthError> {
        self.value(name).ok_or(AuthError::MissingField(name))
    }
}

/// Splits `Digest a=b, c=d, Basic realm="x", Digest …` into schemes and their fields. Commas separate both fields and
/// challenges; a new challenge begins where a token is followed by white space and another token instead of `=`.
pub(super) fn split_challenges(line: &str) -> impl Iterator<Item = (&str, &str)> {
    let mut rest = line;
    std::iter::from_fn(move || {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        let (scheme, fields) = split_scheme(rest)?;
        let len = if fields.starts_with(',') { 0 } else { fields_len(fields) };
        let (fields, after) = fields.split_at_checked(len).unwrap_or((fields, ""));
        rest = after;
        Some((scheme, fields))
    })
}

/// Splits the scheme's name off; what follows is white space, a comma (a scheme without fields) or nothing.
pub(super) fn split_scheme(text: &str) -> Option<(&str, &str)> {
    let text = trim(text);
    let len = text.bytes().take_while(|&b| is_token_byte(b)).count();
    let (scheme, rest) = text.split_at_checked(len)?;
    (!scheme.is_empty() && (rest.is_empty() || rest.starts_with([' ', '\t', ','])))
        .then_some((scheme, trim_start(rest)))
}

/// How much of the text belongs to the challenge it starts in.
fn fields_len(text: &str) -> usize {
    let mut at = 0;
    loop {
        let rest = text.get(at..).unwrap_or("");
        let Some(comma) = comma_outside_quotes(rest) else {
            return text.len();
        };
        let next = rest.get(comma..).unwrap_or("").trim_start_matches([' ', '\t', ',']);
        let begins_scheme = split_scheme(next).is_some_and(|(_, after)| !after.starts_with('='));
        if begins_scheme {
            return at + comma;
        }
        at += comma + 1;
    }
}

fn comma_outside_quotes(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut at = 0;
    while let Some(&b) = bytes.get(at) {
        match b {
            b'"' => at += text.get(at..).and_then(quoted_len)?,
            b',' => return Some(at),
            _ => at += 1,
        }
    }
    None
}

/// Reads `name = value` and answers what follows.
fn pair(text: &str) -> Option<(&str, &str, &str)> {
    let name_len = text.bytes().take_while(|&b| is_token_byte(b)).count();
    let (name, rest) = text.split_at_checked(name_len)?;
    let value = trim_start(trim_start(rest).strip_prefix('=')?);
    let value_len = match value.starts_with('"') {
        true => quoted_len(value)?,
        false => value.bytes().take_while(|b| !matches!(b, b',' | b' ' | b'\t')).count(),
    };
    let (value, rest) = value.split_at_checked(value_len)?;
    (name_len > 0 && value_len > 0).then_some((name, value, rest))
}
