//! What is counted of an incident: the shapes between asking and judging.
//!
//! Not here: asking ([`super::gather`]), what they mean ([`super::verdict`]).

use super::question::ScopeQuestion;
use std::collections::BTreeMap;

/// Events of one tenant that have all of this in common.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Count {
    pub tenant: String,
    /// Whether they match, release and time included; else they ran before or beside it.
    pub is_here: bool,
    /// Whether they lie in the same length of time before.
    pub is_before: bool,
    pub outcome: String,
    pub events: u64,
}

/// What matches at one tenant, and where.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Matching {
    pub tenant: String,
    pub first: i64,
    pub last: i64,
}

/// A release that a tenant ran.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Ran {
    pub tenant: String,
    pub release: String,
    pub since: i64,
    pub events: u64,
    pub failures: u64,
    pub denied: u64,
}

impl Ran {
    pub(crate) fn new(tenant: &str, release: &str, since: i64) -> Self {
        Self { tenant: tenant.into(), release: release.into(), since, events: 0, failures: 0, denied: 0 }
    }

    pub(crate) fn add(&mut self, outcome: &str, events: u64, since: i64) {
        self.since = self.since.min(since);
        self.events += events;
        self.failures += if is_failure(outcome) { events } else { 0 };
        self.denied += if outcome == "denied" { events } else { 0 };
    }
}

/// An entry that says that something was rolled out, changed or ended.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Notable {
    pub at: i64,
    pub tenant: String,
    pub stream: String,
    pub seq: u64,
    pub action: String,
    pub resource_type: Option<String>,
    pub resource: Option<String>,
    pub release: Option<String>,
    pub region: Option<String>,
    pub by: Option<String>,
}

/// Failures of some tenants in one stretch of time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Bucket {
    pub begin: i64,
    pub end: i64,
    pub tenants: u64,
    pub failures: u64,
}

/// Who looked at tenants' data meanwhile.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Look {
    pub first: i64,
    pub last: i64,
    pub by: String,
    pub elevation: Option<String>,
    pub tenants: u64,
    pub times: u64,
}

/// What is known of one value: how often, and how often failing.
pub(crate) type Values = BTreeMap<String, Vec<(String, u64, u64)>>;

/// All that was counted.
#[derive(Debug, Clone, Default)]
pub(crate) struct Gathered {
    pub question: ScopeQuestion,
    /// First and last event that matches.
    pub extent: Option<(i64, i64)>,
    /// From when what went before is counted.
    pub before: Option<i64>,
    pub matching: Vec<Matching>,
    pub counts: Vec<Count>,
    /// Releases that were not asked about, where one was.
    pub ran: Vec<Ran>,
    /// By name of what was touched, then by tenant.
    pub touched: BTreeMap<&'static str, Values>,
    pub ends: Vec<Notable>,
    /// By moment of an end: tenant, outcome, events after it.
    pub after: BTreeMap<i64, Vec<(String, String, u64)>>,
    pub releases: Vec<Notable>,
    pub failures: Vec<Bucket>,
    pub looks: Vec<Look>,
}

/// Outcomes that are failures.
pub(crate) fn is_failure(outcome: &str) -> bool {
    matches!(outcome, "failure" | "error")
}
