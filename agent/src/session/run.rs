//! The session's loop: everything that happens, in the order it happens.

use std::sync::Arc;
use std::time::Duration;

use codecs::pcm::{SampleRate, level_dbov};
use futures::future::OptionFuture;
use tokio::sync::mpsc;

use super::clock::{LineClock, millis};
use super::event::{Fault, Means, Part, Remedy, SessionEnd, SessionEvent, TurnRecord};
use super::hearing::{Failure, Heard, Hearing};
use super::reply::{After, MAX_OUTPUTS, Made, Reply};
use super::speaking::{Speaking, Spoken};
use super::{Agent, SessionConfig};
use crate::brain::{Brain, BrainError, BrainInput, BrainOutput, Listen};
use crate::grammar::Grammar;
use crate::history::{History, Speaker};
use crate::line::{HeardFrame, Line, LineEvent};
use crate::turn::{FrameView, Progress, TurnConfig, TurnInput, TurnMachine, TurnOutput};

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
    brain: Box<dyn Brain>,
    history: History,
    /// An empty mouth, to make others from.
    mouth: Speaking,
    /// The answer being given, or about to be.
    current: Option<Reply>,
    /// An answer prepared on a guess.
    ahead: Option<Reply>,
    ahead_count: u32,
    caller_paused: bool,
    /// What the present utterance was expected to be.
    grammar: Option<Arc<Grammar>>,
    awaited: Option<Awaited>,
    verdict_word: Option<LastWord>,
    /// What the caller said before, where the agent had not begun to answer it.
    carried: String,
    caller_onset: Duration,
    turns: u32,
    no_inputs: u32,
    no_matches: u32,
    brain_failures: u32,
    ear_failures: u32,
    heard_reported: Duration,
    end: Option<SessionEnd>,
}

impl Run {
    pub(super) fn new(agent: Agent, observer: mpsc::Sender<SessionEvent>, rate: SampleRate) -> Result<Self, String> {
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
        let mouth = Speaking::new(voices, rate, ms(agent.session.voice_first_ms));
        let hearing = Hearing::new(agent.recognizers, agent.language, ms(agent.session.recognizer_final_ms));
        Ok(Self {
            name: agent.name,
            brain: agent.brain.open(),
            machine: TurnMachine::new(agent.turn.clone()),
            config: agent.session,
            turn_config: agent.turn,
            observer,
            clock: LineClock::new(),
            now: Duration::ZERO,
            hearing,
            history: History::new(),
            mouth,
            current: None,
            ahead: None,
            ahead_count: 0,
            caller_paused: false,
            grammar: None,
            awaited: None,
            verdict_word: None,
            carried: String::new(),
            caller_onset: Duration::ZERO,
            turns: 0,
            no_inputs: 0,
            no_matches: 0,
            brain_failures: 0,
            ear_failures: 0,
            heard_reported: Duration::ZERO,
            end: None,
        })
    }

