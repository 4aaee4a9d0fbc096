//! Runs one call: turns what signalling, line, conversation and timers bring into inputs, steps the phase's reducer,
//! and performs its actions. It decides nothing itself.

use std::future::pending;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use sip::endpoint::{CallId, EndCause, Event};
use tokio::sync::mpsc;
use tokio::time::Instant;
use tracing::Instrument;

use super::app::{App, Conversation, Outcome};
use super::end::End;
use super::inbound::{self, Refusal};
use super::line::{CallLine, LineControl, LineNote, LineOrder};
use super::log::CallLog;
use super::record::RecordSink;
use super::route::Target;
use super::sound::{self, Sound};
use super::{Action, Command, Input, Phase, SignallingEnd, Timer, ending, note_refused, talking};
use crate::hub::Hub;
use crate::telemetry::Masked;

/// Signalling events that may wait for a call; a call that cannot keep up with its own signalling is ended.
pub const CALL_QUEUE: usize = 32;
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
}

/// Runs one admitted call to its end and writes its record.
pub struct Driver {
    hub: Arc<Hub>,
    call: CallId,
    target: Target,
    phase: Phase,
    sound: Sound,
    log: CallLog,
    timers: Vec<(Instant, Timer)>,
    line: Option<CallLine>,
    control: Option<LineControl>,
    conversation: Option<Conversation>,
    observations: Option<mpsc::Receiver<agent::session::SessionEvent>>,
}

impl Driver {
    /// A driver of this call.
    #[must_use]
    pub fn new(hub: Arc<Hub>, incoming: &Incoming, target: Target) -> Self {
        let log = CallLog::inbound(incoming, &target, SystemTime::now());
        let sound = Sound::new(&hub.config, incoming.source.local.ip(), incoming.source.remote.ip());
        Self {
            hub,
            call: incoming.call,
            target,
            phase: Phase::Ringing,
            sound,
            log,
            timers: Vec::new(),
            line: None,
            control: None,
            conversation: None,
            observations: None,
        }
    }

    /// Runs the call.
    pub async fn run(
        mut self,
        offer: Option<bytes::Bytes>,
        events: mpsc::Receiver<Event>,
        commands: mpsc::Receiver<Command>,
    ) {
        let span = tracing::info_span!("call", call = %self.log.id());
        async {
            tracing::info!(
                call = %self.log.id(),
                target = self.target.name(),
                "call {} from {} begins: {}",
                self.log.id(),
                Masked(self.log.from()),
                self.target.name()
            );
            let end = match self.sound.take_offer(offer) {
                Ok(()) => self.drive(events, commands).await,
                Err(refusal) => self.refuse(refusal),
            };
            self.finish(end).await;
        }
        .instrument(span)
        .await;
    }

    async fn drive(&mut self, mut events: mpsc::Receiver<Event>, mut commands: mpsc::Receiver<Command>) -> End {
        let step = inbound::begin(&self.target);
        self.perform(step);
        loop {
            if let Phase::Over(end) = &self.phase {
                return end.clone();
            }
            let input = tokio::select! {
                event = events.recv() => match event {
                    Some(event) => self.signalling(event),
                    None => Some(Input::SignallingEnded(SignallingEnd::TransportFailed("signalling stopped".into()))),
                },
                Some(command) = commands.recv() => Some(Input::Commanded(command)),
                note = next_note(&mut self.control) => self.noted(note),
                seen = next_observation(&mut self.observations) => { self.observed(seen); None }
                outcome = next_outcome(&mut self.conversation) => Some(self.conversed(outcome)),
                timer = next_timer(&self.timers) => {
                    self.timers.retain(|(_, armed)| *armed != timer);
                    Some(Input::Fired(timer))
                }
            };
            if let Some(input) = input {
                let step = self.step(input);
                self.perform(step);
            }
        }
    }

    fn step(&self, input: Input) -> super::Step {
        match self.phase.clone() {
            phase @ (Phase::Ringing | Phase::Answering) => {
                inbound::step(&self.target, phase, input, Duration::from_secs(self.hub.config.calls.max_duration_s))
            }
            Phase::Talking => talking::step(input),
            Phase::Ending(end) => ending::step(end, input),
            over @ Phase::Over(_) => (over, vec![]),
        }
    }

