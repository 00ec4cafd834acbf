//! Python as a judge: rows, leaves, roots and chain recomputed from FORMAT.md alone, and the Delta view as the
//! `deltalake` package reads it.
//!
//! The interpreter is named by `PIPEROLL_TEST_PYTHON`, which `./test` sets; without it the tests say so.

use crate::program::{Service, events, run_json};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

pub fn python() -> Option<PathBuf> {
    let found = std::env::var_os("PIPEROLL_TEST_PYTHON").map(PathBuf::from);
    if found.is_none() {
        eprintln!("SKIPPED: PIPEROLL_TEST_PYTHON is not set; `./test` sets it");
    }
    found
}

pub fn recompute(python: &Path, store: &Path, stream: &str) -> Output {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/recompute.py");
    Command::new(python).arg(script).arg(store).arg(stream).output().unwrap()
}

/// A store with two tenants, several commits, and entries of every shape.
async fn stored(folder: &Path) {
    for round in 0..3usize {
        let service = Service::start(folder, &["--seal-on-exit"]);
        service.post("/v1/events", events("acme", 400 * round, 400)).await;
        let odd = json!({"id": format!("odd-{round}"), "tenant": "acme", "time": "2026-08-14T09:26:53.589793Z", "action": "a.b",
            "actor": {"type": "system"}, "resource": {"type": "x", "id": "ü-😀", "class": "pii", "boundary": "eu"},
            "legal_entity": "le", "partner": "p", "severity": "warn", "duration_us": 9007199254740993i64,
            "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736", "span_id": "00f067aa0ba902b7", "source_ip": "203.0.113.9"});
        service.post("/v1/events", odd.to_string()).await;
        service.post("/v1/tenants/globex/telemetry/events", events("globex", round, 1)).await;
        service.stop();
    }
}

#[tokio::test]
async fn a_third_party_recomputes_leaves_roots_and_chain() {
    let Some(python) = python() else { return };
    let folder = tempfile::tempdir().unwrap();
    stored(folder.path()).await;
    let store = folder.path().join("store");
    let service = Service::start(folder.path(), &[]);
    for (stream, base, size) in [
        ("tenant=acme/stream=audit", "/v1/tenants/acme/audit", 1_203),
        ("tenant=globex/stream=telemetry", "/v1/tenants/globex/telemetry", 3),
    ] {
        let output = recompute(&python, &store, stream);
        let found: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
        let checkpoint = service.get(&format!("{base}/checkpoint")).await.1;
        let lines: Vec<&str> = checkpoint.lines().collect();
        assert_eq!((found["size"].to_string().as_str(), found["root"].as_str()), (lines[1], Some(lines[2])));
        assert_eq!((&found["leaves"], &found["commits"]), (&json!(size), &json!(3)));
    }
    service.stop();
    // The same judge finds what was tampered with.
    let report = run_json(&["verify", "--json", "--data", folder.path().to_str().unwrap()]);
    assert_eq!(report["sound"], true, "{report}");
    let commit = store.join("tenant=acme/stream=audit/_ledger/commits/00000000000000000001");
    let text = std::fs::read_to_string(&commit).unwrap();
    std::fs::write(&commit, text.replace("epoch 2", "epoch 3")).unwrap();
    let output = recompute(&python, &store, "tenant=acme/stream=audit");
    assert!(!output.status.success() && output.stdout.is_empty(), "{output:?}");
}

#[tokio::test]
async fn deltalake_counts_the_same_rows() {
    let Some(python) = python() else { return };
    let folder = tempfile::tempdir().unwrap();
    stored(folder.path()).await;
    let script = "import sys, json\nfrom deltalake import DeltaTable\nt = DeltaTable(sys.argv[1]).to_pyarrow_table()\n\
        print(json.dumps([t.num_rows, min(t['seq'].to_pylist()), max(t['seq'].to_pylist()), len(set(t['event_id'].to_pylist()))]))";
    let stream = folder.path().join("store/tenant=acme/stream=audit");
    let output = Command::new(python).args(["-c", script]).arg(stream).output().unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert_eq!(String::from_utf8_lossy(&output.stdout).trim(), "[1203, 0, 1202, 1203]", "{errors}");
}
