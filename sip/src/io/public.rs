//! Our public address, learnt from a STUN server.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use tokio::net::UdpSocket;

use super::sys;
use crate::stun;

/// How often a server is asked that does not answer.
const TRIES: u32 = 5;
/// How long it has for the first answer; each further one twice as long.
const FIRST_WAIT: Duration = Duration::from_millis(250);

/// Asks a STUN server which address ours becomes on the way there (RFC 8489 section 6.2.1).
///
/// # Errors
/// It does not answer, or cannot be reached.
pub async fn public_ip(server: SocketAddr) -> io::Result<IpAddr> {
    let any: SocketAddr = if server.is_ipv4() { ([0, 0, 0, 0], 0).into() } else { ([0u16; 8], 0).into() };
    let socket = UdpSocket::bind(any).await?;
    socket.connect(server).await?;
    let mut wait = FIRST_WAIT;
    for _ in 0..TRIES {
        let [a, b] = sys::random_key()?;
        let mut id = stun::TransactionId::default();
        id.iter_mut().zip(a.to_be_bytes().into_iter().chain(b.to_be_bytes())).for_each(|(to, from)| *to = from);
        socket.send(&stun::binding_request(id)).await?;
        let mut answer = [0; 1_500];
        if let Ok(size) = tokio::time::timeout(wait, socket.recv(&mut answer)).await
            && let Some(address) = stun::mapped_address(answer.get(..size?).unwrap_or_default(), id)
        {
            return Ok(address.ip());
        }
        wait *= 2;
    }
    Err(io::ErrorKind::TimedOut.into())
}
