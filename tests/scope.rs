//! Incident scope against what the generator knows it planted: a bad release, a stolen session, elevations.
//!
//! Not here: statistics and questions by themselves (`query::scope`).

use crate::program::{Service, Visitor, run};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::path::Path;

/// A service with a month of the fictitious platform, and the record of what was planted in it.
pub async fn platform_with(folder: &Path, flags: &[&str]) -> (Service, Value) {
    let [events, planted] = ["events.ndjson", "planted.json"].map(|name| folder.join(name));
    let out = ["--out", events.to_str().unwrap(), "--planted", planted.to_str().unwrap()];
    let made = run(&[&["generate", "--events", "20000", "--seed", "11"], &out[..]].concat());
    assert!(made.status.success());
    let planted: Value = serde_json::from_slice(&std::fs::read(planted).unwrap()).unwrap();
    let service = Service::start(&folder.join("data"), flags);
    let tenants: Vec<String> =
        names(&planted["tenants"], "tenant").into_iter().filter(|name| name != "platform").collect();
    let partner = planted["partner"].as_str().unwrap();
    let clients: BTreeSet<&str> =
        planted["partner_clients"].as_array().unwrap().iter().map(|c| c.as_str().unwrap()).collect();
    let mut order = tenants.clone();
    // The partner first, since its clients stand below it.
    order.sort_by_key(|name| name != partner);
    let make = |name: &String| match clients.contains(name.as_str()) {
        true => json!({"change": "tenant.create", "tenant": name, "parent": partner}),
        false => json!({"change": "tenant.create", "tenant": name}),
    };
    service.change(&order.iter().map(make).collect::<Vec<_>>());
    let text = std::fs::read_to_string(events).unwrap();
    let lines: Vec<&str> = text.lines().collect();
    for part in lines.chunks(5_000) {
        let (status, sent) = service.post("/v1/events", part.join("\n")).await;
        assert!(status == 200 && sent["rejected"] == 0, "{status} {}", sent["rejected"]);
    }
    (service, planted)
}

fn names(of: &Value, member: &str) -> Vec<String> {
    of.as_array().unwrap().iter().map(|one| one[member].as_str().unwrap().to_string()).collect()
}

fn texts(of: &Value) -> BTreeSet<String> {
    of.as_array().unwrap().iter().map(|one| one.as_str().unwrap().to_string()).collect()
}

async fn ask(of: &Visitor, path: &str, question: &Value) -> (u16, Value) {
    of.post_with(path, question.to_string(), &[("content-type", "application/json")]).await
}

async fn scope(service: &Service, question: Value) -> Value {
    let (status, answer) = ask(&service.with_key(&service.key), "/v1/incidents/scope", &question).await;
    assert_eq!(status, 200, "{question}: {answer}");
    answer["answer"].clone()
}

fn affected(answer: &Value) -> BTreeSet<String> {
    let tenants = answer["tenants"].as_array().unwrap().iter();
    tenants.filter(|one| one["affected"] == true).map(|one| one["tenant"].as_str().unwrap().to_string()).collect()
}

fn of<'a>(answer: &'a Value, tenant: &str) -> &'a Value {
    answer["tenants"].as_array().unwrap().iter().find(|one| one["tenant"] == tenant).unwrap()
}

