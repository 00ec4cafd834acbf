//! Packing: old commits go together into one object, byte for byte; those of their own go when the pack is sure.
//!
//! Not here: the form of a pack (`ledger::pack`), reading commits wherever they are ([`crate::commits`]).
//!
//! Invariants: each commit is stored at every moment, loose, in exactly one pack, or, while it moves, in both with
//! the same bytes; the snapshot of the chain covers what is packed before the loose ones go.

use crate::commits::{Reader, Stored, read_pack};
use crate::error::StoreError;
use crate::limits::CONCURRENT_OBJECTS;
use crate::objects::create;
use crate::snapshot;
use crate::store::Shared;
use crate::stream::Stream;
use futures::StreamExt;
use ledger::note::NOTE_BYTES;
use object_store::ObjectStoreExt;

/// A pack is closed before it grows beyond this, however few commits it holds: twice the largest commit.
const PACK_BYTES: usize = 2 * NOTE_BYTES;

/// Packs commits that are old enough, until the rest is too few for a pack. Answers whether any was packed.
///
/// # Errors
/// The object store failed, or stored commits are not what they were; nothing was lost.
pub(crate) async fn pack_old(shared: &Shared, stream: &Stream) -> Result<bool, StoreError> {
    let wanted = shared.limits.pack_commits.max(1);
    let mut has_packed = false;
    loop {
        // Only the upkeep thread packs: what is read here stays so when the turn is given back.
        let packed = stream.turn.lock().await.packed;
        // The newest commits stay loose: whoever opens the stream reads them one by one, behind the snapshot.
        if stream.view().sealed.commits < packed + wanted + shared.limits.snapshot_commits {
            return Ok(has_packed);
        }
        let last = pack_run(shared, stream, packed, packed + wanted).await?;
        stream.turn.lock().await.packed = last + 1;
        has_packed = true;
        // The snapshot says how far commits are packed: an opening that trusts it does not look for loose ones below.
        snapshot::write(shared, stream).await?;
        let stored = Stored::list(&shared.objects, &stream.prefix, packed).await?;
        remove_loose(shared, stream, &stored, (packed, last)).await?;
    }
}

/// Deletes loose commits that a stopped writer had packed and not deleted yet.
///
/// # Errors
/// The object store failed, or a pack and a loose commit differ.
pub(crate) async fn finish(shared: &Shared, stream: &Stream) -> Result<(), StoreError> {
    let stored = Stored::list(&shared.objects, &stream.prefix, 0).await?;
    let packed = stream.turn.lock().await.packed;
    let begun = |pack: &&(u64, u64)| pack.1 < packed && stored.loose.iter().any(|at| (pack.0..=pack.1).contains(at));
    for pack in stored.packs.iter().filter(begun) {
        remove_loose(shared, stream, &stored, *pack).await?;
    }
    Ok(())
}

/// Packs commits from `first` up to, at most, `end`, and answers the last one's number.
async fn pack_run(shared: &Shared, stream: &Stream, first: u64, end: u64) -> Result<u64, StoreError> {
    let stored = Stored::list(&shared.objects, &stream.prefix, first).await?;
    // 0. A pack that a stopped writer made is taken as it is, and its loose commits are compared with it below.
    if let Some((_, last)) = stored.pack_of(first) {
        return Ok(last);
    }
    let mut reader = Reader::new(&shared.objects, &stream.prefix, &stored);
    let (mut commits, mut bytes) = (Vec::new(), 0);
    for number in first..end {
        let commit = reader.read(number).await?;
        if bytes + commit.len() > PACK_BYTES && !commits.is_empty() {
            break;
        }
        bytes += commit.len();
        commits.push(commit);
    }
    let last = first + commits.len() as u64 - 1;
    let parts: Vec<&[u8]> = commits.iter().map(|commit| &commit[..]).collect();
    // 1. Create the pack. Died after it: both forms are there, and the next try takes this pack.
    let path = stream.prefix.pack(first, last);
    create(&shared.objects, &path, ledger::pack::pack(first, &parts).into()).await?;
    Ok(last)
}

/// Deletes the loose commits that a pack holds, each only if the pack, read back, has its very bytes.
async fn remove_loose(
    shared: &Shared,
    stream: &Stream,
    stored: &Stored,
    (first, last): (u64, u64),
) -> Result<(), StoreError> {
    let packed = read_pack(&shared.objects, &stream.prefix, first, last).await?;
    // 2. Delete the loose ones, lowest first. Died during it: the rest goes after the next start.
    let loose = stored.loose.iter().copied().filter(|number| (first..=last).contains(number)).map(|number| {
        let packed = packed[(number - first) as usize].clone();
        async move {
            let path = stream.prefix.commit(number);
            if crate::segment::fetch(&shared.objects, &path).await? != packed {
                let why = "the pack that holds this commit has other bytes for it: run fsck";
                return Err(StoreError::Damaged { path: path.to_string(), why });
            }
            match shared.objects.delete(&path).await {
                Ok(()) | Err(object_store::Error::NotFound { .. }) => Ok(()),
                Err(source) => Err(StoreError::Objects { path: path.to_string(), source }),
            }
        }
    });
    let mut deleted = futures::stream::iter(loose).buffered(CONCURRENT_OBJECTS);
    while let Some(one) = deleted.next().await {
        one?;
    }
    tracing::debug!(tenant = %stream.tenant, stream = %stream.kind, first, last, "packed commits");
    Ok(())
}
