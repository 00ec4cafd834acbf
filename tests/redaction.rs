//! A data subject's request from outside: found, exported, asked for, agreed to, gone, and proven all the same.
//!
//! Not here: what an erasure does to segments and log (`ledger_store`), where an identifier is found (`retention::subjects`).

use crate::access::principal_with;
use crate::program::{Service, event, run_json};
use crate::python;
use crate::retention::{count, officer, policy, service};
use serde_json::{Value, json};
use std::path::Path;

/// The person, by what they are called in different places; no other text of the test holds these.
const PERSON: [&str; 3] = ["u-7f3a91c2", "jane.q.public@example.org", "198.51.100.77"];

/// Sends 600 events of `acme`; every thirteenth is by the person, every fiftieth only tells of them.
async fn filled(folder: &Path) -> Service {
    let service = service(folder);
    let officer = json!({"change": "grant.create", "principal": "administrator", "role": "compliance-officer",
        "tenants": ["platform"], "subtree": true});
    service.change(&[officer]);
    let line = |n: usize| {
        let class = if n.is_multiple_of(26) { "financial" } else { "usage" };
        let mut more = json!({"actor": {"type": "user", "id": format!("u-{}", n % 5)}, "source_ip": "203.0.113.9",
            "resource": {"type": "report", "id": format!("r-{n}"), "class": class}, "attributes": {"n": n}});
        if n.is_multiple_of(13) {
            more["actor"] = json!({"type": "user", "id": PERSON[0], "name": "Jane Q. Public"});
            more["source_ip"] = PERSON[2].into();
            more["attributes"] = json!({"n": n, "reply_to": [PERSON[1]]});
        } else if n.is_multiple_of(50) {
            more["attributes"] = json!({"n": n, "invited": {"mail": PERSON[1]}});
        }
        event(&format!("acme-{n}"), "acme", &more)
    };
    for part in [0..300, 300..600] {
        assert_eq!(service.post("/v1/events", part.map(line).collect::<String>()).await.0, 200);
    }
    service
}

fn question() -> Value {
    json!({"tenant": "acme", "identifiers": PERSON, "streams": ["audit"]})
}

async fn plan(service: &Service) -> Value {
    let (status, planned) = service.post("/v1/retention/redactions/plans", question().to_string()).await;
    assert_eq!(status, 200, "{planned}");
    planned
}

