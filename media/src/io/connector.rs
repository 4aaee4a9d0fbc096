//! Drives a leg's [`Connection`]: the task beside the worker that takes STUN and DTLS from it, and gives it keys and address.

use std::future::poll_fn;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::task::Poll;
use std::time::{Duration, Instant};

use ringbuf::traits::{Consumer, Observer, Split};
use ringbuf::{HeapCons, HeapRb};
use tokio::runtime::Handle;
use tokio::sync::watch;
use tokio::task::AbortHandle;

use super::gather::{Held, release};
use super::link::{Disconnected, LegHandle};
use super::socket::Socket;
use crate::config::LegConfig;
use crate::connect::{ConnectConfig, ConnectError, Connection, Step};
use crate::leg::{Channel, Datagram, GuardChange, HANDSHAKE_RING, Keys};

/// Looks at the time no more often than this.
const SHORTEST_WAIT: Duration = Duration::from_millis(5);

/// The socket pair of a leg.
#[derive(Debug, Clone)]
pub(crate) struct SocketPair {
    pub(crate) rtp: Arc<Socket>,
    pub(crate) rtcp: Arc<Socket>,
}

/// What it takes to connect a leg: its sockets, and where the task runs.
pub(crate) struct Wiring {
    pub(crate) sockets: SocketPair,
    pub(crate) runtime: Handle,
    /// Allocations at TURN servers, for whoever connects the leg.
    pub(crate) held: Option<Box<Held>>,
}

/// The port's hold on the task; dropping it ends that.
pub(crate) struct Connector {
    /// The latest alone counts.
    updates: watch::Sender<Update>,
    task: AbortHandle,
}

#[derive(Clone)]
struct Update {
    config: Arc<ConnectConfig>,
    remote: Option<SocketAddr>,
    remote_rtcp: Option<SocketAddr>,
}

impl Update {
    fn of(leg: &LegConfig, config: &Arc<ConnectConfig>) -> Self {
        let remote_rtcp = leg.remote_rtcp.filter(|_| !leg.rtcp_mux);
        Update { config: Arc::clone(config), remote: leg.remote, remote_rtcp }
    }

    fn connection(&self, now: Instant) -> Result<Connection, ConnectError> {
        Connection::new(now, &self.config, self.remote, self.remote_rtcp)
    }
}

impl Connector {
    /// Begins to connect a leg.
    pub(crate) fn start(
        wiring: &mut Wiring,
        handle: LegHandle,
        leg: &LegConfig,
        config: &Arc<ConnectConfig>,
    ) -> Result<Connector, ConnectError> {
        let first = Update::of(leg, config);
        let mut connection = first.connection(Instant::now())?;
        let mut held = wiring.held.take().filter(|_| config.ice.is_some());
        for relay in held.iter_mut().flat_map(|held| held.relays.drain(..)) {
            connection.add_relay(Instant::now(), relay);
        }
        let (producer, ring) = HeapRb::new(HANDSHAKE_RING).split();
        handle.secure(GuardChange::Listen(Some(Box::new(producer))));
        let (updates, changed) = watch::channel(first.clone());
        let sockets = wiring.sockets.clone();
        sockets.rtp.tell_addresses();
        sockets.rtcp.tell_addresses();
        let task = Task { handle, sockets, ring, config: first.config, connection, _held: held };
        let task = wiring.runtime.spawn(task.run(changed)).abort_handle();
        Ok(Connector { updates, task })
    }

    /// A new offer or answer.
    pub(crate) fn update(&self, leg: &LegConfig, config: &Arc<ConnectConfig>) {
        // Where the task is gone, so is the leg.
        let _ = self.updates.send(Update::of(leg, config));
    }
}

impl Drop for Connector {
    fn drop(&mut self) {
        self.task.abort();
    }
}

struct Task {
    handle: LegHandle,
    sockets: SocketPair,
    ring: HeapCons<Datagram>,
    config: Arc<ConnectConfig>,
    connection: Connection,
    /// What keeps ways to TURN servers open.
    _held: Option<Box<Held>>,
}

impl Task {
    async fn run(mut self, mut updates: watch::Receiver<Update>) {
        while !self.handle.is_closed() {
            while let Some(datagram) = self.ring.try_pop() {
                let now = Instant::now();
                self.connection.receive(now, datagram.channel, datagram.from, datagram.local, datagram.bytes());
            }
            let now = Instant::now();
            self.connection.handle_timeout(now);
            self.perform();
            let wake = self.connection.next_wake().max(now + SHORTEST_WAIT);
            tokio::select! {
                () = readable(&self.handle, &mut self.ring) => {}
                () = tokio::time::sleep_until(wake.into()) => {}
                changed = updates.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let update = updates.borrow_and_update().clone();
                    self.update(&update);
                }
            }
        }
    }

    fn update(&mut self, update: &Update) {
        let now = Instant::now();
        if update.config.is_same_association(&self.config) {
            self.connection.update(now, &update.config);
        } else {
            match update.connection(now) {
                Ok(connection) => {
                    let mut former = std::mem::replace(&mut self.connection, connection);
                    let mut relays = former.take_relays();
                    if update.config.ice.is_none() {
                        release(&mut relays, &self.sockets.rtp);
                    }
                    relays.into_iter().for_each(|relay| self.connection.add_relay(now, relay));
                }
                Err(fault) => self.handle.disconnected(Disconnected::Failed(fault.to_string())),
            }
        }
        self.config = Arc::clone(&update.config);
    }

    fn perform(&mut self) {
        while let Some(step) = self.connection.poll() {
            match step {
                Step::Send { channel, from, to, datagram } => self.send(channel, from, to, &datagram),
                Step::Tunnel(tunnel) => self.handle.tunnel(tunnel),
                Step::Aim { channel, to } => self.handle.secure(GuardChange::Aim(channel, to)),
                Step::Keys { channel, keys } => {
                    let keys = Some(Box::new(Keys::new(&keys)));
                    self.handle.secure(GuardChange::Key(channel, keys, None));
                }
                Step::Failed(why) => self.handle.disconnected(Disconnected::Failed(why)),
                Step::Lost => self.handle.disconnected(Disconnected::Lost),
            }
        }
    }

    fn send(&self, channel: Channel, from: Option<IpAddr>, to: SocketAddr, datagram: &[u8]) {
        let socket = match channel {
            Channel::Rtp => &self.sockets.rtp,
            Channel::Rtcp => &self.sockets.rtcp,
        };
        // A datagram that the system would not send is as good as lost: it is sent again.
        let _ = socket.send(datagram, to, from);
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        release(&mut self.connection.take_relays(), &self.sockets.rtp);
    }
}

/// Waits for datagrams, or the leg's end.
async fn readable(handle: &LegHandle, ring: &mut HeapCons<Datagram>) {
    poll_fn(move |cx| {
        handle.register_connector(cx.waker());
        if ring.is_empty() && !handle.is_closed() { Poll::Pending } else { Poll::Ready(()) }
    })
    .await;
}
