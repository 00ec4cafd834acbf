//! Reads segments: footers, Bloom filters, columns of a row group; keeps in memory what is worth keeping.
//!
//! A plan names a segment by its position (`acme/audit/0-24999`); path and store are held beside the name and never
//! enter a plan, so `EXPLAIN` cannot show them and no session can reach another file. Not here: which segments are
//! worth opening ([`crate::prune`]), what is done with columns ([`crate::group`]), writing of any kind.
//!
//! Invariants: a column is what its segment's bytes say, for exactly the rows that the commit names; only bytes inside
//! the size that the commit names are asked for.

use crate::column::{Column, sql_type};
use crate::condition::WIDE;
use crate::hex;
use crate::kept::{Item, Kept, Key};
use access::Meter;
use bytes::Bytes;
use datafusion::arrow::array::RecordBatch;
use datafusion::arrow::compute::concat_batches;
use datafusion::arrow::datatypes::{DataType, Schema, SchemaRef};
use datafusion::error::{DataFusionError, Result};
use futures::future::BoxFuture;
use futures::{FutureExt, TryStreamExt};
use ledger_store::{ContentKeys, Segment};
use object_store::{ObjectStore, ObjectStoreExt};
use parquet::arrow::ProjectionMask;
use parquet::arrow::arrow_reader::{ArrowReaderMetadata, ArrowReaderOptions, RowSelection};
use parquet::arrow::async_reader::{AsyncFileReader, ParquetRecordBatchStreamBuilder};
use parquet::bloom_filter::Sbbf;
use parquet::errors::ParquetError;
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaData, ParquetMetaDataReader};
use std::ops::Range;
use std::sync::Arc;

/// First read of a footer that is not kept: footer and page index of a usual segment fit.
const FOOTER_READ_BYTES: usize = 64 * 1_024;

/// A segment and the store that holds it.
#[derive(Debug, Clone)]
pub(crate) struct Sealed {
    /// The segment.
    pub segment: Arc<Segment>,
    /// Its store.
    pub objects: Arc<dyn ObjectStore>,
    /// The keys to it, if it is encrypted.
    pub keys: ContentKeys,
    /// Counts the bytes that are looked at.
    pub meter: Meter,
}

/// A run of rows of a segment that is decoded together.
#[derive(Debug, Clone)]
pub(crate) struct RowGroup {
    /// Which segment.
    pub sealed: Sealed,
    /// Its footer.
    pub footer: Arc<Footer>,
    /// Which of its row groups.
    pub number: usize,
    /// How many rows.
    pub rows: usize,
}

/// A footer, and what follows from it for reading.
#[derive(Debug)]
pub(crate) struct Footer {
    /// With the schema by which columns are decoded: text as codes, wide text as views.
    reading: ArrowReaderMetadata,
    /// For each column of the table, which one of the file it is.
    leaves: Vec<Option<usize>>,
    /// For each column of the table, its type in SQL.
    kinds: Vec<DataType>,
}

impl Footer {
    fn of(metadata: Arc<ParquetMetaData>, table: &Schema) -> Result<Self> {
        let plain = ArrowReaderMetadata::try_new(Arc::clone(&metadata), ArrowReaderOptions::new())?;
        let hint = |field: &Arc<datafusion::arrow::datatypes::Field>| {
            let kind = match field.data_type() {
                DataType::Utf8 | DataType::LargeUtf8 | DataType::Utf8View => text_kind(field.name()),
                other => other.clone(),
            };
            field.as_ref().clone().with_data_type(kind)
        };
        let hinted = Arc::new(Schema::new(plain.schema().fields().iter().map(hint).collect::<Vec<_>>()));
        let options = ArrowReaderOptions::new().with_schema(hinted);
        let reading = ArrowReaderMetadata::try_new(metadata, options)?;
        let leaves = table.fields().iter().map(|field| reading.schema().index_of(field.name()).ok()).collect();
        let kinds = table.fields().iter().map(|field| field.data_type().clone()).collect();
        Ok(Self { reading, leaves, kinds })
    }

    fn metadata(&self) -> &Arc<ParquetMetaData> {
        self.reading.metadata()
    }

    /// Rows of each row group.
    pub fn groups(&self) -> impl Iterator<Item = usize> {
        self.metadata().row_groups().iter().map(|group| usize::try_from(group.num_rows()).unwrap_or(0))
    }

    /// What it takes in memory.
    pub fn bytes(&self) -> usize {
        // The schema is made twice, of some fifty fields of a hundred bytes.
        self.metadata().memory_size() + 16 * 1_024
    }
}

fn text_kind(name: &str) -> DataType {
    if WIDE.contains(&name) {
        DataType::Utf8View
    } else {
        DataType::Dictionary(Box::new(DataType::Int32), Box::new(DataType::Utf8))
    }
}

/// Reads segments for all questions of a process.
#[derive(Debug)]
pub(crate) struct Segments {
    kept: Kept,
    table: SchemaRef,
}

