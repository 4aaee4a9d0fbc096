//! The servers of `[[ice_servers]]` as calls use them: their addresses, and the logins to them, for us and for pages.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::hmac;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use media::connect::TurnLogin;
use media::io::{IceServer, TurnOver};
use tokio_util::sync::CancellationToken;

use crate::config::{Config, IceScheme, IceServerConfig, IceUrl};
use crate::hub::Hub;

/// How often names are looked up again, and logins renewed.
const RENEW_EVERY: Duration = Duration::from_secs(60);
/// A name server that has not answered within this has no answer.
const LOOK_UP_WITHIN: Duration = Duration::from_secs(3);
/// Logins made of a secret last this much longer than a call may.
const LOGIN_MARGIN: Duration = Duration::from_secs(600);

/// A server that could not be found, and why.
pub(crate) type Missing = (IceUrl, String);

/// The servers that we use ourselves, with their addresses as of now; and those that have none.
pub(crate) async fn find(config: &Config) -> (Vec<IceServer>, Vec<Missing>) {
    let (mut found, mut missing) = (Vec::new(), Vec::new());
    for server in config.ice_servers.iter().filter(|server| server.ours) {
        let login = login(config, server, SystemTime::now());
        for url in &server.urls {
            match find_one(config, url, &login).await {
                Ok(server) => found.push(server),
                Err(why) => missing.push((url.clone(), why)),
            }
        }
    }
    (found, missing)
}

async fn find_one(config: &Config, url: &IceUrl, login: &TurnLogin) -> Result<IceServer, String> {
    let looked_up = tokio::time::timeout(LOOK_UP_WITHIN, tokio::net::lookup_host((url.host.as_str(), url.port)));
    let found = looked_up.await.map_err(|_| "its name server does not answer".to_owned())?;
    let found: Vec<SocketAddr> = found.map_err(|fault| fault.to_string())?.collect();
    let over = match url.scheme {
        IceScheme::Stun => None,
        IceScheme::Turn => Some(TurnOver::Udp),
        IceScheme::TurnTcp => Some(TurnOver::Tcp),
        IceScheme::TurnTls => {
            let client = config.tls.for_sip().client().map_err(|fault| fault.to_string())?;
            let name =
                sip::io::server_name(&url.host).ok_or_else(|| "its name is none for a certificate".to_owned())?;
            Some(TurnOver::Tls(client, name))
        }
    };
    // A socket has one family; a stream goes by either.
    let is_stream = matches!(over, Some(TurnOver::Tcp | TurnOver::Tls(..)));
    let binds_both = config.rtp.bind == std::net::IpAddr::from([0; 16]);
    let fits = |addr: &&SocketAddr| is_stream || binds_both || addr.is_ipv4() == config.rtp.bind.is_ipv4();
    let addr = *found.iter().find(fits).ok_or("it has no address of the family of rtp.bind")?;
    Ok(IceServer { name: url.to_string(), addr, turn: over.map(|over| (login.clone(), over)) })
}

/// Tells the media engine of the servers, and again while their addresses change.
pub(crate) async fn watch(hub: Arc<Hub>, stop: CancellationToken) {
    if hub.config.ice_servers.iter().all(|server| !server.ours) {
        return;
    }
    let mut told = Vec::new();
    loop {
        let (found, missing) = find(&hub.config).await;
        hub.media.set_ice_servers(found);
        if missing != told {
            for (url, why) in &missing {
                tracing::warn!("{url} is not found: {why}. Calls go on without it");
            }
            told = missing;
        }
        tokio::select! {
            () = tokio::time::sleep(RENEW_EVERY) => {}
            () = stop.cancelled() => return,
        }
    }
}

/// The servers that pages are told of, as browsers take them (`RTCIceServer`).
pub(crate) fn for_pages(config: &Config, now: SystemTime) -> Vec<control::ports::IceServer> {
    let mut servers = Vec::new();
    for server in config.ice_servers.iter().filter(|server| server.pages) {
        let login = login(config, server, now);
        for url in &server.urls {
            let own = (url.scheme != IceScheme::Stun).then(|| login.clone());
            let (username, credential) = own.map(|own| (own.username, own.credential)).unzip();
            servers.push(control::ports::IceServer { urls: url.to_string(), username, credential });
        }
    }
    servers
}

