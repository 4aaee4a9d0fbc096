//! What went wrong, as RFC 9457 has it: `application/problem+json`, with the fields that are wrong named one by one.

use std::time::Duration;

use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

use crate::ports::CallFault;
use crate::store::StoreError;

/// Why a request was not done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Problem {
    /// Always `about:blank`: the status says what kind it is.
    #[serde(rename = "type")]
    pub kind: String,
    /// What, in a few words.
    pub title: String,
    /// The HTTP status.
    pub status: u16,
    /// What, and what to do about it.
    pub detail: String,
    /// The fields that are wrong.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<FieldError>,
    /// Wait so many seconds before asking again.
    #[serde(skip)]
    pub retry_after_s: Option<u64>,
}

/// What is wrong with a field.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct FieldError {
    /// Its name, with the names of what it stands in before it: `connect_with`, `scopes[0]`.
    pub field: String,
    /// What is wrong with it, and what to write instead.
    pub message: String,
}

impl Problem {
    /// Says what, with a status.
    #[must_use]
    pub fn new(status: StatusCode, detail: impl Into<String>) -> Self {
        Self {
            kind: "about:blank".to_owned(),
            title: status.canonical_reason().unwrap_or("Problem").to_owned(),
            status: status.as_u16(),
            detail: detail.into(),
            errors: Vec::new(),
            retry_after_s: None,
        }
    }

    /// One field is wrong.
    #[must_use]
    pub fn field(field: &str, message: impl Into<String>) -> Self {
        Self::fields(vec![FieldError { field: field.to_owned(), message: message.into() }])
    }

    /// Several fields are.
    #[must_use]
    pub fn fields(errors: Vec<FieldError>) -> Self {
        let detail =
            errors.iter().map(|error| format!("{}: {}", error.field, error.message)).collect::<Vec<_>>().join("; ");
        Self { errors, ..Self::new(StatusCode::UNPROCESSABLE_ENTITY, detail) }
    }

    /// There is none, or none that the caller may see: the two look the same.
    #[must_use]
    pub fn not_found(what: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, format!("there is no such {what}"))
    }

    /// The caller may not.
    #[must_use]
    pub fn forbidden(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::FORBIDDEN, detail)
    }

    /// Nobody knows who the caller is.
    #[must_use]
    pub fn unauthorized(detail: impl Into<String>) -> Self {
        Self::new(StatusCode::UNAUTHORIZED, detail)
    }

    /// Too often.
    #[must_use]
    pub fn too_many(wait: Duration) -> Self {
        let seconds = wait.as_secs() + 1;
        Self {
            retry_after_s: Some(seconds),
            ..Self::new(StatusCode::TOO_MANY_REQUESTS, format!("too many requests: wait {seconds} s"))
        }
    }

    /// Our fault: the log has it, whoever asks has not.
    #[must_use]
    pub fn internal(what: &str, fault: impl std::fmt::Display) -> Self {
        tracing::error!("{what}: {fault}");
        Self::new(StatusCode::INTERNAL_SERVER_ERROR, "the server failed; its log says how")
    }
}

impl From<StoreError> for Problem {
    fn from(fault: StoreError) -> Self {
        match fault {
            StoreError::Taken { field, value } => Self {
                errors: vec![FieldError {
                    field: field.to_owned(),
                    message: format!("{value} is taken: choose another"),
                }],
                ..Self::new(StatusCode::CONFLICT, format!("{field}: {value} is taken: choose another"))
            },
            StoreError::Missing { field, value } => Self::field(field, format!("{value} does not exist")),
            StoreError::InUse { .. } => Self::new(StatusCode::CONFLICT, fault.to_string()),
            StoreError::Changed => Self::new(
                StatusCode::PRECONDITION_FAILED,
                "it was changed meanwhile: read it again, and send its ETag as If-Match",
            ),
            StoreError::Database(_)
            | StoreError::Open { .. }
            | StoreError::Damaged { .. }
            | StoreError::Newer(_)
            | StoreError::Migrate(_) => {
                tracing::error!("{fault}");
                Self {
                    retry_after_s: Some(5),
                    ..Self::new(
                        StatusCode::SERVICE_UNAVAILABLE,
                        "the database does not answer; the server's log says why",
                    )
                }
            }
        }
    }
}

impl From<CallFault> for Problem {
    fn from(fault: CallFault) -> Self {
        match fault {
            CallFault::Gone => Self::not_found("call in progress"),
            CallFault::Busy | CallFault::Full => {
                Self { retry_after_s: Some(1), ..Self::new(StatusCode::SERVICE_UNAVAILABLE, fault.to_string()) }
            }
            CallFault::Unfit(why) => Self::new(StatusCode::CONFLICT, why),
            CallFault::Unreachable(why) => Self::field("to", why),
            CallFault::Field { field, why } => Self::field(field, why),
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let body = serde_json::to_string(&self).unwrap_or_default();
        let mut response = (status, [(header::CONTENT_TYPE, "application/problem+json")], body).into_response();
        let headers = response.headers_mut();
        if let Some(seconds) = self.retry_after_s {
            headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        if status == StatusCode::UNAUTHORIZED {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer realm=\"omnivox\""));
        }
        response
    }
}