impl Segments {
    /// Reads segments as columns of this table; keeps at most so many bytes.
    pub fn new(bound: usize, table: SchemaRef) -> Self {
        Self { kept: Kept::new(bound), table }
    }

    /// The table whose columns are read.
    pub fn table(&self) -> &SchemaRef {
        &self.table
    }

    /// What is kept.
    pub fn kept(&self) -> &Kept {
        &self.kept
    }

    /// The row groups of a segment.
    ///
    /// # Errors
    /// The footer cannot be read, or tells other rows than the commit.
    pub async fn row_groups(&self, sealed: &Sealed) -> Result<Vec<RowGroup>> {
        let reference = &sealed.segment.reference;
        sealed.meter.open(reference.sha256);
        let key = Key::footer(reference.sha256);
        let footer = match self.kept.get([key].into_iter()).pop().flatten() {
            Some(Item::Footer(footer)) => footer,
            _ => {
                let metadata = Arc::new(Object(sealed.clone()).footer().await?);
                let footer = Arc::new(Footer::of(metadata, &self.table)?);
                self.kept.keep(key, Item::Footer(Arc::clone(&footer)), &sealed.segment);
                footer
            }
        };
        if footer.groups().map(|rows| rows as u64).sum::<u64>() != reference.rows {
            return Err(not_as_committed());
        }
        let group = |(number, rows)| RowGroup { sealed: sealed.clone(), footer: Arc::clone(&footer), number, rows };
        Ok(footer.groups().enumerate().map(group).collect())
    }

    /// Columns of a row group; those that are not kept are read together, and kept if `keep`.
    ///
    /// # Errors
    /// The segment cannot be read.
    pub async fn columns(&self, group: &RowGroup, wanted: &[usize], keep: bool) -> Result<Vec<Column>> {
        group.count(wanted);
        let sha256 = group.sealed.segment.reference.sha256;
        let key = |column: &usize| Key::column(sha256, group.number, *column);
        let found = self.kept.get(wanted.iter().map(key));
        let mut columns: Vec<Option<Column>> = found
            .into_iter()
            .map(|item| match item {
                Some(Item::Column(column)) => Some(column),
                _ => None,
            })
            .collect();
        let missing: Vec<usize> = wanted.iter().zip(&columns).filter(|(_, c)| c.is_none()).map(|(w, _)| *w).collect();
        let mut read = if missing.is_empty() { Vec::new() } else { group.read(&missing, None).await? }.into_iter();
        for (column, slot) in wanted.iter().zip(&mut columns).filter(|(_, slot)| slot.is_none()) {
            let new = read.next().ok_or_else(not_as_committed)?;
            if keep {
                self.kept.keep(key(column), Item::Column(new.clone()), &group.sealed.segment);
            }
            *slot = Some(new);
        }
        Ok(columns.into_iter().flatten().collect())
    }

    /// Whether a column of a row group is in memory.
    pub fn is_kept(&self, group: &RowGroup, column: usize) -> bool {
        let key = Key::column(group.sealed.segment.reference.sha256, group.number, column);
        self.kept.get([key].into_iter()).iter().any(Option::is_some)
    }

    /// Columns of some rows of a row group, past what is kept.
    ///
    /// # Errors
    /// The segment cannot be read.
    pub async fn some_rows(&self, group: &RowGroup, wanted: &[usize], rows: RowSelection) -> Result<Vec<Column>> {
        group.count(wanted);
        group.read(wanted, Some(rows)).await
    }

    /// Whether a column of a row group may hold one of these texts, by its Bloom filter.
    ///
    /// # Errors
    /// The segment cannot be read.
    pub async fn may_hold(&self, group: &RowGroup, column: usize, texts: &[String]) -> Result<bool> {
        let sha256 = group.sealed.segment.reference.sha256;
        let key = Key::bloom(sha256, group.number, column);
        // A kept column answers by itself, and better.
        let mut found = self.kept.get([key, Key::column(sha256, group.number, column)].into_iter());
        let filter = match (found.swap_remove(0), found.pop().flatten()) {
            (_, Some(_)) => return Ok(true),
            (Some(Item::Bloom(filter)), None) => filter,
            _ => {
                let filter = group.bloom(column).await?.map(Arc::new);
                self.kept.keep(key, Item::Bloom(filter.clone()), &group.sealed.segment);
                filter
            }
        };
        let Some(filter) = filter else { return Ok(true) };
        let width = self.width(column);
        Ok(texts.iter().any(|text| match width {
            // Text of another form equals no lower-hex text of the column.
            Some(width) => hex::bytes_of(text, width).is_some_and(|bytes| filter.check(&bytes[..])),
            None => filter.check(text.as_str()),
        }))
    }

    /// Bytes of a column that is bytes in segments and hex text in SQL.
    fn width(&self, column: usize) -> Option<usize> {
        match self.table.field(column).name().as_str() {
            "trace_id" => Some(16),
            "span_id" => Some(8),
            _ => None,
        }
    }
}

