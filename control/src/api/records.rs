//! Ended calls: lists by what they were, the whole record, what was said.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::extract::{Page, Paging, Params, bad_place};
use super::problem::Problem;
use crate::control::Control;
use crate::identity::Caller;
use crate::store::records::{After, CallRecord, RecordFilter, SEARCH_LIMIT, Turn};
use crate::time::Moment;

/// Why calls end, as records have it.
pub const REASONS: [&str; 25] = [
    "caller_hung_up",
    "far_side_hung_up",
    "agent_hung_up",
    "caller_cancelled",
    "transferred",
    "transfer_failed",
    "no_answer",
    "unreachable",
    "unknown_number",
    "not_allowed",
    "not_acceptable",
    "too_many_calls",
    "no_media_port",
    "no_ack",
    "media_timeout",
    "peer_lost",
    "max_duration",
    "shutting_down",
    "server_killed",
    "agent_unavailable",
    "provider_failed",
    "refused",
    "busy",
    "commanded",
    "internal",
];

/// Which calls, and which page of them.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct RecordQuery {
    /// Entries, 1 to 200; 50 where it does not say.
    #[param(minimum = 1, maximum = 200)]
    limit: Option<i64>,
    /// `next` of the page before.
    after: Option<String>,
    /// Began then or later.
    from: Option<Moment>,
    /// Began before then.
    until: Option<Moment>,
    /// `inbound` or `outbound`.
    direction: Option<String>,
    /// The caller's number or name, whole.
    caller: Option<String>,
    /// The number or name that was called, whole.
    callee: Option<String>,
    /// What answered.
    target: Option<String>,
    /// Whose doing the end was.
    class: Option<String>,
    /// Why it ended.
    reason: Option<String>,
    /// Words that were said, all of them in one turn.
    words: Option<String>,
}

impl RecordQuery {
    fn split(self) -> (Paging, RecordFilter) {
        let Self { limit, after, from, until, direction, caller, callee, target, class, reason, words } = self;
        (Paging { limit, after }, RecordFilter { from, until, direction, caller, callee, target, class, reason, words })
    }
}

/// A record, whole.
#[derive(Debug, Serialize, ToSchema)]
pub struct WholeRecord {
    /// What lists show.
    #[serde(flatten)]
    pub call: CallRecord,
    /// Everything that was noted: legs, packets, quality, providers, each turn's times.
    #[schema(value_type = Object)]
    pub record: serde_json::Value,
}

/// What was said.
#[derive(Debug, Serialize, ToSchema)]
pub struct Transcript {
    /// The call.
    pub call: String,
    /// In order.
    pub turns: Vec<Turn>,
    /// The conversations with agents that they belong to, in order: several where one handed the caller over to another.
    pub conversations: Vec<HeldConversation>,
}

/// A conversation with an agent.
#[derive(Debug, Serialize, Deserialize, ToSchema)]
pub struct HeldConversation {
    /// From 0, as turns name it.
    pub conversation: i64,
    /// The agent.
    pub agent: String,
    /// The version of it that was published, of one that is kept in the database.
    #[serde(default)]
    pub version: Option<i64>,
    /// When it began.
    #[serde(default)]
    pub began_at: Option<Moment>,
    /// When it was over.
    #[serde(default)]
    pub ended_at: Option<Moment>,
    /// How it ended: `transferred`, `hung_up` (by the agent), `failed`, `call_ended`.
    #[serde(default)]
    pub outcome: Option<String>,
}

/// A record, as far as it is looked at here.
#[derive(Deserialize)]
struct Noted {
    #[serde(default)]
    conversations: Vec<HeldConversation>,
}

/// List ended calls
#[utoipa::path(get, path = "/api/v1/call-records", operation_id = "listRecords", tag = "records", params(RecordQuery),
    responses((status = 200, description = "Latest first", body = Page<CallRecord>)))]
pub(crate) async fn list(
    State(control): State<Arc<Control>>,
    caller: Caller,
    Params(query): Params<RecordQuery>,
) -> Result<Json<Page<CallRecord>>, Problem> {
    let (paging, filter) = query.split();
    let limit = paging.limit()?;
    let after = paging.place()?.map(|place| parse(&place)).transpose()?;
    check(&filter)?;
    let records = control.store.records(&caller.sees(), &filter, after.as_ref(), limit + 1).await?;
    Ok(Json(Page::of(records, limit, |record| format!("{}/{}", record.started_at.0, record.call))))
}

/// Show an ended call
#[utoipa::path(get, path = "/api/v1/call-records/{id}", operation_id = "showRecord", tag = "records", params(("id" = String, Path, description = "The call's id")),
    responses((status = 200, description = "The record", body = WholeRecord), (status = 404, description = "No such call", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn show(
    State(control): State<Arc<Control>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<WholeRecord>, Problem> {
    let (call, record) = find(&control, &caller, &id).await?;
    let record = serde_json::from_str(&record).map_err(|fault| Problem::internal("a call record", fault))?;
    Ok(Json(WholeRecord { call, record }))
}

/// Show what was said
#[utoipa::path(get, path = "/api/v1/call-records/{id}/transcript", operation_id = "showTranscript", tag = "records", params(("id" = String, Path, description = "The call's id")),
    responses((status = 200, description = "What was said", body = Transcript), (status = 404, description = "No such call", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn transcript(
    State(control): State<Arc<Control>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<Transcript>, Problem> {
    let (_, record) = find(&control, &caller, &id).await?;
    let noted: Noted = serde_json::from_str(&record).map_err(|fault| Problem::internal("a call record", fault))?;
    Ok(Json(Transcript { turns: control.store.turns(&id).await?, conversations: noted.conversations, call: id }))
}

/// A record that the caller may see: what lists show of it, and all of it.
pub(super) async fn find(control: &Control, caller: &Caller, id: &str) -> Result<(CallRecord, String), Problem> {
    let record = if id.contains('\0') { None } else { control.store.record(&caller.sees(), id).await? };
    record.ok_or_else(|| Problem::not_found("call record"))
}

fn parse(place: &str) -> Result<After, Problem> {
    let (started_at, call) = place.split_once('/').ok_or_else(bad_place)?;
    Ok(After { started_at: started_at.parse().map_err(|_| bad_place())?, call: call.to_owned() })
}

pub(super) fn check(filter: &RecordFilter) -> Result<(), Problem> {
    let one_of = |field: &str, value: Option<&String>, known: &[&str]| match value {
        Some(value) if !known.contains(&value.as_str()) => {
            Err(Problem::field(field, format!("write one of {}", known.join(", "))))
        }
        _ => Ok(()),
    };
    one_of("direction", filter.direction.as_ref(), &["inbound", "outbound"])?;
    one_of("class", filter.class.as_ref(), &["ok", "caller_fault", "upstream_fault", "our_fault", "unknown"])?;
    one_of("reason", filter.reason.as_ref(), &REASONS)?;
    let texts =
        [("caller", &filter.caller), ("callee", &filter.callee), ("target", &filter.target), ("words", &filter.words)];
    for (field, value) in texts {
        let Some(value) = value else { continue };
        if value.trim().is_empty() || value.chars().count() > SEARCH_LIMIT || value.contains('\0') {
            return Err(Problem::field(field, format!("write 1 to {SEARCH_LIMIT} characters, or leave it out")));
        }
    }
    Ok(())
}
