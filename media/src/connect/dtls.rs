//! DTLS-SRTP by the webrtc crate's core: certificates, and one socket's handshakes.

use std::collections::hash_map::DefaultHasher;
use std::collections::{HashSet, VecDeque};
use std::fmt;
use std::hash::{Hash as _, Hasher};
use std::net::SocketAddr;
use std::str::FromStr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use aws_lc_rs::digest::{self, SHA1_FOR_LEGACY_USE_ONLY, SHA256, SHA384, SHA512};
use bytes::BytesMut;
use rtc_crypto::RTCCryptoProvider;
use rtc_dtls::config::{ClientAuthType, ConfigBuilder, ExtendedMasterSecretType, HandshakeConfig};
use rtc_dtls::crypto::Certificate;
use rtc_dtls::endpoint::{Endpoint, EndpointEvent};
use rtc_dtls::extension::extension_use_srtp::SrtpProtectionProfile;
use rtc_dtls::state::State;
use rtc_shared::TransportProtocol;
use rtc_shared::error::Error as RtcError;

use super::{ConnectConfig, ConnectError};
use crate::srtp::{KeyPair, MasterKey, Suite};

/// Addresses whose handshakes run side by side at most.
pub const PEERS: usize = 4;
/// A flight that was not answered is sent again after this, and each time after twice as long, up to [`LONGEST_WAIT`]; seven times,
/// then the handshake begins anew.
const FIRST_WAIT: Duration = Duration::from_millis(200);
const LONGEST_WAIT: Duration = Duration::from_secs(3);
/// Handshake messages of one peer that are remembered.
const SEEN: usize = 256;
/// The exporter's label (RFC 5764 section 4.2).
const EXPORTER_LABEL: &str = "EXTRACTOR-dtls_srtp";
/// What is agreed to, the best first: GCM costs half of the others.
const PROFILES: [(SrtpProtectionProfile, Suite); 4] = [
    (SrtpProtectionProfile::Srtp_Aead_Aes_128_Gcm, Suite::AeadAes128Gcm),
    (SrtpProtectionProfile::Srtp_Aead_Aes_256_Gcm, Suite::AeadAes256Gcm),
    (SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_80, Suite::AesCm128HmacSha1_80),
    (SrtpProtectionProfile::Srtp_Aes128_Cm_Hmac_Sha1_32, Suite::AesCm128HmacSha1_32),
];

/// A certificate of our own making, and its key.
pub struct Identity {
    certificate: Certificate,
    fingerprint: Fingerprint,
    pub(super) provider: Arc<dyn RTCCryptoProvider>,
}

impl Identity {
    /// A new one: ECDSA on P-256, which every browser takes (RFC 8827 section 6.5).
    ///
    /// # Errors
    /// [`ConnectError::SetUp`].
    pub fn generate() -> Result<Identity, ConnectError> {
        let set_up = |why: String| ConnectError::SetUp { what: "our DTLS certificate", why };
        let provider = rtc_crypto::default_provider().map_err(|fault| set_up(fault.to_string()))?;
        let certificate = Certificate::generate_self_signed(vec!["omnivox".to_owned()], provider.crypto())
            .map_err(|fault| set_up(fault.to_string()))?;
        let der = certificate.certificate.first().ok_or_else(|| set_up("none was made".to_owned()))?;
        let fingerprint = Fingerprint::of(Hash::Sha256, der);
        Ok(Identity { certificate, fingerprint, provider })
    }

    /// What our description says of it.
    #[must_use]
    pub fn fingerprint(&self) -> &Fingerprint {
        &self.fingerprint
    }
}

impl fmt::Debug for Identity {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Identity").field("fingerprint", &self.fingerprint.to_string()).finish_non_exhaustive()
    }
}

/// The hash of a certificate, as `a=fingerprint` has it (RFC 8122 section 5).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fingerprint {
    hash: Hash,
    bytes: Vec<u8>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Hash {
    Sha1,
    Sha256,
    Sha384,
    Sha512,
}

impl Hash {
    const ALL: [(Hash, &'static str, &'static digest::Algorithm); 4] = [
        (Hash::Sha1, "sha-1", &SHA1_FOR_LEGACY_USE_ONLY),
        (Hash::Sha256, "sha-256", &SHA256),
        (Hash::Sha384, "sha-384", &SHA384),
        (Hash::Sha512, "sha-512", &SHA512),
    ];