    fn perform(&mut self, (phase, actions): super::Step) {
        self.phase = phase;
        for action in actions {
            match action {
                Action::Ring => note_refused(self.hub.sip.ring(self.call, 180, None)),
                Action::Answer => self.answer(),
                Action::Reject { code } => note_refused(self.hub.sip.reject(self.call, code, "", Vec::new())),
                Action::StartConversation => self.start_conversation(),
                Action::Arm(timer, after) => self.timers.push((Instant::now() + after, timer)),
                Action::DeliverDigit(digit) => {
                    self.order(LineOrder::Digit(digit));
                }
                Action::HangUp => note_refused(self.hub.sip.bye(self.call, None)),
                Action::CloseMedia => {
                    self.order(LineOrder::Close);
                }
            }
        }
    }

    fn order(&self, order: LineOrder) -> bool {
        self.control.as_ref().is_some_and(|control| control.order(order))
    }

    /// Reserves a port, settles the sound, opens the leg and answers.
    fn answer(&mut self) {
        let recording =
            matches!(self.target, Target::Agent(_) | Target::App(_)).then(|| self.recording_path()).flatten();
        let mode = sound::mode_of(&self.target);
        match self.sound.answer(&self.hub.media, mode, recording.clone()) {
            Ok((sdp, port)) => {
                self.log.answered(SystemTime::now());
                self.log.set_codec(self.sound.codec_name());
                self.log.set_recording(recording);
                if let Some(port) = port {
                    self.adopt(port);
                }
                note_refused(self.hub.sip.answer(self.call, sdp));
            }
            Err(refusal) => {
                let end = self.refuse(refusal);
                self.phase = Phase::Over(end);
            }
        }
    }

    fn refuse(&mut self, refusal: Refusal) -> End {
        metrics::counter!("omnivox_calls_refused_total", "code" => refusal.code.to_string()).increment(1);
        note_refused(self.hub.sip.reject(self.call, refusal.code, "", Vec::new()));
        refusal.end
    }

    fn adopt(&mut self, port: media::LegPort) {
        let (line, control) = CallLine::new(port);
        self.control = Some(control);
        match self.target {
            Target::Agent(_) | Target::App(_) => self.line = Some(line),
            _ => self.conversation = Some(App::idle(line)),
        }
    }

    fn recording_path(&self) -> Option<std::path::PathBuf> {
        self.hub.config.calls.record.then(|| self.hub.config.recordings_dir().join(format!("{}.wav", self.log.id())))
    }

    fn start_conversation(&mut self) {
        let Some(line) = self.line.take() else { return };
        let (conversation, observations) = self.hub.converse(&self.target, line);
        self.conversation = Some(conversation);
        self.observations = observations;
    }

    fn signalling(&mut self, event: Event) -> Option<Input> {
        match event {
            Event::Acked { answer, .. } => self.acked(answer),
            Event::Cancelled { .. } => Some(Input::SignallingEnded(SignallingEnd::Cancelled)),
            Event::Info { content_type, body, .. } => sound::info_digit(&content_type, &body).map(Input::InfoDigit),
            Event::Reoffer { offer, .. } => {
                self.reoffered(offer);
                None
            }
            Event::Ended { cause, .. } => Some(Input::SignallingEnded(signalling_end(cause))),
            _ => None,
        }
    }

    /// The ACK; with a late offer it carries the peer's answer, and only now can the leg be opened or changed.
    fn acked(&mut self, answer: Option<bytes::Bytes>) -> Option<Input> {
        if self.sound.is_waiting_for_answer() {
            match self.sound.accept(&self.hub.media, answer) {
                Ok(sound::Accepted::Opened(port)) => {
                    self.log.set_codec(self.sound.codec_name());
                    self.adopt(port);
                }
                Ok(sound::Accepted::Changed(config)) => {
                    self.order(LineOrder::Update(Box::new(config)));
                }
                Err(why) => return Some(Input::MediaFailed(why)),
            }
        }
        (self.phase == Phase::Answering).then_some(Input::Acked)
    }

    fn reoffered(&mut self, offer: Option<bytes::Bytes>) {
        match self.sound.reoffer(offer) {
            Ok((sdp, change)) => {
                if let Some(config) = change {
                    self.order(LineOrder::Update(Box::new(config)));
                    self.log.set_codec(self.sound.codec_name());
                }
                note_refused(self.hub.sip.answer_reoffer(self.call, sdp));
            }
            Err(why) => {
                tracing::info!(call = %self.log.id(), "call {}: a change of the session was refused: {why}", self.log.id());
                note_refused(self.hub.sip.reject_reoffer(self.call, 488));
            }
        }
    }

