//! Every stored object changed, cut, emptied, deleted, exchanged: fsck names it.

use super::*;
use futures::TryStreamExt;
use ledger::proof::Span;
use ledger::sections::Sections;
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

/// A closed store whose streams were merged, packed, and shown with checkpoints, with some commits after all that.
async fn maintained(seed: u64) -> Bed {
    let mut bed = Bed::new(seed);
    bed.limits = model::busy_upkeep(bed.limits);
    bed.objects = Some(Arc::new(InMemory::new()));
    let store = bed.open().await;
    for round in 0..9u64 {
        append_ids(&store, "acme", 100 * round..100 * round + 100).await;
        append_ids(&store, "globex", 3 * round..3 * round + 3).await;
        store.seal_all().await.unwrap();
        if round % 2 == 1 {
            store.upkeep().await.unwrap();
        }
        if round == 5 {
            // A block that is wholly gone, with heads of commits inside, and single entries between others.
            let spans = vec![Span::new(0, 280), Span::new(300, 303)];
            let some = |from, end| crate::EraseWhat::Sections(vec![(Span::new(from, end), Sections::ALL)]);
            for (basis, name, what, entries) in [
                (1, "acme", crate::EraseWhat::Entries(spans), 283),
                // And entries that lack sections.
                (2, "acme", some(290, 310), 17),
                (3, "globex", some(2, 3), 1),
                (4, "globex", some(5, 7), 2),
            ] {
                let (tenant, kind, plan) = (tenant(name), StreamKind::Audit, Hash::of(b"plan"));
                let order = crate::EraseOrder { tenant, kind, what, basis, plan };
                assert_eq!(store.erase(vec![order]).await.unwrap().remove(0).unwrap().unwrap().entries, entries);
            }
        }
    }
    store.upkeep().await.unwrap();
    store.close().await;
    bed
}

/// What nothing depends on: opening and readers do without it, so its absence says nothing.
fn is_cache(path: &ObjectPath) -> bool {
    path.as_ref().ends_with("/snapshot") || (is_view(path) && !path.as_ref().ends_with(".json"))
}

/// Whether fsck names the object, as a fault unless only a cache or view is concerned.
async fn is_named(objects: Arc<dyn ObjectStore>, path: &ObjectPath) -> bool {
    let report = fsck(objects).await;
    let names = |finding: &&crate::Finding| finding.object == path.as_ref() && !finding.advice.is_empty();
    report.findings().filter(names).any(|finding| finding.is_fault || is_cache(path) || is_view(path))
}

/// Single bits of every object of a maintained store: so many of each.
async fn flip_bits(bits: usize) {
    let bed = maintained(47).await;
    let whole = all(&bed.objects()).await;
    let sound = fsck(of(&whole).await).await;
    assert_eq!(sound.findings().collect::<Vec<_>>(), Vec::<&crate::Finding>::new());
    let kinds = [
        "/commits/pack/",
        "/commits/0",
        "/snapshot",
        "checkpoint.parquet",
        "_last_checkpoint",
        "-m",
        "/tile/1",
        "/gone/",
    ];
    for kind in kinds {
        assert!(whole.iter().any(|(path, _)| path.as_ref().contains(kind)), "the store has no {kind}");
    }
    let mut random = 0x9e37_79b9_7f4a_7c15u64;
    for at in (0..whole.len()).filter(|at| is_judged(&whole[*at].0) && whole[*at].0.as_ref().starts_with("tenant=")) {
        let path = whole[at].0.clone();
        let count = 8 * whole[at].1.len();
        for bit in 0..bits.min(count) {
            random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            let bit = if bits >= count { bit } else { (random >> 20) as usize % count };
            let mut changed = whole.clone();
            changed[at].1[bit / 8] ^= 1 << (bit % 8);
            // Bounds of columns in an entry of the view are the one thing that nothing else states.
            let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
            let is_bound = is_view(&path) && path.as_ref().ends_with(".json") && {
                let (before, after) = (text(&whole[at].1), text(&changed[at].1));
                without_bounds(&before) == without_bounds(&after)
            };
            assert!(is_bound || is_named(of(&changed).await, &path).await, "bit {bit} of {path}");
        }
    }
}

fn without_bounds(text: &str) -> Option<Vec<serde_json::Value>> {
    let lines = text.lines().map(|line| {
        let mut value: serde_json::Value = serde_json::from_str(line).ok()?;
        if let Some(stats) = value["add"]["stats"].as_str() {
            let mut stats: serde_json::Value = serde_json::from_str(stats).ok()?;
            stats["minValues"] = stats["minValues"]["seq"].clone();
            stats["maxValues"] = stats["maxValues"]["seq"].clone();
            value["add"]["stats"] = stats;
        }
        Some(value)
    });
    lines.collect()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn single_bits_of_a_maintained_store_are_named() {
    flip_bits(24).await;
}

#[ignore = "hours: cargo test --release -p ledger-store -- --ignored every_bit_of_a_maintained_store_is_named"]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_bit_of_a_maintained_store_is_named() {
    flip_bits(usize::MAX).await;
}

