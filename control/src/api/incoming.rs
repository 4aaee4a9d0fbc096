//! What others tell us: a provider's callbacks, signed as Standard Webhooks has it. What comes is an `incoming` event, for those who
//! watch and for webhooks.

use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use serde::Deserialize;
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::extract::{Body, Page, Paging, Params, if_match, name, tagged};
use super::problem::Problem;
use crate::control::Control;
use crate::identity::{Caller, secret};
use crate::store::incoming::IncomingSource;
use crate::store::outbox::Told;
use crate::time::Moment;
use crate::webhooks::signature::{ID, SIGNATURE, Secret, TIMESTAMP};

/// Sources at most.
const SOURCES_LIMIT: i64 = 100;
/// Characters of a message's id at most.
const ID_CHARS: usize = 256;

/// A source to be.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateSource {
    /// Its name, which stands in the address.
    #[schema(example = "payments")]
    pub name: String,
    /// The secret that the provider gave: `whsec_` and base64.
    #[schema(format = Password)]
    pub secret: String,
}

/// What of a source changes; the rest stays.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangeSource {
    /// Its name.
    pub name: Option<String>,
    /// The secret.
    #[schema(format = Password)]
    pub secret: Option<String>,
}

/// List incoming sources
#[utoipa::path(get, path = "/api/v1/incoming-sources", operation_id = "listSources", tag = "webhooks", params(Paging),
    responses((status = 200, description = "Sources by name", body = Page<IncomingSource>)))]
pub(crate) async fn list(
    State(control): State<Arc<Control>>,
    Params(paging): Params<Paging>,
) -> Result<Json<Page<IncomingSource>>, Problem> {
    let (limit, place) = (paging.limit()?, paging.place()?);
    let sources = control.store.incomings(place.as_deref(), limit + 1).await?;
    Ok(Json(Page::of(sources, limit, |source| source.name.clone())))
}

