//! The tree that a stream's rows give, recomputed leaf by leaf, with the tiles that it must have.
//!
//! Not here: what is reported of it ([`crate::fsck`]). Invariant: the edge covers only segments whose leaves
//! gave what their commits recorded.

use crate::columns::Rows;
use crate::error::StoreError;
use crate::keys::ContentKeys;
use crate::segment;
use bytes::Bytes;
use ledger::gone::Gone;
use ledger::name::{StreamKind, TenantId};
use ledger::tile::{TILE_HASHES, TILE_HEIGHT};
use ledger::tree::{Edge, Hash, Node};
use ledger::verify::{ChainVerifier, Fault, LeafVerifier, Watch};
use object_store::path::Path;
use std::collections::BTreeMap;

/// What a segment's rows do not give.
pub(super) enum TreeFault {
    Fault(Fault),
    Rows(StoreError),
}

/// The tree as the leaves give it, with the tiles that it must have.
pub(super) struct TreeWalk {
    leaves: LeafVerifier,
    pub seen: Seen,
    /// Whose rows these must be.
    owner: (TenantId, StreamKind),
    /// When the row before was recorded.
    recorded: i64,
}

/// What is noted while the tree grows.
#[derive(Default)]
pub(super) struct Seen {
    /// Kept heads that the walk has not come to yet.
    pub kept: BTreeMap<u64, Hash>,
    /// Kept heads inside of what is gone, which can no longer be checked.
    pub beyond_check: Vec<u64>,
    /// The first size at which a kept head and the leaves disagree.
    pub disagrees: Option<u64>,
    pub tiles: BTreeMap<(u8, u64), Vec<Hash>>,
    pub edge: Edge,
    /// How many entries below it are gone.
    pub gone: u64,
    /// How many lack sections.
    pub redacted: u64,
}

impl Watch for Seen {
    fn node(&mut self, Node { height, index, hash }: Node) {
        if height > 0 && height.is_multiple_of(TILE_HEIGHT) {
            self.tiles.entry(((height / TILE_HEIGHT) as u8, index / TILE_HASHES)).or_default().push(hash);
        }
    }

    fn tree(&mut self, edge: &Edge) {
        if self.kept.remove(&edge.size()).is_some_and(|root| root != edge.root()) {
            self.disagrees = self.disagrees.or(Some(edge.size()));
        }
        while let Some(passed) = self.kept.first_entry().filter(|passed| *passed.key() < edge.size()) {
            self.beyond_check.push(*passed.key());
            passed.remove();
        }
    }
}

impl TreeWalk {
    /// A walk that has seen nothing yet; where something is gone, with what is kept of it.
    ///
    /// # Errors
    /// What is kept is not what the commits name.
    pub(super) fn new(
        chain: ChainVerifier,
        gone: Option<Gone>,
        owner: (TenantId, StreamKind),
        kept: BTreeMap<u64, Hash>,
    ) -> Result<Self, Fault> {
        let seen = Seen { kept, ..Seen::default() };
        Ok(Self { leaves: chain.into_leaves(gone)?, seen, owner, recorded: i64::MIN })
    }

    /// Goes over what is gone at the end.
    pub(super) fn end(&mut self) -> Result<(), Fault> {
        self.leaves.end(&mut self.seen)?;
        (self.seen.edge, self.seen.gone) = (self.leaves.edge().clone(), self.leaves.gone());
        Ok(())
    }

    /// What a leaf cannot tell by itself: that the row belongs here, and comes no earlier than the one before.
    fn place(&mut self, rows: &Rows<'_>, row: usize, path: &Path) -> Result<(), StoreError> {
        let damaged = |why| Err(StoreError::Damaged { path: path.to_string(), why });
        if !rows.is_of(row, self.owner.0.as_str(), self.owner.1.as_str()) {
            return damaged("a row is of another tenant or stream");
        }
        let recorded = rows.recorded_at(row);
        if recorded < std::mem::replace(&mut self.recorded, recorded) {
            return damaged("a row was recorded before the one it follows");
        }
        Ok(())
    }

    /// Recomputes a segment's leaves. After a fault the walk is over: its edge is what was proven before, its
    /// tiles are not to be used.
    pub(super) fn segment(
        &mut self,
        keys: &ContentKeys,
        path: &Path,
        bytes: Bytes,
        progress: &mut impl FnMut(u64),
    ) -> Result<(), TreeFault> {
        let mut scratch = Vec::new();
        let mut fault = None;
        let read = segment::read_all(keys, path, bytes, |batch| {
            let rows = Rows::of(batch)?;
            for row in 0..rows.len() {
                self.place(&rows, row, path)?;
                let leaf = rows.leaf(row, &mut scratch)?;
                self.seen.redacted += u64::from(!rows.erased(row).is_empty());
                self.leaf(leaf, rows.seq(row), &mut fault);
            }
            progress(rows.len() as u64);
            Ok(())
        });
        let ended = match (fault, read) {
            (Some(fault), _) => Err(TreeFault::Fault(fault)),
            (None, Err(error)) => Err(TreeFault::Rows(error)),
            (None, Ok(())) => self.leaves.end_segment().map_err(TreeFault::Fault),
        };
        if ended.is_ok() {
            (self.seen.edge, self.seen.gone) = (self.leaves.edge().clone(), self.leaves.gone());
        }
        ended
    }

    fn leaf(&mut self, leaf: Hash, seq: u64, fault: &mut Option<Fault>) {
        if fault.is_none() {
            *fault = self.leaves.leaf(seq, leaf, &mut self.seen).err();
        }
    }
}
