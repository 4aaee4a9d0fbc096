//! Hands each call its signalling. It runs on the SIP thread itself, so an event costs no way to another thread; it never
//! blocks there. Calls that need nothing but signalling and the media worker run there too; calls with an agent or
//! with code of an embedding program run on the server's own threads, where they may take their time.

use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use std::time::{Instant, SystemTime};

use sip::Method;
use sip::endpoint::{CallId, Endpoint, Event, Source, Transport};
use sip::guard::Failure;

use crate::accounts::Reply;
use crate::call::dial::Lease;
use crate::call::driver::{Driver, Incoming, record_refusal};
use crate::call::end::EndReason;
use crate::call::inbound::{self, Facts, Refusal};
use crate::call::route::{RouteQuery, Target};
use crate::call::switchboard::Delivery;
use crate::hub::Hub;
use crate::messages;
use crate::routing::history::History;
use crate::routing::numbers::user_of;
use crate::stir::Stir;
use crate::trunks::Trunk;
use crate::watchers::Package;

/// Signalling's way to the calls. The hub comes right after the sockets are bound: an INVITE in between waits for it.
#[derive(Debug, Default)]
pub(crate) struct Dispatcher {
    hub: Arc<OnceLock<Arc<Hub>>>,
}

impl Dispatcher {
    /// Binds the sockets and starts signalling.
    ///
    /// # Errors
    /// An address that cannot be had, and what to do about it.
    pub(crate) fn bind(&self, config: sip::io::StackConfig) -> Result<sip::io::SipHandle, sip::io::BindError> {
        let hub = Arc::clone(&self.hub);
        let own_threads = tokio::runtime::Handle::current();
        sip::io::SipStack::bind_with(config, move |endpoint, now, event| {
            dispatch(hub.wait(), &own_threads, endpoint, now, event);
        })
    }

    /// From here on calls are taken.
    pub(crate) fn begin(&self, hub: &Arc<Hub>) {
        // Only the first hub counts, and a dispatcher serves one server.
        let _ = self.hub.set(Arc::clone(hub));
    }
}

fn dispatch(hub: &Arc<Hub>, own_threads: &tokio::runtime::Handle, endpoint: &mut Endpoint, now: Instant, event: Event) {
    let Some(call) = event.call() else { return outside_of_calls(hub, own_threads, endpoint, now, event) };
    if let Event::Incoming { request, from_uri, request_uri, source, offer, replaces, .. } = event {
        let replaces = replaces.map(|replaces| replaces.call);
        let incoming = Incoming {
            call,
            request,
            from_uri,
            request_uri,
            source,
            offer,
            replaces,
            verdict: None,
            trunk: None,
            device: None,
            history: History::default(),
            lease: None,
        };
        begin(hub, own_threads, endpoint, now, incoming);
        return;
    }
    if hub.switchboard.deliver(call, event) == Delivery::Full {
        tracing::error!("a call's signalling came faster than it could be handled: it is ended");
        if let Err(fault) = endpoint.bye(now, call, None) {
            tracing::debug!("it had ended already: {fault}");
        }
    }
}

/// Registrations, answers to requests of ours, and connections that are gone.
fn outside_of_calls(
    hub: &Arc<Hub>,
    own_threads: &tokio::runtime::Handle,
    endpoint: &mut Endpoint,
    now: Instant,
    event: Event,
) {
    match (event, &hub.accounts) {
        (Event::Request { request, message, source }, Some(_)) if message.method() == Some(&Method::Message) => {
            messages::receive(hub, own_threads, endpoint, now, (request, message, source));
        }
        (Event::Subscribed { subscription, package, expires, request, source }, _) => {
            hub.watchers.subscribed(hub, endpoint, now, subscription, (&package, expires, &request, &source));
        }
        (Event::SubscriptionEnded { subscription, .. }, _) => hub.watchers.ended(subscription),
        (Event::Request { request, message, source }, Some(accounts)) => {
            let reply = accounts.register(&message, &source);
            note_credentials(hub, &source, reply.has_failed, reply.code == 200);
            let answered = endpoint.respond_request(now, request, reply.code, reply.reason, &reply.headers, None);
            if let Err(fault) = answered {
                tracing::debug!("a registration was answered too late: {fault}");
            }
            if reply.code == 200 {
                let device = message.to().map(|to| sip::uri::user_of(to.uri_text)).unwrap_or_default();
                hub.watchers.tell(hub, endpoint, now, &device, Package::Registrations);
            }
        }
        (Event::Response { request, code, response }, _) => hub.asker.answered(request, code, response),
        (Event::FlowClosed { flow }, Some(accounts)) => accounts.flow_closed(flow),
        _ => tracing::debug!("signalling outside of calls that nobody waits for"),
    }
}

