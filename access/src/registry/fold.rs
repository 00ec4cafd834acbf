//! What a change does to a registry.
//!
//! Not here: whether it may be made ([`super::check`]). Invariant: a change that stands in the stream is applied
//! whole and never fails; one that names what is not there changes nothing.

use super::change::{Change, FactAct, PrincipalAct, TenantFact};
use super::names::{FactId, PrincipalId};
use super::{Credential, Elevation, Grant, PLATFORM, Principal, Registry, Stamp, Tenant};
use ledger::name::TenantId;

impl Registry {
    /// Notes that an entry of the stream was seen that changes nothing here.
    pub fn pass(&mut self, seq: u64) {
        self.size = self.size.max(seq + 1);
    }

    /// Applies the change of the entry at `stamp.seq`.
    pub fn apply(&mut self, stamp: Stamp, change: &Change) {
        self.pass(stamp.seq);
        self.changes += 1;
        match change {
            Change::Begin { ledger, vkey, .. } => self.ledger = Some((ledger.to_string(), vkey.clone())),
            Change::CreateTenant(fact) => self.create_tenant(stamp, fact),
            Change::UpdateTenant(fact) => self.on_tenant(&fact.tenant, |tenant| {
                // Where it stands and where it lives stay as they were.
                let (parent, store) = (tenant.fact.parent.take(), tenant.fact.store.take());
                tenant.fact = TenantFact { parent, store, version: None, ..fact.clone() };
                tenant.changed = stamp;
            }),
            Change::SuspendTenant(act) => {
                self.on_tenant(&act.tenant, |tenant| tenant.suspended = Some(because(stamp, &act.reason)));
            }
            Change::ResumeTenant(act) => self.on_tenant(&act.tenant, |tenant| tenant.suspended = None),
            Change::CreatePrincipal(fact) => {
                let principal = Principal { fact: fact.clone(), made: stamp, suspended: None };
                self.principals.entry(fact.principal.clone()).or_insert(principal);
            }
            Change::SuspendPrincipal(act) => self.on_principal(act, Some(because(stamp, &act.reason))),
            Change::ResumePrincipal(act) => self.on_principal(act, None),
            Change::CreateCredential(fact) => self.create_credential(stamp, fact),
            Change::BindIdentity(fact) => {
                let key = fact.key();
                self.identities.extend(key.map(|key| (key, fact.principal.clone())));
            }
            Change::UnbindIdentity(fact) => drop(fact.key().and_then(|key| self.identities.remove(&key))),
            Change::Secret { credential, sha256 } => {
                if let Some(found) = self.credentials.get_mut(credential) {
                    found.secret = crate::secret::parse_hash(sha256);
                }
            }
            Change::RevokeCredential(act) => {
                if let Some(credential) = self.credentials.get_mut(&act.id) {
                    credential.revoked.get_or_insert(because(stamp, &act.reason));
                }
            }
            _ => self.apply_more(stamp, change),
        }
    }

    /// What gives rights, and what the service itself notes.
    fn apply_more(&mut self, stamp: Stamp, change: &Change) {
        match change {
            Change::CreateGrant(fact) => {
                let Some(id) = fact.grant.clone() else { return };
                self.point(&fact.principal, &fact.tenants, &id);
                self.grants.insert(id, Grant { fact: fact.clone(), made: stamp, revoked: None });
            }
            Change::RevokeGrant(act) => {
                if let Some(grant) = self.grants.get_mut(&act.id) {
                    grant.revoked.get_or_insert(because(stamp, &act.reason));
                }
            }
            Change::AskElevation(fact) => self.ask(stamp, fact, false),
            Change::BreakGlass(fact) => self.ask(stamp, fact, true),
            Change::ApproveElevation(act) => self.on_elevation(stamp, act, |elevation| &mut elevation.approved),
            Change::RefuseElevation(act) => self.on_elevation(stamp, act, |elevation| &mut elevation.refused),
            Change::RevokeElevation(act) => self.on_elevation(stamp, act, |elevation| &mut elevation.revoked),
            Change::ExpireElevation(act) => self.on_elevation(stamp, act, |elevation| &mut elevation.expired),
            Change::ReviewElevation(act) => self.on_elevation(stamp, act, |elevation| &mut elevation.reviewed),
            Change::SetPolicies { files } => self.policies = files.clone(),
            Change::Told { store, through } => {
                let place = store.parse().ok().map(|store| self.told.entry(store).or_default());
                place.into_iter().for_each(|mark| *mark = (*mark).max(*through));
            }
            Change::UseCredentials { credentials } => {
                for id in credentials {
                    if let Some(found) = self.credentials.get_mut(id) {
                        found.used_at = Some(stamp.at);
                    }
                }
            }
            Change::SetResidency(fact) => {
                self.residency.insert(fact.tenant.clone(), (fact.clone(), because(stamp, &fact.reason)));
            }
            Change::SetReviewRules(fact) => {
                let whose = fact.tenant.clone().unwrap_or_else(super::platform);
                self.review_rules.insert(whose, (fact.rules.clone(), because(stamp, &fact.reason)));
            }
            Change::SetStores { stores } => {
                let named = stores.iter().filter_map(|(name, fact)| Some((name.parse().ok()?, fact.clone())));
                self.stores = named.collect();
            }
            Change::SetQuota(fact) => {
                if let Some(tenant) = &fact.tenant {
                    self.tenant_quotas.insert(tenant.clone(), fact.quota.clone());
                }
                if let Some(tier) = fact.tier {
                    self.tier_quotas.insert(tier, fact.quota.clone());
                }
            }
            // What a snapshot says is in the changes themselves; the others were applied above.
            _ if change.is_of_keys() => self.apply_to_keys(stamp, change),
            _ if change.is_of_ledger_keys() => self.apply_to_ledger_keys(stamp, change),
            _ if change.is_of_retention() => self.apply_to_retention(stamp, change),
            _ if change.is_of_job() => self.apply_to_jobs(stamp, change),
            _ if change.is_of_review() => self.apply_to_review(stamp, change),
            _ => self.apply_to_incident(stamp, change),
        }
    }

