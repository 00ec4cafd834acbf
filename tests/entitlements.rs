//! Who has access to what, against what the generator knows it planted and against a plain reading of its events.
//!
//! Not here: the fold and the names by themselves (`query::review`), reviews as they are held (`reviews`).

use crate::program::Service;
use crate::scope::platform_with;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

async fn ask(service: &Service, question: &Value) -> (u16, Value) {
    let visitor = service.with_key(&service.key);
    visitor.post_with("/v1/access/entitlements", question.to_string(), &[("content-type", "application/json")]).await
}

async fn answer(service: &Service, question: &Value) -> Value {
    let (status, answer) = ask(service, question).await;
    assert_eq!(status, 200, "{question}: {answer}");
    answer["answer"].clone()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_string()
}

/// Tenant and subject of the findings of a kind.
fn found(answer: &Value, kind: &str) -> BTreeSet<(String, String)> {
    let findings = answer["findings"].as_array().unwrap().iter().filter(|one| one["kind"] == kind);
    findings.map(|one| (text(&one["tenant"]), text(&one["subject"]))).collect()
}

/// The tenant that a planted event is of.
fn tenant_of(events: &[Value], id: &Value) -> String {
    text(&events.iter().find(|event| event["id"] == *id).unwrap()["tenant"])
}

fn read(path: &Path) -> Vec<Value> {
    let text = std::fs::read_to_string(path).unwrap();
    let mut seen = BTreeSet::new();
    let all = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
    // The first of those that come twice is the one that is kept.
    all.filter(|event| seen.insert((text_of(event, "tenant"), text_of(event, "id")))).collect()
}

fn text_of(event: &Value, name: &str) -> String {
    text(&event[name])
}

/// Tenant, subject and role of what is held, by a plain reading of grants and revocations in order of time.
fn held(events: &[Value]) -> BTreeMap<(String, String, String), Value> {
    let mut changes: Vec<&Value> = events
        .iter()
        .filter(|event| ["role.grant", "role.revoke"].contains(&event["action"].as_str().unwrap()))
        .collect();
    changes.sort_by_key(|event| text_of(event, "time"));
    let mut held = BTreeMap::new();
    for change in changes {
        let key = (text_of(change, "tenant"), text(&change["resource"]["id"]), text(&change["attributes"]["role"]));
        match change["action"] == "role.grant" {
            true => _ = held.entry(key).or_insert_with(|| change.clone()),
            false => _ = held.remove(&key),
        }
    }
    held
}

