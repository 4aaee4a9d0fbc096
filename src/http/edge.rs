//! What every request passes first: who really asks where a proxy stands before us, whether it came by TLS, and what is served without.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use axum::extract::{ConnectInfo, Request, State};
use axum::http::uri::Authority;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use control::api::dashboard::REFERENCE;
use control::api::gate::ByTls;
use control::api::problem::Problem;

use super::listen::Arrival;
use crate::config::{Config, Network, PlainHttp};

/// Addresses in `X-Forwarded-For` that are looked at; what stands before them is nobody's word.
const HOPS_LIMIT: usize = 32;
/// A header that a proxy writes.
const FORWARDED_FOR: &str = "x-forwarded-for";
const FORWARDED_PROTO: &str = "x-forwarded-proto";

/// What the configuration says of it.
#[derive(Debug)]
pub(crate) struct Edge {
    proxies: Vec<Network>,
    plain: PlainHttp,
    /// `max-age` of HSTS.
    hsts: Option<HeaderValue>,
    /// Where pages are by TLS, where that was said.
    url: Option<String>,
    /// The port that pages have by TLS otherwise.
    tls_port: Option<u16>,
}

impl Edge {
    pub(crate) fn new(config: &Config, tls: Option<SocketAddr>) -> Arc<Self> {
        let http = &config.http;
        let hsts = HeaderValue::from_str(&format!("max-age={}", http.hsts_s)).ok();
        let url = config.control.url.trim_end_matches('/');
        Arc::new(Self {
            proxies: http.trusted_proxies.clone(),
            plain: http.plain,
            hsts: hsts.filter(|_| http.hsts_s > 0),
            url: url.starts_with("https:").then(|| url.to_owned()),
            tls_port: tls.map(|tls| tls.port()),
        })
    }

    fn believes(&self, ip: IpAddr) -> bool {
        self.proxies.iter().any(|network| network.contains(ip))
    }

    /// Who asks: the last one before the proxies that are believed.
    fn client(&self, peer: SocketAddr, headers: &HeaderMap) -> SocketAddr {
        if !self.believes(peer.ip()) {
            return peer;
        }
        let lists = headers.get_all(FORWARDED_FOR).iter().filter_map(|list| list.to_str().ok());
        let hops: Vec<&str> = lists.flat_map(|list| list.split(',')).collect();
        let mut client = peer;
        for hop in hops.iter().rev().take(HOPS_LIMIT) {
            let Some(ip) = hop_address(hop) else { break };
            client = SocketAddr::new(ip, 0);
            if !self.believes(ip) {
                break;
            }
        }
        client
    }

    fn by_tls(&self, arrival: Arrival, headers: &HeaderMap) -> bool {
        let said = || {
            let last = headers.get_all(FORWARDED_PROTO).iter().next_back()?.to_str().ok()?;
            Some(last.rsplit(',').next()?.trim().eq_ignore_ascii_case("https"))
        };
        arrival.by_tls || (self.believes(arrival.peer.ip()) && said().unwrap_or_default())
    }

    /// Where a page is by TLS.
    fn secure_url(&self, request: &Request) -> Option<String> {
        let path = request.uri().path_and_query().map_or("/", |path| path.as_str());
        if let Some(url) = &self.url {
            return Some(format!("{url}{path}"));
        }
        let host: Authority = request.headers().get(header::HOST)?.to_str().ok()?.parse().ok()?;
        let host = host.host();
        match self.tls_port? {
            443 => Some(format!("https://{host}{path}")),
            port => Some(format!("https://{host}:{port}{path}")),
        }
    }

    /// The answer to a request without TLS, where it is not served.
    fn refuses(&self, request: &Request) -> Option<Response> {
        let path = request.uri().path();
        let is_open = ["/healthz", "/readyz", "/metrics"].contains(&path) || path.starts_with("/calls/");
        if self.plain != PlainHttp::Redirect || is_open {
            return None;
        }
        // A program that is led on has sent its key in the clear by then, and would go on to.
        let is_program = (path == "/api" || path.starts_with("/api/")) && path != REFERENCE;
        let location = self.secure_url(request).and_then(|url| HeaderValue::from_str(&url).ok());
        Some(match location {
            Some(location) if !is_program => {
                (StatusCode::PERMANENT_REDIRECT, [(header::LOCATION, location)]).into_response()
            }
            _ => Problem::new(StatusCode::FORBIDDEN, "ask by https: this is not served without TLS").into_response(),
        })
    }
}

/// Every request's way in and out.
pub(super) async fn pass(State(edge): State<Arc<Edge>>, mut request: Request, next: Next) -> Response {
    let Some(arrival) = request.extensions().get::<Arrival>().copied() else {
        return StatusCode::INTERNAL_SERVER_ERROR.into_response();
    };
    let by_tls = edge.by_tls(arrival, request.headers());
    if !by_tls && let Some(answer) = edge.refuses(&request) {
        return answer;
    }
    let client = edge.client(arrival.peer, request.headers());
    request.extensions_mut().insert(ConnectInfo(client));
    request.extensions_mut().insert(ByTls(by_tls));
    let mut response = next.run(request).await;
    if by_tls && let Some(hsts) = &edge.hsts {
        response.headers_mut().insert(header::STRICT_TRANSPORT_SECURITY, hsts.clone());
    }
    response
}

