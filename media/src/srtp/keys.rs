//! Session keys (RFC 3711 section 4.3, RFC 7714 section 11), and what they do to one packet.

use aws_lc_rs::aead::{AES_128_GCM, AES_256_GCM, Aad, LessSafeKey, Nonce, UnboundKey};
use aws_lc_rs::cipher::{AES_128, AES_256, EncryptingKey, EncryptionContext, UnboundCipherKey};
use aws_lc_rs::iv::FixedLength;
use aws_lc_rs::{constant_time, hmac};

use super::{INDEX_BYTES, MasterKey, SrtpError, Suite};

/// Bytes of the salt in counter mode; GCM's is two bytes shorter.
const SALT_BYTES: usize = 14;
const AUTH_KEY_BYTES: usize = 20;
/// What of an RTCP packet is not encrypted.
const RTCP_CLEAR_BYTES: usize = 8;
/// Set in the index of RTCP packets that are encrypted, as all of ours are.
const ENCRYPTED: u32 = 1 << 31;

/// What a session key is for (RFC 3711 section 4.3.1).
#[derive(Clone, Copy)]
enum Label {
    RtpKey = 0,
    RtpAuth = 1,
    RtpSalt = 2,
    RtcpKey = 3,
    RtcpAuth = 4,
    RtcpSalt = 5,
}

/// The session keys of one direction.
pub(super) struct SessionKeys {
    pub(super) suite: Suite,
    rtp: Cipher,
    rtcp: Cipher,
}

/// Encrypts and authenticates; salt included.
enum Cipher {
    Counter {
        key: Box<EncryptingKey>,
        auth: Box<hmac::Key>,
        salt: [u8; SALT_BYTES],
    },
    Galois {
        key: Box<LessSafeKey>,
        salt: [u8; 12],
    },
    /// The library would not have the key; nothing passes.
    None,
}

impl SessionKeys {
    pub(super) fn new(master: &MasterKey) -> SessionKeys {
        let suite = master.suite();
        let cipher = |key, auth, salt| Cipher::derive(master, key, auth, salt).unwrap_or(Cipher::None);
        SessionKeys {
            suite,
            rtp: cipher(Label::RtpKey, Label::RtpAuth, Label::RtpSalt),
            rtcp: cipher(Label::RtcpKey, Label::RtcpAuth, Label::RtcpSalt),
        }
    }

    /// Encrypts the packet of `len` bytes at the front of `buffer` behind `clear` bytes, and puts the tag behind it.
    pub(super) fn seal_rtp(
        &self,
        buffer: &mut [u8],
        len: usize,
        clear: usize,
        ssrc: u32,
        roc: u32,
        seq: u16,
    ) -> Option<usize> {
        let (packet, rest) = buffer.split_at_mut_checked(len)?;
        let tag = rest.get_mut(..self.suite.rtp_tag_bytes())?;
        match &self.rtp {
            Cipher::Counter { key, auth, salt } => {
                let index = u64::from(roc) << 16 | u64::from(seq);
                counter(key, salt, ssrc, index, packet.get_mut(clear..)?)?;
                put_tag(auth, packet, &roc.to_be_bytes(), tag);
            }
            Cipher::Galois { key, salt } => {
                let (header, payload) = packet.split_at_mut_checked(clear)?;
                let nonce = rtp_nonce(salt, ssrc, roc, seq);
                let made = key.seal_in_place_separate_tag(nonce, Aad::from(&*header), payload).ok()?;
                tag.copy_from_slice(made.as_ref());
            }
            Cipher::None => return None,
        }
        Some(len + self.suite.rtp_tag_bytes())
    }