fn not_as_committed() -> DataFusionError {
    ParquetError::General("a segment's rows are not those that its commit names".into()).into()
}

impl RowGroup {
    /// Decodes columns of all rows, or of some.
    /// Counts the bytes of columns that are looked at, kept or not: what a question takes, whoever asked before.
    fn count(&self, wanted: &[usize]) {
        let about = self.footer.metadata().row_group(self.number);
        let leaves = wanted.iter().filter_map(|column| self.footer.leaves[*column]);
        let bytes: i64 = leaves.map(|leaf| about.column(leaf).compressed_size()).sum();
        self.sealed.meter.add(u64::try_from(bytes).unwrap_or_default());
    }

    async fn read(&self, wanted: &[usize], rows: Option<RowSelection>) -> Result<Vec<Column>> {
        let footer = &self.footer;
        let about = footer.metadata().row_group(self.number);
        let is_null = |leaf: usize| {
            let nulls = about.column(leaf).statistics().and_then(|statistics| statistics.null_count_opt());
            nulls.is_some_and(|nulls| nulls == self.rows as u64)
        };
        let leaf_of = |column: &usize| footer.leaves[*column].filter(|leaf| !is_null(*leaf));
        let mut leaves: Vec<usize> = wanted.iter().filter_map(leaf_of).collect();
        leaves.sort_unstable();
        leaves.dedup();
        let count = rows.as_ref().map_or(self.rows, RowSelection::row_count);
        let batch = if leaves.is_empty() { None } else { Some(self.decode(&leaves, rows, count).await?) };
        let column = |column: &usize| match (leaf_of(column), &batch) {
            (Some(leaf), Some(batch)) => {
                let at = leaves.binary_search(&leaf).map_err(|_| not_as_committed())?;
                Column::of(batch.column(at))
            }
            _ => Ok(Column::Null(sql_type(&footer.kinds[*column]))),
        };
        wanted.iter().map(column).collect()
    }

    async fn decode(&self, leaves: &[usize], rows: Option<RowSelection>, count: usize) -> Result<RecordBatch> {
        let mask =
            ProjectionMask::leaves(self.footer.metadata().file_metadata().schema_descr(), leaves.iter().copied());
        let mut builder =
            self.builder().with_row_groups(vec![self.number]).with_projection(mask).with_batch_size(count);
        if let Some(rows) = rows {
            builder = builder.with_row_selection(rows);
        }
        let mut batches: Vec<RecordBatch> = builder.build()?.try_collect().await?;
        let batch = match (batches.pop(), batches.first()) {
            (Some(only), None) => only,
            (Some(last), Some(first)) => concat_batches(&first.schema(), batches.iter().chain([&last]))?,
            (None, _) => return Err(not_as_committed()),
        };
        if batch.num_rows() == count { Ok(batch) } else { Err(not_as_committed()) }
    }

    async fn bloom(&self, column: usize) -> Result<Option<Sbbf>> {
        let Some(leaf) = self.footer.leaves[column] else { return Ok(None) };
        Ok(self.builder().get_row_group_column_bloom_filter(self.number, leaf).await?)
    }

    fn builder(&self) -> ParquetRecordBatchStreamBuilder<Object> {
        ParquetRecordBatchStreamBuilder::new_with_metadata(Object(self.sealed.clone()), self.footer.reading.clone())
    }
}

/// A segment's bytes.
struct Object(Sealed);

impl Object {
    async fn footer(&mut self) -> parquet::errors::Result<ParquetMetaData> {
        let size = self.0.segment.reference.bytes;
        // Where pages lie is needed to read a few rows; bounds of pages are not: segments are skipped as wholes, and
        // inside them values are tested in memory.
        let decryption = self.0.keys.to_read(&self.0.segment.location);
        let reader = ParquetMetaDataReader::new()
            .with_decryption_properties(decryption)
            .with_column_index_policy(PageIndexPolicy::Skip)
            .with_offset_index_policy(PageIndexPolicy::Optional)
            .with_prefetch_hint(Some(FOOTER_READ_BYTES));
        reader.load_and_finish(self, size).await
    }
}

impl AsyncFileReader for Object {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, parquet::errors::Result<Bytes>> {
        let Sealed { segment, objects, .. } = &self.0;
        async move { objects.get_range(&segment.location, range).await.map_err(external) }.boxed()
    }

    fn get_byte_ranges(&mut self, ranges: Vec<Range<u64>>) -> BoxFuture<'_, parquet::errors::Result<Vec<Bytes>>> {
        let Sealed { segment, objects, .. } = &self.0;
        async move { objects.get_ranges(&segment.location, &ranges).await.map_err(external) }.boxed()
    }

    fn get_metadata<'a>(
        &'a mut self,
        _options: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, parquet::errors::Result<Arc<ParquetMetaData>>> {
        async move { self.footer().await.map(Arc::new) }.boxed()
    }
}

fn external(error: object_store::Error) -> ParquetError {
    ParquetError::External(Box::new(error))
}
