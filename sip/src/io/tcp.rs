//! Connections, by TCP, TLS and WebSocket: listeners, and the task of each connection (RFC 3261 section 18.3; keep-alives by RFC
//! 5626 section 4.4.1; RFC 7118).

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use super::connection::Connection;
use super::fault::guarded_task;
use super::hub::{Hub, SharedHub, flush};
use super::tls;
use super::wire::{ByteStream, Received, Socket, Wire};
use super::{IoLimits, Listen};
use crate::endpoint::{Event, SendId, Source, Transport};
use crate::message::Message;
use crate::parse::ParseError;
use crate::stream::StreamFramer;
use crate::trace::Direction;

/// Reads of one connection before the others have their turn.
const READS_IN_A_ROW: usize = 8;

/// How long a stop waits for what is queued.
const FINISH: Duration = Duration::from_millis(500);

/// Takes connections for as long as the thread lives.
pub(super) async fn listen(hub: SharedHub, listener: std::net::TcpListener, listen: Listen) {
    let (transport, local) = (listen.transport, listen.address);
    let listener = match TcpListener::from_std(listener) {
        Ok(listener) => listener,
        Err(error) => return tracing::error!(%listen, %error, "cannot take connections"),
    };
    loop {
        match listener.accept().await {
            Ok((stream, peer)) => {
                let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
                if !hub.borrow().listens_to(Instant::now(), peer) {
                    continue;
                }
                let connection = hub.borrow_mut().add_connection(transport, peer, (false, None));
                // Without a place for it the stream is dropped, which closes it.
                if let Some(connection) = connection {
                    let stream = Rc::new(stream);
                    match accepted(&hub.borrow(), transport, Rc::clone(&stream)) {
                        Ok(wire) => connection.open(stream, wire),
                        Err(error) => tracing::warn!(%listen, %peer, %error, "cannot serve a connection"),
                    }
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
    let from = hub.borrow().source_for(connection.peer);
    match tokio::time::timeout(limit, dial(from, connection.peer)).await {
        Ok(Ok(stream)) => {
            let stream = Rc::new(stream);
            match connected(&hub.borrow(), &connection, Rc::clone(&stream)) {
                Ok(wire) => connection.open(stream, wire),
                Err(error) => tracing::info!(peer = %connection.peer, %error, "cannot connect"),
            }
            show_queued(&hub.borrow(), &connection);
            if connection.write().is_ok() {
                return serve(hub, connection).await;
            }
        }
        Ok(Err(error)) => tracing::debug!(peer = %connection.peer, %error, "cannot connect"),
        Err(_) => tracing::debug!(peer = %connection.peer, "cannot connect in time"),
    }
    hub.borrow().shared.resolver.note_dead(connection.transport, connection.peer);
    end(&hub, &connection);
}

async fn dial(from: Option<IpAddr>, peer: SocketAddr) -> io::Result<TcpStream> {
    let Some(from) = from else { return TcpStream::connect(peer).await };
    let socket = if peer.is_ipv4() { TcpSocket::new_v4()? } else { TcpSocket::new_v6()? };
    socket.bind(SocketAddr::new(from, 0))?;
    socket.connect(peer).await
}

/// How messages travel on a connection that somebody made to us.
fn accepted(hub: &Hub, transport: Transport, stream: Rc<TcpStream>) -> io::Result<Wire> {
    let socket = Socket(stream);
    let bytes = match transport {
        Transport::Tls | Transport::Wss => {
            let config = hub.tls.server.clone().ok_or(io::ErrorKind::Unsupported)?;
            ByteStream::server(socket, config)?
        }
        _ => ByteStream::Plain(socket),
    };
    Ok(match transport {
        Transport::Ws | Transport::Wss => {
            Wire::web_socket(bytes, Arc::clone(&hub.origins), hub.parse.max_message_bytes)
        }
        _ => Wire::stream(bytes),
    })
}

/// How messages travel on a connection of ours.
fn connected(hub: &Hub, connection: &Connection, stream: Rc<TcpStream>) -> io::Result<Wire> {
    let socket = Socket(stream);
    if connection.transport != Transport::Tls {
        return Ok(Wire::stream(ByteStream::Plain(socket)));
    }
    let name = connection.name.as_deref().map_or_else(|| connection.peer.ip().to_string(), str::to_owned);
    let name = tls::server_name(&name).ok_or(io::ErrorKind::InvalidInput)?;
    Ok(Wire::stream(ByteStream::client(socket, Arc::clone(&hub.tls.client), name)?))
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
        hub.tap(Direction::Out, connection.transport, (local, connection.peer), &bytes);
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
    let ended = guarded_task("a connection", exchange(&hub, &connection)).await;
    match ended.unwrap_or(End::ForLimit("a fault of this program")) {
        End::ByPeer => {}
        End::ForLimit(what) => {
            hub.borrow_mut().stats.connections_refused += 1;
            tracing::info!(%peer, "closed a connection: {what}");
        }
        // A certificate that proves nothing, as a rule: somebody has to know.
        End::Failed(error) if connection.is_ours && !connection.is_heard() => {
            let name = connection.name.as_deref().unwrap_or("no name");
            tracing::warn!(%peer, "cannot speak with {name} by {}: {error}", connection.transport);
        }
        End::Failed(error) => tracing::debug!(%peer, %error, "connection failed"),
    }
    end(&hub, &connection);
}

/// Reads and writes until the connection ends.
async fn exchange(hub: &SharedHub, connection: &Connection) -> End {
    let (mut framer, limits, source) = {
        let hub = hub.borrow();
        let Some(local) = connection.local() else { return End::ByPeer };
        let source = Source {
            transport: connection.transport,
            remote: connection.peer,
            local: hub.advertised(connection.transport, local, connection.peer),
            flow: connection.flow,
        };
        (StreamFramer::new(hub.parse), hub.limits, source)
    };
    let mut last = Instant::now();
    // Since when a message is expected to become whole: of whoever connects to us, from the beginning.
    let mut unfinished_since = Some(last).filter(|_| !connection.is_ours);
    // The alarm may ring early, for what it waits for moves on; it is set again then.
    let mut pinged = last;
    let next = |last: Instant, pinged: Instant, unfinished_since| {
        let end = deadline(last, unfinished_since, &limits);
        if connection.is_ours { end.min(pinged.max(last) + limits.keep_alive) } else { end }
    };
    let alarm = tokio::time::sleep_until(next(last, pinged, unfinished_since).into());
    tokio::pin!(alarm);
    // The socket may be empty and yet something be left to take: decrypted, or cut into frames.
    let mut more = false;
    loop {
        tokio::select! {
            biased;
            () = tokio::task::yield_now(), if more => {}
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
                if connection.is_ours && now >= pinged.max(last) + limits.keep_alive {
                    connection.send(SendId::NONE, Bytes::from_static(b"\r\n\r\n"));
                    pinged = now;
                }
                alarm.as_mut().reset(next(last, pinged, unfinished_since).into());
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
            Ok(Some(taken)) => {
                more = taken.more;
                taken.any_whole
            }
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
            let at = next(last, pinged, unfinished_since).into();
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

/// What a turn of reading brought.
struct Taken {
    /// A message or keep-alive became whole.
    any_whole: bool,
    /// There may be more.
    more: bool,
}

/// Takes in what has come; `None` at the stream's end.
fn read(
    hub: &SharedHub,
    connection: &Connection,
    framer: &mut StreamFramer,
    source: Source,
) -> io::Result<Option<Taken>> {
    let mut any_whole = false;
    let mut more = true;
    for _ in 0..READS_IN_A_ROW {
        let received = match connection.read(framer.read_buffer()) {
            None | Some(Ok(Received::End)) => return Ok(None),
            Some(Ok(received)) => received,
            Some(Err(error)) if error.kind() == io::ErrorKind::WouldBlock => {
                more = false;
                break;
            }
            Some(Err(error)) => return Err(error),
        };
        let now = Instant::now();
        let mut any = false;
        match received {
            Received::Bytes => {
                while let Some(message) = framer.next() {
                    take(hub, connection, now, &source, message);
                    any = true;
                }
                for _ in 0..framer.take_pings() {
                    connection.send(SendId::NONE, Bytes::from_static(b"\r\n"));
                    any_whole = true;
                }
            }
            // RFC 7118 section 6: a message that is nothing but line ends is a keep-alive.
            Received::Message(bytes) if bytes.iter().all(|byte| matches!(byte, b'\r' | b'\n')) => {
                if bytes.len() > 2 {
                    connection.send(SendId::NONE, Bytes::from_static(b"\r\n"));
                }
                any_whole = true;
            }
            Received::Message(bytes) => {
                let limits = hub.borrow().parse;
                take(hub, connection, now, &source, Message::parse_datagram(bytes, &limits));
                any = true;
            }
            Received::Nothing => any_whole |= connection.has_queue(),
            Received::End => {}
        }
        if any {
            any_whole = true;
            flush(hub, now);
        }
        if framer.is_broken() {
            break;
        }
    }
    connection.write()?;
    Ok(Some(Taken { any_whole, more }))
}

/// Hands a message to the endpoint.
fn take(hub: &SharedHub, connection: &Connection, now: Instant, source: &Source, message: Result<Message, ParseError>) {
    let hub = &mut *hub.borrow_mut();
    hub.tap_received(source, &message);
    connection.set_heard();
    if !connection.is_known() {
        connection.set_known();
        if matches!(source.transport, Transport::Tls | Transport::Wss) {
            let names = connection.certified_names();
            if !names.is_empty() {
                hub.shared.keep_names(connection.flow, names);
            }
        }
    }
    hub.receive(now, *source, message);
}
