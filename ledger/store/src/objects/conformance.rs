//! What every store must do, as one function that any store's test calls.
//!
//! Not here: which stores ([`super::tests`]). Invariant: it leaves nothing behind below its folder.

use super::create::create;
use crate::layout::StreamPrefix;
use bytes::Bytes;
use futures::{StreamExt, TryStreamExt};
use ledger::name::StreamKind;
use ledger::tile::{Tile, TileKind};
use object_store::path::Path;
use object_store::{
    Error, GetOptions, GetRange, MultipartUpload, ObjectStore, ObjectStoreExt, PutMode, PutOptions, PutPayload,
};
use std::sync::Arc;

/// How many create one object at once.
const RACING: usize = 32;

/// Runs the whole suite against an empty store.
pub(crate) async fn conformance(store: Arc<dyn ObjectStore>) {
    created_once(&store).await;
    raced_for(&store).await;
    listed(&store).await;
    ranges(&store).await;
    replaced_and_deleted(&store).await;
    our_own_names(&store).await;
    in_parts(&store).await;
    large(&store).await;
    let left: Vec<_> = store.list(None).try_collect().await.unwrap();
    assert!(left.is_empty(), "{left:?}");
}

fn body(length: usize, seed: u8) -> Bytes {
    (0..length).map(|at| (at as u32).wrapping_mul(2_654_435_761).to_le_bytes()[3] ^ seed).collect::<Vec<u8>>().into()
}

async fn put_new(store: &Arc<dyn ObjectStore>, path: &Path, bytes: Bytes) -> object_store::Result<()> {
    store.put_opts(path, PutPayload::from_bytes(bytes), PutOptions::from(PutMode::Create)).await.map(drop)
}

async fn read(store: &Arc<dyn ObjectStore>, path: &Path) -> Bytes {
    store.get(path).await.unwrap().bytes().await.unwrap()
}

async fn names(store: &Arc<dyn ObjectStore>, prefix: &str) -> Vec<String> {
    let listed: Vec<_> = store.list(Some(&Path::from(prefix))).try_collect().await.unwrap();
    let mut names: Vec<String> = listed.into_iter().map(|meta| meta.location.to_string()).collect();
    names.sort();
    names
}

async fn created_once(store: &Arc<dyn ObjectStore>) {
    let path = Path::from("once/object");
    assert!(matches!(store.get(&path).await, Err(Error::NotFound { .. })));
    assert!(matches!(store.head(&path).await, Err(Error::NotFound { .. })));
    put_new(store, &path, body(1_000, 1)).await.unwrap();
    assert_eq!(read(store, &path).await, body(1_000, 1), "read after write");
    let again = put_new(store, &path, body(1_000, 2)).await.unwrap_err();
    assert!(matches!(again, Error::AlreadyExists { .. }), "{again:?}");
    assert_eq!(read(store, &path).await, body(1_000, 1));
    // The same bytes are ours whoever put them; others are not.
    create(store, &path, body(1_000, 1)).await.unwrap();
    assert_eq!(create(store, &path, body(1_000, 2)).await.unwrap_err().kind(), crate::ErrorKind::Unavailable);
    let empty = Path::from("once/empty");
    put_new(store, &empty, Bytes::new()).await.unwrap();
    assert_eq!((read(store, &empty).await.len(), store.head(&empty).await.unwrap().size), (0, 0));
    store.delete(&path).await.unwrap();
    put_new(store, &path, body(10, 3)).await.unwrap();
    store.delete(&path).await.unwrap();
    store.delete(&empty).await.unwrap();
}

async fn raced_for(store: &Arc<dyn ObjectStore>) {
    let path = Path::from("race/object");
    let bodies: Vec<Bytes> = (0..RACING).map(|n| body(2_000, n as u8)).collect();
    let racing = futures::future::join_all(bodies.iter().map(|bytes| put_new(store, &path, bytes.clone()))).await;
    let winners: Vec<usize> = racing.iter().enumerate().filter(|(_, put)| put.is_ok()).map(|(n, _)| n).collect();
    let [winner] = winners[..] else { panic!("{winners:?} won") };
    let lost = racing.iter().filter_map(|put| put.as_ref().err());
    lost.for_each(|error| assert!(matches!(error, Error::AlreadyExists { .. }), "{error:?}"));
    assert_eq!(read(store, &path).await, bodies[winner]);
    store.delete(&path).await.unwrap();
}

