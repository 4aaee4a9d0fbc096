//! What the tasks of the SIP thread share: the endpoint, the sockets, the way out for messages and events.

use std::cell::RefCell;
use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::AsRawFd;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use bytes::Bytes;
use tokio::io::unix::AsyncFd;
use tokio::sync::{Notify, mpsc};

use super::asked::Asked;
use super::bind::Sockets;
use super::connection::Connection;
use super::fault::{self, guarded};
use super::handle::{Command, Shared};
use super::pace::Pace;
use super::tls::{self, Tls};
use super::{Gate, IoLimits, Listen, StackConfig, Tap, sys, tcp, udp};
use crate::address::as_seen;
use crate::endpoint::{Destination, Endpoint, EndpointStats, Event, FlowId, Output, SendId, Source, Target, Transport};
use crate::guard::Admit;
use crate::message::Message;
use crate::parse::{Limits, ParseError};
use crate::stun;
use crate::trace::{Direction, Traced};

/// What a stack holds and has done.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct StackStats {
    /// The endpoint's.
    pub endpoint: EndpointStats,
    /// Connections now: TCP, TLS and WebSocket.
    pub connections: usize,
    /// Connections that were closed for a limit: too many, too slow, idle, or their queue too long.
    pub connections_refused: u64,
    /// Datagrams received.
    pub datagrams_received: u64,
    /// Datagrams that could not be sent.
    pub datagrams_unsent: u64,
    /// Events that wait because the user is behind.
    pub backlog: usize,
    /// Steps that ended by a fault of this program, or of the handler of events.
    pub faults: u64,
}

/// The number of the first flow: UDP sockets come first, in the order that they are listened on.
pub(super) const FIRST_FLOW: u64 = 1;

/// A UDP socket.
pub(super) struct UdpPort {
    pub(super) flow: FlowId,
    /// Watched for what comes in alone: the system tells of each datagram sent that there is room again, which nobody here waits for.
    pub(super) socket: Rc<AsyncFd<UdpSocket>>,
    /// As bound.
    pub(super) local: SocketAddr,
    outbox: Vec<(SendId, SocketAddr, Bytes)>,
    /// By which address of ours peers are answered.
    pub(super) asked: Asked,
}

/// A function that takes events on this thread.
pub(super) type Handler = Box<dyn FnMut(&mut Endpoint, Instant, Event) + Send>;

/// Who takes the events.
pub(super) enum Sink {
    /// Whoever holds the other end.
    Channel(mpsc::Sender<Event>),
    /// A function on this thread.
    Handler(Handler),
}

/// What the tasks share.
pub(super) struct Hub {
    pub(super) endpoint: Endpoint,
    pub(super) limits: IoLimits,
    pub(super) parse: Limits,
    pub(super) tap: Option<Arc<dyn Tap>>,
    pub(super) udp: Vec<UdpPort>,
    /// What takes connections.
    pub(super) listeners: Vec<Listen>,
    pub(super) tls: Tls,
    pub(super) origins: Arc<[String]>,
    pub(super) gate: Option<Arc<dyn Gate>>,
    pub(super) shared: Arc<Shared>,
    pub(super) connections: HashMap<FlowId, Rc<Connection>>,
    by_peer: HashMap<(Transport, SocketAddr), FlowId>,
    per_peer: HashMap<IpAddr, usize>,
    next_flow: u64,
    sink: Sink,
    backlog: VecDeque<Event>,
    backlog_moves: bool,
    draining: bool,
    /// When the timer task will wake.
    armed: Option<Instant>,
    pub(super) timer: Rc<Notify>,
    pub(super) stats: StackStats,
    pace: Arc<Pace>,
}

/// The hub, as its tasks hold it. It is borrowed for the length of a synchronous step, never across an await.
pub(super) type SharedHub = Rc<RefCell<Hub>>;

