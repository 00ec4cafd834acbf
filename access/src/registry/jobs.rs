//! Jobs as the registry keeps them: when each is due, its newest run, and since when it succeeds no more.
//!
//! Not here: which times a schedule names and running anything (`retention`). Older runs stand in `control`.
//! Invariants: of a job at most one run holds a lease; only the newest run is renewed and ended; a run whose lease ended
//! without an end was abandoned, and the job may begin again.

use super::change::{Change, JobBegin, JobEnd, JobOutcome};
use super::check::{Checked, conflict, require, wrong};
use super::names::FactId;
use super::rows::{Columns, Row, done, time};
use super::{Registry, Stamp, platform};
use ledger::time::format_micros;
use serde_json::Value;
use std::collections::BTreeMap;

pub(super) const COLUMNS: &str = "job schedule state run begun_at begun_by due_at missed lease_until_at ended_at millis why \
     findings first_finding result succeeded_at failed_runs";

/// A job, as far as it is on record.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Job {
    /// When it is due by itself, and since when that holds; none when it never is.
    pub schedule: Option<(String, Stamp)>,
    /// Its newest run.
    pub last: Option<JobRun>,
    /// When its newest run that succeeded began and ended, in microseconds.
    pub succeeded: Option<(i64, i64)>,
    /// Runs since then that did not.
    pub failed: u64,
    /// SHA-256 of what it keeps for its next run, in hexadecimal.
    pub memo: Option<String>,
}

/// A run of a job.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct JobRun {
    /// Its id.
    pub id: FactId,
    /// Its begin.
    pub fact: JobBegin,
    /// The entry of its begin.
    pub begun: Stamp,
    /// Until when it is taken to be run, in microseconds.
    pub lease_until: i64,
    /// The how manieth run for the same time it is, from 1.
    pub tries: u32,
    /// How much it found that does not hold.
    pub findings: u64,
    /// The first of that.
    pub first_finding: Option<String>,
    /// Its end.
    pub ended: Option<(Stamp, JobEnd)>,
}

impl JobRun {
    /// Whether it is taken to be run at a moment.
    pub fn holds(&self, now: i64) -> bool {
        self.ended.is_none() && now < self.lease_until
    }

    /// In one word, at a moment.
    pub fn state(&self, now: i64) -> &'static str {
        match &self.ended {
            Some((_, end)) => end.outcome.as_str(),
            None if self.holds(now) => "running",
            None => "abandoned",
        }
    }
}

impl Job {
    /// In one or two words, at a moment.
    pub fn state(&self, now: i64) -> &'static str {
        self.last.as_ref().map_or("never ran", |run| run.state(now))
    }

    /// Runs since it succeeded last that came to an end which is none, or to none.
    pub fn failures(&self, now: i64) -> u64 {
        let is_abandoned = self.last.as_ref().is_some_and(|run| run.ended.is_none() && !run.holds(now));
        self.failed + u64::from(is_abandoned)
    }

    fn begin(&mut self, stamp: Stamp, id: FactId, fact: &JobBegin) {
        let before = self.last.take();
        // What it left behind is counted as what it is.
        self.failed += u64::from(before.as_ref().is_some_and(|run| run.ended.is_none()));
        let is_again = |run: &JobRun| run.fact.due.is_some() && run.fact.due == fact.due;
        let tries = before.filter(is_again).map_or(1, |run| run.tries.saturating_add(1));
        let (fact, lease_until) = (fact.clone(), fact.lease_until.0);
        let (findings, first_finding, ended) = Default::default();
        self.last = Some(JobRun { id, fact, begun: stamp, lease_until, tries, findings, first_finding, ended });
    }

    fn end(&mut self, stamp: Stamp, end: &JobEnd) {
        let Some(run) = self.last.as_mut().filter(|run| run.id == end.run && run.ended.is_none()) else { return };
        match end.outcome {
            JobOutcome::Ok => (self.succeeded, self.failed) = (Some((run.begun.at, stamp.at)), 0),
            JobOutcome::Found | JobOutcome::Failed => self.failed += 1,
            // Nothing is wrong with it: it is made up for.
            JobOutcome::Stopped => {}
        }
        if end.memo.is_some() {
            self.memo.clone_from(&end.memo);
        }
        run.ended = Some((stamp, end.clone()));
    }

    fn row(&self, name: &str, now: i64) -> Row {
        let mut columns = Columns::new();
        columns.insert("job".into(), name.into());
        columns.insert("schedule".into(), self.schedule.as_ref().map_or("never", |(text, _)| text.as_str()).into());
        columns.insert("state".into(), self.state(now).into());
        if let Some(run) = &self.last {
            columns.insert("run".into(), run.id.as_str().into());
            done(&mut columns, "begun", &run.begun);
            columns.insert("due_at".into(), run.fact.due.map_or(Value::Null, |due| time(due.0)));
            columns.insert("missed".into(), run.fact.missed.into());
            columns.insert("lease_until_at".into(), time(run.lease_until));
            columns.insert("findings".into(), run.findings.into());
            columns.insert("first_finding".into(), run.first_finding.as_deref().into());
            if let Some((stamp, end)) = &run.ended {
                columns.insert("ended_at".into(), time(stamp.at));
                columns.insert("millis".into(), end.millis.into());
                columns.insert("why".into(), end.why.as_str().into());
                columns.insert("result".into(), end.result.clone());
            }
        }
        columns.insert("succeeded_at".into(), self.succeeded.map_or(Value::Null, |(_, ended)| time(ended)));
        columns.insert("failed_runs".into(), self.failures(now).into());
        Row { tenants: vec![platform()], columns }
    }
}

