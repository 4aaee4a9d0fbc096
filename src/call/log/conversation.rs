//! What agents' conversations tell of themselves: who holds each, its turns and their tools, what it used, what failed.

use std::time::{Duration, SystemTime};

use agent::history::{Entry, MAX_ENTRIES, Speaker};
use agent::session::{Began, Means, SessionEvent, TurnRecord};
use agent::tool::ToolRecord;
use agent::usage::Usage;

use super::{CallLog, Providers, TURNS_LIMIT};
use crate::call::record::{AgentRecord, ConversationOutcome, ConversationRecord, timestamp};

impl CallLog {
    /// Who recognised, thought and spoke.
    pub fn set_providers(&mut self, providers: Option<Providers>) {
        let Some(providers) = providers else { return };
        let agent = self.record.agent.get_or_insert_default();
        agent.recognizer = providers.recognizer;
        agent.brain = providers.brain;
        agent.voice = providers.voice;
    }

    /// Something failed that the record should tell.
    pub fn failure(&mut self, what: String) {
        self.record.agent.get_or_insert_default().failures.push(what);
    }

    /// A conversation counts from 0 what the call counts over all of them.
    pub fn number(&mut self, event: &mut SessionEvent) {
        let conversations = u32::try_from(self.record.conversations.len()).unwrap_or(u32::MAX);
        match event {
            SessionEvent::Began(began) => {
                began.conversation = conversations;
                self.first_turn = self.next_turn;
            }
            SessionEvent::Turn(turn) => {
                turn.index = turn.index.saturating_add(self.first_turn);
                turn.conversation = conversations.saturating_sub(1);
                self.next_turn = self.next_turn.max(turn.index.saturating_add(1));
            }
            SessionEvent::Tool { turn, .. } => *turn = turn.saturating_add(self.first_turn),
            _ => {}
        }
    }

    /// The latest conversation's number.
    #[must_use]
    pub fn conversation(&self) -> Option<u32> {
        self.record.conversations.last().map(|latest| latest.conversation)
    }

    /// The agent that has the caller.
    #[must_use]
    pub fn agent(&self) -> Option<&str> {
        let latest = self.record.conversations.last().filter(|latest| latest.ended_at.is_none());
        latest.map(|latest| latest.agent.as_str())
    }

    /// The caller is somebody else's, or gone.
    pub fn conversation_over(&mut self, outcome: ConversationOutcome, now: SystemTime) {
        if let Some(latest) = self.record.conversations.last_mut().filter(|latest| latest.ended_at.is_none()) {
            (latest.ended_at, latest.outcome) = (Some(timestamp(now)), Some(outcome));
        }
    }

    /// What all of them used together.
    #[must_use]
    pub(super) fn usage(&self) -> Usage {
        let mut all = Usage::default();
        self.record.conversations.iter().for_each(|one| all.add(&one.usage));
        all
    }

    /// What was said so far, as an agent remembers it; of much the latest.
    #[must_use]
    pub fn said(&self) -> Vec<Entry> {
        let turns = self.turns.latest(MAX_ENTRIES).into_iter().filter(|turn| !turn.text.trim().is_empty());
        let entry = |turn: TurnRecord| {
            let text = match (turn.who, turn.by) {
                (Speaker::Caller, Means::Keys) => format!("(pressed {})", turn.text),
                _ => turn.text,
            };
            Entry { who: turn.who, text, interrupted: turn.interrupted }
        };
        turns.map(entry).collect()
    }

    /// How long the call has been up.
    #[must_use]
    pub fn up_for(&self, now: SystemTime) -> Duration {
        self.answered.and_then(|answered| now.duration_since(answered).ok()).unwrap_or_default()
    }

    fn began(&mut self, began: Began, now: SystemTime) {
        let Began { conversation, agent, version, recognizer, brain, voice } = began;
        self.record.conversations.push(ConversationRecord {
            conversation,
            agent,
            version,
            recognizer: recognizer.clone(),
            brain: brain.clone(),
            voice: voice.clone(),
            began_at: timestamp(now),
            ..ConversationRecord::default()
        });
        self.set_providers(Some(Providers { recognizer, brain, voice }));
    }

    /// What the conversation reported.
    pub fn session_event(&mut self, event: SessionEvent, now: SystemTime) {
        let agent: &mut AgentRecord = self.record.agent.get_or_insert_default();
        let latest = self.record.conversations.last_mut();
        match event {
            SessionEvent::Began(began) => self.began(began, now),
            SessionEvent::Turn(turn) if self.turns.len() < TURNS_LIMIT => {
                if let Some(latest) = latest {
                    latest.turns = latest.turns.saturating_add(1);
                }
                if let Some(place) = turn.tools.iter().position(ToolRecord::is_open) {
                    self.tool = Some((turn.index, place, now));
                }
                self.turns.push(turn);
            }
            SessionEvent::Used(usage) => {
                if let Some(latest) = latest {
                    latest.usage = usage;
                }
            }
            SessionEvent::Tool { turn: index, place, tool } => {
                let turn = self.turns.get_mut(index);
                if let Some(known) = turn.and_then(|turn| turn.tools.get_mut(place)) {
                    *known = tool;
                    self.tool = None;
                }
            }
            SessionEvent::ProviderFailed { part, provider, reason, remedy, .. } => {
                agent.failures.push(format!("{part:?} {provider}: {reason} ({remedy:?})").to_lowercase());
            }
            _ => {}
        }
    }