    fn row(self) -> (&'static str, &'static digest::Algorithm) {
        let row = Hash::ALL.iter().find(|(hash, ..)| *hash == self);
        row.map_or(("sha-256", &SHA256), |(_, name, algorithm)| (name, algorithm))
    }
}

impl Fingerprint {
    fn of(hash: Hash, der: &[u8]) -> Fingerprint {
        Fingerprint { hash, bytes: digest::digest(hash.row().1, der).as_ref().to_vec() }
    }

    /// Whether a certificate is the one that is meant.
    #[must_use]
    pub fn fits(&self, der: &[u8]) -> bool {
        Fingerprint::of(self.hash, der) == *self
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} ", self.hash.row().0)?;
        for (index, byte) in self.bytes.iter().enumerate() {
            write!(f, "{}{byte:02X}", if index == 0 { "" } else { ":" })?;
        }
        Ok(())
    }
}

impl FromStr for Fingerprint {
    type Err = ConnectError;

    fn from_str(text: &str) -> Result<Self, ConnectError> {
        let wrong = || ConnectError::Fingerprint(text.chars().take(300).collect());
        let (name, value) = text.trim().split_once(' ').ok_or_else(wrong)?;
        let (hash, _, algorithm) =
            Hash::ALL.into_iter().find(|(_, known, _)| known.eq_ignore_ascii_case(name)).ok_or_else(wrong)?;
        let byte = |hex: &str| if hex.len() == 2 { u8::from_str_radix(hex, 16).ok() } else { None };
        let bytes: Option<Vec<u8>> = value.trim().split(':').map(byte).collect();
        let bytes = bytes.filter(|bytes| bytes.len() == algorithm.output_len()).ok_or_else(wrong)?;
        Ok(Fingerprint { hash, bytes })
    }
}

/// What an [`Association`] wants done.
pub(super) enum DtlsStep {
    Send(SocketAddr, BytesMut),
    /// Agreed with whoever is at this address.
    Keys(SocketAddr, Box<KeyPair>),
}

/// A handshake under way.
///
/// The library counts a repeated flight of the peer's as an answer and puts off its own repetition for good, so where both
/// directions lost something the handshake would stand still. So what was seen already is kept from it, and it is told when to
/// repeat.
struct Peer {
    addr: SocketAddr,
    seen: HashSet<u64>,
    /// It has gone beyond its first message.
    has_gone_on: bool,
    repeats: u32,
    due: Option<Instant>,
}

impl Peer {
    fn new(addr: SocketAddr) -> Self {
        Peer { addr, seen: HashSet::new(), has_gone_on: false, repeats: 0, due: None }
    }

    /// Whether a datagram holds nothing but handshake messages in the clear that came before. A client's first message does not
    /// count before the second has come: the answer to it is repeated when it is (RFC 6347 section 4.2.1).
    fn knows(&mut self, datagram: &[u8], is_client: bool) -> bool {
        let (mut rest, mut any_new, mut any) = (datagram, false, false);
        while let Some((header, behind)) = rest.split_first_chunk::<13>() {
            let [kind, _, _, e0, e1, .., l0, l1] = *header;
            let Some((fragment, others)) = behind.split_at_checked(usize::from(u16::from_be_bytes([l0, l1]))) else {
                return false;
            };
            let is_clear_handshake = kind == 22 && [e0, e1] == [0, 0];
            let is_first = fragment.get(4..6) == Some(&[0, 0]);
            self.has_gone_on |= is_clear_handshake && !is_first;
            any_new |= is_first && is_client && !self.has_gone_on;
            let mut hasher = DefaultHasher::new();
            fragment.hash(&mut hasher);
            any_new |= !is_clear_handshake || (self.seen.len() < SEEN && self.seen.insert(hasher.finish()));
            any = true;
            rest = others;
        }
        any && !any_new
    }

    /// Sets when its last flight is repeated, the first time or after a repetition.
    fn wait(&mut self, now: Instant, is_waiting: bool) {
        let wait = (FIRST_WAIT * 2_u32.saturating_pow(self.repeats.min(8))).min(LONGEST_WAIT);
        self.due = is_waiting.then(|| now + wait);
    }
}

/// One socket's handshakes, of which one will succeed.
pub(super) struct Association {
    endpoint: Endpoint,
    /// Where we begin it.
    client: Option<Arc<HandshakeConfig>>,
    /// In the order in which they turned up.
    peers: VecDeque<Peer>,
    preferred: Option<SocketAddr>,
    done: Option<SocketAddr>,
    last_fault: Option<String>,
    steps: VecDeque<DtlsStep>,
}

