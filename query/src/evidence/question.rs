//! What is asked for with a bundle, and what it comes to: the heads, ranges and parts, fixed when it is begun.
//!
//! Not here: making it ([`super::making`]). Invariant: a plan and the stored entries give the same bundle, whenever and by
//! however many tries it is made.

use super::part::Shows;
use super::reports::{MOST_REPORTS, Named};
use crate::http::tenant_of;
use access::registry::names::When;
use access::{Problem, ProblemKind};
use ledger::bundle::PART;
use ledger::bundle::manifest::is_text;
use ledger::proof::Span;
use ledger::sections::Sections;
use ledger::{StreamKind, TenantId};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet, HashSet};

/// Proofs that stand by themselves, of one bundle at most.
const MOST_PROOFS: usize = 1_000;

/// What is asked for.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct BundleQuestion {
    /// Of which tenant.
    pub tenant: String,
    /// For whom it is.
    pub audience: String,
    /// Which streams; audit and access, when left out, as far as they are there and may be read.
    #[serde(default)]
    pub streams: Vec<String>,
    /// Entries recorded from then on.
    #[serde(default)]
    pub from: Option<When>,
    /// Entries recorded before then.
    #[serde(default)]
    pub until: Option<When>,
    /// The condition that entries must fulfil, in SQL.
    #[serde(default, rename = "where")]
    pub condition: Option<String>,
    /// The region that it goes to; where the tenant has a residency policy, it must be said, and counts.
    #[serde(default)]
    pub region: Option<String>,
    /// Sections that are withheld.
    #[serde(default)]
    pub withhold: Vec<String>,
    /// Entries that get a proof of their own, by stream.
    #[serde(default)]
    pub proofs: BTreeMap<String, Vec<u64>>,
    /// Sizes of heads that were kept: the bundle shows that it goes on from them, by stream.
    #[serde(default)]
    pub since: BTreeMap<String, u64>,
    /// The id of a bundle before it.
    #[serde(default)]
    pub previous: Option<String>,
    /// Reports that go with it.
    #[serde(default)]
    pub reports: Vec<String>,
}

/// A question that holds together.
pub(super) struct Asked {
    pub tenant: TenantId,
    pub streams: Vec<StreamKind>,
    /// Whether the streams were asked for by name.
    pub is_named: bool,
    pub withheld: Sections,
    pub proofs: BTreeMap<StreamKind, BTreeSet<u64>>,
    pub since: BTreeMap<StreamKind, u64>,
    pub reports: BTreeSet<Named>,
}

fn wrong(why: impl Into<String>) -> Problem {
    Problem::new(ProblemKind::Unprocessable, why)
}

fn stream_of(name: &str) -> Result<StreamKind, Problem> {
    match name.parse() {
        Ok(StreamKind::Control) => Err(wrong("control is the registry of all tenants: no bundle has it")),
        Ok(stream) => Ok(stream),
        Err(_) => Err(wrong(format!("there is no stream {name:?}: they are audit, telemetry and access"))),
    }
}

impl BundleQuestion {
    /// Checks what can be checked without looking at anything.
    pub(super) fn check(&self) -> Result<Asked, Problem> {
        let tenant = tenant_of(&self.tenant)?;
        if !is_text(&self.audience) {
            return Err(wrong("audience must be a text of 1 to 1024 bytes on one line: for whom the bundle is"));
        }
        if self.condition.as_ref().is_some_and(|condition| !is_text(condition)) {
            return Err(wrong("where must be a condition of 1 to 1024 bytes on one line"));
        }
        if let (Some(from), Some(until)) = (self.from, self.until)
            && from.0 >= until.0
        {
            return Err(wrong("from must be before until"));
        }
        let is_named = !self.streams.is_empty();
        let mut streams = match is_named {
            true => self.streams.iter().map(|name| stream_of(name)).collect::<Result<Vec<_>, _>>()?,
            false => vec![StreamKind::Audit, StreamKind::Access],
        };
        streams.sort();
        streams.dedup();
        let mut withheld = Sections::default();
        for name in &self.withhold {
            let section = Sections::named(name);
            let names = "actor, subject, scope, origin and details";
            withheld =
                withheld | section.ok_or_else(|| wrong(format!("there is no section {name:?}: they are {names}")))?;
        }
        let within = |stream: StreamKind| match streams.contains(&stream) {
            true => Ok(stream),
            false => Err(wrong(format!("{stream} is not among the streams of the bundle"))),
        };
        let (mut proofs, mut since) = (BTreeMap::new(), BTreeMap::new());
        for (name, seqs) in &self.proofs {
            proofs.insert(within(stream_of(name)?)?, seqs.iter().copied().collect::<BTreeSet<u64>>());
        }
        if proofs.values().map(BTreeSet::len).sum::<usize>() > MOST_PROOFS {
            return Err(wrong(format!(
                "proofs names more than {MOST_PROOFS} entries; every entry is proven by the whole"
            )));
        }
        for (name, size) in &self.since {
            since.insert(within(stream_of(name)?)?, *size);
        }
        let reports = self.reports.iter().map(|name| name.parse()).collect::<Result<BTreeSet<Named>, Problem>>()?;
        if reports.len() > MOST_REPORTS {
            return Err(wrong(format!("reports names more than {MOST_REPORTS}")));
        }
        if reports.iter().filter(|one| matches!(one, Named::Controls(_))).count() > 1 {
            return Err(wrong("a bundle has the controls of one framework: make another for the next"));
        }
        Ok(Asked { tenant, streams, is_named, withheld, proofs, since, reports })
    }
}

