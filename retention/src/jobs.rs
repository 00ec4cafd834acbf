//! The scheduler: runs each job of the service when it is due, or when somebody asks, and never twice at once.
//!
//! Read in this order: [`schedule`] (which times an expression names), [`due`] (whether a job is due), [`running`] (lease, run,
//! end), [`http`] (the routes). What is on record of jobs is the registry's (`access::registry`); what a job does is its own
//! (`access::Job`).
//!
//! Invariants: what runs is on record before it begins; nothing is written when nothing is due.

pub mod due;
pub mod http;
mod running;
pub mod schedule;

use self::due::{Turn, overdue, turn};
pub use self::http::router;
pub use self::running::Report;
use self::schedule::{Malformed, NEVER, Schedule};
use access::job::Running;
use access::registry::Job as Record;
use access::{Door, Job, Problem, ProblemKind};
use ledger::time::format_micros;
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use tokio::sync::watch;

/// How long a run is taken to be run when nothing more is heard of it: what a crash makes the next one wait.
pub const LEASE: Duration = Duration::from_secs(600);
/// How long the scheduler rests when a begin could not be put on record, in microseconds.
const REST: i64 = 60_000_000;
/// How long a stop waits for runs to be put on record as stopped.
const LAST: Duration = Duration::from_secs(10);

/// What settings say of jobs: by name, when each is due; those that are not named are due as they say themselves.
pub type Schedules = BTreeMap<String, Option<Schedule>>;

/// Settings name a job that there is none of.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unknown {
    name: String,
    known: Vec<&'static str>,
}

impl std::fmt::Display for Unknown {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "the setting jobs.{} names no job; there are {}", self.name, self.known.join(", "))
    }
}

impl std::error::Error for Unknown {}

/// The jobs of a service.
#[derive(Clone)]
pub struct Jobs(Arc<Inner>);

struct Inner {
    door: Door,
    all: Vec<Planned>,
    /// In microseconds.
    lease: i64,
    /// Those that this process runs now, by name.
    running: Mutex<BTreeMap<&'static str, Arc<Running>>>,
    stop: watch::Sender<bool>,
    /// When to look again, after something could not be put on record.
    patience: AtomicI64,
}

/// A job, and when it is due by itself.
struct Planned {
    job: Arc<dyn Job>,
    schedule: Option<Schedule>,
}

impl Jobs {
    /// The jobs behind this door, due as settings say and else as they say themselves.
    ///
    /// # Errors
    /// Settings name a job that there is none of.
    pub fn new(door: Door, all: Vec<Arc<dyn Job>>, schedules: &Schedules, lease: Duration) -> Result<Self, Unknown> {
        let mut known: Vec<&'static str> = all.iter().map(|job| job.name()).collect();
        known.sort_unstable();
        if let Some(name) = schedules.keys().find(|name| !known.contains(&name.as_str())) {
            return Err(Unknown { name: name.clone(), known });
        }
        let planned = |job: Arc<dyn Job>| {
            let own = || job.schedule().and_then(|text| Schedule::read(text).ok().flatten());
            let schedule = schedules.get(job.name()).cloned().unwrap_or_else(own);
            Planned { job, schedule }
        };
        let mut all: Vec<Planned> = all.into_iter().map(planned).collect();
        all.sort_by_key(|planned| planned.job.name());
        let (running, patience) = (Mutex::default(), AtomicI64::new(0));
        let (stop, lease) = (watch::channel(false).0, lease.as_micros() as i64);
        Ok(Self(Arc::new(Inner { door, all, lease, running, stop, patience })))
    }

    /// Looks once: what is due begins. What it does goes on by itself.
    pub async fn tick(&self) {
        let Inner { door, all, patience, stop, .. } = self.0.as_ref();
        let now = door.now();
        self.observe(now);
        if *stop.borrow() || now < patience.load(Ordering::Relaxed) || !door.stores().main().is_writable() {
            return;
        }
        if let Err(error) = self.note_schedules().await {
            patience.store(now + REST, Ordering::Relaxed);
            tracing::warn!(detail = error.detail(), "when jobs are due could not be put on record; tried again later");
            return;
        }
        for planned in all {
            let Some(schedule) = &planned.schedule else { continue };
            let found = turn(schedule, &self.record(planned.job.name()), now);
            let Turn::Now(due) = found else { continue };
            match self.begin(&planned.job, None, Some(due)).await {
                Ok(begun) => drop(self.go(begun)),
                // Somebody else was a moment earlier.
                Err(problem) if problem.kind() == ProblemKind::Conflict => {}
                Err(problem) => {
                    patience.store(now + REST, Ordering::Relaxed);
                    let job = planned.job.name();
                    tracing::warn!(
                        job,
                        detail = problem.detail(),
                        "a job that is due could not begin; tried again later"
                    );
                }
            }
        }
    }

