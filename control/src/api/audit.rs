//! The audit log: who changed what, and whether what stands there is what was written.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use super::extract::{Page, Paging, Params, bad_place};
use super::problem::Problem;
use crate::control::Control;
use crate::store::audit::{Anchor, AuditEntry, Broken};

/// Whether the audit log holds.
#[derive(Debug, Serialize, ToSchema)]
pub struct Verification {
    /// Every entry is what was written, in order, to the end that is kept outside of the database.
    pub holds: bool,
    /// Where it does not.
    pub broken: Option<Broken>,
    /// The end that is kept outside; none before the first entry.
    pub anchor: Option<Anchor>,
}

/// List what was changed
#[utoipa::path(get, path = "/api/v1/audit", operation_id = "listAudit", tag = "server", params(Paging),
    responses((status = 200, description = "Latest first", body = Page<AuditEntry>)))]
pub(crate) async fn list(
    State(control): State<Arc<Control>>,
    Params(paging): Params<Paging>,
) -> Result<Json<Page<AuditEntry>>, Problem> {
    let limit = paging.limit()?;
    let before = paging.place()?.map(|place| place.parse().map_err(|_| bad_place())).transpose()?;
    let entries = control.store.audit(before, limit + 1).await?;
    Ok(Json(Page::of(entries, limit, |entry| entry.seq.to_string())))
}

/// Verify the audit log
#[utoipa::path(get, path = "/api/v1/audit/verification", operation_id = "verifyAudit", tag = "server",
    responses((status = 200, description = "Whether it holds", body = Verification)))]
pub(crate) async fn verify(State(control): State<Arc<Control>>) -> Result<Json<Verification>, Problem> {
    // The anchor first: an entry that comes meanwhile is beyond it.
    let anchor = control.anchor();
    let broken = control.store.verify_audit(anchor.as_ref()).await?;
    Ok(Json(Verification { holds: broken.is_none(), broken, anchor }))
}
