//! The front door from outside: every route with every role, credentials of every kind, the record of it all.
//!
//! Not here: rules of single changes (`access`), what SQL cannot reach (`escapes`).

use crate::program::{Service, Visitor, events};
use serde_json::{Value, json};

/// Makes a principal with one role on some tenants, and answers its key.
pub fn principal(service: &Service, name: &str, home: Option<&str>, role: &str, tenants: &[&str]) -> String {
    principal_with(service, name, home, json!({"role": role, "tenants": tenants}))
}

/// The same, with all that a grant can say.
pub fn principal_with(service: &Service, name: &str, home: Option<&str>, mut grant: Value) -> String {
    let kind = if name.contains("service") { "service" } else { "user" };
    let mut who = json!({"change": "principal.create", "principal": name, "kind": kind});
    if let Some(home) = home {
        who["home"] = home.into();
    }
    grant["change"] = "grant.create".into();
    grant["principal"] = name.into();
    let made = service.change(&[who, grant, json!({"change": "credential.create", "principal": name})]);
    made["changes"][2]["key"].as_str().unwrap().to_string()
}

/// Entries of a stream, as its reader sees them.
pub async fn entries(of: &Visitor, tenant: &str, stream: &str) -> Vec<Value> {
    let (status, page) = of.get(&format!("/v1/tenants/{tenant}/{stream}/events?limit=1000")).await;
    assert_eq!(status, 200, "{page}");
    let page: Value = serde_json::from_str(&page).unwrap();
    page["events"].as_array().unwrap().clone()
}

fn actions(entries: &[Value]) -> Vec<&str> {
    entries.iter().map(|entry| entry["action"].as_str().unwrap()).collect()
}

const ONE: &str = "SELECT count(*) FROM audit";

#[tokio::test]
async fn nobody_is_served_without_a_valid_key_and_each_refusal_is_on_the_record() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start(folder.path(), &[]);
    service.post("/v1/events", events("acme", 0, 3)).await;
    let auditor = principal(&service, "auditor", Some("acme"), "tenant-auditor", &["acme"]);
    assert_eq!(service.with_key(&auditor).query(&["acme"], ONE).await.0, 200);
    let make = |more: Value| {
        let mut change = json!({"change": "credential.create", "principal": "auditor"});
        change.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        let made = service.change(&[change]);
        (made["changes"][0]["key"].as_str().unwrap().to_string(), made["changes"][0]["made"]["credential"].clone())
    };
    let soon = ledger::time::format_micros(now() + 400_000);
    let (expired, _) = make(json!({"expires_at": soon}));
    let (early, _) = make(json!({"not_before": "2999-01-01T00:00:00Z"}));
    let (revoked, id) = make(json!({}));
    let (old, old_id) = make(json!({}));
    let (new, _) = make(json!({"replaces": old_id, "overlap_minutes": 0}));
    service.change(&[json!({"change": "credential.revoke", "id": id, "reason": "left a laptop on a train"})]);
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    let changed = auditor.replace(&auditor[auditor.len() - 4..], "0000");
    let other_id = new.replace(new.split('_').nth(2).unwrap(), auditor.split('_').nth(2).unwrap());
    for (what, key) in [
        ("expired", expired.as_str()),
        ("not valid yet", &early),
        ("revoked", &revoked),
        ("replaced", &old),
        ("of another secret", &changed),
        ("of another id", &other_id),
        ("no key", "prl_usr_nothing"),
        ("a token without a signature", "eyJhbGciOiJub25lIn0.eyJzdWIiOiJhZG1pbmlzdHJhdG9yIn0."),
        ("nothing", "x"),
    ] {
        let visitor = service.with_key(key);
        for (status, answer) in [
            visitor.query(&["acme"], ONE).await,
            visitor.post_with("/v1/events", events("acme", 9, 1), &[]).await,
            visitor.post_with("/v1/registry", r#"{"changes":[]}"#, &[]).await,
        ] {
            assert_eq!(
                (status, answer["type"].as_str()),
                (401, Some("urn:piperoll:problem:unauthenticated")),
                "{what}"
            );
        }
        for path in [
            "/v1/tenants/acme/audit/events",
            "/v1/tenants/acme/audit/checkpoint",
            "/v1/tenants/acme/audit/proof/inclusion?seq=0",
            "/v1/tenants/acme/audit/proof/consistency?from=1",
            "/v1/tenants/acme/audit/tile/0/000.p/3",
            "/v1/registry/grants",
            "/v1/whoami",
            "/metrics",
        ] {
            assert_eq!(visitor.get(path).await.0, 401, "{what} {path}");
        }
    }
    assert_eq!(service.with_key(&new).query(&["acme"], ONE).await.0, 200, "its successor is valid");
    // A suspended principal is known and not let in; afterwards it is again.
    let act = |what: &str| json!({"change": format!("principal.{what}"), "principal": "auditor", "reason": "on leave"});
    service.change(&[act("suspend")]);
    assert_eq!(service.with_key(&new).query(&["acme"], ONE).await.0, 403);
    service.change(&[act("resume")]);
    assert_eq!(service.with_key(&new).query(&["acme"], ONE).await.0, 200);
    // One refusal per source and minute and reason, none in the stream of the tenant that was merely named.
    let control = entries(&service.with_key(&service.key), "platform", "control").await;
    let failed: Vec<&Value> = control.iter().filter(|entry| entry["action"] == "authentication.failed").collect();
    let mut codes: Vec<&str> = failed.iter().map(|entry| entry["attributes"]["code"].as_str().unwrap()).collect();
    codes.sort_unstable();
    assert_eq!(codes, ["expired", "malformed", "not_yet_valid", "revoked", "suspended", "unknown"]);
    assert!(failed.iter().all(|entry| entry["source_ip"] == "127.0.0.1" && entry["outcome"] == "denied"));
    let told = entries(&service.with_key(&auditor), "acme", "access").await;
    assert!(!actions(&told).contains(&"authentication.failed"));
    // What was shown once is nowhere else.
    let secret = auditor.rsplit('_').next().unwrap();
    assert!(!control.iter().chain(&told).any(|entry| entry.to_string().contains(secret)));
}

