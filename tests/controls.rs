//! The control map and its report: what is there is found, what is not is a gap that says so, and nothing is made up.
//!
//! Not here: how a map is read and how states follow from what was found (`query`).

use crate::access::principal;
use crate::keys;
use crate::program::{Service, event, events, run_in, run_json_in};
use crate::retention::policy;
use serde_json::{Value, json};
use std::process::Output;

const JSON: &[(&str, &str)] = &[("content-type", "application/json")];

fn environment(service: &Service) -> [(&'static str, String); 2] {
    [("PIPEROLL_URL", service.url.clone()), ("PIPEROLL_KEY", service.key.clone())]
}

/// A question about the time in which the events of these tests lie.
fn about(framework: &str) -> Value {
    json!({"tenant": "acme", "framework": framework, "from": "2026-08-01T00:00:00Z", "until": "2026-08-20T00:00:00Z"})
}

async fn report(service: &Service, question: Value) -> Value {
    let (status, answer) = service.post_with("/v1/controls/reports", question.to_string(), JSON).await;
    assert_eq!(status, 200, "{answer}");
    answer["answer"].clone()
}

/// The state of each evidence of a control, as the report has it.
fn states<'r>(report: &'r Value, control: &str) -> &'r Value {
    let all = report["controls"].as_array().unwrap();
    let found = all.iter().find(|one| one["control"] == control);
    &found.unwrap_or_else(|| panic!("no {control} in {report}"))["states"]
}

fn evidence<'r>(report: &'r Value, id: &str) -> &'r Value {
    let found = report["evidence"].as_array().unwrap().iter().find(|one| one["id"] == id);
    found.unwrap_or_else(|| panic!("no {id} in {report}"))
}

fn platform_grant(role: &str) -> Value {
    json!({"change": "grant.create", "principal": "administrator", "role": role, "tenants": ["platform"], "subtree": true})
}

#[tokio::test]
async fn a_report_says_what_is_there_what_is_not_and_why_not() {
    let folder = tempfile::tempdir().unwrap();
    let service = keys::start(folder.path(), "");
    service.change(&[platform_grant("compliance-officer"), platform_grant("security-analyst")]);
    let refused = json!({"action": "session.login", "outcome": "denied"});
    let export = json!({"action": "customer.export", "actor": {"type": "support", "id": "helen"}});
    let brought = [events("acme", 0, 50), event("r-1", "acme", &refused), event("x-1", "acme", &export)].concat();
    service.post("/v1/events", brought).await;
    service.post("/v1/events", events("globex", 0, 7)).await;
    let iso = report(&service, about("ISO 27001:2022")).await;
    // What no rule of the tenant's says yet is a gap, and what is not kept here says why.
    assert_eq!(
        states(&iso, "A.5.33"),
        &json!({"E1": "found", "E12": "found", "E4": "gap", "E5": "nothing", "Q10": "nothing"})
    );
    assert_eq!(states(&iso, "A.8.16"), &json!({"E9": "gap", "Q12": "found"}), "what happened in August came just now");
    assert!(evidence(&iso, "E9")["why"].as_str().unwrap().starts_with("not kept here"), "{iso}");
    let logins = evidence(&iso, "Q4");
    assert_eq!((&logins["rows"], &logins["first"][0]["outcome"]), (&json!(1), &json!("denied")), "{logins}");
    // Each question stands as it was asked, of this tenant alone, and so do the heads.
    assert!(evidence(&iso, "E5")["sql"].as_str().unwrap().contains("tenant = 'acme'"), "{iso}");
    assert!(iso["read"].as_array().unwrap().iter().all(|head| head["tenant"] == "acme"), "{iso}");
    let entries = evidence(&iso, "E1")["first"].as_array().unwrap().iter().find(|row| row["stream"] == "audit");
    assert_eq!(entries.unwrap()["entries"], 52);
    service.change(&[
        policy("a-year", &json!({"tenant": "acme", "streams": ["audit"], "at_least_days": 365})),
        json!({"change": "hold.set", "tenant": "acme", "matter": "Doe v. Acme", "reason": "the suit"}),
    ]);
    let iso = report(&service, about("ISO 27001:2022")).await;
    assert_eq!(states(&iso, "A.5.33")["E4"], "found", "{iso}");
    assert_eq!(states(&iso, "A.5.33")["E5"], "found", "{iso}");
    // Asked about the newest 90 days: there nothing happened but that it was asked.
    let now = report(&service, json!({"tenant": "acme", "framework": "ISO 27001:2022"})).await;
    assert_eq!((&states(&now, "A.5.33")["Q10"], &states(&now, "A.5.17")["Q4"]), (&json!("found"), &json!("nothing")));
    let hipaa = report(&service, about("HIPAA")).await;
    assert_eq!(states(&hipaa, "164.528")["Q14"], "found", "{hipaa}");
    let gdpr = report(&service, json!({"tenant": "acme", "framework": "GDPR"})).await;
    assert_eq!(
        (states(&gdpr, "15"), &states(&gdpr, "44-49")["Q9"]),
        (&json!({"Q13": "on_request"}), &json!("nothing"))
    );
    // Of a period in which nothing was brought, questions have no answer, which is one.
    let old = json!({"tenant": "acme", "framework": "SOC 2", "from": "2020-01-01T00:00:00Z", "until": "2020-02-01T00:00:00Z"});
    assert_eq!(states(&report(&service, old).await, "CC6.1")["Q4"], "nothing");
    for (question, status, why) in [
        (json!({"tenant": "acme", "framework": "SOC2"}), 422, "it has SOC 2, ISO 27001:2022"),
        (
            json!({"tenant": "acme", "from": "2026-02-01T00:00:00Z", "until": "2026-01-01T00:00:00Z"}),
            422,
            "before until",
        ),
        (json!({"tenant": "nobody"}), 404, "nobody"),
    ] {
        let (code, answer) = service.post_with("/v1/controls/reports", question.to_string(), JSON).await;
        assert!(code == status && answer["detail"].as_str().unwrap().contains(why), "{answer}");
    }
    // The command says the same, and ends with 3 where there are gaps.
    let told = run_json_in(&environment(&service), &["controls", "report", "acme", "--framework", "GDPR", "--json"]);
    assert_eq!(states(&told["answer"], "15"), &json!({"Q13": "on_request"}));
    let Output { status, stdout, .. } = run_in(&environment(&service), &["controls", "report", "acme"]);
    let shown = String::from_utf8(stdout).unwrap();
    assert!(status.code() == Some(3) && shown.contains("GAP") && shown.contains("on request"), "{shown}");
}

