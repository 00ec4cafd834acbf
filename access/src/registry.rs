//! The registry: tenants, principals, credentials, grants, elevations and quotas, as the fold of the `control` stream.
//!
//! There is no other database. Here is the state and what can be asked of it, apart from any IO: [`change`] has the
//! forms of what changes it, [`check`] the rules, [`fold`] what a change does, [`Book`] keeps one up to date with the
//! stream. Not here: what a role may do ([`crate::policy`]).
//!
//! Invariants: folding the same entries gives the same registry; nothing is ever forgotten, what ended says when; a
//! lookup costs as much as what it finds, never as much as the registry holds.

mod audit;
mod book;
pub mod change;
mod check;
mod entry;
mod fold;
mod incidents;
mod jobs;
mod keys;
mod ledger_keys;
pub mod names;
mod redaction;
mod residency;
mod retention;
mod reviews;
mod rows;
mod snapshot;
mod told;

pub use audit::SnapshotAudit;
pub use book::{Book, BookError, Decided, Founded, MOST_CHANGES, Made};
pub(crate) use book::{nowhere, platform};
pub use check::Refusal;
pub use entry::Author;
pub(crate) use entry::{Entry, EntryError};
pub use incidents::{Incident, LARGEST_FINDING};
pub use jobs::{Job, JobRun};
pub use keys::{Key, TenantKeys};
pub use redaction::{MOST_RANGES, Redaction, sections_of};
pub use retention::{Certified, Hold, Policy, Run};
pub use reviews::{MOST_ITEMS, Review, numbers, spans};
pub use rows::{Row, Table};
pub use snapshot::{SnapshotError, SnapshotText};

use change::{
    CredentialFact, ElevationFact, GrantFact, GrantLimits, IdentityKey, PrincipalFact, Quota, ResidencyFact,
    ReviewRules, StoreFact, TenantFact, Tier,
};
use ledger::name::TenantId;
use names::{FactId, PrincipalId, Role};
use std::collections::{BTreeMap, BTreeSet, HashMap};

/// The platform's own tenant: the root of all others, whose `control` stream the registry is.
pub const PLATFORM: &str = "platform";

/// The store that holds the platform's own streams, and every tenant that names no other.
pub const MAIN_STORE: &str = "main";

/// The tenant above all others.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Root(TenantId);

impl Default for Root {
    fn default() -> Self {
        Self(platform())
    }
}

/// The store of who names none.
#[derive(Debug, Clone, PartialEq, Eq)]
struct MainStore(TenantId);

impl Default for MainStore {
    fn default() -> Self {
        Self(MAIN_STORE.parse().expect("a plain name"))
    }
}

/// When and by which entry something was done, and by whom.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stamp {
    /// The entry's sequence number.
    pub seq: u64,
    /// Its time of record, in microseconds.
    pub at: i64,
    /// By whom.
    pub by: PrincipalId,
    /// Why, where a reason is asked for.
    pub reason: String,
}

/// A tenant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Tenant {
    /// What it is now.
    pub fact: TenantFact,
    /// Its creation.
    pub made: Stamp,
    /// The last change; its sequence number is the version.
    pub changed: Stamp,
    /// Since when it is suspended, if it is.
    pub suspended: Option<Stamp>,
}

impl Tenant {
    /// How it is kept apart.
    pub fn tier(&self) -> Tier {
        self.fact.tier.unwrap_or_default()
    }
}

/// A principal.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    /// What it is.
    pub fact: PrincipalFact,
    /// Its creation.
    pub made: Stamp,
    /// Since when it is suspended, if it is.
    pub suspended: Option<Stamp>,
}

/// A credential.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Credential {
    /// What it is.
    pub fact: CredentialFact,
    /// Until when it is valid, which a successor may have shortened; in microseconds.
    pub expires_at: Option<i64>,
    /// SHA-256 of the secret.
    pub secret: Option<[u8; 32]>,
    /// When it was used last, as far as that is on record, to the day; in microseconds.
    pub used_at: Option<i64>,
    /// Its creation.
    pub made: Stamp,
    /// Its revocation.
    pub revoked: Option<Stamp>,
}

/// A grant.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Grant {
    /// What it is.
    pub fact: GrantFact,
    /// Its creation.
    pub made: Stamp,
    /// Its revocation.
    pub revoked: Option<Stamp>,
}

/// An elevation, with all that became of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Elevation {
    /// What was asked.
    pub fact: ElevationFact,
    /// Who asked, when.
    pub asked: Stamp,
    /// Whether it was taken without approval.
    pub is_break_glass: bool,
    /// Who agreed.
    pub approved: Option<Stamp>,
    /// Who did not agree.
    pub refused: Option<Stamp>,
    /// Who ended it.
    pub revoked: Option<Stamp>,
    /// When its end was put on record.
    pub expired: Option<Stamp>,
    /// Who reviewed it.
    pub reviewed: Option<Stamp>,
}