    /// The other way round, from `packet` into `out`, which is at least as long: the size of what is in it where the tag fits.
    pub(super) fn open_rtp(
        &self,
        packet: &[u8],
        out: &mut [u8],
        clear: usize,
        ssrc: u32,
        roc: u32,
        seq: u16,
    ) -> Result<usize, SrtpError> {
        let len = packet.len().checked_sub(self.suite.rtp_tag_bytes()).ok_or(SrtpError::Malformed)?;
        let (body, tag) = packet.split_at_checked(len).ok_or(SrtpError::Malformed)?;
        let (header, payload) = body.split_at_checked(clear).ok_or(SrtpError::Malformed)?;
        let (out_header, out) =
            out.get_mut(..len).and_then(|out| out.split_at_mut_checked(clear)).ok_or(SrtpError::Malformed)?;
        out_header.copy_from_slice(header);
        match &self.rtp {
            Cipher::Counter { key, auth, salt } => {
                check_tag(auth, body, &roc.to_be_bytes(), tag)?;
                out.copy_from_slice(payload);
                counter(key, salt, ssrc, u64::from(roc) << 16 | u64::from(seq), out).ok_or(SrtpError::Tag)?;
            }
            Cipher::Galois { key, salt } => {
                let nonce = rtp_nonce(salt, ssrc, roc, seq);
                key.open_separate_gather(nonce, Aad::from(header), payload, tag, out).map_err(|_| SrtpError::Tag)?;
            }
            Cipher::None => return Err(SrtpError::Tag),
        }
        Ok(len)
    }

    /// Encrypts the RTCP packet of `len` bytes behind its first eight, and puts index and tag behind it (RFC 3711 section 3.4,
    /// RFC 7714 section 9).
    pub(super) fn seal_rtcp(&self, buffer: &mut [u8], len: usize, ssrc: u32, index: u32) -> Option<usize> {
        let word = (index | ENCRYPTED).to_be_bytes();
        let tag_bytes = self.suite.rtcp_tag_bytes();
        let total = len + tag_bytes + INDEX_BYTES;
        let buffer = buffer.get_mut(..total)?;
        match &self.rtcp {
            Cipher::Counter { key, auth, salt } => {
                counter(key, salt, ssrc, u64::from(index), buffer.get_mut(8..len)?)?;
                buffer.get_mut(len..len + INDEX_BYTES)?.copy_from_slice(&word);
                let (body, tag) = buffer.split_at_mut_checked(len + INDEX_BYTES)?;
                put_tag(auth, body, &[], tag);
            }
            Cipher::Galois { key, salt } => {
                let (header, rest) = buffer.split_at_mut_checked(8)?;
                let (payload, rest) = rest.split_at_mut_checked(len.checked_sub(8)?)?;
                let (tag, last) = rest.split_at_mut_checked(tag_bytes)?;
                last.copy_from_slice(&word);
                let aad = rtcp_aad(header, word)?;
                let made =
                    key.seal_in_place_separate_tag(rtcp_nonce(salt, ssrc, index), Aad::from(aad), payload).ok()?;
                tag.copy_from_slice(made.as_ref());
            }
            Cipher::None => return None,
        }
        Some(total)
    }

    /// The index that a protected RTCP packet carries.
    pub(super) fn rtcp_index(&self, packet: &[u8]) -> Result<u32, SrtpError> {
        let end = if self.suite.is_aead() {
            Some(packet.len())
        } else {
            packet.len().checked_sub(self.suite.rtcp_tag_bytes())
        };
        let word = end.and_then(|end| packet.get(end.checked_sub(INDEX_BYTES)?..end)).ok_or(SrtpError::Malformed)?;
        let word = u32::from_be_bytes(word.try_into().map_err(|_| SrtpError::Malformed)?);
        // One that says of itself that it is not encrypted is none of ours to read: what was agreed is encrypted.
        if word & ENCRYPTED == 0 { Err(SrtpError::Malformed) } else { Ok(word & !ENCRYPTED) }
    }