#[tokio::test]
async fn a_bad_release_names_whom_it_broke_and_whom_not() {
    let folder = tempfile::tempdir().unwrap();
    let (service, planted) = platform_with(folder.path(), &[]).await;
    let bad = &planted["bad_release"];
    let question = json!({"subtree": "platform", "streams": ["telemetry"],
        "where": {"release": bad["release"], "service": bad["service"], "workflow": bad["workflow"]}});
    let answer = scope(&service, question.clone()).await;
    assert_eq!(affected(&answer), texts(&bad["affected"]), "{}", answer["summary"]);
    for planted in bad["tenants"].as_array().unwrap() {
        let found = of(&answer, planted["tenant"].as_str().unwrap());
        assert_eq!(
            (&found["matching"]["events"], &found["matching"]["failures"]),
            (&planted["runs"], &planted["errors"])
        );
        let broken = found["reasons"].as_array().into_iter().flatten().find(|one| one["value"] == bad["reason"]);
        assert_eq!(broken.map_or(0, |one| one["events"].as_u64().unwrap()), planted["broken"].as_u64().unwrap());
    }
    for tenant in bad["never_ran_it"].as_array().unwrap() {
        let found = of(&answer, tenant.as_str().unwrap());
        assert_eq!((&found["matching"]["events"], &found["affected"]), (&json!(0), &json!(false)));
    }
    // Contained by the rollback, which stands in the platform's own trail.
    let contained = &bad["contained_by"];
    for tenant in bad["affected"].as_array().unwrap() {
        let found = &of(&answer, tenant.as_str().unwrap())["contained"];
        assert_eq!((&found["since"], &found["action"]), (&contained["time"], &json!("release.rolled_back")), "{found}");
        assert_eq!(found["holds"], true, "{found}");
    }
    let summary = answer["summary"].as_str().unwrap();
    assert!(summary.contains("contained since"), "{summary}");
    let kinds: BTreeSet<&str> =
        answer["timeline"].as_array().unwrap().iter().map(|one| one["kind"].as_str().unwrap()).collect();
    assert!(["release", "first", "failures", "contained"].iter().all(|kind| kinds.contains(kind)), "{kinds:?}");
    // The same question against the same heads: the same bytes, whatever came since.
    let asked = ask(&service.with_key(&service.key), "/v1/incidents/scope", &question).await.1;
    let first = bad["affected"][0].as_str().unwrap();
    let more = json!({"id": "later", "tenant": first, "stream": "telemetry", "time": bad["from"], "action": "job.run",
        "outcome": "error", "actor": {"type": "service", "id": "x"}, "release": bad["release"], "service": bad["service"],
        "workflow": bad["workflow"]});
    assert_eq!(service.post("/v1/events", more.to_string()).await.1["accepted"], 1);
    let now = ask(&service.with_key(&service.key), "/v1/incidents/scope", &question).await.1;
    assert_ne!(now["answer_sha256"], asked["answer_sha256"]);
    let mut again = asked["answer"]["question"].clone();
    let heads = asked["answer"]["read"].as_array().unwrap().iter();
    again["heads"] = heads
        .map(|head| json!({"tenant": head["tenant"], "stream": head["stream"], "size": head["size"], "root": head["root"]}))
        .collect();
    let then = ask(&service.with_key(&service.key), "/v1/incidents/scope", &again).await.1;
    assert_eq!(then["answer"], asked["answer"]);
    assert_eq!(then["answer_sha256"], asked["answer_sha256"]);
    // Who was rolled back since, in the platform's own trail, is not told then either; nor does a tenant speak for others.
    let theirs = json!({"id": "not-theirs", "tenant": bad["not_affected"][0], "time": bad["from"],
        "action": "release.rolled_back", "outcome": "success", "actor": {"type": "user", "id": "x"},
        "release": bad["release"], "resource": {"type": "release", "id": bad["release"]}});
    assert_eq!(service.post("/v1/events", theirs.to_string()).await.1["accepted"], 1);
    let spoken = scope(&service, question.clone()).await;
    let contained = &of(&spoken, first)["contained"];
    assert_eq!(contained["since"], bad["contained_by"]["time"], "{contained}");
    let mut forged = again.clone();
    forged["heads"][0]["root"] = json!("AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=");
    assert_eq!(ask(&service.with_key(&service.key), "/v1/incidents/scope", &forged).await.0, 409);
    service.stop();
}

