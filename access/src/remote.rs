//! Answers of other servers, read no further than they may be long.
//!
//! Invariant: what is said of a failure names no address, which may hold a secret.

use reqwest::{Error, Response};

/// What is said of a request that failed.
pub(crate) fn told(error: Error) -> String {
    error.without_url().to_string()
}

/// The body of an answer.
///
/// # Errors
/// It breaks off, or is longer than `most` bytes.
pub(crate) async fn body(mut answer: Response, most: usize) -> Result<Vec<u8>, String> {
    let mut bytes = Vec::new();
    while let Some(piece) = answer.chunk().await.map_err(told)? {
        if bytes.len() + piece.len() > most {
            return Err(format!("its answer is longer than {most} bytes"));
        }
        bytes.extend_from_slice(&piece);
    }
    Ok(bytes)
}
