//! Entries to Arrow columns and back: the schema of segments and of the unsealed tail (FORMAT.md §4).
//!
//! Not here: what stands in the place of sections that were erased ([`secrets`]), how columns are encoded in Parquet
//! ([`crate::segment`]), what SQL shows of them (`query`).
//!
//! Invariant: from each row the entry's encoded fields, and so its leaf, are recomputed byte for byte.

pub(crate) mod erased;
pub(crate) mod secrets;

use self::secrets::Secrets;
use crate::entry::Entry;
use crate::error::StoreError;
use arrow::array::builder::NullBufferBuilder;
use arrow::array::{
    Array, ArrayRef, FixedSizeBinaryArray, Int32Array, Int64Array, RecordBatch, StringArray, TimestampMicrosecondArray,
    new_null_array,
};
use arrow::buffer::OffsetBuffer;
use arrow::datatypes::{DataType, Field as Column, Schema, SchemaRef, TimeUnit};
use ledger::draft::Draft;
use ledger::field::{self, Field, Fields, Kind, Section};
use ledger::leaf::{self, Commitments};
use ledger::sections::Sections;
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

/// The values of one field, as they come. Rows without one are made up for when the next comes, so that a column
/// that stays empty costs nothing.
struct Builder {
    field: Field,
    rows: usize,
    nulls: NullBufferBuilder,
    /// Where each row's text ends.
    ends: Vec<i32>,
    /// Text, or values of fixed length, one after the other.
    bytes: Vec<u8>,
    numbers: Vec<i64>,
}

impl Builder {
    fn new(field: Field, rows: usize) -> Self {
        Self { field, rows: 0, nulls: NullBufferBuilder::new(rows), ends: vec![], bytes: vec![], numbers: vec![] }
    }

    fn pad(&mut self, rows: usize) {
        let missing = rows - self.rows;
        if missing == 0 {
            return;
        }
        self.nulls.append_n_nulls(missing);
        match self.field.kind() {
            Kind::Text => self.ends.extend(std::iter::repeat_n(self.bytes.len() as i32, missing)),
            Kind::Bytes => self.bytes.resize(rows * self.field.limit(), 0),
            Kind::Int => self.numbers.resize(rows, 0),
        }
        self.rows = rows;
    }

    /// Sets the value of `row`; rows ascend. `all` is how many rows there will be, and bytes of all columns.
    fn value(&mut self, row: usize, all: (usize, usize), encoded: &field::Encoded<'_>) {
        if self.rows == 0 {
            self.reserve(all, encoded.value.len());
        }
        self.pad(row);
        self.nulls.append_non_null();
        match self.field.kind() {
            Kind::Int => self.numbers.push(encoded.int()),
            Kind::Bytes => self.bytes.extend_from_slice(encoded.value),
            Kind::Text => {
                self.bytes.extend_from_slice(encoded.value);
                // At most 4,096 rows of 192 KiB.
                self.ends.push(self.bytes.len() as i32);
            }
        }
        self.rows = row + 1;
    }

    fn reserve(&mut self, (rows, total): (usize, usize), first: usize) {
        match self.field.kind() {
            Kind::Int => self.numbers.reserve(rows),
            Kind::Bytes => self.bytes.reserve(rows * self.field.limit()),
            Kind::Text => {
                self.ends.reserve(rows);
                // The first is a guess at the others, and all columns together have no more than this.
                self.bytes.reserve((rows * first * 3 / 2).min(total));
            }
        }
    }

    fn finish(mut self, rows: usize) -> Result<ArrayRef, StoreError> {
        if self.rows == 0 {
            return Ok(new_null_array(&data_type(self.field), rows));
        }
        self.pad(rows);
        let nulls = self.nulls.finish();
        let broken = |_| damaged("a column's values do not hold");
        Ok(match self.field.kind() {
            Kind::Text => {
                let mut offsets = Vec::with_capacity(rows + 1);
                offsets.push(0);
                offsets.extend_from_slice(&self.ends);
                let offsets = OffsetBuffer::new(offsets.into());
                Arc::new(StringArray::try_new(offsets, self.bytes.into(), nulls).map_err(broken)?)
            }
            Kind::Bytes => {
                let width = self.field.limit() as i32;
                Arc::new(FixedSizeBinaryArray::try_new(width, self.bytes.into(), nulls).map_err(broken)?)
            }
            Kind::Int if is_time(self.field) => {
                let times = TimestampMicrosecondArray::try_new(self.numbers.into(), nulls).map_err(broken)?;
                Arc::new(times.with_timezone("UTC"))
            }
            Kind::Int => Arc::new(Int64Array::try_new(self.numbers.into(), nulls).map_err(broken)?),
        })
    }
}