/// The thread's main task: starts the others, runs commands, ends when it is told to or nobody is left to command.
pub(super) async fn run(
    config: StackConfig,
    key: [u64; 2],
    (sockets, tls): (Sockets, Tls),
    mut commands: mpsc::Receiver<Command>,
    sink: Sink,
    (shared, pace): (Arc<Shared>, Arc<Pace>),
) {
    let timer = Rc::new(Notify::new());
    let hub = Rc::new(RefCell::new(Hub {
        endpoint: Endpoint::with_key(config.endpoint, key),
        limits: config.limits,
        parse: config.parse,
        tap: config.tap,
        udp: Vec::new(),
        listeners: sockets.tcp.iter().map(|(_, listen)| *listen).collect(),
        tls,
        origins: config.origins.into(),
        gate: config.gate,
        shared: Arc::clone(&shared),
        connections: HashMap::new(),
        by_peer: HashMap::new(),
        per_peer: HashMap::new(),
        next_flow: FIRST_FLOW,
        sink,
        backlog: VecDeque::new(),
        backlog_moves: false,
        draining: false,
        armed: None,
        timer: Rc::clone(&timer),
        stats: StackStats::default(),
        pace,
    }));
    for (socket, local) in sockets.udp {
        match sys::watch(socket) {
            Ok(socket) => {
                let port = hub.borrow_mut().add_udp(socket, local);
                tokio::task::spawn_local(udp::run(Rc::clone(&hub), port));
            }
            Err(error) => tracing::error!(%local, %error, "cannot serve UDP"),
        }
    }
    for (listener, listen) in sockets.tcp {
        tokio::task::spawn_local(tcp::listen(Rc::clone(&hub), listener, listen));
    }
    if !config.tls.identities.is_empty() {
        tokio::task::spawn_local(reload_certificates(Arc::clone(&hub.borrow().tls.certificates)));
    }
    tokio::task::spawn_local(run_timers(Rc::clone(&hub), timer));
    let mut batch = Vec::with_capacity(64);
    let mut stopping = None;
    while stopping.is_none() && commands.recv_many(&mut batch, 64).await > 0 {
        let now = Instant::now();
        for command in batch.drain(..) {
            match command {
                Command::Run(command) => _ = guarded("a command", || command(&mut hub.borrow_mut().endpoint, now)),
                Command::Stats(reply) => _ = reply.send(hub.borrow().stats()),
                Command::Drain(on) => hub.borrow_mut().drain(on),
                Command::Shutdown(reply) => stopping = Some(reply),
            }
        }
        flush(&hub, now);
    }
    // Connections write what is queued; the runtime drops them after that.
    tcp::finish(&hub).await;
    drop((shared, commands));
    if let Some(reply) = stopping {
        let _ = reply.send(());
    }
}

/// Files are read on the thread itself: they are small, and change rarely.
async fn reload_certificates(certificates: Arc<tls::Certificates>) {
    loop {
        tokio::time::sleep(tls::RELOAD_EVERY).await;
        certificates.reload();
    }
}

/// Timers share wake-ups: there are no two within less than this, so a timer may be late by as much. The shortest span of
/// SIP's timers is 500 ms.
const TIMER_REST: Duration = Duration::from_millis(50);

async fn run_timers(hub: SharedHub, changed: Rc<Notify>) {
    let mut last = Instant::now();
    loop {
        let wake = {
            let mut hub = hub.borrow_mut();
            hub.armed = hub.endpoint.next_wake();
            hub.armed.map(|wake| wake.max(last + TIMER_REST))
        };
        match wake {
            None => changed.notified().await,
            Some(at) if at > Instant::now() => {
                tokio::select! {
                    biased;
                    () = changed.notified() => continue,
                    () = tokio::time::sleep_until(at.into()) => {}
                }
            }
            Some(_) => tokio::task::yield_now().await,
        }
        let now = Instant::now();
        last = now;
        guarded("timers", || hub.borrow_mut().endpoint.tick(now));
        flush(&hub, now);
    }
}

