//! Finding out, before a description is made, how a leg's socket is seen from outside (STUN, RFC 8489) and which addresses of TURN servers
//! it may have (RFC 8656).
//!
//! Nobody waits for it longer than [`GATHER_WITHIN`]: what is not there by then is missing in the description. An allocation that comes
//! later is used for checks nevertheless, and the peer learns of it by them (RFC 8445 section 7.3.1.3). A server that did not answer, or
//! refused, is left alone for [`REST`], so that it costs one call that wait, and not each.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, PoisonError};
use std::time::{Duration, Instant};

use turn_client_proto::types::stun::attribute::XorMappedAddress;
use turn_client_proto::types::stun::message::{BINDING, Message, MessageClass, MessageWriteVec, TransactionId};
use turn_client_proto::types::stun::prelude::{MessageWrite as _, MessageWriteExt as _};

use super::bridge::{Bridge, TurnOver};
use super::socket::Socket;
use super::{Media, ReservedPort};
use crate::connect::TurnLogin;
use crate::connect::turn::{RELAYS, Relay, RelayNews};

/// Servers that are asked for one leg at most.
pub const SERVERS: usize = 8;
/// A call waits for servers no longer than this.
pub const GATHER_WITHIN: Duration = Duration::from_millis(500);
/// A server that failed is not asked again before this has passed.
pub const REST: Duration = Duration::from_secs(30);
/// A question to a STUN server is repeated after this.
const REPEAT_AFTER: Duration = Duration::from_millis(100);
/// Answers beyond this are cut: none is as long.
const ANSWER_BYTES: usize = 1_500;

/// A server that tells a leg its address, or lends it one.
#[derive(Debug, Clone)]
pub struct IceServer {
    /// What it is called in logs.
    pub name: String,
    /// Where it is.
    pub addr: SocketAddr,
    /// For one that lends addresses: by which name, and how it is reached.
    pub turn: Option<(TurnLogin, TurnOver)>,
}

/// Why a server was of no use.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{server}: {why}")]
pub struct ServerFault {
    /// What it is called.
    pub server: String,
    /// What it did.
    pub why: String,
}

impl ServerFault {
    /// Whether it is about this port alone: the server has an allocation of the port's last user still (RFC 8656 section 7.2), whose release
    /// was lost.
    fn is_of_the_port(&self) -> bool {
        self.why.starts_with("it answers 437")
    }
}

/// What was found out for a leg's socket.
#[derive(Debug, Default)]
pub(crate) struct Gathered {
    /// How it is seen from outside.
    pub(crate) reflexive: Vec<SocketAddr>,
    pub(crate) held: Option<Box<Held>>,
}

/// Allocations of a leg's socket, given back when this is dropped.
#[derive(Debug)]
pub(crate) struct Held {
    pub(crate) relays: Vec<Relay>,
    /// For those that are not reached by UDP; they end with it.
    _bridges: Vec<Bridge>,
    socket: Arc<Socket>,
}

impl Drop for Held {
    fn drop(&mut self) {
        release(&mut self.relays, &self.socket);
    }
}

/// Gives allocations back. Nobody waits for the answer, so it is said twice.
pub(crate) fn release(relays: &mut Vec<Relay>, socket: &Socket) {
    for mut relay in relays.drain(..).filter(|relay| relay.relayed().is_some()) {
        relay.release(Instant::now());
        while let Some(datagram) = relay.poll_transmit() {
            let _ = socket.send(&datagram, relay.server(), None);
            let _ = socket.send(&datagram, relay.server(), None);
        }
    }
}

/// A question to a STUN server.
struct Question {
    server: SocketAddr,
    name: String,
    id: TransactionId,
    bytes: Vec<u8>,
    due: Instant,
    is_answered: bool,
}

impl Question {
    fn new(now: Instant, server: &IceServer) -> Self {
        let message = Message::builder_request(BINDING, MessageWriteVec::new());
        let (id, bytes) = (message.transaction_id(), message.finish());
        Question { server: server.addr, name: server.name.clone(), id, bytes, due: now, is_answered: false }
    }

    /// Our address, where this is the answer.
    fn answer(&mut self, from: SocketAddr, datagram: &[u8]) -> Option<SocketAddr> {
        let message = Message::from_bytes(datagram).ok().filter(|_| from == self.server)?;
        if message.transaction_id() != self.id || !message.has_class(MessageClass::Success) {
            return None;
        }
        self.is_answered = true;
        Some(message.attribute::<XorMappedAddress>().ok()?.addr(self.id))
    }
}

