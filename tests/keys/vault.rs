//! A server on loopback that speaks Vault's transit protocol, as far as it is used.

use axum::extract::{Path, State};
use axum::http::{HeaderMap, Method, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router, routing::any};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use ledger_store::cipher::Secret;
use serde_json::{Value, json};
use std::collections::HashMap;
use std::sync::{Arc, Mutex};

/// The token that it takes.
pub const TOKEN: &str = "hvs.a-token-for-tests";

#[derive(Default)]
struct Inner {
    keys: HashMap<String, (Vec<u8>, bool)>,
    made: u8,
    deleted: usize,
    is_shut: bool,
    holds: bool,
}

/// The server.
pub struct Server {
    pub url: String,
    inner: Arc<Mutex<Inner>>,
}

impl Server {
    pub async fn start() -> Self {
        let inner: Arc<Mutex<Inner>> = Arc::default();
        let app = Router::new()
            .route("/v1/transit/{what}/{key}", any(asked))
            .route("/v1/transit/{what}/{key}/{more}", any(asked_more))
            .with_state(Arc::clone(&inner));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, app).await });
        Self { url, inner }
    }

    /// Whether it answers that it is sealed.
    pub fn shut(&self, is_shut: bool) {
        self.inner.lock().unwrap().is_shut = is_shut;
    }

    /// Whether it deletes and does not say so.
    pub fn hold_answers_to_deletions(&self, holds: bool) {
        self.inner.lock().unwrap().holds = holds;
    }

    /// How many keys were deleted.
    pub fn deleted(&self) -> usize {
        self.inner.lock().unwrap().deleted
    }
}

type At = State<Arc<Mutex<Inner>>>;

async fn asked(at: At, path: Path<(String, String)>, method: Method, headers: HeaderMap, body: String) -> Response {
    let Path((what, key)) = path;
    let (answer, holds) = answer(&at.0, (&what, &key, ""), &method, &headers, &body);
    if holds {
        tokio::time::sleep(std::time::Duration::from_secs(600)).await;
    }
    answer
}

async fn asked_more(
    at: At,
    path: Path<(String, String, String)>,
    method: Method,
    headers: HeaderMap,
    body: String,
) -> Response {
    let Path((what, key, more)) = path;
    answer(&at.0, (&what, &key, &more), &method, &headers, &body).0
}

/// The secret of a version of a key.
fn secret(seed: u8) -> Secret {
    Secret::of(&[seed; 32]).unwrap()
}

fn answer(
    at: &Mutex<Inner>,
    (what, key, more): (&str, &str, &str),
    method: &Method,
    headers: &HeaderMap,
    body: &str,
) -> (Response, bool) {
    let mut inner = at.lock().unwrap();
    let status = |code: StatusCode| (code.into_response(), false);
    if inner.is_shut {
        return status(StatusCode::SERVICE_UNAVAILABLE);
    }
    if headers.get("x-vault-token").is_none_or(|token| token != TOKEN) {
        return status(StatusCode::FORBIDDEN);
    }
    let body: Value = serde_json::from_str(body).unwrap_or_default();
    let bytes = |name: &str| STANDARD.decode(body[name].as_str().unwrap_or_default()).unwrap();
    let found = inner.keys.get(key).map(|(versions, _)| versions.clone());
    match (method.as_str(), what, more, found) {
        ("GET", "keys", "", Some(versions)) => {
            (Json(json!({"data": {"latest_version": versions.len()}})).into_response(), false)
        }
        ("GET", "keys", "", None) => status(StatusCode::NOT_FOUND),
        ("POST", "keys", "", None) => {
            inner.made += 1;
            let seed = inner.made;
            inner.keys.insert(key.into(), (vec![seed], false));
            status(StatusCode::NO_CONTENT)
        }
        ("POST", "keys", "rotate", Some(_)) => {
            inner.made += 1;
            let seed = inner.made;
            inner.keys.entry(key.into()).and_modify(|(versions, _)| versions.push(seed));
            status(StatusCode::NO_CONTENT)
        }
        ("POST", "keys", "config", Some(_)) => {
            let allowed = body["deletion_allowed"] == true;
            inner.keys.entry(key.into()).and_modify(|(_, deletable)| *deletable = allowed);
            status(StatusCode::NO_CONTENT)
        }
        ("DELETE", "keys", "", Some(_)) if inner.keys[key].1 => {
            inner.keys.remove(key);
            inner.deleted += 1;
            (StatusCode::NO_CONTENT.into_response(), inner.holds)
        }
        ("POST", "encrypt", "", Some(versions)) => {
            let sealed =
                secret(*versions.last().unwrap()).seal([7; 12], &bytes("associated_data"), &bytes("plaintext"));
            let ciphertext = format!("vault:v{}:{}", versions.len(), STANDARD.encode(sealed));
            (Json(json!({"data": {"ciphertext": ciphertext}})).into_response(), false)
        }
        ("POST", "decrypt", "", Some(versions)) => {
            let text = body["ciphertext"].as_str().unwrap_or_default();
            let (version, sealed) = text.strip_prefix("vault:v").unwrap().split_once(':').unwrap();
            let seed = versions[version.parse::<usize>().unwrap() - 1];
            match secret(seed).open(&bytes("associated_data"), &STANDARD.decode(sealed).unwrap()) {
                Some(plain) => {
                    (Json(json!({"data": {"plaintext": STANDARD.encode(&plain[..])}})).into_response(), false)
                }
                None => status(StatusCode::BAD_REQUEST),
            }
        }
        _ => status(StatusCode::BAD_REQUEST),
    }
}