/// Carries out everything that the endpoint wants done. To be called after every step.
pub(super) fn flush(shared: &SharedHub, now: Instant) {
    let mut hub = shared.borrow_mut();
    loop {
        while let Some(output) = hub.endpoint.poll() {
            match output {
                Output::Send { id, to, bytes } => hub.send(shared, now, id, to, bytes),
                Output::Event(event) => hub.tell(shared, now, event),
            }
        }
        // What cannot be sent may make the endpoint want something else.
        if !hub.flush_udp(now) {
            break;
        }
    }
    let wake = hub.endpoint.next_wake();
    if let Some(wake) = wake.filter(|wake| hub.armed.is_none_or(|armed| *wake < armed)) {
        hub.armed = Some(wake);
        hub.timer.notify_one();
    }
}

impl Hub {
    fn add_udp(&mut self, socket: AsyncFd<UdpSocket>, local: SocketAddr) -> usize {
        let flow = self.new_flow();
        self.udp.push(UdpPort { flow, socket: Rc::new(socket), local, outbox: Vec::new(), asked: Asked::default() });
        self.udp.len() - 1
    }

    fn new_flow(&mut self) -> FlowId {
        let flow = FlowId(self.next_flow);
        self.next_flow += 1;
        flow
    }

    fn stats(&self) -> StackStats {
        StackStats {
            endpoint: self.endpoint.stats(),
            connections: self.connections.len(),
            backlog: self.backlog.len(),
            faults: fault::count(),
            ..self.stats
        }
    }

    fn drain(&mut self, on: bool) {
        self.draining = on;
        self.update_refusing();
    }

    fn update_refusing(&mut self) {
        let refuse = self.draining || self.backlog.len() > self.limits.backlog;
        self.endpoint.refuse_new_calls(refuse);
    }

    fn send(&mut self, shared: &SharedHub, now: Instant, id: SendId, to: Destination, bytes: Bytes) {
        let address = match &to.target {
            Target::Address(address) | Target::Named { address, .. } => *address,
            Target::Host { name, port } => {
                // A connection that stands needs no address.
                if let Some(connection) = to.flow.and_then(|flow| self.connections.get(&flow)) {
                    return self.send_by(connection, id, bytes);
                }
                let (name, port) = (Arc::clone(name), *port);
                tokio::task::spawn_local(send_to_host(Rc::clone(shared), id, to, (name, port), bytes));
                return;
            }
        };
        match to.transport {
            Transport::Udp => match self.udp_port(to.flow, address) {
                Some(port) => port.outbox.push((id, address, bytes)),
                None => self.endpoint.send_failed(now, id),
            },
            _ => self.send_connected(shared, now, id, (&to, address), bytes),
        }
    }

    /// Sends by the flow, else by a connection that stands already (RFC 5923), else by a new one. One to a browser cannot be
    /// made from here.
    fn send_connected(
        &mut self,
        shared: &SharedHub,
        now: Instant,
        id: SendId,
        (to, address): (&Destination, SocketAddr),
        bytes: Bytes,
    ) {
        let name = match &to.target {
            Target::Named { name, .. } => Some(name),
            _ => None,
        };
        let known = to.flow.filter(|flow| self.connections.contains_key(flow));
        let known = known.or_else(|| self.connection_to(to.transport, address, name));
        if let Some(connection) = known.and_then(|flow| self.connections.get(&flow)) {
            return self.send_by(connection, id, bytes);
        }
        if !matches!(to.transport, Transport::Tcp | Transport::Tls) {
            return self.endpoint.send_failed(now, id);
        }
        match self.add_connection(to.transport, address, (true, name.cloned())) {
            Some(connection) => {
                connection.set_known();
                self.send_by(&connection, id, bytes);
                tokio::task::spawn_local(tcp::connect(Rc::clone(shared), connection));
            }
            None => self.endpoint.send_failed(now, id),
        }
    }

