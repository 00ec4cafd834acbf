//! An entry in memory, between being sequenced and being sealed, and the chunks in which streams keep them.
//!
//! Not here: columns ([`crate::columns`]), the log's frames ([`crate::wal`]).
//! Invariant: entries of a [`Chunk`] are contiguous, and their leaves are those that the tree holds.

use ledger::draft::Draft;
use ledger::field::Section;
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
}

impl Entry {
    /// Completes a stamped draft whose sections were committed to before.
    pub(crate) fn new(draft: Draft, seed: Seed, index: u32, commitments: &Commitments) -> Self {
        let leaf = leaf::leaf_hash(draft.section(Section::Skeleton), commitments);
        Self { draft, seed, index, leaf }
    }

    /// Whether its leaf is the one that its fields and salts give.
    pub(crate) fn is_as_hashed(&self) -> bool {
        let commitments = Commitments::of(&self.draft, &self.seed, self.index);
        leaf::leaf_hash(self.draft.section(Section::Skeleton), &commitments) == self.leaf
    }

    /// Bytes that it occupies, roughly: what bounds of memory count.
    pub(crate) fn bytes(&self) -> usize {
        self.draft.fields().len() + 160
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
}

impl Chunk {
    /// A chunk of contiguous entries.
    pub(crate) fn new(first: u64, entries: Vec<Entry>) -> Self {
        let bytes = entries.iter().map(Entry::bytes).sum();
        Self { first, entries, bytes }
    }

    /// One past its last sequence number.
    pub fn end(&self) -> u64 {
        self.first + self.entries.len() as u64
    }

    /// The entry at a sequence number.
    pub(crate) fn get(&self, seq: u64) -> Option<&Entry> {
        self.entries.get(usize::try_from(seq.checked_sub(self.first)?).ok()?)
    }
}
