//! Listings of a store: its streams, and numbered objects in a folder; and objects that are created once.
//!
//! Not here: where things lie ([`crate::layout`]). Invariant: what is not named as the layout says is not
//! listed, and never followed.

use crate::error::StoreError;
use crate::layout;
use crate::limits::OPENINGS;
use futures::{StreamExt, TryStreamExt};
use ledger::name::{StreamKind, TenantId};
use object_store::ObjectStore;
use object_store::path::Path;
use std::sync::Arc;

/// The numbers of a folder's numbered objects, ascending: those that `name` gives just these paths.
///
/// # Errors
/// The listing failed.
pub(crate) async fn list_numbers(
    objects: &Arc<dyn ObjectStore>,
    folder: &Path,
    name: impl Fn(u64) -> Path,
) -> Result<Vec<u64>, StoreError> {
    let listed: Vec<_> = objects.list(Some(folder)).try_collect().await.map_err(StoreError::objects(folder))?;
    let numbered = |path: &Path| layout::number_of(path).filter(|number| name(*number) == *path);
    let mut numbers: Vec<u64> = listed.iter().filter_map(|meta| numbered(&meta.location)).collect();
    numbers.sort_unstable();
    Ok(numbers)
}

/// Every tenant's streams.
///
/// # Errors
/// A listing failed.
pub(crate) async fn list_streams(objects: &Arc<dyn ObjectStore>) -> Result<Vec<(TenantId, StreamKind)>, StoreError> {
    let root = Path::default();
    let tenants = objects.list_with_delimiter(None).await.map_err(StoreError::objects(&root))?;
    let kinds = |tenant: Path| async move {
        let listed = objects.list_with_delimiter(Some(&tenant)).await.map_err(StoreError::objects(&tenant))?;
        Ok::<_, StoreError>(listed.common_prefixes.iter().filter_map(layout::stream_of).collect::<Vec<_>>())
    };
    let kinds = futures::stream::iter(tenants.common_prefixes).map(kinds).buffer_unordered(OPENINGS);
    let mut streams: Vec<_> = kinds.try_concat().await?;
    streams.sort();
    Ok(streams)
}