#[tokio::test]
async fn a_stolen_session_is_followed_to_its_end() {
    let folder = tempfile::tempdir().unwrap();
    let (service, planted) = platform_with(folder.path(), &["--seal-bytes", "200000"]).await;
    let found = &planted["intrusion"];
    let answer = scope(&service, json!({"subtree": "platform", "where": {"session": found["session"]}})).await;
    let steps = found["steps"].as_array().unwrap();
    let touched: BTreeSet<String> =
        steps.iter().map(|step| step["event"]["tenant"].as_str().unwrap().to_string()).collect();
    assert_eq!(affected(&answer), touched, "{}", answer["summary"]);
    let events: u64 = touched.iter().map(|tenant| of(&answer, tenant)["matching"]["events"].as_u64().unwrap()).sum();
    assert_eq!(events, steps.len() as u64);
    let contained = &of(&answer, found["contained_by"]["tenant"].as_str().unwrap())["contained"];
    assert_eq!((&contained["since"], &contained["action"]), (&found["contained_by"]["time"], &json!("session.revoke")));
    assert_eq!(contained["holds"], true, "what was tried after it was refused: {contained}");
    let after: u64 =
        touched.iter().filter_map(|tenant| of(&answer, tenant)["contained"]["after"]["events"].as_u64()).sum();
    assert_eq!(after, found["after_containment"].as_array().unwrap().len() as u64);
    // The address that guessed: who was tried, and where it got in.
    let answer = scope(&service, json!({"subtree": "platform", "where": {"source_ip": found["source_ip"]}})).await;
    for tried in found["tenants"].as_array().unwrap() {
        let one = of(&answer, tried["tenant"].as_str().unwrap());
        let counts = &one["matching"];
        assert_eq!(
            (&counts["events"], &one["first"], &one["last"]),
            (&tried["attempts"], &tried["first"], &tried["last"])
        );
        let refused = counts["failures"].as_u64().unwrap() + counts["denied"].as_u64().unwrap();
        assert_eq!(refused + tried["successes"].as_u64().unwrap(), tried["attempts"].as_u64().unwrap());
    }
    // What an elevation touched, by its id alone.
    let elevation = &planted["support"]["elevations"][0];
    let answer =
        scope(&service, json!({"subtree": "platform", "where": {"elevation": elevation["elevation_id"]}})).await;
    assert_eq!(affected(&answer), [elevation["tenant"].as_str().unwrap().to_string()].into());
    assert!(answer["summary"].as_str().unwrap().starts_with("one tenant: "), "{}", answer["summary"]);
    let one = of(&answer, elevation["tenant"].as_str().unwrap());
    // Its reads, and its request, approval and end.
    assert_eq!(one["matching"]["events"].as_u64().unwrap(), elevation["reads"].as_array().unwrap().len() as u64 + 3);
    service.stop();
}

#[tokio::test]
async fn who_sees_some_tenants_is_answered_about_those_and_told_of_no_others() {
    let folder = tempfile::tempdir().unwrap();
    let (service, planted) = platform_with(folder.path(), &[]).await;
    let bad = &planted["bad_release"];
    let all: Vec<&str> = bad["affected"].as_array().unwrap().iter().map(|one| one.as_str().unwrap()).collect();
    let key = crate::access::principal(&service, "sre", None, "sre", &all[..2]);
    let sre = service.with_key(&key);
    let mut question = json!({"where": {"release": bad["release"]}, "subtree": "platform"});
    let (status, answer) = ask(&sre, "/v1/incidents/scope", &question).await;
    assert_eq!(status, 200, "{answer}");
    let text = answer.to_string();
    assert!(all[2..].iter().all(|other| !text.contains(other)), "{text}");
    assert_eq!(answer["answer"]["tenants"].as_array().unwrap().len(), 2);
    // Named, a tenant that is not there and one that is not granted are left out alike.
    question = json!({"where": {"release": bad["release"]}, "tenants": [all[0], all[3], "nobody"]});
    let (status, answer) = ask(&sre, "/v1/incidents/scope", &question).await;
    assert_eq!(status, 200, "{answer}");
    let left = answer["answer"]["not_examined"].as_array().unwrap();
    let why: BTreeSet<String> =
        left.iter().map(|one| one["why"].as_str().unwrap().replace(one["tenant"].as_str().unwrap(), "_")).collect();
    assert_eq!((left.len(), why.len()), (2, 1), "{left:?}");
    assert!(answer["answer"]["summary"].as_str().unwrap().contains("2 not examined"));
    question = json!({"where": {"release": bad["release"]}, "tenants": [all[3]]});
    assert_eq!(ask(&sre, "/v1/incidents/scope", &question).await.0, 403);
    for (wrong, status) in [
        (json!({"where": {}, "tenants": [all[0]]}), 400),
        (json!({"where": {"release": "x"}}), 400),
        (json!({"where": {"release": "x"}, "tenants": ["Not A Tenant"]}), 400),
        (json!({"where": {"release": "x' OR '1'='1"}, "tenants": [all[0]]}), 200),
        (json!({"since": "0001-01-01T00:00:00Z", "until": "9999-12-31T23:59:59Z", "tenants": [all[0]]}), 200),
    ] {
        let (found, answer) = ask(&sre, "/v1/incidents/scope", &wrong).await;
        assert_eq!(found, status, "{wrong}: {answer}");
    }
    // Asking is on record with each tenant.
    let seen =
        service.rows(&[all[0]], "SELECT DISTINCT actor_id FROM access WHERE action = 'events.read' ORDER BY 1").await;
    assert!(seen.contains(&vec![json!("sre")]), "{seen:?}");
    service.stop();
}

