//! An allocation at a TURN server (RFC 8656) by the turn-client-proto crate: an address of the server's that is ours for as long as we
//! refresh it, and a channel to each peer.
//!
//! Peers get channels, and no mere permissions, since media goes by ChannelData (section 12.4), which has a header of four bytes that a media
//! worker can put on by itself. As everything here it has no I/O: what the server sent goes in, what it is to get comes out.

use std::collections::VecDeque;
use std::net::{Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use bytes::BytesMut;
use turn_client_proto::api::{Transmit, TurnConfig};
use turn_client_proto::prelude::{DelayedTransmitBuild as _, TurnClientApi as _};
use turn_client_proto::types::stun::attribute::{ErrorCode, XorMappedAddress};
use turn_client_proto::types::stun::message::{Message, MessageClass, TransactionId};
use turn_client_proto::types::{AddressFamily, Instant as Time, TransportType, TurnCredentials};
use turn_client_proto::udp::{TurnClientUdp, TurnEvent, TurnPollRet, TurnRecvRet};

/// Peers of one allocation at most.
pub const CHANNELS: usize = 16;
/// Allocations of one leg at most.
pub const RELAYS: usize = 2;
/// A request that was not answered is sent again after this, and each time after twice as long, so many times.
const FIRST_WAIT: Duration = Duration::from_millis(200);
const LONGEST_WAIT: Duration = Duration::from_secs(2);
const REPEATS: u32 = 5;
/// By a stream the answer comes, or the stream ends: it is asked once more after this.
const STREAM_WAIT: Duration = Duration::from_secs(10);
/// The allocation is asked what to do next this often in one go at most.
const STEPS: usize = 64;
/// What the client calls our own address: the socket knows the real one.
const HERE: SocketAddr = SocketAddr::new(std::net::IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0);

/// Who asks a server for an address.
#[derive(Clone, PartialEq, Eq)]
pub struct TurnLogin {
    /// The name.
    pub username: String,
    /// The password.
    pub credential: String,
}

impl std::fmt::Debug for TurnLogin {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TurnLogin").finish_non_exhaustive()
    }
}

/// What became of an allocation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum RelayNews {
    /// This address of the server's is ours.
    Allocated(SocketAddr),
    /// This peer has a channel.
    Bound(SocketAddr),
    /// There is no address, or no more: why.
    Over(String),
}

/// What a datagram was to an allocation.
#[derive(Debug, PartialEq, Eq)]
pub enum Heard {
    /// A peer's, through the server.
    Peer(SocketAddr, BytesMut),
    /// The server's own.
    Server,
}

/// One allocation.
pub struct Relay {
    client: TurnClientUdp,
    began: Instant,
    server: SocketAddr,
    relayed: Option<SocketAddr>,
    mapped: Option<SocketAddr>,
    channels: Vec<Channel>,
    /// The last error that the server answered with.
    refusal: Option<String>,
    /// The request that it first wanted a login for.
    challenged: Option<TransactionId>,
    is_over: bool,
    wake: Option<Instant>,
    out: VecDeque<BytesMut>,
    news: VecDeque<RelayNews>,
}

struct Channel {
    peer: SocketAddr,
    is_asked_for: bool,
    number: Option<u16>,
}

impl Relay {
    /// Asks for an address. Where requests get there for sure (`is_reliable`), they are not repeated.
    #[must_use]
    pub fn allocate(now: Instant, server: SocketAddr, login: &TurnLogin, is_reliable: bool) -> Relay {
        let mut config = TurnConfig::new(TurnCredentials::new(&login.username, &login.credential));
        config.set_address_family(if server.is_ipv6() { AddressFamily::IPV6 } else { AddressFamily::IPV4 });
        if is_reliable {
            config.set_request_retransmits(STREAM_WAIT, STREAM_WAIT, 1, STREAM_WAIT);
        } else {
            config.set_request_retransmits(FIRST_WAIT, LONGEST_WAIT, REPEATS, LONGEST_WAIT);
        }
        let mut relay = Relay {
            client: TurnClientUdp::allocate(HERE, server, config),
            began: now,
            server,
            relayed: None,
            mapped: None,
            channels: Vec::new(),
            refusal: None,
            challenged: None,
            is_over: false,
            wake: None,
            out: VecDeque::new(),
            news: VecDeque::new(),
        };
        relay.drive(now);
        relay
    }