    /// The other way round, as with [`open_rtp`](Self::open_rtp).
    pub(super) fn open_rtcp(&self, packet: &[u8], out: &mut [u8], ssrc: u32, index: u32) -> Result<usize, SrtpError> {
        let tag_bytes = self.suite.rtcp_tag_bytes();
        let len = packet.len().checked_sub(tag_bytes + INDEX_BYTES).filter(|len| *len >= RTCP_CLEAR_BYTES);
        let len = len.ok_or(SrtpError::Malformed)?;
        let (body, behind) = packet.split_at_checked(len).ok_or(SrtpError::Malformed)?;
        let (header, payload) = body.split_at_checked(RTCP_CLEAR_BYTES).ok_or(SrtpError::Malformed)?;
        let (out_header, out) = out
            .get_mut(..len)
            .and_then(|out| out.split_at_mut_checked(RTCP_CLEAR_BYTES))
            .ok_or(SrtpError::Malformed)?;
        out_header.copy_from_slice(header);
        match &self.rtcp {
            Cipher::Counter { key, auth, salt } => {
                let (signed, tag) = packet.split_at_checked(len + INDEX_BYTES).ok_or(SrtpError::Malformed)?;
                check_tag(auth, signed, &[], tag)?;
                out.copy_from_slice(payload);
                counter(key, salt, ssrc, u64::from(index), out).ok_or(SrtpError::Tag)?;
            }
            Cipher::Galois { key, salt } => {
                let tag = behind.get(..tag_bytes).ok_or(SrtpError::Malformed)?;
                let aad = rtcp_aad(header, (index | ENCRYPTED).to_be_bytes()).ok_or(SrtpError::Malformed)?;
                let nonce = rtcp_nonce(salt, ssrc, index);
                key.open_separate_gather(nonce, Aad::from(aad), payload, tag, out).map_err(|_| SrtpError::Tag)?;
            }
            Cipher::None => return Err(SrtpError::Tag),
        }
        Ok(len)
    }
}

impl Cipher {
    fn derive(master: &MasterKey, key: Label, auth: Label, salt: Label) -> Option<Cipher> {
        let suite = master.suite();
        let mut key_bytes = [0; 32];
        let key_bytes = key_bytes.get_mut(..suite.key_bytes())?;
        derive(master, key, key_bytes)?;
        let mut salt_bytes = [0; SALT_BYTES];
        derive(master, salt, salt_bytes.get_mut(..suite.salt_bytes())?)?;
        if suite.is_aead() {
            let algorithm = if suite == Suite::AeadAes256Gcm { &AES_256_GCM } else { &AES_128_GCM };
            let key = LessSafeKey::new(UnboundKey::new(algorithm, key_bytes).ok()?);
            return Some(Cipher::Galois { key: Box::new(key), salt: *salt_bytes.first_chunk()? });
        }
        let mut auth_bytes = [0; AUTH_KEY_BYTES];
        derive(master, auth, &mut auth_bytes)?;
        Some(Cipher::Counter {
            key: Box::new(block_cipher(key_bytes)?),
            auth: Box::new(hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, &auth_bytes)),
            salt: salt_bytes,
        })
    }
}

/// Fills `out` with the session key that `label` names: the key stream of the master key from the master salt with the label in it
/// (RFC 3711 section 4.3.3). The salt of GCM is shorter, and stands to the left (RFC 7714 section 11).
fn derive(master: &MasterKey, label: Label, out: &mut [u8]) -> Option<()> {
    let mut iv = [0; 16];
    iv.get_mut(..master.salt().len())?.copy_from_slice(master.salt());
    *iv.get_mut(7)? ^= label as u8;
    out.fill(0);
    block_cipher(master.key())?.less_safe_encrypt(out, EncryptionContext::Iv128(FixedLength::from(iv))).ok()?;
    Some(())
}

fn block_cipher(key: &[u8]) -> Option<EncryptingKey> {
    let algorithm = if key.len() == 32 { &AES_256 } else { &AES_128 };
    EncryptingKey::ctr(UnboundCipherKey::new(algorithm, key).ok()?).ok()
}

/// AES in counter mode (RFC 3711 section 4.1.1): the same both ways.
fn counter(key: &EncryptingKey, salt: &[u8; SALT_BYTES], ssrc: u32, index: u64, payload: &mut [u8]) -> Option<()> {
    let mut iv = [0; 16];
    iv.first_chunk_mut::<SALT_BYTES>()?.copy_from_slice(salt);
    let value = u128::from_be_bytes(iv) ^ u128::from(ssrc) << 64 ^ u128::from(index) << 16;
    let context = EncryptionContext::Iv128(FixedLength::from(value.to_be_bytes()));
    key.less_safe_encrypt(payload, context).ok().map(|_| ())
}

