//! Legs that we place: the way is found, the offer made, the INVITE sent. None of it is waited for: what comes of it
//! arrives as mail.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, SystemTime};

use media::ReservedPort;
use sip::endpoint::OutgoingCall;
use sip::io::{Placed, Route};

use super::Driver;
use crate::call::dial::{DialBranch, DialPlan, NextHop};
use crate::call::leg::Leg;
use crate::call::sound::{self, Sound};
use crate::call::switchboard::Mail;
use crate::call::{LegNo, SignallingEnd, Stage, note_refused};
use crate::hub::Hub;
use crate::routing::identity::Caller;

/// Without any response for so long, another way to the same peer is tried, where there is one, or whoever is to be called next.
const NEXT_WAY_AFTER: Duration = Duration::from_secs(4);

impl Driver {
    pub(super) fn dial(&mut self, no: LegNo, plan: Arc<DialPlan>, group: usize, branch: usize) {
        let mut leg = Leg::callee(no, plan, group, branch);
        leg.device = leg.branch().and_then(|branch| branch.device.clone());
        if let Some(branch) = leg.branch() {
            let number = branch.carrier.as_ref().map(|(_, number)| number.clone());
            let to = branch.to.as_deref().and_then(|to| sip::NameAddr::parse(to).ok()?.uri().ok());
            leg.is = number.map(|number| Caller { number, ..Caller::default() });
            leg.domain = to.map(|to| to.authority());
        }
        let next_hop = leg.branch().map(|branch| branch.next_hop.clone());
        if let Some(branch) = leg.branch() {
            self.log.dialled(no, &branch.label, &branch.uri, SystemTime::now());
        }
        self.legs.push(leg);
        if self.hub.stopping.load(Ordering::Relaxed) {
            self.ended(no, SignallingEnd::NotPlaced("the server is stopping".into()));
            return;
        }
        if let Err(code) = self.lease(no) {
            let reason = "at a limit of ours".to_owned();
            self.ended(no, SignallingEnd::Rejected { code, reason });
            return;
        }
        match next_hop {
            Some(NextHop::Flow { destination, local }) => {
                let remote = destination.target.address().unwrap_or(local);
                self.routed(no, Ok(vec![Route { destination, remote, local }]));
            }
            Some(NextHop::Resolve(uri)) => {
                let (sip, mail) = (self.hub.sip.clone(), self.inbox.address.mail.clone());
                tokio::spawn(async move {
                    let routes = sip.routes(&uri).await.map_err(|fault| fault.to_string());
                    // A call that has ended meanwhile wants no way.
                    let _ = mail.send(Mail::Routed(no, routes)).await;
                });
            }
            None => self.ended(no, SignallingEnd::NotPlaced("the plan has no such branch".into())),
        }
    }

    /// Asks for leave to call.
    fn lease(&mut self, no: LegNo) -> Result<(), u16> {
        let Some(leg) = self.leg(no) else { return Ok(()) };
        let Some(admit) = leg.branch().and_then(|branch| branch.admit.clone()) else { return Ok(()) };
        leg.lease = admit()?;
        Ok(())
    }

    /// The ways are known. A browser's offer waits for servers to say how we are seen.
    pub(super) fn routed(&mut self, no: LegNo, routes: Result<Vec<Route>, String>) {
        let media = self.hub.media.clone();
        match routes {
            Ok(ways) if self.offer_to_come(no, &ways).is_some_and(|sound| sound.wants_preparation(&media)) => {
                let (call, mail) = (self.log.id().to_owned(), self.inbox.address.mail.clone());
                tokio::spawn(async move {
                    let port = sound::prepare(media, &call).await;
                    // A call that has ended meanwhile wants no port.
                    let _ = mail.send(Mail::Prepared(no, ways, port)).await;
                });
            }
            routes => self.set_off(no, routes, None),
        }
    }

    /// The sound of the offer that goes by the first way.
    fn offer_to_come(&mut self, no: LegNo, ways: &[Route]) -> Option<Sound> {
        let hub = Arc::clone(&self.hub);
        let branch = self.leg(no)?.branch()?;
        Some(new_sound(&hub, branch, ways.first()?))
    }

    /// Makes the offer and sends the INVITE by the first of the ways.
    pub(super) fn set_off(&mut self, no: LegNo, routes: Result<Vec<Route>, String>, port: Option<ReservedPort>) {
        if self.leg(no).is_none_or(|leg| leg.stage != Stage::Here) {
            return;
        }
        let sent = routes.and_then(|routes| {
            let mut ways = VecDeque::from(routes);
            let first = ways.pop_front().ok_or("no way leads there")?;
            if let Some(leg) = self.leg(no) {
                leg.ways = ways;
            }
            self.invite(no, first, port)
        });
        if let Err(why) = sent {
            self.ended(no, SignallingEnd::NotPlaced(why));
        }
    }

