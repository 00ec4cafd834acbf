//! Compaction: adjacent small segments of one stream become one, and what was sealed in haste becomes smaller; no
//! leaf changes.
//!
//! [`plan`] says which, [`merge`] makes the new object, [`compact`] commits it. Each row's leaf is recomputed while
//! it is copied, and again from the bytes that are to be put: unless both give the roots that the inputs' commits
//! recorded and the root of the whole range, nothing is put and nothing changes.
//!
//! Not here: when ([`crate::upkeep`]), deleting what was removed ([`crate::upkeep`]), the commit itself
//! ([`crate::turn`]). Invariants: what is merged lies in one month's folder; a row is rewritten about as often as
//! the logarithm of the rows; of the output at most [`crate::Limits::merge_bytes`] are in memory, of the inputs a
//! row group.

mod found;
mod stale;

use self::found::{fingerprints, remember_ids};
use self::stale::plan_readable;
use crate::columns::Rows;
use crate::columns::erased::{Erases, erase};
use crate::columns::secrets::{as_written, schema_of};
use crate::error::StoreError;
use crate::keys::KeyName;
use crate::layout;
use crate::limits::{Limits, MERGE_ROWS, PATIENCE, ROW_GROUP_ROWS, WORTH_REWRITING};
use crate::objects::create;
use crate::precheck;
use crate::segment::{self, ColumnCounts, Effort, Segment, Statistics};
use crate::store::Shared;
use crate::stream::Stream;
use crate::turn::{Settled, Unsettled, settle};
use arrow::array::RecordBatch;
use arrow::compute::filter_record_batch;
use bytes::Bytes;
use futures::{FutureExt as _, StreamExt};
use ledger::commit::{Commit, SegmentRef};
use ledger::gone;
use ledger::proof::Span;
use ledger::tile::TILE_HASHES;
use ledger::tree::{Edge, Hash};
use object_store::path::Path;
use parquet::arrow::arrow_writer::{ArrowWriter, ArrowWriterOptions};
use std::collections::HashSet;
use std::ops::Range;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::Ordering;

/// When a stream is looked at: what piles up while events come in can wait for the round, within a bound.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Occasion {
    /// It got a commit.
    Commit,
    /// Every stream's turn has come.
    Round,
}

/// Which segments to merge next, as positions in the list: first of what is small ([`small`]), then, in a round, of
/// what was sealed in haste ([`hasty`]).
pub(crate) fn plan(
    segments: &[Arc<Segment>],
    limits: &Limits,
    open_from: &str,
    occasion: Occasion,
) -> Option<Range<usize>> {
    match occasion {
        Occasion::Commit => small(segments, limits, open_from, limits.merge_inputs.saturating_mul(PATIENCE)),
        Occasion::Round => small(segments, limits, open_from, limits.merge_inputs).or_else(|| hasty(segments, limits)),
    }
}

fn folder(segment: &Segment) -> &str {
    segment.reference.path.split('/').next().unwrap_or_default()
}

/// Whether two segments are neighbours in one month's folder, with nothing gone between them.
fn follows(older: &Segment, newer: &Segment) -> bool {
    folder(older) == folder(newer) && older.reference.end() == newer.reference.first
}

fn fits(limits: &Limits, bytes: u64, rows: u64) -> bool {
    bytes <= limits.merge_bytes && rows <= MERGE_ROWS
}

/// From the newest back, a run grows as long as the next older segment is not larger than all of it together, so
/// that a row that is rewritten comes to lie in a segment at least twice as large. A run of enough segments is
/// merged. In a month that is over, two are enough, and the small are not spared: no more will come.
fn small(segments: &[Arc<Segment>], limits: &Limits, open_from: &str, enough: usize) -> Option<Range<usize>> {
    let mut end = segments.len();
    while end > 1 {
        let newest = &segments[end - 1].reference;
        let (mut bytes, mut rows, mut largest) = (newest.bytes, newest.rows, newest.bytes);
        let is_over = folder(&segments[end - 1]) < open_from;
        let mut start = end - 1;
        while start > 0 && follows(&segments[start - 1], &segments[start]) {
            let older = &segments[start - 1].reference;
            let is_small = is_over || older.bytes <= bytes;
            if !is_small || !fits(limits, bytes + older.bytes, rows + older.rows) {
                break;
            }
            (bytes, rows, largest) = (bytes + older.bytes, rows + older.rows, largest.max(older.bytes));
            start -= 1;
        }
        let enough = if is_over { 2 } else { enough.max(2) };
        if fits(limits, bytes, rows) && end - start >= enough && (is_over || largest <= bytes / 2) {
            return Some(start..end);
        }
        end -= 1;
    }
    None
}

