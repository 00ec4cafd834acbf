//! Who may make which change of the registry.
//!
//! Each change demands actions on the tenants that it concerns. Grants are looked at twice: nobody hands on more than
//! they have, unless policies say so. Not here: whether the change fits (`registry::check`).
//!
//! Invariants: an approval is never one's own; a tenant's administrator reaches nothing outside of that tenant.

use crate::caller::Caller;
use crate::policy::{Action, Granting, Policies, Question};
use crate::registry::change::{Change, ElevationFact, FactAct, GrantFact, PrincipalKind, TenantFact, Verdict};
use crate::registry::names::{PrincipalId, Role};
use crate::registry::{Incident, Registry, Review, Right, Tenant, nowhere, numbers, platform};
use crate::sight::View;
use crate::visit::Denied;
use ledger::name::{StreamKind, TenantId};

/// What a caller lacks to make a change.
pub(crate) struct Missing {
    /// In words.
    pub why: String,
    /// What is put on record.
    pub denied: Option<Denied>,
}

struct Asking<'a> {
    policies: &'a Policies,
    registry: &'a Registry,
    caller: &'a Caller,
    now: i64,
}

/// Whether the caller may make a change. Asked before whether it fits, so it may name what is not there.
pub(crate) fn may_change(
    policies: &Policies,
    registry: &Registry,
    caller: &Caller,
    change: &Change,
    now: i64,
) -> Result<(), Missing> {
    let asking = Asking { policies, registry, caller, now };
    let home = |principal: &PrincipalId| {
        registry.principal(principal).and_then(|found| found.fact.home.clone()).unwrap_or_else(platform)
    };
    match change {
        Change::CreateTenant(fact) => asking.may_create_tenant(fact),
        Change::UpdateTenant(fact) => asking.may_update_tenant(fact),
        Change::SuspendTenant(act) | Change::ResumeTenant(act) => asking.need(Action::ContainTenant, &act.tenant),
        Change::CreatePrincipal(fact) => {
            asking.need(Action::ManagePrincipals, &fact.home.clone().unwrap_or_else(platform))
        }
        Change::SuspendPrincipal(act) | Change::ResumePrincipal(act) => {
            asking.need(Action::ManagePrincipals, &home(&act.principal))
        }
        Change::CreateCredential(fact) => {
            asking.may_prove(&fact.principal, &home(&fact.principal), fact.expires_at.map(|end| end.0))
        }
        Change::BindIdentity(fact) => asking.may_prove(&fact.principal, &home(&fact.principal), None),
        Change::UnbindIdentity(fact) => asking.need_for(&fact.principal, &home(&fact.principal)),
        Change::RevokeCredential(act) => {
            let whose = registry.credential(&act.id).map(|found| &found.fact.principal);
            match whose {
                // Whoever finds a credential of their own leaked need not ask.
                Some(whose) if whose == caller.principal() => Ok(()),
                Some(whose) => asking.need_for(whose, &home(whose)),
                None => asking.need(Action::ReadGrants, &platform()),
            }
        }
        Change::CreateGrant(fact) => fact.tenants.iter().try_for_each(|tenant| asking.may_grant(fact, tenant)),
        Change::RevokeGrant(act) => {
            let Some(grant) = registry.grant(&act.id) else { return asking.need(Action::ReadGrants, &platform()) };
            let fact = &grant.fact;
            fact.tenants.iter().try_for_each(|tenant| asking.need_to_grant(Action::ManageGrants, fact, tenant))
        }
        Change::AskElevation(fact) => asking.may_ask(Action::AskElevation, fact),
        Change::BreakGlass(fact) => asking.may_ask(Action::BreakGlass, fact),
        Change::ApproveElevation(act) | Change::RefuseElevation(act) => {
            asking.need_of_another(act, Action::DecideElevation)
        }
        Change::ReviewElevation(act) => asking.need_of_another(act, Action::ReviewElevation),
        Change::RevokeElevation(act) => {
            let own = registry.elevation(&act.id).and_then(|found| found.fact.principal.as_ref());
            if own == Some(caller.principal()) { Ok(()) } else { asking.need_of_another(act, Action::DecideElevation) }
        }
        Change::SetQuota(fact) => asking.need(Action::ManageQuotas, &fact.tenant.clone().unwrap_or_else(platform)),
        Change::SetResidency(fact) => asking.need(Action::ManageResidency, &fact.tenant),
        Change::SetReviewRules(fact) => {
            asking.need(Action::ManageReviews, &fact.tenant.clone().unwrap_or_else(platform))
        }
        Change::CreateKey(fact) | Change::RotateKey(fact) => asking.need(Action::ManageKeys, &fact.tenant),
        Change::DisableKey(act) | Change::EnableKey(act) => asking.need(Action::ManageKeys, &act.tenant),
        Change::RotateLedgerKey(_) | Change::RetireLedgerKeys(_) => asking.need(Action::ManageKeys, &platform()),
        Change::DestroyKey(act) => asking.may_destroy_keys(&act.tenant),
        _ if change.is_of_retention() => asking.may_change_retention(change),
        _ if change.is_of_review() => asking.may_change_review(change),
        _ if change.is_of_incident() => asking.may_manage_incident(change),
        _ => Err(Missing { why: "this is written by the service itself".into(), denied: None }),
    }
}

