//! Which address of ours peers asked last, for a socket that is bound to all: what goes to a peer leaves by that one, and not by whichever the
//! system's route has, which the peer may not know (RFC 3581 section 4 asks for it of responses).

use std::collections::{HashMap, VecDeque};
use std::net::{IpAddr, SocketAddr};

/// Peers that are remembered at most, the latest of them; what goes to others takes the system's route.
const PEERS: usize = 4_096;

/// The addresses.
#[derive(Debug, Default)]
pub(super) struct Asked {
    of: HashMap<SocketAddr, IpAddr>,
    /// In the order of their coming.
    order: VecDeque<SocketAddr>,
}

impl Asked {
    /// A datagram of this peer's came to this address of ours.
    pub(super) fn note(&mut self, peer: SocketAddr, ours: IpAddr) {
        if self.of.insert(peer, ours).is_some() {
            return;
        }
        self.order.push_back(peer);
        if self.order.len() > PEERS
            && let Some(oldest) = self.order.pop_front()
        {
            self.of.remove(&oldest);
        }
    }

    /// The address that this peer asked.
    pub(super) fn by(&self, peer: SocketAddr) -> Option<IpAddr> {
        self.of.get(&peer).copied()
    }

    /// The address is of no use for this peer any more; whether there was one.
    pub(super) fn forget(&mut self, peer: SocketAddr) -> bool {
        self.order.retain(|known| *known != peer);
        self.of.remove(&peer).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_latest_peers_are_remembered_and_no_more() {
        let peer = |n: usize| SocketAddr::new(IpAddr::from([10, 0, (n >> 8) as u8, n as u8]), 5_060);
        let (one, two) = (IpAddr::from([192, 0, 2, 1]), IpAddr::from([192, 0, 2, 2]));
        let mut asked = Asked::default();
        (0..PEERS).for_each(|n| asked.note(peer(n), one));
        asked.note(peer(0), two);
        assert_eq!((asked.by(peer(0)), asked.by(peer(1))), (Some(two), Some(one)));
        asked.note(peer(PEERS), two);
        assert_eq!((asked.by(peer(0)), asked.by(peer(PEERS)), asked.of.len()), (None, Some(two), PEERS));
        assert!(asked.forget(peer(5)) && !asked.forget(peer(5)));
        assert_eq!((asked.of.len(), asked.order.len()), (PEERS - 1, PEERS - 1));
    }
}
