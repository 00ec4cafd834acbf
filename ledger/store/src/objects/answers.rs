//! What a server answered, told to the retry policy: the library keeps neither status nor `Retry-After` in its errors.
//!
//! Its own retries are switched off; every answer that is neither success nor one of the outcomes that it names itself
//! becomes an [`Answered`] in the error's chain of causes. Not here: what is retried ([`super::patience`]).
//!
//! Invariant: no header and no body of an answer is kept; they may hold what was signed with.

use async_trait::async_trait;
use object_store::ClientOptions;
use object_store::client::{
    HttpClient, HttpConnector, HttpError, HttpErrorKind, HttpRequest, HttpResponse, HttpService, ReqwestConnector,
};
use std::time::Duration;

/// A server refused or failed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the server answered with status {status}{}", told(*status))]
pub(super) struct Answered {
    /// The HTTP status.
    pub status: u16,
    /// How long it asks to wait.
    pub after: Option<Duration>,
}

/// Outcomes that the library tells apart by itself, but for listings: not modified, unauthenticated, forbidden, not
/// found, there already, precondition failed.
const NAMED: [u16; 6] = [304, 401, 403, 404, 409, 412];

fn told(status: u16) -> &'static str {
    match status {
        401 => ": these credentials are not known there",
        403 => ": these credentials may not do that",
        404 => ": there is no such bucket or container",
        _ => "",
    }
}

/// Whether a request lists: of these the library names no outcome.
fn lists(request: &HttpRequest) -> bool {
    let query = request.uri().query().unwrap_or_default();
    request.method().as_str() == "GET" && query.split('&').any(|part| matches!(part, "list-type=2" | "comp=list"))
}

/// Makes clients that tell what was answered.
#[derive(Debug)]
pub(super) struct Telling {
    /// Whether 409 says that another request was in the way, and nothing of the object: so in S3. In Azure and Google
    /// it says that the object is there.
    pub conflict_passes: bool,
}

impl HttpConnector for Telling {
    fn connect(&self, options: &ClientOptions) -> object_store::Result<HttpClient> {
        let inner = ReqwestConnector::default().connect(options)?;
        Ok(HttpClient::new(TellingClient { inner, conflict_passes: self.conflict_passes }))
    }
}

#[derive(Debug)]
struct TellingClient {
    inner: HttpClient,
    conflict_passes: bool,
}

#[async_trait]
impl HttpService for TellingClient {
    async fn call(&self, request: HttpRequest) -> Result<HttpResponse, HttpError> {
        let is_listing = lists(&request);
        let response = self.inner.execute(request).await?;
        let status = response.status().as_u16();
        let named = NAMED.contains(&status) && !is_listing && !(status == 409 && self.conflict_passes);
        if status < 300 || named {
            return Ok(response);
        }
        // The form with a date is read as none: it would need a clock that agrees with the server's.
        let header = response.headers().get("retry-after").and_then(|value| value.to_str().ok());
        let after = header.and_then(|seconds| seconds.parse().ok()).map(Duration::from_secs);
        // `Unknown` is what the library never retries.
        Err(HttpError::new(HttpErrorKind::Unknown, Answered { status, after }))
    }
}
