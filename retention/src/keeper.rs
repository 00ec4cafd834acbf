//! What retention has under way: runs that a stop or a failure left open, and files that are not gone yet.
//!
//! Not here: carrying a run out ([`crate::run`]), when one begins by itself ([`crate::letting_go`]). Invariants: a run that a stop or a failure left open is gone on with; that
//! files are gone is said only after a listing showed none of them.

use crate::run::Retention;
use access::registry::Run;
use access::registry::change::PurgeAct;
use access::registry::names::FactId;
use access::{Problem, Progress};
use ledger::Hash;
use ledger_store::{EraseOrder, EraseWhat};
use serde_json::json;

/// Goes on with runs that a stop or a failure left open, and notes when their files are gone.
pub struct Keeper {
    retention: Retention,
    next: i64,
}

/// How long a run that could not be ended rests, in microseconds.
const REST: i64 = 60_000_000;

impl Keeper {
    /// A keeper that begins at once.
    pub fn new(retention: Retention) -> Self {
        Self { retention, next: 0 }
    }

    /// Looks once.
    pub async fn tick(&mut self) {
        let now = self.retention.door.now();
        if now < self.next {
            return;
        }
        self.next = now + REST;
        let door = &self.retention.door;
        let rests = |run: &Run| run.ended.is_some() && run.erased.is_some();
        let runs: Vec<(FactId, Run)> = {
            let registry = door.book().read();
            registry.runs().filter(|(_, run)| !rests(run)).map(|(id, run)| (id.clone(), run.clone())).collect()
        };
        for (id, run) in runs {
            let done = match (&run.ended, &run.erased) {
                // A run that was begun a moment ago is being carried out by whoever asked for it.
                (None, _) if now - run.begun.at < REST => Ok(()),
                (None, _) => self.retention.carry_out(&id, None, &Progress::default()).await.map(drop),
                (Some(ended), None) => self.note_erased(&id, &run, now - ended.at).await,
                _ => Ok(()),
            };
            if let Err(problem) = done {
                tracing::warn!(run = %id, detail = problem.detail(), "a retention run is tried again");
            }
        }
    }

    async fn note_erased(&self, id: &FactId, run: &Run, since: i64) -> Result<(), Problem> {
        let door = &self.retention.door;
        let window = door.stores().main().undo_window().as_micros() as i64;
        if since < window {
            return Ok(());
        }
        if let Some(objects) = self.retention.erased(run).await? {
            let outcome = json!({"objects": objects, "found": "none of them is listed any more"});
            door.erase_purge(PurgeAct { run: id.clone(), outcome }).await?;
        }
        Ok(())
    }
}

impl Retention {
    /// Whether the files that a run took out of chains are gone from the store, and how many they were.
    async fn erased(&self, run: &Run) -> Result<Option<u64>, Problem> {
        let plan = Hash::from_hex(&run.fact.plan).unwrap_or(Hash([0; 32]));
        let mut objects = 0;
        for one in &run.certified {
            if self.door.book().store_of(&one.tenant)?.has_erased_files(&one.tenant, one.stream).await {
                return Ok(None);
            }
        }
        for one in &run.certified {
            let store = self.door.book().store_of(&one.tenant)?;
            // Nothing is asked for but what became of it.
            let (tenant, kind, what) = (one.tenant.clone(), one.stream, EraseWhat::Entries(vec![]));
            let order = EraseOrder { tenant, kind, what, basis: run.begun.seq, plan };
            let found = store.erase(vec![order]).await?.remove(0)?;
            let Some(found) = found else { continue };
            let there = store.reader(&one.tenant, one.stream)?.objects().await?;
            let is_there = |path: &str| there.iter().any(|(object, _)| object.ends_with(path));
            if found.removed.iter().any(|segment| is_there(&segment.path)) {
                return Ok(None);
            }
            objects += found.removed.len() as u64;
        }
        Ok(Some(objects))
    }
}
