//! One download into one file, going on where an earlier one was cut off.

use std::path::Path;
use std::time::Duration;

use futures::StreamExt as _;
use reqwest::header::{CONTENT_RANGE, RANGE};
use reqwest::{Client, Response, StatusCode};
use tokio::fs::{File, OpenOptions};
use tokio::io::AsyncWriteExt as _;

use super::{MAX_MODEL_BYTES, ModelError, Progress, disk};

const CONNECT: Duration = Duration::from_secs(20);

pub(super) async fn fetch(
    url: &str,
    part: &Path,
    stall: Duration,
    progress: &mut impl FnMut(Progress),
) -> Result<(), ModelError> {
    let network = |error: reqwest::Error, done_bytes| network_error(url, &error, done_bytes);
    let client = Client::builder().connect_timeout(CONNECT).read_timeout(stall).build();
    let client = client.map_err(|error| network(error, 0))?;
    let had = tokio::fs::metadata(part).await.map_or(0, |meta| meta.len());
    let mut request = client.get(url);
    if had > 0 {
        request = request.header(RANGE, format!("bytes={had}-"));
    }
    let response = request.send().await.map_err(|error| network(error, had))?;
    let (start, total) = match response.status() {
        StatusCode::PARTIAL_CONTENT if had > 0 => match range_of(&response) {
            Some((start, total)) if start == had => (had, total),
            _ => {
                let reason = "the server sent another part than was asked for".to_owned();
                return Err(ModelError::Network { url: url.to_owned(), reason, done_bytes: had });
            }
        },
        StatusCode::OK => (0, response.content_length()),
        // Nothing beyond what is here: it is whole, if it is as long as the server says.
        StatusCode::RANGE_NOT_SATISFIABLE if range_of(&response).is_some_and(|(_, total)| total == Some(had)) => {
            progress(Progress { done_bytes: had, total_bytes: Some(had) });
            return Ok(());
        }
        StatusCode::RANGE_NOT_SATISFIABLE => {
            tokio::fs::remove_file(part).await.map_err(|error| disk(part, &error))?;
            let reason = "what was fetched before is no part of the server's file".to_owned();
            return Err(ModelError::Network { url: url.to_owned(), reason, done_bytes: 0 });
        }
        status => return Err(ModelError::Status { url: url.to_owned(), status: status.as_u16() }),
    };
    if total.is_some_and(|total| total > MAX_MODEL_BYTES) {
        return Err(ModelError::TooLarge { url: url.to_owned(), limit_bytes: MAX_MODEL_BYTES });
    }
    let mut options = OpenOptions::new();
    let file = options.create(true).write(true).append(start > 0).truncate(start == 0).open(part).await;
    let mut file = file.map_err(|error| disk(part, &error))?;
    let done = write_body(url, part, response, &mut file, start, total, progress).await?;
    file.sync_all().await.map_err(|error| disk(part, &error))?;
    match total {
        Some(total) if total != done => {
            let reason = format!("the answer ended after {done} of {total} bytes");
            Err(ModelError::Network { url: url.to_owned(), reason, done_bytes: done })
        }
        _ => Ok(()),
    }
}

async fn write_body(
    url: &str,
    part: &Path,
    response: Response,
    file: &mut File,
    start: u64,
    total_bytes: Option<u64>,
    progress: &mut impl FnMut(Progress),
) -> Result<u64, ModelError> {
    let mut done_bytes = start;
    let mut body = response.bytes_stream();
    progress(Progress { done_bytes, total_bytes });
    while let Some(piece) = body.next().await {
        let piece = match piece {
            Ok(piece) => piece,
            Err(error) => {
                // What came before the cut is good and stays.
                file.flush().await.map_err(|error| disk(part, &error))?;
                return Err(network_error(url, &error, done_bytes));
            }
        };
        done_bytes += piece.len() as u64;
        if done_bytes > MAX_MODEL_BYTES {
            return Err(ModelError::TooLarge { url: url.to_owned(), limit_bytes: MAX_MODEL_BYTES });
        }
        file.write_all(&piece).await.map_err(|error| disk(part, &error))?;
        progress(Progress { done_bytes, total_bytes });
    }
    file.flush().await.map_err(|error| disk(part, &error))?;
    Ok(done_bytes)
}

/// First byte and whole length of a `Content-Range` (RFC 9110, section 14.4); first byte 0 for `bytes */LENGTH`.
fn range_of(response: &Response) -> Option<(u64, Option<u64>)> {
    let value = response.headers().get(CONTENT_RANGE)?.to_str().ok()?;
    let (range, total) = value.strip_prefix("bytes ")?.split_once('/')?;
    let start = if range == "*" { 0 } else { range.split_once('-')?.0.parse().ok()? };
    Some((start, total.parse().ok()))
}

fn network_error(url: &str, error: &reqwest::Error, done_bytes: u64) -> ModelError {
    let mut reason = error.to_string();
    let mut cause = std::error::Error::source(error);
    while let Some(inner) = cause {
        reason = inner.to_string();
        cause = inner.source();
    }
    ModelError::Network { url: url.to_owned(), reason, done_bytes }
}
