//! One's own account: the password and the second factor.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;

use super::extract::Body;
use super::problem::Problem;
use super::setup::hashed;
use crate::control::Control;
use crate::identity::{Caller, password, second_factor, secret};
use crate::time::Moment;

/// A new password.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct NewPassword {
    /// The one so far.
    #[schema(format = Password)]
    pub current: String,
    /// The new one, at least 12 characters.
    #[schema(format = Password)]
    pub new: String,
}

/// The password so far.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Confirmed {
    /// The password.
    #[schema(format = Password)]
    pub password: String,
}

/// A second factor to be.
#[derive(Debug, Serialize, ToSchema)]
pub struct Proposed {
    /// For the authenticator, to be typed (base32).
    pub secret: String,
    /// The same, to be shown as a picture.
    pub uri: String,
    /// To be sent back with a code: the server's word that the secret is its own.
    pub proof: String,
}

/// A second factor that works.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Proven {
    /// As it was proposed.
    pub secret: String,
    /// As it was proposed.
    pub proof: String,
    /// What the authenticator shows.
    pub code: String,
    /// The password.
    #[schema(format = Password)]
    pub password: String,
}

/// Change one's password
///
/// Every session and token of the account ends.
#[utoipa::path(put, path = "/api/v1/me/password", operation_id = "changeMyPassword", tag = "identity", request_body = NewPassword,
    responses((status = 204, description = "Changed: log in again")))]
pub(crate) async fn set_password(
    State(control): State<Arc<Control>>,
    caller: Caller,
    Body(wanted): Body<NewPassword>,
) -> Result<StatusCode, Problem> {
    confirm(&control, &caller, "current", wanted.current).await?;
    let user = &caller.user;
    let hash = hashed("new", wanted.new, &[&user.name, &user.display]).await?;
    control.store.set_password(&user.id, &hash, Moment::now()).await?;
    control.audit(&caller, "user.password", &user.name, json!({})).await;
    Ok(StatusCode::NO_CONTENT)
}

/// Propose a second factor
///
/// Nothing changes until a code of it is sent back.
#[utoipa::path(post, path = "/api/v1/me/second-factor", operation_id = "proposeSecondFactor", tag = "identity",
    responses((status = 200, description = "A secret for the authenticator", body = Proposed)))]
pub(crate) async fn begin_second_factor(
    State(control): State<Arc<Control>>,
    caller: Caller,
) -> Result<Json<Proposed>, Problem> {
    let secret = second_factor::new_secret().map_err(|fault| Problem::internal("a second factor", fault))?;
    let proof = secret::sign(&control.key, &proven(&caller, &secret));
    let uri = second_factor::uri(&secret, &caller.user.name);
    Ok(Json(Proposed { secret, uri, proof }))
}

/// Take a second factor into use
#[utoipa::path(put, path = "/api/v1/me/second-factor", operation_id = "useSecondFactor", tag = "identity", request_body = Proven,
    responses((status = 204, description = "From now on logging in asks for a code")))]
pub(crate) async fn confirm_second_factor(
    State(control): State<Arc<Control>>,
    caller: Caller,
    Body(proven_by): Body<Proven>,
) -> Result<StatusCode, Problem> {
    confirm(&control, &caller, "password", proven_by.password).await?;
    if !secret::is_signed(&control.key, &proven(&caller, &proven_by.secret), &proven_by.proof) {
        return Err(Problem::field("proof", "send secret and proof as they were proposed"));
    }
    let now = Moment::now();
    let Some(step) = second_factor::step_of(&proven_by.secret, &proven_by.code, now) else {
        return Err(Problem::field(
            "code",
            "it is not what the authenticator shows now: look at the device's clock too",
        ));
    };
    control.store.set_second_factor(&caller.user.id, Some(&proven_by.secret), now).await?;
    control.store.use_code(&caller.user.id, step).await?;
    control.audit(&caller, "user.second_factor", &caller.user.name, json!({ "on": true })).await;
    Ok(StatusCode::NO_CONTENT)
}

/// Do without a second factor
#[utoipa::path(delete, path = "/api/v1/me/second-factor", operation_id = "dropSecondFactor", tag = "identity", request_body = Confirmed,
    responses((status = 204, description = "Logging in asks for the password alone")))]
pub(crate) async fn drop_second_factor(
    State(control): State<Arc<Control>>,
    caller: Caller,
    Body(confirmed): Body<Confirmed>,
) -> Result<StatusCode, Problem> {
    confirm(&control, &caller, "password", confirmed.password).await?;
    control.store.set_second_factor(&caller.user.id, None, Moment::now()).await?;
    control.audit(&caller, "user.second_factor", &caller.user.name, json!({ "on": false })).await;
    Ok(StatusCode::NO_CONTENT)
}

fn proven(caller: &Caller, secret: &str) -> String {
    format!("second factor {} {secret}", caller.user.id)
}

/// Whoever changes how an account is opened knows its password: a screen that was left open does not do. Wrong ones count as at a login.
async fn confirm(control: &Control, caller: &Caller, field: &str, given: String) -> Result<(), Problem> {
    let Some(known) = control.store.credentials(&caller.user.name).await? else {
        return Err(Problem::unauthorized("log in"));
    };
    let now = Moment::now();
    let is_locked = known.locked_until > now;
    if password::fits(given, Some(known.password_hash)).await && !is_locked {
        return Ok(());
    }
    if !is_locked {
        let until = password::locked_until(known.failed_logins + 1, now);
        control.store.login_failed(&known.user.id, until).await?;
    }
    Err(Problem::field(field, "it is not your password, or there were too many wrong ones: wait and try again"))
}