impl Association {
    pub(super) fn new(config: &ConnectConfig) -> Result<Self, ConnectError> {
        let fingerprint = config.fingerprint.clone();
        let verify = move |certificates: &[Vec<u8>], _: &[_]| match certificates.first() {
            Some(certificate) if fingerprint.fits(certificate) => Ok(()),
            _ => Err(RtcError::Other("the certificate is not the one that signalling named".to_owned())),
        };
        let handshake = ConfigBuilder::default()
            .with_crypto_provider(Arc::clone(&config.identity.provider))
            .with_certificates(vec![config.identity.certificate.clone()])
            .with_srtp_protection_profiles(PROFILES.map(|(profile, _)| profile).to_vec())
            .with_client_auth(ClientAuthType::RequireAnyClientCert)
            .with_extended_master_secret(ExtendedMasterSecretType::Request)
            .with_insecure_skip_verify(true)
            .with_verify_peer_certificate(Some(Arc::new(verify)))
            .with_server_name("omnivox".to_owned())
            .build(config.is_client, None)
            .map_err(|fault| ConnectError::SetUp { what: "the DTLS handshake", why: fault.to_string() })?;
        let handshake = Arc::new(handshake);
        // The library tells associations apart by the peer's address alone.
        let here = SocketAddr::from(([0, 0, 0, 0], 0));
        let (client, server) = if config.is_client { (Some(handshake), None) } else { (None, Some(handshake)) };
        Ok(Association {
            endpoint: Endpoint::new(here, TransportProtocol::UDP, server),
            client,
            peers: VecDeque::new(),
            preferred: None,
            done: None,
            last_fault: None,
            steps: VecDeque::new(),
        })
    }

    /// Whoever is there is never turned away for others.
    pub(super) fn prefer(&mut self, peer: Option<SocketAddr>) {
        self.preferred = peer;
    }

    pub(super) fn is_done(&self) -> bool {
        self.done.is_some()
    }

    pub(super) fn last_fault(&self) -> Option<&str> {
        self.last_fault.as_deref()
    }

    /// Begins the handshake with whoever is there, where it has not begun, and none has succeeded.
    pub(super) fn call(&mut self, now: Instant, peer: SocketAddr) {
        let is_new = self.done.is_none() && !self.peers.iter().any(|known| known.addr == peer);
        let Some(client) = self.client.clone().filter(|_| is_new) else { return };
        self.make_room(now);
        let mut begun = Peer::new(peer);
        begun.wait(now, true);
        self.peers.push_back(begun);
        if let Err(fault) = self.endpoint.connect(now, peer, client, None) {
            self.failed(now, peer, &fault);
        }
        self.collect();
    }

    pub(super) fn receive(&mut self, now: Instant, from: SocketAddr, datagram: &[u8]) {
        if self.done.is_some_and(|done| done != from) {
            return;
        }
        let known = self.peers.iter().position(|peer| peer.addr == from);
        let at = match known {
            Some(at) => at,
            None if self.client.is_some() => return,
            None => {
                self.make_room(now);
                self.peers.push_back(Peer::new(from));
                self.peers.len() - 1
            }
        };
        let peers_are_clients = self.client.is_none();
        // When it is done, a repetition says that our last flight was lost: that the library handles.
        if self.done.is_none() && self.peers.get_mut(at).is_some_and(|peer| peer.knows(datagram, peers_are_clients)) {
            return;
        }
        match self.endpoint.read(now, from, None, BytesMut::from(datagram)) {
            Ok(events) => {
                let is_waiting = self.endpoint.poll_timeout(&from).is_some();
                if let Some(peer) = self.peers.get_mut(at) {
                    peer.repeats = 0;
                    peer.wait(now, is_waiting);
                }
                if events.iter().any(|event| matches!(event, EndpointEvent::HandshakeComplete)) {
                    self.succeeded(now, from);
                }
            }
            // After the handshake nothing that comes can undo it.
            Err(_) if self.done.is_some() => {}
            Err(fault) => self.failed(now, from, &fault),
        }
        self.collect();
    }

