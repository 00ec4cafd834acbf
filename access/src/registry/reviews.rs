//! Access reviews as the registry knows them: their rules.
//!
//! Not here: who has access to what, and what is wrong with it (`query::review`).

use super::change::{ReviewRules, RulesFact};
use super::check::{Checked, reason, wrong};
use super::{Registry, Stamp};
use ledger::name::TenantId;

impl Registry {
    /// The rules that a tenant's access is reviewed by: its own, or those of the nearest tenant above that has some.
    pub fn review_rules(&self, tenant: &TenantId) -> Option<&(ReviewRules, Stamp)> {
        self.line(tenant).find_map(|one| self.review_rules.get(one))
    }

    pub(super) fn check_rules(&self, fact: &RulesFact) -> Checked {
        reason(&fact.reason)?;
        fact.tenant.as_ref().map_or(Ok(()), |tenant| self.need_tenant(tenant))?;
        fact.rules.check().map_err(wrong)
    }
}
