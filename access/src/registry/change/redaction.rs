//! What a data subject asked to have erased. Identifiers never stand here: the registry is kept for ever.

use super::super::names::{FactId, PrincipalId, text};
use ledger::name::{StreamKind, TenantId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// The request to redact, by positions that were looked at.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RedactionFact {
    /// Its id, which the service gives it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub redaction: Option<FactId>,
    /// Of this tenant.
    #[schemars(with = "String")]
    #[serde(with = "text::single")]
    pub tenant: TenantId,
    /// SHA-256 of the plan that was looked at, in hexadecimal.
    pub plan: String,
    /// What is to go.
    pub goes: Vec<RedactedRows>,
    /// How many entries lose something.
    pub entries: u64,
    /// The law behind it.
    pub basis: String,
    /// Why; without the identifiers of whom it is about.
    pub reason: String,
    /// Who asks, which the service fills in.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<PrincipalId>,
}

/// Entries of one stream that lose the same sections.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RedactedRows {
    /// Which stream.
    #[schemars(with = "String")]
    #[serde(with = "text::single")]
    pub stream: StreamKind,
    /// Which sections.
    pub sections: Vec<String>,
    /// Which entries: first and last sequence number of each range, ascending.
    pub ranges: Vec<(u64, u64)>,
}

/// Somebody else agreed to a redaction: the intent to carry it out.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RedactionApproval {
    /// Which.
    pub redaction: FactId,
    /// The id of the run, which the service gives it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<FactId>,
    /// The entry that set a policy or hold last when it was looked at again.
    pub version: u64,
    /// Why.
    pub reason: String,
}
