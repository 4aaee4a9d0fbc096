//! Routing: who called what from where, and when, goes to whom; how numbers and identities are written on the way.
//!
//! [`rules`], [`numbers`], [`identity`] and [`history`] are pure; [`Router`] asks them, and knows devices' registrations and trunks' health.

pub(crate) mod barred;
pub(crate) mod connected;
mod described;
mod elsewhere;
pub mod history;
pub mod identity;
pub(crate) mod live;
pub mod numbers;
mod own_phone;
mod queues;
pub mod rules;

use std::hash::{BuildHasher, Hasher, RandomState};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::SystemTime;

use control::time::Moment;
use sip::Message;
use sip::diversion::{Diversion, DiversionReason};
use sip::endpoint::{Destination, Target as Peer};
use sip::registrar::Binding;

use self::barred::Barred;
use self::history::{Diverted, History};
use self::identity::Caller;
use self::numbers::user_of;
use self::rules::{Asked, Origin};
use crate::accounts::{Accounts, Device, domain_of};
use crate::call::dial::{BranchResult, Converser, DialBranch, DialGroup, DialPlan, Dialer, Direct, NextHop, Party};
use crate::call::end::EndReason;
use crate::call::inbound::Refusal;
use crate::call::place::Place;
use crate::call::route::{RouteQuery, Target};
use crate::config::{
    Config, DeviceConfig, IdentityPolicy, NumberForm, QueueOrder, Rewrite, RouteConfig, RouteTo, TrunkConfig,
};
use crate::stir::passport::Signer;
use crate::trunks::{Trunk, Trunks};

/// Refusals of one of a queue's users after which the next one is called: busy, not there, declined.
const QUEUE_GOES_ON_AFTER: [u16; 4] = [480, 486, 600, 603];

/// Routes by the configuration.
#[derive(Debug, Clone)]
pub(crate) struct Router {
    config: Arc<Config>,
    accounts: Arc<Accounts>,
    trunks: Arc<Trunks>,
    signer: Option<Arc<Signer>>,
    barred: Arc<Barred>,
}

/// A call on its way to somebody.
struct Way<'a> {
    /// As the rule or the caller names them.
    called: &'a str,
    /// Who is shown to phones, and who to carriers.
    inside: Caller,
    outside: Caller,
    /// Who has sent the call on.
    diverted: Vec<Diverted>,
    /// The last of them does so now, here.
    is_sent_on: bool,
    /// The signatures that it came with.
    signed: Vec<String>,
    /// Whose call it is, and where it comes from.
    origin: Origin<'a>,
    source: Option<IpAddr>,
    /// What the caller sent.
    invite: Option<&'a Message>,
}

impl Way<'_> {
    /// The caller is a device of ours, or an agent.
    fn is_ours(&self) -> bool {
        matches!(self.origin, Origin::Device(_) | Origin::Agent)
    }
}

impl Router {
    pub(crate) fn new(
        config: Arc<Config>,
        accounts: Arc<Accounts>,
        trunks: Arc<Trunks>,
        signer: Option<Arc<Signer>>,
        barred: Arc<Barred>,
    ) -> Self {
        Self { config, accounts, trunks, signer, barred }
    }

    /// Whether whoever calls for us may call this number or address outside.
    fn may_call(&self, target: &str) -> Result<(), Refusal> {
        self.barred.admits(target, numbers::country(&self.config.control.country), Moment::now())
    }

    /// Where a trunk that takes its calls back is to call `target` itself; `None` where it does not, or `target` is somebody of ours.
    pub(crate) fn passed_back(&self, trunk: &str, target: &str) -> Option<String> {
        let trunk = self.trunks.named(trunk).filter(|trunk| trunk.config.refer)?;
        let trunk = &trunk.config;
        // It is found out why when it is planned then.
        self.may_call(target).ok()?;
        let Some(name) = self.name_in(target, &Party::default()) else { return Some(target.to_owned()) };
        let country = numbers::country(&trunk.country);
        let number = numbers::e164(&name, country).filter(|_| self.accounts.named(&name).is_none())?;
        self.may_call(&number).ok()?;
        Some(format!("sip:{}@{}", called_out(&number, trunk), trunk.our_domain()))
    }

