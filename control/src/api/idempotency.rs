//! `Idempotency-Key`: a POST that acts, sent again with the same key within a day, acts once and is answered alike. Routes whose
//! answer has a secret in it take no key: the answer would have to be kept.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::{MatchedPath, Request, State};
use axum::http::{HeaderValue, Method, StatusCode, header};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use super::BODY_LIMIT;
use super::problem::Problem;
use crate::control::Control;
use crate::identity::Caller;
use crate::identity::access::{Need, rule};
use crate::identity::secret;
use crate::store::idempotency::Known;
use crate::time::Moment;

/// The header.
pub const HEADER: &str = "idempotency-key";
/// Characters of a key at most.
pub const KEY_LIMIT: usize = 255;
/// Answers are kept this long, in seconds.
pub const KEPT_S: i64 = 86_400;

/// Routes whose answer has a secret in it.
const HAVE_SECRETS: [&str; 2] = ["/api/v1/webhooks", "/api/v1/webhooks/{id}/secret"];

/// Does a request once.
pub async fn once(State(control): State<Arc<Control>>, path: MatchedPath, request: Request, next: Next) -> Response {
    let acts = request.method() == Method::POST
        && !HAVE_SECRETS.contains(&path.as_str())
        && matches!(rule(request.method(), path.as_str()).map(|rule| rule.need), Some(Need::Somebody(..)));
    let (Some(caller), Some(key), true) =
        (request.extensions().get::<Caller>().cloned(), request.headers().get(HEADER).cloned(), acts)
    else {
        return next.run(request).await;
    };
    // Begun is done to its end, also where the client goes meanwhile: it would ask again, and nobody could tell it what came of it.
    let running = (Arc::clone(&control), caller.clone(), key.clone());
    let done = tokio::spawn(async move { run(&running.0, &running.1, &running.2, request, next).await }).await;
    let done = match done {
        Ok(done) => done,
        Err(fault) => {
            // It ended in the middle (a panic): the same may be asked again.
            if let Ok(key) = key.to_str()
                && let Err(fault) = control.store.release_key(&caller.user.id, key).await
            {
                tracing::error!("an Idempotency-Key stays taken for a day: {fault}");
            }
            Err(Problem::internal("a request", fault))
        }
    };
    done.unwrap_or_else(IntoResponse::into_response)
}

async fn run(
    control: &Control,
    caller: &Caller,
    key: &HeaderValue,
    request: Request,
    next: Next,
) -> Result<Response, Problem> {
    let key = key.to_str().ok().filter(|key| (1..=KEY_LIMIT).contains(&key.len()));
    let key =
        key.ok_or_else(|| Problem::field("Idempotency-Key", format!("write 1 to {KEY_LIMIT} characters of ASCII")))?;
    let (parts, body) = request.into_parts();
    let body = axum::body::to_bytes(body, BODY_LIMIT)
        .await
        .map_err(|_| Problem::new(StatusCode::PAYLOAD_TOO_LARGE, format!("send at most {BODY_LIMIT} bytes")))?;
    let what = secret::hash(&format!("{} {}\n{}", parts.method, parts.uri, String::from_utf8_lossy(&body)));
    let owner = &caller.user.id;
    match control.store.take_key(owner, key, &what, Moment::now()).await? {
        Known::New => {}
        Known::Running => {
            return Err(Problem::new(
                StatusCode::CONFLICT,
                "the first request with this Idempotency-Key is still being done",
            ));
        }
        Known::Other => {
            return Err(Problem::field("Idempotency-Key", "it was used for another request: take a new one"));
        }
        Known::Answered(status, answer) => return Ok(again(status, answer)),
    }
    let response = next.run(Request::from_parts(parts, Body::from(body))).await;
    let status = response.status();
    let (parts, body) = response.into_parts();
    let body = axum::body::to_bytes(body, usize::MAX).await.map_err(|fault| Problem::internal("an answer", fault))?;
    // What failed by our fault may be tried again; anything else would come out the same.
    if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS {
        control.store.release_key(owner, key).await?;
    } else {
        control.store.keep_answer(owner, key, status.as_u16(), &String::from_utf8_lossy(&body)).await?;
    }
    Ok(Response::from_parts(parts, Body::from(body)))
}

fn again(status: u16, answer: String) -> Response {
    let status = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let kind = if status.is_success() { "application/json" } else { "application/problem+json" };
    let mut response = (status, answer).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(kind));
    headers.insert("idempotency-replayed", HeaderValue::from_static("true"));
    response
}
