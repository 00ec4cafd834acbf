//! Whether a change fits the registry as it is: everything that does not depend on who asks.
//!
//! Not here: who may make it ([`super::Book`] asks the policies), what it does ([`super::fold`]).
//! Invariant: what passes here can be applied, and leaves every name pointing at something.

use super::change::{
    Change, CredentialFact, ElevationFact, FactAct, GrantFact, IdentityFact, QuotaFact, RowScope, TenantFact, Tier,
};
use super::names::{FactId, When};
use super::{Elevation, PLATFORM, Registry};
use ledger::name::TenantId;
use std::collections::HashSet;
use std::fmt;

/// How long a replaced credential stays valid when nothing is said.
pub(super) const OVERLAP_MINUTES: u32 = 24 * 60;
/// How long an elevation may last.
const LONGEST_ELEVATION_MINUTES: u32 = 7 * 24 * 60;
/// How many tenants a grant or an elevation may name.
const MOST_TENANTS: usize = 1_000;
/// How many standing grants a principal may have on the same tenants.
const MOST_GRANTS: usize = 64;
/// How many tenants the changes of one request may list, all together.
const MOST_LISTED: usize = 20_000;
/// How deep the tree of tenants may be.
const DEEPEST: usize = 8;
/// The longest text for people.
const LONGEST_TEXT: usize = 2_000;
/// How many values a row scope may name, of all dimensions together.
const MOST_VALUES: usize = 1_000;

/// Why a change cannot be made.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    /// Whether something else was first, and not the change itself is wrong.
    pub is_conflict: bool,
    /// What is wrong, and what would be right.
    pub why: String,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.why)
    }
}

pub(super) fn wrong(why: impl Into<String>) -> Refusal {
    Refusal { is_conflict: false, why: why.into() }
}

pub(super) fn conflict(why: impl Into<String>) -> Refusal {
    Refusal { is_conflict: true, why: why.into() }
}

pub(super) type Checked = Result<(), Refusal>;

pub(super) fn require(holds: bool, why: impl FnOnce() -> Refusal) -> Checked {
    if holds { Ok(()) } else { Err(why()) }
}

pub(super) fn text(what: &str, text: &str) -> Checked {
    let fits = text.len() <= LONGEST_TEXT && !text.chars().any(char::is_control);
    require(fits, || wrong(format!("{what} must be at most {LONGEST_TEXT} bytes without control characters")))
}

pub(super) fn reason(given: &str) -> Checked {
    require(!given.trim().is_empty(), || wrong("reason is required: it will be read by those concerned"))?;
    text("reason", given)
}

/// Bounds what changes list, whatever the registry holds: before anything is asked about each of it.
///
/// # Errors
/// Which change lists too much, or something twice.
pub(super) fn check_forms(changes: &[Change]) -> Result<(), (usize, Refusal)> {
    let mut total = 0;
    for (at, change) in changes.iter().enumerate() {
        let listed = change.listed();
        let of_change = || {
            require(listed.len() <= MOST_TENANTS, || wrong(format!("tenants must name 1 to {MOST_TENANTS}")))?;
            let distinct: HashSet<&TenantId> = listed.iter().collect();
            require(distinct.len() == listed.len(), || wrong("tenants names one twice"))
        };
        of_change().map_err(|refusal| (at, refusal))?;
        total += listed.len();
        let why = || wrong(format!("the changes list more than {MOST_LISTED} tenants together: send them in parts"));
        require(total <= MOST_LISTED, why).map_err(|refusal| (at, refusal))?;
    }
    Ok(())
}

