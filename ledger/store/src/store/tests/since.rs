//! What a stream got since it was checked: sound, changed, rolled back, replaced.

use super::model::busy_upkeep;
use super::*;
use crate::erase::{EraseOrder, EraseWhat};
use crate::fsck::{Checked, Since};
use crate::layout::StreamPrefix;
use ledger::proof::Span;
use object_store::ObjectStoreExt;
use object_store::memory::InMemory;

fn bed(seed: u64) -> Bed {
    let mut bed = Bed::new(seed);
    bed.limits = busy_upkeep(bed.limits);
    bed.objects = Some(Arc::new(InMemory::new()));
    bed
}

async fn sealed(store: &Store, ids: std::ops::Range<u64>) {
    append_ids(store, "acme", ids).await;
    store.seal_all().await.unwrap();
}

async fn checked(store: &Store) -> Checked {
    let report = store.fsck().stream(&tenant("acme"), StreamKind::Audit, &mut |_| {}).await.unwrap();
    assert!(report.findings.iter().all(|finding| !finding.is_fault), "{:?}", report.findings);
    let (size, root, commits) = (report.head.size, report.head.root, report.commits);
    Checked { size, root, commits, last: report.last.unwrap() }
}

async fn since(store: &Store, before: &Checked) -> Since {
    store.fsck().since(&tenant("acme"), StreamKind::Audit, before, &mut |_| {}).await.unwrap()
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn new_entries_are_laid_onto_the_head_that_was_kept_whatever_was_merged() {
    let bed = bed(171);
    let store = bed.open().await;
    sealed(&store, 0..300).await;
    let mut before = checked(&store).await;
    for round in 1..12u64 {
        for part in 0..3 {
            let from = 300 * round + 100 * part;
            sealed(&store, from..from + 100).await;
        }
        if round % 3 == 0 {
            store.upkeep().await.unwrap();
        }
        let found = since(&store, &before).await;
        assert!(found.findings.is_empty() && !found.is_partial, "{found:?}");
        assert_eq!((found.entries, found.checked), (300, checked(&store).await));
        // Every second time what was found is what is kept.
        if round % 2 == 0 {
            before = found.checked;
        } else {
            sealed(&store, 100_000 * round..100_000 * round + 7).await;
            let more = since(&store, &before).await;
            assert_eq!((more.entries, &more.checked), (307, &checked(&store).await));
            before = more.checked;
        }
        let nothing = since(&store, &before).await;
        assert_eq!((nothing.entries, nothing.bytes, nothing.checked), (0, 0, before));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_change_of_what_is_new_is_named_and_so_is_a_stream_that_was_rolled_back_or_replaced() {
    let bed = bed(172);
    let store = bed.open().await;
    sealed(&store, 0..300).await;
    let before = checked(&store).await;
    sealed(&store, 300..400).await;
    let after = since(&store, &before).await.checked;
    let objects = bed.objects();
    let snapshot = store.reader(&tenant("acme"), StreamKind::Audit).unwrap().snapshot().await.unwrap();
    let newest = snapshot.segments.last().unwrap();
    let genuine = segment::fetch(&objects, &newest.location).await.unwrap();
    for at in [4, genuine.len() / 3, genuine.len() / 2, genuine.len() - 9] {
        let mut changed = genuine.to_vec();
        changed[at] ^= 1;
        objects.put(&newest.location, changed.into()).await.unwrap();
        let found = since(&store, &before).await;
        assert_eq!((found.findings.len(), found.checked), (1, before), "byte {at}");
        let finding = &found.findings[0];
        assert_eq!((finding.object.as_str(), finding.entries), (newest.location.as_ref(), Some((300, 399))));
    }
    objects.delete(&newest.location).await.unwrap();
    assert!(since(&store, &before).await.findings[0].what.contains("missing"));
    objects.put(&newest.location, genuine.into()).await.unwrap();
    assert!(since(&store, &before).await.findings.is_empty());
    // Its newest commit is gone: what is left holds by itself, and is behind what was kept.
    let path = StreamPrefix::new(&tenant("acme"), StreamKind::Audit).commit(after.commits - 1);
    let commit = segment::fetch(&objects, &path).await.unwrap();
    objects.delete(&path).await.unwrap();
    let found = since(&store, &after).await;
    assert!(found.findings[0].what.contains("is missing or cannot be read"), "{:?}", found.findings);
    objects.put(&path, commit.into()).await.unwrap();
    // Another head of as many commits was kept.
    let other = Checked { last: Hash::of(b"another"), ..after };
    assert!(since(&store, &other).await.findings[0].what.contains("is not the one that was there"));
    let first = Checked { commits: 0, ..after };
    assert_eq!(since(&store, &first).await.findings.len(), 1);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn where_new_entries_were_purged_only_the_whole_stream_tells() {
    let bed = bed(173);
    let store = bed.open().await;
    sealed(&store, 0..300).await;
    let before = checked(&store).await;
    let purge = async |spans: Vec<Span>, basis| {
        let (tenant, kind, plan) = (tenant("acme"), StreamKind::Audit, Hash::of(b"plan"));
        let what = EraseWhat::Entries(spans);
        store.erase(vec![EraseOrder { tenant, kind, what, basis, plan }]).await.unwrap().remove(0).unwrap().unwrap();
    };
    // Of what was checked before.
    purge(vec![Span::new(0, 100)], 1).await;
    sealed(&store, 300..400).await;
    let found = since(&store, &before).await;
    assert!(found.findings.is_empty() && !found.is_partial, "{found:?}");
    assert_eq!((found.entries, found.checked), (100, checked(&store).await));
    // Of what came since.
    purge(vec![Span::new(320, 330)], 2).await;
    let found = since(&store, &before).await;
    assert!(found.findings.is_empty() && found.is_partial && found.checked == before, "{found:?}");
    checked(&store).await;
}
