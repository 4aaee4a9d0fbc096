//! `RAck` (RFC 3262): which reliable provisional response a PRACK acknowledges.

use std::fmt;

use super::HeaderError;
use crate::method::Method;
use crate::uri::decimal;

/// The value of a RAck header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RAck {
    /// The response's RSeq.
    pub response: u32,
    /// The CSeq number of the request that it answered.
    pub sequence: u32,
    /// That request's method.
    pub method: Method,
}

impl RAck {
    /// Reads `rseq cseq method`.
    ///
    /// # Errors
    /// [`HeaderError`] where one of the three is missing or cannot be read.
    pub fn parse(value: &str) -> Result<Self, HeaderError> {
        let mut words = value.split_ascii_whitespace();
        let mut number = || decimal(words.next().ok_or(HeaderError::Missing)?.as_bytes()).ok_or(HeaderError::BadNumber);
        let (response, sequence) = (number()?, number()?);
        let method = words.next().and_then(Method::parse).ok_or(HeaderError::BadMethod)?;
        match words.next() {
            None => Ok(Self { response, sequence, method }),
            Some(_) => Err(HeaderError::SeveralValues),
        }
    }
}

impl fmt::Display for RAck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} {} {}", self.response, self.sequence, self.method)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Conforms: RFC 3262 §7.2 — RAck is read and written.
    #[test]
    fn the_rfcs_example_is_read_and_written() {
        let rack = RAck { response: 776_656, sequence: 1, method: Method::Invite };
        assert_eq!(RAck::parse("776656  1 INVITE"), Ok(rack.clone()));
        assert_eq!(rack.to_string(), "776656 1 INVITE");
        for bad in ["", "1", "1 2", "1 2 INVITE 3", "x 2 INVITE", "1 2 (INVITE"] {
            assert!(RAck::parse(bad).is_err(), "{bad}");
        }
    }
}
