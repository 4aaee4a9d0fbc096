//! The sockets of HTTP, with TLS and without: connections are counted, and whoever is slow costs nobody else anything.
//!
//! Invariants:
//! - Connections are at most `http.max_connections`; one address has at most half of them, proxies that are believed and this machine aside.
//! - A handshake is over within [`Times::handshake`]; where [`HANDSHAKES_LIMIT`] are under way, the oldest gives way to the next.
//! - A request's headers are whole within [`Times::headers`], counted from the end of the request before it: so long a connection may idle.

use std::collections::{HashMap, VecDeque};
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::{TokioIo, TokioTimer};
use sip::io::{RELOAD_EVERY, ServerTls};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{Notify, oneshot};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use crate::config::{HttpConfig, Network, PlainHttp, TlsConfig};

/// Handshakes at once. Beyond: the oldest is given up.
const HANDSHAKES_LIMIT: usize = 256;
/// A stop waits so long for answers under way.
const FINISH: Duration = Duration::from_secs(3);
/// Out of descriptors, as a rule: others must end first.
const ACCEPT_AGAIN: Duration = Duration::from_millis(100);

/// How a request came, among its extensions.
#[derive(Debug, Clone, Copy)]
pub(super) struct Arrival {
    /// Who is at the other end of the connection.
    pub(super) peer: SocketAddr,
    /// The connection has TLS.
    pub(super) by_tls: bool,
}

/// How long whoever connects may take.
#[derive(Debug, Clone, Copy)]
struct Times {
    handshake: Duration,
    /// For a request's headers to be whole.
    headers: Duration,
}

impl Default for Times {
    fn default() -> Self {
        Self { handshake: Duration::from_secs(10), headers: Duration::from_secs(30) }
    }
}

/// The bound sockets.
#[derive(Debug)]
pub(crate) struct Listeners {
    plain: Option<TcpListener>,
    tls: Option<(TcpListener, ServerTls)>,
    places: Arc<Places>,
    times: Times,
}

impl Listeners {
    /// Binds what the configuration says, and reads the certificates.
    ///
    /// # Errors
    /// An address is in use or not ours, a file cannot be used; the message names the key.
    pub(crate) async fn bind(config: &HttpConfig, tls: &TlsConfig) -> anyhow::Result<Self> {
        let plain = match config.plain {
            PlainHttp::Off => None,
            PlainHttp::Serve | PlainHttp::Redirect => Some(bind("http.listen", config.listen).await?),
        };
        let tls = match config.tls_addr() {
            None => None,
            Some(addr) => {
                let tls = config.for_tls(tls).server(&["http/1.1"]).map_err(|fault| {
                    anyhow::anyhow!(
                        "no HTTP by TLS: {fault}. Mend {}, or leave http.tls_listen empty",
                        config.key_of(tls, &fault)
                    )
                })?;
                Some((bind("http.tls_listen", addr).await?, tls))
            }
        };
        let places = Places::new(config.max_connections, config.trusted_proxies.clone());
        Ok(Self { plain, tls, places: Arc::new(places), times: Times::default() })
    }

    /// Where the listener without TLS is.
    pub(crate) fn plain_addr(&self) -> Option<SocketAddr> {
        self.plain.as_ref()?.local_addr().ok()
    }

    /// Where the listener with TLS is.
    pub(crate) fn tls_addr(&self) -> Option<SocketAddr> {
        self.tls.as_ref()?.0.local_addr().ok()
    }

