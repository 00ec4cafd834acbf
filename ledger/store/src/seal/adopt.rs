//! Taking over commits that a writer made before it was fenced, of entries that its successor has unsealed.
//!
//! Not here: starting from what is sealed ([`crate::recover`]), which adopts all that it finds.
//!
//! Invariant: a commit is adopted only when it extends the chain as it is known, its epoch is lower than ours, and
//! its head is that of our own tree at its size. So it says nothing that we would not have said.

use crate::delta;
use crate::error::StoreError;
use crate::precheck;
use crate::segment::{self, Segment, Statistics};
use crate::store::Shared;
use crate::stream::{Sealed, Stream, View};
use crate::turn::{self, Turn};
use ledger::commit::{Commit, SegmentRef, SignedCommit};
use ledger::leaf::id_fingerprint;
use ledger::verify::Fault;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// Takes over the commits that follow the last one known, and answers through which position they seal.
///
/// # Errors
/// One does not follow or contradicts what is durable here; or the store does not answer.
pub(super) async fn adopt(shared: &Shared, stream: &Stream, turn: &mut Turn, epoch: u64) -> Result<u64, StoreError> {
    loop {
        let view = stream.view();
        let number = view.sealed.commits;
        let bytes = match segment::fetch(&shared.objects, &stream.prefix.commit(number)).await {
            Ok(bytes) => bytes,
            Err(StoreError::Objects { source: object_store::Error::NotFound { .. }, .. }) => {
                stream.tried.store(0, Ordering::Release);
                return Ok(view.sealed.edge.size());
            }
            Err(error) => return Err(error),
        };
        let history = |fault| StoreError::History { origin: stream.origin.to_string(), fault: Box::new(fault) };
        let trusted = shared.signing.now().trusted(stream.origin.as_str());
        let signed = SignedCommit::open(&bytes, &trusted);
        let signed = signed.map_err(|source| history(Fault::Commit { number, source }))?;
        if signed.commit().epoch > epoch {
            return Err(StoreError::Fenced { epoch: signed.commit().epoch });
        }
        let added = fits(&view, &signed).map_err(|why| history(Fault::Chain { number, why }))?;
        take(shared, stream, turn, &view, &signed, added).await?;
    }
}

/// The one segment of a commit that fits.
fn fits<'c>(view: &View, signed: &'c SignedCommit) -> Result<&'c SegmentRef, &'static str> {
    let Commit { number, previous, adds, removes, erasure, edge, epoch, .. } = signed.commit();
    let follows = *number == view.sealed.commits && *previous == view.sealed.last_commit;
    if !follows || *epoch < view.sealed.epoch {
        return Err("it does not extend the chain as it was at the start");
    }
    let [added] = &adds[..] else { return Err("it adds not one segment; restart the service to take it over") };
    if erasure.is_some() {
        return Err("it takes content away; restart the service to take it over");
    }
    if !removes.is_empty() {
        let inside = |held: &&Arc<Segment>| (added.first..added.end()).contains(&held.reference.first);
        let inputs: Vec<&SegmentRef> =
            view.sealed.segments.iter().filter(inside).map(|segment| &segment.reference).collect();
        let covers = inputs.first().is_some_and(|first| first.first == added.first)
            && inputs.last().is_some_and(|last| last.end() == added.end());
        let is_merge = covers && inputs.iter().map(|input| &input.path).eq(removes.iter()) && *edge == view.sealed.edge;
        return if is_merge { Ok(added) } else { Err("it removes more than it merges; restart the service") };
    }
    if added.first != view.sealed.edge.size() || added.end() != edge.size() {
        return Err("it does more than seal; restart the service to take it over");
    }
    let mut ours = view.sealed.edge.clone();
    let leaves = view.tail.iter().flat_map(|chunk| chunk.leaves());
    leaves.take(added.rows as usize).for_each(|leaf| ours.push(leaf));
    if ours != *edge {
        return Err("its head is not that of the durable entries here: there are two histories");
    }
    Ok(added)
}

async fn take(
    shared: &Shared,
    stream: &Stream,
    turn: &mut Turn,
    view: &View,
    signed: &SignedCommit,
    added: &SegmentRef,
) -> Result<(), StoreError> {
    let commit = signed.commit();
    let location = stream.prefix.below(&added.path);
    let statistics = Statistics::read(&shared.content, &location, added.bytes).await?;
    let segment = Arc::new(Segment { reference: added.clone(), location, statistics });
    if !commit.removes.is_empty() {
        turn::show(shared, stream, turn, signed, vec![segment], None).await;
        return Ok(());
    }
    let entries = view.tail.iter().flat_map(|chunk| &chunk.entries).take(added.rows as usize);
    let ids: Vec<u64> = entries.map(|entry| id_fingerprint(entry.draft.event_id())).collect();
    let runs = precheck::with_run(shared, stream, added, commit.time, &ids)?;
    let mut segments = view.sealed.segments.clone();
    segments.push(Arc::clone(&segment));
    let sealed = Sealed {
        edge: commit.edge.clone(),
        commits: commit.number + 1,
        last_commit: Some(signed.hash()),
        epoch: commit.epoch,
        generation: stream.origin.generation(),
        gone: view.sealed.gone.clone(),
        redacted: view.sealed.redacted,
        segments,
    };
    let freed = stream.sealed(sealed, runs);
    shared.unsealed_bytes.fetch_sub(freed, Ordering::Relaxed);
    tracing::info!(tenant = %stream.tenant, stream = %stream.kind, commit = commit.number, epoch = commit.epoch,
        "took over a commit of a writer that was fenced");
    if let Err(error) = delta::show(shared, stream, commit, &[&segment]).await {
        let error = &error as &dyn std::error::Error;
        tracing::warn!(tenant = %stream.tenant, stream = %stream.kind, error, "the delta view is behind until restart");
    }
    Ok(())
}
