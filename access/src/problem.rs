//! Errors as people and programs get them: RFC 9457 problem details. The only place with status codes.
//!
//! Not here: what went wrong. Invariant: a detail names fields, parameters and limits, and never what an
//! event held; what only the operator should know goes to the log, under the same request.

use crate::registry::BookError;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use ledger_store::{ErrorKind, StoreError};
use serde_json::{Map, Value, json};

/// What kind of problem, which decides status and type.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum ProblemKind {
    /// The request cannot be read.
    Malformed,
    /// The caller is not known.
    Unauthenticated,
    /// The caller may not do that.
    Forbidden,
    /// There is no such thing, or none that the caller may know of.
    NotFound,
    /// It was there, and was taken away for good.
    Gone,
    /// The method is not offered at this path.
    MethodNotAllowed,
    /// None of the formats asked for is offered.
    NotAcceptable,
    /// Somebody or something else was first.
    Conflict,
    /// More bytes than a limit allows.
    TooLarge,
    /// A format that is not read.
    UnsupportedMedia,
    /// The request is readable and cannot be done.
    Unprocessable,
    /// A query exceeded a limit.
    QueryTooExpensive,
    /// Too much at once; repeat later.
    TooManyRequests,
    /// A fault of the service.
    Internal,
    /// The service does not accept now; repeat later.
    Unavailable,
}

impl ProblemKind {
    /// Status, type and title, in one table.
    fn facts(self) -> (StatusCode, &'static str, &'static str) {
        match self {
            Self::Malformed => (StatusCode::BAD_REQUEST, "malformed", "the request cannot be read"),
            Self::Unauthenticated => (StatusCode::UNAUTHORIZED, "unauthenticated", "who is calling is not known"),
            Self::Forbidden => (StatusCode::FORBIDDEN, "forbidden", "this is not allowed"),
            Self::NotFound => (StatusCode::NOT_FOUND, "not-found", "there is no such thing"),
            Self::Gone => (StatusCode::GONE, "gone", "it was there, and was purged"),
            Self::MethodNotAllowed => {
                (StatusCode::METHOD_NOT_ALLOWED, "method-not-allowed", "this path does not offer that method")
            }
            Self::NotAcceptable => (StatusCode::NOT_ACCEPTABLE, "not-acceptable", "no such format is offered"),
            Self::Conflict => (StatusCode::CONFLICT, "conflict", "something else was first"),
            Self::TooLarge => (StatusCode::PAYLOAD_TOO_LARGE, "too-large", "larger than a limit allows"),
            Self::UnsupportedMedia => {
                (StatusCode::UNSUPPORTED_MEDIA_TYPE, "unsupported-media", "this format is not read")
            }
            Self::Unprocessable => (StatusCode::UNPROCESSABLE_ENTITY, "unprocessable", "the request cannot be done"),
            Self::QueryTooExpensive => {
                (StatusCode::UNPROCESSABLE_ENTITY, "query-too-expensive", "the query exceeded a limit")
            }
            Self::TooManyRequests => (StatusCode::TOO_MANY_REQUESTS, "too-many-requests", "too much at once"),
            Self::Internal => (StatusCode::INTERNAL_SERVER_ERROR, "internal", "the service failed"),
            Self::Unavailable => (StatusCode::SERVICE_UNAVAILABLE, "unavailable", "not accepting now"),
        }
    }
}

impl ProblemKind {
    /// The HTTP status.
    pub fn status(self) -> u16 {
        self.facts().0.as_u16()
    }

    /// What it is, in a few words.
    pub fn title(self) -> &'static str {
        self.facts().2
    }
}

/// A problem on its way to the caller.
#[derive(Debug, Clone)]
pub struct Problem {
    kind: ProblemKind,
    detail: String,
    more: Map<String, Value>,
    retry_after: u32,
}

impl Problem {
    /// A problem with what is wrong this time and what would be right.
    pub fn new(kind: ProblemKind, detail: impl Into<String>) -> Self {
        Self { kind, detail: detail.into(), more: Map::new(), retry_after: 1 }
    }

    /// Adds a member for programs.
    pub fn with(mut self, key: &'static str, value: Value) -> Self {
        self.more.insert(key.into(), value);
        self
    }

