//! One leg of a call, with what it needs of signalling and sound. It decides nothing.
//!
//! A leg's line is held by one occupant at a time: an agent, an application, or nobody in particular ([`app::idle`]). Who
//! is to have it next gets it as soon as the present one has let go.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::sync::Arc;
use std::task::{Context, Poll};

use codecs::pcm::SampleRate;
use media::{Gauge, LegPort, LegStats, WorkerId};
use sip::endpoint::CallId;
use sip::io::Route;

use super::app::{self, Conversation, Outcome, Resume};
use super::dial::{BranchResult, DialBranch, DialPlan, Lease};
use super::line::{CallLine, LineControl, LineNote, LineOrder};
use super::log::Providers;
use super::place::Errand;
use super::sound::Sound;
use super::{ConversationEnd, LegNo, LegView, Role, SignallingEnd, Stage};

/// Takes a line and holds it until it is closed or released.
pub type Occupation = Box<dyn FnOnce(CallLine) -> Conversation + Send>;

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
    /// The agent's conversation while the call is passed on.
    pub resume: Option<Resume>,
    /// Whoever is letting go of the line gets it back at once, told this.
    returns: Option<String>,
    /// Its sound's figures, whoever holds the line.
    pub gauge: Option<Gauge>,
    control: Option<LineControl>,
    line: Option<CallLine>,
    conversation: Option<Conversation>,
    next: Option<Occupation>,
}

/// What a leg's line brings.
#[derive(Debug)]
pub enum Happening {
    /// The line tells something.
    Note(LineNote),
    /// Whoever held the line gave it back, of their own accord.
    Conversed(Box<Outcome>),
    /// Whoever held the line had to let go of it: who recognised, thought and spoke there.
    LetGo(Option<Providers>),
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
            is_muted: false,
            errand: None,
            watches: None,
            local: None,
            device: None,
            person: None,
            trunk: None,
            referred: None,
            refusal: None,
            way: None,
            ways: VecDeque::new(),
            has_rung: false,
            branch: None,
            resume: None,
            returns: None,
            gauge: None,
            control: None,
            line: None,
            conversation: None,
            next: None,
        }
    }

    /// What reducers know of it.
    #[must_use]
    pub fn view(&self) -> LegView {
        LegView { no: self.no, role: self.role, stage: self.stage, is_up: self.is_up, errand: self.errand }
    }

    /// Whether its peer is this device of ours.
    #[must_use]
    pub fn is_device(&self, name: &str) -> bool {
        self.device.as_deref().is_some_and(|device| device.eq_ignore_ascii_case(name))
    }

    /// The branch it was placed by.
    #[must_use]
    pub fn branch(&self) -> Option<&DialBranch> {
        let (plan, group, branch) = self.branch.as_ref()?;
        plan.groups.get(*group)?.branches.get(*branch)
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
        self.control = Some(control);
        match self.next.take() {
            Some(occupation) => self.conversation = Some(occupation(line)),
            None => self.line = Some(line),
        }
    }

    /// Sees to it that somebody obeys orders: nobody in particular, where the line is free.
    pub fn attend(&mut self) {
        if self.line.is_some() {
            self.occupy(Box::new(app::idle));
        }
    }

    /// Gives the line to somebody else: at once where nobody holds it, otherwise as soon as it is let go.
    pub fn occupy(&mut self, occupation: Occupation) {
        if let Some(line) = self.line.take() {
            self.conversation = Some(occupation(line));
            return;
        }
        if self.conversation.is_some() && self.next.is_none() {
            self.order(LineOrder::Release);
        }
        self.next = Some(occupation);
    }

    /// Gives the line back to the conversation that was left, told `why`; false where there is none.
    pub fn return_to_conversation(&mut self, why: String) -> bool {
        if let Some(Resume(resume)) = self.resume.take() {
            self.occupy(Box::new(move |line| resume(why, line)));
            return true;
        }
        // It was told to let go, and has not yet.
        let is_leaving = self.conversation.is_some() && self.next.is_some();
        self.returns = is_leaving.then_some(why);
        is_leaving
    }

    /// Orders something of the line; false where there is none, or its queue is full.
    pub fn order(&self, order: LineOrder) -> bool {
        self.control.as_ref().is_some_and(|control| control.order(order))
    }

    /// Closes the leg's media.
    pub fn close_media(&mut self) {
        self.next = None;
        match &mut self.line {
            Some(line) => {
                line.close();
            }
            None => {
                self.order(LineOrder::Close);
            }
        }
    }

    /// The conversation that still holds the line, to be waited for.
    pub fn take_conversation(&mut self) -> Option<Conversation> {
        self.conversation.take()
    }

    /// Takes the line back from whoever held it.
    pub fn take_back(&mut self, line: CallLine) {
        self.conversation = None;
        self.line = Some(line);
    }

    /// The media figures; `None` while somebody holds the line, or where there never was one.
    #[must_use]
    pub fn stats(&self) -> Option<LegStats> {
        self.line.as_ref().map(CallLine::stats)
    }

    /// The line goes to whoever is to have it next, or back to whoever had it.
    fn let_go(&mut self, mut outcome: Outcome, next: Occupation) -> Happening {
        match (self.returns.take(), outcome.resume.take()) {
            (Some(why), Some(Resume(resume))) => self.conversation = Some(resume(why, outcome.line)),
            (Some(why), None) => {
                outcome.end = nobody_to_return_to(&why);
                return Happening::Conversed(Box::new(outcome));
            }
            (None, resume) => {
                self.resume = resume.or(self.resume.take());
                self.conversation = Some(next(outcome.line));
            }
        }
        Happening::LetGo(outcome.providers)
    }

    /// The next thing that the leg's line brings.
    pub fn poll_next(&mut self, cx: &mut Context<'_>) -> Poll<Happening> {
        if let Some(conversation) = &mut self.conversation
            && let Poll::Ready(outcome) = conversation.as_mut().poll(cx)
        {
            self.conversation = None;
            return Poll::Ready(match self.next.take() {
                Some(occupation) => self.let_go(outcome, occupation),
                None => Happening::Conversed(Box::new(outcome)),
            });
        }
        let Some(control) = &mut self.control else { return Poll::Pending };
        match control.poll_note(cx) {
            Poll::Ready(Some(note)) => Poll::Ready(Happening::Note(note)),
            Poll::Ready(None) => {
                self.control = None;
                Poll::Pending
            }
            Poll::Pending => Poll::Pending,
        }
    }
}

/// The end of a call whose caller comes back to somebody that does not go on.
#[must_use]
pub fn nobody_to_return_to(why: &str) -> ConversationEnd {
    ConversationEnd::Failed { what: format!("nobody to return the caller to: {why}"), upstream: false }
}
