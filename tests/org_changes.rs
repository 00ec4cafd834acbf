//! Eight years of a real organisation: who joined, left and changed roles from quarter to quarter as its snapshots show it,
//! and as its change log tells it, against a plain script over both.
//!
//! The files lie beside the checkout; without them the test says so. The script is `oracle/org_changes.py`.

use crate::program::{Service, run_json_in};
use crate::vectors::shared;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

fn oracle(arguments: &[&str]) -> Value {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/oracle/org_changes.py");
    let output = Command::new("python3").arg(script).args(arguments).output().unwrap();
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{}", String::from_utf8_lossy(&output.stderr)))
}

fn list(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().into_iter().flatten()
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_string()
}

fn names(value: &Value) -> BTreeSet<String> {
    list(value).map(|name| text(name).to_lowercase()).collect()
}

fn count(step: &Value, member: &str) -> usize {
    step[member].as_array().map_or(0, Vec::len)
}

/// Tenant and end of a step.
fn place(tenant: &Value, to: &Value) -> (String, String) {
    (text(tenant), text(to).chars().take(10).collect())
}

async fn changes(service: &Service, orgs: &[&str], more: Value) -> Vec<Value> {
    let mut question = json!({"tenants": orgs, "since": "2018-01-01T00:00:00Z"});
    question.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let (status, answer) = service
        .with_key(&service.key)
        .post_with("/v1/access/changes", question.to_string(), &[("content-type", "application/json")])
        .await;
    assert_eq!(status, 200, "{answer}");
    eprintln!("{}", answer["answer"]["summary"]);
    list(&answer["answer"]["steps"]).cloned().collect()
}

/// What the change log says of one step, as events of granting and revoking in the middle of it.
fn told(step: &Value) -> Vec<String> {
    let org = text(&step["org"]);
    let event = |login: &str, at: usize, action: &str| {
        json!({"id": format!("{org}-{}-{login}-{at}", text(&step["to"])), "tenant": org, "action": action,
            "outcome": "success", "time": format!("{}T00:00:0{at}Z", text(&step["from"]).replace("-01", "-02")),
            "actor": {"type": "user", "id": "log"}, "resource": {"type": "user", "id": login},
            "attributes": {"source": "github", "role": "member", "target": org}})
        .to_string()
    };
    let (grant, revoke) = ("role.grant", "role.revoke");
    let forms = [
        ("joined", vec![grant]),
        ("left", vec![revoke]),
        ("came_and_went", vec![grant, revoke]),
        ("left_and_came_back", vec![revoke, grant]),
    ];
    let mut events = Vec::new();
    for (member, actions) in forms {
        for login in list(&step[member]) {
            events.extend(actions.iter().enumerate().map(|(at, action)| event(&text(login), at, action)));
        }
    }
    events
}

/// The steps that snapshots show, against the script's, with the numbers of entitlements.
async fn as_snapshots_show(service: &Service, orgs: &[&str], expected: &Value) {
    // Not what teams may do with repositories.
    let people: Vec<String> = orgs.iter().flat_map(|org| [org.to_string(), format!("{org}/*")]).collect();
    let steps = changes(service, orgs, json!({"targets": orgs})).await;
    let all = changes(service, orgs, json!({"targets": people})).await;
    let counts: BTreeMap<(String, String), u64> =
        all.iter().map(|step| (place(&step["tenant"], &step["to"]), step["entitlements"].as_u64().unwrap())).collect();
    for one in list(&expected["entitlements"]).filter(|one| one["snapshot"] != "2018-10-01") {
        // The step that an organisation appears in has no snapshot before it.
        if let Some(count) = counts.get(&place(&one["org"], &one["snapshot"])) {
            assert_eq!(json!(count), one["entitlements"], "{one}");
        }
    }
    let shown: BTreeMap<_, _> = steps.iter().map(|step| (place(&step["tenant"], &step["to"]), step)).collect();
    let appeared: BTreeSet<&str> = ["kubernetes-nightly", "etcd-io"].into();
    let mut compared = 0;
    for one in list(&expected["steps"]) {
        let key = place(&one["org"], &one["to"]);
        let Some(step) = shown.get(&key) else {
            assert!(appeared.contains(key.0.as_str()), "{key:?}");
            continue;
        };
        assert_eq!(
            (names(&step["joined"]), names(&step["left"])),
            (names(&one["joined"]), names(&one["left"])),
            "{key:?}"
        );
        let changed = list(&step["changed"])
            .map(|one| [text(&one["subject"]).to_lowercase(), text(&one["before"][0]), text(&one["now"][0])]);
        let expected = list(&one["changed"]).map(|row| [0, 1, 2].map(|at| text(&row[at])));
        assert_eq!(changed.collect::<BTreeSet<_>>(), expected.collect(), "{key:?}");
        compared += 1;
    }
    assert!(compared >= 140 && steps.len() > 200, "{compared} of {}", steps.len());
}