impl Registry {
    /// Whether a change may be applied next, at `now`.
    ///
    /// # Errors
    /// What does not fit, with what would be right.
    pub fn check(&self, change: &Change, now: i64) -> Checked {
        match change {
            Change::CreateTenant(fact) => self.check_new_tenant(fact),
            Change::UpdateTenant(fact) => self.check_tenant(fact),
            Change::SuspendTenant(act) => {
                reason(&act.reason)?;
                self.need_tenant(&act.tenant)?;
                require(act.tenant.as_str() != PLATFORM, || wrong("the platform itself cannot be suspended"))?;
                require(self.tenants[&act.tenant].suspended.is_none(), || conflict("it is suspended already"))
            }
            Change::ResumeTenant(act) => {
                reason(&act.reason)?;
                self.need_tenant(&act.tenant)?;
                require(self.tenants[&act.tenant].suspended.is_some(), || conflict("it is not suspended"))
            }
            Change::CreatePrincipal(fact) => {
                text("name", &fact.name)?;
                fact.home.as_ref().map_or(Ok(()), |home| self.need_tenant(home))?;
                let is_new = !self.principals.contains_key(&fact.principal);
                require(is_new, || conflict(format!("there is a principal {} already", fact.principal)))
            }
            Change::SuspendPrincipal(act) | Change::ResumePrincipal(act) => {
                reason(&act.reason)?;
                let found = self.principals.get(&act.principal);
                let found = found.ok_or_else(|| wrong(format!("there is no principal {}", act.principal)))?;
                let suspends = matches!(change, Change::SuspendPrincipal(_));
                require(found.suspended.is_some() != suspends, || {
                    conflict(if suspends { "it is suspended already" } else { "it is not suspended" })
                })
            }
            Change::CreateCredential(fact) => self.check_credential(fact, now),
            Change::BindIdentity(fact) => self.check_identity(fact, true),
            Change::UnbindIdentity(fact) => self.check_identity(fact, false),
            Change::RevokeCredential(act) => {
                reason(&act.reason)?;
                let found = self.credentials.get(&act.id);
                let found = found.ok_or_else(|| wrong(format!("there is no credential {}", act.id)))?;
                require(found.revoked.is_none(), || conflict("it is revoked already"))
            }
            Change::CreateGrant(fact) => self.check_grant(fact, now),
            Change::RevokeGrant(act) => {
                reason(&act.reason)?;
                let found = self.grants.get(&act.id).ok_or_else(|| wrong(format!("there is no grant {}", act.id)))?;
                require(found.revoked.is_none(), || conflict("it is revoked already"))
            }
            Change::AskElevation(fact) | Change::BreakGlass(fact) => self.check_elevation(fact),
            Change::ApproveElevation(act) | Change::RefuseElevation(act) => self.on_elevation_that(act, |elevation| {
                require(elevation.state(now) == "asked", || conflict(format!("it is {} already", elevation.state(now))))
            }),
            Change::RevokeElevation(act) => self.on_elevation_that(act, |elevation| {
                let runs = matches!(elevation.state(now), "asked" | "active");
                require(runs, || conflict(format!("it is {} already", elevation.state(now))))
            }),
            Change::ReviewElevation(act) => self.on_elevation_that(act, |elevation| {
                require(elevation.approved.is_some(), || conflict("nothing could be done under it yet"))?;
                require(elevation.reviewed.is_none(), || conflict("it is reviewed already"))
            }),
            _ => self.check_more(change, now),
        }
    }

    /// What sets rules, and what has rules of its own.
    fn check_more(&self, change: &Change, now: i64) -> Checked {
        match change {
            Change::SetQuota(fact) => self.check_quota(fact),
            Change::SetResidency(fact) => self.check_residency(fact),
            Change::SetReviewRules(fact) => self.check_rules(fact),
            _ if change.is_of_keys() => self.check_keys(change),
            _ if change.is_of_ledger_keys() => self.check_ledger_keys(change),
            _ if change.is_of_retention() => self.check_retention(change, now),
            _ if change.is_of_job() => self.check_job(change, now),
            _ if change.is_of_review() => self.check_review(change, now),
            _ if change.is_of_incident() => self.check_incident(change, now),
            _ => Err(wrong("this is written by the service itself")),
        }
    }

