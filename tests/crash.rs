//! Kills the real process under load, again and again, and holds every receipt that it ever gave against it.
//!
//! Batches are sent and streams are asked about while it dies, and segments are so small that some seal is always
//! under way, and some to be merged. On local disk and in S3, with both durabilities; the number of kills is
//! `PIPEROLL_KILLS` for each of the four (4 when nothing is said; the long form is 100). Not here: faults of disks and stores. Invariant: what was acknowledged is there, once, at its position, with
//! its leaf.

use crate::acknowledged::Acknowledged;
use crate::program::{Environment, Service, event, run_in};
use crate::servers::Server;
use serde_json::{Value, json};
use std::time::Duration;

const TENANTS: [&str; 3] = ["acme", "globex", "initech"];

/// Sends batches until the service dies; sends what was not acknowledged again at the next start.
async fn load(
    service: &Service,
    client: usize,
    round: usize,
    resend: Option<String>,
    key: &ledger::VerifierKey,
) -> (Acknowledged, Option<String>) {
    let mut acknowledged = Acknowledged::default();
    let mut pending = resend;
    for batch in 0.. {
        let body = pending.take().unwrap_or_else(|| {
            let one = |n: usize| {
                let tenant = TENANTS[(n + client) % TENANTS.len()];
                event(
                    &format!("c{client}-r{round}-b{batch}-{n}"),
                    tenant,
                    &json!({"attributes": {"n": n}, "session": format!("s-{n}")}),
                )
            };
            (0..40).map(one).collect()
        });
        let request =
            crate::program::client(&service.key).post(format!("{}/v1/events", service.url)).body(body.clone()).send();
        let answer = match request.await {
            Ok(response) => response.json::<Value>().await,
            Err(error) => Err(error),
        };
        let Ok(answer) = answer else { return (acknowledged, Some(body)) };
        acknowledged.add(&body, &answer, key);
    }
    unreachable!()
}

/// Asks about all streams until the service dies. Whatever a snapshot shows is whole.
async fn ask(service: &Service) -> usize {
    let sql = "SELECT tenant, count(*) AS n, max(seq) AS last FROM audit GROUP BY tenant";
    let body = json!({"sql": sql, "tenants": TENANTS}).to_string();
    for asked in 0.. {
        let request = crate::program::client(&service.key).post(format!("{}/v1/query", service.url));
        let request = request.header("content-type", "application/json").body(body.clone()).send();
        let answer = match request.await {
            // There are no streams to ask about before the first batch.
            Ok(response) if !response.status().is_success() => continue,
            Ok(response) => response.json::<Value>().await,
            Err(error) => Err(error),
        };
        let Ok(answer) = answer else { return asked };
        for row in answer["rows"].as_array().unwrap() {
            assert_eq!(row[1].as_u64().unwrap(), row[2].as_u64().unwrap() + 1, "a snapshot has gaps: {row}");
        }
    }
    unreachable!()
}

async fn kill_under_load(environment: Environment<'_>, flags: &[&str]) {
    let kills: usize = std::env::var("PIPEROLL_KILLS").ok().map_or(4, |count| count.parse().unwrap());
    let folder = tempfile::tempdir().unwrap();
    let settings = folder.path().join("settings.toml");
    std::fs::write(&settings, SMALL).unwrap();
    let data = folder.path().join("data");
    let flags = [&["--config", settings.to_str().unwrap()], flags].concat();
    let mut all = Acknowledged::default();
    let mut resend = [None, None];
    let mut asked = 0;
    for round in 0..kills {
        let service = Service::start_in(environment, &data, &flags);
        let key = service.key().await;
        check_if_any(&service, &all).await;
        let [first, second] = std::mem::take(&mut resend);
        let killing = async {
            // Between a few milliseconds and half a second, never twice alike.
            tokio::time::sleep(Duration::from_millis(15 + (round as u64 * 137) % 480)).await;
            let id = service.process_id().to_string();
            assert!(std::process::Command::new("kill").args(["-KILL", &id]).status().unwrap().success());
        };
        let (one, two, answers, ()) = tokio::join!(
            load(&service, 0, round, first, &key),
            load(&service, 1, round, second, &key),
            ask(&service),
            killing
        );
        asked += answers;
        service.kill();
        for (acknowledged, pending) in [one, two] {
            all.extend(acknowledged);
            let free = if resend[0].is_none() { 0 } else { 1 };
            resend[free] = pending;
        }
    }
    let service = Service::start_in(environment, &data, &[&flags[..], &["--seal-on-exit"]].concat());
    check_if_any(&service, &all).await;
    service.stop();
    let mut fsck = vec!["fsck", "--json", "--data", data.to_str().unwrap()];
    if let Some(at) = flags.iter().position(|flag| *flag == "--store") {
        fsck.extend(&flags[at..at + 2]);
    }
    let checked = run_in(environment, &fsck);
    let told = || String::from_utf8_lossy(&checked.stderr).into_owned();
    let report: Value = serde_json::from_slice(&checked.stdout).unwrap_or_else(|e| panic!("{e}: {}", told()));
    assert_eq!(report["sound"], true, "{report}");
    assert!(report["entries"].as_u64().unwrap() as usize >= all.positions.len());
    let (events, heads) = (all.positions.len(), all.heads.len());
    let flags = &flags[2..];
    eprintln!("{flags:?}: {kills} kills, {events} acknowledged events, {heads} heads, {asked} queries, nothing lost");
    for stream in report["streams"].as_array().unwrap() {
        eprintln!("{flags:?}: {} commits; {}", stream["commits"], stream["findings"]);
    }
}

/// Small segments, and few for a merge, so that seals, commits and merges are under way when the process dies.
const SMALL: &str = "[limits]\nseal_bytes = 60000\nmerge_inputs = 1\n";

#[tokio::test(flavor = "multi_thread")]
async fn kills_under_load_lose_nothing() {
    kill_under_load(&[], &[]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kills_under_load_lose_nothing_where_groups_are_objects() {
    kill_under_load(&[], &["--durability", "object"]).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn kills_under_load_lose_nothing_in_s3() {
    let Some(server) = Server::s3() else { return };
    for durability in ["wal", "object"] {
        let store = format!("{}/{durability}", server.url);
        kill_under_load(&server.environment, &["--durability", durability, "--store", &store]).await;
    }
}

async fn check_if_any(service: &Service, acknowledged: &Acknowledged) {
    if TENANTS.iter().all(|tenant| acknowledged.positions.keys().any(|(owner, _)| owner == tenant)) {
        acknowledged.check(service, &TENANTS).await;
    }
}
