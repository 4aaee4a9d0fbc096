//! What the rest of the program commands a stack with.

mod outside;

use std::collections::HashMap;
use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use bytes::Bytes;
use thiserror::Error;
use tokio::sync::{mpsc, oneshot};

use super::hub::{FIRST_FLOW, StackStats};
use super::resolve::{ResolveError, Resolver, local_ip_towards};
use super::{Listen, ReplyTo};
use crate::address::as_seen;
use crate::endpoint::{CallId, CommandError, Destination, Endpoint, FlowId, OutgoingCall, Target, Transport};

/// A step of the endpoint.
type Step = Box<dyn FnOnce(&mut Endpoint, Instant) + Send>;

/// Something for the thread to do.
pub(super) enum Command {
    /// On the endpoint.
    Run(Step),
    Stats(ReplyTo<StackStats>),
    Drain(bool),
    Shutdown(ReplyTo<()>),
}

/// What handles share.
#[derive(Debug)]
pub(super) struct Shared {
    local: Vec<Listen>,
    pub(super) resolver: Resolver,
    public: Mutex<Option<IpAddr>>,
    /// What the certificates of peers prove, by connection.
    names: Mutex<HashMap<FlowId, Arc<[String]>>>,
}

impl Shared {
    pub(super) fn new(local: Vec<Listen>, resolver: Resolver, public: Option<IpAddr>) -> Self {
        Self { local, resolver, public: Mutex::new(public), names: Mutex::default() }
    }

    pub(super) fn listening(&self) -> &[Listen] {
        &self.local
    }

    pub(super) fn public(&self) -> Option<IpAddr> {
        *self.public.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn keep_names(&self, flow: FlowId, names: Vec<String>) {
        self.names.lock().unwrap_or_else(PoisonError::into_inner).insert(flow, names.into());
    }

    pub(super) fn forget_names(&self, flow: FlowId) {
        self.names.lock().unwrap_or_else(PoisonError::into_inner).remove(&flow);
    }
}

/// Why a command did not reach the stack.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum HandleError {
    /// The stack has stopped.
    #[error("the SIP stack has stopped")]
    Stopped,
    /// Too many commands wait.
    #[error("the SIP stack is overloaded: its commands' queue is full")]
    Full,
}

/// Why a call was not placed, or a request not sent.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum InviteError {
    /// The stack did not take the command.
    #[error(transparent)]
    Handle(#[from] HandleError),
    /// The endpoint did not.
    #[error(transparent)]
    Command(#[from] CommandError),
}

/// A way to a peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Route {
    /// For [`OutgoingCall::destination`].
    pub destination: Destination,
    /// The peer's address.
    pub remote: SocketAddr,
    /// Ours, as the peer can reach it: for [`OutgoingCall::local`], and its IP for media.
    pub local: SocketAddr,
}

/// A call that was placed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Placed {
    /// By which it is commanded.
    pub call: CallId,
    /// Its Call-ID on the wire.
    pub sip_call_id: String,
}

/// Commands to a stack. Cheap to clone; when the last one is gone, the stack stops.
///
/// Commands on calls are carried out in order and answer nothing: one that comes too late (for a call that ended
/// meanwhile) is dropped, and the call's `Ended` tells what happened instead.
#[derive(Clone)]
pub struct SipHandle {
    commands: mpsc::Sender<Command>,
    shared: Arc<Shared>,
}

impl fmt::Debug for SipHandle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SipHandle").field("listen", &self.shared.local).finish_non_exhaustive()
    }
}

impl SipHandle {
    pub(super) fn new(commands: mpsc::Sender<Command>, shared: Arc<Shared>) -> Self {
        Self { commands, shared }
    }

    /// What is listened on, with the ports that port 0 became.
    pub fn listening(&self) -> &[Listen] {
        &self.shared.local
    }

    /// The UDP sockets' addresses and flows, for bindings that are kept over a restart.
    pub fn udp_flows(&self) -> Vec<(SocketAddr, FlowId)> {
        let udp = self.shared.local.iter().filter(|listen| listen.transport == Transport::Udp);
        udp.zip(FIRST_FLOW..).map(|(listen, flow)| (listen.address, FlowId(flow))).collect()
    }

    /// Our address as those see it who are outside.
    pub fn public(&self) -> Option<IpAddr> {
        self.shared.public()
    }

    /// Our public address has changed: what is sent from now on names the new one.
    pub fn set_public(&self, public: Option<IpAddr>) {
        *self.shared.public.lock().unwrap_or_else(PoisonError::into_inner) = public;
    }

