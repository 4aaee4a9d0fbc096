//! Whom each side of a call speaks with (RFC 4916): whoever stays while the other side changes is told, and what a carrier says of its side is
//! believed, shown, and passed on.

use std::sync::Arc;

use super::Driver;
use crate::call::leg::Leg;
use crate::call::{LegNo, Phase, Stage, note_refused};
use crate::routing::connected::{Shown, Who};
use crate::routing::identity::Caller;
use crate::web::WebLegs;

impl Driver {
    /// Where others are connected than before, both are told whom they speak with, if they do not know.
    pub(super) fn tell_connected(&mut self) {
        let Phase::Bridged(bridge) = &self.phase else { return };
        let Some((caller, callee)) = bridge.pair().filter(|pair| self.connected != Some(*pair)) else { return };
        self.connected = Some((caller, callee));
        for (no, other) in [(caller, callee), (callee, caller)] {
            self.tell_whom(no, other);
        }
    }

    fn tell_whom(&mut self, no: LegNo, other: LegNo) {
        let hub = Arc::clone(&self.hub);
        let is_new = self.is_new_to(no, other);
        let Some(who) = self.legs.iter().find(|leg| leg.no == other).and_then(who) else { return };
        let Some(router) = hub.routing().router else { return };
        let Some(leg) = self.leg(no) else { return };
        let is_news = match leg.speaks_with.replace(who.clone()) {
            Some(before) => before != who,
            None => is_new,
        };
        let Some(sip) = leg.sip.filter(|sip| is_news && leg.stage == Stage::Here && !WebLegs::is_web(*sip)) else {
            return;
        };
        let side = match (&leg.device, &leg.domain, leg.carrier()) {
            (Some(_), Some(domain), _) => Shown::Phone(domain),
            (None, _, Some(trunk)) => Shown::Trunk(trunk),
            _ => return,
        };
        if let Some((from, headers)) = router.shown(&who, side) {
            note_refused(hub.sip.identify(sip, from, headers));
        }
    }

    /// Whether the one who is connected for the first time is so with somebody else than they called, or than they saw calling: one that came
    /// from another call, took a call of a queue's, or was called by an agent.
    fn is_new_to(&self, no: LegNo, other: LegNo) -> bool {
        let moved = |leg: &Leg| leg.errand.is_some();
        let (mut has_moved, mut is_of_queue) = (false, false);
        for leg in self.legs.iter().filter(|leg| leg.no == no || leg.no == other) {
            has_moved |= moved(leg);
            is_of_queue |= leg.no == other && leg.is_of_queue();
        }
        has_moved || is_of_queue || (no == LegNo::FIRST && self.target.converses())
    }

    /// A carrier says who is at its end now; a phone of ours is whoever it has proved to be.
    pub(super) fn identified(&mut self, no: LegNo, message: &sip::Message) {
        let router = self.hub.routing().router;
        let Some(leg) = self.leg(no) else { return };
        let told = leg.carrier().and_then(|trunk| router?.told_by(trunk, message));
        let Some(told) = told.filter(|told| !is_known(leg, told)) else { return };
        leg.told = Some(told);
        self.connected = None;
        self.tell_connected();
        self.show();
    }

    /// Who is at the other end now, where a carrier has said so within the call.
    pub(super) fn told_party(&self) -> Option<String> {
        let here = self.legs.iter().filter(|leg| leg.stage == Stage::Here);
        let told = here.filter_map(|leg| leg.told.as_ref()).next_back()?;
        Some(if told.is_private { "anonymous".to_owned() } else { told.number.clone() })
    }
}

fn is_known(leg: &Leg, told: &Caller) -> bool {
    match (&leg.told, &leg.is) {
        (Some(before), _) => before == told,
        // Of whom we called there is no name.
        (None, Some(is)) => (&is.number, is.is_private) == (&told.number, told.is_private),
        (None, None) => false,
    }
}

/// Who a leg's peer is.
fn who(leg: &Leg) -> Option<Who> {
    let caller = leg.told.as_ref().or(leg.is.as_ref());
    match &leg.device {
        Some(device) => {
            let is_private = caller.is_some_and(|caller| caller.is_private);
            Some(Who { device: Some(device.clone()), caller: Caller { is_private, ..Caller::default() } })
        }
        None => Some(Who { device: None, caller: caller?.clone() }),
    }
}
