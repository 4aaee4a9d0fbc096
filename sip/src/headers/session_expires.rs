//! `Session-Expires` (RFC 4028): how long a session lasts without a refresh, and who refreshes it.

use std::fmt;

use super::params::trim;
use super::{HeaderError, Params};
use crate::uri::decimal;

/// Who refreshes a session, as seen from one request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Refresher {
    /// Whoever sent the request.
    Uac,
    /// Whoever answered it.
    Uas,
}

/// The value of a Session-Expires header.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct SessionExpires {
    /// The session is over this long after its last refresh.
    pub seconds: u32,
    /// Who refreshes; `None` leaves it to whoever answers.
    pub refresher: Option<Refresher>,
}

impl SessionExpires {
    /// Reads `seconds[;refresher=uac|uas]`; other parameters are passed over.
    ///
    /// # Errors
    /// [`HeaderError`] for what is no number, or another refresher.
    pub fn parse(value: &str) -> Result<Self, HeaderError> {
        let value = trim(value);
        let end = value.find(';').unwrap_or(value.len());
        let (seconds, params) = value.split_at_checked(end).ok_or(HeaderError::Empty)?;
        let seconds = decimal(trim(seconds).as_bytes()).ok_or(HeaderError::BadNumber)?;
        let refresher = match Params::checked(params)?.get("refresher") {
            None => None,
            Some(who) if who.eq_ignore_ascii_case("uac") => Some(Refresher::Uac),
            Some(who) if who.eq_ignore_ascii_case("uas") => Some(Refresher::Uas),
            Some(_) => return Err(HeaderError::BadParameter),
        };
        Ok(Self { seconds, refresher })
    }
}

impl fmt::Display for SessionExpires {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.seconds.fmt(f)?;
        match self.refresher {
            Some(Refresher::Uac) => f.write_str(";refresher=uac"),
            Some(Refresher::Uas) => f.write_str(";refresher=uas"),
            None => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Conforms: RFC 4028 §4 — Session-Expires is read with and without a refresher, and written the same.
    #[test]
    fn values_are_read_and_written() {
        for (text, seconds, refresher) in [
            ("4000", 4000, None),
            ("1800;refresher=uac", 1800, Some(Refresher::Uac)),
            ("90;refresher=uas", 90, Some(Refresher::Uas)),
        ] {
            let read = SessionExpires::parse(text);
            assert_eq!(read, Ok(SessionExpires { seconds, refresher }));
            assert_eq!(read.map(|value| value.to_string()), Ok(text.to_owned()));
        }
        assert_eq!(SessionExpires::parse(" 60 ; x=y ; refresher=UAS").map(|value| value.seconds), Ok(60));
        for bad in ["", "soon", "-1", "60;refresher=me", "99999999999"] {
            assert!(SessionExpires::parse(bad).is_err(), "{bad}");
        }
    }
}
