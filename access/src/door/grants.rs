//! The registry as it is, or as it was, for who may read grants.
//!
//! Not here: what of it is an entitlement (`query::review`). Invariant: it says of which tenants the caller may read
//! grants, and each of those is noted in the caller's visit.

use super::Door;
use crate::caller::Caller;
use crate::policy::Action;
use crate::problem::{Problem, ProblemKind};
use crate::registry::{Registry, platform};
use ledger::name::{StreamKind, TenantId};
use ledger::tree::Hash;
use std::collections::BTreeSet;
use std::sync::Arc;

/// The registry as of some entry.
pub struct RegistrySeen {
    /// The fold. Whoever uses it shows of it what `readable` allows.
    pub registry: Arc<Registry>,
    /// How many entries of the `control` stream it is the fold of.
    pub size: u64,
    /// The root over them.
    pub root: Hash,
    /// Of which tenants, and of those above them, the caller may read grants.
    pub readable: BTreeSet<TenantId>,
}

impl Door {
    /// The registry as it was at a moment, of so many entries with that root; now and whole, when left out.
    ///
    /// # Errors
    /// The stream never had that root, or cannot be read.
    pub async fn registry_seen(
        &self,
        caller: &Caller,
        tenants: &BTreeSet<TenantId>,
        at: Option<i64>,
        size: Option<(u64, Option<Hash>)>,
    ) -> Result<RegistrySeen, Problem> {
        let (registry, of) = match (at, size) {
            (None, None) => {
                let registry = Arc::new(self.0.book.read().clone());
                let size = registry.size();
                (registry, size)
            }
            (at, size) => {
                let _place = self.0.folds.acquire().await.ok();
                let now = self.0.book.read().size();
                let size = size.map_or(now, |(size, _)| size.min(now));
                (Arc::new(self.0.book.as_of(at.unwrap_or(i64::MAX), Some(size)).await?), size)
            }
        };
        let control = self.0.book.main().reader(&platform(), StreamKind::Control)?;
        let root = control.consistency(of, None).await?.from_root;
        if size.is_some_and(|(_, given)| given.is_some_and(|given| given != root)) {
            let why = format!("platform/control of {of} entries has another root than the one in heads");
            return Err(Problem::new(ProblemKind::Conflict, why));
        }
        let mut readable = BTreeSet::new();
        let lines: BTreeSet<&TenantId> = tenants.iter().flat_map(|tenant| registry.line(tenant)).collect();
        for tenant in lines {
            if let Some(sight) = self.decide(caller, Action::ReadGrants, tenant, StreamKind::Control) {
                readable.insert(tenant.clone());
                if tenants.contains(tenant) {
                    self.touch(caller, Action::ReadGrants, tenant, StreamKind::Control, &sight, (0, 0));
                }
            }
        }
        Ok(RegistrySeen { registry, size: of, root, readable })
    }
}
