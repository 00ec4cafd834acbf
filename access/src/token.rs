//! Bearer tokens of identity providers: JSON Web Tokens (RFC 7519), as OpenID Connect makes them.
//!
//! A token proves an issuer's subject; which principal that is, the registry says. Keys come from the issuer's JWKS
//! (RFC 7517), are kept, and are fetched again when a token names one that is not known or an hour has passed. Not here:
//! what a principal may do ([`crate::Door`]), sessions and logins of people.
//!
//! Invariants: an algorithm is one of a list of signatures with public keys, and the one that the key is for; issuer and
//! audience are compared whole; a token without an end is none; whoever sends tokens cannot make us fetch keys more
//! often than every ten seconds; keys that cannot be fetched anew are good for a day.

use crate::caller::Unknown;
use crate::registry::names::{FactId, Role};
use crate::remote::{self, told};
use jsonwebtoken::jwk::JwkSet;
use jsonwebtoken::{Algorithm, DecodingKey, Validation, decode, decode_header};
use ledger::name::TenantId;
use ledger_store::Ambient;
use serde::Deserialize;
use serde_json::Value;
use std::collections::HashMap;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::Duration;

/// The longest token that is looked at.
const LONGEST: usize = 16 << 10;
/// How far clocks may be apart.
const SKEW_MICROS: i64 = 60_000_000;
/// Between two fetches of an issuer's keys, at least.
const BETWEEN_FETCHES: i64 = 10_000_000;
/// After so long, keys are fetched anew.
const FRESH: i64 = 3_600_000_000;
/// After so long without a fetch that went well, keys are trusted no more.
const STALE: i64 = 24 * FRESH;
/// How long a fetch may take.
const FETCH_TIME: Duration = Duration::from_secs(5);
/// The largest set of keys that is read.
const LARGEST_SET: usize = 1 << 20;

/// Signatures with public keys. Not among them: `none`, and secrets that both sides share.
const ALGORITHMS: [Algorithm; 9] = [
    Algorithm::RS256,
    Algorithm::RS384,
    Algorithm::RS512,
    Algorithm::PS256,
    Algorithm::PS384,
    Algorithm::PS512,
    Algorithm::ES256,
    Algorithm::ES384,
    Algorithm::EdDSA,
];

/// An identity provider, and what its tokens are taken for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Issuer {
    /// Its name in tokens: `iss`, compared whole.
    pub issuer: String,
    /// Who tokens are for: one of `aud`.
    pub audience: String,
    /// Where its keys are.
    pub jwks: String,
    /// What claims are worth.
    pub grants: Vec<ClaimGrant>,
}

/// A right that a claim gives for as long as the token holds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClaimGrant {
    /// Which claim: a text, or a list of texts.
    pub claim: String,
    /// The value that it must have, or hold.
    pub value: String,
    /// As what.
    pub role: Role,
    /// On which tenants.
    pub tenants: Vec<TenantId>,
    /// Whether also on those below them.
    pub subtree: bool,
    /// What it is called where rights are recorded.
    pub id: FactId,
}

/// What a token proved.
#[derive(Debug, Clone)]
pub(crate) struct Proved {
    pub issuer: String,
    pub subject: String,
    /// Until when, in microseconds.
    pub ends: i64,
    /// Places of the issuer's grants that its claims give.
    pub grants: Vec<ClaimGrant>,
}

struct Keys {
    keys: HashMap<String, (DecodingKey, Option<Algorithm>)>,
    fetched: i64,
    tried: i64,
}

/// Checks tokens.
pub struct Tokens {
    issuers: Vec<(Issuer, RwLock<Keys>)>,
    http: reqwest::Client,
    ambient: Arc<dyn Ambient>,
}

#[derive(Deserialize)]
struct Claims {
    sub: String,
    exp: i64,
    nbf: Option<i64>,
    iat: Option<i64>,
    #[serde(flatten)]
    others: HashMap<String, Value>,
}

/// Whether a credential is formed like a token, and not like a key of ours.
pub(crate) fn is_token(credential: &str) -> bool {
    credential.split('.').count() == 3
}

fn unknown(code: &'static str) -> Unknown {
    let why = "this token is not accepted: of another issuer or audience, expired, not valid yet, or not signed by a \
               key of its issuer";
    Unknown { why, code, credential: None, is_known: false }
}

impl Tokens {
    /// Checks tokens of these issuers.
    pub fn new(issuers: Vec<Issuer>, ambient: Arc<dyn Ambient>) -> Self {
        let none = || RwLock::new(Keys { keys: HashMap::new(), fetched: i64::MIN / 2, tried: i64::MIN / 2 });
        let issuers = issuers.into_iter().map(|issuer| (issuer, none())).collect();
        Self { issuers, http: reqwest::Client::new(), ambient }
    }

