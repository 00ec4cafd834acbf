//! Whether the kept snapshot of the registry is what the entries give: folded from zero, and compared byte by byte.
//!
//! Not here: whether the entries hold (`ledger_store::Fsck`). Invariant: it reads the store and nothing else.

use super::change::Change;
use super::snapshot::SnapshotText;
use super::{BookError, platform};
use ledger::draft::Draft;
use ledger::name::StreamKind;
use ledger::tree::Hash;
use ledger_store::{Finding, Fsck};

const DELETE: &str = "a cache only: stop the service, delete it, and start: the registry is folded from its entries";
const FORGED: &str = "an entry names a snapshot that says something else than the entries: find out who could write it";

/// A check of the snapshot that a store keeps of the registry.
pub struct SnapshotAudit {
    bytes: Vec<u8>,
    size: u64,
    root: Hash,
}

impl SnapshotAudit {
    /// The snapshot that is kept, if there is one; what its form is not is a finding.
    ///
    /// # Errors
    /// The store failed.
    pub async fn of(fsck: &Fsck) -> Result<Option<Result<Self, Finding>>, BookError> {
        let Some(bytes) = fsck.kept_fold(&platform(), StreamKind::Control).await? else { return Ok(None) };
        Ok(Some(match SnapshotText::head_of(&bytes) {
            Ok((size, root)) => Ok(Self { bytes: bytes.to_vec(), size, root }),
            Err(error) => Err(finding(None, error.to_string(), DELETE, false)),
        }))
    }

    /// Folds the sealed entries from zero and compares.
    ///
    /// # Errors
    /// The store failed, or an entry cannot be read.
    pub async fn findings(&self, fsck: &Fsck) -> Result<Vec<Finding>, BookError> {
        let (mut text, mut entries, mut named) = (SnapshotText::default(), 0, Vec::new());
        let each = |seq, draft: &Draft| {
            entries = seq + 1;
            match Change::of_entry(seq, draft)? {
                Some((_, Change::Snapshot { size, sha256, .. })) if seq >= self.size => named.push((size, sha256)),
                Some((stamp, change)) if seq < self.size => text.add(&stamp, &change),
                _ => {}
            }
            Ok::<(), BookError>(())
        };
        fsck.entries(&platform(), StreamKind::Control, each).await?;
        let range = Some((0, self.size.saturating_sub(1)));
        if entries < self.size {
            let what =
                format!("the snapshot covers {} entries, and {entries} of them are sealed: not compared", self.size);
            let advice = "as it should be while the service runs; `piperoll serve --seal-on-exit` seals the rest";
            return Ok(vec![finding(range, what, advice, false)]);
        }
        let given = text.finish(self.size, &self.root).1;
        let found = Hash::of(&self.bytes);
        let is_named = named.contains(&(self.size, found.to_hex()));
        // The root in its first line is vouched for by the entry that names it, and looked at when it is loaded.
        Ok(match (given == found, is_named) {
            (true, true) => vec![],
            (false, true) => {
                vec![finding(range, "the snapshot does not say what the entries give".into(), FORGED, true)]
            }
            (_, false) => {
                let what = "no entry names this snapshot: it is not used, and the registry is folded from its entries";
                vec![finding(range, what.into(), DELETE, false)]
            }
        })
    }
}

fn finding(entries: Option<(u64, u64)>, what: String, advice: &'static str, is_fault: bool) -> Finding {
    let sound = "the entries themselves, and the registry as the service folds it from them".to_string();
    let object = format!("tenant={}/stream={}/_ledger/fold", platform(), StreamKind::Control);
    Finding { object, entries, what, sound, advice, is_fault, is_newer: false }
}
