//! The log's life: cut, copied forward, flushed, trimmed; and all of it found after a stop.

use super::*;
use std::time::Duration;

/// Waits for what other threads do, or fails.
pub(super) async fn wait_for(is_so: impl Fn() -> bool) {
    for _ in 0..1_000 {
        if is_so() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    panic!("it did not come about");
}

fn small_files(seed: u64) -> Bed {
    let mut bed = Bed::new(seed);
    bed.limits = Limits { log_file_bytes: 4_000, log_files: 3, ..bed.limits };
    bed
}

fn keyed(store: &Store, name: &str, key: u8, drafts: Vec<Draft>) -> AppendRequest {
    let encode = Box::new(|verdicts: &[Vec<Verdict>]| format!("{verdicts:?}").into_bytes());
    let key = RequestKey { key: [key; 32], body: [1; 32], encode };
    AppendRequest { key: Some(key), ..request(store, vec![(name, drafts)]) }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_log_is_bounded_by_unsealed_bytes_not_by_the_quietest_tenant() {
    let bed = small_files(11);
    let mut store = bed.open().await;
    append_ids(&store, "quiet", 0..2).await;
    let first = keyed(&store, "keyed", 9, vec![draft("keyed", "k-0", 0)]);
    store.append(first).await.unwrap();
    let oldest = bed.log_files()[0].clone();
    for round in 0..60u64 {
        append_ids(&store, "busy", 10 * round..10 * round + 10).await;
        if round % 8 == 7 {
            store.seal_all().await.unwrap();
            // What is sealed by the way is made unsealed work again.
            append_ids(&store, "quiet", 2 * round..2 * round + 2).await;
        }
        if round % 25 == 24 {
            store.close().await;
            store = bed.open().await;
        }
    }
    wait_for(|| bed.log_files().len() <= 6).await;
    assert!(!oldest.exists());
    let heads = std::fs::read_dir(bed.at("objects/_store/log/head")).unwrap().count();
    assert!(heads > 0, "the store log was flushed");
    drop(store);
    let store = model::open_soon(&bed).await;
    assert_eq!(ids_of(&store, "busy").await, ids(0..600));
    assert_eq!(append_ids(&store, "busy", 0..600).await, duplicates(0..600));
    let again = keyed(&store, "keyed", 9, vec![draft("keyed", "k-0", 0)]);
    let again = store.append(again).await.unwrap();
    assert!(matches!(again, Appended::Repeated { answer, .. } if answer == b"[[Accepted(0)]]"));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn small_streams_are_copied_forward_without_any_seal() {
    let bed = small_files(12);
    let store = bed.open().await;
    let oldest = bed.log_files()[0].clone();
    let mut facts = Vec::new();
    for round in 0..80u64 {
        let name = format!("t-{}", round % 5);
        let drafts = (0..3).map(|n| draft(&name, &format!("e-{}", 3 * (round / 5) + n), 0)).collect();
        if round % 7 == 0 {
            store.append(keyed(&store, &name, round as u8, drafts)).await.unwrap();
            facts.push((round as u8, name));
        } else {
            append(&store, &name, drafts).await;
        }
    }
    wait_for(|| !oldest.exists()).await;
    assert!(!bed.at("objects/tenant=t-0").exists(), "nothing was sealed");
    assert!(std::fs::read_dir(bed.at("objects/_store/log/head")).unwrap().count() > 0);
    // Once as after a crash, once as after a close.
    let copy = bed.copy();
    store.close().await;
    for bed in [copy, bed] {
        let store = bed.open().await;
        for at in 0..5 {
            assert_eq!(ids_of(&store, &format!("t-{at}")).await, ids(0..48));
            assert_eq!(
                append(&store, &format!("t-{at}"), vec![draft(&format!("t-{at}"), "e-1", 0)]).await.0,
                duplicates(1..2)
            );
        }
        for (key, name) in &facts {
            let again = store.append(keyed(&store, name, *key, vec![])).await.unwrap();
            assert!(matches!(again, Appended::Repeated { .. }));
        }
        store.seal_all().await.unwrap();
        store.close().await;
        assert!(bed.fsck().await.is_sound());
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn starts_leave_no_empty_files_behind() {
    let bed = Bed::new(13);
    for _ in 0..6 {
        bed.open().await.close().await;
    }
    assert!(bed.log_files().len() <= 1, "{:?}", bed.log_files());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_idempotency_key_without_events_is_remembered_too() {
    let bed = Bed::new(14);
    let store = bed.open().await;
    store.append(keyed(&store, "acme", 3, vec![])).await.unwrap();
    store.close().await;
    let store = bed.open().await;
    assert!(matches!(store.append(keyed(&store, "acme", 3, vec![])).await.unwrap(), Appended::Repeated { .. }));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_entry_that_was_changed_in_the_log_is_not_taken_back() {
    let bed = Bed::new(15);
    let store = bed.open().await;
    append(&store, "acme", vec![draft("acme", "e-0", 4_711)]).await;
    store.close().await;
    // Whoever can write the file can also mend the checksum: the leaf still tells.
    let path = bed.log_files()[0].clone();
    let mut bytes = std::fs::read(&path).unwrap();
    let at = bytes.windows(6).position(|found| found == b"u-4711").unwrap();
    bytes[at + 2] = b'9';
    let length = u32::from_le_bytes(bytes[..4].try_into().unwrap()) as usize;
    let crc = crc32c::crc32c(&bytes[8..8 + length]).to_le_bytes();
    bytes[4..8].copy_from_slice(&crc);
    std::fs::write(&path, &bytes).unwrap();
    assert_eq!(bed.refusal().await.kind(), crate::ErrorKind::Corrupt);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_leaping_clock_stops_admission_and_a_drifting_one_does_not() {
    let bed = Bed::new(16);
    let store = bed.open().await;
    for round in 0..10 {
        bed.world.shift_wall(-20_000_000);
        append_ids(&store, "acme", round..round + 1).await;
    }
    bed.world.shift_wall(61_000_000);
    let refused = store.append(request(&store, vec![("acme", vec![draft("acme", "late", 0)])])).await;
    assert!(matches!(refused, Err(StoreError::ClockLeapt)));
    bed.world.shift_wall(-61_000_000);
    let still = store.append(request(&store, vec![("acme", vec![draft("acme", "late", 0)])])).await;
    assert!(matches!(still, Err(StoreError::ClockLeapt)), "until a person restarts it");
    store.close().await;
    let store = bed.open().await;
    assert_eq!(append_ids(&store, "acme", 10..11).await, accepted(10..11));
    assert_eq!(rows_of(&store, "acme").await.len(), 11);
}
