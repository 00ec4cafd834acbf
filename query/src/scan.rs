//! The scan: what DataFusion's own `DataSourceExec` reads a table from.
//!
//! Pieces are dealt to partitions and read newest first, or all by one partition in order of sequence when a plan
//! wants that order. Not here: what is done inside a piece ([`crate::group`]), which pieces there are
//! ([`crate::table`]).
//!
//! Invariants: plans show positions of segments and never paths; a scan that says it is ordered is; a limit counts
//! rows that passed every condition.

use crate::condition::Condition;
use crate::group::{Asked, Counts, Group, Open};
use crate::prune;
use crate::table::{Held, Piece};
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::compute::BatchCoalescer;
use datafusion::arrow::compute::SortOptions;
use datafusion::common::config::ConfigOptions;
use datafusion::common::stats::Precision;
use datafusion::common::tree_node::TreeNodeRecursion;
use datafusion::common::{ColumnStatistics, Statistics};
use datafusion::datasource::source::DataSource;
use datafusion::error::Result;
use datafusion::execution::{SendableRecordBatchStream, TaskContext};
use datafusion::physical_expr::expressions::Column;
use datafusion::physical_expr::projection::ProjectionExprs;
use datafusion::physical_expr::{
    DynamicFilterTracking, EquivalenceProperties, Partitioning, PhysicalExpr, PhysicalSortExpr,
};
use datafusion::physical_plan::filter_pushdown::{FilterPushdownPropagation, PushedDown};
use datafusion::physical_plan::metrics::{BaselineMetrics, ExecutionPlanMetricsSet, MetricBuilder};
use datafusion::physical_plan::stream::RecordBatchStreamAdapter;
use datafusion::physical_plan::{DisplayFormatType, SortOrderPushdownResult};
use futures::stream::{self, BoxStream};
use futures::{StreamExt, TryStreamExt};
use std::fmt;
use std::sync::Arc;

/// Groups opened ahead of the one that is given out, so that reads of several wait together.
const AHEAD: usize = 4;
/// Positions that a plan shows.
const SHOWN: usize = 64;

/// Segments and tails of a table, what is asked of them, and who reads which.
#[derive(Debug, Clone)]
pub(crate) struct Scan {
    asked: Asked,
    partitions: Vec<Vec<Arc<Piece>>>,
    /// Filters that a running plan narrows, such as that of the greatest values so far.
    narrowing: Vec<Arc<dyn PhysicalExpr>>,
    limit: Option<usize>,
    order: Option<(PhysicalSortExpr, Vec<PhysicalSortExpr>)>,
    metrics: ExecutionPlanMetricsSet,
}

impl Scan {
    /// A scan of these pieces, newest first, by at most so many at the same time.
    pub fn new(asked: Asked, mut pieces: Vec<Arc<Piece>>, mut threads: usize, limit: Option<usize>) -> Self {
        if pieces.iter().any(|piece| piece.barrier.is_some()) {
            // In order of sequence, one after the other: which rows come first, as `LIMIT` shows it, would else depend
            // on where hidden rows are.
            pieces.sort_by(|a, b| (&a.tenant, a.stream, a.first).cmp(&(&b.tenant, b.stream, b.first)));
            threads = 1;
        }
        let mut partitions: Vec<(u64, Vec<Arc<Piece>>)> = vec![(0, Vec::new()); threads.clamp(1, pieces.len().max(1))];
        for piece in pieces {
            if let Some((rows, pieces)) = partitions.iter_mut().min_by_key(|(rows, _)| *rows) {
                *rows += piece.rows;
                pieces.push(piece);
            }
        }
        let partitions = partitions.into_iter().map(|(_, pieces)| pieces).collect();
        Self { asked, partitions, narrowing: vec![], limit, order: None, metrics: ExecutionPlanMetricsSet::new() }
    }

    fn pieces(&self) -> impl Iterator<Item = &Arc<Piece>> + Clone {
        self.partitions.iter().flatten()
    }

