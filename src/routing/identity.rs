//! Who is shown as calling: to a phone, and to a carrier that we trust or do not (RFC 3323, RFC 3325).

use sip::headers::Name;
use sip::uri::user_of;
use sip::{Message, NameAddr};

use super::numbers;
use crate::config::{IdentityPolicy, Rewrite, TrunkConfig};

/// Who calls.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Caller {
    /// The number, in E.164 where it is one, or the name.
    pub number: String,
    /// The name to show; empty where there is none.
    pub display: String,
    /// They do not want to be shown.
    pub is_private: bool,
    /// What is known of the number by signature.
    pub verstat: Option<&'static str>,
}

/// The From of those who do not want to be shown (RFC 3323 section 4.1.1.3).
const ANONYMOUS: &str = "\"Anonymous\" <sip:anonymous@anonymous.invalid>";

/// Who sent an INVITE. `trusted`: what it asserts is believed.
#[must_use]
pub fn caller(invite: &Message, trusted: bool) -> Caller {
    let asserted = invite.header_values(Name::PAssertedIdentity).next().filter(|_| trusted);
    let from = asserted.or(invite.header(Name::From)).and_then(|value| NameAddr::parse(value).ok());
    let privacy = invite.header_values(Name::Privacy).flat_map(|value| value.split(';')).map(str::trim);
    let wants_privacy = privacy.into_iter().any(|value| matches!(value, "id" | "user" | "header"));
    let Some(from) = from else { return Caller { is_private: wants_privacy, ..Caller::default() } };
    let number = numbers::user_of(from.uri_text);
    let is_private = wants_privacy || number == "anonymous";
    Caller { number, display: from.display_name().into_owned(), is_private, verstat: None }
}

impl Caller {
    /// Whoever is at this address.
    #[must_use]
    pub fn of(uri: &str) -> Self {
        Self { number: user_of(uri), ..Self::default() }
    }
}

/// The From value for a phone of ours.
#[must_use]
pub fn for_device(caller: &Caller, domain: &str) -> String {
    if caller.is_private || caller.number.is_empty() {
        return ANONYMOUS.to_owned();
    }
    let verstat = caller.verstat.map(|verstat| format!(";verstat={verstat}")).unwrap_or_default();
    named(&caller.display, &format!("sip:{}{verstat}@{domain}", caller.number))
}

fn may_show(caller: &Caller, trunk: &TrunkConfig) -> bool {
    numbers::e164(&caller.number, None).is_some()
        && (trunk.callers.is_empty()
            || caller.number == trunk.caller
            || trunk.callers.iter().any(|pattern| pattern.matches(&caller.number)))
}

/// The number that a trunk is shown, before it is written as that wants it.
#[must_use]
pub fn shown<'a>(caller: &'a Caller, trunk: &'a TrunkConfig) -> &'a str {
    match (may_show(caller, trunk), trunk.caller.is_empty()) {
        (true, _) => caller.number.as_str(),
        (false, false) => trunk.caller.as_str(),
        // A registering trunk shows its own account, as carriers expect.
        (false, true) => trunk.username.as_str(),
    }
}

/// The From value and the further headers for a trunk. A number that may not be shown there is replaced by the trunk's own.
#[must_use]
pub fn for_trunk(caller: &Caller, trunk: &TrunkConfig) -> (String, Vec<(String, String)>) {
    let country = numbers::country(&trunk.country);
    let (may_show, shown) = (may_show(caller, trunk), shown(caller, trunk));
    let written = Rewrite::first(&trunk.caller_out, &numbers::write(shown, trunk.numbers_out, country));
    let domain = trunk.our_domain();
    let uri = if written.is_empty() { format!("sip:{domain}") } else { format!("sip:{written}@{domain}") };
    let mut headers = Vec::new();
    if trunk.identity == IdentityPolicy::Trusted {
        headers.push(("P-Asserted-Identity".to_owned(), format!("<{uri}>")));
    }
    if !caller.is_private {
        let display = if may_show { caller.display.as_str() } else { "" };
        return (named(display, &uri), headers);
    }
    if trunk.identity == IdentityPolicy::Trusted {
        headers.push(("Privacy".to_owned(), "id".to_owned()));
    }
    (ANONYMOUS.to_owned(), headers)
}

