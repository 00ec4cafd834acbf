//! Audit logs that nobody here wrote, loaded as they are: each line accounted for, counts equal to a plain script's,
//! and the ledger verifies afterwards.
//!
//! The logs lie beside the checkout; without them the tests say so. The script is `oracle/mapping_counts.py`, which
//! shares nothing with the mappings.

use crate::program::{Service, run, run_json_in};
use crate::vectors::shared;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What the script makes of the files.
fn oracle(map: &str, tenant: Option<&str>, files: &[PathBuf]) -> Value {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/oracle/mapping_counts.py");
    let mut command = Command::new("python3");
    command.arg(script).args(["--map", map]);
    if let Some(tenant) = tenant {
        command.args(["--tenant", tenant]);
    }
    let output = command.args(files).output().unwrap();
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)))
}

fn files_of(folder: &str, keep: impl Fn(&str) -> bool) -> Option<Vec<PathBuf>> {
    let folder = shared(folder)?;
    let names = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let mut files: Vec<PathBuf> =
        names.filter(|path| path.to_str().is_some_and(|p| p.contains(".ndjson") && keep(p))).collect();
    files.sort();
    Some(files)
}

async fn counts(service: &Service, tenants: &[&str], column: &str) -> BTreeMap<String, u64> {
    let sql = format!("SELECT {column}, count(*) FROM audit GROUP BY {column}");
    let rows = service.rows(tenants, &sql).await;
    rows.iter().map(|row| (row[0].as_str().unwrap().to_string(), row[1].as_u64().unwrap())).collect()
}

/// Loads the files, compares with the script, restarts sealed, compares again, verifies.
async fn loads(map: &str, tenant: Option<&str>, files: Vec<PathBuf>) {
    let expected = oracle(map, tenant, &files);
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start(folder.path(), &["--seal-on-exit"]);
    let tenants: Vec<String> = expected["by_tenant"].as_object().unwrap().keys().cloned().collect();
    let tenants: Vec<&str> = tenants.iter().map(String::as_str).collect();
    let new: Vec<&str> = tenants.iter().copied().filter(|tenant| *tenant != "acme").collect();
    if !new.is_empty() {
        service.register(&new);
    }
    let names: Vec<&str> = files.iter().map(|file| file.to_str().unwrap()).collect();
    let load = |service: &Service| {
        let mut arguments = vec!["ingest", "--json", "--url", &service.url, "--map", map];
        arguments.extend(tenant.iter().flat_map(|tenant| ["--tenant", tenant]));
        arguments.extend(&names);
        run_json_in(&[("PIPEROLL_KEY", service.key.clone())], &arguments)
    };
    let tally = load(&service);
    let sum = |value: &Value| {
        value.as_object().map_or(value.as_u64().unwrap_or_default(), |o| o.values().filter_map(Value::as_u64).sum())
    };
    for (ours, theirs) in [
        (&tally["lines"], &expected["lines"]),
        (&tally["accepted"], &expected["stored"]),
        (&tally["duplicates"], &expected["duplicates"]),
        (&tally["conflicts"], &expected["conflicts"]),
    ] {
        assert_eq!(ours, theirs, "{map}: {tally} {expected}");
    }
    assert_eq!(tally["rejected"].as_u64(), Some(sum(&expected["rejected"])), "{map}: {tally} {expected}");
    service.stop();
    let service = Service::start(folder.path(), &["--seal-on-exit"]);
    for (column, name) in [("tenant", "by_tenant"), ("action", "by_action"), ("outcome", "by_outcome")] {
        assert_eq!(json!(counts(&service, &tenants, column).await), expected[name], "{map}: {column}");
    }
    // A second load stores nothing twice, against sealed entries.
    let again = load(&service);
    assert_eq!((&again["accepted"], &again["rejected"]), (&json!(0), &tally["rejected"]), "{map}");
    service.stop();
    let output = run(&["verify", "--json", "--data", folder.path().to_str().unwrap()]);
    let report: Value = serde_json::from_slice(&output.stdout).unwrap();
    // What Piperoll wrote about all this into streams of its own is not counted.
    let audit = report["streams"].as_array().unwrap().iter().filter(|one| one["stream"] == "audit");
    let entries: u64 = audit.filter_map(|one| one["size"].as_u64()).sum();
    assert_eq!(
        (output.status.code(), &report["sound"], &json!(entries)),
        (Some(0), &json!(true), &expected["stored"]),
        "{report}"
    );
    eprintln!(
        "{map}: {} lines, {} stored, {} rejected: {}",
        expected["lines"], expected["stored"], tally["rejected"], tally["reasons"]
    );
}

#[tokio::test]
async fn cloudtrail() {
    let Some(files) = files_of("cloudtrail", |_| true) else { return };
    loads("cloudtrail", None, files).await;
}

#[tokio::test]
async fn kubernetes() {
    let Some(files) = files_of("kubernetes-audit", |_| true) else { return };
    loads("kubernetes", Some("cluster-1"), files).await;
}

#[tokio::test]
async fn okta() {
    let Some(files) = files_of("saas-audit", |path| path.contains("okta")) else { return };
    loads("okta", Some("acme"), files).await;
}

#[tokio::test]
async fn github() {
    let Some(files) = files_of("saas-audit", |path| path.contains("github-audit")) else { return };
    loads("github", None, files).await;
}

#[tokio::test]
async fn windows() {
    let Some(files) = files_of("windows-security", |_| true) else { return };
    loads("windows", None, files).await;
}
