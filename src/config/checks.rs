//! Checks that several kinds of entries share, and what entries ask of one another.

use std::collections::HashSet;
use std::fmt::Display;

use super::{CallerKind, Config, ConfigError, RouteTo};

/// Devices, trunks and routes at most, each; beyond it the configuration is refused (a database is meant for more).
pub const ENTRIES_LIMIT: usize = 10_000;

/// Checks of one entry's values.
pub(super) struct Checks<'a> {
    /// The entry: `trunks.carrier`.
    pub(super) at: &'a str,
}

impl Checks<'_> {
    pub(super) fn bad(&self, key: &str, value: impl Display, fix: &str) -> ConfigError {
        ConfigError::entry(format!("{}.{key}", self.at), value, fix)
    }

    pub(super) fn codecs(&self, key: &str, codecs: &[String]) -> Result<(), ConfigError> {
        let known = |name: &String| codecs::registry::SPECS.iter().any(|spec| spec.name.eq_ignore_ascii_case(name));
        match codecs.iter().find(|name| !known(name)) {
            Some(name) => Err(self.bad(key, name, "known codecs are opus, G722, PCMU, PCMA and L16")),
            None => Ok(()),
        }
    }

    pub(super) fn country(&self, key: &str, country: &str) -> Result<(), ConfigError> {
        if country.is_empty() || crate::routing::numbers::country(country).is_some() {
            return Ok(());
        }
        Err(self.bad(key, country, "write a country's two letters, such as DE or US"))
    }

    pub(super) fn number(&self, key: &str, number: &str) -> Result<(), ConfigError> {
        if super::devices::is_user(number) {
            return Ok(());
        }
        Err(self.bad(key, number, "write digits, with + in front for an international number"))
    }

    pub(super) fn display_name(&self, key: &str, name: &str) -> Result<(), ConfigError> {
        if name.len() <= 128 && !name.chars().any(|c| c.is_control() || c == '"' || c == '\\') {
            return Ok(());
        }
        Err(self.bad(key, name, "write up to 128 characters, without quotes and backslashes"))
    }
}

/// The names and numbers of all devices, in lower case: each is one device's alone.
fn names_of_devices(config: &Config) -> Result<HashSet<String>, ConfigError> {
    let mut names = HashSet::new();
    for device in &config.devices {
        if !names.insert(device.user.to_ascii_lowercase()) {
            let fix = "two devices are called so: give each its own names";
            return Err(ConfigError::entry("devices.user", &device.user, fix));
        }
        if let Some(number) = device.numbers.iter().find(|number| !names.insert(number.to_ascii_lowercase())) {
            let fix = "two devices are called so: give each its own numbers";
            return Err(ConfigError::entry(format!("devices.{}.numbers", device.user), number, fix));
        }
    }
    Ok(names)
}

/// What devices, trunks and routes ask of one another: names given once, and only names that exist.
pub(super) fn references(config: &Config) -> Result<(), ConfigError> {
    for (key, count) in
        [("devices", config.devices.len()), ("trunks", config.trunks.len()), ("routes", config.routes.len())]
    {
        if count > ENTRIES_LIMIT {
            return Err(ConfigError::entry(key, count, format!("at most {ENTRIES_LIMIT} stand in a configuration")));
        }
    }
    let asked = config.registrar.digests();
    for device in config.devices.iter().filter(|device| !device.ha1.is_empty()) {
        if !device.ha1.iter().any(|hash| asked.contains(&hash.algorithm)) {
            let at = format!("devices.{}.ha1", device.user);
            return Err(ConfigError::entry(
                at,
                "(hidden)",
                "give it for one of registrar.algorithms, or name its algorithm there",
            ));
        }
    }
    let mut names = names_of_devices(config)?;
    let users: HashSet<&str> = config.devices.iter().map(|device| device.user.as_str()).collect();
    let mut trunks = HashSet::new();
    for trunk in &config.trunks {
        if !trunks.insert(trunk.name.as_str()) {
            return Err(ConfigError::entry(
                "trunks.name",
                &trunk.name,
                "two trunks are called so: give each its own name",
            ));
        }
        let incoming = trunk.incoming_username.as_str();
        if !incoming.is_empty() && !names.insert(incoming.to_ascii_lowercase()) {
            let at = format!("trunks.{}.incoming_username", trunk.name);
            return Err(ConfigError::entry(
                at,
                incoming,
                "a device or another trunk is called so: give each its own name",
            ));
        }
    }
    for (index, route) in config.routes.iter().enumerate() {
        let at = format!("routes.{}", route.label(index));
        let device = |key: &str, name: &str| match users.contains(name) {
            true => Ok(()),
            false => {
                Err(ConfigError::entry(format!("{at}.{key}"), name, "no device is called so: define it in [[devices]]"))
            }
        };
        let trunk = |key: &str, name: &str| match trunks.contains(name) {
            true => Ok(()),
            false => {
                Err(ConfigError::entry(format!("{at}.{key}"), name, "no trunk is called so: define it in [[trunks]]"))
            }
        };
        for from in &route.from {
            match from {
                CallerKind::Device(name) => device("from", name)?,
                CallerKind::Trunk(name) => trunk("from", name)?,
                _ => {}
            }
        }
        match &route.to {
            RouteTo::User(name) => device("to", name)?,
            RouteTo::Queue(names) => names.iter().try_for_each(|name| device("to", name))?,
            RouteTo::Trunk(groups) => {
                for (name, _) in groups.iter().flatten() {
                    trunk("to", name)?;
                    let dead_end = config.trunks.iter().any(|trunk| trunk.name == *name && trunk.hosts.is_empty());
                    if dead_end {
                        return Err(ConfigError::entry(
                            format!("{at}.to"),
                            name,
                            "that trunk has no hosts to send calls to",
                        ));
                    }
                }
            }
            RouteTo::Agent(_) | RouteTo::Room(_) | RouteTo::Echo | RouteTo::Reject(_) => {}
        }
    }
    Ok(())
}
