//! Changes as entries of a stream, and back.
//!
//! The action of an entry is the change's name and its `attributes` are the change. Not here: other entries of the
//! `control` stream, which say who looked and was refused ([`crate::record`]).

use super::change::Change;
use super::names::{FactId, PrincipalId};
use super::{PLATFORM, Stamp};
use ledger::draft::{Draft, DraftBuilder, Invalid};
use ledger::field::{Field, Fields};
use ledger::name::{StreamKind, TenantId};

/// Who writes an entry, and from where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Author {
    /// Who.
    pub principal: PrincipalId,
    /// `user`, `service` or `system`, as an event says it.
    pub actor_type: &'static str,
    /// With which credential.
    pub credential: String,
    /// From which address.
    pub source_ip: String,
}

impl Author {
    /// The service itself.
    pub fn system() -> Self {
        let principal = "piperoll".parse().expect("a plain name");
        Self { principal, actor_type: "system", credential: String::new(), source_ip: String::new() }
    }
}

/// A change could not be made an entry, or an entry not a change.
#[derive(Debug, thiserror::Error)]
pub enum EntryError {
    /// A field of the entry is not admissible.
    #[error("a change is no admissible entry")]
    Invalid(#[from] Invalid),
    /// The entry of a change does not read as one.
    #[error("entry {seq} of the control stream is a change that cannot be read: {why}")]
    Unreadable {
        /// Which.
        seq: u64,
        /// What is wrong with it.
        why: String,
    },
}

/// What every entry that Piperoll writes has in common.
#[derive(Debug, Clone)]
pub(crate) struct Entry<'e> {
    pub tenant: &'e TenantId,
    pub stream: StreamKind,
    pub id: String,
    pub action: &'e str,
    pub outcome: &'e str,
    pub author: &'e Author,
    pub resource: (&'e str, String),
    pub elevation: Option<String>,
    pub attributes: String,
    pub now: i64,
}

impl Entry<'_> {
    /// As a draft.
    pub(crate) fn draft(self) -> Result<Draft, Invalid> {
        let mut builder = DraftBuilder::default();
        for (field, text) in [
            (Field::Tenant, self.tenant.to_string()),
            (Field::Stream, self.stream.to_string()),
            (Field::EventId, self.id),
            (Field::Action, self.action.to_string()),
            (Field::Outcome, self.outcome.to_string()),
            (Field::ActorType, self.author.actor_type.to_string()),
            (Field::ActorId, self.author.principal.to_string()),
            (Field::Credential, self.author.credential.clone()),
            (Field::SourceIp, self.author.source_ip.clone()),
            (Field::ResourceType, self.resource.0.to_string()),
            (Field::ResourceId, self.resource.1),
            (Field::ElevationId, self.elevation.unwrap_or_default()),
            (Field::Service, "piperoll".into()),
            (Field::Attributes, self.attributes),
        ] {
            builder.text(field, text)?;
        }
        builder.int(Field::OccurredAt, self.now)?;
        builder.finish()
    }
}

