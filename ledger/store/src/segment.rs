//! Segments: one Parquet file with a contiguous run of one stream. Written whole, read whole or by rows.
//!
//! Not here: when to seal ([`crate::seal`]), commits. Invariants: rows ascend by `seq` without gaps; what a
//! segment's commit says of it (rows, bytes, SHA-256, root) is computed from the very bytes that are put.

use crate::columns::{self, Rows};
use crate::error::StoreError;
use crate::limits::{PAGE_ROWS, ROW_GROUP_ROWS};
use crate::segment_reader::SegmentReader;
use arrow::array::{Array, AsArray, RecordBatch, StringArray};
use arrow::datatypes::{ArrowPrimitiveType, TimestampMicrosecondType};
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use ledger::commit::SegmentRef;
use ledger::field::Field;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use parquet::arrow::arrow_reader::{ArrowReaderOptions, ParquetRecordBatchReaderBuilder, RowSelection, RowSelector};
use parquet::arrow::arrow_writer::{ArrowWriter, ArrowWriterOptions};
use parquet::arrow::async_reader::ParquetRecordBatchStreamBuilder;
use parquet::basic::{Compression, Encoding, ZstdLevel};
use parquet::file::metadata::{PageIndexPolicy, SortingColumn};
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::file::statistics::Statistics as ParquetStatistics;
use std::collections::HashSet;
use std::sync::Arc;

/// A segment as readers find it.
#[derive(Debug, Clone)]
pub struct Segment {
    /// What its commit says of it.
    pub reference: SegmentRef,
    /// Its path in the store.
    pub location: Path,
    /// What lets a query skip it unread.
    pub statistics: Statistics,
}

/// Bounds of the columns by which a segment can be skipped; none when unknown. Bounds of text may be wider
/// than the values themselves, never narrower.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Statistics {
    /// Least and greatest `occurred_at`, in microseconds.
    pub occurred_at: Option<(i64, i64)>,
    /// Least and greatest `recorded_at`, in microseconds.
    pub recorded_at: Option<(i64, i64)>,
    /// Bounds of `action`.
    pub action: Option<(String, String)>,
    /// Bounds of `outcome`.
    pub outcome: Option<(String, String)>,
    /// Bounds of `release`.
    pub release: Option<(String, String)>,
    /// Bounds of `region`.
    pub region: Option<(String, String)>,
}

/// Columns whose values hardly repeat: a dictionary would only cost.
const PLAIN: [Field; 4] = [Field::EventId, Field::TraceId, Field::SpanId, Field::Attributes];
/// Columns by whose exact value people look for single entries.
const BLOOMED: [Field; 6] =
    [Field::EventId, Field::ActorId, Field::ResourceId, Field::Session, Field::SourceIp, Field::TraceId];

fn distinct(batches: &[RecordBatch], field: Field) -> u64 {
    let columns = || batches.iter().filter_map(|batch| batch.column_by_name(field.name()));
    if PLAIN.contains(&field) {
        return columns().map(|c| (c.len() - c.null_count()) as u64).sum();
    }
    let texts = columns().filter_map(|c| c.as_any().downcast_ref::<StringArray>());
    texts.flat_map(|c| c.iter().flatten()).collect::<HashSet<&str>>().len() as u64
}

/// How segments are encoded; `distinct` tells how many different values a column that is looked up has at most.
pub(crate) fn properties(distinct: impl Fn(Field) -> u64) -> WriterProperties {
    let mut builder = WriterProperties::builder()
        .set_compression(Compression::ZSTD(ZstdLevel::default()))
        .set_created_by(concat!("piperoll ", env!("CARGO_PKG_VERSION")).into())
        .set_max_row_group_row_count(Some(ROW_GROUP_ROWS))
        .set_data_page_row_count_limit(PAGE_ROWS)
        .set_write_batch_size(PAGE_ROWS)
        .set_statistics_enabled(EnabledStatistics::Page)
        .set_column_index_truncate_length(Some(32))
        .set_sorting_columns(Some(vec![SortingColumn { column_idx: 0, descending: false, nulls_first: false }]));
    for field in PLAIN {
        builder = builder.set_column_dictionary_enabled(field.name().into(), false);
    }
    for numbers in [columns::SEQ, columns::SALT_INDEX, Field::RecordedAt.name(), Field::OccurredAt.name()] {
        builder = builder
            .set_column_dictionary_enabled(numbers.into(), false)
            .set_column_encoding(numbers.into(), Encoding::DELTA_BINARY_PACKED);
    }
    builder = builder.set_column_encoding(Field::EventId.name().into(), Encoding::DELTA_BYTE_ARRAY);
    // Bounds of a secret or of free text help nobody skip anything, and outlive an erasure.
    for silent in [columns::SALT_SEED, columns::SALT_INDEX, Field::Attributes.name()] {
        builder = builder.set_column_statistics_enabled(silent.into(), EnabledStatistics::None);
    }
    for field in BLOOMED {
        let distinct = distinct(field);
        if distinct > 0 {
            builder = builder
                .set_column_bloom_filter_enabled(field.name().into(), true)
                .set_column_bloom_filter_fpp(field.name().into(), 0.01)
                .set_column_bloom_filter_max_ndv(field.name().into(), distinct);
        }
    }
    builder.build()
}

