//! Rows without the sections that are erased: values go, salts go, commitments stay.
//!
//! Not here: which rows and sections ([`crate::erase`]). Invariants: a row's leaf is what it was; of the seeds that are to
//! go no row keeps one; an array that loses a value is made anew, so that nothing of it lies in a buffer behind a null.

use super::secrets::{SecretsBuilder, wide_schema};
use super::{Rows, damaged};
use crate::error::StoreError;
use arrow::array::{Array, ArrayRef, AsArray, RecordBatch, StringArray};
use ledger::field::{Field, Section};
use ledger::leaf::{Salt, Seed};
use ledger::proof::Span;
use ledger::sections::Sections;
use ledger::tree::Hash;
use std::collections::HashSet;
use std::sync::Arc;

/// Which sections of which entries are to go, and the seeds that go with them.
#[derive(Clone, Copy)]
pub(crate) struct Erases<'e> {
    /// Ascending, none overlapping the next.
    pub rows: &'e [(Span, Sections)],
    pub seeds: &'e HashSet<Seed>,
    /// Whether `details` goes where it has no fields too, so that nothing tells that it has none.
    pub with_empty: bool,
}

impl Erases<'_> {
    /// The sections of an entry that are to go.
    pub(crate) fn of(&self, seq: u64) -> Sections {
        sections_of(self.rows, seq)
    }
}

/// The sections of an entry that are to go, of ranges that ascend.
pub(crate) fn sections_of(rows: &[(Span, Sections)], seq: u64) -> Sections {
    let at = rows.partition_point(|(span, _)| span.end <= seq);
    rows.get(at).filter(|(span, _)| span.start <= seq).map(|(_, sections)| *sections).unwrap_or_default()
}

impl Rows<'_> {
    /// The sections of a row that have fields.
    pub(crate) fn filled(&self, row: usize, scratch: &mut Vec<u8>) -> Sections {
        let ends = self.encode(row, scratch);
        Section::COMMITTED
            .into_iter()
            .filter(|section| !super::section_of(scratch, &ends, *section).is_empty())
            .collect()
    }

    /// Of each committed section its salt or its kept commitment, of a row that has no seed.
    pub(crate) fn stands(&self, row: usize) -> [(Section, Option<Salt>, Option<Hash>); 5] {
        std::array::from_fn(|at| {
            let (salt, kept) = self.secrets.pair(row, at);
            (Section::COMMITTED[at], salt, kept)
        })
    }

    /// A row's seed, unless its salts stand one by one.
    pub(crate) fn seed(&self, row: usize) -> Option<Seed> {
        self.secrets.seed(row).map(|(seed, _)| seed)
    }
}

/// A batch without what is to go, under [`wide_schema`]; and how many of its rows lost something.
///
/// # Errors
/// Its columns are no entries'.
pub(crate) fn erase(batch: &RecordBatch, erases: Erases<'_>) -> Result<(RecordBatch, u64), StoreError> {
    let rows = Rows::of(batch)?;
    let mut scratch = Vec::new();
    let mut secrets = SecretsBuilder::new(rows.len());
    let mut goes = Vec::with_capacity(rows.len());
    for row in 0..rows.len() {
        let always = if erases.with_empty { Section::Details.into() } else { Sections::default() };
        let gone = erases.of(rows.seq(row)).and(rows.filled(row, &mut scratch) | always);
        let keeps_seed = gone.is_empty() && rows.seed(row).is_some_and(|seed| !erases.seeds.contains(&seed));
        let (_, committed) = rows.committed(row, &mut scratch)?;
        match rows.secrets.seed(row).filter(|_| keeps_seed) {
            Some(seed) => secrets.push(Some(seed), &[(None, None); 5])?,
            None => secrets.push(None, &rows.secrets.without(row, &committed, gone))?,
        }
        goes.push(gone);
    }
    let schema = wide_schema();
    let mut columns = Vec::with_capacity(schema.fields().len());
    columns.push(Arc::clone(batch.column_by_name(super::SEQ).ok_or_else(|| damaged("a column is missing"))?));
    for field in Field::ALL {
        let array = batch.column_by_name(field.name()).ok_or_else(|| damaged("a field's column is missing"))?;
        columns.push(without(array, field, &goes)?);
    }
    columns.extend(secrets.finish());
    let count = goes.iter().filter(|gone| !gone.is_empty()).count() as u64;
    let erased = RecordBatch::try_new(schema, columns).map_err(|_| damaged("columns of unequal length"))?;
    Ok((erased, count))
}