    /// What the agent wanted done, beyond its own turn, is done, or failed: the turn as it is then.
    pub fn settle_tool(&mut self, failed: Option<&str>, now: SystemTime) -> Option<SessionEvent> {
        let (turn, place, since) = self.tool.take()?;
        let turn = self.turns.get_mut(turn)?;
        let tool = turn.tools.get_mut(place)?;
        tool.settle(failed);
        tool.took_ms = now.duration_since(since).ok().map(|took| took.as_secs_f64() * 1_000.0);
        Some(SessionEvent::Tool { turn: turn.index, place, tool: tool.clone() })
    }

    /// A turn of the conversation.
    #[must_use]
    pub fn turn(&self, index: u32) -> Option<&TurnRecord> {
        self.turns.get(index)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]
mod tests {
    use agent::usage::SpokenUsage;

    use super::*;
    use crate::call::end::{End, EndReason};
    use crate::call::record::CallDirection;
    use crate::config::PricesConfig;

    fn at(ms: u64) -> SystemTime {
        SystemTime::UNIX_EPOCH + Duration::from_millis(ms)
    }

    fn told(log: &mut CallLog, mut event: SessionEvent, ms: u64) {
        log.number(&mut event);
        log.session_event(event, at(ms));
    }

    fn began(agent: &str, version: Option<i64>) -> SessionEvent {
        let brain = format!("brain of {agent}");
        SessionEvent::Began(Began { agent: agent.to_owned(), version, brain, ..Began::default() })
    }

    fn turn(index: u32, who: &str, by: &str, text: &str) -> SessionEvent {
        let turn = serde_json::json!({
            "index": index, "who": who, "text": text, "started_ms": 1.0, "ended_ms": 2.0, "gap_ms": null, "stages": {},
            "interrupted": false, "matched": null, "confidence": null, "by": by, "ahead": false
        });
        SessionEvent::Turn(serde_json::from_value(turn).unwrap())
    }

    fn spoke(characters: u64) -> SessionEvent {
        let voices = vec![SpokenUsage { provider: "flite".to_owned(), characters }];
        SessionEvent::Used(Usage { voices, ..Usage::default() })
    }

    #[test]
    fn a_call_has_its_conversations_in_order_with_what_each_used_and_turns_that_say_whose_they_are() {
        let mut log = CallLog::new("c", CallDirection::Inbound, String::new(), "desk", at(0));
        log.answered(crate::call::LegNo::FIRST, at(0));
        told(&mut log, began("desk", None), 10);
        told(&mut log, turn(0, "agent", "unprompted", "Hello."), 20);
        told(&mut log, turn(1, "caller", "keys", "2"), 30);
        told(&mut log, spoke(6), 30);
        assert_eq!(log.agent(), Some("desk"));
        log.conversation_over(ConversationOutcome::Transferred, at(40));
        assert_eq!(log.agent(), None);
        // What it has to tell still is its own.
        told(&mut log, spoke(7), 45);
        let said: Vec<String> = log.said().into_iter().map(|entry| entry.text).collect();
        assert_eq!(said, ["Hello.", "(pressed 2)"]);
        told(&mut log, began("sales", Some(3)), 50);
        told(&mut log, spoke(10), 55);
        told(&mut log, turn(0, "agent", "unprompted", "This is sales."), 60);
        assert_eq!((log.agent(), log.up_for(at(60))), (Some("sales"), Duration::from_millis(60)));
        let prices: PricesConfig =
            toml::from_str("currency = \"EUR\"\n[[voices]]\nname = \"flite\"\nthousand_characters = \"1\"\n").unwrap();
        let record = log.close(End::new(EndReason::CallerHungUp), &prices, at(70));
        let [desk, sales] = &record.conversations[..] else { panic!("{record:?}") };
        assert_eq!(
            (desk.agent.as_str(), desk.turns, desk.outcome),
            ("desk", 2, Some(ConversationOutcome::Transferred))
        );
        assert_eq!((sales.agent.as_str(), sales.version, sales.turns), ("sales", Some(3), 1));
        assert_eq!((desk.usage.voices[0].characters, sales.usage.voices[0].characters), (7, 10));
        assert_eq!(
            (sales.outcome, sales.ended_at.as_deref()),
            (Some(ConversationOutcome::CallEnded), Some(&*timestamp(at(70))))
        );
        assert_eq!(record.cost.unwrap().micros, Some(17_000), "all of what both used");
        let agent = record.agent.unwrap();
        let turns: Vec<_> = agent.turns.iter().map(|turn| (turn.index, turn.conversation)).collect();
        assert_eq!((turns, agent.brain.as_str()), (vec![(0, 0), (1, 0), (2, 1)], "brain of sales"));
        assert_eq!(record.target, "desk", "it answered");
    }
}
