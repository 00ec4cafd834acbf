//! What counts mean: who is affected and why, since when, and whether it is over. Pure.
//!
//! Not here: counting ([`super::gather`]). Invariants: every tenant that was asked about stands in the answer once, as
//! affected, not affected, or not examined with the reason; the order of everything is total.

use super::gather::{Count, Gathered, Notable, is_failure};
use super::question::{AffectedWhen, Dimension, ScopeQuestion};
use super::rates::chance;
use super::timeline::{Moment, timeline};
use crate::answer::heads_json;
use crate::run::HeadRead;
use crate::table::Seen;
use ledger::time::format_micros;
use serde::Serialize;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};

/// Below this chance, corrected for how many tenants were compared, failures are more frequent than before.
const SIGNIFICANT: f64 = 0.01;
/// Below this chance, a tenant's own events speak for more failures than before, however few they are.
const PLAUSIBLE: f64 = 0.05;
/// Values of a kind that are named; beyond it their number is said.
const MOST_NAMED: usize = 10;

/// Events, and how many of them failed or were denied.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Serialize)]
pub struct Counts {
    /// All.
    pub events: u64,
    /// With outcome `failure` or `error`.
    pub failures: u64,
    /// With outcome `denied`.
    pub denied: u64,
}

impl Counts {
    fn add(&mut self, outcome: &str, events: u64) {
        self.events += events;
        self.failures += if is_failure(outcome) { events } else { 0 };
        self.denied += if outcome == "denied" { events } else { 0 };
    }
}

/// A value, and how often it occurs.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Tally {
    /// The value.
    pub value: String,
    /// Events with it.
    pub events: u64,
    /// Those of them that failed.
    pub failures: u64,
}

/// What was touched of one kind.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize)]
pub struct Touched {
    /// How many different ones.
    pub different: u64,
    /// The most frequent.
    pub named: Vec<Tally>,
}

/// An end, and what came after it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Contained {
    /// Since when.
    pub since: String,
    /// What was done.
    pub action: String,
    /// By whom.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub by: Option<String>,
    /// The entry that says so: tenant, stream and sequence number.
    pub entry: (String, String, u64),
    /// What matched after it all the same; not counted when there were too many ends to count after each.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<Counts>,
    /// Whether nothing came through after it: no success of somebody who was shut out, no failure of what was rolled
    /// back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub holds: Option<bool>,
}

/// One tenant.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct TenantScope {
    /// Which.
    pub tenant: String,
    /// Whether it is affected.
    pub affected: bool,
    /// Why, in words.
    pub why: String,
    /// Whether the caller sees only some of its rows, or not all of its streams.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub in_part: bool,
    /// What matches.
    pub matching: Counts,
    /// The first that matches.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first: Option<String>,
    /// The last that matches.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub last: Option<String>,
    /// In the same length of time before.
    pub before: Counts,
    /// On the release before this one, if a release was asked about.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub previous_release: Option<(String, Counts)>,
    /// The chance that failures are as frequent as this by accident, corrected for the tenants compared; six digits.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub chance: Option<String>,
    /// Why things failed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub reasons: Vec<Tally>,
    /// Services, workflows, integrations, actors, resource types, data classes, boundaries and regions.
    pub touched: BTreeMap<&'static str, Touched>,
    /// Since when it is over, if it is.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub contained: Option<Contained>,
}

/// A tenant that was not looked at.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize)]
pub struct Unexamined {
    /// Which.
    pub tenant: String,
    /// Why not.
    pub why: String,
}

/// The times of an answer.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Times {
    /// The first event that matches.
    pub first: String,
    /// The last.
    pub last: String,
    /// From when what went before is compared.
    pub compared_from: String,
}