    fn check_quota(&self, fact: &QuotaFact) -> Checked {
        reason(&fact.reason)?;
        require(fact.tenant.is_some() != fact.tier.is_some(), || wrong("name either a tenant or a tier"))?;
        fact.tenant.as_ref().map_or(Ok(()), |tenant| self.need_tenant(tenant))
    }

    pub(super) fn need_tenant(&self, tenant: &TenantId) -> Checked {
        require(self.tenants.contains_key(tenant), || wrong(format!("there is no tenant {tenant}")))
    }

    fn check_new_tenant(&self, fact: &TenantFact) -> Checked {
        text("name", &fact.name)?;
        require(!self.tenants.contains_key(&fact.tenant), || {
            conflict(format!("there is a tenant {} already", fact.tenant))
        })?;
        require(fact.version.is_none(), || wrong("a new tenant has no version yet"))?;
        if let Some(parent) = &fact.parent {
            self.need_tenant(parent)?;
            require(self.line(parent).count() < DEEPEST, || wrong(format!("tenants stand at most {DEEPEST} deep")))?;
        }
        let parent = fact.parent.as_ref().unwrap_or(&self.root.0);
        let tier = fact.tier.unwrap_or(self.tier_below(parent));
        if let Some((policy, _)) = self.residency(parent) {
            let store = fact.store.as_ref().unwrap_or(self.placement_below(parent));
            self.check_region(&fact.tenant, policy, store)?;
        }
        self.check_placement(&fact.tenant, tier, fact.store.as_ref().unwrap_or(self.placement_below(parent)))
    }

    /// Whether a tenant of this tier may live in a store.
    fn check_placement(&self, tenant: &TenantId, tier: Tier, store: &TenantId) -> Checked {
        let known: Vec<&str> = self.stores.keys().map(TenantId::as_str).collect();
        let is_known = self.stores.contains_key(store) || *store == self.main_store.0;
        require(is_known, || wrong(format!("there is no store {store}; the settings name {}", known.join(", "))))?;
        let is_main = *store == self.main_store.0;
        require(tier != Tier::Dedicated || !is_main, || {
            wrong("a dedicated tenant has a store of its own: name one; main holds the platform's own records")
        })?;
        // Who is dedicated lives alone, so the first neighbour speaks for all.
        let neighbour = self.residents.get(store).and_then(|all| all.iter().find(|other| *other != tenant));
        let Some(neighbour) = neighbour.and_then(|other| self.tenants.get(other)) else { return Ok(()) };
        require(neighbour.tier() != Tier::Dedicated, || {
            wrong(format!("the store {store} is dedicated to another tenant"))
        })?;
        require(tier != Tier::Dedicated, || {
            wrong(format!("a dedicated tenant has a store of its own, and other tenants live in {store}"))
        })
    }

    fn check_tenant(&self, fact: &TenantFact) -> Checked {
        text("name", &fact.name)?;
        self.need_tenant(&fact.tenant)?;
        let found = &self.tenants[&fact.tenant];
        let is_seen = fact.version == Some(found.changed.seq);
        require(is_seen, || {
            conflict(format!(
                "version must be {}, that of the tenant as it is now: look at it again, then decide",
                found.changed.seq
            ))
        })?;
        let stays = fact.parent.is_none() || fact.parent == found.fact.parent;
        require(stays, || wrong("a tenant does not change its parent"))?;
        let store = self.placement(&fact.tenant);
        let remains = fact.store.as_ref().is_none_or(|named| named == store);
        require(remains, || wrong(format!("a tenant stays in its store, which is {store}: its history lies there")))?;
        self.check_placement(&fact.tenant, fact.tier.unwrap_or(found.tier()), store)
    }