impl Elevation {
    /// From when until when it holds or held, in microseconds; none while it was not agreed to.
    pub fn term(&self) -> Option<(i64, i64)> {
        let start = self.approved.as_ref()?.at;
        let end = start + i64::from(self.fact.minutes) * 60_000_000;
        Some((start, self.revoked.as_ref().map_or(end, |revoked| end.min(revoked.at))))
    }

    /// In one word, at a moment.
    pub fn state(&self, now: i64) -> &'static str {
        match (self.term(), &self.refused) {
            (_, Some(_)) => "refused",
            (None, None) if self.revoked.is_some() => "revoked",
            (None, None) => "asked",
            (Some((_, end)), None) if now < end => "active",
            (Some(_), None) if self.revoked.is_some() => "revoked",
            (Some(_), None) => "expired",
        }
    }
}

/// A right that a principal has on a tenant at a moment: a grant, or an elevation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Right<'r> {
    /// As what.
    pub role: &'r Role,
    /// What narrows it.
    pub limits: Option<&'r GrantLimits>,
    /// The grant or elevation.
    pub id: &'r FactId,
    /// Whether it is an elevation.
    pub is_elevation: bool,
    /// Until when it holds, in microseconds.
    pub ends: Option<i64>,
    /// Whether it reaches the tenants below those that it names.
    pub subtree: bool,
}

/// The registry as of some entry.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Registry {
    /// How many entries of the stream were folded.
    size: u64,
    /// How many of them changed something here.
    changes: u64,
    root: Root,
    ledger: Option<(String, String)>,
    tenants: HashMap<TenantId, Tenant>,
    principals: HashMap<PrincipalId, Principal>,
    credentials: HashMap<FactId, Credential>,
    grants: HashMap<FactId, Grant>,
    elevations: BTreeMap<FactId, Elevation>,
    rights: HashMap<PrincipalId, HashMap<TenantId, Vec<FactId>>>,
    identities: HashMap<IdentityKey, PrincipalId>,
    tenant_quotas: HashMap<TenantId, Quota>,
    tier_quotas: HashMap<Tier, Quota>,
    policies: BTreeMap<String, String>,
    incidents: BTreeMap<FactId, Incident>,
    keys: BTreeMap<TenantId, TenantKeys>,
    ledger_keys: ledger_keys::LedgerKeys,
    residency: HashMap<TenantId, (ResidencyFact, Stamp)>,
    retention: BTreeMap<String, Policy>,
    holds: BTreeMap<FactId, Hold>,
    runs: BTreeMap<FactId, Run>,
    redactions: BTreeMap<FactId, Redaction>,
    jobs: BTreeMap<String, Job>,
    review_rules: HashMap<TenantId, (ReviewRules, Stamp)>,
    reviews: BTreeMap<FactId, Review>,
    main_store: MainStore,
    stores: BTreeMap<TenantId, StoreFact>,
    /// Below which entry the tenants of a store were told of all changes.
    told: HashMap<TenantId, u64>,
    /// Who lives in a store other than the main one.
    residents: HashMap<TenantId, BTreeSet<TenantId>>,
}

impl Registry {
    /// How many entries of the stream it is the fold of.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// A number that is another one whenever something in it has changed.
    pub fn version(&self) -> u64 {
        self.changes
    }

    /// The ledger's name, as the first entry says.
    pub fn ledger(&self) -> Option<&str> {
        self.ledger.as_ref().map(|(name, _)| name.as_str())
    }

    /// The deployer's policies on record: names of files, and their hashes.
    pub fn policies(&self) -> &BTreeMap<String, String> {
        &self.policies
    }

    /// The stores on record, by name.
    pub fn stores(&self) -> &BTreeMap<TenantId, StoreFact> {
        &self.stores
    }

    /// Below which entry the tenants of a store were told of all changes, as far as that is on record.
    pub fn told(&self, store: &TenantId) -> u64 {
        self.told.get(store).copied().unwrap_or_default()
    }

    /// In which store a tenant lives; the main one, when it is not there.
    pub fn placement(&self, tenant: &TenantId) -> &TenantId {
        self.tenants.get(tenant).and_then(|found| found.fact.store.as_ref()).unwrap_or(&self.main_store.0)
    }

    /// In which store a new tenant lives that names none: where its parent does, unless that one is by itself there.
    fn placement_below(&self, parent: &TenantId) -> &TenantId {
        let is_dedicated = self.tenant(parent).is_some_and(|found| found.tier() == Tier::Dedicated);
        if is_dedicated { &self.main_store.0 } else { self.placement(parent) }
    }

    /// How a new tenant is kept apart that does not say it: as its parent, which may be by itself and the new one not.
    pub(crate) fn tier_below(&self, parent: &TenantId) -> Tier {
        let tier = self.tenant(parent).map_or(Tier::Shared, Tenant::tier);
        if tier == Tier::Dedicated { Tier::Shared } else { tier }
    }

    /// A tenant.
    pub fn tenant(&self, tenant: &TenantId) -> Option<&Tenant> {
        self.tenants.get(tenant)
    }

    /// A principal.
    pub fn principal(&self, principal: &PrincipalId) -> Option<&Principal> {
        self.principals.get(principal)
    }

