//! The tables `audit` and `telemetry`: sealed segments and unsealed tails of a set of streams, as one snapshot each.
//!
//! The scan is made of DataFusion's own nodes: a Parquet scan over the segments that may matter, a memory scan over
//! tails, projections, a union. Not here: which pieces may matter ([`crate::prune`]), how files are opened
//! ([`crate::reader`]), who may see which tenant (`access`, which handed out the handles).
//!
//! Invariants: the salts are in no schema that a plan can name; the SQL schema has the order of the stored columns;
//! every row carries its tenant and stream.

use crate::hex::{self, HexText};
use crate::prune::{self, Known};
use crate::reader::{Opened, SegmentReaders};
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::datatypes::{DataType, Field, Schema, SchemaRef};
use datafusion::catalog::{Session, TableProvider};
use datafusion::common::stats::Precision;
use datafusion::common::{ColumnStatistics, Statistics as PlanStatistics};
use datafusion::config::TableParquetOptions;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::memory::MemorySourceConfig;
use datafusion::datasource::physical_plan::{FileGroup, FileScanConfigBuilder, ParquetSource};
use datafusion::datasource::source::DataSourceExec;
use datafusion::error::Result;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::logical_expr::{Expr, ScalarUDF, TableProviderFilterPushDown, TableType};
use datafusion::physical_expr::expressions::{CastExpr, Column};
use datafusion::physical_expr::{PhysicalExpr, ScalarFunctionExpr, conjunction};
use datafusion::physical_plan::ExecutionPlan;
use datafusion::physical_plan::empty::EmptyExec;
use datafusion::physical_plan::projection::{ProjectionExec, ProjectionExpr};
use datafusion::physical_plan::union::UnionExec;
use ledger_store::{Segment, Snapshot};
use object_store::ObjectStore;
use std::fmt;
use std::sync::Arc;

/// The scheme under which plans name segments. No store is reachable through it.
pub(crate) const SEGMENTS_URL: &str = "segments://";

/// The three shapes of a row: as it is in memory, in a plan over Parquet, and in SQL.
#[derive(Debug, Clone)]
pub(crate) struct Shapes {
    /// Positions of the visible columns in the stored schema.
    visible: Vec<usize>,
    /// Visible columns as tails hold them.
    memory: SchemaRef,
    /// Visible columns as a Parquet scan yields them: text as views, ids as bytes.
    parquet: SchemaRef,
    /// Visible columns as SQL sees them: ids as hex text.
    pub sql: SchemaRef,
}

impl Shapes {
    /// The shapes that follow from a stored schema.
    pub fn of(stored: &Schema) -> Self {
        let visible: Vec<usize> = stored
            .fields()
            .iter()
            .enumerate()
            .filter(|(_, f)| !f.name().starts_with("salt_"))
            .map(|(at, _)| at)
            .collect();
        let shape = |change: fn(&DataType) -> DataType| {
            let fields: Vec<Field> = visible
                .iter()
                .map(|at| stored.field(*at))
                .map(|f| Field::new(f.name(), change(f.data_type()), f.is_nullable()))
                .collect();
            Arc::new(Schema::new(fields))
        };
        let views = |kind: &DataType| match kind {
            DataType::Utf8 => DataType::Utf8View,
            other => other.clone(),
        };
        let sql = |kind: &DataType| match kind {
            DataType::Utf8 | DataType::FixedSizeBinary(_) => DataType::Utf8View,
            other => other.clone(),
        };
        Self { memory: shape(DataType::clone), parquet: shape(views), sql: shape(sql), visible }
    }
}

/// One table of a session.
pub(crate) struct StreamTable {
    shapes: Shapes,
    pieces: Vec<Piece>,
    readers: Arc<SegmentReaders>,
}

/// A segment or a tail, and whose it is.
struct Piece {
    tenant: Box<str>,
    stream: &'static str,
    first: u64,
    end: u64,
    held: Held,
}

enum Held {
    Segment(Arc<Segment>, Arc<dyn ObjectStore>),
    Tail(Vec<RecordBatch>),
}

impl Piece {
    fn known(&self) -> Known<'_> {
        let statistics = match &self.held {
            Held::Segment(segment, _) => Some(&segment.statistics),
            Held::Tail(_) => None,
        };
        Known { tenant: &self.tenant, stream: self.stream, first: self.first, end: self.end, statistics }
    }

    /// How a plan names it.
    fn position(&self) -> String {
        format!("{}/{}/{}-{}", self.tenant, self.stream, self.first, self.end.saturating_sub(1))
    }
}

