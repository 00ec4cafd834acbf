//! Evidence bundles: entries of a tenant with what proves them, in one archive that is checked without us (FORMAT.md §16).
//!
//! A bundle is asked for ([`BundleQuestion`]), planned, made in the background part by part, and fetched by whoever asked
//! for it. Read in this order: `question`, `making`, `part`, `zip`. Not here: what a bundle's texts are (`ledger::bundle`),
//! where its parts lie (`ledger-store`), routes ([`http`]).
//!
//! Invariants: what is shown is what the caller may read when it is asked for and still may when it is made and fetched;
//! heads are fixed when it is asked for; it is on record before a byte of it leaves.

pub mod http;
mod making;
mod page;
mod part;
mod planning;
mod question;
mod running;
mod zip;

pub use self::question::BundleQuestion;
pub(crate) use self::running::Running;

use self::making::{END, END_FACTS, EndFacts, Making, PLAN, Progress, facts_name, part_name, read};
use self::planning::{Picks, planned};
use self::question::{Asked, Plan};
use self::running::Made;
use crate::error::QueryError;
use crate::guard;
use crate::scope::literal;
use crate::state::QueryState;
use access::{Action, Caller, Opened, Problem, ProblemKind};
use bytes::Bytes;
use futures::stream::{self, BoxStream, StreamExt};
use ledger::field::Section;
use ledger::sections::Sections;
use ledger::time::format_micros;
use ledger::{Hash, StreamKind, TenantId};
use ledger_store::Bundles;
use serde_json::{Value, json};
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// How long one is kept to be fetched, in microseconds: a week.
const KEPT_MICROS: i64 = 7 * 24 * 3_600 * 1_000_000;
/// Bundles of one tenant that are kept at the same time.
const MOST_KEPT: usize = 20;

/// A bundle's bytes.
pub struct Archive {
    /// How many.
    pub bytes: u64,
    /// One piece after the other.
    pub pieces: BoxStream<'static, Result<Bytes, Problem>>,
}

/// The sections that are withheld of what a caller sees, and whether all rows are seen.
fn masks(opened: &Opened) -> (Sections, bool) {
    let views = opened.sight.views();
    let of = |masked: &BTreeSet<Section>| masked.iter().copied().collect::<Sections>();
    let all_rows = views.iter().filter(|view| view.shows_all_rows()).map(|view| of(&view.masked));
    // A section is seen if one view shows it; where different rows are seen by different rights, what one of these masks
    // is withheld of all.
    match all_rows.reduce(Sections::and) {
        Some(masked) => (masked, true),
        None => (views.iter().fold(Sections::default(), |all, view| all | of(&view.masked)), false),
    }
}

/// What a caller sees, in short: a bundle goes on only for whoever sees the same.
fn sight_of(opened: &[Opened]) -> String {
    let all: Vec<String> = opened.iter().map(|one| format!("{:?}", one.sight)).collect();
    Hash::of(all.join("\n").as_bytes()).to_hex()
}

fn no_such(id: &str) -> Problem {
    Problem::new(ProblemKind::NotFound, format!("there is no bundle {id}, or none of yours"))
}

