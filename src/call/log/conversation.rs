//! What an agent's conversation tells of itself: who holds it, its turns and their tools, what failed.

use std::time::SystemTime;

use agent::session::{SessionEvent, TurnRecord};
use agent::tool::ToolRecord;

use super::{CallLog, Providers, TURNS_LIMIT};
use crate::call::record::AgentRecord;

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

    /// What the conversation reported.
    pub fn session_event(&mut self, event: SessionEvent, now: SystemTime) {
        let agent: &mut AgentRecord = self.record.agent.get_or_insert_default();
        match event {
            SessionEvent::Turn(turn) if self.turns.len() < TURNS_LIMIT => {
                if let Some(place) = turn.tools.iter().position(ToolRecord::is_open) {
                    self.tool = Some((turn.index, place, now));
                }
                self.turns.push(turn);
            }
            SessionEvent::Used(usage) => self.usage = usage,
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
