//! Where a carrier sends a call of ours on (3xx, RFC 3261 section 8.1.3.4), as far as its trunk's `redirects` lets it: never to an address
//! that is not the trunk's own, and to nobody whom the caller may not call.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::SystemTime;

use sip::diversion::DiversionReason;
use sip::uri::Scheme;
use sip::{Message, Transport, Uri};

use super::history::Diverted;
use super::identity::Caller;
use super::numbers::user_of;
use super::rules::{self, Asked, Origin};
use super::{Router, Way, called_out, carrier_branch, incoming};
use crate::call::dial::{DialGroup, DialPlan, Elsewhere, SentOn};
use crate::call::end::EndReason;
use crate::call::inbound::Refusal;
use crate::config::{QueueOrder, RedirectPolicy, TrunkConfig, TrunkHost};
use crate::trunks::Trunk;

/// A call by a trunk that may be sent on there, kept for as long as it is not answered.
struct Standing {
    router: Router,
    trunk: Arc<Trunk>,
    host: usize,
    called: String,
    inside: Caller,
    outside: Caller,
    diverted: Vec<Diverted>,
    signed: Vec<String>,
    whose: Whose,
    source: Option<IpAddr>,
    invite: Option<Message>,
}

/// Whose call it is.
enum Whose {
    Device(String),
    Trunk(String),
    Agent,
    Unknown,
}

impl Whose {
    fn of(origin: Origin<'_>) -> Self {
        match origin {
            Origin::Device(name) => Self::Device(name.to_owned()),
            Origin::Trunk(name) => Self::Trunk(name.to_owned()),
            Origin::Agent => Self::Agent,
            Origin::Unknown => Self::Unknown,
        }
    }

    fn origin(&self) -> Origin<'_> {
        match self {
            Self::Device(name) => Origin::Device(name),
            Self::Trunk(name) => Origin::Trunk(name),
            Self::Agent => Origin::Agent,
            Self::Unknown => Origin::Unknown,
        }
    }
}

/// Whom a Contact names.
struct Named {
    /// The number, as we write numbers.
    number: String,
    /// The same as it stands there.
    written: String,
    /// Where the trunk is called for it: which of its hosts that is, and its URI.
    at: (Option<usize>, String),
}

impl Router {
    /// What finds out how those are called to whom a host of a trunk sends this call on; `None` where it may not.
    pub(super) fn sent_on(&self, trunk: &Arc<Trunk>, host: usize, way: &Way<'_>) -> Option<Arc<SentOn>> {
        if trunk.config.redirects == RedirectPolicy::Refuse {
            return None;
        }
        let standing = Standing {
            router: self.clone(),
            trunk: Arc::clone(trunk),
            host,
            called: way.called.to_owned(),
            inside: way.inside.clone(),
            outside: way.outside.clone(),
            diverted: way.diverted.clone(),
            signed: way.signed.clone(),
            whose: Whose::of(way.origin),
            source: way.source,
            invite: way.invite.cloned(),
        };
        Some(Arc::new(move |elsewhere| standing.follow(elsewhere)))
    }
}

impl Standing {
    /// How those are called whom the first Contact names that may be followed.
    fn follow(&self, elsewhere: &Elsewhere) -> Result<DialPlan, Refusal> {
        let why = "the carrier names nobody whom it may send the call to";
        let mut refusal = Refusal::new(403, EndReason::NotAllowed).with_detail(why);
        for contact in &elsewhere.contacts {
            let Some(named) = self.named(contact, elsewhere.local) else { continue };
            let plan = match self.trunk.config.redirects {
                RedirectPolicy::Refuse => break,
                RedirectPolicy::Trunk => self.by_trunk(&named, elsewhere.reason),
                RedirectPolicy::Routes => self.by_routes(&named, elsewhere.reason),
            };
            match plan {
                Ok(plan) => return Ok(plan),
                Err(refused) => refusal = refused,
            }
        }
        Err(refusal)
    }