fn now() -> i64 {
    std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap().as_micros() as i64
}

#[tokio::test]
async fn every_route_answers_each_role_as_it_is_granted() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start(folder.path(), &[]);
    for tenant in ["acme", "globex"] {
        service.post("/v1/events", events(tenant, 0, 3)).await;
    }
    // (role, home, may append, may read events, may read access, may see grants, may see metrics)
    let roles = [
        ("security-analyst", None, [false, true, true, true, false]),
        ("sre", None, [false, true, false, false, false]),
        ("support", None, [false, false, false, false, false]),
        ("compliance-officer", None, [false, true, true, true, false]),
        ("tenant-administrator", Some("acme"), [true, true, true, true, false]),
        ("tenant-auditor", Some("acme"), [false, true, true, true, false]),
        ("external-auditor", None, [false, true, true, false, false]),
        ("partner-administrator", None, [false, false, false, true, false]),
        ("ingest-service", Some("acme"), [true, false, false, false, false]),
        ("retention-job", None, [false, false, false, false, false]),
    ];
    for (at, (role, home, may)) in roles.into_iter().enumerate() {
        let name = format!("service-or-person-{at}");
        let key = principal(&service, &name, home, role, &["acme"]);
        let visitor = service.with_key(&key);
        let [append, read, access, grants, metrics] = may;
        // On the tenant it is granted, on another, and on one that is not there: the last two answer alike.
        for (tenant, granted) in [("acme", true), ("globex", false), ("nowhere", false)] {
            let expected = |may: bool| if may && granted { 200 } else { 403 };
            let path = |rest: &str| format!("/v1/tenants/{tenant}/{rest}");
            let told = format!("{role} on {tenant}");
            let one = events(tenant, 100 + at, 1);
            let (status, answer) = visitor.post_with("/v1/events", one.clone(), &[]).await;
            assert_eq!(status, expected(append), "{told}: {answer}");
            let (status, _) = visitor.post_with(&path("audit/events"), one, &[]).await;
            assert_eq!(status, expected(append), "{told}");
            assert_eq!(visitor.post_with(&path("access/events"), "{}", &[]).await.0, 403, "{told}");
            assert_eq!(visitor.query(&[tenant], "SELECT 1").await.0, expected(read), "{told}");
            for rest in [
                "audit/events",
                "audit/checkpoint",
                "audit/proof/inclusion?seq=0",
                "audit/proof/consistency?from=1",
                "audit/tile/0/000.p/1",
            ] {
                let (status, answer) = visitor.get(&path(rest)).await;
                assert_eq!(status, expected(read), "{told} {rest}: {answer}");
                assert!(status == 200 || !answer.contains("user"), "{answer}");
            }
            assert_eq!(visitor.get(&path("access/events")).await.0, expected(access), "{told}");
            assert_eq!(visitor.get("/v1/tenants/platform/control/events").await.0, 403, "{told}");
        }
        let (status, rows) = visitor.get("/v1/registry/grants").await;
        let rows: Value = serde_json::from_str(&rows).unwrap();
        let rows = rows["rows"].as_array().unwrap();
        assert_eq!((status, rows.is_empty()), (200, !grants), "{role}");
        assert!(rows.iter().all(|row| row["tenants"] == json!(["acme"])), "{role}: only what is about its tenant");
        assert_eq!(visitor.get("/metrics").await.0, if metrics { 200 } else { 403 }, "{role}");
        assert_eq!(visitor.get("/v1/whoami").await.0, 200);
        // None of them makes tenants, or reaches another tenant's principals.
        let (status, _) = service
            .try_change(&key, &[json!({"change": "tenant.create", "tenant": format!("new-{at}"), "parent": "globex"})]);
        assert_eq!(status, 403, "{role}");
        let (status, _) = service.try_change(
            &key,
            &[json!({"change": "principal.create", "principal": format!("p-{at}"), "kind": "user", "home": "globex"})],
        );
        assert_eq!(status, 403, "{role}");
    }
    // What is open to everybody tells nothing of what is held.
    let nobody = service.with_key("x");
    for path in ["/healthz", "/readyz", "/v1/keys", "/v1/stores/main/checkpoint"] {
        let (status, answer) = nobody.get(path).await;
        assert!(status == 200 && !answer.contains("acme"), "{path}: {answer}");
    }
}

