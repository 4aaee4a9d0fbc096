//! How somebody is reached: plain data that routing makes and the call carries out.
//!
//! A plan is groups, tried one after another; a group is branches, called at once. The first answer wins and the other
//! branches are cancelled. Whether a group that failed is followed by the next is settled by [`DialPlan::goes_on_after`].

use std::any::Any;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use sip::auth::Credentials;
use sip::diversion::DiversionReason;
use sip::endpoint::{Destination, Source};
use sip::headers::Name;
use sip::{Message, NameAddr};

use super::end::EndReason;
use super::inbound::Refusal;
use super::place::Place;
use crate::config::SrtpPolicy;
use crate::routing::history::Diverted;
use crate::routing::identity::Caller;

/// Branches in one group at most; a plan with more is cut there.
pub const BRANCHES_LIMIT: usize = 32;
/// Groups in one plan at most; a plan with more is cut there.
pub const GROUPS_LIMIT: usize = 16;
/// The Reason (RFC 3326) of the CANCEL that losing branches get.
pub const COMPLETED_ELSEWHERE: &str = "SIP;cause=200;text=\"Call completed elsewhere\"";

/// How to reach somebody.
#[derive(Debug, Clone, Default)]
pub struct DialPlan {
    /// One after another (fail-over).
    pub groups: Vec<DialGroup>,
    /// Refusals after which the next group is tried, besides 408 and 5xx: `486` where a busy line has a deputy.
    pub also_after: Vec<u16>,
    /// The queue that callers wait in meanwhile.
    pub queue: Option<Arc<str>>,
}

/// Branches that ring at once.
#[derive(Debug, Clone)]
pub struct DialGroup {
    /// At once; the first answer wins, the others are cancelled with [`COMPLETED_ELSEWHERE`].
    pub branches: Vec<DialBranch>,
    /// Without an answer for this long the group has failed.
    pub ring_for: Duration,
}

/// One INVITE to be sent.
#[derive(Clone)]
pub struct DialBranch {
    /// For records and logs: `trunk carrier-a`, `device alice/2`.
    pub label: String,
    /// The Request-URI.
    pub uri: String,
    /// The From value, without a tag.
    pub from: String,
    /// The To value, where it is not the Request-URI.
    pub to: Option<String>,
    /// Further headers: identity, Diversion, Privacy, User-to-User.
    pub headers: Vec<(String, String)>,
    /// Where it goes.
    pub next_hop: NextHop,
    /// The device of ours that is called.
    pub device: Option<String>,
    /// The trunk that it goes by, and the number that is called there, as we write numbers.
    pub carrier: Option<(String, String)>,
    /// For 401 and 407.
    pub credentials: Option<Credentials>,
    /// The codecs to offer, best first; `None` takes the configuration's.
    pub codecs: Option<Vec<String>>,
    /// Whether the sound is protected.
    pub srtp: SrtpPolicy,
    /// Asked right before the branch is called.
    pub admit: Option<Arc<Admit>>,
    /// Asked where its peer sends the call on (3xx); without it only phones of ours may.
    pub sent_on: Option<Arc<SentOn>>,
    /// Told once what became of the branch, so that a trunk's health is known.
    pub on_result: Option<Arc<dyn Fn(BranchResult) + Send + Sync>>,
}

/// Whether a branch may be called now: a refusal counts as the branch's, with that status. What it gives is held for as
/// long as the leg lives: a trunk's place within its limits.
pub type Admit = dyn Fn() -> Result<Option<Lease>, u16> + Send + Sync;
/// How those are called to whom a branch's peer sends the call on, where it may: the first group of the plan takes the branch's place.
pub type SentOn = dyn Fn(&Elsewhere) -> Result<DialPlan, Refusal> + Send + Sync;
/// Held for as long as a leg lives.
pub type Lease = Arc<dyn Any + Send + Sync>;

/// Where somebody sends a call on (RFC 3261 section 8.1.3.4).
#[derive(Debug, Clone)]
pub struct Elsewhere {
    /// The URIs of its Contacts, what it prefers first; [`Elsewhere::CONTACTS_LIMIT`] at most.
    pub contacts: Vec<String>,
    /// Why.
    pub reason: DiversionReason,
    /// The address of ours that it knows.
    pub local: Option<IpAddr>,
}

