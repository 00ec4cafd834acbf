//! What tenants are told, in their own `access` streams, of changes that concern them.
//!
//! Not here: when it is appended ([`super::book`]). Invariant: no tenant is told which others a change also names.

use super::book::{Book, BookError, platform};
use super::change::Change;
use super::entry::{Author, Entry};
use super::names::{FactId, PrincipalId};
use super::{PLATFORM, Registry};
use ledger::draft::{Draft, Invalid};
use ledger::field::{Field, Fields};
use ledger::name::{StreamKind, TenantId};
use std::sync::{Mutex, PoisonError};

/// How many entries wait for a store that is not open.
const MOST_UNTOLD: usize = 100_000;
/// How many entries of `control` are looked at for what may not have been told when the service stopped.
const RECALLED: u64 = 10_000;
/// And how old they may be, in microseconds: stores know what they were told for longer, so nothing is told twice.
const RECALLED_FOR: i64 = 24 * 3_600_000_000;
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

/// What tenants in other stores than the main one are still to be told.
#[derive(Default)]
pub(super) struct Untold(Mutex<Vec<Draft>>);

impl Untold {
    pub(super) fn add(&self, drafts: Vec<Draft>) {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let room = MOST_UNTOLD.saturating_sub(waiting.len());
        if drafts.len() > room {
            tracing::error!(
                lost = drafts.len() - room,
                "tenants could not be told of changes: their store is not open"
            );
        }
        waiting.extend(drafts.into_iter().take(room));
    }

    /// Tells what can be told now. What a store does not take waits; a repeat is a duplicate there.
    pub(super) async fn tell(&self, book: &Book) {
        let waiting = std::mem::take(&mut *self.0.lock().unwrap_or_else(PoisonError::into_inner));
        for (store, drafts) in book.by_store(waiting) {
            if let Err(error) = book.stores().write(&store, drafts.clone()).await {
                tracing::debug!(%store, error = &error as &dyn std::error::Error, "tenants are told of changes later");
                self.add(drafts);
            }
        }
    }

    /// Adds what may not have been told when the service stopped: the last changes before it, of tenants in other
    /// stores.
    ///
    /// # Errors
    /// The `control` stream cannot be read.
    pub(super) async fn recall(&self, book: &Book) -> Result<(), BookError> {
        let Ok(handle) = book.main().reader(&platform(), StreamKind::Control) else { return Ok(()) };
        let from = book.read().size().saturating_sub(RECALLED);
        let mut drafts = Vec::new();
        let each = |seq, draft: &Draft| {
            let Some((_, change)) = Change::of_entry(seq, draft)? else { return Ok::<(), BookError>(()) };
            let recent = written(draft).filter(|(_, _, at)| book.now() - at < RECALLED_FOR);
            let Some((request, author, at)) = recent else { return Ok(()) };
            let registry = book.read();
            for tenant in registry.concerned(&change) {
                if registry.placement(&tenant) != book.main().name() {
                    drafts.push(told_to(&tenant, seq, &change, &request, &author, at)?);
                }
            }
            Ok(())
        };
        handle.entries(from, each).await?;
        self.add(drafts);
        Ok(())
    }
}

/// Request, author and time of a change's entry.
fn written(draft: &Draft) -> Option<(FactId, Author, i64)> {
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
            Change::Begin { .. }
            | Change::Secret { .. }
            | Change::SetPolicies { .. }
            | Change::SetStores { .. }
            | Change::Snapshot { .. }
            | Change::UseCredentials { .. } => {
                vec![]
            }
        };
        concerned.retain(|tenant| tenant.as_str() != PLATFORM);
        concerned.dedup();
        concerned
    }
}
