//! UDP port pairs for RTP and RTCP: given out in turn, rested after a call, drained before use.
//!
//! Sockets stay bound while they rest, for the next call: making, binding and closing two of them is dearer than the rest of a short call's
//! media together.

use std::collections::{HashSet, VecDeque};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::ops::RangeInclusive;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use super::connector::SocketPair;
use super::gather::Gathered;
use super::socket::Socket;
use crate::connect::turn::Relay;
use crate::error::MediaError;

/// Datagrams taken off a fresh socket at most before it is used.
const DRAIN_LIMIT: usize = 4_096;

/// Pairs that stay bound at most while nobody uses them.
const IDLE_LIMIT: usize = 512;

/// Gives out pairs of an even port and the odd one above it.
pub(crate) struct PortPool {
    bind: IpAddr,
    range: RangeInclusive<u16>,
    rest: Duration,
    state: Mutex<State>,
}

struct State {
    /// Even port to try next.
    cursor: u16,
    in_use: HashSet<u16>,
    /// In the order of their release.
    resting: VecDeque<(Instant, u16)>,
    /// The same for those whose sockets are still there.
    idle: VecDeque<(Instant, Pair)>,
}

/// Two bound sockets.
struct Pair {
    port: u16,
    rtp: Arc<Socket>,
    rtcp: Arc<Socket>,
}

impl PortPool {
    pub(crate) fn new(bind: IpAddr, range: RangeInclusive<u16>, rest: Duration) -> Result<Self, MediaError> {
        let (first, last) = (*range.start(), *range.end());
        let even = first.checked_add(first % 2).ok_or(MediaError::NoPairInRange { first, last })?;
        if even.checked_add(1).is_none_or(|odd| odd > last) {
            return Err(MediaError::NoPairInRange { first, last });
        }
        let state = State { cursor: even, in_use: HashSet::new(), resting: VecDeque::new(), idle: VecDeque::new() };
        Ok(PortPool { bind, range: even..=last, rest, state: Mutex::new(state) })
    }

    /// Binds the next free pair. Each pair of the range is tried once.
    pub(crate) fn reserve(self: &Arc<Self>, now: Instant) -> Result<ReservedPort, MediaError> {
        let mut state = self.state.lock().unwrap_or_else(PoisonError::into_inner);
        while state.resting.front().is_some_and(|(released, _)| now.saturating_duration_since(*released) >= self.rest) {
            state.resting.pop_front();
        }
        if state.idle.front().is_some_and(|(released, _)| now.saturating_duration_since(*released) >= self.rest)
            && let Some((_, Pair { port, rtp, rtcp })) = state.idle.pop_front()
        {
            state.in_use.insert(port);
            return Ok(ReservedPort {
                sockets: Some((rtp, rtcp)),
                pool: Arc::clone(self),
                port,
                gathered: Gathered::default(),
            });
        }
        let (first, last) = (*self.range.start(), *self.range.end());
        let mut refused = 0;
        for _ in 0..self.pairs() {
            let port = state.cursor;
            state.cursor = match port.checked_add(2) {
                Some(next) if next < last => next,
                _ => first,
            };
            let is_idle = || state.idle.iter().any(|(_, pair)| pair.port == port);
            if state.in_use.contains(&port) || state.resting.iter().any(|(_, resting)| *resting == port) || is_idle() {
                continue;
            }
            match bind_pair(self.bind, port) {
                Ok((rtp, rtcp)) => {
                    state.in_use.insert(port);
                    return Ok(ReservedPort {
                        sockets: Some((rtp, rtcp)),
                        pool: Arc::clone(self),
                        port,
                        gathered: Gathered::default(),
                    });
                }
                Err(error) if error.kind() == io::ErrorKind::AddrInUse => refused += 1,
                Err(source) => return Err(MediaError::Bind { bind: self.bind, source }),
            }
        }
        let (in_use, resting) = (state.in_use.len(), state.resting.len() + state.idle.len());
        Err(MediaError::PortsExhausted { first, last, bind: self.bind, in_use, resting, refused })
    }