/// The oldest run of neighbours, or single one, that came from seals, and is worth the work of making it smaller.
fn hasty(segments: &[Arc<Segment>], limits: &Limits) -> Option<Range<usize>> {
    let is_sealed = |segment: &Segment| !layout::is_merged(&segment.reference.path);
    let mut start = 0;
    while start < segments.len() {
        let (mut end, mut bytes, mut rows) = (start, 0, 0);
        let is_next = |end: usize| end == start || follows(&segments[end - 1], &segments[end]);
        while let Some(next) = segments.get(end).filter(|next| is_sealed(next) && is_next(end)) {
            if !fits(limits, bytes + next.reference.bytes, rows + next.reference.rows) {
                break;
            }
            (bytes, rows, end) = (bytes + next.reference.bytes, rows + next.reference.rows, end + 1);
        }
        if bytes >= WORTH_REWRITING {
            return Some(start..end);
        }
        start = end.max(start + 1);
    }
    None
}

/// A segment that takes the place of others, before it is put.
pub(crate) struct Merged {
    pub segment: Segment,
    pub bytes: Bytes,
    /// The leaves of rows that were read, of blocks that [`Goes`] asked for.
    pub leaves: Vec<(u64, Hash)>,
    /// How many entries lost sections.
    pub erased: u64,
}

/// Merges what [`plan`] names, if it names anything. Answers whether something was merged.
///
/// # Errors
/// The object store failed, or an input is not what its commit says; nothing changed.
pub(crate) async fn compact(
    shared: &Shared,
    stream: &Stream,
    epoch: u64,
    occasion: Occasion,
) -> Result<bool, StoreError> {
    let closes = shared.ambient.now_micros() - crate::limits::MONTH_CLOSES_MICROS;
    let open_from = ledger::time::month_of(closes);
    let of = (&shared.content.keys, &stream.tenant);
    // A stream with nothing to merge is left cold.
    if plan_readable(&stream.view().sealed.segments, &shared.limits, &open_from, occasion, of).is_none() {
        return Ok(false);
    }
    precheck::warm(shared, stream).await?;
    let live = stream.view().sealed.segments;
    let Some(range) = plan_readable(&live, &shared.limits, &open_from, occasion, of) else { return Ok(false) };
    let inputs = &live[range];
    // 1. Merge in memory. Died: nothing happened. Seals go on meanwhile.
    // The Parquet decoder panics on some damage.
    let merged = AssertUnwindSafe(merge(shared, stream, inputs, epoch, Change::Nothing)).catch_unwind().await;
    let merged = match merged.unwrap_or_else(|_| Err(segment::undecodable(&inputs[0].location))) {
        Err(error) if error.kind() == crate::ErrorKind::Corrupt => {
            let what = "a merge was abandoned: stored entries are not what was recorded; nothing was changed; run fsck";
            tracing::error!(tenant = %stream.tenant, stream = %stream.kind, error = &error as &dyn std::error::Error, what);
            return Err(error);
        }
        other => other?,
    };
    // 2. Put the merged segment. Died after it: an object that no commit names; the sweep after the next start
    //    deletes it.
    create(&shared.objects, &merged.segment.location, merged.bytes).await?;
    // 3. Commit, once it is this stream's turn: a seal may have gone by, and what was merged must still be there.
    let segment = Arc::new(merged.segment);
    let done = commit(shared, stream, inputs, Arc::clone(&segment), epoch).await;
    let is_done = matches!(done, Ok(Settled::Done));
    metrics::counter!("piperoll_merges_total", "outcome" => if is_done { "done" } else { "abandoned" }).increment(1);
    if is_done {
        let reference = &segment.reference;
        metrics::counter!("piperoll_merged_rows_total").increment(reference.rows);
        tracing::info!(tenant = %stream.tenant, stream = %stream.kind, inputs = inputs.len(), rows = reference.rows,
            bytes = reference.bytes, "merged");
    } else if matches!(done, Ok(Settled::Nothing | Settled::Lost)) {
        // Nothing names it and nothing will: its commit was never tried, or lost its number to another.
        let _ = object_store::ObjectStoreExt::delete(&shared.objects, &segment.location).await;
    }
    done.map(|_| is_done)
}