    /// Whom a Contact names, where it leads to the trunk, or to us.
    fn named(&self, contact: &str, local: Option<IpAddr>) -> Option<Named> {
        let config = &self.trunk.config;
        let uri = Uri::parse(contact).ok()?;
        let from = config.hosts.get(self.host)?;
        let own_place = || (Some(self.host), from.uri.clone());
        let is_ours = || {
            uri.host().eq_ignore_ascii_case(&self.router.config.registrar.realm)
                || (local.is_some() && uri.host_ip() == local)
        };
        let at = match uri.scheme() {
            Scheme::Tel => own_place(),
            Scheme::Sip | Scheme::Sips => match place_of(config, &uri, (self.host, from)) {
                Some(place) => place,
                None if config.redirects == RedirectPolicy::Routes && is_ours() => own_place(),
                None => return None,
            },
            Scheme::Other => return None,
        };
        let number = user_of(contact);
        if number.is_empty() {
            // Another host of the carrier's has them.
            let written = called_out(&self.called, config);
            return Some(Named { number: self.called.clone(), written, at });
        }
        let number = incoming(&number, &self.trunk);
        let written = match uri.scheme() {
            Scheme::Tel => called_out(&number, config),
            _ => uri.user().unwrap_or_default().to_owned(),
        };
        // As we wrote it, or as the carrier writes it.
        let is_same = number == self.called || written == called_out(&self.called, config);
        Some(Named { number: if is_same { self.called.clone() } else { number }, written, at })
    }

    /// By this trunk again.
    fn by_trunk(&self, named: &Named, reason: DiversionReason) -> Result<DialPlan, Refusal> {
        let is_new = named.number != self.called;
        let was_there = is_new && self.diverted.iter().any(|by| by.number == named.number);
        if was_there || (!is_new && named.at.0 == Some(self.host)) {
            return Err(circle());
        }
        let way = self.way(named, is_new, reason);
        if way.is_ours() {
            self.router.may_call(&named.number)?;
        }
        let (host, uri) = &named.at;
        let mut branch = carrier_branch(&self.trunk, (*host, uri), &named.written, &way);
        branch.headers.extend(self.router.signatures(&self.trunk, &way));
        branch.sent_on = self.router.sent_on(&self.trunk, host.unwrap_or(self.host), &way);
        let ring_for = self.trunk.config.ring_for();
        Ok(DialPlan { groups: vec![DialGroup { branches: vec![branch], ring_for }], ..DialPlan::default() })
    }

    /// As if the caller had called that number.
    fn by_routes(&self, named: &Named, reason: DiversionReason) -> Result<DialPlan, Refusal> {
        let was_there = self.diverted.iter().any(|by| by.number == named.number);
        if named.number == self.called || was_there {
            return Err(circle());
        }
        let way = self.way(named, true, reason);
        let asked = Asked {
            origin: way.origin,
            source: way.source,
            caller: &self.outside.number,
            called: &named.number,
            diverted: &way.diverted,
            at: SystemTime::now(),
        };
        if let Some((rule, number)) = rules::first(&self.router.config.routes, &asked) {
            return self.router.plan_of(rule, &Way { called: &number, ..way });
        }
        match self.router.accounts.named(&named.number).filter(|_| way.origin != Origin::Unknown) {
            Some(device) => self.router.devices(&[&device], QueueOrder::AtOnce, None, &way),
            None => Err(Refusal::new(404, EndReason::UnknownNumber).with_detail("no route leads there")),
        }
    }

    /// The call on its way there; `is_new`: whoever was called has sent it on, and it is not merely another host that has them.
    fn way<'a>(&'a self, named: &'a Named, is_new: bool, reason: DiversionReason) -> Way<'a> {
        let now = is_new.then(|| Diverted::new(&*self.called, reason));
        Way {
            called: &named.number,
            inside: self.inside.clone(),
            outside: self.outside.clone(),
            diverted: self.diverted.iter().cloned().chain(now).collect(),
            is_sent_on: is_new || !self.diverted.is_empty(),
            signed: self.signed.clone(),
            origin: self.whose.origin(),
            source: self.source,
            invite: self.invite.as_ref(),
        }
    }
}

fn circle() -> Refusal {
    Refusal::new(482, EndReason::NotAllowed).with_detail("the carrier sends the call to where it was")
}

