//! ICE by the webrtc crate's core: one component, RTP and RTCP together.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::BytesMut;
use rtc_ice::candidate::candidate_host::CandidateHostConfig;
use rtc_ice::candidate::candidate_relay::CandidateRelayConfig;
use rtc_ice::candidate::candidate_server_reflexive::CandidateServerReflexiveConfig;
use rtc_ice::candidate::{Candidate, CandidateConfig, CandidateType, unmarshal_candidate};
use rtc_ice::state::ConnectionState;
use rtc_ice::{Agent, AgentConfig, Event};
use rtc_shared::{TransportContext, TransportMessage, TransportProtocol};
use sansio::Protocol;

use super::ConnectError;
use super::dtls::Identity;

/// Candidates of a peer that are looked at.
pub const CANDIDATES: usize = 32;
/// Addresses that a peer's checks may come from: the agent keeps a candidate for each.
const ADDRESSES: usize = 32;
/// A check that nobody answered is sent again after this.
const CHECK_INTERVAL: Duration = Duration::from_millis(100);

/// One side's name and password for checks (RFC 8445 section 5.3).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IceCredentials {
    /// `a=ice-ufrag`.
    pub ufrag: String,
    /// `a=ice-pwd`.
    pub pwd: String,
}

/// What is needed to find a path.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IceConfig {
    /// Ours.
    pub local: IceCredentials,
    /// The peer's.
    pub remote: IceCredentials,
    /// The addresses that our socket can be reached at, port included.
    pub hosts: Vec<SocketAddr>,
    /// Our addresses as those outside see them, where they are none of `hosts`.
    pub reflexive: Vec<SocketAddr>,
    /// Addresses of TURN servers that are ours, for our description; the search uses those of the connection's relays.
    pub relayed: Vec<SocketAddr>,
    /// The peer's candidates, as `a=candidate` has them.
    pub candidates: Vec<String>,
    /// We choose the path (RFC 8445 section 6.1.1).
    pub is_controlling: bool,
    /// We answer checks and send none (section 2.5).
    pub is_lite: bool,
}

/// Which way a datagram came, or is to go.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Way {
    /// From our socket, by this address of ours.
    Direct(IpAddr),
    /// Through the TURN server where this address is ours.
    Relayed(SocketAddr),
}

/// What became of the search.
pub(super) enum Found {
    /// This address works this way, the best so far.
    Path(SocketAddr, Way),
    /// None does any more.
    Lost,
}

pub(super) struct Ice {
    agent: Agent,
    config: IceConfig,
    path: Option<(SocketAddr, Way)>,
    found: VecDeque<Found>,
    /// Addresses of TURN servers that are ours.
    relayed: Vec<SocketAddr>,
    /// The peer's candidates that were looked at since the search began.
    seen: Vec<String>,
    /// Where the peer's checks came from since then.
    heard: Vec<SocketAddr>,
}

impl Ice {
    pub(super) fn new(now: Instant, config: &IceConfig, identity: &Identity) -> Result<Self, ConnectError> {
        let set_up = |why: String| ConnectError::SetUp { what: "ICE", why };
        let types = if config.is_lite {
            vec![CandidateType::Host]
        } else {
            vec![CandidateType::Host, CandidateType::ServerReflexive, CandidateType::Relay]
        };
        let agent_config = AgentConfig {
            local_ufrag: config.local.ufrag.clone(),
            local_pwd: config.local.pwd.clone(),
            candidate_types: types,
            is_controlling: config.is_controlling,
            lite: config.is_lite,
            check_interval: CHECK_INTERVAL,
            // What the peer reaches us by is all that there is: there is nothing to wait for.
            srflx_acceptance_min_wait: Some(Duration::ZERO),
            prflx_acceptance_min_wait: Some(Duration::ZERO),
            relay_acceptance_min_wait: Some(Duration::from_millis(500)),
            ..AgentConfig::default()
        };
        let agent = Agent::new(now, Arc::new(agent_config), Arc::clone(&identity.provider))
            .map_err(|fault| set_up(fault.to_string()))?;
        let mut ice = Ice {
            agent,
            config: config.clone(),
            path: None,
            found: VecDeque::new(),
            relayed: vec![],
            seen: vec![],
            heard: vec![],
        };
        ice.begin(now).map_err(set_up)?;
        Ok(ice)
    }

    fn begin(&mut self, now: Instant) -> Result<(), String> {
        self.seen.clear();
        self.heard.clear();
        for candidate in local_candidates(&self.config).chain(self.relayed.iter().copied().map(relay)) {
            self.agent.add_local_candidate(candidate?).map_err(|fault| fault.to_string())?;
        }
        let remote = self.config.remote.clone();
        self.agent
            .start_connectivity_checks(now, self.config.is_controlling, remote.ufrag, remote.pwd)
            .map_err(|fault| fault.to_string())?;
        self.add_remote_candidates(&self.config.candidates.clone());
        Ok(())
    }