#[tokio::test]
async fn what_tells_of_a_person_goes_and_every_proof_stays() {
    let folder = tempfile::tempdir().unwrap();
    let service = filled(folder.path()).await;
    let before = service.get("/v1/tenants/acme/audit/checkpoint").await.1;
    let named = (0..600).filter(|n| n % 13 == 0 || n % 50 == 0).count();
    // The law keeps some of it in its original, and a hold holds one.
    let law = json!({"classes": ["financial"], "at_least_days": 3_650, "keep_original": true});
    service.change(&[policy("tax", &law)]);
    let hold =
        json!({"change": "hold.set", "tenant": "acme", "resources": ["r-13"], "matter": "case 7", "reason": "x"});
    let held = service.change(&[hold]);
    let planned = plan(&service).await;
    let kept = (0..600).filter(|n| n % 26 == 0).count();
    assert_eq!(planned["plan"]["found"], named, "{planned}");
    assert_eq!(
        (&planned["plan"]["entries"], &planned["plan"]["kept"]["tax"]),
        (&json!(named - kept - 1), &json!(kept))
    );
    assert!(!planned.to_string().contains(PERSON[0]), "positions, never who it is about");
    // The access request is the same search.
    let (status, lines) = service.post_text("/v1/retention/subjects/export", question().to_string()).await;
    assert_eq!((status, lines.lines().count()), (200, named), "{lines}");
    let first: Value = serde_json::from_str(lines.lines().next().unwrap()).unwrap();
    assert_eq!((&first["seq"], &first["actor_id"]), (&json!(0), &json!(PERSON[0])));
    // One asks, and another agrees.
    let ask = |plan: &Value| {
        json!({"question": question(), "plan": plan["sha256"], "basis": "GDPR Art. 17", "reason": "request 88"})
            .to_string()
    };
    let (status, asked) = service.post("/v1/retention/redactions", ask(&planned)).await;
    assert_eq!(status, 200, "{asked}");
    let approval = format!("/v1/retention/redactions/{}/approval", asked["redaction"].as_str().unwrap());
    let (status, own) = service.post(&approval, json!({"reason": "mine"}).to_string()).await;
    assert!(status == 403 && own["detail"].as_str().unwrap().contains("somebody else"), "{own}");
    let other = officer(&service, "second");
    let analyst = principal_with(&service, "an", None, json!({"role": "security-analyst", "tenants": ["acme"]}));
    let yes = json!({"reason": "checked against request 88"}).to_string();
    assert_eq!(service.with_key(&analyst).post_with(&approval, yes.clone(), &[]).await.0, 404);
    assert_eq!(
        service.with_key(&analyst).post_with("/v1/retention/redactions/plans", question().to_string(), &[]).await.0,
        403
    );
    // A hold that came in between is seen by whoever agrees.
    let later =
        json!({"change": "hold.set", "tenant": "acme", "resources": ["r-39"], "matter": "case 8", "reason": "x"});
    let later = service.change(&[later]);
    let (status, refused) = service.with_key(&other).post_with(&approval, yes.clone(), &[]).await;
    assert!(status == 409 && refused["detail"].as_str().unwrap().contains("is held now"), "{refused}");
    let release =
        |set: &Value| json!({"change": "hold.release", "id": set["changes"][0]["made"]["hold"], "reason": "settled"});
    service.change(&[release(&later)]);
    let (status, report) = service.with_key(&other).post_with(&approval, yes.clone(), &[]).await;
    assert_eq!((status, &report["outcome"]), (200, &json!("done")), "{report}");
    assert_eq!(report["entries"], named - kept - 1);
    assert_eq!(service.with_key(&other).post_with(&approval, yes, &[]).await.0, 409, "once");
    // Nothing of them is seen any more, but what stays by law or hold; all entries are there.
    let rows =
        service.rows(&["acme"], &format!("SELECT seq FROM audit WHERE actor_id = '{}' ORDER BY seq", PERSON[0])).await;
    assert_eq!(rows.len(), kept + 1);
    assert_eq!(
        service.rows(&["acme"], "SELECT count(*) FROM audit WHERE action = 'invoice.update'").await,
        [[json!(600)]]
    );
    let row = service
        .rows(&["acme"], "SELECT actor_id, actor_type, source_ip, attributes, resource_id FROM audit WHERE seq = 39")
        .await;
    assert_eq!(row, [[json!(null), json!("user"), json!(null), json!(null), json!("r-39")]]);
    // One that only told of them lost its details alone.
    let row = service.rows(&["acme"], "SELECT actor_id, source_ip, attributes FROM audit WHERE seq = 50").await;
    assert_eq!(row, [[json!("u-0"), json!("203.0.113.9"), json!(null)]]);
    // Proofs hold, and say so.
    let (status, proof) = service.get_json("/v1/tenants/acme/audit/proof/inclusion?seq=39").await;
    assert_eq!((status, &proof["redacted"]), (200, &json!(["actor", "origin", "details"])), "{proof}");
    let (_, proof) = service.get_json("/v1/tenants/acme/audit/proof/inclusion?seq=40").await;
    assert_eq!(proof["redacted"], json!([]), "{proof}");
    let size: u64 = before.lines().nth(1).unwrap().parse().unwrap();
    let (status, proof) = service.get(&format!("/v1/tenants/acme/audit/proof/consistency?from={size}")).await;
    assert!(status == 200 && proof.contains(before.lines().nth(2).unwrap()), "{proof}");
    // Certified and told, without a word of who it was.
    let rows = service.rows(&["acme"], "SELECT kind, entries FROM certificates").await;
    assert_eq!(rows, [[json!("redaction"), json!(named - kept - 1)]]);
    let own = service.rows(&["acme"], "SELECT attributes FROM audit WHERE action = 'retention.redacted'").await;
    assert!(own[0][0].as_str().unwrap().contains("piperoll-redaction-certificate/v1"), "{own:?}");
    let rows = service.rows(&["acme"], "SELECT state, asked_by, approved_by FROM redactions").await;
    assert_eq!(rows, [[json!("approved"), json!("administrator"), json!("second")]]);
    let told = service.rows(&["acme"], "SELECT action FROM access WHERE action LIKE 'redaction.%' ORDER BY seq").await;
    assert_eq!(told, [[json!("redaction.ask")], [json!("redaction.approve")]]);
    // What is free now goes too; then nobody could tell from any byte.
    service.change(&[release(&held), json!({"change": "retention.end", "policy": "tax", "reason": "law changed"})]);
    let rest = plan(&service).await;
    let (_, asked) = service.post("/v1/retention/redactions", ask(&rest)).await;
    let approval = format!("/v1/retention/redactions/{}/approval", asked["redaction"].as_str().unwrap());
    let (status, report) = service.with_key(&other).post_with(&approval, json!({"reason": "x"}).to_string(), &[]).await;
    assert!(status == 200 && report["entries"] == kept + 1, "{report}");
    assert_eq!(plan(&service).await["plan"]["found"], 0);
    let data = folder.path().join("data");
    // Bytes on disk: the log and the store; the last SQL above is on record in `access` as it was asked.
    for marker in ["Jane Q. Public", PERSON[1], PERSON[2]] {
        for _ in 0..300 {
            if count(&data, marker) == 0 {
                break;
            }
            tokio::time::sleep(std::time::Duration::from_millis(100)).await;
        }
        assert_eq!(count(&data, marker), 0, "{marker}");
    }
    service.stop();
    let report = run_json(&["fsck", "--json", "--data", data.to_str().unwrap()]);
    assert_eq!((&report["sound"], &report["redacted"]), (&json!(true), &json!(named)), "{report}");
    let Some(python) = python::python() else { return };
    let output = python::recompute(&python, &data.join("store"), "tenant=acme/stream=audit");
    let found: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
    assert_eq!(found["redacted"], named, "{found}");
}

