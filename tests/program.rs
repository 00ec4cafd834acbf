//! The real executable as a child process: started on a free loopback port, stopped by its process id.
//!
//! Not here: what is asked of it. Invariant: no child outlives its test.

use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Mutex, mpsc};
use std::time::Duration;

/// The executable under test.
pub fn piperoll() -> Command {
    Command::new(env!("CARGO_BIN_EXE_piperoll"))
}

/// The auditor's program beside it, which `./test` builds; without it the tests say so.
pub fn verifier() -> Option<Command> {
    let program = Path::new(env!("CARGO_BIN_EXE_piperoll")).with_file_name("piperoll-verify");
    if !program.exists() {
        eprintln!("SKIPPED: {} is not there; `./test` builds it", program.display());
        return None;
    }
    Some(Command::new(program))
}

/// Names and values that are added to a child's environment.
pub type Environment<'e> = &'e [(&'e str, String)];

/// Runs a command to its end.
pub fn run(arguments: &[&str]) -> Output {
    run_in(&[], arguments)
}

/// Runs a command to its end, in an environment.
pub fn run_in(environment: Environment<'_>, arguments: &[&str]) -> Output {
    piperoll().args(arguments).envs(environment.iter().cloned()).output().unwrap()
}

/// Runs a command that must succeed, and reads its standard output as JSON.
pub fn run_json(arguments: &[&str]) -> Value {
    run_json_in(&[], arguments)
}

/// The same, in an environment.
pub fn run_json_in(environment: Environment<'_>, arguments: &[&str]) -> Value {
    let output = run_in(environment, arguments);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(!output.stdout.is_empty(), "{arguments:?}: {errors}");
    serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{arguments:?}: {e}: {errors}"))
}

/// Tenants that every new platform of these tests has.
const TENANTS: [&str; 3] = ["acme", "globex", "initech"];

/// Administrators' keys, by the data folders and stores of their platforms: a platform shows its own once.
static KEYS: Mutex<BTreeMap<String, String>> = Mutex::new(BTreeMap::new());

/// A running service.
pub struct Service {
    child: Child,
    pub url: String,
    /// The administrator's key, which may also bring events and read them.
    pub key: String,
    http: reqwest::Client,
}

/// A client that calls with a key.
pub fn client(key: &str) -> reqwest::Client {
    let mut header = reqwest::header::HeaderValue::from_str(&format!("Bearer {key}")).unwrap();
    header.set_sensitive(true);
    let headers = [(reqwest::header::AUTHORIZATION, header)].into_iter().collect();
    // Whom the tests' own certificates are signed by is a matter of the tests that look at it.
    reqwest::Client::builder().default_headers(headers).danger_accept_invalid_certs(true).build().unwrap()
}

/// Runs asynchronous work from a test that may itself be asynchronous.
fn wait<T: Send + 'static>(work: impl Future<Output = T> + Send + 'static) -> T {
    let run = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(work);
    std::thread::spawn(run).join().unwrap()
}

impl Service {
    /// Starts a service on a data folder, with further flags.
    pub fn start(data: &Path, flags: &[&str]) -> Self {
        Self::start_in(&[], data, flags)
    }

    /// Starts a service in an environment.
    pub fn start_in(environment: Environment<'_>, data: &Path, flags: &[&str]) -> Self {
        let started = Self::try_start_in(environment, data, flags);
        started.unwrap_or_else(|lines| panic!("the service did not start: {lines}"))
    }

    /// Starts a service; answers what it wrote when it does not get ready.
    pub fn try_start(data: &Path, flags: &[&str]) -> Result<Self, String> {
        Self::try_start_in(&[], data, flags)
    }

    /// Starts a service in an environment; answers what it wrote when it does not get ready.
    pub fn try_start_in(environment: Environment<'_>, data: &Path, flags: &[&str]) -> Result<Self, String> {
        let mut command = piperoll();
        command.envs(environment.iter().cloned());
        command.args(["serve", "--listen", "127.0.0.1:0", "--log-format", "json", "--data"]).arg(data).args(flags);
        let mut child = command.stderr(Stdio::piped()).stdout(Stdio::piped()).spawn().unwrap();
        let (shown, key) = mpsc::channel();
        let stdout = child.stdout.take().unwrap();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if let Some(key) = line.trim().strip_prefix("export PIPEROLL_KEY=") {
                    let _ = shown.send(key.to_string());
                }
            }
        });
        let stderr = child.stderr.take().unwrap();
        let (found, url) = mpsc::channel();
        // The thread goes on reading, so that the service never waits for room in the pipe.
        std::thread::spawn(move || {
            let mut all = String::new();
            for line in BufReader::new(stderr).lines().map_while(Result::ok) {
                let event: Value = serde_json::from_str(&line).unwrap_or_default();
                if event["message"] == "ready" {
                    let _ = found.send(Ok(event["url"].as_str().unwrap().to_string()));
                }
                all.push_str(&line);
                all.push('\n');
            }
            let _ = found.send(Err(all));
        });
        match url.recv_timeout(Duration::from_secs(60)) {
            Ok(Ok(url)) => {
                let places = places(environment, data, flags);
                let (key, is_new) = key_of(&places, &url, &key);
                let service = Self { child, url, http: client(&key), key };
                if is_new {
                    service.set_up();
                }
                Ok(service)
            }
            other => {
                let _ = child.kill();
                let _ = child.wait();
                Err(other.ok().and_then(Result::err).unwrap_or_else(|| "not ready within a minute".into()))
            }
        }
    }

    /// Lets the administrator bring and read events of all tenants, and makes those that most tests use.
    fn set_up(&self) {
        let grant = |role: &str| {
            json!({"change": "grant.create", "principal": "administrator", "role": role,
                "tenants": ["platform"], "subtree": true})
        };
        self.change(&["ingest-service", "security-analyst", "support"].map(grant));
        self.register(&TENANTS);
    }

    /// Makes tenants.
    pub fn register(&self, tenants: &[&str]) {
        let make = |tenant: &&str| json!({"change": "tenant.create", "tenant": tenant});
        self.change(&tenants.iter().map(make).collect::<Vec<_>>());
    }

    /// Makes changes of the registry, which must be accepted, and answers what was made.
    pub fn change(&self, changes: &[Value]) -> Value {
        let (status, answer) = self.try_change(&self.key, changes);
        assert_eq!(status, 200, "{answer}");
        answer
    }

    /// Asks for changes of the registry with a key.
    pub fn try_change(&self, key: &str, changes: &[Value]) -> (u16, Value) {
        let request =
            client(key).post(format!("{}/v1/registry", self.url)).body(json!({"changes": changes}).to_string());
        wait(async move {
            let response = request.send().await.unwrap();
            (response.status().as_u16(), response.json().await.unwrap_or_default())
        })
    }

    /// The same service, called with another key.
    pub fn with_key(&self, key: &str) -> Visitor {
        Visitor { url: self.url.clone(), http: client(key) }
    }

    /// The process id.
    pub fn process_id(&self) -> u32 {
        self.child.id()
    }

    /// Kills the process at once, as a power cut would.
    pub fn kill(mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Asks the process to stop in order, and expects it to.
    pub fn stop(mut self) {
        let id = self.child.id().to_string();
        assert!(Command::new("kill").args(["-TERM", &id]).status().unwrap().success());
        assert!(self.child.wait().unwrap().success());
    }

    /// Sends events as NDJSON and answers status and JSON.
    pub async fn post(&self, path: &str, body: impl Into<reqwest::Body>) -> (u16, Value) {
        self.post_with(path, body, &[]).await
    }

    /// Sends events with further headers.
    pub async fn post_with(
        &self,
        path: &str,
        body: impl Into<reqwest::Body>,
        headers: &[(&str, &str)],
    ) -> (u16, Value) {
        Visitor { url: self.url.clone(), http: self.http.clone() }.post_with(path, body, headers).await
    }

    /// Gets a text.
    pub async fn get(&self, path: &str) -> (u16, String) {
        Visitor { url: self.url.clone(), http: self.http.clone() }.get(path).await
    }

    /// Gets JSON, of what can also be had as text.
    pub async fn get_json(&self, path: &str) -> (u16, Value) {
        let request = self.http.get(format!("{}{path}", self.url)).header("accept", "application/json");
        let response = request.send().await.unwrap();
        (response.status().as_u16(), response.json().await.unwrap())
    }

    /// Sends a body and answers status and text.
    pub async fn post_text(&self, path: &str, body: impl Into<reqwest::Body>) -> (u16, String) {
        let response = self.http.post(format!("{}{path}", self.url)).body(body).send().await.unwrap();
        (response.status().as_u16(), response.text().await.unwrap())
    }

    /// Gets bytes.
    pub async fn bytes(&self, path: &str) -> Vec<u8> {
        let response = self.http.get(format!("{}{path}", self.url)).send().await.unwrap();
        assert!(response.status().is_success(), "{path}: {}", response.status());
        response.bytes().await.unwrap().to_vec()
    }

    /// Asks in SQL and answers the rows.
    pub async fn rows(&self, tenants: &[&str], sql: &str) -> Vec<Vec<Value>> {
        let body = json!({"sql": sql, "tenants": tenants}).to_string();
        let (status, answer) = self.post_with("/v1/query", body, &[("content-type", "application/json")]).await;
        assert_eq!(status, 200, "{sql}: {answer}");
        serde_json::from_value(answer["rows"].clone()).unwrap()
    }

    /// The verifier key under the store log's origin.
    pub async fn key(&self) -> ledger::VerifierKey {
        let keys: Value = serde_json::from_str(&self.get("/v1/keys").await.1).unwrap();
        keys["keys"][0]["vkey"].as_str().unwrap().parse().unwrap()
    }
}

