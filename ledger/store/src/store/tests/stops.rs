//! Upkeep stopped at each of its operations, before and after it took effect: the next start comes to the same end.

use super::model::{busy_upkeep, open_soon};
use super::*;
use async_trait::async_trait;
use futures::stream::BoxStream;
use futures::{StreamExt, TryStreamExt};
use object_store::memory::InMemory;
use object_store::path::Path as ObjectPath;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, ObjectStoreExt, PutMultipartOptions,
    PutOptions, PutPayload, PutResult, Result as StoreResult,
};
use std::fmt;

/// An object store that stops working with one of its writes, for good or only for that one.
#[derive(Debug)]
struct Stopping {
    inner: InMemory,
    /// Writes and deletions until the one that fails.
    left: AtomicI64,
    takes_effect: bool,
    /// Whether all that comes after it fails too, as when the process is dead.
    for_good: AtomicBool,
}

impl fmt::Display for Stopping {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("stopping")
    }
}

fn refused() -> object_store::Error {
    object_store::Error::Generic { store: "stopping", source: "as the test wants".into() }
}

impl Stopping {
    async fn change<T>(&self, change: impl Future<Output = StoreResult<T>>) -> StoreResult<T> {
        let left = self.left.fetch_sub(1, Ordering::SeqCst);
        if left > 0 || (left < 0 && !self.for_good.load(Ordering::SeqCst)) {
            return change.await;
        }
        if left == 0 && self.takes_effect {
            change.await?;
        }
        Err(refused())
    }
}

/// The store as tests hand it out; deletions outlive the call that asked for them.
#[derive(Debug, Clone)]
struct Shared(Arc<Stopping>);

impl fmt::Display for Shared {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[async_trait]
impl ObjectStore for Shared {
    async fn put_opts(&self, at: &ObjectPath, bytes: PutPayload, how: PutOptions) -> StoreResult<PutResult> {
        self.0.change(self.0.inner.put_opts(at, bytes, how)).await
    }

    async fn put_multipart_opts(
        &self,
        _: &ObjectPath,
        _: PutMultipartOptions,
    ) -> StoreResult<Box<dyn MultipartUpload>> {
        Err(refused())
    }

    async fn get_opts(&self, at: &ObjectPath, options: GetOptions) -> StoreResult<GetResult> {
        self.0.inner.get_opts(at, options).await
    }

    fn delete_stream(
        &self,
        at: BoxStream<'static, StoreResult<ObjectPath>>,
    ) -> BoxStream<'static, StoreResult<ObjectPath>> {
        let store = Arc::clone(&self.0);
        let each = move |path: StoreResult<ObjectPath>| {
            let store = Arc::clone(&store);
            async move {
                let path = path?;
                store.change(store.inner.delete(&path)).await?;
                Ok(path)
            }
        };
        at.then(each).boxed()
    }

    fn list(&self, prefix: Option<&ObjectPath>) -> BoxStream<'static, StoreResult<ObjectMeta>> {
        self.0.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&ObjectPath>) -> StoreResult<ListResult> {
        self.0.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, _: &ObjectPath, _: &ObjectPath, _: CopyOptions) -> StoreResult<()> {
        Err(refused())
    }
}

/// A closed store with much for upkeep to do, made by a writer that did none.
async fn neglected() -> Bed {
    let mut bed = Bed::new(71);
    bed.objects = Some(Arc::new(InMemory::new()));
    bed.limits = Limits { merge_bytes: 0, ..bed.limits };
    let store = bed.open().await;
    for round in 0..10 {
        append_ids(&store, "acme", 9 * round..9 * round + 9).await;
        store.seal_all().await.unwrap();
    }
    store.close().await;
    bed.limits = busy_upkeep(Limits::default());
    bed
}

/// The same store once more, on objects that stop.
async fn again(bed: &Bed, takes_effect: bool) -> (Bed, Arc<Stopping>) {
    let inner = InMemory::new();
    let listed: Vec<_> = bed.objects().list(None).try_collect().await.unwrap();
    for meta in listed {
        let bytes = segment::fetch(&bed.objects(), &meta.location).await.unwrap();
        inner.put(&meta.location, bytes.into()).await.unwrap();
    }
    let folder = tempfile::tempdir().unwrap();
    copy_folder(&bed.at("log"), &folder.path().join("log"));
    let left = AtomicI64::new(i64::MAX);
    let stopping = Arc::new(Stopping { inner, left, takes_effect, for_good: AtomicBool::new(false) });
    let objects: Arc<dyn ObjectStore> = Arc::new(Shared(Arc::clone(&stopping)));
    let (world, limits) = (Arc::clone(&bed.world), bed.limits.clone());
    (Bed { folder, world, limits, durability: bed.durability, objects: Some(objects), keys: None }, stopping)
}

/// What a store comes to: its segments and packs, and that all of it holds.
async fn end(bed: &Bed, store: Store) -> (u64, usize) {
    append_ids(&store, "acme", 88..95).await;
    store.seal_all().await.unwrap();
    store.upkeep().await.unwrap();
    store.upkeep().await.unwrap();
    assert_eq!(append_ids(&store, "acme", 0..95).await, duplicates(0..95));
    assert_eq!(ids_of(&store, "acme").await, ids(0..95));
    store.close().await;
    let report = bed.fsck().await;
    assert_eq!(report.findings().collect::<Vec<_>>(), Vec::<&crate::Finding>::new());
    let prefix = crate::layout::StreamPrefix::new(&tenant("acme"), StreamKind::Audit);
    let stored = crate::commits::Stored::list(&bed.objects(), &prefix, 0).await.unwrap();
    assert!(stored.loose.len() <= 6, "{stored:?}");
    (report.streams[0].segments, stored.packs.len())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_at_any_operation_of_upkeep_comes_to_the_same_end() {
    let neglected = neglected().await;
    let (bed, _) = again(&neglected, false).await;
    let store = bed.open().await;
    store.upkeep().await.unwrap();
    let (segments, packs) = end(&bed, store).await;
    assert!(segments <= 4 && packs >= 3);
    for takes_effect in [false, true] {
        for dies in [true, false] {
            for operation in 0.. {
                let (bed, stopping) = again(&neglected, takes_effect).await;
                let store = bed.open().await;
                stopping.for_good.store(dies, Ordering::SeqCst);
                stopping.left.store(operation, Ordering::SeqCst);
                let kept = store.upkeep().await;
                let came_to_it = stopping.left.swap(i64::MAX, Ordering::SeqCst) < 0;
                stopping.for_good.store(false, Ordering::SeqCst);
                let store = if dies {
                    drop(store);
                    open_soon(&bed).await
                } else {
                    // What failed is taken up where it stood. What it may have left behind, the next start removes.
                    store.upkeep().await.unwrap();
                    append_ids(&store, "acme", 88..90).await;
                    store.seal_all().await.unwrap();
                    store.close().await;
                    bed.open().await
                };
                let found = end(&bed, store).await;
                assert!(found.0 <= segments + 1 && found.1 >= packs - 1, "operation {operation}: {found:?}");
                if !came_to_it {
                    assert!(operation > 15 && kept.is_ok(), "operation {operation}: {kept:?}");
                    break;
                }
            }
        }
    }
}
