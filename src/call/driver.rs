//! Runs one call: turns what signalling, lines, conversations and timers bring into inputs, steps the phase's reducer,
//! and performs its actions. It decides nothing itself.
//!
//! | module | does |
//! | --- | --- |
//! | [`perform`] | actions |
//! | [`mix`] | the call's room |
//! | [`attendance`] | who is said to be in a conference, and to speak |
//! | [`hearing`] | what lines and conversations tell |
//! | [`finding`] | how somebody is reached |
//! | [`finish`] | the end: the record |
//! | [`fault`] | a panic: the end of this call alone |
//! | [`moving`] | legs that go to other calls, or come from them |
//! | [`signalling`] | events into inputs |
//! | [`placing`] | legs that we place |
//! | [`waiting`] | a caller's wait in a queue |
//! | [`tape`] | the recording |

mod attendance;
mod connected;
mod fault;
mod finding;
mod finish;
mod hearing;
mod mix;
mod moving;
mod perform;
mod placing;
mod signalling;
mod tape;
mod waiting;

use std::collections::VecDeque;
use std::future::{pending, poll_fn};
use std::path::PathBuf;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use agent::session::SessionEvent;
use sip::endpoint::{CallId, Event};
use sip::event::conference_info::Member;
use tokio::sync::mpsc;
use tokio::time::{Instant, Interval, MissedTickBehavior};
use tracing::Instrument;

use super::dial::DialPlan;
use super::end::End;
use super::held_line::Happening;
use super::leg::Leg;
use super::line::LineOrder;
use super::log::{Attending, CallLog, CallStage};
use super::place::Errand;
use super::quality;
use super::route::Target;
use super::sound::{self, Sound};
use super::switchboard::{COMMAND_QUEUE, DeviceLeg, Inbox, Mail};
use super::{
    Action, Command, Found, Input, LegNo, LegView, NotFound, Phase, Role, SignallingEnd, Stage, Step, Timer, View,
    bridge, conference, dialing, ending, entering, inbound, note_refused, parking, queueing, referral, talking,
    transfer,
};
use crate::config::SrtpPolicy;
use crate::hub::{CallSeat, Hub};
use crate::routing::history::History;
use crate::telemetry::Masked;
use crate::web::{WebLegs, whip};

pub use finish::record_refusal;
pub use moving::Arrival;
pub use signalling::signalling_end;

use finding::{Finding, next_found};
use mix::Mix;
use tape::Tape;

/// What the dispatcher hands to a new call.
#[derive(Debug)]
pub struct Incoming {
    /// The call.
    pub call: CallId,
    /// The INVITE.
    pub request: Arc<sip::Message>,
    /// The From URI.
    pub from_uri: String,
    /// The request URI.
    pub request_uri: String,
    /// Where it came from.
    pub source: sip::endpoint::Source,
    /// The caller's SDP.
    pub offer: Option<bytes::Bytes>,
    /// What is known of the caller by signature.
    pub verdict: Option<crate::stir::Verdict>,
    /// The leg of ours whose place the caller wants.
    pub replaces: Option<CallId>,
    /// The device that the caller authenticated as.
    pub device: Option<String>,
    /// The trunk that it came by.
    pub trunk: Option<String>,
    /// Its way up to us.
    pub history: History,
    /// Held for as long as the caller is there: a place within a trunk's limits.
    pub lease: Option<super::dial::Lease>,
}

/// A call that we place.
#[derive(Debug)]
pub struct Outgoing {
    /// Whom, and how.
    pub plan: Arc<DialPlan>,
    /// What holds the conversation once somebody answers.
    pub target: Target,
    /// Who calls, for the record.
    pub from: String,
    /// Who is called, for the record.
    pub to: String,
    /// Where to record.
    pub recording: Option<PathBuf>,
    /// It is ended after this long.
    pub max_duration: Duration,
    /// That is what whoever places it has asked for, and nobody's fault.
    pub is_duration_asked: bool,
    /// The device of ours that it is placed for.
    pub device: Option<String>,
}

