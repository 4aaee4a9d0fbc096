//! What is known of one connection: its peer and what waits to be written.

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
use std::net::SocketAddr;

use bytes::{Buf, Bytes};
use tokio::net::TcpStream;
use tokio::sync::Notify;

use crate::endpoint::{FlowId, SendId};

/// A connection, shared between its task and whoever sends by it.
pub(super) struct Connection {
    pub(super) flow: FlowId,
    pub(super) peer: SocketAddr,
    stream: RefCell<Option<TcpStream>>,
    queue: RefCell<VecDeque<(SendId, Bytes)>>,
    queued_bytes: Cell<usize>,
    limit_bytes: usize,
    local: Cell<Option<SocketAddr>>,
    known: Cell<bool>,
    /// Wakes the task: something is queued, or it is to end.
    pub(super) wake: Notify,
}

impl Connection {
    pub(super) fn new(flow: FlowId, peer: SocketAddr, limit_bytes: usize) -> Self {
        Self {
            flow,
            peer,
            stream: RefCell::new(None),
            queue: RefCell::new(VecDeque::new()),
            queued_bytes: Cell::new(0),
            limit_bytes,
            local: Cell::new(None),
            known: Cell::new(false),
            wake: Notify::new(),
        }
    }

    /// Whether more waits than may.
    pub(super) fn is_over_limit(&self) -> bool {
        self.queued_bytes.get() > self.limit_bytes
    }

    /// Whether something waits to be written.
    pub(super) fn has_queue(&self) -> bool {
        self.queued_bytes.get() > 0
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

    /// What waits to be written.
    pub(super) fn queued(&self) -> Vec<Bytes> {
        self.queue.borrow().iter().map(|(_, bytes)| bytes.clone()).collect()
    }

    /// Gives it the socket, once it is connected.
    pub(super) fn open(&self, stream: TcpStream) {
        let local = stream.local_addr().ok();
        self.local.set(local.map(|local| SocketAddr::new(local.ip().to_canonical(), local.port())));
        *self.stream.borrow_mut() = Some(stream);
    }

    /// Writes at once what the socket takes, and queues the rest. A peer that reads too slowly loses the connection.
    pub(super) fn send(&self, id: SendId, bytes: Bytes) {
        if self.is_over_limit() {
            return;
        }
        self.queued_bytes.set(self.queued_bytes.get() + bytes.len());
        self.queue.borrow_mut().push_back((id, bytes));
        if self.stream.borrow().is_some() && (self.write().is_err() || self.has_queue()) {
            self.wake.notify_one();
        }
    }

    /// Writes what the socket takes.
    pub(super) fn write(&self) -> std::io::Result<()> {
        let stream = self.stream.borrow();
        let Some(stream) = stream.as_ref() else { return Ok(()) };
        let mut queue = self.queue.borrow_mut();
        while let Some((_, bytes)) = queue.front_mut() {
            match stream.try_write(bytes) {
                Ok(written) => {
                    self.queued_bytes.set(self.queued_bytes.get().saturating_sub(written));
                    bytes.advance(written);
                    if bytes.is_empty() {
                        queue.pop_front();
                    }
                }
                Err(error) if error.kind() == std::io::ErrorKind::WouldBlock => return Ok(()),
                Err(error) => {
                    return Err(error);
                }
            }
        }
        Ok(())
    }

    /// Runs `f` on the socket, where there is one.
    pub(super) fn with_stream<T>(&self, f: impl FnOnce(&TcpStream) -> T) -> Option<T> {
        self.stream.borrow().as_ref().map(f)
    }

    /// Waits until the socket can be read, or written where `and_write`.
    pub(super) async fn ready(&self, and_write: bool) -> std::io::Result<()> {
        std::future::poll_fn(|cx| {
            let stream = self.stream.borrow();
            let Some(stream) = stream.as_ref() else { return std::task::Poll::Pending };
            if let std::task::Poll::Ready(ready) = stream.poll_read_ready(cx) {
                return std::task::Poll::Ready(ready);
            }
            if and_write {
                return stream.poll_write_ready(cx);
            }
            std::task::Poll::Pending
        })
        .await
    }

    /// Ends it; answers what was not written.
    pub(super) fn close(&self) -> Vec<SendId> {
        self.stream.borrow_mut().take();
        self.queued_bytes.set(0);
        self.wake.notify_one();
        self.queue.borrow_mut().drain(..).map(|(id, _)| id).collect()
    }
}