/// The servers that pages are told of, as `Link` headers have them (RFC 9725 section 4.6).
pub(crate) fn links(config: &Config, now: SystemTime) -> Vec<String> {
    let mut links = Vec::new();
    for server in config.ice_servers.iter().filter(|server| server.pages) {
        let login = login(config, server, now);
        for url in &server.urls {
            links.push(match url.scheme {
                IceScheme::Stun => format!("<{url}>; rel=\"ice-server\""),
                _ => format!(
                    "<{url}>; rel=\"ice-server\"; username={}; credential={}; credential-type=\"password\"",
                    quoted(&login.username),
                    quoted(&login.credential)
                ),
            });
        }
    }
    links
}

/// Name and password for one server; made of its secret where it has one, for as long as a call may last.
fn login(config: &Config, server: &IceServerConfig, now: SystemTime) -> TurnLogin {
    if server.secret.is_empty() {
        return TurnLogin { username: server.username.clone(), credential: server.credential.reveal().to_owned() };
    }
    let lasts = Duration::from_secs(config.calls.max_duration_s) + LOGIN_MARGIN;
    let until = now.duration_since(UNIX_EPOCH).unwrap_or_default() + lasts;
    let name = if server.username.is_empty() { "omnivox" } else { &server.username };
    let username = format!("{}:{name}", until.as_secs());
    let key = hmac::Key::new(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, server.secret.reveal().as_bytes());
    let credential = STANDARD.encode(hmac::sign(&key, username.as_bytes()));
    TurnLogin { username, credential }
}

/// A quoted string (RFC 9110 section 5.6.4).
fn quoted(text: &str) -> String {
    let mut quoted = String::with_capacity(text.len() + 2);
    quoted.push('"');
    for c in text.chars().filter(|c| !c.is_control()) {
        if c == '"' || c == '\\' {
            quoted.push('\\');
        }
        quoted.push(c);
    }
    quoted.push('"');
    quoted
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;
    use crate::config::Secret;

    fn config(server: IceServerConfig) -> Config {
        Config { ice_servers: vec![server], ..Config::default() }
    }

    /// Conforms: RFC 9725 §4.6 — STUN and TURN servers are links whose relation is ice-server, with the login to them.
    #[test]
    fn pages_are_told_of_servers_and_logins_and_of_none_that_is_not_for_them() {
        let server = IceServerConfig {
            urls: ["stun:a", "turn:b?transport=tcp"].map(|url| url.parse().unwrap()).to_vec(),
            username: "me".into(),
            credential: Secret::new("a \"word\\"),
            ..IceServerConfig::default()
        };
        assert_eq!(
            links(&config(server.clone()), UNIX_EPOCH),
            [
                "<stun:a:3478>; rel=\"ice-server\"",
                "<turn:b:3478?transport=tcp>; rel=\"ice-server\"; username=\"me\"; credential=\"a \\\"word\\\\\"; \
                 credential-type=\"password\"",
            ]
        );
        assert!(links(&config(IceServerConfig { pages: false, ..server }), UNIX_EPOCH).is_empty());
    }

    /// The sum was made by `printf 4200:omnivox | openssl dgst -sha1 -hmac north -binary | base64`.
    #[test]
    fn a_secret_makes_logins_that_outlast_a_call() {
        let server = IceServerConfig {
            urls: vec!["turn:b".parse().unwrap()],
            secret: Secret::new("north"),
            ..IceServerConfig::default()
        };
        let config = config(server);
        let login = login(&config, &config.ice_servers[0], UNIX_EPOCH);
        assert_eq!(
            (login.username.as_str(), login.credential.as_str()),
            ("4200:omnivox", "4sJ5/FxQm31KkXEnaG1Y4qr6jYU=")
        );
    }
}
