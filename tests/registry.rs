//! What is kept of the registry beside its stream, and what it says of use.
//!
//! Not here: who may change what (`access`).

use crate::access::principal;
use crate::program::{Service, events, run_json};
use serde_json::{Value, json};
use std::path::Path;
use std::time::{Duration, Instant};

const SNAPSHOT: &str = "store/tenant=platform/stream=control/_ledger/fold";

/// Waits until something is so.
async fn until<T>(what: &str, mut look: impl AsyncFnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = look().await {
            return found;
        }
        assert!(begun.elapsed() < Duration::from_secs(30), "{what} did not come to be");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

fn fsck(data: &Path) -> Value {
    run_json(&["fsck", "--json", "--data", data.to_str().unwrap()])
}

fn about_the_snapshot(report: &Value) -> Vec<&str> {
    let all = report["findings"].as_array().unwrap().iter();
    all.filter(|finding| finding["object"].as_str().unwrap().ends_with("_ledger/fold"))
        .map(|finding| finding["what"].as_str().unwrap())
        .collect()
}

#[tokio::test]
async fn a_snapshot_is_named_by_the_stream_and_a_forged_one_is_not_used() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start(folder.path(), &["--seal-on-exit"]);
    let who = |n: usize| json!({"change": "principal.create", "principal": format!("p{n}"), "kind": "user"});
    service.change(&(0..10_000).map(who).collect::<Vec<_>>());
    let sql = "SELECT count(*) FROM control WHERE action = 'registry.snapshot'";
    until("the snapshot", async || (service.rows(&["platform"], sql).await == [[json!(1)]]).then_some(())).await;
    service.change(&[who(10_000)]);
    service.stop();
    let snapshot = folder.path().join(SNAPSHOT);
    let genuine = std::fs::read(&snapshot).unwrap();
    let report = fsck(folder.path());
    assert_eq!((&report["sound"], about_the_snapshot(&report).len()), (&json!(true), 0), "{report}");
    // With it, and without: the same registry.
    for _ in 0..2 {
        let service = Service::start(folder.path(), &["--seal-on-exit"]);
        let count = service.rows(&["platform"], "SELECT count(*) FROM principals").await;
        assert_eq!(count, [[json!(10_002)]]);
        service.stop();
        std::fs::remove_file(&snapshot).unwrap_or_default();
    }
    // A principal that nobody made: no entry names such a snapshot, so the entries count.
    let forged = String::from_utf8(genuine).unwrap().replacen("\"p1\"", "\"eve\"", 1);
    std::fs::write(&snapshot, &forged).unwrap();
    let report = fsck(folder.path());
    let found = about_the_snapshot(&report);
    assert!(found.len() == 1 && found[0].contains("no entry names this"), "{report}");
    assert_eq!(report["sound"], true);
    let service = Service::start(folder.path(), &[]);
    let names = service.rows(&["platform"], "SELECT principal FROM principals WHERE principal IN ('p1', 'eve')").await;
    assert_eq!(names, [[json!("p1")]]);
    service.stop();
}

#[tokio::test]
async fn a_key_says_when_it_was_used_last_also_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start(folder.path(), &[]);
    let made = service.change(&[
        json!({"change": "principal.create", "principal": "ann", "kind": "user"}),
        json!({"change": "credential.create", "principal": "ann"}),
        json!({"change": "credential.create", "principal": "ann"}),
    ]);
    let [used, unused] = [1, 2].map(|at| made["changes"][at]["made"]["credential"].as_str().unwrap().to_string());
    let key = made["changes"][1]["key"].as_str().unwrap();
    assert_eq!(service.with_key(key).get("/v1/whoami").await.0, 200);
    let last = async |service: &Service| {
        let sql =
            format!("SELECT credential, last_used_at FROM credentials WHERE credential IN ('{used}', '{unused}')");
        let rows = service.rows(&["platform"], &sql).await;
        let of = |id: &str| rows.iter().find(|row| row[0] == id).map(|row| row[1].clone()).unwrap();
        (of(&used), of(&unused))
    };
    let (at, never) = last(&service).await;
    assert!(at.is_string() && never.is_null(), "{at} {never}");
    let sql = "SELECT count(*) FROM control WHERE action = 'credential.used'";
    until("the record", async || {
        let rows = service.rows(&["platform"], sql).await;
        (rows[0][0].as_u64().unwrap() >= 1).then_some(())
    })
    .await;
    until("both keys on record", async || {
        let rows = service.rows(&["platform"], "SELECT attributes FROM control WHERE action = 'credential.used'").await;
        rows.iter().any(|row| row[0].as_str().unwrap().contains(&used)).then_some(())
    })
    .await;
    service.stop();
    let service = Service::start(folder.path(), &[]);
    let (again, never) = last(&service).await;
    assert!(again.as_str() >= at.as_str() && never.is_null(), "{again} {never}");
    service.stop();
}

#[tokio::test]
async fn what_a_tenant_stores_and_what_questions_look_at_is_bounded_and_counted() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start(folder.path(), &["--seal-bytes", "20000"]);
    service.post("/v1/events", events("acme", 0, 500)).await;
    let stored = until("a segment", async || {
        let rows = service.rows(&["acme"], "SELECT stored_bytes FROM tenants WHERE tenant = 'acme'").await;
        rows[0][0].as_u64().filter(|bytes| *bytes > 0)
    })
    .await;
    let set = |quota: Value| {
        service.change(&[json!({"change": "quota.set", "tenant": "acme", "quota": quota, "reason": "a test"})]);
    };
    set(json!({"stored_bytes": stored}));
    let (status, refused) = service.post("/v1/events", events("acme", 500, 1)).await;
    assert_eq!((status, &refused["limit"], &refused["value"]), (429, &json!("stored_bytes"), &json!(stored)));
    assert_eq!(service.post("/v1/events", events("globex", 0, 1)).await.0, 200);
    set(json!({"scanned_bytes_per_second": 10}));
    let sum = "SELECT count(DISTINCT actor_id), count(DISTINCT action) FROM audit";
    service.rows(&["acme"], sum).await;
    let sql = json!({"sql": sum, "tenants": ["acme"]}).to_string();
    let auditor = principal(&service, "auditor", Some("acme"), "tenant-auditor", &["acme"]);
    let auditor = service.with_key(&auditor);
    let refused = until("the bound", async || {
        let asked = auditor.post_with("/v1/query", sql.clone(), &[("content-type", "application/json")]).await;
        (asked.0 == 429).then_some(asked.1)
    })
    .await;
    assert_eq!(refused["limit"], "scanned_bytes_per_second", "{refused}");
    // The platform's own people look all the same, and everybody at who looked.
    service.rows(&["acme"], sum).await;
    assert_eq!(auditor.get("/v1/tenants/acme/access/events").await.0, 200);
    set(json!({}));
    let ends = "SELECT attributes FROM access WHERE action = 'events.read' AND outcome = 'success'";
    let rows = service.rows(&["acme"], ends).await;
    let scanned = rows.iter().map(|row| serde_json::from_str::<Value>(row[0].as_str().unwrap()).unwrap());
    assert!(scanned.filter_map(|end| end["scanned"].as_u64()).any(|bytes| bytes > 0), "{rows:?}");
    service.stop();
}
