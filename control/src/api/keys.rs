//! API keys: one's own; administrators see and end everybody's.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;

use super::extract::{Body, Page, Paging, Params, text};
use super::problem::Problem;
use crate::control::Control;
use crate::identity::{Caller, Role, Scope, access, secret};
use crate::store::keys::{ApiKey, NewKey};
use crate::time::Moment;

/// A key to be.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateKey {
    /// What it is for.
    #[schema(example = "reporting")]
    pub name: String,
    /// What it may be used for.
    pub scopes: Vec<Scope>,
    /// It is good until then; always where it does not say.
    pub expires_at: Option<Moment>,
}

/// A new key. Its secret is shown this once.
#[derive(Debug, Serialize, ToSchema)]
pub struct NewApiKey {
    /// To be sent as a Bearer.
    #[schema(example = "ovx_…")]
    pub secret: String,
    /// The key.
    pub key: ApiKey,
}

/// List API keys
#[utoipa::path(get, path = "/api/v1/api-keys", operation_id = "listKeys", tag = "people", params(Paging),
    responses((status = 200, description = "One's own keys; of an administrator everybody's", body = Page<ApiKey>)))]
pub(crate) async fn list(
    State(control): State<Arc<Control>>,
    caller: Caller,
    Params(paging): Params<Paging>,
) -> Result<Json<Page<ApiKey>>, Problem> {
    let (limit, place) = (paging.limit()?, paging.place()?);
    let keys = control.store.keys(own(&caller), place.as_deref(), limit + 1).await?;
    Ok(Json(Page::of(keys, limit, |key| key.id.clone())))
}

/// Make an API key
#[utoipa::path(post, path = "/api/v1/api-keys", operation_id = "addKey", tag = "people", request_body = CreateKey,
    responses((status = 201, description = "The key, with its secret this once", body = NewApiKey),
              (status = 409, description = "There is one of that name", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn create(
    State(control): State<Arc<Control>>,
    caller: Caller,
    Body(wanted): Body<CreateKey>,
) -> Result<(StatusCode, Json<NewApiKey>), Problem> {
    let (name, now) = (text("name", &wanted.name, 100)?, Moment::now());
    let mut scopes = wanted.scopes;
    scopes.sort_unstable_by_key(|scope| scope.as_str());
    scopes.dedup();
    if scopes.is_empty() {
        return Err(Problem::field("scopes", "name at least one"));
    }
    let role = caller.user.role;
    if let Some(beyond) = scopes.iter().find(|scope| !access::is_of_use(role, **scope)) {
        let message = format!("a {} has no use for {}: leave it out", role.as_str(), beyond.as_str());
        return Err(Problem::field("scopes", message));
    }
    if wanted.expires_at.is_some_and(|at| at <= now) {
        return Err(Problem::field("expires_at", "write a time to come"));
    }
    let random = secret::new_secret().map_err(|fault| Problem::internal("a key", fault))?;
    let secret = format!("{}{random}", secret::KEY_PREFIX);
    let prefix: String = secret.chars().take(secret::SHOWN).collect();
    let new = NewKey {
        user: &caller.user.id,
        owner: &caller.user.name,
        name: &name,
        hash: &secret::hash(&secret),
        prefix: &prefix,
        scopes: &scopes,
        expires_at: wanted.expires_at,
    };
    let key = control.store.add_key(new, now).await?;
    control
        .audit(
            &caller,
            "key.create",
            &key.name,
            json!({ "id": key.id, "scopes": key.scopes, "expires_at": key.expires_at }),
        )
        .await;
    Ok((StatusCode::CREATED, Json(NewApiKey { secret, key })))
}

/// End an API key
#[utoipa::path(delete, path = "/api/v1/api-keys/{id}", operation_id = "removeKey", tag = "people", params(("id" = String, Path, description = "The key's id")),
    responses((status = 204, description = "It is good no more"), (status = 404, description = "No such key", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn remove(
    State(control): State<Arc<Control>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<StatusCode, Problem> {
    if id.contains('\0') || !control.store.remove_key(&id, own(&caller)).await? {
        return Err(Problem::not_found("key"));
    }
    control.audit(&caller, "key.remove", &id, json!({})).await;
    Ok(StatusCode::NO_CONTENT)
}

fn own(caller: &Caller) -> Option<&str> {
    (caller.user.role != Role::Administrator).then_some(caller.user.id.as_str())
}