/// The bytes of a segment with these rows, and the bounds of its columns.
///
/// # Errors
/// Parquet refuses the columns.
pub(crate) fn write(path: &Path, batches: &[RecordBatch]) -> Result<(Bytes, Statistics), StoreError> {
    let options = ArrowWriterOptions::new()
        .with_properties(properties(|field| distinct(batches, field)))
        .with_skip_arrow_metadata(true);
    let mut writer =
        ArrowWriter::try_new_with_options(Vec::new(), columns::schema(), options).map_err(StoreError::parquet(path))?;
    for batch in batches {
        writer.write(batch).map_err(StoreError::parquet(path))?;
    }
    let bytes = writer.into_inner().map_err(StoreError::parquet(path))?;
    Ok((bytes.into(), Statistics::of(batches)))
}

impl Statistics {
    fn of(batches: &[RecordBatch]) -> Self {
        let times = |field: Field| {
            let columns = batches.iter().filter_map(|batch| batch.column_by_name(field.name()));
            let bounds = columns.filter_map(|c| bounds_of::<TimestampMicrosecondType>(c.as_ref()));
            bounds.reduce(|a, b| (a.0.min(b.0), a.1.max(b.1)))
        };
        let texts = |field: Field| {
            let columns = batches.iter().filter_map(|batch| batch.column_by_name(field.name()));
            let values = || columns.clone().filter_map(|c| c.as_string_opt::<i32>()).flat_map(|c| c.iter().flatten());
            Some((values().min()?.to_string(), values().max()?.to_string()))
        };
        Self {
            occurred_at: times(Field::OccurredAt),
            recorded_at: times(Field::RecordedAt),
            action: texts(Field::Action),
            outcome: texts(Field::Outcome),
            release: texts(Field::Release),
            region: texts(Field::Region),
        }
    }

    /// Bounds from the footer of a segment, as when a store is opened.
    ///
    /// # Errors
    /// The footer cannot be read.
    pub(crate) async fn read(objects: &Arc<dyn ObjectStore>, location: &Path, bytes: u64) -> Result<Self, StoreError> {
        let reader = SegmentReader::new(objects, location, bytes);
        let builder = ParquetRecordBatchStreamBuilder::new(reader).await.map_err(StoreError::parquet(location))?;
        let metadata = builder.metadata();
        let bounds = |field: Field| {
            let names = metadata.file_metadata().schema_descr();
            let at = names.columns().iter().position(|column| column.name() == field.name())?;
            metadata.row_groups().iter().map(|group| group.column(at).statistics()).collect::<Option<Vec<_>>>()
        };
        let times = |field| {
            let each = bounds(field)?.into_iter().map(|s| match s {
                ParquetStatistics::Int64(s) => Some((*s.min_opt()?, *s.max_opt()?)),
                _ => None,
            });
            each.reduce(|a, b| Some((a?.0.min(b?.0), a?.1.max(b?.1))))?
        };
        let texts = |field| {
            let text = |bytes: Option<&[u8]>| String::from_utf8(bytes?.to_vec()).ok();
            let each = bounds(field)?.into_iter().map(|s| Some((text(s.min_bytes_opt())?, text(s.max_bytes_opt())?)));
            each.reduce(|a, b| {
                let (a, b) = (a?, b?);
                Some((a.0.min(b.0), a.1.max(b.1)))
            })?
        };
        Ok(Self {
            occurred_at: times(Field::OccurredAt),
            recorded_at: times(Field::RecordedAt),
            action: texts(Field::Action),
            outcome: texts(Field::Outcome),
            release: texts(Field::Release),
            region: texts(Field::Region),
        })
    }
}

fn bounds_of<T: ArrowPrimitiveType<Native = i64>>(array: &dyn Array) -> Option<(i64, i64)> {
    let values = array.as_primitive_opt::<T>()?;
    Some((values.iter().flatten().min()?, values.iter().flatten().max()?))
}

/// The rows `[from, to)` of a segment, by sequence number.
///
/// # Errors
/// The object cannot be read, or holds other rows than its commit says.
pub(crate) async fn read_rows(
    objects: &Arc<dyn ObjectStore>,
    segment: &Segment,
    from: u64,
    to: u64,
) -> Result<Vec<RecordBatch>, StoreError> {
    let location = &segment.location;
    let (skip, take) = ((from - segment.reference.first) as usize, (to - from) as usize);
    let reader = SegmentReader::new(objects, location, segment.reference.bytes);
    let options =
        ArrowReaderOptions::new().with_page_index_policy(PageIndexPolicy::Optional).with_skip_arrow_metadata(true);
    let builder = ParquetRecordBatchStreamBuilder::new_with_options(reader, options);
    let builder = builder.await.map_err(StoreError::parquet(location))?;
    let selection = RowSelection::from(vec![RowSelector::skip(skip), RowSelector::select(take)]);
    let stream = builder.with_row_selection(selection).build().map_err(StoreError::parquet(location))?;
    let batches: Vec<RecordBatch> = stream.try_collect().await.map_err(StoreError::parquet(location))?;
    let first = batches.first().map(Rows::of).transpose()?.map(|rows| rows.seq(0));
    let count: usize = batches.iter().map(RecordBatch::num_rows).sum();
    if count == take && (take == 0 || first == Some(from)) {
        Ok(batches)
    } else {
        Err(StoreError::Damaged { path: location.to_string(), why: "its rows are not those that its commit names" })
    }
}