/// The scope of an incident.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct ScopeAnswer {
    /// What was asked, with all that followed from it.
    pub question: ScopeQuestion,
    /// In one line.
    pub summary: String,
    /// Which time it is about; none when nothing matches.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub times: Option<Times>,
    /// The tenants that are affected, those with the most failures or matches first; then those that are not, by name.
    pub tenants: Vec<TenantScope>,
    /// Those that were not looked at.
    pub not_examined: Vec<Unexamined>,
    /// What happened when.
    pub timeline: Vec<Moment>,
    /// The heads that it is the answer to.
    pub read: Value,
}

/// What of a tenant was counted.
#[derive(Default)]
struct Counted {
    here: Counts,
    first: Option<i64>,
    last: Option<i64>,
    before: Counts,
    beside: Counts,
    reasons: BTreeMap<String, u64>,
    regions: BTreeSet<String>,
    /// By other releases: since when, until when, and what.
    releases: BTreeMap<String, (i64, i64, Counts)>,
}

impl Counted {
    fn add(&mut self, count: &Count, asked: &[String]) {
        let is_here =
            count.inside && (asked.is_empty() || count.release.as_ref().is_some_and(|release| asked.contains(release)));
        if is_here {
            self.here.add(&count.outcome, count.events);
            self.first = Some(self.first.map_or(count.first, |first| first.min(count.first)));
            self.last = Some(self.last.map_or(count.last, |last| last.max(count.last)));
            self.regions.extend(count.region.clone());
            if is_failure(&count.outcome) || count.outcome == "denied" {
                *self.reasons.entry(count.reason.clone().unwrap_or_default()).or_default() += count.events;
            }
            return;
        }
        self.beside.add(&count.outcome, count.events);
        if !count.inside {
            self.before.add(&count.outcome, count.events);
        }
        if let Some(release) = count.release.as_ref().filter(|release| !asked.contains(release)) {
            let (first, last, counts) =
                self.releases.entry(release.clone()).or_insert((count.first, count.last, Counts::default()));
            (*first, *last) = ((*first).min(count.first), (*last).max(count.last));
            counts.add(&count.outcome, count.events);
        }
    }

    /// Of the releases that ran before the first event here, the one that ran last.
    fn previous(&self) -> Option<(String, Counts)> {
        let first = self.first?;
        let before = self.releases.iter().filter(|(_, (began, _, _))| *began < first);
        let last = before.max_by_key(|(name, (began, _, _))| (*began, (*name).clone()));
        last.map(|(name, (_, _, counts))| (name.clone(), *counts))
    }
}

/// What all that was counted comes to.
pub(crate) fn answer(gathered: Gathered, seen: &[Seen], mut not_examined: Vec<Unexamined>) -> ScopeAnswer {
    let asked: Vec<String> = gathered.question.values(Dimension::Release).to_vec();
    let mut counted: BTreeMap<&str, Counted> = BTreeMap::new();
    let examined = &gathered.question.tenants;
    for tenant in examined {
        counted.insert(tenant, Counted::default());
    }
    for count in &gathered.counts {
        if let Some(found) = counted.get_mut(count.tenant.as_str()) {
            found.add(count, &asked);
        }
    }
    let compared = counted.values().filter(|found| found.here.failures > 0).count().max(1);
    // What a tenant that had nothing to compare with is compared with.
    let all = counted.values().fold(Counts::default(), |sum, found| Counts {
        events: sum.events + found.beside.events,
        failures: sum.failures + found.beside.failures,
        denied: sum.denied + found.beside.denied,
    });
    let mut tenants: Vec<TenantScope> = counted
        .iter()
        .map(|(tenant, found)| TenantScope {
            in_part: is_in_part(tenant, &gathered.question, seen),
            touched: touched(tenant, &gathered),
            contained: contained(tenant, found, &gathered),
            ..judged(tenant, found, all, compared, &gathered.question)
        })
        .collect();
    let rank = |one: &TenantScope| (!one.affected, u64::MAX - one.matching.failures, u64::MAX - one.matching.events);
    tenants.sort_by(|a, b| match (a.affected, b.affected) {
        (false, false) => a.tenant.cmp(&b.tenant),
        _ => (rank(a), &a.tenant).cmp(&(rank(b), &b.tenant)),
    });
    not_examined.sort();
    let timeline = timeline(&gathered, &tenants);
    let read: Vec<HeadRead> = seen.iter().map(|seen| HeadRead::of(&seen.snapshot)).collect();
    let summary = summary(&tenants, &counted, not_examined.len());
    let times = gathered.extent.zip(gathered.before).map(|((first, last), before)| Times {
        first: format_micros(first),
        last: format_micros(last),
        compared_from: format_micros(before),
    });
    ScopeAnswer {
        summary,
        times,
        tenants,
        not_examined,
        timeline,
        read: heads_json(&read),
        question: gathered.question,
    }
}

