//! Jobs from outside: listed, run by hand and by themselves, one at a time, on record, and seen when they fail.
//!
//! Not here: when a job is due, leases and crashes (`retention::jobs`), what each finds in detail (`ledger_store`).

use crate::access::principal_with;
use crate::program::{Service, event, events, run_in};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// A service with these settings.
fn service(folder: &Path, settings: &str, flags: &[&str]) -> Service {
    let config = folder.join("piperoll.toml");
    std::fs::write(&config, settings).unwrap();
    let flags = [&["--config", config.to_str().unwrap()], flags].concat();
    Service::start(&folder.join("data"), &flags)
}

/// Runs `piperoll job …` as the administrator: exit code and standard output.
fn job(service: &Service, arguments: &[&str]) -> (i32, String) {
    let environment = [("PIPEROLL_URL", service.url.clone()), ("PIPEROLL_KEY", service.key.clone())];
    let output = run_in(&environment, &[&["job"], arguments].concat());
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    (
        output.status.code().unwrap(),
        if text.is_empty() { String::from_utf8_lossy(&output.stderr).into_owned() } else { text },
    )
}

async fn listed(service: &Service, name: &str) -> Value {
    let (status, text) = service.get("/v1/jobs").await;
    assert_eq!(status, 200, "{text}");
    let jobs: Value = serde_json::from_str(&text).unwrap();
    jobs["jobs"].as_array().unwrap().iter().find(|job| job["job"] == name).unwrap().clone()
}

async fn run(service: &Service, name: &str) -> Value {
    let (status, report) = service.post(&format!("/v1/jobs/{name}/runs"), "").await;
    assert_eq!(status, 200, "{report}");
    report
}

