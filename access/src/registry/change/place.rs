//! Where tenants live: stores, and how tenants are kept apart in them.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// How a tenant is kept apart from others (architecture §2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Tier {
    /// In a store with others.
    #[default]
    Shared,
    /// With a prefix and keys of its own.
    Segmented,
    /// In a store of its own.
    Dedicated,
}

impl Tier {
    /// The name in JSON and policies.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Shared => "shared",
            Self::Segmented => "segmented",
            Self::Dedicated => "dedicated",
        }
    }
}

/// Where a store is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct StoreFact {
    /// Its objects: a folder or a URL.
    pub location: String,
    /// In which region it lies, if the deployer says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// What an acknowledged event has survived to: `wal` or `object`.
    pub durability: String,
}
