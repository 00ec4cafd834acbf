//! Purge: entries are taken away for good, and what stands for them in the tree is kept.
//!
//! [`PurgeOrder`] says which and on what grounds; segments that lose all of their entries are removed, segments that keep
//! some are rewritten without the others, and the hashes that must stay are taken first ([`ledger::gone`]). Not here: what
//! is to go and why (`retention`), deleting files ([`crate::upkeep`]).
//!
//! Invariants: before anything is committed, what is kept and what stays was folded to the head that the stream has; an
//! order that was carried out is found done; files leave the chain first and the store later.

use crate::commits::{Reader, Stored};
use crate::compact::{self, Merged};
use crate::error::StoreError;
use crate::objects::create;
use crate::precheck;
use crate::proofs::NodeReader;
use crate::segment::Segment;
use crate::store::Shared;
use crate::stream::{SealedGone, Stream, View};
use crate::turn::{self, Settled, Unsettled};
use crate::upkeep;
use futures::FutureExt as _;
use ledger::commit::{Commit, Purge, SegmentRef};
use ledger::gone::{self, BLOCK, Gone, GoneRef, Wanted};
use ledger::name::{StreamKind, TenantId};
use ledger::proof::Span;
use ledger::tree::{Edge, Hash};
use ledger::verify::{ChainState, ChainVerifier};
use object_store::ObjectStoreExt as _;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// How often a purge begins anew because a seal or merge changed the stream while it was prepared.
const TRIES: usize = 4;

/// What is to be taken away, and on what grounds.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PurgeOrder {
    /// Whose.
    pub tenant: TenantId,
    /// From which stream.
    pub kind: StreamKind,
    /// Which entries, by ranges of sequence numbers; all of them sealed.
    pub spans: Vec<Span>,
    /// The entry of `control` that recorded the intent.
    pub basis: u64,
    /// SHA-256 of the plan.
    pub plan: Hash,
}

/// What an order came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Purged {
    /// The commit, and SHA-256 of it.
    pub commit: (u64, Hash),
    /// How many entries went with it.
    pub entries: u64,
    /// The segments that it removed.
    pub removed: Vec<SegmentRef>,
    /// The segments that it put in their place, with what stays.
    pub added: Vec<SegmentRef>,
    /// The object that says what is gone of the stream, with the hashes that stand for it.
    pub kept: GoneRef,
}

/// Carries out an order, or finds what became of it when it was carried out before. `None`: there was nothing to do.
///
/// # Errors
/// [`StoreError::Invalid`] when an entry is not sealed; otherwise the object store failed or stored bytes are damaged.
/// Nothing changed then, or the outcome of the commit is not known: the same order finds out.
pub(crate) async fn purge(
    shared: &Shared,
    stream: &Stream,
    epoch: u64,
    order: &PurgeOrder,
) -> Result<Option<Purged>, StoreError> {
    precheck::warm(shared, stream).await?;
    for _ in 0..TRIES {
        let mut turn = stream.turn.lock().await;
        turn::settle(shared, stream, &mut turn).await?;
        drop(turn);
        let view = stream.view();
        let Some(planned) = Planned::of(shared, stream, &view, order).await? else {
            return recorded(shared, stream, order).await;
        };
        // 1. Make what stays, and look at all that must be known of what goes. Died: nothing happened.
        // The Parquet decoder panics on some damage.
        let prepared = AssertUnwindSafe(planned.prepare(shared, stream, &view, epoch)).catch_unwind().await;
        let location = view.sealed.segments.first().map(|segment| segment.location.clone()).unwrap_or_default();
        let prepared = prepared.unwrap_or_else(|_| Err(crate::segment::undecodable(&location)))?;
        let done = carry_out(shared, stream, &planned, &prepared, (epoch, order)).await;
        if let Ok(Some(_)) = &done {
            precheck::forget(shared, stream).await?;
            return done;
        }
        // Nothing names what was put and nothing will, unless it is not known whether the commit was made.
        if stream.turn.lock().await.unsettled.is_none() {
            let locations = prepared.made.iter().map(|made| made.segment.location.clone());
            let _ = upkeep::delete(shared, locations.collect()).await;
        }
        done?;
    }
    Err(StoreError::Busy("the stream changed again and again while a purge was prepared; try again"))
}

