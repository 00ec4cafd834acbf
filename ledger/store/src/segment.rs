//! Segments: one Parquet file with a contiguous run of one stream. Written whole, read whole or by rows.
//!
//! Not here: when to seal ([`crate::seal`]), commits. Invariants: rows ascend by `seq` without gaps; what a
//! segment's commit says of it (rows, bytes, SHA-256, root) is computed from the very bytes that are put.

mod counts;
mod encoding;

pub(crate) use counts::ColumnCounts;
pub(crate) use encoding::{Effort, bytes_of, has_none, properties};

use self::encoding::distinct;

use crate::columns::{self, Rows};
use crate::error::StoreError;
use crate::keys::{ContentKeys, KeyName, SegmentKey};
use crate::limits::PAGE_ROWS;
use crate::segment_reader::{Content, SegmentReader};
use arrow::array::{AsArray, BooleanArray, RecordBatch};
use arrow::datatypes::Int64Type;
use bytes::Bytes;
use futures::stream::BoxStream;
use futures::{FutureExt as _, StreamExt, TryStreamExt};
use hashbrown::HashSet;
use ledger::commit::SegmentRef;
use ledger::field::Field;
use ledger::leaf::Seed;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{
    ArrowPredicateFn, ArrowReaderOptions, ParquetRecordBatchReaderBuilder, RowFilter, RowSelection, RowSelector,
};
use parquet::arrow::arrow_writer::{ArrowWriter, ArrowWriterOptions};
use parquet::arrow::async_reader::ParquetRecordBatchStreamBuilder;
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaData};
use parquet::file::statistics::Statistics as ParquetStatistics;
use std::panic::{AssertUnwindSafe, catch_unwind};
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
    /// Under which of the tenant's keys it is encrypted, as far as that is known.
    pub key: Option<KeyName>,
}

impl Statistics {
    /// The same of a segment that is encrypted under this key.
    pub(crate) fn under(self, key: Option<KeyName>) -> Self {
        Self { key, ..self }
    }
}

/// The bytes of a segment with these rows, under a key if one is given, and the bounds of its columns.
///
/// # Errors
/// Parquet refuses the columns.
pub(crate) fn write(
    path: &Path,
    batches: &[RecordBatch],
    key: Option<SegmentKey>,
) -> Result<(Bytes, Statistics), StoreError> {
    let is_empty = |field: Field| has_none(batches, field);
    let bytes = |column: &str| bytes_of(batches, column);
    let (encryption, under) = key.map(|key| (key.properties, key.under)).unzip();
    let properties = properties(Effort::Quick, |field| distinct(batches, field), is_empty, bytes, encryption);
    let options = ArrowWriterOptions::new().with_properties(properties).with_skip_arrow_metadata(true);
    let mut bytes = Vec::new();
    let mut writer =
        ArrowWriter::try_new_with_options(&mut bytes, columns::schema(), options).map_err(StoreError::parquet(path))?;
    for batch in batches {
        writer.write(batch).map_err(StoreError::parquet(path))?;
    }
    let metadata = writer.close().map_err(StoreError::parquet(path))?;
    Ok((bytes.into(), Statistics::of(&metadata).under(under)))
}

impl Statistics {
    /// Bounds from the footer of a segment, as when a store is opened.
    ///
    /// # Errors
    /// The footer cannot be read.
    pub(crate) async fn read(content: &Content, location: &Path, bytes: u64) -> Result<Self, StoreError> {
        let read = AssertUnwindSafe(Self::read_footer(content, location, bytes)).catch_unwind().await;
        read.unwrap_or_else(|_| Err(undecodable(location)))
    }

    /// The same, but of a segment whose key is not to be had no more than which key that is.
    ///
    /// # Errors
    /// The footer cannot be read; and where it may be read later, that the key is not at hand now.
    pub(crate) async fn read_if_readable(content: &Content, location: &Path, bytes: u64) -> Result<Self, StoreError> {
        match Self::read(content, location, bytes).await {
            Err(StoreError::Key(error)) if error.is_destroyed() => Ok(Self::default().under(error.key().cloned())),
            read => read,
        }
    }