fn sign(key: &hmac::Key, body: &[u8], behind: &[u8]) -> hmac::Tag {
    let mut context = hmac::Context::with_key(key);
    context.update(body);
    context.update(behind);
    context.sign()
}

fn put_tag(key: &hmac::Key, body: &[u8], behind: &[u8], tag: &mut [u8]) {
    let made = sign(key, body, behind);
    tag.iter_mut().zip(made.as_ref()).for_each(|(place, byte)| *place = *byte);
}

fn check_tag(key: &hmac::Key, body: &[u8], behind: &[u8], tag: &[u8]) -> Result<(), SrtpError> {
    let made = sign(key, body, behind);
    let made = made.as_ref().get(..tag.len()).ok_or(SrtpError::Tag)?;
    constant_time::verify_slices_are_equal(made, tag).map_err(|_| SrtpError::Tag)
}

/// RFC 7714 section 8.1.
fn rtp_nonce(salt: &[u8; 12], ssrc: u32, roc: u32, seq: u16) -> Nonce {
    let value = u128::from(ssrc) << 48 | u128::from(roc) << 16 | u128::from(seq);
    nonce(salt, value)
}

/// RFC 7714 section 9.1.
fn rtcp_nonce(salt: &[u8; 12], ssrc: u32, index: u32) -> Nonce {
    nonce(salt, u128::from(ssrc) << 48 | u128::from(index))
}

fn nonce(salt: &[u8; 12], value: u128) -> Nonce {
    let mut bytes = *salt;
    bytes.iter_mut().rev().zip(value.to_le_bytes()).for_each(|(place, byte)| *place ^= byte);
    Nonce::assume_unique_for_key(bytes)
}

