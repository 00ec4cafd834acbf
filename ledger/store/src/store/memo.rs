//! What jobs of the service keep in a store for their next run, and the check that reads a store from its objects.
//!
//! A memo is named by the SHA-256 of its bytes, and is worth believing because an entry of the registry names that hash.
//! Not here: what a memo says. Invariant: what is given back is what was kept. If we crash between keeping one and the entry
//! that names it, the one before is still there.

use super::Store;
use crate::error::StoreError;
use crate::fsck::Fsck;
use crate::layout;
use crate::segment;
use bytes::Bytes;
use futures::TryStreamExt;
use ledger::tree::Hash;
use object_store::{ObjectStore, ObjectStoreExt};

impl Store {
    /// A check of this store, which reads its objects and believes nothing that is in memory.
    pub fn fsck(&self) -> Fsck {
        let shared = self.shared();
        let (objects, ledger) = (std::sync::Arc::clone(&shared.objects), shared.ledger.clone());
        let content = self.shared().content.keys.clone();
        Fsck { objects, ledger, keys: self.verifiers(), content, kept: vec![], durable: vec![] }
    }

    /// Keeps a memo, and answers by which hash it is found.
    ///
    /// # Errors
    /// The object store failed.
    pub async fn keep_memo(&self, bytes: Vec<u8>) -> Result<Hash, StoreError> {
        let sha256 = Hash::of(&bytes);
        let path = layout::memo(&sha256);
        self.shared().objects.put(&path, bytes.into()).await.map_err(StoreError::objects(&path))?;
        Ok(sha256)
    }

    /// A memo; none when it is not there, or is not what was kept.
    ///
    /// # Errors
    /// The object store failed.
    pub async fn memo(&self, sha256: &Hash) -> Result<Option<Bytes>, StoreError> {
        let found = segment::fetch_if_there(&self.shared().objects, &layout::memo(sha256)).await?;
        Ok(found.filter(|bytes| Hash::of(bytes) == *sha256))
    }

    /// Deletes all memos but these.
    ///
    /// # Errors
    /// The object store failed; what stays is deleted the next time.
    pub async fn forget_memos(&self, but: &[Hash]) -> Result<(), StoreError> {
        let (shared, folder) = (self.shared(), layout::memos());
        let listed = shared.objects.list(Some(&folder)).map_ok(|meta| meta.location);
        let all: Vec<_> = listed.try_collect().await.map_err(StoreError::objects(&folder))?;
        let is_over =
            |path: &object_store::path::Path| layout::memo_hash(path).is_some_and(|hash| !but.contains(&hash));
        crate::upkeep::delete(shared, all.into_iter().filter(is_over).collect()).await
    }
}
