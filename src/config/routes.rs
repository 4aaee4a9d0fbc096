//! `[[routes]]`: who called what from where, and when, goes to whom. The first rule that fits counts.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use control::ports::Queue;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use super::devices::is_user;
use super::{ConfigError, Network, Pattern};

/// One of `[[routes]]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RouteConfig {
    /// Its name in logs and errors.
    #[schema(example = "office")]
    pub name: String,
    /// Whose calls it is for: `devices`, `device NAME`, `trunks`, `trunk NAME`, `agents` (calls that a running call asks for, such
    /// as transfers), `anyone`.
    #[schema(value_type = Vec<String>)]
    pub from: Vec<CallerKind>,
    /// Only calls from these networks; empty asks nothing.
    #[schema(value_type = Vec<String>)]
    pub networks: Vec<Network>,
    /// Only callers whose number or name this matches: `+4930*`, `alice`, `/expression/`.
    #[schema(value_type = String, example = "+4930*")]
    pub caller: Pattern,
    /// Only calls to numbers or names that this matches.
    #[schema(value_type = String, example = "+49301234*")]
    pub called: Pattern,
    /// Only calls that somebody sent on whose number or name this matches, at whatever place on the way; empty asks nothing.
    #[schema(value_type = String)]
    pub diverted_from: Pattern,
    /// Only on these days: `mon`, `sat-sun`; empty is every day.
    #[schema(value_type = Vec<String>, example = json!(["mon-fri"]))]
    pub days: Vec<DaySpan>,
    /// Only at these hours, `08:00-17:30`; one that ends before it begins goes on after midnight. Empty is all day.
    #[schema(value_type = Vec<String>, example = json!(["08:00-17:30"]))]
    pub hours: Vec<HourSpan>,
    /// The time zone of days and hours, such as Europe/Berlin.
    pub zone: String,
    /// The number called instead, made of what `called` matched: `$1`. Empty leaves it.
    pub rewrite: String,
    /// Who gets the call: `agent NAME`, `user NAME`, `queue NAME NAME`, `trunk NAME`, `room NAME` (a conference), `echo`, `reject CODE`. Trunks share calls by
    /// weight (`trunk a:3 b:1`) and stand in for others behind `|` (`trunk a | b`).
    #[schema(value_type = String, example = "agent desk")]
    pub to: RouteTo,
    /// A queue rings its users `in_turn` or `at_once`, or, where callers wait, whoever has spoken with nobody for longest: `longest_idle`.
    #[schema(inline)]
    pub ring: QueueOrder,
    /// How long each of a queue's users rings, in seconds; 0 takes `registrar.ring_s`.
    pub ring_s: u64,
    /// How long callers wait in the queue, with music, until one of its users is free and answers, in seconds; 0: nobody waits, and where all are busy
    /// the caller is told so.
    pub wait_s: u64,
    /// Callers who wait in the queue at once, at most.
    pub wait_limit: usize,
    /// Whose callers come first where several queues wait for the same users: those of the higher number.
    pub priority: i32,
    /// For so many seconds after a call of the queue's its user is not rung again.
    pub wrap_up_s: u64,
    /// Said to callers when they begin to wait; empty: nothing.
    #[schema(example = "All our operators are busy. Please hold.")]
    pub greeting: String,
    /// Said to callers who wait, every `position_s` seconds; `{place}` is their place in line. Empty: nothing.
    #[schema(example = "You are number {place} in line.")]
    pub position: String,
    /// How often that is said, in seconds.
    pub position_s: u64,
    /// Who gets callers who have waited in vain, or find the line full, or none of the users there: an agent, a device or a number, as a transfer names
    /// them. Empty: nobody.
    #[schema(example = "desk")]
    pub then: String,
    /// A caller who presses this key goes there at once.
    #[schema(example = "0")]
    pub leave_key: String,
}

/// Whose calls a rule is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum CallerKind {
    /// Whoever may call at all, unknown callers among them.
    Anyone,
    /// Every device.
    Devices,
    /// This device.
    Device(String),
    /// Every trunk.
    Trunks,
    /// This trunk.
    Trunk(String),
    /// Calls that a running call asks for.
    Agents,
}