impl Registry {
    /// A job, as far as it is on record.
    pub fn job(&self, name: &str) -> Option<&Job> {
        self.jobs.get(name)
    }

    /// Every job that is on record, by name.
    pub fn jobs(&self) -> impl Iterator<Item = (&String, &Job)> {
        self.jobs.iter()
    }

    pub(super) fn check_job(&self, change: &Change, now: i64) -> Checked {
        let of = |job: &str| self.jobs.get(job).and_then(|job| job.last.as_ref());
        let newest = |job: &str, run: &FactId| match of(job).filter(|last| last.id == *run) {
            None => Err(conflict(format!("the run {run} of job {job} is not its newest: its lease was lost"))),
            Some(run) => require(run.ended.is_none(), || conflict(format!("the run {} is over", run.id))),
        };
        match change {
            Change::BeginJob(fact) => {
                require(fact.lease_until.0 > now, || wrong("a lease ends in the future"))?;
                let open = of(&fact.job).filter(|run| run.holds(now));
                open.map_or(Ok(()), |run| {
                    Err(conflict(format!(
                        "job {} is being run: {}, begun at {} by {}, epoch {}; its lease ends at {} unless it is renewed",
                        fact.job,
                        run.id,
                        format_micros(run.begun.at),
                        run.begun.by.as_str(),
                        run.fact.epoch,
                        format_micros(run.lease_until)
                    )))
                })
            }
            Change::RenewJob(act) => newest(&act.job, &act.run),
            Change::FindByJob(act) => newest(&act.job, &act.run),
            Change::EndJob(act) => newest(&act.job, &act.run),
            _ => Err(wrong("this is written by the service itself")),
        }
    }

    pub(super) fn apply_to_jobs(&mut self, stamp: Stamp, change: &Change) {
        match change {
            Change::SetJobs { schedules } => self.set_schedules(&stamp, schedules),
            Change::BeginJob(fact) => {
                let Some(id) = fact.run.clone() else { return };
                self.jobs.entry(fact.job.clone()).or_default().begin(stamp, id, fact);
            }
            Change::RenewJob(act) => {
                let run = self.jobs.get_mut(&act.job).and_then(|job| job.last.as_mut());
                if let Some(run) = run.filter(|run| run.id == act.run) {
                    run.lease_until = run.lease_until.max(act.lease_until.0);
                }
            }
            Change::FindByJob(act) => {
                let run = self.jobs.get_mut(&act.job).and_then(|job| job.last.as_mut());
                if let Some(run) = run.filter(|run| run.id == act.run) {
                    run.findings += 1;
                    run.first_finding.get_or_insert_with(|| act.what.clone());
                }
            }
            Change::EndJob(act) => {
                if let Some(job) = self.jobs.get_mut(&act.job) {
                    job.end(stamp, act);
                }
            }
            _ => {}
        }
    }

    /// A schedule that stays what it was goes on from when it was set.
    fn set_schedules(&mut self, stamp: &Stamp, schedules: &BTreeMap<String, String>) {
        for (name, job) in &mut self.jobs {
            if !schedules.contains_key(name) {
                job.schedule = None;
            }
        }
        for (name, text) in schedules {
            let job = self.jobs.entry(name.clone()).or_default();
            if job.schedule.as_ref().is_none_or(|(before, _)| before != text) {
                job.schedule = Some((text.clone(), stamp.clone()));
            }
        }
    }

    pub(super) fn job_rows(&self, now: i64) -> Vec<Row> {
        self.jobs.iter().map(|(name, job)| job.row(name, now)).collect()
    }
}
