//! Passwords: argon2id (RFC 9106) over threads of their own, and rules by how long guessing would take, not by signs that must be in.

use std::sync::LazyLock;

use argon2::password_hash::phc::PasswordHash;
use argon2::{Algorithm, Argon2, Params, PasswordHasher, PasswordVerifier, Version};
use tokio::sync::Semaphore;
use zxcvbn::Score;

use crate::time::Moment;

/// Characters at least (NIST SP 800-63B-4 section 3.1.1.2 wants 15 where nothing else is asked for, 8 with a second factor).
pub const MIN_CHARS: usize = 12;
/// Bytes at most.
pub const MAX_BYTES: usize = 256;
/// Memory of one hash in KiB, passes and lanes: RFC 9106's second choice would be 64 MiB and 3; this is OWASP's with a margin.
const MEMORY_KIB: u32 = 32 * 1_024;
const PASSES: u32 = 3;
/// Hashes at once: who tries passwords costs memory and processors, so many and no more.
static AT_ONCE: Semaphore = Semaphore::const_new(4);
/// Wrong passwords that cost nothing.
const FREE_TRIES: i64 = 5;
/// The longest that an account is locked, in seconds.
const LOCKED_AT_MOST_S: i64 = 900;

/// Why a password is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum WeakPassword {
    /// It has fewer characters than [`MIN_CHARS`].
    #[error("write at least {MIN_CHARS} characters")]
    Short,
    /// It has more bytes than [`MAX_BYTES`].
    #[error("write at most {MAX_BYTES} bytes")]
    Long,
    /// It is among those that are tried first.
    #[error("it would be guessed{0}; take several words that do not belong together")]
    Guessed(String),
}

/// Hashing failed.
#[derive(Debug, thiserror::Error)]
#[error("the password could not be hashed: {0}")]
pub struct HashFault(String);

/// Looks at a password that somebody wants, knowing what they are called.
///
/// # Errors
/// What is weak about it.
pub fn check(password: &str, names: &[&str]) -> Result<(), WeakPassword> {
    if password.chars().count() < MIN_CHARS {
        return Err(WeakPassword::Short);
    }
    if password.len() > MAX_BYTES {
        return Err(WeakPassword::Long);
    }
    // zxcvbn takes time with the square of the length: what is strong by its first hundred characters is strong.
    let start: String = password.chars().take(100).collect();
    let judged = zxcvbn::zxcvbn(&start, names);
    if judged.score() >= Score::Three {
        return Ok(());
    }
    let why = judged.feedback().and_then(zxcvbn::feedback::Feedback::warning);
    Err(WeakPassword::Guessed(
        why.map(|why| format!(" ({})", why.to_string().trim_end_matches('.'))).unwrap_or_default(),
    ))
}

/// Hashes a password.
///
/// # Errors
/// No memory, no randomness.
pub async fn hash(password: String) -> Result<String, HashFault> {
    let _permit = AT_ONCE.acquire().await.map_err(|fault| HashFault(fault.to_string()))?;
    let hashed = tokio::task::spawn_blocking(move || {
        let hashed: Result<PasswordHash, _> = argon2().hash_password(password.as_bytes());
        hashed.map(|hash| hash.to_string()).map_err(|fault| HashFault(fault.to_string()))
    });
    hashed.await.map_err(|fault| HashFault(fault.to_string()))?
}

/// Whether a password fits a hash. Where there is no hash, as long is spent on one that nobody has.
pub async fn fits(password: String, hash: Option<String>) -> bool {
    let Ok(_permit) = AT_ONCE.acquire().await else { return false };
    let fits = tokio::task::spawn_blocking(move || {
        let is_there = hash.is_some();
        let hash = hash.unwrap_or_else(|| NOBODYS.clone());
        let fits =
            PasswordHash::new(&hash).is_ok_and(|hash| argon2().verify_password(password.as_bytes(), &hash).is_ok());
        fits && is_there
    });
    fits.await.unwrap_or(false)
}

/// Until when an account is locked that has had so many wrong passwords, this one among them: twice as long each time.
#[must_use]
pub fn locked_until(failed: i64, now: Moment) -> Moment {
    let over = failed - FREE_TRIES;
    if over < 0 {
        return now;
    }
    now.after_s((1_i64 << over.min(20)).min(LOCKED_AT_MOST_S))
}

static NOBODYS: LazyLock<String> = LazyLock::new(|| {
    let hashed: Result<PasswordHash, _> = argon2().hash_password_with_salt(b"nobody", b"a salt of nobody");
    hashed.map(|hash| hash.to_string()).unwrap_or_default()
});

fn argon2() -> Argon2<'static> {
    let params = Params::new(MEMORY_KIB, PASSES, 1, None).unwrap_or_default();
    Argon2::new(Algorithm::Argon2id, Version::V0x13, params)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn what_is_short_common_or_ones_own_name_is_refused() {
        assert_eq!(check("short", &[]), Err(WeakPassword::Short));
        assert_eq!(check(&"x".repeat(257), &[]), Err(WeakPassword::Long));
        for weak in ["password1234", "aaaaaaaaaaaaaaa", "qwertyuiop123", "123456789012"] {
            assert!(matches!(check(weak, &[]), Err(WeakPassword::Guessed(_))), "{weak}");
        }
        assert!(matches!(check("lovelace.ada1", &["ada", "Lovelace"]), Err(WeakPassword::Guessed(_))));
        assert_eq!(check("walrus pedal quarry 7", &["ada"]), Ok(()));
    }

    #[tokio::test]
    async fn a_hash_fits_its_password_alone_and_nobodys_fits_none() {
        let hash = hash("walrus pedal quarry".into()).await.unwrap();
        assert!(hash.starts_with("$argon2id$v=19$m=32768,t=3,p=1$"), "{hash}");
        assert!(fits("walrus pedal quarry".into(), Some(hash.clone())).await);
        assert!(!fits("walrus pedal quarrz".into(), Some(hash)).await);
        assert!(!fits("nobody".into(), None).await);
    }

    #[test]
    fn an_account_is_locked_for_longer_with_each_wrong_password() {
        let now = Moment(0);
        let seconds = |failed| locked_until(failed, now).0 / 1_000;
        assert_eq!([seconds(1), seconds(4), seconds(5), seconds(6), seconds(9)], [0, 0, 1, 2, 16]);
        assert_eq!([seconds(20), seconds(i64::MAX)], [LOCKED_AT_MOST_S; 2]);
    }
}