    /// Whether any trunk takes calls to `target` back.
    pub(crate) fn is_passed_back(&self, target: &str) -> bool {
        self.config.trunks.iter().any(|trunk| self.passed_back(&trunk.name, target).is_some())
    }

    /// Who calls and who is called, as we write numbers: for signatures.
    pub(crate) fn numbers(&self, query: &RouteQuery<'_>) -> (String, String) {
        (self.callers(query).1.number, self.called(query))
    }

    /// A call's way up to us: whom it is for, and who sent it on before, in numbers as we write them.
    pub(crate) fn history(&self, query: &RouteQuery<'_>) -> History {
        let trunk = query.trunk.and_then(|name| self.trunks.named(name));
        let one = |diversion: Diversion| {
            let number = user_of(&diversion.uri);
            let number = trunk.as_ref().map_or_else(|| number.clone(), |trunk| incoming(&number, trunk));
            Diverted { private: diversion.is_private, ..Diverted::new(number, diversion.reason) }
        };
        let diverted = query.request.map(sip::diversion::read).unwrap_or_default();
        let signed = query.request.map(|invite| history::signed(invite, query.verdict)).unwrap_or_default();
        History {
            caller: Some(self.callers(query).0),
            called: self.called(query),
            diverted: diverted.into_iter().map(one).collect(),
            signed,
        }
    }

    /// The Identity headers of a call by a trunk: ours, and where the call is sent on for a number of ours, those that it came with too.
    fn signatures(&self, trunk: &Trunk, way: &Way<'_>) -> Vec<(String, String)> {
        let signer = self.signer.as_ref().filter(|_| trunk.config.sign && !way.outside.is_private);
        let Some(signer) = signer else { return Vec::new() };
        let passes = trunk.config.pass_headers.iter().any(|name| name.eq_ignore_ascii_case("Identity"));
        let is_passed = passes && way.invite.is_some_and(|invite| invite.header(sip::Name::Identity).is_some());
        let country = numbers::country(&trunk.config.country);
        let caller = numbers::to_e164(identity::shown(&way.outside, &trunk.config), country);
        let header = |value| ("Identity".to_owned(), value);
        if let Some(by) = way.diverted.last().filter(|by| way.is_sent_on && self.is_own(&by.number))
            && let Some(value) = signer.diversion(SystemTime::now(), &way.signed, &caller, &by.number, way.called)
        {
            let before = way.signed.iter().filter(|_| !is_passed).cloned();
            return before.chain([value]).map(header).collect();
        }
        if is_passed {
            return Vec::new();
        }
        let attest = match way.is_ours() {
            true if self.is_own(&caller) => 'A',
            true => 'B',
            false => 'C',
        };
        signer.identity(SystemTime::now(), attest, &caller, way.called).map(header).into_iter().collect()
    }

    /// Whether a number is ours to sign for.
    fn is_own(&self, number: &str) -> bool {
        self.config.stir.own_numbers.iter().any(|own| own.matches(number))
    }

    /// What the first rule that fits makes of a call; `None` where none does.
    pub(crate) fn by_rule(&self, query: &RouteQuery<'_>) -> Option<Result<Target, Refusal>> {
        if self.config.routes.is_empty() {
            return None;
        }
        let (inside, outside) = self.callers(query);
        let called = self.called(query);
        let (origin, source) = (origin(query), Some(query.source.remote.ip()));
        let asked =
            Asked { origin, source, caller: &outside.number, called: &called, diverted: query.diverted, at: query.at };
        let (rule, number) = rules::first(&self.config.routes, &asked)?;
        let is_ours = query.device.is_some();
        let is_sent_on = query.trunk.is_some() && called != number && matches!(rule.to, RouteTo::Trunk(_));
        let now = is_sent_on.then(|| Diverted::new(&*called, DiversionReason::Unconditional));
        // What a phone of ours says of calls before its own, no carrier is told in our name.
        let before = if is_ours { &[] } else { query.diverted };
        let diverted = before.iter().cloned().chain(now).collect();
        let signed = query.request.map(|invite| history::signed(invite, query.verdict)).unwrap_or_default();
        let invite = query.request;
        let way = Way { called: &number, inside, outside, diverted, is_sent_on, signed, origin, source, invite };
        Some(self.follow(rule, &way))
    }

