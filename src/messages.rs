//! Text outside of calls (MESSAGE, RFC 3428): from a phone that proves who it is, or a carrier, to all phones of whoever is called, or by the
//! trunk that a call there would go by. What cannot be delivered now is refused, so that its sender knows.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use futures::future::join_all;
use sip::endpoint::{Endpoint, OutgoingRequest, RequestId, Source};
use sip::registrar::Binding;
use sip::uri::user_of;
use sip::{Message, Method};

use crate::accounts::{Accounts, Reply, domain_of};
use crate::call::dial::{BranchResult, DialBranch, DialPlan, NextHop};
use crate::call::fork;
use crate::call::route::{RouteQuery, Target};
use crate::dispatch::{note_credentials, trunk_of};
use crate::hub::Hub;
use crate::routing::{Router, next_hop};
use crate::trunks::Trunk;

/// A phone, or a carrier's host, that does not answer after this long has not got it.
const DELIVERED_WITHIN: Duration = Duration::from_secs(10);

/// Passes a message on, or refuses it.
pub(crate) fn receive(
    hub: &Arc<Hub>,
    own_threads: &tokio::runtime::Handle,
    endpoint: &mut Endpoint,
    now: Instant,
    (request, message, source): (RequestId, Arc<Message>, Source),
) {
    let delivery = match prepare(hub, &message, source) {
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

/// Where a message goes.
enum Delivery {
    /// To all phones of a device at once, from another.
    Device(Vec<OutgoingTo>),
    /// To the hosts of trunks, one after another.
    Trunks(DialPlan),
}

/// One copy of a message, without its text.
struct OutgoingTo {
    uri: String,
    from: String,
    to: Option<String>,
    headers: Vec<(String, String)>,
    next_hop: NextHop,
    credentials: Option<sip::auth::Credentials>,
}

/// Who sends.
enum Sender {
    Device(String),
    Trunk(Arc<Trunk>),
}

fn prepare(hub: &Hub, message: &Message, source: Source) -> Result<Delivery, Reply> {
    let accounts = hub.accounts.as_ref().ok_or_else(|| Reply::refusal(405))?;
    let sender = sender(hub, accounts, message, &source)?;
    let called = match &sender {
        Sender::Trunk(trunk) => trunk.called(message),
        Sender::Device(_) => user_of(message.request_uri()),
    };
    if let Sender::Device(from) = &sender
        && let Some(device) = accounts.named(&called)
    {
        return to_device(hub, accounts, from, &device.user);
    }
    let router = hub.routing().router.ok_or_else(|| Reply::refusal(404))?;
    let from_uri = message.from_().map(|from| from.uri_text).unwrap_or_default();
    let query = RouteQuery {
        user: &called,
        request_uri: message.request_uri(),
        from_uri,
        source,
        trunk: if let Sender::Trunk(trunk) = &sender { Some(trunk.config.name.as_str()) } else { None },
        device: if let Sender::Device(device) = &sender { Some(device.as_str()) } else { None },
        request: Some(message),
        diverted: &[],
        verdict: None,
        at: SystemTime::now(),
    };
    by_route(&router, &query)
}

/// Who sends a message: a carrier from where its calls come, or whoever proves to be somebody of ours.
fn sender(hub: &Hub, accounts: &Accounts, message: &Message, source: &Source) -> Result<Sender, Reply> {
    let from = message.from_().map(|from| user_of(from.uri_text)).unwrap_or_default();
    if let Some(trunk) = trunk_of(hub, source, &from, message.request_uri()) {
        return Ok(Sender::Trunk(trunk));
    }
    let user = accounts.sender_of(message)?;
    if let Some(trunk) = hub.routing().trunks.of_user(&user) {
        return Ok(Sender::Trunk(trunk));
    }
    accounts.named(&user).map(|device| Sender::Device(device.user.clone())).ok_or_else(|| Reply::refusal(403))
}

/// As a call would go: to phones or by trunks. Nobody else reads.
fn by_route(router: &Router, query: &RouteQuery<'_>) -> Result<Delivery, Reply> {
    let target = router.by_rule(query).or_else(|| router.to_device(query));
    let plan = match target {
        Some(Ok(Target::Dial(plan))) => plan,
        Some(Err(refusal)) => return Err(Reply::refusal(refusal.code)),
        Some(Ok(_)) | None => return Err(Reply::refusal(404)),
    };
    let branches = || plan.groups.iter().flat_map(|group| &group.branches);
    if branches().any(|branch| branch.carrier.is_some()) {
        return Ok(Delivery::Trunks(DialPlan::clone(&plan)));
    }
    Ok(Delivery::Device(branches().map(OutgoingTo::of).collect()))
}

fn to_device(hub: &Hub, accounts: &Accounts, from: &str, to: &str) -> Result<Delivery, Reply> {
    let phones = accounts.bindings(to);
    if phones.is_empty() {
        return Err(Reply::refusal(480));
    }
    let copy = |phone: &Binding| {
        let address = |user: &str| format!("<sip:{user}@{}>", domain_of(phone, &hub.config));
        let route = Some(phone.path.join(", ")).filter(|path| !path.is_empty());
        OutgoingTo {
            uri: phone.uri.clone(),
            from: address(from),
            to: Some(address(to)),
            headers: route.map(|route| ("Route".to_owned(), route)).into_iter().collect(),
            next_hop: next_hop(phone),
            credentials: None,
        }
    };
    Ok(Delivery::Device(phones.iter().map(copy).collect()))
}

impl Delivery {
    async fn deliver(self, hub: &Hub, message: &Message) -> u16 {
        match self {
            // The best of their answers.
            Self::Device(phones) => {
                let codes = join_all(phones.into_iter().map(|phone| phone.send(hub, message))).await;
                let codes: Vec<u16> = codes.into_iter().map(|code| code.unwrap_or(480)).collect();
                codes.iter().copied().find(|code| code / 100 == 2).or(codes.into_iter().min()).unwrap_or(480)
            }
            Self::Trunks(plan) => {
                let mut last = BranchResult::Unreachable;
                for branch in plan.groups.iter().filter_map(|group| group.branches.first()) {
                    last = match by_trunk(branch, hub, message).await {
                        Ok(code) => return code,
                        Err(result) => result,
                    };
                    if !plan.goes_on_after(last) {
                        break;
                    }
                }
                fork::code_of(last)
            }
        }
    }
}

/// Sends it by one of a trunk's hosts, within the trunk's limits, which learns what became of it.
async fn by_trunk(branch: &DialBranch, hub: &Hub, message: &Message) -> Result<u16, BranchResult> {
    let place = branch.admit.as_ref().map(|admit| admit()).transpose().map_err(BranchResult::Refused)?;
    let taken = match OutgoingTo::of(branch).send(hub, message).await {
        Some(code @ 200..300) => Ok(code),
        Some(code) => Err(BranchResult::Refused(code)),
        None => Err(BranchResult::Unreachable),
    };
    drop(place);
    branch.report(taken.err().unwrap_or(BranchResult::Answered));
    taken
}

impl OutgoingTo {
    /// As a call would be sent there, but for what is of calls alone.
    fn of(branch: &DialBranch) -> Self {
        let kept = ["Route", "P-Asserted-Identity", "Privacy", "Max-Forwards"];
        let is_kept = |(name, _): &&(String, String)| kept.iter().any(|kept| kept.eq_ignore_ascii_case(name));
        Self {
            uri: branch.uri.clone(),
            from: branch.from.clone(),
            to: branch.to.clone(),
            headers: branch.headers.iter().filter(is_kept).cloned().collect(),
            next_hop: branch.next_hop.clone(),
            credentials: branch.credentials.clone(),
        }
    }

    /// The status of the answer; `None` where there is no way there.
    async fn send(self, hub: &Hub, message: &Message) -> Option<u16> {
        let (destination, local) = match self.next_hop {
            NextHop::Flow { destination, local } => (destination, local),
            NextHop::Resolve(uri) => match hub.sip.resolve(&uri).await {
                Ok(route) => (route.destination, route.local),
                Err(_) => return None,
            },
        };
        let mut request = OutgoingRequest::new(Method::Message, &self.uri, &self.from, destination, local);
        request.to = self.to;
        request.headers = self.headers;
        request.credentials = self.credentials;
        let content_type = message.header(sip::Name::ContentType).unwrap_or("text/plain").to_owned();
        request.body = Some((content_type, message.body_bytes()));
        request.patience = Some(DELIVERED_WITHIN);
        match hub.asker.ask(request).await {
            Ok((code, _)) => Some(code),
            Err(why) => {
                tracing::debug!("a message could not be sent: {why}");
                None
            }
        }
    }
}
