//! What gives rights: grants, and what is lent for a while.

use super::super::names::{FactId, Masked, PrincipalId, Role, When, text};
use ledger::name::{StreamKind, TenantId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// A part of a tenant by which rows are kept apart (architecture §4.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Dimension {
    /// `legal_entity`
    LegalEntity,
    /// `business_unit`
    BusinessUnit,
    /// `client`
    Client,
    /// `project`
    Project,
    /// `partner`
    Partner,
    /// `region`
    Region,
}

/// The rows a grant shows: of each dimension named, only these values. A row without a value is not shown.
pub type RowScope = BTreeMap<Dimension, Vec<String>>;

/// What a principal may do, on which tenants.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct GrantFact {
    /// Its id, made by the service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grant: Option<FactId>,
    /// Whose.
    pub principal: PrincipalId,
    /// As what.
    pub role: Role,
    /// On which tenants.
    #[schemars(with = "Vec<String>")]
    #[serde(with = "text::list")]
    pub tenants: Vec<TenantId>,
    /// Whether also on the tenants below them.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub subtree: bool,
    /// What it shows and for how long.
    #[serde(flatten)]
    pub limits: GrantLimits,
}

/// What narrows a grant.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct GrantLimits {
    /// On which streams; on all when left out.
    #[schemars(with = "Vec<String>")]
    #[serde(default, with = "text::list", skip_serializing_if = "Vec::is_empty")]
    pub streams: Vec<StreamKind>,
    /// Which rows.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub rows: RowScope,
    /// Sections that are not shown.
    #[schemars(with = "Vec<String>")]
    #[serde(default, with = "text::list", skip_serializing_if = "Vec::is_empty")]
    pub masked: Vec<Masked>,
    /// Only what occurred since then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<When>,
    /// Only what occurred before then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<When>,
    /// What for.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub purpose: String,
    /// Until when it holds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expires_at: Option<When>,
}

/// A grant that is asked for, for a while.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ElevationFact {
    /// Its id, made by the service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub elevation: Option<FactId>,
    /// For whom; filled in by the service with who asks.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub principal: Option<PrincipalId>,
    /// As what.
    pub role: Role,
    /// On which tenants.
    #[schemars(with = "Vec<String>")]
    #[serde(with = "text::list")]
    pub tenants: Vec<TenantId>,
    /// Why, in words that the customer will read.
    pub reason: String,
    /// The ticket it belongs to.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub ticket: String,
    /// For how long, from approval on.
    pub minutes: u32,
}
