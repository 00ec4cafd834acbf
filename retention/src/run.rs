//! Planning over all streams, and carrying a plan out: intent, purge, certificate, end; taken up again after a stop.
//!
//! If we crash after the intent, the run is open and [`crate::keeper`] goes on with it: what it makes again of the same policies,
//! holds and moment is the same plan, less what went already; and the stream's own chain says whether a purge of this run
//! was committed and not yet certified. Not here: what becomes of an entry ([`crate::judge`]).
//!
//! Invariants: an intent is on record before anything goes; a run goes no further once a policy or hold was changed; of each
//! stream that lost something there is a certificate before the run ends.

use crate::certify::Carried;
use crate::due::{Asked, Due, Named, order_of, rows_of, seal_first};
use crate::held::{HeldOfStream, held_of_stream};
use crate::plan::{Plan, StreamPlan};
use access::registry::change::{Change, PurgeAct, PurgeFact, RedactionApproval};
use access::registry::names::{FactId, When};
use access::registry::{Made, Run};
use access::{Action, Caller, Door, Problem, ProblemKind, Progress};
use ledger::proof::Span;
use ledger::sections::Sections;
use ledger::time::format_micros;
use ledger::{Hash, StreamKind, TenantId};
use ledger_store::{Store, StoreError};
use serde::{Deserialize, Serialize};
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Streams that are purged together: no hold can be set meanwhile.
const AT_ONCE: usize = 128;
/// How long what failed is tried again before a run ends without it, in microseconds.
const PATIENCE: i64 = 3_600_000_000;

/// What a run redacts, by stream.
type Redacts = BTreeMap<Named, Vec<(Span, Sections)>>;

/// What is asked of a plan.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Question {
    /// Of which tenants; of all, when left out.
    #[serde(default)]
    pub tenants: Vec<String>,
    /// As of when; of now, when left out.
    #[serde(default)]
    pub as_of: Option<When>,
}

/// What is to be carried out: a plan that was looked at.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Order {
    /// Of which tenants; of all, when left out.
    #[serde(default)]
    pub tenants: Vec<String>,
    /// The moment that the plan is of.
    pub as_of: When,
    /// SHA-256 of the plan, in hexadecimal.
    pub plan: String,
}

/// What a run came to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Report {
    /// The run; none when there was nothing to do.
    pub run: Option<String>,
    /// How it ended: `done`, `nothing to do`, `stopped: …`, or `open` when something failed and is tried again.
    pub outcome: String,
    /// How many entries went.
    pub entries: u64,
    /// Streams from which something was taken, each with its certificate on record.
    pub streams: Vec<PurgedStream>,
    /// Streams from which nothing could be taken, and why.
    pub failed: Vec<(String, String)>,
}

/// A stream from which something was taken.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct PurgedStream {
    /// Whose.
    pub tenant: String,
    /// Which.
    pub stream: String,
    /// The commit that says so.
    pub commit: u64,
    /// How many entries went, or lost sections.
    pub entries: u64,
    /// Segments that were removed, and that were put in the place of some of them.
    pub segments: (u64, u64),
}

/// Plans and carries out what is due.
#[derive(Clone)]
pub struct Retention {
    pub(crate) door: Door,
    /// Whoever carries out a run has it.
    alone: Arc<tokio::sync::Mutex<()>>,
}

impl Retention {
    /// Behind this door.
    pub fn new(door: Door) -> Self {
        Self { door, alone: Arc::default() }
    }

    /// What goes and what stays, and why.
    ///
    /// # Errors
    /// A tenant is not named right, seeing this is not granted to the caller, or a store does not answer.
    pub async fn plan(&self, caller: &Caller, question: &Question) -> Result<Plan, Problem> {
        let tenants = named(&question.tenants)?;
        self.must_may(caller, Action::ReadRetention, &tenants)?;
        let as_of = question.as_of.map_or_else(|| self.door.now(), |when| when.0);
        self.plan_at(as_of, &tenants, caller.visit().progress()).await
    }