/// Who gets a call.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RouteTo {
    /// A voice agent.
    Agent(String),
    /// All phones of a device's account.
    User(String),
    /// Several of them, as the rule's `ring` says.
    Queue(Vec<String>),
    /// Somebody outside: groups of trunks, each trunk with its weight; the next group stands in for the one before.
    Trunk(Vec<Vec<(String, u32)>>),
    /// The conference of this name.
    Room(String),
    /// What is said comes back.
    Echo,
    /// Nobody: this status.
    Reject(u16),
}

/// How a queue's users are called.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum QueueOrder {
    /// One after another.
    InTurn,
    /// All together.
    AtOnce,
    /// Whoever has spoken with nobody for longest.
    LongestIdle,
}

/// Days from one to another, both included: 0 is Monday.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DaySpan {
    first: u8,
    last: u8,
}

/// From one minute of a day until before another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HourSpan {
    from_minute: u16,
    until_minute: u16,
}

const DAYS: [&str; 7] = ["mon", "tue", "wed", "thu", "fri", "sat", "sun"];
const MINUTES_OF_DAY: u16 = 24 * 60;

impl Default for RouteConfig {
    fn default() -> Self {
        Self {
            name: String::new(),
            from: vec![CallerKind::Devices, CallerKind::Trunks],
            networks: Vec::new(),
            caller: Pattern::any(),
            called: Pattern::any(),
            diverted_from: Pattern::any(),
            days: Vec::new(),
            hours: Vec::new(),
            zone: "UTC".to_owned(),
            rewrite: String::new(),
            to: RouteTo::Reject(404),
            ring: QueueOrder::InTurn,
            ring_s: 0,
            wait_s: 0,
            wait_limit: 50,
            priority: 0,
            wrap_up_s: 0,
            greeting: String::new(),
            position: String::new(),
            position_s: 30,
            then: String::new(),
            leave_key: String::new(),
        }
    }
}

impl DaySpan {
    /// Whether the day (0 is Monday) is one of these. `sat-mon` goes over the week's end.
    #[must_use]
    pub fn contains(&self, day: u8) -> bool {
        if self.first <= self.last {
            (self.first..=self.last).contains(&day)
        } else {
            day >= self.first || day <= self.last
        }
    }
}

impl HourSpan {
    /// Whether the span goes on after midnight.
    #[must_use]
    pub fn wraps(&self) -> bool {
        self.until_minute <= self.from_minute
    }

    /// Whether this minute lies in the span's part on the day it begins.
    #[must_use]
    pub fn contains(&self, minute: u16) -> bool {
        minute >= self.from_minute && (self.wraps() || minute < self.until_minute)
    }

    /// Whether this minute of the day after lies in it.
    #[must_use]
    pub fn contains_after_midnight(&self, minute: u16) -> bool {
        self.wraps() && minute < self.until_minute
    }
}

impl FromStr for CallerKind {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let words: Vec<&str> = text.split_whitespace().collect();
        match words.as_slice() {
            ["anyone"] => Ok(Self::Anyone),
            ["devices"] => Ok(Self::Devices),
            ["trunks"] => Ok(Self::Trunks),
            ["agents"] => Ok(Self::Agents),
            ["device", name] => Ok(Self::Device((*name).to_owned())),
            ["trunk", name] => Ok(Self::Trunk((*name).to_owned())),
            _ => Err(format!(
                "`{text}` names no callers: write devices, device NAME, trunks, trunk NAME, agents or anyone"
            )),
        }
    }
}

impl fmt::Display for CallerKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Anyone => f.write_str("anyone"),
            Self::Devices => f.write_str("devices"),
            Self::Device(name) => write!(f, "device {name}"),
            Self::Trunks => f.write_str("trunks"),
            Self::Trunk(name) => write!(f, "trunk {name}"),
            Self::Agents => f.write_str("agents"),
        }
    }
}

