//! What was written is read: pages by sequence, formats, across sealed and unsealed, without a look at secrets.
//!
//! Not here: SQL's own tests (`query`).

use crate::access::principal;
use crate::program::{Service, client, events};
use serde_json::{Value, json};
use std::time::Duration;

/// The header that names a request.
const NAMED: &str = "piperoll-progress";

#[tokio::test]
async fn pages_are_cut_by_sequence_over_sealed_and_unsealed_entries() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start(folder.path(), &["--seal-on-exit"]);
    service.post("/v1/events", events("acme", 0, 700)).await;
    service.stop();
    let service = Service::start(folder.path(), &[]);
    service.post("/v1/events", events("acme", 700, 50)).await;
    let (mut seen, mut next) = (Vec::new(), json!(0));
    while let Some(from) = next.as_u64() {
        let (status, page) = service.get(&format!("/v1/tenants/acme/audit/events?from_seq={from}&limit=100")).await;
        assert_eq!(status, 200, "{page}");
        let page: Value = serde_json::from_str(&page).unwrap();
        seen.extend(page["events"].as_array().unwrap().iter().map(|event| event["id"].as_str().unwrap().to_string()));
        next = page["next"].clone();
    }
    assert_eq!(seen, (0..750).map(|n| format!("acme-{n}")).collect::<Vec<_>>());
    let (_, page) = service.get("/v1/tenants/acme/audit/events?session=s-3&order=desc&limit=2").await;
    let page: Value = serde_json::from_str(&page).unwrap();
    let attributes: Vec<u64> =
        page["events"].as_array().unwrap().iter().map(|e| e["attributes"]["n"].as_u64().unwrap()).collect();
    assert_eq!(attributes, [734, 717], "{page}");
    assert_eq!(service.rows(&["acme"], "SELECT count(*), count(DISTINCT session) FROM audit").await, [[750, 17]]);
    let body = json!({"sql": "SELECT salt_seed FROM audit", "tenants": ["acme"]}).to_string();
    let (status, problem) = service.post_with("/v1/query", body, &[("content-type", "application/json")]).await;
    assert_eq!(status, 422, "{problem}");
    assert!(!problem["detail"].as_str().unwrap().contains("audit.salt"), "{problem}");
    assert_eq!(service.get("/v1/tenants/nobody/audit/events").await.0, 404);
    let body = json!({"sql": "SELECT 1", "tenants": ["nobody"]}).to_string();
    assert_eq!(service.post_with("/v1/query", body, &[("content-type", "application/json")]).await.0, 404);
}

#[tokio::test]
async fn a_request_that_is_named_tells_how_far_it_is_to_who_sent_it_and_nobody_else() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start(folder.path(), &["--seal-on-exit"]);
    service.post("/v1/events", events("acme", 0, 700)).await;
    service.stop();
    let service = Service::start(folder.path(), &[]);
    // It compares 10¹¹ rows, and goes on until nobody listens or its time is over.
    let sql = "SELECT count(*) FROM audit a, audit b, audit c, audit d WHERE a.seq + b.seq + c.seq + d.seq = -1";
    let ask = |name: &str| {
        let body = json!({"sql": sql, "tenants": ["acme"]}).to_string();
        let request = client(&service.key).post(format!("{}/v1/query", service.url)).body(body);
        request.header("content-type", "application/json").header(NAMED, name).send()
    };
    let asked = tokio::spawn(ask("mine-1"));
    let mut told = (404, String::new());
    for _ in 0..400 {
        told = service.get("/v1/progress/mine-1").await;
        let step: Value = serde_json::from_str(&told.1).unwrap();
        if step["done"].as_u64() == step["of"].as_u64() && step["of"].as_u64() > Some(0) {
            break;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    let step: Value = serde_json::from_str(&told.1).unwrap();
    assert_eq!((told.0, &step["doing"], &step["unit"]), (200, &json!("reading"), &json!("segments")), "{step}");
    assert!(step["seconds"].as_u64().is_some(), "{step}");
    let other = service.with_key(&principal(&service, "somebody", None, "security-analyst", &["acme"]));
    assert_eq!(other.get("/v1/progress/mine-1").await.0, 404);
    let again = ask("mine-1").await.unwrap();
    assert_eq!(again.status(), 400);
    assert!(again.text().await.unwrap().contains("mine-1"));
    let malformed = ask("not a name").await.unwrap();
    assert_eq!(malformed.status(), 400);
    asked.abort();
    for _ in 0..400 {
        told = service.get("/v1/progress/mine-1").await;
        if told.0 == 404 {
            return;
        }
        tokio::time::sleep(Duration::from_millis(25)).await;
    }
    panic!("it is over, and still told of: {}", told.1);
}
