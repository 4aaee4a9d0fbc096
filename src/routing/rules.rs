//! Which rule a call falls under: whose it is, from where, who called whom, on which day at which hour.

use std::net::IpAddr;
use std::time::SystemTime;

use jiff::Timestamp;
use jiff::tz::TimeZone;

use super::history::Diverted;
use crate::config::{CallerKind, RouteConfig};

/// Whose call it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin<'a> {
    /// A device's.
    Device(&'a str),
    /// A trunk's.
    Trunk(&'a str),
    /// One that a running call asks for.
    Agent,
    /// Somebody's whom we do not know.
    Unknown,
}

/// What rules are asked about.
#[derive(Debug, Clone, Copy)]
pub struct Asked<'a> {
    /// Whose call it is.
    pub origin: Origin<'a>,
    /// Where it comes from; `None` for one that a running call asks for.
    pub source: Option<IpAddr>,
    /// The caller's number or name.
    pub caller: &'a str,
    /// The number or name that was called.
    pub called: &'a str,
    /// Who sent the call on before.
    pub diverted: &'a [Diverted],
    /// When.
    pub at: SystemTime,
}

/// The first rule that fits, and the number that it calls.
#[must_use]
pub fn first<'a>(rules: &'a [RouteConfig], asked: &Asked<'_>) -> Option<(&'a RouteConfig, String)> {
    rules.iter().find(|rule| fits(rule, asked)).map(|rule| (rule, number(rule, asked.called)))
}

/// The number that a rule calls.
fn number(rule: &RouteConfig, called: &str) -> String {
    if rule.rewrite.is_empty() {
        return called.to_owned();
    }
    rule.called.rewrite(called, &rule.rewrite).unwrap_or_else(|| called.to_owned())
}

fn fits(rule: &RouteConfig, asked: &Asked<'_>) -> bool {
    let is_for = |from: &CallerKind| match (from, asked.origin) {
        (CallerKind::Anyone, origin) => origin != Origin::Agent,
        (CallerKind::Devices, Origin::Device(_)) => true,
        (CallerKind::Device(name), Origin::Device(own)) => name.eq_ignore_ascii_case(own),
        (CallerKind::Trunks, Origin::Trunk(_)) => true,
        (CallerKind::Trunk(name), Origin::Trunk(own)) => name == own,
        (CallerKind::Agents, Origin::Agent) => true,
        _ => false,
    };
    let is_from = || match asked.source {
        _ if rule.networks.is_empty() => true,
        Some(source) => rule.networks.iter().any(|network| network.contains(source)),
        None => false,
    };
    rule.from.iter().any(is_for)
        && is_from()
        && rule.caller.matches(asked.caller)
        && rule.called.matches(asked.called)
        && (rule.diverted_from.is_any() || asked.diverted.iter().any(|by| rule.diverted_from.matches(&by.number)))
        && is_now(rule, asked.at)
}

