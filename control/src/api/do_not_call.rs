//! Numbers that are not to be called. Whoever begins a call asks here first.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::{IntoParams, ToSchema};

use super::contacts::number;
use super::extract::{Body, Fields, Page, Paging, Params, text};
use super::problem::Problem;
use crate::control::Control;
use crate::identity::{Caller, secret};
use crate::numbers;
use crate::store::do_not_call::{DoNotCall, DoNotCallFilter};
use crate::time::Moment;

/// Numbers of one request at most.
pub const ENTRIES_LIMIT: usize = 1_000;
const REASON_CHARS: usize = 200;

/// Numbers to be put on the list: all of them, or none where one is wrong.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AddDoNotCall {
    /// 1 to 1,000.
    pub entries: Vec<NewDoNotCall>,
}

/// A number to be put on the list.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewDoNotCall {
    /// The number.
    #[schema(example = "+4930123456")]
    pub number: String,
    /// Why.
    pub reason: Option<String>,
    /// It holds until then; for ever where it does not say.
    pub expires_at: Option<Moment>,
}

/// What was put on the list.
#[derive(Debug, Serialize, ToSchema)]
pub struct Added {
    /// The entries as they are kept, in the order they were sent.
    pub items: Vec<DoNotCall>,
}

/// Which numbers, and which page of them.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct DoNotCallQuery {
    /// Entries, 1 to 200; 50 where it does not say.
    #[param(minimum = 1, maximum = 200)]
    limit: Option<i64>,
    /// `next` of the page before.
    after: Option<String>,
    /// This number.
    number: Option<String>,
    /// `list` or `interaction`.
    source: Option<String>,
    /// Who put it there.
    added_by: Option<String>,
}

/// List numbers that are not to be called
#[utoipa::path(get, path = "/api/v1/do-not-call", operation_id = "listDoNotCall", tag = "contacts", params(DoNotCallQuery),
    responses((status = 200, description = "By number", body = Page<DoNotCall>)))]
pub(crate) async fn list(
    State(control): State<Arc<Control>>,
    Params(query): Params<DoNotCallQuery>,
) -> Result<Json<Page<DoNotCall>>, Problem> {
    let paging = Paging { limit: query.limit, after: query.after };
    let (limit, place) = (paging.limit()?, paging.place()?);
    let filter = DoNotCallFilter {
        number: query.number.as_deref().map(|number| self::number(&control, "number", number)).transpose()?,
        source: query.source.as_deref().map(|source| text("source", source, 64)).transpose()?,
        added_by: query.added_by.as_deref().map(|by| text("added_by", by, 200)).transpose()?,
    };
    let entries = control.store.do_not_calls(&filter, place.as_deref(), limit + 1).await?;
    Ok(Json(Page::of(entries, limit, |entry| entry.number.clone())))
}

/// Put numbers on the do-not-call list
///
/// One that is there already holds as long as the longer of the two.
#[utoipa::path(post, path = "/api/v1/do-not-call", operation_id = "addDoNotCall", tag = "contacts", request_body = AddDoNotCall,
    params(("Idempotency-Key" = Option<String>, Header, description = "Sent again with the same key they are added once")),
    responses((status = 201, description = "They are on the list", body = Added)))]
pub(crate) async fn add(
    State(control): State<Arc<Control>>,
    caller: Caller,
    Body(wanted): Body<AddDoNotCall>,
) -> Result<(StatusCode, Json<Added>), Problem> {
    if !(1..=ENTRIES_LIMIT).contains(&wanted.entries.len()) {
        return Err(Problem::field("entries", format!("write 1 to {ENTRIES_LIMIT}")));
    }
    let (now, mut fields, mut items) = (Moment::now(), Fields::default(), Vec::new());
    for (at, entry) in wanted.entries.iter().enumerate() {
        let number = fields.take(number(&control, &format!("entries[{at}].number"), &entry.number));
        let reason = entry.reason.as_deref();
        let reason = reason.and_then(|why| fields.take(text(&format!("entries[{at}].reason"), why, REASON_CHARS)));
        if entry.expires_at.is_some_and(|expires| expires <= now) {
            fields.wrong(format!("entries[{at}].expires_at"), "write a time to come");
        }
        let number = number.unwrap_or_default();
        items.push(of(&caller, number, reason, "list", now, entry.expires_at));
    }
    fields.done()?;
    control.store.add_do_not_call(&items).await?;
    control.apply_do_not_call().await?;
    control.audit(&caller, "do_not_call.add", "", json!({ "entries": items.len() })).await;
    Ok((StatusCode::CREATED, Json(Added { items })))
}

/// Show whether a number is not to be called
#[utoipa::path(get, path = "/api/v1/do-not-call/{id}", operation_id = "showDoNotCall", tag = "contacts", params(("id" = String, Path, description = "The number")),
    responses((status = 200, description = "It is on the list", body = DoNotCall), (status = 404, description = "It is not", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn show(
    State(control): State<Arc<Control>>,
    Path(id): Path<String>,
) -> Result<Json<DoNotCall>, Problem> {
    let Some(number) = numbers::e164(&id, control.options.country) else { return Err(not_there()) };
    control.store.do_not_call(&number).await?.map(Json).ok_or_else(not_there)
}

/// Take a number off the do-not-call list
#[utoipa::path(delete, path = "/api/v1/do-not-call/{id}", operation_id = "removeDoNotCall", tag = "contacts", params(("id" = String, Path, description = "The number")),
    responses((status = 204, description = "It may be called"), (status = 404, description = "It is not on the list", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn remove(
    State(control): State<Arc<Control>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<StatusCode, Problem> {
    let Some(number) = numbers::e164(&id, control.options.country) else { return Err(not_there()) };
    if !control.store.remove_do_not_call(&number).await? {
        return Err(not_there());
    }
    control.apply_do_not_call().await?;
    // Whose number it was is not for a log that cannot be changed; whoever knows the number can tell that it was this one.
    let hash = secret::sign(&control.key, &number);
    control.audit(&caller, "do_not_call.remove", "", json!({ "number_hash": hash })).await;
    Ok(StatusCode::NO_CONTENT)
}

/// Refuses to call a number that is on the list, whatever way it is written; what is called so inside is nobody's number.
pub(super) async fn check(control: &Control, field: &str, to: &str) -> Result<(), Problem> {
    if control.calls.is_inside(to) {
        return Ok(());
    }
    let now = Moment::now();
    for number in numbers::meant(to, control.options.country) {
        if !control.store.may_call(&number, now).await? {
            let why = "the number is on the do-not-call list: take it off there first, if it may be called";
            return Err(Problem::field(field, why));
        }
    }
    Ok(())
}

pub(super) fn of(
    caller: &Caller,
    number: String,
    reason: Option<String>,
    source: &str,
    now: Moment,
    expires_at: Option<Moment>,
) -> DoNotCall {
    DoNotCall { number, reason, source: source.to_owned(), added_by: caller.actor(), added_at: now, expires_at }
}

fn not_there() -> Problem {
    Problem::not_found("number on the list")
}
