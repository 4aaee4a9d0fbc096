//! Webhooks: who is told by HTTP of what happens. What was sent to each is in [`super::deliveries`].

use std::sync::Arc;
use std::time::Instant;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::response::Response;
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;

use super::extract::{Body, Page, Paging, Params, if_match, tagged, text};
use super::problem::{FieldError, Problem};
use crate::control::Control;
use crate::identity::{Caller, secret};
use crate::store::outbox::Due;
use crate::store::webhooks::{NewWebhook, Webhook, WebhookChange};
use crate::time::Moment;
use crate::webhooks::signature::Secret;
use crate::webhooks::{KINDS, OVERLAP_S, WEBHOOKS_LIMIT, dispatch};

/// Characters of a URL at most.
const URL_CHARS: usize = 2_000;

/// A webhook to be.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CreateWebhook {
    /// What it is for.
    #[schema(example = "crm")]
    pub name: String,
    /// Where it is: HTTPS to a public address, or a network named in `control.webhooks_allow`.
    #[schema(example = "https://crm.example.com/hooks/omnivox")]
    pub url: String,
    /// What it is told of: names of events, or `*`.
    #[schema(example = json!(["call.ended"]))]
    pub events: Vec<String>,
    /// It is told; it is where this does not say.
    #[serde(default = "yes")]
    #[schema(default = true)]
    pub enabled: bool,
}

/// What of a webhook changes; the rest stays.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ChangeWebhook {
    /// What it is for.
    pub name: Option<String>,
    /// Where it is.
    pub url: Option<String>,
    /// What it is told of.
    pub events: Option<Vec<String>>,
    /// It is told. What waits for one that is switched off is dead, and can be replayed.
    pub enabled: Option<bool>,
}

/// A webhook with its secret, which is shown this once.
#[derive(Debug, Serialize, ToSchema)]
pub struct WebhookSecret {
    /// What messages are signed with, as Standard Webhooks has it.
    #[schema(example = "whsec_…")]
    pub secret: String,
    /// The webhook.
    pub webhook: Webhook,
}

/// What came of a test.
#[derive(Debug, Serialize, ToSchema)]
pub struct Tested {
    /// `webhook-id` of what was sent.
    pub message: String,
    /// It was taken.
    pub delivered: bool,
    /// What the endpoint answered, where it did.
    pub status: Option<u16>,
    /// How long that took, in ms.
    pub ms: u64,
    /// What went wrong.
    pub error: Option<String>,
}

fn yes() -> bool {
    true
}

/// List webhooks
#[utoipa::path(get, path = "/api/v1/webhooks", operation_id = "listWebhooks", tag = "webhooks", params(Paging),
    responses((status = 200, description = "Webhooks by name", body = Page<Webhook>)))]
pub(crate) async fn list(
    State(control): State<Arc<Control>>,
    Params(paging): Params<Paging>,
) -> Result<Json<Page<Webhook>>, Problem> {
    let (limit, place) = (paging.limit()?, paging.place()?);
    let webhooks = control.store.webhooks(place.as_deref(), limit + 1).await?;
    Ok(Json(Page::of(webhooks, limit, |webhook| webhook.name.clone())))
}

