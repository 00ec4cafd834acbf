//! What a scan does with one row group or one tail: test the conditions, then give out the rows that pass.
//!
//! Narrow columns come from memory, or are read whole and kept; wide ones are read for the rows that passed, a window
//! of rows at a time. Not here: the order of groups and limits ([`crate::scan`]), reading ([`crate::reader`]).
//!
//! Invariants: a row is given out exactly if it passes every condition; columns beside those of conditions are looked
//! at only where rows passed.

use crate::barrier::{Barrier, Shown};
use crate::column::{Column, Passing};
use crate::condition::{Condition, WIDE};
use crate::reader::{RowGroup, Segments};
use crate::table::{Held, Piece};
use datafusion::arrow::array::{ArrayRef, AsArray, Int64Array, RecordBatch, RecordBatchOptions, UInt32Array};
use datafusion::arrow::compute::take_record_batch;
use datafusion::arrow::datatypes::{Int64Type, SchemaRef};
use datafusion::error::{DataFusionError, Result};
use datafusion::physical_plan::metrics::Count;
use parquet::arrow::arrow_reader::RowSelection;
use std::ops::Range;
use std::sync::Arc;

/// One row in so many of a group are few: to skip the others is then quicker than to decode them.
const FEW: usize = 8;

/// What is asked of every group of a scan.
#[derive(Debug, Clone)]
pub(crate) struct Asked {
    /// Reads what is not in memory.
    pub segments: Arc<Segments>,
    /// The columns that are wanted, by their place in the table.
    pub columns: Vec<usize>,
    /// The same, with their names and types.
    pub schema: SchemaRef,
    /// What rows must pass.
    pub conditions: Vec<Condition>,
    /// Whether columns that are read stay in memory.
    pub keep: bool,
}

/// Groups that were left out, and why.
#[derive(Debug, Clone)]
pub(crate) struct Counts {
    /// Groups of which some row passed.
    pub read: Count,
    /// By Bloom filters, before any column was read.
    pub by_bloom: Count,
    /// Because no value passed.
    pub by_values: Count,
}

/// Rows that lie together: a row group of a segment, or a batch of a tail.
#[derive(Debug, Clone)]
pub(crate) struct Group {
    piece: Arc<Piece>,
    first: u64,
    rows: usize,
    /// Those of them that lie before the head.
    shown: usize,
    held: Rows,
}

#[derive(Debug, Clone)]
enum Rows {
    Sealed(RowGroup),
    Tail(RecordBatch),
}

impl Group {
    /// The groups of a piece, ascending.
    ///
    /// # Errors
    /// A segment cannot be read.
    pub async fn of(piece: Arc<Piece>, segments: &Segments) -> Result<Vec<Self>> {
        let mut first = piece.first;
        let held: Vec<(Rows, usize)> = match &piece.held {
            Held::Segment(sealed) => {
                let groups = segments.row_groups(sealed).await?;
                groups.into_iter().map(|group| (group.rows, Rows::Sealed(group))).map(|(n, group)| (group, n)).collect()
            }
            Held::Tail(batches) => batches.iter().map(|batch| (Rows::Tail(batch.clone()), batch.num_rows())).collect(),
        };
        let mut groups = Vec::with_capacity(held.len());
        for (held, rows) in held {
            let begin = first;
            first += rows as u64;
            let shown = match &held {
                Rows::Sealed(group) if !piece.is_counted() => shown_of(segments, group, rows, piece.end).await?,
                _ if !piece.is_whole => rows,
                _ => piece.end.saturating_sub(begin).min(rows as u64) as usize,
            };
            groups.push(Self { piece: Arc::clone(&piece), first: begin, rows, shown, held });
        }
        groups.retain(|group| group.shown > 0);
        Ok(groups)
    }

    /// Columns of all rows, as they are stored: also those that the caller does not see.
    async fn stored(&self, asked: &Asked, wanted: &[usize]) -> Result<Vec<Column>> {
        match &self.held {
            Rows::Sealed(group) => asked.segments.columns(group, wanted, asked.keep).await,
            Rows::Tail(batch) => wanted.iter().map(|at| Column::of(batch.column(*at))).collect(),
        }
    }

