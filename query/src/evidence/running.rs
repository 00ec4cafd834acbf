//! The bundles that this process makes now, or could not make.
//!
//! Not here: making one ([`super::making`]). Invariant: of one bundle at most one task is at work.

use super::making::Going;
use access::Problem;
use ledger::TenantId;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

/// Bundles that are made at the same time.
const MADE_AT_ONCE: usize = 2;

/// The bundles that are being made, by tenant and id.
#[derive(Debug)]
pub(crate) struct Running {
    now: Mutex<HashMap<(TenantId, String), Made>>,
    turns: Arc<Semaphore>,
}

impl Default for Running {
    fn default() -> Self {
        Self { now: Mutex::default(), turns: Arc::new(Semaphore::new(MADE_AT_ONCE)) }
    }
}

/// One that is being made, or that could not be.
#[derive(Debug, Clone)]
pub(super) enum Made {
    Going(Arc<Going>),
    Failed(Problem),
}

impl Running {
    /// What is known of one.
    pub(super) fn of(&self, tenant: &TenantId, id: &str) -> Option<Made> {
        self.lock().get(&(tenant.clone(), id.to_string())).cloned()
    }

    /// Says what became of one: nothing, when it is made or was cancelled.
    pub(super) fn end(&self, key: (TenantId, String), outcome: Result<(), Problem>) {
        let mut now = self.lock();
        let was_cancelled = !now.contains_key(&key);
        match outcome {
            Err(problem) if !was_cancelled => {
                tracing::warn!(tenant = %key.0, bundle = key.1, why = %problem.detail(), "a bundle could not be made");
                now.insert(key, Made::Failed(problem));
            }
            _ => drop(now.remove(&key)),
        }
    }

    /// Notes that one is being made; false when it is already.
    pub(super) fn begin(&self, key: &(TenantId, String), going: &Arc<Going>) -> bool {
        let mut now = self.lock();
        let is_new = !now.contains_key(key);
        if is_new {
            now.insert(key.clone(), Made::Going(Arc::clone(going)));
        }
        is_new
    }

    /// Knows nothing of one any more.
    pub(super) fn forget(&self, key: &(TenantId, String)) {
        self.lock().remove(key);
    }

    /// Waits until one more may be made; none when the process ends.
    pub(super) async fn turn(&self) -> Option<OwnedSemaphorePermit> {
        Arc::clone(&self.turns).acquire_owned().await.ok()
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<(TenantId, String), Made>> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
