//! Verification of a whole stream, one piece at a time, that names the place of the fault.
//!
//! First the chain of commits ([`ChainVerifier`]), then the leaves of the live segments in order
//! ([`LeafVerifier`]), which must give the root of each segment and of each commit's head on the way.
//! Not here: reading objects and recomputing leaves from rows (`ledger-store`).
//!
//! Invariant: what has been fed without a fault is proven; a fault says what is still sound.

mod leaves;

pub use leaves::{LeafVerifier, Watch};

use crate::commit::{CommitError, SegmentRef, SignedCommit};
use crate::gone::GoneRef;
use crate::handover::KeyHistory;
use crate::key::VerifierKey;
use crate::name::Origin;
use crate::tree::{Edge, Hash};
use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};

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
    /// What is kept of purged entries does not stand for them.
    #[error("what commit {number} kept of purged entries does not hold: {why}")]
    Gone {
        /// The commit that names it.
        number: u64,
        /// What is wrong with it.
        why: &'static str,
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

impl Fault {
    /// Whether nothing is known to be wrong: a commit is of a later form than this program reads.
    pub fn is_newer(&self) -> bool {
        matches!(self, Self::Commit { source: CommitError::Newer, .. })
    }
}

/// A segment and the commit that added it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LiveSegment {
    /// The segment.
    pub segment: SegmentRef,
    /// The number of the commit that added it.
    pub added_by: u64,
}

/// Where a chain stands after some commit.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct ChainState {
    /// The origin of the last commit.
    pub origin: String,
    /// How many commits there are: the number of the next.
    pub commits: u64,
    /// SHA-256 of the last.
    pub last_hash: Option<Hash>,
    /// The highest epoch seen.
    pub epoch: u64,
    /// The tree at the last sealed entry.
    pub edge: Edge,
    /// What is gone.
    pub gone: Option<GoneRef>,
    /// How many entries its redactions took sections of, one after the other.
    pub redacted: u64,
    /// The live segments, ascending.
    pub live: Vec<SegmentRef>,
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
    /// Oldest first.
    trusted: Vec<VerifierKey>,
    /// Who signed the last commit.
    signer: Option<VerifierKey>,
    breaks: Vec<Break>,
    next: u64,
    previous: Option<Hash>,
    epoch: u64,
    edge: Edge,
    gone: Option<GoneRef>,
    redacted: u64,
    /// Entries of the live segments.
    rows: u64,
    live: BTreeMap<u64, LiveSegment>,
    /// Where each live segment begins, by path.
    firsts: HashMap<String, u64>,
    heads: BTreeMap<u64, (u64, Hash)>,
    /// Whether it keeps count of segments.
    counts: bool,
}

impl ChainVerifier {
    /// A verifier for the stream `origin`, whose commits must be signed by one of `trusted`: under that origin, or
    /// under that of a later generation once the chain has gone over to it. `trusted` are oldest first: once one has
    /// signed, none before it may.
    pub fn new(origin: &str, trusted: Vec<VerifierKey>) -> Self {
        let state = ChainState { origin: origin.into(), ..ChainState::default() };
        Self::resume(trusted, state)
    }

    /// A verifier that goes on after `state`, which somebody trusted found to be where a chain stood. It knows
    /// no head of before, nor which commit added a segment, and names the last for all: only a chain that was
    /// walked from commit 0 on proves the leaves. `trusted` are under the state's origin.
    pub fn resume(trusted: Vec<VerifierKey>, state: ChainState) -> Self {
        let added_by = state.commits.saturating_sub(1);
        let firsts = state.live.iter().map(|segment| (segment.path.clone(), segment.first)).collect();
        let rows = state.live.iter().map(|segment| segment.rows).sum();
        let ChainState { origin, commits: next, last_hash: previous, epoch, edge, gone, redacted, live } = state;
        let live = live.into_iter().map(|segment| (segment.first, LiveSegment { segment, added_by })).collect();
        let (signer, breaks, heads) = Default::default();
        Self {
            origin,
            trusted,
            signer,
            breaks,
            next,
            previous,
            epoch,
            edge,
            gone,
            redacted,
            rows,
            live,
            firsts,
            heads,
            counts: true,
        }
    }

    /// A verifier that goes on after a commit that was found to hold earlier, of which only itself is known: number,
    /// predecessor, signature, epoch and head of what follows are verified, and not that segments cover the stream, which
    /// takes a walk from commit 0 on. `trusted` are under the commit's origin.
    pub fn follow(trusted: Vec<VerifierKey>, after: &SignedCommit) -> Self {
        let commit = after.commit();
        let state = ChainState {
            origin: commit.origin.clone(),
            commits: commit.number + 1,
            last_hash: Some(after.hash()),
            epoch: commit.epoch,
            edge: commit.edge.clone(),
            ..ChainState::default()
        };
        Self { counts: false, ..Self::resume(trusted, state).signed_by(after) }
    }

    /// The same, told the commit at which it stands: what follows is signed by the key of that one, or by a later one.
    pub fn signed_by(self, last: &SignedCommit) -> Self {
        Self { signer: Some(last.signer().clone()), ..self }
    }

