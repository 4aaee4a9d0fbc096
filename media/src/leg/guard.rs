//! What stands between the leg and the network: SRTP, and what is no RTP at all (STUN, DTLS), which goes to the async side.

use std::net::{IpAddr, Ipv4Addr, SocketAddr};

use ringbuf::HeapProd;
use ringbuf::traits::Producer;

use super::Channel;
use crate::config::Security;
use crate::srtp::{KeyPair, Receiver, Sender, SrtpError};

/// STUN and DTLS datagrams beyond this are cut: none is as long.
pub(crate) const HANDSHAKE_BYTES: usize = 1_500;
/// Datagrams that wait for the async side at most.
pub(crate) const HANDSHAKE_RING: usize = 32;
/// Protected packets beyond this are not opened: none is as long.
const CLEAR_BYTES: usize = 2_048;

/// An address that is not known.
const NOWHERE: IpAddr = IpAddr::V4(Ipv4Addr::UNSPECIFIED);

/// A datagram for [`Connection`](crate::connect::Connection).
pub(crate) struct Datagram {
    pub(crate) channel: Channel,
    pub(crate) from: SocketAddr,
    /// Our address that it came to.
    pub(crate) local: IpAddr,
    pub(crate) len: usize,
    pub(crate) bytes: [u8; HANDSHAKE_BYTES],
}

impl Datagram {
    pub(crate) fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.len).unwrap_or_default()
    }
}

/// Where a protected packet is opened into: lent by the worker.
pub(crate) struct Clear([u8; CLEAR_BYTES]);

impl Default for Clear {
    fn default() -> Self {
        Clear([0; CLEAR_BYTES])
    }
}

/// Both directions' keys of one socket.
pub(crate) struct Keys {
    send: Sender,
    receive: Receiver,
}

impl Keys {
    pub(crate) fn new(pair: &KeyPair) -> Keys {
        Keys { send: Sender::new(&pair.send), receive: Receiver::new(&pair.receive) }
    }
}

enum State {
    /// Nothing is protected.
    Plain,
    /// Nothing passes before there are keys.
    Waiting,
    Keyed(Box<Keys>),
}

impl State {
    fn into_keys(self) -> Option<Box<Keys>> {
        match self {
            State::Keyed(keys) => Some(keys),
            State::Plain | State::Waiting => None,
        }
    }
}

/// A leg's protection.
pub(super) struct Guard {
    state: State,
    /// What was agreed before, for what is still on its way; until a packet under the new keys has come.
    former: Option<Box<Keys>>,
    former_serves: bool,
    /// Where RTCP has keys of its own.
    rtcp: State,
    handshake: Option<Box<HeapProd<Datagram>>>,
    /// Our address that the latest datagram came to.
    local: IpAddr,
}

/// What the async side changes of it; on the way back, what was there before.
pub(crate) enum GuardChange {
    /// Datagrams of handshakes go there.
    Listen(Option<Box<HeapProd<Datagram>>>),
    /// Keys from a handshake.
    Key(Channel, Option<Box<Keys>>, Option<Box<Keys>>),
    /// Keys from signalling, or none any more.
    Agree(Protection, Option<Box<Keys>>, [Option<Box<Keys>>; 2]),
    /// The peer's sound goes there.
    Aim(Channel, SocketAddr),
}

impl GuardChange {
    /// What it takes to go from one agreement to another; nothing where they are the same.
    pub(super) fn between(old: &Security, new: &Security) -> Option<GuardChange> {
        let (protection, keys) = match (old, new) {
            (Security::Plain, Security::Plain) | (Security::Dtls(_), Security::Dtls(_)) => return None,
            (Security::Sdes(old), Security::Sdes(new)) if old == new => return None,
            (_, Security::Plain) => (Protection::Plain, None),
            (_, Security::Sdes(pair)) => (Protection::Keyed, Some(Box::new(Keys::new(pair)))),
            (_, Security::Dtls(_)) => (Protection::Handshake, None),
        };
        Some(GuardChange::Agree(protection, keys, [None, None]))
    }
}

/// What signalling agreed on.
pub(crate) enum Protection {
    Plain,
    Handshake,
    Keyed,
}

impl Guard {
    pub(super) fn new(security: &Security) -> Guard {
        let state = match security {
            Security::Plain => State::Plain,
            Security::Sdes(pair) => State::Keyed(Box::new(Keys::new(pair))),
            Security::Dtls(_) => State::Waiting,
        };
        Guard { state, former: None, former_serves: false, rtcp: State::Plain, handshake: None, local: NOWHERE }
    }

    /// The datagram to come came to this address of ours.
    pub(super) fn reached_at(&mut self, local: IpAddr) {
        self.local = local;
    }

    /// Whether something may be sent.
    pub(super) fn is_open(&self) -> bool {
        !matches!(self.state, State::Waiting)
    }