    async fn read_footer(content: &Content, location: &Path, bytes: u64) -> Result<Self, StoreError> {
        let reader = SegmentReader::new(content, location, bytes);
        let under = reader.under();
        let builder = ParquetRecordBatchStreamBuilder::new(reader).await.map_err(StoreError::parquet(location))?;
        Ok(Self::of(builder.metadata()).under(under.get().cloned()))
    }

    pub(crate) fn of(metadata: &ParquetMetaData) -> Self {
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
        Self {
            occurred_at: times(Field::OccurredAt),
            recorded_at: times(Field::RecordedAt),
            action: texts(Field::Action),
            outcome: texts(Field::Outcome),
            release: texts(Field::Release),
            region: texts(Field::Region),
            key: None,
        }
    }
}

/// The rows `[from, to)` of a segment, by sequence number: those that are not gone.
///
/// # Errors
/// The object cannot be read, or holds other rows than its commit says.
pub(crate) async fn read_rows(
    content: &Content,
    segment: &Segment,
    from: u64,
    to: u64,
) -> Result<Vec<RecordBatch>, StoreError> {
    let location = &segment.location;
    let (skip, take) = ((from - segment.reference.first) as usize, (to - from) as usize);
    let reader = SegmentReader::new(content, location, segment.reference.bytes);
    let options =
        ArrowReaderOptions::new().with_page_index_policy(PageIndexPolicy::Optional).with_skip_arrow_metadata(true);
    let builder = ParquetRecordBatchStreamBuilder::new_with_options(reader, options);
    let builder = AssertUnwindSafe(builder).catch_unwind().await.map_err(|_| undecodable(location))?;
    let builder = builder.map_err(StoreError::parquet(location))?;
    let builder = match segment.reference.is_whole() {
        true => {
            let selection = RowSelection::from(vec![RowSelector::skip(skip), RowSelector::select(take)]);
            builder.with_row_selection(selection)
        }
        // Where a row stands then depends on what is gone before it: its own number tells.
        false => {
            let mask = ProjectionMask::columns(builder.parquet_schema(), [columns::SEQ]);
            let is_wanted = move |batch: RecordBatch| {
                let seqs = batch.column(0).as_primitive_opt::<Int64Type>();
                let wanted = |seq: Option<i64>| seq.is_some_and(|seq| (from as i64..to as i64).contains(&seq));
                Ok(seqs.into_iter().flatten().map(|seq| Some(wanted(seq))).collect::<BooleanArray>())
            };
            builder.with_row_filter(RowFilter::new(vec![Box::new(ArrowPredicateFn::new(mask, is_wanted))]))
        }
    };
    let rows = async {
        let stream = builder.build()?;
        stream.try_collect::<Vec<RecordBatch>>().await
    };
    let batches = AssertUnwindSafe(rows).catch_unwind().await.map_err(|_| undecodable(location))?;
    let batches = batches.map_err(StoreError::parquet(location))?;
    let first = batches.first().map(Rows::of).transpose()?.map(|rows| rows.seq(0));
    let count: usize = batches.iter().map(RecordBatch::num_rows).sum();
    if !segment.reference.is_whole() && count <= take {
        return Ok(batches);
    }
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
    content: &Content,
    segment: &Segment,
) -> Result<BoxStream<'static, Result<RecordBatch, StoreError>>, StoreError> {
    let location = segment.location.clone();
    let reader = SegmentReader::new(content, &location, segment.reference.bytes);
    let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
    let builder = ParquetRecordBatchStreamBuilder::new_with_options(reader, options).await;
    let builder = builder.map_err(StoreError::parquet(&location))?;
    let stream = builder.with_batch_size(PAGE_ROWS).build().map_err(StoreError::parquet(&location))?;
    Ok(stream.map(move |batch| batch.map_err(StoreError::parquet(&location))).boxed())
}

