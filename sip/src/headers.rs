//! Typed views of header values. They borrow from the message and allocate nothing.

pub mod event;
pub mod name;
pub mod name_addr;
pub mod params;
pub mod rack;
pub mod reason;
pub mod refer_to;
pub mod replaces;
pub mod session_expires;
pub mod via;

use thiserror::Error;

pub use event::{EventType, SubscriptionPhase, SubscriptionState, TerminatedReason};
pub use name::Name;
pub use name_addr::NameAddr;
pub use params::Params;
pub use rack::RAck;
pub use reason::Reason;
pub use refer_to::ReferTo;
pub use replaces::Replaces;
pub use session_expires::{Refresher, SessionExpires};
pub use via::{Rport, Via};

use crate::method::Method;
use crate::uri::{UriError, decimal};
use params::{quoted_len, trim, trim_end};

/// Why a header's value could not be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum HeaderError {
    /// The message has no such header.
    #[error("missing")]
    Missing,
    /// Nothing but white space.
    #[error("empty value")]
    Empty,
    /// A `;name=value` that breaks the grammar.
    #[error("malformed parameter")]
    BadParameter,
    /// A quoted string or an angle bracket that does not end.
    #[error("unbalanced quotes or brackets")]
    Unbalanced,
    /// A display name with characters that need quotes.
    #[error("malformed display name")]
    BadDisplayName,
    /// A URI that is none.
    #[error("bad URI: {0}")]
    BadUri(UriError),
    /// A `Via` whose protocol or host breaks the grammar.
    #[error("malformed Via")]
    BadVia,
    /// A number that is none or is too large.
    #[error("bad number")]
    BadNumber,
    /// A method that is no token.
    #[error("bad method")]
    BadMethod,
    /// One value was due, several were sent.
    #[error("more than one value")]
    SeveralValues,
}

/// The `CSeq` header (RFC 3261 section 20.16).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct CSeq {
    /// Below 2^31, as section 8.1.1.5 demands.
    pub number: u32,
    /// The request's method.
    pub method: Method,
}

impl CSeq {
    /// Reads `number method`.
    ///
    /// # Errors
    /// [`HeaderError::BadNumber`] from 2^31 on, [`HeaderError::BadMethod`] where the second word is no token.
    pub fn parse(value: &str) -> Result<CSeq, HeaderError> {
        let (number, method) = value.split_once([' ', '\t']).ok_or(HeaderError::BadMethod)?;
        let number = decimal(number.as_bytes()).filter(|n| *n < 1 << 31).ok_or(HeaderError::BadNumber)?;
        let method = Method::parse(trim(method)).ok_or(HeaderError::BadMethod)?;
        Ok(CSeq { number, method })
    }
}

/// Splits a header's value at the commas that stand outside quotes and angle brackets; empty elements are skipped.
pub fn split_values(value: &str) -> impl Iterator<Item = &str> {
    let mut rest = value;
    std::iter::from_fn(move || {
        loop {
            if rest.is_empty() {
                return None;
            }
            let (element, after) = split_first(rest);
            rest = after;
            let element = trim(element);
            if !element.is_empty() {
                return Some(element);
            }
        }
    })
}

/// The text before the first separating comma, and what follows it.
pub(crate) fn split_first(text: &str) -> (&str, &str) {
    let bytes = text.as_bytes();
    if memchr::memchr(b',', bytes).is_none() {
        return (trim_end(text), "");
    }
    let mut at = 0;
    let mut in_brackets = false;
    while let Some(&b) = bytes.get(at) {
        match b {
            b'"' if !in_brackets => match text.get(at..).and_then(quoted_len) {
                Some(len) => at += len,
                None => break,
            },
            b'<' => {
                in_brackets = true;
                at += 1;
            }
            b'>' => {
                in_brackets = false;
                at += 1;
            }
            b',' if !in_brackets => {
                return (text.get(..at).unwrap_or(text), text.get(at + 1..).unwrap_or(""));
            }
            _ => at += 1,
        }
    }
    (trim_end(text), "")
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn splits_only_at_commas_outside_quotes_and_brackets() {
        let value = r#""a, \"b" <sip:x,y@h;p=1,2>;q=1 , <sip:z@h>,,, sip:w@h"#;
        let parts: Vec<_> = split_values(value).collect();
        assert_eq!(parts, [r#""a, \"b" <sip:x,y@h;p=1,2>;q=1"#, "<sip:z@h>", "sip:w@h"]);
        assert_eq!(split_values(r#"unbalanced " a, b"#).count(), 1);
        assert_eq!(split_values(" , ,").count(), 0);
    }

    #[test]
    fn reads_cseq_up_to_its_largest_number() {
        let cseq = CSeq::parse("2147483647  INVITE").unwrap();
        assert_eq!((cseq.number, cseq.method), (2_147_483_647, Method::Invite));
        assert_eq!(CSeq::parse("2147483648 INVITE"), Err(HeaderError::BadNumber));
        assert_eq!(CSeq::parse("36893488147419103232 REGISTER"), Err(HeaderError::BadNumber));
        assert_eq!(CSeq::parse("-1 INVITE"), Err(HeaderError::BadNumber));
        assert_eq!(CSeq::parse("1"), Err(HeaderError::BadMethod));
        assert_eq!(CSeq::parse("1 IN VITE"), Err(HeaderError::BadMethod));
        assert_eq!(CSeq::parse("0009    INVITE").unwrap().number, 9);
    }
}