#[tokio::test]
async fn nobody_hands_on_more_than_they_have() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start(folder.path(), &[]);
    let administrator = principal_with(
        &service,
        "owner",
        Some("acme"),
        json!({"role": "tenant-administrator", "tenants": ["acme"], "masked": ["origin"], "streams": ["audit"]}),
    );
    for (name, home) in [("clerk", "acme"), ("stranger", "globex")] {
        service.change(&[json!({"change": "principal.create", "principal": name, "kind": "user", "home": home})]);
    }
    let grant = |more: Value| {
        let mut change = json!({"change": "grant.create", "principal": "clerk", "role": "tenant-auditor",
            "tenants": ["acme"], "streams": ["audit"], "masked": ["origin"]});
        change.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        service.try_change(&administrator, &[change])
    };
    assert_eq!(grant(json!({})).0, 200, "as much as one has");
    assert_eq!(grant(json!({"masked": ["origin", "actor"]})).0, 200, "less");
    for (more, says) in [
        (json!({"masked": []}), "nobody hands on"),
        (json!({"masked": ["actor"]}), "nobody hands on"),
        (json!({"streams": []}), "nobody hands on"),
        (json!({"streams": ["access"]}), "nobody hands on"),
        (json!({"role": "security-analyst"}), "nobody hands on"),
        (json!({"role": "platform-administrator"}), "nobody hands on"),
        (json!({"subtree": true}), "nobody hands on"),
        (json!({"tenants": ["globex"]}), "not granted"),
        (json!({"tenants": ["acme", "globex"]}), "not granted"),
        (json!({"tenants": ["platform"]}), "not granted"),
        (json!({"role": "king"}), "no policy knows"),
    ] {
        let (status, problem) = grant(more.clone());
        assert_eq!(status, 403, "{more}: {problem}");
        assert!(problem["detail"].as_str().unwrap().contains(says), "{more}: {problem}");
    }
    // Nor does a tenant's administrator become somebody who has rights elsewhere; one's own key one may replace.
    service.change(&[json!({"change": "grant.create", "principal": "clerk", "role": "sre", "tenants": ["globex"]})]);
    let key = |principal: &str| {
        service.try_change(&administrator, &[json!({"change": "credential.create", "principal": principal})]).0
    };
    assert_eq!([key("clerk"), key("stranger"), key("administrator"), key("owner")], [403, 403, 403, 200]);
    // What ends is handed on until its end, what is not a subtree is not, and a narrow key hands nothing on.
    let ends = ledger::time::format_micros(now() + 3_600_000_000);
    let guest = principal_with(
        &service,
        "guest",
        Some("acme"),
        json!({"role": "tenant-administrator", "tenants": ["acme"], "expires_at": ends}),
    );
    service.change(&[json!({"change": "grant.create", "principal": "guest", "role": "ingest-service", "tenants": ["acme"], "subtree": true})]);
    let hand_on = |key: &str, more: Value| {
        let mut change =
            json!({"change": "grant.create", "principal": "clerk", "role": "tenant-auditor", "tenants": ["acme"]});
        change.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        service.try_change(key, &[change]).0
    };
    assert_eq!(hand_on(&guest, json!({"expires_at": ends})), 200);
    assert_eq!(hand_on(&guest, json!({})), 403, "without its end");
    assert_eq!(hand_on(&guest, json!({"expires_at": ends, "subtree": true})), 403, "another role's subtree");
    let narrow =
        json!({"change": "credential.create", "principal": "owner", "actions": ["grant.manage", "credential.manage"]});
    let narrow = service.change(&[narrow])["changes"][0]["key"].as_str().unwrap().to_string();
    assert_eq!(hand_on(&narrow, json!({"streams": ["audit"], "masked": ["origin"]})), 403);
    assert_eq!(service.try_change(&narrow, &[json!({"change": "credential.create", "principal": "owner"})]).0, 403);
    let soon = json!({"change": "credential.create", "principal": "owner", "expires_at": ends});
    let soon = service.change(&[soon])["changes"][0]["key"].as_str().unwrap().to_string();
    let own = |more: Value| {
        let mut change = json!({"change": "credential.create", "principal": "owner"});
        change.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        service.try_change(&soon, &[change]).0
    };
    assert_eq!([own(json!({"expires_at": ends}))], [200], "as long as it lasts");
    // Who may do nothing somewhere is told nothing of what is there.
    let visitor = principal(&service, "visitor", Some("acme"), "ingest-service", &["acme"]);
    for change in [
        json!({"change": "grant.create", "principal": "nobody", "role": "sre", "tenants": ["nowhere"]}),
        json!({"change": "grant.create", "principal": "clerk", "role": "sre", "tenants": ["globex"]}),
        json!({"change": "tenant.update", "tenant": "globex"}),
        json!({"change": "tenant.suspend", "tenant": "globex", "reason": "x"}),
        json!({"change": "principal.create", "principal": "clerk", "kind": "user"}),
        json!({"change": "grant.revoke", "id": "g1", "reason": "x"}),
        json!({"change": "credential.revoke", "id": "k1", "reason": "x"}),
        json!({"change": "elevation.approve", "id": "e1", "reason": "x"}),
    ] {
        let (status, problem) = service.try_change(&visitor, std::slice::from_ref(&change));
        assert_eq!(status, 403, "{change}: {problem}");
        assert!(!problem["detail"].as_str().unwrap().contains("there is"), "{change}: {problem}");
    }
    // A partner sets its tenants up, and cannot give itself or its own people a look at them.
    service.change(&[json!({"change": "tenant.create", "tenant": "reseller"})]);
    let partner = principal_with(
        &service,
        "partner",
        Some("reseller"),
        json!({"role": "partner-administrator", "tenants": ["reseller"], "subtree": true}),
    );
    let ask = |changes: &[Value]| service.try_change(&partner, changes).0;
    let customer = json!({"change": "tenant.create", "tenant": "customer", "parent": "reseller"});
    assert_eq!(ask(&[customer]), 200);
    assert_eq!(ask(&[json!({"change": "tenant.create", "tenant": "other", "parent": "acme"})]), 403);
    let people = [("till-service", "service", "customer"), ("boss", "user", "customer"), ("spy", "user", "reseller")];
    for (name, kind, home) in people {
        assert_eq!(ask(&[json!({"change": "principal.create", "principal": name, "kind": kind, "home": home})]), 200);
    }
    let grant = |principal: &str, role: &str| {
        ask(&[json!({"change": "grant.create", "principal": principal, "role": role, "tenants": ["customer"]})])
    };
    assert_eq!([grant("till-service", "ingest-service"), grant("boss", "tenant-administrator")], [200, 200]);
    for (principal, role) in [
        ("partner", "tenant-administrator"),
        ("partner", "security-analyst"),
        ("spy", "tenant-auditor"),
        ("boss", "security-analyst"),
        ("till-service", "tenant-administrator"),
    ] {
        assert_eq!(grant(principal, role), 403, "{principal} as {role}");
    }
    // Nor can it become one of them: keys of services that only bring events, and nobody else's.
    let key = |principal: &str| ask(&[json!({"change": "credential.create", "principal": principal})]);
    let bind = json!({"change": "identity.bind", "principal": "boss", "certificate": "spiffe://partner"});
    assert_eq!([key("till-service"), key("boss"), key("administrator"), ask(&[bind])], [200, 403, 403, 403]);
    service.change(&[json!({"change": "grant.create", "principal": "till-service", "role": "tenant-auditor", "tenants": ["customer"]})]);
    assert_eq!(key("till-service"), 403, "it could not have granted that");
    // Nor give itself, or its own, a right on the whole of what it administers.
    for (principal, subtree) in [("partner", true), ("spy", true), ("partner", false)] {
        let change = json!({"change": "grant.create", "principal": principal, "role": "tenant-administrator",
            "tenants": ["reseller"], "subtree": subtree});
        assert_eq!(ask(&[change]), 403, "{principal} {subtree}");
    }
    assert_eq!(service.with_key(&partner).query(&["customer"], "SELECT 1").await.0, 403);
    assert_eq!(service.with_key(&partner).get("/v1/tenants/customer/access/events").await.0, 403);
}

