//! Handles: one tenant's stream, to read or to append to. Only the front door (`access`) hands them out.
//!
//! Not here: authorization. Invariant: whoever holds a handle to one tenant's stream can name nothing of
//! another's through it.

use crate::columns::Rows;
use crate::error::StoreError;
use crate::layout;
use crate::precheck;
use crate::proofs::{self, ConsistencyProof, InclusionProof};
use crate::segment;
use crate::store::Shared;
use crate::stream::{Snapshot, Stream};
use bytes::Bytes;
use futures::{StreamExt as _, TryStreamExt as _};
use ledger::draft::Draft;
use ledger::name::{Origin, StreamKind, TenantId};
use ledger::tile::Tile;
use object_store::ObjectStoreExt as _;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Unsealed entries that are turned into columns where they are asked for: some hundred microseconds at most, as long
/// as handing the work to another thread takes for a few streams.
const AT_ONCE_ROWS: u64 = 256;

/// One tenant's stream, for reading.
#[derive(Clone)]
pub struct StreamHandle {
    pub(crate) shared: Arc<Shared>,
    pub(crate) stream: Arc<Stream>,
}

/// One tenant's stream, for appending.
#[derive(Clone)]
pub struct AppendHandle {
    pub(crate) shared: Arc<Shared>,
    pub(crate) stream: Arc<Stream>,
}

impl AppendHandle {
    /// Whose.
    pub fn tenant(&self) -> &TenantId {
        &self.stream.tenant
    }

    /// Which stream.
    pub fn kind(&self) -> StreamKind {
        self.stream.kind
    }

    /// The name of the store that keeps it.
    pub fn store(&self) -> &TenantId {
        &self.shared.name
    }

    /// Whether a draft is of this very stream.
    pub(crate) fn takes(&self, draft: &Draft) -> bool {
        draft.stream() == self.stream.kind && draft.tenant() == self.stream.tenant.as_str()
    }
}

impl StreamHandle {
    /// Whose.
    pub fn tenant(&self) -> &TenantId {
        &self.stream.tenant
    }

    /// Which stream.
    pub fn kind(&self) -> StreamKind {
        self.stream.kind
    }

    /// The stream's origin.
    pub fn origin(&self) -> &Origin {
        &self.stream.origin
    }

    /// How many entries the stream holds, and the bytes of its sealed segments.
    pub fn stored(&self) -> (u64, u64) {
        let view = self.stream.view();
        (
            view.edge.size() - view.sealed.gone_entries(),
            view.sealed.segments.iter().map(|segment| segment.reference.bytes).sum(),
        )
    }

    /// Every object of the stream, by path below the store, with its bytes.
    ///
    /// # Errors
    /// The object store cannot be listed.
    pub async fn objects(&self) -> Result<Vec<(String, u64)>, StoreError> {
        let folder = self.stream.prefix.path();
        let listed = self.shared.objects.list(Some(folder)).map_ok(|meta| (meta.location.to_string(), meta.size));
        let mut all: Vec<_> = listed.try_collect().await.map_err(StoreError::objects(folder))?;
        all.sort();
        Ok(all)
    }

    /// What lies beside the streams in the stream's store, which is of all tenants together: folders of the store log,
    /// with how many objects each has and their bytes. The objects are not named: their sizes tell how busy others are.
    ///
    /// # Errors
    /// The object store cannot be listed.
    pub async fn shared_objects(&self) -> Result<BTreeMap<String, (u64, u64)>, StoreError> {
        let root = layout::store_log();
        let mut folders: BTreeMap<String, (u64, u64)> = BTreeMap::new();
        let mut listed = self.shared.objects.list(Some(&root));
        while let Some(meta) = listed.try_next().await.map_err(StoreError::objects(&root))? {
            let folder = meta.location.as_ref().split('/').take(3).collect::<Vec<_>>().join("/");
            let held = folders.entry(folder).or_default();
            (held.0, held.1) = (held.0 + 1, held.1 + meta.size);
        }
        Ok(folders)
    }

