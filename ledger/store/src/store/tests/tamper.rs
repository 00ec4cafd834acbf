//! Every stored object changed, cut, emptied, deleted, exchanged: fsck names it.

use super::*;
use futures::TryStreamExt;
use object_store::memory::InMemory;
use object_store::path::Path as ObjectPath;
use object_store::{ObjectStoreExt, PutPayload};

/// A closed store of several segments, tiles of two widths, and a flushed store log.
async fn built(seed: u64) -> Bed {
    let mut bed = Bed::new(seed);
    bed.limits = Limits { log_file_bytes: 3_000, log_files: 1, ..bed.limits };
    bed.objects = Some(Arc::new(InMemory::new()));
    let store = bed.open().await;
    let mut next = 0;
    for count in [300, 300, 20] {
        append_ids(&store, "acme", next..next + count).await;
        append_ids(&store, "globex", next..next + 2).await;
        store.seal_all().await.unwrap();
        next += count;
    }
    let mut last = 0;
    for _ in 0..200 {
        append_ids(&store, "acme", 0..1).await;
        tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        last = crate::objects_of::list_numbers(&bed.objects(), &crate::layout::log_heads(), crate::layout::log_head)
            .await
            .unwrap()
            .len();
        if last > 1 {
            break;
        }
    }
    assert!(last > 1, "the store log was flushed");
    store.close().await;
    bed
}

async fn all(objects: &Arc<dyn ObjectStore>) -> Vec<(ObjectPath, Vec<u8>)> {
    let mut out = Vec::new();
    let mut listed: Vec<_> = objects.list(None).try_collect().await.unwrap();
    listed.sort_by(|a, b| a.location.cmp(&b.location));
    for meta in listed {
        out.push((meta.location.clone(), segment::fetch(objects, &meta.location).await.unwrap().to_vec()));
    }
    out
}

async fn of(held: &[(ObjectPath, Vec<u8>)]) -> Arc<dyn ObjectStore> {
    let objects: Arc<dyn ObjectStore> = Arc::new(InMemory::new());
    for (path, bytes) in held {
        objects.put(path, PutPayload::from(bytes.clone())).await.unwrap();
    }
    objects
}

/// What of a store fsck can judge from objects alone. The owner's record is a random name; only the log knows it.
fn is_judged(path: &ObjectPath) -> bool {
    !path.as_ref().contains("/owner/")
}

fn is_view(path: &ObjectPath) -> bool {
    path.as_ref().contains("_delta_log")
}