impl FromStr for RouteTo {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let fault = || {
            format!(
                "`{text}` is nobody to get a call: write agent NAME, user NAME, queue NAME NAME, trunk NAME, room NAME, echo or reject CODE"
            )
        };
        let (word, rest) = text.trim().split_once(char::is_whitespace).unwrap_or((text.trim(), ""));
        let names: Vec<&str> = rest.split_whitespace().collect();
        match (word, names.as_slice()) {
            ("agent", [name]) => Ok(Self::Agent(name.to_ascii_lowercase())),
            ("user", [name]) => Ok(Self::User((*name).to_owned())),
            ("queue", [_, ..]) => Ok(Self::Queue(names.into_iter().map(str::to_owned).collect())),
            ("trunk", [_, ..]) => trunk_groups(rest).map(Self::Trunk).ok_or_else(fault),
            ("echo", []) => Ok(Self::Echo),
            ("room", [name]) => Ok(Self::Room((*name).to_owned())),
            ("reject", [code]) => match code.parse() {
                Ok(code) if (400..=699).contains(&code) => Ok(Self::Reject(code)),
                _ => Err(format!("`{text}`: write a SIP status from 400 to 699")),
            },
            _ => Err(fault()),
        }
    }
}

fn trunk_groups(text: &str) -> Option<Vec<Vec<(String, u32)>>> {
    let groups: Option<Vec<Vec<(String, u32)>>> = text
        .split('|')
        .map(|group| {
            group
                .split_whitespace()
                .map(|item| {
                    let (name, weight) = item.split_once(':').unwrap_or((item, "1"));
                    let weight: u32 = weight.parse().ok().filter(|weight| (1..=65_535).contains(weight))?;
                    is_user(name).then(|| (name.to_owned(), weight))
                })
                .collect()
        })
        .collect();
    groups.filter(|groups| groups.iter().all(|group| !group.is_empty()))
}

impl fmt::Display for RouteTo {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Agent(name) => write!(f, "agent {name}"),
            Self::User(name) => write!(f, "user {name}"),
            Self::Queue(names) => write!(f, "queue {}", names.join(" ")),
            Self::Trunk(groups) => {
                let group = |group: &Vec<(String, u32)>| {
                    let item = |(name, weight): &(String, u32)| match weight {
                        1 => name.clone(),
                        weight => format!("{name}:{weight}"),
                    };
                    group.iter().map(item).collect::<Vec<_>>().join(" ")
                };
                write!(f, "trunk {}", groups.iter().map(group).collect::<Vec<_>>().join(" | "))
            }
            Self::Echo => f.write_str("echo"),
            Self::Room(name) => write!(f, "room {name}"),
            Self::Reject(code) => write!(f, "reject {code}"),
        }
    }
}

impl FromStr for DaySpan {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let day = |name: &str| {
            let name = name.trim().to_ascii_lowercase();
            DAYS.iter().position(|day| *day == name).and_then(|at| u8::try_from(at).ok()).ok_or_else(|| {
                format!("`{text}` names no days: write mon, tue, wed, thu, fri, sat or sun, or two of them as mon-fri")
            })
        };
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        Ok(Self { first: day(first)?, last: day(last)? })
    }
}

impl fmt::Display for DaySpan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = |day: u8| DAYS.get(usize::from(day)).copied().unwrap_or("mon");
        f.write_str(name(self.first))?;
        if self.first == self.last { Ok(()) } else { write!(f, "-{}", name(self.last)) }
    }
}

impl FromStr for HourSpan {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let fault = || format!("`{text}` is no span of hours: write HH:MM-HH:MM, such as 08:00-17:30");
        let minute = |text: &str| {
            let (hour, minute) = text.trim().split_once(':').ok_or_else(fault)?;
            let number = |text: &str, most: u16| {
                text.parse::<u16>().ok().filter(|number| text.len() == 2 && *number <= most).ok_or_else(fault)
            };
            let made = number(hour, 24)? * 60 + number(minute, 59)?;
            if made <= MINUTES_OF_DAY { Ok(made) } else { Err(fault()) }
        };
        let (from, until) = text.split_once('-').ok_or_else(fault)?;
        let span = Self { from_minute: minute(from)?, until_minute: minute(until)? };
        if span.from_minute == MINUTES_OF_DAY { Err(fault()) } else { Ok(span) }
    }
}

impl fmt::Display for HourSpan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (from, until) = (self.from_minute, self.until_minute);
        write!(f, "{:02}:{:02}-{:02}:{:02}", from / 60, from % 60, until / 60, until % 60)
    }
}

serde_as_text!(CallerKind, RouteTo, DaySpan, HourSpan);