    /// Whether some of its rows are hidden from the caller.
    fn is_scoped(&self) -> bool {
        self.pieces().any(|piece| piece.barrier.is_some())
    }

    fn is_backward(&self) -> bool {
        self.order.as_ref().is_some_and(|(first, _)| first.options.descending)
    }

    /// Whether a filter that the plan has narrowed since leaves this piece out.
    fn is_left_out(&self, piece: &Piece) -> bool {
        self.narrowing.iter().any(|filter| !prune::may_pass(filter, &self.asked.schema, &piece.known()))
    }

    fn counts(&self, partition: usize) -> Counts {
        let count = |name: &'static str| MetricBuilder::new(&self.metrics).counter(name, partition);
        Counts {
            read: count("groups_read"),
            by_bloom: count("groups_skipped_by_bloom_filter"),
            by_values: count("groups_skipped_by_values"),
        }
    }

    /// Groups of a partition that have rows that pass, in the order in which they are given out.
    fn opened(self: Arc<Self>, partition: usize) -> BoxStream<'static, Result<Open>> {
        // Who wants few rows wants them from the first group, mostly.
        let ahead = if self.limit.is_some() { 1 } else { AHEAD };
        let pieces = self.partitions[partition].clone();
        let counts = self.counts(partition);
        let (of_piece, of_group) = (Arc::clone(&self), self);
        let groups = stream::iter(pieces).map(move |piece| {
            let scan = Arc::clone(&of_piece);
            async move {
                if scan.is_left_out(&piece) {
                    piece.count_done();
                    return Ok(Vec::new());
                }
                let mut groups = Group::of(Arc::clone(&piece), &scan.asked.segments).await?;
                piece.count_done();
                if scan.is_backward() {
                    groups.reverse();
                }
                Ok::<_, datafusion::error::DataFusionError>(groups)
            }
        });
        let groups = groups.buffered(ahead).map_ok(|groups| stream::iter(groups.into_iter().map(Ok))).try_flatten();
        let open = groups.map_ok(move |group| {
            let (scan, counts) = (Arc::clone(&of_group), counts.clone());
            async move { group.open(&scan.asked, &counts).await }
        });
        open.try_buffered(ahead).try_filter_map(|open| async { Ok(open) }).boxed()
    }

    /// The rows of a partition, in windows of at most so many rows.
    fn windows(self: Arc<Self>, partition: usize, most: usize) -> BoxStream<'static, Result<RecordBatch>> {
        let at = At { opened: Arc::clone(&self).opened(partition), open: None, left: self.limit.unwrap_or(usize::MAX) };
        stream::try_unfold((self, at), move |(scan, mut at)| async move {
            let batch = at.next(&scan, most).await?;
            Ok(batch.map(|batch| (batch, (scan, at))))
        })
        .boxed()
    }
}

/// How far a partition has come.
struct At {
    opened: BoxStream<'static, Result<Open>>,
    /// The group that is given out, and how many of its rows were.
    open: Option<(Open, usize)>,
    /// Rows that may still be given out.
    left: usize,
}

impl At {
    async fn next(&mut self, scan: &Scan, most: usize) -> Result<Option<RecordBatch>> {
        loop {
            if self.left == 0 {
                return Ok(None);
            }
            if let Some((open, done)) = &mut self.open {
                let all = open.count();
                let count = most.min(all - *done).min(self.left);
                if count > 0 {
                    let backward = scan.is_backward();
                    let from = if backward { all - *done - count } else { *done };
                    let batch = open.window(&scan.asked, from..from + count, backward).await?;
                    *done += count;
                    self.left -= count;
                    return Ok(Some(batch));
                }
            }
            match self.opened.try_next().await? {
                Some(open) => self.open = Some((open, 0)),
                None => return Ok(None),
            }
        }
    }
}

