//! Upkeep: merging, packing, checkpoints, deletion, snapshots; stopped anywhere, it comes to the same end.

use super::model::busy_upkeep;
use super::*;
use crate::commits::Stored;
use futures::TryStreamExt;
use ledger::proof;
use object_store::ObjectStoreExt;
use object_store::memory::InMemory;
use object_store::path::Path as ObjectPath;
use std::collections::BTreeMap;
use std::time::Duration;

fn bed(seed: u64) -> Bed {
    let mut bed = Bed::new(seed);
    bed.limits = busy_upkeep(bed.limits);
    bed.objects = Some(Arc::new(InMemory::new()));
    bed
}

fn acme() -> crate::layout::StreamPrefix {
    crate::layout::StreamPrefix::new(&tenant("acme"), StreamKind::Audit)
}

/// Appends `each` entries and seals them, again and again.
async fn sealed(store: &Store, next: &mut u64, times: u64, each: u64) {
    for _ in 0..times {
        append_ids(store, "acme", *next..*next + each).await;
        *next += each;
        store.seal_all().await.unwrap();
    }
}

async fn snapshot(store: &Store) -> Snapshot {
    store.reader(&tenant("acme"), StreamKind::Audit).unwrap().snapshot().await.unwrap()
}

async fn segment_files(bed: &Bed) -> Vec<ObjectPath> {
    let listed: Vec<_> = bed.objects().list(Some(acme().path())).try_collect().await.unwrap();
    let mut paths: Vec<_> = listed.into_iter().map(|meta| meta.location).collect();
    paths.retain(|path| path.as_ref().ends_with(".parquet") && !path.as_ref().contains("_delta_log"));
    paths
}

