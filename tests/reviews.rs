//! Access reviews that are held: a frozen population, reviewers who decide on what is theirs and nothing else, revocations
//! that are carried out here and confirmed from elsewhere, and the report.
//!
//! Not here: what is found about access (`entitlements`), the fold of a review (`access::registry`).

use crate::program::{Service, Visitor};
use ledger::report::ReportNote;
use serde_json::{Value, json};
use std::time::{Duration, Instant};

async fn ask(of: &Visitor, path: &str, body: &Value) -> (u16, Value) {
    of.post_with(path, body.to_string(), &[("content-type", "application/json")]).await
}

async fn get(of: &Visitor, path: &str) -> Value {
    let (status, text) = of.get(path).await;
    assert_eq!(status, 200, "{path}: {text}");
    serde_json::from_str(&text).unwrap()
}

/// A principal with a grant and a key.
fn person(service: &Service, name: &str, role: &str, tenant: &str) -> Visitor {
    let made = service.change(&[
        json!({"change": "principal.create", "principal": name, "kind": "user", "home": tenant}),
        json!({"change": "grant.create", "principal": name, "role": role, "tenants": [tenant]}),
        json!({"change": "credential.create", "principal": name}),
    ]);
    service.with_key(made["changes"][2]["key"].as_str().unwrap())
}

fn role(id: &str, action: &str, subject: &str, role: &str, time: &str) -> String {
    json!({"id": id, "tenant": "acme", "time": time, "action": action, "outcome": "success", "approval_id": "apr-1",
        "actor": {"type": "user", "id": "hr"}, "resource": {"type": "user", "id": subject}, "attributes": {"role": role}})
    .to_string()
}

/// `acme` with two administrators, a clerk, and people who have roles elsewhere.
async fn acme(service: &Service) -> [Visitor; 3] {
    let people = [
        person(service, "rita", "tenant-administrator", "acme"),
        person(service, "sam", "tenant-administrator", "acme"),
        person(service, "omar", "tenant-auditor", "acme"),
    ];
    let events = [
        role("g1", "role.grant", "ann", "billing-clerk", "2026-01-05T00:00:00Z"),
        role("g2", "role.grant", "bob", "billing-clerk", "2026-01-05T00:00:00Z"),
        role("g3", "role.grant", "Rita", "approver", "2026-01-05T00:00:00Z"),
    ];
    assert_eq!(service.post("/v1/events", events.join("\n")).await.1["accepted"], 3);
    people
}

/// A compliance officer of the whole platform.
fn officer(service: &Service) -> Visitor {
    let made = service.change(&[
        json!({"change": "principal.create", "principal": "cora", "kind": "user"}),
        json!({"change": "grant.create", "principal": "cora", "role": "compliance-officer", "tenants": ["platform"],
            "subtree": true}),
        json!({"change": "credential.create", "principal": "cora"}),
    ]);
    service.with_key(made["changes"][2]["key"].as_str().unwrap())
}

async fn open(by: &Visitor) -> (String, Value) {
    let question = json!({"title": "autumn", "tenant": "acme", "due_at": "2099-01-01T00:00:00Z",
        "question": {"tenants": ["acme"], "since": "2026-01-01T00:00:00Z"}});
    let (status, made) = ask(by, "/v1/access/reviews", &question).await;
    assert_eq!(status, 200, "{made}");
    (made["made"]["review"].as_str().unwrap().to_string(), made)
}

/// Number of the item about a subject with a role.
fn item(items: &Value, subject: &str, role: &str) -> u64 {
    let all = items["items"].as_array().unwrap();
    let found = all.iter().find(|one| one["subject"] == subject && one["role"] == role);
    found.unwrap_or_else(|| panic!("{subject} {role}: {items}"))["item"].as_u64().unwrap()
}

