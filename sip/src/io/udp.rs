//! UDP: datagrams in, in batches.

use std::io;
use std::net::SocketAddr;
use std::os::fd::AsRawFd;
use std::rc::Rc;
use std::time::Instant;

use bytes::Bytes;

use super::fault::guarded;
use super::hub::{SharedHub, flush};
use super::sys::{BATCH, Inbox};
use crate::address::as_seen;
use crate::endpoint::{Source, Transport};
use crate::message::Message;
use crate::stun;
use crate::trace::Direction;

/// Serves one socket for as long as the thread lives.
pub(super) async fn run(hub: SharedHub, index: usize) {
    let (socket, bound, flow, limits) = {
        let hub = hub.borrow();
        let Some(port) = hub.udp.get(index) else { return };
        (Rc::clone(&port.socket), port.local, port.flow, hub.parse)
    };
    let mut inbox = Inbox::new();
    loop {
        let mut ready = match socket.readable().await {
            Ok(ready) => ready,
            Err(error) => {
                tracing::error!(%bound, %error, "UDP socket failed");
                return;
            }
        };
        let mut count = 0;
        let read = ready.try_io(|socket| {
            count = inbox.receive(socket.as_raw_fd())?;
            // A batch that is not full has emptied the socket: saying so spares the call that would find it empty. What
            // comes in meanwhile raises readiness anew, for it is edge-triggered.
            if count < BATCH { Err(io::ErrorKind::WouldBlock.into()) } else { Ok(()) }
        });
        if let Ok(Err(error)) = read {
            // Errors of earlier sends (ICMP unreachable) surface here; the socket goes on.
            tracing::debug!(%bound, %error, "UDP receive");
        }
        if count == 0 {
            continue;
        }
        let now = Instant::now();
        {
            let hub = &mut *hub.borrow_mut();
            hub.stats.datagrams_received += count as u64;
            for datagram in (0..count).filter_map(|index| inbox.datagram(index)) {
                // Keep-alives: line ends or zeros and nothing else.
                if datagram.bytes.iter().all(|byte| matches!(byte, b'\r' | b'\n' | 0)) {
                    continue;
                }
                if !hub.listens_to(now, datagram.from) {
                    continue;
                }
                if let (Some(to), Some(port)) = (datagram.to, hub.udp.get_mut(index)) {
                    port.asked.note(datagram.from, to.to_canonical());
                }
                if let Some(answer) = stun::answer(datagram.bytes, datagram.from) {
                    hub.reply(index, datagram.from, answer.into());
                    continue;
                }
                let local = SocketAddr::new(datagram.to.map_or(bound.ip(), |to| to.to_canonical()), bound.port());
                let seen = as_seen(hub.shared.public(), local, datagram.from.ip());
                let source = Source { transport: Transport::Udp, remote: datagram.from, local: seen, flow };
                let bytes = Bytes::copy_from_slice(datagram.bytes);
                hub.tap(Direction::In, Transport::Udp, (local, datagram.from), &bytes);
                if let Some(message) = guarded("a message", || Message::parse_datagram(bytes, &limits)) {
                    hub.receive(now, source, message);
                }
            }
        }
        flush(&hub, now);
    }
}
