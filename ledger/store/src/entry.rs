//! An entry in memory, between being sequenced and being sealed, and the chunks in which streams keep them.
//!
//! Not here: columns ([`crate::columns`]), the log's frames ([`crate::wal`]).
//! Invariant: entries of a [`Chunk`] are contiguous, and their leaves are those that the tree holds.

use crate::locked::Locked;
use ledger::draft::Draft;
use ledger::leaf::{self, Commitments, Seed};
use ledger::tree::Hash;

/// An event with what makes its leaf.
#[derive(Debug, Clone)]
pub struct Entry {
    /// The stamped event.
    pub draft: Draft,
    /// From which seed its salts are derived.
    pub seed: Seed,
    /// Its index under the seed.
    pub index: u32,
    /// Its leaf hash.
    pub leaf: Hash,
    /// The fingerprint of its id.
    pub fingerprint: u64,
}

impl Entry {
    /// Completes a stamped draft whose sections were committed to before.
    pub(crate) fn new(draft: Draft, seed: Seed, index: u32, commitments: &Commitments, fingerprint: u64) -> Self {
        let leaf = leaf::hash_of(&draft, commitments);
        Self { draft, seed, index, leaf, fingerprint }
    }

    /// An entry as it was kept; [`Entry::is_as_hashed`] tells whether it is sound.
    pub(crate) fn kept(draft: Draft, seed: Seed, index: u32, leaf: Hash) -> Self {
        let fingerprint = leaf::id_fingerprint(draft.event_id());
        Self { draft, seed, index, leaf, fingerprint }
    }

    /// Whether its leaf is the one that its fields and salts give.
    pub(crate) fn is_as_hashed(&self) -> bool {
        let commitments = Commitments::of(&self.draft, &self.seed, self.index);
        leaf::hash_of(&self.draft, &commitments) == self.leaf
    }

    /// Bytes that it occupies, roughly: what bounds of memory count.
    pub(crate) fn bytes(&self) -> usize {
        self.draft.fields_bytes() + 160
    }
}

/// Entries of one stream that became durable together.
#[derive(Debug)]
pub struct Chunk {
    /// Sequence number of the first.
    pub first: u64,
    /// The entries, contiguous.
    pub entries: Vec<Entry>,
    /// Bytes that they occupy.
    pub bytes: usize,
    /// What there is of them instead, while they cannot be opened.
    pub(crate) locked: Option<Locked>,
}

impl Chunk {
    /// A chunk of contiguous entries.
    pub(crate) fn new(first: u64, entries: Vec<Entry>) -> Self {
        let bytes = entries.iter().map(Entry::bytes).sum();
        Self { first, entries, bytes, locked: None }
    }

    /// A chunk of contiguous entries that cannot be opened.
    pub(crate) fn locked(first: u64, locked: Locked) -> Self {
        Self { first, entries: vec![], bytes: locked.bytes(), locked: Some(locked) }
    }

    /// One past its last sequence number.
    pub fn end(&self) -> u64 {
        let locked = self.locked.as_ref().map_or(0, |locked| locked.leaves.len());
        self.first + (self.entries.len() + locked) as u64
    }

    /// The entries' leaf hashes.
    pub(crate) fn leaves(&self) -> impl Iterator<Item = Hash> {
        let locked = self.locked.iter().flat_map(|locked| locked.leaves.iter().copied());
        self.entries.iter().map(|entry| entry.leaf).chain(locked)
    }

    /// The leaf hash at a sequence number.
    pub(crate) fn leaf(&self, seq: u64) -> Option<Hash> {
        let at = usize::try_from(seq.checked_sub(self.first)?).ok()?;
        match &self.locked {
            Some(locked) => locked.leaves.get(at).copied(),
            None => self.entries.get(at).map(|entry| entry.leaf),
        }
    }

    /// The entry at a sequence number.
    pub(crate) fn get(&self, seq: u64) -> Option<&Entry> {
        self.entries.get(usize::try_from(seq.checked_sub(self.first)?).ok()?)
    }
}