impl QueryState {
    /// Begins to make a bundle, and says how far it is.
    ///
    /// # Errors
    /// The question does not hold together, or something in it is not granted to the caller or not there.
    pub async fn begin_bundle(&self, caller: &Caller, question: BundleQuestion) -> Result<Value, Problem> {
        let asked = question.check()?;
        if let Some(condition) = &question.condition {
            guard::is_expression(condition).map_err(QueryError::Refused)?;
        }
        let opened = self.streams_of(caller, &asked).await?;
        let bundles = opened[0].handle.bundles();
        let (id, time) = bundles.begin();
        self.tidy(&bundles, time).await?;
        let previous = match &question.previous {
            Some(id) => Some(self.previous(caller, &bundles, id).await?),
            None => None,
        };
        let mut withheld = asked.withheld;
        let mut streams = Vec::with_capacity(opened.len());
        for one in &opened {
            let (masked, sees_all_rows) = masks(one);
            withheld = withheld | masked;
            let may_go = self.may_go(&asked.tenant, one.handle.kind(), question.region.as_deref())?;
            let evidence = one.handle.evidence(None).await?;
            let shows = Picks { asked_for: question.condition.clone(), may_go, sees_all_rows };
            let mut planned = planned(&question, &asked, one, &evidence, shows).await?;
            planned.since.extend(previous.as_ref().and_then(|facts| facts.sizes.get(&planned.stream)).copied());
            planned.since.sort_unstable();
            planned.since.dedup();
            planned.since.retain(|size| *size <= planned.size);
            streams.push(planned);
        }
        let plan = Plan {
            id: id.clone(),
            tenant: asked.tenant.to_string(),
            time,
            by: caller.principal().to_string(),
            audience: question.audience,
            from: question.from.map(|when| when.0),
            until: question.until.map(|when| when.0),
            condition: question.condition,
            region: question.region,
            withheld: withheld.iter().map(|section| section.as_str().to_string()).collect(),
            previous: previous.map(|facts| facts.manifest),
            streams,
            sight: sight_of(&opened),
        };
        self.try_condition(&plan, &opened).await?;
        making::keep(&bundles, &id, PLAN, &plan).await?;
        caller.visit().note("bundle", id.as_str());
        caller.visit().note("audience", plan.audience.as_str());
        plan.region.iter().for_each(|region| caller.visit().note("region", region.as_str()));
        self.go_on(&asked.tenant, plan.clone(), opened)?;
        self.how_far(&asked.tenant, &bundles, &plan).await
    }

    /// How far a bundle is. One that was left by a service that stopped goes on.
    ///
    /// # Errors
    /// There is none with this id that the caller asked for, or what they see is another than it was.
    pub async fn bundle(&self, caller: &Caller, tenant: &TenantId, id: &str) -> Result<Value, Problem> {
        let (plan, opened, bundles) = self.own(caller, tenant, id).await?;
        let is_done = bundles.objects(id).await?.contains_key(END_FACTS);
        if !is_done && self.running().of(tenant, id).is_none() {
            self.go_on(tenant, plan.clone(), opened)?;
        }
        self.how_far(tenant, &bundles, &plan).await
    }

    /// The bundles of a tenant that the caller asked for, newest first.
    ///
    /// # Errors
    /// None of the tenant's streams may be read.
    pub async fn bundles(&self, caller: &Caller, tenant: &TenantId) -> Result<Value, Problem> {
        let opened = self.door().read_all(caller, tenant, &crate::session::TABLES)?;
        let Some(one) = opened.first() else { return Ok(json!({"bundles": []})) };
        let bundles = one.handle.bundles();
        let mut all = Vec::new();
        for id in bundles.all().await?.into_keys() {
            if let Some(plan) =
                read::<Plan>(&bundles, &id, PLAN).await?.filter(|plan| plan.by == caller.principal().as_str())
            {
                all.push((plan.time, self.how_far(tenant, &bundles, &plan).await?));
            }
        }
        all.sort_by_key(|(time, _)| std::cmp::Reverse(*time));
        Ok(json!({"bundles": all.into_iter().map(|(_, told)| told).collect::<Vec<_>>()}))
    }

    /// Stops making a bundle, or takes it away.
    ///
    /// # Errors
    /// There is none with this id that the caller asked for.
    pub async fn drop_bundle(&self, caller: &Caller, tenant: &TenantId, id: &str) -> Result<(), Problem> {
        let (_, _, bundles) = self.own(caller, tenant, id).await?;
        if let Some(Made::Going(progress)) = self.running().of(tenant, id) {
            progress.is_cancelled.store(true, Ordering::Relaxed);
        }
        self.running().forget(&(tenant.clone(), id.to_string()));
        Ok(bundles.remove(id).await?)
    }