    /// The place that is called, for devices; supervising is for those whose account says so.
    pub(crate) fn to_place(&self, query: &RouteQuery<'_>) -> Option<Place> {
        let device = query.device.and_then(|name| self.accounts.named(name))?;
        let place = Place::called(query.user).filter(|_| self.config.numbers.places)?;
        (!matches!(place, Place::Watch(..)) || device.supervises).then_some(place)
    }

    /// The device that is called, for those who may call one.
    pub(crate) fn to_device(&self, query: &RouteQuery<'_>) -> Option<Result<Target, Refusal>> {
        if origin(query) == Origin::Unknown {
            return None;
        }
        let called = self.called(query);
        let device = self.accounts.named(query.user).or_else(|| self.accounts.named(&called))?;
        let (inside, outside) = self.callers(query);
        let (diverted, is_sent_on, signed) = (query.diverted.to_vec(), false, Vec::new());
        let (origin, source, invite) = (origin(query), Some(query.source.remote.ip()), query.request);
        let way = Way { called: &called, inside, outside, diverted, is_sent_on, signed, origin, source, invite };
        Some(self.devices(&[&device], QueueOrder::AtOnce, None, &way).map(|plan| Target::Dial(Arc::new(plan))))
    }

    fn follow(&self, rule: &RouteConfig, way: &Way<'_>) -> Result<Target, Refusal> {
        let dial = |plan: Result<DialPlan, Refusal>| plan.map(|plan| Target::Dial(Arc::new(plan)));
        match &rule.to {
            RouteTo::Agent(name) => Ok(Target::Agent(name.clone())),
            RouteTo::Echo => Ok(Target::Echo),
            RouteTo::Room(name) => Ok(Target::Place(Place::Room(name.clone()))),
            RouteTo::Queue(_) if let Some(queue) = self.line_of(rule, way.invite) => {
                Ok(Target::Place(Place::Queue(Arc::new(queue))))
            }
            RouteTo::Reject(code) => Err(Refusal::new(*code, EndReason::NotAllowed)),
            _ => dial(self.plan_of(rule, way)),
        }
    }

    /// How those are called whom a rule names.
    fn plan_of(&self, rule: &RouteConfig, way: &Way<'_>) -> Result<DialPlan, Refusal> {
        match &rule.to {
            RouteTo::User(name) => self.users(std::slice::from_ref(name), rule, way),
            RouteTo::Queue(names) => {
                let plan = self.users(names, rule, way)?;
                Ok(DialPlan { queue: rule.queue().map(|queue| queue.name.into()), ..plan })
            }
            RouteTo::Trunk(groups) => self.carriers(groups, way),
            RouteTo::Agent(_) | RouteTo::Echo | RouteTo::Room(_) | RouteTo::Reject(_) => {
                Err(Refusal::new(404, EndReason::UnknownNumber))
            }
        }
    }

    fn users(&self, names: &[String], rule: &RouteConfig, way: &Way<'_>) -> Result<DialPlan, Refusal> {
        let devices: Vec<Device> = names.iter().filter_map(|name| self.accounts.named(name)).collect();
        self.devices(&devices.iter().map(|device| &**device).collect::<Vec<_>>(), rule.ring, rule.ring_for(), way)
    }

