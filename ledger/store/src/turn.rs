//! Whose turn it is to add a commit to a stream, and what only whoever has the turn knows.
//!
//! Seals and merges of one stream run on different threads; the number of the next commit belongs to the one that
//! holds [`Turn`]. Not here: what they commit ([`crate::seal`], [`crate::compact`]).
//!
//! Invariant: before a new commit is made, one whose outcome is not known is settled.

use crate::delta;
use crate::error::StoreError;
use crate::objects::create;
use crate::precheck;
use crate::segment::Segment;
use crate::store::Shared;
use crate::stream::{Replaced, SealedGone, Stream};
use bytes::Bytes;
use ledger::commit::{Commit, SignedCommit};
use std::sync::atomic::Ordering;
use std::sync::{Arc, Weak};

/// The right to add a commit to a stream, with what is kept beside its chain.
#[derive(Debug, Default)]
pub(crate) struct Turn {
    /// The commit of a merge or erasure that was to be created, while it is not known whether it was.
    pub unsettled: Option<Unsettled>,
    /// The segment of a seal that was tried, where the same entries would give other bytes: it is encrypted.
    pub tried: Option<(Segment, Bytes)>,
    /// Segments that commits removed and whose files are still there, oldest first.
    pub removed: Vec<Removed>,
    /// Commits below this number are in packs.
    pub packed: u64,
    /// How many commits the stored snapshot of the chain covers.
    pub noted: u64,
    /// The version of the Delta view's newest checkpoint.
    pub checkpoint: Option<u64>,
    /// Whether what dead writers left was looked for.
    pub swept: bool,
}

/// A segment that a commit removed.
#[derive(Debug, Clone)]
pub(crate) struct Removed {
    /// Its path below the stream's folder.
    pub path: String,
    /// When the commit that removed it was made, in microseconds.
    pub at: i64,
    /// Whether some of its content went: until its file is deleted, it can be brought back by hand.
    pub is_erased: bool,
    /// Who may still read it; nobody after a restart.
    pub holders: Vec<Weak<Segment>>,
}

impl Removed {
    /// Whether a reader of this process still holds the segment.
    pub(crate) fn is_held(&self) -> bool {
        self.holders.iter().any(|holder| holder.strong_count() > 0)
    }
}

/// The commit of a merge or erasure before its outcome is known.
#[derive(Debug)]
pub(crate) struct Unsettled {
    pub signed: SignedCommit,
    /// What it adds, ascending.
    pub segments: Vec<Arc<Segment>>,
    /// What is gone with it, if it is a purge.
    pub gone: Option<Arc<SealedGone>>,
}

/// What a commit removes, held by nobody that is known.
pub(crate) fn removed(commit: &Commit) -> impl Iterator<Item = Removed> {
    let one = |path: &String, is_erased| Removed { path: path.clone(), at: commit.time, is_erased, holders: vec![] };
    let erased = commit.erasure.iter().flat_map(|erasure| &erasure.removes);
    commit.removes.iter().map(move |path| one(path, false)).chain(erased.map(move |path| one(path, true)))
}

/// What became of a commit that was not settled.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Settled {
    /// There was none.
    Nothing,
    /// It stands, and readers see it.
    Done,
    /// Its number belongs to another commit; it never will be.
    Lost,
}

/// Creates the commit of a merge or erasure, or finds out that it was created, and shows it.
///
/// # Errors
/// The object store failed: the outcome is not known, and the next one whose turn it is settles it with the very
/// same bytes.
pub(crate) async fn settle(shared: &Shared, stream: &Stream, turn: &mut Turn) -> Result<Settled, StoreError> {
    let Some(Unsettled { signed, segments, gone }) = &turn.unsettled else { return Ok(Settled::Nothing) };
    let is_erasure = signed.commit().erasure.is_some();
    let settled = || {
        if is_erasure {
            shared.unsettled_erasures.fetch_sub(1, Ordering::AcqRel);
        }
    };
    let commit = signed.commit();
    // 1. Commit. Died before it: the inputs are live, and the new objects are such that no commit names. Died
    //    after it: recovery finds the new segments live and the inputs among what is to be deleted.
    match create(&shared.objects, &stream.prefix.commit(commit.number), signed.bytes().to_vec().into()).await {
        Ok(()) => {}
        Err(StoreError::Objects { source: object_store::Error::AlreadyExists { .. }, path }) => {
            tracing::warn!(path, "another commit has the number of a merge's or erasure's, which is abandoned");
            turn.unsettled = None;
            settled();
            return Ok(Settled::Lost);
        }
        Err(error) => return Err(error),
    }
    // 2. Show it. Died before it: recovery shows it.
    let (signed, segments, gone) = (signed.clone(), segments.clone(), gone.clone());
    show(shared, stream, turn, &signed, segments, gone).await;
    turn.unsettled = None;
    settled();
    Ok(Settled::Done)
}

/// Shows a merge or erasure that stands: readers who come now get the new segments; who holds the inputs reads them to
/// the end.
pub(crate) async fn show(
    shared: &Shared,
    stream: &Stream,
    turn: &mut Turn,
    signed: &SignedCommit,
    segments: Vec<Arc<Segment>>,
    gone: Option<Arc<SealedGone>>,
) {
    let commit = signed.commit();
    let replaced = Replaced {
        commits: commit.number + 1,
        last_commit: Some(signed.hash()),
        epoch: commit.epoch,
        generation: stream.origin.generation(),
        removed: commit.removed().cloned().collect(),
        segments: segments.clone(),
        gone,
        redacted: commit.erasure.as_ref().map_or(0, |erasure| erasure.redacted()),
    };
    let holders = stream.replaced(replaced);
    let held_by = |path: &str| {
        let is_its = |holder: &&Weak<Segment>| holder.upgrade().is_some_and(|held| held.reference.path == path);
        holders.iter().filter(is_its).cloned().collect()
    };
    turn.removed.extend(removed(commit).map(|one| Removed { holders: held_by(&one.path), ..one }));
    // Ids of what is gone are looked for no more. That they still are would cost a look, and nothing else.
    if commit.erasure.as_ref().is_some_and(|erasure| erasure.gone().is_some())
        && let Err(error) = precheck::forget(shared, stream).await
    {
        let error = &error as &dyn std::error::Error;
        tracing::warn!(tenant = %stream.tenant, stream = %stream.kind, error, "ids of purged entries are kept until restart");
    }
    // Then to other engines. Died before it: the view is caught up at the next start.
    let shown: Vec<&Segment> = segments.iter().map(Arc::as_ref).collect();
    if let Err(error) = delta::show(shared, stream, commit, &shown).await {
        let error = &error as &dyn std::error::Error;
        tracing::warn!(tenant = %stream.tenant, stream = %stream.kind, error, "the delta view is behind until restart");
    }
}
