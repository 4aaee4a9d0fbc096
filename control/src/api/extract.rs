//! What requests bring: bodies and parameters whose wrong field is named, pages of lists, ETags.

use axum::extract::{FromRequest, FromRequestParts, Query, Request};
use axum::http::request::Parts;
use axum::http::{HeaderMap, HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::problem::{FieldError, Problem};

/// Entries of a page, where nobody says how many.
pub const PAGE: i64 = 50;
/// Entries of a page at most.
pub const PAGE_LIMIT: i64 = 200;

/// A JSON body.
#[derive(Debug)]
pub struct Body<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequest<S> for Body<T> {
    type Rejection = Problem;

    async fn from_request(request: Request, state: &S) -> Result<Self, Problem> {
        let kind = request.headers().get(header::CONTENT_TYPE).and_then(|kind| kind.to_str().ok()).unwrap_or_default();
        let kind = kind.split(';').next().unwrap_or_default().trim();
        if !kind.eq_ignore_ascii_case("application/json") {
            return Err(Problem::new(StatusCode::UNSUPPORTED_MEDIA_TYPE, "send the body as application/json"));
        }
        let bytes = axum::body::Bytes::from_request(request, state)
            .await
            .map_err(|fault| Problem::new(fault.status(), fault.body_text()))?;
        read(&bytes).map(Self)
    }
}

fn read<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, Problem> {
    let mut reader = serde_json::Deserializer::from_slice(bytes);
    let value = serde_path_to_error::deserialize(&mut reader).map_err(|fault| {
        let inner = fault.inner();
        if inner.is_syntax() || inner.is_eof() {
            return Problem::new(StatusCode::BAD_REQUEST, format!("the body is no JSON: {inner}"));
        }
        let message = without_place(&inner.to_string()).to_owned();
        match fault.path().to_string().as_str() {
            "." => Problem::field(&named(&message), message),
            path => Problem::field(path, message),
        }
    })?;
    reader.end().map_err(|fault| Problem::new(StatusCode::BAD_REQUEST, format!("the body is no JSON: {fault}")))?;
    Ok(value)
}

/// Without serde's line and column, which mean nothing to whoever sent a field.
fn without_place(message: &str) -> &str {
    message.rsplit_once(" at line ").map_or(message, |(message, _)| message)
}

/// The field that serde's message names in backticks: one that is missing or unknown has no path.
fn named(message: &str) -> String {
    message.split('`').nth(1).unwrap_or("body").to_owned()
}

/// Query parameters.
#[derive(Debug)]
pub struct Params<T>(pub T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Params<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        Query::try_from_uri(&parts.uri).map(|Query(params)| Self(params)).map_err(|fault| {
            let text = fault.body_text();
            let text = text.strip_prefix("Failed to deserialize query string: ").unwrap_or(&text);
            match text.split_once(": ") {
                Some((field, message)) if !field.contains(' ') => Problem::field(field, in_words(field, message)),
                _ => Problem::field(&named(text), text),
            }
        })
    }
}

/// What to write instead, where the parser of whole numbers says what it met.
fn in_words(field: &str, message: &str) -> String {
    let is_number =
        ["invalid digit", "number too ", "cannot parse integer"].iter().any(|said| message.starts_with(said));
    match (is_number, field) {
        (true, "limit") => format!("write a whole number from 1 to {PAGE_LIMIT}"),
        (true, _) => "write a whole number".to_owned(),
        (false, _) => message.to_owned(),
    }
}

/// Which page of a list.
#[derive(Debug, Clone, Default, Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub struct Paging {
    /// Entries, 1 to 200; 50 where it does not say.
    #[param(minimum = 1, maximum = 200)]
    pub limit: Option<i64>,
    /// `next` of the page before.
    pub after: Option<String>,
}

impl Paging {
    /// Entries to be shown.
    ///
    /// # Errors
    /// `limit` is out of range.
    pub fn limit(&self) -> Result<i64, Problem> {
        match self.limit.unwrap_or(PAGE) {
            limit @ 1..=PAGE_LIMIT => Ok(limit),
            _ => Err(Problem::field("limit", format!("write a whole number from 1 to {PAGE_LIMIT}"))),
        }
    }