/// What an order comes to in a stream as it is.
struct Planned {
    /// All that is gone with it.
    holes: Vec<Span>,
    /// What was gone before.
    before: Option<Arc<Gone>>,
    /// Segments that lose something, ascending.
    touched: Vec<Arc<Segment>>,
}

/// What is to be put and committed.
struct Prepared {
    made: Vec<Merged>,
    blocks: Vec<(u64, Hash)>,
    leaves: Vec<(u64, Hash)>,
    heads: Vec<(u64, Vec<Hash>)>,
    newest: i64,
}

impl Planned {
    async fn of(shared: &Shared, stream: &Stream, view: &View, order: &PurgeOrder) -> Result<Option<Self>, StoreError> {
        let size = view.sealed.edge.size();
        if order.spans.iter().any(|span| span.end > size) {
            return Err(StoreError::Invalid("only sealed entries can be purged"));
        }
        let before = match &view.sealed.gone {
            Some(gone) => Some(gone.get(&shared.objects, &stream.prefix).await?),
            None => None,
        };
        let known = before.as_ref().map_or(&[][..], |gone| gone.holes());
        let holes = gone::union(known, &order.spans);
        let loses = |segment: &&Arc<Segment>| stays(&holes, &segment.reference) < segment.reference.rows;
        let touched: Vec<Arc<Segment>> = view.sealed.segments.iter().filter(loses).cloned().collect();
        Ok((!touched.is_empty()).then_some(Self { holes, before, touched }))
    }

    async fn prepare(&self, shared: &Shared, stream: &Stream, view: &View, epoch: u64) -> Result<Prepared, StoreError> {
        let mut made = Vec::new();
        for segment in self.touched.iter().filter(|segment| stays(&self.holes, &segment.reference) > 0) {
            let inputs = std::slice::from_ref(segment);
            made.push(compact::merge(shared, stream, inputs, epoch, Some(&self.holes)).await?);
        }
        let wanted = Wanted::of(&self.holes);
        let mut reader = NodeReader::new(shared, stream, view);
        made.iter_mut().for_each(|made| reader.note(&std::mem::take(&mut made.leaves)));
        let (mut blocks, mut leaves) = (Vec::new(), Vec::new());
        for index in wanted.blocks {
            blocks.push((index, reader.node(BLOCK.ilog2(), index).await?));
        }
        for seq in wanted.leaves {
            leaves.push((seq, reader.leaf(seq).await?));
        }
        let heads = self.heads(shared, stream, view, &mut reader).await?;
        // What is kept may come from tiles, which anybody could have changed: with what stays it must give the head that
        // the stream has.
        self.must_fold(view, &mut reader, &blocks, &leaves).await?;
        let newest = self.touched.iter().filter_map(|segment| Some(segment.statistics.recorded_at?.1)).max();
        let before = view.sealed.gone.as_ref().map_or(i64::MIN, |gone| gone.reference.newest);
        let newest = newest.unwrap_or(i64::MIN).max(before);
        Ok(Prepared { made, blocks, leaves, heads, newest })
    }

    /// For each head that a commit signed inside of a block that is gone, the nodes of the block cut there. They are taken
    /// while its leaves are there; what an earlier purge kept is taken over.
    async fn heads(
        &self,
        shared: &Shared,
        stream: &Stream,
        view: &View,
        reader: &mut NodeReader<'_>,
    ) -> Result<Vec<(u64, Vec<Hash>)>, StoreError> {
        let stored = Stored::list(&shared.objects, &stream.prefix, 0).await?;
        let mut commits = Reader::new(&shared.objects, &stream.prefix, &stored);
        let mut heads: Vec<(u64, Vec<Hash>)> = Vec::new();
        for number in 0..view.sealed.commits {
            let bytes = commits.read(number).await?;
            let damaged = || StoreError::Damaged {
                path: stream.prefix.commit(number).to_string(),
                why: "its head cannot be read: run fsck",
            };
            let (size, root) = ledger::commit::stated_head(&bytes).ok_or_else(damaged)?;
            let (block, within) = (size / BLOCK, size % BLOCK);
            let start = block * BLOCK;
            let is_gone = compact::is_inside(&self.holes, Span::new(start, start + BLOCK));
            if within == 0 || !is_gone || heads.last().is_some_and(|(last, _)| *last == size) {
                continue;
            }
            let mut nodes = Vec::new();
            let mut left = Edge::default();
            if start > 0 {
                for (height, index) in Span::new(0, start).complete_nodes() {
                    left.push_node(height, reader.node(height, index).await?, |_| {});
                }
            }
            for node in gone::cut(within) {
                let hash = reader.node(node.height, (start >> node.height) + node.index).await?;
                nodes.push(hash);
                if left.size() < size {
                    left.push_node(node.height, hash, |_| {});
                }
            }
            if left.root() != root {
                return Err(damaged());
            }
            heads.push((size, nodes));
        }
        Ok(heads)
    }

