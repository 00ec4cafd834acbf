//! Evidence bundles from outside: made, fetched, and judged by a script that knows nothing but FORMAT.md.
//!
//! Not here: every way to change one (`piperoll-verify`'s own tests), what is shown to whom in SQL (`access`).

use crate::access::principal_with;
use crate::keys;
use crate::program::{Service, client, event, events, run_json, verifier};
use crate::python::python;
use crate::retention::policy;
use serde_json::{Value, json};
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

const JSON: &[(&str, &str)] = &[("content-type", "application/json")];

/// Judges a bundle by the script of at most 80 lines.
fn judged(python: &Path, bundle: &Path, key: &str) -> Output {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bundle.py");
    Command::new(python).arg(script).arg(bundle).arg(key).output().unwrap()
}

/// The names of a bundle's files that hold a text.
fn members_with(python: &Path, bundle: &Path, text: &str) -> String {
    let script = "import sys, zipfile\nz = zipfile.ZipFile(sys.argv[1])\n\
        print(*[n for n in z.namelist() if sys.argv[2].encode() in z.read(n)])";
    let output = Command::new(python).args(["-c", script]).arg(bundle).arg(text).output().unwrap();
    assert!(output.status.success(), "{output:?}");
    String::from_utf8(output.stdout).unwrap().trim().into()
}

fn found(output: &Output) -> Value {
    serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"))
}

async fn asked(service: &Service, question: Value) -> (u16, Value) {
    service.post_with("/v1/bundles", question.to_string(), JSON).await
}

async fn status(service: &Service, id: &str) -> Value {
    serde_json::from_str(&service.get(&format!("/v1/bundles/acme/{id}")).await.1).unwrap()
}

