//! From a URI to an address: literals and host names. (NAPTR and SRV records are not looked up.)

use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};

use thiserror::Error;

use crate::endpoint::Transport;
use crate::uri::{Scheme, Uri};

/// Why a URI leads nowhere.
#[derive(Debug, Error)]
#[non_exhaustive]
pub enum ResolveError {
    /// It cannot be read, or is no SIP URI.
    #[error("`{uri}` is no address to call: write sip:user@host")]
    NotSip {
        /// The URI.
        uri: String,
    },
    /// It asks for a transport that does not exist here.
    #[error(
        "`{uri}` asks for the transport {transport}, by which nobody can be called from here: udp, tcp and tls can"
    )]
    Transport {
        /// The URI.
        uri: String,
        /// The transport.
        transport: String,
    },
    /// The host cannot be looked up.
    #[error("cannot find the host {host}: {source}")]
    Host {
        /// The host.
        host: String,
        /// What the resolver says.
        source: io::Error,
    },
    /// The host has no address that a listener of ours can reach.
    #[error("{host} has no address that can be reached from what sip.listen names")]
    NoAddress {
        /// The host.
        host: String,
    },
}

/// Transport, host and port of a URI.
pub(super) fn parts(uri: &str) -> Result<(Transport, String, u16), ResolveError> {
    let not_sip = || ResolveError::NotSip { uri: uri.to_owned() };
    let parsed = Uri::parse(uri).map_err(|_| not_sip())?;
    if !parsed.is_sip() {
        return Err(not_sip());
    }
    let unsupported = |name: &str| ResolveError::Transport { uri: uri.to_owned(), transport: name.to_owned() };
    let transport = match (parsed.scheme(), parsed.transport()) {
        (Scheme::Sips, None | Some("tcp" | "tls")) => Transport::Tls,
        (Scheme::Sips, Some(name)) => return Err(unsupported(name)),
        (_, None) => Transport::Udp,
        (_, Some(name)) => Transport::parse(name).ok_or_else(|| unsupported(name))?,
    };
    // Browsers connect to servers, never the other way (RFC 7118 section 5).
    if matches!(transport, Transport::Ws | Transport::Wss) {
        return Err(unsupported(transport.uri_name()));
    }
    let port = parsed.port().unwrap_or(transport.default_port());
    let host = parsed.host().trim_start_matches('[').trim_end_matches(']').to_owned();
    Ok((transport, host, port))
}

/// The addresses of a host.
pub(super) async fn look_up(host: &str, port: u16) -> Result<Vec<SocketAddr>, ResolveError> {
    if let Ok(ip) = host.parse::<IpAddr>() {
        return Ok(vec![SocketAddr::new(ip, port)]);
    }
    let found = tokio::net::lookup_host((host, port)).await;
    found.map(Iterator::collect).map_err(|source| ResolveError::Host { host: host.to_owned(), source })
}

/// The address of ours that messages to a peer come from, by the routing table. Nothing is sent.
///
/// # Errors
/// Where there is no route.
pub fn local_ip_towards(peer: SocketAddr) -> io::Result<IpAddr> {
    let any: IpAddr = if peer.is_ipv4() { [0, 0, 0, 0].into() } else { [0u16; 8].into() };
    let socket = UdpSocket::bind((any, 0))?;
    socket.connect(peer)?;
    Ok(socket.local_addr()?.ip())
}