impl Asking<'_> {
    /// The caller's rights on a tenant that permit an action.
    fn rights_to<'r>(
        &'r self,
        action: Action,
        tenant: &'r TenantId,
        granting: Option<Granting<'r>>,
    ) -> impl Iterator<Item = Right<'r>> {
        let reaches = self.caller.reaches(self.registry, action, tenant);
        let rights = self.registry.rights(self.caller.principal(), tenant, self.now);
        rights.chain(self.caller.claimed(self.registry, tenant)).filter(move |right| {
            let question = Question::of(self.caller, right, action, tenant, StreamKind::Control);
            reaches && self.policies.permits(self.registry, &Question { granting, ..question })
        })
    }

    fn may_create_tenant(&self, fact: &TenantFact) -> Result<(), Missing> {
        let parent = fact.parent.clone().unwrap_or_else(platform);
        self.need(Action::CreateTenant, &parent)?;
        // Another store than the parent's, or another tier, is the platform's to give.
        let is_elsewhere = fact.store.as_ref().is_some_and(|store| store != self.registry.placement(&parent));
        let is_other = fact.tier.is_some_and(|tier| tier != self.registry.tier_below(&parent));
        if is_elsewhere || is_other { self.need(Action::CreateTenant, &platform()) } else { Ok(()) }
    }

    fn may_update_tenant(&self, fact: &TenantFact) -> Result<(), Missing> {
        self.need(Action::UpdateTenant, &fact.tenant)?;
        let tier = self.registry.tenant(&fact.tenant).map(Tenant::tier);
        let is_other = fact.tier.is_some_and(|other| tier.is_some_and(|tier| tier != other));
        if is_other { self.need(Action::CreateTenant, &platform()) } else { Ok(()) }
    }

    fn may_manage_incident(&self, change: &Change) -> Result<(), Missing> {
        let home = match change {
            Change::OpenIncident(fact) => fact.tenant.clone(),
            _ => change.incident().and_then(|id| self.registry.incident(id)).map(Incident::home),
        };
        self.need(Action::ManageIncidents, &home.unwrap_or_else(platform))
    }

    fn may_change_review(&self, change: &Change) -> Result<(), Missing> {
        let review = change.review().and_then(|id| self.registry.review(id));
        let home = match change {
            Change::OpenReview(fact) => fact.tenant.clone(),
            _ => review.map(Review::home),
        };
        let Change::DecideReview(made) = change else {
            return self.need(Action::ManageReviews, &home.unwrap_or_else(platform));
        };
        // That one was made the reviewer of an item is what gives the right to decide on it.
        let Some(review) = review else { return self.need(Action::ManageReviews, &platform()) };
        // Who manages a review gives what is stuck to somebody else, and decides nothing by that.
        if made.decision == Verdict::Delegate && self.need(Action::ManageReviews, &review.home()).is_ok() {
            return Ok(());
        }
        let own = self.registry.own_names(self.caller.principal());
        for number in numbers(&made.items).take(review.size() as usize) {
            let Some(item) = review.item(number) else { continue };
            let why = match () {
                () if review.reviewer(number) != Some(self.caller.principal()) => {
                    format!("item {number} is for somebody else to decide on")
                }
                () if item.is_about(&own) => format!("item {number} is about you: somebody else decides on it"),
                () if !self.caller.reaches(self.registry, Action::DecideReviews, &item.tenant) => {
                    format!("this credential cannot be used to decide about {}", item.tenant)
                }
                () => continue,
            };
            return Err(Missing { why, denied: None });
        }
        Ok(())
    }

    fn may_change_retention(&self, change: &Change) -> Result<(), Missing> {
        match change {
            Change::SetRetention(fact) => {
                let before = self.registry.retention().find(|found| found.fact.policy == fact.policy);
                let homes = [Some(fact.tenant.clone()), before.map(|found| found.fact.tenant.clone())];
                // What is about all tenants is for whoever has that right on all of them.
                let mut homes = homes.into_iter().flatten().map(|home| home.unwrap_or_else(nowhere));
                homes.try_for_each(|home| self.need(Action::ManageRetention, &home))
            }
            Change::EndRetention(act) => {
                let found = self.registry.retention().find(|found| found.fact.policy == act.policy);
                let home = found.and_then(|found| found.fact.tenant.clone()).unwrap_or_else(nowhere);
                self.need(Action::ManageRetention, &home)
            }
            Change::SetHold(fact) => self.need(Action::ManageHolds, &fact.tenant),
            Change::ReleaseHold(act) => {
                let found = self.registry.holds().find(|(id, _)| **id == act.id);
                let first = found.and_then(|(_, hold)| hold.releasing.as_ref());
                if first.is_some_and(|first| first.by == *self.caller.principal()) {
                    let why = "you released it already: this hold takes the word of somebody else too".into();
                    return Err(Missing { why, denied: None });
                }
                // What somebody else holds is released by who decides on retention: the tenant may be the one it is about.
                let own = found.is_some_and(|(_, hold)| hold.set.by == *self.caller.principal());
                let action = if own { Action::ManageHolds } else { Action::ManageRetention };
                self.need(action, &found.map_or_else(platform, |(_, hold)| hold.fact.tenant.clone()))
            }
            Change::BeginPurge(fact) if fact.tenants.is_empty() => self.need(Action::RunRetention, &nowhere()),
            Change::BeginPurge(fact) => self.need_on_all(Action::RunRetention, &fact.tenants),
            Change::AskRedaction(fact) => self.need(Action::AskRedaction, &fact.tenant),
            Change::ApproveRedaction(act) => {
                let found = self.registry.redaction(&act.redaction);
                self.need(Action::DecideRedaction, &found.map_or_else(platform, |found| found.fact.tenant.clone()))?;
                if found.is_some_and(|found| found.asked.by == *self.caller.principal()) {
                    let why = "a redaction is agreed to by somebody else than who asked for it".into();
                    return Err(Missing { why, denied: None });
                }
                Ok(())
            }
            Change::RefuseRedaction(act) => {
                let found = self.registry.redaction(&act.id);
                // Who asked may take it back.
                let own = found.is_some_and(|found| found.asked.by == *self.caller.principal());
                let action = if own { Action::AskRedaction } else { Action::DecideRedaction };
                self.need(action, &found.map_or_else(platform, |found| found.fact.tenant.clone()))
            }
            _ => Err(Missing { why: "this is written by the service itself".into(), denied: None }),
        }
    }

    /// The destruction of keys takes two people's word.
    fn may_destroy_keys(&self, tenant: &TenantId) -> Result<(), Missing> {
        self.need(Action::DestroyKeys, tenant)?;
        let word = self.registry.word_to_destroy(tenant, self.now);
        if word.is_some_and(|word| word.by == *self.caller.principal()) {
            let why = "you said so already: it takes the word of somebody else too".into();
            return Err(Missing { why, denied: None });
        }
        Ok(())
    }

    fn need(&self, action: Action, tenant: &TenantId) -> Result<(), Missing> {
        self.found(self.rights_to(action, tenant, None).next().is_some(), action, tenant)
    }

    fn found(&self, found: bool, action: Action, tenant: &TenantId) -> Result<(), Missing> {
        if found {
            return Ok(());
        }
        if *tenant == nowhere() {
            let (tenant, stream) = (platform(), StreamKind::Control);
            let why = format!("{} on all tenants is not granted to you", action.as_str());
            return Err(Missing { why, denied: Some(Denied { tenant, exists: true, stream, action }) });
        }
        let exists = self.registry.tenant(tenant).is_some();
        let denied = Denied { tenant: tenant.clone(), exists, stream: StreamKind::Control, action };
        let why = format!("{} on {tenant} is not granted to you", action.as_str());
        Err(Missing { why, denied: Some(denied) })
    }

    fn need_on_all(&self, action: Action, tenants: &[TenantId]) -> Result<(), Missing> {
        tenants.iter().try_for_each(|tenant| self.need(action, tenant))
    }

    /// An action on each of an elevation's tenants, by somebody else than who asked.
    fn need_of_another(&self, act: &FactAct, action: Action) -> Result<(), Missing> {
        // Who may not know of all may not know that there is none.
        let Some(elevation) = self.registry.elevation(&act.id) else { return self.need(action, &platform()) };
        self.need_on_all(action, &elevation.fact.tenants)?;
        if elevation.fact.principal.as_ref() == Some(self.caller.principal()) {
            let why = "an elevation is decided on by somebody else than who asked for it".into();
            return Err(Missing { why, denied: None });
        }
        Ok(())
    }

    fn need_to_grant(&self, action: Action, fact: &GrantFact, tenant: &TenantId) -> Result<(), Missing> {
        let holds = self.rights_to(action, tenant, Some(self.granting(fact, tenant))).next().is_some();
        self.found(holds, action, tenant)
    }

    /// Whether the caller manages a principal's credentials.
    fn need_for(&self, principal: &PrincipalId, home: &TenantId) -> Result<(), Missing> {
        let known = self.registry.principal(principal);
        let kind = known.map_or(PrincipalKind::User, |found| found.fact.kind);
        let own = known.is_some_and(|found| found.fact.home.is_some());
        let is_self = principal == self.caller.principal();
        let granting = Some(Granting { role: None, kind, own, is_self, subtree: false });
        let holds = self.rights_to(Action::ManageCredentials, home, granting).next().is_some();
        self.found(holds, Action::ManageCredentials, home)
    }

    /// Whether the caller may make a way to prove to be a principal: whoever holds it has all of that principal's rights,
    /// so the caller must be able to grant each of them. Of one's own one may make another that is worth no more and ends
    /// no later than what one has.
    fn may_prove(&self, principal: &PrincipalId, home: &TenantId, ends: Option<i64>) -> Result<(), Missing> {
        let no_longer = self.caller.ends().is_none_or(|own| ends.is_some_and(|end| end <= own));
        if principal == self.caller.principal() && !self.caller.is_narrowed() && no_longer {
            return Ok(());
        }
        self.need_for(principal, home)?;
        for grant in self.registry.grants_of(principal, self.now) {
            grant.fact.tenants.iter().try_for_each(|tenant| self.may_grant(&grant.fact, tenant))?;
        }
        let lent = self.registry.elevations().map(|(_, elevation)| elevation);
        let lent = lent.filter(|one| one.fact.principal.as_ref() == Some(principal) && one.state(self.now) == "active");
        for elevation in lent {
            let role = Some(&elevation.fact.role);
            let granting = Granting { role, kind: PrincipalKind::User, own: false, is_self: false, subtree: false };
            for tenant in &elevation.fact.tenants {
                let holds = self.rights_to(Action::UnboundedGrants, tenant, Some(granting)).next().is_some();
                self.found(holds, Action::UnboundedGrants, tenant)?;
            }
        }
        Ok(())
    }

    /// Whether the caller may ask for an elevation, or take one, to a role that there is.
    fn may_ask(&self, action: Action, fact: &ElevationFact) -> Result<(), Missing> {
        self.need_on_all(action, &fact.tenants)?;
        self.need_role(&fact.role)
    }

    fn need_role(&self, role: &Role) -> Result<(), Missing> {
        if self.policies.knows(role) {
            return Ok(());
        }
        let why = format!("no policy knows role {role}; known are {}", self.policies.roles().join(", "));
        Err(Missing { why, denied: None })
    }

    fn granting<'r>(&'r self, fact: &'r GrantFact, tenant: &TenantId) -> Granting<'r> {
        let principal = self.registry.principal(&fact.principal);
        let home = principal.and_then(|found| found.fact.home.as_ref());
        let kind = principal.map_or(PrincipalKind::User, |found| found.fact.kind);
        let is_self = fact.principal == *self.caller.principal();
        Granting { role: Some(&fact.role), kind, own: home == Some(tenant), is_self, subtree: fact.subtree }
    }

    /// Whether the caller may make a grant on one tenant: grants are theirs to make, and hand on no more than they have.
    fn may_grant(&self, fact: &GrantFact, tenant: &TenantId) -> Result<(), Missing> {
        self.need_to_grant(Action::ManageGrants, fact, tenant)?;
        self.need_role(&fact.role)?;
        let granting = Some(self.granting(fact, tenant));
        let mut unbounded = self.rights_to(Action::UnboundedGrants, tenant, granting);
        // Also who may hand on more than they have hands it on for no longer, to no more tenants, with no narrow key.
        if !self.caller.is_narrowed() && unbounded.any(|right| outlasts(&right, fact)) {
            return Ok(());
        }
        let new = View::of(&Right {
            role: &fact.role,
            limits: Some(&fact.limits),
            id: fact.grant.as_ref().unwrap_or(&placeholder()),
            is_elevation: false,
            ends: None,
            subtree: fact.subtree,
        });
        for action in Action::ALL.iter().copied() {
            for stream in StreamKind::ALL {
                let hands_on = fact.limits.streams.is_empty() || fact.limits.streams.contains(&stream);
                let asked = Question {
                    principal: &fact.principal,
                    role: &fact.role,
                    action,
                    tenant,
                    stream,
                    elevated: false,
                    purpose: &fact.limits.purpose,
                    method: self.caller.method(),
                    granting,
                };
                let needed = (!action.is_of_stream() || hands_on) && self.policies.permits(self.registry, &asked);
                if needed && !self.has(action, tenant, stream, fact, &new) {
                    let why = format!(
                        "role {} may do {} on {tenant}, which you may not, or not to this extent: nobody hands on \
                         more than they have",
                        fact.role,
                        action.as_str()
                    );
                    return Err(Missing { why, denied: None });
                }
                if !action.is_of_stream() {
                    break;
                }
            }
        }
        Ok(())
    }

    /// Whether the caller has, on one right of their own that lasts and reaches as far, at least what a new view shows.
    fn has(&self, action: Action, tenant: &TenantId, stream: StreamKind, fact: &GrantFact, new: &View) -> bool {
        if !self.caller.reaches(self.registry, action, tenant) {
            return false;
        }
        let granting = Some(self.granting(fact, tenant));
        let rights = self.registry.rights(self.caller.principal(), tenant, self.now);
        let mut rights = rights.chain(self.caller.claimed(self.registry, tenant));
        rights.any(|right| {
            let streams = right.limits.map(|limits| limits.streams.as_slice()).unwrap_or_default();
            let is_of_stream = !action.is_of_stream() || streams.is_empty() || streams.contains(&stream);
            let question = Question::of(self.caller, &right, action, tenant, stream);
            let permits = || self.policies.permits(self.registry, &Question { granting, ..question });
            // Standing rights only: what was lent is not handed on.
            let lasts = !right.is_elevation && outlasts(&right, fact);
            lasts && is_of_stream && new.is_within(&View::of(&right)) && permits()
        })
    }
}

/// Whether a right lasts as long as a grant that is to be made, and reaches as many tenants.
fn outlasts(right: &Right<'_>, fact: &GrantFact) -> bool {
    let ends = fact.limits.expires_at.map(|end| end.0);
    right.ends.is_none_or(|own| ends.is_some_and(|end| end <= own)) && (right.subtree || !fact.subtree)
}

fn placeholder() -> crate::registry::names::FactId {
    "new".parse().expect("a plain name")
}
