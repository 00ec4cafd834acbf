//! The unsealed tail of a stream, read from the log, of which some part cannot be opened now.
//!
//! Its leaf hashes stand in the log in the clear: tree, heads and proofs are what they were. It cannot be read, added to
//! or sealed until its keys are back; until then it is kept in the log. Not here: runs as they stand there
//! ([`crate::wal`]).
//!
//! Invariant: a tail is opened whole or not at all.

use crate::entry::{Chunk, Entry};
use crate::error::StoreError;
use crate::keys::{ContentKeys, KeyError};
use crate::store::Shared;
use crate::stream::Stream;
use crate::wal::{LockedRun, ReadRun};
use ledger::name::{StreamKind, TenantId};
use ledger::tree::Hash;
use std::sync::Arc;

/// What there is of a tail that cannot be opened.
#[derive(Debug)]
pub(crate) struct Locked {
    /// Its leaf hashes.
    pub leaves: Vec<Hash>,
    /// Its runs as they stand in the log, by first position, ascending; some may begin below the tail.
    pub runs: Vec<(u64, ReadRun)>,
}

impl Locked {
    /// Bytes that it occupies, roughly.
    pub(crate) fn bytes(&self) -> usize {
        let of_run = |run: &ReadRun| -> usize {
            match run {
                ReadRun::Plain(entries) => entries.iter().map(Entry::bytes).sum(),
                ReadRun::Locked(run) => run.bytes(),
            }
        };
        self.runs.iter().map(|(_, run)| of_run(run)).sum()
    }
}

/// The leaf hashes of a run.
pub(crate) fn leaves(run: &ReadRun) -> Vec<Hash> {
    match run {
        ReadRun::Plain(entries) => entries.iter().map(|entry| entry.leaf).collect(),
        ReadRun::Locked(LockedRun { leaves, .. }) => leaves.clone(),
    }
}

/// The entries of a run.
///
/// # Errors
/// A key is not at hand, or the bytes are not what was written under it.
pub(crate) fn opened(
    run: &ReadRun,
    keys: &ContentKeys,
    of: (&TenantId, StreamKind, u64),
) -> Result<Vec<Entry>, StoreError> {
    let run = match run {
        ReadRun::Plain(entries) => return Ok(entries.clone()),
        ReadRun::Locked(run) => run,
    };
    let wrong = || KeyError::Wrong { tenant: of.0.clone() };
    Ok(run.open(keys, of)?.ok_or_else(wrong)?)
}

impl Stream {
    /// Whether its tail cannot be read as it is held.
    pub(crate) fn is_locked(&self) -> bool {
        self.locked_tail().is_some()
    }

    /// Opens the tail if it is not open: its keys may be back.
    ///
    /// # Errors
    /// They are not, or the log's bytes are not what was written.
    pub(crate) fn unlock(&self, keys: &ContentKeys) -> Result<(), StoreError> {
        let Some(chunk) = self.locked_tail() else { return Ok(()) };
        let Some(locked) = &chunk.locked else { return Ok(()) };
        let mut entries = Vec::with_capacity(locked.leaves.len());
        for (first, run) in &locked.runs {
            let next = chunk.first + entries.len() as u64;
            let skip = next.saturating_sub(*first);
            entries.extend(opened(run, keys, (&self.tenant, self.kind, *first))?.into_iter().skip(skip as usize));
        }
        let is_same = entries.iter().map(|entry| entry.leaf).eq(locked.leaves.iter().copied());
        if !is_same || !entries.iter().all(Entry::is_as_hashed) {
            let path = self.prefix.path().to_string();
            return Err(StoreError::Damaged { path, why: "the write-ahead log's entries are not those of its heads" });
        }
        // What it was counted with when it was held.
        self.opened(&chunk, Arc::new(Chunk { bytes: chunk.bytes, ..Chunk::new(chunk.first, entries) }));
        tracing::info!(tenant = %self.tenant, stream = %self.kind, "unsealed entries can be read: their key is at hand");
        Ok(())
    }

    /// Opens the tail, and sees to it that what is written from now on is written under the tenant's key, if it has one.
    ///
    /// # Errors
    /// The key is not at hand.
    pub(crate) fn use_log_key(&self, shared: &Shared) -> Result<(), StoreError> {
        let keys = &shared.content.keys;
        self.unlock(keys)?;
        let held = self.log_key();
        let now = keys.for_log((&self.tenant, self.kind), held.clone(), shared.ambient.as_ref())?;
        if now.as_ref().map(Arc::as_ptr) != held.as_ref().map(Arc::as_ptr) {
            self.set_log_key(now);
        }
        Ok(())
    }
}
