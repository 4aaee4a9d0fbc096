//! Certificates are fetched from where a caller's token says, and so from wherever a caller likes: over HTTPS alone, without following
//! redirects, from public addresses only, little and soon. What was fetched is kept for a while.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use control::outside::{Asking, IpNet, Outside, cause};
use reqwest::Url;
use rustls::pki_types::CertificateDer;

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
    client: Asking,
    kept: Mutex<HashMap<String, (Instant, Chain)>>,
}

impl Fetcher {
    /// A fetcher that may ask these networks too, and them without TLS.
    ///
    /// # Errors
    /// The HTTP client cannot be set up.
    pub fn new(also: &[Network]) -> anyhow::Result<Self> {
        let also: Vec<IpNet> = also.iter().flat_map(Network::blocks).collect();
        Ok(Self { client: Asking::new(Outside::and(&also), FETCHED_WITHIN)?, kept: Mutex::default() })
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
        let client = self.client.of(&url).map_err(|refused| refused.to_string())?;
        let mut response = client.get(url).send().await.map_err(|fault| cause(&fault))?;
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
            ("file:///etc/passwd".to_owned(), "neither https: nor http:"),
            ("nonsense".to_owned(), ""),
        ] {
            let Err(Fault::Fetch { why: told, .. }) = fetcher.chain(&url).await else { unreachable!("{url}") };
            assert!(told.contains(why), "{url}: {told}");
        }
        let asked = tokio::time::timeout(Duration::from_millis(50), listener.accept()).await;
        assert!(asked.is_err(), "nobody was asked");
    }
}