    /// Serves until `stop`, and what is under way as long as it goes on: a request for a little longer, a WebSocket until it ends.
    pub(crate) async fn serve(self, router: Router, stop: CancellationToken) {
        let Self { plain, tls, places, times } = self;
        let gate = Gate { router, places: Arc::clone(&places), times, stop };
        let plain = async {
            let Some(listener) = plain else { return };
            gate.accept(listener, |gate, stream| async move { gate.serve(stream, false).await }).await;
        };
        let tls = async {
            let Some((listener, tls)) = tls else { return };
            let acceptor = TlsAcceptor::from(Arc::clone(&tls.config));
            let handshakes = Arc::new(Handshakes::default());
            let accepting = gate.accept(listener, |gate, stream| {
                let (acceptor, handshakes) = (acceptor.clone(), Arc::clone(&handshakes));
                async move {
                    if let Some(stream) = handshakes.shake(&acceptor, stream, times.handshake).await {
                        gate.serve(stream, true).await;
                    }
                }
            });
            tokio::select! {
                () = accepting => {}
                () = reload(&tls) => {}
            }
        };
        tokio::join!(plain, tls);
        places.are_free().await;
    }
}

async fn bind(key: &str, addr: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(addr).await.map_err(|fault| {
        anyhow::anyhow!(
            "cannot listen for HTTP on {addr}: {fault}. Stop what uses the port, or set {key} to another address"
        )
    })
}

async fn reload(tls: &ServerTls) {
    loop {
        tokio::time::sleep(RELOAD_EVERY).await;
        let tls = tls.clone();
        // Files are read.
        let _ = tokio::task::spawn_blocking(move || tls.reload()).await;
    }
}

/// Lets connections in, each with a task of its own.
#[derive(Clone)]
struct Gate {
    router: Router,
    places: Arc<Places>,
    times: Times,
    stop: CancellationToken,
}

impl Gate {
    async fn accept<F, R>(&self, listener: TcpListener, take: F)
    where
        F: Fn(Self, Seated<TcpStream>) -> R,
        R: Future<Output = ()> + Send + 'static,
    {
        loop {
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = self.stop.cancelled() => return,
            };
            match accepted {
                Ok((stream, peer)) => {
                    let peer = SocketAddr::new(peer.ip().to_canonical(), peer.port());
                    // Without a place for it the stream is dropped, which closes it.
                    let Some(place) = Places::take(&self.places, peer) else { continue };
                    let _ = stream.set_nodelay(true);
                    tokio::spawn(take(self.clone(), Seated { stream, place }));
                }
                Err(fault) => {
                    tracing::warn!("cannot take a connection for HTTP: {fault}");
                    tokio::time::sleep(ACCEPT_AGAIN).await;
                }
            }
        }
    }

    async fn serve<S: AsyncRead + AsyncWrite + Unpin + Send + 'static>(self, stream: Seated<S>, by_tls: bool) {
        let arrival = Arrival { peer: stream.place.peer, by_tls };
        let router = self.router;
        let service = service_fn(move |mut request: hyper::Request<Incoming>| {
            request.extensions_mut().insert(arrival);
            router.clone().oneshot(request.map(Body::new))
        });
        let mut builder = http1::Builder::new();
        builder.timer(TokioTimer::new()).header_read_timeout(self.times.headers);
        let serving = builder.serve_connection(TokioIo::new(stream), service).with_upgrades();
        tokio::pin!(serving);
        let served = tokio::select! {
            served = serving.as_mut() => Some(served),
            () = self.stop.cancelled() => {
                serving.as_mut().graceful_shutdown();
                tokio::time::timeout(FINISH, serving).await.ok()
            }
        };
        if let Some(Err(fault)) = served {
            tracing::debug!("a connection of HTTP ended: {fault}");
        }
    }
}

/// Handshakes under way.
#[derive(Debug, Default)]
struct Handshakes {
    begun: AtomicU64,
    /// The oldest first.
    under_way: Mutex<VecDeque<UnderWay>>,
}

/// A handshake; it is given up where this is dropped.
#[derive(Debug)]
struct UnderWay {
    number: u64,
    _keeps: oneshot::Sender<()>,
}

