//! Sealing: the unsealed tail of a stream becomes a segment and a commit. One thread, one seal at a time.
//!
//! [`try_seal`] is the commit of a segment, top to bottom. Not here: when to seal ([`crate::writer`]),
//! what the bytes are ([`crate::segment`], `ledger::commit`), merging of segments ([`crate::compact`]).
//!
//! Invariants: a commit names only objects that are durable; tiles up to a commit's head are there before
//! it; a commit's number is created once, and a commit that a writer made before it was fenced counts ([`adopt`]).

mod adopt;

use crate::delta;
use crate::error::StoreError;
use crate::layout;
use crate::log_head;
use crate::objects::create;
use crate::observed;
use crate::precheck;
use crate::proofs;
use crate::segment::{self, Segment};
use crate::store::Shared;
use crate::stream::{Sealed, Stream, View};
use crate::turn::{self, Turn};
use crate::upkeep::UpkeepJob;
use crate::writer::Message;
use bytes::Bytes;
use ledger::commit::{Commit, SegmentRef};
use ledger::tile::{TILE_HASHES, TILE_HEIGHT, Tile, TileKind};
use ledger::tree::{Edge, Hash, Node, root_of};
use object_store::ObjectStoreExt;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::sync::{mpsc, oneshot};

/// What the sealing thread is asked to do.
pub(crate) enum SealJob {
    /// Seal what is durable of a stream.
    Stream { stream: Arc<Stream>, epoch: u64 },
    /// Put the store log's leaves since `from` into tiles, and its signed head.
    FlushLog { from: u64, leaves: Vec<Hash>, edge: Edge },
    /// Seal, then answer with what became of it.
    Now { stream: Arc<Stream>, epoch: u64, done: oneshot::Sender<Result<(), StoreError>> },
    /// Stop; whoever asks is told when the log was given back.
    Stop(oneshot::Sender<()>),
}

/// Has a stream sealed and waits for it.
///
/// # Errors
/// The seal failed, or the store is closing.
pub(crate) async fn now(
    shared: &Shared,
    seals: &mpsc::UnboundedSender<SealJob>,
    stream: Arc<Stream>,
    epoch: u64,
) -> Result<(), StoreError> {
    while stream.sealing.swap(true, Ordering::AcqRel) {
        if seals.is_closed() {
            return Err(StoreError::Stopping);
        }
        shared.ambient.sleep(std::time::Duration::from_millis(1)).await;
    }
    let (done, sealed) = oneshot::channel();
    seals.send(SealJob::Now { stream, epoch, done }).map_err(|_| StoreError::Stopping)?;
    sealed.await.map_err(|_| StoreError::Stopping)?
}

/// Runs until it is told to stop, and answers whom to tell that it has, or until nobody is left to give it
/// work. Once the store is closing, work that has not begun is left to the next start.
pub(crate) fn run(
    shared: &Arc<Shared>,
    mut jobs: mpsc::UnboundedReceiver<SealJob>,
    writer: &mpsc::WeakSender<Message>,
    upkeep: &mpsc::UnboundedSender<UpkeepJob>,
    runtime: &tokio::runtime::Handle,
) -> Option<oneshot::Sender<()>> {
    while let Some(job) = jobs.blocking_recv() {
        // What a fenced writer would seal, its successor seals.
        let is_closing = shared.stopping.load(Ordering::Acquire) || shared.log.is_fenced();
        let message = match job {
            SealJob::Stop(done) => return Some(done),
            SealJob::Now { done, .. } if is_closing => {
                let _ = done.send(Err(StoreError::Stopping));
                continue;
            }
            _ if is_closing => continue,
            SealJob::Stream { stream, epoch } => {
                sealed_or_logged(runtime.block_on(seal_stream(shared, &stream, epoch)), stream)
            }
            SealJob::Now { stream, epoch, done } => {
                let result = runtime.block_on(seal_now(shared, &stream, epoch));
                let (result, message) = match result {
                    Ok(through) => (Ok(()), Message::Sealed { stream, through }),
                    Err(error) => (Err(error), Message::SealFailed(stream)),
                };
                let _ = done.send(result);
                message
            }
            SealJob::FlushLog { from, leaves, edge } => {
                let size = edge.size();
                match runtime.block_on(flush_log(shared, from, &leaves, edge)) {
                    Ok(()) => Message::LogFlushed(size),
                    Err(error) => {
                        tracing::warn!(
                            error = &error as &dyn std::error::Error,
                            "the store log was not flushed; tried again later"
                        );
                        Message::LogFlushed(0)
                    }
                }
            }
        };
        if let Message::Sealed { stream, .. } = &message {
            UpkeepJob::look(upkeep, stream);
        }
        if let Some(writer) = writer.upgrade() {
            // A writer that is gone needs no news.
            let _ = writer.blocking_send(message);
        }
    }
    None
}

