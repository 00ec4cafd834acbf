//! The leaves of a stream in order of sequence, against the roots and heads that its commits signed.
//!
//! Not here: the chain of commits ([`super`]), what is kept of purged entries ([`crate::gone`]).
//!
//! Invariant: what has been fed without a fault gives every root and head on the way.

use super::{ChainVerifier, Fault, LiveSegment};
use crate::gone::{BLOCK, Gone, count_below};
use crate::name::Origin;
use crate::tree::{Edge, Hash, Node};
use std::collections::BTreeMap;

impl ChainVerifier {
    /// Goes on to the leaves; where something is gone, with what the newest purge kept of it.
    ///
    /// # Errors
    /// What is given is not what that purge's commit names, or something is missing.
    pub fn into_leaves(self, gone: Option<Gone>) -> Result<LeafVerifier, Fault> {
        let number = self.gone.as_ref().map_or(0, |named| named.commit);
        let fits = match (&self.gone, &gone) {
            (None, None) => true,
            (Some(named), Some(gone)) => {
                let is_named = gone.commit() == named.commit && gone.entries() == named.entries;
                let is_its = gone
                    .origin()
                    .parse()
                    .is_ok_and(|origin: Origin| self.origin.parse().is_ok_and(|own: Origin| own.is_same_log(&origin)));
                is_named && is_its && Hash::of(gone.to_text().as_bytes()) == named.sha256
            }
            _ => false,
        };
        if !fits {
            return Err(Fault::Gone { number, why: "it is not what the commit names, or is missing" });
        }
        Ok(LeafVerifier {
            segments: self.live.into_values().collect(),
            at: 0,
            heads: self.heads,
            size: self.edge.size(),
            gone,
            edge: Edge::default(),
            own: Edge::default(),
            sound: 0,
        })
    }
}

/// Walks the leaves of the live segments in order of sequence, and what is kept of purged ones between them.
#[derive(Debug, Clone)]
pub struct LeafVerifier {
    segments: Vec<LiveSegment>,
    at: usize,
    heads: BTreeMap<u64, (u64, Hash)>,
    size: u64,
    pub(super) gone: Option<Gone>,
    edge: Edge,
    own: Edge,
    sound: u64,
}

/// Who looks on while the tree grows.
pub trait Watch {
    /// A subtree that was appended, or that it completed.
    fn node(&mut self, node: Node);
    /// The tree as it is, or was when it had fewer entries: at every size that can be known.
    fn tree(&mut self, edge: &Edge);
}

/// Looks at nothing.
impl Watch for () {
    fn node(&mut self, _: Node) {}
    fn tree(&mut self, _: &Edge) {}
}

impl LeafVerifier {
    /// The segment whose leaves are expected now; none when all were fed.
    pub fn expected(&self) -> Option<&LiveSegment> {
        self.segments.get(self.at)
    }

    /// Feeds the leaf at a sequence number of the expected segment.
    ///
    /// # Errors
    /// It is not the next, and what lies between is not gone; the head of some commit is passed and does not hold; or the
    /// segment has too many entries.
    pub fn leaf(&mut self, seq: u64, leaf: Hash, watch: &mut impl Watch) -> Result<(), Fault> {
        let Some(held) = self.segments.get(self.at) else { return Ok(()) };
        if self.own.size() == held.segment.rows {
            return Err(self.wrong_rows(held.segment.rows + 1));
        }
        let (end, number) = (held.segment.end(), held.added_by);
        let is_last = self.own.size() + 1 == held.segment.rows;
        let starts = self.own.size() == 0 && seq != held.segment.first;
        if starts || seq < self.edge.size() || seq >= end || (is_last && seq + 1 != end) {
            return Err(Fault::Coverage { number, seq: self.edge.size().max(held.segment.first) });
        }
        self.pass(seq, watch)?;
        self.own.push(leaf);
        self.push(0, leaf, watch);
        // A head at the segment's end waits until the segment's own root was compared, which says more.
        if is_last { Ok(()) } else { self.head() }
    }

