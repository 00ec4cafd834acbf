//! Bundles as they are kept: whose they are, how far they are, and when they go.
//!
//! Not here: making one ([`super::making`]). Invariant: a bundle is shown to nobody but who asked for it, for a week, and while
//! they see what they saw.

use super::making::{END_FACTS, EndFacts, PLAN, facts_name, read};
use super::question::Plan;
use super::reports::Named;
use super::running::Made;
use super::sight_of;
use crate::session::TABLES;
use crate::state::QueryState;
use access::{Action, Caller, Opened, Problem, ProblemKind};
use ledger::TenantId;
use ledger::time::format_micros;
use ledger_store::Bundles;
use serde_json::{Value, json};
use std::collections::BTreeMap;

/// How long one is kept to be fetched, in microseconds: a week.
const KEPT_MICROS: i64 = 7 * 24 * 3_600 * 1_000_000;
/// Bundles of one tenant that are kept at the same time.
const MOST_KEPT: usize = 20;

fn is_kept(plan: &Plan, now: i64) -> bool {
    now - plan.time < KEPT_MICROS
}

/// What a bundle is going to be; none when it is not there, or was begun by another version of this program.
pub(super) async fn plan_of(bundles: &Bundles, id: &str) -> Result<Option<Plan>, Problem> {
    let bytes = bundles.get(id, PLAN).await?;
    Ok(bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()))
}

pub(super) fn no_such(id: &str) -> Problem {
    Problem::new(ProblemKind::NotFound, format!("there is no bundle {id}, or none of yours"))
}

impl QueryState {
    /// A bundle that the caller asked for less than a week ago.
    pub(super) async fn asked_for(
        &self,
        caller: &Caller,
        tenant: &TenantId,
        id: &str,
    ) -> Result<(Plan, Bundles), Problem> {
        let any = self.door().read_all(caller, tenant, &TABLES)?;
        let bundles = any.first().ok_or_else(|| no_such(id))?.handle.bundles();
        let plan = self.plan(caller, &bundles, id).await?;
        Ok((plan, bundles))
    }

    pub(super) async fn plan(&self, caller: &Caller, bundles: &Bundles, id: &str) -> Result<Plan, Problem> {
        let plan = plan_of(bundles, id).await?;
        let is_theirs = |plan: &Plan| plan.by == caller.principal().as_str() && is_kept(plan, bundles.now());
        plan.filter(is_theirs).ok_or_else(|| no_such(id))
    }

    /// The same, with its streams as they may be read now.
    pub(super) async fn own(
        &self,
        caller: &Caller,
        tenant: &TenantId,
        id: &str,
    ) -> Result<(Plan, Vec<Opened>, Bundles), Problem> {
        let (plan, bundles) = self.asked_for(caller, tenant, id).await?;
        let mut opened = Vec::with_capacity(plan.streams.len());
        for stream in &plan.streams {
            opened.push(self.door().read(caller, tenant, stream.kind()?, Action::ReadEvents).await?);
        }
        for report in &plan.reports {
            self.may_report(caller, tenant, &report.parse::<Named>()?)?;
        }
        let for_reports =
            plan.sight_for_reports.as_ref().map(|_| self.sight_for_reports(caller, tenant)).transpose()?;
        if sight_of(&opened) != plan.sight || for_reports != plan.sight_for_reports {
            let why = "what you may see is not what it was when the bundle was asked for: ask for a new one";
            return Err(Problem::new(ProblemKind::Forbidden, why));
        }
        Ok((plan, opened, bundles))
    }

    /// What is known of an earlier bundle.
    pub(super) async fn previous(&self, caller: &Caller, bundles: &Bundles, id: &str) -> Result<EndFacts, Problem> {
        self.plan(caller, bundles, id).await?;
        let facts: Option<EndFacts> = read(bundles, id, END_FACTS).await?;
        facts.ok_or_else(|| Problem::new(ProblemKind::Conflict, format!("the bundle {id} is not made yet")))
    }

    /// Takes away what has lain too long, and refuses more than may lie.
    pub(super) async fn tidy(&self, bundles: &Bundles, now: i64) -> Result<(), Problem> {
        let mut kept = 0;
        for id in bundles.ids().await? {
            match plan_of(bundles, &id).await?.is_some_and(|plan| is_kept(&plan, now)) {
                true => kept += 1,
                false => bundles.remove(&id).await?,
            }
        }
        if kept < MOST_KEPT {
            return Ok(());
        }
        let why = format!(
            "{MOST_KEPT} bundles of this tenant are kept already: take one away, or wait until one is a week old"
        );
        Err(Problem::new(ProblemKind::TooManyRequests, why))
    }

    pub(super) async fn how_far(&self, tenant: &TenantId, bundles: &Bundles, plan: &Plan) -> Result<Value, Problem> {
        let of = plan.count();
        let end: Option<EndFacts> = read(bundles, &plan.id, END_FACTS).await?;
        let (state, done, why) = match (&end, self.running().of(tenant, &plan.id)) {
            (Some(_), _) => ("ready", of, None),
            (None, Some(Made::Failed(problem))) => ("failed", 0, Some(problem.detail().to_string())),
            (None, Some(Made::Going(going))) => ("making", going.progress.now().done, None),
            (None, None) => {
                let there = bundles.objects(&plan.id).await?;
                let done = (0..of).filter(|number| there.contains_key(&facts_name(*number))).count() as u64;
                ("stopped", done, None)
            }
        };
        let streams: BTreeMap<&str, Value> = plan
            .streams
            .iter()
            .map(|stream| {
                let entries = end.as_ref().and_then(|end| end.entries.get(&stream.stream)).copied();
                let told = json!({"size": stream.size, "first": stream.first, "end": stream.end, "entries": entries});
                (stream.stream.as_str(), told)
            })
            .collect();
        Ok(json!({
            "id": plan.id, "tenant": plan.tenant, "state": state, "why": why, "done": done, "of": of,
            "audience": plan.audience, "by": plan.by, "asked": format_micros(plan.time),
            "kept_until": format_micros(plan.time + KEPT_MICROS), "streams": streams, "withheld": plan.withheld,
            "bytes": end.as_ref().map(|end| end.archive), "manifest_sha256": end.map(|end| end.manifest),
        }))
    }
}
