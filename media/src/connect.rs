//! How a leg's keys and path come about in the media path itself: ICE (RFC 8445) finds an address that works, DTLS-SRTP
//! (RFC 5763, 5764) agrees on keys with whoever holds the certificate that signalling named.
//!
//! [`Connection`] is a state machine without I/O: datagrams and the time in, [`Step`]s out. It runs on the async side, beside the
//! worker: handshakes allocate and compute, which a worker may not. The worker hands it what is STUN or DTLS by its first byte
//! (RFC 7983), and takes keys and address from it.
//!
//! - Who answers at an address is believed by certificate alone: a handshake whose certificate does not fit the fingerprint
//!   fails, and harms no other. Handshakes of several addresses run side by side, bounded ([`dtls::PEERS`]), until one
//!   has succeeded; so a sender off the path who is first with its ClientHello wins nothing.
//! - With ICE, DTLS is taken from addresses only that a check of the peer's came from.

pub mod dtls;
pub mod ice;
pub mod turn;

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use thiserror::Error;

use self::dtls::{Association, DtlsStep};
pub use self::dtls::{Fingerprint, Identity};
use self::ice::{Ice, Way};
pub use self::ice::{IceConfig, IceCredentials};
pub use self::turn::TurnLogin;
use self::turn::{Heard, RELAYS, Relay, RelayNews};
use crate::leg::Channel;
use crate::srtp::KeyPair;

/// Nobody to talk to within this: the connection has failed.
const PATIENCE: Duration = Duration::from_secs(15);
/// Peers whose way is remembered, so that answers to a handshake go the way it came.
const WAYS: usize = 2 * dtls::PEERS;

/// What is needed to connect, as offer and answer settled it.
#[derive(Debug, Clone)]
pub struct ConnectConfig {
    /// Our certificate.
    pub identity: Arc<Identity>,
    /// We begin the handshake (`a=setup:active`, RFC 4145).
    pub is_client: bool,
    /// What the peer's certificate has to be.
    pub fingerprint: Fingerprint,
    /// Where the path is found by ICE.
    pub ice: Option<IceConfig>,
}

impl ConnectConfig {
    /// Whether a connection by `other` would be this one.
    #[must_use]
    pub fn is_same_association(&self, other: &ConnectConfig) -> bool {
        Arc::ptr_eq(&self.identity, &other.identity)
            && self.is_client == other.is_client
            && self.fingerprint == other.fingerprint
    }
}

/// Why there is no connection.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum ConnectError {
    /// The library would not have what it was given.
    #[error("{what}: {why}")]
    SetUp {
        /// What was being set up.
        what: &'static str,
        /// What the library says.
        why: String,
    },
    /// `a=fingerprint` that cannot be read, or whose hash is not known.
    #[error("fingerprint {0:?} is not `HASH AB:CD:...` with sha-1, sha-256, sha-384 or sha-512")]
    Fingerprint(String),
}

/// What a [`Connection`] wants done.
#[derive(Debug)]
pub enum Step {
    /// Send this.
    Send {
        /// By which socket.
        channel: Channel,
        /// Our address that it is to come from, where that matters.
        from: Option<IpAddr>,
        /// Whereto.
        to: SocketAddr,
        /// What.
        datagram: BytesMut,
    },
    /// What the TURN servers do for this leg's sound from now on.
    Tunnel(Tunnel),
    /// The peer's sound goes there.
    Aim {
        /// Which of its sockets.
        channel: Channel,
        /// Its address.
        to: SocketAddr,
    },
    /// Keys were agreed on.
    Keys {
        /// For which socket; RTP's hold for both where they share one.
        channel: Channel,
        /// Both directions.
        keys: Box<KeyPair>,
    },
    /// There is no way to the peer, or it is somebody else.
    Failed(String),
    /// The peer, once connected, can be reached no more.
    Lost,
}

/// How a leg's sound goes, and what TURN servers do for it: in their datagrams there is a peer's, and to one of its peers sound goes by them.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tunnel {
    /// The servers.
    pub servers: [Option<SocketAddr>; RELAYS],
    /// Where the peer is reached through one of them.
    pub channel: Option<TunnelChannel>,
    /// Our address that the peer is reached by directly, where ICE found one.
    pub local: Option<IpAddr>,
}