    /// The names that the certificate of a peer proves, of a connection by TLS that it showed one on.
    pub fn certified_names(&self, flow: FlowId) -> Option<Arc<[String]>> {
        self.shared.names.lock().unwrap_or_else(PoisonError::into_inner).get(&flow).cloned()
    }

    /// See [`Endpoint::ring`].
    ///
    /// # Errors
    /// [`HandleError`]; so with every command.
    pub fn ring(&self, call: CallId, code: u16, sdp: Option<Bytes>) -> Result<(), HandleError> {
        self.run(move |endpoint, now| endpoint.ring(now, call, code, sdp))
    }

    /// See [`Endpoint::answer`].
    ///
    /// # Errors
    /// [`HandleError`].
    pub fn answer(&self, call: CallId, sdp: Bytes) -> Result<(), HandleError> {
        self.run(move |endpoint, now| endpoint.answer(now, call, sdp))
    }

    /// See [`Endpoint::reject`].
    ///
    /// # Errors
    /// [`HandleError`].
    pub fn reject(
        &self,
        call: CallId,
        code: u16,
        reason: &str,
        headers: Vec<(String, String)>,
    ) -> Result<(), HandleError> {
        let reason = reason.to_owned();
        self.run(move |endpoint, now| endpoint.reject(now, call, code, &reason, &headers))
    }

    /// See [`Endpoint::bye`].
    ///
    /// # Errors
    /// [`HandleError`].
    pub fn bye(&self, call: CallId, reason: Option<String>) -> Result<(), HandleError> {
        self.run(move |endpoint, now| endpoint.bye(now, call, reason.as_deref()))
    }

    /// See [`Endpoint::cancel`].
    ///
    /// # Errors
    /// [`HandleError`].
    pub fn cancel(&self, call: CallId) -> Result<(), HandleError> {
        self.run(move |endpoint, now| endpoint.cancel(now, call))
    }

    /// See [`Endpoint::reoffer`].
    ///
    /// # Errors
    /// [`HandleError`].
    pub fn reoffer(&self, call: CallId, sdp: Bytes) -> Result<(), HandleError> {
        self.run(move |endpoint, now| endpoint.reoffer(now, call, sdp))
    }

    /// See [`Endpoint::answer_reoffer`].
    ///
    /// # Errors
    /// [`HandleError`].
    pub fn answer_reoffer(&self, call: CallId, sdp: Bytes) -> Result<(), HandleError> {
        self.run(move |endpoint, now| endpoint.answer_reoffer(now, call, sdp))
    }

    /// See [`Endpoint::reject_reoffer`].
    ///
    /// # Errors
    /// [`HandleError`].
    pub fn reject_reoffer(&self, call: CallId, code: u16) -> Result<(), HandleError> {
        self.run(move |endpoint, now| endpoint.reject_reoffer(now, call, code))
    }

    /// See [`Endpoint::send_info`].
    ///
    /// # Errors
    /// [`HandleError`].
    pub fn send_info(&self, call: CallId, content_type: &str, body: Bytes) -> Result<(), HandleError> {
        let content_type = content_type.to_owned();
        self.run(move |endpoint, now| endpoint.send_info(now, call, &content_type, body))
    }

    /// Finds the ways to a SIP URI (RFC 3263), best first, and the listener to call from by each. At least one.
    ///
    /// # Errors
    /// [`ResolveError`].
    pub async fn routes(&self, uri: &str) -> Result<Vec<Route>, ResolveError> {
        let ways = self.shared.resolver.resolve(uri).await?;
        let host =
            ways.first().map(|way| way.name.as_deref().map_or_else(|| way.address.ip().to_string(), str::to_owned));
        let routes = ways.into_iter().filter_map(|way| {
            let local = self.local_towards(way.transport, way.address)?;
            let target = match way.name {
                Some(name) => Target::Named { name, address: way.address },
                None => Target::Address(way.address),
            };
            let destination = Destination { transport: way.transport, flow: None, target };
            Some(Route { destination, remote: way.address, local })
        });
        let routes: Vec<Route> = routes.collect();
        match routes.is_empty() {
            true => Err(ResolveError::NoAddress { host: host.unwrap_or_default() }),
            false => Ok(routes),
        }
    }

    /// The best of [`routes`](Self::routes).
    ///
    /// # Errors
    /// [`ResolveError`].
    pub async fn resolve(&self, uri: &str) -> Result<Route, ResolveError> {
        let routes = self.routes(uri).await?;
        routes.into_iter().next().ok_or_else(|| ResolveError::NoAddress { host: uri.to_owned() })
    }