async fn must_name(objects: Arc<dyn ObjectStore>, path: &ObjectPath, what: &str) {
    let report = fsck(objects).await;
    let named = |finding: &&crate::Finding| finding.object == path.as_ref();
    if is_view(path) {
        // A view may differ where nothing is decided by it; what it shows must be found.
        return;
    }
    let found: Vec<_> = report.findings().filter(|finding| finding.is_fault).collect();
    assert!(found.iter().any(named), "{what} of {path} was not named: {found:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_kind_of_damage_to_each_object_is_named() {
    let bed = built(41).await;
    let whole = all(&bed.objects()).await;
    let sound = fsck(of(&whole).await).await;
    assert_eq!(sound.findings().collect::<Vec<_>>(), Vec::<&crate::Finding>::new());
    for at in (0..whole.len()).filter(|at| is_judged(&whole[*at].0)) {
        let (path, bytes) = &whole[at];
        for place in [0, bytes.len() / 3, bytes.len() / 2, bytes.len() - 9] {
            let mut changed = whole.clone();
            changed[at].1[place] ^= 4;
            must_name(of(&changed).await, path, "a changed bit").await;
        }
        for length in [0, bytes.len() / 2, bytes.len() - 1] {
            let mut changed = whole.clone();
            changed[at].1.truncate(length);
            must_name(of(&changed).await, path, "a cut").await;
        }
        let mut longer = whole.clone();
        longer[at].1.push(b'\n');
        must_name(of(&longer).await, path, "an added byte").await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_missing_is_named() {
    let bed = built(42).await;
    let whole = all(&bed.objects()).await;
    for at in 0..whole.len() {
        let path = whole[at].0.clone();
        let mut changed = whole.clone();
        changed.remove(at);
        let report = fsck(of(&changed).await).await;
        // Heads of the store log and tiles that newer ones replace, and epochs, may be thinned out.
        let replaced =
            ["/epoch/", "/owner/", "/key/", ".p/", "log/head/"].iter().any(|part| path.as_ref().contains(part));
        if !replaced && !is_view(&path) {
            assert!(report.findings().any(|f| f.is_fault && f.object == path.as_ref()), "{path} is not missed");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_objects_exchanged_are_named() {
    let bed = built(43).await;
    let whole = all(&bed.objects()).await;
    let kind = |path: &ObjectPath| {
        let path = path.as_ref();
        ["commits/", ".parquet", "acme/stream=audit/_ledger/tile/", "log/tile/", "log/head/", "log/epoch/"]
            .iter()
            .position(|part| path.contains(part))
    };
    let mut exchanged = 0;
    for one in 0..whole.len() {
        for other in one + 1..whole.len() {
            let (a, b) = (&whole[one], &whole[other]);
            if kind(&a.0).is_none() || kind(&a.0) != kind(&b.0) || a.1 == b.1 {
                continue;
            }
            let mut changed = whole.clone();
            (changed[one].1, changed[other].1) = (b.1.clone(), a.1.clone());
            let report = fsck(of(&changed).await).await;
            let named =
                report.findings().any(|f| f.is_fault && [a.0.as_ref(), b.0.as_ref()].contains(&f.object.as_str()));
            assert!(named, "{} and {} exchanged", a.0, b.0);
            exchanged += 1;
        }
    }
    assert!(exchanged > 10);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_damaged_commit_or_store_log_is_not_opened() {
    let bed = built(44).await;
    let whole = all(&bed.objects()).await;
    let newest = |folder: &str| whole.iter().rposition(|(path, _)| path.as_ref().contains(folder)).unwrap();
    let every = (0..whole.len()).filter(|at| whole[*at].0.as_ref().contains("/commits/"));
    for at in every.chain([newest("log/head/"), newest("log/format"), newest("log/owner/")]) {
        let mut changed = whole.clone();
        let middle = changed[at].1.len() / 2;
        changed[at].1[middle] ^= 1;
        let opened = Store::open(StoreOptions { objects: of(&changed).await, ..bed.options() }).await;
        assert!(opened.is_err(), "{} was changed", whole[at].0);
    }
    let sound = Store::open(StoreOptions { objects: of(&whole).await, ..bed.options() }).await.unwrap();
    sound.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_tile_that_lies_gives_no_proof() {
    let bed = built(45).await;
    let mut whole = all(&bed.objects()).await;
    for (path, bytes) in &mut whole {
        if path.as_ref().contains("stream=audit/_ledger/tile/1") {
            bytes[5] ^= 1;
        }
    }
    let store = Store::open(StoreOptions { objects: of(&whole).await, ..bed.options() }).await.unwrap();
    let reader = store.reader(&tenant("acme"), StreamKind::Audit).unwrap();
    assert_eq!(reader.inclusion(599, None).await.unwrap_err().kind(), crate::ErrorKind::Corrupt);
    assert_eq!(reader.consistency(300, None).await.unwrap_err().kind(), crate::ErrorKind::Corrupt);
    store.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_view_is_written_anew_at_a_start() {
    let bed = built(46).await;
    let whole = all(&bed.objects()).await;
    let shown: Vec<_> = whole.iter().filter(|(path, _)| is_view(path)).cloned().collect();
    assert!(shown.len() >= 6);
    for (path, _) in &shown {
        bed.objects().delete(path).await.unwrap();
    }
    bed.open().await.close().await;
    let again: Vec<_> = all(&bed.objects()).await.into_iter().filter(|(path, _)| is_view(path)).collect();
    assert_eq!(again, shown);
}
