//! Hands each call its signalling. It runs on the SIP thread itself, so an event costs no way to another thread; it never
//! blocks there. Calls that need nothing but signalling and the media worker run there too; calls with an agent or
//! with code of an embedding program run on the server's own threads, where they may take their time.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, OnceLock};
use std::time::{Instant, SystemTime};

use sip::endpoint::{CallId, Endpoint, Event};
use tokio::sync::mpsc;

use crate::call::driver::{CALL_QUEUE, Driver, Incoming, record_refusal};
use crate::call::inbound::{self, Facts};
use crate::call::route::{RouteQuery, Target};
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
        let mut calls: HashMap<CallId, mpsc::Sender<Event>> = HashMap::new();
        sip::io::SipStack::bind_with(config, move |endpoint, now, event| {
            dispatch(hub.wait(), &own_threads, &mut calls, endpoint, now, event);
        })
    }

    /// From here on calls are taken.
    pub(crate) fn begin(&self, hub: &Arc<Hub>) {
        // Only the first hub counts, and a dispatcher serves one server.
        let _ = self.hub.set(Arc::clone(hub));
    }
}

fn dispatch(
    hub: &Arc<Hub>,
    own_threads: &tokio::runtime::Handle,
    calls: &mut HashMap<CallId, mpsc::Sender<Event>>,
    endpoint: &mut Endpoint,
    now: Instant,
    event: Event,
) {
    let Some(call) = event.call() else {
        tracing::debug!("signalling outside of calls that nobody waits for");
        return;
    };
    if let Event::Incoming { request, from_uri, request_uri, source, offer, .. } = event {
        let incoming = Incoming { call, request, from_uri, request_uri, source, offer };
        if let Some(sender) = begin(hub, own_threads, endpoint, now, incoming) {
            calls.insert(call, sender);
        }
        return;
    }
    let is_over = matches!(event, Event::Ended { .. });
    if let Some(sender) = calls.get(&call)
        && let Err(mpsc::error::TrySendError::Full(_)) = sender.try_send(event)
    {
        tracing::error!("a call's signalling came faster than it could be handled: it is ended");
        if let Err(fault) = endpoint.bye(now, call, None) {
            tracing::debug!("it had ended already: {fault}");
        }
        calls.remove(&call);
    }
    if is_over {
        calls.remove(&call);
    }
}

/// Admits or refuses a call that came in.
fn begin(
    hub: &Arc<Hub>,
    own_threads: &tokio::runtime::Handle,
    endpoint: &mut Endpoint,
    now: Instant,
    mut incoming: Incoming,
) -> Option<mpsc::Sender<Event>> {
    let user = crate::call::sound::user_of(&incoming.request_uri);
    let facts = Facts {
        query: RouteQuery {
            user: &user,
            request_uri: &incoming.request_uri,
            from_uri: &incoming.from_uri,
            source: incoming.source,
            trunk: None,
            request: Some(&incoming.request),
            at: SystemTime::now(),
        },
        running: hub.running(),
        stopping: hub.stopping.load(Ordering::Relaxed),
    };
    match inbound::admit(&hub.config, facts, hub.as_ref()) {
        Ok(target) => {
            let (sender, receiver) = mpsc::channel(CALL_QUEUE);
            let (guard, commands) = hub.enter(incoming.call);
            let offer = incoming.offer.take();
            let needs_own_thread = matches!(target, Target::Agent(_) | Target::App(_));
            let driver = Driver::new(Arc::clone(hub), &incoming, target);
            let run = async move {
                driver.run(offer, receiver, commands).await;
                drop(guard);
            };
            if needs_own_thread {
                own_threads.spawn(run);
            } else {
                tokio::spawn(run);
            }
            Some(sender)
        }
        Err(refusal) => {
            reject(endpoint, now, incoming.call, refusal.code);
            record_refusal(&hub.records, &incoming, &refusal);
            None
        }
    }
}

fn reject(endpoint: &mut Endpoint, now: Instant, call: CallId, code: u16) {
    if let Err(fault) = endpoint.reject(now, call, code, "", &[]) {
        tracing::debug!("a call that was to be refused with {code} had ended already: {fault}");
    }
}
