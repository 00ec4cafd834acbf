//! How long data is kept, what is held, and what was purged.

use super::super::names::{FactId, PrincipalId, When, text};
use super::Tier;
use ledger::name::{StreamKind, TenantId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// How long some of the data is kept. A version of a policy is the entry that sets it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RetentionFact {
    /// Its name, by which it is set anew and ended.
    pub policy: String,
    /// Of this tenant and those below it; of all, when left out.
    #[schemars(with = "Option<String>")]
    #[serde(default, with = "text::optional", skip_serializing_if = "Option::is_none")]
    pub tenant: Option<TenantId>,
    /// Of all tenants of this tier.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tier: Option<Tier>,
    /// Of these streams; of `audit`, `telemetry` and `access`, when left out.
    #[schemars(with = "Vec<String>")]
    #[serde(default, with = "text::list", skip_serializing_if = "Vec::is_empty")]
    pub streams: Vec<StreamKind>,
    /// Of these actions, in which `*` stands for anything; of all, when left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub actions: Vec<String>,
    /// Of these classes of data; of all, when left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub classes: Vec<String>,
    /// Days since an event was recorded before which it must not go.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_least_days: Option<u32>,
    /// Days since an event was recorded after which it goes, unless something keeps it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at_most_days: Option<u32>,
    /// Whether the law needs the original: for `at_least_days` nothing of it is redacted either.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub keep_original: bool,
    /// Whether it can only be made longer from now on, and never ended.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub locked: bool,
    /// The law or contract behind it.
    pub basis: String,
    /// Why it is set.
    pub reason: String,
}

/// The end of a policy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PolicyAct {
    /// Which.
    pub policy: String,
    /// Why.
    pub reason: String,
}

/// Something that stays, whatever a policy says. It holds what all that is named here fits.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct HoldFact {
    /// Its id, which the service gives it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hold: Option<FactId>,
    /// Of this tenant and those below it.
    #[schemars(with = "String")]
    #[serde(with = "text::single")]
    pub tenant: TenantId,
    /// In these streams; in all, when left out.
    #[schemars(with = "Vec<String>")]
    #[serde(default, with = "text::list", skip_serializing_if = "Vec::is_empty")]
    pub streams: Vec<StreamKind>,
    /// Done by one of these, or on their behalf.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub actors: Vec<String>,
    /// Done to one of these resources, by id.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub resources: Vec<String>,
    /// Done by one of these, on their behalf, or to them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub subjects: Vec<String>,
    /// Of these actions, in which `*` stands for anything.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub actions: Vec<String>,
    /// Of these classes of data.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub classes: Vec<String>,
    /// What happened from then on.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<When>,
    /// What happened before then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub until: Option<When>,
    /// The incident that it is for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub incident: Option<FactId>,
    /// The matter: a case, a dispute, a request.
    pub matter: String,
    /// Why.
    pub reason: String,
    /// Whether it takes two people to release it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub two_people: bool,
}

/// The intent to carry out a plan.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PurgeFact {
    /// The id of the run, which the service gives it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<FactId>,
    /// The moment that the plan is of.
    pub as_of: When,
    /// The entry that set a policy or hold last when the plan was made.
    pub version: u64,
    /// SHA-256 of the plan, in hexadecimal.
    pub plan: String,
    /// Of these tenants; of all, when left out.
    #[schemars(with = "Vec<String>")]
    #[serde(default, with = "text::list", skip_serializing_if = "Vec::is_empty")]
    pub tenants: Vec<TenantId>,
    /// How many entries are to go.
    pub entries: u64,
    /// Who asked for it, or the schedule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub by: Option<PrincipalId>,
}

/// That a stream was purged, with the certificate.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct CertificateFact {
    /// Of which run.
    pub run: FactId,
    /// Whose.
    #[schemars(with = "String")]
    #[serde(with = "text::single")]
    pub tenant: TenantId,
    /// Which stream.
    #[schemars(with = "String")]
    #[serde(with = "text::single")]
    pub stream: StreamKind,
    /// The commit of the stream that took it out.
    pub commit: u64,
    /// How many entries went.
    pub entries: u64,
    /// What was certified: the signed note names the SHA-256 of this text.
    pub certificate: String,
    /// The ledger's signature.
    pub note: String,
}

/// The end of a run, or that the files are gone from the store.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PurgeAct {
    /// Which run.
    pub run: FactId,
    /// What it came to.
    pub outcome: Value,
}
