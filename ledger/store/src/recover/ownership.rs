//! Who may extend a store: its format, key and owner are stated once, and each start takes an epoch.
//!
//! Not here: the records' texts ([`crate::log_head`]), the lock of the log's folder ([`crate::wal`]).
//!
//! Invariant: nothing of a store that belongs to another ledger, key or log is changed.

use crate::error::StoreError;
use crate::layout;
use crate::log_head;
use crate::objects::claim;
use crate::objects_of::list_numbers;
use crate::segment;
use crate::store::Shared;
use object_store::path::Path;
use object_store::{ObjectStore, PutMode, PutOptions};

/// States the store's format, key and owner when it is new; refuses it when they are others.
pub(super) async fn own(shared: &Shared, log_id: &str) -> Result<(), StoreError> {
    let origin = shared.log_origin.as_str();
    let (format, what) = (log_head::format_text(origin), "the store is of another format or ledger");
    state(shared, &layout::format(), &format, what).await.map_err(log_head::newer)?;
    let key = log_head::key_text(&shared.key.verifier(origin));
    let keys = list_numbers(&shared.objects, &layout::keys(), layout::key).await?;
    let newest = layout::key(keys.last().copied().unwrap_or(1));
    state(shared, &newest, &key, "the store is signed with another key").await?;
    let owners = list_numbers(&shared.objects, &layout::owners(), layout::owner).await?;
    let newest = layout::owner(owners.last().copied().unwrap_or(1));
    state(shared, &newest, &log_head::owner_text(log_id), "the store is extended by another write-ahead log").await
}

/// Creates a record, or finds that it says the same.
async fn state(shared: &Shared, path: &Path, text: &str, what: &'static str) -> Result<(), StoreError> {
    match shared.objects.put_opts(path, text.to_string().into(), PutOptions::from(PutMode::Create)).await {
        Ok(_) => Ok(()),
        Err(object_store::Error::AlreadyExists { .. }) => {
            let found = segment::fetch(&shared.objects, path).await?;
            if found == text.as_bytes() {
                return Ok(());
            }
            let found = String::from_utf8_lossy(&found).trim_end().replace('\n', ", ");
            Err(StoreError::Foreign { what, found, expected: text.trim_end().replace('\n', ", ") })
        }
        Err(source) => Err(StoreError::Objects { path: path.to_string(), source }),
    }
}

/// Takes the next writer epoch; creating its record is what makes it ours.
///
/// It is above `last`, the highest that commits and log name, also when records of epochs are gone: commits
/// with a lower one would not be believed.
pub(super) async fn next_epoch(shared: &Shared, last: u64) -> Result<u64, StoreError> {
    loop {
        let recorded = list_numbers(&shared.objects, &layout::epochs(), layout::epoch).await?;
        let last = recorded.into_iter().next_back().unwrap_or_default().max(last);
        let path = layout::epoch(last);
        let exhausted = || StoreError::Damaged { path: path.to_string(), why: "no epoch is left above this one" };
        let epoch = last.checked_add(1).ok_or_else(exhausted)?;
        let path = layout::epoch(epoch);
        let text = log_head::epoch_text(epoch);
        // Each writer would write the same bytes: a claim, so that no two believe it theirs.
        match shared.objects.put_opts(&path, text.into(), claim()).await {
            Ok(_) => return Ok(epoch),
            Err(object_store::Error::AlreadyExists { .. }) => {}
            Err(source) => return Err(StoreError::Objects { path: path.to_string(), source }),
        }
    }
}
