//! Ranged reads of one segment for the Parquet decoder, through the object store.
//!
//! Not here: what is decoded ([`crate::segment`]). Invariant: only bytes inside the size that the commit
//! names are asked for.

use crate::keys::{ContentKeys, KeyName};
use bytes::Bytes;
use futures::FutureExt;
use futures::future::BoxFuture;
use object_store::path::Path;
use object_store::{ObjectStore, ObjectStoreExt};
use parquet::arrow::arrow_reader::ArrowReaderOptions;
use parquet::arrow::async_reader::AsyncFileReader;
use parquet::encryption::decrypt::FileDecryptionProperties;
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::{PageIndexPolicy, ParquetMetaData, ParquetMetaDataReader};
use std::ops::Range;
use std::sync::{Arc, OnceLock};

/// The last bytes that are read at once: footer and page index of a usual segment.
const FOOTER_BYTES: usize = 64 << 10;

/// Where segments are read from: a store's objects, and the keys to their content.
#[derive(Debug, Clone)]
pub(crate) struct Content {
    pub objects: Arc<dyn ObjectStore>,
    pub keys: ContentKeys,
}

/// One segment's object.
pub(crate) struct SegmentReader {
    objects: Arc<dyn ObjectStore>,
    location: Path,
    bytes: u64,
    decryption: Option<Arc<FileDecryptionProperties>>,
    under: Arc<OnceLock<KeyName>>,
}

impl SegmentReader {
    /// A reader of the object, whose size is known from its commit.
    pub(crate) fn new(content: &Content, location: &Path, bytes: u64) -> Self {
        let (decryption, under) = content.keys.to_read_noting(location);
        Self { objects: Arc::clone(&content.objects), location: location.clone(), bytes, decryption, under }
    }

    /// Where the name of the tenant's key stands once the footer was read; nowhere for a plain segment.
    pub(crate) fn under(&self) -> Arc<OnceLock<KeyName>> {
        Arc::clone(&self.under)
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
            .with_prefetch_hint(Some(FOOTER_BYTES))
            .with_decryption_properties(self.decryption.clone());
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
