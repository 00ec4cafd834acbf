//! Entries to Arrow columns and back: the schema of segments and of the unsealed tail (FORMAT.md §4).
//!
//! Not here: how columns are encoded in Parquet ([`crate::segment`]), what SQL shows of them (`query`).
//!
//! Invariant: from each row the entry's encoded fields, and so its leaf, are recomputed byte for byte.

use crate::entry::Entry;
use crate::error::StoreError;
use arrow::array::{
    Array, ArrayRef, FixedSizeBinaryArray, FixedSizeBinaryBuilder, Int32Array, Int32Builder, Int64Array, Int64Builder,
    RecordBatch, StringArray, StringBuilder, TimestampMicrosecondArray, TimestampMicrosecondBuilder,
};
use arrow::datatypes::{DataType, Field as Column, Schema, SchemaRef, TimeUnit};
use ledger::draft::Draft;
use ledger::field::{self, Field, Fields, Kind, Section};
use ledger::leaf::{self, Commitments, Seed};
use ledger::tree::Hash;
use std::sync::Arc;

/// The column of sequence numbers.
pub const SEQ: &str = "seq";
/// The column of salt seeds; secret.
pub const SALT_SEED: &str = "salt_seed";
/// The column of indexes under the seed; secret.
pub const SALT_INDEX: &str = "salt_index";

fn is_time(field: Field) -> bool {
    matches!(field, Field::RecordedAt | Field::OccurredAt)
}

fn data_type(field: Field) -> DataType {
    match field.kind() {
        Kind::Text => DataType::Utf8,
        Kind::Bytes => DataType::FixedSizeBinary(field.limit() as i32),
        Kind::Int if is_time(field) => DataType::Timestamp(TimeUnit::Microsecond, Some("UTC".into())),
        Kind::Int => DataType::Int64,
    }
}

/// The columns of a segment: `seq`, every field by ascending id, `salt_seed`, `salt_index`.
pub fn schema() -> SchemaRef {
    let required = [Field::RecordedAt, Field::Tenant, Field::Stream, Field::EventId, Field::OccurredAt, Field::Action];
    let mut columns = vec![Column::new(SEQ, DataType::Int64, false)];
    for field in Field::ALL {
        let nullable = !required.contains(&field) && !matches!(field, Field::Outcome | Field::ActorType);
        columns.push(Column::new(field.name(), data_type(field), nullable));
    }
    columns.push(Column::new(SALT_SEED, DataType::FixedSizeBinary(16), true));
    columns.push(Column::new(SALT_INDEX, DataType::Int32, true));
    Arc::new(Schema::new(columns))
}

enum Builder {
    Text(StringBuilder),
    Bytes(FixedSizeBinaryBuilder),
    Int(Int64Builder),
    Time(TimestampMicrosecondBuilder),
}

impl Builder {
    fn new(field: Field, rows: usize) -> Self {
        match field.kind() {
            Kind::Text => Self::Text(StringBuilder::with_capacity(rows, rows * 16)),
            Kind::Bytes => Self::Bytes(FixedSizeBinaryBuilder::with_capacity(rows, field.limit() as i32)),
            Kind::Int if is_time(field) => {
                Self::Time(TimestampMicrosecondBuilder::with_capacity(rows).with_timezone("UTC"))
            }
            Kind::Int => Self::Int(Int64Builder::with_capacity(rows)),
        }
    }

    fn null(&mut self) {
        match self {
            Self::Text(b) => b.append_null(),
            Self::Bytes(b) => b.append_null(),
            Self::Int(b) => b.append_null(),
            Self::Time(b) => b.append_null(),
        }
    }

    fn value(&mut self, encoded: &field::Encoded<'_>) {
        match self {
            Self::Text(b) => b.append_value(encoded.text()),
            // The walk over encoded fields has checked the width, so this never fails; a null would be
            // found as another leaf.
            Self::Bytes(b) => b.append_value(encoded.value).unwrap_or_else(|_| b.append_null()),
            Self::Int(b) => b.append_value(encoded.int()),
            Self::Time(b) => b.append_value(encoded.int()),
        }
    }