fn sealed_or_logged(result: Result<u64, StoreError>, stream: Arc<Stream>) -> Message {
    match result {
        Ok(through) => Message::Sealed { stream, through },
        Err(error) => {
            let error = &error as &dyn std::error::Error;
            tracing::warn!(tenant = %stream.tenant, stream = %stream.kind, error, "a seal failed; tried again later");
            Message::SealLater(stream)
        }
    }
}

/// Seals what is durable of a stream when it is called, in one go or, after a failed try, in two.
async fn seal_now(shared: &Shared, stream: &Stream, epoch: u64) -> Result<u64, StoreError> {
    let wanted = stream.head().size;
    loop {
        let through = seal_stream(shared, stream, epoch).await?;
        if through >= wanted {
            return Ok(through);
        }
    }
}

/// Seals everything that is durable of a stream now, and answers through which position.
///
/// # Errors
/// The object store failed, or another writer owns the stream.
async fn seal_stream(shared: &Shared, stream: &Stream, epoch: u64) -> Result<u64, StoreError> {
    let result = try_seal(shared, stream, epoch).await;
    observed::sealed(&result);
    result
}

/// The commit of a segment.
async fn try_seal(shared: &Shared, stream: &Stream, epoch: u64) -> Result<u64, StoreError> {
    precheck::warm(shared, stream).await?;
    stream.unlock(&shared.content.keys)?;
    let mut turn = stream.turn.lock().await;
    turn::settle(shared, stream, &mut turn).await?;
    let mut view = stream.view();
    // A try whose outcome is not known is repeated with the very same entries, and so the very same bytes:
    // what of it was carried out is then found, not contradicted.
    let tried = stream.tried.load(Ordering::Acquire);
    if tried > view.sealed.edge.size() {
        view = view.through(tried);
    }
    let Some(newest) = view.tail.last().and_then(|chunk| chunk.entries.last()) else { return Ok(view.edge.size()) };
    let newest = newest.draft.recorded_at();
    // 1. Encode, and write the file of ids, which is a cache. Died: nothing happened.
    let (segment, bytes) = encode(shared, stream, &view, &mut turn, epoch)?;
    let ids: Vec<u64> = view.tail.iter().flat_map(|chunk| &chunk.entries).map(|entry| entry.fingerprint).collect();
    let runs = precheck::with_run(shared, stream, &segment.reference, newest, &ids)?;
    stream.tried.store(view.edge.size(), Ordering::Release);
    // 2. Put the segment. Died after it: an object that no commit names, which fsck lists.
    create(&shared.objects, &segment.location, bytes).await?;
    // 3. Put the tiles that the new head completes. Died after it: tiles beyond the head, which the next
    //    seal writes again with the same bytes.
    let edge = write_tiles(shared, stream, &view).await?;
    // 4. Commit. Died before it: recovery finds the entries in the log and seals them again. Died after it:
    //    recovery finds them sealed and skips them in the log.
    let commit = Commit {
        origin: stream.origin.to_string(),
        number: view.sealed.commits,
        previous: view.sealed.last_commit,
        epoch,
        time: newest,
        adds: vec![segment.reference.clone()],
        removes: vec![],
        erasure: None,
        edge: edge.clone(),
    };
    let signed = commit.sign(shared.signing.now().current());
    let path = stream.prefix.commit(commit.number);
    match create(&shared.objects, &path, signed.bytes().to_vec().into()).await {
        // A writer that was fenced since had begun this seal, and carried it out.
        Err(StoreError::Objects { source: object_store::Error::AlreadyExists { .. }, .. }) => {
            return adopt::adopt(shared, stream, &mut turn, epoch).await;
        }
        put => put?,
    }
    turn.tried = None;
    // 5. Show it: readers move from the tail to the segment in one step.
    let segment = Arc::new(segment);
    let mut segments = view.sealed.segments.clone();
    segments.push(Arc::clone(&segment));
    let (commits, last_commit) = (commit.number + 1, Some(signed.hash()));
    let generation = stream.origin.generation();
    let (gone, redacted) = (view.sealed.gone.clone(), view.sealed.redacted);
    let sealed = Sealed { edge: edge.clone(), commits, last_commit, epoch, generation, gone, redacted, segments };
    let freed = stream.sealed(sealed, runs);
    shared.unsealed_bytes.fetch_sub(freed, Ordering::Relaxed);
    // 6. Show it to other engines. Died before it: the view is caught up at the next start.
    if let Err(error) = delta::show(shared, stream, &commit, &[&segment]).await {
        let error = &error as &dyn std::error::Error;
        tracing::warn!(tenant = %stream.tenant, stream = %stream.kind, error, "the delta view is behind until restart");
    }
    tracing::info!(tenant = %stream.tenant, stream = %stream.kind, commit = commit.number,
        rows = segment.reference.rows, bytes = segment.reference.bytes, "sealed");
    Ok(edge.size())
}

