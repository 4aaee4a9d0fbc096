//! Whom a call was for before it came here, and who sent it on: in numbers as we write them, and in headers as a trunk wants them.

use serde::{Deserialize, Serialize};
use sip::Message;
use sip::diversion::{Diversion, DiversionReason, as_diversion, as_history};
use sip::headers::Name;

use super::identity::Caller;
use super::numbers;
use crate::config::{HistoryPolicy, IdentityPolicy, TrunkConfig};
use crate::stir::passport::PASSPORTS_LIMIT;
use crate::stir::{Standing, Verdict};

/// Somebody sent a call on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Diverted {
    /// Their number, in E.164 where it is one, or their name.
    pub number: String,
    /// Why: `unconditional`, `user-busy`, `no-answer`, `deflection` and so on, as RFC 5806 section 4 has them.
    pub reason: String,
    /// They do not want to be named to others.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub private: bool,
}

/// A call's way up to us.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct History {
    /// Who calls, as phones of ours are shown it.
    pub caller: Option<Caller>,
    /// The number that was called here.
    pub called: String,
    /// Who sent the call on before, the first of them first.
    pub diverted: Vec<Diverted>,
    /// The signatures that it came with (Identity), unless one of them was found wrong.
    pub signed: Vec<String>,
}

impl Diverted {
    /// `number` sends its call on.
    #[must_use]
    pub fn new(number: impl Into<String>, reason: DiversionReason) -> Self {
        Self { number: number.into(), reason: reason.as_str().to_owned(), private: false }
    }
}

impl History {
    /// The same once `by` has sent the call on from here, or, where nobody is named, the number that was called has.
    #[must_use]
    pub fn sent_on(&self, by: Option<&str>, reason: DiversionReason) -> Vec<Diverted> {
        let by = by.unwrap_or(&self.called);
        let now = Some(Diverted::new(by, reason)).filter(|_| !by.is_empty());
        self.diverted.iter().cloned().chain(now).collect()
    }
}

/// The signatures that a call came with, to be passed on; none, where one was found wrong.
#[must_use]
pub fn signed(invite: &Message, verdict: Option<&Verdict>) -> Vec<String> {
    let is_wrong = verdict.is_some_and(|verdict| verdict.verdict == Standing::Failed);
    let values = invite.headers(Name::Identity).filter(|_| !is_wrong);
    values.take(PASSPORTS_LIMIT).map(str::to_owned).collect()
}

/// The headers by which a trunk is told who sent a call on, that goes to `target` now.
#[must_use]
pub fn for_trunk(diverted: &[Diverted], target: &str, trunk: &TrunkConfig) -> Vec<(String, String)> {
    let country = numbers::country(&trunk.country);
    let domain = trunk.our_domain();
    let known: Vec<Diversion> = diverted
        .iter()
        .filter_map(|one| {
            let own = Some(trunk.caller.as_str()).filter(|own| !own.is_empty());
            // A name means nothing to a carrier: our number there stands for it.
            let number = numbers::e164(&one.number, country).or(own.map(str::to_owned))?;
            Some(diversion(one, &format!("sip:{}@{domain}", numbers::write(&number, trunk.numbers_out, country))))
        })
        .collect();
    headers(&known, target, trunk.history, trunk.identity == IdentityPolicy::Trusted)
}

/// The same for a phone of ours, which learns of nobody who does not want it.
#[must_use]
pub fn for_device(diverted: &[Diverted], target: &str, domain: &str) -> Vec<(String, String)> {
    let known = diverted.iter().map(|one| diversion(one, &format!("sip:{}@{domain}", escaped(&one.number))));
    headers(&known.collect::<Vec<_>>(), target, HistoryPolicy::Both, false)
}

fn diversion(one: &Diverted, uri: &str) -> Diversion {
    Diversion { uri: uri.to_owned(), reason: DiversionReason::of_word(&one.reason), is_private: one.private }
}