    /// The address that a connection of ours comes from: the one that we listen on, where there is one alone that leads there. Peers know
    /// us by it. `None` leaves it to the operating system.
    pub(super) fn source_for(&self, peer: SocketAddr) -> Option<IpAddr> {
        let of_family = self.shared.listening().iter().map(|listen| listen.address.ip());
        let fits = |ip: &IpAddr| ip.is_ipv4() == peer.is_ipv4() || ip.is_unspecified();
        let mut found: Vec<IpAddr> = of_family.filter(fits).collect();
        if found.iter().any(IpAddr::is_unspecified) {
            return None;
        }
        found.retain(|ip| ip.is_loopback() == peer.ip().is_loopback());
        found.dedup();
        match found.as_slice() {
            [only] => Some(*only),
            _ => None,
        }
    }

    /// A connection to the address; over TLS one that was checked for the same name.
    fn connection_to(&self, transport: Transport, address: SocketAddr, name: Option<&Arc<str>>) -> Option<FlowId> {
        let flow = self.by_peer.get(&(transport, address)).copied()?;
        let is_checked = || self.connections.get(&flow).is_some_and(|one| one.name.as_ref() == name);
        (transport != Transport::Tls || is_checked()).then_some(flow)
    }

    fn send_by(&self, connection: &Connection, id: SendId, bytes: Bytes) {
        if let Some(local) = connection.local() {
            self.tap(Direction::Out, connection.transport, (local, connection.peer), &bytes);
        }
        connection.send(id, bytes);
    }

    /// Takes a message in, where the gate lets it.
    pub(super) fn receive(&mut self, now: Instant, source: Source, message: Result<Message, ParseError>) {
        self.pace.note(now);
        if let (Some(gate), Ok(request)) = (&self.gate, &message)
            && request.is_request()
        {
            match gate.admit(now, &source, request) {
                Admit::Take => {}
                Admit::Drop(_) => return,
                Admit::Busy { .. } => {
                    if let Ok(request) = message {
                        self.endpoint.turn_away(&source, request);
                    }
                    return;
                }
            }
        }
        guarded("a message", || self.endpoint.receive(now, source, message));
    }

    /// Whether anything from there is to be read.
    pub(super) fn listens_to(&self, now: Instant, remote: SocketAddr) -> bool {
        let has_calls = || self.endpoint.stats().calls > 0;
        self.gate.as_ref().is_none_or(|gate| gate.listens_to(now, remote.ip(), has_calls()))
    }

    /// Shows a message to whoever wants to see them all.
    pub(super) fn tap(
        &self,
        direction: Direction,
        transport: Transport,
        (local, remote): (SocketAddr, SocketAddr),
        bytes: &Bytes,
    ) {
        if let Some(tap) = &self.tap {
            tap.message(Traced { at: SystemTime::now(), direction, transport, local, remote, bytes: bytes.clone() });
        }
    }

    /// Sends a datagram that is no message by this socket.
    pub(super) fn reply(&mut self, port: usize, to: SocketAddr, bytes: Bytes) {
        if let Some(port) = self.udp.get_mut(port) {
            port.outbox.push((SendId::NONE, to, bytes));
        }
    }

    /// Shows a message that came.
    pub(super) fn tap_received(&self, source: &Source, message: &Result<Message, ParseError>) {
        if self.tap.is_none() {
            return;
        }
        let message = match message {
            Ok(message) => Some(message),
            Err(error) => error.partial.as_deref(),
        };
        if let Some(message) = message {
            self.tap(Direction::In, source.transport, (source.local, source.remote), &message.bytes());
        }
    }

    /// The socket to send by: the one that is asked for, else one of the peer's family.
    fn udp_port(&mut self, flow: Option<FlowId>, to: SocketAddr) -> Option<&mut UdpPort> {
        let fits =
            |port: &UdpPort| port.local.is_ipv4() == to.is_ipv4() || (to.is_ipv4() && port.local.ip().is_unspecified());
        let index = self
            .udp
            .iter()
            .position(|port| Some(port.flow) == flow && fits(port))
            .or_else(|| self.udp.iter().position(|port| port.local.is_ipv4() == to.is_ipv4()))
            .or_else(|| self.udp.iter().position(fits))?;
        self.udp.get_mut(index)
    }