fn encode(
    shared: &Shared,
    stream: &Stream,
    view: &View,
    turn: &mut Turn,
    epoch: u64,
) -> Result<(Segment, Bytes), StoreError> {
    let first = view.sealed.edge.size();
    let leaves = || view.tail.iter().flat_map(|chunk| chunk.entries.iter().map(|entry| entry.leaf));
    let month = view.tail.first().and_then(|c| c.entries.first()).map_or(0, |entry| entry.draft.recorded_at());
    let path = layout::segment(month, first, epoch, view.sealed.commits);
    // What is encrypted twice is not the same twice: a try that is repeated has the bytes that it had.
    let is_it =
        |(tried, _): &&(Segment, Bytes)| tried.reference.path == path && tried.reference.end() == view.edge.size();
    if let Some(tried) = turn.tried.as_ref().filter(is_it) {
        return Ok(tried.clone());
    }
    let location = stream.prefix.below(&path);
    let key = shared.content.keys.for_segment(&location, shared.ambient.as_ref())?;
    let is_encrypted = key.is_some();
    let (bytes, statistics) = segment::write(&location, &stream.columns_of(view)?, key)?;
    let reference = SegmentRef {
        path,
        first,
        span: view.edge.size() - first,
        rows: view.edge.size() - first,
        bytes: bytes.len() as u64,
        sha256: Hash::of(&bytes),
        root: root_of(leaves()),
    };
    let segment = Segment { reference, location, statistics };
    turn.tried = is_encrypted.then(|| (segment.clone(), bytes.clone()));
    Ok((segment, bytes))
}

/// Appends the tail to the sealed edge and writes each tile, from level 1 up, that gains a hash.
async fn write_tiles(shared: &Shared, stream: &Stream, view: &View) -> Result<Edge, StoreError> {
    let mut edge = view.sealed.edge.clone();
    let mut gained: BTreeMap<(u8, u64), Vec<(u64, Hash)>> = BTreeMap::new();
    let mut note = |node: Node| {
        if node.height.is_multiple_of(TILE_HEIGHT) {
            let level = (node.height / TILE_HEIGHT) as u8;
            gained.entry((level, node.index / TILE_HASHES)).or_default().push((node.index, node.hash));
        }
    };
    view.tail.iter().flat_map(|chunk| &chunk.entries).for_each(|entry| edge.push_with(entry.leaf, &mut note));
    let mut reader = proofs::NodeReader::new(shared, stream, view);
    for ((level, index), hashes) in gained {
        let mut body = Vec::with_capacity(8_192);
        for before in index * TILE_HASHES..hashes[0].0 {
            body.extend_from_slice(&reader.node(TILE_HEIGHT * u32::from(level), before).await?.0);
        }
        hashes.iter().for_each(|(_, hash)| body.extend_from_slice(&hash.0));
        let tile = Tile { kind: TileKind::Hashes(level), index, width: (body.len() / 32) as u16 };
        let path = stream.prefix.tile(&tile);
        shared.objects.put(&path, body.into()).await.map_err(StoreError::objects(&path))?;
    }
    Ok(edge)
}

/// Writes the store log's level-0 tiles from `from` on and its signed head with its edge.
async fn flush_log(shared: &Shared, from: u64, leaves: &[Hash], edge: Edge) -> Result<(), StoreError> {
    let mut all = Vec::new();
    let start = from - from % TILE_HASHES;
    if start < from {
        let width = (from - start) as u16;
        let tile = Tile { kind: TileKind::Hashes(0), index: start / TILE_HASHES, width };
        all.extend_from_slice(&segment::fetch(&shared.objects, &layout::log_tile(&tile)).await?);
    }
    leaves.iter().for_each(|leaf| all.extend_from_slice(&leaf.0));
    for (index, body) in (start / TILE_HASHES..).zip(all.chunks(32 * TILE_HASHES as usize)) {
        let tile = Tile { kind: TileKind::Hashes(0), index, width: (body.len() / 32) as u16 };
        let path = layout::log_tile(&tile);
        shared.objects.put(&path, body.to_vec().into()).await.map_err(StoreError::objects(&path))?;
    }
    let text = log_head::head_text(shared.log_origin.as_str(), &edge);
    let note = ledger::note::sign(&text, shared.log_origin.as_str(), &[shared.signing.now().current()]);
    create(&shared.objects, &layout::log_head(edge.size()), note.into_bytes().into()).await
}