#[tokio::test]
async fn who_sees_some_rows_and_sections_is_shown_no_others_by_any_route() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start(folder.path(), &[]);
    let of_unit = |unit: &str, n: usize| {
        crate::program::event(
            &format!("e-{n}"),
            "acme",
            &json!({"business_unit": unit, "attributes": {"amount": n}, "session": format!("s-{n}")}),
        )
    };
    let body: String = (0..10).map(|n| of_unit(["north", "south"][n % 2], n)).collect();
    service.post("/v1/events", body).await;
    let grant = json!({"role": "tenant-auditor", "tenants": ["acme"], "streams": ["audit"], "masked": ["details", "actor"],
        "rows": {"business_unit": ["north"]}});
    let clerk = service.with_key(&principal_with(&service, "clerk", Some("acme"), grant));
    let seen = entries(&clerk, "acme", "audit").await;
    assert_eq!(seen.iter().map(|entry| entry["seq"].as_u64().unwrap()).collect::<Vec<_>>(), [0, 2, 4, 6, 8]);
    assert!(seen.iter().all(|entry| entry["attributes"].is_null() && entry["actor"]["id"].is_null()), "{seen:?}");
    assert!(seen.iter().all(|entry| entry["session"].is_string()));
    let (_, answer) = clerk.query(&["acme"], "SELECT count(*), count(actor_id), max(business_unit) FROM audit").await;
    assert_eq!(answer["rows"], json!([[5, 0, "north"]]));
    for (path, status) in [
        ("audit/events?actor=u-1", 200),
        ("audit/tile/0/000.p/10", 200),
        ("audit/tile/entries/000.p/10", 403),
        ("audit/tile/%65ntries/000.p/10", 404),
        ("audit/proof/inclusion?seq=1", 200),
        ("access/events", 403),
        ("telemetry/events", 403),
    ] {
        let (found, answer) = clerk.get(&format!("/v1/tenants/acme/{path}")).await;
        assert_eq!(found, status, "{path}: {answer}");
        assert!(!answer.contains("south") && !answer.contains("s-1") && !answer.contains("u-1"), "{path}: {answer}");
    }
    assert_eq!(service.get("/v1/tenants/acme/audit/tile/entries/000.p/10").await.0, 200, "who sees all of it");
}