    /// The place after which the page begins.
    ///
    /// # Errors
    /// `after` is not what a page before gave.
    pub fn place(&self) -> Result<Option<String>, Problem> {
        let Some(after) = &self.after else { return Ok(None) };
        let bytes = URL_SAFE_NO_PAD.decode(after).ok();
        match bytes.and_then(|bytes| String::from_utf8(bytes).ok()).filter(|place| !place.contains('\0')) {
            Some(place) => Ok(Some(place)),
            None => Err(bad_place()),
        }
    }
}

/// `after` is not what a page before gave.
pub(super) fn bad_place() -> Problem {
    Problem::field("after", "send `next` of the page before as it was, or leave it out")
}

/// A page of a list.
#[derive(Debug, Serialize, ToSchema)]
pub struct Page<T: ToSchema> {
    /// The entries.
    pub items: Vec<T>,
    /// Send it as `after` to see what follows; none where nothing does.
    pub next: Option<String>,
}

impl<T: ToSchema> Page<T> {
    /// Makes a page of what was read, which is one entry more than is shown where there is a next page.
    pub fn of(mut items: Vec<T>, limit: i64, place: impl Fn(&T) -> String) -> Self {
        let limit = usize::try_from(limit).unwrap_or(usize::MAX);
        let has_more = items.len() > limit;
        items.truncate(limit);
        let next = items.last().filter(|_| has_more).map(|last| URL_SAFE_NO_PAD.encode(place(last)));
        Self { items, next }
    }
}

/// An answer with an ETag.
pub fn tagged(status: StatusCode, version: i64, body: impl Serialize) -> Response {
    let mut response = (status, axum::Json(body)).into_response();
    if let Ok(tag) = HeaderValue::from_str(&format!("\"{version}\"")) {
        response.headers_mut().insert(header::ETAG, tag);
    }
    response
}

/// The version that whoever asks has read (`If-Match`), where they say so; `*` is any.
///
/// # Errors
/// It is no ETag of ours.
pub fn if_match(headers: &HeaderMap) -> Result<Option<i64>, Problem> {
    let Some(tag) = headers.get(header::IF_MATCH) else { return Ok(None) };
    let tag = tag.to_str().unwrap_or_default().trim();
    if tag == "*" {
        return Ok(None);
    }
    match tag.strip_prefix('"').and_then(|tag| tag.strip_suffix('"')).and_then(|tag| tag.parse().ok()) {
        Some(version) => Ok(Some(version)),
        None => Err(StoreErrorChanged.into()),
    }
}

struct StoreErrorChanged;

impl From<StoreErrorChanged> for Problem {
    fn from(_: StoreErrorChanged) -> Self {
        crate::store::StoreError::Changed.into()
    }
}

/// A field that is null is not one that is absent.
pub(super) fn given<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

/// Looks at one field after another, so that every wrong one is named.
#[derive(Debug, Default)]
pub(super) struct Fields {
    wrong: Vec<FieldError>,
    /// What went wrong otherwise.
    fault: Option<Problem>,
}

impl Fields {
    /// A field's value, or nothing where it is wrong.
    pub(super) fn take<T>(&mut self, looked_at: Result<T, Problem>) -> Option<T> {
        match looked_at {
            Ok(value) => return Some(value),
            Err(problem) if problem.errors.is_empty() => self.fault = Some(problem),
            Err(problem) => self.wrong.extend(problem.errors),
        }
        None
    }

    /// A field is wrong.
    pub(super) fn wrong(&mut self, field: impl Into<String>, message: impl Into<String>) {
        self.wrong.push(FieldError { field: field.into(), message: message.into() });
    }

    /// Goes on where no field was wrong.
    pub(super) fn done(self) -> Result<(), Problem> {
        match self.fault {
            Some(problem) => Err(problem),
            None if self.wrong.is_empty() => Ok(()),
            None => Err(Problem::fields(self.wrong)),
        }
    }
}

