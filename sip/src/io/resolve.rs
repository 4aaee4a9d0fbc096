//! From a URI to addresses (RFC 3263): literals, host names, and the NAPTR and SRV records of domains, with their priorities and
//! weights. Several ways may lead to one peer: they are tried in order, and one that failed of late comes last.

mod order;

use std::collections::HashMap;
use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hickory_resolver::TokioResolver;
use hickory_resolver::config::{ConnectionConfig, NameServerConfig, ResolverConfig};
use hickory_resolver::net::NetError;
use hickory_resolver::net::runtime::TokioRuntimeProvider;
use hickory_resolver::proto::rr::{Name, RData, RecordType};
use thiserror::Error;

use super::sys;
use crate::endpoint::Transport;
use crate::uri::{Scheme, Uri};

/// Ways to one peer; more are not tried.
pub(super) const WAYS_LIMIT: usize = 16;
/// Addresses remembered as dead; one more is not.
pub(super) const DEAD_LIMIT: usize = 1_024;
/// An address that failed is tried last for so long.
const DEAD_FOR: Duration = Duration::from_secs(60);
/// A name server that does not answer within this is asked again, or another is.
const ANSWER_WITHIN: Duration = Duration::from_secs(2);

/// How names are looked up.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DnsConfig {
    /// The name servers to ask; empty: those of the operating system.
    pub servers: Vec<SocketAddr>,
}

/// One way to a peer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Way {
    /// By which transport.
    pub transport: Transport,
    /// To which address.
    pub address: SocketAddr,
    /// The name that led there, which a certificate has to prove (RFC 5922 section 7.2); `None` for a literal address.
    pub name: Option<Arc<str>>,
}

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
    #[error("cannot find the host {host}: {reason}")]
    Host {
        /// The host.
        host: String,
        /// What the name servers say.
        reason: String,
    },
    /// The host has no address that a listener of ours can reach.
    #[error("{host} has no address that can be reached from what sip.listen names")]
    NoAddress {
        /// The host.
        host: String,
    },
    /// The resolver cannot be set up.
    #[error("cannot look names up: {0}")]
    Setup(String),
}

/// What a URI asks for.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Wanted {
    host: String,
    port: Option<u16>,
    transport: Option<Transport>,
    is_sips: bool,
}

/// Finds the ways to a URI.
pub struct Resolver {
    dns: TokioResolver,
    dead: Mutex<HashMap<(Transport, SocketAddr), Instant>>,
    chance: Mutex<u64>,
}

impl fmt::Debug for Resolver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Resolver")
    }
}

impl Resolver {
    /// A resolver that has asked nothing yet. It asks on the runtime that it is used from.
    ///
    /// # Errors
    /// The operating system's settings cannot be read, or there is no entropy.
    pub fn new(config: &DnsConfig) -> Result<Self, ResolveError> {
        let setup = |fault: &dyn fmt::Display| ResolveError::Setup(fault.to_string());
        let mut builder = if config.servers.is_empty() {
            // Without any name server, addresses and the hosts file still work.
            let none =
                || TokioResolver::builder_with_config(ResolverConfig::default(), TokioRuntimeProvider::default());
            TokioResolver::builder_tokio().unwrap_or_else(|_| none())
        } else {
            let servers = config.servers.iter().map(|server| {
                let at_port = |mut connection: ConnectionConfig| {
                    connection.port = server.port();
                    connection
                };
                let connections = vec![at_port(ConnectionConfig::udp()), at_port(ConnectionConfig::tcp())];
                NameServerConfig::new(server.ip(), true, connections)
            });
            let config = ResolverConfig::from_parts(None, Vec::new(), servers.collect());
            TokioResolver::builder_with_config(config, TokioRuntimeProvider::default())
        };
        builder.options_mut().timeout = ANSWER_WITHIN;
        builder.options_mut().attempts = 1;
        let dns = builder.build().map_err(|fault| setup(&fault))?;
        let [seed, _] = sys::random_key().map_err(|fault| setup(&fault))?;
        Ok(Self { dns, dead: Mutex::default(), chance: Mutex::new(seed) })
    }

    /// The ways to a URI, best first; at least one.
    ///
    /// # Errors
    /// [`ResolveError`].
    pub async fn resolve(&self, uri: &str) -> Result<Vec<Way>, ResolveError> {
        let wanted = wanted(uri)?;
        self.look_up(&wanted).await
    }

    /// The ways to a host by a transport that is settled.
    pub(super) async fn host(
        &self,
        host: &str,
        port: Option<u16>,
        transport: Transport,
    ) -> Result<Vec<Way>, ResolveError> {
        let wanted = Wanted { host: host.to_owned(), port, transport: Some(transport), is_sips: false };
        self.look_up(&wanted).await
    }

    /// Notes that nothing answers there: for a minute it is tried last.
    pub fn note_dead(&self, transport: Transport, address: SocketAddr) {
        let now = Instant::now();
        let mut dead = self.dead.lock().unwrap_or_else(PoisonError::into_inner);
        dead.retain(|_, until| *until > now);
        if dead.len() < DEAD_LIMIT {
            dead.insert((transport, address), now + DEAD_FOR);
        }
    }

    /// Whether it failed within the last minute.
    pub fn is_dead(&self, transport: Transport, address: SocketAddr) -> bool {
        let dead = self.dead.lock().unwrap_or_else(PoisonError::into_inner);
        dead.get(&(transport, address)).is_some_and(|until| *until > Instant::now())
    }

