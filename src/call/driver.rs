//! Runs one call: turns what signalling, lines, conversations and timers bring into inputs, steps the phase's reducer,
//! and performs its actions. It decides nothing itself.
//!
//! | module | does |
//! | --- | --- |
//! | [`perform`] | actions |
//! | [`mix`] | the call's room |
//! | [`attendance`] | who is said to be in a conference, and to speak |
//! | [`moving`] | legs that go to other calls, or come from them |
//! | [`signalling`] | events into inputs |
//! | [`placing`] | legs that we place |
//! | [`tape`] | the recording |

mod attendance;
mod mix;
mod moving;
mod perform;
mod placing;
mod signalling;
mod tape;

use std::collections::VecDeque;
use std::future::{pending, poll_fn};
use std::path::PathBuf;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, SystemTime};

use agent::session::{SessionEvent, TurnRecord};
use media::tones::HeardTone;
use sip::endpoint::{CallId, Event};
use sip::event::conference_info::Member;
use tokio::sync::mpsc;
use tokio::time::{Instant, Interval, MissedTickBehavior};
use tracing::Instrument;

use super::app::Outcome;
use super::dial::DialPlan;
use super::end::{End, EndReason};
use super::inbound::Refusal;
use super::leg::{Happening, Leg};
use super::line::{LineNote, LineOrder};
use super::log::{Attending, CallLog, CallStage};
use super::quality;
use super::record::CallRecord;
use super::route::Target;
use super::sound::{self, Sound};
use super::switchboard::{DeviceLeg, Inbox, Mail};
use super::{
    Action, Command, Input, LegInput, LegNo, LegView, Phase, SignallingEnd, Stage, Step, Timer, View, bridge,
    conference, dialing, ending, entering, inbound, note_refused, parking, referral, talking, transfer,
};
use crate::config::SrtpPolicy;
use crate::hub::{CallSeat, Hub};
use crate::routing::history::History;
use crate::telemetry::Masked;
use crate::web::{WebLegs, whip};

pub use moving::Arrival;
pub use signalling::signalling_end;

use mix::Mix;
use tape::Tape;