/// The pieces of a snapshot; the salts are left behind here.
fn pieces_of(snapshot: Snapshot, shapes: &Shapes) -> Result<Vec<Piece>> {
    let Snapshot { tenant, kind, head, segments, tail, objects } = snapshot;
    let piece = |first, end, held| Piece { tenant: tenant.as_str().into(), stream: kind.as_str(), first, end, held };
    let mut pieces: Vec<Piece> = Vec::with_capacity(segments.len() + 1);
    for segment in segments {
        pieces.push(piece(
            segment.reference.first,
            segment.reference.end(),
            Held::Segment(segment, Arc::clone(&objects)),
        ));
    }
    let rows: u64 = tail.iter().map(|batch| batch.num_rows() as u64).sum();
    if rows > 0 {
        let batches: Result<Vec<RecordBatch>> = tail.iter().map(|batch| Ok(batch.project(&shapes.visible)?)).collect();
        pieces.push(piece(head.size.saturating_sub(rows), head.size, Held::Tail(batches?)));
    }
    Ok(pieces)
}

impl StreamTable {
    /// A table over snapshots of one kind of stream.
    pub fn new(snapshots: Vec<Snapshot>, shapes: Shapes, readers: Arc<SegmentReaders>) -> Result<Self> {
        let mut pieces = Vec::new();
        for snapshot in snapshots {
            pieces.extend(pieces_of(snapshot, &shapes)?);
        }
        // The newest first: what people ask for most, and a scan under `LIMIT` reads files in this order.
        pieces.sort_by_key(|piece| std::cmp::Reverse(piece.first));
        Ok(Self { shapes, pieces, readers })
    }

    /// The same table, read from the oldest segment on: for plans that want the first entries.
    pub fn oldest_first(mut self) -> Self {
        self.pieces.reverse();
        self
    }

    fn segments(&self, kept: &[&Piece], scan: &Scan<'_>) -> Result<Option<Arc<dyn ExecutionPlan>>> {
        let files: Vec<PartitionedFile> = kept.iter().filter_map(|piece| self.file(piece)).collect();
        if files.is_empty() {
            return Ok(None);
        }
        let global = scan.session.config_options().execution.parquet.clone();
        let options = TableParquetOptions { global, ..TableParquetOptions::default() };
        let readers = Arc::clone(&self.readers);
        let mut source = ParquetSource::new(Arc::clone(&self.shapes.parquet))
            .with_table_parquet_options(options)
            .with_parquet_file_reader_factory(readers);
        let over_bytes: Vec<_> =
            scan.filters.iter().filter_map(|filter| hex::over_bytes(filter, &self.shapes.parquet)).collect();
        if !over_bytes.is_empty() {
            source = source.with_predicate(conjunction(over_bytes));
        }
        let statistics = self.totals(kept);
        let groups = grouped(files, scan.session.config_options().execution.target_partitions);
        let config = FileScanConfigBuilder::new(ObjectStoreUrl::parse(SEGMENTS_URL)?, Arc::new(source))
            .with_file_groups(groups)
            .with_statistics(statistics)
            .with_projection_indices(scan.projection.cloned())?
            .with_limit(scan.limit)
            .build();
        Ok(Some(DataSourceExec::from_data_source(config)))
    }

    fn file(&self, piece: &Piece) -> Option<PartitionedFile> {
        let Held::Segment(segment, objects) = &piece.held else { return None };
        let opened = Opened { segment: Arc::clone(segment), objects: Arc::clone(objects) };
        let statistics = Arc::new(self.totals(&[piece]));
        Some(
            PartitionedFile::new(piece.position(), segment.reference.bytes)
                .with_extension(opened)
                .with_statistics(statistics),
        )
    }

    /// What is known of these segments together: rows, and bounds of the columns that have them everywhere.
    fn totals(&self, kept: &[&Piece]) -> PlanStatistics {
        let segments: Vec<&&Piece> = kept.iter().filter(|piece| matches!(piece.held, Held::Segment(..))).collect();
        let column = |field: &Arc<Field>| {
            let bounds = segments.iter().map(|piece| piece.known().bounds(field.name(), field.data_type()));
            let merged = bounds.reduce(|a, b| {
                let ((low, high), (other_low, other_high)) = (a?, b?);
                let low = if other_low < low { other_low } else { low };
                let high = if other_high > high { other_high } else { high };
                Some((low, high))
            });
            match merged.flatten() {
                Some((low, high)) => {
                    let never_null = !field.is_nullable() || matches!(field.name().as_str(), "tenant" | "stream");
                    let null_count = if never_null { Precision::Exact(0) } else { Precision::Absent };
                    ColumnStatistics {
                        null_count,
                        min_value: Precision::Exact(low),
                        max_value: Precision::Exact(high),
                        ..ColumnStatistics::new_unknown()
                    }
                }
                None => ColumnStatistics::new_unknown(),
            }
        };
        let rows: u64 = segments.iter().map(|piece| piece.end - piece.first).sum();
        PlanStatistics {
            num_rows: usize::try_from(rows).map_or(Precision::Absent, Precision::Exact),
            total_byte_size: Precision::Absent,
            column_statistics: self.shapes.parquet.fields().iter().map(column).collect(),
        }
    }