    fn add_remote_candidates(&mut self, candidates: &[String]) {
        for text in candidates {
            if self.seen.len() == CANDIDATES || self.seen.contains(text) {
                continue;
            }
            self.seen.push(text.clone());
            let Some(candidate) = read_candidate(text) else { continue };
            // One that the agent would not have is none that could be used.
            let _ = self.agent.add_remote_candidate(candidate);
        }
    }

    /// Looks for a path through a TURN server too. A lite agent has no other address than its own.
    pub(super) fn add_relayed(&mut self, at: SocketAddr) {
        if self.config.is_lite || self.relayed.contains(&at) {
            return;
        }
        self.relayed.push(at);
        if let Ok(candidate) = relay(at) {
            let _ = self.agent.add_local_candidate(candidate);
        }
    }

    /// The peer's addresses that are looked at.
    pub(super) fn peers(&self) -> impl Iterator<Item = SocketAddr> {
        self.agent.get_remote_candidates().iter().map(Candidate::addr)
    }

    /// Takes new candidates, or new credentials: whether the search has begun anew.
    pub(super) fn update(&mut self, now: Instant, config: &IceConfig) -> bool {
        if config.remote == self.config.remote && config.local == self.config.local {
            self.add_remote_candidates(&config.candidates);
            self.config = config.clone();
            return false;
        }
        self.config = config.clone();
        let local = config.local.clone();
        // Where it fails, checks are answered by what was agreed before, and the peer hears of it by their failing.
        let restarted = self.agent.restart(now, local.ufrag, local.pwd, false).map_err(|fault| fault.to_string());
        if restarted.and_then(|()| self.begin(now)).is_err() {
            self.found.push_back(Found::Lost);
        }
        true
    }

    pub(super) fn receive(&mut self, now: Instant, from: SocketAddr, way: Way, datagram: &[u8]) {
        // Nobody who does not know both names changes anything here: not by a conflict of roles either.
        let is_request = datagram.first_chunk::<2>() == Some(&[0, 1]);
        if is_request && !is_addressed(datagram, &self.config.local.ufrag, &self.config.remote.ufrag) {
            return;
        }
        if is_request && !self.heard.contains(&from) {
            if self.heard.len() == ADDRESSES {
                return;
            }
            self.heard.push(from);
        }
        let transport = self.transport(from, way);
        // What it would not have is not the peer's, or of no use.
        let _ = self.agent.handle_read(TransportMessage { now, transport, message: BytesMut::from(datagram) });
        self.watch();
        // Checks that it triggers go out at once.
        self.handle_timeout(now);
    }

    /// Whether a check of the peer's came from there.
    pub(super) fn knows(&mut self, now: Instant, from: SocketAddr, way: Way) -> bool {
        let transport = self.transport(from, way);
        self.agent.is_valid_non_stun_traffic(now, transport)
    }

    pub(super) fn has_path(&self) -> bool {
        self.path.is_some()
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        if self.agent.poll_timeout().is_some_and(|due| due <= now) {
            let _ = self.agent.handle_timeout(now);
            self.watch();
        }
    }

    pub(super) fn next_wake(&mut self) -> Option<Instant> {
        self.agent.poll_timeout()
    }

    pub(super) fn poll_path(&mut self) -> Option<Found> {
        self.found.pop_front()
    }

    /// What to send: from, to, and the datagram.
    pub(super) fn poll_transmit(&mut self) -> Option<(SocketAddr, SocketAddr, BytesMut)> {
        let message = self.agent.poll_write()?;
        Some((message.transport.local_addr, message.transport.peer_addr, message.message))
    }

    fn watch(&mut self) {
        while let Some(event) = self.agent.poll_event() {
            match event.event {
                Event::SelectedCandidatePairChange(ours, remote) => {
                    let way = match ours.candidate_type() {
                        CandidateType::Relay => Way::Relayed(ours.addr()),
                        _ => Way::Direct(ours.base_addr().ip()),
                    };
                    let path = (remote.addr(), way);
                    if self.path != Some(path) {
                        self.path = Some(path);
                        self.found.push_back(Found::Path(path.0, way));
                    }
                }
                Event::ConnectionStateChange(ConnectionState::Failed) => {
                    self.path = None;
                    self.found.push_back(Found::Lost);
                }
                _ => {}
            }
        }
    }

    /// The agent tells candidates apart by our address; the socket has one port for all.
    fn transport(&self, from: SocketAddr, way: Way) -> TransportContext {
        let local_addr = match way {
            Way::Relayed(at) => at,
            Way::Direct(local) => {
                let named = self.config.hosts.iter().find(|host| host.ip() == local);
                named.or(self.config.hosts.first()).copied().unwrap_or(SocketAddr::new(local, 0))
            }
        };
        TransportContext { local_addr, peer_addr: from, transport_protocol: TransportProtocol::UDP, ecn: None }
    }
}

fn base(at: SocketAddr) -> CandidateConfig {
    CandidateConfig {
        network: "udp".to_owned(),
        address: at.ip().to_string(),
        port: at.port(),
        component: 1,
        ..CandidateConfig::default()
    }
}

fn host(at: SocketAddr) -> Result<Candidate, String> {
    let host = CandidateHostConfig { base_config: base(at), ..CandidateHostConfig::default() };
    host.new_candidate_host().map_err(|fault| fault.to_string())
}

