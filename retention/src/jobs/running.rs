//! A run of a job: its begin on record, its lease renewed at half, its end on record.
//!
//! If we crash before the begin is durable, nothing was run. After it, the run stands as open until its lease ends, and is
//! then abandoned: the job is due again for the same time. After the end, the next turn is the schedule's. What a job keeps
//! for its next run is put before the end that names it, so that one of the two is always whole.
//!
//! Invariant: who has lost the lease stops before anything else is done, and puts nothing more on record.

use super::due::Due;
use super::{Jobs, Planned};
use access::job::{Memo, Outcome, Running};
use access::registry::change::{Change, JobBegin, JobEnd, JobOutcome, JobRenewal};
use access::registry::names::{FactId, When};
use access::{Caller, Door, Job, Problem, ProblemKind};
use ledger::Hash;
use serde::Serialize;
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use tokio::task::{JoinError, JoinHandle};

/// How often a lease is looked at, at most and at least.
const LOOKS: (Duration, Duration) = (Duration::from_millis(20), Duration::from_secs(30));
/// How often the end of a run is tried to be put on record.
const END_ATTEMPTS: u32 = 5;
/// How long it rests in between.
const END_REST: Duration = Duration::from_secs(1);

/// What a run came to.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct Report {
    /// Which job.
    pub job: &'static str,
    /// Which run.
    pub run: FactId,
    /// `ok`, `found`, `failed` or `stopped`.
    pub outcome: &'static str,
    /// How long it took.
    pub millis: u64,
    /// What it counted.
    pub result: Value,
    /// How much does not hold.
    pub findings: u64,
    /// The first of that.
    pub first_finding: Option<String>,
    /// Why it could not be done.
    pub why: String,
}

/// A run that is on record and has not done anything.
pub(super) struct Begun {
    job: Arc<dyn Job>,
    run: FactId,
    at: i64,
    lease_until: i64,
}

/// How the work of a run ended.
enum Ended {
    By(Result<Outcome, Problem>),
    /// It panicked; where and why stands in the service's own log.
    Broke(JoinError),
    /// The service stops.
    Stopped,
    /// Somebody else may run it by now.
    Lost,
}

impl Jobs {
    /// Runs a job now, because somebody asks, and answers when it is done.
    ///
    /// # Errors
    /// There is none of that name, running it is not granted to the caller, or it is being run.
    pub async fn run(&self, caller: &Caller, name: &str) -> Result<Report, Problem> {
        self.0.door.may_with_jobs(caller, access::Action::RunJobs)?;
        let Planned { job, .. } = self.find(name)?;
        if let Some(action) = job.needs() {
            self.0.door.may_everywhere(caller, action)?;
        }
        let begun = self.begin(job, Some(caller), None).await?;
        // By itself: whoever asked may go away.
        let stopping = |_| Problem::new(ProblemKind::Unavailable, "the service is stopping");
        self.go(begun).await.map_err(stopping)?
    }

    /// Puts the begin of a run on record.
    pub(super) async fn begin(
        &self,
        job: &Arc<dyn Job>,
        caller: Option<&Caller>,
        due: Option<Due>,
    ) -> Result<Begun, Problem> {
        let door = &self.0.door;
        let at = door.now();
        let lease_until = at + self.0.lease;
        let fact = JobBegin {
            job: job.name().into(),
            run: None,
            due: due.map(|due| When(due.at)),
            missed: due.map_or(0, |due| due.missed),
            since: due.and_then(|due| due.since).map(When),
            lease_until: When(lease_until),
            epoch: door.stores().main().epoch(),
        };
        let run = door.begin_job(caller, fact).await?;
        if let Some(Due { missed: missed @ 1.., .. }) = due {
            tracing::warn!(job = job.name(), %run, missed, "a job was due and not run; it is run once");
        }
        Ok(Begun { job: Arc::clone(job), run, at, lease_until })
    }

    /// Carries a run out, by itself.
    pub(super) fn go(&self, begun: Begun) -> JoinHandle<Result<Report, Problem>> {
        let jobs = self.clone();
        tokio::spawn(async move { jobs.carry_out(begun).await })
    }

    async fn carry_out(&self, begun: Begun) -> Result<Report, Problem> {
        let (door, name) = (&self.0.door, begun.job.name());
        let memo = kept(door, name).await;
        let ended = match memo {
            Ok(memo) => {
                let running = Arc::new(Running::new(door.clone(), name, begun.run.clone(), memo));
                self.running().insert(name, Arc::clone(&running));
                let (job, of_job) = (Arc::clone(&begun.job), Arc::clone(&running));
                let work = tokio::spawn(async move { job.run(&of_job).await });
                let ended = self.watch(&begun, work).await;
                let found = running.findings();
                (ended, found.0, found.1.map(str::to_string))
            }
            Err(problem) => (Ended::By(Err(problem)), 0, None),
        };
        let report = self.end(&begun, ended).await;
        self.running().remove(name);
        self.observe(self.0.door.now());
        report
    }