/// Several lines of text that may be written into a field: as [`text`], but lines may end.
///
/// # Errors
/// What is wrong with it.
pub fn lines(field: &str, value: &str, max_chars: usize) -> Result<String, Problem> {
    text(field, &value.replace(['\n', '\r', '\t'], " "), max_chars)?;
    Ok(value.trim().to_owned())
}

/// Text that may be written into a field: without control characters, neither empty nor too long.
///
/// # Errors
/// What is wrong with it.
pub fn text(field: &str, value: &str, max_chars: usize) -> Result<String, Problem> {
    let value = value.trim();
    if value.is_empty() {
        return Err(Problem::field(field, "write something"));
    }
    if value.chars().count() > max_chars {
        return Err(Problem::field(field, format!("write at most {max_chars} characters")));
    }
    if value.chars().any(char::is_control) {
        return Err(Problem::field(field, "write no control characters"));
    }
    Ok(value.to_owned())
}

/// A name that stands in addresses and commands: lower case letters, digits, `.`, `_`, `-`.
///
/// # Errors
/// What is wrong with it.
pub fn name(field: &str, value: &str) -> Result<String, Problem> {
    let value = value.trim().to_lowercase();
    let is_good =
        |character: char| character.is_ascii_lowercase() || character.is_ascii_digit() || "._-".contains(character);
    if !(1..=64).contains(&value.len()) || !value.chars().all(is_good) {
        return Err(Problem::field(field, "write 1 to 64 letters, digits, `.`, `_` or `-`"));
    }
    Ok(value)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[derive(Debug, Deserialize)]
    #[serde(deny_unknown_fields)]
    #[allow(dead_code)]
    struct Wanted {
        to: String,
        ring_s: Option<u32>,
    }

    fn fault(body: &str) -> (u16, String) {
        let problem = read::<Wanted>(body.as_bytes()).unwrap_err();
        (problem.status, problem.errors.first().map(|error| error.field.clone()).unwrap_or_default())
    }

    #[test]
    fn the_wrong_field_is_named() {
        assert_eq!(fault(r#"{"to": 1}"#), (422, "to".into()));
        assert_eq!(fault(r#"{"to": "a", "ring_s": -1}"#), (422, "ring_s".into()));
        assert_eq!(fault(r#"{}"#), (422, "to".into()));
        assert_eq!(fault(r#"{"to": "a", "rings": 1}"#), (422, "rings".into()));
        assert_eq!(fault(r#"{"to": "a""#), (400, String::new()));
        assert_eq!(fault(r#"{"to": "a"} x"#), (400, String::new()));
        assert_eq!(fault("[]"), (422, "body".into()));
    }

    #[test]
    fn a_page_says_where_the_next_begins() {
        #[derive(Debug, Serialize, ToSchema)]
        struct Entry(u8);
        let page = Page::of(vec![Entry(1), Entry(2), Entry(3)], 2, |entry| entry.0.to_string());
        assert_eq!(page.items.len(), 2);
        let paging = Paging { after: page.next, limit: None };
        assert_eq!(paging.place().unwrap().as_deref(), Some("2"));
        assert_eq!(Page::of(vec![Entry(1)], 2, |entry| entry.0.to_string()).next, None);
        assert!(Paging { after: Some("?".into()), limit: None }.place().is_err());
        assert!(Paging { limit: Some(0), after: None }.limit().is_err());
        assert!(Paging { limit: Some(201), after: None }.limit().is_err());
    }

    #[test]
    fn what_is_no_number_is_told_what_to_write() {
        let mut parts = axum::http::Request::get("/?limit=abc").body(()).unwrap().into_parts().0;
        let asked = Params::<Paging>::from_request_parts(&mut parts, &());
        let problem = futures::executor::block_on(asked).unwrap_err();
        let [error] = &problem.errors[..] else { panic!("{problem:?}") };
        assert_eq!((error.field.as_str(), error.message.as_str()), ("limit", "write a whole number from 1 to 200"));
    }

    #[test]
    fn names_are_lower_case_and_plain() {
        assert_eq!(name("name", " Ada ").unwrap(), "ada");
        for bad in ["", "a b", "a/b", "é", &"x".repeat(65)] {
            assert!(name("name", bad).is_err(), "{bad}");
        }
    }
}