/// Commits a merge. A seal whose outcome is not known has the first claim on the next number.
async fn commit(
    shared: &Shared,
    stream: &Stream,
    inputs: &[Arc<Segment>],
    segment: Arc<Segment>,
    epoch: u64,
) -> Result<Settled, StoreError> {
    let mut turn = stream.turn.lock().await;
    settle(shared, stream, &mut turn).await?;
    let sealed = stream.view().sealed;
    let from = sealed.segments.partition_point(|held| held.reference.first < segment.reference.first);
    let live = sealed.segments.get(from..from + inputs.len()).unwrap_or_default();
    let is_live = live.len() == inputs.len() && live.iter().zip(inputs).all(|(a, b)| a.reference == b.reference);
    // A writer that may no longer write its log adds nothing to a stream either.
    let may_write = shared.log.get().refusal().is_none();
    if !is_live || !may_write || stream.tried.load(Ordering::Acquire) > sealed.edge.size() {
        return Ok(Settled::Nothing);
    }
    let commit = Commit {
        origin: stream.origin.to_string(),
        number: sealed.commits,
        previous: sealed.last_commit,
        epoch,
        time: shared.ambient.now_micros(),
        adds: vec![segment.reference.clone()],
        removes: inputs.iter().map(|input| input.reference.path.clone()).collect(),
        erasure: None,
        edge: sealed.edge,
    };
    turn.unsettled =
        Some(Unsettled { signed: commit.sign(shared.signing.now().current()), segments: vec![segment], gone: None });
    settle(shared, stream, &mut turn).await
}

/// What is not to be copied, and of which blocks of 256 entries the leaves are to be told.
#[derive(Clone, Copy)]
pub(crate) struct Goes<'g> {
    pub spans: &'g [Span],
    pub needed: &'g HashSet<u64>,
}

/// What a rewriting changes besides how rows lie.
#[derive(Clone, Copy)]
pub(crate) enum Change<'c> {
    /// Nothing.
    Nothing,
    /// Entries go; something must stay.
    Goes(Goes<'c>),
    /// Sections go.
    Erases(Erases<'c>),
}

impl<'c> Change<'c> {
    fn goes(self) -> Option<Goes<'c>> {
        match self {
            Self::Goes(goes) => Some(goes),
            Self::Nothing | Self::Erases(_) => None,
        }
    }
}

/// Recomputes a segment's leaves against what its commit recorded, and answers those of some blocks.
///
/// # Errors
/// It cannot be read, or is not what was recorded; bounds by which it was judged unread are checked with it.
pub(crate) async fn leaves_of(
    shared: &Shared,
    stream: &Stream,
    segment: &Arc<Segment>,
    needed: &HashSet<u64>,
) -> Result<Vec<(u64, Hash)>, StoreError> {
    let before = gone_of(shared, stream, std::slice::from_ref(segment)).await?;
    let mut own = Leaves::new(stream, &before, segment.reference.first);
    let mut batches = segment::stream_rows(&shared.content, segment).await?;
    let mut leaves = Vec::new();
    while let Some(batch) = batches.next().await {
        if shared.stopping.load(Ordering::Acquire) {
            return Err(StoreError::Stopping);
        }
        let batch = batch?;
        own.take(&batch, &segment.location, |seq, leaf| {
            leaves.extend(needed.contains(&(seq / TILE_HASHES)).then_some((seq, leaf)));
        })?;
        let rows = Rows::of(&batch)?;
        let is_within = |at: i64| segment.statistics.recorded_at.is_none_or(|(low, high)| low <= at && at <= high);
        if !(0..rows.len()).all(|row| is_within(rows.recorded_at(row))) {
            let why = "its bounds are not those of its rows: run fsck";
            return Err(StoreError::Damaged { path: segment.location.to_string(), why });
        }
    }
    own.must_be(segment.reference.rows, &segment.reference.root, &segment.location)?;
    Ok(leaves)
}

