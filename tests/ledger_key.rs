//! The ledger's own key from outside: rotated while the service runs, retired, exchanged by hand, and followed by whoever
//! trusts any one of them.
//!
//! Not here: what a store does about it (`ledger_store`).

use crate::program::{Service, events, run, run_json};
use ledger::handover::{Handover, KeyHistory};
use ledger::receipt::Receipt;
use ledger::{Checkpoint, VerifierKey};
use serde_json::{Value, json};
use std::path::Path;

fn settings(folder: &Path) -> String {
    let us = folder.join("us");
    let text = format!("region = 'eu-central-1'\n[stores.us]\nlocation = '{}'\nregion = 'us-east-1'\n", us.display());
    let path = folder.join("piperoll.toml");
    std::fs::write(&path, text).unwrap();
    path.to_str().unwrap().into()
}

fn start(folder: &Path) -> Service {
    let config = settings(folder);
    Service::start(&folder.join("data"), &["--config", &config, "--seal-on-exit"])
}

fn asks(change: &str) -> [Value; 1] {
    [json!({"change": change, "reason": "yearly"})]
}

async fn keys(service: &Service) -> Value {
    serde_json::from_str(&service.get("/v1/keys").await.1).unwrap()
}

/// Brings events to a tenant of each store, and answers the receipts.
async fn bring(service: &Service, from: usize) -> Vec<String> {
    let mut receipts = Vec::new();
    for tenant in ["acme", "beyond"] {
        let (status, answer) = service.post("/v1/events", events(tenant, from, 5)).await;
        assert_eq!(status, 200, "{answer}");
        receipts.push(answer["receipt"].as_str().unwrap().to_string());
    }
    receipts
}

fn trusts(receipt: &str, key: &VerifierKey) -> bool {
    let receipt = Receipt::parse(receipt.as_bytes()).unwrap();
    let origin = receipt.to_text().split_once("\n\n").unwrap().1.lines().next().unwrap().to_string();
    receipt.verify(&[key.under(&origin)]).is_ok()
}

/// Whether `verify` finds all of a store sound that trusts this key.
fn verified(folder: &Path, store: &str, key: &VerifierKey) -> Value {
    let data = folder.join("data");
    let config = settings(folder);
    let location = if store == "main" { data.join("store") } else { folder.join(store) };
    let key = key.to_string();
    let place = ["--data", data.to_str().unwrap(), "--config", &config, "--store-name", store];
    let trust = ["--store", location.to_str().unwrap(), "--key", &key];
    run_json(&[&["fsck", "--json"][..], &place, &trust].concat())
}

#[tokio::test]
async fn the_ledgers_key_is_rotated_while_the_service_runs() {
    let folder = tempfile::tempdir().unwrap();
    let service = start(folder.path());
    service.change(&[json!({"change": "tenant.create", "tenant": "beyond", "store": "us"})]);
    let first = service.key().await;
    bring(&service, 0).await;
    // Who may not, does not; and it is nothing that comes with something else.
    let mixed = [asks("ledger_key.rotate"), [json!({"change": "tenant.create", "tenant": "new"})]].concat();
    assert_eq!(service.try_change(&service.key, &mixed).0, 409);
    assert_eq!(service.try_change(&service.key, &asks("ledger_key.retire")).0, 409, "there is none of before");
    let signs = json!({"change": "ledger_key.signs", "store": "main", "number": 2, "vkey": first.to_string()});
    assert_eq!(service.try_change(&service.key, &[signs]).0, 403, "the service says so, and nobody else");
    service.change(&asks("ledger_key.rotate"));
    let second = service.key().await;
    assert_ne!(first, second);
    // Whoever trusts the first follows to the second, in both stores.
    let told = keys(&service).await;
    for store in told["keys"].as_array().unwrap() {
        let all: Vec<VerifierKey> =
            store["all"].as_array().unwrap().iter().map(|key| key.as_str().unwrap().parse().unwrap()).collect();
        let mut history = KeyHistory::begin(all[0].clone());
        let handover: Handover = history.take(store["handovers"][0].as_str().unwrap().as_bytes()).unwrap();
        assert_eq!((history.keys(), handover.number), (&all[..], 2));
        assert_eq!(history.believed(std::slice::from_ref(&first)), all);
    }
    for receipt in bring(&service, 5).await {
        assert!(trusts(&receipt, &first) && trusts(&receipt, &second), "both sign along");
    }
    let checkpoint = service.get("/v1/tenants/acme/audit/checkpoint").await.1;
    for key in [&first, &second] {
        let origin = checkpoint.lines().next().unwrap();
        Checkpoint::open(checkpoint.as_bytes(), &[key.under(origin)]).unwrap();
    }
    service.change(&asks("ledger_key.retire"));
    for receipt in bring(&service, 10).await {
        assert!(!trusts(&receipt, &first) && trusts(&receipt, &second));
    }
    let rows = service.rows(&[], "SELECT store, number, state, reason FROM ledger_keys ORDER BY store, number").await;
    let row =
        |store: &str, number: &str, state: &str, reason: Value| vec![json!(store), json!(number), json!(state), reason];
    assert_eq!(
        rows,
        [
            row("main", "1", "retired", Value::Null),
            row("main", "2", "signs", json!("yearly")),
            row("us", "1", "retired", Value::Null),
            row("us", "2", "signs", json!("yearly")),
        ]
    );
    let shown = run(&["ledger-key", "show", "--url", &service.url]);
    let shown = String::from_utf8(shown.stdout).unwrap();
    assert!(shown.contains(&first.to_string()) && shown.contains(&second.to_string()), "{shown}");
    service.stop();
    let service = start(folder.path());
    assert_eq!(service.key().await, second);
    bring(&service, 15).await;
    service.stop();
    for store in ["main", "us"] {
        for key in [&first, &second] {
            let report = verified(folder.path(), store, key);
            assert_eq!(report["sound"], true, "{store}: {report}");
        }
    }
}

