//! Legs that we place: the way is found, the offer made, the INVITE sent. None of it is waited for: what comes of it
//! arrives as mail.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use sip::endpoint::OutgoingCall;
use sip::io::{Placed, Route};

use super::Driver;
use crate::call::dial::{DialPlan, NextHop};
use crate::call::leg::Leg;
use crate::call::sound::Sound;
use crate::call::switchboard::Mail;
use crate::call::{LegNo, SignallingEnd, Stage, note_refused};

impl Driver {
    pub(super) fn dial(&mut self, no: LegNo, plan: Arc<DialPlan>, group: usize, branch: usize) {
        let leg = Leg::callee(no, plan, group, branch);
        let next_hop = leg.branch().map(|branch| branch.next_hop.clone());
        if let Some(branch) = leg.branch() {
            self.log.dialled(no, &branch.label, &branch.uri);
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
                self.routed(no, Ok(Route { destination, remote, local }));
            }
            Some(NextHop::Resolve(uri)) => {
                let (sip, mail) = (self.hub.sip.clone(), self.inbox.address.mail.clone());
                tokio::spawn(async move {
                    let route = sip.resolve(&uri).await.map_err(|fault| fault.to_string());
                    // A call that has ended meanwhile wants no way.
                    let _ = mail.send(Mail::Routed(no, route)).await;
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

    /// The way is known: makes the offer and sends the INVITE.
    pub(super) fn routed(&mut self, no: LegNo, route: Result<Route, String>) {
        if self.leg(no).is_none_or(|leg| leg.stage != Stage::Here) {
            return;
        }
        if let Err(why) = route.and_then(|route| self.invite(no, route)) {
            self.ended(no, SignallingEnd::NotPlaced(why));
        }
    }

    fn invite(&mut self, no: LegNo, route: Route) -> Result<(), String> {
        let hub = Arc::clone(&self.hub);
        let near = self.worker();
        let recording = if self.legs.len() == 1 { self.recording.clone() } else { None };
        let peer = (route.remote.to_string(), route.destination.transport.uri_name());
        let Some(leg) = self.leg(no) else { return Ok(()) };
        let Some(branch) = leg.branch().cloned() else { return Ok(()) };
        let mut sound = Sound::new(&hub.config, route.local.ip(), route.remote.ip());
        if let Some(codecs) = &branch.codecs {
            sound.offer_only(codecs);
        }
        sound.open_near(near);
        let offer = sound.offer(&hub.media, media::LegMode::Talk, recording.clone())?;
        leg.sound = Some(sound);
        leg.recording.clone_from(&recording);
        leg.is_placing = true;
        self.log.reached(no, &peer.0, peer.1);
        self.log.set_recording(recording);
        let outgoing = OutgoingCall {
            uri: branch.uri,
            from: branch.from,
            to: branch.to,
            destination: route.destination,
            local: route.local,
            headers: branch.headers,
            credentials: branch.credentials,
            offer,
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
            }
            Err(why) => self.ended(no, SignallingEnd::NotPlaced(why)),
        }
    }
}
