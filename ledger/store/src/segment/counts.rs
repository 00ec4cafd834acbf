//! What is known of the columns of stored segments before they are merged: how many values differ, which have none, how large
//! they are.
//!
//! Not here: how that shapes the merged file ([`super::properties`]). Invariant: counts are never below the truth, so
//! that no Bloom filter is made too small.

use super::Segment;
use super::encoding::{BLOOMED, PLAIN};
use crate::columns::secrets;
use crate::error::StoreError;
use crate::limits::PAGE_ROWS;
use crate::segment_reader::{Content, SegmentReader};
use arrow::array::{AsArray, RecordBatch};
use futures::StreamExt;
use hashbrown::{DefaultHashBuilder, HashSet};
use ledger::field::Field;
use parquet::arrow::ProjectionMask;
use parquet::arrow::async_reader::ParquetRecordBatchStreamBuilder;
use parquet::file::metadata::ParquetMetaData;
use std::collections::HashMap;
use std::hash::BuildHasher as _;
use std::sync::Arc;

/// The columns of several segments together.
pub(crate) struct ColumnCounts {
    /// Hashes of the values of each column that is looked up and repeats: eight bytes each, of at most a merge's rows.
    values: Vec<(Field, HashSet<u64>)>,
    hasher: DefaultHashBuilder,
    /// How many values each column has that has some.
    filled: HashMap<&'static str, u64>,
    /// How many bytes each column takes, encoded and not compressed.
    encoded: HashMap<String, u64>,
    /// Whether something was erased in one of them.
    is_wide: bool,
}

impl ColumnCounts {
    /// Reads the columns that are looked up, and the footers.
    ///
    /// # Errors
    /// A segment cannot be read.
    pub(crate) async fn of(content: &Content, segments: &[Arc<Segment>]) -> Result<Self, StoreError> {
        let repeating = || BLOOMED.into_iter().filter(|field| !PLAIN.contains(field));
        let values = repeating().map(|field| (field, HashSet::new())).collect();
        let (hasher, filled, encoded) = (DefaultHashBuilder::default(), HashMap::new(), HashMap::new());
        let mut counts = Self { values, hasher, filled, encoded, is_wide: false };
        for segment in segments {
            let location = &segment.location;
            let reader = SegmentReader::new(content, location, segment.reference.bytes);
            let builder = ParquetRecordBatchStreamBuilder::new(reader).await.map_err(StoreError::parquet(location))?;
            counts.note_filled(builder.metadata());
            let mask = ProjectionMask::columns(builder.parquet_schema(), repeating().map(Field::name));
            let stream = builder.with_projection(mask).with_batch_size(PAGE_ROWS).build();
            let mut stream = stream.map_err(StoreError::parquet(location))?;
            while let Some(batch) = stream.next().await {
                counts.note_values(&batch.map_err(StoreError::parquet(location))?);
            }
        }
        Ok(counts)
    }

    fn note_filled(&mut self, metadata: &ParquetMetaData) {
        let columns = metadata.file_metadata().schema_descr();
        self.is_wide |= columns.columns().iter().any(|column| secrets::is_one(column.name()));
        for column in metadata.row_groups().iter().flat_map(|group| group.columns()) {
            let bytes = u64::try_from(column.uncompressed_size()).unwrap_or_default();
            *self.encoded.entry(column.column_descr().name().into()).or_default() += bytes;
        }
        for field in Field::ALL {
            let values = metadata.row_groups().iter().map(|group| {
                let column = group.columns().iter().find(|column| column.column_descr().name() == field.name());
                let nulls = column.and_then(|column| column.statistics()?.null_count_opt());
                (group.num_rows() as u64).saturating_sub(nulls.unwrap_or_default())
            });
            let values: u64 = values.sum();
            if values > 0 {
                *self.filled.entry(field.name()).or_default() += values;
            }
        }
    }

    fn note_values(&mut self, batch: &RecordBatch) {
        for (field, values) in &mut self.values {
            let texts = batch.column_by_name(field.name()).and_then(|column| column.as_string_opt::<i32>());
            values.extend(texts.into_iter().flatten().flatten().map(|text| self.hasher.hash_one(text)));
        }
    }

    /// How many values of a column that is looked up differ; of one whose values hardly repeat, how many there are.
    pub(crate) fn distinct(&self, field: Field) -> u64 {
        let counted = self.values.iter().find(|(of, _)| *of == field).map(|(_, values)| values.len() as u64);
        counted.unwrap_or_else(|| self.filled.get(field.name()).copied().unwrap_or_default())
    }

    /// How many bytes a column takes, encoded and not compressed.
    pub(crate) fn bytes(&self, column: &str) -> u64 {
        self.encoded.get(column).copied().unwrap_or_default()
    }

    /// Whether something was erased in one of the segments, so that it has more columns than others.
    pub(crate) fn is_wide(&self) -> bool {
        self.is_wide
    }

    /// Whether a column has no value in any of the segments.
    pub(crate) fn is_empty(&self, field: Field) -> bool {
        !self.filled.contains_key(field.name())
    }
}
