//! Who diverted a call on its way, and why: read out of History-Info (RFC 7044) or Diversion (RFC 5806), and written as either.
//!
//! What both say is one list, whoever diverted first standing first; RFC 7544 says how one header's words are the other's. A History-Info that
//! is written is a straight line (`1`, `1.1`, `1.1.1`): of branches that led nowhere, nobody further on needs to know.

use crate::headers::{Name, NameAddr};
use crate::message::Message;
use crate::uri::{Uri, unescape};

/// Diversions that are read of one call at most: the first is kept, and the latest.
pub const DIVERSIONS_LIMIT: usize = 10;
/// History-Info entries and Diversion values that are looked at in one message.
const ENTRIES_LIMIT: usize = 32;
/// A URI that is longer is not looked at.
const URI_LIMIT: usize = 512;
/// Stands where somebody does not want to be named (RFC 7044 section 10.1.2).
const ANONYMOUS: &str = "sip:anonymous@anonymous.invalid";

/// Somebody sent a call on to somebody else.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Diversion {
    /// The address that was called, and sent the call on; without URI headers and cause.
    pub uri: String,
    /// Why.
    pub reason: DiversionReason,
    /// They do not want to be named to others.
    pub is_private: bool,
}

/// Why a call was sent on (RFC 5806 section 4).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum DiversionReason {
    /// Nobody says.
    #[default]
    Unknown,
    /// Every call is.
    Unconditional,
    /// They are on the phone.
    UserBusy,
    /// They did not answer.
    NoAnswer,
    /// They decided so for this call.
    Deflection,
    /// They are not to be reached.
    Unavailable,
    /// It is not their time.
    TimeOfDay,
    /// They do not want to be disturbed.
    DoNotDisturb,
    /// They are somewhere else.
    FollowMe,
    /// Their line is out of order.
    OutOfService,
    /// They are away.
    Away,
}

const REASONS: [(DiversionReason, &str, u16); 11] = [
    (DiversionReason::Unknown, "unknown", 404),
    (DiversionReason::Unconditional, "unconditional", 302),
    (DiversionReason::UserBusy, "user-busy", 486),
    (DiversionReason::NoAnswer, "no-answer", 408),
    (DiversionReason::Deflection, "deflection", 480),
    (DiversionReason::Unavailable, "unavailable", 503),
    (DiversionReason::TimeOfDay, "time-of-day", 404),
    (DiversionReason::DoNotDisturb, "do-not-disturb", 404),
    (DiversionReason::FollowMe, "follow-me", 404),
    (DiversionReason::OutOfService, "out-of-service", 404),
    (DiversionReason::Away, "away", 404),
];

impl DiversionReason {
    /// The word for it in Diversion, and in records.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        REASONS.iter().find(|(reason, ..)| *reason == self).map_or("unknown", |(_, word, _)| word)
    }

    /// The cause for it in History-Info (RFC 7544 section 5.1, RFC 4458).
    #[must_use]
    pub fn cause(self) -> u16 {
        REASONS.iter().find(|(reason, ..)| *reason == self).map_or(404, |(.., cause)| *cause)
    }

    /// What a word of Diversion means; one that is not known means as much as none.
    #[must_use]
    pub fn of_word(word: &str) -> Self {
        REASONS.iter().find(|(_, own, _)| own.eq_ignore_ascii_case(word)).map_or(Self::Unknown, |(reason, ..)| *reason)
    }

    /// What a cause of History-Info means; `None` for one that is no diversion's.
    #[must_use]
    pub fn of_cause(cause: &str) -> Option<Self> {
        match cause {
            // Deflection while it rings, and before.
            "487" => Some(Self::Deflection),
            cause => REASONS.iter().find(|(.., own)| own.to_string() == cause).map(|(reason, ..)| *reason),
        }
    }
}