#[tokio::test]
async fn a_review_is_decided_carried_out_confirmed_and_reported() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start(folder.path(), &[]);
    let [rita, sam, omar] = acme(&service).await;
    let (id, made) = open(&rita).await;
    assert_eq!(made["found"]["items"], 6, "{made}");
    let base = format!("/v1/access/reviews/{id}");
    let items = get(&rita, &format!("{base}/items")).await;
    // Nobody decides on what is theirs, by whatever name it is called.
    for one in items["items"].as_array().unwrap() {
        let subject = one["subject"].as_str().unwrap().to_lowercase();
        assert_eq!(one["reviewer"], if subject == "rita" { "sam" } else { "rita" }, "{one}");
    }
    let mine = get(&sam, &format!("{base}/items?mine=true")).await;
    assert_eq!(mine["items"].as_array().unwrap().len(), 2, "{mine}");
    assert_eq!(omar.get(&base).await.0, 200, "an auditor may see it");
    let of_omar = item(&items, "omar", "tenant-auditor");
    let refusals = [
        (&sam, json!({"select": {"items": [[of_omar, of_omar]]}, "decision": "keep", "reason": "x"}), 422),
        (&omar, json!({"decision": "keep", "reason": "x"}), 422),
        (&rita, json!({"decision": "keep", "reason": ""}), 200),
        (&rita, json!({"decision": "delegate", "delegate": "sam", "reason": "x", "covers": "0"}), 409),
    ];
    for (who, body, expected) in refusals {
        let (status, answer) = ask(who, &format!("{base}/decisions"), &body).await;
        assert_eq!(status, expected, "{body}: {answer}");
        assert_ne!(answer["decided"], true);
    }
    // In bulk: shown first, and only what was shown is decided.
    let bulk = json!({"select": {"roles": ["billing-*"]}, "decision": "revoke", "reason": "the team was dissolved"});
    let shown = ask(&rita, &format!("{base}/decisions"), &bulk).await.1;
    assert_eq!((&shown["decided"], &shown["would"]["count"]), (&json!(false), &json!(2)), "{shown}");
    let mut agreed = bulk.clone();
    agreed["covers"] = shown["would"]["covers"].clone();
    agreed["select"] = json!({"subjects": ["ann"]});
    assert_eq!(ask(&rita, &format!("{base}/decisions"), &agreed).await.0, 409);
    agreed["select"] = bulk["select"].clone();
    let (status, decided) = ask(&rita, &format!("{base}/decisions"), &agreed).await;
    assert_eq!((status, &decided["count"], &decided["carried_out"]), (200, &json!(2), &json!([])), "{decided}");
    // A grant of the registry goes with the decision.
    assert_eq!(omar.query(&["acme"], "SELECT count(*) FROM audit").await.0, 200);
    let one = |subject: &str, role: &str| {
        let n = item(&items, subject, role);
        json!({"items": [[n, n]]})
    };
    let revoke = json!({"select": one("omar", "tenant-auditor"), "decision": "revoke", "reason": "moved on"});
    let (status, decided) = ask(&rita, &format!("{base}/decisions"), &revoke).await;
    assert_eq!((status, &decided["carried_out"][0]["made"]["change"]), (200, &json!("grant.revoke")), "{decided}");
    assert_eq!(omar.query(&["acme"], "SELECT count(*) FROM audit").await.0, 403);
    let keep = json!({"select": one("omar", "tenant-auditor"), "decision": "keep", "reason": "no"});
    assert_eq!(ask(&rita, &format!("{base}/decisions"), &keep).await.0, 409);
    // What is elsewhere is outstanding until an event confirms it.
    assert_eq!(get(&rita, &base).await["outstanding"], 2);
    let gone = role("r1", "role.revoke", "ANN", "billing-clerk", "2026-06-01T00:00:00Z");
    assert_eq!(service.post("/v1/events", gone).await.1["accepted"], 1);
    let begin = Instant::now();
    while get(&rita, &base).await["outstanding"] != 1 {
        assert!(begin.elapsed() < Duration::from_secs(60), "{}", get(&rita, &base).await);
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
    for who in [&rita, &sam] {
        let rest = json!({"decision": "keep", "reason": "needed"});
        let mut rest_agreed = rest.clone();
        rest_agreed["covers"] = ask(who, &format!("{base}/decisions"), &rest).await.1["would"]["covers"].clone();
        assert_eq!(ask(who, &format!("{base}/decisions"), &rest_agreed).await.0, 200);
    }
    let (status, closed) = ask(&rita, &format!("{base}/close"), &json!({"reason": "done"})).await;
    assert_eq!(status, 200, "{closed}");
    let report = &closed["answer"];
    assert_eq!(report["coverage"], json!({"decided": 6, "of": 6, "after_due": 0}));
    assert_eq!(report["decisions"], json!({"keep": 3, "narrow": 0, "revoke": 3}));
    assert_eq!(report["revocations"], json!({"carried_out": 1, "confirmed": 1, "outstanding": 1}));
    let note = closed["note"].as_str().unwrap();
    let opened = ReportNote::open(
        note.as_bytes(),
        &service.key().await.name().split('/').next().unwrap().parse().unwrap(),
        &[service.key().await],
    )
    .unwrap();
    assert_eq!(
        (opened.kind.as_str(), opened.sha256.to_hex()),
        ("access-review", closed["answer_sha256"].as_str().unwrap().to_string())
    );
    let late = json!({"select": one("rita", "tenant-administrator"), "decision": "revoke", "reason": "late"});
    let (status, refused) = ask(&sam, &format!("{base}/decisions"), &late).await;
    assert!(status == 409 && refused["detail"].as_str().unwrap().contains("closed"), "{refused}");
    // A new start folds the same.
    let (before, row) =
        (get(&rita, &base).await, service.rows(&["acme"], "SELECT state, items, open_items FROM reviews").await);
    assert_eq!(row, [[json!("closed"), json!(6), json!(0)]]);
    let key = service.key.clone();
    service.stop();
    let service = Service::start_in(&[("PIPEROLL_KEY", key)], folder.path(), &[]);
    assert_eq!(get(&service.with_key(&service.key), &base).await, before);
}

