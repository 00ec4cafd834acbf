//! Listings of a store: its streams, and numbered objects in a folder.
//!
//! Not here: where things lie ([`crate::layout`]). Invariant: what is not named as the layout says is not
//! listed, and never followed.

use crate::error::StoreError;
use crate::layout;
use futures::TryStreamExt;
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
    let mut streams = Vec::new();
    for tenant in tenants.common_prefixes {
        let kinds = objects.list_with_delimiter(Some(&tenant)).await.map_err(StoreError::objects(&tenant))?;
        streams.extend(kinds.common_prefixes.iter().filter_map(layout::stream_of));
    }
    streams.sort();
    Ok(streams)
}
