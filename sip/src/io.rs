//! The endpoint on real sockets: the only part of this package that knows tokio, the clock and the operating system.
//!
//! One thread, named `sip`, owns the [`Endpoint`] and every socket. It runs a single-threaded tokio runtime whose tasks
//! (one for each UDP socket, listener and connection, one for timers, one for commands) share the endpoint without locks.
//! A message goes from the socket through the endpoint and back to a socket inside one task, with no queue between.
//! Commands come in by a bounded channel, events go out by another.
//!
//! Invariants:
//! - A slow user of events stalls nothing: events wait in a backlog, and while that is longer than its limit, new calls are
//!   refused.
//! - Connections, their queues, their idle time and the time a message may take are bounded by [`IoLimits`].
//! - `unsafe` is in [`sys`] alone.

mod asked;
mod bind;
mod connection;
mod fault;
mod handle;
mod hub;
mod pace;
mod public;
mod resolve;
mod sys;
mod tcp;
mod tls;
mod udp;
mod wire;

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::sync::{mpsc, oneshot};

use crate::endpoint::{Endpoint, EndpointConfig, Event, Source, Transport};
use crate::guard::Admit;
use crate::message::Message;
use crate::parse::Limits;
use crate::trace::Traced;

pub use self::bind::BindError;
pub use self::handle::{HandleError, InviteError, Placed, Route, SipHandle};
pub use self::hub::StackStats;
pub use self::public::public_ip;
pub use self::resolve::{DnsConfig, ResolveError, Resolver, Way, local_ip_towards};
pub use self::sys::random_key;
pub use self::tls::{Identity, RELOAD_EVERY, ServerTls, TlsConfig, TlsError, server_name};

use self::bind::Sockets;
use self::handle::Shared;
use self::hub::Sink;
use self::tls::Tls;

/// What to listen on: `udp:0.0.0.0:5060`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Listen {
    /// By which transport.
    pub transport: Transport,
    /// At which address; port 0 takes a free one.
    pub address: SocketAddr,
}

impl fmt::Display for Listen {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.transport, self.address)
    }
}

/// Why text names no listener.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is no listener: write transport, address and port, as in `udp:0.0.0.0:5060`")]
pub struct ListenError {
    text: String,
}

impl FromStr for Listen {
    type Err = ListenError;

    fn from_str(text: &str) -> Result<Self, ListenError> {
        let error = || ListenError { text: text.to_owned() };
        let (transport, address) = text.split_once(':').ok_or_else(error)?;
        Ok(Self {
            transport: Transport::parse(transport).ok_or_else(error)?,
            address: address.parse().map_err(|_| error())?,
        })
    }
}

/// Bounds on what sockets can take up.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct IoLimits {
    /// Connections at once. Beyond: a new one is closed at once.
    pub connections: usize,
    /// Connections at once from one address. Beyond: likewise.
    pub connections_per_peer: usize,
    /// A connection on which nothing came and nothing went for so long is closed.
    pub idle: Duration,
    /// A message that is not whole after so long, or a new connection without a first one: closed.
    pub message_time: Duration,
    /// A connection of ours on which nothing went for so long is kept alive by a ping (RFC 5626 section 4.4.1).
    pub keep_alive: Duration,
    /// How long to wait for a connection of ours to stand.
    pub connect_time: Duration,
    /// Bytes that wait for a slow reader. Beyond: the connection is closed.
    pub write_queue_bytes: usize,
    /// Events in the channel to the user.
    pub events: usize,
    /// Events beyond the channel. Beyond: new calls are refused with 503 until the user has caught up.
    pub backlog: usize,
    /// Commands in the channel from the user. Beyond: the command fails.
    pub commands: usize,
    /// The receive buffer asked of the kernel for each UDP socket.
    pub udp_receive_bytes: usize,
}

impl Default for IoLimits {
    fn default() -> Self {
        Self {
            connections: 4_096,
            connections_per_peer: 256,
            idle: Duration::from_secs(900),
            message_time: Duration::from_secs(20),
            keep_alive: Duration::from_secs(30),
            connect_time: Duration::from_secs(5),
            write_queue_bytes: 1 << 20,
            events: 1_024,
            backlog: 16_384,
            commands: 8_192,
            udp_receive_bytes: 4 << 20,
        }
    }
}

/// What a stack is told at its start.
#[derive(Debug, Clone, Default)]
pub struct StackConfig {
    /// Where to listen. Empty listens nowhere, and can do nothing.
    pub listen: Vec<Listen>,
    /// The endpoint's own settings.
    pub endpoint: EndpointConfig,
    /// Bounds on sockets and queues.
    pub limits: IoLimits,
    /// Bounds on messages.
    pub parse: Limits,
    /// Our address as those see it who are outside (see [`as_seen`](crate::address::as_seen)); `None`: as the socket has it.
    pub public: Option<IpAddr>,
    /// Who decides what is listened to.
    pub gate: Option<Arc<dyn Gate>>,
    /// How names are looked up.
    pub dns: DnsConfig,
    /// For TLS and secure WebSocket.
    pub tls: TlsConfig,
    /// Web pages (their `Origin`, such as `https://example.net`) that may connect by WebSocket; empty lets all.
    pub origins: Vec<String>,
    /// Who is shown every message that comes or goes.
    pub tap: Option<Arc<dyn Tap>>,
}

