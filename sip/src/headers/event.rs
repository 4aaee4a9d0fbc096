//! `Event` and `Subscription-State` (RFC 6665 sections 8.2.1 and 8.2.3).

use std::fmt;

use super::params::{is_token, trim};
use super::{HeaderError, Params};
use crate::uri::decimal;

/// The value of an Event header: an event package, with its template if it has one, and what tells several subscriptions
/// of one dialog apart.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct EventType {
    /// `dialog`, `message-summary`, `refer`; in lower case.
    pub package: String,
    /// The `id` parameter.
    pub id: Option<String>,
}

impl EventType {
    /// A package without `id`.
    #[must_use]
    pub fn new(package: &str) -> Self {
        Self { package: package.to_ascii_lowercase(), id: None }
    }

    /// Reads the value.
    ///
    /// # Errors
    /// [`HeaderError`] where the package or its `id` is no token.
    pub fn parse(value: &str) -> Result<Self, HeaderError> {
        let (package, params) = split(value)?;
        let params = Params::checked(params)?;
        let id = match params.get("id") {
            Some(id) if is_token(id) => Some(id.to_owned()),
            Some(_) => return Err(HeaderError::BadParameter),
            None => None,
        };
        Ok(Self { package: package.to_ascii_lowercase(), id })
    }
}

impl fmt::Display for EventType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.package)?;
        match &self.id {
            Some(id) => write!(f, ";id={id}"),
            None => Ok(()),
        }
    }
}

/// Where a subscription stands.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum SubscriptionPhase {
    /// The notifier has accepted it.
    Active,
    /// The notifier has not decided yet.
    Pending,
    /// It is over, and why.
    Terminated(TerminatedReason),
    /// A state that is no RFC's; counts as active.
    Other(String),
}

/// Why a notifier ends a subscription (RFC 6665 section 4.1.3).
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum TerminatedReason {
    /// Moved: subscribe again at once.
    Deactivated,
    /// For now: subscribe again later.
    Probation,
    /// Not allowed any more: do not subscribe again.
    Rejected,
    /// Not refreshed in time: subscribe again if still wanted.
    Timeout,
    /// Nobody decided: subscribe again later.
    GiveUp,
    /// What was watched is no more: do not subscribe again.
    NoResource,
    /// What was watched cannot change any more: do not subscribe again.
    Invariant,
    /// None given, or none of these: subscribe again if still wanted.
    Other(String),
}

impl TerminatedReason {
    /// As it is written; empty where none was given.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match self {
            TerminatedReason::Deactivated => "deactivated",
            TerminatedReason::Probation => "probation",
            TerminatedReason::Rejected => "rejected",
            TerminatedReason::Timeout => "timeout",
            TerminatedReason::GiveUp => "giveup",
            TerminatedReason::NoResource => "noresource",
            TerminatedReason::Invariant => "invariant",
            TerminatedReason::Other(other) => other,
        }
    }

    /// Whether it makes sense to subscribe again.
    #[must_use]
    pub fn may_return(&self) -> bool {
        !matches!(self, TerminatedReason::Rejected | TerminatedReason::NoResource | TerminatedReason::Invariant)
    }

    fn parse(text: &str) -> Self {
        use TerminatedReason::{Deactivated, GiveUp, Invariant, NoResource, Probation, Rejected, Timeout};
        [Deactivated, Probation, Rejected, Timeout, GiveUp, NoResource, Invariant]
            .into_iter()
            .find(|reason| text.eq_ignore_ascii_case(reason.as_str()))
            .unwrap_or_else(|| TerminatedReason::Other(text.to_owned()))
    }
}

/// The value of a Subscription-State header.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct SubscriptionState {
    /// Where it stands.
    pub phase: SubscriptionPhase,
    /// Seconds that are left, while it is not over.
    pub expires_s: Option<u32>,
    /// Not to subscribe again before so many seconds.
    pub retry_after_s: Option<u32>,
}

impl SubscriptionState {
    /// `active` for so many more seconds.
    #[must_use]
    pub fn active(expires_s: u32) -> Self {
        Self { phase: SubscriptionPhase::Active, expires_s: Some(expires_s), retry_after_s: None }
    }