    fn finish(self) -> ArrayRef {
        match self {
            Self::Text(mut b) => Arc::new(b.finish()),
            Self::Bytes(mut b) => Arc::new(b.finish()),
            Self::Int(mut b) => Arc::new(b.finish()),
            Self::Time(mut b) => Arc::new(b.finish()),
        }
    }
}

/// The columns of contiguous entries, of which the first has sequence number `first`.
///
/// # Errors
/// An entry's encoding is damaged in memory.
pub fn batch(first: u64, entries: &[&Entry]) -> Result<RecordBatch, StoreError> {
    let rows = entries.len();
    let mut builders: Vec<Builder> = Field::ALL.iter().map(|field| Builder::new(*field, rows)).collect();
    let mut seeds = FixedSizeBinaryBuilder::with_capacity(rows, 16);
    let mut indexes = Int32Builder::with_capacity(rows);
    for entry in entries {
        let mut next = 0;
        for encoded in Fields::new(entry.draft.fields()) {
            let encoded = encoded?;
            while Field::ALL[next] != encoded.field {
                builders[next].null();
                next += 1;
            }
            builders[next].value(&encoded);
            next += 1;
        }
        builders[next..].iter_mut().for_each(Builder::null);
        seeds.append_value(entry.seed.0).unwrap_or_else(|_| seeds.append_null());
        indexes.append_value(entry.index as i32);
    }
    let mut columns: Vec<ArrayRef> =
        vec![Arc::new(Int64Array::from_iter_values((first..first + rows as u64).map(|seq| seq as i64)))];
    columns.extend(builders.into_iter().map(Builder::finish));
    columns.push(Arc::new(seeds.finish()));
    columns.push(Arc::new(indexes.finish()));
    RecordBatch::try_new(schema(), columns).map_err(|_| damaged("columns of unequal length"))
}

fn damaged(why: &'static str) -> StoreError {
    StoreError::Damaged { path: "rows".into(), why }
}

