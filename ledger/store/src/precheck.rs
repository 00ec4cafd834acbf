//! Looks for the sealed originals of drafts, on the request's own time, before they are sequenced.
//!
//! The answer says through which sequence number it looked. Should a seal move that mark meanwhile, the
//! writer sends the request back here. Not here: unsealed originals, which the writer knows.
//!
//! Invariant: a draft is called a repeat only after its stored original was compared, id and content.

use crate::columns::Rows;
use crate::error::StoreError;
use crate::ids::IdRun;
use crate::layout::twenty;
use crate::segment::{self, Statistics};
use crate::store::Shared;
use crate::stream::{Stream, View};
use arrow::array::RecordBatch;
use ledger::draft::Draft;
use ledger::leaf::id_fingerprint;
use std::sync::Arc;

/// An event id that a stream holds already.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Known {
    /// With the same content, at this position.
    Same(u64),
    /// With other content, at this position.
    Other(u64),
}

impl Known {
    /// Compares a draft with the original that has its id.
    pub(crate) fn compare(original: &Draft, draft: &Draft, seq: u64) -> Self {
        if original.content() == draft.content() { Self::Same(seq) } else { Self::Other(seq) }
    }
}

/// What was found for the drafts of one stream.
#[derive(Debug)]
pub(crate) struct Prechecked {
    /// For each draft, its sealed original.
    pub known: Vec<Option<Known>>,
    /// Everything below was looked at.
    pub through: u64,
}

/// Looks for sealed originals of these drafts, whose fingerprints are given in the same order.
///
/// # Errors
/// A segment or an id file cannot be read.
pub(crate) async fn precheck(
    shared: &Shared,
    stream: &Stream,
    drafts: &[&Draft],
    fingerprints: &[u64],
) -> Result<Prechecked, StoreError> {
    warm(shared, stream).await?;
    let (runs, through) = stream.runs();
    let oldest = shared.ambient.now_micros() - shared.limits.duplicate_window.as_micros() as i64;
    let mut known = vec![None; drafts.len()];
    for run in runs.iter().filter(|run| run.newest >= oldest) {
        for (at, fingerprint) in fingerprints.iter().enumerate() {
            if known[at].is_some() || !run.may_hold(*fingerprint) {
                continue;
            }
            let candidates = run.find(*fingerprint).map_err(StoreError::file(std::path::Path::new("ids")))?;
            for seq in candidates {
                known[at] = compare_at(shared, stream, drafts[at], seq, oldest).await?;
            }
        }
    }
    Ok(Prechecked { known, through })
}

async fn compare_at(
    shared: &Shared,
    stream: &Stream,
    draft: &Draft,
    seq: u64,
    oldest: i64,
) -> Result<Option<Known>, StoreError> {
    let rows = row(shared, &stream.view(), seq).await?;
    let original = Rows::of(&rows)?.draft(0)?;
    let counts = original.event_id() == draft.event_id() && original.recorded_at() >= oldest;
    Ok(counts.then(|| Known::compare(&original, draft, seq)))
}

async fn row(shared: &Shared, view: &View, seq: u64) -> Result<RecordBatch, StoreError> {
    let segment = view.segment(seq).ok_or(StoreError::NotFound("no segment holds this entry"))?;
    let rows = segment::read_rows(&shared.objects, segment, seq, seq + 1).await?;
    rows.into_iter().next().ok_or(StoreError::NotFound("no segment holds this entry"))
}

/// Reads footers and id files of a stream that was opened and not looked at since; id files that are
/// missing are made anew from their segments.
///
/// # Errors
/// A segment cannot be read.
pub(crate) async fn warm(shared: &Shared, stream: &Stream) -> Result<(), StoreError> {
    let load = || async {
        let oldest = shared.ambient.now_micros() - shared.limits.duplicate_window.as_micros() as i64;
        let mut statistics = Vec::new();
        let mut runs = Vec::new();
        for segment in &stream.view().sealed.segments {
            let known = match &segment.statistics {
                unknown if *unknown == Statistics::default() => {
                    Statistics::read(&shared.objects, &segment.location, segment.reference.bytes).await?
                }
                known => known.clone(),
            };
            if known.recorded_at.is_none_or(|(_, newest)| newest >= oldest) {
                runs.push(Arc::new(run_of(shared, stream, segment).await?));
            }
            statistics.push((segment.reference.first, known));
        }
        stream.warmed(statistics, runs);
        Ok(())
    };
    stream.warm.get_or_try_init(load).await.map(|()| ())
}

/// Where the id file of a run lies.
pub(crate) fn run_path(shared: &Shared, stream: &Stream, first: u64, end: u64) -> std::path::PathBuf {
    let folder = shared.cache.join("ids").join(stream.tenant.as_str()).join(stream.kind.as_str());
    folder.join(format!("{}-{}.ids", twenty(first), twenty(end)))
}

async fn run_of(shared: &Shared, stream: &Stream, segment: &segment::Segment) -> Result<IdRun, StoreError> {
    let (first, end) = (segment.reference.first, segment.reference.end());
    let path = run_path(shared, stream, first, end);
    if let Some(run) = IdRun::open(&path, first, end) {
        return Ok(run);
    }
    let bytes = segment::fetch(&shared.objects, &segment.location).await?;
    let (mut ids, mut newest) = (Vec::new(), i64::MIN);
    segment::read_all(&segment.location, bytes, |batch| {
        let rows = Rows::of(batch)?;
        for row in 0..rows.len() {
            let draft = rows.draft(row)?;
            newest = newest.max(draft.recorded_at());
            ids.push(id_fingerprint(draft.event_id()));
        }
        Ok(())
    })?;
    IdRun::build(&path, first, newest, &ids)
}