    /// Where nobody answered by one way, or it does not work, and there is another (RFC 3263 section 4.3): calls by that. Whether
    /// it did.
    pub(super) fn goes_another_way(&mut self, no: LegNo, end: &SignallingEnd) -> bool {
        let is_dead = match end {
            SignallingEnd::TimedOut | SignallingEnd::TransportFailed(_) => true,
            SignallingEnd::Rejected { code, .. } => *code == 503,
            _ => false,
        };
        let hub = Arc::clone(&self.hub);
        // One that answered without ringing is no longer called, whatever becomes of its dialog.
        let is_called = |leg: &&mut Leg| !leg.has_rung && !leg.is_up && leg.stage == Stage::Here;
        let Some(leg) = self.leg(no).filter(|leg| is_dead && is_called(leg)) else { return false };
        if let Some(way) = leg.way.take() {
            hub.sip.note_dead(&way);
        }
        let Some(next) = leg.ways.pop_front() else { return false };
        if let Some(sip) = leg.sip.take() {
            hub.switchboard.disconnect(sip);
        }
        (leg.sound, leg.refusal) = (None, None);
        match self.invite(no, next, None) {
            Ok(()) => true,
            Err(why) => {
                tracing::debug!("cannot call by another way: {why}");
                false
            }
        }
    }

    fn invite(&mut self, no: LegNo, route: Route, port: Option<ReservedPort>) -> Result<(), String> {
        let hub = Arc::clone(&self.hub);
        let (near, mode) = (self.worker(), sound::mode_of(&self.target));
        let recorded = if self.legs.len() == 1 { self.tape_from_start(no) } else { None };
        let patience = self.leg(no).filter(|leg| !leg.ways.is_empty() || leg.has_next()).map(|_| NEXT_WAY_AFTER);
        let peer = (route.remote.to_string(), route.destination.transport.uri_name());
        let Some(leg) = self.leg(no) else { return Ok(()) };
        let Some(branch) = leg.branch().cloned() else { return Ok(()) };
        let mut sound = new_sound(&hub, &branch, &route);
        sound.open_near(near);
        if let Some(port) = port {
            sound.use_port(port);
        }
        let offer = sound.offer(&hub.media, mode, recorded.clone())?;
        leg.sound = Some(sound);
        leg.is_placing = true;
        leg.way = Some(route.clone());
        leg.local = Some(route.local.ip());
        self.log.reached(no, &peer.0, peer.1);
        self.taped_from_start(no, recorded.as_ref());
        let outgoing = OutgoingCall {
            uri: branch.uri,
            from: branch.from,
            to: branch.to,
            destination: route.destination,
            local: route.local,
            headers: branch.headers,
            credentials: branch.credentials,
            offer,
            patience,
        };
        let address = self.inbox.address.clone();
        let board = Arc::clone(&hub);
        let id = self.log.id().to_owned();
        let placed = move |placed: Result<Placed, String>| {
            if let Ok(leg) = &placed {
                board.switchboard.connect(leg.call, &address);
                board.tracer.link(&id, &leg.sip_call_id);
            }
            // The queue holds more than a call's legs can fill before it reads.
            let _ = address.mail.try_send(Mail::Placed(no, placed));
        };
        hub.sip
            .place(outgoing, move |result| placed(result.map_err(|fault| fault.to_string())))
            .map_err(|f| f.to_string())
    }

    pub(super) fn placed(&mut self, no: LegNo, placed: Result<Placed, String>) {
        if let Ok(placed) = &placed {
            self.log.placed(no, &placed.sip_call_id);
        }
        let Some(leg) = self.leg(no) else { return };
        leg.is_placing = false;
        match placed {
            Ok(Placed { call: sip, .. }) => {
                leg.sip = Some(sip);
                let (stage, reason) = (leg.stage, leg.reason);
                if stage == Stage::Going {
                    note_refused(self.hub.sip.bye(sip, reason.map(str::to_owned)));
                }
                // It rings from here on, as far as others see.
                self.show();
            }
            Err(why) => self.ended(no, SignallingEnd::NotPlaced(why)),
        }
    }
}

/// The sound of a call to whoever this branch is, by this way.
fn new_sound(hub: &Hub, branch: &DialBranch, route: &Route) -> Sound {
    let mut sound = Sound::new(&hub.config, hub.sip.public(), route.local.ip(), route.remote.ip());
    if let Some(codecs) = &branch.codecs {
        sound.offer_only(codecs);
    }
    sound.protect(hub.routing().config.srtp_out(branch.srtp), route.destination.transport);
    sound
}