    /// Pairs in the range.
    pub(crate) fn pairs(&self) -> usize {
        usize::from(self.range.end() - self.range.start()).div_ceil(2)
    }

    /// Pairs in use now.
    pub(crate) fn in_use(&self) -> usize {
        self.state.lock().unwrap_or_else(PoisonError::into_inner).in_use.len()
    }
}

/// A bound pair of sockets. Dropping it lets them rest, then be used again.
pub struct ReservedPort {
    /// There until it is dropped.
    sockets: Option<(Arc<Socket>, Arc<Socket>)>,
    pool: Arc<PortPool>,
    port: u16,
    /// What servers said of it.
    pub(super) gathered: Gathered,
}

impl ReservedPort {
    /// The RTP port, even.
    #[must_use]
    pub fn rtp_port(&self) -> u16 {
        self.port
    }

    /// The address that the RTP socket is bound to; its host part may be unspecified (0.0.0.0).
    #[must_use]
    pub fn rtp_addr(&self) -> SocketAddr {
        SocketAddr::new(self.pool.bind, self.port)
    }

    /// How the RTP socket is seen from outside, as far as servers told (see [`Media::gather`](super::Media::gather)).
    #[must_use]
    pub fn reflexive(&self) -> &[SocketAddr] {
        &self.gathered.reflexive
    }

    /// Addresses of TURN servers that are its own.
    pub fn relayed(&self) -> impl Iterator<Item = SocketAddr> {
        self.gathered.held.iter().flat_map(|held| &held.relays).filter_map(Relay::relayed)
    }

    /// Throws away what strangers sent to the ports before the call.
    pub(crate) fn drain(&self) {
        for socket in self.rtp().into_iter().chain(self.rtcp()) {
            drain(socket);
        }
    }

    /// Both sockets, for whoever connects the leg.
    pub(crate) fn pair(&self) -> Option<SocketPair> {
        let (rtp, rtcp) = self.sockets.as_ref()?;
        Some(SocketPair { rtp: Arc::clone(rtp), rtcp: Arc::clone(rtcp) })
    }

    pub(crate) fn rtp(&self) -> Option<&Socket> {
        self.sockets.as_ref().map(|(rtp, _)| &**rtp)
    }

    pub(crate) fn rtcp(&self) -> Option<&Socket> {
        self.sockets.as_ref().map(|(_, rtcp)| &**rtcp)
    }
}

impl std::fmt::Debug for ReservedPort {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("ReservedPort").field("rtp", &self.rtp_addr()).finish()
    }
}

impl Drop for ReservedPort {
    fn drop(&mut self) {
        let port = self.port;
        // While the socket is ours.
        self.gathered = Gathered::default();
        let Some((rtp, rtcp)) = self.sockets.take() else { return };
        let surplus = {
            let mut state = self.pool.state.lock().unwrap_or_else(PoisonError::into_inner);
            state.in_use.remove(&port);
            if state.idle.len() < IDLE_LIMIT {
                state.idle.push_back((Instant::now(), Pair { port, rtp, rtcp }));
                return;
            }
            (rtp, rtcp)
        };
        // Closed before the port may be bound again.
        drop(surplus);
        let mut state = self.pool.state.lock().unwrap_or_else(PoisonError::into_inner);
        state.resting.push_back((Instant::now(), port));
    }
}

fn bind_pair(bind: IpAddr, port: u16) -> io::Result<(Arc<Socket>, Arc<Socket>)> {
    let rtp = Socket::bind(SocketAddr::new(bind, port))?;
    let rtcp = Socket::bind(SocketAddr::new(bind, port.saturating_add(1)))?;
    Ok((Arc::new(rtp), Arc::new(rtcp)))
}