/// Signed objects are small: here each of their bits, without reading any segment.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_bit_of_commits_packs_and_snapshots_counts() {
    let bed = maintained(48).await;
    let trusted = key().verifier("example/globex/audit/0");
    let whole = all(&bed.objects()).await;
    for (path, bytes) in
        whole.iter().filter(|(path, _)| path.as_ref().starts_with("tenant=globex/stream=audit/_ledger"))
    {
        if path.as_ref().contains("/tile/") {
            continue;
        }
        let opens = |bytes: &[u8]| match path.as_ref() {
            pack if pack.contains("/pack/") => ledger::pack::unpack(bytes).is_ok_and(|(_, commits)| {
                commits.iter().all(|commit| ledger::SignedCommit::open(commit, std::slice::from_ref(&trusted)).is_ok())
            }),
            commit if commit.contains("/commits/") => {
                ledger::SignedCommit::open(bytes, std::slice::from_ref(&trusted)).is_ok()
            }
            _ => crate::snapshot::ChainSnapshot::open(bytes, std::slice::from_ref(&trusted)).is_ok(),
        };
        assert!(opens(bytes));
        let step = if bytes.len() > 1_500 { 5 } else { 1 };
        for bit in (0..8 * bytes.len()).step_by(step) {
            let mut changed = bytes.clone();
            changed[bit / 8] ^= 1 << (bit % 8);
            assert!(!opens(&changed), "bit {bit} of {path}");
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn objects_of_a_maintained_store_cut_missing_exchanged_and_copied() {
    let bed = maintained(49).await;
    let whole = all(&bed.objects()).await;
    let is_ours = |path: &ObjectPath| path.as_ref().starts_with("tenant=acme") && !path.as_ref().contains(".p/");
    let pair = |path: &ObjectPath| {
        let other = path.as_ref().replace("tenant=acme", "tenant=globex");
        whole.iter().position(|(candidate, _)| candidate.as_ref() == other)
    };
    let mut exchanged = 0;
    for at in (0..whole.len()).filter(|at| is_ours(&whole[*at].0)) {
        let path = whole[at].0.clone();
        for length in [0, whole[at].1.len() / 2, whole[at].1.len() - 1] {
            let mut cut = whole.clone();
            cut[at].1.truncate(length);
            assert!(is_named(of(&cut).await, &path).await, "{path} cut to {length}");
        }
        let mut less = whole.clone();
        less.remove(at);
        let covered = is_view(&path) && path.as_ref().ends_with(".json");
        assert!(
            covered || path.as_ref().ends_with("/snapshot") || is_named(of(&less).await, &path).await || is_view(&path),
            "{path} is not missed"
        );
        if let Some(other) = pair(&path).filter(|other| whole[*other].1 != whole[at].1) {
            let mut changed = whole.clone();
            changed[at].1 = whole[other].1.clone();
            assert!(is_named(of(&changed).await, &path).await, "{path} is another stream's");
            exchanged += 1;
        }
    }
    assert!(exchanged > 10, "{exchanged} objects exchanged");
    let prefix = crate::layout::StreamPrefix::new(&tenant("acme"), StreamKind::Audit);
    let newest = whole.iter().rfind(|(path, _)| is_ours(path) && path.as_ref().contains("/commits/0")).unwrap();
    let number = crate::layout::number_of(&newest.0).unwrap();
    let pack = whole.iter().find(|(path, _)| is_ours(path) && path.as_ref().contains("/pack/")).unwrap();
    let (first, last) = crate::layout::pack_range(&pack.0).unwrap();
    for (bytes, copy) in [
        (&newest.1, prefix.commit(number + 1)),
        (&newest.1, prefix.commit(number + 5)),
        (&pack.1, prefix.pack(first + 1_000, last + 1_000)),
        (&pack.1, prefix.pack(first + 1, last + 1)),
    ] {
        let mut more = whole.clone();
        more.push((copy.clone(), bytes.clone()));
        assert!(is_named(of(&more).await, &copy).await, "{copy} is a copy");
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_rolled_back_as_a_whole_is_found_by_who_kept_a_head() {
    let bed = maintained(50).await;
    let before = all(&bed.objects()).await;
    let store = bed.open().await;
    for round in 9..12 {
        append_ids(&store, "acme", 100 * round..100 * round + 100).await;
        store.seal_all().await.unwrap();
    }
    store.upkeep().await.unwrap();
    let kept = store.reader(&tenant("acme"), StreamKind::Audit).unwrap().stream.head();
    store.close().await;
    let check = |objects| {
        let kept = vec![kept.clone()];
        Fsck {
            objects,
            ledger: "example".parse().unwrap(),
            keys: vec![key().verifier("any")],
            content: Default::default(),
            kept,
            durable: vec![],
        }
    };
    assert!(check(bed.objects()).store(|_| {}).await.unwrap().is_sound());
    let report = check(of(&before).await).store(|_| {}).await.unwrap();
    let found: Vec<_> = report.findings().filter(|finding| finding.is_fault).collect();
    assert!(found.len() == 1 && found[0].object == "tenant=acme/stream=audit", "{found:?}");
    assert_eq!(found[0].entries, Some((900, 1_199)));
    assert!(found[0].sound.contains("900"), "{found:?}");
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