/// What a bundle is going to be.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct Plan {
    pub id: String,
    pub tenant: String,
    /// When it was asked for, in microseconds.
    pub time: i64,
    pub by: String,
    pub audience: String,
    pub from: Option<i64>,
    pub until: Option<i64>,
    pub condition: Option<String>,
    pub region: Option<String>,
    /// Names of sections.
    pub withheld: Vec<String>,
    /// The hash of the manifest of the bundle before it.
    pub previous: Option<String>,
    pub streams: Vec<PlannedStream>,
    /// Reports that go with it, as they were asked for.
    pub reports: Vec<String>,
    /// What was erased by then of each of the tenant's streams that it tells of: once that is more, it may hold what went.
    pub erased: BTreeMap<String, (u64, u64)>,
    /// What the caller saw when it was asked for: it goes on only for whoever still sees just that.
    pub sight: String,
    /// What they saw of all that reports tell of, where there are any.
    pub sight_for_reports: Option<String>,
}

/// One stream of it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct PlannedStream {
    pub stream: String,
    pub size: u64,
    pub first: u64,
    pub end: u64,
    /// Whether the entries beside the range are shown without their sections.
    pub neighbours: (bool, bool),
    /// The condition that its entries must fulfil, in SQL: what was asked for, and what may go where the bundle goes.
    pub condition: Option<String>,
    /// Whether all of its entries are shown, so that no question need be asked for them.
    pub is_whole: bool,
    pub proofs: Vec<u64>,
    /// Sizes of earlier heads.
    pub since: Vec<u64>,
}

impl PlannedStream {
    pub fn kind(&self) -> Result<StreamKind, Problem> {
        self.stream.parse().map_err(|_| Problem::new(ProblemKind::Internal, "a bundle's plan names an unknown stream"))
    }

    pub fn folder(&self) -> String {
        format!("streams/{}", self.stream)
    }

    /// Numbers of its parts: those that hold some of what is shown, and so at least one.
    pub fn parts(&self) -> std::ops::Range<u64> {
        let first = self.first - u64::from(self.neighbours.0);
        let end = self.end + u64::from(self.neighbours.1);
        first / PART..end.max(first + 1).div_ceil(PART)
    }

    /// The leaves of a part. The first part has all before it too, and the last all behind it.
    pub fn block(&self, part: u64) -> Span {
        Span::new(part * PART, ((part + 1) * PART).min(self.size))
    }

    pub fn shows<'s>(
        &self,
        folder: &'s str,
        withheld: Sections,
        only: Option<HashSet<u64>>,
        holes: &'s [Span],
    ) -> Shows<'s> {
        let (span, neighbours) = (Span::new(self.first, self.end), self.neighbours);
        Shows { folder, span, withheld, only, neighbours, holes }
    }
}

impl Plan {
    pub fn withheld(&self) -> Sections {
        self.withheld.iter().filter_map(|name| Sections::named(name)).fold(Sections::default(), |all, one| all | one)
    }

    /// How many parts its streams have.
    pub fn count(&self) -> u64 {
        self.streams.iter().map(|stream| stream.parts().end - stream.parts().start).sum()
    }
}