async fn listed(store: &Arc<dyn ObjectStore>) {
    let path = |n: usize| Path::from(format!("list/{}/{n:020}", n % 3));
    for n in 0..30 {
        put_new(store, &path(n), body(n, 0)).await.unwrap();
        assert_eq!(names(store, "list").await.len(), n + 1, "list after write");
    }
    put_new(store, &Path::from("listing/other"), body(1, 0)).await.unwrap();
    assert_eq!(names(store, "list").await.len(), 30, "a prefix ends where a name does");
    let metas: Vec<_> = store.list(Some(&Path::from("list/1"))).try_collect().await.unwrap();
    assert!(metas.len() == 10 && metas.iter().all(|meta| meta.size > 0 && meta.last_modified.timestamp() > 0));
    let after: Vec<_> = store.list_with_offset(Some(&Path::from("list/1")), &path(13)).try_collect().await.unwrap();
    let mut after: Vec<Path> = after.into_iter().map(|meta| meta.location).collect();
    after.sort();
    assert_eq!(after, [16, 19, 22, 25, 28].map(path), "what follows, and not the offset itself");
    let top = store.list_with_delimiter(Some(&Path::from("list"))).await.unwrap();
    let mut folders = top.common_prefixes;
    folders.sort();
    assert_eq!((folders, top.objects.len()), (["list/0", "list/1", "list/2"].map(Path::from).to_vec(), 0));
    let one = store.list_with_delimiter(Some(&Path::from("list/2"))).await.unwrap();
    assert_eq!((one.common_prefixes.len(), one.objects.len()), (0, 10));
    assert_eq!(names(store, "nothing").await.len(), 0);
    let all = (0..30).map(path).chain([Path::from("listing/other")]).map(Ok).collect::<Vec<_>>();
    let deleted: Vec<_> = store.delete_stream(futures::stream::iter(all).boxed()).try_collect().await.unwrap();
    assert_eq!((deleted.len(), names(store, "list").await.len()), (31, 0));
}

async fn ranges(store: &Arc<dyn ObjectStore>) {
    let (path, bytes) = (Path::from("range/object"), body(100_000, 7));
    put_new(store, &path, bytes.clone()).await.unwrap();
    for range in [0..1, 0..100_000, 50_000..50_001, 99_999..100_000, 12_345..67_890] {
        let got = store.get_range(&path, range.clone()).await.unwrap();
        assert_eq!(got, bytes[range.start as usize..range.end as usize]);
    }
    let parts = store.get_ranges(&path, &[0..10, 90_000..100_000, 5..7]).await.unwrap();
    assert_eq!(parts, [bytes.slice(0..10), bytes.slice(90_000..100_000), bytes.slice(5..7)]);
    // Not suffixes: Azure has none, and whoever reads a segment knows its size.
    for (range, expected) in
        [(GetRange::Offset(99_000), bytes.slice(99_000..)), (GetRange::Bounded(99_990..200_000), bytes.slice(99_990..))]
    {
        let options = GetOptions { range: Some(range), ..GetOptions::default() };
        let got = store.get_opts(&path, options).await.unwrap();
        assert_eq!(got.meta.size, 100_000);
        assert_eq!(got.bytes().await.unwrap(), expected);
    }
    assert!(store.get_range(&path, 100_000..100_001).await.is_err());
    assert!(matches!(store.get_range(&Path::from("range/none"), 0..1).await, Err(Error::NotFound { .. })));
    store.delete(&path).await.unwrap();
}