    /// The same, with when to come again, in seconds.
    pub fn after(self, seconds: u32) -> Self {
        Self { retry_after: seconds, ..self }
    }

    /// When to come again, in seconds; none where coming again is of no use.
    pub fn retry_after(&self) -> Option<u32> {
        let may_come = matches!(self.kind, ProblemKind::TooManyRequests | ProblemKind::Unavailable);
        may_come.then_some(self.retry_after)
    }

    /// What kind it is.
    pub fn kind(&self) -> ProblemKind {
        self.kind
    }

    /// What is wrong this time.
    pub fn detail(&self) -> &str {
        &self.detail
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.detail)
    }
}

impl std::error::Error for Problem {}

impl From<StoreError> for Problem {
    fn from(error: StoreError) -> Self {
        let kind = match error.kind() {
            ErrorKind::NotFound => ProblemKind::NotFound,
            ErrorKind::Gone => ProblemKind::Gone,
            ErrorKind::Invalid => ProblemKind::Malformed,
            ErrorKind::Busy => ProblemKind::TooManyRequests,
            ErrorKind::Conflict => ProblemKind::Unprocessable,
            ErrorKind::Unavailable => ProblemKind::Unavailable,
            ErrorKind::Corrupt => ProblemKind::Internal,
        };
        let detail = match error.kind() {
            // Which object or file it was is the operator's to know.
            ErrorKind::Corrupt => {
                "stored bytes do not hold; the operator finds which in the log, and `piperoll fsck` says what to do"
                    .into()
            }
            ErrorKind::Unavailable if error.is_newer() => {
                "this is stored in a newer format than the service reads; the operator has to upgrade the service"
                    .into()
            }
            ErrorKind::Unavailable if !error.is_for_callers() => {
                "the store does not answer now; send again shortly".into()
            }
            _ => error.to_string(),
        };
        if matches!(kind, ProblemKind::Internal | ProblemKind::Unavailable) {
            tracing::error!(error = &error as &dyn std::error::Error, "the store failed a request");
        }
        Self::new(kind, detail)
    }
}

impl From<BookError> for Problem {
    fn from(error: BookError) -> Self {
        let detail = error.to_string();
        match error {
            BookError::Store(error) => error.into(),
            BookError::Forbidden { at, .. } => Self::new(ProblemKind::Forbidden, detail).with("change", json!(at)),
            BookError::Refused { at, refusal } => {
                let kind = if refusal.is_conflict { ProblemKind::Conflict } else { ProblemKind::Unprocessable };
                Self::new(kind, detail).with("change", json!(at))
            }
            BookError::Invalid(_) => Self::new(ProblemKind::Unprocessable, detail),
            BookError::Busy => Self::new(ProblemKind::TooManyRequests, detail),
            BookError::Entry(_) | BookError::NoStore { .. } | BookError::Moved { .. } | BookError::Misplaced(_) => {
                tracing::error!(error = detail.as_str(), "the registry cannot be read");
                Self::new(ProblemKind::Internal, "the registry cannot be read; the operator finds why in the log")
            }
        }
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let (status, slug, title) = self.kind.facts();
        let retry_after = self.retry_after();
        let mut body = self.more;
        body.insert("type".into(), json!(format!("urn:piperoll:problem:{slug}")));
        body.insert("title".into(), title.into());
        body.insert("status".into(), status.as_u16().into());
        body.insert("detail".into(), self.detail.into());
        let kind = [(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"))];
        let mut response = (status, kind, Value::Object(body).to_string()).into_response();
        if self.kind == ProblemKind::Unauthenticated {
            response.headers_mut().insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        if let Some(seconds) = retry_after {
            response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from(seconds));
        }
        response
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_problem_carries_status_type_and_when_to_come_back() {
        let response =
            Problem::new(ProblemKind::TooManyRequests, "too much waits").with("limit", json!(3)).into_response();
        assert_eq!(response.status().as_u16(), 429);
        assert_eq!(response.headers()[header::RETRY_AFTER], "1");
        assert_eq!(response.headers()[header::CONTENT_TYPE], "application/problem+json");
        let store = Problem::from(StoreError::OutOfRange { what: "seq", given: 9, limit: 3 });
        assert_eq!((store.kind(), store.detail()), (ProblemKind::Malformed, "seq: 9 is outside of 0 to 3"));
    }
}
