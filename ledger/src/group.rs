//! A group: the heads of the streams that one fsync (or one put) moved, under one small tree.
//!
//! Its root is one leaf of the store's log, so ten thousand tenants cost one signature a group. A head's
//! own root is 32 bytes that nobody outside the tenant can guess, which hides it from its neighbours.
//!
//! Not here: the store log's tiles and files (`ledger-store`), receipts ([`crate::receipt`]).
//! Invariant: heads ascend by origin, each origin once.

use crate::checkpoint::StreamHead;
use crate::proof::Span;
use crate::tree::{self, Hash};

/// First line of a group's leaf data in the store log: name and version of the form.
pub const GROUP_TAG: &str = "piperoll-group/v1";

/// What "durable" meant when a group was signed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Durability {
    /// On the writer's local disk, fsynced.
    Wal,
    /// In the object store.
    Object,
}

impl Durability {
    /// Its name in groups, receipts and settings.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Wal => "wal",
            Self::Object => "object",
        }
    }

    /// The durability of this name.
    pub fn of(name: &str) -> Option<Self> {
        [Self::Wal, Self::Object].into_iter().find(|durability| durability.as_str() == name)
    }
}

/// The heads that became durable together.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Group {
    heads: Vec<StreamHead>,
    leaves: Vec<Hash>,
}

impl Group {
    /// A group of these heads; of several heads of one origin the largest stays.
    pub fn new(mut heads: Vec<StreamHead>) -> Self {
        heads.sort_by(|a, b| a.origin.cmp(&b.origin).then(b.size.cmp(&a.size)));
        heads.dedup_by(|later, first| later.origin == first.origin);
        let leaves = heads.iter().map(head_leaf).collect();
        Self { heads, leaves }
    }

    /// The heads, ascending by origin.
    pub fn heads(&self) -> &[StreamHead] {
        &self.heads
    }

    /// The group's leaf hash in the store log.
    pub fn log_leaf(&self, durability: Durability, epoch: u64) -> Hash {
        log_leaf(durability, epoch, self.heads.len() as u64, &self.root())
    }

    /// The group's root.
    pub fn root(&self) -> Hash {
        tree::root_of(self.leaves.iter().copied())
    }

    /// Where an origin's head stands.
    pub fn position(&self, origin: &str) -> Option<u64> {
        self.heads.binary_search_by(|head| head.origin.as_str().cmp(origin)).ok().map(|at| at as u64)
    }

    /// The hash of the heads in a span.
    pub fn span_hash(&self, span: Span) -> Hash {
        tree::root_of(self.leaves[span.start as usize..span.end as usize].iter().copied())
    }
}

/// A head's leaf hash in its group: over its checkpoint text.
pub fn head_leaf(head: &StreamHead) -> Hash {
    tree::leaf_hash(head.to_text().as_bytes())
}

/// A group's leaf hash in the store log. Its data states all that a receipt says of the group, so that nothing
/// of a receipt can be changed: a root alone would not even commit to how many heads there are.
pub fn log_leaf(durability: Durability, epoch: u64, size: u64, root: &Hash) -> Hash {
    let durability = durability.as_str();
    tree::leaf_hash(
        format!("{GROUP_TAG}\ndurability {durability}\nepoch {epoch}\nsize {size}\nroot {root}\n").as_bytes(),
    )
}