/// Where an INVITE goes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum NextHop {
    /// There, from this address of ours: a registered device's flow.
    Flow {
        /// The peer.
        destination: Destination,
        /// Our address as that peer can reach it.
        local: SocketAddr,
    },
    /// Wherever this URI leads (RFC 3263).
    Resolve(String),
}

/// What became of a branch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum BranchResult {
    /// It answered.
    Answered,
    /// It refused with this status.
    Refused(u16),
    /// It rang, or was silent, until the group's time was up.
    NoAnswer,
    /// Nothing came back from there: no address, no connection, or no response at all.
    Unreachable,
    /// It was cancelled: the caller gave up, or somebody else answered.
    Cancelled,
}

impl BranchResult {
    /// As it stands in records; empty of one that answered.
    #[must_use]
    pub fn told(self) -> String {
        match self {
            Self::Answered => String::new(),
            Self::Refused(code) => format!("refused {code}"),
            Self::NoAnswer => "no_answer".to_owned(),
            Self::Unreachable => "unreachable".to_owned(),
            Self::Cancelled => "cancelled".to_owned(),
        }
    }
}

/// On whose behalf somebody is called.
#[derive(Debug, Clone, Default)]
pub struct Party {
    /// Whom phones of ours see, where that is somebody else than carriers do.
    pub seen_inside: Option<Caller>,
    /// The From URI of whoever the call is for.
    pub uri: String,
    /// Its display name; empty where there is none.
    pub display: String,
    /// Where that party's signalling comes from; `None` for the server itself.
    pub source: Option<Source>,
    /// The trunk that party came by.
    pub trunk: Option<String>,
    /// The device that party authenticated as.
    pub device: Option<String>,
    /// The address of ours that party knows: as a host it means us.
    pub local: Option<IpAddr>,
    /// Who has sent the call on, the first of them first; the last is whoever does so now.
    pub diverted: Vec<Diverted>,
    /// The signatures (Identity) that the call came with, where it is sent on.
    pub signed: Vec<String>,
}

impl Party {
    /// Whether it is a device of ours, or the server: callers of trunks put nobody anywhere.
    #[must_use]
    pub fn is_ours(&self) -> bool {
        self.device.is_some() || self.source.is_none()
    }
}

/// Knows how to reach somebody, and who may.
pub trait Dialer: Send + Sync {
    /// How to reach `target`, a SIP or tel URI or a bare number, for `on_behalf`.
    ///
    /// # Errors
    /// Nobody is called that, or `on_behalf` may not call them: the status to answer with, and why.
    fn plan(&self, target: &str, on_behalf: &Party) -> Result<DialPlan, Refusal>;

    /// How the phones of this device of ours are called for `on_behalf`, whatever rules say of its name.
    fn phones(&self, _device: &str, _on_behalf: &Party) -> Option<DialPlan> {
        None
    }

    /// The place of the server's own that `target` names, for those who may put somebody there.
    fn place(&self, _target: &str, _on_behalf: &Party) -> Option<Place> {
        None
    }

    /// What `target` is called where it is not called by a plan, for those who may have somebody talk with an agent.
    fn converser(&self, _target: &str, _on_behalf: &Party) -> Option<Converser> {
        None
    }
}

/// Who or what talks with callers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Converser {
    /// The agent that a rule names.
    Agent(String),
    /// No rule says whose name that is: it may be one of the server's own.
    Own(String),
}

/// Reaches SIP addresses directly, for the server's own agents alone: what their definitions name. Callers reach nobody by it.
#[derive(Debug, Clone, Copy, Default)]
pub struct Direct;

/// How long somebody rings who is called directly.
pub const DIRECT_RINGS: Duration = Duration::from_secs(30);

impl Dialer for Direct {
    fn converser(&self, target: &str, on_behalf: &Party) -> Option<Converser> {
        let is_name = on_behalf.source.is_none() && !target.contains(':');
        is_name.then(|| Converser::Own(target.to_owned()))
    }

    fn plan(&self, target: &str, on_behalf: &Party) -> Result<DialPlan, Refusal> {
        if on_behalf.source.is_some() {
            return Err(Refusal::new(403, EndReason::NotAllowed));
        }
        if !(target.starts_with("sip:") || target.starts_with("sips:")) {
            let why = format!("`{target}` is no SIP address, and there is no trunk that takes numbers");
            return Err(Refusal::new(404, EndReason::UnknownNumber).with_detail(why));
        }
        let from = if on_behalf.uri.is_empty() { "sip:omnivox@localhost" } else { &on_behalf.uri };
        let branches = vec![DialBranch::new(target, target, from)];
        Ok(DialPlan { groups: vec![DialGroup { branches, ring_for: DIRECT_RINGS }], ..DialPlan::default() })
    }
}

