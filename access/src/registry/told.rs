//! What tenants are told, in their own `access` streams, of changes that concern them.
//!
//! Not here: when it is appended ([`super::book`]). Invariant: no tenant is told which others a change also names.

use super::change::{Change, FactAct, RedactionApproval};
use super::entry::{Author, Entry};
use super::names::{FactId, PrincipalId};
use super::{PLATFORM, Registry};
use ledger::draft::{Draft, Invalid};
use ledger::field::{Field, Fields};
use ledger::name::{StreamKind, TenantId};
/// What an author of a change can be.
const ACTOR_TYPES: [&str; 4] = ["user", "service", "system", "anonymous"];

/// The entry that tells a tenant, in its own `access` stream, of a change that concerns it.
pub(super) fn told_to(
    tenant: &TenantId,
    seq: u64,
    change: &Change,
    request: &FactId,
    author: &Author,
    now: i64,
) -> Result<ledger::Draft, Invalid> {
    let mut attributes = serde_json::to_value(change).unwrap_or_default();
    if let Some(members) = attributes.as_object_mut() {
        // What other tenants the change also names is not this one's to know.
        if members.contains_key("tenants") {
            members.insert("tenants".into(), serde_json::json!([tenant.as_str()]));
        }
        // Nor is a key, however well wrapped, what a stream is for.
        members.remove("wrapped");
        members.insert("control_seq".into(), seq.into());
    }
    let resource = change.subject();
    let elevation = (resource.0 == "elevation").then(|| resource.1.clone());
    Entry {
        tenant,
        stream: StreamKind::Access,
        id: format!("{request}-{seq}"),
        action: change.name(),
        outcome: "success",
        author,
        resource,
        elevation,
        attributes: attributes.to_string(),
        now,
    }
    .draft()
}

/// Request, author and time of a change's entry.
pub(super) fn written(draft: &Draft) -> Option<(FactId, Author, i64)> {
    let request = draft.event_id().rsplit_once('-')?.0.parse().ok()?;
    let (mut principal, mut kind, mut credential, mut source_ip, mut at) = ("", "", "", "", None);
    for step in Fields::of(draft) {
        let step = step.ok()?;
        match step.field {
            Field::ActorId => principal = step.text(),
            Field::ActorType => kind = step.text(),
            Field::Credential => credential = step.text(),
            Field::SourceIp => source_ip = step.text(),
            Field::OccurredAt => at = Some(step.int()),
            _ => {}
        }
    }
    let actor_type = ACTOR_TYPES.into_iter().find(|known| *known == kind)?;
    let (credential, source_ip) = (credential.to_string(), source_ip.to_string());
    Some((request, Author { principal: principal.parse().ok()?, actor_type, credential, source_ip }, at?))
}

impl Registry {
    /// The tenants that a change concerns, which their own `access` streams are told of. The platform is told by the
    /// `control` stream itself.
    pub(super) fn concerned(&self, change: &Change) -> Vec<TenantId> {
        let mut concerned = self.named_by(change);
        concerned.retain(|tenant| tenant.as_str() != PLATFORM);
        concerned.dedup();
        concerned
    }

    fn named_by(&self, change: &Change) -> Vec<TenantId> {
        let of_principal =
            |principal: &PrincipalId| self.principal(principal).and_then(|found| found.fact.home.clone()).into_iter();
        match change {
            Change::CreateTenant(fact) | Change::UpdateTenant(fact) => vec![fact.tenant.clone()],
            Change::SuspendTenant(act)
            | Change::ResumeTenant(act)
            | Change::DisableKey(act)
            | Change::EnableKey(act)
            | Change::DestroyKey(act)
            | Change::EraseKey(act) => vec![act.tenant.clone()],
            Change::CreateKey(fact) | Change::RotateKey(fact) => vec![fact.tenant.clone()],
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
            Change::SetResidency(fact) => vec![fact.tenant.clone()],
            _ if change.is_of_retention() => self.concerned_by_retention(change),
            Change::SetReviewRules(fact) => fact.tenant.clone().into_iter().collect(),
            Change::OpenReview(fact) => fact.tenant.clone().into_iter().collect(),
            // What a review is about may be many tenants' access: who it is of is told that it goes on and how it ended,
            // and each of what is taken from somebody there.
            Change::RemindReview(_) | Change::EscalateReview(_) | Change::CloseReview(_) => {
                let home = change.review().and_then(|id| self.review(id)).and_then(|found| found.fact.tenant.clone());
                home.into_iter().collect()
            }
            Change::SetQuota(fact) => fact.tenant.clone().into_iter().collect(),
            // What a job found is the operator's to mend first, and names objects of the store. Whom an incident concerns is
            // told by people, when it is known.
            _ => vec![],
        }
    }

    fn concerned_by_retention(&self, change: &Change) -> Vec<TenantId> {
        match change {
            Change::SetRetention(fact) => fact.tenant.clone().into_iter().collect(),
            Change::EndRetention(act) => {
                self.retention.get(&act.policy).and_then(|found| found.fact.tenant.clone()).into_iter().collect()
            }
            Change::SetHold(fact) => vec![fact.tenant.clone()],
            Change::ReleaseHold(act) => {
                self.holds.get(&act.id).map(|hold| hold.fact.tenant.clone()).into_iter().collect()
            }
            Change::CertifyPurge(fact) => vec![fact.tenant.clone()],
            Change::AskRedaction(fact) => vec![fact.tenant.clone()],
            Change::ApproveRedaction(RedactionApproval { redaction: id, .. })
            | Change::RefuseRedaction(FactAct { id, .. }) => {
                self.redaction(id).map(|found| found.fact.tenant.clone()).into_iter().collect()
            }
            // Its certificate tells of a run.
            _ => vec![],
        }
    }
}
