//! SRTP and SRTCP (RFC 3711; AES-GCM: RFC 7714): sound and reports that nobody on the way can read, forge or replay.
//!
//! A [`Sender`] and a [`Receiver`] hold one direction's session keys, made once from a [`MasterKey`]. The one works in place, the other
//! from one buffer into another.
//! Invariants: nothing here allocates once the keys are made, reads a clock or panics, whatever the bytes; a packet
//! whose tag does not fit, or that came before, changes nothing.
//!
//! Keys come from SDP (`a=crypto`, RFC 4568), or from a handshake in the media path (DTLS-SRTP, RFC 5764). No key derivation
//! rate and no MKI: neither is in use.

mod keys;
mod receiver;
mod sender;

use thiserror::Error;

pub use receiver::Receiver;
pub use sender::Sender;

/// Bytes that a suite adds to a packet at most: the tag of AES-GCM and, for RTCP, the index.
pub const MAX_OVERHEAD_BYTES: usize = 16 + INDEX_BYTES;
/// The index at the end of an RTCP packet, with its E bit (RFC 3711 section 3.4).
const INDEX_BYTES: usize = 4;
/// Master key and salt of the largest suite: 32 and 12 bytes.
const MAX_MASTER_BYTES: usize = 44;

/// What packets are encrypted and authenticated with.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Suite {
    /// AES-128 in counter mode, a tag of 80 bits (RFC 4568 section 6.2.1).
    AesCm128HmacSha1_80,
    /// The same with a tag of 32 bits for RTP; RTCP keeps 80 (section 6.2.2).
    AesCm128HmacSha1_32,
    /// AES-128 in Galois/Counter mode (RFC 7714).
    AeadAes128Gcm,
    /// AES-256 in Galois/Counter mode.
    AeadAes256Gcm,
}

impl Suite {
    /// All of them, the best first: GCM is authenticated in one go, and costs half.
    pub const ALL: [Suite; 4] =
        [Suite::AeadAes256Gcm, Suite::AeadAes128Gcm, Suite::AesCm128HmacSha1_80, Suite::AesCm128HmacSha1_32];

    /// Its name in `a=crypto` (RFC 4568 section 6.2, RFC 7714 section 14.2).
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Suite::AesCm128HmacSha1_80 => "AES_CM_128_HMAC_SHA1_80",
            Suite::AesCm128HmacSha1_32 => "AES_CM_128_HMAC_SHA1_32",
            Suite::AeadAes128Gcm => "AEAD_AES_128_GCM",
            Suite::AeadAes256Gcm => "AEAD_AES_256_GCM",
        }
    }

    /// The suite of that name.
    #[must_use]
    pub fn of_name(name: &str) -> Option<Suite> {
        Suite::ALL.into_iter().find(|suite| suite.name().eq_ignore_ascii_case(name))
    }

    /// Bytes of the master key.
    #[must_use]
    pub fn key_bytes(self) -> usize {
        if self == Suite::AeadAes256Gcm { 32 } else { 16 }
    }

    /// Bytes of the master salt.
    #[must_use]
    pub fn salt_bytes(self) -> usize {
        if self.is_aead() { 12 } else { 14 }
    }

    /// Bytes of both together, as `a=crypto` carries them.
    #[must_use]
    pub fn master_bytes(self) -> usize {
        self.key_bytes() + self.salt_bytes()
    }

    fn is_aead(self) -> bool {
        matches!(self, Suite::AeadAes128Gcm | Suite::AeadAes256Gcm)
    }

    fn rtp_tag_bytes(self) -> usize {
        match self {
            Suite::AesCm128HmacSha1_80 => 10,
            Suite::AesCm128HmacSha1_32 => 4,
            Suite::AeadAes128Gcm | Suite::AeadAes256Gcm => 16,
        }
    }

    fn rtcp_tag_bytes(self) -> usize {
        if self.is_aead() { 16 } else { 10 }
    }
}

/// What one direction's session keys are made from: a suite with its master key and salt.
#[derive(Clone, PartialEq, Eq)]
pub struct MasterKey {
    suite: Suite,
    bytes: [u8; MAX_MASTER_BYTES],
}

impl MasterKey {
    /// From key and salt, one behind the other.
    ///
    /// # Errors
    /// [`SrtpError::KeyLength`] where they are not as long as the suite's.
    pub fn new(suite: Suite, key_and_salt: &[u8]) -> Result<MasterKey, SrtpError> {
        let needed = suite.master_bytes();
        let wrong = SrtpError::KeyLength { suite: suite.name(), needed, got: key_and_salt.len() };
        if key_and_salt.len() != needed {
            return Err(wrong);
        }
        let mut bytes = [0; MAX_MASTER_BYTES];
        bytes.get_mut(..needed).ok_or(wrong)?.copy_from_slice(key_and_salt);
        Ok(MasterKey { suite, bytes })
    }

    /// What it is for.
    #[must_use]
    pub fn suite(&self) -> Suite {
        self.suite
    }

    /// Key and salt, one behind the other: a secret.
    #[must_use]
    pub fn key_and_salt(&self) -> &[u8] {
        self.bytes.get(..self.suite.master_bytes()).unwrap_or_default()
    }

    fn key(&self) -> &[u8] {
        self.bytes.get(..self.suite.key_bytes()).unwrap_or_default()
    }

    fn salt(&self) -> &[u8] {
        self.bytes.get(self.suite.key_bytes()..self.suite.master_bytes()).unwrap_or_default()
    }
}

impl std::fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("MasterKey").field("suite", &self.suite).finish_non_exhaustive()
    }
}

/// Why a packet is not taken, or keys are none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[non_exhaustive]
pub enum SrtpError {
    /// Master key and salt are too short or too long.
    #[error("{suite} takes {needed} bytes of key and salt, not {got}")]
    KeyLength {
        /// The suite.
        suite: &'static str,
        /// What it takes.
        needed: usize,
        /// What was given.
        got: usize,
    },
    /// The packet is too short for its header and tag, or its header is none.
    #[error("no SRTP packet: too short, or a header that is none")]
    Malformed,
    /// The tag does not fit: forged, damaged, or under another key.
    #[error("the packet's tag does not fit its content and our key")]
    Tag,
    /// It came before, or is too old to tell.
    #[error("the packet came before, or is older than can be told")]
    Replay,
}

/// Both directions' keys of one leg.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyPair {
    /// What we protect with.
    pub send: MasterKey,
    /// What the peer protects with.
    pub receive: MasterKey,
}

/// Where the payload of an RTP packet begins: behind CSRC list and extension, which are not encrypted.
pub(crate) fn payload_at(packet: &[u8]) -> Option<usize> {
    let flags = *packet.first()?;
    if flags >> 6 != crate::rtp::VERSION {
        return None;
    }
    let mut at = crate::rtp::HEADER_BYTES + usize::from(flags & 0x0f) * 4;
    if flags & 0x10 != 0 {
        let length = packet.get(at + 2..at + 4)?;
        at += 4 + usize::from(u16::from_be_bytes([*length.first()?, *length.get(1)?])) * 4;
    }
    (at <= packet.len()).then_some(at)
}

fn seq_of(packet: &[u8]) -> u16 {
    packet.get(2..4).and_then(|bytes| bytes.try_into().ok()).map(u16::from_be_bytes).unwrap_or(0)
}

/// The SSRC of an RTP packet (`at` 8) or RTCP packet (`at` 4).
fn ssrc_of(packet: &[u8], at: usize) -> u32 {
    packet.get(at..at + 4).and_then(|bytes| bytes.try_into().ok()).map(u32::from_be_bytes).unwrap_or(0)
}