/// How what is copied is to be written: encoded, under which key, and with the columns of redaction or without.
async fn writing(
    shared: &Shared,
    inputs: &[Arc<Segment>],
    location: &Path,
    change: Change<'_>,
) -> Result<(ArrowWriterOptions, Option<KeyName>, bool), StoreError> {
    let counts = ColumnCounts::of(&shared.content, inputs).await?;
    let distinct = |field| counts.distinct(field).min(ROW_GROUP_ROWS as u64);
    let effort = if matches!(change, Change::Nothing) { Effort::Thorough } else { Effort::Quick };
    let key = shared.content.keys.for_segment(location, shared.ambient.as_ref())?;
    let (encryption, under) = key.map(|key| (key.properties, key.under)).unzip();
    let (is_empty, bytes) = (|field| counts.is_empty(field), |column: &str| counts.bytes(column));
    let properties = segment::properties(effort, distinct, is_empty, bytes, encryption);
    let is_wide = counts.is_wide() || matches!(change, Change::Erases(_));
    Ok((ArrowWriterOptions::new().with_properties(properties).with_skip_arrow_metadata(true), under, is_wide))
}

/// Copies the rows of adjacent segments into one, less what the change takes, and proves that it did.
pub(crate) async fn merge(
    shared: &Shared,
    stream: &Stream,
    inputs: &[Arc<Segment>],
    epoch: u64,
    change: Change<'_>,
) -> Result<Merged, StoreError> {
    let (first, last) = (&inputs[0].reference, &inputs[inputs.len() - 1].reference);
    let folder = first.path.split('/').next().unwrap_or_default();
    let number = shared.merges.fetch_add(1, Ordering::Relaxed);
    // What was missing before, and what is besides from here on.
    let before = gone_of(shared, stream, inputs).await?;
    let goes = change.goes();
    let missing = goes.map_or_else(|| before.clone(), |goes| gone::union(&before, goes.spans));
    let (start, end) = bounds(&missing, first.first, last.end());
    let path = layout::merged_segment(folder, start, epoch, number);
    let location = stream.prefix.below(&path);
    let (options, under, is_wide) = writing(shared, inputs, &location, change).await?;
    let mut bytes = Vec::new();
    let writer = ArrowWriter::try_new_with_options(&mut bytes, schema_of(is_wide), options);
    let mut writer = writer.map_err(StoreError::parquet(&location))?;
    let mut whole = Edge::default();
    let mut ids = Vec::with_capacity((end - start) as usize);
    let (mut leaves, mut erased) = (Vec::new(), 0);
    for input in inputs {
        let mut own = Leaves::new(stream, &before, input.reference.first);
        let mut batches = segment::stream_rows(&shared.content, input).await?;
        while let Some(batch) = batches.next().await {
            // A store that closes does not wait for a merge: nothing of it is anywhere yet.
            if shared.stopping.load(Ordering::Acquire) {
                return Err(StoreError::Stopping);
            }
            let batch = batch?;
            let mut stays = Vec::with_capacity(batch.num_rows());
            own.take(&batch, &input.location, |seq, leaf| {
                let keeps = !gone::holds(&missing, seq);
                let is_needed = goes.is_some_and(|goes| goes.needed.contains(&(seq / TILE_HASHES)));
                leaves.extend(is_needed.then_some((seq, leaf)));
                stays.push(keeps);
                if keeps {
                    whole.push(leaf);
                }
            })?;
            let mut batch = only(batch, stays, &location)?;
            fingerprints(&batch, start, &mut ids)?;
            if let Change::Erases(erases) = change {
                let (without, count) = erase(&batch, erases)?;
                (batch, erased) = (without, erased + count);
            }
            writer.write(&as_written(&batch, is_wide)?).map_err(StoreError::parquet(&location))?;
        }
        own.must_be(input.reference.rows, &input.reference.root, &input.location)?;
    }
    let statistics = Statistics::of(&writer.close().map_err(StoreError::parquet(&location))?).under(under);
    let bytes = Bytes::from(bytes);
    let (root, rows) = (whole.root(), whole.size());
    let mut written = Leaves::new(stream, &missing, start);
    segment::read_all(&shared.content.keys, &location, bytes.clone(), |batch| {
        written.take(batch, &location, |_, _| {})
    })?;
    written.must_be(rows, &root, &location)?;
    let (size, sha256) = (bytes.len() as u64, Hash::of(&bytes));
    let reference = SegmentRef { path, first: start, span: end - start, rows, bytes: size, sha256, root };
    remember_ids(shared, stream, &reference, &statistics, &ids);
    Ok(Merged { segment: Segment { reference, location, statistics }, bytes, leaves, erased })
}

