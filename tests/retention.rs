//! Retention from outside: policies, holds, plans, runs, certificates, and what stays provable.
//!
//! Not here: which entries a policy lets go (`retention::judge`), crashes of a purge (`ledger_store`).

use crate::access::principal_with;
use crate::program::{Service, event, run, run_json, run_json_in};
use crate::python;
use ledger::report::ReportNote;
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

/// A service whose purged files go at once.
pub fn service(folder: &Path) -> Service {
    let config = folder.join("piperoll.toml");
    std::fs::write(&config, "[limits]\nundo_seconds = 0\nremoved_grace_seconds = 0\n").unwrap();
    Service::start(&folder.join("data"), &["--config", config.to_str().unwrap(), "--seal-bytes", "20000"])
}

/// Sends 700 events of `acme`, every tenth of class `financial`, every seventh by `u-7`, and seals them.
async fn filled(folder: &Path) -> Service {
    let one = service(folder);
    let officer = json!({"change": "grant.create", "principal": "administrator", "role": "compliance-officer",
        "tenants": ["platform"], "subtree": true});
    one.change(&[officer]);
    for tenant in ["acme", "globex"] {
        let line = |n: usize| {
            let class = if n.is_multiple_of(10) { "financial" } else { "usage" };
            let actor = if n.is_multiple_of(7) { "u-7" } else { "u-1" };
            let more = json!({"actor": {"type": "user", "id": actor}, "resource": {"type": "report", "id": format!("r-{n}"), "class": class},
                "attributes": {"marker": format!("m-{tenant}-{n}-x")}});
            event(&format!("{tenant}-{n}"), tenant, &more)
        };
        for part in [0..300, 300..700] {
            assert_eq!(one.post("/v1/events", part.map(line).collect::<String>()).await.0, 200);
        }
    }
    // A stop seals what is left.
    one.stop();
    let sealing = Service::start(&folder.join("data"), &["--seal-on-exit"]);
    sealing.stop();
    service(folder)
}

/// The key of somebody who may decide what is kept.
pub fn officer(service: &Service, name: &str) -> String {
    principal_with(service, name, None, json!({"role": "compliance-officer", "tenants": ["platform"], "subtree": true}))
}

pub fn policy(name: &str, more: &Value) -> Value {
    let mut policy = json!({"change": "retention.set", "policy": name, "basis": "contract 4.2", "reason": "asked"});
    for (key, value) in more.as_object().into_iter().flatten() {
        policy[key] = value.clone();
    }
    policy
}

async fn plan(service: &Service, tenants: &[&str]) -> Value {
    let (status, planned) = service.post("/v1/retention/plans", json!({"tenants": tenants}).to_string()).await;
    assert_eq!(status, 200, "{planned}");
    planned
}

async fn carry_out(service: &Service, planned: &Value) -> (u16, Value) {
    let plan = &planned["plan"];
    let order = json!({"plan": planned["sha256"], "as_of": plan["as_of"], "tenants": plan["tenants"]});
    service.post("/v1/retention/runs", order.to_string()).await
}

pub fn count(folder: &Path, marker: &str) -> usize {
    let entries = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    entries
        .map(|path| match path.is_dir() {
            true => count(&path, marker),
            false => {
                let bytes = std::fs::read(&path).unwrap_or_default();
                usize::from(bytes.windows(marker.len()).any(|window| window == marker.as_bytes()))
            }
        })
        .sum()
}

#[tokio::test]
async fn policies_that_cannot_be_meant_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let service = service(folder.path());
    let officer = officer(&service, "officer");
    let try_it = |change: Value| {
        let (status, answer) = service.try_change(&officer, &[change]);
        (status, answer["detail"].as_str().unwrap_or_default().to_string())
    };
    for (change, why) in [
        (policy("p", &json!({})), "at_least_days, at_most_days or both"),
        (policy("p", &json!({"at_least_days": 9, "at_most_days": 8})), "shorter than at_least_days"),
        (policy("P", &json!({"at_most_days": 8})), "a name of small letters"),
        (policy("p", &json!({"at_most_days": 8, "streams": ["control"]})), "kept whole"),
        (policy("p", &json!({"at_most_days": 8, "tenant": "nobody"})), "no tenant nobody"),
        (policy("p", &json!({"at_most_days": 8, "basis": ""})), "basis is required"),
    ] {
        let (status, detail) = try_it(change);
        assert!(status == 422 && detail.contains(why), "{detail}");
    }
    assert_eq!(
        try_it(policy("tax", &json!({"at_least_days": 3_650, "classes": ["financial"], "locked": true}))).0,
        200
    );
    // It could never come to pass; what is only kept in part by another may.
    let (status, detail) = try_it(policy("short", &json!({"at_most_days": 30, "classes": ["financial"]})));
    assert!(status == 422 && detail.contains("policy tax keeps all of it for at least 3650 days"), "{detail}");
    assert_eq!(try_it(policy("short", &json!({"at_most_days": 30}))).0, 200);
    for (change, why) in [
        (
            policy("tax", &json!({"at_least_days": 3_649, "classes": ["financial"], "locked": true})),
            "only be made longer",
        ),
        (policy("tax", &json!({"at_least_days": 3_650, "classes": ["financial"]})), "stays locked"),
        (policy("tax", &json!({"at_least_days": 3_650, "locked": true})), "stays about what it is about"),
        (json!({"change": "retention.end", "policy": "tax", "reason": "x"}), "only be made longer"),
        (json!({"change": "retention.end", "policy": "none", "reason": "x"}), "no retention policy none"),
        (json!({"change": "hold.set", "tenant": "acme", "matter": "", "reason": "x"}), "matter is required"),
    ] {
        let (status, detail) = try_it(change);
        assert!(status == 422 && detail.contains(why), "{detail}");
    }
    let longer = policy("tax", &json!({"at_least_days": 4_000, "classes": ["financial"], "locked": true}));
    assert_eq!(try_it(longer).0, 200);
}

