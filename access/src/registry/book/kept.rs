//! Snapshots of the registry: written now and then, read at a start, believed when the stream itself names them.
//!
//! Not here: their form ([`SnapshotText`]).
//!
//! Invariant: a snapshot that is not named by a later entry of the stream, or is not of that stream's own tree, is not
//! used, and the stream is folded from zero. If we crash between putting one and naming it, so is the next start's.

use super::super::change::Change;
use super::super::snapshot::SnapshotText;
use super::{Book, BookError, platform};
use ledger::draft::Draft;
use ledger::name::StreamKind;
use ledger_store::StreamHandle;
use std::sync::PoisonError;
use std::sync::atomic::Ordering;

/// After how long it is tried again, in microseconds.
const AGAIN: i64 = 300_000_000;
/// After how many changes another snapshot is worth writing.
const CHANGES: u64 = 10_000;

impl Book {
    /// Begins with the last snapshot, if there is one that may be believed.
    pub(super) async fn load(&self) -> Result<(), BookError> {
        let Ok(handle) = self.main().reader(&platform(), StreamKind::Control) else { return Ok(()) };
        let Some(bytes) = handle.kept_fold().await? else { return Ok(()) };
        let Some((_, registry)) = believed(&handle, &bytes).await? else {
            tracing::warn!("the snapshot of the registry is not used: no entry of its stream names it");
            return Ok(());
        };
        self.kept.store(registry.version(), Ordering::Relaxed);
        *self.registry.write().unwrap_or_else(PoisonError::into_inner) = registry;
        Ok(())
    }

    /// Writes a snapshot when enough has changed since the last.
    ///
    /// # Errors
    /// The stream cannot be read, or the store does not accept.
    pub async fn keep(&self) -> Result<(), BookError> {
        let (size, changes) = {
            let registry = self.read();
            (registry.size(), registry.version())
        };
        let is_due = changes >= self.kept.load(Ordering::Relaxed) + CHANGES;
        let now = self.ambient.now_micros();
        // Who may not write any more must not take the place of what a successor kept.
        if !is_due || now < self.patience.load(Ordering::Relaxed) || !self.main().is_writable() {
            return Ok(());
        }
        // It reads all of the stream: not again at once, if it fails.
        self.patience.store(now + AGAIN, Ordering::Relaxed);
        let handle = self.main().reader(&platform(), StreamKind::Control)?;
        let (mut text, mut from) = (SnapshotText::default(), 0);
        if let Some(bytes) = handle.kept_fold().await?
            && let Some((before, registry)) = believed(&handle, &bytes).await?
        {
            (text, from) = (before, registry.size());
        }
        let each = |seq, draft: &Draft| {
            if seq < size
                && let Some((stamp, change)) = Change::of_entry(seq, draft)?
            {
                text.add(&stamp, &change);
            }
            Ok::<(), BookError>(())
        };
        handle.entries(from, each).await?;
        let root = handle.consistency(size, None).await?.from_root;
        let (bytes, hash) = text.finish(size, &root);
        handle.keep_fold(bytes).await?;
        // Died here: nothing names it, and the next start folds from zero.
        self.note(Change::Snapshot { size, root: root.to_base64(), sha256: hash.to_hex() }).await?;
        self.kept.store(changes, Ordering::Relaxed);
        self.patience.store(0, Ordering::Relaxed);
        Ok(())
    }
}

/// What a snapshot says, if the stream itself vouches for it.
async fn believed(handle: &StreamHandle, bytes: &[u8]) -> Result<Option<(SnapshotText, super::Registry)>, BookError> {
    let Ok((size, root)) = SnapshotText::head_of(bytes) else { return Ok(None) };
    let hash = ledger::Hash::of(bytes).to_hex();
    let mut is_named = false;
    let each = |seq, draft: &Draft| {
        if let Some((_, Change::Snapshot { size: of, root: with, sha256 })) = Change::of_entry(seq, draft)? {
            is_named |= of == size && with == root.to_base64() && sha256 == hash;
        }
        Ok::<(), BookError>(())
    };
    handle.entries(size, each).await?;
    // Named by an entry after a lost log, a head may be of entries that are gone.
    let is_ours = is_named && handle.consistency(size, None).await?.from_root == root;
    Ok(SnapshotText::open(bytes).ok().filter(|_| is_ours))
}
