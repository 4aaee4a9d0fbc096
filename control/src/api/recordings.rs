//! Recordings: played by whoever may see the call, also from the middle (RFC 9110 section 14), or by a link that is good for a while.

use std::io::{Read, Seek, SeekFrom};
use std::sync::Arc;

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::{Path, State};
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use serde_json::json;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use utoipa::{IntoParams, ToSchema};

use super::extract::Params;
use super::problem::Problem;
use super::records::find;
use crate::control::Control;
use crate::identity::{Caller, secret};
use crate::ports::Recording;
use crate::time::Moment;

/// A link is good for this long, in seconds.
const LINK_S: i64 = 3_600;
/// Bytes read at once.
const CHUNK: u64 = 64 * 1_024;
/// Chunks that wait for a client that reads slowly.
const CHUNKS_WAITING: usize = 4;

/// A link to a recording.
#[derive(Debug, Serialize, ToSchema)]
pub struct Link {
    /// Where it is, from the server's root.
    pub path: String,
    /// It is good until then.
    pub expires_at: Moment,
}

/// What a link has.
#[derive(Debug, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(crate) struct Signed {
    /// It is good until then, in ms since 1970.
    expires: i64,
    /// The server's.
    signature: String,
}

/// Play a recording
#[utoipa::path(get, path = "/api/v1/call-records/{id}/recording", operation_id = "playRecording", tag = "records",
    params(("id" = String, Path, description = "The call's id"), ("Range" = Option<String>, Header, description = "A part of it, in bytes")),
    responses((status = 200, description = "The sound: caller left, the other side right", content((Vec<u8> = "audio/wav"), (Vec<u8> = "audio/ogg"))),
              (status = 206, description = "A part of it", content((Vec<u8> = "audio/wav"), (Vec<u8> = "audio/ogg"))),
              (status = 404, description = "No such call, or no recording", body = Problem, content_type = "application/problem+json"),
              (status = 416, description = "No such part", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn play(
    State(control): State<Arc<Control>>,
    caller: Caller,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    find(&control, &caller, &id).await?;
    control.audit(&caller, "recording.play", &id, json!({})).await;
    send(&control, &id, &headers).await
}

/// Make a link to a recording
///
/// Whoever has it may play the recording for an hour.
#[utoipa::path(post, path = "/api/v1/call-records/{id}/recording-link", operation_id = "linkRecording", tag = "records",
    params(("id" = String, Path, description = "The call's id")),
    responses((status = 201, description = "The link", body = Link),
              (status = 404, description = "No such call, or no recording", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn link(
    State(control): State<Arc<Control>>,
    caller: Caller,
    Path(id): Path<String>,
) -> Result<(StatusCode, Json<Link>), Problem> {
    let (call, _) = find(&control, &caller, &id).await?;
    if !call.recorded {
        return Err(Problem::not_found("recording"));
    }
    let expires_at = Moment::now().after_s(LINK_S);
    let signature = secret::sign(&control.key, &signed(&id, expires_at.0));
    let path = format!("/api/v1/recordings/{id}?expires={}&signature={signature}", expires_at.0);
    control.audit(&caller, "recording.link", &id, json!({ "expires_at": expires_at })).await;
    Ok((StatusCode::CREATED, Json(Link { path, expires_at })))
}

/// Play a recording by its link
#[utoipa::path(get, path = "/api/v1/recordings/{id}", operation_id = "playLinkedRecording", tag = "records",
    params(("id" = String, Path, description = "The call's id"), Signed, ("Range" = Option<String>, Header, description = "A part of it, in bytes")),
    responses((status = 200, description = "The sound", content((Vec<u8> = "audio/wav"), (Vec<u8> = "audio/ogg"))),
              (status = 206, description = "A part of it", content((Vec<u8> = "audio/wav"), (Vec<u8> = "audio/ogg"))),
              (status = 404, description = "It is gone", body = Problem, content_type = "application/problem+json"),
              (status = 416, description = "No such part", body = Problem, content_type = "application/problem+json")))]
pub(crate) async fn linked(
    State(control): State<Arc<Control>>,
    Path(id): Path<String>,
    Params(link): Params<Signed>,
    headers: HeaderMap,
) -> Result<Response, Problem> {
    let is_good =
        link.expires > Moment::now().0 && secret::is_signed(&control.key, &signed(&id, link.expires), &link.signature);
    if !is_good {
        return Err(Problem::forbidden("the link is not good, or no more: ask for a new one"));
    }
    send(&control, &id, &headers).await
}

fn signed(id: &str, expires: i64) -> String {
    format!("recording {id} {expires}")
}

async fn send(control: &Control, id: &str, headers: &HeaderMap) -> Result<Response, Problem> {
    let gone = || Problem::not_found("recording");
    let path = control.store.recording(id).await?.ok_or_else(gone)?;
    let calls = Arc::clone(&control.calls);
    let opened = tokio::task::spawn_blocking(move || calls.recording(&path)).await;
    let recording = match opened.unwrap_or_else(|fault| Err(std::io::Error::other(fault))) {
        Ok(recording) => recording,
        Err(fault) if fault.kind() == std::io::ErrorKind::NotFound => return Err(gone()),
        Err(fault) => return Err(Problem::internal("a recording", fault)),
    };
    let len = recording.file.metadata().map_err(|fault| Problem::internal("a recording", fault))?.len();
    let asked = headers.get(header::RANGE).and_then(|range| range.to_str().ok());
    let (first, last, status) = match asked.map(|range| part(range, len)) {
        None | Some(Part::Whole) => (0, len.saturating_sub(1), StatusCode::OK),
        Some(Part::Of(first, last)) => (first, last, StatusCode::PARTIAL_CONTENT),
        Some(Part::None) => {
            let problem = Problem::new(StatusCode::RANGE_NOT_SATISFIABLE, format!("the recording has {len} bytes"));
            return Ok(([(header::CONTENT_RANGE, format!("bytes */{len}"))], problem).into_response());
        }
    };
    let size = if len == 0 { 0 } else { last - first + 1 };
    let media_type = recording.media_type;
    let mut response = (status, stream(recording, first, size)).into_response();
    let headers = response.headers_mut();
    headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(media_type));
    headers.insert(header::ACCEPT_RANGES, HeaderValue::from_static("bytes"));
    headers.insert(header::CONTENT_LENGTH, HeaderValue::from(size));
    if status == StatusCode::PARTIAL_CONTENT
        && let Ok(range) = HeaderValue::from_str(&format!("bytes {first}-{last}/{len}"))
    {
        headers.insert(header::CONTENT_RANGE, range);
    }
    Ok(response)
}

/// What a `Range` header wants.
#[derive(Debug, PartialEq, Eq)]
enum Part {
    /// It is not understood, or wants several: everything is sent (RFC 9110 section 14.2).
    Whole,
    /// The first and the last byte.
    Of(u64, u64),
    /// There is no such part.
    None,
}

fn part(range: &str, len: u64) -> Part {
    let Some((first, last)) = range.strip_prefix("bytes=").and_then(|range| range.trim().split_once('-')) else {
        return Part::Whole;
    };
    match (first.trim().parse::<u64>(), last.trim().parse::<u64>()) {
        (Ok(first), Ok(last)) if first > last => Part::Whole,
        (Ok(first), _) if first >= len => Part::None,
        (Ok(first), Ok(last)) => Part::Of(first, last.min(len - 1)),
        (Ok(first), Err(_)) if last.trim().is_empty() => Part::Of(first, len - 1),
        (Err(_), Ok(0)) if first.is_empty() => Part::None,
        (Err(_), Ok(last)) if first.is_empty() && len > 0 => Part::Of(len.saturating_sub(last), len - 1),
        (Err(_), Ok(_)) if first.is_empty() => Part::None,
        _ => Part::Whole,
    }
}

/// The bytes, read as fast as they are taken, by a thread of its own that ends when its client goes.
fn stream(recording: Recording, first: u64, size: u64) -> Body {
    let (sender, receiver) = mpsc::channel::<std::io::Result<Bytes>>(CHUNKS_WAITING);
    let gone = CancellationToken::new();
    let guard = gone.clone().drop_guard();
    tokio::task::spawn_blocking(move || {
        let mut file = recording.file;
        let mut read = || -> std::io::Result<()> {
            file.seek(SeekFrom::Start(first))?;
            let mut left = size;
            while left > 0 && !gone.is_cancelled() {
                let mut chunk = Vec::with_capacity(usize::try_from(CHUNK.min(left)).unwrap_or_default());
                let taken = file.by_ref().take(CHUNK.min(left)).read_to_end(&mut chunk)?;
                if taken == 0 {
                    return Err(std::io::Error::from(std::io::ErrorKind::UnexpectedEof));
                }
                left -= taken as u64;
                if sender.blocking_send(Ok(Bytes::from(chunk))).is_err() {
                    break;
                }
            }
            Ok(())
        };
        if let Err(fault) = read() {
            let _ = sender.blocking_send(Err(fault));
        }
    });
    let chunks = futures::stream::unfold((receiver, guard), |(mut receiver, guard)| async move {
        Some((receiver.recv().await?, (receiver, guard)))
    });
    Body::from_stream(chunks)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_are_those_of_rfc_9110() {
        assert_eq!(part("bytes=0-9", 100), Part::Of(0, 9));
        assert_eq!(part("bytes=90-", 100), Part::Of(90, 99));
        assert_eq!(part("bytes=-10", 100), Part::Of(90, 99));
        assert_eq!(part("bytes=-200", 100), Part::Of(0, 99));
        assert_eq!(part("bytes=50-500", 100), Part::Of(50, 99));
        assert_eq!(part("bytes=100-", 100), Part::None);
        assert_eq!(part("bytes=-0", 100), Part::None);
        assert_eq!(part("bytes=0-0", 0), Part::None);
        assert_eq!(part("bytes=9-3", 100), Part::Whole);
        assert_eq!(part("bytes=0-9,20-29", 100), Part::Whole);
        assert_eq!(part("frames=0-9", 100), Part::Whole);
    }
}
