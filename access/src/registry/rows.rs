//! The registry as tables: what is asked over HTTP and in SQL.
//!
//! Not here: which rows a caller may see ([`crate::Door`]). Invariant: a row says which tenants it is about, and holds
//! no secret and no hash of one.

use super::change::GrantLimits;
use super::{Registry, Stamp};
use crate::policy::Action;
use ledger::name::TenantId;
use serde_json::{Map, Value, json};

/// A table of the registry.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Table {
    /// Tenants, their place in the tree, tiers and bounds.
    Tenants,
    /// Who there is.
    Principals,
    /// With what they prove to be it.
    Credentials,
    /// What they may do.
    Grants,
    /// What was lent to them for a while.
    Elevations,
    /// What went wrong, and what was made of it.
    Incidents,
    /// Reviews of who has access.
    Reviews,
    /// How long data is kept.
    Policies,
    /// What stays, whatever a policy says.
    Holds,
    /// What was purged or redacted.
    Certificates,
    /// Keys that tenants' content is encrypted under.
    Keys,
    /// Keys that the ledger is signed with.
    LedgerKeys,
    /// What data subjects asked to have erased.
    Redactions,
    /// Jobs of the service, with the newest run of each.
    Jobs,
}

/// One row, and whom it concerns.
#[derive(Debug, Clone, PartialEq)]
pub struct Row {
    /// The tenants that it is about; the platform's own when there is none.
    pub tenants: Vec<TenantId>,
    /// Its columns.
    pub columns: Map<String, Value>,
}

impl Table {
    /// All of them.
    pub const ALL: [Table; 14] = [
        Self::Tenants,
        Self::Principals,
        Self::Credentials,
        Self::Grants,
        Self::Elevations,
        Self::Incidents,
        Self::Reviews,
        Self::Policies,
        Self::Holds,
        Self::Certificates,
        Self::Keys,
        Self::LedgerKeys,
        Self::Redactions,
        Self::Jobs,
    ];

    /// The name in paths and in SQL.
    pub fn name(self) -> &'static str {
        match self {
            Self::Tenants => "tenants",
            Self::Principals => "principals",
            Self::Credentials => "credentials",
            Self::Grants => "grants",
            Self::Elevations => "elevations",
            Self::Incidents => "incidents",
            Self::Reviews => "reviews",
            Self::Policies => "policies",
            Self::Holds => "holds",
            Self::Certificates => "certificates",
            Self::Keys => "keys",
            Self::LedgerKeys => "ledger_keys",
            Self::Redactions => "redactions",
            Self::Jobs => "jobs",
        }
    }

    /// What one must be granted on a tenant to see rows about it.
    pub fn action(self) -> Action {
        match self {
            Self::Tenants => Action::ReadTenant,
            Self::Incidents => Action::ReadIncidents,
            Self::Reviews => Action::ReadReviews,
            Self::Policies | Self::Holds | Self::Certificates | Self::Redactions => Action::ReadRetention,
            Self::Keys | Self::LedgerKeys => Action::ReadKeys,
            Self::Jobs => Action::ReadJobs,
            _ => Action::ReadGrants,
        }
    }

    /// The columns, in order. Those that end in `_at` are times, `version`, `minutes`, `entries`,
    /// `stored_bytes`, `items`, `open_items`, `missed`, `millis`, `findings` and `failed_runs` are whole numbers, `subtree`,
    /// `suspended` and `break_glass` truth values, all others text; lists are JSON.
    pub fn columns(self) -> Vec<&'static str> {
        let names = match self {
            Self::Tenants => {
                "tenant name parent tier store region suspended suspended_because quota created_at created_by changed_at \
                 changed_by version entries stored_bytes"
            }
            Self::Principals => "principal kind name home suspended suspended_because created_at created_by",
            Self::Credentials => {
                "credential principal home state actions not_before_at expires_at created_at created_by last_used_at \
                 revoked_at revoked_by revoked_because"
            }
            Self::Grants => {
                "grant principal role tenants subtree streams rows masked since_at until_at purpose state expires_at \
                 created_at created_by revoked_at revoked_by revoked_because"
            }
            Self::Elevations => {
                "elevation principal role tenants reason ticket minutes state break_glass asked_at approved_at \
                 approved_by approved_because ends_at refused_at refused_by refused_because revoked_at revoked_by \
                 revoked_because reviewed_at reviewed_by reviewed_because"
            }
            Self::Incidents => super::incidents::COLUMNS,
            Self::Reviews => super::reviews::COLUMNS,
            Self::Policies => super::retention::POLICY_COLUMNS,
            Self::Holds => super::retention::HOLD_COLUMNS,
            Self::Certificates => super::retention::CERTIFICATE_COLUMNS,
            Self::Keys => super::keys::COLUMNS,
            Self::LedgerKeys => super::ledger_keys::COLUMNS,
            Self::Redactions => super::redaction::COLUMNS,
            Self::Jobs => super::jobs::COLUMNS,
        };
        names.split_whitespace().collect()
    }

    /// Every row, by its name; states are those of a moment.
    pub fn rows(self, registry: &Registry, now: i64) -> Vec<Row> {
        let mut rows: Vec<Row> = match self {
            Self::Tenants => registry.tenants.values().map(|tenant| of_tenant(registry, tenant)).collect(),
            Self::Principals => registry.principals.values().map(of_principal).collect(),
            Self::Credentials => {
                registry.credentials.values().map(|credential| of_credential(registry, credential, now)).collect()
            }
            Self::Grants => registry.grants.values().map(|grant| of_grant(grant, now)).collect(),
            Self::Elevations => registry.elevations.values().map(|elevation| of_elevation(elevation, now)).collect(),
            Self::Incidents => registry.incidents.values().map(super::Incident::row).collect(),
            Self::Reviews => registry.reviews.values().map(super::Review::row).collect(),
            Self::Policies => registry.policy_rows(),
            Self::Holds => registry.hold_rows(),
            Self::Certificates => registry.certificate_rows(),
            Self::Keys => registry.key_rows(),
            Self::LedgerKeys => registry.ledger_key_rows(),
            Self::Redactions => registry.redaction_rows(),
            Self::Jobs => registry.job_rows(now),
        };
        let key = self.columns()[0];
        rows.sort_by(|a, b| a.columns[key].as_str().cmp(&b.columns[key].as_str()));
        rows
    }
}