/// Somebody who calls a service with a key of their own.
pub struct Visitor {
    url: String,
    http: reqwest::Client,
}

impl Visitor {
    /// Sends a body with headers.
    pub async fn post_with(
        &self,
        path: &str,
        body: impl Into<reqwest::Body>,
        headers: &[(&str, &str)],
    ) -> (u16, Value) {
        let mut request = self.http.post(format!("{}{path}", self.url)).body(body);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = request.send().await.unwrap();
        (response.status().as_u16(), response.json().await.unwrap_or_default())
    }

    /// Gets a text.
    pub async fn get(&self, path: &str) -> (u16, String) {
        let response = self.http.get(format!("{}{path}", self.url)).send().await.unwrap();
        (response.status().as_u16(), response.text().await.unwrap())
    }

    /// Asks in SQL and answers status and JSON.
    pub async fn query(&self, tenants: &[&str], sql: &str) -> (u16, Value) {
        let body = json!({"sql": sql, "tenants": tenants}).to_string();
        self.post_with("/v1/query", body, &[("content-type", "application/json")]).await
    }
}

/// What tells one platform from another: its data folder, and its store with where that is reached.
fn places(environment: Environment<'_>, data: &Path, flags: &[&str]) -> Vec<String> {
    let store = flags.iter().skip_while(|flag| **flag != "--store").nth(1);
    let reached: Vec<&str> =
        environment.iter().filter(|(name, _)| name.contains("ENDPOINT")).map(|(_, value)| value.as_str()).collect();
    let store = store.map(|store| format!("{store} {}", reached.join(" ")));
    store.into_iter().chain([data.display().to_string()]).collect()
}

