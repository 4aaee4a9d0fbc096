//! TCP: listeners and connections (RFC 3261 section 18.3; keep-alives by RFC 5626 section 4.4.1).

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::net::{TcpListener, TcpStream};

use super::IoLimits;
use super::connection::Connection;
use super::hub::{Hub, SharedHub, flush};
use crate::endpoint::{Event, SendId, Source, Transport};
use crate::stream::StreamFramer;
use crate::trace::Direction;

/// Bytes read at a time.
const READ_BYTES: usize = 16 * 1024;

/// Reads of one connection before the others have their turn.
const READS_IN_A_ROW: usize = 8;

/// How long a stop waits for what is queued.
const FINISH: Duration = Duration::from_millis(500);

/// Takes connections for as long as the thread lives.
pub(super) async fn listen(hub: SharedHub, listener: std::net::TcpListener, local: SocketAddr) {
    let listener = match TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!(%local, %error, "cannot serve TCP"),
    };
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
                let connection = hub.borrow_mut().add_connection(peer);
                // Without a place for it the stream is dropped, which closes it.
                if let Some(connection) = connection {
                    connection.open(stream);
                    tokio::task::spawn_local(serve(Rc::clone(&hub), connection));
                }
            }
            Err(error) => {
                // Out of descriptors, as a rule: others must end first.
                tracing::warn!(%local, %error, "cannot take a connection");
                tokio::time::sleep(Duration::from_millis(100)).await;
            }
        }
    }
}

/// Makes a connection of ours stand, then serves it.
pub(super) async fn connect(hub: SharedHub, connection: Rc<Connection>) {
    let limit = hub.borrow().limits.connect_time;
    match tokio::time::timeout(limit, TcpStream::connect(connection.peer)).await {
        Ok(Ok(stream)) => {
            connection.open(stream);
            show_queued(&hub.borrow(), &connection);
            if connection.write().is_ok() {
                return serve(hub, connection).await;
            }
        }
        Ok(Err(error)) => tracing::debug!(peer = %connection.peer, %error, "cannot connect"),
        Err(_) => tracing::debug!(peer = %connection.peer, "cannot connect in time"),
    }
    end(&hub, &connection);
}

/// Waits for what is queued to be written.
pub(super) async fn finish(hub: &SharedHub) {
    let until = Instant::now() + FINISH;
    loop {
        let waiting: Vec<_> = hub.borrow().connections.values().filter(|c| c.has_queue()).map(Rc::clone).collect();
        let Some(first) = waiting.first() else { return };
        if Instant::now() >= until {
            return;
        }
        let _ = tokio::time::timeout_at(until.into(), first.ready(true)).await;
        let _ = first.write();
        tokio::task::yield_now().await;
    }
}

fn end(hub: &SharedHub, connection: &Connection) {
    let now = Instant::now();
    {
        let hub_mut = &mut *hub.borrow_mut();
        if hub_mut.remove_connection(now, connection) && connection.is_known() {
            hub_mut.tell(hub, now, Event::FlowClosed { flow: connection.flow });
        }
    }
    flush(hub, now);
}

/// Shows what waited for the connection to whoever wants to see all messages.
fn show_queued(hub: &Hub, connection: &Connection) {
    let Some(local) = connection.local().filter(|_| hub.tap.is_some()) else { return };
    for bytes in connection.queued() {
        hub.tap(Direction::Out, Transport::Tcp, (local, connection.peer), &bytes);
    }
}