    fn check_credential(&self, fact: &CredentialFact, now: i64) -> Checked {
        let has = |id: &FactId| self.credentials.contains_key(id);
        require(self.principals.contains_key(&fact.principal), || {
            wrong(format!("there is no principal {}", fact.principal))
        })?;
        fact.tenants.iter().try_for_each(|tenant| self.need_tenant(tenant))?;
        self.in_future("expires_at", fact.expires_at, now)?;
        if let Some(old) = &fact.replaces {
            let found = self.credentials.get(old).filter(|found| found.fact.principal == fact.principal);
            require(found.is_some(), || wrong(format!("this principal has no credential {old} to replace")))?;
        }
        require(fact.overlap_minutes.is_none() || fact.replaces.is_some(), || {
            wrong("overlap_minutes goes with replaces")
        })?;
        require(!fact.credential.as_ref().is_some_and(has), || conflict("this id is taken"))
    }

    fn check_identity(&self, fact: &IdentityFact, is_new: bool) -> Checked {
        let key = fact.key().ok_or_else(|| wrong("name either a certificate, or an issuer and a subject"))?;
        let texts = [&fact.certificate, &fact.issuer, &fact.subject];
        texts.into_iter().flatten().try_for_each(|one| text("an identity", one))?;
        text("reason", &fact.reason)?;
        let is_there = self.principals.contains_key(&fact.principal);
        require(is_there, || wrong(format!("there is no principal {}", fact.principal)))?;
        match self.identities.get(&key) {
            Some(_) if is_new => Err(conflict("this identity is somebody's already")),
            Some(whose) if *whose == fact.principal => Ok(()),
            None if is_new => Ok(()),
            _ => Err(conflict("this identity is not that principal's")),
        }
    }

    fn check_grant(&self, fact: &GrantFact, now: i64) -> Checked {
        require(self.principals.contains_key(&fact.principal), || {
            wrong(format!("there is no principal {}", fact.principal))
        })?;
        self.check_tenants(&fact.tenants)?;
        let standing = self.grants_of(&fact.principal, now).filter(|grant| grant.fact.tenants == fact.tenants).count();
        require(standing < MOST_GRANTS, || {
            wrong(format!("a principal has at most {MOST_GRANTS} grants on the same tenants"))
        })?;
        text("purpose", &fact.limits.purpose)?;
        self.in_future("expires_at", fact.limits.expires_at, now)?;
        check_rows(&fact.limits.rows)?;
        let (since, until) = (fact.limits.since, fact.limits.until);
        require(since.zip(until).is_none_or(|(since, until)| since < until), || wrong("since must be before until"))
    }

    fn check_elevation(&self, fact: &ElevationFact) -> Checked {
        reason(&fact.reason)?;
        text("ticket", &fact.ticket)?;
        self.check_tenants(&fact.tenants)?;
        let fits = (1..=LONGEST_ELEVATION_MINUTES).contains(&fact.minutes);
        require(fits, || wrong(format!("minutes must be 1 to {LONGEST_ELEVATION_MINUTES}")))
    }

    fn check_tenants(&self, tenants: &[TenantId]) -> Checked {
        require(!tenants.is_empty(), || wrong(format!("tenants must name 1 to {MOST_TENANTS}")))?;
        tenants.iter().try_for_each(|tenant| self.need_tenant(tenant))
    }

    fn in_future(&self, what: &str, when: Option<When>, now: i64) -> Checked {
        require(when.is_none_or(|when| when.0 > now), || wrong(format!("{what} must lie in the future")))
    }

    fn on_elevation_that(&self, act: &FactAct, holds: impl FnOnce(&Elevation) -> Checked) -> Checked {
        reason(&act.reason)?;
        let found = self.elevations.get(&act.id);
        holds(found.ok_or_else(|| wrong(format!("there is no elevation {}", act.id)))?)
    }
}

fn check_rows(rows: &RowScope) -> Checked {
    let values: usize = rows.values().map(Vec::len).sum();
    require(values <= MOST_VALUES, || wrong(format!("rows must name at most {MOST_VALUES} values")))?;
    require(rows.values().all(|values| !values.is_empty()), || {
        wrong("a dimension of rows must name a value; leave it out to show all")
    })?;
    rows.values().flatten().try_for_each(|value| text("a value of rows", value))
}
