//! Calls from the dashboard: its page is the phone. Its offer is answered as WHIP has it (RFC 9725), for whoever is logged in.

use std::net::SocketAddr;
use std::sync::Arc;

use axum::Json;
use axum::body::Bytes;
use axum::extract::{ConnectInfo, Path, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::{IntoParams, ToSchema};

use super::calls::find;
use super::extract::{Params, text};
use super::problem::Problem;
use crate::control::Control;
use crate::identity::Caller;
use crate::ports::{IceServer, Supervision, WebCall, WebTarget};

/// What an offer is sent as.
const SDP: &str = "application/sdp";
/// Bytes of an offer at most.
const OFFER_BYTES: usize = 64 * 1_024;

/// What the page is connected with: either a name, or a call and how.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Connect {
    /// An agent, a conference (`room-NAME`) or `echo`.
    pub connect_with: Option<String>,
    /// A call in progress.
    pub call: Option<String>,
    /// How the page takes part in that call.
    #[serde(rename = "as")]
    #[param(inline)]
    pub how: Option<TakePart>,
}

/// How a page takes part in a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum TakePart {
    /// Hears everybody and is heard by nobody.
    Listen,
    /// Is heard by the operator alone.
    Whisper,
    /// Is heard by everybody.
    Join,
    /// Speaks with the caller in the place of the agent or whoever they speak with.
    TakeOver,
}

/// What a page needs before it calls.
#[derive(Debug, Serialize, ToSchema)]
pub struct IceServers {
    /// As `RTCPeerConnection` takes them.
    pub ice_servers: Vec<IceServer>,
}

/// Call from a page
///
/// The body is the page's offer, with all of its candidates; the answer's body is the answer. `Location` ends the call by DELETE.
#[utoipa::path(post, path = "/api/v1/web-calls", operation_id = "startWebCall", tag = "calls", params(Connect),
    request_body(content = String, content_type = "application/sdp", description = "The offer"),
    responses((status = 201, description = "The answer", body = String, content_type = "application/sdp",
               headers(("Location" = String, description = "The call, to be ended by DELETE"))),
              (status = 404, description = "The call is over, or never was", body = Problem, content_type = "application/problem+json"),
              (status = 409, description = "The call cannot be taken over now", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn start(
    State(control): State<Arc<Control>>,
    caller: Caller,
    ConnectInfo(remote): ConnectInfo<SocketAddr>,
    Params(wanted): Params<Connect>,
    headers: HeaderMap,
    offer: Bytes,
) -> Result<Response, Problem> {
    let kind = headers.get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
    if !kind.split(';').next().unwrap_or_default().trim().eq_ignore_ascii_case(SDP) {
        return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "send the offer as application/sdp"));
    }
    let offer = String::from_utf8(offer.to_vec()).ok().filter(|offer| !offer.is_empty() && offer.len() <= OFFER_BYTES);
    let offer = offer.ok_or_else(|| Problem::field("body", format!("send an offer of at most {OFFER_BYTES} bytes")))?;
    let to = target(&control, &caller, &wanted).await?;
    let detail = json!({ "connect_with": wanted.connect_with, "call": wanted.call, "as": wanted.how });
    let user = caller.user.name.clone();
    let answered = control.calls.web_call(WebCall { user, remote, to, offer }).await?;
    let subject = wanted.call.as_deref().or(wanted.connect_with.as_deref()).unwrap_or_default();
    control.audit(&caller, "call.web", subject, detail).await;
    let headers = [
        (header::CONTENT_TYPE, SDP.to_owned()),
        (header::LOCATION, format!("/api/v1/web-calls/{}", answered.name)),
        (header::CACHE_CONTROL, "no-store".to_owned()),
    ];
    Ok((StatusCode::CREATED, headers, answered.answer).into_response())
}

/// End a page's call
#[utoipa::path(delete, path = "/api/v1/web-calls/{id}", operation_id = "endWebCall", tag = "calls", params(("id" = String, Path, description = "As `Location` named it")),
    responses((status = 204, description = "It is over"), (status = 404, description = "It is over, or never was", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn end(State(control): State<Arc<Control>>, Path(id): Path<String>) -> Result<StatusCode, Problem> {
    if control.calls.end_web_call(&id) {
        return Ok(StatusCode::NO_CONTENT);
    }
    Err(Problem::not_found("call in progress"))
}

/// List STUN and TURN servers
///
/// For pages that are about to call; logins to them are good for as long as a call may last.
#[utoipa::path(get, path = "/api/v1/web-calls/servers", operation_id = "listIceServers", tag = "calls",
    responses((status = 200, description = "The servers", body = IceServers)))]
pub(crate) async fn servers(State(control): State<Arc<Control>>) -> Json<IceServers> {
    Json(IceServers { ice_servers: control.calls.ice_servers() })
}

async fn target(control: &Control, caller: &Caller, wanted: &Connect) -> Result<WebTarget, Problem> {
    match (&wanted.connect_with, &wanted.call, wanted.how) {
        (Some(name), None, None) => Ok(WebTarget::Name(text("connect_with", name, 128)?)),
        (None, Some(call), Some(how)) => {
            let call = find(control, caller, call).await?.call;
            Ok(match how {
                TakePart::Listen => WebTarget::Supervise(call, Supervision::Listen),
                TakePart::Whisper => WebTarget::Supervise(call, Supervision::Whisper),
                TakePart::Join => WebTarget::Supervise(call, Supervision::Join),
                TakePart::TakeOver => WebTarget::TakeOver(call),
            })
        }
        (None, Some(_), None) => Err(Problem::field("as", "write listen, whisper, join or take_over")),
        _ => Err(Problem::field("connect_with", "name either whom to connect with, or a call and how (`call`, `as`)")),
    }
}