/// The headers that go on from one leg to the other: those that the trunk names.
#[must_use]
pub fn passed_on(invite: Option<&Message>, trunk: &TrunkConfig) -> Vec<(String, String)> {
    let Some(invite) = invite else { return Vec::new() };
    let wanted = |name: &str| trunk.pass_headers.iter().any(|own| own.eq_ignore_ascii_case(name));
    let hops = invite.max_forwards().unwrap_or(70).saturating_sub(1);
    let passed = invite.all_headers().filter(|(name, _)| wanted(name));
    let passed = passed.map(|(name, value)| (name.to_owned(), value.to_owned()));
    passed.chain([("Max-Forwards".to_owned(), hops.to_string())]).collect()
}

fn named(display: &str, uri: &str) -> String {
    let display: String = display.chars().filter(|c| !c.is_control()).collect();
    if display.trim().is_empty() {
        format!("<{uri}>")
    } else {
        format!("{} <{uri}>", sip::headers::params::quote(&display))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn invite(headers: &str) -> Message {
        let text = format!(
            "INVITE sip:+493099@example.test SIP/2.0\r\nVia: SIP/2.0/UDP 192.0.2.1;branch=z9hG4bK1\r\nMax-Forwards: 69\r\n\
             From: \"Bob\" <sip:+4930111@example.test>;tag=1\r\nTo: <sip:+493099@example.test>\r\nCall-ID: 1\r\n\
             CSeq: 1 INVITE\r\n{headers}Content-Length: 0\r\n\r\n"
        );
        Message::parse_datagram(text.into(), &sip::parse::Limits::default()).unwrap()
    }

    fn trunk(text: &str) -> TrunkConfig {
        toml::from_str(&format!("name = \"t\"\nhosts = [\"sip.carrier.test\"]\n{text}")).unwrap()
    }

    /// Conforms: RFC 3325 §5 — an asserted identity is believed of trusted peers alone.
    #[test]
    fn an_asserted_identity_is_believed_of_trusted_peers_alone() {
        let invite = invite("P-Asserted-Identity: \"Carol\" <sip:+4930222@example.test>\r\n");
        assert_eq!(caller(&invite, true).number, "+4930222");
        assert_eq!(caller(&invite, true).display, "Carol");
        assert_eq!(caller(&invite, false).number, "+4930111");
    }

    /// Conforms: RFC 3323 §4.1 — who wants privacy is not named to those whom we do not trust.
    #[test]
    fn who_wants_privacy_is_named_to_trusted_peers_alone() {
        let private = caller(&invite("Privacy: id\r\n"), false);
        assert!(private.is_private);
        let (from, headers) = for_trunk(&private, &trunk(""));
        assert!(!from.contains("4930111") && headers.is_empty(), "{from} {headers:?}");
        let (from, headers) = for_trunk(&private, &trunk("identity = \"trusted\""));
        assert!(!from.contains("4930111"));
        assert!(headers.contains(&("P-Asserted-Identity".into(), "<sip:+4930111@sip.carrier.test>".into())));
        assert!(headers.contains(&("Privacy".into(), "id".into())));
        assert!(for_device(&private, "pbx.test").contains("anonymous.invalid"));
    }

    #[test]
    fn a_number_that_may_not_be_shown_is_replaced() {
        let own = trunk("caller = \"+4930500\"\ncallers = [\"+49305*\"]\nnumbers_out = \"digits\"");
        let shown = |number: &str| {
            for_trunk(&Caller { number: number.into(), display: "Bob".into(), ..Caller::default() }, &own).0
        };
        assert_eq!(shown("+49305001"), "\"Bob\" <sip:49305001@sip.carrier.test>");
        assert_eq!(shown("+4930111"), "<sip:4930500@sip.carrier.test>");
        assert_eq!(shown("alice"), "<sip:4930500@sip.carrier.test>");
    }

    #[test]
    fn headers_are_passed_on_as_the_trunk_says() {
        let invite = invite("Diversion: <sip:+4930333@example.test>\r\nUser-to-User: 00;encoding=hex\r\nX-Own: 1\r\n");
        let names =
            |trunk: &TrunkConfig| passed_on(Some(&invite), trunk).into_iter().map(|(name, _)| name).collect::<Vec<_>>();
        assert_eq!(names(&trunk("")), ["User-to-User", "Max-Forwards"]);
        assert_eq!(names(&trunk("pass_headers = [\"x-own\"]")), ["X-Own", "Max-Forwards"]);
        assert!(passed_on(Some(&invite), &trunk("")).contains(&("Max-Forwards".into(), "68".into())));
    }
}
