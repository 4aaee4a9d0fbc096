//! The session's loop: everything that happens, in the order it happens.

mod agent;
mod caller;
mod hold;

use std::borrow::Cow;
use std::sync::Arc;
use std::time::Duration;

use codecs::pcm::{SampleRate, level_dbov};
use futures::future::OptionFuture;
use tokio::sync::mpsc;

use super::clock::LineClock;
use super::event::{Fault, Means, PRIVATE, SessionEnd, SessionEvent};
use super::hearing::{Failure, Heard, Hearing};
use super::opinion::Opinion;
use super::reply::{After, Made, Reply};
use super::speaking::Speaking;
use super::{Agent, SessionConfig};
use crate::brain::{Brain, BrainInput, Listen};
use crate::briefing::Briefing;
use crate::echo::EchoControl;
use crate::grammar::Grammar;
use crate::history::History;
use crate::line::{HeardFrame, Line, LineEvent, Request};
use crate::noise::NoiseControl;
use crate::tool::ToolRecord;
use crate::turn::{FrameView, TurnConfig, TurnInput, TurnMachine};
use crate::usage::{Meter, Usage};

/// Without a frame for so long, time passes anyway.
const TICK: Duration = Duration::from_millis(30);
/// A line that sends nothing of what it was given for so long stands still: what it holds counts as heard.
const STALLED: Duration = Duration::from_secs(4);
/// At most so many answers are prepared ahead of time for one turn of the caller.
const MAX_AHEAD: u32 = 4;
/// How often the text heard so far is reported.
const HEARD_EVERY: Duration = Duration::from_millis(200);

enum Wake {
    Heard(Heard),
    Current(Made),
    Ahead(Made),
    Line(LineEvent),
    Tick,
}

/// What the recogniser's last word is awaited for.
#[derive(Debug, Clone, Copy)]
enum Awaited {
    Turn(Utterance),
    Verdict,
}

#[derive(Debug, Clone, Copy)]
struct Utterance {
    onset: Duration,
    last_sound: Duration,
    endpoint: Duration,
}

/// The recogniser's last word.
struct LastWord {
    text: String,
    confidence: f32,
    accepted: bool,
    at: Duration,
}

pub(super) struct Run {
    name: String,
    config: SessionConfig,
    turn_config: TurnConfig,
    observer: mpsc::Sender<SessionEvent>,
    clock: LineClock,
    now: Duration,
    machine: TurnMachine,
    hearing: Hearing,
    opinion: Opinion,
    /// `None` where the agent is told to do without.
    echo: Option<EchoControl>,
    /// Whether noise is taken out of what the recogniser gets, and by what, once the line's rate is known.
    noise_control: bool,
    noise: Option<NoiseControl>,
    brain: Box<dyn Brain>,
    /// What is used of those who are paid by use, and what of it was told.
    meter: Meter,
    used: Usage,
    history: History,
    /// An empty mouth, to make others from.
    mouth: Speaking,
    /// The answer being given, or about to be.
    current: Option<Reply>,
    /// An answer prepared on a guess.
    ahead: Option<Reply>,
    ahead_count: u32,
    caller_paused: bool,
    /// The caller holds the call: nothing is said, and nothing is heard.
    on_hold: bool,
    /// What the present utterance was expected to be.
    grammar: Option<Arc<Grammar>>,
    awaited: Option<Awaited>,
    verdict_word: Option<LastWord>,
    /// No recogniser could take the present utterance.
    ear_lost: Option<(String, Fault)>,
    /// What the caller said before, where the agent had not begun to answer it.
    carried: String,
    caller_onset: Duration,
    turns: u32,
    no_inputs: u32,
    no_matches: u32,
    brain_failures: u32,
    ear_failures: u32,
    heard_reported: Duration,
    /// What is said now is nobody else's.
    private: bool,
    /// A transfer that is under way: its turn, its place there, and what is known of it.
    passing_on: Option<(u32, usize, ToolRecord)>,
    end: Option<SessionEnd>,
}

