//! What is done to one thing, with the reason.

use super::super::names::{FactId, PrincipalId, text};
use ledger::name::TenantId;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Something done to one thing, with the reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TenantAct {
    /// Which.
    #[schemars(with = "String")]
    #[serde(with = "text::single")]
    pub tenant: TenantId,
    /// Why.
    pub reason: String,
}

/// Something done to a principal, with the reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PrincipalAct {
    /// Which.
    pub principal: PrincipalId,
    /// Why.
    pub reason: String,
}

/// Something done to a credential, a grant or an elevation, with the reason.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct FactAct {
    /// Which.
    pub id: FactId,
    /// Why.
    pub reason: String,
}