/// Who diverted the call of this INVITE, the first of them first. History-Info is believed before Diversion where it tells of as many
/// (RFC 7544 section 4).
#[must_use]
pub fn read(message: &Message) -> Vec<Diversion> {
    let is_private = message
        .header_values(Name::Privacy)
        .flat_map(|value| value.split(';'))
        .any(|wish| matches!(wish.trim(), "history" | "session" | "header"));
    let (history, diversions) = (of_history(message), of_diversion(message));
    let mut found = if history.len() >= diversions.len() { history } else { diversions };
    let surplus = found.len().saturating_sub(DIVERSIONS_LIMIT);
    found.drain(1.min(found.len())..(1 + surplus).min(found.len()));
    for diversion in &mut found {
        diversion.is_private |= is_private;
    }
    found
}

/// One entry of a History-Info.
struct Entry {
    index: String,
    uri: String,
    /// Whose mapping it is: the index of the entry that was called before.
    mapped_from: Option<String>,
    cause: Option<String>,
    /// What the one called there answered.
    answered: Option<String>,
    is_private: bool,
}

impl Entry {
    fn parse(value: &str) -> Option<Self> {
        let named = NameAddr::parse(value).ok().filter(|named| named.uri_text.len() <= URI_LIMIT)?;
        let uri = named.uri().ok()?;
        let index = named.params.get("index")?.to_owned();
        let header = |wanted: &str| {
            let mut all = uri.headers().unwrap_or_default().split('&').filter_map(|header| header.split_once('='));
            all.find(|(name, _)| name.eq_ignore_ascii_case(wanted)).map(|(_, value)| unescape(value))
        };
        let answered = header("Reason").and_then(|reason| {
            let cause = reason.split(';').find_map(|param| param.trim().strip_prefix("cause="))?;
            Some(cause.to_owned())
        });
        let mapped_from = named.params.get("mp").filter(|from| !from.is_empty()).map(str::to_owned);
        let is_private = header("Privacy").is_some_and(|wish| wish.split(';').any(|one| one.trim() == "history"));
        let cause = uri.params().get("cause").map(str::to_owned);
        Some(Self { index, uri: bare(&uri), mapped_from, cause, answered, is_private })
    }

    /// The index of whoever this entry was tried for (RFC 7044 section 5.1).
    fn parent(&self) -> Option<&str> {
        self.index.rsplit_once('.').map(|(parent, _)| parent)
    }
}

fn of_history(message: &Message) -> Vec<Diversion> {
    let entries: Vec<Entry> =
        message.header_values(Name::HistoryInfo).take(ENTRIES_LIMIT).filter_map(Entry::parse).collect();
    let mut found = Vec::new();
    // From the entry that this message was sent for back to the first: what was tried beside that way did not divert it.
    let mut at = entries.len().checked_sub(1);
    while let Some(entry) = at.and_then(|at| entries.get(at)) {
        let from = entry.mapped_from.as_deref().or(entry.parent());
        let before = at.unwrap_or(0);
        let by_index = from.and_then(|from| entries.iter().take(before).rposition(|other| other.index == from));
        at = by_index.or(before.checked_sub(1));
        let Some(diverter) = at.and_then(|at| entries.get(at)) else { break };
        let cause = entry.cause.as_deref().or(diverter.answered.as_deref());
        let reason = cause.and_then(DiversionReason::of_cause);
        // Without a cause and a mapping it was forwarded, not diverted: a proxy on the way, a contact of the same user.
        let reason = reason.or(entry.mapped_from.as_ref().map(|_| DiversionReason::Unknown));
        if let Some(reason) = reason {
            let is_private = diverter.is_private || diverter.uri == ANONYMOUS;
            found.push(Diversion { uri: diverter.uri.clone(), reason, is_private });
        }
    }
    found.reverse();
    found
}

fn of_diversion(message: &Message) -> Vec<Diversion> {
    let one = |value: &str| {
        let named = NameAddr::parse(value).ok().filter(|named| named.uri_text.len() <= URI_LIMIT)?;
        let uri = bare(&named.uri().ok()?);
        let reason = named.params.get("reason").map(DiversionReason::of_word).unwrap_or_default();
        let is_private = matches!(named.params.get("privacy"), Some("full" | "name" | "uri")) || uri == ANONYMOUS;
        Some(Diversion { uri, reason, is_private })
    };
    // The latest stands first (RFC 5806 section 5).
    let mut found: Vec<_> = message.header_values(Name::Diversion).take(ENTRIES_LIMIT).filter_map(one).collect();
    found.reverse();
    found
}

