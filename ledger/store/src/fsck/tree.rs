//! The tree that a stream's rows give, recomputed leaf by leaf, with the tiles that it must have.
//!
//! Not here: what is reported of it ([`crate::fsck`]). Invariant: the edge covers only segments whose leaves
//! gave what their commits recorded.

use crate::columns::Rows;
use crate::error::StoreError;
use crate::segment;
use bytes::Bytes;
use ledger::name::{StreamKind, TenantId};
use ledger::tile::{TILE_HASHES, TILE_HEIGHT};
use ledger::tree::{Edge, Hash, Node};
use ledger::verify::{ChainVerifier, Fault, LeafVerifier};
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
    /// Kept heads that the walk has not come to yet.
    pub kept: BTreeMap<u64, Hash>,
    /// The first size at which a kept head and the leaves disagree.
    pub disagrees: Option<u64>,
    pub tiles: BTreeMap<(u8, u64), Vec<Hash>>,
    pub edge: Edge,
    /// Whose rows these must be.
    owner: (TenantId, StreamKind),
    /// When the row before was recorded.
    recorded: i64,
}

impl TreeWalk {
    /// A walk that has seen nothing yet.
    pub(super) fn new(chain: ChainVerifier, owner: (TenantId, StreamKind), kept: BTreeMap<u64, Hash>) -> Self {
        let (tiles, edge) = Default::default();
        Self { leaves: chain.into_leaves(), kept, disagrees: None, tiles, edge, owner, recorded: i64::MIN }
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
        path: &Path,
        bytes: Bytes,
        progress: &mut impl FnMut(u64),
    ) -> Result<(), TreeFault> {
        let mut scratch = Vec::new();
        let mut fault = None;
        let before = self.edge.clone();
        let read = segment::read_all(path, bytes, |batch| {
            let rows = Rows::of(batch)?;
            for row in 0..rows.len() {
                self.place(&rows, row, path)?;
                let leaf = rows.leaf(row, &mut scratch)?;
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
        if ended.is_err() {
            self.edge = before;
        }
        ended
    }

    fn leaf(&mut self, leaf: Hash, seq: u64, fault: &mut Option<Fault>) {
        if fault.is_some() {
            return;
        }
        let expected = self.edge.size();
        *fault = self.leaves.leaf(leaf).err();
        if seq != expected && fault.is_none() {
            *fault =
                Some(Fault::Coverage { number: self.leaves.expected().map_or(0, |held| held.added_by), seq: expected });
        }
        let tiles = &mut self.tiles;
        self.edge.push_with(leaf, |Node { height, index, hash }| {
            if height.is_multiple_of(TILE_HEIGHT) {
                tiles.entry(((height / TILE_HEIGHT) as u8, index / TILE_HASHES)).or_default().push(hash);
            }
        });
        if let Some(root) = self.kept.remove(&self.edge.size())
            && root != self.edge.root()
        {
            self.disagrees = self.disagrees.or(Some(self.edge.size()));
        }
    }
}