    /// A bundle that is made, to be sent.
    ///
    /// # Errors
    /// There is none with this id that the caller asked for, or it is not made yet.
    pub async fn fetch_bundle(&self, caller: &Caller, tenant: &TenantId, id: &str) -> Result<Archive, Problem> {
        let (plan, _, bundles) = self.own(caller, tenant, id).await?;
        let end: Option<EndFacts> = read(&bundles, id, END_FACTS).await?;
        let unready =
            || Problem::new(ProblemKind::Conflict, "the bundle is not made yet: ask how far it is until it is ready");
        let end = end.ok_or_else(unready)?;
        caller.visit().note("bundle", id);
        caller.visit().count(end.entries.values().sum());
        let names = (0..plan.count()).map(part_name).chain([END.to_string()]);
        let id = id.to_string();
        let pieces = stream::iter(names).then(move |name| {
            let (bundles, id) = (bundles.clone(), id.clone());
            async move {
                let piece = bundles.get(&id, &name).await?;
                piece.ok_or_else(|| Problem::new(ProblemKind::Gone, "the bundle was taken away while it was sent"))
            }
        });
        Ok(Archive { bytes: end.archive, pieces: pieces.boxed() })
    }

    async fn streams_of(&self, caller: &Caller, asked: &Asked) -> Result<Vec<Opened>, Problem> {
        let mut opened = Vec::with_capacity(asked.streams.len());
        for stream in &asked.streams {
            let one = self.door().read(caller, &asked.tenant, *stream, Action::ReadEvents).await;
            match one {
                Ok(one) => {
                    self.door().read(caller, &asked.tenant, *stream, Action::ReadProofs).await?;
                    opened.push(one);
                }
                // What was not asked for by name need not be there, nor be granted.
                Err(problem) if !asked.is_named && self.may_be_left_out(&problem, opened.is_empty()) => {}
                Err(problem) => return Err(problem),
            }
        }
        match opened.is_empty() {
            true => Err(Problem::new(ProblemKind::NotFound, format!("there is nothing of a tenant {}", asked.tenant))),
            false => Ok(opened),
        }
    }

    fn may_be_left_out(&self, problem: &Problem, is_first: bool) -> bool {
        problem.kind() == ProblemKind::NotFound || (!is_first && problem.kind() == ProblemKind::Forbidden)
    }

    /// A bundle that the caller asked for, with its streams as they may be read now.
    async fn own(&self, caller: &Caller, tenant: &TenantId, id: &str) -> Result<(Plan, Vec<Opened>, Bundles), Problem> {
        let any = self.door().read_all(caller, tenant, &crate::session::TABLES)?;
        let bundles = any.first().ok_or_else(|| no_such(id))?.handle.bundles();
        drop(any);
        let plan: Option<Plan> = read(&bundles, id, PLAN).await?;
        let plan = plan.filter(|plan| plan.by == caller.principal().as_str()).ok_or_else(|| no_such(id))?;
        let mut opened = Vec::with_capacity(plan.streams.len());
        for stream in &plan.streams {
            opened.push(self.door().read(caller, tenant, stream.kind()?, Action::ReadEvents).await?);
        }
        if sight_of(&opened) != plan.sight {
            let why = "what you may see is not what it was when the bundle was asked for: ask for a new one";
            return Err(Problem::new(ProblemKind::Forbidden, why));
        }
        Ok((plan, opened, bundles))
    }

    /// What is known of an earlier bundle.
    async fn previous(&self, caller: &Caller, bundles: &Bundles, id: &str) -> Result<EndFacts, Problem> {
        let plan: Option<Plan> = read(bundles, id, PLAN).await?;
        plan.filter(|plan| plan.by == caller.principal().as_str()).ok_or_else(|| no_such(id))?;
        let facts: Option<EndFacts> = read(bundles, id, END_FACTS).await?;
        facts.ok_or_else(|| Problem::new(ProblemKind::Conflict, format!("the bundle {id} is not made yet")))
    }