/// A channel through a TURN server (RFC 8656 section 12).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TunnelChannel {
    /// Whom it leads to.
    pub peer: SocketAddr,
    /// Through which server.
    pub server: SocketAddr,
    /// Its number there.
    pub number: u16,
}

/// A leg's way to its peer.
pub struct Connection {
    is_client: bool,
    ice: Option<Ice>,
    relays: Vec<Relay>,
    /// The peer's addresses that the relays were told of.
    permitted: usize,
    /// The path that was found: to this peer, this way.
    path: Option<(SocketAddr, Way)>,
    tunnel: Tunnel,
    /// Which way a peer's handshake came last.
    ways: Ways,
    rtp: Association,
    /// Where RTCP has a socket of its own.
    rtcp: Option<Association>,
    gives_up: Instant,
    steps: VecDeque<Step>,
}

impl Connection {
    /// Begins to connect. `remote` and `remote_rtcp` are the addresses in the peer's description; there is no `remote_rtcp` where RTCP
    /// shares the RTP socket.
    ///
    /// # Errors
    /// [`ConnectError::SetUp`].
    pub fn new(
        now: Instant,
        config: &ConnectConfig,
        remote: Option<SocketAddr>,
        remote_rtcp: Option<SocketAddr>,
    ) -> Result<Self, ConnectError> {
        let ice = config.ice.as_ref().map(|ice| Ice::new(now, ice, &config.identity)).transpose()?;
        let mut connection = Connection {
            is_client: config.is_client,
            rtp: Association::new(config)?,
            rtcp: remote_rtcp.map(|_| Association::new(config)).transpose()?,
            ice,
            relays: Vec::new(),
            permitted: 0,
            path: None,
            tunnel: Tunnel::default(),
            ways: Ways::default(),
            gives_up: now + PATIENCE,
            steps: VecDeque::new(),
        };
        if connection.is_client && connection.ice.is_none() {
            if let Some(remote) = remote {
                connection.rtp.call(now, remote);
            }
            if let (Some(rtcp), Some(remote)) = (&mut connection.rtcp, remote_rtcp) {
                rtcp.call(now, remote);
            }
        }
        connection.rtp.prefer(remote);
        if let Some(rtcp) = &mut connection.rtcp {
            rtcp.prefer(remote_rtcp);
        }
        connection.collect(now);
        Ok(connection)
    }

    /// Looks for a path through a TURN server too, by an allocation of this leg's socket.
    pub fn add_relay(&mut self, now: Instant, relay: Relay) {
        if self.relays.len() < RELAYS {
            if let (Some(ice), Some(at)) = (&mut self.ice, relay.relayed()) {
                ice.add_relayed(at);
            }
            self.relays.push(relay);
            self.permitted = 0;
            self.collect(now);
        }
    }

    /// Gives the allocations up, for whoever goes on with them or releases them.
    pub fn take_relays(&mut self) -> Vec<Relay> {
        std::mem::take(&mut self.relays)
    }

    /// Takes what the peer says of ICE since: candidates, or a restart (RFC 8445 section 2.4).
    pub fn update(&mut self, now: Instant, config: &ConnectConfig) {
        if let (Some(ice), Some(config)) = (&mut self.ice, &config.ice) {
            if ice.update(now, config) {
                self.gives_up = now + PATIENCE;
            }
            self.permitted = 0;
            self.collect(now);
        }
    }

    /// Takes a datagram that is STUN or DTLS; `local` is our address that answers to `from` come from.
    pub fn receive(&mut self, now: Instant, channel: Channel, from: SocketAddr, local: IpAddr, datagram: &[u8]) {
        let heard =
            self.relays.iter_mut().find_map(|relay| Some((relay.relayed(), relay.receive(now, from, datagram)?)));
        match heard {
            Some((Some(at), Heard::Peer(peer, datagram))) => self.take(now, channel, peer, Way::Relayed(at), &datagram),
            Some(_) => {}
            None => self.take(now, channel, from, Way::Direct(local), datagram),
        }
        self.collect(now);
    }