fn is_now(rule: &RouteConfig, at: SystemTime) -> bool {
    if rule.days.is_empty() && rule.hours.is_empty() {
        return true;
    }
    // Zones were checked at the start.
    let (Ok(zone), Ok(at)) = (TimeZone::get(&rule.zone), Timestamp::try_from(at)) else { return false };
    let local = at.to_zoned_datetime(zone);
    let day = u8::try_from(local.weekday().to_monday_zero_offset()).unwrap_or(0);
    let minute = u16::from(local.hour().unsigned_abs()) * 60 + u16::from(local.minute().unsigned_abs());
    let is_day = |day: u8| rule.days.is_empty() || rule.days.iter().any(|span| span.contains(day));
    if rule.hours.is_empty() {
        return is_day(day);
    }
    // What goes on after midnight belongs to the day that it began on.
    let yesterday = (day + 6) % 7;
    rule.hours.iter().any(|span| {
        (span.contains(minute) && is_day(day)) || (span.contains_after_midnight(minute) && is_day(yesterday))
    })
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use sip::diversion::DiversionReason;

    use super::*;
    use crate::config::RouteTo;

    fn rule(text: &str) -> RouteConfig {
        toml::from_str(text).unwrap()
    }

    fn asked<'a>(origin: Origin<'a>, called: &'a str, at: &str) -> Asked<'a> {
        let at: Timestamp = at.parse().unwrap();
        let source = Some([192, 0, 2, 7].into());
        Asked { origin, source, caller: "+4930111", called, diverted: &[], at: at.try_into().unwrap() }
    }

    const NOON: &str = "2026-11-25T11:00:00Z";

    #[test]
    fn the_first_rule_that_fits_counts() {
        let rules = [
            rule("from = [\"trunk a\"]\ncalled = \"+4930*\"\nto = \"agent desk\""),
            rule("from = [\"trunks\"]\nto = \"user alice\""),
            rule("from = [\"anyone\"]\nto = \"echo\""),
        ];
        let to = |origin, called| first(&rules, &asked(origin, called, NOON)).map(|(rule, _)| rule.to.clone());
        assert_eq!(to(Origin::Trunk("a"), "+4930123"), Some(RouteTo::Agent("desk".into())));
        assert_eq!(to(Origin::Trunk("a"), "+4989123"), Some(RouteTo::User("alice".into())));
        assert_eq!(to(Origin::Trunk("b"), "+4930123"), Some(RouteTo::User("alice".into())));
        assert_eq!(to(Origin::Device("bob"), "+4930123"), Some(RouteTo::Echo));
        assert_eq!(to(Origin::Unknown, "x"), Some(RouteTo::Echo));
        assert_eq!(to(Origin::Agent, "x"), None);
    }

    #[test]
    fn a_rule_may_ask_for_caller_network_and_write_the_number_anew() {
        let rules = [rule(
            "from = [\"devices\"]\nnetworks = [\"192.0.2.0/24\"]\ncaller = \"+4930*\"\ncalled = \"/^9(\\\\d+)$/\"\nrewrite = \"$1\"\nto = \"trunk a\"",
        )];
        let found = first(&rules, &asked(Origin::Device("alice"), "9112", NOON)).unwrap();
        assert_eq!(found.1, "112");
        assert!(first(&rules, &asked(Origin::Device("alice"), "112", NOON)).is_none());
        let mut elsewhere = asked(Origin::Device("alice"), "9112", NOON);
        elsewhere.source = Some([198, 51, 100, 1].into());
        assert!(first(&rules, &elsewhere).is_none());
        elsewhere.source = None;
        assert!(first(&rules, &elsewhere).is_none());
    }

    #[test]
    fn a_rule_may_ask_who_sent_the_call_on() {
        let rules = [rule("diverted_from = \"+4930*\"\nto = \"agent desk\""), rule("to = \"echo\"")];
        let by = |number| Diverted::new(number, DiversionReason::NoAnswer);
        let to = |diverted: &[Diverted]| {
            let asked = Asked { diverted, ..asked(Origin::Trunk("a"), "x", NOON) };
            first(&rules, &asked).unwrap().0.to.clone()
        };
        assert_eq!(to(&[]), RouteTo::Echo, "nobody did");
        assert_eq!(to(&[by("+4989111")]), RouteTo::Echo);
        assert_eq!(to(&[by("+4930111"), by("+4989111")]), RouteTo::Agent("desk".into()));
    }

    #[test]
    fn days_and_hours_are_those_of_the_rules_zone_and_a_night_belongs_to_its_evening() {
        let office = [rule(
            "from = [\"anyone\"]\ndays = [\"mon-fri\"]\nhours = [\"08:00-17:30\"]\nzone = \"Europe/Berlin\"\nto = \"echo\"",
        )];
        let open = |at| first(&office, &asked(Origin::Unknown, "x", at)).is_some();
        // 25 November 2026 is a Wednesday; Berlin is an hour ahead.
        assert!(open("2026-11-25T07:00:00Z") && !open("2026-11-25T06:59:00Z"));
        assert!(open("2026-11-25T16:29:00Z") && !open("2026-11-25T16:30:00Z"));
        assert!(!open("2026-11-28T11:00:00Z"), "Saturday");
        let night = [rule("from = [\"anyone\"]\ndays = [\"fri\"]\nhours = [\"22:00-06:00\"]\nto = \"echo\"")];
        let open = |at| first(&night, &asked(Origin::Unknown, "x", at)).is_some();
        assert!(open("2026-11-27T23:00:00Z") && open("2026-11-28T05:59:00Z"));
        assert!(!open("2026-11-27T05:00:00Z") && !open("2026-11-28T23:00:00Z"));
    }
}