    /// Sends the datagrams that wait; whether any failed.
    fn flush_udp(&mut self, now: Instant) -> bool {
        let mut any_failed = false;
        for port in &mut self.udp {
            if let Some(tap) = &self.tap {
                for (_, to, bytes) in port.outbox.iter().filter(|(.., bytes)| !stun::is_stun(bytes)) {
                    tap.message(Traced {
                        at: SystemTime::now(),
                        direction: Direction::Out,
                        transport: Transport::Udp,
                        local: SocketAddr::new(port.asked.by(*to).unwrap_or(port.local.ip()), port.local.port()),
                        remote: *to,
                        bytes: bytes.clone(),
                    });
                }
            }
            let fd = port.socket.as_raw_fd();
            let is_ipv6 = port.local.is_ipv6();
            let mut rest = port.outbox.as_slice();
            while let [(id, to, bytes), following @ ..] = rest {
                let by =
                    |to: SocketAddr| port.asked.by(to).map(|from| for_socket(SocketAddr::new(from, 0), is_ipv6).ip());
                let from = by(*to);
                let sent = if following.is_empty() && from.is_none() {
                    sys::send_one(fd, for_socket(*to, is_ipv6), bytes).map(|()| 1)
                } else {
                    sys::send_batch(
                        fd,
                        rest.iter().map(|(_, to, bytes)| (for_socket(*to, is_ipv6), by(*to), bytes.as_ref())),
                    )
                };
                match sent {
                    // The address is ours no more: the system knows another.
                    Err(fault) if from.is_some() && is_of_no_use(&fault) && port.asked.forget(*to) => {}
                    Ok(count) => rest = rest.get(count.max(1)..).unwrap_or_default(),
                    Err(error) => {
                        rest = following;
                        self.stats.datagrams_unsent += 1;
                        // A full socket buffer is loss like any other: repeats make it good.
                        if error.kind() != std::io::ErrorKind::WouldBlock {
                            tracing::debug!(%to, %error, "cannot send a datagram");
                            self.endpoint.send_failed(now, *id);
                            any_failed = true;
                        }
                    }
                }
            }
            port.outbox.clear();
        }
        any_failed
    }

    pub(super) fn tell(&mut self, shared: &SharedHub, now: Instant, event: Event) {
        let events = match &mut self.sink {
            Sink::Handler(handler) => {
                let (call, endpoint) = (event.call(), &mut self.endpoint);
                let handled = guarded("the handler of events", || handler(endpoint, now, event));
                // Whoever was to have the call knows nothing of it.
                if let (None, Some(call)) = (handled, call)
                    && endpoint.reject(now, call, 500, "", &[]).is_err()
                {
                    let _ = endpoint.bye(now, call, None);
                }
                return;
            }
            Sink::Channel(events) => events,
        };
        if self.backlog.is_empty() {
            match events.try_send(event) {
                Ok(()) => return,
                Err(mpsc::error::TrySendError::Full(event)) => self.backlog.push_back(event),
                Err(mpsc::error::TrySendError::Closed(_)) => return,
            }
        } else {
            self.backlog.push_back(event);
        }
        if !std::mem::replace(&mut self.backlog_moves, true) {
            tokio::task::spawn_local(move_backlog(Rc::clone(shared), events.clone()));
        }
        if self.backlog.len() > self.limits.backlog {
            self.update_refusing();
        }
    }

    /// A place for one more connection, unless there are too many.
    pub(super) fn add_connection(
        &mut self,
        transport: Transport,
        peer: SocketAddr,
        (is_ours, name): (bool, Option<Arc<str>>),
    ) -> Option<Rc<Connection>> {
        let of_peer = self.per_peer.get(&peer.ip()).copied().unwrap_or(0);
        if self.connections.len() >= self.limits.connections || of_peer >= self.limits.connections_per_peer {
            self.stats.connections_refused += 1;
            return None;
        }
        let flow = self.new_flow();
        let connection =
            Rc::new(Connection::new(flow, (transport, peer), (is_ours, name), self.limits.write_queue_bytes));
        self.connections.insert(flow, Rc::clone(&connection));
        self.by_peer.insert((transport, peer), flow);
        self.per_peer.insert(peer.ip(), of_peer + 1);
        Some(connection)
    }

