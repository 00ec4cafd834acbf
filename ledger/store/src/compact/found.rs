//! The ids of what was merged, by which the next start finds repeats without reading the segment.
//!
//! Not here: files of ids ([`crate::ids`]). Invariant: they are a cache; without them the segment is read.

use crate::columns::Rows;
use crate::error::StoreError;
use crate::ids::{self, IdRun};
use crate::precheck;
use crate::segment::Statistics;
use crate::store::Shared;
use crate::stream::Stream;
use arrow::array::{AsArray, RecordBatch};
use ledger::commit::SegmentRef;
use ledger::field::Field;
use ledger::leaf::id_fingerprint;

/// Appends the fingerprints of a batch's ids, by their distance from `first`: entries between that are gone have none.
pub(super) fn fingerprints(batch: &RecordBatch, first: u64, out: &mut Vec<u64>) -> Result<(), StoreError> {
    let ids = batch.column_by_name(Field::EventId.name()).and_then(|column| column.as_string_opt::<i32>());
    let rows = Rows::of(batch)?;
    for (row, id) in ids.into_iter().flatten().enumerate() {
        out.resize((rows.seq(row) - first) as usize, ids::NONE);
        out.push(id_fingerprint(id.unwrap_or_default()));
    }
    Ok(())
}

/// Writes the file of ids that the next start looks for. It is a cache: without it the segment is read.
pub(super) fn remember_ids(
    shared: &Shared,
    stream: &Stream,
    reference: &SegmentRef,
    statistics: &Statistics,
    ids: &[u64],
) {
    let newest = statistics.recorded_at.map_or(i64::MAX, |(_, newest)| newest);
    if newest < precheck::oldest(shared) {
        return;
    }
    let path = precheck::run_path(shared, stream, reference);
    if let Err(error) = IdRun::build(&path, reference.first, newest, ids) {
        tracing::debug!(error = &error as &dyn std::error::Error, "the ids of a merged segment were not kept");
    }
}
