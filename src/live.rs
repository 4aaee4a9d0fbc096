//! The calls in progress as those see them who are outside of them: a list, and what changes in it as events.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use agent::session::SessionEvent;
use control::live::Live;
use control::ports::{CallState, LiveCall};
use control::time::Moment;
use media::tones::HeardTone;
use serde::Serialize;
use serde_json::json;

use crate::call::end::{EndClass, EndReason};
use crate::call::record::CallRecord;

/// What is told of a call that is over.
#[derive(Serialize)]
struct Ended<'a> {
    direction: &'a str,
    from: &'a str,
    to: &'a str,
    target: &'a str,
    duration_ms: u64,
    class: EndClass,
    reason: EndReason,
}

/// The list.
#[derive(Debug)]
pub(crate) struct LiveCalls {
    calls: Mutex<HashMap<String, Arc<LiveCall>>>,
    live: Live,
}

impl LiveCalls {
    /// Empty; what happens is told to `live`.
    pub(crate) fn new(live: Live) -> Self {
        Self { calls: Mutex::default(), live }
    }

    /// The calls, oldest first.
    pub(crate) fn list(&self) -> Vec<LiveCall> {
        let mut calls: Vec<LiveCall> = self.lock().values().map(|call| LiveCall::clone(call)).collect();
        calls.sort_by(|a, b| (a.started_at, &a.call).cmp(&(b.started_at, &b.call)));
        calls
    }

    /// One call.
    pub(crate) fn find(&self, call: &str) -> Option<LiveCall> {
        self.lock().get(call).map(|call| LiveCall::clone(call))
    }

    /// A call began, or is otherwise than before.
    pub(crate) fn show(&self, call: LiveCall) {
        let call = Arc::new(call);
        let before = self.lock().insert(call.call.clone(), Arc::clone(&call));
        let kind = match &before {
            Some(before) if *before == call => return,
            Some(_) => "call.changed",
            None => "call.started",
        };
        self.live.tell_of_call(Moment::now(), kind, &call);
        if call.answered_at.is_some() && before.is_none_or(|before| before.answered_at.is_none()) {
            self.live.tell_of_call(Moment::now(), "call.answered", &call);
        }
    }

    /// A call is over. One that was refused at once was never among those in progress.
    pub(crate) fn ended(&self, record: &CallRecord) {
        let Some(call) = self.lock().remove(&record.call) else { return };
        let data = Ended {
            direction: &call.direction,
            from: &call.from,
            to: &call.to,
            target: &call.target,
            duration_ms: record.duration_ms,
            class: record.end.class,
            reason: record.end.reason,
        };
        self.live.tell(Moment::now(), "call.ended", &call.call, &call.devices, data);
    }

    /// Something happened in a call's conversation.
    pub(crate) fn observe(&self, call: &str, event: &SessionEvent) {
        let Some(kind) = kind(event) else { return };
        let devices = self.lock().get(call).map(|call| call.devices.clone()).unwrap_or_default();
        self.live.tell(Moment::now(), kind, call, &devices, event);
    }

    /// A leg of a call sent a tone.
    pub(crate) fn tone(&self, call: &str, leg: u16, heard: HeardTone) {
        let devices = self.lock().get(call).map(|call| call.devices.clone()).unwrap_or_default();
        let data = json!({ "leg": leg, "tone": heard.tone.name() });
        self.live.tell(Moment::now(), "tone", call, &devices, data);
    }

    /// Somebody in a conference speaks from here on, or does not; who speaks now.
    pub(crate) fn speaker(&self, call: &str, leg: u16, speaks: bool, speakers: &[u16]) {
        let devices = self.lock().get(call).map(|call| call.devices.clone()).unwrap_or_default();
        let data = json!({ "leg": leg, "speaks": speaks, "speakers": speakers });
        self.live.tell(Moment::now(), "conference.speaker", call, &devices, data);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, Arc<LiveCall>>> {
        self.calls.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// What the event is called outside; `None`: it is of no use there.
fn kind(event: &SessionEvent) -> Option<&'static str> {
    Some(match event {
        SessionEvent::Began(_) => "conversation.started",
        SessionEvent::SpeechStarted { .. } => "speech.started",
        SessionEvent::Partial { .. } => "transcript.partial",
        SessionEvent::Final { .. } => "transcript.final",
        SessionEvent::Keys { .. } => "keys",
        SessionEvent::AgentSays { .. } => "agent.says",
        SessionEvent::Interrupted { .. } => "interrupted",
        SessionEvent::Held { .. } => "held",
        SessionEvent::Turn(_) => "turn",
        SessionEvent::Tool { .. } => "tool",
        SessionEvent::ProviderFailed { .. } => "provider.failed",
        _ => return None,
    })
}

/// How far a call has come, of what its phase says.
pub(crate) fn state(is_up: bool, is_ending: bool) -> CallState {
    match (is_ending, is_up) {
        (true, _) => CallState::Ending,
        (false, true) => CallState::Up,
        (false, false) => CallState::Ringing,
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn who_speaks_in_a_conference_is_told() {
        let live = Live::new(Moment(1));
        let calls = LiveCalls::new(live.clone());
        calls.speaker("c", 1_001, true, &[0, 1_001]);
        let told = live.read(Some(1_000)).take(1).events.remove(0);
        assert_eq!((told.kind, told.call.as_str()), ("conference.speaker", "c"));
        let data: serde_json::Value = serde_json::from_str(told.data.get()).unwrap();
        assert_eq!(data, json!({ "leg": 1_001, "speaks": true, "speakers": [0, 1_001] }));
    }
}
