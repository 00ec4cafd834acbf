//! Runs of jobs as the door lets them happen: one at a time of each job, and each on record.
//!
//! Not here: when a job is due and running it (`retention`), the rules of leases (`registry::jobs`). Invariant: a run begins
//! only if none of that job holds a lease, decided by compare-and-append as every change is. If we crash in a run, its lease
//! ends by itself.

use super::Door;
use crate::caller::Caller;
use crate::policy::Action;
use crate::problem::{Problem, ProblemKind};
use crate::registry::change::{Change, JobBegin};
use crate::registry::names::FactId;
use crate::registry::{Author, BookError, platform};
use bytes::Bytes;
use ledger::Hash;
use ledger::name::StreamKind;
use std::collections::BTreeMap;

impl Door {
    /// Whether the caller may do something to the service's jobs.
    ///
    /// # Errors
    /// As [`Door::may`].
    pub fn may_with_jobs(&self, caller: &Caller, action: Action) -> Result<(), Problem> {
        self.may(caller, action, &platform(), StreamKind::Control).map(drop)
    }

    /// Puts on record when jobs are due, if that is another than what is.
    ///
    /// # Errors
    /// The store does not accept.
    pub async fn note_schedules(&self, schedules: BTreeMap<String, String>) -> Result<(), BookError> {
        let before: BTreeMap<String, String> = {
            let registry = self.0.book.read();
            let each = registry.jobs().filter_map(|(name, job)| Some((name.clone(), job.schedule.as_ref()?.0.clone())));
            each.collect()
        };
        if before != schedules {
            self.0.book.note(Change::SetJobs { schedules }).await?;
        }
        Ok(())
    }

    /// Puts the begin of a run on record: asked for by a caller, or by the schedule.
    ///
    /// # Errors
    /// [`ProblemKind::Conflict`] when a run of that job holds a lease; or the store does not accept.
    pub async fn begin_job(&self, caller: Option<&Caller>, fact: JobBegin) -> Result<FactId, Problem> {
        let author = caller.map_or_else(Author::system, Caller::author);
        let made = self.0.book.change(&author, vec![Change::BeginJob(fact)], |_, _| Ok(())).await.map_err(own_words)?;
        match made.first().map(|made| &made.change) {
            Some(Change::BeginJob(JobBegin { run: Some(run), .. })) => Ok(run.clone()),
            _ => Err(Problem::new(ProblemKind::Internal, "a run that was recorded is not shown")),
        }
    }

    /// Puts on record what becomes of a run: that it goes on, found something, or ended.
    ///
    /// # Errors
    /// [`ProblemKind::Conflict`] when another run of that job began, or it is over; or the store does not accept.
    pub async fn note_of_job(&self, change: Change) -> Result<(), Problem> {
        self.0.book.change(&Author::system(), vec![change], |_, _| Ok(())).await.map_err(own_words)?;
        Ok(())
    }

    /// Keeps what a job wants to find at its next run, and answers by which hash.
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn keep_memo(&self, bytes: Vec<u8>) -> Result<Hash, Problem> {
        Ok(self.stores().main().keep_memo(bytes).await?)
    }

    /// What a job kept; none when it is not there, or is not what was kept.
    ///
    /// # Errors
    /// The store does not answer.
    pub async fn memo(&self, sha256: &Hash) -> Result<Option<Bytes>, Problem> {
        Ok(self.stores().main().memo(sha256).await?)
    }

    /// Deletes what jobs kept before, and nothing that the registry names.
    ///
    /// # Errors
    /// The store does not answer; what stays is deleted the next time.
    pub async fn forget_memos(&self) -> Result<(), Problem> {
        let named: Vec<Hash> = {
            let registry = self.0.book.read();
            registry.jobs().filter_map(|(_, job)| Hash::from_hex(job.memo.as_deref()?)).collect()
        };
        Ok(self.stores().main().forget_memos(&named).await?)
    }
}

/// One change is no list: its number says nothing.
fn own_words(error: BookError) -> Problem {
    match error {
        BookError::Refused { refusal, .. } if refusal.is_conflict => Problem::new(ProblemKind::Conflict, refusal.why),
        other => other.into(),
    }
}