/// The seeds that rows of a segment have.
///
/// # Errors
/// The object cannot be read.
pub(crate) async fn seeds_of(content: &Content, segment: &Segment) -> Result<HashSet<Seed>, StoreError> {
    let location = &segment.location;
    let read = AssertUnwindSafe(async {
        let reader = SegmentReader::new(content, location, segment.reference.bytes);
        let options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
        let builder = ParquetRecordBatchStreamBuilder::new_with_options(reader, options).await?;
        let mask = ProjectionMask::columns(builder.parquet_schema(), [columns::SALT_SEED]);
        let mut batches = builder.with_projection(mask).with_batch_size(PAGE_ROWS).build()?;
        let mut seeds = HashSet::new();
        while let Some(batch) = batches.try_next().await? {
            let found = batch.columns().first().and_then(|column| column.as_fixed_size_binary_opt());
            seeds.extend(found.into_iter().flatten().flatten().filter_map(|seed| seed.try_into().ok().map(Seed)));
        }
        Ok(seeds)
    });
    let read = read.catch_unwind().await.map_err(|_| undecodable(location))?;
    read.map_err(StoreError::parquet(location))
}

/// Every row of a segment whose bytes are at hand, in order.
///
/// # Errors
/// The bytes are no such Parquet file, or their key is not to be had.
pub(crate) fn read_all(
    keys: &ContentKeys,
    path: &Path,
    bytes: Bytes,
    mut each: impl FnMut(&RecordBatch) -> Result<(), StoreError>,
) -> Result<(), StoreError> {
    // The columns are told by Parquet's own schema. A second one that somebody put beside it is not looked at.
    let mut options = ArrowReaderOptions::new().with_skip_arrow_metadata(true);
    if let Some(decryption) = keys.to_read(path) {
        options = options.with_file_decryption_properties(decryption);
    }
    let open = || {
        let builder = ParquetRecordBatchReaderBuilder::try_new_with_options(bytes, options)?;
        builder.with_batch_size(PAGE_ROWS).build()
    };
    let mut reader = decoded(path, open)?.map_err(StoreError::parquet(path))?;
    while let Some(batch) = decoded(path, || reader.next())? {
        each(&batch.map_err(|e| StoreError::parquet(path)(e.into()))?)?;
    }
    Ok(())
}

/// Runs a step of the Parquet decoder. On some damaged files it panics, which must not end whoever looks for damage;
/// after that nothing of the decoder is used again.
fn decoded<T>(path: &Path, step: impl FnOnce() -> T) -> Result<T, StoreError> {
    catch_unwind(AssertUnwindSafe(step)).map_err(|_| undecodable(path))
}

pub(crate) fn undecodable(path: &Path) -> StoreError {
    StoreError::Damaged { path: path.to_string(), why: "the Parquet decoder cannot make sense of it" }
}

/// The bytes of an object.
///
/// # Errors
/// The object cannot be read.
pub(crate) async fn fetch(objects: &Arc<dyn ObjectStore>, path: &Path) -> Result<Bytes, StoreError> {
    let got = objects.get(path).await.map_err(StoreError::objects(path))?;
    got.bytes().await.map_err(StoreError::objects(path))
}