#[tokio::test]
async fn a_review_finds_what_was_planted_and_counts_what_was_done() {
    let folder = tempfile::tempdir().unwrap();
    let (service, planted) = platform_with(folder.path(), &["--seal-bytes", "200000"]).await;
    let events = read(&folder.path().join("events.ndjson"));
    let (first, last) = (text(&planted["first_time"]), text(&planted["last_time"]));
    let question = json!({"subtree": "platform", "as_of": last, "since": first, "sources": ["events"],
        "rules": {"dormant_days": 1}});
    let narrowed = answer(&service, &question).await;
    let shown = |answer: &Value| -> BTreeMap<(String, String, String), Value> {
        let all = answer["entitlements"].as_array().unwrap().iter();
        all.map(|one| ((text(&one["tenant"]), text(&one["subject"]), text(&one["role"])), one.clone())).collect()
    };
    let (expected, entitlements) = (held(&events), shown(&narrowed));
    assert!(expected.len() > 5);
    assert_eq!(entitlements.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
    for ((tenant, subject, role), grant) in &expected {
        let one = &entitlements[&(tenant.clone(), subject.clone(), role.clone())];
        let is_act = |event: &&Value| {
            event["tenant"] == **tenant
                && event["actor"]["id"] == **subject
                && event["outcome"] == "success"
                && event["stream"] != "telemetry"
        };
        let acts: Vec<String> = events.iter().filter(is_act).map(|event| text_of(event, "time")).collect();
        let after = acts.iter().filter(|time| **time >= text_of(grant, "time")).max();
        assert_eq!(one["last_used"].as_str(), after.map(String::as_str), "{one}");
        assert_eq!(one["uses"], after.map_or(0, |_| acts.len()), "{one}");
        assert_eq!((&one["since"], &one["granted_by"]), (&grant["time"], &grant["actor"]["id"]));
        assert_eq!(one.get("approval"), grant.get("approval_id"));
        let peers = expected.keys().filter(|(at, _, what)| at == tenant && what == role).count() - 1;
        assert_eq!(one["peers"], peers);
    }
    let whole = answer(
        &service,
        &json!({"subtree": "platform", "as_of": last, "since": first,
        "rules": {"dormant_days": 1}}),
    )
    .await;
    let of_plan = |wanted: &dyn Fn(&Value) -> bool| -> BTreeSet<(String, String)> {
        let grants =
            planted["grants"].as_array().unwrap().iter().filter(|grant| wanted(grant) && grant["revoked"].is_null());
        grants.map(|grant| (tenant_of(&events, &grant["event"]["id"]), text(&grant["subject"]))).collect()
    };
    assert_eq!(found(&whole, "orphaned"), of_plan(&|grant| grant["orphaned"] == true));
    assert_eq!(found(&whole, "unapproved"), of_plan(&|grant| grant["approval_id"].is_null()));
    let never = of_plan(&|grant| grant["never_used"] == true);
    assert!(never.len() >= 3 && found(&narrowed, "never_used").is_superset(&never), "{never:?}");
    let support = &planted["support"];
    let own: BTreeSet<String> = whole["findings"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|one| one["kind"] == "elevation_self_approved")
        .map(|one| text(&one["about"]))
        .collect();
    assert_eq!(own, support["approved_by_asker"].as_array().unwrap().iter().map(text).collect());
    let spied = &support["without_elevation"];
    let outside = found(&whole, "outside_without_elevation");
    let of_support = outside.iter().filter(|(_, who)| who.starts_with("sup-")).cloned().collect::<BTreeSet<_>>();
    assert_eq!(of_support, [(text(&spied["tenant"]), text(&spied["actor"]))].into());
    // The partner's people work at its clients, which is theirs to explain.
    let is_outside = |event: &&Value| {
        ["support", "partner"].contains(&event["actor"]["type"].as_str().unwrap())
            && event["outcome"] == "success"
            && event["stream"] != "telemetry"
            && !event["resource"]["class"].is_null()
            && event["elevation_id"].is_null()
    };
    let plainly = events.iter().filter(is_outside).map(|event| (text_of(event, "tenant"), text(&event["actor"]["id"])));
    assert_eq!(outside, plainly.collect());
    assert_eq!(found(&whole, "elevation_unapproved"), BTreeSet::new());
    let summary = text(&whole["summary"]);
    assert!(summary.contains("3 orphaned") && summary.contains("outside without elevation"), "{summary}");
}

#[tokio::test]
async fn the_same_question_against_the_same_heads_gives_the_same_bytes() {
    let folder = tempfile::tempdir().unwrap();
    let (service, planted) = platform_with(folder.path(), &[]).await;
    let question = json!({"subtree": "platform", "since": planted["first_time"]});
    let (status, asked) = ask(&service, &question).await;
    assert_eq!(status, 200, "{asked}");
    // Also without rules of anybody.
    assert!(!found(&asked["answer"], "outside_without_elevation").is_empty());
    let tenant = "hollowmere";
    let more = json!({"id": "later", "tenant": tenant, "time": planted["last_time"], "action": "role.grant",
        "outcome": "success", "actor": {"type": "user", "id": "x"}, "resource": {"type": "user", "id": "y"},
        "attributes": {"role": "z"}});
    assert_eq!(service.post("/v1/events", more.to_string()).await.1["accepted"], 1);
    service.change(&[
        json!({"change": "principal.create", "principal": "late", "kind": "user"}),
        json!({"change": "grant.create", "principal": "late", "role": "sre", "tenants": [tenant]}),
    ]);
    let now = ask(&service, &question).await.1;
    assert_ne!(now["answer_sha256"], asked["answer_sha256"]);
    let mut again = asked["answer"]["question"].clone();
    again["heads"] = asked["answer"]["read"].clone();
    let again = ask(&service, &again).await.1;
    assert_eq!(again["answer_sha256"], asked["answer_sha256"]);
    assert_eq!(again["answer"].to_string(), asked["answer"].to_string());
    let mut forged = asked["answer"]["question"].clone();
    forged["heads"] = asked["answer"]["read"].clone();
    let root = forged["heads"][0]["root"].clone();
    let control = forged["heads"].as_array_mut().unwrap().last_mut().unwrap();
    assert_eq!(control["stream"], "control");
    control["root"] = root;
    let (status, refused) = ask(&service, &forged).await;
    assert!(status == 409 && refused["detail"].as_str().unwrap().contains("platform/control"), "{refused}");
}
