//! `[[ice_servers]]`: STUN servers, which tell us and browsers how they are seen from outside, and TURN servers, which lend addresses.

use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use super::secret::{SecretSource, resolve};
use super::{ConfigError, Secret};

/// URLs of all entries together at most: each call asks them all.
pub const ICE_URLS_LIMIT: usize = 8;

/// What a URL of an ICE server names.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum IceScheme {
    /// STUN by UDP.
    Stun,
    /// TURN by UDP.
    Turn,
    /// TURN by TCP.
    TurnTcp,
    /// TURN by TLS.
    TurnTls,
}

/// `stun:HOST[:PORT]`, `turn:HOST[:PORT][?transport=udp|tcp]` or `turns:HOST[:PORT]` (RFC 7064, 7065).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct IceUrl {
    /// What it is.
    pub scheme: IceScheme,
    /// A name or an address; of IPv6 without brackets.
    pub host: String,
    /// The port.
    pub port: u16,
}

impl FromStr for IceUrl {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            let shown: String = text.chars().take(100).collect();
            format!(
                "`{shown}` is no ICE server: write stun:HOST[:PORT], turn:HOST[:PORT][?transport=udp or tcp] or turns:HOST[:PORT]"
            )
        };
        let (scheme, rest) = text.split_once(':').ok_or_else(wrong)?;
        let (place, query) = rest.split_once('?').map_or((rest, None), |(place, query)| (place, Some(query)));
        let scheme = match (scheme, query) {
            ("stun", None) => IceScheme::Stun,
            ("turn", None | Some("transport=udp")) => IceScheme::Turn,
            ("turn", Some("transport=tcp")) => IceScheme::TurnTcp,
            ("turns", None | Some("transport=tcp")) => IceScheme::TurnTls,
            _ => return Err(wrong()),
        };
        let usual = if scheme == IceScheme::TurnTls { 5_349 } else { 3_478 };
        let (host, port) = match place.strip_prefix('[') {
            Some(rest) => {
                let (host, port) = rest.split_once(']').ok_or_else(wrong)?;
                host.parse::<std::net::Ipv6Addr>().map_err(|_| wrong())?;
                (host, port.strip_prefix(':').or(port.is_empty().then_some("")).ok_or_else(wrong)?)
            }
            None => place.split_once(':').unwrap_or((place, "")),
        };
        let is_name = |c: char| c.is_ascii_alphanumeric() || "-._:".contains(c);
        let port = if port.is_empty() { usual } else { port.parse().map_err(|_| wrong())? };
        if host.is_empty() || host.len() > 253 || !host.chars().all(is_name) || port == 0 {
            return Err(wrong());
        }
        Ok(IceUrl { scheme, host: host.to_owned(), port })
    }
}

impl fmt::Display for IceUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (scheme, query) = match self.scheme {
            IceScheme::Stun => ("stun", ""),
            IceScheme::Turn => ("turn", "?transport=udp"),
            IceScheme::TurnTcp => ("turn", "?transport=tcp"),
            IceScheme::TurnTls => ("turns", "?transport=tcp"),
        };
        let (open, close) = if self.host.contains(':') { ("[", "]") } else { ("", "") };
        write!(f, "{scheme}:{open}{}{close}:{}{query}", self.host, self.port)
    }
}

serde_as_text!(IceUrl);

/// One of `[[ice_servers]]`.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct IceServerConfig {
    /// Its URLs: `stun:HOST[:PORT]`, `turn:HOST[:PORT][?transport=udp|tcp]`, `turns:HOST[:PORT]`.
    pub urls: Vec<IceUrl>,
    /// The name to log in with, for TURN.
    pub username: String,
    /// The password to it. Better: `credential_file` or `credential_env`.
    pub credential: Secret,
    /// A file that holds the password alone.
    pub credential_file: PathBuf,
    /// An environment variable that holds the password.
    pub credential_env: String,
    /// Instead of name and password, a secret that the server shares with us (coturn: `static-auth-secret`): logins are made of it that
    /// last as long as a call may.
    pub secret: Secret,
    /// A file that holds the secret alone.
    pub secret_file: PathBuf,
    /// An environment variable that holds the secret.
    pub secret_env: String,
    /// We use it for calls of browsers.
    pub ours: bool,
    /// Pages that call by WHIP are told of it, login included.
    pub pages: bool,
}

impl Default for IceServerConfig {
    fn default() -> Self {
        Self {
            urls: Vec::new(),
            username: String::new(),
            credential: Secret::default(),
            credential_file: PathBuf::new(),
            credential_env: String::new(),
            secret: Secret::default(),
            secret_file: PathBuf::new(),
            secret_env: String::new(),
            ours: true,
            pages: true,
        }
    }
}