    /// Puts on record when jobs are due, if it is another than what is.
    async fn note_schedules(&self) -> Result<(), Problem> {
        let each =
            self.0.all.iter().filter_map(|one| Some((one.job.name().into(), one.schedule.as_ref()?.text().into())));
        Ok(self.0.door.note_schedules(each.collect()).await?)
    }

    /// Stops what runs, and waits until that is on record: it is made up for at the next start.
    pub async fn stop(&self) {
        self.0.stop.send_replace(true);
        let gone = async {
            while !self.running().is_empty() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        if tokio::time::timeout(LAST, gone).await.is_err() {
            tracing::warn!("a job did not stop in time; its lease ends by itself");
        }
    }

    fn running(&self) -> MutexGuard<'_, BTreeMap<&'static str, Arc<Running>>> {
        self.0.running.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn record(&self, name: &str) -> Record {
        self.0.door.book().read().job(name).cloned().unwrap_or_default()
    }

    fn find(&self, name: &str) -> Result<&Planned, Problem> {
        self.0.all.iter().find(|planned| planned.job.name() == name).ok_or_else(|| {
            let all: Vec<&str> = self.0.all.iter().map(|planned| planned.job.name()).collect();
            Problem::new(ProblemKind::NotFound, format!("there is no job of that name; there are {}", all.join(", ")))
        })
    }

    /// Brings the metrics that say when jobs succeeded up to a moment.
    fn observe(&self, now: i64) {
        for Planned { job, schedule } in &self.0.all {
            let (name, record) = (job.name(), self.record(job.name()));
            if let Some((_, ended)) = record.succeeded {
                metrics::gauge!("piperoll_job_last_success_seconds", "job" => name).set(ended as f64 / 1e6);
            }
            let late = schedule.as_ref().and_then(|schedule| overdue(schedule, &record, now));
            metrics::gauge!("piperoll_job_overdue", "job" => name).set(f64::from(u8::from(late.is_some())));
        }
    }

    /// What whoever watches the service should know of its jobs, a line each. That a job fails takes nothing from whoever
    /// brings events or asks, so that a service with such lines is ready all the same.
    pub fn troubles(&self) -> Vec<String> {
        let now = self.0.door.now();
        let trouble = |planned: &Planned| {
            let (name, record) = (planned.job.name(), self.record(planned.job.name()));
            let since = record.succeeded.map_or("ever".into(), |(_, ended)| format!("since {}", format_micros(ended)));
            let late = planned.schedule.as_ref().and_then(|schedule| overdue(schedule, &record, now));
            match (record.failures(now), late) {
                (0, None) => None,
                (0, Some(due)) => Some(format!("job {name} was due at {} and is not done", format_micros(due))),
                (1, _) => Some(format!("job {name} has not succeeded {since}, 1 run failed")),
                (failed, _) => Some(format!("job {name} has not succeeded {since}, {failed} runs failed")),
            }
        };
        self.0.all.iter().filter_map(trouble).collect()
    }

    /// Every job: when it is due, what became of its newest run, and how far it is.
    pub fn list(&self) -> Vec<Map<String, Value>> {
        let now = self.0.door.now();
        let rows = access::registry::Table::Jobs.rows(&self.0.door.book().read(), now);
        let running = self.running();
        let one = |planned: &Planned| {
            let (job, name) = (&planned.job, planned.job.name());
            let mut shown = Map::from_iter([("job".to_string(), json!(name)), ("what".into(), json!(job.what()))]);
            shown.insert("state".into(), json!("never ran"));
            let row = rows.iter().find(|row| row.columns["job"] == name);
            shown.extend(row.into_iter().flat_map(|row| row.columns.clone()));
            let schedule = planned.schedule.as_ref();
            shown.insert("schedule".into(), json!(schedule.map_or(NEVER, Schedule::text)));
            let record = self.record(name);
            let next = schedule.map(|schedule| match turn(schedule, &record, now) {
                Turn::Now(due) => Some(due.at),
                Turn::Later(next) => next,
                Turn::Held(_) => schedule.after(now),
            });
            shown.insert("next_at".into(), next.flatten().map_or(Value::Null, |at| json!(format_micros(at))));
            let late = schedule.and_then(|schedule| overdue(schedule, &record, now));
            shown.insert("overdue_since_at".into(), late.map_or(Value::Null, |at| json!(format_micros(at))));
            if let Some(step) = running.get(name).map(|running| running.progress().now()).filter(|step| step.of > 0) {
                shown.insert("progress".into(), json!(step));
            }
            shown
        };
        self.0.all.iter().map(one).collect()
    }
}

/// Reads what settings say of jobs.
///
/// # Errors
/// The name of a job whose schedule is malformed, and what is wrong with it.
pub fn read_schedules(given: &BTreeMap<String, String>) -> Result<Schedules, (String, Malformed)> {
    let one = |(name, text): (&String, &String)| match Schedule::read(text) {
        Ok(schedule) => Ok((name.clone(), schedule)),
        Err(malformed) => Err((name.clone(), malformed)),
    };
    given.iter().map(one).collect()
}

#[cfg(test)]
mod tests;