/// Whether a proxy brought this, believed or not: then nobody on this machine asks.
fn is_forwarded(headers: &HeaderMap) -> bool {
    [FORWARDED_FOR, FORWARDED_PROTO, "forwarded", "via"].iter().any(|name| headers.contains_key(*name))
}

/// Whether somebody on the server's own machine asks: they are shown what is for whoever runs it.
pub(super) fn is_own_machine(asker: SocketAddr, headers: &HeaderMap) -> bool {
    asker.ip().to_canonical().is_loopback() && !is_forwarded(headers)
}

/// One address of the list: some proxies write the port too.
fn hop_address(hop: &str) -> Option<IpAddr> {
    let hop = hop.trim();
    let ip = hop.parse::<IpAddr>().or_else(|_| hop.parse::<SocketAddr>().map(|at| at.ip()));
    let in_brackets = || hop.strip_prefix('[')?.strip_suffix(']')?.parse().ok();
    ip.ok().or_else(in_brackets).map(|ip| ip.to_canonical())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    fn edge(proxies: &[&str]) -> Arc<Edge> {
        let mut config = Config::default();
        config.http.trusted_proxies = proxies.iter().map(|network| network.parse().unwrap()).collect();
        Edge::new(&config, None)
    }

    fn headers(of: &[(&'static str, &str)]) -> HeaderMap {
        let mut headers = HeaderMap::new();
        of.iter().for_each(|(name, value)| {
            headers.append(*name, value.parse().unwrap());
        });
        headers
    }

    #[test]
    fn whoever_is_on_the_servers_own_machine_was_brought_by_no_proxy() {
        let is_own = |peer: &str, of: &[(&'static str, &str)]| is_own_machine(peer.parse().unwrap(), &headers(of));
        assert!(is_own("127.0.0.1:9", &[]) && is_own("[::ffff:127.0.0.1]:9", &[]) && is_own("[::1]:9", &[]));
        assert!(!is_own("192.0.2.9:9", &[]));
        for name in [FORWARDED_FOR, FORWARDED_PROTO, "forwarded", "via"] {
            assert!(!is_own("127.0.0.1:9", &[(name, "x")]), "{name}");
        }
    }

    #[test]
    fn a_client_is_whoever_stands_before_the_proxies_that_are_believed() {
        let edge = edge(&["10.0.0.0/8", "2001:db8::/32"]);
        let many = vec!["10.9.9.9"; HOPS_LIMIT + 1].join(", ");
        for (peer, lists, client) in [
            ("192.0.2.9:1", vec!["198.51.100.1"], "192.0.2.9"),
            ("10.0.0.1:1", vec![], "10.0.0.1"),
            ("10.0.0.1:1", vec!["198.51.100.1"], "198.51.100.1"),
            // What the client itself wrote stands before what the proxy saw.
            ("10.0.0.1:1", vec!["127.0.0.1, 198.51.100.1"], "198.51.100.1"),
            ("10.0.0.1:1", vec!["127.0.0.1", "198.51.100.1, 10.0.0.2"], "198.51.100.1"),
            ("10.0.0.1:1", vec!["198.51.100.1:4711"], "198.51.100.1"),
            ("[2001:db8::1]:1", vec!["[2001:4860::7]:99"], "2001:4860::7"),
            ("10.0.0.1:1", vec!["[2001:4860::7]"], "2001:4860::7"),
            ("10.0.0.1:1", vec!["::ffff:198.51.100.1"], "198.51.100.1"),
            ("10.0.0.1:1", vec!["127.0.0.1, unknown, 10.0.0.2"], "10.0.0.2"),
            ("10.0.0.1:1", vec![&format!("127.0.0.1, {many}")], "10.9.9.9"),
        ] {
            let of: Vec<_> = lists.iter().map(|list| (FORWARDED_FOR, *list)).collect();
            let found = edge.client(peer.parse().unwrap(), &headers(&of)).ip();
            assert_eq!(found, client.parse::<IpAddr>().unwrap(), "{peer} {lists:?}");
        }
    }

    #[test]
    fn only_a_believed_proxy_says_that_a_request_came_by_tls() {
        let edge = edge(&["10.0.0.1"]);
        for (peer, by_tls, said, is) in [
            ("192.0.2.9:1", true, None, true),
            ("192.0.2.9:1", false, Some("https"), false),
            ("10.0.0.1:1", false, Some("https"), true),
            ("10.0.0.1:1", false, Some("http"), false),
            ("10.0.0.1:1", false, Some("https, http"), false),
            ("10.0.0.1:1", false, None, false),
        ] {
            let arrival = Arrival { peer: peer.parse().unwrap(), by_tls };
            let of: Vec<_> = said.iter().map(|said| (FORWARDED_PROTO, *said)).collect();
            assert_eq!(edge.by_tls(arrival, &headers(&of)), is, "{peer} {said:?}");
        }
    }
}