impl Media {
    /// The servers that legs ask from now on, the first [`SERVERS`] of them.
    pub fn set_ice_servers(&self, servers: Vec<IceServer>) {
        let mut known = self.inner.servers.lock().unwrap_or_else(PoisonError::into_inner);
        known.all = servers;
        known.all.truncate(SERVERS);
    }

    /// Whether there are any.
    #[must_use]
    pub fn has_ice_servers(&self) -> bool {
        !self.inner.servers.lock().unwrap_or_else(PoisonError::into_inner).all.is_empty()
    }

    /// Asks the servers on behalf of a reserved port, for no longer than `within` ([`GATHER_WITHIN`] where a call waits); the port keeps what
    /// they say. Returns what went wrong.
    pub async fn gather(&self, port: &mut ReservedPort, within: Duration) -> Vec<ServerFault> {
        let now = Instant::now();
        let servers = self.inner.servers.lock().unwrap_or_else(PoisonError::into_inner).willing(now);
        let Some(pair) = port.pair().filter(|_| !servers.is_empty()) else { return Vec::new() };
        let mut gathering = Gathering::new(now, within, &servers, &pair.rtp);
        if let Err(fault) = gathering.run(&pair.rtp).await {
            gathering.faults.push(ServerFault { server: "our socket".to_owned(), why: fault.to_string() });
        }
        let (gathered, faults) = gathering.finish(pair.rtp);
        port.gathered = gathered;
        let mut known = self.inner.servers.lock().unwrap_or_else(PoisonError::into_inner);
        faults.iter().filter(|fault| !fault.is_of_the_port()).for_each(|fault| known.failed(now, &fault.server));
        faults
    }
}

/// The servers, and which of them rest.
#[derive(Debug, Default)]
pub(super) struct Servers {
    all: Vec<IceServer>,
    resting: Vec<(String, Instant)>,
}

impl Servers {
    fn willing(&mut self, now: Instant) -> Vec<IceServer> {
        self.resting.retain(|(_, until)| *until > now);
        let rests = |server: &IceServer| self.resting.iter().any(|(name, _)| *name == server.name);
        self.all.iter().filter(|server| !rests(server)).cloned().collect()
    }

    fn failed(&mut self, now: Instant, name: &str) {
        if self.resting.len() < SERVERS && self.all.iter().any(|server| server.name == name) {
            self.resting.push((name.to_owned(), now + REST));
        }
    }
}

struct Gathering {
    questions: Vec<Question>,
    relays: Vec<(String, Relay)>,
    bridges: Vec<(String, Bridge)>,
    reflexive: Vec<SocketAddr>,
    faults: Vec<ServerFault>,
    within: Duration,
    until: Instant,
}

impl Gathering {
    fn new(now: Instant, within: Duration, servers: &[IceServer], socket: &Socket) -> Self {
        let mut gathering = Gathering {
            questions: Vec::new(),
            relays: Vec::new(),
            bridges: Vec::new(),
            reflexive: Vec::new(),
            faults: Vec::new(),
            within,
            until: now + within,
        };
        for server in servers {
            let name = server.name.clone();
            match &server.turn {
                None if socket.reaches(server.addr) => gathering.questions.push(Question::new(now, server)),
                Some((login, TurnOver::Udp)) if socket.reaches(server.addr) && gathering.relays.len() < RELAYS => {
                    gathering.relays.push((name, Relay::allocate(now, server.addr, login, false)));
                }
                Some((login, over @ (TurnOver::Tcp | TurnOver::Tls(..)))) if gathering.relays.len() < RELAYS => {
                    match Bridge::start(socket, server.addr, over) {
                        Ok(bridge) => {
                            gathering.relays.push((name.clone(), Relay::allocate(now, bridge.addr(), login, true)));
                            gathering.bridges.push((name, bridge));
                        }
                        Err(fault) => gathering.faults.push(ServerFault { server: name, why: fault.to_string() }),
                    }
                }
                _ => {}
            }
        }
        gathering
    }

    fn is_done(&self) -> bool {
        self.questions.iter().all(|question| question.is_answered)
            && self.relays.iter().all(|(name, relay)| !relay.is_asking() || self.bridge_fault(name).is_some())
    }