/// Joins small batches: what runs above a scan costs by the batch.
fn joined(
    batches: BoxStream<'static, Result<RecordBatch>>,
    most: usize,
    asked: &Asked,
) -> BoxStream<'static, Result<RecordBatch>> {
    if asked.columns.is_empty() {
        return batches;
    }
    let small = BatchCoalescer::new(Arc::clone(&asked.schema), most).with_biggest_coalesce_batch_size(Some(most / 2));
    stream::try_unfold((batches, small, false), |(mut batches, mut small, mut ended)| async move {
        loop {
            if let Some(batch) = small.next_completed_batch() {
                return Ok(Some((batch, (batches, small, ended))));
            }
            if ended {
                return Ok(None);
            }
            match batches.try_next().await? {
                Some(batch) => small.push_batch(batch)?,
                None => {
                    ended = true;
                    small.finish_buffered_batch()?;
                }
            }
        }
    })
    .boxed()
}

/// Whether a filter is one that the running plan narrows.
fn narrows(filter: &Arc<dyn PhysicalExpr>) -> bool {
    DynamicFilterTracking::classify(filter).contains_dynamic_filter()
}

impl DataSource for Scan {
    fn open(&self, partition: usize, context: Arc<TaskContext>) -> Result<SendableRecordBatchStream> {
        let most = context.session_config().batch_size();
        let baseline = BaselineMetrics::new(&self.metrics, partition);
        let batches = joined(Arc::new(self.clone()).windows(partition, most), most, &self.asked);
        let counted = batches.inspect_ok(move |batch| baseline.record_output(batch.num_rows()));
        Ok(Box::pin(RecordBatchStreamAdapter::new(Arc::clone(&self.asked.schema), counted)))
    }

    fn fmt_as(&self, _: DisplayFormatType, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.is_scoped() {
            let of: std::collections::BTreeSet<String> = self.pieces().map(|piece| piece.position()).collect();
            let of: Vec<&str> = of.iter().take(SHOWN).map(String::as_str).collect();
            write!(f, "[{}]", of.join(", "))?;
            return if self.asked.conditions.is_empty() {
                Ok(())
            } else {
                write!(f, ", conditions={:?}", self.asked.conditions)
            };
        }
        let sealed = self.pieces().filter(|piece| matches!(piece.held, Held::Segment(_)));
        let (count, tails) = (sealed.clone().count(), self.pieces().count() - sealed.clone().count());
        let shown: Vec<String> = sealed.take(SHOWN).map(|piece| piece.position()).collect();
        let more = if count > SHOWN { ", …" } else { "" };
        write!(
            f,
            "segments={count} [{}{more}], tails={tails}, partitions={}",
            shown.join(", "),
            self.partitions.len()
        )?;
        if !self.asked.conditions.is_empty() {
            write!(f, ", conditions={:?}", self.asked.conditions)?;
        }
        if let Some((first, _)) = &self.order {
            write!(f, ", order={first}")?;
        }
        self.limit.map_or(Ok(()), |limit| write!(f, ", limit={limit}"))
    }

    fn output_partitioning(&self) -> Partitioning {
        Partitioning::UnknownPartitioning(self.partitions.len())
    }

    fn eq_properties(&self) -> EquivalenceProperties {
        let order = self.order.iter().map(|(first, rest)| [std::slice::from_ref(first), rest].concat());
        EquivalenceProperties::new_with_orderings(Arc::clone(&self.asked.schema), order)
    }