/// What is authenticated of an RTCP packet without being encrypted: its first eight bytes, and the index (RFC 7714 section 9.2).
fn rtcp_aad(header: &[u8], word: [u8; INDEX_BYTES]) -> Option<[u8; 12]> {
    let mut aad = [0; 12];
    aad.get_mut(..8)?.copy_from_slice(header);
    aad.get_mut(8..)?.copy_from_slice(&word);
    Some(aad)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used)]
    use super::*;

    fn bytes(hex: &str) -> Vec<u8> {
        let digits: Vec<u32> = hex.chars().filter_map(|c| c.to_digit(16)).collect();
        digits.chunks(2).map(|pair| (pair[0] * 16 + pair[1]) as u8).collect()
    }

    /// RFC 3711 appendix B.3.
    #[test]
    fn session_keys_are_those_of_the_rfc() {
        let master = bytes("E1F97A0D3E018BE0D64FA32C06DE4139 0EC675AD498AFEEBB6960B3AABE6");
        let master = MasterKey::new(Suite::AesCm128HmacSha1_80, &master).unwrap();
        let mut key = [0; 16];
        derive(&master, Label::RtpKey, &mut key).unwrap();
        assert_eq!(key.to_vec(), bytes("C61E7A93744F39EE10734AFE3FF7A087"));
        let mut salt = [0; 14];
        derive(&master, Label::RtpSalt, &mut salt).unwrap();
        assert_eq!(salt.to_vec(), bytes("30CBBC08863D8C85D49DB34A9AE1"));
        let mut auth = [0; 94];
        derive(&master, Label::RtpAuth, &mut auth).unwrap();
        assert_eq!(auth[..32].to_vec(), bytes("CEBE321F6FF7716B6FD4AB49AF256A15 6D38BAA48F0A0ACF3C34E2359E6CDBCE"));
    }

    /// RFC 3711 appendix B.2.
    #[test]
    fn the_key_stream_is_that_of_the_rfc() {
        let key = block_cipher(&bytes("2B7E151628AED2A6ABF7158809CF4F3C")).unwrap();
        let salt: [u8; 14] = bytes("F0F1F2F3F4F5F6F7F8F9FAFBFCFD").try_into().unwrap();
        let mut stream = vec![0; 32];
        counter(&key, &salt, 0, 0, &mut stream).unwrap();
        assert_eq!(stream, bytes("E03EAD0935C95E80E166B16DD92B4EB4 D23513162B02D0F72A43A2FE4A5F97AB"));
    }

    fn galois(key: &str) -> SessionKeys {
        let (key, salt) = (bytes(key), *bytes("51756964 2070726f 2071756f").first_chunk().unwrap());
        let (suite, algorithm) =
            if key.len() == 32 { (Suite::AeadAes256Gcm, &AES_256_GCM) } else { (Suite::AeadAes128Gcm, &AES_128_GCM) };
        let cipher = || {
            let key = Box::new(LessSafeKey::new(UnboundKey::new(algorithm, &key).unwrap()));
            Cipher::Galois { key, salt }
        };
        SessionKeys { suite, rtp: cipher(), rtcp: cipher() }
    }

    const AES_128: &str = "000102030405060708090a0b0c0d0e0f";
    const AES_256: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";
    const RTP: &str = "8040f17b 8041f8d3 5501a0b2 47616c6c 69612065 7374206f 6d6e6973 20646976 69736120 696e2070 61727465 73207472 6573";

    /// RFC 7714 sections 16.1.1 and 16.2.1.
    #[test]
    fn gcm_protects_rtp_as_in_the_rfc() {
        for (key, sealed) in [
            (
                AES_128,
                "8040f17b 8041f8d3 5501a0b2 f24de3a3 fb34de6c acba861c 9d7e4bca be633bd5 0d294e6f 42a5f47a 51c7d19b \
                 36de3adf 8833899d 7f27beb1 6a9152cf 765ee439 0cce",
            ),
            (
                AES_256,
                "8040f17b 8041f8d3 5501a0b2 32b1de78 a822fe12 ef9f78fa 332e33aa b1801238 9a58e2f3 b50b2a02 76ffae0f \
                 1ba63799 b87b7aa3 db36dfff d6b0f9bb 7878d7a7 6c13",
            ),
        ] {
            let (keys, plain) = (galois(key), bytes(RTP));
            let mut packet = plain.clone();
            packet.resize(plain.len() + 16, 0);
            let len = keys.seal_rtp(&mut packet, plain.len(), 12, 0x5501_a0b2, 0, 0xf17b).unwrap();
            assert_eq!(packet[..len].to_vec(), bytes(sealed), "{key}");
            let mut out = vec![0; len];
            let len = keys.open_rtp(&packet[..len], &mut out, 12, 0x5501_a0b2, 0, 0xf17b).unwrap();
            assert_eq!(out[..len].to_vec(), plain);
        }
    }

    /// RFC 7714 section 17.1.
    #[test]
    fn gcm_protects_rtcp_as_in_the_rfc() {
        let plain = bytes(
            "81c8000d 4d617273 4e545031 4e545032 52545020 0000042a 0000e930 4c756e61 deadbeef deadbeef deadbeef deadbeef deadbeef",
        );
        let sealed = bytes(
            "81c8000d 4d617273 63e94885 dcdab67c a727d766 2f6b7e99 7ff5c0f7 6c06f32d c676a5f1 730d6fda 4ce09b46 86303ded \
             0bb9275b c84aa458 96cf4d2f c5abf872 45d9eade 800005d4",
        );
        let keys = galois(AES_128);
        let mut packet = plain.clone();
        packet.resize(plain.len() + 20, 0);
        let len = keys.seal_rtcp(&mut packet, plain.len(), 0x4d61_7273, 0x5d4).unwrap();
        assert_eq!(packet[..len].to_vec(), sealed);
        assert_eq!(keys.rtcp_index(&packet), Ok(0x5d4));
        let mut out = vec![0; len];
        let len = keys.open_rtcp(&packet, &mut out, 0x4d61_7273, 0x5d4).unwrap();
        assert_eq!(out[..len].to_vec(), plain);
    }
}
