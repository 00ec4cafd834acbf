//! The program on object stores that it reaches over the network, metrics, and heads kept elsewhere.
//!
//! Not here: the servers ([`crate::servers`]), what each store must do (`ledger-store`'s conformance suite).

use crate::program::{Service, events, run, run_in};
use crate::servers::Server;
use serde_json::Value;
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::path::Path;
use std::process::{Command, Output};

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// Ingests, asks, stops, starts again, checks.
async fn life_on(server: &Server) {
    let folder = tempfile::tempdir().unwrap();
    let (data, environment) = (folder.path().to_str().unwrap(), &server.environment[..]);
    let store = format!("{}/tier=shared/main", server.url);
    let at_store = ["--store", &store, "--data", data];
    let flags = ["--store", &store, "--seal-on-exit"];
    let service = Service::start_in(environment, folder.path(), &flags);
    let (status, answer) = service.post("/v1/events", events("acme", 0, 500)).await;
    assert_eq!((status, answer["accepted"].as_u64()), (200, Some(500)), "{answer}");
    service.stop();
    assert!(!folder.path().join("store").exists(), "nothing is kept on the local disk but key, log and cache");
    let service = Service::start_in(environment, folder.path(), &flags);
    let rows = service.rows(&["acme"], "SELECT count(*), max(seq) FROM audit WHERE release = 'r-3'").await;
    assert_eq!(rows, [[Value::from(100), Value::from(399)]]);
    let (_, answer) = service.post("/v1/events", events("acme", 400, 200)).await;
    assert_eq!((answer["duplicates"].as_u64(), answer["accepted"].as_u64()), (Some(100), Some(100)));
    // Killed: what was acknowledged is in the log, and then in the store.
    service.kill();
    let service = Service::start_in(environment, folder.path(), &flags);
    let rows = service.rows(&["acme"], "SELECT count(*) FROM audit").await;
    assert_eq!(rows, [[Value::from(600)]]);
    let metrics = service.get("/metrics").await.1;
    assert!(metrics.contains(r#"piperoll_store_operations_total{operation="create",outcome="ok"}"#), "{metrics}");
    service.stop();
    for command in ["verify", "fsck"] {
        let checked = run_in(environment, &[&[command], &at_store[..]].concat());
        let told = text(&checked.stdout);
        assert_eq!(checked.status.code(), Some(0), "{told}{}", text(&checked.stderr));
        assert!(told.contains("leaves recomputed") && !told.contains("note"), "{told}");
    }
    let of_acme = ["verify", "--tenant", "acme", "--stream", "audit"];
    let told = text(&run_in(environment, &[&of_acme[..], &at_store[..]].concat()).stdout);
    assert!(told.contains("600 leaves recomputed"), "{told}");
    // Another data folder has another key and another log: it may read and may not write.
    let other = tempfile::tempdir().unwrap();
    let refused = Service::try_start_in(environment, other.path(), &flags).err().unwrap();
    assert!(refused.contains("cannot be read"), "{refused}");
}

#[tokio::test]
async fn a_ledger_lives_in_s3() {
    let Some(server) = Server::s3() else { return };
    life_on(&server).await;
}

#[tokio::test]
async fn a_ledger_lives_in_azure() {
    let Some(server) = Server::azure() else { return };
    life_on(&server).await;
}

/// Answers every request as a server would that puts without a look at the condition.
fn careless_server() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let at = listener.local_addr().unwrap();
    std::thread::spawn(move || {
        for mut stream in listener.incoming().flatten() {
            let mut request = [0; 4_096];
            let read = stream.read(&mut request).unwrap_or_default();
            let list = "<ListBucketResult><Name>b</Name><KeyCount>0</KeyCount><IsTruncated>false</IsTruncated></ListBucketResult>";
            let body = if request[..read].starts_with(b"GET") { list } else { "" };
            let answer = format!(
                "HTTP/1.1 200 OK\r\nETag: \"x\"\r\nLast-Modified: Wed, 14 Aug 2026 09:26:53 GMT\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{body}",
                body.len()
            );
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    format!("http://{at}")
}

#[test]
fn a_store_that_ignores_create_if_absent_is_refused_at_the_start() {
    let folder = tempfile::tempdir().unwrap();
    let environment = [
        ("AWS_ENDPOINT_URL", careless_server()),
        ("AWS_ALLOW_HTTP", "true".into()),
        ("AWS_ACCESS_KEY_ID", "open".into()),
        ("AWS_SECRET_ACCESS_KEY", "sesame".into()),
    ];
    let refused = Service::try_start_in(&environment, folder.path(), &["--store", "s3://bucket/x"]).err().unwrap();
    assert!(refused.contains("s3://bucket/x cannot keep a ledger: it does not honour create-if-absent"), "{refused}");
    assert!(!refused.contains("sesame"));
}

#[tokio::test]
async fn metrics_say_how_the_service_is_and_name_no_tenant() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start(folder.path(), &[]);
    let value = |metrics: &str, name: &str| -> u64 {
        let line = metrics.lines().find_map(|line| line.strip_prefix(name));
        line.unwrap_or_else(|| panic!("{name} is not in\n{metrics}")).trim().parse().unwrap()
    };
    // The first batch of an hour brings the entry that says so; from then on nothing is written but events.
    service.post("/v1/events", events("acme", 0, 1)).await;
    let before = service.get("/metrics").await.1;
    service.post("/v1/events", events("acme", 1, 29)).await;
    service.post("/v1/events", events("acme", 20, 20)).await;
    let metrics = service.get("/metrics").await.1;
    for (name, more) in [
        (r#"piperoll_events_total{verdict="accepted"}"#, 39),
        (r#"piperoll_events_total{verdict="duplicate"}"#, 10),
        (r#"piperoll_events_total{verdict="conflict"}"#, 0),
        (r#"piperoll_groups_total{store="main"}"#, 2),
    ] {
        assert_eq!(value(&metrics, name) - value(&before, name), more, "{name}");
    }
    for line in [
        r#"piperoll_epoch{store="main"} 1"#,
        r#"piperoll_writable{store="main"} 1"#,
        r#"piperoll_log_files{store="main"} 1"#,
        r#"piperoll_store_operation_seconds_bucket{operation="create",le="0.0005"}"#,
    ] {
        assert!(metrics.contains(line), "{line} is not in\n{metrics}");
    }
    assert!(metrics.contains("piperoll_unsealed_bytes") && !metrics.contains("acme"));
    service.stop();
}

fn copy(from: &Path, to: &Path) {
    assert!(Command::new("cp").arg("-r").arg(from).arg(to).status().unwrap().success());
}

fn verified(data: &Path, more: &[&str]) -> Output {
    run(&[&["verify", "--data", data.to_str().unwrap()], more].concat())
}

#[tokio::test]
async fn heads_kept_elsewhere_name_the_stream_that_was_rolled_back() {
    let folder = tempfile::tempdir().unwrap();
    let elsewhere = folder.path().join("heads");
    let url = format!("file://{}", elsewhere.display());
    let flags = ["--seal-on-exit", "--heads-to", &url];
    let (data, old) = (folder.path().join("data"), folder.path().join("old"));
    for round in 0..2 {
        let service = Service::start(&data, &flags);
        service.post("/v1/events", events("acme", 100 * round, 100)).await;
        service.post("/v1/events", events("globex", 100 * round, 50)).await;
        service.stop();
        if round == 0 {
            copy(&data.join("store"), &old);
        }
    }
    let heads = ["--heads", &url];
    let sound = verified(&data, &heads);
    assert_eq!(sound.status.code(), Some(0), "{}{}", text(&sound.stdout), text(&sound.stderr));
    let fsck = || run(&["fsck", "--data", data.to_str().unwrap(), "--heads", &url]);
    assert_eq!(fsck().status.code(), Some(0));
    // One stream is put back to an older state, consistent in itself.
    let stream = "tenant=acme/stream=audit";
    std::fs::remove_dir_all(data.join("store").join(stream)).unwrap();
    copy(&old.join(stream), &data.join("store").join(stream));
    assert_eq!(verified(&data, &[]).status.code(), Some(0));
    let found = verified(&data, &heads);
    let told = text(&found.stdout);
    assert_eq!(found.status.code(), Some(3), "{told}");
    assert!(told.contains("a head of 200 entries was signed and kept, and only 100 are sealed here"), "{told}");
    assert_eq!(told.matches("FAULT").count(), 1, "{told}");
    assert!(told.contains(&format!("FAULT  {stream} (entries 100 to 199)")), "{told}");
    let found = fsck();
    assert_eq!(found.status.code(), Some(3));
    assert!(text(&found.stdout).contains("a head of 200 entries was signed and kept, and only 100 are sealed here"));
    // It is taken away as a whole; and the store log too is put back.
    std::fs::remove_dir_all(data.join("store/tenant=acme")).unwrap();
    std::fs::remove_dir_all(data.join("store/_store")).unwrap();
    copy(&old.join("_store"), &data.join("store/_store"));
    let told = text(&verified(&data, &heads).stdout);
    assert!(
        told.contains("200 entries of this stream were sealed when its head was kept, and nothing of it"),
        "{told}"
    );
    assert_eq!(verified(&data, &["--tenant", "globex", "--stream", "audit"]).status.code(), Some(0));
    // A note that was changed is not believed.
    let notes = elsewhere.read_dir().unwrap().next().unwrap().unwrap().path().join("main");
    let note = notes.read_dir().unwrap().next().unwrap().unwrap().path();
    std::fs::write(&note, std::fs::read_to_string(&note).unwrap().replace("time 2", "time 3")).unwrap();
    let told = text(&verified(&data, &heads).stdout);
    assert!(told.contains("the note of kept heads does not verify"), "{told}");
}

#[tokio::test]
async fn heads_that_are_not_sealed_yet_are_no_fault() {
    let folder = tempfile::tempdir().unwrap();
    let url = format!("file://{}", folder.path().join("heads").display());
    let data = folder.path().join("data");
    for (round, flags) in [&["--seal-on-exit", "--heads-to", &url][..], &["--heads-to", &url]].into_iter().enumerate() {
        let service = Service::start(&data, flags);
        service.post("/v1/events", events("acme", 100 * round, 100)).await;
        service.stop();
    }
    let checked = verified(&data, &["--heads", &url]);
    let told = text(&checked.stdout);
    assert_eq!(checked.status.code(), Some(0), "{told}{}", text(&checked.stderr));
    assert!(told.contains("200 entries were durable when a head was kept, and 100 are sealed here"), "{told}");
    // A second store that does not answer is said, and stops nothing.
    let closed = [("AWS_ENDPOINT_URL", "http://127.0.0.1:1".into()), ("AWS_ALLOW_HTTP", "true".into())];
    let keys = [("AWS_ACCESS_KEY_ID", "a".into()), ("AWS_SECRET_ACCESS_KEY", "b".into())];
    let environment: Vec<(&str, String)> = closed.into_iter().chain(keys).collect();
    let service = Service::start_in(&environment, &data, &["--heads-to", "s3://nobody/x"]);
    assert_eq!(service.post("/v1/events", events("acme", 300, 1)).await.0, 200);
    service.kill();
}
