//! The signalling of calls, to be looked at: as text and as a capture. What is kept, and for how long, is the server's `[trace]`.

use std::sync::Arc;

use axum::extract::{Path, State};
use axum::http::header;
use axum::response::{IntoResponse, Response};

use super::calls::{devices, sees};
use super::problem::Problem;
use crate::control::Control;
use crate::identity::Caller;
use crate::ports::Trace;

/// Show a call's signalling
///
/// Message by message, between those who sent them. Of a call in progress, or one that ended lately.
#[utoipa::path(get, path = "/api/v1/calls/{id}/trace", operation_id = "showTrace", tag = "calls", params(("id" = String, Path, description = "The call's id")),
    responses((status = 200, description = "The messages as a ladder", body = String, content_type = "text/plain"),
              (status = 404, description = "Nothing is kept of such a call", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn ladder(
    State(control): State<Arc<Control>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    let trace = find(&control, &caller, &id).await?;
    Ok(([(header::CONTENT_TYPE, "text/plain; charset=utf-8")], trace.ladder).into_response())
}

/// Download a call's signalling
///
/// As a capture (pcap), for Wireshark and the like.
#[utoipa::path(get, path = "/api/v1/calls/{id}/trace.pcap", operation_id = "downloadTrace", tag = "calls", params(("id" = String, Path, description = "The call's id")),
    responses((status = 200, description = "The capture", body = Vec<u8>, content_type = "application/vnd.tcpdump.pcap"),
              (status = 404, description = "Nothing is kept of such a call", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn capture(
    State(control): State<Arc<Control>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    let trace = find(&control, &caller, &id).await?;
    let headers = [
        (header::CONTENT_TYPE, "application/vnd.tcpdump.pcap"),
        (header::CONTENT_DISPOSITION, "attachment; filename=\"call.pcap\""),
    ];
    Ok((headers, trace.capture).into_response())
}

/// The signalling of a call that the caller may see: one in progress, or one that has a record.
async fn find(control: &Control, caller: &Caller, id: &str) -> Result<Trace, Problem> {
    let missing = || Problem::not_found("call whose signalling is kept");
    if id.contains('\0') {
        return Err(missing());
    }
    let is_seen = match control.calls.find(id) {
        Some(call) => sees(devices(control, caller).await?.as_deref(), &call.devices),
        None => control.store.record(&caller.sees(), id).await?.is_some(),
    };
    is_seen.then(|| control.calls.trace(id)).flatten().ok_or_else(missing)
}
