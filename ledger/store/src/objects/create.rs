//! Creating an object of any size, once.
//!
//! Small ones go in one put, create-if-absent. Large ones go in parts, for which not every store offers a condition:
//! so their names must be unique to who writes them, as names of segments are (epoch and commit), and then nobody
//! else's object can be in the way. Not here: retries of single operations ([`super::steady`]).
//!
//! Invariant: when this returns, the object is there, whole, with these bytes. An object with other bytes is never
//! replaced where the store can tell, and never called ours.

use crate::error::StoreError;
use bytes::Bytes;
use object_store::path::Path;
use object_store::{Error, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload};
use std::sync::Arc;

/// Objects above this size are put in parts of this size: 16 MiB are sent in a second or so, and 10,000 parts, the
/// most that S3 takes, make 160 GB.
const PART: usize = 16 << 20;
/// How many parts are under way together: with the object itself, memory stays below twice its size.
const PARTS_AT_ONCE: usize = 4;
/// How often an upload in parts is begun.
const UPLOADS: u32 = 3;

/// Creates an object that must not be there. That it is there with these very bytes is as good: an earlier try was
/// carried out and its confirmation lost.
///
/// The name of an object beyond 16 MiB must be unique to its writer; smaller ones are created atomically.
///
/// # Errors
/// [`StoreError::Objects`] with `AlreadyExists` when other bytes are there; otherwise the store failed and what became
/// of the object is unknown: to call this again with the same bytes finds out.
pub async fn create(objects: &Arc<dyn ObjectStore>, path: &Path, bytes: Bytes) -> Result<(), StoreError> {
    let put = if bytes.len() <= PART {
        let options = PutOptions::from(PutMode::Create);
        objects.put_opts(path, PutPayload::from_bytes(bytes.clone()), options).await.map(drop)
    } else {
        create_large(objects, path, &bytes).await
    };
    match put {
        Err(there @ Error::AlreadyExists { .. }) => match holds(objects, path, &bytes).await {
            Ok(true) => Ok(()),
            Ok(false) => Err(there),
            Err(error) => Err(error),
        },
        other => other,
    }
    .map_err(StoreError::objects(path))
}

async fn create_large(objects: &Arc<dyn ObjectStore>, path: &Path, bytes: &Bytes) -> object_store::Result<()> {
    let mut uploads = 0;
    loop {
        // An upload that was completed before its confirmation was lost is found here.
        match objects.head(path).await {
            Ok(_) => {
                let path = path.to_string();
                return Err(Error::AlreadyExists { path, source: "an object of this name is there".into() });
            }
            Err(Error::NotFound { .. }) => {}
            Err(error) => return Err(error),
        }
        uploads += 1;
        match upload(objects, path, bytes).await {
            Ok(()) => return Ok(()),
            Err(error @ Error::AlreadyExists { .. }) => return Err(error),
            Err(error) if uploads >= UPLOADS => return Err(error),
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(%path, error, "an upload in parts failed and begins anew");
            }
        }
    }
}

/// Uploads in parts. Died in between: parts that no listing shows, which the store's own rule for unfinished uploads
/// clears away.
async fn upload(objects: &Arc<dyn ObjectStore>, path: &Path, bytes: &Bytes) -> object_store::Result<()> {
    let mut upload = objects.put_multipart(path).await?;
    let parts = (0..bytes.len()).step_by(PART).map(|at| bytes.slice(at..bytes.len().min(at + PART)));
    let parts: Vec<_> = parts.map(|part| upload.put_part(PutPayload::from_bytes(part))).collect();
    let mut result = Ok(());
    let mut parts = parts.into_iter();
    while result.is_ok() && parts.len() > 0 {
        let some = parts.by_ref().take(PARTS_AT_ONCE);
        result = futures::future::try_join_all(some).await.map(drop);
    }
    drop(parts);
    match result {
        Ok(()) => upload.complete().await.map(drop),
        Err(error) => {
            // What is left of it is not listed; the error that counts is the first.
            let _ = upload.abort().await;
            Err(error)
        }
    }
}

/// Whether the object holds these bytes; reads it part by part.
async fn holds(objects: &Arc<dyn ObjectStore>, path: &Path, bytes: &Bytes) -> object_store::Result<bool> {
    if objects.head(path).await?.size != bytes.len() as u64 {
        return Ok(false);
    }
    for at in (0..bytes.len()).step_by(PART) {
        let part = bytes.slice(at..bytes.len().min(at + PART));
        if objects.get_range(path, at as u64..(at + part.len()) as u64).await? != part {
            return Ok(false);
        }
    }
    Ok(true)
}
