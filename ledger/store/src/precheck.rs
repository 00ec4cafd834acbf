//! Looks for the sealed originals of drafts, on the request's own time, before they are sequenced.
//!
//! The answer says through which sequence number it looked. Should a seal move that mark meanwhile, the
//! writer sends the request back here. Not here: unsealed originals, which the writer knows.
//!
//! Invariant: a draft is called a repeat only after its stored original was compared, id and content.

use crate::columns::Rows;
use crate::error::StoreError;
use crate::ids::{self, IdRun};
use crate::layout::twenty;
use crate::limits::PAGE_ROWS;
use crate::segment::{self, Segment, Statistics};
use crate::store::Shared;
use crate::stream::Stream;
use ledger::commit::SegmentRef;
use ledger::draft::Draft;
use ledger::field::Section;
use ledger::leaf::id_fingerprint;
use ledger::sections::Sections;
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
        Self::compare_rest(original, Sections::default(), draft, seq)
    }

    /// Compares a draft with what is left of the original that has its id: what was erased is not known to differ.
    fn compare_rest(original: &Draft, erased: Sections, draft: &Draft, seq: u64) -> Self {
        let is_same = if erased.is_empty() {
            original.content() == draft.content()
        } else {
            let stays = Section::COMMITTED.into_iter().filter(|section| !erased.contains(*section));
            let mut stays = stays.chain([Section::Skeleton]);
            stays.all(|section| original.section(section) == draft.section(section))
        };
        if is_same { Self::Same(seq) } else { Self::Other(seq) }
    }
}

/// What was recorded before this moment is no longer asked about.
pub(crate) fn oldest(shared: &Shared) -> i64 {
    shared.ambient.now_micros() - shared.limits.duplicate_window.as_micros() as i64
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
    drafts: &[Draft],
    fingerprints: &[u64],
) -> Result<Prechecked, StoreError> {
    warm(shared, stream).await?;
    let (runs, through) = stream.runs();
    let oldest = oldest(shared);
    let mut candidates = Vec::new();
    for run in runs.iter().filter(|run| run.newest >= oldest) {
        for (at, fingerprint) in fingerprints.iter().enumerate().filter(|(_, id)| run.may_hold(**id)) {
            let found = run.find(*fingerprint).map_err(StoreError::file(std::path::Path::new("ids")))?;
            candidates.extend(found.into_iter().map(|seq| (seq, at)));
        }
    }
    candidates.sort_unstable();
    let mut known = vec![None; drafts.len()];
    let view = if candidates.is_empty() { return Ok(Prechecked { known, through }) } else { stream.view() };
    let mut rest = &candidates[..];
    while let [(first, _), ..] = rest {
        // What is gone has no content to compare with.
        let Some(segment) = view.segment(*first) else {
            rest = &rest[1..];
            continue;
        };
        // A batch that is sent again is mostly in order: its originals are read together.
        let end = segment.reference.end().min(first + PAGE_ROWS as u64);
        let (near, later) = rest.split_at(rest.partition_point(|(seq, _)| *seq < end));
        rest = later;
        let originals = match originals(shared, segment, near).await {
            // Nor is there anything to compare with where a key is gone for good.
            Err(StoreError::Key(error)) if error.is_destroyed() => continue,
            originals => originals?,
        };
        for (seq, at, original, erased) in originals {
            let draft = &drafts[at];
            let counts = original.event_id() == draft.event_id() && original.recorded_at() >= oldest;
            // The first that counts; another id may have the same fingerprint.
            if counts && known[at].is_none() {
                known[at] = Some(Known::compare_rest(&original, erased, draft, seq));
            }
        }
    }
    Ok(Prechecked { known, through })
}

/// The stored events at positions of one segment that lie near each other, ascending, each with the sections that were
/// erased of it; each position comes with the draft that asks about it.
async fn originals(
    shared: &Shared,
    segment: &Segment,
    near: &[(u64, usize)],
) -> Result<Vec<(u64, usize, Draft, Sections)>, StoreError> {
    let (Some((from, _)), Some((last, _))) = (near.first(), near.last()) else { return Ok(vec![]) };
    let mut out = Vec::with_capacity(near.len());
    let mut asked = near.iter().peekable();
    for batch in segment::read_rows(&shared.content, segment, *from, last + 1).await? {
        let rows = Rows::of(&batch)?;
        for row in 0..rows.len() {
            while let Some((seq, at)) = asked.next_if(|(seq, _)| *seq == rows.seq(row)) {
                out.push((*seq, *at, rows.draft(row)?, rows.erased(row)));
            }
        }
    }
    Ok(out)
}