    fn take(&mut self, now: Instant, channel: Channel, from: SocketAddr, way: Way, datagram: &[u8]) {
        match (datagram.first(), &mut self.ice) {
            (Some(0..=3), Some(ice)) => ice.receive(now, from, way, datagram),
            (Some(20..=63), ice) => {
                if ice.as_mut().is_some_and(|ice| !ice.knows(now, from, way)) {
                    return;
                }
                self.ways.set(from, way);
                let association = match channel {
                    Channel::Rtp => Some(&mut self.rtp),
                    Channel::Rtcp => self.rtcp.as_mut(),
                };
                if let Some(association) = association {
                    association.receive(now, from, datagram);
                }
            }
            _ => {}
        }
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
        self.relays.iter_mut().for_each(|relay| relay.handle_timeout(now));
        if let Some(ice) = &mut self.ice {
            ice.handle_timeout(now);
        }
        self.rtp.handle_timeout(now);
        if let Some(rtcp) = &mut self.rtcp {
            rtcp.handle_timeout(now);
        }
        if now >= self.gives_up && !self.rtp.is_done() {
            self.gives_up = now + PATIENCE;
            let path = self.ice.as_ref().is_some_and(|ice| !ice.has_path());
            let what =
                if path { "no path to the peer was found (ICE)" } else { "the peer did not agree on keys (DTLS)" };
            let why = self.rtp.last_fault().map(|why| format!(": {why}")).unwrap_or_default();
            self.steps.push_back(Step::Failed(format!("{what} within {} s{why}", PATIENCE.as_secs())));
        }
        self.collect(now);
    }

    /// When [`handle_timeout`](Self::handle_timeout) has something to do.
    pub fn next_wake(&mut self) -> Instant {
        let ice = self.ice.as_mut().and_then(Ice::next_wake);
        let rtcp = self.rtcp.as_ref().and_then(Association::next_wake);
        let gives_up = Some(self.gives_up).filter(|_| !self.rtp.is_done());
        let relays = self.relays.iter().filter_map(Relay::next_wake).min();
        let wakes = [ice, self.rtp.next_wake(), rtcp, gives_up, relays];
        wakes.into_iter().flatten().min().unwrap_or_else(|| self.gives_up + PATIENCE)
    }

    /// What is to be done next.
    pub fn poll(&mut self) -> Option<Step> {
        self.steps.pop_front()
    }

    /// Gathers what the parts want done.
    fn collect(&mut self, now: Instant) {
        self.collect_relays(now);
        self.collect_ice(now);
        self.collect_dtls(now);
        self.dig();
        for relay in &mut self.relays {
            let to = relay.server();
            while let Some(datagram) = relay.poll_transmit() {
                self.steps.push_back(Step::Send { channel: Channel::Rtp, from: None, to, datagram });
            }
        }
    }

    /// What came of the allocations, and whom they are to let through.
    fn collect_relays(&mut self, now: Instant) {
        let Some(ice) = &mut self.ice else { return };
        for relay in &mut self.relays {
            while let Some(news) = relay.poll_news() {
                // Of one that is over, the checks that go by it tell the rest.
                if let RelayNews::Allocated(at) = news {
                    ice.add_relayed(at);
                    self.permitted = 0;
                }
            }
        }
        let peers = ice.peers().count();
        if self.permitted != peers && !self.relays.is_empty() {
            self.permitted = peers;
            for relay in &mut self.relays {
                ice.peers().for_each(|peer| relay.permit(now, peer));
            }
        }
    }