/// Is shown every whole message as it comes and goes, on the SIP thread: it must not block.
pub trait Tap: Send + Sync {
    /// A message came, or was given to a socket. One that waits for its connection is shown once that stands.
    fn message(&self, message: Traced);
}

/// Decides which requests are taken in, on the SIP thread: it must not block. See [`guard`](crate::guard).
pub trait Gate: Send + Sync {
    /// Whether anything from this address is to be read at all; asked before a datagram is parsed.
    fn listens_to(&self, now: Instant, source: IpAddr, has_calls: bool) -> bool;
    /// Whether this request is taken in.
    fn admit(&self, now: Instant, source: &Source, request: &Message) -> Admit;
}

impl fmt::Debug for dyn Gate {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Gate")
    }
}

impl fmt::Debug for dyn Tap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Tap")
    }
}

/// The endpoint on its thread.
#[derive(Debug)]
pub struct SipStack;

impl SipStack {
    /// Binds the sockets and starts the thread, which ends by [`SipHandle::shutdown`], or when every handle is gone.
    ///
    /// # Errors
    /// [`BindError`] names the address that cannot be had, why, and what to do about it.
    pub fn bind(config: StackConfig) -> Result<(SipHandle, EventReceiver), BindError> {
        let (events, receiver) = mpsc::channel(config.limits.events.max(1));
        let handle = Self::start(config, Sink::Channel(events))?;
        Ok((handle, EventReceiver { events: receiver }))
    }

    /// Like [`bind`](Self::bind), but events go to `handler` on the SIP thread itself, which saves each of them the way to
    /// another thread. The handler commands the endpoint directly, and must not block: all signalling waits for it. What
    /// takes time it hands on, with a [`SipHandle`]'s help for what comes of it. Events come one by one and in order.
    ///
    /// # Errors
    /// As with `bind`.
    pub fn bind_with(
        config: StackConfig,
        handler: impl FnMut(&mut Endpoint, Instant, Event) + Send + 'static,
    ) -> Result<SipHandle, BindError> {
        Self::start(config, Sink::Handler(Box::new(handler)))
    }

    fn start(config: StackConfig, sink: Sink) -> Result<SipHandle, BindError> {
        let listens = config.listen.iter().any(|listen| matches!(listen.transport, Transport::Tls | Transport::Wss));
        let tls = Tls::load(&config.tls, listens)?;
        let sockets = Sockets::bind(&config)?;
        let key = sys::random_key().map_err(BindError::Entropy)?;
        let resolver = Resolver::new(&config.dns).map_err(BindError::Resolver)?;
        let shared = Arc::new(Shared::new(sockets.local(), resolver, config.public));
        let (commands_in, commands_out) = mpsc::channel(config.limits.commands.max(1));
        let pace = Arc::new(pace::Pace::new(Instant::now()));
        let waits = Arc::clone(&pace);
        let runtime = tokio::runtime::Builder::new_current_thread()
            .enable_io()
            .enable_time()
            // Everything is done that there was to do. Nothing wakes the thread meanwhile: that is what it is for.
            .on_thread_park(move || _ = waits.rest(Instant::now).map(std::thread::sleep))
            .build()
            .map_err(BindError::Thread)?;
        let for_thread = (Arc::clone(&shared), pace);
        std::thread::Builder::new()
            .name("sip".into())
            .spawn(move || {
                let local = tokio::task::LocalSet::new();
                local.block_on(&runtime, hub::run(config, key, (sockets, tls), commands_out, sink, for_thread));
            })
            .map_err(BindError::Thread)?;
        Ok(SipHandle::new(commands_in, shared))
    }
}

/// Where events come out.
#[derive(Debug)]
pub struct EventReceiver {
    events: mpsc::Receiver<Event>,
}

impl EventReceiver {
    /// The next event; `None` once the stack has stopped. Cancel-safe.
    pub async fn recv(&mut self) -> Option<Event> {
        self.events.recv().await
    }

    /// Waits for events and appends up to `limit` of them; answers how many, 0 once the stack has stopped. Cancel-safe.
    pub async fn recv_many(&mut self, events: &mut Vec<Event>, limit: usize) -> usize {
        self.events.recv_many(events, limit).await
    }

    /// The next event, where one is there already.
    pub fn try_recv(&mut self) -> Option<Event> {
        self.events.try_recv().ok()
    }

    /// The next event, from a thread that runs no async code.
    ///
    /// # Panics
    /// Inside an async runtime.
    pub fn blocking_recv(&mut self) -> Option<Event> {
        self.events.blocking_recv()
    }
}

/// A reply that a command waits for.
type ReplyTo<T> = oneshot::Sender<T>;

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_listener_is_read_and_printed_alike() {
        for text in ["udp:0.0.0.0:5060", "tcp:127.0.0.1:0", "udp:[::]:5060", "tls:0.0.0.0:5061", "wss:[::1]:443"] {
            assert_eq!(text.parse::<Listen>().unwrap().to_string(), text);
        }
    }

    #[test]
    fn text_that_is_no_listener_is_named_in_the_error() {
        for text in ["", "udp", "5060", "udp:5060", "sctp:0.0.0.0:5060", "udp:localhost:5060"] {
            let error = text.parse::<Listen>().unwrap_err();
            assert!(error.to_string().contains("udp:0.0.0.0:5060"), "{error}");
        }
    }
}