    pub(super) fn handle_timeout(&mut self, now: Instant) {
        let mut failed = Vec::new();
        for peer in self.peers.iter_mut().filter(|peer| peer.due.is_some_and(|due| due <= now)) {
            let addr = peer.addr;
            // Its own idea of when to repeat has one length, whatever was lost.
            let due = self.endpoint.poll_timeout(&addr).map_or(now, |due| due.max(now));
            peer.repeats += 1;
            match self.endpoint.handle_timeout(addr, due) {
                Ok(()) => peer.wait(now, self.endpoint.poll_timeout(&addr).is_some()),
                Err(fault) => failed.push((addr, fault)),
            }
        }
        for (peer, fault) in failed {
            self.failed(now, peer, &fault);
            // Nobody answered so far: it is tried again.
            self.call(now, peer);
        }
        self.collect();
    }

    pub(super) fn next_wake(&self) -> Option<Instant> {
        self.peers.iter().filter_map(|peer| peer.due).min()
    }

    pub(super) fn poll(&mut self) -> Option<DtlsStep> {
        self.steps.pop_front()
    }

    fn make_room(&mut self, now: Instant) {
        if self.peers.len() < PEERS {
            return;
        }
        let oldest = self.peers.iter().position(|peer| Some(peer.addr) != self.preferred);
        if let Some(peer) = oldest.and_then(|oldest| self.peers.remove(oldest)) {
            let _ = self.endpoint.stop(now, peer.addr);
        }
    }

    fn failed(&mut self, now: Instant, peer: SocketAddr, fault: &RtcError) {
        self.last_fault = Some(fault.to_string());
        self.peers.retain(|known| known.addr != peer);
        let _ = self.endpoint.stop(now, peer);
    }

    fn succeeded(&mut self, now: Instant, peer: SocketAddr) {
        let keys = self.endpoint.get_connection_state(peer).ok_or_else(|| "the handshake is gone".to_owned());
        match keys.and_then(export) {
            Ok(keys) => {
                self.done = Some(peer);
                for other in std::mem::take(&mut self.peers).into_iter().filter(|other| other.addr != peer) {
                    let _ = self.endpoint.stop(now, other.addr);
                }
                self.peers.push_back(Peer::new(peer));
                // What is on its way (our last flight) goes before the keys are used.
                self.collect();
                self.steps.push_back(DtlsStep::Keys(peer, Box::new(keys)));
            }
            Err(why) => {
                self.peers.retain(|known| known.addr != peer);
                let _ = self.endpoint.stop(now, peer);
                self.last_fault = Some(why);
            }
        }
    }

    fn collect(&mut self) {
        while let Some(message) = self.endpoint.poll_transmit() {
            self.steps.push_back(DtlsStep::Send(message.transport.peer_addr, message.message));
        }
    }
}

/// Both directions' keys of a handshake that has succeeded (RFC 5764 section 4.2).
fn export(state: &State) -> Result<KeyPair, String> {
    let profile = state.srtp_protection_profile();
    let (_, suite) = PROFILES
        .into_iter()
        .find(|(known, _)| *known == profile)
        .ok_or("the peer did not agree to any SRTP profile")?;
    let (key_bytes, salt_bytes) = (suite.key_bytes(), suite.salt_bytes());
    let length = 2 * (key_bytes + salt_bytes);
    let material = state.export_keying_material(EXPORTER_LABEL, &[], length).map_err(|fault| fault.to_string())?;
    let material: &[u8] = material.as_ref();
    let piece = |at: usize, len: usize| material.get(at..at + len).unwrap_or_default();
    let master = |number: usize| {
        let key = piece(number * key_bytes, key_bytes);
        let salt = piece(2 * key_bytes + number * salt_bytes, salt_bytes);
        MasterKey::new(suite, &[key, salt].concat()).map_err(|fault| fault.to_string())
    };
    let (client, server) = (master(0)?, master(1)?);
    let (send, receive) = if state.is_client() { (client, server) } else { (server, client) };
    Ok(KeyPair { send, receive })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    #[test]
    fn fingerprints_read_as_they_are_printed_and_bad_ones_are_refused() {
        let identity = Identity::generate().unwrap();
        let text = identity.fingerprint().to_string();
        assert!(text.starts_with("sha-256 ") && text.len() == 8 + 32 * 3 - 1, "{text}");
        assert_eq!(text.to_lowercase().parse::<Fingerprint>().unwrap(), *identity.fingerprint());
        assert!(identity.fingerprint().fits(&identity.certificate.certificate[0]));
        for bad in
            ["", "sha-256", "sha-256 AB:CD", "md5 00:11", "sha-1 ZZ", &text[..text.len() - 3], &format!("{text}:00")]
        {
            assert!(bad.parse::<Fingerprint>().is_err(), "{bad}");
        }
    }
}