#[tokio::test]
async fn a_grant_is_narrowed_to_what_is_within_it() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start(folder.path(), &[]);
    let [rita, _, omar] = acme(&service).await;
    let (id, _) = open(&rita).await;
    let decisions = format!("/v1/access/reviews/{id}/decisions");
    let items = get(&rita, &format!("/v1/access/reviews/{id}/items")).await;
    let number = item(&items, "omar", "tenant-auditor");
    let narrow = |to: Value| json!({"select": {"items": [[number, number]]}, "decision": "narrow", "reason": "telemetry is not theirs", "to": to});
    let less = json!({"principal": "omar", "role": "tenant-auditor", "tenants": ["acme"], "streams": ["audit"]});
    let with = |name: &str, value: Value| {
        let mut more = less.clone();
        more[name] = value;
        more
    };
    for (to, why) in [
        (with("role", json!("tenant-administrator")), "not a narrower grant"),
        (with("principal", json!("sam")), "not a narrower grant"),
        (with("tenants", json!(["acme", "globex"])), "not a narrower"),
        (with("subtree", json!(true)), "not a narrower"),
        (json!("only audit"), "takes its place"),
    ] {
        let (status, refused) = ask(&rita, &decisions, &narrow(to.clone())).await;
        assert!(status == 422 && refused["detail"].as_str().unwrap().contains(why), "{to}: {status} {refused}");
    }
    assert_eq!(omar.query(&["acme"], "SELECT count(*) FROM telemetry").await.0, 200);
    let (status, made) = ask(&rita, &decisions, &narrow(less.clone())).await;
    assert_eq!(status, 200, "{made}");
    let changes: Vec<&str> =
        made["carried_out"].as_array().unwrap().iter().map(|one| one["made"]["change"].as_str().unwrap()).collect();
    assert_eq!(changes, ["grant.revoke", "grant.create"]);
    let post =
        service.post("/v1/tenants/acme/telemetry/events", role("t1", "job.run", "x", "y", "2026-06-01T00:00:00Z"));
    assert_eq!(post.await.0, 200);
    assert_eq!(omar.query(&["acme"], "SELECT count(*) FROM audit").await.0, 200);
    let (status, _) = omar.get("/v1/tenants/acme/telemetry/events").await;
    assert_eq!(status, 403);
}

