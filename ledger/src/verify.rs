//! Verification of a whole stream, one piece at a time, that names the place of the fault.
//!
//! First the chain of commits ([`ChainVerifier`]), then the leaves of the live segments in order
//! ([`LeafVerifier`]), which must give the root of each segment and of each commit's head on the way.
//! Not here: reading objects and recomputing leaves from rows (`ledger-store`).
//!
//! Invariant: what has been fed without a fault is proven; a fault says what is still sound.

use crate::commit::{CommitError, SegmentRef, SignedCommit};
use crate::key::VerifierKey;
use crate::name::Origin;
use crate::tree::{Edge, Hash};
use std::collections::BTreeMap;

/// What is wrong with a history, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// A commit's own bytes do not hold.
    #[error("commit {number} does not hold")]
    Commit {
        /// Which commit was expected there.
        number: u64,
        /// What is wrong with it.
        #[source]
        source: CommitError,
    },
    /// A commit stands in the wrong place: another number, stream, epoch, or predecessor.
    #[error("commit {number} does not follow the one before it: {why}")]
    Chain {
        /// Which commit was expected there.
        number: u64,
        /// What does not fit.
        why: &'static str,
    },
    /// The segments that a commit leaves do not cover the stream without gap or overlap.
    #[error("commit {number} leaves a gap or an overlap at sequence {seq}")]
    Coverage {
        /// Which commit.
        number: u64,
        /// Where.
        seq: u64,
    },
    /// A segment's leaves do not give its root.
    #[error("segment {path} (sequence {first} to {last}) does not hold what commit {number} recorded")]
    Segment {
        /// Which segment.
        path: String,
        /// Its first sequence number.
        first: u64,
        /// Its last sequence number.
        last: u64,
        /// The commit that added it.
        number: u64,
    },
    /// A segment has more or fewer entries than its commit says.
    #[error("segment {path} holds {found} entries, commit {number} recorded {expected}")]
    Rows {
        /// Which segment.
        path: String,
        /// The commit that added it.
        number: u64,
        /// Entries recorded.
        expected: u64,
        /// Entries found.
        found: u64,
    },
    /// The leaves up to a commit's head do not give its root.
    #[error(
        "the entries below sequence {size} do not give the root that commit {number} signed; they do up to sequence {sound}"
    )]
    Head {
        /// The commit whose head differs.
        number: u64,
        /// That head's size.
        size: u64,
        /// The largest head below it that holds.
        sound: u64,
    },
}

/// A segment and the commit that added it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveSegment {
    /// The segment.
    pub segment: SegmentRef,
    /// The number of the commit that added it.
    pub added_by: u64,
}

/// A declared break: the stream went on in a later generation, without the log that it had.
///
/// What was acknowledged above `size` and not sealed is lost, and was said to be. It is no fork: nothing of the
/// earlier generation was ever signed differently by the later one, whose heads have another origin.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Break {
    /// The first commit of the later generation.
    pub number: u64,
    /// The origin that ended.
    pub from: Origin,
    /// The origin that goes on.
    pub to: Origin,
    /// Entries that the earlier generation leaves.
    pub size: u64,
    /// The root over them.
    pub root: Hash,
}

/// Walks commits from number 0 upward.
#[derive(Debug, Clone)]
pub struct ChainVerifier {
    origin: String,
    trusted: Vec<VerifierKey>,
    breaks: Vec<Break>,
    next: u64,
    previous: Option<Hash>,
    epoch: u64,
    edge: Edge,
    live: BTreeMap<u64, LiveSegment>,
    heads: BTreeMap<u64, (u64, Hash)>,
}

impl ChainVerifier {
    /// A verifier for the stream `origin`, whose commits must be signed by one of `trusted`: under that origin, or
    /// under that of a later generation once the chain has gone over to it.
    pub fn new(origin: &str, trusted: Vec<VerifierKey>) -> Self {
        let (edge, live, heads) = Default::default();
        Self { origin: origin.into(), trusted, breaks: vec![], next: 0, previous: None, epoch: 0, edge, live, heads }
    }

    /// The break that a commit with this stated origin would be, if it is of a later generation of this stream.
    fn step(&self, stated: Option<Origin>) -> Option<Break> {
        let (from, to) = (self.origin.parse::<Origin>().ok()?, stated?);
        let is_later = from.is_same_log(&to) && to.generation() > from.generation();
        is_later.then(|| Break { number: self.next, from, to, size: self.edge.size(), root: self.edge.root() })
    }

