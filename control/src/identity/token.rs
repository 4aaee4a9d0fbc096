//! Access tokens for programs: JWT (RFC 7519) signed by HS256, good for minutes. What a user may do is looked up again each time.

use jsonwebtoken::{Algorithm, DecodingKey, EncodingKey, Header, Validation, decode, encode};
use serde::{Deserialize, Serialize};

use crate::time::Moment;

/// A token is good for this long, in seconds.
pub const GOOD_FOR_S: i64 = 600;
const ISSUER: &str = "omnivox";

#[derive(Debug, Serialize, Deserialize)]
struct Claims {
    iss: String,
    sub: String,
    iat: i64,
    exp: i64,
    /// The user's password and second factor have not changed since: their account was changed so often.
    ver: i64,
}

/// Signs and reads tokens.
pub struct Tokens {
    signing: EncodingKey,
    reading: DecodingKey,
}

impl std::fmt::Debug for Tokens {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Tokens")
    }
}

impl Tokens {
    /// With the server's key.
    ///
    /// # Errors
    /// The key cannot be used.
    pub fn new(key: &[u8]) -> Result<Self, jsonwebtoken::errors::Error> {
        Ok(Self { signing: EncodingKey::from_secret(key)?, reading: DecodingKey::from_secret(key)? })
    }

    /// A token for a user.
    ///
    /// # Errors
    /// It could not be signed.
    pub fn issue(&self, user: &str, version: i64, now: Moment) -> Result<String, jsonwebtoken::errors::Error> {
        let seconds = now.0 / 1_000;
        let claims = Claims {
            iss: ISSUER.to_owned(),
            sub: user.to_owned(),
            iat: seconds,
            exp: seconds + GOOD_FOR_S,
            ver: version,
        };
        encode(&Header::new(Algorithm::HS256), &claims, &self.signing)
    }

    /// Whose token it is, and how often their account had been changed then; `None` where it is none of ours or too old.
    #[must_use]
    pub fn read(&self, token: &str, now: Moment) -> Option<(String, i64)> {
        let mut rules = Validation::new(Algorithm::HS256);
        rules.set_issuer(&[ISSUER]);
        // Our own clock, so that tests need not wait.
        rules.validate_exp = false;
        let claims = decode::<Claims>(token, &self.reading, &rules).ok()?.claims;
        (now.0 / 1_000 < claims.exp).then_some((claims.sub, claims.ver))
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_good_for_ten_minutes_and_with_its_own_key() {
        let (tokens, others) = (Tokens::new(&[1; 32]).unwrap(), Tokens::new(&[2; 32]).unwrap());
        let token = tokens.issue("u1", 3, Moment(0)).unwrap();
        assert_eq!(tokens.read(&token, Moment(599_000)), Some(("u1".into(), 3)));
        assert_eq!(tokens.read(&token, Moment(600_000)), None);
        assert_eq!(others.read(&token, Moment(0)), None);
    }

    #[test]
    fn a_token_without_a_signature_is_none() {
        let tokens = Tokens::new(&[1; 32]).unwrap();
        let token = tokens.issue("u1", 3, Moment(0)).unwrap();
        let (_, rest) = token.split_once('.').unwrap();
        let (claims, _) = rest.split_once('.').unwrap();
        // {"alg":"none"}
        assert_eq!(tokens.read(&format!("eyJhbGciOiJub25lIn0.{claims}."), Moment(0)), None);
    }
}