#[tokio::test]
async fn whoever_has_nothing_to_do_with_a_review_learns_nothing_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start(folder.path(), &[]);
    let [rita, ..] = acme(&service).await;
    let (id, made) = open(&rita).await;
    let other = person(&service, "eve", "tenant-administrator", "globex");
    for path in ["", "/items", "/report"] {
        let (status, text) = other.get(&format!("/v1/access/reviews/{id}{path}")).await;
        let (_, none) = other.get(&format!("/v1/access/reviews/r0000000000000000{path}")).await;
        assert_eq!((status, text.replace(&id, "")), (404, none.replace("r0000000000000000", "")), "{path}");
    }
    for (path, body) in [("decisions", json!({"decision": "keep", "reason": "x"})), ("close", json!({"reason": "x"}))] {
        assert_eq!(ask(&other, &format!("/v1/access/reviews/{id}/{path}"), &body).await.0, 404, "{path}");
    }
    // Reviews are opened, decided and closed by routes of their own: the registry takes none of their changes.
    for change in [
        made["made"].clone(),
        json!({"change": "review.items", "review": id, "first": 0, "items": []}),
        json!({"change": "review.decide", "review": id, "items": [[0, 0]], "decision": "keep", "reason": "x"}),
        json!({"change": "review.close", "id": id, "reason": "x"}),
    ] {
        let (status, refused) = service.try_change(&service.key, std::slice::from_ref(&change));
        assert_eq!(status, 422, "{change}: {refused}");
    }
    // Somebody of another tenant cannot hold one about this, nor a tenant one about what is not its own.
    let question = |tenant: &str, of: &str| {
        json!({"title": "t", "tenant": tenant, "due_at": "2099-01-01T00:00:00Z",
        "question": {"tenants": [of]}})
    };
    assert_eq!(ask(&other, "/v1/access/reviews", &question("acme", "acme")).await.0, 403);
    assert_eq!(ask(&other, "/v1/access/reviews", &question("globex", "acme")).await.0, 403);
    let late =
        json!({"title": "t", "tenant": "acme", "due_at": "2020-01-01T00:00:00Z", "question": {"tenants": ["acme"]}});
    let (status, refused) = ask(&rita, "/v1/access/reviews", &late).await;
    assert!(status == 422 && refused["detail"].as_str().unwrap().contains("in the future"), "{refused}");
}

#[tokio::test]
async fn a_grant_of_several_tenants_goes_only_where_all_of_it_is_decided() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start(folder.path(), &[]);
    let [rita, ..] = acme(&service).await;
    let both =
        json!({"change": "grant.create", "principal": "eve", "role": "tenant-auditor", "tenants": ["acme", "globex"]});
    service.change(&[json!({"change": "principal.create", "principal": "eve", "kind": "user"}), both]);
    let (id, _) = open(&rita).await;
    let base = format!("/v1/access/reviews/{id}");
    let number = item(&get(&rita, &format!("{base}/items")).await, "eve", "tenant-auditor");
    let revoke = json!({"select": {"items": [[number, number]]}, "decision": "revoke", "reason": "x"});
    let (status, refused) = ask(&rita, &format!("{base}/decisions"), &revoke).await;
    assert!(status == 422 && refused["detail"].as_str().unwrap().contains("reaches further"), "{refused}");
    // Of the whole platform, decided at both: it goes.
    let officer = officer(&service);
    let whole = json!({"title": "all", "due_at": "2099-01-01T00:00:00Z", "question": {"subtree": "platform"},
        "reviewers": [{"principal": "cora"}], "escalate_to": "administrator"});
    let (status, made) = ask(&officer, "/v1/access/reviews", &whole).await;
    assert_eq!(status, 200, "{made}");
    let base = format!("/v1/access/reviews/{}", made["made"]["review"].as_str().unwrap());
    let mut both = json!({"select": {"subjects": ["eve"]}, "decision": "revoke", "reason": "x"});
    let shown = ask(&officer, &format!("{base}/decisions"), &both).await.1;
    assert_eq!((&shown["would"]["count"], &shown["would"]["in_registry"]), (&json!(2), &json!(2)), "{shown}");
    both["covers"] = shown["would"]["covers"].clone();
    let (status, decided) = ask(&officer, &format!("{base}/decisions"), &both).await;
    assert_eq!((status, decided["carried_out"].as_array().unwrap().len()), (200, 1), "{decided}");
    // In the first review it can no longer be kept: it is gone.
    let keep = json!({"select": {"items": [[number, number]]}, "decision": "keep", "reason": "x"});
    let (status, refused) = ask(&rita, &format!("/v1/access/reviews/{id}/decisions"), &keep).await;
    assert!(status == 409 && refused["detail"].as_str().unwrap().contains("meanwhile"), "{refused}");
}