    /// Verifies the next commit.
    ///
    /// # Errors
    /// The fault, and nothing of the commit is taken over.
    pub fn commit(&mut self, bytes: &[u8]) -> Result<SignedCommit, Fault> {
        let number = self.next;
        let step = self.step(SignedCommit::stated_origin(bytes));
        let origin = step.as_ref().map_or(self.origin.as_str(), |step| step.to.as_str()).to_string();
        // Only the ledger's own kind of key is believed under another generation's name, never a witness's.
        let own = self.trusted.iter().filter(|key| key.under(key.name()) == **key);
        let trusted: Vec<VerifierKey> = match step {
            Some(_) => own.map(|key| key.under(&origin)).collect(),
            None => self.trusted.clone(),
        };
        let signed = SignedCommit::open(bytes, &trusted).map_err(|source| Fault::Commit { number, source })?;
        let commit = signed.commit();
        let misfit = if commit.origin != origin {
            Some("it is of another stream")
        } else if commit.number != number {
            Some("it has another number")
        } else if commit.previous != self.previous {
            Some("it names another predecessor: one of the two was replaced")
        } else if commit.epoch < self.epoch {
            Some("its epoch is lower")
        } else if commit.edge.size() < self.edge.size() {
            Some("its head is smaller")
        } else {
            None
        };
        if let Some(why) = misfit {
            return Err(Fault::Chain { number, why });
        }
        if commit.removes.is_empty() {
            self.append_segments(&signed)?;
        } else {
            self.live = self.segments_after(&signed)?;
        }
        self.heads.entry(commit.edge.size()).or_insert((number, commit.edge.root()));
        (self.next, self.previous, self.epoch) = (number + 1, Some(signed.hash()), commit.epoch);
        self.edge = commit.edge.clone();
        // A stream that had nothing sealed before has nothing that could break.
        self.breaks.extend(step.filter(|step| step.number > 0));
        (self.origin, self.trusted) = (origin, trusted);
        Ok(signed)
    }

    /// The origin of the last commit.
    pub fn origin(&self) -> &str {
        &self.origin
    }

    /// The declared breaks on the way, in order.
    pub fn breaks(&self) -> &[Break] {
        &self.breaks
    }

    /// Takes over what a commit adds that removes nothing: such commits are nearly all, and looking at every
    /// live segment for each would make a long chain quadratic.
    fn append_segments(&mut self, signed: &SignedCommit) -> Result<(), Fault> {
        let commit = signed.commit();
        let number = commit.number;
        let mut covered = self.edge.size();
        for segment in &commit.adds {
            if segment.first != covered {
                return Err(Fault::Coverage { number, seq: covered });
            }
            covered = segment.end();
        }
        if covered != commit.edge.size() {
            return Err(Fault::Coverage { number, seq: covered });
        }
        let added = commit.adds.iter().map(|segment| LiveSegment { segment: segment.clone(), added_by: number });
        self.live.extend(added.map(|held| (held.segment.first, held)));
        Ok(())
    }

    fn segments_after(&self, signed: &SignedCommit) -> Result<BTreeMap<u64, LiveSegment>, Fault> {
        let commit = signed.commit();
        let number = commit.number;
        let mut live = self.live.clone();
        for path in &commit.removes {
            let before = live.len();
            live.retain(|_, held| held.segment.path != *path);
            if live.len() == before {
                return Err(Fault::Chain { number, why: "it removes a segment that is not there" });
            }
        }
        for segment in &commit.adds {
            let seq = segment.first;
            let new = LiveSegment { segment: segment.clone(), added_by: number };
            if live.insert(seq, new).is_some() {
                return Err(Fault::Coverage { number, seq });
            }
        }
        let mut covered = 0;
        for held in live.values() {
            if held.segment.first != covered {
                return Err(Fault::Coverage { number, seq: covered });
            }
            covered = held.segment.end();
        }
        if covered != commit.edge.size() {
            return Err(Fault::Coverage { number, seq: covered });
        }
        Ok(live)
    }

    /// How many commits were verified.
    pub fn commits(&self) -> u64 {
        self.next
    }

    /// SHA-256 of the last verified commit.
    pub fn last_hash(&self) -> Option<Hash> {
        self.previous
    }

    /// The tree at the last verified commit.
    pub fn edge(&self) -> &Edge {
        &self.edge
    }

    /// The highest epoch seen.
    pub fn epoch(&self) -> u64 {
        self.epoch
    }

    /// The segments that make up the stream now, ascending.
    pub fn live(&self) -> impl Iterator<Item = &LiveSegment> {
        self.live.values()
    }

    /// Goes on to the leaves.
    pub fn into_leaves(self) -> LeafVerifier {
        LeafVerifier {
            segments: self.live.into_values().collect(),
            at: 0,
            heads: self.heads,
            edge: Edge::default(),
            own: Edge::default(),
            sound: 0,
        }
    }
}

/// Walks the leaves of the live segments in order of sequence.
#[derive(Debug, Clone)]
pub struct LeafVerifier {
    segments: Vec<LiveSegment>,
    at: usize,
    heads: BTreeMap<u64, (u64, Hash)>,
    edge: Edge,
    own: Edge,
    sound: u64,
}

impl LeafVerifier {
    /// The segment whose leaves are expected now; none when all were fed.
    pub fn expected(&self) -> Option<&LiveSegment> {
        self.segments.get(self.at)
    }

    /// Feeds the next leaf of the expected segment.
    ///
    /// # Errors
    /// The head of some commit is passed and does not hold, or the segment has too many entries.
    pub fn leaf(&mut self, leaf: Hash) -> Result<(), Fault> {
        let Some(held) = self.segments.get(self.at) else { return Ok(()) };
        if self.own.size() == held.segment.rows {
            return Err(self.wrong_rows(held.segment.rows + 1));
        }
        let last = self.own.size() + 1 == held.segment.rows;
        self.own.push(leaf);
        self.edge.push(leaf);
        // A head at the segment's end waits until the segment's own root was compared, which says more.
        if last { Ok(()) } else { self.head() }
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

    /// The tree over all leaves fed.
    pub fn edge(&self) -> &Edge {
        &self.edge
    }
}

#[cfg(test)]
mod tests;
