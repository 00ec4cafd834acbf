//! The program's own calls to a running service.
//!
//! Not here: what is sent or shown. Invariant: an answer that is a problem becomes an error with its detail.

use crate::clock::SystemAmbient;
use crate::output;
use access::PROGRESS_HEADER;
use clap::Args;
use indicatif::ProgressBar;
use ledger_store::Ambient as _;
use reqwest::{Client as Http, RequestBuilder, Response};
use serde_json::Value;
use std::time::Duration;

/// How often the service is asked how far it is.
const LOOK_EVERY: Duration = Duration::from_millis(500);

/// Which service to talk to.
#[derive(Debug, Clone, Args)]
pub struct Target {
    /// The running service
    #[arg(long, env = "PIPEROLL_URL", default_value = "http://127.0.0.1:7117", value_name = "URL", global = true)]
    pub url: String,
    /// The key to call it with; the first start of a service prints the administrator's
    #[arg(
        long,
        env = "PIPEROLL_KEY",
        hide_env_values = true,
        default_value = "",
        value_name = "KEY",
        hide_default_value = true,
        global = true
    )]
    pub key: String,
}

impl Target {
    /// A client of it.
    pub fn client(&self) -> Client {
        Client::new(&self.url, &self.key)
    }
}

/// A call failed.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    /// Nobody answers.
    #[error("no service answers at {url}; start one with `piperoll serve`, or name another with --url")]
    Unreachable {
        /// Where.
        url: String,
        /// Why not.
        #[source]
        source: reqwest::Error,
    },
    /// The service refused.
    #[error("the service answered {status}: {detail}")]
    Refused {
        /// The HTTP status.
        status: u16,
        /// The problem's detail.
        detail: String,
    },
    /// The answer broke off or was no answer of this API.
    #[error("the service's answer cannot be read")]
    Unreadable(#[from] reqwest::Error),
}

/// Calls one service.
#[derive(Debug, Clone)]
pub struct Client {
    http: Http,
    url: String,
    key: String,
}

impl Client {
    /// A client of the service at `url`, who calls with this key.
    pub fn new(url: &str, key: &str) -> Self {
        Self { http: Http::new(), url: url.trim_end_matches('/').into(), key: key.into() }
    }

    async fn send(&self, request: RequestBuilder) -> Result<Response, ClientError> {
        let unreachable = |source| ClientError::Unreachable { url: self.url.clone(), source };
        let request = if self.key.is_empty() { request } else { request.bearer_auth(&self.key) };
        let response = request.send().await.map_err(unreachable)?;
        if response.status().is_success() {
            return Ok(response);
        }
        let status = response.status().as_u16();
        let problem: Value = response.json().await.unwrap_or_default();
        let mut detail = problem["detail"].as_str().unwrap_or("no detail was given").to_string();
        if status == 401 && self.key.is_empty() {
            detail = "who is calling? set PIPEROLL_KEY, or give --key; the first start of a service prints the \
                      administrator's key"
                .into();
        }
        Err(ClientError::Refused { status, detail })
    }

    /// Sends, and shows how far the service is with it until the answer begins.
    async fn send_watched(&self, request: RequestBuilder) -> Result<Response, ClientError> {
        let bar = output::waiting();
        if bar.is_hidden() {
            return self.send(request).await;
        }
        let mut random = [0; 12];
        SystemAmbient::new().fill_random(&mut random);
        let name: String = random.iter().map(|byte| format!("{byte:02x}")).collect();
        let look = tokio::spawn(self.clone().look(name.clone(), bar.clone()));
        let answer = self.send(request.header(PROGRESS_HEADER, name)).await;
        look.abort();
        bar.finish_and_clear();
        answer
    }

    /// Shows how far a request is, until it is stopped.
    async fn look(self, name: String, bar: ProgressBar) {
        let url = format!("{}/v1/progress/{name}", self.url);
        loop {
            tokio::time::sleep(LOOK_EVERY).await;
            // Over, or not begun, or an older service: then the clock is all that moves.
            let Ok(answer) = self.send(self.http.get(&url)).await else { continue };
            if let Some(step) = answer.json().await.ok().and_then(|told| output::step(&told)) {
                bar.set_message(step);
            }
        }
    }

    /// Sends events as NDJSON.
    ///
    /// # Errors
    /// The service does not answer, or refuses the batch.
    pub async fn events(&self, path: &str, lines: Vec<u8>) -> Result<Value, ClientError> {
        let request =
            self.http.post(format!("{}{path}", self.url)).header("content-type", "application/x-ndjson").body(lines);
        Ok(self.send(request).await?.json().await?)
    }

    /// Asks a query and gives the answer in the format that `accept` names.
    ///
    /// # Errors
    /// The service does not answer, or refuses the query.
    pub async fn query(&self, sql: &str, tenants: &[String], accept: &str) -> Result<Response, ClientError> {
        let body = serde_json::json!({"sql": sql, "tenants": tenants});
        self.send_watched(self.http.post(format!("{}/v1/query", self.url)).header("accept", accept).json(&body)).await
    }

    /// Makes changes of the registry, together or not at all.
    ///
    /// # Errors
    /// The service does not answer, or refuses a change.
    pub async fn change(&self, changes: &Value) -> Result<Value, ClientError> {
        self.post("/v1/registry", &serde_json::json!({"changes": changes})).await
    }

    /// Sends JSON and gets JSON.
    ///
    /// # Errors
    /// The service does not answer, or refuses.
    pub async fn post(&self, path: &str, body: &Value) -> Result<Value, ClientError> {
        Ok(self.ask(path, body).await?.json().await?)
    }

    /// Sends JSON and gets whatever is answered.
    ///
    /// # Errors
    /// The service does not answer, or refuses.
    pub async fn ask(&self, path: &str, body: &Value) -> Result<Response, ClientError> {
        self.send_watched(self.http.post(format!("{}{path}", self.url)).json(body)).await
    }

    /// Gets a text, showing nothing meanwhile.
    ///
    /// # Errors
    /// The service does not answer, or refuses.
    pub async fn quiet_text(&self, path: &str) -> Result<String, ClientError> {
        Ok(self.download(path).await?.text().await?)
    }

    /// Gets something, to be read piece by piece.
    ///
    /// # Errors
    /// The service does not answer, or refuses.
    pub async fn download(&self, path: &str) -> Result<Response, ClientError> {
        self.send(self.http.get(format!("{}{path}", self.url))).await
    }

    /// Takes something away.
    ///
    /// # Errors
    /// The service does not answer, or refuses.
    pub async fn delete(&self, path: &str) -> Result<(), ClientError> {
        self.send(self.http.delete(format!("{}{path}", self.url))).await.map(drop)
    }

    /// Gets a text.
    ///
    /// # Errors
    /// The service does not answer, or refuses.
    pub async fn text(&self, path: &str) -> Result<String, ClientError> {
        Ok(self.send_watched(self.http.get(format!("{}{path}", self.url))).await?.text().await?)
    }
}
