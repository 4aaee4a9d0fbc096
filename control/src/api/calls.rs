//! Calls in progress: who sees them may act on them.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::{HeaderMap, StatusCode};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;

use super::extract::{Body, text};
use super::problem::Problem;
use crate::control::Control;
use crate::identity::{Caller, Role};
use crate::ports::{CallCommand, CallFault, LiveCall, StartCall, Supervision, Transfer, TransferKind};
use crate::store::records::Visible;

/// Characters of an address at most.
const ADDRESS_CHARS: usize = 256;
/// Characters at most of what is to be said, or known.
pub(super) const TEXT_CHARS: usize = 1_000;

/// The calls in progress.
#[derive(Debug, Serialize, ToSchema)]
pub struct LiveCalls {
    /// Oldest first.
    pub items: Vec<LiveCall>,
}

/// A call that was begun, or asked something.
#[derive(Debug, Serialize, ToSchema)]
pub struct Started {
    /// Its id: what becomes of it is among the events, and in its record.
    pub call: String,
}

/// Where a caller is to go.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct TransferTo {
    /// A device's name, a number, an address, or a place: `room-NAME`, `park-SLOT`.
    #[schema(example = "alice")]
    pub to: String,
    /// `blind` where it is left out.
    #[serde(default)]
    pub kind: TransferKind,
    /// What the person hears first: needs `"kind": "warm"`. It is read in the voice of the call's agent; where no agent has the call, in the
    /// server's own.
    #[serde(default)]
    #[schema(example = "Mrs Smith, about her invoice of March.")]
    pub summary: String,
    /// The person takes the call by pressing 1, or does not: needs `"kind": "warm"`.
    #[serde(default)]
    pub accept: bool,
}

impl TransferTo {
    fn read(&self) -> Result<Transfer, Problem> {
        let to = text("to", &self.to, ADDRESS_CHARS)?;
        let is_warm = self.kind == TransferKind::Warm;
        let summary = match self.summary.trim() {
            "" => String::new(),
            _ if !is_warm => {
                return Err(Problem::field("summary", "only a warm transfer has one: add \"kind\": \"warm\""));
            }
            given => text("summary", given, TEXT_CHARS)?,
        };
        if self.accept && !is_warm {
            return Err(Problem::field("accept", "only in a warm transfer is anybody asked: add \"kind\": \"warm\""));
        }
        if is_warm && summary.is_empty() && !self.accept {
            let why = "write what the person is to hear first, or have them asked whether they take the call: \"accept\": true";
            return Err(Problem::field("summary", why));
        }
        Ok(Transfer { to, kind: self.kind, summary, accept: self.accept, on_behalf: None })
    }
}

/// On or off.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Switch {
    /// On.
    pub on: bool,
}

/// How a supervisor takes part.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Supervise {
    /// How.
    pub mode: Supervision,
}

/// List calls
#[utoipa::path(get, path = "/api/v1/calls", operation_id = "listCalls", tag = "calls",
    responses((status = 200, description = "The calls in progress that one may see", body = LiveCalls)))]
pub(crate) async fn list(State(control): State<Arc<Control>>, caller: Caller) -> Result<Json<LiveCalls>, Problem> {
    let devices = devices(&control, &caller).await?;
    let items = control.calls.list().into_iter().filter(|call| sees(devices.as_deref(), &call.devices)).collect();
    Ok(Json(LiveCalls { items }))
}

