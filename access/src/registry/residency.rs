//! Residency as the registry enforces it: where tenants may live.
//!
//! Not here: where objects and events were found to be (`query::residency`).
//! Invariant: no tenant lives in a store whose region its policy does not allow, or whose region is not known.

use super::change::ResidencyFact;
use super::check::{Checked, reason, require, text, wrong};
use super::{Registry, Stamp};
use ledger::name::TenantId;

/// Names in one policy, of all rules together.
const MOST_NAMES: usize = 1_000;

impl Registry {
    /// The policy that a tenant's data is under: its own, or that of the nearest tenant above that has one.
    pub fn residency(&self, tenant: &TenantId) -> Option<&(ResidencyFact, Stamp)> {
        self.line(tenant).find_map(|one| self.residency.get(one))
    }

    /// The region of a store, if the settings say it.
    pub fn region_of(&self, store: &TenantId) -> Option<&str> {
        self.stores.get(store).and_then(|fact| fact.region.as_deref())
    }

    /// Whether a tenant under a policy may live in a store.
    pub(super) fn check_region(&self, tenant: &TenantId, policy: &ResidencyFact, store: &TenantId) -> Checked {
        let allowed = policy.regions.join(", ");
        let region = self.region_of(store).ok_or_else(|| {
            wrong(format!("{tenant} must stay in {allowed}, and the settings do not say where the store {store} lies"))
        })?;
        require(policy.allows_all(region), || {
            wrong(format!("{tenant} must stay in {allowed}, and the store {store} lies in {region}"))
        })
    }

    pub(super) fn check_residency(&self, fact: &ResidencyFact) -> Checked {
        reason(&fact.reason)?;
        self.need_tenant(&fact.tenant)?;
        let rules = fact.rules.iter().flat_map(|rule| rule.classes.iter().chain(&rule.regions));
        let names: Vec<&String> = fact.regions.iter().chain(rules).collect();
        let fits = names.len() <= MOST_NAMES;
        require(fits, || wrong(format!("a policy names at most {MOST_NAMES} regions and classes")))?;
        names.iter().try_for_each(|name| text("a name", name))?;
        let has_regions = !fact.regions.is_empty() && fact.rules.iter().all(|rule| !rule.regions.is_empty());
        require(has_regions, || wrong("regions must name at least one, in each rule too"))?;
        // Whoever is under it from now on lives where it allows already.
        let is_under = |tenant: &&TenantId| {
            self.line(tenant).find(|one| **one == fact.tenant || self.residency.contains_key(*one))
                == Some(&fact.tenant)
        };
        self.tenants.keys().filter(is_under).try_for_each(|one| self.check_region(one, fact, self.placement(one)))
    }

    /// The first tenant that lives where its policy does not allow, with why.
    pub(super) fn misplaced(&self) -> Option<String> {
        let check = |tenant: &TenantId| {
            let (policy, _) = self.residency(tenant)?;
            self.check_region(tenant, policy, self.placement(tenant)).err()
        };
        if self.residency.is_empty() { None } else { self.tenants.keys().find_map(check).map(|refusal| refusal.why) }
    }
}
