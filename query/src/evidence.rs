//! Evidence bundles: entries of a tenant with what proves them, in one archive that is checked without us (FORMAT.md §16).
//!
//! A bundle is asked for ([`BundleQuestion`]), planned, made in the background part by part, and fetched by whoever asked
//! for it. Read in this order: `question`, `making`, `part`, `zip`. Not here: what a bundle's texts are (`ledger::bundle`),
//! where its parts lie (`ledger-store`), routes ([`http`]).
//!
//! Invariants: what is shown is what the caller may read when it is asked for and still may when it is made and fetched;
//! heads are fixed when it is asked for; it is on record before a byte of it leaves.

pub mod http;
mod kept;
mod making;
mod page;
mod part;
mod planning;
mod question;
mod reports;
mod running;
mod zip;

pub use self::question::BundleQuestion;
pub(crate) use self::running::Running;

use self::kept::plan_of;
use self::making::{END, END_FACTS, EndFacts, Going, Making, PLAN, part_name, read};
use self::planning::{Picks, planned};
use self::question::{Asked, Plan, PlannedStream};
use self::reports::REPORTS;
use self::running::Made;
use crate::error::QueryError;
use crate::guard;
use crate::scope::literal;
use crate::session::TABLES;
use crate::state::QueryState;
use access::{Action, Caller, Opened, Problem, ProblemKind};
use bytes::Bytes;
use futures::FutureExt as _;
use futures::stream::{self, BoxStream, StreamExt};
use ledger::field::Section;
use ledger::sections::Sections;
use ledger::time::format_micros;
use ledger::{Hash, StreamKind, TenantId};
use ledger_store::StreamHandle;
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Parts of one bundle at most, 655,360,000 positions: the names of their files fill most of the largest manifest.
const MOST_PARTS: u64 = 10_000;

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

