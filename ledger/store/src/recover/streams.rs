//! Opening what is sealed: each stream's chain of commits is verified, and its segments are known from it.
//!
//! Not here: what the log holds beyond ([`super::replay`]). Invariant: a stream whose chain does not hold is
//! not opened.

use crate::delta;
use crate::error::StoreError;
use crate::objects_of::{list_numbers, list_streams};
use crate::segment::{self, Segment, Statistics};
use crate::store::{Shared, StreamKey};
use crate::stream::{Sealed, Stream};
use ledger::name::{Origin, StreamKind, TenantId};
use ledger::verify::ChainVerifier;
use std::collections::HashMap;
use std::sync::Arc;

/// Verifies the chain of every stream in the store and makes the streams.
pub(super) async fn open_streams(shared: &Arc<Shared>) -> Result<HashMap<StreamKey, Arc<Stream>>, StoreError> {
    let mut opened = HashMap::new();
    for (tenant, kind) in list_streams(&shared.objects).await? {
        let stream = Arc::new(open_stream(shared, tenant, kind).await?);
        opened.insert(StreamKey::of(&stream), stream);
    }
    *shared.streams.write().unwrap_or_else(std::sync::PoisonError::into_inner) = opened.clone();
    Ok(opened)
}

async fn open_stream(shared: &Shared, tenant: TenantId, kind: StreamKind) -> Result<Stream, StoreError> {
    let first = Origin::stream(&shared.ledger, &tenant, kind, 0);
    let origin = first.at_generation(shared.log_origin.generation());
    let empty = Stream::new(tenant.clone(), kind, origin.clone(), Sealed::default());
    let mut chain = ChainVerifier::new(first.as_str(), vec![shared.key.verifier(first.as_str())]);
    let history = |fault| StoreError::History { origin: origin.to_string(), fault: Box::new(fault) };
    let numbers = list_numbers(&shared.objects, &empty.prefix.commits(), |n| empty.prefix.commit(n)).await?;
    let shown = list_numbers(&shared.objects, &empty.prefix.views(), |n| empty.prefix.delta(n)).await?;
    let mut unshown = Vec::new();
    for number in &numbers {
        let bytes = segment::fetch(&shared.objects, &empty.prefix.commit(*number)).await?;
        let signed = chain.commit(&bytes).map_err(history)?;
        if shown.binary_search(number).is_err() {
            unshown.push(signed);
        }
    }
    let segments: Vec<Arc<Segment>> = chain
        .live()
        .map(|held| {
            let location = empty.prefix.below(&held.segment.path);
            Arc::new(Segment { reference: held.segment.clone(), location, statistics: Statistics::default() })
        })
        .collect();
    for signed in &unshown {
        catch_up_view(shared, &empty, signed.commit(), &segments).await?;
    }
    let (commits, last_commit) = (chain.commits(), chain.last_hash());
    let generation = chain.origin().parse::<Origin>()?.generation();
    if generation > origin.generation() {
        let path = empty.prefix.commits().to_string();
        return Err(StoreError::Damaged { path, why: "its commits are of a later generation than the store's owner" });
    }
    let edge = chain.edge().clone();
    let sealed = Sealed { edge, commits, last_commit, epoch: chain.epoch(), generation, segments };
    Ok(Stream::new(tenant, kind, origin, sealed))
}

/// Writes the Delta entry of a commit that has none: a stop or a failure came between the two. A segment that
/// was removed since is shown without its bounds.
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
            true => Statistics::read(&shared.objects, &location, reference.bytes).await?,
            false => Statistics::default(),
        };
        added.push(Segment { reference: reference.clone(), location, statistics });
    }
    delta::show(shared, stream, commit, &added.iter().collect::<Vec<_>>()).await
}