    /// Forgets a connection; whether it was known. What it did not write fails.
    pub(super) fn remove_connection(&mut self, now: Instant, connection: &Connection) -> bool {
        if self.connections.remove(&connection.flow).is_none() {
            return false;
        }
        let peer = (connection.transport, connection.peer);
        if self.by_peer.get(&peer) == Some(&connection.flow) {
            self.by_peer.remove(&peer);
        }
        self.shared.forget_names(connection.flow);
        if let Some(count) = self.per_peer.get_mut(&connection.peer.ip()) {
            *count -= 1;
            if *count == 0 {
                self.per_peer.remove(&connection.peer.ip());
            }
        }
        for id in connection.close() {
            self.endpoint.send_failed(now, id);
        }
        true
    }

    /// The address that a peer should know us by on a connection: its own end's address, the port of a listener of its kind.
    pub(super) fn advertised(&self, transport: Transport, local: SocketAddr, remote: SocketAddr) -> SocketAddr {
        let of_kind = |listen: &&Listen| listen.transport == transport;
        let of_family = |listen: &&Listen| of_kind(listen) && listen.address.is_ipv4() == local.is_ipv4();
        let listen = self.listeners.iter().find(of_family).or_else(|| self.listeners.iter().find(of_kind));
        let port = listen.map_or(local.port(), |listen| listen.address.port());
        as_seen(self.shared.public(), SocketAddr::new(local.ip().to_canonical(), port), remote.ip())
    }
}

async fn send_to_host(
    hub: SharedHub,
    id: SendId,
    to: Destination,
    (name, port): (Arc<str>, Option<u16>),
    bytes: Bytes,
) {
    let shared = Arc::clone(&hub.borrow().shared);
    let found = shared.resolver.host(&name, port, to.transport).await;
    let now = Instant::now();
    let address = found.ok().and_then(|found| {
        let hub = hub.borrow();
        let listens = |ipv4| {
            let listeners = hub.listeners.iter().map(|listen| listen.address);
            hub.udp.iter().map(|port| port.local).chain(listeners).any(|local| local.is_ipv4() == ipv4)
        };
        found.into_iter().map(|way| way.address).find(|address| listens(address.is_ipv4()))
    });
    match address {
        Some(address) => {
            // Certificates are checked against the name.
            let to = Destination { target: Target::Named { name, address }, ..to };
            hub.borrow_mut().send(&hub, now, id, to, bytes);
        }
        None => {
            tracing::debug!(%name, "cannot find a host");
            hub.borrow_mut().endpoint.send_failed(now, id);
        }
    }
    flush(&hub, now);
}

async fn move_backlog(shared: SharedHub, events: mpsc::Sender<Event>) {
    loop {
        let Ok(permit) = events.reserve().await else {
            shared.borrow_mut().backlog.clear();
            return;
        };
        let mut hub = shared.borrow_mut();
        match hub.backlog.pop_front() {
            Some(event) => {
                permit.send(event);
                hub.update_refusing();
            }
            None => {
                hub.backlog_moves = false;
                return hub.update_refusing();
            }
        }
    }
}

/// A peer's address as a socket of the other family must be told it.
fn for_socket(to: SocketAddr, is_ipv6: bool) -> SocketAddr {
    match to.ip() {
        IpAddr::V4(ip) if is_ipv6 => SocketAddr::new(IpAddr::V6(ip.to_ipv6_mapped()), to.port()),
        _ => to,
    }
}

/// Whether a datagram cannot leave by that address of ours.
fn is_of_no_use(fault: &std::io::Error) -> bool {
    use std::io::ErrorKind::{AddrNotAvailable, HostUnreachable, InvalidInput, NetworkUnreachable};
    matches!(fault.kind(), AddrNotAvailable | HostUnreachable | InvalidInput | NetworkUnreachable)
}
