//! The commands as a person and a script use them: help, exit codes, tampering found, keys guarded, the demo.
//!
//! Not here: what the service answers (`ingest`, `reading`).

use crate::program::{Service, events, run, run_json};
use serde_json::Value;
use std::path::{Path, PathBuf};

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn help_teaches_and_usage_errors_are_code_two() {
    for command in [
        "serve",
        "demo",
        "ingest",
        "query",
        "incident",
        "release",
        "residency",
        "job",
        "verify",
        "fsck",
        "keygen",
        "ledger-key",
        "generate",
    ] {
        let help = run(&[command, "--help"]);
        assert!(help.status.success() && text(&help.stdout).lines().count() > 12, "{command}");
        assert_eq!(run(&[command, "--no-such-flag"]).status.code(), Some(2), "{command}");
    }
    let refused = run(&["query", "--url", "http://127.0.0.1:1", "--tenant", "acme", "SELECT 1"]);
    assert_eq!(refused.status.code(), Some(1));
    assert!(text(&refused.stderr).contains("no service answers at http://127.0.0.1:1"), "{}", text(&refused.stderr));
    let beyond = run(&["serve", "--listen", "0.0.0.0:0"]);
    assert!(text(&beyond.stderr).contains("not a loopback address"));
    let unknown = run(&["query", "--tenant", "acme", "--url", "http://127.0.0.1:1", "--key", "x", "SELECT 1"]);
    assert!(!text(&unknown.stderr).contains("--key x"));
}

#[test]
fn a_key_is_made_once_and_names_the_ledger() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().to_str().unwrap();
    let made = run_json(&["keygen", "audit.example", "--data", data, "--json"]);
    assert!(made["vkey"].as_str().unwrap().starts_with("audit.example/_main/log/0+"));
    assert_eq!(run(&["keygen", "other", "--data", data]).status.code(), Some(1));
    let service = Service::start(folder.path(), &[]);
    // The log is held by one process.
    let second = Service::try_start(folder.path(), &[]).err().unwrap();
    assert!(second.contains("in use by another process"), "{second}");
    service.stop();
}

fn objects(folder: &Path, of: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { objects(&path, of) } else { of.push(path) }
    }
}

#[tokio::test]
async fn a_flipped_bit_in_a_segment_or_commit_is_found_and_named() {
    let folder = tempfile::tempdir().unwrap();
    for round in 0..2 {
        let service = Service::start(folder.path(), &["--seal-on-exit"]);
        service.post("/v1/events", events("acme", 300 * round, 300)).await;
        service.stop();
    }
    let data = folder.path().to_str().unwrap();
    assert_eq!(run(&["verify", "--data", data]).status.code(), Some(0));
    let mut all = Vec::new();
    objects(&folder.path().join("store/tenant=acme/stream=audit"), &mut all);
    let telling = |path: &&PathBuf| {
        path.extension().is_some_and(|kind| kind == "parquet") || path.to_str().unwrap().contains("commits/")
    };
    let victims: Vec<PathBuf> = all.iter().filter(telling).cloned().collect();
    assert_eq!(victims.len(), 4);
    for victim in victims {
        let sound = std::fs::read(&victim).unwrap();
        for at in [0, sound.len() / 3, sound.len() / 2, sound.len() - 1] {
            let mut changed = sound.clone();
            changed[at] ^= 0x04;
            std::fs::write(&victim, changed).unwrap();
            let output = run(&["verify", "--json", "--data", data]);
            assert_eq!(output.status.code(), Some(3), "{} at {at}", victim.display());
            let report: Value = serde_json::from_slice(&output.stdout).unwrap();
            let finding = &report["streams"][0]["findings"][0];
            assert!(victim.to_str().unwrap().ends_with(finding["object"].as_str().unwrap()), "{finding}");
            std::fs::write(&victim, &sound).unwrap();
        }
    }
    assert_eq!(run(&["fsck", "--data", data]).status.code(), Some(0));
}

#[tokio::test]
async fn a_kept_head_finds_a_stream_that_was_rolled_back() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().to_str().unwrap().to_string();
    let old = tempfile::tempdir().unwrap();
    let mut heads = Vec::new();
    for round in 0..2 {
        let service = Service::start(folder.path(), &["--seal-on-exit"]);
        service.post("/v1/events", events("acme", 100 * round, 100)).await;
        let head = old.path().join(format!("head-{round}"));
        std::fs::write(&head, service.get("/v1/tenants/acme/audit/checkpoint").await.1).unwrap();
        heads.push(head.to_str().unwrap().to_string());
        service.stop();
        if round == 0 {
            let copied =
                std::process::Command::new("cp").arg("-r").arg(folder.path().join("store")).arg(old.path()).status();
            assert!(copied.unwrap().success());
        }
    }
    for head in &heads {
        assert_eq!(run(&["verify", "--data", &data, "--head", head]).status.code(), Some(0));
    }
    // The older, in itself consistent state: only the kept head tells.
    let rolled_back = old.path().join("store");
    let store = rolled_back.to_str().unwrap();
    assert_eq!(run(&["verify", "--data", &data, "--store", store]).status.code(), Some(0));
    assert_eq!(run(&["verify", "--data", &data, "--store", store, "--head", &heads[0]]).status.code(), Some(0));
    let output = run(&["verify", "--data", &data, "--store", store, "--head", &heads[1]]);
    assert_eq!(output.status.code(), Some(3));
    assert!(text(&output.stdout).contains("a head of 200 entries was signed and kept"), "{}", text(&output.stdout));
}

#[test]
fn the_demo_comes_out_as_planted() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("demo");
    let output =
        run(&["demo", "--exit", "--events", "6000", "--listen", "127.0.0.1:0", "--data", data.to_str().unwrap()]);
    let told = text(&output.stdout);
    assert!(output.status.success(), "{told}\n{}", text(&output.stderr));
    assert_eq!(told.matches('✓').count(), 13, "{told}");
}

#[test]
fn the_same_plan_generates_the_same_bytes() {
    let generate = |seed: &str| run(&["generate", "--events", "2000", "--seed", seed]).stdout;
    assert_eq!(generate("7"), generate("7"));
    assert_ne!(generate("7"), generate("8"));
    assert_eq!(run(&["generate", "--events", "3"]).status.code(), Some(1));
}