/// A conversation whose line is closed ends within this.
const CONVERSATION_ENDS_WITHIN: Duration = Duration::from_secs(3);

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
    tape: Tape,
    observations: Option<mpsc::Receiver<SessionEvent>>,
    /// Inputs that came of performing actions.
    queue: Vec<Input>,
    /// Mail that was taken out of its queue and not looked at.
    postponed: VecDeque<Mail>,
    /// Signalling of legs that are about to come.
    strays: Vec<Event>,
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
    /// What those who watch calls were told: that it ends, that it was answered, who takes part.
    told: Option<(bool, bool, Attending)>,
    /// How far it had come when that was written down last.
    kept: Option<CallStage>,
    /// When the legs' sound is looked at next.
    measuring: Interval,
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
    Observed(Option<SessionEvent>),
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
        let mut driver = Self::new(hub, inbox, target, log, max_duration, recording);
        let mut caller = Leg::caller(LegNo::FIRST, incoming.call, sound);
        caller.lease = incoming.lease.take();
        caller.device = incoming.device.take();
        caller.person = person_of(&incoming);
        caller.trunk = incoming.trunk.take();
        caller.local = Some(incoming.source.local.ip());
        driver.history = std::mem::take(&mut incoming.history);
        driver.legs.push(caller);
        let begin = match offered {
            Ok(()) => inbound::begin(&driver.target),
            Err(refusal) => {
                driver.refuse(LegNo::FIRST, refusal.code);
                (Phase::Over(refusal.end), vec![])
            }
        };
        driver.run(begin).await;
    }

    /// Places a call and runs it; writes its record.
    pub async fn place(hub: Arc<Hub>, seat: CallSeat, outgoing: Outgoing) {
        let log = CallLog::outbound(seat.id(), &outgoing, SystemTime::now());
        let recording = outgoing.recording.map(|path| hub.config.recorder_config_at(path));
        let (inbox, _guard) = seat.take();
        let driver = Self::new(hub, inbox, outgoing.target, log, outgoing.max_duration, recording);
        let begin = dialing::place(outgoing.plan);
        driver.run(begin).await;
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
            tape: Tape::new(recording),
            observations: None,
            queue: Vec::new(),
            postponed: VecDeque::new(),
            strays: Vec::new(),
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
            queued: None,
        }
    }

    async fn run(mut self, begin: Step) {
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
            let end = self.drive(begin).await;
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
                // It is the first leg's caller that an agent talks with, as long as nobody has taken its line.
                self.order(LegNo::FIRST, LineOrder::Ask(request));
            }
            command => self.queue.push(Input::Commanded(command)),
        }
    }

    async fn wake(&mut self) -> Wake {
        let (legs, observations) = (&mut self.legs, &mut self.observations);
        tokio::select! {
            mail = self.inbox.mail.recv() => Wake::Mail(mail),
            Some(command) = self.inbox.commands.recv() => Wake::Commanded(command),
            (no, happening) = poll_fn(|cx| poll_legs(legs, cx)) => Wake::Leg(no, happening),
            seen = next_observation(observations) => Wake::Observed(seen),
            timer = next_timer(&self.timers) => Wake::Fired(timer),
            _ = self.measuring.tick() => Wake::Measure,
        }
    }

    /// Steps the phase's reducer and performs what it wants done.
    fn receive(&mut self, input: Input) {
        let legs: Vec<LegView> = self.legs.iter().map(Leg::view).collect();
        let park_for = Duration::from_secs(self.hub.config.calls.park_s);
        let view = View { target: &self.target, max_duration: self.max_duration, park_for, legs: &legs };
        let phase = std::mem::replace(&mut self.phase, Phase::Ringing);
        let was_passed_on = matches!(phase, Phase::Transferring(_));
        let step = match phase {
            Phase::Dialing(dialing) => dialing::step(*dialing, input, &view),
            Phase::Talking => talking::step(input, &view),
            Phase::Transferring(transfer) => transfer::step(*transfer, input, &view),
            Phase::Bridged(bridge) => bridge::step(bridge, input, &view),
            Phase::Referring(referral) => referral::step(*referral, input, &view),
            Phase::Conference => conference::step(input, &view),
            Phase::Parked(parked) => parking::step(parked, input, &view),
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
        if was_passed_on {
            self.passed_on();
        }
    }

    fn take(&mut self, (phase, actions): Step) {
        self.phase = phase;
        for action in actions {
            self.perform(action);
        }
        self.retire();
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
            leg.close_media();
            leg.lease = None;
            self.mix.part(leg.no);
            self.tape.forget(leg.no);
            self.log.left(leg.no, SystemTime::now());
        }
    }

    fn leg(&mut self, no: LegNo) -> Option<&mut Leg> {
        self.legs.iter_mut().find(|leg| leg.no == no)
    }

    fn happened(&mut self, no: LegNo, happening: Happening) {
        match happening {
            Happening::Note(note) => self.noted(no, note),
            Happening::Conversed(outcome) => {
                let end = self.conversed(no, *outcome);
                self.queue.push(Input::Leg(no, LegInput::Conversed(end)));
            }
            Happening::LetGo(providers) => {
                self.catch_up();
                self.log.set_providers(providers);
            }
        }
    }

    fn noted(&mut self, no: LegNo, note: LineNote) {
        let id = self.log.id();
        let input = match note {
            LineNote::TimedOut => LegInput::MediaTimedOut,
            LineNote::EngineGone => LegInput::MediaGone,
            LineNote::Digit(digit) => LegInput::Digit(digit),
            LineNote::Tone(heard) => {
                self.heard_tone(no, heard);
                return;
            }
            LineNote::Speaks(speaks) => return self.speaks(no, speaks),
            LineNote::RecordingFailed(why) => {
                tracing::error!(call = %id, "call {id}: the recording broke off: {why}");
                self.log.failure(format!("recording: {why}"));
                return;
            }
            LineNote::JoinFailed(why) | LineNote::ConnectFailed(why) => LegInput::MediaFailed(why),
            LineNote::UpdateFailed(why) => {
                tracing::warn!(call = %id, "call {id}: a change of the session could not be set up: {why}");
                return;
            }
        };
        self.queue.push(Input::Leg(no, input));
    }

    fn observed(&mut self, event: Option<SessionEvent>) {
        match event {
            Some(event) => {
                self.hub.observe(self.log.id(), &event);
                let index = match &event {
                    SessionEvent::Turn(TurnRecord { index, .. }) => Some(*index),
                    SessionEvent::Tool { turn, .. } => Some(*turn),
                    _ => None,
                };
                self.log.session_event(event, SystemTime::now());
                if let Some(turn) = index.and_then(|index| self.log.turn(index)) {
                    self.hub.records.turn(self.log.id(), turn);
                }
            }
            None => self.observations = None,
        }
    }

    /// How the legs sounded since the last look.
    fn measure(&mut self) {
        let now = SystemTime::now();
        for leg in self.legs.iter().filter(|leg| leg.is_up && leg.stage == Stage::Here) {
            if let Some(gauge) = &leg.gauge {
                self.log.measure(leg.no, &gauge.stats(), now);
            }
        }
    }

    /// The line said something by a tone: it is noted, and told to those who watch.
    fn heard_tone(&mut self, no: LegNo, heard: HeardTone) {
        let (id, name) = (self.log.id(), heard.tone.name());
        tracing::info!(call = %id, "call {id}: leg {} sends a tone: {name}", no.0);
        metrics::counter!("omnivox_tones_total", "tone" => name).increment(1);
        if let Some(live) = &self.hub.live {
            live.tone(id, no.0, heard);
        }
        self.log.tone(no, heard, SystemTime::now());
    }

    /// What the conversation has told so far.
    fn catch_up(&mut self) {
        while let Some(event) = self.observations.as_mut().and_then(|observations| observations.try_recv().ok()) {
            self.observed(Some(event));
        }
    }

    /// The agent's call was passed on, or that came to nothing; where the agent has it back, the agent tells.
    fn passed_on(&mut self) {
        let failed = match &self.phase {
            Phase::Transferring(_) | Phase::Talking => return,
            Phase::Ending(end) | Phase::Over(end) if end.reason != EndReason::Transferred => {
                Some(format!("the call ended: {}", end.reason.as_str()))
            }
            _ => None,
        };
        if let Some(event) = self.log.settle_tool(failed.as_deref(), SystemTime::now()) {
            self.observed(Some(event));
        }
    }

    fn conversed(&mut self, no: LegNo, outcome: Outcome) -> super::ConversationEnd {
        self.catch_up();
        self.log.set_providers(outcome.providers);
        if let Some(leg) = self.leg(no) {
            leg.take_back(outcome.line);
            leg.resume = outcome.resume;
            if let super::ConversationEnd::Transfer(_) = outcome.end {
                leg.attend();
            }
        }
        outcome.end
    }

    fn refuse(&mut self, no: LegNo, code: u16) {
        metrics::counter!("omnivox_calls_refused_total", "code" => code.to_string()).increment(1);
        let Some(leg) = self.leg(no) else { return };
        leg.stage = if leg.sip.is_some() { Stage::Going } else { Stage::Over };
        let Some(sip) = leg.sip else { return };
        note_refused(self.hub.signal().reject(sip, code));
    }

    fn signalling_stopped(&mut self) {
        for no in self.legs.iter().map(|leg| leg.no).collect::<Vec<_>>() {
            self.ended(no, SignallingEnd::TransportFailed("signalling stopped".into()));
        }
    }

    /// Gives the legs back, gathers what conversations still tell, and writes the record.
    async fn finish(mut self, end: End) {
        self.hub.places.leave(&self.inbox.address.call);
        self.legs.iter_mut().for_each(|leg| leg.stage = Stage::Over);
        self.show();
        self.turn_away_arrivals();
        for at in 0..self.legs.len() {
            let Some(leg) = self.legs.get_mut(at) else { break };
            let no = leg.no;
            leg.close_media();
            if let Some(sip) = leg.sip {
                self.hub.switchboard.disconnect(sip);
            }
            let Some(conversation) = leg.take_conversation() else { continue };
            match tokio::time::timeout(CONVERSATION_ENDS_WITHIN, conversation).await {
                Ok(outcome) => {
                    self.conversed(no, outcome);
                }
                Err(_) => {
                    tracing::error!(call = %self.log.id(), "call {}: its conversation did not end with it", self.log.id());
                }
            }
        }
        for leg in &self.legs {
            if let Some(stats) = leg.stats() {
                self.log.set_media(leg.no, &stats);
            }
            if let Some(gauge) = &leg.gauge {
                self.log.measured(leg.no, &gauge.stats());
            }
        }
        self.catch_up();
        let record = self.log.close(end, &self.hub.config.prices, SystemTime::now());
        if let Some(live) = &self.hub.live {
            live.ended(&record);
        }
        write_record(&self.hub, record);
    }
}

