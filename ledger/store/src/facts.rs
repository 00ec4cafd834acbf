//! What retention must know of entries, read from the columns that say it and from no other.
//!
//! Not here: what is made of it (`retention`). Invariant: values of a segment come in order of sequence.

use crate::columns::SEQ;
use crate::error::StoreError;
use crate::handle::StreamHandle;
use crate::limits::PAGE_ROWS;
use crate::segment::{Segment, undecodable};
use crate::segment_reader::SegmentReader;
use crate::stream::Snapshot;
use arrow::array::{Array, AsArray, RecordBatch, StringArray};
use arrow::datatypes::{Int64Type, TimestampMicrosecondType};
use futures::{FutureExt as _, StreamExt as _};
use ledger::field::Field;
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::ArrowReaderOptions;
use parquet::arrow::async_reader::ParquetRecordBatchStreamBuilder;
use std::panic::AssertUnwindSafe;

/// What an entry is, as far as retention looks at it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EntryFacts<'f> {
    /// Its sequence number.
    pub seq: u64,
    /// When it was recorded, in microseconds.
    pub recorded_at: i64,
    /// When it happened, in microseconds.
    pub occurred_at: i64,
    /// What was done.
    pub action: &'f str,
    /// The class of the data.
    pub class: Option<&'f str>,
    /// Who did it.
    pub actor: Option<&'f str>,
    /// On whose behalf.
    pub on_behalf_of: Option<&'f str>,
    /// To what.
    pub resource: Option<&'f str>,
}

const TEXTS: [Field; 5] = [Field::Action, Field::DataClass, Field::ActorId, Field::OnBehalfOf, Field::ResourceId];

impl StreamHandle {
    /// Hands over what each entry of a segment is, in order. Of what nobody can read any more, because its key was
    /// destroyed, nothing is known, and so nothing is handed over.
    ///
    /// # Errors
    /// The segment cannot be read.
    pub async fn facts(&self, segment: &Segment, mut each: impl FnMut(EntryFacts<'_>)) -> Result<(), StoreError> {
        let location = &segment.location;
        let read = AssertUnwindSafe(async {
            let reader = SegmentReader::new(&self.shared.content, location, segment.reference.bytes);
            let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
            let builder = ParquetRecordBatchStreamBuilder::new_with_options(reader, options).await;
            let builder = builder.map_err(StoreError::parquet(location))?;
            let names = [SEQ, Field::RecordedAt.name(), Field::OccurredAt.name()];
            let mask = ProjectionMask::columns(
                builder.parquet_schema(),
                names.into_iter().chain(TEXTS.into_iter().map(Field::name)),
            );
            let stream = builder.with_projection(mask).with_batch_size(PAGE_ROWS).build();
            let mut stream = stream.map_err(StoreError::parquet(location))?;
            while let Some(batch) = stream.next().await {
                let batch = batch.map_err(StoreError::parquet(location))?;
                let why = "a column that retention looks at is missing or of another type";
                let damaged = || StoreError::Damaged { path: location.to_string(), why };
                hand_over(&batch, &mut each).ok_or_else(damaged)?;
            }
            Ok(())
        });
        match read.catch_unwind().await.unwrap_or_else(|_| Err(undecodable(location))) {
            Err(StoreError::Key(error)) if error.is_destroyed() => Ok(()),
            read => read,
        }
    }
}

/// Hands over what each entry of an unsealed tail is, in order.
///
/// # Errors
/// A column is missing or of another type.
pub fn tail_facts(snapshot: &Snapshot, mut each: impl FnMut(EntryFacts<'_>)) -> Result<(), StoreError> {
    let why = "a column that retention looks at is missing or of another type";
    let damaged = || StoreError::Damaged { path: "rows".into(), why };
    snapshot.tail.iter().try_for_each(|batch| hand_over(batch, &mut each).ok_or_else(damaged))
}

fn hand_over(batch: &RecordBatch, each: &mut impl FnMut(EntryFacts<'_>)) -> Option<()> {
    let seqs = batch.column_by_name(SEQ)?.as_primitive_opt::<Int64Type>()?;
    let times = |field: Field| batch.column_by_name(field.name())?.as_primitive_opt::<TimestampMicrosecondType>();
    let (recorded, occurred) = (times(Field::RecordedAt)?, times(Field::OccurredAt)?);
    let mut columns: Vec<&StringArray> = Vec::with_capacity(TEXTS.len());
    for field in TEXTS {
        columns.push(batch.column_by_name(field.name())?.as_string_opt::<i32>()?);
    }
    for row in 0..batch.num_rows() {
        let text = |at: usize| columns[at].is_valid(row).then(|| columns[at].value(row));
        each(EntryFacts {
            seq: seqs.value(row) as u64,
            recorded_at: recorded.value(row),
            occurred_at: occurred.value(row),
            action: text(0).unwrap_or_default(),
            class: text(1),
            actor: text(2),
            on_behalf_of: text(3),
            resource: text(4),
        });
    }
    Some(())
}
