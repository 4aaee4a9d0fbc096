//! Asks a trunk's host whether it is there, by OPTIONS. Any answer says that it is, but 408 and 503.

use std::sync::Arc;
use std::time::Duration;

use sip::Method;
use sip::endpoint::OutgoingRequest;
use tokio_util::sync::CancellationToken;

use super::Trunk;
use super::ask::Asker;

/// Asks so often as the trunk says, until the server stops.
pub(super) async fn watch(trunk: Arc<Trunk>, host: usize, asker: Arc<Asker>, stop: CancellationToken) {
    let Some(uri) = trunk.config.hosts.get(host).map(|host| host.uri.clone()) else { return };
    let every = Duration::from_secs(trunk.config.ping_s);
    loop {
        let is_up = tokio::select! {
            is_up = answers(&trunk, &uri, &asker) => is_up,
            () = stop.cancelled() => return,
        };
        trunk.set_up(host, is_up);
        tokio::select! {
            () = tokio::time::sleep(every) => {}
            () = stop.cancelled() => return,
        }
    }
}

async fn answers(trunk: &Trunk, uri: &str, asker: &Asker) -> bool {
    let route = match asker.sip.resolve(uri).await {
        Ok(route) => route,
        Err(fault) => {
            tracing::debug!("trunk {}: {fault}", trunk.config.name);
            return false;
        }
    };
    trunk.found_at(route.remote.ip());
    let from = format!("<sip:{}>", trunk.config.our_domain());
    let mut options = OutgoingRequest::new(Method::Options, uri, &from, route.destination.clone(), route.local);
    options.patience = Some(Duration::from_secs(5));
    match asker.ask(options).await {
        Ok((408 | 503, _)) => {
            asker.sip.note_dead(&route);
            false
        }
        Ok(_) => true,
        Err(fault) => {
            tracing::debug!("trunk {}: {fault}", trunk.config.name);
            false
        }
    }
}
