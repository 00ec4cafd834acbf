//! Purge: entries are taken away for good, and what stands for them in the tree is kept.
//!
//! [`PurgeOrder`] says which and on what grounds; segments that lose all of their entries are removed, segments that keep
//! some are rewritten without the others, and the hashes that must stay are taken first ([`ledger::gone`]). Not here: what
//! is to go and why (`retention`), deleting files ([`crate::upkeep`]).
//!
//! Invariants: before anything is committed, what is kept and what stays was folded to the head that the stream has; an
//! order that was carried out is found done; files leave the chain first and the store later.

use crate::commits::{Reader, Stored};
use crate::compact::{self, Goes};
use crate::error::StoreError;
use crate::objects::create;
use crate::precheck;
use crate::proofs::NodeReader;
use crate::segment::Segment;
use crate::store::Shared;
use crate::stream::{Sealed, SealedGone, Stream, View};
use crate::turn::{self, Settled, Unsettled};
use crate::upkeep;
use futures::FutureExt as _;
use ledger::commit::{Commit, Purge, SegmentRef};
use ledger::gone::{self, BLOCK, Gone, GoneRef, Wanted};
use ledger::name::{StreamKind, TenantId};
use ledger::note::NOTE_BYTES;
use ledger::proof::Span;
use ledger::tree::{Edge, Hash};
use ledger::verify::{ChainState, ChainVerifier};
use object_store::ObjectStoreExt as _;
use std::collections::HashSet;
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
        // A seal whose outcome is not known has the first claim on the next number.
        if stream.tried.load(Ordering::Acquire) > view.sealed.edge.size() {
            return Err(StoreError::Busy("a seal of the stream is not settled; try again"));
        }
        // 1. Make what stays and put it, and look at all that must be known of what goes. Died: objects that no commit
        //    names; the sweep after the next start deletes them.
        let (mut made, mut is_tried) = (Vec::new(), false);
        // The Parquet decoder panics on some damage.
        let prepared = AssertUnwindSafe(planned.prepare(shared, stream, &view, epoch, &mut made)).catch_unwind().await;
        let location = view.sealed.segments.first().map(|segment| segment.location.clone()).unwrap_or_default();
        let done = match prepared.unwrap_or_else(|_| Err(crate::segment::undecodable(&location))) {
            Ok(prepared) => carry_out(shared, stream, &planned, (prepared, &made), (epoch, order), &mut is_tried).await,
            Err(error) => Err(error),
        };
        // Nothing names what was put and nothing will; where it is not known whether the commit was made, it may.
        if !is_tried {
            let _ = upkeep::delete(shared, made.iter().map(|made| made.location.clone()).collect()).await;
        }
        if let Some(purged) = done? {
            return Ok(Some(purged));
        }
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

/// What is to be committed.
struct Prepared {
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

    /// Reads every segment that loses something, recomputes its leaves against what its commit recorded, and puts what
    /// stays of it: so nothing goes on the word of bytes that were changed.
    async fn prepare(
        &self,
        shared: &Shared,
        stream: &Stream,
        view: &View,
        epoch: u64,
        made: &mut Vec<Segment>,
    ) -> Result<Prepared, StoreError> {
        let wanted = Wanted::of(&self.holes);
        let signed = self.heads(shared, stream, view).await?;
        // Of these blocks single leaves are needed.
        let parts = wanted.leaves.iter().chain(signed.iter().map(|(size, _)| size));
        let needed: HashSet<u64> = parts.map(|at| at / BLOCK).collect();
        let mut reader = NodeReader::new(shared, stream, view);
        for segment in &self.touched {
            if stays(&self.holes, &segment.reference) == 0 {
                reader.note(&compact::leaves_of(shared, stream, segment, &needed).await?);
                continue;
            }
            let goes = Goes { spans: &self.holes, needed: &needed };
            let merged = compact::merge(shared, stream, std::slice::from_ref(segment), epoch, Some(goes)).await?;
            reader.note(&merged.leaves);
            made.push(merged.segment.clone());
            create(&shared.objects, &merged.segment.location, merged.bytes).await?;
        }
        let (mut blocks, mut leaves) = (Vec::new(), Vec::new());
        for index in wanted.blocks {
            blocks.push((index, reader.node(BLOCK.ilog2(), index).await?));
        }
        for seq in wanted.leaves {
            leaves.push((seq, reader.leaf(seq).await?));
        }
        let mut heads = Vec::with_capacity(signed.len());
        for (size, root) in signed {
            heads.push((size, cut_at(&mut reader, stream, size, root).await?));
        }
        // What is kept may come from tiles, which anybody could have changed: with what stays it must give the head that
        // the stream has.
        self.must_fold(view, &mut reader, &blocks, &leaves).await?;
        let newest = self.touched.iter().filter_map(|segment| Some(segment.statistics.recorded_at?.1)).max();
        let before = view.sealed.gone.as_ref().map_or(i64::MIN, |gone| gone.reference.newest);
        let newest = newest.unwrap_or(i64::MIN).max(before);
        Ok(Prepared { blocks, leaves, heads, newest })
    }

