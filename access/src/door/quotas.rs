//! Quotas as the door holds them: what is taken out of them, and when.
//!
//! Not here: how they are counted ([`crate::fairness`]), who sets them (`registry`).

use super::Door;
use crate::caller::Caller;
use crate::fairness::{Asking, Over};
use crate::policy::Action;
use crate::problem::Problem;
use ledger::name::{StreamKind, TenantId};

/// When to come again for who stores all that it may: retention may have made room by then.
const STORED_AGAIN: u32 = 3_600;

impl Door {
    /// Whether the tenant's quota lets a question look at its segments now. The platform's own people look all the same,
    /// and so does everybody at who looked.
    pub(super) fn may_scan(
        &self,
        caller: &Caller,
        action: Action,
        tenant: &TenantId,
        of: StreamKind,
    ) -> Result<(), Problem> {
        let is_free = caller.home().is_none() || matches!(of, StreamKind::Access | StreamKind::Control);
        if is_free || action != Action::ReadEvents {
            return Ok(());
        }
        let quota = self.0.book.read().quota(tenant);
        self.0.fairness.may_scan(&quota, tenant, self.now()).map_err(|over| over.problem(tenant))
    }

    /// Takes what a request of a tenant's own looked at out of the quotas of those that it looked at. When it is over, and
    /// once.
    pub(crate) fn pay(&self, caller: &Caller) {
        if caller.home().is_none() {
            return;
        }
        for (tenant, bytes) in caller.visit().scanned() {
            let quota = self.0.book.read().quota(&tenant);
            self.0.fairness.scanned(&quota, &tenant, bytes, self.now());
        }
    }

    /// Begins a question about a tenant; it counts against the tenant's quota until it is dropped.
    ///
    /// # Errors
    /// [`ProblemKind::TooManyRequests`], with the bound that was reached.
    pub fn ask_about(&self, tenant: &TenantId) -> Result<Asking, Problem> {
        let quota = self.0.book.read().quota(tenant);
        self.0.fairness.ask(&quota, tenant).map_err(|over| over.problem(tenant))
    }

    pub(super) fn take(&self, tenant: &TenantId, (events, bytes): (u64, u64)) -> Result<(), Over> {
        let quota = self.0.book.read().quota(tenant);
        if let Some(most) = quota.stored_bytes
            && self.stored(tenant).is_some_and(|(_, stored)| stored >= most)
        {
            return Err(Over { limit: "stored_bytes", value: most, retry_after: STORED_AGAIN });
        }
        if quota.events_per_second.is_none() && quota.bytes_per_second.is_none() {
            return Ok(());
        }
        self.0.fairness.take(&quota, tenant, events, bytes, self.now())
    }
}