impl DialPlan {
    /// Whether the next group is tried after this: 408, 5xx, a login that is refused, no answer and nobody there, and what the plan adds. A
    /// person who declines, is busy or is not known is not called again elsewhere.
    #[must_use]
    pub fn goes_on_after(&self, result: BranchResult) -> bool {
        match result {
            BranchResult::NoAnswer | BranchResult::Unreachable => true,
            BranchResult::Refused(401 | 407 | 408 | 500..=599) => true,
            BranchResult::Refused(code) => self.also_after.contains(&code),
            BranchResult::Answered | BranchResult::Cancelled => false,
        }
    }
}

impl Elsewhere {
    /// Contacts that are looked at in one response.
    pub const CONTACTS_LIMIT: usize = 8;

    /// What a redirection says that came to this address of ours; of 380 (section 21.3.5) what else there is stands in its body.
    #[must_use]
    pub fn of(response: &Message, local: Option<IpAddr>) -> Self {
        let values = response.header_values(Name::Contact).filter_map(|value| NameAddr::parse(value).ok());
        let quality = |contact: &NameAddr<'_>| {
            contact.params.get("q").and_then(|q| q.trim().parse::<f32>().ok()).filter(|q| q.is_finite()).unwrap_or(1.0)
        };
        let values = values.filter(|_| response.code() != Some(380)).take(Self::CONTACTS_LIMIT);
        let mut values: Vec<_> = values.map(|contact| (quality(&contact), contact.uri_text.to_owned())).collect();
        values.sort_by(|(one, _), (other, _)| other.total_cmp(one));
        let told = sip::diversion::read(response).last().map(|last| last.reason);
        let reason = told.unwrap_or(DiversionReason::Unconditional);
        Self { contacts: values.into_iter().map(|(_, uri)| uri).collect(), reason, local }
    }
}

impl DialBranch {
    /// A branch to `uri` with nothing special about it.
    #[must_use]
    pub fn new(label: impl Into<String>, uri: impl Into<String>, from: impl Into<String>) -> Self {
        let uri = uri.into();
        Self {
            label: label.into(),
            next_hop: NextHop::Resolve(uri.clone()),
            uri,
            from: from.into(),
            to: None,
            headers: Vec::new(),
            device: None,
            carrier: None,
            credentials: None,
            codecs: None,
            srtp: SrtpPolicy::Default,
            admit: None,
            sent_on: None,
            on_result: None,
        }
    }

    /// Tells whoever wants to know what became of this branch.
    pub fn report(&self, result: BranchResult) {
        if let Some(on_result) = &self.on_result {
            on_result(result);
        }
    }
}

impl fmt::Debug for DialBranch {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("DialBranch")
            .field("label", &self.label)
            .field("next_hop", &self.next_hop)
            .field("codecs", &self.codecs)
            .finish_non_exhaustive()
    }
}

/// Two plans are equal where they are the same one: what they hold besides data cannot be compared.
impl PartialEq for DialPlan {
    fn eq(&self, other: &Self) -> bool {
        std::ptr::eq(self, other)
    }
}

impl Eq for DialPlan {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_group_follows_a_fault_of_the_way_and_not_a_decision_of_a_person() {
        let plan = DialPlan::default();
        for result in [
            BranchResult::NoAnswer,
            BranchResult::Unreachable,
            BranchResult::Refused(408),
            BranchResult::Refused(500),
            BranchResult::Refused(503),
        ] {
            assert!(plan.goes_on_after(result), "{result:?}");
        }
        for result in [
            BranchResult::Answered,
            BranchResult::Cancelled,
            BranchResult::Refused(486),
            BranchResult::Refused(603),
            BranchResult::Refused(404),
            BranchResult::Refused(600),
        ] {
            assert!(!plan.goes_on_after(result), "{result:?}");
        }
        let deputy = DialPlan { also_after: vec![486], ..DialPlan::default() };
        assert!(deputy.goes_on_after(BranchResult::Refused(486)));
    }
}