impl Run {
    pub(super) fn new(
        agent: Agent,
        observer: mpsc::Sender<SessionEvent>,
        rate: SampleRate,
        briefing: Option<(Briefing, Duration)>,
    ) -> Result<Self, String> {
        let mut voices = Vec::new();
        let mut fault = String::from("no voice is configured");
        for source in &agent.voices {
            match source(rate) {
                Ok(voice) => voices.push(voice),
                Err(error) => fault = format!("no voice can be opened: {error}"),
            }
        }
        if voices.is_empty() {
            return Err(fault);
        }
        let ms = |ms: u32| Duration::from_millis(u64::from(ms));
        let meter = Meter::default();
        let mut brain = agent.brain.open();
        brain.count_on(meter.clone());
        if let Some((briefing, _)) = &briefing {
            brain.brief(briefing);
        }
        let (said, since) = briefing.map(|(briefing, since)| (briefing.said, since)).unwrap_or_default();
        // How long a conversation may last counts from its own beginning.
        let mut turn_config = agent.turn;
        let since_ms = u32::try_from(since.as_millis()).unwrap_or(u32::MAX);
        turn_config.max_call_ms = turn_config.max_call_ms.saturating_add(since_ms);
        let mouth = Speaking::new(voices, rate, ms(agent.session.voice_first_ms), meter.clone());
        let opinion = Opinion::new(agent.detector);
        let final_limit = ms(agent.session.recognizer_final_ms);
        let hearing = Hearing::new(agent.recognizers, agent.language, final_limit, meter.clone());
        Ok(Self {
            name: agent.name,
            brain,
            meter,
            used: Usage::default(),
            machine: TurnMachine::new(turn_config.clone()),
            config: agent.session,
            turn_config,
            observer,
            clock: LineClock::at(since),
            now: since,
            hearing,
            opinion,
            echo: agent.echo_control.then(EchoControl::default),
            noise_control: agent.noise_control,
            noise: None,
            history: History::of(said),
            mouth,
            current: None,
            ahead: None,
            ahead_count: 0,
            caller_paused: false,
            on_hold: false,
            grammar: None,
            awaited: None,
            verdict_word: None,
            ear_lost: None,
            carried: String::new(),
            caller_onset: since,
            turns: 0,
            no_inputs: 0,
            no_matches: 0,
            brain_failures: 0,
            ear_failures: 0,
            heard_reported: Duration::ZERO,
            private: false,
            passing_on: None,
            end: None,
        })
    }

    /// Holds the conversation, from here on where it was held before, until it ends or pauses.
    pub(super) async fn until_the_end<L: Line>(&mut self, input: BrainInput, line: &mut L) -> SessionEnd {
        tracing::debug!(agent = %self.name, "the conversation with {} begins", self.name);
        // What the caller did while nobody listened is nobody's turn.
        self.machine = TurnMachine::new(self.turn_config.clone());
        self.hearing.cancel();
        (self.awaited, self.verdict_word) = (None, None);
        self.now = self.clock.now();
        self.settle_transfer(&input);
        self.answer(input, Means::Unprompted);
        self.on_hold = false;
        self.settle_hold(line);
        loop {
            self.step(line);
            if let Some(end) = self.end.take() {
                self.close_current(line);
                self.set_private(false, line);
                self.forget_ahead();
                self.tell_usage();
                return end;
            }
            let wake = self.wait(line).await;
            self.now = self.clock.now();
            match wake {
                Wake::Heard(heard) => self.heard(heard, line),
                Wake::Current(made) => self.made(made, false),
                Wake::Ahead(made) => self.made(made, true),
                Wake::Line(LineEvent::Audio(frame)) => self.frame(&frame),
                Wake::Line(LineEvent::Held) => self.settle_hold(line),
                Wake::Line(LineEvent::Digit(key)) => self.machine.receive(self.now, TurnInput::Key(key)),
                Wake::Line(LineEvent::Asked(Request::Say(text))) => {
                    self.say_and(&text, After::Listen(Listen::default()), line);
                }
                Wake::Line(LineEvent::Asked(Request::Know(text))) => self.take_note(&text),
                Wake::Line(LineEvent::Closed) => self.end = Some(SessionEnd::LineClosed),
                Wake::Tick => {}
            }
        }
    }

