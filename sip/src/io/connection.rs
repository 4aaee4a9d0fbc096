//! What is known of one connection: its peer, how messages travel on it, and what waits to be written.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use tokio::net::TcpStream;
use tokio::sync::Notify;

use super::tls;
use super::wire::{Received, Wire};
use crate::endpoint::{FlowId, SendId, Transport};

/// Messages remembered that were written to a peer who has said nothing yet.
const UNHEARD_LIMIT: usize = 64;

/// A connection, shared between its task and whoever sends by it.
pub(super) struct Connection {
    pub(super) flow: FlowId,
    pub(super) peer: SocketAddr,
    pub(super) transport: Transport,
    /// We made it.
    pub(super) is_ours: bool,
    /// The name that a connection of ours was made to.
    pub(super) name: Option<Arc<str>>,
    socket: RefCell<Option<Rc<TcpStream>>>,
    wire: RefCell<Option<Wire>>,
    queue: RefCell<VecDeque<(SendId, Bytes)>>,
    queued_bytes: Cell<usize>,
    limit_bytes: usize,
    local: Cell<Option<SocketAddr>>,
    known: Cell<bool>,
    heard: Cell<bool>,
    /// What was written while nothing had come yet.
    unheard: RefCell<Vec<SendId>>,
    /// Wakes the task: something is queued, or it is to end.
    pub(super) wake: Notify,
}

impl Connection {
    pub(super) fn new(
        flow: FlowId,
        (transport, peer): (Transport, SocketAddr),
        (is_ours, name): (bool, Option<Arc<str>>),
        limit_bytes: usize,
    ) -> Self {
        Self {
            flow,
            peer,
            transport,
            is_ours,
            name,
            socket: RefCell::new(None),
            wire: RefCell::new(None),
            queue: RefCell::new(VecDeque::new()),
            queued_bytes: Cell::new(0),
            limit_bytes,
            local: Cell::new(None),
            known: Cell::new(false),
            heard: Cell::new(false),
            unheard: RefCell::default(),
            wake: Notify::new(),
        }
    }

    /// Whether more waits than may.
    pub(super) fn is_over_limit(&self) -> bool {
        self.queued_bytes.get() > self.limit_bytes
    }

    /// Whether something waits to be written.
    pub(super) fn has_queue(&self) -> bool {
        self.queued_bytes.get() > 0 || self.wire.borrow().as_ref().is_some_and(Wire::wants_write)
    }

    /// Our end's address, once it is connected.
    pub(super) fn local(&self) -> Option<SocketAddr> {
        self.local.get()
    }

    /// Notes that the user may have heard of its flow.
    pub(super) fn set_known(&self) {
        self.known.set(true);
    }

    /// Whether the user may have heard of its flow.
    pub(super) fn is_known(&self) -> bool {
        self.known.get()
    }

    /// Notes that a message came.
    pub(super) fn set_heard(&self) {
        self.heard.set(true);
        self.unheard.take();
    }

    /// Whether a message came.
    pub(super) fn is_heard(&self) -> bool {
        self.heard.get()
    }

    /// What waits to be written.
    pub(super) fn queued(&self) -> Vec<Bytes> {
        self.queue.borrow().iter().map(|(_, bytes)| bytes.clone()).collect()
    }

    /// Gives it the socket, once it is connected, and how messages travel on it.
    pub(super) fn open(&self, socket: Rc<TcpStream>, wire: Wire) {
        // Messages are small, and somebody waits for each.
        let _ = socket.set_nodelay(true);
        let local = socket.local_addr().ok();
        self.local.set(local.map(|local| SocketAddr::new(local.ip().to_canonical(), local.port())));
        *self.socket.borrow_mut() = Some(socket);
        *self.wire.borrow_mut() = Some(wire);
    }

    /// Writes at once what the socket takes, and queues the rest. A peer that reads too slowly loses the connection.
    pub(super) fn send(&self, id: SendId, bytes: Bytes) {
        if self.is_over_limit() {
            return;
        }
        self.queued_bytes.set(self.queued_bytes.get() + bytes.len());
        self.queue.borrow_mut().push_back((id, bytes));
        if self.socket.borrow().is_some() && (self.write().is_err() || self.has_queue()) {
            self.wake.notify_one();
        }
    }

    /// Writes what the socket takes.
    pub(super) fn write(&self) -> std::io::Result<()> {
        let mut wire = self.wire.borrow_mut();
        let Some(wire) = wire.as_mut() else { return Ok(()) };
        let mut queue = self.queue.borrow_mut();
        while let Some((_, bytes)) = queue.front_mut() {
            let before = bytes.len();
            let written = wire.write(bytes);
            self.queued_bytes.set(self.queued_bytes.get().saturating_sub(before - bytes.len()));
            match written {
                Ok(()) if bytes.is_empty() => {
                    let written = queue.pop_front();
                    let mut unheard = self.unheard.borrow_mut();
                    if let Some((id, _)) = written.filter(|_| !self.heard.get() && unheard.len() < UNHEARD_LIMIT) {
                        unheard.push(id);
                    }
                }
                Ok(()) => {}
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => break,
                Err(error) => return Err(error),
            }
        }
        match wire.flush() {
            Err(error) if error.kind() != std::io::ErrorKind::WouldBlock => Err(error),
            _ => Ok(()),
        }
    }

    /// Takes what has come; bytes of a stream are appended to `buffer`. `None` where there is no socket any more.
    pub(super) fn read(&self, buffer: &mut BytesMut) -> Option<std::io::Result<Received>> {
        self.wire.borrow_mut().as_mut().map(|wire| wire.read(buffer))
    }

    /// The names that the peer's certificate proves.
    pub(super) fn certified_names(&self) -> Vec<String> {
        let wire = self.wire.borrow();
        let own = wire.as_ref().and_then(Wire::peer_certificates).and_then(|chain| chain.first());
        own.map(tls::names).unwrap_or_default()
    }

    /// Waits until the socket can be read, or written where `and_write`.
    pub(super) async fn ready(&self, and_write: bool) -> std::io::Result<()> {
        std::future::poll_fn(|cx| {
            let socket = self.socket.borrow();
            let Some(socket) = socket.as_ref() else { return std::task::Poll::Pending };
            if let std::task::Poll::Ready(ready) = socket.poll_read_ready(cx) {
                return std::task::Poll::Ready(ready);
            }
            if and_write {
                return socket.poll_write_ready(cx);
            }
            std::task::Poll::Pending
        })
        .await
    }

    /// Ends it; answers what was not written, and what a peer that never said anything cannot have taken in: one that did not
    /// like our certificate, as a rule.
    pub(super) fn close(&self) -> Vec<SendId> {
        self.wire.borrow_mut().take();
        self.socket.borrow_mut().take();
        self.queued_bytes.set(0);
        self.wake.notify_one();
        let unwritten = self.queue.borrow_mut().drain(..).map(|(id, _)| id).collect::<Vec<_>>();
        self.unheard.take().into_iter().chain(unwritten).collect()
    }
}
