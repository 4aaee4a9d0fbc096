//! `Replaces` (RFC 3891): the dialog that a new call takes the place of.

use std::fmt;

use super::params::is_token;
use super::{HeaderError, Params};
use crate::headers::params::trim;
use crate::uri::escape_header;

/// The value of a Replaces header, also as it stands in a Refer-To URI (`?Replaces=…`).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Replaces {
    /// The dialog's Call-ID.
    pub call_id: String,
    /// The tag of whoever receives this header; `0` stands for none (RFC 2543).
    pub to_tag: String,
    /// The tag of that one's peer; `0` stands for none.
    pub from_tag: String,
    /// Only a call that is not answered yet may be replaced: a pick-up that comes too late fails.
    pub early_only: bool,
}

impl Replaces {
    /// Reads `call-id;to-tag=…;from-tag=…[;early-only]`.
    ///
    /// # Errors
    /// [`HeaderError`] for an empty Call-ID, or where one of the tags is missing or stands there twice.
    pub fn parse(value: &str) -> Result<Self, HeaderError> {
        let value = trim(value);
        let end = value.find(';').unwrap_or(value.len());
        let (call_id, params) = value.split_at_checked(end).ok_or(HeaderError::Empty)?;
        let call_id = trim(call_id);
        if call_id.is_empty() {
            return Err(HeaderError::Empty);
        }
        // 25.1 has words here; what matters is that it can stand in a message again.
        if call_id.bytes().any(|byte| byte <= b' ' || byte == 0x7f || byte == b',') {
            return Err(HeaderError::BadParameter);
        }
        let params = Params::checked(params)?;
        let tag = |wanted: &str| {
            let mut found = params.iter().filter(|(name, _)| name.eq_ignore_ascii_case(wanted));
            match (found.next(), found.next()) {
                (Some((_, Some(tag))), None) if is_token(tag) => Ok(tag.to_owned()),
                (Some(_), Some(_)) => Err(HeaderError::SeveralValues),
                _ => Err(HeaderError::BadParameter),
            }
        };
        Ok(Self {
            call_id: call_id.to_owned(),
            to_tag: tag("to-tag")?,
            from_tag: tag("from-tag")?,
            early_only: params.has("early-only"),
        })
    }

    /// The value escaped for a URI's header part: what follows `Replaces=` in a Refer-To.
    #[must_use]
    pub fn escaped(&self) -> String {
        escape_header(&self.to_string())
    }
}

impl fmt::Display for Replaces {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{};to-tag={};from-tag={}", self.call_id, self.to_tag, self.from_tag)?;
        if self.early_only { f.write_str(";early-only") } else { Ok(()) }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// Conforms: RFC 3891 §6.1 — the examples of the grammar are read, parameters in any order
    #[test]
    fn reads_the_rfcs_examples_in_any_order_of_parameters() {
        let replaces = Replaces::parse("98732@sip.example.com ;from-tag=r33th4x0r ;to-tag=ff87ff").unwrap();
        assert_eq!(replaces.call_id, "98732@sip.example.com");
        assert_eq!((replaces.to_tag.as_str(), replaces.from_tag.as_str()), ("ff87ff", "r33th4x0r"));
        assert!(!replaces.early_only);
        let replaces = Replaces::parse("12adf2f34456gs5;to-tag=12345;from-tag=54321").unwrap();
        assert_eq!(Replaces::parse(&replaces.to_string()).unwrap(), replaces);
        let early = Replaces::parse("87134@171.161.34.23;to-tag=24796;from-tag=0;early-only").unwrap();
        assert!(early.early_only && early.from_tag == "0");
        assert_eq!(Replaces::parse(&early.to_string()).unwrap(), early);
    }

    /// Conforms: RFC 3891 §6.1 — exactly one to-tag and one from-tag are needed
    #[test]
    fn refuses_what_names_no_dialog() {
        for bad in [
            "",
            ";to-tag=1;from-tag=2",
            "a;to-tag=1",
            "a;from-tag=1",
            "a;to-tag=1;to-tag=2;from-tag=3",
            "a;to-tag;from-tag=2",
            "a b;to-tag=1;from-tag=2",
            "a;to-tag=1;from-tag=2,b;to-tag=1;from-tag=2",
        ] {
            assert!(Replaces::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn the_escaped_form_is_what_a_refer_to_holds() {
        let replaces = Replaces::parse("425928@bobster.example.org;to-tag=7743;from-tag=6472").unwrap();
        assert_eq!(replaces.escaped(), "425928%40bobster.example.org%3Bto-tag%3D7743%3Bfrom-tag%3D6472");
    }
}