/// Runs one call to its end.
pub struct Driver {
    hub: Arc<Hub>,
    target: Target,
    phase: Phase,
    legs: Vec<Leg>,
    log: CallLog,
    timers: Vec<(Instant, Timer)>,
    inbox: Inbox,
    max_duration: Duration,
    is_duration_asked: bool,
    tape: Tape,
    /// What the call's conversations tell, the first of them first: one that is over may have something to tell still.
    observations: Vec<mpsc::Receiver<SessionEvent>>,
    /// Somebody who is about to be found.
    finding: Option<Finding>,
    /// How often somebody was handed over to an agent or a program.
    handovers: usize,
    /// Inputs that came of performing actions.
    queue: Vec<Input>,
    /// Mail that was taken out of its queue and not looked at.
    postponed: VecDeque<Mail>,
    /// Signalling of legs that are about to come.
    strays: Vec<Event>,
    /// Commands that came between our answer and the caller's ACK, [`COMMAND_QUEUE`] at most.
    early: Vec<Command>,
    mix: Mix,
    /// This call is a conference, or a slot.
    is_place: bool,
    /// What others were told of the devices in it.
    shown: Vec<DeviceLeg>,
    /// Its way up to us; empty for one that we place.
    history: History,
    /// The conference that this call is, and who was said to be in it.
    conference: Option<String>,
    members: Vec<Member>,
    /// Who speaks in it.
    speakers: Vec<LegNo>,
    /// What those who watch calls were told: that it ends, that it was answered, which agent has it, who takes part.
    told: Option<(bool, bool, Option<String>, Attending)>,
    /// How far it had come when that was written down last.
    kept: Option<CallStage>,
    /// When the legs' sound is looked at next.
    measuring: Interval,
    /// Why the party that ended it did, in its own words (Reason, RFC 3326): the others are told.
    reasons: Option<String>,
    /// Who was connected with one another when they were told so last.
    connected: Option<(LegNo, LegNo)>,
    /// The queue that its caller waits in, and since when.
    queued: Option<(Arc<str>, SystemTime)>,
}

fn measuring() -> Interval {
    let mut measuring = tokio::time::interval_at(Instant::now() + quality::EVERY, quality::EVERY);
    measuring.set_missed_tick_behavior(MissedTickBehavior::Delay);
    measuring
}

/// The user whose page calls, if it is one of somebody who is logged in.
fn person_of(incoming: &Incoming) -> Option<String> {
    let name = incoming.from_uri.strip_prefix("sip:")?.strip_suffix(whip::PAGES_HOST)?.strip_suffix('@')?;
    (incoming.source.flow == whip::FLOW && name != whip::ANYBODY).then(|| name.to_owned())
}

/// What wakes a call.
enum Wake {
    Mail(Option<Mail>),
    Commanded(Command),
    Leg(LegNo, Happening),
    Observed(SessionEvent),
    Found(Result<Found, NotFound>),
    Fired(Timer),
    /// The legs' sound is to be looked at.
    Measure,
}

impl Driver {
    /// Runs a call that came in and was admitted; writes its record.
    pub async fn answer(hub: Arc<Hub>, seat: CallSeat, mut incoming: Incoming, target: Target) {
        let log = CallLog::inbound(seat.id(), &incoming, &target, SystemTime::now());
        hub.tracer.link(seat.id(), incoming.request.call_id());
        let source = &incoming.source;
        let mut sound = Sound::new(&hub.config, hub.sip.public(), source.local.ip(), source.remote.ip());
        let srtp = hub.routing().config.srtp_in(
            incoming.trunk.as_deref(),
            incoming.device.as_deref(),
            (source.transport, source.local),
        );
        // A page's sound is protected, or there is no call (RFC 9725 section 4.4).
        let srtp = if WebLegs::is_web(incoming.call) { SrtpPolicy::Required } else { srtp };
        sound.protect(srtp, source.transport);
        let offered = sound.take_offer(incoming.offer.take());
        if sound.wants_preparation(&hub.media)
            && let Some(port) = sound::prepare(hub.media.clone(), log.id()).await
        {
            sound.use_port(port);
        }
        let max_duration = Duration::from_secs(hub.config.calls.max_duration_s);
        let is_recorded = hub.config.calls.record && target.converses();
        let recording = is_recorded.then(|| hub.config.recorder_config(log.id()));
        let (inbox, _guard) = seat.take();
        let mut driver = Box::new(Self::new(hub, inbox, target, log, max_duration, recording));
        let mut caller = Leg::caller(LegNo::FIRST, incoming.call, sound);
        caller.lease = incoming.lease.take();
        caller.device = incoming.device.take();
        caller.person = person_of(&incoming);
        caller.trunk = incoming.trunk.take();
        caller.local = Some(incoming.source.local.ip());
        caller.domain = sip::Uri::parse(&incoming.request_uri).ok().map(|uri| uri.authority());
        driver.history = std::mem::take(&mut incoming.history);
        caller.is.clone_from(&driver.history.caller);
        driver.legs.push(caller);
        let begin = match offered {
            Ok(()) => inbound::begin(&driver.target),
            Err(refusal) => {
                driver.refuse(LegNo::FIRST, refusal.code);
                (Phase::Over(refusal.answered()), vec![])
            }
        };
        Box::pin(driver.run(begin)).await;
    }