    fn partition_statistics(&self, partition: Option<usize>) -> Result<Arc<Statistics>> {
        if self.is_scoped() {
            // Counts and bounds would be those of hidden rows.
            return Ok(Arc::new(Statistics::new_unknown(&self.asked.schema)));
        }
        let pieces: Vec<&Arc<Piece>> = match partition {
            Some(partition) => self.partitions.get(partition).into_iter().flatten().collect(),
            None => self.pieces().collect(),
        };
        let rows = pieces.iter().map(|piece| piece.rows).sum::<u64>();
        let rows = usize::try_from(rows).unwrap_or(usize::MAX);
        let is_counted = pieces.iter().all(|piece| piece.is_counted());
        let all = self.asked.conditions.is_empty() && self.limit.is_none() && is_counted;
        let column = |field: &Arc<datafusion::arrow::datatypes::Field>| match all {
            true => prune::column_statistics(&pieces, field),
            false => ColumnStatistics::new_unknown(),
        };
        let most = self.limit.map_or(rows, |limit| rows.min(limit));
        Ok(Arc::new(Statistics {
            num_rows: if all { Precision::Exact(rows) } else { Precision::Inexact(most) },
            total_byte_size: Precision::Absent,
            column_statistics: self.asked.schema.fields().iter().map(column).collect(),
        }))
    }

    fn with_fetch(&self, limit: Option<usize>) -> Option<Arc<dyn DataSource>> {
        Some(Arc::new(Self { limit, ..self.clone() }))
    }

    fn fetch(&self) -> Option<usize> {
        self.limit
    }

    fn metrics(&self) -> ExecutionPlanMetricsSet {
        self.metrics.clone()
    }

    fn try_swapping_with_projection(&self, _: &ProjectionExprs) -> Result<Option<Arc<dyn DataSource>>> {
        // The logical plan has left no column that nobody wants.
        Ok(None)
    }

    fn try_pushdown_filters(
        &self,
        filters: Vec<Arc<dyn PhysicalExpr>>,
        _: &ConfigOptions,
    ) -> Result<FilterPushdownPropagation<Arc<dyn DataSource>>> {
        // Whoever narrows a filter goes on testing it; here it only leaves pieces out.
        let answer = FilterPushdownPropagation::with_parent_pushdown_result(vec![PushedDown::No; filters.len()]);
        let narrowing: Vec<_> = filters.into_iter().filter(narrows).collect();
        if narrowing.is_empty() || self.is_scoped() {
            return Ok(answer);
        }
        let narrowing = [self.narrowing.clone(), narrowing].concat();
        Ok(answer.with_updated_node(Arc::new(Self { narrowing, ..self.clone() })))
    }

    fn try_pushdown_sort(&self, order: &[PhysicalSortExpr]) -> Result<SortOrderPushdownResult<Arc<dyn DataSource>>> {
        let [first, rest @ ..] = order else { return Ok(SortOrderPushdownResult::Unsupported) };
        let by_seq = first.expr.downcast_ref::<Column>().is_some_and(|column| column.name() == "seq");
        let mut streams = self.pieces().map(|piece| (&piece.tenant, piece.stream));
        let of = streams.next();
        if !by_seq || self.limit.is_some() || !streams.all(|stream| Some(stream) == of) {
            return Ok(SortOrderPushdownResult::Unsupported);
        }
        // In one stream each sequence number stands once, so whatever else is asked for follows from the first.
        let mut pieces: Vec<Arc<Piece>> = self.pieces().cloned().collect();
        pieces.sort_unstable_by_key(|piece| piece.first);
        let SortOptions { descending, .. } = first.options;
        if descending {
            pieces.reverse();
        }
        let order = Some((first.clone(), rest.to_vec()));
        let inner: Arc<dyn DataSource> = Arc::new(Self { partitions: vec![pieces], order, ..self.clone() });
        Ok(SortOrderPushdownResult::Exact { inner })
    }

    fn apply_expressions(
        &self,
        f: &mut dyn FnMut(&Arc<dyn PhysicalExpr>) -> Result<TreeNodeRecursion>,
    ) -> Result<TreeNodeRecursion> {
        for filter in self.asked.conditions.iter().map(Condition::test).chain(&self.narrowing) {
            if f(filter)? == TreeNodeRecursion::Stop {
                return Ok(TreeNodeRecursion::Stop);
            }
        }
        Ok(TreeNodeRecursion::Continue)
    }
}