pub(super) type Columns = Map<String, Value>;

pub(super) fn time(micros: i64) -> Value {
    ledger::time::format_micros(micros).into()
}

pub(super) fn done(columns: &mut Columns, what: &str, stamp: &Stamp) {
    columns.insert(format!("{what}_at"), time(stamp.at));
    columns.insert(format!("{what}_by"), stamp.by.as_str().into());
}

fn undone(columns: &mut Columns, what: &str, stamp: Option<&Stamp>) {
    if let Some(stamp) = stamp {
        done(columns, what, stamp);
        columns.insert(format!("{what}_because"), stamp.reason.as_str().into());
    }
}

fn of_tenant(registry: &Registry, tenant: &super::Tenant) -> Row {
    let fact = &tenant.fact;
    let mut columns = Columns::new();
    columns.insert("tenant".into(), fact.tenant.as_str().into());
    columns.insert("name".into(), fact.name.as_str().into());
    columns.insert("parent".into(), fact.parent.as_ref().map(|parent| parent.as_str()).into());
    columns.insert("tier".into(), tenant.tier().as_str().into());
    let store = registry.placement(&fact.tenant);
    columns.insert("store".into(), store.as_str().into());
    let region = registry.stores.get(store).and_then(|fact| fact.region.as_deref());
    columns.insert("region".into(), region.into());
    columns.insert("suspended".into(), registry.is_suspended(&fact.tenant).into());
    columns.insert("suspended_because".into(), tenant.suspended.as_ref().map(|stamp| stamp.reason.as_str()).into());
    let quota = serde_json::to_value(registry.quota(&fact.tenant)).unwrap_or_default();
    columns.insert("quota".into(), quota);
    done(&mut columns, "created", &tenant.made);
    done(&mut columns, "changed", &tenant.changed);
    columns.insert("version".into(), tenant.changed.seq.into());
    Row { tenants: vec![fact.tenant.clone()], columns }
}

fn of_principal(principal: &super::Principal) -> Row {
    let fact = &principal.fact;
    let mut columns = Columns::new();
    columns.insert("principal".into(), fact.principal.as_str().into());
    columns.insert("kind".into(), fact.kind.as_str().into());
    columns.insert("name".into(), fact.name.as_str().into());
    columns.insert("home".into(), fact.home.as_ref().map(|home| home.as_str()).into());
    columns.insert("suspended".into(), principal.suspended.is_some().into());
    columns.insert("suspended_because".into(), principal.suspended.as_ref().map(|stamp| stamp.reason.as_str()).into());
    done(&mut columns, "created", &principal.made);
    Row { tenants: fact.home.iter().cloned().collect(), columns }
}