#[tokio::test]
async fn a_key_that_was_exchanged_by_hand_hands_over_at_the_start_and_the_old_file_opens_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let service = start(folder.path());
    let first = service.key().await;
    service.stop();
    let (file, next) = (data.join("keys/ledger.key"), folder.path().join("next.key"));
    let old = std::fs::read(&file).unwrap();
    let (from, to) = (file.to_str().unwrap(), next.to_str().unwrap());
    let made = run_json(&["keygen", "--after", from, "--out", to, "--json"]);
    assert_eq!(run(&["keygen", "--after", from, "--out", to]).status.code(), Some(1), "never over another file");
    assert_eq!(run(&["keygen", "--after", from]).status.code(), Some(2));
    std::fs::rename(&next, &file).unwrap();
    let service = start(folder.path());
    let second = service.key().await;
    assert!(second != first && made["vkey"].as_str() == Some(second.to_string().as_str()));
    for _ in 0..100 {
        if !service.rows(&[], "SELECT store FROM ledger_keys WHERE number = '2'").await.is_empty() {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    let rows = service.rows(&[], "SELECT reason FROM ledger_keys WHERE store = 'main' ORDER BY number").await;
    assert_eq!(rows, [[Value::Null], [Value::Null]], "on record, and on nobody's word");
    service.stop();
    let new = std::fs::read(&file).unwrap();
    std::fs::write(&file, old).unwrap();
    let config = settings(folder.path());
    let refused = Service::try_start(&data, &["--config", &config]).err().unwrap();
    assert!(refused.contains("handed over to another one"), "{refused}");
    std::fs::write(&file, new).unwrap();
    start(folder.path()).stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn rotations_and_retirements_at_the_same_time_lose_no_key() {
    let folder = tempfile::tempdir().unwrap();
    let service = start(folder.path());
    let first = service.key().await;
    let answers: Vec<(u16, Value)> = std::thread::scope(|scope| {
        let asked = ["ledger_key.rotate", "ledger_key.retire", "ledger_key.rotate", "ledger_key.retire"];
        let service = &service;
        let started: Vec<_> = asked
            .into_iter()
            .map(|change| scope.spawn(move || service.try_change(&service.key, &asks(change))))
            .collect();
        started.into_iter().map(|one| one.join().unwrap()).collect()
    });
    assert!(answers.iter().all(|(status, _)| [200, 409].contains(status)), "{answers:?}");
    assert!([&answers[0], &answers[2]].iter().all(|(status, _)| *status == 200), "{answers:?}");
    bring_one(&service, 0).await;
    let newest = service.key().await;
    service.stop();
    // What signs now is what the next start finds.
    let service = start(folder.path());
    assert_eq!(service.key().await, newest);
    bring_one(&service, 5).await;
    let told = keys(&service).await;
    assert_eq!(told["keys"][0]["all"].as_array().unwrap().len(), 3);
    service.stop();
    assert_eq!(verified(folder.path(), "main", &first)["sound"], true);
}

async fn bring_one(service: &Service, from: usize) {
    let (status, answer) = service.post("/v1/events", events("acme", from, 5)).await;
    assert_eq!(status, 200, "{answer}");
}
