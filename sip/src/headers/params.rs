//! `;name=value` parameters, tokens and quoted strings (RFC 3261 section 25.1).

use std::borrow::Cow;

use super::HeaderError;

/// Parameters behind a header value or a URI, still as they were sent. Names compare without regard to case.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Params<'a> {
    text: &'a str,
}

impl<'a> Params<'a> {
    /// Takes text that is empty or starts with `;`.
    #[must_use]
    pub fn new(text: &'a str) -> Params<'a> {
        Params { text }
    }

    /// Takes a header's parameters and makes sure that every one is well formed, with a token for its name.
    ///
    /// # Errors
    /// [`HeaderError::BadParameter`] at the first one that is not.
    pub fn checked(text: &'a str) -> Result<Params<'a>, HeaderError> {
        let mut rest = text;
        loop {
            rest = trim_start(rest);
            if rest.is_empty() {
                return Ok(Params { text });
            }
            rest = match next_param(rest) {
                Some((name, _, after)) if is_token(name) => after,
                _ => return Err(HeaderError::BadParameter),
            };
        }
    }

    /// The value of the first parameter of this name: `None` where there is none, `Some("")` for one without a value.
    /// A quoted value is answered without its quotes, with its escapes still in ([`unescape`]).
    #[must_use]
    pub fn get(&self, name: &str) -> Option<&'a str> {
        self.iter().find(|(n, _)| n.eq_ignore_ascii_case(name)).map(|(_, value)| value.map_or("", unquote))
    }

    /// Whether a parameter of this name is there, with or without a value.
    #[must_use]
    pub fn has(&self, name: &str) -> bool {
        self.iter().any(|(n, _)| n.eq_ignore_ascii_case(name))
    }

    /// All parameters in order, quoted values with their quotes. Ends early at one that is malformed.
    pub fn iter(&self) -> impl Iterator<Item = (&'a str, Option<&'a str>)> + use<'a> {
        let mut rest = self.text;
        std::iter::from_fn(move || {
            let (name, value, after) = next_param(trim_start(rest))?;
            rest = after;
            Some((name, value))
        })
    }

    /// The text itself: empty, or from the first `;` on.
    #[must_use]
    pub fn as_str(&self) -> &'a str {
        self.text
    }
}

/// Reads `; name [= value]` from the start of `text`; answers name, value and what follows.
fn next_param(text: &str) -> Option<(&str, Option<&str>, &str)> {
    let text = trim_start(text.strip_prefix(';')?);
    let name_len = text.bytes().take_while(|&b| is_param_byte(b)).count();
    if name_len == 0 {
        return None;
    }
    let (name, rest) = text.split_at_checked(name_len)?;
    let rest = trim_start(rest);
    let Some(value) = rest.strip_prefix('=') else {
        return (rest.is_empty() || rest.starts_with(';')).then_some((name, None, rest));
    };
    let value = trim_start(value);
    let value_len = if value.starts_with('"') {
        quoted_len(value)?
    } else {
        value.bytes().take_while(|&b| is_value_byte(b)).count()
    };
    if value_len == 0 {
        return None;
    }
    let (value, rest) = value.split_at_checked(value_len)?;
    let rest = trim_start(rest);
    (rest.is_empty() || rest.starts_with(';')).then_some((name, Some(value), rest))
}

/// The length of the quoted string that `text` starts with, both quotes counted; `None` where it does not end.
#[must_use]
pub fn quoted_len(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let mut at = 1;
    while let Some(&b) = bytes.get(at) {
        match b {
            b'"' => return Some(at + 1),
            b'\\' => at += 2,
            _ => at += 1,
        }
    }
    None
}

/// Takes the quotes off a quoted string; other text is answered as it is. Escapes stay.
#[must_use]
pub fn unquote(text: &str) -> &str {
    text.strip_prefix('"').and_then(|t| t.strip_suffix('"')).unwrap_or(text)
}

/// Resolves the backslash escapes of a quoted string's inside.
#[must_use]
pub fn unescape(inside: &str) -> Cow<'_, str> {
    if !inside.contains('\\') {
        return Cow::Borrowed(inside);
    }
    let mut out = String::with_capacity(inside.len());
    let mut chars = inside.chars();
    while let Some(c) = chars.next() {
        match c {
            '\\' => out.extend(chars.next()),
            c => out.push(c),
        }
    }
    Cow::Owned(out)
}

/// Puts text into quotes, escaping what must be and turning control characters into spaces.
#[must_use]
pub fn quote(text: &str) -> String {
    let mut out = String::with_capacity(text.len() + 2);
    out.push('"');
    for c in text.chars() {
        match c {
            '"' | '\\' => out.extend(['\\', c]),
            c if c.is_control() => out.push(' '),
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// Whether all of `text` is one token (RFC 3261 section 25.1).
#[must_use]
pub fn is_token(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(is_token_byte)
}

const TOKEN: u8 = 1;
const PARAM: u8 = 2;
const VALUE: u8 = 4;

/// One table for the three classes, so that each byte costs one load.
const CLASS: [u8; 256] = {
    let mut table = [0u8; 256];
    let mut b = 0usize;
    while b < 256 {
        let c = b as u8;
        let token = c.is_ascii_alphanumeric()
            || matches!(c, b'-' | b'.' | b'!' | b'%' | b'*' | b'_' | b'+' | b'`' | b'\'' | b'~');
        // Names: tokens, and what URIs allow besides (param-unreserved). Bytes above ASCII pass, as peers send them.
        let param = token || matches!(c, b'[' | b']' | b'/' | b':' | b'&' | b'$' | b'(' | b')') || c >= 0x80;
        // Values are read more widely than written: anything that cannot end them.
        let value = param || matches!(c, b'@' | b'=' | b'?' | b'#' | b'^' | b'|' | b'{' | b'}' | b'\\');
        table[b] = token as u8 * TOKEN + param as u8 * PARAM + value as u8 * VALUE;
        b += 1;
    }
    table
};

pub(crate) fn is_token_byte(b: u8) -> bool {
    CLASS[b as usize] & TOKEN != 0
}

fn is_param_byte(b: u8) -> bool {
    CLASS[b as usize] & PARAM != 0
}

fn is_value_byte(b: u8) -> bool {
    CLASS[b as usize] & VALUE != 0
}

pub(crate) fn trim_start(text: &str) -> &str {
    text.trim_start_matches([' ', '\t'])
}

pub(crate) fn trim_end(text: &str) -> &str {
    text.trim_end_matches([' ', '\t'])
}

pub(crate) fn trim(text: &str) -> &str {
    trim_start(trim_end(text))
}