    /// A credential.
    pub fn credential(&self, id: &FactId) -> Option<&Credential> {
        self.credentials.get(id)
    }

    /// The principal whose an identity is.
    pub fn identity(&self, key: &IdentityKey) -> Option<&Principal> {
        self.principals.get(self.identities.get(key)?)
    }

    /// A grant.
    pub fn grant(&self, id: &FactId) -> Option<&Grant> {
        self.grants.get(id)
    }

    /// Every grant, in no order.
    pub fn grants(&self) -> impl Iterator<Item = (&FactId, &Grant)> {
        self.grants.iter()
    }

    /// An elevation.
    pub fn elevation(&self, id: &FactId) -> Option<&Elevation> {
        self.elevations.get(id)
    }

    /// Every elevation, by id.
    pub fn elevations(&self) -> impl Iterator<Item = (&FactId, &Elevation)> {
        self.elevations.iter()
    }

    /// Every tenant, in no order.
    pub fn tenants(&self) -> impl Iterator<Item = (&TenantId, &Tenant)> {
        self.tenants.iter()
    }

    /// The tenant itself, then those above it, the platform last.
    pub fn line<'r>(&'r self, tenant: &'r TenantId) -> impl Iterator<Item = &'r TenantId> {
        // Parents are there before their children and never change places with them, so the line ends. A tenant that is
        // not there would stand below the platform: who may know of all may know that.
        std::iter::successors(Some(tenant), |tenant| match self.tenants.get(*tenant) {
            Some(found) => found.fact.parent.as_ref(),
            None => Some(&self.root.0).filter(|root| root != tenant),
        })
    }

    /// Whether `tenant` is `above` or stands below it.
    pub fn is_within(&self, tenant: &TenantId, above: &TenantId) -> bool {
        self.line(tenant).any(|one| one == above)
    }

    /// Whether the tenant or one above it is suspended.
    pub fn is_suspended(&self, tenant: &TenantId) -> bool {
        self.line(tenant).any(|one| self.tenants.get(one).is_some_and(|tenant| tenant.suspended.is_some()))
    }

    /// The bounds of a tenant: its own, then those of its tier.
    pub fn quota(&self, tenant: &TenantId) -> Quota {
        let of_tier = self.tenants.get(tenant).and_then(|found| self.tier_quotas.get(&found.tier()));
        match (self.tenant_quotas.get(tenant), of_tier) {
            (Some(own), Some(tier)) => Quota {
                events_per_second: own.events_per_second.or(tier.events_per_second),
                bytes_per_second: own.bytes_per_second.or(tier.bytes_per_second),
                concurrent_queries: own.concurrent_queries.or(tier.concurrent_queries),
                scanned_bytes_per_second: own.scanned_bytes_per_second.or(tier.scanned_bytes_per_second),
                stored_bytes: own.stored_bytes.or(tier.stored_bytes),
            },
            (Some(one), None) | (None, Some(one)) => one.clone(),
            (None, None) => Quota::default(),
        }
    }

    /// Every right of a principal on a tenant that holds at a moment.
    pub fn rights<'r>(
        &'r self,
        principal: &'r PrincipalId,
        tenant: &'r TenantId,
        now: i64,
    ) -> impl Iterator<Item = Right<'r>> {
        let of = self.rights.get(principal);
        let ids = self.line(tenant).filter_map(move |one| Some((one, of?.get(one)?)));
        ids.flat_map(move |(one, ids)| ids.iter().filter_map(move |id| self.right(id, one == tenant, now)))
    }

    /// The right that a grant or elevation gives at a moment, on a tenant that it names or only on one below.
    fn right<'r>(&'r self, id: &'r FactId, is_named: bool, now: i64) -> Option<Right<'r>> {
        if let Some(grant) = self.grants.get(id) {
            let ends = grant.fact.limits.expires_at.map(|when| when.0);
            let holds = grant.revoked.is_none() && ends.is_none_or(|end| now < end);
            let reaches = is_named || grant.fact.subtree;
            let (role, limits, subtree) = (&grant.fact.role, Some(&grant.fact.limits), grant.fact.subtree);
            let right = Right { role, limits, id, is_elevation: false, ends, subtree };
            return (holds && reaches).then_some(right);
        }
        let elevation = self.elevations.get(id)?;
        let (start, end) = elevation.term()?;
        let role = &elevation.fact.role;
        let right = Right { role, limits: None, id, is_elevation: true, ends: Some(end), subtree: false };
        (is_named && (start..end).contains(&now)).then_some(right)
    }

    /// Every grant of a principal that holds at a moment, by id.
    pub fn grants_of(&self, principal: &PrincipalId, now: i64) -> impl Iterator<Item = &Grant> {
        let ids: BTreeSet<&FactId> =
            self.rights.get(principal).into_iter().flat_map(HashMap::values).flatten().collect();
        let holds =
            move |grant: &&Grant| grant.revoked.is_none() && grant.fact.limits.expires_at.is_none_or(|end| now < end.0);
        ids.into_iter().filter_map(|id| self.grants.get(id)).filter(holds)
    }
}

#[cfg(test)]
mod tests;
