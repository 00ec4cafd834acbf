//! Several stores behind one service: who lives where, what goes to which, and what happens while one is out of reach.
//!
//! Not here: what one store does (`stores`).

use crate::access::{entries, principal};
use crate::program::{Service, events, run};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// A settings file that names a second store.
fn settings(folder: &Path) -> PathBuf {
    let path = folder.join("piperoll.toml");
    let us = folder.join("us-objects");
    let text = format!(
        "region = 'eu-central-1'\n[stores.us]\nlocation = '{}'\nregion = 'us-east-1'\n[stores.own]\nlocation = '{}'\n",
        us.display(),
        folder.join("own-objects").display()
    );
    std::fs::write(&path, text).unwrap();
    path
}

fn start(folder: &Path) -> Service {
    let config = settings(folder);
    Service::start(&folder.join("data"), &["--config", config.to_str().unwrap()])
}

/// Events of two tenants, a line each.
fn of_both() -> String {
    format!("{}{}", events("acme", 0, 3), events("ohio", 0, 2))
}

fn place(service: &Service, tenant: &str, more: Value) -> (u16, Value) {
    let mut change = json!({"change": "tenant.create", "tenant": tenant});
    change.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    service.try_change(&service.key, &[change])
}

#[tokio::test]
async fn a_tenant_lives_in_the_store_that_its_placement_names() {
    let folder = tempfile::tempdir().unwrap();
    let service = start(folder.path());
    assert_eq!(place(&service, "ohio", json!({"store": "us"})).0, 200);
    let (status, sent) = service.post("/v1/events", of_both()).await;
    assert_eq!((status, &sent["accepted"], &sent["receipt"]), (200, &json!(5), &Value::Null), "{sent}");
    for (store, name) in [("main", "_main"), ("us", "_us")] {
        let receipt = sent["receipts"][store].as_str().unwrap();
        assert!(receipt.contains(&format!("/{name}/log/0")), "{receipt}");
    }
    // All or nothing holds within one store.
    let (status, refused) = service.post("/v1/events?atomic=true", of_both()).await;
    assert_eq!(status, 422, "{refused}");
    assert!(refused["detail"].as_str().unwrap().contains("several stores"), "{refused}");
    // A key repeats what each store answered.
    let key = [("idempotency-key", "k-1")];
    let first = service.post_with("/v1/events", of_both(), &key).await.1;
    let again = service.post_with("/v1/events", of_both(), &key).await.1;
    assert_eq!((&first["results"], &first["duplicates"]), (&again["results"], &json!(5)));
    let rows =
        service.rows(&["acme", "ohio"], "SELECT tenant, count(*) FROM audit GROUP BY tenant ORDER BY tenant").await;
    assert_eq!(rows, [[json!("acme"), json!(3)], [json!("ohio"), json!(2)]]);
    let rows = service.rows(&["acme", "ohio"], "SELECT tenant, store, region FROM tenants ORDER BY tenant").await;
    let shown = [["acme", "main", "eu-central-1"], ["ohio", "us", "us-east-1"]];
    assert!(shown.iter().all(|row| rows.contains(&row.map(|value| json!(value)).to_vec())), "{rows:?}");
    // What concerns a tenant lies with it, and so does who looked.
    let auditor = principal(&service, "auditor", Some("ohio"), "tenant-auditor", &["ohio"]);
    let begun = Instant::now();
    loop {
        let seen = entries(&service.with_key(&auditor), "ohio", "access").await;
        let actions: Vec<&str> = seen.iter().map(|entry| entry["action"].as_str().unwrap()).collect();
        if ["tenant.create", "grant.create", "events.read"].iter().all(|one| actions.contains(one)) {
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "{actions:?}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    let files = |store: &str| folder.path().join(store).join("tenant=ohio").exists();
    service.stop();
    let service = Service::start(
        &folder.path().join("data"),
        &["--seal-on-exit", "--config", settings(folder.path()).to_str().unwrap()],
    );
    let proof = service.get("/v1/tenants/ohio/audit/proof/inclusion?seq=1").await;
    assert_eq!(proof.0, 200, "{}", proof.1);
    let head = service.get("/v1/stores/us/checkpoint").await;
    assert!(head.0 == 200 && head.1.contains("/_us/log/0"), "{}", head.1);
    assert_eq!(service.get("/v1/stores/mars/checkpoint").await.0, 404);
    service.stop();
    assert!(files("us-objects") && !files("data/store"));
    let (data, config) = (folder.path().join("data"), settings(folder.path()));
    let at = ["--data", data.to_str().unwrap(), "--config", config.to_str().unwrap(), "--store-name", "us"];
    let verified = run(&[&["fsck"], &at[..]].concat());
    let shown = String::from_utf8_lossy(&verified.stdout);
    assert!(verified.status.success() && shown.contains("ohio") && !shown.contains("acme"), "{shown}");
    // Whoever lives in a store keeps it in the settings.
    let refused = Service::try_start(&data, &[]).err().unwrap();
    assert!(refused.contains("live in the store us"), "{refused}");
    // Nor does it begin a second time somewhere else.
    let text = std::fs::read_to_string(&config).unwrap().replace("us-objects", "elsewhere");
    std::fs::write(&config, text).unwrap();
    let refused = Service::try_start(&data, &["--config", config.to_str().unwrap()]).err().unwrap();
    assert!(refused.contains("say --store-moved us"), "{refused}");
}

#[tokio::test]
async fn a_dedicated_tenant_lives_alone_and_nobody_moves() {
    let folder = tempfile::tempdir().unwrap();
    let service = start(folder.path());
    let why = |(status, refused): (u16, Value)| {
        assert_eq!(status, 422, "{refused}");
        refused["detail"].as_str().unwrap().to_string()
    };
    assert!(why(place(&service, "ohio", json!({"store": "mars"}))).contains("main, own, us"));
    assert!(why(place(&service, "ohio", json!({"tier": "dedicated"}))).contains("a store of its own: name one"));
    assert_eq!(place(&service, "ohio", json!({"tier": "dedicated", "store": "own"})).0, 200);
    assert!(why(place(&service, "iowa", json!({"store": "own"}))).contains("dedicated to another"));
    // Below a dedicated tenant nobody lives with it; below others, with them.
    assert_eq!(place(&service, "dayton", json!({"parent": "ohio"})).0, 200);
    assert_eq!(place(&service, "utah", json!({"store": "us"})).0, 200);
    let (status, made) = place(&service, "provo", json!({"parent": "utah"}));
    assert_eq!((status, &made["changes"][0]["made"]["store"]), (200, &json!("us")), "{made}");
    let rows = service
        .rows(&["dayton"], "SELECT store, version FROM tenants WHERE tenant IN ('dayton', 'utah') ORDER BY tenant")
        .await;
    assert_eq!((&rows[0][0], &rows[1][0]), (&json!("main"), &json!("us")));
    let update = |more: Value| {
        let mut change = json!({"change": "tenant.update", "tenant": "utah", "version": rows[1][1]});
        change.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        service.try_change(&service.key, &[change])
    };
    assert!(why(update(json!({"store": "main"}))).contains("stays in its store, which is us"));
    assert!(why(update(json!({"tier": "dedicated"}))).contains("other tenants live in us"));
    assert_eq!(update(json!({"tier": "segmented", "name": "Utah"})).0, 200);
    // A partner places its tenants where it is itself, and nowhere else.
    let partner = principal(&service, "partner", Some("utah"), "partner-administrator", &["utah"]);
    let below = |tenant: &str, store: Option<&str>| {
        let mut change = json!({"change": "tenant.create", "tenant": tenant, "parent": "utah"});
        if let Some(store) = store {
            change["store"] = store.into();
        }
        service.try_change(&partner, &[change]).0
    };
    let granted = json!({"change": "grant.create", "principal": "partner", "role": "partner-administrator", "tenants": ["utah"], "subtree": true});
    service.change(&[granted]);
    let tiered = json!({"change": "tenant.create", "tenant": "alta", "parent": "utah", "tier": "dedicated"});
    assert_eq!(service.try_change(&partner, &[tiered]).0, 403, "a tier is the platform's to give");
    assert_eq!(
        [below("ogden", None), below("moab", Some("us")), below("orem", Some("own")), below("lehi", Some("main"))],
        [200, 200, 403, 403]
    );
    service.stop();
}

#[tokio::test]
async fn a_store_that_is_out_of_reach_stops_nobody_else_and_is_told_later() {
    let folder = tempfile::tempdir().unwrap();
    let objects = folder.path().join("us-objects");
    // A file where the folder has to be.
    std::fs::write(&objects, "in the way").unwrap();
    let service = start(folder.path());
    assert_eq!(place(&service, "ohio", json!({"store": "us"})).0, 200);
    let (status, sent) = service.post("/v1/events", of_both()).await;
    assert_eq!((status, &sent["accepted"], &sent["rejected"]), (200, &json!(3), &json!(2)), "{sent}");
    let result = &sent["results"][3];
    assert!(result["reason"].as_str().unwrap().contains("store us is not open"), "{result}");
    assert!(result["retry_after"].as_u64().is_some(), "{result}");
    let alone = service.post("/v1/events", events("ohio", 0, 2)).await;
    assert_eq!(alone.0, 503, "{}", alone.1);
    let ready = service.get("/readyz").await;
    assert_eq!(ready, (200, "ready\nstore us accepts no events now\n".into()));
    // What cannot be put on record is not answered.
    let sql = json!({"sql": "SELECT 1 FROM audit", "tenants": ["acme", "ohio"]}).to_string();
    let asked = service.post_with("/v1/query", sql, &[("content-type", "application/json")]).await;
    assert_eq!(asked.0, 503, "{}", asked.1);
    assert_eq!(service.rows(&["acme"], "SELECT count(*) FROM audit").await, [[json!(3)]]);
    // Stopped before it could be told, and started when it can.
    service.stop();
    std::fs::remove_file(&objects).unwrap();
    let service = start(folder.path());
    let auditor = principal(&service, "auditor", Some("ohio"), "tenant-auditor", &["ohio"]);
    let of_ohio = service.with_key(&auditor);
    let begun = Instant::now();
    loop {
        let (_, page) = of_ohio.get("/v1/tenants/ohio/access/events?limit=1000").await;
        if page.matches("tenant.create").count() > 0 {
            break;
        }
        assert!(begun.elapsed() < Duration::from_secs(20), "{page}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(service.post("/v1/events", events("ohio", 0, 2)).await.1["accepted"], 2);
    service.stop();
    // Told once, however often it is started.
    let service = start(folder.path());
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    let seen = entries(&service.with_key(&auditor), "ohio", "access").await;
    for action in ["tenant.create", "grant.create"] {
        assert_eq!(seen.iter().filter(|entry| entry["action"] == action).count(), 1, "{seen:?}");
    }
    service.stop();
}
