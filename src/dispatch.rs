//! Hands each call its signalling. It runs on the SIP thread itself, so an event costs no way to another thread; it never
//! blocks there. Calls that need nothing but signalling and the media worker run there too; calls with an agent or
//! with code of an embedding program run on the server's own threads, where they may take their time.

use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use std::time::{Instant, SystemTime};

use sip::endpoint::{CallId, Endpoint, Event};

use crate::call::driver::{Driver, Incoming, record_refusal};
use crate::call::inbound::{self, Facts};
use crate::call::route::RouteQuery;
use crate::call::switchboard::Delivery;
use crate::hub::Hub;

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
    let Some(call) = event.call() else {
        tracing::debug!("signalling outside of calls that nobody waits for");
        return;
    };
    if let Event::Incoming { request, from_uri, request_uri, source, offer, .. } = event {
        let incoming = Incoming { call, request, from_uri, request_uri, source, offer };
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

/// Admits or refuses a call that came in.
fn begin(
    hub: &Arc<Hub>,
    own_threads: &tokio::runtime::Handle,
    endpoint: &mut Endpoint,
    now: Instant,
    incoming: Incoming,
) {
    let user = crate::call::sound::user_of(&incoming.request_uri);
    let facts = Facts {
        query: RouteQuery {
            user: &user,
            request_uri: &incoming.request_uri,
            from_uri: &incoming.from_uri,
            source: incoming.source,
            trunk: None,
            device: None,
            request: Some(&incoming.request),
            at: SystemTime::now(),
        },
        running: hub.running(),
        stopping: hub.stopping.load(Ordering::Relaxed),
    };
    match inbound::admit(&hub.config, facts, hub.as_ref()) {
        Ok(target) => {
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
            reject(endpoint, now, incoming.call, refusal.code);
            record_refusal(hub, &incoming, &refusal);
        }
    }
}

fn reject(endpoint: &mut Endpoint, now: Instant, call: CallId, code: u16) {
    if let Err(fault) = endpoint.reject(now, call, code, "", &[]) {
        tracing::debug!("a call that was to be refused with {code} had ended already: {fault}");
    }
}
