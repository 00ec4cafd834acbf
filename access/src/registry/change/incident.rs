//! Incidents: what is kept of one, each step an entry.

use super::super::names::{FactId, PrincipalId, When, text};
use ledger::name::TenantId;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// How bad it is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// Nobody outside notices.
    Low,
    /// Some work is hindered.
    #[default]
    Medium,
    /// Customers are harmed.
    High,
    /// Many are, or data left.
    Critical,
}

/// Where it stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum IncidentStatus {
    /// Somebody looks into it.
    Investigating,
    /// It goes on no more.
    Contained,
    /// What was broken works again.
    Resolved,
}

/// What somebody decided about one tenant of an incident.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Triage {
    /// It is affected.
    Affected,
    /// It is not.
    NotAffected,
    /// It has to be told.
    Notify,
    /// It was told.
    Notified,
}

/// A new incident.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct IncidentFact {
    /// Its id, which the service gives it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub incident: Option<FactId>,
    /// Whose it is: the platform's, or a tenant's own; the platform's when left out.
    #[schemars(with = "Option<String>")]
    #[serde(default, with = "text::optional", skip_serializing_if = "Option::is_none")]
    pub tenant: Option<TenantId>,
    /// In a few words.
    pub title: String,
    /// How bad it is.
    #[serde(default)]
    pub severity: Severity,
    /// Who sees to it; who opens it, when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<PrincipalId>,
    /// What was asked about its scope.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub question: Option<Value>,
    /// What was found. Given by the service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub found: Option<Value>,
}

/// What changes about an incident; what is left out stays.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct IncidentUpdate {
    /// Which.
    pub id: FactId,
    /// In a few words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub title: Option<String>,
    /// How bad it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub severity: Option<Severity>,
    /// Who sees to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<PrincipalId>,
    /// Where it stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<IncidentStatus>,
    /// What one should know.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub note: String,
}

/// A decision about one tenant of an incident.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct TriageFact {
    /// Which incident.
    pub id: FactId,
    /// Which tenant.
    #[schemars(with = "String")]
    #[serde(with = "text::single")]
    pub tenant: TenantId,
    /// What.
    pub decision: Triage,
    /// Why.
    pub reason: String,
}

/// Since when a breach of personal data is known: the 72 hours of GDPR Art. 33 begin.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct AwareFact {
    /// Which incident.
    pub id: FactId,
    /// Since when.
    pub at: When,
    /// Of what.
    pub reason: String,
}

/// The end of an incident.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CloseFact {
    /// Which.
    pub id: FactId,
    /// Why it is over, and what was learned.
    pub reason: String,
    /// What was found when it was asked again. Given by the service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub found: Option<Value>,
    /// What differs from what was found first. Given by the service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub difference: Option<Value>,
}