impl Handshakes {
    async fn shake(
        &self,
        acceptor: &TlsAcceptor,
        stream: Seated<TcpStream>,
        limit: Duration,
    ) -> Option<Seated<tokio_rustls::server::TlsStream<TcpStream>>> {
        let Seated { stream, place } = stream;
        let (number, given_up) = self.begin();
        let shaken = tokio::select! {
            shaken = tokio::time::timeout(limit, acceptor.accept(stream)) => shaken,
            _ = given_up => {
                refused("handshakes");
                return None;
            }
        };
        self.lock().retain(|one| one.number != number);
        match shaken {
            Ok(Ok(stream)) => return Some(Seated { stream, place }),
            Ok(Err(fault)) => {
                refused("handshake");
                tracing::debug!("no TLS with {}: {fault}", place.peer);
            }
            Err(_) => refused("handshake_time"),
        }
        None
    }

    fn begin(&self) -> (u64, oneshot::Receiver<()>) {
        let (keeps, given_up) = oneshot::channel();
        let number = self.begun.fetch_add(1, Ordering::Relaxed);
        let mut under_way = self.lock();
        if under_way.len() >= HANDSHAKES_LIMIT {
            under_way.pop_front();
        }
        under_way.push_back(UnderWay { number, _keeps: keeps });
        (number, given_up)
    }

    fn lock(&self) -> MutexGuard<'_, VecDeque<UnderWay>> {
        self.under_way.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Room for connections.
#[derive(Debug)]
struct Places {
    limit: usize,
    /// They bring the connections of many.
    proxies: Vec<Network>,
    taken: Mutex<(usize, HashMap<IpAddr, usize>)>,
    /// The last connection is gone.
    freed: Notify,
}

impl Places {
    fn new(limit: usize, proxies: Vec<Network>) -> Self {
        Self { limit, proxies, taken: Mutex::default(), freed: Notify::new() }
    }

    fn take(places: &Arc<Self>, peer: SocketAddr) -> Option<Place> {
        let ip = peer.ip();
        let brings_many = ip.is_loopback() || places.proxies.iter().any(|network| network.contains(ip));
        let mut taken = places.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let (all, by_address) = &mut *taken;
        if *all >= places.limit {
            refused("connections");
            return None;
        }
        let own = by_address.get(&ip).copied().unwrap_or_default();
        if own >= places.limit / 2 && !brings_many {
            refused("address");
            return None;
        }
        *all += 1;
        by_address.insert(ip, own + 1);
        metrics::gauge!("omnivox_http_connections").set(*all as f64);
        Some(Place { places: Arc::clone(places), peer })
    }

    /// Waits until there are no connections.
    async fn are_free(&self) {
        while self.taken.lock().unwrap_or_else(PoisonError::into_inner).0 > 0 {
            self.freed.notified().await;
        }
    }
}

/// A connection's place, free again once this is dropped.
#[derive(Debug)]
struct Place {
    places: Arc<Places>,
    peer: SocketAddr,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.places.taken.lock().unwrap_or_else(PoisonError::into_inner);
        let (all, by_address) = &mut *taken;
        *all -= 1;
        if *all == 0 {
            self.places.freed.notify_one();
        }
        metrics::gauge!("omnivox_http_connections").set(*all as f64);
        if let Some(own) = by_address.get_mut(&self.peer.ip()) {
            *own -= 1;
            if *own == 0 {
                by_address.remove(&self.peer.ip());
            }
        }
    }
}

fn refused(reason: &'static str) {
    metrics::counter!("omnivox_http_refused_total", "reason" => reason).increment(1);
}

/// A connection with its place: a WebSocket that it becomes has it too.
struct Seated<S> {
    stream: S,
    place: Place,
}

impl<S: AsyncRead + Unpin> AsyncRead for Seated<S> {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buf)
    }
}

impl<S: AsyncWrite + Unpin> AsyncWrite for Seated<S> {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bufs: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write_vectored(cx, bufs)
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }
}

#[cfg(test)]
mod tests;