/// Where a Contact leads within a trunk: to one of its hosts, to another port of one, or to an address of its networks. `from` is the host
/// that named it: what was called over TLS is not called without.
fn place_of(trunk: &TrunkConfig, contact: &Uri, (at, from): (usize, &TrunkHost)) -> Option<(Option<usize>, String)> {
    let hosts = || trunk.hosts.iter().filter_map(|host| Some((host, Uri::parse(&host.uri).ok()?)));
    let is_named = |host: &Uri| same_host(host, contact);
    let is_secured = |uri: &Uri| uri.is_sips() || uri.transport().and_then(Transport::parse) == Some(Transport::Tls);
    let was_secured = Uri::parse(&from.uri).is_ok_and(|from| is_secured(&from));
    let is_same = |host: &Uri| {
        is_named(host)
            && (is_secured(host) || !(was_secured || contact.is_sips()))
            && (contact.port().is_none() || contact.port() == host.port().or(Some(5060)))
            && contact.transport().is_none_or(|name| host.transport().is_some_and(|own| own.eq_ignore_ascii_case(name)))
    };
    if let Some(same) = hosts().position(|(_, host)| is_same(&host)) {
        return Some((Some(same), trunk.hosts.get(same)?.uri.clone()));
    }
    let is_domain = contact.port().is_none() && contact.host().eq_ignore_ascii_case(&trunk.our_domain());
    if is_domain && !hosts().any(|(_, host)| is_named(&host)) {
        if contact.is_sips() && !was_secured {
            return None;
        }
        return Some((Some(at), from.uri.clone()));
    }
    let in_networks = || contact.host_ip().is_some_and(|ip| trunk.addresses.iter().any(|network| network.contains(ip)));
    if !hosts().any(|(_, host)| is_named(&host)) && !in_networks() {
        return None;
    }
    let from = Uri::parse(&from.uri).ok()?;
    let transport = match was_secured || contact.is_sips() {
        true => Some("tls"),
        false => contact.transport().filter(|name| Transport::parse(name).is_some()).or(from.transport()),
    };
    let by = transport.map(|name| format!(";transport={name}")).unwrap_or_default();
    Some((None, format!("sip:{}{by}", contact.authority())))
}

fn same_host(one: &Uri, other: &Uri) -> bool {
    match (one.host_ip(), other.host_ip()) {
        (Some(one), Some(other)) => one == other,
        _ => one.host().eq_ignore_ascii_case(other.host()),
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_carrier_sends_calls_to_its_own_hosts_alone_and_never_out_of_tls() {
        let trunk = |text: &str| -> TrunkConfig {
            toml::from_str(&format!("name = \"t\"\naddresses = [\"192.0.2.0/24\"]\ndomain = \"carrier.test\"\n{text}"))
                .unwrap()
        };
        let plain = trunk("hosts = [\"a.carrier.test\", \"sip:b.carrier.test:5070;transport=tcp\"]");
        let place = |trunk: &TrunkConfig, contact: &str| {
            place_of(trunk, &Uri::parse(contact).unwrap(), (0, &trunk.hosts[0])).map(|(at, uri)| (at, uri.to_string()))
        };
        for (contact, at, uri) in [
            ("sip:+49@a.carrier.test", Some(0), "sip:a.carrier.test"),
            ("sip:+49@A.carrier.test:5060", Some(0), "sip:a.carrier.test"),
            ("sip:+49@b.carrier.test", Some(1), "sip:b.carrier.test:5070;transport=tcp"),
            ("sip:+49@carrier.test", Some(0), "sip:a.carrier.test"),
            ("sip:+49@a.carrier.test:5080", None, "sip:a.carrier.test:5080"),
            ("sip:+49@192.0.2.7:5080;transport=tcp", None, "sip:192.0.2.7:5080;transport=tcp"),
            ("sip:+49@192.0.2.7;transport=pigeon", None, "sip:192.0.2.7"),
            ("sips:+49@192.0.2.7", None, "sip:192.0.2.7;transport=tls"),
        ] {
            assert_eq!(place(&plain, contact), Some((at, uri.to_owned())), "{contact}");
        }
        for contact in ["sip:+49@192.0.3.7", "sip:+49@evil.test", "sip:+49@carrier.test:5080", "sip:+49@x.carrier.test"]
        {
            assert_eq!(place(&plain, contact), None, "{contact}");
        }
        let secured = trunk("hosts = [\"sip:a.carrier.test;transport=tls\"]");
        for contact in ["sip:+49@192.0.2.7", "sip:+49@192.0.2.7;transport=udp"] {
            assert_eq!(place(&secured, contact), Some((None, "sip:192.0.2.7;transport=tls".to_owned())), "{contact}");
        }
    }
}
