//! The first administrator comes in by a code that the server prints at its start while there is none.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::json;
use utoipa::ToSchema;

use super::extract::{Body, name, text};
use super::problem::Problem;
use crate::control::Control;
use crate::identity::{password, secret};
use crate::store::users::{NewUser, User};
use crate::time::Moment;

/// Who takes the invitation up.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Setup {
    /// What the server printed.
    pub code: String,
    /// The name to log in with.
    #[schema(example = "ada")]
    pub name: String,
    /// The name that people see.
    #[schema(example = "Ada Lovelace")]
    pub display: String,
    /// The password, at least 12 characters.
    #[schema(format = Password)]
    pub password: String,
}

/// Take up the first administrator's code
#[utoipa::path(post, path = "/api/v1/setup", operation_id = "setUp", tag = "identity", request_body = Setup,
    responses((status = 201, description = "The administrator is there: log in", body = User),
              (status = 409, description = "The name is taken", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn setup(
    State(control): State<Arc<Control>>,
    Body(setup): Body<Setup>,
) -> Result<(StatusCode, Json<User>), Problem> {
    let (hash, now) = (secret::hash(&setup.code), Moment::now());
    // Before anything costs time: who has no code spends nothing of ours.
    let Some(role) = control.store.invitation(&hash, now).await? else { return Err(not_good(&control, now).await?) };
    let name = name("name", &setup.name)?;
    let display = text("display", &setup.display, 100)?;
    let password_hash = hashed("password", setup.password, &[&name, &display]).await?;
    let new = NewUser { name, display, role, team: None, device: None, password_hash };
    let Some(user) = control.store.accept(&hash, new, now).await? else { return Err(not_good(&control, now).await?) };
    control.audit_as(&user.name, "user.create", &user.name, json!({ "role": role, "by": "code" })).await;
    Ok((StatusCode::CREATED, Json(user)))
}

/// Why a code is not good. Whether somebody administers is told to everybody (`health`).
async fn not_good(control: &Control, now: Moment) -> Result<Problem, Problem> {
    let why = if control.store.administrators().await? > 0 {
        "this server has an administrator already: log in, or ask them for an account"
    } else if control.store.has_invitation(now).await? {
        "the code is not right: copy all of the one that the server printed when it last started"
    } else {
        "the code is too old: start the server again for a new one"
    };
    Ok(Problem::forbidden(why))
}

/// A password that somebody wants, looked at and hashed.
pub(super) async fn hashed(field: &str, wanted: String, names: &[&str]) -> Result<String, Problem> {
    password::check(&wanted, names).map_err(|weak| Problem::field(field, weak.to_string()))?;
    password::hash(wanted).await.map_err(|fault| Problem::internal("a password", fault))
}
