//! The dashboard's files as they are served, and the OpenAPI document that its client is made from.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use axum::body::{Body, to_bytes};
use axum::extract::Request;
use axum::http::{Method, Response, StatusCode, header};
use control::api::{self, dashboard};

async fn ask(method: Method, path: &str, headers: &[(header::HeaderName, &str)]) -> Response<Body> {
    let mut request = Request::builder().method(method).uri(path);
    for (name, value) in headers {
        request = request.header(name, *value);
    }
    dashboard::serve(request.body(Body::empty()).unwrap()).await
}

async fn get(path: &str) -> Response<Body> {
    ask(Method::GET, path, &[]).await
}

fn text<'a>(answer: &'a Response<Body>, name: &str) -> &'a str {
    answer.headers().get(name).map(|value| value.to_str().unwrap()).unwrap_or_default()
}

async fn body(answer: Response<Body>) -> String {
    String::from_utf8(to_bytes(answer.into_body(), usize::MAX).await.unwrap().to_vec()).unwrap()
}

#[tokio::test]
async fn its_own_places_have_the_page_and_others_are_not_found() {
    for path in ["/", "/live/0mx1-0001", "/records", "/records/a/b", "/people/users", "/setup", "/api/v1/docs"] {
        let answer = get(path).await;
        assert_eq!(answer.status(), StatusCode::OK, "{path}");
        assert_eq!(text(&answer, "content-type"), "text/html; charset=utf-8", "{path}");
        assert!(body(answer).await.contains(if dashboard::is_there() { "id=\"app\"" } else { "scripts/dashboard" }));
    }
    for path in [
        "/nothing",
        "/api/v1/nothing",
        "/assets/nothing.js",
        "/recordings",
        "/api/v1/docs/x",
        "/../Cargo.toml",
        "//records",
    ] {
        let answer = get(path).await;
        assert_eq!(answer.status(), StatusCode::NOT_FOUND, "{path}");
        // Programs are answered as the interface answers.
        assert_eq!(text(&answer, "content-type"), "application/problem+json", "{path}");
        let said = body(answer).await;
        assert!(said.contains(if path.starts_with("/api/") { "/api/v1/openapi.json" } else { "/api/v1" }), "{path}");
    }
    // A browser gets a page that says so, with a way back; of the interface not even that does.
    let browser = [(header::ACCEPT, "text/html,application/xhtml+xml;q=0.9,*/*;q=0.8")];
    for (path, kind) in [
        ("/nothing", "text/html; charset=utf-8"),
        ("/recordings/x", "text/html; charset=utf-8"),
        ("/api/v1/nothing", "application/problem+json"),
    ] {
        let answer = ask(Method::GET, path, &browser).await;
        assert_eq!((answer.status(), text(&answer, "content-type")), (StatusCode::NOT_FOUND, kind), "{path}");
        assert_eq!(text(&answer, "etag"), "", "{path}");
        if path == "/nothing" {
            assert!(text(&answer, "content-security-policy").contains("default-src 'none'"));
            let page = if dashboard::is_there() { "id=\"app\"" } else { "href=\"/\"" };
            assert!(body(answer).await.contains(page), "{path}");
        }
    }
    let post = ask(Method::POST, "/nothing", &browser).await;
    assert_eq!((post.status(), text(&post, "content-type")), (StatusCode::NOT_FOUND, "application/problem+json"));
    let answer = ask(Method::POST, "/records", &[]).await;
    assert_eq!((answer.status(), text(&answer, "allow")), (StatusCode::METHOD_NOT_ALLOWED, "GET, HEAD"));
}

#[tokio::test]
async fn nothing_foreign_and_nothing_inline_runs_in_it() {
    let answer = get("/").await;
    let policy = text(&answer, "content-security-policy").to_owned();
    for part in
        ["default-src 'none'", "script-src 'self'", "style-src 'self'", "frame-ancestors 'none'", "base-uri 'none'"]
    {
        assert!(policy.split(';').any(|given| given.trim() == part), "{part}: {policy}");
    }
    assert!(!policy.contains("unsafe"), "{policy}");
    assert_eq!(text(&answer, "x-content-type-options"), "nosniff");
    assert_eq!(text(&answer, "referrer-policy"), "no-referrer");
    assert_eq!(text(&answer, "cross-origin-opener-policy"), "same-origin");
    let page = body(answer).await;
    assert!(!page.contains("http://") && !page.contains("https://") && !page.contains("style="), "{page}");
    assert!(!page.contains("<script>") && !page.contains("<style"), "{page}");
}

#[tokio::test]
async fn what_has_its_hash_in_its_name_is_kept_and_the_page_is_asked_for_anew() {
    if !dashboard::is_there() {
        return;
    }
    let answer = get("/").await;
    assert_eq!(text(&answer, "cache-control"), "no-cache");
    let tag = text(&answer, "etag").to_owned();
    let again = ask(Method::GET, "/records", &[(header::IF_NONE_MATCH, &format!("\"x\", W/{tag}"))]).await;
    assert_eq!(again.status(), StatusCode::NOT_MODIFIED);
    assert_eq!(ask(Method::GET, "/", &[(header::IF_NONE_MATCH, "\"x\"")]).await.status(), StatusCode::OK);
    let page = body(answer).await;
    let script = page.split("src=\"").nth(1).unwrap().split('"').next().unwrap();
    assert!(script.starts_with("/assets/"), "{script}");
    let plain = get(script).await;
    assert!(text(&plain, "cache-control").contains("immutable"));
    assert_eq!(text(&plain, "content-type"), "text/javascript; charset=utf-8");
    let packed = ask(Method::GET, script, &[(header::ACCEPT_ENCODING, "br, gzip")]).await;
    assert_eq!((text(&packed, "content-encoding"), text(&packed, "vary")), ("gzip", "accept-encoding"));
    let lengths = (
        to_bytes(plain.into_body(), usize::MAX).await.unwrap(),
        to_bytes(packed.into_body(), usize::MAX).await.unwrap(),
    );
    assert!(lengths.1.len() * 2 < lengths.0.len());
    for refused in ["", "br", "gzip;q=0", "identity"] {
        let answer = ask(Method::GET, script, &[(header::ACCEPT_ENCODING, refused)]).await;
        assert_eq!(text(&answer, "content-encoding"), "", "{refused}");
    }
}

/// `OMNIVOX_BLESS=1 cargo test -p control --test dashboard` writes it anew.
#[test]
fn the_document_that_the_client_is_made_from_is_the_servers_own() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/dashboard/openapi.json");
    let wanted = serde_json::to_string_pretty(&api::document()).unwrap() + "\n";
    if std::env::var_os("OMNIVOX_BLESS").is_some() {
        std::fs::write(path, &wanted).unwrap();
    }
    let kept = std::fs::read_to_string(path).unwrap();
    assert!(
        kept == wanted,
        "routes have changed: OMNIVOX_BLESS=1 cargo test -p control --test dashboard, then scripts/dashboard"
    );
}
