//! A call that a user has placed from their own phone: it rings first, and shows whom they will speak with; once it is answered, that is who is
//! called, as if the phone had.

use std::sync::Arc;
use std::time::SystemTime;

use control::ports::{CallFault, StartCall};
use sip::endpoint::{FlowId, Source, Transport};

use super::{has_room, not_to_be_reached};
use crate::call::place::Place;
use crate::call::route::{Directory, RouteQuery, Target};
use crate::hub::Hub;
use crate::server;

/// Begins the call; its id.
pub(super) fn call(hub: &Arc<Hub>, order: &StartCall) -> Result<String, CallFault> {
    let from = order.from.as_deref().unwrap_or_default();
    let unknown = || CallFault::Field { field: "from", why: format!("there is no device called {from}") };
    let device = hub.accounts.as_ref().and_then(|accounts| accounts.named(from)).ok_or_else(unknown)?;
    let router = hub.routing().router.ok_or_else(unknown)?;
    let not_to = |why: String| CallFault::Field { field: "to", why };
    let elsewhere =
        || not_to(format!("{} is not an address of ours: name a device, a number, an agent or a place", order.to));
    let dialled = router.dialled_by(&device.user, &order.to).filter(|name| !name.is_empty()).ok_or_else(elsewhere)?;
    if dialled.eq_ignore_ascii_case(&device.user) {
        return Err(not_to(format!("{dialled} is the device that the call is from")));
    }
    let (called, shown) = router.shown_to_phone(&device.user, &dialled);
    let plan = router.phones_of(&device, &called, shown, Vec::new()).map_err(|refusal| {
        let why = not_to_be_reached(&device.user, refusal);
        CallFault::Field { field: "from", why: format!("{}: {why}", device.user) }
    })?;
    // As people write numbers: with spaces.
    let user = if dialled.contains(' ') { called.as_str() } else { dialled.as_str() };
    let (from_uri, request_uri) =
        [device.user.as_str(), user].map(|user| format!("sip:{user}@{}", hub.config.registrar.realm)).into();
    let query = RouteQuery {
        user,
        request_uri: &request_uri,
        from_uri: &from_uri,
        source: source(hub, &device.user),
        trunk: None,
        device: Some(&device.user),
        request: None,
        diverted: &[],
        verdict: None,
        at: SystemTime::now(),
    };
    let target = match hub.route(&query).map_err(|refusal| not_to(not_to_be_reached(&order.to, refusal)))? {
        // Who may do that is asked there.
        Target::Place(Place::Watch(..)) => {
            return Err(not_to("calls are supervised by /calls/{id}/supervision".to_owned()));
        }
        Target::Ring | Target::Bye => return Err(not_to(format!("{dialled} is for tests of phones alone"))),
        target => target,
    };
    has_room(hub)?;
    let parties = (from_uri.clone(), order.to.clone());
    Ok(server::place(hub, plan, target, parties, Some(device.user.clone()), order.traceparent.as_deref()))
}

/// Where the device's phone would call from, for rules that ask.
fn source(hub: &Hub, device: &str) -> Source {
    let bindings = hub.accounts.as_ref().map(|accounts| accounts.bindings(device)).unwrap_or_default();
    let known = bindings.into_iter().find_map(|binding| binding.source);
    let nowhere = ([127, 0, 0, 1], 0).into();
    known.unwrap_or(Source { transport: Transport::Udp, remote: nowhere, local: nowhere, flow: FlowId(0) })
}
