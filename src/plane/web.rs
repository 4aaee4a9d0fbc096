//! Calls from the dashboard: the page of somebody who is logged in is the phone.

use std::sync::Arc;
use std::time::Duration;

use agent::brain::Handover;
use axum::http::HeaderMap;
use control::ports::{CallFault, WebAnswer, WebCall, WebTarget};

use crate::call::Command;
use crate::call::place::Place;
use crate::call::route::Target;
use crate::hub::Hub;
use crate::random::letters;
use crate::web::whip::{self, Page};

/// A caller who is to be taken over waits in a slot by then.
const PARKED_WITHIN: Duration = Duration::from_secs(5);
const PARKED_TICK: Duration = Duration::from_millis(10);
/// Letters of the slot's name.
const SLOT: usize = 12;

/// Begins the call and waits for its answer.
pub(super) async fn call(hub: Arc<Hub>, order: WebCall) -> Result<WebAnswer, CallFault> {
    let target = match order.to {
        WebTarget::Name(name) => {
            super::has_room(&hub)?;
            super::target(&hub, &name)?
        }
        WebTarget::Supervise(call, how) => Target::Place(Place::Watch(call, super::watching(how))),
        WebTarget::TakeOver(call) => Target::Place(Place::Fetch(park(&hub, &call).await?)),
    };
    let page = Page { remote: order.remote, from: format!("sip:{}@{}", order.user, whip::PAGES_HOST) };
    let begun = whip::begin(&hub, &page, target.name(), &HeaderMap::new(), order.offer.into(), |_| Ok(target.clone()));
    let begun = begun.map_err(|problem| CallFault::Unfit(problem.detail()))?;
    let name = begun.name.clone();
    match begun.answered(&hub).await {
        Ok(answer) => Ok(WebAnswer { name, answer: String::from_utf8_lossy(&answer).into_owned() }),
        Err(404) => Err(CallFault::Gone),
        Err(code) => Err(CallFault::Unfit(format!("the call was not answered ({code}): its record says why"))),
    }
}

/// Takes the caller from whoever they speak with, and has them wait in a slot of their own; returns its name.
async fn park(hub: &Arc<Hub>, call: &str) -> Result<String, CallFault> {
    let slot = letters(SLOT).ok_or(CallFault::Busy)?.to_lowercase();
    if !hub.command(call, Command::Transfer(Handover::blind(format!("park-{slot}")), None)) {
        return Err(CallFault::Busy);
    }
    let parked = async {
        while hub.places.parked(&slot).is_none() {
            tokio::time::sleep(PARKED_TICK).await;
        }
    };
    tokio::time::timeout(PARKED_WITHIN, parked)
        .await
        .map_err(|_| CallFault::Unfit("the caller cannot be taken over now: nobody speaks with them yet".to_owned()))?;
    Ok(slot)
}
