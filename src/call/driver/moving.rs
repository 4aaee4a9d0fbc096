//! Legs that go from one call to another: into a place of the server's own, or in the stead of another leg.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::SystemTime;

use control::ports::Queued;
use control::time::Moment;
use sip::endpoint::{CallId, Event};

use super::{Driver, Mail};
use crate::call::cost::TrunkLeg;
use crate::call::leg::Leg;
use crate::call::log::Attending;
use crate::call::place::{Entry, Errand, Place, Watching};
use crate::call::record::LegRecord;
use crate::call::switchboard::{DeviceLeg, Doing};
use crate::call::{Action, Input, LegNo, Phase, Role, Stage, note_refused};
use crate::watchers::Package;

/// A leg on its way to another call.
pub struct Arrival {
    /// The leg.
    pub leg: Leg,
    /// What it comes for.
    pub errand: Errand<CallId>,
    /// What is known of it for the record.
    pub record: LegRecord,
    /// What it goes on being charged by, where it is by a trunk.
    pub by_trunk: Option<TrunkLeg>,
    /// The dialog whose REFER it comes by: whoever takes it in reports there.
    pub reports: Option<CallId>,
    /// What signalling told of it that its former call has not looked at.
    pub pending: Vec<Event>,
}

impl std::fmt::Debug for Arrival {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Arrival").field("errand", &self.errand).finish_non_exhaustive()
    }
}

impl Driver {
    /// Sends a leg to a place; in the place of another leg because this one's peer wants it (REFER).
    pub(super) fn enter(&mut self, no: LegNo, place: Place, referrer: Option<LegNo>) {
        let entry = self.entry(no, &place, referrer);
        self.queue.push(Input::Entered(no, place, entry));
    }

    fn entry(&mut self, no: LegNo, place: &Place, referrer: Option<LegNo>) -> Entry {
        let hub = Arc::clone(&self.hub);
        let own = Arc::clone(&self.inbox.address.call);
        let doing = |device: &str, doing| hub.switchboard.call_of_device(device, doing);
        let (found, errand, missing) = match place {
            Place::Room(name) => {
                let held = hub.places.room(name, &own);
                if held == own {
                    return Entry::Opened;
                }
                (Some(held), Errand::Join, 480)
            }
            Place::Park(slot) if hub.places.park(slot, &own) => return Entry::Opened,
            Place::Park(_) => return Entry::Nothing(486),
            Place::Queue(queue) => return self.queue_entry(queue),
            Place::Fetch(slot) => (hub.places.parked(slot), Errand::Fetch, 404),
            Place::Pickup(device) => (doing(device, Doing::Rings), Errand::Pickup, 404),
            Place::Watch(who, how) => {
                let call = hub.switchboard.address(who).map(|address| address.call);
                (call.or_else(|| doing(who, Doing::Talks)), Errand::Watch(*how), 404)
            }
            Place::Replace(leg) => (hub.switchboard.call_of(*leg), Errand::Replace(*leg), 481),
        };
        match found {
            Some(call) if call != own => {
                if let (Place::Watch(who, _), Some(leg)) = (place, self.leg(no)) {
                    leg.watches = Some(who.clone());
                }
                self.give(no, &call, errand, referrer).unwrap_or(Entry::Nothing(missing))
            }
            _ => Entry::Nothing(missing),
        }
    }

    /// Gives a leg to another call; `None` where that cannot take it.
    fn give(&mut self, no: LegNo, call: &str, errand: Errand<CallId>, referrer: Option<LegNo>) -> Option<Entry> {
        let hub = Arc::clone(&self.hub);
        let to = hub.switchboard.address(call)?;
        if matches!(errand, Errand::Replace(_)) && !to.presence.takes_over.load(Ordering::Relaxed) {
            return None;
        }
        let sip = self.leg(no).filter(|leg| leg.stage == Stage::Here)?.sip?;
        // Those who speak there already are not waited for: it is reported here, before the one who asked is hung up. Otherwise it is taken up
        // before the other call can report.
        let is = |flag: &AtomicBool| flag.load(Ordering::Relaxed);
        let speaks = is(&to.presence.holds) || is(&to.presence.passes_on) || hub.places.room_of(call).is_some();
        let reports = referrer.and_then(|referrer| {
            self.perform(Action::AcceptRefer(referrer));
            self.leg(referrer)?.referred.filter(|_| !speaks)
        });
        let now = SystemTime::now();
        let (record, by_trunk) = (self.log.leg_record(no), self.log.handed_over(no, now));
        let at = self.legs.iter().position(|leg| leg.no == no)?;
        self.mix.part(no);
        self.untape_leg(no);
        let leg = self.legs.remove(at);
        hub.switchboard.connect(sip, &to);
        // What signalling told of it before this point lies here.
        let mut pending = Vec::new();
        while let Ok(mail) = self.inbox.mail.try_recv() {
            match mail {
                Mail::Event(event) if event.call() == Some(sip) => pending.push(event),
                other => self.postponed.push_back(other),
            }
        }
        let arrival = Arrival { leg, errand, record, by_trunk, reports, pending };
        let Err(refused) = to.mail.try_send(Mail::Adopt(Box::new(arrival))) else {
            if let Some(referrer) = referrer.filter(|_| speaks) {
                self.perform(Action::NotifyRefer(referrer, 200));
            }
            hub.tracer.link(&to.call, &self.log.sip_call_id(no));
            self.log.left(no, now);
            return Some(Entry::Given(to.call));
        };
        // It ends just now, or cannot keep up: the leg stays here.
        if let Some(referrer) = referrer {
            self.perform(Action::NotifyRefer(referrer, 480));
        }
        if let Mail::Adopt(arrival) = refused.into_inner() {
            hub.switchboard.connect(sip, &self.inbox.address);
            self.legs.insert(at.min(self.legs.len()), arrival.leg);
            self.settle_tape(no);
            self.postponed.extend(arrival.pending.into_iter().map(Mail::Event));
        }
        None
    }