/// The rows of a batch that stay.
fn only(batch: RecordBatch, stays: Vec<bool>, path: &Path) -> Result<RecordBatch, StoreError> {
    if stays.iter().all(|stays| *stays) {
        return Ok(batch);
    }
    filter_record_batch(&batch, &stays.into()).map_err(|error| StoreError::parquet(path)(error.into()))
}

/// What is missing inside of segments, if anything is.
async fn gone_of(shared: &Shared, stream: &Stream, inputs: &[Arc<Segment>]) -> Result<Vec<Span>, StoreError> {
    let sealed = stream.view().sealed;
    match sealed.gone {
        Some(gone) if inputs.iter().any(|input| !input.reference.is_whole()) => {
            Ok(gone.get(&shared.objects, &stream.prefix).await?.holes().to_vec())
        }
        _ => Ok(Vec::new()),
    }
}

/// The first and one past the last position of a range that is not missing.
fn bounds(missing: &[Span], first: u64, end: u64) -> (u64, u64) {
    let (mut start, mut stop) = (first, end);
    if let Some(span) = missing.iter().find(|span| span.start <= start && start < span.end) {
        start = span.end;
    }
    if let Some(span) = missing.iter().find(|span| span.start < stop && stop <= span.end) {
        stop = span.start;
    }
    (start, stop)
}

/// The leaves of rows that follow each other, but for what is missing.
struct Leaves<'s> {
    stream: &'s Stream,
    missing: &'s [Span],
    next: u64,
    edge: Edge,
    scratch: Vec<u8>,
}

impl<'s> Leaves<'s> {
    fn new(stream: &'s Stream, missing: &'s [Span], next: u64) -> Self {
        Self { stream, missing, next, edge: Edge::default(), scratch: Vec::new() }
    }

    fn take(&mut self, batch: &RecordBatch, path: &Path, mut each: impl FnMut(u64, Hash)) -> Result<(), StoreError> {
        let rows = Rows::of(batch)?;
        for row in 0..rows.len() {
            let at = self.missing.partition_point(|span| span.end <= self.next);
            if let Some(hole) = self.missing.get(at).filter(|hole| hole.start <= self.next) {
                self.next = hole.end;
            }
            let is_its = rows.is_of(row, self.stream.tenant.as_str(), self.stream.kind.as_str());
            if rows.seq(row) != self.next || !is_its {
                let why = "a row is not the one that belongs there";
                return Err(StoreError::Damaged { path: path.to_string(), why });
            }
            let leaf = rows.leaf(row, &mut self.scratch)?;
            self.edge.push(leaf);
            each(self.next, leaf);
            self.next += 1;
        }
        Ok(())
    }

    fn must_be(&self, rows: u64, root: &Hash, path: &Path) -> Result<(), StoreError> {
        if self.edge.size() == rows && self.edge.root() == *root {
            return Ok(());
        }
        Err(StoreError::Damaged { path: path.to_string(), why: "its rows do not give the root that was recorded" })
    }
}

#[cfg(test)]
pub(crate) mod tests;
