//! Opening what is sealed: each stream's chain of commits is verified, and its segments are known from it.
//!
//! Where a snapshot of the chain is there and holds, only the commits after it are read; otherwise all of them.
//! Not here: what the log holds beyond ([`super::replay`]). Invariant: a stream whose chain does not hold is
//! not opened.

use crate::commits::{Reader, Stored};
use crate::delta;
use crate::error::StoreError;
use crate::layout;
use crate::limits::OPENINGS;
use crate::objects_of::list_streams;
use crate::segment::{Segment, Statistics};
use crate::snapshot::{self, ChainSnapshot};
use crate::store::{Shared, StreamKey};
use crate::stream::{Sealed, SealedGone, Stream};
use crate::turn::{self, Turn};
use futures::{StreamExt, TryStreamExt};
use ledger::commit::SignedCommit;
use ledger::name::{Origin, StreamKind, TenantId};
use ledger::tree::Hash;
use ledger::verify::{ChainVerifier, Fault};
use object_store::{ObjectStore, ObjectStoreExt};
use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

/// Verifies the chain of every stream in the store and makes the streams, some at a time.
pub(super) async fn open_streams(shared: &Arc<Shared>) -> Result<HashMap<StreamKey, Arc<Stream>>, StoreError> {
    let listed = list_streams(&shared.objects).await?;
    let open = |(tenant, kind)| open_stream(shared, tenant, kind);
    let opened: Vec<Stream> = futures::stream::iter(listed).map(open).buffer_unordered(OPENINGS).try_collect().await?;
    let opened: HashMap<_, _> = opened.into_iter().map(|stream| (StreamKey::of(&stream), Arc::new(stream))).collect();
    *shared.streams.write().unwrap_or_else(std::sync::PoisonError::into_inner) = opened.clone();
    Ok(opened)
}

/// A chain as far as it was walked, with what only a snapshot remembers.
struct Walked {
    chain: ChainVerifier,
    /// The commits that were read: with a snapshot, from the last that it covers on.
    commits: Vec<SignedCommit>,
    statistics: HashMap<String, Statistics>,
    turn: Turn,
}

async fn open_stream(shared: &Shared, tenant: TenantId, kind: StreamKind) -> Result<Stream, StoreError> {
    let first = Origin::stream(&shared.ledger, &tenant, kind, 0);
    let origin = first.at_generation(shared.log_origin.generation());
    let mut stream = Stream::new(tenant.clone(), kind, origin.clone(), Sealed::default());
    let trusted = shared.signing.now().trusted(first.as_str());
    let found = snapshot::read(&shared.objects, &stream.prefix, &trusted).await?;
    let walked = match found {
        Some(found) => walk_on(shared, &stream, found).await?,
        None => None,
    };
    let has_snapshot = walked.is_some();
    let walked = match walked {
        Some(walked) => walked,
        None => walk_all(shared, &stream, &first).await?,
    };
    let Walked { chain, commits, mut statistics, mut turn } = walked;
    let live = chain.live().map(|held| held.segment.clone());
    let segments = snapshot::segments(&stream.prefix, live, |reference| statistics.remove(&reference.path));
    let (number, last_commit) = (chain.commits(), chain.last_hash());
    catch_up_views(shared, &stream, &commits, has_snapshot, number, &segments, &mut turn).await?;
    let generation = chain.origin().parse::<Origin>()?.generation();
    if generation > origin.generation() {
        let path = stream.prefix.commits().to_string();
        return Err(StoreError::Damaged { path, why: "its commits are of a later generation than the store's owner" });
    }
    let (edge, epoch) = (chain.edge().clone(), chain.epoch());
    let gone = chain.gone().map(|gone| Arc::new(SealedGone::new(gone.clone())));
    let redacted = chain.redacted();
    let sealed = Sealed { edge, commits: number, last_commit, epoch, generation, gone, redacted, segments };
    stream = Stream::new(tenant, kind, origin, sealed);
    *stream.turn.get_mut() = turn;
    Ok(stream)
}

/// Goes on from a snapshot; `None` when it does not fit the commits, which then decide alone.
async fn walk_on(shared: &Shared, stream: &Stream, found: ChainSnapshot) -> Result<Option<Walked>, StoreError> {
    let ChainSnapshot { chain: state, statistics, removed, packed, checkpoint } = found;
    let Some(newest) = state.commits.checked_sub(1) else { return Ok(None) };
    let stored = Stored::list(&shared.objects, &stream.prefix, newest).await?;
    if stored.end() <= newest {
        let path = stream.prefix.snapshot().to_string();
        return Err(StoreError::Damaged { path, why: "it was signed over commits that are no longer there: run fsck" });
    }
    let mut reader = Reader::new(&shared.objects, &stream.prefix, &stored);
    let bytes = reader.read(newest).await?;
    if Some(Hash::of(&bytes)) != state.last_hash {
        tracing::warn!(origin = %stream.origin, "a snapshot is of another chain than the commits; these are read instead");
        return Ok(None);
    }
    let statistics = state.live.iter().map(|segment| segment.path.clone()).zip(statistics).collect();
    let trusted = shared.signing.now().trusted(&state.origin);
    let last = SignedCommit::open(&bytes, &trusted);
    let last = last.map_err(|source| {
        let fault = Box::new(Fault::Commit { number: newest, source });
        StoreError::History { origin: stream.origin.to_string(), fault }
    })?;
    let chain = ChainVerifier::resume(trusted, state).signed_by(&last);
    let turn = Turn { removed, packed, noted: newest + 1, checkpoint, ..Turn::default() };
    let mut walked = Walked { chain, commits: vec![last], statistics, turn };
    walk(&mut walked, stream, &mut reader, stored.end()).await?;
    Ok(Some(walked))
}