    /// What a token proves.
    pub(crate) async fn check(&self, token: &str) -> Result<Proved, Unknown> {
        if token.len() > LONGEST {
            return Err(unknown("token_too_long"));
        }
        let header = decode_header(token).map_err(|_| unknown("malformed"))?;
        if !ALGORITHMS.contains(&header.alg) {
            return Err(unknown("algorithm"));
        }
        let named = issuer_in(token).ok_or_else(|| unknown("malformed"))?;
        let found = self.issuers.iter().find(|(issuer, _)| issuer.issuer == named);
        let (issuer, keys) = found.ok_or_else(|| unknown("issuer"))?;
        let key = self.key(issuer, keys, &header.kid.unwrap_or_default()).await;
        let (key, algorithm) = key.ok_or_else(|| unknown("key"))?;
        if algorithm.is_some_and(|algorithm| algorithm != header.alg) {
            return Err(unknown("algorithm"));
        }
        let mut validation = Validation::new(header.alg);
        validation.set_audience(&[&issuer.audience]);
        validation.set_issuer(&[&issuer.issuer]);
        validation.set_required_spec_claims(&["exp", "iss", "aud", "sub"]);
        // Times are compared with the clock that is handed in.
        (validation.validate_exp, validation.validate_nbf) = (false, false);
        let claims = decode::<Claims>(token, &key, &validation).map_err(|error| unknown(code_of(&error)))?.claims;
        let now = self.ambient.now_micros();
        let micros = |seconds: i64| seconds.saturating_mul(1_000_000);
        if now >= micros(claims.exp).saturating_add(SKEW_MICROS) {
            return Err(unknown("expired"));
        }
        let begins = claims.nbf.into_iter().chain(claims.iat).map(micros).max().unwrap_or(i64::MIN);
        if now.saturating_add(SKEW_MICROS) < begins {
            return Err(unknown("not_yet_valid"));
        }
        let grants = issuer.grants.iter().filter(|grant| holds(claims.others.get(&grant.claim), &grant.value));
        Ok(Proved {
            issuer: issuer.issuer.clone(),
            subject: claims.sub,
            ends: micros(claims.exp).saturating_add(SKEW_MICROS),
            grants: grants.cloned().collect(),
        })
    }

    /// An issuer's key, fetched if it is not known or those that are known are old.
    async fn key(&self, issuer: &Issuer, keys: &RwLock<Keys>, id: &str) -> Option<(DecodingKey, Option<Algorithm>)> {
        let now = self.ambient.now_micros();
        let known = |keys: &Keys| {
            let is_trusted = now - keys.fetched < STALE;
            keys.keys.get(id).filter(|_| is_trusted).cloned()
        };
        let (found, should_fetch) = {
            let mut keys = keys.write().unwrap_or_else(PoisonError::into_inner);
            let found = known(&keys);
            let wants = found.is_none() || now - keys.fetched >= FRESH;
            let should_fetch = wants && now - keys.tried >= BETWEEN_FETCHES;
            if should_fetch {
                keys.tried = now;
            }
            (found, should_fetch)
        };
        if !should_fetch {
            return found;
        }
        match self.fetch(issuer).await {
            Ok(fetched) => {
                let mut keys = keys.write().unwrap_or_else(PoisonError::into_inner);
                (keys.keys, keys.fetched) = (fetched, now);
                known(&keys)
            }
            Err(why) => {
                tracing::warn!(issuer = issuer.issuer, why, "the keys of an issuer cannot be fetched");
                found
            }
        }
    }

    async fn fetch(&self, issuer: &Issuer) -> Result<HashMap<String, (DecodingKey, Option<Algorithm>)>, String> {
        let answer = self.http.get(&issuer.jwks).timeout(FETCH_TIME).send().await.map_err(told)?;
        let text = remote::body(answer.error_for_status().map_err(told)?, LARGEST_SET).await?;
        let set: JwkSet = serde_json::from_slice(&text).map_err(|error| error.to_string())?;
        let mut keys = HashMap::new();
        for key in set.keys {
            // Keys that are for something else, or of a kind that is not known here, are not ours to complain about.
            let Ok(decoding) = DecodingKey::from_jwk(&key) else { continue };
            let algorithm = key.common.key_algorithm.and_then(|name| name.to_string().parse::<Algorithm>().ok());
            if algorithm.is_none_or(|algorithm| ALGORITHMS.contains(&algorithm)) {
                keys.insert(key.common.key_id.unwrap_or_default(), (decoding, algorithm));
            }
        }
        Ok(keys)
    }
}

fn code_of(error: &jsonwebtoken::errors::Error) -> &'static str {
    use jsonwebtoken::errors::ErrorKind;
    match error.kind() {
        ErrorKind::InvalidAudience => "audience",
        ErrorKind::InvalidIssuer => "issuer",
        ErrorKind::InvalidSignature => "signature",
        ErrorKind::InvalidAlgorithm | ErrorKind::InvalidAlgorithmName => "algorithm",
        _ => "malformed",
    }
}

/// The issuer that a token says it is of; nothing of it is believed before its signature was checked.
fn issuer_in(token: &str) -> Option<String> {
    use base64::Engine as _;
    #[derive(Deserialize)]
    struct Named {
        iss: String,
    }
    let payload = base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(token.split('.').nth(1)?).ok()?;
    serde_json::from_slice::<Named>(&payload).ok().map(|named| named.iss)
}

fn holds(claim: Option<&Value>, wanted: &str) -> bool {
    match claim {
        Some(Value::String(text)) => text == wanted,
        Some(Value::Array(items)) => items.iter().any(|item| item.as_str() == Some(wanted)),
        _ => false,
    }
}
