//! A key provider that speaks the transit protocol of HashiCorp Vault, over HTTP.
//!
//! Paths below `v1/<mount>`: `keys/<name>` makes, tells and deletes, `keys/<name>/rotate`, `keys/<name>/config`,
//! `encrypt/<name>`, `decrypt/<name>`. Source: <https://developer.hashicorp.com/vault/api-docs/secret/transit>. Not here:
//! where the token comes from (`src/`).
//!
//! Invariants: neither the token nor what is wrapped is in any error; a key counts as gone only when the server says so
//! of that very key.

use super::{KeyProvider, ProviderError};
use crate::remote::{self, told};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use futures::FutureExt as _;
use futures::future::BoxFuture;
use ledger_store::cipher::Secret;
use reqwest::{Client, Method, Url};
use serde_json::{Value, json};
use std::fmt;
use std::time::Duration;
use zeroize::Zeroizing;

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// Bytes of an answer: a key of many versions is told with the time of each.
const LONGEST: usize = 1 << 20;

/// Where the server is, and how to speak to it.
#[derive(Clone)]
pub struct VaultSettings {
    /// Its address.
    pub address: Url,
    /// Where its transit engine is mounted.
    pub mount: String,
    /// The token.
    pub token: Zeroizing<String>,
}

impl fmt::Debug for VaultSettings {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "VaultSettings({}, {})", self.address, self.mount)
    }
}

/// The provider.
pub struct Vault {
    client: Client,
    settings: VaultSettings,
}

/// What a call came to.
enum Answer {
    Done(Value),
    /// Refused with this status.
    Status(u16),
}

impl Vault {
    /// A provider that has not been asked anything yet.
    ///
    /// # Errors
    /// The client cannot be made.
    pub fn new(settings: VaultSettings) -> Result<Self, ProviderError> {
        let client = Client::builder().timeout(PATIENCE).redirect(reqwest::redirect::Policy::none()).build();
        let client = client.map_err(|error| ProviderError::Unavailable(told(error)))?;
        Ok(Self { client, settings })
    }

    async fn call(&self, method: Method, path: &str, body: Option<Value>) -> Result<Answer, ProviderError> {
        let VaultSettings { address, mount, token } = &self.settings;
        let url = format!("{}/v1/{mount}/{path}", address.as_str().trim_end_matches('/'));
        let mut request = self.client.request(method, url).header("x-vault-token", token.as_str());
        if let Some(body) = body {
            request = request.json(&body);
        }
        let response = request.send().await.map_err(|error| ProviderError::Unavailable(told(error)))?;
        match response.status().as_u16() {
            204 => Ok(Answer::Done(Value::Null)),
            200 => {
                let bytes =
                    remote::body(response, LONGEST).await.map(Zeroizing::new).map_err(ProviderError::Unavailable)?;
                let value = serde_json::from_slice(&bytes);
                value.map(Answer::Done).map_err(|_| ProviderError::Unavailable("it answers with no JSON".into()))
            }
            // It is sealed, starting, overtaxed, or what stands before it does not reach it.
            status @ (412 | 429 | 472 | 473 | 500..=599) => Err(unavailable(status)),
            status => Ok(Answer::Status(status)),
        }
    }

    async fn done(&self, method: Method, path: &str, body: Value) -> Result<Value, ProviderError> {
        match self.call(method, path, Some(body)).await? {
            Answer::Done(value) => Ok(value),
            Answer::Status(status) => Err(refused(status)),
        }
    }

    /// Whether a key of this name is there.
    async fn has(&self, key: &str) -> Result<bool, ProviderError> {
        match self.call(Method::GET, &format!("keys/{key}"), None).await? {
            Answer::Done(_) => Ok(true),
            Answer::Status(404) => Ok(false),
            Answer::Status(status) => Err(refused(status)),
        }
    }
}

fn unavailable(status: u16) -> ProviderError {
    ProviderError::Unavailable(format!("it answers with status {status}"))
}

fn refused(status: u16) -> ProviderError {
    ProviderError::Refused(format!("it answers with status {status}; is the token's policy right?"))
}

/// A text of the answer's data.
fn text(answer: &Value, name: &str) -> Result<Zeroizing<String>, ProviderError> {
    let text = answer["data"][name].as_str();
    text.map(|text| Zeroizing::new(text.into()))
        .ok_or_else(|| ProviderError::Refused(format!("it answers without {name}")))
}

impl KeyProvider for Vault {
    fn name(&self) -> &'static str {
        "vault"
    }

    fn create<'k>(&'k self, key: &'k str) -> BoxFuture<'k, Result<(), ProviderError>> {
        async move {
            if !self.has(key).await? {
                self.done(Method::POST, &format!("keys/{key}"), json!({"type": "aes256-gcm96"})).await?;
            }
            Ok(())
        }
        .boxed()
    }

    fn rotate<'k>(&'k self, key: &'k str) -> BoxFuture<'k, Result<(), ProviderError>> {
        async move { self.done(Method::POST, &format!("keys/{key}/rotate"), json!({})).await.map(drop) }.boxed()
    }

    fn wrap<'k>(
        &'k self,
        key: &'k str,
        of: &'k str,
        secret: &'k Secret,
    ) -> BoxFuture<'k, Result<String, ProviderError>> {
        async move {
            // A server may make a key that it is asked to encrypt under and has not.
            if !self.has(key).await? {
                return Err(ProviderError::NoKey(key.into()));
            }
            let body = json!({"plaintext": STANDARD.encode(secret.bytes()), "associated_data": STANDARD.encode(of)});
            let answer = self.done(Method::POST, &format!("encrypt/{key}"), body).await?;
            Ok(text(&answer, "ciphertext")?.to_string())
        }
        .boxed()
    }

    fn unwrap<'k>(
        &'k self,
        key: &'k str,
        of: &'k str,
        wrapped: &'k str,
    ) -> BoxFuture<'k, Result<Secret, ProviderError>> {
        async move {
            let body = json!({"ciphertext": wrapped, "associated_data": STANDARD.encode(of)});
            match self.call(Method::POST, &format!("decrypt/{key}"), Some(body)).await? {
                Answer::Done(answer) => {
                    let bytes = STANDARD.decode(text(&answer, "plaintext")?.as_str()).map(Zeroizing::new).ok();
                    let secret = bytes.and_then(|bytes| Secret::of(&bytes));
                    secret.ok_or_else(|| ProviderError::Refused("it answers with something else than a key".into()))
                }
                Answer::Status(_) if !self.has(key).await? => Err(ProviderError::NoKey(key.into())),
                Answer::Status(status) => Err(refused(status)),
            }
        }
        .boxed()
    }

    fn destroy<'k>(&'k self, key: &'k str) -> BoxFuture<'k, Result<(), ProviderError>> {
        async move {
            if !self.has(key).await? {
                return Ok(());
            }
            self.done(Method::POST, &format!("keys/{key}/config"), json!({"deletion_allowed": true})).await?;
            match self.call(Method::DELETE, &format!("keys/{key}"), None).await? {
                Answer::Done(_) => Ok(()),
                Answer::Status(_) if !self.has(key).await? => Ok(()),
                Answer::Status(status) => Err(refused(status)),
            }
        }
        .boxed()
    }
}
