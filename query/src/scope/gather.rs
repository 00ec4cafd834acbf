//! Counts that an incident's scope is made of: a handful of questions in SQL, all over one snapshot.
//!
//! Not here: what the counts mean ([`super::verdict`]). Invariant: every list is in a total order, so that the same
//! entries give the same lists.

use super::counts::{Bucket, Count, Gathered, Look, Matching, Notable, Ran, Values};
use super::question::{Dimension, ScopeQuestion, literal, moment};
use super::tables::rows;
use crate::error::QueryError;
use crate::run::Engine;
use crate::table::Seen;
use access::registry::PLATFORM;
use std::collections::{BTreeMap, BTreeSet};

/// Second words of actions that end something: `release.rolled_back`, `session.revoke`.
const CONTAINING: [&str; 22] = [
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
    "expired",
    "end",
    "ended",
];
/// Releases, changes and ends that are looked at.
const MOST_NOTABLE: usize = 1_000;
/// Different moments of containment after which is counted what still came.
const MOST_ENDS: usize = 8;
/// Why things ended as they did; told by itself.
pub(crate) const REASONS: &str = "reasons";
/// Columns of which it is told what was touched.
pub(crate) const TOUCHED: [(&str, &str); 9] = [
    (REASONS, "reason"),
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
/// Events beside it from which on they say something.
const ENOUGH: u64 = 1_000;
/// How much of what ran around a shorter time it is compared with, in microseconds.
const WEEK: i64 = 7 * DAY;
/// How long after the last match an end is looked for, at least, in microseconds.
const DAY: i64 = 86_400 * SECOND;

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
    let time = |text: &Option<String>| text.as_deref().and_then(|text| ledger::time::parse_micros(text).ok());
    let (since, until) = (time(&question.since), time(&question.until));
    let everybody = Asking { engine, seen, with_platform: seen, question: &question, since, until };
    let matching = everybody.matching_tenants().await?;
    let first = matching.iter().map(|one| one.first).min();
    let Some((first, last)) = first.zip(matching.iter().map(|one| one.last).max()) else {
        return Ok(Gathered { question, ..Gathered::default() });
    };
    // From here on only tenants at which something matches are looked at.
    let names: BTreeSet<&str> = matching.iter().map(|one| one.tenant.as_str()).collect();
    let is_its = |seen: &&Seen| names.contains(seen.snapshot.tenant.as_str());
    let is_platform = |seen: &&Seen| seen.snapshot.tenant.as_str() == PLATFORM && !is_its(seen);
    let platform = seen.iter().filter(is_platform).cloned().chain(platform);
    let with_platform: Vec<Seen> = seen.iter().filter(is_its).cloned().chain(platform).collect();
    let seen: Vec<Seen> = seen.iter().filter(is_its).cloned().collect();
    let begin = since.unwrap_or(first);
    let end = until.unwrap_or(last + 1);
    let length = (end - begin).max(0);
    // As long before as the time that is asked about.
    let before = begin - length;
    let asking = Asking {
        engine,
        seen: &seen,
        with_platform: &with_platform,
        question: &question,
        since: Some(begin),
        until: Some(end),
    };
    let everybody = Asking { since: asking.since, until: asking.until, ..everybody };
    let (counts, ran) = asking.compared(&everybody, before, length).await?;
    let touched = asking.touched().await?;
    let ends = asking.ends(length.max(DAY)).await?;
    let mut after = BTreeMap::new();
    for at in ends.iter().map(|end| end.at).collect::<BTreeSet<_>>().into_iter().take(MOST_ENDS) {
        after.insert(at, asking.after(at).await?);
    }
    let releases = asking.releases(before, end).await?;
    // Stretches of what there is, however long the time that is asked about.
    let failures = asking.failures(first, last + 1).await?;
    let looks = asking.looks(begin, end).await?;
    let (extent, before) = (Some((first, last)), Some(before));
    Ok(Gathered { extent, before, matching, counts, ran, touched, ends, after, releases, failures, looks, question })
}