    /// Takes in a leg of another call.
    pub(super) fn adopt_leg(&mut self, arrival: Arrival) {
        let Arrival { mut leg, errand, record, by_trunk, reports, pending } = arrival;
        let no = self.next_adopted();
        // Nobody is of the number that it gets itself: whoever was to be replaced has gone meanwhile.
        let errand = errand.map(|sip| self.legs.iter().find(|leg| leg.sip == Some(sip)).map_or(no, |leg| leg.no));
        leg.no = no;
        leg.errand = Some(errand);
        leg.line.forget_left();
        let sip = leg.sip;
        self.legs.push(leg);
        if let (Errand::Replace(replaced), Some(reports)) = (errand, reports)
            && let Some(leg) = self.leg(replaced)
        {
            leg.referred = Some(reports);
        }
        self.log.adopted(no, record, by_trunk);
        self.queue.push(Input::Adopted(no, errand));
        let (ours, others) =
            std::mem::take(&mut self.strays).into_iter().partition(|event: &Event| event.call() == sip);
        self.strays = others;
        for event in pending.into_iter().chain::<Vec<Event>>(ours) {
            self.event_of(event);
        }
    }

    /// The number of a leg that comes from another call.
    fn next_adopted(&self) -> LegNo {
        let number = self.legs.iter().map(|leg| leg.no.next()).max().unwrap_or(LegNo::ADOPTED);
        number.max(LegNo::ADOPTED)
    }

    /// Legs that came too late are let go.
    pub(super) fn turn_away_arrivals(&mut self) {
        self.inbox.mail.close();
        let mut unread = std::mem::take(&mut self.postponed);
        unread.extend(std::iter::from_fn(|| self.inbox.mail.try_recv().ok()));
        for mail in unread {
            let Mail::Adopt(mut arrival) = mail else { continue };
            arrival.leg.line.close();
            if arrival.by_trunk.is_some() {
                // Its carrier charges for it up to here.
                let (no, now) = (self.next_adopted(), SystemTime::now());
                self.log.adopted(no, arrival.record, arrival.by_trunk);
                self.log.left(no, now);
            }
            if let Some(call) = arrival.reports {
                note_refused(self.hub.sip.notify_refer(call, 480, ""));
            }
            let Some(sip) = arrival.leg.sip else { continue };
            self.hub.switchboard.disconnect(sip);
            note_refused(match arrival.leg.is_up {
                true => self.hub.signal().bye(sip, None),
                false => self.hub.signal().reject(sip, 480, None),
            });
        }
    }

