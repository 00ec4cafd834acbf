//! Who may open a store, and when its log is given back.

use super::model::open_soon;
use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_second_owner_is_refused() {
    let bed = Bed::new(1);
    let store = bed.open().await;
    append_ids(&store, "acme", 0..3).await;
    assert!(matches!(bed.refusal().await, StoreError::Foreign { .. }));
    let mut other_log = bed.options();
    other_log.log = bed.at("another-log");
    assert!(matches!(Store::open(other_log).await, Err(StoreError::LogMissing { .. })));
    let elsewhere = Bed::new(10);
    elsewhere.open().await.close().await;
    let other_log = StoreOptions { log: elsewhere.at("log"), ..bed.options() };
    assert!(matches!(Store::open(other_log).await, Err(StoreError::Foreign { .. })));
    store.close().await;
    assert_eq!(append_ids(&bed.open().await, "acme", 0..3).await, duplicates(0..3));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn another_ledger_name_or_key_is_refused() {
    let bed = Bed::new(2);
    bed.open().await.close().await;
    let ledger = StoreOptions { ledger: "other".parse().unwrap(), ..bed.options() };
    let name = StoreOptions { name: tenant("second"), ..bed.options() };
    let key = StoreOptions { signing: LedgerKey::from_secret(&[6; 32]).into(), ..bed.options() };
    for options in [ledger, name, key] {
        let refused = Store::open(options).await.err().unwrap();
        assert_eq!(refused.kind(), crate::ErrorKind::Conflict, "{refused}");
    }
    bed.open().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_whose_log_was_deleted_is_refused() {
    let bed = Bed::new(3);
    let store = bed.open().await;
    append_ids(&store, "acme", 0..3).await;
    store.close().await;
    std::fs::remove_dir_all(bed.at("log")).unwrap();
    let refused = bed.refusal().await;
    assert!(matches!(refused, StoreError::LogMissing { .. }) && refused.to_string().contains("--log-lost"));
    assert!(!bed.at("log").exists(), "no folder is made where one should have been");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_older_copy_of_the_log_is_refused() {
    let mut bed = Bed::new(4);
    bed.limits = Limits { log_file_bytes: 2_000, log_files: 1, ..bed.limits };
    let store = bed.open().await;
    append_ids(&store, "acme", 0..3).await;
    copy_folder(&bed.at("log"), &bed.at("older"));
    for round in 1..40 {
        append_ids(&store, "acme", 3 * round..3 * round + 3).await;
    }
    // Sealed through here, and the store log flushed beyond what the older copy knows.
    store.seal_all().await.unwrap();
    log_life::wait_for(|| bed.at("objects/_store/log/head").exists()).await;
    append_ids(&store, "acme", 500..503).await;
    store.close().await;
    std::fs::remove_dir_all(bed.at("log")).unwrap();
    std::fs::rename(bed.at("older"), bed.at("log")).unwrap();
    let refused = bed.refusal().await;
    assert_eq!(refused.kind(), crate::ErrorKind::Corrupt, "{refused}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_dropped_store_gives_its_log_back() {
    let bed = Bed::new(5);
    let store = bed.open().await;
    append_ids(&store, "acme", 0..3).await;
    drop(store);
    assert_eq!(append_ids(&open_soon(&bed).await, "acme", 0..3).await, duplicates(0..3));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_is_asked_of_a_closed_store_forever() {
    let bed = Bed::new(6);
    let store = bed.open().await;
    append_ids(&store, "acme", 0..3).await;
    store.close().await;
    let wait = std::time::Duration::from_secs(5);
    let sealed = tokio::time::timeout(wait, store.seal_all()).await.expect("an answer");
    assert!(matches!(sealed, Err(StoreError::Stopping)));
    let again = tokio::time::timeout(wait, store.seal_all()).await.expect("an answer");
    assert!(matches!(again, Err(StoreError::Stopping)));
    let late = tokio::time::timeout(wait, store.append(request(&store, vec![("acme", vec![])]))).await;
    assert!(matches!(late.expect("an answer"), Err(StoreError::Stopping)));
    tokio::time::timeout(wait, store.close()).await.expect("an answer");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn epochs_never_go_back_even_when_their_records_are_gone() {
    let bed = Bed::new(8);
    for round in 0..3 {
        let store = bed.open().await;
        append_ids(&store, "acme", 3 * round..3 * round + 3).await;
        store.seal_all().await.unwrap();
        store.close().await;
    }
    std::fs::remove_dir_all(bed.at("objects/_store/log/epoch")).unwrap();
    for round in 3..5 {
        let store = bed.open().await;
        append_ids(&store, "acme", 3 * round..3 * round + 3).await;
        store.seal_all().await.unwrap();
        store.close().await;
    }
    assert!(bed.fsck().await.is_sound());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn files_that_are_no_numbered_objects_are_not_followed() {
    let bed = Bed::new(9);
    let store = bed.open().await;
    append_ids(&store, "acme", 0..3).await;
    store.seal_all().await.unwrap();
    store.close().await;
    let commits = bed.at("objects/tenant=acme/stream=audit/_ledger/commits");
    let hostile = "18446744073709551615";
    std::fs::create_dir_all(commits.join("sub")).unwrap();
    std::fs::write(commits.join("sub").join("00000000000000000007"), b"x").unwrap();
    std::fs::write(commits.join("00000000000000000000.json"), b"x").unwrap();
    std::fs::write(bed.at("objects/_store/log/epoch/notes.txt"), b"x").unwrap();
    assert_eq!(append_ids(&bed.open().await, "acme", 0..3).await, duplicates(0..3));
    std::fs::write(commits.join(hostile), b"x").unwrap();
    assert!(!bed.fsck().await.is_sound());
    std::fs::remove_file(commits.join(hostile)).unwrap();
    std::fs::write(bed.at("objects/_store/log/epoch").join(hostile), b"x").unwrap();
    let bed = bed.copy();
    assert_eq!(bed.refusal().await.kind(), crate::ErrorKind::Corrupt);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_store_of_a_newer_format_is_refused_with_both_versions() {
    let bed = Bed::new(9);
    bed.open().await.close().await;
    let format = bed.at("objects/_store/log/format");
    let text = std::fs::read_to_string(&format).unwrap();
    std::fs::write(&format, text.replace("piperoll-store/v1", "piperoll-store/v2")).unwrap();
    let refused = bed.refusal().await;
    assert!(refused.is_newer());
    let told = "_store/log/format is written in a newer format: its format is piperoll-store/v2, and this program reads \
                piperoll-store/v1; use a newer piperoll, nothing was changed";
    assert_eq!(refused.to_string(), told);
    // Another ledger's store is still another ledger's.
    std::fs::write(&format, text.replace("origin example", "origin another")).unwrap();
    assert_eq!(bed.refusal().await.kind(), crate::ErrorKind::Conflict);
}
