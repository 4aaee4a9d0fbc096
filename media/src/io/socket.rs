//! A leg's socket: datagrams with the address of ours that they came to, and from the address of ours that they are to leave by.
//!
//! One that is bound to all addresses answers by the system's route else, from whatever address that has: to a peer that asked another one
//! of a machine's addresses, that is a stranger. Bound to `::` it serves both families, and sees IPv4 as IPv4.

use std::io;
use std::net::{IpAddr, Ipv6Addr, SocketAddr, UdpSocket};
use std::os::fd::{AsRawFd, RawFd};

use super::sys;

/// A bound socket that never blocks.
#[derive(Debug)]
pub(crate) struct Socket {
    inner: UdpSocket,
    local: SocketAddr,
}

impl Socket {
    /// Binds it. No `SO_REUSEADDR`: two programs must never share a port.
    pub(crate) fn bind(at: SocketAddr) -> io::Result<Socket> {
        let inner = UdpSocket::bind(at)?;
        inner.set_nonblocking(true)?;
        let local = inner.local_addr()?;
        Ok(Socket { inner, local })
    }

    /// What it is bound to.
    pub(crate) fn local(&self) -> SocketAddr {
        self.local
    }

    /// Whether it can send to there.
    pub(crate) fn reaches(&self, to: SocketAddr) -> bool {
        self.local.is_ipv4() == to.is_ipv4() || self.local.ip().is_unspecified() && self.local.is_ipv6()
    }

    /// Another descriptor of the same socket.
    pub(crate) fn try_clone(&self) -> io::Result<UdpSocket> {
        self.inner.try_clone()
    }

    /// From here on datagrams come with the address that they were sent to, where the socket is bound to all.
    pub(crate) fn tell_addresses(&self) {
        if self.local.ip().is_unspecified() {
            // A system that does not say so leaves one address to choose, which is right on most machines.
            let _ = sys::tell_addresses(self.as_raw_fd(), self.local.is_ipv6());
        }
    }

    /// Sends a datagram, by this address of ours where it is given and the socket has all of them.
    pub(crate) fn send(&self, datagram: &[u8], to: SocketAddr, from: Option<IpAddr>) -> io::Result<()> {
        let to = self.as_it_has(to);
        match from.filter(|_| self.local.ip().is_unspecified()) {
            Some(from) => {
                let from = self.as_it_has(SocketAddr::new(from, 0)).ip();
                sys::send_from(self.as_raw_fd(), datagram, to, from)
            }
            None => self.inner.send_to(datagram, to).map(drop),
        }
    }

    /// Takes a datagram: its size, whom it is from, and the address that it came to, where that was [asked for](Self::tell_addresses).
    pub(crate) fn receive(&self, into: &mut [u8]) -> io::Result<(usize, SocketAddr, Option<IpAddr>)> {
        if !self.local.ip().is_unspecified() {
            let (size, from) = self.inner.recv_from(into)?;
            return Ok((size, from, Some(self.local.ip())));
        }
        let (size, from, to) = sys::receive(self.as_raw_fd(), into)?;
        let from = from.ok_or(io::ErrorKind::InvalidData)?;
        Ok((size, SocketAddr::new(from.ip().to_canonical(), from.port()), to.map(|to| to.to_canonical())))
    }

    /// An address as a socket of this family has it.
    fn as_it_has(&self, addr: SocketAddr) -> SocketAddr {
        match (self.local.ip(), addr.ip()) {
            (IpAddr::V6(Ipv6Addr::UNSPECIFIED), IpAddr::V4(ip)) => {
                SocketAddr::new(IpAddr::V6(ip.to_ipv6_mapped()), addr.port())
            }
            _ => addr,
        }
    }
}

impl AsRawFd for Socket {
    fn as_raw_fd(&self) -> RawFd {
        self.inner.as_raw_fd()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn at(text: &str) -> SocketAddr {
        text.parse().unwrap()
    }

    /// What a datagram looks like to a peer that sent one to this address of the socket's.
    #[test]
    fn answers_leave_by_the_address_that_was_asked_whatever_the_family() {
        for (bind, peer, asked) in [
            ("0.0.0.0:0", "127.0.0.1:0", "127.0.0.2"),
            ("0.0.0.0:0", "127.0.0.1:0", "127.0.0.1"),
            ("[::]:0", "127.0.0.1:0", "127.0.0.2"),
            ("[::]:0", "[::1]:0", "::1"),
            ("127.0.0.3:0", "127.0.0.1:0", "127.0.0.3"),
        ] {
            let socket = Socket::bind(at(bind)).unwrap();
            socket.tell_addresses();
            let peer = UdpSocket::bind(peer).unwrap();
            let asked: IpAddr = asked.parse().unwrap();
            peer.send_to(b"ask", (asked, socket.local().port())).unwrap();
            let mut bytes = [0; 16];
            let (size, from, to) = socket.receive(&mut bytes).unwrap();
            assert_eq!((&bytes[..size], from, to), (&b"ask"[..], peer.local_addr().unwrap(), Some(asked)), "{bind}");
            assert!(socket.reaches(from));
            socket.send(b"answer", from, to).unwrap();
            let (size, from) = peer.recv_from(&mut bytes).unwrap();
            assert_eq!((&bytes[..size], from.ip()), (&b"answer"[..], asked), "{bind}");
        }
        let socket = Socket::bind(at("0.0.0.0:0")).unwrap();
        assert!(!socket.reaches(at("[::1]:9")));
        assert!(
            socket.send(b"x", at("127.0.0.1:9"), Some(IpAddr::from([192, 0, 2, 1]))).is_err(),
            "no address of ours"
        );
        assert!(socket.receive(&mut [0; 16]).is_err(), "nothing there");
    }
}