    fn devices(
        &self,
        devices: &[&DeviceConfig],
        order: QueueOrder,
        ring_for: Option<std::time::Duration>,
        way: &Way<'_>,
    ) -> Result<DialPlan, Refusal> {
        let ring_for = ring_for.unwrap_or(self.config.registrar.ring_for());
        let of_each = devices.iter().map(|device| self.branches(device, way)).filter(|branches| !branches.is_empty());
        let groups: Vec<DialGroup> = match order {
            QueueOrder::InTurn | QueueOrder::LongestIdle => {
                of_each.map(|branches| DialGroup { branches, ring_for }).collect()
            }
            QueueOrder::AtOnce => {
                let branches: Vec<DialBranch> = of_each.flatten().collect();
                if branches.is_empty() { Vec::new() } else { vec![DialGroup { branches, ring_for }] }
            }
        };
        if groups.is_empty() {
            return Err(Refusal::new(480, EndReason::Unreachable).with_detail("no phone is registered there"));
        }
        let also_after = if devices.len() > 1 { QUEUE_GOES_ON_AFTER.to_vec() } else { Vec::new() };
        Ok(DialPlan { groups, also_after, queue: None })
    }

    /// One branch for each phone of a device's account.
    fn branches(&self, device: &DeviceConfig, way: &Way<'_>) -> Vec<DialBranch> {
        let branch = |(at, binding): (usize, Binding)| {
            let domain = domain_of(&binding, &self.config);
            let from = identity::for_device(&way.inside, domain);
            let address = format!("sip:{}@{domain}", device.user);
            let label = format!("device {}/{}", device.user, at + 1);
            let mut branch = DialBranch::new(label, binding.uri.clone(), from);
            branch.to = Some(format!("<{address}>"));
            branch.headers = passed_to_device(way.invite);
            branch.headers.extend(history::for_device(&way.diverted, &address, domain));
            branch.codecs = Some(device.codecs.clone()).filter(|codecs| !codecs.is_empty());
            branch.srtp = device.srtp;
            branch.next_hop = next_hop(&binding);
            branch.device = Some(device.user.clone());
            if !binding.path.is_empty() {
                branch.headers.push(("Route".to_owned(), binding.path.join(", ")));
            }
            branch
        };
        self.accounts.bindings(&device.user).into_iter().enumerate().map(branch).collect()
    }

    /// Every host of every trunk in order: groups as the rule has them, trunks within one by weight, hosts of one by priority and
    /// weight; those that do not answer at present last.
    fn carriers(&self, groups: &[Vec<(String, u32)>], way: &Way<'_>) -> Result<DialPlan, Refusal> {
        if way.is_ours() {
            self.may_call(way.called)?;
        }
        let mut plan = DialPlan::default();
        for group in groups {
            for name in by_weight(group.iter().map(|(name, weight)| (name, 0, *weight)).collect()) {
                let Some(trunk) = self.trunks.named(name) else { continue };
                let hosts = trunk.config.hosts.iter().enumerate();
                let hosts = hosts.map(|(at, host)| {
                    let is_down = u32::from(!trunk.is_up(at)) << 16;
                    (at, is_down | u32::from(host.priority), u32::from(host.weight))
                });
                for host in by_weight(hosts.collect()) {
                    let branches = vec![self.carrier(&trunk, host, way)];
                    plan.groups.push(DialGroup { branches, ring_for: trunk.config.ring_for() });
                }
                plan.also_after.extend(&trunk.config.failover_codes);
            }
        }
        if plan.groups.is_empty() {
            return Err(Refusal::new(503, EndReason::Unreachable));
        }
        Ok(plan)
    }

    /// The branch to one host of a trunk.
    fn carrier(&self, trunk: &Arc<Trunk>, host: usize, way: &Way<'_>) -> DialBranch {
        let uri = trunk.config.hosts.get(host).map(|host| host.uri.as_str()).unwrap_or_default();
        let mut branch = carrier_branch(trunk, (Some(host), uri), &called_out(way.called, &trunk.config), way);
        branch.headers.extend(self.signatures(trunk, way));
        branch.sent_on = self.sent_on(trunk, host, way);
        branch
    }