impl Asking<'_> {
    async fn rows(&self, doing: &'static str, sql: String) -> Result<super::tables::Rows, QueryError> {
        rows(self.engine, self.seen, doing, sql).await
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

    /// The tenants at which something matches.
    async fn matching_tenants(&self) -> Result<Vec<Matching>, QueryError> {
        let of = self.of_streams("tenant, occurred_at", &self.matching());
        let sql = format!("SELECT tenant, min(occurred_at), max(occurred_at) FROM {of} GROUP BY 1 ORDER BY 1");
        let found = self.rows("what matches", sql).await?;
        let (tenants, first, last) = (found.texts(0)?, found.times(1)?, found.times(2)?);
        let matching = |at: usize| Some(Matching { tenant: tenants[at].clone()?, first: first[at]?, last: last[at]? });
        Ok((0..found.len()).filter_map(matching).collect())
    }

    /// Everything but the release, and some time around: what ran before and beside it is what it is compared with.
    fn beside(&self, around: Option<i64>) -> String {
        let condition = self.question.conditions(false);
        let Some(around) = around else { return condition };
        let from = moment(self.since.unwrap_or_default() - around);
        let to = moment(self.until.unwrap_or_default() + around);
        format!("{condition} AND occurred_at >= {from} AND occurred_at < {to}")
    }

    /// What matches, and what it is compared with: as long before and after; or, where little goes on then, more; or,
    /// where little goes on at all, everything of everybody, which is little too.
    async fn compared(&self, everybody: &Self, before: i64, length: i64) -> Result<(Vec<Count>, Vec<Ran>), QueryError> {
        for around in [length, length.max(WEEK.min(7 * length))] {
            let (counts, ran) = self.counts(before, Some(around)).await?;
            let beside: u64 = counts.iter().filter(|count| !count.is_here).map(|count| count.events).sum();
            if beside >= ENOUGH {
                return Ok((counts, ran));
            }
        }
        everybody.counts(before, None).await
    }

    /// Counts by tenant and outcome; and, where a release was asked about, what ran besides, from the same pass.
    async fn counts(&self, before: i64, around: Option<i64>) -> Result<(Vec<Count>, Vec<Ran>), QueryError> {
        let asked = self.question.values(Dimension::Release);
        let time = |sign: &str, time: i64| format!("occurred_at {sign} {}", moment(time));
        let (begin, end) = (self.since.unwrap_or_default(), self.until.unwrap_or_default());
        let inside = format!("{} AND {}", time(">=", begin), time("<", end));
        let earlier = format!("{} AND {}", time(">=", before), time("<", begin));
        let release = if asked.is_empty() { "''" } else { "release" };
        let of = self.of_streams(&format!("tenant, {release} AS release, occurred_at, outcome"), &self.beside(around));
        let sql = format!(
            "SELECT tenant, release, outcome, CASE WHEN {inside} THEN 2 WHEN {earlier} THEN 1 ELSE 0 END, count(*), \
             min(occurred_at) FROM {of} GROUP BY 1, 2, 3, 4 ORDER BY 1, 2, 3, 4"
        );
        let found = self.rows("what went on before and beside it", sql).await?;
        let (tenants, releases, outcomes) = (found.texts(0)?, found.texts(1)?, found.texts(2)?);
        let (times, events, since) = (found.numbers(3)?, found.numbers(4)?, found.times(5)?);
        let mut counts: BTreeMap<(String, bool, bool, String), u64> = BTreeMap::new();
        let mut ran: BTreeMap<(String, String), Ran> = BTreeMap::new();
        for at in 0..found.len() {
            let tenant = tenants[at].clone().unwrap_or_default();
            let outcome = outcomes[at].clone().unwrap_or_default();
            let is_asked = asked.is_empty() || releases[at].as_ref().is_some_and(|release| asked.contains(release));
            let (is_here, is_before) = (times[at] == 2 && is_asked, times[at] == 1);
            if let Some(release) = releases[at].clone().filter(|_| !is_asked) {
                let new = || Ran::new(&tenant, &release, since[at].unwrap_or_default());
                let one = ran.entry((tenant.clone(), release.clone())).or_insert_with(new);
                one.add(&outcome, events[at], since[at].unwrap_or_default());
            }
            *counts.entry((tenant, is_here, is_before, outcome)).or_default() += events[at];
        }
        let count = |((tenant, is_here, is_before, outcome), events): ((String, bool, bool, String), u64)| Count {
            tenant,
            is_here,
            is_before,
            outcome,
            events,
        };
        Ok((counts.into_iter().map(count).collect(), ran.into_values().collect()))
    }

    /// The values of columns among what matches, the most frequent first: of all of them in one pass.
    async fn touched(&self) -> Result<BTreeMap<&'static str, Values>, QueryError> {
        let columns: Vec<&str> = TOUCHED.iter().map(|(_, column)| *column).collect();
        let list = columns.join(", ");
        let of = self.of_streams(&format!("tenant, outcome, {list}"), &self.matching());
        let sets: Vec<String> = columns.iter().map(|column| format!("(tenant, {column})")).collect();
        let sql = format!(
            "SELECT tenant, count(*), sum(CASE WHEN {FAILING} THEN 1 ELSE 0 END), {list} FROM {of} \
             GROUP BY GROUPING SETS ({}) ORDER BY 1, 2 DESC, {list}",
            sets.join(", ")
        );
        let found = self.rows("what was touched", sql).await?;
        let (tenants, events, failures) = (found.texts(0)?, found.numbers(1)?, found.numbers(2)?);
        let mut all = BTreeMap::new();
        for (at, (name, _)) in TOUCHED.into_iter().enumerate() {
            // A row is of the one column that it has a value of; of an event without one nothing is told.
            let values = found.texts(at + 3)?;
            let of_column: &mut Values = all.entry(name).or_default();
            for (row, value) in values.into_iter().enumerate() {
                if let (Some(tenant), Some(value)) = (&tenants[row], value) {
                    of_column.entry(tenant.clone()).or_default().push((value, events[row], failures[row]));
                }
            }
        }
        Ok(all)
    }

    /// Entries of what ends what was asked about: by its name, or a tenant's suspension.
    async fn ends(&self, around: i64) -> Result<Vec<Notable>, QueryError> {
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
        // What ends something comes while it goes on, or not long after.
        let (since, until) = (self.since.unwrap_or_default(), self.until.unwrap_or_default() + around);
        let (since, until) = (moment(since), moment(until));
        let condition = format!(
            "occurred_at >= {since} AND occurred_at < {until} AND outcome = 'success' AND split_part(action, '.', 2) IN ({}) AND (({}))",
            words.join(", "),
            about.join(") OR (")
        );
        self.notable("what ended it", &["audit", "access"], &condition).await
    }

    async fn releases(&self, from: i64, to: i64) -> Result<Vec<Notable>, QueryError> {
        let condition = format!(
            "occurred_at >= {} AND occurred_at <= {} AND outcome = 'success' AND starts_with(action, 'release.')",
            moment(from),
            moment(to)
        );
        self.notable("releases", &["audit"], &condition).await
    }

    async fn notable(&self, doing: &'static str, tables: &[&str], condition: &str) -> Result<Vec<Notable>, QueryError> {
        let columns = "occurred_at, tenant, stream, seq, action, resource_type, resource_id, release, region, actor_id";
        let each = tables.iter().map(|table| format!("SELECT {columns} FROM {table} WHERE {condition}"));
        let of = each.collect::<Vec<_>>().join(" UNION ALL ");
        let sql = format!("SELECT * FROM ({of}) ORDER BY 1, 2, 3, 4 LIMIT {MOST_NOTABLE}");
        let found = rows(self.engine, self.with_platform, doing, sql).await?;
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
        // Whatever the time that is asked about: what came later came all the same.
        let condition = format!("{} AND occurred_at > {}", self.question.conditions(true), moment(at));
        let of = self.of_streams("tenant, outcome", &condition);
        let found = self
            .rows(
                "what came after its end",
                format!("SELECT tenant, outcome, count(*) FROM {of} GROUP BY 1, 2 ORDER BY 1, 2"),
            )
            .await?;
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
        let found = self.rows("failures over time", sql).await?;
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
        let found = self.rows("who looked", sql).await?;
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