#[tokio::test]
async fn an_administrator_overwrites_nobody_unseen_and_the_past_stays_known() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start(folder.path(), &[]);
    let tenant = |registry: &Value| {
        registry["rows"].as_array().unwrap().iter().find(|row| row["tenant"] == "acme").unwrap().clone()
    };
    let show = |path: String| {
        let visitor = service.with_key(&service.key);
        async move { serde_json::from_str::<Value>(&visitor.get(&path).await.1).unwrap() }
    };
    let before = tenant(&show("/v1/registry/tenants".into()).await);
    let update = |name: &str| {
        let change = json!({"change": "tenant.update", "tenant": "acme", "name": name, "version": before["version"]});
        service.try_change(&service.key, &[change])
    };
    let (status, answer) = update("Acme Ltd");
    assert_eq!(status, 200, "{answer}");
    let (status, problem) = update("ACME");
    assert_eq!((status, problem["type"].as_str()), (409, Some("urn:piperoll:problem:conflict")), "{problem}");
    let after = tenant(&show("/v1/registry/tenants".into()).await);
    assert_eq!([&after["name"], &before["name"]], ["Acme Ltd", ""]);
    let then = before["changed_at"].as_str().unwrap();
    // What is stored is known of now only.
    let without = |mut row: Value| {
        for name in ["entries", "stored_bytes"] {
            row.as_object_mut().unwrap().remove(name);
        }
        row
    };
    assert_eq!(tenant(&show(format!("/v1/registry/tenants?as_of={then}")).await), without(before.clone()));
    // One bad change, and none of the request is made.
    let good = json!({"change": "tenant.create", "tenant": "umbrella"});
    let bad = json!({"change": "tenant.create", "tenant": "umbrella"});
    let (status, problem) = service.try_change(&service.key, &[good, bad]);
    assert_eq!((status, &problem["change"]), (409, &json!(1)), "{problem}");
    let tenants = show("/v1/registry/tenants".into()).await;
    assert!(!tenants["rows"].as_array().unwrap().iter().any(|row| row["tenant"] == "umbrella"));
    // All of it is there again after a kill, and the key still opens.
    service.kill();
    let service = Service::start(folder.path(), &[]);
    let visitor = service.with_key(&service.key);
    let again: Value = serde_json::from_str(&visitor.get("/v1/registry/tenants").await.1).unwrap();
    let all = |registry: &Value| registry["rows"].as_array().unwrap().iter().cloned().map(without).collect::<Vec<_>>();
    assert_eq!(all(&again), all(&tenants));
    assert_eq!(service.get("/v1/registry/secrets").await.0, 404);
    assert_eq!(service.get("/v1/registry/tenants?as_of=yesterday").await.0, 400);
}

