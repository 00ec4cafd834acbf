//! Tenants' keys from outside: from the first to the last day of one, and what may go wrong on the way.
//!
//! Not here: what the store does about keys (`ledger_store`), the keyring's file (`access::keys`).

mod vault;

use crate::access::principal_with;
use crate::program::{Service, event, events, run, run_json};
use crate::python;
use access::keys::{Keyring, content_keys};
use ledger_store::{Ambient, Fsck, Location};
use serde_json::{Value, json};
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

const QUICK: &str = "[limits]\nundo_seconds = 0\nremoved_grace_seconds = 0\n";

fn config(folder: &Path, more: &str) -> PathBuf {
    let path = folder.join("piperoll.toml");
    std::fs::write(&path, format!("{more}{QUICK}")).unwrap();
    path
}

pub fn start(folder: &Path, more: &str) -> Service {
    let config = config(folder, more);
    Service::start(&folder.join("data"), &["--config", config.to_str().unwrap(), "--seal-on-exit"])
}

pub fn change(name: &str) -> Value {
    json!({"change": name, "tenant": "acme", "reason": "asked for"})
}

/// Events with marks in them.
fn marked(tenant: &str, from: usize, count: usize) -> String {
    let one = |n: usize| {
        let more = json!({"actor": {"type": "user", "id": "MARK-actor"}, "source_ip": "MARK-address",
            "resource": {"type": "report", "id": format!("MARK-{n}")}, "attributes": {"secret": format!("MARK-{n}")}});
        event(&format!("{tenant}-{n}"), tenant, &more)
    };
    (from..from + count).map(one).collect()
}

/// Files below a folder that hold the mark.
fn marks_in(folder: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(marks_in(&path));
        } else if std::fs::read(&path).unwrap_or_default().windows(5).any(|window| window == b"MARK-") {
            found.push(path);
        }
    }
    found
}

/// The key of somebody else who may give a word for a destruction.
pub fn officer(service: &Service) -> String {
    principal_with(
        service,
        "officer",
        None,
        json!({"role": "compliance-officer", "tenants": ["platform"], "subtree": true}),
    )
}

async fn ask(service: &Service, tenant: &str) -> (u16, Value) {
    service.with_key(&service.key).query(&[tenant], "SELECT count(*) FROM audit").await
}

fn verified(folder: &Path, tenant: &str) -> Value {
    let (data, config) = (folder.join("data"), folder.join("piperoll.toml"));
    let place = ["--data", data.to_str().unwrap(), "--config", config.to_str().unwrap()];
    run_json(&[&["verify", "--json", "--tenant", tenant][..], &place].concat())
}

pub async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    for _ in 0..300 {
        if holds().await {
            return;
        }
        tokio::time::sleep(std::time::Duration::from_millis(100)).await;
    }
    panic!("{what}: not within half a minute");
}

#[tokio::test]
async fn a_tenants_key_from_its_first_to_its_last_day() {
    let folder = tempfile::tempdir().unwrap();
    let service = start(folder.path(), "");
    let made = service.change(&[change("key.create")]);
    let first = made["changes"][0]["made"]["key"].as_str().unwrap().to_string();
    assert_eq!(service.try_change(&service.key, &[change("key.create")]).0, 409);
    assert_eq!(service.post("/v1/events", marked("acme", 0, 300)).await.0, 200);
    assert_eq!(service.post("/v1/events", events("globex", 0, 10)).await.0, 200);
    assert_eq!(marks_in(folder.path()), Vec::<PathBuf>::new(), "in the log");
    service.stop();
    let service = start(folder.path(), "");
    assert_eq!(service.rows(&["acme"], "SELECT count(*) FROM audit WHERE actor_id = 'MARK-actor'").await[0][0], 300);
    assert_eq!(marks_in(folder.path()), Vec::<PathBuf>::new(), "in segments");
    service.change(&[change("key.rotate")]);
    assert_eq!(service.post("/v1/events", marked("acme", 300, 50)).await.0, 200);
    service.change(&[change("key.disable")]);
    let (status, refused) = ask(&service, "acme").await;
    assert!(status == 403 && refused["detail"].as_str().unwrap().contains("disabled on"), "{refused}");
    let (_, refused) = service.post("/v1/events", marked("acme", 900, 1)).await;
    assert!(refused.to_string().contains("disabled on"), "{refused}");
    assert_eq!(ask(&service, "globex").await.0, 200);
    service.change(&[change("key.enable")]);
    assert_eq!(ask(&service, "acme").await.1["rows"][0][0], 350);
    // The register: which keys there are, and what is under them; signed.
    let (status, register) = service.get("/v1/tenants/acme/keys").await;
    assert!(status == 200 && register.contains(&first) && register.contains("piperoll-report/v1"), "{register}");
    assert!(!register.contains("wrapped"));
    let rows = service.rows(&[], "SELECT state FROM keys ORDER BY created_at").await;
    assert_eq!(rows, [[json!("rotated")], [json!("current")]]);
    service.stop();
    // Whoever has the keyring verifies every leaf; whoever has not, chain, heads and files.
    assert_eq!(verified(folder.path(), "acme")["unread"], 0);
    destroy(folder.path()).await;
}

