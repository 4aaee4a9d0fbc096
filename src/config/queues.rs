//! What a route to a queue says of the callers who wait in it.

use std::fmt;

use super::{ConfigError, QueueOrder, RouteConfig, RouteTo};

/// A caller waits this long at most: a day.
const LONGEST_WAIT_S: u64 = 86_400;
/// After a call somebody is left alone this long at most: an hour.
const LONGEST_WRAP_UP_S: u64 = 3_600;
/// Callers in one line, at most.
const CALLERS_LIMIT: usize = 1_000;
/// What is said to callers may be so long, in characters.
const TEXT_LIMIT: usize = 500;
/// More often than this nobody is told their place, in seconds.
const TOLD_EVERY_AT_LEAST_S: u64 = 10;

/// Checks the keys of the rule at `at` that are about waiting.
pub(super) fn validate(rule: &RouteConfig, at: &str) -> Result<(), ConfigError> {
    let bad =
        |key: &str, value: &dyn fmt::Display, fix: &str| Err(ConfigError::entry(format!("{at}.{key}"), value, fix));
    let default = RouteConfig::default();
    if rule.wait_s == 0 {
        let needless = [
            ("priority", rule.priority != default.priority),
            ("wrap_up_s", rule.wrap_up_s != default.wrap_up_s),
            ("greeting", rule.greeting != default.greeting),
            ("position", rule.position != default.position),
            ("then", rule.then != default.then),
            ("leave_key", rule.leave_key != default.leave_key),
            ("ring", rule.ring == QueueOrder::LongestIdle),
        ];
        return match needless.iter().find(|(_, is_set)| *is_set) {
            Some((key, _)) => bad("wait_s", &0, &format!("say how long callers wait, in seconds, or leave out {key}")),
            None => Ok(()),
        };
    }
    if !matches!(rule.to, RouteTo::Queue(_)) {
        return bad("wait_s", &rule.wait_s, "callers wait in queues alone: write to = \"queue …\", or leave it out");
    }
    if rule.wait_s > LONGEST_WAIT_S {
        return bad("wait_s", &rule.wait_s, "write seconds up to 86400");
    }
    if !(1..=CALLERS_LIMIT).contains(&rule.wait_limit) {
        return bad("wait_limit", &rule.wait_limit, "write how many callers may wait, 1 to 1000");
    }
    if rule.wrap_up_s > LONGEST_WRAP_UP_S {
        return bad("wrap_up_s", &rule.wrap_up_s, "write seconds up to 3600");
    }
    if rule.position_s < TOLD_EVERY_AT_LEAST_S {
        return bad("position_s", &rule.position_s, "write seconds, 10 or more");
    }
    for (key, text) in [("greeting", &rule.greeting), ("position", &rule.position)] {
        if text.chars().count() > TEXT_LIMIT || text.chars().any(char::is_control) {
            return bad(key, text, "write a sentence of 500 characters at most, on one line");
        }
    }
    if rule.then.chars().any(|c| c.is_whitespace() || c.is_control()) {
        let fix = "name whom a transfer may name: an agent, a device, a number or a SIP address (without agent, user or trunk before it)";
        return bad("then", &rule.then, fix);
    }
    if !rule.leave_key.is_empty() && key(&rule.leave_key).is_none() {
        return bad("leave_key", &rule.leave_key, "write one key of a phone: 0 to 9, * or #");
    }
    if !rule.leave_key.is_empty() && rule.then.is_empty() {
        return bad("then", &"", "say where callers go who press leave_key, or leave that out");
    }
    Ok(())
}

/// The key of a phone that a text is.
pub(super) fn key(text: &str) -> Option<char> {
    let mut keys = text.chars();
    let key = keys.next().filter(|key| key.is_ascii_digit() || "*#".contains(*key))?;
    keys.next().is_none().then_some(key)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn fault(text: &str) -> Option<String> {
        let rule: RouteConfig = toml::from_str(&format!("name = \"q\"\nto = \"queue alice\"\n{text}")).unwrap();
        rule.validate(0).err().map(|fault| fault.to_string())
    }

    #[test]
    fn what_is_said_of_waiting_needs_a_queue_in_which_callers_wait() {
        for text in ["", "wait_s = 300", "wait_s = 60\nthen = \"desk\"\nleave_key = \"0\"\nring = \"longest_idle\""] {
            assert_eq!(fault(text), None, "{text}");
        }
        for (text, key) in [
            ("then = \"desk\"", "wait_s"),
            ("ring = \"longest_idle\"", "wait_s"),
            ("wait_s = 90000", "wait_s"),
            ("wait_s = 60\nwait_limit = 0", "wait_limit"),
            ("wait_s = 60\nwrap_up_s = 4000", "wrap_up_s"),
            ("wait_s = 60\nposition_s = 5", "position_s"),
            ("wait_s = 60\ngreeting = \"a\\nb\"", "greeting"),
            ("wait_s = 60\nthen = \"agent desk\"", "then"),
            ("wait_s = 60\nthen = \"desk\"\nleave_key = \"10\"", "leave_key"),
            ("wait_s = 60\nleave_key = \"1\"", "then"),
        ] {
            let said = fault(text).unwrap_or_default();
            assert!(said.contains(&format!("routes.q.{key} = ")), "{text}: {said}");
        }
        let rule = RouteConfig { wait_s: 5, to: "echo".parse().unwrap(), ..RouteConfig::default() };
        assert!(rule.validate(0).unwrap_err().to_string().contains("queues alone"));
    }
}