    /// Columns of all rows.
    async fn columns(&self, asked: &Asked, wanted: &[usize]) -> Result<Vec<Column>> {
        let mut stored = Vec::new();
        let mut columns: Vec<Option<Column>> = Vec::with_capacity(wanted.len());
        for column in wanted {
            let known = self.known(asked, *column);
            if known.is_none() {
                stored.push(*column);
            }
            columns.push(known);
        }
        let read = match &self.held {
            Rows::Sealed(group) => {
                let keeps = asked.keep && stored.iter().all(|column| !asked.is_wide(*column));
                asked.segments.columns(group, &stored, keeps).await?
            }
            Rows::Tail(batch) => stored.iter().map(|at| Column::of(batch.column(*at))).collect::<Result<_>>()?,
        };
        let mut read = read.into_iter();
        Ok(columns.into_iter().filter_map(|column| column.or_else(|| read.next())).collect())
    }

    /// A column that follows from where the group is, or that the caller does not see at all.
    fn known(&self, asked: &Asked, column: usize) -> Option<Column> {
        if self.piece.barrier.as_ref().is_some_and(|barrier| barrier.masks(column)) {
            return Some(Column::Null(asked.segments.table().field(column).data_type().clone()));
        }
        match asked.segments.table().field(column).name().as_str() {
            // Where some entries are gone, a row's place does not tell its number.
            "seq" if self.piece.is_whole => {
                let first = self.first as i64;
                Some(Column::Plain(Arc::new(Int64Array::from_iter_values(first..first + self.rows as i64))))
            }
            "tenant" => Some(Column::constant(&self.piece.tenant, self.rows)),
            "stream" => Some(Column::constant(self.piece.stream, self.rows)),
            _ => None,
        }
    }

    /// Tests the conditions; none if no row passes.
    ///
    /// # Errors
    /// A segment cannot be read.
    pub async fn open(self, asked: &Asked, counts: &Counts) -> Result<Option<Open>> {
        if let Some(barrier) = self.piece.barrier.clone() {
            return self.open_behind(&barrier, asked).await;
        }
        if let Rows::Sealed(group) = &self.held {
            for condition in &asked.conditions {
                let Some(texts) = condition.equals.as_ref().filter(|_| self.known(asked, condition.column).is_none())
                else {
                    continue;
                };
                if !asked.segments.may_hold(group, condition.column, texts).await? {
                    counts.by_bloom.add(1);
                    return Ok(None);
                }
            }
        }
        let mut tested: Vec<usize> = asked.conditions.iter().map(|condition| condition.column).collect();
        tested.sort_unstable();
        tested.dedup();
        let of_tested = self.columns(asked, &tested).await?;
        let mut passing = Passing::first(self.shown, self.rows);
        for condition in &asked.conditions {
            let at = tested.partition_point(|column| *column < condition.column);
            passing = passing.and(of_tested[at].passing(condition)?);
            if matches!(passing, Passing::None) {
                counts.by_values.add(1);
                return Ok(None);
            }
        }
        counts.read.add(1);
        let rows = match passing {
            Passing::Some(mask) => Some(UInt32Array::from_iter_values(mask.set_indices_u32())),
            _ => None,
        };
        Ok(Some(self.opened(asked, rows, None).await?))
    }

    /// The same for a caller who sees only some of the rows: scope first, on what is stored; then the conditions, on
    /// what is left, as the caller sees it. Nothing is left out by what is known of hidden rows, and nothing counted.
    async fn open_behind(self, barrier: &Barrier, asked: &Asked) -> Result<Option<Open>> {
        let tested = self.stored(asked, barrier.tested()).await?;
        let shown = barrier.shown(&tested, self.rows)?;
        let mut rows: Vec<u32> = shown.any.set_indices_u32().take_while(|row| (*row as usize) < self.shown).collect();
        for condition in &asked.conditions {
            if rows.is_empty() {
                break;
            }
            let column = self.columns(asked, &[condition.column]).await?;
            let Some(column) = column.first() else { continue };
            let values = column.rows(&UInt32Array::from(rows.clone()))?;
            let values = barrier.masked(condition.column, values, &shown, &rows)?;
            let passes = condition.holds(&values)?;
            rows = passes.set_indices().map(|at| rows[at]).collect();
        }
        if rows.is_empty() {
            return Ok(None);
        }
        Ok(Some(self.opened(asked, Some(rows.into()), Some(shown)).await?))
    }

    async fn opened(self, asked: &Asked, rows: Option<UInt32Array>, shown: Option<Shown>) -> Result<Open> {
        let are_few = rows.as_ref().is_some_and(|rows| FEW * rows.len() <= self.rows);
        let narrow: Vec<usize> =
            asked.columns.iter().copied().filter(|c| !self.reads_late(asked, *c, are_few)).collect();
        let columns = self.columns(asked, &narrow).await?;
        Ok(Open { narrow, columns, rows, shown, group: self })
    }