    /// The server's address.
    #[must_use]
    pub fn server(&self) -> SocketAddr {
        self.server
    }

    /// The address that is ours, where there is one.
    #[must_use]
    pub fn relayed(&self) -> Option<SocketAddr> {
        self.relayed.filter(|_| !self.is_over)
    }

    /// Our own address as the server sees it.
    #[must_use]
    pub fn mapped(&self) -> Option<SocketAddr> {
        self.mapped
    }

    /// Whether neither an address nor a refusal has come so far.
    #[must_use]
    pub fn is_asking(&self) -> bool {
        self.relayed.is_none() && !self.is_over
    }

    /// Lets a peer send to us, and us to it: up to [`CHANNELS`] of them, of the address's own family.
    pub fn permit(&mut self, now: Instant, peer: SocketAddr) {
        let is_known = self.channels.iter().any(|channel| channel.peer == peer);
        if is_known || self.channels.len() == CHANNELS || peer.is_ipv4() != self.server.is_ipv4() {
            return;
        }
        self.channels.push(Channel { peer, is_asked_for: false, number: None });
        self.drive(now);
    }

    /// The number of the channel to a peer, once the server has it.
    #[must_use]
    pub fn channel(&self, peer: SocketAddr) -> Option<u16> {
        self.channels.iter().find(|channel| channel.peer == peer)?.number
    }

    /// Takes a datagram; nothing where it is not about this allocation.
    pub fn receive(&mut self, now: Instant, from: SocketAddr, datagram: &[u8]) -> Option<Heard> {
        if from != self.server {
            return None;
        }
        self.note(datagram);
        let time = self.time(now);
        let heard = match self.client.recv(Transmit::new(datagram, TransportType::Udp, from, HERE), time) {
            TurnRecvRet::PeerData(data) => Some(Heard::Peer(data.peer, BytesMut::from(data.data()))),
            TurnRecvRet::Handled | TurnRecvRet::PeerIcmp { .. } => Some(Heard::Server),
            TurnRecvRet::Ignored(_) => None,
        };
        self.drive(now);
        heard
    }

    /// What the server is to get so that the peer gets `datagram`; nothing where it is not permitted yet.
    pub fn wrap(&mut self, now: Instant, peer: SocketAddr, datagram: &[u8]) -> Option<BytesMut> {
        let built = self.client.send_to(TransportType::Udp, peer, datagram, self.time(now)).ok()??;
        Some(BytesMut::from(built.data.build().as_slice()))
    }

    /// Gives the address back: what is to be sent for that.
    pub fn release(&mut self, now: Instant) {
        self.is_over = true;
        let _ = self.client.delete(self.time(now));
        // It spaces its requests out, and this one is the last.
        self.drive(now + Duration::from_secs(1));
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        if self.wake.is_some_and(|wake| wake <= now) {
            self.drive(now);
        }
    }

    /// When [`handle_timeout`](Self::handle_timeout) has something to do.
    #[must_use]
    pub fn next_wake(&self) -> Option<Instant> {
        self.wake
    }

    /// What is to be sent to the server next.
    pub fn poll_transmit(&mut self) -> Option<BytesMut> {
        self.out.pop_front()
    }

    /// What happened.
    pub fn poll_news(&mut self) -> Option<RelayNews> {
        self.news.pop_front()
    }

    fn time(&self, now: Instant) -> Time {
        let nanos = now.saturating_duration_since(self.began).as_nanos();
        Time::from_nanos(i64::try_from(nanos).unwrap_or(i64::MAX))
    }

