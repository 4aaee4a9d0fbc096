//! Which of our numbers was called. Pure: the user part of the request URI in, a target out.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::SystemTime;

use sip::endpoint::Source;

use super::app::App;
use super::dial::DialPlan;
use super::inbound::Refusal;
use super::place::Place;
use crate::config::{Config, Network};
use crate::routing::history::Diverted;
use crate::stir::Verdict;

/// What answers a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Target {
    /// A voice agent, by name.
    Agent(String),
    /// What is said comes back.
    Echo,
    /// Rings, is never answered.
    Ring,
    /// Answers, hangs up after 2 s.
    Bye,
    /// A number that the program embedding us answers with code of its own.
    App(String),
    /// Code that was given with the call, and what it is called in records.
    Program(String, App),
    /// Somebody else: they are called, and both are connected.
    Dial(Arc<DialPlan>),
    /// A place within the server.
    Place(Place),
}

impl Target {
    /// Whether somebody holds a conversation on the line, who may take their time.
    #[must_use]
    pub fn converses(&self) -> bool {
        matches!(self, Self::Agent(_) | Self::App(_) | Self::Program(..))
    }

    /// The target's name in records and logs.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Agent(name) => name,
            Self::Echo => "echo",
            Self::Ring => "ring",
            Self::Bye => "bye",
            Self::App(name) | Self::Program(name, _) => name,
            Self::Dial(_) => "dial",
            Self::Place(place) => place.name(),
        }
    }
}

/// What is known of a call that is to be routed.
#[derive(Debug, Clone, Copy)]
pub struct RouteQuery<'a> {
    /// The user part of the Request-URI, unescaped, in lower case.
    pub user: &'a str,
    /// The Request-URI.
    pub request_uri: &'a str,
    /// The From URI.
    pub from_uri: &'a str,
    /// Where the request came from.
    pub source: Source,
    /// The trunk it came by.
    pub trunk: Option<&'a str>,
    /// The device that the caller authenticated as.
    pub device: Option<&'a str>,
    /// The INVITE, for routing by its headers.
    pub request: Option<&'a sip::Message>,
    /// Who sent the call on before it came here, the first of them first.
    pub diverted: &'a [Diverted],
    /// What is known of the caller by signature.
    pub verdict: Option<&'a Verdict>,
    /// When it came.
    pub at: SystemTime,
}

/// Knows which number stands for what.
pub trait Directory {
    /// What answers this call.
    ///
    /// # Errors
    /// Nothing does, or not for this caller: the refusal to send.
    fn route(&self, query: &RouteQuery<'_>) -> Result<Target, Refusal>;
}

/// The names besides the built-in numbers: agents that are defined, and numbers of the embedding program.
pub trait Names {
    /// Whether an agent of this name is defined.
    fn has_agent(&self, name: &str) -> bool;
    /// Whether the embedding program answers this number.
    fn has_app(&self, name: &str) -> bool;
}

/// Finds the built-in number, agent or application called `user`; `None` where none is called that.
#[must_use]
pub fn built_in(config: &Config, user: &str, names: &impl Names) -> Option<Target> {
    let user = user.to_ascii_lowercase();
    let numbers = &config.numbers;
    match user.as_str() {
        name if names.has_app(name) => Some(Target::App(user)),
        "echo" if numbers.echo => Some(Target::Echo),
        "ring" if numbers.ring => Some(Target::Ring),
        "bye" if numbers.bye => Some(Target::Bye),
        "agent" if numbers.agent => Some(Target::Agent(config.agents.default.clone())),
        name if numbers.agent && !name.is_empty() && names.has_agent(name) => Some(Target::Agent(user)),
        _ => None,
    }
}

/// Whether calls are taken from this address.
#[must_use]
pub fn is_allowed(allow: &[Network], addr: IpAddr) -> bool {
    allow.iter().any(|network| network.contains(addr))
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Known;

    impl Names for Known {
        fn has_agent(&self, name: &str) -> bool {
            ["desk", "night"].contains(&name)
        }
        fn has_app(&self, name: &str) -> bool {
            name == "menu"
        }
    }

    #[test]
    fn the_built_in_numbers_are_found_and_can_be_switched_off() {
        let mut config = Config::default();
        assert_eq!(built_in(&config, "Echo", &Known), Some(Target::Echo));
        assert_eq!(built_in(&config, "ring", &Known), Some(Target::Ring));
        assert_eq!(built_in(&config, "bye", &Known), Some(Target::Bye));
        assert_eq!(built_in(&config, "agent", &Known), Some(Target::Agent("desk".into())));
        assert_eq!(built_in(&config, "night", &Known), Some(Target::Agent("night".into())));
        assert_eq!(built_in(&config, "nobody", &Known), None);
        assert_eq!(built_in(&config, "", &Known), None);
        assert_eq!(built_in(&config, "menu", &Known), Some(Target::App("menu".into())));
        config.numbers.echo = false;
        config.numbers.agent = false;
        assert_eq!(built_in(&config, "echo", &Known), None);
        assert_eq!(built_in(&config, "agent", &Known), None);
        assert_eq!(built_in(&config, "night", &Known), None);
    }

    #[test]
    fn by_default_calls_come_from_loopback_and_private_addresses_only() {
        let allow = Config::default().sip.allow;
        for (addr, allowed) in
            [([127, 0, 0, 1], true), ([192, 168, 1, 9], true), ([10, 1, 1, 1], true), ([203, 0, 113, 5], false)]
        {
            assert_eq!(is_allowed(&allow, IpAddr::from(addr)), allowed, "{addr:?}");
        }
    }
}
