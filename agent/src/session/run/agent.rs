//! The agent's side: what the brain and the voice made, and how it comes to the line.

use std::time::Duration;

use super::{HEARD_EVERY, MAX_AHEAD, Run, STALLED};
use crate::brain::{BrainError, BrainInput, BrainOutput, Listen};
use crate::history::Speaker;
use crate::line::Line;
use crate::session::clock::millis;
use crate::session::event::{Fault, Means, PRIVATE, Part, Remedy, SessionEnd, SessionEvent, Stages, TurnRecord};
use crate::session::hearing::Failure;
use crate::session::reply::{After, MAX_OUTPUTS, Made, Reply};
use crate::session::speaking::Spoken;
use crate::tool::{TOOLS_LIMIT, ToolRecord};
use crate::turn::{Progress, TurnInput};

impl Run {
    pub(super) fn made(&mut self, made: Made, ahead: bool) {
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

    pub(super) fn reply(&mut self, ahead: bool) -> Option<&mut Reply> {
        if ahead { self.ahead.as_mut() } else { self.current.as_mut() }
    }

    pub(super) fn thought(&mut self, output: BrainOutput, ahead: bool) {
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
            BrainOutput::Tool(ask) => {
                if reply.tools.len() < TOOLS_LIMIT {
                    reply.tools.push(ToolRecord::new(ask, millis(now)));
                }
            }
            BrainOutput::Listen(listen) => reply.after = After::Listen(listen),
            BrainOutput::Transfer(handover) => reply.after = After::Transfer(handover),
            BrainOutput::HangUp { reason } => reply.after = After::HangUp { reason },
        }
        if reply.committed {
            self.tell_machine_how_to_listen();
        }
    }