fn write_record(hub: &Hub, record: CallRecord) {
    let end = &record.end;
    metrics::counter!("omnivox_calls_total", "class" => end.class.as_str(), "reason" => end.reason.as_str())
        .increment(1);
    tracing::info!(
        call = record.call,
        class = end.class.as_str(),
        reason = end.reason.as_str(),
        duration_ms = record.duration_ms,
        "call {} ended: {} ({}) after {} ms",
        record.call,
        end.reason.as_str(),
        end.class.as_str(),
        record.duration_ms,
    );
    for line in record.cost.iter().flat_map(|cost| &cost.lines) {
        if let Some(micros) = line.micros.and_then(|micros| u64::try_from(micros).ok()) {
            metrics::counter!("omnivox_cost_micros_total", "kind" => line.used.kind()).increment(micros);
        }
    }
    if let Some(traces) = &hub.traces {
        traces.call(&record);
    }
    hub.records.push(record);
}

/// The record of a call that was refused before it had a driver.
pub fn record_refusal(hub: &Hub, incoming: &Incoming, refusal: &Refusal) {
    metrics::counter!("omnivox_calls_refused_total", "code" => refusal.code.to_string()).increment(1);
    let now = SystemTime::now();
    let log = CallLog::inbound(&super::log::new_id(now), incoming, &Target::App("none".into()), now);
    hub.tracer.link(log.id(), incoming.request.call_id());
    write_record(hub, log.close(refusal.end.clone(), &hub.config.prices, now));
}

fn poll_legs(legs: &mut [Leg], cx: &mut Context<'_>) -> Poll<(LegNo, Happening)> {
    for leg in legs {
        if let Poll::Ready(happening) = leg.poll_next(cx) {
            return Poll::Ready((leg.no, happening));
        }
    }
    Poll::Pending
}

async fn next_observation(observations: &mut Option<mpsc::Receiver<SessionEvent>>) -> Option<SessionEvent> {
    match observations {
        Some(observations) => observations.recv().await,
        None => pending().await,
    }
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
