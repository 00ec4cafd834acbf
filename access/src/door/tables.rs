//! The registry as callers see it.
//!
//! Not here: what a row holds (`registry::rows`). Invariant: a row about several tenants names only those that the caller
//! may see that of.

use super::Door;
use crate::caller::Caller;
use crate::policy::Action;
use crate::problem::{Problem, ProblemKind};
use crate::registry::names::FactId;
use crate::registry::{Elevation, Incident, Registry, Row, Table, nowhere, platform};
use ledger::name::{StreamKind, TenantId};
use serde_json::{Map, Value, json};
use std::collections::BTreeSet;

impl Door {
    /// A tenant and those below it, as far as the caller may know of them.
    pub fn known_below(&self, caller: &Caller, above: &TenantId) -> Vec<TenantId> {
        let all: Vec<TenantId> = {
            let registry = self.0.book.read();
            registry.tenants().map(|(tenant, _)| tenant).filter(|one| registry.is_within(one, above)).cloned().collect()
        };
        let knows = |tenant: &TenantId| {
            self.decide(caller, Action::ReadTenant, tenant, StreamKind::Control).is_some()
                || self.sees(caller, tenant, StreamKind::Audit)
        };
        all.into_iter().filter(knows).collect()
    }

    /// Signs that a report about a tenant was given out.
    ///
    /// # Errors
    /// The tenant's store is not open now.
    pub fn sign_report(&self, tenant: &TenantId, kind: &str, sha256: ledger::Hash) -> Result<String, Problem> {
        Ok(self.0.book.store_of(tenant)?.sign_report(kind, sha256))
    }

    /// Whether the caller may see the service's metrics.
    ///
    /// # Errors
    /// As [`Door::may`].
    pub fn may_see_metrics(&self, caller: &Caller) -> Result<(), Problem> {
        self.may(caller, Action::ReadMetrics, &platform(), StreamKind::Control).map(drop)
    }

    /// A table of the registry, now or as of a moment: the rows about tenants that the caller may see that of, and of
    /// those that are about several, no more than that.
    ///
    /// # Errors
    /// The history cannot be read.
    pub async fn table(
        &self,
        caller: &Caller,
        table: Table,
        as_of: Option<i64>,
    ) -> Result<Vec<Map<String, Value>>, Problem> {
        let sees = |tenant: &TenantId| self.decide(caller, table.action(), tenant, StreamKind::Control).is_some();
        let sees_all = sees(&nowhere());
        if as_of.is_some() && !sees_all {
            // Who sees nothing now need not make us fold the past.
            let some = table.rows(&self.0.book.read(), self.now());
            if !some.iter().any(|row| row.tenants.iter().any(sees)) {
                return Ok(Vec::new());
            }
        }
        let _place = match as_of {
            Some(_) => self.0.folds.acquire().await.ok(),
            None => None,
        };
        let rows = match as_of {
            Some(at) => table.rows(&self.0.book.as_of(at, None).await?, at),
            None => table.rows(&self.0.book.read(), self.now()),
        };
        let shown = rows.into_iter().filter_map(|mut row| {
            if !sees_all {
                row.tenants.retain(sees);
                if row.tenants.is_empty() {
                    return None;
                }
                if row.columns.contains_key("tenants") {
                    let names = row.tenants.iter().map(TenantId::as_str).collect();
                    row.columns.insert("tenants".into(), names);
                }
            }
            Some(row)
        });
        let mut shown: Vec<Row> = shown.collect();
        if table == Table::Tenants && as_of.is_none() {
            shown.iter_mut().for_each(|row| self.put_stored(row));
        }
        if table == Table::Credentials && as_of.is_none() {
            shown.iter_mut().for_each(|row| self.put_last_use(row));
        }
        let platform = platform();
        let of: BTreeSet<&TenantId> =
            if sees_all { [&platform].into() } else { shown.iter().flat_map(|row| &row.tenants).collect() };
        for tenant in of {
            if let Some(sight) = self.decide(caller, table.action(), tenant, StreamKind::Control) {
                self.touch(caller, table.action(), tenant, StreamKind::Control, &sight, (0, 0));
            }
        }
        Ok(shown.into_iter().map(|row| row.columns).collect())
    }

    /// An incident, with all of its history.
    ///
    /// # Errors
    /// There is none that the caller may see: said alike whether there is one or not.
    pub fn incident(&self, caller: &Caller, id: &FactId) -> Result<Incident, Problem> {
        let nothing = || Problem::new(ProblemKind::NotFound, format!("there is no incident {id} that you may see"));
        let found = self.0.book.read().incident(id).cloned().ok_or_else(nothing)?;
        let home = found.home();
        if self.decide(caller, Action::ReadIncidents, &home, StreamKind::Control).is_none() {
            return Err(nothing());
        }
        self.may(caller, Action::ReadIncidents, &home, StreamKind::Control)?;
        Ok(found)
    }

    /// Entries and sealed bytes of a tenant, of all its streams together; not known while its store is not open.
    pub(super) fn stored(&self, tenant: &TenantId) -> Option<(u64, u64)> {
        let store = self.0.book.store_of(tenant).ok()?;
        let streams = StreamKind::ALL.into_iter().filter_map(|stream| store.reader(tenant, stream).ok());
        Some(streams.fold((0, 0), |(entries, bytes), stream| {
            let (more, larger) = stream.stored();
            (entries + more, bytes + larger)
        }))
    }

    /// When a key was used last: by the minute since this process started, before that as it stands on record.
    fn put_last_use(&self, row: &mut Row) {
        let id = row.columns["credential"].as_str().and_then(|id| id.parse::<FactId>().ok());
        if let Some(at) = id.and_then(|id| self.last_use(&id)) {
            row.columns.insert("last_used_at".into(), ledger::time::format_micros(at).into());
        }
    }

    fn put_stored(&self, row: &mut Row) {
        let Some((entries, bytes)) = row.tenants.first().and_then(|tenant| self.stored(tenant)) else { return };
        row.columns.insert("entries".into(), entries.into());
        row.columns.insert("stored_bytes".into(), bytes.into());
    }

    /// A caller's rights, as the caller may see them.
    pub(crate) fn rights_of(&self, registry: &Registry, caller: &Caller) -> Vec<Value> {
        let now = self.now();
        let grants = registry.grants_of(caller.principal(), now);
        let elevations = registry.elevations().filter(|(_, elevation)| {
            elevation.fact.principal.as_ref() == Some(caller.principal()) && elevation.state(now) == "active"
        });
        let of_elevation = |(id, elevation): (&FactId, &Elevation)| {
            json!({"elevation": id, "role": elevation.fact.role, "ends_at": elevation.term().map(|(_, end)| ledger::time::format_micros(end)),
                "tenants": elevation.fact.tenants.iter().map(TenantId::as_str).collect::<Vec<_>>()})
        };
        grants.map(|grant| json!(grant.fact)).chain(elevations.map(of_elevation)).collect()
    }
}