    pub(super) fn brain_failed(&mut self, error: &BrainError, ahead: bool) {
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
    pub(super) fn check_brain(&mut self) {
        let Some(reply) = self.current.as_mut().filter(|reply| reply.stream.is_some()) else { return };
        let waited = self.now.saturating_sub(reply.waiting_since);
        let ms = |ms: u32| Duration::from_millis(u64::from(ms));
        let (limit, stage) = match reply.texts {
            0 => (self.config.brain_first_ms, "beginning its answer"),
            _ => (self.config.brain_next_ms, "in mid-answer"),
        };
        if reply.texts == 0
            && !reply.filler_said
            && !self.on_hold
            && !self.config.filler.is_empty()
            && waited >= ms(self.config.filler_after_ms)
        {
            reply.filler_said = true;
            reply.speaking.add(&self.config.filler);
        }
        if waited >= ms(limit) {
            let waited_ms = u64::try_from(waited.as_millis()).unwrap_or(u64::MAX);
            let error = BrainError::TooSlow { provider: self.brain.name().to_owned(), stage, waited_ms };
            self.brain_failed(&error, false);
        }
    }

    /// Asks the brain; nothing of it holds before it is decided.
    pub(super) fn think(&mut self, input: BrainInput, by: Means) -> Reply {
        self.forget_ahead();
        let stream = self.brain.respond(input.clone(), &self.history);
        Reply::new(Some(input), by, self.mouth.another(), Some(stream), self.now)
    }

    pub(super) fn answer(&mut self, input: BrainInput, by: Means) {
        let reply = self.think(input, by);
        self.decide(reply);
    }

    pub(super) fn answer_anew<L: Line>(&mut self, input: BrainInput, by: Means, line: &mut L) {
        self.forget_ahead();
        self.close_current(line);
        self.answer(input, by);
    }

    /// The session itself says something, whatever was to be said before.
    pub(super) fn say_and<L: Line>(&mut self, text: &str, after: After, line: &mut L) {
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
    pub(super) fn decide(&mut self, mut reply: Reply) {
        reply.waiting_since = self.now;
        reply.progress = (0, self.now);
        self.machine.receive(self.now, TurnInput::AgentThinks);
        self.current = Some(reply);
    }

    /// Prepares an answer on the best hypothesis, at a likely pause.
    pub(super) fn prepare<L: Line>(&mut self, line: &mut L) {
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

    pub(super) fn same_meaning(&self, ahead: &Reply, text: &str) -> bool {
        let Some(BrainInput::Heard { text: before, .. }) = ahead.input.as_ref() else { return false };
        match self.grammar.as_ref() {
            Some(grammar) => grammar.match_text(before) == grammar.match_text(text),
            None => before.split_whitespace().eq(text.split_whitespace()),
        }
    }

    pub(super) fn forget_ahead(&mut self) {
        if self.ahead.take().is_some() {
            self.brain.discard();
        }
    }

    pub(super) fn carried_is_answered(&self) -> bool {
        self.current.as_ref().is_none_or(|reply| reply.released)
    }

    /// The caller went on before the agent had begun to answer: the answer is dropped, and what was said belongs to
    /// what is said now.
    pub(super) fn take_back(&mut self) -> String {
        let unheard = self.current.as_ref().is_some_and(|reply| !reply.released && reply.by == Means::Speech);
        if unheard && self.grammar.is_none() {
            self.current = None;
            self.brain.discard();
            return std::mem::take(&mut self.carried);
        }
        String::new()
    }

    /// Lets the answer be heard, once there is something to hear and the caller is not speaking.
    pub(super) fn release<L: Line>(&mut self, line: &mut L) {
        let waits = self.on_hold || self.machine.caller_speaks();
        let now = self.now;
        let Some(reply) = self.current.as_mut().filter(|reply| !reply.released && !waits) else { return };
        let nothing_to_come = reply.stream.is_none() && reply.speaking.made();
        if !(reply.speaking.has_audio() || nothing_to_come) {
            return;
        }
        let committed = std::mem::replace(&mut reply.committed, true);
        if !committed && reply.input.is_some() {
            self.brain.commit();
        }
        let private = self.brain.is_private();
        self.set_private(private, line);
        let Some(reply) = self.current.as_mut() else { return };
        // A filler is no answer: the brain may still be taken back.
        reply.released = true;
        reply.private = private;
        reply.progress = (0, now);
        reply.speaking.release(line);
        let silent = reply.speaking.is_empty();
        let interruptible = reply.interruptible();
        self.carried.clear();
        self.tell_machine_how_to_listen();
        if !silent {
            self.machine.receive(now, TurnInput::AgentSpeaks { interruptible });
        }
    }

    pub(super) fn tell_machine_how_to_listen(&mut self) {
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
    pub(super) fn report_playing<L: Line>(&mut self, line: &mut L) {
        if self.on_hold {
            return;
        }
        let now = self.now;
        let Some(reply) = self.current.as_mut().filter(|reply| reply.released) else { return };
        let begun = reply.speaking.begun(line);
        if !begun.is_empty() && reply.stages.sent_ms.is_none() {
            let played = line.rate().duration_of(usize::try_from(line.played_samples()).unwrap_or(0));
            reply.stages.sent_ms = Some(millis(now.saturating_sub(played)));
        }
        let due =
            now.saturating_sub(self.heard_reported) >= HEARD_EVERY && reply.stages.sent_ms.is_some() && !reply.cut;
        let heard = due.then(|| reply.speaking.heard(line).0).filter(|heard| !heard.is_empty());
        let private = reply.private;
        let told = |text: String| if private { PRIVATE.to_owned() } else { text };
        for text in begun.into_iter().map(told) {
            self.tell(SessionEvent::AgentSays { text, at_ms: millis(now) });
        }
        if let Some(text) = heard.map(told) {
            self.heard_reported = now;
            self.tell(SessionEvent::AgentHeard { text });
        }
    }

    /// The answer was heard to its end: what follows it.
    pub(super) fn check_finished<L: Line>(&mut self, line: &mut L) {
        if self.on_hold {
            return;
        }
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
        carry_out(&mut reply.tools, &after, millis(now));
        self.close_current(line);
        self.end = match after {
            After::Listen(_) => {
                self.machine.receive(now, TurnInput::AgentSilent);
                return;
            }
            After::HangUp { reason } => Some(SessionEnd::HangUp { reason }),
            After::Transfer(handover) => Some(SessionEnd::Transfer(handover)),
            After::Fail { what, fault } => Some(SessionEnd::Failed { what, fault }),
        };
    }

    /// The agent's turn is over, heard to its end or not: into the history and the record.
    pub(super) fn close_current<L: Line>(&mut self, line: &mut L) {
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
        if text.is_empty() && all && reply.tools.is_empty() {
            return;
        }
        let text = if reply.private { PRIVATE.to_owned() } else { text };
        self.history.agent_was_heard(text.clone(), !all);
        let tools = self.tools_of(reply.tools, reply.private);
        let sent_ms = reply.stages.sent_ms;
        let answers = reply.stages.speech_end_ms;
        let record = TurnRecord {
            index: self.turns,
            conversation: 0,
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
            tools,
        };
        self.turns += 1;
        self.tell(SessionEvent::Turn(record));
        self.tell_usage();
    }

    /// The tools of a turn that is over, for the record; a transfer goes on beyond it.
    fn tools_of(&mut self, mut tools: Vec<ToolRecord>, private: bool) -> Vec<ToolRecord> {
        for (place, tool) in tools.iter_mut().enumerate() {
            if private && !tool.arguments.is_empty() {
                tool.arguments = PRIVATE.to_owned();
            }
            match tool.started_ms {
                Some(_) if tool.is_open() => self.passing_on = Some((self.turns, place, tool.clone())),
                None if tool.is_open() => tool.settle(Some("the answer ended before it")),
                _ => {}
            }
        }
        tools
    }

    /// The conversation goes on after a transfer: it came to nothing.
    pub(super) fn settle_transfer(&mut self, input: &BrainInput) {
        let Some((turn, place, mut tool)) = self.passing_on.take() else { return };
        let BrainInput::TransferFailed(why) = input else { return };
        tool.settle(Some(why));
        tool.took_ms = tool.started_ms.map(|started| (millis(self.now) - started).max(0.0));
        self.tell(SessionEvent::Tool { turn, place, tool });
    }

    pub(super) fn caller_turn(
        &mut self,
        text: &str,
        by: Means,
        from: Duration,
        to: Duration,
        matched: Option<String>,
        confidence: Option<f32>,
    ) {
        let record = TurnRecord {
            index: self.turns,
            conversation: 0,
            who: Speaker::Caller,
            text: text.to_owned(),
            started_ms: millis(from),
            ended_ms: millis(to),
            gap_ms: None,
            stages: Stages::default(),
            interrupted: false,
            matched,
            confidence,
            by,
            ahead: false,
            tools: Vec::new(),
        };
        self.turns += 1;
        self.tell(SessionEvent::Turn(record));
        self.tell_usage();
    }
}

/// What was to be said before it was said: the tool that follows is begun, and of hanging up that is all.
fn carry_out(tools: &mut [ToolRecord], after: &After, now_ms: f64) {
    let Some(tool) = tools.iter_mut().find(|tool| tool.is_open()) else { return };
    match after {
        After::HangUp { .. } => {
            (tool.started_ms, tool.took_ms) = (Some(now_ms), Some(0.0));
            tool.settle(None);
        }
        After::Transfer(_) => tool.started_ms = Some(now_ms),
        After::Listen(_) | After::Fail { .. } => {}
    }
}
