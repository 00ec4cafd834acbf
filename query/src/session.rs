//! A session per question: the granted tables, the listed functions, fixed settings, and nothing else to name.
//!
//! Shared by all sessions: the memory pool, what is kept of segments, the function objects. Not here: who may ask
//! (`access`), which text is run ([`crate::guard`]), running ([`crate::run`]).
//!
//! Invariants: a session can reach no store, file, setting or table beside those it was made with; nothing is
//! spilled to disk, so no tenant's rows are written outside its store.

use crate::error::QueryError;
use crate::functions::Functions;
use crate::guard;
use crate::limits::Limits;
use crate::reader::Segments;
use crate::registry::{self, Rows};
use crate::table::{Seen, Shapes, StreamTable};
use datafusion::error::DataFusionError;
use datafusion::execution::SessionStateDefaults;
use datafusion::execution::context::SQLOptions;
use datafusion::execution::context::SessionContext;
use datafusion::execution::disk_manager::{DiskManagerBuilder, DiskManagerMode};
use datafusion::execution::memory_pool::GreedyMemoryPool;
use datafusion::execution::runtime_env::{RuntimeEnv, RuntimeEnvBuilder};
use datafusion::execution::session_state::{SessionState, SessionStateBuilder};
use datafusion::logical_expr::LogicalPlan;
use datafusion::prelude::SessionConfig;
use ledger::StreamKind;
use std::sync::Arc;

/// The streams that are tables.
pub(crate) const TABLES: [StreamKind; 4] = StreamKind::ALL;

/// What sessions share.
pub(crate) struct Sessions {
    runtime: Arc<RuntimeEnv>,
    functions: Functions,
    config: SessionConfig,
    segments: Arc<Segments>,
    shapes: Shapes,
}

impl Sessions {
    /// Makes what sessions share.
    ///
    /// # Errors
    /// The engine refused its own settings: a defect, found at start-up.
    pub fn new(limits: &Limits) -> Result<Self, QueryError> {
        let start = |e: DataFusionError| QueryError::of_planning(&e);
        let runtime = RuntimeEnvBuilder::new()
            .with_memory_pool(Arc::new(GreedyMemoryPool::new(limits.memory_bytes)))
            .with_disk_manager_builder(DiskManagerBuilder::default().with_mode(DiskManagerMode::Disabled))
            .build_arc()
            .map_err(start)?;
        let shapes = Shapes::of(&ledger_store::columns::schema());
        let segments = Arc::new(Segments::new(limits.kept_bytes, Arc::clone(&shapes.sql)));
        Ok(Self { runtime, functions: Functions::allowed(), config: config(limits), segments, shapes })
    }

    /// A session over these snapshots.
    ///
    /// # Errors
    /// [`QueryError::Internal`] if the snapshots are not of the store's schema.
    pub fn open(&self, snapshots: Vec<Seen>, registry: &[Rows]) -> Result<Session, QueryError> {
        let wrong = |e: DataFusionError| QueryError::of_planning(&e);
        let state = SessionStateBuilder::new()
            .with_config(self.config.clone())
            .with_runtime_env(Arc::clone(&self.runtime))
            .with_expr_planners(SessionStateDefaults::default_expr_planners())
            .with_scalar_functions(self.functions.scalar.clone())
            .with_aggregate_functions(self.functions.aggregate.clone())
            .with_window_functions(self.functions.window.clone())
            .build();
        let context = SessionContext::new_with_state(state);
        let mut of_kind: Vec<Vec<Seen>> = TABLES.iter().map(|_| Vec::new()).collect();
        for snapshot in snapshots {
            if let Some(at) = TABLES.iter().position(|kind| *kind == snapshot.snapshot.kind) {
                of_kind[at].push(snapshot);
            }
        }
        for (kind, snapshots) in TABLES.iter().zip(of_kind) {
            let table = self.table(snapshots)?;
            context.register_table(kind.as_str(), Arc::new(table)).map_err(wrong)?;
        }
        for rows in registry {
            let table = registry::table_of(rows).map_err(wrong)?;
            context.register_table(rows.0.name(), Arc::new(table)).map_err(wrong)?;
        }
        Ok(Session { state: context.state(), functions: self.functions.clone() })
    }

    /// Lets go of what is kept in memory of segments that were replaced.
    pub fn forget_removed(&self) {
        self.segments.kept().forget_removed();
    }

    /// Things kept of segments, and their bytes.
    #[cfg(test)]
    pub fn kept(&self) -> (usize, usize) {
        self.segments.kept().size()
    }

    /// A table outside a session, for plans that are made without SQL.
    pub fn table(&self, snapshots: Vec<Seen>) -> Result<StreamTable, QueryError> {
        StreamTable::new(snapshots, &self.shapes, Arc::clone(&self.segments)).map_err(|e| QueryError::of_planning(&e))
    }
}

/// One question's session.
pub(crate) struct Session {
    /// DataFusion's state.
    pub state: SessionState,
    functions: Functions,
}

impl Session {
    /// The logical plan of a text.
    ///
    /// # Errors
    /// [`QueryError::Refused`] for what is not run, [`QueryError::Plan`] for what does not fit the tables.
    pub async fn plan(&self, sql: &str) -> Result<LogicalPlan, QueryError> {
        let statement = guard::parse(sql, &self.functions)?;
        let plan = self.state.statement_to_plan(statement).await.map_err(|e| QueryError::of_planning(&e))?;
        // The guard let only queries through; the planner's own check stands behind it.
        let reading = SQLOptions::new().with_allow_ddl(false).with_allow_dml(false).with_allow_statements(false);
        reading.verify_plan(&plan).map_err(|e| QueryError::of_planning(&e))?;
        Ok(plan)
    }
}

/// The settings of every session; SQL cannot change them.
fn config(limits: &Limits) -> SessionConfig {
    let mut config = SessionConfig::new()
        .with_target_partitions(limits.threads)
        .with_information_schema(false)
        .with_create_default_catalog_and_schema(true);
    let options = config.options_mut();
    options.execution.collect_statistics = false;
    options.execution.time_zone = Some("UTC".into());
    config
}