#[tokio::test]
async fn two_releases_are_compared_tenant_by_tenant() {
    let folder = tempfile::tempdir().unwrap();
    let (service, planted) = platform_with(folder.path(), &[]).await;
    let bad = &planted["bad_release"];
    let rollout = planted["rollouts"].as_array().unwrap().iter().find(|one| one["release"] == bad["release"]).unwrap();
    let question = json!({"from": rollout["previous"], "to": bad["release"], "subtree": "platform",
        "canaries": [bad["affected"][0], bad["not_affected"][0]]});
    let (status, answer) = ask(&service.with_key(&service.key), "/v1/releases/compare", &question).await;
    assert_eq!(status, 200, "{answer}");
    let answer = &answer["answer"];
    let worse: BTreeSet<String> = answer["tenants"]
        .as_array()
        .unwrap()
        .iter()
        .filter(|one| one["verdict"] == "worse")
        .map(|one| one["tenant"].as_str().unwrap().to_string())
        .collect();
    let affected = texts(&bad["affected"]);
    assert!(!worse.is_empty() && worse.is_subset(&affected), "{worse:?} of {affected:?}");
    assert_eq!(answer["groups"].as_array().unwrap().len(), 2);
    // Against a plain count over the events themselves.
    let text = std::fs::read_to_string(folder.path().join("events.ndjson")).unwrap();
    let first = bad["affected"][0].as_str().unwrap();
    let mut ids = BTreeSet::new();
    let mut durations: Vec<u64> = Vec::new();
    let mut events = 0;
    for line in text.lines().filter(|line| line.contains(bad["release"].as_str().unwrap())) {
        let event: Value = serde_json::from_str(line).unwrap();
        let stream = event["stream"].as_str().unwrap_or("audit").to_string();
        let is_its = event["tenant"] == first && event["release"] == bad["release"];
        if is_its && ids.insert((stream, event["id"].as_str().unwrap().to_string())) {
            events += 1;
            durations.extend(event["duration_us"].as_u64());
        }
    }
    let to = &answer["tenants"].as_array().unwrap().iter().find(|one| one["tenant"] == first).unwrap()["to"];
    assert_eq!((&to["events"], &to["measured"]), (&json!(events), &json!(durations.len())));
    durations.sort_unstable();
    let middle = (durations[(durations.len() - 1) / 2] + durations[durations.len() / 2]) / 2;
    assert!(to["p50_us"].as_u64().unwrap().abs_diff(middle) <= 1, "{to} {middle}");
    let (status, refused) =
        ask(&service.with_key(&service.key), "/v1/releases/compare", &json!({"from": "a", "to": "a"})).await;
    assert_eq!(status, 400, "{refused}");
    service.stop();
}