/// A tenant's verdict, with the figures that it rests on.
fn judged(tenant: &str, found: &Counted, all: Counts, compared: usize, question: &ScopeQuestion) -> TenantScope {
    let Counted { here, before, beside, .. } = found;
    let p = accident(*here, *beside, all) * compared as f64;
    let is_compared = here.failures > 0 && all.events > 0;
    let (affected, why) = match question.affected_when {
        _ if here.events == 0 => (false, "nothing of what was asked about happened here".to_string()),
        Some(AffectedWhen::Touched) => (true, touch(here)),
        _ if here.failures == 0 => (false, format!("{} events, and none of them failed", here.events)),
        _ => {
            let here = format!("{} of {} events failed", here.failures, here.events);
            let own = format!("{} of {} before and beside it", beside.failures, beside.events);
            let of_all = format!("{} of {} at all tenants", all.failures, all.events);
            match () {
                () if all.events == 0 => (true, format!("{here}, and there is nothing to compare with")),
                () if p > SIGNIFICANT => (false, format!("{here}, no more often than else: {own}, {of_all}")),
                () if beside.events == 0 => (true, format!("{here}, and {of_all} before and beside it: no accident")),
                () => (true, format!("{here}, and {own}, {of_all}: no accident")),
            }
        }
    };
    let mut reasons: Vec<Tally> = found
        .reasons
        .iter()
        .map(|(value, events)| Tally { value: value.clone(), events: *events, failures: *events })
        .collect();
    reasons.sort_by(|a, b| b.events.cmp(&a.events).then_with(|| a.value.cmp(&b.value)));
    reasons.truncate(MOST_NAMED);
    TenantScope {
        tenant: tenant.into(),
        affected,
        why,
        in_part: false,
        matching: *here,
        first: found.first.map(format_micros),
        last: found.last.map(format_micros),
        before: *before,
        previous_release: if question.values(Dimension::Release).is_empty() { None } else { found.previous() },
        chance: is_compared.then(|| format!("{:.6}", p.min(1.0))),
        reasons,
        touched: BTreeMap::new(),
        contained: None,
    }
}

/// The chance that a tenant's failures are an accident: against its own events before and beside it; and, where these do
/// not speak against it (nothing failed, or hardly as often), against those of all tenants, which are more.
fn accident(here: Counts, own: Counts, all: Counts) -> f64 {
    let against = |other: Counts| chance(here.failures, here.events, other.failures, other.events);
    let by_own = against(own);
    if own.failures == 0 || by_own <= PLAUSIBLE { by_own.min(against(all)) } else { by_own }
}

fn touch(here: &Counts) -> String {
    match (here.failures + here.denied, here.events) {
        (0, events) => format!("touched: {events} events"),
        (refused, events) if refused == events => format!("tried: {events} events, all of them failed or denied"),
        (refused, events) => format!("touched: {events} events, {refused} of them failed or denied"),
    }
}

/// Whether the caller sees less of a tenant than the question is about.
fn is_in_part(tenant: &str, question: &ScopeQuestion, seen: &[Seen]) -> bool {
    let of = |one: &&Seen| one.snapshot.tenant.as_str() == tenant && question.kinds().contains(&one.snapshot.kind);
    seen.iter().filter(of).any(|one| one.sight.as_ref().is_some_and(|sight| !sight.is_whole()))
}