    /// The number that was called, as we write numbers.
    fn called(&self, query: &RouteQuery<'_>) -> String {
        if let Some(trunk) = query.trunk.and_then(|name| self.trunks.named(name)) {
            let rewritten = Rewrite::first(&trunk.config.called_in, query.user);
            return incoming(&rewritten, &trunk);
        }
        let device = query.device.and_then(|name| self.accounts.named(name));
        numbers::to_e164(query.user, device.and_then(|device| numbers::country(&device.country)))
    }

    /// Who calls, as phones are shown it and as carriers are.
    fn callers(&self, query: &RouteQuery<'_>) -> (Caller, Caller) {
        let sent = |trusted| query.request.map(|invite| identity::caller(invite, trusted)).unwrap_or_default();
        if let Some(device) = query.device.and_then(|name| self.accounts.named(name)) {
            let is_private = sent(true).is_private;
            let shown = |number: &str| Caller {
                number: number.to_owned(),
                display: device.display_name.clone(),
                is_private,
                verstat: None,
            };
            return (shown(&device.user), shown(device.shown_number().unwrap_or(&device.user)));
        }
        if let Some(trunk) = query.trunk.and_then(|name| self.trunks.named(name)) {
            let mut caller = sent(trunk.config.identity == IdentityPolicy::Trusted);
            caller.number = incoming(&Rewrite::first(&trunk.config.caller_in, &caller.number), &trunk);
            caller.is_private |= caller.number == "anonymous";
            caller.verstat = query.verdict.map(|verdict| verdict.verdict.verstat());
            return (caller.clone(), caller);
        }
        let caller = sent(false);
        (caller.clone(), caller)
    }
}

impl Dialer for Router {
    fn plan(&self, target: &str, on_behalf: &Party) -> Result<DialPlan, Refusal> {
        let Some(wanted) = self.wanted(target, on_behalf) else {
            // Who may pass calls on may not pass them to anywhere.
            return if on_behalf.device.is_none() {
                self.may_call(target)?;
                Direct.plan(target, on_behalf)
            } else {
                Err(Refusal::new(403, EndReason::NotAllowed))
            };
        };
        let Wanted { name, called, caller, origin, found } = wanted;
        let number = found.as_ref().map_or(called.as_str(), |(_, number)| number);
        let diverted: Vec<_> = on_behalf.diverted.iter().map(|by| self.by_number(by)).collect();
        let (is_sent_on, signed) = (!diverted.is_empty(), on_behalf.signed.clone());
        let inside = on_behalf.seen_inside.clone().unwrap_or_else(|| caller.clone());
        // A phone passes on a caller who is not to be known.
        let is_private = inside.is_private && on_behalf.device.is_some();
        let outside = Caller { is_private, ..caller.clone() };
        let source = on_behalf.source.map(|source| source.remote.ip());
        let way = Way { called: number, inside, outside, diverted, is_sent_on, signed, origin, source, invite: None };
        if let Some((rule, _)) = &found {
            return self.plan_of(rule, &way);
        }
        match self.accounts.named(&name).or_else(|| self.accounts.named(&called)).filter(|_| origin != Origin::Unknown)
        {
            Some(device) => self.devices(&[&device], QueueOrder::AtOnce, None, &way),
            None => Err(Refusal::new(404, EndReason::UnknownNumber)),
        }
    }

    fn phones(&self, device: &str, on_behalf: &Party) -> Option<DialPlan> {
        let device = self.accounts.named(device)?;
        let caller = on_behalf.seen_inside.clone().unwrap_or_default();
        self.phones_of(&device, &device.user, caller, on_behalf.diverted.clone()).ok()
    }

    fn place(&self, target: &str, on_behalf: &Party) -> Option<Place> {
        let wanted = self.wanted(target, on_behalf).filter(|_| on_behalf.is_ours());
        let rule = wanted.and_then(|wanted| wanted.found).map(|(rule, _)| rule);
        if let Some(queue) = rule.and_then(|rule| self.line_of(rule, None)) {
            return Some(Place::Queue(Arc::new(queue)));
        }
        let name = self.name_in(target, on_behalf).filter(|_| on_behalf.is_ours() && self.config.numbers.places)?;
        Place::passed_to(&name)
    }