    async fn look_up(&self, wanted: &Wanted) -> Result<Vec<Way>, ResolveError> {
        let usual = wanted.transport.unwrap_or(if wanted.is_sips { Transport::Tls } else { Transport::Udp });
        let port = wanted.port.unwrap_or(usual.default_port());
        if let Ok(ip) = wanted.host.parse::<IpAddr>() {
            return Ok(vec![Way { transport: usual, address: SocketAddr::new(ip, port), name: None }]);
        }
        let mut ways = Vec::new();
        if wanted.port.is_none() && wanted.host.contains('.') {
            ways = self.by_services(wanted).await?;
        }
        if ways.is_empty() {
            let found = self.addresses(&wanted.host).await?;
            let name: Arc<str> = wanted.host.as_str().into();
            let way = |ip| Way { transport: usual, address: SocketAddr::new(ip, port), name: Some(Arc::clone(&name)) };
            ways.extend(found.into_iter().map(way));
        }
        ways.truncate(WAYS_LIMIT);
        order::dead_last(&mut ways, |way| self.is_dead(way.transport, way.address));
        match ways.is_empty() {
            true => Err(ResolveError::Host { host: wanted.host.clone(), reason: "there is no such host".into() }),
            false => Ok(ways),
        }
    }

    /// By NAPTR and SRV records; none where the domain has none.
    async fn by_services(&self, wanted: &Wanted) -> Result<Vec<Way>, ResolveError> {
        let mut services = Vec::new();
        if wanted.transport.is_none() {
            let records = self.records(&wanted.host, &format!("{}.", wanted.host), RecordType::NAPTR).await?;
            let naptr = records.into_iter().filter_map(|data| match data {
                RData::NAPTR(record) => Some(record),
                _ => None,
            });
            services = order::services(naptr.collect(), wanted.is_sips);
        }
        if services.is_empty() {
            services = order::usual_services(&wanted.host, wanted.transport, wanted.is_sips);
        }
        let mut ways: Vec<Way> = Vec::new();
        // The certificate has to be for the domain that was asked for, not for the host that serves it (RFC 5922 section 7.2).
        let name: Arc<str> = wanted.host.as_str().into();
        for (transport, service) in services {
            let records = self.records(&wanted.host, &service, RecordType::SRV).await?;
            let srv = records.into_iter().filter_map(|data| match data {
                RData::SRV(record) => Some(record),
                _ => None,
            });
            for record in order::by_weight(srv.collect(), |below| self.chance(below)) {
                if ways.len() >= WAYS_LIMIT {
                    return Ok(ways);
                }
                // A target without an address is passed over: the others may have one.
                let found = self.addresses(&record.target.to_ascii()).await.unwrap_or_default();
                let way =
                    |ip| Way { transport, address: SocketAddr::new(ip, record.port), name: Some(Arc::clone(&name)) };
                ways.extend(found.into_iter().map(way));
            }
        }
        Ok(ways)
    }

    /// The records of a name; none where there are none. A name server that fails is an error.
    async fn records(&self, host: &str, name: &str, kind: RecordType) -> Result<Vec<RData>, ResolveError> {
        let unreadable =
            |fault: &dyn fmt::Display| ResolveError::Host { host: host.to_owned(), reason: fault.to_string() };
        let name = Name::from_utf8(name).map_err(|fault| unreadable(&fault))?;
        match self.dns.lookup(name, kind).await {
            Ok(found) => Ok(found.answers().iter().map(|record| record.data.clone()).collect()),
            Err(fault) if is_absent(&fault) => Ok(Vec::new()),
            Err(fault) => Err(unreadable(&fault)),
        }
    }

    async fn addresses(&self, host: &str) -> Result<Vec<IpAddr>, ResolveError> {
        // A name with dots is a whole one: searching on in our own domain would find others.
        let whole = if host.contains('.') && !host.ends_with('.') { format!("{host}.") } else { host.to_owned() };
        match self.dns.lookup_ip(whole).await {
            Ok(found) => Ok(found.iter().collect()),
            Err(fault) if is_absent(&fault) => Ok(Vec::new()),
            Err(fault) => Err(ResolveError::Host { host: host.to_owned(), reason: fault.to_string() }),
        }
    }

    /// A number below `below` (splitmix64: it shares load, and keeps no secret).
    fn chance(&self, below: u32) -> u32 {
        let mut state = self.chance.lock().unwrap_or_else(PoisonError::into_inner);
        *state = state.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = *state;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (((mixed >> 32) * u64::from(below)) >> 32) as u32
    }
}

fn is_absent(fault: &NetError) -> bool {
    fault.is_no_records_found() || fault.is_nx_domain()
}

/// What a URI asks for.
fn wanted(uri: &str) -> Result<Wanted, ResolveError> {
    let not_sip = || ResolveError::NotSip { uri: uri.to_owned() };
    let parsed = Uri::parse(uri).map_err(|_| not_sip())?;
    if !parsed.is_sip() {
        return Err(not_sip());
    }
    let is_sips = parsed.scheme() == Scheme::Sips;
    let unsupported = |name: &str| ResolveError::Transport { uri: uri.to_owned(), transport: name.to_owned() };
    let transport = match parsed.transport() {
        None => None,
        Some(name) => Some(Transport::parse(name).ok_or_else(|| unsupported(name))?),
    };
    let transport = match (is_sips, transport) {
        (true, Some(Transport::Tcp | Transport::Tls)) => Some(Transport::Tls),
        (true, Some(other)) => return Err(unsupported(other.uri_name())),
        // Browsers connect to servers, never the other way (RFC 7118 section 5).
        (_, Some(other @ (Transport::Ws | Transport::Wss))) => return Err(unsupported(other.uri_name())),
        (_, transport) => transport,
    };
    let host = parsed.host().trim_start_matches('[').trim_end_matches(']').to_ascii_lowercase();
    Ok(Wanted { host, port: parsed.port(), transport, is_sips })
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
