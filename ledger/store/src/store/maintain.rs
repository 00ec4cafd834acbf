//! What is asked of a store's upkeep: to do now what it does by and by, and to take entries away for good.
//!
//! Not here: doing it ([`crate::upkeep`], [`crate::purge`]). Invariant: whoever asks is answered when it is done.

use super::{AppendRequest, Store, StreamKey};
use crate::error::StoreError;
use crate::handle::AppendHandle;
use crate::keys::KeyName;
use crate::precheck;
use crate::purge::{PurgeOrder, Purged};
use crate::stream::Stream;
use crate::turn;
use crate::upkeep::UpkeepJob;
use ledger::name::{StreamKind, TenantId};
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use std::sync::{Arc, PoisonError};
use tokio::sync::oneshot;

impl Store {
    /// Takes entries away for good, order by order, and answers what became of each, in their order. Orders of one stream
    /// are to be given one after the other. An order that was carried out before is answered with what it came to.
    ///
    /// # Errors
    /// The store is closing. That a single order failed is in its answer.
    pub async fn purge(&self, orders: Vec<PurgeOrder>) -> Result<Vec<Result<Option<Purged>, StoreError>>, StoreError> {
        let (done, purged) = oneshot::channel();
        self.upkeep.send(UpkeepJob::Purge(orders, done)).map_err(|_| StoreError::Stopping)?;
        purged.await.map_err(|_| StoreError::Stopping)
    }

    /// Finds out what became of purges whose commit was tried and not confirmed.
    ///
    /// # Errors
    /// The object store does not answer: one of them may still come to stand.
    pub async fn settle_purges(&self) -> Result<(), StoreError> {
        let shared = self.shared();
        if shared.unsettled_purges.load(Ordering::Acquire) == 0 {
            return Ok(());
        }
        for stream in self.all_streams() {
            let mut turn = stream.turn.lock().await;
            turn::settle(shared, &stream, &mut turn).await?;
        }
        Ok(())
    }

    /// Whether files of purged entries wait to be deleted.
    pub async fn has_purged_files(&self, tenant: &TenantId, kind: StreamKind) -> bool {
        match self.shared().stream(&StreamKey::new(tenant.clone(), kind)) {
            Some(stream) => stream.turn.lock().await.removed.iter().any(|one| one.is_purged),
            None => false,
        }
    }

    /// Opens what could not be opened when the log was read: keys are at hand now. What still cannot be waits on.
    ///
    /// # Errors
    /// Bytes of the log are not what was written under their key; other streams were still opened.
    pub async fn unlock(&self) -> Result<(), StoreError> {
        let mut result = Ok(());
        for stream in self.all_streams() {
            let opened = match stream.unlock(&self.shared.content.keys) {
                Ok(()) => self.pay_break(&stream).await,
                locked => locked,
            };
            match opened {
                Ok(()) | Err(StoreError::Key(_)) => {}
                Err(error) => result = Err(error),
            }
        }
        result
    }

    /// Whether something can be appended to a stream, as far as its keys go.
    ///
    /// # Errors
    /// A key is not at hand; or what is sealed cannot be read.
    pub async fn can_write(&self, handle: &AppendHandle) -> Result<(), StoreError> {
        self.pay_break(&handle.stream).await?;
        precheck::warm(&self.shared, &handle.stream).await?;
        handle.stream.use_log_key(&self.shared)
    }

    /// Seals all that is durable of a tenant; from here on its entries are written to the log as its keys say now, and
    /// none is on its way there under another.
    ///
    /// # Errors
    /// A seal failed: what it was of is in the log still.
    pub async fn settle_tenant(&self, tenant: &TenantId) -> Result<(), StoreError> {
        let streams: Vec<Arc<Stream>> =
            self.all_streams().into_iter().filter(|stream| stream.tenant == *tenant).collect();
        for stream in &streams {
            stream.use_log_key(&self.shared)?;
        }
        // Answered after the group before it, whose entries may have the key of before.
        self.append(AppendRequest::default()).await?;
        self.seal(streams).await
    }

    /// Under which keys a tenant's segments are: by name (none is plain), segments, entries and bytes.
    ///
    /// # Errors
    /// A footer cannot be read.
    pub async fn key_use(&self, tenant: &TenantId) -> Result<BTreeMap<Option<KeyName>, (u64, u64, u64)>, StoreError> {
        let mut found: BTreeMap<Option<KeyName>, (u64, u64, u64)> = BTreeMap::new();
        for stream in self.all_streams().into_iter().filter(|stream| stream.tenant == *tenant) {
            precheck::warm(&self.shared, &stream).await?;
            for segment in &stream.view().sealed.segments {
                let (segments, entries, bytes) = found.entry(segment.statistics.key.clone()).or_default();
                *segments += 1;
                *entries += segment.reference.rows;
                *bytes += segment.reference.bytes;
            }
        }
        Ok(found)
    }

    pub(super) fn all_streams(&self) -> Vec<Arc<Stream>> {
        self.shared.streams.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect()
    }

    /// How long files stay after a purge took them out of their chain.
    pub fn undo_window(&self) -> std::time::Duration {
        self.shared.limits.purged_grace
    }

    /// Does now what upkeep does by and by: merges, packs, deletes what is due, and writes snapshots. Before handing
    /// a store over, and in tests.
    ///
    /// # Errors
    /// Upkeep of a stream failed; the others were still looked at.
    pub async fn upkeep(&self) -> Result<(), StoreError> {
        let (done, kept) = oneshot::channel();
        self.upkeep.send(UpkeepJob::Now(done)).map_err(|_| StoreError::Stopping)?;
        kept.await.map_err(|_| StoreError::Stopping)?
    }
}