/// The URI without its headers and its cause.
fn bare(uri: &Uri) -> String {
    let text = uri.as_str();
    let text = text.split_once('?').map_or(text, |(text, _)| text);
    let is_cause = |param: &str| param.get(..6).is_some_and(|start| start.eq_ignore_ascii_case("cause="));
    let mut parts = text.split(';').filter(|part| !is_cause(part));
    let first = parts.next().unwrap_or_default().to_owned();
    parts.fold(first, |made, part| format!("{made};{part}"))
}

/// The Diversion values that tell of these, the latest first. `names_private`: the reader is trusted with who does not want to be named.
#[must_use]
pub fn as_diversion(diversions: &[Diversion], names_private: bool) -> Vec<String> {
    let one = |diversion: &Diversion| {
        let (uri, reason) = (shown(diversion, names_private), diversion.reason.as_str());
        let privacy = if diversion.is_private { "full" } else { "off" };
        format!("<{uri}>;reason={reason};privacy={privacy};counter=1")
    };
    diversions.iter().rev().map(one).collect()
}

/// The History-Info value that tells of these, and of `target`, which is called now; empty where nobody diverted the call.
#[must_use]
pub fn as_history(diversions: &[Diversion], target: &str, names_private: bool) -> String {
    let mut entries: Vec<String> = Vec::new();
    let (mut index, mut cause, mut mapped) = ("1".to_owned(), String::new(), String::new());
    for diversion in diversions {
        let uri = shown(diversion, names_private);
        let privacy = if diversion.is_private { "?Privacy=history" } else { "" };
        entries.push(format!("<{uri}{cause}{privacy}>;index={index}{mapped}"));
        (cause, mapped) = (format!(";cause={}", diversion.reason.cause()), format!(";mp={index}"));
        index.push_str(".1");
    }
    if entries.is_empty() {
        return String::new();
    }
    entries.push(format!("<{target}{cause}>;index={index}{mapped}"));
    entries.join(", ")
}

