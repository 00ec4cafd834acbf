//! Who may make which change of the registry.
//!
//! Each change demands actions on the tenants that it concerns. Grants are looked at twice: nobody hands on more than
//! they have, unless policies say so. Not here: whether the change fits (`registry::check`).
//!
//! Invariants: an approval is never one's own; a tenant's administrator reaches nothing outside of that tenant.

use crate::caller::Caller;
use crate::policy::{Action, Granting, Policies, Question};
use crate::registry::change::{Change, FactAct, GrantFact, PrincipalKind};
use crate::registry::names::PrincipalId;
use crate::registry::{PLATFORM, Registry, Right};
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

/// Whether the caller may make a change that fits the registry.
pub(crate) fn may_change(
    policies: &Policies,
    registry: &Registry,
    caller: &Caller,
    change: &Change,
    now: i64,
) -> Result<(), Missing> {
    let asking = Asking { policies, registry, caller, now };
    let platform = || PLATFORM.parse::<TenantId>().expect("a plain name");
    let home = |principal: &PrincipalId| {
        registry.principal(principal).and_then(|found| found.fact.home.clone()).unwrap_or_else(platform)
    };
    match change {
        Change::CreateTenant(fact) => asking.need(Action::CreateTenant, &fact.parent.clone().unwrap_or_else(platform)),
        Change::UpdateTenant(fact) => asking.need(Action::UpdateTenant, &fact.tenant),
        Change::SuspendTenant(act) | Change::ResumeTenant(act) => asking.need(Action::ContainTenant, &act.tenant),
        Change::CreatePrincipal(fact) => {
            asking.need(Action::ManagePrincipals, &fact.home.clone().unwrap_or_else(platform))
        }
        Change::SuspendPrincipal(act) | Change::ResumePrincipal(act) => {
            asking.need(Action::ManagePrincipals, &home(&act.principal))
        }
        Change::CreateCredential(fact) => asking.may_prove(&fact.principal, &home(&fact.principal)),
        Change::BindIdentity(fact) => asking.may_prove(&fact.principal, &home(&fact.principal)),
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
        Change::AskElevation(fact) => asking.need_on_all(Action::AskElevation, &fact.tenants),
        Change::BreakGlass(fact) => asking.need_on_all(Action::BreakGlass, &fact.tenants),
        Change::ApproveElevation(act) | Change::RefuseElevation(act) => {
            asking.need_of_another(act, Action::DecideElevation)
        }
        Change::ReviewElevation(act) => asking.need_of_another(act, Action::ReviewElevation),
        Change::RevokeElevation(act) => {
            let own = registry.elevation(&act.id).and_then(|found| found.fact.principal.as_ref());
            if own == Some(caller.principal()) { Ok(()) } else { asking.need_of_another(act, Action::DecideElevation) }
        }
        Change::SetQuota(fact) => asking.need(Action::ManageQuotas, &fact.tenant.clone().unwrap_or_else(platform)),
        Change::Begin { .. } | Change::Secret { .. } | Change::SetPolicies { .. } | Change::ExpireElevation(_) => {
            Err(Missing { why: "this is written by the service itself".into(), denied: None })
        }
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

    fn need(&self, action: Action, tenant: &TenantId) -> Result<(), Missing> {
        self.found(self.rights_to(action, tenant, None).next().is_some(), action, tenant)
    }

    fn found(&self, found: bool, action: Action, tenant: &TenantId) -> Result<(), Missing> {
        if found {
            return Ok(());
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
        let Some(elevation) = self.registry.elevation(&act.id) else {
            return Err(Missing { why: format!("there is no elevation {}", act.id), denied: None });
        };
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
        let granting = Some(Granting { role: None, kind, own });
        let holds = self.rights_to(Action::ManageCredentials, home, granting).next().is_some();
        self.found(holds, Action::ManageCredentials, home)
    }

    /// Whether the caller may make a way to prove to be a principal: whoever holds it has all of that principal's rights,
    /// so the caller must be able to grant each of them. One's own keys one may always replace, but not with a narrow one.
    fn may_prove(&self, principal: &PrincipalId, home: &TenantId) -> Result<(), Missing> {
        if principal == self.caller.principal() && self.caller.variant().is_none() {
            return Ok(());
        }
        self.need_for(principal, home)?;
        for grant in self.registry.grants_of(principal, self.now) {
            grant.fact.tenants.iter().try_for_each(|tenant| self.may_grant(&grant.fact, tenant))?;
        }
        Ok(())
    }

    fn granting<'r>(&'r self, fact: &'r GrantFact, tenant: &TenantId) -> Granting<'r> {
        let principal = self.registry.principal(&fact.principal);
        let home = principal.and_then(|found| found.fact.home.as_ref());
        let kind = principal.map_or(PrincipalKind::User, |found| found.fact.kind);
        Granting { role: Some(&fact.role), kind, own: home.is_some_and(|home| self.registry.is_within(home, tenant)) }
    }

    /// Whether the caller may make a grant on one tenant: grants are theirs to make, and hand on no more than they have.
    fn may_grant(&self, fact: &GrantFact, tenant: &TenantId) -> Result<(), Missing> {
        if !self.policies.knows(&fact.role) {
            let why = format!("no policy knows role {}; known are {}", fact.role, self.policies.roles().join(", "));
            return Err(Missing { why, denied: None });
        }
        self.need_to_grant(Action::ManageGrants, fact, tenant)?;
        let granting = Some(self.granting(fact, tenant));
        if self.rights_to(Action::UnboundedGrants, tenant, granting).next().is_some() {
            return Ok(());
        }
        // A right on a whole subtree is more than one on the tenant alone.
        if fact.subtree && !self.has_subtree(tenant) {
            let why = format!("you have no right on the tenants below {tenant} to hand on");
            return Err(Missing { why, denied: None });
        }
        let new = View::of(&Right {
            role: &fact.role,
            limits: Some(&fact.limits),
            id: fact.grant.as_ref().unwrap_or(&placeholder()),
            is_elevation: false,
            ends: None,
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
                if needed && !self.has(action, tenant, stream, &new, granting) {
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

    /// Whether the caller has, on one right of their own, at least what a new view shows.
    fn has(
        &self,
        action: Action,
        tenant: &TenantId,
        stream: StreamKind,
        new: &View,
        granting: Option<Granting<'_>>,
    ) -> bool {
        self.registry.rights(self.caller.principal(), tenant, self.now).any(|right| {
            let streams = right.limits.map(|limits| limits.streams.as_slice()).unwrap_or_default();
            let is_of_stream = !action.is_of_stream() || streams.is_empty() || streams.contains(&stream);
            let question = Question::of(self.caller, &right, action, tenant, stream);
            let permits = || self.policies.permits(self.registry, &Question { granting, ..question });
            // Standing rights only: what was lent is not handed on.
            !right.is_elevation && is_of_stream && new.is_within(&View::of(&right)) && permits()
        })
    }

    fn has_subtree(&self, tenant: &TenantId) -> bool {
        let mut rights = self.registry.rights(self.caller.principal(), tenant, self.now);
        rights.any(|right| self.registry.grant(right.id).is_some_and(|grant| grant.fact.subtree))
    }
}

fn placeholder() -> crate::registry::names::FactId {
    "new".parse().expect("a plain name")
}