    /// Places a call and runs it; writes its record.
    pub async fn place(hub: Arc<Hub>, seat: CallSeat, outgoing: Outgoing) {
        let log = CallLog::outbound(seat.id(), &outgoing, SystemTime::now());
        let recording = outgoing.recording.map(|path| hub.config.recorder_config_at(path));
        let (inbox, _guard) = seat.take();
        let mut driver = Box::new(Self::new(hub, inbox, outgoing.target, log, outgoing.max_duration, recording));
        driver.is_duration_asked = outgoing.is_duration_asked;
        let begin = dialing::place(outgoing.plan);
        Box::pin(driver.run(begin)).await;
    }

    fn new(
        hub: Arc<Hub>,
        inbox: Inbox,
        target: Target,
        log: CallLog,
        max_duration: Duration,
        recording: Option<media::RecorderConfig>,
    ) -> Self {
        Self {
            hub,
            target,
            phase: Phase::Ringing,
            legs: Vec::with_capacity(1),
            log,
            timers: Vec::new(),
            inbox,
            max_duration,
            is_duration_asked: false,
            tape: Tape::new(recording),
            observations: Vec::new(),
            finding: None,
            handovers: 0,
            queue: Vec::new(),
            postponed: VecDeque::new(),
            strays: Vec::new(),
            early: Vec::new(),
            mix: Mix::default(),
            is_place: false,
            shown: Vec::new(),
            history: History::default(),
            conference: None,
            members: Vec::new(),
            speakers: Vec::new(),
            told: None,
            kept: None,
            measuring: measuring(),
            reasons: None,
            connected: None,
            queued: None,
        }
    }

    /// Boxed, and what it becomes is to be boxed too: a call's task is moved several times before it first runs, and kept for as long as the
    /// call.
    async fn run(mut self: Box<Self>, begin: Step) {
        let span = tracing::info_span!("call", call = %self.log.id());
        let trace = self.hub.traces.as_ref().and_then(|traces| traces.traceparent(self.log.id()));
        let running = async {
            tracing::info!(
                call = %self.log.id(),
                target = self.target.name(),
                "call {} from {} begins: {}",
                self.log.id(),
                Masked(self.log.from()),
                self.target.name()
            );
            let end = self.drive_safely(begin).await;
            self.finish(end).await;
        }
        .instrument(span);
        agent::traced::within(trace.map(Into::into), running).await;
    }

    async fn drive(&mut self, begin: Step) -> End {
        self.take(begin);
        loop {
            while !self.queue.is_empty() && !matches!(self.phase, Phase::Over(_)) {
                let input = self.queue.remove(0);
                self.receive(input);
            }
            if let Phase::Over(end) = &self.phase {
                return end.clone();
            }
            if let Some(mail) = self.postponed.pop_front() {
                self.mail(mail);
                continue;
            }
            match self.wake().await {
                Wake::Mail(Some(mail)) => self.mail(mail),
                Wake::Mail(None) => self.signalling_stopped(),
                Wake::Commanded(command) => self.commanded(command),
                Wake::Leg(no, happening) => self.happened(no, happening),
                Wake::Observed(seen) => self.observed(seen),
                Wake::Found(found) => self.queue.push(Input::Found(found)),
                Wake::Measure => self.measure(),
                Wake::Fired(timer) => {
                    self.timers.retain(|(_, armed)| *armed != timer);
                    self.queue.push(Input::Fired(timer));
                }
            }
        }
    }