/// Add an incoming source
#[utoipa::path(post, path = "/api/v1/incoming-sources", operation_id = "addSource", tag = "webhooks", request_body = CreateSource,
    params(("Idempotency-Key" = Option<String>, Header, description = "Sent again with the same key it is added once")),
    responses((status = 201, description = "The source: the provider posts to /api/v1/incoming/NAME", body = IncomingSource),
              (status = 409, description = "The name is taken, or there are too many", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn create(
    State(control): State<Arc<Control>>,
    caller: Caller,
    Body(wanted): Body<CreateSource>,
) -> Result<Response, Problem> {
    let name = name("name", &wanted.name)?;
    let (sealed, hint) = sealed(&control, &wanted.secret)?;
    let source = control.store.add_incoming(&name, (&sealed, &hint), SOURCES_LIMIT, Moment::now()).await?;
    control.audit(&caller, "incoming.create", &name, json!({ "hint": hint })).await;
    Ok(tagged(StatusCode::CREATED, source.version, source))
}

/// Show an incoming source
#[utoipa::path(get, path = "/api/v1/incoming-sources/{id}", operation_id = "showSource", tag = "webhooks", params(("id" = String, Path, description = "The source's id")),
    responses((status = 200, description = "The source", body = IncomingSource), (status = 404, description = "No such source", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn show(State(control): State<Arc<Control>>, Path(id): Path<String>) -> Result<Response, Problem> {
    let source = find(&control, &id).await?;
    Ok(tagged(StatusCode::OK, source.version, source))
}

/// Change an incoming source
#[utoipa::path(patch, path = "/api/v1/incoming-sources/{id}", operation_id = "changeSource", tag = "webhooks", request_body = ChangeSource,
    params(("id" = String, Path, description = "The source's id"), ("If-Match" = Option<String>, Header, description = "The ETag that was read")),
    responses((status = 200, description = "The source", body = IncomingSource),
              (status = 404, description = "No such source", body = Problem, content_type = "application/problem+json"),
              (status = 409, description = "The name is taken", body = Problem, content_type = "application/problem+json"),
              (status = 412, description = "It was changed meanwhile", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn change(
    State(control): State<Arc<Control>>,
    caller: Caller,
    Path(id): Path<String>,
    headers: HeaderMap,
    Body(wanted): Body<ChangeSource>,
) -> Result<Response, Problem> {
    let source = find(&control, &id).await?;
    let new_name = wanted.name.map(|wanted| name("name", &wanted)).transpose()?;
    let secret = wanted.secret.map(|secret| sealed(&control, &secret)).transpose()?;
    let secret = secret.as_ref().map(|(sealed, hint)| (sealed.as_str(), hint.as_str()));
    let changed =
        control.store.change_incoming(&source, new_name.as_deref(), secret, if_match(&headers)?, Moment::now()).await?;
    let detail = json!({ "name": changed.name, "hint": changed.hint });
    control.audit(&caller, "incoming.change", &source.name, detail).await;
    Ok(tagged(StatusCode::OK, changed.version, changed))
}

/// Take an incoming source away
#[utoipa::path(delete, path = "/api/v1/incoming-sources/{id}", operation_id = "removeSource", tag = "webhooks", params(("id" = String, Path, description = "The source's id")),
    responses((status = 204, description = "Gone"), (status = 404, description = "No such source", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn remove(
    State(control): State<Arc<Control>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<StatusCode, Problem> {
    let source = find(&control, &id).await?;
    control.store.remove_incoming(&id).await?;
    control.audit(&caller, "incoming.remove", &source.name, json!({})).await;
    Ok(StatusCode::NO_CONTENT)
}

/// Take a callback
///
/// For providers: JSON, signed as Standard Webhooks 1.0 has it. It has to be at most five minutes old, and comes once.
#[utoipa::path(post, path = "/api/v1/incoming/{name}", operation_id = "takeCallback", tag = "webhooks",
    request_body(content = Object, description = "JSON", content_type = "application/json"),
    params(("name" = String, Path, description = "The source's name"), ("webhook-id" = String, Header, description = "The message's id"),
           ("webhook-timestamp" = i64, Header, description = "When it was sent, in seconds since 1970"),
           ("webhook-signature" = String, Header, description = "`v1,` and base64, with a space between several")),
    responses((status = 204, description = "Taken"),
              (status = 401, description = "It is not signed with the source's secret, too old, or there is no such source", body = Problem, content_type = "application/problem+json"),
              (status = 409, description = "It came before", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn take(
    State(control): State<Arc<Control>>,
    Path(name): Path<String>,
    headers: HeaderMap,
    body: Result<Bytes, axum::extract::rejection::BytesRejection>,
) -> Result<StatusCode, Problem> {
    let body = body.map_err(|fault| Problem::new(fault.status(), fault.body_text()))?;
    let header = |name: &'static str| {
        let value = headers.get(name).and_then(|value| value.to_str().ok());
        value.filter(|value| !value.is_empty()).ok_or_else(|| Problem::field(name, "send this header"))
    };
    let (id, timestamp, signatures) = (header(ID)?, header(TIMESTAMP)?, header(SIGNATURE)?);
    if id.len() > ID_CHARS {
        return Err(Problem::field(ID, format!("write at most {ID_CHARS} characters")));
    }
    let source = if name.contains('\0') { None } else { control.store.incoming_by_name(&name).await? };
    let opened = source.as_ref().and_then(|source| Secret::parse(&secret::open(&control.key, &source.sealed)?));
    let now = Moment::now();
    let (Some(source), Some(secret)) = (source, opened) else {
        return Err(Problem::unauthorized("the signature does not fit"));
    };
    secret.verify(id, timestamp, signatures, &body, now).map_err(|why| Problem::unauthorized(why.to_string()))?;
    let sent: Value = serde_json::from_slice(&body)
        .map_err(|fault| Problem::new(StatusCode::BAD_REQUEST, format!("the body is no JSON: {fault}")))?;
    let data = json!({ "source": source.name, "message": id, "type": sent.get("type"), "body": sent });
    let told = Told { kind: "incoming".to_owned(), call: String::new(), at: now, data: data.clone() };
    if !control.store.take_incoming(&source.id, id, &told, now).await? {
        return Err(Problem::new(StatusCode::CONFLICT, "this message came before"));
    }
    control.live.tell(now, "incoming", "", &[], data);
    Ok(StatusCode::NO_CONTENT)
}

async fn find(control: &Control, id: &str) -> Result<IncomingSource, Problem> {
    let source = if id.contains('\0') { None } else { control.store.incoming(id).await? };
    source.ok_or_else(|| Problem::not_found("source"))
}

/// A secret as it is stored, and what is shown of it.
fn sealed(control: &Control, text: &str) -> Result<(String, String), Problem> {
    let secret = Secret::parse(text.trim()).ok_or_else(|| {
        Problem::field("secret", "write `whsec_` and 24 to 64 bytes in base64, as the provider gave it")
    })?;
    let sealed = secret::seal(&control.key, &secret.reveal()).map_err(|fault| Problem::internal("a secret", fault))?;
    Ok((sealed, secret.hint()))
}