fn of_credential(registry: &Registry, credential: &super::Credential, now: i64) -> Row {
    let fact = &credential.fact;
    let home = registry.principal(&fact.principal).and_then(|found| found.fact.home.clone());
    let state = match () {
        () if credential.revoked.is_some() => "revoked",
        () if credential.expires_at.is_some_and(|end| now >= end) => "expired",
        () if fact.not_before.is_some_and(|start| now < start.0) => "not yet valid",
        () => "valid",
    };
    let mut columns = Columns::new();
    columns.insert("credential".into(), fact.credential.as_ref().map(|id| id.as_str()).into());
    columns.insert("principal".into(), fact.principal.as_str().into());
    columns.insert("home".into(), home.as_ref().map(|home| home.as_str()).into());
    columns.insert("state".into(), state.into());
    if !fact.actions.is_empty() {
        columns.insert("actions".into(), json!(fact.actions));
    }
    columns.insert("not_before_at".into(), fact.not_before.map_or(Value::Null, |when| time(when.0)));
    columns.insert("expires_at".into(), credential.expires_at.map_or(Value::Null, time));
    done(&mut columns, "created", &credential.made);
    columns.insert("last_used_at".into(), credential.used_at.map_or(Value::Null, time));
    undone(&mut columns, "revoked", credential.revoked.as_ref());
    Row { tenants: home.into_iter().collect(), columns }
}

fn names(tenants: &[TenantId]) -> Value {
    tenants.iter().map(TenantId::as_str).collect()
}

fn of_grant(grant: &super::Grant, now: i64) -> Row {
    let fact = &grant.fact;
    let GrantLimits { streams, rows, masked, since, until, purpose, expires_at } = &fact.limits;
    let state = match () {
        () if grant.revoked.is_some() => "revoked",
        () if expires_at.is_some_and(|end| now >= end.0) => "expired",
        () => "holds",
    };
    let mut columns = Columns::new();
    columns.insert("grant".into(), fact.grant.as_ref().map(|id| id.as_str()).into());
    columns.insert("principal".into(), fact.principal.as_str().into());
    columns.insert("role".into(), fact.role.as_str().into());
    columns.insert("tenants".into(), names(&fact.tenants));
    columns.insert("subtree".into(), fact.subtree.into());
    if !streams.is_empty() {
        columns.insert("streams".into(), streams.iter().map(|stream| stream.as_str()).collect());
    }
    if !rows.is_empty() {
        columns.insert("rows".into(), json!(rows));
    }
    if !masked.is_empty() {
        columns.insert("masked".into(), masked.iter().map(|masked| masked.0.as_str()).collect());
    }
    columns.insert("since_at".into(), since.map_or(Value::Null, |when| time(when.0)));
    columns.insert("until_at".into(), until.map_or(Value::Null, |when| time(when.0)));
    columns.insert("purpose".into(), purpose.as_str().into());
    columns.insert("state".into(), state.into());
    columns.insert("expires_at".into(), expires_at.map_or(Value::Null, |when| time(when.0)));
    done(&mut columns, "created", &grant.made);
    undone(&mut columns, "revoked", grant.revoked.as_ref());
    Row { tenants: fact.tenants.clone(), columns }
}

fn of_elevation(elevation: &super::Elevation, now: i64) -> Row {
    let fact = &elevation.fact;
    let mut columns = Columns::new();
    columns.insert("elevation".into(), fact.elevation.as_ref().map(|id| id.as_str()).into());
    columns.insert("principal".into(), fact.principal.as_ref().map(|principal| principal.as_str()).into());
    columns.insert("role".into(), fact.role.as_str().into());
    columns.insert("tenants".into(), names(&fact.tenants));
    columns.insert("reason".into(), fact.reason.as_str().into());
    columns.insert("ticket".into(), fact.ticket.as_str().into());
    columns.insert("minutes".into(), fact.minutes.into());
    columns.insert("state".into(), elevation.state(now).into());
    columns.insert("break_glass".into(), elevation.is_break_glass.into());
    columns.insert("asked_at".into(), time(elevation.asked.at));
    undone(&mut columns, "approved", elevation.approved.as_ref());
    columns.insert("ends_at".into(), elevation.term().map_or(Value::Null, |(_, end)| time(end)));
    undone(&mut columns, "refused", elevation.refused.as_ref());
    undone(&mut columns, "revoked", elevation.revoked.as_ref());
    undone(&mut columns, "reviewed", elevation.reviewed.as_ref());
    Row { tenants: fact.tenants.clone(), columns }
}
