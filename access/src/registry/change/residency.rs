//! In which regions a tenant's data may be.

use super::super::names::text;
use ledger::name::{StreamKind, TenantId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// In which regions a tenant's data may be, and that of those below it that have no policy of their own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ResidencyFact {
    /// Whose.
    #[schemars(with = "String")]
    #[serde(with = "text::single")]
    pub tenant: TenantId,
    /// In these, where no rule says otherwise.
    pub regions: Vec<String>,
    /// For some streams or classes of data; the first that fits counts.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub rules: Vec<ResidencyRule>,
    /// Why.
    pub reason: String,
}

/// In which regions some of the data may be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ResidencyRule {
    /// Of these streams; all, when left out.
    #[schemars(with = "Vec<String>")]
    #[serde(default, with = "text::list", skip_serializing_if = "Vec::is_empty")]
    pub streams: Vec<StreamKind>,
    /// Of these classes; all, when left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub classes: Vec<String>,
    /// In these.
    pub regions: Vec<String>,
}

impl ResidencyFact {
    /// Where data of a stream and class may be. Names are compared as names.
    pub fn allowed(&self, stream: StreamKind, class: Option<&str>) -> &[String] {
        let fits = |rule: &&ResidencyRule| {
            (rule.streams.is_empty() || rule.streams.contains(&stream))
                && (rule.classes.is_empty() || class.is_some_and(|class| rule.classes.iter().any(|one| one == class)))
        };
        self.rules.iter().find(fits).map_or(&self.regions, |rule| &rule.regions)
    }

    /// Whether everything of the tenant may lie in a region: its objects hold all streams and classes.
    pub fn allows_all(&self, region: &str) -> bool {
        let mut all = std::iter::once(&self.regions).chain(self.rules.iter().map(|rule| &rule.regions));
        all.all(|regions| regions.iter().any(|one| one == region))
    }
}
