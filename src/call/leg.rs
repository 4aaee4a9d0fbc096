//! One leg of a call, with what it needs of signalling and sound. It decides nothing.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;

use codecs::pcm::SampleRate;
use media::{Gauge, LegPort, WorkerId};
use sip::endpoint::CallId;
use sip::io::Route;

use super::dial::{BranchResult, DialBranch, DialPlan, Lease};
use super::held_line::HeldLine;
use super::line::CallLine;
use super::place::Errand;
use super::sound::Sound;
use crate::routing::connected::Who;
use crate::routing::identity::Caller;

use super::{LegNo, LegView, Role, SignallingEnd, Stage};

/// One leg of a call.
pub struct Leg {
    /// Its number.
    pub no: LegNo,
    /// Who called whom.
    pub role: Role,
    /// Its dialog; `None` until it is placed.
    pub sip: Option<CallId>,
    /// Its INVITE is on its way to signalling.
    pub is_placing: bool,
    /// How far it has come towards its end.
    pub stage: Stage,
    /// Why it was told to end, for a leg that is placed only after that.
    pub reason: Option<&'static str>,
    /// Its sound; `None` until the way to it is known.
    pub sound: Option<Sound>,
    /// Where its sound is, once it is open: the worker, and the rate there.
    pub place: Option<(WorkerId, SampleRate)>,
    /// Held for as long as the leg lives.
    pub lease: Option<Lease>,
    /// It was answered, and, where the answer is ours, that was acknowledged.
    pub is_up: bool,
    /// Its peer has put the call on hold (RFC 3264 section 8.4). One that wanted to hear nothing from the start holds nobody: it only speaks.
    pub holds: bool,
    /// What its peer says is heard by nobody.
    pub is_muted: bool,
    /// What it came from another call for.
    pub errand: Option<Errand>,
    /// Whom it supervises: a device, or the id of a call.
    pub watches: Option<String>,
    /// Our address as its peer knows it.
    pub local: Option<IpAddr>,
    /// The device of ours that its peer is.
    pub device: Option<String>,
    /// The user whose page its peer is.
    pub person: Option<String>,
    /// The trunk that it came by.
    pub trunk: Option<String>,
    /// Who its peer is, as far as calls by trunks and callers say; and who it has said since that it is (RFC 4916).
    pub is: Option<Caller>,
    /// See there.
    pub told: Option<Caller>,
    /// Whom its peer knows that it speaks with.
    pub speaks_with: Option<Who>,
    /// The domain that its peer knows us by.
    pub domain: Option<String>,
    /// Its dialog, for reports on a REFER that outlive it.
    pub referred: Option<CallId>,
    /// Why it was refused: what `Ended` does not say.
    pub refusal: Option<SignallingEnd>,
    /// The way it is being called by, and those left to try after it.
    pub way: Option<Route>,
    /// See there.
    pub ways: VecDeque<Route>,
    /// Somebody there has said something: it is no longer called by another way.
    pub has_rung: bool,
    /// Whom it called by which branch.
    branch: Option<(Arc<DialPlan>, usize, usize)>,
    /// Its sound's figures, whoever holds the line.
    pub gauge: Option<Gauge>,
    /// Its line, and who holds it.
    pub line: HeldLine,
}

impl Leg {
    /// The leg of a caller.
    #[must_use]
    pub fn caller(no: LegNo, sip: CallId, sound: Sound) -> Self {
        Self { sip: Some(sip), sound: Some(sound), ..Self::new(no, Role::Caller) }
    }

    /// A leg that is to be placed by this branch.
    #[must_use]
    pub fn callee(no: LegNo, plan: Arc<DialPlan>, group: usize, branch: usize) -> Self {
        Self { branch: Some((plan, group, branch)), ..Self::new(no, Role::Callee) }
    }

    /// The queue whose caller it is to be connected with, as long as it does not answer.
    #[must_use]
    pub fn queue(&self) -> Option<&Arc<str>> {
        self.branch.as_ref().filter(|_| !self.is_up).and_then(|(plan, ..)| plan.queue.as_ref())
    }

    /// The queue whose caller it was called for.
    #[must_use]
    pub fn is_of_queue(&self) -> bool {
        self.branch.as_ref().is_some_and(|(plan, ..)| plan.queue.is_some())
    }

    /// The trunk that it goes or came by.
    #[must_use]
    pub fn carrier(&self) -> Option<&str> {
        let called = || self.branch()?.carrier.as_ref().map(|(trunk, _)| trunk.as_str());
        self.trunk.as_deref().or_else(called)
    }

    fn new(no: LegNo, role: Role) -> Self {
        Self {
            no,
            role,
            sip: None,
            is_placing: false,
            stage: Stage::Here,
            reason: None,
            sound: None,
            place: None,
            lease: None,
            is_up: false,
            holds: false,
            is_muted: false,
            errand: None,
            watches: None,
            local: None,
            device: None,
            person: None,
            trunk: None,
            is: None,
            told: None,
            speaks_with: None,
            domain: None,
            referred: None,
            refusal: None,
            way: None,
            ways: VecDeque::new(),
            has_rung: false,
            branch: None,
            gauge: None,
            line: HeldLine::default(),
        }
    }

    /// What reducers know of it.
    #[must_use]
    pub fn view(&self) -> LegView {
        let Self { no, role, stage, is_up, holds, errand, .. } = *self;
        LegView { no, role, stage, is_up, holds, errand }
    }

    /// Whether its peer is this device of ours.
    #[must_use]
    pub fn is_device(&self, name: &str) -> bool {
        self.device.as_deref().is_some_and(|device| device.eq_ignore_ascii_case(name))
    }

    /// Whether it came to supervise.
    #[must_use]
    pub fn supervises(&self) -> bool {
        matches!(self.errand, Some(Errand::Watch(_)))
    }

    /// The branch it was placed by.
    #[must_use]
    pub fn branch(&self) -> Option<&DialBranch> {
        let (plan, group, branch) = self.branch.as_ref()?;
        plan.groups.get(*group)?.branches.get(*branch)
    }

    /// Whether others are called where this branch and those beside it come to nothing.
    #[must_use]
    pub fn has_next(&self) -> bool {
        let is_later = |(plan, group, _): &(Arc<DialPlan>, usize, usize)| {
            plan.groups.iter().skip(group + 1).any(|group| !group.branches.is_empty())
        };
        self.branch.as_ref().is_some_and(is_later)
    }

    /// Tells whoever made the plan what became of the branch.
    pub fn report(&self, result: BranchResult) {
        if let Some(branch) = self.branch() {
            branch.report(result);
        }
    }

    /// Takes over an open leg of the media engine.
    pub fn adopt(&mut self, port: LegPort) {
        self.place = Some((port.worker(), port.audio_rate()));
        self.gauge = Some(port.gauge());
        let (line, control) = CallLine::new(port);
        self.line.open(line, control);
    }
}