    /// Hands STUN, DTLS and what TURN servers packed (by its first byte, RFC 7983) to whoever waits for it; whether it was that, and who does.
    pub(super) fn hand_over(&mut self, channel: Channel, datagram: &[u8], from: SocketAddr) -> Option<bool> {
        let handshake = self.handshake.as_mut()?;
        if !matches!(datagram.first(), Some(0..=3 | 20..=79)) {
            return None;
        }
        let mut item = Datagram {
            channel,
            from,
            local: self.local,
            len: datagram.len().min(HANDSHAKE_BYTES),
            bytes: [0; HANDSHAKE_BYTES],
        };
        if let (Some(place), Some(bytes)) = (item.bytes.get_mut(..item.len), datagram.get(..item.len)) {
            place.copy_from_slice(bytes);
        }
        Some(handshake.try_push(item).is_ok())
    }

    /// The packet that a datagram of RTP holds.
    pub(super) fn open<'a>(&mut self, datagram: &'a [u8], clear: &'a mut Clear) -> Result<&'a [u8], SrtpError> {
        let keys = match &mut self.state {
            State::Plain => return Ok(datagram),
            State::Waiting => return Err(SrtpError::Tag),
            State::Keyed(keys) => keys,
        };
        let out = &mut clear.0;
        let len = match keys.receive.unprotect(datagram, out) {
            Ok(len) => {
                self.former_serves = false;
                len
            }
            Err(error) => match self.former.as_mut().filter(|_| self.former_serves) {
                Some(former) => former.receive.unprotect(datagram, out)?,
                None => return Err(error),
            },
        };
        out.get(..len).ok_or(SrtpError::Malformed)
    }

    /// The compound packet that a datagram of RTCP holds.
    pub(super) fn open_rtcp<'a>(
        &mut self,
        channel: Channel,
        datagram: &'a [u8],
        clear: &'a mut Clear,
    ) -> Result<&'a [u8], SrtpError> {
        let keys = match (channel, &mut self.state, &mut self.rtcp) {
            (_, State::Plain, _) => return Ok(datagram),
            (_, State::Waiting, _) | (Channel::Rtcp, _, State::Waiting) => return Err(SrtpError::Tag),
            (Channel::Rtcp, _, State::Keyed(keys)) | (_, State::Keyed(keys), _) => keys,
        };
        let out = &mut clear.0;
        let len = keys.receive.unprotect_rtcp(datagram, out)?;
        out.get(..len).ok_or(SrtpError::Malformed)
    }

    /// Protects the packet of `len` bytes at the front of `buffer`; its size then.
    pub(super) fn seal(&mut self, buffer: &mut [u8], len: usize) -> Option<usize> {
        match &mut self.state {
            State::Plain => Some(len),
            State::Waiting => None,
            State::Keyed(keys) => keys.send.protect(buffer, len),
        }
    }

    /// The same for RTCP.
    pub(super) fn seal_rtcp(&mut self, channel: Channel, buffer: &mut [u8], len: usize) -> Option<usize> {
        match (channel, &mut self.state, &mut self.rtcp) {
            (_, State::Plain, _) => Some(len),
            (_, State::Waiting, _) | (Channel::Rtcp, _, State::Waiting) => None,
            (Channel::Rtcp, _, State::Keyed(keys)) | (_, State::Keyed(keys), _) => keys.send.protect_rtcp(buffer, len),
        }
    }

    /// Makes a change, and leaves in it what it took the place of.
    pub(super) fn change(&mut self, change: &mut GuardChange) {
        match change {
            GuardChange::Listen(handshake) => std::mem::swap(&mut self.handshake, handshake),
            GuardChange::Key(Channel::Rtp, keys, spent) => *spent = self.rekey(keys.take()),
            GuardChange::Key(Channel::Rtcp, keys, spent) => {
                let state = keys.take().map_or(State::Waiting, State::Keyed);
                *spent = std::mem::replace(&mut self.rtcp, state).into_keys();
            }
            GuardChange::Agree(protection, keys, [spent, spent_rtcp]) => match protection {
                Protection::Keyed => {
                    *spent = self.rekey(keys.take());
                    *spent_rtcp = std::mem::replace(&mut self.rtcp, State::Plain).into_keys();
                }
                Protection::Plain => {
                    self.former_serves = false;
                    *spent = std::mem::replace(&mut self.state, State::Plain).into_keys();
                    *spent_rtcp = std::mem::replace(&mut self.rtcp, State::Plain).into_keys();
                }
                Protection::Handshake if matches!(self.state, State::Plain) => self.state = State::Waiting,
                // Until new keys are agreed on, the old ones hold.
                Protection::Handshake => {}
            },
            GuardChange::Aim(..) => {}
        }
    }

    /// RTCP on its own socket waits for keys of its own.
    pub(super) fn expect_rtcp_keys(&mut self) {
        if matches!(self.rtcp, State::Plain) {
            self.rtcp = State::Waiting;
        }
    }

    fn rekey(&mut self, keys: Option<Box<Keys>>) -> Option<Box<Keys>> {
        let mut keys = keys?;
        if let State::Keyed(old) = &self.state {
            keys.send.succeed(&old.send);
            keys.receive.succeed(&old.receive);
        }
        let spent = self.former.take();
        self.former = std::mem::replace(&mut self.state, State::Keyed(keys)).into_keys();
        self.former_serves = self.former.is_some();
        spent
    }
}
