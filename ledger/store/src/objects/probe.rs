//! Whether a store can keep a ledger: asked at each start, before anything else is written there.
//!
//! Everything rests on create-if-absent: a commit's number is taken once. Some servers ignore the condition and
//! overwrite without a word, so a store is asked by doing it twice. Not here: what else a store must do (the
//! conformance suite).
//!
//! Invariant: what the probe creates lies where no check of a store looks, and is deleted again.

use super::location::Location;
use crate::ambient::Ambient;
use crate::error::StoreError;
use crate::layout;
use futures::TryStreamExt;
use object_store::path::Path;
use object_store::{Error, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload};
use std::sync::Arc;

/// Probes of a stopped process older than this are cleared away; younger ones may be somebody's.
const LEFT_BEHIND_MICROS: i64 = 86_400_000_000;

/// Asks a store for what a writer needs of it: create-if-absent, read after write, list after write.
///
/// # Errors
/// [`StoreError::Unfit`] when the store does not do one of these; [`StoreError::Objects`] when it does not answer.
pub async fn probe(
    objects: &Arc<dyn ObjectStore>,
    location: &Location,
    ambient: &dyn Ambient,
) -> Result<(), StoreError> {
    let mut id = [0; 16];
    ambient.fill_random(&mut id);
    let path = layout::probe(&id);
    let found = ask(objects, &path).await;
    // Died before it: a small object that the next start a day later clears away.
    clear(objects, &path, ambient.now_micros()).await;
    match found {
        Ok(None) => Ok(()),
        Ok(Some(why)) => Err(StoreError::Unfit { store: location.to_string(), why }),
        Err(error) => Err(StoreError::objects(&path)(error)),
    }
}

/// Whether a store holds anything but probes.
///
/// # Errors
/// [`StoreError::Objects`] when it cannot be listed.
pub async fn holds_anything(objects: &Arc<dyn ObjectStore>) -> Result<bool, StoreError> {
    let top = objects.list_with_delimiter(None).await.map_err(StoreError::objects(&Path::default()))?;
    Ok(!top.objects.is_empty() || top.common_prefixes.iter().any(|folder| *folder != layout::probes()))
}

/// What the store does not do.
async fn ask(objects: &Arc<dyn ObjectStore>, path: &Path) -> object_store::Result<Option<&'static str>> {
    let create = |text: &'static str| {
        objects.put_opts(path, PutPayload::from_static(text.as_bytes()), PutOptions::from(PutMode::Create))
    };
    create("first\n").await?;
    match create("second\n").await {
        Err(Error::AlreadyExists { .. }) => {}
        Ok(_) => return Ok(Some("it does not honour create-if-absent: it replaced an object that was there")),
        Err(Error::NotImplemented { .. } | Error::NotSupported { .. }) => {
            return Ok(Some("it does not offer create-if-absent"));
        }
        Err(error) => return Err(error),
    }
    let read = async { objects.get(path).await?.bytes().await };
    match read.await {
        Ok(bytes) if bytes == "first\n" => {}
        Ok(_) => return Ok(Some("it does not honour create-if-absent: it refused a second object and kept its bytes")),
        Err(Error::NotFound { .. }) => return Ok(Some("it does not show an object that was just put")),
        Err(error) => return Err(error),
    }
    let listed: Vec<_> = objects.list(Some(&layout::probes())).try_collect().await?;
    let is_listed = listed.iter().any(|meta| meta.location == *path);
    Ok((!is_listed).then_some("it does not list an object that was just put"))
}

/// Deletes the probe and what stopped ones left. That it may not delete does not keep a writer from its work.
async fn clear(objects: &Arc<dyn ObjectStore>, own: &Path, now: i64) {
    let listed: Vec<_> = objects.list(Some(&layout::probes())).try_collect().await.unwrap_or_default();
    let is_old = |micros: i64| now.saturating_sub(micros) > LEFT_BEHIND_MICROS;
    let old = listed.into_iter().filter(|meta| is_old(meta.last_modified.timestamp_micros()));
    let others = old.map(|meta| meta.location).filter(|path| path != own);
    for path in std::iter::once(own.clone()).chain(others) {
        match objects.delete(&path).await {
            Ok(()) | Err(Error::NotFound { .. }) => {}
            Err(error) => {
                let error = &error as &dyn std::error::Error;
                tracing::warn!(%path, error, "a probe of the store stays; it may be deleted by hand");
            }
        }
    }
}