fn touched(tenant: &str, gathered: &Gathered) -> BTreeMap<&'static str, Touched> {
    let mut all = BTreeMap::new();
    for (name, values) in &gathered.touched {
        if let Some(values) = values.get(tenant) {
            let named = values.iter().take(MOST_NAMED);
            let named = named.map(|(value, events, failures)| Tally {
                value: value.clone(),
                events: *events,
                failures: *failures,
            });
            all.insert(*name, Touched { different: values.len() as u64, named: named.collect() });
        }
    }
    all
}

/// The first end that is one for this tenant, and what came after it.
fn contained(tenant: &str, found: &Counted, gathered: &Gathered) -> Option<Contained> {
    let first = found.first?;
    let is_its = |end: &&Notable| {
        let is_own_suspension = end.action == "tenant.suspend" && end.resource.as_deref() == Some(tenant);
        let is_named = end.action != "tenant.suspend";
        let is_in_region =
            end.region.as_ref().is_none_or(|region| found.regions.is_empty() || found.regions.contains(region));
        end.at >= first && (is_own_suspension || (is_named && is_in_region))
    };
    let end = gathered.ends.iter().find(is_its)?;
    let after = gathered.after.get(&end.at).map(|rows| {
        let mut after = Counts::default();
        rows.iter().filter(|(of, _, _)| of == tenant).for_each(|(_, outcome, events)| after.add(outcome, *events));
        after
    });
    let is_of_release = end.action.starts_with("release.");
    let holds = after.map(|after| match is_of_release {
        true => after.failures == 0,
        false => after.events == after.failures + after.denied,
    });
    Some(Contained {
        since: format_micros(end.at),
        action: end.action.clone(),
        by: end.by.clone(),
        entry: (end.tenant.clone(), end.stream.clone(), end.seq),
        after,
        holds,
    })
}

/// Is it the platform, a region or one tenant?
fn summary(tenants: &[TenantScope], counted: &BTreeMap<&str, Counted>, unexamined: usize) -> String {
    let affected: Vec<&TenantScope> = tenants.iter().filter(|one| one.affected).collect();
    let regions_of = |one: &&TenantScope| counted.get(one.tenant.as_str()).map(|found| found.regions.clone());
    let regions: BTreeSet<String> = affected.iter().filter_map(regions_of).flatten().collect();
    let everywhere: BTreeSet<&String> = counted.values().flat_map(|found| &found.regions).collect();
    let of = tenants.len();
    let beyond = if unexamined == 0 { String::new() } else { format!("; {unexamined} not examined") };
    let extent = match affected.len() {
        0 => format!("nobody: none of {of} tenants is affected"),
        1 => format!("one tenant: {} is affected, {} are not", affected[0].tenant, of - 1),
        some if some == of => format!("platform-wide: all {of} tenants are affected"),
        some if regions.len() == 1 && everywhere.len() > 1 => {
            format!("one region: {some} tenants in {} are affected, {} are not", first_of(&regions), of - some)
        }
        some if some * 2 > of => format!("platform-wide: {some} of {of} tenants are affected"),
        some if regions.len() == 1 => format!("{some} of {of} tenants are affected, all in {}", first_of(&regions)),
        some => format!("{some} of {of} tenants are affected"),
    };
    let ends: Vec<&Contained> = affected.iter().filter_map(|one| one.contained.as_ref()).collect();
    let over = match (affected.len(), ends.len()) {
        (0, _) => String::new(),
        (all, ended) if all == ended && ends.iter().all(|end| end.holds != Some(false)) => {
            format!("; contained since {}", ends.iter().map(|end| end.since.as_str()).max().unwrap_or_default())
        }
        (_, 0) => "; not contained".into(),
        (all, ended) => {
            let broken = ends.iter().filter(|end| end.holds == Some(false)).count();
            format!("; contained at {} of {all}, and at {broken} something came after it", ended)
        }
    };
    format!("{extent}{beyond}{over}")
}

fn first_of(names: &BTreeSet<String>) -> &str {
    names.first().map(String::as_str).unwrap_or_default()
}