    /// Why there is no stream to a server, where there should be one.
    fn bridge_fault(&self, name: &str) -> Option<String> {
        self.bridges.iter().find(|(known, _)| known == name)?.1.fault()
    }

    async fn run(&mut self, socket: &Socket) -> io::Result<()> {
        // Another descriptor of the same socket, which leaves tokio with it.
        let listening = tokio::net::UdpSocket::from_std(socket.try_clone()?)?;
        let mut buffer = [0_u8; ANSWER_BYTES];
        while !self.is_done() {
            let now = Instant::now();
            if now >= self.until {
                break;
            }
            let wake = self.ask(now, socket);
            tokio::select! {
                received = listening.recv_from(&mut buffer) => {
                    // What was refused somewhere else is no end of it.
                    let Ok((len, from)) = received else { continue };
                    let from = SocketAddr::new(from.ip().to_canonical(), from.port());
                    self.take(Instant::now(), from, buffer.get(..len).unwrap_or_default());
                }
                () = tokio::time::sleep_until(wake.into()) => {}
            }
        }
        Ok(())
    }

    /// Sends what is due; when more is.
    fn ask(&mut self, now: Instant, socket: &Socket) -> Instant {
        // A stream's end wakes nobody.
        let mut wake = if self.bridges.is_empty() { self.until } else { self.until.min(now + REPEAT_AFTER) };
        for question in self.questions.iter_mut().filter(|question| !question.is_answered) {
            if question.due <= now {
                question.due = now + REPEAT_AFTER;
                let _ = socket.send(&question.bytes, question.server, None);
            }
            wake = wake.min(question.due);
        }
        for (name, relay) in &mut self.relays {
            relay.handle_timeout(now);
            while let Some(datagram) = relay.poll_transmit() {
                let _ = socket.send(&datagram, relay.server(), None);
            }
            while let Some(news) = relay.poll_news() {
                if let RelayNews::Over(why) = news {
                    let bridge = self.bridges.iter().find(|(known, _)| known == name);
                    let why = bridge.and_then(|(_, bridge)| bridge.fault()).unwrap_or(why);
                    self.faults.push(ServerFault { server: name.clone(), why });
                }
            }
            wake = relay.next_wake().unwrap_or(wake).min(wake);
        }
        wake.max(now + Duration::from_millis(1))
    }

    fn take(&mut self, now: Instant, from: SocketAddr, datagram: &[u8]) {
        if let Some(at) = self.questions.iter_mut().find_map(|question| question.answer(from, datagram)) {
            self.see(at);
            return;
        }
        self.relays.iter_mut().any(|(_, relay)| relay.receive(now, from, datagram).is_some());
    }

    fn see(&mut self, at: SocketAddr) {
        if !self.reflexive.contains(&at) {
            self.reflexive.push(at);
        }
    }

    fn finish(mut self, socket: Arc<Socket>) -> (Gathered, Vec<ServerFault>) {
        // What came last may have had news.
        for (name, relay) in &mut self.relays {
            while let Some(news) = relay.poll_news() {
                if let RelayNews::Over(why) = news {
                    self.faults.push(ServerFault { server: name.clone(), why });
                }
            }
        }
        let within = self.within.as_millis();
        let late = |name: &String| ServerFault { server: name.clone(), why: format!("no answer within {within} ms") };
        let silent = self.questions.iter().filter(|question| !question.is_answered);
        self.faults.extend(silent.map(|question| late(&question.name)));
        for (name, _) in self.relays.iter().filter(|(_, relay)| relay.is_asking()) {
            let bridge = self.bridge_fault(name);
            self.faults.push(bridge.map_or_else(|| late(name), |why| ServerFault { server: name.clone(), why }));
        }
        // A server that is reached by a stream sees the stream's address.
        let is_bridged = |name: &String| self.bridges.iter().any(|(known, _)| known == name);
        let mapped = self.relays.iter().filter(|(name, _)| !is_bridged(name)).filter_map(|(_, relay)| relay.mapped());
        mapped.collect::<Vec<_>>().into_iter().for_each(|at| self.see(at));
        let relays: Vec<Relay> = self.relays.into_iter().map(|(_, relay)| relay).collect();
        let bridges = self.bridges.into_iter().map(|(_, bridge)| bridge).collect();
        let held = (!relays.is_empty()).then(|| Box::new(Held { relays, _bridges: bridges, socket }));
        (Gathered { reflexive: self.reflexive, held }, self.faults)
    }
}
