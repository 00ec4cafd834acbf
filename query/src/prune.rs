//! Which segments and tails can hold a row that a filter lets pass, from statistics at hand in memory.
//!
//! Nothing is opened here. What remains is tested inside segments by Bloom filters and values ([`crate::group`]). Not
//! here: the scan ([`crate::scan`]).
//!
//! Invariants: a piece is dropped only if its statistics prove that no row of it passes; what is not known keeps
//! the piece; a filter that cannot be understood keeps every piece.

use crate::table::Piece;
use datafusion::arrow::array::{ArrayRef, BooleanArray, UInt64Array};
use datafusion::arrow::datatypes::{DataType, Field, SchemaRef};
use datafusion::catalog::Session;
use datafusion::common::pruning::PruningStatistics;
use datafusion::common::stats::Precision;
use datafusion::common::{Column, ColumnStatistics, DFSchema, ScalarValue};
use datafusion::logical_expr::Expr;
use datafusion::logical_expr::utils::conjunction;
use datafusion::physical_expr::PhysicalExpr;
use datafusion::physical_expr_common::physical_expr::snapshot_physical_expr;
use datafusion::physical_optimizer::pruning::PruningPredicateBuilder;
use ledger_store::Statistics;
use std::collections::HashSet;
use std::sync::Arc;

/// What is known of a segment or a tail without reading it.
pub(crate) struct Known<'a> {
    /// The tenant of all its rows.
    pub tenant: &'a str,
    /// The stream of all its rows.
    pub stream: &'a str,
    /// Its first sequence number.
    pub first: u64,
    /// One past its last.
    pub end: u64,
    /// Least and greatest values; none for a tail.
    pub statistics: Option<&'a Statistics>,
}

impl Known<'_> {
    /// Least and greatest value of a column; nulls of the column's type where not known.
    pub fn bounds(&self, column: &str, kind: &DataType) -> Option<(ScalarValue, ScalarValue)> {
        let text = |value: &str| ScalarValue::Utf8View(Some(value.into()));
        let texts = |pair: &(String, String)| (text(&pair.0), text(&pair.1));
        let times = |pair: &(i64, i64)| (micros(pair.0, kind), micros(pair.1, kind));
        let statistics = self.statistics;
        match column {
            "tenant" => Some((text(self.tenant), text(self.tenant))),
            "stream" => Some((text(self.stream), text(self.stream))),
            "seq" => {
                let last = self.end.checked_sub(1)?;
                Some((
                    ScalarValue::Int64(Some(i64::try_from(self.first).ok()?)),
                    ScalarValue::Int64(Some(i64::try_from(last).ok()?)),
                ))
            }
            "occurred_at" => statistics?.occurred_at.as_ref().map(times),
            "recorded_at" => statistics?.recorded_at.as_ref().map(times),
            "action" => statistics?.action.as_ref().map(texts),
            "outcome" => statistics?.outcome.as_ref().map(texts),
            "release" => statistics?.release.as_ref().map(texts),
            "region" => statistics?.region.as_ref().map(texts),
            _ => None,
        }
    }
}

fn micros(value: i64, kind: &DataType) -> ScalarValue {
    let zone = match kind {
        DataType::Timestamp(_, zone) => zone.clone(),
        _ => None,
    };
    ScalarValue::TimestampMicrosecond(Some(value), zone)
}

/// For each piece, whether it may hold a row that passes all filters.
pub(crate) fn keep(session: &dyn Session, table: &SchemaRef, filters: &[Expr], pieces: &[Arc<Piece>]) -> Vec<bool> {
    let known: Vec<Known<'_>> = pieces.iter().map(|piece| piece.known()).collect();
    let verdicts = || {
        let all = conjunction(filters.iter().cloned())?;
        let named = DFSchema::try_from(Arc::clone(table)).ok()?;
        let physical = session.create_physical_expr(all, &named).ok()?;
        verdicts(physical, table, &known)
    };
    verdicts().unwrap_or_else(|| vec![true; pieces.len()])
}

