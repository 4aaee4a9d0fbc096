//! What was sent to a webhook, what waits, what is dead, and sending it again.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::{IntoParams, ToSchema};

use super::extract::{Body, Page, Paging, Params};
use super::problem::Problem;
use super::webhooks::find;
use crate::control::Control;
use crate::identity::Caller;
use crate::store::outbox::{Delivery, DeliveryFilter, DeliveryState};
use crate::store::webhooks::Webhook;
use crate::time::Moment;
use crate::webhooks::KINDS;

/// Which deliveries, and which page of them.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[serde(default, deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct DeliveryQuery {
    /// Entries, 1 to 200; 50 where it does not say.
    #[param(minimum = 1, maximum = 200)]
    limit: Option<i64>,
    /// `next` of the page before.
    after: Option<String>,
    /// `pending`, `delivered` or `dead`.
    state: Option<DeliveryState>,
    /// What happened, such as `call.ended`.
    event: Option<String>,
}

/// What is to be sent again.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ReplaySince {
    /// Events that were noted then or later.
    pub since: Moment,
}

/// What is sent again.
#[derive(Debug, Serialize, ToSchema)]
pub struct Replayed {
    /// Deliveries.
    pub replayed: u64,
}

/// List what was sent
#[utoipa::path(get, path = "/api/v1/webhooks/{id}/deliveries", operation_id = "listDeliveries", tag = "webhooks",
    params(("id" = String, Path, description = "The webhook's id"), DeliveryQuery),
    responses((status = 200, description = "Latest first. What was delivered is shown for a week, what is dead for a month", body = Page<Delivery>),
              (status = 404, description = "No such webhook", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn list(
    State(control): State<Arc<Control>>,
    Path(id): Path<String>,
    Params(query): Params<DeliveryQuery>,
) -> Result<Json<Page<Delivery>>, Problem> {
    let DeliveryQuery { limit, after, state, event } = query;
    let paging = Paging { limit, after };
    let (limit, place) = (paging.limit()?, paging.place()?);
    if event.as_ref().is_some_and(|event| !KINDS.contains(&event.as_str())) {
        return Err(Problem::field("event", format!("write one of {}", KINDS.join(", "))));
    }
    find(&control, &id).await?;
    let filter = DeliveryFilter { state, event };
    let deliveries = control.store.deliveries(&id, &filter, place.as_deref(), limit + 1).await?;
    Ok(Json(Page::of(deliveries, limit, |delivery| delivery.id.clone())))
}

/// Send one again
///
/// Whether it arrived before or is dead. It has the same `webhook-id` as before.
#[utoipa::path(post, path = "/api/v1/webhooks/{id}/deliveries/{delivery}/replay", operation_id = "replayDelivery", tag = "webhooks",
    params(("id" = String, Path, description = "The webhook's id"), ("delivery" = String, Path, description = "The delivery's id"),
           ("Idempotency-Key" = Option<String>, Header, description = "Sent again with the same key it is done once")),
    responses((status = 202, description = "It is sent again", body = Delivery),
              (status = 404, description = "No such delivery", body = Problem, content_type = "application/problem+json"),
              (status = 409, description = "It is to be sent anyway, or the webhook is switched off", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn replay(
    State(control): State<Arc<Control>>,
    caller: Caller,
    Path((id, delivery)): Path<(String, String)>,
) -> Result<(StatusCode, Json<Delivery>), Problem> {
    let webhook = find(&control, &id).await?;
    let not_found = || Problem::not_found("delivery");
    if delivery.contains('\0') || control.store.delivery(&id, &delivery).await?.is_none() {
        return Err(not_found());
    }
    is_on(&webhook)?;
    if !control.store.replay(&id, &delivery, Moment::now()).await? {
        return Err(Problem::new(StatusCode::CONFLICT, "it is to be sent anyway: wait"));
    }
    control.audit(&caller, "webhook.replay", &webhook.name, json!({ "delivery": delivery })).await;
    let again = control.store.delivery(&id, &delivery).await?.ok_or_else(not_found)?;
    Ok((StatusCode::ACCEPTED, Json(again)))
}

/// Send all again that are dead
#[utoipa::path(post, path = "/api/v1/webhooks/{id}/replay", operation_id = "replayDead", tag = "webhooks", request_body = ReplaySince,
    params(("id" = String, Path, description = "The webhook's id"), ("Idempotency-Key" = Option<String>, Header, description = "Sent again with the same key it is done once")),
    responses((status = 202, description = "They are sent again", body = Replayed),
              (status = 404, description = "No such webhook", body = Problem, content_type = "application/problem+json"),
              (status = 409, description = "The webhook is switched off", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn replay_dead(
    State(control): State<Arc<Control>>,
    caller: Caller,
    Path(id): Path<String>,
    Body(wanted): Body<ReplaySince>,
) -> Result<(StatusCode, Json<Replayed>), Problem> {
    let webhook = find(&control, &id).await?;
    is_on(&webhook)?;
    let replayed = control.store.replay_dead(&id, wanted.since, Moment::now()).await?;
    let detail = json!({ "since": wanted.since, "replayed": replayed });
    control.audit(&caller, "webhook.replay", &webhook.name, detail).await;
    Ok((StatusCode::ACCEPTED, Json(Replayed { replayed })))
}

fn is_on(webhook: &Webhook) -> Result<(), Problem> {
    match webhook.enabled {
        true => Ok(()),
        false => Err(Problem::new(StatusCode::CONFLICT, "the webhook is switched off: set enabled first")),
    }
}
