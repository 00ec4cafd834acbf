//! The ways in, over HTTP: every outcome of an event, receipts, repeats, limits.
//!
//! Not here: the rules of single fields (`ingest`), which have their tests beside them.

use crate::program::{Service, event, events};
use ledger::receipt::Receipt;
use serde_json::{Value, json};
use std::io::Write as _;

fn statuses(answer: &Value) -> Vec<String> {
    let one = |result: &Value| match result["status"].as_str().unwrap() {
        "rejected" => format!("rejected {}", result["field"].as_str().unwrap()),
        status => format!("{status} {}", result["seq"]),
    };
    answer["results"].as_array().unwrap().iter().map(one).collect()
}

#[tokio::test]
async fn one_bad_event_never_sinks_its_batch() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start(folder.path(), &[]);
    let good = event("e-1", "acme", &json!({}));
    let other = event("e-1", "acme", &json!({"reason": "changed"}));
    let mut body =
        [&good, "{not json\n", &event("e-2", "acme", &json!({"colour": "red"})), &good, &other].concat().into_bytes();
    body.extend_from_slice(b"{\"id\":\"\xff\"}\n");
    body.extend_from_slice(event("e-3", "globex", &json!({"stream": "telemetry"})).as_bytes());
    let (status, answer) = service.post("/v1/events", body.clone()).await;
    let expected = [
        "accepted 0",
        "rejected event",
        "rejected colour",
        "duplicate 0",
        "conflict 0",
        "rejected event",
        "accepted 0",
    ];
    assert_eq!((status, statuses(&answer)), (200, expected.map(String::from).to_vec()));
    assert_eq!([&answer["accepted"], &answer["duplicates"], &answer["conflicts"], &answer["rejected"]], [2, 1, 1, 3]);
    // Found at once, and only what was accepted.
    assert_eq!(
        service.rows(&["acme"], "SELECT seq, event_id, reason FROM audit").await,
        [vec![json!(0), json!("e-1"), Value::Null]]
    );
    assert_eq!(service.rows(&["globex"], "SELECT count(*) FROM telemetry").await, [[1]]);
    // All or nothing: the same batch appends nothing and says why.
    let (status, problem) =
        service.post("/v1/events?atomic=true", [event("n-1", "acme", &json!({})).as_bytes(), b"{}\n"].concat()).await;
    assert_eq!((status, problem["results"][1]["status"].as_str()), (422, Some("rejected")));
    let (status, problem) =
        service.post("/v1/events?atomic=true", [event("n-1", "acme", &json!({})), other].concat()).await;
    assert_eq!((status, &problem["results"][1]["seq"]), (422, &json!(0)), "{problem}");
    assert_eq!(service.rows(&["acme"], "SELECT count(*) FROM audit").await, [[1]]);
    let (status, answer) =
        service.post("/v1/events?atomic=true", [event("n-1", "acme", &json!({})), good].concat()).await;
    assert_eq!((status, statuses(&answer)), (200, vec!["accepted 1".into(), "duplicate 0".into()]));
}

#[tokio::test]
async fn receipts_verify_and_repeats_get_the_original_positions_also_after_a_restart() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start(folder.path(), &["--seal-on-exit"]);
    let key = service.key().await;
    let body = [events("acme", 0, 50), events("globex", 0, 30)].concat();
    let (_, answer) = service.post("/v1/events", body.clone()).await;
    assert_eq!(answer["accepted"], 80);
    let receipt = Receipt::parse(answer["receipt"].as_str().unwrap().as_bytes()).unwrap();
    let verified = receipt.verify(std::slice::from_ref(&key)).unwrap();
    let sizes: Vec<u64> = verified.heads.iter().map(|head| head.size).collect();
    assert_eq!(sizes, [50, 30]);
    assert!(verified.heads[0].origin.ends_with("/acme/audit/0"));
    let stranger = ledger::LedgerKey::from_secret(&[1; 32]).verifier(key.name());
    assert!(receipt.verify(&[stranger]).is_err());
    service.stop();
    for seal in [&["--seal-on-exit"][..], &[]] {
        let service = Service::start(folder.path(), seal);
        let (_, again) = service.post("/v1/events", body.clone()).await;
        assert_eq!((&again["duplicates"], &again["accepted"]), (&json!(80), &json!(0)));
        let positions =
            |answer: &Value| answer["results"].as_array().unwrap().iter().map(|r| r["seq"].clone()).collect::<Vec<_>>();
        assert_eq!(positions(&again), positions(&answer));
        let receipt = Receipt::parse(again["receipt"].as_str().unwrap().as_bytes()).unwrap();
        assert_eq!(receipt.verify(std::slice::from_ref(&key)).unwrap().heads.len(), 2);
        service.stop();
    }
}