/// The columns of contiguous entries, of which the first has sequence number `first`.
///
/// # Errors
/// An entry's encoding is damaged in memory.
pub fn batch(first: u64, entries: &[&Entry]) -> Result<RecordBatch, StoreError> {
    let rows = entries.len();
    let mut builders = Field::ALL.map(|field| Builder::new(field, rows));
    let mut seeds = Vec::with_capacity(16 * rows);
    let all = (rows, entries.iter().map(|entry| entry.draft.content().len()).sum());
    for (row, entry) in entries.iter().enumerate() {
        for encoded in Fields::of(&entry.draft) {
            let encoded = encoded?;
            builders[encoded.field.position()].value(row, all, &encoded);
        }
        seeds.extend_from_slice(&entry.seed.0);
    }
    let stamps = entries.iter().map(|entry| entry.draft.recorded_at());
    let stamps: ArrayRef = Arc::new(TimestampMicrosecondArray::from_iter_values(stamps).with_timezone("UTC"));
    let seqs = Int64Array::from_iter_values((first..first + rows as u64).map(|seq| seq as i64));
    let mut columns: Vec<ArrayRef> = vec![Arc::new(seqs), stamps];
    // The stamp is the first field, and no part of what the others are walked in.
    for builder in builders.into_iter().skip(1) {
        columns.push(builder.finish(rows)?);
    }
    let seeds = FixedSizeBinaryArray::try_new(16, seeds.into(), None);
    columns.push(Arc::new(seeds.map_err(|_| damaged("a column's values do not hold"))?));
    columns.push(Arc::new(Int32Array::from_iter_values(entries.iter().map(|entry| entry.index as i32))));
    RecordBatch::try_new(schema(), columns).map_err(|_| damaged("columns of unequal length"))
}

pub(crate) fn damaged(why: &'static str) -> StoreError {
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
    /// Which fields some row has a value of.
    present: Vec<Field>,
    secrets: Secrets<'a>,
}

/// A column of a batch, by name.
fn column<'b, T: 'static>(batch: &'b RecordBatch, name: &str) -> Result<&'b T, StoreError> {
    let found = batch.column_by_name(name).and_then(|array| array.as_any().downcast_ref());
    found.ok_or_else(|| damaged("a column is missing or of another type"))
}

impl<'a> Rows<'a> {
    /// Reads a batch that has the columns of [`schema`], by name, and perhaps those of [`secrets`] besides.
    ///
    /// # Errors
    /// A column is missing or of another type.
    pub fn of(batch: &'a RecordBatch) -> Result<Self, StoreError> {
        let reader = |field: Field| {
            let array = batch.column_by_name(field.name());
            array.and_then(|array| Reader::new(field, array)).ok_or_else(|| damaged("a field's column is missing"))
        };
        let has_value = |field: &Field| batch.column_by_name(field.name()).is_some_and(|c| c.null_count() < c.len());
        // A column that is not known here would be part of what a newer format hashes: not a fault, but not ours.
        let known = |name: &str| {
            [SEQ, SALT_SEED, SALT_INDEX].contains(&name)
                || Field::ALL.iter().any(|field| field.name() == name)
                || secrets::is_one(name)
        };
        if batch.schema_ref().fields().iter().any(|column| !known(column.name())) {
            return Err(StoreError::Newer {
                object: "the segment".into(),
                what: "it has columns that are not known here".into(),
            });
        }
        let secrets = Secrets::of(batch)?;
        if batch.num_columns() > Field::ALL.len() + 3 + secrets.more_columns() {
            return Err(damaged("a column stands twice"));
        }
        Ok(Self {
            seqs: column(batch, SEQ)?,
            fields: Field::ALL.into_iter().map(reader).collect::<Result<_, _>>()?,
            present: Field::ALL.into_iter().filter(has_value).collect(),
            secrets,
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
        for field in self.present.iter().copied() {
            self.fields[field.position()].put(row, field, out);
            ends[usize::from(field.section().number())] = out.len();
        }
        // A section without a column that has values ends where the one before it does.
        for section in 1..ends.len() {
            ends[section] = ends[section].max(ends[section - 1]);
        }
        ends
    }

    /// The sections of a row that were erased.
    pub fn erased(&self, row: usize) -> Sections {
        self.secrets.erased(row)
    }

    /// A row's fields, with where each section ends, and what its leaf commits to.
    fn committed(&self, row: usize, scratch: &mut Vec<u8>) -> Result<([usize; 6], Commitments), StoreError> {
        let ends = self.encode(row, scratch);
        let commitments = self.secrets.commitments(row, |section| section_of(scratch, &ends, section))?;
        Ok((ends, commitments))
    }

    /// The leaf hash of a row, recomputed; `scratch` is reused from row to row.
    ///
    /// # Errors
    /// The row has no salts, or others than its sections need.
    pub fn leaf(&self, row: usize, scratch: &mut Vec<u8>) -> Result<Hash, StoreError> {
        let (ends, commitments) = self.committed(row, scratch)?;
        Ok(leaf::leaf_hash(section_of(scratch, &ends, Section::Skeleton), &commitments))
    }

    /// The leaf data of a row: what C2SP entry bundles hold.
    ///
    /// # Errors
    /// The row has no salts, or others than its sections need.
    pub fn leaf_data(&self, row: usize, scratch: &mut Vec<u8>) -> Result<Vec<u8>, StoreError> {
        let (ends, commitments) = self.committed(row, scratch)?;
        Ok(leaf::leaf_data(section_of(scratch, &ends, Section::Skeleton), &commitments))
    }

    /// The event of a row, stamped.
    ///
    /// # Errors
    /// The row's fields are no valid event.
    pub fn draft(&self, row: usize) -> Result<Draft, StoreError> {
        let mut fields = Vec::new();
        self.encode(row, &mut fields);
        Ok(Draft::decode(&fields)?)
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
    use ledger::leaf::Seed;
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
        let fingerprint = leaf::id_fingerprint(draft.event_id());
        Entry::new(draft, seed, number as u32, &commitments, fingerprint)
    }

    #[test]
    fn a_column_that_is_not_known_is_newer_and_one_that_lacks_is_damage() {
        let whole = batch(0, &[&entry("acme", 2)]).unwrap();
        let (mut names, mut arrays) = (whole.schema().fields().to_vec(), whole.columns().to_vec());
        names.push(Arc::new(Column::new("kept_skeleton", DataType::Int64, true)));
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
