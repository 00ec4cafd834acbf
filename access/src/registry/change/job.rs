//! Jobs of the service: when each is due, who runs one and for how long that is believed, and what it came to.

use super::super::names::{FactId, When, text};
use ledger::name::{StreamKind, TenantId};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// How a run of a job ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "lowercase")]
pub enum JobOutcome {
    /// It did what it is for.
    Ok,
    /// It did, and found something that does not hold.
    Found,
    /// It could not.
    Failed,
    /// The service stopped in the middle of it.
    Stopped,
}

impl JobOutcome {
    /// In one word.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Found => "found",
            Self::Failed => "failed",
            Self::Stopped => "stopped",
        }
    }
}

/// A run of a job begins: until its lease ends, no other of that job does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct JobBegin {
    /// Which job.
    pub job: String,
    /// The id of the run, which the service gives it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub run: Option<FactId>,
    /// When it was due; none when somebody asked for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub due: Option<When>,
    /// How many times before that it was due and no run began.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub missed: u64,
    /// The first of these times.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<When>,
    /// Until when it is taken to be run, if nothing more is heard of it.
    pub lease_until: When,
    /// The epoch of the writer that runs it.
    pub epoch: u64,
}

fn is_zero(number: &u64) -> bool {
    *number == 0
}

/// A run goes on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct JobRenewal {
    /// Which job.
    pub job: String,
    /// Which run.
    pub run: FactId,
    /// Until when it is taken to be run from now on.
    pub lease_until: When,
}

/// Something that a run found not to hold.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct JobFinding {
    /// Which job.
    pub job: String,
    /// Which run.
    pub run: FactId,
    /// Whom it is about.
    #[schemars(with = "Option<String>")]
    #[serde(default, with = "text::optional", skip_serializing_if = "Option::is_none")]
    pub tenant: Option<TenantId>,
    /// In which stream.
    #[schemars(with = "Option<String>")]
    #[serde(default, with = "text::optional", skip_serializing_if = "Option::is_none")]
    pub stream: Option<StreamKind>,
    /// In which object of the store.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub object: Option<String>,
    /// Which entries: first and last.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entries: Option<(u64, u64)>,
    /// What does not hold.
    pub what: String,
    /// What to do.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub advice: String,
}

/// The end of a run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct JobEnd {
    /// Which job.
    pub job: String,
    /// Which run.
    pub run: FactId,
    /// How it ended.
    pub outcome: JobOutcome,
    /// How long it took.
    pub millis: u64,
    /// What it counted.
    pub result: Value,
    /// Why it could not be done, if it could not.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub why: String,
    /// SHA-256 of what it keeps for its next run, in hexadecimal; what was kept before stays, when there is none.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memo: Option<String>,
}
