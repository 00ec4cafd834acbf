//! The tables `audit` and `telemetry`: sealed segments and unsealed tails of a set of streams, as one snapshot each.
//!
//! A table decides which pieces a question may be about and which filters the scan answers. Not here: leaving pieces
//! out ([`crate::prune`]), the scan ([`crate::scan`]), who may see which tenant (`access`, which handed out the
//! handles).
//!
//! Invariants: the salts are in no schema that a plan can name; the SQL schema has the order of the stored columns;
//! every row carries its tenant and stream.

use crate::barrier::Barrier;
use crate::column::sql_type;

use crate::condition::{self, Condition, WIDE};
use crate::group::Asked;
use crate::prune::{self, Known};
use crate::reader::{Sealed, Segments};
use crate::scan::Scan;
use access::{Meter, Progress, Sight};
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::{Field, Schema, SchemaRef};
use datafusion::catalog::{Session, TableProvider};
use datafusion::datasource::source::DataSourceExec;
use datafusion::error::Result;
use datafusion::logical_expr::{Expr, TableProviderFilterPushDown, TableType};
use datafusion::physical_plan::ExecutionPlan;
use ledger::Hash;
use ledger_store::Snapshot;
use std::fmt;
use std::sync::Arc;

/// Bytes that a value of a narrow column takes in memory, as a mean: codes of one or two bytes, times of eight.
const KEPT_VALUE_BYTES: u64 = 6;

/// Which stored columns SQL sees, and how.
#[derive(Debug, Clone)]
pub(crate) struct Shapes {
    /// Positions of the visible columns in the stored schema.
    visible: Vec<usize>,
    /// Visible columns as SQL sees them: ids as hex text.
    pub sql: SchemaRef,
}

impl Shapes {
    /// The shapes that follow from a stored schema.
    pub fn of(stored: &Schema) -> Self {
        let all = stored.fields().iter().enumerate();
        let visible: Vec<usize> = all.filter(|(_, f)| !f.name().starts_with("salt_")).map(|(at, _)| at).collect();
        let field = |at: &usize| {
            let field = stored.field(*at);
            Field::new(field.name(), sql_type(field.data_type()), field.is_nullable())
        };
        let sql = Arc::new(Schema::new(visible.iter().map(field).collect::<Vec<_>>()));
        Self { visible, sql }
    }
}

/// One table of a session.
pub(crate) struct StreamTable {
    segments: Arc<Segments>,
    pieces: Vec<Arc<Piece>>,
}

/// A segment or a tail, and whose it is.
#[derive(Debug)]
pub(crate) struct Piece {
    /// Whose.
    pub tenant: Box<str>,
    /// Which stream.
    pub stream: &'static str,
    /// Its first sequence number.
    pub first: u64,
    /// One past its last.
    pub end: u64,
    /// How many rows it shows; at most so many, where some of a sparse segment lie behind the head.
    pub rows: u64,
    /// Whether it has a row at each position from the first to the last, and `rows` is just their number.
    pub is_whole: bool,
    /// Its rows.
    pub held: Held,
    /// What stands before them, for a caller who does not see all of them.
    pub barrier: Option<Arc<Barrier>>,
}

/// A stream as of one moment, and what the caller sees of it.
#[derive(Debug, Clone)]
pub struct Seen {
    /// The stream.
    pub snapshot: Snapshot,
    /// What is seen; everything without one.
    pub sight: Option<Arc<Sight>>,
    /// Counts the bytes that are looked at.
    pub meter: Meter,
}

impl Seen {
    /// The same as it was when the stream held so many entries.
    pub(crate) fn cut_at(mut self, size: u64, root: Hash) -> Self {
        let rows: u64 = self.snapshot.tail.iter().map(|batch| batch.num_rows() as u64).sum();
        let mut first = self.snapshot.head.size.saturating_sub(rows);
        self.snapshot.tail.retain_mut(|batch| {
            let shown = size.saturating_sub(first).min(batch.num_rows() as u64);
            first += batch.num_rows() as u64;
            *batch = batch.slice(0, shown as usize);
            shown > 0
        });
        self.snapshot.head.size = size;
        self.snapshot.head.root = root;
        self.snapshot.segments.retain(|segment| segment.reference.first < size);
        self
    }
}

impl From<Snapshot> for Seen {
    fn from(snapshot: Snapshot) -> Self {
        Self { snapshot, sight: None, meter: Meter::default() }
    }
}

/// Where the rows of a piece are.
#[derive(Debug)]
pub(crate) enum Held {
    /// In a segment.
    Segment(Sealed),
    /// In memory, without the salts.
    Tail(Vec<RecordBatch>),
}

impl Piece {
    /// What is known of it without reading it.
    pub fn known(&self) -> Known<'_> {
        let statistics = match &self.held {
            Held::Segment(sealed) if self.barrier.is_none() => Some(&sealed.segment.statistics),
            _ => None,
        };
        Known { tenant: &self.tenant, stream: self.stream, first: self.first, end: self.end, statistics }
    }

    /// Whether `rows` is the number of its rows, and the last of them is just before `end`.
    pub fn is_counted(&self) -> bool {
        let ends = match &self.held {
            Held::Segment(sealed) => sealed.segment.reference.end(),
            Held::Tail(_) => self.end,
        };
        self.is_whole || self.end == ends
    }

    /// How far the request has come that reads it: told of segments of which the caller sees every row.
    fn progress(&self) -> Option<&Progress> {
        match &self.held {
            Held::Segment(sealed) if self.barrier.is_none() => Some(sealed.meter.progress()),
            _ => None,
        }
    }

    /// It was looked at, or left out.
    pub fn count_done(&self) {
        self.progress().into_iter().for_each(|progress| progress.did(1));
    }

    /// How a plan names it.
    pub fn position(&self) -> String {
        if self.barrier.is_some() {
            return format!("{}/{}/scoped", self.tenant, self.stream);
        }
        format!("{}/{}/{}-{}", self.tenant, self.stream, self.first, self.end.saturating_sub(1))
    }
}

