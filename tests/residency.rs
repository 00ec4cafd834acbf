//! Residency: what cannot be placed, and what the report finds of what the generator planted.
//!
//! Not here: several stores by themselves (`placement`).

use crate::program::{Service, events};
use crate::scope::platform_with;
use ledger::report::ReportNote;
use serde_json::{Value, json};
use std::path::{Path, PathBuf};

/// The files at a path, or below it.
fn files_below(path: &Path) -> Vec<PathBuf> {
    if path.is_file() {
        return vec![path.to_owned()];
    }
    let entries = std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path());
    entries.flat_map(|entry| files_below(&entry)).collect()
}

fn settings(folder: &Path, main: &str) -> PathBuf {
    let path = folder.join("piperoll.toml");
    let us = folder.join("us-objects");
    let text = format!("region = '{main}'\n[stores.us]\nlocation = '{}'\nregion = 'us-east-1'\n", us.display());
    std::fs::write(&path, text).unwrap();
    path
}

#[tokio::test]
async fn a_tenant_is_placed_only_where_its_policy_allows() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let config = settings(folder.path(), "eu-central-1");
    let service = Service::start(&data, &["--config", config.to_str().unwrap()]);
    let set = |tenant: &str, regions: &[&str]| {
        let change = json!({"change": "residency.set", "tenant": tenant, "regions": regions, "reason": "the contract"});
        service.try_change(&service.key, &[change])
    };
    let place = |tenant: &str, parent: &str, store: &str| {
        let change = json!({"change": "tenant.create", "tenant": tenant, "parent": parent, "store": store});
        service.try_change(&service.key, &[change])
    };
    assert_eq!(place("ohio", "platform", "us").0, 200);
    assert_eq!(set("acme", &["eu-central-1"]).0, 200);
    assert_eq!(set("globex", &["eu-west-1", "eu-central-1"]).0, 200);
    // Names are names: neither a part of one nor another spelling.
    for (tenant, regions, why) in [
        ("initech", vec!["eu-central"], "lies in eu-central-1"),
        ("initech", vec!["EU-CENTRAL-1"], "lies in eu-central-1"),
        ("ohio", vec!["eu-central-1"], "lies in us-east-1"),
        ("platform", vec!["eu-central-1"], "ohio must stay in eu-central-1, and the store us lies in us-east-1"),
        ("initech", vec![], "at least one"),
        ("nobody", vec!["eu-central-1"], "no tenant nobody"),
    ] {
        let (status, refused) = set(tenant, &regions);
        assert!(status == 422 && refused["detail"].as_str().unwrap().contains(why), "{tenant} {regions:?}: {refused}");
    }
    let (status, refused) = place("acme-us", "acme", "us");
    assert!(status == 422 && refused["detail"].as_str().unwrap().contains("must stay in eu-central-1"), "{refused}");
    assert_eq!(place("acme-eu", "acme", "main").0, 200);
    assert_eq!(service.post("/v1/events", events("acme", 0, 3)).await.0, 200);
    service.stop();
    // The settings cannot say that the store is somewhere else now.
    let moved = settings(folder.path(), "us-west-2");
    let refused = Service::try_start(&data, &["--config", moved.to_str().unwrap()]).err().unwrap();
    assert!(refused.contains("do not fit a residency policy") && refused.contains("lies in us-west-2"), "{refused}");
}

