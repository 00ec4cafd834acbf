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

/// An event of `acme`, with more in it.
fn event(id: &str, action: &str, actor: &str, more: Value) -> String {
    let mut event = json!({"id": id, "tenant": "acme", "time": "2026-03-01T00:00:00Z", "action": action,
        "outcome": "success", "actor": {"type": "user", "id": actor}});
    event.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    event.to_string()
}

#[tokio::test]
async fn rules_find_conflicts_and_too_much_and_snapshots_who_left() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start(folder.path(), &[]);
    let give = |id: &str, who: &str, role: &str| {
        event(
            id,
            "role.grant",
            "hr",
            json!({"resource": {"type": "user", "id": who}, "attributes": {"role": role},
            "time": "2026-01-01T00:00:00Z", "approval_id": "a"}),
        )
    };
    let events = [
        give("1", "ann", "billing_admin"),
        give("2", "bob", "billing_admin"),
        give("3", "bob", "approver"),
        event("4", "invoice.read", "Ann", json!({})),
        event("5", "invoice.read", "bob", json!({})),
        event("6", "refund_all.make", "bob", json!({})),
        // GitHub's log says what was done, and not that it was.
        event(
            "7",
            "org.add_member",
            "cat",
            json!({"outcome": "unknown", "attributes": {"user": "cat", "org": "my-org"}}),
        ),
        event(
            "8",
            "customer.read",
            "sup-1",
            json!({"actor": {"type": "support", "id": "sup-1"}, "elevation_id": "e1",
            "resource": {"type": "customer", "id": "c", "class": "personal"}}),
        ),
        // Neither is an approval of the elevation.
        event(
            "9",
            "invoice.approve",
            "sup-1",
            json!({"actor": {"type": "support", "id": "sup-1"}, "elevation_id": "e1",
            "time": "2026-02-01T00:00:00Z"}),
        ),
    ];
    assert_eq!(service.post("/v1/events", events.join("\n")).await.1["accepted"], 9);
    let file = folder.path().join("users.json");
    let users = json!({"schemas": ["urn:ietf:params:scim:api:messages:2.0:ListResponse"], "Resources": [
        {"schemas": ["urn:ietf:params:scim:schemas:core:2.0:User"], "userName": "dan", "active": false,
            "roles": [{"value": "clerk"}]}]});
    std::fs::write(&file, users.to_string()).unwrap();
    let import = [
        "access",
        "import",
        "--json",
        "--url",
        &service.url,
        "--form",
        "scim",
        "--tenant",
        "acme",
        "--as-of",
        "2026-02-01",
        file.to_str().unwrap(),
    ];
    let imported = crate::program::run_json_in(&[("PIPEROLL_KEY", service.key.clone())], &import);
    assert_eq!(imported["snapshots"][0]["entitlements"], 1, "{imported}");
    let rules = json!({"roles": {"clerk": {"uses": ["invoice.*"]},
            "billing_admin": {"uses": ["invoice.*", "refund_*"], "lesser": "clerk"}},
        "conflicts": [{"name": "pays and approves", "one": ["billing*"], "other": ["approver"]}]});
    let change = json!({"change": "review.rules", "tenant": "acme", "rules": rules, "reason": "agreed"});
    service.change(&[change]);
    let answer = answer(&service, &json!({"tenants": ["acme"], "since": "2026-02-01T00:00:00Z"})).await;
    let of = |kind: &str| found(&answer, kind).into_iter().map(|(_, who)| who).collect::<Vec<_>>();
    assert_eq!(of("over_privileged"), ["ann"], "{}", answer["findings"]);
    assert_eq!((of("conflict"), of("orphaned")), (vec!["bob".to_string()], vec!["dan".to_string()]));
    // The first administrator's grant is their own, too.
    assert_eq!(of("self_granted"), ["cat", "administrator"]);
    assert_eq!(of("elevation_unapproved"), ["sup-1"]);
    let ann = answer["entitlements"].as_array().unwrap().iter().find(|one| one["subject"] == "ann").unwrap();
    assert_eq!((&ann["uses"], &ann["used_by"]), (&json!(1), &json!("role")), "{ann}");
    assert_eq!(answer["rules"].as_array().unwrap().len(), 1);
    // What of a file cannot be read would be over by its snapshot: nothing is sent.
    let rows = folder.path().join("rows.csv");
    std::fs::write(&rows, "subject,role,since\nann,clerk,2026-01-01\nmallory,admin,soon\n").unwrap();
    let output = crate::program::run_in(
        &[("PIPEROLL_KEY", service.key.clone())],
        &[
            "access",
            "import",
            "--url",
            &service.url,
            "--form",
            "rows",
            "--tenant",
            "acme",
            "--as-of",
            "2026-02-01",
            rows.to_str().unwrap(),
        ],
    );
    let said = String::from_utf8_lossy(&output.stderr).to_string();
    assert!(!output.status.success() && said.contains("nothing was sent") && said.contains("since is no"), "{said}");
}