    /// Whether the hashes that are kept, and those of what stays, give the head.
    async fn must_fold(
        &self,
        view: &View,
        reader: &mut NodeReader<'_>,
        blocks: &[(u64, Hash)],
        leaves: &[(u64, Hash)],
    ) -> Result<(), StoreError> {
        let (sealed, mut edge) = (&view.sealed.edge, Edge::default());
        let (mut blocks, mut leaves) = (blocks.iter().peekable(), leaves.iter().peekable());
        for index in 0..sealed.size().div_ceil(BLOCK) {
            let (start, end) = (index * BLOCK, ((index + 1) * BLOCK).min(sealed.size()));
            if let Some((_, hash)) = blocks.next_if(|(at, _)| *at == index) {
                edge.push_node(BLOCK.ilog2(), *hash, |_| {});
            } else if end == start + BLOCK && leaves.peek().is_none_or(|(seq, _)| *seq >= end) {
                edge.push_node(BLOCK.ilog2(), reader.node(BLOCK.ilog2(), index).await?, |_| {});
            } else {
                for seq in start..end {
                    let hash = match leaves.next_if(|(at, _)| *at == seq) {
                        Some((_, hash)) => *hash,
                        None => reader.leaf(seq).await?,
                    };
                    edge.push(hash);
                }
            }
        }
        if edge == *sealed {
            return Ok(());
        }
        let why = "its tiles and rows do not give its head: run fsck; nothing was purged";
        Err(StoreError::Damaged { path: stream_path(&self.touched), why })
    }
}

fn stream_path(touched: &[Arc<Segment>]) -> String {
    touched.first().map_or_else(String::new, |segment| segment.location.to_string())
}

/// How many entries of a segment's span are in none of the holes.
fn stays(holes: &[Span], segment: &SegmentRef) -> u64 {
    segment.span - (gone::count_below(holes, segment.end()) - gone::count_below(holes, segment.first))
}

