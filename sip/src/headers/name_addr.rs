//! `From`, `To`, `Contact`, `Route` and their like: a display name, a URI and parameters (RFC 3261 section 20).

use std::borrow::Cow;

use super::params::{quoted_len, trim, trim_end, trim_start, unescape, unquote};
use super::{HeaderError, Params};
use crate::uri::{self, Uri, UriError};

/// One address value: `"display" <uri>;params` or `uri;params`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct NameAddr<'a> {
    /// The display name as it was sent, quotes and all; empty where there is none.
    pub display: &'a str,
    /// The URI's text, without brackets. It has been checked: [`NameAddr::uri`] succeeds.
    pub uri_text: &'a str,
    /// The header's parameters (those behind the brackets; without brackets everything behind the first `;`).
    pub params: Params<'a>,
}

impl<'a> NameAddr<'a> {
    /// Reads one value (not a comma-separated list: see [`super::split_values`]).
    ///
    /// # Errors
    /// [`HeaderError`] says what breaks the grammar.
    pub fn parse(value: &'a str) -> Result<NameAddr<'a>, HeaderError> {
        let value = trim(value);
        if value.is_empty() {
            return Err(HeaderError::Empty);
        }
        match split_display(value)? {
            Some((display, bracketed)) => {
                let close = memchr::memchr(b'>', bracketed.as_bytes()).ok_or(HeaderError::Unbalanced)?;
                let uri_text = bracketed.get(..close).unwrap_or("");
                uri::scan(uri_text).map_err(HeaderError::BadUri)?;
                let params = trim_start(bracketed.get(close + 1..).unwrap_or(""));
                Ok(NameAddr { display, uri_text, params: Params::checked(params)? })
            }
            None => {
                let end = memchr::memchr(b';', value.as_bytes()).unwrap_or(value.len());
                let (uri_text, params) = value.split_at_checked(end).unwrap_or((value, ""));
                let uri_text = trim_end(uri_text);
                let parts = uri::scan(uri_text).map_err(HeaderError::BadUri)?;
                // Section 20.10: a URI that holds a comma, question mark or semicolon must stand in brackets.
                if parts.headers.is_some() || memchr::memchr2(b'?', b',', uri_text.as_bytes()).is_some() {
                    return Err(HeaderError::BadUri(UriError::BadCharacter));
                }
                Ok(NameAddr { display: "", uri_text, params: Params::checked(params)? })
            }
        }
    }

    /// The URI taken apart.
    ///
    /// # Errors
    /// None for a value that came from [`NameAddr::parse`].
    pub fn uri(&self) -> Result<Uri, UriError> {
        Uri::parse(self.uri_text)
    }

    /// The `tag` parameter.
    #[must_use]
    pub fn tag(&self) -> Option<&'a str> {
        self.params.get("tag").filter(|tag| !tag.is_empty())
    }

    /// The display name without quotes and escapes.
    #[must_use]
    pub fn display_name(&self) -> Cow<'a, str> {
        unescape(unquote(self.display))
    }
}

/// Splits `display <rest`: answers the display name and what follows `<`; `None` where no bracket opens a URI.
fn split_display(value: &str) -> Result<Option<(&str, &str)>, HeaderError> {
    if value.starts_with('"') {
        let len = quoted_len(value).ok_or(HeaderError::Unbalanced)?;
        let (display, rest) = value.split_at_checked(len).ok_or(HeaderError::Unbalanced)?;
        let rest = trim_start(rest).strip_prefix('<').ok_or(HeaderError::BadDisplayName)?;
        return Ok(Some((display, rest)));
    }
    let Some(open) = memchr::memchr(b'<', value.as_bytes()) else {
        return Ok(None);
    };
    let display = value.get(..open).unwrap_or("");
    // `sip:a@b;p="<x>"`: the bracket belongs to a quoted parameter, not to the URI.
    if memchr::memchr(b';', display.as_bytes()).is_some() {
        return Ok(None);
    }
    // The grammar wants tokens here. Phones send more than that without quotes, and what it means is plain, except
    // where it holds what separates values or strings.
    if display.bytes().any(|b| matches!(b, b',' | b'"' | b'>' | b'\\') || b < b' ' && b != b'\t') {
        return Err(HeaderError::BadDisplayName);
    }
    Ok(Some((trim(display), value.get(open + 1..).unwrap_or(""))))
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn reads_quoted_names_with_what_would_separate() {
        let value = r#""Bell, A; <x> \"y\"" <sip:a@b;p=1>;tag=88;+sip.instance="<urn:uuid:0c67446e>""#;
        let addr = NameAddr::parse(value).unwrap();
        assert_eq!(addr.display_name(), r#"Bell, A; <x> "y""#);
        assert_eq!((addr.uri_text, addr.tag()), ("sip:a@b;p=1", Some("88")));
        assert_eq!(addr.params.get("+sip.instance"), Some("<urn:uuid:0c67446e>"));
    }

    #[test]
    fn parameters_without_brackets_are_the_headers() {
        let addr = NameAddr::parse("sip:vivekg@example.com ;   tag    = 1918181833n").unwrap();
        assert_eq!((addr.uri_text, addr.tag()), ("sip:vivekg@example.com", Some("1918181833n")));
        let addr = NameAddr::parse(r#"sip:a@b;x="<y>""#).unwrap();
        assert_eq!((addr.uri_text, addr.params.get("x")), ("sip:a@b", Some("<y>")));
    }

    #[test]
    fn takes_display_names_as_phones_send_them() {
        for (value, display) in [
            ("caller<sip:a@b>;tag=3", "caller"),
            ("token1~` token2'+_ token3*%!.- <sip:a@b>", "token1~` token2'+_ token3*%!.-"),
            ("Jörg Müller <sip:a@b>", "Jörg Müller"),
            ("100@pbx <sip:a@b>", "100@pbx"),
            ("<sip:a@b>", ""),
            ("\"\" <sip:a@b>", "\"\""),
        ] {
            assert_eq!(NameAddr::parse(value).unwrap().display, display);
        }
    }

    #[test]
    fn refuses_what_cannot_be_told_apart() {
        for bad in [
            "",
            "\"Mr. J. User <sip:j.user@example.com>",
            "Bell, Alexander <sip:a@b>",
            "\"x\" < sip:a@b >",
            "\"x\" sip:a@b",
            "<sip:a@b",
            "<>",
            "<sip:a@b>;;",
            "<sip:a@b>x",
            "sip:user@example.com?Route=%3Csip:h%3E",
            "a@b",
        ] {
            assert!(NameAddr::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn an_empty_tag_is_none() {
        assert_eq!(NameAddr::parse("<sip:a@b>;tag").unwrap().tag(), None);
    }
}
