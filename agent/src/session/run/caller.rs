//! The caller's side: what the turn machine decided, and what the ear heard.

use std::time::Duration;

use super::{Awaited, LastWord, Run, Utterance};
use crate::brain::BrainInput;
use crate::line::Line;
use crate::session::clock::millis;
use crate::session::event::{Means, PRIVATE, Remedy, SessionEvent};
use crate::session::hearing::{Failure, Heard};
use crate::session::reply::After;
use crate::turn::{Progress, TurnInput, TurnOutput};

/// Sound this long that the gate took for speech is no cough: where no word was made of it, the caller is asked again.
const SURELY_SPEECH_MS: f64 = 800.0;

impl Run {
    pub(super) fn decided<L: Line>(&mut self, output: TurnOutput, line: &mut L) {
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
            TurnOutput::CallOver => {
                self.say_and(&self.config.time_limit_text.clone(), After::HangUp { reason: "time limit".into() }, line)
            }
        }
    }

    pub(super) fn caller_began(&mut self, onset: Duration) {
        self.forget_ahead();
        self.ahead_count = 0;
        self.caller_paused = false;
        self.caller_onset = onset;
        self.verdict_word = None;
        self.ear_lost = None;
        self.awaited = None;
        self.grammar = self.brain.expects();
        self.hearing.begin(onset, self.grammar.clone());
        if !self.current.as_ref().is_some_and(|reply| reply.released) {
            self.tell(SessionEvent::SpeechStarted { at_ms: millis(onset) });
        }
    }

    pub(super) fn interrupt<L: Line>(&mut self, onset: Duration, by_key: bool, line: &mut L) {
        let Some(reply) = self.current.as_mut().filter(|reply| reply.released) else { return };
        reply.speaking.cut(line);
        reply.cut = true;
        let (heard, _) = reply.speaking.heard(line);
        let heard = if reply.private { PRIVATE.to_owned() } else { heard };
        let (at_ms, onset_ms) = (millis(self.now), millis(onset));
        if !by_key {
            self.tell(SessionEvent::SpeechStarted { at_ms: onset_ms });
        }
        self.tell(SessionEvent::Interrupted { at_ms, onset_ms, heard, by_key });
    }

    pub(super) fn resume<L: Line>(&mut self, line: &mut L) {
        let Some(reply) = self.current.as_mut().filter(|reply| reply.released) else { return };
        reply.speaking.resume(line);
        self.speaks_on();
        self.tell(SessionEvent::Resumed { at_ms: millis(self.now) });
    }

    /// The answer that was cut is heard again.
    pub(super) fn speaks_on(&mut self) {
        let Some(reply) = self.current.as_mut() else { return };
        reply.cut = false;
        reply.progress = (0, self.now);
        let interruptible = reply.interruptible();
        if !reply.speaking.is_empty() {
            self.machine.receive(self.now, TurnInput::AgentSpeaks { interruptible });
        }
    }

    pub(super) fn turn_ended<L: Line>(&mut self, utterance: Utterance, line: &mut L) {
        self.caller_paused = false;
        if let Some(word) = self.verdict_word.take() {
            return self.judged(utterance, &word, line);
        }
        if self.hearing.busy() {
            self.awaited = Some(Awaited::Turn(utterance));
            self.hearing.finish(self.now, utterance.last_sound);
        } else {
            self.unheard(utterance, line);
        }
    }

    pub(super) fn keys<L: Line>(&mut self, digits: String, line: &mut L) {
        self.tell(SessionEvent::Keys { digits: self.public(&digits), at_ms: millis(self.now) });
        self.hearing.cancel();
        self.awaited = None;
        self.forget_ahead();
        self.no_inputs = 0;
        self.no_matches = 0;
        self.close_current(line);
        let at = self.now;
        self.caller_turn(&self.public(&digits), Means::Keys, at, at, None, None);
        let mut reply = self.think(BrainInput::Digits(digits.clone()), Means::Keys);
        self.history.caller_said(format!("(pressed {})", self.public(&digits)));
        reply.stages.speech_end_ms = Some(millis(at));
        reply.stages.endpoint_ms = Some(millis(at));
        self.decide(reply);
    }

    pub(super) fn heard<L: Line>(&mut self, heard: Heard, line: &mut L) {
        match heard {
            Heard::Partial { text } if text.is_empty() => {}
            Heard::Partial { text } => {
                let input = TurnInput::Hypothesis {
                    progress: self.progress(&text),
                    words: self.turn_config.words_that_count(&text),
                    all_words: text.split_whitespace().count(),
                };
                if !self.private {
                    self.tell(SessionEvent::Partial { text });
                }
                self.machine.receive(self.now, input);
                if self.caller_paused {
                    self.prepare(line);
                }
            }
            Heard::Final { text, words, confidence, accepted } => {
                let words = words.into_iter().map(|word| word.text).filter(|_| !self.private).collect();
                self.tell(SessionEvent::Final { text: self.public(&text), words, confidence, accepted });
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

    pub(super) fn progress(&self, text: &str) -> Progress {
        self.grammar.as_ref().map_or(Progress::Unknown, |grammar| Progress::of(grammar, text))
    }

    /// Whether short speech over the agent was an answer and no sign of listening.
    pub(super) fn is_answer(&self, word: &LastWord) -> bool {
        word.accepted
            && match self.grammar.as_ref() {
                Some(grammar) => grammar.match_text(&word.text).is_some(),
                None => self.turn_config.words_that_count(&word.text) > 0,
            }
    }

    pub(super) fn judged<L: Line>(&mut self, utterance: Utterance, word: &LastWord, line: &mut L) {
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
        self.caller_turn(
            &self.public(&word.text),
            Means::Speech,
            utterance.onset,
            utterance.last_sound,
            rule,
            Some(word.confidence),
        );
        let text = if carried.is_empty() { word.text.clone() } else { format!("{carried} {}", word.text) };
        let mut reply = match ahead {
            Some(reply) if carried.is_empty() => reply,
            _ => {
                let confidence = word.confidence;
                // The text stands in the history after the brain was asked, which gets it as its input.
                self.think(BrainInput::Heard { text: text.clone(), confidence }, Means::Speech)
            }
        };
        self.history.caller_said(self.public(&word.text));
        self.carried = text;
        reply.stages.speech_end_ms = Some(millis(utterance.last_sound));
        reply.stages.endpoint_ms = Some(millis(utterance.endpoint));
        reply.stages.recogniser_ms = Some(millis(word.at));
        self.decide(reply);
    }

    /// Noise that is no word: the agent goes on where it was cut off, or listens on.
    pub(super) fn heard_nothing<L: Line>(&mut self, utterance: Utterance, line: &mut L) {
        self.forget_ahead();
        match self.current.as_ref() {
            // Whoever holds the call hears it when they are back.
            Some(reply) if reply.cut && !self.on_hold => self.resume(line),
            Some(_) => {}
            None if millis(utterance.last_sound) - millis(utterance.onset) >= SURELY_SPEECH_MS => {
                self.not_understood(utterance, String::new(), None, line);
            }
            None => self.machine.receive(self.now, TurnInput::AgentSilent),
        }
    }

    pub(super) fn not_understood<L: Line>(
        &mut self,
        utterance: Utterance,
        text: String,
        word: Option<&LastWord>,
        line: &mut L,
    ) {
        self.forget_ahead();
        self.close_current(line);
        self.no_matches += 1;
        self.no_inputs = 0;
        self.caller_turn(
            &self.public(&text),
            Means::Speech,
            utterance.onset,
            utterance.last_sound,
            None,
            word.map(|word| word.confidence),
        );
        let mut reply = self.think(BrainInput::NoMatch(self.no_matches), Means::Speech);
        reply.stages.speech_end_ms = Some(millis(utterance.last_sound));
        reply.stages.endpoint_ms = Some(millis(utterance.endpoint));
        reply.stages.recogniser_ms = word.map(|word| millis(word.at));
        self.decide(reply);
    }

    pub(super) fn lost<L: Line>(&mut self, failure: Failure, line: &mut L) {
        self.ear_failures += 1;
        let (what, fault) = (format!("recogniser {}: {}", failure.provider, failure.reason), failure.fault);
        let remedy = if self.ear_gone() { Remedy::GaveUp } else { failure.remedy };
        self.report(Failure { remedy, ..failure });
        self.ear_lost = Some((what, fault));
        match self.awaited.take() {
            Some(Awaited::Verdict) => self.machine.receive(self.now, TurnInput::Verdict(false)),
            Some(Awaited::Turn(utterance)) => self.unheard(utterance, line),
            // The caller still speaks: the end of the turn is answered.
            None => {}
        }
    }

    fn ear_gone(&self) -> bool {
        self.ear_failures >= self.config.recognizer_failures
    }

    /// A turn that no recogniser could take: said so, and asked again; in the end, given up.
    fn unheard<L: Line>(&mut self, utterance: Utterance, line: &mut L) {
        match self.ear_lost.take() {
            Some((what, fault)) if self.ear_gone() => {
                let text = self.config.failure_text.clone();
                self.say_and(&text, After::Fail { what, fault }, line);
            }
            lost => {
                self.not_understood(utterance, String::new(), None, line);
                let trouble = self.config.trouble_text.clone();
                if let (Some(_), Some(reply)) = (lost, self.current.as_mut()) {
                    reply.speaking.add(&trouble);
                }
            }
        }
    }
}
