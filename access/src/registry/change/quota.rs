//! Bounds of what a tenant may use.

use super::super::names::text;
use super::Tier;
use ledger::name::TenantId;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Bounds of one tenant's use; what is left out is not bounded by it.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Quota {
    /// Events a second, with a burst of as many again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub events_per_second: Option<u32>,
    /// Bytes of events a second, with a burst of as many again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bytes_per_second: Option<u32>,
    /// Queries at the same time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub concurrent_queries: Option<u32>,
    /// Bytes of stored columns that questions look at, a second: what one question takes beyond it, the next ones wait
    /// for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scanned_bytes_per_second: Option<u32>,
    /// Bytes of sealed segments, of all streams together: beyond it no events are taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stored_bytes: Option<u64>,
}

/// Bounds of a tenant, or of all of a tier that have none of their own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct QuotaFact {
    /// Of which tenant.
    #[schemars(with = "Option<String>")]
    #[serde(default, with = "text::optional", skip_serializing_if = "Option::is_none")]
    pub tenant: Option<TenantId>,
    /// Or of which tier.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tier: Option<Tier>,
    /// The bounds.
    #[serde(default)]
    pub quota: Quota,
    /// Why.
    pub reason: String,
}