#[tokio::test]
async fn every_question_of_the_map_can_be_asked() {
    let folder = tempfile::tempdir().unwrap();
    let service = keys::start(folder.path(), "");
    service.change(&["compliance-officer", "security-analyst", "platform-administrator"].map(platform_grant));
    service.post("/v1/events", events("acme", 0, 5)).await;
    let told = report(&service, json!({"tenant": "acme", "from": "2026-08-01T00:00:00Z"})).await;
    let all = told["evidence"].as_array().unwrap();
    for one in all.iter().filter(|one| one["sql"].is_string()) {
        assert!(one["why"].is_null() && one["sha256"].is_string() && one["is_cut"] == false, "{one}");
    }
    assert_eq!(all.iter().filter(|one| one["sql"].is_null()).count(), 4, "{told}");
    assert_eq!(told["controls"].as_array().unwrap().len(), 68);
    // After a run of the job that verifies, that it ran is found.
    assert_eq!(evidence(&told, "E8")["rows"], 0);
    assert_eq!(service.post("/v1/jobs/verify/runs", "").await.0, 200);
    let told = report(&service, json!({"tenant": "acme", "framework": "HIPAA"})).await;
    assert_eq!(states(&told, "164.312(c)(1)"), &json!({"E1": "found", "E8": "found"}), "{told}");
}

#[tokio::test]
async fn what_may_not_be_seen_is_not_told_as_missing() {
    let folder = tempfile::tempdir().unwrap();
    let service = keys::start(folder.path(), "");
    service.change(&[platform_grant("compliance-officer")]);
    service.post("/v1/events", events("acme", 0, 5)).await;
    service.change(&[policy("a-year", &json!({"tenant": "acme", "streams": ["audit"], "at_least_days": 365}))]);
    let analyst = service.with_key(&principal(&service, "analyst", None, "security-analyst", &["acme"]));
    let question = json!({"tenant": "acme", "framework": "GDPR"}).to_string();
    let (status, answer) = analyst.post_with("/v1/controls/reports", question, JSON).await;
    assert_eq!(status, 200, "{answer}");
    let policies = evidence(&answer["answer"], "E4");
    assert!(policies["why"].as_str().unwrap().contains("retention.read on acme is not granted to you"), "{policies}");
    let stranger = service.with_key(&principal(&service, "stranger", None, "security-analyst", &["globex"]));
    let question = json!({"tenant": "acme"}).to_string();
    assert_eq!(stranger.post_with("/v1/controls/reports", question, JSON).await.0, 403);
}

#[tokio::test]
async fn deployers_bring_a_map_of_their_own() {
    let folder = tempfile::tempdir().unwrap();
    let map = folder.path().join("controls.toml");
    let own = "[evidence.B1]\nkind = 'artefact'\ntitle = 'bicycles'\nsql = \"SELECT count(*) AS n, max(occurred_at) AS newest \
               FROM audit WHERE {period} AND tenant = {tenant} HAVING count(*) > 0\"\n[[control]]\nframework = 'House'\n\
               control = '1'\nasks = 'bicycles are counted'\nevidence = ['B1']\ndays = 1\nowner = 'caretaker'\n";
    std::fs::write(&map, own).unwrap();
    let (data, config) = (folder.path().join("data"), folder.path().join("piperoll.toml"));
    std::fs::write(&config, format!("controls = '{}'\n", map.display())).unwrap();
    let flags = ["--config", config.to_str().unwrap()];
    let service = Service::start(&data, &flags);
    service.post("/v1/events", events("acme", 0, 5)).await;
    let (_, known) = service.get_json("/v1/controls").await;
    assert_eq!(known["frameworks"], json!(["House"]));
    let told = report(&service, json!({"tenant": "acme", "from": "2026-08-01T00:00:00Z"})).await;
    let b1 = evidence(&told, "B1");
    // Events of these tests lie in the past: the newest of them is older than a day.
    assert_eq!((states(&told, "1"), &b1["first"][0]["n"]), (&json!({"B1": "stale"}), &json!(5)), "{told}");
    service.stop();
    std::fs::write(&map, own.replace("'B1']", "'B2']")).unwrap();
    let why = Service::try_start(&data, &flags).err().unwrap();
    assert!(why.contains("controls.toml") && why.contains("there is no evidence.B2"), "{why}");
}
