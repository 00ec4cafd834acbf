//! The job that keeps stores small: merges, packs, and deletes what is due, of every stream now.
//!
//! Not here: doing it, which the store also does by and by (`ledger_store`).

use access::job::{Job, Outcome, Running, Work};
use access::{Door, Problem};
use ledger_store::Store;
use serde_json::json;

/// Keeps stores small.
pub struct Compaction(Door);

impl Compaction {
    /// Of the stores behind this door.
    pub fn new(door: Door) -> Self {
        Self(door)
    }

    async fn compact(&self, running: &Running) -> Result<Outcome, Problem> {
        let open: Vec<Store> = self.0.stores().open().cloned().collect();
        let before: u64 = open.iter().map(sealed).sum();
        let mut failed = None;
        running.progress().next("merging segments", open.len(), "stores");
        for store in &open {
            // One that fails holds up no other.
            if let Err(error) = store.upkeep().await {
                failed = failed.or(Some(Problem::from(error)));
            }
            running.progress().did(1);
        }
        let (after, unreached) = (open.iter().map(sealed).sum::<u64>(), self.0.stores().shut().count());
        match failed {
            Some(problem) => Err(problem),
            None => Ok(Outcome::of(
                json!({"stores": open.len(), "unreached": unreached, "bytes_before": before, "bytes": after}),
            )),
        }
    }
}

/// Bytes of the segments of a store.
fn sealed(store: &Store) -> u64 {
    let streams = store.streams().into_iter();
    streams.filter_map(|(tenant, kind)| store.reader(&tenant, kind).ok()).map(|stream| stream.stored().1).sum()
}

impl Job for Compaction {
    fn name(&self) -> &'static str {
        "compaction"
    }

    fn what(&self) -> &'static str {
        "merges small segments, packs old commits, and deletes files whose time is over"
    }

    fn schedule(&self) -> Option<&'static str> {
        Some("45 3 * * *")
    }

    fn run<'j>(&'j self, running: &'j Running) -> Work<'j> {
        Box::pin(self.compact(running))
    }
}