#[tokio::test]
async fn quarters_as_snapshots_show_them_and_as_the_change_log_tells_them() {
    let Some(folder) = shared("access-snapshots") else { return };
    let files = ["kubernetes-org-quarterly.ndjson.gz", "kubernetes-org-changes.ndjson.gz"];
    let [snapshots, log]: [PathBuf; 2] = files.map(|name| folder.join(name));
    let (snapshots, log) = (snapshots.to_str().unwrap(), log.to_str().unwrap());
    let expected = oracle(&["--snapshots", snapshots]);
    let orgs: BTreeSet<String> = list(&expected["entitlements"]).map(|one| text(&one["org"])).collect();
    let orgs: Vec<&str> = orgs.iter().map(String::as_str).collect();
    let data = tempfile::tempdir().unwrap();
    let service = Service::start(data.path(), &[]);
    service.register(&orgs);
    let import = ["access", "import", "--json", "--url", &service.url, "--form", "github-org", snapshots];
    let key = [("PIPEROLL_KEY", service.key.clone())];
    let imported = run_json_in(&key, &import);
    assert_eq!((&imported["refused"], &imported["events"]["rejected"]), (&json!({}), &json!(0)), "{imported}");
    as_snapshots_show(&service, &orgs, &expected).await;
    // Once more: nothing new.
    let again = run_json_in(&key, &import);
    assert_eq!(
        (&again["events"]["accepted"], &again["events"]["duplicates"]),
        (&json!(0), &imported["events"]["accepted"])
    );

    let by_log = oracle(&["--log", snapshots, log]);
    let events: Vec<String> = list(&by_log["steps"]).flat_map(told).collect();
    for part in events.chunks(5_000) {
        let (status, sent) = service.post("/v1/events", part.join("\n")).await;
        assert!(status == 200 && sent["rejected"] == 0, "{status} {}", sent["rejected"]);
    }
    let steps = changes(&service, &orgs, json!({"targets": orgs})).await;
    let shown: BTreeMap<_, _> = steps.iter().map(|step| (place(&step["tenant"], &step["to"]), step)).collect();
    let is_shown = |org: &Value, to: &Value| shown.contains_key(&place(org, to));
    let ours: BTreeSet<(String, String)> = steps
        .iter()
        .flat_map(|step| {
            list(&step["disagreements"]).map(|one| (text(&step["tenant"]), text(&one["subject"]).to_lowercase()))
        })
        .collect();
    let theirs = list(&by_log["disagreements"]).filter(|one| is_shown(&one["org"], &one["to"]));
    assert_eq!(ours, theirs.map(|one| (text(&one["org"]), text(&one["login"]))).collect());
    let silent: usize = list(&by_log["silent"])
        .filter(|one| is_shown(&one["org"], &one["to"]))
        .map(|one| count(one, "joined") + count(one, "left"))
        .sum();
    assert_eq!(steps.iter().map(|step| count(step, "unexplained")).sum::<usize>(), silent);
    let moved = steps.iter().map(|step| count(step, "joined") + count(step, "left")).sum::<usize>();
    let agreed: u64 = steps.iter().map(|step| step["agreed"].as_u64().unwrap()).sum();
    assert!(agreed as usize + silent <= moved && agreed > 5_000, "{agreed} of {moved}, {silent} silent");
}