impl IceServerConfig {
    fn label(&self) -> String {
        self.urls.first().map_or_else(|| "ice_servers".to_owned(), |url| format!("ice_servers.{url}"))
    }

    pub(super) fn resolve_secrets(&mut self, env: &[(String, String)]) -> Result<(), ConfigError> {
        let at = self.label();
        let (file, variable) = (&self.credential_file, &self.credential_env);
        resolve(&mut self.credential, &SecretSource { at: &at, key: "credential", file, env: variable }, env)?;
        let (file, variable) = (&self.secret_file, &self.secret_env);
        resolve(&mut self.secret, &SecretSource { at: &at, key: "secret", file, env: variable }, env)
    }

    pub(super) fn validate(&self) -> Result<(), ConfigError> {
        let at = self.label();
        let bad = |key: &str, value: &str, fix: &str| Err(ConfigError::entry(format!("{at}.{key}"), value, fix));
        if self.urls.is_empty() {
            return bad("urls", "[]", "name at least one, such as [\"turn:turn.example.net\"]");
        }
        let lends = self.urls.iter().any(|url| url.scheme != IceScheme::Stun);
        let has_login = !self.username.is_empty() && !self.credential.is_empty();
        if lends && !has_login && self.secret.is_empty() {
            let fix = "TURN wants a login: set username and credential (credential_file, credential_env), or secret";
            return bad("username", &self.username, fix);
        }
        if self.username.len() > 508 || self.username.chars().any(char::is_control) {
            return bad("username", "(too long)", "write up to 508 characters, none of them a control character");
        }
        Ok(())
    }
}

/// What all entries together have to keep to.
pub(super) fn validate(servers: &[IceServerConfig]) -> Result<(), ConfigError> {
    servers.iter().try_for_each(IceServerConfig::validate)?;
    let urls = servers.iter().map(|server| server.urls.len()).sum::<usize>();
    if urls > ICE_URLS_LIMIT {
        let fix = format!("name {ICE_URLS_LIMIT} URLs at most: each call asks them all");
        return Err(ConfigError::entry("ice_servers.urls", urls, fix));
    }
    Ok(())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// Conforms: RFC 7065 §3.1 — URIs of TURN servers, and of STUN servers (RFC 7064), with their default ports.
    #[test]
    fn urls_of_servers_are_read_with_the_ports_that_they_leave_out() {
        for (text, scheme, host, port) in [
            ("stun:stun.example.net", IceScheme::Stun, "stun.example.net", 3_478),
            ("stun:192.0.2.1:19302", IceScheme::Stun, "192.0.2.1", 19_302),
            ("turn:t.example?transport=udp", IceScheme::Turn, "t.example", 3_478),
            ("turn:t.example:80?transport=tcp", IceScheme::TurnTcp, "t.example", 80),
            ("turns:[2001:db8::1]", IceScheme::TurnTls, "2001:db8::1", 5_349),
            ("turns:[2001:db8::1]:443?transport=tcp", IceScheme::TurnTls, "2001:db8::1", 443),
        ] {
            let url: IceUrl = text.parse().unwrap();
            assert_eq!((url.scheme, url.host.as_str(), url.port), (scheme, host, port), "{text}");
            assert_eq!(url.to_string().parse::<IceUrl>().unwrap(), url, "{text}");
        }
        for text in [
            "t.example",
            "http:t.example",
            "turn:",
            "turn:t.example:0",
            "turn:t.example:99999",
            "turn:t.example?transport=sctp",
            "stun:t.example?transport=udp",
            "turn:a b",
            "turn:[2001:db8::1",
            "turn:[zz]",
            "turn:[::1]x",
            "turn:<a>",
        ] {
            assert!(text.parse::<IceUrl>().unwrap_err().contains("write stun:"), "{text}");
        }
    }

    #[test]
    fn what_is_missing_or_too_much_is_named() {
        let server = |urls: &[&str]| IceServerConfig {
            urls: urls.iter().map(|url| url.parse().unwrap()).collect(),
            ..IceServerConfig::default()
        };
        let fault = |servers: &[IceServerConfig]| validate(servers).unwrap_err().to_string();
        assert!(validate(&[server(&["stun:a"])]).is_ok());
        assert!(fault(&[server(&[])]).contains("ice_servers.urls"));
        assert!(fault(&[server(&["turn:a"])]).contains("ice_servers.turn:a:3478?transport=udp.username"));
        let known = IceServerConfig { secret: Secret::new("x"), ..server(&["turn:a"]) };
        assert!(validate(&[known]).is_ok());
        let many = |count| vec![server(&["stun:a"]); count];
        assert!(validate(&many(ICE_URLS_LIMIT)).is_ok());
        assert!(fault(&many(ICE_URLS_LIMIT + 1)).contains("8 URLs at most"));
    }
}
