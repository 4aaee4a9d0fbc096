//! The trace that a conversation is part of (W3C Trace Context): whoever runs the conversation says it, and providers that are asked over HTTP
//! are sent it as `traceparent`. The conversation itself knows nothing of it.

use std::future::Future;
use std::sync::Arc;

use reqwest::RequestBuilder;

tokio::task_local! {
    static TRACEPARENT: Option<Arc<str>>;
}

/// Runs something within a trace; `None` within none.
pub async fn within<F: Future>(traceparent: Option<Arc<str>>, future: F) -> F::Output {
    TRACEPARENT.scope(traceparent, future).await
}

/// The trace that this runs in: for what is to go on elsewhere.
#[must_use]
pub fn current() -> Option<Arc<str>> {
    TRACEPARENT.try_with(Clone::clone).ok().flatten()
}

/// A request with the trace that it is made in.
pub(crate) fn telling(request: RequestBuilder) -> RequestBuilder {
    match current() {
        Some(traceparent) => request.header("traceparent", &*traceparent),
        None => request,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_request_is_sent_the_trace_that_it_is_made_in_also_from_a_task_of_its_own() {
        let request =
            || telling(reqwest::Client::new().get("http://127.0.0.1/")).build().map(|made| made.headers().clone());
        assert!(!request().is_ok_and(|headers| headers.contains_key("traceparent")));
        let trace = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let sent =
            within(Some(trace.into()), async { tokio::spawn(within(current(), async move { request() })).await });
        let sent = sent.await.ok().and_then(Result::ok);
        assert_eq!(sent.as_ref().and_then(|headers| headers.get("traceparent")?.to_str().ok()), Some(trace));
    }
}