    fn converser(&self, target: &str, on_behalf: &Party) -> Option<Converser> {
        let wanted = self.wanted(target, on_behalf).filter(|_| on_behalf.is_ours())?;
        match wanted.found.map(|(rule, _)| &rule.to) {
            Some(RouteTo::Agent(name)) => Some(Converser::Agent(name.clone())),
            Some(_) => None,
            None => Some(Converser::Own(wanted.name)),
        }
    }
}

/// Whom somebody wants, and the rule for it.
struct Wanted<'a> {
    name: String,
    called: String,
    caller: Caller,
    origin: Origin<'a>,
    found: Option<(&'a RouteConfig, String)>,
}

impl Router {
    /// Whom a target means that is ours to find.
    fn wanted<'a>(&'a self, target: &str, on_behalf: &'a Party) -> Option<Wanted<'a>> {
        let name = self.name_in(target, on_behalf)?;
        let origin = match (&on_behalf.source, &on_behalf.device, &on_behalf.trunk) {
            (_, Some(device), _) => Origin::Device(device),
            (None, ..) => Origin::Agent,
            (_, _, Some(trunk)) => Origin::Trunk(trunk),
            _ => Origin::Unknown,
        };
        let (number, display) = (user_of(&on_behalf.uri), on_behalf.display.clone());
        let caller = Caller { number, display, ..Caller::default() };
        let country = on_behalf.device.as_deref().and_then(|name| self.accounts.named(name));
        let called = numbers::to_e164(&name, country.and_then(|device| numbers::country(&device.country)));
        let asked = Asked {
            origin,
            source: on_behalf.source.map(|source| source.remote.ip()),
            caller: &caller.number,
            called: &called,
            diverted: &on_behalf.diverted,
            at: SystemTime::now(),
        };
        let found = rules::first(&self.config.routes, &asked);
        Some(Wanted { name, called, caller, origin, found })
    }

    /// The same, a device of ours by the number that it shows outside.
    fn by_number(&self, by: &Diverted) -> Diverted {
        let device = self.accounts.named(&by.number);
        let number = device.as_deref().and_then(DeviceConfig::shown_number).unwrap_or(&by.number);
        Diverted { number: number.to_owned(), ..by.clone() }
    }

    /// The name or number in a target that is ours to find: a bare one, a tel URI's, one of our own domain, or of the one that the device
    /// knows us by on whose behalf it is looked for.
    fn name_in(&self, target: &str, on_behalf: &Party) -> Option<String> {
        if target.get(..4).is_some_and(|scheme| scheme.eq_ignore_ascii_case("tel:")) {
            return Some(user_of(target));
        }
        if !target.starts_with("sip:") && !target.starts_with("sips:") {
            return Some(target.split(';').next().unwrap_or_default().to_lowercase());
        }
        let uri = sip::Uri::parse(target).ok()?;
        let is_ours = uri.host().eq_ignore_ascii_case(&self.config.registrar.realm)
            || (on_behalf.local.is_some() && uri.host_ip() == on_behalf.local)
            || on_behalf.device.as_deref().is_some_and(|device| self.accounts.knows_us_as(device, &uri));
        is_ours.then(|| user_of(target))
    }
}

fn origin<'a>(query: &RouteQuery<'a>) -> Origin<'a> {
    match (query.device, query.trunk) {
        (Some(device), _) => Origin::Device(device),
        (None, Some(trunk)) => Origin::Trunk(trunk),
        (None, None) => Origin::Unknown,
    }
}

/// A number that came by a trunk, as we write numbers.
fn incoming(number: &str, trunk: &Trunk) -> String {
    match trunk.config.numbers_in {
        NumberForm::E164 => numbers::to_e164(number, numbers::country(&trunk.config.country)),
        _ => number.to_owned(),
    }
}

