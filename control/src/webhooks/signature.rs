//! Standard Webhooks 1.0: HMAC-SHA256 over id, time and body, under a secret of 24 to 64 bytes that is written `whsec_` and base64.

use aws_lc_rs::hmac;
use base64::Engine;
use base64::engine::general_purpose::STANDARD;

use crate::identity::secret::{self, NoRandomness};
use crate::time::Moment;

/// What the message is called.
pub const ID: &str = "webhook-id";
/// When it was sent, in seconds since 1970.
pub const TIMESTAMP: &str = "webhook-timestamp";
/// Signatures with a space between them, each with its version: `v1,BASE64`.
pub const SIGNATURE: &str = "webhook-signature";
/// A message that is older, or younger, than this is refused; in seconds.
pub const TOLERANCE_S: i64 = 300;
/// What a secret begins with.
const PREFIX: &str = "whsec_";
/// Characters of a secret that lists show, those of the prefix among them.
const SHOWN: usize = 10;
/// Signatures looked at of one message.
const SIGNATURES_LIMIT: usize = 16;

/// A secret.
#[derive(Clone)]
pub struct Secret(Vec<u8>);

impl std::fmt::Debug for Secret {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Secret")
    }
}

/// Why a message is not believed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unverified {
    /// Nothing signed with the secret.
    #[error("the signature does not fit")]
    Signature,
    /// Its time is none.
    #[error("webhook-timestamp is no time: write seconds since 1970")]
    Time,
    /// It was sent too long ago.
    #[error("the message is too old, or from a clock that goes wrong")]
    Stale,
}

impl Secret {
    /// A new one, of 32 bytes.
    ///
    /// # Errors
    /// The system has no randomness.
    pub fn random() -> Result<Self, NoRandomness> {
        Ok(Self(secret::random::<32>()?.to_vec()))
    }

    /// Reads one.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let bytes = STANDARD.decode(text.strip_prefix(PREFIX).unwrap_or(text)).ok()?;
        (24..=64).contains(&bytes.len()).then_some(Self(bytes))
    }

    /// As it is written.
    #[must_use]
    pub fn reveal(&self) -> String {
        format!("{PREFIX}{}", STANDARD.encode(&self.0))
    }

    /// What may be shown of it: 4 of its characters.
    #[must_use]
    pub fn hint(&self) -> String {
        format!("{}…", &self.reveal()[..SHOWN])
    }

    /// Signs a message.
    #[must_use]
    pub fn sign(&self, id: &str, seconds: i64, body: &[u8]) -> String {
        let mut context = hmac::Context::with_key(&hmac::Key::new(hmac::HMAC_SHA256, &self.0));
        for part in [id.as_bytes(), b".", seconds.to_string().as_bytes(), b".", body] {
            context.update(part);
        }
        format!("v1,{}", STANDARD.encode(context.sign().as_ref()))
    }

    /// Whether a message that came is whole, recent, and from whoever has the secret. Whether it came before is for others to say.
    ///
    /// # Errors
    /// Why it is not believed.
    pub fn verify(
        &self,
        id: &str,
        timestamp: &str,
        signatures: &str,
        body: &[u8],
        now: Moment,
    ) -> Result<(), Unverified> {
        let seconds: i64 = timestamp.parse().map_err(|_| Unverified::Time)?;
        if (now.0 / 1_000).abs_diff(seconds) > TOLERANCE_S.unsigned_abs() {
            return Err(Unverified::Stale);
        }
        let expected = self.sign(id, seconds, body);
        let fits = signatures.split(' ').take(SIGNATURES_LIMIT).any(|signature| secret::same(signature, &expected));
        if fits { Ok(()) } else { Err(Unverified::Signature) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The vector of Standard Webhooks' own libraries.
    const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
    const VECTOR_ID: &str = "msg_p5jXN8AQM9LWM0D4loKWxJek";
    const BODY: &[u8] = br#"{"test": 2432232314}"#;

    #[test]
    fn the_vector_of_standard_webhooks_is_signed_as_it_says() {
        let secret = Secret::parse(SECRET).unwrap();
        assert_eq!(secret.sign(VECTOR_ID, 1_614_265_330, BODY), "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=");
        assert_eq!(secret.reveal(), SECRET);
        assert_eq!(secret.hint(), "whsec_MfKQ…");
    }

    #[test]
    fn what_was_tampered_with_or_is_stale_or_signed_by_another_is_refused() {
        let (secret, sent) = (Secret::parse(SECRET).unwrap(), 1_614_265_330);
        let now = Moment(sent * 1_000);
        let good = secret.sign(VECTOR_ID, sent, BODY);
        let verify =
            |id: &str, time: &str, signatures: &str, body: &[u8], now| secret.verify(id, time, signatures, body, now);
        assert_eq!(verify(VECTOR_ID, "1614265330", &good, BODY, now), Ok(()));
        // One of several is enough: secrets are changed with overlap.
        let other = Secret::random().unwrap().sign(VECTOR_ID, sent, BODY);
        assert_eq!(verify(VECTOR_ID, "1614265330", &format!("{other} v2,x {good}"), BODY, now), Ok(()));
        assert_eq!(verify(VECTOR_ID, "1614265330", &other, BODY, now), Err(Unverified::Signature));
        assert_eq!(verify("msg_other", "1614265330", &good, BODY, now), Err(Unverified::Signature));
        assert_eq!(verify(VECTOR_ID, "1614265331", &good, BODY, now), Err(Unverified::Signature));
        assert_eq!(verify(VECTOR_ID, "1614265330", &good, br#"{"test": 2432232315}"#, now), Err(Unverified::Signature));
        assert_eq!(verify(VECTOR_ID, "1614265330", "", BODY, now), Err(Unverified::Signature));
        assert_eq!(verify(VECTOR_ID, "soon", &good, BODY, now), Err(Unverified::Time));
        assert_eq!(verify(VECTOR_ID, "1614265330", &good, BODY, now.after_s(TOLERANCE_S)), Ok(()));
        for late in [TOLERANCE_S + 1, -TOLERANCE_S - 1] {
            assert_eq!(verify(VECTOR_ID, "1614265330", &good, BODY, now.after_s(late)), Err(Unverified::Stale));
        }
        assert_eq!(verify(VECTOR_ID, "-9223372036854775808", &good, BODY, now), Err(Unverified::Stale));
        // More than are looked at.
        let many = format!("{}{good}", "v1,x ".repeat(SIGNATURES_LIMIT));
        assert_eq!(verify(VECTOR_ID, "1614265330", &many, BODY, now), Err(Unverified::Signature));
    }

    #[test]
    fn a_secret_is_24_to_64_bytes() {
        for (bytes, good) in [(23, false), (24, true), (64, true), (65, false)] {
            assert_eq!(Secret::parse(&format!("whsec_{}", STANDARD.encode(vec![7; bytes]))).is_some(), good, "{bytes}");
        }
        assert!(Secret::parse("whsec_!").is_none());
        let new = Secret::random().unwrap().reveal();
        assert_eq!(Secret::parse(&new).unwrap().reveal(), new);
    }
}