    /// What is durable now: segments and tail.
    ///
    /// # Errors
    /// A segment's footer cannot be read.
    pub async fn snapshot(&self) -> Result<Snapshot, StoreError> {
        precheck::warm(&self.shared, &self.stream).await?;
        self.stream.unlock(&self.shared.content.keys)?;
        let view = self.stream.view();
        let unsealed = view.edge.size() - view.sealed.edge.size();
        let tail = if unsealed <= AT_ONCE_ROWS {
            self.stream.columns_of(&view)?
        } else {
            // Turning many entries into columns takes its time: not on a thread that answers others.
            let (stream, of) = (Arc::clone(&self.stream), view.clone());
            let tail = tokio::task::spawn_blocking(move || stream.columns_of(&of)).await;
            tail.map_err(|_| StoreError::Stopping)??
        };
        let origin = self.stream.origin.to_string();
        Ok(Snapshot {
            tenant: self.stream.tenant.clone(),
            kind: self.stream.kind,
            head: ledger::StreamHead { origin, size: view.edge.size(), root: view.edge.root() },
            gone: view.sealed.gone.as_ref().map(|gone| gone.reference.clone()),
            segments: view.sealed.segments,
            tail,
            objects: Arc::clone(&self.shared.objects),
            keys: self.shared.content.keys.clone(),
        })
    }

    /// Hands over each durable entry from a sequence number on, in order, until the newest or until `each` fails.
    ///
    /// # Errors
    /// Stored bytes cannot be read, or what `each` answers.
    pub async fn entries<E: From<StoreError>>(
        &self,
        from: u64,
        mut each: impl FnMut(u64, &Draft) -> Result<(), E>,
    ) -> Result<(), E> {
        self.stream.unlock(&self.shared.content.keys)?;
        let view = self.stream.view();
        for segment in view.sealed.segments.iter().filter(|segment| segment.reference.end() > from) {
            let mut batches = segment::stream_rows(&self.shared.content, segment).await?;
            while let Some(batch) = batches.next().await {
                let batch = batch?;
                let rows = Rows::of(&batch)?;
                for row in (0..rows.len()).filter(|row| rows.seq(*row) >= from) {
                    each(rows.seq(row), &rows.draft(row)?)?;
                }
            }
        }
        for chunk in view.tail.iter().filter(|chunk| chunk.end() > from) {
            let skip = from.saturating_sub(chunk.first);
            for (entry, seq) in chunk.entries.iter().zip(chunk.first..).skip(skip as usize) {
                each(seq, &entry.draft)?;
            }
        }
        Ok(())
    }

    /// Keeps what a reader made of the entries so far, in place of what was kept before: a cache, which only an entry of
    /// the stream that names its hash makes worth believing.
    ///
    /// # Errors
    /// The object store failed.
    pub async fn keep_fold(&self, bytes: Vec<u8>) -> Result<(), StoreError> {
        let path = self.stream.prefix.fold();
        self.shared.objects.put(&path, bytes.into()).await.map(drop).map_err(StoreError::objects(&path))
    }

    /// What [`StreamHandle::keep_fold`] kept last.
    ///
    /// # Errors
    /// The object store failed.
    pub async fn kept_fold(&self) -> Result<Option<Bytes>, StoreError> {
        segment::fetch_if_there(&self.shared.objects, &self.stream.prefix.fold()).await
    }

    /// The newest durable head, signed.
    ///
    /// # Errors
    /// None today; a signer that is not at hand would be one.
    pub async fn checkpoint(&self) -> Result<String, StoreError> {
        Ok(self.stream.head().sign(&self.shared.signing.now().all()))
    }

    /// The proof that an entry is in the tree of `size` entries, by default the newest.
    ///
    /// # Errors
    /// There is no such entry or size, or stored bytes are damaged.
    pub async fn inclusion(&self, seq: u64, size: Option<u64>) -> Result<InclusionProof, StoreError> {
        proofs::inclusion(&self.shared, &self.stream, seq, size).await
    }

    /// The proof that the tree of `from` entries is a prefix of that of `to` entries, by default the newest.
    ///
    /// # Errors
    /// There are no such sizes, or stored bytes are damaged.
    pub async fn consistency(&self, from: u64, to: Option<u64>) -> Result<ConsistencyProof, StoreError> {
        proofs::consistency(&self.shared, &self.stream, from, to).await
    }

    /// A tile of the stream's tree.
    ///
    /// # Errors
    /// The tree has no such tile yet, or stored bytes are damaged.
    pub async fn tile(&self, tile: Tile) -> Result<Bytes, StoreError> {
        proofs::tile(&self.shared, &self.stream, tile).await
    }
}
