//! The dashboard: a page of the browser's that uses the interface like any other client. Its files are built by `scripts/dashboard` and
//! embedded (`build.rs`); a program that was built without them says how to get them.

use axum::body::Body;
use axum::extract::Request;
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::problem::Problem;

/// Places of the dashboard's own, by their first part: it finds out there itself what to show.
pub const PLACES: &[&str] = &[
    "live",
    "records",
    "kpis",
    "contacts",
    "do-not-call",
    "agents",
    "telephony",
    "people",
    "keys",
    "webhooks",
    "audit",
    "erasure",
    "account",
    "setup",
];

/// The reference of the interface, which is a page among its routes.
pub const REFERENCE: &str = "/api/v1/docs";

/// Scripts and styles from here alone, nothing inline; sound from here and from calls; no page frames it.
const POLICY: &str = "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; \
                      media-src 'self' blob: mediastream:; manifest-src 'self'; base-uri 'none'; form-action 'self'; \
                      frame-ancestors 'none'";

/// What is shown where the dashboard was not built.
const MISSING: &str = "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
    <title>Omnivox</title><h1>Omnivox</h1><p>This program was built without its dashboard. In its sources, run <code>scripts/dashboard</code> \
    (it needs Node) and build the program again.</p><p>The HTTP interface is here all the same: \
    <a href=\"/api/v1/openapi.json\">/api/v1/openapi.json</a> describes it.</p></html>";

/// The same for a page that there is not.
const NOTHING: &str = "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width\">\
    <title>Omnivox</title><h1>There is no such page</h1><p><a href=\"/\">To the beginning</a></p></html>";

/// A file of the dashboard's.
struct File {
    /// Its path in the folder.
    name: &'static str,
    /// Its ETag.
    tag: &'static str,
    bytes: &'static [u8],
    /// The same, by gzip.
    packed: Option<&'static [u8]>,
}

static FILES: &[File] = include!(concat!(env!("OUT_DIR"), "/dashboard.rs"));

/// Whether the dashboard is in this program.
#[must_use]
pub fn is_there() -> bool {
    file("index.html").is_some()
}

/// Whether whoever asks is a browser that wants a page to look at, and not a program or a page in want of a file.
fn wants_page(request: &Request) -> bool {
    let accepted =
        request.headers().get(header::ACCEPT).and_then(|accepted| accepted.to_str().ok()).unwrap_or_default();
    let is_looked_at = matches!(*request.method(), Method::GET | Method::HEAD);
    is_looked_at && accepted.split(',').any(|kind| kind.split(';').next().unwrap_or_default().trim() == "text/html")
}

/// Answers a request for a path that is no route of the interface. Where there is nothing, browsers get the dashboard, which says so in its own
/// look, and others a problem.
pub async fn serve(request: Request) -> Response {
    let path = request.uri().path();
    let name = path.strip_prefix('/').unwrap_or(path);
    // `//records` is none: only the root's first part is empty.
    let is_place = name.is_empty() || path == REFERENCE || PLACES.contains(&name.split('/').next().unwrap_or_default());
    let found = file(name).or_else(|| file("index.html").filter(|_| is_place));
    let is_nothing = found.is_none() && !is_place;
    let mut response = match (request.method(), found) {
        _ if is_nothing && path.starts_with("/api/") => {
            let detail = format!("there is no {path} here: GET /api/v1/openapi.json says what there is");
            return Problem::new(StatusCode::NOT_FOUND, detail).into_response();
        }
        _ if is_nothing && wants_page(&request) => {
            let mut page = match file("index.html") {
                Some(page) => send(page, &HeaderMap::new()),
                None => ([(header::CONTENT_TYPE, "text/html; charset=utf-8")], NOTHING).into_response(),
            };
            *page.status_mut() = StatusCode::NOT_FOUND;
            // It is of no use to whoever asks for this again.
            page.headers_mut().remove(header::ETAG);
            page
        }
        _ if is_nothing => {
            let detail = format!("there is no {path} here: the dashboard is at /, the HTTP interface at /api/v1");
            return Problem::new(StatusCode::NOT_FOUND, detail).into_response();
        }
        (&Method::GET | &Method::HEAD, Some(found)) => send(found, request.headers()),
        (&Method::GET | &Method::HEAD, None) => {
            ([(header::CONTENT_TYPE, "text/html; charset=utf-8"), (header::CACHE_CONTROL, "no-cache")], MISSING)
                .into_response()
        }
        _ => (StatusCode::METHOD_NOT_ALLOWED, [(header::ALLOW, "GET, HEAD")]).into_response(),
    };
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::REFERRER_POLICY, "no-referrer"),
        (header::HeaderName::from_static("cross-origin-opener-policy"), "same-origin"),
        (header::HeaderName::from_static("cross-origin-resource-policy"), "same-origin"),
        (header::HeaderName::from_static("permissions-policy"), "microphone=(self), camera=(), geolocation=()"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

fn file(name: &str) -> Option<&'static File> {
    FILES.iter().find(|file| file.name == name)
}

fn send(file: &'static File, asked: &HeaderMap) -> Response {
    let text = |name| asked.get(name).and_then(|value: &HeaderValue| value.to_str().ok()).unwrap_or_default();
    // What is below assets/ has its content's hash in its name; the rest is asked for anew each time.
    let kept = if file.name.starts_with("assets/") { "public, max-age=31536000, immutable" } else { "no-cache" };
    let headers = [(header::ETAG, file.tag), (header::CACHE_CONTROL, kept), (header::VARY, "accept-encoding")];
    if text(header::IF_NONE_MATCH).split(',').any(|tag| tag.trim().trim_start_matches("W/") == file.tag) {
        return (StatusCode::NOT_MODIFIED, headers).into_response();
    }
    let packed = file.packed.filter(|_| takes_gzip(text(header::ACCEPT_ENCODING)));
    let kind = [(header::CONTENT_TYPE, media_type(file.name))];
    let mut response = (headers, kind, Body::from(packed.unwrap_or(file.bytes))).into_response();
    if packed.is_some() {
        response.headers_mut().insert(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"));
    }
    response
}

/// Whether `Accept-Encoding` names gzip and does not give it a weight of 0 (RFC 9110 section 12.5.3).
fn takes_gzip(accepted: &str) -> bool {
    accepted.split(',').any(|coding| {
        let (name, weight) = coding.split_once(';').unwrap_or((coding, "q=1"));
        let weight = weight.trim().trim_start_matches("q=").parse::<f32>();
        name.trim().eq_ignore_ascii_case("gzip") && weight.is_ok_and(|weight| weight > 0.0)
    })
}

fn media_type(name: &str) -> &'static str {
    match name.rsplit('.').next() {
        Some("html") => "text/html; charset=utf-8",
        Some("js") => "text/javascript; charset=utf-8",
        Some("css") => "text/css; charset=utf-8",
        Some("svg") => "image/svg+xml",
        Some("json") => "application/json",
        Some("webmanifest") => "application/manifest+json",
        _ => "application/octet-stream",
    }
}
