//! Counts that an incident's scope is made of: a handful of questions in SQL, all over one snapshot.
//!
//! Not here: what the counts mean ([`super::verdict`]). Invariant: every list is in a total order, so that the same
//! entries give the same lists.

use super::question::{Dimension, ScopeQuestion, literal, moment};
use super::tables::rows;
use crate::error::QueryError;
use crate::run::Engine;
use crate::table::Seen;
use std::collections::{BTreeMap, BTreeSet};

/// Second words of actions that end something: `release.rolled_back`, `session.revoke`.
const CONTAINING: [&str; 20] = [
    "rolled_back",
    "rollback",
    "revoke",
    "revoked",
    "suspend",
    "suspended",
    "disable",
    "disabled",
    "deactivate",
    "deactivated",
    "block",
    "blocked",
    "lock",
    "locked",
    "terminate",
    "terminated",
    "quarantine",
    "quarantined",
    "expire",
    "end",
];
/// Releases, changes and ends that are looked at.
const MOST_NOTABLE: usize = 1_000;
/// Different moments of containment after which is counted what still came.
const MOST_ENDS: usize = 8;
/// Columns of which it is told what was touched.
pub(crate) const TOUCHED: [(&str, &str); 8] = [
    ("services", "service"),
    ("workflows", "workflow"),
    ("integrations", "integration"),
    ("actors", "actor_id"),
    ("resource_types", "resource_type"),
    ("data_classes", "data_class"),
    ("boundaries", "boundary"),
    ("regions", "region"),
];
/// Parts that a time is cut into for a timeline.
const BUCKETS: i64 = 24;
const SECOND: i64 = 1_000_000;

/// Events that have all of this in common.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Count {
    pub tenant: String,
    pub release: Option<String>,
    /// Whether they lie in the time that is asked about, and not before it.
    pub inside: bool,
    pub outcome: String,
    pub reason: Option<String>,
    pub region: Option<String>,
    pub events: u64,
    pub first: i64,
    pub last: i64,
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
    pub counts: Vec<Count>,
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

const FAILING: &str = "outcome IN ('failure', 'error')";

struct Asking<'a> {
    engine: &'a Engine,
    seen: &'a [Seen],
    /// The same, and where releases stand.
    with_platform: &'a [Seen],
    question: &'a ScopeQuestion,
    since: Option<i64>,
    until: Option<i64>,
}

/// Counts all that a question is about.
///
/// # Errors
/// See [`QueryError`].
pub(crate) async fn gather(
    engine: &Engine,
    question: ScopeQuestion,
    seen: &[Seen],
    platform: Option<Seen>,
) -> Result<Gathered, QueryError> {
    let with_platform: Vec<Seen> = seen.iter().cloned().chain(platform).collect();
    let time = |text: &Option<String>| text.as_deref().and_then(|text| ledger::time::parse_micros(text).ok());
    let (since, until) = (time(&question.since), time(&question.until));
    let mut asking = Asking { engine, seen, with_platform: &with_platform, question: &question, since, until };
    let Some((first, last)) = asking.extent().await? else {
        return Ok(Gathered { question, ..Gathered::default() });
    };
    let begin = *asking.since.get_or_insert(first);
    let end = until.unwrap_or(last + 1);
    // As long before as the time that is asked about.
    let before = begin - (end - begin).max(0);
    let counts = asking.counts(before).await?;
    let mut touched = BTreeMap::new();
    for (name, column) in TOUCHED {
        touched.insert(name, asking.touched(column).await?);
    }
    let ends = asking.ends().await?;
    let mut after = BTreeMap::new();
    for at in ends.iter().map(|end| end.at).collect::<BTreeSet<_>>().into_iter().take(MOST_ENDS) {
        after.insert(at, asking.after(at).await?);
    }
    let releases = asking.releases(before, end).await?;
    let failures = asking.failures(begin, end).await?;
    let looks = asking.looks(begin, end).await?;
    let (extent, before) = (Some((first, last)), Some(before));
    Ok(Gathered { extent, before, counts, touched, ends, after, releases, failures, looks, question })
}

