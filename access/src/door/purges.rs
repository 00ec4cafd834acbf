//! Purges as the door lets them happen: recorded before and after, and never past a hold.
//!
//! Not here: what is to go (`retention`), taking it away (`ledger_store`). Invariant: while somebody holds still, no policy
//! or hold is set: either a purge sees it, or it is set on what is left.

use super::Door;
use crate::caller::Caller;
use crate::policy::Action;
use crate::problem::{Problem, ProblemKind};
use crate::registry::change::{CertificateFact, Change, PurgeAct, PurgeFact};
use crate::registry::names::FactId;
use crate::registry::{Author, BookError, Entry, EntryError, Made, nowhere, platform};
use ledger::name::{StreamKind, TenantId};
use ledger_store::AppendRequest;
use std::sync::Arc;
use tokio::sync::OwnedMutexGuard;

/// The id of the entry in a stream that holds the certificate of a run's purge or redaction of it, by the run and the commit.
pub fn certificate_entry(run: &str, commit: &str) -> String {
    format!("purge-{run}-{commit}")
}

impl Door {
    /// Keeps policies and holds from being set until what is returned is dropped. The registry is up to date then, and no
    /// purge is left of which it is not known whether it stands.
    ///
    /// # Errors
    /// A store does not answer.
    pub async fn hold_still(&self) -> Result<OwnedMutexGuard<()>, Problem> {
        let still = Arc::clone(&self.0.kept_still).lock_owned().await;
        for store in self.stores().open() {
            store.settle_erasures().await?;
        }
        self.0.book.refresh().await?;
        Ok(still)
    }

    /// Whether the caller may do something to every tenant, also to those that are yet to come.
    ///
    /// # Errors
    /// It is not granted so widely.
    pub fn may_everywhere(&self, caller: &Caller, action: Action) -> Result<(), Problem> {
        self.may(caller, action, &platform(), StreamKind::Control)?;
        if self.decide(caller, action, &nowhere(), StreamKind::Control).is_some() {
            return Ok(());
        }
        let why = format!("{} on all tenants is not granted to you: name those that it is about", action.as_str());
        Err(Problem::new(ProblemKind::Forbidden, why))
    }

    /// Puts the intent of a run on record that the service's own schedule asked for.
    ///
    /// # Errors
    /// A run is open, a policy or hold was changed since the plan was made, or the store does not accept.
    pub async fn begin_purge(&self, fact: PurgeFact) -> Result<Vec<Made>, Problem> {
        Ok(self.0.book.change(&Author::system(), vec![Change::BeginPurge(fact)], |_, _| Ok(())).await?)
    }

    /// Puts certificates of purges on record, and tells each stream of its own: an entry of it says what went.
    ///
    /// # Errors
    /// The store does not accept. What stands already is found standing the next time.
    pub async fn certify_purges(&self, certificates: Vec<CertificateFact>) -> Result<(), Problem> {
        for fact in &certificates {
            self.note_in_stream(fact).await?;
        }
        let changes = certificates.into_iter().map(|fact| Change::CertifyPurge(Box::new(fact))).collect();
        self.0.book.note_all(changes).await?;
        Ok(())
    }

    /// The entry in the stream from which something was taken. Its id makes a second one of the same purge a repeat.
    async fn note_in_stream(&self, fact: &CertificateFact) -> Result<(), Problem> {
        let entry = Entry {
            tenant: &fact.tenant,
            stream: fact.stream,
            id: certificate_entry(fact.run.as_str(), &fact.commit.to_string()),
            action: if self.redacts(&fact.run) { "retention.redacted" } else { "retention.purged" },
            outcome: "success",
            author: &Author::system(),
            resource: ("purge", fact.run.to_string()),
            elevation: None,
            attributes: fact.certificate.clone(),
            // The same in every try, so that it is a repeat.
            now: self.begun_at(&fact.run),
        };
        let draft = entry.draft().map_err(EntryError::from).map_err(BookError::from)?;
        let store = self.0.book.store_of(&fact.tenant)?;
        let parts = vec![(store.appender(&fact.tenant, fact.stream), vec![draft])];
        store.append(AppendRequest { parts, ..Default::default() }).await?;
        Ok(())
    }

    fn redacts(&self, run: &FactId) -> bool {
        let registry = self.0.book.read();
        registry.runs().any(|(id, found)| id == run && found.redaction.is_some())
    }

    fn begun_at(&self, run: &FactId) -> i64 {
        let registry = self.0.book.read();
        registry.runs().find(|(id, _)| *id == run).map_or(0, |(_, run)| run.begun.at)
    }

    /// Puts the end of a run on record.
    ///
    /// # Errors
    /// The store does not accept.
    pub async fn end_purge(&self, act: PurgeAct) -> Result<(), Problem> {
        self.0.book.note(Change::EndPurge(act)).await?;
        Ok(())
    }

    /// Puts on record that the files of a run are gone from the store.
    ///
    /// # Errors
    /// The store does not accept.
    pub async fn erase_purge(&self, act: PurgeAct) -> Result<(), Problem> {
        self.0.book.note(Change::ErasePurge(act)).await?;
        Ok(())
    }

    /// The tenants that there are, with their streams but `control`.
    pub fn kept_streams(&self) -> Vec<(TenantId, StreamKind)> {
        let all = self.stores().open().flat_map(ledger_store::Store::streams);
        let mut kept: Vec<_> = all.filter(|(_, stream)| *stream != StreamKind::Control).collect();
        kept.sort();
        kept
    }
}