/// The second half: two people destroy the keys, and nothing comes back.
async fn destroy(folder: &Path) {
    let service = start(folder, "");
    let officer = officer(&service);
    let hold = json!({"change": "hold.set", "tenant": "acme", "matter": "case 7", "reason": "asked for"});
    assert_eq!(service.try_change(&officer, &[hold]).0, 200);
    let (status, refused) = service.try_change(&service.key, &[change("key.destroy")]);
    assert!(status == 409 && refused["detail"].as_str().unwrap().contains("the hold"), "{refused}");
    let held = service.rows(&[], "SELECT hold FROM holds").await[0][0].clone();
    let release = json!({"change": "hold.release", "id": held, "reason": "over"});
    assert_eq!(service.try_change(&officer, &[release]).0, 200);
    service.change(&[change("key.destroy")]);
    let (status, refused) = service.try_change(&service.key, &[change("key.destroy")]);
    assert!(status == 403 && refused["detail"].as_str().unwrap().contains("somebody else"), "{refused}");
    assert_eq!(ask(&service, "acme").await.0, 200, "one word is no word");
    assert_eq!(service.try_change(&officer, &[change("key.destroy")]).0, 200);
    let state = async || service.rows(&[], "SELECT DISTINCT state FROM keys").await == [[json!("destroyed")]];
    until("keys are destroyed", state).await;
    let gone = |(status, answer): (u16, Value)| {
        let detail = answer.to_string();
        assert!(detail.contains("were destroyed on") && detail.contains("by officer"), "{status} {detail}");
    };
    gone(ask(&service, "acme").await);
    gone(service.post("/v1/events", marked("acme", 900, 1)).await);
    assert_eq!(ask(&service, "globex").await.1["rows"][0][0], 10);
    let proof = service.get("/v1/tenants/acme/audit/proof/consistency?from=256").await;
    assert_eq!(proof.0, 200, "{}", proof.1);
    let (status, alone) = service.get("/v1/tenants/acme/audit/proof/inclusion?seq=7").await;
    assert!(status == 410 && alone.contains("of the 256 entries around it one hash is kept"), "{alone}");
    assert!(!std::fs::read_to_string(folder.join("data/keys/keyring")).unwrap().contains("-acme "));
    service.stop();
    let service = start(folder, "");
    gone(ask(&service, "acme").await);
    service.stop();
    let report = verified(folder, "acme");
    assert_eq!(report["sound"], true, "{report}");
    assert!(report["unread"].as_u64().unwrap() >= 350, "{report}");
    assert_eq!(marks_in(folder), Vec::<PathBuf>::new());
    let shown = run(&["fsck", "--data", folder.join("data").to_str().unwrap()]);
    let told = String::from_utf8_lossy(&shown.stdout);
    assert!(shown.status.success() && told.contains("chain, heads and the hashes of files hold"), "{told}");
}

/// What the program hands in, for tests that read a store themselves.
struct Nothing;

impl Ambient for Nothing {
    fn now_micros(&self) -> i64 {
        0
    }
    fn monotonic_micros(&self) -> i64 {
        0
    }
    fn fill_random(&self, _: &mut [u8]) {}
}