    /// `terminated` for a reason.
    #[must_use]
    pub fn terminated(reason: TerminatedReason) -> Self {
        Self { phase: SubscriptionPhase::Terminated(reason), expires_s: None, retry_after_s: None }
    }

    /// Reads the value.
    ///
    /// # Errors
    /// [`HeaderError`] where the state is no token or a number is none.
    pub fn parse(value: &str) -> Result<Self, HeaderError> {
        let (state, params) = split(value)?;
        let params = Params::checked(params)?;
        let seconds = |name: &str| match params.get(name) {
            Some(text) => decimal(text.as_bytes()).map(Some).ok_or(HeaderError::BadNumber),
            None => Ok(None),
        };
        let phase = match state.to_ascii_lowercase().as_str() {
            "active" => SubscriptionPhase::Active,
            "pending" => SubscriptionPhase::Pending,
            "terminated" => {
                SubscriptionPhase::Terminated(TerminatedReason::parse(params.get("reason").unwrap_or_default()))
            }
            other => SubscriptionPhase::Other(other.to_owned()),
        };
        Ok(Self { phase, expires_s: seconds("expires")?, retry_after_s: seconds("retry-after")? })
    }

    /// Whether the subscription is over.
    #[must_use]
    pub fn is_terminated(&self) -> bool {
        matches!(self.phase, SubscriptionPhase::Terminated(_))
    }
}

impl fmt::Display for SubscriptionState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.phase {
            SubscriptionPhase::Active => f.write_str("active")?,
            SubscriptionPhase::Pending => f.write_str("pending")?,
            SubscriptionPhase::Other(other) => f.write_str(other)?,
            SubscriptionPhase::Terminated(reason) => {
                f.write_str("terminated")?;
                if is_token(reason.as_str()) {
                    write!(f, ";reason={}", reason.as_str())?;
                }
            }
        }
        if let Some(seconds) = self.expires_s {
            write!(f, ";expires={seconds}")?;
        }
        match self.retry_after_s {
            Some(seconds) => write!(f, ";retry-after={seconds}"),
            None => Ok(()),
        }
    }
}

/// Splits `token;params`.
fn split(value: &str) -> Result<(&str, &str), HeaderError> {
    let value = trim(value);
    let end = value.find(';').unwrap_or(value.len());
    let (token, params) = value.split_at_checked(end).ok_or(HeaderError::Empty)?;
    let token = trim(token);
    match token {
        "" => Err(HeaderError::Empty),
        token if is_token(token) => Ok((token, params)),
        _ => Err(HeaderError::BadParameter),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn events_are_read_and_written() {
        for (text, package, id) in [
            ("refer;id=93809824", "refer", Some("93809824")),
            ("Dialog", "dialog", None),
            ("presence.winfo ; x=y", "presence.winfo", None),
        ] {
            let event = EventType::parse(text).unwrap();
            assert_eq!((event.package.as_str(), event.id.as_deref()), (package, id));
            assert_eq!(EventType::parse(&event.to_string()).unwrap(), event);
        }
        for bad in ["", ";id=1", "a b", "dialog;id", "dialog;id=\"a b\""] {
            assert!(EventType::parse(bad).is_err(), "{bad}");
        }
    }

    /// Conforms: RFC 6665 §8.2.3 — Subscription-State is read with its reason, and written as it is read
    #[test]
    fn states_are_read_and_written() {
        for text in [
            "active;expires=600000",
            "pending",
            "terminated;reason=noresource",
            "terminated;reason=probation;retry-after=60",
            "terminated",
            "terminated;reason=tired",
            "waiting;expires=1",
        ] {
            assert_eq!(SubscriptionState::parse(text).unwrap().to_string(), text);
        }
        let state = SubscriptionState::parse("TERMINATED ;Reason=Rejected").unwrap();
        assert_eq!(state, SubscriptionState::terminated(TerminatedReason::Rejected));
        assert!(!TerminatedReason::Rejected.may_return() && TerminatedReason::Other(String::new()).may_return());
        for bad in ["", "active;expires=x", "active;expires=99999999999", "act ive"] {
            assert!(SubscriptionState::parse(bad).is_err(), "{bad}");
        }
    }
}