fn shown(diversion: &Diversion, names_private: bool) -> &str {
    if diversion.is_private && !names_private { ANONYMOUS } else { &diversion.uri }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::parse::Limits;

    fn invite(headers: &str) -> Message {
        let text = format!(
            "INVITE sip:c@example.test SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1\r\nMax-Forwards: 69\r\n\
             From: <sip:a@example.test>;tag=1\r\nTo: <sip:b@example.test>\r\nCall-ID: 1\r\nCSeq: 1 INVITE\r\n\
             {headers}Content-Length: 0\r\n\r\n"
        );
        Message::parse_datagram(text.into(), &Limits::default()).unwrap()
    }

    fn told(headers: &str) -> Vec<(String, &'static str, bool)> {
        let found = read(&invite(headers)).into_iter();
        found.map(|diversion| (diversion.uri, diversion.reason.as_str(), diversion.is_private)).collect()
    }

    fn is(uri: &str, reason: &'static str) -> (String, &'static str, bool) {
        (uri.to_owned(), reason, false)
    }

    /// Conforms: RFC 7544 §5.1 — causes of History-Info are reasons of Diversion; whoever stands before a cause diverted the call
    #[test]
    fn a_history_tells_who_diverted_the_call_and_why() {
        let history = "History-Info: <sip:b@example.test>;index=1,<sip:d@example.test;cause=486>;index=1.1;mp=1\r\n\
                       History-Info: \"E\" <sip:e@example.test;user=phone;cause=408?Privacy=history>;index=1.1.1;mp=1.1, \
                       <sip:c@example.test;cause=302>;index=1.1.1.1;mp=1.1.1\r\n";
        let mut expected = vec![
            is("sip:b@example.test", "user-busy"),
            is("sip:d@example.test", "no-answer"),
            is("sip:e@example.test;user=phone", "unconditional"),
        ];
        expected[2].2 = true;
        assert_eq!(told(history), expected);
        // As RFC 4244 had it: the answer of whoever was called stands in their own entry.
        let old =
            "History-Info: <sip:b@example.test?Reason=SIP%3Bcause%3D486>;index=1,<sip:c@example.test>;index=1.1\r\n";
        assert_eq!(told(old), [is("sip:b@example.test", "user-busy")]);
    }

    /// Conforms: RFC 7044 §5.1 — proxies on the way and branches that led nowhere divert nothing
    #[test]
    fn what_was_only_forwarded_or_tried_beside_diverted_nothing() {
        let forwarded = "History-Info: <sip:b@example.test>;index=1, <sip:b@192.0.2.7>;index=1.1;rc=1\r\n";
        assert_eq!(told(forwarded), []);
        let forked = "History-Info: <sip:b@example.test>;index=1, <sip:x@example.test;cause=408>;index=1.1;mp=1, \
                      <sip:c@example.test;cause=302>;index=1.2;mp=1\r\n";
        assert_eq!(told(forked), [is("sip:b@example.test", "unconditional")]);
        for nonsense in
            ["History-Info: <sip:b@x>\r\n", "History-Info: x;index=1,,<;index=2\r\n", "Diversion: <>;reason=1\r\n"]
        {
            assert_eq!(told(nonsense), [], "{nonsense}");
        }
        // An index that leads in a circle ends too.
        let circle = "History-Info: <sip:b@x;cause=302>;index=1;mp=1, <sip:c@x;cause=302>;index=1;mp=1\r\n";
        assert_eq!(told(circle), [is("sip:b@x", "unconditional")]);
    }

    /// Conforms: RFC 5806 §5 — the latest diversion stands first
    #[test]
    fn a_diversion_tells_the_same_the_latest_first() {
        let both = "Diversion: <sip:d@example.test>;reason=no-answer;counter=1;privacy=full, <sip:b@example.test>;reason=user-busy\r\n";
        let mut expected = vec![is("sip:b@example.test", "user-busy"), is("sip:d@example.test", "no-answer")];
        expected[1].2 = true;
        assert_eq!(told(both), expected);
        assert_eq!(told("Diversion: <tel:+4930123>;reason=\"custom\"\r\n"), [is("tel:+4930123", "unknown")]);
        let private = told("Privacy: history\r\nDiversion: <tel:+4930123>;reason=away\r\n");
        assert_eq!(private, [("tel:+4930123".to_owned(), "away", true)]);
    }

    #[test]
    fn the_first_and_the_latest_diversions_are_kept() {
        let many = |count: usize| {
            let value = |at: usize| format!("Diversion: <sip:{at}@x>;reason=away\r\n");
            told(&(0..count).rev().map(value).collect::<String>())
        };
        assert_eq!(many(DIVERSIONS_LIMIT).len(), DIVERSIONS_LIMIT);
        let kept = many(DIVERSIONS_LIMIT + 1);
        assert_eq!(kept.len(), DIVERSIONS_LIMIT);
        assert_eq!((kept[0].0.as_str(), kept[1].0.as_str()), ("sip:0@x", "sip:2@x"));
    }

    /// Conforms: RFC 7044 §10.1.2 — who does not want to be named is not, save to those who are trusted with it
    #[test]
    fn what_is_written_is_read_as_it_was_and_names_nobody_who_wants_that() {
        let diversion = |user: &str, reason, is_private| {
            let uri = format!("sip:{user}@example.test");
            Diversion { uri, reason, is_private }
        };
        let list = [
            diversion("b", DiversionReason::UserBusy, false),
            diversion("d", DiversionReason::Unconditional, true),
            diversion("e", DiversionReason::NoAnswer, false),
        ];
        for names_private in [true, false] {
            let history = as_history(&list, "sip:c@example.test", names_private);
            let values = as_diversion(&list, names_private).join(", ");
            for header in [format!("History-Info: {history}\r\n"), format!("Diversion: {values}\r\n")] {
                assert_eq!(header.contains("sip:d@"), names_private, "{header}");
                let mut expected = list.to_vec();
                if !names_private {
                    expected[1].uri = ANONYMOUS.to_owned();
                }
                assert_eq!(read(&invite(&header)), expected, "{header}");
            }
        }
        assert!(as_history(&[], "sip:c@example.test", true).is_empty() && as_diversion(&[], true).is_empty());
    }
}
