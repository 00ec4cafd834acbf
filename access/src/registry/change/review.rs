//! Access reviews that are held as campaigns: what is kept of one, each step an entry.

use super::super::names::{FactId, PrincipalId, When, text};
use super::GrantFact;
use ledger::name::TenantId;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

/// Where a reviewer of an item is looked for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ReviewerRule {
    /// Whoever the rules say answers for the target or the role.
    ResourceOwner,
    /// Whoever the rules or a snapshot say answers for the subject.
    Manager,
    /// A person with the role `tenant-administrator` on the tenant.
    TenantAdministrator,
    /// This one.
    Principal(PrincipalId),
}

/// Items of a review, by their numbers: from the first to the last, both included.
pub type Span = (u32, u32);

/// A review that is to be held.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReviewFact {
    /// Its id, which the service gives it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub review: Option<FactId>,
    /// Whose it is: the platform's, or a tenant's own; the platform's when left out.
    #[schemars(with = "Option<String>")]
    #[serde(default, with = "text::optional", skip_serializing_if = "Option::is_none")]
    pub tenant: Option<TenantId>,
    /// In a few words.
    pub title: String,
    /// Who sees to it, and decides where nobody else can; who opens it, when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub owner: Option<PrincipalId>,
    /// Where reviewers are looked for, the first that gives one wins; never the subject itself.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub reviewers: Vec<ReviewerRule>,
    /// When all should be decided.
    pub due_at: When,
    /// How many days before that reviewers are reminded; 7 and 1, when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub remind_days: Option<Vec<u32>>,
    /// Who gets what is open when it is due; the owner, when left out.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub escalate_to: Option<PrincipalId>,
    /// What was asked, with the heads that the population is frozen at. Given by the service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub question: Option<Value>,
    /// SHA-256 of the heads' JSON, in hexadecimal. Given by the service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub heads_sha256: Option<String>,
    /// How many items there are. Given by the service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub items: Option<u32>,
    /// SHA-256 over the items' JSON, a line each, in hexadecimal. Given by the service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub items_sha256: Option<String>,
}

/// One thing that somebody has, to be decided on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReviewItem {
    /// At which tenant.
    #[schemars(with = "String")]
    #[serde(with = "text::single")]
    pub tenant: TenantId,
    /// From which system.
    pub source: String,
    /// Who has it.
    pub subject: String,
    /// What else the subject is called.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub also: Vec<String>,
    /// As what.
    pub role: String,
    /// On what.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub target: Option<String>,
    /// Since when.
    pub since: When,
    /// Last used, if ever.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_used: Option<When>,
    /// Times used in the period.
    #[serde(default)]
    pub uses: u64,
    /// What was found about it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub findings: Vec<String>,
    /// The grant, where it is one of the registry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grant: Option<FactId>,
    /// Who decides.
    pub reviewer: PrincipalId,
}

/// What is decided on an item.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// It stays.
    Keep,
    /// It goes.
    Revoke,
    /// It becomes less.
    Narrow,
    /// Somebody else decides.
    Delegate,
}

impl Verdict {
    /// All of them.
    pub const ALL: [Self; 4] = [Self::Keep, Self::Revoke, Self::Narrow, Self::Delegate];

    /// The name in JSON.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Keep => "keep",
            Self::Revoke => "revoke",
            Self::Narrow => "narrow",
            Self::Delegate => "delegate",
        }
    }
}

/// A decision on items.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReviewDecision {
    /// Of which review.
    pub review: FactId,
    /// On which items, in order.
    pub items: Vec<Span>,
    /// What.
    pub decision: Verdict,
    /// Why.
    pub reason: String,
    /// With `delegate`: who decides.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delegate: Option<PrincipalId>,
    /// With `narrow`: to what, in words; or, for a grant of the registry, what takes its place.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub to: Option<Narrowed>,
}

/// What something is narrowed to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(untagged)]
pub enum Narrowed {
    /// In words: it is done elsewhere.
    Words(String),
    /// The grant that takes the place of the registry's, within it.
    Grant(Box<GrantFact>),
}

/// An event that shows that something was taken from somebody.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Confirmation {
    /// Of which item.
    pub item: u32,
    /// The entry of the item's tenant's `audit` stream.
    pub seq: u64,
    /// When it happened.
    pub at: When,
}

/// Items of a review, in order of their numbers. Written by the service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReviewItems {
    /// Of which review.
    pub review: FactId,
    /// The number of the first of them.
    pub first: u32,
    /// The items.
    pub items: Vec<ReviewItem>,
}

/// Reviewers were reminded. Written by the service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReviewReminder {
    /// Of which review.
    pub review: FactId,
    /// How many days before it is due.
    pub days: u32,
    /// Who has how many items open.
    pub open: BTreeMap<PrincipalId, u32>,
}

/// What was open when it was due went to somebody else. Written by the service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReviewEscalation {
    /// Of which review.
    pub review: FactId,
    /// Which items.
    pub items: Vec<Span>,
    /// To whom.
    pub to: PrincipalId,
}

/// Events showed that things were taken from those who had them. Written by the service.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReviewConfirmations {
    /// Of which review.
    pub review: FactId,
    /// What was shown.
    pub confirmed: Vec<Confirmation>,
}

/// The end of a review.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct ReviewClose {
    /// Which.
    pub id: FactId,
    /// Why, and what of what is open.
    pub reason: String,
    /// What it came to. Given by the service.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub report: Option<Value>,
}