#[tokio::test]
async fn questions_about_a_person_are_for_whoever_sees_everything() {
    let folder = tempfile::tempdir().unwrap();
    let service = filled(folder.path()).await;
    for (question, why) in [
        (json!({"tenant": "acme", "identifiers": []}), "identifiers must be 1 to 50"),
        (json!({"tenant": "acme", "identifiers": [""]}), "identifiers must be 1 to 50"),
        (json!({"tenant": "acme", "identifiers": ["x"], "streams": ["control"]}), "kept whole"),
        (json!({"tenant": "acme", "identifiers": ["x"], "streams": ["audits"]}), "audit, telemetry, access"),
        (json!({"tenant": "acme", "identifiers": ["x"], "sections": ["skeleton"]}), "never redacted"),
        (json!({"tenant": "ACME!", "identifiers": ["x"]}), "tenant is"),
    ] {
        let (status, answer) = service.post("/v1/retention/redactions/plans", question.to_string()).await;
        assert!(status == 422 && answer["detail"].as_str().unwrap().contains(why), "{answer}");
    }
    // Who sees a part would miss what is to go.
    let masked = json!({"role": "compliance-officer", "tenants": ["acme"], "masked": ["details"]});
    let part = principal_with(&service, "part", None, masked);
    let (status, answer) =
        service.with_key(&part).post_with("/v1/retention/redactions/plans", question().to_string(), &[]).await;
    assert!(status == 403 && answer["detail"].as_str().unwrap().contains("you see a part of it"), "{answer}");
    // Nothing found, nothing to ask for; and no plan but one that was looked at.
    let nobody = json!({"tenant": "acme", "identifiers": ["nobody"]});
    let (_, planned) = service.post("/v1/retention/redactions/plans", nobody.to_string()).await;
    let ask = |question: &Value, plan: &Value| {
        json!({"question": question, "plan": plan, "basis": "x", "reason": "x"}).to_string()
    };
    assert_eq!(service.post("/v1/retention/redactions", ask(&nobody, &planned["sha256"])).await.0, 422);
    assert_eq!(service.post("/v1/retention/redactions", ask(&question(), &planned["sha256"])).await.0, 409);
    let change = json!({"change": "redaction.ask", "tenant": "acme", "plan": "00", "goes": [], "entries": 0, "basis": "x", "reason": "x"});
    assert_eq!(service.try_change(&service.key, &[change]).0, 422);
    service.stop();
}