#[tokio::test]
async fn support_comes_in_only_when_asked_and_approved_and_the_tenant_sees_all_of_it() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start(folder.path(), &[]);
    service.post("/v1/events", events("acme", 0, 5)).await;
    let support = principal(&service, "sup-07", None, "support", &["acme"]);
    let owner = principal(&service, "owner", Some("acme"), "tenant-administrator", &["acme"]);
    let visitor = service.with_key(&support);
    assert_eq!(visitor.query(&["acme"], ONE).await.0, 403);
    let ask = |minutes: u32| {
        let (status, asked) = service.try_change(
            &support,
            &[json!({"change": "elevation.ask", "role": "sre",
            "tenants": ["acme"], "reason": "invoices fail since noon", "ticket": "T-1", "minutes": minutes})],
        );
        assert_eq!(status, 200, "{asked}");
        asked["changes"][0]["made"]["elevation"].as_str().unwrap().to_string()
    };
    let decide = |key: &str, what: &str, id: &str| {
        service.try_change(key, &[json!({"change": format!("elevation.{what}"), "id": id, "reason": "as agreed"})]).0
    };
    let first = ask(60);
    assert_eq!(visitor.query(&["acme"], ONE).await.0, 403, "asked is not granted");
    assert_eq!(decide(&support, "approve", &first), 403, "nobody approves their own");
    assert_eq!(decide(&owner, "refuse", &first), 200);
    assert_eq!(decide(&owner, "approve", &first), 409, "refused is refused");
    let second = ask(60);
    assert_eq!(decide(&owner, "approve", &second), 200);
    let (status, answer) = visitor.query(&["acme"], ONE).await;
    assert_eq!((status, &answer["rows"]), (200, &json!([[5]])));
    assert_eq!(visitor.query(&["globex"], ONE).await.0, 403, "of that tenant only");
    let renew =
        json!({"change": "elevation.break_glass", "role": "sre", "tenants": ["acme"], "reason": "more", "minutes": 60});
    assert_eq!(service.try_change(&support, &[renew]).0, 403, "what was lent lends itself nothing");
    assert_eq!(visitor.get("/v1/tenants/acme/access/events").await.0, 403, "in that role only");
    assert_eq!(decide(&owner, "revoke", &second), 200);
    assert_eq!(visitor.query(&["acme"], ONE).await.0, 403, "at once");
    assert_eq!(decide(&owner, "review", &second), 200);
    let mut told = Vec::new();
    for _ in 0..50 {
        told = entries(&service.with_key(&owner), "acme", "access").await;
        if told.iter().any(|entry| entry["attributes"]["phase"] == "end") {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    let by_support = told.iter().filter(|entry| entry["actor"]["id"] == "sup-07");
    // Its attempt to lend itself more is there too, beside the end of what it read.
    let renewal = |entry: &&Value| entry["attributes"]["asked"] == "elevation.break_glass";
    assert_eq!(by_support.clone().filter(renewal).count(), 1);
    let by_support: Vec<&Value> = by_support.filter(|entry| !renewal(entry)).collect();
    let seen: Vec<&str> = by_support.iter().map(|entry| entry["action"].as_str().unwrap()).collect();
    // Refused a look, and later to approve its own.
    let expected = ["access.denied", "elevation.ask", "access.denied", "elevation.ask", "events.read", "events.read"];
    assert_eq!(seen, expected, "{by_support:?}");
    let (begin, end) = (by_support[4], by_support[5]);
    assert_eq!([&begin["elevation_id"], &end["elevation_id"]], [&json!(second), &json!(second)]);
    assert_eq!([&begin["outcome"], &end["outcome"]], ["unknown", "success"]);
    assert_eq!(
        [&begin["attributes"]["sql"], &end["attributes"]["request"]],
        [&json!(ONE), &begin["attributes"]["request"]]
    );
    assert_eq!(by_support[1]["attributes"]["reason"], "invoices fail since noon");
    for decided in ["elevation.refuse", "elevation.approve", "elevation.revoke", "elevation.review"] {
        assert!(told.iter().any(|entry| entry["action"] == decided && entry["actor"]["id"] == "owner"), "{decided}");
    }
    // Taken without approval: it works, it is loud, and it stays to be reviewed.
    let sre = principal(&service, "night-sre", None, "sre", &["acme"]);
    let (status, taken) = service.try_change(
        &sre,
        &[json!({"change": "elevation.break_glass", "role": "security-analyst",
        "tenants": ["acme"], "reason": "fire", "minutes": 1})],
    );
    assert_eq!(status, 200, "{taken}");
    assert_eq!(service.with_key(&sre).get("/v1/tenants/acme/access/events").await.0, 200);
    let (_, rows) = service.get("/v1/registry/elevations").await;
    let rows: Value = serde_json::from_str(&rows).unwrap();
    let rows = rows["rows"].as_array().unwrap();
    let taken = rows.iter().find(|row| row["break_glass"] == true).unwrap();
    assert_eq!((&taken["state"], &taken["reviewed_at"]), (&json!("active"), &Value::Null));
    assert_eq!(rows.len(), 3, "history never goes");
}

#[tokio::test]
async fn a_suspended_tenant_takes_nothing_in_and_lets_none_of_its_own_in() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start(folder.path(), &[]);
    service.post("/v1/events", events("acme", 0, 5)).await;
    let owner = principal(&service, "owner", Some("acme"), "tenant-administrator", &["acme"]);
    let act = |what: &str| {
        service.change(&[json!({"change": format!("tenant.{what}"), "tenant": "acme", "reason": "a flood"})])
    };
    act("suspend");
    assert_eq!(service.post("/v1/events", events("acme", 5, 1)).await.0, 403);
    let mixed = [events("acme", 5, 1), events("globex", 0, 1)].concat();
    let (status, answer) = service.post("/v1/events", mixed).await;
    assert_eq!((status, &answer["accepted"], &answer["rejected"]), (200, &json!(1), &json!(1)), "the rest stands");
    assert_eq!(service.with_key(&owner).query(&["acme"], ONE).await.0, 403);
    assert_eq!(service.rows(&["acme"], ONE).await, [[5]], "who investigates still looks");
    act("resume");
    assert_eq!(service.post("/v1/events", events("acme", 5, 1)).await.0, 200);
    assert_eq!(service.with_key(&owner).query(&["acme"], ONE).await.0, 200);
}