#[tokio::test]
async fn a_reviewer_sees_what_is_theirs_of_a_review_of_many() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start(folder.path(), &[]);
    let [rita, ..] = acme(&service).await;
    let gail = person(&service, "gail", "tenant-administrator", "globex");
    person(&service, "gus", "tenant-auditor", "globex");
    let officer = officer(&service);
    let whole = json!({"title": "all", "due_at": "2099-01-01T00:00:00Z", "question": {"subtree": "platform"},
        "escalate_to": "administrator"});
    let (status, made) = ask(&officer, "/v1/access/reviews", &whole).await;
    assert_eq!(status, 200, "{made}");
    let base = format!("/v1/access/reviews/{}", made["made"]["review"].as_str().unwrap());
    let tenants = |items: &Value| -> Vec<String> {
        let mut all: Vec<String> =
            items["items"].as_array().unwrap().iter().map(|one| one["tenant"].as_str().unwrap().to_string()).collect();
        all.dedup();
        all
    };
    assert!(tenants(&get(&officer, &format!("{base}/items")).await).len() > 2);
    for (who, own) in [(&rita, "acme"), (&gail, "globex")] {
        assert_eq!(tenants(&get(who, &format!("{base}/items")).await), [own]);
        let shown = get(who, &base).await;
        assert!(
            shown.get("question").is_none() && shown["open_by_reviewer"].as_object().unwrap().len() == 1,
            "{shown}"
        );
        assert_eq!(who.get(&format!("{base}/report")).await.0, 403);
        assert_eq!(ask(who, &format!("{base}/close"), &json!({"reason": "x"})).await.0, 403);
    }
    // Rules, times and heads of one's own would choose what there is to review.
    for more in [
        json!({"rules": {}}),
        json!({"as_of": "2026-01-01T00:00:00Z"}),
        json!({"heads": [
        {"tenant": "platform", "stream": "control", "size": 1}]}),
    ] {
        let mut question = json!({"tenants": ["acme"]});
        question.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let body = json!({"title": "t", "tenant": "acme", "due_at": "2099-01-01T00:00:00Z", "question": question});
        let (status, refused) = ask(&rita, "/v1/access/reviews", &body).await;
        assert!(status == 422 && refused["detail"].as_str().unwrap().contains("leave out"), "{more}: {refused}");
    }
    let (status, refused) = ask(
        &rita,
        &format!("{base}/decisions"),
        &json!({"select": {"items": [[0, 4294967295u32]]}, "decision": "keep", "reason": "x"}),
    )
    .await;
    assert_eq!(status, 422, "{refused}");
}

#[tokio::test]
async fn when_it_is_due_what_is_open_goes_to_somebody_else() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start(folder.path(), &[]);
    let [rita, sam, _] = acme(&service).await;
    let due = ledger::time::format_micros(now() + 3_000_000);
    let question = json!({"title": "soon", "tenant": "acme", "due_at": due, "escalate_to": "sam", "remind_days": [1],
        "question": {"tenants": ["acme"], "since": "2026-01-01T00:00:00Z"}});
    let (status, made) = ask(&rita, "/v1/access/reviews", &question).await;
    assert_eq!(status, 200, "{made}");
    let base = format!("/v1/access/reviews/{}", made["made"]["review"].as_str().unwrap());
    let begin = Instant::now();
    while get(&rita, &base).await["escalated_at"].is_null() {
        assert!(begin.elapsed() < Duration::from_secs(60), "{}", get(&rita, &base).await);
        tokio::time::sleep(Duration::from_millis(200)).await;
        let (status, done) = service.post("/v1/jobs/reminders/runs", "").await;
        assert!(status == 200 && done["outcome"] == "ok", "{done}");
    }
    let shown = get(&rita, &base).await;
    assert_eq!(shown["reminders"][0]["days"], 1, "{shown}");
    // All but sam's own, which stays with rita.
    assert_eq!(shown["open_by_reviewer"], json!({"rita": 1, "sam": 5}), "{shown}");
    let told = service.rows(&["acme"], "SELECT action FROM access WHERE resource_type = 'review' ORDER BY 1").await;
    assert_eq!(told, [[json!("review.escalate")], [json!("review.open")], [json!("review.remind")]]);
    let items = get(&sam, &format!("{base}/items?mine=true&open=true")).await;
    let first = items["items"][0]["item"].as_u64().unwrap();
    let taken = json!({"select": {"items": [[first, first]]}, "decision": "keep", "reason": "needed"});
    let (status, decided) = ask(&sam, &format!("{base}/decisions"), &taken).await;
    assert_eq!(status, 200, "{decided}");
}

fn now() -> i64 {
    let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    i64::try_from(since.as_micros()).unwrap()
}