    fn collect_ice(&mut self, now: Instant) {
        let Some(ice) = &mut self.ice else { return };
        while let Some(found) = ice.poll_path() {
            match found {
                ice::Found::Path(to, way) => {
                    self.path = Some((to, way));
                    self.ways.set(to, way);
                    if let Way::Direct(_) = way {
                        self.steps.push_back(Step::Aim { channel: Channel::Rtp, to });
                    }
                    if self.is_client {
                        self.rtp.call(now, to);
                    }
                }
                ice::Found::Lost if self.rtp.is_done() => self.steps.push_back(Step::Lost),
                ice::Found::Lost => {
                    self.steps.push_back(Step::Failed("no path to the peer is left (ICE)".to_owned()));
                }
            }
        }
        while let Some((from, to, datagram)) = ice.poll_transmit() {
            let step = match self.relays.iter_mut().find(|relay| relay.relayed() == Some(from)) {
                Some(relay) => through(relay, now, to, &datagram),
                None => Some(Step::Send { channel: Channel::Rtp, from: Some(from.ip()), to, datagram }),
            };
            self.steps.extend(step);
        }
    }

    fn collect_dtls(&mut self, now: Instant) {
        let by_ice = self.ice.is_some();
        let rtcp = self.rtcp.as_mut().map(|rtcp| (Channel::Rtcp, rtcp));
        for (channel, association) in [(Channel::Rtp, &mut self.rtp)].into_iter().chain(rtcp) {
            while let Some(step) = association.poll() {
                match step {
                    DtlsStep::Send(to, datagram) => {
                        let (relayed, from) = match self.ways.of(to) {
                            Some(Way::Relayed(at)) => (Some(at), None),
                            Some(Way::Direct(local)) => (None, Some(local)),
                            None => (None, None),
                        };
                        let relays = self.relays.iter_mut();
                        let relay = relays.into_iter().find(|relay| relayed.is_some() && relay.relayed() == relayed);
                        self.steps.extend(match relay {
                            Some(relay) => through(relay, now, to, &datagram),
                            None => Some(Step::Send { channel, from, to, datagram }),
                        });
                    }
                    DtlsStep::Keys(from, keys) => {
                        if !by_ice {
                            self.steps.push_back(Step::Aim { channel, to: from });
                        }
                        self.steps.push_back(Step::Keys { channel, keys });
                    }
                }
            }
        }
    }

    /// Says what the TURN servers do, where that has changed; a path through one of them is used from here on.
    fn dig(&mut self) {
        let mut tunnel = Tunnel::default();
        for (place, relay) in tunnel.servers.iter_mut().zip(&self.relays) {
            *place = relay.relayed().map(|_| relay.server());
        }
        match self.path {
            Some((peer, Way::Relayed(at))) => {
                let relay = self.relays.iter().find(|relay| relay.relayed() == Some(at));
                let number = relay.and_then(|relay| Some((relay.server(), relay.channel(peer)?)));
                tunnel.channel = number.map(|(server, number)| TunnelChannel { peer, server, number });
            }
            Some((_, Way::Direct(local))) => tunnel.local = Some(local),
            None => {}
        }
        if tunnel != self.tunnel {
            let is_new = tunnel.channel != self.tunnel.channel;
            self.tunnel = tunnel;
            self.steps.push_back(Step::Tunnel(tunnel));
            if let Some(channel) = tunnel.channel.filter(|_| is_new) {
                self.steps.push_back(Step::Aim { channel: Channel::Rtp, to: channel.peer });
            }
        }
    }
}

/// Which way peers were heard last: the latest few of them.
#[derive(Default)]
struct Ways(VecDeque<(SocketAddr, Way)>);

impl Ways {
    fn set(&mut self, peer: SocketAddr, way: Way) {
        self.0.retain(|(known, _)| *known != peer);
        if self.0.len() == WAYS {
            self.0.pop_front();
        }
        self.0.push_back((peer, way));
    }

    fn of(&self, peer: SocketAddr) -> Option<Way> {
        self.0.iter().find(|(known, _)| *known == peer).map(|(_, way)| *way)
    }
}

/// A datagram to a peer through a relay.
fn through(relay: &mut Relay, now: Instant, peer: SocketAddr, datagram: &[u8]) -> Option<Step> {
    let to = relay.server();
    let datagram = relay.wrap(now, peer, datagram)?;
    Some(Step::Send { channel: Channel::Rtp, from: None, to, datagram })
}