/// Puts and commits what was prepared; `None` when the stream is not what it was.
async fn carry_out(
    shared: &Shared,
    stream: &Stream,
    planned: &Planned,
    prepared: &Prepared,
    (epoch, order): (u64, &PurgeOrder),
) -> Result<Option<Purged>, StoreError> {
    // 2. Put what stays. Died after it: objects that no commit names; the sweep after the next start deletes them.
    for made in &prepared.made {
        create(&shared.objects, &made.segment.location, made.bytes.clone()).await?;
    }
    // 3. Wait for the turn. What came before it may have changed the stream.
    let mut turn = stream.turn.lock().await;
    turn::settle(shared, stream, &mut turn).await?;
    let sealed = stream.view().sealed;
    let is_live = |input: &Arc<Segment>| {
        let at = sealed.segments.binary_search_by_key(&input.reference.first, |held| held.reference.first);
        at.is_ok_and(|at| sealed.segments[at].reference == input.reference)
    };
    // A writer that may no longer write its log takes nothing from a stream either.
    if let Some(refusal) = shared.log.get().refusal() {
        return Err(refusal);
    }
    let is_same = sealed.gone_entries() == planned.before.as_ref().map_or(0, |gone| gone.entries());
    // A seal whose outcome is not known has the first claim on the next number.
    if !is_same || !planned.touched.iter().all(is_live) || stream.tried.load(Ordering::Acquire) > sealed.edge.size() {
        return Ok(None);
    }
    let Prepared { made, blocks, leaves, heads, newest } = prepared;
    let (number, size, origin) = (sealed.commits, sealed.edge.size(), stream.origin.to_string());
    let parts = (planned.holes.clone(), blocks.clone(), leaves.clone(), heads.clone());
    let gone = Gone::new(&origin, (number, size), parts.0, parts.1, parts.2, parts.3);
    let why = "what is kept of purged entries contradicts itself: run fsck; nothing was purged";
    let gone = gone.map_err(|_| StoreError::Damaged { path: stream_path(&planned.touched), why })?;
    let text = gone.to_text();
    let (sha256, bytes) = (Hash::of(text.as_bytes()), text.len() as u64);
    let kept = GoneRef { commit: number, epoch, sha256, bytes, entries: gone.entries(), newest: *newest };
    // 4. Put what is kept. Died after it: an object that no commit names, which the next commit of this number replaces.
    let path = stream.prefix.below(&kept.path());
    shared.objects.put(&path, text.into_bytes().into()).await.map_err(StoreError::objects(&path))?;
    let removed: Vec<SegmentRef> = planned.touched.iter().map(|segment| segment.reference.clone()).collect();
    let added: Vec<SegmentRef> = made.iter().map(|made| made.segment.reference.clone()).collect();
    let removes = removed.iter().map(|segment| segment.path.clone()).collect();
    let purge = Purge { removes, gone: kept.clone(), basis: order.basis, plan: order.plan };
    let commit = Commit {
        origin,
        number,
        previous: sealed.last_commit,
        epoch,
        time: shared.ambient.now_micros(),
        adds: added.clone(),
        removes: vec![],
        purge: Some(purge),
        edge: sealed.edge.clone(),
    };
    let signed = commit.sign(&[&shared.key]);
    let segments = made.iter().map(|made| Arc::new(made.segment.clone())).collect();
    let sealed_gone = Arc::new(SealedGone::known(kept.clone(), gone));
    // 5. The commit itself, and then readers.
    turn.unsettled = Some(Unsettled { signed: signed.clone(), segments, gone: Some(sealed_gone) });
    if turn::settle(shared, stream, &mut turn).await? != Settled::Done {
        return Ok(None);
    }
    let entries = kept.entries - sealed.gone_entries();
    tracing::info!(tenant = %stream.tenant, stream = %stream.kind, commit = number, entries, removed = removed.len(),
        rewritten = added.len(), "purged");
    metrics::counter!("piperoll_purged_entries_total").increment(entries);
    Ok(Some(Purged { commit: (number, signed.hash()), entries, removed, added, kept }))
}

/// What the chain says of an order that was carried out.
async fn recorded(shared: &Shared, stream: &Stream, order: &PurgeOrder) -> Result<Option<Purged>, StoreError> {
    let stored = Stored::list(&shared.objects, &stream.prefix, 0).await?;
    let mut commits = Reader::new(&shared.objects, &stream.prefix, &stored);
    let trusted = vec![shared.key.verifier(stream.origin.at_generation(0).as_str())];
    let mut chain = ChainVerifier::new(stream.origin.at_generation(0).as_str(), trusted);
    for number in 0..stream.view().sealed.commits {
        let bytes = commits.read(number).await?;
        let is_purge = bytes.windows(7).any(|word| word == b"\nbasis ");
        let before = if is_purge { chain.state() } else { ChainState::default() };
        let history = |fault| StoreError::History { origin: stream.origin.to_string(), fault: Box::new(fault) };
        let signed = chain.commit(&bytes).map_err(history)?;
        let commit = signed.commit();
        let is_it = |purge: &&Purge| purge.basis == order.basis && purge.plan == order.plan;
        if let Some(purge) = commit.purge.as_ref().filter(is_it) {
            let removed = before.live.into_iter().filter(|held| purge.removes.contains(&held.path)).collect();
            let entries = purge.gone.entries - before.gone.map_or(0, |gone| gone.entries);
            let (added, kept) = (commit.adds.clone(), purge.gone.clone());
            return Ok(Some(Purged { commit: (number, signed.hash()), entries, removed, added, kept }));
        }
    }
    Ok(None)
}
