//! What is known of the columns of stored segments before they are merged: how many values differ, which have none.
//!
//! Not here: how that shapes the merged file ([`super::properties`]). Invariant: counts are never below the truth, so
//! that no Bloom filter is made too small.

use super::{BLOOMED, Segment};
use crate::error::StoreError;
use crate::limits::PAGE_ROWS;
use crate::segment_reader::SegmentReader;
use arrow::array::{Array, AsArray, RecordBatch};
use futures::StreamExt;
use ledger::field::Field;
use object_store::ObjectStore;
use parquet::arrow::ProjectionMask;
use parquet::arrow::async_reader::ParquetRecordBatchStreamBuilder;
use parquet::file::metadata::ParquetMetaData;
use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::Arc;

/// The columns of several segments together.
#[derive(Default)]
pub(crate) struct ColumnCounts {
    /// Hashes of the values of each column that is looked up: eight bytes each, of at most a merge's rows.
    values: Vec<(Field, HashSet<u64>)>,
    /// Columns with a value in some segment.
    filled: HashSet<&'static str>,
}

impl ColumnCounts {
    /// Reads the columns that are looked up, and the footers.
    ///
    /// # Errors
    /// A segment cannot be read.
    pub(crate) async fn of(objects: &Arc<dyn ObjectStore>, segments: &[Arc<Segment>]) -> Result<Self, StoreError> {
        let mut counts = Self { values: BLOOMED.map(|field| (field, HashSet::new())).into(), ..Self::default() };
        for segment in segments {
            let location = &segment.location;
            let reader = SegmentReader::new(objects, location, segment.reference.bytes);
            let builder = ParquetRecordBatchStreamBuilder::new(reader).await.map_err(StoreError::parquet(location))?;
            counts.note_filled(builder.metadata());
            let names = BLOOMED.map(Field::name);
            let mask = ProjectionMask::columns(builder.parquet_schema(), names);
            let stream = builder.with_projection(mask).with_batch_size(PAGE_ROWS).build();
            let mut stream = stream.map_err(StoreError::parquet(location))?;
            while let Some(batch) = stream.next().await {
                counts.note_values(&batch.map_err(StoreError::parquet(location))?);
            }
        }
        Ok(counts)
    }

    fn note_filled(&mut self, metadata: &ParquetMetaData) {
        for field in Field::ALL {
            let is_empty = metadata.row_groups().iter().all(|group| {
                let column = group.columns().iter().find(|column| column.column_descr().name() == field.name());
                let nulls = column.and_then(|column| column.statistics()?.null_count_opt());
                nulls == Some(group.num_rows() as u64)
            });
            if !is_empty {
                self.filled.insert(field.name());
            }
        }
    }

    fn note_values(&mut self, batch: &RecordBatch) {
        let hash = |bytes: &[u8]| {
            let mut hasher = DefaultHasher::new();
            bytes.hash(&mut hasher);
            hasher.finish()
        };
        for (field, values) in &mut self.values {
            let Some(column) = batch.column_by_name(field.name()) else { continue };
            if let Some(texts) = column.as_string_opt::<i32>() {
                values.extend(texts.iter().flatten().map(|text| hash(text.as_bytes())));
            } else if let Some(bytes) = column.as_fixed_size_binary_opt() {
                values.extend((0..bytes.len()).filter(|at| bytes.is_valid(*at)).map(|at| hash(bytes.value(at))));
            }
        }
    }

    /// How many values of a column that is looked up differ.
    pub(crate) fn distinct(&self, field: Field) -> u64 {
        self.values.iter().find(|(of, _)| *of == field).map_or(0, |(_, values)| values.len() as u64)
    }

    /// Whether a column has no value in any of the segments.
    pub(crate) fn is_empty(&self, field: Field) -> bool {
        !self.filled.contains(field.name())
    }
}
