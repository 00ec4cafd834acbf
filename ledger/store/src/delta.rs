//! The Delta Lake view of a stream: one log entry per commit, so that other engines read the segments.
//!
//! It is made from commits and believed by nobody here; a missing or damaged entry is written anew. It
//! declares a writer feature of our own, so that foreign engines read and refuse to write. Its `stats` name
//! nothing that an erasure could reach. Format: Delta Lake transaction log protocol.
//!
//! Every so many commits a checkpoint holds the view's whole state ([`checkpoint`]), and entries that an older
//! checkpoint covers are removed: they would only be read by whoever looks into the past.
//!
//! Invariant: version `n` of the view says what commit `n` says.

mod checkpoint;

pub(crate) use checkpoint::{checkpoint_if_due, live_in_checkpoint, newest_text, rebuild};

use crate::columns::{self, SEQ};
use crate::error::StoreError;
use crate::segment::{Segment, Statistics};
use crate::store::Shared;
use crate::stream::Stream;
use arrow::datatypes::DataType;
use ledger::commit::{Commit, SegmentRef};
use ledger::time::format_micros;
use object_store::{ObjectStoreExt, PutPayload};
use serde_json::{Value, json};

/// The writer feature that keeps foreign writers out.
const WRITER_FEATURE: &str = "piperollLedger";

fn delta_type(kind: &DataType) -> &'static str {
    match kind {
        DataType::Utf8 => "string",
        DataType::Int64 => "long",
        DataType::Int32 => "integer",
        DataType::Timestamp(_, _) => "timestamp",
        _ => "binary",
    }
}

fn schema_string() -> String {
    let fields: Vec<Value> = columns::schema()
        .fields()
        .iter()
        .map(|f| json!({"name": f.name(), "type": delta_type(f.data_type()), "nullable": f.is_nullable(), "metadata": {}}))
        .collect();
    json!({"type": "struct", "fields": fields}).to_string()
}

fn stats(segment: &Segment) -> String {
    let Statistics { occurred_at, recorded_at, action, outcome, release, region, .. } = &segment.statistics;
    let reference = &segment.reference;
    let (mut min, mut max) = (json!({SEQ: reference.first}), json!({SEQ: reference.end() - 1}));
    for (name, bounds) in [("occurred_at", occurred_at), ("recorded_at", recorded_at)] {
        if let Some((low, high)) = bounds {
            (min[name], max[name]) = (format_micros(*low).into(), format_micros(*high).into());
        }
    }
    for (name, bounds) in [("action", action), ("outcome", outcome), ("release", release), ("region", region)] {
        if let Some((low, high)) = bounds {
            (min[name], max[name]) = (low.as_str().into(), high.as_str().into());
        }
    }
    json!({"numRecords": reference.rows, "minValues": min, "maxValues": max}).to_string()
}

fn protocol() -> Value {
    json!({"minReaderVersion": 1, "minWriterVersion": 7, "writerFeatures": [WRITER_FEATURE]})
}

fn metadata(origin: &str) -> Value {
    let id = &ledger::Hash::of(origin.as_bytes()).to_hex()[..32];
    let id = format!("{}-{}-{}-{}-{}", &id[..8], &id[8..12], &id[12..16], &id[16..20], &id[20..]);
    json!({"id": id, "name": origin, "format": {"provider": "parquet", "options": {}},
        "schemaString": schema_string(), "partitionColumns": [], "configuration": {}})
}

/// The log entry that shows a commit, with the `stats` of what it adds.
fn entry(commit: &Commit, stats: &[String]) -> String {
    let millis = commit.time / 1_000;
    let info = json!({"commitInfo": {"timestamp": millis, "operation": "WRITE", "engineInfo": "piperoll",
        "operationParameters": {}, "piperollCommit": commit.number, "piperollSize": commit.edge.size()}});
    let mut lines = vec![info];
    if commit.number == 0 {
        let mut metadata = metadata(&commit.origin);
        metadata["createdTime"] = millis.into();
        lines.extend([json!({"protocol": protocol()}), json!({"metaData": metadata})]);
    }
    let (is_erasure, is_rewrite) = (commit.erasure.is_some(), commit.removed().next().is_some());
    for path in commit.removed() {
        lines.push(json!({"remove": {"path": path, "deletionTimestamp": millis, "dataChange": is_erasure}}));
    }
    for (reference, stats) in commit.adds.iter().zip(stats) {
        lines.push(json!({"add": {"path": reference.path, "partitionValues": {}, "size": reference.bytes,
            "modificationTime": millis, "dataChange": is_erasure || !is_rewrite, "stats": stats}}));
    }
    lines.iter().map(|line| format!("{line}\n")).collect()
}

/// Whether a text is the entry of a commit. Bounds of columns are not judged, but for what the commit knows: a
/// segment that was removed since cannot be asked.
pub(crate) fn is_entry_of(text: &str, commit: &Commit) -> bool {
    let lines = text.lines().map(|line| serde_json::from_str::<Value>(line).unwrap_or_default());
    let stats: Vec<String> = lines.filter_map(|line| Some(line["add"]["stats"].as_str()?.to_string())).collect();
    let agrees = |(reference, stats): (&SegmentRef, &String)| {
        let stats: Value = serde_json::from_str(stats).unwrap_or_default();
        stats["numRecords"] == reference.rows
            && stats["minValues"][SEQ] == reference.first
            && stats["maxValues"][SEQ] == reference.end() - 1
    };
    commit.adds.len() == stats.len() && commit.adds.iter().zip(&stats).all(agrees) && entry(commit, &stats) == text
}

/// Writes the entry that shows a commit.
///
/// # Errors
/// The object store failed; the view is behind and is caught up at the next start.
pub(crate) async fn show(
    shared: &Shared,
    stream: &Stream,
    commit: &Commit,
    added: &[&Segment],
) -> Result<(), StoreError> {
    let stats: Vec<String> = added.iter().map(|segment| stats(segment)).collect();
    let text = entry(commit, &stats);
    let path = stream.prefix.delta(commit.number);
    shared.objects.put(&path, PutPayload::from(text)).await.map_err(StoreError::objects(&path)).map(|_| ())
}