    fn push(&mut self, height: u32, hash: Hash, watch: &mut impl Watch) {
        watch.node(Node { height, index: self.edge.size() >> height, hash });
        self.edge.push_node(height, hash, |node| watch.node(node));
        watch.tree(&self.edge);
    }

    /// Goes on to a position over entries that are gone.
    fn pass(&mut self, to: u64, watch: &mut impl Watch) -> Result<(), Fault> {
        let from = self.edge.size();
        if from >= to {
            return Ok(());
        }
        let number = self.segments.get(self.at).map_or(0, |held| held.added_by);
        let steps = self.gone.as_ref().and_then(|gone| gone.steps(from, to));
        for (height, hash) in steps.ok_or(Fault::Coverage { number, seq: from })? {
            if height > 0 {
                self.heads_inside(watch)?;
            }
            self.push(height, hash, watch);
            self.head()?;
        }
        Ok(())
    }

    /// Compares the heads that commits signed inside of the block that comes next, which is gone.
    fn heads_inside(&mut self, watch: &mut impl Watch) -> Result<(), Fault> {
        let Some(gone) = &self.gone else { return Ok(()) };
        let (from, number) = (self.edge.size(), gone.commit());
        for size in gone.heads_of(from / BLOCK) {
            let mut edge = self.edge.clone();
            let left = gone.left_of(size).unwrap_or_default();
            left.into_iter().for_each(|(height, hash)| edge.push_node(height, hash, |_| {}));
            watch.tree(&edge);
        }
        for (size, (by, root)) in self.heads.range(from + 1..from + BLOCK) {
            let why = "it lacks the proof of a head that a commit signed";
            let left = gone.left_of(*size).ok_or(Fault::Gone { number, why })?;
            let mut edge = self.edge.clone();
            left.into_iter().for_each(|(height, hash)| edge.push_node(height, hash, |_| {}));
            if edge.root() != *root {
                return Err(Fault::Head { number: *by, size: *size, sound: self.sound });
            }
            self.sound = *size;
        }
        Ok(())
    }

    /// Compares the tree with the head that some commit signed at this size, if one did.
    fn head(&mut self) -> Result<(), Fault> {
        let size = self.edge.size();
        if let Some((number, root)) = self.heads.get(&size) {
            if *root != self.edge.root() {
                return Err(Fault::Head { number: *number, size, sound: self.sound });
            }
            self.sound = size;
        }
        Ok(())
    }

    fn wrong_rows(&self, found: u64) -> Fault {
        let held = &self.segments[self.at.min(self.segments.len() - 1)];
        Fault::Rows { path: held.segment.path.clone(), number: held.added_by, expected: held.segment.rows, found }
    }

    /// Ends the expected segment.
    ///
    /// # Errors
    /// It had too few entries, or they do not give its root, or the commit's head at its end does not hold.
    pub fn end_segment(&mut self) -> Result<(), Fault> {
        let Some(held) = self.segments.get(self.at).cloned() else { return Ok(()) };
        let own = std::mem::take(&mut self.own);
        if own.size() != held.segment.rows {
            return Err(self.wrong_rows(own.size()));
        }
        if own.root() != held.segment.root {
            let (first, last) = (held.segment.first, held.segment.end() - 1);
            return Err(Fault::Segment { path: held.segment.path, first, last, number: held.added_by });
        }
        self.at += 1;
        self.head()
    }

    /// Ends the walk, over what is gone at the end.
    ///
    /// # Errors
    /// The newest entries are missing and not gone, or a head of some commit does not hold.
    pub fn end(&mut self, watch: &mut impl Watch) -> Result<(), Fault> {
        match self.expected() {
            Some(_) => Ok(()),
            None => self.pass(self.size, watch),
        }
    }

    /// How many of the entries so far are gone: of these a kept hash was taken, and no row read.
    pub fn gone(&self) -> u64 {
        self.gone.as_ref().map_or(0, |gone| count_below(gone.holes(), self.edge.size()))
    }

    /// The tree over all leaves fed.
    pub fn edge(&self) -> &Edge {
        &self.edge
    }
}