/// The pieces of a snapshot; the salts are left behind here.
fn pieces_of(seen: Seen, shapes: &Shapes) -> Result<Vec<Piece>> {
    let barrier = seen.sight.and_then(|sight| Barrier::of(&sight, &shapes.sql)).map(Arc::new);
    let Snapshot { tenant, kind, head, segments, gone: _, tail, objects, keys } = seen.snapshot;
    let piece = |(first, end), rows, is_whole, held| {
        let barrier = barrier.clone();
        Piece { tenant: tenant.as_str().into(), stream: kind.as_str(), first, end, rows, is_whole, held, barrier }
    };
    let mut pieces: Vec<Piece> = Vec::with_capacity(segments.len() + 1);
    let meter = seen.meter;
    for segment in segments {
        // A segment may go on beyond the head: what is behind it is not shown.
        let (first, end) = (segment.reference.first, segment.reference.end().min(head.size));
        let is_whole = segment.reference.is_whole();
        let rows = segment.reference.rows.min(end - first);
        pieces.push(piece(
            (first, end),
            rows,
            is_whole,
            Held::Segment(Sealed { segment, objects: Arc::clone(&objects), keys: keys.clone(), meter: meter.clone() }),
        ));
    }
    let rows: u64 = tail.iter().map(|batch| batch.num_rows() as u64).sum();
    if rows > 0 {
        let batches: Result<Vec<RecordBatch>> = tail.iter().map(|batch| Ok(batch.project(&shapes.visible)?)).collect();
        let span = (head.size.saturating_sub(rows), head.size);
        pieces.push(piece(span, rows, true, Held::Tail(batches?)));
    }
    Ok(pieces)
}

impl StreamTable {
    /// A table over snapshots of one kind of stream.
    pub fn new(snapshots: Vec<Seen>, shapes: &Shapes, segments: Arc<Segments>) -> Result<Self> {
        let mut pieces = Vec::new();
        for snapshot in snapshots {
            pieces.extend(pieces_of(snapshot, shapes)?.into_iter().map(Arc::new));
        }
        // The newest first: what people ask for most, and a scan under `LIMIT` reads in this order.
        pieces.sort_by_key(|piece| std::cmp::Reverse(piece.first));
        Ok(Self { segments, pieces })
    }

    /// Whether the columns of these pieces may stay in memory: what takes more than half of the room would only
    /// drive out everything else, itself included.
    fn keeps(&self, pieces: &[Arc<Piece>], columns: &[usize], conditions: &[Condition]) -> bool {
        let rows: u64 = pieces.iter().map(|piece| piece.end - piece.first).sum();
        let table = self.segments.table();
        let is_narrow = |column: &usize| !WIDE.contains(&table.field(*column).name().as_str());
        let read = columns.iter().copied().chain(conditions.iter().map(|condition| condition.column));
        let narrow = read.filter(is_narrow).count() as u64;
        rows * narrow * KEPT_VALUE_BYTES <= self.segments.kept().bound() as u64 / 2
    }
}

impl fmt::Debug for StreamTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamTable").field("pieces", &self.pieces.len()).finish_non_exhaustive()
    }
}

#[async_trait::async_trait]
impl TableProvider for StreamTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(self.segments.table())
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        let answered = |filter: &&Expr| match condition::column_of(filter, self.segments.table()) {
            Some(_) => TableProviderFilterPushDown::Exact,
            // Used to leave pieces out; the filter itself runs above.
            None => TableProviderFilterPushDown::Inexact,
        };
        Ok(filters.iter().map(answered).collect())
    }

    async fn scan(
        &self,
        session: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let table = self.segments.table();
        let keep = prune::keep(session, table, filters, &self.pieces);
        let pieces: Vec<Arc<Piece>> =
            self.pieces.iter().zip(keep).filter(|(_, keep)| *keep).map(|(piece, _)| Arc::clone(piece)).collect();
        pieces.iter().filter_map(|piece| piece.progress()).for_each(|progress| progress.expect(1));
        let conditions: Vec<Option<Condition>> =
            filters.iter().map(|filter| Condition::of(filter, table, session)).collect::<Result<_>>()?;
        let conditions: Vec<Condition> = conditions.into_iter().flatten().collect();
        let columns = projection.cloned().unwrap_or_else(|| (0..table.fields().len()).collect());
        let asked = Asked {
            segments: Arc::clone(&self.segments),
            schema: Arc::new(table.project(&columns)?),
            keep: self.keeps(&pieces, &columns, &conditions),
            columns,
            conditions,
        };
        let threads = session.config_options().execution.target_partitions;
        Ok(DataSourceExec::from_data_source(Scan::new(asked, pieces, threads, limit)))
    }
}