    /// Where the chain stands.
    pub fn state(&self) -> ChainState {
        ChainState {
            origin: self.origin.clone(),
            commits: self.next,
            last_hash: self.previous,
            epoch: self.epoch,
            edge: self.edge.clone(),
            gone: self.gone.clone(),
            redacted: self.redacted,
            live: self.live.values().map(|held| held.segment.clone()).collect(),
        }
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
        let is_followed = |last: &VerifierKey| KeyHistory::goes_back(&trusted, &last.under(&origin), signed.signer());
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
        } else if commit.edge.size() == self.edge.size() && commit.edge != self.edge {
            Some("its head is another one of the same size")
        } else if self.signer.as_ref().is_some_and(is_followed) {
            Some("it is signed by a key that another had taken the place of (keys are given oldest first)")
        } else {
            None
        };
        if let Some(why) = misfit {
            return Err(Fault::Chain { number, why });
        }
        if self.counts {
            self.replace_segments(&signed)?;
        }
        self.heads.entry(commit.edge.size()).or_insert((number, commit.edge.root()));
        (self.next, self.previous, self.epoch) = (number + 1, Some(signed.hash()), commit.epoch);
        self.edge = commit.edge.clone();
        // A stream that had nothing sealed before has nothing that could break.
        self.breaks.extend(step.filter(|step| step.number > 0));
        (self.origin, self.trusted, self.signer) = (origin, trusted, Some(signed.signer().clone()));
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

    /// Takes over what a commit adds and removes. Before it the live segments and what is gone cover everything once; so
    /// they do after it if what it adds covers just what it removes and what is new, but for what it purges. Looking at
    /// no other segment keeps a long chain from being quadratic.
    fn replace_segments(&mut self, signed: &SignedCommit) -> Result<(), Fault> {
        let commit = signed.commit();
        let number = commit.number;
        // What becomes free, and whether it may stay free.
        let mut removed: BTreeMap<u64, (u64, bool)> = BTreeMap::new();
        let purged = commit.erasure.as_ref().and_then(|erasure| erasure.gone());
        let erased = commit.erasure.iter().flat_map(|erasure| &erasure.removes).map(|path| (path, purged.is_some()));
        let mut rows = self.rows;
        for (path, may_stay) in commit.removes.iter().map(|path| (path, false)).chain(erased) {
            let known = self.firsts.get(path).and_then(|first| self.live.get(first));
            let is_new = known.is_some_and(|held| {
                rows -= held.segment.rows;
                removed.insert(held.segment.first, (held.segment.end(), may_stay)).is_none()
            });
            if !is_new {
                return Err(Fault::Chain { number, why: "it removes a segment that is not there" });
            }
        }
        let (sealed, size) = (self.edge.size(), commit.edge.size());
        if sealed < size {
            removed.insert(sealed, (size, false));
        }
        covers(&removed, commit.adds.iter().map(|segment| (segment.first, segment.end())), number)?;
        let mut added = HashSet::new();
        let is_there = |path: &String| self.firsts.get(path).is_some_and(|first| !removed.contains_key(first));
        if commit.adds.iter().any(|segment| is_there(&segment.path) || !added.insert(&segment.path)) {
            return Err(Fault::Chain { number, why: "it adds a segment that is there already" });
        }
        rows = commit.adds.iter().fold(rows, |rows, segment| rows.saturating_add(segment.rows));
        let gone = purged.or(self.gone.as_ref());
        let before = self.gone.as_ref().map_or(0, |gone| gone.entries);
        let now = gone.map_or(0, |gone| gone.entries);
        if rows.checked_add(now) != Some(size) || (purged.is_some() && now <= before) {
            return Err(Fault::Chain { number, why: "entries are missing, and it does not say that they are gone" });
        }
        (self.gone, self.rows) = (gone.cloned(), rows);
        let redacted = commit.erasure.as_ref().map_or(0, |erasure| erasure.redacted());
        self.redacted = self.redacted.saturating_add(redacted);
        for path in commit.removed() {
            if let Some(first) = self.firsts.remove(path) {
                self.live.remove(&first);
            }
        }
        for segment in &commit.adds {
            self.firsts.insert(segment.path.clone(), segment.first);
            self.live.insert(segment.first, LiveSegment { segment: segment.clone(), added_by: number });
        }
        Ok(())
    }

    /// What is gone of the stream, as the newest purge says.
    pub fn gone(&self) -> Option<&GoneRef> {
        self.gone.as_ref()
    }

    /// How many entries its redactions took sections of, one after the other: no more entries can lack sections.
    pub fn redacted(&self) -> u64 {
        self.redacted
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
}

/// Whether added ranges, ascending, stand on what is free and leave nothing of it free that may not stay so.
fn covers(
    free: &BTreeMap<u64, (u64, bool)>,
    added: impl Iterator<Item = (u64, u64)>,
    number: u64,
) -> Result<(), Fault> {
    let mut free: VecDeque<(u64, u64, bool)> = free.iter().map(|(first, (end, may))| (*first, *end, *may)).collect();
    for (first, end) in added {
        let mut at = first;
        while at < end {
            // A part of the segment stands on what is free from here on, or on what it must not.
            let Some((from, to, may_stay)) = free.pop_front() else { return Err(Fault::Coverage { number, seq: at }) };
            // What is purged before it, and between what it stands on, stays free.
            if may_stay && to <= at {
                continue;
            }
            if from != at && !(may_stay && from < at) {
                return Err(Fault::Coverage { number, seq: at.min(from) });
            }
            at = to.min(end);
            if at < to {
                free.push_front((at, to, may_stay));
            }
        }
    }
    match free.into_iter().find(|(_, _, may_stay)| !may_stay) {
        Some((seq, _, _)) => Err(Fault::Coverage { number, seq }),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests;