    fn create_tenant(&mut self, stamp: Stamp, fact: &TenantFact) {
        let mut fact = fact.clone();
        if fact.parent.is_none() && fact.tenant.as_str() != PLATFORM {
            fact.parent = Some(self.root.0.clone());
        }
        if let Some(store) = fact.store.as_ref().filter(|store| **store != self.main_store.0) {
            self.residents.entry(store.clone()).or_default().insert(fact.tenant.clone());
        }
        let tenant = Tenant { made: stamp.clone(), changed: stamp, suspended: None, fact };
        self.tenants.entry(tenant.fact.tenant.clone()).or_insert(tenant);
    }

    fn on_tenant(&mut self, tenant: &TenantId, change: impl FnOnce(&mut Tenant)) {
        if let Some(tenant) = self.tenants.get_mut(tenant) {
            change(tenant);
        }
    }

    fn on_principal(&mut self, act: &PrincipalAct, suspended: Option<Stamp>) {
        if let Some(principal) = self.principals.get_mut(&act.principal) {
            principal.suspended = suspended;
        }
    }

    fn create_credential(&mut self, stamp: Stamp, fact: &super::CredentialFact) {
        let Some(id) = fact.credential.clone() else { return };
        if let Some(old) = fact.replaces.as_ref().and_then(|old| self.credentials.get_mut(old)) {
            let minutes = fact.overlap_minutes.unwrap_or(super::check::OVERLAP_MINUTES);
            let end = stamp.at + i64::from(minutes) * 60_000_000;
            old.expires_at = Some(old.expires_at.map_or(end, |other| other.min(end)));
        }
        let expires_at = fact.expires_at.map(|when| when.0);
        self.credentials.insert(
            id,
            Credential { fact: fact.clone(), expires_at, secret: None, used_at: None, made: stamp, revoked: None },
        );
    }

    fn ask(&mut self, stamp: Stamp, fact: &super::ElevationFact, is_break_glass: bool) {
        let (Some(id), Some(principal)) = (fact.elevation.clone(), fact.principal.clone()) else { return };
        self.point(&principal, &fact.tenants, &id);
        let asked = because(stamp, &fact.reason);
        let approved = is_break_glass.then(|| asked.clone());
        let (refused, revoked, expired, reviewed) = (None, None, None, None);
        let fact = fact.clone();
        self.elevations
            .insert(id, Elevation { fact, asked, is_break_glass, approved, refused, revoked, expired, reviewed });
    }

    fn on_elevation(&mut self, stamp: Stamp, act: &FactAct, field: impl FnOnce(&mut Elevation) -> &mut Option<Stamp>) {
        if let Some(elevation) = self.elevations.get_mut(&act.id) {
            field(elevation).get_or_insert(because(stamp, &act.reason));
        }
    }

    /// Makes a grant or elevation be found by principal and tenant.
    fn point(&mut self, principal: &PrincipalId, tenants: &[TenantId], id: &FactId) {
        let of = self.rights.entry(principal.clone()).or_default();
        for tenant in tenants {
            of.entry(tenant.clone()).or_default().push(id.clone());
        }
    }
}

fn because(stamp: Stamp, reason: &str) -> Stamp {
    Stamp { reason: reason.into(), ..stamp }
}
