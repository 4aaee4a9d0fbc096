//! What may be asked of a call's sound and of its agent while it runs.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Path, State};
use axum::http::StatusCode;
use serde::Deserialize;
use serde_json::json;
use utoipa::ToSchema;

use super::calls::{Started, TEXT_CHARS, act};
use super::extract::{Body, text};
use super::problem::Problem;
use crate::control::Control;
use crate::identity::Caller;
use crate::ports::CallCommand;

/// Keys pressed at once, at most.
const KEYS: usize = 24;

/// Who is heard no more.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Mute {
    /// Muted, or no more.
    pub on: bool,
    /// Which leg's peer: 0 is who the call began with; the others as the call's record numbers them.
    #[serde(default)]
    pub leg: u16,
}

/// Keys to be pressed.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct PressedKeys {
    /// `0` to `9`, `*`, `#`, `A` to `D`.
    #[schema(example = "12#")]
    pub digits: String,
    /// Towards which leg's peer: 0 is who the call began with; the others as the call's record numbers them.
    #[serde(default)]
    pub leg: u16,
}

/// Something for the agent.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Words {
    /// What.
    #[schema(example = "A colleague will call you back within the hour.")]
    pub text: String,
}

/// Mute
///
/// Nobody else in the call hears that side, its agent included. A recording has it nevertheless.
#[utoipa::path(put, path = "/api/v1/calls/{id}/mute", operation_id = "muteCall", tag = "calls", request_body = Mute, params(("id" = String, Path, description = "The call's id")),
    responses((status = 202, description = "Asked for", body = Started), (status = 404, description = "It is over, or never was", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn mute(
    State(control): State<Arc<Control>>,
    caller: Caller,
    Path(id): Path<String>,
    Body(wanted): Body<Mute>,
) -> Result<(StatusCode, Json<Started>), Problem> {
    let detail = json!({ "on": wanted.on, "leg": wanted.leg });
    act(&control, &caller, &id, "call.mute", CallCommand::Mute(wanted.leg, wanted.on), detail).await
}

/// Press keys
///
/// Sent as telephone events (RFC 4733), or by INFO where the peer takes that alone.
#[utoipa::path(post, path = "/api/v1/calls/{id}/dtmf", operation_id = "pressKeys", tag = "calls", request_body = PressedKeys,
    params(("id" = String, Path, description = "The call's id"), ("Idempotency-Key" = Option<String>, Header, description = "Sent again with the same key they are pressed once")),
    responses((status = 202, description = "They are being pressed", body = Started), (status = 404, description = "It is over, or never was", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn press(
    State(control): State<Arc<Control>>,
    caller: Caller,
    Path(id): Path<String>,
    Body(wanted): Body<PressedKeys>,
) -> Result<(StatusCode, Json<Started>), Problem> {
    let keys = wanted.digits.to_ascii_uppercase();
    let is_key = |key: char| matches!(key, '0'..='9' | '*' | '#' | 'A'..='D');
    if keys.is_empty() || keys.len() > KEYS || !keys.chars().all(is_key) {
        return Err(Problem::field("digits", format!("write 1 to {KEYS} of 0 to 9, *, #, A to D")));
    }
    // Which they were may be nobody's business: a card's number, say.
    let detail = json!({ "keys": keys.len(), "leg": wanted.leg });
    act(&control, &caller, &id, "call.dtmf", CallCommand::Press(wanted.leg, keys), detail).await
}

/// Have the agent say something
///
/// At once, whatever it was about to say; the conversation goes on after it.
#[utoipa::path(post, path = "/api/v1/calls/{id}/say", operation_id = "sayInCall", tag = "calls", request_body = Words,
    params(("id" = String, Path, description = "The call's id"), ("Idempotency-Key" = Option<String>, Header, description = "Sent again with the same key it is said once")),
    responses((status = 202, description = "Asked for", body = Started), (status = 404, description = "It is over, or never was", body = Problem, content_type = "application/problem+json"),
              (status = 409, description = "No agent has the call", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn say(
    State(control): State<Arc<Control>>,
    caller: Caller,
    Path(id): Path<String>,
    Body(words): Body<Words>,
) -> Result<(StatusCode, Json<Started>), Problem> {
    let text = text("text", &words.text, TEXT_CHARS)?;
    let detail = json!({ "text": text });
    act(&control, &caller, &id, "call.say", CallCommand::Say(text), detail).await
}

/// Tell the agent something
///
/// The caller does not hear it. An agent with a language model knows it from its next answer on; one that follows a script makes nothing of it.
#[utoipa::path(post, path = "/api/v1/calls/{id}/note", operation_id = "tellAgent", tag = "calls", request_body = Words,
    params(("id" = String, Path, description = "The call's id"), ("Idempotency-Key" = Option<String>, Header, description = "Sent again with the same key it is told once")),
    responses((status = 202, description = "Asked for", body = Started), (status = 404, description = "It is over, or never was", body = Problem, content_type = "application/problem+json"),
              (status = 409, description = "No agent has the call", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn note(
    State(control): State<Arc<Control>>,
    caller: Caller,
    Path(id): Path<String>,
    Body(words): Body<Words>,
) -> Result<(StatusCode, Json<Started>), Problem> {
    let text = text("text", &words.text, TEXT_CHARS)?;
    let detail = json!({ "text": text });
    act(&control, &caller, &id, "call.note", CallCommand::Note(text), detail).await
}
