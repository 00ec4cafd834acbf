//! What is asked of a store's upkeep: to do now what it does by and by, and to take entries away for good.
//!
//! Not here: doing it ([`crate::upkeep`], [`crate::purge`]). Invariant: whoever asks is answered when it is done.

use super::{Store, StreamKey};
use crate::error::StoreError;
use crate::purge::{PurgeOrder, Purged};
use crate::stream::Stream;
use crate::turn;
use crate::upkeep::UpkeepJob;
use ledger::name::{StreamKind, TenantId};
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
        let all: Vec<Arc<Stream>> =
            shared.streams.read().unwrap_or_else(PoisonError::into_inner).values().cloned().collect();
        for stream in all {
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