    pub(super) async fn until_the_end<L: Line>(mut self, line: &mut L) -> SessionEnd {
        tracing::debug!(agent = %self.name, "the conversation with {} begins", self.name);
        self.answer(BrainInput::Start, Means::Unprompted);
        loop {
            self.step(line);
            if let Some(end) = self.end.take() {
                self.close_current(line);
                return end;
            }
            let wake = self.wait(line).await;
            self.now = self.clock.now();
            match wake {
                Wake::Heard(heard) => self.heard(heard, line),
                Wake::Current(made) => self.made(made, false),
                Wake::Ahead(made) => self.made(made, true),
                Wake::Line(LineEvent::Audio(frame)) => self.frame(&frame),
                Wake::Line(LineEvent::Digit(key)) => self.machine.receive(self.now, TurnInput::Key(key)),
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
        let length = Duration::from_secs_f64(frame.length_ms().clamp(0.0, 1000.0) / 1000.0);
        self.hearing.frame(end.saturating_sub(length), frame);
        let view = FrameView { end, length, speech: frame.speech, level_db: level_dbov(&frame.pcm) as f32, deciding: None };
        self.machine.receive(self.now, TurnInput::Frame(view));
    }

    /// Whatever is due now.
    fn step<L: Line>(&mut self, line: &mut L) {
        self.hearing.tick(self.now);
        self.machine.tick(self.now);
        while let Some(output) = self.machine.poll() {
            self.decided(output, line);
        }
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
        while let Some(output) = self.machine.poll() {
            self.decided(output, line);
        }
    }

    // What the turn machine decided.

    fn decided<L: Line>(&mut self, output: TurnOutput, line: &mut L) {
        match output {
            TurnOutput::CallerBegan { onset } => self.caller_began(onset),
            TurnOutput::CallerDropped => {
                self.forget_ahead();
                self.hearing.cancel();
                self.awaited = None;
            }
            TurnOutput::Duck { onset } => {
                if let Some(reply) = self.current.as_mut() {
                    reply.speaking.duck(line, self.turn_config.duck_gain);
                }
                self.tell(SessionEvent::Ducked { onset_ms: millis(onset), at_ms: millis(self.now) });
            }
            TurnOutput::Resume => {
                self.hearing.cancel();
                self.awaited = None;
                self.resume(line);
            }
            TurnOutput::Interrupt { onset, by_key } => self.interrupt(onset, by_key, line),
            TurnOutput::AskVerdict => {
                self.awaited = Some(Awaited::Verdict);
                self.verdict_word = None;
                self.forget_ahead();
                if self.hearing.busy() {
                    self.hearing.finish(self.now, self.now);
                } else {
                    self.machine.receive(self.now, TurnInput::Verdict(false));
                }
            }
            TurnOutput::PauseLikely => {
                self.caller_paused = true;
                self.prepare(line);
            }
            TurnOutput::PauseOver => {
                self.caller_paused = false;
                self.forget_ahead();
            }
            TurnOutput::TurnEnded { onset, last_sound } => {
                let utterance = Utterance { onset, last_sound, endpoint: self.now };
                self.turn_ended(utterance, line);
            }
            TurnOutput::Keys(digits) => self.keys(digits, line),
            TurnOutput::NoInput => {
                self.no_inputs += 1;
                self.answer_anew(BrainInput::NoInput(self.no_inputs), Means::Unprompted, line);
            }
            TurnOutput::CallOver => self.say_and(&self.config.time_limit_text.clone(), After::HangUp { reason: "time limit".into() }, line),
        }
    }

    fn caller_began(&mut self, onset: Duration) {
        self.forget_ahead();
        self.ahead_count = 0;
        self.caller_paused = false;
        self.caller_onset = onset;
        self.verdict_word = None;
        self.awaited = None;
        self.grammar = self.brain.expects();
        self.hearing.begin(onset, self.grammar.clone());
        if !self.current.as_ref().is_some_and(|reply| reply.released) {
            self.tell(SessionEvent::SpeechStarted { at_ms: millis(onset) });
        }
    }

    fn interrupt<L: Line>(&mut self, onset: Duration, by_key: bool, line: &mut L) {
        let Some(reply) = self.current.as_mut().filter(|reply| reply.released) else { return };
        reply.speaking.cut(line);
        reply.cut = true;
        let (heard, _) = reply.speaking.heard(line);
        let (at_ms, onset_ms) = (millis(self.now), millis(onset));
        if !by_key {
            self.tell(SessionEvent::SpeechStarted { at_ms: onset_ms });
        }
        self.tell(SessionEvent::Interrupted { at_ms, onset_ms, heard, by_key });
    }

    fn resume<L: Line>(&mut self, line: &mut L) {
        let Some(reply) = self.current.as_mut().filter(|reply| reply.released) else { return };
        reply.speaking.resume(line);
        reply.cut = false;
        reply.progress = (0, self.now);
        let interruptible = reply.interruptible();
        self.machine.receive(self.now, TurnInput::AgentSpeaks { interruptible });
        self.tell(SessionEvent::Resumed { at_ms: millis(self.now) });
    }

    fn turn_ended<L: Line>(&mut self, utterance: Utterance, line: &mut L) {
        self.caller_paused = false;
        if let Some(word) = self.verdict_word.take() {
            return self.judged(utterance, &word, line);
        }
        if self.hearing.busy() {
            self.awaited = Some(Awaited::Turn(utterance));
            self.hearing.finish(self.now, utterance.last_sound);
        } else {
            self.not_understood(utterance, String::new(), None, line);
        }
    }

    fn keys<L: Line>(&mut self, digits: String, line: &mut L) {
        self.tell(SessionEvent::Keys { digits: digits.clone(), at_ms: millis(self.now) });
        self.hearing.cancel();
        self.awaited = None;
        self.forget_ahead();
        self.no_inputs = 0;
        self.no_matches = 0;
        self.close_current(line);
        let at = self.now;
        self.caller_turn(&digits, Means::Keys, at, at, None, None);
        let mut reply = self.think(BrainInput::Digits(digits.clone()), Means::Keys);
        self.history.caller_said(format!("(pressed {digits})"));
        reply.stages.speech_end_ms = Some(millis(at));
        reply.stages.endpoint_ms = Some(millis(at));
        self.decide(reply);
    }

    // What the ear heard.

    fn heard<L: Line>(&mut self, heard: Heard, line: &mut L) {
        match heard {
            Heard::Partial { text } if text.is_empty() => {}
            Heard::Partial { text } => {
                let input = TurnInput::Hypothesis {
                    progress: self.progress(&text),
                    words: self.turn_config.words_that_count(&text),
                    all_words: text.split_whitespace().count(),
                };
                self.tell(SessionEvent::Partial { text });
                self.machine.receive(self.now, input);
                if self.caller_paused {
                    self.prepare(line);
                }
            }
            Heard::Final { text, words, confidence, accepted } => {
                let words = words.into_iter().map(|word| word.text).collect();
                self.tell(SessionEvent::Final { text: text.clone(), words, confidence, accepted });
                self.ear_failures = 0;
                let word = LastWord { text, confidence, accepted, at: self.now };
                match self.awaited.take() {
                    Some(Awaited::Turn(utterance)) => self.judged(utterance, &word, line),
                    Some(Awaited::Verdict) => {
                        let answer = self.is_answer(&word);
                        self.verdict_word = answer.then_some(word);
                        self.machine.receive(self.now, TurnInput::Verdict(answer));
                    }
                    // The provider ended it by itself; the turn machine will say when the turn is over.
                    None => self.verdict_word = Some(word),
                }
            }
            Heard::Failed(failure) => self.report(failure),
            Heard::Lost(failure) => self.lost(failure, line),
        }
    }

    fn progress(&self, text: &str) -> Progress {
        self.grammar.as_ref().map_or(Progress::Unknown, |grammar| Progress::of(grammar, text))
    }

    /// Whether short speech over the agent was an answer and no sign of listening.
    fn is_answer(&self, word: &LastWord) -> bool {
        word.accepted
            && match self.grammar.as_ref() {
                Some(grammar) => grammar.match_text(&word.text).is_some(),
                None => self.turn_config.words_that_count(&word.text) > 0,
            }
    }

    fn judged<L: Line>(&mut self, utterance: Utterance, word: &LastWord, line: &mut L) {
        if word.text.trim().is_empty() {
            return self.heard_nothing(utterance, line);
        }
        let matched = self.grammar.as_ref().map(|grammar| grammar.match_text(&word.text));
        if !word.accepted || matches!(matched, Some(None)) {
            return self.not_understood(utterance, word.text.clone(), Some(word), line);
        }
        self.no_matches = 0;
        self.no_inputs = 0;
        let ahead = self.ahead.take().filter(|ahead| self.same_meaning(ahead, &word.text));
        let carried = self.take_back();
        self.close_current(line);
        let rule = matched.flatten().map(|matched| matched.rule);
        self.caller_turn(&word.text, Means::Speech, utterance.onset, utterance.last_sound, rule, Some(word.confidence));
        let text = if carried.is_empty() { word.text.clone() } else { format!("{carried} {}", word.text) };
        let mut reply = match ahead {
            Some(reply) if carried.is_empty() => reply,
            _ => {
                let confidence = word.confidence;
                // The text stands in the history after the brain was asked, which gets it as its input.
                self.think(BrainInput::Heard { text: text.clone(), confidence }, Means::Speech)
            }
        };
        self.history.caller_said(word.text.clone());
        self.carried = text;
        reply.stages.speech_end_ms = Some(millis(utterance.last_sound));
        reply.stages.endpoint_ms = Some(millis(utterance.endpoint));
        reply.stages.recogniser_ms = Some(millis(word.at));
        self.decide(reply);
    }

    /// Noise that is no word: the agent goes on where it was cut off, or listens on.
    fn heard_nothing<L: Line>(&mut self, utterance: Utterance, line: &mut L) {
        self.forget_ahead();
        match self.current.as_ref() {
            Some(reply) if reply.cut => self.resume(line),
            Some(_) => {}
            None if millis(utterance.last_sound) - millis(utterance.onset) >= f64::from(self.turn_config.no_input_ms) => {
                self.not_understood(utterance, String::new(), None, line);
            }
            None => self.machine.receive(self.now, TurnInput::AgentSilent),
        }
    }

    fn not_understood<L: Line>(&mut self, utterance: Utterance, text: String, word: Option<&LastWord>, line: &mut L) {
        self.forget_ahead();
        self.close_current(line);
        self.no_matches += 1;
        self.no_inputs = 0;
        self.caller_turn(&text, Means::Speech, utterance.onset, utterance.last_sound, None, word.map(|word| word.confidence));
        let mut reply = self.think(BrainInput::NoMatch(self.no_matches), Means::Speech);
        reply.stages.speech_end_ms = Some(millis(utterance.last_sound));
        reply.stages.endpoint_ms = Some(millis(utterance.endpoint));
        reply.stages.recogniser_ms = word.map(|word| millis(word.at));
        self.decide(reply);
    }

    fn lost<L: Line>(&mut self, failure: Failure, line: &mut L) {
        self.ear_failures += 1;
        let (what, fault) = (format!("recogniser {}: {}", failure.provider, failure.reason), failure.fault);
        let last = self.ear_failures >= self.config.recognizer_failures;
        self.report(Failure { remedy: if last { Remedy::GaveUp } else { failure.remedy }, ..failure });
        match self.awaited.take() {
            Some(Awaited::Verdict) => return self.machine.receive(self.now, TurnInput::Verdict(false)),
            // The caller still speaks: the end of the turn is answered.
            None => return,
            Some(Awaited::Turn(utterance)) if !last => {
                let trouble = self.config.trouble_text.clone();
                self.not_understood(utterance, String::new(), None, line);
                if let Some(reply) = self.current.as_mut() {
                    reply.speaking.add(&trouble);
                }
            }
            Some(Awaited::Turn(_)) => {
                let text = self.config.failure_text.clone();
                self.say_and(&text, After::Fail { what, fault }, line);
            }
        }
    }

    // What the brain and the voice made.

    fn made(&mut self, made: Made, ahead: bool) {
        match made {
            Made::Thought(Some(Ok(output))) => self.thought(output, ahead),
            Made::Thought(Some(Err(error))) => self.brain_failed(&error, ahead),
            Made::Thought(None) => {
                if let Some(reply) = self.reply(ahead) {
                    reply.stream = None;
                    if !reply.failed && !ahead {
                        self.brain_failures = 0;
                    }
                }
            }
            Made::Spoken(Spoken::FirstAudio) => {
                let now = millis(self.now);
                if let Some(reply) = self.reply(ahead) {
                    reply.stages.voice_ms.get_or_insert(now);
                }
            }
            Made::Spoken(Spoken::More) => {}
            Made::Spoken(Spoken::Failed(failure)) => {
                let reply = if ahead { self.ahead.as_ref() } else { self.current.as_ref() };
                if let Some(reply) = reply {
                    self.mouth.prefer_as(&reply.speaking);
                }
                self.report(failure);
            }
            Made::Spoken(Spoken::Lost(failure)) => {
                let (what, fault) = (format!("voice {}: {}", failure.provider, failure.reason), failure.fault);
                self.report(failure);
                match ahead {
                    true => self.forget_ahead(),
                    false => self.end = Some(SessionEnd::Failed { what, fault }),
                }
            }
        }
    }

    fn reply(&mut self, ahead: bool) -> Option<&mut Reply> {
        if ahead { self.ahead.as_mut() } else { self.current.as_mut() }
    }

    fn thought(&mut self, output: BrainOutput, ahead: bool) {
        let now = self.now;
        let Some(reply) = self.reply(ahead) else { return };
        reply.waiting_since = now;
        reply.outputs += 1;
        if reply.outputs > MAX_OUTPUTS {
            reply.stream = None;
            return;
        }
        match output {
            BrainOutput::Say(text) => {
                if !text.trim().is_empty() {
                    reply.texts += 1;
                    reply.stages.brain_ms.get_or_insert(millis(now));
                    reply.speaking.add(&text);
                }
            }
            BrainOutput::Listen(listen) => reply.after = After::Listen(listen),
            BrainOutput::Transfer(uri) => reply.after = After::Transfer { uri },
            BrainOutput::HangUp { reason } => reply.after = After::HangUp { reason },
        }
        if reply.committed {
            self.tell_machine_how_to_listen();
        }
    }

    fn brain_failed(&mut self, error: &BrainError, ahead: bool) {
        if ahead {
            // It is asked again once the turn is decided.
            self.forget_ahead();
            return;
        }
        self.brain_failures += 1;
        let last = self.brain_failures >= self.config.brain_failures;
        let provider = self.brain.name().to_owned();
        let fallback = if last { self.config.failure_text.clone() } else { self.brain.fallback().to_owned() };
        let what = format!("brain: {error}");
        if let Some(reply) = self.current.as_mut() {
            reply.stream = None;
            reply.failed = true;
            reply.texts += 1;
            reply.stages.brain_ms.get_or_insert(millis(self.now));
            reply.speaking.add(&fallback);
            reply.after = match last {
                true => After::Fail { what: what.clone(), fault: Fault::Upstream },
                false => After::Listen(Listen::default()),
            };
            if reply.committed {
                self.tell_machine_how_to_listen();
            }
        }
        let remedy = if last { Remedy::GaveUp } else { Remedy::SpokenFallback };
        self.report(Failure { part: Part::Brain, provider, reason: error.to_string(), fault: Fault::Upstream, remedy });
    }

    /// A brain that is slow is covered up for, and one that is too slow has failed.
    fn check_brain(&mut self) {
        let Some(reply) = self.current.as_mut().filter(|reply| reply.stream.is_some()) else { return };
        let waited = self.now.saturating_sub(reply.waiting_since);
        let ms = |ms: u32| Duration::from_millis(u64::from(ms));
        let (limit, stage) = match reply.texts {
            0 => (self.config.brain_first_ms, "beginning its answer"),
            _ => (self.config.brain_next_ms, "in mid-answer"),
        };
        if reply.texts == 0 && !reply.filler_said && !self.config.filler.is_empty() && waited >= ms(self.config.filler_after_ms) {
            reply.filler_said = true;
            reply.speaking.add(&self.config.filler);
        }
        if waited >= ms(limit) {
            let waited_ms = u64::try_from(waited.as_millis()).unwrap_or(u64::MAX);
            let error = BrainError::TooSlow { provider: self.brain.name().to_owned(), stage, waited_ms };
            self.brain_failed(&error, false);
        }
    }

    // Answers.

    /// Asks the brain; nothing of it holds before it is decided.
    fn think(&mut self, input: BrainInput, by: Means) -> Reply {
        self.forget_ahead();
        let stream = self.brain.respond(input.clone(), &self.history);
        Reply::new(Some(input), by, self.mouth.another(), Some(stream), self.now)
    }

    fn answer(&mut self, input: BrainInput, by: Means) {
        let reply = self.think(input, by);
        self.decide(reply);
    }

    fn answer_anew<L: Line>(&mut self, input: BrainInput, by: Means, line: &mut L) {
        self.forget_ahead();
        self.close_current(line);
        self.answer(input, by);
    }

    /// The session itself says something, whatever was to be said before.
    fn say_and<L: Line>(&mut self, text: &str, after: After, line: &mut L) {
        self.forget_ahead();
        self.hearing.cancel();
        self.awaited = None;
        if let Some(reply) = self.current.as_mut().filter(|reply| reply.released) {
            reply.speaking.cut(line);
            reply.cut = true;
        }
        self.close_current(line);
        let mut reply = Reply::new(None, Means::Unprompted, self.mouth.another(), None, self.now);
        reply.speaking.add(text);
        reply.after = after;
        self.decide(reply);
    }

    /// The turn is decided: this is the answer to it.
    fn decide(&mut self, mut reply: Reply) {
        reply.waiting_since = self.now;
        reply.progress = (0, self.now);
        self.machine.receive(self.now, TurnInput::AgentThinks);
        self.current = Some(reply);
    }

    /// Prepares an answer on the best hypothesis, at a likely pause.
    fn prepare<L: Line>(&mut self, line: &mut L) {
        if !self.config.ahead || self.ahead_count >= MAX_AHEAD || !self.carried_is_answered() {
            return;
        }
        let text = self.hearing.partial().to_owned();
        let worth_it = match self.progress(&text) {
            Progress::Complete | Progress::Settled | Progress::Open => true,
            Progress::Unknown => self.grammar.is_none() && !text.trim().is_empty(),
            Progress::Partial | Progress::Nothing => false,
        };
        if !worth_it || self.ahead.as_ref().is_some_and(|ahead| self.same_meaning(ahead, &text)) {
            return;
        }
        self.forget_ahead();
        self.ahead_count += 1;
        let mut history = self.history.clone();
        if let Some(reply) = self.current.as_ref().filter(|reply| reply.released) {
            let (heard, all) = reply.speaking.heard(line);
            history.agent_was_heard(heard, !all);
        }
        let input = BrainInput::Heard { text, confidence: 0.5 };
        let stream = self.brain.respond(input.clone(), &history);
        let mut reply = Reply::new(Some(input), Means::Speech, self.mouth.another(), Some(stream), self.now);
        reply.ahead = true;
        self.ahead = Some(reply);
    }

    fn same_meaning(&self, ahead: &Reply, text: &str) -> bool {
        let Some(BrainInput::Heard { text: before, .. }) = ahead.input.as_ref() else { return false };
        match self.grammar.as_ref() {
            Some(grammar) => grammar.match_text(before) == grammar.match_text(text),
            None => before.split_whitespace().eq(text.split_whitespace()),
        }
    }

    fn forget_ahead(&mut self) {
        if self.ahead.take().is_some() {
            self.brain.discard();
        }
    }

    fn carried_is_answered(&self) -> bool {
        self.current.as_ref().is_none_or(|reply| reply.released)
    }

    /// The caller went on before the agent had begun to answer: the answer is dropped, and what was said belongs to
    /// what is said now.
    fn take_back(&mut self) -> String {
        let unheard = self.current.as_ref().is_some_and(|reply| !reply.released && reply.by == Means::Speech);
        if unheard && self.grammar.is_none() {
            self.current = None;
            self.brain.discard();
            return std::mem::take(&mut self.carried);
        }
        String::new()
    }

    /// Lets the answer be heard, once there is something to hear and the caller is not speaking.
    fn release<L: Line>(&mut self, line: &mut L) {
        let speaks = self.machine.caller_speaks();
        let now = self.now;
        let Some(reply) = self.current.as_mut().filter(|reply| !reply.released && !speaks) else { return };
        let nothing_to_come = reply.stream.is_none() && reply.speaking.made();
        if !(reply.speaking.has_audio() || nothing_to_come) {
            return;
        }
        // A filler is no answer: the brain may still be taken back.
        reply.released = true;
        reply.progress = (0, now);
        reply.speaking.release(line);
        let committed = std::mem::replace(&mut reply.committed, true);
        let silent = reply.speaking.is_empty();
        let interruptible = reply.interruptible();
        if !committed && reply.input.is_some() {
            self.brain.commit();
        }
        self.carried.clear();
        self.tell_machine_how_to_listen();
        if !silent {
            self.machine.receive(now, TurnInput::AgentSpeaks { interruptible });
        }
    }

    fn tell_machine_how_to_listen(&mut self) {
        let Some(reply) = self.current.as_ref() else { return };
        let interruptible = reply.interruptible();
        let speaks = reply.released && !reply.cut && !reply.speaking.is_empty();
        if let After::Listen(listen) = &reply.after {
            let listen = listen.clone();
            self.machine.receive(self.now, TurnInput::Listen(listen));
        }
        if speaks && !interruptible {
            self.machine.receive(self.now, TurnInput::AgentSpeaks { interruptible });
        }
    }

    /// Tells which sentences began, and how far the turn was heard.
    fn report_playing<L: Line>(&mut self, line: &mut L) {
        let now = self.now;
        let Some(reply) = self.current.as_mut().filter(|reply| reply.released) else { return };
        let begun = reply.speaking.begun(line);
        if !begun.is_empty() && reply.stages.sent_ms.is_none() {
            let played = line.rate().duration_of(usize::try_from(line.played_samples()).unwrap_or(0));
            reply.stages.sent_ms = Some(millis(now.saturating_sub(played)));
        }
        let due = now.saturating_sub(self.heard_reported) >= HEARD_EVERY && reply.stages.sent_ms.is_some() && !reply.cut;
        let heard = due.then(|| reply.speaking.heard(line).0).filter(|heard| !heard.is_empty());
        for text in begun {
            self.tell(SessionEvent::AgentSays { text, at_ms: millis(now) });
        }
        if let Some(text) = heard {
            self.heard_reported = now;
            self.tell(SessionEvent::AgentHeard { text });
        }
    }

    /// The answer was heard to its end: what follows it.
    fn check_finished<L: Line>(&mut self, line: &mut L) {
        let now = self.now;
        let Some(reply) = self.current.as_mut().filter(|reply| reply.released && !reply.cut) else { return };
        let position = reply.speaking.position(line);
        if position != reply.progress.0 {
            reply.progress = (position, now);
        }
        let unplayed = line.queued_samples() > 0 || reply.speaking.all_fed();
        let stalled = unplayed && now.saturating_sub(reply.progress.1) >= STALLED;
        let over = reply.stream.is_none() && reply.speaking.all_heard(line);
        if !(over || stalled) {
            return;
        }
        let after = reply.after.clone();
        self.close_current(line);
        self.end = match after {
            After::Listen(_) => {
                self.machine.receive(now, TurnInput::AgentSilent);
                return;
            }
            After::HangUp { reason } => Some(SessionEnd::HangUp { reason }),
            After::Transfer { uri } => Some(SessionEnd::Transfer { uri }),
            After::Fail { what, fault } => Some(SessionEnd::Failed { what, fault }),
        };
    }

    /// The agent's turn is over, heard to its end or not: into the history and the record.
    fn close_current<L: Line>(&mut self, line: &mut L) {
        let Some(reply) = self.current.take() else { return };
        if !reply.released {
            self.brain.discard();
            return;
        }
        let (text, all) = reply.speaking.heard(line);
        if !all && !reply.cut {
            // Whatever is left in the line belongs to a turn that is over.
            line.interrupt();
        }
        if text.is_empty() && all {
            return;
        }
        self.history.agent_was_heard(text.clone(), !all);
        let sent_ms = reply.stages.sent_ms;
        let answers = reply.stages.speech_end_ms;
        let record = TurnRecord {
            index: self.turns,
            who: Speaker::Agent,
            text,
            started_ms: sent_ms.unwrap_or(millis(self.now)),
            ended_ms: millis(self.now),
            gap_ms: answers.zip(sent_ms).map(|(end, sent)| (sent - end).max(0.0)),
            stages: reply.stages,
            interrupted: !all,
            matched: None,
            confidence: None,
            by: reply.by,
            ahead: reply.ahead,
        };
        self.turns += 1;
        self.tell(SessionEvent::Turn(record));
    }

    fn caller_turn(&mut self, text: &str, by: Means, from: Duration, to: Duration, matched: Option<String>, confidence: Option<f32>) {
        let record = TurnRecord {
            index: self.turns,
            who: Speaker::Caller,
            text: text.to_owned(),
            started_ms: millis(from),
            ended_ms: millis(to),
            gap_ms: None,
            stages: super::Stages::default(),
            interrupted: false,
            matched,
            confidence,
            by,
            ahead: false,
        };
        self.turns += 1;
        self.tell(SessionEvent::Turn(record));
    }

    fn report(&mut self, failure: Failure) {
        let Failure { part, provider, reason, fault, remedy } = failure;
        tracing::warn!(%provider, ?part, ?remedy, %reason, "{provider} failed: {reason}");
        self.tell(SessionEvent::ProviderFailed { part, provider, reason, fault, remedy });
    }

    fn tell(&self, event: SessionEvent) {
        // An observer that has no room, or is gone, is no reason to stop talking.
        let _ = self.observer.try_send(event);
    }
}