#[tokio::test]
async fn what_is_due_goes_what_is_held_stays_and_all_of_it_is_proven() {
    let folder = tempfile::tempdir().unwrap();
    let service = filled(folder.path()).await;
    let (_, before) = service.get("/v1/tenants/acme/audit/checkpoint").await;
    // Nothing goes by itself.
    assert_eq!(plan(&service, &[]).await["plan"]["entries"], 0);
    service.change(&[
        policy("all", &json!({"tenant": "acme", "streams": ["audit"], "at_most_days": 0})),
        policy("tax", &json!({"tenant": "acme", "at_least_days": 3_650, "classes": ["financial"]})),
        json!({"change": "hold.set", "tenant": "acme", "actors": ["u-7"], "matter": "case 7", "reason": "litigation", "two_people": true}),
    ]);
    let planned = plan(&service, &[]).await;
    let (financial, held) = (70, (0..700).filter(|n| n % 7 == 0 && n % 10 != 0).count());
    let goes = 700 - financial - held;
    let one = &planned["plan"];
    assert_eq!((&one["entries"], &one["kept"], &one["held"]), (&json!(goes), &json!(financial), &json!(held)), "{one}");
    assert_eq!(one["streams"][0]["by_policy"], json!({"all": goes}));
    // Asked again of the same moment, it is the same; looking changes nothing.
    let again = json!({"tenants": [], "as_of": one["as_of"]}).to_string();
    assert_eq!(service.post("/v1/retention/plans", again).await.1["sha256"], planned["sha256"]);
    // All that the hold holds, also what no policy lets go.
    let (_, all) = service.post("/v1/retention/held", "{}").await;
    let of_audit: Vec<&Value> = all["held"].as_array().unwrap().iter().filter(|one| one["stream"] == "audit").collect();
    assert_eq!(
        (of_audit.len(), &of_audit[0]["entries"], &of_audit[0]["ranges_count"]),
        (1, &json!(100), &json!(100)),
        "{all}"
    );
    assert_eq!((&of_audit[0]["ranges"][1], &of_audit[0]["matter"]), (&json!([7, 7]), &json!("case 7")));
    // A hold that is set after the plan was looked at makes it another.
    let hold = json!({"change": "hold.set", "tenant": "globex", "matter": "case 8", "reason": "x"});
    let set = service.change(&[hold]);
    let (status, stale) = carry_out(&service, &planned).await;
    assert!(status == 409 && stale["detail"].as_str().unwrap().contains("plan again"), "{stale}");
    let id = set["changes"][0]["made"]["hold"].clone();
    service.change(&[json!({"change": "hold.release", "id": id, "reason": "settled"})]);
    let planned = plan(&service, &[]).await;
    let (status, report) = carry_out(&service, &planned).await;
    assert!(status == 200 && report["outcome"] == "done" && report["entries"] == goes, "{report}");
    // Exactly that is gone.
    let left = service.rows(&["acme"], "SELECT count(*), count(*) FILTER (WHERE actor_id <> 'u-7' AND data_class <> 'financial') FROM audit WHERE action <> 'retention.purged'").await;
    assert_eq!(left, [[json!(700 - goes), json!(0)]]);
    assert_eq!(service.rows(&["globex"], "SELECT count(*) FROM audit").await, [[json!(700)]]);
    // Counts and numbers are those of what is there, also where a segment has gaps.
    let rows = service.rows(&["acme"], "SELECT seq, event_id FROM audit WHERE action <> 'retention.purged'").await;
    assert!(rows.iter().all(|row| row[1] == format!("acme-{}", row[0])), "{rows:?}");
    assert_eq!(service.rows(&["acme"], "SELECT count(*) FROM audit").await, [[json!(700 - goes + 1)]]);
    assert_eq!(service.rows(&["acme"], "SELECT event_id FROM audit WHERE seq = 350").await, [[json!("acme-350")]]);
    assert!(service.rows(&["acme"], "SELECT event_id FROM audit WHERE seq = 351").await.is_empty());
    // A purge is begun by a plan and by nothing else; and the tenant does not release what others hold of it.
    let begin =
        json!({"change": "purge.begin", "as_of": "2020-01-01T00:00:00Z", "version": 0, "plan": "00", "entries": 0});
    assert_eq!(service.try_change(&service.key, &[begin]).0, 422);
    let own =
        principal_with(&service, "own", Some("acme"), json!({"role": "tenant-administrator", "tenants": ["acme"]}));
    let holds = service.rows(&["acme"], "SELECT hold FROM holds WHERE state = 'holds'").await;
    let release = json!({"change": "hold.release", "id": holds[0][0], "reason": "x"});
    assert_eq!(service.try_change(&own, &[release]).0, 403);
    // A second run finds nothing to do.
    let again = plan(&service, &[]).await;
    assert_eq!((&again["plan"]["entries"], &again["plan"]["held"]), (&json!(0), &json!(held)));
    assert_eq!(carry_out(&service, &again).await.1["outcome"], "nothing to do");
    // The certificate: a row, an entry of the stream itself, and signed.
    let rows = service.rows(&["acme"], "SELECT tenant, stream, entries, run FROM certificates").await;
    assert_eq!(rows, [[json!("acme"), json!("audit"), json!(goes), report["run"].clone()]]);
    let own = service.rows(&["acme"], "SELECT attributes FROM audit WHERE action = 'retention.purged'").await;
    let certificate: Value = serde_json::from_str(own[0][0].as_str().unwrap()).unwrap();
    assert_eq!((&certificate["entries"], &certificate["policies"][0]["policy"]), (&json!(goes), &json!("all")));
    assert_eq!(certificate["policies"][0]["basis"], "contract 4.2");
    let told = service.rows(&["acme"], "SELECT attributes FROM access WHERE action = 'purge.certify'").await;
    let told: Value = serde_json::from_str(told[0][0].as_str().unwrap()).unwrap();
    assert_eq!(told["certificate"].as_str().unwrap(), own[0][0].as_str().unwrap());
    let keys: Value = serde_json::from_str(&service.get("/v1/keys").await.1).unwrap();
    let key: ledger::VerifierKey = keys["keys"][0]["vkey"].as_str().unwrap().parse().unwrap();
    let ledger = keys["ledger"].as_str().unwrap().parse().unwrap();
    let note = ReportNote::open(told["note"].as_str().unwrap().as_bytes(), &ledger, &[key]).unwrap();
    assert_eq!(note.sha256, ledger::Hash::of(told["certificate"].as_str().unwrap().as_bytes()));
    // What stays is proven; of a block that is not wholly gone also what went; the head that was kept still leads here.
    for seq in [0, 1, 7, 699] {
        let (status, proof) = service.get(&format!("/v1/tenants/acme/audit/proof/inclusion?seq={seq}")).await;
        assert_eq!(status, 200, "{seq}: {proof}");
    }
    let size: u64 = before.lines().nth(1).unwrap().parse().unwrap();
    let (status, proof) = service.get(&format!("/v1/tenants/acme/audit/proof/consistency?from={size}")).await;
    let proof: Value = serde_json::from_str(&proof).unwrap();
    assert!(status == 200 && proof.to_string().contains(before.lines().nth(2).unwrap()), "{proof}");
    // Both people's word ends the hold; then the rest goes, and blocks are wholly gone but for what is kept by law.
    let other = officer(&service, "second");
    let holds = service.rows(&["acme"], "SELECT hold FROM holds WHERE state = 'holds'").await;
    let release = json!({"change": "hold.release", "id": holds[0][0], "reason": "settled"});
    service.change(std::slice::from_ref(&release));
    assert_eq!(plan(&service, &[]).await["plan"]["held"], held);
    assert_eq!(service.try_change(&service.key, std::slice::from_ref(&release)).0, 403);
    let (status, released) = service.try_change(&other, &[release]);
    assert_eq!(status, 200, "{released}");
    service.change(&[json!({"change": "retention.end", "policy": "tax", "reason": "law changed"})]);
    let planned = plan(&service, &["acme"]).await;
    let (status, report) = carry_out(&service, &planned).await;
    assert!(status == 200 && report["outcome"] == "done", "{report}");
    let (status, gone) = service.get("/v1/tenants/acme/audit/proof/inclusion?seq=3").await;
    assert!(status == 410 && gone.contains("entry 3 is gone"), "{gone}");
    // Files and log lose it too, by and by.
    for _ in 0..300 {
        if count(&folder.path().join("data"), "m-acme-13-x") == 0 {
            break;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    assert_eq!(count(&folder.path().join("data"), "m-acme-13-x"), 0);
    service.stop();
    judged_sound(folder.path());
}

/// `fsck`, and a third party with nothing but FORMAT.md.
fn judged_sound(folder: &Path) {
    let data = folder.join("data");
    let report = run_json(&["fsck", "--json", "--data", data.to_str().unwrap()]);
    assert_eq!(report["sound"], true, "{report}");
    let acme =
        report["streams"].as_array().unwrap().iter().find(|one| one["tenant"] == "acme" && one["stream"] == "audit");
    assert_eq!(acme.unwrap()["gone"], 700, "{report}");
    let Some(python) = python::python() else { return };
    for stream in ["tenant=acme/stream=audit", "tenant=globex/stream=audit"] {
        let output = python::recompute(&python, &data.join("store"), stream);
        let found: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
        let own = run_json_in(
            &[],
            &[
                "verify",
                "--json",
                "--data",
                data.to_str().unwrap(),
                "--tenant",
                stream.split(['=', '/']).nth(1).unwrap(),
            ],
        );
        assert!(own.to_string().contains(found["root"].as_str().unwrap()), "{own} {found}");
    }
}

#[tokio::test]
async fn what_went_by_mistake_is_brought_back_while_its_files_are_there() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let config = folder.path().join("undo.toml");
    std::fs::write(&config, "[limits]\nundo_seconds = 3600\n").unwrap();
    filled(folder.path()).await.stop();
    let service = Service::start(&data, &["--config", config.to_str().unwrap(), "--seal-on-exit"]);
    service.change(&[policy("all", &json!({"tenant": "acme", "streams": ["audit"], "at_most_days": 0}))]);
    let planned = plan(&service, &["acme"]).await;
    assert_eq!(carry_out(&service, &planned).await.1["outcome"], "done");
    let own = service.rows(&["acme"], "SELECT attributes FROM audit WHERE action = 'retention.purged'").await;
    let certificate: Value = serde_json::from_str(own[0][0].as_str().unwrap()).unwrap();
    service.stop();
    let to = folder.path().join("back");
    let rescue = |more: &[&str]| {
        let place = ["rescue", "--tenant", "acme", "--data", data.to_str().unwrap()];
        run(&[&place[..], more].concat())
    };
    let listed: Value = serde_json::from_slice(&rescue(&["--json"]).stdout).unwrap();
    let taken = &listed["taken_out"][0];
    let removed = certificate["removed"]["listed"].as_array().unwrap();
    let files = json!(removed.len());
    assert_eq!((&taken["what"], &taken["files"], &taken["there"]), (&json!("purge"), &files, &files), "{listed}");
    assert_eq!(taken["entries"], 700);
    assert!(!to.exists(), "looking copies nothing");
    let commit = taken["commit"].to_string();
    let output = rescue(&["--commit", &commit, "--to", to.to_str().unwrap()]);
    assert!(output.status.success(), "{output:?}");
    // What comes back is what the certificate names.
    for object in removed {
        let path = to.join(format!("tenant=acme/stream=audit/commit-{commit}")).join(object["path"].as_str().unwrap());
        let bytes = std::fs::read(&path).unwrap();
        assert_eq!(ledger::Hash::of(&bytes).to_base64(), object["sha256"].as_str().unwrap());
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
    }
    assert_eq!(rescue(&["--to", to.to_str().unwrap()]).status.code(), Some(1), "no file is overwritten");
    assert_eq!(rescue(&["--commit", "0"]).status.code(), Some(1), "a commit that took nothing");
    // A file that is another one is not brought back; one that is gone is said to be.
    let file = data.join("store/tenant=acme/stream=audit").join(removed[0]["path"].as_str().unwrap());
    let sound = std::fs::read(&file).unwrap();
    std::fs::write(&file, &sound[1..]).unwrap();
    let refused = rescue(&["--json"]);
    assert!(
        refused.status.code() == Some(1) && String::from_utf8_lossy(&refused.stderr).contains("not the file"),
        "{refused:?}"
    );
    std::fs::remove_file(&file).unwrap();
    let elsewhere = folder.path().join("less");
    let output = rescue(&["--to", elsewhere.to_str().unwrap()]);
    assert_eq!(output.status.code(), Some(3), "{output:?}");
    // The ledger says what it said.
    let report = run_json(&["fsck", "--json", "--data", data.to_str().unwrap()]);
    assert_eq!(report["sound"], true, "{report}");
}