impl RouteConfig {
    /// How long each of a queue's users rings; `None` as long as devices do.
    #[must_use]
    pub fn ring_for(&self) -> Option<Duration> {
        (self.ring_s > 0).then(|| Duration::from_secs(self.ring_s))
    }

    /// The queue that its callers wait in, if it has one.
    #[must_use]
    pub fn queue(&self) -> Option<Queue> {
        let RouteTo::Queue(members) = &self.to else { return None };
        let name = if self.name.is_empty() { members.join(" ") } else { self.name.clone() };
        Some(Queue { name, members: members.clone() })
    }

    /// The key by which a caller who waits leaves the queue.
    #[must_use]
    pub fn leave_key(&self) -> Option<char> {
        super::queues::key(&self.leave_key)
    }

    /// The rule in errors and logs: its name, or its place.
    #[must_use]
    pub fn label(&self, index: usize) -> String {
        if self.name.is_empty() { format!("#{}", index + 1) } else { self.name.clone() }
    }

    pub(super) fn validate(&self, index: usize) -> Result<(), ConfigError> {
        let at = format!("routes.{}", self.label(index));
        let bad =
            |key: &str, value: &dyn fmt::Display, fix: &str| Err(ConfigError::entry(format!("{at}.{key}"), value, fix));
        if self.from.is_empty() {
            return bad("from", &"[]", "name whose calls the rule is for, such as [\"trunk carrier\"] or [\"anyone\"]");
        }
        if matches!(self.to, RouteTo::Trunk(_)) && self.from.contains(&CallerKind::Anyone) {
            return bad("from", &"anyone", "nobody unknown may use a trunk: name devices, trunks or agents");
        }
        if jiff::tz::TimeZone::get(&self.zone).is_err() {
            return bad("zone", &self.zone, "write a time zone's name, such as Europe/Berlin or UTC");
        }
        if self.ring_s > 600 {
            return bad("ring_s", &self.ring_s, "write seconds up to 600");
        }
        super::queues::validate(self, &at)?;
        if self.rewrite.bytes().any(|b| b <= b' ' || b == 0x7f || b"<>\"@;,".contains(&b)) {
            return bad("rewrite", &self.rewrite, "write digits, letters, + and $1");
        }
        Ok(())
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn who_gets_a_call_is_read_and_printed_alike() {
        for text in [
            "agent desk",
            "user alice",
            "queue alice bob",
            "trunk a",
            "trunk a:3 b | c",
            "room x",
            "echo",
            "reject 603",
        ] {
            assert_eq!(text.parse::<RouteTo>().unwrap().to_string(), text);
        }
        for text in
            ["", "agent", "agent a b", "trunk", "trunk a |", "trunk a:0", "echo x", "reject 200", "reject", "fly home"]
        {
            assert!(text.parse::<RouteTo>().is_err(), "{text}");
        }
        for text in ["anyone", "devices", "device alice", "trunks", "trunk carrier", "agents"] {
            assert_eq!(text.parse::<CallerKind>().unwrap().to_string(), text);
        }
        assert!("everybody".parse::<CallerKind>().is_err());
    }

    #[test]
    fn days_and_hours_go_over_their_ends() {
        let days = |text: &str| text.parse::<DaySpan>().unwrap();
        assert!(days("mon-fri").contains(0) && days("mon-fri").contains(4) && !days("mon-fri").contains(5));
        assert!(days("sat-mon").contains(6) && days("sat-mon").contains(0) && !days("sat-mon").contains(1));
        assert_eq!(days("Sun").to_string(), "sun");
        let hours = |text: &str| text.parse::<HourSpan>().unwrap();
        let day = hours("08:00-17:30");
        assert!(day.contains(480) && day.contains(1_049) && !day.contains(1_050) && !day.wraps());
        let night = hours("22:00-06:00");
        assert!(night.contains(1_439) && !night.contains(100) && night.contains_after_midnight(359));
        assert!(!night.contains_after_midnight(360));
        assert!(hours("00:00-24:00").contains(1_439));
        assert_eq!(night.to_string(), "22:00-06:00");
        for text in ["8-17", "08:00", "08:60-09:00", "24:00-01:00", "25:00-26:00", "8:00-9:00"] {
            assert!(text.parse::<HourSpan>().is_err(), "{text}");
        }
    }
}
