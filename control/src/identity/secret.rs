//! Secrets: 256 bits from the system's generator, written in base64url; of those that are compared only the hash is stored.

use aws_lc_rs::aead::{AES_256_GCM, Aad, NONCE_LEN, Nonce, RandomizedNonceKey};
use aws_lc_rs::{digest, hmac, rand};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

/// What an API key begins with, so that scanners of public code know one.
pub const KEY_PREFIX: &str = "ovx_";
/// Characters of a key that lists show.
pub const SHOWN: usize = 12;

/// The system has no randomness.
#[derive(Debug, thiserror::Error)]
#[error("the system gives no random numbers")]
pub struct NoRandomness;

/// Fills an array with random bytes.
///
/// # Errors
/// The system has none.
pub fn random<const N: usize>() -> Result<[u8; N], NoRandomness> {
    let mut bytes = [0; N];
    rand::fill(&mut bytes).map_err(|_| NoRandomness)?;
    Ok(bytes)
}

/// A new secret, 43 characters.
///
/// # Errors
/// The system has no randomness.
pub fn new_secret() -> Result<String, NoRandomness> {
    Ok(URL_SAFE_NO_PAD.encode(random::<32>()?))
}

/// What is stored of a secret. A plain hash will do: nobody guesses 256 bits.
#[must_use]
pub fn hash(secret: &str) -> String {
    hex(digest::digest(&digest::SHA256, secret.as_bytes()).as_ref())
}

/// The token that a page has to send with what it changes, bound to its session.
#[must_use]
pub fn csrf(session: &str) -> String {
    hash(&format!("csrf {session}"))
}

/// Bytes in hexadecimal.
#[must_use]
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Compares in a time that does not tell how much was right.
#[must_use]
pub fn same(a: &str, b: &str) -> bool {
    aws_lc_rs::constant_time::verify_slices_are_equal(a.as_bytes(), b.as_bytes()).is_ok()
}

/// Signs with the server's key.
#[must_use]
pub fn sign(key: &[u8], text: &str) -> String {
    URL_SAFE_NO_PAD.encode(hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes()).as_ref())
}

/// Whether a signature is ours.
#[must_use]
pub fn is_signed(key: &[u8], text: &str, signature: &str) -> bool {
    let Ok(signature) = URL_SAFE_NO_PAD.decode(signature) else { return false };
    hmac::verify(&hmac::Key::new(hmac::HMAC_SHA256, key), text.as_bytes(), &signature).is_ok()
}

/// Seals what has to be read again (secrets that sign) with a key made of the server's: AES-256-GCM, the nonce before it, in base64url.
///
/// # Errors
/// The system has no randomness.
pub fn seal(key: &[u8], text: &str) -> Result<String, NoRandomness> {
    let mut sealed = text.as_bytes().to_vec();
    let nonce = sealing_key(key)?.seal_in_place_append_tag(Aad::empty(), &mut sealed).map_err(|_| NoRandomness)?;
    let mut whole = nonce.as_ref().to_vec();
    whole.append(&mut sealed);
    Ok(URL_SAFE_NO_PAD.encode(whole))
}

/// Opens what was sealed; `None` where it was not sealed with this key, or changed since.
#[must_use]
pub fn open(key: &[u8], sealed: &str) -> Option<String> {
    let mut whole = URL_SAFE_NO_PAD.decode(sealed).ok()?;
    let (nonce, sealed) = whole.split_at_mut_checked(NONCE_LEN)?;
    let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
    let text = sealing_key(key).ok()?.open_in_place(nonce, Aad::empty(), sealed).ok()?;
    std::str::from_utf8(text).ok().map(str::to_owned)
}

fn sealing_key(key: &[u8]) -> Result<RandomizedNonceKey, NoRandomness> {
    let own = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), b"seal");
    RandomizedNonceKey::new(&AES_256_GCM, own.as_ref()).map_err(|_| NoRandomness)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_signature_fits_its_text_and_key_alone() {
        let signature = sign(b"key", "text");
        assert!(is_signed(b"key", "text", &signature));
        assert!(!is_signed(b"key", "texts", &signature));
        assert!(!is_signed(b"other", "text", &signature));
        assert!(!is_signed(b"key", "text", "no base64!"));
    }

    #[test]
    fn what_is_sealed_opens_with_its_key_alone() {
        let sealed = seal(b"key", "whsec_text").unwrap();
        assert_eq!(open(b"key", &sealed).as_deref(), Some("whsec_text"));
        assert_eq!(open(b"other", &sealed), None);
        let mut changed = sealed.clone().into_bytes();
        changed[20] ^= 1;
        assert_eq!(open(b"key", std::str::from_utf8(&changed).unwrap()), None);
        assert_eq!(open(b"key", "AA"), None);
        assert_ne!(seal(b"key", "whsec_text").unwrap(), sealed);
    }

    #[test]
    fn secrets_differ() {
        let (a, b) = (new_secret().unwrap(), new_secret().unwrap());
        assert_eq!(a.len(), 43);
        assert_ne!(a, b);
        assert!(same(&hash(&a), &hash(&a)) && !same(&hash(&a), &hash(&b)));
    }
}