/// Why a connection ends.
enum End {
    ByPeer,
    ForLimit(&'static str),
    Failed(io::Error),
}

async fn serve(hub: SharedHub, connection: Rc<Connection>) {
    let peer = connection.peer;
    match exchange(&hub, &connection).await {
        End::ByPeer => {}
        End::ForLimit(what) => {
            hub.borrow_mut().stats.connections_refused += 1;
            tracing::info!(%peer, "closed a connection: {what}");
        }
        End::Failed(error) => tracing::debug!(%peer, %error, "connection failed"),
    }
    end(&hub, &connection);
}

/// Reads and writes until the connection ends.
async fn exchange(hub: &SharedHub, connection: &Connection) -> End {
    let (mut framer, limits, source) = {
        let hub = hub.borrow();
        let local = connection.with_stream(TcpStream::local_addr).and_then(Result::ok);
        let Some(local) = local else { return End::ByPeer };
        connection.with_stream(|stream| _ = stream.set_nodelay(true));
        let source = Source {
            transport: Transport::Tcp,
            remote: connection.peer,
            local: hub.advertised(local),
            flow: connection.flow,
        };
        (StreamFramer::new(hub.parse), hub.limits, source)
    };
    let mut last = Instant::now();
    // Since when a message is expected to become whole.
    let mut unfinished_since = Some(last);
    // The alarm may ring early, for what it waits for moves on; it is set again then.
    let alarm = tokio::time::sleep_until(deadline(last, unfinished_since, &limits).into());
    tokio::pin!(alarm);
    loop {
        tokio::select! {
            biased;
            ready = connection.ready(connection.has_queue()) => {
                if let Err(error) = ready {
                    return End::Failed(error);
                }
            }
            () = connection.wake.notified() => {}
            () = &mut alarm => {
                let now = Instant::now();
                if unfinished_since.is_some_and(|since| now >= since + limits.message_time) {
                    return End::ForLimit("a message did not become whole in time");
                }
                if now >= last + limits.idle {
                    return End::ForLimit("it was idle");
                }
                alarm.as_mut().reset(deadline(last, unfinished_since, &limits).into());
                continue;
            }
        }
        if connection.is_over_limit() {
            return End::ForLimit("its peer reads too slowly");
        }
        if let Err(error) = connection.write() {
            return End::Failed(error);
        }
        last = Instant::now();
        let any_whole = match read(hub, connection, &mut framer, source) {
            Ok(Some(any_whole)) => any_whole,
            Ok(None) => return End::ByPeer,
            Err(error) => return End::Failed(error),
        };
        if framer.is_broken() {
            // The refusal is on its way; nothing more can be read.
            return End::ForLimit("what it sent cannot be cut into messages");
        }
        let waiting = framer.pending_bytes() > 0;
        if any_whole || (waiting && unfinished_since.is_none()) {
            unfinished_since = waiting.then_some(last);
            let at = deadline(last, unfinished_since, &limits).into();
            if at < alarm.deadline() {
                alarm.as_mut().reset(at);
            }
        }
    }
}

/// When the connection ends if nothing more comes.
fn deadline(last: Instant, unfinished_since: Option<Instant>, limits: &IoLimits) -> Instant {
    let idle = last + limits.idle;
    unfinished_since.map_or(idle, |since| idle.min(since + limits.message_time))
}

/// Takes in what has come: whether that made any message or keep-alive whole; `None` at the stream's end.
fn read(
    hub: &SharedHub,
    connection: &Connection,
    framer: &mut StreamFramer,
    source: Source,
) -> io::Result<Option<bool>> {
    let mut any_whole = false;
    for _ in 0..READS_IN_A_ROW {
        framer.read_buffer().reserve(READ_BYTES);
        let got = connection.with_stream(|stream| stream.try_read_buf(framer.read_buffer()));
        match got {
            None | Some(Ok(0)) => return Ok(None),
            Some(Ok(_)) => {}
            Some(Err(error)) if error.kind() == io::ErrorKind::WouldBlock => break,
            Some(Err(error)) => return Err(error),
        }
        let now = Instant::now();
        let mut any = false;
        while let Some(message) = framer.next() {
            let hub = &mut *hub.borrow_mut();
            if hub.tap.is_some() {
                hub.tap_received(&source, &message);
            }
            connection.set_known();
            hub.endpoint.receive(now, source, message);
            any = true;
        }
        for _ in 0..framer.take_pings() {
            connection.send(SendId::NONE, Bytes::from_static(b"\r\n"));
            any_whole = true;
        }
        if any {
            any_whole = true;
            flush(hub, now);
        }
        if framer.is_broken() {
            break;
        }
    }
    Ok(Some(any_whole))
}