#[tokio::test]
async fn jobs_run_when_they_are_due_or_asked_for_by_who_may_and_each_run_is_on_record() {
    let folder = tempfile::tempdir().unwrap();
    let settings = "[jobs]\nreminders = '* * * * *'\nverify = 'never'\nresidency = '0 6 * * MON'\n";
    let service = service(folder.path(), settings, &[]);
    let begun = Instant::now();
    let (code, list) = job(&service, &["list", "--json"]);
    assert_eq!(code, 0, "{list}");
    let list: Value = serde_json::from_str(&list).unwrap();
    let due: Vec<(&str, &str)> = list["jobs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|job| (job["job"].as_str().unwrap(), job["schedule"].as_str().unwrap()))
        .collect();
    let expected = [
        ("compaction", "45 3 * * *"),
        ("key_rotation", "15 4 * * *"),
        ("reminders", "* * * * *"),
        ("residency", "0 6 * * MON"),
        ("retention", "never"),
        ("verify", "never"),
    ];
    assert_eq!(due, expected);
    assert!(listed(&service, "residency").await["next_at"].as_str().unwrap().ends_with("T06:00:00.000000Z"));
    assert!(listed(&service, "verify").await["next_at"].is_null());
    let (code, shown) = job(&service, &["run", "compaction"]);
    assert!(code == 0 && shown.contains("compaction") && shown.contains("stores: 1"), "{shown}");
    let (code, shown) = job(&service, &["list"]);
    assert!(code == 0 && shown.contains("compaction") && shown.contains("never ran"), "{shown}");
    // On record, as a table and entry by entry, with who asked.
    let (_, answer) = service
        .with_key(&service.key)
        .query(&[], "SELECT state, begun_by, missed, millis >= 0, failed_runs FROM jobs WHERE job = 'compaction'")
        .await;
    assert_eq!(answer["rows"], json!([["ok", "administrator", 0, true, 0]]), "{answer}");
    let sql = "SELECT action, actor_id FROM control WHERE resource_id = 'compaction' ORDER BY seq";
    let entries = service.rows(&["platform"], sql).await;
    assert_eq!(json!(entries), json!([["job.begin", "administrator"], ["job.end", "piperoll"]]));
    // Who may: running jobs is the platform's, and lets nobody do by a job what they may not do themselves.
    let tenants =
        principal_with(&service, "owner", Some("acme"), json!({"role": "tenant-administrator", "tenants": ["acme"]}));
    let sre = principal_with(&service, "sre", None, json!({"role": "sre", "tenants": ["platform"]}));
    let auditor =
        principal_with(&service, "auditor", None, json!({"role": "platform-auditor", "tenants": ["platform"]}));
    let officer = json!({"role": "retention-job", "tenants": ["platform"], "subtree": true});
    let outside = principal_with(&service, "outside-service", None, officer);
    for (key, sees, runs, lets_go) in
        [(&tenants, 403, 403, 403), (&auditor, 200, 403, 403), (&sre, 200, 200, 403), (&outside, 200, 200, 200)]
    {
        let visitor = service.with_key(key);
        assert_eq!(visitor.get("/v1/jobs").await.0, sees);
        assert_eq!(visitor.post_with("/v1/jobs/residency/runs", "", &[]).await.0, runs);
        let (status, answer) = visitor.post_with("/v1/jobs/retention/runs", "", &[]).await;
        assert_eq!(status, lets_go, "{answer}");
    }
    let (status, unknown) = service.post("/v1/jobs/rotation/runs", "").await;
    assert!(
        status == 404 && unknown["detail"].as_str().unwrap().contains("compaction, key_rotation, reminders"),
        "{unknown}"
    );
    let (code, refused) = job(&service, &["run", "retention"]);
    assert!(code == 1 && refused.contains("retention.run on platform is not granted"), "{refused}");
    // Nobody writes such entries but the service.
    let forged = json!({"change": "job.end", "job": "verify", "run": "j1", "outcome": "ok", "millis": 1, "result": {}});
    assert_eq!(service.try_change(&service.key, &[forged]).0, 403);
    // By itself, at the next full minute.
    let reminders = loop {
        let found = listed(&service, "reminders").await;
        if found["state"] == "ok" {
            break found;
        }
        assert!(begun.elapsed() < Duration::from_secs(120), "{found}");
        tokio::time::sleep(Duration::from_millis(500)).await;
    };
    assert!(reminders["due_at"].as_str().unwrap().ends_with(":00.000000Z"), "{reminders}");
    assert_eq!((&reminders["begun_by"], &reminders["missed"]), (&json!("piperoll"), &json!(0)));
    let metrics = service.get("/metrics").await.1;
    assert!(metrics.contains(r#"piperoll_job_runs_total{job="reminders",outcome="ok"} 1"#), "{metrics}");
    assert!(metrics.contains(r#"piperoll_job_overdue{job="reminders"} 0"#), "{metrics}");
    assert!(metrics.contains(r#"piperoll_job_last_success_seconds{job="reminders"} 1"#), "{metrics}");
    assert!(metrics.contains(r#"piperoll_job_seconds_count{job="compaction"} 1"#), "{metrics}");
}

#[test]
fn settings_that_name_no_job_or_no_time_are_refused_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("piperoll.toml");
    for (settings, why) in [
        ("[jobs]\nverify = '61 * * * *'\n", "61 * * * *"),
        ("[jobs]\nverify = 'daily'\n", "15 2 * * *"),
        (
            "[jobs]\nverfy = 'never'\n",
            "the setting jobs.verfy names no job; there are compaction, key_rotation, reminders",
        ),
        ("retention_every_hours = 24\n", "unknown field `retention_every_hours`"),
    ] {
        std::fs::write(&config, settings).unwrap();
        let refused = Service::try_start(&folder.path().join("data"), &["--config", config.to_str().unwrap()]);
        let told = refused.err().unwrap();
        assert!(told.contains(why), "{settings}: {told}");
    }
}

/// The newest object of a stream below a folder of it, by name.
fn newest(folder: &Path, below: &str, ends: &str) -> PathBuf {
    let mut found: Vec<PathBuf> = std::fs::read_dir(folder.join("data/store/tenant=acme/stream=audit").join(below))
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .flat_map(|path| {
            match path.is_dir() && below.is_empty() && !path.file_name().unwrap().to_str().unwrap().starts_with('_') {
                true => std::fs::read_dir(path).unwrap().map(|entry| entry.unwrap().path()).collect(),
                false => vec![path],
            }
        })
        .filter(|path| path.is_file() && path.to_str().unwrap().ends_with(ends))
        .collect();
    found.sort();
    found.pop().unwrap()
}

#[tokio::test]
async fn verification_names_a_flipped_bit_in_an_old_segment_and_a_stream_that_was_rolled_back() {
    let folder = tempfile::tempdir().unwrap();
    for round in 0..2 {
        let service = service(folder.path(), "", &["--seal-on-exit"]);
        service.post("/v1/events", events("acme", 300 * round, 300)).await;
        service.stop();
    }
    let service = service(folder.path(), "", &[]);
    let first = run(&service, "verify").await;
    assert_eq!((&first["outcome"], &first["result"]["waiting"]), (&json!("ok"), &json!(0)), "{first}");
    assert!(first["result"]["whole_entries"].as_u64().unwrap() >= 600, "{first}");
    assert_eq!(service.get("/readyz").await.1, "ready\n");
    // What is old and was checked is read again, by and by.
    let segment = newest(folder.path(), "", ".parquet");
    let genuine = std::fs::read(&segment).unwrap();
    let mut changed = genuine.clone();
    let middle = changed.len() / 2;
    changed[middle] ^= 1;
    std::fs::write(&segment, changed).unwrap();
    let (code, report) = job(&service, &["run", "verify", "--json"]);
    let report: Value = serde_json::from_str(&report).unwrap();
    let object = segment.strip_prefix(folder.path().join("data/store")).unwrap().to_str().unwrap().to_string();
    assert_eq!((code, &report["outcome"]), (3, &json!("found")), "{report}");
    assert!(report["first_finding"].as_str().unwrap().starts_with(&object), "{report}");
    let sql = "SELECT json_text(attributes, '/object'), json_text(attributes, '/tenant'), json_text(attributes, '/entries') FROM control WHERE action = 'job.find'";
    let found = service.rows(&["platform"], sql).await;
    assert_eq!(json!(found), json!([[object, "acme", "[300,599]"]]));
    // Seen by who watches, and no reason not to bring events.
    let (status, ready) = service.get("/readyz").await;
    let line = ready.lines().nth(1).unwrap_or_default();
    assert!(
        status == 200 && line.starts_with("job verify has not succeeded since 20") && line.ends_with("1 run failed"),
        "{ready}"
    );
    assert!(!ready.contains("acme"));
    let metrics = service.get("/metrics").await.1;
    assert!(metrics.contains(r#"piperoll_job_runs_total{job="verify",outcome="found"} 1"#), "{metrics}");
    std::fs::write(&segment, &genuine).unwrap();
    assert_eq!(run(&service, "verify").await["outcome"], "ok");
    assert_eq!(service.get("/readyz").await.1, "ready\n");
    // A stream that is behind the head that was kept: what is left holds by itself.
    let commit = newest(folder.path(), "_ledger/commits", "");
    let last = std::fs::read(&commit).unwrap();
    std::fs::remove_file(&commit).unwrap();
    let report = run(&service, "verify").await;
    let what = report["first_finding"].as_str().unwrap();
    assert!(report["outcome"] == "found" && what.contains("it was the last of 600 entries"), "{report}");
    std::fs::write(&commit, last).unwrap();
    // Who changes what was kept of the last run is found out.
    let memo = std::fs::read_dir(folder.path().join("data/store/_store/memo")).unwrap().next().unwrap().unwrap().path();
    std::fs::write(memo, "piperoll-checked/v1\n").unwrap();
    let report = run(&service, "verify").await;
    assert!(report["first_finding"].as_str().unwrap().contains("was changed"), "{report}");
    assert_eq!(run(&service, "verify").await["outcome"], "ok");
    service.stop();
    let data = folder.path().join("data");
    let report = crate::program::run_json(&["fsck", "--json", "--data", data.to_str().unwrap()]);
    let strangers = report["findings"].as_array().unwrap().iter().filter(|one| one.to_string().contains("_store/memo"));
    assert_eq!((&report["sound"], strangers.count()), (&json!(true), 0), "{report}");
}

#[tokio::test]
async fn a_run_of_verification_reads_as_much_as_it_may_and_all_of_them_everything() {
    let folder = tempfile::tempdir().unwrap();
    let settings = "[limits]\nverify_bytes = 1\n";
    let filling = service(folder.path(), settings, &["--seal-on-exit"]);
    for tenant in ["acme", "globex", "initech"] {
        filling.post("/v1/events", events(tenant, 0, 50)).await;
    }
    filling.stop();
    let service = service(folder.path(), settings, &[]);
    let mut runs = Vec::new();
    while runs.last().is_none_or(|last: &Value| last["waiting"] != 0) {
        runs.push(run(&service, "verify").await["result"].clone());
        assert!(runs.len() < 30, "{runs:?}");
    }
    let waiting: Vec<u64> = runs.iter().map(|run| run["waiting"].as_u64().unwrap()).collect();
    let expected: Vec<u64> = (0..runs.len() as u64).rev().collect();
    assert!(waiting == expected && runs.len() > 3 && runs.iter().all(|run| run["whole_streams"] == 1), "{runs:?}");
    // Then they are read again, in turn.
    let before = runs.last().unwrap()["oldest_whole_at"].as_str().unwrap().to_string();
    let next = run(&service, "verify").await["result"].clone();
    assert!(next["whole_streams"] == 1 && next["oldest_whole_at"].as_str().unwrap() > before.as_str(), "{next}");
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_who_ask_at_once_one_runs_and_the_other_is_told_who() {
    let folder = tempfile::tempdir().unwrap();
    let filling = service(folder.path(), "", &["--seal-on-exit"]);
    for part in 0..10 {
        filling.post("/v1/events", events("acme", 2_000 * part, 2_000)).await;
    }
    filling.stop();
    let service = service(folder.path(), "", &[]);
    let asked: Vec<_> = (0..6)
        .map(|_| {
            let visitor = service.with_key(&service.key);
            tokio::spawn(async move { visitor.post_with("/v1/jobs/verify/runs", "", &[]).await })
        })
        .collect();
    let mut answers = Vec::new();
    for one in asked {
        answers.push(one.await.unwrap());
    }
    let done = answers.iter().filter(|(status, _)| *status == 200).count();
    let refused: Vec<&Value> = answers.iter().filter(|(status, _)| *status == 409).map(|(_, answer)| answer).collect();
    assert!(done >= 1 && !refused.is_empty() && done + refused.len() == 6, "{answers:?}");
    assert!(refused.iter().all(|answer| {
        let detail = answer["detail"].as_str().unwrap();
        detail.contains("job verify is being run")
            && detail.contains("by administrator")
            && detail.contains("its lease ends at")
    }));
    // On record they follow one another.
    let sql = "SELECT action FROM control WHERE resource_id = 'verify' AND action LIKE 'job.%' ORDER BY seq";
    let entries = service.rows(&["platform"], sql).await;
    let expected: Vec<Vec<Value>> =
        (0..done).flat_map(|_| ["job.begin", "job.end"]).map(|name| vec![json!(name)]).collect();
    assert_eq!(entries, expected);
}

#[tokio::test]
async fn retention_and_residency_are_jobs_that_say_what_they_came_to() {
    let folder = tempfile::tempdir().unwrap();
    let settings = "region = 'eu-central-1'\n[limits]\nundo_seconds = 0\nremoved_grace_seconds = 0\n";
    let filling = service(folder.path(), settings, &["--seal-on-exit"]);
    let abroad = event("abroad", "acme", &json!({"region": "us-east-1"}));
    filling.post("/v1/events", [events("acme", 0, 50), abroad].concat()).await;
    filling.stop();
    let service = service(folder.path(), settings, &[]);
    let officer = json!({"change": "grant.create", "principal": "administrator", "role": "compliance-officer",
        "tenants": ["platform"], "subtree": true});
    service.change(&[officer]);
    assert_eq!(run(&service, "residency").await["result"], json!({"tenants": 0, "violations": 0}));
    service.change(&[
        json!({"change": "residency.set", "tenant": "acme", "regions": ["eu-central-1"], "reason": "the contract"}),
    ]);
    let report = run(&service, "residency").await;
    assert_eq!((&report["outcome"], &report["findings"]), (&json!("found"), &json!(1)), "{report}");
    assert!(report["first_finding"].as_str().unwrap().contains("were processed in us-east-1"), "{report}");
    assert!(service.get("/readyz").await.1.contains("job residency has not succeeded since"));
    let report = run(&service, "retention").await;
    assert_eq!((&report["outcome"], &report["result"]["entries"]), (&json!("ok"), &json!(0)), "{report}");
    service.change(&[json!({"change": "retention.set", "policy": "all", "tenant": "acme", "streams": ["audit"],
        "at_most_days": 0, "basis": "contract 4.2", "reason": "asked"})]);
    let report = run(&service, "retention").await;
    assert_eq!((&report["outcome"], &report["result"]["entries"]), (&json!("ok"), &json!(51)), "{report}");
    let certified = service.rows(&["acme"], "SELECT entries, run FROM certificates").await;
    assert_eq!(certified, [[json!(51), report["result"]["run"].clone()]]);
    // What was purged is no fault.
    assert_eq!(run(&service, "verify").await["outcome"], "ok");
    assert_eq!(run(&service, "residency").await["outcome"], "ok");
}