/// Whether a piece may hold a row that passes a filter over these columns, as the filter stands now.
pub(crate) fn may_pass(filter: &Arc<dyn PhysicalExpr>, columns: &SchemaRef, piece: &Known<'_>) -> bool {
    let now = snapshot_physical_expr(Arc::clone(filter)).ok();
    let verdicts = now.and_then(|now| verdicts(now, columns, std::slice::from_ref(piece)));
    verdicts.is_none_or(|verdicts| verdicts.iter().all(|passes| *passes))
}

fn verdicts(filter: Arc<dyn PhysicalExpr>, columns: &SchemaRef, pieces: &[Known<'_>]) -> Option<Vec<bool>> {
    let predicate = PruningPredicateBuilder::new().with_file_schema(Arc::clone(columns)).try_build(filter).ok()?;
    predicate.prune(&Pieces { schema: columns, pieces }).ok()
}

/// What is known of a column of these pieces together. Bounds of text may be wider than the values: they leave pieces
/// out, and answer nothing by themselves.
pub(crate) fn column_statistics(pieces: &[&Arc<Piece>], field: &Field) -> ColumnStatistics {
    let bounds = pieces.iter().map(|piece| piece.known().bounds(field.name(), field.data_type()));
    let merged = bounds.reduce(|a, b| {
        let ((low, high), (other_low, other_high)) = (a?, b?);
        let low = if other_low < low { other_low } else { low };
        let high = if other_high > high { other_high } else { high };
        Some((low, high))
    });
    let Some((low, high)) = merged.flatten() else { return ColumnStatistics::new_unknown() };
    let exact = matches!(field.data_type(), DataType::Int64 | DataType::Timestamp(..));
    let known = |value| if exact { Precision::Exact(value) } else { Precision::Inexact(value) };
    let null_count = if field.is_nullable() { Precision::Absent } else { Precision::Exact(0) };
    ColumnStatistics { null_count, min_value: known(low), max_value: known(high), ..ColumnStatistics::new_unknown() }
}

struct Pieces<'a> {
    schema: &'a SchemaRef,
    pieces: &'a [Known<'a>],
}

impl Pieces<'_> {
    fn side(&self, column: &Column, pick: fn((ScalarValue, ScalarValue)) -> ScalarValue) -> Option<ArrayRef> {
        let kind = self.schema.field_with_name(column.name()).ok()?.data_type();
        let unknown = ScalarValue::try_from(kind).ok()?;
        let mut any = false;
        let values = self.pieces.iter().map(|piece| {
            let bounds = piece.bounds(column.name(), kind);
            any |= bounds.is_some();
            bounds.map_or_else(|| unknown.clone(), pick)
        });
        let values: Vec<ScalarValue> = values.collect();
        if any { ScalarValue::iter_to_array(values).ok() } else { None }
    }
}

impl PruningStatistics for Pieces<'_> {
    fn min_values(&self, column: &Column) -> Option<ArrayRef> {
        self.side(column, |bounds| bounds.0)
    }

    fn max_values(&self, column: &Column) -> Option<ArrayRef> {
        self.side(column, |bounds| bounds.1)
    }

    fn num_containers(&self) -> usize {
        self.pieces.len()
    }

    fn null_counts(&self, column: &Column) -> Option<ArrayRef> {
        let never_null = self.schema.field_with_name(column.name()).is_ok_and(|field| !field.is_nullable());
        never_null.then(|| Arc::new(UInt64Array::from_value(0, self.pieces.len())) as ArrayRef)
    }

    fn row_counts(&self) -> Option<ArrayRef> {
        Some(Arc::new(UInt64Array::from_iter_values(self.pieces.iter().map(|piece| piece.end - piece.first))))
    }

    fn contained(&self, _column: &Column, _values: &HashSet<ScalarValue>) -> Option<BooleanArray> {
        None
    }
}
