//! What happened, as those hear of it who are told.

use std::sync::{Arc, OnceLock};

use serde::{Serialize, Serializer};
use serde_json::value::{RawValue, to_raw_value};

use super::LiveCall;
use crate::time::Moment;

/// Something that happened.
#[derive(Debug, Clone, Serialize)]
pub struct Event {
    /// Counts up, also over a restart.
    pub id: u64,
    /// When.
    pub at: Moment,
    /// What: `call.started`, `call.changed`, `call.ended`, `turn`, ...
    #[serde(rename = "type")]
    pub kind: &'static str,
    /// The call it happened in.
    pub call: String,
    /// What there is to tell.
    pub data: Data,
    /// The devices that take part in the call: who may be told.
    #[serde(skip)]
    pub devices: Vec<String>,
    /// Of an event that is about somebody: who that is.
    #[serde(skip)]
    pub person: Option<Person>,
}

/// What an event tells. Thousands of events are kept, and each is written as text once at most.
#[derive(Debug, Clone)]
pub enum Data {
    /// As text.
    Text(Box<RawValue>),
    /// A call, which is written once somebody reads of it: most are told of when nobody does.
    Call(Arc<LiveCall>, OnceLock<Box<RawValue>>),
}

impl Data {
    /// Something that is written now.
    #[must_use]
    pub fn written(data: &impl Serialize) -> Self {
        Self::Text(text_of(data))
    }

    /// As JSON.
    #[must_use]
    pub fn get(&self) -> &str {
        self.raw().get()
    }

    fn raw(&self) -> &RawValue {
        match self {
            Self::Text(text) => text,
            Self::Call(call, text) => text.get_or_init(|| text_of(&**call)),
        }
    }
}

impl Serialize for Data {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        self.raw().serialize(serializer)
    }
}

/// Somebody whom an event is about: they may be told, their team's supervisors, and administrators.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Person {
    /// The user's id.
    pub user: String,
    /// Their team.
    pub team: Option<String>,
}

/// As it is told; what has no JSON form is told as null.
fn text_of(data: &impl Serialize) -> Box<RawValue> {
    to_raw_value(data).unwrap_or_else(|fault| {
        tracing::error!("an event has no JSON form: {fault}");
        RawValue::NULL.to_owned()
    })
}