#[tokio::test]
async fn a_tenant_over_its_quota_is_told_which_and_when_to_come_again_and_no_other_waits() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start(folder.path(), &[]);
    let set = |quota: Value| {
        service.change(&[json!({"change": "quota.set", "tenant": "acme", "quota": quota, "reason": "a flood"})]);
    };
    set(json!({"events_per_second": 50}));
    assert_eq!(service.post("/v1/events", events("acme", 0, 100)).await.0, 200, "a burst is let through");
    let (status, problem) = service.post("/v1/events", events("acme", 100, 100)).await;
    assert_eq!(
        (status, &problem["limit"], &problem["value"]),
        (429, &json!("events_per_second"), &json!(50)),
        "{problem}"
    );
    // In one request with others, the others are taken.
    let mixed = [events("acme", 100, 90), events("globex", 0, 90)].concat();
    let (status, answer) = service.post("/v1/events", mixed).await;
    assert_eq!((status, &answer["accepted"], &answer["rejected"]), (200, &json!(90), &json!(90)), "{answer}");
    let refused = &answer["results"][0];
    assert!(refused["retry_after"].as_u64().is_some_and(|seconds| seconds >= 1), "{refused}");
    // Changed while it runs, it holds from the next request on; of a tier, for all of it that have none of their own.
    set(json!({"events_per_second": 100_000}));
    assert_eq!(service.post("/v1/events", events("acme", 100, 90)).await.0, 200);
    service.change(&[
        json!({"change": "quota.set", "tier": "shared", "quota": {"events_per_second": 1, "concurrent_queries": 0},
        "reason": "maintenance"}),
    ]);
    assert_eq!(service.post("/v1/events", events("globex", 90, 5)).await.0, 200, "a full bucket lets one through");
    assert_eq!(service.post("/v1/events", events("globex", 95, 5)).await.0, 429);
    assert_eq!(service.post("/v1/events", events("acme", 190, 5)).await.0, 200, "its own comes first");
    let asked = service.with_key(&service.key);
    assert_eq!(asked.query(&["acme"], ONE).await.0, 429, "what a tenant leaves open, its tier decides");
}