    /// Notes that nothing answers there: for a minute other ways to the same peer are tried first.
    pub fn note_dead(&self, route: &Route) {
        self.shared.resolver.note_dead(route.destination.transport, route.remote);
    }

    /// Places a call. Its events may arrive before this returns.
    ///
    /// # Errors
    /// [`InviteError`].
    pub async fn invite(&self, call: OutgoingCall) -> Result<CallId, InviteError> {
        let (reply, answer) = oneshot::channel();
        self.give(Command::Run(Box::new(move |endpoint, now| _ = reply.send(endpoint.invite(now, call)))))?;
        Ok(answer.await.map_err(|_| HandleError::Stopped)??)
    }

    /// Places a call without waiting. `placed` is told on the SIP thread, before any event of the call.
    ///
    /// # Errors
    /// [`HandleError`]; `placed` is then not told.
    pub fn place(
        &self,
        call: OutgoingCall,
        placed: impl FnOnce(Result<Placed, CommandError>) + Send + 'static,
    ) -> Result<(), HandleError> {
        self.give(Command::Run(Box::new(move |endpoint, now| {
            let invited = endpoint.invite(now, call);
            placed(invited.map(|call| Placed {
                call,
                sip_call_id: endpoint.dialog_identity(call).map(|dialog| dialog.call_id).unwrap_or_default(),
            }));
        })))
    }

    /// What the stack holds and has done.
    ///
    /// # Errors
    /// [`HandleError`].
    pub async fn stats(&self) -> Result<StackStats, HandleError> {
        let (reply, answer) = oneshot::channel();
        self.give(Command::Stats(reply))?;
        answer.await.map_err(|_| HandleError::Stopped)
    }

    /// Refuses new calls with 503 from now on, or takes them again.
    ///
    /// # Errors
    /// [`HandleError`].
    pub fn refuse_new_calls(&self, refuse: bool) -> Result<(), HandleError> {
        self.give(Command::Drain(refuse))
    }

    /// Stops the stack: what is queued is sent, sockets are closed, calls are forgotten (hang up first). Returns when
    /// that is done.
    pub async fn shutdown(&self) {
        let (reply, answer) = oneshot::channel();
        if self.commands.send(Command::Shutdown(reply)).await.is_ok() {
            let _ = answer.await;
        }
    }

    /// Runs this on the SIP thread, in its turn: it may not block.
    ///
    /// # Errors
    /// [`HandleError`]; it is then not run.
    pub fn on_thread(&self, run: impl FnOnce(&mut Endpoint, Instant) + Send + 'static) -> Result<(), HandleError> {
        self.give(Command::Run(Box::new(run)))
    }

    pub(super) fn run(
        &self,
        command: impl FnOnce(&mut Endpoint, Instant) -> Result<(), CommandError> + Send + 'static,
    ) -> Result<(), HandleError> {
        self.give(Command::Run(Box::new(move |endpoint, now| {
            if let Err(error) = command(endpoint, now) {
                tracing::debug!(%error, "a command came too late");
            }
        })))
    }

    pub(super) fn give(&self, command: Command) -> Result<(), HandleError> {
        self.commands.try_send(command).map_err(|error| match error {
            mpsc::error::TrySendError::Full(_) => HandleError::Full,
            mpsc::error::TrySendError::Closed(_) => HandleError::Stopped,
        })
    }

    /// The listener to call from, and its address as the peer sees it.
    fn local_towards(&self, transport: Transport, remote: SocketAddr) -> Option<SocketAddr> {
        let fits = |listen: &&Listen| {
            let ip = listen.address.ip();
            (listen.address.is_ipv4() == remote.is_ipv4() || (ip.is_unspecified() && remote.is_ipv4()))
                && (ip.is_unspecified() || ip.is_loopback() == remote.ip().is_loopback())
        };
        let of_transport = self.shared.local.iter().filter(|listen| listen.transport == transport).find(fits);
        // Over TCP we can call out without listening: answers come by the connection.
        let any = || self.shared.local.iter().find(fits).filter(|_| transport.is_reliable());
        let listen = of_transport.or_else(any)?;
        if listen.address.ip().is_unspecified() {
            let ip = local_ip_towards(remote).ok()?;
            return Some(as_seen(self.public(), SocketAddr::new(ip, listen.address.port()), remote.ip()));
        }
        Some(as_seen(self.public(), listen.address, remote.ip()))
    }
}
