//! Runs a question on threads of its own, within memory, rows and time, and stops when nobody listens any more.
//!
//! Planning and running are CPU work: on the server's threads they would hold up ingest. Not here: what may be asked
//! ([`crate::guard`]), how an answer is written ([`crate::answer`]).
//!
//! Invariants: a question holds its pass until its task has ended; an answer that ends without an error is whole; dropping
//! an [`Answer`] ends its task at the next batch, or the next filter of a join.

use crate::error::{Fault, QueryError};
use crate::events::Filter;
use crate::limits::{Exceeded, Gate, Limits, Pass};
use crate::registry;
use crate::session::Sessions;
use crate::stop::{self, Stop};
use crate::table::Seen;
use access::Asking;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::SchemaRef;
use datafusion::physical_plan::execute_stream;
use futures::StreamExt;
use ledger::{Hash, StreamHead, StreamKind, TenantId};
use ledger_store::Snapshot;
use std::future::Future;
use std::sync::Arc;
use std::time::Duration;
use tokio::runtime::{Builder, Handle, Runtime};
use tokio::sync::{mpsc, oneshot};
use tokio::task::AbortHandle;

/// Batches made ahead of a slow reader.
const AHEAD: usize = 4;
/// Stack of a query thread: the deepest text that the guard lets through is walked by recursion.
const STACK_BYTES: usize = 16 * 1_024 * 1_024;

/// Answers questions about snapshots. Clones share everything.
#[derive(Clone)]
pub struct Engine {
    shared: Arc<Shared>,
}

struct Shared {
    sessions: Sessions,
    gate: Gate,
    limits: Limits,
    threads: Threads,
}

/// The runtime of queries; dropped without waiting, also from inside another runtime.
struct Threads(Option<Runtime>);

impl Threads {
    fn handle(&self) -> Result<&Handle, QueryError> {
        self.0.as_ref().map(Runtime::handle).ok_or(QueryError::Internal("the query threads have ended"))
    }
}

impl Drop for Threads {
    fn drop(&mut self) {
        if let Some(runtime) = self.0.take() {
            runtime.shutdown_background();
        }
    }
}

/// A question.
#[derive(Debug, Clone)]
pub(crate) enum Question {
    /// SQL over the tables, and those of the registry that it names.
    Sql(String, Vec<registry::Rows>),
    /// Events of one stream, filtered and in order of sequence.
    Events(Filter),
}

/// A head that was read to answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HeadRead {
    /// Whose stream.
    pub tenant: TenantId,
    /// Which stream.
    pub stream: StreamKind,
    /// Entries of it that the answer is about.
    pub size: u64,
    /// Root over them.
    pub root: Hash,
    /// The stream's origin.
    pub origin: String,
    /// What was purged of it, if anything was: how many entries, and the commit that says so.
    pub gone: Option<(u64, u64)>,
}

impl HeadRead {
    pub(crate) fn of(snapshot: &Snapshot) -> Self {
        let StreamHead { origin, size, root } = snapshot.head.clone();
        let gone = snapshot.gone.as_ref().map(|gone| (gone.entries, gone.commit));
        Self { tenant: snapshot.tenant.clone(), stream: snapshot.kind, size, root, origin, gone }
    }
}

/// An answer on its way.
#[derive(Debug)]
pub struct Answer {
    /// Its columns.
    pub schema: SchemaRef,
    /// What it is an answer about.
    pub read: Vec<HeadRead>,
    batches: mpsc::Receiver<Result<RecordBatch, QueryError>>,
    _listening: Listening,
    _asking: Vec<Asking>,
}

/// Stops the query when its time is over or when nobody listens any more, from outside the query threads: those may
/// all be busy with it.
#[derive(Debug)]
struct Listening {
    stop: Stop,
    timer: AbortHandle,
}

impl Listening {
    fn new(stop: Stop, time: Duration) -> Self {
        let late = stop.clone();
        let timer = tokio::spawn(async move {
            tokio::time::sleep(time).await;
            late.now();
        });
        Self { stop, timer: timer.abort_handle() }
    }
}

impl Drop for Listening {
    fn drop(&mut self) {
        self.stop.now();
        self.timer.abort();
    }
}

impl Answer {
    /// The same answer, which holds its place in the quotas of its tenants until it ends.
    pub(crate) fn holding(self, asking: Vec<Asking>) -> Self {
        Self { _asking: asking, ..self }
    }

    /// The next rows; none at the end.
    pub async fn next(&mut self) -> Option<Result<RecordBatch, QueryError>> {
        self.batches.recv().await
    }

    /// All rows.
    ///
    /// # Errors
    /// Whatever ended the query.
    pub async fn collect(mut self) -> Result<Vec<RecordBatch>, QueryError> {
        let mut all = Vec::new();
        while let Some(batch) = self.next().await {
            all.push(batch?);
        }
        Ok(all)
    }
}