/// Every commit's bytes, wherever they are.
async fn commits(bed: &Bed) -> BTreeMap<u64, bytes::Bytes> {
    let (objects, prefix) = (bed.objects(), acme());
    let stored = Stored::list(&objects, &prefix, 0).await.unwrap();
    let mut reader = crate::commits::Reader::new(&objects, &prefix, &stored);
    let mut all = BTreeMap::new();
    for number in 0..stored.end() {
        all.insert(number, reader.read(number).await.unwrap());
    }
    all
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn merging_changes_no_leaf_and_no_answer() {
    let bed = bed(61);
    let mut store = bed.open().await;
    let mut next = 0;
    let mut heads = Vec::new();
    let mut leaves: Vec<Hash> = Vec::new();
    for round in 0..6 {
        sealed(&store, &mut next, 4, 70).await;
        let found = rows_of(&store, "acme").await;
        assert!(found.iter().map(|row| row.leaf).take(leaves.len()).eq(leaves.iter().copied()));
        leaves = found.iter().map(|row| row.leaf).collect();
        heads.push((leaves.len() as u64, root_of(leaves.iter().copied())));
        store.upkeep().await.unwrap();
        let found = snapshot(&store).await;
        assert!(found.segments.len() <= 6, "{} segments", found.segments.len());
        assert!(found.segments.iter().all(|segment| segment.statistics.recorded_at.is_some()));
        if round % 2 == 1 {
            store.close().await;
            store = bed.open().await;
        }
        let reader = store.reader(&tenant("acme"), StreamKind::Audit).unwrap();
        for (size, root) in &heads {
            let proof = reader.consistency(*size, None).await.unwrap();
            assert!(proof::check_consistency(*size, next, &proof.path, root, &heads.last().unwrap().1));
            for seq in (0..*size).step_by(83) {
                let proof = reader.inclusion(seq, Some(*size)).await.unwrap();
                assert!(proof::check_inclusion(seq, *size, &proof.path, &leaves[seq as usize], root));
            }
        }
        assert_eq!(append_ids(&store, "acme", 0..next).await, duplicates(0..next));
    }
    store.close().await;
    std::fs::remove_dir_all(bed.at("cache")).unwrap();
    let store = bed.open().await;
    assert_eq!(append_ids(&store, "acme", 0..next).await, duplicates(0..next));
    store.close().await;
    let report = bed.fsck().await;
    assert_eq!(report.findings().collect::<Vec<_>>(), Vec::<&crate::Finding>::new());
    let live = report.streams[0].segments;
    assert_eq!(segment_files(&bed).await.len() as u64, live, "what was merged is gone");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn who_reads_a_removed_segment_reads_it_to_the_end() {
    let bed = bed(62);
    let store = bed.open().await;
    let mut next = 0;
    sealed(&store, &mut next, 2, 30).await;
    let before = snapshot(&store).await;
    sealed(&store, &mut next, 6, 30).await;
    store.upkeep().await.unwrap();
    store.upkeep().await.unwrap();
    let now: Vec<_> = snapshot(&store).await.segments.iter().map(|segment| segment.location.clone()).collect();
    assert!(before.segments.iter().all(|segment| !now.contains(&segment.location)), "they were merged");
    assert_eq!(rows(&before).await.len(), 60);
    let kept = segment_files(&bed).await;
    assert_eq!(kept.len(), now.len() + before.segments.len(), "only what is read stays");
    drop(before);
    store.upkeep().await.unwrap();
    assert_eq!(segment_files(&bed).await.len(), now.len());
    store.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn foreign_readers_have_an_hour_also_across_a_restart() {
    let mut bed = bed(63);
    bed.limits.removed_grace = Duration::from_secs(3_600);
    let mut store = bed.open().await;
    let mut next = 0;
    sealed(&store, &mut next, 8, 5).await;
    store.upkeep().await.unwrap();
    let live = snapshot(&store).await.segments.len();
    let files = segment_files(&bed).await.len();
    assert!(files > live);
    for lose_snapshot in [false, true] {
        bed.world.pass(1_000_000_000);
        store.close().await;
        if lose_snapshot {
            bed.objects().delete(&acme().snapshot()).await.unwrap();
        }
        store = bed.open().await;
        store.upkeep().await.unwrap();
        assert_eq!(segment_files(&bed).await.len(), files);
    }
    let report = bed.fsck().await;
    assert!(report.is_sound());
    assert!(report.findings().any(|finding| finding.what.contains("merged into others or purged and are still here")));
    bed.world.pass(2_000_000_000);
    store.upkeep().await.unwrap();
    assert_eq!(segment_files(&bed).await.len(), live);
    store.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_merge_of_damaged_rows_is_abandoned_and_changes_nothing() {
    let mut bed = bed(64);
    let enough = bed.limits.merge_inputs;
    bed.limits.merge_inputs = 100;
    let store = bed.open().await;
    let mut next = 0;
    sealed(&store, &mut next, 5, 40).await;
    store.close().await;
    bed.limits.merge_inputs = enough;
    let path = segment_files(&bed).await[2].clone();
    let mut bytes = segment::fetch(&bed.objects(), &path).await.unwrap().to_vec();
    // Another row under the same name, in sound Parquet: only leaves tell.
    let entries: Vec<_> = (80..120).map(|n| crate::columns::tests::entry("acme", n)).collect();
    let batch = crate::columns::batch(80, &entries.iter().collect::<Vec<_>>()).unwrap();
    let forged = segment::write(&path, &[batch], None).unwrap().0;
    let length = bytes.len();
    bytes[4..length / 2].iter_mut().for_each(|byte| *byte ^= 0x55);
    for other in [bytes, forged.to_vec()] {
        bed.objects().put(&path, other.into()).await.unwrap();
        let store = bed.open().await;
        let commits = Stored::list(&bed.objects(), &acme(), 0).await.unwrap().end();
        assert!(store.upkeep().await.is_err());
        assert_eq!(Stored::list(&bed.objects(), &acme(), 0).await.unwrap().end(), commits);
        assert_eq!(segment_files(&bed).await.len(), 5);
        append_ids(&store, "globex", 0..1).await;
        store.close().await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn old_commits_are_packed_byte_for_byte() {
    let mut bed = bed(65);
    bed.limits.merge_inputs = 6;
    let mut store = bed.open().await;
    let mut next = 0;
    let mut seen = BTreeMap::new();
    for round in 0..8 {
        sealed(&store, &mut next, 5, 3).await;
        seen.append(&mut commits(&bed).await);
        store.upkeep().await.unwrap();
        if round % 3 == 2 {
            store.close().await;
            store = bed.open().await;
        }
    }
    store.close().await;
    let stored = Stored::list(&bed.objects(), &acme(), 0).await.unwrap();
    assert!(stored.packs.len() >= 10 && stored.loose.len() <= 8, "{stored:?}");
    let now = commits(&bed).await;
    assert!(seen.iter().all(|(number, bytes)| now.get(number) == Some(bytes)));
    let sound = bed.fsck().await;
    assert_eq!(sound.findings().collect::<Vec<_>>(), Vec::<&crate::Finding>::new());
    // Without the snapshot, and with one that is damaged, the commits decide.
    for damage in [true, false] {
        let path = acme().snapshot();
        let mut bytes = segment::fetch(&bed.objects(), &path).await.unwrap().to_vec();
        bytes[400] ^= 1;
        match damage {
            true => drop(bed.objects().put(&path, bytes.into()).await.unwrap()),
            false => bed.objects().delete(&path).await.unwrap(),
        }
        let store = bed.open().await;
        assert_eq!(ids_of(&store, "acme").await, ids(0..next));
        sealed(&store, &mut next, 1, 3).await;
        store.upkeep().await.unwrap();
        store.close().await;
        assert!(bed.fsck().await.is_sound());
    }
}

/// Other engines and a third party's script, on a store that was merged, packed and given checkpoints.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn foreign_readers_see_the_same_rows_after_upkeep() {
    let Some(python) = std::env::var_os("PIPEROLL_TEST_PYTHON") else {
        eprintln!("SKIPPED: PIPEROLL_TEST_PYTHON is not set; `./test` sets it");
        return;
    };
    let mut bed = bed(66);
    bed.objects = None;
    let store = bed.open().await;
    let mut next = 0;
    for _ in 0..5 {
        sealed(&store, &mut next, 3, 20).await;
        store.upkeep().await.unwrap();
    }
    store.close().await;
    let views = std::fs::read_dir(bed.at("objects").join(acme().views().as_ref())).unwrap();
    let names: Vec<String> = views.map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned()).collect();
    assert!(names.contains(&"_last_checkpoint".into()) && !names.contains(&"00000000000000000000.json".into()));
    let script = "import sys, json\nfrom deltalake import DeltaTable\nt = DeltaTable(sys.argv[1])\nr = t.to_pyarrow_table()\n\
        s = sorted(r['seq'].to_pylist())\n\
        n = t.to_pyarrow_dataset().count_rows()\n\
        print(json.dumps([n, s == list(range(n)), len(set(r['event_id'].to_pylist())), len(t.file_uris())]))";
    let stream = bed.at("objects").join(acme().path().as_ref());
    let read = std::process::Command::new(&python).args(["-c", script]).arg(&stream).output().unwrap();
    let live = segment_files(&bed).await.len();
    let shown = String::from_utf8_lossy(&read.stdout);
    assert_eq!(shown.trim(), format!("[{next}, true, {next}, {live}]"), "{}", String::from_utf8_lossy(&read.stderr));
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../tests/recompute.py");
    let judged =
        std::process::Command::new(&python).arg(script).arg(bed.at("objects")).arg(acme().path().as_ref()).output();
    let judged = judged.unwrap();
    let found: serde_json::Value = serde_json::from_slice(&judged.stdout).unwrap_or_else(|_| panic!("{judged:?}"));
    assert_eq!((&found["size"], &found["commits"]), (&next.into(), &commits(&bed).await.len().into()));
}