/// An object whole; none when it is not there.
pub(crate) async fn fetch_if_there(objects: &Arc<dyn ObjectStore>, path: &Path) -> Result<Option<Bytes>, StoreError> {
    match fetch(objects, path).await {
        Ok(bytes) => Ok(Some(bytes)),
        Err(StoreError::Objects { source: object_store::Error::NotFound { .. }, .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::columns::tests::entry;
    use crate::entry::Entry;
    use object_store::memory::InMemory;
    use object_store::{ObjectStoreExt, PutPayload};

    #[test]
    fn what_is_there_for_proofs_takes_little_room() {
        let entries: Vec<Entry> = (0..4_096).map(|n| entry("acme", n)).collect();
        let batch = columns::batch(0, &entries.iter().collect::<Vec<_>>()).unwrap();
        for effort in [Effort::Quick, Effort::Thorough] {
            let options =
                ArrowWriterOptions::new().with_properties(properties(effort, |_| 4_096, |_| false, |_| u64::MAX, None));
            let mut writer = ArrowWriter::try_new_with_options(
                Vec::new(),
                columns::schema(),
                options.with_skip_arrow_metadata(true),
            );
            let writer = writer.as_mut().unwrap();
            writer.write(&batch).unwrap();
            let metadata = writer.finish().unwrap();
            let salts = |name: &&str| [columns::SALT_SEED, columns::SALT_INDEX].contains(name);
            let columns = metadata.row_group(0).columns().iter();
            let bytes: i64 = columns.filter(|c| salts(&c.column_descr().name())).map(|c| c.compressed_size()).sum();
            assert!(bytes < 4_096 / 2, "{bytes} bytes of salts for 4,096 rows");
        }
    }

    #[tokio::test]
    async fn a_changed_byte_never_ends_the_reader() {
        let entries: Vec<Entry> = (0..3).map(|n| entry("acme", n)).collect();
        let batch = columns::batch(0, &entries.iter().collect::<Vec<_>>()).unwrap();
        let path = Path::from("2026-09/x.parquet");
        let whole = write(&path, &[batch], None).unwrap().0.to_vec();
        let objects: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        let content = Content { objects: Arc::clone(&objects), keys: ContentKeys::default() };
        let mut refused = 0;
        for at in 0..whole.len() {
            let mut changed = whole.clone();
            changed[at] ^= 1;
            let changed = Bytes::from(changed);
            objects.put(&path, PutPayload::from_bytes(changed.clone())).await.unwrap();
            let bounds = Statistics::read(&content, &path, changed.len() as u64).await;
            let rows = read_all(&content.keys, &path, changed, |batch| Rows::of(batch).map(drop));
            refused += usize::from(bounds.is_err() || rows.is_err());
        }
        assert!(refused > 0);
    }

    #[tokio::test]
    async fn a_segment_gives_back_its_rows_bounds_and_leaves() {
        let entries: Vec<Entry> = (0..9_000).map(|n| entry("acme", n)).collect();
        let batches: Vec<RecordBatch> = entries
            .chunks(4_096)
            .enumerate()
            .map(|(i, chunk)| columns::batch(100 + 4_096 * i as u64, &chunk.iter().collect::<Vec<_>>()).unwrap())
            .collect();
        let path = Path::from("2026-09/x.parquet");
        let (bytes, statistics) = write(&path, &batches, None).unwrap();
        let objects: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
        let content = Content { objects: Arc::clone(&objects), keys: ContentKeys::default() };
        objects.put(&path, PutPayload::from_bytes(bytes.clone())).await.unwrap();
        assert_eq!(Statistics::read(&content, &path, bytes.len() as u64).await.unwrap(), statistics);
        assert_eq!(statistics.recorded_at, Some((1_790_000_000_000_000, 1_790_000_000_008_999)));
        let sha256 = ledger::Hash::of(&bytes);
        let reference = SegmentRef {
            path: "x".into(),
            first: 100,
            span: 9_000,
            rows: 9_000,
            bytes: bytes.len() as u64,
            sha256,
            root: ledger::tree::root_of(entries.iter().map(|e| e.leaf)),
        };
        let segment = Segment { reference, location: path.clone(), statistics };
        for (from, to) in [(100, 101), (4_000, 4_356), (8_900, 9_100), (9_099, 9_100)] {
            let rows = read_rows(&content, &segment, from, to).await.unwrap();
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
        read_all(&content.keys, &path, bytes, |batch| {
            let rows = Rows::of(batch)?;
            (0..rows.len()).try_for_each(|row| rows.leaf(row, &mut scratch).map(|leaf| leaves.push(leaf)))
        })
        .unwrap();
        assert!(leaves.iter().eq(entries.iter().map(|e| &e.leaf)));
    }
}