    /// The heads that commits signed inside of blocks that are gone. Each commit must be the one that its successor names.
    async fn heads(&self, shared: &Shared, stream: &Stream, view: &View) -> Result<Vec<(u64, Hash)>, StoreError> {
        let stored = Stored::list(&shared.objects, &stream.prefix, 0).await?;
        let mut commits = Reader::new(&shared.objects, &stream.prefix, &stored);
        let mut heads: Vec<(u64, Hash)> = Vec::new();
        let mut last = None;
        for number in 0..view.sealed.commits {
            let bytes = commits.read(number).await?;
            let path = stream.prefix.commit(number).to_string();
            let damaged = || StoreError::Damaged { path, why: "it is not the commit that it was: run fsck" };
            let stated = ledger::commit::stated(&bytes).filter(|stated| stated.previous == last);
            let (size, root) = stated.ok_or_else(damaged)?.head;
            last = Some(Hash::of(&bytes));
            let start = size - size % BLOCK;
            let is_gone = gone::is_inside(&self.holes, Span::new(start, start + BLOCK));
            if size > start && is_gone && heads.last().is_none_or(|(last, _)| *last != size) {
                heads.push((size, root));
            }
        }
        if last == view.sealed.last_commit {
            return Ok(heads);
        }
        let path = stream.prefix.commits().to_string();
        Err(StoreError::Damaged { path, why: "its commits are not those that were: run fsck" })
    }

    /// Whether the stream still has what was prepared.
    fn fits(&self, sealed: &Sealed) -> bool {
        let is_live = |input: &Arc<Segment>| {
            let at = sealed.segments.binary_search_by_key(&input.reference.first, |held| held.reference.first);
            at.is_ok_and(|at| sealed.segments[at].reference == input.reference)
        };
        let gone = self.before.as_ref().map_or(0, |gone| gone.entries());
        sealed.gone_entries() == gone && self.touched.iter().all(is_live)
    }