    fn tails(&self, kept: &[&Piece], scan: &Scan<'_>) -> Result<Option<Arc<dyn ExecutionPlan>>> {
        let held = kept.iter().filter_map(|piece| match &piece.held {
            Held::Tail(batches) => Some(batches),
            Held::Segment(..) => None,
        });
        let batches: Vec<RecordBatch> = held.flatten().cloned().collect();
        if batches.is_empty() {
            return Ok(None);
        }
        let source =
            MemorySourceConfig::try_new(&[batches], Arc::clone(&self.shapes.memory), scan.projection.cloned())?
                .with_limit(scan.limit);
        Ok(Some(DataSourceExec::from_data_source(source)))
    }
}

/// What a scan was asked for.
struct Scan<'a> {
    session: &'a dyn Session,
    projection: Option<&'a Vec<usize>>,
    filters: &'a [Expr],
    limit: Option<usize>,
}

/// Deals files out to as many groups as there are threads, so that neighbours are read at the same time.
fn grouped(files: Vec<PartitionedFile>, threads: usize) -> Vec<FileGroup> {
    let count = threads.clamp(1, files.len().max(1));
    let mut groups: Vec<Vec<PartitionedFile>> = vec![Vec::new(); count];
    for (at, file) in files.into_iter().enumerate() {
        groups[at % count].push(file);
    }
    groups.into_iter().map(FileGroup::new).collect()
}

/// Puts a projection above a plan where its columns are not yet what SQL sees.
fn as_sql(plan: Arc<dyn ExecutionPlan>, wanted: &SchemaRef, session: &dyn Session) -> Result<Arc<dyn ExecutionPlan>> {
    let given = plan.schema();
    if given.fields() == wanted.fields() {
        return Ok(plan);
    }
    let mut columns = Vec::with_capacity(wanted.fields().len());
    for (at, (field, target)) in given.fields().iter().zip(wanted.fields()).enumerate() {
        let column: Arc<dyn PhysicalExpr> = Arc::new(Column::new(field.name(), at));
        let expr: Arc<dyn PhysicalExpr> = match (field.data_type(), target.data_type()) {
            (from, to) if from == to => column,
            (DataType::FixedSizeBinary(_), _) => {
                let options = Arc::new(session.config_options().clone());
                Arc::new(ScalarFunctionExpr::try_new(
                    Arc::new(ScalarUDF::new_from_impl(HexText::new())),
                    vec![column],
                    &given,
                    options,
                )?)
            }
            (_, to) => Arc::new(CastExpr::new(column, to.clone(), None)),
        };
        columns.push(ProjectionExpr { expr, alias: target.name().clone() });
    }
    Ok(Arc::new(ProjectionExec::try_new(columns, plan)?))
}

impl fmt::Debug for StreamTable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("StreamTable").field("pieces", &self.pieces.len()).finish_non_exhaustive()
    }
}

#[async_trait::async_trait]
impl TableProvider for StreamTable {
    fn schema(&self) -> SchemaRef {
        Arc::clone(&self.shapes.sql)
    }

    fn table_type(&self) -> TableType {
        TableType::Base
    }

    fn supports_filters_pushdown(&self, filters: &[&Expr]) -> Result<Vec<TableProviderFilterPushDown>> {
        // Filters are used to skip pieces; the optimizer brings them into the Parquet scan by itself.
        Ok(vec![TableProviderFilterPushDown::Inexact; filters.len()])
    }

    async fn scan(
        &self,
        session: &dyn Session,
        projection: Option<&Vec<usize>>,
        filters: &[Expr],
        limit: Option<usize>,
    ) -> Result<Arc<dyn ExecutionPlan>> {
        let known: Vec<Known<'_>> = self.pieces.iter().map(Piece::known).collect();
        let keep = prune::keep(session, &self.shapes.sql, filters, &known);
        let kept: Vec<&Piece> =
            self.pieces.iter().zip(keep).filter(|(_, keep)| *keep).map(|(piece, _)| piece).collect();
        let wanted = match projection {
            Some(columns) => Arc::new(self.shapes.sql.project(columns)?),
            None => Arc::clone(&self.shapes.sql),
        };
        let scan = Scan { session, projection, filters, limit };
        let mut parts = Vec::with_capacity(2);
        for part in [self.tails(&kept, &scan)?, self.segments(&kept, &scan)?].into_iter().flatten() {
            parts.push(as_sql(part, &wanted, session)?);
        }
        match parts.len() {
            0 => Ok(Arc::new(EmptyExec::new(wanted))),
            1 => Ok(parts.swap_remove(0)),
            _ => UnionExec::try_new(parts),
        }
    }
}
