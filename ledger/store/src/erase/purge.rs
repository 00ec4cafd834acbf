//! Purge: entries go whole, and the hashes that must stay in their place are kept ([`ledger::gone`]).
//!
//! Segments that lose all of their entries are removed, segments that keep some are rewritten without the others. Not here:
//! the commit ([`super`]).
//!
//! Invariant: before anything is committed, what is kept and what stays was folded to the head that the stream has.

use super::Tools;
use crate::commits::{Reader, Stored};
use crate::compact::{self, Change, Goes};
use crate::error::StoreError;
use crate::objects::create;
use crate::proofs::NodeReader;
use crate::segment::Segment;
use crate::store::Shared;
use crate::stream::{Sealed, SealedGone, Stream, View};
use ledger::commit::SegmentRef;
use ledger::gone::{self, BLOCK, Gone, GoneRef, Wanted};
use ledger::proof::Span;
use ledger::tree::{Edge, Hash};
use object_store::ObjectStoreExt as _;
use std::collections::HashSet;
use std::sync::Arc;

/// What an order comes to in a stream as it is.
pub(super) struct Planned {
    /// All that is gone with it.
    holes: Vec<Span>,
    /// What was gone before.
    before: Option<Arc<Gone>>,
    /// Segments that lose something, ascending.
    pub touched: Vec<Arc<Segment>>,
}

/// What is to be committed.
pub(super) struct Prepared {
    blocks: Vec<(u64, Hash)>,
    leaves: Vec<(u64, Hash)>,
    heads: Vec<(u64, Vec<Hash>)>,
    newest: i64,
}

impl Planned {
    /// `None`: all of it is gone already.
    pub(super) async fn of(shared: &Shared, stream: &Stream, spans: &[Span]) -> Result<Option<Self>, StoreError> {
        let view = stream.view();
        let before = match &view.sealed.gone {
            Some(gone) => Some(gone.get(&shared.objects, &stream.prefix).await?),
            None => None,
        };
        let known = before.as_ref().map_or(&[][..], |gone| gone.holes());
        let holes = gone::union(known, spans);
        let loses = |segment: &&Arc<Segment>| stays(&holes, &segment.reference) < segment.reference.rows;
        let touched: Vec<Arc<Segment>> = view.sealed.segments.iter().filter(loses).cloned().collect();
        Ok((!touched.is_empty()).then_some(Self { holes, before, touched }))
    }

    /// Reads every segment that loses something, recomputes its leaves against what its commit recorded, and puts what
    /// stays of it: so nothing goes on the word of bytes that were changed.
    pub(super) async fn prepare(
        &self,
        tools: &Tools<'_>,
        stream: &Stream,
        view: &View,
        made: &mut Vec<Segment>,
    ) -> Result<Prepared, StoreError> {
        let shared = tools.shared;
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
            let change = Change::Goes(Goes { spans: &self.holes, needed: &needed });
            let merged = compact::merge(shared, stream, std::slice::from_ref(segment), tools.epoch, change).await?;
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

    /// How many entries were gone before.
    pub(super) fn gone_before(&self) -> u64 {
        self.before.as_ref().map_or(0, |gone| gone.entries())
    }

    /// Puts what is kept in the place of what goes.
    pub(super) async fn put_kept(
        &self,
        shared: &Shared,
        stream: &Stream,
        sealed: &Sealed,
        prepared: Prepared,
        epoch: u64,
    ) -> Result<SealedGone, StoreError> {
        let Prepared { blocks, leaves, heads, newest } = prepared;
        let (number, size, origin) = (sealed.commits, sealed.edge.size(), stream.origin.to_string());
        let gone = Gone::new(&origin, (number, size), self.holes.clone(), blocks, leaves, heads);
        let why = "what is kept of purged entries contradicts itself: run fsck; nothing was purged";
        let gone = gone.map_err(|_| StoreError::Damaged { path: stream_path(&self.touched), why })?;
        let text = gone.to_text();
        let (sha256, bytes) = (Hash::of(text.as_bytes()), text.len() as u64);
        let kept = GoneRef { commit: number, epoch, sha256, bytes, entries: gone.entries(), newest };
        let path = stream.prefix.below(&kept.path());
        shared.objects.put(&path, text.into_bytes().into()).await.map_err(StoreError::objects(&path))?;
        Ok(SealedGone::known(kept, gone))
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
