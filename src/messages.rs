//! Text between devices (MESSAGE, RFC 3428): from one that proves who it is to all phones of another. What cannot be delivered now is
//! refused, so that its sender knows.

use std::sync::Arc;
use std::time::Duration;

use futures::future::join_all;
use sip::endpoint::{Endpoint, OutgoingRequest, RequestId, Source};
use sip::registrar::Binding;
use sip::{Message, Method};

use crate::accounts::{Reply, domain_of};
use crate::call::dial::NextHop;
use crate::dispatch::note_credentials;
use crate::hub::Hub;
use crate::routing::next_hop;
use sip::uri::user_of;

/// A phone that does not answer after this long has not got it.
const DELIVERED_WITHIN: Duration = Duration::from_secs(10);

/// Passes a message on, or refuses it.
pub(crate) fn receive(
    hub: &Arc<Hub>,
    own_threads: &tokio::runtime::Handle,
    endpoint: &mut Endpoint,
    now: std::time::Instant,
    (request, message, source): (RequestId, Arc<Message>, Source),
) {
    let delivery = match prepare(hub, &message) {
        Ok(delivery) => delivery,
        Err(reply) => {
            note_credentials(hub, &source, reply.has_failed, false);
            let answered = endpoint.respond_request(now, request, reply.code, reply.reason, &reply.headers, None);
            if let Err(fault) = answered {
                tracing::debug!("a message was answered too late: {fault}");
            }
            return;
        }
    };
    let hub = Arc::clone(hub);
    own_threads.spawn(async move {
        let code = delivery.deliver(&hub, &message).await;
        crate::call::note_refused(hub.sip.respond_request(request, code, "", Vec::new(), None));
    });
}

/// Devices: who sends, and who is sent to.
struct Delivery {
    from: String,
    to: String,
    phones: Vec<Binding>,
}

fn prepare(hub: &Hub, message: &Message) -> Result<Delivery, Reply> {
    let accounts = hub.accounts.as_ref().ok_or_else(|| Reply::refusal(405))?;
    let sender = accounts.device_of(message)?;
    let called = user_of(message.request_uri());
    let to = accounts.named(&called).ok_or_else(|| Reply::refusal(404))?.user.clone();
    let phones = accounts.bindings(&to);
    if phones.is_empty() {
        return Err(Reply::refusal(480));
    }
    Ok(Delivery { from: sender, to, phones })
}

impl Delivery {
    /// Delivers to all phones at once: the best of their answers.
    async fn deliver(self, hub: &Hub, message: &Message) -> u16 {
        let codes = join_all(self.phones.iter().map(|phone| self.to_phone(hub, message, phone))).await;
        codes.iter().copied().find(|code| code / 100 == 2).or(codes.into_iter().min()).unwrap_or(480)
    }

    async fn to_phone(&self, hub: &Hub, message: &Message, phone: &Binding) -> u16 {
        let (destination, local) = match next_hop(phone) {
            NextHop::Flow { destination, local } => (destination, local),
            NextHop::Resolve(uri) => match hub.sip.resolve(&uri).await {
                Ok(route) => (route.destination, route.local),
                Err(_) => return 480,
            },
        };
        let address = |user: &str| format!("<sip:{user}@{}>", domain_of(phone, &hub.config));
        let mut request = OutgoingRequest::new(Method::Message, &phone.uri, &address(&self.from), destination, local);
        request.to = Some(address(&self.to));
        let content_type = message.header(sip::Name::ContentType).unwrap_or("text/plain").to_owned();
        request.body = Some((content_type, message.body_bytes()));
        request.patience = Some(DELIVERED_WITHIN);
        if !phone.path.is_empty() {
            request.headers.push(("Route".to_owned(), phone.path.join(", ")));
        }
        match hub.asker.ask(request).await {
            Ok((code, _)) => code,
            Err(why) => {
                tracing::debug!("a message could not be sent: {why}");
                480
            }
        }
    }
}
