//! What makes the commitments of rows: a seed and an index, or, since something near was erased, salts one by one and the
//! commitments of what is gone (FORMAT.md §4).
//!
//! A seed gives the salt of every section of up to 1,024 entries. When a section of one of them is erased, its salt must
//! be known to nobody, so all of these rows lose the seed and keep, for each section that stays, its own salt. Not here:
//! which rows are to lose what ([`crate::erase`]).
//!
//! Invariants: a row has either seed and index, or salts and kept commitments, and of these one for each section that its
//! leaf commits to; a section whose commitment is kept has no field.

use super::{SALT_INDEX, SALT_SEED, column, damaged, schema};
use crate::error::StoreError;
use arrow::array::builder::FixedSizeBinaryBuilder;
use arrow::array::{Array, ArrayRef, FixedSizeBinaryArray, Int32Array, RecordBatch, new_null_array};
use arrow::datatypes::{DataType, Field as Column, Schema, SchemaRef};
use ledger::field::Section;
use ledger::leaf::{self, Commitments, Salt, Seed};
use ledger::sections::Sections;
use ledger::tree::Hash;
use std::sync::Arc;

/// The columns of salts, one for each section of [`Section::COMMITTED`]; secret.
pub(crate) const SALTS: [&str; 5] = ["salt_actor", "salt_subject", "salt_scope", "salt_origin", "salt_details"];
/// The columns of commitments to sections that were erased, likewise.
pub(crate) const KEPT: [&str; 5] = ["kept_actor", "kept_subject", "kept_scope", "kept_origin", "kept_details"];

/// Whether a column is one of these.
pub(crate) fn is_one(name: &str) -> bool {
    SALTS.contains(&name) || KEPT.contains(&name)
}

/// The columns of a segment in which something was erased: those of every segment, then salts, then kept commitments.
pub(crate) fn wide_schema() -> SchemaRef {
    let mut columns = schema().fields().to_vec();
    let more =
        |names: [&str; 5], bytes| names.map(|name| Arc::new(Column::new(name, DataType::FixedSizeBinary(bytes), true)));
    columns.extend(more(SALTS, 16));
    columns.extend(more(KEPT, 32));
    Arc::new(Schema::new(columns))
}

/// The columns of a segment, in which something was erased or not.
pub(crate) fn schema_of(is_wide: bool) -> SchemaRef {
    if is_wide { wide_schema() } else { schema() }
}

/// The batch under the schema that segments are written with; the reader leaves out what may not be null. `is_wide` says
/// that something was erased in the segment, here or elsewhere.
///
/// # Errors
/// The columns are others.
pub(crate) fn as_written(batch: &RecordBatch, is_wide: bool) -> Result<RecordBatch, StoreError> {
    let schema = schema_of(is_wide);
    let given = batch.columns().iter().map(Arc::clone);
    let missing = schema.fields().iter().skip(batch.num_columns());
    let columns = given.chain(missing.map(|field| new_null_array(field.data_type(), batch.num_rows()))).collect();
    RecordBatch::try_new(schema, columns).map_err(|_| damaged("columns of unequal length or another type"))
}

/// What stands in the place of a section's seed: its salt, or its commitment once it was erased.
type Pair = (Option<Salt>, Option<Hash>);

/// The secrets of a batch's rows.
pub(super) struct Secrets<'a> {
    seeds: &'a FixedSizeBinaryArray,
    indexes: &'a Int32Array,
    /// Salts and kept commitments, where something was erased.
    each: Option<[(&'a FixedSizeBinaryArray, &'a FixedSizeBinaryArray); 5]>,
}

fn value<const N: usize>(array: &FixedSizeBinaryArray, row: usize) -> Option<[u8; N]> {
    array.is_valid(row).then(|| array.value(row).try_into().ok()).flatten()
}

impl<'a> Secrets<'a> {
    /// Reads the columns.
    ///
    /// # Errors
    /// One is missing or of another type.
    pub(super) fn of(batch: &'a RecordBatch) -> Result<Self, StoreError> {
        let is_wide = SALTS.iter().chain(&KEPT).any(|name| batch.column_by_name(name).is_some());
        let pair = |at: usize| -> Result<_, StoreError> {
            let (salts, kept): (&FixedSizeBinaryArray, &FixedSizeBinaryArray) =
                (column(batch, SALTS[at])?, column(batch, KEPT[at])?);
            let fits = salts.value_length() == 16 && kept.value_length() == 32;
            if fits { Ok((salts, kept)) } else { Err(damaged("a column of salts has another width")) }
        };
        let each = match is_wide {
            true => Some([pair(0)?, pair(1)?, pair(2)?, pair(3)?, pair(4)?]),
            false => None,
        };
        Ok(Self { seeds: column(batch, SALT_SEED)?, indexes: column(batch, SALT_INDEX)?, each })
    }

    /// How many columns it has besides those of every segment.
    pub(super) fn more_columns(&self) -> usize {
        self.each.map_or(0, |_| SALTS.len() + KEPT.len())
    }

