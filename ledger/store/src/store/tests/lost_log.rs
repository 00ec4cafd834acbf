//! Going on without the log: never by itself, and then as a declared break.

use super::*;

async fn lose_log(bed: &Bed) {
    let store = bed.open().await;
    append_ids(&store, "acme", 0..10).await;
    store.seal_all().await.unwrap();
    append_ids(&store, "acme", 10..15).await;
    append_ids(&store, "unsealed", 0..3).await;
    store.close().await;
    std::fs::remove_dir_all(bed.at("log")).unwrap();
}

fn lost(bed: &Bed) -> StoreOptions {
    StoreOptions { log_lost: true, ..bed.options() }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn streams_go_on_from_their_last_durable_head_in_a_new_generation() {
    let bed = Bed::new(81);
    lose_log(&bed).await;
    let refused = bed.refusal().await;
    assert!(matches!(refused, StoreError::LogMissing { .. }), "{refused}");
    let store = Store::open(lost(&bed)).await.unwrap();
    let expected = [ids(0..10), vec!["piperoll-log-lost-1".into()]].concat();
    assert_eq!(ids_of(&store, "acme").await, expected);
    let handle = store.reader(&tenant("acme"), StreamKind::Audit).unwrap();
    assert_eq!(handle.origin().as_str(), "example/acme/audit/1");
    assert!(store.log_head().origin.ends_with("/log/1"));
    let first = rows_of(&store, "acme").await.remove(10).draft;
    let fields = String::from_utf8_lossy(&first.fields()).into_owned();
    assert!(fields.contains("example/acme/audit/0") && fields.contains("\"size\":10"), "{fields}");
    assert_eq!(append_ids(&store, "acme", 10..15).await, accepted(11..16), "what was lost may come again");
    assert_eq!(append_ids(&store, "unsealed", 0..3).await, accepted(0..3), "it had nothing that could break");
    store.close().await;
    let not_lost = Store::open(lost(&bed)).await.err().unwrap();
    assert!(matches!(not_lost, StoreError::LogNotLost), "{not_lost}");
    let store = bed.open().await;
    store.seal_all().await.unwrap();
    let expected = [expected, ids(10..15)].concat();
    assert_eq!(ids_of(&store, "acme").await, expected, "the loss is declared once");
    store.close().await;
    let report = bed.fsck().await;
    assert!(report.is_sound(), "{:?}", report.findings().collect::<Vec<_>>());
    let breaks: Vec<&str> = report.findings().map(|finding| finding.what.as_str()).collect();
    assert!(breaks.len() == 1 && breaks[0].contains("generation 0 ended at 10 entries"), "{breaks:?}");
    let store = bed.open().await;
    assert_eq!(ids_of(&store, "acme").await, expected);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_kept_head_beyond_the_break_is_declared_lost_and_no_fork() {
    let bed = Bed::new(82);
    let store = bed.open().await;
    append_ids(&store, "acme", 0..10).await;
    store.seal_all().await.unwrap();
    append_ids(&store, "acme", 10..15).await;
    let kept = store.reader(&tenant("acme"), StreamKind::Audit).unwrap().snapshot().await.unwrap().head;
    store.close().await;
    std::fs::remove_dir_all(bed.at("log")).unwrap();
    let store = Store::open(lost(&bed)).await.unwrap();
    append_ids(&store, "acme", 20..30).await;
    store.seal_all().await.unwrap();
    store.close().await;
    let keys = vec![key().verifier("any")];
    let fsck = Fsck {
        objects: bed.objects(),
        ledger: "example".parse().unwrap(),
        keys,
        content: Default::default(),
        kept: vec![kept],
        durable: vec![],
    };
    let report = fsck.store(|_| {}).await.unwrap();
    assert!(report.is_sound());
    assert!(report.findings().any(|finding| finding.what.contains("acknowledged and lost, as was declared")));
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_log_that_is_there_or_another_one_is_never_declared_lost() {
    let bed = Bed::new(83);
    lose_log(&bed).await;
    let other = Bed::new(84);
    let store = other.open().await;
    append_ids(&store, "acme", 0..1).await;
    store.close().await;
    let options = StoreOptions { log: other.at("log"), ..lost(&bed) };
    let refused = Store::open(options).await.err().unwrap();
    assert!(matches!(refused, StoreError::Foreign { .. }), "{refused}");
    let new = StoreOptions { log: bed.at("new-log"), objects: Bed::new(85).objects(), ..lost(&bed) };
    assert!(matches!(Store::open(new).await, Err(StoreError::LogNotLost)));
}