#[tokio::test]
async fn the_registry_is_asked_in_sql_as_far_as_one_may_see_it_and_use_is_counted() {
    let folder = tempfile::tempdir().unwrap();
    let service = Service::start(folder.path(), &[]);
    let owner = principal(&service, "owner", Some("acme"), "tenant-administrator", &["acme"]);
    principal(&service, "other", Some("globex"), "tenant-administrator", &["globex"]);
    let all = service.with_key(&service.key);
    let (status, answer) =
        all.query(&[], "SELECT principal, role FROM grants WHERE state = 'holds' ORDER BY 1, 2").await;
    assert_eq!(status, 200, "{answer}");
    assert_eq!(answer["rows"].as_array().unwrap().len(), 6, "{answer}");
    let visitor = service.with_key(&owner);
    for (sql, expected) in [
        ("SELECT principal FROM grants", json!([["owner"]])),
        ("SELECT principal FROM principals", json!([["owner"]])),
        ("SELECT tenant, tier FROM tenants", json!([["acme", "shared"]])),
        ("SELECT count(*) FROM credentials", json!([[1]])),
        ("SELECT count(*) FROM elevations", json!([[0]])),
        (
            "SELECT g.role FROM grants g JOIN principals p ON g.principal = p.principal WHERE p.created_at > '2026-01-01'",
            json!([["tenant-administrator"]]),
        ),
    ] {
        let (status, answer) = visitor.query(&[], sql).await;
        assert_eq!((status, &answer["rows"]), (200, &expected), "{sql}: {answer}");
    }
    assert_eq!(visitor.query(&[], "SELECT 1").await.0, 400, "about nobody and nothing");
    assert_eq!(visitor.query(&["acme"], "SELECT * FROM control").await.1["rows"], json!([]));
    // What was brought, by tenant: an entry at the begin of each hour, and counts when it is over or the service stops.
    service.post("/v1/events", [events("acme", 0, 30), events("globex", 0, 12)].concat()).await;
    service.post("/v1/events", events("acme", 30, 5)).await;
    service.stop();
    let service = Service::start(folder.path(), &[]);
    let sql = "SELECT tenant, cast(json_text(attributes, '/rows') AS BIGINT), cast(json_text(attributes, '/requests') AS BIGINT),
        cast(json_text(attributes, '/bytes') AS BIGINT) > 1000 FROM access
        WHERE action = 'events.append' AND outcome = 'success' ORDER BY 1";
    let rows = service.rows(&["acme", "globex"], sql).await;
    assert_eq!(json!(rows), json!([["acme", 35, 2, true], ["globex", 12, 1, true]]));
    service.stop();
    // And what is stored: all of its streams' entries, and the bytes of what is sealed of them.
    let service = Service::start(folder.path(), &["--seal-on-exit"]);
    service.stop();
    let service = Service::start(folder.path(), &[]);
    let asked = service.with_key(&service.key);
    let sql = "SELECT entries > 35, stored_bytes > 5000 FROM tenants WHERE tenant = 'acme'";
    assert_eq!(asked.query(&[], sql).await.1["rows"], json!([[true, true]]));
}