/// Tells the guard of a password that was wrong, or right.
pub(crate) fn note_credentials(hub: &Hub, source: &Source, were_wrong: bool, were_right: bool) {
    let Some(door) = &hub.door else { return };
    if were_wrong {
        door.failed(source.remote.ip(), Failure::Credentials);
    } else if were_right {
        door.succeeded(source.remote.ip());
    }
}

/// Whose call it is.
#[derive(Default)]
struct Origin {
    trunk: Option<Arc<Trunk>>,
    device: Option<String>,
}

/// The trunk that a request to this URI comes by, as far as its way says so. A phone behind the address of a carrier, or of another exchange of
/// the house, is known by the socket that it registered from.
pub(crate) fn trunk_of(hub: &Hub, source: &Source, claimed: &str, request_uri: &str) -> Option<Arc<Trunk>> {
    let certified = match source.transport {
        Transport::Tls | Transport::Wss => hub.sip.certified_names(source.flow),
        _ => None,
    };
    let is_phone = || hub.accounts.as_ref().is_some_and(|accounts| accounts.is_registered_at(claimed, source.remote));
    let trunks = hub.routing().trunks;
    trunks.of_source(source.remote.ip(), certified.as_deref(), request_uri).filter(|_| !is_phone())
}

/// Finds out whose call it is, as far as that can be known.
///
/// # Errors
/// The challenge to answer with, or a refusal.
fn identify(hub: &Hub, incoming: &Incoming) -> Result<Origin, Reply> {
    let source = &incoming.source;
    let claimed = || sip::uri::user_of(&incoming.from_uri);
    if let Some(trunk) = trunk_of(hub, source, &claimed(), &incoming.request_uri) {
        return Ok(Origin { trunk: Some(trunk), device: None });
    }
    let trunks = hub.routing().trunks;
    let Some(accounts) = hub.accounts.as_ref().filter(|accounts| accounts.ask_for_names()) else {
        return Ok(Origin::default());
    };
    let Some(user) = accounts.identify(&incoming.request)? else {
        // Nobody calls in a device's name who cannot prove it.
        return match accounts.named(&claimed()) {
            Some(_) => Err(accounts.challenge()),
            None => Ok(Origin::default()),
        };
    };
    note_credentials(hub, source, false, true);
    if let Some(trunk) = trunks.of_user(&user) {
        return Ok(Origin { trunk: Some(trunk), device: None });
    }
    let device = accounts
        .named(&user)
        .filter(|device| device.networks.iter().any(|network| network.contains(source.remote.ip())));
    match device {
        Some(device) => Ok(Origin { trunk: None, device: Some(device.user.clone()) }),
        None => Err(Reply::refusal(403)),
    }
}

/// Admits or refuses a call that came in.
fn begin(
    hub: &Arc<Hub>,
    own_threads: &tokio::runtime::Handle,
    endpoint: &mut Endpoint,
    now: Instant,
    incoming: Incoming,
) {
    let origin = match identify(hub, &incoming) {
        Ok(origin) => origin,
        Err(reply) => {
            note_credentials(hub, &incoming.source, reply.has_failed, false);
            return reject(endpoint, now, incoming.call, (reply.code, ""), &reply.headers);
        }
    };
    match hub.stir.clone().filter(|stir| stir.verifies() && origin.trunk.is_some()) {
        Some(stir) => verify(hub, stir, own_threads, origin, incoming),
        None => route(hub, own_threads, endpoint, now, origin, incoming),
    }
}

/// Finds out whether a call's signature holds; it is admitted, or refused, after that. The caller waits meanwhile.
fn verify(
    hub: &Arc<Hub>,
    stir: Arc<Stir>,
    own_threads: &tokio::runtime::Handle,
    origin: Origin,
    mut incoming: Incoming,
) {
    let (hub, threads) = (Arc::clone(hub), own_threads.clone());
    own_threads.spawn(async move {
        let user = called_user(&origin, &incoming);
        let numbers = hub.routing().router.map(|router| router.numbers(&query(&origin, &incoming, &user)));
        let (caller, called) = numbers.unwrap_or_default();
        let verified = stir.verify(&incoming.request, &caller, &called).await;
        incoming.verdict = Some(verified.verdict);
        let on = Arc::clone(&hub);
        let told = hub.sip.on_thread(move |endpoint, now| {
            if endpoint.dialog_identity(incoming.call).is_none() {
                // The caller has given up meanwhile.
                return;
            }
            let Some((code, phrase)) = verified.refusal else {
                return route(&on, &threads, endpoint, now, origin, incoming);
            };
            reject(endpoint, now, incoming.call, (code, phrase), &[]);
            let why = incoming.verdict.as_ref().map(|verdict| verdict.reason.as_str()).unwrap_or_default();
            let detail = format!("answered {code} {phrase}: {why}");
            let refusal = Refusal::new(code, EndReason::NotAllowed).with_detail(detail.trim_end_matches([':', ' ']));
            record_refusal(&on, &incoming, &refusal);
        });
        if told.is_err() {
            tracing::error!("signalling took no command: a call whose signature was looked at is lost");
        }
    });
}

