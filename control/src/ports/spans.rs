//! What the control plane does for a call, told as spans of the call's trace (OpenTelemetry).

use std::time::SystemTime;

/// Where spans are told. Never waits.
pub trait Spans: Send + Sync {
    /// Something begins for a call; `None` where the call is not traced.
    fn begin(&self, call: &str) -> Option<Begun>;
    /// It is over.
    fn end(&self, begun: Begun, done: Done);
}

/// A span that has begun.
#[derive(Debug, Clone)]
pub struct Begun {
    /// The call.
    pub call: String,
    /// The span's own id.
    pub id: [u8; 8],
    /// For requests made in it: the header `traceparent`.
    pub traceparent: String,
    /// When.
    pub at: SystemTime,
}

/// What a span was.
#[derive(Debug, Clone)]
pub struct Done {
    /// What was done, in a few words that are the same for all of its kind.
    pub name: String,
    /// By OpenTelemetry's semantic conventions, where there is one.
    pub attributes: Vec<(&'static str, String)>,
    /// Why it failed, if it did.
    pub fault: Option<String>,
}

/// Nobody is told.
#[derive(Debug, Clone, Copy, Default)]
pub struct NoSpans;

impl Spans for NoSpans {
    fn begin(&self, _: &str) -> Option<Begun> {
        None
    }

    fn end(&self, _: Begun, _: Done) {}
}
