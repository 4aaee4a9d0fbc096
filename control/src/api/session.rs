//! Sessions of browsers: a cookie that no script reads and no foreign page sends.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;

use super::extract::Body;
use super::gate::{Address, ByTls};
use super::problem::Problem;
use crate::control::Control;
use crate::identity::limit::{Tier, network};
use crate::identity::{Caller, Means, Scope, access, password, second_factor, secret};
use crate::store::users::{Credentials, User};
use crate::time::Moment;

/// The cookie.
pub const COOKIE: &str = "omnivox_session";

/// Who logs in.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Login {
    /// The name, whatever its case.
    #[schema(example = "ada")]
    pub name: String,
    /// The password.
    #[schema(format = Password)]
    pub password: String,
    /// The six digits that the authenticator shows, where the account has a second factor.
    pub code: Option<String>,
}

/// Who is logged in.
#[derive(Debug, Serialize, ToSchema)]
pub struct Who {
    /// The user.
    pub user: User,
    /// To be sent as `X-CSRF-Token` with what changes something; sessions have one.
    pub csrf: Option<String>,
    /// What keys of theirs are of use for.
    pub scopes: Vec<Scope>,
}

impl Who {
    fn is(user: User, csrf: Option<String>) -> Json<Self> {
        let scopes = Scope::ALL.into_iter().filter(|scope| access::is_of_use(user.role, *scope)).collect();
        Json(Self { user, csrf, scopes })
    }
}

/// Log in
#[utoipa::path(post, path = "/api/v1/session", operation_id = "logIn", tag = "identity", request_body = Login,
    responses((status = 201, description = "Logged in: the cookie is set", body = Who),
              (status = 401, description = "Name, password or code is wrong, or too many were before", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn log_in(
    State(control): State<Arc<Control>>,
    from: Address,
    by_tls: ByTls,
    Body(login): Body<Login>,
) -> Result<Response, Problem> {
    let user = authenticate(&control, from, login).await?;
    let (cookie, set) = open(&control, &user, (from, by_tls), json!({})).await?;
    let who = Who::is(user, Some(secret::csrf(&cookie)));
    Ok((StatusCode::CREATED, [(header::SET_COOKIE, set)], who).into_response())
}

/// Opens a session for whoever showed who they are: its secret, and the cookie that has it.
pub(super) async fn open(
    control: &Control,
    user: &User,
    (from, by_tls): (Address, ByTls),
    mut detail: serde_json::Value,
) -> Result<(String, String), Problem> {
    let (cookie, now) = (secret::new_secret().map_err(|fault| Problem::internal("a session", fault))?, Moment::now());
    let until = now.after_s(control.options.session_s);
    control.store.open_session(&secret::hash(&cookie), &user.id, now, until).await?;
    detail["from"] = from.0.to_string().into();
    control.audit_as(&user.name, "session.open", &user.name, detail).await;
    let set = set_cookie(control, by_tls, &cookie, control.options.session_s);
    Ok((cookie, set))
}

/// Who am I
#[utoipa::path(get, path = "/api/v1/session", operation_id = "whoAmI", tag = "identity",
    responses((status = 200, description = "Who is logged in", body = Who)))]
pub(crate) async fn who(caller: Caller) -> Json<Who> {
    let csrf = match caller.by {
        Means::Session { csrf, .. } => Some(csrf),
        Means::Token | Means::Key { .. } => None,
    };
    Who::is(caller.user, csrf)
}

/// Log out
#[utoipa::path(delete, path = "/api/v1/session", operation_id = "logOut", tag = "identity",
    responses((status = 204, description = "Logged out")))]
pub(crate) async fn log_out(
    State(control): State<Arc<Control>>,
    by_tls: ByTls,
    caller: Caller,
) -> Result<Response, Problem> {
    if let Means::Session { hash, .. } = &caller.by {
        control.store.close_session(hash).await?;
        control.audit(&caller, "session.close", &caller.user.name, json!({})).await;
    }
    Ok((StatusCode::NO_CONTENT, [(header::SET_COOKIE, set_cookie(&control, by_tls, "", 0))]).into_response())
}

/// The session's secret that a request brings.
pub(super) fn cookie(headers: &HeaderMap) -> Option<&str> {
    cookie_of(headers, COOKIE)
}

/// A cookie that a request brings.
pub(super) fn cookie_of<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let cookies = headers.get_all(header::COOKIE).iter().filter_map(|cookies| cookies.to_str().ok());
    let mut each = cookies.flat_map(|cookies| cookies.split(';'));
    each.find_map(|cookie| cookie.trim().strip_prefix(name)?.strip_prefix('=')).filter(|value| !value.is_empty())
}

fn set_cookie(control: &Control, by_tls: ByTls, value: &str, seconds: i64) -> String {
    let secure = by_tls.secure(control);
    format!("{COOKIE}={value}; Path=/; Max-Age={seconds}; HttpOnly; SameSite=Strict{secure}")
}

/// Who it is that knows name, password and code. Somebody who does not exist takes as long and hears the same.
pub(super) async fn authenticate(control: &Control, from: Address, login: Login) -> Result<User, Problem> {
    let name = login.name.trim().to_lowercase();
    // A name is counted too, wherever its passwords are tried from; of what a name cannot be nothing is kept.
    let counted: String = name.chars().take(64).collect();
    control.limits.take(Tier::Login, &format!("name {counted}")).map_err(Problem::too_many)?;
    let known = if name.contains('\0') { None } else { control.store.credentials(&name).await? };
    let hash = known.as_ref().map(|known| known.password_hash.clone());
    let fits = login.password.len() <= password::MAX_BYTES && password::fits(login.password, hash).await;
    let now = Moment::now();
    let wrong = || {
        Problem::unauthorized("name, password or code is wrong, or there were too many wrong ones: wait and try again")
    };
    let Some(known) = known else { return Err(wrong()) };
    let is_locked = known.locked_until > now;
    if !is_locked && fits && !known.user.disabled && code_fits(control, &known, login.code.as_deref(), now).await? {
        control.store.login_succeeded(&known.user.id).await?;
        return Ok(known.user);
    }
    if !is_locked {
        let until = password::locked_until(known.failed_logins + 1, now);
        control.store.login_failed(&known.user.id, until).await?;
    }
    metrics::counter!("omnivox_control_logins_failed_total").increment(1);
    let detail = json!({ "from": network(from.0), "locked": is_locked });
    control.audit_as("nobody", "session.refuse", &known.user.name, detail).await;
    Err(wrong())
}

/// Whether the second factor is there, where there has to be one. A code is good once.
async fn code_fits(control: &Control, known: &Credentials, code: Option<&str>, now: Moment) -> Result<bool, Problem> {
    let Some(secret) = &known.totp_secret else { return Ok(true) };
    let Some(step) = code.and_then(|code| second_factor::step_of(secret, code, now)) else { return Ok(false) };
    Ok(control.store.use_code(&known.user.id, step).await?)
}
