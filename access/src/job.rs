//! What runs by itself now and then: the form that every job of the service has.
//!
//! Each crate exposes its own, the program collects them, and the scheduler (`retention`) runs them. Not here: when one is
//! due, leases, and what stands on record of a run.
//!
//! Invariants: a job may be dropped at any of its waits, when the service stops or its lease is lost, and is begun anew later:
//! what it does by then must stand, and doing it twice must do no harm; it says what does not hold as it finds it.

mod reminders;
mod rotation;

pub use self::reminders::Reminders;
pub use self::rotation::KeyRotation;
use crate::door::Door;
use crate::policy::Action;
use crate::problem::Problem;
use crate::progress::Progress;
use crate::registry::change::{Change, JobFinding};
use crate::registry::names::FactId;
use bytes::Bytes;
use ledger::name::{StreamKind, TenantId};
use serde_json::Value;
use std::future::Future;
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, Ordering};

/// Findings of one run that are entries; beyond it they are counted.
const MOST_FOUND: u64 = 100;
/// Bytes of a text of a finding.
const LONGEST_TEXT: usize = 2_000;

/// A run under way.
pub type Work<'j> = Pin<Box<dyn Future<Output = Result<Outcome, Problem>> + Send + 'j>>;

/// Something that runs now and then.
pub trait Job: Send + Sync {
    /// Its name, in settings, paths and entries: small letters.
    fn name(&self) -> &'static str;

    /// What it does, in a sentence.
    fn what(&self) -> &'static str;

    /// When it is due where the settings say nothing, as a cron expression in UTC; none when it never is by itself.
    fn schedule(&self) -> Option<&'static str>;

    /// What a caller who runs it must be granted on all tenants, beside running jobs.
    fn needs(&self) -> Option<Action> {
        None
    }

    /// Does it once.
    ///
    /// # Errors
    /// It could not be done. What was found not to hold is no error, and said to `running`.
    fn run<'j>(&'j self, running: &'j Running) -> Work<'j>;
}

/// What a run came to.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Outcome {
    /// What it counted, as an object.
    pub counts: Value,
    /// What it wants to find at its next run; what it kept before stays, when there is none.
    pub memo: Option<Vec<u8>>,
}

impl Outcome {
    /// An outcome that is nothing but counts.
    pub fn of(counts: Value) -> Self {
        Self { counts, memo: None }
    }
}

/// Something that does not hold.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Found {
    /// Whom it is about.
    pub tenant: Option<TenantId>,
    /// In which stream.
    pub stream: Option<StreamKind>,
    /// In which object of the store.
    pub object: Option<String>,
    /// Which entries: first and last.
    pub entries: Option<(u64, u64)>,
    /// What does not hold.
    pub what: String,
    /// What to do.
    pub advice: String,
}

/// What a job kept at its last run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Memo {
    /// It never kept anything.
    None,
    /// What it kept is not there any more, or is not what was kept.
    Lost,
    /// This.
    Kept(Bytes),
}

/// A run, as the job that is run sees it.
pub struct Running {
    door: Door,
    job: &'static str,
    run: FactId,
    memo: Memo,
    found: AtomicU64,
    first: std::sync::OnceLock<String>,
    progress: Progress,
}

impl Running {
    /// A run that has found nothing yet.
    pub fn new(door: Door, job: &'static str, run: FactId, memo: Memo) -> Self {
        let (found, first, progress) = Default::default();
        Self { door, job, run, memo, found, first, progress }
    }

    /// What the job kept at its last run.
    pub fn memo(&self) -> &Memo {
        &self.memo
    }

    /// How far it is.
    pub fn progress(&self) -> &Progress {
        &self.progress
    }

    /// How much was found not to hold, and the first of it.
    pub fn findings(&self) -> (u64, Option<&str>) {
        (self.found.load(Ordering::Relaxed), self.first.get().map(String::as_str))
    }

    /// Puts on record that something does not hold. If we crash after it, the entry stands and the run is begun anew.
    ///
    /// # Errors
    /// The lease was lost, or the store does not accept.
    pub async fn found(&self, found: Found) -> Result<(), Problem> {
        let Found { tenant, stream, object, entries, what, advice } = found;
        let what = cut(what);
        let before = self.found.fetch_add(1, Ordering::Relaxed);
        let _ = self.first.set(object.as_ref().map_or_else(|| what.clone(), |object| format!("{object}: {what}")));
        if before >= MOST_FOUND {
            return Ok(());
        }
        let (job, run, advice) = (self.job.into(), self.run.clone(), cut(advice));
        let finding = JobFinding { job, run, tenant, stream, object, entries, what, advice };
        self.door.note_of_job(Change::FindByJob(Box::new(finding))).await
    }
}

fn cut(mut text: String) -> String {
    let fits = (0..=text.len().min(LONGEST_TEXT)).rev().find(|at| text.is_char_boundary(*at));
    text.truncate(fits.unwrap_or_default());
    text
}
