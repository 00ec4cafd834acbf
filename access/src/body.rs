//! Bodies of requests that are one JSON document.
//!
//! Not here: events, which are lines (`ingest`). Invariant: what is wrong is said with what would be right.

use crate::problem::{Problem, ProblemKind};
use axum::extract::rejection::BytesRejection;
use bytes::Bytes;
use serde::de::DeserializeOwned;

/// Reads a body, whose size the listener bounds; `example` shows what it should be.
///
/// # Errors
/// It is too large, or not what was expected.
pub fn read<T: DeserializeOwned>(body: Result<Bytes, BytesRejection>, example: &str) -> Result<T, Problem> {
    let body = body.map_err(|e| Problem::new(ProblemKind::TooLarge, e.body_text()))?;
    serde_json::from_slice(&body)
        .map_err(|e| Problem::new(ProblemKind::Malformed, format!("the body is not {example}: {e}")))
}
