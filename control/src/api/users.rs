//! Users: administrators change them, supervisors see those of their team.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use serde::Deserialize;
use serde_json::json;
use utoipa::ToSchema;

use super::extract::{Body, Page, Paging, Params, given, if_match, name, tagged, text};
use super::gate::team_of;
use super::problem::Problem;
use super::setup::hashed;
use crate::control::Control;
use crate::identity::{Caller, Role};
use crate::store::users::{NewUser, User, UserChange};
use crate::time::Moment;

/// A user to be.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateUser {
    /// The name to log in with: letters, digits, `.`, `_`, `-`.
    #[schema(example = "ada")]
    pub name: String,
    /// The name that people see.
    #[schema(example = "Ada Lovelace")]
    pub display: String,
    /// What the user may do.
    pub role: Role,
    /// The team they belong to.
    pub team: Option<String>,
    /// The SIP account they take calls with.
    pub device: Option<String>,
    /// The password, at least 12 characters.
    #[schema(format = Password)]
    pub password: String,
}

/// What of a user changes; the rest stays.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ChangeUser {
    /// The name that people see.
    pub display: Option<String>,
    /// What the user may do.
    pub role: Option<Role>,
    /// The team, or null for none.
    #[serde(deserialize_with = "given")]
    #[schema(value_type = Option<String>)]
    pub team: Option<Option<String>>,
    /// The SIP account, or null for none.
    #[serde(deserialize_with = "given")]
    #[schema(value_type = Option<String>)]
    pub device: Option<Option<String>>,
    /// May not log in.
    pub disabled: Option<bool>,
}

/// A password that an administrator sets.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct SetPassword {
    /// The password, at least 12 characters.
    #[schema(format = Password)]
    pub password: String,
}

/// List users
#[utoipa::path(get, path = "/api/v1/users", operation_id = "listUsers", tag = "people", params(Paging),
    responses((status = 200, description = "Users by name", body = Page<User>)))]
pub(crate) async fn list(
    State(control): State<Arc<Control>>,
    caller: Caller,
    Params(paging): Params<Paging>,
) -> Result<Json<Page<User>>, Problem> {
    let (limit, place) = (paging.limit()?, paging.place()?);
    let users = control.store.users(team_of(&caller), place.as_deref(), limit + 1).await?;
    Ok(Json(Page::of(users, limit, |user| user.name.clone())))
}