async fn replaced_and_deleted(store: &Arc<dyn ObjectStore>) {
    let path = Path::from("delete/object");
    store.put(&path, body(10, 1).into()).await.unwrap();
    store.put(&path, body(20, 2).into()).await.unwrap();
    assert_eq!(read(store, &path).await, body(20, 2));
    store.delete(&path).await.unwrap();
    assert!(matches!(store.head(&path).await, Err(Error::NotFound { .. })));
    assert_eq!(names(store, "delete").await.len(), 0);
    // Some say so and some do not; none may fail otherwise.
    let missing = store.delete(&path).await;
    assert!(matches!(missing, Ok(()) | Err(Error::NotFound { .. })), "{missing:?}");
}

async fn our_own_names(store: &Arc<dyn ObjectStore>) {
    let prefix = StreamPrefix::new(&"a.b_c-1".parse().unwrap(), StreamKind::Audit);
    let tile = Tile { kind: TileKind::Hashes(1), index: 1_234_067, width: 3 };
    let names_of_ours = [
        prefix.commit(7),
        prefix.tile(&tile),
        prefix.delta(3),
        prefix.below("2026-11/00000000000000000005-2-9.parquet"),
    ];
    for path in &names_of_ours {
        put_new(store, path, body(9, 9)).await.unwrap();
        assert_eq!(read(store, path).await, body(9, 9), "{path}");
    }
    let mut expected = names_of_ours.each_ref().map(ToString::to_string);
    expected.sort();
    assert_eq!(names(store, prefix.path().as_ref()).await, expected);
    let tenants = store.list_with_delimiter(None).await.unwrap().common_prefixes;
    // Folders of a disk stay when they are empty.
    assert!(tenants.contains(&Path::from("tenant=a.b_c-1")), "{tenants:?}");
    for path in &names_of_ours {
        store.delete(path).await.unwrap();
    }
}

/// Uploads parts and leaves the object to be put together. A part is sent once, so an upload whose connection broke
/// begins anew, as [`create`] does it.
async fn uploaded(store: &Arc<dyn ObjectStore>, path: &Path, parts: &[Bytes]) -> Box<dyn MultipartUpload> {
    for _ in 0..3 {
        let mut upload = store.put_multipart(path).await.unwrap();
        let uploading: Vec<_> = parts.iter().map(|part| upload.put_part(part.clone().into())).collect();
        match futures::future::try_join_all(uploading).await {
            Ok(_) => return upload,
            Err(error) => eprintln!("begins anew: {error}"),
        }
    }
    panic!("three uploads failed")
}

async fn in_parts(store: &Arc<dyn ObjectStore>) {
    let path = Path::from("parts/object");
    let parts = [body(6 << 20, 1), body(6 << 20, 2), body(1_000, 3)];
    let mut upload = uploaded(store, &path, &parts).await;
    assert!(names(store, "parts").await.is_empty(), "nothing is shown before it is whole");
    upload.complete().await.unwrap();
    assert_eq!(read(store, &path).await, parts.concat());
    store.delete(&path).await.unwrap();
    let mut upload = uploaded(store, &path, &parts[..1]).await;
    upload.abort().await.unwrap();
    drop(upload);
    assert!(matches!(store.head(&path).await, Err(Error::NotFound { .. })));
}

async fn large(store: &Arc<dyn ObjectStore>) {
    let (path, bytes) = (Path::from("large/object"), body((64 << 20) + 17, 5));
    create(store, &path, bytes.clone()).await.unwrap();
    assert_eq!(store.head(&path).await.unwrap().size, bytes.len() as u64);
    assert!(read(store, &path).await == bytes);
    // Repeated it is found; with one other byte it is somebody else's.
    create(store, &path, bytes.clone()).await.unwrap();
    let mut other = bytes.to_vec();
    other[50 << 20] ^= 1;
    let refused = create(store, &path, other.into()).await.unwrap_err();
    assert!(matches!(refused, crate::StoreError::Objects { source: Error::AlreadyExists { .. }, .. }), "{refused:?}");
    assert!(read(store, &path).await == bytes);
    store.delete(&path).await.unwrap();
}
