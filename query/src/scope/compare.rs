//! Two releases beside each other: what changed in rates and latencies, tenant by tenant, canaries against the rest.
//!
//! Not here: which tenants are asked (`state`), statistics ([`super::rates`]). Invariant: a tenant is called worse only
//! when its own figures say so, and by name only when it ran both.

use super::question::{literal, moment};
use super::rates::chance;
use super::tables::rows;
use crate::answer::heads_json;
use crate::error::QueryError;
use crate::run::{Engine, HeadRead};
use crate::table::Seen;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use std::collections::BTreeMap;

/// Below this chance, corrected for how many tenants were compared, failures became more frequent.
const SIGNIFICANT: f64 = 0.01;
/// Measurements on each side from which on latencies are compared.
const ENOUGH: u64 = 30;

/// Which releases are compared, where and when.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct CompareQuestion {
    /// The release before.
    pub from: String,
    /// The release after.
    pub to: String,
    /// These tenants.
    pub tenants: Vec<String>,
    /// This tenant and all below it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub subtree: Option<String>,
    /// Those that got the release first.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub canaries: Vec<String>,
    /// From then on.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub since: Option<String>,
    /// Until before then.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub until: Option<String>,
}

/// What was measured on one release.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Side {
    /// Events.
    pub events: u64,
    /// With outcome `failure` or `error`.
    pub failures: u64,
    /// With a duration.
    pub measured: u64,
    /// Half took no longer, in microseconds.
    pub p50_us: u64,
    /// 95 of 100 took no longer, in microseconds.
    pub p95_us: u64,
}

/// One tenant on both releases.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Changed {
    /// Which; of a group, its name.
    pub tenant: String,
    /// Whether it is one of the canaries.
    pub is_canary: bool,
    /// `worse`, `slower`, `no worse`, or `not compared` when it ran only one of them.
    pub verdict: &'static str,
    /// On the release before.
    pub from: Side,
    /// On the release after.
    pub to: Side,
    /// The chance that failures rose so much by accident, corrected for the tenants compared; six digits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chance: Option<String>,
}

/// Two releases beside each other.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Comparison {
    /// What was asked.
    pub question: CompareQuestion,
    /// In one line.
    pub summary: String,
    /// Canaries together and the rest together, where canaries were named; failures only.
    pub groups: Vec<Changed>,
    /// Tenant by tenant: those that are worse first.
    pub tenants: Vec<Changed>,
    /// The heads that it is the answer to.
    pub read: Value,
}

/// Compares two releases over snapshots that the caller may see.
///
/// # Errors
/// See [`QueryError`].
pub async fn compare(engine: &Engine, question: CompareQuestion, seen: &[Seen]) -> Result<Comparison, QueryError> {
    let sides = sides(engine, &question, seen).await?;
    let both = |(from, to): &(Side, Side)| from.events > 0 && to.events > 0;
    let compared = sides.values().filter(|sides| both(sides)).count().max(1);
    let changed = |tenant: &str, is_canary: bool, (from, to): (Side, Side), compared: usize| {
        let p = chance(to.failures, to.events, from.failures, from.events) * compared as f64;
        let is_slower = from.measured >= ENOUGH && to.measured >= ENOUGH && to.p95_us > from.p95_us + from.p95_us / 4;
        let is_both = from.events > 0 && to.events > 0;
        let verdict = match () {
            () if !is_both => "not compared",
            () if p <= SIGNIFICANT => "worse",
            () if is_slower => "slower",
            () => "no worse",
        };
        let chance = is_both.then(|| format!("{:.6}", p.min(1.0)));
        Changed { tenant: tenant.into(), is_canary, verdict, from, to, chance }
    };
    let is_canary = |tenant: &String| question.canaries.contains(tenant);
    let mut tenants: Vec<Changed> =
        sides.iter().map(|(tenant, sides)| changed(tenant, is_canary(tenant), *sides, compared)).collect();
    let rank =
        |one: &Changed| ["worse", "slower", "no worse"].iter().position(|word| *word == one.verdict).unwrap_or(3);
    tenants.sort_by(|a, b| (rank(a), &a.tenant).cmp(&(rank(b), &b.tenant)));
    let mut groups = Vec::new();
    if !question.canaries.is_empty() {
        for (name, wanted) in [("canaries", true), ("the rest", false)] {
            let mut sum = (Side::default(), Side::default());
            for (_, (from, to)) in sides.iter().filter(|(tenant, _)| is_canary(tenant) == wanted) {
                for (into, side) in [(&mut sum.0, from), (&mut sum.1, to)] {
                    into.events += side.events;
                    into.failures += side.failures;
                }
            }
            groups.push(changed(name, wanted, sum, 1));
        }
    }
    let count = |word: &str| tenants.iter().filter(|one| one.verdict == word).count();
    let summary = format!(
        "{} against {}: {} of {} tenants that ran both are worse, {} slower; {} ran only one of them",
        question.to,
        question.from,
        count("worse"),
        tenants.len() - count("not compared"),
        count("slower"),
        count("not compared")
    );
    let read: Vec<HeadRead> = seen.iter().map(|seen| HeadRead::of(&seen.snapshot)).collect();
    Ok(Comparison { summary, groups, tenants, read: heads_json(&read), question })
}

async fn sides(
    engine: &Engine,
    question: &CompareQuestion,
    seen: &[Seen],
) -> Result<BTreeMap<String, (Side, Side)>, QueryError> {
    let mut condition = format!("release IN ({}, {})", literal(&question.from), literal(&question.to));
    for (sign, time) in [(">=", &question.since), ("<", &question.until)] {
        if let Some(micros) = time.as_deref().and_then(|text| ledger::time::parse_micros(text).ok()) {
            condition.push_str(&format!(" AND occurred_at {sign} {}", moment(micros)));
        }
    }
    let columns = "tenant, release, outcome, duration_us";
    let of = format!(
        "(SELECT {columns} FROM audit WHERE {condition} UNION ALL SELECT {columns} FROM telemetry WHERE {condition})"
    );
    let sql = format!(
        "SELECT tenant, release, count(*), sum(CASE WHEN outcome IN ('failure', 'error') THEN 1 ELSE 0 END), \
         count(duration_us), cast(round(percentile_cont(0.5) WITHIN GROUP (ORDER BY cast(duration_us AS DOUBLE))) AS BIGINT), \
         cast(round(percentile_cont(0.95) WITHIN GROUP (ORDER BY cast(duration_us AS DOUBLE))) AS BIGINT) \
         FROM {of} GROUP BY 1, 2 ORDER BY 1, 2"
    );
    let found = rows(engine, seen, "both releases", sql).await?;
    let (tenants, releases) = (found.texts(0)?, found.texts(1)?);
    let (events, failures, measured) = (found.numbers(2)?, found.numbers(3)?, found.numbers(4)?);
    let (p50, p95) = (found.numbers(5)?, found.numbers(6)?);
    let mut sides: BTreeMap<String, (Side, Side)> = BTreeMap::new();
    for at in 0..found.len() {
        let side = Side {
            events: events[at],
            failures: failures[at],
            measured: measured[at],
            p50_us: p50[at],
            p95_us: p95[at],
        };
        let (from, to) = sides.entry(tenants[at].clone().unwrap_or_default()).or_default();
        *(if releases[at].as_deref() == Some(question.from.as_str()) { from } else { to }) = side;
    }
    Ok(sides)
}
