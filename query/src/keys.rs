//! The key register: which keys a tenant has or had, in which state, and how much lies under each; signed.
//!
//! Not here: keys themselves (`access::keys`), what is under them (`ledger_store`). Invariant: no key is in it, wrapped or
//! not.

use crate::http::tenant_of;
use crate::state::QueryState;
use access::openapi::{self, Operation, json_of};
use access::registry::Table;
use access::{Action, Caller, Problem, ProblemKind, Recording, Routes};
use axum::Json;
use axum::extract::{Path, State};
use axum::routing::get;
use ledger::{StreamKind, TenantId};
use serde::Serialize;
use serde_json::{Map, Value};

const KEYS: Operation = Operation {
    summary: "the register of a tenant's keys, and how much is under each; signed",
    parameters: &[openapi::TENANT],
    body: &[],
    answer: &[json_of(openapi::object)],
    problems: &[ProblemKind::NotFound, ProblemKind::Gone, ProblemKind::Unavailable],
};

/// The kind of report that is signed.
pub(crate) const REPORT: &str = "keys";

/// Adds the route.
pub fn routes(routes: Routes<QueryState>) -> Routes<QueryState> {
    routes.route("GET", "/v1/tenants/{tenant}/keys", Recording::Each, KEYS, get(register))
}

/// What is under one key, or under none.
#[derive(Debug, Serialize)]
pub(crate) struct Under {
    /// Which; none of what is plain.
    key: Option<String>,
    segments: u64,
    entries: u64,
    bytes: u64,
}

/// The register of one tenant.
#[derive(Debug, Serialize)]
pub(crate) struct Register {
    tenant: String,
    as_of: String,
    keys: Vec<Map<String, Value>>,
    sealed: Vec<Under>,
    /// What this does not say.
    limits: &'static str,
}

const LIMITS: &str = "Entries that are not sealed yet are in the write-ahead log, each under the key that was current when it \
     came. Copies elsewhere, and files that compaction replaced and that wait out their time of grace, are not counted.";

async fn register(
    State(state): State<QueryState>,
    caller: Caller,
    Path(name): Path<String>,
) -> Result<Json<Value>, Problem> {
    let tenant = tenant_of(&name)?;
    let register = state.key_register(&caller, &tenant).await?;
    Ok(Json(state.signed(&tenant, REPORT, &register)?))
}

impl QueryState {
    /// The register of a tenant's keys.
    ///
    /// # Errors
    /// Seeing it is not granted to the caller, or a store does not answer.
    pub(crate) async fn key_register(&self, caller: &Caller, tenant: &TenantId) -> Result<Register, Problem> {
        let door = self.door();
        door.may(caller, Action::ReadKeys, tenant, StreamKind::Control)?;
        let mut keys = door.table(caller, Table::Keys, None).await?;
        keys.retain(|row| row["tenant"] == tenant.as_str());
        let used = door.key_use(caller, tenant).await?;
        let sealed = used.into_iter().map(|(key, segments, entries, bytes)| Under { key, segments, entries, bytes });
        let as_of = ledger::time::format_micros(door.now());
        Ok(Register { tenant: tenant.to_string(), as_of, keys, sealed: sealed.collect(), limits: LIMITS })
    }
}
