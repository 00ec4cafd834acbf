//! What the handlers of `query` hold: the door that hands out streams, and the engine.
//!
//! Here names become handles and handles become snapshots; each by the door, so that no question reaches a stream that
//! was not granted. Not here: HTTP ([`crate::http`]), SQL ([`crate::session`]).

use crate::controls::ControlMap;
use crate::error::QueryError;
use crate::events::{self, Filter, Page};
use crate::evidence::Running;
use crate::guard::{Refused, SQL_BYTES};
use crate::limits::{Exceeded, Limits};
use crate::registry;
use crate::run::{Answer, Engine, Question};
use crate::session::TABLES;
use crate::table::Seen;
use access::{Action, Asking, Caller, Door, Opened, Problem, ProblemKind, View};
use futures::{StreamExt, TryStreamExt};
use ledger::{Hash, StreamKind, TenantId};
use ledger_store::StreamHandle;
use serde::Serialize;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::sync::Arc;

/// Snapshots that are taken at the same time.
pub(crate) const SNAPSHOTS_AT_ONCE: usize = 16;

/// The state of this crate's routes.
#[derive(Clone)]
pub struct QueryState {
    door: Door,
    engine: Engine,
    running: Arc<Running>,
    controls: Arc<ControlMap>,
}

impl QueryState {
    /// Starts the query threads behind this door.
    ///
    /// # Errors
    /// [`QueryError::Internal`] if threads cannot be started.
    pub fn new(door: Door, limits: Limits, controls: ControlMap) -> Result<Self, QueryError> {
        Ok(Self { door, engine: Engine::new(limits)?, running: Arc::default(), controls: Arc::new(controls) })
    }

    /// The engine, for questions about snapshots that the caller holds already.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Lets go of what is kept in memory of segments that were replaced.
    pub fn forget_removed(&self) {
        self.engine.forget_removed();
    }

    /// Which questions and artefacts satisfy which control.
    pub(crate) fn controls(&self) -> &ControlMap {
        &self.controls
    }

    /// The bundles that are being made.
    pub(crate) fn running(&self) -> &Running {
        &self.running
    }

    /// The door that it asks.
    pub(crate) fn door(&self) -> &Door {
        &self.door
    }

    /// Answers SQL over the tables of these tenants.
    ///
    /// # Errors
    /// A problem that says what to do; 403 when none of a tenant's streams is granted to the caller.
    pub async fn run_sql(&self, caller: &Caller, tenants: &[TenantId], sql: &str) -> Result<Answer, Problem> {
        if sql.len() > SQL_BYTES {
            return Err(QueryError::Refused(Refused::TooLong).into());
        }
        caller.visit().note("sql", sql);
        self.answer_sql(caller, tenants, sql).await
    }

    /// The same, without a note of what was asked: for whoever notes what it is for.
    ///
    /// # Errors
    /// As [`QueryState::run_sql`].
    pub(crate) async fn answer_sql(&self, caller: &Caller, tenants: &[TenantId], sql: &str) -> Result<Answer, Problem> {
        let mut registry = Vec::new();
        for table in registry::named_in(sql) {
            registry.push((table, self.door.table(caller, table, None).await?));
        }
        if tenants.is_empty() && registry.is_empty() {
            return Err(Problem::new(ProblemKind::Malformed, "tenants is empty: name the tenants that are asked"));
        }
        let snapshots = self.snapshots(caller, tenants).await?;
        caller.visit().progress().next("reading", 0, "segments");
        // Held by the answer until its end: a quota counts questions that are being answered.
        let asking =
            tenants.iter().map(|tenant| self.door.ask_about(tenant)).collect::<Result<Vec<Asking>, Problem>>()?;
        Ok(self.engine.ask(snapshots, Question::Sql(sql.into(), registry)).await?.holding(asking))
    }

    /// A page of one stream.
    ///
    /// # Errors
    /// As [`QueryState::run_sql`].
    pub async fn events(
        &self,
        caller: &Caller,
        tenant: &TenantId,
        kind: StreamKind,
        filter: Filter,
    ) -> Result<Page, Problem> {
        let opened = self.door.read(caller, tenant, kind, Action::ReadEvents).await?;
        let snapshot = seen(&opened).await?;
        let limit = filter.limit;
        let answer = self.engine.ask(vec![snapshot], Question::Events(filter)).await?;
        Ok(events::page(answer, limit).await?)
    }

    /// One stream, for its heads, proofs and tiles.
    ///
    /// # Errors
    /// 403 if that is not granted to the caller, 404 if the tenant has no such stream.
    pub async fn proofs(&self, caller: &Caller, tenant: &TenantId, kind: StreamKind) -> Result<StreamHandle, Problem> {
        Ok(self.door.read(caller, tenant, kind, Action::ReadProofs).await?.handle)
    }

    /// One stream, for what its tiles say of every entry.
    ///
    /// # Errors
    /// 403 if reading events is not granted to the caller, or not of every entry; 404 if the tenant has no such stream.
    pub async fn entries(&self, caller: &Caller, tenant: &TenantId, kind: StreamKind) -> Result<StreamHandle, Problem> {
        let opened = self.door.read(caller, tenant, kind, Action::ReadEvents).await?;
        if opened.sight.views().iter().any(View::shows_all_rows) {
            return Ok(opened.handle);
        }
        let detail = "these tiles hold the skeletons of all entries, and you see only some of them";
        Err(Problem::new(ProblemKind::Forbidden, detail))
    }

    /// A report with the ledger's signature over the hash of its bytes.
    ///
    /// # Errors
    /// The tenant's store is not open now.
    pub(crate) fn signed(&self, tenant: &TenantId, kind: &str, report: &impl Serialize) -> Result<Value, Problem> {
        let answer = serde_json::to_value(report).map_err(|_| Problem::new(ProblemKind::Internal, "no report"))?;
        let hash = Hash::of(answer.to_string().as_bytes());
        let note = self.door.sign_report(tenant, kind, hash)?;
        Ok(json!({"answer_sha256": hash.to_hex(), "note": note, "answer": answer}))
    }

    async fn snapshots(&self, caller: &Caller, tenants: &[TenantId]) -> Result<Vec<Seen>, Problem> {
        let most = self.engine.limits().tenants;
        if tenants.len() > most {
            return Err(QueryError::from(Exceeded::Tenants { tenants: most }).into());
        }
        let asked: BTreeSet<&TenantId> = tenants.iter().collect();
        let mut opened = Vec::with_capacity(asked.len());
        for tenant in asked {
            opened.extend(self.door.read_all(caller, tenant, &TABLES)?);
        }
        let taken = futures::stream::iter(opened).map(|opened| async move { seen(&opened).await });
        taken.buffered(SNAPSHOTS_AT_ONCE).try_collect().await
    }
}

/// A stream as of now, as far as it may be seen.
pub(crate) async fn seen(opened: &Opened) -> Result<Seen, Problem> {
    let (sight, meter) = (Some(Arc::clone(&opened.sight)), opened.meter.clone());
    Ok(Seen { snapshot: opened.handle.snapshot().await?, sight, meter })
}