    /// Carries out a plan that is still what it was.
    ///
    /// # Errors
    /// Another plan is due now, running it is not granted to the caller, or a store does not answer.
    pub async fn run(&self, caller: &Caller, order: &Order) -> Result<Report, Problem> {
        let tenants = named(&order.tenants)?;
        self.must_may(caller, Action::RunRetention, &tenants)?;
        if order.as_of.0 > self.door.now() {
            let why = format!("as_of is {}, which is yet to come", format_micros(order.as_of.0));
            return Err(Problem::new(ProblemKind::Unprocessable, why));
        }
        let progress = caller.visit().progress();
        let plan = self.plan_at(order.as_of.0, &tenants, progress).await?;
        if plan.sha256().to_hex() != order.plan {
            let why = "the plan is no longer what it was: policies, holds or what is stored have changed; plan again, and \
                       look at it again";
            return Err(Problem::new(ProblemKind::Conflict, why));
        }
        if plan.entries == 0 {
            let (streams, failed) = Default::default();
            return Ok(Report { run: None, outcome: "nothing to do".into(), entries: 0, streams, failed });
        }
        let fact = PurgeFact {
            run: None,
            as_of: order.as_of,
            version: plan.version,
            plan: order.plan.clone(),
            tenants,
            entries: plan.entries,
            by: None,
        };
        let made = self.door.change(caller, vec![Change::BeginPurge(fact)]).await?;
        self.carry_out_apart(&run_in(&made)?, Some(plan), progress).await
    }

    /// Carries out what was found due of all tenants, as the service itself.
    ///
    /// # Errors
    /// A run is open, a policy or hold was changed since, or the registry does not accept.
    pub(crate) async fn carry_out_due(&self, as_of: i64, plan: &Plan, progress: &Progress) -> Result<Report, Problem> {
        let (as_of, sha256, tenants) = (When(as_of), plan.sha256().to_hex(), vec![]);
        let (version, entries) = (plan.version, plan.entries);
        let fact = PurgeFact { run: None, as_of, version, plan: sha256, tenants, entries, by: None };
        let made = self.door.begin_purge(fact).await?;
        // Died or dropped from here on: the run is open, and the keeper goes on with it.
        self.carry_out(&run_in(&made)?, Some(plan), progress).await
    }

    /// Carries out a run by itself: whoever asked may go away, and what was begun goes on as it began.
    pub(crate) async fn carry_out_apart(
        &self,
        run: &FactId,
        planned: Option<Plan>,
        progress: &Progress,
    ) -> Result<Report, Problem> {
        let (retention, run, progress) = (self.clone(), run.clone(), progress.clone());
        let carried = tokio::spawn(async move { retention.carry_out(&run, planned.as_ref(), &progress).await });
        let stopped =
            |_| Problem::new(ProblemKind::Unavailable, "the service is stopping; the run goes on at its next start");
        carried.await.map_err(stopped)?
    }

    /// What is under hold, due or not.
    ///
    /// # Errors
    /// As [`Retention::plan`].
    pub async fn held(&self, caller: &Caller, question: &Question) -> Result<Vec<HeldOfStream>, Problem> {
        let tenants = named(&question.tenants)?;
        self.must_may(caller, Action::ReadRetention, &tenants)?;
        let streams = self.streams(&tenants);
        let (_, judges) = self.judges(&streams, self.door.now());
        let mut held = Vec::new();
        caller.visit().progress().next("what is held", streams.len(), "streams");
        for ((tenant, stream), judge) in streams.iter().zip(judges) {
            let handle = self.door.book().store_of(tenant)?.reader(tenant, *stream)?;
            held.extend(held_of_stream(&handle, &judge).await?);
            caller.visit().progress().did(1);
        }
        held.sort_by(|a, b| (&a.hold, &a.tenant, a.stream).cmp(&(&b.hold, &b.tenant, b.stream)));
        Ok(held)
    }

    pub(crate) fn must_may(&self, caller: &Caller, action: Action, tenants: &[TenantId]) -> Result<(), Problem> {
        if tenants.is_empty() {
            return self.door.may_everywhere(caller, action);
        }
        tenants.iter().try_for_each(|tenant| self.door.may(caller, action, tenant, StreamKind::Control).map(drop))
    }

