//! Codes of an authenticator app: TOTP (RFC 6238) with SHA-1, six digits and 30 seconds, which every app takes.

use totp_rs::{Builder, Secret, Totp};

use super::secret::{NoRandomness, random};
use crate::time::Moment;

/// A new secret in base32, as apps take it.
///
/// # Errors
/// The system has no randomness.
pub fn new_secret() -> Result<String, NoRandomness> {
    Ok(Secret::new_stack(random::<20>()?).to_base32())
}

/// The time step that a code is of, where it is one of now, of the step before or the one after.
#[must_use]
pub fn step_of(secret: &str, code: &str, now: Moment) -> Option<i64> {
    let seconds = u64::try_from(now.0 / 1_000).ok()?;
    let step = totp(secret)?.check(code.trim(), seconds)?;
    i64::try_from(step).ok()
}

/// What an app reads from a picture (Key URI Format).
#[must_use]
pub fn uri(secret: &str, name: &str) -> String {
    let escaped: String = name
        .bytes()
        .map(|byte| if byte.is_ascii_alphanumeric() { char::from(byte).to_string() } else { format!("%{byte:02X}") })
        .collect();
    format!("otpauth://totp/Omnivox:{escaped}?secret={secret}&issuer=Omnivox&algorithm=SHA1&digits=6&period=30")
}

fn totp(secret: &str) -> Option<Totp> {
    Builder::new().with_secret(Secret::try_from_base32(secret).ok()?).build().ok()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// RFC 6238's own secret and times (appendix B), of which an app shows the last six digits.
    #[test]
    fn codes_are_those_of_rfc_6238() {
        let secret = Secret::new_stack(*b"12345678901234567890").to_base32();
        for (seconds, code) in [(59, "287082"), (1_111_111_109, "081804"), (2_000_000_000, "279037")] {
            assert_eq!(step_of(&secret, code, Moment(seconds * 1_000)), Some(seconds / 30), "{seconds}");
        }
        assert_eq!(step_of(&secret, "287082", Moment(89_000)), Some(1), "the step before");
        assert_eq!(step_of(&secret, "287082", Moment(120_000)), None);
        assert_eq!(step_of(&secret, "28708", Moment(59_000)), None);
        assert_eq!(step_of("not base32!", "287082", Moment(59_000)), None);
    }

    #[test]
    fn a_new_secret_has_160_bits() {
        assert_eq!(new_secret().unwrap().len(), 32);
    }
}
