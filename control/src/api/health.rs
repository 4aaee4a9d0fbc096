//! Whether the server does what it is for.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Serialize;
use utoipa::ToSchema;

use crate::control::Control;

/// How the server is.
#[derive(Debug, Serialize, ToSchema)]
pub struct Health {
    /// It takes calls, and what they leave behind is kept.
    pub ready: bool,
    /// What it waits for.
    pub waiting_for: Vec<String>,
    /// What fails though calls go on: `PART: WHY`.
    pub faults: Vec<String>,
    /// The program's version.
    pub version: &'static str,
}

/// How is the server
#[utoipa::path(get, path = "/api/v1/health", operation_id = "health", tag = "server",
    responses((status = 200, description = "All is well", body = Health), (status = 503, description = "Not all is", body = Health)))]
pub(crate) async fn health(State(control): State<Arc<Control>>) -> (StatusCode, Json<Health>) {
    let mut waiting_for = control.calls.waiting_for();
    if control.store.ping().await.is_err() {
        waiting_for.push("the database does not answer".to_owned());
    }
    let status = if waiting_for.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let (ready, faults) = (waiting_for.is_empty(), control.calls.faults());
    (status, Json(Health { ready, waiting_for, faults, version: env!("CARGO_PKG_VERSION") }))
}