    /// Whether a column is read for the rows that passed only: a wide one, and where few rows passed one that is in memory
    /// neither now nor afterwards.
    fn reads_late(&self, asked: &Asked, column: usize, are_few: bool) -> bool {
        let Rows::Sealed(group) = &self.held else { return false };
        let is_worth_it = || are_few && !asked.keep && !asked.segments.is_kept(group, column);
        self.known(asked, column).is_none() && (asked.is_wide(column) || is_worth_it())
    }
}

/// How many rows of a group lie before the head, where some entries are gone: by their own numbers, which ascend.
async fn shown_of(segments: &Segments, group: &RowGroup, rows: usize, end: u64) -> Result<usize> {
    let seq = segments.table().index_of(ledger_store::columns::SEQ)?;
    let columns = segments.columns(group, &[seq], false).await?;
    let all = UInt32Array::from_iter_values(0..rows as u32);
    let values = columns.first().map(|column| column.rows(&all)).transpose()?;
    let seqs = values.as_ref().and_then(|values| values.as_primitive_opt::<Int64Type>());
    Ok(seqs.map_or(0, |seqs| seqs.values().partition_point(|seq| (*seq as u64) < end)))
}

impl Asked {
    fn is_wide(&self, column: usize) -> bool {
        WIDE.contains(&self.segments.table().field(column).name().as_str())
    }
}

/// A group of which some rows pass.
pub(crate) struct Open {
    group: Group,
    /// Which columns are at hand.
    narrow: Vec<usize>,
    columns: Vec<Column>,
    /// The rows that pass; none if all do.
    rows: Option<UInt32Array>,
    /// What a caller who does not see everything sees of them.
    shown: Option<Shown>,
}

impl Open {
    /// How many rows pass.
    pub fn count(&self) -> usize {
        self.rows.as_ref().map_or(self.group.rows, |rows| rows.len())
    }

    /// A run of the rows that pass, with every column that is wanted.
    ///
    /// # Errors
    /// A segment cannot be read.
    pub async fn window(&self, asked: &Asked, window: Range<usize>, backward: bool) -> Result<RecordBatch> {
        let (from, count) = (window.start, window.len());
        let chosen = self.rows.as_ref().map(|rows| rows.slice(from, count));
        let late: Vec<usize> = asked.columns.iter().copied().filter(|c| !self.narrow.contains(c)).collect();
        let wide = match &self.group.held {
            Rows::Sealed(group) if !late.is_empty() => {
                let selection = self.selection(chosen.as_ref(), window);
                asked.segments.some_rows(group, &late, selection).await?
            }
            _ => Vec::new(),
        };
        let (mut wide, mut narrow) = (wide.into_iter(), self.columns.iter());
        let mut arrays: Vec<ArrayRef> = Vec::with_capacity(asked.columns.len());
        for column in &asked.columns {
            let array = if late.contains(column) {
                wide.next().map(|column| column.range(0, count))
            } else {
                narrow.next().map(|column| match &chosen {
                    Some(rows) => column.rows(rows),
                    None => column.range(from, count),
                })
            };
            let array = array.transpose()?;
            let array = match (&self.group.piece.barrier, &self.shown, &chosen, array) {
                (Some(barrier), Some(shown), Some(rows), Some(array)) => {
                    Some(barrier.masked(*column, array, shown, rows.values())?)
                }
                // Behind a barrier, rows are always chosen ones.
                (Some(_), _, _, _) => return Err(DataFusionError::Internal("rows without their scope".into())),
                (None, _, _, array) => array,
            };
            arrays.extend(array);
        }
        let options = RecordBatchOptions::new().with_row_count(Some(count));
        let batch = RecordBatch::try_new_with_options(Arc::clone(&asked.schema), arrays, &options)?;
        if backward && batch.num_columns() > 0 {
            let back = UInt32Array::from_iter_values((0..count as u32).rev());
            return Ok(take_record_batch(&batch, &back)?);
        }
        Ok(batch)
    }

    fn selection(&self, chosen: Option<&UInt32Array>, window: Range<usize>) -> RowSelection {
        let all = self.group.rows;
        let Some(chosen) = chosen else {
            return RowSelection::from_consecutive_ranges(std::iter::once(window), all);
        };
        let rows = chosen.values().iter().map(|row| *row as usize);
        RowSelection::from_consecutive_ranges(rows.map(|row| row..row + 1), all)
    }
}