/// Notes what the record says of a bundle that was asked for.
fn note(caller: &Caller, plan: &Plan) {
    let said = [("bundle", Some(&plan.id)), ("audience", Some(&plan.audience)), ("region", plan.region.as_ref())];
    for (name, text) in said.into_iter().chain([("where", plan.condition.as_ref())]) {
        text.into_iter().for_each(|text| caller.visit().note(name, text.as_str()));
    }
    if !plan.reports.is_empty() {
        caller.visit().note("reports", plan.reports.join(" "));
    }
    for (name, at) in [("from", plan.from), ("until", plan.until)] {
        at.into_iter().for_each(|at| caller.visit().note(name, format_micros(at)));
    }
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
        let told_of = self.told_of(caller, &asked.tenant, &opened, asked.reports.is_empty())?;
        // Before anything is read: what is erased from here on ends it.
        let erased = told_of.iter().map(|one| (one.kind().to_string(), one.erased())).collect();
        let bundles = opened[0].handle.bundles();
        let (id, time) = (bundles.new_id(), bundles.now());
        self.tidy(&bundles, time).await?;
        let previous = match &question.previous {
            Some(id) => Some(self.previous(caller, &bundles, id).await?),
            None => None,
        };
        let (streams, withheld, is_part) = self.planned_streams(&question, &asked, &opened, previous.as_ref()).await?;
        let sight_for_reports = match asked.reports.is_empty() {
            true => None,
            false => Some(self.sight_for_reports(caller, &asked.tenant)?),
        };
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
            reports: question.reports.into_iter().collect::<BTreeSet<_>>().into_iter().collect(),
            erased,
            sight_for_reports,
            sight: sight_of(&opened),
        };
        if plan.count() > MOST_PARTS {
            let why = "so many entries do not go into one bundle: ask for shorter periods, one after the other";
            return Err(Problem::new(ProblemKind::Unprocessable, why));
        }
        self.try_condition(&plan, &opened).await?;
        let reports = self.reports(caller, (&plan, is_part), &asked.reports).await?;
        // If we crash between the two, it is over when it is asked for, and taken away.
        making::keep(&bundles, &id, PLAN, &plan).await?;
        making::keep(&bundles, &id, REPORTS, &reports).await?;
        note(caller, &plan);
        self.go_on(&asked.tenant, plan.clone(), (opened, told_of))?;
        self.how_far(&asked.tenant, &bundles, &plan).await
    }

    /// What of each stream it is going to have; the sections that are withheld; and whether something else is, too.
    async fn planned_streams(
        &self,
        question: &BundleQuestion,
        asked: &Asked,
        opened: &[Opened],
        previous: Option<&EndFacts>,
    ) -> Result<(Vec<PlannedStream>, Sections, bool), Problem> {
        let (mut withheld, mut is_part) = (asked.withheld, false);
        let mut streams = Vec::with_capacity(opened.len());
        for one in opened {
            // All of it may be read, and counts as what SQL looks at.
            one.meter.add(one.handle.stored().1);
            let (masked, sees_all_rows) = masks(one);
            withheld = withheld | masked;
            let may_go = self.may_go(&asked.tenant, one.handle.kind(), question.region.as_deref())?;
            let evidence = one.handle.evidence(None).await?;
            is_part |= !sees_all_rows || may_go.is_some();
            let shows = Picks { asked_for: question.condition.clone(), may_go, sees_all_rows };
            let mut planned = planned(question, asked, one, &evidence, shows).await?;
            planned.since.extend(previous.and_then(|facts| facts.sizes.get(&planned.stream)).copied());
            planned.since.sort_unstable();
            planned.since.dedup();
            planned.since.retain(|size| (1..=planned.size).contains(size));
            streams.push(planned);
        }
        if !asked.reports.is_empty() {
            for stream in TABLES {
                is_part |= self.may_go(&asked.tenant, stream, question.region.as_deref())?.is_some();
            }
        }
        Ok((streams, withheld, is_part))
    }

    /// How far a bundle is. One that was left by a service that stopped goes on.
    ///
    /// # Errors
    /// There is none with this id that the caller asked for, or what they see is another than it was.
    pub async fn bundle(&self, caller: &Caller, tenant: &TenantId, id: &str) -> Result<Value, Problem> {
        let (plan, opened, bundles) = self.own(caller, tenant, id).await?;
        let is_done = bundles.objects(id).await?.contains_key(END_FACTS);
        if !is_done && self.running().of(tenant, id).is_none() {
            let told_of = self.told_of(caller, tenant, &opened, plan.reports.is_empty())?;
            self.go_on(tenant, plan.clone(), (opened, told_of))?;
        }
        let told = self.how_far(tenant, &bundles, &plan).await;
        // Why it failed is told once; whoever asks again wants it to go on.
        if let Some(Made::Failed(_)) = self.running().of(tenant, id) {
            self.running().forget(&(tenant.clone(), id.to_string()));
        }
        told
    }

    /// The bundles of a tenant that the caller asked for, newest first.
    ///
    /// # Errors
    /// None of the tenant's streams may be read.
    pub async fn bundles(&self, caller: &Caller, tenant: &TenantId) -> Result<Value, Problem> {
        let opened = self.door().read_all(caller, tenant, &TABLES)?;
        let Some(one) = opened.first() else { return Ok(json!({"bundles": []})) };
        let bundles = one.handle.bundles();
        let mut all = Vec::new();
        for id in bundles.ids().await? {
            match self.plan(caller, &bundles, &id).await {
                Ok(plan) => all.push((plan.time, self.how_far(tenant, &bundles, &plan).await?)),
                Err(problem) if problem.kind() == ProblemKind::NotFound => {}
                Err(problem) => return Err(problem),
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
        let (_, bundles) = self.asked_for(caller, tenant, id).await?;
        if let Some(Made::Going(going)) = self.running().of(tenant, id) {
            going.is_cancelled.store(true, Ordering::Relaxed);
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

    /// The streams that a bundle tells of: with reports all of the tenant's.
    fn told_of(
        &self,
        caller: &Caller,
        tenant: &TenantId,
        opened: &[Opened],
        is_bare: bool,
    ) -> Result<Vec<StreamHandle>, Problem> {
        let handles = |of: &[Opened]| of.iter().map(|one| one.handle.clone()).collect();
        Ok(if is_bare { handles(opened) } else { handles(&self.door().read_all(caller, tenant, &TABLES)?) })
    }

    fn may_be_left_out(&self, problem: &Problem, is_first: bool) -> bool {
        problem.kind() == ProblemKind::NotFound || (!is_first && problem.kind() == ProblemKind::Forbidden)
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

    /// Goes on making a bundle in the background.
    fn go_on(
        &self,
        tenant: &TenantId,
        plan: Plan,
        (opened, told_of): (Vec<Opened>, Vec<StreamHandle>),
    ) -> Result<(), Problem> {
        let going = Arc::new(Going::default());
        going.progress.next("making", plan.count() as usize, "parts");
        let key = (tenant.clone(), plan.id.clone());
        if !self.running().begin(&key, &going) {
            return Ok(());
        }
        let (state, own, of_making) = (self.clone(), key.clone(), going);
        let asking = self.door().ask_about(tenant);
        let asking = asking.inspect_err(|_| self.running().forget(&key))?;
        let begun = self.engine().spawn(async move {
            let _asking = asking;
            let Some(_turn) = state.running().turn().await else { return };
            let bundles = opened[0].handle.bundles();
            let (engine, id) = (state.engine().clone(), plan.id.clone());
            let going = Arc::clone(&of_making);
            let making = Making { engine, bundles: bundles.clone(), plan, opened, told_of, going: of_making };
            let making = Arc::new(making);
            // The Parquet decoder panics on some damage.
            let outcome = AssertUnwindSafe(making.run()).catch_unwind().await;
            let outcome = outcome.unwrap_or_else(|_| Err(Problem::new(ProblemKind::Internal, "a segment is damaged")));
            let is_over = going.is_cancelled.load(Ordering::Relaxed)
                || outcome.as_ref().is_err_and(|problem| problem.kind() == ProblemKind::Conflict)
                || matches!(plan_of(&bundles, &id).await, Ok(None));
            if is_over && bundles.remove(&id).await.is_err() {
                // It is tidied away with the next that is asked for.
                tracing::warn!(tenant = %key.0, bundle = key.1, "what is left of a bundle could not be taken away");
            }
            // Of what is over nobody can ask any more why.
            state.running().end(key, if is_over { Ok(()) } else { outcome });
        });
        Ok(begun.inspect_err(|_| self.running().forget(&own))?)
    }
}
