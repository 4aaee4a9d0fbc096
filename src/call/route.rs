//! Which of our numbers was called. Pure: the user part of the request URI in, a target out.

use std::net::IpAddr;

use crate::config::{Config, Network};

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
}

impl Target {
    /// The target's name in records and logs.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Agent(name) => name,
            Self::Echo => "echo",
            Self::Ring => "ring",
            Self::Bye => "bye",
            Self::App(name) => name,
        }
    }
}

/// The names besides the built-in numbers: agents that are defined, and numbers of the embedding program.
pub trait Directory {
    /// Whether an agent of this name is defined.
    fn has_agent(&self, name: &str) -> bool;
    /// Whether the embedding program answers this number.
    fn has_app(&self, name: &str) -> bool;
}

/// Finds the target of a call to `user` (in lower case); `None` where no number is called that.
#[must_use]
pub fn route(config: &Config, user: &str, directory: &impl Directory) -> Option<Target> {
    let user = user.to_ascii_lowercase();
    let numbers = &config.numbers;
    match user.as_str() {
        name if directory.has_app(name) => Some(Target::App(user)),
        "echo" if numbers.echo => Some(Target::Echo),
        "ring" if numbers.ring => Some(Target::Ring),
        "bye" if numbers.bye => Some(Target::Bye),
        "agent" if numbers.agent => Some(Target::Agent(config.agents.default.clone())),
        name if numbers.agent && !name.is_empty() && directory.has_agent(name) => Some(Target::Agent(user)),
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

    struct Names;

    impl Directory for Names {
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
        assert_eq!(route(&config, "Echo", &Names), Some(Target::Echo));
        assert_eq!(route(&config, "ring", &Names), Some(Target::Ring));
        assert_eq!(route(&config, "bye", &Names), Some(Target::Bye));
        assert_eq!(route(&config, "agent", &Names), Some(Target::Agent("desk".into())));
        assert_eq!(route(&config, "night", &Names), Some(Target::Agent("night".into())));
        assert_eq!(route(&config, "nobody", &Names), None);
        assert_eq!(route(&config, "", &Names), None);
        assert_eq!(route(&config, "menu", &Names), Some(Target::App("menu".into())));
        config.numbers.echo = false;
        config.numbers.agent = false;
        assert_eq!(route(&config, "echo", &Names), None);
        assert_eq!(route(&config, "agent", &Names), None);
        assert_eq!(route(&config, "night", &Names), None);
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