    /// Carries out, or goes on with, a run whose intent is on record. `planned` is its plan, when it was just made.
    ///
    /// # Errors
    /// The registry does not accept. What fails of single streams is in the report, and is tried again.
    pub(crate) async fn carry_out(
        &self,
        id: &FactId,
        planned: Option<&Plan>,
        progress: &Progress,
    ) -> Result<Report, Problem> {
        let _alone = self.alone.lock().await;
        let Some(run) = self.run_of(id).filter(|run| run.ended.is_none()) else {
            return Err(Problem::new(ProblemKind::Conflict, format!("the run {id} is over, or there is none")));
        };
        let mut report = Report {
            run: Some(id.to_string()),
            outcome: "open".into(),
            entries: run.certified.iter().map(|one| one.entries).sum(),
            streams: vec![],
            failed: vec![],
        };
        let certified: BTreeSet<Named> = run.certified.iter().map(|one| (one.tenant.clone(), one.stream)).collect();
        let redacts = self.redacts(&run);
        let mut streams = match (planned, &redacts) {
            (_, Some(redacts)) => redacts.keys().cloned().collect(),
            (Some(plan), None) => plan.streams.iter().map(|one| (one.tenant.clone(), one.stream)).collect(),
            (None, None) => self.streams(&run.fact.tenants),
        };
        streams.retain(|one| !certified.contains(one));
        let mut is_stopped = false;
        progress.next("taking away", streams.len(), "streams");
        for some in streams.chunks(AT_ONCE) {
            let still = self.door.hold_still().await?;
            let asked = self.due_now(some, &run, (planned, redacts.as_ref()), &mut is_stopped, &mut report).await;
            let done = self.erase(&run, asked, &mut report).await;
            drop(still);
            self.certify(id, &run, done, &mut report).await?;
            progress.did(some.len() as u64);
        }
        let age = self.door.now() - run.begun.at;
        let misses_a_store = planned.is_none() && self.door.stores().shut().next().is_some();
        report.outcome = match () {
            () if (!report.failed.is_empty() || misses_a_store) && age < PATIENCE => "open".into(),
            () if is_stopped => "stopped: a policy or hold was changed; plan again".into(),
            () if report.failed.is_empty() => "done".into(),
            () => format!("ended: of {} streams nothing could be taken", report.failed.len()),
        };
        if report.outcome != "open" {
            let outcome = json!({"outcome": report.outcome, "entries": report.entries,
                "streams": certified.len() + report.streams.len()});
            self.door.end_purge(PurgeAct { run: id.clone(), outcome }).await?;
        }
        metrics::counter!("piperoll_retention_runs_total", "outcome" => outcome_label(&report.outcome)).increment(1);
        tracing::info!(run = %id, outcome = report.outcome, entries = report.entries, streams = report.streams.len(),
            failed = report.failed.len(), "a retention run");
        Ok(report)
    }

    /// What is due of some streams now: nothing, once a policy or hold was changed; what went before is still to be certified.
    async fn due_now(
        &self,
        some: &[Named],
        run: &Run,
        (planned, redacts): (Option<&Plan>, Option<&Redacts>),
        is_stopped: &mut bool,
        report: &mut Report,
    ) -> Vec<Asked> {
        let (version, judges) = self.judges(some, run.fact.as_of.0);
        *is_stopped |= version != run.fact.version;
        let is_purged = |one: &&Named| redacts.is_none_or(|redacts| !redacts.contains_key(*one));
        let due = match *is_stopped {
            false => {
                let purged = some.iter().zip(judges).filter(|(one, _)| is_purged(one));
                let purged = purged.map(|(one, judge)| (one.clone(), judge)).collect();
                self.plan_each(purged, &Progress::default()).await
            }
            true => some.iter().filter(is_purged).map(|_| Ok(None)).collect(),
        };
        let (mut asked, mut due) = (Vec::with_capacity(some.len()), due.into_iter());
        for one in some {
            if let Some(rows) = redacts.and_then(|redacts| redacts.get(one)) {
                let due = if *is_stopped { Due::Nothing } else { Due::Sections(rows.clone()) };
                asked.push((one.clone(), due));
                continue;
            }
            let goes = planned.and_then(|plan| plan.of_stream(one));
            match due.next().unwrap_or(Ok(None)).map(|due| still_due(due, planned.is_some(), goes)) {
                Ok(Some(due)) => asked.push((one.clone(), Due::Entries(due))),
                Ok(None) if planned.is_none() || *is_stopped => asked.push((one.clone(), Due::Nothing)),
                Ok(None) => {}
                Err(error) => report.fail(one, error),
            }
        }
        asked
    }