/// Every row of a segment, in order, one row group in memory at a time.
///
/// # Errors
/// The object cannot be read.
pub(crate) async fn stream_rows(
    objects: &Arc<dyn ObjectStore>,
    segment: &Segment,
) -> Result<BoxStream<'static, Result<RecordBatch, StoreError>>, StoreError> {
    let location = segment.location.clone();
    let reader = SegmentReader::new(objects, &location, segment.reference.bytes);
    let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
    let builder = ParquetRecordBatchStreamBuilder::new_with_options(reader, options).await;
    let builder = builder.map_err(StoreError::parquet(&location))?;
    let stream = builder.with_batch_size(PAGE_ROWS).build().map_err(StoreError::parquet(&location))?;
    Ok(stream.map(move |batch| batch.map_err(StoreError::parquet(&location))).boxed())
}

/// Every row of a segment whose bytes are at hand, in order.
///
/// # Errors
/// The bytes are no such Parquet file.
pub(crate) fn read_all(
    path: &Path,
    bytes: Bytes,
    mut each: impl FnMut(&RecordBatch) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    // The columns are told by Parquet's own schema. A second one that somebody put beside it is not looked at: damaged,
    // it makes the reader panic.
    let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
    let builder = ParquetRecordBatchReaderBuilder::try_new_with_options(bytes, options);
    let builder = builder.map_err(StoreError::parquet(path))?;
    let reader = builder.with_batch_size(PAGE_ROWS).build().map_err(StoreError::parquet(path))?;
    for batch in reader {
        each(&batch.map_err(|e| StoreError::parquet(path)(e.into()))?)?;
    }
    Ok(())
}

/// The bytes of an object.
///
/// # Errors
/// The object cannot be read.
pub(crate) async fn fetch(objects: &Arc<dyn ObjectStore>, path: &Path) -> Result<Bytes, StoreError> {
    let got = objects.get(path).await.map_err(StoreError::objects(path))?;
    got.bytes().await.map_err(StoreError::objects(path))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::columns::tests::entry;
    use crate::entry::Entry;
    use object_store::memory::InMemory;
    use object_store::{ObjectStoreExt, PutPayload};

    #[tokio::test]
    async fn a_segment_gives_back_its_rows_bounds_and_leaves() {
        let entries: Vec<Entry> = (0..9_000).map(|n| entry("acme", n)).collect();
        let batches: Vec<RecordBatch> = entries
            .chunks(4_096)
            .enumerate()
            .map(|(i, chunk)| columns::batch(100 + 4_096 * i as u64, &chunk.iter().collect::<Vec<_>>()).unwrap())
            .collect();
        let path = Path::from("2026-09/x.parquet");
        let (bytes, statistics) = write(&path, &batches).unwrap();
        let objects: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        objects.put(&path, PutPayload::from_bytes(bytes.clone())).await.unwrap();
        assert_eq!(Statistics::read(&objects, &path, bytes.len() as u64).await.unwrap(), statistics);
        assert_eq!(statistics.recorded_at, Some((1_790_000_000_000_000, 1_790_000_000_008_999)));
        let sha256 = ledger::Hash::of(&bytes);
        let reference = SegmentRef {
            path: "x".into(),
            first: 100,
            rows: 9_000,
            bytes: bytes.len() as u64,
            sha256,
            root: ledger::tree::root_of(entries.iter().map(|e| e.leaf)),
        };
        let segment = Segment { reference, location: path.clone(), statistics };
        for (from, to) in [(100, 101), (4_000, 4_356), (8_900, 9_100), (9_099, 9_100)] {
            let rows = read_rows(&objects, &segment, from, to).await.unwrap();
            let mut scratch = Vec::new();
            let mut seq = from;
            for batch in &rows {
                let rows = Rows::of(batch).unwrap();
                for row in 0..rows.len() {
                    assert_eq!(rows.leaf(row, &mut scratch).unwrap(), entries[(seq - 100) as usize].leaf);
                    seq += 1;
                }
            }
            assert_eq!(seq, to);
        }
        let mut leaves = Vec::new();
        let mut scratch = Vec::new();
        read_all(&path, bytes, |batch| {
            let rows = Rows::of(batch)?;
            (0..rows.len()).try_for_each(|row| rows.leaf(row, &mut scratch).map(|leaf| leaves.push(leaf)))
        })
        .unwrap();
        assert!(leaves.iter().eq(entries.iter().map(|e| &e.leaf)));
    }
}
