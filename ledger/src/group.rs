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

    /// The group's root: the data of its leaf in the store log.
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

/// A group's leaf hash in the store log: over its root.
pub fn log_leaf(group_root: &Hash) -> Hash {
    tree::leaf_hash(group_root.as_bytes())
}