/// Add a user
#[utoipa::path(post, path = "/api/v1/users", operation_id = "addUser", tag = "people", request_body = CreateUser,
    responses((status = 201, description = "The user", body = User),
              (status = 409, description = "Name or device is taken", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn create(
    State(control): State<Arc<Control>>,
    caller: Caller,
    Body(wanted): Body<CreateUser>,
) -> Result<Response, Problem> {
    let name = name("name", &wanted.name)?;
    let display = text("display", &wanted.display, 100)?;
    let device = wanted.device.as_deref().map(|device| device_of_ours(&control, device)).transpose()?;
    let password_hash = hashed("password", wanted.password, &[&name, &display]).await?;
    let new = NewUser { name, display, role: wanted.role, team: wanted.team, device, password_hash };
    let user = control.store.add_user(new, Moment::now()).await?;
    control
        .audit(
            &caller,
            "user.create",
            &user.name,
            json!({ "role": user.role, "team": user.team, "device": user.device }),
        )
        .await;
    Ok(tagged(StatusCode::CREATED, user.version, user))
}

/// Show a user
#[utoipa::path(get, path = "/api/v1/users/{id}", operation_id = "showUser", tag = "people", params(("id" = String, Path, description = "The user's id")),
    responses((status = 200, description = "The user", body = User),
              (status = 404, description = "No such user", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn show(
    State(control): State<Arc<Control>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    let user = find(&control, &caller, &id).await?;
    Ok(tagged(StatusCode::OK, user.version, user))
}

/// Change a user
#[utoipa::path(patch, path = "/api/v1/users/{id}", operation_id = "changeUser", tag = "people", request_body = ChangeUser,
    params(("id" = String, Path, description = "The user's id"), ("If-Match" = Option<String>, Header, description = "The ETag that was read")),
    responses((status = 200, description = "The user", body = User),
              (status = 404, description = "No such user", body = Problem, content_type = "application/problem+json"),
              (status = 409, description = "The device is taken, or nobody would administer", body = Problem, content_type = "application/problem+json"),
              (status = 412, description = "It was changed meanwhile", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn change(
    State(control): State<Arc<Control>>,
    caller: Caller,
    Path(id): Path<String>,
    headers: HeaderMap,
    Body(wanted): Body<ChangeUser>,
) -> Result<Response, Problem> {
    let user = find(&control, &caller, &id).await?;
    let stays = wanted.role.unwrap_or(user.role) == Role::Administrator && !wanted.disabled.unwrap_or(user.disabled);
    if !stays {
        one_stays(&control, &user).await?;
    }
    // One that has gone since may stay until another is named.
    let own = |device: String| match user.device.as_deref() == Some(device.as_str()) {
        true => Ok(device),
        false => device_of_ours(&control, &device),
    };
    let change = UserChange {
        display: wanted.display.as_deref().map(|display| text("display", display, 100)).transpose()?,
        role: wanted.role,
        team: wanted.team,
        device: wanted.device.map(|device| device.map(own).transpose()).transpose()?,
        disabled: wanted.disabled,
    };
    let changed = control.store.change_user(&user, change, if_match(&headers)?, Moment::now()).await?;
    if changed.disabled {
        control.store.log_out(&changed.id).await?;
    }
    let detail = json!({ "before": &user, "after": &changed });
    control.audit(&caller, "user.change", &user.name, detail).await;
    Ok(tagged(StatusCode::OK, changed.version, changed))
}

/// Take a user away
#[utoipa::path(delete, path = "/api/v1/users/{id}", operation_id = "removeUser", tag = "people", params(("id" = String, Path, description = "The user's id")),
    responses((status = 204, description = "Gone, with sessions and keys"),
              (status = 404, description = "No such user", body = Problem, content_type = "application/problem+json"),
              (status = 409, description = "Nobody would administer", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn remove(
    State(control): State<Arc<Control>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<StatusCode, Problem> {
    let user = find(&control, &caller, &id).await?;
    one_stays(&control, &user).await?;
    control.store.remove_user(&id).await?;
    control.audit(&caller, "user.remove", &user.name, json!({ "role": user.role })).await;
    Ok(StatusCode::NO_CONTENT)
}

/// Set a user's password
///
/// Every session and token of the user ends.
#[utoipa::path(put, path = "/api/v1/users/{id}/password", operation_id = "setPassword", tag = "people", request_body = SetPassword,
    params(("id" = String, Path, description = "The user's id")),
    responses((status = 204, description = "Set"), (status = 404, description = "No such user", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn set_password(
    State(control): State<Arc<Control>>,
    caller: Caller,
    Path(id): Path<String>,
    Body(wanted): Body<SetPassword>,
) -> Result<StatusCode, Problem> {
    let user = find(&control, &caller, &id).await?;
    let hash = hashed("password", wanted.password, &[&user.name, &user.display]).await?;
    control.store.set_password(&id, &hash, Moment::now()).await?;
    control.audit(&caller, "user.password", &user.name, json!({})).await;
    Ok(StatusCode::NO_CONTENT)
}

/// Log a user out everywhere
#[utoipa::path(delete, path = "/api/v1/users/{id}/sessions", operation_id = "logUserOut", tag = "people",
    params(("id" = String, Path, description = "The user's id")),
    responses((status = 204, description = "Sessions and refresh tokens are gone"), (status = 404, description = "No such user", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn log_out(
    State(control): State<Arc<Control>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    let user = find(&control, &caller, &id).await?;
    control.store.log_out(&id).await?;
    control.audit(&caller, "user.log_out", &user.name, json!({})).await;
    Ok(StatusCode::NO_CONTENT.into_response())
}

/// A device that there is.
fn device_of_ours(control: &Control, device: &str) -> Result<String, Problem> {
    let device = text("device", device, 64)?;
    if control.calls.has_device(&device) {
        return Ok(device);
    }
    Err(Problem::field("device", no_device(&device, control.calls.devices())))
}

/// Devices that are named to whoever has named another, at most.
const NAMED: usize = 20;

/// What to say where no device is called that: those that there are, and what to do.
#[must_use]
pub fn no_device(named: &str, mut there: Vec<String>) -> String {
    there.sort_unstable();
    there.dedup();
    let more = there.len().saturating_sub(NAMED);
    let known = match (there.len(), more) {
        (0, _) => "there is none yet".to_owned(),
        (_, 0) => format!("there are {}", there.join(", ")),
        (_, more) => {
            format!("there are {} and {more} more", there.iter().take(NAMED).cloned().collect::<Vec<_>>().join(", "))
        }
    };
    format!(
        "no device is called {named}: {known}. Add it first (POST /api/v1/devices, the dashboard's page Devices, or [[devices]] in the configuration), or leave it out"
    )
}

/// A user that the caller may see.
async fn find(control: &Control, caller: &Caller, id: &str) -> Result<User, Problem> {
    let user = if id.contains('\0') { None } else { control.store.user(id).await? };
    let user = user.filter(|user| team_of(caller).is_none_or(|team| user.team.as_deref() == Some(team)));
    user.ok_or_else(|| Problem::not_found("user"))
}

/// A server that nobody administers could be mended on its own machine only.
async fn one_stays(control: &Control, user: &User) -> Result<(), Problem> {
    let is_one = user.role == Role::Administrator && !user.disabled;
    if is_one && control.store.administrators().await? <= 1 {
        return Err(Problem::new(StatusCode::CONFLICT, "this is the last administrator: make somebody else one first"));
    }
    Ok(())
}
