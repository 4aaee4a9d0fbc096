//! Our registration with a carrier: made, renewed well before it ends, made again after a failure with a growing pause, and ended
//! when the server stops (RFC 3261 section 10.2).

use std::sync::Arc;
use std::time::Duration;

use sip::auth::Credentials;
use sip::endpoint::OutgoingRequest;
use sip::headers::Name;
use sip::{Message, Method};
use tokio_util::sync::CancellationToken;

use super::ask::Asker;
use super::{LINE, Trunk};

/// The pause after a first failure; each further one is twice as long.
const FIRST_PAUSE: Duration = Duration::from_secs(2);
/// No pause is longer.
const LONGEST_PAUSE: Duration = Duration::from_secs(300);
/// Without any response for so long the next host is tried.
const PATIENCE: Duration = Duration::from_secs(5);
/// A stopping server takes its registration back within this.
const FAREWELL: Duration = Duration::from_secs(2);

/// What is known from one request to the next.
struct Registration {
    call_id: String,
    sequence: u32,
    expires_s: u32,
}

/// Keeps us registered until the server stops.
pub(super) async fn keep(trunk: Arc<Trunk>, asker: Arc<Asker>, stop: CancellationToken) {
    let name = trunk.config.name.clone();
    let call_id = format!("{}@{}", crate::call::log::new_id(std::time::SystemTime::now()), trunk.config.name);
    let mut registration = Registration { call_id, sequence: 0, expires_s: trunk.config.expires_s };
    let mut pause = FIRST_PAUSE;
    let gauge = metrics::gauge!("omnivox_trunk_registered", "trunk" => name.clone());
    gauge.set(0.0);
    loop {
        let asked = registration.expires_s;
        let outcome = tokio::select! {
            outcome = register(&trunk, &asker, &mut registration, asked) => outcome,
            () = stop.cancelled() => break,
        };
        let wait = match outcome {
            Ok(granted_s) => {
                gauge.set(1.0);
                tracing::info!("trunk {name}: registered for {granted_s} s");
                pause = FIRST_PAUSE;
                // Half of the time is left for what may go wrong.
                Duration::from_secs(u64::from(granted_s.max(2)) / 2)
            }
            Err(why) => {
                gauge.set(0.0);
                tracing::warn!("trunk {name}: not registered: {why}. Tried again in {} s", pause.as_secs());
                let wait = pause;
                pause = (pause * 2).min(LONGEST_PAUSE);
                wait
            }
        };
        tokio::select! {
            () = tokio::time::sleep(wait) => {}
            () = stop.cancelled() => break,
        }
    }
    let _ = tokio::time::timeout(FAREWELL, register(&trunk, &asker, &mut registration, 0)).await;
}

/// Registers with the first host that answers; for how long it holds.
async fn register(
    trunk: &Trunk,
    asker: &Asker,
    registration: &mut Registration,
    expires_s: u32,
) -> Result<u32, String> {
    let mut why = "the trunk has no host".to_owned();
    let mut hosts: Vec<_> = trunk.config.hosts.iter().enumerate().collect();
    hosts.sort_by_key(|(at, host)| (!trunk.is_up(*at), host.priority));
    for (at, host) in hosts {
        match register_at(trunk, asker, registration, (&host.uri, expires_s)).await {
            Ok(granted) => return Ok(granted),
            Err(Failed::Refused(code)) => return Err(format!("{} answers {code}", host.uri)),
            Err(Failed::Unreachable(fault)) => {
                tracing::debug!("trunk {}: host {at} cannot be registered with: {fault}", trunk.config.name);
                why = fault;
            }
        }
    }
    Err(why)
}

enum Failed {
    /// It said no: others of the same carrier will too.
    Refused(u16),
    /// It said nothing, or that it cannot now.
    Unreachable(String),
}

async fn register_at(
    trunk: &Trunk,
    asker: &Asker,
    registration: &mut Registration,
    (host, mut expires_s): (&str, u32),
) -> Result<u32, Failed> {
    let config = &trunk.config;
    let domain = config.our_domain();
    let address = format!("<sip:{}@{domain}>", config.username);
    let registrar = sip::Uri::sip(None, &domain, None).map_or_else(|_| host.to_owned(), |uri| uri.as_str().to_owned());
    let routes = asker.sip.routes(host).await.map_err(|fault| Failed::Unreachable(fault.to_string()))?;
    routes.iter().for_each(|route| trunk.found_at(route.remote.ip()));
    let mut why = String::new();
    for route in routes {
        // Once more where the time was too brief for it.
        for _ in 0..2 {
            registration.sequence += 1;
            let transport = route.destination.transport;
            let mut request =
                OutgoingRequest::new(Method::Register, &registrar, &address, route.destination.clone(), route.local);
            request.to = Some(address.clone());
            request.call_id = Some(registration.call_id.clone());
            request.sequence = Some(registration.sequence);
            let by = if transport == sip::Transport::Udp { String::new() } else { format!(";transport={transport}") };
            // Of several accounts there, the carrier says by it which one it calls.
            let line = format!(";{LINE}={}", config.name);
            request.contact = Some(format!("<sip:{}@{}{by}{line}>", config.username, route.local));
            request.headers = vec![("Expires".to_owned(), expires_s.to_string())];
            request.credentials =
                Some(Credentials { username: config.username.clone(), password: config.password.reveal().to_owned() });
            request.patience = Some(PATIENCE);
            let (code, response) = asker.ask(request).await.map_err(Failed::Unreachable)?;
            if let Some(sequence) = response.as_ref().and_then(|response| response.cseq().ok()) {
                // Answers to challenges counted it up.
                registration.sequence = registration.sequence.max(sequence.number);
            }
            match (code, response) {
                (200..=299, Some(response)) => return Ok(granted(&response, &route, expires_s)),
                (423, Some(response)) => {
                    let least = response.header(Name::MinExpires).and_then(|least| least.trim().parse().ok());
                    expires_s = least.filter(|least| *least > expires_s).ok_or(Failed::Refused(423))?;
                    registration.expires_s = expires_s;
                }
                (408 | 500..=599, _) => {
                    asker.sip.note_dead(&route);
                    why = format!("{} does not answer ({code})", route.remote);
                    break;
                }
                (code, _) => return Err(Failed::Refused(code)),
            }
        }
    }
    Err(Failed::Unreachable(why))
}

/// For how long the registrar binds us: what it says of our own Contact, else of all, else what we asked for.
fn granted(response: &Message, route: &sip::io::Route, asked_s: u32) -> u32 {
    let own = route.local.to_string();
    let contacts = response.header_values(Name::Contact).filter_map(|value| sip::NameAddr::parse(value).ok());
    let of_ours = contacts
        .filter(|contact| contact.uri_text.contains(&own))
        .find_map(|contact| contact.params.get("expires").and_then(|seconds| seconds.parse().ok()));
    of_ours.or(response.expires_seconds()).unwrap_or(asked_s)
}