fn drain(socket: &Socket) {
    let mut byte = [0_u8; 1];
    for _ in 0..DRAIN_LIMIT {
        if socket.receive(&mut byte).is_err() {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;
    use std::net::{Ipv4Addr, UdpSocket};

    const LOOPBACK: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);

    /// An even port that was free a moment ago, with the three above it.
    fn free_range(pairs: u16) -> RangeInclusive<u16> {
        loop {
            let probe = UdpSocket::bind((LOOPBACK, 0)).unwrap().local_addr().unwrap().port();
            let first = probe & !1;
            let Some(last) = first.checked_add(pairs * 2 - 1) else { continue };
            if (first..=last).all(|port| UdpSocket::bind((LOOPBACK, port)).is_ok()) {
                return first..=last;
            }
        }
    }

    fn pool(pairs: u16) -> (Arc<PortPool>, RangeInclusive<u16>) {
        let range = free_range(pairs);
        (Arc::new(PortPool::new(LOOPBACK, range.clone(), Duration::from_secs(1)).unwrap()), range)
    }

    #[test]
    fn gives_out_even_ports_with_the_odd_one_above() {
        let (pool, range) = pool(2);
        let now = Instant::now();
        let a = pool.reserve(now).unwrap();
        let b = pool.reserve(now).unwrap();
        assert_eq!((a.rtp_port(), b.rtp_port()), (*range.start(), *range.start() + 2));
        assert_eq!(a.rtcp().unwrap().local().port(), a.rtp_port() + 1);
        assert_eq!(pool.in_use(), 2);
    }

    #[test]
    fn says_what_holds_the_ports_when_none_is_left() {
        let (pool, _) = pool(2);
        let now = Instant::now();
        let a = pool.reserve(now).unwrap();
        let _b = pool.reserve(now).unwrap();
        drop(a);
        let error = pool.reserve(now).unwrap_err();
        assert!(matches!(error, MediaError::PortsExhausted { in_use: 1, resting: 1, refused: 0, .. }), "{error}");
        assert!(error.to_string().contains("widen rtp.ports"));
    }

    #[test]
    fn a_released_port_rests_for_a_second() {
        let (pool, _) = pool(1);
        let start = Instant::now();
        let port = pool.reserve(start).unwrap();
        drop(port);
        assert!(pool.reserve(start + Duration::from_millis(500)).is_err());
        assert!(pool.reserve(Instant::now() + Duration::from_secs(1)).is_ok());
    }

    #[test]
    fn a_port_of_another_program_is_passed_over() {
        let (pool, range) = pool(2);
        let _other = UdpSocket::bind((LOOPBACK, *range.start() + 1)).unwrap();
        assert_eq!(pool.reserve(Instant::now()).unwrap().rtp_port(), *range.start() + 2);
    }

    #[test]
    fn what_strangers_sent_before_the_call_is_gone() {
        let (pool, _) = pool(1);
        let port = pool.reserve(Instant::now()).unwrap();
        let stranger = UdpSocket::bind((LOOPBACK, 0)).unwrap();
        stranger.send_to(b"late", port.rtp_addr()).unwrap();
        port.drain();
        assert!(port.rtp().unwrap().receive(&mut [0; 16]).is_err());
    }

    #[test]
    fn sockets_that_have_rested_are_used_again_and_surplus_ones_are_closed() {
        let (pool, _) = pool(3);
        let start = Instant::now();
        let first = pool.reserve(start).unwrap();
        let port = first.rtp_port();
        drop(first);
        let second = pool.reserve(start).unwrap();
        assert_ne!(second.rtp_port(), port, "the first rests still");
        assert!(UdpSocket::bind((LOOPBACK, port)).is_err(), "and is bound");
        let again = pool.reserve(Instant::now() + Duration::from_secs(1)).unwrap();
        assert_eq!((again.rtp_port(), pool.in_use()), (port, 2));
    }

    #[test]
    fn refuses_a_range_without_a_pair() {
        for range in [5001..=5001, 5000..=5000, 5001..=5002, 65_535..=65_535] {
            assert!(PortPool::new(LOOPBACK, range, Duration::ZERO).is_err());
        }
        assert!(PortPool::new(LOOPBACK, 65_534..=65_535, Duration::ZERO).is_ok());
    }
}