fn headers(known: &[Diversion], target: &str, policy: HistoryPolicy, names_private: bool) -> Vec<(String, String)> {
    let mut made = Vec::new();
    if known.is_empty() {
        return made;
    }
    if matches!(policy, HistoryPolicy::HistoryInfo | HistoryPolicy::Both) {
        made.push(("History-Info".to_owned(), as_history(known, target, names_private)));
    }
    if matches!(policy, HistoryPolicy::Diversion | HistoryPolicy::Both) {
        made.extend(as_diversion(known, names_private).into_iter().map(|value| ("Diversion".to_owned(), value)));
    }
    made
}

/// A name as it may stand in a URI.
fn escaped(name: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.!~*'()&=+$,".contains(&byte);
    let one = |byte: u8| if is_plain(byte) { char::from(byte).to_string() } else { format!("%{byte:02X}") };
    name.bytes().map(one).collect()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn trunk(text: &str) -> TrunkConfig {
        toml::from_str(&format!("name = \"t\"\nhosts = [\"sip.carrier.test\"]\ncountry = \"DE\"\n{text}")).unwrap()
    }

    fn told(trunk: &TrunkConfig, diverted: &[Diverted]) -> Vec<String> {
        let headers = for_trunk(diverted, "sip:+4989777@sip.carrier.test", trunk);
        headers.into_iter().map(|(name, value)| format!("{name}: {value}")).collect()
    }

    /// Conforms: RFC 7544 §5 — a trunk is told of diversions by the header that it reads, in numbers as it writes them
    #[test]
    fn a_trunk_is_told_of_diversions_as_it_wants_them() {
        let mut list = vec![
            Diverted::new("+4930111", DiversionReason::NoAnswer),
            Diverted::new("+4930222", DiversionReason::Unconditional),
        ];
        let history = "History-Info: <sip:+4930111@sip.carrier.test>;index=1, \
                       <sip:+4930222@sip.carrier.test;cause=408>;index=1.1;mp=1, \
                       <sip:+4989777@sip.carrier.test;cause=302>;index=1.1.1;mp=1.1";
        let diversion = |form: fn(&str) -> String| {
            let one = |digits, reason| {
                format!("Diversion: <sip:{}@sip.carrier.test>;reason={reason};privacy=off;counter=1", form(digits))
            };
            [one("4930222", "unconditional"), one("4930111", "no-answer")]
        };
        let e164: fn(&str) -> String = |digits| format!("+{digits}");
        assert_eq!(told(&trunk("history = \"history-info\""), &list), [history]);
        assert_eq!(told(&trunk("history = \"diversion\""), &list), diversion(e164));
        assert_eq!(told(&trunk(""), &list).len(), 3, "both, where nothing is said");
        assert_eq!(told(&trunk("history = \"off\""), &list), [""; 0]);
        let zeros: fn(&str) -> String = |digits| format!("00{digits}");
        assert_eq!(told(&trunk("history = \"diversion\"\nnumbers_out = \"double_zero\""), &list), diversion(zeros));
        list[0].private = true;
        let names = |text: &str| told(&trunk(text), &list).concat().contains("4930111");
        assert!(!names("") && names("identity = \"trusted\""));
        assert_eq!(told(&trunk(""), &[]), [""; 0]);
    }

    #[test]
    fn whoever_has_no_number_is_named_by_ours_or_not_at_all() {
        let list = [Diverted::new("alice", DiversionReason::Unconditional)];
        assert_eq!(told(&trunk(""), &list), [""; 0]);
        assert!(told(&trunk("caller = \"+4930500\""), &list).concat().contains("<sip:+4930500@"));
        let phone = for_device(&[Diverted::new("a <b>", DiversionReason::Away)], "sip:bob@pbx.test", "pbx.test");
        assert!(
            phone[0].1.starts_with("<sip:a%20%3Cb%3E@pbx.test>;index=1, <sip:bob@pbx.test;cause=404>"),
            "{phone:?}"
        );
    }
}
