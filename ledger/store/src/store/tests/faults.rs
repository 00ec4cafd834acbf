//! Each call to the object store made to fail, before and after it took effect.

use super::*;
use async_trait::async_trait;
use futures::stream::BoxStream;
use object_store::memory::InMemory;
use object_store::path::Path as ObjectPath;
use object_store::{
    CopyOptions, GetOptions, GetResult, ListResult, MultipartUpload, ObjectMeta, PutMultipartOptions, PutOptions,
    PutPayload, PutResult,
};
use std::fmt;

/// An object store of which one put fails.
#[derive(Debug)]
struct Failing {
    inner: InMemory,
    /// Puts until the one that fails.
    left: AtomicI64,
    /// Whether that one takes effect all the same.
    takes_effect: AtomicBool,
}

impl fmt::Display for Failing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("failing")
    }
}

fn refused() -> object_store::Error {
    object_store::Error::Generic { store: "failing", source: "as the test wants".into() }
}

#[async_trait]
impl ObjectStore for Failing {
    async fn put_opts(&self, at: &ObjectPath, bytes: PutPayload, how: PutOptions) -> object_store::Result<PutResult> {
        if self.left.fetch_sub(1, Ordering::SeqCst) != 0 {
            return self.inner.put_opts(at, bytes, how).await;
        }
        if self.takes_effect.load(Ordering::SeqCst) {
            self.inner.put_opts(at, bytes, how).await?;
        }
        Err(refused())
    }

    async fn put_multipart_opts(
        &self,
        _: &ObjectPath,
        _: PutMultipartOptions,
    ) -> object_store::Result<Box<dyn MultipartUpload>> {
        Err(refused())
    }

    async fn get_opts(&self, at: &ObjectPath, options: GetOptions) -> object_store::Result<GetResult> {
        self.inner.get_opts(at, options).await
    }

    fn delete_stream(
        &self,
        at: BoxStream<'static, object_store::Result<ObjectPath>>,
    ) -> BoxStream<'static, object_store::Result<ObjectPath>> {
        self.inner.delete_stream(at)
    }

    fn list(&self, prefix: Option<&ObjectPath>) -> BoxStream<'static, object_store::Result<ObjectMeta>> {
        self.inner.list(prefix)
    }

    async fn list_with_delimiter(&self, prefix: Option<&ObjectPath>) -> object_store::Result<ListResult> {
        self.inner.list_with_delimiter(prefix).await
    }

    async fn copy_opts(&self, _: &ObjectPath, _: &ObjectPath, _: CopyOptions) -> object_store::Result<()> {
        Err(refused())
    }
}

fn failing(put: i64, takes_effect: bool) -> Arc<Failing> {
    let (left, takes_effect) = (AtomicI64::new(put), AtomicBool::new(takes_effect));
    Arc::new(Failing { inner: InMemory::new(), left, takes_effect })
}

/// Opens, or opens again after the one failure.
async fn open_twice(bed: &Bed) -> Store {
    match Store::open(bed.options()).await {
        Ok(store) => store,
        Err(error) => {
            assert_eq!(error.kind(), crate::ErrorKind::Unavailable, "{error}");
            bed.open().await
        }
    }
}

/// Seals; after a failure more comes in, and the next try must still do.
async fn seal_twice(store: &Store, next: &mut u64) {
    if store.seal_all().await.is_err() {
        assert_eq!(append_ids(store, "acme", *next..*next + 5).await, accepted(*next..*next + 5));
        *next += 5;
        store.seal_all().await.expect("a seal that failed is tried again without a restart");
        store.seal_all().await.unwrap();
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn any_put_may_fail_before_or_after_it_took_effect() {
    for takes_effect in [false, true] {
        for put in 0.. {
            let mut bed = Bed::new(51);
            let objects = failing(put, takes_effect);
            bed.objects = Some(Arc::clone(&objects) as Arc<dyn ObjectStore>);
            let store = open_twice(&bed).await;
            let mut next = 0;
            for count in [290, 10] {
                append_ids(&store, "acme", next..next + count).await;
                next += count;
                seal_twice(&store, &mut next).await;
            }
            append_ids(&store, "acme", next..next + 4).await;
            next += 4;
            assert_eq!(ids_of(&store, "acme").await, ids(0..next));
            store.close().await;
            let store = open_twice(&bed).await;
            assert_eq!(ids_of(&store, "acme").await, ids(0..next), "put {put}");
            assert_eq!(append_ids(&store, "acme", 0..next).await, duplicates(0..next));
            seal_twice(&store, &mut next).await;
            store.close().await;
            let store = open_twice(&bed).await;
            store.close().await;
            let report = bed.fsck().await;
            assert!(
                report.findings().all(|f| f.what.contains("no commit names")),
                "put {put}: {:?}",
                report.findings().collect::<Vec<_>>()
            );
            assert_eq!(report.entries(), next);
            if objects.left.load(Ordering::SeqCst) >= 0 {
                assert!(put > 10);
                break;
            }
        }
    }
}

/// After each failure the process dies at once.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stop_at_any_put_of_a_seal_loses_nothing() {
    for takes_effect in [false, true] {
        for put in 4..13 {
            let mut bed = Bed::new(52);
            let objects = failing(put, takes_effect);
            bed.objects = Some(Arc::clone(&objects) as Arc<dyn ObjectStore>);
            let store = bed.open().await;
            append_ids(&store, "acme", 0..290).await;
            let _ = store.seal_all().await;
            objects.left.store(i64::MAX, Ordering::SeqCst);
            drop(store);
            let store = model::open_soon(&bed).await;
            assert_eq!(append_ids(&store, "acme", 0..300).await, [duplicates(0..290), accepted(290..300)].concat());
            store.seal_all().await.unwrap();
            assert_eq!(ids_of(&store, "acme").await, ids(0..300));
            store.close().await;
            assert!(bed.fsck().await.is_sound(), "put {put}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_cache_that_cannot_be_written_costs_no_history() {
    let bed = Bed::new(53);
    std::fs::write(bed.at("cache"), b"in the way").unwrap();
    let store = bed.open().await;
    append_ids(&store, "acme", 0..3).await;
    assert!(store.seal_all().await.is_err());
    append_ids(&store, "acme", 3..5).await;
    std::fs::remove_file(bed.at("cache")).unwrap();
    store.seal_all().await.unwrap();
    store.seal_all().await.unwrap();
    assert_eq!(append_ids(&store, "acme", 0..6).await, [duplicates(0..5), accepted(5..6)].concat());
    store.close().await;
    assert!(bed.fsck().await.is_sound());
}
