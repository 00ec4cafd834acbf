//! What is asked of a store's upkeep: to do now what it does by and by, and to take content away for good.
//!
//! Not here: doing it ([`crate::upkeep`], [`crate::erase`]). Invariant: whoever asks is answered when it is done.

use super::{Store, StreamKey};
use crate::erase::{EraseDone, EraseOrder};
use crate::error::StoreError;
use crate::turn;
use crate::upkeep::UpkeepJob;
use ledger::name::{StreamKind, TenantId};
use std::sync::atomic::Ordering;
use tokio::sync::oneshot;

impl Store {
    /// Takes entries, or sections of them, away for good, order by order, and answers what became of each, in their order. Orders of one stream
    /// are to be given one after the other. An order that was carried out before is answered with what it came to.
    ///
    /// # Errors
    /// The store is closing. That a single order failed is in its answer.
    pub async fn erase(
        &self,
        orders: Vec<EraseOrder>,
    ) -> Result<Vec<Result<Option<EraseDone>, StoreError>>, StoreError> {
        let (done, erased) = oneshot::channel();
        self.upkeep.send(UpkeepJob::Erase(orders, done)).map_err(|_| StoreError::Stopping)?;
        erased.await.map_err(|_| StoreError::Stopping)
    }

    /// Finds out what became of erasures whose commit was tried and not confirmed.
    ///
    /// # Errors
    /// The object store does not answer: one of them may still come to stand.
    pub async fn settle_erasures(&self) -> Result<(), StoreError> {
        let shared = self.shared();
        if shared.unsettled_erasures.load(Ordering::Acquire) == 0 {
            return Ok(());
        }
        for stream in self.all_streams() {
            let mut turn = stream.turn.lock().await;
            turn::settle(shared, &stream, &mut turn).await?;
        }
        Ok(())
    }

    /// Whether files whose content went wait to be deleted.
    pub async fn has_erased_files(&self, tenant: &TenantId, kind: StreamKind) -> bool {
        match self.shared().stream(&StreamKey::new(tenant.clone(), kind)) {
            Some(stream) => stream.turn.lock().await.removed.iter().any(|one| one.is_erased),
            None => false,
        }
    }

    /// How long files stay after an erasure took them out of their chain.
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
