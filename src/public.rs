//! Our public address, as `sip.advertise` says or a STUN server tells.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::hub::Hub;

/// How often the STUN server is asked whether our address has changed.
const ASK_EVERY: Duration = Duration::from_secs(60);

/// Our public address, where there is one to be told.
///
/// # Errors
/// The STUN server does not tell it.
pub(crate) async fn find(config: &Config) -> anyhow::Result<Option<IpAddr>> {
    let Some(server) = config.sip.stun_server() else { return Ok(config.sip.advertise.parse().ok()) };
    let ip = ask(&server).await.map_err(|fault| {
        anyhow::anyhow!(
            "cannot learn the public address from {server}: {fault}. Set sip.advertise to another STUN server or to the address"
        )
    })?;
    tracing::info!("the public address is {ip}, says {server}");
    Ok(Some(ip))
}

/// Follows the address while it changes.
pub(crate) async fn watch(hub: Arc<Hub>, stop: CancellationToken) {
    let Some(server) = hub.config.sip.stun_server() else { return };
    loop {
        tokio::select! {
            () = tokio::time::sleep(ASK_EVERY) => {}
            () = stop.cancelled() => return,
        }
        match ask(&server).await {
            Ok(ip) if hub.sip.public() != Some(ip) => {
                tracing::warn!("the public address has changed to {ip}, says {server}");
                hub.sip.set_public(Some(ip));
            }
            Ok(_) => {}
            Err(fault) => tracing::warn!("{server} does not tell the public address: {fault}. The old one stays"),
        }
    }
}

async fn ask(server: &str) -> std::io::Result<IpAddr> {
    let found: Vec<SocketAddr> = tokio::net::lookup_host(server).await?.collect();
    let server = found.iter().find(|address| address.is_ipv4()).or(found.first());
    sip::io::public_ip(*server.ok_or(std::io::ErrorKind::NotFound)?).await
}