    /// What is asked of the call's sound is done in any phase; the rest is the phase's affair.
    fn commanded(&mut self, command: Command) {
        match command {
            Command::Record(on) => self.pause_tape(!on),
            Command::Mute(no, muted) => self.mute(no, muted),
            Command::Press(no, keys) => keys.chars().for_each(|key| self.perform(Action::Press(no, key))),
            Command::Ask(request) => {
                // With whom an agent talks, as long as nobody has taken their line.
                let party = self.parties().next().map(|leg| leg.no);
                if let Some(no) = party {
                    self.order(no, LineOrder::Ask(request));
                }
            }
            // Who asks knows that the call was answered, and not whether its ACK is here: only then it can be done.
            command if self.is_being_answered() && !ending::ends(&command) => {
                if self.early.len() < COMMAND_QUEUE {
                    self.early.push(command);
                }
            }
            command => self.queue.push(Input::Commanded(command)),
        }
    }

    /// Our answer is sent, and not acknowledged.
    fn is_being_answered(&self) -> bool {
        let waits =
            |leg: &Leg| leg.role == Role::Caller && leg.stage == Stage::Here && !leg.is_up && leg.errand.is_none();
        matches!(self.phase, Phase::Answering | Phase::Bridged(_)) && self.legs.iter().any(waits)
    }

    async fn wake(&mut self) -> Wake {
        let (legs, observations, finding) = (&mut self.legs, &mut self.observations, &mut self.finding);
        tokio::select! {
            mail = self.inbox.mail.recv() => Wake::Mail(mail),
            Some(command) = self.inbox.commands.recv() => Wake::Commanded(command),
            (no, happening) = poll_fn(|cx| poll_legs(legs, cx)) => Wake::Leg(no, happening),
            seen = poll_fn(|cx| poll_observations(observations, cx)) => Wake::Observed(seen),
            found = next_found(finding) => Wake::Found(found),
            timer = next_timer(&self.timers) => Wake::Fired(timer),
            _ = self.measuring.tick() => Wake::Measure,
        }
    }

    /// Steps the phase's reducer and performs what it wants done.
    fn receive(&mut self, input: Input) {
        let legs = self.leg_views();
        let phase = std::mem::replace(&mut self.phase, Phase::Ringing);
        let was_passed_on = matches!(phase, Phase::Transferring(_));
        let exchanged = match input {
            Input::Adopted(leg, Errand::Replace(replaced)) => Some((leg, replaced)),
            _ => None,
        };
        let view = self.view(&legs);
        let step = match phase {
            Phase::Dialing(dialing) => dialing::step(*dialing, input, &view),
            Phase::Talking => talking::step(input, &view),
            Phase::Transferring(transfer) => transfer::step(*transfer, input, &view),
            Phase::Bridged(bridge) => bridge::step(bridge, input, &view),
            Phase::Referring(referral) => referral::step(*referral, input, &view),
            Phase::Conference => conference::step(input, &view),
            Phase::Parked(parked) => parking::step(parked, input, &view),
            Phase::Queued(queueing) => queueing::step(*queueing, input, &view),
            other => match (&input, other) {
                // Whoever comes to a call that is no place any more has come too late.
                (Input::Adopted(leg, _), phase) => (phase, vec![view.turn_away(*leg, 480)]),
                (_, Phase::Ending(end)) => ending::step(end, &input),
                (_, Phase::Entering) => entering::step(input, &view),
                (_, phase @ (Phase::Ringing | Phase::Answering)) => inbound::step(phase, input, &view),
                (_, over) => (over, vec![]),
            },
        };
        self.take(step);
        if let Some((leg, replaced)) = exchanged {
            self.refused_exchange(leg, replaced);
        }
        if was_passed_on {
            self.passed_on();
        }
    }

    fn leg_views(&self) -> Vec<LegView> {
        self.legs.iter().map(Leg::view).collect()
    }

    fn view<'a>(&'a self, legs: &'a [LegView]) -> View<'a> {
        let park_for = Duration::from_secs(self.hub.config.calls.park_s);
        View { target: &self.target, max_duration: self.max_duration, park_for, handovers: self.handovers, legs }
    }