/// A column without the values of rows whose section goes.
fn without(array: &ArrayRef, field: Field, goes: &[Sections]) -> Result<ArrayRef, StoreError> {
    let is_gone = |row: usize| goes[row].contains(field.section());
    if !(0..array.len()).any(|row| is_gone(row) && array.is_valid(row)) {
        return Ok(Arc::clone(array));
    }
    // Every field outside of the skeleton is text.
    let texts = array.as_string_opt::<i32>().ok_or_else(|| damaged("a field's column is of another type"))?;
    let values = texts.iter().enumerate().map(|(row, text)| text.filter(|_| !is_gone(row)));
    Ok(Arc::new(values.collect::<StringArray>()))
}

#[cfg(test)]
mod tests {
    use super::super::tests::entry;
    use super::super::{batch, secrets::as_written};
    use super::*;
    use crate::entry::Entry;
    use proptest::prelude::*;

    fn leaves(batch: &RecordBatch) -> Vec<Hash> {
        let (rows, mut scratch) = (Rows::of(batch).unwrap(), Vec::new());
        (0..rows.len()).map(|row| rows.leaf(row, &mut scratch).unwrap()).collect()
    }

    proptest! {
        #[test]
        fn leaves_stay_and_values_go(
            rows in 1u64..40, picks in prop::collection::vec((0u64..40, 1u64..9, 0u8..32), 0..6), again: bool,
        ) {
            let entries: Vec<Entry> = (0..rows).map(|n| entry("acme", n)).collect();
            let whole = batch(0, &entries.iter().collect::<Vec<_>>()).unwrap();
            let mut wanted = vec![Sections::default(); rows as usize];
            let mut now = whole.clone();
            for (from, count, bits) in picks {
                let sections: Sections =
                    Section::COMMITTED.into_iter().filter(|s| bits >> (s.number() - 1) & 1 == 1).collect();
                let span = Span::new(from.min(rows - 1), (from + count).min(rows).max(from.min(rows - 1) + 1));
                (span.start..span.end).for_each(|seq| wanted[seq as usize] = wanted[seq as usize] | sections);
                let one = [(span, sections)];
                let seeds = HashSet::from([entries[0].seed]);
                now = erase(&now, Erases { rows: &one, seeds: &seeds, with_empty: false }).unwrap().0;
                if again {
                    prop_assert_eq!(erase(&now, Erases { rows: &one, seeds: &seeds, with_empty: false }).unwrap().1, 0);
                }
            }
            prop_assert_eq!(leaves(&now), leaves(&whole));
            prop_assert_eq!(leaves(&as_written(&now, true).unwrap()), leaves(&whole));
            let (before, after) = (Rows::of(&whole).unwrap(), Rows::of(&now).unwrap());
            let mut scratch = Vec::new();
            for (row, wanted) in wanted.iter().enumerate() {
                let filled = before.filled(row, &mut scratch);
                prop_assert_eq!(after.erased(row), filled.and(*wanted));
                prop_assert_eq!(after.filled(row, &mut scratch), filled.without(*wanted));
                let draft = after.draft(row).unwrap();
                prop_assert_eq!(draft.event_id(), entries[row].draft.event_id());
            }
        }

        #[test]
        fn no_other_mix_of_salts_is_believed(row in 0usize..6, column in 0usize..10, value in any::<[u8; 32]>()) {
            let entries: Vec<Entry> = (0..6).map(|n| entry("acme", n)).collect();
            let whole = batch(0, &entries.iter().collect::<Vec<_>>()).unwrap();
            let one = [(Span::new(2, 4), Sections::ALL)];
            let seeds = HashSet::from([entries[0].seed]);
            let erased = erase(&whole, Erases { rows: &one, seeds: &seeds, with_empty: false }).unwrap().0;
            let at = erased.num_columns() - 10 + column;
            let old = erased.column(at).as_fixed_size_binary();
            let width = if column < 5 { 16 } else { 32 };
            let values = (0..6).map(|r| if r == row { old.is_null(r).then(|| value[..width].to_vec()) } else {
                old.is_valid(r).then(|| old.value(r).to_vec())
            });
            let mut builder = arrow::array::builder::FixedSizeBinaryBuilder::new(width as i32);
            values.for_each(|value| match value {
                Some(value) => builder.append_value(value).unwrap(),
                None => builder.append_null(),
            });
            let mut columns = erased.columns().to_vec();
            columns[at] = Arc::new(builder.finish());
            let forged = RecordBatch::try_new(erased.schema(), columns).unwrap();
            let rows = Rows::of(&forged).unwrap();
            let leaf = rows.leaf(row, &mut Vec::new());
            prop_assert!(leaf.is_err() || leaf.unwrap() != entries[row].leaf);
        }
    }
}
