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

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use thiserror::Error;

use self::dtls::{Association, DtlsStep};
pub use self::dtls::{Fingerprint, Identity};
use self::ice::Ice;
pub use self::ice::{IceConfig, IceCredentials};
use crate::leg::Channel;
use crate::srtp::KeyPair;

/// Nobody to talk to within this: the connection has failed.
const PATIENCE: Duration = Duration::from_secs(15);

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

/// A leg's way to its peer.
pub struct Connection {
    is_client: bool,
    ice: Option<Ice>,
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

    /// Takes what the peer says of ICE since: candidates, or a restart (RFC 8445 section 2.4).
    pub fn update(&mut self, now: Instant, config: &ConnectConfig) {
        if let (Some(ice), Some(config)) = (&mut self.ice, &config.ice) {
            if ice.update(now, config) {
                self.gives_up = now + PATIENCE;
            }
            self.collect(now);
        }
    }

    /// Takes a datagram that is STUN or DTLS; `local` is our address that answers to `from` come from.
    pub fn receive(&mut self, now: Instant, channel: Channel, from: SocketAddr, local: IpAddr, datagram: &[u8]) {
        match (datagram.first(), &mut self.ice) {
            (Some(0..=3), Some(ice)) => ice.receive(now, from, local, datagram),
            (Some(20..=63), ice) => {
                if ice.as_mut().is_some_and(|ice| !ice.knows(now, from, local)) {
                    return;
                }
                let association = match channel {
                    Channel::Rtp => Some(&mut self.rtp),
                    Channel::Rtcp => self.rtcp.as_mut(),
                };
                if let Some(association) = association {
                    association.receive(now, from, datagram);
                }
            }
            _ => return,
        }
        self.collect(now);
    }

    /// Does what is due.
    pub fn handle_timeout(&mut self, now: Instant) {
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
        let wakes = [ice, self.rtp.next_wake(), rtcp, gives_up];
        wakes.into_iter().flatten().min().unwrap_or_else(|| self.gives_up + PATIENCE)
    }

    /// What is to be done next.
    pub fn poll(&mut self) -> Option<Step> {
        self.steps.pop_front()
    }

    /// Gathers what the parts want done.
    fn collect(&mut self, now: Instant) {
        if let Some(ice) = &mut self.ice {
            while let Some(found) = ice.poll_path() {
                match found {
                    ice::Found::Path(to) => {
                        self.steps.push_back(Step::Aim { channel: Channel::Rtp, to });
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
                let from = Some(from.ip());
                self.steps.push_back(Step::Send { channel: Channel::Rtp, from, to, datagram });
            }
        }
        let by_ice = self.ice.is_some();
        let rtcp = self.rtcp.as_mut().map(|rtcp| (Channel::Rtcp, rtcp));
        for (channel, association) in [(Channel::Rtp, &mut self.rtp)].into_iter().chain(rtcp) {
            while let Some(step) = association.poll() {
                match step {
                    DtlsStep::Send(to, datagram) => {
                        self.steps.push_back(Step::Send { channel, from: None, to, datagram });
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
}