async fn walk_all(shared: &Shared, stream: &Stream, first: &Origin) -> Result<Walked, StoreError> {
    let stored = Stored::list(&shared.objects, &stream.prefix, 0).await?;
    let chain = ChainVerifier::new(first.as_str(), shared.signing.now().trusted(first.as_str()));
    let mut walked = Walked { chain, commits: vec![], statistics: HashMap::new(), turn: Turn::default() };
    let mut reader = Reader::new(&shared.objects, &stream.prefix, &stored);
    walk(&mut walked, stream, &mut reader, stored.end()).await?;
    for (first, last) in &stored.packs {
        if *first == walked.turn.packed {
            walked.turn.packed = last + 1;
        }
    }
    Ok(walked)
}

/// Verifies the commits from where the chain stands up to `end`.
async fn walk(walked: &mut Walked, stream: &Stream, reader: &mut Reader<'_>, end: u64) -> Result<(), StoreError> {
    for number in walked.chain.commits()..end {
        let bytes = reader.read(number).await?;
        let history = |fault| StoreError::History { origin: stream.origin.to_string(), fault: Box::new(fault) };
        let signed = walked.chain.commit(&bytes).map_err(history)?;
        walked.turn.removed.extend(turn::removed(signed.commit()));
        walked.commits.push(signed);
    }
    Ok(())
}

/// Writes what the Delta view lacks: a stop or a failure came between a commit and its entry, or somebody removed
/// the view to have it made anew.
async fn catch_up_views(
    shared: &Shared,
    stream: &Stream,
    walked: &[SignedCommit],
    has_snapshot: bool,
    commits: u64,
    live: &[Arc<Segment>],
    turn: &mut Turn,
) -> Result<(), StoreError> {
    let Some(newest) = commits.checked_sub(1) else { return Ok(()) };
    // Usually all is there: that takes one look a commit, and no listing.
    let mut lacks_any = !has_snapshot;
    if has_snapshot {
        for signed in walked {
            let path = stream.prefix.delta(signed.commit().number);
            match shared.objects.head(&path).await {
                Ok(_) => {}
                Err(object_store::Error::NotFound { .. }) => lacks_any = true,
                Err(source) => return Err(StoreError::objects(&path)(source)),
            }
        }
    }
    if !lacks_any {
        return Ok(());
    }
    let shown = list_views(shared, stream, turn).await?;
    let covered = turn.checkpoint.map_or(0, |version| version + 1);
    let lacks = |number: &u64| *number >= covered && !shown.contains(number);
    for signed in walked.iter().filter(|signed| lacks(&signed.commit().number)) {
        catch_up_view(shared, stream, signed.commit(), live).await?;
    }
    let first = walked.first().map_or(commits, |signed| signed.commit().number);
    if (covered..first).any(|number| lacks(&number)) {
        // What is missing was not read: from here on a checkpoint stands for it.
        delta::rebuild(shared, stream, newest, live, &turn.removed).await?;
        turn.checkpoint = Some(newest);
    }
    Ok(())
}

/// The versions of the view that are there, and its newest checkpoint.
async fn list_views(shared: &Shared, stream: &Stream, turn: &mut Turn) -> Result<BTreeSet<u64>, StoreError> {
    let folder = stream.prefix.views();
    let listed: Vec<_> =
        shared.objects.list(Some(&folder)).try_collect().await.map_err(StoreError::objects(&folder))?;
    let paths = || listed.iter().map(|meta| &meta.location);
    turn.checkpoint = paths().filter_map(|path| stream.prefix.checkpoint_version(path)).max();
    let numbered = paths().filter_map(|path| Some((layout::number_of(path)?, path)));
    Ok(numbered.filter(|(version, path)| stream.prefix.delta(*version) == **path).map(|(version, _)| version).collect())
}

/// Writes the Delta entry of a commit that has none. A segment that was removed since is shown without its bounds.
async fn catch_up_view(
    shared: &Shared,
    stream: &Stream,
    commit: &ledger::Commit,
    live: &[Arc<Segment>],
) -> Result<(), StoreError> {
    let mut added = Vec::new();
    for reference in &commit.adds {
        let location = stream.prefix.below(&reference.path);
        let at = live.binary_search_by_key(&reference.first, |segment| segment.reference.first);
        let statistics = match at.is_ok_and(|at| live[at].reference == *reference) {
            true => match Statistics::read(&shared.content, &location, reference.bytes).await {
                // The bounds of a segment whose key is not to be had are left out of the view.
                Err(StoreError::Key(_)) => Statistics::default(),
                read => read?,
            },
            false => Statistics::default(),
        };
        added.push(Segment { reference: reference.clone(), location, statistics });
    }
    delta::show(shared, stream, commit, &added.iter().collect::<Vec<_>>()).await
}
