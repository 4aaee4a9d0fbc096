//! Calls whose records the database refused: which, why, and where they stand in a journal.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use super::extract::{Page, Paging, Params, bad_place};
use super::problem::Problem;
use crate::control::Control;
use crate::store::refused::{Place, Refused};
use crate::time::Moment;

/// A call whose record is in a journal and not in the database.
#[derive(Debug, Serialize, ToSchema)]
pub struct RefusedCall {
    /// Its id; `null` where the line is no record of a call.
    pub call: Option<String>,
    /// When it began, or when the line was looked at where that cannot be read.
    pub started_at: Moment,
    /// Why it is not in the database.
    pub why: String,
    /// The server whose journal it is (`control.node`).
    pub server: String,
    /// Bytes from the journal's beginning: `tail -c +N calls.jsonl | head -n 1` shows the line, N being one more.
    pub position: u64,
    /// What that journal begins with, as a hash: one that was begun anew has another.
    pub journal: String,
    /// Whether it has a recording.
    pub recorded: bool,
}

/// List refused calls
///
/// Of calls in a journal that the database did not take for what they contain, or lines there that are no record: they are in no other list and in
/// no figure.
#[utoipa::path(get, path = "/api/v1/refused-calls", operation_id = "listRefusedCalls", tag = "records", params(Paging),
    responses((status = 200, description = "Latest first", body = Page<RefusedCall>)))]
pub(crate) async fn list(
    State(control): State<Arc<Control>>,
    Params(paging): Params<Paging>,
) -> Result<Json<Page<RefusedCall>>, Problem> {
    let (limit, after) = (paging.limit()?, paging.place()?.map(|place| parse(&place)).transpose()?);
    let refused = control.store.refused(after.as_ref(), limit + 1).await?;
    let calls = refused.into_iter().map(RefusedCall::from).collect();
    Ok(Json(Page::of(calls, limit, |one: &RefusedCall| {
        format!("{}/{}/{}/{}", one.started_at.0, one.position, one.journal, one.server)
    })))
}

impl From<(String, Refused)> for RefusedCall {
    fn from((server, one): (String, Refused)) -> Self {
        Self {
            call: Some(one.call).filter(|call| !call.is_empty()),
            started_at: one.started_at,
            why: one.fault,
            server,
            position: one.position,
            journal: one.head,
            recorded: one.recording.is_some(),
        }
    }
}

fn parse(place: &str) -> Result<Place, Problem> {
    let mut parts = place.splitn(4, '/');
    let mut next = || parts.next().ok_or_else(bad_place);
    let (started_at, position, head, node) = (next()?, next()?, next()?, next()?);
    let number = |text: &str| text.parse().map_err(|_| bad_place());
    Ok(Place { started_at: number(started_at)?, position: number(position)?, head: head.into(), node: node.into() })
}