    fn run_of(&self, id: &FactId) -> Option<Run> {
        self.door.book().read().runs().find(|(one, _)| *one == id).map(|(_, run)| run.clone())
    }

    /// What a run redacts; none when it purges.
    fn redacts(&self, run: &Run) -> Option<Redacts> {
        let registry = self.door.book().read();
        let redaction = registry.redaction(run.redaction.as_ref()?)?;
        Some(rows_of(&redaction.fact))
    }

    /// Takes content from some streams; what failed is noted in the report. Streams of which nothing is due any more are
    /// asked about: what was taken from them may have been committed before a stop.
    async fn erase(&self, run: &Run, streams: Vec<Asked>, report: &mut Report) -> Vec<Carried> {
        let mut orders: BTreeMap<String, (Store, Vec<Asked>)> = BTreeMap::new();
        for asked in streams {
            match self.door.book().store_of(&asked.0.0) {
                Ok(store) => {
                    let of_store = || (store.clone(), vec![]);
                    orders.entry(store.name().to_string()).or_insert_with(of_store).1.push(asked);
                }
                Err(error) => report.fail(&asked.0, error),
            }
        }
        let plan = Hash::from_hex(&run.fact.plan).unwrap_or(Hash([0; 32]));
        let mut carried = Vec::new();
        for (store, mut of_store) in orders.into_values() {
            let mut sealed = Vec::with_capacity(of_store.len());
            for asked in of_store.drain(..) {
                // Only what is sealed can be redacted; what is old enough to be purged is.
                match seal_first(&store, &asked).await {
                    Ok(()) => sealed.push(asked),
                    Err(error) => report.fail(&asked.0, error),
                }
            }
            match store.erase(sealed.iter().map(|asked| order_of(asked, run.begun.seq, plan)).collect()).await {
                Ok(outcomes) => {
                    for (asked, outcome) in sealed.into_iter().zip(outcomes) {
                        match outcome {
                            Ok(Some(done)) => carried.push(Carried { asked, done }),
                            Ok(None) => {}
                            Err(error) => report.fail(&asked.0, error),
                        }
                    }
                }
                Err(error) => {
                    let why = for_callers(error);
                    let all = sealed.iter().map(|((tenant, stream), _)| (format!("{tenant}/{stream}"), why.clone()));
                    report.failed.extend(all);
                }
            }
        }
        carried
    }
}

pub(crate) fn run_in(made: &[Made]) -> Result<FactId, Problem> {
    match made.first().map(|made| &made.change) {
        Some(Change::BeginPurge(PurgeFact { run: Some(run), .. })) => Ok(run.clone()),
        Some(Change::ApproveRedaction(RedactionApproval { run: Some(run), .. })) => Ok(run.clone()),
        _ => Err(Problem::new(ProblemKind::Internal, "an intent that was recorded is not shown")),
    }
}

/// What is to go of a stream now: of what was planned for it no more than is still due.
fn still_due(due: Option<StreamPlan>, is_planned: bool, planned: Option<&StreamPlan>) -> Option<StreamPlan> {
    let mut due = due.filter(|due| due.entries > 0);
    if let (true, Some(due)) = (is_planned, due.as_mut()) {
        due.limit_to(planned.map_or(&[][..], |planned| &planned.goes));
    }
    due.filter(|due| !due.goes.is_empty())
}

fn outcome_label(outcome: &str) -> &'static str {
    match outcome {
        "done" => "done",
        "open" => "open",
        _ => "stopped",
    }
}

impl Report {
    pub(crate) fn fail(&mut self, (tenant, stream): &Named, error: StoreError) {
        tracing::warn!(%tenant, %stream, "nothing could be taken from a stream");
        self.failed.push((format!("{tenant}/{stream}"), for_callers(error)));
    }
}

/// What a caller is told of an error: which object it was stands in the service's own log.
pub(crate) fn for_callers(error: StoreError) -> String {
    Problem::from(error).detail().to_string()
}

fn malformed(error: ledger::name::NameError) -> Problem {
    Problem::new(ProblemKind::Malformed, error.to_string())
}

fn named(tenants: &[String]) -> Result<Vec<TenantId>, Problem> {
    tenants.iter().map(|tenant| tenant.parse().map_err(malformed)).collect()
}
