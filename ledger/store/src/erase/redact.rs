//! Redaction: sections of entries go, with their salts; their commitments stay, and every leaf is what it was.
//!
//! A seed gives the salts of up to 1,024 entries, so wherever a seed of a redacted entry stands it must go too, and each of
//! these rows gets its salts one by one ([`crate::columns::secrets`]). Not here: the commit ([`super`]).
//!
//! Invariants: when it is committed, no entry of the stream has one of these seeds, sealed or not, and none ever will.

use super::Tools;
use crate::columns::Rows;
use crate::columns::erased::{Erases, sections_of};
use crate::compact::{self, Change};
use crate::error::StoreError;
use crate::objects::create;
use crate::seal;
use crate::segment::{self, Segment};
use crate::stream::Stream;
use crate::writer::Message;
use futures::StreamExt as _;
use ledger::leaf::Seed;
use ledger::proof::Span;
use ledger::sections::Sections;
use std::collections::HashSet;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use tokio::sync::oneshot;

/// What a redaction comes to in a stream as it is.
pub(super) struct Planned {
    rows: Vec<(Span, Sections)>,
    seeds: HashSet<Seed>,
    /// Segments that hold one of the entries, or one of the seeds.
    pub touched: Vec<Arc<Segment>>,
    /// How many entries were sealed, and gone, when it was looked.
    pub size: u64,
    pub gone: u64,
}

impl Planned {
    /// Finds what is still there of these sections, and has the seeds of these entries retired. `None`: nothing of them is
    /// there.
    pub(super) async fn of(
        tools: &Tools<'_>,
        stream: &Arc<Stream>,
        rows: &[(Span, Sections)],
    ) -> Result<Option<Self>, StoreError> {
        let is_inside = |segment: &&Arc<Segment>| {
            let reference = &segment.reference;
            rows.iter().any(|(span, _)| span.start < reference.end() && reference.first < span.end)
        };
        let (mut seeds, mut touched) = (HashSet::new(), Vec::new());
        for segment in stream.view().sealed.segments.iter().filter(is_inside) {
            if found(tools, segment, rows, &mut seeds).await? {
                touched.push(Arc::clone(segment));
            }
        }
        if touched.is_empty() {
            return Ok(None);
        }
        retire(tools, stream, &seeds).await?;
        let sealed = stream.view().sealed;
        let known: HashSet<String> = touched.iter().map(|segment| segment.reference.path.clone()).collect();
        for segment in sealed.segments.iter().filter(|segment| !known.contains(&segment.reference.path)) {
            if holds_seed(tools, segment, &seeds).await? {
                touched.push(Arc::clone(segment));
            }
        }
        touched.sort_by_key(|segment| segment.reference.first);
        let (size, gone) = (sealed.edge.size(), sealed.gone_entries());
        Ok(Some(Self { rows: rows.to_vec(), seeds, touched, size, gone }))
    }

    /// Rewrites each segment and puts it; each is recomputed before and after. Answers how many entries lose sections.
    pub(super) async fn prepare(
        &self,
        tools: &Tools<'_>,
        stream: &Stream,
        made: &mut Vec<Segment>,
    ) -> Result<u64, StoreError> {
        let mut entries = 0;
        for segment in &self.touched {
            let change = Change::Erases(Erases { rows: &self.rows, seeds: &self.seeds, with_empty: false });
            let inputs = std::slice::from_ref(segment);
            let merged = compact::merge(tools.shared, stream, inputs, tools.epoch, change).await?;
            entries += merged.erased;
            made.push(merged.segment.clone());
            create(&tools.shared.objects, &merged.segment.location, merged.bytes).await?;
        }
        Ok(entries)
    }
}

/// Whether a segment has something that is to go, and the seeds of the entries that have it.
async fn found(
    tools: &Tools<'_>,
    segment: &Segment,
    rows: &[(Span, Sections)],
    seeds: &mut HashSet<Seed>,
) -> Result<bool, StoreError> {
    let mut batches = segment::stream_rows(&tools.shared.content, segment).await?;
    let (mut scratch, mut is_any) = (Vec::new(), false);
    while let Some(batch) = batches.next().await {
        stops(tools)?;
        let batch = batch?;
        let read = Rows::of(&batch)?;
        for row in 0..read.len() {
            let goes = sections_of(rows, read.seq(row));
            if !goes.is_empty() && !goes.and(read.filled(row, &mut scratch)).is_empty() {
                is_any = true;
                seeds.extend(read.seed(row));
            }
        }
    }
    Ok(is_any)
}

/// Whether an entry of a segment has one of these seeds.
async fn holds_seed(tools: &Tools<'_>, segment: &Segment, seeds: &HashSet<Seed>) -> Result<bool, StoreError> {
    stops(tools)?;
    let found = segment::seeds_of(&tools.shared.content, segment).await?;
    Ok(found.iter().any(|seed| seeds.contains(seed)))
}

fn stops(tools: &Tools<'_>) -> Result<(), StoreError> {
    if tools.shared.stopping.load(Ordering::Acquire) { Err(StoreError::Stopping) } else { Ok(()) }
}

/// Sees to it that no entry with one of these seeds is unsealed, and that none comes any more. Died during it: a start
/// draws seeds of its own.
async fn retire(tools: &Tools<'_>, stream: &Arc<Stream>, seeds: &HashSet<Seed>) -> Result<(), StoreError> {
    if seeds.is_empty() {
        return Ok(());
    }
    // 1. Requests that come from here on draw another seed. 2. Those that have one of these already are sent back by the
    //    writer; its answer says that what it let through before is published. 3. That is sealed.
    stream.drop_seed(seeds);
    let writer = tools.writer.upgrade().ok_or(StoreError::Stopping)?;
    let (done, retired) = oneshot::channel();
    let message = Message::Retire { stream: Arc::clone(stream), seeds: seeds.clone(), done };
    writer.send(message).await.map_err(|_| StoreError::Stopping)?;
    drop(writer);
    retired.await.map_err(|_| StoreError::Stopping)?;
    let is_there = || {
        let view = stream.view();
        view.tail.iter().flat_map(|chunk| &chunk.entries).any(|entry| seeds.contains(&entry.seed))
    };
    while is_there() {
        stops(tools)?;
        let seals = tools.seals.upgrade().ok_or(StoreError::Stopping)?;
        seal::now(tools.shared, &seals, Arc::clone(stream), tools.epoch).await?;
    }
    Ok(())
}
