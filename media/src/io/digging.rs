//! A leg's sound through a TURN server (RFC 8656 section 12.4): ChannelData put on and taken off by the worker, which allocates nothing for it.

use std::net::{IpAddr, SocketAddr};

use super::worker::DATAGRAM_BYTES;
use crate::connect::Tunnel;

/// Channel number and length.
const HEADER: usize = 4;
/// What of a leg's goes by a channel and is no handshake begins with RTP's version (RFC 7983).
const RTP: std::ops::RangeInclusive<u8> = 128..=191;

/// A [`Tunnel`], and room to frame a packet in.
pub(crate) struct Digging {
    tunnel: Tunnel,
    frame: [u8; HEADER + DATAGRAM_BYTES],
}

impl Digging {
    pub(crate) fn new(tunnel: Tunnel) -> Self {
        Digging { tunnel, frame: [0; HEADER + DATAGRAM_BYTES] }
    }

    /// Our address that the peer is reached by directly.
    pub(crate) fn local(&self) -> Option<IpAddr> {
        self.tunnel.local
    }

    /// What is to go to which server, where `to` is reached through one.
    pub(crate) fn wrap(&mut self, to: SocketAddr, packet: &[u8]) -> Option<(SocketAddr, &[u8])> {
        let channel = self.tunnel.channel.filter(|channel| channel.peer == to)?;
        let len = u16::try_from(packet.len()).ok()?;
        let (number, length) = (channel.number.to_be_bytes(), len.to_be_bytes());
        let (header, rest) = self.frame.split_first_chunk_mut::<HEADER>()?;
        *header = [number[0], number[1], length[0], length[1]];
        rest.get_mut(..packet.len())?.copy_from_slice(packet);
        Some((channel.server, self.frame.get(..HEADER + packet.len())?))
    }

    /// The peer's packet in a server's datagram; what holds none of RTP or RTCP stays as it is.
    pub(crate) fn unwrap<'a>(&self, from: SocketAddr, datagram: &'a [u8]) -> &'a [u8] {
        let Some(([first, _, l0, l1], rest)) = datagram.split_first_chunk::<HEADER>() else { return datagram };
        if !(64..=79).contains(first) || !self.tunnel.servers.contains(&Some(from)) {
            return datagram;
        }
        let inner = rest.get(..usize::from(u16::from_be_bytes([*l0, *l1])));
        inner.filter(|inner| inner.first().is_some_and(|first| RTP.contains(first))).unwrap_or(datagram)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::connect::TunnelChannel;

    const PEER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 1)), 4_000);
    const SERVER: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(std::net::Ipv4Addr::new(192, 0, 2, 2)), 3_478);

    /// Conforms: RFC 8656 §12.4 — a packet goes to its peer as ChannelData of the peer's channel, with no padding over UDP.
    #[test]
    fn packets_to_the_peer_are_framed_and_others_are_not() {
        let channel = Some(TunnelChannel { peer: PEER, server: SERVER, number: 0x4003 });
        let mut digging = Digging::new(Tunnel { servers: [Some(SERVER), None], channel, local: None });
        let (to, framed) = digging.wrap(PEER, &[128, 1, 2, 3, 4]).unwrap();
        assert_eq!((to, framed), (SERVER, &[0x40, 3, 0, 5, 128, 1, 2, 3, 4][..]));
        assert!(digging.wrap(SERVER, &[128]).is_none());
        assert!(digging.wrap(PEER, &[128; DATAGRAM_BYTES]).is_some());
        assert!(digging.wrap(PEER, &[128; DATAGRAM_BYTES + 1]).is_none());
    }

    #[test]
    fn only_whole_packets_of_rtp_from_the_server_are_taken_out() {
        let digging = Digging::new(Tunnel { servers: [None, Some(SERVER)], ..Tunnel::default() });
        assert_eq!(digging.unwrap(SERVER, &[0x40, 0, 0, 2, 128, 7, 0, 0]), [128, 7], "padded");
        for (from, datagram) in [
            (PEER, &[0x40, 0, 0, 2, 128, 7][..]),
            (SERVER, &[0x40, 0, 0, 3, 128, 7]),
            (SERVER, &[0x40, 0, 0, 2, 22, 254]),
            (SERVER, &[0x40, 0, 0, 0]),
            (SERVER, &[0x80, 0, 0, 2, 128, 7]),
            (SERVER, &[0x40]),
            (SERVER, &[]),
        ] {
            assert_eq!(digging.unwrap(from, datagram), datagram, "{datagram:?}");
        }
    }
}
