//! Unpredictable names and collision-proof keys from one seed: SipHash-2-4 with 128 bits of output (Aumasson and
//! Bernstein, 2012), keyed with the endpoint's secret.
//!
//! Names (tags, branches, Call-IDs) are the hash of a counter: who does not know the secret can neither guess the next
//! one nor tell them from chance. Keys of tables that a peer fills are hashes of what the peer sent: without the
//! secret nobody makes two of them collide, and with 128 bits they do not by chance.

use std::collections::HashMap;
use std::fmt::Write as _;
use std::hash::{BuildHasherDefault, Hasher};

/// The hash of what identifies something on the wire.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Fingerprint(u64, u64);

impl std::hash::Hash for Fingerprint {
    fn hash<H: Hasher>(&self, state: &mut H) {
        state.write_u64(self.0);
    }
}

/// A map keyed by fingerprints, which need no further hashing.
pub(crate) type FingerprintMap<V> = HashMap<Fingerprint, V, BuildHasherDefault<AsIs>>;

/// Takes the hash from the key itself.
#[derive(Debug, Default)]
pub(crate) struct AsIs(u64);

impl Hasher for AsIs {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.0 = self.0.rotate_left(8) ^ u64::from(*byte);
        }
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = number;
    }
}

/// The endpoint's secret and its counter of names.
#[derive(Debug)]
pub(crate) struct Secret {
    key: (u64, u64),
    counter: u64,
}

impl Secret {
    /// A secret from the seed, which must be unpredictable where peers are not trusted.
    pub(crate) fn new(seed: u64) -> Self {
        // Two words from one by SplitMix64's finaliser, so that near seeds give far keys.
        Self { key: (mix(seed.wrapping_add(0x9e37_79b9_7f4a_7c15)), mix(seed ^ 0x6a09_e667_f3bc_c908)), counter: 0 }
    }

    /// A secret from 128 bits.
    pub(crate) fn from_key(key: [u64; 2]) -> Self {
        Self { key: (key[0], key[1]), counter: 0 }
    }

    /// The fingerprint of some parts in order; where one ends and the next begins counts.
    pub(crate) fn fingerprint(&self, parts: &[&[u8]]) -> Fingerprint {
        let mut state = SipHash::new(self.key);
        for part in parts {
            state.write(part);
            state.absorb(part.len() as u64 & 0xffff_ffff, 4);
            state.length += 4;
        }
        let (low, high) = state.finish();
        Fingerprint(low, high)
    }

    /// 64 bits that nobody can guess.
    pub(crate) fn number(&mut self) -> u64 {
        self.counter += 1;
        let mut state = SipHash::new((self.key.0 ^ 0x6e61_6d65, self.key.1));
        state.write(&self.counter.to_le_bytes());
        state.finish().0
    }

    /// A name of 16 hexadecimal digits: a tag, the rest of a branch, half a Call-ID.
    pub(crate) fn name(&mut self) -> Name {
        Name::from_number(self.number())
    }

    /// A name that the same parts always give.
    pub(crate) fn name_of(&self, parts: &[&[u8]]) -> Name {
        Name::from_number(self.fingerprint(parts).0)
    }

    /// A number below `bound`, for back-off times.
    pub(crate) fn below(&mut self, bound: u64) -> u64 {
        self.number() % bound.max(1)
    }

    /// A string of 32 hexadecimal digits.
    pub(crate) fn long_name(&mut self) -> String {
        let mut name = String::with_capacity(32);
        let _ = write!(name, "{:016x}{:016x}", self.number(), self.number());
        name
    }
}

/// A tag or branch of ours, without an allocation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Name([u8; 16]);

impl Name {
    fn from_number(number: u64) -> Self {
        let mut digits = [0; 16];
        for (index, digit) in digits.iter_mut().enumerate() {
            let nibble = (number >> (60 - 4 * index)) & 0xf;
            *digit = b"0123456789abcdef".get(nibble as usize).copied().unwrap_or(b'0');
        }
        Self(digits)
    }

    pub(crate) fn as_str(&self) -> &str {
        std::str::from_utf8(&self.0).unwrap_or("0")
    }
}

