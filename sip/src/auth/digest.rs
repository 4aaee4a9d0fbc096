//! The hashes (RFC 7616 section 3.4).

use std::fmt::Write as _;

use md5::Md5;
use sha2::{Digest, Sha256, Sha512_256};

use super::{Qop, Signed};

/// The `algorithm` of a digest.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Algorithm {
    /// `MD5`.
    Md5,
    /// `MD5-sess`.
    Md5Session,
    /// `SHA-256`.
    Sha256,
    /// `SHA-256-sess`.
    Sha256Session,
    /// `SHA-512-256`.
    Sha512_256,
    /// `SHA-512-256-sess`.
    Sha512_256Session,
}

/// What goes into a response besides the user's hash.
pub(super) struct Parts<'a> {
    pub(super) nonce: &'a str,
    pub(super) nc: &'a str,
    pub(super) cnonce: &'a str,
    pub(super) qop: Option<Qop>,
    pub(super) request: &'a Signed<'a>,
}

impl Algorithm {
    const ALL: [Algorithm; 6] = [
        Algorithm::Md5,
        Algorithm::Md5Session,
        Algorithm::Sha256,
        Algorithm::Sha256Session,
        Algorithm::Sha512_256,
        Algorithm::Sha512_256Session,
    ];

    /// Reads the field; MD5 where it is absent.
    #[must_use]
    pub fn parse(name: Option<&str>) -> Option<Algorithm> {
        match name {
            None => Some(Algorithm::Md5),
            Some(name) => Algorithm::ALL.into_iter().find(|a| a.as_str().eq_ignore_ascii_case(name)),
        }
    }

    /// The name as it stands in a header.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Algorithm::Md5 => "MD5",
            Algorithm::Md5Session => "MD5-sess",
            Algorithm::Sha256 => "SHA-256",
            Algorithm::Sha256Session => "SHA-256-sess",
            Algorithm::Sha512_256 => "SHA-512-256",
            Algorithm::Sha512_256Session => "SHA-512-256-sess",
        }
    }

    /// Whether it is one of the `-sess` kinds.
    #[must_use]
    pub fn is_session(self) -> bool {
        matches!(self, Algorithm::Md5Session | Algorithm::Sha256Session | Algorithm::Sha512_256Session)
    }

    /// Larger is better. Of the two SHA-2 kinds SHA-256 is first: every server that knows either knows it.
    pub(super) fn strength(self) -> u8 {
        match self {
            Algorithm::Md5 | Algorithm::Md5Session => 0,
            Algorithm::Sha512_256 | Algorithm::Sha512_256Session => 1,
            Algorithm::Sha256 | Algorithm::Sha256Session => 2,
        }
    }

    /// `H(username:realm:password)` in lower-case hex: what a server may store instead of the password.
    #[must_use]
    pub fn ha1(self, username: &str, realm: &str, password: &str) -> String {
        self.hash(&[username.as_bytes(), realm.as_bytes(), password.as_bytes()])
    }

    pub(super) fn response(self, ha1: &str, parts: &Parts<'_>) -> String {
        let (nonce, cnonce) = (parts.nonce.as_bytes(), parts.cnonce.as_bytes());
        let session = self.is_session().then(|| self.hash(&[ha1.as_bytes(), nonce, cnonce]));
        let ha1 = session.as_deref().unwrap_or(ha1).as_bytes();
        let (method, uri) = (parts.request.method.as_bytes(), parts.request.uri.as_bytes());
        let ha2 = match parts.qop {
            Some(Qop::AuthInt) => {
                let body = self.hash(&[parts.request.body]);
                self.hash(&[method, uri, body.as_bytes()])
            }
            _ => self.hash(&[method, uri]),
        };
        match parts.qop {
            None => self.hash(&[ha1, nonce, ha2.as_bytes()]),
            Some(qop) => self.hash(&[ha1, nonce, parts.nc.as_bytes(), cnonce, qop.as_str().as_bytes(), ha2.as_bytes()]),
        }
    }

    /// Hashes the parts with `:` between them, in lower-case hex.
    fn hash(self, parts: &[&[u8]]) -> String {
        match self {
            Algorithm::Md5 | Algorithm::Md5Session => joined::<Md5>(parts),
            Algorithm::Sha256 | Algorithm::Sha256Session => joined::<Sha256>(parts),
            Algorithm::Sha512_256 | Algorithm::Sha512_256Session => joined::<Sha512_256>(parts),
        }
    }
}

fn joined<D: Digest>(parts: &[&[u8]]) -> String {
    let mut digest = D::new();
    for (n, part) in parts.iter().enumerate() {
        if n > 0 {
            digest.update(b":");
        }
        digest.update(part);
    }
    hex(&digest.finalize())
}

/// HMAC-SHA-256 (RFC 2104) cut to 128 bits, in hex.
pub(super) fn keyed(key: &[u8], text: &[u8]) -> String {
    let mut block = [0u8; 64];
    let short: [u8; 32] = Sha256::digest(key).into();
    for (to, from) in block.iter_mut().zip(short) {
        *to = from;
    }
    let inner = Sha256::new().chain_update(block.map(|b| b ^ 0x36)).chain_update(text).finalize();
    let outer = Sha256::new().chain_update(block.map(|b| b ^ 0x5c)).chain_update(inner).finalize();
    hex(outer.get(..16).unwrap_or_default())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::with_capacity(bytes.len() * 2), |mut out, b| {
        let _ = write!(out, "{b:02x}");
        out
    })
}

/// Compares without telling by time where the difference is. The lengths are no secret.
pub(super) fn constant_time_eq(a: &[u8], b: &[u8]) -> bool {
    a.len() == b.len() && std::hint::black_box(a.iter().zip(b).fold(0u8, |acc, (x, y)| acc | (x ^ y))) == 0
}
