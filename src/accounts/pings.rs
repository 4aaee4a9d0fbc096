//! Keeps the way to phones behind NAT open: over UDP a router forgets it after half a minute to some minutes, and no call reaches the phone
//! from then on. Those whose Contact is not where they came from are asked by OPTIONS; what they answer does not matter.

use std::hash::{BuildHasher as _, BuildHasherDefault, DefaultHasher};
use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use sip::endpoint::{OutgoingRequest, Transport};
use sip::registrar::Binding;
use sip::{Method, Uri};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use super::Accounts;
use crate::call::dial::NextHop;
use crate::routing::next_hop;
use crate::trunks::ask::Asker;

/// One that does not answer within this is not there.
const ANSWERS_WITHIN: Duration = Duration::from_secs(5);

impl Accounts {
    /// Asks each phone behind NAT in its own second of so many, until the server stops.
    pub(crate) async fn ping(self: Arc<Self>, asker: Arc<Asker>, stop: CancellationToken) {
        let every = self.config().registrar.ping_s;
        if every == 0 {
            return;
        }
        let mut seconds = tokio::time::interval(Duration::from_secs(1));
        seconds.set_missed_tick_behavior(MissedTickBehavior::Delay);
        for second in 0_u64.. {
            tokio::select! {
                _ = seconds.tick() => {}
                () = stop.cancelled() => return,
            }
            let due = self.due(second % every, every);
            if !due.is_empty() {
                let asker = Arc::clone(&asker);
                tokio::spawn(async move { join_all(due.iter().map(|phone| ask(&asker, phone))).await });
            }
        }
    }

    fn due(&self, second: u64, every: u64) -> Vec<Binding> {
        let inner = self.lock();
        let is_due = |binding: &&Binding| second_of(binding) % every == second && is_behind_nat(binding);
        inner.registrar.all().map(|(_, binding)| binding).filter(is_due).cloned().collect()
    }
}

/// Each phone has a second of its own, so that they are not all asked at once.
fn second_of(binding: &Binding) -> u64 {
    BuildHasherDefault::<DefaultHasher>::default().hash_one(binding.source.map(|source| source.remote))
}

/// Whether a router stands before a phone that nobody but us keeps a way through: outbound (RFC 5626) is the phone's own affair, and so are
/// connections.
fn is_behind_nat(binding: &Binding) -> bool {
    let Some(source) = binding.source.filter(|source| source.transport == Transport::Udp) else { return false };
    if !binding.is_direct || !binding.path.is_empty() || binding.reg_id.is_some() {
        return false;
    }
    let Ok(contact) = Uri::parse(&binding.uri) else { return false };
    let is_there = contact.host_ip() == Some(source.remote.ip())
        && contact.port().unwrap_or(source.transport.default_port()) == source.remote.port();
    !is_there
}

async fn ask(asker: &Asker, phone: &Binding) {
    let NextHop::Flow { destination, local } = next_hop(phone) else { return };
    let from = format!("<sip:{local}>");
    let mut options = OutgoingRequest::new(Method::Options, &phone.uri, &from, destination, local);
    options.patience = Some(ANSWERS_WITHIN);
    let result = match asker.ask(options).await {
        Ok((408 | 503, _)) | Err(_) => "unanswered",
        Ok(_) => "answered",
    };
    metrics::counter!("omnivox_registrar_pings_total", "result" => result).increment(1);
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use sip::endpoint::{FlowId, Source};

    use super::*;

    fn binding(contact: &str, transport: Transport) -> Binding {
        let address = |text: &str| text.parse().unwrap();
        let (remote, local) = (address("192.0.2.7:40123"), address("198.51.100.1:5060"));
        Binding {
            uri: contact.to_owned(),
            q: 1.0,
            expires_s: 0,
            call_id: "c".to_owned(),
            sequence: 1,
            path: Vec::new(),
            instance: None,
            reg_id: None,
            source: Some(Source { transport, remote, local, flow: FlowId(1) }),
            is_direct: true,
            agent: String::new(),
            domain: String::new(),
        }
    }

    #[test]
    fn a_phone_is_behind_nat_whose_contact_is_not_where_it_came_from() {
        let udp = |contact| is_behind_nat(&binding(contact, Transport::Udp));
        assert!(udp("sip:a@10.0.0.5:5060") && udp("sip:a@192.0.2.7:5062") && udp("sip:a@192.0.2.7"));
        assert!(udp("sip:a@phone.invalid"));
        assert!(!udp("sip:a@192.0.2.7:40123"));
        assert!(!is_behind_nat(&binding("sip:a@10.0.0.5", Transport::Tcp)), "the connection is kept by its phone");
        let behind = binding("sip:a@10.0.0.5", Transport::Udp);
        assert!(!is_behind_nat(&Binding { reg_id: Some(1), ..behind.clone() }));
        assert!(!is_behind_nat(&Binding { path: vec!["<sip:proxy;lr>".to_owned()], ..behind.clone() }));
        assert!(!is_behind_nat(&Binding { source: None, ..behind }));
    }
}
