//! Passwords: held in one type that shows them to nobody, whether they stand in the file, in a file of their own, or in the
//! environment.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use serde::{Deserialize, Deserializer, Serialize, Serializer};
use sip::auth::Algorithm;

use super::ConfigError;

/// Bytes read of a password file; a longer one holds no password.
const SECRET_FILE_LIMIT: usize = 4_096;

/// Something that must not be printed. `Debug` and serialisation hide it.
#[derive(Clone, Default, PartialEq, Eq)]
pub struct Secret(String);

impl Secret {
    /// Keeps this secret.
    #[must_use]
    pub fn new(text: impl Into<String>) -> Self {
        Self(text.into())
    }

    /// The secret itself: for what proves knowledge of it, never for people.
    #[must_use]
    pub fn reveal(&self) -> &str {
        &self.0
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(if self.is_empty() { "Secret(none)" } else { "Secret(..)" })
    }
}

impl Serialize for Secret {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(if self.is_empty() { "" } else { "(hidden)" })
    }
}

impl<'de> Deserialize<'de> for Secret {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(Self)
    }
}

/// `H(user:realm:password)` as servers store it instead of a password: `SHA-256:<hex>` (RFC 7616 section 3.4.2). It stands for
/// the password within its realm, and is as secret.
#[derive(Clone, PartialEq, Eq)]
pub struct Ha1 {
    /// What it was made with.
    pub algorithm: Algorithm,
    /// Lower-case hex.
    pub hex: Secret,
}

impl fmt::Debug for Ha1 {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Ha1({}:..)", self.algorithm.as_str())
    }
}

impl FromStr for Ha1 {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        // The text itself is never repeated: it may be a password in the wrong place.
        let fault = || {
            "an ha1 is written ALGORITHM:HEX, with MD5 (32 digits), SHA-256 or SHA-512-256 (64 digits each) of \
             user:realm:password"
                .to_owned()
        };
        let (name, hex) = text.split_once(':').ok_or_else(fault)?;
        let algorithm = Algorithm::parse(Some(name)).filter(|algorithm| !algorithm.is_session()).ok_or_else(fault)?;
        let digits = if algorithm == Algorithm::Md5 { 32 } else { 64 };
        if hex.len() != digits || !hex.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(fault());
        }
        Ok(Self { algorithm, hex: Secret::new(hex.to_ascii_lowercase()) })
    }
}

impl Serialize for Ha1 {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{}:(hidden)", self.algorithm.as_str()))
    }
}

impl<'de> Deserialize<'de> for Ha1 {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer)?.parse().map_err(serde::de::Error::custom)
    }
}

/// Where a password may come from. At most one of them is used.
pub(super) struct SecretSource<'a> {
    /// The keys' common beginning in errors: `trunks.carrier`.
    pub(super) at: &'a str,
    /// Before `_file` and `_env`: `password`.
    pub(super) key: &'a str,
    pub(super) file: &'a Path,
    pub(super) env: &'a str,
}

/// Puts a secret that is named by a file or an environment variable in its place.
pub(super) fn resolve(
    secret: &mut Secret,
    source: &SecretSource<'_>,
    env: &[(String, String)],
) -> Result<(), ConfigError> {
    let SecretSource { at, key, file, env: variable } = source;
    let given = [!secret.is_empty(), !file.as_os_str().is_empty(), !variable.is_empty()];
    if given.iter().filter(|given| **given).count() > 1 {
        return Err(ConfigError::entry(
            format!("{at}.{key}"),
            "(several)",
            format!("give one of {key}, {key}_file and {key}_env"),
        ));
    }
    if !file.as_os_str().is_empty() {
        let fault = |why: String| {
            ConfigError::entry(
                format!("{at}.{key}_file"),
                file.display(),
                format!("{why}. Name a file that holds the password alone, readable for this user"),
            )
        };
        let text = std::fs::read_to_string(file).map_err(|error| fault(error.to_string()))?;
        let text = text.trim_end_matches(['\r', '\n']);
        if text.is_empty() || text.len() > SECRET_FILE_LIMIT || text.contains('\n') {
            return Err(fault("it does not hold one line".to_owned()));
        }
        *secret = Secret::new(text);
    } else if !variable.is_empty() {
        let value = env.iter().find(|(name, _)| name == variable).map(|(_, value)| value.as_str()).unwrap_or_default();
        if value.is_empty() {
            return Err(ConfigError::entry(
                format!("{at}.{key}_env"),
                variable,
                "the environment has no such variable, or an empty one: set it before the start",
            ));
        }
        *secret = Secret::new(value);
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn neither_debug_nor_serialisation_shows_a_secret() {
        let secret = Secret::new("hunter2");
        assert!(!format!("{secret:?}").contains("hunter2"));
        assert!(!serde_json::to_string(&secret).unwrap().contains("hunter2"));
        let ha1: Ha1 = "md5:0123456789abcdef0123456789ABCDEF".parse().unwrap();
        assert!(!format!("{ha1:?}{}", serde_json::to_string(&ha1).unwrap()).contains("0123"));
        assert_eq!(ha1.hex.reveal(), "0123456789abcdef0123456789abcdef");
    }

    #[test]
    fn an_ha1_of_the_wrong_form_is_refused_without_being_repeated() {
        for text in ["hunter2", "md5:hunter2", "sha-256:0123456789abcdef0123456789abcdef", "md5-sess:0123", "none:00"] {
            let message = text.parse::<Ha1>().unwrap_err();
            assert!(message.contains("ALGORITHM:HEX") && !message.contains("hunter2"), "{message}");
        }
    }

    #[test]
    fn a_secret_comes_from_its_file_or_the_environment_and_from_one_place_only() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "from the file\n").unwrap();
        let env = [("PW".to_owned(), "from the environment".to_owned())];
        let none = Path::new("");
        let get = |mut secret: Secret, file: &Path, variable: &str| {
            let source = SecretSource { at: "trunks.carrier", key: "password", file, env: variable };
            resolve(&mut secret, &source, &env).map(|()| secret.reveal().to_owned())
        };
        assert_eq!(get(Secret::default(), file.path(), "").unwrap(), "from the file");
        assert_eq!(get(Secret::default(), none, "PW").unwrap(), "from the environment");
        assert_eq!(get(Secret::new("plain"), none, "").unwrap(), "plain");
        let message = get(Secret::new("hunter2"), none, "PW").unwrap_err().to_string();
        assert!(message.contains("trunks.carrier.password") && !message.contains("hunter2"), "{message}");
        let message = get(Secret::default(), none, "ABSENT").unwrap_err().to_string();
        assert!(message.contains("trunks.carrier.password_env") && message.contains("ABSENT"), "{message}");
        let message = get(Secret::default(), Path::new("/nowhere"), "").unwrap_err().to_string();
        assert!(message.contains("trunks.carrier.password_file") && message.contains("/nowhere"), "{message}");
    }
}