    /// Which entries of a stream the tenant's residency policy lets go to a region, as a condition; none when all may.
    fn may_go(&self, tenant: &TenantId, stream: StreamKind, region: Option<&str>) -> Result<Option<String>, Problem> {
        let registry = self.door().book().read();
        let Some((policy, set)) = registry.residency(tenant) else { return Ok(None) };
        let refused = |why: String| Err(Problem::new(ProblemKind::Unprocessable, why));
        let Some(region) = region else {
            let all = policy.allowed(stream, None).join(", ");
            return refused(format!(
                "{tenant} has a residency policy: say with region where the bundle goes, such as {all}"
            ));
        };
        let classes: BTreeSet<&String> = policy.rules.iter().flat_map(|rule| &rule.classes).collect();
        let may = |class: Option<&str>| policy.allowed(stream, class).iter().any(|one| one == region);
        let (good, bad): (Vec<&String>, Vec<&String>) = classes.into_iter().partition(|class| may(Some(class)));
        let list = |of: &[&String]| of.iter().map(|class| literal(class)).collect::<Vec<_>>().join(", ");
        match (may(None), good.is_empty(), bad.is_empty()) {
            (true, _, true) => Ok(None),
            (true, _, false) => Ok(Some(format!("data_class IS NULL OR data_class NOT IN ({})", list(&bad)))),
            (false, false, _) => Ok(Some(format!("data_class IN ({})", list(&good)))),
            (false, true, _) => refused(format!(
                "the residency policy of {tenant} (version {}) lets nothing of {stream} go to {region}; it may go to {}",
                set.seq,
                policy.allowed(stream, None).join(", ")
            )),
        }
    }

    /// Asks a condition about nothing, so that one that cannot be asked is refused at once.
    async fn try_condition(&self, plan: &Plan, opened: &[Opened]) -> Result<(), Problem> {
        for (one, stream) in opened.iter().zip(&plan.streams) {
            let Some(condition) = &stream.condition else { continue };
            let sql = making::select(&stream.stream, (0, 0), condition);
            self.engine().sql(vec![crate::state::seen(one).await?], &sql).await?.collect().await?;
        }
        Ok(())
    }

    /// Takes away what has lain too long, and refuses more than may lie.
    async fn tidy(&self, bundles: &Bundles, now: i64) -> Result<(), Problem> {
        let mut kept = 0;
        for id in bundles.all().await?.into_keys() {
            let plan: Option<Plan> = read(bundles, &id, PLAN).await?;
            match plan.is_some_and(|plan| now - plan.time < KEPT_MICROS) {
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

    /// Goes on making a bundle in the background.
    fn go_on(&self, tenant: &TenantId, plan: Plan, opened: Vec<Opened>) -> Result<(), Problem> {
        let progress = Arc::new(Progress::default());
        let key = (tenant.clone(), plan.id.clone());
        if !self.running().begin(&key, &progress) {
            return Ok(());
        }
        let (state, asking) = (self.clone(), self.door().ask_about(tenant));
        let asking = asking.inspect_err(|_| self.running().forget(&key))?;
        let begun = self.engine().spawn(async move {
            let _asking = asking;
            let Some(_turn) = state.running().turn().await else { return };
            let bundles = opened[0].handle.bundles();
            let making =
                Making { engine: state.engine(), bundles: &bundles, plan: &plan, opened: &opened, progress: &progress };
            let outcome = making.run().await;
            if progress.is_cancelled.load(Ordering::Relaxed) {
                // What was put after it was taken away.
                let _ = bundles.remove(&plan.id).await;
            }
            state.running().end(key, outcome);
        });
        Ok(begun?)
    }

    async fn how_far(&self, tenant: &TenantId, bundles: &Bundles, plan: &Plan) -> Result<Value, Problem> {
        let of = plan.count();
        let end: Option<EndFacts> = read(bundles, &plan.id, END_FACTS).await?;
        let (state, done, why) = match (&end, self.running().of(tenant, &plan.id)) {
            (Some(_), _) => ("ready", of, None),
            (None, Some(Made::Failed(problem))) => ("failed", 0, Some(problem.detail().to_string())),
            (None, Some(Made::Going(progress))) => ("making", progress.done.load(Ordering::Relaxed), None),
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