    /// Whether something of a range goes that was there before.
    fn touches(&self, start: u64, end: u64) -> bool {
        let before = self.before.as_ref().map_or(&[][..], |gone| gone.holes());
        gone::count_between(&self.holes, start, end) > gone::count_between(before, start, end)
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
            } else if end == start + BLOCK && !self.touches(start, end) {
                while leaves.next_if(|(at, _)| *at < end).is_some() {}
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

/// The nodes of a block cut at a head inside of it, which must give the head's root.
async fn cut_at(reader: &mut NodeReader<'_>, stream: &Stream, size: u64, root: Hash) -> Result<Vec<Hash>, StoreError> {
    let (start, mut nodes, mut left) = (size - size % BLOCK, Vec::new(), Edge::default());
    for (height, index) in Span::new(0, start).complete_nodes() {
        left.push_node(height, reader.node(height, index).await?, |_| {});
    }
    for node in gone::cut(size - start) {
        let hash = reader.node(node.height, (start >> node.height) + node.index).await?;
        nodes.push(hash);
        if left.size() < size {
            left.push_node(node.height, hash, |_| {});
        }
    }
    if left.root() == root {
        return Ok(nodes);
    }
    let path = stream.prefix.path().to_string();
    Err(StoreError::Damaged { path, why: "its hashes do not give a head that a commit signed: run fsck" })
}

fn stream_path(touched: &[Arc<Segment>]) -> String {
    touched.first().map_or_else(String::new, |segment| segment.location.to_string())
}

/// How many entries of a segment's span are in none of the holes.
fn stays(holes: &[Span], segment: &SegmentRef) -> u64 {
    segment.span - gone::count_between(holes, segment.first, segment.end())
}

/// Commits what was prepared and put; `None` when the stream is not what it was. From where `is_tried` is set on the commit
/// may be there, whatever is answered.
async fn carry_out(
    shared: &Shared,
    stream: &Stream,
    planned: &Planned,
    (prepared, made): (Prepared, &[Segment]),
    (epoch, order): (u64, &PurgeOrder),
    is_tried: &mut bool,
) -> Result<Option<Purged>, StoreError> {
    // 2. Wait for the turn. What came before it may have changed the stream.
    let mut turn = stream.turn.lock().await;
    turn::settle(shared, stream, &mut turn).await?;
    let sealed = stream.view().sealed;
    // A writer that may no longer write its log takes nothing from a stream either.
    if let Some(refusal) = shared.log.get().refusal() {
        return Err(refusal);
    }
    // A seal whose outcome is not known has the first claim on the next number.
    if !planned.fits(&sealed) || stream.tried.load(Ordering::Acquire) > sealed.edge.size() {
        return Ok(None);
    }
    let Prepared { blocks, leaves, heads, newest } = prepared;
    let (number, size, origin) = (sealed.commits, sealed.edge.size(), stream.origin.to_string());
    let gone = Gone::new(&origin, (number, size), planned.holes.clone(), blocks, leaves, heads);
    let why = "what is kept of purged entries contradicts itself: run fsck; nothing was purged";
    let gone = gone.map_err(|_| StoreError::Damaged { path: stream_path(&planned.touched), why })?;
    let text = gone.to_text();
    let (sha256, bytes) = (Hash::of(text.as_bytes()), text.len() as u64);
    let kept = GoneRef { commit: number, epoch, sha256, bytes, entries: gone.entries(), newest };
    // 3. Put what is kept. Died after it: an object that no commit names, which the next commit of this number replaces.
    let path = stream.prefix.below(&kept.path());
    shared.objects.put(&path, text.into_bytes().into()).await.map_err(StoreError::objects(&path))?;
    let removed: Vec<SegmentRef> = planned.touched.iter().map(|segment| segment.reference.clone()).collect();
    let added: Vec<SegmentRef> = made.iter().map(|made| made.reference.clone()).collect();
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
    if signed.bytes().len() > NOTE_BYTES {
        return Err(StoreError::Invalid(
            "a purge would touch more segments than a commit can name: purge less at once",
        ));
    }
    let segments = made.iter().map(|made| Arc::new(made.clone())).collect();
    let sealed_gone = Arc::new(SealedGone::known(kept.clone(), gone));
    // 4. The commit itself, and then readers.
    *is_tried = true;
    shared.unsettled_purges.fetch_add(1, Ordering::AcqRel);
    turn.unsettled = Some(Unsettled { signed: signed.clone(), segments, gone: Some(sealed_gone) });
    if turn::settle(shared, stream, &mut turn).await? != Settled::Done {
        *is_tried = false;
        return Ok(None);
    }
    let entries = kept.entries - sealed.gone_entries();
    tracing::info!(tenant = %stream.tenant, stream = %stream.kind, commit = number, entries, removed = removed.len(),
        rewritten = added.len(), "purged");
    metrics::counter!("piperoll_purged_entries_total").increment(entries);
    Ok(Some(Purged { commit: (number, signed.hash()), entries, removed, added, kept }))
}

fn holds_line(bytes: &[u8], line: &str) -> bool {
    std::str::from_utf8(bytes).is_ok_and(|text| text.contains(line))
}

/// What the chain says of an order that was carried out.
async fn recorded(shared: &Shared, stream: &Stream, order: &PurgeOrder) -> Result<Option<Purged>, StoreError> {
    if stream.view().sealed.gone.is_none() {
        return Ok(None);
    }
    let stored = Stored::list(&shared.objects, &stream.prefix, 0).await?;
    let line = format!("\nbasis {} {}\n", order.basis, order.plan);
    let mut commits = Reader::new(&shared.objects, &stream.prefix, &stored);
    let mut is_there = false;
    for number in 0..stream.view().sealed.commits {
        is_there |= holds_line(&commits.read(number).await?, &line);
    }
    if !is_there {
        return Ok(None);
    }
    let mut commits = Reader::new(&shared.objects, &stream.prefix, &stored);
    let trusted = vec![shared.key.verifier(stream.origin.at_generation(0).as_str())];
    let mut chain = ChainVerifier::new(stream.origin.at_generation(0).as_str(), trusted);
    for number in 0..stream.view().sealed.commits {
        let bytes = commits.read(number).await?;
        let is_purge = holds_line(&bytes, &line);
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
