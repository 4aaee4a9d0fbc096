//! A queue in which callers wait for one of several people: plain data that routing makes of a rule.

use std::sync::Arc;
use std::time::Duration;

use crate::config::QueueOrder;

/// What a caller is told of their place in line stands for this in the text.
pub const PLACE: &str = "{place}";

/// A queue in which callers wait.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Queue {
    /// Its name: the rule's, or its users'.
    pub name: Arc<str>,
    /// The devices that are called, each once.
    pub members: Vec<String>,
    /// Which of those who are free.
    pub order: QueueOrder,
    /// How long each rings.
    pub ring_for: Duration,
    /// How long a caller waits at most.
    pub wait_for: Duration,
    /// Callers who wait at once, at most.
    pub limit: usize,
    /// Callers of the queue of the higher number come first.
    pub priority: i32,
    /// After a call of the queue's its user is left alone for so long.
    pub wrap_up: Duration,
    /// Said when the wait begins; may be empty.
    pub greeting: String,
    /// Said every so often; may be empty. [`PLACE`] is the place in line.
    pub position: String,
    /// How often.
    pub position_every: Duration,
    /// Who gets callers who wait no more; may be empty.
    pub then: String,
    /// The key by which a caller goes there at once.
    pub leave_key: Option<char>,
    /// What phones are told of the call besides who calls: its User-to-User, Subject.
    pub headers: Vec<(String, String)>,
}

/// What one of those who wait learns.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum News {
    /// These devices are free: they are to be called.
    Free(Vec<String>),
    /// None of the queue's users is there.
    Deserted,
}

impl Queue {
    /// What a caller at this place in line is told; `None`: nothing.
    #[must_use]
    pub fn told_at(&self, place: usize) -> Option<String> {
        (!self.position.is_empty()).then(|| self.position.replace(PLACE, &place.to_string()))
    }
}

#[cfg(test)]
impl Queue {
    /// A queue of these devices, one after another.
    pub(crate) fn example(name: &str, members: &[&str]) -> Self {
        Self {
            name: name.into(),
            members: members.iter().map(|member| (*member).to_owned()).collect(),
            order: QueueOrder::InTurn,
            ring_for: Duration::from_secs(20),
            wait_for: Duration::from_secs(300),
            limit: 10,
            priority: 0,
            wrap_up: Duration::ZERO,
            greeting: String::new(),
            position: String::new(),
            position_every: Duration::from_secs(30),
            then: String::new(),
            leave_key: None,
            headers: Vec::new(),
        }
    }
}