    /// A row's seed and index, unless its salts stand one by one.
    pub(super) fn seed(&self, row: usize) -> Option<(Seed, u32)> {
        let seed = value(self.seeds, row).map(Seed)?;
        self.indexes.is_valid(row).then(|| (seed, self.indexes.value(row) as u32))
    }

    /// A section's salt and kept commitment, where they stand one by one.
    pub(super) fn pair(&self, row: usize, at: usize) -> Pair {
        self.each.map_or((None, None), |each| (value(each[at].0, row), value(each[at].1, row).map(Hash)))
    }

    /// The sections of a row that were erased.
    pub(super) fn erased(&self, row: usize) -> Sections {
        let is_erased = |at: &usize| self.pair(row, *at).1.is_some();
        (0..5).filter(is_erased).map(|at| Section::COMMITTED[at]).collect()
    }

    /// What a row's leaf commits to.
    ///
    /// # Errors
    /// The row has no salts, or others than its sections need.
    pub(super) fn commitments<'f>(
        &self,
        row: usize,
        fields_of: impl Fn(Section) -> &'f [u8],
    ) -> Result<Commitments, StoreError> {
        let why = "a row's salts are not those that its sections need";
        if let Some((seed, index)) = self.seed(row) {
            let has_more = self.each.is_some() && (0..5).any(|at| self.pair(row, at) != (None, None));
            return if has_more { Err(damaged(why)) } else { Ok(Commitments::of_sections(fields_of, &seed, index)) };
        }
        if self.each.is_none() || self.seeds.is_valid(row) || self.indexes.is_valid(row) {
            return Err(damaged("a row has no salts"));
        }
        let mut parts = [None; 5];
        for (at, section) in Section::COMMITTED.into_iter().enumerate() {
            let fields = fields_of(section);
            let is_committed = !fields.is_empty() || section == Section::Details;
            parts[at] = match self.pair(row, at) {
                (None, Some(kept)) if fields.is_empty() => Some(kept),
                (Some(salt), None) if is_committed => Some(leaf::commitment(section, &salt, fields)),
                (None, None) if !is_committed => None,
                _ => return Err(damaged(why)),
            };
        }
        Ok(Commitments::from_parts(parts))
    }

    /// What is to stand in the place of a row's seed when these sections are erased, given which sections its leaf commits
    /// to and with what. A section that was erased before stays so.
    pub(super) fn without(&self, row: usize, committed: &Commitments, goes: Sections) -> [Pair; 5] {
        std::array::from_fn(|at| {
            let section = Section::COMMITTED[at];
            let Some(commitment) = committed.parts()[at] else { return (None, None) };
            let stands = match self.seed(row) {
                Some((seed, index)) => (Some(seed.salt(index, section)), None),
                None => self.pair(row, at),
            };
            if goes.contains(section) { (None, Some(commitment)) } else { stands }
        })
    }
}

/// Seeds, salts and kept commitments, as they come row by row.
pub(super) struct SecretsBuilder {
    seeds: FixedSizeBinaryBuilder,
    indexes: Vec<Option<i32>>,
    salts: [FixedSizeBinaryBuilder; 5],
    kept: [FixedSizeBinaryBuilder; 5],
}

impl SecretsBuilder {
    /// For so many rows.
    pub(super) fn new(rows: usize) -> Self {
        let seeds = FixedSizeBinaryBuilder::with_capacity(rows, 16);
        let salts = std::array::from_fn(|_| FixedSizeBinaryBuilder::with_capacity(rows, 16));
        let kept = std::array::from_fn(|_| FixedSizeBinaryBuilder::with_capacity(rows, 32));
        Self { seeds, indexes: Vec::with_capacity(rows), salts, kept }
    }

    /// A row: its seed and index, or what stands in their place.
    ///
    /// # Errors
    /// None that a fixed width could give.
    pub(super) fn push(&mut self, seed: Option<(Seed, u32)>, each: &[Pair; 5]) -> Result<(), StoreError> {
        put(&mut self.seeds, seed.as_ref().map(|(seed, _)| &seed.0[..]))?;
        self.indexes.push(seed.map(|(_, index)| index as i32));
        for (at, (salt, kept)) in each.iter().enumerate() {
            put(&mut self.salts[at], salt.as_ref().map(<[u8; 16]>::as_slice))?;
            put(&mut self.kept[at], kept.as_ref().map(|hash| hash.0.as_slice()))?;
        }
        Ok(())
    }

    /// The columns, in the order of [`wide_schema`], from the seeds on.
    pub(super) fn finish(mut self) -> Vec<ArrayRef> {
        let mut columns: Vec<ArrayRef> = vec![Arc::new(self.seeds.finish()), Arc::new(Int32Array::from(self.indexes))];
        columns
            .extend(self.salts.iter_mut().chain(&mut self.kept).map(|builder| Arc::new(builder.finish()) as ArrayRef));
        columns
    }
}

fn put(builder: &mut FixedSizeBinaryBuilder, value: Option<&[u8]>) -> Result<(), StoreError> {
    match value {
        Some(value) => builder.append_value(value).map_err(|_| damaged("a salt of another width")),
        None => {
            builder.append_null();
            Ok(())
        }
    }
}
