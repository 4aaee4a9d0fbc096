//! `Reason` (RFC 3326): why a call ended or was refused, by the word of another protocol. In responses too (RFC 6432).

use std::borrow::Cow;
use std::fmt;

use super::params::{quote, trim, unescape};
use super::{HeaderError, Params, split_values};
use crate::uri::decimal;

/// One value of a Reason header.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Reason<'a> {
    /// `Q.850` (telephone networks), `SIP`, or another.
    pub protocol: &'a str,
    /// The protocol's own code: a cause of Q.850, a status of SIP.
    pub cause: Option<u32>,
    /// For people; empty where none is given.
    pub text: Cow<'a, str>,
}

impl<'a> Reason<'a> {
    /// Reads `protocol[;cause=1][;text="..."]`; other parameters are passed over.
    ///
    /// # Errors
    /// [`HeaderError`] where no protocol is named, or a parameter or the cause is malformed.
    pub fn parse(value: &'a str) -> Result<Self, HeaderError> {
        let value = trim(value);
        let end = value.find(';').unwrap_or(value.len());
        let (protocol, params) = value.split_at_checked(end).ok_or(HeaderError::Empty)?;
        let params = Params::checked(params)?;
        let cause = params.get("cause").map(|cause| decimal(cause.as_bytes()).ok_or(HeaderError::BadNumber));
        match trim(protocol) {
            "" => Err(HeaderError::Empty),
            protocol => Ok(Self {
                protocol,
                cause: cause.transpose()?,
                text: params.get("text").map(unescape).unwrap_or_default(),
            }),
        }
    }

    /// Every value that can be read, of those with commas between them.
    pub fn all(values: &'a str) -> impl Iterator<Item = Self> {
        split_values(values).filter_map(|value| Self::parse(value).ok())
    }
}

impl fmt::Display for Reason<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.protocol)?;
        if let Some(cause) = self.cause {
            write!(f, ";cause={cause}")?;
        }
        if !self.text.is_empty() {
            write!(f, ";text={}", quote(&self.text))?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Conforms: RFC 3326 §2 — reasons are read and written, several of them too.
    #[test]
    fn values_are_read_and_written() {
        let values =
            "Q.850;cause=1;text=\"Unallocated, \\\"unassigned\\\"\", SIP ; cause=404, X.1;cause=no, Preemption";
        let read: Vec<Reason<'_>> = Reason::all(values).collect();
        let told: Vec<_> = read.iter().map(|one| (one.protocol, one.cause, one.text.as_ref())).collect();
        assert_eq!(
            told,
            [("Q.850", Some(1), "Unallocated, \"unassigned\""), ("SIP", Some(404), ""), ("Preemption", None, ""),]
        );
        let written: Vec<String> = read.iter().map(Reason::to_string).collect();
        assert_eq!(written, ["Q.850;cause=1;text=\"Unallocated, \\\"unassigned\\\"\"", "SIP;cause=404", "Preemption"]);
        for bad in ["", ";cause=1", "SIP;cause=-1", "SIP;cause=99999999999"] {
            assert!(Reason::parse(bad).is_err(), "{bad}");
        }
    }
}