fn mix(mut number: u64) -> u64 {
    number = (number ^ (number >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    number = (number ^ (number >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    number ^ (number >> 31)
}

struct SipHash {
    v: [u64; 4],
    pending: u64,
    pending_bytes: u32,
    length: u64,
}

impl SipHash {
    fn new(key: (u64, u64)) -> Self {
        Self {
            v: [
                key.0 ^ 0x736f_6d65_7073_6575,
                key.1 ^ 0x646f_7261_6e64_6f6d ^ 0xee,
                key.0 ^ 0x6c79_6765_6e65_7261,
                key.1 ^ 0x7465_6462_7974_6573,
            ],
            pending: 0,
            pending_bytes: 0,
            length: 0,
        }
    }

    fn rounds(&mut self, count: usize) {
        let [mut v0, mut v1, mut v2, mut v3] = self.v;
        for _ in 0..count {
            v0 = v0.wrapping_add(v1);
            v1 = v1.rotate_left(13) ^ v0;
            v0 = v0.rotate_left(32);
            v2 = v2.wrapping_add(v3);
            v3 = v3.rotate_left(16) ^ v2;
            v0 = v0.wrapping_add(v3);
            v3 = v3.rotate_left(21) ^ v0;
            v2 = v2.wrapping_add(v1);
            v1 = v1.rotate_left(17) ^ v2;
            v2 = v2.rotate_left(32);
        }
        self.v = [v0, v1, v2, v3];
    }

    fn block(&mut self, block: u64) {
        self.v[3] ^= block;
        self.rounds(2);
        self.v[0] ^= block;
    }

    fn write(&mut self, bytes: &[u8]) {
        self.length += bytes.len() as u64;
        let mut blocks = bytes.chunks_exact(8);
        for block in &mut blocks {
            let mut word = [0; 8];
            word.copy_from_slice(block);
            self.absorb(u64::from_le_bytes(word), 8);
        }
        let rest = blocks.remainder();
        if !rest.is_empty() {
            let word = rest.iter().rev().fold(0, |word, byte| word << 8 | u64::from(*byte));
            self.absorb(word, rest.len() as u32);
        }
    }

    /// Takes in the `count` (1 to 8) low bytes of a word.
    fn absorb(&mut self, word: u64, count: u32) {
        let held = self.pending_bytes;
        if held == 0 && count == 8 {
            return self.block(word);
        }
        self.pending |= word << (8 * held);
        if held + count < 8 {
            self.pending_bytes = held + count;
            return;
        }
        let block = self.pending;
        self.block(block);
        self.pending_bytes = held + count - 8;
        // What did not fit, if anything.
        self.pending = if held == 0 { 0 } else { word.checked_shr(8 * (8 - held)).unwrap_or(0) };
    }

    fn finish(mut self) -> (u64, u64) {
        let last = self.pending | (self.length & 0xff) << 56;
        self.block(last);
        self.v[2] ^= 0xee;
        self.rounds(4);
        let low = self.v[0] ^ self.v[1] ^ self.v[2] ^ self.v[3];
        self.v[1] ^= 0xdd;
        self.rounds(4);
        (low, self.v[0] ^ self.v[1] ^ self.v[2] ^ self.v[3])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Vectors 0, 1 and 15 of the reference implementation's table `vectors_sip128`: key 00 01 .. 0f, input of n bytes 00 01 ...
    #[test]
    fn the_hash_agrees_with_the_reference_vectors() {
        let key = (0x0706_0504_0302_0100, 0x0f0e_0d0c_0b0a_0908);
        let hash = |bytes: &[u8]| {
            let mut state = SipHash::new(key);
            state.write(bytes);
            state.finish()
        };
        let bytes: Vec<u8> = (0..15).collect();
        assert_eq!(hash(&[]), (0xe6a8_25ba_047f_81a3, 0x9302_55c7_1472_f66d));
        assert_eq!(hash(&[0]), (0x44af_996b_d8c1_87da, 0x45fc_229b_1159_7634));
        assert_eq!(hash(&bytes), (0x11a8_b033_99e9_9354, 0xd9c3_cf97_0fec_087e));
    }

    #[test]
    fn parts_are_told_apart() {
        let secret = Secret::new(1);
        assert_ne!(secret.fingerprint(&[b"ab", b"c"]), secret.fingerprint(&[b"a", b"bc"]));
        assert_eq!(secret.fingerprint(&[b"ab", b"c"]), secret.fingerprint(&[b"ab", b"c"]));
        assert_ne!(secret.fingerprint(&[b"ab"]), Secret::new(2).fingerprint(&[b"ab"]));
    }

    #[test]
    fn writing_in_pieces_changes_nothing() {
        let whole = {
            let mut state = SipHash::new((1, 2));
            state.write(b"one two three four five");
            state.finish()
        };
        let pieces = {
            let mut state = SipHash::new((1, 2));
            for piece in [&b"one"[..], b" two thre", b"", b"e four", b" five"] {
                state.write(piece);
            }
            state.finish()
        };
        assert_eq!(whole, pieces);
    }

    #[test]
    fn names_do_not_repeat_and_depend_on_the_seed() {
        let mut secret = Secret::new(7);
        let names: std::collections::HashSet<_> = (0..10_000).map(|_| secret.name().as_str().to_owned()).collect();
        assert_eq!(names.len(), 10_000);
        assert_ne!(Secret::new(7).name().as_str(), Secret::new(8).name().as_str());
        assert_eq!(Secret::new(7).name().as_str(), Secret::new(7).name().as_str());
    }
}
