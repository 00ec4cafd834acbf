//! What tenants are told, in their own `access` streams, of changes that concern them.
//!
//! Not here: when it is appended ([`super::book`]). Invariant: no tenant is told which others a change also names.

use super::book::Made;
use super::change::Change;
use super::entry::{Author, Entry};
use super::names::{FactId, PrincipalId};
use super::{PLATFORM, Registry};
use ledger::draft::Invalid;
use ledger::name::{StreamKind, TenantId};

/// The entry that tells a tenant, in its own `access` stream, of a change that concerns it.
pub(super) fn told_to(
    tenant: &TenantId,
    made: &Made,
    request: &FactId,
    author: &Author,
    now: i64,
) -> Result<ledger::Draft, Invalid> {
    let mut attributes = serde_json::to_value(&made.change).unwrap_or_default();
    if let Some(members) = attributes.as_object_mut() {
        // What other tenants the change also names is not this one's to know.
        if members.contains_key("tenants") {
            members.insert("tenants".into(), serde_json::json!([tenant.as_str()]));
        }
        members.insert("control_seq".into(), made.seq.into());
    }
    let resource = made.change.subject();
    let elevation = (resource.0 == "elevation").then(|| resource.1.clone());
    Entry {
        tenant,
        stream: StreamKind::Access,
        id: format!("{request}-{}", made.seq),
        action: made.change.name(),
        outcome: "success",
        author,
        resource,
        elevation,
        attributes: attributes.to_string(),
        now,
    }
    .draft()
}

impl Registry {
    /// The tenants that a change concerns, which their own `access` streams are told of. The platform is told by the
    /// `control` stream itself.
    pub(super) fn concerned(&self, change: &Change) -> Vec<TenantId> {
        let of_principal =
            |principal: &PrincipalId| self.principal(principal).and_then(|found| found.fact.home.clone()).into_iter();
        let mut concerned: Vec<TenantId> = match change {
            Change::CreateTenant(fact) | Change::UpdateTenant(fact) => vec![fact.tenant.clone()],
            Change::SuspendTenant(act) | Change::ResumeTenant(act) => vec![act.tenant.clone()],
            Change::CreatePrincipal(fact) => fact.home.clone().into_iter().collect(),
            Change::SuspendPrincipal(act) | Change::ResumePrincipal(act) => of_principal(&act.principal).collect(),
            Change::CreateCredential(fact) => of_principal(&fact.principal).collect(),
            Change::BindIdentity(fact) | Change::UnbindIdentity(fact) => of_principal(&fact.principal).collect(),
            Change::RevokeCredential(act) => {
                let whose = self.credential(&act.id).map(|found| found.fact.principal.clone());
                whose.iter().flat_map(of_principal).collect()
            }
            Change::CreateGrant(fact) => fact.tenants.clone(),
            Change::RevokeGrant(act) => self.grant(&act.id).map(|found| found.fact.tenants.clone()).unwrap_or_default(),
            Change::AskElevation(fact) | Change::BreakGlass(fact) => fact.tenants.clone(),
            Change::ApproveElevation(act)
            | Change::RefuseElevation(act)
            | Change::RevokeElevation(act)
            | Change::ExpireElevation(act)
            | Change::ReviewElevation(act) => {
                self.elevation(&act.id).map(|found| found.fact.tenants.clone()).unwrap_or_default()
            }
            Change::SetQuota(fact) => fact.tenant.clone().into_iter().collect(),
            Change::Begin { .. } | Change::Secret { .. } | Change::SetPolicies { .. } => vec![],
        };
        concerned.retain(|tenant| tenant.as_str() != PLATFORM);
        concerned.dedup();
        concerned
    }
}
