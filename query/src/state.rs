//! What the handlers of `query` hold: the door that hands out streams, and the engine.
//!
//! Here names become handles and handles become snapshots; each by the door, so that no question reaches a stream that
//! was not granted. Not here: HTTP ([`crate::http`]), SQL ([`crate::session`]).

use crate::error::QueryError;
use crate::events::{self, Filter, Page};
use crate::limits::{Exceeded, Limits};
use crate::run::{Answer, Engine, Question};
use crate::session::TABLES;
use access::Door;
use access::problem::{Problem, ProblemKind};
use futures::{StreamExt, TryStreamExt};
use ledger::{StreamKind, TenantId};
use ledger_store::{Snapshot, StreamHandle};
use std::collections::HashSet;

/// Snapshots that are taken at the same time.
const SNAPSHOTS_AT_ONCE: usize = 16;

/// The state of this crate's routes.
#[derive(Clone)]
pub struct QueryState {
    door: Door,
    engine: Engine,
}

impl QueryState {
    /// Starts the query threads behind this door.
    ///
    /// # Errors
    /// [`QueryError::Internal`] if threads cannot be started.
    pub fn new(door: Door, limits: Limits) -> Result<Self, QueryError> {
        Ok(Self { door, engine: Engine::new(limits)? })
    }

    /// The engine, for questions about snapshots that the caller holds already.
    pub fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Answers SQL over the tables of these tenants.
    ///
    /// # Errors
    /// A problem that says what to do; 404 for a tenant that is not there.
    pub async fn run_sql(&self, tenants: &[TenantId], sql: &str) -> Result<Answer, Problem> {
        let snapshots = self.snapshots(tenants).await?;
        Ok(self.engine.sql(snapshots, sql).await?)
    }

    /// A page of one stream.
    ///
    /// # Errors
    /// As [`QueryState::run_sql`].
    pub async fn events(&self, tenant: &TenantId, kind: StreamKind, filter: Filter) -> Result<Page, Problem> {
        let snapshot = self.stream(tenant, kind).await?.snapshot().await?;
        let limit = filter.limit;
        let answer = self.engine.ask(vec![snapshot], Question::Events(filter)).await?;
        Ok(events::page(answer, limit).await?)
    }

    /// One stream.
    ///
    /// # Errors
    /// 404 if the tenant has no such stream.
    pub async fn stream(&self, tenant: &TenantId, kind: StreamKind) -> Result<StreamHandle, Problem> {
        self.door.read(tenant, kind).await
    }

    async fn snapshots(&self, tenants: &[TenantId]) -> Result<Vec<Snapshot>, Problem> {
        let most = self.engine.limits().tenants;
        if tenants.is_empty() {
            return Err(Problem::new(ProblemKind::Malformed, "tenants is empty: name the tenants that are asked"));
        }
        if tenants.len() > most {
            return Err(QueryError::from(Exceeded::Tenants { tenants: most }).into());
        }
        let known: HashSet<TenantId> = self.door.tenants().into_iter().collect();
        let asked: HashSet<&TenantId> = tenants.iter().collect();
        if let Some(unknown) = tenants.iter().find(|tenant| !known.contains(*tenant)) {
            return Err(Problem::new(ProblemKind::NotFound, format!("there is no tenant {unknown}")));
        }
        let mut asked: Vec<(TenantId, StreamKind)> =
            asked.into_iter().flat_map(|tenant| TABLES.map(|kind| (tenant.clone(), kind))).collect();
        asked.sort_unstable();
        let taken =
            futures::stream::iter(asked).map(|(tenant, kind)| async move { self.snapshot(&tenant, kind).await });
        let taken: Vec<Option<Snapshot>> = taken.buffered(SNAPSHOTS_AT_ONCE).try_collect().await?;
        Ok(taken.into_iter().flatten().collect())
    }

    /// A snapshot of a stream; none if a known tenant never had that stream.
    async fn snapshot(&self, tenant: &TenantId, kind: StreamKind) -> Result<Option<Snapshot>, Problem> {
        match self.door.read(tenant, kind).await {
            Ok(handle) => Ok(Some(handle.snapshot().await?)),
            Err(problem) if problem.kind() == ProblemKind::NotFound => Ok(None),
            Err(problem) => Err(problem),
        }
    }
}