/// Call somebody
///
/// From a phone of ours (`from`, or one's own device): it rings first, shows whom it is to call, and once it is answered `to` is called as if the
/// phone had dialled it; whoever waits hears how that goes. Or `to` is called without a phone, and whoever answers is connected with what
/// `connect_with` names. Operators have calls placed from their own device alone, supervisors from those of their team. A number on the do-not-call
/// list is not called.
#[utoipa::path(post, path = "/api/v1/calls", operation_id = "startCall", tag = "calls", request_body = StartCall,
    params(("Idempotency-Key" = Option<String>, Header, description = "Sent again with the same key the call is made once"),
           ("traceparent" = Option<String>, Header, description = "A trace (W3C Trace Context) that the call is to go on with")),
    responses((status = 202, description = "They are being called", body = Started),
        (status = 403, description = "It is not a device that one may have calls placed from", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "Nobody is called that, or they are not to be reached now", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn start(
    State(control): State<Arc<Control>>,
    caller: Caller,
    headers: HeaderMap,
    Body(order): Body<StartCall>,
) -> Result<(StatusCode, Json<Started>), Problem> {
    let mut order = StartCall {
        to: text("to", &order.to, ADDRESS_CHARS)?,
        from: order.from.map(|from| text("from", &from, ADDRESS_CHARS)).transpose()?,
        connect_with: order.connect_with.map(|name| text("connect_with", &name, ADDRESS_CHARS)).transpose()?,
        traceparent: headers.get("traceparent").and_then(|traceparent| traceparent.to_str().ok()).map(str::to_owned),
    };
    match (&order.connect_with, &order.from) {
        (Some(_), Some(_)) => {
            let why = "either a phone calls `to`, or `to` is connected with `connect_with`: leave out one of both";
            return Err(Problem::field("from", why));
        }
        // What may be dialled is settled here and by the configuration: an operator's phone is not a way to call the world.
        (Some(_), None) if !is_own(&caller, &order.to) && caller.user.role == Role::Operator => {
            return Err(Problem::forbidden("operators have their own device called: `to` has to be its name"));
        }
        (Some(_), None) => {}
        (None, _) => order.from = Some(phone_of(&control, &caller, order.from.as_deref()).await?),
    }
    super::do_not_call::check(&control, "to", &order.to).await?;
    let call = control.calls.start(order.clone())?;
    control
        .audit(
            &caller,
            "call.start",
            &call,
            match &order.from {
                Some(from) => json!({ "to": shown(&control, &order.to), "from": from }),
                None => json!({ "to": shown(&control, &order.to), "connect_with": order.connect_with }),
            },
        )
        .await;
    Ok((StatusCode::ACCEPTED, Json(Started { call })))
}

/// The device that somebody has a call placed from: theirs, or one that they may have calls placed from.
async fn phone_of(control: &Control, caller: &Caller, named: Option<&str>) -> Result<String, Problem> {
    let Some(named) = named else {
        let why = "your account has no device whose phone could ring: name one, or say what `to` is connected with by `connect_with`";
        return caller.user.device.clone().ok_or_else(|| Problem::field("from", why));
    };
    if is_own(caller, named) {
        return Ok(named.to_owned());
    }
    let may = match caller.user.role {
        Role::Operator => false,
        Role::Supervisor => devices(control, caller).await?.is_some_and(|team| team.iter().any(|own| own == named)),
        Role::Administrator => true,
    };
    match may {
        true => Ok(named.to_owned()),
        false if caller.user.role == Role::Operator => Err(Problem::forbidden(
            "operators have calls placed from their own device: `from` has to be its name, or left out",
        )),
        false => Err(Problem::forbidden("supervisors have calls placed from devices of their team alone")),
    }
}

fn is_own(caller: &Caller, device: &str) -> bool {
    caller.user.device.as_deref() == Some(device)
}

/// Show a call
#[utoipa::path(get, path = "/api/v1/calls/{id}", operation_id = "showCall", tag = "calls", params(("id" = String, Path, description = "The call's id")),
    responses((status = 200, description = "The call", body = LiveCall), (status = 404, description = "It is over, or never was", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn show(
    State(control): State<Arc<Control>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<Json<LiveCall>, Problem> {
    Ok(Json(find(&control, &caller, &id).await?))
}

/// Hang up
#[utoipa::path(delete, path = "/api/v1/calls/{id}", operation_id = "hangUp", tag = "calls", params(("id" = String, Path, description = "The call's id")),
    responses((status = 202, description = "It is being ended", body = Started), (status = 404, description = "It is over, or never was", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn hang_up(
    State(control): State<Arc<Control>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<(StatusCode, Json<Started>), Problem> {
    act(&control, &caller, &id, "call.hang_up", CallCommand::HangUp, json!({})).await
}

/// Pass a call on
///
/// The caller is connected with somebody else, or goes to a place; whom they spoke with is let go. In a warm transfer whoever answers hears a
/// summary first, and may be asked whether they take the call. Where it comes to nothing the caller goes on where they were.
#[utoipa::path(post, path = "/api/v1/calls/{id}/transfer", operation_id = "transferCall", tag = "calls", request_body = TransferTo,
    params(("id" = String, Path, description = "The call's id"), ("Idempotency-Key" = Option<String>, Header, description = "Sent again with the same key it is done once")),
    responses((status = 202, description = "They are being called", body = Started), (status = 404, description = "It is over, or never was", body = Problem, content_type = "application/problem+json"),
        (status = 409, description = "It is not a call for that now", body = Problem, content_type = "application/problem+json"),
        (status = 422, description = "Nobody is called that, or they are not to be reached now", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn transfer(
    State(control): State<Arc<Control>>,
    caller: Caller,
    Path(id): Path<String>,
    Body(wanted): Body<TransferTo>,
) -> Result<(StatusCode, Json<Started>), Problem> {
    // As with their phone: whom agents and administrators may reach is not theirs to call.
    let on_behalf = if caller.user.role == Role::Operator { caller.user.device.clone() } else { None };
    let transfer = Transfer { on_behalf, ..wanted.read()? };
    let detail = json!({ "to": shown(&control, &transfer.to), "kind": transfer.kind });
    act(&control, &caller, &id, "call.transfer", CallCommand::Transfer(transfer), detail).await
}

/// Hold
///
/// The caller hears music, or is taken back by the person whom they speak with. An agent's caller is not held.
#[utoipa::path(put, path = "/api/v1/calls/{id}/hold", operation_id = "holdCall", tag = "calls", request_body = Switch, params(("id" = String, Path, description = "The call's id")),
    responses((status = 202, description = "Asked for", body = Started), (status = 404, description = "It is over, or never was", body = Problem, content_type = "application/problem+json"),
              (status = 409, description = "It is not a call for that now", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn hold(
    State(control): State<Arc<Control>>,
    caller: Caller,
    Path(id): Path<String>,
    Body(switch): Body<Switch>,
) -> Result<(StatusCode, Json<Started>), Problem> {
    act(&control, &caller, &id, "call.hold", CallCommand::Hold(switch.on), json!({ "on": switch.on })).await
}

/// Pause the recording
///
/// What is said while it pauses (a card's number, say) is silence in it.
#[utoipa::path(put, path = "/api/v1/calls/{id}/recording", operation_id = "pauseRecording", tag = "calls", request_body = Switch, params(("id" = String, Path, description = "The call's id")),
    responses((status = 202, description = "Asked for", body = Started), (status = 404, description = "It is over, or never was", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn record(
    State(control): State<Arc<Control>>,
    caller: Caller,
    Path(id): Path<String>,
    Body(switch): Body<Switch>,
) -> Result<(StatusCode, Json<Started>), Problem> {
    act(&control, &caller, &id, "call.recording", CallCommand::Record(switch.on), json!({ "on": switch.on })).await
}

/// Listen, whisper or join
///
/// One's own device is called, and takes part in the call once it answers.
#[utoipa::path(post, path = "/api/v1/calls/{id}/supervision", operation_id = "superviseCall", tag = "calls", request_body = Supervise,
    params(("id" = String, Path, description = "The call's id"), ("Idempotency-Key" = Option<String>, Header, description = "Sent again with the same key the device is called once")),
    responses((status = 202, description = "One's device is being called", body = Started),
              (status = 404, description = "It is over, or never was", body = Problem, content_type = "application/problem+json"),
              (status = 409, description = "One has no device to do it with, or it takes part already", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn supervise(
    State(control): State<Arc<Control>>,
    caller: Caller,
    Path(id): Path<String>,
    Body(wanted): Body<Supervise>,
) -> Result<(StatusCode, Json<Started>), Problem> {
    let call = find(&control, &caller, &id).await?;
    let conflict = |why: &str| Problem::new(StatusCode::CONFLICT, why);
    let own = caller.user.device.clone().ok_or_else(|| conflict("your account has no device that could be called"))?;
    if call.devices.contains(&own) {
        return Err(conflict("your device takes part in the call already"));
    }
    let started = control.calls.supervise(&own, &call.call, wanted.mode)?;
    control.audit(&caller, "call.supervise", &id, json!({ "mode": wanted.mode, "by_call": started })).await;
    Ok((StatusCode::ACCEPTED, Json(Started { call: started })))
}

pub(super) async fn act(
    control: &Control,
    caller: &Caller,
    id: &str,
    action: &str,
    command: CallCommand,
    detail: serde_json::Value,
) -> Result<(StatusCode, Json<Started>), Problem> {
    find(control, caller, id).await?;
    control.calls.command(id, command)?;
    control.audit(caller, action, id, detail).await;
    Ok((StatusCode::ACCEPTED, Json(Started { call: id.to_owned() })))
}

pub(super) async fn find(control: &Control, caller: &Caller, id: &str) -> Result<LiveCall, Problem> {
    let devices = devices(control, caller).await?;
    let call = control.calls.find(id).filter(|call| sees(devices.as_deref(), &call.devices));
    call.ok_or_else(|| CallFault::Gone.into())
}

/// Whom the audit log names: it cannot be changed, so that a number, whose owner may want to be forgotten, stands there as a hash by the server's
/// key.
fn shown(control: &Control, to: &str) -> String {
    match crate::numbers::meant(to, control.options.country).first() {
        Some(number) => format!("number {}", crate::identity::secret::sign(&control.key, number)),
        None => to.to_owned(),
    }
}

/// The devices whose calls somebody sees; `None`: everybody's.
pub(super) async fn devices(control: &Control, caller: &Caller) -> Result<Option<Vec<String>>, Problem> {
    Ok(match caller.sees() {
        Visible::All => None,
        Visible::Team(team) => Some(control.store.devices_of_team(&team).await?),
        Visible::Device(device) => Some(vec![device]),
        Visible::None => Some(Vec::new()),
    })
}

/// Whether one of these devices is among those.
pub(super) fn sees(devices: Option<&[String]>, of: &[String]) -> bool {
    devices.is_none_or(|devices| of.iter().any(|device| devices.contains(device)))
}