async fn ready(service: &Service, id: &str) -> Value {
    for _ in 0..600 {
        let now = status(service, id).await;
        if now["state"] != "making" && now["state"] != "stopped" {
            assert_eq!(now["state"], "ready", "{now}");
            return now;
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    panic!("the bundle {id} is never ready");
}

/// Makes a bundle of acme's and fetches it.
async fn made(service: &Service, more: Value, into: &Path) -> Value {
    let mut question = json!({"tenant": "acme", "audience": "Big Buyer, Inc.", "streams": ["audit"]});
    more.as_object().into_iter().flatten().for_each(|(name, value)| question[name] = value.clone());
    let (code, begun) = asked(service, question).await;
    assert_eq!(code, 200, "{begun}");
    let id = begun["id"].as_str().unwrap();
    let told = ready(service, id).await;
    std::fs::write(into, service.bytes(&format!("/v1/bundles/acme/{id}/file")).await).unwrap();
    assert_eq!(told["bytes"], std::fs::metadata(into).unwrap().len());
    told
}

/// A service with 700 sealed entries of acme's, and 300 that are not; and a moment between the two.
async fn brought(folder: &Path) -> (Service, String) {
    let service = Service::start(folder, &["--seal-on-exit"]);
    service.post("/v1/events", events("acme", 0, 700)).await;
    service.stop();
    tokio::time::sleep(Duration::from_millis(5)).await;
    let service = Service::start(folder, &[]);
    service.post("/v1/events", events("acme", 700, 300)).await;
    let sql = "SELECT min(recorded_at) FROM audit WHERE seq >= 700";
    let since = service.rows(&["acme"], sql).await[0][0].as_str().unwrap().to_string();
    service.post("/v1/events", event("odd", "acme", &json!({"outcome": "denied", "source_ip": "203.0.113.9"}))).await;
    (service, since)
}

#[tokio::test]
async fn a_bundle_is_judged_by_a_stranger() {
    let Some(python) = python() else { return };
    let folder = tempfile::tempdir().unwrap();
    let (service, since) = brought(folder.path()).await;
    let key = service.key().await.to_string();
    let out = folder.path().join("bundle.zip");
    let all = made(&service, json!({"proofs": {"audit": [0, 1000]}}), &out).await;
    let audit = |output: &Output| found(output)["streams"]["audit"].clone();
    assert_eq!(audit(&judged(&python, &out, &key))["entries"], 1_001);
    // Of a stranger's ledger nothing is believed.
    let stranger = ledger::LedgerKey::from_secret(&[9; 32]).verifier(key.split('+').next().unwrap()).to_string();
    assert!(!judged(&python, &out, &stranger).status.success());
    // Half of a period, with a neighbour that shows where it begins.
    made(&service, json!({"from": since}), &out).await;
    let half = audit(&judged(&python, &out, &key));
    assert_eq!((&half["first"], &half["neighbours"], &half["entries"]), (&json!(700), &json!(1), &json!(301)));
    made(&service, json!({"until": since}), &out).await;
    assert_eq!(audit(&judged(&python, &out, &key))["entries"], 700);
    // What does not fulfil a condition is counted, and sections are left out.
    let question = json!({"where": "outcome = 'denied'", "withhold": ["origin", "details"]});
    made(&service, question, &out).await;
    let few = audit(&judged(&python, &out, &key));
    assert_eq!((&few["entries"], &few["withheld"]), (&json!(1), &json!(1_000)));
    assert_eq!(members_with(&python, &out, "203.0.113.9"), "", "in no file");
    made(&service, json!({"where": "outcome = 'denied'"}), &out).await;
    let shown = members_with(&python, &out, "203.0.113.9");
    assert!(shown.contains("entries-000000.ndjson") && shown.contains("entries-000000.parquet"), "{shown}");
    // The next one goes on from the one before.
    service.post("/v1/events", events("acme", 2_000, 5)).await;
    let next = made(&service, json!({"previous": all["id"]}), &out).await;
    assert_ne!(next["manifest_sha256"], all["manifest_sha256"]);
    assert_eq!(audit(&judged(&python, &out, &key))["entries"], 1_006);
    // One byte of it changed, anywhere: the judge finds it, or cannot read it.
    let whole = std::fs::read(&out).unwrap();
    for at in (0..whole.len()).step_by(whole.len() / 40) {
        let mut changed = whole.clone();
        changed[at] ^= 0x10;
        std::fs::write(&out, changed).unwrap();
        let again = judged(&python, &out, &key);
        let is_same = again.status.success() && audit(&again)["entries"] == 1_006;
        // Of a zip archive times and the like are nobody's word.
        assert!(!again.status.success() || is_same, "{at}: {again:?}");
    }
}

#[tokio::test]
async fn making_a_bundle_goes_on_where_it_stopped() {
    let folder = tempfile::tempdir().unwrap();
    let (service, _) = brought(folder.path()).await;
    let out = folder.path().join("bundle.zip");
    let told = made(&service, json!({}), &out).await;
    let (id, first) = (told["id"].as_str().unwrap().to_string(), std::fs::read(&out).unwrap());
    service.kill();
    // As a stop before its end leaves it, and before its only part.
    let kept = folder.path().join("store/tenant=acme/_bundles").join(&id);
    for (gone, done) in [(vec!["end", "end-facts"], 1), (vec!["end", "end-facts", "facts-000000", "part-000000"], 0)] {
        gone.iter().for_each(|name| std::fs::remove_file(kept.join(name)).unwrap());
        let service = Service::start(folder.path(), &[]);
        let listed: Value = serde_json::from_str(&service.get("/v1/bundles/acme").await.1).unwrap();
        assert_eq!((&listed["bundles"][0]["state"], &listed["bundles"][0]["done"]), (&json!("stopped"), &json!(done)));
        assert_eq!(ready(&service, &id).await["manifest_sha256"], told["manifest_sha256"]);
        assert_eq!(service.bytes(&format!("/v1/bundles/acme/{id}/file")).await, first, "the same bytes");
        service.kill();
    }
    let service = Service::start(folder.path(), &[]);
    let taken = client(&service.key).delete(format!("{}/v1/bundles/acme/{id}", service.url)).send().await.unwrap();
    assert_eq!(taken.status().as_u16(), 200);
    assert_eq!(service.get(&format!("/v1/bundles/acme/{id}")).await.0, 404);
    assert!(!kept.exists() || std::fs::read_dir(&kept).unwrap().next().is_none());
    // A store with bundles in it is as sound as one without.
    let told = made(&service, json!({}), &out).await;
    service.stop();
    let report = run_json(&["fsck", "--json", "--data", folder.path().to_str().unwrap()]);
    assert_eq!(report["sound"], true, "{report}");
    assert_eq!(told["state"], "ready");
}

#[tokio::test]
async fn a_bundle_goes_only_where_the_policy_lets_it() {
    let folder = tempfile::tempdir().unwrap();
    let config = folder.path().join("piperoll.toml");
    std::fs::write(&config, "region = 'eu-central-1'\n").unwrap();
    let service = Service::start(&folder.path().join("data"), &["--config", config.to_str().unwrap()]);
    let class =
        |id: &str, class: &str| event(id, "acme", &json!({"resource": {"type": "file", "id": id, "class": class}}));
    service.post("/v1/events", [class("a", "public"), class("b", "pii"), class("c", "pii")].concat()).await;
    let grant = json!({"change": "grant.create", "principal": "administrator", "role": "compliance-officer",
        "tenants": ["platform"], "subtree": true});
    let rules = json!([{"classes": ["public"], "regions": ["eu-central-1", "us-east-1"]}]);
    let policy = json!({"change": "residency.set", "tenant": "acme", "regions": ["eu-central-1"], "rules": rules,
        "reason": "the contract"});
    service.change(&[grant, policy]);
    let question = |region: &str| json!({"tenant": "acme", "audience": "x", "streams": ["audit"], "region": region});
    let mut unsaid = question("");
    unsaid.as_object_mut().unwrap().remove("region");
    let (code, answer) = asked(&service, unsaid).await;
    assert!(code == 422 && answer["detail"].as_str().unwrap().contains("say with region"), "{answer}");
    // Names are compared as names.
    for region in ["eu-central", "eu-central-11", "ap-south-1"] {
        assert_eq!(asked(&service, question(region)).await.0, 422, "{region}");
    }
    for (region, entries) in [("eu-central-1", 3), ("us-east-1", 1)] {
        let (code, begun) = asked(&service, question(region)).await;
        assert_eq!(code, 200, "{begun}");
        let told = ready(&service, begun["id"].as_str().unwrap()).await;
        assert_eq!(told["streams"]["audit"]["entries"], entries, "{region}");
    }
    // A condition cannot reach around it.
    let mut sly = question("us-east-1");
    sly["where"] = json!("true) OR (true");
    assert_eq!(asked(&service, sly).await.0, 422);
    // That it was asked for, for whom and to where stands in the tenant's own trail.
    let sql = "SELECT attributes FROM access WHERE action LIKE '%' AND attributes LIKE '%us-east-1%'";
    assert!(!service.rows(&["acme"], sql).await.is_empty());
}

/// The objects that are kept of acme's bundles.
fn kept(data: &Path) -> Vec<Vec<u8>> {
    let bundles = std::fs::read_dir(data.join("store/tenant=acme/_bundles")).into_iter().flatten();
    let objects = bundles.flat_map(|bundle| std::fs::read_dir(bundle.unwrap().path()).into_iter().flatten());
    objects.map(|object| std::fs::read(object.unwrap().path()).unwrap()).collect()
}

#[tokio::test]
async fn what_is_purged_is_in_no_bundle_any_more() {
    let folder = tempfile::tempdir().unwrap();
    let service = keys::start(folder.path(), "");
    service.post("/v1/events", events("acme", 0, 300)).await;
    service.stop();
    let service = keys::start(folder.path(), "");
    let officer = json!({"change": "grant.create", "principal": "administrator", "role": "compliance-officer",
        "tenants": ["platform"], "subtree": true});
    service.change(&[officer, policy("all", &json!({"tenant": "acme", "streams": ["audit"], "at_most_days": 0}))]);
    let told = made(&service, json!({}), &folder.path().join("b.zip")).await;
    assert!(!kept(&folder.path().join("data")).is_empty());
    let planned = service.post("/v1/retention/plans", json!({"tenants": ["acme"]}).to_string()).await.1;
    let plan = &planned["plan"];
    assert_eq!(plan["entries"], 300, "{planned}");
    let order = json!({"plan": planned["sha256"], "as_of": plan["as_of"], "tenants": plan["tenants"]});
    assert_eq!(service.post("/v1/retention/runs", order.to_string()).await.0, 200);
    assert!(kept(&folder.path().join("data")).is_empty());
    let path = format!("/v1/bundles/acme/{}", told["id"].as_str().unwrap());
    assert_eq!(service.get(&format!("{path}/file")).await.0, 404);
    // What is left can be shown, and says what is gone.
    let Some(python) = python() else { return };
    service.post("/v1/events", events("acme", 300, 5)).await;
    let out = folder.path().join("left.zip");
    made(&service, json!({}), &out).await;
    let key = service.key().await.to_string();
    let left = found(&judged(&python, &out, &key));
    let audit = &left["streams"]["audit"];
    assert_eq!(
        (&audit["gone"], &audit["size"], &audit["withheld"]),
        (&json!(300), &audit["entries"].as_u64().map(|n| json!(n + 300)).unwrap(), &json!(0))
    );
}

#[tokio::test]
async fn reports_go_with_a_bundle_of_which_nothing_is_withheld() {
    let folder = tempfile::tempdir().unwrap();
    let service = keys::start(folder.path(), "");
    service.post("/v1/events", events("acme", 0, 300)).await;
    service.stop();
    let service = keys::start(folder.path(), "");
    let out = folder.path().join("b.zip");
    let grant = |role: &str| {
        json!({"change": "grant.create", "principal": "administrator", "role": role, "tenants": ["platform"],
            "subtree": true})
    };
    let by_policy = policy("by-contract", &json!({"tenant": "acme", "streams": ["audit"], "at_most_days": 0}));
    service.change(&[grant("compliance-officer"), grant("security-analyst"), by_policy]);
    let opened = json!({"change": "incident.open", "title": "Somebody looked", "severity": "high", "tenant": "acme"});
    let opened = service.change(&[opened, json!({"change": "incident.open", "title": "Elsewhere"})]);
    let incident = |at: usize| opened["changes"][at]["made"]["incident"].as_str().unwrap().to_string();
    let planned = service.post("/v1/retention/plans", json!({"tenants": ["acme"]}).to_string()).await.1;
    let order = json!({"plan": planned["sha256"], "as_of": planned["plan"]["as_of"], "tenants": ["acme"]});
    assert_eq!(service.post("/v1/retention/runs", order.to_string()).await.0, 200);
    service.post("/v1/events", events("acme", 300, 5)).await;
    let forged = json!({"action": "retention.purged", "attributes": {"policy": "a-forged-one"}});
    service.post("/v1/events", event("purge-pffffffffffffffff-1", "acme", &forged)).await;
    let all = ["access", "certificates", "keys", "looks", "residency", "verification"];
    let own = format!("incident:{}", incident(0));
    let asked_for: Vec<&str> = all.iter().copied().chain([own.as_str()]).collect();
    made(&service, json!({"reports": asked_for}), &out).await;
    if let Some(mut verifier) = verifier() {
        let key = service.key().await.to_string();
        let held = found(&verifier.args(["bundle", "--json", "--trust", &key]).arg(&out).output().unwrap());
        let reports = held["reports"].as_array().unwrap();
        let named: Vec<&str> = reports.iter().map(|one| one["kind"].as_str().unwrap()).collect();
        assert_eq!(
            named,
            ["access", "certificates", "incident", "keys", "looks", "residency", "verification"],
            "{held}"
        );
    }
    // Though something of the platform's was looked at for it, it stands in the tenant's own trail that it was asked for.
    let sql = "SELECT json_text(attributes, '/audience') FROM access WHERE json_text(attributes, '/reports') LIKE '%keys looks%'";
    assert!(service.rows(&["acme"], sql).await.contains(&vec![json!("Big Buyer, Inc.")]));
    // Why entries are gone stands beside them; and what the person is told who reads.
    if let Some(python) = python() {
        let with = |text: &str| members_with(&python, &out, text);
        assert!(with("by-contract").contains("reports/certificates.json"), "{}", with("by-contract"));
        assert!(!with("a-forged-one").contains("reports/"), "{}", with("a-forged-one"));
        assert_eq!(with("Somebody looked"), format!("reports/incident-{}.json", incident(0)));
        assert!(with("retention.run").contains("reports/looks.json"), "{}", with("retention.run"));
        assert_eq!(with("signed note beside it"), "README.txt");
    }
    // Where the tenant's data is: here, too.
    let residency: Value = serde_json::from_str(&service.get("/v1/tenants/acme/residency").await.1).unwrap();
    let held = &residency["answer"]["storage"]["by_kind"]["bundles"];
    assert!(held["objects"].as_u64() >= Some(5), "{residency}");
    // What tells of others, of what is withheld, or is nothing, is refused.
    let masked = json!({"role": "security-analyst", "tenants": ["acme"], "masked": ["origin"]});
    let masked = service.with_key(&principal_with(&service, "masked", None, masked));
    let analyst = json!({"role": "security-analyst", "tenants": ["acme"]});
    let analyst = service.with_key(&principal_with(&service, "analyst", None, analyst));
    let question =
        |reports: Value| json!({"tenant": "acme", "audience": "x", "streams": ["audit"], "reports": reports});
    let mut withheld = question(json!(["looks"]));
    withheld["withhold"] = json!(["actor"]);
    for (question, why) in [
        (question(json!([format!("incident:{}", incident(1))])), "not acme's alone"),
        (withheld, "what is withheld"),
        (question(json!(["looks", "grades"])), "no report \"grades\""),
    ] {
        let (code, answer) = asked(&service, question).await;
        assert!(code == 422 && answer["detail"].as_str().unwrap().contains(why), "{answer}");
    }
    let body = |reports: Value| question(reports).to_string();
    assert_eq!(masked.post_with("/v1/bundles", body(json!(["looks"])), JSON).await.0, 422);
    assert_eq!(analyst.post_with("/v1/bundles", body(json!(["certificates"])), JSON).await.0, 403);
}

#[tokio::test]
async fn a_bundle_lies_under_its_tenants_key_and_goes_with_it() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let service = keys::start(folder.path(), "");
    service.post("/v1/events", events("acme", 0, 50)).await;
    let shows = |objects: Vec<Vec<u8>>| {
        let tells = |object: &Vec<u8>| object.windows(13).any(|window| window == b"streams/audit");
        objects.iter().filter(|object| tells(object)).count()
    };
    made(&service, json!({}), &folder.path().join("plain.zip")).await;
    let plain = shows(kept(&data));
    assert!(plain > 0);
    service.change(&[keys::change("key.create")]);
    let under = folder.path().join("under.zip");
    let told = made(&service, json!({}), &under).await;
    assert_eq!(shows(kept(&data)), plain, "the second is sealed");
    // After a start the same bytes come out.
    service.stop();
    let service = keys::start(folder.path(), "");
    let path = format!("/v1/bundles/acme/{}/file", told["id"].as_str().unwrap());
    assert_eq!(service.bytes(&path).await, std::fs::read(&under).unwrap());
    let officer = keys::officer(&service);
    service.change(&[keys::change("key.destroy")]);
    assert_eq!(service.try_change(&officer, &[keys::change("key.destroy")]).0, 200);
    let state = async || service.rows(&[], "SELECT DISTINCT state FROM keys").await == [[json!("destroyed")]];
    keys::until("keys are destroyed", state).await;
    assert!(kept(&data).is_empty(), "the one from before the key too");
}

#[tokio::test]
async fn a_bundle_is_its_own_persons_and_shows_what_they_see() {
    let folder = tempfile::tempdir().unwrap();
    let (service, _) = brought(folder.path()).await;
    let told = made(&service, json!({}), &folder.path().join("b.zip")).await;
    let sees = |role: &str, tenant: &str| json!({"role": role, "tenants": [tenant], "masked": ["origin"]});
    let other = principal_with(&service, "other", None, sees("security-analyst", "acme"));
    let none = principal_with(&service, "none", None, sees("security-analyst", "globex"));
    let path = format!("/v1/bundles/acme/{}", told["id"].as_str().unwrap());
    for (who, code) in [(&other, 404), (&none, 403)] {
        assert_eq!(service.with_key(who).get(&path).await.0, code);
        assert_eq!(service.with_key(who).get(&format!("{path}/file")).await.0, code);
    }
    let question = json!({"tenant": "acme", "audience": "x", "streams": ["audit"]}).to_string();
    assert_eq!(service.with_key(&none).post_with("/v1/bundles", question.clone(), JSON).await.0, 403);
    let (code, begun) = service.with_key(&other).post_with("/v1/bundles", question, JSON).await;
    assert_eq!((code, &begun["withheld"]), (200, &json!(["origin"])), "{begun}");
}
