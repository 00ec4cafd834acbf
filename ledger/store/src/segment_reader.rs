//! Ranged reads of one segment for the Parquet decoder, through the object store.
//!
//! Not here: what is decoded ([`crate::segment`]). Invariant: only bytes inside the size that the commit
//! names are asked for.

use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use parquet::arrow::arrow_reader::ArrowReaderOptions;
use parquet::arrow::async_reader::AsyncFileReader;
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaData, ParquetMetaDataReader};
use std::ops::Range;
use std::sync::Arc;

/// The last bytes that are read at once: footer and page index of a usual segment.
const FOOTER_BYTES: usize = 64 << 10;

/// One segment's object.
pub(crate) struct SegmentReader {
    objects: Arc<dyn ObjectStore>,
    location: Path,
    bytes: u64,
}

impl SegmentReader {
    /// A reader of the object, whose size is known from its commit.
    pub(crate) fn new(objects: &Arc<dyn ObjectStore>, location: &Path, bytes: u64) -> Self {
        Self { objects: Arc::clone(objects), location: location.clone(), bytes }
    }

    /// The footer, and where pages lie. Bounds of pages are nobody's question here: rows are found by their numbers.
    ///
    /// # Errors
    /// The object cannot be read, or is no Parquet.
    pub(crate) async fn footer(&mut self) -> Result<ParquetMetaData> {
        let size = self.bytes;
        let reader = ParquetMetaDataReader::new()
            .with_column_index_policy(PageIndexPolicy::Skip)
            .with_offset_index_policy(PageIndexPolicy::Optional)
            .with_prefetch_hint(Some(FOOTER_BYTES));
        reader.load_and_finish(self, size).await
    }
}

fn external(error: object_store::Error) -> ParquetError {
    ParquetError::External(Box::new(error))
}

impl AsyncFileReader for SegmentReader {
    fn get_bytes(&mut self, range: Range<u64>) -> BoxFuture<'_, Result<Bytes>> {
        async move { self.objects.get_range(&self.location, range).await.map_err(external) }.boxed()
    }

    fn get_byte_ranges(&mut self, ranges: Vec<Range<u64>>) -> BoxFuture<'_, Result<Vec<Bytes>>> {
        async move { self.objects.get_ranges(&self.location, &ranges).await.map_err(external) }.boxed()
    }

    fn get_metadata<'a>(
        &'a mut self,
        _: Option<&'a ArrowReaderOptions>,
    ) -> BoxFuture<'a, Result<Arc<ParquetMetaData>>> {
        async move { self.footer().await.map(Arc::new) }.boxed()
    }
}