    fn noted(&mut self, note: Option<LineNote>) -> Option<Input> {
        match note {
            Some(LineNote::TimedOut) => Some(Input::MediaTimedOut),
            Some(LineNote::EngineGone) => Some(Input::MediaGone),
            Some(LineNote::RecordingFailed(why)) => {
                tracing::error!(call = %self.log.id(), "call {}: the recording broke off: {why}", self.log.id());
                self.log.failure(format!("recording: {why}"));
                None
            }
            Some(LineNote::UpdateFailed(why)) => {
                tracing::warn!(call = %self.log.id(), "call {}: a change of the session could not be set up: {why}", self.log.id());
                None
            }
            None => {
                self.control = None;
                None
            }
        }
    }

    fn observed(&mut self, event: Option<agent::session::SessionEvent>) {
        match event {
            Some(event) => {
                self.hub.observe(self.log.id(), &event);
                self.log.session_event(event);
            }
            None => self.observations = None,
        }
    }

    fn conversed(&mut self, outcome: Outcome) -> Input {
        self.conversation = None;
        self.log.set_providers(outcome.providers);
        self.log.set_media(&outcome.stats);
        Input::ConversationEnded(outcome.end)
    }

    /// Gives the leg back, gathers what the conversation still tells, and writes the record.
    async fn finish(mut self, end: End) {
        self.order(LineOrder::Close);
        if let Some(mut line) = self.line.take() {
            self.log.set_media(&line.close());
        }
        if let Some(conversation) = self.conversation.take() {
            match tokio::time::timeout(CONVERSATION_ENDS_WITHIN, conversation).await {
                Ok(outcome) => {
                    self.conversed(outcome);
                }
                Err(_) => {
                    tracing::error!(call = %self.log.id(), "call {}: its conversation did not end with it", self.log.id())
                }
            }
        }
        while let Some(event) = self.observations.as_mut().and_then(|observations| observations.try_recv().ok()) {
            self.observed(Some(event));
        }
        let record = self.log.close(end, SystemTime::now());
        write_record(&self.hub.records, record);
    }
}

fn write_record(records: &RecordSink, record: super::record::CallRecord) {
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
    records.push(record);
}

/// The record of a call that was refused before it had a driver.
pub fn record_refusal(records: &RecordSink, incoming: &Incoming, refusal: &Refusal) {
    metrics::counter!("omnivox_calls_refused_total", "code" => refusal.code.to_string()).increment(1);
    let log = CallLog::inbound(incoming, &Target::App("none".into()), SystemTime::now());
    write_record(records, log.close(refusal.end.clone(), SystemTime::now()));
}

/// What an end of signalling means for a call.
#[must_use]
pub fn signalling_end(cause: EndCause) -> SignallingEnd {
    match cause {
        EndCause::LocalBye | EndCause::Refused(_) => SignallingEnd::Local,
        EndCause::RemoteBye => SignallingEnd::Remote,
        EndCause::Cancelled => SignallingEnd::Cancelled,
        EndCause::Rejected(code) => SignallingEnd::Rejected { code, reason: String::new() },
        EndCause::Timeout | EndCause::Gone => SignallingEnd::TimedOut,
        EndCause::NoAck => SignallingEnd::NoAck,
        other => SignallingEnd::TransportFailed(other.to_string()),
    }
}

/// The line's next note; pending for ever without a line.
pub(crate) async fn next_note(control: &mut Option<LineControl>) -> Option<LineNote> {
    match control {
        Some(control) => control.note().await,
        None => pending().await,
    }
}

async fn next_observation(
    observations: &mut Option<mpsc::Receiver<agent::session::SessionEvent>>,
) -> Option<agent::session::SessionEvent> {
    match observations {
        Some(observations) => observations.recv().await,
        None => pending().await,
    }
}

/// What comes of the conversation; pending for ever without one.
pub(crate) async fn next_outcome(conversation: &mut Option<Conversation>) -> Outcome {
    match conversation {
        Some(conversation) => conversation.await,
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
