//! Opens segments for DataFusion: bytes from the snapshot's own store, footers from a shared bounded cache.
//!
//! A plan names a segment by its position (`acme/audit/0-24999`); the path and the store travel beside the name
//! as an extension and never enter a plan, so `EXPLAIN` cannot show them and no session can reach another file.
//! Not here: which segments are worth opening ([`crate::prune`]), writing of any kind.
//!
//! Invariant: a footer is cached under the segment's SHA-256, so that a rewritten segment is another entry.

use bytes::Bytes;
use datafusion::datasource::listing::PartitionedFile;
use datafusion::datasource::physical_plan::parquet::CachedParquetMetaData;
use datafusion::datasource::physical_plan::{ParquetFileMetrics, ParquetFileReaderFactory};
use datafusion::error::{DataFusionError, Result};
use datafusion::execution::cache::Cache;
use datafusion::execution::cache::cache_manager::{CachedFileMetadataEntry, FileMetadataCache};
use datafusion::physical_plan::metrics::ExecutionPlanMetricsSet;
use futures::FutureExt;
use futures::future::BoxFuture;
use ledger_store::Segment;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use parquet::arrow::arrow_reader::ArrowReaderOptions;
use parquet::arrow::async_reader::AsyncFileReader;
use parquet::errors::ParquetError;
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaData, ParquetMetaDataReader};
use std::fmt;
use std::ops::Range;
use std::sync::Arc;

/// First read of a footer that is not cached: footer and page index of a usual segment fit.
const FOOTER_READ_BYTES: usize = 64 * 1_024;

/// What a plan's file stands for: the segment and the store that holds it.
pub(crate) struct Opened {
    /// The segment.
    pub segment: Arc<Segment>,
    /// Its store.
    pub objects: Arc<dyn ObjectStore>,
}

/// Makes readers of segments; the footers are shared by all queries of the process.
pub(crate) struct SegmentReaders {
    footers: Arc<FileMetadataCache>,
}

impl SegmentReaders {
    /// Readers that keep footers in this cache.
    pub fn new(footers: Arc<FileMetadataCache>) -> Self {
        Self { footers }
    }
}

impl fmt::Debug for SegmentReaders {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SegmentReaders")
    }
}

impl ParquetFileReaderFactory for SegmentReaders {
    fn create_reader(
        &self,
        partition_index: usize,
        file: PartitionedFile,
        _metadata_size_hint: Option<usize>,
        metrics: &ExecutionPlanMetricsSet,
    ) -> Result<Box<dyn AsyncFileReader + Send>> {
        let opened = file
            .extensions
            .get_arc::<Opened>()
            .ok_or_else(|| DataFusionError::Internal("a file that is no segment".into()))?;
        let metrics = ParquetFileMetrics::new(partition_index, file.object_meta.location.as_ref(), metrics);
        Ok(Box::new(SegmentReader { opened, file, metrics, footers: Arc::clone(&self.footers) }))
    }
}

struct SegmentReader {
    opened: Arc<Opened>,
    file: PartitionedFile,
    metrics: ParquetFileMetrics,
    footers: Arc<FileMetadataCache>,
}

impl SegmentReader {
    async fn footer(&mut self) -> parquet::errors::Result<Arc<ParquetMetaData>> {
        let key = Path::from(self.opened.segment.reference.sha256.to_hex());
        let cached = self.footers.get(&key);
        if let Some(found) =
            cached.as_ref().and_then(|entry| entry.file_metadata.as_any().downcast_ref::<CachedParquetMetaData>())
        {
            return Ok(Arc::clone(found.parquet_metadata()));
        }
        let size = self.opened.segment.reference.bytes;
        let reader = ParquetMetaDataReader::new()
            .with_page_index_policy(PageIndexPolicy::Optional)
            .with_prefetch_hint(Some(FOOTER_READ_BYTES));
        let footer = Arc::new(reader.load_and_finish(&mut *self, size).await?);
        let entry = CachedFileMetadataEntry::new(
            self.file.object_meta.clone(),
            Arc::new(CachedParquetMetaData::new(Arc::clone(&footer))),
        );
        Cache::put(self.footers.as_ref(), &key, entry);
        Ok(footer)
    }
}

impl AsyncFileReader for SegmentReader {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, parquet::errors::Result<Bytes>> {
        self.metrics.bytes_scanned.add((range.end - range.start) as usize);
        let read = async move {
            self.opened
                .objects
                .get_range(&self.opened.segment.location, range)
                .await
                .map_err(|e| ParquetError::External(Box::new(e)))
        };
        read.boxed()
    }

    fn get_byte_ranges(&mut self, ranges: Vec<Range<u64>>) -> BoxFuture<'_, parquet::errors::Result<Vec<Bytes>>> {
        self.metrics.bytes_scanned.add(ranges.iter().map(|r| (r.end - r.start) as usize).sum());
        let read = async move {
            self.opened
                .objects
                .get_ranges(&self.opened.segment.location, &ranges)
                .await
                .map_err(|e| ParquetError::External(Box::new(e)))
        };
        read.boxed()
    }

    fn get_metadata<'a>(
        &'a mut self,
        _options: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, parquet::errors::Result<Arc<ParquetMetaData>>> {
        self.footer().boxed()
    }
}