/// Whence we are seen at `at`, or have it: of the same family, where there is one.
fn reflexive(at: SocketAddr, inside: SocketAddr) -> Result<Candidate, String> {
    let reflexive = CandidateServerReflexiveConfig {
        base_config: base(at),
        rel_addr: inside.ip().to_string(),
        rel_port: inside.port(),
        url: None,
    };
    reflexive.new_candidate_server_reflexive().map_err(|fault| fault.to_string())
}

/// The address behind it is nobody's business (RFC 8839 section 5.1 lets it be left out so).
fn relay(at: SocketAddr) -> Result<Candidate, String> {
    let nowhere = if at.is_ipv4() { "0.0.0.0" } else { "::" };
    let relay = CandidateRelayConfig { base_config: base(at), rel_addr: nowhere.to_owned(), rel_port: 9, url: None };
    relay.new_candidate_relay().map_err(|fault| fault.to_string())
}

fn local_candidates(config: &IceConfig) -> impl Iterator<Item = Result<Candidate, String>> + use<> {
    let hosts = config.hosts.clone();
    let inside = move |at: &SocketAddr| hosts.iter().find(|host| host.is_ipv4() == at.is_ipv4()).copied();
    let outside = if config.is_lite { Vec::new() } else { config.reflexive.clone() };
    let outside = outside.into_iter().filter_map(move |at| Some(reflexive(at, inside(&at)?)));
    config.hosts.clone().into_iter().map(host).chain(outside)
}

/// Our candidates as `a=candidate` has them, without the attribute's name.
#[must_use]
pub fn describe(config: &IceConfig) -> Vec<String> {
    let more: Vec<Result<Candidate, String>> = if config.is_lite {
        // A lite agent has one kind alone: what it is reached at.
        config.reflexive.iter().copied().map(host).collect()
    } else {
        config.relayed.iter().copied().map(relay).collect()
    };
    local_candidates(config).chain(more).flatten().map(|candidate| candidate.marshal()).collect()
}

/// A candidate that we can use: UDP, the first component, an address and not a name.
fn read_candidate(text: &str) -> Option<Candidate> {
    let text = text.trim();
    let text = text.strip_prefix("candidate:").unwrap_or(text);
    let mut words = text.split_ascii_whitespace();
    let component = words.nth(1)?;
    let network = words.next()?;
    let address = words.nth(1)?;
    if component != "1" || !network.eq_ignore_ascii_case("udp") || address.parse::<IpAddr>().is_err() {
        return None;
    }
    unmarshal_candidate(text).ok()
}

/// Whether a check is from our peer to us, by the name that it carries (RFC 8445 section 7.2.2).
fn is_addressed(datagram: &[u8], ours: &str, theirs: &str) -> bool {
    const USERNAME: u16 = 6;
    let mut rest = datagram.get(20..).unwrap_or_default();
    while let Some((head, behind)) = rest.split_first_chunk::<4>() {
        let [t0, t1, l0, l1] = *head;
        let length = usize::from(u16::from_be_bytes([l0, l1]));
        let Some(value) = behind.get(..length) else { return false };
        if u16::from_be_bytes([t0, t1]) == USERNAME {
            let name = value.split(|byte| *byte == b':');
            return name.eq([ours.as_bytes(), theirs.as_bytes()]);
        }
        rest = behind.get(length.next_multiple_of(4)..).unwrap_or_default();
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn candidates_that_cannot_be_used_are_passed_over() {
        assert!(read_candidate("candidate:1 1 udp 2130706431 192.0.2.1 4000 typ host").is_some());
        assert!(read_candidate("1 1 UDP 1 2001:db8::1 4000 typ srflx raddr 10.0.0.1 rport 4000").is_some());
        for other in [
            "1 2 udp 2130706431 192.0.2.1 4001 typ host",
            "1 1 tcp 2130706431 192.0.2.1 9 typ host tcptype active",
            "1 1 udp 2130706431 f0e1d2.local 4000 typ host",
            "1 1 udp 2130706431 192.0.2.1 99999 typ host",
            "1 1 udp",
            "",
        ] {
            assert!(read_candidate(other).is_none(), "{other}");
        }
    }

    #[test]
    fn a_check_is_ours_by_both_names() {
        let check = |name: &str| {
            let mut bytes = vec![0, 1, 0, 0, 0x21, 0x12, 0xa4, 0x42, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
            bytes.extend([0x80, 0x2a, 0, 8, 1, 2, 3, 4, 5, 6, 7, 8, 0, 6, 0, name.len() as u8]);
            bytes.extend(name.as_bytes());
            bytes.resize(bytes.len().next_multiple_of(4), 0);
            bytes
        };
        assert!(is_addressed(&check("ours:them"), "ours", "them"));
        for other in ["them:ours", "ours:", "ours:them:x", "ours"] {
            assert!(!is_addressed(&check(other), "ours", "them"), "{other}");
        }
        assert!(!is_addressed(&check("ours:them")[..40], "ours", "them"), "cut short");
    }
}