#[tokio::test]
async fn the_report_finds_what_left_its_region_and_is_signed() {
    let folder = tempfile::tempdir().unwrap();
    let region = "eu-central-1";
    let config = settings(folder.path(), region);
    let (service, planted) =
        platform_with(folder.path(), &["--config", config.to_str().unwrap(), "--seal-bytes", "100000"]).await;
    let homes: Vec<(String, String)> = planted["tenants"]
        .as_array()
        .unwrap()
        .iter()
        .map(|one| [&one["tenant"], &one["region"]].map(|text| text.as_str().unwrap().to_string()))
        .map(|[tenant, region]| (tenant, region))
        .filter(|(tenant, home)| home == region && tenant != "platform")
        .collect();
    assert!(homes.len() > 3);
    let set = |(tenant, _): &(String, String)| json!({"change": "residency.set", "tenant": tenant, "regions": [region], "reason": "the contract"});
    let made = service.change(&homes.iter().map(set).collect::<Vec<_>>());
    let roaming = &planted["roaming_credential"];
    for (at, (tenant, _)) in homes.iter().enumerate() {
        let (status, text) = service.get(&format!("/v1/tenants/{tenant}/residency")).await;
        assert_eq!(status, 200, "{text}");
        let report: Value = serde_json::from_str(&text).unwrap();
        let answer = &report["answer"];
        assert_eq!(answer["policy"]["version"], made["changes"][at]["seq"]);
        assert_eq!((&answer["storage"]["region"], &answer["storage"]["store"]), (&json!(region), &json!("main")));
        let violations = answer["violations"].as_array().unwrap();
        let of = |kind: &str| violations.iter().filter(|one| one["kind"] == kind).collect::<Vec<_>>();
        assert!(of("storage").is_empty());
        // Where its events were processed: only the credential that roamed left.
        let foreign: u64 = answer["processed"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|one| one["allowed"] == false)
            .map(|one| one["events"].as_u64().unwrap())
            .sum();
        let expected =
            if roaming["tenant"] == tenant.as_str() { roaming["foreign_calls"].as_array().unwrap().len() } else { 0 };
        assert_eq!(foreign, expected as u64, "{tenant}: {}", answer["summary"]);
        // What left: as planted, and nothing that was refused.
        let left = planted["exports"]["left_region"].as_array().unwrap().iter();
        let mut left: Vec<&str> = left
            .filter(|one| one["event"]["tenant"] == tenant.as_str())
            .map(|one| one["event"]["time"].as_str().unwrap())
            .collect();
        left.sort_unstable();
        let crossed: Vec<&str> = answer["crossings"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|one| one["allowed"] == false && one["outcome"] == "success")
            .map(|one| one["at"].as_str().unwrap())
            .collect();
        assert_eq!(crossed, left, "{tenant}");
        let counted = |one: &&Value| one["what"].as_str().unwrap().split(' ').next().unwrap().parse::<usize>().unwrap();
        assert_eq!(of("crossing").iter().map(counted).sum::<usize>(), left.len());
        // Every object is listed, and lies where it is said to.
        for object in answer["storage"]["objects"].as_array().unwrap() {
            let path = folder.path().join("data/store").join(object[0].as_str().unwrap());
            assert_eq!(std::fs::metadata(&path).unwrap().len(), object[1].as_u64().unwrap());
        }
        // The log of the store, which is nobody's alone, by folder.
        let shared = answer["storage"]["shared"].as_object().unwrap();
        assert!(shared.contains_key("_store/log/epoch") && shared.contains_key("_store/log/key"), "{shared:?}");
        for (of, held) in shared {
            let files = files_below(&folder.path().join("data/store").join(of));
            let bytes: u64 = files.iter().map(|file| std::fs::metadata(file).unwrap().len()).sum();
            assert_eq!(
                (held["objects"].as_u64().unwrap(), held["bytes"].as_u64().unwrap()),
                (files.len() as u64, bytes),
                "{of}"
            );
        }
        // Signed: the hash of the very bytes, by the ledger's key.
        let keys: Value = serde_json::from_str(&service.get("/v1/keys").await.1).unwrap();
        let key: ledger::VerifierKey = keys["keys"][0]["vkey"].as_str().unwrap().parse().unwrap();
        let ledger = keys["ledger"].as_str().unwrap().parse().unwrap();
        let note = ReportNote::open(report["note"].as_str().unwrap().as_bytes(), &ledger, &[key]).unwrap();
        assert_eq!(note.kind, "residency");
        let begin = text.find("\"answer\":").unwrap() + "\"answer\":".len();
        // The last member, so all but the closing brace.
        assert_eq!(note.sha256, ledger::Hash::of(&text.as_bytes()[begin..text.len() - 1]));
    }
    // Who sees only some of the rows is given no report about all of them.
    let scoped = json!({"role": "tenant-auditor", "tenants": [homes[0].0], "rows": {"region": [region]}});
    let scoped = crate::access::principal_with(&service, "scoped", None, scoped);
    let asked = service.with_key(&scoped).get(&format!("/v1/tenants/{}/residency", homes[0].0)).await;
    assert!(asked.0 == 403 && asked.1.contains("you see only some of it"), "{}", asked.1);
    // Whoever may not read the tenant's events may not read where they are.
    let other = crate::access::principal(&service, "other", None, "tenant-auditor", &[homes[0].0.as_str()]);
    let asked = service.with_key(&other).get(&format!("/v1/tenants/{}/residency", homes[1].0)).await;
    assert_eq!(asked.0, 403, "{}", asked.1);
    let shown = crate::program::run(&["residency", &homes[0].0, "--url", &service.url, "--key", &service.key]);
    let shown = String::from_utf8_lossy(&shown.stdout).into_owned();
    assert!(shown.contains(region) && shown.contains("segments"), "{shown}");
    service.stop();
}