#[tokio::test]
async fn an_idempotency_key_answers_once_and_for_all() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start(folder.path(), &[]);
    let no_ids = |n: usize| event("x", "acme", &json!({"attributes": {"n": n}})).replace("\"id\":\"x\",", "");
    let body = [no_ids(1), "{}\n".into(), no_ids(2)].concat();
    let keyed = [("Idempotency-Key", "k-1")];
    let (_, first) = service.post_with("/v1/events", body.clone(), &keyed).await;
    assert_eq!((&first["accepted"], &first["rejected"]), (&json!(2), &json!(1)));
    let (status, again) = service.post_with("/v1/events", body.clone(), &keyed).await;
    assert_eq!((status, &again["results"]), (200, &first["results"]), "the same positions, event by event");
    assert!(again["receipt"].is_string());
    let (status, problem) = service.post_with("/v1/events", no_ids(3), &keyed).await;
    assert_eq!((status, problem["type"].as_str()), (422, Some("urn:piperoll:problem:unprocessable")));
    service.kill();
    let service = Service::start(folder.path(), &[]);
    let (_, again) = service.post_with("/v1/events", body, &keyed).await;
    assert_eq!(again["results"], first["results"], "remembered across a kill");
    assert_eq!(service.rows(&["acme"], "SELECT count(*) FROM audit").await, [[2]]);
}

#[tokio::test]
async fn forms_packings_and_limits() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start(folder.path(), &[]);
    let path = "/v1/tenants/acme/audit/events";
    let array = json!([serde_json::from_str::<Value>(&event("a-1", "acme", &json!({}))).unwrap()]).to_string();
    let (_, answer) = service.post_with(path, array, &[("content-type", "application/json")]).await;
    assert_eq!(answer["accepted"], 1);
    let mut gzip = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    gzip.write_all(event("a-2", "acme", &json!({})).as_bytes()).unwrap();
    let zstd = zstd::encode_all(event("a-3", "acme", &json!({})).as_bytes(), 1).unwrap();
    for (packing, body) in [("gzip", gzip.finish().unwrap()), ("zstd", zstd)] {
        let (_, answer) = service.post_with(path, body, &[("content-encoding", packing)]).await;
        assert_eq!(answer["accepted"], 1, "{packing}");
    }
    let one = event("a-4", "acme", &json!({}));
    for (path, body, headers, status) in [
        (path, one.clone(), vec![("content-type", "text/xml")], 415),
        (path, one.clone(), vec![("content-encoding", "br")], 415),
        (path, one.clone(), vec![("content-encoding", "gzip")], 400),
        (path, String::new(), vec![], 400),
        (path, "[".into(), vec![("content-type", "application/json")], 400),
        (path, one.clone(), vec![("idempotency-key", "")], 400),
        ("/v1/tenants/ACME/audit/events", one.clone(), vec![], 400),
        ("/v1/tenants/acme/logs/events", one.clone(), vec![], 400),
        ("/v1/events?atomic=maybe", one.clone(), vec![], 400),
        ("/v1/events?atomicc=true", one.clone(), vec![], 400),
        ("/v1/nowhere", one.clone(), vec![], 404),
        (path, " ".repeat(17 << 20), vec![], 413),
        (path, "{}\n".repeat(50_001), vec![], 413),
    ] {
        let (found, problem) = service.post_with(path, body, &headers).await;
        assert_eq!(found, status, "{path} {headers:?}: {problem}");
        assert!(problem["detail"].as_str().is_some_and(|detail| !detail.is_empty()) && problem["status"] == status);
    }
    assert_eq!(service.post("/v1/tenants/acme/access/events", one.clone()).await.0, 403);
    let into_access = event("a-5", "acme", &json!({"stream": "access"}));
    let (_, answer) = service.post("/v1/events", into_access).await;
    assert_eq!(answer["results"][0]["field"], "stream");
    assert_eq!(service.get("/healthz").await, (200, "ok\n".into()));
    assert_eq!(service.get("/readyz").await.0, 200);
    assert_eq!(service.get("/v1/events").await.0, 405);
}
