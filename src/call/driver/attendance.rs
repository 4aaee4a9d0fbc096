//! Who is in a conference, for those who watch it (RFC 4575), and who speaks.

use std::time::SystemTime;

use sip::event::conference_info::{EndpointStatus, Member};

use super::Driver;
use crate::call::place::{Errand, Place};
use crate::call::{LegNo, Phase, Role, Stage};
use crate::watchers::Package;
use crate::web::WebLegs;
use sip::uri::user_of;

impl Driver {
    /// Tells those who watch this conference who is in it, where that has changed.
    pub(super) fn show_attendance(&mut self) {
        let is_conference = matches!(self.phase, Phase::Conference);
        if !is_conference && self.conference.is_none() {
            return;
        }
        self.settle_speakers();
        let members = if is_conference { self.attendance() } else { Vec::new() };
        if members == self.members {
            return;
        }
        if self.conference.is_none() {
            self.conference = self.hub.places.room_of(&self.inbox.address.call);
        }
        self.inbox.address.presence.set_members(&members);
        self.members = members;
        if let Some(name) = &self.conference {
            self.hub.watchers.changed(&self.hub, &Place::room_user(name), Package::Conference);
        }
    }

    /// Supervisors are not told of: nobody is to know that they listen.
    fn attendance(&mut self) -> Vec<Member> {
        let is_there =
            |leg: &&crate::call::leg::Leg| leg.stage == Stage::Here && !matches!(leg.errand, Some(Errand::Watch(_)));
        let here: Vec<(LegNo, Option<String>, bool, Role)> =
            self.legs.iter().filter(is_there).map(|leg| (leg.no, leg.device.clone(), leg.is_up, leg.role)).collect();
        let mut one = |(no, device, is_up, role): (LegNo, Option<String>, bool, Role)| {
            let (user, display) = self.named(no, device.as_deref());
            let status = match (is_up, self.mix.has(no)) {
                (false, _) => EndpointStatus::DialingIn,
                (true, true) => EndpointStatus::Connected,
                (true, false) => EndpointStatus::OnHold,
            };
            let endpoint = format!("{user};leg={}", no.0);
            Member { user, endpoint, display, status, has_dialed_in: role == Role::Caller }
        };
        here.into_iter().map(&mut one).collect()
    }

    /// Somebody speaks from here on, or does not.
    pub(super) fn speaks(&mut self, no: LegNo, speaks: bool) {
        if speaks == self.speakers.contains(&no) || (speaks && !self.mix.has(no)) {
            return;
        }
        if speaks {
            self.speakers.push(no);
        } else {
            self.speakers.retain(|speaker| *speaker != no);
        }
        self.log.speaks(no, speaks, SystemTime::now());
        if let Some(live) = &self.hub.live {
            let speakers: Vec<u16> = self.speakers.iter().map(|speaker| speaker.0).collect();
            live.speaker(self.log.id(), no.0, speaks, &speakers);
        }
    }

    /// Whoever has left, or holds, speaks no more.
    fn settle_speakers(&mut self) {
        let gone = self.speakers.iter().filter(|speaker| !self.mix.has(**speaker)).copied();
        for no in gone.collect::<Vec<_>>() {
            self.speaks(no, false);
        }
    }

    /// The address and the name of somebody in the conference.
    fn named(&mut self, no: LegNo, device: Option<&str>) -> (String, String) {
        if let Some(device) = device {
            let known = self.hub.accounts.as_ref().and_then(|accounts| accounts.named(device));
            let display = known.map(|device| device.display_name.clone()).unwrap_or_default();
            return (format!("sip:{device}@{}", self.hub.config.registrar.realm), display);
        }
        let uri = self.log.leg_record(no).uri;
        let host = sip::Uri::parse(&uri).ok().filter(|uri| !uri.host().is_empty()).map(|uri| uri.host().to_owned());
        let user = user_of(&uri);
        let is_named = !user.is_empty() && user != "anonymous" && user.bytes().all(|byte| byte.is_ascii_graphic());
        let known = host.filter(|_| is_named).map(|host| format!("sip:{user}@{host}"));
        // Each of those who do not want to be named is somebody else.
        (known.unwrap_or_else(|| format!("sip:anonymous-{}@anonymous.invalid", no.0)), String::new())
    }

    /// Tells a leg's peer that a conference is here.
    pub(super) fn focus(&mut self, no: LegNo) {
        let sip = self.leg(no).and_then(|leg| leg.sip).filter(|sip| !WebLegs::is_web(*sip));
        let Some(sip) = sip.filter(|_| matches!(self.phase, Phase::Conference)) else { return };
        let told = self.hub.sip.on_thread(move |endpoint, now| {
            if let Err(fault) = endpoint.set_focus(now, sip) {
                tracing::debug!("a call that came into a conference is over already: {fault}");
            }
        });
        crate::call::note_refused(told);
    }
}
