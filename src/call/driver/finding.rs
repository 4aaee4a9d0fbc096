//! How somebody is reached whom a call is to be connected with, and on whose behalf that is asked.

use std::future::{Future, pending};
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use futures::FutureExt as _;
use sip::diversion::DiversionReason;

use super::Driver;
use crate::call::dial::Party;
use crate::call::inbound::Refusal;
use crate::call::route::Target;
use crate::call::{Found, Input, LegNo, NotFound};
use crate::routing::identity::Caller;

/// An agent that is to have a caller and is not loaded by then does not get them.
const LOADED_WITHIN: Duration = Duration::from_secs(20);

/// Somebody who is found in a moment.
pub(super) type Finding = Pin<Box<dyn Future<Output = Result<Found, NotFound>> + Send>>;

/// Who is found, once they are.
pub(super) async fn next_found(finding: &mut Option<Finding>) -> Result<Found, NotFound> {
    match finding {
        Some(found) => {
            let found = found.await;
            *finding = None;
            found
        }
        None => pending().await,
    }
}

impl Driver {
    /// Asks how somebody is reached, on behalf of a device, or of the server: what an agent may ask for, its definition says.
    pub(super) fn find(&mut self, uri: &str, device: Option<String>) {
        let diverted = self.history.sent_on(device.as_deref(), DiversionReason::Deflection);
        let found =
            self.found(uri, &Party { diverted, device, ..self.server() }, None).map_err(|NotFound { code, why }| {
                tracing::warn!(call = %self.log.id(), "call {}: it cannot be passed on: {code} {why}", self.log.id());
                // Whoever is not to be called is said so; how the server is set up is nothing to agents.
                let why = match (code, why.is_empty()) {
                    (403, true) => "they are not to be called".to_owned(),
                    (403, false) => why,
                    _ => "nobody is to be reached there".to_owned(),
                };
                NotFound { code, why }
            });
        self.tell_found(found);
    }

    /// An agent is found once it is loaded; whatever was looked for before is not.
    fn tell_found(&mut self, found: Result<Found, NotFound>) {
        self.finding = None;
        let Ok(Found::Converse(Target::Agent(name))) = found else {
            self.queue.push(Input::Found(found));
            return;
        };
        let (agents, id) = (self.hub.agents.clone(), self.log.id().to_owned());
        let mut finding: Finding = Box::pin(async move {
            let why = match tokio::time::timeout(LOADED_WITHIN, agents.ready(&name)).await {
                Ok(Ok(_)) => return Ok(Found::Converse(Target::Agent(name))),
                Ok(Err(why)) => why,
                Err(_) => format!("it is not loaded within {} s", LOADED_WITHIN.as_secs()),
            };
            tracing::error!(call = %id, "call {id}: agent {name} does not get its caller: {why}");
            Err(NotFound { code: 480, why: "they cannot be reached now".to_owned() })
        });
        match (&mut finding).now_or_never() {
            Some(found) => self.queue.push(Input::Found(found)),
            None => {
                self.finding = Some(finding);
                self.queue.push(Input::Finding);
            }
        }
    }

    pub(super) fn find_or_pass_back(&mut self, uri: &str) {
        let trunk = self.legs.first().and_then(|leg| leg.trunk.as_deref());
        let back = trunk.and_then(|trunk| self.hub.routing().router?.passed_back(trunk, uri));
        match back.filter(|_| self.hub.dialer().place(uri, &self.server()).is_none()) {
            Some(to) => self.queue.push(Input::Found(Ok(Found::Refer(to)))),
            None => self.find(uri, None),
        }
    }

    /// The same on behalf of a leg's peer: whom its device may call, it may have others connected with.
    pub(super) fn find_for(&mut self, no: LegNo, uri: &str, replaces: Option<String>) {
        let is_callers = self.log.is_callers(no);
        let from = if is_callers { self.log.to() } else { self.log.from() }.to_owned();
        let (device, local) = self.leg(no).map(|leg| (leg.device.clone(), leg.local)).unwrap_or_default();
        let diverted = self.history.sent_on(device.as_deref(), DiversionReason::Deflection);
        // What speaks for the caller goes on with the caller alone.
        let signed = if is_callers { Vec::new() } else { self.history.signed.clone() };
        let seen_inside = if is_callers { None } else { self.history.caller.clone() };
        let party = Party { uri: from, device, local, diverted, signed, seen_inside, ..Party::default() };
        let found = self.found(uri, &party, replaces);
        self.tell_found(found);
    }

    pub(super) fn call_back(&mut self, no: LegNo) {
        let device = self.leg(no).and_then(|leg| leg.device.clone());
        let found = match device {
            Some(device) => self.found(&device, &self.server(), None),
            None => Err(NotFound { code: 404, why: "no device of ours put the caller there".to_owned() }),
        };
        self.queue.push(Input::Found(found));
    }

    /// The server itself: outside it shows the number that was called, phones of ours see whom they are to speak with.
    pub(super) fn server(&self) -> Party {
        let is_first = self.parties().next().is_none_or(|leg| self.log.is_callers(leg.no));
        let is_caller = self.log.is_users_alone() || is_first == self.log.begins_with_caller();
        let seen_inside = match is_caller {
            // Of a page's call there is no more than its address.
            true => self.history.caller.clone().or_else(|| Some(Caller::of(self.log.from()))),
            false => Some(Caller::of(self.log.to())),
        };
        Party { uri: self.log.to().to_owned(), seen_inside, ..Party::default() }
    }

    fn found(&self, target: &str, party: &Party, replaces: Option<String>) -> Result<Found, NotFound> {
        if let Some(place) = self.hub.dialer().place(target, party) {
            return Ok(Found::Place(place));
        }
        // Whom another leg of somebody's is to be replaced with is nobody to talk with.
        if replaces.is_none()
            && let Some(target) = self.hub.converser(target, party)
        {
            return Ok(Found::Converse(target));
        }
        let mut plan = self
            .hub
            .dialer()
            .plan(target, party)
            .map_err(|Refusal { code, end }| NotFound { code, why: end.detail })?;
        for branch in plan.groups.iter_mut().flat_map(|group| &mut group.branches) {
            branch.headers.extend(replaces.clone().map(|value| ("Replaces".to_owned(), value)));
        }
        Ok(Found::Plan(Arc::new(plan)))
    }
}