    fn drive(&mut self, now: Instant) {
        let time = self.time(now);
        for _ in 0..STEPS {
            self.bind(time);
            let is_closed = match self.client.poll(time) {
                TurnPollRet::WaitUntil(at) => {
                    let nanos = u64::try_from(at.as_nanos()).unwrap_or(0);
                    self.wake = Some(self.began + Duration::from_nanos(nanos));
                    false
                }
                TurnPollRet::Closed => true,
                _ => false,
            };
            let mut has_done = false;
            while let Some(transmit) = self.client.poll_transmit(time) {
                self.out.push_back(BytesMut::from(&transmit.data[..]));
                has_done = true;
            }
            while let Some(event) = self.client.poll_event() {
                self.happened(event, time);
                has_done = true;
            }
            if is_closed {
                self.wake = None;
                return self.over("it does not answer");
            }
            if !has_done {
                break;
            }
        }
        if self.relayed.is_some() && self.client.relayed_addresses().next().is_none() {
            self.over("it was not refreshed in time");
        }
    }

    /// Asks for the channels that were not asked for.
    fn bind(&mut self, time: Time) {
        if self.relayed().is_none() {
            return;
        }
        for channel in self.channels.iter_mut().filter(|channel| !channel.is_asked_for) {
            channel.is_asked_for = true;
            // Where it cannot be, the peer is not reached by this way.
            let _ = self.client.bind_channel(TransportType::Udp, channel.peer, time);
        }
    }

    fn happened(&mut self, event: TurnEvent, time: Time) {
        match event {
            TurnEvent::AllocationCreated(_, relayed) => {
                self.relayed = Some(relayed);
                self.news.push_back(RelayNews::Allocated(relayed));
            }
            TurnEvent::AllocationCreateFailed(_) => self.over("it has no address for us"),
            TurnEvent::ChannelCreated(_, peer) => {
                // The client says a channel's number in what goes by it alone.
                let sample = self.client.send_to(TransportType::Udp, peer, [0_u8; 0], time).ok().flatten();
                let sample = sample.map(|sample| sample.data.build()).unwrap_or_default();
                let number = sample.first_chunk::<2>().map(|number| u16::from_be_bytes(*number));
                let channel = self.channels.iter_mut().find(|channel| channel.peer == peer);
                if let (Some(channel), Some(number)) = (channel, number.filter(|number| number >> 12 == 4)) {
                    channel.number = Some(number);
                    self.news.push_back(RelayNews::Bound(peer));
                }
            }
            TurnEvent::ChannelCreateFailed(_, peer) => {
                if let Some(channel) = self.channels.iter_mut().find(|channel| channel.peer == peer) {
                    channel.number = None;
                }
            }
            _ => {}
        }
    }

    fn over(&mut self, what: &str) {
        if self.is_over {
            return;
        }
        self.is_over = true;
        let why = self.refusal.take().filter(|_| self.relayed.is_none());
        self.news.push_back(RelayNews::Over(why.unwrap_or_else(|| what.to_owned())));
    }

    /// Takes down what the client keeps to itself: why it was refused, and how the server sees us.
    fn note(&mut self, datagram: &[u8]) {
        if !self.is_asking() || !matches!(datagram.first(), Some(0..=3)) {
            return;
        }
        let Ok(message) = Message::from_bytes(datagram) else { return };
        match message.class() {
            MessageClass::Error => {
                if let Ok(error) = message.attribute::<ErrorCode>() {
                    let reason: String = error.reason().chars().filter(|c| !c.is_control()).take(100).collect();
                    self.refusal = Some(format!("it answers {} {reason}", error.code()));
                    let id = message.transaction_id();
                    // The client waits for a better answer to a login that is wrong.
                    if error.code() == ErrorCode::UNAUTHORIZED && *self.challenged.get_or_insert(id) != id {
                        self.over("it does not know us");
                    }
                }
            }
            MessageClass::Success => {
                let mapped = message.attribute::<XorMappedAddress>();
                self.mapped = mapped.ok().map(|mapped| mapped.addr(message.transaction_id()));
            }
            _ => {}
        }
    }
}

impl std::fmt::Debug for Relay {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Relay").field("server", &self.server).field("is_over", &self.is_over).finish_non_exhaustive()
    }
}