/// Add a webhook
///
/// Messages are signed with the secret that this answers with, as Standard Webhooks 1.0 has it: `webhook-id`, `webhook-timestamp`,
/// `webhook-signature`. Whatever is not answered with 2xx within 15 s is sent again over three days; 410 switches the webhook off.
#[utoipa::path(post, path = "/api/v1/webhooks", operation_id = "addWebhook", tag = "webhooks", request_body = CreateWebhook,
    responses((status = 201, description = "The webhook, with its secret this once", body = WebhookSecret),
              (status = 409, description = "There is one of that name, or there are too many", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn create(
    State(control): State<Arc<Control>>,
    caller: Caller,
    Body(wanted): Body<CreateWebhook>,
) -> Result<Response, Problem> {
    let name = text("name", &wanted.name, 100)?;
    let url = endpoint(&control, &wanted.url)?;
    let events = events(wanted.events)?;
    let (secret, sealed) = new_secret(&control)?;
    let hint = secret.hint();
    let new =
        NewWebhook { name: &name, url: &url, events: &events, enabled: wanted.enabled, sealed: &sealed, hint: &hint };
    let webhook = control.store.add_webhook(new, WEBHOOKS_LIMIT, Moment::now()).await?;
    control.audit(&caller, "webhook.create", &name, json!({ "url": url, "events": events })).await;
    Ok(tagged(StatusCode::CREATED, webhook.version, WebhookSecret { secret: secret.reveal(), webhook }))
}

/// Show a webhook
#[utoipa::path(get, path = "/api/v1/webhooks/{id}", operation_id = "showWebhook", tag = "webhooks", params(("id" = String, Path, description = "The webhook's id")),
    responses((status = 200, description = "The webhook", body = Webhook), (status = 404, description = "No such webhook", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn show(State(control): State<Arc<Control>>, Path(id): Path<String>) -> Result<Response, Problem> {
    let webhook = find(&control, &id).await?;
    Ok(tagged(StatusCode::OK, webhook.version, webhook))
}

/// Change a webhook
#[utoipa::path(patch, path = "/api/v1/webhooks/{id}", operation_id = "changeWebhook", tag = "webhooks", request_body = ChangeWebhook,
    params(("id" = String, Path, description = "The webhook's id"), ("If-Match" = Option<String>, Header, description = "The ETag that was read")),
    responses((status = 200, description = "The webhook", body = Webhook),
              (status = 404, description = "No such webhook", body = Problem, content_type = "application/problem+json"),
              (status = 409, description = "There is one of that name", body = Problem, content_type = "application/problem+json"),
              (status = 412, description = "It was changed meanwhile", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn change(
    State(control): State<Arc<Control>>,
    caller: Caller,
    Path(id): Path<String>,
    headers: HeaderMap,
    Body(wanted): Body<ChangeWebhook>,
) -> Result<Response, Problem> {
    let webhook = find(&control, &id).await?;
    let change = WebhookChange {
        name: wanted.name.map(|name| text("name", &name, 100)).transpose()?,
        url: wanted.url.map(|url| endpoint(&control, &url)).transpose()?,
        events: wanted.events.map(events).transpose()?,
        enabled: wanted.enabled,
    };
    let now = Moment::now();
    let mut changed = control.store.change_webhook(&webhook, change, if_match(&headers)?, now).await?;
    if webhook.enabled && !changed.enabled {
        control.store.disable_webhook(&id, None, now).await?;
        changed = find(&control, &id).await?;
    }
    let detail =
        json!({ "name": changed.name, "url": changed.url, "events": changed.events, "enabled": changed.enabled });
    control.audit(&caller, "webhook.change", &webhook.name, detail).await;
    Ok(tagged(StatusCode::OK, changed.version, changed))
}

/// Take a webhook away
#[utoipa::path(delete, path = "/api/v1/webhooks/{id}", operation_id = "removeWebhook", tag = "webhooks", params(("id" = String, Path, description = "The webhook's id")),
    responses((status = 204, description = "Gone, with what waited for it"), (status = 404, description = "No such webhook", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn remove(
    State(control): State<Arc<Control>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<StatusCode, Problem> {
    let webhook = find(&control, &id).await?;
    control.store.remove_webhook(&id).await?;
    control.audit(&caller, "webhook.remove", &webhook.name, json!({})).await;
    Ok(StatusCode::NO_CONTENT)
}

/// Give a webhook another secret
///
/// Both sign for a day, so that the receiver can be changed meanwhile: `webhook-signature` has two signatures then.
#[utoipa::path(post, path = "/api/v1/webhooks/{id}/secret", operation_id = "rotateWebhookSecret", tag = "webhooks", params(("id" = String, Path, description = "The webhook's id")),
    responses((status = 200, description = "The webhook, with its new secret this once", body = WebhookSecret),
              (status = 404, description = "No such webhook", body = Problem, content_type = "application/problem+json"),
              (status = 412, description = "It was changed meanwhile", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn rotate(
    State(control): State<Arc<Control>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Response, Problem> {
    let webhook = find(&control, &id).await?;
    let (secret, sealed) = new_secret(&control)?;
    let (hint, now) = (secret.hint(), Moment::now());
    let webhook = control.store.rotate_webhook(&webhook, (&sealed, &hint), now.after_s(OVERLAP_S), now).await?;
    control.audit(&caller, "webhook.secret", &webhook.name, json!({ "hint": hint })).await;
    Ok(tagged(StatusCode::OK, webhook.version, WebhookSecret { secret: secret.reveal(), webhook }))
}

/// Test a webhook
///
/// Sends a `test` event now, whether the webhook is switched on or not, and says what came of it.
#[utoipa::path(post, path = "/api/v1/webhooks/{id}/test", operation_id = "testWebhook", tag = "webhooks",
    params(("id" = String, Path, description = "The webhook's id"), ("Idempotency-Key" = Option<String>, Header, description = "Sent again with the same key it is done once")),
    responses((status = 200, description = "What came of it", body = Tested), (status = 404, description = "No such webhook", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn test(
    State(control): State<Arc<Control>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<Tested>, Problem> {
    let (webhook, now) = (find(&control, &id).await?, Moment::now());
    let body = json!({ "type": "test", "timestamp": now, "data": { "webhook": webhook.id, "name": webhook.name } });
    let message = format!("msg_{}", uuid::Uuid::now_v7().simple());
    let due =
        Due { id: String::new(), message: message.clone(), body: body.to_string(), attempts: 0, call: String::new() };
    let secrets = dispatch::secrets(&control, &webhook, now);
    if secrets.is_empty() {
        return Err(Problem::new(StatusCode::CONFLICT, "its secret cannot be read by this server: give it another"));
    }
    let began = Instant::now();
    let answer = control.webhooks.send(dispatch::message(&webhook, &secrets, &due, now)).await;
    let ms = u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX);
    let tested =
        Tested { message, delivered: answer.is_delivered(), status: answer.status(), ms, error: answer.error() };
    control.audit(&caller, "webhook.test", &webhook.name, json!({ "status": tested.status })).await;
    Ok(Json(tested))
}

pub(super) async fn find(control: &Control, id: &str) -> Result<Webhook, Problem> {
    let webhook = if id.contains('\0') { None } else { control.store.webhook(id).await? };
    webhook.ok_or_else(|| Problem::not_found("webhook"))
}

fn new_secret(control: &Control) -> Result<(Secret, String), Problem> {
    let secret = Secret::random().map_err(|fault| Problem::internal("a secret", fault))?;
    let sealed = secret::seal(&control.key, &secret.reveal()).map_err(|fault| Problem::internal("a secret", fault))?;
    Ok((secret, sealed))
}

fn endpoint(control: &Control, url: &str) -> Result<String, Problem> {
    let url = text("url", url, URL_CHARS)?;
    control.webhooks.check(&url).map_err(|why| Problem::field("url", why))?;
    Ok(url)
}

/// Names of events, each once.
fn events(mut wanted: Vec<String>) -> Result<Vec<String>, Problem> {
    if wanted.is_empty() {
        return Err(Problem::field("events", "name at least one, or `*`"));
    }
    let wrong: Vec<FieldError> = wanted
        .iter()
        .enumerate()
        .filter(|(_, event)| *event != "*" && !KINDS.contains(&event.as_str()))
        .map(|(n, _)| FieldError {
            field: format!("events[{n}]"),
            message: format!("write `*` or one of {}", KINDS.join(", ")),
        })
        .take(10)
        .collect();
    if !wrong.is_empty() {
        return Err(Problem::fields(wrong));
    }
    wanted.sort_unstable();
    wanted.dedup();
    Ok(if wanted.iter().any(|event| event == "*") { vec!["*".to_owned()] } else { wanted })
}