/// The administrator's key of the platform that runs there, and whether it was made just now.
fn key_of(places: &[String], url: &str, shown: &mpsc::Receiver<String>) -> (String, bool) {
    let known: Vec<String> = {
        let keys = KEYS.lock().unwrap();
        places.iter().filter_map(|place| keys.get(place).cloned()).collect()
    };
    for key in known {
        let asked = client(&key).get(format!("{url}/v1/whoami"));
        if wait(async move { asked.send().await.is_ok_and(|answer| answer.status().is_success()) }) {
            return (key, false);
        }
    }
    let Ok(key) = shown.recv_timeout(Duration::from_secs(5)) else {
        // The same store, reached another way.
        let all: Vec<String> = KEYS.lock().unwrap().values().cloned().collect();
        let mut fitting = all.into_iter().filter(|key| {
            let asked = client(key).get(format!("{url}/v1/whoami"));
            wait(async move { asked.send().await.is_ok_and(|answer| answer.status().is_success()) })
        });
        return (fitting.next().expect("a new platform shows its administrator's key"), false);
    };
    let mut keys = KEYS.lock().unwrap();
    places.iter().for_each(|place| drop(keys.insert(place.clone(), key.clone())));
    (key, true)
}

impl Drop for Service {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// One event as a line.
pub fn event(id: &str, tenant: &str, more: &Value) -> String {
    let mut event = json!({"id": id, "tenant": tenant, "time": "2026-08-14T09:26:53.589793Z",
        "action": "invoice.update", "outcome": "success", "actor": {"type": "user", "id": "u-1"}});
    for (key, value) in more.as_object().into_iter().flatten() {
        event[key] = value.clone();
    }
    format!("{event}\n")
}

/// `count` events with ids from a number on.
pub fn events(tenant: &str, from: usize, count: usize) -> String {
    let one = |n: usize| {
        let more =
            json!({"session": format!("s-{}", n % 17), "attributes": {"n": n}, "release": format!("r-{}", n / 100)});
        event(&format!("{tenant}-{n}"), tenant, &more)
    };
    (from..from + count).map(one).collect()
}