    /// Waits for the work of a run, and renews its lease meanwhile.
    async fn watch(&self, begun: &Begun, mut work: JoinHandle<Result<Outcome, Problem>>) -> Ended {
        let mut stop = self.0.stop.subscribe();
        let mut lease_until = begun.lease_until;
        let look = Duration::from_micros(self.0.lease as u64 / 10).clamp(LOOKS.0, LOOKS.1);
        let ended = loop {
            tokio::select! {
                done = &mut work => return done.map_or_else(Ended::Broke, Ended::By),
                () = stops(&mut stop) => break Ended::Stopped,
                () = tokio::time::sleep(look) => {}
            }
            let now = self.0.door.now();
            if lease_until - now > self.0.lease / 2 {
                continue;
            }
            let (job, run, until) = (begun.job.name().to_string(), begun.run.clone(), now + self.0.lease);
            let renewal = JobRenewal { job, run, lease_until: When(until) };
            match self.0.door.note_of_job(Change::RenewJob(renewal)).await {
                Ok(()) => lease_until = until,
                Err(problem) if problem.kind() == ProblemKind::Conflict || self.0.door.now() >= lease_until => {
                    break Ended::Lost;
                }
                Err(problem) => {
                    let (job, detail) = (begun.job.name(), problem.detail());
                    tracing::warn!(job, detail, "the lease of a job could not be renewed; tried again");
                }
            }
        };
        // Dropped at its next wait, and not gone on before.
        work.abort();
        drop(work.await);
        ended
    }

    /// Puts the end of a run on record, and says it to whoever watches.
    async fn end(
        &self,
        begun: &Begun,
        (ended, findings, first_finding): (Ended, u64, Option<String>),
    ) -> Result<Report, Problem> {
        let (door, job, run) = (&self.0.door, begun.job.name(), begun.run.clone());
        let lost =
            || Problem::new(ProblemKind::Conflict, format!("the lease of run {run} was lost: another one may run it"));
        let (mut outcome, counts, mut why, memo) = match ended {
            Ended::By(Ok(Outcome { counts, memo })) => (JobOutcome::Ok, counts, String::new(), memo),
            Ended::By(Err(problem)) => (JobOutcome::Failed, json!({}), problem.detail().to_string(), None),
            Ended::Broke(error) => {
                tracing::error!(job, %run, error = &error as &dyn std::error::Error, "a job broke off by a fault of its own");
                let why = "a fault of the service; it was logged".into();
                (JobOutcome::Failed, json!({}), why, None)
            }
            Ended::Stopped => (JobOutcome::Stopped, json!({}), "the service stopped".into(), None),
            Ended::Lost => {
                tracing::error!(job, %run, "the lease of a job was lost: it was stopped");
                count(job, "lost", door.now() - begun.at);
                return Err(lost());
            }
        };
        if outcome == JobOutcome::Ok && findings > 0 {
            outcome = JobOutcome::Found;
        }
        let memo = match memo {
            Some(bytes) => match door.keep_memo(bytes).await {
                Ok(sha256) => Some(sha256.to_hex()),
                Err(problem) => {
                    (outcome, why) =
                        (JobOutcome::Failed, format!("what it found could not be kept: {}", problem.detail()));
                    None
                }
            },
            None => None,
        };
        let took = door.now() - begun.at;
        let (millis, has_memo) = ((took / 1_000).max(0) as u64, memo.is_some());
        let (name, result) = (job.to_string(), counts.clone());
        let end = JobEnd { job: name, run: run.clone(), outcome, millis, result, why: why.clone(), memo };
        self.note_end(end).await?;
        count(job, outcome.as_str(), took);
        if has_memo && let Err(problem) = door.forget_memos().await {
            tracing::warn!(job, detail = problem.detail(), "what a job kept before stays until its next run");
        }
        match outcome {
            JobOutcome::Ok => tracing::info!(job, %run, millis, result = %counts, "a job was done"),
            JobOutcome::Stopped => tracing::info!(job, %run, "a job was stopped; it is made up for"),
            JobOutcome::Found => {
                let first = first_finding.as_deref().unwrap_or_default();
                tracing::error!(job, %run, findings, first, "a job found what does not hold");
            }
            JobOutcome::Failed => tracing::error!(job, %run, why, "a job failed"),
        }
        let (outcome, result) = (outcome.as_str(), counts);
        Ok(Report { job, run, outcome, millis, result, findings, first_finding, why })
    }

    async fn note_end(&self, end: JobEnd) -> Result<(), Problem> {
        let mut tries = 1;
        loop {
            match self.0.door.note_of_job(Change::EndJob(Box::new(end.clone()))).await {
                Ok(()) => return Ok(()),
                Err(problem) if tries == END_ATTEMPTS || problem.kind() == ProblemKind::Conflict => {
                    let (job, run, detail) = (end.job.as_str(), end.run.as_str(), problem.detail());
                    tracing::error!(
                        job,
                        run,
                        detail,
                        "the end of a job could not be put on record: it will be run again"
                    );
                    return Err(problem);
                }
                Err(_) => tries += 1,
            }
            tokio::time::sleep(END_REST).await;
        }
    }
}

/// Waits until the service stops.
async fn stops(stop: &mut watch::Receiver<bool>) {
    drop(stop.wait_for(|stops| *stops).await);
}

/// What a job kept at its last run.
async fn kept(door: &Door, job: &str) -> Result<Memo, Problem> {
    let named = door.book().read().job(job).and_then(|record| record.memo.clone());
    let Some(named) = named else { return Ok(Memo::None) };
    let Some(sha256) = Hash::from_hex(&named) else { return Ok(Memo::Lost) };
    Ok(door.memo(&sha256).await?.map_or(Memo::Lost, Memo::Kept))
}

fn count(job: &'static str, outcome: &'static str, took: i64) {
    metrics::counter!("piperoll_job_runs_total", "job" => job, "outcome" => outcome).increment(1);
    metrics::histogram!("piperoll_job_seconds", "job" => job).record(took.max(0) as f64 / 1e6);
}
