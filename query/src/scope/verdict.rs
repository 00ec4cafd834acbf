//! What counts mean: who is affected and why, since when, and whether it is over. Pure.
//!
//! Not here: counting ([`super::gather`]). Invariants: every tenant that was asked about stands in the answer once, as
//! affected, not affected, or not examined with the reason; the order of everything is total.

use super::Around;
use super::counts::{Count, Gathered, Notable, Ran, is_failure};
use super::gather::REASONS;
use super::question::{AffectedWhen, ScopeQuestion};
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
    /// Why things ended as they did: reasons that events give, the most frequent first.
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
    regions: BTreeSet<String>,
    previous: Option<(i64, String, Counts)>,
}

impl Counted {
    fn add(&mut self, count: &Count) {
        match count {
            Count { is_here: true, outcome, events, .. } => self.here.add(outcome, *events),
            Count { is_before, outcome, events, .. } => {
                self.beside.add(outcome, *events);
                if *is_before {
                    self.before.add(outcome, *events);
                }
            }
        }
    }

    /// Of the releases that ran before the first event here, the one that began last.
    fn ran(&mut self, ran: &Ran) {
        let is_earlier = self.first.is_some_and(|first| ran.since < first);
        let found = (ran.since, &ran.release);
        let is_later = self.previous.as_ref().is_none_or(|(since, release, _)| (*since, release) < found);
        if is_earlier && is_later {
            let counts = Counts { events: ran.events, failures: ran.failures, denied: ran.denied };
            self.previous = Some((ran.since, ran.release.clone(), counts));
        }
    }
}

fn counted(gathered: &Gathered) -> BTreeMap<&str, Counted> {
    let mut counted: BTreeMap<&str, Counted> =
        gathered.question.tenants.iter().map(|tenant| (tenant.as_str(), Counted::default())).collect();
    for one in &gathered.matching {
        if let Some(found) = counted.get_mut(one.tenant.as_str()) {
            (found.first, found.last) = (Some(one.first), Some(one.last));
        }
    }
    for count in &gathered.counts {
        if let Some(found) = counted.get_mut(count.tenant.as_str()) {
            found.add(count);
        }
    }
    for ran in &gathered.ran {
        if let Some(found) = counted.get_mut(ran.tenant.as_str()) {
            found.ran(ran);
        }
    }
    for (tenant, regions) in gathered.touched.get("regions").into_iter().flatten() {
        if let Some(found) = counted.get_mut(tenant.as_str()) {
            found.regions.extend(regions.iter().map(|(region, _, _)| region.clone()));
        }
    }
    counted
}

/// What all that was counted comes to.
pub(crate) fn answer(
    gathered: Gathered,
    seen: &[Seen],
    mut not_examined: Vec<Unexamined>,
    around: &Around,
) -> ScopeAnswer {
    let counted = counted(&gathered);
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
            in_part: around.in_part.contains(*tenant) || is_in_part(tenant, &gathered.question, seen),
            touched: touched(tenant, &gathered),
            reasons: named(gathered.touched.get(REASONS).and_then(|values| values.get(*tenant))).named,
            contained: contained(tenant, found, &gathered, around),
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
    TenantScope {
        tenant: tenant.into(),
        affected,
        why,
        in_part: false,
        matching: *here,
        first: found.first.map(format_micros),
        last: found.last.map(format_micros),
        before: *before,
        previous_release: found.previous.as_ref().map(|(_, release, counts)| (release.clone(), *counts)),
        chance: is_compared.then(|| format!("{:.6}", p.min(1.0))),
        reasons: vec![],
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
    let of = |(name, values): (&&'static str, &super::counts::Values)| {
        values.get(tenant).map(|values| (*name, named(Some(values))))
    };
    gathered.touched.iter().filter(|(name, _)| **name != REASONS).filter_map(of).collect()
}

/// The most frequent values, and how many there are.
fn named(values: Option<&Vec<(String, u64, u64)>>) -> Touched {
    let all = values.map(Vec::as_slice).unwrap_or_default();
    let tally = |(value, events, failures): &(String, u64, u64)| Tally {
        value: value.clone(),
        events: *events,
        failures: *failures,
    };
    Touched { different: all.len() as u64, named: all.iter().take(MOST_NAMED).map(tally).collect() }
}

/// The first end that is one for this tenant, and what came after it.
fn contained(tenant: &str, found: &Counted, gathered: &Gathered, around: &Around) -> Option<Contained> {
    let first = found.first?;
    let is_its = |end: &&Notable| {
        let is_own_suspension = end.action == "tenant.suspend" && end.resource.as_deref() == Some(tenant);
        let is_named = end.action != "tenant.suspend";
        // Of one of several regions, it goes on in the others.
        let is_everywhere = end.region.as_ref().is_none_or(|region| found.regions.iter().all(|one| one == region));
        // Its own word, or that of who stands above it: no tenant says for another that it is over.
        let may_say = around.above.get(tenant).is_some_and(|line| line.contains(&end.tenant));
        end.at >= first && may_say && (is_own_suspension || (is_named && is_everywhere))
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
        (all, ended) if all == ended && ends.iter().all(|end| end.holds == Some(true)) => {
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