/// Data keys and AAD prefixes of a stream's segments, by their names below it.
async fn data_keys(data: &Path, vkey: ledger::VerifierKey, stream: &str) -> Value {
    let ambient: Arc<dyn Ambient> = Arc::new(Nothing);
    let ring = Keyring::open(&data.join("keys/keyring"), None, Arc::clone(&ambient)).unwrap();
    let store = data.join("store");
    let objects = Location::folder(&store).open(&ledger_store::Access::new(vec![]), ambient).unwrap();
    let ledger = vkey.name().split('/').next().unwrap().parse().unwrap();
    let control =
        Fsck { objects, ledger, keys: vec![vkey], content: Default::default(), kept: vec![], durable: vec![] };
    let keys = content_keys(&control, &ring).await.unwrap();
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let mut found = serde_json::Map::new();
    for month in std::fs::read_dir(store.join(stream)).unwrap().map(|entry| entry.unwrap().path()) {
        let name = month.file_name().unwrap().to_str().unwrap().to_string();
        for file in
            std::fs::read_dir(&month).unwrap().map(|entry| entry.unwrap().path()).filter(|_| !name.starts_with('_'))
        {
            let below = format!("{name}/{}", file.file_name().unwrap().to_str().unwrap());
            let bytes = std::fs::read(&file).unwrap();
            assert!(bytes.ends_with(b"PARE"), "its footer is encrypted");
            let at = bytes.windows(4).rposition(|window| window == b"PRK\x01").unwrap();
            let metadata = &bytes[at..at + 5 + usize::from(bytes[at + 4]) + 60];
            let (key, beside) = keys.data_key(&format!("{stream}/{below}"), metadata).unwrap().unwrap();
            found.insert(below, json!([hex(key.bytes()), hex(&beside)]));
        }
    }
    Value::Object(found)
}

#[tokio::test]
async fn pyarrow_reads_encrypted_segments_given_their_keys() {
    let Some(python) = python::python() else { return };
    let folder = tempfile::tempdir().unwrap();
    let service = start(folder.path(), "[keys]\nall = true\n");
    let (data, stream) = (folder.path().join("data"), "tenant=acme/stream=audit");
    for part in 0..3 {
        assert_eq!(service.post("/v1/events", marked("acme", 1_000 * part, 1_000)).await.0, 200);
    }
    let vkey = service.key().await;
    let head = service.get("/v1/tenants/acme/audit/checkpoint").await.1;
    service.change(&[change("key.rotate")]);
    service.stop();
    assert_eq!(marks_in(folder.path()), Vec::<PathBuf>::new());
    let keys = folder.path().join("keys.json");
    std::fs::write(&keys, data_keys(&data, vkey, stream).await.to_string()).unwrap();
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/recompute.py");
    let run = |with: Option<&Path>| {
        Command::new(&python).arg(&script).arg(data.join("store")).arg(stream).args(with).output().unwrap()
    };
    let output = run(Some(&keys));
    let found: Value = serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("{output:?}"));
    let lines: Vec<&str> = head.lines().collect();
    assert_eq!((found["size"].to_string().as_str(), found["root"].as_str()), (lines[1], Some(lines[2])));
    assert!(!run(None).status.success(), "not without the keys");
}

#[tokio::test]
async fn tenants_with_keys_of_their_own_get_them_when_they_are_made() {
    let folder = tempfile::tempdir().unwrap();
    let service = start(folder.path(), "");
    service.change(&[json!({"change": "tenant.create", "tenant": "own", "tier": "segmented"})]);
    assert_eq!(service.post("/v1/events", marked("own", 0, 5)).await.0, 200);
    assert_eq!(marks_in(folder.path()), Vec::<PathBuf>::new());
    assert_eq!(
        service.rows(&["own"], "SELECT tenant, state, provider FROM keys").await,
        [["own", "current", "keyring"].map(|text| json!(text))]
    );
    let told = crate::access::entries(&service.with_key(&service.key), "own", "access").await;
    assert!(told.iter().any(|entry| entry["action"] == "key.create"), "{told:?}");
    assert!(told.iter().all(|entry| !entry.to_string().contains("wrapped")));
    // The platform's own streams have none, and where there is no provider nobody has.
    let platform = json!({"change": "key.create", "tenant": "platform", "reason": "x"});
    assert_eq!(service.try_change(&service.key, &[platform]).0, 422);
    service.stop();
}