    /// Tells others what the devices in this call do, and whether it takes legs in.
    pub(super) fn show(&mut self) {
        let takes_over = match self.phase {
            Phase::Talking => self.target.converses(),
            Phase::Bridged(_) | Phase::Dialing(_) | Phase::Queued(_) | Phase::Conference => true,
            _ => false,
        };
        let presence = &self.inbox.address.presence;
        presence.takes_over.store(takes_over, Ordering::Relaxed);
        presence.passes_on.store(self.phase.passes_on(&self.target), Ordering::Relaxed);
        presence.holds.store(self.phase.holds(), Ordering::Relaxed);
        let is_place = matches!(self.phase, Phase::Conference | Phase::Parked(_));
        if std::mem::replace(&mut self.is_place, is_place) && !is_place {
            self.hub.places.leave(&self.inbox.address.call);
        }
        self.show_attendance();
        let here = self.legs.iter().filter(|leg| leg.stage == Stage::Here);
        let doing = here.filter_map(|leg| {
            let doing = if leg.is_up { Doing::Talks } else { Doing::Rings };
            let is_caller = leg.role == Role::Caller;
            let has_rung = is_caller || leg.has_rung || leg.is_up;
            Some(DeviceLeg { device: leg.device.clone()?, doing, leg: leg.sip?, is_caller, has_rung })
        });
        let doing: Vec<DeviceLeg> = doing.collect();
        self.show_live(&doing);
        if doing == self.shown {
            return;
        }
        self.inbox.address.presence.set(&doing);
        let before = std::mem::replace(&mut self.shown, doing);
        for leg in before.iter().filter(|leg| leg.doing == Doing::Talks) {
            if !self.shown.iter().any(|now| now.device == leg.device) {
                self.hub.queues.spoke(&leg.device);
            }
        }
        for leg in before.iter().filter(|leg| !self.shown.contains(leg)) {
            self.hub.watchers.changed(&self.hub, &leg.device, Package::Dialogs);
        }
        let is_new = |leg: &&DeviceLeg| !before.iter().any(|old| old == *leg || old.device == leg.device);
        for leg in self.shown.iter().filter(is_new) {
            self.hub.watchers.changed(&self.hub, &leg.device, Package::Dialogs);
        }
    }

    /// Tells those who watch calls how far this one has come.
    fn show_live(&mut self, legs: &[DeviceLeg]) {
        let Some(live) = &self.hub.live else { return };
        let is_over = matches!(self.phase, Phase::Over(_));
        let is_ending = matches!(self.phase, Phase::Ending(_));
        let devices = sorted(legs.iter().map(|leg| leg.device.clone()).collect());
        let line = if let Phase::Queued(queueing) = &self.phase { Some(&queueing.queue().name) } else { None };
        let queue = waits(&mut self.queued, line, &self.legs, is_over || is_ending);
        let attending = Attending {
            devices,
            people: self.people(),
            connected: self.phase.holds(),
            party: self.told_party(),
            queue,
        };
        let agent = self.log.agent().map(str::to_owned);
        let now = (is_ending, self.log.is_answered(), agent, attending.clone());
        if is_over || self.told.as_ref() == Some(&now) {
            return;
        }
        self.told = Some(now);
        live.show(self.log.live(is_ending, attending));
    }

    /// Users who speak in it from a page of theirs. That somebody listens nobody is to know.
    fn people(&self) -> Vec<String> {
        let speaks = |leg: &&Leg| {
            let watches = matches!(leg.errand, Some(Errand::Watch(Watching::Listen | Watching::Whisper)));
            leg.stage == Stage::Here && !watches
        };
        sorted(self.legs.iter().filter(speaks).filter_map(|leg| leg.person.clone()).collect())
    }

    /// A leg is up from here on.
    pub(super) fn note_up(&mut self, no: LegNo) {
        if let Some(leg) = self.leg(no) {
            leg.is_up = true;
        }
        self.log.answered(no, SystemTime::now());
    }
}

/// The queue that a caller waits in: while they stand in `line` or one of its phones is called, and until somebody answers.
fn waits(
    queued: &mut Option<(Arc<str>, SystemTime)>,
    line: Option<&Arc<str>>,
    legs: &[Leg],
    is_over: bool,
) -> Option<Box<Queued>> {
    let called = legs.iter().filter(|leg| leg.stage == Stage::Here);
    let called: Vec<(&Arc<str>, &Leg)> = called.filter_map(|leg| leg.queue().map(|queue| (queue, leg))).collect();
    let name = line.or(called.first().map(|(name, _)| *name)).cloned();
    match (name, &queued) {
        (Some(name), Some((before, _))) if name == *before => {}
        (Some(name), _) => *queued = Some((name, SystemTime::now())),
        // Between one phone and the next nobody is called for a moment.
        (None, Some(_)) if !is_over && legs.iter().all(|leg| leg.role == Role::Caller || !leg.is_up) => {}
        (None, _) => *queued = None,
    }
    let (name, since) = queued.as_ref().filter(|_| !is_over)?;
    let ringing = called.iter().filter_map(|(_, leg)| leg.device.clone().filter(|_| leg.has_rung));
    let since = since.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_millis());
    let since = Moment(i64::try_from(since).unwrap_or(i64::MAX));
    Some(Box::new(Queued { name: name.to_string(), since, ringing: sorted(ringing.collect()) }))
}

fn sorted(mut names: Vec<String>) -> Vec<String> {
    names.sort_unstable();
    names.dedup();
    names
}
