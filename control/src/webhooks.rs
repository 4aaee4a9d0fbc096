//! Webhooks: what happens is told to other systems by HTTP, as Standard Webhooks (standardwebhooks.com, 1.0) has it.
//!
//! | module | does |
//! | --- | --- |
//! | [`signature`] | signs what goes out, verifies what comes in |
//! | [`schedule`] | when it is tried again, and when an endpoint is left alone: pure, the clock is an argument |
//! | [`client`] | one POST, to public addresses alone |
//! | [`dispatch`] | takes what is due out of the outbox and sends it |
//!
//! What is to be sent stands in the outbox (`crate::store::outbox`) first: `call.ended` is written there in the transaction that stores the
//! call's record, so that it is there exactly once; it is sent at least once, with the same `webhook-id` each time. Events of
//! one call reach an endpoint in order: the next is sent once the one before it is delivered or dead.

pub mod client;
pub mod dispatch;
pub mod schedule;
pub mod signature;

/// Webhooks at most.
pub const WEBHOOKS_LIMIT: i64 = 50;
/// A secret that another took the place of signs too for this long, in seconds.
pub const OVERLAP_S: i64 = 86_400;
/// Delivered events are shown for so long, dead ones for so long; in seconds.
pub const DELIVERED_KEPT_S: i64 = 7 * 86_400;
/// See [`DELIVERED_KEPT_S`].
pub const DEAD_KEPT_S: i64 = 30 * 86_400;
/// Events that may wait for one endpoint; beyond it the oldest are dead.
pub const PENDING_LIMIT: i64 = 200_000;

/// What may be told. `call.ended` has the record as `/call-records` lists it; the others have what `/events` tells.
pub const KINDS: [&str; 10] = [
    "call.started",
    "call.answered",
    "call.ended",
    "conversation.started",
    "turn",
    "tool",
    "tone",
    "provider.failed",
    "incoming",
    "webhook.disabled",
];

/// Whether an event that is told live goes to the outbox from there. `call.ended` does not: it comes with the record; nor `incoming`, which
/// is written with what says that it came.
#[must_use]
pub fn is_told(kind: &str) -> bool {
    !["call.ended", "incoming"].contains(&kind) && KINDS.contains(&kind)
}

/// Whether whoever wants these events wants this one.
#[must_use]
pub fn wants(events: &[String], kind: &str) -> bool {
    events.iter().any(|event| event == "*" || event == kind)
}