/// Where a binding leads: by its proxies, by the way that it came, or to its Contact.
pub(crate) fn next_hop(binding: &Binding) -> NextHop {
    let first = binding.path.first().and_then(|path| sip::NameAddr::parse(path).ok());
    if let Some(path) = first {
        return NextHop::Resolve(path.uri_text.to_owned());
    }
    match binding.source.filter(|_| binding.is_direct) {
        Some(source) => NextHop::Flow {
            destination: Destination {
                transport: source.transport,
                flow: Some(source.flow),
                target: Peer::Address(source.remote),
            },
            local: source.local,
        },
        None => NextHop::Resolve(binding.uri.clone()),
    }
}

/// What a phone of ours is told of the caller's headers.
fn passed_to_device(invite: Option<&Message>) -> Vec<(String, String)> {
    let Some(invite) = invite else { return Vec::new() };
    let wanted = ["User-to-User", "Subject", "Alert-Info"];
    let is_wanted = |name: &str| wanted.iter().any(|own| own.eq_ignore_ascii_case(name));
    let hops = invite.max_forwards().unwrap_or(70).saturating_sub(1);
    let passed = invite.all_headers().filter(|(name, _)| is_wanted(name));
    let passed = passed.map(|(name, value)| (name.to_owned(), value.to_owned()));
    passed.chain([("Max-Forwards".to_owned(), hops.to_string())]).collect()
}

/// A number that is called, as a trunk wants it written.
fn called_out(number: &str, trunk: &TrunkConfig) -> String {
    let number = numbers::write(number, trunk.numbers_out, numbers::country(&trunk.country));
    Rewrite::first(&trunk.called_out, &number)
}

/// The branch to this number at this address of a trunk's, which may be that of one of its hosts.
fn carrier_branch(trunk: &Arc<Trunk>, (host, uri): (Option<usize>, &str), number: &str, way: &Way<'_>) -> DialBranch {
    let config = &trunk.config;
    let at = uri.split_once(':').map_or(uri, |(_, rest)| rest);
    let (from, mut headers) = identity::for_trunk(&way.outside, config);
    headers.extend(identity::passed_on(way.invite, config));
    let target = format!("sip:{number}@{at}");
    headers.extend(history::for_trunk(&way.diverted, &target, config));
    let mut branch = DialBranch::new(format!("trunk {}", config.name), target, from);
    branch.carrier = Some((config.name.clone(), way.called.to_owned()));
    branch.headers = headers;
    branch.next_hop = NextHop::Resolve(uri.to_owned());
    branch.codecs = Some(config.codecs.clone()).filter(|codecs| !codecs.is_empty());
    branch.srtp = config.srtp;
    if !config.username.is_empty() {
        branch.credentials = Some(sip::auth::Credentials {
            username: config.username.clone(),
            password: config.password.reveal().to_owned(),
        });
    }
    let (admitting, noting) = (Arc::clone(trunk), Arc::clone(trunk));
    branch.admit = Some(Arc::new(move || admitting.admit().map(Some)));
    branch.on_result = host
        .map(|host| -> Arc<dyn Fn(BranchResult) + Send + Sync> { Arc::new(move |result| noting.note(host, result)) });
    branch
}

/// Things in the order of their priorities; within one, by chance in proportion to their weights.
fn by_weight<T>(mut things: Vec<(T, u32, u32)>) -> Vec<T> {
    things.sort_by_key(|(_, priority, _)| *priority);
    let mut ordered = Vec::with_capacity(things.len());
    while let Some(priority) = things.first().map(|(_, priority, _)| *priority) {
        let same = things.iter().take_while(|(_, other, _)| *other == priority).count();
        let total: u64 = things.iter().take(same).map(|(.., weight)| u64::from(*weight)).sum();
        let picked = RandomState::new().build_hasher().finish() % total.max(1);
        let mut sum = 0;
        let at = things.iter().take(same).position(|(.., weight)| {
            sum += u64::from(*weight);
            sum > picked
        });
        ordered.push(things.remove(at.unwrap_or(0)).0);
    }
    ordered
}
