//! The real executable as a child process: started on a free loopback port, stopped by its process id.
//!
//! Not here: what is asked of it. Invariant: no child outlives its test.

use serde_json::{Value, json};
use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::mpsc;
use std::time::Duration;

/// The executable under test.
pub fn piperoll() -> Command {
    Command::new(env!("CARGO_BIN_EXE_piperoll"))
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
    let output = run(arguments);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(!output.stdout.is_empty(), "{arguments:?}: {errors}");
    serde_json::from_slice(&output.stdout).unwrap_or_else(|e| panic!("{arguments:?}: {e}: {errors}"))
}

/// A running service.
pub struct Service {
    child: Child,
    pub url: String,
    http: reqwest::Client,
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
        let mut child = command.stderr(Stdio::piped()).stdout(Stdio::null()).spawn().unwrap();
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
            Ok(Ok(url)) => Ok(Self { child, url, http: reqwest::Client::new() }),
            other => {
                let _ = child.kill();
                let _ = child.wait();
                Err(other.ok().and_then(Result::err).unwrap_or_else(|| "not ready within a minute".into()))
            }
        }
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