/// Admits a call whose origin is known, or refuses it.
fn route(
    hub: &Arc<Hub>,
    own_threads: &tokio::runtime::Handle,
    endpoint: &mut Endpoint,
    now: Instant,
    origin: Origin,
    mut incoming: Incoming,
) {
    if let Some(router) = &hub.routing().router {
        let user = called_user(&origin, &incoming);
        incoming.history = router.history(&query(&origin, &incoming, &user));
    }
    match admit(hub, &origin, &incoming) {
        Ok((target, lease)) => {
            incoming.lease = lease;
            incoming.trunk = origin.trunk.as_ref().map(|trunk| trunk.config.name.clone());
            incoming.device = origin.device;
            let seat = hub.enter();
            seat.connect(incoming.call);
            let needs_own_thread = target.converses();
            let run = Driver::answer(Arc::clone(hub), seat, incoming, target);
            if needs_own_thread {
                own_threads.spawn(run);
            } else {
                tokio::spawn(run);
            }
        }
        Err(refusal) => {
            let is_unknown = origin.trunk.is_none() && origin.device.is_none();
            let remote = incoming.source.remote.ip();
            if is_unknown && let Some(trunk) = hub.routing().trunks.only_calls(remote) {
                tracing::warn!(
                    "a call from where trunk {trunk} calls is a stranger's ({}): name its network in the trunk's addresses",
                    refusal.code
                );
            }
            let accounts = hub.accounts.as_ref().filter(|accounts| accounts.ask_for_names());
            if let Some(accounts) = accounts.filter(|_| is_unknown && matches!(refusal.code, 403 | 404)) {
                // Whether somebody is called that here, strangers are not told.
                let reply = accounts.challenge();
                return reject(endpoint, now, incoming.call, (reply.code, ""), &reply.headers);
            }
            if let (404, Some(door)) = (refusal.code, &hub.door) {
                door.failed(incoming.source.remote.ip(), Failure::Number);
            }
            let later = [("Retry-After".to_owned(), "10".to_owned())];
            let headers = if refusal.code == 503 { later.as_slice() } else { &[] };
            reject(endpoint, now, incoming.call, (refusal.code, ""), headers);
            record_refusal(hub, &incoming, &refusal);
        }
    }
}

/// The number that is called, as the call says it.
fn called_user(origin: &Origin, incoming: &Incoming) -> String {
    match &origin.trunk {
        Some(trunk) => trunk.called(&incoming.request),
        None => user_of(&incoming.request_uri),
    }
}

fn query<'a>(origin: &'a Origin, incoming: &'a Incoming, user: &'a str) -> RouteQuery<'a> {
    RouteQuery {
        user,
        request_uri: &incoming.request_uri,
        from_uri: &incoming.from_uri,
        source: incoming.source,
        trunk: origin.trunk.as_ref().map(|trunk| trunk.config.name.as_str()),
        device: origin.device.as_deref(),
        request: Some(&incoming.request),
        diverted: &incoming.history.diverted,
        verdict: incoming.verdict.as_ref(),
        at: SystemTime::now(),
    }
}

/// What answers the call, and its place within the limits of its trunk.
fn admit(hub: &Hub, origin: &Origin, incoming: &Incoming) -> Result<(Target, Option<Lease>), Refusal> {
    let user = called_user(origin, incoming);
    let facts = Facts {
        query: query(origin, incoming, &user),
        running: hub.running(),
        stopping: hub.stopping.load(Ordering::Relaxed),
        replaces: incoming.replaces,
    };
    let lease = match &origin.trunk {
        Some(trunk) => Some(trunk.admit().map_err(|code| Refusal::new(code, EndReason::TooManyCalls))?),
        None => None,
    };
    Ok((inbound::admit(&hub.config, facts, hub)?, lease))
}

fn reject(
    endpoint: &mut Endpoint,
    now: Instant,
    call: CallId,
    (code, phrase): (u16, &str),
    headers: &[(String, String)],
) {
    if let Err(fault) = endpoint.reject(now, call, code, phrase, headers) {
        tracing::debug!("a call that was to be refused with {code} had ended already: {fault}");
    }
}