impl Engine {
    /// Starts the query threads.
    ///
    /// # Errors
    /// [`QueryError::Internal`] if threads cannot be started.
    pub fn new(limits: Limits) -> Result<Self, QueryError> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(limits.threads.max(1))
            .max_blocking_threads(16)
            .thread_name("query")
            .thread_stack_size(STACK_BYTES)
            .enable_all()
            .build()
            .map_err(|_| QueryError::Internal("the query threads could not be started"))?;
        let shared = Shared {
            sessions: Sessions::new(&limits)?,
            gate: Gate::new(&limits),
            limits,
            threads: Threads(Some(runtime)),
        };
        Ok(Self { shared: Arc::new(shared) })
    }

    /// The bounds of queries.
    pub fn limits(&self) -> &Limits {
        &self.shared.limits
    }

    /// Answers SQL over snapshots; those of one kind make one table.
    ///
    /// # Errors
    /// See [`QueryError`]; errors of running may also come with a later batch.
    pub async fn sql(&self, snapshots: Vec<impl Into<Seen>>, sql: &str) -> Result<Answer, QueryError> {
        self.ask(snapshots, Question::Sql(sql.to_string(), vec![])).await
    }

    pub(crate) async fn ask(&self, snapshots: Vec<impl Into<Seen>>, question: Question) -> Result<Answer, QueryError> {
        let snapshots: Vec<Seen> = snapshots.into_iter().map(Into::into).collect();
        let read: Vec<HeadRead> = snapshots.iter().map(|seen| HeadRead::of(&seen.snapshot)).collect();
        let pass = self.shared.gate.enter(snapshots.iter().map(|s| s.snapshot.tenant.clone()).collect()).await?;
        let (ready, planned) = oneshot::channel();
        let (rows, batches) = mpsc::channel(AHEAD);
        let limits = &self.shared.limits;
        let stop = Stop::default();
        let listening = Listening::new(stop.clone(), limits.time);
        let task = Task { shared: Arc::clone(&self.shared), _pass: pass, snapshots, question, stop };
        self.spawn(task.run(ready, rows))?;
        let late = Exceeded::Time { seconds: limits.time.as_secs() };
        // The task keeps time by itself; this second watch answers even while planning does not yield.
        let schema = match tokio::time::timeout(limits.time, planned).await {
            Ok(Ok(schema)) => schema?,
            Ok(Err(_)) => return Err(QueryError::Internal("a query's task ended")),
            Err(_) => return Err(late.into()),
        };
        Ok(Answer { schema, read, batches, _listening: listening, _asking: vec![] })
    }

    /// Lets go of what is kept in memory of segments that were replaced.
    pub(crate) fn forget_removed(&self) {
        self.shared.sessions.forget_removed();
    }

    /// Things kept of segments, and their bytes.
    #[cfg(test)]
    pub(crate) fn kept(&self) -> (usize, usize) {
        self.shared.sessions.kept()
    }

    /// Runs a future on the query threads.
    pub(crate) fn spawn(&self, future: impl Future<Output = ()> + Send + 'static) -> Result<(), QueryError> {
        drop(self.shared.threads.handle()?.spawn(future));
        Ok(())
    }
}

struct Task {
    shared: Arc<Shared>,
    _pass: Pass,
    snapshots: Vec<Seen>,
    question: Question,
    stop: Stop,
}

type Ready = oneshot::Sender<Result<SchemaRef, QueryError>>;
type Rows = mpsc::Sender<Result<RecordBatch, QueryError>>;

impl Task {
    async fn run(self, ready: Ready, rows: Rows) {
        let time = self.shared.limits.time;
        let stop = self.stop.clone();
        let listener = rows.clone();
        let mut ready = Some(ready);
        let ended = tokio::select! {
            ended = tokio::time::timeout(time, self.work(&mut ready, &rows)) => ended,
            () = listener.closed() => return,
        };
        let error = match ended {
            Ok(Ok(())) => return,
            // An error that the flag made is the time limit's.
            Ok(Err(_)) if stop.is_set() => Exceeded::Time { seconds: time.as_secs() }.into(),
            Ok(Err(error)) => error,
            Err(_) => Exceeded::Time { seconds: time.as_secs() }.into(),
        };
        match ready {
            // The receiver may be gone; then nobody is left to tell.
            Some(ready) => drop(ready.send(Err(error))),
            None => drop(rows.send(Err(error)).await),
        }
    }

    async fn work(self, ready: &mut Option<Ready>, rows: &Rows) -> Result<(), QueryError> {
        let limits = &self.shared.limits;
        let planning = |e: datafusion::error::DataFusionError| QueryError::of_planning(&e);
        let (state, plan) = match self.question {
            Question::Sql(sql, named) => {
                let session = self.shared.sessions.open(self.snapshots, &named)?;
                let plan = session.plan(&sql).await?;
                (session.state, plan)
            }
            Question::Events(filter) => {
                let session = self.shared.sessions.open(Vec::new(), &[])?;
                let plan = filter.plan(self.shared.sessions.table(self.snapshots)?).map_err(planning)?;
                (session.state, plan)
            }
        };
        let physical = state.create_physical_plan(&plan).await.map_err(planning)?;
        let physical = stop::interruptible(physical, &self.stop, state.config_options()).map_err(planning)?;
        let running = |e: datafusion::error::DataFusionError| QueryError::of_running(&e, limits);
        let mut stream = execute_stream(physical, state.task_ctx()).map_err(running)?;
        if let Some(ready) = ready.take() {
            drop(ready.send(Ok(stream.schema())));
        }
        let mut count = 0u64;
        while let Some(batch) = stream.next().await {
            let batch = batch.map_err(running)?;
            count += batch.num_rows() as u64;
            if count > limits.rows {
                return Err(Exceeded::Rows { rows: limits.rows }.into());
            }
            if batch.num_rows() > 0 && rows.send(Ok(batch)).await.is_err() {
                return Ok(());
            }
        }
        Ok(())
    }
}

impl From<datafusion::arrow::error::ArrowError> for QueryError {
    /// Errors of encoders; a fault of a row's value keeps its sentence.
    fn from(error: datafusion::arrow::error::ArrowError) -> Self {
        Self::Fault(crate::error::fault_of(&error).unwrap_or(Fault::Format))
    }
}