impl Asking<'_> {
    async fn rows(&self, sql: String) -> Result<super::tables::Rows, QueryError> {
        rows(self.engine, self.seen, sql).await
    }

    /// The same of each stream that is asked, together.
    fn of_streams(&self, columns: &str, condition: &str) -> String {
        let kinds = self.question.kinds();
        let each = kinds.iter().map(|kind| format!("SELECT {columns} FROM {kind} WHERE {condition}"));
        format!("({})", each.collect::<Vec<_>>().join(" UNION ALL "))
    }

    /// What matches and lies in the time that is asked about.
    fn matching(&self) -> String {
        let mut all = self.question.conditions(true);
        for (sign, time) in [(">=", self.since), ("<", self.until)] {
            if let Some(time) = time {
                all.push_str(&format!(" AND occurred_at {sign} {}", moment(time)));
            }
        }
        all
    }

    async fn extent(&self) -> Result<Option<(i64, i64)>, QueryError> {
        let of = self.of_streams("occurred_at", &self.matching());
        let found = self.rows(format!("SELECT min(occurred_at), max(occurred_at) FROM {of}")).await?;
        let (first, last) = (found.times(0)?, found.times(1)?);
        Ok(first.first().copied().flatten().zip(last.first().copied().flatten()))
    }

    /// Everything but the release: what ran beside it is what it is compared with.
    async fn counts(&self, before: i64) -> Result<Vec<Count>, QueryError> {
        let mut condition = format!("{} AND occurred_at >= {}", self.question.conditions(false), moment(before));
        if let Some(until) = self.until {
            condition.push_str(&format!(" AND occurred_at < {}", moment(until)));
        }
        let inside = moment(self.since.unwrap_or(before));
        let of = self.of_streams("tenant, release, occurred_at, outcome, reason, region", &condition);
        let sql = format!(
            "SELECT tenant, release, CASE WHEN occurred_at >= {inside} THEN 1 ELSE 0 END, outcome, reason, region, \
             count(*), min(occurred_at), max(occurred_at) FROM {of} GROUP BY 1, 2, 3, 4, 5, 6 ORDER BY 1, 2, 3, 4, 5, 6"
        );
        let found = self.rows(sql).await?;
        let (tenants, releases, inside) = (found.texts(0)?, found.texts(1)?, found.numbers(2)?);
        let (outcomes, reasons, regions) = (found.texts(3)?, found.texts(4)?, found.texts(5)?);
        let (events, first, last) = (found.numbers(6)?, found.times(7)?, found.times(8)?);
        let count = |at: usize| Count {
            tenant: tenants[at].clone().unwrap_or_default(),
            release: releases[at].clone(),
            inside: inside[at] == 1,
            outcome: outcomes[at].clone().unwrap_or_default(),
            reason: reasons[at].clone(),
            region: regions[at].clone(),
            events: events[at],
            first: first[at].unwrap_or_default(),
            last: last[at].unwrap_or_default(),
        };
        Ok((0..found.len()).map(count).collect())
    }

    async fn touched(&self, column: &str) -> Result<Values, QueryError> {
        let condition = format!("{} AND {column} IS NOT NULL", self.matching());
        let of = self.of_streams(&format!("tenant, {column}, outcome"), &condition);
        let sql = format!(
            "SELECT tenant, {column}, count(*), sum(CASE WHEN {FAILING} THEN 1 ELSE 0 END) FROM {of} \
             GROUP BY 1, 2 ORDER BY 1, 3 DESC, 2"
        );
        let found = self.rows(sql).await?;
        let (tenants, values, events, failures) =
            (found.texts(0)?, found.texts(1)?, found.numbers(2)?, found.numbers(3)?);
        let mut all = Values::new();
        for at in 0..found.len() {
            if let (Some(tenant), Some(value)) = (&tenants[at], &values[at]) {
                all.entry(tenant.clone()).or_default().push((value.clone(), events[at], failures[at]));
            }
        }
        Ok(all)
    }

    /// Entries of what ends what was asked about: by its name, or a tenant's suspension.
    async fn ends(&self) -> Result<Vec<Notable>, QueryError> {
        let words: Vec<String> = CONTAINING.iter().map(|word| literal(word)).collect();
        let is_name = |dimension: &Dimension| {
            !matches!(dimension, Dimension::Action | Dimension::Outcome | Dimension::Reason | Dimension::Region)
        };
        let named = Dimension::ALL.into_iter().filter(is_name).flat_map(|dimension| self.question.values(dimension));
        let names: Vec<String> = named.map(|value| literal(value)).collect();
        let mut about = vec!["action = 'tenant.suspend'".to_string()];
        if !names.is_empty() {
            about.push(format!("resource_id IN ({})", names.join(", ")));
        }
        let releases: Vec<String> = self.question.values(Dimension::Release).iter().map(|name| literal(name)).collect();
        if !releases.is_empty() {
            about.push(format!("action = 'release.rolled_back' AND release IN ({})", releases.join(", ")));
        }
        let since = self.since.map(moment).unwrap_or_default();
        let condition = format!(
            "occurred_at >= {since} AND outcome = 'success' AND split_part(action, '.', 2) IN ({}) AND (({}))",
            words.join(", "),
            about.join(") OR (")
        );
        self.notable(&["audit", "access"], &condition).await
    }

    async fn releases(&self, from: i64, to: i64) -> Result<Vec<Notable>, QueryError> {
        let condition = format!(
            "occurred_at >= {} AND occurred_at <= {} AND outcome = 'success' AND starts_with(action, 'release.')",
            moment(from),
            moment(to)
        );
        self.notable(&["audit"], &condition).await
    }

    async fn notable(&self, tables: &[&str], condition: &str) -> Result<Vec<Notable>, QueryError> {
        let columns = "occurred_at, tenant, stream, seq, action, resource_type, resource_id, release, region, actor_id";
        let each = tables.iter().map(|table| format!("SELECT {columns} FROM {table} WHERE {condition}"));
        let of = each.collect::<Vec<_>>().join(" UNION ALL ");
        let sql = format!("SELECT * FROM ({of}) ORDER BY 1, 2, 3, 4 LIMIT {MOST_NOTABLE}");
        let found = rows(self.engine, self.with_platform, sql).await?;
        let (at, seq) = (found.times(0)?, found.numbers(3)?);
        let texts = |column| found.texts(column);
        let (tenant, stream, action, kind) = (texts(1)?, texts(2)?, texts(4)?, texts(5)?);
        let (resource, release, region, by) = (texts(6)?, texts(7)?, texts(8)?, texts(9)?);
        let notable = |row: usize| Notable {
            at: at[row].unwrap_or_default(),
            tenant: tenant[row].clone().unwrap_or_default(),
            stream: stream[row].clone().unwrap_or_default(),
            seq: seq[row],
            action: action[row].clone().unwrap_or_default(),
            resource_type: kind[row].clone(),
            resource: resource[row].clone(),
            release: release[row].clone(),
            region: region[row].clone(),
            by: by[row].clone(),
        };
        Ok((0..found.len()).map(notable).collect())
    }

    async fn after(&self, at: i64) -> Result<Vec<(String, String, u64)>, QueryError> {
        let condition = format!("{} AND occurred_at > {}", self.matching(), moment(at));
        let of = self.of_streams("tenant, outcome", &condition);
        let found =
            self.rows(format!("SELECT tenant, outcome, count(*) FROM {of} GROUP BY 1, 2 ORDER BY 1, 2")).await?;
        let (tenants, outcomes, events) = (found.texts(0)?, found.texts(1)?, found.numbers(2)?);
        let row =
            |at: usize| (tenants[at].clone().unwrap_or_default(), outcomes[at].clone().unwrap_or_default(), events[at]);
        Ok((0..found.len()).map(row).collect())
    }

    /// Failures in stretches that a person can read.
    async fn failures(&self, begin: i64, end: i64) -> Result<Vec<Bucket>, QueryError> {
        let width = ((end - begin) / BUCKETS / SECOND + 1).max(60);
        let condition = format!("{} AND {FAILING}", self.matching());
        let of = self.of_streams("tenant, occurred_at", &condition);
        let sql = format!(
            "SELECT date_bin(INTERVAL '{width} seconds', occurred_at, {}) AS b, count(DISTINCT tenant), count(*) \
             FROM {of} GROUP BY 1 ORDER BY 1",
            moment(begin)
        );
        let found = self.rows(sql).await?;
        let (begins, tenants, failures) = (found.times(0)?, found.numbers(1)?, found.numbers(2)?);
        let bucket = |at: usize| {
            let begin = begins[at].unwrap_or_default();
            Bucket { begin, end: begin + width * SECOND, tenants: tenants[at], failures: failures[at] }
        };
        Ok((0..found.len()).map(bucket).collect())
    }

    /// Who read these tenants' events meanwhile, as far as the caller sees that.
    async fn looks(&self, begin: i64, end: i64) -> Result<Vec<Look>, QueryError> {
        let sql = format!(
            "SELECT actor_id, elevation_id, count(DISTINCT tenant), count(*), min(occurred_at), max(occurred_at) \
             FROM access WHERE occurred_at >= {} AND occurred_at <= {} AND action = 'events.read' AND actor_id IS NOT NULL \
             GROUP BY 1, 2 ORDER BY 5, 1, 2 LIMIT {MOST_NOTABLE}",
            moment(begin),
            moment(end)
        );
        let found = self.rows(sql).await?;
        let (by, elevation) = (found.texts(0)?, found.texts(1)?);
        let (tenants, times, first, last) = (found.numbers(2)?, found.numbers(3)?, found.times(4)?, found.times(5)?);
        let look = |at: usize| Look {
            first: first[at].unwrap_or_default(),
            last: last[at].unwrap_or_default(),
            by: by[at].clone().unwrap_or_default(),
            elevation: elevation[at].clone(),
            tenants: tenants[at],
            times: times[at],
        };
        Ok((0..found.len()).map(look).collect())
    }
}
