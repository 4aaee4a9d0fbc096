//! Certificates are fetched from where a caller's token says, and so from wherever a caller likes: over HTTPS alone, without following
//! redirects, from public addresses only, little and soon. What was fetched is kept for a while.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use reqwest::Url;
use reqwest::dns::{Addrs, Name, Resolve, Resolving};
use rustls::pki_types::CertificateDer;
use sip::address::is_inside;

use super::chain;
use super::passport::Fault;
use crate::config::Network;

/// A published chain is no longer than this.
const CHAIN_BYTES: usize = 64 * 1_024;
/// What is not there after so long is not waited for: the caller waits too.
const FETCHED_WITHIN: Duration = Duration::from_secs(3);
/// A certificate is used for so long before it is fetched anew.
const KEPT_FOR: Duration = Duration::from_secs(3_600);
/// Certificates kept at once; at the limit the oldest gives way.
const KEPT_LIMIT: usize = 1_000;

type Chain = Arc<[CertificateDer<'static>]>;

/// Fetches certificates, and keeps them.
#[derive(Debug)]
pub struct Fetcher {
    client: reqwest::Client,
    also: Arc<[Network]>,
    kept: Mutex<HashMap<String, (Instant, Chain)>>,
}

/// Resolves names to those of their addresses that may be asked.
struct Outside(Arc<[Network]>);

impl Resolve for Outside {
    fn resolve(&self, name: Name) -> Resolving {
        let also = Arc::clone(&self.0);
        Box::pin(async move {
            let found = tokio::net::lookup_host((name.as_str(), 0)).await?;
            let allowed: Vec<SocketAddr> = found.filter(|address| is_allowed(address.ip(), &also)).collect();
            if allowed.is_empty() {
                return Err("the name leads to no public address".into());
            }
            Ok(Box::new(allowed.into_iter()) as Addrs)
        })
    }
}

fn is_allowed(ip: IpAddr, also: &[Network]) -> bool {
    let ip = ip.to_canonical();
    let is_special = ip.is_multicast() || matches!(ip, IpAddr::V4(ip) if ip.is_broadcast() || ip.is_documentation());
    also.iter().any(|network| network.contains(ip)) || !(is_inside(ip) || is_special)
}

impl Fetcher {
    /// A fetcher that may ask these networks too, and them without TLS.
    ///
    /// # Errors
    /// The HTTP client cannot be set up.
    pub fn new(also: &[Network]) -> anyhow::Result<Self> {
        let also: Arc<[Network]> = also.into();
        let client = reqwest::Client::builder()
            .redirect(reqwest::redirect::Policy::none())
            .dns_resolver(Arc::new(Outside(Arc::clone(&also))))
            .timeout(FETCHED_WITHIN)
            .no_proxy()
            .build()?;
        Ok(Self { client, also, kept: Mutex::default() })
    }

    /// The chain that is published there.
    ///
    /// # Errors
    /// [`Fault::Fetch`].
    pub async fn chain(&self, url: &str) -> Result<Chain, Fault> {
        if let Some(chain) = self.kept(url) {
            return Ok(chain);
        }
        let chain = self.fetch(url).await.map_err(|why| Fault::Fetch { url: url.to_owned(), why })?;
        self.keep(url, &chain);
        Ok(chain)
    }

    fn kept(&self, url: &str) -> Option<Chain> {
        let kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        kept.get(url).filter(|(at, _)| at.elapsed() < KEPT_FOR).map(|(_, chain)| Arc::clone(chain))
    }

    fn keep(&self, url: &str, chain: &Chain) {
        let mut kept = self.kept.lock().unwrap_or_else(PoisonError::into_inner);
        if kept.len() >= KEPT_LIMIT
            && let Some(oldest) = kept.iter().min_by_key(|(_, (at, _))| *at).map(|(url, _)| url.clone())
        {
            kept.remove(&oldest);
        }
        kept.insert(url.to_owned(), (Instant::now(), Arc::clone(chain)));
    }

    async fn fetch(&self, url: &str) -> Result<Chain, String> {
        let url = Url::parse(url).map_err(|fault| fault.to_string())?;
        let literal = url.host_str().and_then(|host| host.trim_matches(['[', ']']).parse::<IpAddr>().ok());
        let is_ours = literal.is_some_and(|ip| self.also.iter().any(|network| network.contains(ip)));
        if url.scheme() != "https" && !(url.scheme() == "http" && is_ours) {
            return Err("it is not HTTPS".to_owned());
        }
        // An address is not resolved, so that nobody else would look at it.
        if literal.is_some_and(|ip| !is_allowed(ip, &self.also)) {
            return Err("it is no public address".to_owned());
        }
        let mut response = self.client.get(url).send().await.map_err(|fault| cause(&fault))?;
        if !response.status().is_success() {
            return Err(format!("the server says {}", response.status()));
        }
        let mut body = Vec::new();
        while let Some(piece) = response.chunk().await.map_err(|fault| cause(&fault))? {
            if body.len() + piece.len() > CHAIN_BYTES {
                return Err(format!("it is longer than {CHAIN_BYTES} bytes"));
            }
            body.extend_from_slice(&piece);
        }
        let chain = chain::read(&body);
        if chain.is_empty() {
            return Err("it is no certificate in PEM or DER".to_owned());
        }
        Ok(chain.into())
    }
}

/// What lies at the bottom of an error.
fn cause(fault: &dyn std::error::Error) -> String {
    let mut deepest = fault;
    while let Some(source) = deepest.source() {
        deepest = source;
    }
    deepest.to_string()
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// A caller who names an inside address has nothing fetched from it, by whatever way.
    #[tokio::test]
    async fn nobody_is_led_to_inside_addresses() {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let fetcher = Fetcher::new(&[]).unwrap();
        for (url, why) in [
            (format!("https://127.0.0.1:{port}/a.pem"), "no public address"),
            (format!("https://[::1]:{port}/a.pem"), "no public address"),
            (format!("https://[::ffff:127.0.0.1]:{port}/a.pem"), "no public address"),
            (format!("https://2130706433:{port}/a.pem"), "no public address"),
            (format!("https://0x7f.1:{port}/a.pem"), "no public address"),
            (format!("https://localhost:{port}/a.pem"), "no public address"),
            ("https://10.1.2.3/a.pem".to_owned(), "no public address"),
            ("https://169.254.169.254/latest/meta-data".to_owned(), "no public address"),
            ("https://100.64.0.1/a.pem".to_owned(), "no public address"),
            ("http://example.com/a.pem".to_owned(), "not HTTPS"),
            ("file:///etc/passwd".to_owned(), "not HTTPS"),
            ("nonsense".to_owned(), ""),
        ] {
            let Err(Fault::Fetch { why: told, .. }) = fetcher.chain(&url).await else { unreachable!("{url}") };
            assert!(told.contains(why), "{url}: {told}");
        }
        let asked = tokio::time::timeout(Duration::from_millis(50), listener.accept()).await;
        assert!(asked.is_err(), "nobody was asked");
    }
}
