//! The ledger's own key as the door lets it hand over to another.
//!
//! That it is wanted is put on record first; then the new key is written into the key file, then each store hands over, and
//! that is put on record as well. Died before the file: nothing happened but that it was asked for. Died after it: a start
//! finds the new key there, hands over, and the next look puts that on record. Not here: the file (the program), the handing
//! over (`ledger_store`).
//!
//! Invariants: nothing is signed with a key that the next start would not find; no key is forgotten while a store may still
//! have to hand over from it.

use super::Door;
use crate::authority;
use crate::caller::Caller;
use crate::problem::{Problem, ProblemKind};
use crate::registry::change::{Change, SignsFact};
use crate::registry::names::When;
use ledger::key::LedgerKeys;
use ledger_store::Store;
use tokio::sync::MutexGuard;

/// Where the ledger's keys are kept.
pub trait LedgerKeyFile: Send + Sync {
    /// The keys as they stand there.
    fn keys(&self) -> LedgerKeys;
    /// Makes a new key, and puts it there before those that were; on the disk when this returns.
    ///
    /// # Errors
    /// In words: why it could not be written. Nothing was changed then.
    fn succeed(&self) -> Result<LedgerKeys, String>;
    /// Drops all but the newest.
    ///
    /// # Errors
    /// In words: why it could not be written. Nothing was changed then.
    fn forget_before(&self) -> Result<LedgerKeys, String>;
}

fn is_over(store: &Store, keys: &LedgerKeys) -> bool {
    keys.current.is_of(&store.verifier())
}

impl Door {
    /// Refuses what cannot be done now, before it is put on record; otherwise nobody else changes these keys while what it
    /// answers is held: a key that is retired must not be one from which a rotation beside it is still to hand over.
    pub(super) async fn may_change_ledger_keys(
        &self,
        caller: &Caller,
        changes: &[Change],
    ) -> Result<Option<MutexGuard<'_, ()>>, Problem> {
        let conflict = |why: String| Err(Problem::new(ProblemKind::Conflict, why));
        let is_of_them = |change: &&Change| matches!(change, Change::RotateLedgerKey(_) | Change::RetireLedgerKeys(_));
        let asked: Vec<&Change> = changes.iter().filter(is_of_them).collect();
        let Some(first) = asked.first() else { return Ok(None) };
        // Who may not is refused in its place, and is told nothing of stores and keys.
        if authority::may_change(&self.0.policies, &self.book().read(), caller, first, self.now()).is_err() {
            return Ok(None);
        }
        if asked.len() > 1 || changes.len() > 1 {
            return conflict("the ledger's key is rotated or retired in a request of its own".into());
        }
        let Some(file) = &self.0.keys.ledger else {
            return conflict("this service has no key file that it may write".into());
        };
        let turn = self.0.keys.ledger_turn.lock().await;
        if matches!(first, Change::RetireLedgerKeys(_)) {
            let keys = file.keys();
            let shut = self.stores().shut().next().map(|name| format!("the store {name} is not open"));
            let behind = self.stores().open().find(|store| !is_over(store, &keys));
            let behind = behind.map(|store| format!("the store {} is not signed with the new key yet", store.name()));
            if let Some(why) = shut.or(behind) {
                return conflict(format!("{why}, so an older key may still be needed: try again later"));
            }
            if keys.before.is_empty() {
                return conflict("no key of before signs along".into());
            }
        }
        Ok(Some(turn))
    }

    /// Does what was put on record.
    pub(super) async fn carry_out_for_ledger_keys(&self, change: &Change) -> Result<(), Problem> {
        let Some(file) = &self.0.keys.ledger else { return Ok(()) };
        let written = match change {
            Change::RotateLedgerKey(_) => file.succeed(),
            Change::RetireLedgerKeys(_) => file.forget_before(),
            _ => return Ok(()),
        };
        let unwritten = |why: String| {
            let detail = format!(
                "it stands on record that this was asked for, and could not be done: {why}. Where the service may not write \
                 its key file, make the new one with `piperoll keygen --after`, and start the service with it"
            );
            Problem::new(ProblemKind::Unavailable, detail)
        };
        let keys = written.map_err(unwritten)?;
        let mut failed = Vec::new();
        for store in self.stores().open() {
            if let Err(error) = store.sign_with(keys.clone()).await {
                tracing::error!(store = %store.name(), error = &error as &dyn std::error::Error, "the key did not hand over yet");
                failed.push(format!("{}: {error}", store.name()));
            }
        }
        self.note_ledger_keys().await;
        match failed.is_empty() {
            true => Ok(()),
            false => {
                let detail = format!(
                    "the new key is kept, and tried again for stores that did not answer: {}",
                    failed.join("; ")
                );
                Err(Problem::new(ProblemKind::Unavailable, detail))
            }
        }
    }

    /// Hands over where it is not done, and puts on record what is not there.
    pub async fn look_after_ledger_keys(&self) {
        if let Some(keys) = self.0.keys.ledger.as_ref().map(|file| file.keys()) {
            for store in self.stores().open().filter(|store| !is_over(store, &keys) && store.is_writable()) {
                if let Err(error) = store.sign_with(keys.clone()).await {
                    tracing::error!(store = %store.name(), error = &error as &dyn std::error::Error, "the key did not hand over yet");
                }
            }
        }
        self.note_ledger_keys().await;
    }

    async fn note_ledger_keys(&self) {
        let mut missing = Vec::new();
        for store in self.stores().open() {
            let handovers = store.handovers();
            // Of a store that was only ever signed with one key the first entry of all says which.
            if handovers.is_empty() {
                continue;
            }
            let known = self.book().read().ledger_keys_of(store.name().as_str());
            let first = store.verifiers().first().map(|key| (key.to_string(), None)).into_iter();
            let later = handovers.iter().map(|(handover, _)| (handover.key.to_string(), Some(When(handover.time))));
            for ((vkey, since), number) in first.chain(later).zip(1..).skip(known as usize) {
                missing.push(Change::LedgerKeySigns(SignsFact {
                    store: store.name().to_string(),
                    number,
                    vkey,
                    since,
                }));
            }
        }
        if missing.is_empty() {
            return;
        }
        if let Err(error) = self.book().note_all(missing).await {
            let error = &error as &dyn std::error::Error;
            tracing::error!(error, "which key signs could not be put on record; tried again");
        }
    }
}