#[tokio::test]
async fn an_incident_is_kept_from_its_opening_to_its_end() {
    let folder = tempfile::tempdir().unwrap();
    let (service, planted) = platform_with(folder.path(), &[]).await;
    let bad = &planted["bad_release"];
    let key = crate::access::principal_with(
        &service,
        "analyst",
        None,
        json!({"role": "security-analyst", "tenants": ["platform"], "subtree": true}),
    );
    let analyst = service.with_key(&key);
    let question = json!({"subtree": "platform", "streams": ["telemetry"],
        "where": {"release": bad["release"], "service": bad["service"], "workflow": bad["workflow"]}});
    let open = json!({"title": "Invoices fail", "severity": "high", "question": question});
    let (status, opened) = ask(&analyst, "/v1/incidents", &open).await;
    assert_eq!(status, 200, "{opened}");
    let made = &opened["made"];
    let (id, count) = (made["incident"].as_str().unwrap(), texts(&bad["affected"]).len());
    assert_eq!((&made["owner"], &made["found"]["affected_count"]), (&json!("analyst"), &json!(count)), "{made}");
    assert!(made["question"]["heads"].as_array().unwrap().len() > 20);
    // What was found is the service's to say, and only who may manage incidents opens one.
    let forged = json!({"change": "incident.open", "title": "x", "found": {"summary": "nobody"}});
    assert_eq!(service.try_change(&key, &[forged]).0, 422);
    let sees_all = json!({"role": "tenant-auditor", "tenants": ["platform"], "subtree": true});
    let auditor = crate::access::principal_with(&service, "auditor", None, sees_all);
    assert_eq!(ask(&service.with_key(&auditor), "/v1/incidents", &open).await.0, 403);
    let stranger =
        crate::access::principal(&service, "stranger", None, "tenant-auditor", &[bad["affected"][0].as_str().unwrap()]);
    assert_eq!(service.with_key(&stranger).get(&format!("/v1/incidents/{id}")).await.0, 404);
    assert_eq!(service.with_key(&auditor).get(&format!("/v1/incidents/{id}")).await.0, 200);
    // Steps, each an entry.
    let step = |more: Value| {
        let mut change = json!({"id": id});
        change.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
        service.try_change(&key, &[change])
    };
    let first = bad["affected"][0].as_str().unwrap();
    for change in [
        json!({"change": "incident.update", "status": "contained", "severity": "critical", "note": "rolled back"}),
        json!({"change": "incident.triage", "tenant": first, "decision": "notify", "reason": "invoices were lost"}),
        json!({"change": "incident.aware", "at": "2026-03-18T12:00:00Z", "reason": "names in a log"}),
        json!({"change": "incident.notify", "reason": "form 12 was sent"}),
    ] {
        let (status, answer) = step(change.clone());
        assert_eq!(status, 200, "{change}: {answer}");
    }
    for (change, status) in [
        (json!({"change": "incident.update"}), 422),
        (json!({"change": "incident.aware", "at": "2026-03-18T12:00:00Z", "reason": "again"}), 409),
        (json!({"change": "incident.triage", "tenant": "nobody", "decision": "notify", "reason": "x"}), 422),
        (json!({"change": "incident.triage", "tenant": first, "decision": "maybe", "reason": "x"}), 400),
    ] {
        assert_eq!(step(change.clone()).0, status, "{change}");
    }
    let shown: Value = serde_json::from_str(&analyst.get(&format!("/v1/incidents/{id}")).await.1).unwrap();
    assert_eq!((&shown["state"], &shown["severity"]), (&json!("contained"), &json!("critical")));
    assert_eq!(shown["notify_by_at"], "2026-03-21T12:00:00.000000Z");
    assert_eq!(
        (&shown["notes"][0]["text"], &shown["triage"][0]["decision"]),
        (&json!("rolled back"), &json!("notify"))
    );
    let sql = "SELECT title, state, severity FROM incidents";
    assert_eq!(
        service.rows(&["platform"], sql).await,
        [[json!("Invoices fail"), json!("contained"), json!("critical")]]
    );
    // Closed without being asked again, or opened over the heads of its tenant's neighbours: neither.
    assert_eq!(step(json!({"change": "incident.close", "reason": "enough"})).0, 422);
    let narrow = json!({"title": "x", "tenant": first, "question": question});
    assert_eq!(ask(&analyst, "/v1/incidents", &narrow).await.0, 422);
    // Closed: asked again, with what came meanwhile.
    let spared = bad["not_affected"][0].as_str().unwrap();
    let late = |n: usize| {
        json!({"id": format!("late-{n}"), "tenant": spared, "stream": "telemetry", "time": bad["from"],
        "action": "job.run", "outcome": "error", "actor": {"type": "service", "id": "x"}, "release": bad["release"],
        "service": bad["service"], "workflow": bad["workflow"]})
        .to_string()
    };
    let lines: Vec<String> = (0..40).map(late).collect();
    assert_eq!(service.post("/v1/events", lines.join("\n")).await.1["accepted"], 40);
    let path = format!("/v1/incidents/{id}/close");
    let (status, closed) = ask(&analyst, &path, &json!({"reason": "tables repaired"})).await;
    assert_eq!(status, 200, "{closed}");
    assert_eq!(closed["difference"]["newly_affected"], json!([spared]));
    let failures = &closed["difference"]["failures"];
    assert_eq!(failures["now"].as_u64().unwrap(), failures["then"].as_u64().unwrap() + 40);
    assert_eq!(ask(&analyst, &path, &json!({"reason": "again"})).await.0, 409);
    assert_eq!(step(json!({"change": "incident.update", "note": "late"})).0, 409);
    // The registry's fold after a restart says the same, and a person reads it in a table.
    let url = service.url.clone();
    let table = run(&["incident", "show", "--url", &url, "--key", &key]);
    let table = String::from_utf8_lossy(&table.stdout).into_owned();
    assert!(table.contains("Invoices fail") && table.contains("closed"), "{table}");
    let release = bad["release"].as_str().unwrap();
    let scope = run(&[
        "incident",
        "scope",
        "--below",
        "platform",
        "--release",
        release,
        "--stream",
        "telemetry",
        "--url",
        &url,
        "--key",
        &key,
    ]);
    let scope = String::from_utf8_lossy(&scope.stdout).into_owned();
    assert!(scope.contains("YES") && scope.contains("An answer to "), "{scope}");
    service.stop();
}
