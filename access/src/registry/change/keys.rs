//! Keys that tenants' content is encrypted under, and keys that the ledger is signed with.

use super::super::names::{FactId, When, text};
use ledger::name::TenantId;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// A new key of a tenant, under which its content is written from then on. The key itself stands here only as the
/// provider wrapped it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct KeyFact {
    /// Whose.
    #[schemars(with = "String")]
    #[serde(with = "text::single")]
    pub tenant: TenantId,
    /// Its id, which the service gives it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub key: Option<FactId>,
    /// Who wrapped it. Filled in by the service.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub provider: String,
    /// The key as the provider wrapped it. Filled in by the service.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub wrapped: String,
    /// Why.
    pub reason: String,
}

/// Why something is done.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Why {
    /// Why: it will be read by those concerned.
    pub reason: String,
}

/// A key that a store is signed with.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct SignsFact {
    /// Which store.
    pub store: String,
    /// Which of its keys, counted from 1.
    pub number: u64,
    /// The public key, under the origin of the store's log.
    pub vkey: String,
    /// Since when, as the store's record of it says; of the first there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<When>,
}