/// The runs of a stream's ids with that of a segment which is about to be committed; ids older than the window
/// are asked of nobody, and go.
///
/// # Errors
/// The cache cannot be written.
pub(crate) fn with_run(
    shared: &Shared,
    stream: &Stream,
    segment: &SegmentRef,
    newest: i64,
    ids: &[u64],
) -> Result<Vec<Arc<IdRun>>, StoreError> {
    let path = run_path(shared, stream, segment);
    let oldest = oldest(shared);
    let mut runs = stream.runs().0;
    runs.retain(|run| run.newest >= oldest);
    let new = IdRun::build(&path, segment.first, newest, ids)?;
    ids::add_run(path.parent().unwrap_or(&path), &mut runs, Arc::new(new))?;
    Ok(runs)
}

/// Reads footers and id files of a stream that was opened and not looked at since; id files that are
/// missing are made anew from their segments.
///
/// # Errors
/// A segment cannot be read.
pub(crate) async fn warm(shared: &Shared, stream: &Stream) -> Result<(), StoreError> {
    let load = || async {
        let (statistics, runs) = load(shared, stream).await?;
        stream.warmed(statistics, runs);
        Ok::<(), StoreError>(())
    };
    stream.warm.get_or_try_init(load).await?;
    Ok(())
}

/// Reads the ids of a stream anew, whose turn the caller has: some of its entries are gone.
///
/// # Errors
/// A segment cannot be read.
pub(crate) async fn forget(shared: &Shared, stream: &Stream) -> Result<(), StoreError> {
    stream.set_runs(load(shared, stream).await?.1);
    Ok(())
}

type Loaded = (Vec<(u64, Statistics)>, Vec<Arc<IdRun>>);

async fn load(shared: &Shared, stream: &Stream) -> Result<Loaded, StoreError> {
    let oldest = oldest(shared);
    let (mut statistics, mut runs) = (Vec::new(), Vec::new());
    for segment in &stream.view().sealed.segments {
        let known = match &segment.statistics {
            unknown if *unknown == Statistics::default() => {
                Statistics::read_if_readable(&shared.content, &segment.location, segment.reference.bytes).await?
            }
            known => known.clone(),
        };
        if known.recorded_at.is_none_or(|(_, newest)| newest >= oldest) {
            let run = match run_of(shared, stream, segment).await {
                // Nobody can tell any more which ids it holds.
                Err(StoreError::Key(error)) if error.is_destroyed() => None,
                run => Some(run?),
            };
            let path = run_path(shared, stream, &segment.reference);
            if let Some(run) = run {
                ids::add_run(path.parent().unwrap_or(&path), &mut runs, Arc::new(run))?;
            }
        }
        statistics.push((segment.reference.first, known));
    }
    Ok((statistics, runs))
}

/// The folder of a stream's id files.
pub(crate) fn runs_folder(shared: &Shared, stream: &Stream) -> std::path::PathBuf {
    shared.cache.join("ids").join(stream.tenant.as_str()).join(stream.kind.as_str())
}

/// Where the id file of a segment's run lies. Its name tells the entries themselves, not only their numbers:
/// a cache that another store left behind must not pass for this one's.
pub(crate) fn run_path(shared: &Shared, stream: &Stream, segment: &SegmentRef) -> std::path::PathBuf {
    let folder = runs_folder(shared, stream);
    let root = segment.root.to_hex();
    folder.join(format!("{}-{}-{}.ids", twenty(segment.first), twenty(segment.end()), &root[..16]))
}

/// One past the last entry of the run whose file this is; none for any other file.
pub(crate) fn run_end(path: &std::path::Path) -> Option<u64> {
    let name = path.file_name()?.to_str()?.strip_suffix(".ids")?;
    name.split('-').nth(1)?.parse().ok()
}

async fn run_of(shared: &Shared, stream: &Stream, segment: &Segment) -> Result<IdRun, StoreError> {
    let (first, end) = (segment.reference.first, segment.reference.end());
    let path = run_path(shared, stream, &segment.reference);
    if let Some(run) = IdRun::open(&path, first, end) {
        return Ok(run);
    }
    let bytes = segment::fetch(&shared.objects, &segment.location).await?;
    let (mut ids, mut newest) = (Vec::with_capacity((end - first) as usize), i64::MIN);
    segment::read_all(&shared.content.keys, &segment.location, bytes, |batch| {
        let rows = Rows::of(batch)?;
        for row in 0..rows.len() {
            let draft = rows.draft(row)?;
            newest = newest.max(draft.recorded_at());
            let distance = rows.seq(row).checked_sub(first).filter(|at| *at < end - first && *at >= ids.len() as u64);
            let why = "a row is not the one that belongs there";
            let damaged = || StoreError::Damaged { path: segment.location.to_string(), why };
            ids.resize(distance.ok_or_else(damaged)? as usize, ids::NONE);
            ids.push(id_fingerprint(draft.event_id()));
        }
        Ok(())
    })?;
    IdRun::build(&path, first, newest, &ids)
}
