//! Whether the server does what it is for.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use axum::{Extension, Json};
use serde::Serialize;
use utoipa::ToSchema;

use crate::control::Control;
use crate::identity::Caller;

/// How the server is.
#[derive(Debug, Serialize, ToSchema)]
pub struct Health {
    /// It takes calls, and what they leave behind is kept.
    pub ready: bool,
    /// What it waits for.
    pub waiting_for: Vec<String>,
    /// What fails though calls go on: `PART: WHY` for whoever is logged in, the part alone for others.
    pub faults: Vec<String>,
    /// Whether there is an administrator; the first comes in by the code that the server prints.
    pub set_up: bool,
    /// Whether people may log in by a provider (OpenID Connect).
    pub oidc: bool,
    /// The program's version.
    pub version: &'static str,
}

/// How is the server
#[utoipa::path(get, path = "/api/v1/health", operation_id = "health", tag = "server",
    responses((status = 200, description = "All is well", body = Health), (status = 503, description = "Not all is", body = Health)))]
pub(crate) async fn health(
    State(control): State<Arc<Control>>,
    caller: Option<Extension<Caller>>,
) -> (StatusCode, Json<Health>) {
    let mut waiting_for = control.calls.waiting_for();
    let administrators = control.store.administrators().await;
    if administrators.is_err() {
        waiting_for.push("the database does not answer".to_owned());
    }
    let status = if waiting_for.is_empty() { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE };
    let (ready, faults) = (waiting_for.is_empty(), control.calls.faults());
    let faults = if caller.is_some() { faults } else { parts(faults) };
    // Who is not known to be missing is supposed to be there.
    let set_up = administrators.unwrap_or(1) > 0;
    let oidc = control.oidc.is_some();
    (status, Json(Health { ready, waiting_for, faults, set_up, oidc, version: env!("CARGO_PKG_VERSION") }))
}

/// Of faults (`PART: WHY`) the parts: why has folders and addresses in it, which are nothing to strangers.
#[must_use]
pub fn parts(faults: Vec<String>) -> Vec<String> {
    faults.into_iter().map(|fault| fault.split(':').next().unwrap_or_default().to_owned()).collect()
}