    fn take(&mut self, (phase, actions): Step) {
        if matches!(phase, Phase::Ending(_) | Phase::Over(_)) {
            self.log.ends(SystemTime::now());
        }
        self.phase = phase;
        if !matches!(self.phase, Phase::Transferring(_) | Phase::Referring(_) | Phase::Queued(_)) {
            self.finding = None;
        }
        for action in actions {
            self.perform(action);
        }
        if !matches!(self.phase, Phase::Ending(_) | Phase::Over(_)) {
            // Whoever it was that gave them, the call goes on.
            self.reasons = None;
        }
        self.retire();
        self.tell_connected();
        self.show();
        self.keep();
        let left = self.legs.iter().filter(|leg| leg.stage != Stage::Over).count();
        let waiting = !self.queue.is_empty();
        if !waiting {
            let phase = std::mem::replace(&mut self.phase, Phase::Ringing);
            self.phase = ending::settle(phase, left);
        }
    }

    /// Writes down how far the call has come, in case that this process is killed.
    fn keep(&mut self) {
        let stage = Some(self.log.stage());
        if self.kept != stage && !matches!(self.phase, Phase::Over(_)) {
            self.kept = stage;
            self.hub.records.goes_on(|| self.log.so_far());
        }
    }

    /// Closes what legs that are over leave open.
    fn retire(&mut self) {
        for leg in self.legs.iter_mut().filter(|leg| leg.stage == Stage::Over) {
            leg.line.close();
            leg.lease = None;
            self.mix.part(leg.no);
            self.tape.forget(leg.no);
            self.log.left(leg.no, SystemTime::now());
        }
    }

    /// The legs that are here and for whose sake the call goes on: all but supervisors'.
    fn parties(&self) -> impl Iterator<Item = &Leg> {
        self.legs.iter().filter(|leg| leg.stage == Stage::Here && !leg.supervises())
    }

    fn leg(&mut self, no: LegNo) -> Option<&mut Leg> {
        self.legs.iter_mut().find(|leg| leg.no == no)
    }

    fn refuse(&mut self, no: LegNo, code: u16) {
        metrics::counter!("omnivox_calls_refused_total", "code" => code.to_string()).increment(1);
        let Some(leg) = self.leg(no) else { return };
        leg.stage = if leg.sip.is_some() { Stage::Going } else { Stage::Over };
        leg.lease = None;
        if let Some(sip) = leg.sip {
            note_refused(self.hub.signal().reject(sip, code, self.reasons()));
        }
        self.log.left(no, SystemTime::now());
    }

    /// Why the call ends, where whoever ended it has said so.
    fn reasons(&self) -> Option<String> {
        self.reasons.clone().filter(|_| matches!(self.phase, Phase::Ending(_) | Phase::Over(_)))
    }

    fn signalling_stopped(&mut self) {
        for no in self.legs.iter().map(|leg| leg.no).collect::<Vec<_>>() {
            self.ended(no, SignallingEnd::TransportFailed("signalling stopped".into()));
        }
    }
}

fn poll_legs(legs: &mut [Leg], cx: &mut Context<'_>) -> Poll<(LegNo, Happening)> {
    for leg in legs {
        if let Poll::Ready(happening) = leg.line.poll_next(cx) {
            return Poll::Ready((leg.no, happening));
        }
    }
    Poll::Pending
}

/// What a conversation tells next; those that have told all are forgotten.
fn poll_observations(observations: &mut Vec<mpsc::Receiver<SessionEvent>>, cx: &mut Context<'_>) -> Poll<SessionEvent> {
    let mut at = 0;
    while let Some(conversation) = observations.get_mut(at) {
        match conversation.poll_recv(cx) {
            Poll::Ready(Some(event)) => return Poll::Ready(event),
            Poll::Ready(None) => drop(observations.remove(at)),
            Poll::Pending => at += 1,
        }
    }
    Poll::Pending
}

async fn next_timer(timers: &[(Instant, Timer)]) -> Timer {
    match timers.iter().min_by_key(|(at, _)| *at) {
        Some((at, timer)) => {
            tokio::time::sleep_until(*at).await;
            *timer
        }
        None => pending().await,
    }
}