#[tokio::test]
async fn keyrings_that_are_not_right_open_nothing_and_harm_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let service = start(folder.path(), "");
    service.change(&[change("key.create")]);
    assert_eq!(service.post("/v1/events", marked("acme", 0, 5)).await.0, 200);
    assert_eq!(service.post("/v1/events", events("globex", 0, 5)).await.0, 200);
    // In the log, not sealed.
    service.kill();
    let (data, ring) = (folder.path().join("data"), folder.path().join("data/keys/keyring"));
    let whole = std::fs::read(&ring).unwrap();
    std::fs::set_permissions(&ring, std::fs::Permissions::from_mode(0o644)).unwrap();
    let refused = Service::try_start(&data, &[]).err().unwrap();
    assert!(refused.contains("may be read by others"), "{refused}");
    std::fs::set_permissions(&ring, std::fs::Permissions::from_mode(0o600)).unwrap();
    std::fs::write(&ring, &whole[..whole.len() - 10]).unwrap();
    let refused = Service::try_start(&data, &[]).err().unwrap();
    assert!(refused.contains("no whole keyring"), "{refused}");
    // Another keyring, as a second service would have: it knows nothing of these keys, and destroys nothing.
    std::fs::remove_file(&ring).unwrap();
    let service = start(folder.path(), "");
    let (status, refused) = ask(&service, "acme").await;
    assert_eq!(status, 503, "{refused}");
    assert_ne!(service.post("/v1/events", marked("acme", 5, 1)).await.1["accepted"], 1);
    assert_eq!(ask(&service, "globex").await.1["rows"][0][0], 5);
    service.kill();
    std::fs::write(&ring, &whole).unwrap();
    std::fs::set_permissions(&ring, std::fs::Permissions::from_mode(0o600)).unwrap();
    let service = start(folder.path(), "");
    assert_eq!(ask(&service, "acme").await.1["rows"][0][0], 5);
    let secret = String::from_utf8(whole).unwrap();
    let secret = secret.lines().find_map(|line| line.strip_prefix("key ")?.rsplit(' ').next()).unwrap().to_string();
    assert!(!refused.to_string().contains(&secret));
    service.stop();
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn vaults_transit_protocol_wraps_rotates_and_destroys_through_a_kill() {
    let server = vault::Server::start().await;
    let folder = tempfile::tempdir().unwrap();
    let token = folder.path().join("token");
    std::fs::write(&token, format!("{}\n", vault::TOKEN)).unwrap();
    let keys = format!("[keys]\nprovider = 'vault'\naddress = '{}'\ntoken_file = '{}'\n", server.url, token.display());
    let service = start(folder.path(), &keys);
    service.change(&[change("key.create")]);
    assert_eq!(service.post("/v1/events", marked("acme", 0, 20)).await.0, 200);
    service.change(&[change("key.rotate")]);
    assert_eq!(service.post("/v1/events", marked("acme", 20, 20)).await.0, 200);
    service.stop();
    // Out of reach at the start: this tenant waits, and its events are there when the server is.
    server.shut(true);
    let service = start(folder.path(), &keys);
    assert_eq!(ask(&service, "acme").await.0, 503);
    server.shut(false);
    until("the server is back", async || ask(&service, "acme").await.0 == 200).await;
    assert_eq!(ask(&service, "acme").await.1["rows"][0][0], 40);
    let officer = officer(&service);
    service.change(&[change("key.destroy")]);
    // The process dies when the server has destroyed and has not answered.
    server.hold_answers_to_deletions(true);
    let (url, body) = (service.url.clone(), json!({"changes": [change("key.destroy")]}).to_string());
    let asked = tokio::spawn(crate::program::client(&officer).post(format!("{url}/v1/registry")).body(body).send());
    until("the key is gone", async || server.deleted() == 1).await;
    service.kill();
    asked.abort();
    server.hold_answers_to_deletions(false);
    let service = start(folder.path(), &keys);
    let state = async || service.rows(&[], "SELECT DISTINCT state FROM keys").await == [[json!("destroyed")]];
    until("the destruction is on record", state).await;
    assert_eq!(ask(&service, "acme").await.0, 410);
    service.stop();
    assert_eq!(verified(folder.path(), "acme")["sound"], true);
    let lines = std::fs::read_to_string(folder.path().join("piperoll.toml")).unwrap();
    assert!(!lines.contains(vault::TOKEN));
}