    async fn wait<L: Line>(&mut self, line: &mut L) -> Wake {
        let now = self.now;
        let current: OptionFuture<_> = self.current.as_mut().map(|reply| reply.next(now)).into();
        let ahead: OptionFuture<_> = self.ahead.as_mut().map(|reply| reply.next(now)).into();
        tokio::select! {
            biased;
            heard = self.hearing.next() => Wake::Heard(heard),
            Some(made) = current => Wake::Current(made),
            Some(made) = ahead => Wake::Ahead(made),
            event = line.next() => Wake::Line(event),
            () = tokio::time::sleep(TICK) => Wake::Tick,
        }
    }

    fn frame(&mut self, frame: &HeardFrame) {
        let end = self.clock.frame(frame.end_ms());
        self.now = self.clock.now();
        if self.on_hold {
            return;
        }
        let length = Duration::from_secs_f64(frame.length_ms().clamp(0.0, 1000.0) / 1000.0);
        let (pcm, level_db) = match self.echo.as_mut() {
            Some(echo) => {
                let caller = echo.hear(frame);
                (caller.pcm, caller.level_db)
            }
            None => (Cow::Borrowed(frame.pcm.as_slice()), level_dbov(&frame.pcm) as f32),
        };
        if self.noise_control && self.noise.as_ref().is_none_or(|noise| noise.rate() != frame.rate) {
            self.noise = NoiseControl::new(frame.rate);
        }
        match self.noise.as_mut() {
            Some(noise) => self.hearing.frame(end.saturating_sub(length), &noise.take_out(&pcm), frame.rate),
            None => self.hearing.frame(end.saturating_sub(length), &pcm, frame.rate),
        }
        let deciding = self.opinion.hear(&pcm, frame.rate);
        let view = FrameView { end, length, speech: frame.speech, level_db, deciding };
        self.machine.receive(self.now, TurnInput::Frame(view));
    }

    /// Whatever is due now.
    fn step<L: Line>(&mut self, line: &mut L) {
        self.hearing.tick(self.now);
        self.machine.tick(self.now);
        self.follow(line);
        self.check_brain();
        for reply in [self.current.as_mut(), self.ahead.as_mut()].into_iter().flatten() {
            reply.speaking.tick(self.now);
        }
        self.release(line);
        if let Some(reply) = self.current.as_mut() {
            reply.speaking.feed(line);
        }
        self.report_playing(line);
        self.check_finished(line);
        self.follow(line);
    }

    /// Does what the turn machine has decided.
    fn follow<L: Line>(&mut self, line: &mut L) {
        while let Some(output) = self.machine.poll() {
            self.decided(output, line);
        }
    }

    /// The brain knows it from the next answer on: one that is being prepared does not.
    fn take_note(&mut self, text: &str) {
        self.forget_ahead();
        if !self.brain.note(text) {
            tracing::warn!(agent = %self.name, "{}: a note was passed over: its brain ({}) takes none", self.name, self.brain.name());
        }
    }

    fn report(&mut self, failure: Failure) {
        let Failure { part, provider, reason, fault, remedy } = failure;
        tracing::warn!(%provider, ?part, ?remedy, %reason, "{provider} failed: {reason}");
        self.tell(SessionEvent::ProviderFailed { part, provider, reason, fault, remedy });
    }

    /// What is said from here on is nobody else's, or no longer.
    fn set_private<L: Line>(&mut self, on: bool, line: &mut L) {
        if std::mem::replace(&mut self.private, on) != on {
            line.set_private(on);
            self.tell(SessionEvent::Private { on });
        }
    }

    /// What others may know of what the caller says now.
    fn public(&self, text: &str) -> String {
        if self.private { PRIVATE.to_owned() } else { text.to_owned() }
    }

    /// Tells what was used, where that is more than before.
    fn tell_usage(&mut self) {
        let used = self.meter.usage();
        if used != self.used {
            self.used.clone_from(&used);
            self.tell(SessionEvent::Used(used));
        }
    }

    fn tell(&self, event: SessionEvent) {
        // An observer that has no room, or is gone, is no reason to stop talking.
        let _ = self.observer.try_send(event);
    }
}
