//! What was written is read: pages by sequence, formats, across sealed and unsealed, without a look at secrets.
//!
//! Not here: SQL's own tests (`query`).

use crate::program::{Service, events};
use serde_json::{Value, json};

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