enum Reader<'a> {
    Text(&'a StringArray),
    Bytes(&'a FixedSizeBinaryArray),
    Int(&'a Int64Array),
    Time(&'a TimestampMicrosecondArray),
}

impl<'a> Reader<'a> {
    fn new(field: Field, array: &'a ArrayRef) -> Option<Self> {
        let any = array.as_any();
        match field.kind() {
            Kind::Text => any.downcast_ref().map(Self::Text),
            Kind::Bytes => any.downcast_ref().map(Self::Bytes),
            Kind::Int if is_time(field) => any.downcast_ref().map(Self::Time),
            Kind::Int => any.downcast_ref().map(Self::Int),
        }
    }

    fn put(&self, row: usize, field: Field, out: &mut Vec<u8>) {
        match self {
            Self::Text(a) if a.is_valid(row) => field::put(out, field.id(), Kind::Text, a.value(row).as_bytes()),
            Self::Bytes(a) if a.is_valid(row) => field::put(out, field.id(), Kind::Bytes, a.value(row)),
            Self::Int(a) if a.is_valid(row) => field::put(out, field.id(), Kind::Int, &a.value(row).to_be_bytes()),
            Self::Time(a) if a.is_valid(row) => field::put(out, field.id(), Kind::Int, &a.value(row).to_be_bytes()),
            _ => {}
        }
    }
}

/// Rows of a segment, read back as entries are hashed.
pub struct Rows<'a> {
    seqs: &'a Int64Array,
    fields: Vec<Reader<'a>>,
    seeds: &'a FixedSizeBinaryArray,
    indexes: &'a Int32Array,
}

impl<'a> Rows<'a> {
    /// Reads a batch that has the columns of [`schema`], by name.
    ///
    /// # Errors
    /// A column is missing or of another type.
    pub fn of(batch: &'a RecordBatch) -> Result<Self, StoreError> {
        fn column<'b, T: 'static>(batch: &'b RecordBatch, name: &str) -> Result<&'b T, StoreError> {
            let found = batch.column_by_name(name).and_then(|array| array.as_any().downcast_ref());
            found.ok_or_else(|| damaged("a column is missing or of another type"))
        }
        let reader = |field: Field| {
            let array = batch.column_by_name(field.name());
            array.and_then(|array| Reader::new(field, array)).ok_or_else(|| damaged("a field's column is missing"))
        };
        // A column that is not known here would be part of what a newer format hashes: not a fault, but not ours.
        let known = |name: &str| {
            [SEQ, SALT_SEED, SALT_INDEX].contains(&name) || Field::ALL.iter().any(|field| field.name() == name)
        };
        if batch.schema_ref().fields().iter().any(|column| !known(column.name())) {
            return Err(StoreError::Newer {
                object: "the segment".into(),
                what: "it has columns that are not known here".into(),
            });
        }
        if batch.num_columns() > Field::ALL.len() + 3 {
            return Err(damaged("a column stands twice"));
        }
        Ok(Self {
            seqs: column(batch, SEQ)?,
            fields: Field::ALL.into_iter().map(reader).collect::<Result<_, _>>()?,
            seeds: column(batch, SALT_SEED)?,
            indexes: column(batch, SALT_INDEX)?,
        })
    }

    /// How many rows.
    pub fn len(&self) -> usize {
        self.seqs.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A row's sequence number.
    pub fn seq(&self, row: usize) -> u64 {
        self.seqs.value(row) as u64
    }

    /// Whether a row is of this tenant and stream.
    pub fn is_of(&self, row: usize, tenant: &str, stream: &str) -> bool {
        let text = |at: usize| match self.fields[at] {
            Reader::Text(array) if array.is_valid(row) => array.value(row),
            _ => "",
        };
        // Tenant and stream are the second and third field.
        text(1) == tenant && text(2) == stream
    }

    /// When a row was recorded, in microseconds.
    pub fn recorded_at(&self, row: usize) -> i64 {
        match self.fields[0] {
            Reader::Time(array) => array.value(row),
            _ => 0,
        }
    }

    fn encode(&self, row: usize, out: &mut Vec<u8>) -> [usize; 6] {
        out.clear();
        let mut ends = [0; 6];
        for (field, reader) in Field::ALL.into_iter().zip(&self.fields) {
            reader.put(row, field, out);
            ends[usize::from(field.section().number())] = out.len();
        }
        ends
    }

    /// The leaf hash of a row, recomputed; `scratch` is reused from row to row.
    ///
    /// # Errors
    /// The row has no salts.
    pub fn leaf(&self, row: usize, scratch: &mut Vec<u8>) -> Result<Hash, StoreError> {
        let (seed, index) = self.salts(row)?;
        let ends = self.encode(row, scratch);
        let commitments = Commitments::of_sections(|section| section_of(scratch, &ends, section), &seed, index);
        Ok(leaf::leaf_hash(section_of(scratch, &ends, Section::Skeleton), &commitments))
    }

    /// The leaf data of a row: what C2SP entry bundles hold.
    ///
    /// # Errors
    /// The row has no salts.
    pub fn leaf_data(&self, row: usize, scratch: &mut Vec<u8>) -> Result<Vec<u8>, StoreError> {
        let (seed, index) = self.salts(row)?;
        let ends = self.encode(row, scratch);
        let commitments = Commitments::of_sections(|section| section_of(scratch, &ends, section), &seed, index);
        Ok(leaf::leaf_data(section_of(scratch, &ends, Section::Skeleton), &commitments))
    }

    /// The event of a row, stamped.
    ///
    /// # Errors
    /// The row's fields are no valid event.
    pub fn draft(&self, row: usize) -> Result<Draft, StoreError> {
        let mut fields = Vec::new();
        self.encode(row, &mut fields);
        Ok(Draft::decode(fields)?)
    }

    fn salts(&self, row: usize) -> Result<(Seed, u32), StoreError> {
        let seed = self.seeds.is_valid(row).then(|| self.seeds.value(row).try_into().ok()).flatten();
        match seed {
            Some(seed) if self.indexes.is_valid(row) => Ok((Seed(seed), self.indexes.value(row) as u32)),
            _ => Err(damaged("a row has no salts")),
        }
    }
}

fn section_of<'b>(fields: &'b [u8], ends: &[usize; 6], section: Section) -> &'b [u8] {
    let at = usize::from(section.number());
    let start = if at == 0 { 0 } else { ends[at - 1] };
    &fields[start..ends[at]]
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;
    use ledger::draft::DraftBuilder;
    use proptest::prelude::*;

    /// An entry with some fields taken from a number.
    pub(crate) fn entry(tenant: &str, number: u64) -> Entry {
        let mut builder = DraftBuilder::default();
        let id = format!("e-{number}");
        for (field, text) in [
            (Field::Tenant, tenant),
            (Field::EventId, &id),
            (Field::Action, "invoice.update"),
            (Field::ActorType, "user"),
        ] {
            builder.text(field, text.to_string()).unwrap();
        }
        builder.int(Field::OccurredAt, 1_790_000_000_000_000 + number as i64).unwrap();
        if number.is_multiple_of(2) {
            builder.text(Field::ActorId, format!("u-{}", number % 7)).unwrap();
            builder.hex(Field::TraceId, &format!("{:032x}", number + 1)).unwrap();
            builder.text(Field::Attributes, format!("{{\"n\":{number}}}")).unwrap();
        }
        if number.is_multiple_of(3) {
            builder.int(Field::DurationUs, number as i64).unwrap();
            builder.text(Field::SourceIp, "203.0.113.9").unwrap();
        }
        let mut draft = builder.finish().unwrap();
        draft.stamp(1_790_000_000_000_000 + number as i64);
        let seed = Seed([7; 16]);
        let commitments = Commitments::of(&draft, &seed, number as u32);
        Entry::new(draft, seed, number as u32, &commitments)
    }

    #[test]
    fn a_column_that_is_not_known_is_newer_and_one_that_lacks_is_damage() {
        let whole = batch(0, &[&entry("acme", 2)]).unwrap();
        let (mut names, mut arrays) = (whole.schema().fields().to_vec(), whole.columns().to_vec());
        names.push(Arc::new(Column::new("kept_commitment", DataType::Int64, true)));
        arrays.push(Arc::new(Int64Array::from(vec![1])));
        let more = RecordBatch::try_new(Arc::new(Schema::new(names)), arrays).unwrap();
        assert!(Rows::of(&more).err().is_some_and(|error| error.is_newer()));
        let fewer = whole.project(&(1..whole.num_columns()).collect::<Vec<_>>()).unwrap();
        assert!(matches!(Rows::of(&fewer), Err(StoreError::Damaged { .. })));
    }

    proptest! {
        #[test]
        fn rows_give_back_the_entries_and_their_leaves(first in 0u64..1_000, rows in 0u64..60) {
            let entries: Vec<Entry> = (first..first + rows).map(|n| entry("acme", n)).collect();
            let batch = batch(first, &entries.iter().collect::<Vec<_>>()).unwrap();
            let read = Rows::of(&batch).unwrap();
            prop_assert_eq!(read.len() as u64, rows);
            let mut scratch = Vec::new();
            for (row, entry) in entries.iter().enumerate() {
                prop_assert_eq!(read.seq(row), first + row as u64);
                prop_assert_eq!(read.leaf(row, &mut scratch).unwrap(), entry.leaf);
                prop_assert_eq!(ledger::tree::leaf_hash(&read.leaf_data(row, &mut scratch).unwrap()), entry.leaf);
                prop_assert_eq!(&read.draft(row).unwrap(), &entry.draft);
            }
        }
    }
}