impl Change {
    /// The change's name.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Begin { .. } => "ledger.begin",
            Self::CreateTenant(_) => "tenant.create",
            Self::UpdateTenant(_) => "tenant.update",
            Self::SuspendTenant(_) => "tenant.suspend",
            Self::ResumeTenant(_) => "tenant.resume",
            Self::CreatePrincipal(_) => "principal.create",
            Self::SuspendPrincipal(_) => "principal.suspend",
            Self::ResumePrincipal(_) => "principal.resume",
            Self::CreateCredential(_) => "credential.create",
            Self::Secret { .. } => "credential.secret",
            Self::BindIdentity(_) => "identity.bind",
            Self::UnbindIdentity(_) => "identity.unbind",
            Self::RevokeCredential(_) => "credential.revoke",
            Self::CreateGrant(_) => "grant.create",
            Self::RevokeGrant(_) => "grant.revoke",
            Self::AskElevation(_) => "elevation.ask",
            Self::ApproveElevation(_) => "elevation.approve",
            Self::RefuseElevation(_) => "elevation.refuse",
            Self::RevokeElevation(_) => "elevation.revoke",
            Self::ExpireElevation(_) => "elevation.expire",
            Self::BreakGlass(_) => "elevation.break_glass",
            Self::ReviewElevation(_) => "elevation.review",
            Self::SetPolicies { .. } => "policy.set",
            Self::SetStores { .. } => "store.set",
            Self::Snapshot { .. } => "registry.snapshot",
            Self::Told { .. } => "store.told",
            Self::UseCredentials { .. } => "credential.used",
            Self::OpenIncident(_) => "incident.open",
            Self::UpdateIncident(_) => "incident.update",
            Self::TriageIncident(_) => "incident.triage",
            Self::AwareOfIncident(_) => "incident.aware",
            Self::NotifyIncident(_) => "incident.notify",
            Self::CloseIncident(_) => "incident.close",
            Self::SetResidency(_) => "residency.set",
            Self::SetRetention(_) => "retention.set",
            Self::EndRetention(_) => "retention.end",
            Self::SetHold(_) => "hold.set",
            Self::ReleaseHold(_) => "hold.release",
            Self::BeginPurge(_) => "purge.begin",
            Self::CertifyPurge(_) => "purge.certify",
            Self::EndPurge(_) => "purge.end",
            Self::ErasePurge(_) => "purge.erase",
            Self::CreateKey(_) => "key.create",
            Self::RotateKey(_) => "key.rotate",
            Self::DisableKey(_) => "key.disable",
            Self::EnableKey(_) => "key.enable",
            Self::DestroyKey(_) => "key.destroy",
            Self::EraseKey(_) => "key.erase",
            Self::RotateLedgerKey(_) | Self::RetireLedgerKeys(_) | Self::LedgerKeySigns(_) => self.ledger_key_name(),
            Self::AskRedaction(_) => "redaction.ask",
            Self::ApproveRedaction(_) => "redaction.approve",
            Self::RefuseRedaction(_) => "redaction.refuse",
            Self::SetJobs { .. } => "job.schedule",
            Self::BeginJob(_) => "job.begin",
            Self::RenewJob(_) => "job.renew",
            Self::FindByJob(_) => "job.find",
            Self::EndJob(_) => "job.end",
            Self::SetReviewRules(_) => "review.rules",
            Self::OpenReview(_) => "review.open",
            Self::AddReviewItems(_) => "review.items",
            Self::DecideReview(_) => "review.decide",
            Self::RemindReview(_) => "review.remind",
            Self::EscalateReview(_) => "review.escalate",
            Self::ConfirmReview(_) => "review.confirm",
            Self::CloseReview(_) => "review.close",
            Self::SetQuota(_) => "quota.set",
        }
    }

    /// Whether it says what is kept.
    pub(crate) fn decides_retention(&self) -> bool {
        let is_of_it =
            matches!(self, Self::SetRetention(_) | Self::EndRetention(_) | Self::SetHold(_) | Self::ReleaseHold(_));
        // Policies may be about a tier.
        is_of_it || matches!(self, Self::UpdateTenant(_) | Self::DestroyKey(_))
    }

    /// Whether it is about jobs of the service.
    pub(crate) fn is_of_job(&self) -> bool {
        matches!(
            self,
            Self::SetJobs { .. } | Self::BeginJob(_) | Self::RenewJob(_) | Self::FindByJob(_) | Self::EndJob(_)
        )
    }

    /// Whether it is about what is kept and what goes.
    pub(crate) fn is_of_retention(&self) -> bool {
        let is_of_purges = matches!(
            self,
            Self::SetRetention(_)
                | Self::EndRetention(_)
                | Self::SetHold(_)
                | Self::ReleaseHold(_)
                | Self::BeginPurge(_)
                | Self::CertifyPurge(_)
                | Self::EndPurge(_)
                | Self::ErasePurge(_)
        );
        is_of_purges || self.is_of_redaction()
    }

    /// Whether it is about what a data subject asked to have erased.
    pub(crate) fn is_of_redaction(&self) -> bool {
        matches!(self, Self::AskRedaction(_) | Self::ApproveRedaction(_) | Self::RefuseRedaction(_))
    }

    /// The credential that it makes.
    pub(crate) fn credential(&self) -> Option<FactId> {
        match self {
            Self::CreateCredential(fact) => fact.credential.clone(),
            _ => None,
        }
    }

    /// The tenants that it lists.
    pub(crate) fn listed(&self) -> &[TenantId] {
        match self {
            Self::CreateGrant(fact) => &fact.tenants,
            Self::AskElevation(fact) | Self::BreakGlass(fact) => &fact.tenants,
            Self::CreateCredential(fact) => &fact.tenants,
            Self::BeginPurge(fact) => &fact.tenants,
            _ => &[],
        }
    }

    /// What it is about: kind and id.
    pub fn subject(&self) -> (&'static str, String) {
        match self {
            Self::Begin { ledger, .. } => ("ledger", ledger.to_string()),
            Self::CreateTenant(fact) | Self::UpdateTenant(fact) => ("tenant", fact.tenant.to_string()),
            Self::SuspendTenant(act) | Self::ResumeTenant(act) => ("tenant", act.tenant.to_string()),
            Self::CreatePrincipal(fact) => ("principal", fact.principal.to_string()),
            Self::SuspendPrincipal(act) | Self::ResumePrincipal(act) => ("principal", act.principal.to_string()),
            Self::BindIdentity(fact) | Self::UnbindIdentity(fact) => ("principal", fact.principal.to_string()),
            Self::CreateCredential(fact) => ("credential", id_of(fact.credential.as_ref())),
            Self::Secret { credential, .. } => ("credential", credential.to_string()),
            Self::RevokeCredential(act) => ("credential", act.id.to_string()),
            Self::CreateGrant(fact) => ("grant", id_of(fact.grant.as_ref())),
            Self::RevokeGrant(act) => ("grant", act.id.to_string()),
            Self::AskElevation(fact) | Self::BreakGlass(fact) => ("elevation", id_of(fact.elevation.as_ref())),
            Self::ApproveElevation(act)
            | Self::RefuseElevation(act)
            | Self::RevokeElevation(act)
            | Self::ExpireElevation(act)
            | Self::ReviewElevation(act) => ("elevation", act.id.to_string()),
            Self::SetPolicies { .. } => ("policies", String::new()),
            Self::SetStores { .. } => ("stores", String::new()),
            Self::Snapshot { size, .. } => ("registry", size.to_string()),
            Self::Told { store, .. } => ("store", store.clone()),
            Self::UseCredentials { credentials } => ("credentials", credentials.len().to_string()),
            Self::SetResidency(fact) => ("tenant", fact.tenant.to_string()),
            Self::SetReviewRules(fact) => {
                ("tenant", fact.tenant.as_ref().map_or(PLATFORM.to_string(), ToString::to_string))
            }
            Self::CreateKey(fact) | Self::RotateKey(fact) => ("key", id_of(fact.key.as_ref())),
            Self::DisableKey(act) | Self::EnableKey(act) | Self::DestroyKey(act) | Self::EraseKey(act) => {
                ("keys", act.tenant.to_string())
            }
            Self::RotateLedgerKey(_) | Self::RetireLedgerKeys(_) => ("ledger_key", String::new()),
            Self::LedgerKeySigns(fact) => ("ledger_key", fact.vkey.clone()),
            Self::SetRetention(fact) => ("policy", fact.policy.clone()),
            Self::EndRetention(act) => ("policy", act.policy.clone()),
            Self::SetHold(fact) => ("hold", id_of(fact.hold.as_ref())),
            Self::ReleaseHold(act) => ("hold", act.id.to_string()),
            Self::BeginPurge(fact) => ("purge", id_of(fact.run.as_ref())),
            Self::CertifyPurge(fact) => ("purge", fact.run.to_string()),
            Self::EndPurge(act) | Self::ErasePurge(act) => ("purge", act.run.to_string()),
            Self::AskRedaction(fact) => ("redaction", id_of(fact.redaction.as_ref())),
            Self::ApproveRedaction(act) => ("redaction", act.redaction.to_string()),
            Self::RefuseRedaction(act) => ("redaction", act.id.to_string()),
            Self::SetJobs { .. } => ("jobs", String::new()),
            Self::BeginJob(fact) => ("job", fact.job.clone()),
            Self::RenewJob(act) => ("job", act.job.clone()),
            Self::FindByJob(act) => ("job", act.job.clone()),
            Self::EndJob(act) => ("job", act.job.clone()),
            Self::OpenReview(fact) => ("review", id_of(fact.review.as_ref())),
            Self::AddReviewItems(_)
            | Self::DecideReview(_)
            | Self::RemindReview(_)
            | Self::EscalateReview(_)
            | Self::ConfirmReview(_)
            | Self::CloseReview(_) => ("review", id_of(self.review())),
            Self::OpenIncident(fact) => ("incident", id_of(fact.incident.as_ref())),
            Self::UpdateIncident(_)
            | Self::TriageIncident(_)
            | Self::AwareOfIncident(_)
            | Self::NotifyIncident(_)
            | Self::CloseIncident(_) => ("incident", id_of(self.incident())),
            Self::SetQuota(fact) => match (&fact.tenant, fact.tier) {
                (Some(tenant), _) => ("tenant", tenant.to_string()),
                (None, tier) => ("tier", tier.unwrap_or_default().as_str().into()),
            },
        }
    }

    /// The entry of the `control` stream.
    pub(crate) fn entry(&self, id: String, author: &Author, now: i64) -> Result<Draft, Invalid> {
        let platform = PLATFORM.parse().expect("a plain name");
        let attributes = serde_json::to_string(self).unwrap_or_default();
        let (stream, outcome, elevation) = (StreamKind::Control, "success", None);
        let (action, resource) = (self.name(), self.subject());
        Entry { tenant: &platform, stream, id, action, outcome, author, resource, elevation, attributes, now }.draft()
    }

    /// Reads a change back from an entry; none if the entry is none.
    ///
    /// # Errors
    /// The entry says that it is a change, and does not read as one.
    pub fn of_entry(seq: u64, draft: &Draft) -> Result<Option<(Stamp, Self)>, EntryError> {
        let (mut attributes, mut by) = ("", "");
        for step in Fields::of(draft) {
            let step = step.map_err(|e| EntryError::Unreadable { seq, why: e.to_string() })?;
            match step.field {
                Field::Attributes => attributes = step.text(),
                Field::ActorId => by = step.text(),
                _ => {}
            }
        }
        // What only says who looked or was refused has no such member; what does is a change, known here or not.
        if !attributes.starts_with(r#"{"change":"#) {
            return Ok(None);
        }
        let unreadable = |why: String| EntryError::Unreadable { seq, why };
        let change: Self = serde_json::from_str(attributes).map_err(|e| unreadable(e.to_string()))?;
        let by: PrincipalId = by.parse().map_err(|e: super::names::Malformed| unreadable(e.to_string()))?;
        Ok(Some((Stamp { seq, at: draft.recorded_at(), by, reason: String::new() }, change)))
    }
}

fn id_of(id: Option<&FactId>) -> String {
    id.map(ToString::to_string).unwrap_or_default()
}
