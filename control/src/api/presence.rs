//! Who takes calls, and who waits for them.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;

use super::calls::{devices, sees};
use super::extract::Body;
use super::problem::Problem;
use crate::control::Control;
use crate::identity::{Caller, Role};
use crate::presence::{OperatorPresence, QueueState, queues as states};
use crate::store::StoreError;
use crate::store::presence::Seated;
use crate::time::Moment;

/// What one says of oneself.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum Says {
    /// Takes calls.
    Available,
    /// Takes none now.
    Away,
}

/// Whether one takes calls.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct OwnPresence {
    /// Whether.
    pub state: Says,
}

/// Who is there.
#[derive(Debug, Serialize, ToSchema)]
pub struct People {
    /// By name.
    pub items: Vec<OperatorPresence>,
}

/// The queues.
#[derive(Debug, Serialize, ToSchema)]
pub struct Queues {
    /// As the routes have them.
    pub items: Vec<QueueState>,
}

/// Say whether one takes calls
///
/// `busy` and `offline` follow from calls and connections.
#[utoipa::path(put, path = "/api/v1/me/presence", operation_id = "setMyPresence", tag = "calls", request_body = OwnPresence,
    responses((status = 200, description = "How one is now", body = OperatorPresence)))]
pub(crate) async fn set(
    State(control): State<Arc<Control>>,
    caller: Caller,
    Body(own): Body<OwnPresence>,
) -> Result<Json<OperatorPresence>, Problem> {
    let (now, user) = (Moment::now(), &caller.user.id);
    control.store.set_away(user, own.state == Says::Away, now).await?;
    control.audit(&caller, "user.presence", &caller.user.name, json!({ "state": own.state })).await;
    // Queues pass them over from here on.
    control.calls.set_away(control.store.away_devices().await?);
    control.presence.look_again();
    let seated = control.store.seated_in(None, Some(user)).await?.pop().ok_or(StoreError::Changed)?;
    Ok(Json(control.presence.of(&seated, &control.calls.list(), now)))
}

/// Show who takes calls
///
/// Oneself; of a supervisor the team, of an administrator everybody, 2,000 at most.
#[utoipa::path(get, path = "/api/v1/presence", operation_id = "listPresence", tag = "calls",
    responses((status = 200, description = "By name", body = People)))]
pub(crate) async fn list(State(control): State<Arc<Control>>, caller: Caller) -> Result<Json<People>, Problem> {
    let (user, store) = (&caller.user, &control.store);
    let users: Vec<Seated> = match (user.role, &user.team) {
        (Role::Administrator, _) => store.seated_in(None, None).await?,
        (Role::Supervisor, Some(team)) => store.seated_in(Some(team), None).await?,
        _ => store.seated_in(None, Some(&user.id)).await?,
    };
    let (calls, now) = (control.calls.list(), Moment::now());
    Ok(Json(People { items: users.iter().map(|user| control.presence.of(user, &calls, now)).collect() }))
}

/// Show queues
///
/// Of an operator those that call their device, of a supervisor those that call one of the team's, of an administrator all.
#[utoipa::path(get, path = "/api/v1/queues", operation_id = "listQueues", tag = "calls",
    responses((status = 200, description = "Who waits in each", body = Queues)))]
pub(crate) async fn queues(State(control): State<Arc<Control>>, caller: Caller) -> Result<Json<Queues>, Problem> {
    let devices = devices(&control, &caller).await?;
    let mut queues = control.calls.queues();
    queues.retain(|queue| sees(devices.as_deref(), &queue.members));
    Ok(Json(Queues { items: states(&queues, &control.calls.list(), Moment::now()) }))
}
